/** Ends of connections: states that wait, and records given back. */
import { ERRNO } from "af-xdp-bindings";
import type { Tcp } from "./core.ts";
import { N } from "./counters.ts";
import { sendReset } from "./emit.ts";
import { setFilter } from "./filter.ts";
import { halfOpenDone } from "./listen.ts";
import { pruneLast } from "./reassembly.ts";
import { stopRetx } from "./retransmit-timer.ts";
import { purge } from "./send-queue.ts";
import {
  CLOSE_WAIT,
  CLOSED,
  ERROR,
  EV_CLOSED,
  EV_ERROR,
  EV_HANGUP,
  F_ORPHAN,
  F_PASSIVE,
  FLAGS,
  L_GSO,
  L_PUSH_TURN,
  LINGER2_MS,
  LISTEN,
  LOCKS,
  LOST_OUT,
  PACKETS_OUT,
  RCV_CHUNKS,
  RCV_HEAD,
  RCV_TAIL,
  RETRANS_OUT,
  SACKED_OUT,
  STATE,
  SYN_RECEIVED,
  SYN_SENT,
  TIME_WAIT,
  TIMER_DELACK,
  TIMER_KEEP,
  TIMER_PACE,
  TIMER_RETX,
} from "./tcb.ts";

/** errno to be told once by SO_ERROR or the next call: the lower half of ERROR. */
const ERROR_MASK = 0xffff;

/** Frees what is in flight and what was to be sent. */
function stopSending(t: Tcp, c: number): void {
  const { w } = t;
  t.segments.giveAll(w, c);
  w[c + PACKETS_OUT] = 0;
  w[c + SACKED_OUT] = 0;
  w[c + LOST_OUT] = 0;
  w[c + RETRANS_OUT] = 0;
  purge(t, c);
  stopRetx(w, c);
}

function stopTimers(t: Tcp, c: number): void {
  t.stopTimer(c, TIMER_RETX);
  t.stopTimer(c, TIMER_DELACK);
  t.stopTimer(c, TIMER_KEEP);
  t.stopTimer(c, TIMER_PACE);
}

/** Frees what came out of order: nothing comes any more. */
export function dropRanges(t: Tcp, c: number): void {
  while (pruneLast(t, c));
}

/** Frees what has come and was not read. */
export function dropUnread(t: Tcp, c: number): void {
  const { w } = t;
  t.chunks.giveAll(w[c + RCV_HEAD]);
  w[c + RCV_HEAD] = -1;
  w[c + RCV_TAIL] = -1;
  w[c + RCV_CHUNKS] = 0;
}

/**
 * The connection is over (tcp_done): it leaves the table and sends no more. What has come can still be read, until the
 * application closes it; an orphan's record is given back.
 * @param errno for the application, 0 for none
 */
export function finish(t: Tcp, c: number, errno: number): void {
  const { w } = t;
  const state = w[c + STATE];
  if (state === SYN_SENT || state === SYN_RECEIVED) t.counters[N.AttemptFails]++;
  if (state === TIME_WAIT) t.timeWaits--;
  if (state === SYN_RECEIVED) halfOpenDone(t, c);
  if (state !== CLOSED && state !== LISTEN) t.removeFlow(c);
  w[c + STATE] = CLOSED;
  w[c + LOCKS] &= ~(L_GSO | L_PUSH_TURN);
  stopSending(t, c);
  stopTimers(t, c);
  dropRanges(t, c);
  const orphan = (w[c + FLAGS] & F_ORPHAN) !== 0;
  if (orphan && state !== TIME_WAIT) t.orphans--;
  // A half-open connection belongs to nobody but its listener.
  if (orphan || (state === SYN_RECEIVED && (w[c + FLAGS] & F_PASSIVE) !== 0)) {
    release(t, c);
    return;
  }
  w[c + ERROR] = (errno << 16) | (errno !== 0 ? errno : w[c + ERROR] & ERROR_MASK);
  t.event(c, EV_HANGUP | EV_CLOSED | (errno !== 0 ? EV_ERROR : 0));
}

/** Gives a record back that is CLOSED, and whatever it holds still. */
export function release(t: Tcp, c: number): void {
  stopSending(t, c);
  dropRanges(t, c);
  dropUnread(t, c);
  stopTimers(t, c);
  t.giveBack(c);
}

/** Ends a connection with a RST to the peer, where it has one to hear it (RFC 9293, section 3.10.5). */
export function abort(t: Tcp, c: number, errno: number): void {
  const state = t.w[c + STATE];
  if (state !== CLOSED && state !== LISTEN && state !== SYN_SENT && state !== TIME_WAIT) sendReset(t, c);
  finish(t, c, errno);
}

/** Both sides have closed, and our last acknowledgment may be lost: the record waits (RFC 9293, section 3.6.1). */
export function enterTimeWait(t: Tcp, c: number): void {
  const { w } = t;
  if (t.timeWaits >= t.config.timeWaitMax) {
    t.counters[N.TCPTimeWaitOverflow]++;
    finish(t, c, 0);
    return;
  }
  w[c + STATE] = TIME_WAIT;
  t.timeWaits++;
  t.counters[N.TW]++;
  stopSending(t, c);
  dropRanges(t, c);
  t.stopTimer(c, TIMER_RETX);
  t.stopTimer(c, TIMER_DELACK);
  t.stopTimer(c, TIMER_PACE);
  if ((w[c + FLAGS] & F_ORPHAN) !== 0) {
    dropUnread(t, c);
    t.orphans--;
    // It would see nothing more.
    setFilter(t, c, 0);
  } else t.event(c, EV_HANGUP | EV_CLOSED);
  t.setTimer(c, TIMER_KEEP, t.config.timeWaitMs * 1000);
}

/** Our FIN is acknowledged and the peer's is awaited: an orphan does not wait for ever. */
export function boundFinWait2(t: Tcp, c: number): void {
  const { w } = t;
  if ((w[c + FLAGS] & F_ORPHAN) === 0) return;
  if (w[c + LINGER2_MS] < 0) {
    t.counters[N.TCPAbortOnLinger]++;
    abort(t, c, 0);
    return;
  }
  const ms = w[c + LINGER2_MS] === 0 ? t.config.finTimeoutMs : w[c + LINGER2_MS];
  t.setTimer(c, TIMER_KEEP, ms * 1000);
}

/** The peer has reset the connection (tcp_reset). */
export function resetByPeer(t: Tcp, c: number): void {
  const state = t.w[c + STATE];
  if (state === SYN_SENT) {
    finish(t, c, ERRNO.ECONNREFUSED);
    return;
  }
  t.counters[N.EstabResets]++;
  finish(t, c, state === CLOSE_WAIT ? ERRNO.EPIPE : ERRNO.ECONNRESET);
}
