/** TCP header (RFC 9293): layout and door. Sequence numbers are int32: compare them by the sign of (a - b) | 0. */
import {
  CHECKSUM_BAD,
  CHECKSUM_OK,
  CHECKSUM_PARTIAL,
  pseudoSum4,
  pseudoSum6,
  storeChecksum,
  sum,
  verify,
} from "./checksum.ts";
import { IPPROTO_TCP } from "./ipv4.ts";
import { type FrameViews, readInt32, readUint16, writeInt32, writeUint16 } from "./views.ts";

/** Field offsets in bytes from the header's start. */
export const TCP_SRC = 0;
export const TCP_DST = 2;
export const TCP_SEQ = 4;
export const TCP_ACK_SEQ = 8;
/** Data offset in the upper four bits, in words. */
export const TCP_DATA_OFFSET = 12;
export const TCP_FLAGS = 13;
export const TCP_WINDOW = 14;
export const TCP_CHECKSUM = 16;
export const TCP_URGENT = 18;
export const TCP_OPTIONS = 20;
/** Bytes of a header without options, and of the longest. */
export const TCP_HEADER = 20;
export const TCP_HEADER_MAX = 60;

/** Bits of the TCP_FLAGS byte. */
export const TCP_FIN = 0x01;
export const TCP_SYN = 0x02;
export const TCP_RST = 0x04;
export const TCP_PSH = 0x08;
export const TCP_ACK = 0x10;
export const TCP_URG = 0x20;
export const TCP_ECE = 0x40;
export const TCP_CWR = 0x80;

/** Option kinds and their lengths in bytes, kind and length included (include/net/tcp.h). */
export const TCPOPT_EOL = 0;
export const TCPOPT_NOP = 1;
export const TCPOPT_MSS = 2;
export const TCPOPT_WINDOW = 3;
export const TCPOPT_SACK_PERM = 4;
export const TCPOPT_SACK = 5;
export const TCPOPT_TIMESTAMP = 8;
export const TCPOLEN_MSS = 4;
export const TCPOLEN_WINDOW = 3;
export const TCPOLEN_SACK_PERM = 2;
/** A SACK option is this and TCPOLEN_SACK_PERBLOCK for each block. */
export const TCPOLEN_SACK_BASE = 2;
export const TCPOLEN_SACK_PERBLOCK = 8;
export const TCPOLEN_TIMESTAMP = 10;

/** What checkTcp4() and checkTcp6() say; beside each the counters that Linux raises (net/ipv4/tcp_ipv4.c). */
export const TCP_OK = CHECKSUM_OK;
/** The checksum is wrong: TcpInCsumErrors and TcpInErrs. */
export const TCP_BAD_CHECKSUM = CHECKSUM_BAD;
/** The sender's kernel left the checksum unfinished: acceptable only where Port.partialChecksums. */
export const TCP_PARTIAL = CHECKSUM_PARTIAL;
/** The header is shorter than 20 bytes or leaves the packet: TcpInErrs. */
export const TCP_BAD_HEADER = 3;

/**
 * The door over IPv4: checks the header at `tcp`. After TCP_OK every accessor here may be called; options lie between
 * TCP_OPTIONS and tcpHeaderLength() and are not checked.
 * @param ip offset of the IPv4 header, for the pseudo-header
 * @param length bytes of the packet's payload
 */
export function checkTcp4(views: FrameViews, tcp: number, length: number, ip: number): number {
  if (!headerFits(views.bytes, tcp, length)) return TCP_BAD_HEADER;
  return verify(views, tcp, length, tcp + TCP_CHECKSUM, pseudoSum4(views, ip, IPPROTO_TCP, length));
}

/** The door over IPv6, as checkTcp4(). */
export function checkTcp6(views: FrameViews, tcp: number, length: number, ip: number): number {
  if (!headerFits(views.bytes, tcp, length)) return TCP_BAD_HEADER;
  return verify(views, tcp, length, tcp + TCP_CHECKSUM, pseudoSum6(views, ip, IPPROTO_TCP, length));
}

function headerFits(bytes: Uint8Array, tcp: number, length: number): boolean {
  if (length < TCP_HEADER) return false;
  const header = tcpHeaderLength(bytes, tcp);
  return header >= TCP_HEADER && header <= length;
}

export function tcpSource(bytes: Uint8Array, tcp: number): number {
  return readUint16(bytes, tcp + TCP_SRC);
}

export function tcpDestination(bytes: Uint8Array, tcp: number): number {
  return readUint16(bytes, tcp + TCP_DST);
}

/** Sequence number, int32. */
export function tcpSeq(bytes: Uint8Array, tcp: number): number {
  return readInt32(bytes, tcp + TCP_SEQ);
}

/** Acknowledgment number, int32; meaningful with TCP_ACK. */
export function tcpAckSeq(bytes: Uint8Array, tcp: number): number {
  return readInt32(bytes, tcp + TCP_ACK_SEQ);
}

/** Bytes of the header, options included. */
export function tcpHeaderLength(bytes: Uint8Array, tcp: number): number {
  return (bytes[tcp + TCP_DATA_OFFSET] >> 4) << 2;
}

/** TCP_FIN | TCP_SYN | … */
export function tcpFlags(bytes: Uint8Array, tcp: number): number {
  return bytes[tcp + TCP_FLAGS];
}

/** Window field, before scaling. */
export function tcpWindow(bytes: Uint8Array, tcp: number): number {
  return readUint16(bytes, tcp + TCP_WINDOW);
}

export function tcpUrgent(bytes: Uint8Array, tcp: number): number {
  return readUint16(bytes, tcp + TCP_URGENT);
}

/**
 * Writes a header, the checksum field 0 and no urgent pointer. Options are the caller's.
 * @param headerLength bytes of header and options, a multiple of 4
 */
export function writeTcp(
  bytes: Uint8Array,
  tcp: number,
  source: number,
  destination: number,
  seq: number,
  ackSeq: number,
  headerLength: number,
  flags: number,
  window: number,
): void {
  writeUint16(bytes, tcp + TCP_SRC, source);
  writeUint16(bytes, tcp + TCP_DST, destination);
  writeInt32(bytes, tcp + TCP_SEQ, seq);
  writeInt32(bytes, tcp + TCP_ACK_SEQ, ackSeq);
  bytes[tcp + TCP_DATA_OFFSET] = (headerLength >> 2) << 4;
  bytes[tcp + TCP_FLAGS] = flags;
  writeUint16(bytes, tcp + TCP_WINDOW, window);
  writeInt32(bytes, tcp + TCP_CHECKSUM, 0);
}

/** Fills in the checksum of a segment whose IPv4 and TCP headers and payload are written. `length`: bytes from `tcp`. */
export function finishTcp4(views: FrameViews, tcp: number, length: number, ip: number): void {
  storeChecksum(views, tcp + TCP_CHECKSUM, sum(views, tcp, length, pseudoSum4(views, ip, IPPROTO_TCP, length)));
}

/** finishTcp4() over IPv6. */
export function finishTcp6(views: FrameViews, tcp: number, length: number, ip: number): void {
  storeChecksum(views, tcp + TCP_CHECKSUM, sum(views, tcp, length, pseudoSum6(views, ip, IPPROTO_TCP, length)));
}
