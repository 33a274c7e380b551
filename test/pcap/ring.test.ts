/** The ring of captures: blocks come out whole and in order, whatever their lengths, and never more than it holds. */
import { describe, expect, test } from "bun:test";
import { Worker } from "node:worker_threads";
import fc from "fast-check";
import {
  ACCEPTED,
  CaptureRingReader,
  CaptureRingWriter,
  createCaptureRing,
  DROPPED,
  RECEIVED,
  RING_ATTACHED,
  RING_BYTES_MIN,
  RING_DETACHED,
  RING_NEW,
} from "../../engine/capture-ring.ts";

/** Words of a block: its number, all over. */
function put(ring: CaptureRingWriter, words: number, number: number): boolean {
  const at = ring.claim(words * 4);
  if (at < 0) return false;
  ring.words.fill(number, at >> 2, (at >> 2) + words);
  return true;
}

describe("a ring", () => {
  test("gives back what was written, cut nowhere, up to its size", () => {
    const step = fc.oneof(
      { weight: 4, arbitrary: fc.integer({ min: 1, max: 1500 }) },
      { weight: 1, arbitrary: fc.constantFrom(4096, 4095, 1) },
      { weight: 2, arbitrary: fc.constant(0) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const descriptor = createCaptureRing(RING_BYTES_MIN, 1);
        const writer = new CaptureRingWriter(descriptor);
        const reader = new CaptureRingReader(descriptor);
        const written: number[] = [];
        const read: number[] = [];
        let unread = 0;
        const drain = (): void => {
          for (let chunk = reader.take(); chunk.length > 0; chunk = reader.take()) {
            read.push(...new Int32Array(chunk.buffer));
          }
          unread = 0;
        };
        const longest = Math.max(...steps);
        steps.forEach((words, number) => {
          if (words === 0) {
            writer.publish();
            drain();
            expect(read).toEqual(written);
          } else if (put(writer, words, number)) {
            for (let i = 0; i < words; i++) written.push(number);
            unread += words * 4;
            expect(unread).toBeLessThanOrEqual(RING_BYTES_MIN);
          } else {
            // Refused only where it does not fit beside what is unread, and what a lap's end has wasted: less than a block.
            expect(unread + (words + longest) * 4).toBeGreaterThan(RING_BYTES_MIN);
          }
        });
        writer.publish();
        drain();
        expect(read).toEqual(written);
      }),
      { numRuns: 150 },
    );
  });

  test("shows nothing before it is published", () => {
    const descriptor = createCaptureRing(RING_BYTES_MIN, 1);
    const writer = new CaptureRingWriter(descriptor);
    const reader = new CaptureRingReader(descriptor);
    put(writer, 5, 1);
    expect(reader.take()).toHaveLength(0);
    writer.publish();
    expect(reader.take()).toHaveLength(20);
  });

  test("tells who uses it, and counts by interface", () => {
    const descriptor = createCaptureRing(RING_BYTES_MIN, 2);
    const writer = new CaptureRingWriter(descriptor);
    const reader = new CaptureRingReader(descriptor);
    expect(reader.state).toBe(RING_NEW);
    writer.setState(RING_ATTACHED);
    expect(reader.state).toBe(RING_ATTACHED);
    writer.setState(RING_DETACHED);
    expect(reader.state).toBe(RING_DETACHED);
    writer.counts.set([3, 2, 1], 3);
    expect([RECEIVED, ACCEPTED, DROPPED]).toEqual([0, 1, 2]);
    expect([reader.countsOf(0), reader.countsOf(1)]).toEqual([
      { received: 0, accepted: 0, dropped: 0 },
      { received: 3, accepted: 2, dropped: 1 },
    ]);
  });

  test("is of a size it can have", () => {
    for (const bytes of [0, 1000, RING_BYTES_MIN / 2, RING_BYTES_MIN + 4, 2 ** 30]) {
      expect(() => createCaptureRing(bytes, 1)).toThrow(RangeError);
    }
  });

  test("between two threads", async () => {
    const descriptor = createCaptureRing(RING_BYTES_MIN, 1);
    const reader = new CaptureRingReader(descriptor);
    const worker = new Worker(new URL("./ring-worker.ts", import.meta.url), { workerData: descriptor });
    const failed = new Promise<never>((_, reject) => worker.on("error", reject));
    let expected = 0;
    let bytes = 0;
    for (let last = false; ; ) {
      last = reader.state === RING_DETACHED;
      const chunk = reader.take();
      if (chunk.length === 0 && last) break;
      if (chunk.length === 0) await Promise.race([Bun.sleep(0), failed]);
      const words = new Int32Array(chunk.buffer);
      // Each block: its length in words, its number, and that number again.
      for (let at = 0; at < words.length; at += words[at]) {
        const length = words[at];
        if (words[at + 1] !== expected || words[at + length - 1] !== expected) {
          throw new Error(`block ${words[at + 1]}…${words[at + length - 1]} where ${expected} should be`);
        }
        expected++;
      }
      bytes += chunk.length;
    }
    expect(expected).toBe(reader.countsOf(0).received);
    expect(expected).toBeGreaterThan(10_000);
    expect(bytes).toBeGreaterThan(100 * RING_BYTES_MIN);
    await worker.terminate();
  });
});
