/**
 * Segments sent and not yet acknowledged, as Linux keeps sk_buffs in its retransmission queue: a node each, of SEG_WORDS
 * words in one array. A node is named by its first word. A connection's nodes are in two lists: all of them by sequence
 * number, and by the time of their last sending those whose loss RACK has still to judge (RFC 8985, section 6.2).
 */
import { RACK_HEAD, RACK_TAIL, SEG_HEAD, SEG_TAIL } from "./tcb.ts";

const SEG_WORDS = 12;

export const SEG_NEXT = 0;
export const SEG_PREV = 1;
/** The list by time; NOT_LISTED in SEG_LATER: it is not in it. */
export const SEG_LATER = 2;
export const SEG_EARLIER = 3;
/** Sequence numbers: its first, and the one after its last, SYN and FIN counted. */
export const SEG_SEQ = 4;
export const SEG_END = 5;
/** Time of its last sending, and of its first. */
export const SEG_US = 6;
export const SEG_FIRST_US = 7;
/** SEG_ bits. */
export const SEG_FLAGS = 8;
/** Where its first byte lies: chunk, and offset in the pool. -1 without data. */
export const SEG_CHUNK = 9;
export const SEG_OFFSET = 10;

/** Bits of SEG_FLAGS; the TCP flags SYN, FIN and PSH are there as on the wire. */
export const SEG_SACKED = 1 << 8;
export const SEG_LOST = 1 << 9;
/** Its retransmission is in flight. */
export const SEG_RETRANS = 1 << 10;
/** It has been retransmitted once at least: its RTT is ambiguous (Karn). */
export const SEG_EVER_RETRANS = 1 << 11;

const NOT_LISTED = -2;

export class Segments {
  readonly words: Int32Array;
  readonly count: number;
  used = 0;
  /** Times there was none. */
  exhausted = 0;
  private free: number;

  constructor(count: number) {
    this.count = count;
    this.words = new Int32Array(count * SEG_WORDS);
    for (let i = 0; i < count; i++) this.words[i * SEG_WORDS] = i + 1 < count ? (i + 1) * SEG_WORDS : -1;
    this.free = 0;
  }

  /** A node in no list, or -1. */
  take(): number {
    const node = this.free;
    if (node < 0) {
      this.exhausted++;
      return -1;
    }
    const s = this.words;
    this.free = s[node + SEG_NEXT];
    s[node + SEG_LATER] = NOT_LISTED;
    this.used++;
    return node;
  }

  give(node: number): void {
    this.words[node + SEG_NEXT] = this.free;
    this.free = node;
    this.used--;
  }

  /** Puts a node at the end of a connection's segments. */
  append(w: Int32Array, c: number, node: number): void {
    this.insertAfter(w, c, w[c + SEG_TAIL], node);
  }

  /** Puts a node behind another one, or with `after` -1 before all. */
  insertAfter(w: Int32Array, c: number, after: number, node: number): void {
    const s = this.words;
    const next = after < 0 ? w[c + SEG_HEAD] : s[after + SEG_NEXT];
    s[node + SEG_PREV] = after;
    s[node + SEG_NEXT] = next;
    if (after < 0) w[c + SEG_HEAD] = node;
    else s[after + SEG_NEXT] = node;
    if (next < 0) w[c + SEG_TAIL] = node;
    else s[next + SEG_PREV] = node;
  }

  /** Takes a node out of both lists and frees it. */
  remove(w: Int32Array, c: number, node: number): void {
    const s = this.words;
    const next = s[node + SEG_NEXT];
    const previous = s[node + SEG_PREV];
    if (previous < 0) w[c + SEG_HEAD] = next;
    else s[previous + SEG_NEXT] = next;
    if (next < 0) w[c + SEG_TAIL] = previous;
    else s[next + SEG_PREV] = previous;
    this.unlist(w, c, node);
    this.give(node);
  }

  /** Puts a node last by time: it has just been sent. */
  list(w: Int32Array, c: number, node: number): void {
    this.unlist(w, c, node);
    const s = this.words;
    const tail = w[c + RACK_TAIL];
    s[node + SEG_EARLIER] = tail;
    s[node + SEG_LATER] = -1;
    if (tail < 0) w[c + RACK_HEAD] = node;
    else s[tail + SEG_LATER] = node;
    w[c + RACK_TAIL] = node;
  }

  /** Takes a node out of the list by time. */
  unlist(w: Int32Array, c: number, node: number): void {
    const s = this.words;
    const later = s[node + SEG_LATER];
    if (later === NOT_LISTED) return;
    const earlier = s[node + SEG_EARLIER];
    if (earlier < 0) w[c + RACK_HEAD] = later;
    else s[earlier + SEG_LATER] = later;
    if (later < 0) w[c + RACK_TAIL] = earlier;
    else s[later + SEG_EARLIER] = earlier;
    s[node + SEG_LATER] = NOT_LISTED;
  }

  /** Puts the second half of a node that was split beside it in the list by time. */
  listBeside(w: Int32Array, c: number, node: number, half: number): void {
    const s = this.words;
    const later = s[node + SEG_LATER];
    if (later === NOT_LISTED) return;
    s[half + SEG_EARLIER] = node;
    s[half + SEG_LATER] = later;
    s[node + SEG_LATER] = half;
    if (later < 0) w[c + RACK_TAIL] = half;
    else s[later + SEG_EARLIER] = half;
  }

  /** Frees a connection's segments; how many there were. */
  giveAll(w: Int32Array, c: number): number {
    let node = w[c + SEG_HEAD];
    let count = 0;
    while (node >= 0) {
      const next = this.words[node + SEG_NEXT];
      this.give(node);
      node = next;
      count++;
    }
    w[c + SEG_HEAD] = -1;
    w[c + SEG_TAIL] = -1;
    w[c + RACK_HEAD] = -1;
    w[c + RACK_TAIL] = -1;
    return count;
  }
}
