/** Pacing (SO_MAX_PACING_RATE, or of every connection by its window): segments leave no faster than at a rate. */
import type { Tcp } from "./core.ts";
import { CWND, MSS, PACE_US, PACING_MAX, PACING_RATE, PACKETS_OUT, SRTT_US, SSTHRESH, TIMER_PACE } from "./tcb.ts";

/** What may leave at once after a pause: a millisecond's worth (sk_pacing_shift), so that timers need not be finer. */
const BURST_US = 1000;
/** A time further ahead than this is one that was long ago: int32 microseconds come round in 71 minutes. */
const AHEAD_MAX_US = 60_000_000;
const RATE_MAX = 0x7fffffff;

/** True when the next segment has to wait; its timer is then set. */
export function paced(t: Tcp, c: number): boolean {
  const { w } = t;
  if (w[c + PACING_RATE] === 0) return false;
  const ahead = (w[c + PACE_US] - t.us) | 0;
  if (ahead <= 0 || ahead > AHEAD_MAX_US) return false;
  if (!t.hasTimer(c, TIMER_PACE)) t.setTimer(c, TIMER_PACE, ahead);
  return true;
}

/** A segment of `length` bytes has left. */
export function paceSent(t: Tcp, c: number, length: number): void {
  const { w } = t;
  const rate = w[c + PACING_RATE];
  if (rate === 0) return;
  const earliest = (t.us - BURST_US) | 0;
  const ahead = (w[c + PACE_US] - earliest) | 0;
  const from = ahead < 0 || ahead > AHEAD_MAX_US + BURST_US ? earliest : w[c + PACE_US];
  w[c + PACE_US] = (from + Math.min((length * 1e6) / rate, AHEAD_MAX_US)) | 0;
}

/** The rate by window and round trip (tcp_update_pacing_rate), no higher than the application's. */
export function updatePacing(t: Tcp, c: number): void {
  const { w, config } = t;
  const most = w[c + PACING_MAX];
  if (!config.pacing && most === 0) return;
  const srtt = w[c + SRTT_US];
  if (srtt === 0) {
    w[c + PACING_RATE] = most;
    return;
  }
  const percent = w[c + CWND] < w[c + SSTHRESH] >> 1 ? config.pacingSlowStartPercent : config.pacingPercent;
  const rate = (w[c + MSS] * Math.max(w[c + CWND], w[c + PACKETS_OUT]) * 8e6 * percent) / 100 / srtt;
  w[c + PACING_RATE] = Math.max(Math.min(rate, most === 0 ? RATE_MAX : most), 1);
}
