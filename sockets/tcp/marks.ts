/** Marks on segments in flight, and the counts that go with them. */
import type { Tcp } from "./core.ts";
import { N } from "./counters.ts";
import { SEG_FLAGS, SEG_LOST, SEG_NEXT, SEG_RETRANS, SEG_SACKED } from "./segments.ts";
import { LOST_OUT, RETRANS_OUT, SACKED_OUT, SEG_HEAD } from "./tcb.ts";

/** Marks a segment lost, and its retransmission if there was one; one that was SACKed is not. */
export function markLost(t: Tcp, c: number, node: number): void {
  const { w } = t;
  const s = t.segments.words;
  const flags = s[node + SEG_FLAGS];
  if ((flags & SEG_SACKED) !== 0) return;
  if ((flags & SEG_RETRANS) !== 0) {
    w[c + RETRANS_OUT]--;
    t.counters[N.TCPLostRetransmit]++;
  }
  if ((flags & SEG_LOST) === 0) w[c + LOST_OUT]++;
  s[node + SEG_FLAGS] = (flags & ~SEG_RETRANS) | SEG_LOST;
  t.newlyLost++;
}

/** Nothing is lost after all. */
export function unmarkLost(t: Tcp, c: number): void {
  const s = t.segments.words;
  for (let node = t.w[c + SEG_HEAD]; node >= 0; node = s[node + SEG_NEXT]) s[node + SEG_FLAGS] &= ~SEG_LOST;
  t.w[c + LOST_OUT] = 0;
}

/** The peer has dropped what it reported: every report is forgotten (RFC 2018, section 8). */
export function unmarkSacked(t: Tcp, c: number): void {
  const s = t.segments.words;
  for (let node = t.w[c + SEG_HEAD]; node >= 0; node = s[node + SEG_NEXT]) s[node + SEG_FLAGS] &= ~SEG_SACKED;
  t.w[c + SACKED_OUT] = 0;
}
