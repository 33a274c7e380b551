/** Plays scenarios on the kernel's sockets and on another side, and compares. */
import type { LoadedProgram, ProgramSource } from "../../sockets/bpf/objects.ts";
import type { SocketCalls } from "../../sockets/calls/socket-calls.ts";
import { type Difference, differences } from "./compare.ts";
import type { Explanation } from "./explained.ts";
import type { Places } from "./generate.ts";
import { Trace } from "./trace.ts";
import { TracedCalls } from "./traced-calls.ts";

/** Sockets to play on: those of the host under test, and of its peer. */
export interface Side {
  readonly name: string;
  readonly calls: SocketCalls;
  readonly peer: SocketCalls | null;
  readonly places: Places;
  /** Loads an extended BPF program for sockets of the host under test. */
  load(source: ProgramSource): LoadedProgram;
  /** Takes away the name of a socket of AF_UNIX. Returns 0 or a number that tells the errno. */
  unlink(path: string): number;
  /** Waits until what scenarios have sent has arrived: the next one's sockets have the same ports. */
  settle?(): void;
}

/** What a scenario is given: the calls of both hosts, traced. */
export interface Stage {
  readonly calls: SocketCalls;
  readonly peer: SocketCalls;
  readonly places: Places;
  readonly trace: Trace;
  /** The same calls without a trace: for waiting, which differs in how often it looks. */
  readonly untraced: { readonly calls: SocketCalls; readonly peer: SocketCalls };
  unlink(path: string): number;
  /** Loads an extended program, of struct bpf_insn: options take its handle. */
  load(type: ProgramSource["type"], instructions: Uint8Array): LoadedProgram;
}

export interface Playable {
  readonly name: string;
  /** Whether it needs two hosts. */
  readonly inet: boolean;
  play(stage: Stage): void;
}

/** How often something was looked at. */
export interface Tally {
  scenarios: number;
  lines: number;
  explained: number;
  unexplained: number;
  /** Reasons of those that are explained, each with the sides it holds on; and the scenarios. */
  readonly reasons: Map<string, Set<string>>;
  readonly names: Set<string>;
}

export class Results {
  scenarios = 0;
  lines = 0;
  readonly differences: Difference[] = [];
  readonly byItem = new Map<string, Tally>();

  get unexplained(): number {
    return this.differences.filter(({ because }) => because === null).length;
  }

  add(name: string, trace: Trace, found: readonly Difference[]): void {
    this.scenarios++;
    this.lines += trace.lines.length;
    this.differences.push(...found);
    for (const item of trace.items) {
      let tally = this.byItem.get(item);
      if (tally === undefined) {
        tally = { scenarios: 0, lines: 0, explained: 0, unexplained: 0, reasons: new Map(), names: new Set() };
        this.byItem.set(item, tally);
      }
      tally.scenarios++;
      tally.names.add(name);
      for (const line of trace.lines) if (mentions(line, item)) tally.lines++;
      for (const { side, kernel, ours, because } of found) {
        if (!mentions(kernel, item) && !mentions(ours, item)) continue;
        // What an option or a request answers is that one's.
        if (because !== null && OF_MANY.has(item)) continue;
        if (because === null) {
          tally.unexplained++;
        } else {
          tally.explained++;
          if (because.ofScenario) continue;
          const sides = tally.reasons.get(because.reason) ?? new Set();
          tally.reasons.set(because.reason, sides.add(side));
        }
      }
    }
  }
}

/** Calls that are many in one. */
const OF_MANY = new Set(["getsockopt", "setsockopt", "ioctl", "fcntl"]);

const mentions = (line: string, item: string): boolean =>
  line.includes(` ${item}(`) || line.includes(` ${item},`) || line.includes(`, ${item})`);

/** What a scenario gives on a side. */
export function traceOf(scenario: Playable, side: Side): Trace {
  const trace = new Trace();
  const peer = side.peer ?? side.calls;
  scenario.play({
    calls: new TracedCalls(side.calls, trace, "a"),
    peer: new TracedCalls(peer, trace, "b"),
    places: side.places,
    trace,
    untraced: { calls: side.calls, peer },
    unlink: (path) => side.unlink(path),
    load(type, instructions) {
      const program = side.load({ type, instructions });
      trace.programs.add(program.handle);
      return program;
    },
  });
  return trace;
}

/** Plays one scenario on both. */
export function playOn(
  scenario: Playable,
  kernel: Side,
  side: Side,
  explanations: readonly Explanation[],
  results: Results,
): void {
  const expected = traceOf(scenario, kernel);
  const got = traceOf(scenario, side);
  if (scenario.inet) side.settle?.();
  results.add(scenario.name, expected, differences(side.name, scenario.name, expected.lines, got.lines, explanations));
}
