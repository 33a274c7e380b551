import { describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import fc from "fast-check";
import { formatCpuList, parseCpuList } from "../../../engine/host/cpu-list.ts";
import { cpuSet, irqAffinity, Sysfs } from "../../../engine/host/sysfs.ts";
import { makeHosts, requires } from "../../support/hosts.ts";

describe("CPU lists", () => {
  test("format and parse are inverse", () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(200), { maxLength: 60 }), (cpus) => {
        expect(parseCpuList(formatCpuList(cpus))).toEqual(cpus.toSorted((a, b) => a - b));
      }),
    );
  });

  test("the kernel's notation", () => {
    expect(parseCpuList("0-3,8\n")).toEqual([0, 1, 2, 3, 8]);
    expect(parseCpuList("\n")).toEqual([]);
    expect(formatCpuList([8, 1, 0, 2])).toBe("0-2,8");
    for (const bad of ["3-1", "a", "1,,2", "-1", "0-99999"]) expect(() => parseCpuList(bad)).toThrow(TypeError);
  });

  test("online CPUs are possible ones", () => {
    const possible = cpuSet("possible");
    expect(cpuSet("online").length).toBeGreaterThan(0);
    for (const cpu of [...cpuSet("online"), ...cpuSet("isolated")]) expect(possible).toContain(cpu);
  });
});

describe.skipIf(requires("veth") !== "")("Sysfs", () => {
  test("shows its own namespace and writes there", () => {
    const hosts = makeHosts({ queues: 2, ipv6: false });
    const sysfs = hosts.a.ns.run(() => Sysfs.open());
    try {
      expect(sysfs.interfaces().sort()).toEqual(["lo", "veth0"]);
      expect(Sysfs.mounted().interfaces()).not.toContain("veth0");
      expect(sysfs.queues("veth0")).toEqual({ rx: 2, tx: 2 });
      sysfs.setGroFlushTimeoutNs("veth0", 20_000);
      expect(sysfs.groFlushTimeoutNs("veth0")).toBe(20_000);
      sysfs.setNapiDeferHardIrqs("veth0", 2);
      expect(sysfs.napiDeferHardIrqs("veth0")).toBe(2);
      // veth has NAPI instances, to be threaded or not, only with GRO or XDP.
      expect(() => sysfs.setThreadedNapi("veth0", true)).toThrow();
      hosts.a.ethtool.setOffloads("veth0", { gro: true });
      expect(sysfs.threadedNapi("veth0")).toBe(false);
      sysfs.setThreadedNapi("veth0", true);
      expect(sysfs.threadedNapi("veth0")).toBe(true);
      expect([sysfs.driver("veth0"), sysfs.numaNode("veth0"), sysfs.irqs("veth0")]).toEqual(["", -1, []]);
    } finally {
      sysfs.close();
      hosts.close();
    }
  });

  test("nothing stays mounted or open", () => {
    const before = readdirSync("/proc/self/fd").length;
    for (let i = 0; i < 5; i++) Sysfs.open().close();
    expect(readdirSync("/proc/self/fd").length).toBe(before);
  });
});

test("interrupts of hardware devices have CPUs", () => {
  const sysfs = Sysfs.mounted();
  for (const name of sysfs.interfaces()) {
    for (const irq of sysfs.irqs(name)) {
      expect(irqAffinity(irq).length).toBeGreaterThan(0);
      expect(cpuSet("possible")).toContain(irqAffinity(irq, true)[0] as number);
    }
  }
});
