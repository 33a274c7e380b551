/**
 * Bun.listen and Bun.connect themselves and those of lcore/bun, side by side: every case runs in two processes, the original's on
 * the kernel's sockets and ours on AF_XDP, each on a veth pair of its own; what they say happened must be the same.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { connect, listen, useEngine } from "../../engine/dropin/bun.ts";
import type { EngineThread } from "../../engine/engine.ts";
import { makeHosts, requires } from "../support/hosts.ts";
import { TCP_CASES } from "./tcp-child.ts";

setDefaultTimeout(120_000);

const missing = requires("veth", "af_xdp", "bpf");

/** What differs and why: docs/dropins.md has each under this name. */
const EXPLAINED: readonly string[] = ["data: process.nextTick before promises"];

interface Outcome {
  name: string;
  ms: number;
  outcome: unknown;
}

/** Runs the cases in host b of a pair of their own. */
async function run(kind: "original" | "lcore"): Promise<Map<string, Outcome>> {
  const hosts = makeHosts();
  try {
    const { a, b } = hosts;
    const at = { a4: a.ipv4Text, a6: a.ipv6Text, b4: b.ipv4Text, b6: b.ipv6Text };
    const place = JSON.stringify({ at, peer: a.ns.path, engine: { interface: b.name, poll: "interrupt" } });
    const child = fileURLToPath(new URL("./tcp-child.ts", import.meta.url));
    const runner = b.ns.run(() =>
      Bun.spawn([process.execPath, child, kind, place], { stdin: "ignore", stdout: "pipe", stderr: "pipe" }),
    );
    const [lines, errors] = await Promise.all([runner.stdout.text(), runner.stderr.text()]);
    const status = await runner.exited;
    if (status !== 0 || errors !== "") throw new Error(`${kind}: exit status ${status}, ${errors}`);
    const outcomes = lines
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Outcome);
    return new Map(outcomes.map((outcome) => [outcome.name, outcome]));
  } finally {
    hosts.close();
  }
}

describe.skipIf(missing !== "")("Bun.listen, Bun.connect and lcore/bun", () => {
  const both = missing === "" ? Promise.all([run("original"), run("lcore")]) : null;

  test.each(Object.keys(TCP_CASES))("%s", async (name) => {
    const [original, ours] = (await both) as NonNullable<Awaited<typeof both>>;
    const expected = original.get(name)?.outcome;
    expect(JSON.stringify(expected)).not.toContain("in vain");
    if (EXPLAINED.includes(name)) expect(ours.get(name)?.outcome).not.toEqual(expected);
    else expect(ours.get(name)?.outcome).toEqual(expected);
  });

  test("without an engine, and with TLS, it says what it needs", () => {
    const socket = { data() {} };
    const address = "198.51.100.1";
    useEngine(null);
    expect(() => listen({ hostname: address, port: 0, socket })).toThrow("await defaultEngine()");
    useEngine({ canConnect: () => true, canListen: () => true } as unknown as EngineThread);
    try {
      expect(() => listen({ hostname: address, port: 0, socket, tls: true })).toThrow("lcore/tls");
      expect(connect({ hostname: address, port: 9, socket, tls: true })).rejects.toThrow("lcore/tls");
    } finally {
      useEngine(null);
    }
  });

  test("what differs is explained", () => {
    const text = readFileSync(new URL("../../docs/dropins.md", import.meta.url), "utf8");
    for (const name of EXPLAINED) expect(text).toContain(name);
  });
});
