import { describe, expect, test } from "bun:test";
import { BURST_MAX, Burst } from "../../queues/driver.ts";
import {
  createMemoryWire,
  MEMORY_HEADROOM,
  MemoryPort,
  type MemoryPortOptions,
  type MemoryWire,
  type Side,
} from "../../queues/memory.ts";
import { FramePool } from "../../queues/pool.ts";
import { RSS_KEY_MICROSOFT, rssHash, rssQueue, Toeplitz } from "../../queues/rss.ts";

const FRAME_SIZE = 2048;

function attach(wire: MemoryWire, side: Side, options: MemoryPortOptions = {}, frames = 64, frameSize = FRAME_SIZE) {
  const pool = new FramePool(frames, frameSize);
  const memory = new Uint8Array(new SharedArrayBuffer(frames * frameSize));
  return MemoryPort.attach(wire, side, pool, memory, options);
}

/** Pushes a frame of `length` bytes, all `value`, `shift` bytes off the usual place. */
function push(port: MemoryPort, length: number, value: number, shift = 0): boolean {
  const frame = port.pool.take();
  if (frame < 0) throw new Error("the test's pool is empty");
  const offset = frame + MEMORY_HEADROOM + shift;
  port.memory.fill(value, offset, offset + length);
  const pushed = port.txPush(offset, length);
  if (!pushed) port.pool.give(frame);
  return pushed;
}

const burst = new Burst();

/** One burst as [length, first byte, last byte] of each frame; the frames go back. */
function receive(port: MemoryPort, now = 0): number[][] {
  port.rxBurst(burst, now);
  const frames: number[][] = [];
  for (let i = 0; i < burst.count; i++) {
    const offset = burst.offset[i];
    frames.push([burst.length[i], port.memory[offset], port.memory[offset + burst.length[i] - 1]]);
    port.pool.give(offset);
  }
  return frames;
}

describe("a wire", () => {
  test("carries frames both ways, copied, at the headroom", () => {
    const wire = createMemoryWire();
    const a = attach(wire, 0, { ifindex: 7 });
    const b = attach(wire, 1);
    expect(a.ifindex).toBe(7);
    push(a, 60, 1);
    push(a, 1514, 2);
    expect(receive(b)).toEqual([]);
    a.txFlush();
    b.rxBurst(burst, 0);
    expect(burst.count).toBe(2);
    expect(burst.offset[0] % FRAME_SIZE).toBe(MEMORY_HEADROOM);
    for (let i = 0; i < burst.count; i++) b.pool.give(burst.offset[i]);
    push(b, 64, 3);
    b.txFlush();
    expect(receive(a)).toEqual([[64, 3, 3]]);
    expect([a.txFrames, a.rxFrames, b.txFrames, b.rxFrames]).toEqual([2, 1, 1, 2]);
  });

  test("any length at any alignment arrives byte by byte", () => {
    const wire = createMemoryWire({ slotBytes: 256, slots: 4 });
    const a = attach(wire, 0);
    const b = attach(wire, 1);
    for (let length = 1; length <= wire.frameMax; length++)
      for (let shift = 0; shift < 4; shift++) {
        const offset = a.pool.take() + MEMORY_HEADROOM + shift;
        for (let i = 0; i < length; i++) a.memory[offset + i] = i + length;
        a.txPush(offset, length);
        a.txFlush();
        a.txComplete();
        b.rxBurst(burst, 0);
        const got = b.memory.slice(burst.offset[0], burst.offset[0] + burst.length[0]);
        b.pool.give(burst.offset[0]);
        if (got.length !== length || got.some((byte, i) => byte !== ((i + length) & 255)))
          throw new Error(`length ${length} shift ${shift}`);
      }
    expect(b.rxFrames).toBe(wire.frameMax * 4);
  });

  test("frames come back to the pool when the transmission is complete, not before the flush", () => {
    const wire = createMemoryWire();
    const a = attach(wire, 0, {}, 4);
    push(a, 60, 1);
    push(a, 60, 2);
    expect(a.txComplete()).toBe(0);
    a.txFlush();
    push(a, 60, 3);
    expect(a.pool.available).toBe(1);
    expect(a.txComplete()).toBe(2);
    expect(a.pool.available).toBe(3);
    a.txFlush();
    expect(a.txComplete()).toBe(1);
    expect(a.txComplete()).toBe(0);
    expect(a.pool.available).toBe(4);
    const frames = new Set([a.pool.take(), a.pool.take(), a.pool.take(), a.pool.take()]);
    expect(frames.size).toBe(4);
  });

  test("the transmit ring fills when nothing is completed, and then refuses", () => {
    const a = attach(createMemoryWire({ slots: 1024 }), 0, {}, 1024);
    let pushed = 0;
    while (push(a, 60, 0)) pushed++;
    expect(pushed).toBe(512);
    a.txFlush();
    expect(push(a, 60, 0)).toBe(false);
    expect(a.txComplete()).toBe(512);
    expect(push(a, 60, 0)).toBe(true);
  });

  test("a burst holds BURST_MAX frames, the rest waits", () => {
    const wire = createMemoryWire();
    const a = attach(wire, 0, {}, 128);
    const b = attach(wire, 1, {}, 128);
    for (let i = 0; i < 100; i++) push(a, 60, i);
    a.txFlush();
    expect(receive(b).length).toBe(BURST_MAX);
    expect(receive(b).map(([, value]) => value)).toEqual(Array.from({ length: 100 - BURST_MAX }, (_, i) => 64 + i));
    expect(receive(b)).toEqual([]);
  });
});

describe("drops are counted", () => {
  test("wire full", () => {
    const wire = createMemoryWire({ slots: 8 });
    const a = attach(wire, 0);
    const b = attach(wire, 1);
    for (let i = 0; i < 10; i++) expect(push(a, 60, i)).toBe(true);
    a.txFlush();
    expect(a.txWireFull).toBe(2);
    expect(a.txComplete()).toBe(10);
    expect(receive(b).map(([, value]) => value)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  test("no frame in the receiver's pool", () => {
    const wire = createMemoryWire();
    const a = attach(wire, 0);
    const b = attach(wire, 1, {}, 2);
    for (let i = 0; i < 5; i++) push(a, 60, i);
    a.txFlush();
    b.rxBurst(burst, 0);
    expect([burst.count, b.rxNoFrame, b.pool.available]).toEqual([2, 3, 0]);
  });

  test("longer than a slot, longer than the receiver's frames", () => {
    const wire = createMemoryWire({ slotBytes: 4096 });
    const a = attach(wire, 0, {}, 8, 8192);
    const b = attach(wire, 1);
    expect(wire.frameMax).toBe(4092);
    for (const length of [4093, 4092, FRAME_SIZE - MEMORY_HEADROOM + 1, FRAME_SIZE - MEMORY_HEADROOM])
      push(a, length, 9);
    a.txFlush();
    expect(receive(b)).toEqual([[FRAME_SIZE - MEMORY_HEADROOM, 9, 9]]);
    expect([a.txOversize, b.rxOversize, b.pool.available]).toEqual([1, 2, 64]);
  });

  test("a jumbo wire carries 9,000 bytes", () => {
    const wire = createMemoryWire({ slotBytes: 16384, slots: 4 });
    const a = attach(wire, 0, {}, 4, 16384);
    const b = attach(wire, 1, {}, 4, 16384);
    push(a, 9014, 5);
    a.txFlush();
    expect(receive(b)).toEqual([[9014, 5, 5]]);
  });
});

describe("queues", () => {
  const toeplitz = new Toeplitz(RSS_KEY_MICROSOFT);
  const hash = (bytes: Uint8Array, offset: number, length: number) => rssHash(toeplitz, bytes, offset, length);

  /** A UDP frame whose only difference is the source port. */
  function flow(port: MemoryPort, sport: number): number {
    const frame = port.pool.take() + MEMORY_HEADROOM;
    port.memory.fill(0, frame, frame + 60);
    port.memory.set([8, 0, 0x45], frame + 12);
    port.memory.set([17, 0, 0, 198, 18, 0, 1, 198, 18, 0, 2, sport >> 8, sport & 255, 0, 7], frame + 23);
    return frame;
  }

  test("a flow goes to the queue of its hash, from whichever queue it is sent", () => {
    const wire = createMemoryWire({ queues: [2, 3] });
    const senders = [0, 1].map((queue) => attach(wire, 0, { queue, hash }, 256));
    const receivers = [0, 1, 2].map((queue) => attach(wire, 1, { queue, hash }, 256));
    const want: number[][] = [[], [], []];
    for (let sport = 1; sport <= 120; sport++) {
      const sender = senders[sport & 1];
      const frame = flow(sender, sport);
      want[rssQueue(hash(sender.memory, frame, 60), 3)].push(sport);
      sender.txPush(frame, 60);
    }
    for (const sender of senders) sender.txFlush();
    receivers.forEach((receiver, queue) => {
      const got: number[] = [];
      while (receiver.rxBurst(burst, 0) > 0)
        for (let i = 0; i < burst.count; i++) {
          got.push((receiver.memory[burst.offset[i] + 34] << 8) | receiver.memory[burst.offset[i] + 35]);
          receiver.pool.give(burst.offset[i]);
        }
      expect(got.length).toBeGreaterThan(20);
      expect(got.sort((a, b) => a - b)).toEqual(want[queue]);
    });
  });

  test("no sender's ring starves the others", () => {
    const wire = createMemoryWire({ queues: [2, 1] });
    const senders = [0, 1].map((queue) => attach(wire, 0, { queue }, 256));
    const receiver = attach(wire, 1, { hash }, 256);
    senders.forEach((sender, queue) => {
      for (let i = 0; i < 200; i++) push(sender, 60, queue);
      sender.txFlush();
    });
    const bursts = [receive(receiver), receive(receiver)].map((frames) => frames.map(([, value]) => value));
    expect(bursts[0]).toEqual(new Array(BURST_MAX).fill(0));
    expect(bursts[1]).toEqual(new Array(BURST_MAX).fill(1));
  });

  test("an end is attached once at a time; what cannot be attached is refused", () => {
    const wire = createMemoryWire({ queues: [1, 2] });
    const first = attach(wire, 0, { hash });
    expect(() => attach(wire, 0, { hash })).toThrow("attached already");
    first.close();
    attach(wire, 0, { hash }).close();
    expect(() => attach(wire, 0)).toThrow("a hash must spread the frames");
    expect(() => attach(wire, 1, { queue: 2 })).toThrow("queue 2: side 1 has 2");
    expect(() => attach(wire, 1, { queue: -1 })).toThrow("queue -1");
    expect(() => attach(wire, 1, {}, 8, 256)).toThrow("only headroom");
    expect(() => createMemoryWire({ queues: [0, 1] })).toThrow("0 queues");
    expect(() => createMemoryWire({ slotBytes: 32 })).toThrow("32 bytes");
    expect(() => createMemoryWire({ slots: 100 })).toThrow("not a power of two");
  });
});

describe("impairments act on the receiving side, by the time passed in", () => {
  test("delay", () => {
    const wire = createMemoryWire();
    const a = attach(wire, 0);
    const b = attach(wire, 1, { impairments: { seed: 1, delayMs: 10 } });
    push(a, 60, 1);
    a.txFlush();
    expect(receive(b, 100)).toEqual([]);
    expect(b.impairment?.nextDue()).toBe(110);
    expect(receive(b, 109)).toEqual([]);
    expect(receive(b, 110)).toEqual([[60, 1, 1]]);
    push(b, 60, 2);
    b.txFlush();
    expect(receive(a, 110)).toEqual([[60, 2, 2]]);
  });

  test("the same seed loses the same frames, and a lost frame costs the pool nothing", () => {
    const survivors = () => {
      const wire = createMemoryWire();
      const a = attach(wire, 0);
      const b = attach(wire, 1, { impairments: { seed: 5, loss: 0.5 } });
      const got: number[] = [];
      for (let i = 0; i < 200; i++) {
        push(a, 60, i);
        a.txFlush();
        a.txComplete();
        got.push(...receive(b, i).map(([, value]) => value));
      }
      expect(b.pool.available).toBe(64);
      expect(got.length + (b.impairment?.lost ?? 0)).toBe(200);
      return got;
    };
    const first = survivors();
    expect(first.length).toBeWithin(60, 140);
    expect(survivors()).toEqual(first);
  });

  test("more than a burst due at once is delivered over several", () => {
    const wire = createMemoryWire();
    const a = attach(wire, 0, {}, 256);
    const b = attach(wire, 1, { impairments: { seed: 1, duplicate: 1 } }, 256);
    for (let i = 0; i < 50; i++) push(a, 60, i);
    a.txFlush();
    expect([receive(b, 1).length, receive(b, 1).length, receive(b, 1).length]).toEqual([BURST_MAX, 100 - BURST_MAX, 0]);
  });
});

test("the two ends in two threads: an echo returns every frame whole", async () => {
  const wire = createMemoryWire();
  const worker = new Worker(new URL("./memory-worker.ts", import.meta.url));
  const port = attach(wire, 0, {}, 256);
  try {
    await new Promise<void>((resolve, reject) => {
      worker.onmessage = () => resolve();
      worker.onerror = (event) => reject(new Error(event.message));
      worker.postMessage(wire);
    });
    const frames = 50_000;
    const deadline = performance.now() + 8000;
    let sent = 0;
    let returned = 0;
    let bad = 0;
    while (returned < frames && performance.now() < deadline) {
      for (; sent < frames && sent - returned < 128; sent++) push(port, 60 + (sent % 1000), sent);
      port.txFlush();
      port.txComplete();
      port.rxBurst(burst, 0);
      for (let i = 0; i < burst.count; i++, returned++) {
        const last = burst.offset[i] + burst.length[i] - 1;
        const isWhole = burst.length[i] === 60 + (returned % 1000);
        if (!isWhole || port.memory[last] !== (returned & 255) || port.memory[last - 59] !== (returned & 255)) bad++;
        port.pool.give(burst.offset[i]);
      }
    }
    expect({ returned, bad }).toEqual({ returned: frames, bad: 0 });
    expect([port.txWireFull, port.rxNoFrame]).toEqual([0, 0]);
  } finally {
    worker.postMessage("stop");
  }
}, 20_000);
