/** Segments sent again: one, in parts if segments have become smaller; those that are lost. */
import { TCP_ACK, TCP_FIN, TCP_PSH, TCP_SYN } from "../wire/tcp.ts";
import type { Tcp } from "./core.ts";
import { N } from "./counters.ts";
import { echo, emit, inFlight, segmentSize, sendSyn, windowEnd } from "./emit.ts";
import { timestamp } from "./options.ts";
import { paced, paceSent } from "./pacing.ts";
import { startRetransmit } from "./retransmit-timer.ts";
import {
  SEG_CHUNK,
  SEG_END,
  SEG_EVER_RETRANS,
  SEG_FIRST_US,
  SEG_FLAGS,
  SEG_LOST,
  SEG_NEXT,
  SEG_OFFSET,
  SEG_RETRANS,
  SEG_SACKED,
  SEG_SEQ,
  SEG_US,
} from "./segments.ts";
import { tallySentAgain } from "./tally.ts";
import {
  CA_CWR,
  CA_RECOVERY,
  CA_STATE,
  CWND,
  LAST_SND_MS,
  LOST_OUT,
  PACKETS_OUT,
  PENDING,
  PENDING_NONE,
  PRR_OUT,
  RETRANS_OUT,
  RETRANS_TS,
  RTO_US,
  SACKED_OUT,
  SEG_HEAD,
  SND_UNA,
  UNDO_RETRANS,
} from "./tcb.ts";

/**
 * Sends a segment again (tcp_retransmit_skb), in parts if segments have become smaller.
 * @returns false: the peer's window no longer has room, or there is no frame
 */
export function retransmit(t: Tcp, c: number, node: number): boolean {
  const { w, segments } = t;
  const s = segments.words;
  let length = 0;
  if ((s[node + SEG_FLAGS] & TCP_SYN) !== 0) {
    if (!sendSyn(t, c)) return false;
  } else {
    const room = (windowEnd(w, c) - s[node + SEG_SEQ]) | 0;
    if (room <= 0 && s[node + SEG_SEQ] !== w[c + SND_UNA]) return false;
    let size = segmentSize(w, c);
    if (room > 0 && room < size) size = room;
    length = dataLength(s, node);
    let ends = TCP_FIN | TCP_PSH;
    if (length > size) {
      // Without a node for the rest the segment stays whole, and what fits of it goes: else nothing would ever.
      if (!split(t, c, node, size)) ends = 0;
      length = size;
    }
    const bits = TCP_ACK | echo(w, c) | (s[node + SEG_FLAGS] & ends);
    if (!emit(t, c, s[node + SEG_SEQ], bits, s[node + SEG_CHUNK], s[node + SEG_OFFSET], length, 0)) return false;
  }
  t.counters[N.RetransSegs]++;
  t.counters[N.OutSegs]--;
  tallySentAgain(t, c, length);
  if ((s[node + SEG_FLAGS] & SEG_RETRANS) === 0) w[c + RETRANS_OUT]++;
  s[node + SEG_FLAGS] |= SEG_RETRANS | SEG_EVER_RETRANS;
  s[node + SEG_US] = t.us;
  segments.list(w, c, node);
  if (w[c + RETRANS_TS] === 0) w[c + RETRANS_TS] = timestamp(t, c) === 0 ? 1 : timestamp(t, c);
  if (w[c + UNDO_RETRANS] < 0) w[c + UNDO_RETRANS] = 0;
  w[c + UNDO_RETRANS]++;
  w[c + LAST_SND_MS] = t.ms;
  return true;
}

/** Bytes of a segment's payload. */
export function dataLength(s: Int32Array, node: number): number {
  const length = (s[node + SEG_END] - s[node + SEG_SEQ]) | 0;
  return (s[node + SEG_FLAGS] & (TCP_FIN | TCP_SYN)) !== 0 ? length - 1 : length;
}

/** Notes in node `to`, which may be the same, where the bytes after the first `count` of a segment's data lie. */
export function placeAfter(t: Tcp, node: number, count: number, to: number): void {
  const { chunks } = t;
  const s = t.segments.words;
  let chunk = s[node + SEG_CHUNK];
  let offset = s[node + SEG_OFFSET];
  for (let left = count; left > 0; ) {
    const here = Math.min(left, chunks.end[chunk] - offset);
    offset += here;
    left -= here;
    if (offset === chunks.end[chunk] && chunks.next[chunk] >= 0) {
      chunk = chunks.next[chunk];
      offset = chunks.begin[chunk];
    }
  }
  s[to + SEG_CHUNK] = chunk;
  s[to + SEG_OFFSET] = offset;
}

/** Splits a segment in flight: `size` bytes stay in it, the rest goes to a new one behind. False: no node. */
export function split(t: Tcp, c: number, node: number, size: number): boolean {
  const { w, segments } = t;
  const half = segments.take();
  if (half < 0) return false;
  const s = segments.words;
  placeAfter(t, node, size, half);
  s[half + SEG_SEQ] = (s[node + SEG_SEQ] + size) | 0;
  s[half + SEG_END] = s[node + SEG_END];
  s[half + SEG_US] = s[node + SEG_US];
  s[half + SEG_FIRST_US] = s[node + SEG_FIRST_US];
  s[half + SEG_FLAGS] = s[node + SEG_FLAGS];
  s[node + SEG_END] = s[half + SEG_SEQ];
  s[node + SEG_FLAGS] &= ~(TCP_FIN | TCP_PSH);
  segments.insertAfter(w, c, node, half);
  segments.listBeside(w, c, node, half);
  w[c + PACKETS_OUT]++;
  if ((s[half + SEG_FLAGS] & SEG_SACKED) !== 0) w[c + SACKED_OUT]++;
  if ((s[half + SEG_FLAGS] & SEG_LOST) !== 0) w[c + LOST_OUT]++;
  if ((s[half + SEG_FLAGS] & SEG_RETRANS) !== 0) w[c + RETRANS_OUT]++;
  return true;
}

/** Retransmits what is lost, as far as the congestion window allows (tcp_xmit_retransmit_queue). */
export function retransmitLost(t: Tcp, c: number): void {
  const { w, segments } = t;
  const s = segments.words;
  let first = true;
  let lost = w[c + LOST_OUT];
  for (let node = w[c + SEG_HEAD]; lost > 0 && node >= 0; node = s[node + SEG_NEXT]) {
    const marks = s[node + SEG_FLAGS] & (SEG_LOST | SEG_RETRANS);
    if ((marks & SEG_LOST) === 0) continue;
    lost--;
    if (marks !== SEG_LOST) continue;
    if (inFlight(w, c) >= w[c + CWND] || paced(t, c)) return;
    const before = w[c + LOST_OUT];
    const sent = retransmit(t, c, node);
    // It may have been split: the rest is lost as well.
    lost += w[c + LOST_OUT] - before;
    if (!sent) {
      if (first && w[c + PENDING] === PENDING_NONE) startRetransmit(t, c, w[c + RTO_US]);
      return;
    }
    first = false;
    if (w[c + CA_STATE] === CA_CWR || w[c + CA_STATE] === CA_RECOVERY) w[c + PRR_OUT]++;
    paceSent(t, c, dataLength(s, node));
    if (node === w[c + SEG_HEAD]) startRetransmit(t, c, w[c + RTO_US]);
  }
}
