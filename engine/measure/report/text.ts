/** A comparison in words: the sentence every report begins with, and how its numbers are written. */
import type { Outcome } from "../verdict/verdict.ts";
import type { ComparisonReport, MetricRecord, StoredMetricRecord } from "./data.ts";

/** +3.2 %, −0.4 %; the sign is always there. */
export function signedPercent(change: number): string {
  const percent = change * 100;
  const digits = Math.abs(percent) >= 100 ? 0 : 1;
  const text = Math.abs(percent).toFixed(digits);
  return `${percent < 0 && Number(text) !== 0 ? "−" : "+"}${text} %`;
}

/** 8 %, 2.5 %. */
export const percent = (part: number): string => `${Number((part * 100).toFixed(1))} %`;

/** A metric's value with its unit. */
export function value(metric: string, amount: number): string {
  if (metric === "throughput")
    return `${amount >= 1e6 ? `${(amount / 1e6).toFixed(2)} M` : `${(amount / 1e3).toFixed(1)} k`}/s`;
  if (amount >= 1e6) return `${(amount / 1e6).toFixed(2)} ms`;
  return `${(amount / 1e3).toFixed(amount >= 1e5 ? 0 : 2)} µs`;
}

export function interval({ low, high }: MetricRecord): string {
  return low === null || high === null ? "–" : `${signedPercent(low)} to ${signedPercent(high)}`;
}

/** What pairs of launches would have told in the same time. */
export const within = ({ paired }: StoredMetricRecord): string => (paired === null ? "–" : `±${percent(paired)}`);

/** 0.002, or "< 0.001". */
export const probability = (p: number): string => (p < 0.001 ? "< 0.001" : `= ${p.toFixed(3)}`);

/** Seconds as people say them. */
export function duration(seconds: number): string {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return seconds < 5400 ? `${Math.ceil(seconds / 60)} min` : `${Math.ceil(seconds / 3600)} h`;
}

/** A list as it is spoken. */
const spoken = (items: readonly string[]): string =>
  items.length < 2 ? items.join("") : `${items.slice(0, -1).join(", ")} and ${items.at(-1)}`;

type Said = Pick<ComparisonReport, "outcome" | "metrics" | "pairs" | "pairsInvalid" | "seconds">;

/** The verdict in one sentence. */
export function sentence(report: Said): string {
  const { outcome, metrics, pairs, seconds } = report;
  const after = `after ${pairs} ${pairs === 1 ? "pair" : "pairs"} of launches in ${duration(seconds)}`;
  const which = metrics.filter((metric) => metric.outcome === outcome);
  const changes = (list: readonly MetricRecord[]): string =>
    spoken(list.map((m) => `${m.metric}, ${signedPercent(m.change)} (${interval(m)}; ${percent(m.minimum)} matters)`));
  if (outcome === "regressed") return `Regressed: head is worse in ${changes(which)}, ${after}.`;
  if (outcome === "improved") return `Improved: head is better in ${changes(which)} and worse in nothing, ${after}.`;
  if (outcome === "pass") {
    const settled = which.map((m) => `${m.metric} ${signedPercent(m.change)}`);
    const watched = metrics.filter((metric) => metric.outcome === "inconclusive");
    const open = watched.map((m) => `; ${m.metric}, only watched, may have changed by ${interval(m)}`);
    return `Pass: head is worse by what matters in none of ${settled.join(", ")}, ${after}${open.join("")}.`;
  }
  return `Inconclusive: ${open(report)}, ${after}; ${advice(metrics)}.`;
}

function open({ metrics, pairs, pairsInvalid }: Said): string {
  const unsettled = metrics.filter(({ outcome, watched }) => outcome === "inconclusive" && !watched);
  if (pairsInvalid > pairs) return `${pairsInvalid} of ${pairs + pairsInvalid} pairs of launches did not count`;
  if (unsettled.some((m) => m.low === null)) return "there were too few pairs of launches for an interval";
  return `${spoken(unsettled.map((m) => `${m.metric} may have changed by ${interval(m)} (${percent(m.minimum)} matters)`))}`;
}

/** How much more time would settle what is open: one metric that is worse decides, and a pass needs all. */
function advice(metrics: readonly MetricRecord[]): string {
  const unsettled = metrics.filter(({ outcome, watched }) => outcome === "inconclusive" && !watched);
  const seconds = (list: readonly MetricRecord[]): number[] => list.map((m) => m.moreSeconds ?? Infinity);
  const worse = unsettled.filter((m) => (m.better === "lower" ? m.change : 1 / (1 + m.change) - 1) >= m.minimum);
  const most = worse.length > 0 ? Math.min(...seconds(worse)) : Math.max(0, ...seconds(unsettled));
  if (Number.isFinite(most)) return `about ${duration(most)} more would probably settle it`;
  const never = unsettled.filter((metric) => metric.moreSeconds === null);
  return `${spoken(never.map((m) => m.metric))} lies so near to the minimum that no sensible time would settle it`;
}

/** The verdict beside stored runs in one sentence. */
export function storedSentence(outcome: Outcome, metrics: readonly StoredMetricRecord[], runs: number): string {
  const beside = `beside ${runs} stored ${runs === 1 ? "run" : "runs"}`;
  const of = (wanted: Outcome): StoredMetricRecord[] => metrics.filter((m) => m.outcome === wanted);
  const changes = (list: readonly StoredMetricRecord[]): string =>
    spoken(list.map((m) => `${m.metric}, ${signedPercent(m.change)} (told from ${percent(m.tells)})`));
  if (outcome === "regressed") return `Regressed: head is worse in ${changes(of(outcome))}, ${beside}.`;
  if (outcome === "improved")
    return `Improved: head is better in ${changes(of(outcome))} and worse in nothing, ${beside}.`;
  if (outcome === "pass")
    return `Pass: head is worse by what matters in none of ${of(outcome)
      .map((m) => `${m.metric} ${signedPercent(m.change)}`)
      .join(", ")}, ${beside}.`;
  const open = of(outcome).filter(({ watched }) => !watched);
  return `Inconclusive: ${changes(open)}, ${beside}; a base that runs in turn with head (--base) would tell more.`;
}

export const TITLES: Record<Outcome, string> = {
  pass: "Pass",
  regressed: "Regressed",
  improved: "Improved",
  inconclusive: "Inconclusive",
};
