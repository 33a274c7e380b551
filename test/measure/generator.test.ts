/** The generator at one end of a memory wire; the test is the server at the other. */
import { describe, expect, test } from "bun:test";
import { getAffinity } from "../../engine/host/affinity.ts";
import { difference, G } from "../../engine/measure/board.ts";
import { Generator, type GeneratorOptions } from "../../engine/measure/generator.ts";
import { bucketValue } from "../../engine/measure/latency.ts";
import { LoadThread } from "../../engine/measure/load-thread.ts";
import { BURST_MAX, Burst } from "../../queues/driver.ts";
import { createMemoryWire, MemoryPort } from "../../queues/memory.ts";
import { FramePool } from "../../queues/pool.ts";
import { ip } from "../../sockets/wire/address.ts";
import { ETH_HEADER } from "../../sockets/wire/ethernet.ts";
import { checkIpv4, IPV4_HEADER, IPV4_OK } from "../../sockets/wire/ipv4.ts";
import { checkIpv6, IPV6_HEADER, IPV6_OK } from "../../sockets/wire/ipv6.ts";
import { checkUdp4, checkUdp6, UDP_HEADER, UDP_OK, udpDestination, udpSource } from "../../sockets/wire/udp.ts";
import { FrameViews } from "../../sockets/wire/views.ts";
import { until } from "../support/kernel-udp.ts";

const FRAMES = 1024;
const FRAME_SIZE = 2048;
const V4 = { source: ip("198.18.0.1"), destination: ip("198.18.0.2") };
const V6 = { source: ip("2001:db8::1"), destination: ip("2001:db8::2") };
const OPTIONS: GeneratorOptions = {
  ...V4,
  sourceMac: Uint8Array.of(2, 0, 0, 0, 0, 1),
  destinationMac: Uint8Array.of(2, 0, 0, 0, 0, 2),
  sourcePort: 20000,
  destinationPort: 7,
  flows: 3,
  payload: 18,
  window: 8,
  timeoutMs: 1000,
};

/** A generator and the other end of its wire. */
class Rig {
  readonly generator: Generator;
  readonly port: MemoryPort;
  readonly views: FrameViews;
  readonly burst = new Burst();
  private readonly headers: number;
  private readonly v6: boolean;

  constructor(options: Partial<GeneratorOptions> & { rate?: number } = {}) {
    const wire = createMemoryWire();
    const open = (side: 0 | 1): MemoryPort => {
      const memory = new Uint8Array(new SharedArrayBuffer(FRAMES * FRAME_SIZE));
      return MemoryPort.attach(wire, side, new FramePool(FRAMES, FRAME_SIZE), memory);
    };
    const all = { ...OPTIONS, ...options };
    this.generator = new Generator([open(0)], all);
    this.port = open(1);
    this.views = new FrameViews(this.port.memory);
    this.v6 = all.source.length === 16;
    this.headers = ETH_HEADER + (this.v6 ? IPV6_HEADER : IPV4_HEADER) + UDP_HEADER;
    this.generator.send(true, options.rate ?? 0);
  }

  count(name: keyof typeof G): number {
    return this.generator.board.counters[G[name]];
  }

  /** A turn of the generator, then what it sent. */
  turn(): number {
    this.generator.turn();
    return this.port.rxBurst(this.burst, 0);
  }

  /** Source ports of the burst; each frame must be whole and its checksums right. */
  ports(): number[] {
    const { burst, views } = this;
    return Array.from({ length: burst.count }, (_, i) => {
      const network = burst.offset[i] + ETH_HEADER;
      const length = burst.length[i] - ETH_HEADER;
      const udp = burst.offset[i] + this.headers - UDP_HEADER;
      const rest = burst.length[i] - this.headers + UDP_HEADER;
      expect(this.v6 ? checkIpv6(views.bytes, network, length) : checkIpv4(views, network, length)).toBe(
        this.v6 ? IPV6_OK : IPV4_OK,
      );
      expect(this.v6 ? checkUdp6(views, udp, rest, network) : checkUdp4(views, udp, rest, network)).toBe(UDP_OK);
      expect(udpDestination(views.bytes, udp)).toBe(7);
      return udpSource(views.bytes, udp);
    });
  }

  /** Sends frame `i` of the burst back; `times` of them. */
  answer(i: number, times = 1): void {
    const { bytes } = this.views;
    const frame = this.burst.offset[i];
    const udp = frame + this.headers - UDP_HEADER;
    const port = [bytes[udp], bytes[udp + 1]];
    bytes.copyWithin(udp, udp + 2, udp + 4);
    bytes.set(port, udp + 2);
    for (let n = 0; n < times; n++) {
      const copy = this.port.pool.take();
      bytes.copyWithin(copy, frame, frame + this.burst.length[i]);
      this.port.txPush(copy, this.burst.length[i]);
    }
    this.port.txFlush();
    this.port.txComplete();
  }

  answerAll(): void {
    for (let i = 0; i < this.burst.count; i++) this.answer(i);
  }
}

describe("frames", () => {
  for (const [name, addresses] of Object.entries({ IPv4: V4, IPv6: V6 })) {
    for (const payload of [8, 18, 63, 1400]) {
      test(`${name}, ${payload} bytes: checksums hold for every slot and use`, () => {
        const rig = new Rig({ ...addresses, payload });
        for (let round = 0; round < 5; round++) {
          expect(rig.turn()).toBe(8);
          const first = (round * 8) % 3;
          expect(rig.ports()).toEqual(Array.from({ length: 8 }, (_, i) => 20000 + ((first + i) % 3)));
          rig.answerAll();
        }
        rig.turn();
        expect([rig.count("sent"), rig.count("received"), rig.count("foreign")]).toEqual([48, 40, 0]);
      });
    }
  }
});

describe("closed loop", () => {
  test("never more than the window in flight, a new one for each that returns", () => {
    const rig = new Rig();
    expect(rig.turn()).toBe(8);
    expect(rig.turn()).toBe(0);
    rig.turn();
    expect(rig.generator.inFlight).toBe(8);
    const other = new Rig();
    other.turn();
    other.answer(0);
    other.answer(5);
    expect(other.turn()).toBe(2);
    expect(other.count("received")).toBe(2);
    expect(other.generator.board.latency.counts.reduce((sum, count) => sum + count)).toBe(2);
  });

  test("a datagram that comes twice counts once", () => {
    const rig = new Rig();
    rig.turn();
    rig.answer(2, 2);
    rig.turn();
    expect([rig.count("received"), rig.count("duplicated"), rig.count("late")]).toEqual([1, 1, 0]);
  });

  test("answers of another content or length are wrong, and neither received nor lost", () => {
    const rig = new Rig({ timeoutMs: 2000 });
    rig.turn();
    const last = rig.burst.length[0] - 1;
    rig.views.bytes[rig.burst.offset[0] + last] ^= 1;
    rig.burst.length[1] -= 1;
    rig.answerAll();
    rig.turn();
    expect([rig.count("received"), rig.count("wrong"), rig.count("lost")]).toEqual([6, 2, 0]);
  });

  test("in bursts: none is sent before so many can be", () => {
    const rig = new Rig({ burst: 4 });
    rig.turn();
    for (let i = 0; i < 3; i++) rig.answer(i);
    expect(rig.turn()).toBe(0);
    for (let i = 3; i < 6; i++) rig.answer(i);
    expect(rig.turn()).toBe(6);
  });

  test("frames that come back as they went count where that is asked for", () => {
    for (const mirror of [false, true]) {
      const rig = new Rig({ mirror });
      rig.turn();
      rig.port.txPush(rig.burst.offset[0], rig.burst.length[0]);
      rig.port.txFlush();
      rig.turn();
      expect([rig.count("received"), rig.count("foreign")]).toEqual(mirror ? [1, 0] : [0, 1]);
    }
  });

  test("what does not come back in time is lost and makes room; later it is late", async () => {
    const rig = new Rig({ timeoutMs: 20 });
    rig.turn();
    await Bun.sleep(60);
    // Taken before the lost ones' slots are used again.
    rig.generator.turn();
    expect([rig.count("lost"), rig.count("sent")]).toEqual([8, 16]);
    rig.answer(3);
    rig.turn();
    expect([rig.count("received"), rig.count("late"), rig.count("lost")]).toEqual([0, 1, 8]);
  });

  test("damaged and foreign frames are told apart", () => {
    const rig = new Rig();
    rig.turn();
    rig.views.bytes[rig.burst.offset[0] + 42] ^= 1;
    rig.answer(0);
    rig.views.bytes[rig.burst.offset[1] + 23] = 6;
    rig.answer(1);
    rig.turn();
    expect([rig.count("received"), rig.count("wrong"), rig.count("foreign")]).toEqual([0, 1, 1]);
  });

  test("stopped, it sends no more and still receives", () => {
    const rig = new Rig();
    rig.turn();
    rig.generator.send(false, 0);
    rig.answerAll();
    expect(rig.turn()).toBe(0);
    expect([rig.count("received"), rig.generator.inFlight]).toEqual([8, 0]);
  });
});

describe("open loop", () => {
  test("keeps its rate, whatever returns, and counts what the window held back", async () => {
    // Ten a millisecond, from a moment between these two on and until one between the last turn's begin and end.
    const before = performance.now();
    const rig = new Rig({ rate: 10_000 });
    const after = performance.now();
    let delivered = 0;
    let turned = after;
    let ended = after;
    let due = 0;
    // A test that was kept off its CPU has turns to make up for, a burst each.
    for (let more = 0; ended - after < 50 || more === BURST_MAX; ) {
      turned = performance.now();
      delivered += rig.turn();
      ended = performance.now();
      rig.answerAll();
      more = rig.count("sent") + rig.count("skipped") + rig.count("behind") - due;
      due += more;
    }
    expect(due).toBeGreaterThanOrEqual(Math.floor((turned - after) * 10));
    expect(due).toBeLessThanOrEqual(Math.floor((ended - before) * 10) + 1);
    expect(rig.count("sent")).toBeGreaterThanOrEqual(delivered);
    const stalled = new Rig({ rate: 10_000 });
    const until = performance.now() + 20;
    while (performance.now() < until || stalled.count("skipped") === 0) stalled.turn();
    expect(stalled.count("sent")).toBe(8);
  });

  test("what the generator itself is too late for is not sent", async () => {
    const rig = new Rig({ rate: 1000, window: 64 });
    const start = performance.now();
    rig.turn();
    rig.answerAll();
    await Bun.sleep(30);
    rig.turn();
    const { lag, latency } = rig.generator.board;
    expect(rig.count("behind")).toBeGreaterThan(20);
    expect(rig.count("behind") + rig.count("sent")).toBeLessThanOrEqual(performance.now() - start + 1);
    expect(bucketValue(lag.counts.findLastIndex((count) => count > 0))).toBeGreaterThan(20e6);
    rig.answerAll();
    rig.turn();
    expect(latency.counts.reduce((sum, count) => sum + count)).toBe(rig.count("received"));
  });

  test("latency counts from when a datagram was due, however late its answer", async () => {
    // Whenever this thread is kept from it, the generator is behind; some time it is not.
    for (let got = 0; got === 0; ) {
      const rig = new Rig({ rate: 1000, window: 64, timeoutMs: 2000 });
      while (rig.turn() === 0);
      await Bun.sleep(5);
      rig.answerAll();
      rig.turn();
      got = rig.count("received");
      const first = rig.generator.board.latency.counts.findIndex((count) => count > 0);
      if (got > 0) expect(bucketValue(first)).toBeGreaterThan(4.9e6);
    }
  });
});

describe("one way", () => {
  test("a flood expects nothing back", () => {
    const rig = new Rig({ way: "flood", window: 8 });
    expect(rig.turn()).toBe(BURST_MAX);
    expect(rig.turn()).toBe(BURST_MAX);
    expect(rig.generator.inFlight).toBe(0);
  });

  test("a sink counts what comes by its numbers", () => {
    const rig = new Rig({ way: "sink" });
    expect(rig.turn()).toBe(1);
    for (const number of [5, 6, 9, 6]) {
      const { bytes } = rig.views;
      bytes.set([number, 0, 0, 0], rig.burst.offset[0] + 42);
      rig.answer(0);
      rig.answer(0);
      // The second answer turned the ports round again, so that it is nobody's.
      rig.turn();
    }
    expect([rig.count("received"), rig.count("lost"), rig.count("duplicated")]).toEqual([4, 2, 1]);
    expect(rig.count("bytes")).toBe(4 * 18);
  });
});

test.each<[Partial<GeneratorOptions>, RegExp]>([
  [{ flows: 0 }, /flows 0/],
  [{ sourcePort: 65535, flows: 2 }, /flows 2: a whole number from 1 to 1/],
  [{ payload: 7 }, /payload 7/],
  [{ window: 65537 }, /window 65537/],
  [{ timeoutMs: 0 }, /timeoutMs 0/],
  [{ source: V6.source }, /one address family/],
])("refuses %j", (options, message) => {
  expect(() => new Rig(options)).toThrow(message);
});

describe("thread", () => {
  const cpu = getAffinity(0)[0];

  test("sends when it is told to, and frees its end of the wire", async () => {
    const wire = createMemoryWire();
    const options = { ...OPTIONS, timeoutMs: 2000, cpu, link: { kind: "memory", wire, side: 0 } } as const;
    const thread = await LoadThread.generator(options);
    try {
      const before = thread.board.snapshot();
      expect(before.counters.sent).toBe(0);
      thread.board.send(true);
      await until("a window of them", () => thread.board.snapshot().counters.sent === 8);
      expect(difference(before, thread.board.snapshot()).counters).toMatchObject({ sent: 8, received: 0 });
      const result = await thread.measure(50);
      expect(result.counters).toMatchObject({ sent: 0, received: 0 });
      expect(result.seconds).toBeGreaterThan(0.049);
    } finally {
      await thread.stop();
    }
    // The end is free again.
    await (await LoadThread.generator(options)).stop();
  });

  test("an error on the thread arrives here", async () => {
    const wire = createMemoryWire();
    const link = { kind: "memory", wire, side: 0 } as const;
    await expect(LoadThread.generator({ ...OPTIONS, payload: 1, cpu, link })).rejects.toThrow(/payload 1/);
  });
});
