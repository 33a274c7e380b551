/**
 * Links, addresses, routes and neighbours of a network namespace over rtnetlink(7).
 *
 * Cold path: every call is one blocking exchange with the kernel and throws SysError on failure.
 */
import { ERRNO, SysError } from "af-xdp-bindings";
import {
  attribute,
  attributeNest,
  attributeString,
  attributeU16,
  attributeU32,
  concat,
  NETLINK_ROUTE,
  type NetlinkMessage,
  NetlinkSocket,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  parseAttributes,
  uint,
} from "./netlink.ts";
import {
  type Address,
  decodeAddress,
  decodeLink,
  decodeNeighbour,
  decodeRoute,
  type Link,
  type Neighbour,
  type Route,
} from "./rtnetlink-decode.ts";
import {
  AF_INET,
  AF_INET6,
  AF_UNSPEC,
  FIB_RULE_INVERT,
  FRA_FWMARK,
  FRA_FWMASK,
  FRA_PRIORITY,
  FRA_PROTOCOL,
  FRA_TABLE,
  IFA_ADDRESS,
  IFA_F_NODAD,
  IFA_FLAGS,
  IFA_LOCAL,
  IFF_UP,
  IFLA_ADDRESS,
  IFLA_EXT_MASK,
  IFLA_IFNAME,
  IFLA_INFO_DATA,
  IFLA_INFO_KIND,
  IFLA_LINK,
  IFLA_LINKINFO,
  IFLA_MASTER,
  IFLA_MTU,
  IFLA_NET_NS_FD,
  IFLA_NUM_RX_QUEUES,
  IFLA_NUM_TX_QUEUES,
  IFLA_VLAN_ID,
  NDA_DST,
  NDA_IFINDEX,
  NDA_LLADDR,
  NETNSA_FD,
  NETNSA_NSID,
  NTF_USE,
  NUD_NONE,
  NUD_PERMANENT,
  RT_SCOPE_HOST,
  RT_SCOPE_LINK,
  RT_SCOPE_NOWHERE,
  RT_SCOPE_UNIVERSE,
  RT_TABLE_DEFAULT,
  RT_TABLE_LOCAL,
  RT_TABLE_MAIN,
  RT_TABLE_UNSPEC,
  RTA_DST,
  RTA_GATEWAY,
  RTA_METRICS,
  RTA_OIF,
  RTA_PREFSRC,
  RTA_PRIORITY,
  RTA_SRC,
  RTA_TABLE,
  RTA_VIA,
  RTAX_MTU,
  RTEXT_FILTER_SKIP_STATS,
  RTM_DELADDR,
  RTM_DELLINK,
  RTM_DELNEIGH,
  RTM_DELROUTE,
  RTM_GETADDR,
  RTM_GETLINK,
  RTM_GETNEIGH,
  RTM_GETNSID,
  RTM_GETROUTE,
  RTM_GETRULE,
  RTM_NEWADDR,
  RTM_NEWLINK,
  RTM_NEWNEIGH,
  RTM_NEWROUTE,
  RTN_LOCAL,
  RTN_UNICAST,
  RTN_UNSPEC,
  RTPROT_KERNEL,
  RTPROT_STATIC,
  RTPROT_UNSPEC,
  VETH_INFO_PEER,
} from "./rtnetlink-uapi.ts";

const NO_BYTES = new Uint8Array(0);
/** IFNAMSIZ - 1: linux/if.h */
const IFNAME_LENGTH_MAX = 15;

/** What to create or change on a link; what is left out stays as it is (or the kernel's default). */
export interface LinkSettings {
  /** Administrative state. */
  up?: boolean;
  name?: string;
  /** Bytes. */
  mtu?: number;
  /** 6 bytes. */
  mac?: Uint8Array;
  /** ifindex of the bridge or bond to join, 0 to leave it. */
  master?: number;
  /** Descriptor of the namespace to move the link to. */
  netnsFd?: number;
}

/** A new link. Queue counts are fixed for the link's life. */
export interface NewLink extends LinkSettings {
  name: string;
  rxQueues?: number;
  txQueues?: number;
}

export interface RouteSpec {
  destination: Uint8Array;
  prefixLength: number;
  gateway?: Uint8Array;
  /** Outgoing ifindex. */
  oif?: number;
  prefsrc?: Uint8Array;
  priority?: number;
  /** Bytes. */
  mtu?: number;
  /** Default RT_TABLE_MAIN. */
  table?: number;
  /** RTN_*, default RTN_UNICAST. */
  type?: number;
}

/** What RTM_GETROUTE may know beside the destination. */
export interface RouteQuery {
  source?: Uint8Array;
  oif?: number;
}

const familyOf = (address: Uint8Array): number => {
  if (address.length === 4) return AF_INET;
  if (address.length === 16) return AF_INET6;
  throw new RangeError(`an IP address has 4 or 16 bytes, not ${address.length}`);
};

/** struct ifinfomsg { u8 family, pad; u16 type; i32 index; u32 flags, change } */
function ifinfomsg(ifindex: number, flags: number, change: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(0, ifindex, flags, change).buffer);
}

function linkHeader(ifindex: number, settings: LinkSettings): Uint8Array {
  return settings.up === undefined ? ifinfomsg(ifindex, 0, 0) : ifinfomsg(ifindex, settings.up ? IFF_UP : 0, IFF_UP);
}

function linkAttributes(settings: LinkSettings & { rxQueues?: number; txQueues?: number }): Uint8Array {
  const { name, mtu, mac, master, netnsFd, rxQueues, txQueues } = settings;
  if (name !== undefined && (name.length === 0 || name.length > IFNAME_LENGTH_MAX))
    throw new RangeError(`interface name ${JSON.stringify(name)}: 1 to ${IFNAME_LENGTH_MAX} bytes`);
  const parts: Uint8Array[] = [];
  if (name !== undefined) parts.push(attributeString(IFLA_IFNAME, name));
  if (mtu !== undefined) parts.push(attributeU32(IFLA_MTU, mtu));
  if (mac !== undefined) parts.push(attribute(IFLA_ADDRESS, mac));
  if (master !== undefined) parts.push(attributeU32(IFLA_MASTER, master));
  if (netnsFd !== undefined) parts.push(attributeU32(IFLA_NET_NS_FD, netnsFd));
  if (rxQueues !== undefined) parts.push(attributeU32(IFLA_NUM_RX_QUEUES, rxQueues));
  if (txQueues !== undefined) parts.push(attributeU32(IFLA_NUM_TX_QUEUES, txQueues));
  return concat(...parts);
}

/** rtnetlink of the namespace the thread is in when this is constructed; usable from any namespace afterwards. */
export class Rtnl {
  private readonly socket: NetlinkSocket;

  constructor() {
    this.socket = new NetlinkSocket(NETLINK_ROUTE);
  }

  close(): void {
    this.socket.close();
  }

  // ---- links

  links(): Link[] {
    const body = concat(ifinfomsg(0, 0, 0), attributeU32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS));
    return this.socket.dump("RTM_GETLINK", RTM_GETLINK, body).map((message) => decodeLink(message.payload));
  }

  /** The link with this name or ifindex, or null. */
  findLink(which: string | number): Link | null {
    const body =
      typeof which === "number" ? ifinfomsg(which, 0, 0) : concat(ifinfomsg(0, 0, 0), linkAttributes({ name: which }));
    try {
      const [message] = this.socket.request(`RTM_GETLINK ${which}`, RTM_GETLINK, 0, body);
      return decodeLink((message as NetlinkMessage).payload);
    } catch (error) {
      if (error instanceof SysError && error.errno === ERRNO.ENODEV) return null;
      throw error;
    }
  }

  /** As findLink; throws ENODEV when there is none. */
  link(which: string | number): Link {
    const link = this.findLink(which);
    if (link === null) throw new SysError(ERRNO.ENODEV, `RTM_GETLINK ${which}`, "no such interface in this namespace");
    return link;
  }

  /**
   * A veth pair; give `peer.netnsFd` to put its other end into another namespace at once. Both ends are down: an end
   * cannot come up before it has its peer.
   */
  createVeth(link: Omit<NewLink, "up">, peer: Omit<NewLink, "up">): void {
    const peerInfo = attributeNest(VETH_INFO_PEER, linkHeader(0, peer), linkAttributes(peer));
    this.createLink("veth", link, peerInfo);
  }

  createBridge(link: NewLink): void {
    this.createLink("bridge", link);
  }

  createDummy(link: NewLink): void {
    this.createLink("dummy", link);
  }

  /** An 802.1Q device with VLAN `id` (1-4094) over the link with ifindex `lower`. */
  createVlan(link: NewLink, lower: number, id: number): void {
    this.createLink("vlan", link, attributeU16(IFLA_VLAN_ID, id), attributeU32(IFLA_LINK, lower));
  }

  /** Changes a link; all settings are applied by one request. */
  setLink(ifindex: number, settings: LinkSettings): void {
    const body = concat(linkHeader(ifindex, settings), linkAttributes(settings));
    this.socket.request(`RTM_NEWLINK ${ifindex}`, RTM_NEWLINK, 0, body);
  }

  deleteLink(ifindex: number): void {
    this.socket.request(`RTM_DELLINK ${ifindex}`, RTM_DELLINK, 0, ifinfomsg(ifindex, 0, 0));
  }

  private createLink(kind: string, link: NewLink, data: Uint8Array = NO_BYTES, ...extra: Uint8Array[]): void {
    const info = [attributeString(IFLA_INFO_KIND, kind)];
    if (data.length > 0) info.push(attributeNest(IFLA_INFO_DATA, data));
    const body = concat(linkHeader(0, link), linkAttributes(link), ...extra, attributeNest(IFLA_LINKINFO, ...info));
    this.socket.request(`RTM_NEWLINK ${kind} ${link.name}`, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body);
  }

  /**
   * Number by which this namespace knows another, given by a descriptor of it (ip-netns(8), "list-id"); -1 where no
   * interface of the one has its peer in the other, and so none was given.
   */
  namespaceId(fd: number): number {
    // struct rtgenmsg { u8 family }
    const body = concat(Uint8Array.of(AF_UNSPEC, 0, 0, 0), attributeU32(NETNSA_FD, fd));
    const [answer] = this.socket.request("RTM_GETNSID", RTM_GETNSID, 0, body);
    return uint(parseAttributes((answer as NetlinkMessage).payload, 4), NETNSA_NSID) | 0;
  }

  // ---- addresses

  /** Addresses of one link, or of all. */
  addresses(ifindex = 0): Address[] {
    return this.socket
      .dump("RTM_GETADDR", RTM_GETADDR, ifaddrmsg(AF_UNSPEC, 0, 0, ifindex))
      .map((message) => decodeAddress(message.payload));
  }

  /**
   * Adds an address. `flags` are IFA_F_*; by default an IPv6 address can be bound to at once (no DAD). Packets to it
   * are taken a moment later: see waitUntilLocal in hosts.ts.
   */
  addAddress(ifindex: number, address: Uint8Array, prefixLength: number, flags = IFA_F_NODAD): void {
    const family = familyOf(address);
    // A loopback address has host scope, as `ip address add` does it.
    const scope = family === AF_INET && address[0] === 127 ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE;
    const body = concat(
      ifaddrmsg(family, prefixLength, scope, ifindex),
      attribute(IFA_LOCAL, address),
      attribute(IFA_ADDRESS, address),
      attributeU32(IFA_FLAGS, flags),
    );
    this.socket.request("RTM_NEWADDR", RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body);
  }

  deleteAddress(ifindex: number, address: Uint8Array, prefixLength: number): void {
    const body = concat(
      ifaddrmsg(familyOf(address), prefixLength, 0, ifindex),
      attribute(IFA_LOCAL, address),
      attribute(IFA_ADDRESS, address),
    );
    this.socket.request("RTM_DELADDR", RTM_DELADDR, 0, body);
  }

  // ---- routes

  /** Routes of one table, or of all with RT_TABLE_UNSPEC. A table that does not exist is empty. */
  routes(table = RT_TABLE_UNSPEC): Route[] {
    return [AF_INET, AF_INET6].flatMap((family) => this.routesOf(family, table));
  }

  private routesOf(family: number, table: number): Route[] {
    const header = rtmsg(family, 0, 0, table, 0, 0, 0);
    const body = table === RT_TABLE_UNSPEC ? header : concat(header, attributeU32(RTA_TABLE, table));
    try {
      return this.socket.dump("RTM_GETROUTE", RTM_GETROUTE, body).map((message) => decodeRoute(message.payload));
    } catch (error) {
      // ENOENT: the table was never used. EOPNOTSUPP: the kernel has no such family (ipv6.disable=1).
      if (error instanceof SysError && (error.errno === ERRNO.ENOENT || error.errno === ERRNO.EOPNOTSUPP)) return [];
      throw error;
    }
  }

  /** Adds a route; EEXIST when one with the same prefix, table and priority is there. */
  addRoute(route: RouteSpec): void {
    const type = route.type ?? RTN_UNICAST;
    const header = { protocol: RTPROT_STATIC, scope: routeScope(type, route.gateway), type };
    this.socket.request("RTM_NEWROUTE", RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, routeMessage(route, header));
  }

  /** Deletes the first route that matches all that is given; ESRCH when there is none. */
  deleteRoute(route: RouteSpec): void {
    const header = { protocol: RTPROT_UNSPEC, scope: RT_SCOPE_NOWHERE, type: route.type ?? RTN_UNSPEC };
    this.socket.request("RTM_DELROUTE", RTM_DELROUTE, 0, routeMessage(route, header));
  }

  /**
   * The route the kernel would use now for a packet to `destination` (with policy rules, multipath choice and cached
   * path MTU), or null when it has none (ENETUNREACH, EHOSTUNREACH, EACCES of a prohibit route, EINVAL of a blackhole).
   */
  getRoute(destination: Uint8Array, query: RouteQuery = {}): Route | null {
    const bits = destination.length * 8;
    const parts = [attribute(RTA_DST, destination)];
    if (query.source !== undefined) parts.push(attribute(RTA_SRC, query.source));
    if (query.oif !== undefined) parts.push(attributeU32(RTA_OIF, query.oif));
    const header = rtmsg(familyOf(destination), bits, query.source === undefined ? 0 : bits, 0, 0, 0, 0);
    try {
      const [message] = this.socket.request("RTM_GETROUTE", RTM_GETROUTE, 0, concat(header, ...parts));
      return decodeRoute((message as NetlinkMessage).payload);
    } catch (error) {
      if (error instanceof SysError && NO_ROUTE.has(error.errno)) return null;
      throw error;
    }
  }

  /**
   * True when the policy rules are other than those every namespace starts with (ip-rule(8)), so that the local and
   * main tables alone do not decide. Rules for a mark do not count: what is marked (SO_MARK) the kernel sends.
   */
  hasPolicyRules(): boolean {
    // struct fib_rule_hdr has rtmsg's layout: { u8 family, dst_len, src_len, tos, table, res1, res2, action; u32 flags }
    return [AF_INET, AF_INET6].some((family) => {
      const rules = this.socket.dump("RTM_GETRULE", RTM_GETRULE, rtmsg(family, 0, 0, 0, 0, 0, 0));
      const expected = DEFAULT_RULES[family] as string[];
      const unmarked = rules.filter((message) => holdsUnmarked(message.payload));
      return unmarked.map((message) => ruleKey(message.payload)).join() !== expected.join();
    });
  }

  // ---- neighbours

  /** IPv4 and IPv6 neighbours of one link, or of all. */
  neighbours(ifindex = 0): Neighbour[] {
    return [AF_INET, AF_INET6].flatMap((family) => {
      const header = ndmsg(family, 0, NUD_NONE, 0);
      const body = ifindex === 0 ? header : concat(header, attributeU32(NDA_IFINDEX, ifindex));
      return this.socket.dump("RTM_GETNEIGH", RTM_GETNEIGH, body).map((message) => decodeNeighbour(message.payload));
    });
  }

  /** Adds or replaces an entry that the kernel neither probes nor ages. */
  setNeighbour(ifindex: number, address: Uint8Array, mac: Uint8Array): void {
    const body = concat(
      ndmsg(familyOf(address), ifindex, NUD_PERMANENT, 0),
      attribute(NDA_DST, address),
      attribute(NDA_LLADDR, mac),
    );
    this.socket.request("RTM_NEWNEIGH", RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, body);
  }

  deleteNeighbour(ifindex: number, address: Uint8Array): void {
    const body = concat(ndmsg(familyOf(address), ifindex, NUD_NONE, 0), attribute(NDA_DST, address));
    this.socket.request("RTM_DELNEIGH", RTM_DELNEIGH, 0, body);
  }

  /**
   * Makes the kernel resolve `address` on the link, or confirm a stale entry, as if it had a packet for it. Returns
   * at once; the outcome is an RTNLGRP_NEIGH event (REACHABLE or FAILED).
   */
  useNeighbour(ifindex: number, address: Uint8Array): void {
    const body = concat(ndmsg(familyOf(address), ifindex, NUD_NONE, NTF_USE), attribute(NDA_DST, address));
    this.socket.request("RTM_NEWNEIGH NTF_USE", RTM_NEWNEIGH, NLM_F_CREATE, body);
  }
}

/** Errors of RTM_GETROUTE that mean "no way there", by the kind of route found: fib_props[] of net/ipv4/fib_semantics.c. */
const NO_ROUTE = new Set<number>([ERRNO.ENETUNREACH, ERRNO.EHOSTUNREACH, ERRNO.EACCES, ERRNO.EINVAL]);

/** "priority>table" of the rules the kernel makes for every namespace, in order: fib_default_rules_init, fib6_rules_net_init. */
const DEFAULT_RULES: Record<number, string[]> = {
  [AF_INET]: [`0>${RT_TABLE_LOCAL}`, `32766>${RT_TABLE_MAIN}`, `32767>${RT_TABLE_DEFAULT}`],
  [AF_INET6]: [`0>${RT_TABLE_LOCAL}`, `32766>${RT_TABLE_MAIN}`],
};

/** Whether a rule may hold for a packet with the mark 0: fib_rule_match, net/core/fib_rules.c. */
function holdsUnmarked(payload: Uint8Array): boolean {
  const attributes = parseAttributes(payload, 12);
  const marked = (uint(attributes, FRA_FWMARK) & uint(attributes, FRA_FWMASK)) !== 0;
  const flags = new DataView(payload.buffer, payload.byteOffset).getUint32(8, true);
  return !marked || (flags & FIB_RULE_INVERT) !== 0;
}

/** Key of a rule: that of DEFAULT_RULES for one the kernel made, another for one that somebody added. */
function ruleKey(payload: Uint8Array): string {
  const attributes = parseAttributes(payload, 12);
  const key = `${uint(attributes, FRA_PRIORITY)}>${uint(attributes, FRA_TABLE, payload[4])}`;
  return uint(attributes, FRA_PROTOCOL) === RTPROT_KERNEL ? key : `added ${key}`;
}

/** struct ifaddrmsg { u8 family, prefixlen, flags, scope; u32 index } */
function ifaddrmsg(family: number, prefixLength: number, scope: number, ifindex: number): Uint8Array {
  return concat(Uint8Array.of(family, prefixLength, 0, scope), new Uint8Array(Uint32Array.of(ifindex).buffer));
}

/** struct rtmsg { u8 family, dst_len, src_len, tos, table, protocol, scope, type; u32 flags } */
function rtmsg(
  family: number,
  destinationLength: number,
  sourceLength: number,
  table: number,
  protocol: number,
  scope: number,
  type: number,
): Uint8Array {
  // Tables above 255 do not fit here; RTA_TABLE carries the whole id.
  const small = table > 255 ? 0 : table;
  return Uint8Array.of(family, destinationLength, sourceLength, 0, small, protocol, scope, type, 0, 0, 0, 0);
}

/** struct ndmsg { u8 family, pad; u16 pad; i32 ifindex; u16 state; u8 flags, type } */
function ndmsg(family: number, ifindex: number, state: number, flags: number): Uint8Array {
  return concat(
    Uint8Array.of(family, 0, 0, 0),
    new Uint8Array(Uint32Array.of(ifindex).buffer),
    Uint8Array.of(state & 0xff, state >>> 8, flags, 0),
  );
}

function routeMessage(route: RouteSpec, header: { protocol: number; scope: number; type: number }): Uint8Array {
  const { destination, prefixLength, gateway, oif, prefsrc, priority, mtu } = route;
  const { protocol, scope, type } = header;
  const table = route.table ?? RT_TABLE_MAIN;
  const family = familyOf(destination);
  const parts = [attribute(RTA_DST, destination), attributeU32(RTA_TABLE, table)];
  if (gateway !== undefined) {
    if (gateway.length === destination.length) parts.push(attribute(RTA_GATEWAY, gateway));
    else parts.push(attribute(RTA_VIA, concat(Uint8Array.of(familyOf(gateway), 0), gateway)));
  }
  if (oif !== undefined) parts.push(attributeU32(RTA_OIF, oif));
  if (prefsrc !== undefined) parts.push(attribute(RTA_PREFSRC, prefsrc));
  if (priority !== undefined) parts.push(attributeU32(RTA_PRIORITY, priority));
  if (mtu !== undefined) parts.push(attributeNest(RTA_METRICS, attributeU32(RTAX_MTU, mtu)));
  return concat(rtmsg(family, prefixLength, 0, table, protocol, scope, type), ...parts);
}

/** IPv4 wants the scope of a new route to fit its kind, as `ip route add` chooses it; IPv6 ignores it. */
function routeScope(type: number, gateway: Uint8Array | undefined): number {
  if (type === RTN_LOCAL) return RT_SCOPE_HOST;
  return type === RTN_UNICAST && gateway === undefined ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
}
