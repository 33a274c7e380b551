import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  CHECKSUM_BAD,
  CHECKSUM_OK,
  CHECKSUM_PARTIAL,
  fold,
  pseudoSum4,
  pseudoSum6,
  storeChecksum,
  sum,
  swap16,
  updateChecksum,
  verify,
} from "../../../sockets/wire/checksum.ts";
import { FrameViews } from "../../../sockets/wire/views.ts";

const SIZE = 2112;
const views = new FrameViews(new Uint8Array(new SharedArrayBuffer(SIZE)));
for (let i = 0; i < SIZE; i++) views.bytes[i] = Math.imul(i + 1, 2654435761) >>> 21;

/** Adds two 16-bit numbers bit by bit, the carry out of the top going back in at the bottom (RFC 1071, section 1). */
function addBitSerial(a: number, b: number): number {
  let result = a;
  let addend = b;
  while (addend !== 0) {
    let carry = 0;
    let out = 0;
    for (let bit = 0; bit < 16; bit++) {
      const x = (result >> bit) & 1;
      const y = (addend >> bit) & 1;
      out |= (x ^ y ^ carry) << bit;
      carry = (x & y) | (carry & (x ^ y));
    }
    result = out;
    addend = carry;
  }
  return result;
}

/** One's-complement sum of a range as a number in network order. */
function reference(bytes: Uint8Array, offset: number, length: number, initial = 0): number {
  let total = initial;
  for (let i = 0; i < length; i += 2) {
    const low = i + 1 < length ? bytes[offset + i + 1] : 0;
    total = addBitSerial(total, (bytes[offset + i] << 8) | low);
  }
  return total;
}

/** The same number for both representations of zero. */
const canonical = (x: number) => (x === 0xffff ? 0 : x);

describe("sum", () => {
  test("every length 0..2100 at every alignment, against bit-serial addition", () => {
    for (let offset = 0; offset < 8; offset++) {
      let even = 0;
      for (let length = 0; length <= 2100; length++) {
        if (length > 0 && length % 2 === 0) even = addBitSerial(even, wordAt(offset + length - 2));
        const odd = length % 2 === 1 ? addBitSerial(even, views.bytes[offset + length - 1] << 8) : even;
        const got = swap16(fold(sum(views, offset, length, 0)));
        if (canonical(got) !== canonical(odd)) throw new Error(`offset ${offset} length ${length}: ${got} not ${odd}`);
      }
    }
  });

  test("any contents, with an initial sum", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 0, maxLength: 600, size: "max" }),
        fc.integer({ min: 0, max: 7 }),
        fc.integer({ min: 0, max: 0xfffff }),
        (data, offset, initial) => {
          const memory = new FrameViews(new Uint8Array(new SharedArrayBuffer(640)));
          memory.bytes.set(data, offset);
          const start = reference(Uint8Array.of(fold(initial) & 255, fold(initial) >> 8), 0, 2);
          const want = reference(data, 0, data.length, start);
          expect(canonical(swap16(fold(sum(memory, offset, data.length, initial))))).toBe(canonical(want));
        },
      ),
    );
  });

  test("the longest range of 0xff stays below 2^31", () => {
    const memory = new FrameViews(new Uint8Array(new SharedArrayBuffer(65_540)).fill(0xff));
    for (const length of [254, 255, 65_534, 65_535]) {
      const total = sum(memory, 0, length, 0xfffff);
      expect(total).toBeGreaterThan(0);
      const want = reference(memory.bytes, 0, length, swap16(fold(0xfffff)));
      expect(canonical(swap16(fold(total)))).toBe(canonical(want));
    }
  });

  function wordAt(offset: number): number {
    return (views.bytes[offset] << 8) | views.bytes[offset + 1];
  }
});

test("RFC 1071, section 3: the worked example", () => {
  const memory = new FrameViews(Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7));
  expect(swap16(fold(sum(memory, 0, 8, 0)))).toBe(0xddf2);
});

test("fold: 0 only for 0", () => {
  expect(fold(0)).toBe(0);
  expect(fold(0xffff)).toBe(0xffff);
  expect(fold(0xffff * 5)).toBe(0xffff);
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 31 - 1 }), (x) => {
      expect(fold(x)).toBe(x % 0xffff === 0 ? 0xffff : x % 0xffff);
    }),
  );
});

test("pseudo-headers are those of RFC 768 and RFC 8200", () => {
  const ip4 = 14;
  const header4 = [...views.bytes.slice(ip4 + 12, ip4 + 20), 0, 17, 0x01, 0x2c];
  expect(canonical(swap16(fold(pseudoSum4(views, ip4, 17, 300))))).toBe(
    canonical(reference(Uint8Array.from(header4), 0, 12)),
  );
  const header6 = [...views.bytes.slice(ip4 + 8, ip4 + 40), 0, 0, 0x01, 0x2c, 0, 0, 0, 58];
  expect(canonical(swap16(fold(pseudoSum6(views, ip4, 58, 300))))).toBe(
    canonical(reference(Uint8Array.from(header6), 0, 40)),
  );
});

describe("verify", () => {
  /** A datagram of `length` at byte 34 with its checksum field at 40, under a pseudo-header at 14. */
  function datagram(length: number, seed: number) {
    const memory = new FrameViews(new Uint8Array(2048));
    for (let i = 0; i < 34 + length; i++) memory.bytes[i] = Math.imul(i + seed, 0x9e3779b1) >>> 24;
    memory.bytes[40] = 0;
    memory.bytes[41] = 0;
    const pseudo = pseudoSum4(memory, 14, 17, length);
    return { memory, pseudo };
  }

  test("a stored checksum is right, and any changed bit of data makes it wrong", () => {
    fc.assert(
      fc.property(fc.integer({ min: 8, max: 1480 }), fc.nat(), fc.nat(), (length, seed, where) => {
        const { memory, pseudo } = datagram(length, seed);
        storeChecksum(memory, 40, sum(memory, 34, length, pseudo));
        expect(verify(memory, 34, length, 40, pseudo)).toBe(CHECKSUM_OK);
        const bit = where % (length * 8);
        const byte = 34 + (bit >> 3);
        memory.bytes[byte] ^= 1 << (bit & 7);
        const inField = byte === 40 || byte === 41;
        const isPartial = inField && memory.half[20] === fold(pseudo);
        expect(verify(memory, 34, length, 40, pseudo)).toBe(isPartial ? CHECKSUM_PARTIAL : CHECKSUM_BAD);
      }),
    );
  });

  test("the folded pseudo-header alone is partial; its complement and its neighbour are bad", () => {
    const { memory, pseudo } = datagram(100, 7);
    memory.half[20] = fold(pseudo);
    expect(verify(memory, 34, 100, 40, pseudo)).toBe(CHECKSUM_PARTIAL);
    memory.half[20] = ~fold(pseudo);
    expect(verify(memory, 34, 100, 40, pseudo)).toBe(CHECKSUM_BAD);
    memory.half[20] = fold(pseudo) + 1;
    expect(verify(memory, 34, 100, 40, pseudo)).toBe(CHECKSUM_BAD);
  });
});

describe("updateChecksum", () => {
  test("RFC 1624, section 4: the example that equation 2 gets wrong", () => {
    expect(updateChecksum(0xdd2f, 0x5555, 0x3285)).toBe(0x0000);
  });

  test("equals a checksum taken anew", () => {
    const halfword = fc.integer({ min: 0, max: 0xffff });
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 20, maxLength: 20 }), fc.nat(9), halfword, (data, at, after) => {
        const memory = new FrameViews(data.slice());
        memory.half[5] = 0;
        const field = at === 5 ? 6 : at;
        const before = memory.half[field];
        const checksum = ~fold(sum(memory, 0, 20, 0)) & 0xffff;
        memory.half[field] = after;
        const updated = updateChecksum(checksum, before, after);
        memory.half[5] = updated;
        // An all-zero header has sum 0 rather than 65535; RFC 1624, section 3.
        const isZero = memory.bytes.every((byte, i) => byte === 0 || i === 10 || i === 11);
        if (!isZero) expect(fold(sum(memory, 0, 20, 0))).toBe(0xffff);
      }),
    );
  });
});
