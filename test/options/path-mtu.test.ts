/** Path MTUs: a router before a narrower link, and what a kernel socket and one of the engine make of what it says. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Engine } from "../../engine/engine.ts";
import { waitUntilLocal } from "../../engine/host/hosts.ts";
import { NetNs } from "../../engine/host/netns.ts";
import { Rtnl } from "../../engine/host/rtnetlink.ts";
import {
  IP_MTU,
  IP_MTU_DISCOVER,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_MTU,
  IPV6_MTU_DISCOVER,
} from "../../sockets/options.ts";
import { PMTUDISC_DONT, PMTUDISC_INTERFACE, PMTUDISC_OMIT, PMTUDISC_WANT } from "../../sockets/send-word.ts";
import { ip } from "../../sockets/wire/address.ts";
import { ipJson, ipRun } from "../engine/host/iproute2.ts";
import { icmp4, icmp6, ip4, ip6, udp } from "../host/messages.ts";
import { PacketSocket } from "../host/packet-socket.ts";
import { framed } from "../host/packets.ts";
import { makeHosts, requires, type VethPair } from "../support/hosts.ts";
import { KernelUdp, until } from "../support/kernel-udp.ts";
import { type Caller, EngineCaller, heardOf, KernelCaller, wantErrors } from "./errors.ts";

setDefaultTimeout(60_000);

const FAMILIES = [4, 6] as const;
const missing = requires("veth", "af_xdp", "bpf");
const NARROW = 1300;
/** More than the least time between two looks of the control thread at reports (engine/path-mtu.ts). */
const LOOK_MS = 120;
/** How often the kernel is asked whether it still believes in an MTU (engine/path-mtu.ts). */
const ASK_MS = 1000;

describe.skipIf(missing !== "").each(FAMILIES)("path MTU, IPv%i", (family) => {
  const level = family === 4 ? IPPROTO_IP : IPPROTO_IPV6;
  const discover = family === 4 ? IP_MTU_DISCOVER : IPV6_MTU_DISCOVER;
  const mtu = family === 4 ? IP_MTU : IPV6_MTU;
  const headers = family === 4 ? 28 : 48;
  const any = family === 4 ? "0.0.0.0" : "::";
  const near = (host: number): string => (family === 4 ? `198.18.0.${host}` : `2001:db8::${host}`);
  const far = (host: number): string => (family === 4 ? `198.19.0.${host}` : `2001:db8:f::${host}`);
  const bits = family === 4 ? 24 : 64;
  /** The engine's host is b, the router a; behind it is this one. */
  let hosts: VethPair;
  let end: NetNs;
  let endRtnl: Rtnl;
  let engine: Engine;
  let receiver: KernelUdp;
  /** Hosts that are there already: each story has one of its own, for what is known of a path is the host's. */
  let last = 1;
  let endMac = "";

  function addHost(): string {
    const address = far(++last);
    ipRun(end, "addr", "add", `${address}/${bits}`, "dev", "eth0", ...(family === 6 ? ["nodad"] : []));
    waitUntilLocal(endRtnl, [ip(address)]);
    // The router need not ask for it.
    ipRun(hosts.a.ns, "neigh", "replace", address, "lladdr", endMac, "dev", "far0");
    return address;
  }

  beforeAll(async () => {
    hosts = makeHosts();
    end = NetNs.create();
    endRtnl = end.run(() => new Rtnl());
    const ends = { rxQueues: 1, txQueues: 1, mtu: NARROW };
    hosts.a.rtnl.createVeth({ name: "far0", ...ends }, { name: "eth0", netnsFd: end.fd, ...ends });
    ipRun(hosts.a.ns, "addr", "add", `${far(1)}/${bits}`, "dev", "far0", ...(family === 6 ? ["nodad"] : []));
    ipRun(hosts.a.ns, "link", "set", "far0", "up");
    ipRun(end, "link", "set", "eth0", "up");
    endMac = `${ipJson(end, "link", "show", "eth0")[0].address}`;
    const forwarding = family === 4 ? "net.ipv4.ip_forward=1" : "net.ipv6.conf.all.forwarding=1";
    const rates = ["net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0"];
    Bun.spawnSync(["nsenter", `--net=${hosts.a.ns.path}`, "sysctl", "-qw", forwarding, ...rates]);
    const address = addHost();
    ipRun(end, "route", "add", `${near(0)}/${bits}`.replace("::0/", "::/"), "via", far(1));
    ipRun(hosts.b.ns, "route", "add", `${far(0)}/${bits}`.replace("::0/", "::/"), "via", near(1));
    receiver = new KernelUdp(end, { address: any });
    engine = await Engine.start({ interface: hosts.b.name, netns: hosts.b.ns.path });
    const socket = engine.udp({ address: any });
    await until("the fast path", () => {
      const { UdpOutViaKernel } = engine.counters();
      socket.send("x", receiver.port, address);
      return receiver.take() !== null && engine.counters().UdpOutViaKernel === UdpOutViaKernel;
    });
    socket.close();
    await settle();
    drain();
  });
  afterAll(async () => {
    await engine?.close();
    receiver?.close();
    endRtnl?.close();
    end?.close();
    hosts?.close();
  });

  const openers = {
    kernel: (): Caller => new KernelCaller(hosts.b.ns, family),
    engine: (): Caller => new EngineCaller(engine.udp({ address: any })),
  };

  /** Lengths of what has come, since the last drain(). */
  const lengths: number[] = [];
  const drain = (): number[] => lengths.splice(0);

  /** Waits until what was sent is at the far host or lost, and what was reported of it is followed. */
  async function settle(): Promise<void> {
    const router = near(1);
    await heardOf(engine, family, router);
    await Bun.sleep(LOOK_MS);
    // The control thread looks in a turn after this time, which has ended when it has heard of something again.
    await heardOf(engine, family, router);
    await heardOf(engine, family, router);
    const socket = engine.udp({ address: any });
    expect(socket.send("last", receiver.port, far(2))).toBe(4);
    await until("the last datagram", () => {
      for (let got = receiver.take(); got !== null; got = receiver.take()) {
        if (got.text === "last") return true;
        lengths.push(got.payload.length);
      }
      return false;
    });
    socket.close();
  }

  async function compare(story: (caller: Caller, address: string) => Promise<unknown[]>): Promise<unknown[]> {
    const told: unknown[][] = [];
    for (const open of [openers.kernel, openers.engine]) {
      const caller = open();
      const address = addHost();
      told.push((await story(caller, address)).map((line) => `${line}`.replace(address, "far")));
      caller.close();
    }
    expect(told[1]).toEqual(told[0]);
    return told[0];
  }

  const modes = Array.from({ length: PMTUDISC_OMIT + 1 }, (_, mode) => mode);

  test.each(modes)("IP_MTU_DISCOVER %i: before, when, and after it is learned", async (mode) => {
    const told = await compare(async (caller, address) => {
      caller.set(level, discover, mode);
      wantErrors(caller, family);
      caller.connect(address, receiver.port);
      const said: unknown[] = [caller.get(level, mtu)];
      for (const packet of [1200, NARROW + 1, NARROW + 1, NARROW, 1500, 1501, 4000]) {
        said.push(`${packet}: ${caller.send(new Uint8Array(packet - headers))}`);
        await settle();
        said.push(`${drain()}`, caller.soError(), caller.readError(), caller.readError(), caller.get(level, mtu));
      }
      return said;
    });
    // The router is heard where it may not take packets apart, and its word counts.
    const heard = told.some((line) => `${line}`.includes(`info ${NARROW} to far:${receiver.port} by ${near(1)}`));
    expect([mode, heard]).toEqual([mode, mode < PMTUDISC_INTERFACE && (family === 6 || mode > PMTUDISC_DONT)]);
  });

  test("not connected, without asking for errors", async () => {
    const told = await compare(async (caller, address) => {
      const said: string[] = [];
      for (const packet of [1400, 1400, 1500]) {
        said.push(caller.send(new Uint8Array(packet - headers), { address, port: receiver.port }));
        await settle();
        said.push(`${drain()}`, caller.soError());
      }
      return said;
    });
    // The first is lost, and says why; the others are taken apart.
    const lengths = [1400, 1400, 1500].map((packet) => `${packet - headers}`);
    expect(told).toEqual([lengths[0], "", "0", lengths[1], lengths[1], "0", lengths[2], lengths[2], "0"]);
  });

  /** What leaves by the kernel of `count` packets of so many bytes. */
  function viaKernel(caller: Caller, address: string, packet: number, count = 5): number {
    const { UdpOutViaKernel } = engine.counters();
    for (let i = 0; i < count; i++) caller.send(new Uint8Array(packet - headers), { address, port: receiver.port });
    return engine.counters().UdpOutViaKernel - UdpOutViaKernel;
  }

  test("forgotten when the kernel forgets: ip route flush cache", async () => {
    const caller = openers.engine();
    const address = addHost();
    caller.set(level, discover, PMTUDISC_WANT);
    viaKernel(caller, address, 1400);
    await until("the path MTU", () => viaKernel(caller, address, 1400) === 5);
    expect(viaKernel(caller, address, NARROW)).toBe(0);
    const widen = (bytes: number): void => {
      ipRun(hosts.a.ns, "link", "set", "far0", "mtu", `${bytes}`);
      ipRun(end, "link", "set", "eth0", "mtu", `${bytes}`);
    };
    widen(1500);
    await Bun.sleep(2 * ASK_MS);
    expect(viaKernel(caller, address, 1400)).toBe(5);
    ipRun(hosts.b.ns, `-${family}`, "route", "flush", "cache");
    await until("the link's", () => viaKernel(caller, address, 1400) === 0);
    widen(NARROW);
    caller.close();
    await settle();
    drain();
  });

  /** Has the wire say that a datagram to the far host was too big. */
  function forge(address: string, port: number, told: number): void {
    const wire = new PacketSocket(hosts.a.ns, hosts.a.ifindex);
    const datagram = udp(port, receiver.port, new Uint8Array(64));
    const quoted =
      family === 4
        ? ip4({ source: near(2), destination: address, protocol: 17, payload: datagram })
        : ip6({ source: near(2), destination: address, protocol: 17, payload: datagram });
    const packet =
      family === 4
        ? ip4({ source: near(1), destination: near(2), protocol: 1, payload: icmp4(3, 4, told, quoted) })
        : icmp6(near(1), near(2), [2, 0, told], quoted);
    wire.send(framed(hosts.b.mac, hosts.a.mac, packet));
    wire.close();
  }

  test("a forged report takes the fast path from nothing that the kernel would not cut", async () => {
    const caller = openers.engine();
    const address = addHost();
    caller.set(level, discover, PMTUDISC_WANT);
    wantErrors(caller, family);
    const kernel = openers.kernel();
    kernel.connect(address, receiver.port);
    viaKernel(caller, address, 100);
    await until("the fast path", () => viaKernel(caller, address, 100) === 0);
    // Of no socket of ours: nobody believes it.
    forge(address, caller.port ^ 1, 600);
    await settle();
    const link = kernel.get(level, mtu);
    expect(viaKernel(caller, address, NARROW)).toBe(0);
    for (const told of [68, 1, 0]) {
      forge(address, caller.port, told);
      await settle();
    }
    caller.readError();
    kernel.connect(address, receiver.port);
    const believed = Buffer.from(kernel.get(level, mtu), "hex").readInt32LE();
    // IPv4: net.ipv4.route.min_pmtu. IPv6: less than 1280 is no path MTU.
    expect(believed).toBe(family === 4 ? 552 : Buffer.from(link, "hex").readInt32LE());
    while (caller.soError() !== "0");
    expect(viaKernel(caller, address, Math.min(believed, NARROW))).toBe(0);
    if (family === 4) expect(viaKernel(caller, address, believed + 1)).toBe(5);
    caller.close();
    kernel.close();
    await settle();
    drain();
  });
});
