/**
 * node:net and lcore/net side by side: every case runs in Node, in Bun and on AF_XDP, each in a process and on a veth pair of its own,
 * with the kernel's sockets at the other end. What differs from Node's is in docs/dropins.md, or a failure.
 */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { makeHosts, requires } from "../support/hosts.ts";
import { bundleForNode } from "./bundle-for-node.ts";
import { differences, type Outcome } from "./dgram-compare.ts";
import { netCases } from "./net-cases.ts";

setDefaultTimeout(120_000);

const missing = requires("veth", "af_xdp", "bpf");
const node = Bun.which("node");
if (node === null) console.warn("skipped comparisons with Node: no node in PATH");

type Kind = "node" | "bun" | "lcore";

/** Where ours differs from Node's, by case: docs/dropins.md says why under the name of the case. */
const EXPLAINED: Record<string, readonly string[]> = {
  "listen: twice at once": ["twice"],
  "signal: aborted before, and after": ["early"],
};

/** Where Bun 1.4.5's node:net differs from Node's: ours follows Node. docs/dropins.md has the list. */
const BUN_DIFFERS = [
  "Socket: options that are wrong",
  "connect: a local address and port",
  "connect: before, open, closed",
  "connect: nobody listens",
  "connect: options that are wrong",
  "connection: the peer sends and ends",
  "createServer: options that are wrong",
  "destroySoon, resetAndDestroy",
  "listen: a port in use, an address that is not ours",
  "listen: arguments that are wrong",
  "listen: twice at once",
  "onread: into a buffer",
  "signal: aborted before, and after",
  "write: after end(), after destroy()",
];

const names = Object.keys(netCases);
const path = (file: string): string => fileURLToPath(new URL(file, import.meta.url));

describe.skipIf(missing !== "")("node:net and lcore/net", () => {
  const directory = mkdtempSync(join(tmpdir(), "lcore-net-"));
  afterAll(() => rmSync(directory, { recursive: true }));

  async function run(kind: Kind): Promise<Map<string, Outcome>> {
    const command =
      kind === "node"
        ? ["node", await bundleForNode("net-child", "lcore/net", directory)]
        : [process.execPath, path("./net-child.ts")];
    const hosts = makeHosts();
    const { a, b } = hosts;
    const server = [process.execPath, path("./net-peer.ts")];
    const peer = a.ns.run(() => Bun.spawn(server, { stdin: "ignore", stdout: "pipe", stderr: "inherit" }));
    try {
      await peer.stdout.getReader().read();
      const at = JSON.stringify({ own4: b.ipv4Text, own6: b.ipv6Text, peer4: a.ipv4Text, peer6: a.ipv6Text });
      const env = { ...process.env, LCORE_INTERFACE: b.name, LCORE_POLL: "interrupt" };
      const child = b.ns.run(() =>
        Bun.spawn([...command, kind, at], { stdin: "ignore", stdout: "pipe", stderr: "pipe", env }),
      );
      const [lines, errors] = await Promise.all([child.stdout.text(), child.stderr.text()]);
      const status = await child.exited;
      if (status !== 0 || errors !== "") throw new Error(`${kind}: exit status ${status}, ${errors}`);
      const outcomes = lines
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as { name: string; outcome: Outcome });
      return new Map(outcomes.map(({ name, outcome }) => [name, outcome]));
    } finally {
      peer.kill();
      await peer.exited;
      hosts.close();
    }
  }

  const started = missing === "";
  const runs = {
    node: started && node !== null ? run("node") : null,
    bun: started ? run("bun") : null,
    lcore: started ? run("lcore") : null,
  };
  const outcome = async (kind: Kind, name: string): Promise<Outcome> =>
    (await (runs[kind] as Promise<Map<string, Outcome>>)).get(name) as Outcome;

  test.each(names)("ours comes to an end: %s", async (name) => {
    const ours = await outcome("lcore", name);
    expect(JSON.stringify(ours)).not.toContain("in vain");
    expect(ours).not.toHaveProperty("failed");
  });

  test.skipIf(node === null).each(names)("as in Node: %s", async (name) => {
    const original = await outcome("node", name);
    expect(original).not.toHaveProperty("failed");
    const ours = await outcome("lcore", name);
    const explained = EXPLAINED[name] ?? [];
    // What is explained has to differ still.
    expect(differences(original, ours).toSorted()).toEqual(explained.toSorted());
    for (const key of explained) delete ours[key];
    expect(original).toMatchObject(ours);
  });

  test.skipIf(node === null)("Bun's differs from Node's where the list says", async () => {
    const differing: string[] = [];
    for (const name of names) {
      if (differences(await outcome("node", name), await outcome("bun", name)).length > 0) differing.push(name);
    }
    expect(differing.toSorted()).toEqual(BUN_DIFFERS.toSorted());
  });

  test("every difference is explained", () => {
    const text = readFileSync(path("../../docs/dropins.md"), "utf8");
    const all = [...Object.keys(EXPLAINED), ...BUN_DIFFERS];
    expect(all.filter((name) => !text.includes(`\`${name}\``))).toEqual([]);
  });
});
