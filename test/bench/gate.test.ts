import { expect, test } from "bun:test";
import { type GateRecord, gateReport, otherRules } from "../../bench/gate-report.ts";
import { fakeCompared } from "../engine/measure/fake-comparison.ts";

test("other rules judge the same trials: a threshold one run, a t-test all of them", () => {
  expect(otherRules(fakeCompared(1))["one run, 200 %"]).toBe(false);
  expect(otherRules(fakeCompared(1.5))).toEqual({
    "one run, 10 %": true,
    "one run, 200 %": false,
    "t-test of trials, 5 %": true,
  });
  expect(otherRules(fakeCompared(4))["one run, 200 %"]).toBe(true);
});

test("the report has a row a kind, the version with itself first, and counts what was called different", () => {
  const record = (kind: string, outcome: GateRecord["outcome"], p50: number): GateRecord => ({
    kind,
    outcome,
    pairs: 10,
    seconds: 20,
    seed: 1,
    date: "",
    load: 0,
    changes: { p50, p99: 0 },
    others: otherRules(fakeCompared(1)),
  });
  const rows = gateReport([
    record("p50 +10 %", "regressed", 0.11),
    record("same", "pass", 0),
    record("same", "improved", -0.04),
    record("p50 +5 %", "inconclusive", 0.05),
  ]).split("\n");
  expect(rows[2]).toStartWith("| same |  | 2 | 50.0 % (1) | 50.0 % |");
  expect(rows[3]).toStartWith("| p50 +5 % | 5.0 % | 1 | 0.0 % (0) |");
  expect(rows[4]).toStartWith("| p50 +10 % | 11.0 % | 1 | 100.0 % (1) |");
});
