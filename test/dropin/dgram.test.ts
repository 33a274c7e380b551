/**
 * node:dgram and lcore/dgram side by side: every case runs in Node, in Bun and on AF_XDP, each in a process and on a veth
 * pair of its own. What differs from Node's is in docs/dropins.md, or a failure.
 */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { requires } from "../support/hosts.ts";
import { CASES } from "./dgram-child.ts";
import { differences, type Outcome } from "./dgram-compare.ts";
import { PROGRAMS } from "./dgram-exit.ts";
import { Bed, bundleForNode, type Kind } from "./dgram-run.ts";

setDefaultTimeout(120_000);

const missing = requires("veth", "af_xdp", "bpf");
const node = Bun.which("node");
if (node === null) console.warn("skipped comparisons with Node: no node in PATH");
const nodeVersion =
  node === null ? 0 : Number(Bun.spawnSync([node, "-p", "process.versions.node"]).stdout.toString().split(".")[0]);

/** Methods of a closed socket for which Node has a TypeError of its own insides, and ours say that it is not running. */
const CLOSED = [
  "setBroadcast",
  "setTTL",
  "setMulticastTTL",
  "setMulticastLoopback",
  "getRecvBufferSize",
  "getSendBufferSize",
  "setRecvBufferSize",
  "setSendBufferSize",
  "getSendQueueSize",
  "getSendQueueCount",
];

/** Where ours differs from Node's, by case: docs/dropins.md says why under the name of the case. */
const EXPLAINED: Record<string, readonly string[]> = {
  "close: datagrams sent just before": ["address"],
  "close: every method afterwards": ["connect", ...CLOSED],
  "close: every method after a socket that was never bound": CLOSED,
  disconnect: ["port"],
  "message: ticks before promises": ["order"],
};

/** Cases of what came with a version of Node. */
const SINCE: Record<string, number> = { "block lists": 22, "createSocket: block lists": 22, reusePort: 22 };

/** Where Bun 1.4.5's node:dgram differs from Node's: ours follows Node. docs/dropins.md has the list. */
const BUN_DIFFERS = [
  "addMembership: IPv6",
  "addMembership: hears the group, until it drops it",
  "addMembership: what it refuses",
  "addSourceSpecificMembership: one source alone",
  "address: before, after",
  "bind: order of what happens",
  "bind: ports",
  "bind: what fails",
  "close: every method after a socket that was never bound",
  "close: every method afterwards",
  "connect: what it refuses",
  "connect: while it connects",
  "createSocket: block lists",
  "createSocket: what it takes",
  "message: the context in which the socket was made",
  "message: what it is",
  "options: before the socket is bound",
  "reuseAddr",
  "reusePort",
  "send: names",
  "send: what fails",
  "send: what no destination is",
  "setBroadcast",
  "setMulticastInterface",
  "setMulticastTTL",
];
/** Cases that Bun's never gets through: it calls nobody back. */
const BUN_HANGS = ["addMembership: before the socket is bound", "connect: nobody there", "ipv6Only"];

const names = Object.keys(CASES);
const isComparable = (name: string): boolean => nodeVersion >= (SINCE[name] ?? 1);

describe.skipIf(missing !== "")("node:dgram and lcore/dgram", () => {
  const directory = mkdtempSync(join(tmpdir(), "lcore-dgram-"));
  afterAll(() => rmSync(directory, { recursive: true }));

  interface Run {
    cases: Map<string, Outcome>;
    exits: Map<string, Outcome>;
  }

  async function run(kind: Kind): Promise<Run> {
    const bed = new Bed(kind, await bundles);
    try {
      const cases = await bed.cases(kind === "bun" ? names.filter((name) => !BUN_HANGS.includes(name)) : names);
      const exits = new Map<string, Outcome>();
      if (kind !== "bun") for (const name of Object.keys(PROGRAMS)) exits.set(name, await bed.exit(name));
      return { cases, exits };
    } finally {
      bed.close();
    }
  }

  const bundles = bundleForNode(directory);
  const started = missing === "";
  const runs = {
    node: started && node !== null ? run("node") : null,
    bun: started ? run("bun") : null,
    lcore: started ? run("lcore") : null,
  };
  const outcome = async (kind: Kind, name: string): Promise<Outcome> =>
    (await (runs[kind] as Promise<Run>)).cases.get(name) as Outcome;

  test.each(names)("ours comes to an end: %s", async (name) => {
    expect(JSON.stringify(await outcome("lcore", name))).not.toContain("in vain");
    expect(await outcome("lcore", name)).not.toHaveProperty("failed");
  });

  test.skipIf(node === null).each(names.filter(isComparable))("as in Node: %s", async (name) => {
    const original = await outcome("node", name);
    expect(original).not.toHaveProperty("failed");
    const ours = await outcome("lcore", name);
    const explained = EXPLAINED[name] ?? [];
    // What is explained has to differ still.
    expect(differences(original, ours).toSorted()).toEqual(explained.toSorted());
    for (const key of explained) delete ours[key];
    expect(original).toMatchObject(ours);
  });

  test.skipIf(node === null).each(Object.keys(PROGRAMS))("the process ends as in Node: %s", async (name) => {
    const [original, ours] = await Promise.all([runs.node, runs.lcore]);
    expect(ours?.exits.get(name)).toEqual(original?.exits.get(name) as Outcome);
  });

  test.skipIf(node === null)("Bun's differs from Node's where the list says", async () => {
    const compared = names.filter((name) => isComparable(name) && !BUN_HANGS.includes(name));
    const differing: string[] = [];
    for (const name of compared) {
      if (differences(await outcome("node", name), await outcome("bun", name)).length > 0) differing.push(name);
    }
    expect(differing.toSorted()).toEqual(BUN_DIFFERS.filter(isComparable).toSorted());
  });

  test("where Bun's does not differ from Node's, ours is as both", async () => {
    const same = names.filter((name) => !BUN_DIFFERS.includes(name) && !BUN_HANGS.includes(name));
    for (const name of same) {
      if (name in EXPLAINED || !isComparable(name)) continue;
      expect([name, await outcome("lcore", name)]).toEqual([name, await outcome("bun", name)]);
    }
  });

  test("every difference is explained", () => {
    const text = readFileSync(new URL("../../docs/dropins.md", import.meta.url), "utf8");
    const all = [...Object.keys(EXPLAINED), ...BUN_DIFFERS, ...BUN_HANGS];
    expect(all.filter((name) => !text.includes(`\`${name}\``))).toEqual([]);
  });
});
