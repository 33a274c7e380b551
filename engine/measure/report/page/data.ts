/** What the page's script is given, ready to be drawn. Latencies in microseconds, times in seconds. */

/** Points of a curve: x ascending. */
export interface Curve {
  readonly x: readonly number[];
  readonly base: readonly (number | null)[];
  readonly head: readonly (number | null)[];
}

export interface PageData {
  /** x: 1 / (1 - quantile), so that each decade is another nine; y: the latency. */
  readonly percentiles: Curve;
  /** A metric's name, its unit, and its trials: x numbers them, as they ran in turn. */
  readonly strips: readonly { readonly metric: string; readonly unit: string; readonly curve: Curve }[];
  /** Numbers of trials at which a new pair of launches begins. */
  readonly launches: readonly number[];
  /** Of each metric, the change in each pair of launches, percent, and what matters. */
  readonly changes: readonly {
    readonly metric: string;
    readonly minimum: number;
    readonly percent: readonly number[];
  }[];
  readonly time: {
    readonly x: readonly number[];
    readonly side: readonly ("base" | "head")[];
    readonly p50: readonly number[];
    readonly p99: readonly number[];
    readonly max: readonly number[];
    /** When, and how many milliseconds. */
    readonly hiccups: readonly { readonly t: number; readonly ms: number }[];
  };
}
