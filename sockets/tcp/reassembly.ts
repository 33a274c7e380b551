/**
 * What a peer has sent ahead of a hole: per connection a list of ranges by sequence number, disjoint and not touching, each
 * with its bytes in chunks of its own. When the hole is filled its chunks are joined to the receive queue as they are.
 *
 * Bounds: ranges of all connections and of one, and the connection's receive buffer, in which a range counts by its
 * chunks. Beyond them the ranges furthest ahead are given up (tcp_prune_ofo_queue): what was reported by SACK may be
 * dropped, what was acknowledged never (RFC 2018, section 8).
 */
import type { FrameViews } from "../wire/views.ts";
import { reportDuplicate } from "./challenge.ts";
import type { Tcp } from "./core.ts";
import { COPIED, OOO_COUNT, OOO_HEAD, RCV_CHUNKS, RCV_HEAD, RCV_NXT, RCV_TAIL } from "./tcb.ts";
import { chunkLimit } from "./window.ts";

const RANGE_WORDS = 8;
export const RANGE_NEXT = 0;
export const RANGE_SEQ = 1;
export const RANGE_END = 2;
const RANGE_HEAD = 3;
const RANGE_TAIL = 4;
/** Grows with each change of any range: the latest is reported first (RFC 2018, section 4). */
export const RANGE_STAMP = 5;

export class Ranges {
  readonly words: Int32Array;
  readonly count: number;
  used = 0;
  exhausted = 0;
  private free = 0;
  private stamp = 0;

  constructor(count: number) {
    this.count = count;
    this.words = new Int32Array(count * RANGE_WORDS);
    for (let i = 0; i < count; i++) this.words[i * RANGE_WORDS] = i + 1 < count ? (i + 1) * RANGE_WORDS : -1;
  }

  take(): number {
    const range = this.free;
    if (range < 0) {
      this.exhausted++;
      return -1;
    }
    this.free = this.words[range + RANGE_NEXT];
    this.used++;
    return range;
  }

  give(range: number): void {
    this.words[range + RANGE_NEXT] = this.free;
    this.free = range;
    this.used--;
  }

  touch(range: number): void {
    this.stamp = (this.stamp + 1) | 0;
    this.words[range + RANGE_STAMP] = this.stamp;
  }
}

/**
 * Appends bytes to the receive queue: RCV.NXT is the caller's to move.
 * @returns how many were taken; fewer than `length`: there was no chunk
 */
export function appendInOrder(t: Tcp, c: number, views: FrameViews, offset: number, length: number): number {
  const { w, chunks } = t;
  let done = 0;
  let tail = w[c + RCV_TAIL];
  if (tail >= 0) done = chunks.append(tail, views, offset, length);
  while (done < length) {
    const chunk = chunks.take(offset + done);
    if (chunk < 0) break;
    w[c + RCV_CHUNKS]++;
    if (tail < 0) w[c + RCV_HEAD] = chunk;
    else chunks.next[tail] = chunk;
    w[c + RCV_TAIL] = chunk;
    tail = chunk;
    done += chunks.append(chunk, views, offset + done, length - done);
  }
  return done;
}

/** Where the reported duplicate lay in insertRange(): nothing new came when `start` === `end`. */
export const duplicate = { start: 0, end: 0 };

/**
 * Keeps bytes that came ahead of RCV.NXT. What of them was there already is in `duplicate`.
 * @returns bytes kept; 0: all were there already, or there was no room
 */
export function insertRange(t: Tcp, c: number, seq: number, views: FrameViews, offset: number, length: number): number {
  const { w, ranges } = t;
  const r = ranges.words;
  const end = (seq + length) | 0;
  duplicate.start = 0;
  duplicate.end = 0;
  let from = seq;
  let kept = 0;
  let before = -1;
  let next = w[c + OOO_HEAD];
  while (next >= 0 && ((r[next + RANGE_END] - from) | 0) < 0) {
    before = next;
    next = r[next + RANGE_NEXT];
  }
  // `next` is the first range that ends at `from` or beyond; it may begin before.
  while (((end - from) | 0) > 0) {
    if (next >= 0 && ((r[next + RANGE_SEQ] - from) | 0) <= 0) {
      const covered = ((r[next + RANGE_END] - end) | 0) < 0 ? r[next + RANGE_END] : end;
      if (((covered - from) | 0) > 0) {
        if (duplicate.start === duplicate.end) {
          duplicate.start = from;
          duplicate.end = covered;
        }
        ranges.touch(next);
      }
      from = covered;
      before = next;
      next = r[next + RANGE_NEXT];
      continue;
    }
    const to = next >= 0 && ((r[next + RANGE_SEQ] - end) | 0) < 0 ? r[next + RANGE_SEQ] : end;
    const count = (to - from) | 0;
    const range = place(t, c, before, from, views, offset + ((from - seq) | 0), count);
    if (range < 0) break;
    const put = (r[range + RANGE_END] - from) | 0;
    kept += put;
    if (put < count) break;
    from = to;
    before = range;
    next = r[range + RANGE_NEXT];
    if (next >= 0 && r[next + RANGE_SEQ] === to) {
      join(t, c, range, next);
      from = ((r[range + RANGE_END] - end) | 0) < 0 ? r[range + RANGE_END] : end;
      if (((from - to) | 0) > 0 && duplicate.start === duplicate.end) {
        duplicate.start = to;
        duplicate.end = from;
      }
      next = r[range + RANGE_NEXT];
    }
  }
  return kept;
}

/** Puts bytes that touch no range but perhaps `before` behind it: into it, or into a range of their own. -1: no room. */
function place(
  t: Tcp,
  c: number,
  before: number,
  seq: number,
  views: FrameViews,
  offset: number,
  length: number,
): number {
  const { w, ranges, chunks } = t;
  const r = ranges.words;
  let range = before;
  if (before < 0 || r[before + RANGE_END] !== seq) {
    if (w[c + OOO_COUNT] >= t.config.rangesPerConnection || w[c + RCV_CHUNKS] >= chunkLimit(t, c)) return -1;
    range = ranges.take();
    if (range < 0) return -1;
    const chunk = chunks.take(offset);
    if (chunk < 0) {
      ranges.give(range);
      return -1;
    }
    w[c + RCV_CHUNKS]++;
    w[c + OOO_COUNT]++;
    r[range + RANGE_SEQ] = seq;
    r[range + RANGE_END] = seq;
    r[range + RANGE_HEAD] = chunk;
    r[range + RANGE_TAIL] = chunk;
    if (before < 0) {
      r[range + RANGE_NEXT] = w[c + OOO_HEAD];
      w[c + OOO_HEAD] = range;
    } else {
      r[range + RANGE_NEXT] = r[before + RANGE_NEXT];
      r[before + RANGE_NEXT] = range;
    }
  }
  let tail = r[range + RANGE_TAIL];
  let done = chunks.append(tail, views, offset, length);
  while (done < length && w[c + RCV_CHUNKS] < chunkLimit(t, c)) {
    const chunk = chunks.take(offset + done);
    if (chunk < 0) break;
    w[c + RCV_CHUNKS]++;
    chunks.next[tail] = chunk;
    tail = chunk;
    done += chunks.append(chunk, views, offset + done, length - done);
  }
  r[range + RANGE_TAIL] = tail;
  r[range + RANGE_END] = (seq + done) | 0;
  ranges.touch(range);
  return range;
}

/** Joins the range after `range`, which it touches. */
function join(t: Tcp, c: number, range: number, next: number): void {
  const r = t.ranges.words;
  t.chunks.next[r[range + RANGE_TAIL]] = r[next + RANGE_HEAD];
  r[range + RANGE_TAIL] = r[next + RANGE_TAIL];
  r[range + RANGE_END] = r[next + RANGE_END];
  r[range + RANGE_NEXT] = r[next + RANGE_NEXT];
  t.ranges.give(next);
  t.w[c + OOO_COUNT]--;
}

/** After RCV.NXT has moved: joins ranges it has reached to the receive queue and moves it beyond them. */
export function drainRanges(t: Tcp, c: number): void {
  const { w, ranges, chunks } = t;
  const r = ranges.words;
  for (;;) {
    const range = w[c + OOO_HEAD];
    if (range < 0 || ((r[range + RANGE_SEQ] - w[c + RCV_NXT]) | 0) > 0) return;
    const known = (w[c + RCV_NXT] - r[range + RANGE_SEQ]) | 0;
    if (known > 0) {
      const end = r[range + RANGE_END];
      reportDuplicate(t, c, r[range + RANGE_SEQ], ((end - w[c + RCV_NXT]) | 0) < 0 ? end : w[c + RCV_NXT]);
    }
    const head = dropFront(t, c, r[range + RANGE_HEAD], known);
    if (head >= 0) {
      if (w[c + RCV_TAIL] < 0) w[c + RCV_HEAD] = head;
      else chunks.next[w[c + RCV_TAIL]] = head;
      w[c + RCV_TAIL] = r[range + RANGE_TAIL];
      w[c + RCV_NXT] = r[range + RANGE_END];
    }
    w[c + OOO_HEAD] = r[range + RANGE_NEXT];
    w[c + OOO_COUNT]--;
    ranges.give(range);
  }
}

/** Drops the first `count` bytes of a queue of chunks; its new head, -1: nothing is left. */
function dropFront(t: Tcp, c: number, head: number, count: number): number {
  const { chunks } = t;
  let chunk = head;
  let left = count;
  while (chunk >= 0 && left > 0) {
    const length = chunks.end[chunk] - chunks.begin[chunk];
    if (length > left) {
      chunks.begin[chunk] += left;
      return chunk;
    }
    left -= length;
    const next = chunks.next[chunk];
    chunks.give(chunk);
    t.w[c + RCV_CHUNKS]--;
    chunk = next;
  }
  return chunk;
}

/** Drops the first `count` bytes of the receive queue: they have been read. */
export function consume(t: Tcp, c: number, count: number): void {
  const { w } = t;
  const head = dropFront(t, c, w[c + RCV_HEAD], count);
  w[c + RCV_HEAD] = head;
  if (head < 0) w[c + RCV_TAIL] = -1;
  w[c + COPIED] = (w[c + COPIED] + count) | 0;
}

/** Gives up the range furthest ahead, to make room. False: there is none. */
export function pruneLast(t: Tcp, c: number): boolean {
  const { w, ranges } = t;
  const r = ranges.words;
  let before = -1;
  let range = w[c + OOO_HEAD];
  if (range < 0) return false;
  while (r[range + RANGE_NEXT] >= 0) {
    before = range;
    range = r[range + RANGE_NEXT];
  }
  if (before < 0) w[c + OOO_HEAD] = -1;
  else r[before + RANGE_NEXT] = -1;
  w[c + OOO_COUNT]--;
  w[c + RCV_CHUNKS] -= t.chunks.giveAll(r[range + RANGE_HEAD]);
  ranges.give(range);
  return true;
}
