/**
 * The keyed hash of the flow tables. Each word of a key is mixed in by a secret summand and a secret odd multiplier, so
 * that whoever picks addresses and ports without seeing the table cannot pick ones that collide. It is not a
 * cryptographic function; one that is (HalfSipHash) would cost more than the lookup itself.
 */
import { Random } from "../queues/random.ts";

/** A summand and a multiplier for each word of a key, drawn from `seed`. */
export function hashKeys(seed: number, words: number): Int32Array {
  const random = new Random(seed);
  const keys = new Int32Array(2 * words);
  for (let i = 0; i < words; i++) {
    keys[2 * i] = random.int32();
    keys[2 * i + 1] = random.int32() | 1;
  }
  return keys;
}

/** Adds a word to the hash of the words before it. A multiplication moves bits up only, the shift brings them down. */
export function mix(hash: number, word: number, summand: number, multiplier: number): number {
  const product = Math.imul((hash + (word ^ summand)) | 0, multiplier);
  return product ^ (product >>> 15);
}
