/** Timers that are due: retransmission (RFC 6298, section 5), probes, delayed acknowledgments, keepalive, waits, pacing. */
import { ERRNO } from "af-xdp-bindings";
import { ackTimer } from "./ack-policy.ts";
import { SSTHRESH_MAX } from "./congestion/window.ts";
import type { Tcp } from "./core.ts";
import { N } from "./counters.ts";
import { inFlight } from "./emit.ts";
import { keepaliveTimer } from "./keepalive.ts";
import { sendLossProbe } from "./loss-probe.ts";
import { push, wakeUp } from "./output.ts";
import { blackHole } from "./pmtu.ts";
import { rackDetect } from "./rack.ts";
import { enterLoss, recoverAfterTimer } from "./recovery.ts";
import { retransmit, retransmitLost } from "./retransmit.ts";
import {
  clampToUserTimeout,
  isRetxDue,
  probeDelay,
  RESOURCE_PROBE_US,
  rearmRetransmit,
  schedulePush,
  startRetransmit,
  stopRetx,
  timedOut,
} from "./retransmit-timer.ts";
import { estimatedRto } from "./rtt.ts";
import { abort, finish } from "./states.ts";
import {
  BACKOFF,
  DEFER_COUNT,
  ERROR,
  ESTABLISHED,
  F_ACKED,
  F_FIN_SENT,
  F_ORPHAN,
  F_PASSIVE,
  F_SND_SHUT,
  FIN_WAIT_2,
  FLAGS,
  FREE,
  L_ECN_SYN,
  L_THIN,
  LOCKS,
  PACKETS_OUT,
  PENDING,
  PENDING_LOSS_PROBE,
  PENDING_NONE,
  PENDING_PROBE,
  PENDING_REORDER,
  PENDING_RETRANS,
  PROBES_OUT,
  PROBES_SINCE_MS,
  RETRANS_STAMP_MS,
  RETRIES,
  RTO_US,
  SEG_HEAD,
  SND_NXT,
  SSTHRESH,
  STATE,
  SYN_COUNT,
  SYN_RECEIVED,
  SYN_SENT,
  TCB_WORDS,
  TIME_WAIT,
  TIMER_DELACK,
  TIMER_KEEP,
  TIMER_PACE,
  TIMER_RETX,
  TIMERS,
  USER_TIMEOUT_MS,
  WRITE_SEQ,
} from "./tcb.ts";

/** A stream with fewer segments in flight is thin; so many of its timeouts do not double (TCP_THIN_LINEAR_RETRIES). */
const THIN_SEGMENTS = 4;
const THIN_LINEAR_RETRIES = 6;

/** Fires what is due at the time that begin() has brought. Returns how many timers there were. */
export function runTimers(t: Tcp): number {
  const { expired, timers } = t;
  let total = 0;
  for (;;) {
    const count = timers.advance(t.tick, expired);
    for (let i = 0; i < count; i++) fire(t, expired[i]);
    total += count;
    if (count < expired.length) return total;
  }
}

function fire(t: Tcp, id: number): void {
  const c = ((id / TIMERS) | 0) * TCB_WORDS;
  const state = t.w[c + STATE];
  // Its connection has ended since it was found due.
  if (state === FREE) return;
  switch (id % TIMERS) {
    case TIMER_RETX:
      if (isRetxDue(t, c)) retxTimer(t, c);
      return;
    case TIMER_DELACK:
      ackTimer(t, c);
      return;
    case TIMER_KEEP:
      if (state === TIME_WAIT) finish(t, c, 0);
      else if (state === FIN_WAIT_2 && (t.w[c + FLAGS] & F_ORPHAN) !== 0) finish(t, c, 0);
      else keepaliveTimer(t, c);
      return;
    case TIMER_PACE:
      retransmitLost(t, c);
      push(t, c, false);
  }
}

function retxTimer(t: Tcp, c: number): void {
  const { w } = t;
  const pending = w[c + PENDING];
  stopRetx(w, c);
  if (pending === PENDING_RETRANS) retransmitTimer(t, c);
  else if (pending === PENDING_PROBE) probeTimer(t, c);
  else if (pending === PENDING_LOSS_PROBE) {
    w[c + PENDING] = PENDING_LOSS_PROBE;
    sendLossProbe(t, c);
  } else if (pending === PENDING_REORDER) reorderTimer(t, c);
}

/** RACK's wait for what may only be late is over. */
function reorderTimer(t: Tcp, c: number): void {
  const { w } = t;
  const before = inFlight(w, c);
  t.ackFlags = 0;
  t.newlyLost = 0;
  rackDetect(t, c);
  if (inFlight(w, c) !== before) {
    recoverAfterTimer(t, c);
    retransmitLost(t, c);
  }
  if (w[c + PENDING] === PENDING_NONE) rearmRetransmit(t, c);
}

/** The retransmission timeout (tcp_retransmit_timer). */
function retransmitTimer(t: Tcp, c: number): void {
  const { w, config } = t;
  if (w[c + PACKETS_OUT] === 0) return;
  if (w[c + RETRIES] === 0) w[c + RETRANS_STAMP_MS] = firstSent(t, c);
  if (isOver(t, c)) {
    giveUp(t, c);
    return;
  }
  t.counters[N.TCPTimeouts]++;
  const state = w[c + STATE];
  // A path may drop what asks for ECN (RFC 3168, section 6.1.1.1).
  if (state === SYN_SENT) w[c + LOCKS] &= ~L_ECN_SYN;
  if (state !== SYN_RECEIVED && state !== SYN_SENT) {
    if (w[c + RETRIES] >= config.retries1) blackHole(t, c);
    t.newlyLost = 0;
    enterLoss(t, c);
  }
  w[c + RETRIES]++;
  // TCP_DEFER_ACCEPT: who has acknowledged is asked again only at the end of the time (syn_ack_recalc).
  const deferred = state === SYN_RECEIVED && (w[c + FLAGS] & F_ACKED) !== 0 && w[c + RETRIES] < w[c + DEFER_COUNT];
  if (deferred) {
    w[c + RTO_US] = Math.min(w[c + RTO_US] * 2, config.rtoMaxMs * 1000);
    startRetransmit(t, c, w[c + RTO_US]);
    return;
  }
  if (!retransmit(t, c, w[c + SEG_HEAD])) {
    // No frame: soon again, and it does not count as a doubling.
    startRetransmit(t, c, Math.min(w[c + RTO_US], RESOURCE_PROBE_US));
    return;
  }
  w[c + RTO_US] = isLinear(w, c) ? estimatedRto(t, c) : Math.min(w[c + RTO_US] * 2, config.rtoMaxMs * 1000);
  startRetransmit(t, c, clampToUserTimeout(t, c, w[c + RTO_US], w[c + RETRANS_STAMP_MS]));
}

/** Whether a timeout does not double the next one: TCP_THIN_LINEAR_TIMEOUTS, of a stream that is thin (tcp_stream_is_thin). */
function isLinear(w: Int32Array, c: number): boolean {
  if ((w[c + LOCKS] & L_THIN) === 0 || w[c + STATE] !== ESTABLISHED) return false;
  return w[c + PACKETS_OUT] < THIN_SEGMENTS && w[c + SSTHRESH] < SSTHRESH_MAX && w[c + RETRIES] <= THIN_LINEAR_RETRIES;
}

/** When what has now timed out was sent, ms, never 0. */
function firstSent(t: Tcp, c: number): number {
  const at = (t.ms - ((t.w[c + RTO_US] / 1000) | 0)) | 0;
  return at === 0 ? 1 : at;
}

/** Whether timeouts have gone on for as long as is allowed (tcp_write_timeout; R2 of RFC 9293, section 3.8.3). */
function isOver(t: Tcp, c: number): boolean {
  const { w, config } = t;
  const state = w[c + STATE];
  const limit = w[c + USER_TIMEOUT_MS];
  if (state === SYN_SENT || state === SYN_RECEIVED) {
    let most = w[c + SYN_COUNT] !== 0 ? w[c + SYN_COUNT] : config.synRetries;
    if ((w[c + FLAGS] & F_PASSIVE) !== 0) {
      most = config.synAckRetries;
      // Deferred: what has not sent data by then is dropped without a word, as in inet_csk_reqsk_queue_prune.
      if ((w[c + FLAGS] & F_ACKED) !== 0) most = Math.max(most, w[c + DEFER_COUNT]);
    }
    return w[c + RETRIES] >= most || (limit > 0 && timedOut(t, c, 0, limit));
  }
  if ((w[c + FLAGS] & F_ORPHAN) !== 0 && timedOut(t, c, config.orphanRetries, 0)) return true;
  return timedOut(t, c, config.retries2, limit);
}

function giveUp(t: Tcp, c: number): void {
  t.counters[N.TCPAbortOnTimeout]++;
  finish(t, c, softError(t.w, c));
}

/** What ICMP has reported while nothing came through, else ETIMEDOUT. */
function softError(w: Int32Array, c: number): number {
  return w[c + ERROR] >>> 16 || ERRNO.ETIMEDOUT;
}

/** The peer's window is closed, or something local was missing: it is asked (RFC 9293, section 3.8.6.1; tcp_probe_timer). */
function probeTimer(t: Tcp, c: number): void {
  const { w, config } = t;
  const waiting =
    ((w[c + WRITE_SEQ] - w[c + SND_NXT]) | 0) > 0 || (w[c + FLAGS] & (F_SND_SHUT | F_FIN_SENT)) === F_SND_SHUT;
  if (w[c + PACKETS_OUT] > 0 || !waiting) {
    w[c + PROBES_OUT] = 0;
    w[c + PROBES_SINCE_MS] = 0;
    return;
  }
  const limit = w[c + USER_TIMEOUT_MS];
  if (w[c + PROBES_SINCE_MS] === 0) w[c + PROBES_SINCE_MS] = t.ms === 0 ? 1 : t.ms;
  else if (limit > 0 && ((t.ms - w[c + PROBES_SINCE_MS]) | 0) >= limit) {
    giveUp(t, c);
    return;
  }
  const orphan = (w[c + FLAGS] & F_ORPHAN) !== 0;
  if (w[c + PROBES_OUT] >= (orphan ? config.orphanRetries : config.retries2)) {
    if (orphan) t.counters[N.TCPAbortOnTimeout]++;
    if (orphan) abort(t, c, 0);
    else giveUp(t, c);
    return;
  }
  const sent = wakeUp(t, c);
  if (w[c + PACKETS_OUT] > 0) {
    w[c + PROBES_OUT] = 0;
    w[c + BACKOFF] = 0;
    w[c + PROBES_SINCE_MS] = 0;
    return;
  }
  // What was missing here is no word of the peer's.
  let us = RESOURCE_PROBE_US;
  if (sent) {
    w[c + PROBES_OUT]++;
    t.counters[N.TCPWinProbe]++;
    if (w[c + BACKOFF] < config.retries2) w[c + BACKOFF]++;
    us = probeDelay(t, c);
  }
  schedulePush(t, c, clampToUserTimeout(t, c, us, w[c + PROBES_SINCE_MS]));
}
