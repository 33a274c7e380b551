/**
 * rtnetlink messages to plain objects. Each decoder takes the payload of one message (what follows nlmsghdr).
 * Addresses are bytes in network order (4 or 16), MACs are 6 bytes.
 */
import { type Attributes, nest, parseAttributes, text, uint, viewOf } from "./netlink.ts";
import {
  AF_INET,
  IFA_ADDRESS,
  IFA_FLAGS,
  IFA_LOCAL,
  IFLA_ADDRESS,
  IFLA_IFNAME,
  IFLA_INFO_KIND,
  IFLA_LINK,
  IFLA_LINK_NETNSID,
  IFLA_LINKINFO,
  IFLA_MASTER,
  IFLA_MTU,
  IFLA_NUM_RX_QUEUES,
  IFLA_NUM_TX_QUEUES,
  IFLA_OPERSTATE,
  IFLA_XDP,
  IFLA_XDP_ATTACHED,
  IFLA_XDP_DRV_PROG_ID,
  IFLA_XDP_HW_PROG_ID,
  IFLA_XDP_SKB_PROG_ID,
  NDA_DST,
  NDA_LLADDR,
  RTA_DST,
  RTA_GATEWAY,
  RTA_METRICS,
  RTA_MULTIPATH,
  RTA_OIF,
  RTA_PREFSRC,
  RTA_PRIORITY,
  RTA_SRC,
  RTA_TABLE,
  RTA_VIA,
  RTAX_MTU,
} from "./rtnetlink-uapi.ts";

/** XDP programs of a link: the id of each, 0 for none. `attached` is XDP_ATTACHED_*. */
export interface LinkXdp {
  readonly attached: number;
  readonly driverProgramId: number;
  readonly genericProgramId: number;
  readonly hardwareProgramId: number;
}

export interface Link {
  readonly ifindex: number;
  readonly name: string;
  /** ARPHRD_*: 1 Ethernet, 772 loopback. */
  readonly type: number;
  /** IFF_* */
  readonly flags: number;
  readonly mtu: number;
  /** Link-layer address; empty when the link has none. */
  readonly mac: Uint8Array;
  /** IF_OPER_* */
  readonly operstate: number;
  /** Software device type ("veth", "vlan", "bridge"); "" for a hardware device and lo. */
  readonly kind: string;
  /** ifindex of the bridge or bond this link is enslaved to, or 0. */
  readonly master: number;
  /** IFLA_LINK: ifindex of the device below (vlan) or of the peer (veth, in the peer's namespace), or 0. */
  readonly link: number;
  /** Namespace of `link`, by the number that Rtnl.namespaceId gives; -1 for the one that this link is in. */
  readonly linkNamespace: number;
  readonly rxQueues: number;
  readonly txQueues: number;
  readonly xdp: LinkXdp;
}

export interface Address {
  /** AF_INET or AF_INET6. */
  readonly family: number;
  readonly ifindex: number;
  /** The address of this host. */
  readonly local: Uint8Array;
  /** The peer's address on a point-to-point link; otherwise equal to `local`. */
  readonly peer: Uint8Array;
  readonly prefixLength: number;
  /** RT_SCOPE_* */
  readonly scope: number;
  /** IFA_F_* */
  readonly flags: number;
}

export interface NextHop {
  readonly ifindex: number;
  /** Next router, of either family, or null when the destination is on the link. */
  readonly gateway: Uint8Array | null;
  /** RTNH_F_* */
  readonly flags: number;
  /** Relative share in a multipath route, from 1. */
  readonly weight: number;
}

export interface Route {
  readonly family: number;
  /** Prefix, all 4 or 16 bytes of it. */
  readonly destination: Uint8Array;
  readonly prefixLength: number;
  /** Length of a source-specific (IPv6) route's source prefix; 0 for ordinary routes. */
  readonly sourceLength: number;
  readonly source: Uint8Array | null;
  readonly tos: number;
  /** RT_TABLE_* or any other id. */
  readonly table: number;
  /** RTN_* */
  readonly type: number;
  /** RT_SCOPE_* */
  readonly scope: number;
  /** RTPROT_* */
  readonly protocol: number;
  /** Metric: the lowest wins among equal prefixes. */
  readonly priority: number;
  /** Source address to use, or null when the route leaves it to address selection. */
  readonly prefsrc: Uint8Array | null;
  /** MTU of the route in bytes, or 0 for the link's. */
  readonly mtu: number;
  /** RTM_F_* and RTNH_F_* of the message. */
  readonly flags: number;
  /** One or more ways out; empty for blackhole, unreachable, prohibit and throw routes of IPv4. */
  readonly nextHops: readonly NextHop[];
}

export interface Neighbour {
  readonly family: number;
  readonly ifindex: number;
  readonly address: Uint8Array;
  /** Link-layer address, or null while it is not known. */
  readonly mac: Uint8Array | null;
  /** NUD_* */
  readonly state: number;
  /** NTF_* */
  readonly flags: number;
}

/** struct ifinfomsg { u8 family, pad; u16 type; i32 index; u32 flags, change }: linux/rtnetlink.h */
export function decodeLink(payload: Uint8Array): Link {
  const view = viewOf(payload);
  const attributes = parseAttributes(payload, 16);
  return {
    ifindex: view.getInt32(4, true),
    name: text(attributes, IFLA_IFNAME),
    type: view.getUint16(2, true),
    flags: view.getUint32(8, true),
    mtu: uint(attributes, IFLA_MTU),
    mac: attributes.get(IFLA_ADDRESS) ?? new Uint8Array(0),
    operstate: uint(attributes, IFLA_OPERSTATE),
    kind: text(nest(attributes, IFLA_LINKINFO), IFLA_INFO_KIND),
    master: uint(attributes, IFLA_MASTER),
    link: uint(attributes, IFLA_LINK),
    linkNamespace: uint(attributes, IFLA_LINK_NETNSID, -1),
    rxQueues: uint(attributes, IFLA_NUM_RX_QUEUES, 1),
    txQueues: uint(attributes, IFLA_NUM_TX_QUEUES, 1),
    xdp: decodeXdp(nest(attributes, IFLA_XDP)),
  };
}

function decodeXdp(xdp: Attributes): LinkXdp {
  return {
    attached: uint(xdp, IFLA_XDP_ATTACHED),
    driverProgramId: uint(xdp, IFLA_XDP_DRV_PROG_ID),
    genericProgramId: uint(xdp, IFLA_XDP_SKB_PROG_ID),
    hardwareProgramId: uint(xdp, IFLA_XDP_HW_PROG_ID),
  };
}

/** struct ifaddrmsg { u8 family, prefixlen, flags, scope; u32 index }: linux/if_addr.h */
export function decodeAddress(payload: Uint8Array): Address {
  const attributes = parseAttributes(payload, 8);
  const peer = attributes.get(IFA_ADDRESS) ?? new Uint8Array(0);
  return {
    family: payload[0] as number,
    ifindex: viewOf(payload).getUint32(4, true),
    // IPv6 sends IFA_LOCAL only for an address with a peer.
    local: attributes.get(IFA_LOCAL) ?? peer,
    peer,
    prefixLength: payload[1] as number,
    scope: payload[3] as number,
    flags: uint(attributes, IFA_FLAGS, payload[2]),
  };
}

/**
 * struct rtmsg { u8 family, dst_len, src_len, tos, table, protocol, scope, type; u32 flags }: linux/rtnetlink.h
 */
export function decodeRoute(payload: Uint8Array): Route {
  const view = viewOf(payload);
  const attributes = parseAttributes(payload, 12);
  const family = payload[0] as number;
  return {
    family,
    destination: attributes.get(RTA_DST) ?? new Uint8Array(family === AF_INET ? 4 : 16),
    prefixLength: payload[1] as number,
    sourceLength: payload[2] as number,
    source: attributes.get(RTA_SRC) ?? null,
    tos: payload[3] as number,
    table: uint(attributes, RTA_TABLE, payload[4]),
    type: payload[7] as number,
    scope: payload[6] as number,
    protocol: payload[5] as number,
    priority: uint(attributes, RTA_PRIORITY),
    prefsrc: attributes.get(RTA_PREFSRC) ?? null,
    mtu: uint(nest(attributes, RTA_METRICS), RTAX_MTU),
    flags: view.getUint32(8, true),
    nextHops: decodeNextHops(attributes, view.getUint32(8, true)),
  };
}

function decodeNextHops(attributes: Attributes, flags: number): NextHop[] {
  const multipath = attributes.get(RTA_MULTIPATH);
  if (multipath !== undefined) return decodeMultipath(multipath);
  if (!attributes.has(RTA_OIF)) return [];
  return [{ ifindex: uint(attributes, RTA_OIF), gateway: decodeGateway(attributes), flags, weight: 1 }];
}

/** struct rtnexthop { u16 len; u8 flags, hops; i32 ifindex } and its attributes, one after the other. */
function decodeMultipath(bytes: Uint8Array): NextHop[] {
  const view = viewOf(bytes);
  const out: NextHop[] = [];
  let at = 0;
  while (at + 8 <= bytes.length) {
    const length = view.getUint16(at, true);
    if (length < 8 || at + length > bytes.length) break;
    const attributes = parseAttributes(bytes.subarray(at, at + length), 8);
    out.push({
      ifindex: view.getInt32(at + 4, true),
      gateway: decodeGateway(attributes),
      flags: bytes[at + 2] as number,
      weight: (bytes[at + 3] as number) + 1,
    });
    at += (length + 3) & ~3;
  }
  return out;
}

/** RTA_GATEWAY has the route's family; RTA_VIA { u16 family; address } another one (RFC 5549: IPv4 via IPv6). */
function decodeGateway(attributes: Attributes): Uint8Array | null {
  return attributes.get(RTA_GATEWAY) ?? attributes.get(RTA_VIA)?.subarray(2) ?? null;
}

/** struct ndmsg { u8 family, pad; u16 pad; i32 ifindex; u16 state; u8 flags, type }: linux/neighbour.h */
export function decodeNeighbour(payload: Uint8Array): Neighbour {
  const view = viewOf(payload);
  const attributes = parseAttributes(payload, 12);
  return {
    family: payload[0] as number,
    ifindex: view.getInt32(4, true),
    address: attributes.get(NDA_DST) ?? new Uint8Array(0),
    mac: attributes.get(NDA_LLADDR) ?? null,
    state: view.getUint16(8, true),
    flags: payload[10] as number,
  };
}
