import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { NETDEV_XDP_ACT_BASIC, NETDEV_XDP_ACT_REDIRECT, Netdev } from "../../../engine/host/netdev.ts";
import { makeHosts, requires, type VethPair } from "../../support/hosts.ts";

describe.skipIf(requires("veth") !== "")("netdev family", () => {
  let hosts: VethPair;
  let netdev: Netdev;
  beforeAll(() => {
    hosts = makeHosts({ queues: 2, ipv6: false });
    netdev = hosts.a.ns.run(() => new Netdev());
  });
  afterAll(() => {
    netdev.close();
    hosts.close();
  });

  test("XDP features", () => {
    const features = netdev.features(hosts.a.ifindex);
    const wanted = NETDEV_XDP_ACT_BASIC | NETDEV_XDP_ACT_REDIRECT;
    expect(features.ifindex).toBe(hosts.a.ifindex);
    expect(features.xdpFeatures & wanted).toBe(wanted);
    expect(netdev.features(1).xdpFeatures).toBe(0);
    expect(() => netdev.features(4711)).toThrow("ENODEV");
  });

  test("queues", () => {
    const queues = netdev.queues(hosts.a.ifindex).map(({ type, id }) => `${type}${id}`);
    expect(queues.sort()).toEqual(["rx0", "rx1", "tx0", "tx1"]);
  });

  test("NAPI instances come with GRO, one a queue, and take settings of their own", () => {
    const { ethtool, name, ifindex } = hosts.a;
    expect(netdev.napis(ifindex)).toEqual([]);
    ethtool.setOffloads(name, { gro: true });
    const [first, second] = netdev.napis(ifindex);
    expect(first?.id).toBeGreaterThan(0);
    expect(second?.id).not.toBe(first?.id);
    netdev.setNapi(first?.id as number, { deferHardIrqs: 3, groFlushTimeoutNs: 20_000, irqSuspendTimeoutNs: 70_000 });
    expect(netdev.napis(ifindex)).toEqual([
      { ...first!, deferHardIrqs: 3, groFlushTimeoutNs: 20_000, irqSuspendTimeoutNs: 70_000 },
      second!,
    ]);
    ethtool.setOffloads(name, { gro: false });
  });
});
