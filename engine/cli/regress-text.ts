/** A comparison on a terminal. */

import type { StoredFinding } from "../measure/compare/baseline.ts";
import type { ComparisonReport } from "../measure/report/data.ts";
import { interval, percent, probability, signedPercent, TITLES, value } from "../measure/report/text.ts";
import type { Outcome } from "../measure/verdict/verdict.ts";
import { type Column, colour, table, wrap } from "./output.ts";

const HEAD: readonly Column[] = [
  { head: "metric", align: "left" },
  { head: "base", align: "right" },
  { head: "head", align: "right" },
  { head: "change", align: "right" },
  { head: "95 % interval", align: "right" },
  { head: "p", align: "right" },
  { head: "matters from", align: "right" },
  { head: "outcome", align: "left" },
];

const PAINT: Record<Outcome, (text: string) => string> = {
  pass: colour.green,
  improved: colour.green,
  regressed: colour.red,
  inconclusive: colour.yellow,
};

export function regressText(report: ComparisonReport): string {
  const { base, head, metrics, environment, notes, outcome } = report;
  const rows = metrics.map((m) => [
    m.metric,
    value(m.metric, m.base),
    value(m.metric, m.head),
    signedPercent(m.change),
    interval(m),
    probability(m.p).replace(/^= /, ""),
    percent(m.minimum),
    PAINT[m.outcome](`${TITLES[m.outcome].toLowerCase()}${m.watched ? ", watched" : ""}`),
  ]);
  return [
    `base  ${base.label}`,
    `head  ${head.label}`,
    colour.dim(wrap(report.workload)),
    "",
    table(HEAD, rows),
    "",
    PAINT[outcome](wrap(report.sentence)),
    ...notes.map((note) => colour.dim(wrap(note))),
    colour.dim(
      wrap(
        `${environment.cpus} × ${environment.cpu}, Linux ${environment.kernel}, Bun ${environment.bun}; others ${percent(environment.others)} of the CPUs, steal ${percent(environment.steal)}; seed ${report.seed}`,
      ),
    ),
    "",
  ].join("\n");
}

const STORED_HEAD: readonly Column[] = [
  { head: "metric", align: "left" },
  { head: "change", align: "right" },
  { head: "told from", align: "right" },
  { head: "in pairs, within", align: "right" },
  { head: "outcome", align: "left" },
];

/** @param paired half the width of the interval that pairs of launches gave in the same time, relative; null of too few */
export function storedText(
  runs: number,
  findings: readonly StoredFinding[],
  paired: readonly (number | null)[],
): string {
  const rows = findings.map(({ metric, outcome, change, tells }, m) => [
    metric.name,
    signedPercent(change),
    percent(tells),
    paired[m] === null ? "–" : `±${percent(paired[m])}`,
    PAINT[outcome](`${TITLES[outcome].toLowerCase()}${metric.watched ? ", watched" : ""}`),
  ]);
  const [{ spread, guessed, metric }] = findings;
  const known = guessed
    ? `how much runs of different times differ is not known from ${runs} (three would tell); ${percent(spread)} is assumed`
    : `runs of different times differ by ${percent(spread)} at ${metric.name} (standard deviation of ${runs})`;
  const worth = `A stored run is worth less than a base that runs in turn with head: ${known}, so that only changes as large as under "told from" can be told. Pairs of launches would have told them within the next column in the same time.`;
  return [table(STORED_HEAD, rows), "", wrap(worth), ""].join("\n");
}
