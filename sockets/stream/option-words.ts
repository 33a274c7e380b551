/** Options of a socket as words of its record (sockets/tcp/tcb.ts): what is carried over when a draft becomes a connection. */
import { INHERITED, INHERITED_FLAGS, INHERITED_LOCKS } from "../tcp/inherited.ts";
import { F_CORK, FLAGS, LOCKS, PRIORITY } from "../tcp/tcb.ts";

/** Bits of FLAGS that options set: those that a listener's connections begin with, and one more. */
const FLAGS_MASK = INHERITED_FLAGS | F_CORK;

/** The two words of which options have bits, and those that are options as a whole: of these what is accepted has all but SO_PRIORITY. */
const OPTION_WORDS = [FLAGS, LOCKS, PRIORITY, ...INHERITED] as const;

function maskOf(word: number): number {
  return word === FLAGS ? FLAGS_MASK : word === LOCKS ? INHERITED_LOCKS : -1;
}

/** Pairs of word and value by which the options of record `c` differ from those of record `from` of the same words. */
export function optionDifferences(w: Int32Array, c: number, from: number): number[] {
  const pairs: number[] = [];
  for (const word of OPTION_WORDS) {
    const mask = maskOf(word);
    if ((w[c + word] & mask) !== (w[from + word] & mask)) pairs.push(word, w[c + word] & mask);
  }
  return pairs;
}

/** Sets a word of a record from such a pair. */
export function applyOptionWord(w: Int32Array, c: number, word: number, value: number): void {
  const mask = maskOf(word);
  w[c + word] = (w[c + word] & ~mask) | (value & mask);
}
