import { describe, expect, test } from "bun:test";
import { Impairment, type ImpairmentOptions } from "../../queues/impairment.ts";

const FRAME = 128;

interface Arrival {
  id: number;
  at: number;
  bits: number;
}

/** Frame `id` of `length` bytes: its number, then zeroes, so that flipped bits can be counted. */
function run(options: Omit<ImpairmentOptions, "seed"> & { seed?: number }, frames: number, everyMs = 1, length = 100) {
  const impairment = new Impairment({ seed: 1, ...options }, FRAME);
  const arrivals: Arrival[] = [];
  const frame = new Uint8Array(8 + length);
  const view = new DataView(frame.buffer, 8);
  const drain = (now: number) => {
    for (let slot = impairment.take(now); slot >= 0; slot = impairment.take(now)) {
      expect(impairment.length[slot]).toBe(length);
      const bytes = impairment.bytes.slice(slot * FRAME, slot * FRAME + length);
      const bits = bytes.slice(4).reduce((sum, byte) => sum + byte.toString(2).replaceAll("0", "").length, 0);
      arrivals.push({ id: new DataView(bytes.buffer).getInt32(0), at: now, bits });
    }
  };
  for (let id = 0; id < frames; id++) {
    // Deliver at the very times at which frames are due.
    while (impairment.nextDue() <= id * everyMs) drain(impairment.nextDue());
    view.setInt32(0, id);
    impairment.offer(frame, 8, length, id * everyMs);
  }
  while (impairment.nextDue() < Number.POSITIVE_INFINITY) drain(impairment.nextDue());
  return { impairment, arrivals };
}

const ids = (arrivals: Arrival[]) => arrivals.map(({ id }) => id);
const inOrder = (count: number) => Array.from({ length: count }, (_, i) => i);

/** Within five standard deviations of a binomial. */
function expectShare(count: number, trials: number, probability: number): void {
  const deviation = Math.sqrt(trials * probability * (1 - probability));
  expect(Math.abs(count - trials * probability)).toBeLessThan(5 * deviation);
  expect(count).toBeGreaterThan(0);
}

test("without impairments every frame comes at once, in order", () => {
  const { arrivals } = run({}, 100);
  expect(ids(arrivals)).toEqual(inOrder(100));
  expect(arrivals.every(({ id, at, bits }) => at === id && bits === 0)).toBe(true);
});

test("nothing is due before its time", () => {
  const impairment = new Impairment({ seed: 1, delayMs: 5 }, FRAME);
  expect(impairment.take(1e9)).toBe(-1);
  impairment.offer(new Uint8Array(60), 0, 60, 10);
  expect(impairment.nextDue()).toBe(15);
  expect(impairment.take(14.999)).toBe(-1);
  expect(impairment.take(15)).toBeGreaterThanOrEqual(0);
  expect(impairment.nextDue()).toBe(Number.POSITIVE_INFINITY);
});

describe("determinism", () => {
  const everything = {
    loss: 0.1,
    duplicate: 0.1,
    corrupt: 0.1,
    reorder: 0.1,
    reorderMs: 5,
    delayMs: 10,
    jitterMs: 3,
    rateBps: 1e6,
  };
  test("the same seed and times, the same fates", () => {
    expect(run(everything, 2000).arrivals).toEqual(run(everything, 2000).arrivals);
  });
  test("another seed, others", () => {
    expect(run({ ...everything, seed: 2 }, 2000).arrivals).not.toEqual(run(everything, 2000).arrivals);
  });
  test("an impairment more leaves the lots of the others", () => {
    const lossOnly = new Set(ids(run({ loss: 0.1 }, 2000).arrivals));
    const more = new Set(ids(run({ ...everything, corrupt: 0 }, 2000).arrivals));
    expect([...more].sort((a, b) => a - b)).toEqual([...lossOnly].sort((a, b) => a - b));
  });
});

test("loss", () => {
  const { impairment, arrivals } = run({ loss: 0.2 }, 5000);
  expectShare(impairment.lost, 5000, 0.2);
  expect(arrivals.length).toBe(5000 - impairment.lost);
  expect(run({ loss: 1 }, 50).arrivals).toEqual([]);
});

test("duplication", () => {
  const { impairment, arrivals } = run({ duplicate: 0.1 }, 5000);
  expectShare(impairment.duplicated, 5000, 0.1);
  expect(arrivals.length).toBe(5000 + impairment.duplicated);
  expect(new Set(ids(arrivals)).size).toBe(5000);
  expect(run({ duplicate: 1 }, 3).arrivals.map(({ id }) => id)).toEqual([0, 0, 1, 1, 2, 2]);
});

test("corruption flips one bit, anywhere", () => {
  const { impairment, arrivals } = run({ corrupt: 0.3 }, 5000);
  expectShare(impairment.corrupted, 5000, 0.3);
  const inBody = arrivals.filter(({ bits }) => bits === 1).length;
  expectShare(inBody, impairment.corrupted, 96 / 100);
  const inNumber = arrivals.filter(({ id, at }) => id !== at).length;
  expect(inBody + inNumber).toBe(impairment.corrupted);
});

test("delay and jitter: uniform, never reordering", () => {
  const { arrivals } = run({ delayMs: 20, jitterMs: 0.5 }, 5000);
  expect(ids(arrivals)).toEqual(inOrder(5000));
  const extra = arrivals.map(({ id, at }) => at - id - 20);
  expect(Math.min(...extra)).toBeWithin(0, 0.01);
  expect(Math.max(...extra)).toBeWithin(0.49, 0.5);
  const mean = extra.reduce((a, b) => a + b) / extra.length;
  expect(Math.abs(mean - 0.25)).toBeLessThan(0.01);
  // Jitter longer than the interval queues frames up behind the slowest, and still keeps the order.
  expect(ids(run({ delayMs: 20, jitterMs: 30 }, 1000).arrivals)).toEqual(inOrder(1000));
});

test("reordering: the drawn frames come reorderMs late, the others do not wait for them", () => {
  const { impairment, arrivals } = run({ delayMs: 2, reorder: 0.1, reorderMs: 2.5 }, 5000);
  expectShare(impairment.reordered, 5000, 0.1);
  const late = arrivals.filter(({ id, at }) => at === id + 4.5).length;
  expect(late).toBe(impairment.reordered);
  expect(arrivals.filter(({ id, at }) => at === id + 2).length).toBe(5000 - late);
  expect(ids(arrivals)).not.toEqual(inOrder(5000));
  expect(ids(arrivals).sort((a, b) => a - b)).toEqual(inOrder(5000));
});

test("rate: frames leave one after the other", () => {
  // 100 bytes at 400 kbit/s take 2 ms; offered every millisecond they queue.
  const { arrivals } = run({ rateBps: 400_000 }, 100);
  expect(arrivals.map(({ at }) => at)).toEqual(inOrder(100).map((i) => 2 * (i + 1)));
  // Offered slower than the link, each takes its own time only.
  expect(run({ rateBps: 400_000 }, 10, 5).arrivals.map(({ at, id }) => at - 5 * id)).toEqual(new Array(10).fill(2));
});

test("the limit bounds the frames under way", () => {
  const { impairment, arrivals } = run({ rateBps: 400_000, limit: 8 }, 1000);
  expect(impairment.overflowed).toBeGreaterThan(400);
  expect(arrivals.length + impairment.overflowed).toBe(1000);
  const queued = arrivals.map(({ id, at }) => at - id);
  expect(Math.max(...queued)).toBeLessThanOrEqual(16);
});

test("what is no probability, duration, rate or limit is refused", () => {
  for (const options of [
    { loss: 1.5 },
    { corrupt: -1 },
    { duplicate: Number.NaN },
    { delayMs: -1 },
    { jitterMs: 1 / 0 },
  ])
    expect(() => new Impairment({ seed: 1, ...options }, FRAME)).toThrow(RangeError);
  expect(() => new Impairment({ seed: 1, rateBps: 0 }, FRAME)).toThrow("rateBps 0");
  expect(() => new Impairment({ seed: 1, limit: 0 }, FRAME)).toThrow("limit 0");
});
