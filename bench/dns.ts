/**
 * The name server of examples/dns-server.ts on an engine and, its import changed, on the kernel: queries a second of two
 * loads, in turn, round after round. One checks every answer; the other is dnsperf, where it is installed.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DnsLoadOptions, DnsLoadResult } from "./dns-load.ts";
import { engineEnvironment } from "./dropin.ts";
import { Rounds } from "./ratio.ts";
import { type Child, drain, GENERATOR_CPU, PEER_CPU, PORT, Testbed } from "./testbed.ts";

export interface DnsOptions {
  rounds: number;
  warmupMs: number;
  measureMs: number;
  /** Queries under way at once. */
  window: number;
}

export type DnsLoad = "checked" | "dnsperf";

/** A server under a load. */
export interface DnsRow {
  readonly server: string;
  readonly load: DnsLoad;
  readonly perSecond: Rounds;
  /** Answers that were not what they should be, and queries without one. */
  wrong: number;
  lost: number;
}

interface DnsRun {
  readonly perSecond: number;
  readonly wrong: number;
  readonly lost: number;
}

export const ENGINE = "lcore/dgram";
export const KERNEL = "node:dgram, in Bun";

const path = (name: string): string => new URL(name, import.meta.url).pathname;
const SERVER = path("../examples/dns-server.ts");
const HOSTS = 1000;
const PATIENCE_MS = 10_000;
/** dnsperf's longest window. */
const DNSPERF_WINDOW_MAX = 1000;

/** Runs both servers under each load in every round. */
export async function measureDns(options: DnsOptions, progress: (text: string) => void): Promise<DnsRow[]> {
  const loads: DnsLoad[] = Bun.which("dnsperf") === null ? ["checked"] : ["checked", "dnsperf"];
  const rows = loads.flatMap((load) =>
    [ENGINE, KERNEL].map((server) => ({ server, load, perSecond: new Rounds(), wrong: 0, lost: 0 })),
  );
  for (let round = 0; round < options.rounds; round++) {
    for (const row of rows) {
      const run = await dnsOnce(row.server, row.load, options);
      row.perSecond.add(run.perSecond);
      row.wrong += run.wrong;
      row.lost += run.lost;
      progress(`${round + 1}/${options.rounds} ${row.server}, ${row.load}: ${Math.round(run.perSecond)} queries/s`);
    }
  }
  return rows;
}

async function dnsOnce(server: string, load: DnsLoad, options: DnsOptions): Promise<DnsRun> {
  const testbed = new Testbed();
  try {
    const child = startServer(testbed, server);
    void drain(child.stdout);
    void drain(child.stderr);
    const run = load === "checked" ? await checked(testbed, options) : await dnsperf(testbed, options);
    await testbed.stop(child);
    return run;
  } finally {
    testbed.close();
  }
}

function startServer(testbed: Testbed, server: string): Child {
  const onEngine = server === ENGINE;
  const preload = onEngine ? [] : ["--preload", path("./peers/kernel-import.ts")];
  return testbed.spawn(testbed.hosts.b, [process.execPath, ...preload, SERVER, String(PORT)], PEER_CPU, {
    env: onEngine ? engineEnvironment(testbed, "skb") : {},
  });
}

async function checked(testbed: Testbed, options: DnsOptions): Promise<DnsRun> {
  const load: DnsLoadOptions = {
    address: testbed.hosts.b.ipv4Text,
    port: PORT,
    window: options.window,
    warmupMs: options.warmupMs,
    measureMs: options.measureMs,
    patienceMs: PATIENCE_MS,
  };
  const text = await run(testbed, [process.execPath, path("./dns-load.ts"), JSON.stringify(load)]);
  const { answered, elapsedMs, lost, wrong } = JSON.parse(text) as DnsLoadResult;
  return { perSecond: (answered * 1000) / elapsedMs, wrong, lost };
}

/** dnsperf counts an answer as wrong whose code is not NOERROR; its warm-up is a run of the other load. */
async function dnsperf(testbed: Testbed, options: DnsOptions): Promise<DnsRun> {
  await checked(testbed, { ...options, measureMs: 1 });
  const directory = mkdtempSync(join(tmpdir(), "lcore-dns-"));
  try {
    const queries = join(directory, "queries");
    writeFileSync(queries, Array.from({ length: HOSTS }, (_, i) => `host${i}.example.test A\n`).join(""));
    const window = String(Math.min(options.window, DNSPERF_WINDOW_MAX));
    const seconds = String(Math.max(1, Math.round(options.measureMs / 1000)));
    const text = await run(testbed, [
      ...["dnsperf", "-s", testbed.hosts.b.ipv4Text, "-p", String(PORT), "-d", queries],
      ...["-q", window, "-c", "8", "-T", "1", "-l", seconds, "-t", "1"],
    ]);
    return {
      perSecond: number(text, /Queries per second: +([\d.]+)/),
      wrong: number(text, /Queries completed: +(\d+)/) - number(text, /Response codes: +NOERROR (\d+)/),
      lost: number(text, /Queries lost: +(\d+)/),
    };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function number(text: string, pattern: RegExp): number {
  const found = pattern.exec(text);
  if (found === null) throw new Error(`dnsperf says nothing like ${pattern.source}:\n${text}`);
  return Number(found[1]);
}

/** Standard output of a program in the client's host. Throws Error when it fails. */
async function run(testbed: Testbed, command: string[]): Promise<string> {
  const child = testbed.spawn(testbed.hosts.a, command, GENERATOR_CPU);
  const [output, errors] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  if ((await child.exited) !== 0) throw new Error(`${command[0]}: ${errors.trim()}`);
  return output;
}
