/** The congestion window: how it begins, what of it counts as used, and what a pause takes from it (RFC 2861, RFC 7661's predecessor in Linux). */
import type { Tcp } from "../core.ts";
import {
  CA_CWR,
  CA_OPEN,
  CA_RECOVERY,
  CA_STATE,
  CWND,
  CWND_CNT,
  CWND_STAMP_MS,
  CWND_USED,
  F_CWND_LIMITED,
  F_NOSPACE,
  FLAGS,
  LAST_SND_MS,
  MAX_OUT,
  PACKETS_OUT,
  RACK_END,
  RACK_US,
  ROUND_SEQ,
  RTO_US,
  SND_NXT,
  SND_UNA,
  SSTHRESH,
} from "../tcb.ts";
import { sendingAgain } from "./control.ts";

/** TCP_INFINITE_SSTHRESH. */
export const SSTHRESH_MAX = 0x7fffffff;
/** TCP_INIT_CWND's bound of what is ever reached: a window of segments of which none is sent. */
export const CWND_MAX = 0x3fffffff;
/** A pause after which RACK begins anew, ms. */
const RACK_IDLE_MS = 60_000;

export function initCwnd(t: Tcp, c: number): void {
  const { w } = t;
  w[c + CWND] = t.config.initialWindow;
  w[c + CWND_CNT] = 0;
  w[c + SSTHRESH] = SSTHRESH_MAX;
  w[c + CWND_STAMP_MS] = t.ms;
}

/** A window is being cut: RFC 6937 decides how much is sent. */
export function inReduction(w: Int32Array, c: number): boolean {
  return w[c + CA_STATE] === CA_CWR || w[c + CA_STATE] === CA_RECOVERY;
}

export function inSlowStart(w: Int32Array, c: number): boolean {
  return w[c + CWND] < w[c + SSTHRESH];
}

/** ssthresh that a window which was not used deserves (tcp_current_ssthresh). */
export function currentSsthresh(w: Int32Array, c: number): number {
  if (inReduction(w, c)) return w[c + SSTHRESH];
  return Math.max(w[c + SSTHRESH], (w[c + CWND] >> 1) + (w[c + CWND] >> 2));
}

/** True when the window, not the application, has limited what was sent, so that it may grow (tcp_is_cwnd_limited). */
export function isCwndLimited(w: Int32Array, c: number): boolean {
  if ((w[c + FLAGS] & F_CWND_LIMITED) !== 0) return true;
  return inSlowStart(w, c) && w[c + CWND] < 2 * w[c + MAX_OUT];
}

/** After a push: notes whether the window was full (tcp_cwnd_validate). */
export function cwndUsed(t: Tcp, c: number, limited: boolean): void {
  const { w } = t;
  const out = w[c + PACKETS_OUT];
  const was = (w[c + FLAGS] & F_CWND_LIMITED) !== 0;
  if (((w[c + SND_UNA] - w[c + ROUND_SEQ]) | 0) >= 0 || limited || (!was && out > w[c + MAX_OUT])) {
    if (limited) w[c + FLAGS] |= F_CWND_LIMITED;
    else w[c + FLAGS] &= ~F_CWND_LIMITED;
    w[c + MAX_OUT] = out;
    w[c + ROUND_SEQ] = w[c + SND_NXT];
  }
  if (isCwndLimited(w, c)) {
    w[c + CWND_USED] = 0;
    w[c + CWND_STAMP_MS] = t.ms;
    return;
  }
  if (out > w[c + CWND_USED]) w[c + CWND_USED] = out;
  if (t.config.slowStartAfterIdle && (t.ms - w[c + CWND_STAMP_MS]) * 1000 >= w[c + RTO_US]) unused(t, c);
}

/** A window that was not filled for an RTO comes half the way to what was used (tcp_cwnd_application_limited). */
function unused(t: Tcp, c: number): void {
  const { w } = t;
  if (w[c + CA_STATE] === CA_OPEN && (w[c + FLAGS] & F_NOSPACE) === 0) {
    const used = Math.max(w[c + CWND_USED], t.config.initialWindow);
    if (used < w[c + CWND]) {
      w[c + SSTHRESH] = currentSsthresh(w, c);
      w[c + CWND] = (w[c + CWND] + used) >> 1;
    }
    w[c + CWND_USED] = 0;
  }
  w[c + CWND_STAMP_MS] = t.ms;
}

/** Before the first segment after a pause: the window halves for each RTO of it (tcp_slow_start_after_idle_check). */
export function restartAfterIdle(t: Tcp, c: number): void {
  const { w, config } = t;
  const idleMs = (t.ms - w[c + LAST_SND_MS]) | 0;
  sendingAgain(t, c, idleMs);
  if (idleMs < 0 || idleMs > RACK_IDLE_MS) {
    // Times of sending are int32 microseconds: what RACK knows would soon seem to lie ahead.
    w[c + RACK_US] = 0;
    w[c + RACK_END] = 0;
  }
  if (!config.slowStartAfterIdle) return;
  let left = idleMs * 1000 - w[c + RTO_US];
  if (left <= 0) return;
  w[c + SSTHRESH] = currentSsthresh(w, c);
  const restart = Math.min(config.initialWindow, w[c + CWND]);
  let cwnd = w[c + CWND];
  for (; left > 0 && cwnd > restart; left -= w[c + RTO_US]) cwnd >>= 1;
  w[c + CWND] = Math.max(cwnd, restart);
  w[c + CWND_STAMP_MS] = t.ms;
  w[c + CWND_USED] = 0;
}
