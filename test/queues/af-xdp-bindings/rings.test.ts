import { describe, expect, test } from "bun:test";
import { CompletionRing, FillRing, type RingMemory, RxRing, TxRing } from "af-xdp-bindings";
import fc from "fast-check";

const SIZE = 8;
const PRODUCER = 16;
const CONSUMER = 32;
const FLAGS = 34;
const DESC = 48;

/** A ring in memory of its own, and what the kernel sees of it. Both cursors start at `cursor`. */
function fakeRing(cursor: number) {
  const words = new Int32Array(new SharedArrayBuffer(1024), 256, 128);
  words[PRODUCER] = cursor;
  words[CONSUMER] = cursor;
  const memory: RingMemory = {
    buffer: words.buffer as SharedArrayBuffer,
    byteOffset: words.byteOffset,
    byteLength: words.byteLength,
    size: SIZE,
    producer: PRODUCER * 4,
    consumer: CONSUMER * 4,
    flags: FLAGS * 4,
    desc: DESC * 4,
  };
  return { words, memory };
}

/** Cursors from which a few steps pass 2^31, where int32 turns negative, and 2^32, where they wrap. */
const CURSORS = [0, 0x7fffffff - 3, -3, 0x12345678];

describe.each(CURSORS)("rings from cursor %d", (cursor) => {
  test("RX: entries in order, release frees exactly so many", () => {
    const { words, memory } = fakeRing(cursor);
    const rx = new RxRing(memory, -2048);
    expect(rx.available(8)).toBe(0);
    for (let step = 0; step < 5; step++) {
      for (let i = 0; i < 3; i++) {
        const word = DESC + ((words[PRODUCER] + i) & 7) * 4;
        words.set([step * 2048 + i * 512, 0, 60 + i, i], word);
      }
      words[PRODUCER] = (words[PRODUCER] + 3) | 0;
      expect(rx.available(2)).toBe(2);
      expect(rx.available(8)).toBe(3);
      expect([0, 1, 2].map((i) => rx.address(i))).toEqual([0, 512, 1024].map((at) => step * 2048 + at));
      expect([0, 1, 2].map((i) => rx.chunk(i))).toEqual([1, 1, 1].map((n) => n * step * 2048));
      expect([0, 1, 2].map((i) => rx.length(i))).toEqual([60, 61, 62]);
      expect([0, 1, 2].map((i) => rx.options(i))).toEqual([0, 1, 2]);
      rx.release(3);
      expect(words[CONSUMER]).toBe((cursor + 3 * (step + 1)) | 0);
      expect(rx.available(8)).toBe(0);
    }
  });

  test("completion: as RX, with addresses alone", () => {
    const { words, memory } = fakeRing(cursor);
    const completion = new CompletionRing(memory);
    for (let step = 0; step < 5; step++) {
      for (let i = 0; i < 3; i++) words[DESC + ((words[PRODUCER] + i) & 7) * 2] = step * 10 + i;
      words[PRODUCER] = (words[PRODUCER] + 3) | 0;
      expect(completion.available(64)).toBe(3);
      expect([0, 1, 2].map((i) => completion.address(i))).toEqual([0, 1, 2].map((i) => step * 10 + i));
      completion.release(3);
      expect(words[CONSUMER]).toBe((cursor + 3 * (step + 1)) | 0);
    }
  });

  test("fill: never more than the ring holds, published in one step", () => {
    const { words, memory } = fakeRing(cursor);
    const fill = new FillRing(memory);
    expect(fill.reserve(100)).toBe(8);
    for (let i = 0; i < 6; i++) fill.set(i, i * 2048);
    expect(words[PRODUCER]).toBe(cursor);
    fill.submit(6);
    expect(words[PRODUCER]).toBe((cursor + 6) | 0);
    expect([fill.reserve(2), fill.reserve(3)]).toEqual([2, 2]);
    words[CONSUMER] = (cursor + 5) | 0;
    expect(fill.reserve(100)).toBe(7);
    for (let i = 0; i < 6; i++) expect(words[DESC + ((cursor + i) & 7) * 2]).toBe(i * 2048);
    expect(fill.needsWakeup()).toBe(false);
    words[FLAGS] = 1;
    expect(fill.needsWakeup()).toBe(true);
  });

  test("TX: descriptors as given, pending until the kernel takes them", () => {
    const { words, memory } = fakeRing(cursor);
    const tx = new TxRing(memory);
    expect(tx.reserve(5)).toBe(5);
    for (let i = 0; i < 5; i++) tx.set(i, 4096 + i, 100 + i, i & 3);
    tx.submit(5);
    for (let i = 0; i < 5; i++) {
      const word = DESC + ((cursor + i) & 7) * 4;
      expect([...words.subarray(word, word + 4)]).toEqual([4096 + i, 0, 100 + i, i & 3]);
    }
    expect([tx.reserve(8), tx.pending()]).toEqual([3, 5]);
    words[CONSUMER] = (cursor + 5) | 0;
    expect([tx.pending(), tx.reserve(8)]).toEqual([0, 8]);
    words[FLAGS] = 1;
    expect(tx.needsWakeup()).toBe(true);
  });
});

test("RX in unaligned mode: chunk in the low word, offset in the upper half of the high word", () => {
  const { words, memory } = fakeRing(0);
  words.set([5003, 266 << 16, 60, 0], DESC);
  words.set([0x7ffff000, 0xf000 << 16, 60, 0], DESC + 4);
  words[PRODUCER] = 2;
  const rx = new RxRing(memory, -1);
  expect(rx.available(2)).toBe(2);
  expect([rx.address(0), rx.chunk(0)]).toEqual([5269, 5003]);
  expect([rx.address(1), rx.chunk(1)]).toEqual([0x7ffff000 + 0xf000, 0x7ffff000]);
});

test("a second view of a ring goes on where the first one is", () => {
  const { words, memory } = fakeRing(-2);
  const first = new FillRing(memory);
  expect(first.reserve(3)).toBe(3);
  first.submit(3);
  const second = new FillRing(structuredClone(memory));
  expect(second.reserve(8)).toBe(5);
  second.set(0, 777);
  second.submit(1);
  expect(words[DESC + 1 * 2]).toBe(777);
});

test("a producer and a consumer on one ring: nothing is lost, doubled or reordered", () => {
  const step = fc.record({ produce: fc.nat(SIZE), consume: fc.nat(SIZE) });
  fc.assert(
    fc.property(fc.integer(), fc.array(step, { maxLength: 60 }), (cursor, steps) => {
      const { memory } = fakeRing(cursor);
      const tx = new TxRing(memory);
      const rx = new RxRing(memory, -1);
      let next = 0;
      let expected = 0;
      for (const { produce, consume } of steps) {
        const room = tx.reserve(produce);
        expect(room).toBe(Math.min(produce, SIZE - (next - expected)));
        for (let i = 0; i < room; i++) tx.set(i, next++, 0, 0);
        tx.submit(room);
        // The cache may hide what came after the last look, but never shows what is not there.
        const ready = rx.available(consume);
        expect(ready).toBeLessThanOrEqual(next - expected);
        if (consume > 0 && next > expected) expect(ready).toBeGreaterThan(0);
        for (let i = 0; i < ready; i++) expect(rx.address(i)).toBe(expected++);
        rx.release(ready);
      }
    }),
  );
});
