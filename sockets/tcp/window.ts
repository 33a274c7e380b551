/**
 * The receive window: what is told to the peer (RFC 9293, section 3.8.6.2.2; __tcp_select_window in
 * net/ipv4/tcp_output.c), and the size of the buffer behind it (dynamic right-sizing, tcp_rcv_space_adjust).
 */
import type { Tcp } from "./core.ts";
import { N } from "./counters.ts";
import { advertisedMss } from "./mss.ts";
import { TS_LENGTH } from "./options.ts";
import { tallyCopied } from "./tally.ts";
import {
  ADV_MSS,
  COPIED,
  F_ORPHAN,
  F_PASSIVE,
  F_TS,
  FLAGS,
  L_CLAMP,
  L_RCVBUF,
  LOCKS,
  MSS,
  QUICK,
  RCV_BUF,
  RCV_MSS,
  RCV_NXT,
  RCV_RTT_SEQ,
  RCV_RTT_TIME_US,
  RCV_RTT_US,
  RCV_SSTHRESH,
  RCV_WND,
  RCV_WUP,
  SCALES,
  SPACE,
  SPACE_SEQ,
  SPACE_US,
  WINDOW_CLAMP,
} from "./tcb.ts";

/** The most a shift may be (RFC 7323, section 2.3), and a window before shifting. */
export const SCALE_MAX = 14;
export const WINDOW_FIELD_MAX = 65_535;
/** An echo older than this is no measurement. */
const ECHO_MAX_MS = 60_000;

/** Chunks that a connection may hold for receiving: its buffer, and the two that every queue may begin and end in. */
export function chunkLimit(t: Tcp, c: number): number {
  return (t.w[c + RCV_BUF] >> t.chunks.shift) + 2;
}

/** The shift we ask for: what the largest buffer's window needs. */
export function scaleFor(bufferMax: number): number {
  let scale = 0;
  // As tcp_select_initial_window: the whole buffer, for the part that is window may change.
  while (scale < SCALE_MAX && bufferMax >> scale > WINDOW_FIELD_MAX) scale++;
  return scale;
}

/** Sets a new connection's window; the first one told is never scaled. Its bound is that of what can be told (tcp_select_initial_window). */
export function initWindow(t: Tcp, c: number): void {
  const { w, config } = t;
  w[c + ADV_MSS] = advertisedMss(t, c);
  const mss = w[c + ADV_MSS] - ((w[c + FLAGS] & F_TS) !== 0 && (w[c + FLAGS] & F_PASSIVE) !== 0 ? TS_LENGTH : 0);
  const scale = config.windowScaling ? scaleFor(config.receiveBufferMax) : 0;
  if ((w[c + LOCKS] & L_CLAMP) === 0) w[c + WINDOW_CLAMP] = WINDOW_FIELD_MAX << scale;
  let space = Math.min(w[c + RCV_BUF] >> 1, w[c + WINDOW_CLAMP]);
  if (space > mss) space -= space % mss;
  w[c + RCV_WND] = Math.min(space, WINDOW_FIELD_MAX);
  w[c + RCV_SSTHRESH] = w[c + RCV_WND];
  w[c + RCV_WUP] = w[c + RCV_NXT];
  w[c + COPIED] = w[c + RCV_NXT];
  w[c + SPACE_SEQ] = w[c + RCV_NXT];
  w[c + SPACE_US] = t.us;
  w[c + SPACE] = Math.min(w[c + RCV_WND], 10 * mss);
}

/** The handshake is over: the buffer bounds the window, but for a segment (tcp_init_buffer_space). */
export function beginWindow(t: Tcp, c: number): void {
  const { w } = t;
  const most = w[c + RCV_BUF] >> 1;
  const mss = advertisedMss(t, c) - ((w[c + FLAGS] & F_TS) !== 0 ? TS_LENGTH : 0);
  let clamp = Math.min(w[c + WINDOW_CLAMP], most);
  if (clamp > 2 * mss && clamp + mss > most) clamp = Math.max(2 * mss, most - mss);
  w[c + WINDOW_CLAMP] = clamp;
  w[c + RCV_SSTHRESH] = Math.min(w[c + RCV_SSTHRESH], clamp);
}

/** Bytes of what has been told that are still open: RCV.WND of RFC 9293. */
export function receiveWindow(w: Int32Array, c: number): number {
  const open = (w[c + RCV_WUP] + w[c + RCV_WND] - w[c + RCV_NXT]) | 0;
  return Math.max(open, 0);
}

/** Room for the peer's bytes beyond RCV.NXT. */
function freeSpace(w: Int32Array, c: number): number {
  return (w[c + RCV_BUF] >> 1) - ((w[c + RCV_NXT] - w[c + COPIED]) | 0);
}

/** The window to tell from now on: never less of it than was told before, nothing rather than little. */
export function newWindow(t: Tcp, c: number): number {
  const { w } = t;
  const allowed = w[c + RCV_BUF] >> 1;
  const full = Math.min(w[c + WINDOW_CLAMP], allowed);
  const mss = Math.min(w[c + RCV_MSS], full);
  const scale = w[c + SCALES] >> 8;
  let free = freeSpace(w, c);
  if (free < full >> 1) {
    w[c + QUICK] = 0;
    if (t.pressure()) w[c + RCV_SSTHRESH] = Math.min(w[c + RCV_SSTHRESH], 4 * w[c + MSS]);
    free = free > 0 ? (free >> scale) << scale : 0;
    // Silly-window avoidance: the right edge moves by a segment or by a sixteenth of the buffer, or not at all.
    if (free < allowed >> 4 || free < mss) return 0;
  }
  if (free > w[c + RCV_SSTHRESH]) free = w[c + RCV_SSTHRESH];
  if (scale > 0) return ((free + (1 << scale) - 1) >> scale) << scale;
  const told = w[c + RCV_WND];
  if (told <= free - mss || told > free) return free - (free % mss);
  if (mss === full && free > told + (full >> 1)) return free;
  return told;
}

/** The window for the segment being sent, which is remembered as told: its header field, scaled. */
export function tellWindow(t: Tcp, c: number): number {
  const { w } = t;
  const scale = w[c + SCALES] >> 8;
  const open = receiveWindow(w, c);
  let window = newWindow(t, c);
  // RFC 9293, section 3.8.6: SHLD-14, never shrink.
  if (window < open) window = ((open + (1 << scale) - 1) >> scale) << scale;
  window = Math.min(window, WINDOW_FIELD_MAX << scale);
  if (w[c + RCV_WND] === 0 && window > 0) t.counters[N.TCPFromZeroWindowAdv]++;
  else if (window === 0 && w[c + RCV_WND] > 0) t.counters[N.TCPToZeroWindowAdv]++;
  w[c + RCV_WND] = window;
  w[c + RCV_WUP] = w[c + RCV_NXT];
  return window >> scale;
}

/** After a read: true when the window has grown so much that the peer is to be told (__tcp_cleanup_rbuf). */
export function windowGrown(t: Tcp, c: number): boolean {
  const { w } = t;
  if ((w[c + FLAGS] & F_ORPHAN) !== 0) return false;
  const open = receiveWindow(w, c);
  if (2 * open > Math.min(w[c + WINDOW_CLAMP], w[c + RCV_BUF] >> 1)) return false;
  const next = newWindow(t, c);
  return next > 0 && next >= 2 * open;
}

/** A segment of `length` bytes has come in order: the peer uses the window, so it may grow (tcp_grow_window). */
export function growWindow(t: Tcp, c: number, length: number): void {
  const { w } = t;
  const limit = w[c + RCV_SSTHRESH];
  if (length < 128 || limit >= w[c + WINDOW_CLAMP] || limit >= freeSpace(w, c) || t.pressure()) return;
  w[c + RCV_SSTHRESH] = Math.min(limit + 2 * Math.max(w[c + MSS], length), w[c + WINDOW_CLAMP]);
}

/** One sample of the round trip as the receiver sees it. */
function roundTrip(w: Int32Array, c: number, sample: number, exact: boolean): void {
  const known = w[c + RCV_RTT_US];
  const us = Math.max(sample, 1);
  // A sample by windows is never too short, so the least counts; one by timestamps is averaged.
  if (known === 0) w[c + RCV_RTT_US] = us;
  else if (exact) w[c + RCV_RTT_US] = known + ((us - known) >> 3);
  else if (us < known) w[c + RCV_RTT_US] = us;
}

/** Measures the round trip without timestamps: a window full of bytes takes one at least (tcp_rcv_rtt_measure). */
export function measureByWindow(t: Tcp, c: number): void {
  const { w } = t;
  if (w[c + RCV_RTT_TIME_US] !== 0) {
    if (((w[c + RCV_NXT] - w[c + RCV_RTT_SEQ]) | 0) < 0) return;
    const elapsed = (t.us - w[c + RCV_RTT_TIME_US]) | 0;
    // After half an hour the clock has come round.
    if (elapsed >= 0) roundTrip(w, c, elapsed, false);
  }
  w[c + RCV_RTT_SEQ] = (w[c + RCV_NXT] + w[c + RCV_WND]) | 0;
  w[c + RCV_RTT_TIME_US] = t.us === 0 ? 1 : t.us;
}

/** Measures it by the timestamp that a full segment echoes. */
export function measureByTimestamp(w: Int32Array, c: number, elapsedMs: number): void {
  if (elapsedMs < 0 || elapsedMs > ECHO_MAX_MS) return;
  roundTrip(w, c, elapsedMs * 1000, true);
}

/** After a read of the application: a buffer that a round trip fills grows to twice what was read, and then some. */
export function adjustSpace(t: Tcp, c: number): void {
  const { w } = t;
  const rtt = w[c + RCV_RTT_US];
  if (rtt === 0) return;
  const elapsed = (t.us - w[c + SPACE_US]) | 0;
  if (elapsed >= 0 && elapsed < rtt) return;
  const copied = (w[c + COPIED] - w[c + SPACE_SEQ]) | 0;
  const space = w[c + SPACE];
  if (copied > space) {
    if ((w[c + LOCKS] & L_RCVBUF) === 0 && !t.pressure()) {
      const window = 2 * copied + 16 * w[c + MSS];
      const wanted = 2 * (window + 2 * window * ((copied - space) / space));
      const buffer = Math.min(wanted, t.config.receiveBufferMax) | 0;
      if (buffer > w[c + RCV_BUF]) {
        w[c + RCV_BUF] = buffer;
        if ((w[c + LOCKS] & L_CLAMP) === 0) w[c + WINDOW_CLAMP] = buffer >> 1;
      }
    }
    w[c + SPACE] = copied;
  }
  tallyCopied(w, c);
  w[c + SPACE_SEQ] = w[c + COPIED];
  w[c + SPACE_US] = t.us;
}
