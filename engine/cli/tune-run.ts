/** Running `lcore tune`. */
import { createInterface } from "node:readline/promises";
import { inShell, interrupts, shellLine } from "../doctor/change.ts";
import { diagnose, type TopicFinding } from "../doctor/diagnose.ts";
import type { Where } from "../doctor/facts.ts";
import { count } from "../doctor/finding.ts";
import { openNetns } from "../doctor/gather.ts";
import { Hands } from "../doctor/hands.ts";
import { apply, type Planned, planOf, type Result, type Step, undo } from "../doctor/tune.ts";
import { StateFile } from "../doctor/tune-state.ts";
import type { NetNs } from "../host/netns.ts";
import { Rtnl } from "../host/rtnetlink.ts";
import { examine } from "./doctor-run.ts";
import { CliError, EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_USAGE } from "./failure.ts";
import { colour } from "./output.ts";
import type { TuneOptions } from "./tune.ts";

const MARKS: Record<Result, string> = {
  done: colour.green("done"),
  already: colour.dim("as it was"),
  failed: colour.red("failed"),
  foreign: colour.yellow("left"),
};

/** The exit status. */
export async function runTune(options: TuneOptions): Promise<number> {
  if (options.only && options.undo) throw new CliError("tune: --undo puts back everything: without --only", EXIT_USAGE);
  if (options.force && !options.undo) throw new CliError("tune: --force goes with --undo", EXIT_USAGE);
  const ns = openNetns(options.netns ?? null);
  try {
    return await (options.undo ? putBack(options, ns) : tune(options, ns));
  } finally {
    ns.close();
  }
}

async function tune(options: TuneOptions, ns: NetNs): Promise<number> {
  const facts = examine(options, options.interface);
  const planned = planOf(chosen(diagnose(facts), options.only));
  if (planned.length === 0) {
    say(`Nothing to do on ${options.interface}: no finding that tune can mend. \`lcore doctor\` tells of the others.`);
    return 0;
  }
  for (const line of describe(planned, facts.where)) say(line);
  if (options.dryRun) return 0;
  await consent(options, `Run ${count(planned.length, "command")}?`);
  const file = new StateFile(ns, options.interface, facts.interface?.ifindex ?? 0);
  const results = withHands(ns, (hands, tell) => apply(planned, hands, file, tell), facts.where);
  const failed = results.filter((result) => result === "failed").length;
  if (results.includes("done")) say(`What was there before is in ${file.path}; --undo puts it back.`);
  if (failed > 0) say(colour.red(`${count(failed, "command")} of ${planned.length} failed.`));
  return failed > 0 ? EXIT_FAILURE : 0;
}

/** Throws CliError for an id that no finding has. */
function chosen(findings: readonly TopicFinding[], only: readonly string[] | undefined): readonly TopicFinding[] {
  if (only === undefined) return findings;
  const unknown = only.find((id) => !findings.some((finding) => finding.id === id));
  if (unknown !== undefined) throw new CliError(`tune: --only ${unknown}: doctor has no such finding here`, EXIT_USAGE);
  return findings.filter(({ id }) => only.includes(id));
}

async function putBack(options: TuneOptions, ns: NetNs): Promise<number> {
  const file = new StateFile(
    ns,
    options.interface,
    ns.run(() => ifindexOf(options.interface)),
  );
  const entries = file.load();
  const where = { netns: options.netns ?? null, sysfs: options.netns === undefined };
  if (entries.length === 0) {
    file.save([]);
    say(`Nothing to put back on ${options.interface}: tune has changed nothing, or it has been put back.`);
    return 0;
  }
  for (const { target, before } of entries.toReversed()) say(inShell(shellLine({ target, value: before }), where));
  if (options.dryRun) return 0;
  await consent(options, `Put back ${count(entries.length, "setting")}?`);
  const results = withHands(ns, (hands, tell) => undo(hands, file, options.force === true, tell), where);
  const left = results.filter((result) => result === "failed" || result === "foreign").length;
  if (left === 0) return 0;
  const how = results.includes("foreign") ? "; --undo --force overwrites what somebody else has set" : "";
  say(colour.red(`${count(left, "setting")} not put back: still in ${file.path}${how}.`));
  return EXIT_FAILURE;
}

/** Number of the interface, 0 where it is gone: then only what is not its own can be put back. */
function ifindexOf(name: string): number {
  const rtnl = new Rtnl();
  try {
    return rtnl.findLink(name)?.ifindex ?? 0;
  } finally {
    rtnl.close();
  }
}

/** Lines of what is going to be done, each below the finding that it mends. */
function describe(planned: readonly Planned[], where: Where): string[] {
  return planned.flatMap(({ change, finding }, i) => [
    ...(planned[i - 1]?.finding === finding ? [] : [colour.dim(`# ${finding}`)]),
    `${inShell(shellLine(change), where)}${interrupts(change) ? colour.yellow("   # interrupts traffic") : ""}`,
  ]);
}

function withHands(ns: NetNs, act: (hands: Hands, tell: (step: Step) => void) => void, where: Where): Result[] {
  const results: Result[] = [];
  const hands = new Hands(ns);
  try {
    act(hands, (step) => {
      results.push(step.result);
      say(line(step, where));
    });
  } finally {
    hands.close();
  }
  return results;
}

function line({ target, value, result, detail }: Step, where: Where): string {
  const command = inShell(shellLine({ target, value }), where);
  const was = result === "done" ? colour.dim(`   # was ${detail}`) : detail === "" ? "" : `: ${detail}`;
  return `${MARKS[result].padEnd(4)}  ${command}${was}`;
}

/** Throws CliError where the answer is no, or nobody can be asked. */
async function consent({ yes }: TuneOptions, question: string): Promise<void> {
  if (yes) return;
  if (process.stdin.isTTY !== true) {
    throw new CliError("tune: there is no terminal to ask on: add --yes, or --dry-run to look only", EXIT_USAGE);
  }
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  const interrupted = new Promise<string>((resolve) => terminal.once("SIGINT", () => resolve("")));
  try {
    const answer = await Promise.race([terminal.question(`${question} [y/N] `), interrupted]);
    if (!/^y(es)?$/i.test(answer.trim())) throw new CliError("nothing was changed", EXIT_INTERRUPTED);
  } finally {
    terminal.close();
  }
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
