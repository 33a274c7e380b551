/** Options of a socket as words of its record (sockets/tcp/tcb.ts): what is carried over when a draft becomes a connection. */
import {
  CONGESTION,
  DEFER_COUNT,
  F_CORK,
  F_KEEPALIVE,
  F_LINGER,
  F_NO_PMTUD,
  F_NODELAY,
  F_OOBINLINE,
  F_PINGPONG,
  FLAGS,
  HOPS,
  KEEP_COUNTS,
  KEEP_IDLE_MS,
  KEEP_INTERVAL_MS,
  L_CLAMP,
  L_RCVBUF,
  L_SNDBUF,
  LINGER_MS,
  LINGER2_MS,
  LOCKS,
  NOTSENT_LOWAT,
  PACING_MAX,
  RCV_BUF,
  RCV_LOWAT,
  SND_BUF,
  SYN_COUNT,
  TOS,
  USER_MSS,
  USER_TIMEOUT_MS,
  WINDOW_CLAMP,
} from "../tcp/tcb.ts";

/** Bits of FLAGS and LOCKS that options set. */
const FLAGS_MASK = F_NODELAY | F_CORK | F_KEEPALIVE | F_OOBINLINE | F_LINGER | F_NO_PMTUD | F_PINGPONG;
const LOCKS_MASK = L_RCVBUF | L_SNDBUF | L_CLAMP;

/** Words that are an option as a whole, and the two of which options have bits. */
export const OPTION_WORDS = [
  ...[FLAGS, LOCKS, CONGESTION, DEFER_COUNT, HOPS, KEEP_COUNTS, KEEP_IDLE_MS, KEEP_INTERVAL_MS, LINGER2_MS, LINGER_MS],
  ...[NOTSENT_LOWAT, PACING_MAX, RCV_BUF, RCV_LOWAT, SND_BUF, SYN_COUNT, TOS, USER_MSS, USER_TIMEOUT_MS, WINDOW_CLAMP],
] as const;

function maskOf(word: number): number {
  return word === FLAGS ? FLAGS_MASK : word === LOCKS ? LOCKS_MASK : -1;
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
