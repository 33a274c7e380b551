/**
 * HalfSipHash-2-4 with 32 bits of output (J.-P. Aumasson and D. J. Bernstein; include/linux/siphash.h calls its 1-3 variant
 * hsiphash): a keyed function whose values tell nothing of its others to who does not know the key. Over whole words.
 */

/** @param length words of `words` that are hashed, at most 63. Returns an int32. */
export function halfSipHash(key0: number, key1: number, words: Int32Array, length: number): number {
  let v0 = key0;
  let v1 = key1;
  let v2 = 0x6c796765 ^ key0;
  let v3 = 0x74656462 ^ key1;
  // The last word is the length in bytes, in its upper byte; then four rounds without input instead of two.
  for (let i = 0; i <= length + 1; i++) {
    const word = i < length ? words[i] : i === length ? length << 26 : 0;
    if (i <= length) v3 ^= word;
    else v2 ^= 0xff;
    for (let round = i <= length ? 2 : 4; round > 0; round--) {
      v0 = (v0 + v1) | 0;
      v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
      v0 = (v0 << 16) | (v0 >>> 16);
      v2 = (v2 + v3) | 0;
      v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
      v0 = (v0 + v3) | 0;
      v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
      v2 = (v2 + v1) | 0;
      v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
      v2 = (v2 << 16) | (v2 >>> 16);
    }
    v0 ^= word;
  }
  return v1 ^ v3;
}
