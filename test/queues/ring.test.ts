import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { RING_CONSUMER_WORD, RING_PRODUCER_WORD, RingConsumer, RingProducer, ringBytes } from "../../queues/ring.ts";

/** Both ends of a ring whose cursors begin at `start`. */
function ring(slots: number, slotWords = 1, start = 0) {
  const buffer = new SharedArrayBuffer(64 + ringBytes(slots, slotWords));
  const control = new Int32Array(buffer, 64);
  control[RING_PRODUCER_WORD] = start;
  control[RING_CONSUMER_WORD] = start;
  return {
    buffer,
    control,
    producer: new RingProducer(buffer, 64, slots, slotWords),
    consumer: new RingConsumer(buffer, 64, slots, slotWords),
  };
}

function put(producer: RingProducer, value: number): boolean {
  const at = producer.claim();
  if (at < 0) return false;
  producer.words[at] = value;
  return true;
}

function take(consumer: RingConsumer): number | undefined {
  const at = consumer.peek();
  if (at < 0) return undefined;
  const value = consumer.words[at];
  consumer.next();
  return value;
}

describe("region", () => {
  test("sizes", () => {
    expect(RingProducer.bytes(1024, 1)).toBe(384 + 4096);
    expect(RingConsumer.bytes(8, 16)).toBe(384 + 512);
  });

  test("what cannot be a ring is refused", () => {
    const buffer = new SharedArrayBuffer(4096);
    expect(() => new RingProducer(buffer, 0, 3, 1)).toThrow("3 slots: not a power of two");
    expect(() => new RingProducer(buffer, 0, 0, 1)).toThrow(RangeError);
    expect(() => new RingProducer(buffer, 0, 8, 12)).toThrow("12 words a slot: not a power of two");
    expect(() => new RingConsumer(buffer, 32, 8, 1)).toThrow("not on a cache line");
    expect(() => new RingConsumer(buffer, 0, 1024, 1)).toThrow("exceeds its buffer");
  });
});

describe("one burst", () => {
  test("nothing is seen before publish, nothing is free before release", () => {
    const { producer, consumer } = ring(4);
    expect(put(producer, 10)).toBe(true);
    expect(put(producer, 11)).toBe(true);
    expect(consumer.peek()).toBe(-1);
    expect(consumer.available()).toBe(0);
    producer.publish();
    expect(consumer.available()).toBe(2);
    expect([take(consumer), take(consumer), take(consumer)]).toEqual([10, 11, undefined]);
    expect(producer.free()).toBe(2);
    consumer.release();
    expect(producer.free()).toBe(4);
  });

  test("peek does not step, and claims fill exactly the ring", () => {
    const { producer, consumer } = ring(4);
    for (let i = 0; i < 4; i++) expect(put(producer, i)).toBe(true);
    expect(producer.claim()).toBe(-1);
    expect(producer.free()).toBe(0);
    producer.publish();
    expect(consumer.peek()).toBe(consumer.peek());
    take(consumer);
    expect(producer.claim()).toBe(-1);
    consumer.release();
    expect(put(producer, 4)).toBe(true);
    expect(producer.claim()).toBe(-1);
    producer.publish();
    expect([take(consumer), take(consumer), take(consumer), take(consumer)]).toEqual([1, 2, 3, 4]);
  });

  test("slots of a cache line do not overlap", () => {
    const { producer, consumer } = ring(4, 16);
    for (let i = 0; i < 4; i++) {
      const at = producer.claim();
      expect(at).toBe(i * 16);
      producer.words.fill(i, at, at + 16);
    }
    producer.publish();
    for (let i = 0; i < 4; i++) {
      const at = consumer.peek();
      expect([...consumer.words.slice(at, at + 16)]).toEqual(new Array(16).fill(i));
      consumer.next();
    }
  });

  test("an end made later takes up where the cursors stand", () => {
    const { buffer, producer, consumer } = ring(4);
    for (let i = 0; i < 3; i++) put(producer, i);
    producer.publish();
    take(consumer);
    consumer.release();
    const later = new RingConsumer(buffer, 64, 4, 1);
    const successor = new RingProducer(buffer, 64, 4, 1);
    expect(successor.free()).toBe(2);
    put(successor, 3);
    successor.publish();
    expect([take(later), take(later), take(later), take(later)]).toEqual([1, 2, 3, undefined]);
  });
});

test("against a queue, with cursors that cross 2^31 and 2^32", () => {
  const command = fc.record({
    op: fc.constantFrom("claim", "publish", "take", "release", "free", "available"),
    times: fc.integer({ min: 1, max: 6 }),
  });
  const start = fc.constantFrom(0, -3, 0x7ffffffd, 12345);
  fc.assert(
    fc.property(
      fc.constantFrom(1, 2, 8),
      start,
      fc.array(command, { maxLength: 120, size: "max" }),
      (slots, from, commands) => {
        const { producer, consumer } = ring(slots, 2, from);
        const claimed: number[] = [];
        const published: number[] = [];
        let unreleased = 0;
        let value = 0;
        const used = () => claimed.length + published.length + unreleased;
        for (const { op, times } of commands) {
          if (op === "free") expect(producer.free()).toBe(slots - used());
          else if (op === "available") expect(consumer.available()).toBe(published.length);
          else if (op === "publish") {
            producer.publish();
            published.push(...claimed.splice(0));
          } else if (op === "release") {
            consumer.release();
            unreleased = 0;
          } else
            for (let i = 0; i < times; i++) {
              if (op === "claim") {
                const fits = used() < slots;
                expect(put(producer, value)).toBe(fits);
                if (fits) claimed.push(value++);
              } else {
                const want = published.shift();
                expect(take(consumer)).toBe(want as number);
                if (want !== undefined) unreleased++;
              }
            }
        }
      },
    ),
    { numRuns: 400 },
  );
});

describe("sleeping", () => {
  test("publish asks for one wakeup a sleep", () => {
    const { producer, consumer } = ring(4);
    put(producer, 1);
    expect(producer.publish()).toBe(false);
    expect(consumer.prepareWait()).toBe(false);
    take(consumer);
    consumer.release();
    expect(consumer.prepareWait()).toBe(true);
    expect(producer.publish()).toBe(false);
    put(producer, 2);
    expect(producer.publish()).toBe(true);
    put(producer, 3);
    expect(producer.publish()).toBe(false);
    consumer.cancelWait();
    put(producer, 4);
    expect(producer.publish()).toBe(false);
  });

  test("a consumer that found slots after all asks for no wakeup", () => {
    const { producer, consumer } = ring(4);
    put(producer, 1);
    producer.publish();
    expect(consumer.prepareWait()).toBe(false);
    put(producer, 2);
    expect(producer.publish()).toBe(false);
  });

  test("sleep returns at once when a publish came before it, and after its time when none comes", () => {
    const { producer, consumer } = ring(4);
    expect(consumer.prepareWait()).toBe(true);
    put(producer, 1);
    expect(producer.publish()).toBe(true);
    consumer.sleep(Number.POSITIVE_INFINITY);
    expect(take(consumer)).toBe(1);
    expect(consumer.prepareWait()).toBe(true);
    const begin = performance.now();
    consumer.sleep(5);
    expect(performance.now() - begin).toBeGreaterThan(4);
    put(producer, 2);
    expect(producer.publish()).toBe(false);
  });
});

describe("two threads", () => {
  const slots = 256;
  const slotWords = 16;

  /** Runs the consumer of ring-worker.ts over `count` slots, which this thread fills in bursts of a changing size. */
  async function stress(count: number, sleeps: boolean, pause: (burst: number) => void) {
    const { buffer, producer } = ring(slots, slotWords, -1000);
    const worker = new Worker(new URL("./ring-worker.ts", import.meta.url));
    try {
      const done = new Promise<{ bad: number; sleeps: number }>((resolve, reject) => {
        worker.onmessage = (event) => resolve(event.data);
        worker.onerror = (event) => reject(new Error(event.message));
      });
      worker.postMessage({ buffer, byteOffset: 64, slots, slotWords, count, sleeps });
      let sent = 0;
      for (let burst = 0; sent < count; burst++) {
        const size = Math.min(1 + ((burst * 7) % 61), count - sent);
        for (let i = 0; i < size; ) {
          const at = producer.claim();
          if (at < 0) {
            if (producer.publish()) producer.wake();
            continue;
          }
          fill(producer.words, at, sent++);
          i++;
        }
        if (producer.publish()) producer.wake();
        pause(burst);
      }
      return await done;
    } finally {
      worker.postMessage("stop");
    }
  }

  /** Slot n: n, then words drawn from it, the last being their sum. */
  function fill(words: Int32Array, at: number, n: number): void {
    words[at] = n;
    let sum = n;
    for (let i = 1; i < slotWords - 1; i++) {
      const word = Math.imul(n + i, 0x9e3779b1);
      words[at + i] = word;
      sum = (sum + word) | 0;
    }
    words[at + slotWords - 1] = sum;
  }

  test("every slot arrives once, in order and whole, both sides polling", async () => {
    const result = await stress(500_000, false, () => {});
    expect(result).toEqual({ bad: 0, sleeps: 0 });
  }, 20_000);

  test("no wakeup is lost", async () => {
    // Let the consumer run dry and fall asleep in every burst or so.
    const result = await stress(40_000, true, (burst) => {
      for (let i = 0; i < (burst % 13) * 500; i++) Atomics.load(idle, 0);
      if (burst % 50 === 0) Bun.sleepSync(1);
    });
    expect(result.bad).toBe(0);
    expect(result.sleeps).toBeGreaterThan(10);
  }, 20_000);

  const idle = new Int32Array(new SharedArrayBuffer(4));
});
