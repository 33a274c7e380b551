/**
 * Calls of applications (RFC 9293, section 3.9.1; tcp(7)): none blocks, each returns a count or -errno, and what happens
 * later is told by events. A connection is named by the id that openSocket() or accept() has given.
 */
import { ERRNO } from "af-xdp-bindings";
import type { FrameViews } from "../wire/views.ts";
import { ackAfterRead } from "./ack-policy.ts";
import { copy } from "./buffers.ts";
import type { Tcp } from "./core.ts";
import { N } from "./counters.ts";
import { openWithSyn } from "./emit.ts";
import { prepare } from "./establish.ts";
import { setFilter } from "./filter.ts";
import { initialSequence } from "./isn.ts";
import { startListening, stopListening } from "./listen.ts";
import { MSS_DEFAULT_4, MSS_DEFAULT_6 } from "./mss.ts";
import { push, tellUrgent } from "./output.ts";
import { choosePort } from "./ports.ts";
import { consume } from "./reassembly.ts";
import { readable } from "./receive.ts";
import { append, appendBytes, isWritable } from "./send-queue.ts";
import { abort, boundFinWait2, dropUnread, finish, release } from "./states.ts";
import {
  CLOSE_WAIT,
  CLOSED,
  CONGESTION,
  ERROR,
  ESTABLISHED,
  EV_ERROR,
  EV_HANGUP,
  EV_READABLE,
  EV_URGENT,
  EV_WRITABLE,
  F_CORK,
  F_FIN_RCVD,
  F_LINGER,
  F_NOSPACE,
  F_OOBINLINE,
  F_ORPHAN,
  F_RCV_SHUT,
  F_SACK,
  F_SND_SHUT,
  F_TS,
  F_URGENT,
  F_V6,
  F_WSCALE,
  FIN_WAIT_1,
  FIN_WAIT_2,
  FLAGS,
  IRS,
  ISS,
  KEEP_COUNTS,
  KEEP_IDLE_MS,
  KEEP_INTERVAL_MS,
  L_ECN_SYN,
  LAST_ACK,
  LINGER_MS,
  LISTEN,
  LISTENER,
  LOCAL,
  LOCKS,
  PEER_MSS,
  PORTS,
  RCV_BUF,
  RCV_HEAD,
  RCV_LOWAT,
  RCV_NXT,
  REMOTE,
  SND_BUF,
  SND_UP,
  STATE,
  SYN_RECEIVED,
  SYN_SENT,
  TCB_WORDS,
  TIME_WAIT,
  URG_VALID,
  URGENT,
  USER_MSS,
  WINDOW_CLAMP,
  WRITE_SEQ,
} from "./tcb.ts";
import { isUnicast } from "./unicast.ts";
import { atMark, isMarkAhead, takeByte, upToMark } from "./urgent.ts";
import { adjustSpace } from "./window.ts";

/** Flags of send() and receive() (include/linux/socket.h). */
export const MSG_OOB = 0x1;
export const MSG_PEEK = 0x2;
export const MSG_MORE = 0x8000;

/** Values of `how` of shutdown(2). */
export const SHUT_RD = 0;
export const SHUT_WR = 1;
export const SHUT_RDWR = 2;

/** A new socket: its id, or -ENFILE. */
export function openSocket(t: Tcp, v6: boolean): number {
  const { w, config } = t;
  const c = t.allocate();
  if (c < 0) {
    t.counters[N.NoConnections]++;
    return -ERRNO.ENFILE;
  }
  w[c + STATE] = CLOSED;
  if (v6) w[c + FLAGS] |= F_V6;
  else {
    w[c + LOCAL + 2] = 0xffff;
    w[c + REMOTE + 2] = 0xffff;
  }
  w[c + LISTENER] = -1;
  w[c + CONGESTION] = config.congestion;
  w[c + RCV_BUF] = config.receiveBuffer;
  w[c + WINDOW_CLAMP] = config.receiveBuffer >> 1;
  w[c + SND_BUF] = config.sendBuffer;
  w[c + KEEP_IDLE_MS] = config.keepIdleMs;
  w[c + KEEP_INTERVAL_MS] = config.keepIntervalMs;
  w[c + KEEP_COUNTS] = config.keepCount << 16;
  w[c + RCV_LOWAT] = 1;
  return c / TCB_WORDS;
}

/** Sets the local address (four words, IPv4 mapped) and port of a socket: before listen() or connect(). */
export function bind(t: Tcp, id: number, address: Int32Array, port: number): void {
  const { w } = t;
  const c = id * TCB_WORDS;
  for (let i = 0; i < 4; i++) w[c + LOCAL + i] = address[i];
  w[c + PORTS] = (port << 16) | (w[c + PORTS] & 0xffff);
}

/** listen(2). 0, -EADDRINUSE, -ENOBUFS, or -EINVAL for a socket that has another use. */
export function listen(t: Tcp, id: number, backlog: number, v6only: boolean): number {
  const state = t.w[id * TCB_WORDS + STATE];
  if (state !== CLOSED && state !== LISTEN) return -ERRNO.EINVAL;
  return startListening(t, id * TCB_WORDS, backlog, v6only);
}

/**
 * connect(2): sends a SYN from the local address that bind() has set. Port 0 there: one is chosen.
 * @returns -EINPROGRESS as a rule; -ENETUNREACH (the address is no host's), -EISCONN, -EALREADY, -EADDRNOTAVAIL (no port is free), -EADDRINUSE, -ENOBUFS
 */
export function connect(t: Tcp, id: number, address: Int32Array, port: number): number {
  const { w, config } = t;
  const c = id * TCB_WORDS;
  const state = w[c + STATE];
  if (state === SYN_SENT || state === SYN_RECEIVED) return -ERRNO.EALREADY;
  if (state !== CLOSED) return -ERRNO.EISCONN;
  if (!isUnicast(address, 0, (w[c + FLAGS] & F_V6) !== 0)) return -ERRNO.ENETUNREACH;
  for (let i = 0; i < 4; i++) w[c + REMOTE + i] = address[i];
  w[c + PORTS] = (w[c + PORTS] & ~0xffff) | port;
  const found = w[c + PORTS] >>> 16 === 0 ? choosePort(t, c) : t.findLike(c) >= 0 ? -ERRNO.EADDRNOTAVAIL : 0;
  if (found < 0) return found;
  let flags = w[c + FLAGS] & ~(F_TS | F_SACK | F_WSCALE);
  if (config.timestamps) flags |= F_TS;
  if (config.sack) flags |= F_SACK;
  if (config.windowScaling) flags |= F_WSCALE;
  w[c + FLAGS] = flags;
  if (config.ecn === 1) w[c + LOCKS] |= L_ECN_SYN;
  w[c + STATE] = SYN_SENT;
  w[c + ISS] = initialSequence(t, c);
  w[c + RCV_NXT] = 0;
  w[c + IRS] = 0;
  // Until its SYN says more (tcp_connect_init).
  w[c + PEER_MSS] = w[c + USER_MSS] || ((w[c + FLAGS] & F_V6) !== 0 ? MSS_DEFAULT_6 : MSS_DEFAULT_4);
  prepare(t, c);
  if (!t.insertFlow(c) || !openWithSyn(t, c)) {
    t.removeFlow(c);
    w[c + STATE] = CLOSED;
    return -ERRNO.ENOBUFS;
  }
  t.counters[N.ActiveOpens]++;
  return -ERRNO.EINPROGRESS;
}

/**
 * Queues bytes and sends what may be sent.
 * @param flags MSG_OOB: the last byte is urgent; MSG_MORE: more follows, so what is less than a segment waits
 * @returns bytes taken, at least 1 unless length is 0; -EAGAIN: no room, EV_WRITABLE will tell; -EPIPE, -ENOTCONN, or
 * the connection's error
 */
export function send(t: Tcp, id: number, views: FrameViews, offset: number, length: number, flags: number): number {
  const c = id * TCB_WORDS;
  const refusal = sendable(t, c);
  if (refusal < 0 || length === 0) return refusal;
  return afterAppend(t, c, append(t, c, views, offset, length), length, flags);
}

/** send() of bytes that lie in any memory. */
export function sendBytes(
  t: Tcp,
  id: number,
  bytes: Uint8Array,
  offset: number,
  length: number,
  flags: number,
): number {
  const c = id * TCB_WORDS;
  const refusal = sendable(t, c);
  if (refusal < 0 || length === 0) return refusal;
  return afterAppend(t, c, appendBytes(t, c, bytes, offset, length), length, flags);
}

/** 0, or why nothing can be written, -errno. */
function sendable(t: Tcp, c: number): number {
  const { w } = t;
  const state = w[c + STATE];
  if (state !== ESTABLISHED && state !== CLOSE_WAIT) {
    if (state === SYN_SENT || state === SYN_RECEIVED) return -ERRNO.EAGAIN;
    return takeError(w, c) || (state === LISTEN ? -ERRNO.ENOTCONN : -ERRNO.EPIPE);
  }
  if ((w[c + FLAGS] & F_SND_SHUT) !== 0) return -ERRNO.EPIPE;
  return (w[c + ERROR] & 0xffff) !== 0 ? takeError(w, c) : 0;
}

/** Of `length` bytes `taken` have been queued: sends what may be sent. Returns what send() does. */
function afterAppend(t: Tcp, c: number, taken: number, length: number, flags: number): number {
  const { w } = t;
  if (taken < length) {
    w[c + FLAGS] |= F_NOSPACE;
    if (taken === 0) {
      if (t.chunks.used >= t.sendChunks) t.counters[N.TCPMemoryFull]++;
      return -ERRNO.EAGAIN;
    }
  }
  if ((flags & MSG_OOB) !== 0 && taken === length) {
    w[c + FLAGS] |= F_URGENT;
    w[c + SND_UP] = w[c + WRITE_SEQ];
  }
  if ((flags & MSG_MORE) !== 0) pushCorked(t, c);
  else push(t, c, false);
  if ((w[c + FLAGS] & F_URGENT) !== 0) tellUrgent(t, c);
  return taken;
}

/** push() as if TCP_CORK were set. */
function pushCorked(t: Tcp, c: number): void {
  const { w } = t;
  const corked = w[c + FLAGS] & F_CORK;
  w[c + FLAGS] |= F_CORK;
  push(t, c, false);
  if (corked === 0) w[c + FLAGS] &= ~F_CORK;
}

/** SO_ERROR as -errno, which it clears. */
export function takeError(w: Int32Array, c: number): number {
  const error = w[c + ERROR] & 0xffff;
  w[c + ERROR] &= ~0xffff;
  return -error;
}

/**
 * Copies bytes that have come in order.
 * @param flags MSG_PEEK: they stay; MSG_OOB: the urgent byte instead
 * @returns bytes; 0: the peer sends no more; -EAGAIN, the connection's error, -EINVAL for an urgent byte that is not there
 */
export function receive(t: Tcp, id: number, views: FrameViews, offset: number, length: number, flags: number): number {
  const { w, chunks } = t;
  const c = id * TCB_WORDS;
  const peeks = (flags & MSG_PEEK) !== 0;
  if ((flags & MSG_OOB) !== 0) return receiveUrgent(t, c, views, offset, length, peeks);
  // Who only looks passes over the urgent byte, and leaves it.
  let passed = peeks && isMarkAhead(w, c) ? 1 : 0;
  if (!peeks && atMark(w, c)) stepOverMark(t, c);
  const there = Math.min(readable(w, c) - passed, length);
  const count = passed === 1 ? there : upToMark(w, c, there);
  if (count <= 0) return length === 0 ? 0 : nothingToRead(w, c);
  let left = count;
  let to = offset;
  for (let chunk = w[c + RCV_HEAD]; left > 0; chunk = chunks.next[chunk]) {
    const here = Math.min(left, chunks.end[chunk] - chunks.begin[chunk] - passed);
    copy(views, to, chunks.views, chunks.begin[chunk] + passed, here);
    to += here;
    left -= here;
    passed = 0;
  }
  if (!peeks) taken(t, c, count);
  return count;
}

/** Whether a socket has nothing to read for now, or no more: 0, -EAGAIN, or its error. */
function nothingToRead(w: Int32Array, c: number): number {
  // The end of the stream comes before whatever has happened since (SOCK_DONE).
  if ((w[c + FLAGS] & F_FIN_RCVD) !== 0) return 0;
  const error = takeError(w, c);
  if (error !== 0) return error;
  const state = w[c + STATE];
  if ((w[c + FLAGS] & F_RCV_SHUT) !== 0 || state === TIME_WAIT) return 0;
  if (state === CLOSED) return w[c + IRS] === 0 && w[c + ISS] === 0 ? -ERRNO.ENOTCONN : 0;
  return state === LISTEN ? -ERRNO.ENOTCONN : -ERRNO.EAGAIN;
}

/**
 * Bytes that can be read where they are: from Tcp.readOffset on in chunks.views, until the next call about this
 * connection. consumed() takes them.
 * @returns how many lie together; 0: none
 */
export function peekChunk(t: Tcp, id: number): number {
  const { w, chunks } = t;
  const c = id * TCB_WORDS;
  const chunk = w[c + RCV_HEAD];
  if (chunk < 0) return 0;
  if (atMark(w, c)) {
    stepOverMark(t, c);
    return peekChunk(t, id);
  }
  t.readOffset = chunks.begin[chunk];
  return upToMark(w, c, chunks.end[chunk] - chunks.begin[chunk]);
}

/** The application has read `count` bytes of what peekChunk() has shown. */
export function consumed(t: Tcp, id: number, count: number): void {
  taken(t, id * TCB_WORDS, count);
}

function taken(t: Tcp, c: number, count: number): void {
  consume(t, c, count);
  adjustSpace(t, c);
  if (hasPeer(t.w[c + STATE])) ackAfterRead(t, c, count, t.w[c + RCV_HEAD] < 0);
}

function hasPeer(state: number): boolean {
  return state === ESTABLISHED || state === FIN_WAIT_1 || state === FIN_WAIT_2;
}

function stepOverMark(t: Tcp, c: number): void {
  const { w } = t;
  if ((w[c + FLAGS] & F_OOBINLINE) !== 0 || readable(w, c) <= 0) return;
  w[c + URGENT] = 0;
  consume(t, c, 1);
}

function receiveUrgent(t: Tcp, c: number, views: FrameViews, offset: number, length: number, peeks: boolean): number {
  const { w } = t;
  if (length === 0) return -ERRNO.EINVAL;
  const byte = takeByte(w, c, peeks);
  if (byte === -1) return -ERRNO.EINVAL;
  if (byte === -2) return -ERRNO.EAGAIN;
  views.bytes[offset] = byte;
  return 1;
}

/** shutdown(2). 0, or -ENOTCONN. */
export function shutdown(t: Tcp, id: number, how: number): number {
  const { w } = t;
  const c = id * TCB_WORDS;
  const state = w[c + STATE];
  if (state === LISTEN) {
    stopListening(t, c);
    return 0;
  }
  if (state === CLOSED || state === TIME_WAIT) return -ERRNO.ENOTCONN;
  if (state === SYN_SENT) {
    finish(t, c, 0);
    return 0;
  }
  if (how !== SHUT_WR) {
    w[c + FLAGS] |= F_RCV_SHUT;
  }
  if (how !== SHUT_RD) sendFin(t, c);
  return 0;
}

/** Our direction ends behind what has been written. */
function sendFin(t: Tcp, c: number): void {
  const { w } = t;
  if ((w[c + FLAGS] & F_SND_SHUT) !== 0) return;
  w[c + FLAGS] |= F_SND_SHUT;
  if (w[c + STATE] === ESTABLISHED || w[c + STATE] === SYN_RECEIVED) w[c + STATE] = FIN_WAIT_1;
  else if (w[c + STATE] === CLOSE_WAIT) w[c + STATE] = LAST_ACK;
  push(t, c, true);
}

/**
 * close(2): the id is the caller's no more. What has been written is still sent, unless SO_LINGER is 0; what has come and
 * was not read resets the connection, for its sender would believe that it was (RFC 2525, section 2.17).
 */
export function close(t: Tcp, id: number): void {
  const { w } = t;
  const c = id * TCB_WORDS;
  const state = w[c + STATE];
  if (state === LISTEN) stopListening(t, c);
  if (state === LISTEN || state === CLOSED) {
    release(t, c);
    return;
  }
  const unread = readable(w, c) > 0;
  dropUnread(t, c);
  w[c + FLAGS] |= F_ORPHAN;
  if (state === TIME_WAIT) {
    setFilter(t, c, 0);
    return;
  }
  t.orphans++;
  if (state === SYN_SENT) finish(t, c, 0);
  else if (unread) {
    t.counters[N.TCPAbortOnData]++;
    abort(t, c, 0);
  } else if ((w[c + FLAGS] & F_LINGER) !== 0 && w[c + LINGER_MS] === 0) {
    t.counters[N.TCPAbortOnClose]++;
    abort(t, c, 0);
  } else if (t.orphans > t.config.orphansMax) {
    t.counters[N.TCPAbortOnMemory]++;
    abort(t, c, 0);
  } else {
    sendFin(t, c);
    if (w[c + STATE] === FIN_WAIT_2) boundFinWait2(t, c);
  }
}

/** Ends a connection with a RST, whatever it holds. The id is the caller's no more. */
export function abortSocket(t: Tcp, id: number): void {
  const { w } = t;
  const c = id * TCB_WORDS;
  const state = w[c + STATE];
  if (state === LISTEN || state === CLOSED) {
    close(t, id);
    return;
  }
  w[c + FLAGS] |= F_ORPHAN;
  if (state === TIME_WAIT) {
    finish(t, c, 0);
    return;
  }
  t.orphans++;
  t.counters[N.TCPAbortOnClose]++;
  abort(t, c, 0);
}

/** What poll(2) would say: EV_ bits. */
export function poll(t: Tcp, id: number): number {
  const { w } = t;
  const c = id * TCB_WORDS;
  const state = w[c + STATE];
  let bits = 0;
  if ((w[c + ERROR] & 0xffff) !== 0) bits |= EV_ERROR;
  if (state === LISTEN || state === SYN_SENT || state === SYN_RECEIVED) return bits;
  const ended = (w[c + FLAGS] & (F_FIN_RCVD | F_RCV_SHUT)) !== 0 || state === CLOSED || state === TIME_WAIT;
  const bytes = readable(w, c) - (isMarkAhead(w, c) ? 1 : 0);
  if (ended || bytes >= w[c + RCV_LOWAT]) bits |= EV_READABLE;
  if (state === CLOSED || state === TIME_WAIT || (ended && (w[c + FLAGS] & F_SND_SHUT) !== 0)) bits |= EV_HANGUP;
  if ((w[c + FLAGS] & F_SND_SHUT) !== 0 || isWritable(w, c)) bits |= EV_WRITABLE;
  else w[c + FLAGS] |= F_NOSPACE;
  if ((w[c + URGENT] & URG_VALID) !== 0) bits |= EV_URGENT;
  return bits;
}
