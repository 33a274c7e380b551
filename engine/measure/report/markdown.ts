/** A comparison as Markdown, for a job's summary or a comment. */
import type { ComparisonReport } from "./data.ts";
import { interval, percent, probability, signedPercent, TITLES, value } from "./text.ts";

const MARKS = { pass: "✅", regressed: "❌", improved: "🟢", inconclusive: "⚠️" } as const;

/** Text in a table's cell. */
const cell = (text: string): string => text.replace(/[|\\]/g, "\\$&").replace(/\s+/g, " ");

const row = (cells: readonly string[]): string => `| ${cells.map(cell).join(" | ")} |`;

export function markdown(report: ComparisonReport): string {
  const { base, head, metrics, environment, notes } = report;
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
    `${environment.cpu}, ${environment.cpus} CPUs, Linux ${environment.kernel}, Bun ${environment.bun}; ${percent(environment.steal)} of the time stolen by the host, ${percent(environment.others)} used by others.`,
    ...notes.map((note) => `\n> ${note}`),
    "",
  ].join("\n");
}
