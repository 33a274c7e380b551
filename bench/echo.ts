/**
 * UDP echo on veth, side by side: the same generator against each peer in turn, round after round, so that what the
 * machine does meanwhile falls on all of them alike.
 */

import { cpuTime } from "../engine/measure/environment.ts";
import type { EchoLoadOptions, EchoLoadResult } from "./load.ts";
import type { Peer, XdpMode } from "./peers.ts";
import { Rounds } from "./ratio.ts";
import { type Child, drain, GENERATOR_CPU, linesOf, PEER_CPU, PORT, processTimes, Testbed } from "./testbed.ts";

export interface EchoOptions {
  modes: readonly XdpMode[];
  rounds: number;
  measureMs: number;
  warmupMs: number;
  window: number;
  size: number;
  flows: number;
}

/** One peer in one round. */
export interface EchoRun {
  readonly perSecond: number;
  /** Nanoseconds the peer's CPU was busy a returned frame: its own code, the kernel's, and that of the softirqs there. */
  readonly cpuNs: number;
  readonly lost: number;
  /** Part of the time the generator had nothing to do, 0 to 1. */
  readonly generatorIdle: number;
  /** Part of the time that generator and peer waited for their CPUs, both added up: what else ran here disturbed them. */
  readonly waited: number;
}

/** A row of the table: a peer in a mode. Kernel sockets have the mode "". */
export interface EchoRow {
  readonly peer: string;
  readonly title: string;
  readonly mode: XdpMode | "";
  readonly perSecond: Rounds;
  readonly cpuNs: Rounds;
  readonly generatorIdle: Rounds;
  readonly waited: Rounds;
  lost: number;
}

/** Runs every peer in every round; `progress` hears of each run. Throws when a peer does not echo, or echoes rubbish. */
export async function measureEcho(
  peers: readonly Peer[],
  options: EchoOptions,
  progress: (text: string) => void,
): Promise<EchoRow[]> {
  const rows = peers.flatMap((peer) =>
    (peer.usesXdp ? options.modes : ([""] as const)).map((mode) => ({ peer, row: newRow(peer, mode) })),
  );
  for (let round = 0; round < options.rounds; round++) {
    for (const { peer, row } of rows) {
      const run = await echoOnce(peer, row.mode === "" ? "skb" : row.mode, options);
      row.perSecond.add(run.perSecond);
      row.cpuNs.add(run.cpuNs);
      row.generatorIdle.add(run.generatorIdle);
      row.waited.add(run.waited);
      row.lost += run.lost;
      progress(`${round + 1}/${options.rounds} ${peer.title} ${row.mode}: ${Math.round(run.perSecond)} echoes/s`);
    }
  }
  return rows.map(({ row }) => row);
}

function newRow(peer: Peer, mode: XdpMode | ""): EchoRow {
  return {
    peer: peer.name,
    title: peer.title,
    mode,
    perSecond: new Rounds(),
    cpuNs: new Rounds(),
    generatorIdle: new Rounds(),
    waited: new Rounds(),
    lost: 0,
  };
}

/** What a caller may follow of a run. */
export interface EchoWatch {
  /** A line of the peer's standard error. */
  errorLine?(text: string): void;
  /** The warm-up is over; the measurement is over. */
  measuring?(): void;
  measured?(): void;
}

/** Lines of complaint kept. */
const COMPLAINT_LINES = 8;

/** Starts a peer, loads it, stops it: on a veth pair of its own, since a closed XSK leaves its queue some time later. */
export async function echoOnce(
  peer: Peer,
  mode: XdpMode,
  options: EchoOptions,
  watch: EchoWatch = {},
): Promise<EchoRun> {
  const testbed = new Testbed();
  const complaint: string[] = [];
  try {
    const child = peer.start(testbed, mode);
    void drain(child.stdout);
    const errors = readErrors(child, complaint, watch);
    const run = await loadPeer(testbed, child, options, watch);
    await testbed.stop(child);
    await errors;
    return run;
  } catch (error) {
    const said = complaint.length > 0 ? `; it said: ${complaint.join(" ")}` : "";
    throw new Error(`${peer.title}, ${mode}: ${(error as Error).message}${said}`);
  } finally {
    testbed.close();
  }
}

async function readErrors(child: Child, last: string[], watch: EchoWatch): Promise<void> {
  for await (const line of linesOf(child.stderr)) {
    watch.errorLine?.(line);
    last.push(line);
    if (last.length > COMPLAINT_LINES) last.shift();
  }
}

/** The load's command line against whatever answers in `b`. */
function loadOptions(testbed: Testbed, options: EchoOptions): EchoLoadOptions {
  const { a, b } = testbed.hosts;
  return {
    interface: a.name,
    cpu: GENERATOR_CPU,
    sourceMac: a.mac.toHex(),
    destinationMac: b.mac.toHex(),
    source: [...a.ipv4],
    destination: [...b.ipv4],
    port: PORT,
    size: options.size,
    flows: options.flows,
    window: options.window,
    burst: Math.min(64, options.window),
    warmupMs: options.warmupMs,
    measureMs: options.measureMs,
    patienceMs: 10_000,
  };
}

function startLoad(testbed: Testbed, options: EchoOptions): Child {
  const program = new URL("./load.ts", import.meta.url).pathname;
  const command = [process.execPath, program, JSON.stringify(loadOptions(testbed, options))];
  return testbed.spawn(testbed.hosts.a, command, GENERATOR_CPU);
}

async function loadPeer(testbed: Testbed, peer: Child, options: EchoOptions, watch: EchoWatch): Promise<EchoRun> {
  const generator = startLoad(testbed, options);
  try {
    let before = cpuTime(PEER_CPU);
    let waitedBefore = 0;
    let waited = 0;
    let result: EchoLoadResult | null = null;
    let after = before;
    for await (const line of linesOf(generator.stdout)) {
      if (line === "measuring") {
        before = cpuTime(PEER_CPU);
        waitedBefore = processTimes(peer.pid).waitNs;
        watch.measuring?.();
      } else if (line.startsWith("{")) {
        after = cpuTime(PEER_CPU);
        waited = processTimes(peer.pid).waitNs - waitedBefore;
        watch.measured?.();
        result = JSON.parse(line) as EchoLoadResult;
      }
    }
    if (result === null) throw new Error((await new Response(generator.stderr).text()).trim());
    if (result.wrong > 0) throw new Error(`${result.wrong} echoes are not what was sent`);
    const perSecond = (result.received * 1000) / result.elapsedMs;
    // Busy as part of the time the CPU was ours: what the host stole is in neither.
    const busyPart = (after.busy - before.busy) / (after.total - before.total - (after.steal - before.steal));
    return {
      perSecond,
      cpuNs: (busyPart * 1e9) / perSecond,
      lost: result.lost,
      generatorIdle: result.idle,
      waited: (waited / 1e6 + result.waitedMs) / result.elapsedMs,
    };
  } finally {
    await testbed.stop(generator);
  }
}
