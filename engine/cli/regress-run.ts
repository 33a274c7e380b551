/** Running `lcore regress`: two trees, launches of each in turn, a verdict, and reports of it. */
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import manifest from "../../package.json" with { type: "json" };
import { compareWithRuns, figuresOfRun, readRuns, saveRun } from "../measure/compare/baseline.ts";
import { compare, SideError } from "../measure/compare/compare.ts";
import { type Figures, tells } from "../measure/compare/figures.ts";
import { lcoreSource, type Source, serviceSource } from "../measure/compare/launch.ts";
import {
  type Checkout,
  checkOut,
  meterDiffers,
  provideDependencies,
  repositoryAround,
  run,
  workingTree,
} from "../measure/compare/worktree.ts";
import { observeEnvironment } from "../measure/environment.ts";
import type { ComparisonReport, SideInfo, SideName } from "../measure/report/data.ts";
import { html } from "../measure/report/html.ts";
import { junit } from "../measure/report/junit.ts";
import { makeReport } from "../measure/report/make.ts";
import { markdown } from "../measure/report/markdown.ts";
import { DEFAULTS, resolveSpec, type TrialSpec } from "../measure/spec.ts";
import { median } from "../measure/verdict/location.ts";
import type { MetricRule } from "../measure/verdict/verdict.ts";
import { CliError, EXIT_INTERRUPTED, oneLine } from "./failure.ts";
import { Progress } from "./progress.ts";
import {
  type ChosenMetric,
  EXIT_INCONCLUSIVE,
  EXIT_REGRESS_USAGE,
  EXIT_REGRESSED,
  type RegressOptions,
} from "./regress.ts";
import { regressText, storedText } from "./regress-text.ts";
import { StopRequest } from "./signals.ts";

const OWN_ROOT = fileURLToPath(new URL("../..", import.meta.url));
const LAUNCH_PROGRAM = "engine/measure/compare/launch-process.ts";

/** What matters where nothing else is said, and what is judged. */
const MINIMUM = { p50: 0.03, p90: 0.05, p99: 0.08, "p99.9": 0.25, throughput: 0.03 } as const;
const METRICS: readonly ChosenMetric[] = [
  { name: "p50", watched: false },
  { name: "p99", watched: false },
  { name: "p99.9", watched: true },
  { name: "throughput", watched: false },
];

/** Exit status by outcome. */
const EXITS = { pass: 0, improved: 0, regressed: EXIT_REGRESSED, inconclusive: EXIT_INCONCLUSIVE } as const;

/** Returns the exit status. Throws CliError, whose status is that of a gate that cannot tell, or of bad usage. */
export async function runRegress(options: RegressOptions): Promise<number> {
  try {
    return await regress(options);
  } catch (error) {
    if (error instanceof CliError) throw error;
    throw new CliError(oneLine(error), error instanceof RangeError ? EXIT_REGRESS_USAGE : EXIT_INCONCLUSIVE);
  }
}

/** Two sides to compare, and what is to be taken away afterwards. */
interface Sides {
  readonly info: Readonly<Record<SideName, SideInfo>>;
  readonly source: Readonly<Record<SideName, Source>>;
  readonly notes: readonly string[];
}

async function regress(options: RegressOptions): Promise<number> {
  const spec = specOf(options);
  const rules = rulesOf(options);
  const seed = options.seed ?? crypto.getRandomValues(new Uint32Array(1))[0] >>> 1;
  const stop = new StopRequest();
  const checkouts: Checkout[] = [];
  const progress = new Progress(options.seconds * 1000);
  try {
    const sides = await prepare(options, spec, checkouts, progress);
    const environment = observeEnvironment(`lcore ${process.argv.slice(2).join(" ")}`, manifest.version);
    progress.step(`comparing ${sides.info.base.label} with ${sides.info.head.label}`);
    const compared = await compare({
      sources: sides.source,
      // Stored runs are compared with later; here head runs beside itself until that shows what pairs would tell.
      rules: options.baseline === undefined ? rules : rules.map((rule) => ({ ...rule, minimum: 9 })),
      seconds: options.seconds,
      trials: options.trials,
      seed,
      abort: stop.abort,
      progress: ({ pairs }, seconds) => progress.note(`${pairs} pairs of launches, ${seconds.toFixed(0)} s`),
    });
    progress.end();
    const report = makeReport(compared, {
      sides: sides.info,
      workload: describe(spec, options),
      budgetSeconds: options.seconds,
      seed,
      environment: environment(compared.cpuNs),
      notes: [...sides.notes, ...untold(rules, compared.trials)],
    });
    const head = figuresOfRun(compared.trials.filter(({ side }) => options.baseline !== undefined || side === "head"));
    const stored = { workload: report.workload, machine: machineOf(report) };
    if (options.save !== undefined && !compared.interrupted)
      saveRun(options.save, { ...stored, date: report.environment.date, label: report.head.label, figures: head });
    if (options.baseline !== undefined && !compared.interrupted)
      return againstStored(options.baseline, stored, head, rules, report);
    await write(report, options);
    if (compared.interrupted) throw new CliError("regress interrupted; what was compared is told", EXIT_INTERRUPTED);
    return EXITS[report.outcome];
  } catch (error) {
    if (error instanceof SideError) throw new CliError(`${error.message}; nothing was compared`, EXIT_INCONCLUSIVE);
    throw error;
  } finally {
    progress.end();
    for (const checkout of checkouts) await checkout.close();
  }
}

/** Throws RangeError. */
function specOf(options: RegressOptions): TrialSpec {
  const service = [options.command, options.baseCommand, options.headCommand].some((command) => command !== undefined);
  const wire = service ? "host" : options.wire;
  const spec: TrialSpec = {
    ...DEFAULTS,
    workload: options.workload ?? (service ? "tcp-rr" : "udp-echo"),
    target: service ? (options.target?.replaceAll("{port}", "1") as TrialSpec["target"]) : "lcore",
    wire,
    generator: options.generator ?? (wire === "host" ? "kernel" : wire === "memory" ? "inline" : "lcore"),
    rate: options.rate,
    window: options.window ?? (options.rate === 0 ? 1 : DEFAULTS.window),
    size: options.size ?? DEFAULTS.size,
    flows: options.flows ?? DEFAULTS.flows,
    connections: options.connections ?? (options.rate === 0 ? 1 : DEFAULTS.connections),
    seconds: options.trialSeconds,
    warmupSeconds: options.warmup,
    rewarmSeconds: Math.min(0.01, options.trialSeconds / 3),
  };
  return resolveSpec(spec);
}

function rulesOf({ metrics, minEffect }: RegressOptions): MetricRule[] {
  return (metrics ?? METRICS).map(({ name, watched }) => ({
    name,
    better: name === "throughput" ? "higher" : "lower",
    minimum: minEffect[name] ?? MINIMUM[name],
    watched,
  }));
}

/** Metrics of which a trial of so many requests says little. */
function untold(rules: readonly MetricRule[], trials: readonly { throughput: number; seconds: number }[]): string[] {
  if (trials.length === 0) return [];
  const requests = median(trials.map(({ throughput, seconds }) => throughput * seconds));
  const dumb = rules.filter(({ name }) => !tells(name as ChosenMetric["name"], requests)).map(({ name }) => name);
  if (dumb.length === 0) return [];
  return [
    `A trial has some ${Math.round(requests)} requests, too few for ${dumb.join(", ")}: make --trial-seconds longer.`,
  ];
}

async function prepare(
  options: RegressOptions,
  spec: TrialSpec,
  checkouts: Checkout[],
  progress: Progress,
): Promise<Sides> {
  const { baseCommand, headCommand } = options;
  if ((baseCommand === undefined) !== (headCommand === undefined))
    throw new RangeError("--base-command and --head-command go together");
  if (baseCommand !== undefined && headCommand !== undefined) {
    if (options.base !== undefined || options.command !== undefined)
      throw new RangeError("--base-command and --head-command stand in place of --base and --command");
    return servicesHere(baseCommand, headCommand, spec, options);
  }
  if (options.baseline !== undefined) {
    const other = ["base", "head", "command", "json", "html", "junit", "markdown"] as const;
    const given = other.find((name) => options[name] !== undefined);
    if (given !== undefined) throw new RangeError(`--baseline does not go with --${given}`);
    const { info, source } = await lcoreHere(spec);
    return { info: { base: info, head: info }, source: { base: source, head: source }, notes: [] };
  }
  if (options.base === undefined)
    throw new RangeError("what is it to be compared with? --base REF, --baseline FILE or --base-command CMD");
  const repository = await repositoryAround(process.cwd());
  const base = await checkOut(repository, options.base);
  checkouts.push(base);
  const head = options.head === undefined ? await workingTree(repository) : await checkOut(repository, options.head);
  checkouts.push(head);
  for (const checkout of checkouts) {
    progress.step(`preparing ${label(checkout)}`);
    await provideDependencies(checkout, repository);
    if (options.setup !== undefined) await run(["sh", "-c", options.setup], checkout.root);
  }
  const info = { base: infoOf(base), head: infoOf(head) };
  const { command } = options;
  if (command !== undefined) {
    const source = ({ root }: Checkout): Source =>
      serviceSource({ command, cwd: root, target: options.target as string, root: OWN_ROOT, spec });
    return { info, source: { base: source(base), head: source(head) }, notes: [] };
  }
  for (const { root, ref } of [base, head]) {
    if (!existsSync(join(root, LAUNCH_PROGRAM)))
      throw new CliError(
        `${ref} has no ${LAUNCH_PROGRAM}: it is older than lcore regress, or not lcore at all (give a --command then)`,
        EXIT_INCONCLUSIVE,
      );
  }
  const notes = (await meterDiffers(repository, base, head))
    ? ["What measures (engine/measure) differs between the two as well, and each was measured by its own."]
    : [];
  return {
    info,
    source: {
      base: lcoreSource(base.root, spec),
      head: lcoreSource(head.root, { ...spec, spin: options.headSpin ?? null }),
    },
    notes: options.headSpin === undefined ? notes : [...notes, "Head was made to work longer by --head-spin."],
  };
}

/** The lcore that runs. */
async function lcoreHere(spec: TrialSpec): Promise<{ info: SideInfo; source: Source }> {
  return { info: { label: `lcore ${manifest.version}`, commit: null }, source: lcoreSource(OWN_ROOT, spec) };
}

function servicesHere(base: string, head: string, spec: TrialSpec, options: RegressOptions): Sides {
  const source = (command: string): Source =>
    serviceSource({ command, cwd: process.cwd(), target: options.target as string, root: OWN_ROOT, spec });
  return {
    info: { base: { label: base, commit: null }, head: { label: head, commit: null } },
    source: { base: source(base), head: source(head) },
    notes: [],
  };
}

const label = ({ ref, commit, changed, subject }: Checkout): string =>
  `${ref} (${commit.slice(0, 9)}${changed ? " with changes" : ""}: ${subject})`;

const infoOf = (checkout: Checkout): SideInfo => ({ label: label(checkout), commit: checkout.commit });

function describe(spec: TrialSpec, { command, target }: RegressOptions): string {
  const { workload, wire, generator, size, flows, connections, window, rate, seconds } = spec;
  const tcp = workload.startsWith("tcp-");
  const whom = wire === "host" ? `${command ?? "a command of each"} at ${target}` : `lcore on ${wire}`;
  const load = rate === 0 ? `closed loop, ${tcp ? connections : window} at once` : `${rate} requests/s by schedule`;
  return `${workload} of ${whom}, load ${generator}: ${load}, ${size} bytes, ${tcp ? `${connections} connections` : `${flows} flows`}, trials of ${seconds * 1000} ms`;
}

const machineOf = ({ environment: e }: ComparisonReport): string => `${e.cpus} × ${e.cpu}, Bun ${e.bun}`;

/** Head against stored runs: says what it found, and what that is worth. Returns the exit status. */
function againstStored(
  file: string,
  { workload, machine }: { workload: string; machine: string },
  head: Figures,
  rules: readonly MetricRule[],
  { metrics }: ComparisonReport,
): number {
  const runs = readRuns(file).filter((run) => run.workload === workload && run.machine === machine);
  if (runs.length === 0)
    throw new CliError(`${file} has no run of this workload on this machine (${machine})`, EXIT_INCONCLUSIVE);
  const findings = compareWithRuns(runs, head, rules);
  const paired = metrics.map(({ low, high }) => (low === null || high === null ? null : (high - low) / 2));
  process.stdout.write(storedText(runs.length, findings, paired));
  const decisive = findings.filter(({ metric }) => metric.watched !== true);
  if (findings.some(({ outcome }) => outcome === "regressed")) return EXIT_REGRESSED;
  return decisive.some(({ outcome }) => outcome === "inconclusive") ? EXIT_INCONCLUSIVE : 0;
}

async function write(report: ComparisonReport, options: RegressOptions): Promise<void> {
  if (options.json !== undefined) save(options.json, `${JSON.stringify(report)}\n`);
  if (options.html !== undefined) save(options.html, await html(report));
  if (options.junit !== undefined) save(options.junit, junit(report));
  if (options.markdown !== undefined) save(options.markdown, markdown(report));
  if (options.json !== "-" && options.markdown !== "-") process.stdout.write(regressText(report));
}

function save(file: string, text: string): void {
  if (file === "-") {
    process.stdout.write(text);
    return;
  }
  try {
    writeFileSync(file, text);
  } catch (error) {
    throw new CliError(`${file}: ${oneLine(error)}`, EXIT_INCONCLUSIVE);
  }
}
