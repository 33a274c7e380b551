/**
 * A process that makes trials when it is told to: one launch of a side of a comparison. It runs from the tree of its side,
 * so that what it measures, and what it measures with, are of that version.
 *
 *     bun launch-process.ts '{"workload":"udp-echo", …}'      a TrialSpec
 *
 * Its standard output is a line of JSON for each step: a LaunchReady when everything is open, then a LaunchTrial for each
 * line on its standard input, whose end ends it; a LaunchFailed when something failed. The first trial warms up.
 */
import { Bench } from "../run.ts";
import type { TrialSpec } from "../spec.ts";
import { encodeTrial, type TrialJson } from "../trial.ts";
import { type Figures, figuresOf } from "./figures.ts";

/** Raised when a comparison of another version could not understand the lines below. */
export const LAUNCH_PROTOCOL = 1;

export interface LaunchReady {
  readonly ready: typeof LAUNCH_PROTOCOL;
}
export interface LaunchTrial {
  readonly trial: TrialJson;
  readonly figures: Figures;
}
export interface LaunchFailed {
  readonly error: string;
}
export type LaunchLine = LaunchReady | LaunchTrial | LaunchFailed;

const tell = (line: LaunchLine): void => {
  process.stdout.write(`${JSON.stringify(line)}\n`);
};

async function main(spec: TrialSpec): Promise<void> {
  const bench = await Bench.open(spec);
  try {
    tell({ ready: LAUNCH_PROTOCOL });
    for await (const _ of console) {
      const trial = await bench.trial();
      tell({ trial: encodeTrial(trial), figures: figuresOf(trial) });
    }
  } finally {
    await bench.close();
  }
}

if (import.meta.main) {
  try {
    await main(JSON.parse(process.argv[2]) as TrialSpec);
  } catch (error) {
    tell({ error: error instanceof Error ? error.message : String(error) });
    process.exitCode = 1;
  }
  process.exit();
}
