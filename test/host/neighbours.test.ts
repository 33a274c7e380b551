/** States of neighbours and their timers (RFC 4861, section 7.3, with Linux's times), in both families. */
import { describe, expect, test } from "bun:test";
import { NEIGHBOURS_PER_FAMILY, UNRES_QLEN_BYTES, UNRES_TOTAL_BYTES } from "../../sockets/host/neighbours.ts";
import { wordsOf } from "../../sockets/host/words.ts";
import { ip } from "../../sockets/wire/address.ts";
import { HostScript, OWN_MAC, OWN4, OWN6, SECOND } from "./host-script.ts";
import { arp, icmp6, ip4, ip6, macOption, udp } from "./messages.ts";

const MAC_B = Uint8Array.of(2, 0, 0, 0, 0, 0xb);
const EHOSTUNREACH = 113;
const ENOBUFS = 105;

interface Family {
  name: string;
  peer: string;
  own: string;
  packet(payload?: number, to?: string): Uint8Array;
  /** What asks everybody, and the peer alone. */
  all: string;
  alone: string;
  answer(host: HostScript): string[];
  /** An address of the network by its number. */
  nth(i: number): string;
  header: number;
}

const FAMILIES: Family[] = [
  {
    name: "IPv4",
    peer: "198.18.0.2",
    own: OWN4,
    packet: (length = 0, to = "198.18.0.2") =>
      ip4({ source: OWN4, destination: to, protocol: 17, payload: udp(9000, 1000, new Uint8Array(length)) }),
    all: `ffffffffffff < who has 198.18.0.2, tell ${OWN4}`,
    alone: `02000000000b < who has 198.18.0.2, tell ${OWN4}`,
    answer: (host) =>
      host.take(arp({ operation: "reply", sender: "198.18.0.2", senderMac: MAC_B, target: OWN4, to: OWN_MAC })),
    nth: (i) => `198.${18 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`,
    header: 20,
  },
  {
    name: "IPv6",
    peer: "2001:db8::2",
    own: OWN6,
    packet: (length = 0, to = "2001:db8::2") =>
      ip6({ source: OWN6, destination: to, protocol: 17, payload: udp(9000, 1000, new Uint8Array(length)) }),
    all: `3333ff000002 < ${OWN6} > ff02::1:ff00:2 NS 2001:db8::2 slla 020000000001`,
    alone: `02000000000b < ${OWN6} > 2001:db8::2 NS 2001:db8::2 slla 020000000001`,
    answer: (host) =>
      host.packet(
        icmp6("2001:db8::2", OWN6, [136, 0, 0x60000000], [...ip("2001:db8::2"), ...macOption(2, MAC_B)], 255),
        MAC_B,
      ),
    nth: (i) => `2001:db8::${(0x1000 + i).toString(16)}`,
    header: 40,
  },
];

describe.each(FAMILIES)("$name", (family) => {
  const { peer, packet, all, alone, answer, own } = family;
  const wide = { addresses: [`${OWN4}/15`, `${OWN6}/64`] };
  const reachable = (): HostScript => {
    const host = HostScript.settled(wide);
    host.send(packet());
    host.sent();
    answer(host);
    return host;
  };

  /** pass() while the lcores send to the peer by the FIB. */
  const passInUse = (host: HostScript, ms: number): { after: number; text: string }[] => {
    const log: { after: number; text: string }[] = [];
    for (let passed = 0; passed < ms; passed += SECOND) {
      host.host.used(wordsOf(ip(peer)), host.now);
      const texts = host.pass(Math.min(SECOND, ms - passed));
      log.push(...texts.map(({ after, text }) => ({ after: after + passed, text })));
    }
    return log;
  };

  test("INCOMPLETE: asked three times a second apart, then FAILED, and what waited is reported", () => {
    const host = HostScript.settled(wide);
    host.send(packet(5));
    host.send(packet(6));
    expect(host.sent()).toEqual([all]);
    expect(host.pass(10 * SECOND)).toEqual([
      { after: 1000, text: all },
      { after: 2000, text: all },
    ]);
    expect(host.state(peer)).toBe("FAILED");
    expect(
      host.reports.map(({ errno, localPort, remotePort, payload }) => [errno, localPort, remotePort, payload.length]),
    ).toEqual([
      [EHOSTUNREACH, 9000, 1000, 5],
      [EHOSTUNREACH, 9000, 1000, 6],
    ]);
    expect([host.count("NeighResolveFails"), host.published()]).toEqual([1, []]);
    // The next packet begins anew.
    expect([host.send(packet()), host.sent(), host.state(peer)]).toEqual([0, [all], "INCOMPLETE"]);
  });

  test("an answer to the second question", () => {
    const host = HostScript.settled(wide);
    host.send(packet());
    host.sent();
    host.pass(1500);
    expect(answer(host)).toHaveLength(1);
    expect([host.pass(3 * SECOND), host.reports]).toEqual([[], []]);
  });

  test("REACHABLE for half to one and a half of 30 s; then DELAY while it is used, PROBE alone, and FAILED", () => {
    const host = reachable();
    const log = passInUse(host, 60 * SECOND);
    expect(log.map(({ text }) => text)).toEqual([alone, alone, alone]);
    const [first, second, third] = log.map(({ after }) => after);
    // 5 s of DELAY before the first question.
    expect(first >= 20 * SECOND && first <= 50 * SECOND).toBe(true);
    expect([second - first, third - second]).toEqual([1000, 1000]);
    expect([host.state(peer), host.published()]).toEqual(["FAILED", []]);
  });

  test("an answer to the question alone makes it REACHABLE again, and it was published all the time", () => {
    const host = reachable();
    for (let i = 0; i < 5; i++) {
      for (let waited = 0; ; waited += 100) {
        expect(waited).toBeLessThan(60 * SECOND);
        const log = passInUse(host, 100);
        expect(host.published()).toEqual([`${peer} 02000000000b`]);
        if (log.length > 0) break;
      }
      expect(host.state(peer)).toBe("PROBE 02000000000b");
      answer(host);
      expect(host.state(peer)).toBe("REACHABLE 02000000000b");
    }
  });

  test("out of use it becomes STALE and is published no more; the next packet goes at once", () => {
    const host = reachable();
    for (let i = 0; i < 300; i++) if (passInUse(host, SECOND).length > 0) answer(host);
    // Once more it may be confirmed: its last packet is not long ago.
    let questions = 0;
    for (let i = 0; i < 100; i++) {
      if (host.pass(SECOND).length === 0) continue;
      questions++;
      answer(host);
    }
    expect(questions).toBeLessThanOrEqual(2);
    expect([host.state(peer), host.published()]).toEqual(["STALE 02000000000b", []]);
    host.send(packet());
    expect(host.sent()).toEqual([`02000000000b < ${own} > ${peer} protocol 17 ${family.header + 8}`]);
    expect([host.state(peer), host.published()]).toEqual(["DELAY 02000000000b", [`${peer} 02000000000b`]]);
    expect(host.pass(5 * SECOND)).toEqual([{ after: 5000, text: alone }]);
  });

  test("what waits for one is bounded, the oldest goes", () => {
    const host = HostScript.settled(wide);
    const frames = 200;
    for (let i = 0; i < frames; i++) host.send(packet(1000 + i));
    const lengths = answer(host).map((text) => Number(text.split(" ").at(-1)));
    const cost = (length: number): number => 14 + family.header + 8 + length + 768;
    // The newest that fit.
    let bytes = 0;
    let fit = 0;
    while (bytes + cost(1000 + frames - 1 - fit) <= UNRES_QLEN_BYTES) bytes += cost(1000 + frames - 1 - fit++);
    expect(host.count("NeighUnresDiscards")).toBe(frames - fit);
    // The first was the question.
    expect(lengths.slice(-fit)).toEqual(
      Array.from({ length: fit }, (_, i) => family.header + 8 + 1000 + frames - fit + i),
    );
  });

  test("what waits for all is bounded, and so is their number", () => {
    const host = HostScript.settled(wide);
    const each = 14 + family.header + 8 + 1400 + 768;
    for (let i = 0; i < 100; i++) for (let n = 0; n < 30; n++) host.send(packet(1400, family.nth(256 + i)));
    expect(100 * 30 * each).toBeGreaterThan(UNRES_TOTAL_BYTES);
    const waiting = host.host.neighbours.reduce((sum, { queuedBytes }) => sum + queuedBytes, 0);
    expect(waiting <= UNRES_TOTAL_BYTES && waiting > UNRES_TOTAL_BYTES - 2 * each).toBe(true);
    const results = Array.from({ length: NEIGHBOURS_PER_FAMILY }, (_, i) => host.send(packet(0, family.nth(2000 + i))));
    expect(host.host.neighbours).toHaveLength(NEIGHBOURS_PER_FAMILY);
    // Nobody who is being asked for is thrown out.
    expect(results.filter((result) => result === -ENOBUFS)).toHaveLength(100);
    expect(host.count("NeighTableFulls")).toBe(100);
    // Those who failed are.
    host.pass(5 * SECOND);
    expect([host.send(packet(0, family.nth(9000))), host.host.neighbours.length <= NEIGHBOURS_PER_FAMILY]).toEqual([
      0,
      true,
    ]);
  });

  test("those who fail are forgotten when there are many", () => {
    const host = HostScript.settled(wide);
    for (let i = 0; i < 300; i++) host.send(packet(0, family.nth(256 + i)));
    host.pass(60 * SECOND);
    expect(host.host.neighbours).toEqual([]);
  });
});
