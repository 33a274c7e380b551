/** Answers to segments of no connection, from the scratch record, which stands for their peer. */
import { TCP_ACK, TCP_ECE, TCP_HEADER, TCP_OPTIONS, TCP_RST, TCP_SYN, writeTcp } from "../wire/tcp.ts";
import { cookieTimestamp, makeCookie } from "./cookies.ts";
import type { Tcp } from "./core.ts";
import { N } from "./counters.ts";
import { clockOffset } from "./isn.ts";
import { advertisedMss } from "./mss.ts";
import { synOptionsLength, writeSynOptions } from "./options.ts";
import { F_ECN, F_TS, F_V6, FLAGS, LOCAL, PORTS } from "./tcb.ts";
import { scaleFor, WINDOW_FIELD_MAX } from "./window.ts";

/** A RST for the segment in hand, to the addresses of `c` (RFC 9293, section 3.10.7.1). Never one for a RST. */
export function answerReset(t: Tcp, c: number): void {
  if ((t.segFlags & TCP_RST) !== 0) return;
  const acked = (t.segFlags & TCP_ACK) !== 0;
  const seq = acked ? t.segAck : 0;
  const ack = acked ? 0 : t.segEnd;
  if (answer(t, c, seq, ack, acked ? TCP_RST : TCP_RST | TCP_ACK, 0)) t.counters[N.OutRsts]++;
}

/** A segment without options or data. False: no frame. */
function answer(t: Tcp, c: number, seq: number, ack: number, flags: number, window: number): boolean {
  const { w, sink } = t;
  const v6 = (w[c + FLAGS] & F_V6) !== 0;
  const tcp = sink.frame(TCP_HEADER, v6);
  if (tcp < 0) {
    t.counters[N.NoFrame]++;
    return false;
  }
  const ports = w[c + PORTS];
  writeTcp(sink.views.bytes, tcp, ports >>> 16, ports & 0xffff, seq, ack, TCP_HEADER, flags, window);
  sink.send(tcp, TCP_HEADER, w, c + LOCAL, v6, 0, true, 0);
  t.counters[N.OutSegs]++;
  return true;
}

/**
 * A SYN-ACK whose sequence number is a cookie, for the SYN in hand.
 * @param c scratch record, whose FLAGS say what was negotiated
 * @param mss what the peer has told
 * @param window bytes of the first window
 */
export function answerCookie(t: Tcp, c: number, mss: number, window: number): void {
  const { w, sink } = t;
  const flags = w[c + FLAGS];
  const v6 = (flags & F_V6) !== 0;
  const header = TCP_HEADER + synOptionsLength(flags);
  const tcp = sink.frame(header, v6);
  if (tcp < 0) {
    t.counters[N.NoFrame]++;
    return;
  }
  const bytes = sink.views.bytes;
  const ports = w[c + PORTS];
  const bits = TCP_SYN | TCP_ACK | ((flags & F_ECN) !== 0 ? TCP_ECE : 0);
  const told = Math.min(window, WINDOW_FIELD_MAX);
  writeTcp(bytes, tcp, ports >>> 16, ports & 0xffff, makeCookie(t, c, mss), t.segEnd, header, bits, told);
  const clock = (t.ms + clockOffset(t, c)) | 0;
  const value = (flags & F_TS) !== 0 ? cookieTimestamp(clock, flags, t.optScale) : 0;
  const scale = scaleFor(t.config.receiveBufferMax);
  writeSynOptions(bytes, tcp + TCP_OPTIONS, flags, advertisedMss(t, c), scale, value, t.tsVal);
  sink.send(tcp, header, w, c + LOCAL, v6, 0, true, 0);
  t.counters[N.OutSegs]++;
  t.counters[N.SyncookiesSent]++;
  t.cookiesOut = true;
  t.cookieMs = t.ms;
}
