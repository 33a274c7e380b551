/** The congestion control of a connection, by number: what differs between NewReno and CUBIC is called through here. */
import { CUBIC } from "../config.ts";
import type { Tcp } from "../core.ts";
import { CONGESTION, CWND, CWND_CNT, PRIOR_CWND, SSTHRESH } from "../tcb.ts";
import * as cubic from "./cubic.ts";
import * as newreno from "./newreno.ts";
import { CWND_MAX, inSlowStart, isCwndLimited } from "./window.ts";

/** A connection begins, or its application has chosen another control. */
export function initControl(t: Tcp, c: number): void {
  if (t.w[c + CONGESTION] === CUBIC) cubic.reset(t, c);
}

/** The window to aim for after a loss, segments, at least 2 (RFC 5681, equation 4). */
export function ssthreshAfterLoss(t: Tcp, c: number): number {
  return t.w[c + CONGESTION] === CUBIC ? cubic.ssthresh(t, c) : newreno.ssthresh(t.w, c);
}

/** `acked` segments have been delivered and nothing is wrong: the window grows. */
export function grow(t: Tcp, c: number, acked: number): void {
  const { w } = t;
  if (!isCwndLimited(w, c)) return;
  let left = acked;
  if (inSlowStart(w, c)) {
    left = slowStart(w, c, acked);
    if (left === 0) return;
  }
  if (w[c + CONGESTION] === CUBIC) cubic.avoid(t, c, left);
  else newreno.avoid(w, c, left);
}

/** RFC 5681, equation 2, with appropriate byte counting (RFC 3465) without a limit. Returns segments not used. */
function slowStart(w: Int32Array, c: number, acked: number): number {
  const cwnd = Math.min(w[c + CWND] + acked, w[c + SSTHRESH]);
  const left = acked - (cwnd - w[c + CWND]);
  w[c + CWND] = Math.min(cwnd, CWND_MAX);
  return left;
}

/** One more segment for each `each` delivered (tcp_cong_avoid_ai). */
export function additive(w: Int32Array, c: number, each: number, acked: number): void {
  if (w[c + CWND_CNT] >= each) {
    w[c + CWND_CNT] = 0;
    w[c + CWND]++;
  }
  w[c + CWND_CNT] += acked;
  if (w[c + CWND_CNT] >= each) {
    const more = (w[c + CWND_CNT] / each) | 0;
    w[c + CWND_CNT] -= more * each;
    w[c + CWND] = Math.min(w[c + CWND] + more, CWND_MAX);
  }
}

/** An RTT has been measured, microseconds. */
export function sampled(t: Tcp, c: number, rttUs: number): void {
  if (t.w[c + CONGESTION] === CUBIC) cubic.sampled(t, c, rttUs);
}

/** A retransmission timeout. */
export function timedOutOnce(t: Tcp, c: number): void {
  if (t.w[c + CONGESTION] === CUBIC) cubic.reset(t, c);
}

/** Segments leave after nothing was in flight for `idleMs`. */
export function sendingAgain(t: Tcp, c: number, idleMs: number): void {
  if (t.w[c + CONGESTION] === CUBIC) cubic.pause(t.w, c, idleMs);
}

/** The window before the cut that was for nothing. */
export function undoneCwnd(w: Int32Array, c: number): number {
  return Math.max(w[c + CWND], w[c + PRIOR_CWND]);
}
