/** How soon an engine serves, and what it costs while nobody calls. */
import type { LcoreEchoStarted } from "./peers/lcore-echo.ts";
import { lcorePeer, type XdpMode } from "./peers.ts";
import { Rounds } from "./ratio.ts";
import { clientResult, startClient } from "./rtt.ts";
import { linesOf, processTimes, Testbed } from "./testbed.ts";

export interface StartOptions {
  mode: XdpMode;
  rounds: number;
  /** How long the engine is left idle, milliseconds. */
  idleMs: number;
}

export interface StartResult {
  /** From the call of Engine.start to the first echo at a kernel client that probes every millisecond, milliseconds. */
  readonly firstEchoMs: Rounds;
  /** What Engine.start itself took. */
  readonly startMs: Rounds;
  /** From the start of the process to the call: the runtime's start and the loading of modules. */
  readonly processMs: Rounds;
  /** CPU time of all threads of the idle process, percent of one CPU, with poll: "interrupt". */
  readonly idlePercent: Rounds;
}

export async function measureStart(options: StartOptions, progress: (text: string) => void): Promise<StartResult> {
  const result: StartResult = {
    firstEchoMs: new Rounds(),
    startMs: new Rounds(),
    processMs: new Rounds(),
    idlePercent: new Rounds(),
  };
  for (let round = 0; round < options.rounds; round++) {
    await startOnce(options, result);
    progress(`${round + 1}/${options.rounds} start: ${Math.round(result.firstEchoMs.values[round])} ms`);
  }
  return result;
}

async function startOnce({ mode, idleMs }: StartOptions, result: StartResult): Promise<void> {
  const testbed = new Testbed();
  try {
    const client = startClient(testbed, 0, 0);
    const spawnedAt = performance.timeOrigin + performance.now();
    const server = lcorePeer("interrupt").start(testbed, mode);
    let started: LcoreEchoStarted | null = null;
    for await (const line of linesOf(server.stdout)) {
      started = JSON.parse(line) as LcoreEchoStarted;
      break;
    }
    if (started === null) throw new Error((await new Response(server.stderr).text()).trim());
    const { firstEchoAt } = await clientResult(client);
    result.firstEchoMs.add(firstEchoAt - started.startedAt);
    result.startMs.add(started.startMs);
    result.processMs.add(started.startedAt - spawnedAt);
    // What the start left behind (compilers, collectors) has a moment to finish.
    await Bun.sleep(SETTLE_MS);
    const before = processTimes(server.pid).runNs;
    const from = performance.now();
    await Bun.sleep(idleMs);
    result.idlePercent.add(((processTimes(server.pid).runNs - before) / 1e6 / (performance.now() - from)) * 100);
    await testbed.stop(server);
  } finally {
    testbed.close();
  }
}

const SETTLE_MS = 500;
