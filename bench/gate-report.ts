/** What the gate's proof says: shares by kind of comparison, and what other rules make of the same data. */
import type { Compared } from "../engine/measure/compare/compare.ts";
import type { TrialRecord } from "../engine/measure/report/data.ts";
import { median } from "../engine/measure/verdict/location.ts";
import type { Outcome } from "../engine/measure/verdict/verdict.ts";

/** Metrics that the other rules look at, as the gate does: which way is worse. */
const WORSE = { p50: 1, p99: 1, throughput: -1 } as const;
type Judged = keyof typeof WORSE;
const JUDGED = Object.keys(WORSE) as Judged[];

/** A comparison that was made, a line of the file. */
export interface GateRecord {
  /** "same", or "p50 +10 %": what was put into head. */
  readonly kind: string;
  readonly outcome: Outcome;
  readonly pairs: number;
  readonly seconds: number;
  readonly seed: number;
  readonly date: string;
  /** Load average before it. */
  readonly load: number;
  /** Estimated change of each metric. */
  readonly changes: Readonly<Record<string, number>>;
  /** Whether other rules call head worse, or (of a version with itself) different. */
  readonly others: Readonly<Record<OtherRule, boolean>>;
}

export const OTHER_RULES = ["one run, 10 %", "one run, 200 %", "t-test of trials, 5 %"] as const;
export type OtherRule = (typeof OTHER_RULES)[number];

/** The same data by rules in use elsewhere. One run is the first pair of launches. */
export function otherRules({ trials }: Compared): Record<OtherRule, boolean> {
  const valid = trials.filter((trial) => trial.invalid === null);
  const values = (side: TrialRecord["side"], metric: Judged, among: readonly TrialRecord[]): number[] =>
    among.filter((trial) => trial.side === side).map((trial) => trial[metric]);
  const first = valid.filter(({ pair }) => pair === valid[0].pair);
  const above = (threshold: number): boolean =>
    JUDGED.some((metric) => {
      const ratio = median(values("head", metric, first)) / median(values("base", metric, first));
      return (WORSE[metric] === 1 ? ratio : 1 / ratio) - 1 > threshold;
    });
  const t = JUDGED.some(
    (metric) => WORSE[metric] * welch(values("base", metric, valid), values("head", metric, valid)) > T_CRITICAL,
  );
  return { "one run, 10 %": above(0.1), "one run, 200 %": above(2), "t-test of trials, 5 %": t };
}

/** Two-sided 5 % with some 60 degrees of freedom, which trials of ten pairs of launches have. */
const T_CRITICAL = 2;

/** Welch's t: how many standard errors the mean of b lies above that of a. */
function welch(a: readonly number[], b: readonly number[]): number {
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  const error = (values: readonly number[]): number => {
    const center = mean(values);
    return values.reduce((sum, value) => sum + (value - center) ** 2, 0) / (values.length - 1) / values.length;
  };
  return (mean(b) - mean(a)) / Math.sqrt(error(a) + error(b));
}

/** Tables in Markdown. */
export function gateReport(records: readonly GateRecord[]): string {
  const kinds = [...new Set(records.map(({ kind }) => kind))].sort((a, b) => order(a) - order(b));
  const percent = (part: number, all: number): string => `${((100 * part) / all).toFixed(1)} %`;
  const rows = kinds.map((kind) => {
    const of = records.filter((record) => record.kind === kind);
    const count = (wanted: (record: GateRecord) => boolean): number => of.filter(wanted).length;
    const metric = kind.split(" ")[0];
    const real = kind === SAME ? "" : `${(100 * median(of.map(({ changes }) => changes[metric]))).toFixed(1)} %`;
    const alarms = count(({ outcome }) => outcome === "regressed" || (kind === SAME && outcome === "improved"));
    return [
      kind,
      real,
      String(of.length),
      `${percent(alarms, of.length)} (${alarms})`,
      percent(
        count(({ outcome }) => outcome === "pass"),
        of.length,
      ),
      percent(
        count(({ outcome }) => outcome === "inconclusive"),
        of.length,
      ),
      `${median(of.map(({ seconds }) => seconds)).toFixed(0)} (${Math.max(...of.map(({ seconds }) => seconds)).toFixed(0)})`,
      ...OTHER_RULES.map((rule) =>
        percent(
          count(({ others }) => others[rule]),
          of.length,
        ),
      ),
    ];
  });
  const head = [
    "head",
    "change found, median",
    "comparisons",
    "called different",
    "pass",
    "inconclusive",
    "seconds, median (most)",
  ];
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [
    line([...head, ...OTHER_RULES.map((rule) => `${rule}: worse`)]),
    `| --- |${" ---: |".repeat(head.length - 1 + OTHER_RULES.length)}`,
    ...rows.map(line),
    "",
  ].join("\n");
}

export const SAME = "same";
/** The same version first, then by metric and size. */
const order = (kind: string): number =>
  kind === SAME ? 0 : (kind.startsWith("p50") ? 1000 : 2000) + Number(/\d+(?= %)/.exec(kind)?.[0]);
