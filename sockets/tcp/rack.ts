/** Losses by time of sending (RFC 8985, section 6; net/ipv4/tcp_recovery.c): RACK. */
import type { Tcp } from "./core.ts";
import { markLost } from "./marks.ts";
import { scheduleReorder, TIMEOUT_MIN_US } from "./retransmit-timer.ts";
import { SEG_END, SEG_EVER_RETRANS, SEG_FLAGS, SEG_LATER, SEG_LOST, SEG_RETRANS, SEG_US } from "./segments.ts";
import {
  CA_RECOVERY,
  CA_STATE,
  F_DSACK_SEEN,
  F_REORDER_SEEN,
  FLAGS,
  MIN_RTT_US,
  RACK_END,
  RACK_HEAD,
  RACK_RTT_US,
  RACK_US,
  REO_PERSIST,
  REO_ROUND,
  REO_STEPS,
  REORDERING,
  SACKED_OUT,
  SND_NXT,
  SND_UNA,
  SRTT_US,
} from "./tcb.ts";

const REO_STEPS_MAX = 255;
/** Recoveries that a widened window lasts (RFC 8985, section 6.2, step 4). */
export const REO_PERSIST_ROUNDS = 16;

/** True when a was sent after b; segments sent in one microsecond are in the order of their bytes. */
function sentAfter(a: number, aEnd: number, b: number, bEnd: number): boolean {
  const later = (a - b) | 0;
  return later > 0 || (later === 0 && ((aEnd - bEnd) | 0) > 0);
}

/** A segment has been delivered: steps 1 and 2 of section 6.2. */
export function rackAdvance(t: Tcp, c: number, node: number): void {
  const { w } = t;
  const s = t.segments.words;
  const sent = s[node + SEG_US];
  const rtt = (t.us - sent) | 0;
  // An acknowledgment that comes sooner than any has is of the original, not of its retransmission.
  if (rtt < w[c + MIN_RTT_US] && (s[node + SEG_FLAGS] & SEG_EVER_RETRANS) !== 0) return;
  t.rackAdvanced = true;
  w[c + RACK_RTT_US] = rtt;
  if (w[c + RACK_RTT_US] === 0) w[c + RACK_RTT_US] = 1;
  if (w[c + RACK_END] === 0 && w[c + RACK_US] === 0) {
    w[c + RACK_US] = sent;
    w[c + RACK_END] = s[node + SEG_END];
    return;
  }
  if (!sentAfter(sent, s[node + SEG_END], w[c + RACK_US], w[c + RACK_END])) return;
  w[c + RACK_US] = sent;
  w[c + RACK_END] = s[node + SEG_END];
}

/** How much later than its successors a segment may come, microseconds. */
function reorderWindow(t: Tcp, c: number): number {
  const { w } = t;
  if ((w[c + FLAGS] & F_REORDER_SEEN) === 0) {
    if (w[c + CA_STATE] >= CA_RECOVERY) return 0;
    if (w[c + SACKED_OUT] >= w[c + REORDERING]) return 0;
  }
  return Math.min((w[c + MIN_RTT_US] >> 2) * w[c + REO_STEPS], w[c + SRTT_US] >> 3);
}

/** Microseconds until a segment counts as lost. */
export function rackTimeLeft(t: Tcp, c: number, node: number, window: number): number {
  return (t.w[c + RACK_RTT_US] + window - (t.us - t.segments.words[node + SEG_US])) | 0;
}

/** Marks lost what was sent so long before what has been delivered. Returns how long others must wait, 0: none does. */
export function rackDetect(t: Tcp, c: number): number {
  const { w, segments } = t;
  const s = segments.words;
  const window = reorderWindow(t, c);
  let timeout = 0;
  let node = w[c + RACK_HEAD];
  while (node >= 0) {
    const next = s[node + SEG_LATER];
    const marks = s[node + SEG_FLAGS] & (SEG_LOST | SEG_RETRANS);
    if (marks !== SEG_LOST) {
      if (!sentAfter(w[c + RACK_US], w[c + RACK_END], s[node + SEG_US], s[node + SEG_END])) break;
      const left = rackTimeLeft(t, c, node, window);
      if (left <= 0) {
        markLost(t, c, node);
        segments.unlist(w, c, node);
      } else if (left > timeout) timeout = left;
    }
    node = next;
  }
  return timeout;
}

/** After an acknowledgment. True: the timer is set for what may yet count as lost. */
export function rackMarkLost(t: Tcp, c: number): boolean {
  if (!t.rackAdvanced) return false;
  t.rackAdvanced = false;
  const timeout = rackDetect(t, c);
  if (timeout === 0) return false;
  scheduleReorder(t, c, timeout + TIMEOUT_MIN_US);
  return true;
}

/** Widens the window after a DSACK, once a round trip (section 6.2, step 4). */
export function updateReorderWindow(w: Int32Array, c: number): void {
  if ((w[c + FLAGS] & F_DSACK_SEEN) !== 0) {
    w[c + FLAGS] &= ~F_DSACK_SEEN;
    if (((w[c + SND_UNA] - w[c + REO_ROUND]) | 0) < 0) return;
    w[c + REO_STEPS] = Math.min(w[c + REO_STEPS] + 1, REO_STEPS_MAX);
    w[c + REO_ROUND] = w[c + SND_NXT];
    w[c + REO_PERSIST] = REO_PERSIST_ROUNDS;
  } else if (w[c + REO_PERSIST] === 0) w[c + REO_STEPS] = 1;
}
