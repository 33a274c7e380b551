/**
 * ICMP (RFC 792) as a host has it (RFC 1122, section 3.2.2): echo requests answered, errors about our packets passed on, errors
 * about others' packets sent. What Linux has a choice in is as it is there by default (net/ipv4/icmp.c): no answer to a
 * broadcast; as much of a packet quoted as 576 bytes hold. But a timestamp request gets no answer (RFC 1122, section 3.2.2.8,
 * leaves it open), and what we send has no options, where Linux gives back the routes and times that it recorded.
 *
 * Redirects are counted and not obeyed: whoever can send one can turn our packets to himself, and all that an honest one
 * saves is a hop. Servers switch them off.
 */
import { C } from "../counters.ts";
import { isGroupAddress } from "../wire/ethernet.ts";
import {
  checkIcmp4,
  ICMP_BAD_CHECKSUM,
  ICMP_CHECKSUM,
  ICMP_CODE,
  ICMP_DEST_UNREACH,
  ICMP_ECHO,
  ICMP_ECHOREPLY,
  ICMP_FRAG_NEEDED,
  ICMP_HEADER,
  ICMP_OK,
  ICMP_PARAMETERPROB,
  ICMP_REDIRECT,
  ICMP_SOURCE_QUENCH,
  ICMP_TIME_EXCEEDED,
  ICMP_TYPE,
  icmpNextHopMtu,
  icmpRest,
  writeIcmp,
} from "../wire/icmp.ts";
import {
  IPPROTO_ICMP,
  IPV4_FRAGMENT,
  IPV4_HEADER,
  IPV4_LENGTH_MAX,
  IPV4_OFFSET_MASK,
  ipv4Destination,
  ipv4HeaderLength,
  ipv4Protocol,
  ipv4Source,
  ipv4Tos,
  ipv4TotalLength,
} from "../wire/ipv4.ts";
import { type FrameViews, readUint16, writeUint16 } from "../wire/views.ts";
import type { Addresses } from "./addresses.ts";
import { Message4 } from "./icmp-message.ts";
import { NR_ICMP_UNREACH, Quoted, readQuoted4, reportOf } from "./icmp-report.ts";
import { FRAME_AT, type Link } from "./link.ts";
import { ALLOWED, type IcmpRateLimit, LIMITED_GLOBAL, RATELIMIT_4_MS } from "./rate-limit.ts";
import { ICMP_EXC_FRAGTIME } from "./reassembly.ts";
import { loadIpv4 } from "./words.ts";

/** Bytes of an error, headers included (RFC 1812, section 4.3.2.3). */
const ERROR_MAX = 576;
const ERROR_QUOTE_MAX = ERROR_MAX - IPV4_HEADER - ICMP_HEADER;
/** The highest type with a meaning (NR_ICMP_TYPES, include/uapi/linux/icmp.h). */
const NR_ICMP_TYPES = 18;
/** Types that are errors, or that nobody knows: one about such a message might be answered by another, without end. */
const ERROR_TYPES = new Set([1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12]);
/** Errors keep the packet's type of service, but go with the precedence of network control (RFC 1812, section 4.3.2.5). */
const TOS_MASK = 0x1e;
const PREC_INTERNETCONTROL = 0xc0;

/** Sends a packet of our own, in a frame without Ethernet addresses. */
export type SendOwn = (frame: Uint8Array, now: number) => void;

export class Icmp4 {
  private readonly link: Link;
  private readonly addresses: Addresses;
  private readonly limit: IcmpRateLimit;
  private readonly send: SendOwn;
  private readonly quoted = new Quoted();
  private readonly message = new Message4(IPV4_LENGTH_MAX - IPV4_HEADER);
  private readonly source = new Int32Array(4);
  private readonly destination = new Int32Array(4);

  constructor(link: Link, addresses: Addresses, limit: IcmpRateLimit, send: SendOwn) {
    this.link = link;
    this.addresses = addresses;
    this.limit = limit;
    this.send = send;
  }

  /** Takes the message that the IPv4 packet at `ip`, which no fragment is, carries. */
  receive(rx: FrameViews, ip: number, now: number): void {
    const { counters } = this.link;
    const { bytes } = rx;
    const icmp = ip + ipv4HeaderLength(bytes, ip);
    const length = ipv4TotalLength(bytes, ip) - ipv4HeaderLength(bytes, ip);
    counters[C.IcmpInMsgs]++;
    const verdict = checkIcmp4(rx, icmp, length);
    if (verdict === ICMP_BAD_CHECKSUM) counters[C.IcmpInCsumErrors]++;
    loadIpv4(this.source, ipv4Source(bytes, ip));
    loadIpv4(this.destination, ipv4Destination(bytes, ip));
    if (verdict !== ICMP_OK || bytes[icmp] > NR_ICMP_TYPES || !this.addresses.isOwn(this.destination)) {
      counters[C.IcmpInErrors]++;
      return;
    }
    this.dispatch(bytes, ip, icmp, length, now);
  }

  /**
   * Says what the packet at `ip` was dropped for: no socket, no protocol, not all of its fragments, an option. Not if none
   * may be told.
   * @param rest second word of the ICMP header
   */
  sendError(bytes: Uint8Array, ip: number, type: number, code: number, rest: number, now: number): void {
    const { counters } = this.link;
    if (!this.mayTell(bytes, ip)) return;
    const limited = this.limit.take(this.source, RATELIMIT_4_MS, now);
    if (limited !== ALLOWED) {
      counters[limited === LIMITED_GLOBAL ? C.IcmpOutRateLimitGlobal : C.IcmpOutRateLimitHost]++;
      return;
    }
    const { at, views } = this.message;
    const quote = Math.min(ipv4TotalLength(bytes, ip), ERROR_QUOTE_MAX, this.link.mtu - IPV4_HEADER - ICMP_HEADER);
    writeIcmp(views.bytes, at, type, code, rest);
    views.bytes.set(bytes.subarray(ip, ip + quote), at + ICMP_HEADER);
    const tos = (ipv4Tos(bytes, ip) & TOS_MASK) | PREC_INTERNETCONTROL;
    counters[counterOf(type)]++;
    this.transmit(ICMP_HEADER + quote, tos, now);
  }

  /** sendError() for a datagram whose first fragment is at `ip`. */
  sendReassemblyTimeout(bytes: Uint8Array, ip: number, now: number): void {
    this.sendError(bytes, ip, ICMP_TIME_EXCEEDED, ICMP_EXC_FRAGTIME, 0, now);
  }

  private dispatch(bytes: Uint8Array, ip: number, icmp: number, length: number, now: number): void {
    const { counters } = this.link;
    switch (bytes[icmp + ICMP_TYPE]) {
      case ICMP_ECHO:
        counters[C.IcmpInEchos]++;
        this.reply(bytes, ip, icmp, length, now);
        return;
      case ICMP_REDIRECT:
        counters[C.IcmpInRedirects]++;
        return;
      case ICMP_DEST_UNREACH:
        counters[C.IcmpInDestUnreachs]++;
        if (bytes[icmp + ICMP_CODE] <= NR_ICMP_UNREACH) this.report(bytes, icmp, length);
        return;
      case ICMP_TIME_EXCEEDED:
        counters[C.IcmpInTimeExcds]++;
        // Fragments lost on the way are a loss as any other.
        if (bytes[icmp + ICMP_CODE] !== ICMP_EXC_FRAGTIME) this.report(bytes, icmp, length);
        return;
      case ICMP_PARAMETERPROB:
        counters[C.IcmpInParmProbs]++;
        this.report(bytes, icmp, length);
        return;
      case ICMP_SOURCE_QUENCH:
        // Obsolete (RFC 6633).
        return;
    }
  }

  private reply(bytes: Uint8Array, ip: number, icmp: number, length: number, now: number): void {
    if (!this.isHost(this.source)) return;
    const { at, views } = this.message;
    views.bytes.set(bytes.subarray(icmp, icmp + length), at);
    views.bytes[at + ICMP_TYPE] = ICMP_ECHOREPLY;
    writeUint16(views.bytes, at + ICMP_CHECKSUM, 0);
    this.link.counters[C.IcmpOutEchoReps]++;
    this.transmit(length, ipv4Tos(bytes, ip), now);
  }

  /** To the source of what came, from its destination. */
  private transmit(length: number, tos: number, now: number): void {
    this.link.counters[C.IcmpOutMsgs]++;
    this.send(this.message.finish(length, tos, this.link.nextId(), this.destination[3], this.source[3]), now);
  }

  private report(bytes: Uint8Array, icmp: number, length: number): void {
    const { quoted } = this;
    const held = length - ICMP_HEADER;
    if (!readQuoted4(quoted, bytes, icmp + ICMP_HEADER, held) || !this.addresses.isOwn(quoted.local)) {
      this.link.counters[C.IcmpInErrors]++;
      return;
    }
    const type = bytes[icmp + ICMP_TYPE];
    const code = bytes[icmp + ICMP_CODE];
    let info = 0;
    if (type === ICMP_DEST_UNREACH && code === ICMP_FRAG_NEEDED) info = icmpNextHopMtu(bytes, icmp);
    if (type === ICMP_PARAMETERPROB) info = icmpRest(bytes, icmp) >>> 24;
    this.link.events.error(reportOf(quoted, bytes, 4, type, code, info, this.source));
  }

  /** RFC 1122, section 3.2.2: about what, and to whom, no error is sent. Leaves the packet's addresses in the fields. */
  private mayTell(bytes: Uint8Array, ip: number): boolean {
    loadIpv4(this.source, ipv4Source(bytes, ip));
    loadIpv4(this.destination, ipv4Destination(bytes, ip));
    if (isGroupAddress(bytes, FRAME_AT) || !this.addresses.isOwn(this.destination) || !this.isHost(this.source))
      return false;
    if ((readUint16(bytes, ip + IPV4_FRAGMENT) & IPV4_OFFSET_MASK) !== 0) return false;
    if (ipv4Protocol(bytes, ip) !== IPPROTO_ICMP) return true;
    const header = ipv4HeaderLength(bytes, ip);
    const type = bytes[ip + header];
    return ipv4TotalLength(bytes, ip) > header && type <= NR_ICMP_TYPES && !ERROR_TYPES.has(type);
  }

  /** Whether an address can be that of one other host. */
  private isHost(words: Int32Array): boolean {
    const first = words[3] >>> 24;
    return (
      first !== 0 && first !== 127 && first < 224 && !this.addresses.isBroadcast(words) && !this.addresses.isOwn(words)
    );
  }
}

function counterOf(type: number): number {
  if (type === ICMP_TIME_EXCEEDED) return C.IcmpOutTimeExcds;
  return type === ICMP_PARAMETERPROB ? C.IcmpOutParmProbs : C.IcmpOutDestUnreachs;
}
