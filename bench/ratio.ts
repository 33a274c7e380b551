/** Figures over interleaved rounds, and how two of them compare. */

export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** One figure, round by round. */
export class Rounds {
  readonly values: number[] = [];

  add(value: number): void {
    this.values.push(value);
  }

  summary(): Summary {
    return summarize(this.values);
  }
}

/** Median (the mean of the middle two when even), least and greatest. NaN without values. */
export function summarize(values: readonly number[]): Summary {
  if (values.length === 0) return { median: Number.NaN, min: Number.NaN, max: Number.NaN };
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  return { median, min: sorted[0], max: sorted[sorted.length - 1] };
}

/**
 * Ours divided by theirs, round by round: what the machine does to a whole round cancels out.
 * Throws RangeError where the rounds do not pair up.
 */
export function ratio(ours: Rounds, theirs: Rounds): Summary {
  if (ours.values.length !== theirs.values.length)
    throw new RangeError(`${ours.values.length} rounds against ${theirs.values.length}`);
  return summarize(ours.values.map((value, round) => value / theirs.values[round]));
}
