#!/usr/bin/env bun
/**
 * The command line `lcore`. Each command is a file beside this one that declares its options; what does the work is
 * loaded when it runs, so that --help works anywhere.
 */
import { Command, CommanderError } from "commander";
import manifest from "../../package.json" with { type: "json" };
import { benchCommand } from "./bench.ts";
import { captureCommand } from "./capture.ts";
import { demoCommand } from "./demo.ts";
import { doctorCommand } from "./doctor.ts";
import { echoCommand } from "./echo.ts";
import { EXIT_USAGE, exitCodeOf, oneLine } from "./failure.ts";
import { httpCommand } from "./http.ts";
import { EXIT_REGRESS_USAGE, regressCommand } from "./regress.ts";
import { statsCommand } from "./stats.ts";
import { tuneCommand } from "./tune.ts";

const COMMANDS = [
  demoCommand,
  benchCommand,
  regressCommand,
  echoCommand,
  httpCommand,
  statsCommand,
  captureCommand,
  doctorCommand,
  tuneCommand,
];

function createProgram(): Command {
  const program = new Command("lcore")
    .description(manifest.description)
    .version(manifest.version)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(`${oneLine(text).replace(/^error: /, "lcore: ")}\n`) })
    .showHelpAfterError(false);
  for (const add of COMMANDS) add(program);
  return program;
}

/** Runs a command line. Returns the exit status; whatever goes wrong is one line on stderr. */
async function main(argv: readonly string[]): Promise<number> {
  const program = createProgram();
  if (argv.length === 0) {
    program.outputHelp({ error: true });
    return EXIT_USAGE;
  }
  try {
    await program.parseAsync(argv, { from: "user" });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    // commander has printed its line, or the help that was asked for. A gate's 2 means that it cannot tell.
    if (error instanceof CommanderError)
      return error.exitCode === 0 ? 0 : argv[0] === "regress" ? EXIT_REGRESS_USAGE : EXIT_USAGE;
    process.stderr.write(`lcore: ${oneLine(error)}\n`);
    if (process.env.LCORE_STACK && error instanceof Error) process.stderr.write(`${error.stack}\n`);
    return exitCodeOf(error);
  }
}

process.exit(await main(process.argv.slice(2)));
