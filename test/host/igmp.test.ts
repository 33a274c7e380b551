/** IGMP as scripts: what the interface wants, what a querier asks, what is sent when. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Random } from "../../queues/random.ts";
import { packRecords } from "../../sockets/host/group-records.ts";
import { floating8, Igmp } from "../../sockets/host/igmp.ts";
import { MCAST_EXCLUDE, MCAST_INCLUDE } from "../../sockets/host/source-filter.ts";
import { checkIpv4, IPV4_OK } from "../../sockets/wire/ipv4.ts";
import { FrameViews } from "../../sockets/wire/views.ts";
import { onesSum } from "../support/frames.ts";
import { type GroupMessage, igmpQuery, igmpReport, parseGroupMessage } from "./group-messages.ts";
import { sealed4 } from "./packets.ts";

const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
const G = "239.1.2.3";
const H = "232.1.1.1";
const [A, B, C] = ["198.18.5.1", "198.18.5.2", "198.18.5.3"];
const SECOND = 1000;

/** A host whose clock jumps from one deadline to the next. */
class Script {
  now = 5000;
  readonly igmp: Igmp;
  private sent: GroupMessage[] = [];
  private readonly views = new FrameViews(new Uint8Array(2048));

  constructor(mtu = 1500, seed = 1) {
    this.igmp = new Igmp({ mac: MAC, mtu, random: new Random(seed), send: (frame) => this.take(frame) });
    this.igmp.address = (198 << 24) | (18 << 16) | 2;
  }

  private take(frame: Uint8Array): void {
    const message = parseGroupMessage(frame);
    if (message === null) throw new Error("not IGMP");
    this.sent.push(message);
  }

  /** Messages since the last call. */
  messages(): GroupMessage[] {
    return this.sent.splice(0);
  }

  /** Records of the reports since the last call. */
  records(): string[] {
    return this.messages().flatMap(({ records }) => records);
  }

  filter(group: string, mode: number, ...sources: string[]): string[] {
    this.igmp.setFilter(group, mode, sources, this.now);
    return this.records();
  }

  receive(packet: Uint8Array): void {
    this.views.bytes.set(packet, 2);
    expect(checkIpv4(this.views, 2, packet.length)).toBe(IPV4_OK);
    this.igmp.receive(this.views, 2, this.now);
  }

  /** Lets time pass, each deadline kept: what was sent, each with the time that it took. */
  pass(ms: number): { after: number; message: GroupMessage }[] {
    const from = this.now;
    const log: { after: number; message: GroupMessage }[] = [];
    for (;;) {
      const next = this.igmp.tick(this.now);
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

describe("version 3: changes", () => {
  test("a join is reported at once, and once again within a second; so is the leave", () => {
    const script = new Script();
    script.igmp.join(G, script.now);
    const [message, ...more] = script.messages();
    expect(more).toEqual([]);
    expect(message).toEqual({
      type: 0x22,
      source: "198.18.0.2",
      destination: "224.0.0.22",
      group: "",
      records: [`TO_EX ${G}`],
      bytes: 40,
    });
    const repeated = script.pass(10 * SECOND);
    expect(repeated.map((entry) => entry.message.records)).toEqual([[`TO_EX ${G}`]]);
    expect(repeated[0].after).toBeGreaterThan(0);
    expect(repeated[0].after).toBeLessThanOrEqual(SECOND);
    script.igmp.leave(G, script.now);
    expect(script.records()).toEqual([`TO_IN ${G}`]);
    expect(script.passed(10 * SECOND)).toEqual([`TO_IN ${G}`]);
    expect(script.igmp.tick(script.now)).toBe(Number.POSITIVE_INFINITY);
  });

  test("224.0.0.1 is never reported", () => {
    const script = new Script();
    script.igmp.join("224.0.0.1", script.now);
    script.receive(igmpQuery({ version: 3 }));
    expect(script.passed(20 * SECOND)).toEqual([]);
  });

  test("without an address the source is 0.0.0.0", () => {
    const script = new Script();
    script.igmp.address = 0;
    script.igmp.join(G, script.now);
    expect(script.messages()[0].source).toBe("0.0.0.0");
  });

  test("source lists: what is added is allowed, what goes is blocked (RFC 3376, section 5.1)", () => {
    const script = new Script();
    expect(script.filter(H, MCAST_INCLUDE, A, B)).toEqual([`ALLOW ${H} ${A} ${B}`]);
    expect(script.passed(5 * SECOND)).toEqual([`ALLOW ${H} ${A} ${B}`]);
    expect(script.filter(H, MCAST_INCLUDE, B, C)).toEqual([`ALLOW ${H} ${C}`, `BLOCK ${H} ${A}`]);
    expect(script.passed(5 * SECOND)).toEqual([`ALLOW ${H} ${C}`, `BLOCK ${H} ${A}`]);
    expect(script.filter(H, MCAST_EXCLUDE, A)).toEqual([`TO_EX ${H} ${A}`]);
    expect(script.passed(5 * SECOND)).toEqual([`TO_EX ${H} ${A}`]);
    expect(script.filter(H, MCAST_EXCLUDE, B)).toEqual([`ALLOW ${H} ${A}`, `BLOCK ${H} ${B}`]);
    expect(script.passed(5 * SECOND)).toEqual([`ALLOW ${H} ${A}`, `BLOCK ${H} ${B}`]);
    expect(script.filter(H, MCAST_INCLUDE, C)).toEqual([`TO_IN ${H} ${C}`]);
    expect(script.passed(5 * SECOND)).toEqual([`TO_IN ${H} ${C}`]);
    expect(script.filter(H, MCAST_INCLUDE)).toEqual([`BLOCK ${H} ${C}`]);
    expect(script.passed(5 * SECOND)).toEqual([`BLOCK ${H} ${C}`]);
    expect(script.filter(H, MCAST_INCLUDE)).toEqual([]);
  });

  test("changes before the repetitions are over are merged with them", () => {
    const script = new Script();
    script.filter(H, MCAST_INCLUDE, A);
    // A is still to be repeated, and B twice.
    expect(script.filter(H, MCAST_INCLUDE, A, B)).toEqual([`ALLOW ${H} ${A} ${B}`]);
    expect(script.passed(5 * SECOND)).toEqual([`ALLOW ${H} ${B}`]);
    // A source that goes before it was repeated is blocked, twice from then.
    script.filter(H, MCAST_INCLUDE, A, B, C);
    expect(script.filter(H, MCAST_INCLUDE, A, B)).toEqual([`BLOCK ${H} ${C}`]);
    expect(script.passed(5 * SECOND)).toEqual([`BLOCK ${H} ${C}`]);
    // A change of mode is reported twice from the last one, with the sources as they are.
    expect(script.filter(H, MCAST_EXCLUDE)).toEqual([`TO_EX ${H}`]);
    expect(script.filter(H, MCAST_INCLUDE, A)).toEqual([`TO_IN ${H} ${A}`]);
    expect(script.filter(H, MCAST_INCLUDE, A, B)).toEqual([`TO_IN ${H} ${A} ${B}`]);
    expect(script.passed(5 * SECOND)).toEqual([`ALLOW ${H} ${B}`]);
  });

  test("the querier's robustness says how often", () => {
    const script = new Script();
    script.receive(igmpQuery({ version: 3, qrv: 4 }));
    script.pass(10 * SECOND);
    script.igmp.join(G, script.now);
    expect(script.records().concat(script.passed(10 * SECOND))).toHaveLength(4);
    script.receive(igmpQuery({ version: 3, qrv: 0 }));
    script.pass(10 * SECOND);
    script.igmp.leave(G, script.now);
    expect(script.records().concat(script.passed(10 * SECOND))).toHaveLength(2);
  });

  test("announced anew when the link comes up", () => {
    const script = new Script();
    script.igmp.join(G, script.now);
    script.filter(H, MCAST_INCLUDE, A);
    script.pass(10 * SECOND);
    script.igmp.announce(script.now);
    expect(script.records().toSorted()).toEqual([`ALLOW ${H} ${A}`, `TO_EX ${G}`]);
    expect(script.passed(10 * SECOND)).toHaveLength(2);
  });
});

describe("version 3: queries", () => {
  /** Members of G (all sources) and H (A and B), with nothing to be sent. */
  const settled = (): Script => {
    const script = new Script();
    script.igmp.join(G, script.now);
    script.filter(H, MCAST_INCLUDE, A, B);
    script.pass(20 * SECOND);
    return script;
  };

  test("a general query: all groups in one report, at random within its time", () => {
    const times = new Set<number>();
    const script = settled();
    for (let i = 0; i < 50; i++) {
      script.receive(igmpQuery({ version: 3, code: 50 }));
      const answers = script.pass(10 * SECOND);
      expect(answers.map(({ message }) => message.records.toSorted())).toEqual([
        [`IS_EX ${G}`, `IS_IN ${H} ${A} ${B}`],
      ]);
      expect(answers[0].after).toBeLessThanOrEqual(5 * SECOND);
      times.add(Math.floor(answers[0].after / SECOND));
    }
    expect(times.size).toBe(5);
  });

  test("a group's query: its state; of others, nothing", () => {
    const script = settled();
    script.receive(igmpQuery({ version: 3, group: G }));
    expect(script.passed(SECOND)).toEqual([`IS_EX ${G}`]);
    script.receive(igmpQuery({ version: 3, group: "239.9.9.9" }));
    expect(script.passed(SECOND)).toEqual([]);
  });

  test("a query of sources: those that are wanted", () => {
    const script = settled();
    script.receive(igmpQuery({ version: 3, group: H, sources: [B, C] }));
    expect(script.passed(SECOND)).toEqual([`IS_IN ${H} ${B}`]);
    script.receive(igmpQuery({ version: 3, group: H, sources: [C] }));
    expect(script.passed(SECOND)).toEqual([]);
    script.filter(G, MCAST_EXCLUDE, A);
    script.pass(10 * SECOND);
    script.receive(igmpQuery({ version: 3, group: G, sources: [A, C] }));
    expect(script.passed(SECOND)).toEqual([`IS_IN ${G} ${C}`]);
  });

  test("queries before the answer: one answer to all, at the earliest of their times (section 5.2)", () => {
    const script = settled();
    script.receive(igmpQuery({ version: 3, group: H, sources: [A] }));
    script.receive(igmpQuery({ version: 3, group: H, sources: [B] }));
    expect(script.passed(SECOND)).toEqual([`IS_IN ${H} ${A} ${B}`]);
    script.receive(igmpQuery({ version: 3, group: H, sources: [A] }));
    script.receive(igmpQuery({ version: 3, group: H }));
    script.receive(igmpQuery({ version: 3, group: H, sources: [B] }));
    expect(script.passed(SECOND)).toEqual([`IS_IN ${H} ${A} ${B}`]);
    // One that comes sooner answers this as well.
    script.receive(igmpQuery({ version: 3, code: 0 }));
    script.receive(igmpQuery({ version: 3, group: G, code: 100 }));
    expect(script.pass(20 * SECOND)).toHaveLength(1);
    script.receive(igmpQuery({ version: 3, code: 100 }));
    script.receive(igmpQuery({ version: 3, code: 1 }));
    const answers = script.pass(20 * SECOND);
    expect(answers).toHaveLength(1);
    expect(answers[0].after).toBeLessThanOrEqual(100);
  });

  test("more sources than are remembered: the whole state", () => {
    const script = settled();
    for (let i = 0; i < 5; i++) {
      const sources = Array.from({ length: 250 }, (_, j) => `198.19.${i}.${j}`);
      script.receive(igmpQuery({ version: 3, group: H, sources, code: 100 }));
    }
    expect(script.passed(10 * SECOND)).toEqual([`IS_IN ${H} ${A} ${B}`]);
  });

  test("what cannot be a query is ignored", () => {
    const script = settled();
    const bad: Uint8Array[] = [
      igmpQuery({ version: 3, destination: "224.0.0.5" }),
      igmpQuery({ version: 3, group: "198.18.0.7", destination: "224.0.0.1" }),
      igmpQuery({ version: 3, sources: [A] }),
      igmpQuery({ version: 3, group: H, sources: [A] }).slice(0, -1),
      igmpQuery({ version: 3, group: H }).slice(0, -2),
      igmpQuery({ version: 2 }).slice(0, -1),
    ];
    for (const packet of bad) script.receive(summed(packet));
    const corrupt = igmpQuery({ version: 3 });
    corrupt[25] ^= 1;
    script.receive(corrupt);
    expect(script.igmp.ignored).toBe(bad.length + 1);
    expect(script.passed(20 * SECOND)).toEqual([]);
    expect(script.igmp.version).toBe(3);
  });

  test("to this host's own address, and without a router alert: answered", () => {
    const script = settled();
    script.receive(igmpQuery({ version: 3, destination: "198.18.0.2" }));
    expect(script.passed(SECOND)).toHaveLength(2);
    script.receive(igmpQuery({ version: 3, plain: true }));
    expect(script.passed(SECOND)).toHaveLength(2);
  });
});

describe("older queriers", () => {
  const types = (log: { message: GroupMessage }[]): string[] =>
    log.map(({ message: { type, group, destination } }) => `${type.toString(16)} ${group} > ${destination}`);

  test("version 2: a report a group, a leave, and back to version 3 when the querier is gone", () => {
    const script = new Script();
    script.igmp.join(G, script.now);
    script.pass(10 * SECOND);
    script.receive(igmpQuery({ version: 2, code: 20 }));
    expect(script.igmp.version).toBe(2);
    const answers = script.pass(2 * SECOND);
    expect(types(answers)).toEqual([`16 ${G} > ${G}`]);
    expect(answers[0].message.bytes).toBe(32);
    // Joined: at once, and again within ten seconds.
    script.igmp.join(H, script.now);
    expect(script.messages().map(({ group }) => group)).toEqual([H]);
    expect(types(script.pass(10 * SECOND))).toEqual([`16 ${H} > ${H}`]);
    script.igmp.leave(H, script.now);
    expect(types(script.messages().map((message) => ({ message })))).toEqual([`17 ${H} > 224.0.0.2`]);
    // Robustness × query interval + response interval, from the query.
    expect(types(script.pass(260 * SECOND - 12 * SECOND - 1))).toEqual([]);
    expect(script.igmp.version).toBe(2);
    script.pass(2);
    expect(script.igmp.version).toBe(3);
    script.receive(igmpQuery({ version: 3 }));
    expect(script.passed(SECOND)).toEqual([`IS_EX ${G}`]);
  });

  test("a change of version cancels what was to be sent", () => {
    const script = new Script();
    script.receive(igmpQuery({ version: 3, code: 100 }));
    script.igmp.join(G, script.now);
    script.messages();
    script.receive(igmpQuery({ version: 2, code: 1 }));
    expect(types(script.pass(20 * SECOND))).toEqual([`16 ${G} > ${G}`]);
  });

  test("another host's report makes ours unnecessary, and our leave", () => {
    const script = new Script();
    script.receive(igmpQuery({ version: 2 }));
    script.igmp.join(G, script.now);
    script.messages();
    script.receive(igmpReport(0x16, G));
    expect(script.pass(20 * SECOND)).toEqual([]);
    script.receive(igmpQuery({ version: 2 }));
    script.receive(igmpReport(0x16, G));
    expect(script.pass(20 * SECOND)).toEqual([]);
    script.igmp.leave(G, script.now);
    expect(script.messages()).toEqual([]);
    // In version 3 nothing is suppressed.
    script.pass(300 * SECOND);
    script.igmp.join(G, script.now);
    script.receive(igmpReport(0x16, G));
    expect(script.passed(SECOND)).toHaveLength(2);
  });

  test("a query that gives less time brings the report forward, one that gives more does not put it off", () => {
    const script = new Script();
    script.receive(igmpQuery({ version: 2, code: 100 }));
    script.igmp.join(G, script.now);
    script.messages();
    script.receive(igmpQuery({ version: 2, code: 1 }));
    script.receive(igmpQuery({ version: 2, code: 255 }));
    const [answer, ...more] = script.pass(30 * SECOND);
    expect(answer.after).toBeLessThanOrEqual(100);
    expect(more).toEqual([]);
  });

  test("a group's query of version 2 changes no version", () => {
    const script = new Script();
    script.igmp.join(G, script.now);
    script.pass(10 * SECOND);
    script.receive(igmpQuery({ version: 2, group: G }));
    expect(script.igmp.version).toBe(3);
    expect(script.passed(SECOND)).toEqual([`IS_EX ${G}`]);
  });

  test("version 1: its reports, no leave; then version 2 while that querier was heard later", () => {
    const script = new Script();
    script.receive(igmpQuery({ version: 1 }));
    script.pass(100 * SECOND);
    script.receive(igmpQuery({ version: 2 }));
    expect(script.igmp.version).toBe(1);
    script.igmp.join(G, script.now);
    expect(types(script.messages().map((message) => ({ message })))).toEqual([`12 ${G} > ${G}`]);
    script.pass(20 * SECOND);
    script.receive(igmpQuery({ version: 1 }));
    const answers = script.pass(10 * SECOND);
    expect(types(answers)).toEqual([`12 ${G} > ${G}`]);
    script.igmp.leave(G, script.now);
    expect(script.messages()).toEqual([]);
    script.pass(251 * SECOND);
    expect(script.igmp.version).toBe(3);
    script.receive(igmpQuery({ version: 1 }));
    script.pass(10 * SECOND);
    script.receive(igmpQuery({ version: 2 }));
    script.pass(251 * SECOND);
    expect(script.igmp.version).toBe(2);
    script.pass(10 * SECOND);
    expect(script.igmp.version).toBe(3);
  });
});

describe("formats", () => {
  test("numbers with an exponent", () => {
    expect([0, 1, 127, 128, 129, 143, 144, 255].map(floating8)).toEqual([0, 1, 127, 128, 136, 248, 256, 31744]);
  });

  test("an interface that wants more than a report holds: several, none longer than the MTU", () => {
    const script = new Script(576);
    const groups = Array.from({ length: 200 }, (_, i) => `239.7.${i >> 4}.${i & 15}`);
    for (const group of groups) script.igmp.join(group, script.now);
    script.pass(10 * SECOND);
    script.receive(igmpQuery({ version: 3, code: 1 }));
    const answers = script.pass(SECOND).map(({ message }) => message);
    expect(answers.length).toBe(Math.ceil((200 * 8) / (576 - 32)));
    for (const { bytes } of answers) expect(bytes).toBeLessThanOrEqual(576);
    expect(new Set(answers.flatMap(({ records }) => records))).toEqual(
      new Set(groups.map((group) => `IS_EX ${group}`)),
    );
  });

  test("records dealt out: no report too long, no source lost but in an EXCLUDE that fills a report", () => {
    const record = fc.record({
      type: fc.integer({ min: 1, max: 6 }),
      group: fc.integer({ min: 0, max: 9 }).map((i) => `239.0.0.${i}`),
      sources: fc.integer({ min: 0, max: 60 }).map((n) => Array.from({ length: n }, (_, i) => `198.18.0.${i}`)),
    });
    const property = fc.property(
      fc.array(record, { maxLength: 12 }),
      fc.integer({ min: 12, max: 200 }),
      (records, room) => {
        const reports = packRecords(records, 4, room);
        for (const report of reports) {
          expect(report.length).toBeGreaterThan(0);
          const bytes = report.reduce((sum, { sources }) => sum + 8 + 4 * sources.length, 0);
          expect(bytes).toBeLessThanOrEqual(room);
        }
        const flat = reports.flat();
        for (const { type, group, sources } of records) {
          if (type === 2 || type === 4) {
            const fits = Math.min(sources.length, Math.floor((room - 8) / 4));
            const at = flat.findIndex((other) => other.type === type && other.group === group);
            expect(flat[at].sources).toEqual(sources.slice(0, fits));
            flat.splice(at, 1);
          }
        }
        const pairs = (list: readonly { type: number; group: string; sources: readonly string[] }[]): string[] =>
          list
            .filter(({ type }) => type !== 2 && type !== 4)
            .flatMap(({ type, group, sources }) => sources.map((source) => `${type} ${group} ${source}`));
        expect(pairs(flat)).toEqual(pairs(records));
      },
    );
    fc.assert(property, { numRuns: 500, seed: 5 });
  });

  test("an MTU that cannot be", () => {
    const make = (mtu: number) => new Igmp({ mac: MAC, mtu, random: new Random(1), send: () => {} });
    expect(() => make(575)).toThrow(RangeError);
    expect(() => make(Number.NaN)).toThrow(RangeError);
  });

  test("mutated messages do no harm", () => {
    const random = new Random(4);
    const script = new Script();
    script.igmp.join(G, script.now);
    script.filter(H, MCAST_INCLUDE, A, B);
    const corpus = [
      igmpQuery({ version: 3, group: H, sources: [A, B, C] }),
      igmpQuery({ version: 3 }),
      igmpQuery({ version: 2 }),
      igmpReport(0x16, G),
    ];
    for (let i = 0; i < 20_000; i++) {
      const packet = corpus[random.below(corpus.length)].slice();
      for (let j = 1 + random.below(3); j > 0; j--) packet[24 + random.below(packet.length - 24)] = random.below(256);
      // Half of them with a checksum that fits, so that what is behind it is tried as well.
      script.receive(random.below(2) === 0 ? summed(packet) : packet);
      if (i % 10 === 0) script.pass(random.below(3000));
    }
    expect(script.igmp.ignored).toBeGreaterThan(1000);
    script.pass(300 * SECOND);
    script.receive(igmpQuery({ version: 3, code: 0 }));
    expect(script.passed(SECOND).toSorted()).toEqual([`IS_EX ${G}`, `IS_IN ${H} ${A} ${B}`]);
  });
});

/** The packet, which has 24 bytes of header, with the length that it has and checksums that fit. */
function summed(packet: Uint8Array): Uint8Array {
  const out = packet.slice();
  out[3] = out.length;
  out.fill(0, 26, 28);
  const sum = ~onesSum(out, 24) & 0xffff;
  out[26] = sum >> 8;
  out[27] = sum;
  return sealed4(out);
}
