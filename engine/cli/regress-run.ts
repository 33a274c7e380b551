/** Running `lcore regress`: two trees, launches of each in turn, a verdict, and reports of it. */
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import manifest from "../../package.json" with { type: "json" };
import { figuresOfRun, readRuns, saveRun } from "../measure/compare/baseline.ts";
import { compare, SideError } from "../measure/compare/compare.ts";
import { tells } from "../measure/compare/figures.ts";
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
import type { ComparisonReport, SideInfo, SideName, StoredReport } from "../measure/report/data.ts";
import { html } from "../measure/report/html.ts";
import { junit, storedJunit } from "../measure/report/junit.ts";
import { makeReport } from "../measure/report/make.ts";
import { markdown, storedMarkdown } from "../measure/report/markdown.ts";
import { makeStoredReport } from "../measure/report/stored.ts";
import { value } from "../measure/report/text.ts";
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

/** Whether there is but one version: it is stored, or compared with stored runs. */
const alone = ({ base, baseCommand, baseline, save }: RegressOptions): boolean =>
  baseline !== undefined || (save !== undefined && base === undefined && baseCommand === undefined);

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
    // A file that cannot be read is told before anything is measured.
    const storedRuns = options.baseline === undefined ? [] : readRuns(options.baseline);
    const environment = observeEnvironment(`lcore ${process.argv.slice(2).join(" ")}`, manifest.version);
    const { base, head } = sides.info;
    progress.step(alone(options) ? `measuring ${head.label}` : `comparing ${base.label} with ${head.label}`);
    const compared = await compare({
      sources: sides.source,
      // Stored runs are compared with later; here head runs beside itself until that shows what pairs would tell.
      rules: alone(options) ? rules.map((rule) => ({ ...rule, minimum: 9 })) : rules,
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
    if (compared.interrupted) {
      if (!alone(options)) await write(report, options);
      const what = alone(options) ? "nothing is told or stored" : "what was compared is told, nothing stored";
      throw new CliError(`regress interrupted; ${what}`, EXIT_INTERRUPTED);
    }
    const figures = figuresOfRun(compared.trials.filter(({ side }) => alone(options) || side === "head"));
    const run = { workload: report.workload, machine: machineOf(report) };
    const runs = storedRuns.filter((one) => one.workload === run.workload && one.machine === run.machine);
    if (options.save !== undefined)
      saveRun(options.save, { ...run, date: report.environment.date, label: report.head.label, figures });
    if (options.baseline !== undefined) {
      if (runs.length === 0)
        throw new CliError(
          `${options.baseline} has no run of this workload on this machine (${run.machine})`,
          EXIT_INCONCLUSIVE,
        );
      const stored = makeStoredReport(options.baseline, runs, figures, rules, report);
      writeStored(stored, options);
      return EXITS[stored.outcome];
    }
    if (alone(options)) {
      const told = rules.map(({ name }) => `${name} ${value(name, figures[name as ChosenMetric["name"]])}`);
      process.stdout.write(`${options.save}: stored ${told.join(", ")}\n`);
      return 0;
    }
    await write(report, options);
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
  if (alone(options)) return oneVersion(spec, options);
  if ((baseCommand === undefined) !== (headCommand === undefined))
    throw new RangeError("--base-command and --head-command go together");
  if (baseCommand !== undefined && headCommand !== undefined) {
    if (options.base !== undefined || options.command !== undefined)
      throw new RangeError("--base-command and --head-command stand in place of --base and --command");
    return servicesHere(baseCommand, headCommand, spec, options);
  }
  if (options.base === undefined)
    throw new RangeError(
      "what is it to be compared with? --base REF, --baseline FILE or --base-command CMD; or --save FILE alone",
    );
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

/** The lcore that runs, or the service of a command, beside itself. */
function oneVersion(spec: TrialSpec, options: RegressOptions): Sides {
  const { baseline, command } = options;
  const mode = baseline === undefined ? "--save without a base" : "--baseline";
  // Charts and JSON of a version beside itself would say nothing of the stored runs.
  const others = ["base", "head", "baseCommand", "headCommand", "headSpin", "html"] as const;
  const reports = baseline === undefined ? (["json", "junit", "markdown"] as const) : [];
  const given = [...others, ...reports].find((name) => options[name] !== undefined);
  if (given !== undefined) throw new RangeError(`${mode} does not go with --${flag(given)}`);
  const info: SideInfo = { label: command ?? `lcore ${manifest.version}`, commit: null };
  const source = command === undefined ? lcoreSource(OWN_ROOT, spec) : serviceHere(command, spec, options);
  return { info: { base: info, head: info }, source: { base: source, head: source }, notes: [] };
}

/** As it is written: "base-command". */
const flag = (option: keyof RegressOptions): string => option.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

const serviceHere = (command: string, spec: TrialSpec, { target }: RegressOptions): Source =>
  serviceSource({ command, cwd: process.cwd(), target: target as string, root: OWN_ROOT, spec });

function servicesHere(base: string, head: string, spec: TrialSpec, options: RegressOptions): Sides {
  return {
    info: { base: { label: base, commit: null }, head: { label: head, commit: null } },
    source: { base: serviceHere(base, spec, options), head: serviceHere(head, spec, options) },
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

async function write(report: ComparisonReport, options: RegressOptions): Promise<void> {
  if (options.json !== undefined) save(options.json, `${JSON.stringify(report)}\n`);
  if (options.html !== undefined) save(options.html, await html(report));
  if (options.junit !== undefined) save(options.junit, junit(report));
  if (options.markdown !== undefined) save(options.markdown, markdown(report));
  if (options.json !== "-" && options.markdown !== "-") process.stdout.write(regressText(report));
}

function writeStored(report: StoredReport, options: RegressOptions): void {
  if (options.json !== undefined) save(options.json, `${JSON.stringify(report)}\n`);
  if (options.junit !== undefined) save(options.junit, storedJunit(report));
  if (options.markdown !== undefined) save(options.markdown, storedMarkdown(report));
  if (options.json !== "-" && options.markdown !== "-") process.stdout.write(storedText(report));
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
