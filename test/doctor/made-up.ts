/** A host that does not exist: everything as it should be, to be spoilt in one place by a test. */
import type { Facts, HostFacts, InterfaceFacts, Outcome, Plan } from "../../engine/doctor/facts.ts";

const works: Outcome = { state: "works" };
export const refused = (code: string, message = `call: ${code}`): Outcome => ({ state: "refused", code, message });

export const plan: Plan = { cpus: [2, 3], poll: "adaptive", mode: "auto", frames: 8192 };

const core = (cpu: number): HostFacts["cpus"]["cores"][number] => ({
  cpu,
  siblings: [cpu],
  node: 0,
  governor: "performance",
  governors: ["performance", "powersave"],
  idleStates: [{ index: 0, name: "POLL", latencyUs: 0, disabled: false }],
  steal: 0,
});

export const host: HostFacts = {
  kernel: "6.18.0",
  version: [6, 18],
  trials: {
    socket: works,
    umem: works,
    busyPoll: works,
    txBudget: works,
    xskmap: works,
    program: works,
    steering: works,
    link: works,
    netdev: works,
  },
  jited: true,
  capabilities: new Set([
    "CAP_NET_RAW",
    "CAP_NET_ADMIN",
    "CAP_BPF",
    "CAP_PERFMON",
    "CAP_IPC_LOCK",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_ADMIN",
  ]),
  root: true,
  initialUser: true,
  seccomp: false,
  container: "",
  readOnly: [],
  memlock: { soft: 8 << 20, hard: 8 << 20 },
  nofile: { soft: 65_536, hard: 65_536 },
  sysctls: {
    "kernel.unprivileged_bpf_disabled": 2,
    "net.core.bpf_jit_enable": 1,
    "net.core.bpf_jit_harden": 0,
    "net.core.busy_poll": 0,
    "net.core.busy_read": 0,
    "net.core.netdev_budget": 300,
    "net.core.netdev_budget_usecs": 8000,
    "net.core.netdev_max_backlog": 1000,
    "net.core.rmem_default": 212_992,
    "net.core.rmem_max": 212_992,
    "net.core.wmem_default": 212_992,
    "net.core.wmem_max": 212_992,
    "net.ipv4.ip_unprivileged_port_start": 1024,
  },
  cpus: {
    online: [0, 1, 2, 3],
    isolated: [2, 3],
    nohzFull: [2, 3],
    allowed: [0, 1, 2, 3],
    quota: null,
    cores: [0, 1, 2, 3].map(core),
    clocksource: "tsc",
    clocksources: ["tsc", "hpet"],
  },
  softnet: [0, 1, 2, 3].map((cpu) => ({ cpu, dropped: 0, squeezed: 0 })),
  irqbalance: 0,
  firewall: { chains: [], legacyTables: [], conntrack: null },
  defaultInterface: "eth1",
  links: [],
};

/** A NIC of two queues whose interrupts are where they belong. */
export const nic: InterfaceFacts = {
  name: "eth1",
  ifindex: 5,
  kind: "",
  driver: "ice",
  ethernet: true,
  up: true,
  carrier: true,
  mtu: 1500,
  master: "",
  uppers: [],
  protection: "",
  programs: [],
  xdpFeatures: 1 | 2 | 8,
  trials: { copy: works, native: works, zerocopy: works, skb: works },
  notRestored: [],
  queues: { allocatedRx: 2, rx: 2, tx: 2 },
  channels: { rxMax: 0, txMax: 0, otherMax: 1, combinedMax: 8, rx: 0, tx: 0, other: 1, combined: 2 },
  rings: { rxMax: 4096, txMax: 4096, rx: 2048, tx: 2048 },
  rssTable: [0, 1, 0, 1],
  rssKey: "6d5a56da255b0ec2",
  hashFields: { udp4: "sdfn", udp6: "sdfn" },
  napis: [
    { id: 8193, queue: 0, irq: 40, pid: 0, threadCpus: [] },
    { id: 8194, queue: 1, irq: 41, pid: 0, threadCpus: [] },
  ],
  irqs: [
    { irq: 40, name: "ice-eth1-TxRx-0", queue: 0, affinity: [2], effective: [2] },
    { irq: 41, name: "ice-eth1-TxRx-1", queue: 1, affinity: [3], effective: [3] },
  ],
  features: {},
  groFlushTimeoutNs: 0,
  napiDeferHardIrqs: 0,
  rps: [[], []],
  numaNode: 0,
  peer: null,
  lowers: [],
  rpFilter: 0,
};

export interface Spoilt {
  plan?: Partial<Plan>;
  host?: Partial<HostFacts>;
  /** Null: the host alone is looked at. */
  dev?: Partial<InterfaceFacts> | null;
}

export const facts = (spoilt: Spoilt = {}): Facts => ({
  where: { netns: null, sysfs: true },
  plan: { ...plan, ...spoilt.plan },
  host: { ...host, ...spoilt.host },
  interface: spoilt.dev === null ? null : { ...nic, ...spoilt.dev },
});

/** A feature of ethtool that is on and may be turned off. */
export const on = { active: true, requested: true, changeable: true };
/** One that the driver does not let go. */
export const fixed = { active: true, requested: true, changeable: false };
