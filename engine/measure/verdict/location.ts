/**
 * Where a few paired differences lie, without assuming a normal distribution: the Hodges-Lehmann estimate and its
 * interval from Walsh averages (Hollander, Wolfe & Chicken, "Nonparametric Statistical Methods", 3.2 and 3.3). All that
 * is assumed is that the differences are independent and symmetric about their location. The estimate holds while fewer
 * than 29 % of them are off.
 */

/** The middle one, or the mean of the two in the middle; NaN of nothing. */
export function median(values: ArrayLike<number>): number {
  const sorted = Float64Array.from(values).sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** Means of all pairs of values, each value with itself too, in ascending order. */
export function walshAverages(values: ArrayLike<number>): Float64Array {
  const n = values.length;
  const averages = new Float64Array((n * (n + 1)) / 2);
  let at = 0;
  for (let i = 0; i < n; i++) for (let j = i; j < n; j++) averages[at++] = (values[i] + values[j]) / 2;
  return averages.sort();
}

/** Distributions that were computed, by n. */
const distributions: Float64Array[] = [];

/**
 * P(W <= w) for w from 0 to n(n+1)/2, W being Wilcoxon's sum of the ranks with a positive sign where every sign is a
 * coin's; as many Walsh averages lie above the location.
 */
export function signedRankDistribution(n: number): Float64Array {
  if (distributions[n] !== undefined) return distributions[n];
  const top = (n * (n + 1)) / 2;
  const mass = new Float64Array(top + 1);
  mass[0] = 1;
  for (let rank = 1; rank <= n; rank++) {
    for (let w = top; w >= 0; w--) mass[w] = (mass[w] + (w >= rank ? mass[w - rank] : 0)) / 2;
  }
  for (let w = 1; w <= top; w++) mass[w] += mass[w - 1];
  distributions[n] = mass;
  return mass;
}

export interface Location {
  /** The median of the Walsh averages. */
  readonly estimate: number;
  /** Bounds, each with a probability of at most `tail` that the location lies beyond it; infinite where n is too small. */
  readonly lower: number;
  readonly upper: number;
}

export function locate(values: ArrayLike<number>, tail: number): Location {
  const averages = walshAverages(values);
  const distribution = signedRankDistribution(values.length);
  // The most averages of which so few lie on one side only with probability `tail`.
  let beyond = 0;
  while (beyond < averages.length && distribution[beyond] <= tail) beyond++;
  return {
    estimate: median(averages),
    lower: beyond === 0 ? -Infinity : averages[beyond - 1],
    upper: beyond === 0 ? Infinity : averages[averages.length - beyond],
  };
}
