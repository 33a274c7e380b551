/** Segments in TIME_WAIT (RFC 9293, section 3.10.7.4; RFC 6191; tcp_timewait_state_process). */
import { TCP_ACK, TCP_RST, TCP_SYN } from "../wire/tcp.ts";
import { answerOutside } from "./challenge.ts";
import type { Tcp } from "./core.ts";
import { N } from "./counters.ts";
import { hasListener, reopen } from "./listen.ts";
import { OPT_TS } from "./options.ts";
import { finish } from "./states.ts";
import {
  F_TS,
  F_V6,
  FLAGS,
  LOCAL,
  PORTS,
  RCV_NXT,
  REMOTE,
  SND_NXT,
  TIMER_KEEP,
  TS_RECENT,
  TS_RECENT_MS,
} from "./tcb.ts";
import { receiveWindow } from "./window.ts";

/** How far the next connection's numbers begin behind the last's: a window, and SYN and FIN (tcp_timewait_state_process). */
const ISS_STEP = 65_535 + 2;

export function timeWait(t: Tcp, c: number): void {
  const { w, config } = t;
  const stamped = (w[c + FLAGS] & F_TS) !== 0 && (t.options & OPT_TS) !== 0;
  const newer = stamped ? (t.tsVal - w[c + TS_RECENT]) | 0 : 0;
  const old = newer < 0;
  if ((t.segFlags & TCP_RST) !== 0) {
    if (old || t.segSeq !== w[c + RCV_NXT] || !config.resetEndsTimeWait) return;
    t.counters[N.TWKilled]++;
    finish(t, c, 0);
    return;
  }
  // A SYN beyond everything that the old connection has sent, by its number or by its time, begins a new one.
  if ((t.segFlags & (TCP_SYN | TCP_ACK)) === TCP_SYN && !old) {
    if (((t.segSeq - w[c + RCV_NXT]) | 0) > 0 || newer > 0) {
      if (begins(t, c)) return;
    }
  }
  const empty = t.segLength === 0 && t.segSeq === t.segEnd;
  if (!old && empty && ((t.segSeq - w[c + RCV_NXT]) | 0) <= 0 && ((t.segEnd - w[c + RCV_NXT]) | 0) >= 0) {
    if (stamped) {
      w[c + TS_RECENT] = t.tsVal;
      w[c + TS_RECENT_MS] = t.ms;
    }
    return;
  }
  if (old) t.counters[N.PAWSEstab]++;
  const inside = !old && ((t.segEnd - w[c + RCV_NXT]) | 0) <= receiveWindow(w, c);
  // The peer's FIN again: our acknowledgment was lost. The wait begins anew.
  if (inside && (t.segFlags & TCP_ACK) !== 0) t.setTimer(c, TIMER_KEEP, config.timeWaitMs * 1000);
  if ((t.segFlags & (TCP_ACK | TCP_SYN)) !== 0) answerOutside(t, c);
}

/** Lets a listener take the SYN in hand in place of the old connection. False: nobody listens. */
function begins(t: Tcp, c: number): boolean {
  const { w, scratch } = t;
  for (let i = 0; i < 4; i++) {
    w[scratch + LOCAL + i] = w[c + LOCAL + i];
    w[scratch + REMOTE + i] = w[c + REMOTE + i];
  }
  w[scratch + PORTS] = w[c + PORTS];
  w[scratch + FLAGS] = w[c + FLAGS] & F_V6;
  if (!hasListener(t)) return false;
  const next = (w[c + SND_NXT] + ISS_STEP) | 0;
  t.counters[N.TWRecycled]++;
  finish(t, c, 0);
  reopen(t, next === 0 ? 1 : next);
  return true;
}
