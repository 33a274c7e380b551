/**
 * Every option, at every number where some option changes its mind and in every length, on a kernel socket and on the
 * engine's: first without a kernel behind it, then beside one. Verdicts and values must agree.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Engine } from "../../engine/engine.ts";
import { NetNs } from "../../engine/host/netns.ts";
import { IPPROTO_IP, IPPROTO_IPV6, SOL_SOCKET, SOL_UDP } from "../../sockets/options.ts";
import { findOption, OPTIONS } from "../../sockets/sockopt/table.ts";
import { UdpSocket } from "../../sockets/udp-socket.ts";
import { Rig } from "../sockets/rig.ts";
import { makeHosts, requires, type VethPair } from "../support/hosts.ts";
import { EngineParty, KernelParty, type Party, play } from "./parties.ts";

setDefaultTimeout(60_000);

const wildcard = (family: 4 | 6): string => (family === 4 ? "0.0.0.0" : "::");
const FAMILIES = [4, 6] as const;

/** Lines in which the two differ, both told. */
function differences(kernel: Party, engine: Party, level: number, name: number): string[] {
  const [a, b] = [kernel, engine].map((party) => play(party, level, name));
  kernel.close();
  engine.close();
  return a.flatMap((line, i) => (line === b[i] ? [] : [`kernel ${line} | engine ${b[i]}`]));
}

/** Told differently by each kernel: an identity. */
const IDENTITIES = ["SO_COOKIE", "SO_NETNS_COOKIE", "IP_PROTOCOL"];

/** Taken by the kernel and refused here, for want of what they ask for: `npm run conformance` compares them all the same. */
const REFUSED = ["SO_TXTIME", "SO_ZEROCOPY", "UDP_ENCAP"];
/** The same without a kernel. */
const STAMPS = ["SO_TIMESTAMPING", "SO_TIMESTAMPING_NEW"];

/** What a wire without a kernel does not have, because nothing there would obey it. */
const KERNEL_ALONE = [
  "SO_DONTROUTE",
  "SO_TIMESTAMP",
  "SO_TIMESTAMPNS",
  "SO_TIMESTAMP_NEW",
  "SO_TIMESTAMPNS_NEW",
  "SO_MAX_PACING_RATE",
  "SO_PEERNAME",
  "SO_PEERCRED",
  "SO_PEERGROUPS",
  "SO_PEERSEC",
  "SO_INQ",
  "IP_OPTIONS",
  "IP_TRANSPARENT",
  "IP_UNICAST_IF",
  "IPV6_MTU",
  "IPV6_JOIN_ANYCAST",
  "IPV6_LEAVE_ANYCAST",
  "IPV6_FLOWINFO_SEND",
  "IPV6_HOPOPTS",
  "IPV6_RTHDRDSTOPTS",
  "IPV6_RTHDR",
  "IPV6_DSTOPTS",
  "IPV6_AUTOFLOWLABEL",
  "IPV6_ADDR_PREFERENCES",
  "IPV6_TRANSPARENT",
  "IPV6_UNICAST_IF",
  "UDP_CORK",
  "IP_RECVFRAGSIZE",
  "IPV6_ROUTER_ALERT",
  "IPV6_ROUTER_ALERT_ISOLATE",
  "IPV6_FLOWLABEL_MGR",
  "IPV6_PKTINFO",
  "IPV6_PATHMTU",
  "IPV6_RECVFRAGSIZE",
];

describe.skipIf(requires("netns") !== "")("without a kernel behind it", () => {
  const ns = requires("netns") === "" ? NetNs.create() : null;
  afterAll(() => ns?.close());
  const rig = new Rig({ lcores: 2, hostThread: 1 });
  const open = (family: 4 | 6): Party => new EngineParty(UdpSocket.open(rig.threads[0], { address: wildcard(family) }));
  const apart = [...KERNEL_ALONE, ...IDENTITIES, ...REFUSED, ...STAMPS];
  const ruled = OPTIONS.filter(({ label }) => !apart.includes(label));

  test.each(FAMILIES)("IPv%i: as the kernel's", (family) => {
    for (const { level, name, label } of ruled) {
      const found = differences(new KernelParty(ns as NetNs, family), open(family), level, name);
      expect([label, ...found]).toEqual([label]);
    }
  });

  test.each(KERNEL_ALONE)("%s: refused, so that nothing is taken and ignored", (label) => {
    const option = OPTIONS.find((entry) => entry.label === label);
    if (option === undefined) throw new Error(`no option ${label}`);
    const party = open(6);
    const lines = play(party, option.level, option.name);
    expect(lines.filter((line) => line.startsWith("set") && !/: (ENOPROTOOPT|EINVAL)/.test(line))).toEqual([]);
    party.close();
  });
});

const missing = requires("veth", "af_xdp", "bpf");

describe.skipIf(missing !== "")("beside the kernel", () => {
  let hosts: VethPair;
  let engine: Engine;

  beforeAll(async () => {
    hosts = makeHosts();
    engine = await Engine.start({ interface: hosts.b.name, netns: hosts.b.ns.path });
  });
  afterAll(async () => {
    await engine?.close();
    hosts?.close();
  });

  test.each(FAMILIES)("IPv%i: as the kernel's", (family) => {
    for (const { level, name, label } of OPTIONS) {
      if (IDENTITIES.includes(label) || REFUSED.includes(label)) continue;
      const kernel = new KernelParty(hosts.b.ns, family);
      const found = differences(kernel, new EngineParty(engine.udp({ address: wildcard(family) })), level, name);
      expect([label, ...found]).toEqual([label]);
    }
  });

  test("what is not in the table is refused whatever the kernel says", () => {
    const socket = engine.udp({ address: "::" });
    const party = new EngineParty(socket);
    for (const level of [SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6, SOL_UDP, 6, 255, -1]) {
      for (let name = -1; name < 300; name++) {
        if (findOption(level, name) !== undefined) continue;
        expect([level, name, party.set(level, name, new Uint8Array(8))]).toEqual([level, name, "ENOPROTOOPT"]);
        expect([level, name, party.get(level, name, 8)]).toEqual([level, name, "ENOPROTOOPT"]);
      }
    }
    socket.close();
  });
});
