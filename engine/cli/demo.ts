/** `lcore demo`: what the engine does, on any machine, in a few seconds. */
import { type Command, Option } from "commander";
import type { ProviderOption } from "../provider.ts";
import { providerOption, seconds } from "./arguments.ts";

export interface DemoOptions {
  /** Time of each measurement. */
  seconds: number;
  memory?: boolean;
  provider: ProviderOption;
  json?: boolean;
}

export function demoCommand(program: Command): void {
  program
    .command("demo")
    .description("serve and measure UDP echo on a wire of its own: AF_XDP over veth as root, else in memory")
    .addOption(new Option("--memory", "use the in-memory wire, whatever the privileges").conflicts("provider"))
    .addOption(providerOption())
    .option("--json", "print the figures as JSON")
    .addOption(new Option("--seconds <s>", "time of each measurement").argParser(seconds(2)).default(2).hideHelp())
    .action(async (options: DemoOptions) => {
      const { runDemo } = await import("./demo/run.ts");
      await runDemo(options);
    });
}
