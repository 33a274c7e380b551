/** What a figure must carry to mean anything: runtime, kernel, machine, command, and what else the machine did meanwhile. */
import { readFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { getAffinity } from "../host/affinity.ts";

export interface Environment {
  /** ISO 8601, UTC. */
  readonly date: string;
  readonly command: string;
  readonly lcore: string;
  /** Version and revision. */
  readonly bun: string;
  readonly kernel: string;
  readonly cpu: string;
  /** CPUs of the machine, and those this process may use. */
  readonly cpus: number;
  readonly allowedCpus: readonly number[];
  /** cpufreq's governor of the first CPU used; null where the machine has none, as in most virtual machines. */
  readonly governor: string | null;
  /** Load average of the last minute when the run began: what else ran. */
  readonly load: number;
  /** Share of all CPUs' time that the host of this virtual machine took meanwhile, 0 to 1. */
  readonly steal: number;
  /** Share of all CPUs' time in which others than the threads of the run were busy, 0 to 1. */
  readonly others: number;
  /** How long the run took. */
  readonly seconds: number;
}

/** Time CPUs have spent since boot, seconds. */
export interface CpuTime {
  readonly busy: number;
  readonly steal: number;
  readonly total: number;
}

/** USER_HZ: the unit of /proc/stat, 100 on every architecture that Bun runs on. */
const USER_HZ = 100;

/** One CPU's time, or that of all (`cpu` null). Source: /proc/stat. */
export function cpuTime(cpu: number | null): CpuTime {
  const name = cpu === null ? "cpu" : `cpu${cpu}`;
  const line = readFileSync("/proc/stat", "utf8")
    .split("\n")
    .find((text) => text.startsWith(`${name} `));
  if (line === undefined) throw new Error(`/proc/stat knows no ${name}`);
  const [user, nice, system, idle, iowait, irq, softirq, steal] = line.trim().split(/\s+/).slice(1).map(Number);
  const busy = (user + nice + system + irq + softirq) / USER_HZ;
  return { busy, steal: steal / USER_HZ, total: busy + (idle + iowait + steal) / USER_HZ };
}

function governor(cpu: number): string | null {
  try {
    return readFileSync(`/sys/devices/system/cpu/cpu${cpu}/cpufreq/scaling_governor`, "utf8").trim();
  } catch {
    return null;
  }
}

/**
 * Notes the beginning of a run. What is returned tells, at any later moment, the environment up to then; it is given the CPU
 * time (nanoseconds) of the processes that the run started, beside this one.
 */
export function observeEnvironment(command: string, version: string): (apartNs: number) => Environment {
  const before = cpuTime(null);
  const ownBefore = process.cpuUsage();
  const start = performance.now();
  const allowedCpus = getAffinity(0);
  const fixed = {
    date: new Date().toISOString(),
    command,
    lcore: version,
    bun: `${Bun.version} (${Bun.revision.slice(0, 9)})`,
    kernel: release(),
    cpu: cpus()[0].model,
    cpus: cpus().length,
    allowedCpus,
    governor: governor(allowedCpus[0]),
    load: Number(readFileSync("/proc/loadavg", "utf8").split(" ")[0]),
  };
  return (apartNs) => {
    const after = cpuTime(null);
    const own = process.cpuUsage(ownBefore);
    const ours = (own.user + own.system) / 1e6 + apartNs / 1e9;
    const total = Math.max(after.total - before.total, Number.MIN_VALUE);
    const others = (after.busy - before.busy - ours) / total;
    return {
      ...fixed,
      steal: (after.steal - before.steal) / total,
      others: Math.max(0, Math.min(1, others)),
      seconds: (performance.now() - start) / 1000,
    };
  };
}
