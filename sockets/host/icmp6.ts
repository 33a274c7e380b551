/**
 * ICMPv6 (RFC 4443) as a host has it: echo requests answered, errors about our packets passed on, errors about others' packets
 * sent, neighbour and router discovery passed to where they are done. What Linux has a choice in is as it is there by default
 * (net/ipv6/icmp.c): an echo request to a group is answered, too. Redirects are not obeyed, for the reason in icmp.ts.
 */
import { C } from "../counters.ts";
import { isGroupAddress } from "../wire/ethernet.ts";
import {
  checkIcmp6,
  ICMP_BAD_CHECKSUM,
  ICMP_CHECKSUM,
  ICMP_CODE,
  ICMP_HEADER,
  ICMP_OK,
  ICMP_TYPE,
  ICMPV6_DEST_UNREACH,
  ICMPV6_ECHO_REPLY,
  ICMPV6_ECHO_REQUEST,
  ICMPV6_INFOMSG_MASK,
  ICMPV6_PARAMPROB,
  ICMPV6_PKT_TOOBIG,
  ICMPV6_TIME_EXCEED,
  icmpRest,
  writeIcmp,
} from "../wire/icmp.ts";
import {
  IPV6_DST,
  IPV6_HEADER,
  IPV6_MIN_MTU,
  IPV6_PAYLOAD_MAX,
  IPV6_SRC,
  ipv6PayloadLength,
  ipv6TrafficClass,
  NEXTHDR_ICMP,
  transport,
} from "../wire/ipv6.ts";
import {
  NDISC_NEIGHBOUR_ADVERTISEMENT,
  NDISC_NEIGHBOUR_SOLICITATION,
  NDISC_REDIRECT,
  NDISC_ROUTER_ADVERTISEMENT,
} from "../wire/nd.ts";
import { type FrameViews, writeUint16 } from "../wire/views.ts";
import type { Addresses } from "./addresses.ts";
import type { SendOwn } from "./icmp.ts";
import { Message6 } from "./icmp-message.ts";
import { firstTransport6, Quoted, readQuoted6, reportOf } from "./icmp-report.ts";
import { FRAME_AT, type Link } from "./link.ts";
import { ALL_NODES, type NeighbourDiscovery } from "./nd.ts";
import { ALLOWED, type IcmpRateLimit, LIMITED_GLOBAL, RATELIMIT_6_MS } from "./rate-limit.ts";
import { ICMP_EXC_FRAGTIME } from "./reassembly.ts";
import type { RouterDiscovery } from "./router-discovery.ts";
import { isMulticast, isUnspecified, loadIpv6, sameWords } from "./words.ts";

/** An error is no longer than what every link carries (RFC 4443, section 2.4 c). */
const ERROR_QUOTE_MAX = IPV6_MIN_MTU - IPV6_HEADER - ICMP_HEADER;

export class Icmp6 {
  private readonly link: Link;
  private readonly addresses: Addresses;
  private readonly discovery: NeighbourDiscovery;
  /** Null: router advertisements are not obeyed. */
  private readonly routers: RouterDiscovery | null;
  private readonly limit: IcmpRateLimit;
  private readonly hopLimit: () => number;
  private readonly send: SendOwn;
  private readonly quoted = new Quoted();
  private readonly message = new Message6(IPV6_PAYLOAD_MAX);
  private readonly source = new Int32Array(4);
  private readonly destination = new Int32Array(4);

  constructor(
    link: Link,
    addresses: Addresses,
    discovery: NeighbourDiscovery,
    routers: RouterDiscovery | null,
    limit: IcmpRateLimit,
    hopLimit: () => number,
    send: SendOwn,
  ) {
    this.link = link;
    this.addresses = addresses;
    this.discovery = discovery;
    this.routers = routers;
    this.limit = limit;
    this.hopLimit = hopLimit;
    this.send = send;
  }

  /**
   * Takes a message.
   * @param ip offset of the packet's header
   * @param length bytes of the message, at `icmp`
   */
  receive(rx: FrameViews, ip: number, icmp: number, length: number, now: number): void {
    const { counters } = this.link;
    const { bytes } = rx;
    counters[C.Icmp6InMsgs]++;
    const verdict = checkIcmp6(rx, icmp, length, ip);
    if (verdict === ICMP_BAD_CHECKSUM) counters[C.Icmp6InCsumErrors]++;
    if (verdict !== ICMP_OK) {
      counters[C.Icmp6InErrors]++;
      return;
    }
    loadIpv6(this.source, bytes, ip + IPV6_SRC);
    loadIpv6(this.destination, bytes, ip + IPV6_DST);
    const type = bytes[icmp + ICMP_TYPE];
    if (type >= NDISC_ROUTER_ADVERTISEMENT && type <= NDISC_REDIRECT) this.discover(type, bytes, ip, icmp, length, now);
    else if (type === ICMPV6_ECHO_REQUEST) this.reply(bytes, ip, icmp, length, now);
    else if ((type & ICMPV6_INFOMSG_MASK) === 0) this.takeError(type, bytes, icmp, length);
  }

  /**
   * Says that the packet at `ip` found no socket, no protocol, or not all of its fragments. Not if none may be told.
   * @param rest the four bytes after the checksum
   */
  sendError(bytes: Uint8Array, ip: number, type: number, code: number, rest: number, now: number): void {
    const { counters } = this.link;
    if (!this.mayTell(bytes, ip)) return;
    const limited = this.limit.take(this.source, RATELIMIT_6_MS, now);
    if (limited !== ALLOWED) {
      counters[limited === LIMITED_GLOBAL ? C.IcmpOutRateLimitGlobal : C.Icmp6OutRateLimitHost]++;
      return;
    }
    const { at, views } = this.message;
    const quote = Math.min(IPV6_HEADER + ipv6PayloadLength(bytes, ip), ERROR_QUOTE_MAX);
    writeIcmp(views.bytes, at, type, code, rest);
    views.bytes.set(bytes.subarray(ip, ip + quote), at + ICMP_HEADER);
    if (type === ICMPV6_PARAMPROB) counters[C.Icmp6OutParmProblems]++;
    else counters[type === ICMPV6_TIME_EXCEED ? C.Icmp6OutTimeExcds : C.Icmp6OutDestUnreachs]++;
    this.transmit(ICMP_HEADER + quote, 0, this.destination, now);
  }

  /** sendError() for a datagram whose first fragment is at `ip`. */
  sendReassemblyTimeout(bytes: Uint8Array, ip: number, now: number): void {
    this.sendError(bytes, ip, ICMPV6_TIME_EXCEED, ICMP_EXC_FRAGTIME, 0, now);
  }

  private discover(type: number, bytes: Uint8Array, ip: number, icmp: number, length: number, now: number): void {
    const { counters } = this.link;
    switch (type) {
      case NDISC_NEIGHBOUR_SOLICITATION:
        counters[C.Icmp6InNeighborSolicits]++;
        this.discovery.receive(bytes, ip, icmp, length, now);
        return;
      case NDISC_NEIGHBOUR_ADVERTISEMENT:
        counters[C.Icmp6InNeighborAdvertisements]++;
        this.discovery.receive(bytes, ip, icmp, length, now);
        return;
      case NDISC_ROUTER_ADVERTISEMENT:
        counters[C.Icmp6InRouterAdvertisements]++;
        this.routers?.receive(bytes, ip, icmp, length, now);
        return;
      default:
        counters[C.Icmp6InRedirects]++;
    }
  }

  private reply(bytes: Uint8Array, ip: number, icmp: number, length: number, now: number): void {
    this.link.counters[C.Icmp6InEchos]++;
    const isGroup = isMulticast(this.destination);
    if (isGroup && !sameWords(this.destination, ALL_NODES) && !this.addresses.isInGroup(this.destination)) return;
    const from = isGroup ? (this.addresses.sourceTo(this.source)?.words ?? null) : this.destination;
    if (from === null || !this.addresses.isOwn(from) || !this.isHost(this.source)) return;
    const { at, views } = this.message;
    views.bytes.set(bytes.subarray(icmp, icmp + length), at);
    views.bytes[at + ICMP_TYPE] = ICMPV6_ECHO_REPLY;
    writeUint16(views.bytes, at + ICMP_CHECKSUM, 0);
    this.link.counters[C.Icmp6OutEchoReplies]++;
    this.transmit(length, ipv6TrafficClass(bytes, ip), from, now);
  }

  /** To the source of what came. */
  private transmit(length: number, trafficClass: number, from: Int32Array, now: number): void {
    this.link.counters[C.Icmp6OutMsgs]++;
    this.send(this.message.finish(length, trafficClass, this.hopLimit(), from, this.source), now);
  }

  private takeError(type: number, bytes: Uint8Array, icmp: number, length: number): void {
    const { counters, events } = this.link;
    const { quoted } = this;
    if (type === ICMPV6_DEST_UNREACH) counters[C.Icmp6InDestUnreachs]++;
    if (type === ICMPV6_PKT_TOOBIG) counters[C.Icmp6InPktTooBigs]++;
    if (type === ICMPV6_TIME_EXCEED) counters[C.Icmp6InTimeExcds]++;
    if (type === ICMPV6_PARAMPROB) counters[C.Icmp6InParmProblems]++;
    const isRead = readQuoted6(quoted, bytes, icmp + ICMP_HEADER, length - ICMP_HEADER);
    if (!isRead || !this.addresses.isOwn(this.destination) || !this.addresses.isOwn(quoted.local)) {
      counters[C.Icmp6InErrors]++;
      return;
    }
    const hasInfo = type === ICMPV6_PKT_TOOBIG || type === ICMPV6_PARAMPROB;
    const info = hasInfo ? icmpRest(bytes, icmp) >>> 0 : 0;
    events.error(reportOf(quoted, bytes, 6, type, bytes[icmp + ICMP_CODE], info, this.source));
  }

  /** RFC 4443, section 2.4 e: about what, and to whom, no error is sent. Leaves the packet's addresses in the fields. */
  private mayTell(bytes: Uint8Array, ip: number): boolean {
    loadIpv6(this.source, bytes, ip + IPV6_SRC);
    loadIpv6(this.destination, bytes, ip + IPV6_DST);
    if (isGroupAddress(bytes, FRAME_AT) || !this.addresses.isOwn(this.destination) || !this.isHost(this.source))
      return false;
    const left = firstTransport6(bytes, ip, ipv6PayloadLength(bytes, ip));
    if (left < 0) return false;
    if (transport.protocol !== NEXTHDR_ICMP) return true;
    return (
      left > 0 && (bytes[transport.offset] & ICMPV6_INFOMSG_MASK) !== 0 && bytes[transport.offset] !== NDISC_REDIRECT
    );
  }

  /** Whether an address can be that of one other host. */
  private isHost(words: Int32Array): boolean {
    return !isUnspecified(words) && !isMulticast(words) && !isLoopback(words) && !this.addresses.isOwn(words);
  }
}

function isLoopback(words: Int32Array): boolean {
  return (words[0] | words[1] | words[2]) === 0 && words[3] === 1;
}
