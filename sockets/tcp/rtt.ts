/** Round trip times and what follows from them (RFC 6298 as in net/ipv4/tcp_input.c: tcp_rtt_estimator, tcp_set_rto). */
import { sampled } from "./congestion/control.ts";
import type { Tcp } from "./core.ts";
import { tallyRound } from "./tally.ts";
import {
  BACKOFF,
  MDEV_MAX_US,
  MDEV_US,
  MIN_RTT_MS,
  MIN_RTT_US,
  RTO_US,
  RTT_SEQ,
  RTTVAR_US,
  SND_NXT,
  SND_UNA,
  SRTT_US,
} from "./tcb.ts";

/** The least RTT is that of the last five minutes (net.ipv4.tcp_min_rtt_wlen). */
const MIN_RTT_WINDOW_MS = 300_000;

/** A sample, microseconds. */
export function takeSample(t: Tcp, c: number, rttUs: number): void {
  const { w } = t;
  const sample = Math.max(rttUs, 1);
  if (w[c + MIN_RTT_US] === 0 || sample <= w[c + MIN_RTT_US] || ((t.ms - w[c + MIN_RTT_MS]) | 0) > MIN_RTT_WINDOW_MS) {
    w[c + MIN_RTT_US] = sample;
    w[c + MIN_RTT_MS] = t.ms;
  }
  estimate(t, c, sample);
  setRto(t, c);
  w[c + BACKOFF] = 0;
  sampled(t, c, sample);
}

function estimate(t: Tcp, c: number, sample: number): void {
  const { w } = t;
  const least = t.config.rtoMinMs * 1000;
  let srtt = w[c + SRTT_US];
  if (srtt === 0) {
    w[c + SRTT_US] = sample << 3;
    w[c + MDEV_US] = sample << 1;
    w[c + RTTVAR_US] = Math.max(w[c + MDEV_US], least);
    w[c + MDEV_MAX_US] = w[c + RTTVAR_US];
    w[c + RTT_SEQ] = w[c + SND_NXT];
    return;
  }
  let deviation = sample - (srtt >> 3);
  srtt += deviation;
  w[c + SRTT_US] = Math.max(srtt, 1);
  if (deviation < 0) {
    deviation = -deviation - (w[c + MDEV_US] >> 2);
    // A fall of the RTT is not to raise the RTO: it counts an eighth.
    if (deviation > 0) deviation >>= 3;
  } else deviation -= w[c + MDEV_US] >> 2;
  w[c + MDEV_US] += deviation;
  if (w[c + MDEV_US] > w[c + MDEV_MAX_US]) {
    w[c + MDEV_MAX_US] = w[c + MDEV_US];
    if (w[c + MDEV_MAX_US] > w[c + RTTVAR_US]) w[c + RTTVAR_US] = w[c + MDEV_MAX_US];
  }
  if (((w[c + SND_UNA] - w[c + RTT_SEQ]) | 0) > 0) {
    if (w[c + MDEV_MAX_US] < w[c + RTTVAR_US]) w[c + RTTVAR_US] -= (w[c + RTTVAR_US] - w[c + MDEV_MAX_US]) >> 2;
    w[c + RTT_SEQ] = w[c + SND_NXT];
    w[c + MDEV_MAX_US] = least;
    tallyRound(t, c);
  }
}

/** RTO of the estimate as it is, without the doublings of timeouts. */
function setRto(t: Tcp, c: number): void {
  const { w } = t;
  if (w[c + SRTT_US] !== 0) w[c + RTO_US] = estimatedRto(t, c);
}

/** What round trips say that the RTO is, microseconds, within its bounds. */
export function estimatedRto({ w, config }: Tcp, c: number): number {
  const us = (w[c + SRTT_US] >> 3) + w[c + RTTVAR_US];
  return Math.min(Math.max(us, config.rtoMinMs * 1000), config.rtoMaxMs * 1000);
}
