/**
 * MLD of a host: version 2 (RFC 3810, now RFC 9777), and version 1 (RFC 2710) where a querier speaks that. What is said when is in
 * group-member.ts; here are the formats.
 */
import { formatIpv6, parseIpv6 } from "../wire/address.ts";
import { ETH_HEADER, ETH_P_IPV6, writeEthernet } from "../wire/ethernet.ts";
import { checkIcmp6, finishIcmp6, ICMP_CHECKSUM, ICMP_CODE, ICMP_OK, ICMP_REST, ICMP_TYPE } from "../wire/icmp.ts";
import {
  IPV6_ADDRESS,
  IPV6_HEADER,
  IPV6_MIN_MTU,
  IPV6_NEXT_HEADER,
  IPV6_SRC,
  IPV6_TLV_PADN,
  IPV6_TLV_ROUTERALERT,
  ipv6HopLimit,
  isLinkLocal6,
  isMulticast6,
  NEXTHDR_HOP,
  NEXTHDR_ICMP,
  transport,
  transport6,
  writeIpv6,
  writeMulticastMac6,
} from "../wire/ipv6.ts";
import { FrameViews, readUint16 } from "../wire/views.ts";
import { GroupMember, type MemberWire } from "./group-member.ts";
import { type GroupRecord, packRecords, REPORT_HEADER, writeReport } from "./group-records.ts";
import { floating8, type GroupProtocolOptions } from "./igmp.ts";
import { MCAST_EXCLUDE, MCAST_INCLUDE } from "./source-filter.ts";

/** Types (include/uapi/linux/icmpv6.h). */
export const ICMPV6_MGM_QUERY = 130;
export const ICMPV6_MGM_REPORT = 131;
export const ICMPV6_MGM_REDUCTION = 132;
export const ICMPV6_MLD2_REPORT = 143;

/** Field offsets in bytes from the ICMPv6 header, and the bytes of a message of version 1. */
export const MLD_MAX_DELAY = ICMP_REST;
export const MLD_GROUP = 8;
export const MLD_LENGTH = 24;
/** Of a query of version 2. */
export const MLD2_QRV = 24;
export const MLD2_QQIC = 25;
export const MLD2_SOURCE_COUNT = 26;
export const MLD2_SOURCES = 28;

/** ff02::2 and ff02::16. */
const ALL_ROUTERS = parseIpv6("ff02::2") as Uint8Array;
const ALL_MLD2_ROUTERS = parseIpv6("ff02::16") as Uint8Array;
const UNSPECIFIED = new Uint8Array(IPV6_ADDRESS);

const HOP_LIMIT = 1;
/** Hop-by-hop options: ICMPv6 follows, router alert for MLD, padding. */
const OPTIONS = Uint8Array.of(NEXTHDR_ICMP, 0, IPV6_TLV_ROUTERALERT, 2, 0, 0, IPV6_TLV_PADN, 0);
const IP_HEADERS = IPV6_HEADER + OPTIONS.length;
const HEADERS = ETH_HEADER + IP_HEADERS;
const NEWEST = 2;

export class Mld implements MemberWire {
  /** Source of what is sent: the interface's link-local address; null while it has none that is not tentative. */
  linkLocal: Uint8Array | null = null;
  /** Messages that were not understood, or not to be believed. */
  ignored = 0;
  private readonly member: GroupMember;
  private readonly mac: Uint8Array;
  private readonly destinationMac = new Uint8Array(6);
  private readonly mtu: number;
  private readonly views: FrameViews;
  private readonly sendFrame: (frame: Uint8Array) => void;

  /** @param options `mtu` is at least 1,280 */
  constructor({ mac, mtu, random, send }: GroupProtocolOptions) {
    if (!(mtu >= IPV6_MIN_MTU)) throw new RangeError(`MTU ${mtu}: at least ${IPV6_MIN_MTU}`);
    this.mac = mac.slice();
    this.mtu = mtu;
    this.views = new FrameViews(new Uint8Array((ETH_HEADER + mtu + 3) & ~3));
    this.sendFrame = send;
    this.member = new GroupMember(NEWEST, random, this);
  }

  /** Version that is spoken now: 2, or 1 while a querier of it is about. */
  get version(): number {
    return this.member.version;
  }

  /** What the interface wants of a group: `mode` is MCAST_INCLUDE or MCAST_EXCLUDE, addresses are text. */
  setFilter(group: string, mode: number, sources: Iterable<string>, now: number): void {
    if (isReported(group)) this.member.setFilter(group, { mode, sources: new Set(sources) }, now);
  }

  join(group: string, now: number): void {
    this.setFilter(group, MCAST_EXCLUDE, [], now);
  }

  leave(group: string, now: number): void {
    this.setFilter(group, MCAST_INCLUDE, [], now);
  }

  /** Reports all groups as if just joined: when the link comes up, or `linkLocal` is new (RFC 3590, section 4). */
  announce(now: number): void {
    this.member.announce(now);
  }

  /** Sends what is due, and returns when it is to be called next: Infinity while nothing is to be sent. */
  tick(now: number): number {
    return this.member.tick(now);
  }

  /** Takes a packet that checkIpv6() has accepted and whose transport6() is ICMPv6 of a type of MLD. */
  receive(views: FrameViews, ip: number, now: number): void {
    const { bytes } = views;
    const length = transport6(bytes, ip);
    const { offset, protocol } = transport;
    if (length < 0 || protocol !== NEXTHDR_ICMP || checkIcmp6(views, offset, length, ip) !== ICMP_OK) this.ignored++;
    else if (bytes[offset] === ICMPV6_MGM_QUERY) this.receiveQuery(bytes, ip, offset, length, now);
    else if (bytes[offset] === ICMPV6_MGM_REPORT) this.receiveReport(bytes, ip, offset, length, now);
  }

  /** RFC 3810, sections 5.1.14, 6.2 and 8.1: of the link, with a router alert, of a length that there is. */
  private receiveQuery(bytes: Uint8Array, ip: number, mld: number, length: number, now: number): void {
    const isOfLink = isLinkLocal6(bytes, ip + IPV6_SRC) && ipv6HopLimit(bytes, ip) === HOP_LIMIT;
    const group = groupAt(bytes, mld);
    if (!isOfLink || !hasRouterAlert(bytes, ip) || group === "") this.ignored++;
    else if (length === MLD_LENGTH) this.member.query(1, group, [], readUint16(bytes, mld + MLD_MAX_DELAY), now);
    else if (length >= MLD2_SOURCES) this.query(bytes, mld, length, group, now);
    else this.ignored++;
  }

  private query(bytes: Uint8Array, mld: number, length: number, group: string | null, now: number): void {
    const count = readUint16(bytes, mld + MLD2_SOURCE_COUNT);
    if (MLD2_SOURCES + IPV6_ADDRESS * count > length || (group === null && count > 0)) {
      this.ignored++;
      return;
    }
    const sources = Array.from({ length: count }, (_, i) => formatIpv6(bytes, mld + MLD2_SOURCES + IPV6_ADDRESS * i));
    this.member.heardQuerier(bytes[mld + MLD2_QRV] & 7, floating8(bytes[mld + MLD2_QQIC]) * 1000);
    this.member.query(NEWEST, group, sources, floating16(readUint16(bytes, mld + MLD_MAX_DELAY)), now);
  }

  private receiveReport(bytes: Uint8Array, ip: number, mld: number, length: number, now: number): void {
    const isOfLink = isLinkLocal6(bytes, ip + IPV6_SRC) && ipv6HopLimit(bytes, ip) === HOP_LIMIT;
    const group = length === MLD_LENGTH ? groupAt(bytes, mld) : "";
    if (!isOfLink || group === null || group === "") this.ignored++;
    else this.member.heardReport(group, now);
  }

  // ---- MemberWire ----

  report(records: readonly GroupRecord[]): void {
    const room = this.mtu - IP_HEADERS - REPORT_HEADER;
    for (const part of packRecords(records, IPV6_ADDRESS, room)) {
      const length = writeReport(this.views.bytes, HEADERS, ICMPV6_MLD2_REPORT, part);
      this.send(ALL_MLD2_ROUTERS, length);
    }
  }

  olderReport(_version: number, group: string): void {
    this.send(this.writeOlder(ICMPV6_MGM_REPORT, group), MLD_LENGTH);
  }

  olderLeave(_version: number, group: string): void {
    this.writeOlder(ICMPV6_MGM_REDUCTION, group);
    this.send(ALL_ROUTERS, MLD_LENGTH);
  }

  /** A message of version 1. Returns the group. */
  private writeOlder(type: number, group: string): Uint8Array {
    const { bytes } = this.views;
    const address = parseIpv6(group) as Uint8Array;
    bytes.fill(0, HEADERS, HEADERS + MLD_LENGTH);
    bytes[HEADERS + ICMP_TYPE] = type;
    bytes[HEADERS + ICMP_CODE] = 0;
    bytes.set(address, HEADERS + MLD_GROUP);
    return address;
  }

  /** Sends the message of `length` bytes that lies after the headers, its checksum 0. */
  private send(destination: Uint8Array, length: number): void {
    const { views } = this;
    const { bytes } = views;
    writeMulticastMac6(this.destinationMac, 0, destination, 0);
    writeEthernet(bytes, 0, this.destinationMac, this.mac, ETH_P_IPV6);
    const source = this.linkLocal ?? UNSPECIFIED;
    const payload = OPTIONS.length + length;
    writeIpv6(bytes, ETH_HEADER, 0, 0, payload, NEXTHDR_HOP, HOP_LIMIT, source, 0, destination, 0);
    bytes.set(OPTIONS, ETH_HEADER + IPV6_HEADER);
    bytes[HEADERS + ICMP_CHECKSUM] = 0;
    bytes[HEADERS + ICMP_CHECKSUM + 1] = 0;
    finishIcmp6(views, HEADERS, length, ETH_HEADER);
    this.sendFrame(bytes.subarray(0, HEADERS + length));
  }
}

/** Reserved and interface-local scope, and all nodes of the link, are nobody's business (RFC 3810, section 6). */
function isReported(group: string): boolean {
  const address = parseIpv6(group) as Uint8Array;
  return (address[1] & 15) > 1 && group !== "ff02::1";
}

/** The group of a message as text, null when it is of all groups, "" when it is no group. */
function groupAt(bytes: Uint8Array, mld: number): string | null {
  const at = mld + MLD_GROUP;
  if (isMulticast6(bytes, at)) return formatIpv6(bytes, at);
  for (let i = 0; i < IPV6_ADDRESS; i++) if (bytes[at + i] !== 0) return "";
  return null;
}

/** Whether the packet begins with hop-by-hop options that alert routers to MLD (RFC 2711). */
function hasRouterAlert(bytes: Uint8Array, ip: number): boolean {
  if (bytes[ip + IPV6_NEXT_HEADER] !== NEXTHDR_HOP) return false;
  const begin = ip + IPV6_HEADER;
  const end = begin + ((bytes[begin + 1] + 1) << 3);
  for (let at = begin + 2; at + 4 <= end; ) {
    if (bytes[at] === IPV6_TLV_ROUTERALERT) return bytes[at + 1] === 2 && readUint16(bytes, at + 2) === 0;
    // Pad1 is the only option of one byte.
    at += bytes[at] === 0 ? 1 : 2 + bytes[at + 1];
  }
  return false;
}

/** A number of 16 bits, from 32,768 on with three of exponent and twelve of mantissa (RFC 3810, section 5.1.3). */
export function floating16(code: number): number {
  return code < 0x8000 ? code : ((code & 0xfff) | 0x1000) << (((code >> 12) & 7) + 3);
}
