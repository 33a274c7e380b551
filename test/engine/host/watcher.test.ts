import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import fc from "fast-check";
import type { RouteSpec } from "../../../engine/host/rtnetlink.ts";
import {
  IFA_F_DADFAILED,
  IFA_F_TENTATIVE,
  IFF_LOWER_UP,
  NUD_FAILED,
  NUD_PERMANENT,
  NUD_REACHABLE,
  RTN_BLACKHOLE,
  RTN_BROADCAST,
  RTN_LOCAL,
  RTN_MULTICAST,
  RTN_THROW,
  RTN_UNICAST,
  RTN_UNREACHABLE,
} from "../../../engine/host/rtnetlink-uapi.ts";
import {
  CHANGED_ADDRESSES,
  CHANGED_ALL,
  CHANGED_LINKS,
  CHANGED_NEIGHBOURS,
  CHANGED_ROUTES,
  HostWatcher,
  type Path,
} from "../../../engine/host/watcher.ts";
import { formatIp, ip, parseMac } from "../../../sockets/wire/address.ts";
import { makeHosts, requires, type VethPair } from "../../support/hosts.ts";
import { hasIproute2, ipRun } from "./iproute2.ts";

const mac = (text: string): Uint8Array => parseMac(text) as Uint8Array;
const texts = (addresses: Uint8Array[]): string[] => addresses.map(formatIp).sort();
/** What the tables and the kernel must agree on; the kernel adds a source address and learned MTUs. */
const outline = (path: Path | null): object | null =>
  path && { type: path.type, ifindex: path.ifindex, gateway: path.gateway && formatIp(path.gateway), mtu: path.mtu };

describe.skipIf(requires("veth") !== "")("HostWatcher", () => {
  let hosts: VethPair;
  let watcher: HostWatcher;
  beforeEach(() => {
    hosts = makeHosts();
    watcher = hosts.a.ns.run(() => new HostWatcher());
  });
  afterEach(() => {
    watcher.close();
    hosts.close();
  });

  /** Processes events until `done`, for at most two seconds. */
  const until = async (done: () => boolean): Promise<void> => {
    const deadline = performance.now() + 2000;
    for (;;) {
      watcher.process();
      if (done()) return;
      if (performance.now() > deadline) throw new Error("the expected event did not come");
      await Bun.sleep(2);
    }
  };

  test("starts with what is there, and is quiet while nothing changes", async () => {
    const { ifindex } = hosts.a;
    expect(watcher.linkByName("veth0")?.ifindex).toBe(ifindex);
    expect(watcher.link(ifindex)?.mac).toEqual(hosts.a.mac);
    const own = texts(watcher.locals(ifindex));
    expect(own).toContain(hosts.a.ipv4Text);
    expect(own).toContain(hosts.a.ipv6Text);
    expect(watcher.ownerOf(hosts.a.ipv6)).toBe(ifindex);
    expect(watcher.ownerOf(hosts.b.ipv6)).toBe(0);
    watcher.process();
    expect(watcher.process()).toBe(0);
    expect(watcher.resyncs).toBe(0);
  });

  test("follows links: changes, a new one, its end", () => {
    const { rtnl, ifindex } = hosts.a;
    rtnl.setLink(ifindex, { mtu: 1400 });
    expect(watcher.process() & CHANGED_LINKS).toBe(CHANGED_LINKS);
    expect(watcher.link(ifindex)?.mtu).toBe(1400);
    rtnl.createVeth({ name: "extra" }, { name: "extra-peer" });
    watcher.process();
    const extra = watcher.linkByName("extra");
    expect(extra?.kind).toBe("veth");
    rtnl.deleteLink(extra?.ifindex as number);
    watcher.process();
    expect(watcher.linkByName("extra")).toBeNull();
    expect(watcher.linkByName("extra-peer")).toBeNull();
  });

  test("follows addresses", async () => {
    const { rtnl, ifindex } = hosts.a;
    for (const [text, length] of [["198.18.5.1", 24] as const, ["2001:db8:5::1", 64] as const]) {
      rtnl.addAddress(ifindex, ip(text), length);
      // The kernel announces an IPv6 address from a work queue, a moment later.
      await until(() => texts(watcher.locals(ifindex)).includes(text));
      expect(watcher.route(ip(text))).toMatchObject({ type: RTN_LOCAL, ifindex });
      rtnl.deleteAddress(ifindex, ip(text), length);
      expect(watcher.process() & CHANGED_ADDRESSES).toBe(CHANGED_ADDRESSES);
      expect(texts(watcher.locals(ifindex))).not.toContain(text);
      expect(watcher.route(ip(text))).toBeNull();
    }
  });

  test("an address under duplicate address detection is no local one", async () => {
    const { rtnl, ifindex, ns } = hosts.a;
    ns.run(() => writeFileSync("/proc/sys/net/ipv6/conf/veth0/accept_dad", "1"));
    // The peer has it already.
    rtnl.addAddress(ifindex, hosts.b.ipv6, 64, 0);
    const flags = (): number =>
      watcher.addresses(ifindex).find((known) => formatIp(known.local) === hosts.b.ipv6Text)?.flags ?? 0;
    await until(() => (flags() & IFA_F_TENTATIVE) !== 0);
    expect(texts(watcher.locals(ifindex))).not.toContain(hosts.b.ipv6Text);
    await until(() => (flags() & IFA_F_DADFAILED) !== 0);
    expect(texts(watcher.locals(ifindex))).not.toContain(hosts.b.ipv6Text);
  });

  test("follows neighbours", async () => {
    const { rtnl, ifindex } = hosts.a;
    for (const [address, peer] of [
      [ip("198.18.0.9"), hosts.b.ipv4],
      [ip("2001:db8::9"), hosts.b.ipv6],
    ] as const) {
      expect(watcher.neighbour(ifindex, address)).toBeNull();
      rtnl.setNeighbour(ifindex, address, mac("02:00:00:00:00:09"));
      expect(watcher.process() & CHANGED_NEIGHBOURS).toBe(CHANGED_NEIGHBOURS);
      expect(watcher.neighbour(ifindex, address)).toEqual({ mac: mac("02:00:00:00:00:09"), state: NUD_PERMANENT });
      rtnl.deleteNeighbour(ifindex, address);
      watcher.process();
      expect(watcher.neighbour(ifindex, address)?.mac ?? null).toBeNull();

      watcher.useNeighbour(ifindex, peer);
      await until(() => watcher.neighbour(ifindex, peer)?.state === NUD_REACHABLE);
      expect(watcher.neighbour(ifindex, peer)?.mac).toEqual(hosts.b.mac);
    }
  });

  test("an address nobody has becomes FAILED, without a MAC", async () => {
    const { ifindex, ns } = hosts.a;
    const nobody = ip("198.18.0.200");
    ns.run(() => writeFileSync("/proc/sys/net/ipv4/neigh/veth0/retrans_time_ms", "10"));
    watcher.useNeighbour(ifindex, nobody);
    watcher.process();
    // The kernel does not announce INCOMPLETE.
    expect(watcher.neighbour(ifindex, nobody)).toBeNull();
    await until(() => watcher.neighbour(ifindex, nobody)?.state === NUD_FAILED);
    expect(watcher.neighbour(ifindex, nobody)?.mac).toBeNull();
  });

  test("follows routes: added, better metric, replaced, deleted", () => {
    const { rtnl } = hosts.a;
    const destination = ip("198.19.0.0");
    const far = ip("198.19.3.4");
    expect(watcher.route(far)).toBeNull();
    rtnl.addRoute({ destination, prefixLength: 16, gateway: ip("198.18.0.2"), priority: 100 });
    expect(watcher.process() & CHANGED_ROUTES).toBe(CHANGED_ROUTES);
    expect(watcher.route(far)?.gateway).toEqual(ip("198.18.0.2"));
    rtnl.addRoute({ destination, prefixLength: 16, gateway: ip("198.18.0.3"), priority: 50, mtu: 1280 });
    watcher.process();
    expect(watcher.route(far)).toMatchObject({ gateway: ip("198.18.0.3"), mtu: 1280, type: RTN_UNICAST });
    rtnl.deleteRoute({ destination, prefixLength: 16, priority: 50 });
    watcher.process();
    expect(watcher.route(far)).toMatchObject({ gateway: ip("198.18.0.2"), mtu: 1500 });
    if (hasIproute2) {
      ipRun(hosts.a.ns, "route", "replace", "198.19.0.0/16", "via", "198.18.0.4", "metric", "100");
      watcher.process();
      expect(watcher.route(far)?.gateway).toEqual(ip("198.18.0.4"));
    }
    rtnl.deleteRoute({ destination, prefixLength: 16 });
    watcher.process();
    expect(watcher.route(far)).toBeNull();
  });

  test("destinations of every kind are judged as the kernel judges them", () => {
    const { rtnl, ifindex } = hosts.a;
    const add = (text: string, length: number, rest: Partial<RouteSpec>): void =>
      rtnl.addRoute({ destination: ip(text), prefixLength: length, ...rest });
    add("0.0.0.0", 0, { gateway: hosts.b.ipv4 });
    add("::", 0, { gateway: hosts.b.ipv6 });
    add("198.19.1.0", 24, { type: RTN_BLACKHOLE });
    add("198.19.2.0", 24, { type: RTN_UNREACHABLE });
    add("198.19.3.0", 24, { type: RTN_THROW });
    add("2001:db8:1::", 48, { type: RTN_UNREACHABLE });
    add("198.19.4.0", 24, { gateway: hosts.b.ipv6, oif: ifindex });
    watcher.process();
    const judge = (text: string): object | null => {
      expect(outline(watcher.route(ip(text)))).toEqual(outline(watcher.resolve(ip(text))));
      return watcher.route(ip(text));
    };
    expect(judge("198.18.0.2")).toMatchObject({ type: RTN_UNICAST, gateway: null });
    expect(judge("198.18.0.1")).toMatchObject({ type: RTN_LOCAL, ifindex });
    expect(judge("127.0.0.1")).toMatchObject({ type: RTN_LOCAL, ifindex: 1 });
    expect(judge("198.18.0.255")).toMatchObject({ type: RTN_BROADCAST, ifindex });
    expect(judge("198.20.1.1")).toMatchObject({ gateway: hosts.b.ipv4 });
    expect(judge("224.0.0.1")).toMatchObject({ type: RTN_MULTICAST });
    expect(judge("198.19.1.1")).toBeNull();
    expect(judge("198.19.2.1")).toBeNull();
    // throw leaves the main table for the default one, which is empty.
    expect(judge("198.19.3.1")).toBeNull();
    expect(judge("198.19.4.1")).toMatchObject({ gateway: hosts.b.ipv6 });
    expect(judge("2001:db8::1")).toMatchObject({ type: RTN_LOCAL, ifindex });
    expect(judge("::1")).toMatchObject({ type: RTN_LOCAL, ifindex: 1 });
    expect(judge("2001:db8::2")).toMatchObject({ type: RTN_UNICAST, gateway: null });
    expect(judge("2001:db9::2")).toMatchObject({ gateway: hosts.b.ipv6 });
    expect(judge("2001:db8:1::2")).toBeNull();
    expect(watcher.route(ip("fe80::1"), ifindex)).toMatchObject({ ifindex, gateway: null });
    expect(watcher.resolve(hosts.b.ipv6)?.prefsrc).toEqual(hosts.a.ipv6);
  });

  test("any set of routes gives the kernel's answers", () => {
    const { rtnl } = hosts.a;
    // Prefixes that nest often: few distinct bits, all lengths.
    const octet = fc.constantFrom(0, 1, 64, 128, 192, 255);
    const inner = fc.tuple(fc.constantFrom(18, 19), octet, octet).map((rest) => Uint8Array.of(198, ...rest));
    const route = fc.record({
      address: inner,
      prefixLength: fc.integer({ min: 9, max: 32 }),
      gateway: fc.integer({ min: 2, max: 5 }).map((host) => Uint8Array.of(198, 18, 0, host)),
      priority: fc.constantFrom(0, 10, 20),
      type: fc.constantFrom(RTN_UNICAST, RTN_UNICAST, RTN_UNICAST, RTN_UNREACHABLE, RTN_THROW),
    });
    fc.assert(
      fc.property(
        fc.array(route, { maxLength: 25 }),
        fc.array(inner, { minLength: 20, maxLength: 20 }),
        (routes, to) => {
          const added: RouteSpec[] = [];
          for (const { address, prefixLength, gateway, priority, type } of routes) {
            const destination = masked(address, prefixLength);
            // Routers must stay on the link.
            if (destination[1] === 18 && destination[2] === 0) continue;
            const base = { destination, prefixLength, priority, type };
            const spec = type === RTN_UNICAST ? { ...base, gateway } : base;
            if (added.some((other) => key(other) === key(spec))) continue;
            rtnl.addRoute(spec);
            added.push(spec);
          }
          watcher.process();
          for (const destination of to)
            expect(outline(watcher.route(destination))).toEqual(outline(watcher.resolve(destination)));
          for (const spec of added) rtnl.deleteRoute(spec);
        },
      ),
      { numRuns: 40 },
    );
    expect(watcher.resyncs).toBe(0);
  });

  test("IPv4 routes that vanish in silence are not believed: link down, and up again", async () => {
    const { rtnl, ifindex } = hosts.a;
    const far = ip("198.19.0.1");
    rtnl.addRoute({ destination: ip("198.19.0.0"), prefixLength: 16, gateway: hosts.b.ipv4 });
    watcher.process();
    expect(watcher.route(far)).not.toBeNull();
    rtnl.setLink(ifindex, { up: false });
    expect(watcher.process() & CHANGED_ROUTES).toBe(CHANGED_ROUTES);
    expect(watcher.route(far)).toBeNull();
    expect(watcher.route(hosts.b.ipv4)).toBeNull();
    rtnl.setLink(ifindex, { up: true });
    await until(() => ((watcher.link(ifindex)?.flags as number) & IFF_LOWER_UP) !== 0);
    expect(watcher.route(hosts.b.ipv4)).toMatchObject({ ifindex, gateway: null });
  });

  test.skipIf(!hasIproute2)("policy rules and multipath leave the answer to the kernel", () => {
    const { ns } = hosts.a;
    ipRun(ns, "route", "add", "198.19.0.0/16", "nexthop", "via", "198.18.0.2", "nexthop", "via", "198.18.0.3");
    watcher.process();
    for (let i = 1; i < 30; i++) {
      const destination = Uint8Array.of(198, 19, i, i);
      expect(outline(watcher.route(destination))).toEqual(outline(watcher.resolve(destination)));
      expect(watcher.route(destination)?.gateway).not.toBeNull();
    }
    ipRun(ns, "route", "add", "unreachable", "198.19.7.0/24", "table", "100");
    ipRun(ns, "rule", "add", "to", "198.19.7.0/24", "table", "100");
    expect(watcher.process() & CHANGED_ROUTES).toBe(CHANGED_ROUTES);
    expect(watcher.route(ip("198.19.7.1"))).toBeNull();
    ipRun(ns, "rule", "del", "to", "198.19.7.0/24", "table", "100");
    watcher.process();
    expect(watcher.route(ip("198.19.7.1"))).not.toBeNull();
  });

  test("more routes than are copied: the kernel is asked, changes are still told", () => {
    const { rtnl, ns } = hosts.a;
    const held = rtnl.routes().length;
    const small = ns.run(() => new HostWatcher(held + 1));
    for (const third of [1, 2, 3]) {
      const destination = Uint8Array.of(198, 19, third, 0);
      rtnl.addRoute({ destination, prefixLength: 24, gateway: Uint8Array.of(198, 18, 0, 10 + third) });
      expect(small.process() & CHANGED_ROUTES).toBe(CHANGED_ROUTES);
      expect(small.route(Uint8Array.of(198, 19, third, 9))?.gateway).toEqual(Uint8Array.of(198, 18, 0, 10 + third));
    }
    rtnl.deleteRoute({ destination: ip("198.19.1.0"), prefixLength: 24 });
    expect(small.process() & CHANGED_ROUTES).toBe(CHANGED_ROUTES);
    expect(small.route(ip("198.19.1.9"))).toBeNull();
    small.close();
  });

  test("lost events are made good by reading everything anew", () => {
    const { rtnl, ifindex } = hosts.a;
    const address = ip("198.18.0.9");
    const one = mac("02:00:00:00:00:01");
    const two = mac("02:00:00:00:00:02");
    // Each change is an event of some 800 bytes in a receive buffer of 8 MiB.
    let lost = 0;
    for (let i = 0; i < 40_000 && lost === 0; i += 1000) {
      for (let j = 0; j < 1000; j++) rtnl.setNeighbour(ifindex, address, j % 2 === 0 ? one : two);
      lost = dropsOf(hosts);
    }
    expect(lost).toBeGreaterThan(0);
    rtnl.setLink(ifindex, { mtu: 1300 });
    rtnl.addAddress(ifindex, ip("198.18.8.1"), 24);
    let changed = 0;
    for (let i = 0; i < 100 && watcher.resyncs === 0; i++) changed |= watcher.process();
    expect(watcher.resyncs).toBe(1);
    expect(changed).toBe(CHANGED_ALL);
    expect(watcher.link(ifindex)?.mtu).toBe(1300);
    expect(texts(watcher.locals(ifindex))).toContain("198.18.8.1");
    for (let i = 0; i < 100 && watcher.process() !== 0; i++);
    expect(watcher.neighbour(ifindex, address)?.mac).toEqual(two);
    expect(watcher.resyncs).toBe(1);
  });
});

const key = ({ destination, prefixLength, priority }: RouteSpec): string =>
  `${destination}/${prefixLength}/${priority}`;

function masked(address: Uint8Array, length: number): Uint8Array {
  return address.map((octet, i) => octet & (0xff << Math.min(8, Math.max(0, 8 * (i + 1) - length))));
}

/** Messages dropped at netlink sockets of the host's namespace: the Drops column of /proc/net/netlink. */
function dropsOf({ a }: VethPair): number {
  const table = a.ns.run(() => readFileSync("/proc/thread-self/net/netlink", "utf8"));
  const lines = table.trim().split("\n").slice(1);
  return lines.reduce((sum, line) => sum + Number(line.trim().split(/\s+/)[8]), 0);
}
