/** `lcore tune`: applies what mends the findings of `lcore doctor`, and takes it back. */
import type { Command } from "commander";
import { type PlanOptions, planOptions } from "./doctor.ts";

export interface TuneOptions extends PlanOptions {
  interface: string;
  dryRun?: boolean;
  yes?: boolean;
  undo?: boolean;
  force?: boolean;
  /** Findings to mend, by id. */
  only?: string[];
}

export function tuneCommand(program: Command): void {
  const command = program
    .command("tune")
    .description("apply the commands of `lcore doctor` that can be applied, after showing them; --undo puts all back")
    .requiredOption("--interface <if>", "interface to tune for")
    .option("--only <findings>", "mend these findings alone, as queues,rings", (text) => text.split(","))
    .option("--dry-run", "show what would be done, and do nothing")
    .option("--yes", "do not ask")
    .option("--undo", "put back what earlier runs have changed, the last change first")
    .option("--force", "with --undo: put back also what somebody else has changed since");
  planOptions(command)
    .addHelpText("after", "\nExit status: 0 done, 1 something was left undone, 2 bad arguments.")
    .action(async (options: TuneOptions) => {
      const { runTune } = await import("./tune-run.ts");
      process.exitCode = await runTune(options);
    });
}
