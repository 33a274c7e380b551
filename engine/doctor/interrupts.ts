/** Findings about interrupts and softirqs: where they run, who moves them, what they lose. */
import { formatCpuList } from "../host/cpu-list.ts";
import { setIrq, setSetting, setSysctl } from "./change.ts";
import type { Facts, HostFacts, InterfaceFacts, IrqFacts, Plan } from "./facts.ts";
import { count, type Finding, info, list, ok, onHost, sysctlValues, warn } from "./finding.ts";
import { lcoreOfQueue } from "./queues.ts";

/** As the change that brought preferred busy polling has it (Linux 5.11, commit 7fd3253a7de6). */
const BUSY_DEFER_IRQS = 2;
const BUSY_FLUSH_NS = 200_000;
const BACKLOG_MAX = 16_384;

export function interruptFindings({ host, interface: dev, plan }: Facts): Finding[] {
  const own = dev === null || !dev.ethernet ? [] : [...affinity(dev, plan), deferral(dev, plan), rps(dev)];
  return [...own, irqbalance(host, dev), backlog(host), budget(host)];
}

/** Frames of a queue are best put into the caches of the CPU that reads them, and never into another lcore's time. */
function affinity({ irqs }: InterfaceFacts, { cpus }: Plan): Finding[] {
  const receiving = irqs.filter(({ queue }) => queue >= 0);
  if (receiving.length === 0) {
    return [info("irqs", "no interrupts of its own", "softirqs run on the CPU that sends (veth), or nobody can tell")];
  }
  const home = (irq: IrqFacts): number => lcoreOfQueue(irq.queue, cpus);
  const runs = (irq: IrqFacts): readonly number[] => (irq.effective.length > 0 ? irq.effective : irq.affinity);
  const words = receiving.map((irq) => `queue ${irq.queue}: IRQ ${irq.irq} on CPU ${formatCpuList(runs(irq))}`);
  const stray = receiving.filter((irq) => runs(irq).some((cpu) => cpu !== home(irq) && cpus.includes(cpu)));
  const found = list(words);
  if (stray.length === 0) return [ok("irqs", found)];
  return [
    warn("irqs", found, "interrupts and softirqs of one lcore's queue take the time of another lcore", {
      changes: stray.map((irq) => setIrq(irq.irq, [home(irq)])),
    }),
  ];
}

/** gro_flush_timeout and napi_defer_hard_irqs: what busy polling needs is what sleeping must not have. */
function deferral({ name, groFlushTimeoutNs, napiDeferHardIrqs, napis }: InterfaceFacts, { poll }: Plan): Finding {
  if (groFlushTimeoutNs === null || napiDeferHardIrqs === null)
    return info("irq-deferral", "gro_flush_timeout cannot be read");
  const found = `napi_defer_hard_irqs ${napiDeferHardIrqs}, gro_flush_timeout ${groFlushTimeoutNs} ns`;
  const deferred = groFlushTimeoutNs > 0 && napiDeferHardIrqs > 0;
  if (poll === "busy") {
    if (deferred) return ok("irq-deferral", found);
    if (napis.length === 0) return ok("irq-deferral", `${found}; there is no NAPI instance to poll`);
    return warn("irq-deferral", found, "the queues' interrupts stay on while an lcore polls: both do the same work", {
      changes: [
        ...(napiDeferHardIrqs > 0 ? [] : [setSetting(name, "napi_defer_hard_irqs", BUSY_DEFER_IRQS)]),
        ...(groFlushTimeoutNs > 0 ? [] : [setSetting(name, "gro_flush_timeout", BUSY_FLUSH_NS)]),
      ],
    });
  }
  if (!deferred) return ok("irq-deferral", found);
  const cost = `up to ${groFlushTimeoutNs / 1000} µs until a datagram's interrupt comes, while an lcore of the policy '${poll}' sleeps`;
  return warn("irq-deferral", found, cost, { changes: [setSetting(name, "napi_defer_hard_irqs", 0)] });
}

function rps({ name, rps }: InterfaceFacts): Finding {
  const spread = rps.flatMap((cpus, queue) => (cpus.length > 0 ? [queue] : []));
  if (spread.length === 0) return ok("rps", "RPS is off");
  return warn(
    "rps",
    `RPS spreads queue ${formatCpuList(spread)} over CPUs ${formatCpuList(rps[spread[0]] ?? [])}`,
    "in skb mode each frame is handed to another CPU's backlog before the program sees it",
    { changes: spread.map((queue) => setSetting(name, `queues/rx-${queue}/rps_cpus`, 0)) },
  );
}

function irqbalance({ irqbalance }: HostFacts, dev: InterfaceFacts | null): Finding {
  if (irqbalance === 0) return ok("irqbalance", "irqbalance is not running");
  const found = `irqbalance is running (process ${irqbalance})`;
  if (dev !== null && dev.irqs.length === 0)
    return info("irqbalance", found, `${dev.name} has no interrupts for it to move`);
  return warn(
    "irqbalance",
    found,
    "it moves interrupts, also onto the lcores' CPUs, whatever was set before",
    onHost("systemctl disable --now irqbalance"),
  );
}

/** Frames of veth, of loopback and of RPS wait in a CPU's backlog, before the program in skb mode. */
function backlog({ softnet, sysctls }: HostFacts): Finding {
  const dropping = softnet.filter(({ dropped }) => dropped > 0);
  if (dropping.length === 0) return ok("backlog", "no frame was dropped from a CPU's backlog since boot");
  const total = dropping.reduce((sum, { dropped }) => sum + dropped, 0);
  const now = sysctls["net.core.netdev_max_backlog"];
  const found = `${count(total, "frame")} dropped from the backlog of CPU ${formatCpuList(dropping.map(({ cpu }) => cpu))} since boot`;
  const cost = "frames of veth and of RPS that no counter of the engine's knows of";
  if (now === null) return info("backlog", found, `${cost}; net.core.netdev_max_backlog is the initial namespace's`);
  if (now >= BACKLOG_MAX) return info("backlog", `${found}; net.core.netdev_max_backlog is ${now}`, cost);
  return warn("backlog", `${found}; net.core.netdev_max_backlog is ${now}`, cost, {
    changes: [setSysctl("net.core.netdev_max_backlog", BACKLOG_MAX)],
  });
}

function budget({ softnet, sysctls }: HostFacts): Finding {
  const squeezed = softnet.reduce((sum, cpu) => sum + cpu.squeezed, 0);
  const values = sysctlValues(sysctls, "net.core.netdev_budget", "net.core.netdev_budget_usecs");
  const found = `softirqs ran out of their budget ${count(squeezed, "time")} since boot; ${values}`;
  return squeezed === 0
    ? ok("softirq-budget", found)
    : info("softirq-budget", found, "the rest of the frames waited for the next softirq");
}
