/** Fragments in, packets out: scripts of what may come, against the rules of Linux. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Random } from "../../queues/random.ts";
import * as r from "../../sockets/host/reassembly.ts";
import { checkIpv4, IPV4_OK } from "../../sockets/wire/ipv4.ts";
import { checkIpv6, IPV6_OK } from "../../sockets/wire/ipv6.ts";
import { FrameViews } from "../../sockets/wire/views.ts";
import { cutAt, cutEvery, fragmentOf, pattern, payloadOf, sealed4, udpPacket } from "./packets.ts";

const V4 = { source: "198.18.0.2", destination: "198.18.0.1" };
const V6 = { source: "2001:db8::2", destination: "2001:db8::1" };
const FAMILIES = [
  ["IPv4", V4],
  ["IPv6", V6],
] as const;

/** A reassembly with a clock of its own. */
class Bench {
  now = 1000;
  readonly timeouts: { version: number; packet: Uint8Array }[] = [];
  readonly reassembly: r.Reassembly;
  private readonly views = new FrameViews(new Uint8Array(66048));

  constructor(options: r.ReassemblyOptions = {}) {
    this.reassembly = new r.Reassembly(
      7,
      (packet, at, length, version) => {
        this.timeouts.push({ version, packet: packet.bytes.slice(at, at + length) });
      },
      options,
    );
  }

  /** Passes the door, then receives. Packets the door refuses give -1. */
  take(packet: Uint8Array): number {
    const { bytes } = this.views;
    bytes.set(packet, 2);
    if (packet[0] >> 4 === 4) {
      if (checkIpv4(this.views, 2, packet.length) !== IPV4_OK) return -1;
      return this.reassembly.receive4(bytes, 2, this.now);
    }
    if (checkIpv6(bytes, 2, packet.length) !== IPV6_OK) return -1;
    return this.reassembly.receive6(bytes, 2, this.now);
  }

  /** Takes packets in turn: the codes. */
  feed(...packets: Uint8Array[]): number[] {
    return packets.map((packet) => this.take(packet));
  }

  get whole(): Uint8Array {
    return this.reassembly.packet.bytes.slice(r.PACKET_AT, r.PACKET_AT + this.reassembly.length);
  }
}

const KEPT = r.FRAGMENT_KEPT;
const COMPLETES = r.FRAGMENT_COMPLETES;

describe.each(FAMILIES)("%s", (name, addresses) => {
  const packet = udpPacket({ ...addresses, id: 9, payload: pattern(3000, 1) });
  const data = payloadOf(packet);
  const piece = (from: number, to: number, more = to < data.length, id = 0): Uint8Array =>
    fragmentOf(packet, from, data.subarray(from, to), more, id);
  const counts = (bench: Bench): r.ReassemblyCounts =>
    name === "IPv4" ? bench.reassembly.counts4 : bench.reassembly.counts6;

  test("in order, in reverse, and out of order", () => {
    const [a, b, c] = cutEvery(packet, 1024);
    for (const order of [
      [a, b, c],
      [c, b, a],
      [b, c, a],
    ]) {
      const bench = new Bench();
      expect(bench.feed(...order)).toEqual([KEPT, KEPT, COMPLETES]);
      expect(bench.whole).toEqual(packet);
      expect(bench.reassembly.count).toBe(0);
      expect(bench.reassembly.memoryUsed).toBe(0);
      expect(counts(bench)).toMatchObject({ requests: 3, oks: 1, fails: 0 });
    }
  });

  test("the greatest packet, in fragments of every size that is 1,480, 8 for some", () => {
    const most = name === "IPv4" ? 65507 : 65527;
    const greatest = udpPacket({ ...addresses, payload: pattern(most, 2) });
    const bench = new Bench();
    const codes = bench.feed(...cutEvery(greatest, 1480));
    expect(codes.pop()).toBe(COMPLETES);
    expect(new Set(codes)).toEqual(new Set([KEPT]));
    expect(Buffer.compare(bench.whole, greatest)).toBe(0);
    const small = udpPacket({ ...addresses, payload: pattern(400, 3) });
    expect(bench.feed(...cutEvery(small, 8)).pop()).toBe(COMPLETES);
    expect(bench.whole).toEqual(small);
  });

  test("what is not a fragment is for others", () => {
    expect(new Bench().take(packet)).toBe(r.FRAGMENT_NONE);
  });

  test("datagrams differ by identification and by each address", () => {
    const others = [
      udpPacket({ ...addresses, id: 10, payload: data }),
      udpPacket({ ...addresses, source: name === "IPv4" ? "198.18.0.3" : "2001:db8::3", id: 9, payload: data }),
      udpPacket({ ...addresses, destination: name === "IPv4" ? "198.18.0.9" : "2001:db8::9", id: 9, payload: data }),
    ];
    const bench = new Bench();
    expect(bench.take(piece(0, 1024, true))).toBe(KEPT);
    for (const [i, other] of others.entries()) {
      // In IPv6 the identification is the fragment header's.
      const rest = fragmentOf(other, 1024, data.subarray(1024), false, i === 0 ? 1 : 0);
      expect(bench.take(rest)).toBe(KEPT);
    }
    expect(bench.reassembly.count).toBe(4);
    expect(bench.take(piece(1024, data.length))).toBe(COMPLETES);
    expect(bench.whole).toEqual(packet);
  });

  test("duplicates are ignored: the same fragment, and any part of a run that came in order", () => {
    const bench = new Bench();
    expect(bench.feed(piece(0, 1024), piece(1024, 2048), piece(1024, 2048))).toEqual([
      KEPT,
      KEPT,
      r.FRAGMENT_DUPLICATE,
    ]);
    expect(bench.feed(piece(0, 2048), piece(512, 1536))).toEqual([r.FRAGMENT_DUPLICATE, r.FRAGMENT_DUPLICATE]);
    expect(bench.take(piece(2048, data.length))).toBe(COMPLETES);
    expect(bench.whole).toEqual(packet);
    expect(counts(bench)).toMatchObject({ oks: 1, fails: 0, overlaps: 0 });
  });

  test.each([
    ["the end of one before", [0, 1024], [1016, 2048]],
    ["the beginning of one after", [1024, 2048], [0, 1032]],
    ["all of one", [1024, 2048], [0, 2056]],
    ["two runs that came the other way round", [1024, 2048, 0, 1024], [512, 1536]],
  ])("an overlap over %s ends the datagram", (_, before, overlapping) => {
    const bench = new Bench();
    for (let i = 0; i < before.length; i += 2) bench.take(piece(before[i], before[i + 1]));
    expect(bench.take(piece(overlapping[0], overlapping[1]))).toBe(r.FRAGMENT_OVERLAPS);
    expect(bench.reassembly.count).toBe(0);
    expect(bench.reassembly.memoryUsed).toBe(0);
    expect(counts(bench)).toMatchObject({ fails: 1, overlaps: 1 });
    // What comes then begins anew.
    expect(bench.feed(...cutEvery(packet, 1024)).pop()).toBe(COMPLETES);
  });

  test("two ends, bytes beyond the end, and nothing end the datagram", () => {
    const cases: [Uint8Array, Uint8Array][] = [
      [piece(1024, 2048, false), piece(2048, 3000, false)],
      [piece(1024, 2048, false), piece(8, 1000, false)],
      [piece(1024, 2048, false), piece(2048, 2056, true)],
      [piece(1024, 2048, true), piece(8, 1024, false)],
      [piece(0, 1024, true), piece(1024, 1024, true)],
    ];
    for (const [first, second] of cases) {
      const bench = new Bench();
      expect(bench.feed(first, second)).toEqual([KEPT, r.FRAGMENT_INVALID]);
      expect(bench.reassembly.count).toBe(0);
    }
  });

  test("given up in time, with the first fragment if it came", () => {
    const timeoutMs = name === "IPv4" ? r.TIMEOUT_4_MS : r.TIMEOUT_6_MS;
    const bench = new Bench();
    const first = piece(0, 1024);
    bench.take(piece(2048, data.length));
    bench.now += 10;
    bench.take(first);
    bench.take(fragmentOf(udpPacket({ ...addresses, id: 77, payload: data }), 8, data.subarray(0, 8), true, 77));
    expect(bench.reassembly.tick(bench.now)).toBe(1000 + timeoutMs);
    expect(bench.reassembly.tick(999 + timeoutMs)).toBe(1000 + timeoutMs);
    // The clock runs from the first that came; a second datagram without its first fragment says nothing.
    expect(bench.reassembly.tick(1000 + timeoutMs)).toBe(1010 + timeoutMs);
    expect(bench.reassembly.tick(1010 + timeoutMs)).toBe(Number.POSITIVE_INFINITY);
    expect(bench.timeouts).toEqual([{ version: name === "IPv4" ? 4 : 6, packet: first }]);
    expect(counts(bench)).toMatchObject({ timeouts: 2, fails: 2 });
    expect(bench.reassembly.memoryUsed).toBe(0);
  });

  test("congestion marks: kept from any fragment, refused beside fragments of senders without ECN", () => {
    const mark = (fragment: Uint8Array, ecn: number): Uint8Array => {
      const copy = fragment.slice();
      if (name === "IPv4") copy[1] = ecn;
      else copy[1] = ecn << 4;
      return name === "IPv4" ? sealed4(copy) : copy;
    };
    // RFC 3168, section 5.3: codepoints of the two fragments, and of the whole; null: dropped.
    const [NOT, ECT1, ECT0, CE] = [0, 1, 2, 3];
    for (const [a, b, whole] of [
      [NOT, NOT, NOT],
      [ECT0, ECT0, ECT0],
      [ECT0, CE, CE],
      [CE, ECT1, CE],
      [CE, CE, CE],
      [ECT0, ECT1, ECT0],
      [NOT, CE, null],
      [ECT0, NOT, null],
      [NOT, ECT1, null],
    ] as const) {
      const bench = new Bench();
      const [first, second] = cutEvery(packet, 1504);
      const [, code] = bench.feed(mark(first, a), mark(second, b));
      expect(code).toBe(whole === null ? r.FRAGMENT_INVALID : COMPLETES);
      if (whole === null) continue;
      const expected = mark(packet, whole);
      expect(bench.whole).toEqual(expected);
    }
  });
});

describe("IPv4 only", () => {
  const packet = udpPacket({ ...V4, id: 3, payload: pattern(3000, 4) });
  const data = payloadOf(packet);

  test("the protocol is part of the key", () => {
    const bench = new Bench();
    const tcp = packet.slice();
    tcp[9] = 6;
    bench.take(fragmentOf(packet, 0, data.subarray(0, 1504), true));
    expect(bench.take(fragmentOf(sealed4(tcp), 1504, data.subarray(1504), false))).toBe(KEPT);
    expect(bench.reassembly.count).toBe(2);
  });

  test("options are those of the first fragment", () => {
    const optioned = udpPacket({ ...V4, payload: data, options: [7, 7, 4, 0, 0, 0, 0, 0] });
    const bench = new Bench();
    const [first] = cutAt(optioned, [1504]);
    const rest = fragmentOf(udpPacket({ ...V4, payload: data }), 1504, payloadOf(optioned).subarray(1504), false);
    expect(bench.feed(rest, first)).toEqual([KEPT, COMPLETES]);
    expect(bench.whole).toEqual(optioned);
  });

  test("what is not a multiple of 8 before more is cut, as Linux does", () => {
    const bench = new Bench();
    const long = fragmentOf(packet, 0, data.subarray(0, 1509), true);
    expect(bench.feed(long, fragmentOf(packet, 1504, data.subarray(1504), false))).toEqual([KEPT, COMPLETES]);
    expect(bench.whole).toEqual(packet);
    expect(bench.take(fragmentOf(packet, 0, data.subarray(0, 7), true))).toBe(r.FRAGMENT_INVALID);
  });

  test("beyond 65,535 bytes: the ping of death", () => {
    const bench = new Bench();
    const end = fragmentOf(packet, 65528, pattern(400, 1), false);
    expect(bench.feed(fragmentOf(packet, 0, data.subarray(0, 1480), true), end)).toEqual([KEPT, r.FRAGMENT_TOO_LONG]);
    expect(bench.reassembly.count).toBe(0);
    // Within what 20 bytes of header leave, but the first fragment has options.
    const header = udpPacket({ ...V4, payload: pattern(65480, 1) });
    const optioned = udpPacket({ ...V4, payload: pattern(8, 1), options: [1, 1, 1, 1, 1, 1, 1, 0] });
    const codes = bench.feed(
      ...cutEvery(header, 1480).slice(1),
      fragmentOf(optioned, 0, payloadOf(header).subarray(0, 1480), true),
    );
    expect(payloadOf(header).length + 28).toBeLessThan(65536);
    expect(codes.pop()).toBe(COMPLETES);
    const tooLong = udpPacket({ ...V4, payload: pattern(65507, 1) });
    const late = bench.feed(
      ...cutEvery(tooLong, 1480).slice(1),
      fragmentOf(optioned, 0, payloadOf(tooLong).subarray(0, 1480), true),
    );
    expect(late.pop()).toBe(r.FRAGMENT_TOO_LONG);
    expect(bench.reassembly.memoryUsed).toBe(0);
  });

  test("begins anew when many others came from the source since", () => {
    const [a, b] = cutEvery(packet, 1504);
    const others = (bench: Bench, count: number): void => {
      for (let i = 0; i < count; i++) {
        bench.take(
          fragmentOf(udpPacket({ ...V4, id: 1000 + (i % 4), payload: data }), (i >> 2) * 8, data.subarray(0, 8), true),
        );
      }
    };
    const near = new Bench();
    near.take(a);
    others(near, 63);
    expect(near.take(b)).toBe(COMPLETES);
    const far = new Bench();
    far.take(a);
    others(far, 64);
    expect(far.take(b)).toBe(KEPT);
    expect(far.reassembly.counts4.fails).toBe(1);
    expect(far.take(a)).toBe(COMPLETES);
    const never = new Bench({ distanceMax: 0 });
    never.take(a);
    others(never, 500);
    expect(never.take(b)).toBe(COMPLETES);
  });
});

describe("IPv6 only", () => {
  const packet = udpPacket({ ...V6, payload: pattern(3000, 5) });
  const data = payloadOf(packet);
  /** Headers of hop-by-hop options (8 bytes) and destination options (16 bytes) before what follows. */
  const chained = (whole: Uint8Array): Uint8Array => {
    const out = new Uint8Array(whole.length + 24);
    out.set(whole.subarray(0, 40));
    out.set([60, 0, 1, 4, 0, 0, 0, 0, whole[6], 1, 1, 12], 40);
    out.set(whole.subarray(40), 64);
    out[6] = 0;
    out[4] = (out.length - 40) >> 8;
    out[5] = out.length - 40;
    return out;
  };

  test("an atomic fragment is whole, and meets no other with its identification (RFC 6946)", () => {
    const bench = new Bench();
    bench.take(fragmentOf(packet, 0, data.subarray(0, 8), true, 5));
    expect(bench.take(fragmentOf(packet, 0, data, false, 5))).toBe(COMPLETES);
    expect(bench.whole).toEqual(packet);
    expect(bench.reassembly.count).toBe(1);
    const extended = chained(fragmentOf(packet, 0, data, false, 5));
    expect(bench.take(extended)).toBe(COMPLETES);
    expect(bench.whole).toEqual(chained(packet));
  });

  test("headers before the fragment header are the first fragment's, and stay", () => {
    const [a, b] = cutEvery(packet, 1504, 8);
    const bench = new Bench();
    expect(bench.feed(b, chained(a))).toEqual([KEPT, COMPLETES]);
    expect(bench.whole).toEqual(chained(packet));
    expect(bench.feed(chained(b), a)).toEqual([KEPT, COMPLETES]);
    expect(bench.whole).toEqual(packet);
  });

  test("the next header is the first fragment's", () => {
    const [a, b] = cutEvery(packet, 1504, 8);
    b[40] = 58;
    const bench = new Bench();
    expect(bench.feed(b, a)).toEqual([KEPT, COMPLETES]);
    expect(bench.whole).toEqual(packet);
  });

  const problem = (bench: Bench): number[] => [bench.reassembly.problemCode, bench.reassembly.problemPointer];

  test("parameter problems: not a multiple of 8, too long, no upper-layer header, a fragment header in it, no room for one", () => {
    const bench = new Bench();
    bench.take(fragmentOf(packet, 0, data.subarray(0, 1504), true, 1));
    expect(bench.take(fragmentOf(packet, 1504, data.subarray(0, 9), true, 1))).toBe(r.FRAGMENT_PROBLEM);
    expect(problem(bench)).toEqual([r.ICMPV6_HDR_FIELD, 4]);
    expect(bench.reassembly.count).toBe(0);
    bench.take(fragmentOf(packet, 0, data.subarray(0, 1504), true, 1));
    expect(bench.take(fragmentOf(packet, 65528, data.subarray(0, 8), false, 1))).toBe(r.FRAGMENT_PROBLEM);
    expect(problem(bench)).toEqual([r.ICMPV6_HDR_FIELD, 42]);
    expect(bench.reassembly.count).toBe(0);
    const shortened = chained(udpPacket({ ...V6, payload: "" }));
    // Hop-by-hop and destination options after the fragment header, and none of the UDP header.
    const body = shortened.subarray(40, 64);
    const first = fragmentOf(packet, 0, body, true, 2);
    first[40] = 0;
    expect(bench.take(first)).toBe(r.FRAGMENT_PROBLEM);
    expect(problem(bench)).toEqual([r.ICMPV6_HDR_INCOMP, 0]);
    const nested = fragmentOf(packet, 0, data.subarray(0, 16), true, 3);
    nested[40] = 44;
    expect(bench.take(nested)).toBe(r.FRAGMENT_PROBLEM);
    expect(problem(bench)).toEqual([r.ICMPV6_HDR_FIELD, 48]);
    const stub = fragmentOf(packet, 0, data.subarray(0, 0), true, 3).subarray(0, 44);
    stub[5] = 4;
    expect(bench.take(stub)).toBe(r.FRAGMENT_PROBLEM);
    expect(problem(bench)).toEqual([r.ICMPV6_HDR_FIELD, 40]);
    expect(bench.reassembly.count).toBe(0);
  });

  test("extension headers that make the whole too long", () => {
    const greatest = udpPacket({ ...V6, payload: pattern(65527, 6) });
    const fragments = cutEvery(greatest, 1448, 4);
    const bench = new Bench();
    expect(bench.feed(...fragments.slice(1), chained(fragments[0])).pop()).toBe(r.FRAGMENT_TOO_LONG);
    expect(bench.reassembly.memoryUsed).toBe(0);
  });

  test("headers longer than can be kept", () => {
    const [a] = cutEvery(packet, 1504, 8);
    let long = a;
    for (let i = 0; i < 8; i++) {
      const next = new Uint8Array(long.length + 64);
      next.set(long.subarray(0, 40));
      next.set([long[6], 7, 1, 60], 40);
      next.set(long.subarray(40), 104);
      next[6] = 60;
      next[4] = (next.length - 40) >> 8;
      next[5] = next.length - 40;
      long = next;
    }
    expect(new Bench().take(long)).toBe(r.FRAGMENT_INVALID);
  });
});

describe("memory", () => {
  const source4 = (i: number): string => `198.19.${i >> 8}.${i & 255}`;
  /** One fragment of a datagram of its own, which takes a block. */
  const lone = (source: string, id: number): Uint8Array => {
    const packet = udpPacket({ source, destination: "198.18.0.1", id, payload: "12345678" });
    return fragmentOf(packet, 0, payloadOf(packet), true);
  };
  test.each([
    ["one source", 1],
    ["four sources", 4],
    ["sources made up", 65536],
  ])("a flood from %s: bounded, and another's datagrams get through", (_, sources) => {
    const bench = new Bench({ memoryBytes: 1 << 20, datagramsMax: 256 });
    const flood = Array.from({ length: 1024 }, (_, i) => lone(source4(i % sources), i));
    const fragments = cutEvery(udpPacket({ ...V4, id: 1, payload: pattern(60000, 7) }), 1480);
    let got = 0;
    for (let i = 0; i < 41_000; i++) {
      // Sources made up never come back: the third octet of each counts up, too.
      const packet = flood[i % flood.length];
      if (sources > flood.length) packet[13] = 20 + ((i / flood.length) | 0);
      bench.take(sealed4(packet));
      if (i % 4 !== 0) continue;
      bench.now += 0.1;
      if (bench.take(fragments[(i / 4) % fragments.length]) === COMPLETES) got++;
    }
    expect(got).toBe(41_000 / 4 / fragments.length);
    expect(bench.reassembly.memoryUsed).toBeLessThanOrEqual(1 << 20);
    expect(bench.reassembly.count).toBeLessThanOrEqual(256);
    expect(bench.reassembly.evicted).toBeGreaterThan(1000);
  });

  test("one source holds a quarter at most, and what is free when others hold more", () => {
    const bench = new Bench({ memoryBytes: 1 << 20, datagramsMax: 1024 });
    for (let i = 0; i < 1000; i++) bench.take(lone("198.19.0.1", i));
    expect(bench.reassembly.memoryUsed).toBe(256 << 10);
    for (let s = 2; s < 5; s++) for (let i = 0; i < 1000; i++) bench.take(lone(`198.19.0.${s}`, i));
    // The fourth comes to the bound where what it holds is as much as is free.
    expect(bench.reassembly.memoryUsed).toBe((256 * 3 + 128) << 10);
  });

  test("an IPv6 source is a /64", () => {
    const bench = new Bench({ memoryBytes: 1 << 20 });
    for (let i = 0; i < 1000; i++) {
      const packet = udpPacket({
        source: `2001:db8::${i.toString(16)}`,
        destination: V6.destination,
        payload: "12345678",
      });
      bench.take(fragmentOf(packet, 0, payloadOf(packet), true, i));
    }
    expect(bench.reassembly.memoryUsed).toBe(256 << 10);
  });

  test("a source at its bound loses its oldest datagrams", () => {
    const bench = new Bench({ memoryBytes: 256 << 10, datagramsMax: 16 });
    const [a, b] = cutEvery(udpPacket({ ...V4, id: 0, payload: pattern(2000, 1) }), 1024);
    bench.take(a);
    for (let id = 1; id < 4; id++) bench.take(lone("198.18.0.2", id));
    expect(bench.take(b)).toBe(COMPLETES);
    bench.take(a);
    for (let id = 11; id < 15; id++) bench.take(lone("198.18.0.2", id));
    expect(bench.take(b)).toBe(KEPT);
    expect(bench.reassembly.evicted).toBe(5);
    expect(bench.reassembly.counts4.fails).toBe(bench.reassembly.evicted);
  });

  test("options out of range", () => {
    expect(() => new Bench({ memoryBytes: 1000 })).toThrow(RangeError);
    expect(() => new Bench({ memoryBytes: Number.NaN })).toThrow(RangeError);
    expect(() => new Bench({ datagramsMax: 3 })).toThrow(RangeError);
  });
});

describe("randomised", () => {
  interface Wish {
    length: number;
    cuts: number[];
    family: number;
    drop: number;
  }
  const wish = fc.record({
    length: fc.oneof(fc.integer({ min: 16, max: 5000 }), fc.integer({ min: 5000, max: 60000 })),
    cuts: fc.array(fc.integer({ min: 1, max: 600 }), { maxLength: 12 }),
    family: fc.integer({ min: 0, max: 1 }),
    drop: fc.integer({ min: -30, max: 12 }),
  });
  /** Fragments of a datagram, one left out when `drop` is its index. */
  const fragmentsOf = (
    { length, cuts, family, drop }: Wish,
    i: number,
  ): { packet: Uint8Array; parts: Uint8Array[] } => {
    const packet = udpPacket({ ...(family === 0 ? V4 : V6), id: i, payload: pattern(length, i) });
    const offsets = [...new Set(cuts.map((cut) => ((cut * 8 * (1 + (length >> 12))) % length) & ~7))].toSorted(
      (a, b) => a - b,
    );
    const parts = cutAt(packet, offsets, i).filter((part) => part.length > 60 || family === 0);
    return { packet, parts: parts.filter((_, j) => j !== drop) };
  };

  test("reordered, duplicated, interleaved, some lost: exactly what was sent, or nothing", () => {
    let completed = 0;
    const property = fc.property(
      fc.array(wish, { minLength: 1, maxLength: 6 }),
      fc.integer(),
      fc.nat(40),
      (wishes, seed, copies) => {
        const random = new Random(seed);
        const sent = wishes.map(fragmentsOf);
        const all = sent.flatMap(({ parts }, datagram) => parts.map((part) => ({ part, datagram })));
        for (let i = Math.min(copies, all.length); i > 0; i--) all.push(all[random.below(all.length)]);
        for (let i = all.length - 1; i > 0; i--) {
          const j = random.below(i + 1);
          [all[i], all[j]] = [all[j], all[i]];
        }
        const bench = new Bench();
        const got = new Set<number>();
        for (const { part, datagram } of all) {
          const code = bench.take(part);
          if (code === r.FRAGMENT_NONE) {
            // Not cut at all: it comes whole.
            got.add(datagram);
            continue;
          }
          expect([KEPT, COMPLETES, r.FRAGMENT_DUPLICATE]).toContain(code);
          if (code !== COMPLETES) continue;
          completed++;
          got.add(datagram);
          expect(Buffer.compare(bench.whole, sent[datagram].packet)).toBe(0);
        }
        for (const [i, { packet, parts }] of sent.entries()) {
          const bytes = parts.reduce((sum, part) => sum + payloadOf(part).length - (part[0] >> 4 === 6 ? 8 : 0), 0);
          expect(got.has(i)).toBe(bytes === payloadOf(packet).length);
        }
      },
    );
    fc.assert(property, { numRuns: 300, seed: 1 });
    expect(completed).toBeGreaterThan(300);
  });

  test("mutated fragments do no harm", () => {
    const random = new Random(99);
    const bench = new Bench({ memoryBytes: 256 << 10, datagramsMax: 32 });
    const corpus = [V4, V6].flatMap((addresses, i) =>
      cutEvery(udpPacket({ ...addresses, id: i, payload: pattern(4000, i) }), 1024, i),
    );
    const codes = new Map<number, number>();
    for (let i = 0; i < 200_000; i++) {
      const packet = corpus[random.below(corpus.length)].slice();
      for (let j = random.below(4); j > 0; j--) packet[random.below(Math.min(packet.length, 64))] = random.below(256);
      const code = bench.take(packet[0] >> 4 === 4 ? sealed4(packet) : packet);
      codes.set(code, (codes.get(code) ?? 0) + 1);
      if (i % 100 !== 0) continue;
      bench.now += 50;
      bench.reassembly.tick(bench.now);
    }
    // Everything that can happen did.
    for (const code of [
      KEPT,
      COMPLETES,
      r.FRAGMENT_DUPLICATE,
      r.FRAGMENT_NONE,
      r.FRAGMENT_OVERLAPS,
      r.FRAGMENT_INVALID,
    ]) {
      expect(codes.get(code)).toBeGreaterThan(100);
    }
    for (const code of [r.FRAGMENT_TOO_LONG, r.FRAGMENT_PROBLEM]) expect(codes.get(code)).toBeGreaterThan(5);
    bench.reassembly.tick(bench.now + r.TIMEOUT_6_MS);
    expect(bench.reassembly.count).toBe(0);
    expect(bench.reassembly.memoryUsed).toBe(0);
  });
});
