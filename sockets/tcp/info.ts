/** What is known of a connection: struct tcp_info (include/uapi/linux/tcp.h) by its names, and what `ss -ti` shows. */
import { CONGESTION_NAMES } from "./config.ts";
import { SSTHRESH_MAX } from "./congestion/window.ts";
import type { Tcp } from "./core.ts";
import { segmentSize } from "./emit.ts";
import { advertisedMss } from "./mss.ts";
import { readable } from "./receive.ts";
import {
  ATO_US,
  BACKOFF,
  CA_STATE,
  CONGESTION,
  CWND,
  DELIVERED,
  F_ECN,
  F_SACK,
  F_TS,
  F_WSCALE,
  FLAGS,
  LAST_ACK_MS,
  LAST_RCV_MS,
  LAST_SND_MS,
  LOST_OUT,
  MDEV_US,
  MIN_RTT_US,
  PACING_RATE,
  PACKETS_OUT,
  PMTU,
  PROBES_OUT,
  RCV_MSS,
  RCV_RTT_US,
  RCV_SSTHRESH,
  RCV_WND,
  REORDERING,
  RETRANS_OUT,
  RETRIES,
  RTO_US,
  SACKED_OUT,
  SCALES,
  SND_NXT,
  SND_UNA,
  SND_WND,
  SPACE,
  SRTT_US,
  SSTHRESH,
  STATE,
  TCB_WORDS,
  WRITE_SEQ,
} from "./tcb.ts";

/** Values of `options` (TCPI_OPT_). */
const TCPI_OPT_TIMESTAMPS = 1;
const TCPI_OPT_SACK = 2;
const TCPI_OPT_WSCALE = 4;
const TCPI_OPT_ECN = 8;

/** Times in microseconds unless they end in Ms, windows in segments where tcp_info has them so, else bytes. */
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
  advmss: number;
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
  minRtt: number;
  sndSsthresh: number;
  sndCwnd: number;
  reordering: number;
  rcvRtt: number;
  rcvSpace: number;
  pacingRate: number;
  delivered: number;
  sndWnd: number;
  rcvWnd: number;
  /** Bytes written and not sent, written and not acknowledged, come and not read. */
  notsentBytes: number;
  unackedBytes: number;
  unreadBytes: number;
  congestion: string;
}

/** TCP_INFO: allocates, and is not for the packet path. */
export function tcpInfo(t: Tcp, id: number): TcpInfo {
  const { w } = t;
  const c = id * TCB_WORDS;
  const flags = w[c + FLAGS];
  const option = (bit: number, value: number): number => ((flags & bit) !== 0 ? value : 0);
  return {
    state: w[c + STATE],
    caState: w[c + CA_STATE],
    retransmits: w[c + RETRIES],
    probes: w[c + PROBES_OUT],
    backoff: w[c + BACKOFF],
    options:
      option(F_TS, TCPI_OPT_TIMESTAMPS) |
      option(F_SACK, TCPI_OPT_SACK) |
      option(F_WSCALE, TCPI_OPT_WSCALE) |
      option(F_ECN, TCPI_OPT_ECN),
    sndWscale: w[c + SCALES] & 0xff,
    rcvWscale: w[c + SCALES] >> 8,
    rto: w[c + RTO_US],
    ato: w[c + ATO_US],
    sndMss: segmentSize(w, c),
    rcvMss: w[c + RCV_MSS],
    advmss: advertisedMss(t, c),
    unacked: w[c + PACKETS_OUT],
    sacked: w[c + SACKED_OUT],
    lost: w[c + LOST_OUT],
    retrans: w[c + RETRANS_OUT],
    lastDataSentMs: (t.ms - w[c + LAST_SND_MS]) | 0,
    lastDataRecvMs: (t.ms - w[c + LAST_RCV_MS]) | 0,
    lastAckRecvMs: (t.ms - w[c + LAST_ACK_MS]) | 0,
    pmtu: w[c + PMTU],
    rcvSsthresh: w[c + RCV_SSTHRESH],
    rtt: w[c + SRTT_US] >> 3,
    rttvar: w[c + MDEV_US] >> 2,
    minRtt: w[c + MIN_RTT_US],
    sndSsthresh: Math.min(w[c + SSTHRESH], SSTHRESH_MAX),
    sndCwnd: w[c + CWND],
    reordering: w[c + REORDERING],
    rcvRtt: w[c + RCV_RTT_US],
    rcvSpace: w[c + SPACE],
    pacingRate: w[c + PACING_RATE],
    delivered: w[c + DELIVERED],
    sndWnd: w[c + SND_WND],
    rcvWnd: w[c + RCV_WND],
    notsentBytes: Math.max((w[c + WRITE_SEQ] - w[c + SND_NXT]) | 0, 0),
    unackedBytes: Math.max((w[c + SND_NXT] - w[c + SND_UNA]) | 0, 0),
    unreadBytes: Math.max(readable(w, c), 0),
    congestion: CONGESTION_NAMES[w[c + CONGESTION]],
  };
}
