/** Facts about the CPUs: who may use them, what shares them, how fast they are and how soon awake. */
import { getAffinity } from "../host/affinity.ts";
import { cpuSet } from "../host/sysfs.ts";
import type { CpuCore, CpuFacts, IdleState } from "./facts.ts";
import { readCpus, readNames, readNumber, readText } from "./read.ts";

const CPU = "/sys/devices/system/cpu";
const NODE = "/sys/devices/system/node";
const CLOCK = "/sys/devices/system/clocksource/clocksource0";
const CGROUP = "/sys/fs/cgroup";

export function gatherCpus(): CpuFacts {
  const online = cpuSet("online");
  const nodes = numaNodes();
  const steal = stealShares(readText("/proc/stat") ?? "");
  return {
    online,
    isolated: readCpus(`${CPU}/isolated`),
    nohzFull: readCpus(`${CPU}/nohz_full`),
    allowed: getAffinity(0),
    quota: quota(),
    cores: online.map((cpu) => core(cpu, nodes.get(cpu) ?? 0, steal.get(cpu) ?? 0)),
    clocksource: readText(`${CLOCK}/current_clocksource`) ?? "",
    clocksources: words(readText(`${CLOCK}/available_clocksource`)),
  };
}

const words = (text: string | null): string[] => (text ?? "").split(/\s+/).filter((word) => word !== "");

function core(cpu: number, node: number, steal: number): CpuCore {
  const siblings = readCpus(`${CPU}/cpu${cpu}/topology/thread_siblings_list`);
  return {
    cpu,
    siblings: siblings.length > 0 ? siblings : [cpu],
    node,
    governor: readText(`${CPU}/cpu${cpu}/cpufreq/scaling_governor`) ?? "",
    governors: words(readText(`${CPU}/cpu${cpu}/cpufreq/scaling_available_governors`)),
    idleStates: idleStates(`${CPU}/cpu${cpu}/cpuidle`),
    steal,
  };
}

/** stateN/{name,latency,disable}: Documentation/admin-guide/pm/cpuidle.rst */
function idleStates(directory: string): IdleState[] {
  const indices = readNames(directory)
    .filter((name) => /^state\d+$/.test(name))
    .map((name) => Number(name.slice(5)));
  return indices
    .toSorted((a, b) => a - b)
    .map((index) => ({
      index,
      name: readText(`${directory}/state${index}/name`) ?? "",
      latencyUs: readNumber(`${directory}/state${index}/latency`) ?? 0,
      disabled: readText(`${directory}/state${index}/disable`) === "1",
    }));
}

function numaNodes(): Map<number, number> {
  const nodes = new Map<number, number>();
  for (const name of readNames(NODE)) {
    const node = /^node(\d+)$/.exec(name)?.[1];
    if (node !== undefined) for (const cpu of readCpus(`${NODE}/${name}/cpulist`)) nodes.set(cpu, Number(node));
  }
  return nodes;
}

/** Share of stolen time by CPU. /proc/stat: "cpuN user nice system idle iowait irq softirq steal guest guest_nice". */
function stealShares(stat: string): Map<number, number> {
  const shares = new Map<number, number>();
  for (const [, cpu, times] of stat.matchAll(/^cpu(\d+) (.+)$/gm)) {
    // Guest time is part of user time already.
    const ticks = times.trim().split(" ").slice(0, 8).map(Number);
    const total = ticks.reduce((sum, tick) => sum + tick, 0);
    shares.set(Number(cpu), total > 0 ? (ticks[7] ?? 0) / total : 0);
  }
  return shares;
}

/** The tightest CPU quota of the cgroups from this process's up: of version 2, or version 1's cpu controller. */
function quota(): CpuFacts["quota"] {
  let tightest: CpuFacts["quota"] = null;
  for (const line of (readText("/proc/self/cgroup") ?? "").split("\n")) {
    const [hierarchy, controllers, path] = line.split(":");
    const v1 = controllers?.split(",").includes("cpu") ?? false;
    if (path === undefined || !(v1 || hierarchy === "0")) continue;
    for (const directory of upwards(path)) {
      const found = v1 ? quotaV1(`${CGROUP}/cpu${directory}`) : quotaV2(`${CGROUP}${directory}`);
      if (found !== null && (tightest === null || share(found) < share(tightest))) tightest = found;
    }
  }
  return tightest;
}

const share = ({ quotaUs, periodUs }: NonNullable<CpuFacts["quota"]>): number => quotaUs / periodUs;

/** "/a/b" gives "/a/b", "/a" and "". */
function upwards(path: string): string[] {
  const parts = path.split("/").filter((part) => part !== "");
  return parts.map((_, i) => `/${parts.slice(0, parts.length - i).join("/")}`).concat("");
}

/** cpu.max: "200000 100000", or "max 100000". */
function quotaV2(directory: string): CpuFacts["quota"] {
  const [max, period] = words(readText(`${directory}/cpu.max`)).map(Number);
  if (max === undefined || Number.isNaN(max)) return null;
  return { quotaUs: max, periodUs: period, throttled: throttled(directory) };
}

function quotaV1(directory: string): CpuFacts["quota"] {
  const quotaUs = readNumber(`${directory}/cpu.cfs_quota_us`);
  if (quotaUs === null || quotaUs < 0) return null;
  return {
    quotaUs,
    periodUs: readNumber(`${directory}/cpu.cfs_period_us`) ?? 100_000,
    throttled: throttled(directory),
  };
}

const throttled = (directory: string): number =>
  Number(/^nr_throttled (\d+)$/m.exec(readText(`${directory}/cpu.stat`) ?? "")?.[1] ?? 0);
