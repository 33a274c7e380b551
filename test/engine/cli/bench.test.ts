/** `lcore bench` as it is run: what it prints and writes, its status, and what an interruption leaves. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Ajv2020 from "ajv/dist/2020";
import schema from "../../../docs/bench.schema.json" with { type: "json" };
import type { RunJson } from "../../../engine/measure/trial.ts";
import { requires } from "../../support/hosts.ts";
import { Cli, lcore } from "./cli.ts";

const validate = new Ajv2020({ strict: true, allowUnionTypes: true }).compile(schema);
const INLINE = ["bench", "udp-echo", "--wire", "memory", "--generator", "inline", "--warmup", "0", "--rate", "1k"];

/** A run as the shipped schema has it. */
function runOf(text: string): RunJson {
  const run: unknown = JSON.parse(text);
  validate(run);
  expect(validate.errors ?? []).toEqual([]);
  return run as RunJson;
}

let directory = "";
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "lcore-bench-test-"));
});
afterAll(() => rmSync(directory, { recursive: true }));

test("a table, JSON and .hgrm of one run", async () => {
  const [json, hgrm] = [join(directory, "run.json"), join(directory, "run.hgrm")];
  const options = ["--seconds", "0.1", "--trials", "2", "--json", json, "--hgrm", hgrm];
  const { status, stdout } = await lcore([...INLINE, ...options]);
  const { trials, environment } = runOf(readFileSync(json, "utf8"));
  expect(trials.length).toBe(2);
  expect(environment.command).toStartWith("lcore bench udp-echo");
  // A machine under load may not let the generator keep its schedule, which is then said.
  const valid = trials.every((trial) => trial.valid === true);
  expect(status).toBe(valid ? 0 : 1);
  expect(stdout).toContain("udp-echo on a wire in memory: 18 bytes, 64 flows");
  expect(stdout).toContain("p99.9");
  expect(stdout.includes("not valid")).toBe(!valid);
  expect(readFileSync(hgrm, "utf8")).toContain("Percentile TotalCount 1/(1-Percentile)");
});

test("JSON alone on standard output; interrupted, it is whole all the same", async () => {
  const bench = new Cli([...INLINE, "--seconds", "600", "--json", "-"]);
  await bench.stderr.until("udp-echo lcore: measuring");
  bench.kill("SIGTERM");
  const { status, stdout, stderr } = await bench.finish();
  expect(status).toBe(130);
  expect(stderr).toContain("interrupted");
  const [trial] = runOf(stdout).trials;
  expect(trial.valid).toEqual({ reason: expect.stringMatching(/^interrupted after \d+\.\d s$/) });
  expect(trial.seconds).toBeLessThan(60);
});

describe.skipIf(requires("netns", "veth", "af_xdp", "bpf") !== "")("over veth", () => {
  test("targets take turns", async () => {
    const json = join(directory, "veth.json");
    const options = ["--rate", "500", "--seconds", "0.05", "--warmup", "0", "--wire", "veth", "--json", json];
    const { stderr } = await lcore(["bench", "udp-echo", "--target", "lcore,bun-udp", ...options]);
    expect(stderr).toContain("udp-echo bun-udp: measuring");
    const { trials } = runOf(readFileSync(json, "utf8"));
    expect(trials.map(({ target }) => target)).toEqual(["lcore", "bun-udp"]);
    for (const { sent, received, wrong, lost } of trials) expect(received + wrong + lost).toBe(sent);
  });
});

test.each<[string[], string]>([
  [["bench"], "missing required argument 'workload'"],
  [["bench", "udp-echo", "--target", "nginx"], "lcore-kernel, bun-udp, node-dgram, bun-listen, or HOST:PORT"],
  [["bench", "udp-echo", "--rate", "fast"], 'as 50000 or 50k, or "max"'],
  [["bench", "udp-echo", "--spin", "10:2"], "as 500 or 500:0.02"],
  [["bench", "udp-echo", "--wire", "memory", "--search", "--rate", "max"], "begins at a --rate above 0"],
])("refuses %j in one line", async (args, words) => {
  const { status, stdout, stderr } = await lcore(args);
  expect([status, stdout]).toEqual([2, ""]);
  expect(stderr).toContain(words);
  expect(
    stderr
      .trim()
      .split("\n")
      .filter((line) => line.startsWith("lcore: ")).length,
  ).toBe(1);
});

test("a file that cannot be written is said, and no lasting trace is left", async () => {
  const file = join(directory, "not", "there.json");
  const { status, stderr } = await lcore([...INLINE, "--seconds", "0.05", "--json", file]);
  expect(status).toBe(1);
  expect(stderr).toContain("cannot be written");
  expect(existsSync(file)).toBe(false);
});
