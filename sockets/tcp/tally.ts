/**
 * What a connection has done so far, for TCP_INFO: counts a segment, and what needs no more than a look a round trip.
 * Sequence numbers say how many bytes came and were acknowledged, once it is known how often they have come round.
 */
import type { Tcp } from "./core.ts";
import {
  ACKED_ROUNDS,
  BUSY_SINCE_US,
  BUSY_US,
  BYTES_RETRANS,
  COPIED,
  COPIED_ROUNDS,
  DATA_SEGS_OUT,
  DELIVERED,
  IRS,
  ISS,
  MIN_RTT_US,
  PACKETS_OUT,
  RATE_SEGMENTS,
  RATE_US,
  ROUND_BUSY_US,
  ROUND_DELIVERED,
  ROUND_UNA,
  SEGS_OUT,
  SND_UNA,
  SPACE_SEQ,
  TOTAL_RETRANS,
} from "./tcb.ts";

/** Segments have left, with `length` bytes of data. */
export function tallySent(w: Int32Array, c: number, length: number, segments = 1): void {
  w[c + SEGS_OUT] += segments;
  if (length > 0) w[c + DATA_SEGS_OUT] += segments;
}

/** It was one that had left before. */
export function tallySentAgain(t: Tcp, c: number, length: number): void {
  t.w[c + TOTAL_RETRANS]++;
  t.f[(c + BYTES_RETRANS) >> 1] += length;
}

/** The last segment in flight has been acknowledged; in the next round trip's time nothing may be. */
export function tallyIdle(t: Tcp, c: number): void {
  const { w } = t;
  w[c + ROUND_BUSY_US] = (w[c + ROUND_BUSY_US] + t.us - w[c + BUSY_SINCE_US]) | 0;
}

/** A round trip has ended: what was in flight at its start has been acknowledged. */
export function tallyRound(t: Tcp, c: number): void {
  const { w } = t;
  if (w[c + PACKETS_OUT] > 0) {
    tallyIdle(t, c);
    w[c + BUSY_SINCE_US] = t.us;
  }
  const delivered = (w[c + DELIVERED] - w[c + ROUND_DELIVERED]) | 0;
  const busy = w[c + ROUND_BUSY_US] >>> 0;
  // What took no round trip was measured wrong (tcp_rate_gen).
  if (delivered > 0 && busy >= w[c + MIN_RTT_US]) {
    w[c + RATE_SEGMENTS] = delivered;
    w[c + RATE_US] = busy;
  }
  t.f[(c + BUSY_US) >> 1] += busy;
  w[c + ROUND_BUSY_US] = 0;
  w[c + ROUND_DELIVERED] = w[c + DELIVERED];
  if (cameRound(w[c + SND_UNA], w[c + ROUND_UNA], w[c + ISS])) w[c + ACKED_ROUNDS]++;
  w[c + ROUND_UNA] = w[c + SND_UNA];
}

/** SPACE_SEQ is about to become COPIED. */
export function tallyCopied(w: Int32Array, c: number): void {
  if (cameRound(w[c + COPIED], w[c + SPACE_SEQ], w[c + IRS])) w[c + COPIED_ROUNDS]++;
}

/** Whether sequence numbers have passed their beginning from `before` on, which is less than 2^32 of them ago. */
export function cameRound(now: number, before: number, beginning: number): boolean {
  return (now - beginning) >>> 0 < (before - beginning) >>> 0;
}
