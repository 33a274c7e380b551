/** Running `lcore bench`: each target in its turn, and what was measured so far written out whatever happens. */
import { writeFileSync } from "node:fs";
import manifest from "../../package.json" with { type: "json" };
import { observeEnvironment } from "../measure/environment.ts";
import { Bench } from "../measure/run.ts";
import { checkSearch, type SearchOptions, search } from "../measure/search.ts";
import {
  DEFAULTS,
  defaultConnections,
  defaultRate,
  defaultSize,
  defaultTimeout,
  resolveSpec,
  type TrialHooks,
  type TrialSpec,
} from "../measure/spec.ts";
import { encodeRun, RUN_SCHEMA, RUN_VERSION, type Run, type Trial, type Workload } from "../measure/trial.ts";
import { AF_XDP_NEEDS, howToGet, lacking } from "../privileges.ts";
import type { BenchCliOptions } from "./bench.ts";
import { benchText, hgrm } from "./bench-text.ts";
import { CliError, EXIT_FAILURE, EXIT_INTERRUPTED, oneLine } from "./failure.ts";
import { duration, short } from "./output.ts";
import { Progress } from "./progress.ts";
import { StopRequest } from "./signals.ts";

/** Start of a target and its load, which the progress bar expects. */
const START_MS = 700;
/** Trials that a search makes about. */
const SEARCH_TRIALS = 12;

export async function runBench(workload: Workload, options: BenchCliOptions): Promise<void> {
  const specs = options.target.map((target) => specOf(workload, target, options));
  if (options.search) specs.forEach(checkSearch);
  const stop = new StopRequest();
  const environment = observeEnvironment(`lcore ${process.argv.slice(2).join(" ")}`, manifest.version);
  const progress = new Progress(expectedMs(specs, options));
  const trials: Trial[] = [];
  let apartNs = 0;
  let failure: unknown = null;
  try {
    // One target serves for all its trials; several take turns, so that what the machine does falls on all alike.
    const rounds = specs.length === 1 ? 1 : options.trials;
    const each = specs.length === 1 ? options.trials : 1;
    for (let round = 0; round < rounds && !stop.abort.aborted; round++) {
      for (const spec of specs) {
        if (stop.abort.aborted) break;
        const bench = await Bench.open(spec, hooksOf(spec, progress, stop.abort));
        try {
          for (let i = 0; i < each && !stop.abort.aborted; i++)
            trials.push(options.search ? await search(bench, spec, searchOptions(options)) : await bench.trial());
          apartNs += bench.apartNs;
        } finally {
          await bench.close();
        }
      }
    }
  } catch (error) {
    failure = error;
  } finally {
    progress.end();
  }
  const run: Run = {
    schema: RUN_SCHEMA,
    version: RUN_VERSION,
    environment: environment(apartNs),
    trials,
  };
  if (trials.length > 0 || failure === null) write(run, options);
  if (failure !== null) throw failure;
  if (stop.abort.aborted) throw new CliError("bench interrupted; what was measured is told", EXIT_INTERRUPTED);
  const bad = trials.find(({ valid }) => valid !== true);
  if (bad !== undefined && bad.valid !== true)
    throw new CliError(`not valid: ${bad.target}: ${bad.valid.reason}`, EXIT_FAILURE);
}

/** What is asked for, with the defaults of this workload, target and machine. Throws RangeError. */
function specOf(workload: Workload, target: string, options: BenchCliOptions): TrialSpec {
  const { interface: name, mode } = options;
  const wire = target.includes(":") ? "host" : (options.wire ?? (canVeth() ? "veth" : "memory"));
  if (wire === "host" && options.queues !== undefined)
    throw new RangeError(
      "--queues: of a wire that lcore makes; an --interface is used with all the queues that it has",
    );
  if (name === undefined && mode !== "auto") throw new RangeError(`--mode ${mode}: of an --interface`);
  const missing = name === undefined ? [] : lacking(AF_XDP_NEEDS);
  if (missing.length > 0) throw new CliError(howToGet(missing));
  return resolveSpec({
    workload,
    target: target as TrialSpec["target"],
    wire,
    generator: options.generator ?? (wire === "host" && name === undefined ? "kernel" : "lcore"),
    size: options.size ?? defaultSize(workload),
    flows: options.flows ?? DEFAULTS.flows,
    connections: options.connections ?? defaultConnections(workload),
    queues: options.queues ?? DEFAULTS.queues,
    window: options.window ?? DEFAULTS.window,
    timeoutMs: options.timeout ?? defaultTimeout(workload),
    spin: options.spin ?? null,
    interface: name === undefined ? null : { name, mode },
    rate: options.rate ?? defaultRate(workload, wire),
    seconds: options.seconds ?? DEFAULTS.seconds,
    warmupSeconds: options.warmup ?? DEFAULTS.warmupSeconds,
    rewarmSeconds: DEFAULTS.rewarmSeconds,
    patienceMs: DEFAULTS.patienceMs,
    intervalMs: options.interval ?? DEFAULTS.intervalMs,
  });
}

const canVeth = (): boolean => lacking([...AF_XDP_NEEDS, "CAP_SYS_ADMIN"]).length === 0;

const searchOptions = ({ loss }: BenchCliOptions): SearchOptions => ({ lossMax: loss / 100 });

function expectedMs(specs: readonly TrialSpec[], { search, trials }: BenchCliOptions): number {
  const one = (spec: TrialSpec): number => (spec.seconds * (search ? SEARCH_TRIALS : 1) + 0.5) * 1000 * trials;
  return specs.reduce((sum, spec) => sum + START_MS + 1000 + one(spec), 0);
}

function hooksOf({ target, workload }: TrialSpec, progress: Progress, abort: AbortSignal): TrialHooks {
  let last = "";
  return {
    abort,
    progress: (phase, rate, p50) => {
      const text = `${workload} ${target}: ${phase}`;
      if (text !== last) progress.step(text);
      last = text;
      if (rate > 0) progress.note(`${text}, ${short(rate)}/s${p50 > 0 ? `, p50 ${duration(p50)}` : ""}`);
    },
  };
}

function write(run: Run, options: BenchCliOptions): void {
  const { json, hgrm: file } = options;
  const last = run.trials.at(-1);
  if (file !== undefined && last !== undefined) save(file, hgrm(last));
  const text = json === undefined ? "" : `${JSON.stringify(encodeRun(run))}\n`;
  if (json === "-") process.stdout.write(text);
  else {
    if (json !== undefined) save(json, text);
    process.stdout.write(benchText(run));
  }
}

function save(file: string, text: string): void {
  try {
    writeFileSync(file, text);
  } catch (error) {
    throw new CliError(`${file}: cannot be written: ${oneLine(error)}`);
  }
}
