/**
 * Which multicast groups the sockets of a host have joined on one interface, in one family: what setsockopt(2) with
 * IP_ADD_MEMBERSHIP and its kin does, with the same errors (ip_mc_join_group() to ip_mc_msfilter() in net/ipv4/igmp.c and
 * their counterparts in net/ipv6/mcast.c). It merges the sockets' filters into one a group for IGMP or MLD, and says
 * which socket is to get a packet.
 *
 * A call that fails returns -errno and changes nothing. Addresses are text. Sockets are numbers of the caller's.
 */
import { ERRNO } from "af-xdp-bindings";
import { addressWords } from "../fib.ts";
import { formatIp, ip } from "../wire/address.ts";
import {
  isNothing,
  isSameFilter,
  MCAST_EXCLUDE,
  MCAST_INCLUDE,
  mergeFilters,
  NOTHING,
  type SourceFilter,
} from "./source-filter.ts";

/** Groups that a socket may join: net.ipv4.igmp_max_memberships; of IPv6 Linux limits only the socket's memory. */
export const GROUPS_MAX = { 4: 20, 6: 1024 } as const;
/** Sources of one filter: net.ipv4.igmp_max_msf, net.ipv6.mld_max_msf. */
export const SOURCES_MAX = { 4: 10, 6: 64 } as const;

/** The interface's filter of a group has changed; its mode and sources are now these, NOTHING's when nobody is left. */
export type OnChange = (group: string, mode: number, sources: ReadonlySet<string>, now: number) => void;

/** One socket's membership of one group. */
class Member implements SourceFilter {
  readonly group: string;
  readonly groupWords: Int32Array;
  mode: number;
  /** Null until a source is named: then the mode may still change, as in Linux. */
  list: ReadonlySet<string> | null = null;
  /** Four words a source. */
  words = new Int32Array(0);

  constructor(group: string, mode: number) {
    this.group = group;
    this.groupWords = Int32Array.from(addressWords(ip(group)));
    this.mode = mode;
  }

  get sources(): ReadonlySet<string> {
    return this.list ?? NOTHING.sources;
  }

  set(mode: number, list: ReadonlySet<string> | null): void {
    this.mode = mode;
    this.list = list;
    this.words = Int32Array.from([...(list ?? [])].flatMap((source) => [...addressWords(ip(source))]));
  }

  isOf(w0: number, w1: number, w2: number, w3: number): boolean {
    const words = this.groupWords;
    return words[3] === w3 && words[2] === w2 && words[1] === w1 && words[0] === w0;
  }

  passes(w0: number, w1: number, w2: number, w3: number): boolean {
    const { words } = this;
    for (let at = 0; at < words.length; at += 4) {
      if (words[at + 3] === w3 && words[at + 2] === w2 && words[at + 1] === w1 && words[at] === w0) {
        return this.mode === MCAST_INCLUDE;
      }
    }
    return this.mode === MCAST_EXCLUDE;
  }
}

export class Membership {
  private readonly family: 4 | 6;
  private readonly onChange: OnChange;
  private readonly sockets = new Map<number, Member[]>();
  /** The interface's filter of each group that is joined. */
  private readonly merged = new Map<string, SourceFilter>();

  constructor(family: 4 | 6, onChange: OnChange) {
    this.family = family;
    this.onChange = onChange;
  }

  /** Groups that any socket has joined. */
  groups(): IterableIterator<string> {
    return this.merged.keys();
  }

  /** What the interface wants of a group. */
  filter(group: string): SourceFilter {
    return this.merged.get(group) ?? NOTHING;
  }

  /** IP_ADD_MEMBERSHIP, IPV6_JOIN_GROUP. EINVAL: no group; EADDRINUSE: a member; ENOBUFS: of too many groups. */
  join(socket: number, group: string, now: number): number {
    return this.enter(socket, group, MCAST_EXCLUDE, now);
  }

  /** IP_DROP_MEMBERSHIP, IPV6_LEAVE_GROUP: whatever the filter. EADDRNOTAVAIL: not a member; EINVAL: no IPv6 group. */
  leave(socket: number, group: string, now: number): number {
    const key = this.groupOf(group);
    if (key === null) return this.family === 4 ? -ERRNO.EADDRNOTAVAIL : -ERRNO.EINVAL;
    const members = this.sockets.get(socket);
    const at = members?.findIndex((member) => member.group === key) ?? -1;
    if (members === undefined || at < 0) return -ERRNO.EADDRNOTAVAIL;
    members.splice(at, 1);
    if (members.length === 0) this.sockets.delete(socket);
    this.merge(key, now);
    return 0;
  }

  /** IP_ADD_SOURCE_MEMBERSHIP, MCAST_JOIN_SOURCE_GROUP: joins if need be. As addSource(). */
  joinSource(socket: number, group: string, source: string, now: number): number {
    // The first source is added where the group is joined: an interface's filter that wants nothing is no step between.
    const key = this.groupOf(group);
    if (key === null || !this.isOfFamily(source)) return -ERRNO.EINVAL;
    if (this.find(socket, key) === null) {
      const entered = this.enter(socket, group, MCAST_INCLUDE, now);
      if (entered < 0) return entered;
    }
    return this.addSource(socket, key, source, MCAST_INCLUDE, now);
  }

  /** IP_DROP_SOURCE_MEMBERSHIP, MCAST_LEAVE_SOURCE_GROUP: leaves the group with the last source. As removeSource(). */
  leaveSource(socket: number, group: string, source: string, now: number): number {
    return this.removeSource(socket, group, source, MCAST_INCLUDE, now);
  }

  /** IP_BLOCK_SOURCE, MCAST_BLOCK_SOURCE. As addSource(). */
  block(socket: number, group: string, source: string, now: number): number {
    return this.addSource(socket, group, source, MCAST_EXCLUDE, now);
  }

  /** IP_UNBLOCK_SOURCE, MCAST_UNBLOCK_SOURCE. As removeSource(). */
  unblock(socket: number, group: string, source: string, now: number): number {
    return this.removeSource(socket, group, source, MCAST_EXCLUDE, now);
  }

  /**
   * IP_MSFILTER, MCAST_MSFILTER: the whole filter of a group that was joined; including nothing leaves it. EINVAL: no group,
   * no mode, or not a member; ENOBUFS: too many sources; EADDRNOTAVAIL: not a member, to leave.
   */
  setFilter(socket: number, group: string, mode: number, sources: readonly string[], now: number): number {
    const key = this.groupOf(group);
    if (sources.length > SOURCES_MAX[this.family]) return -ERRNO.ENOBUFS;
    if (key === null || !sources.every((source) => this.isOfFamily(source))) return -ERRNO.EINVAL;
    if (mode !== MCAST_INCLUDE && mode !== MCAST_EXCLUDE) return -ERRNO.EINVAL;
    if (mode === MCAST_INCLUDE && sources.length === 0) return this.leave(socket, group, now);
    const member = this.find(socket, key);
    if (member === null) return -ERRNO.EINVAL;
    member.set(mode, sources.length === 0 ? null : new Set(sources.map(canonical)));
    this.merge(key, now);
    return 0;
  }

  /** A socket leaves all its groups. */
  close(socket: number, now: number): void {
    const members = this.sockets.get(socket);
    this.sockets.delete(socket);
    for (const { group } of members ?? []) this.merge(group, now);
  }

  /**
   * Whether a socket is to get a packet from a source to a group, each as four words (IPv4 mapped, as in fib.ts); as
   * ip_mc_sf_allow() and inet6_mc_check().
   * @param all IP_MULTICAST_ALL, IPV6_MULTICAST_ALL: a socket that has not joined the group gets what others joined it for
   */
  accepts(
    socket: number,
    group0: number,
    group1: number,
    group2: number,
    group3: number,
    source0: number,
    source1: number,
    source2: number,
    source3: number,
    all: boolean,
  ): boolean {
    const members = this.sockets.get(socket);
    if (members === undefined) return all;
    for (let i = 0; i < members.length; i++) {
      const member = members[i];
      if (member.isOf(group0, group1, group2, group3)) return member.passes(source0, source1, source2, source3);
    }
    return all;
  }

  private enter(socket: number, group: string, mode: number, now: number): number {
    const key = this.groupOf(group);
    if (key === null) return -ERRNO.EINVAL;
    const members = this.sockets.get(socket) ?? [];
    if (members.some((member) => member.group === key)) return -ERRNO.EADDRINUSE;
    if (members.length >= GROUPS_MAX[this.family]) return -ERRNO.ENOBUFS;
    members.push(new Member(key, mode));
    this.sockets.set(socket, members);
    if (mode === MCAST_EXCLUDE) this.merge(key, now);
    return 0;
  }

  /** EINVAL: no group, not a member, or of the other mode; EADDRNOTAVAIL: it is in the filter; ENOBUFS: too many are. */
  private addSource(socket: number, group: string, source: string, mode: number, now: number): number {
    const key = this.groupOf(group);
    const member = key === null ? null : this.find(socket, key);
    if (key === null || member === null || !this.isOfFamily(source)) return -ERRNO.EINVAL;
    if (member.list !== null && member.mode !== mode) return -ERRNO.EINVAL;
    if (member.sources.size >= SOURCES_MAX[this.family]) return -ERRNO.ENOBUFS;
    const address = canonical(source);
    if (member.sources.has(address)) return -ERRNO.EADDRNOTAVAIL;
    member.set(mode, member.sources.union(new Set([address])));
    this.merge(key, now);
    return 0;
  }

  /** EINVAL: no group, not a member, or of the other mode; EADDRNOTAVAIL: it is not in the filter. */
  private removeSource(socket: number, group: string, source: string, mode: number, now: number): number {
    const key = this.groupOf(group);
    const member = key === null ? null : this.find(socket, key);
    if (key === null || member === null || !this.isOfFamily(source)) return -ERRNO.EINVAL;
    if (member.list !== null && member.mode !== mode) return -ERRNO.EINVAL;
    const address = canonical(source);
    if (!member.sources.has(address)) return -ERRNO.EADDRNOTAVAIL;
    if (mode === MCAST_INCLUDE && member.sources.size === 1) return this.leave(socket, group, now);
    member.set(mode, member.sources.difference(new Set([address])));
    this.merge(key, now);
    return 0;
  }

  private find(socket: number, group: string): Member | null {
    return this.sockets.get(socket)?.find((member) => member.group === group) ?? null;
  }

  /** Merges the filters of a group anew, and says so when that changes the interface's. */
  private merge(group: string, now: number): void {
    const filters: SourceFilter[] = [];
    for (const members of this.sockets.values()) filters.push(...members.filter((member) => member.group === group));
    const before = this.filter(group);
    const after = mergeFilters(filters);
    if (isNothing(after)) this.merged.delete(group);
    else this.merged.set(group, after);
    if (!isSameFilter(before, after)) this.onChange(group, after.mode, after.sources, now);
  }

  /** A group's canonical text, or null: no multicast address of the family. Throws TypeError for what is no address. */
  private groupOf(text: string): string | null {
    const address = ip(text);
    const isGroup = address.length === 4 ? address[0] >> 4 === 14 : address[0] === 0xff;
    return isGroup && this.isOfFamily(text) ? formatIp(address) : null;
  }

  private isOfFamily(text: string): boolean {
    return ip(text).length === (this.family === 4 ? 4 : 16);
  }
}

const canonical = (address: string): string => formatIp(ip(address));
