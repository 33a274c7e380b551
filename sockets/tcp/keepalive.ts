/** Keepalive (RFC 9293, section 3.8.4; tcp_keepalive_timer): whether a peer that says nothing is still there. */
import { ERRNO } from "af-xdp-bindings";
import type { Tcp } from "./core.ts";
import { N } from "./counters.ts";
import { sendProbe } from "./emit.ts";
import { abort } from "./states.ts";
import {
  CLOSE_WAIT,
  ESTABLISHED,
  F_KEEPALIVE,
  F_ORPHAN,
  FIN_WAIT_1,
  FIN_WAIT_2,
  FLAGS,
  KEEP_COUNTS,
  KEEP_IDLE_MS,
  KEEP_INTERVAL_MS,
  LAST_ACK_MS,
  LAST_RCV_MS,
  PACKETS_OUT,
  SND_NXT,
  STATE,
  TIMER_KEEP,
  USER_TIMEOUT_MS,
  WRITE_SEQ,
} from "./tcb.ts";

/** States in which it is asked: those in which an application may wait for it. */
function isAsked(w: Int32Array, c: number): boolean {
  const state = w[c + STATE];
  if (state === ESTABLISHED || state === CLOSE_WAIT) return true;
  return (state === FIN_WAIT_1 || state === FIN_WAIT_2) && (w[c + FLAGS] & F_ORPHAN) === 0;
}

/** SO_KEEPALIVE or its times have been set, or the connection has opened. */
export function startKeepalive(t: Tcp, c: number): void {
  const { w } = t;
  if (!isAsked(w, c)) return;
  if ((w[c + FLAGS] & F_KEEPALIVE) === 0) {
    t.stopTimer(c, TIMER_KEEP);
    return;
  }
  w[c + KEEP_COUNTS] &= ~0xffff;
  t.setTimer(c, TIMER_KEEP, Math.max(w[c + KEEP_IDLE_MS] - silence(t, c), 1) * 1000);
}

/** Milliseconds since the peer was last heard of. */
function silence(t: Tcp, c: number): number {
  const { w } = t;
  return Math.max(Math.min((t.ms - w[c + LAST_RCV_MS]) | 0, (t.ms - w[c + LAST_ACK_MS]) | 0), 0);
}

/** The timer has fired. */
export function keepaliveTimer(t: Tcp, c: number): void {
  const { w } = t;
  if (!isAsked(w, c) || (w[c + FLAGS] & F_KEEPALIVE) === 0) return;
  const idle = w[c + KEEP_IDLE_MS];
  // What is in flight is repeated anyway, and ends the connection when nobody answers.
  if (w[c + PACKETS_OUT] > 0 || ((w[c + WRITE_SEQ] - w[c + SND_NXT]) | 0) > 0) {
    t.setTimer(c, TIMER_KEEP, idle * 1000);
    return;
  }
  const elapsed = silence(t, c);
  if (elapsed < idle) {
    w[c + KEEP_COUNTS] &= ~0xffff;
    t.setTimer(c, TIMER_KEEP, (idle - elapsed) * 1000);
    return;
  }
  const sent = w[c + KEEP_COUNTS] & 0xffff;
  const limit = w[c + USER_TIMEOUT_MS];
  const over = limit > 0 ? elapsed >= limit && sent > 0 : sent >= w[c + KEEP_COUNTS] >>> 16;
  if (over) {
    t.counters[N.TCPAbortOnTimeout]++;
    abort(t, c, ERRNO.ETIMEDOUT);
    return;
  }
  if (sendProbe(t, c)) {
    w[c + KEEP_COUNTS]++;
    t.counters[N.TCPKeepAlive]++;
  }
  t.setTimer(c, TIMER_KEEP, w[c + KEEP_INTERVAL_MS] * 1000);
}
