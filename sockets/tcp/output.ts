/** New data sent, as far as windows, Nagle, corks and pacing allow; probes that carry some. */
import { TCP_ACK, TCP_CWR, TCP_FIN, TCP_PSH } from "../wire/tcp.ts";
import { dataSent } from "./ack-policy.ts";
import { cwndUsed, restartAfterIdle } from "./congestion/window.ts";
import type { Tcp } from "./core.ts";
import { ECT_0, echo, emit, inFlight, segmentSize, sendProbe, sendUrgent, windowEnd } from "./emit.ts";
import { paced, paceSent } from "./pacing.ts";
import { leaveBlackHole } from "./pmtu.ts";
import { scheduleLossProbe, schedulePush, startRetransmit } from "./retransmit-timer.ts";
import { SEG_CHUNK, SEG_END, SEG_FIRST_US, SEG_FLAGS, SEG_OFFSET, SEG_SEQ, SEG_US } from "./segments.ts";
import {
  BUSY_SINCE_US,
  CA_CWR,
  CA_RECOVERY,
  CA_STATE,
  CWND,
  F_CORK,
  F_CWR,
  F_ECN,
  F_FIN_SENT,
  F_NODELAY,
  F_SND_SHUT,
  F_URGENT,
  FLAGS,
  L_BLACK_HOLE,
  LAST_SND_MS,
  LOCKS,
  PACKETS_OUT,
  PENDING,
  PENDING_LOSS_PROBE,
  PENDING_NONE,
  PENDING_PROBE,
  PRR_OUT,
  RTO_US,
  SND_CHUNK,
  SND_NXT,
  SND_OFFSET,
  SND_SML,
  SND_UNA,
  WRITE_SEQ,
} from "./tcb.ts";

/** True when a segment of fewer bytes than fit waits for more: Nagle's rule as Minshall amended it, or a cork. */
function waitsForMore(w: Int32Array, c: number): boolean {
  const flags = w[c + FLAGS];
  if ((flags & F_CORK) !== 0) return true;
  if ((flags & F_NODELAY) !== 0 || w[c + PACKETS_OUT] === 0) return false;
  const small = w[c + SND_SML];
  return ((small - w[c + SND_UNA]) | 0) > 0 && ((small - w[c + SND_NXT]) | 0) <= 0;
}

/**
 * Sends what may be sent of what has been written (tcp_write_xmit), and sees to it that a timer will when nothing may.
 * @param force sends what Nagle and a cork would hold back
 */
export function push(t: Tcp, c: number, force: boolean): void {
  const { w } = t;
  if (((w[c + WRITE_SEQ] - w[c + SND_NXT]) | 0) <= 0 && (w[c + FLAGS] & (F_SND_SHUT | F_FIN_SENT)) !== F_SND_SHUT)
    return;
  if (w[c + PACKETS_OUT] === 0) restartAfterIdle(t, c);
  if ((w[c + LOCKS] & L_BLACK_HOLE) !== 0) leaveBlackHole(t, c);
  let sent = 0;
  let limited = false;
  for (;;) {
    const flags = w[c + FLAGS];
    const unsent = (w[c + WRITE_SEQ] - w[c + SND_NXT]) | 0;
    const fin = (flags & (F_SND_SHUT | F_FIN_SENT)) === F_SND_SHUT;
    if (unsent <= 0 && !fin) break;
    const size = segmentSize(w, c);
    const length = Math.min(unsent, size);
    const last = length === unsent;
    if (inFlight(w, c) >= w[c + CWND] && !(last && fin && length === 0)) {
      limited = true;
      break;
    }
    // A segment goes whole or not at all: part of one is the probe's to send (RFC 9293, section 3.8.6.2.1).
    const end = (w[c + SND_NXT] + length + (last && fin ? 1 : 0)) | 0;
    let closing = last && fin;
    if (((end - windowEnd(w, c)) | 0) > 0) {
      if (!closing || length === 0 || ((end - 1 - windowEnd(w, c)) | 0) > 0) break;
      closing = false;
    }
    if (last && length < size && !force && !closing && (flags & F_URGENT) === 0 && waitsForMore(w, c)) break;
    if (paced(t, c)) break;
    if (!sendNew(t, c, length, closing)) break;
    if (length < size) w[c + SND_SML] = w[c + SND_NXT];
    sent++;
  }
  if (sent > 0) {
    if (w[c + CA_STATE] === CA_CWR || w[c + CA_STATE] === CA_RECOVERY) w[c + PRR_OUT] += sent;
    scheduleLossProbe(t, c, false);
  }
  cwndUsed(t, c, limited);
  if (w[c + PACKETS_OUT] === 0 && w[c + PENDING] === PENDING_NONE) schedulePush(t, c, w[c + RTO_US]);
}

/** Sends the next `length` bytes, and the FIN. False: no frame or no node. */
function sendNew(t: Tcp, c: number, length: number, fin: boolean): boolean {
  const { w, segments, chunks } = t;
  const node = segments.take();
  if (node < 0) return false;
  const s = segments.words;
  const seq = w[c + SND_NXT];
  const end = (seq + length) | 0;
  let chunk = w[c + SND_CHUNK];
  let offset = w[c + SND_OFFSET];
  if (length > 0 && offset === chunks.end[chunk]) {
    chunk = chunks.next[chunk];
    offset = chunks.begin[chunk];
  }
  let bits = TCP_ACK | echo(w, c);
  if (fin) bits |= TCP_FIN;
  if (length > 0 && end === w[c + WRITE_SEQ]) bits |= TCP_PSH;
  let ecn = 0;
  if ((w[c + FLAGS] & F_ECN) !== 0 && length > 0) {
    ecn = ECT_0;
    if ((w[c + FLAGS] & F_CWR) !== 0) bits |= TCP_CWR;
  }
  if (!emit(t, c, seq, bits, chunk, offset, length, ecn)) {
    segments.give(node);
    return false;
  }
  if ((bits & TCP_CWR) !== 0) w[c + FLAGS] &= ~F_CWR;
  s[node + SEG_SEQ] = seq;
  s[node + SEG_END] = fin ? (end + 1) | 0 : end;
  s[node + SEG_FLAGS] = bits & (TCP_FIN | TCP_PSH);
  s[node + SEG_CHUNK] = length > 0 ? chunk : -1;
  s[node + SEG_OFFSET] = offset;
  s[node + SEG_US] = t.us;
  s[node + SEG_FIRST_US] = t.us;
  segments.append(w, c, node);
  segments.list(w, c, node);
  advance(t, c, chunk, offset, length);
  w[c + SND_NXT] = s[node + SEG_END];
  if (fin) w[c + FLAGS] |= F_FIN_SENT;
  if (++w[c + PACKETS_OUT] === 1) w[c + BUSY_SINCE_US] = t.us;
  if (length > 0) dataSent(t, c);
  w[c + LAST_SND_MS] = t.ms;
  paceSent(t, c, length);
  if (w[c + PACKETS_OUT] === 1 || w[c + PENDING] === PENDING_LOSS_PROBE || w[c + PENDING] === PENDING_PROBE)
    startRetransmit(t, c, w[c + RTO_US]);
  return true;
}

/** Moves the place of the first unsent byte by `length` bytes from the given one. */
function advance(t: Tcp, c: number, chunk: number, offset: number, length: number): void {
  const { w, chunks } = t;
  let at = chunk;
  let from = offset;
  for (let left = length; left > 0; ) {
    const count = Math.min(left, chunks.end[at] - from);
    from += count;
    left -= count;
    if (left > 0) {
      at = chunks.next[at];
      from = chunks.begin[at];
    }
  }
  w[c + SND_CHUNK] = at;
  w[c + SND_OFFSET] = from;
}

/** Sends one new segment whatever the congestion window says, if the peer has room: a tail loss probe. */
export function probeNew(t: Tcp, c: number): boolean {
  const { w } = t;
  const unsent = (w[c + WRITE_SEQ] - w[c + SND_NXT]) | 0;
  const length = Math.min(unsent, segmentSize(w, c));
  if (length <= 0 || ((w[c + SND_NXT] + length - windowEnd(w, c)) | 0) > 0) return false;
  return sendNew(t, c, length, false);
}

/** The probe timer: as much of a segment as the peer has room for, else one that it must answer (tcp_write_wakeup). */
export function wakeUp(t: Tcp, c: number): boolean {
  const { w } = t;
  const flags = w[c + FLAGS];
  const unsent = (w[c + WRITE_SEQ] - w[c + SND_NXT]) | 0;
  const room = (windowEnd(w, c) - w[c + SND_NXT]) | 0;
  const fin = (flags & (F_SND_SHUT | F_FIN_SENT)) === F_SND_SHUT;
  if (room > 0 && (unsent > 0 || fin)) {
    const length = Math.max(Math.min(unsent, room, segmentSize(w, c)), 0);
    return sendNew(t, c, length, fin && length === Math.max(unsent, 0) && room > length);
  }
  if ((flags & F_URGENT) !== 0) sendUrgent(t, c);
  return sendProbe(t, c);
}

/** Urgent bytes wait for room: the peer is told of them at once (RFC 9293, section 3.8.5). */
export function tellUrgent(t: Tcp, c: number): void {
  const { w } = t;
  if (((w[c + WRITE_SEQ] - w[c + SND_NXT]) | 0) > 0 && ((windowEnd(w, c) - w[c + SND_NXT]) | 0) <= 0) sendUrgent(t, c);
}
