/** The whole engine on a wire in memory: no privilege, the other end of the wire in the test's hands. */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { ERRNO } from "af-xdp-bindings";
import type { EngineOptions, PollPolicy } from "../../engine/config.ts";
import { Engine } from "../../engine/engine.ts";
import { getAffinity, setAffinity } from "../../engine/host/affinity.ts";
import { Burst } from "../../queues/driver.ts";
import { createMemoryWire, MemoryPort, type MemoryWire } from "../../queues/memory.ts";
import { FramePool } from "../../queues/pool.ts";
import { RSS_KEY_SYMMETRIC, rssHash, Toeplitz } from "../../queues/rss.ts";
import { MAC_A, MAC_B, type ParsedUdp, parseUdpFrame, type UdpFrame, udpFrame } from "../support/frames.ts";
import { until } from "../support/kernel-udp.ts";
import type { AttachedData } from "./modules/attached.ts";
import type { EchoData } from "./modules/echo.ts";
import type { ThrowsData } from "./modules/throws.ts";

// A machine whose CPUs others use as well may take long over what is done in milliseconds.
setDefaultTimeout(60_000);

const module = (name: string): URL => new URL(`./modules/${name}.ts`, import.meta.url);
const CPUS = getAffinity(0);
const V6: UdpFrame = { source: "2001:db8::2", destination: "2001:db8::1" };

/** The far end of an engine's wire. */
class Peer {
  readonly wire: MemoryWire;
  readonly received: ParsedUdp[] = [];
  private readonly port: MemoryPort;
  private readonly pool = new FramePool(512, 2048);
  private readonly burst = new Burst();

  constructor(queues = 1) {
    this.wire = createMemoryWire({ queues: [queues, 1], slots: 1024 });
    const memory = new Uint8Array(new SharedArrayBuffer(512 * 2048));
    const toeplitz = new Toeplitz(RSS_KEY_SYMMETRIC);
    const hash = (bytes: Uint8Array, at: number, length: number): number => rssHash(toeplitz, bytes, at, length);
    this.port = MemoryPort.attach(this.wire, 1, this.pool, memory, { hash });
  }

  send(...frames: Uint8Array[]): void {
    for (const frame of frames) {
      const at = this.pool.take() + 256;
      this.port.memory.set(frame, at);
      expect(this.port.txPush(at, frame.length)).toBe(true);
    }
    this.port.txFlush();
    this.port.txComplete();
  }

  /** Waits until so many answers have come. */
  async answers(count: number): Promise<ParsedUdp[]> {
    await until(`${count} answers`, () => {
      while (this.port.rxBurst(this.burst, 0) > 0) {
        for (let i = 0; i < this.burst.count; i++) {
          const at = this.burst.offset[i];
          this.received.push(parseUdpFrame(this.port.memory.slice(at, at + this.burst.length[i])));
          this.pool.give(at);
        }
      }
      return this.received.length >= count;
    });
    return this.received;
  }
}

const engines: Engine[] = [];
afterEach(async () => {
  for (const engine of engines.splice(0)) await engine.close();
});

async function start(peer: Peer, options: Partial<EngineOptions> = {}): Promise<Engine> {
  const engine = await Engine.start({
    cpus: CPUS.slice(-1),
    frames: 1024,
    memory: {
      wire: peer.wire,
      side: 0,
      mac: MAC_A,
      addresses: ["198.18.0.1/24", "2001:db8::1/64"],
      neighbours: ["198.18.0.2", "2001:db8::2"].map((address) => ({ address, mac: MAC_B })),
    },
    ...options,
  });
  engines.push(engine);
  return engine;
}

const texts = (answers: readonly ParsedUdp[]): string[] =>
  answers.map(({ payload }) => new TextDecoder().decode(payload));

describe.each(["busy", "adaptive", "interrupt"] as PollPolicy[])("poll policy %s", (poll) => {
  test("a module echoes both IP versions; sleeping or not, each datagram is answered", async () => {
    const peer = new Peer();
    const data: EchoData = { port: 9000 };
    const engine = await start(peer, { poll, module: module("echo"), data, spinUs: 20 });
    for (let i = 0; i < 40; i++) {
      peer.send(udpFrame({ payload: `four ${i}` }), udpFrame({ ...V6, payload: `six ${i}` }));
      const answers = await peer.answers(2 * (i + 1));
      expect(texts(answers.slice(-2)).toSorted()).toEqual([`four ${i}`, `six ${i}`]);
      // Lets an lcore that may go to sleep do so.
      if (i % 8 === 0) await Bun.sleep(3);
    }
    await until("counters", () => engine.counters(0).UdpOutDatagrams === 80);
    const { Preempted, Sleeps, UdpInDatagrams } = engine.counters(0);
    expect(UdpInDatagrams).toBe(80);
    // One that spins sleeps only where others want its CPU.
    if (poll !== "busy" || Preempted === 0) expect(Sleeps > 0).toBe(poll !== "busy");
  });

  test("poll busy, beside a program that wants the CPU: it sleeps when there is nothing to do, and answers", async () => {
    const peer = new Peer();
    const data: EchoData = { port: 9000 };
    const engine = await start(peer, { poll: "busy", module: module("echo"), data });
    const before = getAffinity(0);
    setAffinity(0, engine.info.cpus);
    const hog = Bun.spawn([process.execPath, "-e", "for (;;);"], { stdio: ["ignore", "ignore", "ignore"] });
    setAffinity(0, before);
    try {
      await until("the lcore to notice", () => engine.counters(0).Preempted > 0);
      const { Sleeps } = engine.counters(0);
      await until("sleeps", () => engine.counters(0).Sleeps > Sleeps);
      for (let i = 0; i < 20; i++) {
        peer.send(udpFrame({ payload: `${i}` }));
        expect(texts((await peer.answers(i + 1)).slice(-1))).toEqual([`${i}`]);
      }
    } finally {
      hog.kill();
      await hog.exited;
    }
  });

  test("a socket of this thread: handler, promise, for await; sends; close while the lcore may sleep", async () => {
    const peer = new Peer();
    const engine = await start(peer, { poll });
    const socket = engine.udp({ address: "::", port: 9000 });
    socket.onDatagram = (d) => void d.reply();
    peer.send(udpFrame({ payload: "handler" }));
    await peer.answers(1);
    socket.onDatagram = null;
    const pending = socket.receive();
    peer.send(udpFrame({ ...V6, payload: "promise" }));
    const datagram = await pending;
    expect(datagram.text()).toBe("promise");
    expect(socket.incomingCpu).toBe(CPUS.at(-1) as number);
    expect(socket.incomingNapiId).toBe(0);
    datagram.release();
    peer.send(...[1, 2, 3].map((i) => udpFrame({ payload: `loop ${i}` })));
    let count = 0;
    for await (const each of socket) {
      expect(each.reply()).toBe(6);
      if (++count === 3) break;
    }
    expect(socket.send("own", 53, "198.18.0.2")).toBe(3);
    socket.close();
    expect(texts(await peer.answers(5))).toEqual(["handler", "loop 1", "loop 2", "loop 3", "own"]);
    const before = performance.now();
    await engine.close();
    expect(performance.now() - before).toBeLessThan(10_000);
    await engine.closed;
    expect(() => engine.udp({ port: 9000 })).toThrow("EBADF");
  });
});

describe("pools", () => {
  test("many times what they hold goes through, echoed by an lcore and by a thread", async () => {
    const peer = new Peer();
    const data: EchoData = { port: 9000 };
    const engine = await start(peer, { module: module("echo"), data });
    const socket = engine.udp({ address: "::", port: 9001 });
    socket.onDatagram = (d) => void d.reply();
    const rounds = 100;
    for (let round = 0; round < rounds; round++) {
      const frames = Array.from({ length: 50 }, (_, i) => udpFrame({ port: 9000 + (i & 1), payload: `${round} ${i}` }));
      peer.send(...frames);
      await peer.answers((round + 1) * 50);
    }
    await until("counters", () => engine.counters(0).UdpOutDatagrams === rounds * 50);
    const counters = engine.counters(0);
    expect([counters.UdpInDatagrams, counters.HandedOver]).toEqual([rounds * 50, rounds * 25]);
    expect([counters.PoolEmpty, counters.QuotaDrops, counters.UdpRcvbufErrors, counters.MeshFull]).toEqual([
      0, 0, 0, 0,
    ]);
  });

  test("the smallest engine still serves and sends", async () => {
    const peer = new Peer();
    const engine = await start(peer, { sockets: 2, threads: 1, ringSlots: 64 });
    const socket = engine.udp({ port: 9000 });
    engine.udp({ port: 9001 });
    expect(() => engine.udp({ port: 9002 })).toThrow("ENFILE");
    expect(() => Engine.attach(engine.descriptor())).toThrow("threads");
    expect(socket.send("x", 53, "198.18.0.2")).toBe(1);
    await peer.answers(1);
  });
});

describe.skipIf(CPUS.length < 2)("two lcores, two queues", () => {
  const cpus = CPUS.slice(0, 2);
  const flood = async (peer: Peer, port: number, base = 0): Promise<void> => {
    for (let round = 0; round < 40; round++) {
      peer.send(...Array.from({ length: 16 }, (_, i) => udpFrame({ sourcePort: 1000 + round * 16 + i, port })));
      await peer.answers(base + (round + 1) * 16);
    }
  };

  test("flows of a socket on one lcore that arrive on the other are handed over and answered", async () => {
    const peer = new Peer(2);
    const engine = await start(peer, { cpus });
    const socket = engine.udp({ port: 9000 });
    socket.onDatagram = (d) => void d.reply();
    await flood(peer, 9000);
    expect(new Set(peer.received.map(({ port }) => port)).size).toBe(640);
    await until("counters", () => engine.counters().UdpOutDatagrams === 640);
    const shares = [engine.counters(0).RxFrames, engine.counters(1).RxFrames];
    expect(shares[0] + shares[1]).toBe(640);
    expect(Math.min(...shares)).toBeGreaterThan(200);
    // Every datagram for a thread is one handed over.
    expect(engine.counters().HandedOver).toBe(640);
  });

  test("a group of both lcores: by hash some cross over, by CPU none does", async () => {
    const peer = new Peer(2);
    const data: EchoData = { port: 9000, reusePort: true };
    const engine = await start(peer, { cpus, module: module("echo"), data });
    await flood(peer, 9000);
    await until("counters", () => engine.counters().UdpOutDatagrams === 640);
    const handed = engine.counters().HandedOver;
    expect(handed).toBeGreaterThan(200);
    expect(handed).toBeLessThan(440);
    await engine.close();
    const again = new Peer(2);
    const preferring = await start(again, { cpus, module: module("echo"), data: { ...data, incomingCpu: true } });
    await flood(again, 9000);
    await until("counters", () => preferring.counters().UdpOutDatagrams === 640);
    expect(preferring.counters().HandedOver).toBe(0);
  });

  test("a group of an lcore's socket, this thread's and a worker's", async () => {
    const peer = new Peer(2);
    const engine = await start(peer, { cpus, module: module("echo"), data: { port: 9000, reusePort: true } });
    const socket = engine.udp({ address: "::", port: 9000, reusePort: true });
    let here = 0;
    socket.onDatagram = (d) => {
      here++;
      d.reply();
    };
    const worker = attach(engine, { task: "echo", port: 9000, reusePort: true });
    await worker.bound;
    await flood(peer, 9000);
    expect(here).toBeGreaterThan(80);
    await engine.close();
    const { count, code } = await worker.ended;
    expect(count).toBeGreaterThan(80);
    expect(code).toBe("EBADF");
  });
});

/** Starts modules/attached.ts. */
function attach(engine: Engine, data: Omit<AttachedData, "descriptor">) {
  const worker = new Worker(module("attached"), { workerData: { ...data, descriptor: engine.descriptor() } });
  const message = <T>(type: string): Promise<T> =>
    new Promise((resolve, reject) => {
      worker.on("message", (each: { type: string }) => each.type === type && resolve(each as T));
      worker.on("error", reject);
    });
  return { bound: message<{ port: number }>("bound"), ended: message<{ count: number; code: string }>("ended") };
}

describe("other threads", () => {
  test.each(["echo", "await"] as const)(
    "a worker serves (%s) until the engine stops, and hears of it",
    async (task) => {
      const peer = new Peer();
      const engine = await start(peer);
      const worker = attach(engine, { task, port: 9000 });
      await worker.bound;
      for (let i = 0; i < 20; i++) {
        peer.send(udpFrame({ payload: `${i}` }));
        await peer.answers(i + 1);
      }
      await engine.close();
      expect(await worker.ended).toMatchObject({ count: 20, code: "EBADF" });
    },
  );

  test("workers that come and go leave their port, their thread number and every frame", async () => {
    const peer = new Peer();
    const engine = await start(peer, { threads: 2 });
    for (let i = 0; i < 6; i++) {
      const worker = attach(engine, { task: "detach", port: 9000 });
      await worker.bound;
      expect(() => engine.udp({ address: "::", port: 9000 })).toThrow("EADDRINUSE");
      peer.send(udpFrame({ payload: `${i}` }));
      await peer.answers(i + 1);
      expect(await worker.ended).toMatchObject({ count: 1, code: "" });
    }
    const socket = engine.udp({ address: "::", port: 9000 });
    socket.onDatagram = (d) => void d.reply();
    peer.send(udpFrame({ payload: "here" }));
    await peer.answers(7);
  });
});

describe("failure", () => {
  test.each(["setup", "later"] as const)(
    "a module that throws in %s: the start is refused with its error",
    async (where) => {
      const peer = new Peer();
      const data: ThrowsData = { where, port: 9000 };
      await expect(start(peer, { module: module("throws"), data })).rejects.toThrow("in setup");
      // The wire is free again.
      const engine = await start(peer, { module: module("echo"), data: { port: 9000 } });
      expect(engine.info.attach).toBe("memory");
    },
  );

  test("a module without a default export, or none at all", async () => {
    const peer = new Peer();
    await expect(start(peer, { module: module("none") })).rejects.toThrow("default export");
    await expect(start(peer, { module: module("absent") })).rejects.toThrow("absent");
  });

  test.each(["handler", "turn"] as const)(
    "a module that throws in its %s takes the engine down, with its error",
    async (where) => {
      const peer = new Peer();
      const data: ThrowsData = { where, port: 9000 };
      const engine = await start(peer, { module: module("throws"), data });
      const socket = engine.udp({ port: 9001 });
      const worker = attach(engine, { task: "echo", port: 9002 });
      await worker.bound;
      const waiting = socket.receive();
      const ended = engine.closed.catch((error: Error) => error);
      peer.send(udpFrame({ port: 9000 }));
      await expect(waiting).rejects.toThrow("EBADF");
      expect(((await ended) as Error).message).toBe(`lcore 0: in the ${where}`);
      expect((await worker.ended).code).toBe("EBADF");
      expect(socket.send("x", 53, "198.18.0.2")).toBe(-ERRNO.EBADF);
      await engine.close();
    },
  );

  test("bad options are refused in words before anything is started", async () => {
    const peer = new Peer();
    const wrong: [Partial<EngineOptions>, string][] = [
      [{ frames: 1000 }, "frames"],
      [{ cpus: [4000] }, "CPU"],
      [{ cpus: [] }, "cpus"],
      [{ cpus: [CPUS[0], CPUS[0]] }, "each CPU"],
      [{ queues: [1] }, "queue 1"],
      [{ queues: [0, 0] }, "each queue once"],
      [{ interface: "eth0" }, "give one of"],
      [{ pcap: { file: "x.pcap", addresses: [] } }, "give one of"],
      [{ poll: "sometimes" as PollPolicy }, "poll"],
      [{ ringSlots: 63 }, "ringSlots"],
    ];
    for (const [options, message] of wrong) await expect(start(peer, options)).rejects.toThrow(message);
  });

  test("twenty starts and stops leave no descriptor behind", async () => {
    const cycle = async (): Promise<number> => {
      const peer = new Peer();
      const engine = await start(peer, { module: module("echo"), data: { port: 9000 } });
      engine.udp({ port: 9001 });
      await engine.close();
      return readdirSync("/proc/self/fd").length;
    };
    await cycle();
    // A worker that has just ended may still hold its own few.
    let before = 0;
    for (let i = 0; i < 3; i++) before = Math.max(before, await cycle());
    for (let i = 0; i < 16; i++) await cycle();
    await until("descriptors", () => readdirSync("/proc/self/fd").length <= before);
  });
});

describe("counters", () => {
  test("of every thread are seen without stopping it", async () => {
    const peer = new Peer();
    const engine = await start(peer, { poll: "busy" });
    peer.send(udpFrame({ port: 1 }), udpFrame({ port: 2 }), udpFrame({ destination: "198.18.0.77" }));
    await until("counters", () => engine.counters(0).RxFrames === 3);
    expect(engine.counters(0)).toMatchObject({ UdpNoPorts: 2, IpInAddrErrors: 1 });
    expect(engine.counters().UdpNoPorts).toBe(2);
    const turns = engine.counters(0).Turns;
    await until("turns", () => engine.counters(0).Turns > turns);
  });
});
