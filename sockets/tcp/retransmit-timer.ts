/** The RETX timer: one for retransmission, tail loss probe, reordering and window probe, of which one is set at a time. */
import type { Tcp } from "./core.ts";
import { SEG_US } from "./segments.ts";
import {
  BACKOFF,
  CA_CWR,
  CA_OPEN,
  CA_STATE,
  F_SACK,
  FLAGS,
  PACKETS_OUT,
  PENDING,
  PENDING_LOSS_PROBE,
  PENDING_NONE,
  PENDING_PROBE,
  PENDING_REORDER,
  PENDING_RETRANS,
  RETRANS_STAMP_MS,
  RETRIES,
  RETX_AT_US,
  RETX_SET_US,
  RTO_US,
  SEG_HEAD,
  SRTT_US,
  TIMER_RETX,
  USER_TIMEOUT_MS,
} from "./tcb.ts";

/** TCP_TIMEOUT_MIN: a timer's least time, two ticks of a kernel at 1000 Hz. */
export const TIMEOUT_MIN_US = 2000;
/** TCP_RESOURCE_PROBE_INTERVAL: when something local was missing. */
export const RESOURCE_PROBE_US = 500_000;

function setRetx(t: Tcp, c: number, pending: number, us: number): void {
  const { w } = t;
  const at = (t.us + us) | 0;
  w[c + PENDING] = pending;
  w[c + RETX_AT_US] = at;
  if (t.hasTimer(c, TIMER_RETX) && ((w[c + RETX_SET_US] - at) | 0) <= 0) return;
  w[c + RETX_SET_US] = at;
  t.setTimer(c, TIMER_RETX, us);
}

/** The timer has fired. False: it has been moved on, or stopped, and has been seen to. */
export function isRetxDue(t: Tcp, c: number): boolean {
  const { w } = t;
  if (w[c + PENDING] === PENDING_NONE) return false;
  const left = (w[c + RETX_AT_US] - t.us) | 0;
  if (left <= 0) return true;
  w[c + RETX_SET_US] = w[c + RETX_AT_US];
  t.setTimer(c, TIMER_RETX, left);
  return false;
}

/** Sets the retransmission timer `us` from now. */
export function startRetransmit(t: Tcp, c: number, us: number): void {
  setRetx(t, c, PENDING_RETRANS, Math.min(us, t.config.rtoMaxMs * 1000));
}

export function stopRetx(w: Int32Array, c: number): void {
  w[c + PENDING] = PENDING_NONE;
}

/** Microseconds until the first segment has been in flight for an RTO, which may be past. */
function rtoLeft(t: Tcp, c: number): number {
  const { w } = t;
  const node = w[c + SEG_HEAD];
  if (node < 0) return w[c + RTO_US];
  return (t.segments.words[node + SEG_US] + w[c + RTO_US] - t.us) | 0;
}

/** After an acknowledgment, or a probe: an RTO from now, or from when the first was sent (tcp_rearm_rto). */
export function rearmRetransmit(t: Tcp, c: number): void {
  const { w } = t;
  if (w[c + PACKETS_OUT] === 0) {
    stopRetx(w, c);
    return;
  }
  const pending = w[c + PENDING];
  let us = w[c + RTO_US];
  if (pending === PENDING_REORDER || pending === PENDING_LOSS_PROBE) us = Math.max(rtoLeft(t, c), 1);
  startRetransmit(t, c, us);
}

/**
 * Sets the tail loss probe in place of the retransmission timer (RFC 8985, section 7.2; tcp_schedule_loss_probe).
 * @param advancing the retransmission timer would begin now
 */
export function scheduleLossProbe(t: Tcp, c: number, advancing: boolean): boolean {
  const { w, config } = t;
  const state = w[c + CA_STATE];
  if (w[c + PACKETS_OUT] === 0 || (w[c + FLAGS] & F_SACK) === 0 || (state !== CA_OPEN && state !== CA_CWR))
    return false;
  let us = config.rtoInitMs * 1000;
  if (w[c + SRTT_US] > 0)
    us = (w[c + SRTT_US] >> 2) + (w[c + PACKETS_OUT] === 1 ? config.rtoMinMs * 1000 : TIMEOUT_MIN_US);
  const rto = advancing ? w[c + RTO_US] : rtoLeft(t, c);
  if (rto > 0) us = Math.min(us, rto);
  setRetx(t, c, PENDING_LOSS_PROBE, us);
  return true;
}

export function scheduleReorder(t: Tcp, c: number, us: number): void {
  setRetx(t, c, PENDING_REORDER, us);
}

/** Data waits and nothing is in flight: `us` from now the peer is asked whether its window has opened. */
export function schedulePush(t: Tcp, c: number, us: number): void {
  setRetx(t, c, PENDING_PROBE, Math.min(us, t.config.rtoMaxMs * 1000));
}

/** The time to the next window probe: doubled each time. */
export function probeDelay(t: Tcp, c: number): number {
  const { w, config } = t;
  return Math.min(w[c + RTO_US] * 2 ** w[c + BACKOFF], config.rtoMaxMs * 1000);
}

/** Time that `boundary` retransmissions from an RTO of `baseMs` take, ms (tcp_model_timeout). */
function modelTimeout(t: Tcp, boundary: number, baseMs: number): number {
  const most = t.config.rtoMaxMs;
  const doublings = 31 - Math.clz32((most / baseMs) | 0);
  if (boundary <= doublings) return (2 ** (boundary + 1) - 1) * baseMs;
  return (2 ** (doublings + 1) - 1) * baseMs + (boundary - doublings) * most;
}

/** True when timeouts in a row have lasted as long as `boundary` of them would, or `timeoutMs` where that is not 0. */
export function timedOut(t: Tcp, c: number, boundary: number, timeoutMs: number): boolean {
  const { w } = t;
  if (w[c + RETRIES] === 0) return false;
  const limit = timeoutMs !== 0 ? timeoutMs : modelTimeout(t, boundary, t.config.rtoMinMs);
  return ((t.ms - w[c + RETRANS_STAMP_MS]) | 0) >= limit;
}

/** An RTO or probe delay shortened so that TCP_USER_TIMEOUT is noticed when it ends. */
export function clampToUserTimeout(t: Tcp, c: number, us: number, sinceMs: number): number {
  const limit = t.w[c + USER_TIMEOUT_MS];
  if (limit === 0 || sinceMs === 0) return us;
  const left = limit - ((t.ms - sinceMs) | 0);
  return left <= 0 ? 1000 : Math.min(us, left * 1000);
}
