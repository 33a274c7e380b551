/**
 * A host given frames that are nearly right: nothing is thrown, each one is taken by somebody or counted, what the host says
 * is well formed, what it remembers has its bounds, and it goes on answering and keeping time.
 */
import { describe, expect, test } from "bun:test";
import { ERRNO } from "af-xdp-bindings";
import { Random } from "../../queues/random.ts";
import { ADDRESSES_MAX } from "../../sockets/host/config.ts";
import { HOST_FRAGMENT, HOST_GROUPS, HOST_TAKEN, HOST_TRANSPORT } from "../../sockets/host/host.ts";
import { NEIGHBOURS_PER_FAMILY } from "../../sockets/host/neighbours.ts";
import { PATH_MTUS_MAX } from "../../sockets/host/path-mtu.ts";
import { AUTOCONF_MAX, PREFIXES_MAX } from "../../sockets/host/router-discovery.ts";
import { ip } from "../../sockets/wire/address.ts";
import { onesSum } from "../support/frames.ts";
import { igmpQuery, mldQuery, toGroup } from "./group-messages.ts";
import { HostScript, OWN_MAC, OWN4, OWN6, SECOND } from "./host-script.ts";
import { FAMILIES } from "./icmp-messages.ts";
import {
  arp,
  BROADCAST,
  be32,
  framed,
  icmp6,
  ip6,
  macOption,
  put16,
  describe as textOfFrame,
  udp,
} from "./messages.ts";
import { pattern } from "./packets.ts";

const IP = 14;
const MUTATIONS = 40_000;
/** Frames between two looks at the host. */
const ROUND = 500;
const PEER_MAC = Uint8Array.of(2, 0, 0, 0, 0, 0xfe);
const PINGER_MAC = Uint8Array.of(2, 0, 0, 0, 0, 0x99);
const ROUTER = "fe80::e";
const NEIGHBOUR6 = "2001:db8::b";

const toHost = (packet: Uint8Array): Uint8Array => framed(OWN_MAC, PEER_MAC, packet);
const discovery = (source: string, to: string, head: [number, number, number], data: number[]): Uint8Array =>
  toHost(icmp6(source, to, head, data, 255));
const arpOf = (operation: "request" | "reply", sender: string, target: string): Uint8Array =>
  arp({
    operation,
    sender,
    senderMac: PEER_MAC,
    target,
    targetMac: OWN_MAC,
    to: operation === "reply" ? OWN_MAC : BROADCAST,
  });
const prefix = (text: string): number[] => [3, 4, 64, 0xc0, ...be32(3600), ...be32(1800), 0, 0, 0, 0, ...ip(text)];

/** An IPv6 packet with hop-by-hop and destination options before a datagram. */
const extended = (): Uint8Array =>
  ip6({
    source: FAMILIES[1].peer,
    destination: OWN6,
    protocol: 0,
    payload: Uint8Array.from([60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0, ...udp(4000, 9, [1, 2, 3])]),
  });

/** A frame of every kind that a host takes. */
const CORPUS: readonly Uint8Array[] = [
  arpOf("request", "198.18.0.7", OWN4),
  arpOf("request", "0.0.0.0", OWN4),
  arpOf("request", OWN4, OWN4),
  arpOf("reply", "198.18.0.8", OWN4),
  discovery(NEIGHBOUR6, "ff02::1:ff00:1", [135, 0, 0], [...ip(OWN6), ...macOption(1, PEER_MAC)]),
  discovery("::", "ff02::1:ff00:1", [135, 0, 0], [...ip(OWN6)]),
  discovery(NEIGHBOUR6, OWN6, [136, 0, 0x6000_0000], [...ip(NEIGHBOUR6), ...macOption(2, PEER_MAC)]),
  discovery(NEIGHBOUR6, "ff02::1", [136, 0, 0x2000_0000], [...ip(OWN6), ...macOption(2, PEER_MAC)]),
  discovery(
    ROUTER,
    "ff02::1",
    [134, 0, 64 * 2 ** 24 + 1800],
    [...be32(30_000), ...be32(1000), ...macOption(1, PEER_MAC), 5, 1, 0, 0, ...be32(1400), ...prefix("2001:db8:1::")],
  ),
  discovery(ROUTER, OWN6, [137, 0, 0], [...ip(ROUTER), ...ip("2001:db8:9::1"), ...macOption(2, PEER_MAC)]),
  ...FAMILIES.flatMap((family) => [
    toHost(family.echo(pattern(40, 1))),
    toHost(family.reply()),
    toHost(family.packet(17, udp(4000, 9, pattern(20, 2)))),
    toHost(family.packet(132, pattern(30, 3))),
    toHost(family.fragment(0, true)),
    toHost(family.fragment(8, false)),
    toHost(family.icmp([...family.portUnreachable, 0], family.sentTo(family.second, udp(7000, 53, [1, 2])))),
    toHost(family.icmp([...family.unknownProtocol, 0], family.fragment(0, true, family.own, family.second))),
    toHost(family.icmp([...family.timeExceeded, 0], family.sentTo(family.second, udp(7000, 53)))),
  ]),
  toHost(FAMILIES[0].icmp([3, 4, 1400], FAMILIES[0].sentTo(FAMILIES[0].second, udp(7000, 53)))),
  toHost(FAMILIES[1].icmp([2, 0, 1400], FAMILIES[1].sentTo(FAMILIES[1].second, udp(7000, 53)))),
  toHost(extended()),
  toGroup(igmpQuery({ version: 3 }), PEER_MAC),
  toGroup(mldQuery({ version: 2 }), PEER_MAC),
];

/** A copy of a frame with one to three changes: bits, bytes, extreme halfwords, its end cut off, something after it. */
function mutated(random: Random, original: Uint8Array): Uint8Array {
  let frame = original.slice();
  for (let changes = 1 + random.below(3); changes > 0 && frame.length > 0; changes--) {
    // The addresses of the frame are checked first, and soon done with.
    const from = random.below(8) === 0 ? 0 : Math.min(12, frame.length - 1);
    const at = from + random.below(frame.length - from);
    switch (random.below(6)) {
      case 0:
        frame[at] ^= 1 << random.below(8);
        break;
      case 1:
        frame[at] = random.below(256);
        break;
      case 2:
        frame.fill(random.below(2) * 255, at, at + 2);
        break;
      case 3:
        frame = frame.slice(0, random.below(frame.length + 1));
        break;
      case 4:
        frame = Uint8Array.from([...frame, ...pattern(random.below(40), random.below(256))]);
        break;
      default:
        frame.copyWithin(at, random.below(frame.length), at + random.below(24));
    }
  }
  return frame;
}

/** Makes checksums right, and perhaps lengths, where the frame is still IP enough to have them. */
function mend(frame: Uint8Array, lengths: boolean): void {
  const packet = frame.subarray(IP);
  if (frame.length < IP + 20) return;
  if (frame[12] === 0x08 && frame[13] === 0) mend4(packet, lengths);
  if (frame[12] === 0x86 && frame[13] === 0xdd && packet.length >= 40) mend6(packet, lengths);
}

function mend4(packet: Uint8Array, lengths: boolean): void {
  const header = (packet[0] & 15) * 4;
  if (header < 20 || header > packet.length) return;
  if (lengths) put16(packet, 2, packet.length);
  put16(packet, 10, 0);
  put16(packet, 10, ~onesSum(packet, 0, header) & 0xffff);
  const end = Math.min(packet.length, (packet[2] << 8) | packet[3]);
  if (packet[9] !== 1 || end < header + 8) return;
  put16(packet, header + 2, 0);
  put16(packet, header + 2, ~onesSum(packet, header, end) & 0xffff);
}

function mend6(packet: Uint8Array, lengths: boolean): void {
  if (lengths) put16(packet, 4, packet.length - 40);
  const length = (packet[4] << 8) | packet[5];
  if (packet[6] !== 58 || length < 8 || 40 + length > packet.length) return;
  put16(packet, 42, 0);
  const pseudo = onesSum([...packet.subarray(8, 40), ...be32(length), 0, 0, 0, 58]);
  put16(packet, 42, ~onesSum(packet, 40, 40 + length, pseudo) & 0xffff);
}

const total = (counters: Float64Array): number => counters.reduce((sum, count) => sum + count, 0);

/** Gives the host a frame, and does what whoever runs it would; false: nobody had it, and nobody counted it. */
function feed(host: HostScript, frame: Uint8Array): boolean {
  const before = total(host.host.counters);
  const verdict = host.verdict(frame);
  if (verdict === HOST_TRANSPORT) host.host.portUnreachable(frame, host.now);
  if (verdict === HOST_FRAGMENT) host.host.reassemblyTimeout(frame.subarray(IP), host.now);
  for (const report of host.reports.splice(0)) host.host.acceptPathMtu(report, host.now);
  if (verdict === HOST_TAKEN) return total(host.host.counters) > before;
  return verdict === HOST_TRANSPORT || verdict === HOST_FRAGMENT || verdict === HOST_GROUPS;
}

/** What was sent since the last look, read field by field; throws where it is malformed. */
function readSent(host: HostScript): string[] {
  for (const frame of host.packets.splice(0)) textOfFrame(frame);
  return host.sent();
}

/** Somebody whom no frame of the corpus names says who he is, and asks for an echo in each family. */
function ping(host: HostScript): string[] {
  const [four, six] = ["198.18.0.153", "2001:db8::99"];
  host.verdict(arp({ operation: "request", sender: four, senderMac: PINGER_MAC, target: OWN4 }));
  const hello = [...ip(OWN6), ...macOption(1, PINGER_MAC)];
  host.verdict(framed(OWN_MAC, PINGER_MAC, icmp6(six, OWN6, [135, 0, 0], hello, 255)));
  readSent(host);
  host.verdict(framed(OWN_MAC, PINGER_MAC, FAMILIES[0].echo([1], { source: four })));
  host.verdict(framed(OWN_MAC, PINGER_MAC, FAMILIES[1].echo([1], { source: six })));
  return readSent(host);
}

const PONGS = [
  `${PINGER_MAC.toHex()} < ${OWN4} > 198.18.0.153 icmp 0/0 29`,
  `${PINGER_MAC.toHex()} < ${OWN6} > 2001:db8::99 icmp6 129/0 49`,
];

function expectBounded(host: HostScript): void {
  const { addresses, neighbours } = host.host;
  const fib = host.host.fib();
  expect(addresses.length).toBeLessThanOrEqual(ADDRESSES_MAX + 1 + AUTOCONF_MAX);
  expect(neighbours.length).toBeLessThanOrEqual(2 * NEIGHBOURS_PER_FAMILY);
  expect(fib.routes.length).toBeLessThanOrEqual(ADDRESSES_MAX + 1 + PREFIXES_MAX + PATH_MTUS_MAX + 2);
}

describe.each([1, 2, 3])("seed %d", (seed) => {
  test(`${MUTATIONS} frames that are nearly right`, () => {
    const random = new Random(seed);
    const host = new HostScript({ acceptRa: true, gateways: ["198.18.0.254"] }, seed);
    host.pass(10 * SECOND);
    host.sent();
    for (let done = 0; done < MUTATIONS; done += ROUND) {
      for (let i = 0; i < ROUND; i++) {
        const frame = mutated(random, CORPUS[random.below(CORPUS.length)]);
        if (random.below(2) === 0) mend(frame, random.below(2) === 0);
        if (!feed(host, frame)) throw new Error(`neither taken nor counted: ${frame.toHex()}`);
      }
      readSent(host);
      expect(ping(host)).toEqual(PONGS);
      host.pass(random.below(4) === 0 ? 20 * SECOND : random.below(200));
      expectBounded(host);
    }
    // Not for want of being heard: frames got as far as to teach something.
    expect(host.count("PathMtuUpdates")).toBeGreaterThan(0);
    expect(host.host.neighbours.length).toBeGreaterThan(1);
  });
});

test("time goes on afterwards: a neighbour is asked for three times, and given up", () => {
  const random = new Random(7);
  const host = new HostScript({ acceptRa: true }, 7);
  host.pass(10 * SECOND);
  for (let i = 0; i < 5000; i++) feed(host, mutated(random, CORPUS[random.below(CORPUS.length)]));
  host.pass(1000 * SECOND);
  host.reports.length = 0;
  host.send(FAMILIES[0].sentTo("198.18.0.201", udp(7000, 53)));
  const asked = [...host.sent(), ...host.pass(5 * SECOND).map(({ text }) => text)];
  expect(asked.filter((text) => text.includes("who has 198.18.0.201")).length).toBe(3);
  expect(host.reports.map(({ errno }) => errno)).toEqual([ERRNO.EHOSTUNREACH]);
});
