/** Segment sizes (RFC 9293, section 3.7.1; RFC 6691): what we tell, what we send. Options are not counted in an MSS. */
import { IPV4_HEADER } from "../wire/ipv4.ts";
import { IPV6_HEADER } from "../wire/ipv6.ts";
import { TCP_HEADER } from "../wire/tcp.ts";
import type { Tcp } from "./core.ts";
import { F_V6, FLAGS, LOCAL, MSS, PEER_MSS, PMTU, USER_MSS } from "./tcb.ts";

/** What a peer takes that does not say (RFC 9293, MUST-15). */
export const MSS_DEFAULT_4 = 536;
export const MSS_DEFAULT_6 = 1220;

/** Bytes of the headers before a segment's data. */
export function headerBytes(w: Int32Array, c: number): number {
  return TCP_HEADER + ((w[c + FLAGS] & F_V6) !== 0 ? IPV6_HEADER : IPV4_HEADER);
}

/** The MSS option that we send: what the link takes, or what the user has set. */
export function advertisedMss(t: Tcp, c: number): number {
  const { w } = t;
  const link = t.sink.mtu(w, c + LOCAL, (w[c + FLAGS] & F_V6) !== 0) - headerBytes(w, c);
  return Math.max(Math.min(link, w[c + USER_MSS] === 0 ? link : w[c + USER_MSS], 65_535), t.config.mssFloor);
}

/** Takes note of the peer's MSS option, 0 for none, or of the user's, where that is less. */
export function setPeerMss(w: Int32Array, c: number, option: number): void {
  const peer = option !== 0 ? option : (w[c + FLAGS] & F_V6) !== 0 ? MSS_DEFAULT_6 : MSS_DEFAULT_4;
  w[c + PEER_MSS] = w[c + USER_MSS] === 0 ? peer : Math.min(peer, w[c + USER_MSS]);
}

/** Works out MSS anew: the peer's, or the path's, whichever is less (tcp_sync_mss). */
export function syncMss(t: Tcp, c: number): void {
  const { w } = t;
  const mss = Math.min(w[c + PMTU] - headerBytes(w, c), w[c + PEER_MSS]);
  w[c + MSS] = Math.max(mss, t.config.mssFloor);
}
