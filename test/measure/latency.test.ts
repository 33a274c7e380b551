import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  bucketValue,
  LATENCY_BUCKETS,
  LATENCY_MAX_NS,
  LatencyCounts,
  toHistogram,
} from "../../engine/measure/latency.ts";

/** Index of the only bucket that counts. */
function bucketOf(ns: number): number {
  const latency = new LatencyCounts();
  latency.record(ns);
  expect(latency.counts.reduce((sum, count) => sum + count)).toBe(1);
  return latency.counts.indexOf(1);
}

describe("latency counts", () => {
  test("every value lies within 1/1024 of its bucket's middle", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: LATENCY_MAX_NS }), (ns) => {
        expect(Math.abs(bucketValue(bucketOf(ns)) - ns)).toBeLessThanOrEqual(ns / 1024);
      }),
    );
  });

  test("buckets are in order, without gap, to the last", () => {
    for (let i = 1; i < LATENCY_BUCKETS; i++) expect(bucketValue(i)).toBeGreaterThan(bucketValue(i - 1));
    for (const edge of [0, 1023, 1024, 2047, 2048, 4095, 4096, 2 ** 20 - 1]) {
      expect(bucketOf(edge + 1) - bucketOf(edge)).toBeLessThanOrEqual(1);
    }
    expect(bucketOf(LATENCY_MAX_NS)).toBe(LATENCY_BUCKETS - 1);
  });

  test("what is out of range counts at its end", () => {
    expect(bucketOf(-5)).toBe(0);
    expect(bucketOf(1e12)).toBe(LATENCY_BUCKETS - 1);
    expect(bucketOf(99.9)).toBe(99);
  });

  test("buckets are those of an HDR histogram of 3 digits: none is lost on the way", () => {
    const counts = new Float64Array(LATENCY_BUCKETS).fill(1);
    const histogram = toHistogram(counts);
    expect(histogram.totalCount).toBe(LATENCY_BUCKETS);
    expect(histogram.outputPercentileDistribution(1).length).toBeGreaterThan(0);
    for (const i of [0, 1, 2047, 2048, 3000, LATENCY_BUCKETS - 2]) {
      const percent = ((i + 1) / LATENCY_BUCKETS) * 100;
      expect(Math.abs(histogram.getValueAtPercentile(percent) - bucketValue(i))).toBeLessThanOrEqual(
        bucketValue(i) / 1024,
      );
    }
  });

  test("quantiles of what came after an earlier copy", () => {
    const latency = new LatencyCounts();
    for (let i = 0; i < 1000; i++) latency.record(1_000_000);
    const before = latency.counts.slice();
    for (let ns = 1; ns <= 100; ns++) latency.record(ns);
    const histogram = toHistogram(latency.counts, before);
    expect(histogram.totalCount).toBe(100);
    expect(histogram.getValueAtPercentile(50)).toBe(50);
    expect(histogram.maxValue).toBe(100);
  });
});
