/** `lcore doctor`: what of this host helps or hinders an engine, tried rather than guessed. */
import { type Command, Option } from "commander";
import type { AttachMode, PollPolicy } from "../config.ts";
import { numberList } from "./arguments.ts";

/** What engine is meant, as the options of `lcore echo` have it. */
export interface PlanOptions {
  netns?: string;
  cpus?: number[];
  poll: PollPolicy;
  mode: AttachMode;
  /** False with --no-try. */
  try: boolean;
}

export interface DoctorOptions extends PlanOptions {
  interface?: string;
  json?: boolean;
}

export function doctorCommand(program: Command): void {
  const command = program
    .command("doctor")
    .description("look at kernel, privileges, an interface and CPUs: what is wrong, what it costs, what mends it")
    .option("--interface <if>", "interface to look at; default the host, and which interfaces there are");
  planOptions(command)
    .option("--json", "print the findings as JSON")
    .addHelpText("after", "\nExit status: 0 all fine, 1 warnings, 2 the engine cannot run.")
    .action(async (options: DoctorOptions) => {
      const { runDoctor } = await import("./doctor-run.ts");
      process.exitCode = runDoctor(options);
    });
}

/** Options that say which engine is meant. */
export function planOptions(command: Command): Command {
  return command
    .option("--netns <name>", "network namespace of the interface, a name of `ip netns` or a path")
    .option("--cpus <list>", "CPUs that are to carry lcores; default the last this process may use", numberList)
    .addOption(
      new Option("--poll <policy>", "what an idle lcore is to do")
        .choices(["busy", "adaptive", "interrupt"])
        .default("adaptive"),
    )
    .addOption(
      new Option("--mode <mode>", "how frames are to be taken")
        .choices(["auto", "native", "skb", "zerocopy"])
        .default("auto"),
    )
    .option("--no-try", "attach nothing to the interface, not even for a moment");
}
