/** Sockets made, bound and closed: forms of the calls, order of events, errors. */
import { EventEmitter, once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { BlockList } from "node:net";
import type { AnySocket, Cases, Side } from "./dgram-compare.ts";

/** What happens, in order. */
class Log {
  readonly entries: unknown[] = [];

  /** A function that notes its call. */
  at(name: string): (...values: unknown[]) => void {
    return () => void this.entries.push(name);
  }
}

/** Binds in some way, and says where. */
async function bindWith(side: Side, type: "udp4" | "udp6", ...where: unknown[]): Promise<unknown> {
  const socket = side.socket(type);
  const ended = once(socket, "listening");
  const returned = socket.bind(...where) === socket;
  try {
    await ended;
  } catch (error) {
    return side.describe(error);
  }
  const { address, family, port } = socket.address();
  return { returned, address, family, free: port >= 1024, keys: Object.keys(socket.address()) };
}

export const openCases: Cases = {
  "createSocket: what it takes": (side) => {
    const make = (type: unknown) => () => side.socket(type as "udp4").type;
    return side.attempts({
      nothing: make(undefined),
      null: make(null),
      unknown: make("udp5"),
      number: make(4),
      "no type": make({}),
      udp4: make("udp4"),
      udp6: make("udp6"),
      "type in options": make({ type: "udp6" }),
      "lookup no function": make({ type: "udp4", lookup: 5 }),
      "lookup null": make({ type: "udp4", lookup: null }),
      "lookup before type": make({ type: "udp7", lookup: 5 }),
      "signal no signal": make({ type: "udp4", signal: 5 }),
      "signal null": make({ type: "udp4", signal: null }),
      "receive buffer negative": make({ type: "udp4", recvBufferSize: -1 }),
      "receive buffer a string": make({ type: "udp4", recvBufferSize: "1000" }),
      "receive buffer a fraction": make({ type: "udp4", recvBufferSize: 1.5 }),
      "receive buffer huge": make({ type: "udp4", recvBufferSize: 2 ** 33 }),
      "send buffer negative": make({ type: "udp4", sendBufferSize: -1 }),
      "send buffer zero": make({ type: "udp4", sendBufferSize: 0 }),
    });
  },

  "createSocket: block lists": (side) => {
    const make = (options: object) => () => side.socket({ type: "udp4", ...options } as never).type;
    return side.attempts({
      receive: make({ receiveBlockList: new BlockList() }),
      "receive, none": make({ receiveBlockList: {} }),
      send: make({ sendBlockList: new BlockList() }),
      "send, none": make({ sendBlockList: [] }),
    });
  },

  "Socket: a class to be extended": async (side) => {
    const { Socket, createSocket } = side.dgram;
    class Server extends (Socket as unknown as new (type: string) => AnySocket) {
      heard: string[] = [];
      constructor() {
        super("udp4");
        this.on("message", this.handle.bind(this));
      }
      handle(message: Buffer): void {
        this.heard.push(String(message));
      }
      listen(): Promise<void> {
        return new Promise((resolve) => this.bind(0, side.at.own4, resolve));
      }
    }
    const server = new Server();
    await server.listen();
    const answer = await side.ask(server, "to a subclass");
    const outcome = {
      emitter: server instanceof EventEmitter,
      socket: server instanceof Socket,
      plain: createSocket("udp4") instanceof Socket,
      heard: server.heard,
      answer: answer.text,
      arguments: [Socket.length, createSocket.length, Socket.name],
      exports: ["Socket", "createSocket"].filter((name) => name in side.dgram),
    };
    server.close();
    return outcome;
  },

  "createSocket: the listener": async (side) => {
    const heard: unknown[] = [];
    const socket = side.socket("udp4", (message) => heard.push(String(message)));
    await side.ask(socket, "listener");
    const none = side.socket("udp4", "no function" as never);
    return { heard, listeners: [socket.listenerCount("message"), none.listenerCount("message")] };
  },

  "bind: forms": async (side) => {
    const { own4, own6 } = side.at;
    const done = () => {};
    return {
      nothing: await bindWith(side, "udp4"),
      nothing6: await bindWith(side, "udp6"),
      port: await bindWith(side, "udp4", 0),
      callback: await bindWith(side, "udp4", done),
      "port, callback": await bindWith(side, "udp4", 0, done),
      "port, address": await bindWith(side, "udp4", 0, own4),
      "port, address, callback": await bindWith(side, "udp6", 0, own6, done),
      "port, empty address": await bindWith(side, "udp4", 0, ""),
      options: await bindWith(side, "udp4", { port: 0, address: own4 }),
      "options, callback": await bindWith(side, "udp4", { address: own4, exclusive: true }, done),
      "no options": await bindWith(side, "udp4", {}),
      "null, null": await bindWith(side, "udp4", null, null),
      loopback: await bindWith(side, "udp6", 0, "::1"),
      mapped: await bindWith(side, "udp6", 0, `::ffff:${own4}`),
    };
  },

  "bind: ports": async (side) => {
    const port = async (given: unknown) => {
      const socket = side.socket();
      socket.bind(given as number, "127.0.0.1");
      await once(socket, "listening");
      return socket.address().port;
    };
    return {
      text: await port("8123"),
      fraction: await port(8124.5),
      "too large": await port(70_000),
      negative: await port(-1),
      "no number": (await port("abc")) >= 1024,
      NaN: (await port(Number.NaN)) >= 1024,
      true: await port(true),
    };
  },

  "bind: order of what happens": async (side) => {
    const log = new Log();
    // The first bind of all waits for what runs the sockets.
    await side.bound();
    const socket = side.socket();
    socket.on("listening", log.at("listening, first listener"));
    socket.bind(0, function (this: unknown) {
      log.entries.push("callback", this === socket);
      process.nextTick(log.at("tick of the callback"));
    });
    socket.on("listening", log.at("listening, second listener"));
    log.entries.push("returned");
    process.nextTick(log.at("tick"));
    setImmediate(log.at("immediate"));
    await side.event(socket, "listening");
    await side.turns();
    return { log: log.entries, left: ["error", "listening"].map((name) => socket.listenerCount(name)) };
  },

  "bind: what fails": async (side) => {
    const holder = await side.bound("udp4", 0, side.at.own4);
    const { port } = holder.address();
    return {
      "in use": await bindWith(side, "udp4", port, side.at.own4),
      "in use, wildcard": await bindWith(side, "udp4", port),
      "not ours": await bindWith(side, "udp4", 5000, "203.0.113.9"),
      "not ours, any port": await bindWith(side, "udp4", 0, "203.0.113.9"),
      "IPv6 on udp4": await bindWith(side, "udp4", 0, "::1"),
      "IPv4 on udp6": await bindWith(side, "udp6", 0, "127.0.0.1"),
      broadcast: await bindWith(side, "udp4", 0, "255.255.255.255"),
    };
  },

  "bind: again": async (side) => {
    const log = new Log();
    const holder = await side.bound("udp4", 0, side.at.own4);
    const { port } = holder.address();
    const socket = side.socket();
    socket.bind(0, side.at.own4);
    const during = side.attempt(() => socket.bind(0));
    await once(socket, "listening");
    const after = side.attempt(() => socket.bind(0));
    // With a callback, the error has a listener: nothing is thrown where the program has none of its own.
    const failing = side.socket();
    failing.bind(port, side.at.own4, log.at("called"));
    await side.turns(20);
    const left = ["error", "listening"].map((name) => failing.listenerCount(name));
    failing.bind(0, side.at.own4);
    await once(failing, "listening");
    return { during, after, failing: log.entries, left, later: failing.address().address === side.at.own4 };
  },

  "bind: a descriptor": (side) => {
    const file = openSync("/dev/null", "r");
    const directory = openSync("/", "r");
    const bind = (fd: number) => () => side.socket().bind({ fd });
    const outcome = side.attempts({ file: bind(file), directory: bind(directory), none: bind(999_999) });
    closeSync(file);
    closeSync(directory);
    return outcome;
  },

  "bind: a descriptor of 0 or less is none": async (side) => ({
    zero: await bindWith(side, "udp4", { fd: 0 }),
    negative: await bindWith(side, "udp4", { fd: -1 }),
    text: await bindWith(side, "udp4", { fd: "3" }),
  }),

  "bind: names": async (side) => {
    const calls: unknown[] = [];
    const lookup = (...given: AnySocket[]) => {
      calls.push(given.slice(0, 2));
      setTimeout(() => given[2](null, side.at.own4, 4), 1);
    };
    const socket = side.socket({ type: "udp4", lookup } as never);
    socket.bind(0, "any.example");
    await once(socket, "listening");
    const failing = side.socket({
      type: "udp4",
      lookup: ((_name: string, _family: number, callback: (error: Error) => void) =>
        callback(Object.assign(new Error("no such name"), { code: "ENOTFOUND", syscall: "lookup" }))) as never,
    });
    const errors: unknown[] = [];
    failing.on("error", (error: Error) => errors.push(side.describe(error)));
    failing.bind(0, "none.example");
    failing.bind(0, "none.example");
    await side.turns();
    return {
      calls,
      address: socket.address().address,
      localhost: await bindWith(side, "udp4", 0, "localhost"),
      errors,
    };
  },

  reuseAddr: async (side) => {
    const first = await side.bound({ type: "udp4", reuseAddr: true }, 0, side.at.own4);
    const { port } = first.address();
    const second = side.socket({ type: "udp4", reuseAddr: true });
    second.bind(port, side.at.own4);
    await once(second, "listening");
    return { same: second.address().port === port, without: await bindWith(side, "udp4", port, side.at.own4) };
  },

  reusePort: async (side) => {
    const options = { type: "udp4", reusePort: true } as never;
    const first = await side.bound(options, 0, side.at.own4);
    const { port } = first.address();
    const second = side.socket(options);
    second.bind(port, side.at.own4);
    await once(second, "listening");
    let heard = 0;
    for (const socket of [first, second]) socket.on("message", () => heard++);
    const senders = await Promise.all(Array.from({ length: 20 }, () => side.bound()));
    for (const sender of senders) sender.send("shared", port, side.at.own4);
    await side.condition("all", () => heard === senders.length);
    return { same: second.address().port === port, without: await bindWith(side, "udp4", port, side.at.own4) };
  },

  ipv6Only: async (side) => {
    const both = await side.bound("udp6", 0, "::");
    const { port } = both.address();
    const taken = await bindWith(side, "udp4", port);
    both.close();
    const alone = await side.bound({ type: "udp6", ipv6Only: true }, port, "::");
    const beside = await side.bound("udp4", alone.address().port);
    const socket = side.socket({ type: "udp4", ipv6Only: true });
    socket.bind();
    const [error] = await side.event(socket, "error");
    return { taken, beside: beside.address().port === port, "on udp4": side.describe(error) };
  },

  "address: before, after": async (side) => {
    const socket = side.socket();
    const before = side.attempts({ address: () => socket.address(), remote: () => socket.remoteAddress() });
    socket.bind(0, side.at.own4);
    const during = side.attempt(() => socket.address());
    await once(socket, "listening");
    side.name(socket.address().port, "PORT");
    const bound = side.attempts({ address: () => socket.address(), remote: () => socket.remoteAddress() });
    socket.close();
    const closed = side.attempts({ address: () => socket.address(), remote: () => socket.remoteAddress() });
    return { before, during, bound, closed };
  },
};
