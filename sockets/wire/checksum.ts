/**
 * The Internet checksum (RFC 1071) over frame memory.
 *
 * Sums are taken over halfwords as the CPU reads them. The one's-complement sum does not depend on the byte order as
 * long as the result is stored the way the operands were read (RFC 1071, section 2 B); so a *sum* here is never swapped:
 * what fold() returns is compared with, and stored as, a halfword of `views.half`.
 *
 * Measured (Bun 1.4.5, AMD EPYC 7003, one core): Ethernet, IPv4 and UDP headers parsed and both checksums verified take
 * 22 to 28 ns at 18 bytes of payload and 30 to 36 at 64 when written in one function, and 16 ns more through
 * networkOffset(), checkIpv4() and checkUdp4(), which the JIT calls rather than inlines. Summing byte pairs, a DataView,
 * words split in two or words with a carry from an unsigned comparison was no faster at these sizes, nor was unrolling:
 * sum() must stay small enough to be inlined. Only for long ranges does sumLong() win: a datagram of 1472 bytes takes
 * 146 ns instead of 254.
 */
import type { FrameViews } from "./views.ts";

/** Bytes from which words, four bytes an addition, beat halfwords. */
export const LONG_BYTES = 256;

/**
 * Adds `length` bytes at `offset` to the sum `initial`; an odd last byte counts as if a zero byte followed.
 * @param length at most 65,535 bytes
 * @param initial a sum below 2^20, such as pseudoSum4(), to go on from; 0 to begin
 * @returns a sum to pass on as `initial` or to fold(), below 2^31
 */
export function sum(views: FrameViews, offset: number, length: number, initial: number): number {
  if (length >= LONG_BYTES || (offset & 1) !== 0) return sumOther(views, offset, length, initial);
  const half = views.half;
  const end = (offset + length) >> 1;
  let total = initial;
  for (let i = offset >> 1; i < end; i++) total = (total + half[i]) | 0;
  if ((length & 1) !== 0) total = (total + (half[end] & 0xff)) | 0;
  return total;
}

/** What is not short and even: out of sum(), to keep that small. */
function sumOther(views: FrameViews, offset: number, length: number, initial: number): number {
  if ((offset & 1) !== 0) return sumOdd(views, offset, length, initial);
  return sumLong(views, offset, length, initial);
}

/** sum() of at least LONG_BYTES at an even offset. */
function sumLong(views: FrameViews, offset: number, length: number, initial: number): number {
  const half = views.half;
  const word = views.word;
  const end = offset + length;
  let at = offset;
  let total = initial;
  if ((at & 2) !== 0) {
    total = (total + half[at >> 1]) | 0;
    at += 2;
  }
  // Up to 2^14 words of 32 bits: exact in 46 bits, for which the JIT uses an integer register.
  let words = 0;
  let i = at >> 2;
  const wordEnd = end >> 2;
  for (; i + 8 <= wordEnd; i += 8) {
    words += word[i] + word[i + 1] + word[i + 2] + word[i + 3];
    words += word[i + 4] + word[i + 5] + word[i + 6] + word[i + 7];
  }
  for (at = i << 2; at + 2 <= end; at += 2) total = (total + half[at >> 1]) | 0;
  if (at < end) total = (total + (half[at >> 1] & 0xff)) | 0;
  // 2^32 is 1 modulo 2^16 - 1, so the carries out of 32 bits are added at the bottom.
  return (total + fold(words | 0) + Math.floor(words / 2 ** 32)) | 0;
}

/** A range at an odd offset has its bytes in the other halves of the halfwords: the swapped sum is its sum. */
function sumOdd(views: FrameViews, offset: number, length: number, initial: number): number {
  if (length === 0) return initial;
  const rest = sum(views, offset + 1, length - 1, 0);
  return (initial + views.bytes[offset] + swap16(fold(rest))) | 0;
}

/** A sum in 16 bits. It is 0 only for a sum of 0: every other multiple of 65,535 gives 65,535. */
export function fold(total: number): number {
  const once = (total & 0xffff) + (total >>> 16);
  return (once & 0xffff) + (once >>> 16);
}

/** The two bytes of a 16-bit number exchanged: between a number and its halfword in network order. */
export function swap16(value: number): number {
  return ((value & 0xff) << 8) | (value >>> 8);
}

/** Sum of the pseudo-header (RFC 768) of the IPv4 header at `ip`, for `length` bytes of `protocol`. */
export function pseudoSum4(views: FrameViews, ip: number, protocol: number, length: number): number {
  const half = views.half;
  const source = (ip + 12) >> 1;
  return (half[source] + half[source + 1] + half[source + 2] + half[source + 3] + (protocol << 8) + swap16(length)) | 0;
}

/** Sum of the pseudo-header (RFC 8200, section 8.1) of the IPv6 header at `ip`, for up to 65,535 bytes of `protocol`. */
export function pseudoSum6(views: FrameViews, ip: number, protocol: number, length: number): number {
  return sum(views, ip + 8, 32, (protocol << 8) + swap16(length));
}

/** Stores the checksum that makes `total`, a sum over the range with 0 in its field, come out right. */
export function storeChecksum(views: FrameViews, field: number, total: number): void {
  views.half[field >> 1] = ~fold(total);
}

/** The checksum is right. */
export const CHECKSUM_OK = 0;
/** The checksum is wrong. */
export const CHECKSUM_BAD = 1;
/**
 * The field holds the folded sum of the pseudo-header, not complemented: the sender's kernel left the rest to hardware
 * that a veth or virtio link does not have (CHECKSUM_PARTIAL, include/linux/skbuff.h; uh->check = ~csum_tcpudp_magic()
 * in udp_send_skb and tcp_v4_send_check). Nothing proves the payload; a port says whether such frames are to be
 * expected (Port.partialChecksums).
 */
export const CHECKSUM_PARTIAL = 2;

/**
 * Verifies a TCP, UDP or ICMPv6 checksum.
 * @param field offset of the checksum field, within the range
 * @param pseudo pseudoSum4() or pseudoSum6() of the range
 */
export function verify(views: FrameViews, offset: number, length: number, field: number, pseudo: number): number {
  if (fold(sum(views, offset, length, pseudo)) === 0xffff) return CHECKSUM_OK;
  return views.half[field >> 1] === fold(pseudo) ? CHECKSUM_PARTIAL : CHECKSUM_BAD;
}

/**
 * A checksum field after one halfword that it covers has changed (RFC 1624, equation 3). All three in one byte order,
 * whichever.
 */
export function updateChecksum(checksum: number, before: number, after: number): number {
  return ~fold((~checksum & 0xffff) + (~before & 0xffff) + after) & 0xffff;
}
