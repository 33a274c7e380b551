/**
 * Scenarios of AF_INET and AF_INET6 on the kernel's sockets and on an engine's: on an interface, the peer being the kernel, and on a
 * wire in memory between two engines. Every answer is equal, or differs for a reason.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { differences } from "../conformance/compare.ts";
import { EXPLAINED, type Explanation, WITH_KERNEL_ALONE, WITHOUT_KERNEL } from "../conformance/explained.ts";
import { type Side, traceOf } from "../conformance/run.ts";
import { engineSide, kernelSide, memorySide, type OpenSide, providerSide } from "../conformance/sides.ts";
import { requires } from "../support/hosts.ts";
import { INET_SCENARIOS } from "./inet/scenarios.ts";
import type { InetScenario } from "./inet/tools.ts";

setDefaultTimeout(30_000);

test("each scenario has a name of its own, and they are many", () => {
  expect(new Set(INET_SCENARIOS.map(({ name }) => name)).size).toBe(INET_SCENARIOS.length);
  expect(INET_SCENARIOS.length).toBeGreaterThan(250);
});

type Case = [string, () => Promise<OpenSide>, readonly Explanation[], readonly InetScenario[]];
const SIDES: readonly Case[] = [
  ["an interface", engineSide, EXPLAINED, INET_SCENARIOS],
  ["kernel sockets", providerSide, [], INET_SCENARIOS],
  ["a wire in memory", memorySide, WITHOUT_KERNEL, INET_SCENARIOS.filter(({ name }) => !WITH_KERNEL_ALONE.test(name))],
];

describe.skipIf(requires("veth", "af_xdp", "bpf") !== "").each(SIDES)(
  "AF_INET on %s",
  (_side, open, explanations, scenarios) => {
    let kernel: OpenSide;
    let ours: OpenSide;

    beforeAll(async () => {
      kernel = kernelSide();
      ours = await open();
    });
    afterAll(async () => {
      await ours?.close();
      await kernel?.close();
    });

    test.each(scenarios.map((scenario) => [scenario.name, scenario] as const))("%s", (_name, scenario) => {
      const lines = (side: Side): string[] => traceOf({ ...scenario, inet: true }, side).lines;
      const [expected, got] = [lines(kernel), lines(ours)];
      ours.settle?.();
      const found = differences(ours.name, scenario.name, expected, got, explanations);
      expect(found.filter(({ because }) => because === null)).toEqual([]);
    });
  },
);
