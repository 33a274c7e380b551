/** A comparison on a terminal. */
import type { ComparisonReport, StoredReport } from "../measure/report/data.ts";
import { interval, percent, probability, signedPercent, TITLES, value, within } from "../measure/report/text.ts";
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

/** A metric's outcome in a table. */
const told = ({ outcome, watched }: { readonly outcome: Outcome; readonly watched: boolean }): string =>
  PAINT[outcome](`${TITLES[outcome].toLowerCase()}${watched ? ", watched" : ""}`);

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
    told(m),
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
  { head: "stored", align: "right" },
  { head: "head", align: "right" },
  { head: "change", align: "right" },
  { head: "told from", align: "right" },
  { head: "in pairs, within", align: "right" },
  { head: "outcome", align: "left" },
];

export function storedText({ head, workload, metrics, outcome, sentence, notes }: StoredReport): string {
  const rows = metrics.map((m) => [
    m.metric,
    value(m.metric, m.stored),
    value(m.metric, m.head),
    signedPercent(m.change),
    percent(m.tells),
    within(m),
    told(m),
  ]);
  return [
    `head  ${head.label}`,
    colour.dim(wrap(workload)),
    "",
    table(STORED_HEAD, rows),
    "",
    PAINT[outcome](wrap(sentence)),
    ...notes.map((note) => colour.dim(wrap(note))),
    "",
  ].join("\n");
}
