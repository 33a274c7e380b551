/** Findings about the CPUs that are to carry lcores. */
import { formatCpuList } from "../host/cpu-list.ts";
import { type Change, setCpu } from "./change.ts";
import type { CpuCore, CpuFacts, Facts, Plan } from "./facts.ts";
import { count, type Finding, fail, info, list, ok, warn } from "./finding.ts";

/** Stolen time above this share is called a cost: at 1 %, the lcore stands still for 10 ms of each second. */
const STEAL_MAX = 0.01;
/** A wakeup from an idle state that takes longer than an lcore spins before it sleeps (spinUs). */
const IDLE_LATENCY_MAX_US = 50;

export function cpuFindings({ host, plan, interface: dev }: Facts): Finding[] {
  const { cpus } = host;
  const cores = plan.cpus.flatMap((cpu) => cpus.cores.find((core) => core.cpu === cpu) ?? []);
  return [
    allowed(cpus, plan),
    isolation(cpus, plan),
    siblings(cores, cpus, plan),
    numa(cores, dev?.numaNode ?? -1, cpus),
    governor(cores),
    idleStates(cores, plan),
    steal(cores),
    quota(cpus, plan),
  ];
}

function allowed({ allowed, online }: CpuFacts, { cpus }: Plan): Finding {
  const refused = cpus.filter((cpu) => !allowed.includes(cpu));
  if (refused.length > 0) {
    return fail(
      "cpus",
      `CPU ${formatCpuList(refused)} is not among those of this process: ${formatCpuList(allowed)}`,
      "the engine does not start there",
      online.includes(refused[0])
        ? "affinity or cpuset keeps the process off it: taskset, AllowedCPUs= of the unit, --cpuset-cpus of the container"
        : "it is not online",
    );
  }
  const all = `lcores on CPU ${formatCpuList(cpus)} of ${formatCpuList(allowed)}`;
  if (cpus.length < allowed.length) return ok("cpus", all);
  return warn(
    "cpus",
    `${all}: none is left for the rest of the process`,
    "the control thread, the JIT and the application share the lcores' CPUs; the option isolate does nothing",
    allowed.length === 1 ? "the process has one CPU" : "plan fewer lcores (--cpus)",
  );
}

function isolation({ isolated, nohzFull }: CpuFacts, { cpus, poll }: Plan): Finding {
  const list = formatCpuList(cpus);
  const tick = cpus.filter((cpu) => !nohzFull.includes(cpu));
  const open = cpus.filter((cpu) => !isolated.includes(cpu));
  if (open.length === 0 && tick.length === 0)
    return ok("isolation", `CPU ${list}: isolated, without a tick while one thread runs`);
  const found =
    open.length === 0
      ? `CPU ${list}: isolated, with a scheduler tick`
      : `CPU ${formatCpuList(open)}: not isolated, other processes may run there`;
  const cost =
    "an lcore waits while another thread or the tick has its CPU: look at its wait time in schedstat, and at rxRingFull";
  if (poll !== "busy") return info("isolation", found, cost);
  return warn(
    "isolation",
    found,
    cost,
    `a boot parameter: isolcpus=${list} nohz_full=${list} rcu_nocbs=${list}, or a cpuset partition`,
  );
}

function siblings(cores: readonly CpuCore[], { online }: CpuFacts, { cpus }: Plan): Finding {
  for (const { cpu, siblings } of cores) {
    const other = cpus.find((lcore) => lcore !== cpu && siblings.includes(lcore));
    if (other !== undefined) {
      return warn(
        "smt",
        `lcores on CPU ${cpu} and ${other} are threads of one core`,
        "they share its execution units and caches",
        "plan one lcore a core (--cpus)",
      );
    }
  }
  const threads = cores.flatMap(({ cpu, siblings }) =>
    siblings.filter((other) => other !== cpu && online.includes(other)),
  );
  if (threads.length === 0) return ok("smt", "each lcore has a core of its own");
  const off = threads.map((cpu) => `echo 0 > /sys/devices/system/cpu/cpu${cpu}/online`).join("; ");
  return info(
    "smt",
    `CPU ${formatCpuList(threads)} shares a core with an lcore`,
    `what runs there takes part of the core. To be without: ${off}`,
  );
}

function numa(cores: readonly CpuCore[], node: number, { cores: all }: CpuFacts): Finding {
  const far = cores.filter((core) => node >= 0 && core.node !== node);
  if (far.length === 0)
    return ok("numa", node < 0 ? "the interface belongs to no NUMA node" : `lcores and interface are on node ${node}`);
  const near = all.filter((core) => core.node === node).map(({ cpu }) => cpu);
  return warn(
    "numa",
    `CPU ${formatCpuList(far.map(({ cpu }) => cpu))} is on another NUMA node than the interface (${node})`,
    "each frame crosses between the nodes",
    near.length === 0 ? "the interface's node has no CPU" : `plan lcores on CPUs ${formatCpuList(near)} (--cpus)`,
  );
}

function governor(cores: readonly CpuCore[]): Finding {
  const slow = cores.filter(({ governor }) => governor !== "" && governor !== "performance");
  if (slow.length === 0) {
    const set = cores.some(({ governor }) => governor !== "");
    return ok("governor", set ? "the governor is performance" : "the kernel does not set the frequency here");
  }
  const changes = slow.filter(({ governors }) => governors.includes("performance"));
  return warn(
    "governor",
    `the governor of CPU ${formatCpuList(slow.map(({ cpu }) => cpu))} is ${list([...new Set(slow.map(({ governor }) => governor))])}`,
    "after each pause the first frames are handled at a low frequency",
    changes.length === 0
      ? "the driver offers no governor 'performance'"
      : { changes: changes.map(({ cpu }) => setCpu(cpu, "cpufreq/scaling_governor", "performance")) },
  );
}

/** A CPU that never idles needs no leave to: an lcore of the policy 'busy'. */
function idleStates(cores: readonly CpuCore[], { poll }: Plan): Finding {
  const changes: Change[] = [];
  let slowest = { name: "", latencyUs: 0 };
  for (const { cpu, idleStates } of cores) {
    for (const state of idleStates) {
      if (state.disabled || state.latencyUs <= IDLE_LATENCY_MAX_US) continue;
      if (state.latencyUs > slowest.latencyUs) slowest = state;
      changes.push(setCpu(cpu, `cpuidle/state${state.index}/disable`, "1"));
    }
  }
  if (changes.length === 0)
    return ok("idle-states", `no idle state takes more than ${IDLE_LATENCY_MAX_US} µs to leave`);
  const found = `idle state ${slowest.name} takes ${slowest.latencyUs} µs to leave, says the kernel's driver`;
  if (poll === "busy") return info("idle-states", found, "an lcore of the policy 'busy' does not idle");
  return warn("idle-states", found, "added to the first datagram after an lcore has slept", { changes });
}

function steal(cores: readonly CpuCore[]): Finding {
  const worst = cores.reduce<CpuCore | null>((most, core) => (core.steal > (most?.steal ?? 0) ? core : most), null);
  if (worst === null) return ok("steal", "no time was stolen by a hypervisor since boot");
  const found = `${(worst.steal * 100).toPrecision(2)} % of the time of CPU ${worst.cpu} since boot was stolen by the hypervisor`;
  if (worst.steal < STEAL_MAX) return info("steal", found);
  return warn(
    "steal",
    found,
    "an lcore stands still meanwhile, and its rings fill",
    "ask for CPUs of your own: nothing in this machine can change it",
  );
}

function quota({ quota }: CpuFacts, { cpus }: Plan): Finding {
  if (quota === null) return ok("cpu-quota", "no cgroup bounds the CPU time");
  const share = quota.quotaUs / quota.periodUs;
  const found = `a cgroup gives ${share.toFixed(2)} CPUs in each ${quota.periodUs / 1000} ms, throttled ${count(quota.throttled, "time")} so far`;
  if (share > cpus.length && quota.throttled === 0) return info("cpu-quota", found);
  return warn(
    "cpu-quota",
    found,
    "once it is used up every thread stands still until the next period, and the rings fill",
    "CPUQuota= of the unit, --cpus of the container, resources.limits.cpu of the pod: remove it, or give more than the lcores use",
  );
}
