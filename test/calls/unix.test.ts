/** Scenarios of AF_UNIX on the kernel's sockets and on those of a process: everything that is recorded is equal. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, unlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AF_UNIX } from "../../sockets/calls/constants.ts";
import { raisePipe } from "../../sockets/calls/events/signals.ts";
import { KernelCalls } from "../../sockets/calls/kernel-calls.ts";
import { SocketProcess } from "../../sockets/calls/process.ts";
import { plainSleeper } from "../../sockets/calls/sleep.ts";
import type { SocketCalls } from "../../sockets/calls/socket-calls.ts";
import { UnixFamily } from "../../sockets/calls/unix/family.ts";
import { UNIX_SCENARIOS } from "./unix/scenarios.ts";
import type { Place, UnixScenario } from "./unix/tools.ts";

const directory = mkdtempSync(join(tmpdir(), "lcore-unix-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function played({ play }: UnixScenario, calls: SocketCalls, unlink: Place["unlink"]): [string, unknown][] {
  const notes: [string, unknown][] = [];
  play(calls, (what, value) => notes.push([what, value]), { directory, unlink });
  return notes;
}

function unlinkInode(path: string): number {
  try {
    unlinkSync(path);
    return 0;
  } catch (error) {
    return (error as { errno: number }).errno;
  }
}

describe("AF_UNIX as the kernel's", () => {
  test("so many", () => {
    expect(UNIX_SCENARIOS.length).toBeGreaterThan(250);
    expect(new Set(UNIX_SCENARIOS.map(({ name }) => name)).size).toBe(UNIX_SCENARIOS.length);
  });

  test.each(UNIX_SCENARIOS.map((scenario) => [scenario.name, scenario] as const))("%s", (_, scenario) => {
    const family = new UnixFamily();
    const process = new SocketProcess(new Map([[AF_UNIX, family]]), plainSleeper, raisePipe);
    const ours = played(scenario, process, (path) => family.unlink(path));
    const kernels = played(scenario, new KernelCalls(), unlinkInode);
    expect(ours).toEqual(kernels);
    // Nothing stays open on either side.
    expect(Array.from({ length: 64 }, (_, fd) => process.descriptors.get(fd)).filter((file) => file !== null)).toEqual(
      [],
    );
  });
});
