/** struct tcp_info (include/uapi/linux/tcp.h of 6.18), of a connection's record. */
import {
  ATO_US,
  BACKOFF,
  CA_STATE,
  CLOSED,
  CWND,
  DELIVERED,
  F_ECN,
  F_SACK,
  F_TS,
  F_WSCALE,
  FLAGS,
  LISTEN,
  LOST_OUT,
  MDEV_US,
  MIN_RTT_US,
  MSS,
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
  SND_WND,
  SPACE,
  SRTT_US,
  SSTHRESH,
  WRITE_SEQ,
} from "../../tcp/tcb.ts";

const INFO_BYTES = 280;
/** TCPI_OPT_ bits, each with the flag of the record. */
const AGREED: readonly (readonly [flag: number, bit: number])[] = [
  [F_TS, 1],
  [F_SACK, 2],
  [F_WSCALE, 4],
  [F_ECN, 8],
];
/** u32 fields of the structure by offset, each with the word that has it. */
const WORDS: readonly (readonly [at: number, field: number])[] = [
  [8, RTO_US],
  [12, ATO_US],
  [16, MSS],
  [20, RCV_MSS],
  [24, PACKETS_OUT],
  [28, SACKED_OUT],
  [32, LOST_OUT],
  [36, RETRANS_OUT],
  [60, PMTU],
  [64, RCV_SSTHRESH],
  [76, SSTHRESH],
  [80, CWND],
  [88, REORDERING],
  [92, RCV_RTT_US],
  [96, SPACE],
  [104, PACING_RATE],
  [148, MIN_RTT_US],
  [192, DELIVERED],
  [228, SND_WND],
  [232, RCV_WND],
];

/** @param word of the record @param state as it is told, which is not always the record's */
export function streamInfo(word: (field: number) => number, state: number): Uint8Array {
  const bytes = new Uint8Array(INFO_BYTES);
  const view = new DataView(bytes.buffer);
  bytes[0] = state;
  if (state === LISTEN) return bytes;
  const flags = word(FLAGS);
  bytes[1] = word(CA_STATE);
  bytes[2] = word(RETRIES);
  bytes[3] = word(PROBES_OUT);
  bytes[4] = word(BACKOFF);
  for (const [flag, bit] of AGREED) if ((flags & flag) !== 0) bytes[5] |= bit;
  bytes[6] = (word(SCALES) & 0xf) | ((word(SCALES) >> 8) << 4);
  for (const [at, field] of WORDS) view.setInt32(at, word(field), true);
  view.setInt32(68, word(SRTT_US) >> 3, true);
  view.setInt32(72, word(MDEV_US) >> 2, true);
  if (state !== CLOSED) view.setInt32(144, Math.max((word(WRITE_SEQ) - word(SND_NXT)) | 0, 0), true);
  return bytes;
}
