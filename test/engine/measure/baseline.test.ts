import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compareWithRuns, readRuns, type StoredRun, saveRun } from "../../../engine/measure/compare/baseline.ts";
import type { Figures } from "../../../engine/measure/compare/figures.ts";
import { RULES } from "./fake-comparison.ts";

const directory = mkdtempSync(join(tmpdir(), "lcore-baseline-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const figures = (p50: number): Figures => ({ p50, p90: 500, p99: 600, "p99.9": 1000, throughput: 1e6 });
const run = (p50: number) => ({ date: "d", label: "l", workload: "w", machine: "m", figures: figures(p50) });
const stored = (...p50s: number[]): StoredRun[] =>
  p50s.map((p50, i) => ({ schema: "lcore-baseline", version: 1, id: String(i), ...run(p50) }));

test("branches that both add runs merge without a conflict, and a line that is there twice counts once", () => {
  const git = (...words: string[]): void => {
    const done = Bun.spawnSync([
      "git",
      "-c",
      "user.name=t",
      "-c",
      "user.email=t@example.com",
      "-C",
      directory,
      ...words,
    ]);
    if (done.exitCode !== 0) throw new Error(done.stderr.toString() || done.stdout.toString());
  };
  const file = join(directory, "a.baseline.jsonl");
  git("init", "--quiet", "--initial-branch=main");
  writeFileSync(join(directory, ".gitattributes"), "*.baseline.jsonl merge=union\n");
  saveRun(file, run(1));
  git("add", "-A");
  git("commit", "--quiet", "-m", "one");
  git("checkout", "--quiet", "-b", "other");
  saveRun(file, run(2));
  git("commit", "--quiet", "-am", "two");
  git("checkout", "--quiet", "main");
  saveRun(file, run(3));
  git("commit", "--quiet", "-am", "three");
  git("merge", "--quiet", "-m", "both", "other");
  expect(
    readRuns(file)
      .map((one) => one.figures.p50)
      .sort(),
  ).toEqual([1, 2, 3]);
  writeFileSync(file, readFileSync(file, "utf8").repeat(2));
  expect(readRuns(file).length).toBe(3);
  writeFileSync(file, "<<<<<<< HEAD\n");
  expect(() => readRuns(file)).toThrow(/a\.baseline\.jsonl:1: no stored run/);
});

test("what runs of different times differ by is what a change must exceed", () => {
  const outcomes = (runs: StoredRun[], p50: number) => compareWithRuns(runs, figures(p50), RULES)[0];
  const steady = stored(450, 451, 449, 450, 452, 448);
  expect(outcomes(steady, 450).outcome).toBe("pass");
  expect(outcomes(steady, 480)).toMatchObject({ outcome: "regressed", guessed: false });
  expect(outcomes(steady, 400).outcome).toBe("improved");
  const wild = stored(450, 500, 400, 520, 380, 450);
  expect(outcomes(wild, 480).outcome).toBe("inconclusive");
  expect(outcomes(wild, 480).tells).toBeGreaterThan(0.5);
});

test("one run alone: a guess is made, and said", () => {
  const [p50] = compareWithRuns(stored(450), figures(480), RULES);
  expect(p50).toMatchObject({ outcome: "inconclusive", guessed: true, spread: 0.1 });
});
