/** `lcore regress`: whether one version is slower than another, by a test that says how sure it is. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { METRIC_NAMES, type MetricName } from "../measure/compare/figures.ts";
import type { Spin, Workload } from "../measure/trial.ts";
import { seconds, wholeNumber, words } from "./arguments.ts";
import { rate, spin, workload } from "./bench.ts";

/** Exit statuses of this command alone. */
export const EXIT_REGRESSED = 1;
export const EXIT_INCONCLUSIVE = 2;
export const EXIT_REGRESS_USAGE = 3;

/** A metric to judge. */
export interface ChosenMetric {
  readonly name: MetricName;
  readonly watched: boolean;
}

export interface RegressOptions {
  base?: string;
  head?: string;
  baseline?: string;
  save?: string;
  command?: string;
  baseCommand?: string;
  headCommand?: string;
  target?: string;
  setup?: string;
  seconds: number;
  workload?: Workload;
  wire: "memory" | "veth";
  generator?: "lcore" | "inline" | "kernel";
  rate: number;
  window?: number;
  size?: number;
  flows?: number;
  connections?: number;
  trialSeconds: number;
  trials: number;
  warmup: number;
  metrics?: ChosenMetric[];
  minEffect: Partial<Record<MetricName, number>>;
  headSpin?: Spin;
  seed?: number;
  json?: string;
  html?: string;
  junit?: string;
  markdown?: string;
}

const SECONDS_MAX = 86_400;

export function regressCommand(program: Command): void {
  program
    .command("regress")
    .description(
      "compare two versions: exit status 0 where head is no slower, 1 regressed, 2 not to be told, 3 bad usage",
    )
    .option("--base <ref>", "commit to compare with: lcore itself, or where --command runs")
    .option("--head <ref>", "commit to judge; default the working tree as it is")
    .option("--seconds <n>", "time for the trials; clear cases end earlier", seconds(SECONDS_MAX), 60)
    .option("--baseline <file>", "compare with stored runs instead of --base, which is worth less and says how much")
    .option("--save <file>", "add head's figures to a file of stored runs; alone, of what runs here")
    .option("--command <cmd>", "a service of your own, run in each commit's tree at the port {port}, also in $PORT")
    .option("--base-command <cmd>", "the same of base alone, here")
    .option("--head-command <cmd>", "the same of head alone, here")
    .option("--target <host:port>", "where the service answers", "127.0.0.1:{port}")
    .option("--setup <cmd>", "run once in each commit's tree before anything else, as a build")
    .option("--workload <name>", "as of lcore bench; tcp-rr of a service", workload)
    .addOption(new Option("--wire <wire>", "of lcore itself").choices(["memory", "veth"]).default("memory"))
    .addOption(
      new Option("--generator <kind>", "as of lcore bench; inline in memory, which agrees best with itself").choices([
        "lcore",
        "inline",
        "kernel",
      ]),
    )
    .option("--rate <n>", 'requests a second by schedule, or "max"', rate, 0)
    .option("--window <n>", "requests unanswered at most; 1 in a closed loop", wholeNumber(1, 65_536))
    .option("--size <bytes>", "bytes of a request", wholeNumber(8, 65_536))
    .option("--flows <n>", "UDP: source ports", wholeNumber(1, 16_384))
    .option("--connections <n>", "TCP: connections at once", wholeNumber(1, 16_384))
    .option("--trial-seconds <n>", "time of a trial", seconds(600), 0.03)
    .option("--trials <n>", "trials of each side between two new starts", wholeNumber(1, 1000), 4)
    .option("--warmup <n>", "seconds of warm-up after each start, at most", seconds(600), 0.4)
    .option(
      "--metrics <list>",
      `of ${METRIC_NAMES.join(", ")}; a * after one watches it: it may fail the run, but need not be settled`,
      metrics,
    )
    .option("--min-effect <list>", "percent that matter, as p50=3,p99=8", minimumEffects, {})
    .option("--head-spin <ns[:fraction]>", "make head work longer, to see what is found", spin)
    .option("--seed <n>", "of the order of trials", wholeNumber(0, 2 ** 31 - 1))
    .option("--json <file>", "write everything there, - for standard output")
    .option("--html <file>", "write a report with charts there")
    .option("--junit <file>", "write JUnit XML there")
    .option("--markdown <file>", "write a summary there, - for standard output")
    .action(async (options: RegressOptions) => {
      const { runRegress } = await import("./regress-run.ts");
      process.exitCode = await runRegress(options);
    });
}

/** "p50,p99,p99.9*". */
function metrics(text: string): ChosenMetric[] {
  return words(text).map((word) => {
    const watched = word.endsWith("*");
    const name = METRIC_NAMES.find((known) => known === (watched ? word.slice(0, -1) : word));
    if (name === undefined) throw new InvalidArgumentError(`${word}: of ${METRIC_NAMES.join(", ")}.`);
    return { name, watched };
  });
}

/** "p50=3,p99=8" as parts of 1. */
function minimumEffects(text: string): Partial<Record<MetricName, number>> {
  const result: Partial<Record<MetricName, number>> = {};
  for (const word of words(text)) {
    const match = /^([\w.]+)=(\d*\.?\d+)$/.exec(word);
    const name = METRIC_NAMES.find((known) => known === match?.[1]);
    const percent = Number(match?.[2]);
    if (name === undefined || !(percent > 0 && percent < 1000))
      throw new InvalidArgumentError(`${word}: a metric and percent above 0, as p50=3.`);
    result[name] = percent / 100;
  }
  return result;
}
