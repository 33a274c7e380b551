/** Running `lcore demo`. */
import { SysError } from "af-xdp-bindings";
import { AF_XDP_NEEDS, lacking } from "../../privileges.ts";
import type { DemoOptions } from "../demo.ts";
import { CliError, EXIT_INTERRUPTED } from "../failure.ts";
import { colour } from "../output.ts";
import { Progress } from "../progress.ts";
import { StopRequest } from "../signals.ts";
import { type DemoResult, report, toJson } from "./figures.ts";
import { memoryDemo } from "./memory.ts";
import { vethDemo } from "./veth.ts";

/** Measurements of the longer of the two, and what lies between them. */
const STEPS = 4;
const BETWEEN_MS = 700;

/** What both demos are given. */
export interface DemoContext {
  /** Time of each measurement, seconds. */
  readonly seconds: number;
  /** Aborted when the user wants to stop. */
  readonly abort: AbortSignal;
  step(text: string): void;
}

export async function runDemo(options: DemoOptions): Promise<void> {
  const stop = new StopRequest();
  const progress = new Progress(STEPS * (options.seconds * 1000 + BETWEEN_MS));
  const context: DemoContext = {
    seconds: options.seconds,
    abort: stop.abort,
    step: (text) => progress.step(text),
  };
  let result: DemoResult;
  try {
    result = await choose(context, options);
  } catch (error) {
    if (!stop.abort.aborted) throw error;
    throw new CliError("demo interrupted; its hosts and programs are gone", EXIT_INTERRUPTED);
  } finally {
    progress.end();
  }
  process.stdout.write(options.json ? `${toJson(result)}\n` : `${report(result)}\n${whatNext()}`);
}

/** AF_XDP where it can be had, else the memory wire with the reason; a provider that is named, or nothing. */
async function choose(context: DemoContext, { memory, provider }: DemoOptions): Promise<DemoResult> {
  if (memory) return await memoryDemo(context, "as asked for");
  const missing = lacking([...AF_XDP_NEEDS, "CAP_SYS_ADMIN"]);
  if (provider !== "auto") {
    const needs = "for its hosts and its load over AF_XDP: run it as root, or without --provider";
    if (missing.length > 0) throw new CliError(`the demo of a provider needs ${missing.join(", ")} ${needs}`);
    return await vethDemo(context, provider);
  }
  if (missing.length > 0) return await memoryDemo(context, `no ${missing.join(", ")}: run it as root for AF_XDP`);
  try {
    return await vethDemo(context, "engine");
  } catch (error) {
    if (context.abort.aborted || !(error instanceof SysError)) throw error;
    return await memoryDemo(context, `this machine refuses AF_XDP on veth: ${error.message}`);
  }
}

function whatNext(): string {
  return [
    "The demo has left nothing behind. Serve an interface of yours, and look at it from another terminal:",
    colour.bold("  sudo npm run -s lcore -- echo --interface eth0 --udp 7777"),
    colour.bold("  sudo npm run -s lcore -- stats"),
    "README.md goes on from here.",
    "",
  ].join("\n");
}
