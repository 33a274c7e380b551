/**
 * IGMP of a host: version 3 (RFC 3376, now RFC 9776), and versions 2 (RFC 2236) and 1 (RFC 1112) where a querier speaks those.
 * What is said when is in group-member.ts; here are the formats.
 */
import type { Random } from "../../queues/random.ts";
import { formatIpv4, parseIpv4 } from "../wire/address.ts";
import { fold, storeChecksum, sum } from "../wire/checksum.ts";
import { ETH_HEADER, ETH_P_IP, writeEthernet } from "../wire/ethernet.ts";
import {
  IPOPT_RA,
  IPPROTO_IGMP,
  IPV4_CHECKSUM,
  IPV4_DF,
  IPV4_HEADER,
  IPV4_VERSION_IHL,
  ipv4Destination,
  ipv4HeaderLength,
  ipv4TotalLength,
  isMulticast4,
  writeIpv4,
  writeMulticastMac4,
} from "../wire/ipv4.ts";
import { FrameViews, readInt32, readUint16, writeInt32 } from "../wire/views.ts";
import { GroupMember, type MemberWire } from "./group-member.ts";
import { type GroupRecord, packRecords, REPORT_HEADER, writeReport } from "./group-records.ts";
import { MCAST_EXCLUDE, MCAST_INCLUDE } from "./source-filter.ts";

/** Types (include/uapi/linux/igmp.h). */
export const IGMP_HOST_MEMBERSHIP_QUERY = 0x11;
export const IGMP_HOST_MEMBERSHIP_REPORT = 0x12;
export const IGMPV2_HOST_MEMBERSHIP_REPORT = 0x16;
export const IGMP_HOST_LEAVE_MESSAGE = 0x17;
export const IGMPV3_HOST_MEMBERSHIP_REPORT = 0x22;

/** Field offsets in bytes from the message's start, and the bytes of a message of version 1 or 2. */
export const IGMP_TYPE = 0;
export const IGMP_CODE = 1;
export const IGMP_CHECKSUM = 2;
export const IGMP_GROUP = 4;
export const IGMP_LENGTH = 8;
/** Of a query of version 3. */
export const IGMPV3_QRV = 8;
export const IGMPV3_QQIC = 9;
export const IGMPV3_SOURCE_COUNT = 10;
export const IGMPV3_SOURCES = 12;

/** 224.0.0.1, .2 and .22. */
export const IGMP_ALL_HOSTS = 0xe0000001 | 0;
export const IGMP_ALL_ROUTERS = 0xe0000002 | 0;
export const IGMPV3_ALL_MCR = 0xe0000016 | 0;

/** Internetwork control. */
const TOS = 0xc0;
const TTL = 1;
/** Bytes of the router alert option. */
const ROUTER_ALERT = 4;
const HEADERS = ETH_HEADER + IPV4_HEADER + ROUTER_ALERT;
/** Response time where version 1 gives none. */
const V1_DELAY_MS = 10_000;
const ADDRESS = 4;
const NEWEST = 3;
const ALL_HOSTS_TEXT = "224.0.0.1";

export interface GroupProtocolOptions {
  /** The interface's, 6 bytes. */
  mac: Uint8Array;
  /** The interface's, bytes; at least 576. */
  mtu: number;
  random: Random;
  /** Sends a whole Ethernet frame, which is valid during the call. */
  send: (frame: Uint8Array) => void;
}

export class Igmp implements MemberWire {
  /** Source of what is sent, an int32: the interface's address; 0 while it has none. */
  address = 0;
  /** Messages that were not understood, or not meant for this host. */
  ignored = 0;
  private readonly member: GroupMember;
  private readonly mac: Uint8Array;
  private readonly destinationMac = new Uint8Array(6);
  private readonly mtu: number;
  private readonly views: FrameViews;
  private readonly sendFrame: (frame: Uint8Array) => void;

  constructor({ mac, mtu, random, send }: GroupProtocolOptions) {
    if (!(mtu >= 576)) throw new RangeError(`MTU ${mtu}: at least 576`);
    this.mac = mac.slice();
    this.mtu = mtu;
    this.views = new FrameViews(new Uint8Array((ETH_HEADER + mtu + 3) & ~3));
    this.sendFrame = send;
    this.member = new GroupMember(NEWEST, random, this);
  }

  /** Version that is spoken now: 3, or that of the oldest querier of the last minutes. */
  get version(): number {
    return this.member.version;
  }

  /** What the interface wants of a group: `mode` is MCAST_INCLUDE or MCAST_EXCLUDE, addresses are text. */
  setFilter(group: string, mode: number, sources: Iterable<string>, now: number): void {
    // All hosts are members of 224.0.0.1, and none says so.
    if (group !== ALL_HOSTS_TEXT) this.member.setFilter(group, { mode, sources: new Set(sources) }, now);
  }

  join(group: string, now: number): void {
    this.setFilter(group, MCAST_EXCLUDE, [], now);
  }

  leave(group: string, now: number): void {
    this.setFilter(group, MCAST_INCLUDE, [], now);
  }

  /** Reports all groups as if just joined: when the link comes up, or `address` is new. */
  announce(now: number): void {
    this.member.announce(now);
  }

  /** Sends what is due, and returns when it is to be called next: Infinity while nothing is to be sent. */
  tick(now: number): number {
    return this.member.tick(now);
  }

  /** Takes a packet with protocol IPPROTO_IGMP that checkIpv4() has accepted. */
  receive(views: FrameViews, ip: number, now: number): void {
    const { bytes } = views;
    const header = ipv4HeaderLength(bytes, ip);
    const length = ipv4TotalLength(bytes, ip) - header;
    const igmp = ip + header;
    if (length < IGMP_LENGTH || fold(sum(views, igmp, length, 0)) !== 0xffff) this.ignored++;
    else if (bytes[igmp] === IGMP_HOST_MEMBERSHIP_QUERY) this.receiveQuery(bytes, ip, igmp, length, now);
    else if (bytes[igmp] === IGMP_HOST_MEMBERSHIP_REPORT || bytes[igmp] === IGMPV2_HOST_MEMBERSHIP_REPORT) {
      this.member.heardReport(formatIpv4(bytes, igmp + IGMP_GROUP), now);
    }
  }

  /**
   * RFC 3376, sections 4.1 and 7.1. Not looked for, as in Linux, is the router alert option: switches that leave it out of
   * their queries would otherwise take the host's groups for left.
   */
  private receiveQuery(bytes: Uint8Array, ip: number, igmp: number, length: number, now: number): void {
    const group = readInt32(bytes, igmp + IGMP_GROUP);
    const destination = ipv4Destination(bytes, ip);
    const isMisdirected = isMulticast4(destination) && destination !== IGMP_ALL_HOSTS;
    // Section 9.1: a general query is for all hosts, or for this one alone.
    if (group === 0 ? isMisdirected : !isMulticast4(group)) this.ignored++;
    else if (length === IGMP_LENGTH) this.olderQuery(bytes, igmp, now);
    else if (length >= IGMPV3_SOURCES) this.query(bytes, igmp, length, now);
    else this.ignored++;
  }

  private olderQuery(bytes: Uint8Array, igmp: number, now: number): void {
    const code = bytes[igmp + IGMP_CODE];
    // Version 1 has no response time, and its group means nothing (RFC 1112, appendix I).
    if (code === 0) this.member.query(1, null, [], V1_DELAY_MS, now);
    else this.member.query(2, groupAt(bytes, igmp), [], code * 100, now);
  }

  private query(bytes: Uint8Array, igmp: number, length: number, now: number): void {
    const count = readUint16(bytes, igmp + IGMPV3_SOURCE_COUNT);
    const group = groupAt(bytes, igmp);
    if (IGMPV3_SOURCES + ADDRESS * count > length || (group === null && count > 0)) {
      this.ignored++;
      return;
    }
    const sources = Array.from({ length: count }, (_, i) => formatIpv4(bytes, igmp + IGMPV3_SOURCES + ADDRESS * i));
    this.member.heardQuerier(bytes[igmp + IGMPV3_QRV] & 7, floating8(bytes[igmp + IGMPV3_QQIC]) * 1000);
    this.member.query(NEWEST, group, sources, floating8(bytes[igmp + IGMP_CODE]) * 100, now);
  }

  // ---- MemberWire ----

  report(records: readonly GroupRecord[]): void {
    const at = HEADERS;
    const room = this.mtu - IPV4_HEADER - ROUTER_ALERT - REPORT_HEADER;
    for (const part of packRecords(records, ADDRESS, room)) {
      const length = writeReport(this.views.bytes, at, IGMPV3_HOST_MEMBERSHIP_REPORT, part);
      this.send(IGMPV3_ALL_MCR, length);
    }
  }

  olderReport(version: number, group: string): void {
    const address = this.writeOlder(version === 1 ? IGMP_HOST_MEMBERSHIP_REPORT : IGMPV2_HOST_MEMBERSHIP_REPORT, group);
    this.send(address, IGMP_LENGTH);
  }

  olderLeave(version: number, group: string): void {
    if (version === 1) return;
    this.writeOlder(IGMP_HOST_LEAVE_MESSAGE, group);
    this.send(IGMP_ALL_ROUTERS, IGMP_LENGTH);
  }

  /** A message of version 1 or 2. Returns the group as an int32. */
  private writeOlder(type: number, group: string): number {
    const { bytes } = this.views;
    bytes.fill(0, HEADERS, HEADERS + IGMP_LENGTH);
    bytes[HEADERS + IGMP_TYPE] = type;
    bytes.set(parseIpv4(group) as Uint8Array, HEADERS + IGMP_GROUP);
    return readInt32(bytes, HEADERS + IGMP_GROUP);
  }

  /** Sends the message of `length` bytes that lies after the headers, its checksum 0. */
  private send(destination: number, length: number): void {
    const { views } = this;
    const { bytes } = views;
    writeMulticastMac4(this.destinationMac, 0, destination);
    writeEthernet(bytes, 0, this.destinationMac, this.mac, ETH_P_IP);
    const total = IPV4_HEADER + ROUTER_ALERT + length;
    writeIpv4(views, ETH_HEADER, TOS, total, 0, IPV4_DF, TTL, IPPROTO_IGMP, this.address, destination);
    bytes[ETH_HEADER + IPV4_VERSION_IHL] = 0x40 | ((IPV4_HEADER + ROUTER_ALERT) >> 2);
    writeInt32(bytes, ETH_HEADER + IPV4_HEADER, (IPOPT_RA << 24) | (ROUTER_ALERT << 16));
    bytes[ETH_HEADER + IPV4_CHECKSUM] = 0;
    bytes[ETH_HEADER + IPV4_CHECKSUM + 1] = 0;
    storeChecksum(views, ETH_HEADER + IPV4_CHECKSUM, sum(views, ETH_HEADER, IPV4_HEADER + ROUTER_ALERT, 0));
    storeChecksum(views, HEADERS + IGMP_CHECKSUM, sum(views, HEADERS, length, 0));
    this.sendFrame(bytes.subarray(0, HEADERS + length));
  }
}

/** The group of a query as text, null when it is of all groups. */
function groupAt(bytes: Uint8Array, igmp: number): string | null {
  return readInt32(bytes, igmp + IGMP_GROUP) === 0 ? null : formatIpv4(bytes, igmp + IGMP_GROUP);
}

/** A number of 8 bits, from 128 on with three of exponent and four of mantissa (RFC 3376, section 4.1.1): up to 31,744. */
export function floating8(code: number): number {
  return code < 128 ? code : ((code & 15) | 16) << (((code >> 4) & 7) + 3);
}
