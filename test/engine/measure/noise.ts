/**
 * Noise of launches and trials, seeded, as logarithms: what a version compared with itself shows. Spreads are those of 24
 * launches of 10 trials each of 50 ms, inline, one in flight, on 2026-11-27 while other programs kept both CPUs busy (load
 * 5.9): of launches' medians, and within a launch.
 */

import { median } from "../../../engine/measure/verdict/location.ts";
import type { Random } from "../../../queues/random.ts";

/** A standard normal (Box & Muller 1958). */
export function normal(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random.unit())) * Math.cos(2 * Math.PI * random.unit());
}

/** p50, p99, p99.9, throughput. */
const LAUNCH = [0.04, 0.046, 0.68, 0.04];
const TRIAL = [0.042, 0.088, 1.44, 0.055];
const TRIALS = 4;

export interface NoiseModel {
  readonly name: string;
  /** Of a launch and of a trial, in standard deviations. */
  deviation(random: Random): number;
  /** Part of launches of another mood, which costs 10 %. */
  readonly slowLaunches: number;
  /** Part of trials in which a neighbour has the CPU: they take three times as long. */
  readonly bursts: number;
  /** What the machine drifts by from one trial to the next, both sides alike; a random walk. */
  readonly drift: number;
}

const heavy = (random: Random): number => normal(random) * (random.unit() < 0.1 ? 4 : 1);

export const NOISE: readonly NoiseModel[] = [
  { name: "normal", deviation: normal, slowLaunches: 0, bursts: 0, drift: 0 },
  { name: "heavy tails", deviation: heavy, slowLaunches: 0, bursts: 0, drift: 0 },
  { name: "two kinds of launches", deviation: normal, slowLaunches: 0.3, bursts: 0, drift: 0 },
  { name: "bursts of neighbours", deviation: normal, slowLaunches: 0, bursts: 0.1, drift: 0 },
  { name: "drift", deviation: normal, slowLaunches: 0, bursts: 0, drift: 0.02 },
];

/** Makes pairs of launches: log ratios head / base of the four metrics, each the median of its trials. */
export class PairMaker {
  private readonly model: NoiseModel;
  private readonly random: Random;
  private readonly effect: readonly number[];
  /** Spreads are multiplied by it. */
  private readonly scale: number;
  private machine = 0;

  /** @param effect log ratio that is really there, of each metric */
  constructor(model: NoiseModel, random: Random, effect: readonly number[], scale = 1) {
    this.model = model;
    this.random = random;
    this.effect = effect;
    this.scale = scale;
  }

  next(): number[] {
    const launches = [this.launch(), this.launch()];
    const trials = Array.from({ length: TRIALS }, () => {
      // In either order.
      const first = this.random.below(2);
      const both: number[][] = [];
      both[first] = this.trial(launches[first]);
      both[1 - first] = this.trial(launches[1 - first]);
      return both[1].map((value, m) => value - both[0][m] + this.effect[m]);
    });
    return LAUNCH.map((_, m) => median(trials.map((trial) => trial[m])));
  }

  private launch(): number[] {
    const { model, random, scale } = this;
    const mood = random.unit() < model.slowLaunches ? Math.log(1.1) : 0;
    // Metrics hang together: half of what a launch is by chance, it is in all of them.
    const common = model.deviation(random);
    return LAUNCH.map((spread, m) => {
      const value = scale * spread * Math.SQRT1_2 * (common + model.deviation(random)) + mood;
      return m === 3 ? -value : value;
    });
  }

  private trial(launch: readonly number[]): number[] {
    const { model, random, scale } = this;
    this.machine += model.drift * normal(random);
    const busy = this.machine + (random.unit() < model.bursts ? Math.log(3) : 0);
    return launch.map((value, m) => value + scale * TRIAL[m] * model.deviation(random) + (m === 3 ? -busy : busy));
  }
}
