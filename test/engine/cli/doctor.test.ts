/** `lcore doctor` and `lcore tune` as they are run: status, JSON, lines that fit, and the question before anything is done. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Ajv2020 from "ajv/dist/2020";
import schema from "../../../docs/doctor.schema.json" with { type: "json" };
import { makeHosts, requires, type VethPair } from "../../support/hosts.ts";
import { type Finished, lcore } from "./cli.ts";

interface Report {
  schema: number;
  interface: string | null;
  verdict: number;
  findings: { id: string; level: string; found: string; cost: string; commands: string[]; tunable: boolean }[];
}

const validate = new Ajv2020({ strict: true, allowUnionTypes: true }).compile(schema);

/** A report as the shipped schema has it. */
function reportOf(stdout: string): Report {
  const report: unknown = JSON.parse(stdout);
  validate(report);
  expect(validate.errors ?? []).toEqual([]);
  return report as Report;
}

test("the schema refuses what is not a report", () => {
  for (const wrong of [{}, { schema: 2 }, { schema: 1, findings: [] }]) expect(validate(wrong)).toBe(false);
});

const level = (report: Report, id: string): string | undefined => report.findings.find((f) => f.id === id)?.level;

test("wrong use is one line and status 2", async () => {
  for (const args of [
    ["doctor", "--interface", "nosuchif"],
    ["doctor", "--poll", "sometimes"],
    ["doctor", "--netns", "nosuchns"],
    ["tune"],
    ["tune", "--interface", "nosuchif", "--force"],
    ["tune", "--interface", "nosuchif", "--yes"],
    ["tune", "--interface", "nosuchif", "--undo", "--only", "queues"],
  ]) {
    const { status, stdout, stderr } = await lcore(args);
    expect({ args, status, stdout }).toEqual({ args, status: 2, stdout: "" });
    expect(stderr).toMatch(/^lcore: .+\n$/);
  }
});

test("without an interface: the host, and the interfaces there are", async () => {
  const { status, stdout, stderr } = await lcore(["doctor", "--json"]);
  const report = reportOf(stdout);
  expect({ stderr, schema: report.schema, name: report.interface }).toEqual({ stderr: "", schema: 1, name: null });
  expect(status).toBe(report.verdict);
  expect(level(report, "kernel")).toBe("ok");
});

test.skipIf(process.getuid?.() !== 0)("without privileges: status 2, and which capabilities are missing", async () => {
  const { status, stdout } = await lcore(["doctor", "--json"], { unprivileged: true });
  const report = reportOf(stdout);
  expect(status).toBe(2);
  expect(report.findings.find(({ id }) => id === "capabilities")?.found).toBe(
    "missing: CAP_NET_RAW, CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON",
  );
  expect(level(report, "af-xdp")).toBe("fail");
});

describe.skipIf(requires("netns", "veth", "af_xdp", "bpf") !== "")("on veth", () => {
  let hosts: VethPair;
  let runtime: string;
  const run = (...args: string[]): Promise<Finished> =>
    lcore([...args, "--interface", "veth0", "--cpus", "0,1"], { ns: hosts.b.ns, env: { XDG_RUNTIME_DIR: runtime } });
  /** The finding about queues alone: others may be of the machine's own settings. */
  const tune = (...args: string[]): Promise<Finished> => run("tune", "--only", "queues", ...args);

  beforeAll(() => {
    hosts = makeHosts({ queues: 2 });
    runtime = mkdtempSync(join(tmpdir(), "lcore-runtime-"));
    hosts.b.ethtool.setChannels("veth0", { rx: 1, tx: 1 });
  });
  afterAll(() => {
    hosts.close();
    rmSync(runtime, { recursive: true });
  });
  const queues = (): number => hosts.b.ethtool.channels("veth0").rx;

  test("a failure is status 2, has its command, and tune mends it and takes it back", async () => {
    const { status, stdout } = await run("doctor", "--json");
    const report = reportOf(stdout);
    expect([status, report.verdict, level(report, "queues")]).toEqual([2, 2, "fail"]);
    expect(report.findings.find(({ id }) => id === "queues")).toMatchObject({
      commands: ["ethtool -L veth0 rx 2 tx 2"],
      tunable: true,
    });

    const shown = await tune("--dry-run");
    expect([shown.status, shown.stdout, queues()]).toEqual([
      0,
      "# queues\nethtool -L veth0 rx 2 tx 2   # interrupts traffic\n",
      1,
    ]);
    const unasked = await tune();
    expect([unasked.status, unasked.stderr, queues()]).toEqual([
      2,
      "lcore: tune: there is no terminal to ask on: add --yes, or --dry-run to look only\n",
      1,
    ]);

    const done = await tune("--yes");
    expect([done.status, done.stderr, queues()]).toEqual([0, "", 2]);
    const path = /What was there before is in (\S+);/.exec(done.stdout)?.[1] ?? "";
    expect(existsSync(path)).toBe(true);
    expect(level(reportOf((await run("doctor", "--json")).stdout), "queues")).toBe("ok");

    const undone = await run("tune", "--undo", "--yes");
    expect([undone.status, undone.stderr, queues(), existsSync(path)]).toEqual([0, "", 1, false]);
    expect((await run("tune", "--undo")).stdout).toStartWith("Nothing to put back on veth0");
  });

  test("what somebody else has changed since is left, and said", async () => {
    expect((await tune("--yes")).status).toBe(0);
    hosts.b.ethtool.setChannels("veth0", { rx: 2, tx: 1 });
    const left = await run("tune", "--undo", "--yes");
    expect([left.status, hosts.b.ethtool.channels("veth0").rx]).toEqual([1, 2]);
    expect(left.stdout).toContain("rx 2, tx 1, not rx 2, tx 2 as it was left");
    expect((await run("tune", "--undo", "--yes", "--force")).status).toBe(0);
    expect(queues()).toBe(1);
  });

  const script = Bun.which("script");
  /** As at a terminal of 80 columns, with this typed. */
  const atTerminal = (args: string, typed: string): string => {
    const command = `stty cols 80; exec ${process.execPath} ${new URL("../../../engine/cli/main.ts", import.meta.url).pathname} ${args}`;
    const options = { stdin: new Blob([typed]), env: { ...process.env, TERM: "xterm", XDG_RUNTIME_DIR: runtime } };
    const ran = hosts.b.ns.run(() => Bun.spawnSync([script as string, "-qec", command, "/dev/null"], options));
    return Bun.stripANSI(ran.stdout.toString()).replaceAll("\r", "");
  };

  test.skipIf(script === null)("at a terminal, tune asks, and no is no", () => {
    const text = atTerminal("tune --interface veth0 --cpus 0,1 --only queues", "n\n");
    expect(text).toContain("Run 1 command? [y/N]");
    expect(text).toContain("lcore: nothing was changed");
    expect([queues(), readdirSync(runtime)]).toEqual([1, []]);
    expect(atTerminal("tune --interface veth0 --cpus 0,1 --only queues", "y\n")).toContain("done");
    expect(queues()).toBe(2);
    expect(atTerminal("tune --interface veth0 --undo", "yes\n")).toContain("done");
    expect(queues()).toBe(1);
  });

  test.skipIf(script === null)("the table fits 80 columns; commands are whole lines", () => {
    const [table, commands] = atTerminal("doctor --interface veth0 --cpus 0,1", "").split("What mends it, as root:");
    const wide = table.split("\n").filter((line) => Bun.stringWidth(line) > 80);
    expect(wide).toEqual([]);
    expect(commands).toContain("\nethtool -L veth0 rx 2 tx 2\n");
    expect(table).toMatch(/^fail +queues +1 receive queue/m);
  });
});
