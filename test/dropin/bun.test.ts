/**
 * Bun.udpSocket itself and the drop-in, side by side: every case runs in two processes, the original's on the kernel's
 * sockets and ours on AF_XDP, each on a veth pair of its own; what they say happened must be the same.
 */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { formatIp } from "../../sockets/wire/address.ts";
import { type Host, makeHosts, requires } from "../support/hosts.ts";
import { CASES } from "./bun-child.ts";
import type { Addresses } from "./bun-compare.ts";

setDefaultTimeout(120_000);

const missing = requires("veth", "af_xdp", "bpf");

/** What differs and why: docs/dropins.md has each under this name. */
const EXPLAINED: readonly string[] = ["data: process.nextTick before promises"];

const HOSTS_FILE = `127.0.0.1 localhost dual46 dual64 only4
::1 localhost dual46 dual64 only6
`;

function linkLocal({ ifindex, rtnl }: Host): string {
  const own = rtnl.addresses(ifindex).find(({ local }) => local[0] === 0xfe && local[1] === 0x80);
  return formatIp((own as { local: Uint8Array }).local);
}

/** ICMP errors come for every datagram, not for some a second. */
function unlimitIcmp(host: Host): void {
  host.ns.run(() => {
    writeFileSync("/proc/sys/net/ipv4/icmp_ratemask", "0");
    writeFileSync("/proc/sys/net/ipv6/icmp/ratelimit", "0");
  });
}

interface Outcome {
  name: string;
  ms: number;
  outcome: unknown;
}

/** Runs the cases in host b of a pair of their own, with names of our own to look up. */
async function run(kind: "original" | "lcore", directory: string): Promise<Map<string, Outcome>> {
  const hosts = makeHosts();
  try {
    const { a, b } = hosts;
    for (const host of [a, b]) unlimitIcmp(host);
    const at: Addresses = {
      a4: a.ipv4Text,
      a6: a.ipv6Text,
      b4: b.ipv4Text,
      b6: b.ipv6Text,
      broadcast: "198.18.0.255",
      interface: b.name,
      linkLocal: linkLocal(b),
      peerLinkLocal: linkLocal(a),
      peerIndex: a.ifindex,
    };
    const place = JSON.stringify({ at, peer: a.ns.path, engine: { interface: b.name } });
    const child = fileURLToPath(new URL("./bun-child.ts", import.meta.url));
    const mounted = 'mount --bind "$0" /etc/hosts && exec "$@"';
    const command = ["unshare", "--mount", "sh", "-c", mounted, join(directory, "hosts"), process.execPath, child];
    const runner = b.ns.run(() =>
      Bun.spawn([...command, kind, place], { stdin: "ignore", stdout: "pipe", stderr: "pipe" }),
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

describe.skipIf(missing !== "")("Bun.udpSocket and lcore/bun", () => {
  const directory = mkdtempSync(join(tmpdir(), "lcore-dropin-"));
  writeFileSync(join(directory, "hosts"), HOSTS_FILE);
  afterAll(() => rmSync(directory, { recursive: true }));
  const both = missing === "" ? Promise.all([run("original", directory), run("lcore", directory)]) : null;

  test.each(Object.keys(CASES))("%s", async (name) => {
    const [original, ours] = (await both) as NonNullable<Awaited<typeof both>>;
    const expected = original.get(name)?.outcome;
    expect(JSON.stringify(expected)).not.toContain("in vain");
    if (EXPLAINED.includes(name)) expect(ours.get(name)?.outcome).not.toEqual(expected);
    else expect(ours.get(name)?.outcome).toEqual(expected);
  });

  test("what differs is explained", () => {
    const text = readFileSync(new URL("../../docs/dropins.md", import.meta.url), "utf8");
    for (const name of EXPLAINED) expect(text).toContain(name);
  });
});
