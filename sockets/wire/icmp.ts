/** ICMP for IPv4 (RFC 792) and IPv6 (RFC 4443). */
import { fold, pseudoSum6, storeChecksum, sum, swap16, updateChecksum } from "./checksum.ts";
import { NEXTHDR_ICMP } from "./ipv6.ts";
import { type FrameViews, readInt32, readUint16, writeInt32 } from "./views.ts";

/** Field offsets in bytes from the header's start, the same in both versions. */
export const ICMP_TYPE = 0;
export const ICMP_CODE = 1;
export const ICMP_CHECKSUM = 2;
/** Four bytes whose meaning is the type's: identifier and sequence number, MTU, or unused. */
export const ICMP_REST = 4;
/** Bytes of the header. An error message carries the offending packet's start after it. */
export const ICMP_HEADER = 8;

/** Types and codes of ICMP (include/uapi/linux/icmp.h). */
export const ICMP_ECHOREPLY = 0;
export const ICMP_DEST_UNREACH = 3;
export const ICMP_SOURCE_QUENCH = 4;
export const ICMP_REDIRECT = 5;
export const ICMP_ECHO = 8;
export const ICMP_TIME_EXCEEDED = 11;
export const ICMP_PARAMETERPROB = 12;
export const ICMP_HOST_UNREACH = 1;
export const ICMP_PROT_UNREACH = 2;
export const ICMP_PORT_UNREACH = 3;
/** Code of ICMP_DEST_UNREACH; the low 16 bits of ICMP_REST are the next hop's MTU (RFC 1191). */
export const ICMP_FRAG_NEEDED = 4;

/** Types and codes of ICMPv6 (include/uapi/linux/icmpv6.h). */
export const ICMPV6_DEST_UNREACH = 1;
/** ICMP_REST is the next hop's MTU. */
export const ICMPV6_PKT_TOOBIG = 2;
export const ICMPV6_TIME_EXCEED = 3;
export const ICMPV6_PARAMPROB = 4;
export const ICMPV6_ECHO_REQUEST = 128;
export const ICMPV6_ECHO_REPLY = 129;
/** Multicast listener discovery (RFC 2710; RFC 3810 for the last). */
export const ICMPV6_MGM_QUERY = 130;
export const ICMPV6_MGM_REPORT = 131;
export const ICMPV6_MGM_REDUCTION = 132;
export const ICMPV6_MLD2_REPORT = 143;
/** Codes of ICMPV6_DEST_UNREACH. */
export const ICMPV6_ADDR_UNREACH = 3;
export const ICMPV6_PORT_UNREACH = 4;
/** Code of ICMPV6_PARAMPROB; ICMP_REST is the offset of the byte that names the header. */
export const ICMPV6_UNK_NEXTHDR = 1;
/** Types from here on inform, those below report errors (RFC 4443, section 2.1). */
export const ICMPV6_INFOMSG_MASK = 0x80;

/** What checkIcmp4() and checkIcmp6() say; beside each the counters that Linux raises (net/ipv4/icmp.c, net/ipv6/icmp.c). */
export const ICMP_OK = 0;
/** The checksum is wrong: IcmpInCsumErrors and IcmpInErrors, or Icmp6InCsumErrors and Icmp6InErrors. */
export const ICMP_BAD_CHECKSUM = 1;
/** The packet ends inside the header: IcmpInErrors, Icmp6InErrors. */
export const ICMP_TRUNCATED = 2;

/** The door over IPv4. `length`: bytes of the packet's payload. After ICMP_OK every accessor here may be called. */
export function checkIcmp4(views: FrameViews, icmp: number, length: number): number {
  if (length < ICMP_HEADER) return ICMP_TRUNCATED;
  return fold(sum(views, icmp, length, 0)) === 0xffff ? ICMP_OK : ICMP_BAD_CHECKSUM;
}

/** The door over IPv6, as checkIcmp4(). `ip`: offset of the IPv6 header, for the pseudo-header. */
export function checkIcmp6(views: FrameViews, icmp: number, length: number, ip: number): number {
  if (length < ICMP_HEADER) return ICMP_TRUNCATED;
  const pseudo = pseudoSum6(views, ip, NEXTHDR_ICMP, length);
  return fold(sum(views, icmp, length, pseudo)) === 0xffff ? ICMP_OK : ICMP_BAD_CHECKSUM;
}

export function icmpType(bytes: Uint8Array, icmp: number): number {
  return bytes[icmp + ICMP_TYPE];
}

export function icmpCode(bytes: Uint8Array, icmp: number): number {
  return bytes[icmp + ICMP_CODE];
}

/** The four bytes after the checksum, as an int32. */
export function icmpRest(bytes: Uint8Array, icmp: number): number {
  return readInt32(bytes, icmp + ICMP_REST);
}

/** MTU of the next hop in an ICMP_FRAG_NEEDED message; 0 from a router older than RFC 1191. */
export function icmpNextHopMtu(bytes: Uint8Array, icmp: number): number {
  return readUint16(bytes, icmp + ICMP_REST + 2);
}

/** Writes type, code and rest. finishIcmp4() or finishIcmp6() does the checksum when the body is written. */
export function writeIcmp(bytes: Uint8Array, icmp: number, type: number, code: number, rest: number): void {
  bytes[icmp + ICMP_TYPE] = type;
  bytes[icmp + ICMP_CODE] = code;
  bytes[icmp + ICMP_CHECKSUM] = 0;
  bytes[icmp + ICMP_CHECKSUM + 1] = 0;
  writeInt32(bytes, icmp + ICMP_REST, rest);
}

/** Fills in the checksum, whose field is 0. `length`: bytes of header and body. */
export function finishIcmp4(views: FrameViews, icmp: number, length: number): void {
  storeChecksum(views, icmp + ICMP_CHECKSUM, sum(views, icmp, length, 0));
}

/** finishIcmp4() over IPv6, whose header at `ip` is written. */
export function finishIcmp6(views: FrameViews, icmp: number, length: number, ip: number): void {
  storeChecksum(views, icmp + ICMP_CHECKSUM, sum(views, icmp, length, pseudoSum6(views, ip, NEXTHDR_ICMP, length)));
}

/**
 * Turns an echo request into its reply in place: type and checksum. The addresses, which the caller exchanges, do not
 * change the pseudo-header's sum.
 * @param reply ICMP_ECHOREPLY or ICMPV6_ECHO_REPLY
 */
export function echoToReply(views: FrameViews, icmp: number, reply: number): void {
  const field = (icmp + ICMP_CHECKSUM) >> 1;
  const code = views.bytes[icmp + ICMP_CODE];
  const before = (views.bytes[icmp + ICMP_TYPE] << 8) | code;
  views.half[field] = updateChecksum(views.half[field], swap16(before), swap16((reply << 8) | code));
  views.bytes[icmp + ICMP_TYPE] = reply;
}
