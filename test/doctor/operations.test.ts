/** docs/operations.md against the code that it is about. */
import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { exposition } from "../../engine/cli/prometheus.ts";
import { diagnose } from "../../engine/doctor/diagnose.ts";
import type { StatsSnapshot } from "../../engine/stats.ts";
import { COUNTERS, type CounterName } from "../../sockets/counters.ts";
import { DOCUMENT, withCounters } from "./counter-table.ts";
import { facts, nic } from "./made-up.ts";
import { messageParts } from "./messages.ts";

const text = readFileSync(DOCUMENT, "utf8");
/** The contents of the code blocks in this language. */
const blocks = (language: string): string[] =>
  [...text.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, "gms"))].map(([, block]) => block);

test("every counter is there, with its meaning (else: bun test/doctor/counter-table.ts)", () => {
  expect(withCounters(text)).toBe(text);
});

test("every message of the command line and of the options is there", () => {
  const plain = (words: string): string => words.replaceAll(/[`\\]/g, "").replace(/^[:;,] /, "");
  const known = plain(text);
  const parts = messageParts();
  expect(parts.length).toBeGreaterThan(40);
  expect(parts.filter(({ part }) => !known.includes(plain(part)))).toEqual([]);
});

test("every finding is there", () => {
  const shapes = [
    facts(),
    facts({ dev: null }),
    facts({ dev: { kind: "veth", peer: "unseen", master: "br0", protection: "x", notRestored: ["rx-lro"] } }),
    facts({
      dev: { kind: "veth", peer: { name: "veth1", netns: null, features: {} }, uppers: [{ name: "v", kind: "vlan" }] },
    }),
    facts({
      dev: { lowers: [{ name: "p", netns: null, features: { "rx-gro": nicFeature, "rx-gro-list": nicFeature } }] },
    }),
    facts({ host: { firewall: { chains: [], legacyTables: ["filter"], conntrack: { count: 0, max: 1 } } } }),
  ];
  const ids = new Set(shapes.flatMap(diagnose).map(({ id }) => id));
  expect([...ids].filter((id) => !id.startsWith("interface ") && !text.includes(`\`${id}\``))).toEqual([]);
  expect(ids.size).toBeGreaterThan(50);
});
const nicFeature = { active: true, requested: true, changeable: true };

test("the series of the alert rules are those that lcore stats --prometheus prints", async () => {
  const counters = Object.fromEntries(COUNTERS.map(([name]) => [name, 1])) as Record<CounterName, number>;
  const xsk = {
    rxDropped: 1,
    rxInvalidDescs: 1,
    txInvalidDescs: 1,
    rxRingFull: 1,
    rxFillRingEmptyDescs: 1,
    txRingEmptyDescs: 1,
  };
  const snapshot = {
    pid: 1,
    time: 0,
    info: { interface: nic.name, ifindex: 1, attach: "skb", zeroCopy: false, queues: [[0]], cpus: [0], reason: "" },
    threads: [{ name: "lcore 0", cpu: 0, times: { runNs: 1, waitNs: 0 }, counters }],
    steering: { passNoSocket: 1 },
    sockets: [{ lcore: 0, queue: 0, ...xsk }],
  } as unknown as StatsSnapshot;
  const printed = await exposition(snapshot);
  const used = [...new Set(text.match(/\blcore_[a-z_]+/g))];
  expect(used.length).toBeGreaterThan(12);
  expect(used.filter((name) => !printed.includes(`\n${name}{`) && !printed.startsWith(`${name}{`))).toEqual([]);
  expect(printed).toContain('verdict="pass_no_socket"');
});

test("the alert rules and the pod are YAML, each rule with an expression and a summary", () => {
  const [pod, rules] = blocks("yaml").map((block) => Bun.YAML.parse(block)) as [
    { spec: { hostNetwork: boolean } },
    { groups: { rules: { alert: string; expr: string; annotations: { summary: string } }[] }[] },
  ];
  expect(pod.spec.hostNetwork).toBe(true);
  for (const { alert, expr, annotations } of rules.groups[0].rules) {
    expect([alert, typeof expr, typeof annotations.summary]).toEqual([alert, "string", "string"]);
  }
});

const analyze = Bun.which("systemd-analyze");
test.skipIf(analyze === null)("the systemd unit passes systemd-analyze verify", () => {
  const unit = blocks("ini")[0].replace("/usr/local/bin/bun", process.execPath);
  expect(unit).toContain(process.execPath);
  const directory = mkdtempSync(join(tmpdir(), "lcore-unit-"));
  try {
    const path = join(directory, "lcore-echo.service");
    const verify = (contents: string): string => {
      writeFileSync(path, contents);
      return Bun.spawnSync([analyze as string, "verify", path]).stderr.toString();
    };
    // What it says of units of the machine is not ours.
    const ours = (output: string): string[] => output.split("\n").filter((line) => line.includes("lcore-echo"));
    expect(ours(verify(unit))).toEqual([]);
    expect(ours(verify(unit.replace("NoNewPrivileges=yes", "NoNewPrivilege=yes"))).length).toBeGreaterThan(0);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
