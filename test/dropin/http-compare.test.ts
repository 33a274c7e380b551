/**
 * node:http in Node and lcore/http side by side: the same octets are sent to servers with the same handlers, on the kernel and on
 * AF_XDP, each on a veth pair of its own. What they answer, octet by octet but for the date, and what they tell their handlers
 * is the same, or is explained in docs/dropins.md.
 */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { makeHosts, requires } from "../support/hosts.ts";
import { bundleForNode } from "./bundle-for-node.ts";
import { httpCases } from "./http-cases.ts";

setDefaultTimeout(120_000);

const missing = requires("veth", "af_xdp", "bpf");
const node = Bun.which("node");
if (node === null) console.warn("skipped comparisons with Node: no node in PATH");

type Kind = "node" | "lcore";
interface Outcome {
  come: string;
  notes: unknown[];
}

/** Where ours differs from Node's: docs/dropins.md says why under the name of the case. */
const EXPLAINED: readonly string[] = [
  "connections: a response destroyed",
  "refused: no version",
  "responses: after the end",
  "responses: order of events",
  "timeouts: a slow head",
];

const FIRST_PORT = 20_000;
const names = Object.keys(httpCases);
const path = (file: string): string => fileURLToPath(new URL(file, import.meta.url));

async function restOf(reader: { read(): Promise<{ done: boolean; value?: Uint8Array }> }): Promise<string> {
  const pieces: Uint8Array[] = [];
  for (let piece = await reader.read(); !piece.done; piece = await reader.read())
    pieces.push(piece.value as Uint8Array);
  return Buffer.concat(pieces).toString();
}

describe.skipIf(missing !== "")("node:http and lcore/http", () => {
  const directory = mkdtempSync(join(tmpdir(), "lcore-http-"));
  afterAll(() => rmSync(directory, { recursive: true }));

  async function run(kind: Kind): Promise<Map<string, Outcome>> {
    const program =
      kind === "node"
        ? ["node", await bundleForNode("http-child", "lcore/http", directory)]
        : [process.execPath, path("./http-child.ts")];
    const hosts = makeHosts();
    const { a, b } = hosts;
    const where = [b.ipv4Text, String(FIRST_PORT)];
    const env = { ...process.env, LCORE_INTERFACE: b.name, LCORE_POLL: "interrupt" };
    const server = b.ns.run(() =>
      Bun.spawn([...program, kind, ...where], { stdin: "pipe", stdout: "pipe", stderr: "pipe", env }),
    );
    try {
      const errors = server.stderr.text();
      const reader = server.stdout.getReader();
      const { done } = await reader.read();
      if (done) throw new Error(`${kind}: ${await errors}`);
      const command = [process.execPath, path("./http-player.ts"), ...where];
      const player = a.ns.run(() => Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "inherit" }));
      const come = await player.stdout.text();
      server.stdin.end();
      const notes = await restOf(reader);
      if ((await server.exited) !== 0 || (await errors) !== "") throw new Error(`${kind}: ${await errors}`);
      const outcomes = new Map<string, Outcome>(names.map((name) => [name, { come: "", notes: [] }]));
      for (const line of `${come}${notes}`.trim().split("\n")) {
        const { name, ...part } = JSON.parse(line) as { name: string } & Partial<Outcome>;
        Object.assign(outcomes.get(name) as Outcome, part);
      }
      return outcomes;
    } finally {
      server.kill();
      await server.exited;
      hosts.close();
    }
  }

  const started = missing === "";
  const runs = {
    node: started && node !== null ? run("node") : null,
    lcore: started ? run("lcore") : null,
  };
  const outcome = async (kind: Kind, name: string): Promise<Outcome> =>
    (await (runs[kind] as Promise<Map<string, Outcome>>)).get(name) as Outcome;

  test.each(names)("ours comes to an end: %s", async (name) => {
    expect((await outcome("lcore", name)).come).not.toContain("<in vain>");
  });

  test.skipIf(node === null).each(names)("as in Node: %s", async (name) => {
    const ours = await outcome("lcore", name);
    const original = await outcome("node", name);
    // What is explained has to differ still.
    if (EXPLAINED.includes(name)) expect(ours).not.toEqual(original);
    else expect(ours).toEqual(original);
  });

  test("every difference is explained", () => {
    const text = readFileSync(path("../../docs/dropins.md"), "utf8");
    expect(EXPLAINED.filter((name) => !text.includes(`\`${name}\``))).toEqual([]);
  });
});
