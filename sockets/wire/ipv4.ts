/** IPv4 header (RFC 791). */
import { fold, storeChecksum, sum } from "./checksum.ts";
import { type FrameViews, readInt32, readUint16, writeInt32, writeUint16 } from "./views.ts";

/** Field offsets in bytes from the header's start. */
export const IPV4_VERSION_IHL = 0;
export const IPV4_TOS = 1;
export const IPV4_TOTAL_LENGTH = 2;
export const IPV4_ID = 4;
/** Three flag bits, then the fragment offset in units of 8 bytes. */
export const IPV4_FRAGMENT = 6;
export const IPV4_TTL = 8;
export const IPV4_PROTOCOL = 9;
export const IPV4_CHECKSUM = 10;
export const IPV4_SRC = 12;
export const IPV4_DST = 16;
/** Bytes of a header without options. */
export const IPV4_HEADER = 20;
/** Bytes of a header with as many options as fit. */
export const IPV4_HEADER_MAX = 60;
/** The longest packet, header included. */
export const IPV4_LENGTH_MAX = 65535;

/** Bits of the IPV4_FRAGMENT field: don't fragment, more fragments, and the offset. */
export const IPV4_DF = 0x4000;
export const IPV4_MF = 0x2000;
export const IPV4_OFFSET_MASK = 0x1fff;

/** Protocol numbers, shared with IPv6's next header (IANA; include/uapi/linux/in.h). */
export const IPPROTO_ICMP = 1;
export const IPPROTO_IGMP = 2;
export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;

/** Options (include/uapi/linux/ip.h): the first two are one byte, the others have a length in their second. */
export const IPOPT_END = 0;
export const IPOPT_NOOP = 1;
/** Router alert (RFC 2113), 4 bytes. */
export const IPOPT_RA = 148;
/** Bit of an option's type: it is to be in every fragment. */
export const IPOPT_COPY = 0x80;

/** What checkIpv4() says; beside each the counters that Linux raises (ip_rcv_core, net/ipv4/ip_input.c). */
export const IPV4_OK = 0;
/** Version, header length or total length is impossible: IpInHdrErrors. */
export const IPV4_BAD_HEADER = 1;
/** The header's checksum is wrong: IpExtInCsumErrors and IpInHdrErrors. */
export const IPV4_BAD_CHECKSUM = 2;
/** The total length is more than the frame holds: IpExtInTruncatedPkts. */
export const IPV4_TRUNCATED = 3;

/**
 * The door: checks the header at `ip`. After IPV4_OK every accessor here may be called, the packet is
 * ipv4TotalLength() bytes (what the frame holds beyond is padding), and its payload begins at ip + ipv4HeaderLength().
 * @param length bytes from `ip` to the end of the frame
 */
export function checkIpv4(views: FrameViews, ip: number, length: number): number {
  const bytes = views.bytes;
  if (length < IPV4_HEADER) return IPV4_BAD_HEADER;
  const version = bytes[ip];
  const header = (version & 15) << 2;
  if (version >> 4 !== 4 || header < IPV4_HEADER || header > length) return IPV4_BAD_HEADER;
  if (fold(sum(views, ip, header, 0)) !== 0xffff) return IPV4_BAD_CHECKSUM;
  const total = readUint16(bytes, ip + IPV4_TOTAL_LENGTH);
  if (total > length) return IPV4_TRUNCATED;
  return total < header ? IPV4_BAD_HEADER : IPV4_OK;
}

/** Bytes of the header, options included: 20..60. */
export function ipv4HeaderLength(bytes: Uint8Array, ip: number): number {
  return (bytes[ip] & 15) << 2;
}

/** Bytes of the packet, header included. */
export function ipv4TotalLength(bytes: Uint8Array, ip: number): number {
  return readUint16(bytes, ip + IPV4_TOTAL_LENGTH);
}

/** DSCP in the upper six bits, ECN in the lower two. */
export function ipv4Tos(bytes: Uint8Array, ip: number): number {
  return bytes[ip + IPV4_TOS];
}

export function ipv4Id(bytes: Uint8Array, ip: number): number {
  return readUint16(bytes, ip + IPV4_ID);
}

/** True when the packet is a fragment: more follow, or it is not the first. */
export function ipv4IsFragment(bytes: Uint8Array, ip: number): boolean {
  return (readUint16(bytes, ip + IPV4_FRAGMENT) & (IPV4_MF | IPV4_OFFSET_MASK)) !== 0;
}

export function ipv4Ttl(bytes: Uint8Array, ip: number): number {
  return bytes[ip + IPV4_TTL];
}

export function ipv4Protocol(bytes: Uint8Array, ip: number): number {
  return bytes[ip + IPV4_PROTOCOL];
}

/** Source address as an int32, 198.18.0.1 being 0xc6120001 | 0. */
export function ipv4Source(bytes: Uint8Array, ip: number): number {
  return readInt32(bytes, ip + IPV4_SRC);
}

export function ipv4Destination(bytes: Uint8Array, ip: number): number {
  return readInt32(bytes, ip + IPV4_DST);
}

/** True for 224.0.0.0/4. */
export function isMulticast4(address: number): boolean {
  return address >>> 28 === 14;
}

/** Writes the six bytes of a group's Ethernet address: 01:00:5e and the lower 23 bits (RFC 1112, section 6.4). */
export function writeMulticastMac4(bytes: Uint8Array, at: number, group: number): void {
  bytes[at] = 0x01;
  bytes[at + 1] = 0x00;
  bytes[at + 2] = 0x5e;
  bytes[at + 3] = (group >>> 16) & 0x7f;
  bytes[at + 4] = group >>> 8;
  bytes[at + 5] = group;
}

/** True for 127.0.0.0/8. */
export function isLoopback4(address: number): boolean {
  return address >>> 24 === 127;
}

/**
 * Writes a header without options, checksum included.
 * @param totalLength bytes of header and payload
 * @param fragment the IPV4_FRAGMENT field, usually IPV4_DF
 */
export function writeIpv4(
  views: FrameViews,
  ip: number,
  tos: number,
  totalLength: number,
  id: number,
  fragment: number,
  ttl: number,
  protocol: number,
  source: number,
  destination: number,
): void {
  const bytes = views.bytes;
  bytes[ip + IPV4_VERSION_IHL] = 0x45;
  bytes[ip + IPV4_TOS] = tos;
  writeUint16(bytes, ip + IPV4_TOTAL_LENGTH, totalLength);
  writeUint16(bytes, ip + IPV4_ID, id);
  writeUint16(bytes, ip + IPV4_FRAGMENT, fragment);
  bytes[ip + IPV4_TTL] = ttl;
  bytes[ip + IPV4_PROTOCOL] = protocol;
  writeUint16(bytes, ip + IPV4_CHECKSUM, 0);
  writeInt32(bytes, ip + IPV4_SRC, source);
  writeInt32(bytes, ip + IPV4_DST, destination);
  storeChecksum(views, ip + IPV4_CHECKSUM, sum(views, ip, IPV4_HEADER, 0));
}
