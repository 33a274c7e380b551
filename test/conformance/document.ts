/** The table in docs/socket7.md that a run of every scenario writes: a row for each item of the page. */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { PAGE, type PageItem } from "./page.ts";
import type { Results } from "./run.ts";

const DOCUMENT = fileURLToPath(new URL("../../docs/socket7.md", import.meta.url));
const BEGIN = "<!-- written by npm run conformance -- --long --write: from here -->";
const END = "<!-- to here -->";

/** Sides whose sockets are the engine's or the process's, and those that have no kernel to ask. */
const OURS = ["process", "engine"];
const NO_KERNEL = "memory";

/** What stands behind an item. */
export function verdictOf({ item, traced, kernelOnly }: PageItem, results: Results): string {
  if (kernelOnly !== undefined) return `kernel only: ${kernelOnly}`;
  const tallies = (traced ?? [item]).flatMap((name) => results.byItem.get(name) ?? []);
  if (tallies.some(({ unexplained }) => unexplained > 0)) return "**differs**";
  const reasons = tallies.flatMap((tally) => [...tally.reasons]);
  const on = (...sides: readonly string[]): string =>
    [...new Set(reasons.filter(([, held]) => sides.some((side) => held.has(side))).map(([reason]) => reason))].join(
      "; ",
    );
  if (on(...OURS) !== "") return `differs because ${on(...OURS)}`;
  return on(NO_KERNEL) === "" ? "works" : `works; without a kernel: ${on(NO_KERNEL)}`;
}

/** Scenarios that touch any of the names. */
function scenariosOf(names: readonly string[], results: Results): number {
  return new Set(names.flatMap((name) => [...(results.byItem.get(name)?.names ?? [])])).size;
}

function row(entry: PageItem, results: Results): string {
  const names = entry.traced ?? [entry.item];
  const count = scenariosOf(names, results);
  const tests = (entry.tests ?? []).map((path) => `[${/([^/]+)\.test\.ts$/.exec(path)?.[1] ?? path}](../${path})`);
  const cells = [
    entry.item,
    verdictOf(entry, results),
    count > 0 ? String(count) : "",
    tests.join(", "),
    entry.note ?? "",
  ];
  return `| ${cells.join(" | ")} |`;
}

/** The text between the marks. */
export function tableOf(results: Results): string {
  const sections = PAGE.flatMap(({ title, items }) => [
    `| **${title}** | | | | |`,
    ...items.map((entry) => row(entry, results)),
  ]);
  const total = `${results.scenarios.toLocaleString("en-US")} scenarios, ${results.lines.toLocaleString("en-US")} answers compared, ${results.unexplained} unexplained.`;
  return [
    total,
    "",
    "| item | answer | scenarios | also tested | to know |",
    "| --- | --- | --- | --- | --- |",
    ...sections,
  ].join("\n");
}

function split(text: string): [before: string, table: string, after: string] {
  const begin = text.indexOf(BEGIN);
  const end = text.indexOf(END);
  if (begin < 0 || end < begin) throw new Error(`docs/socket7.md has lost its marks: ${BEGIN} and ${END}`);
  return [text.slice(0, begin + BEGIN.length), text.slice(begin + BEGIN.length, end), text.slice(end)];
}

/** Writes the table. */
export function writeTable(results: Results): void {
  const [before, , after] = split(readFileSync(DOCUMENT, "utf8"));
  writeFileSync(DOCUMENT, `${before}\n\n${tableOf(results)}\n\n${after}`);
}

/** Items and verdicts of the table as it is written. */
export function writtenRows(): Map<string, string> {
  const [, table] = split(readFileSync(DOCUMENT, "utf8"));
  const rows = table.split("\n").filter((line) => line.startsWith("| ") && !line.startsWith("| **"));
  const cells = rows.slice(2).map((line) => line.slice(2).split(" | "));
  return new Map(cells.map(([item, verdict]) => [item, verdict]));
}
