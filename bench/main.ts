/**
 * `npm run bench -- [parts|ring|echo|rtt|gc|start|dropin|dns|provider|capture|tcp|memory|all] [options]`: measures, prints tables, holds them against the goals.
 * Needs root, veth and two CPUs for everything but parts, ring and memory.
 */
import { CommanderError } from "commander";
import { MESSAGE_WORDS } from "../sockets/message.ts";
import { capturePeers } from "./capture.ts";
import { measureConnectionMemory } from "./connection-memory.ts";
import { measureDns } from "./dns.ts";
import { dropinPeers } from "./dropin.ts";
import { measureEcho } from "./echo.ts";
import { beginRun } from "./environment.ts";
import { measureGc } from "./gc.ts";
import { type BenchOptions, parseBench, type Selection } from "./options.ts";
import { measureParts } from "./parts.ts";
import { allPeers, CompiledPeers, type Peer } from "./peers.ts";
import { providerPeers } from "./provider.ts";
import * as report from "./report.ts";
import { measureHandOver } from "./ring.ts";
import { measureRtt } from "./rtt.ts";
import { measureStart } from "./start.ts";
import { measureTcp } from "./tcp.ts";
import { tcpGoals, tcpText } from "./tcp-report.ts";

const FLOWS_LARGE = 1_000_000;
const WARMUP_MS = 1000;
/** Two threads on one CPU: what compiles their code runs there too, and is done in some three seconds. */
const DROPIN_WARMUP_MS = 3000;
/** Two runtimes compile, each one's compilers on the other's CPU. */
const TCP_WARMUP_MS = 3000;
const IDLE_MS = 5000;
const RING_TOTAL = 10_000_000;
/** Queries under way at once: each server is kept busy, neither receive buffer runs over. */
const DNS_WINDOW = 256;
/** A client with one datagram in flight meets nobody but these. */
const RTT_PEERS = ["lcore", "c-block", "c-spin", "bun", "node"];

/** What one selection found: a table, goals, and the raw figures. */
interface Outcome {
  text: string;
  goals: report.Goal[];
  data: unknown;
}

const progress = (text: string): void => {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
};

async function measure(
  selection: Selection,
  options: BenchOptions,
  peers: readonly Peer[],
  compiled: CompiledPeers,
): Promise<Outcome> {
  const { rounds, modes } = options;
  const measureMs = options.seconds * 1000;
  const warmupMs = Math.min(WARMUP_MS, measureMs);
  const load = { modes, rounds, measureMs, warmupMs, window: options.window, size: options.size, flows: options.flows };
  switch (selection) {
    case "parts": {
      const parts = await measureParts({ timeMs: measureMs, flowsLarge: FLOWS_LARGE });
      return { text: report.partsText(parts), goals: report.partsGoals(parts), data: parts };
    }
    case "ring": {
      const rows = [];
      for (const words of [1, MESSAGE_WORDS])
        rows.push({ name: `slots of ${words * 4} bytes`, ns: await measureHandOver(words, RING_TOTAL, rounds) });
      return { text: report.ringText(rows), goals: [], data: rows };
    }
    case "echo": {
      const rows = await measureEcho(peers, load, progress);
      return { text: report.echoText(rows), goals: report.echoGoals(rows), data: rows };
    }
    case "rtt": {
      const rows = await measureRtt(
        peers.filter(({ name }) => RTT_PEERS.includes(name)),
        { modes, rounds, measureMs, warmupMs },
        progress,
      );
      return { text: report.rttText(rows), goals: report.rttGoals(rows), data: rows };
    }
    case "dropin": {
      const warm = { ...load, warmupMs: Math.min(DROPIN_WARMUP_MS, 2 * measureMs) };
      const rows = await measureEcho(present(dropinPeers(), options), warm, progress);
      return { text: report.peersText(rows), goals: report.dropinGoals(rows), data: rows };
    }
    case "provider": {
      const chosen = present(providerPeers(compiled), options);
      const echo = await measureEcho(chosen, load, progress);
      const rtt = await measureRtt(chosen, { modes, rounds, measureMs, warmupMs }, progress);
      return {
        text: `${report.peersText(echo)}\n\n${report.rttText(rtt)}`,
        goals: report.providerGoals(echo, rtt),
        data: { echo, rtt },
      };
    }
    case "capture": {
      const rows = await measureEcho(present(capturePeers(), options), load, progress);
      return { text: report.peersText(rows), goals: [], data: rows };
    }
    case "tcp": {
      const { missing } = compiled.build("tcp-load.c");
      if (missing !== "") return { text: `without TCP: ${missing}`, goals: [], data: [] };
      const times = { measureMs, warmupMs: Math.min(TCP_WARMUP_MS, 4 * measureMs) };
      const rows = await measureTcp(compiled, { mode: modes[0], rounds, ...times }, progress, options.only);
      return { text: tcpText(rows), goals: tcpGoals(rows), data: rows };
    }
    case "memory": {
      const memory = await measureConnectionMemory(FLOWS_LARGE);
      return { text: report.memoryText(memory), goals: report.memoryGoals(memory), data: memory };
    }
    case "dns": {
      const rows = await measureDns({ rounds, warmupMs, measureMs, window: DNS_WINDOW }, progress);
      return { text: report.dnsText(rows), goals: report.dnsGoals(rows), data: rows };
    }
    case "gc": {
      const result = await measureGc(modes[0], { ...load, measureMs: options.gcSeconds * 1000 });
      return { text: report.gcText(result), goals: report.gcGoals(result), data: result };
    }
    case "start": {
      const result = await measureStart({ mode: modes[0], rounds, idleMs: Math.max(measureMs, IDLE_MS) }, progress);
      return { text: report.startText(result), goals: report.startGoals(result), data: result };
    }
  }
}

/** The peers asked for, less those that cannot run here, which are named. */
function present(all: readonly Peer[], options: BenchOptions): Peer[] {
  const chosen = all.filter(({ name }) => options.peers?.includes(name) ?? true);
  for (const peer of chosen) if (peer.missing !== "") console.log(`without ${peer.title}: ${peer.missing}`);
  return chosen.filter(({ missing }) => missing === "");
}

async function main(argv: readonly string[]): Promise<void> {
  const options = parseBench(argv);
  const compiled = new CompiledPeers();
  try {
    const peers = options.selections.some((name) => name === "echo" || name === "rtt")
      ? present(allPeers(compiled, options.xdpsock), options)
      : [];
    const { environment, end } = beginRun(argv);
    const goals: report.Goal[] = [];
    const results: Record<string, unknown> = {};
    for (const selection of options.selections) {
      const outcome = await measure(selection, options, peers, compiled);
      progress("");
      console.log(`\n${outcome.text}`);
      goals.push(...outcome.goals);
      results[selection] = outcome.data;
    }
    end();
    if (goals.length > 0) console.log(`\n${report.goalsText(goals)}`);
    console.log(`\n${report.environmentText(environment)}`);
    if (options.json !== "") {
      await Bun.write(options.json, `${JSON.stringify({ environment, options, goals, results }, null, 2)}\n`);
    }
  } finally {
    compiled.close();
  }
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof CommanderError)) throw error;
  process.exitCode = error.exitCode;
}
