/** Changes as shell lines, in whatever namespace, and what a state file may say. */
import { expect, test } from "bun:test";
import * as change from "../../engine/doctor/change.ts";
import type { Where } from "../../engine/doctor/facts.ts";

const HERE: Where = { netns: null, sysfs: true };

test.each([
  [change.setSysctl("net.core.netdev_max_backlog", 4096), "sysctl -w net.core.netdev_max_backlog=4096"],
  [change.setSetting("eth1", "gro_flush_timeout", 20), "echo 20 > /sys/class/net/eth1/gro_flush_timeout"],
  [change.setIrq(40, [3, 2, 5]), "echo 2-3,5 > /proc/irq/40/smp_affinity_list"],
  [
    change.setCpu(3, "cpufreq/scaling_governor", "performance"),
    "echo performance > /sys/devices/system/cpu/cpu3/cpufreq/scaling_governor",
  ],
  [change.setChannels("eth1", { rx: 2, tx: 4 }), "ethtool -L eth1 rx 2 tx 4"],
  [change.setRings("eth1", { rx: 2048 }), "ethtool -G eth1 rx 2048"],
  [change.setFeatures("eth1", { "rx-lro": false, "rx-gro": true }), "ethtool -K eth1 rx-lro off rx-gro on"],
  [change.setHash("eth1", "udp6", "sdfn"), "ethtool -N eth1 rx-flow-hash udp6 sdfn"],
])("a change is one line", (made, line) => {
  expect(change.inShell(change.shellLine(made), HERE)).toBe(line);
});

test("a line goes where it belongs", () => {
  const offload = change.shellLine(change.setFeatures("eth1", { "rx-lro": false }));
  const setting = change.shellLine(change.setSetting("eth1", "gro_flush_timeout", 0));
  const irq = change.shellLine(change.setIrq(40, [3]));
  const named = { netns: "blue", sysfs: false };
  expect(change.inShell(offload, named)).toBe("ip netns exec blue ethtool -K eth1 rx-lro off");
  expect(change.inShell(setting, named)).toBe(
    "ip netns exec blue sh -c 'echo 0 > /sys/class/net/eth1/gro_flush_timeout'",
  );
  expect(change.inShell(irq, named)).toBe("echo 3 > /proc/irq/40/smp_affinity_list");
  const path = { netns: "/proc/7/ns/net", sysfs: false };
  expect(change.inShell(offload, path)).toBe("nsenter --net=/proc/7/ns/net ethtool -K eth1 rx-lro off");
  expect(change.inShell(setting, path)).toBe(
    "nsenter --net=/proc/7/ns/net unshare -m sh -c 'mount -t sysfs sysfs /sys && echo 0 > /sys/class/net/eth1/gro_flush_timeout'",
  );
  // A process that was put into a namespace with somebody else's /sys.
  expect(change.inShell(offload, { netns: null, sysfs: false })).toBe("ethtool -K eth1 rx-lro off");
  expect(change.inShell(setting, { netns: null, sysfs: false })).toStartWith("unshare -m sh -c 'mount -t sysfs");
});

test("sysctls of the machine are set outside of the namespace, the others in it", () => {
  const shown = (name: string): string =>
    change.inShell(change.shellLine(change.setSysctl(name, 1)), { netns: "blue", sysfs: false });
  expect(shown("net.core.bpf_jit_enable")).toBe("sysctl -w net.core.bpf_jit_enable=1");
  expect(shown("net.netfilter.nf_conntrack_max")).toBe("sysctl -w net.netfilter.nf_conntrack_max=1");
  expect(shown("net.ipv4.ip_default_ttl")).toBe("ip netns exec blue sysctl -w net.ipv4.ip_default_ttl=1");
});
