/**
 * What follows from an acknowledgment that is not plain: the states Open, Disorder, CWR, Recovery and Loss of
 * net/ipv4/tcp_input.c (tcp_fastretrans_alert), with losses found by RACK (RFC 8985), or by duplicate acknowledgments
 * where there is no SACK (RFC 6582), windows cut by PRR (RFC 6937), and cuts undone that were for nothing (RFC 3522, 3708).
 */
import { ACK_ADVANCED, ACK_ECE, ACK_SET_TIMER, leftOut } from "./acks.ts";
import { ssthreshAfterLoss, timedOutOnce, undoneCwnd } from "./congestion/control.ts";
import { currentSsthresh, inReduction, SSTHRESH_MAX } from "./congestion/window.ts";
import type { Tcp } from "./core.ts";
import { N } from "./counters.ts";
import { inFlight } from "./emit.ts";
import { markLost, unmarkLost, unmarkSacked } from "./marks.ts";
import { OPT_TS } from "./options.ts";
import { REO_PERSIST_ROUNDS, rackMarkLost, rackTimeLeft } from "./rack.ts";
import { dataLength } from "./retransmit.ts";
import { startRetransmit } from "./retransmit-timer.ts";
import { SEG_EVER_RETRANS, SEG_FLAGS, SEG_LOST, SEG_NEXT, SEG_SACKED } from "./segments.ts";
import {
  CA_CWR,
  CA_DISORDER,
  CA_LOSS,
  CA_OPEN,
  CA_RECOVERY,
  CA_STATE,
  CWND,
  CWND_CNT,
  CWND_STAMP_MS,
  DELIVERED,
  F_CWR,
  F_ECN,
  F_SACK,
  F_TLP,
  F_UNDO,
  FLAGS,
  HIGH_SEQ,
  LOST_OUT,
  PACKETS_OUT,
  PRIOR_CWND,
  PRIOR_SSTHRESH,
  PRR_DELIVERED,
  PRR_OUT,
  REO_PERSIST,
  REORDERING,
  RETRANS_OUT,
  RETRANS_TS,
  RETRIES,
  SACKED_OUT,
  SEG_HEAD,
  SND_NXT,
  SND_UNA,
  SRTT_US,
  SSTHRESH,
  UNDO_MARKER,
  UNDO_RETRANS,
} from "./tcb.ts";

/** Duplicate acknowledgments after which a segment is lost (RFC 5681, section 3.2). */
const REORDERING_DEFAULT = 3;
const RENEGED_WAIT_US = 10_000;

/**
 * Takes note of the acknowledgment in hand.
 * @param duplicates 1: it was a duplicate without SACK
 * @returns whether lost segments may be retransmitted now
 */
export function recover(t: Tcp, c: number, priorUna: number, duplicates: number): boolean {
  const { w } = t;
  if (w[c + PACKETS_OUT] === 0 && w[c + SACKED_OUT] !== 0) w[c + SACKED_OUT] = 0;
  if ((t.ackFlags & ACK_ECE) !== 0) w[c + PRIOR_SSTHRESH] = 0;
  if (reneged(t, c)) return false;
  const beyond = ((w[c + SND_UNA] - w[c + HIGH_SEQ]) | 0) >= 0;
  if (w[c + CA_STATE] === CA_OPEN) w[c + RETRANS_TS] = 0;
  else if (beyond && w[c + CA_STATE] === CA_CWR) {
    // CWR ends when something above HIGH_SEQ is acknowledged.
    if (w[c + SND_UNA] !== w[c + HIGH_SEQ]) {
      endReduction(t, c);
      w[c + CA_STATE] = CA_OPEN;
    }
  } else if (beyond && w[c + CA_STATE] === CA_RECOVERY) {
    if (!hasSack(w, c)) w[c + SACKED_OUT] = 0;
    if (tryUndoRecovery(t, c)) return false;
    endReduction(t, c);
  }
  if (w[c + CA_STATE] === CA_RECOVERY) return inRecovery(t, c, priorUna, duplicates);
  if (w[c + CA_STATE] === CA_LOSS) return inLoss(t, c, duplicates);
  if (!hasSack(w, c)) {
    if ((t.ackFlags & ACK_ADVANCED) !== 0) w[c + SACKED_OUT] = 0;
    addDuplicates(w, c, duplicates);
  }
  if (w[c + CA_STATE] <= CA_DISORDER) tryUndoDsack(t, c);
  findLosses(t, c);
  if (w[c + LOST_OUT] === 0) {
    tryToOpen(t, c);
    return false;
  }
  enterRecovery(t, c, (t.ackFlags & ACK_ECE) !== 0);
  return true;
}

function hasSack(w: Int32Array, c: number): boolean {
  return (w[c + FLAGS] & F_SACK) !== 0;
}

function inRecovery(t: Tcp, c: number, priorUna: number, duplicates: number): boolean {
  const { w } = t;
  if ((t.ackFlags & ACK_ADVANCED) === 0) {
    if (!hasSack(w, c)) addDuplicates(w, c, duplicates);
  } else if (tryUndoPartial(t, c, priorUna)) return false;
  if (tryUndoDsack(t, c)) tryToOpen(t, c);
  findLosses(t, c);
  if (w[c + CA_STATE] === CA_RECOVERY) return true;
  if (w[c + LOST_OUT] === 0) return false;
  enterRecovery(t, c, (t.ackFlags & ACK_ECE) !== 0);
  return true;
}

/** tcp_process_loss. */
function inLoss(t: Tcp, c: number, duplicates: number): boolean {
  const { w } = t;
  if ((t.ackFlags & ACK_ADVANCED) !== 0 && mayUndo(t, c)) {
    undo(t, c, true);
    w[c + RETRIES] = 0;
    if (!hasSack(w, c) && holdState(t, c)) return false;
    w[c + CA_STATE] = CA_OPEN;
    tryToOpen(t, c);
    return false;
  }
  if (((w[c + SND_UNA] - w[c + HIGH_SEQ]) | 0) >= 0) {
    if (!tryUndoRecovery(t, c)) tryToOpen(t, c);
    return false;
  }
  if (!hasSack(w, c)) {
    if (((w[c + SND_NXT] - w[c + HIGH_SEQ]) | 0) > 0 && duplicates > 0) addDuplicates(w, c, duplicates);
    else if ((t.ackFlags & ACK_ADVANCED) !== 0) w[c + SACKED_OUT] = 0;
  }
  findLosses(t, c);
  return true;
}

/** Without SACK, each duplicate acknowledgment means that a segment has left the network (tcp_add_reno_sack). */
function addDuplicates(w: Int32Array, c: number, duplicates: number): void {
  if (duplicates === 0) return;
  w[c + SACKED_OUT] += duplicates;
  // No more can have arrived than were sent, less one that is missing.
  const most = w[c + PACKETS_OUT] - Math.max(w[c + LOST_OUT], 1);
  if (w[c + SACKED_OUT] > most) w[c + SACKED_OUT] = Math.max(most, 0);
  else w[c + DELIVERED] += duplicates;
}

/** Without SACK: `acked` segments acknowledged, of which the first was the hole (tcp_remove_reno_sacks). */
export function renoSacksAcked(w: Int32Array, c: number, acked: number): void {
  const left = w[c + SACKED_OUT] - Math.max(acked - 1, 0);
  w[c + SACKED_OUT] = Math.min(Math.max(left, 0), Math.max(w[c + PACKETS_OUT] - w[c + LOST_OUT], 0));
}

function findLosses(t: Tcp, c: number): void {
  const { w } = t;
  if (w[c + SEG_HEAD] < 0) return;
  if (hasSack(w, c)) {
    if (rackMarkLost(t, c)) t.ackFlags &= ~ACK_SET_TIMER;
    return;
  }
  // RFC 6582, section 3.2: three duplicates, and in recovery each partial acknowledgment, tell that the first is lost.
  const state = w[c + CA_STATE];
  const enough = state < CA_RECOVERY && w[c + SACKED_OUT] >= w[c + REORDERING];
  if (!enough && !(state === CA_RECOVERY && (t.ackFlags & ACK_ADVANCED) !== 0)) return;
  if ((t.segments.words[w[c + SEG_HEAD] + SEG_FLAGS] & SEG_LOST) === 0) markLost(t, c, w[c + SEG_HEAD]);
}

/** The first in flight has been reported and is not acknowledged: the peer has dropped what it had. */
function reneged(t: Tcp, c: number): boolean {
  const { w } = t;
  const head = w[c + SEG_HEAD];
  if (head < 0 || !hasSack(w, c) || (t.ackFlags & ACK_ADVANCED) === 0) return false;
  if ((t.segments.words[head + SEG_FLAGS] & SEG_SACKED) === 0) return false;
  t.counters[N.TCPSACKReneging]++;
  // Not at once: another acknowledgment may be on its way. The timer then forgets every report (RFC 2018, section 8).
  startRetransmit(t, c, Math.max(w[c + SRTT_US] >> 4, RENEGED_WAIT_US));
  t.ackFlags &= ~ACK_SET_TIMER;
  return true;
}

function initUndo(w: Int32Array, c: number): void {
  w[c + FLAGS] |= F_UNDO;
  w[c + UNDO_MARKER] = w[c + SND_UNA];
  w[c + UNDO_RETRANS] = w[c + RETRANS_OUT] > 0 ? w[c + RETRANS_OUT] : -1;
}

function enterRecovery(t: Tcp, c: number, byMark: boolean): void {
  const { w } = t;
  t.counters[hasSack(w, c) ? N.TCPSackRecovery : N.TCPRenoRecovery]++;
  w[c + PRIOR_SSTHRESH] = 0;
  initUndo(w, c);
  if (!inReduction(w, c)) {
    if (!byMark) w[c + PRIOR_SSTHRESH] = currentSsthresh(w, c);
    beginReduction(t, c);
  }
  w[c + CA_STATE] = CA_RECOVERY;
}

/** After the reordering timer has found losses. */
export function recoverAfterTimer(t: Tcp, c: number): void {
  if (t.w[c + CA_STATE] === CA_RECOVERY) return;
  enterRecovery(t, c, false);
  reduceWindow(t, c, 1);
}

/** The window is going to be cut: what it is and what it will be (tcp_init_cwnd_reduction). */
export function beginReduction(t: Tcp, c: number): void {
  const { w } = t;
  w[c + HIGH_SEQ] = w[c + SND_NXT];
  w[c + FLAGS] &= ~F_TLP;
  w[c + CWND_CNT] = 0;
  w[c + PRIOR_CWND] = w[c + CWND];
  w[c + PRR_DELIVERED] = 0;
  w[c + PRR_OUT] = 0;
  w[c + SSTHRESH] = ssthreshAfterLoss(t, c);
  if ((w[c + FLAGS] & F_ECN) !== 0) w[c + FLAGS] |= F_CWR;
}

/** PRR (RFC 6937, section 3): how much may be sent for `delivered` segments. */
export function reduceWindow(t: Tcp, c: number, delivered: number): void {
  const { w } = t;
  if (delivered <= 0 || w[c + PRIOR_CWND] === 0) return;
  const flight = inFlight(w, c);
  const room = w[c + SSTHRESH] - flight;
  w[c + PRR_DELIVERED] += delivered;
  let count: number;
  if (room < 0) {
    const due = w[c + SSTHRESH] * w[c + PRR_DELIVERED] + w[c + PRIOR_CWND] - 1;
    count = Math.floor(due / w[c + PRIOR_CWND]) - w[c + PRR_OUT];
  } else {
    count = Math.max(w[c + PRR_DELIVERED] - w[c + PRR_OUT], delivered);
    if ((t.ackFlags & ACK_ADVANCED) !== 0 && t.newlyLost === 0) count++;
    count = Math.min(room, count);
  }
  // The first retransmission is always sent.
  count = Math.max(count, w[c + PRR_OUT] > 0 ? 0 : 1);
  w[c + CWND] = Math.max(flight + count, 1);
}

export function endReduction(t: Tcp, c: number): void {
  const { w } = t;
  if (w[c + SSTHRESH] >= SSTHRESH_MAX) return;
  if (w[c + CA_STATE] !== CA_CWR && (w[c + FLAGS] & F_UNDO) === 0) return;
  w[c + CWND] = w[c + SSTHRESH];
  w[c + CWND_STAMP_MS] = t.ms;
}

/** Congestion without loss: a mark, or a probe that has repaired one (tcp_enter_cwr). */
function enterCwr(t: Tcp, c: number): void {
  const { w } = t;
  w[c + PRIOR_SSTHRESH] = 0;
  if (w[c + CA_STATE] >= CA_CWR) return;
  w[c + FLAGS] &= ~F_UNDO;
  beginReduction(t, c);
  w[c + CA_STATE] = CA_CWR;
}

/** True while a retransmission is in flight, the first segment's counted if it was ever sent again. */
function anyRetransmitted(t: Tcp, c: number): boolean {
  const { w } = t;
  if (w[c + RETRANS_OUT] > 0) return true;
  const head = w[c + SEG_HEAD];
  return head >= 0 && (t.segments.words[head + SEG_FLAGS] & SEG_EVER_RETRANS) !== 0;
}

function tryToOpen(t: Tcp, c: number): void {
  const { w } = t;
  if (!anyRetransmitted(t, c)) w[c + RETRANS_TS] = 0;
  if ((t.ackFlags & ACK_ECE) !== 0) enterCwr(t, c);
  if (w[c + CA_STATE] !== CA_CWR) keepOpen(t, c);
}

export function keepOpen(t: Tcp, c: number): void {
  const { w } = t;
  const state = leftOut(w, c) > 0 || anyRetransmitted(t, c) ? CA_DISORDER : CA_OPEN;
  if (w[c + CA_STATE] === state) return;
  w[c + CA_STATE] = state;
  w[c + HIGH_SEQ] = w[c + SND_NXT];
}

/** The acknowledgment was on its way before anything was sent again: Eifel (RFC 3522). */
function wasDelayed(t: Tcp, c: number): boolean {
  const since = t.w[c + RETRANS_TS];
  return since !== 0 && (t.options & OPT_TS) !== 0 && t.tsEcr !== 0 && ((t.tsEcr - since) | 0) < 0;
}

function mayUndo(t: Tcp, c: number): boolean {
  const { w } = t;
  return (w[c + FLAGS] & F_UNDO) !== 0 && (w[c + UNDO_RETRANS] === 0 || wasDelayed(t, c));
}

function undo(t: Tcp, c: number, unmark: boolean): void {
  const { w } = t;
  t.counters[N.TCPFullUndo]++;
  if (unmark) unmarkLost(t, c);
  if (w[c + PRIOR_SSTHRESH] > 0) {
    w[c + CWND] = undoneCwnd(w, c);
    if (w[c + PRIOR_SSTHRESH] > w[c + SSTHRESH]) {
      w[c + SSTHRESH] = w[c + PRIOR_SSTHRESH];
      w[c + FLAGS] &= ~F_CWR;
    }
  }
  w[c + CWND_STAMP_MS] = t.ms;
  w[c + FLAGS] &= ~F_UNDO;
  t.rackAdvanced = true;
}

/** Without SACK, duplicates of the same window may still come: the state is held until more is acknowledged. */
function holdState(t: Tcp, c: number): boolean {
  const { w } = t;
  if (w[c + SND_UNA] !== w[c + HIGH_SEQ] || hasSack(w, c)) return false;
  if (!anyRetransmitted(t, c)) w[c + RETRANS_TS] = 0;
  return true;
}

function tryUndoRecovery(t: Tcp, c: number): boolean {
  const { w } = t;
  if (mayUndo(t, c)) undo(t, c, false);
  else if (w[c + REO_PERSIST] > 0) w[c + REO_PERSIST]--;
  if (holdState(t, c)) return true;
  // endReduction() asks for the state it ends.
  if (w[c + CA_STATE] === CA_RECOVERY) endReduction(t, c);
  w[c + FLAGS] &= ~F_UNDO;
  w[c + CA_STATE] = CA_OPEN;
  return false;
}

function tryUndoDsack(t: Tcp, c: number): boolean {
  const { w } = t;
  if ((w[c + FLAGS] & F_UNDO) === 0 || w[c + UNDO_RETRANS] !== 0) return false;
  w[c + REO_PERSIST] = Math.min(REO_PERSIST_ROUNDS, w[c + REO_PERSIST] + 1);
  undo(t, c, false);
  return true;
}

/** Part of what was in flight is acknowledged, by an answer to the original: nothing was lost (tcp_try_undo_partial). */
function tryUndoPartial(t: Tcp, c: number, priorUna: number): boolean {
  const { w } = t;
  if ((w[c + FLAGS] & F_UNDO) === 0 || !wasDelayed(t, c) || ((priorUna - w[c + UNDO_MARKER]) | 0) < 0) return false;
  // What was sent again is still on its way: until it is known, nothing new is sent.
  if (w[c + RETRANS_OUT] > 0) return true;
  if (!anyRetransmitted(t, c)) w[c + RETRANS_TS] = 0;
  undo(t, c, true);
  keepOpen(t, c);
  return true;
}

/** A retransmission timeout (tcp_enter_loss): all that was sent long enough ago is lost, one segment is sent at a time. */
export function enterLoss(t: Tcp, c: number): void {
  const { w } = t;
  const fresh = w[c + CA_STATE] <= CA_DISORDER || ((w[c + HIGH_SEQ] - w[c + SND_UNA]) | 0) <= 0;
  markAllLost(t, c);
  if (fresh || (w[c + CA_STATE] === CA_LOSS && w[c + RETRIES] === 0)) {
    w[c + PRIOR_SSTHRESH] = currentSsthresh(w, c);
    w[c + PRIOR_CWND] = w[c + CWND];
    w[c + SSTHRESH] = ssthreshAfterLoss(t, c);
    timedOutOnce(t, c);
    initUndo(w, c);
  }
  w[c + CWND] = inFlight(w, c) + 1;
  w[c + CWND_CNT] = 0;
  w[c + CWND_STAMP_MS] = t.ms;
  if (w[c + CA_STATE] <= CA_DISORDER && w[c + SACKED_OUT] >= REORDERING_DEFAULT)
    w[c + REORDERING] = Math.min(w[c + REORDERING], REORDERING_DEFAULT);
  w[c + CA_STATE] = CA_LOSS;
  w[c + HIGH_SEQ] = w[c + SND_NXT];
  w[c + FLAGS] &= ~F_TLP;
  if ((w[c + FLAGS] & F_ECN) !== 0) w[c + FLAGS] |= F_CWR;
}

function markAllLost(t: Tcp, c: number): void {
  const { w } = t;
  const s = t.segments.words;
  const head = w[c + SEG_HEAD];
  if (head < 0) return;
  const sack = hasSack(w, c);
  const forgotten = sack && (s[head + SEG_FLAGS] & SEG_SACKED) !== 0;
  if (forgotten) unmarkSacked(t, c);
  else if (!sack) w[c + SACKED_OUT] = 0;
  for (let node = head; node >= 0; node = s[node + SEG_NEXT]) {
    if (sack && !forgotten && node !== head && rackTimeLeft(t, c, node, 0) > 0) continue;
    markLost(t, c, node);
  }
}

/** The path takes only smaller segments: what is too large is lost, without a sign of congestion (tcp_simple_retransmit). */
export function retransmitSmaller(t: Tcp, c: number, size: number): boolean {
  const { w } = t;
  const s = t.segments.words;
  const before = w[c + LOST_OUT];
  for (let node = w[c + SEG_HEAD]; node >= 0; node = s[node + SEG_NEXT])
    if (dataLength(s, node) > size) markLost(t, c, node);
  if (w[c + LOST_OUT] === before) return false;
  if (w[c + CA_STATE] !== CA_LOSS) {
    w[c + HIGH_SEQ] = w[c + SND_NXT];
    w[c + SSTHRESH] = currentSsthresh(w, c);
    w[c + PRIOR_SSTHRESH] = 0;
    w[c + FLAGS] &= ~F_UNDO;
    w[c + CA_STATE] = CA_LOSS;
  }
  return true;
}
