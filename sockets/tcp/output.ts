/** New data sent, as far as windows, Nagle, corks and pacing allow; probes that carry some. */
import { TCP_ACK, TCP_CWR, TCP_FIN, TCP_HEADER_MAX, TCP_PSH } from "../wire/tcp.ts";
import { dataSent } from "./ack-policy.ts";
import { cwndUsed, restartAfterIdle } from "./congestion/window.ts";
import { GSO_FULL, GSO_SENT, type GsoSink, type Tcp } from "./core.ts";
import { ECT_0, echo, emit, emitGso, inFlight, segmentSize, sendProbe, sendUrgent, windowEnd } from "./emit.ts";
import { paced, paceSent } from "./pacing.ts";
import { leaveBlackHole } from "./pmtu.ts";
import { scheduleLossProbe, schedulePush, startRetransmit } from "./retransmit-timer.ts";
import { SEG_CHUNK, SEG_END, SEG_FIRST_US, SEG_FLAGS, SEG_OFFSET, SEG_SEQ, SEG_US } from "./segments.ts";
import {
  BUSY_SINCE_US,
  CA_CWR,
  CA_RECOVERY,
  CA_STATE,
  CLOSED,
  CWND,
  F_CORK,
  F_CWR,
  F_DSACK,
  F_ECN,
  F_FIN_SENT,
  F_NO_PMTUD,
  F_NODELAY,
  F_SND_SHUT,
  F_URGENT,
  F_V6,
  FLAGS,
  HOPS,
  L_BLACK_HOLE,
  L_GSO,
  L_PUSH_TURN,
  LAST_SND_MS,
  LOCAL,
  LOCKS,
  OOO_HEAD,
  PACING_RATE,
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
  STATE,
  TIME_WAIT,
  WRITE_SEQ,
} from "./tcb.ts";

/**
 * Segments from which one packet costs less than so many frames. Requests and answers of 2, 3, 4 and 6 segments over veth, thousand
 * a second as one packet and as frames: 108 and 106, 82 and 84, 68 and 62, 49 and 44 (16 connections, AMD EPYC, Linux 6.18).
 */
const GSO_SEGMENTS_MIN = 4;

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
  if (!hasToSend(w, c)) return;
  if (w[c + PACKETS_OUT] === 0) {
    restartAfterIdle(t, c);
    w[c + LOCKS] &= ~L_GSO;
  }
  if ((w[c + LOCKS] & L_BLACK_HOLE) !== 0) leaveBlackHole(t, c);
  const before = w[c + PACKETS_OUT];
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
    const many = unsent > size ? bytesAtOnce(t, c, unsent, size, force) : 0;
    if (many > 0) {
      closing = fin && many === unsent && ((w[c + SND_NXT] + many + 1 - windowEnd(w, c)) | 0) <= 0;
      if (!sendMany(t, c, many, size, closing)) break;
      continue;
    }
    if (!sendNew(t, c, length, closing)) break;
    if (length < size) w[c + SND_SML] = w[c + SND_NXT];
  }
  const sent = w[c + PACKETS_OUT] - before;
  if (sent > 0) {
    if (w[c + CA_STATE] === CA_CWR || w[c + CA_STATE] === CA_RECOVERY) w[c + PRR_OUT] += sent;
    scheduleLossProbe(t, c, false);
  }
  cwndUsed(t, c, limited);
  if (w[c + PACKETS_OUT] === 0 && w[c + PENDING] === PENDING_NONE) schedulePush(t, c, w[c + RTO_US]);
}

/** Bytes that were not sent, or a FIN. */
function hasToSend(w: Int32Array, c: number): boolean {
  if (((w[c + WRITE_SEQ] - w[c + SND_NXT]) | 0) > 0) return true;
  return (w[c + FLAGS] & (F_SND_SHUT | F_FIN_SENT)) === F_SND_SHUT;
}

/**
 * push() at the end of the turn, where the owner ends turns: what a burst of acknowledgments lets out then leaves together,
 * in packets of many segments where there are such.
 */
export function pushSoon(t: Tcp, c: number): void {
  const { w } = t;
  if (!hasToSend(w, c) || (w[c + LOCKS] & L_PUSH_TURN) !== 0) return;
  if (t.pushTurnCount === t.pushTurn.length) {
    push(t, c, false);
    return;
  }
  w[c + LOCKS] |= L_PUSH_TURN;
  t.pushTurn[t.pushTurnCount++] = c;
}

/** The end of a turn: those that pushSoon() has put off send. */
export function pushTurn(t: Tcp): void {
  const { w } = t;
  for (let i = 0; i < t.pushTurnCount; i++) {
    const c = t.pushTurn[i];
    // A record that has been given back, and perhaps begun anew, has not the bit.
    if ((w[c + LOCKS] & L_PUSH_TURN) === 0) continue;
    w[c + LOCKS] &= ~L_PUSH_TURN;
    if (w[c + STATE] !== CLOSED && w[c + STATE] !== TIME_WAIT) push(t, c, false);
  }
  t.pushTurnCount = 0;
}

/**
 * How many of the unsent bytes may leave as one packet now: full segments, and the rest where all of it fits and Nagle lets it
 * go (tcp_mss_split_point). 0: they go one by one.
 */
function bytesAtOnce(t: Tcp, c: number, unsent: number, size: number, force: boolean): number {
  const { gso, segments, w } = t;
  const least = (w[c + LOCKS] & L_GSO) !== 0 ? size : (GSO_SEGMENTS_MIN - 1) * size;
  if (gso === null || unsent <= least) return 0;
  // What is of one segment alone, or holds each up, would be of all: urgent pointer, CWR, DSACK, pacing, fragments.
  if ((w[c + FLAGS] & (F_URGENT | F_CWR | F_DSACK | F_NO_PMTUD)) !== 0) return 0;
  if (w[c + PACING_RATE] !== 0 || w[c + OOO_HEAD] >= 0) return 0;
  const room = gso.room(w, c + LOCAL, (w[c + FLAGS] & F_V6) !== 0, w[c + HOPS]) - TCP_HEADER_MAX;
  const count = Math.min(w[c + CWND] - inFlight(w, c), segments.count - segments.used);
  const most = Math.min(room, count * size, (windowEnd(w, c) - w[c + SND_NXT]) | 0);
  let bytes = Math.min(unsent, most);
  if (unsent > most || (!force && waitsForMore(w, c))) bytes -= bytes % size;
  return bytes > least ? bytes : 0;
}

/**
 * Sends the next `length` bytes, one segment at most, and the FIN. It stays one function, as emit() does: divided among those that
 * sendMany() has, a request and its response took 640 ns instead of 510 (`parts`, TCP on an lcore, 1,000 connections).
 * @returns false: no frame, no node, or no room in the device
 */
function sendNew(t: Tcp, c: number, length: number, fin: boolean): boolean {
  const { w, segments, chunks } = t;
  if ((w[c + LOCKS] & L_GSO) !== 0 && keepsWay(t, c, length)) return sendMany(t, c, length, Math.max(length, 1), fin);
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

/**
 * Sends the next `length` bytes, of segments of `size` bytes, and the FIN as one packet. Where there is no way for it now, the
 * first segment goes as a frame.
 * @returns false: nothing can be sent now
 */
function sendMany(t: Tcp, c: number, length: number, size: number, fin: boolean): boolean {
  const { gso, segments, w } = t;
  if (gso === null || segments.used === segments.count) return false;
  const result = transmit(t, c, gso, length, size, fin);
  // What is in flight may still be in the device: nothing is to overtake it.
  if (result === GSO_FULL && w[c + PACKETS_OUT] > 0) return false;
  if (result !== GSO_SENT) {
    w[c + LOCKS] &= ~L_GSO;
    return sendNew(t, c, Math.min(length, size), fin && length <= size);
  }
  const first = w[c + PACKETS_OUT] === 0;
  if (first) w[c + BUSY_SINCE_US] = t.us;
  const ends = (fin ? TCP_FIN : 0) | (((w[c + SND_NXT] + length) | 0) === w[c + WRITE_SEQ] ? TCP_PSH : 0);
  let left = length;
  for (; left > size; left -= size) track(t, c, size, 0);
  track(t, c, left, left > 0 ? ends : ends & TCP_FIN);
  if (left < size) w[c + SND_SML] = w[c + SND_NXT];
  if (fin) w[c + FLAGS] |= F_FIN_SENT;
  if (length > 0) dataSent(t, c);
  w[c + LAST_SND_MS] = t.ms;
  w[c + LOCKS] |= L_GSO;
  if (first || w[c + PENDING] === PENDING_LOSS_PROBE || w[c + PENDING] === PENDING_PROBE)
    startRetransmit(t, c, w[c + RTO_US]);
  return true;
}

/** Hands the first `length` unsent bytes to the way for packets of many segments: what that says. */
function transmit(t: Tcp, c: number, gso: GsoSink, length: number, size: number, fin: boolean): number {
  const { w } = t;
  let bits = TCP_ACK | echo(w, c) | (fin ? TCP_FIN : 0);
  if (length > 0 && ((w[c + SND_NXT] + length) | 0) === w[c + WRITE_SEQ]) bits |= TCP_PSH;
  let ecn = 0;
  if ((w[c + FLAGS] & F_ECN) !== 0 && length > 0) {
    ecn = ECT_0;
    if ((w[c + FLAGS] & F_CWR) !== 0) bits |= TCP_CWR;
  }
  toUnsent(t, c, length);
  const result = emitGso(t, c, gso, w[c + SND_NXT], bits, w[c + SND_CHUNK], w[c + SND_OFFSET], length, size, ecn);
  if (result === GSO_SENT && (bits & TCP_CWR) !== 0) w[c + FLAGS] &= ~F_CWR;
  return result;
}

/** Whether a single segment, while L_GSO, is to leave as packets of many before it did. */
function keepsWay(t: Tcp, c: number, length: number): boolean {
  const { gso, w } = t;
  if (gso === null || w[c + PACKETS_OUT] === 0 || w[c + PACING_RATE] !== 0) return false;
  if ((w[c + FLAGS] & (F_URGENT | F_DSACK | F_NO_PMTUD)) !== 0) return false;
  return gso.room(w, c + LOCAL, (w[c + FLAGS] & F_V6) !== 0, w[c + HOPS]) >= length + TCP_HEADER_MAX;
}

/** Before a send of `length` bytes: the place of the first unsent one is in the chunk that has it. */
function toUnsent(t: Tcp, c: number, length: number): void {
  const { w, chunks } = t;
  const chunk = w[c + SND_CHUNK];
  if (length === 0 || w[c + SND_OFFSET] !== chunks.end[chunk]) return;
  w[c + SND_CHUNK] = chunks.next[chunk];
  w[c + SND_OFFSET] = chunks.begin[chunks.next[chunk]];
}

/** A segment of a packet has been sent: the next `length` bytes are in flight, with those of TCP_PSH and TCP_FIN that `flags` has. */
function track(t: Tcp, c: number, length: number, flags: number): void {
  const { w, segments } = t;
  const s = segments.words;
  const node = segments.take();
  toUnsent(t, c, length);
  const offset = w[c + SND_OFFSET];
  s[node + SEG_SEQ] = w[c + SND_NXT];
  s[node + SEG_END] = (w[c + SND_NXT] + length + ((flags & TCP_FIN) !== 0 ? 1 : 0)) | 0;
  s[node + SEG_FLAGS] = flags;
  s[node + SEG_CHUNK] = length > 0 ? w[c + SND_CHUNK] : -1;
  s[node + SEG_OFFSET] = offset;
  s[node + SEG_US] = t.us;
  s[node + SEG_FIRST_US] = t.us;
  segments.append(w, c, node);
  segments.list(w, c, node);
  advance(t, c, w[c + SND_CHUNK], offset, length);
  w[c + SND_NXT] = s[node + SEG_END];
  w[c + PACKETS_OUT]++;
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
