/**
 * Reassembly of fragments: IPv4 (RFC 791, section 3.2) and IPv6 (RFC 8200, section 4.5; RFC 5722; RFC 6946), by the rules of
 * Linux where those leave a choice (net/ipv4/ip_fragment.c, net/ipv4/inet_fragment.c, net/ipv6/reassembly.c):
 *
 * - Fragments of one datagram have the same addresses and identification, in IPv4 also the same protocol.
 * - A fragment that lies within a run of others came before and is ignored; any other overlap ends the datagram.
 * - What contradicts (two ends, bytes beyond the end, nothing in it, ECN) ends the datagram; so does a length above 65,535.
 * - An IPv4 datagram is given up 30 s after its first fragment came, an IPv6 one after 60 s.
 * - An IPv4 datagram begins anew when more than `distanceMax` fragments came from its source since its last: by then its
 *   16 bits of identification may be in use for another one (RFC 4963).
 *
 * Memory is bounded and shared between sources, see incomplete.ts. Time is an argument: milliseconds that do not go back.
 * A Reassembly is for one interface, so the interface is no part of a key.
 */
import { storeChecksum, sum } from "../wire/checksum.ts";
import { ICMP_HEADER } from "../wire/icmp.ts";
import {
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPV4_CHECKSUM,
  IPV4_DST,
  IPV4_FRAGMENT,
  IPV4_HEADER,
  IPV4_LENGTH_MAX,
  IPV4_MF,
  IPV4_OFFSET_MASK,
  IPV4_SRC,
  IPV4_TOS,
  IPV4_TOTAL_LENGTH,
  ipv4HeaderLength,
  ipv4Id,
  ipv4Protocol,
  ipv4Tos,
  ipv4TotalLength,
} from "../wire/ipv4.ts";
import {
  FRAGMENT_HEADER,
  FRAGMENT_ID,
  FRAGMENT_NEXT_HEADER,
  FRAGMENT_OFFSET,
  IP6_MF,
  IP6_OFFSET,
  IPV6_DST,
  IPV6_HEADER,
  IPV6_PAYLOAD_LENGTH,
  IPV6_PAYLOAD_MAX,
  IPV6_SRC,
  ipv6TrafficClass,
  NEXTHDR_FRAGMENT,
  NEXTHDR_ICMP,
  NEXTHDR_NONE,
  skipExtensions,
  transport,
  transport6,
} from "../wire/ipv6.ts";
import { TCP_HEADER } from "../wire/tcp.ts";
import { UDP_HEADER } from "../wire/udp.ts";
import { FrameViews, readInt32, readUint16, writeUint16 } from "../wire/views.ts";
import { BLOCK_BYTES, COVERED_NOT, COVERED_WHOLLY, DATAGRAM_BLOCKS } from "./fragment-store.ts";
import {
  FAMILY_4,
  FAMILY_6,
  Incomplete,
  KEY_DESTINATION,
  KEY_FAMILY,
  KEY_ID,
  KEY_PROTOCOL,
  KEY_SOURCE,
} from "./incomplete.ts";

/** What receive() says. Up to FRAGMENT_DUPLICATE all is well; the others end the datagram, if there was one. */
export const FRAGMENT_KEPT = 0;
/** The datagram is whole: `length` bytes at PACKET_AT of `packet`. */
export const FRAGMENT_COMPLETES = 1;
/** It came before. */
export const FRAGMENT_DUPLICATE = 2;
/** It is none: the packet is for others. */
export const FRAGMENT_NONE = 3;
/** It overlaps another one. */
export const FRAGMENT_OVERLAPS = 4;
/** Lengths, ECN or headers that cannot be. */
export const FRAGMENT_INVALID = 5;
/** The datagram would be longer than 65,535 bytes. */
export const FRAGMENT_TOO_LONG = 6;
/** An ICMPv6 parameter problem is due, with `problemCode` and `problemPointer`. */
export const FRAGMENT_PROBLEM = 7;

/** Codes of ICMPV6_PARAMPROB (include/uapi/linux/icmpv6.h; RFC 7112 for the second). */
export const ICMPV6_HDR_FIELD = 0;
export const ICMPV6_HDR_INCOMP = 3;
/** Code of ICMP_TIME_EXCEEDED and ICMPV6_TIME_EXCEED for a datagram that was given up. */
export const ICMP_EXC_FRAGTIME = 1;

/** Where a packet begins in `packet`: before it is room for an Ethernet header. */
export const PACKET_AT = 16;

/** IP_FRAG_TIME, include/net/ip.h; IPV6_FRAG_TIMEOUT, include/net/ipv6.h (RFC 8200, section 4.5, says 60 s, too). */
export const TIMEOUT_4_MS = 30_000;
export const TIMEOUT_6_MS = 60_000;

/**
 * The longest headers before a fragment's data, 20 to 60 bytes in IPv4. In IPv6 it is 48 bytes without options, which hosts
 * do not put into what they fragment; a chain beyond 256 bytes is refused as FRAGMENT_INVALID.
 */
const HEADERS_MAX = 256;

/** Bits of `ecn`: 1 << codepoint, as ip4_frag_ecn(). */
const ECN_MASK = 3;
const NOT_ECT = 1 << 0;
const CE = 1 << 3;

/** Bits of `flags`. */
const FIRST_IN = 1;
const LAST_IN = 2;

export interface ReassemblyOptions {
  /** Bytes for fragments of both families, at least 256 KiB. Default 4 MiB, net.ipv4.ipfrag_high_thresh. */
  memoryBytes?: number;
  /** The most datagrams under way, at least 16. Default 1,024. */
  datagramsMax?: number;
  /** Default 64, net.ipv4.ipfrag_max_dist; 0: datagrams never begin anew. */
  distanceMax?: number;
}

/** What SNMP counts of a family (IpReasm... and Ip6Reasm..., and IpExtReasmOverlaps). */
export class ReassemblyCounts {
  /** Fragments that came. */
  requests = 0;
  /** Datagrams that became whole. */
  oks = 0;
  /** Failures, for whatever reason; timeouts and overlaps are among them. */
  fails = 0;
  timeouts = 0;
  overlaps = 0;
}

/**
 * The first fragment of a datagram that was given up, as it came: `length` bytes at `at`, an IP packet of `version` 4 or 6.
 * An ICMP time exceeded message is due for it. Valid during the call.
 */
export type OnTimeout = (packet: FrameViews, at: number, length: number, version: number) => void;

export class Reassembly {
  /** The last whole packet, valid until the next call: headers of the first fragment, lengths and checksum fixed. */
  readonly packet = new FrameViews(new Uint8Array(PACKET_AT + HEADERS_MAX + 65536));
  /** Bytes of it, from PACKET_AT. */
  length = 0;
  /** With FRAGMENT_PROBLEM: code and pointer of the message. */
  problemCode = 0;
  problemPointer = 0;
  readonly counts4 = new ReassemblyCounts();
  readonly counts6 = new ReassemblyCounts();

  private readonly incomplete: Incomplete;
  private readonly distanceMax: number;
  private readonly onTimeout: OnTimeout;
  /** Of each datagram: the highest end of a fragment so far, and bytes received; of the payload without headers. */
  private readonly end: Int32Array;
  private readonly received: Int32Array;
  private readonly flags: Uint8Array;
  private readonly ecn: Uint8Array;
  /** Headers of each datagram's first fragment, in IPv6 the fragment header included, their bytes, those of its data. */
  private readonly headers: Uint8Array;
  private readonly headerLength: Int32Array;
  private readonly firstLength: Int32Array;
  /** IPv6: where in the headers the fragment header is named. */
  private readonly field: Int32Array;

  /**
   * @param seed of the hash, secret from senders
   * @param onTimeout called by tick() for datagrams given up whose first fragment had come
   */
  constructor(seed: number, onTimeout: OnTimeout, options: ReassemblyOptions = {}) {
    const { memoryBytes = 4 << 20, datagramsMax = 1024, distanceMax = 64 } = options;
    const blocks = Math.floor(memoryBytes / BLOCK_BYTES);
    if (!(blocks >= 4 * DATAGRAM_BLOCKS)) throw new RangeError(`${memoryBytes} bytes for fragments: at least 262,144`);
    if (!(Number.isInteger(datagramsMax) && datagramsMax >= 16))
      throw new RangeError(`${datagramsMax} datagrams: at least 16`);
    this.incomplete = new Incomplete(blocks, datagramsMax, seed, (id) => void this.countsOf(id).fails++);
    this.distanceMax = distanceMax;
    this.onTimeout = onTimeout;
    this.end = new Int32Array(datagramsMax);
    this.received = new Int32Array(datagramsMax);
    this.flags = new Uint8Array(datagramsMax);
    this.ecn = new Uint8Array(datagramsMax);
    this.headers = new Uint8Array(datagramsMax * HEADERS_MAX);
    this.headerLength = new Int32Array(datagramsMax);
    this.firstLength = new Int32Array(datagramsMax);
    this.field = new Int32Array(datagramsMax);
  }

  /** Datagrams under way. */
  get count(): number {
    return this.incomplete.count;
  }

  /** Datagrams given up because others needed their place. */
  get evicted(): number {
    return this.incomplete.evicted;
  }

  /** Bytes of memory that fragments take. */
  get memoryUsed(): number {
    const { store } = this.incomplete;
    return (store.blocks - store.free) * BLOCK_BYTES;
  }

  /** Takes the IPv4 packet at `ip`, which checkIpv4() has accepted. Returns FRAGMENT_... */
  receive4(bytes: Uint8Array, ip: number, now: number): number {
    const fragment = readUint16(bytes, ip + IPV4_FRAGMENT);
    if ((fragment & (IPV4_MF | IPV4_OFFSET_MASK)) === 0) return FRAGMENT_NONE;
    this.counts4.requests++;
    const header = ipv4HeaderLength(bytes, ip);
    const more = (fragment & IPV4_MF) !== 0;
    const from = (fragment & IPV4_OFFSET_MASK) << 3;
    const length = ipv4TotalLength(bytes, ip) - header;
    // Linux cuts what is not a multiple of 8 before more, rather than to refuse it.
    const to = from + (more ? length & ~7 : length);
    this.loadKey4(bytes, ip);
    const id = this.incomplete.find();
    if (to === from) return this.refuse(id, this.counts4, FRAGMENT_INVALID);
    if (to > IPV4_LENGTH_MAX - IPV4_HEADER) return this.refuse(id, this.counts4, FRAGMENT_TOO_LONG);
    const datagram = id < 0 ? this.create(now) : id;
    this.restartIfFar(datagram, now);
    return this.add(datagram, bytes, ip, header, from, to, more, 1 << (ipv4Tos(bytes, ip) & ECN_MASK));
  }

  /** Takes the IPv6 packet at `ip`, which checkIpv6() has accepted. Returns FRAGMENT_... */
  receive6(bytes: Uint8Array, ip: number, now: number): number {
    const left = transport6(bytes, ip) - FRAGMENT_HEADER;
    const { field, offset: at, protocol } = transport;
    if (left < -FRAGMENT_HEADER || protocol !== NEXTHDR_FRAGMENT) return FRAGMENT_NONE;
    this.counts6.requests++;
    if (left < 0) return this.problem(ICMPV6_HDR_FIELD, at - ip);
    const fragment = readUint16(bytes, at + FRAGMENT_OFFSET);
    const from = fragment & IP6_OFFSET;
    const more = (fragment & IP6_MF) !== 0;
    if (from === 0 && this.hasBadChain(bytes, ip, at, left)) return FRAGMENT_PROBLEM;
    if (from === 0 && !more) return this.unwrap(bytes, ip, field, at, left);
    this.loadKey6(bytes, ip, at);
    const id = this.incomplete.find();
    const to = from + left;
    if (to > IPV6_PAYLOAD_MAX) return this.endWithProblem(id, at + FRAGMENT_OFFSET - ip);
    if (more && (to & 7) !== 0) return this.endWithProblem(id, IPV6_PAYLOAD_LENGTH);
    const header = at + FRAGMENT_HEADER - ip;
    if (to === from || header > HEADERS_MAX) return this.refuse(id, this.counts6, FRAGMENT_INVALID);
    const datagram = id < 0 ? this.create(now) : id;
    if (from === 0) this.field[datagram] = field - ip;
    return this.add(datagram, bytes, ip, header, from, to, more, 1 << (ipv6TrafficClass(bytes, ip) & ECN_MASK));
  }

  /**
   * Gives up what has waited too long.
   * @returns when it is to be called next, Infinity while nothing is under way
   */
  tick(now: number): number {
    return Math.min(this.expire(FAMILY_4, TIMEOUT_4_MS, now), this.expire(FAMILY_6, TIMEOUT_6_MS, now));
  }

  private expire(family: number, timeoutMs: number, now: number): number {
    const { incomplete } = this;
    for (;;) {
      const id = incomplete.oldest(family);
      if (id < 0) return Number.POSITIVE_INFINITY;
      if (incomplete.since[id] + timeoutMs > now) return incomplete.since[id] + timeoutMs;
      const counts = this.countsOf(id);
      counts.timeouts++;
      counts.fails++;
      const length = (this.flags[id] & FIRST_IN) === 0 ? 0 : this.writeFirst(id);
      incomplete.remove(id);
      if (length > 0) this.onTimeout(this.packet, PACKET_AT, length, family === FAMILY_4 ? 4 : 6);
    }
  }

  /** The first fragment of a datagram into `packet`. Its bytes. */
  private writeFirst(id: number): number {
    const header = this.headerLength[id];
    const first = this.firstLength[id];
    this.writeHeaders(id, header);
    this.incomplete.store.copy(id, first, this.packet.bytes, PACKET_AT + header);
    return header + first;
  }

  private create(now: number): number {
    const id = this.incomplete.create(now);
    this.reset(id);
    return id;
  }

  private reset(id: number): void {
    this.end[id] = 0;
    this.received[id] = 0;
    this.flags[id] = 0;
    this.ecn[id] = 0;
  }

  /** As ip_frag_too_far(). */
  private restartIfFar(id: number, now: number): void {
    const distance = this.incomplete.distance(id);
    if (this.distanceMax === 0 || distance <= this.distanceMax || this.received[id] === 0) return;
    this.counts4.fails++;
    this.incomplete.restart(id, now);
    this.reset(id);
  }

  /** Adds bytes [from, to) to a datagram: those after the `header` bytes of headers at `ip`. */
  private add(
    id: number,
    bytes: Uint8Array,
    ip: number,
    header: number,
    from: number,
    to: number,
    more: boolean,
    ecn: number,
  ): number {
    const { incomplete } = this;
    const end = this.end[id];
    const isEnded = (this.flags[id] & LAST_IN) !== 0;
    if (more ? isEnded && to > end : to < end || (isEnded && to !== end)) {
      return this.refuse(id, this.countsOf(id), FRAGMENT_INVALID);
    }
    if (!more) this.flags[id] |= LAST_IN;
    const coverage = incomplete.store.coverage(id, from, to);
    if (coverage !== COVERED_NOT) {
      if (coverage === COVERED_WHOLLY && incomplete.store.isOneRun(id, from, to)) return FRAGMENT_DUPLICATE;
      this.countsOf(id).overlaps++;
      return this.refuse(id, this.countsOf(id), FRAGMENT_OVERLAPS);
    }
    incomplete.charge(id, incomplete.store.missing(id, from, to));
    incomplete.store.put(id, from, bytes, ip + header, to - from, from !== end);
    this.end[id] = Math.max(to, end);
    this.received[id] += to - from;
    this.ecn[id] |= ecn;
    if (from === 0) this.keepFirst(id, bytes, ip, header, to);
    if (this.flags[id] !== (FIRST_IN | LAST_IN) || this.received[id] !== this.end[id]) return FRAGMENT_KEPT;
    return this.complete(id);
  }

  private keepFirst(id: number, bytes: Uint8Array, ip: number, header: number, length: number): void {
    this.flags[id] |= FIRST_IN;
    this.headerLength[id] = header;
    this.firstLength[id] = length;
    this.headers.set(bytes.subarray(ip, ip + header), id * HEADERS_MAX);
  }

  /** Writes a whole datagram to `packet` and removes it. */
  private complete(id: number): number {
    const ecn = this.ecn[id];
    if ((ecn & NOT_ECT) !== 0 && ecn !== NOT_ECT) return this.refuse(id, this.countsOf(id), FRAGMENT_INVALID);
    const congested = (ecn & CE) !== 0 ? ECN_MASK : 0;
    const fits =
      this.incomplete.family[id] === FAMILY_4 ? this.complete4(id, congested) : this.complete6(id, congested);
    if (!fits) return this.refuse(id, this.countsOf(id), FRAGMENT_TOO_LONG);
    this.countsOf(id).oks++;
    this.incomplete.remove(id);
    return FRAGMENT_COMPLETES;
  }

  private complete4(id: number, ecn: number): boolean {
    const { packet } = this;
    const { bytes } = packet;
    const header = this.headerLength[id];
    this.length = header + this.end[id];
    if (this.length > IPV4_LENGTH_MAX) return false;
    this.writeHeaders(id, header);
    this.incomplete.store.copy(id, this.end[id], bytes, PACKET_AT + header);
    bytes[PACKET_AT + IPV4_TOS] |= ecn;
    writeUint16(bytes, PACKET_AT + IPV4_TOTAL_LENGTH, this.length);
    writeUint16(bytes, PACKET_AT + IPV4_FRAGMENT, 0);
    writeUint16(bytes, PACKET_AT + IPV4_CHECKSUM, 0);
    storeChecksum(packet, PACKET_AT + IPV4_CHECKSUM, sum(packet, PACKET_AT, header, 0));
    return true;
  }

  private complete6(id: number, ecn: number): boolean {
    const { bytes } = this.packet;
    const header = this.headerLength[id] - FRAGMENT_HEADER;
    this.length = header + this.end[id];
    if (this.length - IPV6_HEADER > IPV6_PAYLOAD_MAX) return false;
    const nextHeader = this.headers[id * HEADERS_MAX + header + FRAGMENT_NEXT_HEADER];
    this.writeHeaders(id, header);
    this.incomplete.store.copy(id, this.end[id], bytes, PACKET_AT + header);
    bytes[PACKET_AT + 1] |= ecn << 4;
    bytes[PACKET_AT + this.field[id]] = nextHeader;
    writeUint16(bytes, PACKET_AT + IPV6_PAYLOAD_LENGTH, this.length - IPV6_HEADER);
    return true;
  }

  private writeHeaders(id: number, length: number): void {
    const at = id * HEADERS_MAX;
    this.packet.bytes.set(this.headers.subarray(at, at + length), PACKET_AT);
  }

  /** A packet whose only fragment is whole (RFC 6946): to `packet` without its fragment header at `at`. */
  private unwrap(bytes: Uint8Array, ip: number, field: number, at: number, left: number): number {
    const to = this.packet.bytes;
    const header = at - ip;
    const payload = at + FRAGMENT_HEADER;
    this.length = header + left;
    to.set(bytes.subarray(ip, at), PACKET_AT);
    to.set(bytes.subarray(payload, payload + left), PACKET_AT + header);
    to[PACKET_AT + field - ip] = bytes[at + FRAGMENT_NEXT_HEADER];
    writeUint16(to, PACKET_AT + IPV6_PAYLOAD_LENGTH, this.length - IPV6_HEADER);
    this.counts6.oks++;
    return FRAGMENT_COMPLETES;
  }

  /**
   * Whether the chain of headers after the fragment header at `at` of a first fragment is not there to the end of the
   * upper-layer header (RFC 8200, section 4.5), or has another fragment header. A problem is set then.
   */
  private hasBadChain(bytes: Uint8Array, ip: number, at: number, left: number): boolean {
    const rest = skipExtensions(bytes, at + FRAGMENT_NEXT_HEADER, at + FRAGMENT_HEADER, left);
    if (rest >= 0 && transport.protocol === NEXTHDR_FRAGMENT) {
      this.problem(ICMPV6_HDR_FIELD, transport.offset - ip);
      return true;
    }
    if (rest >= 0 && rest >= upperHeader(transport.protocol)) return false;
    this.problem(ICMPV6_HDR_INCOMP, 0);
    return true;
  }

  private endWithProblem(id: number, pointer: number): number {
    if (id >= 0) this.incomplete.remove(id);
    return this.problem(ICMPV6_HDR_FIELD, pointer);
  }

  private problem(code: number, pointer: number): number {
    this.problemCode = code;
    this.problemPointer = pointer;
    return FRAGMENT_PROBLEM;
  }

  /** Ends a datagram, if there is one; `code` is the reason. */
  private refuse(id: number, counts: ReassemblyCounts, code: number): number {
    counts.fails++;
    if (id >= 0) this.incomplete.remove(id);
    return code;
  }

  private countsOf(id: number): ReassemblyCounts {
    return this.incomplete.family[id] === FAMILY_4 ? this.counts4 : this.counts6;
  }

  private loadKey4(bytes: Uint8Array, ip: number): void {
    const { key } = this.incomplete;
    key.fill(0);
    key[KEY_FAMILY] = FAMILY_4;
    key[KEY_PROTOCOL] = ipv4Protocol(bytes, ip);
    key[KEY_ID] = ipv4Id(bytes, ip);
    key[KEY_SOURCE + 3] = readInt32(bytes, ip + IPV4_SRC);
    key[KEY_DESTINATION + 3] = readInt32(bytes, ip + IPV4_DST);
  }

  private loadKey6(bytes: Uint8Array, ip: number, at: number): void {
    const { key } = this.incomplete;
    key[KEY_FAMILY] = FAMILY_6;
    key[KEY_PROTOCOL] = 0;
    key[KEY_ID] = readInt32(bytes, at + FRAGMENT_ID);
    for (let i = 0; i < 4; i++) {
      key[KEY_SOURCE + i] = readInt32(bytes, ip + IPV6_SRC + 4 * i);
      key[KEY_DESTINATION + i] = readInt32(bytes, ip + IPV6_DST + 4 * i);
    }
  }
}

/** Bytes of a protocol's header that a first fragment must have, as ipv6frag_thdr_truncated(). */
function upperHeader(protocol: number): number {
  switch (protocol) {
    case IPPROTO_TCP:
      return TCP_HEADER;
    case IPPROTO_UDP:
      return UDP_HEADER;
    case NEXTHDR_ICMP:
      return ICMP_HEADER;
    case NEXTHDR_NONE:
      return 0;
    default:
      return 1;
  }
}
