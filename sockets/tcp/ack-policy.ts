/**
 * When what has come is acknowledged (RFC 9293, section 3.8.6.3; RFC 5681, section 4.2), as Linux does it: at once for
 * the first segments and after anything unusual (quick ACK), with the answer where the application answers (pingpong),
 * every second full segment, and after 40 ms at most else (net/ipv4/tcp_input.c, tcp_event_data_recv, __tcp_ack_snd_check).
 */
import type { Tcp } from "./core.ts";
import { N } from "./counters.ts";
import { sendAck } from "./emit.ts";
import {
  ACK,
  ACK_AT_US,
  ACK_NOW,
  ACK_PUSHED,
  ACK_PUSHED2,
  ACK_SCHEDULED,
  ACK_TIMER,
  ACK_TURN,
  ACK_TURN_NOW,
  ATO_US,
  CLOSED,
  COPIED,
  F_PINGPONG,
  FLAGS,
  FREE,
  LAST_LENGTH,
  LAST_RCV_MS,
  MSS,
  OOO_HEAD,
  QUICK,
  RCV_LOWAT,
  RCV_MSS,
  RCV_NXT,
  RCV_WND,
  RCV_WUP,
  RTO_US,
  SRTT_US,
  STATE,
  TIME_WAIT,
  TIMER_DELACK,
} from "./tcb.ts";
import { newWindow, windowGrown } from "./window.ts";

/** TCP_MAX_QUICKACKS. */
const QUICK_MAX = 16;
/** The least segment size believed (TCP_MIN_MSS). */
const RCV_MSS_MIN = 88;
/** Half a second: nothing is delayed longer (RFC 9293, MUST-40). */
const DELAY_MAX_US = 500_000;

/** What a new connection expects of its peer's segments (tcp_initialize_rcv_mss). */
export function initAckPolicy(w: Int32Array, c: number): void {
  const hint = Math.min(w[c + MSS], 536, w[c + RCV_WND] >> 1);
  w[c + RCV_MSS] = Math.max(hint, RCV_MSS_MIN);
}

/** The next `most` segments are acknowledged at once, or as many as half a window has. */
function moreQuick(w: Int32Array, c: number, most: number): void {
  const half = (w[c + RCV_WND] / (2 * w[c + RCV_MSS])) | 0;
  const quick = Math.min(half === 0 ? 2 : half, most);
  if (quick > w[c + QUICK]) w[c + QUICK] = quick;
}

/** Something unusual has come: acknowledgments are not to wait for a while (tcp_enter_quickack_mode). */
export function enterQuickAck(t: Tcp, c: number, most = QUICK_MAX): void {
  const { w } = t;
  moreQuick(w, c, most);
  w[c + FLAGS] &= ~F_PINGPONG;
  w[c + ATO_US] = t.config.delackMinMs * 1000;
}

/** `length` bytes have come in order: an acknowledgment is owed. */
export function dataReceived(t: Tcp, c: number, length: number, pushed: boolean): void {
  const { w } = t;
  let bits = w[c + ACK] | ACK_SCHEDULED;
  const mss = w[c + RCV_MSS];
  if (length >= mss) {
    if (length > mss) w[c + RCV_MSS] = Math.max(mss, Math.min(length, w[c + MSS]));
    if (pushed) bits |= ACK_PUSHED;
  } else {
    // Two alike, neither the end of a write: the peer's segments are that small.
    if (length === w[c + LAST_LENGTH] && length >= RCV_MSS_MIN && !pushed) w[c + RCV_MSS] = length;
    else bits |= (bits & ACK_PUSHED) !== 0 ? ACK_PUSHED | ACK_PUSHED2 : ACK_PUSHED;
    w[c + LAST_LENGTH] = length;
  }
  w[c + ACK] = bits;
  const least = t.config.delackMinMs * 1000;
  const ato = w[c + ATO_US];
  if (ato === 0) {
    moreQuick(w, c, QUICK_MAX);
    w[c + ATO_US] = least;
  } else {
    const gap = (t.ms - w[c + LAST_RCV_MS]) * 1000;
    if (gap <= least >> 1) w[c + ATO_US] = (ato >> 1) + (least >> 1);
    else if (gap < ato) w[c + ATO_US] = Math.min((ato >> 1) + gap, w[c + RTO_US]);
    // After a pause the sender starts slowly again, and needs each acknowledgment.
    else if (gap > w[c + RTO_US]) moreQuick(w, c, QUICK_MAX);
  }
  w[c + LAST_RCV_MS] = t.ms;
}

/** Acknowledges what is owed now, or sees to it that it will be. */
export function ackCheck(t: Tcp, c: number): void {
  const { w } = t;
  const bits = w[c + ACK];
  if ((bits & (ACK_SCHEDULED | ACK_NOW)) === 0) return;
  const quick = w[c + QUICK] > 0 && (w[c + FLAGS] & F_PINGPONG) === 0;
  // What is lost, late or over is told segment by segment: the peer counts.
  if ((bits & ACK_NOW) !== 0 || w[c + OOO_HEAD] >= 0) ackNow(t, c);
  else if (quick || secondSegment(t, c)) ackSoon(t, c);
  else if (!waitForTurn(t, c, 0)) delayAck(t, c);
}

/** Acknowledges with the turn: once for all that a burst brings, and with the application's answer if it gives one meanwhile. */
function ackSoon(t: Tcp, c: number): void {
  if (!waitForTurn(t, c, ACK_TURN_NOW)) ackNow(t, c);
}

/**
 * Puts off to the end of the turn what is to be done about an acknowledgment: mostly an answer has taken it along by then, and
 * no timer was touched for it. False: nobody ends turns here, or too many wait already.
 */
function waitForTurn(t: Tcp, c: number, now: number): boolean {
  const { w } = t;
  if ((w[c + ACK] & ACK_TURN) === 0) {
    if (t.ackTurnCount === t.ackTurn.length) return false;
    t.ackTurn[t.ackTurnCount++] = c;
  }
  w[c + ACK] |= ACK_TURN | now;
  return true;
}

/** The end of a turn: what still owes an acknowledgment sends it, or sets the timer. */
export function acknowledgeTurn(t: Tcp): void {
  const { ackTurn, w } = t;
  for (let i = 0; i < t.ackTurnCount; i++) {
    const c = ackTurn[i];
    const bits = w[c + ACK];
    const state = w[c + STATE];
    // Data or a FIN have taken it along, then the bit has gone; or the connection has.
    if ((bits & ACK_TURN) === 0 || state === FREE || state === CLOSED || state === TIME_WAIT) continue;
    w[c + ACK] = bits & ~(ACK_TURN | ACK_TURN_NOW);
    if ((bits & ACK_TURN_NOW) !== 0) ackNow(t, c);
    else delayAck(t, c);
  }
  t.ackTurnCount = 0;
}

/** More than one full segment is not acknowledged, and the window is not about to be told anyway by a reader. */
function secondSegment(t: Tcp, c: number): boolean {
  const { w } = t;
  if (((w[c + RCV_NXT] - w[c + RCV_WUP]) | 0) <= w[c + RCV_MSS]) return false;
  return ((w[c + RCV_NXT] - w[c + COPIED]) | 0) < w[c + RCV_LOWAT] || newWindow(t, c) >= w[c + RCV_WND];
}

function ackNow(t: Tcp, c: number): void {
  if (sendAck(t, c)) return;
  // No frame: the timer tries again.
  t.w[c + ACK] |= ACK_SCHEDULED;
  scheduleAck(t, c, t.config.delackMinMs * 1000);
}

function delayAck(t: Tcp, c: number): void {
  const { w, config } = t;
  const least = config.delackMinMs * 1000;
  // 0 before any data: a FIN that comes then is acknowledged with the next run of the timers.
  let ato = w[c + ATO_US];
  if (ato > least) {
    const waiting = (w[c + FLAGS] & F_PINGPONG) !== 0 || (w[c + ACK] & ACK_PUSHED) !== 0;
    let most = waiting ? config.delackMaxMs * 1000 : DELAY_MAX_US;
    if (w[c + SRTT_US] > 0) most = Math.min(most, Math.max(w[c + SRTT_US] >> 3, least));
    ato = Math.min(ato, most);
  }
  ato = Math.min(ato, config.delackMaxMs * 1000);
  if ((w[c + ACK] & ACK_TIMER) !== 0) {
    const left = (w[c + ACK_AT_US] - t.us) | 0;
    if (left <= ato >> 2) {
      ackNow(t, c);
      return;
    }
    if (left < ato) return;
  }
  scheduleAck(t, c, ato);
}

function scheduleAck(t: Tcp, c: number, us: number): void {
  const { w } = t;
  w[c + ACK_AT_US] = (t.us + us) | 0;
  w[c + ACK] |= ACK_TIMER;
  // One that is still in the wheel is for no later than 500 ms, and looks at ACK_AT_US when it fires.
  if (!t.hasTimer(c, TIMER_DELACK)) t.setTimer(c, TIMER_DELACK, us);
}

/** The timer has fired (tcp_delack_timer_handler). */
export function ackTimer(t: Tcp, c: number): void {
  const { w } = t;
  if ((w[c + ACK] & ACK_TIMER) === 0) return;
  const left = (w[c + ACK_AT_US] - t.us) | 0;
  if (left > 0) {
    t.setTimer(c, TIMER_DELACK, left);
    return;
  }
  w[c + ACK] &= ~ACK_TIMER;
  if ((w[c + ACK] & ACK_SCHEDULED) === 0) return;
  if ((w[c + FLAGS] & F_PINGPONG) === 0) w[c + ATO_US] = Math.min(w[c + ATO_US] << 1, w[c + RTO_US]);
  else {
    w[c + FLAGS] &= ~F_PINGPONG;
    w[c + ATO_US] = t.config.delackMinMs * 1000;
  }
  t.counters[N.DelayedACKs]++;
  ackNow(t, c);
}

/** A segment with ACK has left (tcp_event_ack_sent): nothing is owed. `acked`: RCV.NXT that it told. */
export function ackSent(t: Tcp, c: number, acked: number): void {
  const { w } = t;
  if (w[c + QUICK] > 0 && --w[c + QUICK] === 0) w[c + ATO_US] = t.config.delackMinMs * 1000;
  if (acked === w[c + RCV_NXT]) w[c + ACK] = 0;
}

/** Data has left soon after data came: the application answers. */
export function dataSent(t: Tcp, c: number): void {
  const { w } = t;
  if ((t.ms - w[c + LAST_RCV_MS]) * 1000 < w[c + ATO_US]) w[c + FLAGS] |= F_PINGPONG;
}

/** The application has read (tcp_cleanup_rbuf). `copied`: bytes, `empty`: nothing is left to read. */
export function ackAfterRead(t: Tcp, c: number, copied: number, empty: boolean): void {
  const { w } = t;
  const bits = w[c + ACK];
  if ((bits & ACK_SCHEDULED) !== 0) {
    const pushed = (bits & ACK_PUSHED2) !== 0 || ((bits & ACK_PUSHED) !== 0 && (w[c + FLAGS] & F_PINGPONG) === 0);
    if (((w[c + RCV_NXT] - w[c + RCV_WUP]) | 0) > w[c + RCV_MSS] || (copied > 0 && pushed && empty)) {
      ackSoon(t, c);
      return;
    }
  }
  if (copied > 0 && windowGrown(t, c)) ackSoon(t, c);
}
