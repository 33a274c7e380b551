/** Scenarios of AF_INET and AF_INET6 on the kernel's sockets and on an engine's, the peer being the kernel: every answer is equal. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { differences } from "../conformance/compare.ts";
import { EXPLAINED } from "../conformance/explained.ts";
import { type Side, traceOf } from "../conformance/run.ts";
import { engineSide, kernelSide, type OpenSide } from "../conformance/sides.ts";
import { requires } from "../support/hosts.ts";
import { INET_SCENARIOS } from "./inet/scenarios.ts";

setDefaultTimeout(30_000);

describe.skipIf(requires("veth", "af_xdp", "bpf") !== "")("AF_INET as the kernel's", () => {
  let kernel: OpenSide;
  let engine: OpenSide;

  beforeAll(async () => {
    kernel = kernelSide();
    engine = await engineSide();
  });
  afterAll(async () => {
    await engine?.close();
    await kernel?.close();
  });

  test("each has a name of its own", () => {
    expect(new Set(INET_SCENARIOS.map(({ name }) => name)).size).toBe(INET_SCENARIOS.length);
  });

  test.each(INET_SCENARIOS.map((scenario) => [scenario.name, scenario] as const))("%s", (_, scenario) => {
    const lines = (side: Side): string[] => traceOf({ ...scenario, inet: true }, side).lines;
    const found = differences("engine", scenario.name, lines(kernel), lines(engine), EXPLAINED);
    expect(found.filter(({ because }) => because === null)).toEqual([]);
  });
});
