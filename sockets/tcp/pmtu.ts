/** What routers report (RFC 1191, 8201, 5461, 5927), and paths that report nothing (RFC 4821's black holes, tcp_mtu_probing). */
import type { Tcp } from "./core.ts";
import { N } from "./counters.ts";
import { segmentSize } from "./emit.ts";
import { headerBytes, syncMss } from "./mss.ts";
import { push } from "./output.ts";
import { retransmitSmaller } from "./recovery.ts";
import { retransmitLost } from "./retransmit.ts";
import { finish } from "./states.ts";
import {
  BLACK_HOLE_MS,
  ERROR,
  F_NO_PMTUD,
  F_V6,
  FLAGS,
  L_BLACK_HOLE,
  LOCAL,
  LOCKS,
  MSS,
  PMTU,
  SND_NXT,
  SND_UNA,
  STATE,
  SYN_RECEIVED,
  SYN_SENT,
  TCB_WORDS,
} from "./tcb.ts";

/** Kinds of report. */
export const ICMP_TOO_BIG = 0;
/** A hard error while the handshake is under way, else one to be told when nothing comes through. */
export const ICMP_UNREACHABLE = 1;

/** Least path MTUs believed: net.ipv4.route.min_pmtu, and RFC 8200's. */
const PMTU_MIN_4 = 552;
const PMTU_MIN_6 = 1280;
const PROBE_INTERVAL_MS = 600_000;

/**
 * A router or host has reported a segment of ours. The quoted addresses and ports are in record `t.scratch`, ours as LOCAL.
 * @param kind ICMP_
 * @param seq sequence number quoted: a report about nothing in flight is forged or late (RFC 5927, section 4)
 * @param mtu of the next link, for ICMP_TOO_BIG; 0: not told
 * @param errno for ICMP_UNREACHABLE
 * @returns false: it is of no connection, or of nothing that is in flight
 */
export function icmpReport(t: Tcp, kind: number, seq: number, mtu: number, errno: number): boolean {
  const { w } = t;
  const c = t.findLike(t.scratch);
  if (c < 0) return false;
  const state = w[c + STATE];
  if (((seq - w[c + SND_UNA]) | 0) < 0 || ((seq - w[c + SND_NXT]) | 0) >= 0) return false;
  if (kind === ICMP_TOO_BIG) {
    tooBig(t, c, mtu);
    return true;
  }
  if (state === SYN_SENT || state === SYN_RECEIVED) finish(t, c, errno);
  // RFC 9293, MUST-56: told, not obeyed.
  else w[c + ERROR] = (w[c + ERROR] & 0xffff) | (errno << 16);
  return true;
}

/** A smaller path MTU: what is too large is sent again, in smaller segments, at once. */
function tooBig(t: Tcp, c: number, mtu: number): void {
  const { w } = t;
  if ((w[c + FLAGS] & F_NO_PMTUD) !== 0) return;
  const least = (w[c + FLAGS] & F_V6) !== 0 ? PMTU_MIN_6 : PMTU_MIN_4;
  const told = Math.max(mtu, least);
  if (told >= w[c + PMTU]) return;
  w[c + PMTU] = told;
  syncMss(t, c);
  t.counters[N.PMTUReduced]++;
  t.newlyLost = 0;
  if (retransmitSmaller(t, c, segmentSize(w, c))) {
    retransmitLost(t, c);
    push(t, c, false);
  }
}

/** The path's MTU as it is known elsewhere now: it may grow again. */
export function setPathMtu(t: Tcp, id: number, mtu: number): void {
  const { w } = t;
  const c = id * TCB_WORDS;
  w[c + LOCKS] &= ~L_BLACK_HOLE;
  w[c + PMTU] = Math.max(mtu, headerBytes(w, c) + t.config.mssFloor);
  syncMss(t, c);
}

/** Segments of a path that seemed to lose large ones are tried again after ten minutes (net.ipv4.tcp_probe_interval). */
export function leaveBlackHole(t: Tcp, c: number): void {
  const { w } = t;
  if (((t.ms - w[c + BLACK_HOLE_MS]) | 0) < PROBE_INTERVAL_MS) return;
  w[c + LOCKS] &= ~L_BLACK_HOLE;
  w[c + PMTU] = t.sink.mtu(w, c + LOCAL, (w[c + FLAGS] & F_V6) !== 0);
  syncMss(t, c);
}

/** Timeouts in a row: perhaps what is large is lost without a report. Segments are halved (tcp_mtu_probing). */
export function blackHole(t: Tcp, c: number): void {
  const { w, config } = t;
  if (!config.mtuProbing || (w[c + FLAGS] & F_NO_PMTUD) !== 0) return;
  const first = (w[c + LOCKS] & L_BLACK_HOLE) === 0;
  const mss = first ? Math.min(config.baseMss, w[c + MSS]) : w[c + MSS] >> 1;
  w[c + LOCKS] |= L_BLACK_HOLE;
  w[c + BLACK_HOLE_MS] = t.ms;
  if (first) t.counters[N.TCPMTUPFail]++;
  const lowered = Math.max(mss, config.mssFloor);
  if (lowered >= w[c + MSS]) return;
  w[c + PMTU] = lowered + headerBytes(w, c);
  syncMss(t, c);
}
