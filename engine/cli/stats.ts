/** `lcore stats`: the counters of a running engine, read from outside. */
import type { Command } from "commander";
import { seconds, wholeNumber } from "./arguments.ts";

export interface StatsOptions {
  pid?: number;
  socket?: string;
  interval?: number;
  count?: number;
  json?: boolean;
  prometheus?: boolean;
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
    .action(async (options: StatsOptions) => {
      const { runStats } = await import("./stats-run.ts");
      await runStats(options);
    });
}
