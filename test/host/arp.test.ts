/** ARP as scripts: RFC 826, and RFC 5227 for addresses that somebody else uses. */
import { describe, expect, test } from "bun:test";
import { HostScript, OWN, OWN_MAC, OWN4, SECOND, within } from "./host-script.ts";
import { arp, BROADCAST, ethernet, ip4, udp } from "./messages.ts";

const B = "198.18.0.2";
const MAC_B = Uint8Array.of(2, 0, 0, 0, 0, 0xb);
const MAC_C = Uint8Array.of(2, 0, 0, 0, 0, 0xc);
const toB = ip4({ source: OWN4, destination: B, protocol: 17, payload: udp(9000, 1000) });
const request = (target = OWN4): Uint8Array => arp({ operation: "request", sender: B, senderMac: MAC_B, target });
const replyFrom = (mac: Uint8Array, to = OWN_MAC): Uint8Array =>
  arp({ operation: "reply", sender: B, senderMac: mac, target: OWN4, targetMac: OWN_MAC, to });

describe("a request", () => {
  test("for our address is answered to whoever asks, who is learned but not published", () => {
    const host = HostScript.settled();
    expect(host.take(request())).toEqual([`02000000000b < ${OWN4} is at ${OWN}, for ${B} at 02000000000b`]);
    expect([host.state(B), host.published()]).toEqual(["STALE 02000000000b", []]);
    expect([host.count("ArpInRequests"), host.count("ArpOutReplies")]).toEqual([1, 1]);
  });

  test("of one host alone is answered, too", () => {
    const host = HostScript.settled();
    const alone = arp({ operation: "request", sender: B, senderMac: MAC_B, target: OWN4, to: OWN_MAC });
    expect(host.take(alone)).toHaveLength(1);
  });

  test("for another's address is not, and teaches nothing", () => {
    const host = HostScript.settled();
    expect(host.take(request("198.18.0.77"))).toEqual([]);
    expect(host.state(B)).toBe("none");
  });

  test("a probe for our address is answered, and nobody learned", () => {
    const host = HostScript.settled();
    const probe = arp({ operation: "request", sender: "0.0.0.0", senderMac: MAC_B, target: OWN4 });
    expect(host.take(probe)).toEqual([`02000000000b < ${OWN4} is at ${OWN}, for 0.0.0.0 at 02000000000b`]);
    expect(host.host.neighbours).toEqual([]);
    expect(host.conflicts).toEqual([]);
  });

  test("from an address that is not on our network is answered, and not learned", () => {
    const host = HostScript.settled();
    expect(host.take(arp({ operation: "request", sender: "10.0.0.1", senderMac: MAC_B, target: OWN4 }))).toHaveLength(
      1,
    );
    expect(host.state("10.0.0.1")).toBe("none");
  });
});

describe("a reply", () => {
  test("that nobody asked for is not believed", () => {
    const host = HostScript.settled();
    expect(host.take(replyFrom(MAC_B))).toEqual([]);
    expect(host.state(B)).toBe("none");
  });

  test("lets what waits go", () => {
    const host = HostScript.settled();
    expect(host.send(toB)).toBe(0);
    expect(host.sent()).toEqual([`ffffffffffff < who has ${B}, tell ${OWN4}`]);
    expect(host.state(B)).toBe("INCOMPLETE");
    expect(host.take(replyFrom(MAC_B))).toEqual([`02000000000b < ${OWN4} > ${B} protocol 17 28`]);
    expect([host.state(B), host.published()]).toEqual(["REACHABLE 02000000000b", [`${B} 02000000000b`]]);
  });

  test("within a second the first counts; later another takes its place", () => {
    const host = HostScript.settled();
    host.send(toB);
    host.take(replyFrom(MAC_B));
    host.now += 900;
    host.take(replyFrom(MAC_C));
    expect(host.state(B)).toBe("REACHABLE 02000000000b");
    host.now += 200;
    host.take(replyFrom(MAC_C));
    expect(host.state(B)).toBe("REACHABLE 02000000000c");
    expect(host.published()).toEqual([`${B} 02000000000c`]);
  });

  test("gratuitous: changes who is known, confirms nobody, and makes nobody known", () => {
    const gratuitous = (operation: "request" | "reply"): Uint8Array =>
      arp({ operation, sender: B, senderMac: MAC_C, target: B, targetMac: MAC_C });
    for (const operation of ["request", "reply"] as const) {
      const host = HostScript.settled();
      host.take(gratuitous(operation));
      expect(host.state(B)).toBe("none");
      host.take(request());
      host.now += 2 * SECOND;
      host.take(gratuitous(operation));
      expect(host.state(B)).toBe("STALE 02000000000c");
    }
  });
});

describe("not believed", () => {
  const parts = { operation: "request", sender: B, senderMac: MAC_B, target: OWN4 } as const;
  const changed = (at: number, ...bytes: number[]): Uint8Array => {
    const frame = arp(parts);
    frame.set(bytes, 14 + at);
    return frame;
  };
  test.each<[string, Uint8Array]>([
    ["cut short", arp(parts).subarray(0, 14 + 27)],
    ["of another hardware", changed(0, 0, 6)],
    ["of another protocol", changed(2, 0x86, 0xdd)],
    ["of other lengths of addresses", changed(4, 8)],
    ["of other lengths of protocol addresses", changed(5, 16)],
    ["neither request nor reply", arp({ ...parts, operation: 3 })],
    ["from a group", changed(8, 1)],
    ["from nobody", changed(8, 0, 0, 0, 0, 0, 0)],
    ["from a multicast address", arp({ ...parts, sender: "224.0.0.1" })],
    ["from the broadcast address", arp({ ...parts, sender: "198.18.0.255" })],
    ["from the host itself", arp({ ...parts, sender: "127.0.0.1" })],
    ["for a multicast address", arp({ ...parts, target: "224.0.0.1" })],
  ])("%s", (_, frame) => {
    const host = HostScript.settled();
    expect(host.take(frame)).toEqual([]);
    expect([host.count("ArpInErrors"), host.host.neighbours]).toEqual([1, []]);
  });

  test("our own packet come back", () => {
    const host = HostScript.settled();
    const mine = arp({ operation: "request", sender: OWN4, senderMac: OWN_MAC, target: OWN4 });
    expect([host.take(mine), host.conflicts]).toEqual([[], []]);
  });

  test("for another station's MAC address", () => {
    const host = HostScript.settled();
    expect(host.take(arp({ ...parts, to: MAC_C }))).toEqual([]);
    expect(host.count("EthOtherHost")).toBe(1);
  });
});

describe("RFC 5227", () => {
  const start = (seed = 1): HostScript => new HostScript({ dad: true, addresses: [`${OWN4}/24`] }, seed);
  const probe = `ffffffffffff < who has ${OWN4}, tell 0.0.0.0`;
  const announcement = `ffffffffffff < who has ${OWN4}, tell ${OWN4}`;

  test("three probes, then two announcements, at their times", () => {
    for (let seed = 1; seed <= 20; seed++) {
      const host = start(seed);
      const log = host.pass(20 * SECOND);
      expect(log.map(({ text }) => text)).toEqual([probe, probe, probe, announcement, announcement]);
      const gaps = log.map(({ after }, i) => after - (log[i - 1]?.after ?? 0));
      const second: [number, number] = [1000, 2000];
      expect([gaps, within(gaps, [[0, 1000], second, second, [2000, 2000], [2000, 2000]])]).toEqual([gaps, true]);
    }
  });

  test("nothing is sent from the address, and nobody answered, before it is ours", () => {
    const host = start();
    host.pass(0);
    expect([host.host.isSettled, host.host.fib().addresses, host.send(toB)]).toEqual([false, [], -101]);
    expect(host.take(request())).toEqual([]);
    host.pass(10 * SECOND);
    expect([host.host.isSettled, host.addresses()]).toEqual([true, [`${OWN4} preferred`]]);
    expect(host.take(request())).toHaveLength(1);
  });

  test.each<[string, Uint8Array]>([
    [
      "a packet from the address",
      arp({ operation: "reply", sender: OWN4, senderMac: MAC_B, target: B, to: BROADCAST }),
    ],
    ["another's probe for it", arp({ operation: "request", sender: "0.0.0.0", senderMac: MAC_B, target: OWN4 })],
  ])("lost while it is asked for, by %s", (_, frame) => {
    const host = start();
    host.pass(1500);
    expect(host.take(frame)).toEqual([]);
    expect(host.conflicts).toEqual([`${OWN4} 02000000000b lost`]);
    expect(host.addresses()).toEqual([`${OWN4} duplicate`]);
    expect(host.pass(60 * SECOND)).toEqual([]);
    expect(host.count("AddressConflicts")).toBe(1);
  });

  test("a request for it by who has an address does not take it away", () => {
    const host = start();
    host.pass(1500);
    host.take(request());
    expect([host.conflicts, host.addresses()]).toEqual([[], [`${OWN4} tentative`]]);
  });

  test("kept later: defended at once, and not again for ten seconds", () => {
    const host = start();
    host.pass(20 * SECOND);
    const theirs = arp({ operation: "request", sender: OWN4, senderMac: MAC_B, target: B });
    expect(host.take(theirs)).toEqual([announcement]);
    host.now += 9 * SECOND;
    expect(host.take(theirs)).toEqual([]);
    host.now += 2 * SECOND;
    expect(host.take(theirs)).toEqual([announcement]);
    expect(host.conflicts).toEqual([`${OWN4} 02000000000b kept`, `${OWN4} 02000000000b kept`]);
    expect([host.count("AddressConflicts"), host.addresses()]).toEqual([3, [`${OWN4} preferred`]]);
  });

  test("without carrier for a while, before it is known to be ours: asked for anew, and used when nobody answers", () => {
    const host = start();
    host.pass(3 * SECOND);
    host.host.reconnect(host.now);
    expect(host.addresses()).toEqual([`${OWN4} tentative`]);
    expect(host.pass(20 * SECOND).map(({ text }) => text)).toEqual([probe, probe, probe, announcement, announcement]);
    expect(host.addresses()).toEqual([`${OWN4} preferred`]);
  });

  test("without carrier for a while, in use: used all the time, and announced", () => {
    const host = start();
    host.pass(20 * SECOND);
    host.host.reconnect(host.now);
    expect(host.addresses()).toEqual([`${OWN4} preferred`]);
    expect(host.pass(20 * SECOND).map(({ text }) => text)).toEqual([announcement, announcement]);
  });

  test("a link that was switched off is asked again", () => {
    const host = start();
    host.pass(20 * SECOND);
    host.host.restart(host.now);
    expect(host.pass(20 * SECOND).map(({ text }) => text)).toEqual([probe, probe, probe, announcement, announcement]);
  });
});

test("an EtherType that nobody knows is counted", () => {
  const host = HostScript.settled();
  expect(host.take(ethernet(OWN_MAC, MAC_B, 0x88cc, new Uint8Array(46)))).toEqual([]);
  expect(host.count("EthUnknownType")).toBe(1);
});
