/**
 * What is known of a connection: struct tcp_info (include/uapi/linux/tcp.h of 6.18), by its names and as its bytes. Read
 * from a record alone, so that any thread that sees the records can.
 */
import { CONGESTION_NAMES } from "./config.ts";
import { SSTHRESH_MAX } from "./congestion/window.ts";
import { segmentSize } from "./emit.ts";
import { TS_LENGTH } from "./options.ts";
import { cameRound } from "./tally.ts";
import {
  ACKED_ROUNDS,
  ADV_MSS,
  ATO_US,
  BACKOFF,
  BUSY_SINCE_US,
  BUSY_US,
  BYTES_RETRANS,
  CA_STATE,
  CLOSED,
  CONGESTION,
  COPIED,
  COPIED_ROUNDS,
  CWND,
  DATA_SEGS_IN,
  DATA_SEGS_OUT,
  DELIVERED,
  F_ECN,
  F_FIN_SENT,
  F_PASSIVE,
  F_SACK,
  F_TS,
  F_WSCALE,
  FLAGS,
  IRS,
  ISS,
  LAST_ACK_MS,
  LAST_RCV_MS,
  LAST_SND_MS,
  LISTEN,
  LOST_OUT,
  MDEV_US,
  MIN_RTT_US,
  PACING_MAX,
  PACING_RATE,
  PACKETS_OUT,
  PMTU,
  PROBES_OUT,
  RATE_SEGMENTS,
  RATE_US,
  RCV_MSS,
  RCV_NXT,
  RCV_RTT_US,
  RCV_SSTHRESH,
  RCV_WND,
  REORDERING,
  RETRANS_OUT,
  RETRIES,
  ROUND_BUSY_US,
  ROUND_UNA,
  RTO_US,
  SACKED_OUT,
  SCALES,
  SEGS_IN,
  SEGS_OUT,
  SND_NXT,
  SND_UNA,
  SND_WND,
  SPACE,
  SPACE_SEQ,
  SRTT_US,
  SSTHRESH,
  STATE,
  SYN_RECEIVED,
  SYN_SENT,
  TOTAL_RETRANS,
  WRITE_SEQ,
} from "./tcb.ts";

/** Values of `options` (TCPI_OPT_). */
export const TCPI_OPT_TIMESTAMPS = 1;
export const TCPI_OPT_SACK = 2;
export const TCPI_OPT_WSCALE = 4;
export const TCPI_OPT_ECN = 8;

const OPTIONS: readonly (readonly [flag: number, bit: number])[] = [
  [F_TS, TCPI_OPT_TIMESTAMPS],
  [F_SACK, TCPI_OPT_SACK],
  [F_WSCALE, TCPI_OPT_WSCALE],
  [F_ECN, TCPI_OPT_ECN],
];

/** Sequence numbers. */
const ROUND = 2 ** 32;

/** Times in microseconds unless they end in Ms, windows in segments where tcp_info has them so, else bytes, rates in bytes a second. */
export interface TcpInfo {
  state: number;
  caState: number;
  retransmits: number;
  probes: number;
  backoff: number;
  options: number;
  sndWscale: number;
  rcvWscale: number;
  rto: number;
  ato: number;
  sndMss: number;
  rcvMss: number;
  unacked: number;
  sacked: number;
  lost: number;
  retrans: number;
  lastDataSentMs: number;
  lastDataRecvMs: number;
  lastAckRecvMs: number;
  pmtu: number;
  rcvSsthresh: number;
  rtt: number;
  rttvar: number;
  sndSsthresh: number;
  sndCwnd: number;
  advmss: number;
  reordering: number;
  rcvRtt: number;
  rcvSpace: number;
  totalRetrans: number;
  pacingRate: number;
  /** 0: none is set. */
  maxPacingRate: number;
  bytesAcked: number;
  bytesReceived: number;
  segsOut: number;
  segsIn: number;
  notsentBytes: number;
  minRtt: number;
  dataSegsIn: number;
  dataSegsOut: number;
  deliveryRate: number;
  busyTime: number;
  delivered: number;
  bytesSent: number;
  bytesRetrans: number;
  sndWnd: number;
  rcvWnd: number;
  congestion: string;
}

/**
 * TCP_INFO: allocates, and is not for the packet path.
 * @param c the record's first word in `w`
 * @param us time of the record's Tcp, microseconds
 * @param state as it is told, which is not always the record's
 */
export function tcpInfo(w: Int32Array, c: number, us: number, state = w[c + STATE]): TcpInfo {
  const flags = w[c + FLAGS];
  const ms = (us / 1000) | 0;
  const since = (field: number): number => Math.max((ms - w[c + field]) | 0, 0);
  let options = 0;
  for (const [flag, bit] of OPTIONS) if ((flags & flag) !== 0) options |= bit;
  const sndMss = w[c + PMTU] === 0 ? 0 : segmentSize(w, c);
  const acked = bytesAcked(w, c);
  const inFlight = Math.max((w[c + SND_NXT] - w[c + SND_UNA]) | 0, 0);
  const bytesRetrans = float64(w, c + BYTES_RETRANS);
  // SYN and FIN take a number and are no byte; one that opens has its SYN acknowledged among the rest, as in Linux.
  const numbers = ((flags & F_PASSIVE) !== 0 ? 0 : 1) + ((flags & F_FIN_SENT) !== 0 ? 1 : 0);
  return {
    state,
    caState: w[c + CA_STATE],
    retransmits: w[c + RETRIES],
    probes: w[c + PROBES_OUT],
    backoff: w[c + BACKOFF],
    options,
    sndWscale: w[c + SCALES] & 0xff,
    rcvWscale: w[c + SCALES] >> 8,
    rto: w[c + RTO_US],
    ato: w[c + ATO_US],
    sndMss,
    rcvMss: w[c + RCV_MSS],
    unacked: w[c + PACKETS_OUT],
    sacked: w[c + SACKED_OUT],
    lost: w[c + LOST_OUT],
    retrans: w[c + RETRANS_OUT],
    lastDataSentMs: since(LAST_SND_MS),
    lastDataRecvMs: since(LAST_RCV_MS),
    lastAckRecvMs: since(LAST_ACK_MS),
    pmtu: w[c + PMTU],
    rcvSsthresh: w[c + RCV_SSTHRESH],
    rtt: w[c + SRTT_US] >> 3,
    rttvar: w[c + MDEV_US] >> 2,
    sndSsthresh: Math.min(w[c + SSTHRESH], SSTHRESH_MAX),
    sndCwnd: w[c + CWND],
    advmss: (flags & F_TS) !== 0 && state !== SYN_SENT ? w[c + ADV_MSS] - TS_LENGTH : w[c + ADV_MSS],
    reordering: w[c + REORDERING],
    rcvRtt: w[c + RCV_RTT_US],
    rcvSpace: w[c + SPACE],
    totalRetrans: w[c + TOTAL_RETRANS],
    pacingRate: w[c + PACING_RATE],
    maxPacingRate: w[c + PACING_MAX],
    bytesAcked: acked,
    bytesReceived: bytesReceived(w, c),
    segsOut: w[c + SEGS_OUT] >>> 0,
    segsIn: w[c + SEGS_IN] >>> 0,
    notsentBytes: state === CLOSED ? 0 : Math.max((w[c + WRITE_SEQ] - w[c + SND_NXT]) | 0, 0),
    minRtt: w[c + MIN_RTT_US],
    dataSegsIn: w[c + DATA_SEGS_IN] >>> 0,
    dataSegsOut: w[c + DATA_SEGS_OUT] >>> 0,
    deliveryRate: w[c + RATE_US] === 0 ? 0 : Math.floor((w[c + RATE_SEGMENTS] * sndMss * 1e6) / (w[c + RATE_US] >>> 0)),
    busyTime: busyTime(w, c, us),
    delivered: w[c + DELIVERED] >>> 0,
    bytesSent: Math.max(acked + inFlight - numbers, 0) + bytesRetrans,
    bytesRetrans,
    sndWnd: w[c + SND_WND],
    rcvWnd: w[c + RCV_WND],
    congestion: CONGESTION_NAMES[w[c + CONGESTION]],
  };
}

/** Numbers acknowledged since ISS, SYN and FIN among them; of one that was opened by the peer without its SYN. */
function bytesAcked(w: Int32Array, c: number): number {
  const una = w[c + SND_UNA];
  const rounds = w[c + ACKED_ROUNDS] + (cameRound(una, w[c + ROUND_UNA], w[c + ISS]) ? 1 : 0);
  const numbers = rounds * ROUND + ((una - w[c + ISS]) >>> 0);
  return Math.max((w[c + FLAGS] & F_PASSIVE) !== 0 ? numbers - 1 : numbers, 0);
}

/** Numbers received behind the peer's SYN, its FIN among them. */
function bytesReceived(w: Int32Array, c: number): number {
  if (w[c + STATE] === SYN_SENT || w[c + STATE] === SYN_RECEIVED) return 0;
  const copied = w[c + COPIED];
  const rounds = w[c + COPIED_ROUNDS] + (cameRound(copied, w[c + SPACE_SEQ], w[c + IRS]) ? 1 : 0);
  const numbers = rounds * ROUND + ((copied - w[c + IRS]) >>> 0) + ((w[c + RCV_NXT] - copied) | 0) - 1;
  return Math.max(numbers, 0);
}

function busyTime(w: Int32Array, c: number, us: number): number {
  const now = w[c + PACKETS_OUT] > 0 ? Math.max(((us | 0) - w[c + BUSY_SINCE_US]) | 0, 0) : 0;
  return float64(w, c + BUSY_US) + (w[c + ROUND_BUSY_US] >>> 0) + now;
}

const pair = new Int32Array(2);
const number = new Float64Array(pair.buffer);

function float64(w: Int32Array, at: number): number {
  pair[0] = w[at];
  pair[1] = w[at + 1];
  return number[0];
}

const INFO_BYTES = 280;
/** Fields of the structure with their offsets: one byte each, u32, u64. What is not here is 0: nothing like it is counted. */
const BYTES: readonly (readonly [at: number, field: keyof TcpInfo])[] = [
  [1, "caState"],
  [2, "retransmits"],
  [3, "probes"],
  [4, "backoff"],
  [5, "options"],
];
const WORDS: readonly (readonly [at: number, field: keyof TcpInfo])[] = [
  [8, "rto"],
  [12, "ato"],
  [16, "sndMss"],
  [20, "rcvMss"],
  [24, "unacked"],
  [28, "sacked"],
  [32, "lost"],
  [36, "retrans"],
  [44, "lastDataSentMs"],
  [52, "lastDataRecvMs"],
  [56, "lastAckRecvMs"],
  [60, "pmtu"],
  [64, "rcvSsthresh"],
  [68, "rtt"],
  [72, "rttvar"],
  [76, "sndSsthresh"],
  [80, "sndCwnd"],
  [84, "advmss"],
  [88, "reordering"],
  [92, "rcvRtt"],
  [96, "rcvSpace"],
  [100, "totalRetrans"],
  [136, "segsOut"],
  [140, "segsIn"],
  [144, "notsentBytes"],
  [148, "minRtt"],
  [152, "dataSegsIn"],
  [156, "dataSegsOut"],
  [192, "delivered"],
  [228, "sndWnd"],
  [232, "rcvWnd"],
];
const LONGS: readonly (readonly [at: number, field: keyof TcpInfo])[] = [
  [104, "pacingRate"],
  [120, "bytesAcked"],
  [128, "bytesReceived"],
  [160, "deliveryRate"],
  [168, "busyTime"],
  [200, "bytesSent"],
  [208, "bytesRetrans"],
];
const MAX_PACING_RATE_AT = 112;
const NO_RATE = 2n ** 64n - 1n;

/** The bytes that getsockopt(2) gives. */
export function tcpInfoBytes(info: TcpInfo): Uint8Array {
  const bytes = new Uint8Array(INFO_BYTES);
  const view = new DataView(bytes.buffer);
  bytes[0] = info.state;
  if (info.state === LISTEN) return bytes;
  for (const [at, field] of BYTES) bytes[at] = info[field] as number;
  bytes[6] = (info.sndWscale & 0xf) | (info.rcvWscale << 4);
  for (const [at, field] of WORDS) view.setUint32(at, info[field] as number, true);
  for (const [at, field] of LONGS) view.setBigUint64(at, BigInt(Math.floor(info[field] as number)), true);
  view.setBigUint64(MAX_PACING_RATE_AT, info.maxPacingRate === 0 ? NO_RATE : BigInt(info.maxPacingRate), true);
  return bytes;
}
