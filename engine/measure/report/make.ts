/** From a comparison that has ended to its report. */
import type { Compared } from "../compare/compare.ts";
import type { MetricName } from "../compare/figures.ts";
import type { Environment } from "../environment.ts";
import { encodeHistogram } from "../trial.ts";
import { median } from "../verdict/location.ts";
import type { Finding } from "../verdict/verdict.ts";
import {
  COMPARISON_SCHEMA,
  COMPARISON_VERSION,
  type ComparisonReport,
  type MetricRecord,
  type SideInfo,
  type SideName,
} from "./data.ts";
import { sentence } from "./text.ts";

/** What a comparison itself does not know. */
export interface Circumstances {
  readonly sides: Readonly<Record<SideName, SideInfo>>;
  readonly workload: string;
  readonly budgetSeconds: number;
  readonly seed: number;
  readonly environment: Environment;
  readonly notes: readonly string[];
}

/** More time than this is not sensible to wait for. */
const SENSIBLE_SECONDS = 4 * 3600;

export function makeReport(compared: Compared, circumstances: Circumstances): ComparisonReport {
  const { verdict, invalid, trials, latency, seconds } = compared;
  const { sides, notes, ...rest } = circumstances;
  const metrics = verdict.findings.map((finding, m) => metricRecord(compared, finding, m));
  const said = { outcome: verdict.outcome, metrics, pairs: verdict.pairs, pairsInvalid: invalid?.pairs ?? 0, seconds };
  return {
    schema: COMPARISON_SCHEMA,
    version: COMPARISON_VERSION,
    ...said,
    sentence: sentence(said),
    base: sides.base,
    head: sides.head,
    ...rest,
    trials,
    latency: { base: encodeHistogram(latency.base), head: encodeHistogram(latency.head) },
    notes: [
      ...notes,
      ...(invalid === null ? [] : [`${invalid.pairs} pairs of launches do not count: ${invalid.reason}`]),
    ],
  };
}

function metricRecord({ pairs, trials, verdict, seconds }: Compared, finding: Finding, m: number): MetricRecord {
  const { metric, outcome, change, low, high, p, pairsNeeded } = finding;
  const of = (side: SideName): number =>
    median(trials.filter((t) => t.side === side && t.invalid === null).map((t) => t[metric.name as MetricName]));
  const more = (pairsNeeded - verdict.pairs) * (seconds / Math.max(1, verdict.pairs));
  return {
    metric: metric.name,
    better: metric.better,
    watched: metric.watched === true,
    outcome,
    minimum: metric.minimum,
    base: of("base"),
    head: of("head"),
    change,
    low: Number.isFinite(low) && Number.isFinite(high) ? low : null,
    high: Number.isFinite(low) && Number.isFinite(high) ? high : null,
    p,
    moreSeconds: outcome === "inconclusive" && more < SENSIBLE_SECONDS ? Math.max(more, 0) : null,
    logRatios: pairs.map((ratios) => ratios[m]),
  };
}
