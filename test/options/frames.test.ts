/** What options put into packets: the same send by a kernel socket and by the engine's, the frames captured at the peer. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Engine } from "../../engine/engine.ts";
import {
  IP_MTU_DISCOVER,
  IP_MULTICAST_IF,
  IP_MULTICAST_TTL,
  IP_TOS,
  IP_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_DONTFRAG,
  IPV6_MTU_DISCOVER,
  IPV6_MULTICAST_HOPS,
  IPV6_MULTICAST_IF,
  IPV6_TCLASS,
  IPV6_UNICAST_HOPS,
  SO_BINDTOIFINDEX,
  SO_BROADCAST,
  SO_DONTROUTE,
  SO_NO_CHECK,
  SO_PRIORITY,
  SOL_SOCKET,
  SOL_UDP,
  UDP_NO_CHECK6_TX,
} from "../../sockets/options.ts";
import { PacketSocket } from "../host/packet-socket.ts";
import { makeHosts, requires, type VethPair } from "../support/hosts.ts";
import { until } from "../support/kernel-udp.ts";
import { type Caller, EngineCaller, KernelCaller } from "./errors.ts";

setDefaultTimeout(60_000);

const missing = requires("veth", "af_xdp", "bpf");
const PORT = 9;
/** Where the last datagram goes: what was sent before it has left when it is on the wire. */
const LAST_PORT = 10;
const ETHERNET = 14;
const UDP = 17;
const FRAGMENT = 44;

/** Level, name and value of an option; the value may depend on the hosts. */
type Setting = [level: number, name: number, value: number | ((hosts: VethPair, other: number) => number)];

interface Case {
  readonly what: string;
  readonly settings: Setting[];
  /** Bytes of payload. */
  readonly length?: number;
  /** Default the peer's address. */
  readonly to?: string;
  /** Whether an lcore sends it. */
  readonly fast: boolean;
}

const LIMITED = "255.255.255.255";
const SUBNET = "198.18.0.255";
const broadcast: Setting = [SOL_SOCKET, SO_BROADCAST, 1];
const device = (hosts: VethPair): number => hosts.b.ifindex;
const modes = (level: number, name: number): Case[] =>
  [0, 1, 2, 3, 4, 5].flatMap((mode) =>
    [100, 1400, 3000].map((length) => ({
      what: `MTU_DISCOVER ${mode}, ${length} bytes`,
      settings: [[level, name, mode] as Setting],
      length,
      fast: length < 1500,
    })),
  );
const anyFamily: Case[] = [
  { what: "plain", settings: [], fast: true },
  { what: "empty", settings: [], length: 0, fast: true },
  { what: "SO_PRIORITY", settings: [[SOL_SOCKET, SO_PRIORITY, 5]], fast: false },
  { what: "SO_DONTROUTE", settings: [[SOL_SOCKET, SO_DONTROUTE, 1]], fast: false },
  { what: "bound to its interface", settings: [[SOL_SOCKET, SO_BINDTOIFINDEX, device]], fast: true },
  { what: "to another one", settings: [[SOL_SOCKET, SO_BINDTOIFINDEX, (_, other) => other]], fast: false },
];

const CASES: Record<4 | 6, Case[]> = {
  4: [
    ...anyFamily,
    ...[1, 63, 255].map((ttl) => ({
      what: `IP_TTL ${ttl}`,
      settings: [[IPPROTO_IP, IP_TTL, ttl]] as Setting[],
      fast: true,
    })),
    ...[1, 3, 0x10, 0xb8, 255].map((tos) => ({
      what: `IP_TOS ${tos}`,
      settings: [[IPPROTO_IP, IP_TOS, tos]] as Setting[],
      fast: true,
    })),
    ...modes(IPPROTO_IP, IP_MTU_DISCOVER),
    { what: "SO_NO_CHECK", settings: [[SOL_SOCKET, SO_NO_CHECK, 1]], fast: true },
    ...[LIMITED, SUBNET].flatMap((to) => [
      { what: `to ${to}, not allowed`, settings: [], to, fast: false },
      { what: `to ${to}`, settings: [broadcast], to, fast: false },
      { what: `to ${to} with a TTL`, settings: [broadcast, [IPPROTO_IP, IP_TTL, 7]] as Setting[], to, fast: false },
    ]),
    { what: "to a group", settings: [], to: "239.1.2.3", fast: false },
    { what: "to a group, IP_TTL is not its TTL", settings: [[IPPROTO_IP, IP_TTL, 9]], to: "239.1.2.3", fast: false },
    ...[0, 1, 32, 255].map((ttl) => ({
      what: `to a group, IP_MULTICAST_TTL ${ttl}`,
      settings: [[IPPROTO_IP, IP_MULTICAST_TTL, ttl]] as Setting[],
      to: "239.1.2.3",
      fast: false,
    })),
    {
      what: "to a group by our address",
      settings: [[IPPROTO_IP, IP_MULTICAST_IF, 0x020012c6]],
      to: "239.1.2.3",
      fast: false,
    },
  ],
  6: [
    ...anyFamily,
    ...[0, 1, 63, 255].map((hops) => ({
      what: `IPV6_UNICAST_HOPS ${hops}`,
      settings: [[IPPROTO_IPV6, IPV6_UNICAST_HOPS, hops]] as Setting[],
      fast: true,
    })),
    ...[1, 0xb8, 255].map((tclass) => ({
      what: `IPV6_TCLASS ${tclass}`,
      settings: [[IPPROTO_IPV6, IPV6_TCLASS, tclass]] as Setting[],
      fast: true,
    })),
    ...modes(IPPROTO_IPV6, IPV6_MTU_DISCOVER),
    { what: "IPV6_DONTFRAG", settings: [[IPPROTO_IPV6, IPV6_DONTFRAG, 1]], fast: true },
    { what: "IPV6_DONTFRAG, long", settings: [[IPPROTO_IPV6, IPV6_DONTFRAG, 1]], length: 3000, fast: false },
    { what: "UDP_NO_CHECK6_TX", settings: [[SOL_UDP, UDP_NO_CHECK6_TX, 1]], fast: true },
    ...[0, 1, 32, 255].map((hops) => ({
      what: `to a group, IPV6_MULTICAST_HOPS ${hops}`,
      settings: [
        [IPPROTO_IPV6, IPV6_MULTICAST_IF, device],
        [IPPROTO_IPV6, IPV6_MULTICAST_HOPS, hops],
      ] as Setting[],
      to: "ff15::77",
      fast: false,
    })),
  ],
};

/** A frame in hex without what differs from one packet to the next: IPv4's id and header checksum, IPv6's flow label and fragment id. */
function normal(frame: Uint8Array): string {
  const copy = frame.slice();
  if (copy[ETHERNET] >> 4 === 4) {
    copy.fill(0, ETHERNET + 4, ETHERNET + 6);
    copy.fill(0, ETHERNET + 10, ETHERNET + 12);
  } else {
    copy[ETHERNET + 1] &= 0xf0;
    copy.fill(0, ETHERNET + 2, ETHERNET + 4);
    if (copy[ETHERNET + 6] === FRAGMENT) copy.fill(0, ETHERNET + 44, ETHERNET + 48);
  }
  return copy.toHex();
}

/** Whether it is a datagram, or a part of one, of ours. */
function isUdp(frame: Uint8Array): boolean {
  const type = (frame[12] << 8) | frame[13];
  if (type === 0x0800) return frame[ETHERNET + 9] === UDP;
  return type === 0x86dd && [UDP, FRAGMENT].includes(frame[ETHERNET + 6]);
}

/** Whether it is the last datagram. */
function isLast(frame: Uint8Array): boolean {
  const isV4 = frame[ETHERNET] >> 4 === 4;
  if (frame[ETHERNET + (isV4 ? 9 : 6)] !== UDP) return false;
  const port = ETHERNET + (isV4 ? 20 : 40) + 2;
  return ((frame[port] << 8) | frame[port + 1]) === LAST_PORT;
}

describe.skipIf(missing !== "").each([4, 6] as const)("frames, IPv%i", (family) => {
  let hosts: VethPair;
  let engine: Engine;
  let wire: PacketSocket;
  let other = 0;
  const any = family === 4 ? "0.0.0.0" : "::";
  const peer = (): string => (family === 4 ? hosts.a.ipv4Text : hosts.a.ipv6Text);

  beforeAll(async () => {
    hosts = makeHosts();
    const { a, b } = hosts;
    b.rtnl.createVeth({ name: "other0" }, { name: "other1", netnsFd: b.ns.fd });
    for (const name of ["other0", "other1"]) b.rtnl.setLink(b.rtnl.link(name).ifindex, { up: true });
    other = b.rtnl.link("other0").ifindex;
    // Groups and the limited broadcast address are reached by the default route.
    b.rtnl.addRoute({ destination: new Uint8Array(4), prefixLength: 0, gateway: a.ipv4, oif: b.ifindex });
    b.rtnl.setNeighbour(b.ifindex, a.ipv4, a.mac);
    b.rtnl.setNeighbour(b.ifindex, a.ipv6, a.mac);
    engine = await Engine.start({ interface: b.name, netns: b.ns.path });
    wire = new PacketSocket(a.ns, a.ifindex);
  });
  afterAll(async () => {
    wire?.close();
    await engine?.close();
    hosts?.close();
  });

  /** What the calls say, then the frames. The last datagram is that of another socket of the caller's kind. */
  async function sent(caller: Caller, last: Caller, { settings, length = 40, to }: Case): Promise<string[]> {
    const said = settings.map(([level, name, value]) =>
      caller.set(level, name, typeof value === "number" ? value : value(hosts, other)),
    );
    const address = to ?? peer();
    const payload = Uint8Array.from({ length }, (_, i) => i * 7);
    said.push(caller.send(payload, { address, port: PORT }));
    expect(last.send(Uint8Array.of(1), { address: peer(), port: LAST_PORT })).toBe("1");
    let ended = false;
    await until("the last datagram", () => {
      for (let frame = wire.receive(); frame !== null && !ended; frame = wire.receive()) {
        ended = isUdp(frame) && isLast(frame);
        if (isUdp(frame) && !ended) said.push(normal(frame));
      }
      return ended;
    });
    return said;
  }

  test.each(CASES[family])("$what", async (what) => {
    const kernel = new KernelCaller(hosts.b.ns, family);
    const { port } = kernel;
    const lastKernel = new KernelCaller(hosts.b.ns, family);
    const expected = await sent(kernel, lastKernel, what);
    kernel.close();
    lastKernel.close();
    const caller = new EngineCaller(engine.udp({ address: any, port }));
    const last = new EngineCaller(engine.udp({ address: any }));
    const { UdpOutDatagrams } = engine.counters();
    const told = await sent(caller, last, what);
    caller.close();
    last.close();
    expect(told).toEqual(expected);
    const byLcore = (): number => engine.counters().UdpOutDatagrams - UdpOutDatagrams;
    const leave = what.fast ? 2 : 1;
    await until("the counter", () => byLcore() >= leave);
    expect(byLcore()).toBe(leave);
  });
});
