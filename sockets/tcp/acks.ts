/** Acknowledgments received (RFC 9293, section 3.10.7.4, fifth; tcp_ack in net/ipv4/tcp_input.c). */
import { TCP_ECE, TCP_PSH, TCP_SYN } from "../wire/tcp.ts";
import { grow } from "./congestion/control.ts";
import { inReduction, restartAfterIdle } from "./congestion/window.ts";
import type { Tcp } from "./core.ts";
import { N } from "./counters.ts";
import { segmentSize } from "./emit.ts";
import { lossProbeAcked } from "./loss-probe.ts";
import { OPT_TS, timestamp } from "./options.ts";
import { updatePacing } from "./pacing.ts";
import { rackAdvance, updateReorderWindow } from "./rack.ts";
import { recover, reduceWindow, renoSacksAcked } from "./recovery.ts";
import { dataLength, placeAfter, retransmitLost } from "./retransmit.ts";
import { probeDelay, rearmRetransmit, scheduleLossProbe, schedulePush, stopRetx } from "./retransmit-timer.ts";
import { takeSample } from "./rtt.ts";
import { sawReordering, takeSack } from "./sack.ts";
import {
  SEG_END,
  SEG_EVER_RETRANS,
  SEG_FLAGS,
  SEG_LOST,
  SEG_NEXT,
  SEG_RETRANS,
  SEG_SACKED,
  SEG_SEQ,
  SEG_US,
} from "./segments.ts";
import { spaceFreed } from "./send-queue.ts";
import { tallyIdle } from "./tally.ts";
import {
  BACKOFF,
  CA_OPEN,
  CA_STATE,
  DELIVERED,
  F_DSACK_SEEN,
  F_ECN,
  F_SACK,
  F_SND_SHUT,
  F_TLP,
  F_URGENT,
  FACK,
  FLAGS,
  HIGH_SEQ,
  ISS,
  LAST_ACK_MS,
  LOST_OUT,
  MAX_WINDOW,
  PACKETS_OUT,
  PENDING,
  PENDING_PROBE,
  PROBES_OUT,
  PROBES_SINCE_MS,
  REORDERING,
  RETRANS_OUT,
  RETRANS_STAMP_MS,
  RETRIES,
  SACKED_OUT,
  SCALES,
  SEG_HEAD,
  SEG_TAIL,
  SND_CHUNK,
  SND_HEAD,
  SND_NXT,
  SND_OFFSET,
  SND_TAIL,
  SND_UNA,
  SND_UP,
  SND_WL1,
  SND_WND,
  WRITE_SEQ,
} from "./tcb.ts";

/** Bits of Tcp.ackFlags, as FLAG_ in net/ipv4/tcp_input.c: what the segment in hand has told. */
export const ACK_DATA = 1;
export const ACK_WINDOW = 2;
export const ACK_DATA_ACKED = 4;
const ACK_RETRANS_ACKED = 8;
const ACK_SYN_ACKED = 16;
export const ACK_DATA_SACKED = 32;
export const ACK_ECE = 64;
export const ACK_ORIG_SACKED = 128;
export const ACK_ADVANCED = 256;
export const ACK_DSACK = 512;
export const ACK_SET_TIMER = 1024;
export const ACK_DSACK_TLP = 2048;
const ACK_NOT_DUP = ACK_DATA | ACK_WINDOW | ACK_DATA_ACKED | ACK_SYN_ACKED;

/** Timestamps are in milliseconds: an echo may seem so much older than it is. */
const ECHO_GRAIN_US = 2000;

/** What takeAck() says. */
const ACKED = 1;
/** It is of the past: the segment's data may still count. */
const ACK_OLD = 0;
/** It is of what was not sent, or of a past too far: the segment is to be dropped and challenged (RFC 5961, section 5.2). */
export const ACK_UNACCEPTABLE = -1;

export function takeAck(t: Tcp, c: number): number {
  const { w } = t;
  const ack = t.segAck;
  const priorUna = w[c + SND_UNA];
  t.ackFlags = 0;
  t.newlyLost = 0;
  t.sackRttUs = -1;
  if (((ack - priorUna) | 0) < 0) {
    if (((ack - priorUna) | 0) < -Math.max(w[c + MAX_WINDOW], 1)) return ACK_UNACCEPTABLE;
    if (t.sackCount > 0 && (w[c + FLAGS] & F_SACK) !== 0) oldSack(t, c, priorUna);
    return ACK_OLD;
  }
  if (((ack - w[c + SND_NXT]) | 0) > 0) return ACK_UNACCEPTABLE;
  const priorPackets = w[c + PACKETS_OUT];
  const priorDelivered = w[c + DELIVERED];
  const priorFack = w[c + SACKED_OUT] > 0 ? w[c + FACK] : priorUna;
  if (((ack - priorUna) | 0) > 0) {
    t.ackFlags |= ACK_ADVANCED;
    w[c + RETRIES] = 0;
  }
  if (t.segEnd !== t.segSeq) t.ackFlags |= ACK_DATA;
  updateWindow(t, c, ack);
  w[c + SND_UNA] = ack;
  if ((w[c + FLAGS] & F_URGENT) !== 0 && ((ack - w[c + SND_UP]) | 0) >= 0) w[c + FLAGS] &= ~F_URGENT;
  t.reordered = w[c + SND_NXT];
  if (t.sackCount > 0 && (w[c + FLAGS] & F_SACK) !== 0) takeSack(t, c, priorUna);
  if ((t.segFlags & (TCP_ECE | TCP_SYN)) === TCP_ECE && (w[c + FLAGS] & F_ECN) !== 0) {
    t.ackFlags |= ACK_ECE;
    t.counters[N.TCPDeliveredCE]++;
  }
  w[c + PROBES_OUT] = 0;
  w[c + LAST_ACK_MS] = t.ms;
  if (priorPackets === 0) {
    if ((t.ackFlags & ACK_DSACK) !== 0) recover(t, c, priorUna, 0);
    if ((w[c + FLAGS] & F_TLP) !== 0) lossProbeAcked(t, c);
    probeAnswered(t, c);
    return ACKED;
  }
  removeAcked(t, c, priorUna, priorFack);
  updateReorderWindow(w, c);
  if ((w[c + FLAGS] & F_TLP) !== 0) lossProbeAcked(t, c);
  const flags = t.ackFlags;
  const dubious =
    (flags & ACK_NOT_DUP) === 0 ||
    (flags & (ACK_DATA_SACKED | ACK_ECE | ACK_DSACK)) !== 0 ||
    w[c + CA_STATE] !== CA_OPEN;
  let again = false;
  if (dubious) again = recover(t, c, priorUna, (flags & (ACK_ADVANCED | ACK_NOT_DUP | ACK_DSACK)) === 0 ? 1 : 0);
  if ((t.ackFlags & ACK_SET_TIMER) !== 0) {
    // A probe of the tail where nothing is wrong, else the retransmission timer (tcp_set_xmit_timer).
    if (!scheduleLossProbe(t, c, true)) rearmRetransmit(t, c);
  }
  congestion(t, c, (w[c + DELIVERED] - priorDelivered) | 0);
  if (again) retransmitLost(t, c);
  return ACKED;
}

/**
 * The short way of an acknowledgment of everything that was written, where nothing has been lost, sent again or reordered: a
 * peer that answers, mostly. It does what takeAck() would; what then has nothing to do is left out. Records of many
 * connections are not in the caches, so it stays within their first lines (tcb.ts).
 * @returns false: it is no such acknowledgment, and nothing has been done
 */
export function takeAckOfAll(t: Tcp, c: number): boolean {
  const { w, segments } = t;
  const s = segments.words;
  const ack = t.segAck;
  const head = w[c + SEG_HEAD];
  if (head < 0 || ack !== w[c + SND_NXT] || ack !== w[c + WRITE_SEQ] || w[c + CA_STATE] !== CA_OPEN) return false;
  if ((w[c + FLAGS] & (F_SACK | F_TLP | F_URGENT | F_DSACK_SEEN)) !== F_SACK) return false;
  if ((w[c + SACKED_OUT] | w[c + LOST_OUT] | w[c + RETRANS_OUT]) !== 0) return false;
  let marks = 0;
  for (let node = head; node >= 0; node = s[node + SEG_NEXT]) marks |= s[node + SEG_FLAGS];
  if ((marks & ~TCP_PSH) !== 0) return false;
  const acked = w[c + PACKETS_OUT];
  const rtt = (t.us - s[head + SEG_US]) | 0;
  // The last was sent last, so what RACK learns of it is all that it would of each.
  rackAdvance(t, c, w[c + SEG_TAIL]);
  segments.giveAll(w, c);
  t.chunks.giveAll(w[c + SND_HEAD]);
  w[c + SND_HEAD] = -1;
  w[c + SND_TAIL] = -1;
  w[c + SND_CHUNK] = -1;
  w[c + PACKETS_OUT] = 0;
  w[c + DELIVERED] += acked;
  w[c + SND_UNA] = ack;
  w[c + SND_WL1] = t.segSeq;
  w[c + RETRIES] = 0;
  w[c + LAST_ACK_MS] = t.ms;
  stopRetx(w, c);
  spaceFreed(t, c);
  takeSample(t, c, rtt);
  grow(t, c, acked);
  updatePacing(t, c);
  return true;
}

/** An old acknowledgment may still bring news by SACK. */
function oldSack(t: Tcp, c: number, priorUna: number): void {
  takeSack(t, c, priorUna);
  if (t.w[c + PACKETS_OUT] > 0 && recover(t, c, priorUna, 0)) retransmitLost(t, c);
}

/** SND.WND from the segment in hand unless it is older than the last that told one (tcp_ack_update_window). */
function updateWindow(t: Tcp, c: number, ack: number): void {
  const { w } = t;
  const window = (t.segFlags & TCP_SYN) !== 0 ? t.segWindow : t.segWindow << (w[c + SCALES] & 0xff);
  const newer = (t.segSeq - w[c + SND_WL1]) | 0;
  const advanced = ((ack - w[c + SND_UNA]) | 0) > 0;
  if (!advanced && newer <= 0 && !(newer === 0 && (window > w[c + SND_WND] || window === 0))) return;
  t.ackFlags |= ACK_WINDOW;
  w[c + SND_WL1] = t.segSeq;
  if (w[c + SND_WND] === window) return;
  w[c + SND_WND] = window;
  if (window > w[c + MAX_WINDOW]) w[c + MAX_WINDOW] = window;
  if (w[c + PACKETS_OUT] === 0 && ((w[c + WRITE_SEQ] - w[c + SND_NXT]) | 0) > 0) restartAfterIdle(t, c);
}

/** The answer to a probe, or a window that opens while nothing is in flight (tcp_ack_probe). */
function probeAnswered(t: Tcp, c: number): void {
  const { w } = t;
  const unsent = (w[c + WRITE_SEQ] - w[c + SND_NXT]) | 0;
  if (unsent <= 0 && (w[c + FLAGS] & F_SND_SHUT) === 0) return;
  if (w[c + PENDING] !== PENDING_PROBE) return;
  // Room for the whole next segment, or as before.
  const next = Math.max(Math.min(unsent, segmentSize(w, c)), 1);
  if (((w[c + SND_UNA] + w[c + SND_WND] - w[c + SND_NXT]) | 0) >= next) {
    w[c + BACKOFF] = 0;
    w[c + PROBES_SINCE_MS] = 0;
    stopRetx(w, c);
  } else schedulePush(t, c, probeDelay(t, c));
}

/** Takes acknowledged segments out of flight, frees their bytes, measures (tcp_clean_rtx_queue). */
function removeAcked(t: Tcp, c: number, priorUna: number, priorFack: number): void {
  const { w, segments } = t;
  const s = segments.words;
  const una = w[c + SND_UNA];
  const sack = (w[c + FLAGS] & F_SACK) !== 0;
  let first = -1;
  let again = -1;
  let acked = 0;
  let reordered = w[c + SND_NXT];
  for (let node = w[c + SEG_HEAD]; node >= 0; node = w[c + SEG_HEAD]) {
    const end = s[node + SEG_END];
    if (((end - una) | 0) > 0) {
      if (((una - s[node + SEG_SEQ]) | 0) > 0) trimHead(t, node, (una - s[node + SEG_SEQ]) | 0);
      break;
    }
    const marks = s[node + SEG_FLAGS];
    if ((marks & SEG_EVER_RETRANS) !== 0) {
      if ((marks & SEG_RETRANS) !== 0) w[c + RETRANS_OUT]--;
      t.ackFlags |= ACK_RETRANS_ACKED;
      const since = (t.us - s[node + SEG_US]) | 0;
      if (since > again) again = since;
    } else if ((marks & SEG_SACKED) === 0) {
      if (first < 0) first = (t.us - s[node + SEG_US]) | 0;
      if (((s[node + SEG_SEQ] - reordered) | 0) < 0) reordered = s[node + SEG_SEQ];
      if (((end - w[c + HIGH_SEQ]) | 0) <= 0) t.ackFlags |= ACK_ORIG_SACKED;
    }
    if ((marks & SEG_SACKED) !== 0) w[c + SACKED_OUT]--;
    else if (sack) {
      w[c + DELIVERED]++;
      rackAdvance(t, c, node);
    }
    if ((marks & SEG_LOST) !== 0) w[c + LOST_OUT]--;
    acked++;
    t.ackFlags |= (marks & TCP_SYN) !== 0 ? ACK_SYN_ACKED : ACK_DATA_ACKED;
    if ((marks & TCP_SYN) !== 0) w[c + RETRANS_STAMP_MS] = 0;
    w[c + PACKETS_OUT]--;
    segments.remove(w, c, node);
  }
  freeBytes(t, c, priorUna);
  if (acked > 0 && w[c + PACKETS_OUT] === 0) tallyIdle(t, c);
  const measured = measure(t, c, first, again);
  if (acked === 0) return;
  t.ackFlags |= ACK_SET_TIMER;
  if (!sack) {
    w[c + DELIVERED] += Math.max(acked - w[c + SACKED_OUT], 0);
    renoSacksAcked(w, c, acked);
  } else if (((reordered - priorFack) | 0) < 0) {
    sawReordering(w, c, reordered, priorFack);
  }
  if (!measured && w[c + PACKETS_OUT] === 0) w[c + BACKOFF] = 0;
}

/** Part of a segment has been acknowledged. */
function trimHead(t: Tcp, node: number, count: number): void {
  const s = t.segments.words;
  const data = Math.min(count, dataLength(s, node));
  s[node + SEG_SEQ] = (s[node + SEG_SEQ] + count) | 0;
  placeAfter(t, node, data, node);
}

/** Frees bytes from `priorUna` to SND.UNA of the send queue; SYN and FIN are not in it. */
function freeBytes(t: Tcp, c: number, priorUna: number): void {
  const { w, chunks } = t;
  const una = w[c + SND_UNA];
  const start = ((priorUna - w[c + ISS]) | 0) === 0 ? (priorUna + 1) | 0 : priorUna;
  const end = ((una - w[c + WRITE_SEQ]) | 0) > 0 ? w[c + WRITE_SEQ] : una;
  let left = (end - start) | 0;
  if (left <= 0) return;
  let chunk = w[c + SND_HEAD];
  while (chunk >= 0 && left > 0) {
    const length = chunks.end[chunk] - chunks.begin[chunk];
    if (length > left) {
      chunks.begin[chunk] += left;
      break;
    }
    left -= length;
    const next = chunks.next[chunk];
    if (w[c + SND_CHUNK] === chunk) {
      w[c + SND_CHUNK] = next;
      if (next >= 0) w[c + SND_OFFSET] = chunks.begin[next];
    }
    chunks.give(chunk);
    chunk = next;
  }
  w[c + SND_HEAD] = chunk;
  if (chunk < 0) w[c + SND_TAIL] = -1;
  spaceFreed(t, c);
}

/**
 * A round trip by the first segment acknowledged, by SACK, or by the timestamp it echoes (tcp_ack_update_rtt). The echo of
 * a retransmission counts only if it is of the last sending: where acknowledgments are lost, that of a copy echoes the
 * first, each timeout would be measured as a round trip, and the RTO would grow without end.
 * @param first microseconds since the first segment that was sent once was sent, -1: there is none
 * @param again microseconds since the last sending of those that were sent again, -1: there are none
 */
function measure(t: Tcp, c: number, first: number, again: number): boolean {
  let rtt = (t.ackFlags & ACK_RETRANS_ACKED) !== 0 ? -1 : first;
  if (rtt < 0) rtt = t.sackRttUs;
  if (rtt < 0 && (t.options & OPT_TS) !== 0 && t.tsEcr !== 0 && (t.ackFlags & (ACK_DATA_ACKED | ACK_SYN_ACKED)) !== 0) {
    const elapsed = (timestamp(t, c) - t.tsEcr) | 0;
    // A forged echo proves nothing: no round trip takes longer than the longest RTO.
    const last = again < 0 || elapsed * 1000 <= again + ECHO_GRAIN_US;
    if (last && elapsed >= 0 && elapsed <= t.config.rtoMaxMs) rtt = Math.max(elapsed, 1) * 1000;
  }
  if (rtt < 0) return false;
  takeSample(t, c, rtt);
  return true;
}

/** The window after an acknowledgment of `delivered` segments (tcp_cong_control). */
function congestion(t: Tcp, c: number, delivered: number): void {
  const { w } = t;
  if (inReduction(w, c)) reduceWindow(t, c, delivered);
  else {
    const forward = ACK_DATA_ACKED | ACK_DATA_SACKED;
    const may = w[c + REORDERING] > 3 ? (t.ackFlags & forward) !== 0 : (t.ackFlags & ACK_DATA_ACKED) !== 0;
    if (may && delivered > 0) grow(t, c, delivered);
  }
  updatePacing(t, c);
}

/** Whether anything that was marked is in flight. */
export function leftOut(w: Int32Array, c: number): number {
  return w[c + SACKED_OUT] + w[c + LOST_OUT];
}
