/** What a comparison takes from a trial, and how pairs of launches become log ratios. */
import type { Histogram, JsHistogram } from "hdr-histogram-js";
import type { Trial } from "../trial.ts";
import { median } from "../verdict/location.ts";
import type { MetricRule } from "../verdict/verdict.ts";

/** Latencies by name, percent. */
const PERCENT = { p50: 50, p90: 90, p99: 99, "p99.9": 99.9 } as const;
export type MetricName = keyof typeof PERCENT | "throughput";
export const METRIC_NAMES = [...(Object.keys(PERCENT) as (keyof typeof PERCENT)[]), "throughput"] as const;

/** Requests beyond a quantile that a trial must have for the quantile to say something. */
const BEYOND_MIN = 5;

/** A trial's values. */
export type Figures = Record<MetricName, number>;

/**
 * A trial's quantiles (ns) and answers a second. A request without a right answer in time counts as one that took the
 * timeout: what loses its slow requests is not fast.
 */
export function figuresOf(trial: Trial): Figures {
  const { latency, parameters, achievedRate } = trial;
  const failed = trial.lost + trial.wrong;
  const at = (percent: number): number => quantile(latency, percent, failed, parameters.timeoutMs * 1e6);
  return { p50: at(50), p90: at(90), p99: at(99), "p99.9": at(99.9), throughput: achievedRate };
}

/**
 * A quantile of a histogram and of `failed` more, each of which took `failedNs`; 0 of nothing. Between the values that
 * were recorded it is interpolated (a mid-quantile: Parzen 2004), because the clock has steps of 10 ns or more, and half
 * a microsecond in such steps could change by 2 % at least, or not at all.
 */
export function quantile(histogram: Histogram, percent: number, failed: number, failedNs: number): number {
  const all = histogram.totalCount + failed;
  if (all === 0) return 0;
  const rank = (percent / 100) * all;
  if (rank > histogram.totalCount) return failedNs;
  const values = (histogram as JsHistogram).recordedValuesIterator;
  values.reset();
  // The last value, and the requests below the middle of those that have it.
  let [value, middle] = [0, 0];
  while (values.hasNext()) {
    const { valueIteratedTo, countAtValueIteratedTo, totalCountToThisValue } = values.next();
    const here = totalCountToThisValue - countAtValueIteratedTo / 2;
    if (here >= rank) {
      if (middle === 0) return valueIteratedTo;
      return value + ((valueIteratedTo - value) * (rank - middle)) / (here - middle);
    }
    value = valueIteratedTo;
    middle = here;
  }
  return value;
}

/** Whether a trial of so many requests tells the metric. */
export function tells(metric: MetricName, requests: number): boolean {
  return metric === "throughput" || requests * (1 - PERCENT[metric] / 100) >= BEYOND_MIN;
}

/** A trial of base and one of head, right after each other in either order. */
export interface TrialPair {
  readonly base: Figures;
  readonly head: Figures;
}

/**
 * ln(head / base) of each metric, the median over a pair of launches' trials. A trial pair in which a side has answered
 * nothing counts for nothing in the metric.
 */
export function logRatios(rules: readonly MetricRule[], trials: readonly TrialPair[]): number[] {
  return rules.map(({ name }) => {
    const metric = name as MetricName;
    const ratios = trials.map(({ base, head }) => Math.log(head[metric] / base[metric]));
    return median(ratios.filter(Number.isFinite));
  });
}
