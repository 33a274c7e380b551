/**
 * CUBIC (RFC 9438; net/ipv4/tcp_cubic.c), windows in segments and times in seconds as in the RFC, with slow start ended
 * by HyStart's rise of the round trip (S. Ha and I. Rhee, 2011).
 */
import type { Tcp } from "../core.ts";
import { CC_STATE, CWND, PRIOR_CWND, SND_NXT, SND_UNA, SRTT_US, SSTHRESH } from "../tcb.ts";
import { additive } from "./control.ts";
import { inSlowStart } from "./window.ts";

/** C and beta_cubic of RFC 9438, sections 4.1.2 and 4.6; beta is 717/1024 in Linux. */
const C = 0.4;
const BETA = 717 / 1024;
/** alpha of the region where Reno would be faster (section 4.3). */
const ALPHA = (3 * (1 - BETA)) / (1 + BETA);
/** Windows grow by half a round trip's worth at most (section 4.4). */
const TARGET_MAX = 1.5;
/** HyStart: windows from which it looks, samples a round, and the rise that ends slow start, microseconds. */
const HYSTART_WINDOW = 16;
const HYSTART_SAMPLES = 8;
const HYSTART_RISE_MIN_US = 4000;
const HYSTART_RISE_MAX_US = 16_000;

// float64 by index in Tcp.f, at (c + field) / 2.
/** W_max, K (seconds), the window at which the curve is flat, W_est. */
const W_MAX = CC_STATE;
const K = CC_STATE + 2;
const ORIGIN = CC_STATE + 4;
const W_EST = CC_STATE + 6;
// int32.
/** t_epoch, ms; 0: the next acknowledgment begins one. */
const EPOCH_MS = CC_STATE + 8;
/** The round that is measured, its least RTT, its samples; the least of all. */
const ROUND_END = CC_STATE + 9;
const ROUND_RTT = CC_STATE + 10;
const SAMPLES = CC_STATE + 11;
const DELAY_MIN = CC_STATE + 12;

export function reset(t: Tcp, c: number): void {
  const { w, f } = t;
  f[(c + W_MAX) >> 1] = 0;
  f[(c + K) >> 1] = 0;
  f[(c + ORIGIN) >> 1] = 0;
  f[(c + W_EST) >> 1] = 0;
  w[c + EPOCH_MS] = 0;
  w[c + ROUND_END] = w[c + SND_NXT];
  w[c + ROUND_RTT] = 0;
  w[c + SAMPLES] = 0;
  w[c + DELAY_MIN] = 0;
}

export function ssthresh(t: Tcp, c: number): number {
  const { w, f } = t;
  const cwnd = w[c + CWND];
  w[c + EPOCH_MS] = 0;
  // Fast convergence (section 4.7): a window that has shrunk leaves room to others.
  f[(c + W_MAX) >> 1] = cwnd < f[(c + W_MAX) >> 1] ? (cwnd * (1 + BETA)) / 2 : cwnd;
  return Math.max((cwnd * BETA) | 0, 2);
}

export function avoid(t: Tcp, c: number, acked: number): void {
  const { w, f } = t;
  const cwnd = w[c + CWND];
  if (w[c + EPOCH_MS] === 0) beginEpoch(t, c, cwnd);
  // At the window that was cut, Reno's own pace (section 4.3).
  const before = f[(c + W_EST) >> 1];
  const prior = w[c + PRIOR_CWND];
  const estimate = before + ((prior > 0 && before >= prior ? 1 : ALPHA) * acked) / cwnd;
  f[(c + W_EST) >> 1] = estimate;
  const seconds = (t.ms - w[c + EPOCH_MS]) / 1000 + (w[c + SRTT_US] >> 3) / 1e6;
  const offset = seconds - f[(c + K) >> 1];
  let target = f[(c + ORIGIN) >> 1] + C * offset * offset * offset;
  if (target < estimate) target = estimate;
  if (target > cwnd * TARGET_MAX) target = cwnd * TARGET_MAX;
  // Segments delivered for one more in the window; near the flat of the curve it stands nearly still.
  const each = target > cwnd ? cwnd / (target - cwnd) : 100 * cwnd;
  additive(w, c, Math.max(Math.round(each), 2), acked);
}

function beginEpoch(t: Tcp, c: number, cwnd: number): void {
  const { w, f } = t;
  w[c + EPOCH_MS] = t.ms === 0 ? 1 : t.ms;
  f[(c + W_EST) >> 1] = cwnd;
  const most = f[(c + W_MAX) >> 1];
  if (most > cwnd) {
    f[(c + K) >> 1] = Math.cbrt((most - cwnd) / C);
    f[(c + ORIGIN) >> 1] = most;
  } else {
    f[(c + K) >> 1] = 0;
    f[(c + ORIGIN) >> 1] = cwnd;
  }
}

/** Time in which nothing was in flight is not the epoch's (section 5.8). */
export function pause(w: Int32Array, c: number, idleMs: number): void {
  if (w[c + EPOCH_MS] !== 0 && idleMs > 0) w[c + EPOCH_MS] += idleMs;
}

/** Slow start ends when a round's least RTT is above the least of all by an eighth of it. */
export function sampled(t: Tcp, c: number, rttUs: number): void {
  const { w } = t;
  if (w[c + DELAY_MIN] === 0 || rttUs < w[c + DELAY_MIN]) w[c + DELAY_MIN] = Math.max(rttUs, 1);
  if (!inSlowStart(w, c)) return;
  if (((w[c + SND_UNA] - w[c + ROUND_END]) | 0) >= 0) {
    w[c + ROUND_END] = w[c + SND_NXT];
    w[c + SAMPLES] = 0;
    w[c + ROUND_RTT] = 0;
  }
  if (w[c + CWND] < HYSTART_WINDOW) return;
  if (w[c + ROUND_RTT] === 0 || rttUs < w[c + ROUND_RTT]) w[c + ROUND_RTT] = rttUs;
  if (w[c + SAMPLES] < HYSTART_SAMPLES) {
    w[c + SAMPLES]++;
    return;
  }
  const rise = Math.min(Math.max(w[c + DELAY_MIN] >> 3, HYSTART_RISE_MIN_US), HYSTART_RISE_MAX_US);
  if (w[c + ROUND_RTT] > w[c + DELAY_MIN] + rise) w[c + SSTHRESH] = w[c + CWND];
}
