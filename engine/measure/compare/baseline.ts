/**
 * Stored runs, and comparing with them. A file has a line of JSON a run, each complete in itself, in no order that
 * matters, so that git may merge two files by keeping the lines of both (`*.baseline.jsonl merge=union` in
 * .gitattributes); a line that is there twice counts once.
 *
 * A stored run is worth less than a base that runs in turn with head: what the machine was like that day cannot be told
 * from the change. How much less is taken from the file itself, from how runs of different times differ.
 */
import { appendFileSync, readFileSync } from "node:fs";
import type { TrialRecord } from "../report/data.ts";
import { median } from "../verdict/location.ts";
import type { MetricRule, Outcome } from "../verdict/verdict.ts";
import { type Figures, METRIC_NAMES } from "./figures.ts";

export const BASELINE_SCHEMA = "lcore-baseline";
export const BASELINE_VERSION = 1;

export interface StoredRun {
  readonly schema: typeof BASELINE_SCHEMA;
  readonly version: typeof BASELINE_VERSION;
  /** Unique. */
  readonly id: string;
  readonly date: string;
  readonly label: string;
  /** Runs are compared only where both are equal. */
  readonly workload: string;
  readonly machine: string;
  /** Medians over the run's trials. */
  readonly figures: Figures;
}

/** The medians of trials that count. */
export function figuresOfRun(trials: readonly TrialRecord[]): Figures {
  const valid = trials.filter(({ invalid }) => invalid === null);
  return Object.fromEntries(METRIC_NAMES.map((name) => [name, median(valid.map((trial) => trial[name]))])) as Figures;
}

export function saveRun(file: string, run: Omit<StoredRun, "schema" | "version" | "id">): void {
  const line: StoredRun = { schema: BASELINE_SCHEMA, version: BASELINE_VERSION, id: crypto.randomUUID(), ...run };
  appendFileSync(file, `${JSON.stringify(line)}\n`);
}

/** The runs of a file, each once. Throws Error that names the line that is none. */
export function readRuns(file: string): StoredRun[] {
  const runs = new Map<string, StoredRun>();
  for (const [i, text] of readFileSync(file, "utf8").split("\n").entries()) {
    if (text.trim() === "") continue;
    const run = parse(text);
    if (run?.schema !== BASELINE_SCHEMA) throw new Error(`${file}:${i + 1}: no stored run`);
    if (run.version !== BASELINE_VERSION)
      throw new Error(`${file}:${i + 1}: version ${run.version}, where ${BASELINE_VERSION} is understood`);
    runs.set(run.id, run);
  }
  return [...runs.values()];
}

function parse(text: string): StoredRun | null {
  try {
    return JSON.parse(text) as StoredRun;
  } catch {
    return null;
  }
}

/** How much runs of different times differ where fewer than SPREAD_RUNS tell: a guess for a virtual machine. */
const SPREAD_GUESS = 0.1;
const SPREAD_RUNS = 3;
/** Student's t, one-sided 0.25 % and 5 %, by degrees of freedom from 2 to 11; the last ones for more. */
const T_DIFFERENT = [14.09, 7.45, 5.6, 4.77, 4.32, 4.03, 3.83, 3.69, 3.58, 3.5];
const T_SAME = [2.92, 2.35, 2.13, 2.02, 1.94, 1.89, 1.86, 1.83, 1.81, 1.8];
const DEGREES_MAX = 11;

export interface StoredFinding {
  readonly metric: MetricRule;
  readonly outcome: Outcome;
  /** Geometric mean of the stored runs, and head's. */
  readonly stored: number;
  readonly head: number;
  /** Relative, of the metric itself. */
  readonly change: number;
  /** The smallest change for the worse that can be told from one day and another, relative. */
  readonly tells: number;
  /** How much runs differ (a standard deviation of logarithms), and whether the file told it. */
  readonly spread: number;
  readonly guessed: boolean;
}

/** Head against stored runs, at least one. */
export function compareWithRuns(
  runs: readonly StoredRun[],
  head: Figures,
  rules: readonly MetricRule[],
): StoredFinding[] {
  return rules.map((metric) => {
    const name = metric.name as keyof Figures;
    const logs = runs.map(({ figures }) => Math.log(figures[name]));
    const mean = logs.reduce((sum, log) => sum + log, 0) / logs.length;
    const guessed = logs.length < SPREAD_RUNS;
    const spread = guessed
      ? SPREAD_GUESS
      : Math.sqrt(logs.reduce((sum, log) => sum + (log - mean) ** 2, 0) / (logs.length - 1));
    const error = spread * Math.sqrt(1 + 1 / logs.length);
    const degrees = (guessed ? DEGREES_MAX : Math.min(logs.length - 1, DEGREES_MAX)) - 2;
    const sign = metric.better === "lower" ? 1 : -1;
    const worse = sign * (Math.log(head[name]) - mean);
    const margin = Math.log1p(metric.minimum);
    const sure = T_DIFFERENT[degrees] * error;
    const outcome =
      Math.abs(worse) >= Math.max(margin, sure)
        ? worse > 0
          ? "regressed"
          : "improved"
        : worse + T_SAME[degrees] * error < margin
          ? "pass"
          : "inconclusive";
    const tells = Math.expm1(Math.max(margin, sure));
    return {
      metric,
      outcome,
      stored: Math.exp(mean),
      head: head[name],
      change: Math.expm1(sign * worse),
      tells,
      spread,
      guessed,
    };
  });
}
