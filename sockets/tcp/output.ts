/** Segments sent: new data as far as windows, Nagle and pacing allow, retransmissions, acknowledgments, probes. */
import {
  TCP_ACK,
  TCP_CWR,
  TCP_ECE,
  TCP_FIN,
  TCP_HEADER,
  TCP_OPTIONS,
  TCP_PSH,
  TCP_RST,
  TCP_SYN,
  TCP_URG,
  TCP_URGENT,
  writeTcp,
} from "../wire/tcp.ts";
import { writeUint16 } from "../wire/views.ts";
import { ackSent, dataSent } from "./ack-policy.ts";
import { copy } from "./buffers.ts";
import { cwndUsed, restartAfterIdle } from "./congestion/window.ts";
import type { Tcp } from "./core.ts";
import { N } from "./counters.ts";
import { advertisedMss } from "./mss.ts";
import { optionsLength, synOptionsLength, timestamp, writeOptions, writeSynOptions } from "./options.ts";
import { paced, paceSent } from "./pacing.ts";
import { leaveBlackHole } from "./pmtu.ts";
import { scheduleLossProbe, schedulePush, startRetransmit } from "./retransmit-timer.ts";
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
import {
  CA_CWR,
  CA_RECOVERY,
  CA_STATE,
  CWND,
  F_CORK,
  F_CWR,
  F_ECE,
  F_ECN,
  F_FIN_SENT,
  F_NO_PMTUD,
  F_NODELAY,
  F_SND_SHUT,
  F_URGENT,
  F_V6,
  FLAGS,
  ISS,
  L_BLACK_HOLE,
  L_ECN_SYN,
  LAST_SND_MS,
  LOCAL,
  LOCKS,
  LOST_OUT,
  MAX_WINDOW,
  MSS,
  PACKETS_OUT,
  PENDING,
  PENDING_LOSS_PROBE,
  PENDING_NONE,
  PENDING_PROBE,
  PORTS,
  PRR_OUT,
  RCV_NXT,
  RCV_WND,
  RETRANS_OUT,
  RETRANS_TS,
  RTO_US,
  SACKED_OUT,
  SCALES,
  SEG_HEAD,
  SND_CHUNK,
  SND_NXT,
  SND_OFFSET,
  SND_SML,
  SND_UNA,
  SND_UP,
  SND_WND,
  STATE,
  SYN_SENT,
  TOS,
  TS_RECENT,
  UNDO_RETRANS,
  WRITE_SEQ,
} from "./tcb.ts";
import { scaleFor, tellWindow } from "./window.ts";

/** ECT(0) in the TOS byte (RFC 3168, section 5). */
const ECT_0 = 2;
const ECN_MASK = 3;
/** The least that half a window may cut segments to, as tcp_bound_to_half_wnd. */
const HALF_WINDOW_FLOOR = 36;

/** Segments in the network, as far as is known (tcp_packets_in_flight). */
export function inFlight(w: Int32Array, c: number): number {
  return w[c + PACKETS_OUT] - w[c + SACKED_OUT] - w[c + LOST_OUT] + w[c + RETRANS_OUT];
}

/** Bytes that the next segment carries at most: half of the peer's largest window at most, so that two fit. */
export function segmentSize(w: Int32Array, c: number): number {
  const mss = w[c + MSS] - optionsLength(w, c);
  const largest = w[c + MAX_WINDOW];
  const cutoff = largest > 536 ? largest >> 1 : largest;
  return cutoff > 0 && mss > cutoff ? Math.max(cutoff, HALF_WINDOW_FLOOR) : mss;
}

/** End of the peer's window. */
function windowEnd(w: Int32Array, c: number): number {
  return (w[c + SND_UNA] + w[c + SND_WND]) | 0;
}

/**
 * Writes one segment into a frame and sends it; with ACK it acknowledges all that has come.
 * @param chunk where its payload begins, with `offset`; -1 without
 * @param ecn bits of the TOS byte
 * @returns false: the sink had no frame
 */
function emit(
  t: Tcp,
  c: number,
  seq: number,
  flags: number,
  chunk: number,
  offset: number,
  length: number,
  ecn: number,
): boolean {
  const { w, sink, chunks } = t;
  const state = w[c + FLAGS];
  const v6 = (state & F_V6) !== 0;
  const header = TCP_HEADER + optionsLength(w, c);
  const tcp = sink.frame(header + length, v6);
  if (tcp < 0) {
    t.counters[N.NoFrame]++;
    return false;
  }
  const bytes = sink.views.bytes;
  const ports = w[c + PORTS];
  const window = tellWindow(t, c);
  const acked = w[c + RCV_NXT];
  const urgent = (state & F_URGENT) !== 0 && ((w[c + SND_UP] - seq) | 0) > 0;
  const bits = urgent ? flags | TCP_URG : flags;
  writeTcp(bytes, tcp, ports >>> 16, ports & 0xffff, seq, acked, header, bits, window);
  if (urgent) writeUint16(bytes, tcp + TCP_URGENT, Math.min((w[c + SND_UP] - seq) | 0, 65_535));
  if (header > TCP_HEADER) writeOptions(t, c, bytes, tcp + TCP_OPTIONS);
  let at = offset;
  let from = chunk;
  let to = tcp + header;
  for (let left = length; left > 0; ) {
    const count = Math.min(left, chunks.end[from] - at);
    copy(sink.views, to, chunks.views, at, count);
    left -= count;
    to += count;
    if (left > 0) {
      from = chunks.next[from];
      at = chunks.begin[from];
    }
  }
  sink.send(tcp, header + length, w, c + LOCAL, v6, (w[c + TOS] & ~ECN_MASK) | ecn, (state & F_NO_PMTUD) === 0);
  t.counters[N.OutSegs]++;
  ackSent(t, c, acked);
  return true;
}

/** ECE with what acknowledges, until the peer has heard of a mark (RFC 3168, section 6.1.3). */
function echo(w: Int32Array, c: number): number {
  return (w[c + FLAGS] & F_ECE) !== 0 ? TCP_ECE : 0;
}

/** Sends an acknowledgment now. False: no frame. */
export function sendAck(t: Tcp, c: number): boolean {
  return emit(t, c, acceptableSeq(t.w, c), TCP_ACK | echo(t.w, c), -1, 0, 0, 0);
}

/** SND.NXT, or where the peer's window now ends if it has been taken back behind that (tcp_acceptable_seq). */
function acceptableSeq(w: Int32Array, c: number): number {
  const beyond = (w[c + SND_NXT] - windowEnd(w, c)) | 0;
  return beyond <= 0 || beyond < 1 << (w[c + SCALES] & 0xff) ? w[c + SND_NXT] : windowEnd(w, c);
}

/** Sends a segment without data that the peer must answer: one behind its window (tcp_xmit_probe_skb). */
export function sendProbe(t: Tcp, c: number): boolean {
  return emit(t, c, (t.w[c + SND_UNA] - 1) | 0, TCP_ACK | echo(t.w, c), -1, 0, 0, 0);
}

/** Tells the peer of an established connection that it is over. */
export function sendReset(t: Tcp, c: number): void {
  t.counters[N.OutRsts]++;
  emit(t, c, acceptableSeq(t.w, c), TCP_RST | TCP_ACK, -1, 0, 0, 0);
}

/** Sends a SYN, or the SYN-ACK of a passive open; its node is the caller's. */
function sendSyn(t: Tcp, c: number): boolean {
  const { w, sink } = t;
  const flags = w[c + FLAGS];
  const v6 = (flags & F_V6) !== 0;
  const first = w[c + STATE] === SYN_SENT;
  const header = TCP_HEADER + synOptionsLength(flags);
  const tcp = sink.frame(header, v6);
  if (tcp < 0) {
    t.counters[N.NoFrame]++;
    return false;
  }
  const bytes = sink.views.bytes;
  const ports = w[c + PORTS];
  let bits = first ? TCP_SYN : TCP_SYN | TCP_ACK;
  // RFC 3168, section 6.1.1: asked for by both bits, granted by one.
  if (first && (w[c + LOCKS] & L_ECN_SYN) !== 0) bits |= TCP_ECE | TCP_CWR;
  else if (!first && (flags & F_ECN) !== 0) bits |= TCP_ECE;
  // The first window is never scaled (RFC 7323, section 2.2).
  const window = Math.min(w[c + RCV_WND], 65_535);
  const acked = first ? 0 : w[c + RCV_NXT];
  writeTcp(bytes, tcp, ports >>> 16, ports & 0xffff, w[c + ISS], acked, header, bits, window);
  const scale = first ? scaleFor(t.config.receiveBufferMax) : w[c + SCALES] >> 8;
  const echoed = first ? 0 : w[c + TS_RECENT];
  writeSynOptions(bytes, tcp + TCP_OPTIONS, flags, advertisedMss(t, c), scale, timestamp(t, c), echoed);
  sink.send(tcp, header, w, c + LOCAL, v6, w[c + TOS] & ~ECN_MASK, (flags & F_NO_PMTUD) === 0);
  t.counters[N.OutSegs]++;
  return true;
}

/** Queues the SYN as the connection's first segment, and sends it. It is in flight even if no frame was there. */
export function openWithSyn(t: Tcp, c: number): boolean {
  const { w, segments } = t;
  const node = segments.take();
  if (node < 0) return false;
  const s = segments.words;
  s[node + SEG_SEQ] = w[c + ISS];
  s[node + SEG_END] = (w[c + ISS] + 1) | 0;
  s[node + SEG_FLAGS] = TCP_SYN;
  s[node + SEG_CHUNK] = -1;
  s[node + SEG_US] = t.us;
  s[node + SEG_FIRST_US] = t.us;
  segments.append(w, c, node);
  segments.list(w, c, node);
  w[c + PACKETS_OUT] = 1;
  w[c + SND_UNA] = w[c + ISS];
  w[c + SND_NXT] = (w[c + ISS] + 1) | 0;
  w[c + WRITE_SEQ] = w[c + SND_NXT];
  w[c + RETRANS_TS] = 0;
  sendSyn(t, c);
  startRetransmit(t, c, w[c + RTO_US]);
  return true;
}

/** True when a segment of fewer bytes than fit waits for more: Nagle's rule as Minshall amended it, or a cork. */
function waitsForMore(w: Int32Array, c: number): boolean {
  const flags = w[c + FLAGS];
  if ((flags & F_CORK) !== 0) return true;
  if ((flags & F_NODELAY) !== 0 || w[c + PACKETS_OUT] === 0) return false;
  const small = w[c + SND_SML];
  return ((small - w[c + SND_UNA]) | 0) > 0 && ((small - w[c + SND_NXT]) | 0) <= 0;
}

/** True while urgent bytes are to be sent. */
function isUrgent(w: Int32Array, c: number): boolean {
  return (w[c + FLAGS] & F_URGENT) !== 0 && ((w[c + SND_UP] - w[c + SND_NXT]) | 0) > 0;
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
    if (last && length < size && !force && !closing && !isUrgent(w, c) && waitsForMore(w, c)) break;
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
  w[c + PACKETS_OUT]++;
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
  return sendProbe(t, c);
}

/**
 * Sends a segment again (tcp_retransmit_skb), in parts if segments have become smaller.
 * @returns false: the peer's window no longer has room, or there is no frame
 */
export function retransmit(t: Tcp, c: number, node: number): boolean {
  const { w, segments } = t;
  const s = segments.words;
  if ((s[node + SEG_FLAGS] & TCP_SYN) !== 0) {
    if (!sendSyn(t, c)) return false;
  } else {
    const room = (windowEnd(w, c) - s[node + SEG_SEQ]) | 0;
    if (room <= 0 && s[node + SEG_SEQ] !== w[c + SND_UNA]) return false;
    let size = segmentSize(w, c);
    if (room > 0 && room < size) size = room;
    if (dataLength(s, node) > size && !split(t, c, node, size)) return false;
    const bits = TCP_ACK | echo(w, c) | (s[node + SEG_FLAGS] & (TCP_FIN | TCP_PSH));
    if (!emit(t, c, s[node + SEG_SEQ], bits, s[node + SEG_CHUNK], s[node + SEG_OFFSET], dataLength(s, node), 0))
      return false;
  }
  t.counters[N.RetransSegs]++;
  t.counters[N.OutSegs]--;
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

/** Splits a segment in flight: `size` bytes stay in it, the rest goes to a new one behind. False: no node. */
export function split(t: Tcp, c: number, node: number, size: number): boolean {
  const { w, segments, chunks } = t;
  const half = segments.take();
  if (half < 0) return false;
  const s = segments.words;
  let chunk = s[node + SEG_CHUNK];
  let offset = s[node + SEG_OFFSET];
  for (let left = size; left > 0; ) {
    const count = Math.min(left, chunks.end[chunk] - offset);
    offset += count;
    left -= count;
    if (offset === chunks.end[chunk] && chunks.next[chunk] >= 0) {
      chunk = chunks.next[chunk];
      offset = chunks.begin[chunk];
    }
  }
  s[half + SEG_SEQ] = (s[node + SEG_SEQ] + size) | 0;
  s[half + SEG_END] = s[node + SEG_END];
  s[half + SEG_US] = s[node + SEG_US];
  s[half + SEG_FIRST_US] = s[node + SEG_FIRST_US];
  s[half + SEG_FLAGS] = s[node + SEG_FLAGS];
  s[half + SEG_CHUNK] = chunk;
  s[half + SEG_OFFSET] = offset;
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
