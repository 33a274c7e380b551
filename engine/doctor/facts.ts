/**
 * What `lcore doctor` knows of a host before it judges: plain values, so that every judgement can be tested on a host
 * that is made up. `null` says that it could not be read, not that it is zero.
 */
import type { AttachMode, PollPolicy } from "../config.ts";
import type { Capability } from "../host/capabilities.ts";
import type { Channels, Feature, HashFlow, Rings } from "../host/ethtool.ts";

/** What came of an attempt. */
export type Outcome =
  | { readonly state: "works" }
  /** The kernel's answer: errno by name, and what it means. */
  | { readonly state: "refused"; readonly code: string; readonly message: string }
  | { readonly state: "untried"; readonly why: string };

/** What is asked of the kernel itself, whatever the interface. */
export type KernelTrial =
  | "socket"
  | "umem"
  | "busyPoll"
  | "txBudget"
  | "xskmap"
  | "program"
  | "steering"
  | "link"
  | "netdev";

export interface Limit {
  /** Infinity for "unlimited". */
  readonly soft: number;
  readonly hard: number;
}

/** How a shell reaches what was looked at. */
export interface Where {
  /** Network namespace as it was named, a name of /run/netns or a path; null for the caller's. */
  readonly netns: string | null;
  /** Whether /sys shows the namespace to a program started in it with no more ado. */
  readonly sysfs: boolean;
}

export interface IdleState {
  readonly index: number;
  readonly name: string;
  /** Time to wake up from it, microseconds, as the kernel's driver says. */
  readonly latencyUs: number;
  readonly disabled: boolean;
}

export interface CpuCore {
  readonly cpu: number;
  /** CPUs of the same core, this one included. */
  readonly siblings: readonly number[];
  /** NUMA node. */
  readonly node: number;
  /** "" where the kernel does not set the frequency. */
  readonly governor: string;
  readonly governors: readonly string[];
  readonly idleStates: readonly IdleState[];
  /** Share of the time since boot in which the hypervisor ran somebody else, 0 to 1. */
  readonly steal: number;
}

export interface CpuFacts {
  readonly online: readonly number[];
  /** isolcpus=, nohz_full= */
  readonly isolated: readonly number[];
  readonly nohzFull: readonly number[];
  /** CPUs this process may use: its affinity within its cpuset. */
  readonly allowed: readonly number[];
  /** cpu.max of the tightest cgroup above this process. */
  readonly quota: { readonly quotaUs: number; readonly periodUs: number; readonly throttled: number } | null;
  readonly cores: readonly CpuCore[];
  readonly clocksource: string;
  readonly clocksources: readonly string[];
}

/** A CPU's line of /proc/net/softnet_stat: counts since boot. */
export interface Softnet {
  readonly cpu: number;
  /** Frames lost because netdev_max_backlog of them waited already. */
  readonly dropped: number;
  /** Times the softirq had to stop with frames left. */
  readonly squeezed: number;
}

export interface FirewallChain {
  /** "ip", "ip6", "inet" … */
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly hook: "prerouting" | "input" | "forward" | "output" | "postrouting";
  /** What happens to a packet that no rule decides. */
  readonly drops: boolean;
}

export interface FirewallFacts {
  /** Base chains of nf_tables (iptables-nft's among them); null where they cannot be listed. */
  readonly chains: readonly FirewallChain[] | null;
  /** Tables of iptables-legacy. */
  readonly legacyTables: readonly string[];
  /** Entries of the connection tracking table; null where there is none. */
  readonly conntrack: { readonly count: number; readonly max: number } | null;
}

/** Sysctls looked at, by name. */
export const SYSCTLS = [
  "kernel.unprivileged_bpf_disabled",
  "net.core.bpf_jit_enable",
  "net.core.bpf_jit_harden",
  "net.core.busy_poll",
  "net.core.busy_read",
  "net.core.netdev_budget",
  "net.core.netdev_budget_usecs",
  "net.core.netdev_max_backlog",
  "net.core.rmem_default",
  "net.core.rmem_max",
  "net.core.wmem_default",
  "net.core.wmem_max",
  "net.ipv4.ip_unprivileged_port_start",
] as const;

export type Sysctl = (typeof SYSCTLS)[number];

export interface HostFacts {
  /** uname -r */
  readonly kernel: string;
  readonly version: readonly [major: number, minor: number];
  readonly trials: Readonly<Record<KernelTrial, Outcome>>;
  /** Whether the loaded program was compiled; null where none was loaded. */
  readonly jited: boolean | null;
  readonly capabilities: ReadonlySet<Capability>;
  readonly root: boolean;
  /** Whether the process is in the initial user namespace. */
  readonly initialUser: boolean;
  /** A seccomp filter watches the system calls. */
  readonly seccomp: boolean;
  /** "docker", "podman", "kubernetes", "container", or "". */
  readonly container: string;
  /** Those of /proc/sys and /sys that are mounted read-only. */
  readonly readOnly: readonly string[];
  readonly memlock: Limit;
  readonly nofile: Limit;
  readonly sysctls: Readonly<Record<Sysctl, number | null>>;
  readonly cpus: CpuFacts;
  readonly softnet: readonly Softnet[];
  /** Process of irqbalance, 0 for none seen. */
  readonly irqbalance: number;
  readonly firewall: FirewallFacts;
  /** The Ethernet interface of the default route, which an engine takes that is told none; null where there is none. */
  readonly defaultInterface: string | null;
  /** Interfaces of the namespace. */
  readonly links: readonly LinkFacts[];
}

/** An interface in brief. */
export interface LinkFacts {
  readonly name: string;
  readonly ethernet: boolean;
  readonly up: boolean;
  readonly kind: string;
  readonly driver: string;
  readonly rxQueues: number;
  /** NETDEV_XDP_ACT_* bits, null where the kernel does not tell. */
  readonly xdpFeatures: number | null;
  readonly defaultRoute: boolean;
  readonly programs: number;
}

/** A process that has a program or its link open. */
export interface Holder {
  readonly pid: number;
  readonly name: string;
}

export interface AttachedProgram {
  readonly mode: "native" | "skb" | "offload";
  readonly id: number;
  /** "" where it has none or may not be asked. */
  readonly name: string;
  readonly holders: readonly Holder[];
}

export type ModeTrial = "copy" | "native" | "zerocopy" | "skb";

export interface NapiFacts {
  readonly id: number;
  /** Receive queue it serves, -1 where the driver does not say. */
  readonly queue: number;
  /** 0 for none. */
  readonly irq: number;
  /** Kernel thread of threaded NAPI, 0 for softirq; and the CPUs it may use. */
  readonly pid: number;
  readonly threadCpus: readonly number[];
}

export interface IrqFacts {
  readonly irq: number;
  readonly name: string;
  /** Receive queue it belongs to, -1 where it is none's or nobody can tell. */
  readonly queue: number;
  /** CPUs that may serve it, and those that do. */
  readonly affinity: readonly number[];
  readonly effective: readonly number[];
}

/** Features of an interface by the kernel's names. */
export type Features = Readonly<Record<string, Feature>>;

export interface NeighbourDevice {
  readonly name: string;
  /** Path of its namespace, null where that is the interface's. */
  readonly netns: string | null;
  readonly features: Features;
}

export interface InterfaceFacts {
  readonly name: string;
  readonly ifindex: number;
  /** "veth", "bridge" …, "" for hardware. */
  readonly kind: string;
  readonly driver: string;
  readonly ethernet: boolean;
  readonly up: boolean;
  readonly carrier: boolean;
  readonly mtu: number;
  /** Bridge or bond it belongs to, "" for none. */
  readonly master: string;
  /** VLAN devices and others on top of it. */
  readonly uppers: readonly { readonly name: string; readonly kind: string }[];
  /** Why nothing may be attached to it, in words; "" where it may. */
  readonly protection: string;
  readonly programs: readonly AttachedProgram[];
  /** NETDEV_XDP_ACT_* bits that the driver claims, null where the kernel does not tell. */
  readonly xdpFeatures: number | null;
  readonly trials: Readonly<Record<ModeTrial, Outcome>>;
  /** Offloads that a trial changed and that could not be put back. */
  readonly notRestored: readonly string[];
  readonly queues: {
    /** Queues the device was made with (IFLA_NUM_RX_QUEUES), and those in use. */
    readonly allocatedRx: number;
    readonly rx: number;
    readonly tx: number;
  };
  readonly channels: Channels | null;
  readonly rings: Rings | null;
  readonly rssTable: readonly number[] | null;
  readonly rssKey: string;
  readonly hashFields: Readonly<Record<HashFlow, string | null>>;
  readonly napis: readonly NapiFacts[];
  readonly irqs: readonly IrqFacts[];
  readonly features: Features;
  readonly groFlushTimeoutNs: number | null;
  readonly napiDeferHardIrqs: number | null;
  /** CPUs of RPS by receive queue; empty arrays where it is off. */
  readonly rps: readonly (readonly number[])[];
  /** -1 where it has none. */
  readonly numaNode: number;
  /** The other end of a veth pair; "unseen" in a namespace that cannot be entered, null for another kind. */
  readonly peer: NeighbourDevice | "unseen" | null;
  /** Devices below a bridge, bond or VLAN device. */
  readonly lowers: readonly NeighbourDevice[];
  /** The larger of conf/all and conf/IF. */
  readonly rpFilter: number | null;
}

/** What the engine is meant to be: as the options of `lcore echo`, and checked against them. */
export interface Plan {
  /** CPU of each lcore. */
  readonly cpus: readonly number[];
  readonly poll: PollPolicy;
  readonly mode: AttachMode;
  /** Frames of each lcore. */
  readonly frames: number;
}

export interface Facts {
  readonly where: Where;
  readonly plan: Plan;
  readonly host: HostFacts;
  readonly interface: InterfaceFacts | null;
}
