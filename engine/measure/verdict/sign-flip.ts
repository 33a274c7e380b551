/**
 * The test: several metrics of the same launches at once, corrected for there being several.
 *
 * Where base and head are the same, swapping the two in a pair of launches changes nothing but the signs of that pair's
 * log ratios, those of all metrics together. So the scores of all pairs are summed again under every way of setting the
 * signs (a sign-flip permutation test, Fisher 1935), and what counts is the largest sum of any metric (Westfall & Young
 * 1993: "maxT", step down). Nothing is assumed about the noise but that pairs are independent: no normal distribution,
 * no equal variances, no independence of p99 from p50. Metrics that move together count nearly as one, where Holm would
 * count each.
 */
import type { Random } from "../../../queues/random.ts";
import { median } from "./location.ts";

/** Pairs up to which every way of setting the signs is looked at, 2^14 at most; above it, as many as this at random. */
const EXACT_PAIRS = 14;
const FLIPS = 10_000;
/**
 * Scores are cut off at so many times the median of their absolute values. For normal noise that is 1.35 standard
 * deviations, where Huber's estimator keeps 95 % of its efficiency: less, and clear effects need more pairs; more, and one
 * pair in which a neighbour worked decides alone.
 */
const CUT = 2;

/** Log ratios with their outliers cut off, scaled so that the sum of squares is 1; zeros where all are zero. */
export function scores(ratios: ArrayLike<number>): Float64Array {
  const sizes = Float64Array.from(ratios, Math.abs);
  // More than half may be exactly 0: histograms round.
  const cut = CUT * median(sizes.filter((size) => size > 0));
  const cutOff = Float64Array.from(ratios, (ratio) => Math.sign(ratio) * Math.min(Math.abs(ratio), cut));
  const norm = Math.hypot(...cutOff);
  return norm > 0 ? cutOff.map((score) => score / norm) : new Float64Array(ratios.length);
}

/** Adjusted p-values, one-sided, of each metric. */
export interface AdjustedP {
  /** That it is not above 0, and that it is not below. */
  readonly above: number[];
  readonly below: number[];
}

/**
 * How often signs thrown at random give as large a sum in any of the metrics that show no more than this one.
 *
 * @param rows scores of each metric; all have one length
 */
export function adjustedP(rows: readonly Float64Array[], random: Random): AdjustedP {
  const pairs = rows[0]?.length ?? 0;
  const sums = Float64Array.from(rows, (row) => row.reduce((sum, score) => sum + score, 0));
  const above = new Tally(sums, 1);
  const below = new Tally(sums, -1);
  const signs = new Int8Array(pairs).fill(1);
  const flip = (pair: number): void => {
    signs[pair] = -signs[pair];
    for (let m = 0; m < rows.length; m++) sums[m] += 2 * signs[pair] * rows[m][pair];
  };
  const count = (): void => {
    above.count(sums);
    below.count(sums);
  };

  let ways = 1;
  count();
  if (pairs <= EXACT_PAIRS) {
    // In the order of a Gray code, each way is one sign away from the last.
    for (; ways < 2 ** pairs; ways++) {
      flip(31 - Math.clz32(ways & -ways));
      count();
    }
  } else {
    for (; ways <= FLIPS; ways++) {
      let coins = 0;
      for (let pair = 0; pair < pairs; pair++) {
        if (pair % 32 === 0) coins = random.int32();
        if ((coins >>> (pair % 32)) & 1) flip(pair);
      }
      count();
    }
  }
  return { above: above.p(ways), below: below.p(ways) };
}

/** How often the largest sum of some metrics reaches what was observed, to one side. */
class Tally {
  private readonly side: 1 | -1;
  private readonly observed: Float64Array;
  /** Metrics from the one that shows least to the one that shows most. */
  private readonly order: Int32Array;
  private readonly reached: Float64Array;

  constructor(sums: Float64Array, side: 1 | -1) {
    this.side = side;
    // Sums are added up in another order later.
    this.observed = sums.map((sum) => side * sum - 1e-9);
    this.order = Int32Array.from(sums.keys()).sort((a, b) => this.observed[a] - this.observed[b]);
    this.reached = new Float64Array(sums.length);
  }

  count(sums: Float64Array): void {
    const { order, observed, reached, side } = this;
    let largest = -Infinity;
    for (let i = 0; i < order.length; i++) {
      const metric = order[i];
      const sum = side * sums[metric];
      if (sum > largest) largest = sum;
      if (largest >= observed[metric]) reached[metric]++;
    }
  }

  p(ways: number): number[] {
    const { order } = this;
    const p = Array.from(this.reached, (times) => times / ways);
    // Step down: no metric is more certain than one that shows more.
    for (let i = order.length - 2; i >= 0; i--) p[order[i]] = Math.max(p[order[i]], p[order[i + 1]]);
    return p;
  }
}
