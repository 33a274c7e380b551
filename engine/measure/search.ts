/**
 * The highest rate at which a target loses no more than a share of the requests: the throughput of RFC 2544, section 26.1,
 * by doubling until one is too high and halving the gap from there on. Last comes a trial at the rate that was found.
 */
import { BEHIND_SHARE } from "./run.ts";
import type { TrialSpec } from "./spec.ts";
import type { Search, Trial } from "./trial.ts";

export interface SearchOptions {
  /** Share lost that is allowed, 0 to 1. */
  readonly lossMax: number;
}

/** The two rates between which the limit lies differ by less than this. */
const RESOLUTION = 0.03;
/** Trials at most: some 10 doublings, as many halvings as the resolution takes, and those made again. */
const STEPS_MAX = 32;
/** Once more at a lower rate, where the last trial is not as the search was: a bound found by luck. */
const RETREATS = 3;
const RETREAT = 0.95;

/** What a search asks of a Bench. */
export interface Searchable {
  readonly aborted: boolean;
  set(change: Pick<TrialSpec, "rate" | "seconds">): void;
  trial(): Promise<Trial>;
}

/** Trials at one rate, where what disturbs the generator may have passed by the next one. */
const GENERATOR_TRIES = 3;

type Step = Search["steps"][number];

/** Throws RangeError where there is no rate to begin at. */
export function checkSearch({ rate }: TrialSpec): void {
  if (rate === 0) throw new RangeError("search: begins at a --rate above 0");
}

/** Begins at `spec.rate`. Throws as checkSearch(). */
export async function search(bench: Searchable, spec: TrialSpec, { lossMax }: SearchOptions): Promise<Trial> {
  checkSearch(spec);
  const steps: Step[] = [];
  let low = 0;
  let high = Number.POSITIVE_INFINITY;
  let limit: Search["limit"] = "none";
  let rate = spec.rate;
  let best: Trial | null = null;
  const attempt = async (): Promise<Trial> => {
    bench.set({ rate, seconds: spec.seconds });
    for (let again = GENERATOR_TRIES; ; again--) {
      const trial = await bench.trial();
      steps.push({ rate, loss: lossOf(trial), passed: passes(trial, lossMax) });
      if (again === 1 || !ofGenerator(trial) || bench.aborted) return trial;
    }
  };
  while (steps.length < STEPS_MAX && (high === Number.POSITIVE_INFINITY || high / Math.max(low, 1) > 1 + RESOLUTION)) {
    const trial = await attempt();
    // Of a target nothing is known that was never asked as it should have been: a lower rate would only look like its limit.
    if (bench.aborted || (low === 0 && ofGenerator(trial))) return { ...trial, search: { lossMax, steps, limit } };
    if (passes(trial, lossMax)) {
      low = rate;
      best = trial;
    } else {
      high = rate;
      limit = ofGenerator(trial) ? "generator" : "target";
    }
    if (low === 0 && high < 1) break;
    rate = high === Number.POSITIVE_INFINITY ? rate * 2 : low === 0 ? high / 2 : (low + high) / 2;
  }
  rate = low === 0 ? high : low;
  let last = await attempt();
  for (let i = 0; i < RETREATS && low > 0 && !passes(last, lossMax) && !bench.aborted; i++) {
    rate *= RETREAT;
    last = await attempt();
  }
  return { ...(passes(last, lossMax) || best === null ? last : best), search: { lossMax, steps, limit } };
}

const lossOf = ({ sent, lost, skipped }: Trial): number =>
  sent + skipped === 0 ? 1 : (lost + skipped) / (sent + skipped);

function passes(trial: Trial, lossMax: number): boolean {
  return trial.valid === true && lossOf(trial) <= lossMax;
}

/** Whether it was the load that did not keep up, not the target. */
function ofGenerator({ valid, sent, behind, skipped }: Trial): boolean {
  return valid !== true && behind > (sent + skipped + behind) * BEHIND_SHARE;
}
