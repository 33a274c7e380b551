/** Comparisons of versions that never were, from seeded noise, for tests of what is made of them. */

import type { Compared } from "../../../engine/measure/compare/compare.ts";
import { type Figures, logRatios, type TrialPair } from "../../../engine/measure/compare/figures.ts";
import { newHistogram } from "../../../engine/measure/latency.ts";
import type { SideName, TrialRecord } from "../../../engine/measure/report/data.ts";
import type { Circumstances } from "../../../engine/measure/report/make.ts";
import { Comparison, type MetricRule } from "../../../engine/measure/verdict/verdict.ts";
import { Random } from "../../../queues/random.ts";
import { normal } from "./noise.ts";

export const RULES: readonly MetricRule[] = [
  { name: "p50", better: "lower", minimum: 0.03 },
  { name: "p99", better: "lower", minimum: 0.08 },
  { name: "p99.9", better: "lower", minimum: 0.25, watched: true },
  { name: "throughput", better: "higher", minimum: 0.03 },
];

const TRIALS = 4;

/** Launches of a head whose latencies are `factor` times those of base, until the verdict is clear. */
export function fakeCompared(factor: number, pairsMax = 40): Compared {
  const random = new Random(5);
  const comparison = new Comparison(RULES, 5);
  const trials: TrialRecord[] = [];
  const pairs: number[][] = [];
  const latency = { base: newHistogram(), head: newHistogram() };
  const trial = (side: SideName, pair: number, index: number, launch: number): Figures => {
    const scale = (side === "head" ? factor : 1) * Math.exp(0.02 * launch);
    const p50 = 450 * scale * Math.exp(0.01 * normal(random));
    const figures: Figures = {
      p50,
      p90: p50 * 1.08,
      p99: p50 * 1.2 * Math.exp(0.03 * normal(random)),
      "p99.9": p50 * 2.2 * Math.exp(0.3 * Math.abs(normal(random))),
      throughput: 0.9e9 / p50,
    };
    for (let i = 0; i < 2000; i++) latency[side].recordValue(Math.round(p50 * Math.exp(0.05 * normal(random))));
    for (let i = 0; i < 20; i++) latency[side].recordValue(Math.round(p50 * (1.3 + 3 * random.unit() ** 4)));
    const t = trials.length * 0.09 + pair * 1.2;
    const hiccups = random.unit() < 0.05 ? [{ t: t + 0.01, ns: 1e6 + 4e6 * random.unit() }] : [];
    trials.push({ side, pair, index, t, seconds: 0.03, ...figures, max: p50 * 40, failed: 0, invalid: null, hiccups });
    return figures;
  };
  let verdict = comparison.judge(false);
  for (let pair = 0; pair < pairsMax && verdict.outcome === "inconclusive"; pair++) {
    const launch = { base: normal(random), head: normal(random) };
    const both: TrialPair[] = Array.from({ length: TRIALS }, (_, index) => ({
      base: trial("base", pair, index, launch.base),
      head: trial("head", pair, index, launch.head),
    }));
    pairs.push(logRatios(RULES, both));
    comparison.add(pairs[pair]);
    verdict = comparison.judge(pair === pairsMax - 1);
  }
  const seconds = (trials.at(-1)?.t ?? 0) + 0.1;
  return { verdict, pairs, invalid: null, interrupted: false, trials, latency, seconds, cpuNs: 0 };
}

export const CIRCUMSTANCES: Circumstances = {
  sides: {
    base: { label: "main (0123456: as it was <before>)", commit: "0123456789012345678901234567890123456789" },
    head: { label: "working tree (89abcde: a | change)", commit: "89abcdef89abcdef89abcdef89abcdef89abcdef" },
  },
  workload: "udp-echo of lcore on memory, closed loop, 18 bytes",
  budgetSeconds: 60,
  seed: 5,
  environment: {
    date: "2026-01-02T03:04:05.000Z",
    command: "lcore regress --base main",
    lcore: "0.1.0",
    bun: "1.4.5",
    kernel: "6.18",
    cpu: "a CPU",
    cpus: 2,
    allowedCpus: [0, 1],
    governor: null,
    load: 0.5,
    steal: 0.01,
    others: 0.02,
    seconds: 20,
  },
  notes: ["A note & its <brackets>."],
};
