/** MLD as scripts. What it shares with IGMP is tried in igmp.test.ts: here are its formats, its checks and version 1. */
import { describe, expect, test } from "bun:test";
import { Random } from "../../queues/random.ts";
import { floating16, Mld } from "../../sockets/host/mld.ts";
import { MCAST_EXCLUDE, MCAST_INCLUDE } from "../../sockets/host/source-filter.ts";
import { ip } from "../../sockets/wire/address.ts";
import { checkIpv6, IPV6_OK } from "../../sockets/wire/ipv6.ts";
import { FrameViews } from "../../sockets/wire/views.ts";
import { onesSum } from "../support/frames.ts";
import { type GroupMessage, mldQuery, mldReport, parseGroupMessage } from "./group-messages.ts";

const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
const G = "ff05::1234";
const H = "ff3e::8000:1";
const [A, B, C] = ["2001:db8::a", "2001:db8::b", "2001:db8::c"];
const SECOND = 1000;

class Script {
  now = 5000;
  readonly mld: Mld;
  private sent: GroupMessage[] = [];
  private readonly views = new FrameViews(new Uint8Array(2048));

  constructor(mtu = 1500) {
    this.mld = new Mld({ mac: MAC, mtu, random: new Random(1), send: (frame) => this.take(frame) });
    this.mld.linkLocal = ip("fe80::2");
  }

  private take(frame: Uint8Array): void {
    const message = parseGroupMessage(frame);
    if (message === null) throw new Error("not MLD");
    this.sent.push(message);
  }

  messages(): GroupMessage[] {
    return this.sent.splice(0);
  }

  records(): string[] {
    return this.messages().flatMap(({ records }) => records);
  }

  receive(packet: Uint8Array): void {
    this.views.bytes.set(packet, 2);
    expect(checkIpv6(this.views.bytes, 2, packet.length)).toBe(IPV6_OK);
    this.mld.receive(this.views, 2, this.now);
  }

  /** Lets time pass, each deadline kept: what was sent, each with the time that it took. */
  pass(ms: number): { after: number; message: GroupMessage }[] {
    const from = this.now;
    const log: { after: number; message: GroupMessage }[] = [];
    for (;;) {
      const next = this.mld.tick(this.now);
      for (const message of this.messages()) log.push({ after: this.now - from, message });
      if (next > from + ms) break;
      this.now = Math.max(next, this.now);
    }
    this.now = from + ms;
    return log;
  }

  passed(ms: number): string[] {
    return this.pass(ms).flatMap(({ message }) => message.records);
  }
}

describe("version 2", () => {
  test("a join is reported at once, and once again within a second; so is the leave", () => {
    const script = new Script();
    script.mld.join(G, script.now);
    expect(script.messages()).toEqual([
      { type: 143, source: "fe80::2", destination: "ff02::16", group: "", records: [`TO_EX ${G}`], bytes: 76 },
    ]);
    const [repeated, ...more] = script.pass(10 * SECOND);
    expect(repeated.message.records).toEqual([`TO_EX ${G}`]);
    expect(repeated.after).toBeLessThanOrEqual(SECOND);
    expect(more).toEqual([]);
    script.mld.leave(G, script.now);
    expect(script.records().concat(script.passed(10 * SECOND))).toEqual([`TO_IN ${G}`, `TO_IN ${G}`]);
  });

  test("source lists", () => {
    const script = new Script();
    script.mld.setFilter(H, MCAST_INCLUDE, [A, B], script.now);
    expect(script.records()).toEqual([`ALLOW ${H} ${A} ${B}`]);
    script.pass(5 * SECOND);
    script.mld.setFilter(H, MCAST_EXCLUDE, [C], script.now);
    expect(script.records()).toEqual([`TO_EX ${H} ${C}`]);
  });

  test("all nodes, interface-local and reserved scopes are never reported", () => {
    const script = new Script();
    for (const group of ["ff02::1", "ff01::5", "ff10::5", "ff11::5"]) script.mld.join(group, script.now);
    script.receive(mldQuery({ version: 2 }));
    expect(script.passed(20 * SECOND)).toEqual([]);
    script.mld.join("ff12::1", script.now);
    expect(script.records()).toHaveLength(1);
  });

  test("without a link-local address the source is ::, and all is said again when there is one (RFC 3590)", () => {
    const script = new Script();
    script.mld.linkLocal = null;
    script.mld.join("ff02::1:ff00:2", script.now);
    expect(script.messages()[0].source).toBe("::");
    script.pass(10 * SECOND);
    script.mld.linkLocal = ip("fe80::2");
    script.mld.announce(script.now);
    const [message] = script.messages();
    expect(message).toMatchObject({ source: "fe80::2", records: ["TO_EX ff02::1:ff00:2"] });
  });

  test("queries: of all, of a group, of sources; response times in milliseconds", () => {
    const script = new Script();
    script.mld.join(G, script.now);
    script.mld.setFilter(H, MCAST_INCLUDE, [A, B], script.now);
    script.pass(10 * SECOND);
    script.receive(mldQuery({ version: 2, code: 700 }));
    const [answer, ...more] = script.pass(20 * SECOND);
    expect(answer.message.records.toSorted()).toEqual([`IS_IN ${H} ${A} ${B}`, `IS_EX ${G}`].toSorted());
    expect(answer.after).toBeLessThanOrEqual(700);
    expect(more).toEqual([]);
    script.receive(mldQuery({ version: 2, group: G }));
    expect(script.passed(SECOND)).toEqual([`IS_EX ${G}`]);
    script.receive(mldQuery({ version: 2, group: H, sources: [B, C], destination: "fe80::2" }));
    expect(script.passed(SECOND)).toEqual([`IS_IN ${H} ${B}`]);
  });

  test("what is not of the link, or no query, is ignored", () => {
    const script = new Script();
    script.mld.join(G, script.now);
    script.pass(10 * SECOND);
    const cut = mldQuery({ version: 2, group: G, sources: [A] });
    const corrupt = mldQuery({ version: 2 });
    corrupt[60] ^= 1;
    const bad = [
      mldQuery({ version: 2, source: "2001:db8::1" }),
      mldQuery({ version: 2, ttl: 2 }),
      mldQuery({ version: 1, ttl: 64 }),
      mldQuery({ version: 2, plain: true }),
      mldQuery({ version: 2, sources: [A] }),
      mldQuery({ version: 2, group: "2001:db8::5", destination: "ff02::1" }),
      resized(cut, cut.length - 4),
      resized(mldQuery({ version: 2 }), mldQuery({ version: 2 }).length - 2),
      resized(mldQuery({ version: 1 }), mldQuery({ version: 1 }).length - 1),
      corrupt,
      mldReport(131, "2001:db8::5"),
      mldReport(131, G, "2001:db8::9"),
    ];
    for (const packet of bad) script.receive(packet);
    expect(script.mld.ignored).toBe(bad.length);
    expect(script.passed(20 * SECOND)).toEqual([]);
    expect(script.mld.version).toBe(2);
    // Without hop-by-hop options at all, or with those before others.
    const bare = mldQuery({ version: 2 });
    const plain = new Uint8Array(bare.length - 8);
    plain.set(bare.subarray(0, 40));
    plain.set(bare.subarray(48), 40);
    plain[5] -= 8;
    plain[6] = 58;
    script.receive(plain);
    expect(script.mld.ignored).toBe(bad.length + 1);
    const padded = mldQuery({ version: 2 });
    padded.set([58, 0, 0, 0, 5, 2, 0, 0], 40);
    script.receive(padded);
    expect(script.passed(SECOND)).toEqual([`IS_EX ${G}`]);
    padded.set([58, 0, 5, 2, 0, 1, 1, 0], 40);
    script.receive(padded);
    expect(script.mld.ignored).toBe(bad.length + 2);
  });
});

describe("version 1", () => {
  const types = (messages: GroupMessage[]): string[] =>
    messages.map(({ type, group, destination }) => `${type} ${group} > ${destination}`);
  const sent = (log: { message: GroupMessage }[]): string[] => types(log.map(({ message }) => message));

  test("a report a group, done when it leaves, and back when the querier is gone", () => {
    const script = new Script();
    script.mld.join(G, script.now);
    script.pass(10 * SECOND);
    script.receive(mldQuery({ version: 1 }));
    expect(script.mld.version).toBe(1);
    const answers = script.pass(SECOND);
    expect(sent(answers)).toEqual([`131 ${G} > ${G}`]);
    expect(answers[0].message.source).toBe("fe80::2");
    script.mld.join(H, script.now);
    expect(types(script.messages())).toEqual([`131 ${H} > ${H}`]);
    expect(sent(script.pass(10 * SECOND))).toEqual([`131 ${H} > ${H}`]);
    script.mld.leave(H, script.now);
    expect(types(script.messages())).toEqual([`132 ${H} > ff02::2`]);
    script.pass(260 * SECOND);
    expect(script.mld.version).toBe(2);
    script.receive(mldQuery({ version: 2 }));
    expect(script.passed(SECOND)).toEqual([`IS_EX ${G}`]);
  });

  test("another node's report makes ours unnecessary", () => {
    const script = new Script();
    script.receive(mldQuery({ version: 1 }));
    script.mld.join(G, script.now);
    script.messages();
    script.receive(mldReport(131, G));
    expect(script.pass(20 * SECOND)).toEqual([]);
    script.mld.leave(G, script.now);
    expect(script.messages()).toEqual([]);
  });
});

describe("formats", () => {
  test("numbers with an exponent", () => {
    expect([0, 32767, 32768, 32769, 65535].map(floating16)).toEqual([0, 32767, 32768, 32776, 8387584]);
  });

  test("more groups than a report holds, and more sources: several, none longer than the MTU", () => {
    const script = new Script(1280);
    for (let i = 0; i < 300; i++) script.mld.join(`ff15::${i.toString(16)}`, script.now);
    const sources = Array.from({ length: 300 }, (_, i) => `2001:db8::${(i + 1).toString(16)}`);
    script.mld.setFilter(H, MCAST_INCLUDE, sources, script.now);
    script.pass(10 * SECOND);
    script.receive(mldQuery({ version: 2, code: 1 }));
    const answers = script.pass(SECOND).map(({ message }) => message);
    for (const { bytes } of answers) expect(bytes).toBeLessThanOrEqual(1280);
    const records = answers.flatMap((message) => message.records);
    expect(records.filter((record) => record.startsWith("IS_EX"))).toHaveLength(300);
    const got = records
      .filter((record) => record.startsWith(`IS_IN ${H} `))
      .flatMap((record) => record.split(" ").slice(2));
    expect(new Set(got)).toEqual(new Set(sources));
  });

  test("an MTU that cannot be", () => {
    expect(() => new Mld({ mac: MAC, mtu: 1279, random: new Random(1), send: () => {} })).toThrow(RangeError);
  });

  test("mutated messages do no harm", () => {
    const random = new Random(4);
    const script = new Script();
    script.mld.join(G, script.now);
    const corpus = [
      mldQuery({ version: 2, group: H, sources: [A, B, C] }),
      mldQuery({ version: 2 }),
      mldQuery({ version: 1 }),
      mldReport(131, G),
    ];
    for (let i = 0; i < 20_000; i++) {
      const packet = corpus[random.below(corpus.length)].slice();
      // From the hop-by-hop options on; the door is tried elsewhere.
      for (let j = 1 + random.below(3); j > 0; j--) packet[40 + random.below(packet.length - 40)] = random.below(256);
      script.receive(random.below(2) === 0 ? packet : resized(packet, packet.length));
      if (i % 10 === 0) script.pass(random.below(3000));
    }
    expect(script.mld.ignored).toBeGreaterThan(1000);
    script.pass(300 * SECOND);
    script.receive(mldQuery({ version: 2, code: 0 }));
    expect(script.passed(SECOND)).toEqual([`IS_EX ${G}`]);
  });
});

/** The packet with another length, and a checksum that fits. */
function resized(packet: Uint8Array, length: number): Uint8Array {
  const out = packet.slice(0, length);
  out[4] = (length - 40) >> 8;
  out[5] = length - 40;
  out.fill(0, 50, 52);
  const pseudo = onesSum([...out.subarray(8, 40), 0, 58, 0, length - 48]);
  const sum = ~onesSum(out, 48, length, pseudo) & 0xffff;
  out[50] = sum >> 8;
  out[51] = sum;
  return out;
}
