/** SACK options received (RFC 2018, 2883, 6675; tcp_sacktag_write_queue): marks on segments in flight. */
import { ACK_DATA_SACKED, ACK_DSACK, ACK_DSACK_TLP, ACK_ORIG_SACKED } from "./acks.ts";
import type { Tcp } from "./core.ts";
import { N } from "./counters.ts";
import { rackAdvance } from "./rack.ts";
import { SEG_END, SEG_FLAGS, SEG_LOST, SEG_NEXT, SEG_RETRANS, SEG_SACKED, SEG_SEQ, SEG_US } from "./segments.ts";
import {
  DELIVERED,
  F_DSACK_SEEN,
  F_REORDER_SEEN,
  F_TLP,
  F_TLP_RETRANS,
  F_UNDO,
  FACK,
  FLAGS,
  HIGH_SEQ,
  LOST_OUT,
  MAX_WINDOW,
  MSS,
  REORDERING,
  RETRANS_OUT,
  SACKED_OUT,
  SEG_HEAD,
  SND_NXT,
  SND_UNA,
  TLP_SEQ,
  UNDO_MARKER,
  UNDO_RETRANS,
} from "./tcb.ts";

/** net.ipv4.tcp_max_reordering. */
const REORDERING_MAX = 300;

/** Reads the blocks of the segment in hand. `priorUna`: SND.UNA before it. */
export function takeSack(t: Tcp, c: number, priorUna: number): void {
  const { w } = t;
  const blocks = t.sackBlocks;
  t.reordered = w[c + SND_NXT];
  if (w[c + SACKED_OUT] === 0) w[c + FACK] = w[c + SND_UNA];
  const duplicate = isDsack(t);
  if (duplicate) takeDsack(t, c, blocks[0], blocks[1], priorUna);
  for (let i = duplicate ? 1 : 0; i < t.sackCount; i++) {
    const start = blocks[2 * i];
    const end = blocks[2 * i + 1];
    if (!isValid(w, c, start, end)) {
      t.counters[N.TCPSACKDiscard]++;
      continue;
    }
    markRange(t, c, start, end);
  }
  if (((t.reordered - w[c + FACK]) | 0) < 0) sawReordering(w, c, t.reordered, w[c + FACK]);
}

/** The first block reports a duplicate when it lies below the acknowledgment or within the second (RFC 2883, section 4). */
function isDsack(t: Tcp): boolean {
  const start = t.sackBlocks[0];
  if (((start - t.segAck) | 0) < 0) return true;
  if (t.sackCount < 2) return false;
  return ((t.sackBlocks[1] - t.sackBlocks[3]) | 0) <= 0 && ((start - t.sackBlocks[2]) | 0) >= 0;
}

function takeDsack(t: Tcp, c: number, start: number, end: number, priorUna: number): void {
  const { w } = t;
  // One that reports what was never sent, or long ago, proves nothing (tcp_is_sackblock_valid).
  if (((end - start) | 0) <= 0 || ((end - w[c + SND_NXT]) | 0) > 0) return;
  if (((start - w[c + SND_UNA]) | 0) < -w[c + MAX_WINDOW]) return;
  t.counters[N.TCPDSACKRecv]++;
  t.ackFlags |= ACK_DSACK;
  w[c + FLAGS] |= F_DSACK_SEEN | F_REORDER_SEEN;
  if ((w[c + FLAGS] & (F_TLP | F_TLP_RETRANS)) === (F_TLP | F_TLP_RETRANS) && end === w[c + TLP_SEQ])
    t.ackFlags |= ACK_DSACK_TLP;
  if ((w[c + FLAGS] & F_UNDO) === 0 || w[c + UNDO_RETRANS] <= 0) return;
  if (((priorUna - end) | 0) >= 0 && ((end - w[c + UNDO_MARKER]) | 0) > 0) w[c + UNDO_RETRANS]--;
}

/** Within what is in flight. */
function isValid(w: Int32Array, c: number, start: number, end: number): boolean {
  if (((end - start) | 0) <= 0 || ((end - w[c + SND_NXT]) | 0) > 0) return false;
  return ((start - w[c + SND_UNA]) | 0) >= 0;
}

/** Marks every segment that lies wholly in a block; segments are never split for one that lies in part. */
function markRange(t: Tcp, c: number, start: number, end: number): void {
  const { w } = t;
  const s = t.segments.words;
  for (let node = w[c + SEG_HEAD]; node >= 0 && ((s[node + SEG_END] - end) | 0) <= 0; node = s[node + SEG_NEXT]) {
    if (((s[node + SEG_SEQ] - start) | 0) < 0) continue;
    if ((s[node + SEG_FLAGS] & SEG_SACKED) === 0) markSacked(t, c, node);
  }
}

/** tcp_sacktag_one. */
function markSacked(t: Tcp, c: number, node: number): void {
  const { w, segments } = t;
  const s = segments.words;
  const flags = s[node + SEG_FLAGS];
  rackAdvance(t, c, node);
  let cleared = flags;
  if ((flags & SEG_RETRANS) !== 0) {
    // Not marked lost (a probe): its retransmission is believed to be in flight still.
    if ((flags & SEG_LOST) !== 0) {
      cleared &= ~(SEG_LOST | SEG_RETRANS);
      w[c + LOST_OUT]--;
      w[c + RETRANS_OUT]--;
    }
  } else {
    const seq = s[node + SEG_SEQ];
    if (((seq - w[c + FACK]) | 0) < 0 && ((seq - t.reordered) | 0) < 0) t.reordered = seq;
    if (((s[node + SEG_END] - w[c + HIGH_SEQ]) | 0) <= 0) t.ackFlags |= ACK_ORIG_SACKED;
    const rtt = (t.us - s[node + SEG_US]) | 0;
    if (t.sackRttUs < 0 || rtt > t.sackRttUs) t.sackRttUs = rtt;
    if ((flags & SEG_LOST) !== 0) {
      cleared &= ~SEG_LOST;
      w[c + LOST_OUT]--;
    }
  }
  s[node + SEG_FLAGS] = cleared | SEG_SACKED;
  segments.unlist(w, c, node);
  t.ackFlags |= ACK_DATA_SACKED;
  w[c + SACKED_OUT]++;
  w[c + DELIVERED]++;
  if (((s[node + SEG_END] - w[c + FACK]) | 0) > 0) w[c + FACK] = s[node + SEG_END];
}

/** Something sent earlier has come after something sent later (tcp_check_sack_reordering). */
export function sawReordering(w: Int32Array, c: number, low: number, high: number): void {
  const distance = (high - low) | 0;
  if (distance <= 0) return;
  if (distance > w[c + REORDERING] * w[c + MSS])
    w[c + REORDERING] = Math.min(Math.ceil(distance / w[c + MSS]), REORDERING_MAX);
  w[c + FLAGS] |= F_REORDER_SEEN;
}
