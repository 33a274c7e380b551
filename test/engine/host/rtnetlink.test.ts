import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Assembler, attachXdp, loadXdp, r0, type SysError } from "af-xdp-bindings";
import { NetNs } from "../../../engine/host/netns.ts";
import { Rtnl } from "../../../engine/host/rtnetlink.ts";
import {
  IFA_F_NODAD,
  IFA_F_PERMANENT,
  IFF_UP,
  NUD_PERMANENT,
  NUD_REACHABLE,
  RT_TABLE_LOCAL,
  RT_TABLE_MAIN,
  RTN_BLACKHOLE,
  RTN_LOCAL,
  RTN_UNICAST,
  XDP_ATTACHED_DRV,
  XDP_ATTACHED_NONE,
  XDP_ATTACHED_SKB,
} from "../../../engine/host/rtnetlink-uapi.ts";
import { formatIp, formatMac, ip, parseMac } from "../../../sockets/wire/address.ts";
import { makeHosts, requires, type VethPair } from "../../support/hosts.ts";
import { hasIproute2, ipJson, ipRun } from "./iproute2.ts";

/** linux/bpf.h */
const XDP_PASS = 2;

const mac = (text: string): Uint8Array => parseMac(text) as Uint8Array;

/** "" when the kernel can make links of this kind, else what it says. */
function missing(kind: "dummy" | "vlan" | "bridge"): string {
  if (requires("veth") !== "") return requires("veth");
  const ns = NetNs.create();
  const rtnl = ns.run(() => new Rtnl());
  try {
    if (kind === "dummy") rtnl.createDummy({ name: "probe" });
    else if (kind === "bridge") rtnl.createBridge({ name: "probe" });
    else rtnl.createVlan({ name: "probe" }, 1, 1);
    return "";
  } catch (error) {
    const { message } = error as SysError;
    // Only an unknown kind is a reason to skip: lo, for one, refuses VLANs in words of its own.
    if (!message.includes("Unknown device type")) return "";
    return message;
  } finally {
    rtnl.close();
    ns.close();
  }
}

describe.skipIf(requires("veth") !== "")("links", () => {
  let ns: NetNs;
  let rtnl: Rtnl;
  beforeAll(() => {
    ns = NetNs.create();
    rtnl = ns.run(() => new Rtnl());
  });
  afterAll(() => {
    rtnl.close();
    ns.close();
  });

  test("veth: both ends as asked for, and both gone when one is deleted", () => {
    rtnl.createVeth(
      { name: "left", rxQueues: 2, txQueues: 3, mtu: 9000, mac: mac("02:00:00:00:00:01") },
      { name: "right", rxQueues: 4, txQueues: 1, mtu: 1400 },
    );
    rtnl.setLink(rtnl.link("right").ifindex, { up: true });
    const left = rtnl.link("left");
    const right = rtnl.link("right");
    expect(left).toMatchObject({ kind: "veth", mtu: 9000, rxQueues: 2, txQueues: 3, link: right.ifindex });
    expect(formatMac(left.mac)).toBe("02:00:00:00:00:01");
    expect(left.flags & IFF_UP).toBe(0);
    expect(right).toMatchObject({ kind: "veth", mtu: 1400, rxQueues: 4, txQueues: 1, link: left.ifindex });
    expect(right.flags & IFF_UP).toBe(IFF_UP);
    rtnl.deleteLink(left.ifindex);
    expect(rtnl.findLink("right")).toBeNull();
  });

  test("set: up, mtu, mac, rename, in one request and one by one", () => {
    rtnl.createVeth({ name: "d0" }, { name: "peer" });
    const { ifindex } = rtnl.link("d0");
    rtnl.setLink(ifindex, { name: "d1", mtu: 1280, mac: mac("02:00:00:00:00:02") });
    rtnl.setLink(ifindex, { up: true });
    const link = rtnl.link(ifindex);
    expect(link).toMatchObject({ name: "d1", mtu: 1280 });
    expect(formatMac(link.mac)).toBe("02:00:00:00:00:02");
    expect(link.flags & IFF_UP).toBe(IFF_UP);
    rtnl.setLink(ifindex, { up: false });
    expect(rtnl.link(ifindex).flags & IFF_UP).toBe(0);
    rtnl.deleteLink(ifindex);
  });

  test("dummy", () => {
    if (missing("dummy") !== "") {
      // A kernel without the driver says so; the request itself is right.
      expect(() => rtnl.createDummy({ name: "d0" })).toThrow("EOPNOTSUPP (Unknown device type");
      return;
    }
    rtnl.createDummy({ name: "d0", up: true, mtu: 1400 });
    const link = rtnl.link("d0");
    expect(link).toMatchObject({ kind: "dummy", mtu: 1400 });
    expect(link.flags & IFF_UP).toBe(IFF_UP);
    rtnl.deleteLink(link.ifindex);
  });

  test("vlan", () => {
    rtnl.createVeth({ name: "lower" }, { name: "peer" });
    const lower = rtnl.link("lower").ifindex;
    if (missing("vlan") !== "") {
      expect(() => rtnl.createVlan({ name: "lower.5" }, lower, 5)).toThrow("EOPNOTSUPP (Unknown device type");
      rtnl.deleteLink(lower);
      return;
    }
    rtnl.createVlan({ name: "lower.5", mtu: 1400 }, lower, 5);
    expect(rtnl.link("lower.5")).toMatchObject({ kind: "vlan", link: lower, mtu: 1400 });
    if (hasIproute2) {
      const [vlan] = ipJson(ns, "-d", "link", "show", "lower.5");
      expect(vlan?.linkinfo).toMatchObject({ info_kind: "vlan", info_data: { protocol: "802.1Q", id: 5 } });
    }
    rtnl.deleteLink(lower);
    expect(rtnl.findLink("lower.5")).toBeNull();
  });

  test.skipIf(missing("bridge") !== "")("bridge with a port", () => {
    rtnl.createVeth({ name: "port" }, { name: "peer" });
    rtnl.createBridge({ name: "br0" });
    const port = rtnl.link("port").ifindex;
    const bridge = rtnl.link("br0");
    expect(bridge.kind).toBe("bridge");
    rtnl.setLink(port, { master: bridge.ifindex });
    expect(rtnl.link(port).master).toBe(bridge.ifindex);
    rtnl.setLink(port, { master: 0 });
    expect(rtnl.link(port).master).toBe(0);
    rtnl.deleteLink(bridge.ifindex);
    rtnl.deleteLink(port);
  });

  test("a link moves to another namespace", () => {
    const other = NetNs.create();
    const otherRtnl = other.run(() => new Rtnl());
    rtnl.createVeth({ name: "mover" }, { name: "peer" });
    rtnl.setLink(rtnl.link("mover").ifindex, { netnsFd: other.fd });
    expect(rtnl.findLink("mover")).toBeNull();
    expect(otherRtnl.link("mover").kind).toBe("veth");
    rtnl.deleteLink(rtnl.link("peer").ifindex);
    expect(otherRtnl.findLink("mover")).toBeNull();
    otherRtnl.close();
    other.close();
  });

  test("errors name the interface and the reason", () => {
    expect(() => rtnl.link("nope")).toThrow("RTM_GETLINK nope: ENODEV");
    expect(() => rtnl.link(4711)).toThrow("RTM_GETLINK 4711: ENODEV");
    expect(() => rtnl.createVeth({ name: "lo" }, { name: "peer" })).toThrow("EEXIST");
    expect(() => rtnl.createDummy({ name: "name-of-16-bytes" })).toThrow(RangeError);
    expect(() => rtnl.deleteLink(4711)).toThrow("ENODEV");
  });

  test.skipIf(!hasIproute2)("all links are as `ip link` has them", () => {
    rtnl.createVeth({ name: "v0", rxQueues: 2, txQueues: 2 }, { name: "v1" });
    rtnl.setLink(rtnl.link("v0").ifindex, { up: true });
    const expected = ipJson(ns, "-d", "link", "show").map((link) => ({
      ifindex: link.ifindex,
      name: link.ifname,
      mtu: link.mtu,
      mac: link.address,
      rxQueues: link.num_rx_queues,
      txQueues: link.num_tx_queues,
      kind: (link.linkinfo as { info_kind?: string } | undefined)?.info_kind ?? "",
      up: (link.flags as string[]).includes("UP"),
    }));
    const actual = rtnl.links().map(({ ifindex, name, mtu, mac, rxQueues, txQueues, kind, flags }) => {
      return { ifindex, name, mtu, mac: formatMac(mac), rxQueues, txQueues, kind, up: (flags & IFF_UP) !== 0 };
    });
    expect(actual).toEqual(expected as typeof actual);
    rtnl.deleteLink(rtnl.link("v0").ifindex);
  });
});

describe.skipIf(requires("veth", "bpf") !== "")("attached XDP programs", () => {
  test.each([
    ["native", XDP_ATTACHED_DRV],
    ["skb", XDP_ATTACHED_SKB],
  ] as const)("%s", (mode, attached) => {
    const pair = makeHosts({ ipv6: false });
    const { a } = pair;
    const program = loadXdp(new Assembler().mov(r0, XDP_PASS).exit());
    const link = a.ns.run(() => attachXdp(program, a.ifindex, mode));
    try {
      const { id } = program.info;
      const none = { driverProgramId: 0, genericProgramId: 0, hardwareProgramId: 0 };
      const own = mode === "native" ? { driverProgramId: id } : { genericProgramId: id };
      expect(a.rtnl.link("veth0").xdp).toEqual({ attached, ...none, ...own });
      link.close();
      expect(a.rtnl.link("veth0").xdp).toEqual({ attached: XDP_ATTACHED_NONE, ...none });
    } finally {
      link.close();
      program.close();
      pair.close();
    }
  });
});

describe.skipIf(requires("veth") !== "")("addresses, routes, neighbours", () => {
  let hosts: VethPair;
  let rtnl: Rtnl;
  let ifindex: number;
  beforeAll(() => {
    hosts = makeHosts();
    rtnl = hosts.a.rtnl;
    ifindex = hosts.a.ifindex;
  });
  afterAll(() => hosts.close());

  test("addresses are added, listed, deleted", () => {
    for (const [text, length] of [["198.18.9.1", 25] as const, ["2001:db8:9::1", 64] as const]) {
      rtnl.addAddress(ifindex, ip(text), length);
      const added = rtnl.addresses(ifindex).find((address) => formatIp(address.local) === text);
      expect(added).toMatchObject({ ifindex, prefixLength: length, scope: 0 });
      expect(added?.peer).toEqual(ip(text));
      expect((added?.flags as number) & IFA_F_PERMANENT).toBe(IFA_F_PERMANENT);
      expect(() => rtnl.addAddress(ifindex, ip(text), length)).toThrow("EEXIST");
      rtnl.deleteAddress(ifindex, ip(text), length);
      expect(rtnl.addresses().some((address) => formatIp(address.local) === text)).toBe(false);
    }
    expect(() => rtnl.deleteAddress(ifindex, ip("198.18.77.1"), 24)).toThrow("EADDRNOTAVAIL");
  });

  test("IPv6 addresses skip duplicate address detection", () => {
    const own = rtnl.addresses(ifindex).find((address) => formatIp(address.local) === hosts.a.ipv6Text);
    expect((own?.flags as number) & IFA_F_NODAD).toBe(IFA_F_NODAD);
  });

  test.skipIf(!hasIproute2)("all addresses are as `ip address` has them", () => {
    const expected = ipJson(hosts.a.ns, "address", "show").flatMap((link) =>
      (link.addr_info as { local: string; prefixlen: number }[]).map((info) => {
        return `${link.ifindex} ${info.local}/${info.prefixlen}`;
      }),
    );
    const actual = rtnl.addresses().map(({ ifindex, local, prefixLength }) => {
      return `${ifindex} ${formatIp(local)}/${prefixLength}`;
    });
    expect(actual.sort()).toEqual(expected.sort());
  });

  test("routes are added, found by the kernel's look-up, deleted", () => {
    for (const [net, length, gateway, inside] of [
      ["198.19.0.0", 16, "198.18.0.2", "198.19.1.2"],
      ["2001:db8:ffff::", 48, "2001:db8:0::2", "2001:db8:ffff::5"],
    ] as const) {
      const spec = { destination: ip(net), prefixLength: length, gateway: ip(gateway), priority: 50, mtu: 1300 };
      rtnl.addRoute(spec);
      const listed = rtnl.routes(RT_TABLE_MAIN).find((route) => formatIp(route.destination) === formatIp(ip(net)));
      expect(listed).toMatchObject({ prefixLength: length, priority: 50, mtu: 1300, type: RTN_UNICAST });
      expect(listed?.nextHops).toMatchObject([{ ifindex, gateway: ip(gateway), weight: 1 }]);
      const found = rtnl.getRoute(ip(inside));
      expect(found?.nextHops[0]).toMatchObject({ ifindex, gateway: ip(gateway) });
      expect(found?.mtu).toBe(1300);
      expect(() => rtnl.addRoute(spec)).toThrow("EEXIST");
      rtnl.deleteRoute({ destination: ip(net), prefixLength: length });
      expect(rtnl.getRoute(ip(inside))).toBeNull();
      expect(() => rtnl.deleteRoute(spec)).toThrow("ESRCH");
    }
  });

  test("the look-up chooses a source, and tells local destinations", () => {
    expect(rtnl.getRoute(hosts.b.ipv4)?.prefsrc).toEqual(hosts.a.ipv4);
    expect(rtnl.getRoute(hosts.b.ipv6)?.prefsrc).toEqual(hosts.a.ipv6);
    expect(rtnl.getRoute(hosts.a.ipv4)?.type).toBe(RTN_LOCAL);
    expect(rtnl.getRoute(hosts.a.ipv6)?.type).toBe(RTN_LOCAL);
    expect(rtnl.getRoute(ip("fe80::1"), { oif: ifindex })?.nextHops[0]?.ifindex).toBe(ifindex);
  });

  test("IPv4 through an IPv6 router, a route without way, a table above 255", () => {
    const destination = ip("198.19.0.0");
    rtnl.addRoute({ destination, prefixLength: 24, gateway: hosts.b.ipv6, oif: ifindex });
    expect(rtnl.getRoute(ip("198.19.0.7"))?.nextHops[0]?.gateway).toEqual(hosts.b.ipv6);
    rtnl.deleteRoute({ destination, prefixLength: 24 });
    rtnl.addRoute({ destination, prefixLength: 24, type: RTN_BLACKHOLE });
    expect(rtnl.getRoute(ip("198.19.0.7"))).toBeNull();
    rtnl.deleteRoute({ destination, prefixLength: 24, type: RTN_BLACKHOLE });
    rtnl.addRoute({ destination, prefixLength: 24, oif: ifindex, table: 1000 });
    expect(rtnl.routes(1000)).toMatchObject([{ table: 1000, prefixLength: 24 }]);
    rtnl.deleteRoute({ destination, prefixLength: 24, table: 1000 });
    expect(rtnl.routes(1000)).toEqual([]);
    expect(rtnl.routes(77777)).toEqual([]);
  });

  test.skipIf(!hasIproute2)("all routes are as `ip route` has them", () => {
    for (const [family, any] of [["-4", "0.0.0.0"] as const, ["-6", "::"] as const]) {
      for (const [table, id] of [["main", RT_TABLE_MAIN] as const, ["local", RT_TABLE_LOCAL] as const]) {
        const expected = ipJson(hosts.a.ns, family, "-N", "route", "show", "table", table).map((route) => {
          const dst = route.dst === "default" ? `${any}/0` : (route.dst as string);
          return `${dst.includes("/") ? dst : `${dst}/${family === "-4" ? 32 : 128}`} ${route.dev}`;
        });
        const actual = rtnl
          .routes(id)
          .filter((route) => route.destination.length === (family === "-4" ? 4 : 16))
          .map(({ destination, prefixLength, nextHops }) => {
            const dev = rtnl.link(nextHops[0]?.ifindex as number).name;
            return `${formatIp(destination)}/${prefixLength} ${dev}`;
          });
        expect(actual.length).toBeGreaterThan(0);
        expect(actual.sort()).toEqual(expected.sort());
      }
    }
  });

  test.skipIf(!hasIproute2)("a policy rule is noticed", () => {
    expect(rtnl.hasPolicyRules()).toBe(false);
    ipRun(hosts.a.ns, "rule", "add", "from", "198.18.5.0/24", "table", "100");
    expect(rtnl.hasPolicyRules()).toBe(true);
    ipRun(hosts.a.ns, "rule", "del", "from", "198.18.5.0/24", "table", "100");
    ipRun(hosts.a.ns, "-6", "rule", "add", "iif", "lo", "table", "100");
    expect(rtnl.hasPolicyRules()).toBe(true);
    ipRun(hosts.a.ns, "-6", "rule", "del", "iif", "lo", "table", "100");
    expect(rtnl.hasPolicyRules()).toBe(false);
    // [rule, whether it may hold for what has no mark]
    const marks: [string[], boolean][] = [
      [["fwmark", "7"], false],
      [["fwmark", "0x10/0x30"], false],
      [["fwmark", "0/0x30"], true],
      [["not", "fwmark", "7"], true],
    ];
    for (const [rule, holds] of marks) {
      for (const family of ["-4", "-6"]) {
        ipRun(hosts.a.ns, family, "rule", "add", ...rule, "table", "100");
        expect([family, rule, rtnl.hasPolicyRules()]).toEqual([family, rule, holds]);
        ipRun(hosts.a.ns, family, "rule", "del", ...rule, "table", "100");
      }
    }
  });

  test("permanent neighbours are set, replaced, deleted", () => {
    for (const address of [ip("198.18.0.77"), ip("2001:db8::77")]) {
      const find = () => rtnl.neighbours(ifindex).find((entry) => formatIp(entry.address) === formatIp(address));
      rtnl.setNeighbour(ifindex, address, mac("02:00:00:00:00:77"));
      expect(find()).toMatchObject({ ifindex, state: NUD_PERMANENT, mac: mac("02:00:00:00:00:77") });
      rtnl.setNeighbour(ifindex, address, mac("02:00:00:00:00:78"));
      expect(find()?.mac).toEqual(mac("02:00:00:00:00:78"));
      rtnl.deleteNeighbour(ifindex, address);
      // The kernel may keep the entry a moment without an address.
      expect(find()?.mac ?? null).toBeNull();
    }
    expect(rtnl.neighbours(4711)).toEqual([]);
  });

  test("use makes the kernel resolve an address", async () => {
    for (const address of [hosts.b.ipv4, hosts.b.ipv6]) {
      rtnl.useNeighbour(ifindex, address);
      const find = () => rtnl.neighbours(ifindex).find((entry) => formatIp(entry.address) === formatIp(address));
      for (let i = 0; i < 200 && find()?.state !== NUD_REACHABLE; i++) await Bun.sleep(5);
      expect(find()).toMatchObject({ state: NUD_REACHABLE, mac: hosts.b.mac });
    }
  });
});
