import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { locate, median, signedRankDistribution, walshAverages } from "../../../engine/measure/verdict/location.ts";
import { sharesAt } from "../../../engine/measure/verdict/looks.ts";
import { adjustedP, scores } from "../../../engine/measure/verdict/sign-flip.ts";
import { Comparison, FALSE_ALARMS, type MetricRule, type Outcome } from "../../../engine/measure/verdict/verdict.ts";
import { Random } from "../../../queues/random.ts";
import { RULES } from "./fake-comparison.ts";
import { NOISE, type NoiseModel, PairMaker } from "./noise.ts";

describe("location", () => {
  test("median and Walsh averages", () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 2, 3])).toBe(2.5);
    expect(median([])).toBeNaN();
    expect([...walshAverages([1, 3])]).toEqual([1, 2, 3]);
  });

  test("Wilcoxon's distribution is that of its table", () => {
    // P(W+ <= w): Hollander & Wolfe, table A.4 from the other end.
    expect(signedRankDistribution(5)[0]).toBe(1 / 32);
    expect(signedRankDistribution(6)[2]).toBeCloseTo(3 / 64, 12);
    expect(signedRankDistribution(10)[8]).toBeCloseTo(0.0244, 4);
    expect(signedRankDistribution(12).at(-1)).toBeCloseTo(1, 12);
  });

  test("an interval has bounds only where there are values enough, and both lie around the estimate", () => {
    expect(locate([1, 2, 3], 0.025)).toEqual({ estimate: 2, lower: -Infinity, upper: Infinity });
    expect(locate([1, 2, 3, 4, 5, 6], 0.025)).toEqual({ estimate: 3.5, lower: 1, upper: 6 });
    fc.assert(
      fc.property(fc.array(fc.double({ min: -1, max: 1, noNaN: true }), { minLength: 6, maxLength: 20 }), (values) => {
        const { estimate, lower, upper } = locate(values, 0.025);
        expect(lower).toBeLessThanOrEqual(estimate);
        expect(upper).toBeGreaterThanOrEqual(estimate);
      }),
      { numRuns: 50 },
    );
  });

  test("one value that is far off moves nothing much", () => {
    expect(locate([1, 1.1, 0.9, 1.05, 0.95, 1, 1000], 0.025).estimate).toBeLessThan(1.2);
  });
});

describe("sign flips", () => {
  test("one metric: the share of sign settings with as large a sum", () => {
    // All of one sign and one size: only one setting of 2^9 reaches it.
    expect(adjustedP([scores(new Float64Array(9).fill(0.1))], new Random(1))).toEqual({ above: [2 ** -9], below: [1] });
    // Nothing but zeros reaches itself always.
    expect(adjustedP([scores(new Float64Array(9))], new Random(1))).toEqual({ above: [1], below: [1] });
  });

  test("a metric beside three that show nothing is as sure as alone, and they are not", () => {
    const random = new Random(3);
    const noise = (): number[] => Array.from({ length: 9 }, () => random.unit() - 0.5);
    const clear = Array.from({ length: 9 }, () => 0.1 + 0.01 * random.unit());
    const { above: p } = adjustedP([noise(), clear, noise(), noise()].map(scores), random);
    expect(p[1]).toBeLessThan(0.003);
    for (const other of [0, 2, 3]) expect(p[other]).toBeGreaterThan(0.05);
  });

  test("thrown signs agree with all signs", () => {
    const random = new Random(4);
    const values = Array.from({ length: 14 }, () => 0.3 + random.unit() - 0.5);
    const all = adjustedP([scores(values)], random).above[0];
    // A pair that shows nothing changes nothing, and makes it too many for all.
    const thrown = adjustedP([scores([...values, 0])], random).above[0];
    expect(Math.abs(all - thrown)).toBeLessThan(0.01);
  });

  test("outliers are cut off", () => {
    const cut = scores([0.1, 0.1, 0.1, 0.1, 50]);
    expect(cut[4] / cut[0]).toBeCloseTo(2, 12);
  });
});

test("shares of the errors add up to no more than all, wherever the last look is", () => {
  for (let last = 1; last <= 300; last++) {
    const spent = { different: 0, same: 0 };
    for (let pairs = 1; pairs <= last; pairs++) {
      const shares = sharesAt(pairs, pairs === last);
      spent.different += shares?.different ?? 0;
      spent.same += shares?.same ?? 0;
    }
    expect(spent.different).toBeCloseTo(1, 12);
    expect(spent.same).toBeCloseTo(1, 12);
  }
});

/** Pairs until a verdict, or so many. */
const PAIRS = 40;

function outcome(maker: PairMaker, rules: readonly MetricRule[], seed: number): { outcome: Outcome; pairs: number } {
  const comparison = new Comparison(rules, seed);
  for (let pairs = 1; ; pairs++) {
    comparison.add(maker.next());
    const verdict = comparison.judge(pairs === PAIRS);
    if (verdict.outcome !== "inconclusive" || pairs === PAIRS) return { outcome: verdict.outcome, pairs };
  }
}

function share(wanted: readonly Outcome[], count: number, model: NoiseModel, effect: number[], scale: number): number {
  // Another stream for each model: the same launches would be unlucky in all of them.
  const random = new Random(Bun.hash.crc32(`${model.name} ${effect} ${scale}`));
  let hits = 0;
  for (let seed = 0; seed < count; seed++)
    if (wanted.includes(outcome(new PairMaker(model, random, effect, scale), RULES, seed).outcome)) hits++;
  return hits / count;
}

describe("simulated comparisons", () => {
  const NOTHING = [0, 0, 0, 0];

  test("a version compared with itself is seldom called different, whatever the noise", () => {
    const alarms = NOISE.map((model) => share(["regressed", "improved"], 40, model, NOTHING, 1));
    expect(alarms.reduce((sum, part) => sum + part, 0) / NOISE.length).toBeLessThanOrEqual(0.01);
  });

  test("on a machine with half that noise it passes", () => {
    expect(share(["pass"], 60, NOISE[0], NOTHING, 0.5)).toBeGreaterThan(0.95);
  });

  test.each([...NOISE])("$name: 10 % more at p50 is found", (model) => {
    const [p50, throughput] = [Math.log(1.1), -Math.log(1.08)];
    expect(share(["regressed"], 40, model, [p50, 0, 0, throughput], 0.5)).toBeGreaterThanOrEqual(0.95);
  });

  test("+25 % at p99 alone is found", () => {
    expect(share(["regressed"], 40, NOISE[0], [0, Math.log(1.25), 0, 0], 1)).toBeGreaterThanOrEqual(0.95);
  });

  test("a change of just what matters is passed at most at times", () => {
    const [minimum] = RULES.map((rule) => Math.log1p(rule.minimum));
    expect(share(["pass"], 60, NOISE[0], [minimum, 0, 0, 0], 0.3)).toBeLessThanOrEqual(0.05);
  });

  test("a test that takes trials for launches would cry wolf: what the pairs of launches are for", () => {
    const random = new Random(9);
    let alarms = 0;
    for (let i = 0; i < 60; i++) {
      // One pair of launches, 12 trials of each, as if each were a pair of its own.
      const launches = 0.04 * Math.SQRT2 * (random.unit() - 0.5) * Math.sqrt(12);
      const trials = Array.from({ length: 12 }, () => launches + 0.01 * (random.unit() - 0.5));
      const { above, below } = adjustedP([scores(trials)], random);
      if (Math.min(above[0], below[0]) <= FALSE_ALARMS / 2) alarms++;
    }
    expect(alarms).toBeGreaterThan(20);
  });
});

describe("verdict", () => {
  const judge = (ratios: number[][], rules = RULES, last = true) => {
    const comparison = new Comparison(rules, 1);
    for (const row of ratios) comparison.add(row);
    return comparison.judge(last);
  };
  const rows = (count: number, row: (i: number) => number[]): number[][] =>
    Array.from({ length: count }, (_, i) => row(i));

  test("changes are those of the metric itself, whichever way is better", () => {
    const { outcome, findings } = judge(rows(10, (i) => [0.1 + 0.001 * i, 0, 0, -0.1]));
    expect(outcome).toBe("regressed");
    expect(findings[0]).toMatchObject({ outcome: "regressed", pairsNeeded: 0 });
    expect(findings[0].change).toBeCloseTo(Math.expm1(0.1045), 6);
    expect(findings[3].outcome).toBe("regressed");
    expect(findings[3].change).toBeCloseTo(Math.expm1(-0.1), 6);
  });

  test("better in one, worse in none", () => {
    expect(judge(rows(10, (i) => [-0.1 - 0.001 * i, 0, 0, 0])).outcome).toBe("improved");
    expect(judge(rows(10, (i) => [-0.1 - 0.001 * i, 0.3, 0, 0])).outcome).toBe("regressed");
  });

  test("what may yet prove better is waited for", () => {
    const better = rows(6, (i) => [-0.1 - 0.001 * i, 0, 0, 0]);
    expect(judge(better, RULES, false).outcome).toBe("inconclusive");
    expect(judge(better, RULES, true).outcome).toBe("pass");
  });

  test("a certain change below what matters passes", () => {
    expect(judge(rows(12, (i) => [0.01 + 0.001 * (i % 3), 0, 0, 0])).outcome).toBe("pass");
  });

  test("open: how many pairs more, and none for a change at the minimum itself", () => {
    const noisy = judge(rows(10, (i) => [0.2 * (i % 2 === 0 ? 1 : -1), 0, 0, 0]));
    expect(noisy.outcome).toBe("inconclusive");
    expect(noisy.findings[0].pairsNeeded).toBeGreaterThan(30);
    expect(judge([[0, 0, 0, 0]]).findings[0]).toMatchObject({ low: -1, high: Infinity, pairsNeeded: 6 });
  });

  test("a watched metric fails a comparison, and does not hold one up", () => {
    const watched = (p999: (i: number) => number): Outcome => judge(rows(12, (i) => [0, 0, p999(i), 0])).outcome;
    expect(watched((i) => (i % 2 === 0 ? 1 : -1))).toBe("pass");
    expect(watched((i) => 0.6 + 0.01 * i)).toBe("regressed");
  });

  test("bad input is refused", () => {
    expect(() => new Comparison([], 1)).toThrow(RangeError);
    expect(() => new Comparison([{ name: "p50", better: "lower", minimum: 0 }], 1)).toThrow(/p50/);
    expect(() => judge([[Number.NaN, 0, 0, 0]])).toThrow(/finite/);
  });
});
