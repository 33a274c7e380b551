/** `lcore stats`: the counters of a running engine, read from outside. */
import type { Command } from "commander";
import { port, seconds, wholeNumber, words } from "./arguments.ts";

export interface StatsOptions {
  pid?: number;
  socket?: string;
  interval?: number;
  count?: number;
  json?: boolean;
  prometheus?: boolean;
  tcp?: boolean;
  state?: string[];
  sport?: number;
  dport?: number;
  limit?: number;
}

export function statsCommand(program: Command): void {
  program
    .command("stats")
    .description("show the counters of a running engine, without stopping it")
    .option("--pid <pid>", "process of the engine; needed where several run", wholeNumber(1, 2 ** 22))
    .option("--socket <path>", "its socket, where that is at a path of its own")
    .option(
      "--interval <seconds>",
      "show rates over this time, again and again; default once, over a second",
      seconds(3600),
    )
    .option("--count <n>", "how often", wholeNumber(1, 1e9))
    .option("--json", "print snapshots as JSON, one a line")
    .option("--prometheus", "print totals once in the Prometheus text format")
    .option("--tcp", "list TCP connections as ss -ti does; with --json a line of JSON each")
    .option(
      "--state <names>",
      "with --tcp: states as ss names them, with commas between them; all, listening, …",
      words,
    )
    .option("--sport <port>", "with --tcp: of this local port", port)
    .option("--dport <port>", "with --tcp: to this port of the peer", port)
    .option("--limit <n>", "with --tcp: so many at most", wholeNumber(1, 1e9))
    .action(async (options: StatsOptions) => {
      const { runStats } = await import("./stats-run.ts");
      await runStats(options);
    });
}
