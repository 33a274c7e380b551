/**
 * Fragmentation of packets that are longer than a link's MTU: IPv4 (RFC 791, section 3.2) and IPv6 (RFC 8200, section 4.5), and
 * identifications that nobody can guess (RFC 7739).
 *
 * Options of IPv4 that are for the first fragment alone become no-operations in the others, so that all have headers of one
 * length, as ip_options_fragment() does (net/ipv4/ip_options.c).
 */
import { ERRNO } from "af-xdp-bindings";
import { storeChecksum, sum } from "../wire/checksum.ts";
import {
  IPOPT_COPY,
  IPOPT_END,
  IPOPT_NOOP,
  IPV4_CHECKSUM,
  IPV4_DF,
  IPV4_FRAGMENT,
  IPV4_HEADER,
  IPV4_ID,
  IPV4_LENGTH_MAX,
  IPV4_MF,
  IPV4_OFFSET_MASK,
  IPV4_TOTAL_LENGTH,
  ipv4HeaderLength,
  ipv4TotalLength,
} from "../wire/ipv4.ts";
import {
  EXTENSION_HEADERS_MAX,
  FRAGMENT_HEADER,
  FRAGMENT_ID,
  FRAGMENT_NEXT_HEADER,
  FRAGMENT_OFFSET,
  IP6_MF,
  IPV6_HEADER,
  IPV6_NEXT_HEADER,
  IPV6_PAYLOAD_LENGTH,
  IPV6_PAYLOAD_MAX,
  ipv6PayloadLength,
  NEXTHDR_DEST,
  NEXTHDR_FRAGMENT,
  NEXTHDR_HOP,
  NEXTHDR_ROUTING,
} from "../wire/ipv6.ts";
import { type FrameViews, readUint16, writeInt32, writeUint16 } from "../wire/views.ts";
import { halfSipHash } from "./half-sip-hash.ts";

/** The longest headers that every fragment has: IPv4 has at most 60 bytes, IPv6 40 and seldom any extensions. */
const HEADERS_MAX = 256;

/** One packet being cut up: begin...() says into how many fragments, write() makes each. */
export class Fragmenter {
  /** Fragments of the packet. */
  count = 0;
  /** Headers of the first fragment, and from HEADERS_MAX on those of the others. */
  private readonly headers = new Uint8Array(2 * HEADERS_MAX);
  private headerLength = 0;
  private version = 0;
  private payload: Uint8Array = new Uint8Array(0);
  private payloadAt = 0;
  private payloadLength = 0;
  /** Bytes of payload in each fragment but the last, a multiple of 8. */
  private step = 0;
  /** IPv4: the fragment field of the packet itself, which may be a fragment. IPv6: 0. */
  private outer = 0;

  /**
   * @param ip offset of a packet that checkIpv4() accepts
   * @param id identification that the fragments get, FragmentIds.next4()
   * @returns fragments, 1 for a packet that fits; -EMSGSIZE: it has DF, or `mtu` has no room for 8 bytes of payload
   */
  begin4(packet: Uint8Array, ip: number, mtu: number, id: number): number {
    const header = ipv4HeaderLength(packet, ip);
    return this.beginPieces4(packet, ip, packet, ip + header, ipv4TotalLength(packet, ip) - header, mtu, id);
  }

  /**
   * begin4() of a header at `ip` and a payload elsewhere; the header's total length and checksum are not looked at. The
   * payload must stay as it is until the last write().
   */
  beginPieces4(
    header: Uint8Array,
    ip: number,
    payload: Uint8Array,
    payloadAt: number,
    payloadLength: number,
    mtu: number,
    id: number,
  ): number {
    const length = ipv4HeaderLength(header, ip);
    this.version = 4;
    this.keep(header, ip, length, payload, payloadAt, payloadLength);
    this.outer = readUint16(header, ip + IPV4_FRAGMENT);
    if (length + payloadLength > IPV4_LENGTH_MAX) return this.refuse();
    if (length + payloadLength <= mtu) return this.fits();
    if ((this.outer & IPV4_DF) !== 0) return this.refuse();
    writeUint16(this.headers, IPV4_ID, id);
    this.headers.copyWithin(HEADERS_MAX, 0, length);
    blankOptions(this.headers, HEADERS_MAX, length);
    return this.cut(mtu - length);
  }

  /**
   * @param ip offset of a packet that checkIpv6() accepts
   * @param id identification that the fragments get, FragmentIds.next6()
   * @returns fragments, 1 for a packet that fits; -EMSGSIZE: `mtu` has no room for 8 bytes of payload
   */
  begin6(packet: Uint8Array, ip: number, mtu: number, id: number): number {
    const header = fragmentHeaders6(packet, ip);
    const rest = IPV6_HEADER + ipv6PayloadLength(packet, ip) - header;
    return this.beginPieces6(packet, ip, header, packet, ip + header, rest, mtu, id);
  }

  /**
   * begin6() of the headers that every fragment has, `headerLength` bytes at `ip`, and a payload elsewhere; the payload
   * length in the header is not looked at. The payload must stay as it is until the last write().
   */
  beginPieces6(
    header: Uint8Array,
    ip: number,
    headerLength: number,
    payload: Uint8Array,
    payloadAt: number,
    payloadLength: number,
    mtu: number,
    id: number,
  ): number {
    if (headerLength + FRAGMENT_HEADER > HEADERS_MAX) return this.refuse();
    this.version = 6;
    this.keep(header, ip, headerLength, payload, payloadAt, payloadLength);
    this.outer = 0;
    if (headerLength - IPV6_HEADER + payloadLength > IPV6_PAYLOAD_MAX) return this.refuse();
    if (headerLength + payloadLength <= mtu) return this.fits();
    this.insertFragmentHeader(id);
    this.headers.copyWithin(HEADERS_MAX, 0, this.headerLength);
    return this.cut(mtu - this.headerLength);
  }

  /**
   * Writes fragment `index` of `count` at an even offset `at` of `to`, lengths and checksum right.
   * @returns its bytes, at most the MTU
   */
  write(index: number, to: FrameViews, at: number): number {
    const from = index * this.step;
    const length = Math.min(this.step, this.payloadLength - from);
    const { bytes } = to;
    const header = index === 0 ? 0 : HEADERS_MAX;
    for (let i = 0; i < this.headerLength; i++) bytes[at + i] = this.headers[header + i];
    bytes.set(this.payload.subarray(this.payloadAt + from, this.payloadAt + from + length), at + this.headerLength);
    if (this.version === 4) this.finish4(to, at, from, length);
    else this.finish6(bytes, at, index, from, length);
    return this.headerLength + length;
  }

  private finish4(to: FrameViews, at: number, from: number, length: number): void {
    const { bytes } = to;
    const more = from + length < this.payloadLength ? IPV4_MF : this.outer & IPV4_MF;
    const offset = (this.outer & IPV4_OFFSET_MASK) + (from >> 3);
    writeUint16(bytes, at + IPV4_TOTAL_LENGTH, this.headerLength + length);
    writeUint16(bytes, at + IPV4_FRAGMENT, (this.outer & IPV4_DF) | more | offset);
    writeUint16(bytes, at + IPV4_CHECKSUM, 0);
    storeChecksum(to, at + IPV4_CHECKSUM, sum(to, at, this.headerLength, 0));
  }

  private finish6(bytes: Uint8Array, at: number, index: number, from: number, length: number): void {
    writeUint16(bytes, at + IPV6_PAYLOAD_LENGTH, this.headerLength - IPV6_HEADER + length);
    if (this.count === 1) return;
    const fragment = at + this.headerLength - FRAGMENT_HEADER;
    writeUint16(bytes, fragment + FRAGMENT_OFFSET, from | (index + 1 < this.count ? IP6_MF : 0));
  }

  private keep(
    header: Uint8Array,
    ip: number,
    headerLength: number,
    payload: Uint8Array,
    payloadAt: number,
    payloadLength: number,
  ): void {
    this.headers.set(header.subarray(ip, ip + headerLength), 0);
    this.headerLength = headerLength;
    this.payload = payload;
    this.payloadAt = payloadAt;
    this.payloadLength = payloadLength;
  }

  /** After the headers; what they named last is named by the fragment header then. */
  private insertFragmentHeader(id: number): void {
    const { headers, headerLength: at } = this;
    let field = IPV6_NEXT_HEADER;
    for (let offset = IPV6_HEADER; offset < at; offset += (headers[offset + 1] + 1) << 3) field = offset;
    headers[at + FRAGMENT_NEXT_HEADER] = headers[field];
    headers[at + 1] = 0;
    writeInt32(headers, at + FRAGMENT_ID, id);
    headers[field] = NEXTHDR_FRAGMENT;
    this.headerLength += FRAGMENT_HEADER;
  }

  private fits(): number {
    this.step = this.payloadLength;
    this.count = 1;
    return 1;
  }

  /** @param room bytes of payload that a fragment may have */
  private cut(room: number): number {
    this.step = room & ~7;
    if (this.step < 8) return this.refuse();
    this.count = Math.ceil(this.payloadLength / this.step);
    return this.count;
  }

  private refuse(): number {
    this.count = 0;
    return -ERRNO.EMSGSIZE;
  }
}

/** Options that are not for every fragment become no-operations. */
function blankOptions(bytes: Uint8Array, ip: number, length: number): void {
  const end = ip + length;
  for (let at = ip + IPV4_HEADER; at < end && bytes[at] !== IPOPT_END; ) {
    const type = bytes[at];
    const size = type === IPOPT_NOOP ? 1 : bytes[at + 1];
    // An option that cannot be: the receiver will say so.
    if (size === 0 || at + size > end) return;
    if ((type & IPOPT_COPY) === 0) bytes.fill(IPOPT_NOOP, at, at + size);
    at += size;
  }
}

/**
 * Bytes of the headers that every fragment of the IPv6 packet at `ip` has: up to the routing header, or else to the
 * hop-by-hop options (RFC 8200, section 4.5). checkIpv6() has accepted the packet.
 */
export function fragmentHeaders6(bytes: Uint8Array, ip: number): number {
  const end = IPV6_HEADER + ipv6PayloadLength(bytes, ip);
  let length = IPV6_HEADER;
  let protocol = bytes[ip + IPV6_NEXT_HEADER];
  for (let at = IPV6_HEADER, walked = 0; at + 8 <= end && walked < EXTENSION_HEADERS_MAX; walked++) {
    if (protocol !== NEXTHDR_HOP && protocol !== NEXTHDR_ROUTING && protocol !== NEXTHDR_DEST) break;
    const next = at + ((bytes[ip + at + 1] + 1) << 3);
    if (next > end) break;
    if (protocol !== NEXTHDR_DEST) length = next;
    protocol = bytes[ip + at];
    at = next;
  }
  return length;
}

/** Counters that IPv4 identifications share, a power of two: those with one are no closer together than with one each. */
const COUNTERS = 2048;
/** Random words drawn at once. */
const DRAWN = 64;

/**
 * Identifications of fragmented packets that tell nothing of those to other hosts.
 *
 * IPv4: a counter, so that the 65,536 values of a pair of addresses come back as late as can be, from a start that only who
 * knows the key can compute (RFC 7739, section 5.3; ip_idents in net/ipv4/route.c). IPv6 has bits enough for random numbers
 * (section 5.2; ipv6_select_ident() in net/ipv6/output_core.c).
 */
export class FragmentIds {
  private readonly keys = new Int32Array(4);
  private readonly counters = new Uint16Array(COUNTERS);
  private readonly words = new Int32Array(3);
  private readonly drawn = new Int32Array(DRAWN);
  private left = 0;
  private readonly draw: (words: Int32Array) => void;

  /** @param draw fills an array with random words, of which none may be computed from others */
  constructor(draw: (words: Int32Array) => void = (words) => void crypto.getRandomValues(words)) {
    this.draw = draw;
    draw(this.keys);
    for (let i = 0; i < COUNTERS; i++) this.counters[i] = this.random();
  }

  /** 0..65535. Addresses as int32. */
  next4(source: number, destination: number, protocol: number): number {
    const { keys, words } = this;
    words[0] = source;
    words[1] = destination;
    words[2] = protocol;
    const start = halfSipHash(keys[0], keys[1], words, 3);
    const counter = halfSipHash(keys[2], keys[3], words, 3) & (COUNTERS - 1);
    return (start + this.counters[counter]++) & 0xffff;
  }

  /** An int32 that is not 0. */
  next6(): number {
    return this.random() || this.next6();
  }

  private random(): number {
    if (this.left === 0) {
      this.draw(this.drawn);
      this.left = DRAWN;
    }
    return this.drawn[--this.left];
  }
}
