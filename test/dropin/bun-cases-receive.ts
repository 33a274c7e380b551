/** Handlers: what they are called with, when, and what follows from what they do. */
import { AsyncLocalStorage } from "node:async_hooks";
import { type AnySocket, type Cases, describe, outcome, type Side } from "./bun-compare.ts";

/** Sends texts from the peer to a socket on `b`, one after another. */
function sendAll(side: Side, texts: readonly string[], port: number): void {
  const peer = side.peer();
  for (const text of texts) peer.send(text, side.at.b4, port);
}

/** Runs `body` while uncaught errors and rejections are noted instead of ending the process. */
async function noting(log: unknown[], body: () => Promise<void>): Promise<void> {
  const uncaught = (error: unknown, origin: string) =>
    void log.push(["uncaught", (error as Error).message ?? error, origin]);
  const rejected = (error: unknown) => void log.push(["rejected", (error as Error).message]);
  process.on("uncaughtException", uncaught);
  process.on("unhandledRejection", rejected);
  try {
    await body();
  } finally {
    process.off("uncaughtException", uncaught);
    process.off("unhandledRejection", rejected);
  }
}

const KINDS = [
  undefined,
  "buffer",
  "uint8array",
  "arraybuffer",
  "int8array",
  "uint16array",
  "float32array",
  "float16array",
];

export const receiveCases: Cases = {
  "data: arguments": async (side) => {
    const results: unknown[] = [];
    for (const binaryType of KINDS) {
      const seen: unknown[] = [];
      const peer = side.peer();
      const socket = await side.open({
        binaryType,
        socket: {
          data(this: unknown, ...args: AnySocket[]) {
            const [first, data, port, address, flags] = args;
            const itself = [this === first, first === socket, args.length];
            const flagged = [
              Reflect.ownKeys(flags),
              flags.truncated,
              flags.ipv6,
              Object.getPrototypeOf(flags) === Object.prototype,
            ];
            seen.push([...itself, data.constructor.name, describe(data), port === peer.port, address, ...flagged]);
          },
        },
      });
      const texts = ["12345678", "", "123", "x".repeat(1472)];
      for (const text of texts) peer.send(text, side.at.b4, socket.port);
      await side.until("all", () => seen.length === texts.length);
      results.push([binaryType, seen]);
    }
    return results;
  },

  "data: every datagram in memory of its own": async (side) => {
    const kept: Buffer<ArrayBuffer>[] = [];
    const flags = new Set<unknown>();
    const socket = await side.open({
      socket: {
        data(_: unknown, data: Buffer<ArrayBuffer>, _port: number, _address: string, flag: unknown) {
          kept.push(data);
          flags.add(flag);
        },
      },
    });
    const COUNT = 300;
    const texts = Array.from({ length: COUNT }, (_, i) => `datagram ${i}`);
    for (let at = 0; at < COUNT; at += 50) {
      sendAll(side, texts.slice(at, at + 50), socket.port);
      await side.until("a few", () => kept.length === at + 50);
    }
    kept[0].fill(0);
    const { buffer } = kept[1];
    structuredClone(buffer, { transfer: [buffer] });
    return {
      texts: kept.map((data) => data.toString()),
      buffers: new Set(kept.map((data) => data.buffer)).size,
      whole: kept.slice(2).every((data) => data.byteOffset === 0 && data.buffer.byteLength === data.length),
      flags: flags.size,
    };
  },

  "data: large datagrams": async (side) => {
    const seen: unknown[] = [];
    const socket = await side.open({
      socket: {
        data: (_: unknown, data: Buffer, _port: number, _address: string, flags: unknown) =>
          void seen.push([data.length, Bun.hash(data).toString(), flags]),
      },
    });
    const peer = side.peer();
    const sizes = [1473, 8000, 65507];
    for (const [i, size] of sizes.entries()) {
      peer.send(new Uint8Array(size).fill(i + 1), side.at.b4, socket.port);
      await side.until(`${size} bytes`, () => seen.length === i + 1);
    }
    return seen;
  },

  "data: senders of both families": async (side) => {
    const { a4, a6, b4, b6 } = side.at;
    const seen: Record<string, unknown> = {};
    const note = (_: unknown, data: Buffer, _port: number, address: string, { ipv6 }: { ipv6: boolean }) => {
      seen[String(data)] = [address, ipv6];
    };
    const both = await side.open({ hostname: "::", socket: { data: note } });
    const one = await side.open({ socket: { data: note } });
    side.peer(a4).send("4 to ::", b4, both.port);
    side.peer(a6).send("6 to ::", b6, both.port);
    side.peer(a4).send("4 to 0", b4, one.port);
    await side.until("all", () => Object.keys(seen).length === 3);
    return seen;
  },

  "data: from the same host": async (side) => {
    const { b4, b6 } = side.at;
    const seen: Record<string, unknown> = {};
    const data = (_: unknown, data: Buffer, _port: number, address: string, { ipv6 }: { ipv6: boolean }) => {
      seen[String(data)] = [address, ipv6];
    };
    const server = await side.open({ hostname: "::", socket: { data } });
    const client = await side.open({ hostname: "::" });
    const addresses = ["127.0.0.1", "127.0.0.2", "::1", b4, b6, "0.0.0.0", "::", "::ffff:127.0.0.1"];
    for (const address of addresses) client.send(address, server.port, address);
    await side.until("all", () => Object.keys(seen).length === addresses.length);
    return addresses.map((address) => [address, seen[address]]);
  },

  "data: from a link-local address": async (side) => {
    const { linkLocal, peerLinkLocal } = side.at;
    const zone = side.at.interface;
    const seen: unknown[] = [];
    const socket = await side.open({
      hostname: "::",
      socket: {
        data(socket: AnySocket, data: Buffer, port: number, address: string) {
          seen.push(String(data), address === `${peerLinkLocal}%${zone}`);
          socket.send("answer", port, address);
        },
      },
    });
    const peer = side.peer("::");
    peer.sendScoped("question", linkLocal, socket.port, side.at.peerIndex);
    const answer = await peer.receive();
    return [seen, answer.text, answer.address === linkLocal];
  },

  "data: only from the peer of a connected socket": async (side) => {
    const peer = side.peer();
    const { seen, socket } = await side.listener({ connect: { hostname: side.at.a4, port: peer.port } });
    side.peer().send("a stranger", side.at.b4, socket.port);
    peer.send("the peer", side.at.b4, socket.port);
    await side.until("it", () => seen.length > 0);
    await side.silence();
    return seen;
  },

  "data: promises and ticks between two calls": async (side) => {
    const log: string[] = [];
    const socket = await side.open({
      socket: {
        async data(_: unknown, data: Buffer) {
          log.push(`data ${data}`);
          queueMicrotask(() => log.push(`microtask ${data}`));
          await Promise.resolve();
          log.push(`awaited ${data}`);
          await Promise.resolve();
          log.push(`twice ${data}`);
        },
      },
    });
    sendAll(side, ["0", "1", "2"], socket.port);
    await side.until("all", () => log.includes("twice 2"));
    return log;
  },

  "data: process.nextTick between two calls": async (side) => {
    const log: string[] = [];
    const socket = await side.open({
      socket: {
        data(_: unknown, data: Buffer) {
          log.push(`data ${data}`);
          process.nextTick(() => log.push(`tick ${data}`));
        },
      },
    });
    sendAll(side, ["0", "1", "2"], socket.port);
    await side.until("all", () => log.includes("tick 2"));
    return log;
  },

  "data: process.nextTick before promises": async (side) => {
    const log: string[] = [];
    const socket = await side.open({
      socket: {
        data() {
          process.nextTick(() => log.push("tick"));
          queueMicrotask(() => log.push("microtask"));
        },
      },
    });
    sendAll(side, ["x"], socket.port);
    await side.until("both", () => log.length === 2);
    return log;
  },

  "data: never in the middle of a call of the program": async (side) => {
    const peer = side.peer();
    let inCall = false;
    let inside = 0;
    let came = 0;
    const socket = await side.open({
      socket: {
        data() {
          came++;
          if (inCall) inside++;
        },
      },
    });
    const COUNT = 2000;
    let sent = 0;
    for (let i = 0; i < COUNT; i++) {
      if (i % 20 === 0) peer.send("x", side.at.b4, socket.port);
      inCall = true;
      if (socket.send("x", peer.port, side.at.a4)) sent++;
      inCall = false;
    }
    await side.until("all", () => came === COUNT / 20);
    return [inside, came, sent > 0];
  },

  "data: the context of the caller": async (side) => {
    const storage = new AsyncLocalStorage<string>();
    const log: unknown[] = [];
    const handlers = (name: string) => ({
      data: () => void log.push([name, "data", storage.getStore()]),
      drain: () => void log.push([name, "drain", storage.getStore()]),
      error: () => void log.push([name, "error", storage.getStore()]),
    });
    const inside = await storage.run("a context", () => side.open({ socket: handlers("inside") }));
    const outside = await side.open({ socket: handlers("outside") });
    await side.until("drains", () => log.length === 2);
    for (const { port } of [inside, outside]) {
      sendAll(side, ["x"], port);
      await side.until("it", () => log.length % 2 === 1 || log.length === 4);
    }
    storage.run("another", () => outside.reload({ socket: handlers("reloaded") }));
    sendAll(side, ["x"], outside.port);
    await side.until("it", () => log.length === 5);
    return log;
  },

  "close in data": async (side) => {
    const log: string[] = [];
    const socket = await side.open({
      socket: {
        data(socket: AnySocket, data: Buffer) {
          log.push(String(data));
          socket.close();
        },
      },
    });
    sendAll(side, ["0", "1", "2"], socket.port);
    await side.until("one", () => log.length > 0);
    await side.silence();
    return log;
  },

  "close before anything was handed over": async (side) => {
    const { seen, socket } = await side.listener();
    sendAll(side, ["0", "1"], socket.port);
    socket.close();
    await side.silence();
    return seen;
  },

  "data throws": async (side) => {
    const log: unknown[] = [];
    const socket = await side.open({
      socket: {
        data(_: unknown, data: Buffer) {
          log.push(String(data));
          throw new RangeError(`thrown at ${data}`);
        },
        error(this: unknown, ...args: unknown[]) {
          log.push([args.length, args.map(describe), this === socket]);
        },
      },
    });
    sendAll(side, ["0", "1"], socket.port);
    await side.until("both", () => log.length === 4);
    return [log, socket.closed];
  },

  "data throws what is no error": async (side) => {
    const log: unknown[] = [];
    const socket = await side.open({
      socket: {
        data() {
          throw "text";
        },
        error: (...args: unknown[]) => void log.push(args),
      },
    });
    sendAll(side, ["0"], socket.port);
    await side.until("it", () => log.length === 1);
    return log;
  },

  "data throws, and nobody handles it": async (side) => {
    const log: unknown[] = [];
    await noting(log, async () => {
      const socket = await side.open({
        socket: {
          data(_: unknown, data: Buffer) {
            log.push(String(data));
            throw new Error(`thrown at ${data}`);
          },
        },
      });
      sendAll(side, ["0", "1"], socket.port);
      await side.until("both", () => log.length === 4);
      log.push(socket.closed);
    });
    return log;
  },

  "data throws, and error throws": async (side) => {
    const log: unknown[] = [];
    await noting(log, async () => {
      const socket = await side.open({
        socket: {
          data() {
            throw new Error("in data");
          },
          error() {
            throw new Error("in error");
          },
        },
      });
      sendAll(side, ["0", "1"], socket.port);
      await side.until("both", () => log.length === 2);
    });
    return log;
  },

  "data and error reject": async (side) => {
    const log: unknown[] = [];
    await noting(log, async () => {
      const rejecting = await side.open({
        socket: {
          data: () => Promise.reject(new Error("data rejects")),
          error: () => void log.push("not called"),
        },
      });
      sendAll(side, ["0"], rejecting.port);
      await side.until("it", () => log.length === 1);
      const throwing = await side.open({
        socket: {
          data() {
            throw new Error("data throws");
          },
          error: () => Promise.reject(new Error("error rejects")),
        },
      });
      sendAll(side, ["0"], throwing.port);
      await side.until("it", () => log.length === 2);
    });
    return log;
  },

  "drain at the start": async (side) => {
    const log: unknown[] = [];
    const socket = await side.open({
      socket: {
        drain(this: unknown, ...args: unknown[]) {
          log.push([args.length, args[0] === socket, this === socket]);
        },
      },
    });
    log.push("opened");
    await side.until("it", () => log.length > 1);
    socket.send("x", side.peer().port, side.at.a4);
    socket.reload({ socket: { drain: () => void log.push("another") } });
    await side.silence();
    return log;
  },

  "drain throws": async (side) => {
    const log: unknown[] = [];
    const throws = () => {
      throw new Error("in drain");
    };
    await noting(log, async () => {
      await side.open({ socket: { drain: throws, error: (...args: unknown[]) => void log.push(args.map(describe)) } });
      await side.until("it", () => log.length === 1);
      await side.open({ socket: { drain: throws } });
      await side.until("it", () => log.length === 2);
    });
    return log;
  },

  reload: async (side) => {
    const log: unknown[] = [];
    const peer = side.peer();
    const results: unknown[] = [];
    const socket = await side.open({ binaryType: "uint8array", socket: { data: () => void log.push("one") } });
    const step = async (name: string, ...args: unknown[]) => {
      const result = await outcome(() => socket.reload(...args));
      peer.send("x", side.at.b4, socket.port);
      await side.until("a datagram", () => log.length > 0);
      results.push([name, result, log.splice(0), socket.binaryType, socket.hostname]);
    };
    const kind = (_: unknown, data: unknown) => void log.push(describe(data));
    await step("nothing");
    await step("a number", 5);
    await step("handlers without socket", { data: () => void log.push("two") });
    await step("data", { socket: { data: () => void log.push("three") } });
    await step("binaryType", { binaryType: "arraybuffer", socket: { data: kind } });
    await step("no handler", { socket: {} });
    await step("empty", {});
    await step("bad handler", { socket: { data: 5 } });
    await step("bad port", { port: -1 });
    const other = { hostname: "192.0.2.1", port: 99, connect: { hostname: side.at.a4, port: 5 } };
    await step("other options", { ...other, socket: { data: () => void log.push("four") } });
    results.push(await outcome(() => socket.send("x")), await outcome(() => socket.send("x", peer.port, side.at.a4)));
    return results;
  },

  "reload: properties nobody has looked at": async (side) => {
    const socket = await side.open({ hostname: "127.0.0.1", port: 4200, socket: {} });
    socket.reload({ hostname: "192.0.2.1", port: 99, binaryType: "uint8array", socket: {} });
    const { address, binaryType, hostname, port } = socket;
    return [hostname, port, binaryType, address.address];
  },

  "without handlers datagrams are gone": async (side) => {
    const socket = await side.open();
    const after = await side.listener();
    sendAll(side, ["0", "1"], socket.port);
    // The event loop takes from the sockets in the order in which datagrams came.
    sendAll(side, ["after"], after.socket.port);
    await side.until("what came later", () => after.seen.length > 0);
    await side.silence();
    const seen: string[] = [];
    socket.reload({ socket: { data: (_: unknown, data: Buffer) => void seen.push(String(data)) } });
    await side.silence();
    sendAll(side, ["2"], socket.port);
    await side.until("it", () => seen.length > 0);
    return seen;
  },

  "an open socket is not collected": async (side) => {
    const seen: string[] = [];
    const port = await (async () => {
      const socket = await (side.udpSocket as (options: unknown) => Promise<AnySocket>)({
        socket: {
          data(socket: AnySocket, data: Buffer) {
            seen.push(String(data));
            socket.close();
          },
        },
      });
      return socket.port;
    })();
    for (let i = 0; i < 3; i++) {
      Bun.gc(true);
      await Bun.sleep(1);
    }
    sendAll(side, ["still here"], port);
    await side.until("it", () => seen.length > 0);
    return seen;
  },

  "two sockets on different addresses of one port": async (side) => {
    const one = await side.listener({ hostname: side.at.b4, port: 4201 });
    const two = await side.listener({ hostname: "127.0.0.1", port: 4201 });
    sendAll(side, ["to the address"], 4201);
    const client = await side.open();
    client.send("to loopback", 4201, "127.0.0.1");
    await side.until("both", () => one.seen.length + two.seen.length === 2);
    return [one.seen, two.seen];
  },
};
