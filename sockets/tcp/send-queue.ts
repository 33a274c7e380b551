/** What the application has written: bytes in chunks from SND.UNA on, the place of the first unsent one, and the bound. */
import type { FrameViews } from "../wire/views.ts";
import type { Tcp } from "./core.ts";
import {
  CWND,
  EV_WRITABLE,
  F_NOSPACE,
  F_SND_SHUT,
  FLAGS,
  L_SNDBUF,
  LOCKS,
  MSS,
  NOTSENT_LOWAT,
  REORDERING,
  SND_BUF,
  SND_CHUNK,
  SND_HEAD,
  SND_NXT,
  SND_OFFSET,
  SND_TAIL,
  SND_UNA,
  WRITE_SEQ,
} from "./tcb.ts";

/**
 * What Linux charges a segment in flight besides its bytes: headers and struct skb_shared_info, the whole rounded up to a power of
 * two, and struct sk_buff (tcp_sndbuf_expand, on x86-64 with the drivers of a distribution).
 */
const SEGMENT_HEAD = 640;
const SEGMENT_NOTE = 256;

/** SIOCOUTQ and SIOCOUTQNSD: queuedBytes(), and our FIN counts as a byte. Another thread may ask. */
export function outstanding(w: Int32Array, c: number, unsent: boolean): number {
  const fin = (w[c + FLAGS] & F_SND_SHUT) !== 0 ? 1 : 0;
  return Math.max((w[c + WRITE_SEQ] + fin - w[c + (unsent ? SND_NXT : SND_UNA)]) | 0, 0);
}

/** Bytes written and not acknowledged, or with `unsent` those not sent. Another thread may ask. */
export function queuedBytes(w: Int32Array, c: number, unsent = false): number {
  // SND.UNA is beyond WRITE_SEQ once our FIN is acknowledged, and behind it by the SYN at the start.
  const queued = (w[c + WRITE_SEQ] - w[c + (unsent ? SND_NXT : SND_UNA)]) | 0;
  return Math.max(queued, 0);
}

/** Bytes that may be written now. */
export function sendSpace(w: Int32Array, c: number): number {
  const space = w[c + SND_BUF] - queuedBytes(w, c);
  return Math.max(space, 0);
}

/** True when poll() says writable: a third of the buffer is free, and little is unsent (sk_stream_is_writeable). */
export function isWritable(w: Int32Array, c: number): boolean {
  const unsent = (w[c + WRITE_SEQ] - w[c + SND_NXT]) | 0;
  const low = w[c + NOTSENT_LOWAT];
  // Half of it, so that a writer is woken for more than a byte (__tcp_stream_memory_free).
  if (low > 0 && 2 * unsent >= low) return false;
  return sendSpace(w, c) >= queuedBytes(w, c) >> 1;
}

/** The handshake is over: room for the first window, as Linux counts it. */
export function beginSendBuffer(t: Tcp, c: number): void {
  const { w, config } = t;
  if ((w[c + LOCKS] & L_SNDBUF) !== 0) return;
  const charge = 2 ** Math.ceil(Math.log2(w[c + MSS] + SEGMENT_HEAD)) + SEGMENT_NOTE;
  const wanted = 2 * Math.max(config.initialWindow, w[c + REORDERING] + 1) * charge;
  w[c + SND_BUF] = Math.max(w[c + SND_BUF], Math.min(wanted, config.sendBufferMax));
}

/** Bytes have been acknowledged: the buffer grows with the window (tcp_sndbuf_expand), and who waits for room hears of it. */
export function spaceFreed(t: Tcp, c: number): void {
  const { w, config } = t;
  if ((w[c + FLAGS] & F_NOSPACE) === 0) return;
  if ((w[c + LOCKS] & L_SNDBUF) === 0 && !t.pressure()) {
    const wanted = 2 * Math.max(config.initialWindow, w[c + CWND], w[c + REORDERING] + 1) * w[c + MSS];
    if (wanted > w[c + SND_BUF]) w[c + SND_BUF] = Math.min(wanted, config.sendBufferMax);
  }
  if (!isWritable(w, c)) return;
  w[c + FLAGS] &= ~F_NOSPACE;
  if ((w[c + FLAGS] & F_SND_SHUT) === 0) t.event(c, EV_WRITABLE);
}

/** Appends bytes; how many there was room and memory for. */
export function append(t: Tcp, c: number, views: FrameViews, offset: number, length: number): number {
  const { w, chunks } = t;
  const most = Math.min(length, sendSpace(w, c));
  let done = 0;
  let tail = w[c + SND_TAIL];
  if (tail >= 0) done = chunks.append(tail, views, offset, most);
  while (done < most && chunks.used < t.sendChunks) {
    const chunk = chunks.take(offset + done);
    if (chunk < 0) break;
    if (tail < 0) w[c + SND_HEAD] = chunk;
    else chunks.next[tail] = chunk;
    w[c + SND_TAIL] = chunk;
    if (w[c + SND_CHUNK] < 0) {
      w[c + SND_CHUNK] = chunk;
      w[c + SND_OFFSET] = chunks.begin[chunk];
    }
    tail = chunk;
    done += chunks.append(chunk, views, offset + done, most - done);
  }
  w[c + WRITE_SEQ] = (w[c + WRITE_SEQ] + done) | 0;
  return done;
}

/** append() of bytes that lie in any memory. */
export function appendBytes(t: Tcp, c: number, bytes: Uint8Array, offset: number, length: number): number {
  const { w, chunks } = t;
  const most = Math.min(length, sendSpace(w, c));
  const tail = w[c + SND_TAIL];
  let done = tail >= 0 ? chunks.appendBytes(tail, bytes, offset, most) : 0;
  while (done < most) {
    const chunk = nextChunk(t, c, 0);
    if (chunk < 0) break;
    done += chunks.appendBytes(chunk, bytes, offset + done, most - done);
  }
  w[c + WRITE_SEQ] = (w[c + WRITE_SEQ] + done) | 0;
  return done;
}

/** An empty chunk at the end of the send queue, -1: there is none. */
function nextChunk(t: Tcp, c: number, like: number): number {
  const { w, chunks } = t;
  if (chunks.used >= t.sendChunks) return -1;
  const chunk = chunks.take(like);
  if (chunk < 0) return -1;
  const tail = w[c + SND_TAIL];
  if (tail < 0) w[c + SND_HEAD] = chunk;
  else chunks.next[tail] = chunk;
  w[c + SND_TAIL] = chunk;
  if (w[c + SND_CHUNK] < 0) {
    w[c + SND_CHUNK] = chunk;
    w[c + SND_OFFSET] = chunks.begin[chunk];
  }
  return chunk;
}

/** Frees everything written: the connection is over. */
export function purge(t: Tcp, c: number): void {
  const { w, chunks } = t;
  chunks.giveAll(w[c + SND_HEAD]);
  w[c + SND_HEAD] = -1;
  w[c + SND_TAIL] = -1;
  w[c + SND_CHUNK] = -1;
}
