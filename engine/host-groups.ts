/**
 * Multicast on an engine with addresses of its own: what its sockets have joined (group-request.ts) is told to the network by
 * IGMP and MLD, and datagrams to groups and broadcast addresses go to every socket that wants them. The host itself is a
 * member of the solicited-node groups of its addresses.
 */
import type { Random } from "../queues/random.ts";
import {
  addressIn,
  applyGroupCall,
  GROUP_FILTER,
  GROUP_FILTER_SOURCE,
  GROUP_JOIN,
  GROUP_LEAVE,
} from "../sockets/group-request.ts";
import { type OwnAddress, PREFERRED } from "../sockets/host/addresses.ts";
import { Igmp } from "../sockets/host/igmp.ts";
import { Membership } from "../sockets/host/membership.ts";
import { Mld } from "../sockets/host/mld.ts";
import { passes } from "../sockets/host/source-filter.ts";
import { isLinkLocal } from "../sockets/host/words.ts";
import {
  M_FILTER,
  M_GENERATION,
  M_GROUP,
  M_GROUP_FAMILY,
  M_GROUP_OP,
  M_GROUP_SOURCE,
  M_SOCKET,
} from "../sockets/message.ts";
import { GENERATION, MULTICAST, type SocketTable } from "../sockets/table.ts";
import { formatIp, ip } from "../sockets/wire/address.ts";
import { IPV6_MIN_MTU } from "../sockets/wire/ipv6.ts";
import type { FrameViews } from "../sockets/wire/views.ts";
import type { HostWiring } from "./wiring.ts";

/** The host itself among the sockets. */
const HOST = -1;
/** The least that IGMP and MLD write messages for. */
const IPV4_MTU = 576;
/** Groups of which every host is a member, without saying so. */
const ALL_HOSTS = ["224.0.0.1", "ff01::1", "ff02::1"];
/** IP_MULTICAST_ALL and IPV6_MULTICAST_ALL in the socket's MULTICAST. */
const ALL_4 = 1 << 9;
const ALL_6 = 1 << 25;

export class HostGroups {
  private readonly table: SocketTable;
  private readonly igmp: Igmp;
  private readonly mld: Mld;
  private readonly members: { readonly 4: Membership; readonly 6: Membership };
  /** Generation of each socket that is a member of something. */
  private readonly generations = new Map<number, number>();
  private tableVersion = 0;
  /** A GROUP_FILTER whose sources are still to come. */
  private filter: { socket: number; group: Uint8Array; mode: number; left: number; sources: Uint8Array[] } | null =
    null;
  private readonly solicited = new Set<string>();

  /** @param send takes whole frames */
  constructor(own: HostWiring, table: SocketTable, random: Random, send: (frame: Uint8Array) => void) {
    const { mac, mtu } = own;
    this.table = table;
    this.igmp = new Igmp({ mac, mtu: Math.max(mtu, IPV4_MTU), random, send });
    this.mld = new Mld({ mac, mtu: Math.max(mtu, IPV6_MIN_MTU), random, send });
    this.members = {
      4: new Membership(4, (group, mode, sources, now) => this.igmp.setFilter(group, mode, sources, now)),
      6: new Membership(6, (group, mode, sources, now) => this.mld.setFilter(group, mode, sources, now)),
    };
  }

  /** Sends what is due. Returns when it is to be called next. */
  tick(now: number): number {
    if (this.tableVersion !== this.table.version()) this.dropClosed(now);
    return Math.min(this.igmp.tick(now), this.mld.tick(now));
  }

  /** A packet of IGMP or MLD at `at`. */
  receive(views: FrameViews, at: number, now: number): void {
    if (views.bytes[at] >> 4 === 4) this.igmp.receive(views, at, now);
    else this.mld.receive(views, at, now);
  }

  /** The host's addresses have changed: joins what they need, and says everything again from a new source. */
  follow(addresses: readonly OwnAddress[], groups: readonly Int32Array[], now: number): void {
    const source4 = addresses.find(({ isIpv4, state }) => isIpv4 && state === PREFERRED)?.words[3] ?? 0;
    const hasNew4 = source4 !== this.igmp.address && source4 !== 0;
    this.igmp.address = source4;
    if (hasNew4) this.igmp.announce(now);
    const own6 = addresses.find(({ isIpv4, state, words }) => !isIpv4 && state === PREFERRED && isLinkLocal(words));
    const linkLocal = own6 === undefined ? null : addressIn(own6.words, 0);
    const hasNew6 = linkLocal !== null && linkLocal.join() !== this.mld.linkLocal?.join();
    this.mld.linkLocal = linkLocal;
    this.followSolicited(groups, now);
    if (hasNew6) this.mld.announce(now);
  }

  /** The link is there again: a switch may have forgotten who is a member of what. */
  announce(now: number): void {
    this.igmp.announce(now);
    this.mld.announce(now);
  }

  /** MSG_GROUP. */
  request(words: Int32Array, at: number, now: number): void {
    const socket = words[at + M_SOCKET];
    const generation = words[at + M_GENERATION];
    const family = words[at + M_GROUP_FAMILY] === 4 ? 4 : 6;
    if (this.generations.get(socket) !== generation) this.leaveAll(socket, now);
    if (this.table.get(socket, GENERATION) !== generation) return;
    this.generations.set(socket, generation);
    const op = words[at + M_GROUP_OP];
    const group = addressIn(words, at + M_GROUP);
    const sources = [addressIn(words, at + M_GROUP_SOURCE)];
    if (op === GROUP_FILTER) {
      const told = words[at + M_FILTER];
      this.filter = { socket, group, mode: told & 0xff, left: told >>> 8, sources: [] };
      this.applyFilter(family, now);
    } else if (op === GROUP_FILTER_SOURCE) {
      this.filter?.sources.push(...sources);
      this.applyFilter(family, now);
    } else {
      applyGroupCall(this.members[family], socket, { op, group, sources }, now);
    }
  }

  /** Whether the interface takes packets from `source` to `group`, four words each (ip_check_mc_rcu()). */
  accepts(group: Int32Array, source: Int32Array): boolean {
    const text = formatIp(addressIn(group, 0));
    if (ALL_HOSTS.includes(text)) return true;
    const members = this.members[text.includes(":") ? 6 : 4];
    return passes(members.filter(text), formatIp(addressIn(source, 0)));
  }

  /** Whether a socket wants a packet from `source` to `group`, four words each. */
  wants(socket: number, group: Int32Array, source: Int32Array): boolean {
    const isIpv4 = group[0] === 0 && group[1] === 0 && group[2] === 0xffff;
    const all = (this.table.get(socket, MULTICAST) & (isIpv4 ? ALL_4 : ALL_6)) !== 0;
    return this.members[isIpv4 ? 4 : 6].accepts(
      socket,
      group[0],
      group[1],
      group[2],
      group[3],
      source[0],
      source[1],
      source[2],
      source[3],
      all,
    );
  }

  private applyFilter(family: 4 | 6, now: number): void {
    const { filter } = this;
    if (filter === null || filter.sources.length < filter.left) return;
    this.filter = null;
    const { group, mode, socket, sources } = filter;
    applyGroupCall(this.members[family], socket, { op: GROUP_FILTER, group, sources, mode }, now);
  }

  private followSolicited(groups: readonly Int32Array[], now: number): void {
    const wanted = new Set(groups.map((words) => formatIp(addressIn(words, 0))));
    const call = (op: number, group: string): unknown =>
      applyGroupCall(this.members[6], HOST, { op, group: ip(group), sources: [] }, now);
    for (const group of this.solicited) if (!wanted.has(group)) call(GROUP_LEAVE, group);
    for (const group of wanted) if (!this.solicited.has(group)) call(GROUP_JOIN, group);
    this.solicited.clear();
    for (const group of wanted) this.solicited.add(group);
  }

  private dropClosed(now: number): void {
    this.tableVersion = this.table.version();
    for (const [socket, generation] of this.generations) {
      if (this.table.get(socket, GENERATION) !== generation) this.leaveAll(socket, now);
    }
  }

  private leaveAll(socket: number, now: number): void {
    this.generations.delete(socket);
    this.members[4].close(socket, now);
    this.members[6].close(socket, now);
  }
}
