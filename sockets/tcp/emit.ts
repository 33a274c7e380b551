/** One segment into one frame: header, options, payload; and those that carry no data. */
import {
  TCP_ACK,
  TCP_CWR,
  TCP_ECE,
  TCP_HEADER,
  TCP_OPTIONS,
  TCP_RST,
  TCP_SYN,
  TCP_URG,
  TCP_URGENT,
  writeTcp,
} from "../wire/tcp.ts";
import { writeUint16 } from "../wire/views.ts";
import { ackSent } from "./ack-policy.ts";
import { copy } from "./buffers.ts";
import { GSO_FULL, GSO_REFUSED, GSO_SENT, type GsoSink, type Tcp } from "./core.ts";
import { N } from "./counters.ts";
import { advertisedMss } from "./mss.ts";
import { optionsLength, synOptionsLength, timestamp, writeOptions, writeSynOptions } from "./options.ts";
import { startRetransmit } from "./retransmit-timer.ts";
import { SEG_CHUNK, SEG_END, SEG_FIRST_US, SEG_FLAGS, SEG_SEQ, SEG_US } from "./segments.ts";
import { tallySent } from "./tally.ts";
import {
  BUSY_SINCE_US,
  F_ECE,
  F_ECN,
  F_NO_PMTUD,
  F_URGENT,
  F_V6,
  FLAGS,
  HOPS,
  ISS,
  L_ECN_SYN,
  LOCAL,
  LOCKS,
  LOST_OUT,
  MAX_WINDOW,
  MSS,
  PACKETS_OUT,
  PORTS,
  RCV_NXT,
  RCV_WND,
  RCV_WUP,
  RETRANS_OUT,
  RETRANS_TS,
  RTO_US,
  SACKED_OUT,
  SCALES,
  SND_NXT,
  SND_UNA,
  SND_UP,
  SND_WND,
  STATE,
  SYN_SENT,
  TOS,
  TS_RECENT,
  WRITE_SEQ,
} from "./tcb.ts";
import { scaleFor, tellWindow } from "./window.ts";

/** ECT(0) in the TOS byte (RFC 3168, section 5). */
export const ECT_0 = 2;
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
export function windowEnd(w: Int32Array, c: number): number {
  return (w[c + SND_UNA] + w[c + SND_WND]) | 0;
}

/**
 * Writes one segment into a frame and sends it; with ACK it acknowledges all that has come.
 * @param chunk where its payload begins, with `offset`; -1 without
 * @param ecn bits of the TOS byte
 * @returns false: the sink had no frame
 */
export function emit(
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
  const acked = w[c + RCV_NXT];
  const urgent = (state & F_URGENT) !== 0 && ((w[c + SND_UP] - seq) | 0) > 0;
  const bytes = sink.views.bytes;
  const ports = w[c + PORTS];
  const window = tellWindow(t, c);
  const bits = urgent ? flags | TCP_URG : flags;
  writeTcp(bytes, tcp, ports >>> 16, ports & 0xffff, seq, acked, header, bits, window);
  if (header > TCP_HEADER) writeOptions(t, c, bytes, tcp + TCP_OPTIONS);
  if (urgent) writeUint16(sink.views.bytes, tcp + TCP_URGENT, Math.min((w[c + SND_UP] - seq) | 0, 65_535));
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
  const df = (state & F_NO_PMTUD) === 0;
  sink.send(tcp, header + length, w, c + LOCAL, v6, (w[c + TOS] & ~ECN_MASK) | ecn, df, w[c + HOPS]);
  t.counters[N.OutSegs]++;
  tallySent(w, c, length);
  ackSent(t, c, acked);
  return true;
}

/**
 * Sends new data as one packet, which the sink has cut into segments of `size` bytes: as emit(), without urgent pointer.
 * @returns GSO_SENT, or nothing was sent: GSO_FULL, GSO_REFUSED
 */
export function emitGso(
  t: Tcp,
  c: number,
  gso: GsoSink,
  seq: number,
  flags: number,
  chunk: number,
  offset: number,
  length: number,
  size: number,
  ecn: number,
): number {
  const { w } = t;
  const v6 = (w[c + FLAGS] & F_V6) !== 0;
  const header = TCP_HEADER + optionsLength(w, c);
  const tcp = gso.begin(v6, header);
  if (!gather(t, gso, chunk, offset, length)) return GSO_REFUSED;
  const acked = w[c + RCV_NXT];
  const toldWindow = w[c + RCV_WND];
  const toldAt = w[c + RCV_WUP];
  const { bytes } = t.sink.views;
  const ports = w[c + PORTS];
  const window = tellWindow(t, c);
  writeTcp(bytes, tcp, ports >>> 16, ports & 0xffff, seq, acked, header, flags, window);
  if (header > TCP_HEADER) writeOptions(t, c, bytes, tcp + TCP_OPTIONS);
  const tos = (w[c + TOS] & ~ECN_MASK) | ecn;
  const result = gso.send(header, length, size, w, c + LOCAL, v6, tos, w[c + HOPS]);
  if (result !== GSO_SENT) {
    // Nobody has been told.
    w[c + RCV_WND] = toldWindow;
    w[c + RCV_WUP] = toldAt;
    if (result === GSO_FULL) t.counters[N.NoFrame]++;
    return result;
  }
  const segments = Math.max(Math.ceil(length / size), 1);
  t.counters[N.OutSegs] += segments;
  t.counters[N.GsoPackets]++;
  tallySent(w, c, length, segments);
  ackSent(t, c, acked);
  return GSO_SENT;
}

/** Names `length` bytes of the send queue, from a place on, to the sink. False: they lie in too many pieces. */
function gather(t: Tcp, gso: GsoSink, chunk: number, offset: number, length: number): boolean {
  const { chunks } = t;
  let from = chunk;
  let at = offset;
  for (let left = length; left > 0; ) {
    const count = Math.min(left, chunks.end[from] - at);
    if (!gso.add(at, count)) return false;
    left -= count;
    if (left > 0) {
      from = chunks.next[from];
      at = chunks.begin[from];
    }
  }
  return true;
}

/** ECE with what acknowledges, until the peer has heard of a mark (RFC 3168, section 6.1.3). */
export function echo(w: Int32Array, c: number): number {
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

/** Sends one without data whose urgent pointer is counted from the next number, as a peer expects it. */
export function sendUrgent(t: Tcp, c: number): boolean {
  return emit(t, c, t.w[c + SND_UNA], TCP_ACK | echo(t.w, c), -1, 0, 0, 0);
}

/** Tells the peer of an established connection that it is over. */
export function sendReset(t: Tcp, c: number): void {
  t.counters[N.OutRsts]++;
  emit(t, c, acceptableSeq(t.w, c), TCP_RST | TCP_ACK, -1, 0, 0, 0);
}

/** Sends a SYN, or the SYN-ACK of a passive open; its node is the caller's. */
export function sendSyn(t: Tcp, c: number): boolean {
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
  sink.send(tcp, header, w, c + LOCAL, v6, w[c + TOS] & ~ECN_MASK, (flags & F_NO_PMTUD) === 0, w[c + HOPS]);
  t.counters[N.OutSegs]++;
  tallySent(w, c, 0);
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
  w[c + BUSY_SINCE_US] = t.us;
  w[c + SND_UNA] = w[c + ISS];
  w[c + SND_NXT] = (w[c + ISS] + 1) | 0;
  w[c + WRITE_SEQ] = w[c + SND_NXT];
  w[c + RETRANS_TS] = 0;
  sendSyn(t, c);
  startRetransmit(t, c, w[c + RTO_US]);
  return true;
}
