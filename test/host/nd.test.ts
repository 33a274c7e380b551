/** Neighbour discovery as scripts: RFC 4861, section 7, with every check of 7.1, and duplicate addresses, RFC 4862 and 7527. */
import { describe, expect, test } from "bun:test";
import { ip } from "../../sockets/wire/address.ts";
import { HostScript, LOCAL6, OWN, OWN_MAC, OWN4, OWN6, SECOND, within } from "./host-script.ts";
import { framed, icmp6, ip6, macOption, udp } from "./messages.ts";

const B = "2001:db8::2";
const B_LOCAL = "fe80::b";
const MAC_B = Uint8Array.of(2, 0, 0, 0, 0, 0xb);
const MAC_C = Uint8Array.of(2, 0, 0, 0, 0, 0xc);
const GROUP = "ff02::1:ff00:1";
const ALL = "ff02::1";

const ns = (
  target: string,
  options: number[] = macOption(1, MAC_B),
  source = B,
  to = GROUP,
  hopLimit = 255,
): Uint8Array => icmp6(source, to, [135, 0, 0], [...ip(target), ...options], hopLimit);
const na = (
  flags: number,
  options: number[] = macOption(2, MAC_B),
  target = B,
  to = OWN6,
  hopLimit = 255,
): Uint8Array => icmp6(B, to, [136, 0, flags * 2 ** 24], [...ip(target), ...options], hopLimit);
const [ROUTER, SOLICITED, OVERRIDE] = [0x80, 0x40, 0x20];
const toB = ip6({ source: OWN6, destination: B, protocol: 17, payload: udp(9000, 1000) });
const solicited = `02000000000b < ${OWN6} > ${B} NA ${OWN6} SO tlla ${OWN}`;

describe("a solicitation", () => {
  test("is answered to the address that it gives, which is learned", () => {
    const host = HostScript.settled();
    expect(host.packet(ns(OWN6), MAC_B)).toEqual([solicited]);
    expect([host.state(B), host.published()]).toEqual(["STALE 02000000000b", []]);
  });

  test("for the link-local address, from one, and to us alone", () => {
    const host = HostScript.settled();
    expect(host.packet(ns(LOCAL6, macOption(1, MAC_B), B_LOCAL, LOCAL6), MAC_B)).toEqual([
      `02000000000b < ${LOCAL6} > ${B_LOCAL} NA ${LOCAL6} SO tlla ${OWN}`,
    ]);
  });

  test("that gives no address is answered once whoever asks is resolved", () => {
    const host = HostScript.settled();
    expect(host.packet(ns(OWN6, [], B, OWN6), MAC_B)).toEqual([
      `3333ff000002 < ${OWN6} > ff02::1:ff00:2 NS ${B} slla ${OWN}`,
    ]);
    expect(host.packet(na(SOLICITED | OVERRIDE), MAC_B)).toEqual([solicited]);
  });

  test("of nobody, who looks for another user of the address, is answered to all", () => {
    const host = HostScript.settled();
    expect(host.packet(ns(OWN6, [], "::"), MAC_B)).toEqual([
      `333300000001 < ${OWN6} > ${ALL} NA ${OWN6} O tlla ${OWN}`,
    ]);
    expect([host.host.neighbours, host.conflicts]).toEqual([[], []]);
  });

  test("for another's address is not", () => {
    const host = HostScript.settled();
    expect(host.packet(ns("2001:db8::7700:1"), MAC_B)).toEqual([]);
    expect([host.state(B), host.count("Icmp6InErrors")]).toEqual(["none", 0]);
  });

  test("with options that nobody knows is", () => {
    const host = HostScript.settled();
    expect(host.packet(ns(OWN6, [200, 1, 0, 0, 0, 0, 0, 0, ...macOption(1, MAC_B)]), MAC_B)).toEqual([solicited]);
  });
});

describe("an advertisement", () => {
  const asked = (): HostScript => {
    const host = HostScript.settled();
    host.send(toB);
    host.sent();
    return host;
  };
  const known = (): HostScript => {
    const host = asked();
    host.packet(na(SOLICITED | OVERRIDE), MAC_B);
    host.frames.length = 0;
    return host;
  };
  const other = macOption(2, MAC_C);

  test("that nobody asked for is not believed", () => {
    const host = HostScript.settled();
    host.packet(na(OVERRIDE, macOption(2, MAC_B), B, ALL), MAC_B);
    expect(host.state(B)).toBe("none");
  });

  // RFC 4861, section 7.2.5, and appendix C.
  test.each<[string, () => HostScript, number, number[], string]>([
    ["solicited", asked, SOLICITED, macOption(2, MAC_B), "REACHABLE 02000000000b"],
    ["without an address, of which none is known", asked, SOLICITED, [], "INCOMPLETE"],
    ["without an address, of which one is", known, SOLICITED, [], "REACHABLE 02000000000b"],
    [
      "of another, that may not override: doubt, and in use, so it is soon asked",
      known,
      SOLICITED,
      other,
      "DELAY 02000000000b",
    ],
    ["of another, that may", known, SOLICITED | OVERRIDE, other, "REACHABLE 02000000000c"],
    ["of another, that may, and nobody asked", known, OVERRIDE, other, "DELAY 02000000000c"],
    ["of the same, and nobody asked", known, OVERRIDE, macOption(2, MAC_B), "REACHABLE 02000000000b"],
  ])("%s", (_, make, flags, options, state) => {
    const host = make();
    host.packet(na(flags, options), MAC_B);
    expect(host.state(B)).toBe(state);
  });

  test("lets what waits go", () => {
    const host = asked();
    expect(host.packet(na(SOLICITED | OVERRIDE), MAC_B)).toEqual([`02000000000b < ${OWN6} > ${B} protocol 17 48`]);
    expect(host.published()).toEqual([`${B} 02000000000b`]);
  });

  test("says who is a router", () => {
    const host = asked();
    host.packet(na(SOLICITED | ROUTER), MAC_B);
    expect(host.neighbour(B)?.isRouter).toBe(true);
    host.packet(na(SOLICITED), MAC_B);
    expect(host.neighbour(B)?.isRouter).toBe(false);
  });
});

describe("not believed", () => {
  const asking = (): HostScript => {
    const host = HostScript.settled();
    host.send(toB);
    host.sent();
    return host;
  };
  const wrong = (packet: Uint8Array): Uint8Array => {
    packet[42] ^= 1;
    return packet;
  };
  const code = (type: number, target: string, options: number[], to: string): Uint8Array =>
    icmp6(B, to, [type, 1, 0x40000000], [...ip(target), ...options], 255);
  const withOption = (option: number[]): [Uint8Array, Uint8Array] => [
    ns(OWN6, [...macOption(1, MAC_B), ...option]),
    na(SOLICITED, [...macOption(2, MAC_B), ...option]),
  ];
  const noLength = withOption([200, 0, 0, 0, 0, 0, 0, 0]);
  const tooLong = withOption([200, 2, 0, 0, 0, 0, 0, 0]);
  const half = withOption([200]);
  const longMac = (type: number): number[] => [type, 2, ...new Uint8Array(14)];

  test.each<[string, Uint8Array]>([
    ["NS: hop limit 254", ns(OWN6, macOption(1, MAC_B), B, GROUP, 254)],
    ["NS: checksum", wrong(ns(OWN6))],
    ["NS: code", code(135, OWN6, macOption(1, MAC_B), GROUP)],
    ["NS: too short", icmp6(B, GROUP, [135, 0, 0], ip(OWN6).subarray(0, 15), 255)],
    ["NS: a target that is a group", ns(GROUP)],
    ["NS: option of length 0", noLength[0]],
    ["NS: option that leaves the message", tooLong[0]],
    ["NS: half an option", half[0]],
    ["NS: a link-layer address of another kind", ns(OWN6, longMac(1))],
    ["NS: from nobody with an address", ns(OWN6, macOption(1, MAC_B), "::")],
    ["NS: from nobody to us alone", ns(OWN6, [], "::", OWN6)],
    ["NA: hop limit 254", na(SOLICITED, macOption(2, MAC_B), B, OWN6, 254)],
    ["NA: checksum", wrong(na(SOLICITED))],
    ["NA: code", code(136, B, macOption(2, MAC_B), OWN6)],
    ["NA: too short", icmp6(B, OWN6, [136, 0, 0x40000000], ip(B).subarray(0, 15), 255)],
    ["NA: a target that is a group", na(SOLICITED, macOption(2, MAC_B), GROUP)],
    ["NA: option of length 0", noLength[1]],
    ["NA: option that leaves the message", tooLong[1]],
    ["NA: half an option", half[1]],
    ["NA: a link-layer address of another kind", na(SOLICITED, longMac(2))],
    ["NA: solicited, to a group", na(SOLICITED, macOption(2, MAC_B), B, ALL)],
  ])("%s", (_, packet) => {
    const host = asking();
    expect(host.packet(packet, MAC_B)).toEqual([]);
    expect([host.state(B), host.count("Icmp6InErrors")]).toEqual(["INCOMPLETE", 1]);
  });
});

describe("duplicate address detection", () => {
  const config = { dad: true, addresses: [`${OWN4}/24`, `${OWN6}/64`] };
  const TENTATIVE = (): HostScript => {
    const host = new HostScript(config);
    host.pass(1500);
    return host;
  };
  const isOf = (address: string) => (sent: { text: string }) => sent.text.includes(` ${address} nonce`);

  test("one question from nobody with a nonce, within a second; a second later the address is ours, and announced", () => {
    for (let seed = 1; seed <= 20; seed++) {
      const host = new HostScript(config, seed);
      const log = host.pass(10 * SECOND).filter(({ text }) => text.includes(OWN6));
      expect(log.map(({ text }) => text)).toEqual([
        `3333ff000001 < :: > ${GROUP} NS ${OWN6} nonce`,
        `333300000001 < ${OWN6} > ${ALL} NA ${OWN6} O tlla ${OWN}`,
      ]);
      const [asked, used] = log.map(({ after }) => after);
      expect(
        within(
          [asked, used - asked],
          [
            [0, 1000],
            [1000, 1000],
          ],
        ),
      ).toBe(true);
    }
  });

  test("the groups of tentative addresses are joined, the addresses not used", () => {
    const host = new HostScript(config);
    const log = host.pass(1000);
    expect(log.some(isOf(OWN6))).toBe(true);
    expect(host.host.groups()).toHaveLength(1);
    expect(host.send(toB)).toBe(-101);
    expect(host.packet(ns(OWN6), MAC_B)).toEqual([]);
    expect(host.host.fib().addresses).toEqual([]);
  });

  test.each<[string, Uint8Array]>([
    [
      "the answer of who has it",
      icmp6(OWN6, ALL, [136, 0, OVERRIDE * 2 ** 24], [...ip(OWN6), ...macOption(2, MAC_B)], 255),
    ],
    ["another who asks at the same time", ns(OWN6, [], "::")],
    ["another who asks, with a nonce of its own", ns(OWN6, [14, 1, 1, 2, 3, 4, 5, 6], "::")],
  ])("lost by %s", (_, packet) => {
    const host = new HostScript({ ...config, addresses: [`${OWN6}/64`] });
    host.pass(900);
    host.verdict(framed(OWN_MAC, MAC_B, packet));
    expect(host.conflicts).toEqual([`${OWN6} 02000000000b lost`]);
    host.pass(60 * SECOND);
    expect(host.addresses()).toEqual([`${OWN6} duplicate`, `${LOCAL6} preferred`]);
    expect(host.packet(ns(OWN6), MAC_B)).toEqual([]);
  });

  test("our own question come back is not another's", () => {
    const host = new HostScript({ ...config, addresses: [`${OWN6}/64`] });
    const frames: Uint8Array[] = [];
    while (frames.length < 2) {
      host.host.tick(host.now);
      frames.push(...host.frames.splice(0));
      host.now += 10;
    }
    for (const frame of frames) host.verdict(frame);
    expect(host.conflicts).toEqual([]);
  });

  test("a solicitation with a source does not take it away", () => {
    const host = TENTATIVE();
    host.packet(ns(OWN6), MAC_B);
    expect(host.conflicts).toEqual([]);
  });

  test("an advertisement for an address long ours is told, once in ten seconds, and the address kept", () => {
    const host = HostScript.settled();
    const theirs = icmp6(OWN6, ALL, [136, 0, OVERRIDE * 2 ** 24], [...ip(OWN6), ...macOption(2, MAC_B)], 255);
    for (const wait of [0, 5, 6]) {
      host.now += wait * SECOND;
      host.packet(theirs, MAC_B);
    }
    expect(host.conflicts).toEqual([`${OWN6} 02000000000b kept`, `${OWN6} 02000000000b kept`]);
    expect(host.count("AddressConflicts")).toBe(3);
  });
});
