/** IPv6 header (RFC 8200). Jumbograms (RFC 2675) are not accepted: no link here carries one. */
import { copyBytes, readInt32, readUint16, writeInt32, writeUint16 } from "./views.ts";

/** Field offsets in bytes from the header's start. */
export const IPV6_PAYLOAD_LENGTH = 4;
export const IPV6_NEXT_HEADER = 6;
export const IPV6_HOP_LIMIT = 7;
export const IPV6_SRC = 8;
export const IPV6_DST = 24;
/** Bytes of the header. */
export const IPV6_HEADER = 40;
export const IPV6_ADDRESS = 16;
/** The most bytes after the header. */
export const IPV6_PAYLOAD_MAX = 65535;
/** Every link carries packets of this length (RFC 8200, section 5). */
export const IPV6_MIN_MTU = 1280;

/** Next-header values that IPv4 has not (IANA; include/net/ipv6.h). */
export const NEXTHDR_HOP = 0;
export const NEXTHDR_ROUTING = 43;
export const NEXTHDR_FRAGMENT = 44;
export const NEXTHDR_ICMP = 58;
export const NEXTHDR_NONE = 59;
export const NEXTHDR_DEST = 60;

/** Fragment header (RFC 8200, section 4.5): offsets from its start, its bytes, and the bits of the offset field. */
export const FRAGMENT_NEXT_HEADER = 0;
export const FRAGMENT_OFFSET = 2;
export const FRAGMENT_ID = 4;
export const FRAGMENT_HEADER = 8;
export const IP6_MF = 0x0001;
/** The offset in bytes, as it stands in the field: it is a multiple of 8. */
export const IP6_OFFSET = 0xfff8;

/** Router alert in the hop-by-hop options (RFC 2711): type, length 2, then the value, 0 for MLD. */
export const IPV6_TLV_ROUTERALERT = 5;
export const IPV6_TLV_PADN = 1;

/** What checkIpv6() says; beside each the counters that Linux raises (ip6_rcv_core, net/ipv6/ip6_input.c). */
export const IPV6_OK = 0;
/** The version is not 6, the source is a multicast address, or the packet is a jumbogram: Ip6InHdrErrors. */
export const IPV6_BAD_HEADER = 1;
/** The payload length is more than the frame holds: Ip6InTruncatedPkts. */
export const IPV6_TRUNCATED = 2;

/**
 * The door: checks the header at `ip`. After IPV6_OK every accessor here may be called, and the payload, extension
 * headers included, is the ipv6PayloadLength() bytes at ip + IPV6_HEADER; what the frame holds beyond is padding.
 * @param length bytes from `ip` to the end of the frame
 */
export function checkIpv6(bytes: Uint8Array, ip: number, length: number): number {
  if (length < IPV6_HEADER) return IPV6_BAD_HEADER;
  if (bytes[ip] >> 4 !== 6 || bytes[ip + IPV6_SRC] === 0xff) return IPV6_BAD_HEADER;
  const payload = readUint16(bytes, ip + IPV6_PAYLOAD_LENGTH);
  if (payload === 0 && bytes[ip + IPV6_NEXT_HEADER] === NEXTHDR_HOP) return IPV6_BAD_HEADER;
  return payload > length - IPV6_HEADER ? IPV6_TRUNCATED : IPV6_OK;
}

/** Bytes after the header, extension headers included. */
export function ipv6PayloadLength(bytes: Uint8Array, ip: number): number {
  return readUint16(bytes, ip + IPV6_PAYLOAD_LENGTH);
}

/** Traffic class: DSCP in the upper six bits, ECN in the lower two. */
export function ipv6TrafficClass(bytes: Uint8Array, ip: number): number {
  return ((bytes[ip] & 15) << 4) | (bytes[ip + 1] >> 4);
}

/** Flow label, 20 bits. */
export function ipv6FlowLabel(bytes: Uint8Array, ip: number): number {
  return readInt32(bytes, ip) & 0xfffff;
}

/** Protocol of what follows the header: IPPROTO_* or NEXTHDR_*. */
export function ipv6NextHeader(bytes: Uint8Array, ip: number): number {
  return bytes[ip + IPV6_NEXT_HEADER];
}

export function ipv6HopLimit(bytes: Uint8Array, ip: number): number {
  return bytes[ip + IPV6_HOP_LIMIT];
}

/** The most extension headers walked; a packet with more is given up. RFC 8200, section 4.1, orders at most five. */
export const EXTENSION_HEADERS_MAX = 8;

/** Where transport6() found the transport header. Overwritten by each call. */
export const transport = {
  /** Its offset. */
  offset: 0,
  /** Its protocol, or the extension header that stopped the walk: NEXTHDR_FRAGMENT, NEXTHDR_NONE or an unknown one. */
  protocol: 0,
  /** Offset of the byte that names the protocol. */
  field: 0,
};

/**
 * Walks hop-by-hop, routing and destination options of a packet that checkIpv6() accepted, and fills `transport`.
 * Options are stepped over, not obeyed.
 * @returns bytes from transport.offset to the end of the packet, or -1: the chain leaves the packet or is too long
 */
export function transport6(bytes: Uint8Array, ip: number): number {
  return skipExtensions(bytes, ip + IPV6_NEXT_HEADER, ip + IPV6_HEADER, readUint16(bytes, ip + IPV6_PAYLOAD_LENGTH));
}

/**
 * transport6() from anywhere in a chain.
 * @param field offset of the byte that names the protocol at `offset`
 * @param length bytes from `offset` to the end
 */
export function skipExtensions(bytes: Uint8Array, field: number, offset: number, length: number): number {
  let named = field;
  let at = offset;
  let left = length;
  for (let walked = 0; isStepped(bytes[named]); walked++) {
    if (left < 8 || walked === EXTENSION_HEADERS_MAX) return -1;
    const header = (bytes[at + 1] + 1) << 3;
    if (header > left) return -1;
    named = at;
    at += header;
    left -= header;
  }
  transport.offset = at;
  transport.protocol = bytes[named];
  transport.field = named;
  return left;
}

function isStepped(protocol: number): boolean {
  return protocol === NEXTHDR_HOP || protocol === NEXTHDR_ROUTING || protocol === NEXTHDR_DEST;
}

/** True when the addresses (16 bytes each) are the same. */
export function equals6(a: Uint8Array, aOffset: number, b: Uint8Array, bOffset: number): boolean {
  for (let i = 0; i < IPV6_ADDRESS; i++) if (a[aOffset + i] !== b[bOffset + i]) return false;
  return true;
}

/** True for ff00::/8. */
export function isMulticast6(bytes: Uint8Array, address: number): boolean {
  return bytes[address] === 0xff;
}

/** Writes the six bytes of a group's Ethernet address: 33:33 and the last four of its 16 (RFC 2464, section 7). */
export function writeMulticastMac6(bytes: Uint8Array, at: number, group: Uint8Array, groupOffset: number): void {
  bytes[at] = 0x33;
  bytes[at + 1] = 0x33;
  copyBytes(bytes, at + 2, group, groupOffset + 12, 4);
}

/** True for fe80::/10. */
export function isLinkLocal6(bytes: Uint8Array, address: number): boolean {
  return bytes[address] === 0xfe && (bytes[address + 1] & 0xc0) === 0x80;
}

/**
 * Writes a header. The addresses are 16 bytes each, at an offset of an array.
 * @param payloadLength bytes after the header
 */
export function writeIpv6(
  bytes: Uint8Array,
  ip: number,
  trafficClass: number,
  flowLabel: number,
  payloadLength: number,
  nextHeader: number,
  hopLimit: number,
  source: Uint8Array,
  sourceOffset: number,
  destination: Uint8Array,
  destinationOffset: number,
): void {
  writeInt32(bytes, ip, (6 << 28) | (trafficClass << 20) | flowLabel);
  writeUint16(bytes, ip + IPV6_PAYLOAD_LENGTH, payloadLength);
  bytes[ip + IPV6_NEXT_HEADER] = nextHeader;
  bytes[ip + IPV6_HOP_LIMIT] = hopLimit;
  copyBytes(bytes, ip + IPV6_SRC, source, sourceOffset, IPV6_ADDRESS);
  copyBytes(bytes, ip + IPV6_DST, destination, destinationOffset, IPV6_ADDRESS);
}
