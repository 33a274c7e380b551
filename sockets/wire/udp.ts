/** UDP header (RFC 768; RFC 8200, section 8.1, over IPv6). */
import { CHECKSUM_BAD, CHECKSUM_OK, CHECKSUM_PARTIAL, fold, pseudoSum4, pseudoSum6, sum, verify } from "./checksum.ts";
import { IPPROTO_UDP } from "./ipv4.ts";
import { type FrameViews, readUint16, writeUint16 } from "./views.ts";

/** Field offsets in bytes from the header's start. */
export const UDP_SRC = 0;
export const UDP_DST = 2;
export const UDP_LENGTH = 4;
export const UDP_CHECKSUM = 6;
/** Bytes of the header. */
export const UDP_HEADER = 8;

/** What checkUdp4() and checkUdp6() say; beside each the counters that Linux raises (net/ipv4/udp.c, net/ipv6/udp.c). */
export const UDP_OK = CHECKSUM_OK;
/** The checksum is wrong, or absent over IPv6: UdpInCsumErrors and UdpInErrors. */
export const UDP_BAD_CHECKSUM = CHECKSUM_BAD;
/** The sender's kernel left the checksum unfinished: acceptable only where Port.partialChecksums. */
export const UDP_PARTIAL = CHECKSUM_PARTIAL;
/** The length field is below 8 or more than the packet holds: UdpInErrors. */
export const UDP_BAD_LENGTH = 3;

/**
 * The door over IPv4: checks the header at `udp`. After UDP_OK every accessor here may be called; the datagram is
 * udpLength() bytes.
 * @param ip offset of the IPv4 header, for the pseudo-header
 * @param length bytes of the packet's payload
 */
export function checkUdp4(views: FrameViews, udp: number, length: number, ip: number): number {
  if (length < UDP_HEADER) return UDP_BAD_LENGTH;
  const datagram = readUint16(views.bytes, udp + UDP_LENGTH);
  if (datagram < UDP_HEADER || datagram > length) return UDP_BAD_LENGTH;
  // RFC 768: an all-zero field means that the sender computed none.
  if (views.half[(udp + UDP_CHECKSUM) >> 1] === 0) return UDP_OK;
  return verify(views, udp, datagram, udp + UDP_CHECKSUM, pseudoSum4(views, ip, IPPROTO_UDP, datagram));
}

/** The door over IPv6, as checkUdp4(). RFC 8200 requires the checksum. */
export function checkUdp6(views: FrameViews, udp: number, length: number, ip: number): number {
  if (length < UDP_HEADER) return UDP_BAD_LENGTH;
  const datagram = readUint16(views.bytes, udp + UDP_LENGTH);
  if (datagram < UDP_HEADER || datagram > length) return UDP_BAD_LENGTH;
  if (views.half[(udp + UDP_CHECKSUM) >> 1] === 0) return UDP_BAD_CHECKSUM;
  return verify(views, udp, datagram, udp + UDP_CHECKSUM, pseudoSum6(views, ip, IPPROTO_UDP, datagram));
}

export function udpSource(bytes: Uint8Array, udp: number): number {
  return readUint16(bytes, udp + UDP_SRC);
}

export function udpDestination(bytes: Uint8Array, udp: number): number {
  return readUint16(bytes, udp + UDP_DST);
}

/** Bytes of header and payload. */
export function udpLength(bytes: Uint8Array, udp: number): number {
  return readUint16(bytes, udp + UDP_LENGTH);
}

/** Writes a header with no checksum (allowed over IPv4). `length`: bytes of header and payload. */
export function writeUdp(bytes: Uint8Array, udp: number, source: number, destination: number, length: number): void {
  writeUint16(bytes, udp + UDP_SRC, source);
  writeUint16(bytes, udp + UDP_DST, destination);
  writeUint16(bytes, udp + UDP_LENGTH, length);
  writeUint16(bytes, udp + UDP_CHECKSUM, 0);
}

/** Fills in the checksum of a datagram whose IPv4 and UDP headers and payload are written, the field being 0. */
export function finishUdp4(views: FrameViews, udp: number, length: number, ip: number): void {
  finishUdp(views, udp, length, pseudoSum4(views, ip, IPPROTO_UDP, length));
}

/** finishUdp4() over IPv6. */
export function finishUdp6(views: FrameViews, udp: number, length: number, ip: number): void {
  finishUdp(views, udp, length, pseudoSum6(views, ip, IPPROTO_UDP, length));
}

function finishUdp(views: FrameViews, udp: number, length: number, pseudo: number): void {
  const checksum = ~fold(sum(views, udp, length, pseudo)) & 0xffff;
  // 0 would mean "none": its other representation in one's complement is sent.
  views.half[(udp + UDP_CHECKSUM) >> 1] = checksum === 0 ? 0xffff : checksum;
}
