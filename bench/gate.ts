/**
 * The proof of the gate: `lcore regress` on a version and itself, and on a version whose handler works longer, many times.
 *
 *     npm run bench:gate                         all, some two hours on an idle machine; goes on where it stopped
 *     npm run bench:gate -- --minutes 10         a part of it
 *     npm run bench:gate -- --report             the tables of what is there, nothing is run
 *
 * Each comparison is a line of the file. They are made in a shuffled order, so that a part of them is a fair sample, and as many
 * at once as there are CPUs, each on one of its own: a neighbour that works is what machines of CI have.
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { loadavg } from "node:os";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { wholeNumber } from "../engine/cli/arguments.ts";
import { getAffinity } from "../engine/host/affinity.ts";
import { compare } from "../engine/measure/compare/compare.ts";
import { lcoreSource } from "../engine/measure/compare/launch.ts";
import { DEFAULTS, type TrialSpec } from "../engine/measure/spec.ts";
import type { Spin } from "../engine/measure/trial.ts";
import type { MetricRule } from "../engine/measure/verdict/verdict.ts";
import { Random } from "../queues/random.ts";
import { type GateRecord, gateReport, otherRules, SAME } from "./gate-report.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** As `lcore regress` has it where nothing else is said. */
const SPEC: TrialSpec = {
  ...DEFAULTS,
  workload: "udp-echo",
  target: "lcore",
  generator: "inline",
  rate: 0,
  window: 1,
  seconds: 0.03,
  warmupSeconds: 0.4,
  rewarmSeconds: 0.01,
};
const TRIALS = 4;
const RULES: readonly MetricRule[] = [
  { name: "p50", better: "lower", minimum: 0.03 },
  { name: "p99", better: "lower", minimum: 0.08 },
  { name: "p99.9", better: "lower", minimum: 0.25, watched: true },
  { name: "throughput", better: "higher", minimum: 0.03 },
];
const SECONDS = 120;

/** What is put into head: a metric, and by how much it is to grow. */
interface Dose {
  readonly kind: string;
  readonly metric: "p50" | "p99";
  readonly effect: number;
}
const EFFECTS = [0.05, 0.1, 0.25, 0.5];
const DOSES: readonly Dose[] = (["p50", "p99"] as const).flatMap((metric) =>
  EFFECTS.map((effect) => ({ kind: `${metric} +${Math.round(effect * 100)} %`, metric, effect })),
);
/** Comparisons of which the goals speak are more. */
const GOALS = ["p50 +10 %", "p99 +25 %"];
/** Of the requests, work longer: all, for p50; enough to be beyond the 99th in hundred, but few, for p99. */
const FRACTION = { p50: 1, p99: 0.03 } as const;

const run = (cpu: number, spin: Spin | null, seed: number, seconds: number, rules = RULES) =>
  compare({
    sources: { base: lcoreSource(ROOT, SPEC, cpu), head: lcoreSource(ROOT, { ...SPEC, spin }, cpu) },
    rules,
    seconds,
    trials: TRIALS,
    seed,
  });

/** Work whose effect is measured, nanoseconds; what lies between is interpolated. */
const PROBES_NS = [0, 40, 120, 300, 700];

/** The doses' work. What it costs an echo depends on what the CPU can do beside it, so it is measured. */
async function calibrate(cpu: number): Promise<Map<string, Spin>> {
  // Never to be called different, so that it ends with the first look.
  const rules = RULES.map((rule) => ({ ...rule, minimum: 9 }));
  const found = new Map<string, Spin>();
  for (const metric of ["p50", "p99"] as const) {
    const fraction = FRACTION[metric];
    const effects = [0];
    for (const ns of PROBES_NS.slice(1)) {
      const { verdict } = await run(cpu, { ns, fraction }, ns, 30, rules);
      const change = verdict.findings.find((finding) => finding.metric.name === metric)?.change ?? 0;
      effects.push(Math.max(change, effects[effects.length - 1] + 0.001));
    }
    for (const { kind, effect } of DOSES.filter((dose) => dose.metric === metric)) {
      const above = Math.max(
        1,
        Math.min(
          PROBES_NS.length - 1,
          effects.findIndex((reached) => reached >= effect),
        ),
      );
      const share = (effect - effects[above - 1]) / (effects[above] - effects[above - 1]);
      const ns = PROBES_NS[above - 1] + share * (PROBES_NS[above] - PROBES_NS[above - 1]);
      found.set(kind, { ns: Math.max(1, Math.round(ns)), fraction });
      console.error(`${kind}: ${Math.round(ns)} ns in ${100 * fraction} % of the requests`);
    }
  }
  return found;
}

function lines<T>(file: string): T[] {
  if (!existsSync(file)) return [];
  return readFileSync(file, "utf8")
    .trim()
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as T);
}

async function spins(file: string, cpu: number): Promise<Map<string, Spin>> {
  const stored = lines<[string, Spin]>(file);
  if (stored.length === DOSES.length) return new Map(stored);
  const found = await calibrate(cpu);
  appendFileSync(file, [...found].map((entry) => `${JSON.stringify(entry)}\n`).join(""));
  return found;
}

/** Kinds in a shuffled order, each as often as it is wanted, less what is there. */
function schedule(same: number, goal: number, other: number, done: readonly GateRecord[]): string[] {
  const random = new Random(20);
  const all = [SAME, ...DOSES.map(({ kind }) => kind)].flatMap((kind) => {
    const wanted = kind === SAME ? same : GOALS.includes(kind) ? goal : other;
    return Array.from(
      { length: Math.max(0, wanted - done.filter((record) => record.kind === kind).length) },
      () => kind,
    );
  });
  for (let i = all.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [all[i], all[j]] = [all[j], all[i]];
  }
  return all;
}

interface Options {
  file: string;
  same: number;
  goal: number;
  other: number;
  minutes: number;
  report?: boolean;
}

async function main(options: Options): Promise<void> {
  const { file } = options;
  mkdirSync(dirname(file), { recursive: true });
  const records = lines<GateRecord>(file);
  const stored = records.length;
  if (options.report) {
    process.stdout.write(gateReport(records));
    return;
  }
  const cpus = getAffinity();
  const doses = await spins(file.replace(/(\.jsonl)?$/, ".spins.jsonl"), cpus[0]);
  const until = performance.now() + options.minutes * 60_000;
  const todo = schedule(options.same, options.goal, options.other, records);
  let begun = 0;
  const one = async (cpu: number): Promise<void> => {
    const kind = todo[begun++];
    const seed = crypto.getRandomValues(new Uint32Array(1))[0] >>> 1;
    const load = loadavg()[0];
    const compared = await run(cpu, doses.get(kind) ?? null, seed, SECONDS);
    const { verdict, seconds } = compared;
    const record: GateRecord = {
      kind,
      outcome: verdict.outcome,
      pairs: verdict.pairs,
      seconds,
      seed,
      date: new Date().toISOString(),
      load,
      changes: Object.fromEntries(verdict.findings.map((finding) => [finding.metric.name, finding.change])),
      others: otherRules(compared),
    };
    records.push(record);
    appendFileSync(file, `${JSON.stringify(record)}\n`);
    console.error(
      `${records.length - stored} of ${todo.length}: ${kind}: ${verdict.outcome} after ${verdict.pairs} pairs, ${seconds.toFixed(0)} s`,
    );
  };
  await Promise.all(
    cpus.map(async (cpu) => {
      while (begun < todo.length && performance.now() < until) await one(cpu);
    }),
  );
  process.stdout.write(gateReport(records));
}

const command = new Command("bench:gate")
  .option("--file <file>", "where comparisons are kept", "out/gate.jsonl")
  .option("--same <n>", "comparisons of the version with itself", wholeNumber(0, 100_000), 300)
  .option("--goal <n>", `comparisons of ${GOALS.join(" and ")} each`, wholeNumber(0, 100_000), 60)
  .option("--other <n>", "comparisons of each other dose", wholeNumber(0, 100_000), 20)
  .option("--minutes <n>", "stop after so many", wholeNumber(1, 100_000), 100_000)
  .option("--report", "print the tables of what is there");
await main(command.parse().opts<Options>());
