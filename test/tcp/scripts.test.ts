/** Every script of scripts/, with sequence numbers that wrap at different places. */
import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { parseScripts } from "./notation.ts";
import { ScriptRun } from "./run-script.ts";

const DIRECTORY = new URL("scripts/", import.meta.url);
/** First sequence numbers: SYN, first bytes and the middle of a transfer lie across 2^31 and 2^32. */
const STARTS = [0xffffffff, 0xffffff00, 0x7fffff00, 0x1000];

const files = readdirSync(DIRECTORY)
  .filter((name) => name.endsWith(".tcp"))
  .toSorted();
const scripts = files.flatMap((name) => parseScripts(readFileSync(new URL(name, DIRECTORY), "utf8"), name));

test("there are scripts of every kind, and each has a title of its own", () => {
  expect(files.length).toBeGreaterThan(0);
  const titles = scripts.map(({ file, title }) => `${file}: ${title}`);
  expect(new Set(titles).size).toBe(titles.length);
  expect(scripts.filter(({ lines }) => lines.length === 0)).toEqual([]);
});

for (const file of files)
  describe(file, () => {
    for (const script of scripts.filter((one) => one.file === file))
      test(script.title, () => {
        for (const start of STARTS) new ScriptRun(script, start).run();
      }, 60_000);
  });
