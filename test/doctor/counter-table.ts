/**
 * The table of counters in docs/operations.md: names and meanings are those of sockets/counters.ts, advice is the
 * document's. Run by itself it writes the table: `bun test/doctor/counter-table.ts`.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { COUNTERS } from "../../sockets/counters.ts";
import { ROOT } from "./messages.ts";

export const DOCUMENT = `${ROOT}/docs/operations.md`;
const START = /<!-- counters: .*-->\n/;
const END = "\n<!-- end of counters -->";
const ROW = /^\| `(\w+)` \| (.*?) \| (.*?) ?\|$/gm;

/** The document with the table brought up to date. */
export function withCounters(document: string): string {
  const begin = START.exec(document);
  const end = document.indexOf(END);
  if (begin === null || end < 0) throw new Error("docs/operations.md has no place for the counters");
  const at = begin.index + begin[0].length;
  const advice = new Map([...document.slice(at, end).matchAll(ROW)].map(([, name, , text]) => [name, text]));
  const rows = COUNTERS.map(([name, meaning]) => `| \`${name}\` | ${meaning} | ${advice.get(name) ?? ""} |`);
  const table = ["| counter | meaning | what to do |", "| --- | --- | --- |", ...rows].join("\n");
  return document.slice(0, at) + table + document.slice(end);
}

if (import.meta.main) writeFileSync(DOCUMENT, withCounters(readFileSync(DOCUMENT, "utf8")));
