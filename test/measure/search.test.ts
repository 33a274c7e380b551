/** The search for the highest rate, against a target that is only a rule: what it loses at which rate. */
import { describe, expect, test } from "bun:test";
import { newHistogram } from "../../engine/measure/latency.ts";
import { type Searchable, search } from "../../engine/measure/search.ts";
import { DEFAULTS, type TrialSpec } from "../../engine/measure/spec.ts";
import type { Trial } from "../../engine/measure/trial.ts";

const SPEC: TrialSpec = { ...DEFAULTS, workload: "udp-echo", target: "lcore", rate: 1000 };

type Rule = (rate: number) => Partial<Trial>;

/** A bench whose trials are what the rule says. */
class Made implements Searchable {
  aborted = false;
  rate = 0;
  readonly rates: number[] = [];
  private readonly rule: Rule;

  constructor(rule: Rule) {
    this.rule = rule;
  }

  set({ rate }: Pick<TrialSpec, "rate">): void {
    this.rate = rate;
  }

  async trial(): Promise<Trial> {
    this.rates.push(this.rate);
    const sent = Math.round(this.rate);
    const empty = newHistogram();
    return {
      ...{ target: "lcore", workload: "udp-echo", parameters: SPEC, startedAt: "", seconds: 1 },
      ...{ warmup: { seconds: 0, steady: true }, requestedRate: this.rate, achievedRate: this.rate },
      ...{ sent, received: sent, lost: 0, duplicated: 0, wrong: 0, late: 0, skipped: 0, behind: 0, bytes: 0 },
      ...{ latency: empty, lag: empty, series: [], hiccups: { histogram: empty, events: [] }, valid: true },
      ...{ cpu: { serverNs: null, generatorNs: 0 } },
      ...this.rule(this.rate),
    };
  }
}

/** Loses what is beyond its limit. */
const limited =
  (limit: number): Rule =>
  (rate) => ({ lost: Math.max(0, Math.round(rate - limit)) });

describe("search", () => {
  test.each([1500, 37_000, 1_234_567])("finds a limit of %d", async (limit) => {
    const bench = new Made(limited(limit));
    const trial = await search(bench, SPEC, { lossMax: 0.001 });
    expect(trial.requestedRate).toBeGreaterThan(limit * 0.95);
    expect(trial.requestedRate).toBeLessThanOrEqual(limit * 1.002);
    expect(trial.search?.limit).toBe("target");
    expect(trial.search?.steps.map(({ rate }) => rate)).toEqual(bench.rates);
    expect(bench.rates.length).toBeLessThanOrEqual(24);
  });

  test("below the rate that it begins at", async () => {
    const trial = await search(new Made(limited(100)), SPEC, { lossMax: 0 });
    expect(trial.requestedRate).toBeGreaterThan(95);
    expect(trial.requestedRate).toBeLessThanOrEqual(100);
  });

  test("a generator that cannot keep up is not taken for the target", async () => {
    const rule: Rule = (rate) => (rate > 50_000 ? { behind: rate, valid: { reason: "behind" } } : {});
    const trial = await search(new Made(rule), SPEC, { lossMax: 0 });
    expect(trial.requestedRate).toBeLessThanOrEqual(50_000);
    expect(trial.search?.limit).toBe("generator");
  });

  test("a generator that never keeps up leaves the target unknown, and a moment's disturbance is passed over", async () => {
    const never = new Made((rate) => ({ behind: rate, valid: { reason: "behind" } }));
    const trial = await search(never, SPEC, { lossMax: 0 });
    expect(trial.valid).toEqual({ reason: "behind" });
    expect(new Set(never.rates)).toEqual(new Set([SPEC.rate]));
    let calls = 0;
    const once: Rule = (rate) =>
      calls++ === 1 ? { behind: rate, valid: { reason: "behind" } } : limited(10_000)(rate);
    const found = await search(new Made(once), SPEC, { lossMax: 0 });
    expect(found.requestedRate).toBeGreaterThan(9500);
    expect(found.search?.limit).toBe("target");
  });

  test("a limit that was luck is given up for a lower one", async () => {
    let calls = 0;
    const rule: Rule = (rate) => ({ lost: rate > (calls++ < 12 ? 20_000 : 19_000) ? 100 : 0 });
    const trial = await search(new Made(rule), SPEC, { lossMax: 0 });
    expect(trial.requestedRate).toBeLessThanOrEqual(20_000);
    expect(trial.lost).toBe(0);
  });

  test("stops when it is asked to", async () => {
    const bench = new Made(limited(10_000));
    bench.aborted = true;
    const trial = await search(bench, SPEC, { lossMax: 0 });
    expect(bench.rates).toEqual([1000]);
    expect(trial.search?.steps.length).toBe(1);
  });

  test("needs a rate to begin at", async () => {
    await expect(search(new Made(limited(1)), { ...SPEC, rate: 0 }, { lossMax: 0 })).rejects.toThrow(RangeError);
  });
});
