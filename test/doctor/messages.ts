/** Messages that the sources can give, as the document of operations has to know them. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** Where messages for operators are made: the command line, and what an engine says of its options and its end. */
const SOURCES = [
  "engine/cli/*.ts",
  "engine/doctor/tune-state.ts",
  "engine/{config,engine,privileges,provider,stats,wiring}.ts",
];

/** The longest part of each message that holds whatever its values: "has queues 0 to", by the file that it is in. */
export function messageParts(): { file: string; part: string }[] {
  return SOURCES.flatMap((pattern) => [...new Bun.Glob(pattern).scanSync({ cwd: ROOT })]).flatMap((file) => {
    const text = readFileSync(`${ROOT}/${file}`, "utf8");
    const thrown = text.matchAll(
      /new (?:CliError|RangeError|CannotServe|Error)\(\s*(`(?:[^`\\]|\\.)*`|"(?:[^"\\]|\\.)*")/g,
    );
    return [...thrown]
      .map(([, literal]) => ({ file, part: longestPart(literal.slice(1, -1)) }))
      .filter(({ part }) => part.length > 7);
  });
}

function longestPart(template: string): string {
  const parts = template.split(/\$\{(?:[^{}]|\{[^{}]*\})*\}/).map((part) => part.trim());
  return parts.reduce((longest, part) => (part.length > longest.length ? part : longest), "");
}
