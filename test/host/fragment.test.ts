/** Packets cut into fragments: against what a plain cut gives, and put together again. */
import { describe, expect, test } from "bun:test";
import { ERRNO } from "af-xdp-bindings";
import fc from "fast-check";
import { Fragmenter, FragmentIds, fragmentHeaders6 } from "../../sockets/host/fragment.ts";
import { halfSipHash } from "../../sockets/host/half-sip-hash.ts";
import * as r from "../../sockets/host/reassembly.ts";
import { checkIpv4, IPV4_OK } from "../../sockets/wire/ipv4.ts";
import { FrameViews } from "../../sockets/wire/views.ts";
import { cutEvery, headerBytes, pattern, payloadOf, sealed4, udpPacket } from "./packets.ts";

const V4 = { source: "198.18.0.2", destination: "198.18.0.1" };
const V6 = { source: "2001:db8::2", destination: "2001:db8::1" };
const AT = 14;

/** All fragments of a packet, or the error. */
function fragments(packet: Uint8Array, mtu: number, id = 0x1234): Uint8Array[] | number {
  const fragmenter = new Fragmenter();
  const count = packet[0] >> 4 === 4 ? fragmenter.begin4(packet, 0, mtu, id) : fragmenter.begin6(packet, 0, mtu, id);
  return count < 0 ? count : written(fragmenter);
}

const wholeOf = ({ packet, length }: r.Reassembly): Uint8Array => packet.bytes.slice(r.PACKET_AT, r.PACKET_AT + length);

function written(fragmenter: Fragmenter): Uint8Array[] {
  const to = new FrameViews(new Uint8Array(65600));
  return Array.from({ length: fragmenter.count }, (_, i) => {
    const length = fragmenter.write(i, to, AT);
    return to.bytes.slice(AT, AT + length);
  });
}

describe.each([
  ["IPv4", V4, 1480, 0x1234],
  ["IPv6", V6, 1448, 0x1234],
] as const)("%s", (name, addresses, step, id) => {
  test("fragments of an Ethernet link's MTU", () => {
    const packet = udpPacket({ ...addresses, id, payload: pattern(60000, 1), tos: 0xb8, ttl: 7 });
    expect(fragments(packet, 1500)).toEqual(cutEvery(packet, step, id));
  });

  test("a packet that fits stays as it is", () => {
    const packet = udpPacket({ ...addresses, payload: pattern(1000, 2) });
    expect(fragments(packet, packet.length)).toEqual([packet]);
    expect(fragments(udpPacket({ ...addresses, payload: "" }), 1500)).toHaveLength(1);
    expect(fragments(packet, packet.length - 1)).toHaveLength(2);
  });

  test("header and payload from different places", () => {
    const packet = udpPacket({ ...addresses, id, payload: pattern(5000, 3) });
    const header = new Uint8Array(100);
    header.set(packet.subarray(0, headerBytes(packet)), 7);
    // Lengths and checksum of the header are the fragments' own.
    header.fill(0xee, 7 + (name === "IPv4" ? 2 : 4), 7 + (name === "IPv4" ? 4 : 6));
    const payload = new Uint8Array(6000);
    payload.set(payloadOf(packet), 11);
    const length = payloadOf(packet).length;
    const fragmenter = new Fragmenter();
    const count =
      name === "IPv4"
        ? fragmenter.beginPieces4(header, 7, payload, 11, length, 1500, id)
        : fragmenter.beginPieces6(header, 7, 40, payload, 11, length, 1500, id);
    expect(count).toBe(4);
    expect(written(fragmenter)).toEqual(cutEvery(packet, step, id));
  });

  test("no room for 8 bytes, and packets that cannot be, are refused", () => {
    const packet = udpPacket({ ...addresses, payload: pattern(100, 4) });
    const headers = name === "IPv4" ? 20 : 48;
    expect(fragments(packet, headers + 7)).toBe(-ERRNO.EMSGSIZE);
    expect(fragments(packet, headers + 8)).toHaveLength(Math.ceil(108 / 8));
    const fragmenter = new Fragmenter();
    const header = packet.subarray(0, headerBytes(packet));
    const most = name === "IPv4" ? 65515 : 65535;
    const payload = new Uint8Array(70000);
    const begin = (length: number): number =>
      name === "IPv4"
        ? fragmenter.beginPieces4(header, 0, payload, 0, length, 1500, 0)
        : fragmenter.beginPieces6(header, 0, 40, payload, 0, length, 1500, 0);
    expect(begin(most)).toBe(Math.ceil(most / step));
    expect(begin(most + 1)).toBe(-ERRNO.EMSGSIZE);
    expect(fragmenter.count).toBe(0);
  });

  test("cut and put together again, whatever the lengths", () => {
    const reassembly = new r.Reassembly(1, () => {}, { distanceMax: 0 });
    const property = fc.property(fc.nat(65507), fc.integer({ min: 68, max: 9000 }), (length, mtu) => {
      const packet = udpPacket({ ...addresses, id, payload: pattern(length, mtu) });
      const parts = fragments(packet, mtu) as Uint8Array[];
      for (const part of parts) expect(part.length).toBeLessThanOrEqual(mtu);
      if (parts.length === 1) return expect(parts[0]).toEqual(packet);
      const codes = parts.map((part) =>
        name === "IPv4" ? reassembly.receive4(part, 0, 0) : reassembly.receive6(part, 0, 0),
      );
      expect(codes.pop()).toBe(r.FRAGMENT_COMPLETES);
      expect(Buffer.compare(wholeOf(reassembly), packet)).toBe(0);
    });
    fc.assert(property, { numRuns: 60, seed: 3 });
  });
});

describe("IPv4", () => {
  test("don't fragment is respected", () => {
    const packet = udpPacket({ ...V4, payload: pattern(3000, 1) });
    packet[6] = 0x40;
    expect(fragments(sealed4(packet), 1500)).toBe(-ERRNO.EMSGSIZE);
    expect(fragments(packet, 9000)).toEqual([packet]);
  });

  test("options: those with the copy bit in each fragment, the others in the first", () => {
    // Record route (7), router alert (148, copied), timestamp (68), no-operation, loose source route (131, copied), end.
    const options = [7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0, 68, 8, 5, 0, 0, 0, 0, 0, 1, 131, 3, 4, 0];
    const packet = udpPacket({ ...V4, id: 0x1234, payload: pattern(3000, 1), options });
    const [first, second, third] = fragments(packet, 1500) as Uint8Array[];
    expect([...first.subarray(20, 44)]).toEqual(options);
    const others = [1, 1, 1, 1, 1, 1, 1, 148, 4, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 131, 3, 4, 0];
    for (const part of [second, third]) {
      expect([...part.subarray(20, 44)]).toEqual(others);
      expect(checkIpv4(new FrameViews(padded(part)), 0, part.length)).toBe(IPV4_OK);
    }
    const reassembly = new r.Reassembly(1, () => {});
    expect([third, first, second].map((part) => reassembly.receive4(part, 0, 0))).toEqual([0, 0, 1]);
    expect(wholeOf(reassembly)).toEqual(packet);
  });

  test("options that cannot be are left alone", () => {
    for (const options of [
      [7, 0, 0, 0],
      [1, 1, 7, 9],
      [7, 200, 0, 0],
    ]) {
      const [, second] = fragments(udpPacket({ ...V4, payload: pattern(3000, 1), options }), 1500) as Uint8Array[];
      expect([...second.subarray(20, 24)]).toEqual(options);
    }
  });

  test("a fragment is cut further: offsets go on, the last has more when it had", () => {
    const packet = udpPacket({ ...V4, id: 0x1234, payload: pattern(8000, 1) });
    const parts = cutEvery(packet, 4096).flatMap((part) => fragments(part, 576) as Uint8Array[]);
    const reassembly = new r.Reassembly(1, () => {});
    const codes = parts.map((part) => reassembly.receive4(part, 0, 0));
    expect(codes.indexOf(r.FRAGMENT_COMPLETES)).toBe(codes.length - 1);
    expect(wholeOf(reassembly)).toEqual(packet);
  });
});

describe("IPv6", () => {
  /** Extension headers of 8 bytes each, by number, then UDP. */
  const extended = (...headers: number[]): Uint8Array => {
    const plain = udpPacket({ ...V6, payload: pattern(3000, 1) });
    const out = new Uint8Array(plain.length + 8 * headers.length);
    out.set(plain.subarray(0, 40));
    out[6] = headers[0];
    for (const [i] of headers.entries()) out.set([headers[i + 1] ?? 17, 0, 1, 4, 0, 0, 0, 0], 40 + 8 * i);
    out.set(plain.subarray(40), 40 + 8 * headers.length);
    out[4] = (out.length - 40) >> 8;
    out[5] = out.length - 40;
    return out;
  };
  const [HOP, ROUTING, DEST] = [0, 43, 60];

  test.each([
    ["nothing", [], 40],
    ["hop-by-hop options", [HOP], 48],
    ["destination options are cut", [DEST], 40],
    ["options before a routing header are not", [HOP, DEST, ROUTING, DEST], 64],
    ["a routing header", [ROUTING], 48],
  ])("headers of every fragment: %s", (_, headers, length) => {
    const packet = headers.length === 0 ? udpPacket({ ...V6, payload: pattern(3000, 1) }) : extended(...headers);
    expect(fragmentHeaders6(packet, 0)).toBe(length);
    const parts = fragments(packet, 1400) as Uint8Array[];
    // What named the next header names the fragment header now, which names it in turn.
    const field = length === 40 ? 6 : length - 8;
    for (const part of parts) {
      expect(part[field]).toBe(44);
      expect(part[length]).toBe(packet[field]);
      expect(part.subarray(length + 1, length + 2)).toEqual(Uint8Array.of(0));
      expect(part.length).toBeLessThanOrEqual(1400);
    }
    const reassembly = new r.Reassembly(1, () => {});
    expect(parts.map((part) => reassembly.receive6(part, 0, 0)).pop()).toBe(r.FRAGMENT_COMPLETES);
    expect(wholeOf(reassembly)).toEqual(packet);
  });

  test("a chain that leaves the packet is not followed", () => {
    const packet = extended(HOP);
    packet[41] = 255;
    packet[4] = 0;
    packet[5] = 100;
    expect(fragmentHeaders6(packet, 0)).toBe(40);
  });
});

describe("identifications", () => {
  /** Random words that a test can repeat. */
  const counting = (): ((words: Int32Array) => void) => {
    let next = 1;
    return (words) => {
      for (let i = 0; i < words.length; i++) words[i] = Math.imul(next++, 0x9e3779b9);
    };
  };

  test("IPv4: of one pair all 65,536 before one comes back; other pairs, protocols and keys begin elsewhere", () => {
    const ids = new FragmentIds(counting());
    const seen = new Set(Array.from({ length: 65536 }, () => ids.next4(1, 2, 17)));
    expect(seen.size).toBe(65536);
    const starts = new Set<number>();
    const again = new FragmentIds(counting());
    for (let i = 0; i < 1000; i++) starts.add(again.next4(1, i, 17) - again.next4(1, i, 6));
    expect(starts.size).toBeGreaterThan(900);
  });

  test("IPv4: what one host gets says nothing of what another does", () => {
    // Differences between neighbouring destinations, over which an observer would look for a pattern.
    const ids = new FragmentIds();
    const differences = new Map<number, number>();
    for (let i = 0; i < 20_000; i++) {
      const difference = (ids.next4(1, 2 * i, 17) - ids.next4(1, 2 * i + 1, 17)) & 0xffff;
      differences.set(difference, (differences.get(difference) ?? 0) + 1);
    }
    // 20,000 draws of 65,536: one is drawn eight times or more with a probability below one in a million.
    expect(Math.max(...differences.values())).toBeLessThan(9);
    expect(differences.size).toBeGreaterThan(15_000);
  });

  test("IPv6: random, never 0", () => {
    const ids = new FragmentIds();
    expect(new Set(Array.from({ length: 10_000 }, () => ids.next6())).size).toBeGreaterThan(9_900);
    let calls = 0;
    const zeroes = new FragmentIds((words) => void words.fill(calls++ < 40 ? 0 : 5));
    expect(zeroes.next6()).toBe(5);
  });

  test("HalfSipHash-2-4: vectors of its authors", () => {
    // https://github.com/veorq/SipHash, vectors.h: key 00..07, input 00.. of so many bytes.
    const bytes = new Int32Array(Uint8Array.from({ length: 64 }, (_, i) => i).buffer);
    const hash = (length: number): string =>
      new Uint8Array(Int32Array.of(halfSipHash(bytes[0], bytes[1], bytes, length / 4)).buffer).toHex();
    const vectors = { 0: "a9359f5b", 4: "2a6e4689", 8: "d0b8848f", 12: "57f0872f", 16: "d9b5ac84", 32: "fee72112" };
    for (const [length, expected] of Object.entries(vectors)) expect(hash(Number(length))).toBe(expected);
    expect(hash(60)).toBe("d4e76c73");
  });
});

/** A copy of whole words. */
function padded(bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array((bytes.length + 3) & ~3);
  out.set(bytes);
  return out;
}
