/**
 * Segments received: from the door of wire/tcp.ts to the connection that each belongs to, and there through the steps of
 * RFC 9293, section 3.10.7.4, with the checks of RFC 5961 and RFC 7323. A segment that continues an established
 * connection as expected takes a short way (header prediction).
 */
import { ERRNO } from "af-xdp-bindings";
import { IPPROTO_TCP, IPV4_DST, IPV4_SRC, IPV4_TOS, IPV4_TTL } from "../wire/ipv4.ts";
import { IPV6_DST, IPV6_HOP_LIMIT, IPV6_SRC, ipv6TrafficClass } from "../wire/ipv6.ts";
import {
  TCP_ACK,
  TCP_ACK_SEQ,
  TCP_DATA_OFFSET,
  TCP_DST,
  TCP_FIN,
  TCP_FLAGS,
  TCP_PSH,
  TCP_RST,
  TCP_SEQ,
  TCP_SRC,
  TCP_SYN,
  TCP_URG,
  TCP_URGENT,
  TCP_WINDOW,
} from "../wire/tcp.ts";
import { type FrameViews, readInt32, readUint16 } from "../wire/views.ts";
import { ackCheck } from "./ack-policy.ts";
import { ACK_UNACCEPTABLE, takeAck, takeAckOfAll } from "./acks.ts";
import { answerOutside, challenge } from "./challenge.ts";
import type { Tcp } from "./core.ts";
import { N } from "./counters.ts";
import { takeMarks } from "./ecn.ts";
import { becomeEstablished } from "./establish.ts";
import { isLetIn } from "./filter.ts";
import { mayOpen, noConnection } from "./listen.ts";
import { OPT_TS, readOptions } from "./options.ts";
import { pushSoon } from "./output.ts";
import { appendInOrder } from "./reassembly.ts";
import { received, takeData } from "./receive.ts";
import { retransmit } from "./retransmit.ts";
import { answerReset } from "./stateless.ts";
import { boundFinWait2, enterTimeWait, finish, resetByPeer } from "./states.ts";
import { synSent } from "./syn-sent.ts";
import {
  ACK,
  CLOSE_WAIT,
  CLOSED,
  CLOSING,
  DATA_SEGS_IN,
  DEFER_COUNT,
  ESTABLISHED,
  F_ACKED,
  F_ECN,
  F_FIN_SEEN,
  F_ORPHAN,
  F_PASSIVE,
  F_RCV_SHUT,
  F_SND_SHUT,
  F_TS,
  F_V6,
  FIN_WAIT_1,
  FIN_WAIT_2,
  FLAGS,
  IRS,
  L_FILTER,
  L_MIN_HOPS,
  LAST_ACK,
  LINGER2_MS,
  LISTEN,
  LOCAL,
  LOCKS,
  OOO_HEAD,
  PORTS,
  RCV_CHUNKS,
  RCV_NXT,
  RCV_WUP,
  REMOTE,
  RETRIES,
  SCALES,
  SEG_HEAD,
  SEGS_IN,
  SND_NXT,
  SND_UNA,
  SND_WL1,
  SND_WND,
  STATE,
  SYN_RECEIVED,
  SYN_SENT,
  TCB_WORDS,
  TIME_WAIT,
  TIMER_RETX,
  TS_RECENT,
  TS_RECENT_MS,
  URGENT,
  WRITE_SEQ,
} from "./tcb.ts";
import { timeWait } from "./timewait.ts";
import { takeUrgent } from "./urgent.ts";
import { chunkLimit, receiveWindow } from "./window.ts";

/** A timestamp older than this proves nothing (RFC 7323, section 5.5): 24 days, ms. */
const PAWS_MS = 24 * 86_400_000;
/** How much older a timestamp may be that is not (TCP_PAWS_WINDOW). */
const PAWS_WINDOW = 1;
/** Of LOCKS: not every segment is let in. */
const GUARDS = L_MIN_HOPS | L_FILTER;

/**
 * A segment over IPv4 that checkIpv4() and checkTcp4() have let in.
 * @param ip offset of the IP header
 * @param tcp offset of the TCP header
 * @param length bytes of TCP header and payload
 */
export function input4(t: Tcp, views: FrameViews, ip: number, tcp: number, length: number): void {
  const { bytes } = views;
  const local = readInt32(bytes, ip + IPV4_DST);
  const remote = readInt32(bytes, ip + IPV4_SRC);
  const source = readUint16(bytes, tcp + TCP_SRC);
  const destination = readUint16(bytes, tcp + TCP_DST);
  t.segTos = bytes[ip + IPV4_TOS];
  t.segV6 = false;
  readHeader(t, bytes, tcp, length);
  const id = t.flows4.lookup(IPPROTO_TCP, local, destination, remote, source);
  if (id >= 0) {
    const c = id * TCB_WORDS;
    if ((t.w[c + LOCKS] & GUARDS) !== 0 && !isLetIn(t, c, bytes[ip + IPV4_TTL])) return;
    arrives(t, c, views);
    return;
  }
  const { w, scratch } = t;
  for (let i = 0; i < 2; i++) {
    w[scratch + LOCAL + i] = 0;
    w[scratch + REMOTE + i] = 0;
  }
  w[scratch + LOCAL + 2] = 0xffff;
  w[scratch + REMOTE + 2] = 0xffff;
  w[scratch + LOCAL + 3] = local;
  w[scratch + REMOTE + 3] = remote;
  w[scratch + PORTS] = (destination << 16) | source;
  w[scratch + FLAGS] = 0;
  t.segHops = bytes[ip + IPV4_TTL];
  unknown(t, views);
}

/** A segment over IPv6 that checkIpv6() and checkTcp6() have let in, as input4(). */
export function input6(t: Tcp, views: FrameViews, ip: number, tcp: number, length: number): void {
  const { bytes } = views;
  const source = readUint16(bytes, tcp + TCP_SRC);
  const destination = readUint16(bytes, tcp + TCP_DST);
  t.segTos = ipv6TrafficClass(bytes, ip);
  t.segV6 = true;
  readHeader(t, bytes, tcp, length);
  t.flows6.loadKey(bytes, ip + IPV6_DST, bytes, ip + IPV6_SRC);
  const id = t.flows6.lookup(IPPROTO_TCP, destination, source);
  if (id >= 0) {
    const c = id * TCB_WORDS;
    if ((t.w[c + LOCKS] & GUARDS) !== 0 && !isLetIn(t, c, bytes[ip + IPV6_HOP_LIMIT])) return;
    arrives(t, c, views);
    return;
  }
  const { w, scratch, flows6 } = t;
  for (let i = 0; i < 8; i++) w[scratch + LOCAL + i] = flows6.key[i];
  w[scratch + PORTS] = (destination << 16) | source;
  w[scratch + FLAGS] = F_V6;
  t.segHops = bytes[ip + IPV6_HOP_LIMIT];
  unknown(t, views);
}

function unknown(t: Tcp, views: FrameViews): void {
  t.arrived = -1;
  noConnection(t);
  // A cookie may have come back with data.
  if (t.arrived >= 0) arrives(t, t.arrived, views);
}

/** Reads the header into the Tcp: the segment in hand. */
function readHeader(t: Tcp, bytes: Uint8Array, tcp: number, length: number): void {
  t.counters[N.InSegs]++;
  const header = (bytes[tcp + TCP_DATA_OFFSET] >> 4) << 2;
  const flags = bytes[tcp + TCP_FLAGS];
  const payload = length - header;
  t.segSeq = readInt32(bytes, tcp + TCP_SEQ);
  t.segAck = readInt32(bytes, tcp + TCP_ACK_SEQ);
  t.segFlags = flags;
  t.segWindow = readUint16(bytes, tcp + TCP_WINDOW);
  t.segUrgent = readUint16(bytes, tcp + TCP_URGENT);
  t.segData = tcp + header;
  t.segLength = payload;
  let end = (t.segSeq + payload) | 0;
  if ((flags & (TCP_SYN | TCP_FIN)) !== 0) {
    if ((flags & TCP_SYN) !== 0) end = (end + 1) | 0;
    if ((flags & TCP_FIN) !== 0) end = (end + 1) | 0;
  }
  t.segEnd = end;
  t.finishing = false;
  readOptions(t, bytes, tcp, header);
}

function arrives(t: Tcp, c: number, views: FrameViews): void {
  const { w } = t;
  const state = w[c + STATE];
  w[c + SEGS_IN]++;
  if (t.segLength > 0) w[c + DATA_SEGS_IN]++;
  if (state === ESTABLISHED) {
    if (!predicted(t, c, views)) synchronized(t, c, views);
  } else if (state === SYN_SENT) synSent(t, c, views);
  else if (state === TIME_WAIT) timeWait(t, c);
  else if (state !== CLOSED && state !== LISTEN) synchronized(t, c, views);
}

/**
 * The short way: the peer's next data, with or without an acknowledgment of all that is in flight, or such an acknowledgment
 * alone, and nothing out of the ordinary. False: the segment is not of these, and nothing has been done.
 */
function predicted(t: Tcp, c: number, views: FrameViews): boolean {
  const { w } = t;
  const flags = w[c + FLAGS];
  if ((t.segFlags & ~TCP_PSH) !== TCP_ACK || t.segSeq !== w[c + RCV_NXT] || w[c + OOO_HEAD] >= 0) return false;
  if ((flags & (F_ECN | F_RCV_SHUT | F_FIN_SEEN)) !== 0 || w[c + URGENT] !== 0) return false;
  if ((flags & F_TS) === 0 ? t.options !== 0 : t.options !== OPT_TS || ((t.tsVal - w[c + TS_RECENT]) | 0) < 0)
    return false;
  if (t.sackCount !== 0 || t.segWindow << (w[c + SCALES] & 0xff) !== w[c + SND_WND]) return false;
  const length = t.segLength;
  const acks = t.segAck !== w[c + SND_UNA];
  if (length > 0) {
    if (length > receiveWindow(w, c) || w[c + RCV_CHUNKS] >= chunkLimit(t, c) - 1) return false;
    if (length > t.chunks.size || t.chunks.used + 2 > t.chunks.count) return false;
  } else if (!acks) return false;
  if (acks && !takeAckOfAll(t, c)) return false;
  // The first of those that are acknowledged together is echoed (RFC 7323, section 4.3).
  if ((flags & F_TS) !== 0 && w[c + RCV_WUP] === t.segSeq) {
    w[c + TS_RECENT] = t.tsVal;
    w[c + TS_RECENT_MS] = t.ms;
  }
  if (length === 0) {
    // Whoever has been answered rests, mostly: out of the wheel while that is in the cache.
    t.stopTimer(c, TIMER_RETX);
    t.counters[N.TCPHPAcks]++;
    return true;
  }
  appendInOrder(t, c, views, t.segData, length);
  w[c + RCV_NXT] = t.segEnd;
  w[c + SND_WL1] = t.segSeq;
  t.counters[N.TCPHPHits]++;
  received(t, c, length);
  if (w[c + ACK] !== 0) ackCheck(t, c);
  return true;
}

/** Older than what has come: a duplicate from another round of sequence numbers, RFC 7323, section 5 (PAWS). */
function tooOld(t: Tcp, c: number): boolean {
  const { w } = t;
  if ((w[c + FLAGS] & F_TS) === 0 || (t.options & OPT_TS) === 0) return false;
  if (((t.tsVal - w[c + TS_RECENT]) | 0) >= -PAWS_WINDOW) return false;
  const age = (t.ms - w[c + TS_RECENT_MS]) | 0;
  if (age < 0 || age > PAWS_MS) return false;
  // An acknowledgment that was overtaken is no threat (tcp_disordered_ack).
  const late =
    t.segLength === 0 &&
    (t.segFlags & (TCP_SYN | TCP_FIN | TCP_RST)) === 0 &&
    t.segSeq === w[c + RCV_NXT] &&
    t.segAck === w[c + SND_UNA] &&
    t.segWindow << (w[c + SCALES] & 0xff) === w[c + SND_WND] &&
    ((w[c + TS_RECENT] - t.tsVal) | 0) <= 1000;
  return !late;
}

/** Steps one to four: sequence number, RST, SYN. False: the segment has been dealt with. */
function isAcceptable(t: Tcp, c: number): boolean {
  const { w } = t;
  const rst = (t.segFlags & TCP_RST) !== 0;
  if (!rst && tooOld(t, c)) {
    t.counters[N.PAWSEstab]++;
    if ((t.segFlags & TCP_SYN) !== 0) challenge(t, c);
    else answerOutside(t, c);
    return false;
  }
  const window = receiveWindow(w, c);
  const inside = ((t.segEnd - w[c + RCV_WUP]) | 0) >= 0 && ((t.segSeq - w[c + RCV_NXT] - window) | 0) <= 0;
  if (rst) {
    // RFC 5961, section 3.2: only the next number resets; one in the window is asked about.
    if (t.segSeq === w[c + RCV_NXT]) resetByPeer(t, c);
    else if (inside) challenge(t, c);
    return false;
  }
  if ((t.segFlags & TCP_SYN) !== 0) {
    synAgain(t, c);
    return false;
  }
  if (inside) return true;
  answerOutside(t, c);
  return false;
}

/** A SYN on a connection: the peer's again during the handshake, else a challenge (RFC 5961, section 4). */
function synAgain(t: Tcp, c: number): void {
  const { w } = t;
  const own = w[c + STATE] === SYN_RECEIVED && t.segSeq === w[c + IRS];
  if (own && (t.segFlags & TCP_ACK) === 0) {
    if (w[c + SEG_HEAD] >= 0) retransmit(t, c, w[c + SEG_HEAD]);
    return;
  }
  // Simultaneous open: the peer's SYN-ACK acknowledges our SYN.
  if (own && (w[c + FLAGS] & F_PASSIVE) === 0 && t.segAck === w[c + SND_NXT]) {
    opened(t, c);
    return;
  }
  t.counters[N.TCPSYNChallenge]++;
  challenge(t, c);
}

/** The acknowledgment of a half-open connection's SYN. False: it is none, or there is no room. */
function opened(t: Tcp, c: number): boolean {
  const { w } = t;
  if (((t.segAck - w[c + SND_UNA]) | 0) <= 0 || ((t.segAck - w[c + SND_NXT]) | 0) > 0) {
    answerReset(t, c);
    return false;
  }
  if ((w[c + FLAGS] & F_PASSIVE) !== 0) {
    // TCP_DEFER_ACCEPT: an acknowledgment alone does not count until the SYN-ACK has been repeated so often.
    if (t.segLength === 0 && (t.segFlags & TCP_FIN) === 0 && w[c + RETRIES] < w[c + DEFER_COUNT]) {
      w[c + FLAGS] |= F_ACKED;
      return false;
    }
    const may = mayOpen(t, c);
    if (may < 0) {
      answerReset(t, c);
      finish(t, c, 0);
      return false;
    }
    if (may === 0) {
      t.counters[N.ListenOverflows]++;
      w[c + FLAGS] |= F_ACKED;
      if (t.config.abortOnOverflow) {
        answerReset(t, c);
        finish(t, c, 0);
      }
      return false;
    }
  }
  w[c + SND_WL1] = t.segSeq;
  takeAck(t, c);
  becomeEstablished(t, c);
  return true;
}

/** A segment of a connection that both sides know of. */
function synchronized(t: Tcp, c: number, views: FrameViews): void {
  const { w } = t;
  if (!isAcceptable(t, c)) return;
  if ((t.segFlags & TCP_ACK) === 0) return;
  if (w[c + STATE] === SYN_RECEIVED) {
    if (!opened(t, c)) return;
  } else if (takeAck(t, c) === ACK_UNACCEPTABLE) {
    challenge(t, c);
    return;
  }
  takeTimestamp(t, c);
  if (w[c + FLAGS] & F_ECN) takeMarks(t, c);
  if (!afterAck(t, c)) return;
  if ((t.segFlags & TCP_URG) !== 0 || w[c + URGENT] !== 0) takeUrgent(t, c, views);
  if (closedForData(t, c)) return;
  takeData(t, c, views);
  pushSoon(t, c);
  ackCheck(t, c);
  if (t.finishing) enterTimeWait(t, c);
}

/** TS.Recent (RFC 7323, section 4.3): of a segment that covers the last number acknowledged. */
function takeTimestamp(t: Tcp, c: number): void {
  const { w } = t;
  if ((w[c + FLAGS] & F_TS) === 0 || (t.options & OPT_TS) === 0) return;
  if (((t.segSeq - w[c + RCV_WUP]) | 0) > 0) return;
  const age = (t.ms - w[c + TS_RECENT_MS]) | 0;
  if (((t.tsVal - w[c + TS_RECENT]) | 0) < 0 && age >= 0 && age <= PAWS_MS) return;
  w[c + TS_RECENT] = t.tsVal;
  w[c + TS_RECENT_MS] = t.ms;
}

/** What the acknowledgment of our FIN brings. False: the connection is over. */
function afterAck(t: Tcp, c: number): boolean {
  const { w } = t;
  const state = w[c + STATE];
  if (state === ESTABLISHED || state === CLOSE_WAIT) return true;
  if (((w[c + SND_UNA] - w[c + WRITE_SEQ]) | 0) <= 0 || (w[c + FLAGS] & F_SND_SHUT) === 0) return true;
  if (state === LAST_ACK) {
    finish(t, c, 0);
    return false;
  }
  if (state === CLOSING) {
    enterTimeWait(t, c);
    return false;
  }
  if (state === FIN_WAIT_1) {
    w[c + STATE] = FIN_WAIT_2;
    if ((w[c + FLAGS] & F_ORPHAN) !== 0 && w[c + LINGER2_MS] < 0) {
      t.counters[N.TCPAbortOnLinger]++;
      answerReset(t, c);
      finish(t, c, 0);
      return false;
    }
    boundFinWait2(t, c);
    return true;
  }
  return true;
}

/** Data for an application that has closed, or reads no more: the peer is told that nobody does (RFC 9293, section 3.6.1). */
function closedForData(t: Tcp, c: number): boolean {
  const { w } = t;
  const state = w[c + STATE];
  if (t.segLength === 0 || (state !== FIN_WAIT_1 && state !== FIN_WAIT_2)) return false;
  const isOrphan = (w[c + FLAGS] & F_ORPHAN) !== 0;
  if (!isOrphan && (w[c + FLAGS] & F_RCV_SHUT) === 0) return false;
  if (((t.segSeq + t.segLength - w[c + RCV_NXT]) | 0) <= 0) return false;
  t.counters[N.TCPAbortOnData]++;
  answerReset(t, c);
  finish(t, c, isOrphan ? 0 : ERRNO.ECONNRESET);
  return true;
}
