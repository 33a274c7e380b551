/**
 * Threads of this process: which CPUs they may run on, what they are called, how long they ran.
 *
 * A thread inherits its creator's CPU mask, so helpers of the runtime (JIT, GC) born after an lcore pinned itself land
 * on the lcore's CPU. `moveThreadsOff` puts them elsewhere.
 */
import { readdirSync, readFileSync } from "node:fs";
import { check, ERRNO, SysError, sys } from "af-xdp-bindings";
import { CPUS_MAX } from "./cpu-list.ts";

const CLOCK_THREAD_CPUTIME_ID = 3;
const MASK_BYTES = CPUS_MAX / 8;
/** Threads may be born while others are moved; they are seen in the next round. */
const ROUNDS_MAX = 8;

export interface ThreadInfo {
  readonly tid: number;
  /** comm: up to 15 bytes, "bun", "JITWorker", "HeapHelper". */
  readonly name: string;
}

/** CPUs a thread may run on (`tid` 0: the calling thread). Throws SysError ESRCH when it is gone. */
export function getAffinity(tid = 0): number[] {
  const mask = new Uint8Array(MASK_BYTES);
  const bytes = check(
    sys.sys3(sys.SYS.sched_getaffinity, tid, mask.length, sys.addressOf(mask)),
    `sched_getaffinity(${tid})`,
  );
  const cpus: number[] = [];
  for (let cpu = 0; cpu < bytes * 8; cpu++) if (((mask[cpu >>> 3] as number) & (1 << (cpu & 7))) !== 0) cpus.push(cpu);
  return cpus;
}

/** Sets the CPUs a thread may run on (`tid` 0: the calling thread). EINVAL: none of them is in its cpuset. */
export function setAffinity(tid: number, cpus: readonly number[]): void {
  const mask = new Uint8Array(MASK_BYTES);
  for (const cpu of cpus) {
    if (!Number.isInteger(cpu) || cpu < 0 || cpu >= CPUS_MAX) throw new RangeError(`CPU ${cpu}: 0 to ${CPUS_MAX - 1}`);
    mask[cpu >>> 3] |= 1 << (cpu & 7);
  }
  check(
    sys.sys3(sys.SYS.sched_setaffinity, tid, mask.length, sys.addressOf(mask)),
    `sched_setaffinity(${tid}, ${cpus.join()})`,
    { EINVAL: "none of these CPUs is online and in the cpuset of this process" },
  );
}

/** Threads of this process now. */
export function threads(): ThreadInfo[] {
  const out: ThreadInfo[] = [];
  for (const entry of readdirSync("/proc/self/task")) {
    const name = readTask(Number(entry), "comm");
    if (name !== null) out.push({ tid: Number(entry), name });
  }
  return out;
}

/** CPU time of the calling thread in nanoseconds. */
export function threadCpuTimeNs(): number {
  const timespec = new BigInt64Array(2);
  check(sys.sys3(sys.SYS.clock_gettime, CLOCK_THREAD_CPUTIME_ID, sys.addressOf(timespec), 0), "clock_gettime");
  return Number(timespec[0]) * 1e9 + Number(timespec[1]);
}

/**
 * Time a thread ran and time it waited for a CPU although it could have run, in nanoseconds; null when it is gone.
 * The running slice counts up to the last scheduler tick. Source: /proc/self/task/TID/schedstat.
 */
export function threadTimes(tid: number): { runNs: number; waitNs: number } | null {
  const line = readTask(tid, "schedstat");
  if (line === null) return null;
  const [run, wait] = line.split(" ");
  return { runNs: Number(run), waitNs: Number(wait) };
}

/** CPU the calling thread is on at this moment. */
export function currentCpu(): number {
  const cpu = new Uint32Array(1);
  check(sys.sys3(sys.SYS.getcpu, sys.addressOf(cpu), 0, 0), "getcpu");
  return cpu[0] as number;
}

/** Whether the calling thread may run on no CPU but those. */
export function hasOnly(cpus: readonly number[]): boolean {
  return getAffinity(0).every((cpu) => cpus.includes(cpu));
}

/**
 * Takes `cpus` out of the mask of each thread of this process except those in `keep` (thread ids). A thread that had
 * no other CPU gets those of `fallback` that are not in `cpus`. Returns the threads whose mask changed; throws a
 * RangeError when a thread has nowhere to go.
 */
export function moveThreadsOff(
  cpus: readonly number[],
  keep: ReadonlySet<number>,
  fallback: readonly number[],
): ThreadInfo[] {
  const elsewhere = fallback.filter((cpu) => !cpus.includes(cpu));
  const moved = new Map<number, ThreadInfo>();
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const found = threads().filter((thread) => !keep.has(thread.tid) && moveOff(thread, cpus, elsewhere));
    if (found.length === 0) break;
    for (const thread of found) moved.set(thread.tid, thread);
  }
  return [...moved.values()];
}

/**
 * Gives `cpus` back to every thread of this process that has none of them, except those in `keep` (thread ids): what
 * moveThreadsOff() took, when whoever needed the CPUs alone is gone.
 */
export function moveThreadsBack(cpus: readonly number[], keep: ReadonlySet<number>): void {
  for (const thread of threads()) {
    if (keep.has(thread.tid)) continue;
    try {
      const mask = getAffinity(thread.tid);
      if (!mask.some((cpu) => cpus.includes(cpu))) setAffinity(thread.tid, [...mask, ...cpus]);
    } catch (error) {
      if (!(error instanceof SysError && error.errno === ERRNO.ESRCH)) throw error;
    }
  }
}

function moveOff(thread: ThreadInfo, cpus: readonly number[], elsewhere: readonly number[]): boolean {
  try {
    const mask = getAffinity(thread.tid);
    const rest = mask.filter((cpu) => !cpus.includes(cpu));
    if (rest.length === mask.length) return false;
    const target = rest.length > 0 ? rest : elsewhere;
    if (target.length === 0) throw new RangeError(`thread ${thread.name}: no CPU left beside ${cpus.join()}`);
    setAffinity(thread.tid, target);
    return true;
  } catch (error) {
    if (error instanceof SysError && error.errno === ERRNO.ESRCH) return false;
    throw error;
  }
}

/** A line of /proc/self/task/TID/FILE, or null when the thread is gone (ENOENT, or ESRCH while reading). */
function readTask(tid: number, file: string): string | null {
  try {
    return readFileSync(`/proc/self/task/${tid}/${file}`, "utf8").trim();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ESRCH") return null;
    throw error;
  }
}
