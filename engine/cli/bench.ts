/** `lcore bench`: what a server does under load, measured so that the figures can be believed. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { OWN_TARGETS } from "../measure/spec.ts";
import { type Spin, WORKLOADS, type Workload } from "../measure/trial.ts";
import { wholeNumber, words } from "./arguments.ts";

export interface BenchCliOptions {
  target: string[];
  wire?: "memory" | "veth";
  generator?: "lcore" | "kernel" | "inline";
  interface?: string;
  mode: "auto" | "native" | "skb";
  /** 0: as fast as answers come. */
  rate?: number;
  size?: number;
  flows?: number;
  connections?: number;
  queues?: number;
  window?: number;
  timeout?: number;
  seconds?: number;
  warmup?: number;
  interval?: number;
  trials: number;
  search?: boolean;
  /** Percent. */
  loss: number;
  spin?: Spin;
  json?: string;
  hgrm?: string;
}

const TRIALS_MAX = 100_000;

export function benchCommand(program: Command): void {
  program
    .command("bench")
    .description("measure a server under load: its latency at a rate, or the highest rate that it bears")
    .argument("<workload>", WORKLOADS.join(", "), workload)
    .option("--target <list>", `whom: ${OWN_TARGETS.join(", ")}, or HOST:PORT; several in turn`, words, ["lcore"])
    .addOption(
      new Option("--wire <wire>", "in memory, or veth between network namespaces; default veth as root").choices([
        "memory",
        "veth",
      ]),
    )
    .addOption(
      new Option(
        "--generator <kind>",
        "load from lcore's generator on a CPU of its own, between the turns of the lcore measured, or from kernel sockets",
      ).choices(["lcore", "inline", "kernel"]),
    )
    .option("--interface <if>", "of a HOST:PORT: send from this interface's queues by AF_XDP, not from kernel sockets")
    .addOption(
      new Option("--mode <mode>", "XDP mode of --interface").choices(["auto", "native", "skb"]).default("auto"),
    )
    .option("--rate <n>", 'requests a second by schedule, as 50000 or 50k, or "max"', rate)
    .option("--search", "find the highest rate with no more than --loss lost (RFC 2544)")
    .option("--loss <percent>", "loss that --search allows", between(0, 100), 0.1)
    .option("--size <bytes>", "bytes of a request and its response", wholeNumber(8, 65_536))
    .option("--flows <n>", "UDP: source ports", wholeNumber(1, 16_384))
    .option("--connections <n>", "TCP: connections at once", wholeNumber(1, 16_384))
    .option("--queues <n>", "queues of each end of a wire that lcore makes", wholeNumber(1, 16))
    .option("--window <n>", "requests unanswered at most", wholeNumber(1, 65_536))
    .option("--timeout <ms>", "time after which a request is lost", between(1, 2000))
    .option("--seconds <s>", "time of each trial", between(0.05, 86_400))
    .option("--warmup <s>", "the longest warm-up; it ends when the figures are steady", between(0, 600))
    .option("--interval <ms>", "stretches of the time series", between(10, 60_000))
    .option("--trials <n>", "how many trials; targets take turns", wholeNumber(1, TRIALS_MAX), 1)
    .option("--json <file>", "write the run there, - for standard output")
    .option("--hgrm <file>", "write the latencies of the last trial there, as HdrHistogram plots them")
    .addOption(
      new Option("--spin <ns[:fraction]>", "make the target work longer, in a share of requests").argParser(spin),
    )
    .action(async (name: Workload, options: BenchCliOptions) => {
      const { runBench } = await import("./bench-run.ts");
      await runBench(name, options);
    });
}

/** One of WORKLOADS. */
export function workload(text: string): Workload {
  const found = WORKLOADS.find((name) => name === text);
  if (found === undefined) throw new InvalidArgumentError(`One of ${WORKLOADS.join(", ")}.`);
  return found;
}

const SCALE: Record<string, number> = { "": 1, k: 1e3, M: 1e6 };

/** "50000", "50k", "1.5M", or "max" for 0. */
export function rate(text: string): number {
  if (text === "max") return 0;
  const match = /^(\d*\.?\d+)([kM]?)$/.exec(text);
  const value = match === null ? 0 : Number(match[1]) * SCALE[match[2]];
  if (value > 0 && value <= 1e8) return value;
  throw new InvalidArgumentError('Requests a second above 0, up to 100M, as 50000 or 50k, or "max".');
}

/** "500" or "500:0.02". */
export function spin(text: string): Spin {
  const match = /^(\d+)(?::(\d*\.?\d+))?$/.exec(text);
  const [ns, fraction] = match === null ? [0, 0] : [Number(match[1]), Number(match[2] ?? 1)];
  if (ns > 0 && ns <= 1e9 && fraction > 0 && fraction <= 1) return { ns, fraction };
  throw new InvalidArgumentError("Nanoseconds, and a share of the requests above 0 up to 1, as 500 or 500:0.02.");
}

function between(low: number, high: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d*\.?\d+$/.test(text) && value >= low && value <= high) return value;
    throw new InvalidArgumentError(`From ${low} to ${high}.`);
  };
}
