/** Data and FINs received (RFC 9293, section 3.10.7.4, seventh and eighth; tcp_data_queue, tcp_fin). */
import { TCP_FIN, TCP_PSH } from "../wire/tcp.ts";
import type { FrameViews } from "../wire/views.ts";
import { dataReceived, enterQuickAck } from "./ack-policy.ts";
import { reportDuplicate } from "./challenge.ts";
import type { Tcp } from "./core.ts";
import { N } from "./counters.ts";
import { OPT_TS, timestamp } from "./options.ts";
import { appendInOrder, drainRanges, duplicate, insertRange, pruneLast } from "./reassembly.ts";
import { dropRanges } from "./states.ts";
import {
  ACK,
  ACK_NOW,
  ACK_SCHEDULED,
  CLOSE_WAIT,
  CLOSING,
  COPIED,
  ESTABLISHED,
  EV_HANGUP,
  EV_READABLE,
  F_FIN_RCVD,
  F_FIN_SEEN,
  F_PINGPONG,
  F_RCV_SHUT,
  F_TS,
  FIN_SEQ,
  FIN_WAIT_1,
  FIN_WAIT_2,
  FLAGS,
  OOO_HEAD,
  RCV_CHUNKS,
  RCV_MSS,
  RCV_NXT,
  STATE,
  SYN_RECEIVED,
} from "./tcb.ts";
import { chunkLimit, growWindow, measureByTimestamp, measureByWindow, receiveWindow } from "./window.ts";

/** Takes the data and the FIN of the segment in hand, which is acceptable. */
export function takeData(t: Tcp, c: number, views: FrameViews): void {
  const { w } = t;
  const fin = (t.segFlags & TCP_FIN) !== 0;
  if (t.segLength === 0 && !fin) return;
  const next = w[c + RCV_NXT];
  if ((w[c + FLAGS] & F_FIN_RCVD) !== 0) {
    // Beyond the FIN there is nothing.
    if (((t.segSeq - next) | 0) < 0) repeated(t, c);
    return;
  }
  const window = receiveWindow(w, c);
  const ahead = (t.segSeq - next) | 0;
  const dataEnd = (t.segSeq + t.segLength) | 0;
  if (((t.segEnd - next) | 0) <= 0) {
    reportDuplicate(t, c, t.segSeq, t.segEnd);
    t.counters[N.TCPDSACKOldSent]++;
    repeated(t, c);
    return;
  }
  if (ahead >= window && !(window === 0 && ahead <= 0 && fin && ((dataEnd - next) | 0) <= 0)) {
    // Beyond the window: a probe of a closed one, mostly.
    if (ahead <= 0) t.counters[N.TCPZeroWindowDrop]++;
    repeated(t, c);
    return;
  }
  if (ahead < 0) reportDuplicate(t, c, t.segSeq, next);
  // What lies before RCV.NXT and beyond the window is cut off.
  const skip = ahead < 0 ? Math.min(-ahead, t.segLength) : 0;
  const from = (t.segSeq + skip) | 0;
  const offset = t.segData + skip;
  const room = (next + window - from) | 0;
  const length = Math.min(t.segLength - skip, room);
  if (room < t.segLength - skip) w[c + ACK] |= ACK_SCHEDULED | ACK_NOW;
  if (fin) noteFin(w, c, dataEnd);
  if (ahead <= 0) inOrder(t, c, views, from, offset, length);
  else if (length > 0) outOfOrder(t, c, views, from, offset, length);
  if ((w[c + FLAGS] & (F_FIN_SEEN | F_FIN_RCVD)) === F_FIN_SEEN && w[c + RCV_NXT] === w[c + FIN_SEQ]) takeFin(t, c);
  else if (fin) w[c + ACK] |= ACK_SCHEDULED | ACK_NOW;
}

/** What has been there before, or does not fit: acknowledged at once. */
function repeated(t: Tcp, c: number): void {
  enterQuickAck(t, c);
  t.w[c + ACK] |= ACK_SCHEDULED | ACK_NOW;
}

/** The first FIN seen stands: the end of the peer's bytes. */
function noteFin(w: Int32Array, c: number, seq: number): void {
  if ((w[c + FLAGS] & F_FIN_SEEN) !== 0 && ((seq - w[c + FIN_SEQ]) | 0) >= 0) return;
  w[c + FLAGS] |= F_FIN_SEEN;
  w[c + FIN_SEQ] = seq;
}

/** Bytes that begin at RCV.NXT. */
function inOrder(t: Tcp, c: number, views: FrameViews, from: number, offset: number, length: number): void {
  const { w } = t;
  if (length <= 0) return;
  // Out of order comes second: it was reported, not acknowledged.
  while (w[c + RCV_CHUNKS] >= chunkLimit(t, c) && pruneLast(t, c)) t.counters[N.OfoPruned]++;
  let taken = appendInOrder(t, c, views, offset, length);
  if (taken < length && w[c + OOO_HEAD] >= 0) {
    while (pruneLast(t, c)) t.counters[N.OfoPruned]++;
    taken += appendInOrder(t, c, views, offset + taken, length - taken);
  }
  if (taken < length) {
    t.counters[N.TCPRcvQDrop]++;
    enterQuickAck(t, c);
    w[c + ACK] |= ACK_SCHEDULED | ACK_NOW;
    if (taken === 0) return;
  }
  w[c + RCV_NXT] = (from + taken) | 0;
  received(t, c, taken);
  if (w[c + OOO_HEAD] >= 0) {
    drainRanges(t, c);
    // RFC 5681, section 4.2: a filled gap is acknowledged at once.
    if (w[c + OOO_HEAD] < 0) w[c + ACK] |= ACK_NOW;
  }
}

/** Bookkeeping of `length` bytes in order. */
export function received(t: Tcp, c: number, length: number): void {
  const { w } = t;
  dataReceived(t, c, length, (t.segFlags & TCP_PSH) !== 0);
  measureByWindow(t, c);
  if (length >= w[c + RCV_MSS] && t.tsEcr !== 0 && (t.options & OPT_TS) !== 0 && (w[c + FLAGS] & F_TS) !== 0)
    measureByTimestamp(t.w, c, (timestamp(t, c) - t.tsEcr) | 0);
  growWindow(t, c, length);
  t.event(c, EV_READABLE);
}

function outOfOrder(t: Tcp, c: number, views: FrameViews, from: number, offset: number, length: number): void {
  const { w } = t;
  const kept = insertRange(t, c, from, views, offset, length);
  if (kept > 0) t.counters[N.TCPOFOQueue]++;
  else if (duplicate.start === duplicate.end) t.counters[N.TCPOFODrop]++;
  if (duplicate.start !== duplicate.end) {
    reportDuplicate(t, c, duplicate.start, duplicate.end);
    t.counters[N.TCPDSACKOfoSent]++;
  }
  w[c + FLAGS] &= ~F_PINGPONG;
  w[c + ACK] |= ACK_SCHEDULED | ACK_NOW;
}

/** The peer's FIN is next: its direction is over. */
function takeFin(t: Tcp, c: number): void {
  const { w } = t;
  w[c + RCV_NXT] = (w[c + RCV_NXT] + 1) | 0;
  w[c + FLAGS] |= F_FIN_RCVD | F_RCV_SHUT;
  // A FIN that came before what it follows has filled a gap.
  w[c + ACK] |= (t.segFlags & TCP_FIN) !== 0 ? ACK_SCHEDULED : ACK_SCHEDULED | ACK_NOW;
  dropRanges(t, c);
  switch (w[c + STATE]) {
    case SYN_RECEIVED:
    case ESTABLISHED:
      w[c + STATE] = CLOSE_WAIT;
      // The application may close now: its FIN can take the acknowledgment along.
      w[c + FLAGS] |= F_PINGPONG;
      break;
    case FIN_WAIT_1:
      w[c + STATE] = CLOSING;
      w[c + ACK] |= ACK_NOW;
      break;
    case FIN_WAIT_2:
      // The acknowledgment leaves before the record begins to wait: see input.ts.
      t.finishing = true;
      w[c + ACK] |= ACK_NOW;
      break;
  }
  t.event(c, EV_READABLE | EV_HANGUP);
}

/** Bytes that can be read. */
export function readable(w: Int32Array, c: number): number {
  const bytes = (w[c + RCV_NXT] - w[c + COPIED]) | 0;
  return (w[c + FLAGS] & F_FIN_RCVD) !== 0 ? bytes - 1 : bytes;
}
