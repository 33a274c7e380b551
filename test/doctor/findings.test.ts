/** Each finding on hosts that are made up: it appears with its trap, says what it costs, and has its command. */
import { describe, expect, test } from "bun:test";
import { inShell, shellLine } from "../../engine/doctor/change.ts";
import { diagnose, type TopicFinding, verdict } from "../../engine/doctor/diagnose.ts";
import type { HostFacts, InterfaceFacts } from "../../engine/doctor/facts.ts";
import { planOf } from "../../engine/doctor/tune.ts";
import { facts, fixed, host, nic, on, refused, type Spoilt } from "./made-up.ts";

const { cpus, sysctls, trials } = host;
const without = (...names: string[]): HostFacts["capabilities"] =>
  new Set([...host.capabilities].filter((name) => !names.includes(name)));
const cores = (change: Partial<HostFacts["cpus"]["cores"][number]>): HostFacts["cpus"]["cores"] =>
  cpus.cores.map((core) => (core.cpu === 3 ? { ...core, ...change } : core));
const modes = (change: Partial<InterfaceFacts["trials"]>): Partial<InterfaceFacts> => ({
  trials: { ...nic.trials, ...change },
});
const veth = (peer: Record<string, typeof on>): Partial<InterfaceFacts> => ({
  kind: "veth",
  driver: "veth",
  peer: { name: "veth7", netns: null, features: peer },
});

/** Lines that are shown for a finding. */
const lines = ({ changes, byHand }: TopicFinding, { where } = facts()): string[] =>
  [...changes.map(shellLine), ...byHand].map((line) => inShell(line, where));

/** id, level, the trap, words of the finding, and the commands; "by hand" before those that tune does not run. */
const TRAPS: [id: string, level: string, trap: Spoilt, words: string, ...commands: string[]][] = [
  ["kernel", "fail", { host: { kernel: "5.10.0", version: [5, 10] } }, "5.14"],
  ["af-xdp", "fail", { host: { trials: { ...trials, socket: refused("EAFNOSUPPORT") } } }, "CONFIG_XDP_SOCKETS"],
  ["xskmap", "fail", { host: { trials: { ...trials, xskmap: refused("EPERM") }, seccomp: true } }, "seccomp"],
  ["xdp-program", "fail", { host: { trials: { ...trials, program: refused("ENOSYS") } } }, "seccomp"],
  [
    "steering",
    "fail",
    { host: { trials: { ...trials, steering: refused("EPERM") }, initialUser: false } },
    "user namespace",
  ],
  ["xdp-link", "fail", { host: { trials: { ...trials, link: refused("EINVAL") } } }, "Linux 5.9"],
  ["xdp-link", "info", { host: { trials: { ...trials, link: { state: "untried", why: "no" } } } }, "not tried"],
  ["bpf-jit", "warn", { host: { jited: false } }, "interpret", "sysctl -w net.core.bpf_jit_enable=1"],
  [
    "bpf-jit",
    "warn",
    { host: { sysctls: { ...sysctls, "net.core.bpf_jit_harden": 2 } } },
    "blinded",
    "sysctl -w net.core.bpf_jit_harden=1",
  ],
  ["busy-poll", "info", { host: { trials: { ...trials, busyPoll: refused("EPERM") } } }, "'busy' cannot start"],
  [
    "busy-poll",
    "fail",
    { plan: { poll: "busy" }, host: { trials: { ...trials, busyPoll: refused("EPERM") } } },
    "'busy'",
  ],
  ["tx-budget", "info", { host: { trials: { ...trials, txBudget: refused("ENOPROTOOPT") } } }, "6.17"],
  ["netdev", "info", { host: { trials: { ...trials, netdev: refused("ENOENT") } } }, "6.3"],

  [
    "capabilities",
    "fail",
    { host: { capabilities: without("CAP_BPF", "CAP_NET_RAW") } },
    "missing: CAP_NET_RAW and CAP_BPF",
    `by hand: setcap cap_net_raw,cap_net_admin,cap_bpf,cap_perfmon,cap_ipc_lock+ep ${process.execPath}`,
  ],
  ["user-namespace", "fail", { host: { initialUser: false } }, "rootless"],
  ["container", "info", { host: { container: "docker" } }, "docker"],
  ["container", "info", { host: { readOnly: ["/proc/sys"] } }, "/proc/sys read-only"],
  [
    "memlock",
    "fail",
    { host: { capabilities: without("CAP_IPC_LOCK") } },
    "8 MiB, frames take 32 MiB for 2 lcores",
    "by hand: prlimit --pid $$ --memlock=33554432:33554432",
  ],
  ["nofile", "info", { host: { nofile: { soft: 1024, hard: 1024 } } }, "1,024"],
  ["low-ports", "info", { host: { capabilities: without("CAP_NET_BIND_SERVICE") } }, "below 1024"],
  ["namespaces", "info", { host: { capabilities: without("CAP_SYS_ADMIN") } }, "CAP_SYS_ADMIN"],
  [
    "unprivileged-bpf",
    "warn",
    { host: { sysctls: { ...sysctls, "kernel.unprivileged_bpf_disabled": 0 } } },
    "every user",
    "by hand: sysctl -w kernel.unprivileged_bpf_disabled=2",
  ],

  ["interface", "fail", { dev: { ethernet: false } }, "not Ethernet"],
  ["link", "warn", { dev: { up: false, protection: "it is down" } }, "down", "by hand: ip link set dev eth1 up"],
  ["link", "warn", { dev: { carrier: false } }, "no carrier"],
  ["mtu", "fail", { dev: { mtu: 9000 } }, "3818", "by hand: ip link set dev eth1 mtu 3818"],
  [
    "xdp-programs",
    "fail",
    { dev: { protection: "x", programs: [{ mode: "skb", id: 97, name: "drop", holders: [] }] } },
    'program 97 "drop" in skb mode',
    "by hand: ip link set dev eth1 xdpgeneric off",
  ],
  [
    "xdp-programs",
    "fail",
    {
      dev: { protection: "x", programs: [{ mode: "native", id: 9, name: "", holders: [{ pid: 7, name: "cilium" }] }] },
    },
    "stop its owner, process 7",
  ],
  [
    "xdp-programs",
    "info",
    {
      dev: {
        protection: "x",
        programs: [{ mode: "native", id: 9, name: "lcore", holders: [{ pid: 7, name: "bun" }] }],
      },
    },
    "process 7 (bun)",
  ],
  ["master", "warn", { dev: { master: "br0" } }, "a port of br0"],
  ["uppers", "info", { dev: { uppers: [{ name: "eth1.7", kind: "vlan" }] } }, "eth1.7"],

  ["provider", "info", { host: { capabilities: without("CAP_BPF") } }, "kernel sockets: AF_XDP needs CAP_BPF"],
  ["provider", "info", { dev: { mtu: 9000 } }, "kernel sockets: interface eth1: packets of its MTU 9000"],
  ["provider", "info", { host: { trials: { ...trials, umem: refused("ENFILE") } } }, "'auto' fails"],
  ["provider", "info", { dev: { protection: "it carries the default route" } }, "the engine on eth1"],

  ["modes", "info", { dev: { protection: "it carries the default route" } }, "default route"],
  ["native", "info", { dev: modes({ native: refused("EOPNOTSUPP") }) }, "skb mode"],
  ["mode", "warn", { dev: modes({ native: refused("EOPNOTSUPP") }) }, "falls back to skb mode"],
  ["mode", "fail", { plan: { mode: "native" }, dev: modes({ native: refused("ERANGE") }) }, "--mode native"],
  ["mode", "fail", { dev: modes({ native: refused("ERANGE") }) }, "--mode skb"],
  ["mode", "fail", { plan: { mode: "zerocopy" }, dev: modes({ zerocopy: refused("EOPNOTSUPP") }) }, "zerocopy"],
  ["mode", "info", { dev: modes({ zerocopy: refused("EOPNOTSUPP") }) }, "native mode, copy"],
  ["mode", "info", {}, "native mode, zero copy"],
  ["zero-copy", "info", { dev: modes({ zerocopy: refused("EOPNOTSUPP") }) }, "copied once"],
  ["copy", "fail", { dev: modes({ copy: refused("EBUSY") }) }, "another process"],
  ["copy", "fail", { dev: modes({ copy: refused("EINVAL") }) }, "no lcore"],
  ["skb", "fail", { dev: modes({ native: refused("EOPNOTSUPP"), skb: refused("EOPNOTSUPP") }) }, "in no mode"],
  ["trial", "warn", { dev: { notRestored: ["rx-lro"] } }, "rx-lro"],

  [
    "queues",
    "fail",
    { dev: { queues: { allocatedRx: 8, rx: 1, tx: 1 } } },
    "1 receive queue (of 8 that could be in use), 1 transmit queue, and 2 lcores",
    "ethtool -L eth1 combined 2",
  ],
  ["queues", "fail", { dev: { channels: null, queues: { allocatedRx: 1, rx: 1, tx: 1 } } }, "fewer lcores"],
  [
    "queues",
    "warn",
    {
      dev: {
        queues: { allocatedRx: 4, rx: 4, tx: 2 },
        channels: { ...(nic.channels as NonNullable<InterfaceFacts["channels"]>), combinedMax: 0, rxMax: 4, txMax: 4 },
      },
    },
    "queues 2-3 is not sent",
    "ethtool -L eth1 rx 4 tx 4",
  ],
  ["napi", "info", { dev: { napis: [] } }, "no NAPI instances"],
  ["rss", "warn", { dev: { rssTable: [0, 0, 0, 0] } }, "leaves out queue 1", "by hand: ethtool -X eth1 equal 2"],
  [
    "rss-udp4",
    "warn",
    { dev: { hashFields: { udp4: "sd", udp6: "sdfn" } } },
    "addresses alone",
    "ethtool -N eth1 rx-flow-hash udp4 sdfn",
  ],
  [
    "rings",
    "warn",
    { dev: { rings: { rxMax: 4096, txMax: 4096, rx: 512, tx: 512 } } },
    "512",
    "ethtool -G eth1 rx 2048",
  ],

  ["merging", "warn", { dev: { features: { "rx-gro-hw": on } } }, "rx-gro-hw", "ethtool -K eth1 rx-gro-hw off"],
  ["merging", "warn", { dev: { features: { "rx-lro": fixed } } }, "does not let it be turned off"],
  [
    "lower-merging",
    "warn",
    { dev: { lowers: [{ name: "eth9", netns: null, features: { "rx-gro": on, "rx-gro-list": on } }] } },
    "eth9, below eth1",
    "ethtool -K eth9 rx-gro-list off",
  ],
  ["rx-vlan", "info", { dev: { features: { "rx-vlan-hw-parse": on } } }, "VLAN"],
  [
    "rx-vlan",
    "warn",
    { dev: { features: { "rx-vlan-hw-parse": on }, uppers: [{ name: "eth1.7", kind: "vlan" }] } },
    "VLAN",
    "ethtool -K eth1 rx-vlan-hw-parse off",
  ],
  ["checksums", "info", { dev: { driver: "virtio_net" } }, "UdpPartialChecksums"],
  ["veth-peer", "info", { dev: { kind: "veth", peer: "unseen" } }, "cannot be entered"],
  [
    "peer-segmentation",
    "warn",
    { dev: veth({ "tx-udp-segmentation": on }) },
    "UDP_SEGMENT",
    "ethtool -K veth7 tx-udp-segmentation off",
  ],
  [
    "peer-vlan",
    "warn",
    { dev: { ...veth({}), peer: { name: "veth7", netns: "/run/netns/a", features: { "tx-vlan-hw-insert": on } } } },
    "untagged",
    "by hand: nsenter --net=/run/netns/a ethtool -K veth7 tx-vlan-hw-insert off",
  ],
  ["peer-checksums", "info", { dev: veth({ "tx-checksum-ip-generic": on }) }, "unfinished"],

  ["irqs", "info", { dev: { irqs: [] } }, "no interrupts"],
  [
    "irqs",
    "warn",
    { dev: { irqs: nic.irqs.map((irq) => ({ ...irq, affinity: [0, 1, 2, 3], effective: [2] })) } },
    "another lcore",
    "echo 3 > /proc/irq/41/smp_affinity_list",
  ],
  [
    "irq-deferral",
    "warn",
    { dev: { groFlushTimeoutNs: 200_000, napiDeferHardIrqs: 2 } },
    "up to 200 µs",
    "echo 0 > /sys/class/net/eth1/napi_defer_hard_irqs",
  ],
  [
    "irq-deferral",
    "warn",
    { plan: { poll: "busy" } },
    "stay on",
    "echo 2 > /sys/class/net/eth1/napi_defer_hard_irqs",
    "echo 200000 > /sys/class/net/eth1/gro_flush_timeout",
  ],
  [
    "rps",
    "warn",
    { dev: { rps: [[], [0, 1]] } },
    "spreads queue 1 over CPUs 0-1",
    "echo 0 > /sys/class/net/eth1/queues/rx-1/rps_cpus",
  ],
  ["irqbalance", "warn", { host: { irqbalance: 77 } }, "process 77", "by hand: systemctl disable --now irqbalance"],
  [
    "backlog",
    "warn",
    { host: { softnet: [{ cpu: 1, dropped: 12, squeezed: 0 }] } },
    "12 frames dropped from the backlog of CPU 1",
    "sysctl -w net.core.netdev_max_backlog=16384",
  ],
  ["softirq-budget", "info", { host: { softnet: [{ cpu: 1, dropped: 0, squeezed: 3 }] } }, "3 times"],

  ["cpus", "fail", { plan: { cpus: [7] } }, "not online"],
  ["cpus", "fail", { host: { cpus: { ...cpus, allowed: [0, 1] } } }, "taskset"],
  ["cpus", "warn", { host: { cpus: { ...cpus, allowed: [2, 3] } } }, "none is left"],
  ["isolation", "info", { host: { cpus: { ...cpus, isolated: [] } } }, "not isolated"],
  ["isolation", "warn", { plan: { poll: "busy" }, host: { cpus: { ...cpus, nohzFull: [] } } }, "isolcpus=2-3"],
  ["smt", "info", { host: { cpus: { ...cpus, cores: cores({ siblings: [1, 3] }) } } }, "cpu1/online"],
  ["smt", "warn", { host: { cpus: { ...cpus, cores: cores({ siblings: [2, 3] }) } } }, "threads of one core"],
  ["numa", "warn", { dev: { numaNode: 1 } }, "another NUMA node"],
  [
    "governor",
    "warn",
    { host: { cpus: { ...cpus, cores: cores({ governor: "powersave" }) } } },
    "CPU 3 is powersave",
    "echo performance > /sys/devices/system/cpu/cpu3/cpufreq/scaling_governor",
  ],
  [
    "idle-states",
    "warn",
    {
      host: {
        cpus: { ...cpus, cores: cores({ idleStates: [{ index: 3, name: "C6", latencyUs: 133, disabled: false }] }) },
      },
    },
    "C6 takes 133 µs",
    "echo 1 > /sys/devices/system/cpu/cpu3/cpuidle/state3/disable",
  ],
  ["steal", "info", { host: { cpus: { ...cpus, cores: cores({ steal: 0.001 }) } } }, "0.10 %"],
  ["steal", "warn", { host: { cpus: { ...cpus, cores: cores({ steal: 0.05 }) } } }, "5.0 %"],
  [
    "cpu-quota",
    "warn",
    { host: { cpus: { ...cpus, quota: { quotaUs: 150_000, periodUs: 100_000, throttled: 4 } } } },
    "1.50 CPUs in each 100 ms, throttled 4 times",
  ],
  [
    "clocksource",
    "warn",
    { host: { cpus: { ...cpus, clocksource: "hpet" } } },
    "every 16 turns",
    "by hand: echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource",
  ],

  ["busy-sysctls", "info", { host: { sysctls: { ...sysctls, "net.core.busy_read": 50 } } }, "busy_read 50"],
  [
    "receive-buffers",
    "warn",
    { host: { sysctls: { ...sysctls, "net.core.rmem_max": 65_536 } } },
    "SO_RCVBUF",
    "sysctl -w net.core.rmem_max=212992",
  ],
  [
    "send-buffers",
    "warn",
    { host: { sysctls: { ...sysctls, "net.core.wmem_default": 65_536 } } },
    "copy mode",
    "sysctl -w net.core.wmem_default=212992",
  ],
  [
    "firewall",
    "warn",
    {
      host: {
        firewall: {
          ...host.firewall,
          chains: [{ family: "inet", table: "filter", name: "input", hook: "input", drops: true }],
        },
      },
    },
    "inet filter input (input)",
  ],
  ["firewall", "info", { host: { firewall: { ...host.firewall, chains: null } } }, "cannot be listed"],
  ["iptables", "info", { host: { firewall: { ...host.firewall, legacyTables: ["filter", "nat"] } } }, "filter and nat"],
  [
    "conntrack",
    "warn",
    { host: { firewall: { ...host.firewall, conntrack: { count: 950, max: 1000 } } } },
    "950 of 1000",
    "sysctl -w net.netfilter.nf_conntrack_max=2000",
  ],
  ["rp-filter", "info", { dev: { rpFilter: 1 } }, "strict"],
  ["interfaces", "fail", { dev: null }, "no Ethernet interface"],
];

test("a host without a trap: nothing to warn of, nothing to do", () => {
  const findings = diagnose(facts());
  expect(findings.filter(({ level }) => level === "warn" || level === "fail")).toEqual([]);
  expect(verdict(findings)).toBe(0);
  expect(planOf(findings)).toEqual([]);
});

describe("traps", () => {
  test.each(TRAPS)("%s: %s", (id, level, trap, words, ...commands) => {
    const findings = diagnose(facts(trap));
    const found = findings.filter((finding) => finding.id === id);
    expect(found.map((finding) => finding.level)).toEqual([level as TopicFinding["level"]]);
    const [finding] = found;
    expect(`${finding.found} ${finding.cost} ${finding.noCommand}`).toContain(words);
    expect(lines(finding)).toEqual(commands.map((command) => command.replace("by hand: ", "")));
    const byHand = commands.filter((command) => command.startsWith("by hand: "));
    expect(finding.byHand.length).toBe(byHand.length);
  });

  test("every trap of the baseline's findings is known here", () => {
    const tested = new Set(TRAPS.map(([id]) => id));
    const ids = [facts(), facts({ dev: { kind: "veth", peer: "unseen" } })].flatMap(diagnose).map(({ id }) => id);
    const informative = ["xdp-features"];
    expect(
      [...new Set(ids)].filter((id) => !tested.has(id) && !id.startsWith("rss-") && !informative.includes(id)),
    ).toEqual([]);
  });
});

test("what is to be mended has a command or the reason why not; what is not, has neither", () => {
  for (const [, , trap] of TRAPS) {
    for (const finding of diagnose(facts(trap))) {
      const ways = finding.changes.length + finding.byHand.length + (finding.noCommand === "" ? 0 : 1);
      const isTrap = finding.level === "warn" || finding.level === "fail";
      expect({ id: finding.id, ways: Math.min(ways, 1) }).toEqual({ id: finding.id, ways: isTrap ? 1 : 0 });
      if (isTrap) expect(finding.cost).not.toBe("");
    }
  }
});

test("the exit status: 0 all fine, 1 warnings, 2 the engine cannot run", () => {
  const status = (trap: Spoilt): number => verdict(diagnose(facts(trap)));
  expect(status({})).toBe(0);
  expect(status({ dev: { rpFilter: 1 } })).toBe(0);
  expect(status({ dev: { carrier: false } })).toBe(1);
  expect(status({ dev: { carrier: false, mtu: 9000 } })).toBe(2);
});

test("without an interface: a line for each that could be one", () => {
  const link = { name: "eth1", ethernet: true, up: true, kind: "", driver: "ice", rxQueues: 8, xdpFeatures: 1 | 2 };
  const links = [
    { ...link, defaultRoute: true, programs: 0 },
    { ...link, name: "lo", ethernet: false, defaultRoute: false, programs: 0 },
    { ...link, name: "eth2", up: false, xdpFeatures: null, defaultRoute: false, programs: 1 },
  ];
  const findings = diagnose(facts({ dev: null, host: { links } })).filter(({ topic }) => topic === "candidates");
  expect(findings.map(({ id, found }) => `${id}: ${found}`)).toEqual([
    "interface eth1: ice, up, 8 queues, native XDP, carries the default route",
    "interface eth2: ice, down, 8 queues, the kernel does not tell, has an XDP program",
  ]);
});
