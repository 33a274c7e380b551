/** From stored runs and head's figures to a report. */
import { compareWithRuns, type StoredFinding, type StoredRun } from "../compare/baseline.ts";
import type { Figures } from "../compare/figures.ts";
import type { MetricRule, Outcome } from "../verdict/verdict.ts";
import {
  type ComparisonReport,
  STORED_SCHEMA,
  STORED_VERSION,
  type StoredMetricRecord,
  type StoredReport,
} from "./data.ts";
import { percent, storedSentence } from "./text.ts";

/**
 * @param runs at least one, of the same workload and machine
 * @param beside head and head again, in pairs of launches: what such pairs tell in the same time
 */
export function makeStoredReport(
  file: string,
  runs: readonly StoredRun[],
  head: Figures,
  rules: readonly MetricRule[],
  beside: ComparisonReport,
): StoredReport {
  const findings = compareWithRuns(runs, head, rules);
  const metrics = findings.map((finding, m): StoredMetricRecord => {
    const { metric, ...found } = finding;
    const { low, high } = beside.metrics[m];
    return {
      metric: metric.name,
      better: metric.better,
      watched: metric.watched === true,
      minimum: metric.minimum,
      ...found,
      paired: low === null || high === null ? null : (high - low) / 2,
    };
  });
  const outcome = overall(metrics);
  return {
    schema: STORED_SCHEMA,
    version: STORED_VERSION,
    outcome,
    sentence: storedSentence(outcome, metrics, runs.length),
    file,
    runs: runs.length,
    head: beside.head,
    workload: beside.workload,
    seconds: beside.seconds,
    metrics,
    environment: beside.environment,
    notes: [worth(findings[0], runs.length), ...beside.notes],
  };
}

function overall(metrics: readonly StoredMetricRecord[]): Outcome {
  const some = (outcome: Outcome): boolean => metrics.some((m) => m.outcome === outcome);
  if (some("regressed")) return "regressed";
  if (metrics.some((m) => m.outcome === "inconclusive" && !m.watched)) return "inconclusive";
  return some("improved") ? "improved" : "pass";
}

function worth({ spread, guessed, metric }: StoredFinding, runs: number): string {
  const known = guessed
    ? `how much runs of different times differ is not known from ${runs} (three would tell); ${percent(spread)} is assumed`
    : `runs of different times differ by ${percent(spread)} at ${metric.name} (standard deviation of ${runs})`;
  return `A stored run is worth less than a base that runs in turn with head: ${known}, so that only changes as large as under "told from" can be told. Pairs of launches would have told them within the next column in the same time.`;
}
