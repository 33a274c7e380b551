/** Options of a socket by number: names, ranges and errors of tcp(7), socket(7) and ip(7) in Linux 6.18. */
import { ERRNO } from "af-xdp-bindings";
import { ackAfterRead } from "./ack-policy.ts";
import { CONGESTION_NAMES } from "./config.ts";
import { initControl } from "./congestion/control.ts";
import type { Tcp } from "./core.ts";
import { startKeepalive } from "./keepalive.ts";
import { push } from "./output.ts";
import { updatePacing } from "./pacing.ts";
import { readable } from "./receive.ts";
import {
  ACK,
  ACK_PUSHED,
  ACK_SCHEDULED,
  CLOSE_WAIT,
  CLOSED,
  CONGESTION,
  DEFER_COUNT,
  ESTABLISHED,
  F_CORK,
  F_KEEPALIVE,
  F_LINGER,
  F_NO_PMTUD,
  F_NODELAY,
  F_OOBINLINE,
  F_PINGPONG,
  FLAGS,
  HOPS,
  HOPS_DONTROUTE,
  HOPS_MARK,
  HOPS_PRIORITY,
  HOPS_TTL,
  KEEP_COUNTS,
  KEEP_IDLE_MS,
  KEEP_INTERVAL_MS,
  L_CLAMP,
  L_MIN_HOPS,
  L_RCVBUF,
  L_SNDBUF,
  L_THIN,
  LINGER_MS,
  LINGER2_MS,
  LISTEN,
  LOCKS,
  MARK,
  MIN_HOPS,
  MSS,
  NOTSENT_LOWAT,
  PACING_MAX,
  PACING_RATE,
  PRIORITY,
  RCV_BUF,
  RCV_LOWAT,
  SND_BUF,
  STATE,
  SYN_COUNT,
  TCB_WORDS,
  TOS,
  USER_MSS,
  USER_TIMEOUT_MS,
  WINDOW_CLAMP,
} from "./tcb.ts";

/** Options here: those of IPPROTO_TCP by their numbers, those of SOL_SOCKET above SOCKET_LEVEL, of IPPROTO_IP above IP_LEVEL. */
export const SOCKET_LEVEL = 0x100;
export const IP_LEVEL = 0x200;
export const OPTIONS = {
  TCP_NODELAY: 1,
  TCP_MAXSEG: 2,
  TCP_CORK: 3,
  TCP_KEEPIDLE: 4,
  TCP_KEEPINTVL: 5,
  TCP_KEEPCNT: 6,
  TCP_SYNCNT: 7,
  TCP_LINGER2: 8,
  TCP_DEFER_ACCEPT: 9,
  TCP_WINDOW_CLAMP: 10,
  TCP_QUICKACK: 12,
  TCP_CONGESTION: 13,
  TCP_THIN_LINEAR_TIMEOUTS: 16,
  TCP_USER_TIMEOUT: 18,
  TCP_NOTSENT_LOWAT: 25,
  /** Bytes to be read (SIOCINQ); only to be asked for. */
  TCP_INQ: 36,
  SO_DONTROUTE: SOCKET_LEVEL + 5,
  SO_SNDBUF: SOCKET_LEVEL + 7,
  SO_RCVBUF: SOCKET_LEVEL + 8,
  SO_KEEPALIVE: SOCKET_LEVEL + 9,
  SO_OOBINLINE: SOCKET_LEVEL + 10,
  SO_PRIORITY: SOCKET_LEVEL + 12,
  /** Seconds, -1: off. */
  SO_LINGER: SOCKET_LEVEL + 13,
  SO_RCVLOWAT: SOCKET_LEVEL + 18,
  SO_MARK: SOCKET_LEVEL + 36,
  SO_MAX_PACING_RATE: SOCKET_LEVEL + 47,
  IP_TOS: IP_LEVEL + 1,
  /** Also IPV6_UNICAST_HOPS: 1 to 255, -1 for the host's. */
  IP_TTL: IP_LEVEL + 2,
  /** IP_PMTUDISC_DONT (0) or another. */
  IP_MTU_DISCOVER: IP_LEVEL + 10,
  IP_MINTTL: IP_LEVEL + 21,
  IPV6_MINHOPCOUNT: IP_LEVEL + 73,
} as const;

/** Bounds of include/net/tcp.h. */
const KEEPIDLE_MAX = 32_767;
const KEEPINTVL_MAX = 32_767;
const KEEPCNT_MAX = 127;
const SYNCNT_MAX = 127;
const LINGER2_MAX_S = 120;
const MSS_LEAST = 88;
const MSS_MOST = 32_767;
/** SOCK_MIN_RCVBUF / 2: the least clamp. */
const CLAMP_LEAST = 1152;
const RCVBUF_LEAST = 2304;
/** What an int holds twice; memory for all of it there need not be (tcp_mem). */
const BUFFER_MOST = 0x3fffffff;
const SNDBUF_LEAST = 4608;

/**
 * setsockopt(2), of an option without a struct.
 * @returns 0, -EINVAL for a value out of range, -ENOPROTOOPT for an unknown option
 */
export function setOption(t: Tcp, id: number, option: number, value: number): number {
  return option < SOCKET_LEVEL ? setTcp(t, id * TCB_WORDS, option, value) : setOther(t, id * TCB_WORDS, option, value);
}

function flag(w: Int32Array, c: number, bit: number, on: boolean): void {
  w[c + FLAGS] = on ? w[c + FLAGS] | bit : w[c + FLAGS] & ~bit;
}

function isOpen(w: Int32Array, c: number): boolean {
  return w[c + STATE] === ESTABLISHED || w[c + STATE] === CLOSE_WAIT;
}

function within(value: number, least: number, most: number): boolean {
  return value >= least && value <= most;
}

function setTcp(t: Tcp, c: number, option: number, value: number): number {
  const { w } = t;
  const bad = -ERRNO.EINVAL;
  switch (option) {
    case OPTIONS.TCP_NODELAY:
      flag(w, c, F_NODELAY, value !== 0);
      if (value !== 0 && isOpen(w, c)) push(t, c, true);
      return 0;
    case OPTIONS.TCP_CORK:
      flag(w, c, F_CORK, value !== 0);
      if (value === 0 && isOpen(w, c)) push(t, c, true);
      return 0;
    case OPTIONS.TCP_MAXSEG:
      if (value !== 0 && !within(value, MSS_LEAST, MSS_MOST)) return bad;
      w[c + USER_MSS] = value;
      // For the next handshake: this one's is over.
      return 0;
    case OPTIONS.TCP_KEEPIDLE:
      if (!within(value, 1, KEEPIDLE_MAX)) return bad;
      w[c + KEEP_IDLE_MS] = value * 1000;
      startKeepalive(t, c);
      return 0;
    case OPTIONS.TCP_KEEPINTVL:
      if (!within(value, 1, KEEPINTVL_MAX)) return bad;
      w[c + KEEP_INTERVAL_MS] = value * 1000;
      return 0;
    case OPTIONS.TCP_KEEPCNT:
      if (!within(value, 1, KEEPCNT_MAX)) return bad;
      w[c + KEEP_COUNTS] = (value << 16) | (w[c + KEEP_COUNTS] & 0xffff);
      return 0;
    case OPTIONS.TCP_SYNCNT:
      if (!within(value, 1, SYNCNT_MAX)) return bad;
      w[c + SYN_COUNT] = value;
      return 0;
    case OPTIONS.TCP_LINGER2:
      w[c + LINGER2_MS] = value < 0 ? -1 : value > LINGER2_MAX_S ? LINGER2_MAX_S * 1000 : value * 1000;
      return 0;
    case OPTIONS.TCP_DEFER_ACCEPT:
      w[c + DEFER_COUNT] = retransmissionsIn(t, value);
      return 0;
    case OPTIONS.TCP_WINDOW_CLAMP:
      return setClamp(t, c, value);
    case OPTIONS.TCP_QUICKACK:
      setQuickAck(t, c, value);
      return 0;
    case OPTIONS.TCP_CONGESTION:
      if (CONGESTION_NAMES[value] === undefined) return -ERRNO.ENOENT;
      w[c + CONGESTION] = value;
      initControl(t, c);
      return 0;
    case OPTIONS.TCP_THIN_LINEAR_TIMEOUTS:
      if (!within(value, 0, 1)) return bad;
      w[c + LOCKS] = value === 0 ? w[c + LOCKS] & ~L_THIN : w[c + LOCKS] | L_THIN;
      return 0;
    case OPTIONS.TCP_USER_TIMEOUT:
      if (value < 0) return bad;
      w[c + USER_TIMEOUT_MS] = value;
      return 0;
    case OPTIONS.TCP_NOTSENT_LOWAT:
      w[c + NOTSENT_LOWAT] = value;
      return 0;
  }
  return -ERRNO.ENOPROTOOPT;
}

/** Retransmissions of a SYN-ACK within a time, as secs_to_retrans. */
function retransmissionsIn(t: Tcp, seconds: number): number {
  if (seconds <= 0) return 0;
  let count = 1;
  let timeout = t.config.rtoInitMs / 1000;
  for (let period = timeout; seconds > period && count < 255; count++) {
    timeout = Math.min(timeout * 2, t.config.rtoMaxMs / 1000);
    period += timeout;
  }
  return count;
}

function setClamp(t: Tcp, c: number, value: number): number {
  const { w } = t;
  if (value === 0) {
    // Only while there is no connection, as Linux has it.
    if (w[c + STATE] !== CLOSED) return -ERRNO.EINVAL;
    w[c + WINDOW_CLAMP] = w[c + RCV_BUF] >> 1;
    w[c + LOCKS] &= ~L_CLAMP;
    return 0;
  }
  w[c + WINDOW_CLAMP] = Math.max(value, CLAMP_LEAST);
  w[c + LOCKS] |= L_CLAMP;
  return 0;
}

function setQuickAck(t: Tcp, c: number, value: number): void {
  const { w } = t;
  flag(w, c, F_PINGPONG, value === 0);
  if (value === 0 || !isOpen(w, c) || (w[c + ACK] & ACK_SCHEDULED) === 0) return;
  w[c + ACK] |= ACK_PUSHED;
  ackAfterRead(t, c, 1, readable(w, c) <= 0);
  if ((value & 1) === 0) w[c + FLAGS] |= F_PINGPONG;
}

function setOther(t: Tcp, c: number, option: number, value: number): number {
  const { w, config } = t;
  switch (option) {
    case OPTIONS.SO_SNDBUF:
      w[c + SND_BUF] = Math.max(Math.min(value, BUFFER_MOST) * 2, SNDBUF_LEAST);
      w[c + LOCKS] |= L_SNDBUF;
      return 0;
    case OPTIONS.SO_RCVBUF:
      w[c + RCV_BUF] = Math.max(Math.min(value, BUFFER_MOST) * 2, RCVBUF_LEAST);
      w[c + LOCKS] |= L_RCVBUF;
      if ((w[c + LOCKS] & L_CLAMP) === 0) w[c + WINDOW_CLAMP] = w[c + RCV_BUF] >> 1;
      return 0;
    case OPTIONS.SO_KEEPALIVE:
      flag(w, c, F_KEEPALIVE, value !== 0);
      if (w[c + STATE] !== LISTEN) startKeepalive(t, c);
      return 0;
    case OPTIONS.SO_OOBINLINE:
      flag(w, c, F_OOBINLINE, value !== 0);
      return 0;
    case OPTIONS.SO_LINGER:
      flag(w, c, F_LINGER, value >= 0);
      w[c + LINGER_MS] = Math.max(value, 0) * 1000;
      return 0;
    case OPTIONS.SO_RCVLOWAT:
      if (value < 0) return -ERRNO.EINVAL;
      w[c + RCV_LOWAT] = Math.max(value, 1);
      // So much has to find room (tcp_set_rcvlowat).
      if ((w[c + LOCKS] & L_RCVBUF) === 0 && 2 * value > w[c + RCV_BUF]) {
        w[c + RCV_BUF] = Math.min(2 * value, config.receiveBufferMax);
        w[c + WINDOW_CLAMP] = w[c + RCV_BUF] >> 1;
      }
      return 0;
    case OPTIONS.SO_MAX_PACING_RATE:
      w[c + PACING_MAX] = Math.max(value, 0);
      if (value <= 0 && !config.pacing) w[c + PACING_RATE] = 0;
      updatePacing(t, c);
      return 0;
    case OPTIONS.IP_TOS:
      w[c + TOS] = value & 0xfc;
      return 0;
    case OPTIONS.IP_TTL:
      if (value !== -1 && !within(value, 1, 255)) return -ERRNO.EINVAL;
      w[c + HOPS] = (w[c + HOPS] & ~HOPS_TTL) | Math.max(value, 0);
      return 0;
    case OPTIONS.IP_MINTTL:
    case OPTIONS.IPV6_MINHOPCOUNT:
      return setMinHops(w, c, option === OPTIONS.IP_MINTTL ? 0 : 8, value);
    case OPTIONS.SO_MARK:
      w[c + MARK] = value;
      way(w, c, HOPS_MARK, value !== 0);
      return 0;
    case OPTIONS.SO_PRIORITY:
      w[c + PRIORITY] = value;
      way(w, c, HOPS_PRIORITY, value !== 0);
      return 0;
    case OPTIONS.SO_DONTROUTE:
      way(w, c, HOPS_DONTROUTE, value !== 0);
      return 0;
    case OPTIONS.IP_MTU_DISCOVER:
      flag(w, c, F_NO_PMTUD, value === 0);
      return 0;
  }
  return -ERRNO.ENOPROTOOPT;
}

/** What has only the kernel send a connection's segments: one bit of HOPS. */
function way(w: Int32Array, c: number, bit: number, on: boolean): void {
  w[c + HOPS] = on ? w[c + HOPS] | bit : w[c + HOPS] & ~bit;
}

function setMinHops(w: Int32Array, c: number, shift: number, value: number): number {
  if (!within(value, 0, 255)) return -ERRNO.EINVAL;
  w[c + MIN_HOPS] = (w[c + MIN_HOPS] & ~(0xff << shift)) | (value << shift);
  w[c + LOCKS] = w[c + MIN_HOPS] === 0 ? w[c + LOCKS] & ~L_MIN_HOPS : w[c + LOCKS] | L_MIN_HOPS;
  return 0;
}

/** getsockopt(2): the value, or -ENOPROTOOPT. SO_LINGER and TCP_LINGER2 may be -1: their options have no errors. */
export function getOption(t: Pick<Tcp, "w" | "config">, id: number, option: number): number {
  const { w } = t;
  const c = id * TCB_WORDS;
  const has = (bit: number): number => ((w[c + FLAGS] & bit) !== 0 ? 1 : 0);
  switch (option) {
    case OPTIONS.TCP_NODELAY:
      return has(F_NODELAY);
    case OPTIONS.TCP_CORK:
      return has(F_CORK);
    case OPTIONS.TCP_MAXSEG:
      return w[c + STATE] === CLOSED || w[c + STATE] === LISTEN ? w[c + USER_MSS] || 536 : w[c + MSS];
    case OPTIONS.TCP_KEEPIDLE:
      return w[c + KEEP_IDLE_MS] / 1000;
    case OPTIONS.TCP_KEEPINTVL:
      return w[c + KEEP_INTERVAL_MS] / 1000;
    case OPTIONS.TCP_KEEPCNT:
      return w[c + KEEP_COUNTS] >>> 16;
    case OPTIONS.TCP_SYNCNT:
      return w[c + SYN_COUNT] || t.config.synRetries;
    case OPTIONS.TCP_LINGER2:
      return w[c + LINGER2_MS] < 0 ? -1 : (w[c + LINGER2_MS] || t.config.finTimeoutMs) / 1000;
    case OPTIONS.TCP_DEFER_ACCEPT:
      return secondsOf(t, w[c + DEFER_COUNT]);
    case OPTIONS.TCP_WINDOW_CLAMP:
      return w[c + WINDOW_CLAMP];
    case OPTIONS.TCP_QUICKACK:
      return 1 - has(F_PINGPONG);
    case OPTIONS.TCP_CONGESTION:
      return w[c + CONGESTION];
    case OPTIONS.TCP_THIN_LINEAR_TIMEOUTS:
      return (w[c + LOCKS] & L_THIN) !== 0 ? 1 : 0;
    case OPTIONS.TCP_USER_TIMEOUT:
      return w[c + USER_TIMEOUT_MS];
    case OPTIONS.TCP_NOTSENT_LOWAT:
      return w[c + NOTSENT_LOWAT];
    case OPTIONS.TCP_INQ:
      return Math.max(readable(w, c), 0);
    case OPTIONS.SO_SNDBUF:
      return w[c + SND_BUF];
    case OPTIONS.SO_RCVBUF:
      return w[c + RCV_BUF];
    case OPTIONS.SO_KEEPALIVE:
      return has(F_KEEPALIVE);
    case OPTIONS.SO_OOBINLINE:
      return has(F_OOBINLINE);
    case OPTIONS.SO_LINGER:
      return has(F_LINGER) === 1 ? w[c + LINGER_MS] / 1000 : -1;
    case OPTIONS.SO_RCVLOWAT:
      return w[c + RCV_LOWAT];
    case OPTIONS.SO_MAX_PACING_RATE:
      return w[c + PACING_MAX];
    case OPTIONS.IP_TOS:
      return w[c + TOS];
    case OPTIONS.IP_TTL:
      return w[c + HOPS] & HOPS_TTL;
    case OPTIONS.IP_MINTTL:
      return w[c + MIN_HOPS] & 0xff;
    case OPTIONS.IPV6_MINHOPCOUNT:
      return w[c + MIN_HOPS] >> 8;
    case OPTIONS.SO_MARK:
      return w[c + MARK];
    case OPTIONS.SO_PRIORITY:
      return w[c + PRIORITY];
    case OPTIONS.SO_DONTROUTE:
      return (w[c + HOPS] & HOPS_DONTROUTE) !== 0 ? 1 : 0;
    case OPTIONS.IP_MTU_DISCOVER:
      return 1 - has(F_NO_PMTUD);
  }
  return -ERRNO.ENOPROTOOPT;
}

/** Seconds that so many retransmissions take (retrans_to_secs). */
function secondsOf(t: Pick<Tcp, "config">, count: number): number {
  let timeout = t.config.rtoInitMs / 1000;
  let period = 0;
  for (let i = 0; i < count; i++) {
    period += timeout;
    timeout = Math.min(timeout * 2, t.config.rtoMaxMs / 1000);
  }
  return period;
}
