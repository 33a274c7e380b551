/** ICMP and ICMPv6 as scripts: what is answered, what is said of others' packets, and what is believed of ours. */
import { describe, expect, test } from "bun:test";
import { ERRNO } from "af-xdp-bindings";
import { HOST_TAKEN, HOST_TRANSPORT, type IcmpReport } from "../../sockets/host/host.ts";
import { type HostScript, OWN_MAC, OWN4, OWN6, SECOND, textOf } from "./host-script.ts";
import { errorTo, FAMILIES, type Family, GATEWAY_MAC, STRANGER_MAC, withGateway } from "./icmp-messages.ts";
import { BROADCAST, ethernet, framed, icmp4, ip4, udp } from "./messages.ts";
import { pattern } from "./packets.ts";

describe.each(FAMILIES)("echo, $name", (family) => {
  const { own, peer } = family;
  const answered = (length: number): string =>
    `${GATEWAY_MAC.toHex()} < ${own} > ${peer} ${family.replyName} ${family.header + 8 + length}`;

  test.each([0, 1, 56, 511, 1280 - 48, 1500 - family.header - 8])("%d bytes come back", (length) => {
    const host = withGateway();
    const data = pattern(length, 3);
    host.verdict(framed(OWN_MAC, GATEWAY_MAC, family.echo(data)));
    expect(host.frames.length).toBe(1);
    const reply = host.frames[0].subarray(14 + family.header);
    // Identifier and sequence number, and what follows them.
    expect(reply.subarray(4).toHex()).toBe(`12340007${data.toHex()}`);
    expect(host.sent()).toEqual([answered(length)]);
  });

  test("longer than the link is left to the fragmenter", () => {
    const host = withGateway();
    expect(host.packet(family.echo(pattern(4000, 1)), GATEWAY_MAC)).toEqual([]);
    expect(host.packets.map(({ length }) => length)).toEqual([14 + family.header + 8 + 4000]);
  });

  test("with type of service or traffic class, which the answer has", () => {
    const host = withGateway();
    host.verdict(framed(OWN_MAC, GATEWAY_MAC, family.withTos(family.echo(), 0xb8)));
    expect(family.tos(host.frames[0].subarray(14))).toBe(0xb8);
  });

  test("with a bad checksum is counted, not answered", () => {
    const host = withGateway();
    const packet = family.echo(pattern(32, 1));
    for (const at of [family.header, family.header + 2, family.header + 9, packet.length - 1]) {
      const bad = packet.slice();
      bad[at] ^= 8;
      expect(host.packet(bad, GATEWAY_MAC)).toEqual([]);
    }
    expect(host.count(family.badSums)).toBe(4);
    expect(host.packet(packet, GATEWAY_MAC)).toEqual([answered(32)]);
  });

  test("cut short is counted, not answered", () => {
    const host = withGateway();
    for (let length = 0; length < 8; length++) {
      expect(
        host.packet(family.message(family.echo().slice(family.header, family.header + length)), GATEWAY_MAC),
      ).toEqual([]);
    }
    expect(host.count(family.inErrors)).toBe(8);
  });

  test("to another's address, or another's station, is none of ours", () => {
    const host = withGateway();
    expect(host.packet(family.echo([], { destination: family.other }), GATEWAY_MAC)).toEqual([]);
    expect(host.take(framed(STRANGER_MAC, GATEWAY_MAC, family.echo()))).toEqual([]);
    expect([host.count("IpInAddrErrors"), host.count("EthOtherHost")]).toEqual([1, 1]);
  });

  test.each(family.badSources)("from %s, which no other host has, is not answered", (source) => {
    const host = withGateway();
    expect(host.packet(family.echo([], { source }), GATEWAY_MAC)).toEqual([]);
    expect(host.packets).toEqual([]);
  });

  test("of whom no neighbour is known waits until he is", () => {
    const host = withGateway();
    expect(host.packet(family.echo([], { source: family.near }), STRANGER_MAC)).toEqual([family.asksNear]);
    expect(host.take(family.nearAnswers).at(-1)).toContain(`${own} > ${family.near}`);
  });

  test("an answer that nobody asked for is taken, and nothing comes of it", () => {
    const host = withGateway();
    expect(host.packet(family.reply(), GATEWAY_MAC)).toEqual([]);
    expect(host.reports).toEqual([]);
  });
});

describe("echo to many", () => {
  const [v4, v6] = FAMILIES;

  test.each(["198.18.0.255", "255.255.255.255", "224.0.0.1"])("%s: no answer", (destination) => {
    const host = withGateway();
    expect(host.take(framed(BROADCAST, GATEWAY_MAC, v4.echo([], { destination })))).toEqual([]);
    expect(host.count("IcmpInErrors")).toBe(1);
  });

  test.each(["ff02::1", "ff02::1:ff00:1"])("%s: answered from the host's own address", (destination) => {
    const host = withGateway();
    const frame = framed(Uint8Array.of(0x33, 0x33, 0, 0, 0, 1), GATEWAY_MAC, v6.echo([], { destination }));
    expect(host.take(frame)).toEqual([`${GATEWAY_MAC.toHex()} < ${OWN6} > ${v6.peer} icmp6 129/0 48`]);
  });

  test("a group that is not the host's: no answer", () => {
    const host = withGateway();
    const frame = framed(Uint8Array.of(0x33, 0x33, 0, 0, 0, 9), GATEWAY_MAC, v6.echo([], { destination: "ff02::9" }));
    expect(host.take(frame)).toEqual([]);
  });

  test.each([
    ["timestamp request", 13],
    ["address mask request", 17],
    ["information request", 15],
  ])("%s: no answer", (_, type) => {
    const host = withGateway();
    const payload = icmp4(type, 0, 0, Array(12).fill(0));
    expect(host.packet(ip4({ source: v4.peer, destination: OWN4, protocol: 1, payload }), GATEWAY_MAC)).toEqual([]);
  });
});

describe.each(FAMILIES)("errors sent, $name", (family) => {
  const { own, quoteMax } = family;
  const datagram = (length = 0): Uint8Array => family.packet(17, udp(4000, 9, pattern(length, 5)));
  /** A datagram that finds no socket. */
  const refuse = (host: HostScript, packet: Uint8Array, to = OWN_MAC): string[] => {
    host.host.portUnreachable(framed(to, GATEWAY_MAC, packet), host.now);
    return host.sent();
  };

  test("a datagram is passed on; when it finds no socket its sender is told", () => {
    const host = withGateway();
    expect(host.verdict(framed(OWN_MAC, GATEWAY_MAC, datagram(3)))).toBe(HOST_TRANSPORT);
    expect(host.sent()).toEqual([]);
    expect(refuse(host, datagram(3))).toEqual([
      errorTo(family, family.portUnreachable, family.header + 8 + datagram(3).length),
    ]);
  });

  test("of a protocol that nobody serves", () => {
    const host = withGateway();
    expect(host.verdict(framed(OWN_MAC, GATEWAY_MAC, family.packet(132, pattern(40, 2))))).toBe(HOST_TAKEN);
    const error = host.frames[0].subarray(14);
    expect(host.sent()).toEqual([errorTo(family, family.unknownProtocol, 2 * family.header + 8 + 40)]);
    // ICMPv6 points at the field: the next header of the packet.
    const pointer = new DataView(error.buffer, error.byteOffset).getUint32(family.header + 4);
    expect(pointer).toBe(own === OWN6 ? 6 : 0);
    expect(host.count("IpInUnknownProtos")).toBe(1);
  });

  test("quote as much as fits, byte for byte", () => {
    for (const length of [0, 100, quoteMax - family.header - 9, quoteMax - family.header - 8, 1400]) {
      const host = withGateway();
      host.host.portUnreachable(framed(OWN_MAC, GATEWAY_MAC, datagram(length)), host.now);
      const quotation = host.frames[0].subarray(14 + family.header + 8);
      const whole = datagram(length);
      expect(quotation.toHex()).toBe(whole.subarray(0, Math.min(whole.length, quoteMax)).toHex());
    }
  });

  test("Ethernet's padding is not quoted", () => {
    const host = withGateway();
    const padded = Uint8Array.from([...framed(OWN_MAC, GATEWAY_MAC, datagram()), ...Array(18).fill(0xee)]);
    host.host.portUnreachable(padded, host.now);
    expect(host.sent()).toEqual([errorTo(family, family.portUnreachable, 2 * family.header + 16)]);
  });

  test.each(family.errorTypes)("none about an error, type %d", (type) => {
    const host = withGateway();
    expect(refuse(host, family.icmp([type, 0, 0], datagram()))).toEqual([]);
  });

  test("none about ICMP of which the type is not there", () => {
    const host = withGateway();
    expect(refuse(host, family.message(new Uint8Array(0)))).toEqual([]);
  });

  test("one about an echo request, if that could not be taken", () => {
    expect(refuse(withGateway(), family.echo()).length).toBe(1);
  });

  test("none about what came to all or many", () => {
    const host = withGateway();
    expect(refuse(host, datagram(), BROADCAST)).toEqual([]);
    expect(refuse(host, datagram(), Uint8Array.of(0x33, 0x33, 0, 0, 0, 1))).toEqual([]);
    for (const destination of family.groups) {
      expect(refuse(host, family.packet(17, udp(4000, 9), { destination }))).toEqual([]);
      expect(host.packet(family.packet(132, udp(4000, 9), { destination }), GATEWAY_MAC)).toEqual([]);
    }
  });

  test.each(family.badSources)("none to %s", (source) => {
    expect(refuse(withGateway(), family.packet(17, udp(4000, 9), { source }))).toEqual([]);
  });

  test("none about a fragment but the first", () => {
    const host = withGateway();
    expect(refuse(host, family.fragment(8, false))).toEqual([]);
    expect(refuse(host, family.fragment(0, true)).length).toBe(1);
  });

  test("none about nonsense, and none thrown", () => {
    const host = withGateway();
    for (let length = 0; length < family.header; length++) {
      expect(refuse(host, datagram().slice(0, length))).toEqual([]);
    }
    expect(refuse(host, Uint8Array.of(0x20, ...datagram().slice(1)))).toEqual([]);
  });

  test("one host gets six at once, then one an interval", () => {
    const host = withGateway();
    const count = (times: number): number => {
      let sent = 0;
      for (let i = 0; i < times; i++) sent += refuse(host, datagram()).length;
      return sent;
    };
    expect(count(10)).toBe(6);
    expect(host.count(family.limitedHost)).toBe(4);
    host.pass(family.intervalMs - 1);
    expect(count(1)).toBe(0);
    host.pass(1);
    expect([count(1), count(1)]).toEqual([1, 0]);
    host.now += 100 * family.intervalMs;
    expect(count(10)).toBe(6);
    // Others have what is theirs.
    expect(refuse(host, family.packet(17, udp(4000, 9), { source: family.second })).length).toBe(1);
  });

  test("all hosts together: fifty at once and a thousand a second, more or less", () => {
    const host = withGateway();
    let sent = 0;
    const flood = (from: number): void => {
      for (let i = 0; i < 400; i++) {
        sent += refuse(host, family.packet(17, udp(4000, 9), { source: family.many(from + i) })).length;
      }
    };
    flood(0);
    // Each takes none, one or two, by chance.
    expect([sent > 25, sent < 100]).toEqual([true, true]);
    expect(host.count("IcmpOutRateLimitGlobal")).toBe(400 - sent);
    sent = 0;
    for (let turn = 1; turn <= 50; turn++) {
      host.now += 20;
      flood(turn * 400);
    }
    expect([sent > 800, sent < 1400]).toEqual([true, true]);
  });
});

describe("errors sent", () => {
  const [v4, v6] = FAMILIES;

  test("IPv4's go with the precedence of network control and the packet's type of service", () => {
    const host = withGateway();
    const packet = v4.withTos(v4.packet(17, udp(4000, 9)), 0x1c);
    host.host.portUnreachable(framed(OWN_MAC, GATEWAY_MAC, packet), host.now);
    expect(v4.tos(host.frames[0].subarray(14))).toBe(0xdc);
  });

  test("a parameter problem points where it is told", () => {
    const host = withGateway();
    host.host.parameterProblem(v6.packet(17, udp(1, 2)), 0, 4, host.now);
    const error = host.frames[0].subarray(14);
    expect([...error.subarray(40, 42), ...error.subarray(44, 48)]).toEqual([4, 0, 0, 0, 0, 4]);
    host.host.parameterProblem(v4.packet(17, udp(1, 2)), 0, 4, host.now);
    expect(host.frames.length).toBe(1);
  });

  test("fragments that were missing", () => {
    const host = withGateway();
    for (const family of FAMILIES) {
      host.host.reassemblyTimeout(family.fragment(0, true), host.now);
      expect(host.sent()).toEqual([
        errorTo(family, family.timeExceeded, family.header + 8 + family.fragment(0, true).length),
      ]);
      // Without the first one nobody knows whose they were.
      host.host.reassemblyTimeout(family.fragment(8, true), host.now);
      expect(host.sent()).toEqual([]);
    }
  });

  test("no next header is no protocol that is missing", () => {
    const host = withGateway();
    expect(host.packet(v6.packet(59, pattern(8, 1)), GATEWAY_MAC)).toEqual([]);
    expect(host.count("IpInUnknownProtos")).toBe(1);
  });
});

/** icmp_err_convert, net/ipv4/icmp.c. */
const CODES_4: [number, keyof typeof ERRNO, boolean][] = [
  [0, "ENETUNREACH", false],
  [1, "EHOSTUNREACH", false],
  [2, "ENOPROTOOPT", true],
  [3, "ECONNREFUSED", true],
  [4, "EMSGSIZE", false],
  [5, "EOPNOTSUPP", false],
  [6, "ENETUNREACH", true],
  [7, "EHOSTDOWN", true],
  [8, "ENONET", true],
  [9, "ENETUNREACH", true],
  [10, "EHOSTUNREACH", true],
  [11, "ENETUNREACH", false],
  [12, "EHOSTUNREACH", false],
  [13, "EHOSTUNREACH", true],
  [14, "EHOSTUNREACH", true],
  [15, "EHOSTUNREACH", true],
];
/** tab_unreach of icmpv6_err_convert(), net/ipv6/icmp.c, and a code beyond it. */
const CODES_6: [number, keyof typeof ERRNO, boolean][] = [
  [0, "ENETUNREACH", false],
  [1, "EACCES", true],
  [2, "EHOSTUNREACH", false],
  [3, "EHOSTUNREACH", false],
  [4, "ECONNREFUSED", true],
  [5, "EACCES", true],
  [6, "EACCES", true],
  [7, "EPROTO", true],
  [255, "EPROTO", true],
];
interface Conversion {
  family: Family;
  type: number;
  code: number;
  errno: keyof typeof ERRNO;
  hard: boolean;
}
const [V4, V6] = FAMILIES;
const CONVERSIONS: Conversion[] = [
  ...CODES_4.map(([code, errno, hard]): Conversion => ({ family: V4, type: 3, code, errno, hard })),
  { family: V4, type: 11, code: 0, errno: "EHOSTUNREACH", hard: false },
  { family: V4, type: 12, code: 0, errno: "EPROTO", hard: true },
  ...CODES_6.map(([code, errno, hard]): Conversion => ({ family: V6, type: 1, code, errno, hard })),
  { family: V6, type: 2, code: 0, errno: "EMSGSIZE", hard: false },
  { family: V6, type: 3, code: 0, errno: "EHOSTUNREACH", hard: false },
  { family: V6, type: 3, code: 1, errno: "EHOSTUNREACH", hard: false },
  { family: V6, type: 4, code: 0, errno: "EPROTO", hard: true },
  { family: V6, type: 4, code: 1, errno: "EPROTO", hard: true },
];

describe("errors received", () => {
  test.each(CONVERSIONS)("$family.name type $type code $code: $errno, for good: $hard", (row) => {
    const { family, type, code, errno, hard } = row;
    const host = withGateway();
    host.packet(family.icmp([type, code, 0], family.sentTo(family.second, udp(7000, 53, [1]))), GATEWAY_MAC);
    const told = host.reports.map((report) => [report.type, report.code, report.errno, report.hard]);
    expect(told).toEqual([[type, code, ERRNO[errno], hard]]);
  });

  test.each([16, 17, 255])("destination unreachable with code %d of IPv4 means nothing", (code) => {
    const host = withGateway();
    host.packet(V4.icmp([3, code, 0], V4.sentTo(V4.second, udp(7000, 53))), GATEWAY_MAC);
    expect(host.reports).toEqual([]);
  });

  test("fragments lost elsewhere, and source quench, are nobody's error", () => {
    const host = withGateway();
    const quoted = V4.sentTo(V4.second, udp(7000, 53));
    for (const [type, code] of [
      [11, 1],
      [4, 0],
      [5, 0],
    ]) {
      host.packet(V4.icmp([type, code, 0], quoted), GATEWAY_MAC);
    }
    expect([host.reports, host.count("IcmpInTimeExcds"), host.count("IcmpInRedirects")]).toEqual([[], 1, 1]);
  });

  test("the MTU, or the pointer, is passed on", () => {
    const host = withGateway();
    const info = (family: Family, type: number, code: number, rest: number): number => {
      host.packet(family.icmp([type, code, rest], family.sentTo(family.second, udp(7000, 53))), GATEWAY_MAC);
      return host.reports.pop()?.info ?? -1;
    };
    // RFC 1191: the lower half. RFC 792: the first byte.
    expect(info(V4, 3, 4, 0xffff_0000 + 1400)).toBe(1400);
    expect(info(V4, 12, 0, 0x1400_0000)).toBe(0x14);
    expect(info(V4, 3, 1, 0xffff_ffff)).toBe(0);
    expect(info(V6, 2, 0, 1400)).toBe(1400);
    expect(info(V6, 2, 0, 0xffff_ffff)).toBe(0xffff_ffff);
    expect(info(V6, 4, 0, 44)).toBe(44);
    expect(info(V6, 1, 4, 99)).toBe(0);
  });
});

describe.each(FAMILIES)("errors received, $name", (family) => {
  const { own, second } = family;
  const refused = (quoted: Uint8Array, host = withGateway()): HostScript => {
    const [type, code] = family.portUnreachable;
    host.packet(family.icmp([type, code, 0], quoted), GATEWAY_MAC);
    return host;
  };
  const sent = family.sentTo(second, udp(7000, 53, pattern(20, 9)));

  test("name the socket, what it had sent and who says so", () => {
    const [report] = refused(sent).reports;
    expect([textOf(report.local), report.localPort, textOf(report.remote), report.remotePort]).toEqual([
      own,
      7000,
      second,
      53,
    ]);
    expect([textOf(report.offender), report.protocol, report.payload.toHex(), report.packetLength]).toEqual([
      family.peer,
      17,
      pattern(20, 9).toHex(),
      sent.length,
    ]);
  });

  test("quote at least the ports and four bytes", () => {
    const least = family.header + 8;
    for (let length = 0; length < least; length++) {
      const host = refused(sent.slice(0, length));
      expect([length, host.reports.length, host.count(family.inErrors)]).toEqual([length, 0, 1]);
    }
    for (let length = least; length <= sent.length; length++) {
      const [report] = refused(sent.slice(0, length)).reports;
      expect([report.payload.length, report.packetLength]).toEqual([length - least, sent.length]);
    }
  });

  test("what follows the quoted packet is not its payload", () => {
    const [report] = refused(Uint8Array.from([...sent, ...pattern(40, 1)])).reports;
    expect(report.payload.length).toBe(20);
  });

  test("about another's packet, or of the other family, are not believed", () => {
    const host = refused(family.packet(17, udp(7000, 53), { source: family.other, destination: second }));
    refused(Uint8Array.of(sent[0] ^ 0x20, ...sent.slice(1)), host);
    expect([host.reports, host.count(family.inErrors)]).toEqual([[], 2]);
  });

  test("about a fragment: the first says whose it was, the others do not", () => {
    const first = family.fragment(0, true, own, second);
    expect(refused(first).reports.map(({ localPort }) => localPort)).toEqual([4000]);
    expect(refused(family.fragment(8, false, own, second)).reports).toEqual([]);
  });

  test("with a bad checksum are not believed", () => {
    const host = withGateway();
    const [type, code] = family.portUnreachable;
    const bad = family.icmp([type, code, 0], sent);
    bad[bad.length - 1] ^= 1;
    host.packet(bad, GATEWAY_MAC);
    expect([host.reports, host.count(family.badSums)]).toEqual([[], 1]);
  });

  test("to a group or to all are not believed", () => {
    const [type, code] = family.portUnreachable;
    for (const destination of family.groups) {
      const host = withGateway();
      host.take(framed(BROADCAST, GATEWAY_MAC, family.icmp([type, code, 0], sent, { destination })));
      expect(host.reports).toEqual([]);
    }
  });
});

test("a neighbour that does not answer: the sender is told, as by this host itself", () => {
  const host = withGateway();
  for (const family of FAMILIES) {
    expect(host.send(family.sentTo(family.near, udp(7000, 53, [1, 2, 3])))).toBe(0);
    host.pass(10 * SECOND);
    const report = host.reports.pop() as IcmpReport;
    expect([report.errno, report.hard, textOf(report.offender), report.localPort]).toEqual([
      ERRNO.EHOSTUNREACH,
      false,
      family.own,
      7000,
    ]);
  }
});

test("an IPv4 header with options: the message begins after them; a source route is not followed", () => {
  const host = withGateway();
  const echo = (options: number[]): Uint8Array =>
    ip4({ source: V4.peer, destination: OWN4, protocol: 1, payload: icmp4(8, 0, 0x12340007), options });
  expect(host.packet(echo([1, 1, 1, 0]), GATEWAY_MAC)).toEqual([
    `${GATEWAY_MAC.toHex()} < ${OWN4} > ${V4.peer} icmp 0/0 28`,
  ]);
  expect(host.packet(echo([131, 7, 4, 198, 18, 0, 9, 0]), GATEWAY_MAC)).toEqual([]);
  expect(host.packet(echo([137, 7, 4, 198, 18, 0, 9, 0]), GATEWAY_MAC)).toEqual([]);
  // One that cannot be read: its sender is told, as often as of any other error.
  const told = `${GATEWAY_MAC.toHex()} < ${OWN4} > ${V4.peer} icmp 12/0 60`;
  const malformed = (): string[] => host.packet(echo([7, 40, 4, 0]), GATEWAY_MAC);
  expect(Array.from({ length: 10 }, malformed).flat()).toEqual(Array(6).fill(told));
  expect([host.count("IcmpOutParmProbs"), host.count("IcmpOutRateLimitHost")]).toEqual([6, 4]);
  expect(host.count("IpInHdrErrors")).toBe(12);
});

test("an EtherType that lies about its packet is no packet", () => {
  const host = withGateway();
  expect(host.take(ethernet(OWN_MAC, GATEWAY_MAC, 0x86dd, V4.echo()))).toEqual([]);
  expect(host.take(ethernet(OWN_MAC, GATEWAY_MAC, 0x0800, V6.echo()))).toEqual([]);
  expect(host.count("IpInHdrErrors")).toBe(2);
});
