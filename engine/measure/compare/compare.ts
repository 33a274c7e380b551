/**
 * A comparison: pairs of launches until the verdict is clear or the time is over.
 *
 *   pair     base and head are started at once, and stand still when they are ready
 *            each warms up, in turn
 *            trials in turn, the order of each two thrown by a seeded coin: what drifts meets both alike
 *            both end: the next pair meets other memory, another JIT's mood, another placement
 */
import type { Histogram } from "hdr-histogram-js";
import { Random } from "../../../queues/random.ts";
import { newHistogram } from "../latency.ts";
import type { SideName, TrialRecord } from "../report/data.ts";
import { SIDES } from "../report/data.ts";
import { decodeTrial } from "../trial.ts";
import { Comparison, type MetricRule, type Verdict } from "../verdict/verdict.ts";
import { type Figures, logRatios, type TrialPair } from "./figures.ts";
import type { Launch, Source } from "./launch.ts";

export interface CompareOptions {
  readonly sources: Readonly<Record<SideName, Source>>;
  readonly rules: readonly MetricRule[];
  /** Time for everything. */
  readonly seconds: number;
  /** Trials of each side in a pair of launches. */
  readonly trials: number;
  readonly seed: number;
  /** Aborted, the comparison ends after the trial that runs, with what it has. */
  readonly abort?: AbortSignal;
  /** Hears of each pair. */
  progress?(verdict: Verdict, seconds: number): void;
}

export interface Compared {
  readonly verdict: Verdict;
  /** ln(head / base) of each counted pair, in the order of the rules. */
  readonly pairs: readonly (readonly number[])[];
  /** Pairs that do not count, and why the last of them does not; null where there is none. */
  readonly invalid: { readonly pairs: number; readonly reason: string } | null;
  readonly interrupted: boolean;
  readonly trials: readonly TrialRecord[];
  /** All latencies that count, nanoseconds. */
  readonly latency: Readonly<Record<SideName, Histogram>>;
  readonly seconds: number;
  /** CPU time of all launches. */
  readonly cpuNs: number;
}

/** A side failed, rather than being slow. */
export class SideError extends Error {
  readonly side: SideName;

  constructor(side: SideName, cause: unknown) {
    super(`${side}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    this.side = side;
  }
}

/** Pairs in a row, from the first, none of which counts: after so many more there is no hope. */
const HOPELESS_PAIRS = 5;
/** A pair is begun only if there is time for one that takes so much longer than those before. */
const SLOWER = 1.15;

/** Throws SideError for a side that does not start, ends by itself or does not answer. */
export async function compare(options: CompareOptions): Promise<Compared> {
  const run = new Run(options);
  await run.all();
  return run.result();
}

class Run {
  private readonly options: CompareOptions;
  private readonly random: Random;
  private readonly comparison: Comparison;
  private readonly start = performance.now();
  private readonly epochMs = Date.now();
  private readonly pairs: number[][] = [];
  private readonly records: TrialRecord[] = [];
  private readonly latency: Record<SideName, Histogram> = { base: newHistogram(), head: newHistogram() };
  private begun = 0;
  private cpuNs = 0;
  private invalid: Compared["invalid"] = null;
  private verdict: Verdict;

  constructor(options: CompareOptions) {
    this.options = options;
    this.random = new Random(options.seed);
    this.comparison = new Comparison(options.rules, options.seed);
    this.verdict = this.comparison.judge(false);
  }

  private get elapsed(): number {
    return (performance.now() - this.start) / 1000;
  }

  private get aborted(): boolean {
    return this.options.abort?.aborted === true;
  }

  /** Whether there is time for another pair. */
  private get time(): boolean {
    return this.elapsed * (1 + SLOWER / Math.max(1, this.begun)) < this.options.seconds;
  }

  async all(): Promise<void> {
    const { progress } = this.options;
    do {
      const trials = await this.pair(this.begun++);
      if (this.aborted) return;
      if (trials !== null) {
        const ratios = logRatios(this.options.rules, trials);
        this.pairs.push(ratios);
        this.comparison.add(ratios);
        this.verdict = this.comparison.judge(!this.time || this.comparison.full);
        progress?.(this.verdict, this.elapsed);
      }
      if (this.pairs.length === 0 && this.begun === HOPELESS_PAIRS) return;
    } while (this.verdict.outcome === "inconclusive" && this.time && !this.comparison.full);
  }

  result(): Compared {
    const { verdict, pairs, invalid, records: trials, latency, elapsed: seconds, aborted: interrupted, cpuNs } = this;
    return { verdict, pairs, invalid, interrupted, trials, latency, seconds, cpuNs };
  }

  /** One pair of launches. Resolves with its trials, or null where they do not count. */
  private async pair(pair: number): Promise<TrialPair[] | null> {
    const launches = await this.launch();
    try {
      for (const side of this.order()) await this.trial(launches, side, pair, null);
      const counted: TrialPair[] = [];
      for (let index = 0; index < this.options.trials && !this.aborted; index++) {
        const both: Partial<Record<SideName, Figures | null>> = {};
        for (const side of this.order()) both[side] = await this.trial(launches, side, pair, index);
        if (both.base && both.head) counted.push({ base: both.base, head: both.head });
      }
      if (counted.length * 2 >= this.options.trials) return counted;
      const reason = this.records.findLast((record) => record.invalid !== null)?.invalid ?? "interrupted";
      this.invalid = { pairs: (this.invalid?.pairs ?? 0) + 1, reason };
      return null;
    } finally {
      const took = await Promise.all(SIDES.map((side) => launches[side].close()));
      this.cpuNs += took[0] + took[1];
    }
  }

  private order(): readonly SideName[] {
    return this.random.below(2) === 0 ? SIDES : SIDES.toReversed();
  }

  private async launch(): Promise<Record<SideName, Launch>> {
    const started = await Promise.allSettled(SIDES.map((side) => this.options.sources[side].launch()));
    const failed = started.findIndex(({ status }) => status === "rejected");
    if (failed < 0) {
      const [base, head] = started.map((one) => (one as PromiseFulfilledResult<Launch>).value);
      return { base, head };
    }
    for (const one of started) if (one.status === "fulfilled") await one.value.close();
    throw new SideError(SIDES[failed], (started[failed] as PromiseRejectedResult).reason);
  }

  /** @param index null for the one that warms up; resolves with null where the trial does not count */
  private async trial(
    launches: Readonly<Record<SideName, Launch>>,
    side: SideName,
    pair: number,
    index: number | null,
  ): Promise<Figures | null> {
    try {
      const { trial: json, figures } = await launches[side].trial();
      const trial = decodeTrial(json);
      // Not measured at all: it did not answer while it was warmed up. Later, a short trial may have had no CPU.
      if (trial.seconds === 0) throw new Error(trial.valid === true ? "no answer" : trial.valid.reason);
      if (index === null) return null;
      const t = (Date.parse(trial.startedAt) - this.epochMs) / 1000;
      const invalid = trial.valid === true ? null : trial.valid.reason;
      this.records.push({
        side,
        pair,
        index,
        t,
        seconds: trial.seconds,
        ...figures,
        max: trial.received === 0 ? 0 : trial.latency.maxValue,
        failed: trial.lost + trial.wrong,
        invalid,
        hiccups: trial.hiccups.events.map((event) => ({ t: t + event.t, ns: event.ns })),
      });
      if (invalid !== null) return null;
      this.latency[side].add(trial.latency);
      return figures;
    } catch (error) {
      throw new SideError(side, error);
    }
  }
}
