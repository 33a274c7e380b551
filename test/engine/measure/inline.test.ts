import { expect, test } from "bun:test";
import { Bench } from "../../../engine/measure/run.ts";
import { DEFAULTS, type TrialSpec } from "../../../engine/measure/spec.ts";

const SPEC: TrialSpec = {
  ...DEFAULTS,
  workload: "udp-echo",
  target: "lcore",
  generator: "inline",
  rate: 0,
  window: 1,
  seconds: 0.2,
  warmupSeconds: 0.05,
  rewarmSeconds: 0,
};

test("a load on the lcore that it measures: every request is answered, trial after trial", async () => {
  const bench = await Bench.open(SPEC);
  try {
    for (let i = 0; i < 2; i++) {
      const trial = await bench.trial();
      expect(trial.valid).toBe(true);
      expect(trial.received).toBeGreaterThan(0);
      expect(trial.received).toBe(trial.sent);
      expect(trial.latency.totalCount).toBe(trial.received);
    }
  } finally {
    await bench.close();
  }
});

test("what cannot share an lcore with its load is said", async () => {
  expect(Bench.open({ ...SPEC, wire: "veth" })).rejects.toThrow(/inline: on --wire memory/);
  expect(Bench.open({ ...SPEC, workload: "tcp-rr" })).rejects.toThrow(/udp-echo/);
});
