/** `lcore demo`, shortened: with and without privilege, and interrupted. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { requires } from "../../support/hosts.ts";
import { Cli, lcore } from "./cli.ts";

setDefaultTimeout(30_000);

const QUICK = ["demo", "--seconds", "0.2"];
/** With two processes on each CPU of a busy machine: long enough for each to have its turn. */
const LONGER = ["demo", "--seconds", "0.5"];
const FIGURES = {
  rate: expect.any(Number),
  cpuNs: expect.any(Number),
  roundTripNs: { p50: expect.any(Number), count: expect.any(Number) },
};

/** Command lines of running processes with a variable in their environment. */
function processesWith(variable: string): string[] {
  return readdirSync("/proc").flatMap((pid) => {
    try {
      const has = readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(variable);
      return has ? [readFileSync(`/proc/${pid}/cmdline`, "utf8")] : [];
    } catch {
      // No process, or it has ended since.
      return [];
    }
  });
}

test("in memory: figures, no control characters, what to do next", async () => {
  const { status, stdout, stderr } = await lcore([...QUICK, "--memory"]);
  expect(status).toBe(0);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: their absence is what is tested
  expect(stdout + stderr).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f]/);
  expect(stdout).toMatch(/^In-memory wire \(as asked for\); lcore on CPU \d+/);
  expect(stdout).toMatch(/^echoes a second +[\d.]+ [kM]$/m);
  expect(stdout).toMatch(/^round trip, p50 +[\d.]+ [nµm]s$/m);
  expect(stdout).toMatch(/^ +< [\d.]+ [nµm]s +█/m);
  expect(stdout).toContain("lcore -- echo --interface");
});

test.skipIf(process.geteuid?.() !== 0)("without privilege: in memory, and why", async () => {
  const { status, stdout } = await lcore([...QUICK, "--json"], { unprivileged: true });
  expect(status).toBe(0);
  const result = JSON.parse(stdout);
  expect(result.how).toMatch(/no CAP_NET_RAW, .*run it as root/);
  expect(result).toMatchObject({ wire: "memory", servers: [{ name: "lcore", ...FIGURES }] });
});

test.skipIf(process.geteuid?.() !== 0).each(["engine", "kernel"])(
  "--provider %s without privilege: a line that says what it needs, and nothing else instead",
  async (provider) => {
    const { status, stdout, stderr } = await lcore([...QUICK, "--provider", provider], { unprivileged: true });
    expect([status, stdout]).toEqual([1, ""]);
    expect(stderr).toMatch(
      /^lcore: the demo of a provider needs CAP_NET_RAW, .*run it as root, or without --provider\n$/,
    );
  },
);

test.each(["--provider tcp", "--memory --provider kernel"])("%s: a line, status 2", async (options) => {
  const { status, stdout, stderr } = await lcore([...QUICK, ...options.split(" ")]);
  expect([status, stdout]).toEqual([2, ""]);
  expect(stderr).toMatch(/^lcore: [^\n]*--provider[^\n]*\n$/);
});

describe.skipIf(requires("netns", "veth", "af_xdp", "bpf") !== "")("as root", () => {
  test("over AF_XDP, beside a server on kernel sockets", async () => {
    const { status, stdout } = await lcore([...LONGER, "--json"]);
    expect(status).toBe(0);
    const result = JSON.parse(stdout);
    for (const { rate, roundTripNs } of result.servers) {
      expect(rate).toBeGreaterThan(0);
      expect(roundTripNs.count).toBeGreaterThan(0);
    }
    expect(result.how).toMatch(/skb mode/);
    expect(result).toMatchObject({
      wire: "veth",
      servers: [
        { name: "lcore", ...FIGURES },
        { name: "Bun.udpSocket", ...FIGURES },
      ],
    });
  });

  test("on kernel sockets, when they are asked for", async () => {
    const { status, stdout } = await lcore([...LONGER, "--provider", "kernel", "--json"]);
    expect(status).toBe(0);
    const result = JSON.parse(stdout);
    for (const { rate } of result.servers) expect(rate).toBeGreaterThan(0);
    expect(result.how).toMatch(
      /^Kernel sockets \(asked for\) over veth between two network namespaces\. Servers on CPU/,
    );
    expect(result).toMatchObject({ wire: "veth", servers: [{ name: "lcore", ...FIGURES }, { name: "Bun.udpSocket" }] });
  });

  test.each(["Bun.udpSocket: as many", "lcore: as many"])("interrupted at '%s': nothing stays", async (step) => {
    const mark = crypto.randomUUID();
    const demo = new Cli(QUICK, { env: { LCORE_TEST_MARK: mark } });
    await demo.stderr.until(step);
    // Found, so that finding none afterwards means something. Namespaces without a name go with their last process.
    expect(processesWith(`LCORE_TEST_MARK=${mark}`)).not.toEqual([]);
    demo.kill("SIGINT");
    const { status, stderr } = await demo.finish();
    expect(stderr).toEndWith("lcore: demo interrupted; its hosts and programs are gone\n");
    expect(status).toBe(130);
    expect(processesWith(`LCORE_TEST_MARK=${mark}`)).toEqual([]);
  });
});
