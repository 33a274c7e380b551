/**
 * What an ICMP error tells a socket: which of its datagrams did not arrive, and why. Errors are those of Linux: icmp_err_convert
 * (net/ipv4/icmp.c), icmpv6_err_convert() (net/ipv6/icmp.c), __udp4_lib_err() (net/ipv4/udp.c).
 */
import { ERRNO } from "af-xdp-bindings";
import { ETH_HEADER } from "../wire/ethernet.ts";
import {
  ICMP_DEST_UNREACH,
  ICMP_HOST_UNREACH,
  ICMP_PARAMETERPROB,
  ICMPV6_ADDR_UNREACH,
  ICMPV6_DEST_UNREACH,
  ICMPV6_PARAMPROB,
  ICMPV6_PKT_TOOBIG,
  ICMPV6_TIME_EXCEED,
} from "../wire/icmp.ts";
import {
  IPV4_DST,
  IPV4_FRAGMENT,
  IPV4_HEADER,
  IPV4_OFFSET_MASK,
  IPV4_SRC,
  ipv4HeaderLength,
  ipv4Protocol,
  ipv4TotalLength,
} from "../wire/ipv4.ts";
import {
  FRAGMENT_HEADER,
  FRAGMENT_OFFSET,
  IP6_OFFSET,
  IPV6_DST,
  IPV6_HEADER,
  IPV6_NEXT_HEADER,
  IPV6_SRC,
  ipv6PayloadLength,
  NEXTHDR_FRAGMENT,
  skipExtensions,
  transport,
} from "../wire/ipv6.ts";
import { readInt32, readUint16 } from "../wire/views.ts";
import { loadIpv4, loadIpv6 } from "./words.ts";

export interface IcmpReport {
  /** 4: ICMP, 6: ICMPv6. */
  readonly version: number;
  /** Protocol above IP of the packet that is told of, IPPROTO_... */
  readonly protocol: number;
  /** Source and destination of that packet, four words each, and the ports in its first four bytes. */
  readonly local: Int32Array;
  readonly localPort: number;
  readonly remote: Int32Array;
  readonly remotePort: number;
  readonly errno: number;
  /**
   * Whether the error is for good: a socket without an error queue learns of such only. EMSGSIZE counts as soft here; UDP
   * takes it as hard unless the socket has IP_PMTUDISC_DONT.
   */
  readonly hard: boolean;
  readonly type: number;
  readonly code: number;
  /** The MTU of EMSGSIZE as the router gives it (0: it does not know), the pointer of a parameter problem, else 0. */
  readonly info: number;
  /** Who says so: four words. For a neighbour that does not answer, the packet's source, as in Linux. */
  readonly offender: Int32Array;
  /** Sequence number, where it was a segment of TCP. */
  readonly sequence: number;
  /** What is quoted of the packet after the eight bytes of its UDP header. */
  readonly payload: Uint8Array;
  /** Bytes of the packet as it was sent. */
  readonly packetLength: number;
}

/** The packet that an error quotes, filled in by readQuoted4() and readQuoted6(). */
export class Quoted {
  protocol = 0;
  readonly local = new Int32Array(4);
  readonly remote = new Int32Array(4);
  localPort = 0;
  remotePort = 0;
  /** Bytes 4 to 7 of the transport header. */
  sequence = 0;
  /** Offset and bytes of what is quoted after the first eight of the transport header. */
  payload = 0;
  payloadLength = 0;
  packetLength = 0;
}

/** Bytes of the transport header that a quotation has to have (RFC 792). */
const TRANSPORT_MIN = 8;

/**
 * Reads the start of an IPv4 packet.
 * @param length bytes from `ip` on, which may be fewer than the packet's
 * @returns false: not as much of a packet as is needed to know whose it was
 */
export function readQuoted4(quoted: Quoted, bytes: Uint8Array, ip: number, length: number): boolean {
  if (length < IPV4_HEADER || bytes[ip] >> 4 !== 4) return false;
  const header = ipv4HeaderLength(bytes, ip);
  const total = ipv4TotalLength(bytes, ip);
  const held = Math.min(length, total);
  if (header < IPV4_HEADER || held < header + TRANSPORT_MIN) return false;
  if ((readUint16(bytes, ip + IPV4_FRAGMENT) & IPV4_OFFSET_MASK) !== 0) return false;
  loadIpv4(quoted.local, readInt32(bytes, ip + IPV4_SRC));
  loadIpv4(quoted.remote, readInt32(bytes, ip + IPV4_DST));
  return readTransport(quoted, bytes, ip + header, ipv4Protocol(bytes, ip), held - header, total);
}

/** readQuoted4() of an IPv6 packet, which may be a first fragment. */
export function readQuoted6(quoted: Quoted, bytes: Uint8Array, ip: number, length: number): boolean {
  if (length < IPV6_HEADER || bytes[ip] >> 4 !== 6) return false;
  const total = IPV6_HEADER + ipv6PayloadLength(bytes, ip);
  const left = firstTransport6(bytes, ip, Math.min(length, total) - IPV6_HEADER);
  if (left < TRANSPORT_MIN) return false;
  loadIpv6(quoted.local, bytes, ip + IPV6_SRC);
  loadIpv6(quoted.remote, bytes, ip + IPV6_DST);
  return readTransport(quoted, bytes, transport.offset, transport.protocol, left, total);
}

/**
 * transport6() of a packet of which no more than `length` bytes after the header are there, and through the header of a first
 * fragment. -1 also for another fragment, which has no transport header.
 */
export function firstTransport6(bytes: Uint8Array, ip: number, length: number): number {
  const left = skipExtensions(bytes, ip + IPV6_NEXT_HEADER, ip + IPV6_HEADER, length);
  if (transport.protocol !== NEXTHDR_FRAGMENT || left < FRAGMENT_HEADER) return left;
  const at = transport.offset;
  if ((readUint16(bytes, at + FRAGMENT_OFFSET) & IP6_OFFSET) !== 0) return -1;
  return skipExtensions(bytes, at, at + FRAGMENT_HEADER, left - FRAGMENT_HEADER);
}

function readTransport(
  quoted: Quoted,
  bytes: Uint8Array,
  at: number,
  protocol: number,
  length: number,
  packetLength: number,
): boolean {
  quoted.protocol = protocol;
  quoted.localPort = readUint16(bytes, at);
  quoted.remotePort = readUint16(bytes, at + 2);
  quoted.sequence = readInt32(bytes, at + 4);
  quoted.payload = at + TRANSPORT_MIN;
  quoted.payloadLength = length - TRANSPORT_MIN;
  quoted.packetLength = packetLength;
  return true;
}

/** A report about what `quoted` says lies in `bytes`. */
export function reportOf(
  quoted: Quoted,
  bytes: Uint8Array,
  version: number,
  type: number,
  code: number,
  info: number,
  offender: Int32Array,
): IcmpReport {
  const error = version === 4 ? errorOf4(type, code) : errorOf6(type, code);
  return {
    version,
    protocol: quoted.protocol,
    local: quoted.local.slice(),
    localPort: quoted.localPort,
    remote: quoted.remote.slice(),
    remotePort: quoted.remotePort,
    errno: Math.abs(error),
    hard: error < 0,
    type,
    code,
    info,
    offender: offender.slice(),
    sequence: quoted.sequence,
    payload: bytes.slice(quoted.payload, quoted.payload + quoted.payloadLength),
    packetLength: quoted.packetLength,
  };
}

const own = new Quoted();

/**
 * What Linux tells a socket when a neighbour does not answer: host unreachable, as if it came from this host itself
 * (ipv4_link_failure(), ip6_link_failure()). Null: the frame is not of a protocol with ports, or no first fragment.
 */
export function hostUnreachable(frame: Uint8Array): IcmpReport | null {
  const length = frame.length - ETH_HEADER;
  const isIpv4 = frame[ETH_HEADER] >> 4 === 4;
  const isRead = isIpv4 ? readQuoted4(own, frame, ETH_HEADER, length) : readQuoted6(own, frame, ETH_HEADER, length);
  if (!isRead) return null;
  if (isIpv4) return reportOf(own, frame, 4, ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, 0, own.local);
  return reportOf(own, frame, 6, ICMPV6_DEST_UNREACH, ICMPV6_ADDR_UNREACH, 0, own.local);
}

/** Of ICMP_DEST_UNREACH, by code: errno, negative where the error is for good. */
const UNREACH_4 = [
  ERRNO.ENETUNREACH,
  ERRNO.EHOSTUNREACH,
  -ERRNO.ENOPROTOOPT,
  -ERRNO.ECONNREFUSED,
  ERRNO.EMSGSIZE,
  ERRNO.EOPNOTSUPP,
  -ERRNO.ENETUNREACH,
  -ERRNO.EHOSTDOWN,
  -ERRNO.ENONET,
  -ERRNO.ENETUNREACH,
  -ERRNO.EHOSTUNREACH,
  ERRNO.ENETUNREACH,
  ERRNO.EHOSTUNREACH,
  -ERRNO.EHOSTUNREACH,
  -ERRNO.EHOSTUNREACH,
  -ERRNO.EHOSTUNREACH,
];

/** The same of ICMPV6_DEST_UNREACH. */
const UNREACH_6 = [
  ERRNO.ENETUNREACH,
  -ERRNO.EACCES,
  ERRNO.EHOSTUNREACH,
  ERRNO.EHOSTUNREACH,
  -ERRNO.ECONNREFUSED,
  -ERRNO.EACCES,
  -ERRNO.EACCES,
];

/** Highest code of ICMP_DEST_UNREACH that has a meaning (RFC 1812, section 5.2.7.1). */
export const NR_ICMP_UNREACH = UNREACH_4.length - 1;

function errorOf4(type: number, code: number): number {
  if (type === ICMP_PARAMETERPROB) return -ERRNO.EPROTO;
  return type === ICMP_DEST_UNREACH ? (UNREACH_4[code] ?? ERRNO.EHOSTUNREACH) : ERRNO.EHOSTUNREACH;
}

function errorOf6(type: number, code: number): number {
  if (type === ICMPV6_DEST_UNREACH) return UNREACH_6[code] ?? -ERRNO.EPROTO;
  if (type === ICMPV6_PKT_TOOBIG) return ERRNO.EMSGSIZE;
  if (type === ICMPV6_TIME_EXCEED) return ERRNO.EHOSTUNREACH;
  return type === ICMPV6_PARAMPROB ? -ERRNO.EPROTO : ERRNO.EPROTO;
}
