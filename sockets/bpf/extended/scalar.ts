/**
 * What the verifier knows of a 64-bit number: which bits are known (a "tnum", kernel/bpf/tnum.c), and between which bounds it
 * lies, taken as unsigned and as signed. Every function gives a description that holds for each value its operands may have.
 * Verifying is done once a program, so BigInt is good enough here; compiled programs have none.
 */

export interface Scalar {
  /** Bits that are known to be 1, and bits that are not known; the others are 0. */
  readonly value: bigint;
  readonly mask: bigint;
  /** Bounds, both included: unsigned in [0, 2^64), signed in [-2^63, 2^63). */
  readonly umin: bigint;
  readonly umax: bigint;
  readonly smin: bigint;
  readonly smax: bigint;
}

const U64_MAX = (1n << 64n) - 1n;
const S64_MAX = (1n << 63n) - 1n;
const S64_MIN = -(1n << 63n);
const U32_MAX = (1n << 32n) - 1n;
const U31_MAX = (1n << 31n) - 1n;

const unsigned = (value: bigint): bigint => BigInt.asUintN(64, value);
const signed = (value: bigint): bigint => BigInt.asIntN(64, value);
const least = (a: bigint, b: bigint): bigint => (a < b ? a : b);
const most = (a: bigint, b: bigint): bigint => (a > b ? a : b);

export const UNKNOWN: Scalar = { value: 0n, mask: U64_MAX, umin: 0n, umax: U64_MAX, smin: S64_MIN, smax: S64_MAX };
/** Any number of 32 bits. */
export const UNKNOWN32 = range(0n, U32_MAX);

export function constant(value: bigint): Scalar {
  const bits = unsigned(value);
  const number = signed(value);
  return { value: bits, mask: 0n, umin: bits, umax: bits, smin: number, smax: number };
}

/** Any number between two unsigned ones. */
export function range(umin: bigint, umax: bigint): Scalar {
  return settle({ ...UNKNOWN, umin, umax }) ?? UNKNOWN;
}

export const isConstant = (a: Scalar): boolean => a.mask === 0n;
/** Whether the upper half is 0. */
export const isShort = (a: Scalar): boolean => a.umax <= U32_MAX;

/** Whether every value of `b` is one of `a`. */
export function covers(a: Scalar, b: Scalar): boolean {
  if (a.umin > b.umin || a.umax < b.umax || a.smin > b.smin || a.smax < b.smax) return false;
  return (b.mask & ~a.mask) === 0n && (b.value & ~a.mask) === a.value;
}

/** The same set of values, with what each of the three says carried over to the others; null when there is none. */
export function settle(a: Scalar): Scalar | null {
  let { value, mask, umin, umax, smin, smax } = a;
  for (let round = 0; round < 2; round++) {
    // Bits to bounds.
    umin = most(umin, value);
    umax = least(umax, value | mask);
    const sign = 1n << 63n;
    if ((mask & sign) === 0n) {
      smin = most(smin, signed(value));
      smax = least(smax, signed(value | mask));
    } else {
      smin = most(smin, signed(value | sign));
      smax = least(smax, signed((value | mask) & ~sign));
    }
    // One kind of bounds to the other, where the sign is known.
    if (umax <= S64_MAX || umin > S64_MAX) {
      smin = most(smin, signed(umin));
      smax = least(smax, signed(umax));
    }
    if (smin >= 0n || smax < 0n) {
      umin = most(umin, unsigned(smin));
      umax = least(umax, unsigned(smax));
    }
    if (umin > umax || smin > smax) return null;
    // Bounds to bits: what all numbers between them begin with.
    const differ = (1n << BigInt(bitLength(umin ^ umax))) - 1n;
    const known = ~differ & U64_MAX & ~mask;
    if (((value ^ umin) & known) !== 0n) return null;
    value = (value | (umin & ~differ)) & U64_MAX;
    mask &= differ;
    value &= ~mask;
  }
  return { value, mask, umin, umax, smin, smax };
}

function bitLength(a: bigint): number {
  return a === 0n ? 0 : a.toString(2).length;
}

/** From known bits alone, with bounds that may be too wide. */
function of(value: bigint, mask: bigint, umin = 0n, umax = U64_MAX, smin = S64_MIN, smax = S64_MAX): Scalar {
  return settle({ value: unsigned(value) & ~unsigned(mask), mask: unsigned(mask), umin, umax, smin, smax }) ?? UNKNOWN;
}

export function add(a: Scalar, b: Scalar): Scalar {
  const sum = a.value + b.value;
  const carries = (a.mask + b.mask + sum) ^ sum;
  const mask = carries | a.mask | b.mask;
  const fits = a.umax + b.umax <= U64_MAX;
  const signedFits = a.smin + b.smin >= S64_MIN && a.smax + b.smax <= S64_MAX;
  return of(
    sum & ~mask,
    mask,
    fits ? a.umin + b.umin : 0n,
    fits ? a.umax + b.umax : U64_MAX,
    signedFits ? a.smin + b.smin : S64_MIN,
    signedFits ? a.smax + b.smax : S64_MAX,
  );
}

export function sub(a: Scalar, b: Scalar): Scalar {
  const difference = unsigned(a.value - b.value);
  const borrows = unsigned(difference + a.mask) ^ unsigned(difference - b.mask);
  const mask = borrows | a.mask | b.mask;
  const fits = a.umin >= b.umax;
  const signedFits = a.smin - b.smax >= S64_MIN && a.smax - b.smin <= S64_MAX;
  return of(
    difference & ~mask,
    mask,
    fits ? a.umin - b.umax : 0n,
    fits ? a.umax - b.umin : U64_MAX,
    signedFits ? a.smin - b.smax : S64_MIN,
    signedFits ? a.smax - b.smin : S64_MAX,
  );
}

export function mul(a: Scalar, b: Scalar): Scalar {
  if (isConstant(a) && isConstant(b)) return constant(a.value * b.value);
  const zeros = trailingZeros(a) + trailingZeros(b);
  const mask = zeros >= 64n ? 0n : unsigned(U64_MAX << zeros);
  return a.umax * b.umax <= U64_MAX ? of(0n, mask, a.umin * b.umin, a.umax * b.umax) : of(0n, mask);
}

function trailingZeros(a: Scalar): bigint {
  const bits = a.value | a.mask;
  return bits === 0n ? 64n : BigInt(bitLength(bits & -bits) - 1);
}

export function and(a: Scalar, b: Scalar): Scalar {
  const value = a.value & b.value;
  return of(value, (a.value | a.mask) & (b.value | b.mask) & ~value, 0n, least(a.umax, b.umax));
}

export function or(a: Scalar, b: Scalar): Scalar {
  const value = a.value | b.value;
  return of(value, (a.mask | b.mask) & ~value, most(a.umin, b.umin));
}

export function xor(a: Scalar, b: Scalar): Scalar {
  return of(a.value ^ b.value, a.mask | b.mask);
}

/** Unsigned; by zero it is 0. */
export function div(a: Scalar, b: Scalar): Scalar {
  return isConstant(b) && b.value !== 0n ? range(a.umin / b.value, a.umax / b.value) : range(0n, a.umax);
}

/** Unsigned; by zero it is `a`. */
export function mod(a: Scalar, b: Scalar): Scalar {
  if (isConstant(a) && isConstant(b)) return b.value === 0n ? a : constant(a.value % b.value);
  return isConstant(b) && b.value !== 0n ? range(0n, least(a.umax, b.value - 1n)) : range(0n, a.umax);
}

/** @param bits 32 or 64: counts are taken modulo it */
export function lsh(a: Scalar, count: Scalar, bits: number): Scalar {
  if (!isConstant(count)) return UNKNOWN;
  const by = count.value & BigInt(bits - 1);
  const fits = a.umax << by <= U64_MAX;
  return of(a.value << by, unsigned(a.mask << by), fits ? a.umin << by : 0n, fits ? a.umax << by : U64_MAX);
}

export function rsh(a: Scalar, count: Scalar, bits: number): Scalar {
  if (!isConstant(count)) return range(0n, a.umax);
  const by = count.value & BigInt(bits - 1);
  return of(a.value >> by, a.mask >> by, a.umin >> by, a.umax >> by);
}

/** Of 64 bits, with the sign. */
export function arsh(a: Scalar, count: Scalar): Scalar {
  if (!isConstant(count)) return a.smin >= 0n ? range(0n, a.umax) : UNKNOWN;
  const by = count.value & 63n;
  const mask = unsigned(signed(a.mask) >> by);
  return of(unsigned(signed(a.value) >> by) & ~mask, mask, 0n, U64_MAX, a.smin >> by, a.smax >> by);
}

/** The low 32 bits. */
export function truncate(a: Scalar): Scalar {
  if (isShort(a)) return a;
  const together = a.umin >> 32n === a.umax >> 32n;
  const low = of(a.value & U32_MAX, a.mask & U32_MAX, 0n, U32_MAX);
  return together ? (settle({ ...low, umin: a.umin & U32_MAX, umax: a.umax & U32_MAX }) ?? low) : low;
}

/** The low `bits` bits, with their sign. */
export function extendSign(a: Scalar, bits: number): Scalar {
  if (isConstant(a)) return constant(BigInt.asIntN(bits, a.value));
  const max = (1n << BigInt(bits - 1)) - 1n;
  return a.umax <= max ? a : of(0n, U64_MAX, 0n, U64_MAX, -max - 1n, max);
}

/** A number of 32 bits with a sign, as the 32 bits it is. */
export function shortened(a: Scalar): Scalar {
  if (a.smin >= 0n && a.smax <= U31_MAX) return a;
  return a.smax < 0n ? truncate(a) : UNKNOWN32;
}

/** What both say; null when no value is in both. */
export function both(a: Scalar, b: Scalar): Scalar | null {
  if (((a.value ^ b.value) & ~a.mask & ~b.mask) !== 0n) return null;
  const mask = a.mask & b.mask;
  return settle({
    value: (a.value | b.value) & ~mask,
    mask,
    umin: most(a.umin, b.umin),
    umax: least(a.umax, b.umax),
    smin: most(a.smin, b.smin),
    smax: least(a.smax, b.smax),
  });
}

/** Numbers below those that lie in `a`, or below and equal; and the like. Null where there are none. */
export const withUmax = (a: Scalar, umax: bigint): Scalar | null =>
  umax < 0n ? null : settle({ ...a, umax: least(a.umax, umax) });
export const withUmin = (a: Scalar, umin: bigint): Scalar | null => settle({ ...a, umin: most(a.umin, umin) });
export const withSmax = (a: Scalar, smax: bigint): Scalar | null => settle({ ...a, smax: least(a.smax, smax) });
export const withSmin = (a: Scalar, smin: bigint): Scalar | null => settle({ ...a, smin: most(a.smin, smin) });
