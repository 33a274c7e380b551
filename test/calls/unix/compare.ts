/** Plays scenarios of AF_UNIX on both sides. */
import { mkdtempSync, rmSync, unlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AF_UNIX } from "../../../sockets/calls/constants.ts";
import { raisePipe } from "../../../sockets/calls/events/signals.ts";
import { KernelCalls } from "../../../sockets/calls/kernel-calls.ts";
import { SocketProcess } from "../../../sockets/calls/process.ts";
import { plainSleeper } from "../../../sockets/calls/sleep.ts";
import type { SocketCalls } from "../../../sockets/calls/socket-calls.ts";
import { UnixFamily } from "../../../sockets/calls/unix/family.ts";
import type { Place, UnixScenario } from "./tools.ts";

export type Notes = [string, unknown][];

/** A place for the names of paths, and the two sides. */
export class Comparison {
  private readonly directory = mkdtempSync(join(tmpdir(), "lcore-unix-"));

  /** Played on a process's own sockets, and on the kernel's. `left`: descriptors that the scenario has not closed. */
  play(scenario: UnixScenario): { ours: Notes; kernels: Notes; left: number } {
    const family = new UnixFamily();
    const process = new SocketProcess(new Map([[AF_UNIX, family]]), plainSleeper, raisePipe);
    const ours = this.notes(scenario, process, (path) => family.unlink(path));
    const kernels = this.notes(scenario, new KernelCalls(), unlinkInode);
    return { ours, kernels, left: openIn(process) };
  }

  close(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }

  private notes({ play }: UnixScenario, calls: SocketCalls, unlink: Place["unlink"]): Notes {
    const notes: Notes = [];
    play(calls, (what, value) => notes.push([what, value]), { directory: this.directory, unlink });
    return notes;
  }
}

/** How many of the first descriptors are open. */
export const openIn = ({ descriptors }: SocketProcess): number =>
  Array.from({ length: 64 }, (_, fd) => descriptors.get(fd)).filter((file) => file !== null).length;

function unlinkInode(path: string): number {
  try {
    unlinkSync(path);
    return 0;
  } catch (error) {
    return (error as { errno: number }).errno;
  }
}
