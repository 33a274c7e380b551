/**
 * Which of a connection's received bytes its owner, another thread, has been told of, and where those lie that it has not.
 *
 * They stay in the core's receive queue. Its chunks are only ever appended to at the end and freed at the front, so the end
 * of what was told stays a place in one of them for as long as not all of it has been read.
 */
import type { Tcp } from "../tcp/core.ts";
import { readable } from "../tcp/receive.ts";
import { COPIED, RCV_HEAD, TCB_WORDS } from "../tcp/tcb.ts";

export class UntoldBytes {
  private readonly t: Tcp;
  /** By id: sequence number after the last byte told; the chunk it is in, and the offset after it. */
  private readonly seq: Int32Array;
  private readonly chunk: Int32Array;
  private readonly offset: Int32Array;

  constructor(t: Tcp) {
    this.t = t;
    this.seq = new Int32Array(t.config.connections);
    this.chunk = new Int32Array(t.config.connections);
    this.offset = new Int32Array(t.config.connections);
  }

  /** A connection has another owner now: nothing was told. */
  begin(id: number): void {
    this.seq[id] = this.t.w[id * TCB_WORDS + COPIED];
  }

  /** Bytes that can be told. */
  count(id: number): number {
    const { w } = this.t;
    const c = id * TCB_WORDS;
    return readable(w, c) - ((this.seq[id] - w[c + COPIED]) | 0);
  }

  /** Writes pairs of offset and length of the next bytes to words[at], at most `pairs`, behind them a length of 0 where there is room. */
  take(id: number, words: Int32Array, at: number, pairs: number): void {
    const { t } = this;
    const { w, chunks } = t;
    let left = this.count(id);
    const all = this.seq[id] === w[id * TCB_WORDS + COPIED];
    let chunk = all ? w[id * TCB_WORDS + RCV_HEAD] : this.chunk[id];
    let from = all && chunk >= 0 ? chunks.begin[chunk] : this.offset[id];
    let to = at;
    const end = at + 2 * pairs;
    for (; left > 0 && to < end; to += 2) {
      if (from === chunks.end[chunk]) {
        chunk = chunks.next[chunk];
        from = chunks.begin[chunk];
      }
      const length = Math.min(chunks.end[chunk] - from, left);
      words[to] = from;
      words[to + 1] = length;
      this.seq[id] = (this.seq[id] + length) | 0;
      from += length;
      left -= length;
    }
    this.chunk[id] = chunk;
    this.offset[id] = from;
    if (to < end) words[to + 1] = 0;
  }
}
