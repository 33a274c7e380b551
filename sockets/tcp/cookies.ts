/**
 * SYN cookies (D. J. Bernstein; net/ipv4/syncookies.c): a SYN-ACK's sequence number that stands for the record which
 * there was no room for. It holds a count of minutes in its upper byte and an index of MSS in the sum of the rest; what
 * else was negotiated is in the lower bits of the timestamp, where the peer echoes it.
 *
 * Linux adds the SYN's sequence number to a hash; here it is hashed. Else the last acknowledgment of a connection in which
 * both sides have sent as many bytes as the other would be a cookie's again, and open it once more.
 */
import type { Tcp } from "./core.ts";
import { HASH_COOKIE, hashFlow } from "./isn.ts";
import { F_ECN, F_SACK, F_WSCALE } from "./tcb.ts";

/** The count's step, ms (TCP_SYNCOOKIE_PERIOD), and steps for which a cookie is good. */
const PERIOD_MS = 60_000;
const AGE_MAX = 2;
const DATA_MASK = 0xff_ffff;
/** MSS that a cookie may stand for (msstab of IPv4 and IPv6 together): the largest that is no larger is taken. */
const MSS_TABLE = [536, 1220, 1300, 1440, 1460, 4312, 8960] as const;
/** Bits of a timestamp: shift, SACK, ECN; they are its lowest six (TSBITS). */
const TS_BITS = 6;
const TS_MASK = (1 << TS_BITS) - 1;
const TS_SCALE_NONE = 15;
const TS_SACK = 1 << 4;
const TS_ECN = 1 << 5;

function minutes(t: Tcp): number {
  return Math.floor(t.now / 1000 / PERIOD_MS);
}

/** The upper byte's mask, the lower bytes' sum, of a SYN with that sequence number. */
function mask(t: Tcp, c: number, seq: number): number {
  return hashFlow(t, c, HASH_COOKIE, -1, seq) & (0xff << 24);
}

function sum(t: Tcp, c: number, seq: number, count: number): number {
  return hashFlow(t, c, HASH_COOKIE, count | 0, seq) & DATA_MASK;
}

/** The cookie of the SYN in hand, from the addresses in record `c`. */
export function makeCookie(t: Tcp, c: number, mss: number): number {
  let index = MSS_TABLE.length - 1;
  while (index > 0 && MSS_TABLE[index] > mss) index--;
  const count = minutes(t);
  const data = (sum(t, c, t.segSeq, count) + index) & DATA_MASK;
  return (mask(t, c, t.segSeq) ^ (count << 24)) | data;
}

/** The MSS that the acknowledgment in hand brings back, or 0: it is of no cookie of ours, or of an old one. */
export function checkCookie(t: Tcp, c: number): number {
  const cookie = (t.segAck - 1) | 0;
  const seq = (t.segSeq - 1) | 0;
  const count = minutes(t);
  const age = (count - ((cookie ^ mask(t, c, seq)) >>> 24)) & 0xff;
  if (age >= AGE_MAX) return 0;
  const index = ((cookie & DATA_MASK) - sum(t, c, seq, count - age)) & DATA_MASK;
  return index < MSS_TABLE.length ? MSS_TABLE[index] : 0;
}

/** A timestamp not later than `value` whose lowest bits hold what was negotiated. `scale`: the peer's, of F_WSCALE. */
export function cookieTimestamp(value: number, flags: number, scale: number): number {
  let bits = (flags & F_WSCALE) !== 0 ? scale : TS_SCALE_NONE;
  if ((flags & F_SACK) !== 0) bits |= TS_SACK;
  if ((flags & F_ECN) !== 0) bits |= TS_ECN;
  const stamped = (value & ~TS_MASK) | bits;
  return ((stamped - value) | 0) > 0 ? (stamped - (1 << TS_BITS)) | 0 : stamped;
}

/** F_ bits in an echoed timestamp. */
export function cookieFlags(echo: number): number {
  let flags = 0;
  if ((echo & TS_SCALE_NONE) !== TS_SCALE_NONE) flags |= F_WSCALE;
  if ((echo & TS_SACK) !== 0) flags |= F_SACK;
  if ((echo & TS_ECN) !== 0) flags |= F_ECN;
  return flags;
}

/** The peer's shift in an echoed timestamp. */
export function cookieScale(echo: number): number {
  return echo & TS_SCALE_NONE;
}
