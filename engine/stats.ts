/**
 * A running engine's counters, for whoever asks from outside: HTTP over a Unix socket, GET /stats answers one JSON
 * snapshot, GET /tcp its connections (connections.ts). Only the thread that serves reads shared memory for it; no lcore notices.
 *
 *   curl --unix-socket /run/lcore/PID.sock http://lcore/stats
 *
 * The socket lies in a directory of the user's own, $XDG_RUNTIME_DIR/lcore, /run/lcore or /tmp/lcore-UID, whichever can
 * be made first: mode 0700, the socket 0600. It is removed when the engine stops; what a killed process left behind,
 * the next one removes.
 */
import { chmodSync, lstatSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type XskStatistics, xskStatistics } from "af-xdp-bindings";
import { CounterBoard, type CounterName } from "../sockets/counters.ts";
import type { EngineInfo } from "./engine.ts";
import { threadTimes } from "./host/affinity.ts";
import type { Wiring } from "./wiring.ts";

export interface ThreadStats {
  /** "lcore 0", "control", "thread 1". */
  readonly name: string;
  /** CPU an lcore is pinned to, else -1. */
  readonly cpu: number;
  /** CPU time, and time it waited for a CPU, nanoseconds; null for application threads. */
  readonly times: { readonly runNs: number; readonly waitNs: number } | null;
  readonly counters: Record<CounterName, number>;
}

export interface StatsSnapshot {
  readonly pid: number;
  /** Monotonic milliseconds: for rates between two snapshots of one process. */
  readonly time: number;
  readonly info: EngineInfo;
  readonly threads: readonly ThreadStats[];
  /** Verdicts of the XDP program, null on a memory wire. */
  readonly steering: Record<string, number> | null;
  /** XDP_STATISTICS of each AF_XDP socket. */
  readonly sockets: readonly ({ readonly lcore: number; readonly queue: number } & XskStatistics)[];
}

/** What the numbers of the mesh stand for. */
export function threadName({ config }: Wiring, thread: number): string {
  const lcores = config.cpus.length;
  if (thread < lcores) return `lcore ${thread}`;
  return thread === lcores ? "control" : `thread ${thread - lcores - 1}`;
}

/** Takes a snapshot. `xsks` are the AF_XDP sockets of each lcore, in the order of its queues. */
export function collectStats(
  info: EngineInfo,
  wiring: Wiring,
  xsks: readonly (readonly number[])[],
  steering: Record<string, number> | null,
): StatsSnapshot {
  const board = new CounterBoard(wiring.counters);
  const { cpus } = wiring.config;
  const state = new Int32Array(wiring.state);
  const threads: ThreadStats[] = [];
  for (let thread = 0; thread <= cpus.length + wiring.config.threads; thread++) {
    const lcore = thread < cpus.length;
    const control = thread === cpus.length;
    const counters = board.snapshot(thread);
    // Rows are laid out for the most threads the engine may have; those that never counted are not there.
    if (!lcore && Object.values(counters).every((count) => count === 0)) continue;
    threads.push({
      name: threadName(wiring, thread),
      cpu: lcore ? cpus[thread] : -1,
      times: lcore || control ? threadTimes(Atomics.load(state, 1 + thread)) : null,
      counters,
    });
  }
  const sockets = xsks.flatMap((fds, lcore) =>
    fds.map((fd, i) => ({ lcore, queue: wiring.queues[lcore][i], ...xskStatistics(fd) })),
  );
  return { pid: process.pid, time: performance.now(), info, threads, steering, sockets };
}

const MODE_DIRECTORY = 0o700;
const MODE_SOCKET = 0o600;
const SOCKET_NAME = /^(\d+)(?:-\d+)?\.sock$/;

export class StatsServer {
  readonly path: string;
  private readonly server: ReturnType<typeof Bun.serve>;
  private readonly removeAtExit: () => void;

  /**
   * Serves snapshots at `path`, or at the usual place, and what `answer` has an answer to. Throws where no socket can be
   * made.
   */
  constructor(
    snapshot: () => StatsSnapshot,
    path?: string,
    answer: (request: Request) => Promise<Response | null> = () => Promise.resolve(null),
  ) {
    this.path = path ?? usualPath();
    // Made with no rights for others from the start, wherever `path` lies.
    const mask = process.umask(0o777 & ~MODE_SOCKET);
    try {
      this.server = Bun.serve({
        unix: this.path,
        // A capture may have nothing to say for hours. server.timeout(request, 0) does not do: Bun 1.4.5 resets the
        // connection of a response stream after 12 s without a byte all the same. Its types know no timeout here.
        ...({ idleTimeout: 0 } as object),
        fetch: async (request) => {
          const known = request.method === "GET" && new URL(request.url).pathname === "/stats";
          if (known) return Response.json(snapshot());
          return (await answer(request)) ?? new Response("GET /stats\n", { status: 404 });
        },
      });
    } finally {
      process.umask(mask);
    }
    chmodSync(this.path, MODE_SOCKET);
    // Serving statistics is no reason for a process to live on.
    this.server.unref();
    this.removeAtExit = () => rmSync(this.path, { force: true });
    process.once("exit", this.removeAtExit);
  }

  /** Stops serving and removes the socket. */
  close(): void {
    process.removeListener("exit", this.removeAtExit);
    void this.server.stop(true);
    this.removeAtExit();
  }
}

/** Directories in which engines of this user may serve, the preferred one first. */
export function statsDirectories(): string[] {
  const uid = process.geteuid?.() ?? 0;
  const { XDG_RUNTIME_DIR } = process.env;
  return [...(XDG_RUNTIME_DIR ? [join(XDG_RUNTIME_DIR, "lcore")] : []), "/run/lcore", `/tmp/lcore-${uid}`];
}

export interface ServedEngine {
  readonly pid: number;
  readonly path: string;
}

/** Engines that serve in the usual places: this user's, and to root everybody's. */
export function servedEngines(): ServedEngine[] {
  const directories = new Set(statsDirectories().filter(isOurs));
  if (process.geteuid?.() === 0) {
    for (const user of list("/run/user")) directories.add(join("/run/user", user, "lcore"));
    for (const name of list("/tmp")) if (name.startsWith("lcore-")) directories.add(join("/tmp", name));
  }
  return [...directories].flatMap(served).filter(({ pid }) => isAlive(pid));
}

function served(directory: string): ServedEngine[] {
  return list(directory).flatMap((name) => {
    const match = SOCKET_NAME.exec(name);
    return match === null ? [] : [{ pid: Number(match[1]), path: join(directory, name) }];
  });
}

/** Names in a directory; none where it cannot be read. */
function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

/** A free path in the first usable directory, which is cleared of what ended processes left. */
function usualPath(): string {
  for (const directory of statsDirectories()) {
    if (!makeDirectory(directory)) continue;
    const found = served(directory);
    // One's own number may have been a former process's too.
    for (const { pid, path } of found) if (!isAlive(pid)) rmSync(path, { force: true });
    const taken = new Set(found.map(({ path }) => path));
    for (let i = 0; ; i++) {
      const path = join(directory, i === 0 ? `${process.pid}.sock` : `${process.pid}-${i}.sock`);
      if (!taken.has(path)) return path;
    }
  }
  throw new Error(`statistics: none of ${statsDirectories().join(", ")} can be written`);
}

function makeDirectory(directory: string): boolean {
  try {
    mkdirSync(directory, { mode: MODE_DIRECTORY });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") return false;
  }
  return isOurs(directory);
}

/** Whether a directory is this user's and closed to others: in /tmp someone else may have made it first. */
function isOurs(directory: string): boolean {
  try {
    const stat = lstatSync(directory);
    return stat.isDirectory() && stat.uid === process.geteuid?.() && (stat.mode & 0o077) === 0;
  } catch {
    return false;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
