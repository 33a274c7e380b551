import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Ethtool, OFFLOADS, type Offload } from "../../../engine/host/ethtool.ts";
import { Sysfs } from "../../../engine/host/sysfs.ts";
import { makeHosts, requires, type VethPair } from "../../support/hosts.ts";

describe.skipIf(requires("veth") !== "")("ethtool on veth", () => {
  let hosts: VethPair;
  beforeAll(() => {
    hosts = makeHosts({ queues: 2, offloads: "on", ipv6: false });
  });
  afterAll(() => hosts.close());

  test("driver", () => {
    expect(hosts.a.ethtool.driver("veth0").driver).toBe("veth");
    expect(() => hosts.a.ethtool.driver("nope")).toThrow("ETHTOOL_GDRVINFO nope: ENODEV");
    expect(() => hosts.a.ethtool.driver("a-name-that-is-too-long")).toThrow("ENODEV");
  });

  test("channels are read and set", () => {
    const { ethtool } = hosts.a;
    expect(ethtool.channels("veth0")).toMatchObject({ rxMax: 2, txMax: 2, rx: 2, tx: 2, combined: 0 });
    ethtool.setChannels("veth0", { rx: 1, tx: 1 });
    expect(ethtool.channels("veth0")).toMatchObject({ rx: 1, tx: 1 });
    ethtool.setChannels("veth0", { rx: 2 });
    expect(ethtool.channels("veth0")).toMatchObject({ rx: 2, tx: 1 });
    expect(() => ethtool.setChannels("veth0", { rx: 3 })).toThrow("EINVAL");
  });

  test("rings: veth has none and says so", () => {
    expect(() => hosts.a.ethtool.rings("veth0")).toThrow("ETHTOOL_GRINGPARAM veth0: EOPNOTSUPP");
    expect(() => hosts.a.ethtool.setRings("veth0", { rx: 512 })).toThrow("EOPNOTSUPP");
  });

  test("rings of the machine's own devices, read only", () => {
    const ethtool = new Ethtool();
    for (const name of Sysfs.mounted().interfaces()) {
      if (Sysfs.mounted().driver(name) !== "virtio_net") continue;
      const rings = ethtool.rings(name);
      expect(rings.rx).toBeGreaterThan(0);
      expect(rings.rx).toBeLessThanOrEqual(rings.rxMax);
      expect(rings.tx).toBeGreaterThan(0);
      expect(rings.tx).toBeLessThanOrEqual(rings.txMax);
    }
    ethtool.close();
  });

  test("each group of offloads turns off and on without touching the others", () => {
    const { ethtool } = hosts.a;
    const state = () => Object.keys(OFFLOADS).filter((name) => ethtool.offload("veth0", name as Offload));
    const initial = state();
    expect(initial).toContain("txChecksum");
    // rxChecksum is fixed on in veth's features; TSO, GSO and checksums depend on one another.
    for (const offload of ["gro", "txVlan", "rxVlan"] as const) {
      const on = ethtool.offload("veth0", offload);
      ethtool.setOffloads("veth0", { [offload]: !on });
      expect(state()).toEqual(
        Object.keys(OFFLOADS).filter((name) => (name === offload ? !on : initial.includes(name))),
      );
      ethtool.setOffloads("veth0", { [offload]: on });
    }
    ethtool.setOffloads("veth0", { txChecksum: false, tso: false, gso: false, scatterGather: false });
    for (const offload of ["txChecksum", "tso", "gso", "scatterGather"] as const)
      expect(ethtool.offload("veth0", offload)).toBe(false);
    ethtool.setOffloads("veth0", { txChecksum: true, tso: true, gso: true, scatterGather: true });
    expect(state()).toEqual(initial);
  });

  test("single features by the kernel's name", () => {
    const { ethtool } = hosts.a;
    ethtool.setFeatures("veth0", { "rx-gro": true });
    expect(ethtool.features("veth0").get("rx-gro")).toMatchObject({ active: true, requested: true, changeable: true });
    ethtool.setFeatures("veth0", { "rx-gro": false });
    expect(ethtool.features("veth0").get("rx-gro")?.active).toBe(false);
    expect(() => ethtool.setFeatures("veth0", { "no-such-feature": true })).toThrow("ENOENT");
    // Already as it is asked to be: accepted; impossible: refused.
    ethtool.setFeatures("veth0", { "rx-fcs": false });
    expect(() => ethtool.setFeatures("veth0", { "rx-fcs": true })).toThrow("EOPNOTSUPP");
  });
});
