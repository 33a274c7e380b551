/** Running `lcore stats`. */

import { type ConnectionLine, type ConnectionsEnd, STATE_NAMES } from "../connections.ts";
import type { EngineInfo } from "../engine.ts";
import { type ServedEngine, type StatsSnapshot, servedEngines, statsDirectories } from "../stats.ts";
import { CONNECTIONS_HEAD, connectionText, linesOf } from "./connections.ts";
import { counterTables } from "./counter-tables.ts";
import { CliError, EXIT_USAGE, oneLine } from "./failure.ts";
import { colour } from "./output.ts";
import { StopRequest } from "./signals.ts";
import type { StatsOptions } from "./stats.ts";

/** An engine answers within a millisecond, unless its main thread is held up. */
const ANSWER_TIMEOUT_MS = 3000;
const INTERVAL_S = 1;

export async function runStats(options: StatsOptions): Promise<void> {
  check(options);
  const path = options.socket ?? findEngine(options.pid).path;
  if (options.tcp) {
    await listConnections(path, options);
    return;
  }
  const stop = new StopRequest();
  const last = await snapshot(path);
  if (options.prometheus) {
    const { exposition } = await import("./prometheus.ts");
    process.stdout.write(await exposition(last));
    return;
  }
  // One line of totals is all that was asked for; rates need a second look.
  if (options.json && options.interval === undefined && options.count === undefined) {
    process.stdout.write(`${JSON.stringify(last)}\n`);
    return;
  }
  await follow(path, last, options, stop);
}

function check(options: StatsOptions): void {
  const { pid, socket, interval, count, json, prometheus } = options;
  if (pid !== undefined && socket !== undefined) throw new CliError("stats: either --pid or --socket", EXIT_USAGE);
  checkTcp(options);
  if (!prometheus) return;
  if (json) throw new CliError("stats: either --json or --prometheus", EXIT_USAGE);
  if (interval !== undefined || count !== undefined) {
    throw new CliError("stats: --prometheus prints totals once, without --interval and --count", EXIT_USAGE);
  }
}

function checkTcp({ tcp, state = [], sport, dport, limit, interval, count, prometheus }: StatsOptions): void {
  if (!tcp) {
    if (state.length === 0 && sport === undefined && dport === undefined && limit === undefined) return;
    throw new CliError("stats: --state, --sport, --dport and --limit choose connections: add --tcp", EXIT_USAGE);
  }
  if (prometheus || interval !== undefined || count !== undefined)
    throw new CliError("stats: --tcp lists connections once, without --interval, --count and --prometheus", EXIT_USAGE);
  const unknown = state.find((name) => !STATE_NAMES.includes(name));
  if (unknown !== undefined)
    throw new CliError(`stats: --state ${unknown}: one of ${STATE_NAMES.join(", ")}`, EXIT_USAGE);
}

/** Prints them as they come: there may be a million. */
async function listConnections(path: string, { json, state, sport, dport, limit }: StatsOptions): Promise<void> {
  const query = new URLSearchParams();
  if (state !== undefined) query.set("state", state.join(","));
  for (const [name, value] of Object.entries({ sport, dport, limit }))
    if (value !== undefined) query.set(name, String(value));
  const response = await ask(path, `/tcp?${query}`);
  if (response.status === 409) throw new CliError(`the engine at ${path} serves on sockets of the kernel: ss -ti`);
  if (!response.ok || response.body === null) throw new CliError(`the engine at ${path} is stopping`);
  if (!json) process.stdout.write(`${CONNECTIONS_HEAD}\n`);
  let end: ConnectionsEnd | null = null;
  for await (const text of linesOf(response.body)) {
    const line = JSON.parse(text) as ConnectionLine | ConnectionsEnd;
    if ("told" in line) end = line;
    else if (!process.stdout.write(json ? `${text}\n` : `${connectionText(line)}\n`))
      await new Promise((resolve) => process.stdout.once("drain", resolve));
  }
  if (end === null) throw new CliError(`the engine at ${path} has ended`);
  if (end.more) process.stderr.write(`lcore: the first ${end.told}; there may be more\n`);
}

/** The engine that is meant. Throws CliError where there is none, or more than one. */
export function findEngine(pid: number | undefined): ServedEngine {
  const all = servedEngines();
  const found = pid === undefined ? all : all.filter((engine) => engine.pid === pid);
  if (found.length === 1) return found[0];
  if (found.length === 0) {
    const which = pid === undefined ? "no running engine serves statistics" : `process ${pid} serves no statistics`;
    throw new CliError(
      `${which} in ${statsDirectories().join(", ")}: start \`lcore echo\`, or call engine.serveStats()`,
    );
  }
  const choice = pid === undefined ? `--pid ${found.map((engine) => engine.pid).join("|")}` : "";
  const paths = pid === undefined ? "" : `--socket ${found.map((engine) => engine.path).join("|")}`;
  throw new CliError(`several engines run: choose one with ${choice}${paths}`, EXIT_USAGE);
}

/** Shows the time from one snapshot to the next, until the count is reached, a signal comes or the engine ends. */
async function follow(path: string, first: StatsSnapshot, options: StatsOptions, stop: StopRequest): Promise<void> {
  const count = options.count ?? (options.interval === undefined ? 1 : Number.POSITIVE_INFINITY);
  const interval = (options.interval ?? INTERVAL_S) * 1000;
  let before = first;
  let due = performance.now();
  for (let i = 0; i < count; i++) {
    due = Math.max(due + interval, performance.now());
    await Promise.race([Bun.sleep(due - performance.now()), stop.requested]);
    if (stop.abort.aborted) return;
    const last = await snapshot(path);
    process.stdout.write(
      options.json ? `${JSON.stringify(last)}\n` : `${heading(last)}\n${counterTables(last, before)}`,
    );
    before = last;
  }
}

function heading({ pid, info }: StatsSnapshot): string {
  return colour.dim(`${new Date().toISOString()}  pid ${pid}, ${placeOf(info)}`);
}

function placeOf(info: EngineInfo): string {
  if (info.provider === "kernel") return `kernel sockets: ${oneLine(info.reason)}`;
  const what = info.interface === null ? "memory wire" : `${info.interface}, ${info.attach} mode`;
  return `${what}, ${info.zeroCopy ? "zero-copy" : "copy"}`;
}

/** Asks once. Throws CliError in words. */
export async function snapshot(path: string): Promise<StatsSnapshot> {
  const response = await ask(path, "/stats");
  if (!response.ok) throw new CliError(`the engine at ${path} is stopping`);
  return (await response.json()) as StatsSnapshot;
}

/** The head of an answer, in time. Throws CliError in words. */
async function ask(path: string, what: string): Promise<Response> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), ANSWER_TIMEOUT_MS);
  try {
    return await fetch(`http://lcore${what}`, { unix: path, signal: late.signal });
  } catch {
    throw new CliError(
      late.signal.aborted
        ? `the engine at ${path} did not answer in ${ANSWER_TIMEOUT_MS} ms: its main thread is busy`
        : `no engine answers at ${path}: it has ended, or the socket is another user's`,
    );
  } finally {
    clearTimeout(timer);
  }
}
