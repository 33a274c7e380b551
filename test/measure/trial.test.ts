/** Trials against services that do as they should and that do not: what is counted, and what is called valid. */
import { describe, expect, test } from "bun:test";
import Ajv2020 from "ajv/dist/2020";
import schema from "../../docs/bench.schema.json" with { type: "json" };
import type { Environment } from "../../engine/measure/environment.ts";
import { runTrial } from "../../engine/measure/run.ts";
import { DEFAULTS, type TrialSpec } from "../../engine/measure/spec.ts";
import { encodeRun, parseRun, RUN_SCHEMA, RUN_VERSION, type Run, type Trial } from "../../engine/measure/trial.ts";
import { LATE_MS, tcpService, udpService } from "./services.ts";

const validate = new Ajv2020({ strict: true, allowUnionTypes: true }).compile(schema);

/** A short trial of few requests: what is asserted are counts and verdicts, never speed. */
const SHORT = { ...DEFAULTS, warmupSeconds: 0, patienceMs: 300, rate: 200, seconds: 0.1, timeoutMs: 1000, flows: 4 };
const HOST = { ...SHORT, wire: "host", generator: "kernel", connections: 4, size: 64 } as const;

const udp = (target: TrialSpec["target"], more: Partial<TrialSpec> = {}): Promise<Trial> =>
  runTrial({ ...HOST, workload: "udp-echo", target, ...more });

/** Everything that was sent is accounted for. */
function expectBalance({ sent, received, wrong, lost }: Trial): void {
  expect(received + wrong + lost).toBe(sent);
}

const reasonOf = ({ valid }: Trial): string => (valid === true ? "" : valid.reason);

describe("UDP services of others", () => {
  test("one that answers: every request is answered, and timed", async () => {
    const service = await udpService("echo");
    const trial = await udp(service.target);
    service.close();
    expectBalance(trial);
    expect(trial.received).toBeGreaterThan(0);
    expect(trial.latency.totalCount).toBe(trial.received);
    expect([trial.lost, trial.wrong, trial.duplicated, trial.late]).toEqual([0, 0, 0, 0]);
    expect(trial.series.reduce((sum, { count }) => sum + count, 0)).toBeLessThanOrEqual(trial.received);
  });

  test("one that never answers, and none at all", async () => {
    const service = await udpService("silent");
    const trial = await udp(service.target, { timeoutMs: 100 });
    service.close();
    expect(reasonOf(trial)).toBe(`no answer from ${service.target} within 0.3 s`);
    expect(trial.received).toBe(0);
    expect(reasonOf(await udp(service.target, { timeoutMs: 100 }))).toContain("no answer from");
  });

  test("one that answers too late", async () => {
    const service = await udpService("late");
    const trial = await udp(service.target, { timeoutMs: LATE_MS / 4 });
    service.close();
    expect(reasonOf(trial)).toContain(`answers later than ${LATE_MS / 4} ms: raise --timeout`);
  });

  test("one that answers twice", async () => {
    const service = await udpService("twice");
    const trial = await udp(service.target);
    service.close();
    expectBalance(trial);
    expect(trial.duplicated).toBeGreaterThan(0);
    expect(reasonOf(trial)).toContain("requests twice");
  });

  for (const manner of ["wrong", "short"] as const) {
    test(`one whose answers are ${manner}`, async () => {
      const service = await udpService(manner);
      const trial = await udp(service.target);
      service.close();
      expect(trial.received).toBe(0);
      expect(reasonOf(trial)).toContain("answers with other content than it was sent");
    });
  }
});

describe("TCP services of others", () => {
  const tcp = (target: TrialSpec["target"], more: Partial<TrialSpec> = {}): Promise<Trial> =>
    runTrial({ ...HOST, workload: "tcp-rr", target, ...more });

  test("requests on lasting connections, on one each, and one way", async () => {
    const service = tcpService("echo");
    const lasting = await tcp(service.target);
    const each = await tcp(service.target, { workload: "tcp-crr" });
    const large = await tcp(service.target, { size: 60_000 });
    service.close();
    for (const trial of [lasting, each, large]) {
      expectBalance(trial);
      expect(trial.received).toBeGreaterThan(0);
      expect([trial.lost, trial.wrong]).toEqual([0, 0]);
    }
    const sink = tcpService("silent");
    const bulk = await tcp(sink.target, { workload: "tcp-stream", rate: 0, connections: 1, size: 4096 });
    sink.close();
    expect(bulk.bytes).toBeGreaterThan(0);
    expect(bulk.valid).toBe(true);
  });

  test("nobody there, no answer, a wrong one, one too many", async () => {
    const reasons: Record<string, string> = {};
    for (const manner of ["silent", "wrong", "twice"] as const) {
      const service = tcpService(manner);
      reasons[manner] = reasonOf(await tcp(service.target));
      service.close();
      if (manner === "twice") reasons.gone = reasonOf(await tcp(service.target));
    }
    expect(reasons.silent).toContain("no answer");
    expect(reasons.gone).toContain("no answer");
    expect(reasons.wrong).toContain("other content");
    expect(reasons.twice).not.toBe("");
  });
});

describe("a run", () => {
  const environment: Environment = {
    date: "2026-01-01T00:00:00.000Z",
    command: "lcore bench udp-echo",
    lcore: "0.1.0",
    bun: "1.4.5",
    kernel: "6.18",
    cpu: "any",
    cpus: 2,
    allowedCpus: [0, 1],
    governor: null,
    load: 0,
    steal: 0,
    others: 0,
    seconds: 1,
  };

  test("is what the schema says, and the same after a way through JSON", async () => {
    const trial = await runTrial({ ...SHORT, workload: "udp-echo", target: "lcore", generator: "inline" });
    const run: Run = { schema: RUN_SCHEMA, version: RUN_VERSION, environment, trials: [trial] };
    const text = JSON.stringify(encodeRun(run));
    validate(JSON.parse(text));
    expect(validate.errors ?? []).toEqual([]);
    const [read] = parseRun(text).trials;
    for (const percent of [0, 50, 99, 100])
      expect(read.latency.getValueAtPercentile(percent)).toBe(trial.latency.getValueAtPercentile(percent));
    expect(read.latency.totalCount).toBe(trial.received);
    expect({ ...read, latency: 0, lag: 0, hiccups: 0 }).toEqual({ ...trial, latency: 0, lag: 0, hiccups: 0 });
  });

  test("of another kind or version is refused", () => {
    expect(() => parseRun('{"schema":"other"}')).toThrow("its schema is other");
    expect(() => parseRun('{"schema":"lcore-bench","version":2}')).toThrow("where version 1 is understood");
    expect(validate({ schema: "lcore-bench", version: 2, environment, trials: [] })).toBe(false);
    expect(validate({ schema: "lcore-bench", version: 1, environment, trials: [{}] })).toBe(false);
  });
});

test.each<[Partial<TrialSpec>, RegExp]>([
  [{ target: "lcore-kernel" }, /kernel sockets need --wire veth/],
  [{ target: "bun-listen", wire: "veth" }, /does not serve udp-echo; these do: lcore/],
  [{ workload: "tcp-stream" }, /goes as fast as it can/],
  [{ target: "127.0.0.1:0", wire: "host", generator: "kernel" }, /HOST:PORT/],
  [
    { target: "127.0.0.1:7", wire: "host", generator: "kernel", workload: "udp-tx" },
    /only of targets that lcore starts/,
  ],
  [{ generator: "kernel" }, /--generator kernel: on --wire veth/],
  [{ size: 2003 }, /up to 2002 bytes fit a datagram/],
  [{ spin: { ns: 10, fraction: 2 } }, /a fraction above 0, up to 1/],
])("refuses %j", async (more, message) => {
  await expect(runTrial({ ...SHORT, workload: "udp-echo", target: "lcore", ...more })).rejects.toThrow(message);
});
