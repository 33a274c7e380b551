/** send and sendMany: payloads, destinations, counts of arguments, results, errors. */
import type { KernelUdp } from "../support/kernel-udp.ts";
import { type AnySocket, type Cases, describe, outcome, type Side } from "./bun-compare.ts";

/** Values that may or may not be sent. */
function payloads(): Record<string, unknown> {
  const shared = new SharedArrayBuffer(3);
  new Uint8Array(shared).set([7, 8, 9]);
  const detached = new Uint8Array(4);
  structuredClone(detached, { transfer: [detached.buffer] });
  return {
    ascii: "abc",
    unicode: "é😶",
    surrogate: "\ud800x",
    "empty string": "",
    "boxed string": new String("box"),
    Uint8Array: Uint8Array.of(1, 2, 3),
    "empty Uint8Array": new Uint8Array(0),
    subarray: Uint8Array.of(1, 2, 3, 4).subarray(1, 3),
    Buffer: Buffer.from("hey"),
    "Buffer of the pool": Buffer.from("a buffer in the middle of another").subarray(5, 9),
    ArrayBuffer: Uint8Array.of(7, 8).buffer,
    "empty ArrayBuffer": new ArrayBuffer(0),
    DataView: new DataView(Uint8Array.of(1, 2, 3, 4, 5).buffer, 1, 3),
    Uint16Array: Uint16Array.of(0x0102, 0x0304),
    Float64Array: Float64Array.of(1),
    BigInt64Array: BigInt64Array.of(5n),
    Uint8ClampedArray: Uint8ClampedArray.of(300),
    SharedArrayBuffer: shared,
    "view of one": new Uint8Array(shared, 1),
    resizable: new Uint8Array(new ArrayBuffer(3, { maxByteLength: 10 })),
    detached,
    "fits a packet": new Uint8Array(1472).fill(1),
    "fits none": new Uint8Array(1473).fill(2),
    "largest UDP": new Uint8Array(65507).fill(3),
    "too large": new Uint8Array(65508),
    "far too large": new Uint8Array(70000),
    number: 5,
    undefined: undefined,
    null: null,
    object: {},
    array: [1, 2],
    boolean: true,
    function: () => {},
    date: new Date(0),
    symbol: Symbol("x"),
    bigint: 5n,
    blob: new Blob(["x"]),
  };
}

/** What has come to the peer: content, or length and first byte of what is long. */
function take(peer: KernelUdp): unknown[] {
  const all: unknown[] = [];
  for (let got = peer.take(); got !== null; got = peer.take()) {
    const { payload } = got;
    all.push(payload.length > 40 ? [payload.length, payload[0]] : payload.toHex());
  }
  return all;
}

/** Makes a call and says what it came to and what arrived because of it: all that comes before a marker sent after it. */
class Watch {
  private readonly side: Side;
  private readonly peer: KernelUdp;
  private readonly marker: AnySocket;
  private count = 0;

  private constructor(side: Side, peer: KernelUdp, marker: AnySocket) {
    this.side = side;
    this.peer = peer;
    this.marker = marker;
  }

  static async on(side: Side, peer: KernelUdp): Promise<Watch> {
    return new Watch(side, peer, await side.open());
  }

  async call(call: () => unknown): Promise<unknown> {
    const { marker, peer, side } = this;
    const result = await outcome(call);
    const mark = `marker ${this.count++}`;
    marker.send(mark, peer.port, side.at.a4);
    const arrived: unknown[] = [];
    await side.until(mark, () => {
      arrived.push(...take(peer));
      return arrived.includes(Buffer.from(mark).toHex());
    });
    return [result, arrived.slice(0, -1)];
  }
}

export const sendCases: Cases = {
  "send: payloads": async (side) => {
    const peer = side.peer();
    const watch = await Watch.on(side, peer);
    const socket = await side.quiet();
    const results: unknown[] = [];
    for (const [name, payload] of Object.entries(payloads())) {
      results.push([name, await watch.call(() => socket.send(payload, peer.port, side.at.a4))]);
    }
    return results;
  },

  "send, connected: payloads": async (side) => {
    const peer = side.peer();
    const watch = await Watch.on(side, peer);
    const socket = await side.quiet({ connect: { hostname: side.at.a4, port: peer.port } });
    const results: unknown[] = [];
    for (const [name, payload] of Object.entries(payloads())) {
      results.push([name, await watch.call(() => socket.send(payload))]);
    }
    return results;
  },

  "sendMany: payloads": async (side) => {
    const peer = side.peer();
    const watch = await Watch.on(side, peer);
    const socket = await side.quiet();
    const connected = await side.quiet({ connect: { hostname: side.at.a4, port: peer.port } });
    const results: unknown[] = [];
    for (const [name, payload] of Object.entries(payloads())) {
      const to = [peer.port, side.at.a4];
      results.push([name, await watch.call(() => socket.sendMany([payload, ...to, "z", ...to]))]);
      results.push([name, await watch.call(() => connected.sendMany([payload, "z"]))]);
    }
    return results;
  },

  "send: counts of arguments": async (side) => {
    const peer = side.peer();
    const watch = await Watch.on(side, peer);
    const to = [peer.port, side.at.a4];
    const socket = await side.open();
    const connected = await side.open({ connect: { hostname: side.at.a4, port: peer.port } });
    const results: unknown[] = [];
    for (const args of [
      [],
      ["x"],
      ["x", peer.port],
      ["x", ...to],
      ["x", ...to, 4, 5],
      [undefined, undefined, undefined],
    ]) {
      results.push(await watch.call(() => socket.send(...args)), await watch.call(() => connected.send(...args)));
    }
    results.push(await watch.call(() => connected.send("x", undefined)));
    return results;
  },

  "send: ports": async (side) => {
    const peer = side.peer();
    const watch = await Watch.on(side, peer);
    const socket = await side.open();
    const { port } = peer;
    const good = [port, String(port), [port], { valueOf: () => port }];
    const bad = [0, -1, 65536, 1.5, Number.NaN, "abc", "", null, undefined, false, {}, 2 ** 32 + port, 5n, Symbol("x")];
    const results: unknown[] = [];
    for (const value of [...good, ...bad]) {
      results.push(await watch.call(() => socket.send("p", value, side.at.a4)));
      results.push(await watch.call(() => socket.sendMany(["q", value, side.at.a4])));
    }
    return results;
  },

  "send: text that is an address": async (side) => {
    const peer = side.peer();
    const watch = await Watch.on(side, peer);
    const sockets = [await side.open(), await side.open({ hostname: "::" })];
    const number = side.at.a4.split(".").reduce((sum, byte) => sum * 256 + Number(byte), 0);
    const forms = [side.at.a4, new String(side.at.a4), [side.at.a4], { toString: () => side.at.a4 }];
    const aton = [
      number,
      `0x${number.toString(16)}`,
      `0${number.toString(8)}`,
      "198.18.1",
      "0306.0x12.0.1",
      "198.1179649",
    ];
    const results: unknown[] = [];
    for (const address of [...forms, ...aton, `::ffff:${side.at.a4}`, `::FFFF:c612:1`]) {
      for (const socket of sockets) {
        results.push([describe(address), await watch.call(() => socket.send("p", peer.port, address))]);
        results.push(await watch.call(() => socket.sendMany(["q", peer.port, address])));
      }
    }
    return results;
  },

  "send: text that is no address": async (side) => {
    const { a4 } = side.at;
    const sockets = [await side.open(), await side.open({ hostname: "::" })];
    const bad = [
      "",
      "x",
      "localhost",
      "256.1.1.1",
      "1.2.3.4.5",
      "1..2",
      "08",
      "0x",
      "4294967296",
      "127.16777216",
      "-1",
    ];
    const odd = [
      ` ${a4}`,
      `${a4} `,
      `${a4}\n`,
      `${a4}.`,
      `${a4}/24`,
      `${a4}%lo`,
      `\0${a4}`,
      `${a4}\0x`,
      "[::1]",
      "::1::",
      "12345::",
    ];
    const kinds = [null, undefined, {}, Number.NaN, Symbol("x")];
    const results: unknown[] = [];
    for (const address of [...bad, ...odd, ...kinds]) {
      for (const socket of sockets) {
        results.push([describe(address), await outcome(() => socket.send("p", 9, address))]);
        results.push(await outcome(() => socket.sendMany(["q", 9, address])));
      }
    }
    return results;
  },

  "send: addresses that cannot be reached": async (side) => {
    const sockets = [
      await side.quiet(),
      await side.quiet({ hostname: "::" }),
      await side.quiet({ hostname: side.at.b4 }),
    ];
    const four = ["192.0.2.77", side.at.broadcast, "255.255.255.255", "224.0.0.9", 5];
    const six = ["2001:db8:ffff::1", side.at.a6, "::1", "::", "fe80::1", "ff02::1", "::ffff:192.0.2.77"];
    const results: unknown[] = [];
    for (const address of [...four, ...six]) {
      for (const socket of sockets) {
        results.push([describe(address), await outcome(() => socket.send("p", 9, address))]);
        await side.settle();
        results.push(await outcome(() => socket.sendMany(["q", 9, address])));
        await side.settle();
      }
    }
    return results;
  },

  "send: which of several mistakes is told": async (side) => {
    const socket = await side.open();
    const { a4 } = side.at;
    const results: unknown[] = [];
    for (const args of [
      [5, 0, "x"],
      ["x", 0, "x"],
      [5, 9, "x"],
      [5, 0, a4],
    ]) {
      results.push(await outcome(() => socket.send(...args)), await outcome(() => socket.sendMany(args)));
    }
    results.push(await outcome(() => socket.sendMany(["x", 0, a4, 5, 9, a4])));
    results.push(await outcome(() => socket.sendMany(["x", 9, "zz", "y", 0, a4])));
    return results;
  },

  "send: what converting an argument does": async (side) => {
    const results: unknown[] = [];
    for (const name of ["send", "sendMany"]) {
      const socket = await side.open();
      const call = (...args: unknown[]) => (name === "send" ? socket.send(...args) : socket.sendMany(args));
      const throws = () => {
        throw new Error("mine");
      };
      results.push(await outcome(() => call("x", { valueOf: throws }, "127.0.0.1")));
      results.push(await outcome(() => call("x", 9, { toString: throws })));
      const closes = () => {
        socket.close();
        return 9;
      };
      results.push(await outcome(() => call("x", { valueOf: closes }, "127.0.0.1")));
    }
    return results;
  },

  "sendMany: what is no list": async (side) => {
    const sockets = [await side.open(), await side.open({ connect: { hostname: side.at.a4, port: 9 } })];
    const results: unknown[] = [];
    for (const value of [undefined, null, "abc", 5, {}, { length: 0 }, new Set(), new Uint8Array(3), () => {}]) {
      for (const socket of sockets) results.push([describe(value), await outcome(() => socket.sendMany(value))]);
    }
    for (const socket of sockets) results.push(await outcome(() => socket.sendMany()));
    return results;
  },

  "sendMany: lists": async (side) => {
    const peer = side.peer();
    const watch = await Watch.on(side, peer);
    const socket = await side.quiet();
    const to = [peer.port, side.at.a4];
    const over = new Uint8Array(65508);
    class List extends Array {}
    const lists = [
      [],
      ["x", peer.port],
      ["x", ...to, "y"],
      ["x", ...to, "y", ...to],
      ["x", ...to, 5, ...to],
      ["x", ...to, "y", peer.port, "zzz"],
      ["x", ...to, "y", peer.port, "192.0.2.77", "z", ...to],
      ["x", peer.port, "192.0.2.77", "z", ...to],
      ["x", ...to, over, ...to, "z", ...to],
      [over, ...to, "z", ...to],
      [undefined, ...to],
      List.from(["x", ...to]),
      Object.freeze(["x", ...to]),
    ];
    const results: unknown[] = [];
    for (const list of lists) results.push(await watch.call(() => socket.sendMany(list)));
    results.push(await watch.call(() => socket.sendMany(["x", ...to], 5)));
    return results;
  },

  "sendMany, connected: lists": async (side) => {
    const peer = side.peer();
    const watch = await Watch.on(side, peer);
    const socket = await side.quiet({ connect: { hostname: side.at.a4, port: peer.port } });
    const mixed = ["a", Uint8Array.of(1), new ArrayBuffer(1)];
    const results: unknown[] = [];
    for (const list of [[], ["a", "b", "c"], mixed, ["a", 5], ["a", undefined], ["a", new Uint8Array(65508), "b"]]) {
      results.push(await watch.call(() => socket.sendMany(list)));
    }
    results.push(await watch.call(() => socket.sendMany(["x"], 5)));
    return results;
  },

  "sendMany: 5,000 packets": async (side) => {
    const COUNT = 5000;
    const peer = side.peer();
    const connected = await side.quiet({ connect: { hostname: side.at.a4, port: peer.port } });
    const socket = await side.quiet();
    const packets = Array.from({ length: COUNT }, (_, i) => [String(i), peer.port, side.at.a4]).flat();
    return [
      connected.sendMany(Array.from({ length: COUNT }, (_, i) => String(i))),
      socket.sendMany(packets),
      (await peer.receive()).text,
    ];
  },

  "sendMany: many at once, in order": async (side) => {
    const peer = side.peer();
    const COUNT = 100;
    const socket = await side.open();
    const packets = Array.from({ length: COUNT }, (_, i) => [String(i), peer.port, side.at.a4]).flat();
    const sent = socket.sendMany(packets);
    const arrived: string[] = [];
    for (let i = 0; i < COUNT; i++) arrived.push((await peer.receive()).text);
    return [sent, arrived];
  },

  "backpressure: false, then drain, then everything has come": async (side) => {
    const peer = side.peer();
    const COUNT = 20_000;
    let drained = 0;
    let sent = 0;
    let refused = 0;
    const socket = await side.open({
      socket: {
        drain() {
          drained++;
          go();
        },
      },
    });
    let came = 0;
    const go = (): void => {
      while (sent < COUNT) {
        if (!socket.send("x", peer.port, side.at.a4)) {
          refused++;
          return;
        }
        sent++;
        // As much as the peer's buffer holds.
        if (sent % 100 === 0) while (peer.take() !== null) came++;
      }
    };
    await side.until("the drain of the start", () => drained > 0);
    go();
    await side.until("all to be sent", () => sent === COUNT);
    await side.until("all to come", () => {
      while (peer.take() !== null) came++;
      return came === COUNT;
    });
    return { sent, came, drained: drained > refused - 1 };
  },
};
