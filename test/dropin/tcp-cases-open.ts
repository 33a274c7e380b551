/** Options of Bun.listen and Bun.connect, what is wrong with them, what listeners and sockets say of themselves. */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, outcome } from "./bun-compare.ts";
import { type Any, type TcpCases, type TcpSide, told } from "./tcp-compare.ts";

const socket = { data() {} };

/** Listens with any options at all, and says what came of it. */
function listened(side: TcpSide, options: Any): unknown {
  return told(() => {
    const listener = side.run.listen(options);
    const { hostname, port, unix, data, fd } = listener;
    listener.stop(true);
    const asked = options?.port ? port : port > 0;
    return { asked, hostname, unix, data: describe(data), fd: typeof fd };
  });
}

/** Connects with any options at all, and says what came of it. */
async function connected(side: TcpSide, options: Any): Promise<unknown> {
  return outcome(async () => {
    const opened = await side.run.connect(options);
    opened.terminate();
    return "open";
  });
}

const each = (values: readonly unknown[], result: (value: unknown) => unknown): unknown[] =>
  values.map((value) => [describe(value), result(value)]);

async function eachLater(values: readonly unknown[], result: (value: unknown) => Promise<unknown>): Promise<unknown[]> {
  const results: unknown[] = [];
  for (const value of values) results.push([describe(value), await result(value)]);
  return results;
}

const NONE = [undefined, null, 5, "x", true, Symbol("x"), [], () => {}];
const FUNCTIONS = ["open", "data", "drain", "close", "error", "end", "timeout", "connectError", "handshake"];

export const tcpOpenCases: TcpCases = {
  "listen: options that are none": (side) => each(NONE, (value) => told(() => side.run.listen(value))),

  "connect: options that are none": (side) =>
    eachLater(NONE, (value) => outcome(async () => void (await side.run.connect(value)))),

  "connect: options that are none, thrown or rejected": (side) =>
    each([undefined, {}, { hostname: "x" }, { socket }], (value) =>
      told(() => {
        const promise = side.run.connect(value);
        promise.catch(() => {});
        return promise instanceof Promise;
      }),
    ),

  "listen: port": ({ at, run, ...rest }) => {
    const side = { at, run, ...rest } as TcpSide;
    const good = ["4001", [4002], { valueOf: () => 4003 }, 4004, 65535, 0, -0];
    const bad = [
      -1,
      65536,
      1.5,
      Number.NaN,
      Number.POSITIVE_INFINITY,
      "abc",
      "",
      {},
      2 ** 32 + 81,
      5n,
      null,
      undefined,
    ];
    return each([...good, ...bad, false, true], (port) => listened(side, { hostname: at.b4, port, socket }));
  },

  "listen: hostname": (side) => {
    const { b4, b6 } = side.at;
    const values = [b4, b6, "0.0.0.0", "::", "", "127.0.0.1", null, undefined, false, 5, {}, true, new String(b4)];
    return each(values, (hostname) => listened(side, { hostname, port: 0, socket }));
  },

  "listen: hostname that is not this host's": (side) =>
    each(["192.0.2.77", "2001:db8:ffff::1"], (hostname) => listened(side, { hostname, port: 4010, socket })),

  "listen: no hostname, no port": (side) => [
    listened(side, { socket }),
    listened(side, { hostname: side.at.b4, socket }),
    listened(side, { port: 0, socket }),
  ],

  "listen: a port in use": (side) => {
    const first = side.listen({ port: 4321 });
    const result = told(() => side.listen({ port: 4321 }));
    first.stop(true);
    return [result, told(() => side.listen({ port: 4321 }).port)];
  },

  "listen: flags": (side) => {
    const results: unknown[] = [];
    for (const name of ["exclusive", "reusePort", "ipv6Only", "allowHalfOpen"]) {
      const values = [true, false, undefined, null, 0, 1, "x", {}];
      results.push([
        name,
        each(values, (value) => listened(side, { hostname: side.at.b4, port: 0, socket, [name]: value })),
      ]);
    }
    return results;
  },

  "listen: reusePort, a second listener": (side) => {
    const first = side.listen({ reusePort: true });
    return [
      told(() => side.listen({ port: first.port, reusePort: true }).port === first.port),
      told(() => {
        try {
          side.listen({ port: first.port });
        } catch (error) {
          return (error as Any).code;
        }
      }),
    ];
  },

  "listen: socket": (side) =>
    each([undefined, null, 5, "x", true, false, "", [], () => {}, {}], (value) =>
      listened(side, { hostname: side.at.b4, port: 0, socket: value }),
    ),

  "connect: socket": (side) =>
    eachLater([undefined, null, 5, "x", true, false, "", [], () => {}, {}], (value) =>
      connected(side, { hostname: side.at.a4, port: 9, socket: value }),
    ),

  "listen: handlers": (side) => {
    const results: unknown[] = [];
    for (const name of FUNCTIONS) {
      const values = [5, 0, "x", "", null, undefined, {}, false, true];
      const data = name === "data" ? {} : socket;
      results.push([
        name,
        each(values, (value) => listened(side, { hostname: side.at.b4, port: 0, socket: { ...data, [name]: value } })),
      ]);
    }
    return results;
  },

  "listen: which handlers suffice": (side) =>
    each(FUNCTIONS, (name) =>
      listened(side, { hostname: side.at.b4, port: 0, socket: { [name as string]: () => {} } }),
    ),

  "connect: which handlers suffice": async (side) => {
    const { port } = side.peer();
    return eachLater(FUNCTIONS, (name) =>
      connected(side, { hostname: side.at.a4, port, socket: { [name as string]: () => {} } }),
    );
  },

  "listen: binaryType": (side) => {
    const good = ["buffer", "uint8array", "arraybuffer", "", null, undefined, "nodebuffer", "Buffer", "int8array"];
    const bad = ["blob", "BUFFER", "dataview", 5, {}, true];
    return each([...good, ...bad], (binaryType) =>
      listened(side, { hostname: side.at.b4, port: 0, socket: { ...socket, binaryType } }),
    );
  },

  "listen: data": (side) =>
    each([5, "x", null, undefined, { a: 1 }], (data) =>
      listened(side, { hostname: side.at.b4, port: 0, socket, data }),
    ),

  "listen: which of several mistakes is told": (side) =>
    [
      { hostname: 5, port: -1, socket },
      { hostname: 5, port: 0 },
      { hostname: side.at.b4, port: -1 },
      { hostname: side.at.b4, port: -1, socket: { data: 5 } },
      { hostname: side.at.b4, port: 0, socket: { data: 5, open: 5 } },
      { socket: 5 },
      { hostname: side.at.b4, socket: {}, port: -1 },
    ].map((options) => listened(side, options)),

  "connect: port": async (side) => {
    const { port } = side.peer();
    const good = [port, String(port)].map((value) => connected(side, { hostname: side.at.a4, port: value, socket }));
    const bad = [-1, 65536, 1.5, Number.NaN, "abc", "", {}, 5n, null, undefined, false, true];
    return [
      await Promise.all(good),
      await eachLater(bad, (value) => connected(side, { hostname: side.at.a4, port: value, socket })),
    ];
  },

  "connect: hostname": async (side) => {
    const { port } = side.peer();
    return eachLater(["", null, undefined, 5, {}, true], (hostname) => connected(side, { hostname, port, socket }));
  },

  "connect: IPv6": async (side) => {
    const { port } = side.peer(side.at.a6);
    return connected(side, { hostname: side.at.a6, port, socket });
  },

  "connect: nobody listens": async (side) => {
    const noted = side.noted();
    const result = await outcome(() => side.run.connect({ hostname: side.at.a4, port: 9, socket: noted.handlers }));
    await side.silence();
    return [result, noted.events];
  },

  "connect: nobody listens, what the socket is": async (side) => {
    const heard: unknown[] = [];
    const connectError = (socket: Any, error: Any): void => {
      heard.push(Object.prototype.toString.call(socket), socket.readyState, socket.data, error.code);
      heard.push(
        told(() => socket.write("x")),
        told(() => socket.end()),
      );
    };
    const options = { hostname: side.at.a4, port: 9, data: "d", socket: { data() {}, connectError } };
    const result = await outcome(() => side.run.connect(options));
    const thrown = () => {
      throw new Error("thrown in connectError");
    };
    const second = { ...options, socket: { data() {}, connectError: thrown } };
    return [heard, result, await outcome(() => side.run.connect(second))];
  },

  "connect: nobody listens, and there is no connectError": async (side) => {
    const noted = side.noted({ connectError: null });
    const result = await outcome(() => side.run.connect({ hostname: side.at.a4, port: 9, socket: noted.handlers }));
    await side.silence();
    return [result, noted.events];
  },

  "connect: port 0": async (side) => {
    const noted = side.noted();
    const result = await outcome(() => side.run.connect({ hostname: side.at.a4, port: 0, socket: noted.handlers }));
    return [result, noted.events];
  },

  "connect: a name that is not known": async (side) => {
    const noted = side.noted();
    const options = { hostname: "no-such-host.invalid", port: 9, socket: noted.handlers };
    return [await outcome(() => side.run.connect(options)), noted.events];
  },

  "the kernel's: a path, and this host's own addresses": async (side) => {
    const seen: unknown[] = [];
    const path = join(tmpdir(), `lcore-tcp-${process.pid}.sock`);
    const handlers = { open: () => {}, data: (from: Any, data: Any) => void from.end(data) };
    for (const where of [{ unix: path }, { hostname: "127.0.0.1", port: 0 }, { hostname: "localhost", port: 0 }]) {
      const listener = side.run.listen({ ...where, socket: handlers });
      const target = where.unix === undefined ? { ...where, port: listener.port } : where;
      const data = (_: Any, bytes: Any): void => void seen.push(`${bytes}`);
      const client = await side.run.connect({ ...target, socket: { data } });
      client.write("echo");
      await side.until("the echo", () => seen.at(-1) === "echo");
      listener.stop(true);
      seen.push("stopped");
    }
    return seen;
  },

  "listener: what it is": (side) => {
    const listener = side.listen({ data: "d" });
    const names = Object.getOwnPropertyNames(Object.getPrototypeOf(listener)).filter((name) => name !== "constructor");
    return {
      tag: Object.prototype.toString.call(listener),
      has: ["stop", "ref", "unref", "reload", "data", "port", "hostname", "fd", "getsockname"].map((name) => [
        name,
        names.includes(name),
      ]),
      stop: told(() => listener.stop()),
      again: told(() => listener.stop()),
      ref: told(() => listener.ref()),
      unref: told(() => listener.unref()),
      port: listener.port > 0,
      hostname: listener.hostname === side.at.b4,
      data: listener.data,
    };
  },

  "listener: data may be set": (side) => {
    const listener = side.listen({ data: "d" });
    listener.data = "e";
    return [
      listener.data,
      told(() => listener.reload()),
      told(() => listener.reload(5)),
      told(() => listener.reload({})),
    ];
  },
};
