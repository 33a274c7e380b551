/** A comparison as Markdown, for a job's summary or a comment. */
import type { ComparisonReport, StoredReport } from "./data.ts";
import { interval, percent, probability, signedPercent, TITLES, value, within } from "./text.ts";

const MARKS = { pass: "✅", regressed: "❌", improved: "🟢", inconclusive: "⚠️" } as const;

/** Text in a table's cell. */
const cell = (text: string): string => text.replace(/[|\\]/g, "\\$&").replace(/\s+/g, " ");

const row = (cells: readonly string[]): string => `| ${cells.map(cell).join(" | ")} |`;

const machine = ({ environment: e }: ComparisonReport | StoredReport): string =>
  `${e.cpu}, ${e.cpus} CPUs, Linux ${e.kernel}, Bun ${e.bun}; ${percent(e.steal)} of the time stolen by the host, ${percent(e.others)} used by others.`;

export function markdown(report: ComparisonReport): string {
  const { base, head, metrics, notes } = report;
  return [
    `### ${MARKS[report.outcome]} ${report.sentence}`,
    "",
    row(["metric", "base", "head", "change", "95 % interval", "p", "matters from", "outcome"]),
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ...metrics.map((m) =>
      row([
        m.metric,
        value(m.metric, m.base),
        value(m.metric, m.head),
        signedPercent(m.change),
        interval(m),
        probability(m.p).replace(/^= /, ""),
        percent(m.minimum),
        `${MARKS[m.outcome]} ${TITLES[m.outcome].toLowerCase()}`,
      ]),
    ),
    "",
    `Base: ${base.label}. Head: ${head.label}. ${report.workload}.`,
    machine(report),
    ...notes.map((note) => `\n> ${note}`),
    "",
  ].join("\n");
}

export function storedMarkdown(report: StoredReport): string {
  return [
    `### ${MARKS[report.outcome]} ${report.sentence}`,
    "",
    row(["metric", "stored", "head", "change", "told from", "in pairs, within", "matters from", "outcome"]),
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ...report.metrics.map((m) =>
      row([
        m.metric,
        value(m.metric, m.stored),
        value(m.metric, m.head),
        signedPercent(m.change),
        percent(m.tells),
        within(m),
        percent(m.minimum),
        `${MARKS[m.outcome]} ${TITLES[m.outcome].toLowerCase()}`,
      ]),
    ),
    "",
    `Head: ${report.head.label}. ${report.workload}.`,
    machine(report),
    ...report.notes.map((note) => `\n> ${note}`),
    "",
  ].join("\n");
}
