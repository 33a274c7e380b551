/**
 * Latency counts of a hot loop: the buckets of an HDR histogram of 3 digits in shared memory, one writer, an add a value.
 * A bucket is as wide as 1/1024 of its values at most. Readers copy the counts and subtract an earlier copy.
 */
import { build, type Histogram } from "hdr-histogram-js";

/** Buckets a power of two: 2^10, half of the 2048 that HDR histograms of 3 digits have in their first bucket. */
const SUB_BITS = 10;
const SUB = 1 << SUB_BITS;
/** The largest value, nanoseconds: 2.1 s. Larger ones count there. */
export const LATENCY_MAX_NS = 2 ** 31 - 1;
/** Buckets in all: values below 2048 have one each, then 1024 for each of the powers 2^11 to 2^30. */
export const LATENCY_BUCKETS = (31 - SUB_BITS) * SUB + SUB;
export const LATENCY_BYTES = LATENCY_BUCKETS * 8;

export class LatencyCounts {
  /** float64, exact to 2^53. */
  readonly counts: Float64Array;

  /** Over `buffer` from `byteOffset`, LATENCY_BYTES long. */
  constructor(buffer: ArrayBufferLike = new ArrayBuffer(LATENCY_BYTES), byteOffset = 0) {
    this.counts = new Float64Array(buffer, byteOffset, LATENCY_BUCKETS);
  }

  /** Counts a value in nanoseconds. Below 0 counts as 0: two CPUs' clocks may differ by as much. */
  record(ns: number): void {
    const value = ns < 0 ? 0 : ns > LATENCY_MAX_NS ? LATENCY_MAX_NS : ns | 0;
    const shift = value < SUB ? 0 : 31 - Math.clz32(value) - SUB_BITS;
    this.counts[(shift << SUB_BITS) + (value >> shift)]++;
  }
}

/** Middle of a bucket's values, nanoseconds. */
export function bucketValue(index: number): number {
  if (index < 2 * SUB) return index;
  const shift = (index >> SUB_BITS) - 1;
  return (index - (shift << SUB_BITS) + 0.5) * 2 ** shift;
}

/** An empty HDR histogram of values in nanoseconds, to 3 digits. */
export function newHistogram(): Histogram {
  return build({
    lowestDiscernibleValue: 1,
    highestTrackableValue: LATENCY_MAX_NS,
    numberOfSignificantValueDigits: 3,
    autoResize: false,
  });
}

/** What a stretch of counts tells, nanoseconds; all 0 where it is empty. */
export interface Quantiles {
  readonly count: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/** Quantiles of what was counted between two copies: two passes without a histogram, for whoever looks on while it runs. */
export function quantilesOf(counts: Float64Array, before: Float64Array): Quantiles {
  let count = 0;
  for (let i = 0; i < LATENCY_BUCKETS; i++) count += counts[i] - before[i];
  const [half, most] = [count * 0.5, count * 0.99];
  let [p50, p99, max, sum] = [-1, -1, 0, 0];
  for (let i = 0; i < LATENCY_BUCKETS && sum < count; i++) {
    const here = counts[i] - before[i];
    if (here === 0) continue;
    sum += here;
    max = i;
    if (p50 < 0 && sum >= half) p50 = i;
    if (p99 < 0 && sum >= most) p99 = i;
  }
  if (count === 0) return { count, p50: 0, p99: 0, max: 0 };
  return { count, p50: bucketValue(p50), p99: bucketValue(p99), max: bucketValue(max) };
}

/** The counts, less those of an earlier copy, as an HDR histogram: for quantiles and reports. */
export function toHistogram(counts: Float64Array, before?: Float64Array): Histogram {
  const histogram = newHistogram();
  for (let i = 0; i < LATENCY_BUCKETS; i++) {
    const count = counts[i] - (before === undefined ? 0 : before[i]);
    if (count > 0) histogram.recordValueWithCount(Math.floor(bucketValue(i)), count);
  }
  return histogram;
}
