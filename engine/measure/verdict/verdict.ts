/**
 * From pairs of launches to a verdict.
 *
 * The unit of all that is counted here is a *pair of launches*: base and head, each a process started anew, that ran short
 * trials in turn. Trials of one process are alike in what a start decides by chance (where its memory lies, what the JIT
 * made of it), so more of them say nothing about another start: a test that counts trials finds differences between a
 * version and itself. Within a pair each metric is the median of the log ratios of its trials, which neither drift of the
 * machine nor a neighbour's burst moves.
 *
 *   regressed     the test says "different" (sign-flip.ts), and the estimate is at or beyond the minimum that matters
 *   improved      the same to the other side, and no metric is worse
 *   pass          the upper bound of every metric's change lies below its minimum
 *   inconclusive  neither, when the time was over
 */
import { Random } from "../../../queues/random.ts";
import { type Location, locate } from "./location.ts";
import { lookFrom, PAIRS_MAX, sharesAt } from "./looks.ts";
import { adjustedP, scores } from "./sign-flip.ts";

/** A metric under judgement. */
export interface MetricRule {
  readonly name: string;
  /** Which way is better: lower for a latency, higher for throughput. */
  readonly better: "lower" | "higher";
  /** The smallest change for the worse that matters, relative: 0.03 is 3 %. Above 0. */
  readonly minimum: number;
  /** Watched: it may fail the comparison, but a pass does not wait for it to be settled. */
  readonly watched?: boolean;
}

export type Outcome = "pass" | "regressed" | "improved" | "inconclusive";

/** What is known of one metric. Changes are relative to base and in the metric itself: 0.1 is 10 % more of it. */
export interface Finding {
  readonly metric: MetricRule;
  readonly outcome: Outcome;
  readonly change: number;
  /** Interval of the change: each end has 2.5 % beyond it. -1 and Infinity while there are fewer than 6 pairs. */
  readonly low: number;
  readonly high: number;
  /** Corrected for the number of metrics, of the side that the estimate is on. 1 before there is a test. */
  readonly p: number;
  /** Inconclusive: pairs that would probably settle it; Infinity where the change lies at the minimum itself. */
  readonly pairsNeeded: number;
}

export interface Verdict {
  readonly outcome: Outcome;
  readonly pairs: number;
  readonly findings: readonly Finding[];
}

/**
 * How often a version compared with itself may be called different, both sides and all looks and metrics together; it is
 * less in practice, because the estimate must reach the minimum, too.
 */
export const FALSE_ALARMS = 0.005;
/** How often a metric that is worse by exactly the minimum may pass. */
const FALSE_PASSES = 0.05;
/** Beyond each end of an interval that is shown. */
const INTERVAL_TAIL = 0.025;
/** Of a standard normal: what an interval's end, and a pass, have beyond them. */
const Z_INTERVAL = 1.96;
const Z_PASS = 1.645;
/** A standard normal's for the first shares of FALSE_ALARMS. */
const Z_DIFFERENT = 2.9;

export class Comparison {
  private readonly rules: readonly MetricRule[];
  private readonly random: Random;
  /** Of each metric, a log ratio for each pair; positive where head is worse. */
  private readonly worse: number[][];

  /** @param seed of the signs thrown, where there are too many pairs to look at all */
  constructor(rules: readonly MetricRule[], seed: number) {
    if (rules.length === 0) throw new RangeError("a comparison needs a metric");
    for (const { name, minimum } of rules) {
      if (!(minimum > 0 && minimum < 10)) throw new RangeError(`${name}: a minimum above 0, below 1000 %`);
    }
    this.rules = rules;
    this.random = new Random(seed);
    this.worse = rules.map(() => []);
  }

  get pairs(): number {
    return this.worse[0].length;
  }

  /** Whether it takes no more pairs. */
  get full(): boolean {
    return this.pairs === PAIRS_MAX;
  }

  /** @param logRatios ln(head / base) of each metric, finite */
  add(logRatios: readonly number[]): void {
    if (!logRatios.every(Number.isFinite)) throw new RangeError(`log ratios ${logRatios}: finite ones`);
    if (this.pairs === PAIRS_MAX) throw new RangeError(`${PAIRS_MAX} pairs at most`);
    this.rules.forEach(({ better }, m) => {
      this.worse[m].push(better === "lower" ? logRatios[m] : -logRatios[m]);
    });
  }

  /**
   * What the pairs say so far. Ask once after each pair, and stop when the outcome is not "inconclusive".
   *
   * @param last whether no pair will follow: spends what error is left
   */
  judge(last: boolean): Verdict {
    const shares = this.pairs === 0 ? null : sharesAt(this.pairs, last);
    if (shares === null)
      return this.verdict(
        "inconclusive",
        this.rules.map(() => null),
      );
    const alpha = (FALSE_ALARMS / 2) * shares.different;
    const { above, below } = adjustedP(this.worse.map(scores), this.random);
    const tests = this.rules.map(({ minimum }, m): Test => {
      const margin = Math.log1p(minimum);
      const { estimate, upper } = locate(this.worse[m], FALSE_PASSES * shares.same);
      const p = estimate >= 0 ? above[m] : below[m];
      const different = p <= alpha && Math.abs(estimate) >= margin;
      if (different) return { p, outcome: estimate > 0 ? "regressed" : "improved" };
      return { p, outcome: upper < margin ? "pass" : "inconclusive" };
    });
    return this.verdict(this.overall(tests, last), tests);
  }

  private overall(tests: readonly Test[], last: boolean): Outcome {
    const some = (outcome: Outcome): boolean => tests.some((test) => test.outcome === outcome);
    if (some("regressed")) return "regressed";
    const open = this.rules.some(({ watched }, m) => tests[m].outcome === "inconclusive" && watched !== true);
    if (open) return "inconclusive";
    if (some("improved")) return "improved";
    // Nothing is worse. Where something seems better, the next looks may say so.
    const better = this.rules.some(({ minimum }, m) => locate(this.worse[m], 0.5).estimate <= -Math.log1p(minimum));
    return better && !last && this.pairs < UNTIL_BETTER ? "inconclusive" : "pass";
  }

  private verdict(outcome: Outcome, tests: readonly (Test | null)[]): Verdict {
    return { outcome, pairs: this.pairs, findings: this.rules.map((rule, m) => this.finding(rule, m, tests[m])) };
  }

  private finding(metric: MetricRule, m: number, test: Test | null): Finding {
    const worse = this.worse[m];
    const { estimate, lower, upper }: Location =
      worse.length === 0 ? { estimate: 0, lower: -Infinity, upper: Infinity } : locate(worse, INTERVAL_TAIL);
    const sign = metric.better === "lower" ? 1 : -1;
    const outcome = test?.outcome ?? "inconclusive";
    return {
      metric,
      outcome,
      change: Math.expm1(sign * estimate),
      low: Math.expm1(sign === 1 ? lower : -upper),
      high: Math.expm1(sign === 1 ? upper : -lower),
      p: test?.p ?? 1,
      pairsNeeded: outcome === "inconclusive" ? pairsNeeded(worse.length, estimate, (upper - lower) / 2, metric) : 0,
    };
  }
}

interface Test {
  readonly p: number;
  readonly outcome: Outcome;
}

/** Pairs up to which a pass waits for what may be an improvement. */
const UNTIL_BETTER = 16;

/**
 * Pairs that would settle a metric if the estimate stays and its interval shrinks with the square root of their number: so
 * many that the interval lies clear of the minimum, or of no change at all.
 */
function pairsNeeded(pairs: number, estimate: number, halfWidth: number, { minimum }: MetricRule): number {
  if (!Number.isFinite(halfWidth)) return lookFrom(pairs + 1);
  const deviation = (halfWidth / Z_INTERVAL) * Math.sqrt(pairs);
  const margin = Math.log1p(minimum);
  const needed = estimate < margin ? (Z_PASS + 0.5) / (margin - estimate) : Z_DIFFERENT / estimate;
  return Math.max(lookFrom(pairs + 1), lookFrom((needed * deviation) ** 2));
}
