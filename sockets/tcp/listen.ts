/** Passive opens (RFC 9293, sections 3.10.1 and 3.10.7.2): listeners, half-open connections, the accept queue. */
import { ERRNO } from "af-xdp-bindings";
import { TCP_ACK, TCP_CWR, TCP_ECE, TCP_FIN, TCP_RST, TCP_SYN } from "../wire/tcp.ts";
import { checkCookie, cookieFlags, cookieScale } from "./cookies.ts";
import type { Tcp } from "./core.ts";
import { N } from "./counters.ts";
import { openWithSyn } from "./emit.ts";
import { becomeEstablished, prepare } from "./establish.ts";
import { inheritFilter, noteFilter, passesListener } from "./filter.ts";
import { INHERITED, INHERITED_FLAGS, INHERITED_LOCKS } from "./inherited.ts";
import { initialSequence } from "./isn.ts";
import { setPeerMss } from "./mss.ts";
import { OPT_MSS, OPT_SACK_PERM, OPT_SCALE, OPT_TS } from "./options.ts";
import { answerCookie, answerReset } from "./stateless.ts";
import { abort, release } from "./states.ts";
import {
  ACCEPT_BACKLOG,
  ACCEPT_QUEUE,
  CLOSED,
  EV_ACCEPT,
  EVENTS,
  F_ECN,
  F_PASSIVE,
  F_SACK,
  F_TS,
  F_V6,
  F_WSCALE,
  FILTER,
  FLAGS,
  HOPS,
  HOPS_PRIORITY,
  IRS,
  ISS,
  L_FILTER,
  L_MIN_HOPS,
  L_UNACCEPTED,
  LISTEN,
  LISTENER,
  LOCAL,
  LOCKS,
  MIN_HOPS,
  PORTS,
  RCV_BUF,
  RCV_NXT,
  RCV_WUP,
  REMOTE,
  SCALES,
  SEGS_IN,
  SND_NXT,
  SND_UNA,
  SND_WL1,
  SND_WND,
  STATE,
  SYN_RECEIVED,
  TCB_WORDS,
  TS_RECENT,
  TS_RECENT_MS,
  USER_MSS,
  WRITE_SEQ,
} from "./tcb.ts";
import { isUnicast } from "./unicast.ts";
import { scaleFor } from "./window.ts";

/** Time in which cookies are looked at after the last was sent, ms (TCP_SYNCOOKIE_VALID). */
const COOKIES_VALID_MS = 120_000;
/** Where a tag holds how often its listener's number has been used. */
const GENERATION_SHIFT = 16;

/** Set up once, at listen(). */
export class Listener {
  /** Its record, which holds its options. */
  readonly c: number;
  /** What LISTENER of its connections says: its number, and how often that has been used, << 16. */
  readonly tag: number;
  readonly port: number;
  readonly v6: boolean;
  /** A wildcard takes every local address; one of IPv6 also those of IPv4 unless `v6only`. */
  readonly any: boolean;
  readonly v6only: boolean;
  /** Connections that may wait to be accepted: one more than the backlog, as in Linux. */
  private most: number;
  /** Half-open connections. */
  halfOpen = 0;
  /** Its socket filter, 0 for none: see filter.ts. */
  filter: number;
  private readonly queue: Int32Array;
  private readonly w: Int32Array;
  private head = 0;
  /** Connections to be accepted. */
  waiting = 0;
  private handed_ = 0;

  constructor(t: Tcp, c: number, tag: number, backlog: number, v6only: boolean) {
    this.c = c;
    this.tag = tag;
    this.port = t.w[c + PORTS] >>> 16;
    this.v6 = (t.w[c + FLAGS] & F_V6) !== 0;
    this.any = isAny(t.w, c + LOCAL, this.v6);
    this.v6only = v6only;
    this.w = t.w;
    this.filter = t.w[c + FILTER];
    this.most = backlog;
    this.queue = new Int32Array(t.config.acceptBacklogMax + 1);
  }

  get backlog(): number {
    return this.most;
  }

  set backlog(most: number) {
    this.most = most;
    this.w[this.c + ACCEPT_BACKLOG] = most;
  }

  /** Connections that another thread was handed and has not accepted yet: they count as if they waited here. */
  get handed(): number {
    return this.handed_;
  }

  set handed(count: number) {
    this.handed_ = count;
    this.tell();
  }

  get full(): boolean {
    return this.waiting + this.handed_ > this.most;
  }

  put(c: number): void {
    this.queue[(this.head + this.waiting++) % this.queue.length] = c;
    this.tell();
  }

  /** Its record is a listener's from now on. */
  begin(): void {
    this.w[this.c + ACCEPT_BACKLOG] = this.most;
    this.tell();
  }

  /** Brings the record up to date, which other threads read. */
  private tell(): void {
    this.w[this.c + ACCEPT_QUEUE] = this.waiting + this.handed_;
  }

  /** The record of the connection that has waited longest, or -1. */
  take(): number {
    if (this.waiting === 0) return -1;
    const c = this.queue[this.head];
    this.head = (this.head + 1) % this.queue.length;
    this.waiting--;
    this.tell();
    return c;
  }
}

/** Whether the address of four words at w[at] is a wildcard. */
function isAny(w: Int32Array, at: number, v6: boolean): boolean {
  return w[at + 3] === 0 && (!v6 || (w[at] === 0 && w[at + 1] === 0 && w[at + 2] === 0));
}

/** The listener of the tag in a record's LISTENER, or null: it has closed. */
export function listenerOf(t: Tcp, c: number): Listener | null {
  const tag = t.w[c + LISTENER];
  if (tag < 0) return null;
  const listener = t.listeners[tag & 0xffff] ?? null;
  return listener !== null && listener.tag === tag ? listener : null;
}

/**
 * Makes a bound record listen (its PORTS, LOCAL and FLAGS say where).
 * @returns 0, or -errno: EADDRINUSE where another listens, ENOBUFS for too many
 */
export function startListening(t: Tcp, c: number, backlog: number, v6only: boolean): number {
  const { w } = t;
  const most = Math.max(0, Math.min(backlog, t.config.acceptBacklogMax));
  if (w[c + STATE] === LISTEN) {
    const own = listenerOf(t, c);
    if (own !== null) own.backlog = most;
    return 0;
  }
  let number = 0;
  while (t.listeners[number] != null) number++;
  if (number >= t.config.listeners) return -ERRNO.ENOBUFS;
  const tag = number | ((++t.listenersMade & 0x7fff) << GENERATION_SHIFT);
  const listener = new Listener(t, c, tag, most, v6only);
  const result = t.chooser.add(t, listener);
  if (result < 0) return result;
  w[c + STATE] = LISTEN;
  w[c + LISTENER] = tag;
  w[c + LOCKS] &= ~L_FILTER;
  listener.begin();
  t.listeners[number] = listener;
  return 0;
}

/** Ends a listener: connections not yet accepted are reset, half-open ones find nobody. */
export function stopListening(t: Tcp, c: number): void {
  const listener = listenerOf(t, c);
  if (listener === null) return;
  t.chooser.remove(t, listener);
  t.listeners[listener.tag & 0xffff] = null;
  t.w[c + STATE] = CLOSED;
  for (let child = listener.take(); child >= 0; child = listener.take()) {
    t.w[child + LOCKS] &= ~L_UNACCEPTED;
    if (t.w[child + STATE] !== CLOSED) abort(t, child, 0);
    release(t, child);
  }
  noteFilter(t.w, c, listener.filter);
}

/** The segment in hand belongs to no connection; the scratch record has its addresses (RFC 9293, sections 3.10.7.1 and 2). */
export function noConnection(t: Tcp): void {
  const { scratch } = t;
  // RFC 9293, MUST-57 and MUST-63: nobody's address, or everybody's.
  if (!isUnicast(t.w, scratch + LOCAL, t.segV6) || !isUnicast(t.w, scratch + REMOTE, t.segV6)) return;
  const listener = t.chooser.find(t, scratch);
  if ((t.segFlags & (TCP_ACK | TCP_RST)) !== 0) {
    const opens = listener !== null && (t.segFlags & (TCP_SYN | TCP_RST)) === 0;
    if ((opens && cookieAcked(t, listener)) || t.elsewhere()) return;
    if (listener === null || listenerLetsIn(t, listener)) answerReset(t, scratch);
    return;
  }
  if (listener === null) {
    if (!t.elsewhere()) answerReset(t, scratch);
    return;
  }
  if (!listenerLetsIn(t, listener)) return;
  if ((t.segFlags & (TCP_SYN | TCP_FIN)) === TCP_SYN) synArrives(t, listener, 0);
}

/** Whether a listener lets in the segment in hand, which is of no connection anywhere. */
function listenerLetsIn(t: Tcp, listener: Listener): boolean {
  if ((t.w[listener.c + LOCKS] & L_MIN_HOPS) !== 0 && cameTooFar(t, listener.c, t.segHops)) return false;
  return passesListener(t, listener);
}

/** Whether the segment in hand, whose TTL or hop limit is `hops`, is below what record `c` asks for, which has L_MIN_HOPS; counts it. */
export function cameTooFar(t: Tcp, c: number, hops: number): boolean {
  const least = t.w[c + MIN_HOPS];
  if (hops >= (t.segV6 ? least >> 8 : least & 0xff)) return false;
  t.counters[N.TCPMinTTLDrop]++;
  return true;
}

/** What the SYN in hand and we agree on, F_ bits. */
export function negotiated(t: Tcp): number {
  const { config, options } = t;
  let flags = 0;
  if (config.timestamps && (options & OPT_TS) !== 0) flags |= F_TS;
  if (config.sack && (options & OPT_SACK_PERM) !== 0) flags |= F_SACK;
  if (config.windowScaling && (options & OPT_SCALE) !== 0) flags |= F_WSCALE;
  return flags;
}

/**
 * A SYN for a listener: a half-open connection, or a cookie.
 * @param iss sequence number to begin with, 0: any
 */
function synArrives(t: Tcp, listener: Listener, iss: number): void {
  const { w, config, scratch } = t;
  if (listener.full) {
    t.counters[N.ListenOverflows]++;
    t.counters[N.ListenDrops]++;
    return;
  }
  let flags = negotiated(t) | (t.segV6 ? F_V6 : 0);
  // RFC 3168, section 6.1.1: both bits ask; a mark on the SYN itself shows a peer or path that does not mean it.
  if (config.ecn > 0 && (t.segFlags & (TCP_ECE | TCP_CWR)) === (TCP_ECE | TCP_CWR) && (t.segTos & 3) === 0)
    flags |= F_ECN;
  const mss = (t.options & OPT_MSS) !== 0 ? t.optMss : 0;
  const backlog = Math.min(config.synBacklog, Math.max(listener.backlog, 1));
  const c = config.synCookies === 2 || listener.halfOpen >= backlog ? -1 : t.allocate();
  if (c < 0) {
    if (config.synCookies === 0) {
      t.counters[N.TCPReqQFullDrop]++;
      t.counters[N.ListenDrops]++;
      return;
    }
    // Without timestamps nothing else can come back (syncookies.c, cookie_init_timestamp).
    w[scratch + FLAGS] = (flags & F_TS) !== 0 ? flags : flags & F_V6;
    w[scratch + USER_MSS] = w[listener.c + USER_MSS];
    setPeerMss(w, scratch, mss);
    const window = Math.min(w[listener.c + RCV_BUF] >> 1, 65_535);
    answerCookie(t, scratch, mss === 0 ? 536 : mss, window);
    return;
  }
  inherit(t, c, listener, flags);
  w[c + SCALES] = (flags & F_WSCALE) !== 0 ? (scaleFor(config.receiveBufferMax) << 8) | t.optScale : 0;
  w[c + IRS] = t.segSeq;
  w[c + RCV_NXT] = (t.segSeq + 1) | 0;
  w[c + ISS] = iss === 0 ? initialSequence(t, c) : iss;
  w[c + TS_RECENT] = (flags & F_TS) !== 0 ? t.tsVal : 0;
  w[c + TS_RECENT_MS] = t.ms;
  w[c + STATE] = SYN_RECEIVED;
  setPeerMss(w, c, mss);
  prepare(t, c);
  w[c + SND_WND] = t.segWindow;
  if (!t.insertFlow(c) || !openWithSyn(t, c)) {
    t.removeFlow(c);
    release(t, c);
    t.counters[N.ListenDrops]++;
    return;
  }
  listener.halfOpen++;
  t.counters[N.PassiveOpens]++;
}

/** Gives a new record the segment's addresses and the listener's options. */
function inherit(t: Tcp, c: number, listener: Listener, flags: number): void {
  const { w, scratch } = t;
  for (let i = 0; i < 4; i++) {
    w[c + LOCAL + i] = w[scratch + LOCAL + i];
    w[c + REMOTE + i] = w[scratch + REMOTE + i];
  }
  w[c + PORTS] = w[scratch + PORTS];
  for (let i = 0; i < INHERITED.length; i++) w[c + INHERITED[i]] = w[listener.c + INHERITED[i]];
  // A priority is the listener's own (sk_clone).
  w[c + HOPS] &= ~HOPS_PRIORITY;
  // A record that is still in the ring of events stays there: FLAGS keeps that bit.
  w[c + FLAGS] |= flags | F_PASSIVE | (w[listener.c + FLAGS] & INHERITED_FLAGS);
  // Until it opens the listener's filter sees what comes.
  w[c + LOCKS] = L_UNACCEPTED | L_FILTER | (w[listener.c + LOCKS] & INHERITED_LOCKS);
  w[c + LISTENER] = listener.tag;
  // The SYN.
  w[c + SEGS_IN] = 1;
}

/** The handshake's last acknowledgment may be of a cookie. False: it is not, the segment is nobody's. */
function cookieAcked(t: Tcp, listener: Listener): boolean {
  const { w, config, scratch } = t;
  if (config.synCookies === 0 || !t.cookiesOut) return false;
  if (((t.ms - t.cookieMs) | 0) > COOKIES_VALID_MS) {
    t.cookiesOut = false;
    return false;
  }
  const mss = checkCookie(t, scratch);
  if (mss === 0) {
    t.counters[N.SyncookiesFailed]++;
    return false;
  }
  t.counters[N.SyncookiesRecv]++;
  if (!listenerLetsIn(t, listener)) return true;
  if (listener.full) {
    t.counters[N.ListenOverflows]++;
    return true;
  }
  const c = t.allocate();
  if (c < 0) {
    t.counters[N.NoConnections]++;
    return true;
  }
  let flags = t.segV6 ? F_V6 : 0;
  if ((t.options & OPT_TS) !== 0) flags |= F_TS | cookieFlags(t.tsEcr);
  inherit(t, c, listener, flags);
  w[c + SCALES] = (flags & F_WSCALE) !== 0 ? (scaleFor(config.receiveBufferMax) << 8) | cookieScale(t.tsEcr) : 0;
  w[c + IRS] = (t.segSeq - 1) | 0;
  w[c + RCV_NXT] = t.segSeq;
  w[c + ISS] = (t.segAck - 1) | 0;
  w[c + TS_RECENT] = (flags & F_TS) !== 0 ? t.tsVal : 0;
  w[c + TS_RECENT_MS] = t.ms;
  setPeerMss(w, c, mss);
  prepare(t, c);
  w[c + SND_UNA] = t.segAck;
  w[c + SND_NXT] = t.segAck;
  w[c + WRITE_SEQ] = t.segAck;
  w[c + SND_WL1] = t.segSeq;
  w[c + RCV_WUP] = w[c + RCV_NXT];
  if (!t.insertFlow(c)) {
    release(t, c);
    return true;
  }
  w[c + STATE] = SYN_RECEIVED;
  listener.halfOpen++;
  becomeEstablished(t, c);
  t.counters[N.PassiveOpens]++;
  t.arrived = c;
  return true;
}

/** A half-open connection has ended or opened. */
export function halfOpenDone(t: Tcp, c: number): void {
  if ((t.w[c + FLAGS] & F_PASSIVE) === 0) return;
  const listener = listenerOf(t, c);
  if (listener !== null) listener.halfOpen--;
}

/** Whether a half-open connection may open now: 1 yes, 0 its listener has no room, -1 it is gone. */
export function mayOpen(t: Tcp, c: number): number {
  const listener = listenerOf(t, c);
  if (listener === null) return -1;
  return listener.full ? 0 : 1;
}

/** A connection has opened: it waits to be accepted. */
export function queueAccept(t: Tcp, c: number): void {
  const listener = listenerOf(t, c);
  if (listener === null) return;
  listener.halfOpen--;
  inheritFilter(t, c, listener.filter);
  listener.put(c);
  t.event(listener.c, EV_ACCEPT);
}

/** accept(2): the id of a connection, or -EAGAIN, or -EINVAL: the record does not listen. */
export function accept(t: Tcp, id: number): number {
  const listener = t.w[id * TCB_WORDS + STATE] === LISTEN ? listenerOf(t, id * TCB_WORDS) : null;
  if (listener === null) return -ERRNO.EINVAL;
  const c = listener.take();
  if (c < 0) return -ERRNO.EAGAIN;
  t.w[c + LOCKS] &= ~L_UNACCEPTED;
  // What has happened meanwhile is told now.
  if (t.w[c + EVENTS] !== 0) t.event(c, 0);
  return c / TCB_WORDS;
}

/** A SYN for a connection in TIME_WAIT, which has ended for it: the listener takes it. False: nobody listens. */
export function hasListener(t: Tcp): boolean {
  return t.chooser.find(t, t.scratch) !== null;
}

/** … with the sequence number that the old connection leaves to the new. */
export function reopen(t: Tcp, iss: number): void {
  const listener = t.chooser.find(t, t.scratch);
  if (listener !== null && passesListener(t, listener)) synArrives(t, listener, iss);
}
