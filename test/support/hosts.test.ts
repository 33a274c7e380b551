import { describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { IFA_F_TENTATIVE } from "../../engine/host/rtnetlink-uapi.ts";
import { ip } from "../../sockets/wire/address.ts";
import { makeHosts, requires } from "./hosts.ts";

describe.skipIf(requires("veth") !== "")("makeHosts", () => {
  test("two hosts that reach each other over both families", async () => {
    const hosts = makeHosts({ queues: 2, mtu: 3000, subnet: 3 });
    const { a, b } = hosts;
    try {
      expect([a.ipv4Text, b.ipv4Text]).toEqual(["198.18.3.1", "198.18.3.2"]);
      expect([a.ipv6Text, b.ipv6Text]).toEqual(["2001:db8:3::1", "2001:db8:3::2"]);
      expect(b.ipv6).toEqual(ip(b.ipv6Text));
      expect(a.mac).not.toEqual(b.mac);
      expect(a.rtnl.link(a.name)).toMatchObject({
        ifindex: a.ifindex,
        mac: a.mac,
        mtu: 3000,
        rxQueues: 2,
        txQueues: 2,
      });
      expect(a.rtnl.addresses(a.ifindex).some((address) => (address.flags & IFA_F_TENTATIVE) !== 0)).toBe(false);
      for (const address of [b.ipv4Text, b.ipv6Text]) {
        const server = b.ns.run(() =>
          Bun.listen({ hostname: address, port: 0, socket: { data: (s, d) => void s.write(d) } }),
        );
        const { promise, resolve } = Promise.withResolvers<string>();
        const data = (_: unknown, bytes: Uint8Array): void => resolve(new TextDecoder().decode(bytes));
        // The socket is made in here, so it belongs to a's namespace whenever it connects.
        const client = await a.ns.run(() => [
          Bun.connect({ hostname: address, port: server.port, socket: { data } }),
        ])[0];
        client?.write("hello");
        expect(await promise).toBe("hello");
        client?.end();
        server.stop(true);
      }
    } finally {
      hosts.close();
    }
  });

  test("offloads as asked for", () => {
    for (const offloads of ["on", "off"] as const) {
      const hosts = makeHosts({ offloads, ipv6: false });
      for (const { ethtool, name } of [hosts.a, hosts.b])
        for (const offload of ["txChecksum", "tso", "gso", "txVlan"] as const)
          expect(ethtool.offload(name, offload)).toBe(offloads === "on");
      hosts.close();
    }
  });

  test("without IPv6 the link has none", () => {
    const hosts = makeHosts({ ipv6: false });
    expect(hosts.a.rtnl.addresses(hosts.a.ifindex).map((address) => address.local.length)).toEqual([4]);
    hosts.close();
  });

  test("nothing stays open, also when it fails half-way", () => {
    makeHosts().close();
    const before = readdirSync("/proc/self/fd").length;
    for (let i = 0; i < 3; i++) makeHosts().close();
    // The kernel refuses the MTU after both namespaces and sockets exist.
    expect(() => makeHosts({ mtu: 10 })).toThrow("EINVAL");
    expect(() => makeHosts({ subnet: 256 })).toThrow(RangeError);
    expect(readdirSync("/proc/self/fd").length).toBe(before);
  });
});

test("requires tells what is missing, once", () => {
  const reason = requires("netns", "veth");
  expect(requires("netns", "veth")).toBe(reason);
  if (process.getuid?.() !== 0) expect(reason).toContain("EPERM");
});
