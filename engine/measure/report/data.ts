/**
 * A comparison, whole: what every report is made from, and what `lcore regress --json` writes. Plain data; JSON as it is.
 */
import type { StoredFinding } from "../compare/baseline.ts";
import type { Environment } from "../environment.ts";
import type { HistogramJson } from "../trial.ts";
import type { Outcome } from "../verdict/verdict.ts";

export const COMPARISON_SCHEMA = "lcore-regress";
/** Raised when a reader of the former version would misread the new one. */
export const COMPARISON_VERSION = 1;

export type SideName = "base" | "head";
export const SIDES: readonly SideName[] = ["base", "head"];

/** Which version a side is. */
export interface SideInfo {
  /** For people: a ref with its commit, a command, or a file. */
  readonly label: string;
  /** 40 hexadecimal digits; null where no commit is known. */
  readonly commit: string | null;
}

/** A trial of one side, in the order in which they ran. */
export interface TrialRecord {
  readonly side: SideName;
  /** Pair of launches, from 0. */
  readonly pair: number;
  /** Trial of its launch, from 0; the other side's of the same number ran right before or after. */
  readonly index: number;
  /** Start, seconds from that of the comparison, and how long it was measured. */
  readonly t: number;
  readonly seconds: number;
  /** Answers a second, and quantiles of latency, nanoseconds. */
  readonly throughput: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly "p99.9": number;
  readonly max: number;
  /** Requests without a right answer in time. */
  readonly failed: number;
  /** Why the trial counts for nothing; null where it counts. */
  readonly invalid: string | null;
  /** Wakeups of an idle thread that were late by 1 ms or more: seconds from the start of the comparison, nanoseconds. */
  readonly hiccups: readonly { readonly t: number; readonly ns: number }[];
}

/** What was found of one metric; verdict/verdict.ts says how. Changes are relative: 0.1 is 10 % more than base. */
export interface MetricRecord {
  readonly metric: string;
  readonly better: "lower" | "higher";
  /** Whether it may only fail the comparison, while a pass does not wait for it. */
  readonly watched: boolean;
  readonly outcome: Outcome;
  readonly minimum: number;
  /** Medians over all trials: nanoseconds, or answers a second. */
  readonly base: number;
  readonly head: number;
  readonly change: number;
  /** 95 % interval; null while there are too few pairs for one. */
  readonly low: number | null;
  readonly high: number | null;
  readonly p: number;
  /** Inconclusive: seconds more that would probably settle it; null where the change lies at the minimum itself. */
  readonly moreSeconds: number | null;
  /** ln(head / base) of each pair of launches. */
  readonly logRatios: readonly number[];
}

export interface ComparisonReport {
  readonly schema: typeof COMPARISON_SCHEMA;
  readonly version: typeof COMPARISON_VERSION;
  readonly outcome: Outcome;
  /** The verdict in one sentence. */
  readonly sentence: string;
  readonly base: SideInfo;
  readonly head: SideInfo;
  /** What was run: workload, target, rate and so on, for people. */
  readonly workload: string;
  readonly seconds: number;
  readonly budgetSeconds: number;
  readonly seed: number;
  /** Pairs of launches that count, and those that do not. */
  readonly pairs: number;
  readonly pairsInvalid: number;
  readonly metrics: readonly MetricRecord[];
  readonly trials: readonly TrialRecord[];
  /** All latencies of each side. */
  readonly latency: Readonly<Record<SideName, HistogramJson>>;
  readonly environment: Environment;
  /** What a reader should know before trusting the verdict. */
  readonly notes: readonly string[];
}

export const STORED_SCHEMA = "lcore-regress-stored";
/** Raised when a reader of the former version would misread the new one. */
export const STORED_VERSION = 1;

/** What was found of one metric beside stored runs: values in nanoseconds, or answers a second. */
export interface StoredMetricRecord extends Omit<StoredFinding, "metric"> {
  readonly metric: string;
  readonly better: "lower" | "higher";
  readonly watched: boolean;
  readonly minimum: number;
  /** Half the width of the interval that pairs of launches gave in the same time; null of too few. */
  readonly paired: number | null;
}

/** Head beside stored runs, whole. */
export interface StoredReport {
  readonly schema: typeof STORED_SCHEMA;
  readonly version: typeof STORED_VERSION;
  readonly outcome: Outcome;
  /** The verdict in one sentence. */
  readonly sentence: string;
  /** The file, and how many of its runs are of this workload and machine. */
  readonly file: string;
  readonly runs: number;
  readonly head: SideInfo;
  readonly workload: string;
  readonly seconds: number;
  readonly metrics: readonly StoredMetricRecord[];
  readonly environment: Environment;
  /** What a reader should know before trusting the verdict: that it is worth less than one of pairs, and why. */
  readonly notes: readonly string[];
}
