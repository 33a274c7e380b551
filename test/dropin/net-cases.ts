/** node:net: sockets that connect, and servers; what they say, in which order, and what they refuse. */
import type { Any, NetCases, NetSide } from "./net-compare.ts";

const MANY = Buffer.alloc(8 << 20, "0123456789abcdef");

function shown(side: NetSide, socket: Any): unknown {
  const { bytesRead, bytesWritten, connecting, destroyed, pending, readyState, timeout } = socket;
  const { localAddress, localFamily, remoteAddress, remoteFamily, remotePort } = socket;
  const state = { bytesRead, bytesWritten, connecting, destroyed, pending, readyState, timeout };
  return side.describe({ ...state, localAddress, localFamily, remoteAddress, remoteFamily, remotePort });
}

const closed = (side: NetSide, socket: Any): Promise<unknown> => side.event(socket, "close");

const clientCases: NetCases = {
  "connect: before, open, closed": async (side) => {
    const socket = side.connect("echo");
    const before = shown(side, socket);
    await side.event(socket, "connect");
    const open = shown(side, socket);
    socket.end("hello");
    socket.resume();
    await closed(side, socket);
    return { before, open, after: shown(side, socket), address: side.attempt(() => socket.address()) };
  },

  "connect: order of events": async (side) => {
    const socket = side.connect("echo");
    const seen = side.events(socket);
    socket.end("hello");
    await closed(side, socket);
    return { seen };
  },

  "connect: the peer ends first": async (side) => {
    const socket = side.connect("greet");
    const seen = side.events(socket);
    await closed(side, socket);
    return { seen };
  },

  "connect: half open": async (side) => {
    const socket = side.connect("greet", { allowHalfOpen: true });
    socket.resume();
    await side.event(socket, "end");
    const { readyState, writable } = socket;
    socket.end();
    await closed(side, socket);
    return { readyState, writable };
  },

  "connect: nobody listens": async (side) => {
    const socket = side.connect("closed");
    const seen = side.events(socket);
    await closed(side, socket);
    return { seen, after: shown(side, socket) };
  },

  "connect: IPv6": async (side) => {
    const socket = side.connect("echo", { host: side.at.peer6 });
    await side.event(socket, "connect");
    const { localAddress, localFamily, remoteAddress, remoteFamily } = socket;
    return { localAddress, localFamily, remoteAddress, remoteFamily };
  },

  "connect: options that are wrong": (side) => {
    const { connect } = side.net as Any;
    const tried = (...args: Any[]): unknown =>
      side.attempt(() => {
        const socket = side.keep(connect(...args));
        socket.on("error", () => {});
        return socket;
      });
    return {
      none: tried(),
      empty: tried({}),
      negative: tried(-1),
      large: tried(65536),
      fraction: tried(1.5),
      object: tried({ port: {} }),
      localAddress: tried({ port: 1, host: side.at.peer4, localAddress: "x" }),
      localPort: tried({ port: 1, host: side.at.peer4, localPort: "x" }),
      lookup: tried({ port: 1, host: "x.invalid", lookup: 5 }),
      path: tried({ path: 5 }),
      autoSelectFamily: tried({ port: 1, autoSelectFamily: 5 }),
      attemptTimeout: tried({ port: 1, autoSelectFamilyAttemptTimeout: -5 }),
    };
  },

  "Socket: options that are wrong": (side) => {
    const { Socket } = side.net as Any;
    const tried = (options?: Any): unknown => side.attempt(() => side.keep(new Socket(options)));
    return {
      none: tried(),
      objectMode: tried({ objectMode: true }),
      readableObjectMode: tried({ readableObjectMode: true }),
      signal: tried({ signal: 5 }),
      keepAliveInitialDelay: tried({ keepAliveInitialDelay: "x" }),
    };
  },

  "connect: a local address and port": async (side) => {
    const socket = side.connect("echo", { localAddress: side.at.own4, localPort: 6543 });
    await side.event(socket, "connect");
    const { localAddress, localPort } = socket;
    socket.resetAndDestroy();
    const other = side.connect("echo", { localAddress: "192.0.2.7" });
    const seen = side.events(other);
    await closed(side, other);
    return { localAddress, localPort, seen };
  },

  "connect: a name, several addresses": async (side) => {
    const asked: unknown[] = [];
    const lookup = (name: string, options: Any, callback: Any): void => {
      asked.push([name, options]);
      callback(null, [
        { address: side.at.peer6, family: 6 },
        { address: side.at.peer4, family: 4 },
      ]);
    };
    const failing: unknown[] = [];
    const socket = side.connect("closed", { host: "name.test", lookup });
    for (const event of ["lookup", "connectionAttempt", "connectionAttemptFailed"]) {
      socket.on(event, (...values: unknown[]) => failing.push([event, ...values.map((value) => side.describe(value))]));
    }
    socket.on("error", (error: Any) => failing.push(["error", error.name, error.code, error.errors?.length]));
    await closed(side, socket);
    return { asked: side.describe(asked), failing, tried: side.describe(socket.autoSelectFamilyAttemptedAddresses) };
  },

  "connect: a name that leads nowhere": async (side) => {
    const failure = Object.assign(new Error("not known"), { code: "ENOTFOUND" });
    const lookup = (_name: string, _options: Any, callback: Any): void => callback(failure);
    const socket = side.connect("echo", { host: "name.test", lookup });
    const seen = side.events(socket);
    await closed(side, socket);
    return { seen };
  },

  "write: before the connection, and its callbacks": async (side) => {
    const order: unknown[] = [];
    const socket = side.connect("echo");
    socket.on("connect", () => order.push("connect"));
    const returned = [1, 2].map((n) => socket.write(`${n}`, () => order.push(`written ${n}`)));
    const { bytesWritten, writableLength } = socket;
    socket.end(() => order.push("ended"));
    const text = await side.text(socket);
    return { order, returned, bytesWritten, writableLength, text, after: socket.bytesWritten };
  },

  "write: what is refused": async (side) => {
    const socket = side.connect("echo");
    await side.event(socket, "connect");
    const values: Record<string, unknown> = { number: 5, object: {}, null: null, undefined };
    const refused = Object.fromEntries(
      Object.entries(values).map(([name, value]) => [name, side.attempt(() => socket.write(value))]),
    );
    return refused;
  },

  "write: after end(), after destroy()": async (side) => {
    const socket = side.connect("echo");
    const seen: unknown[] = [];
    socket.on("error", (error: Any) => seen.push(["error", error.code]));
    await side.event(socket, "connect");
    socket.end();
    socket.write("x", (error: Any) => seen.push(["callback", error?.code]));
    await closed(side, socket);
    socket.write("x", (error: Any) => seen.push(["callback", error?.code]));
    await side.turns();
    return { seen };
  },

  "write: a peer that is slow": async (side) => {
    const socket = side.connect("slow");
    await side.event(socket, "connect");
    const took = socket.write(MANY);
    const { writableNeedDrain } = socket;
    const length = socket.writableLength > 0;
    await side.event(socket, "drain");
    socket.end();
    return { took, writableNeedDrain, length, text: await side.text(socket), left: socket.writableLength };
  },

  "the peer resets": async (side) => {
    const socket = side.connect("reset");
    const seen = side.events(socket);
    socket.write("x");
    await closed(side, socket);
    return { seen, errored: side.describe(socket.errored) };
  },

  "pause and resume, setEncoding": async (side) => {
    const socket = side.connect("greet");
    socket.setEncoding("latin1");
    socket.pause();
    await side.event(socket, "connect");
    const { readableFlowing } = socket;
    const texts: unknown[] = [];
    socket.on("data", (text: unknown) => texts.push(text));
    const before = [...texts];
    socket.resume();
    await closed(side, socket);
    return { readableFlowing, before, texts };
  },

  "setTimeout: told, and not told": async (side) => {
    const socket = side.connect("echo");
    const seen: unknown[] = [];
    await side.event(socket, "connect");
    const returns = socket.setTimeout(20, () => seen.push("callback")) === socket;
    await side.event(socket, "timeout");
    const { destroyed, timeout } = socket;
    socket.setTimeout(0);
    const wrong = ["x", -1, Number.NaN, Number.POSITIVE_INFINITY].map((value) =>
      side.attempt(() => socket.setTimeout(value)),
    );
    return { seen, returns, destroyed, timeout, wrong, callback: side.attempt(() => socket.setTimeout(1, 5)) };
  },

  "setKeepAlive, setNoDelay, ref, unref": async (side) => {
    const socket = side.connect("echo");
    const calls = ["setKeepAlive", "setNoDelay", "ref", "unref"] as const;
    const before = calls.map((name) => side.attempt(() => socket[name](true, 1000) === socket));
    await side.event(socket, "connect");
    const open = calls.map((name) => side.attempt(() => socket[name](true, 1000) === socket));
    socket.destroy();
    return { before, open, after: calls.map((name) => side.attempt(() => socket[name](true) === socket)) };
  },

  "destroy: with an error, while it connects, twice": async (side) => {
    const first = side.connect("echo");
    const events = side.events(first);
    await side.event(first, "connect");
    first.destroy(new Error("of ours"));
    first.destroy(new Error("once more"));
    await closed(side, first);
    const second = side.connect("echo");
    const early = side.events(second);
    second.destroy();
    await closed(side, second);
    await side.turns();
    return { events, early, pending: second.pending, connecting: second.connecting };
  },

  "destroySoon, resetAndDestroy": async (side) => {
    const first = side.connect("echo");
    const soon = side.events(first);
    await side.event(first, "connect");
    first.destroySoon();
    await closed(side, first);
    const second = side.connect("echo");
    const reset = side.events(second);
    await side.event(second, "connect");
    second.resetAndDestroy();
    await closed(side, second);
    return { soon, reset };
  },

  "signal: aborted before, and after": async (side) => {
    const controller = new AbortController();
    const socket = side.connect("echo", { signal: controller.signal });
    const seen = side.events(socket);
    await side.event(socket, "connect");
    controller.abort();
    await closed(side, socket);
    const other = side.connect("echo", { signal: AbortSignal.abort() });
    const early = side.events(other);
    await closed(side, other);
    return { seen, early };
  },

  "onread: into a buffer": async (side) => {
    const seen: unknown[] = [];
    const buffer = Buffer.alloc(3);
    const callback = (count: number, into: Buffer): boolean => {
      seen.push([count, into.toString("latin1", 0, count), into === buffer]);
      return true;
    };
    const socket = side.connect("greet", { onread: { buffer, callback } });
    await closed(side, socket);
    return { seen, bytesRead: socket.bytesRead };
  },

  "a socket that is used again": async (side) => {
    const socket = side.connect("greet");
    const first = await side.text(socket);
    socket.connect({ host: side.at.peer4, port: 7001 });
    await side.event(socket, "connect");
    return { first, readyState: socket.readyState, destroyed: socket.destroyed };
  },
};

const serverCases: NetCases = {
  "listen: order of what happens": async (side) => {
    const seen: unknown[] = [];
    const server: Any = side.keep(side.net.createServer());
    server.on("listening", () => seen.push("listening"));
    server.on("close", (...values: unknown[]) => seen.push(["close", ...values]));
    const before = [server.listening, side.describe(server.address())];
    const returns = server.listen({ port: 0, host: side.at.own4 }, () => seen.push("callback")) === server;
    await side.event(server, "listening");
    const twice = side.attempt(() => server.listen(0));
    side.name(server.address().port, "PORT");
    const open = [server.listening, side.describe(server.address())];
    server.close((error: unknown) => seen.push(["close callback", side.describe(error)]));
    await side.event(server, "close");
    server.close((error: unknown) => seen.push(["again", side.describe(error)]));
    await side.turns();
    return { before, returns, twice, open, after: [server.listening, side.describe(server.address())], seen };
  },

  "listen: twice at once": (side) => {
    const server: Any = side.keep(side.net.createServer());
    server.listen({ port: 0, host: side.at.own4 });
    return { twice: side.attempt(() => server.listen(0)) };
  },

  "listen: a port in use, an address that is not ours": async (side) => {
    const server = await side.server();
    const failing = async (options: object): Promise<unknown> => {
      const other: Any = side.keep(side.net.createServer());
      const error = side.event(other, "error");
      other.listen(options);
      const told = side.describe(await error);
      return [told, other.listening];
    };
    const { port } = server.address();
    return {
      inUse: await failing({ port, host: side.at.own4 }),
      elsewhere: await failing({ port: 4055, host: "192.0.2.7" }),
      again: (await side.server()).listening,
    };
  },

  "listen: arguments that are wrong": (side) => {
    const tried = (...args: Any[]): unknown =>
      side.attempt(() => (side.keep(side.net.createServer()) as Any).listen(...args));
    return {
      negative: tried(-1),
      large: tried(65536),
      fraction: tried({ port: 1.5 }),
      boolean: tried({ port: true }),
      nothing: tried({}),
      path: tried({ path: 5 }),
      signal: tried({ port: 0, host: side.at.own4, signal: 5 }),
    };
  },

  "createServer: options that are wrong": (side) => {
    const tried = (...args: Any[]): unknown => side.attempt(() => (side.net.createServer as Any)(...args));
    return {
      number: tried(5),
      text: tried("x"),
      delay: tried({ keepAliveInitialDelay: "x" }),
      mark: tried({ highWaterMark: "x" }),
    };
  },

  "connection: the peer sends and ends": async (side) => {
    let seen: unknown[] = [];
    let before: unknown;
    const server = await side.server({}, (socket) => {
      before = [shown(side, socket) as Any].map(({ remotePort: _, ...rest }) => rest);
      seen = side.events(socket);
      socket.server === server ? seen.push("its server") : seen.push("another server");
    });
    const peer = await side.dial(server.address().port, "end", "hello");
    return { seen, before, peer };
  },

  "connection: half open": async (side) => {
    const server = await side.server({ allowHalfOpen: true }, (socket) => {
      socket.resume();
      socket.on("end", () => socket.end(`answer ${socket.writable}`));
    });
    return { peer: await side.dial(server.address().port, "end", "hello") };
  },

  "connection: the peer resets": async (side) => {
    let seen: unknown[] = [];
    const server = await side.server({}, (socket) => {
      seen = side.events(socket);
    });
    const peer = await side.dial(server.address().port, "reset");
    await side.until("close", (resolve) => {
      const look = (): void => void (seen.length > 1 ? resolve(0) : setTimeout(look, 1));
      look();
    });
    return { seen, peer };
  },

  "connection: paused": async (side) => {
    const server = await side.server({ pauseOnConnect: true }, (socket) => {
      const paused = socket.isPaused();
      socket.on("data", (bytes: Buffer) => socket.end(`${paused} ${bytes}`));
      setTimeout(() => socket.resume(), 5);
    });
    return { peer: await side.dial(server.address().port, "wait", "hello") };
  },

  "close: waits for its connections": async (side) => {
    const seen: unknown[] = [];
    const server = await side.server({}, (socket) => {
      server.close(() => seen.push("server closed"));
      seen.push(["listening", server.listening]);
      socket.on("close", () => seen.push("socket closed"));
      socket.resume();
    });
    const told = side.event(server, "close");
    const peer = await side.dial(server.address().port, "end");
    await told;
    return { seen, peer };
  },

  "getConnections, maxConnections": async (side) => {
    const counts: unknown[] = [];
    const dropped: unknown[] = [];
    const server = await side.server({}, (socket) => {
      server.getConnections((error: unknown, count: number) => {
        counts.push([error, count]);
        socket.end("served");
      });
    });
    server.on("drop", (ends: Any) =>
      dropped.push([ends.localAddress, ends.localFamily, ends.remoteAddress, ends.remoteFamily]),
    );
    const served = await side.dial(server.address().port, "wait");
    server.maxConnections = 1;
    const holding = side.keep(side.net.createServer());
    holding.close();
    const kept = side.event(server, "connection");
    const first = side.dial(server.address().port, "wait", "stay");
    await kept;
    return { served, counts: counts.length > 0, dropped, first: await first };
  },

  "signal: closes the server": async (side) => {
    const controller = new AbortController();
    const server = await side.server({}, undefined, { signal: controller.signal });
    const told = side.event(server, "close");
    controller.abort();
    await told;
    return { listening: server.listening };
  },

  "ref, unref, asyncDispose": async (side) => {
    const server = await side.server();
    const same = [server.ref() === server, server.unref() === server];
    await server[Symbol.asyncDispose]?.();
    return { same, listening: Symbol.asyncDispose in server ? server.listening : false };
  },

  "listen: both families, one alone": async (side) => {
    const remotes: unknown[] = [];
    const note = (socket: Any): void => {
      remotes.push([socket.remoteAddress, socket.remoteFamily]);
      socket.end();
    };
    const both = await side.server({}, note, { host: undefined });
    const { port } = both.address();
    const first = [await side.dial(port, "wait"), await side.dial(port, "wait", "", side.at.own6)];
    const alone = await side.server({}, note, { host: "::", ipv6Only: true });
    const second = [
      await side.dial(alone.address().port, "wait"),
      await side.dial(alone.address().port, "wait", "", side.at.own6),
    ];
    return { address: side.describe(both.address()), first, second, remotes };
  },

  "what the module has": (side) => ({
    names: Object.keys(side.net)
      .filter((name) => !name.startsWith("_") && /^[a-zA-Z]+$/.test(name))
      .toSorted(),
  }),
};

export const netCases: NetCases = { ...clientCases, ...serverCases };
