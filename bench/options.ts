/** The command line of `npm run bench`. */
import { Command, InvalidArgumentError, Option } from "commander";
import type { XdpMode } from "./peers.ts";

export const SELECTIONS = [
  "parts",
  "ring",
  "echo",
  "rtt",
  "gc",
  "start",
  "dropin",
  "dns",
  "provider",
  "capture",
  "tcp",
  "memory",
] as const;
export type Selection = (typeof SELECTIONS)[number];

export interface BenchOptions {
  selections: readonly Selection[];
  /** Seconds each peer is measured a round. */
  seconds: number;
  rounds: number;
  /** Seconds of the garbage-collection run. */
  gcSeconds: number;
  modes: readonly XdpMode[];
  /** Names of peers, or null for all. */
  peers: readonly string[] | null;
  /** TCP: only rows whose description contains this. */
  only: string;
  /** Path of C xdpsock, "" for none. */
  xdpsock: string;
  /** Frames in flight, bytes a frame, flows. */
  window: number;
  size: number;
  flows: number;
  /** Where results go as JSON, "" for nowhere. */
  json: string;
}

/** Parses arguments without the program's name. Throws CommanderError for bad ones and for --help. */
export function parseBench(argv: readonly string[]): BenchOptions {
  const command = new Command("bench")
    .description("Measures the packet path by parts, the ring, and UDP echo side by side with its peers.")
    .argument("[selection...]", `${SELECTIONS.join(", ")} or all`, ["all"])
    .option("--seconds <n>", "how long each peer is measured a round", number(0.05, 3600), 2)
    .option("--rounds <n>", "interleaved rounds", whole(1, 1000), 5)
    .option("--gc-seconds <n>", "how long collections are counted", number(0.05, 86_400), 60)
    .addOption(new Option("--mode <mode>", "XDP mode").choices(["skb", "native", "both"]).default("both"))
    .option(
      "--peers <names>",
      "comma-separated: lcore, l2fwd, xdpsock, bun, node, c-batch, c-block, c-spin; dropin-bun, dropin-dgram, dgram-bun, dgram-node; capture-none, capture-rx, capture-all",
    )
    .option("--only <text>", "of the rows of tcp, those whose description contains this", "")
    .option("--xdpsock <path>", "C xdpsock of xdp-project/bpf-examples, to compare with", "")
    .option("--window <n>", "frames in flight", whole(1, 2048), 512)
    .option("--size <bytes>", "bytes a frame without FCS", whole(60, 1514), 60)
    .option("--flows <n>", "flows, one source port each", whole(1, 2048), 64)
    .option("--json <file>", "write all results there as JSON", "")
    .exitOverride();
  command.parse(argv, { from: "user" });
  const chosen = command.processedArgs[0] as string[];
  const unknown = chosen.find((name) => name !== "all" && !SELECTIONS.some((known) => known === name));
  if (unknown !== undefined) command.error(`error: ${unknown}: one of ${SELECTIONS.join(", ")} or all`);
  const values = command.opts<Record<string, string> & { seconds: number; rounds: number; gcSeconds: number }>();
  return {
    selections: chosen.includes("all") ? SELECTIONS : SELECTIONS.filter((name) => chosen.includes(name)),
    seconds: values.seconds,
    rounds: values.rounds,
    gcSeconds: values.gcSeconds,
    modes: values.mode === "both" ? ["skb", "native"] : [values.mode as XdpMode],
    peers: values.peers?.split(",") ?? null,
    only: values.only,
    xdpsock: values.xdpsock,
    window: Number(values.window),
    size: Number(values.size),
    flows: Number(values.flows),
    json: values.json,
  };
}

const number =
  (low: number, high: number) =>
  (text: string): number => {
    const value = Number(text);
    if (text === "" || !(value >= low && value <= high)) throw new InvalidArgumentError(`from ${low} to ${high}`);
    return value;
  };

const whole =
  (low: number, high: number) =>
  (text: string): number => {
    const value = number(low, high)(text);
    if (!Number.isInteger(value)) throw new InvalidArgumentError(`a whole number from ${low} to ${high}`);
    return value;
  };
