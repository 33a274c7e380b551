/**
 * npm run conformance: plays every scenario on kernel sockets and on ours, and says where they differ. Exit code 0 when each difference
 * has a reason, 1 when one has none, 2 for what is asked for wrongly.
 */
import { Command, InvalidArgumentError } from "commander";
import pc from "picocolors";
import { table } from "../../engine/cli/output.ts";
import { writeTable } from "./document.ts";
import { EXPLAINED, WITH_KERNEL_ALONE, WITHOUT_KERNEL } from "./explained.ts";
import { type Playable, playOn, Results } from "./run.ts";
import { MADE, STREAMS, STREAMS_MADE, WRITTEN } from "./scenarios.ts";
import { kernelHere, kernelSide, SIDES, type SideName } from "./sides.ts";

/** Of the scenarios made by the dozen, one in so many is played unless --long is given, a different one of each dozen. */
const SAMPLE = 4;
/** Differences printed in full. */
const SHOWN = 40;

interface Flags {
  readonly long: boolean;
  readonly write: boolean;
  readonly only?: RegExp;
  readonly side: readonly SideName[];
  readonly sparse: number;
}

const regex = (text: string): RegExp => {
  try {
    return new RegExp(text);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
};

/** One in so many, a different one of each dozen or so. */
const oneIn = (count: number, scenarios: readonly Playable[]): Playable[] =>
  scenarios.filter((_, i) => i % count === Math.floor(i / count) % count);

function whole(text: string): number {
  const number = Number(text);
  if (!Number.isInteger(number) || number < 1) throw new InvalidArgumentError("a whole number from 1");
  return number;
}

function sideName(text: string, before: readonly SideName[]): SideName[] {
  if (!(text in SIDES)) throw new InvalidArgumentError(`one of ${Object.keys(SIDES).join(", ")}`);
  return [...before, text as SideName];
}

async function main(): Promise<number> {
  const command = new Command("conformance")
    .description("plays every scenario on kernel sockets and on ours, and says where they differ")
    .option("--long", "all generated scenarios, not one in four", false)
    .option("--write", "write the table of docs/socket7.md: with --long alone", false)
    .option("--only <regex>", "scenarios whose names match", regex)
    .option("--sparse <n>", "of the scenarios of TCP one in so many", whole, 1)
    .option("--side <name>", `play on this one alone: ${Object.keys(SIDES).join(", ")}; may be repeated`, sideName, [])
    .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2))
    .parse();
  const { long, only, side, sparse, write } = command.opts<Flags>();
  const complete = long && only === undefined && side.length === 0 && sparse === 1;
  if (write && !complete) {
    console.error(
      "conformance: --write needs --long, and no --only, --side or --sparse: the table is of every scenario",
    );
    return 2;
  }
  const share = long ? 1 : SAMPLE;
  const streams = [...oneIn(sparse, STREAMS), ...oneIn(sparse * share, STREAMS_MADE)];
  const wanted = [...WRITTEN, ...streams, ...oneIn(share, MADE)].filter(
    ({ name }) => only === undefined || only.test(name),
  );
  if (wanted.length === 0) {
    console.error(`conformance: no scenario matches ${only}: try --only .`);
    return 2;
  }
  const results = new Results();
  const names = side.length > 0 ? side : (Object.keys(SIDES) as SideName[]);
  for (const name of names) await playSide(name, wanted, results);
  if (write) writeTable(results);
  return report(results, complete);
}

async function playSide(name: SideName, scenarios: readonly Playable[], results: Results): Promise<void> {
  const started = performance.now();
  const before = results.scenarios;
  const side = await SIDES[name]();
  const kernel = side.peer === null ? kernelHere() : kernelSide();
  const explanations = name === "memory" ? WITHOUT_KERNEL : EXPLAINED;
  try {
    for (const scenario of scenarios) {
      // What needs no network is the process's own business, on an engine as anywhere.
      if (scenario.inet !== (side.peer !== null)) continue;
      if (name === "memory" && WITH_KERNEL_ALONE.test(scenario.name)) continue;
      playOn(scenario, kernel, side, explanations, results);
    }
  } finally {
    await side.close();
    await kernel.close();
  }
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(pc.dim(`${name}: ${results.scenarios - before} scenarios in ${seconds} s`));
}

function report(results: Results, complete: boolean): number {
  const heads = ["scenarios", "lines", "explained", "unexplained"].map((head) => ({ head, align: "right" as const }));
  const rows = [...results.byItem]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([item, { scenarios, lines, explained, unexplained }]) =>
      [item, scenarios, lines, explained || "", unexplained > 0 ? pc.red(unexplained) : ""].map(String),
    );
  console.log(table([{ head: "item", align: "left" }, ...heads], rows));
  const unexplained = results.differences.filter(({ because }) => because === null);
  for (const { side, scenario, kernel, ours } of unexplained.slice(0, SHOWN)) {
    console.log(`${pc.bold(scenario)} (${side})\n  kernel ${kernel || "nothing"}\n  ours   ${ours || "nothing"}`);
  }
  if (unexplained.length > SHOWN) console.log(`… and ${unexplained.length - SHOWN} more`);
  // A reason that nothing needs any more would hide what comes back.
  const idle = complete
    ? [...new Set([...EXPLAINED, ...WITHOUT_KERNEL])].filter(
        (each) => !results.differences.some(({ because }) => because === each),
      )
    : [];
  for (const { reason } of idle) console.log(`no difference needs this reason: ${reason}`);
  const explained = results.differences.length - unexplained.length;
  console.log(
    `${results.scenarios} scenarios, ${results.lines} lines compared, ${explained} differences explained, ${unexplained.length} unexplained`,
  );
  return unexplained.length + idle.length > 0 ? 1 : 0;
}

process.exit(await main());
