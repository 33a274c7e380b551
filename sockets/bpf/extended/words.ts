/**
 * 64-bit arithmetic on pairs of int32 that is too long to stand in a compiled program. Functions return the low word and leave
 * the high one in HIGH[0]; nothing is allocated, and nothing is a BigInt.
 */

export const HIGH = new Int32Array(1);

const WORD = 2 ** 32;

/** High word of the product of two u32. */
export function mulHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const low = aLow * bLow;
  const middle = aHigh * bLow + (low >>> 16);
  const other = aLow * bHigh + (middle % 65536);
  return (aHigh * bHigh + Math.floor(middle / 65536) + Math.floor(other / 65536)) | 0;
}

/** Unsigned quotient; by 0 it is 0. */
export function divide(aLow: number, aHigh: number, bLow: number, bHigh: number): number {
  return quotient(aLow, aHigh, bLow, bHigh, false);
}

/** Unsigned remainder; by 0 it is the dividend. */
export function remainder(aLow: number, aHigh: number, bLow: number, bHigh: number): number {
  return quotient(aLow, aHigh, bLow, bHigh, true);
}

/** Quotient of signed numbers, towards zero. */
export function signedDivide(aLow: number, aHigh: number, bLow: number, bHigh: number): number {
  const low = magnitudes(aLow, aHigh, bLow, bHigh, false);
  return (aHigh ^ bHigh) < 0 ? negate(low) : low;
}

/** Remainder of signed numbers, with the dividend's sign; by 0 it is the dividend. */
export function signedRemainder(aLow: number, aHigh: number, bLow: number, bHigh: number): number {
  const low = magnitudes(aLow, aHigh, bLow, bHigh, true);
  return aHigh < 0 ? negate(low) : low;
}

function magnitudes(aLow: number, aHigh: number, bLow: number, bHigh: number, rest: boolean): number {
  const a0 = aHigh < 0 ? -aLow | 0 : aLow;
  const a1 = aHigh < 0 ? (~aHigh + (aLow === 0 ? 1 : 0)) | 0 : aHigh;
  const b0 = bHigh < 0 ? -bLow | 0 : bLow;
  const b1 = bHigh < 0 ? (~bHigh + (bLow === 0 ? 1 : 0)) | 0 : bHigh;
  return quotient(a0, a1, b0, b1, rest);
}

function negate(low: number): number {
  HIGH[0] = ~HIGH[0] + (low === 0 ? 1 : 0);
  return -low | 0;
}

function quotient(aLow: number, aHigh: number, bLow: number, bHigh: number, rest: boolean): number {
  if ((bLow | bHigh) === 0) return pair(rest ? aLow : 0, rest ? aHigh : 0);
  if (aHigh >>> 0 < 0x20_0000 && bHigh >>> 0 < 0x20_0000) {
    // Both below 2^53. The quotient of two such integers is never rounded up to an integer, so floor is exact.
    const a = (aHigh >>> 0) * WORD + (aLow >>> 0);
    const b = (bHigh >>> 0) * WORD + (bLow >>> 0);
    const result = rest ? a % b : Math.floor(a / b);
    return pair(result | 0, Math.floor(result / WORD) | 0);
  }
  return bitByBit(aLow, aHigh, bLow, bHigh, rest);
}

function bitByBit(aLow: number, aHigh: number, bLow: number, bHigh: number, rest: boolean): number {
  let low = aLow;
  let high = aHigh;
  let restLow = 0;
  let restHigh = 0;
  for (let i = 0; i < 64; i++) {
    const carried = restHigh < 0;
    restHigh = (restHigh << 1) | (restLow >>> 31);
    restLow = (restLow << 1) | (high >>> 31);
    high = (high << 1) | (low >>> 31);
    low <<= 1;
    const above = restHigh === bHigh ? restLow >>> 0 >= bLow >>> 0 : restHigh >>> 0 > bHigh >>> 0;
    if (!carried && !above) continue;
    restHigh = (restHigh - bHigh - (restLow >>> 0 < bLow >>> 0 ? 1 : 0)) | 0;
    restLow = (restLow - bLow) | 0;
    low |= 1;
  }
  return rest ? pair(restLow, restHigh) : pair(low, high);
}

function pair(low: number, high: number): number {
  HIGH[0] = high;
  return low;
}

/** The bytes of a word the other way round. */
export function swap32(a: number): number {
  return (a << 24) | ((a & 0xff00) << 8) | ((a >>> 8) & 0xff00) | (a >>> 24);
}
