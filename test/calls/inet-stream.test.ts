/**
 * Scenarios of stream sockets of AF_INET and AF_INET6 on the kernel's sockets and on an engine's, the peer being the kernel: every call
 * in every state, and what moves bytes. Every answer is equal, or differs for a reason.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { differences } from "../conformance/compare.ts";
import type { Explanation } from "../conformance/explained.ts";
import { type Side, traceOf } from "../conformance/run.ts";
import { engineSide, kernelSide, type OpenSide } from "../conformance/sides.ts";
import { requires } from "../support/hosts.ts";
import { TCP_SCENARIOS } from "./inet/tcp-scenarios.ts";

setDefaultTimeout(30_000);

/** Those that are equal today: see docs/socket7.md for what is not. */
const EQUAL =
  /^IPv4 tcp: ([a-z ]+: (nothing|bind|listen|accept|send|recv|recvmsg|select|poll, each event alone)|to and fro: \w+|recvmsg: .*)$/;

const REASONS: readonly Explanation[] = [
  {
    sides: ["engine"],
    scenario: /./,
    kernel: /SIOCOUTQ\) = 0 0[1-9]000000$/,
    ours: /SIOCOUTQ\) = 0 00000000$/,
    reason:
      "a socket that is closed has nothing to send; the kernel goes on counting SYNs and FINs that nobody acknowledged",
  },
];

test("each scenario has a name of its own, and they are many", () => {
  expect(new Set(TCP_SCENARIOS.map(({ name }) => name)).size).toBe(TCP_SCENARIOS.length);
  expect(TCP_SCENARIOS.length).toBeGreaterThan(2000);
});

describe.skipIf(requires("veth", "af_xdp", "bpf") !== "")("streams on an interface", () => {
  let kernel: OpenSide;
  let ours: OpenSide;

  beforeAll(async () => {
    kernel = kernelSide();
    ours = await engineSide();
  });
  afterAll(async () => {
    await ours?.close();
    await kernel?.close();
  });

  const played = TCP_SCENARIOS.filter(({ name }) => EQUAL.test(name));
  test.each(played.map((scenario) => [scenario.name, scenario] as const))("%s", (_name, scenario) => {
    const lines = (side: Side): string[] => traceOf({ ...scenario, inet: true }, side).lines;
    const found = differences("engine", scenario.name, lines(kernel), lines(ours), REASONS);
    expect(found.filter(({ because }) => because === null)).toEqual([]);
  });
});
