/**
 * TCP on veth, side by side: rows of a server under a load, each once a round, so that what the machine does meanwhile falls
 * on all of them alike. A row's `what` is what it can be compared by: rows of one `what` do the same work.
 */
import type { CompiledPeers, XdpMode } from "./peers.ts";
import { Rounds } from "./ratio.ts";
import { httpCases } from "./tcp-http.ts";
import {
  bunServer,
  type KernelWay,
  kernelLoad,
  kernelServer,
  lcoreLoad,
  lcoreServer,
  type TcpLoad,
  type TcpServer,
} from "./tcp-peers.ts";
import { type TcpRun, type TcpTimes, tcpOnce, type Wire } from "./tcp-run.ts";

export interface TcpOptions extends TcpTimes {
  mode: XdpMode;
  rounds: number;
}

export interface TcpRow {
  readonly what: string;
  readonly server: string;
  readonly perSecond: Rounds;
  /** Nanoseconds of CPU an exchange, or a kilobyte: of the server's threads, of server and load. */
  readonly serverNs: Rounds;
  readonly bothNs: Rounds;
  /** Of the server, with what either end receives counted as its own: TcpRun.ownNs. */
  readonly ownNs: Rounds;
  /** Microseconds, 0 where round trips are not timed. */
  readonly p50: Rounds;
  readonly p99: Rounds;
  /** Part of the time that server and load waited for a CPU, both added up. */
  readonly waited: Rounds;
  /** Connections that failed, in all rounds. */
  failed: number;
}

interface Case {
  readonly what: string;
  readonly server: TcpServer;
  readonly load: TcpLoad;
  readonly wire: Wire;
}

export const ONE = "one connection, kernel client";
export const MANY = "64 connections, lcore client";
export const MANY_KERNEL = "64 connections, kernel client";
export const CRR = "connect, request, response, close; lcore client";
export const OPEN = "accept and close; lcore client";
export const CRR_KERNEL = "connect, request, response, close; kernel client";
export const OUT = "bulk, server sends";
export const IN = "bulk, server receives";
export const WITH_OFFLOADS = ", offloads on";
export const WITH_RPS = ", RPS";

const CONNECTIONS = 64;
/** Bytes of a request and of its response, and of a write in bulk. */
const BYTES = 64;
const PIECE = 65_536;

/** @param wanted part of a row's `what`, "" for all */
export async function measureTcp(
  compiled: CompiledPeers,
  options: TcpOptions,
  progress: (text: string) => void,
  wanted = "",
): Promise<TcpRow[]> {
  const cases = allCases(compiled, options.mode).filter(({ what }) => what.includes(wanted));
  const rows = cases.map(({ what, server }) => newRow(what, server.title));
  for (let round = 0; round < options.rounds; round++) {
    for (const [i, { server, load, wire }] of cases.entries()) {
      const run = await tcpOnce(server, load, options, wire);
      const perSecond = addRun(rows[i], run);
      progress(`${round + 1}/${options.rounds} ${rows[i].what}, ${server.title}: ${Math.round(perSecond)}/s`);
    }
  }
  return rows;
}

function allCases(compiled: CompiledPeers, mode: XdpMode): Case[] {
  const plain: Wire = { offloads: "off", rps: false };
  const offloads: Wire = { offloads: "on", rps: false };
  const kernel = (way: KernelWay, connections: number, bytes = BYTES) => kernelLoad(compiled, way, connections, bytes);
  const own = (way: "rr" | "crr" | "open") => lcoreLoad(way, CONNECTIONS, BYTES, mode);
  const against = (what: string, servers: readonly TcpServer[], load: TcpLoad, wire = plain): Case[] =>
    servers.map((server) => ({ what, server, load, wire }));
  const c = (way: "echo" | "source" | "sink") => kernelServer(compiled, way);
  const lcore = (way: "echo" | "once" | "greet" | "source" | "sink") => lcoreServer(way, "busy", mode);
  return [
    ...against(
      ONE,
      [lcore("echo"), lcoreServer("echo", "adaptive", mode), bunServer("echo"), c("echo")],
      kernel("spin", 1),
    ),
    ...against(MANY, [lcore("echo"), bunServer("echo"), c("echo")], own("rr")),
    ...against(
      MANY_KERNEL,
      [lcore("echo"), lcoreServer("echo", "interrupt", mode), bunServer("echo"), c("echo")],
      kernel("rr", CONNECTIONS),
    ),
    ...against(
      MANY_KERNEL + WITH_RPS,
      [lcoreServer("echo", "interrupt", mode), bunServer("echo"), c("echo")],
      kernel("rr", CONNECTIONS),
      { offloads: "off", rps: true },
    ),
    ...against(CRR, [lcore("once"), bunServer("once")], own("crr")),
    ...against(OPEN, [lcore("greet"), bunServer("greet")], own("open")),
    ...against(CRR_KERNEL, [lcore("once"), bunServer("once")], kernel("crr", CONNECTIONS)),
    ...against(OUT, [lcore("source"), c("source")], kernel("sink", 1, PIECE)),
    ...against(IN, [lcore("sink"), c("sink")], kernel("source", 1, PIECE)),
    // A segment of several frames is none that an lcore can receive: what its peer sends is as without.
    ...against(OUT + WITH_OFFLOADS, [lcore("source"), c("source")], kernel("sink", 1, PIECE), offloads),
    ...httpCases(mode, CONNECTIONS).map((one) => ({ ...one, wire: plain })),
  ];
}

const newRow = (what: string, server: string): TcpRow => ({
  what,
  server,
  perSecond: new Rounds(),
  serverNs: new Rounds(),
  bothNs: new Rounds(),
  ownNs: new Rounds(),
  p50: new Rounds(),
  p99: new Rounds(),
  waited: new Rounds(),
  failed: 0,
});

/** Exchanges, or bytes, a second. */
function addRun(row: TcpRow, run: TcpRun): number {
  const perSecond = ((run.bytes || run.done) * 1000) / run.elapsedMs;
  const units = run.bytes > 0 ? run.bytes / 1000 : run.done;
  row.perSecond.add(perSecond);
  row.serverNs.add(run.serverNs / units);
  row.bothNs.add((run.serverNs + run.loadNs) / units);
  row.ownNs.add(run.ownNs / units);
  row.p50.add(run.p50);
  row.p99.add(run.p99);
  row.waited.add(run.waitedMs / run.elapsedMs);
  row.failed += run.failed;
  return perSecond;
}
