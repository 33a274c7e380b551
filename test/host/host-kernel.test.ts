/** The same frames given to a kernel and to a host of ours with the same addresses: both say the same, or nothing. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import type { VethPair } from "../../engine/host/hosts.ts";
import { Random } from "../../queues/random.ts";
import { HOST_TRANSPORT } from "../../sockets/host/host.ts";
import { ip } from "../../sockets/wire/address.ts";
import { until as becomes, run } from "../faults/serving.ts";
import { makeHosts, requires } from "../support/hosts.ts";
import { until } from "../support/kernel-udp.ts";
import { LOCAL6, OWN_MAC, OWN4, OWN6 } from "./host-script.ts";
import { FAMILIES, GATEWAY_MAC, STRANGER_MAC, withGateway } from "./icmp-messages.ts";
import { arp, BROADCAST, framed, icmp4, icmp6, ip4, ip6, macOption, describe as textOfFrame } from "./messages.ts";
import { PacketSocket } from "./packet-socket.ts";
import { fragmentOf, pattern, sealed4, udpPacket } from "./packets.ts";

const IP = 14;
/** Bytes that a frame is padded to, by us where the kernel leaves it to the driver. */
const ETH_ZLEN = 60;
const [V4, V6] = FAMILIES;
const NEAR4 = "198.18.0.40";
const NEAR6 = "2001:db8::40";
const ALL_NODES_MAC = Uint8Array.of(0x33, 0x33, 0, 0, 0, 1);
const SOLICITED = "ff02::1:ff00:1";
const SOLICITED_MAC = Uint8Array.of(0x33, 0x33, 0xff, 0, 0, 1);
/** Identifier of the echo request by which the kernel's last word is known. */
const LAST = 0xfffe_0000;

const to = (packet: Uint8Array, mac = OWN_MAC): Uint8Array => framed(mac, GATEWAY_MAC, packet);
const asks = (fields: object): Uint8Array =>
  arp({ operation: "request", sender: NEAR4, senderMac: STRANGER_MAC, target: OWN4, ...fields });
const solicits = (target: string, options = macOption(1, STRANGER_MAC), source = NEAR6, hopLimit = 255): Uint8Array =>
  framed(SOLICITED_MAC, STRANGER_MAC, icmp6(source, SOLICITED, [135, 0, 0], [...ip(target), ...options], hopLimit));
const datagram = (family = V4, length = 4, destination = family.own): Uint8Array =>
  udpPacket({ source: family.peer, destination, port: 9, payload: pattern(length, 1) });
/** IPv6 with an extension header of eight bytes before a datagram. */
const extended = (type: number, ...header: number[]): Uint8Array => {
  const inner = datagram(V6).subarray(40);
  return ip6({
    source: V6.peer,
    destination: OWN6,
    protocol: type,
    payload: Uint8Array.from([17, 0, ...header, ...inner]),
  });
};
const secondHop = (): Uint8Array =>
  ip6({
    source: V6.peer,
    destination: OWN6,
    protocol: 60,
    payload: Uint8Array.from([0, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0, ...datagram(V6).subarray(40)]),
  });
const withOptions = (...options: number[]): Uint8Array =>
  ip4({ source: V4.peer, destination: OWN4, protocol: 1, payload: icmp4(8, 0, 5, [1, 2, 3]), options });
const udpPayload = (): Uint8Array => datagram().subarray(20);
/** With a record route whose pointer is wrong. */
const wrongly = (protocol: number, payload: Uint8Array, fields: object = {}): Uint8Array =>
  ip4({ source: V4.peer, destination: OWN4, protocol, payload, options: [1, 7, 7, 2, 0, 0, 0, 0], ...fields });
const damaged = (packet: Uint8Array, at: number): Uint8Array => {
  packet[at] ^= 0x10;
  return packet;
};

/** What is given, and how many frames come back. */
const CASES: [string, number, Uint8Array][] = [
  ["ARP request", 1, asks({})],
  ["ARP request to this station alone", 1, asks({ to: OWN_MAC })],
  ["ARP request for another's address", 0, asks({ target: "198.18.0.77" })],
  ["ARP probe for the own address", 1, asks({ sender: "0.0.0.0" })],
  ["ARP probe for another's", 0, asks({ sender: "0.0.0.0", target: "198.18.0.77" })],
  ["ARP request from a loopback address", 0, asks({ target: "127.0.0.1" })],
  ["ARP reply that nobody asked for", 0, asks({ operation: "reply", to: OWN_MAC })],
  ["ARP with an unknown operation", 0, asks({ operation: 9 })],
  ["ARP cut short", 0, asks({}).slice(0, IP + 27)],
  ["solicitation", 1, solicits(OWN6)],
  ["solicitation without the sender's MAC address", 1, solicits(OWN6, [])],
  ["solicitation of nobody", 1, solicits(OWN6, [], "::")],
  ["solicitation of nobody who has a MAC address", 0, solicits(OWN6, macOption(1, STRANGER_MAC), "::")],
  ["solicitation for another's address", 0, solicits("2001:db8::77")],
  ["solicitation from further away", 0, solicits(OWN6, [], NEAR6, 254)],
  ["solicitation with an option of no length", 0, solicits(OWN6, [1, 0, 0, 0, 0, 0, 0, 0])],
  ["advertisement that nobody asked for", 0, to(icmp6(NEAR6, OWN6, [136, 0, 0], [...ip(NEAR6)], 255))],
  ["redirect from no router", 0, to(icmp6("fe80::77", OWN6, [137, 0, 0], [...ip(NEAR6), ...ip(V6.peer)], 255))],
  ["echo request of which the IPv4 checksum is wrong", 0, to(damaged(V4.echo(), 10))],
  ["echo request with options that do nothing", 1, to(withOptions(1, 1, 1, 0))],
  ["echo request with a source route", 0, to(withOptions(131, 7, 4, 198, 18, 0, 9, 0))],
  ...[
    ["leaves its header", [7, 40, 4, 0]],
    ["has no length", [1, 1, 1, 7]],
    ["has the length 1", [7, 1, 0, 0]],
    ["record route: no pointer", [7, 2, 0, 0]],
    ["record route: pointer before the first", [7, 7, 3, 0, 0, 0, 0, 0]],
    ["record route: no room for an address", [7, 7, 5, 0, 0, 0, 0, 0]],
    ["time stamp: no flags", [68, 3, 5, 0]],
    ["time stamp: pointer before the first", [68, 8, 4, 0, 0, 0, 0, 0]],
    ["time stamp: no room for an address and a time", [68, 8, 5, 1, 0, 0, 0, 0]],
    ["time stamp: no room for a time", [68, 8, 6, 0, 0, 0, 0, 0]],
    ["time stamp: more than 15 hosts found no room", [68, 8, 9, 0xf0, 0, 0, 0, 0]],
    ["source route: no pointer", [131, 2, 0, 0]],
    ["source route: pointer before the first", [137, 7, 3, 198, 18, 0, 9, 0]],
    ["two source routes", [131, 3, 4, 137, 3, 4, 0, 0]],
    ["router alert: too short", [148, 3, 0, 0]],
  ].map(([name, options]): [string, number, Uint8Array] => [
    `IPv4 option ${name}`,
    1,
    to(withOptions(...(options as number[]))),
  ]),
  ["IPv4 option that is wrong, in a datagram", 1, to(wrongly(17, udpPayload()))],
  ["IPv4 option that is wrong, in an unknown protocol", 1, to(wrongly(253, pattern(40, 3)))],
  ["IPv4 option that is wrong, in an error", 0, to(wrongly(1, icmp4(3, 3, 0, datagram())))],
  ["IPv4 option that is wrong, in a first fragment", 1, to(wrongly(17, pattern(64, 1), { fragment: 0x2000 }))],
  ["IPv4 option that is wrong, in a later fragment", 0, to(wrongly(17, pattern(64, 1), { fragment: 8 }))],
  [
    "IPv4 option that is wrong, in a broadcast",
    0,
    to(wrongly(17, udpPayload(), { destination: "198.18.0.255" }), BROADCAST),
  ],
  ["IPv4 option that is wrong, in a packet of 1400 bytes", 1, to(wrongly(17, pattern(1400, 1)))],
  ["IPv4 option that is wrong, with a type of service", 1, to(wrongly(17, udpPayload(), { tos: 0x1c }))],
  ["echo request to the network's broadcast", 0, to(V4.echo([], { destination: "198.18.0.255" }), BROADCAST)],
  ["echo request to 255.255.255.255", 0, to(V4.echo([], { destination: "255.255.255.255" }), BROADCAST)],
  ["echo request to 224.0.0.1", 0, to(V4.echo([], { destination: "224.0.0.1" }), Uint8Array.of(1, 0, 0x5e, 0, 0, 1))],
  ["echo request from the own address", 0, to(V4.echo([], { source: OWN4 }))],
  ["echo request from 127.0.0.1", 0, to(V4.echo([], { source: "127.0.0.1" }))],
  ["echo request to ff02::1", 1, to(V6.echo([], { destination: "ff02::1" }), ALL_NODES_MAC)],
  ["echo request to the solicited-node group", 1, to(V6.echo([], { destination: SOLICITED }), SOLICITED_MAC)],
  ["echo request to a group of others", 0, to(V6.echo([], { destination: "ff02::77" }), ALL_NODES_MAC)],
  ["echo request from ::1", 0, to(V6.echo([], { source: "::1" }))],
  ["echo request from a group", 0, to(V6.echo([], { source: "ff02::1" }))],
  ["address mask request", 0, to(V4.icmp([17, 0, 0], [0, 0, 0, 0]))],
  ["ICMP of an unknown type", 0, to(V4.icmp([40, 0, 0], []))],
  ["ICMPv6 information of an unknown type", 0, to(V6.icmp([200, 0, 0], []))],
  ["ICMPv6 error of an unknown type", 0, to(V6.icmp([100, 0, 0], datagram(V6)))],
  ["no next header", 0, to(V6.packet(59, pattern(8, 1)))],
  ["datagram to the network's broadcast", 0, to(datagram(V4, 4, "198.18.0.255"), BROADCAST)],
  ["datagram to a group", 0, to(datagram(V6, 4, "ff02::1"), ALL_NODES_MAC)],
  ["datagram in a broadcast frame", 0, to(datagram(), BROADCAST)],
  ["datagram after hop-by-hop options", 1, to(extended(0, 1, 4, 0, 0, 0, 0))],
  ["datagram after destination options", 1, to(extended(60, 1, 4, 0, 0, 0, 0))],
  ["option that may be skipped", 1, to(extended(60, 0x1e, 4, 0, 0, 0, 0))],
  ["unknown option: discard", 0, to(extended(60, 0x40, 4, 0, 0, 0, 0))],
  ["unknown option: discard and tell", 1, to(extended(60, 0x80, 4, 0, 0, 0, 0))],
  ["unknown option: discard and tell, but not of groups", 1, to(extended(60, 0xc0, 4, 0, 0, 0, 0))],
  ["unknown hop-by-hop option: discard", 0, to(extended(0, 0x40, 4, 0, 0, 0, 0))],
  ["unknown hop-by-hop option: discard and tell", 1, to(extended(0, 0x80, 4, 0, 0, 0, 0))],
  ["router alert", 1, to(extended(0, 5, 2, 0, 0, 1, 0))],
  ["router alert among destination options", 1, to(extended(60, 5, 2, 0, 0, 1, 0))],
  ["option that leaves its header", 0, to(extended(60, 0x1e, 5, 0, 0, 0, 0))],
  ["option without a length", 0, to(extended(60, 1, 3, 0, 0, 0, 0x1e))],
  ["padding that is not zero", 0, to(extended(60, 1, 4, 0, 0, 7, 0))],
  ["padding byte by byte", 1, to(extended(60, 0, 0, 0, 0, 0, 0))],
  ["hop-by-hop options in second place", 1, to(secondHop())],
  ["route at its end", 1, to(extended(43, 0, 0, 0, 0, 0, 0))],
  ["route that goes on", 1, to(extended(43, 0, 1, 0, 0, 0, 0))],
  ["route of no known type", 1, to(extended(43, 99, 1, 0, 0, 0, 0))],
  ["segment routing", 0, to(extended(43, 4, 1, 0, 0, 0, 0))],
  ["segment routing at its end", 0, to(extended(43, 4, 0, 0, 0, 0, 0))],
  ["route of RPL", 0, to(extended(43, 3, 0, 0, 0, 0, 0))],
  ["frame of an unknown EtherType", 0, Uint8Array.from([...OWN_MAC, ...GATEWAY_MAC, 0x88, 0xb5, ...pattern(50, 1)])],
  ...FAMILIES.flatMap((family): [string, number, Uint8Array][] => {
    const { name, own, header } = family;
    return [
      ...[0, 1, 56, 1400, 1500 - header - 8].map((length): [string, number, Uint8Array] => [
        `${name}: echo request of ${length} bytes`,
        1,
        to(family.echo(pattern(length, 2))),
      ]),
      [`${name}: echo request with a type of service`, 1, to(family.withTos(family.echo(), 0xb8))],
      [`${name}: echo request of which the checksum is wrong`, 0, to(damaged(family.echo(), header + 2))],
      [`${name}: echo request cut short`, 0, to(family.message(family.echo().slice(header, header + 7)))],
      [`${name}: echo request to another's address`, 0, to(family.echo([], { destination: family.other }))],
      [`${name}: echo request to another station`, 0, to(family.echo(), STRANGER_MAC)],
      [`${name}: echo reply`, 0, to(family.reply())],
      ...[0, 100, 600, 1280 - 2 * header - 16, 1400].map((length): [string, number, Uint8Array] => [
        `${name}: datagram of ${length} bytes to a closed port`,
        1,
        to(datagram(family, length)),
      ]),
      [`${name}: datagram with a type of service`, 1, to(family.withTos(datagram(family), 0x1c))],
      [`${name}: protocol that nobody serves`, 1, to(family.packet(253, pattern(40, 3)))],
      [`${name}: error about nothing of ours`, 0, to(family.icmp([...family.portUnreachable, 0], datagram(family)))],
      [
        `${name}: not the first fragment of a protocol that nobody serves`,
        0,
        to(fragment(family.packet(253, pattern(64, 4)))),
      ],
      [`${name}: datagram longer than its frame`, 0, to(datagram(family, 100).slice(0, 60))],
      [
        `${name}: packet of which the version is another`,
        0,
        to(damaged(family.echo(), 0)).fill(own === OWN4 ? 8 : 0x86, 12, 13),
      ],
    ];
  }),
];

/** What the kernel answers and a host need not, or should not. */
const DIFFERENCES: [string, Uint8Array][] = [
  // RFC 1122, section 3.2.1.3: no host has such an address; the kernel's answer goes to all.
  ["echo request from the broadcast address", to(V4.echo([], { source: "198.18.0.255" }))],
  // RFC 1122, section 3.2.2.8: may be left unanswered, and tells the time to whoever wants to guess by it.
  ["timestamp request", to(V4.icmp([13, 0, 0], Array(12).fill(0)))],
];

function fragment(packet: Uint8Array): Uint8Array {
  return fragmentOf(packet, 8, packet.subarray(packet.length - 24), false, 9);
}

/** A frame without what is chance's: the identification of IPv4, and the checksum over it; the flow label of IPv6. Padded. */
function settled(frame: Uint8Array): string {
  const out = new Uint8Array(Math.max(frame.length, ETH_ZLEN));
  out.set(frame);
  if (out[12] === 8 && out[13] === 6) return `${textOfFrame(out)} ${out.toHex()}`;
  if (out[12] === 8 && out[13] === 0) {
    out.fill(0, IP + 4, IP + 6);
    sealed4(out.subarray(IP));
  } else if (out[12] === 0x86) {
    out[IP + 1] &= 0xf0;
    out.fill(0, IP + 2, IP + 4);
  }
  return `${textOfFrame(frame)} ${out.toHex()}`;
}

describe.skipIf(requires("netns", "veth") !== "")("a host and a kernel, given", () => {
  let hosts: VethPair;
  let wire: PacketSocket;

  beforeAll(async () => {
    hosts = makeHosts();
    const { a, b } = hosts;
    const act = (...words: string[]): void => void run(a, "ip", ...words);
    act("link", "set", a.name, "down");
    act("link", "set", a.name, "address", [...OWN_MAC].map((byte) => byte.toString(16).padStart(2, "0")).join(":"));
    act("link", "set", a.name, "up");
    act("addr", "replace", `${OWN6}/64`, "dev", a.name, "nodad");
    for (const gateway of ["198.18.0.254", "2001:db8::fe"]) a.rtnl.setNeighbour(a.ifindex, ip(gateway), GATEWAY_MAC);
    for (const address of [NEAR4, NEAR6]) a.rtnl.setNeighbour(a.ifindex, ip(address), STRANGER_MAC);
    act("route", "add", "default", "via", "198.18.0.254");
    act("-6", "route", "add", "default", "via", "2001:db8::fe");
    a.ns.run(() => {
      // How many errors there may be is another test's.
      for (const path of ["ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"]) writeFileSync(`/proc/sys/net/${path}`, "0");
      for (const name of ["msgs_per_sec", "msgs_burst"]) writeFileSync(`/proc/sys/net/ipv4/icmp_${name}`, "100000");
    });
    wire = new PacketSocket(b.ns, b.ifindex);
    // A link that has just come up may take what it is asked for a while later.
    await becomes("an answer to each", async () => {
      const said = [...(await kernelFrames(to(V6.echo()))), ...(await kernelFrames(solicits(OWN6)))];
      return said.length === 2;
    });
  });
  afterAll(() => {
    wire?.close();
    hosts?.close();
  });

  /** What the kernel sends for a frame, and an echo request after it: all up to the echo reply. */
  async function kernelFrames(frame: Uint8Array): Promise<Uint8Array[]> {
    while (wire.receive() !== null);
    wire.send(frame);
    wire.send(to(V4.icmp([8, 0, LAST], [])));
    const frames: Uint8Array[] = [];
    const isLast = (got: Uint8Array): boolean =>
      got[IP + 20] === 0 && got.subarray(IP + 24, IP + 28).toHex() === "fffe0000";
    await until("the echo reply", () => {
      for (let got = wire.receive(); got !== null; got = wire.receive()) {
        if (isLast(got)) return true;
        if (!isChatter(got)) frames.push(got);
      }
      return false;
    });
    return frames;
  }

  const kernelSays = async (frame: Uint8Array): Promise<string[]> => (await kernelFrames(frame)).map(settled);

  test.each(CASES)("%s", async (_, answers, frame) => {
    const host = withGateway();
    const near = { sender: NEAR4, senderMac: STRANGER_MAC, target: OWN4 };
    host.take(arp({ operation: "request", ...near }));
    host.take(solicits(OWN6));
    host.now += 2000;
    if (host.verdict(frame) === HOST_TRANSPORT) host.host.portUnreachable(frame, host.now);
    const ours = host.frames.splice(0).map(settled);
    expect(ours).toEqual(await kernelSays(frame));
    expect(ours.length).toBe(answers);
  });

  test.each(DIFFERENCES)("%s: the kernel answers, we do not", async (_, frame) => {
    expect((await kernelSays(frame)).length).toBe(1);
    expect(withGateway().take(frame)).toEqual([]);
  });

  test("options by chance: the same are refused, with the same words", async () => {
    const random = new Random(0x0707);
    const seen = new Set<string>();
    for (let i = 0; i < 400; i++) {
      const frame = to(withOptions(...chanceOptions(random)));
      const host = withGateway();
      host.verdict(frame);
      const ours = problemIn(host.frames[0]);
      const said = await kernelFrames(frame);
      // What is not a refusal may have the kernel's routes and times in it; where they find no room it says nothing.
      expect([frame.toHex(), ours]).toEqual([frame.toHex(), problemIn(said[0])]);
      if (host.frames.length === 0) expect(said).toEqual([]);
      seen.add(ours !== "" ? "refused" : said.length === 0 ? "dropped" : "answered");
    }
    expect(seen.size).toBe(3);
  });

  test("have the same addresses", () => {
    const shown = run(hosts.a, "ip", "-o", "addr", "show", "dev", hosts.a.name);
    expect([shown.includes(`${OWN4}/24`), shown.includes(`${OWN6}/64`), shown.includes(`${LOCAL6}/64`)]).toEqual([
      true,
      true,
      true,
    ]);
  });
});

/** Group reports, which a kernel sends when it pleases. */
const isChatter = (frame: Uint8Array): boolean =>
  (frame[12] === 0x86 && frame[IP + 6] === 0) || (frame[12] === 8 && frame[13] === 0 && frame[IP + 9] === 2);

/** The parameter problem in a frame as hex, without the options that the kernel may have put before it; "" where it is none. */
function problemIn(frame: Uint8Array | undefined): string {
  if (frame === undefined) return "";
  const icmp = IP + (frame[IP] & 15) * 4;
  return frame[icmp] === 12 ? frame.subarray(icmp).toHex() : "";
}

/** One option that may be malformed, among others that do nothing. */
function chanceOptions(random: Random): number[] {
  const type = [7, 68, 131, 134, 137, 148, 130, 136, 94, 222][random.below(10)];
  const before = Array<number>(random.below(3)).fill(1);
  const size = random.below(12);
  const body = Array.from({ length: Math.max(0, size - 2) }, (_, i) => random.below(i === 0 ? 14 : 256));
  const options = [...before, type, size, ...body, ...(random.below(2) === 0 ? [] : [130, 4, 0, 0])];
  while (options.length % 4 !== 0) options.push(random.below(2));
  return options;
}
