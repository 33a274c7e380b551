/** One server under one load, on a veth pair of their own: the server in `b` on one CPU, the load in `a` on the other. */
import { writeFileSync } from "node:fs";
import type { TcpLoad, TcpServer } from "./tcp-peers.ts";
import {
  type Child,
  type CpuTimes,
  cpuTimes,
  drain,
  GENERATOR_CPU,
  linesOf,
  PEER_CPU,
  processTimes,
  Testbed,
} from "./testbed.ts";

/** What a load prints at the end, tcp-load.c and lcore-tcp.ts alike. Round trips in microseconds, 0 where none were timed. */
export interface LoadResult {
  /** Exchanges done, connections that failed, responses that are not what was sent. */
  done: number;
  failed: number;
  bad: number;
  /** One way: bytes that the receiver has, or has acknowledged. */
  bytes: number;
  elapsedMs: number;
  p50: number;
  p99: number;
  p999: number;
  max: number;
  /** CPU that the load took, where it is a program that the child has run; else the child's is. */
  loadNs?: number;
}

export interface TcpRun extends LoadResult {
  /** Nanoseconds that the server's threads ran in the time measured, softirqs on top of them included; the load's. */
  serverNs: number;
  loadNs: number;
  /**
   * As serverNs, but each end's receiving is its own: on veth it runs in a softirq on the CPU of whoever sends, so serverNs has
   * the load's in it and lacks the server's. With RPS nothing has to be reckoned: all that the server's CPU did.
   */
  ownNs: number;
  /** Milliseconds that both waited for a CPU: what else ran here disturbed them. */
  waitedMs: number;
}

export interface TcpTimes {
  warmupMs: number;
  measureMs: number;
}

/** Longer than this beyond what it was asked for, and a load hangs. */
const PATIENCE_MS = 15_000;

export interface Wire {
  /** Of both ends: "off", frames as they look on a real one. */
  readonly offloads: "on" | "off";
  /** Whether each end receives on its own CPU: Testbed.receiveAtHome(). */
  readonly rps: boolean;
}

export async function tcpOnce(
  server: TcpServer,
  load: TcpLoad,
  times: TcpTimes,
  { offloads, rps }: Wire,
): Promise<TcpRun> {
  const testbed = new Testbed({ offloads });
  try {
    if (rps) testbed.receiveAtHome();
    for (const { ns } of [testbed.hosts.a, testbed.hosts.b]) ns.run(withoutPacing);
    const child = server.start(testbed);
    await ready(child);
    const run = await underLoad(child, load.start(testbed, times), times, rps);
    await testbed.stop(child);
    return run;
  } catch (error) {
    throw new Error(`${server.title}, ${load.title}: ${(error as Error).message}`);
  } finally {
    testbed.close();
  }
}

/**
 * Congestion control without timers a packet, whatever the machine's default is: BBR's pacing would be in the kernel's figures.
 * A namespace may always have reno; the C programs ask for cubic, which is the engine's.
 */
function withoutPacing(): void {
  writeFileSync("/proc/sys/net/ipv4/tcp_congestion_control", "reno");
}

/** Waits for the first line of a server. */
async function ready(child: Child): Promise<void> {
  const reader = child.stdout.getReader();
  const { done } = await reader.read();
  reader.releaseLock();
  if (done) throw new Error((await new Response(child.stderr).text()).trim());
  void drain(child.stdout);
  void drain(child.stderr);
}

async function underLoad(server: Child, load: Child, { warmupMs, measureMs }: TcpTimes, rps: boolean): Promise<TcpRun> {
  const killer = setTimeout(() => load.kill("SIGKILL"), warmupMs + measureMs + PATIENCE_MS);
  const complaint = new Response(load.stderr).text();
  const both = (): Times => ({
    threads: [server, load].map(({ pid }) => processTimes(pid)),
    cpus: [PEER_CPU, GENERATOR_CPU].map(cpuTimes),
  });
  let before = both();
  let run: TcpRun | null = null;
  try {
    for await (const line of linesOf(load.stdout)) {
      if (line === "measuring") before = both();
      else if (line.startsWith("{") && run === null) run = costs(JSON.parse(line) as LoadResult, before, both(), rps);
      if (run !== null) load.kill("SIGTERM");
    }
  } finally {
    clearTimeout(killer);
  }
  await load.exited;
  if (run === null) throw new Error((await complaint).trim() || "the load ended without a result");
  if (run.bad > 0) throw new Error(`${run.bad} responses are not what was sent`);
  if (run.done === 0 && run.bytes === 0) throw new Error("nothing came back");
  return run;
}

/** Each of the server's, then of the load's. */
export interface Times {
  threads: ReturnType<typeof processTimes>[];
  cpus: CpuTimes[];
}

/** What a run has cost, from the times before it and after. */
export function costs(result: LoadResult, before: Times, after: Times, rps = false): TcpRun {
  const [serverNs, loadNs] = after.threads.map(({ runNs }, i) => runNs - before.threads[i].runNs);
  const waited = after.threads.reduce((sum, { waitNs }, i) => sum + waitNs - before.threads[i].waitNs, 0);
  const [ofLoad, ofServer] = after.cpus.map(({ softirqNs }, i) => softirqNs - before.cpus[i].softirqNs);
  const ownNs = rps ? after.cpus[0].busyNs - before.cpus[0].busyNs : serverNs - ofLoad + ofServer;
  return { ...result, serverNs, loadNs: result.loadNs ?? loadNs, ownNs, waitedMs: waited / 1e6 };
}
