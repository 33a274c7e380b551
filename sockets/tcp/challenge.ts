/** Answers to segments that are not acceptable: bounded, so that nobody can have us send for them (RFC 5961, section 7). */
import { TCP_SYN } from "../wire/tcp.ts";
import { enterQuickAck } from "./ack-policy.ts";
import type { Tcp } from "./core.ts";
import { N } from "./counters.ts";
import { sendAck } from "./emit.ts";
import { CHALLENGE_MS, DSACK_END, DSACK_START, F_DSACK, F_SACK, FLAGS, RCV_NXT } from "./tcb.ts";

/** Whether this connection has been answered within the least time (tcp_invalid_ratelimit); notes it if not. */
function tooSoon(t: Tcp, c: number): boolean {
  const { w } = t;
  const last = w[c + CHALLENGE_MS];
  if (last !== 0) {
    const elapsed = (t.ms - last) | 0;
    if (elapsed >= 0 && elapsed < t.config.invalidRateMs) {
      t.counters[N.TCPACKSkipped]++;
      return true;
    }
  }
  w[c + CHALLENGE_MS] = t.ms === 0 ? 1 : t.ms;
  return false;
}

/** Challenge ACK: who sent what is not acceptable is to prove that it sees our segments (RFC 5961, sections 3 to 5). */
export function challenge(t: Tcp, c: number): void {
  if (tooSoon(t, c)) return;
  const second = Math.floor(t.now / 1e6);
  if (second !== t.challengeSecond) {
    t.challengeSecond = second;
    // Not a round number: its exhaustion would tell a third party of the connection (tcp_send_challenge_ack).
    const half = (t.config.challengeAcks + 1) >> 1;
    t.challenges = half + t.random.below(Math.max(t.config.challengeAcks, 1));
  }
  if (t.challenges === 0) {
    t.counters[N.TCPACKSkipped]++;
    return;
  }
  t.challenges--;
  t.counters[N.TCPChallengeACK]++;
  sendAck(t, c);
}

/** Answers a segment outside the window; one with data always, for data makes no loop (tcp_oow_rate_limited). */
export function answerOutside(t: Tcp, c: number): void {
  if ((t.segLength === 0 || (t.segFlags & TCP_SYN) !== 0) && tooSoon(t, c)) return;
  sendDuplicateAck(t, c);
}

/** An acknowledgment of what is there, with a DSACK for what came again (tcp_send_dupack). */
function sendDuplicateAck(t: Tcp, c: number): void {
  const { w } = t;
  if (t.segEnd !== t.segSeq && ((t.segSeq - w[c + RCV_NXT]) | 0) < 0) {
    enterQuickAck(t, c);
    const end = ((t.segEnd - w[c + RCV_NXT]) | 0) > 0 ? w[c + RCV_NXT] : t.segEnd;
    reportDuplicate(t, c, t.segSeq, end);
    t.counters[N.TCPDSACKOldSent]++;
  }
  sendAck(t, c);
}

/** A DSACK with the next acknowledgment (RFC 2883). */
export function reportDuplicate(t: Tcp, c: number, start: number, end: number): void {
  const { w } = t;
  if (!t.config.dsack || (w[c + FLAGS] & F_SACK) === 0) return;
  w[c + DSACK_START] = start;
  w[c + DSACK_END] = end;
  w[c + FLAGS] |= F_DSACK;
}
