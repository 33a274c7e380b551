/**
 * Options that join and leave multicast groups, where no kernel has a socket for ours: the structures of linux/in.h and
 * linux/in6.h, and what the kernel checks of them first (net/ipv4/ip_sockglue.c, net/ipv6/ipv6_sockglue.c).
 */
import { ERRNO } from "af-xdp-bindings";
import { GROUP_FILTER, type GROUP_JOIN, GROUP_LEAVE } from "../group-request.ts";
import { AF_INET, AF_INET6 } from "../table.ts";
import type { UdpPart, UdpTarget } from "./udp-target.ts";

const IP_MREQ_BYTES = 8;
const IP_MREQN_BYTES = 12;
const IPV6_MREQ_BYTES = 20;
/** struct group_req: an index padded to eight bytes, a sockaddr_storage; group_source_req has another one. */
const GROUP_AT = 8;
const STORAGE_BYTES = 128;
const GROUP_REQ_BYTES = GROUP_AT + STORAGE_BYTES;
const GROUP_SOURCE_REQ_BYTES = GROUP_REQ_BYTES + STORAGE_BYTES;
/** struct ip_msfilter: group, interface, mode, count; sources follow. */
const IP_MSFILTER_BYTES = 16;
/** struct group_filter: index, group, mode, count; sources follow, each a sockaddr_storage. */
const GROUP_FILTER_BYTES = GROUP_REQ_BYTES + 8;

const isMulticast = (group: Uint8Array): boolean => (group.length === 4 ? group[0] >> 4 === 14 : group[0] === 0xff);

/** Whether the interface is there: 0 and no address stand for the engine's only one. */
function hasInterface({ socket }: UdpTarget, index: number, address: number): boolean {
  if (index !== 0) return socket.endpoint.hasInterface(index);
  return address === 0 || socket.endpoint.interfaceWith(0, 0, 0xffff, address) >= 0;
}

function apply(
  target: UdpTarget,
  op: number,
  group: Uint8Array,
  sources: Uint8Array[],
  hasLink: boolean,
  mode?: number,
): number {
  if (!isMulticast(group) && (group.length === 16 || op !== GROUP_LEAVE)) return -ERRNO.EINVAL;
  if (!hasLink) return op === GROUP_LEAVE ? -ERRNO.EADDRNOTAVAIL : -ERRNO.ENODEV;
  const family = group.length === 4 ? 4 : 6;
  return target.groups.call(family, mode === undefined ? { op, group, sources } : { op, group, sources, mode });
}

/** IP_ADD_MEMBERSHIP, IP_DROP_MEMBERSHIP: struct ip_mreq or ip_mreqn. */
export const membership4 = (op: typeof GROUP_JOIN | typeof GROUP_LEAVE): UdpPart => ({
  set(target, bytes) {
    if (bytes.length < IP_MREQ_BYTES) return -ERRNO.EINVAL;
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const index = bytes.length >= IP_MREQN_BYTES ? view.getInt32(8, true) : 0;
    const address = view.getInt32(4);
    const group = bytes.slice(0, 4);
    // Without an interface the kernel looks for the way there, which groups always have here.
    const hasWay = isMulticast(group) || target.socket.endpoint.mtuTo(0, 0, 0xffff, view.getInt32(0)) > 0;
    if (index === 0 && address === 0 && op === GROUP_LEAVE && !hasWay) return -ERRNO.ENODEV;
    return apply(target, op, group, [], hasInterface(target, index, address));
  },
});

/** IP_ADD_SOURCE_MEMBERSHIP and its kin: struct ip_mreq_source. */
export const sourceMembership4 = (op: number): UdpPart => ({
  set(target, bytes) {
    if (bytes.length !== IP_MREQN_BYTES) return -ERRNO.EINVAL;
    const address = new DataView(bytes.buffer, bytes.byteOffset).getInt32(4);
    return apply(target, op, bytes.slice(0, 4), [bytes.slice(8, 12)], hasInterface(target, 0, address));
  },
});

/** IPV6_ADD_MEMBERSHIP, IPV6_DROP_MEMBERSHIP: struct ipv6_mreq. */
export const membership6 = (op: typeof GROUP_JOIN | typeof GROUP_LEAVE): UdpPart => ({
  set(target, bytes) {
    if (bytes.length < IPV6_MREQ_BYTES) return -ERRNO.EINVAL;
    const index = new DataView(bytes.buffer, bytes.byteOffset).getInt32(16, true);
    return apply(target, op, bytes.slice(0, 16), [], hasInterface(target, index, 0));
  },
});

/** MCAST_JOIN_GROUP, MCAST_LEAVE_GROUP: struct group_req. */
export const membership = (family: 4 | 6, op: typeof GROUP_JOIN | typeof GROUP_LEAVE): UdpPart => ({
  set(target, bytes) {
    if (bytes.length < GROUP_REQ_BYTES) return -ERRNO.EINVAL;
    const group = sockaddrAt(bytes, GROUP_AT, family);
    if (group === null) return family === 4 ? -ERRNO.EINVAL : -ERRNO.EADDRNOTAVAIL;
    return apply(target, op, group, [], hasInterface(target, indexOf(bytes), 0));
  },
});

/** MCAST_JOIN_SOURCE_GROUP and its kin: struct group_source_req. */
export const sourceMembership = (family: 4 | 6, op: number): UdpPart => ({
  set(target, bytes) {
    if (family === 4 ? bytes.length !== GROUP_SOURCE_REQ_BYTES : bytes.length < GROUP_SOURCE_REQ_BYTES) {
      return -ERRNO.EINVAL;
    }
    const group = sockaddrAt(bytes, GROUP_AT, family);
    const source = sockaddrAt(bytes, GROUP_REQ_BYTES, family);
    if (group === null || source === null) return -ERRNO.EADDRNOTAVAIL;
    return apply(target, op, group, [source], hasInterface(target, indexOf(bytes), 0));
  },
});

/** IP_MSFILTER: struct ip_msfilter. */
export const filter4: UdpPart = {
  set(target, bytes) {
    if (bytes.length < IP_MSFILTER_BYTES) return -ERRNO.EINVAL;
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const count = view.getUint32(12, true);
    if (bytes.length < IP_MSFILTER_BYTES + 4 * count) return -ERRNO.EINVAL;
    const sources = Array.from({ length: count }, (_, i) => bytes.slice(16 + 4 * i, 20 + 4 * i));
    const hasLink = hasInterface(target, 0, view.getInt32(4));
    return apply(target, GROUP_FILTER, bytes.slice(0, 4), sources, hasLink, view.getUint32(8, true));
  },
  // getsockopt has no way to say of which group: none is asked for, and that is not one.
  get: () => -ERRNO.EINVAL,
};

/** MCAST_MSFILTER: struct group_filter. */
export const filter = (family: 4 | 6): UdpPart => ({
  set(target, bytes) {
    if (bytes.length < GROUP_FILTER_BYTES) return -ERRNO.EINVAL;
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const count = view.getUint32(GROUP_REQ_BYTES + 4, true);
    if (bytes.length < GROUP_FILTER_BYTES + STORAGE_BYTES * count) return -ERRNO.EINVAL;
    const sources = Array.from({ length: count }, (_, i) =>
      sockaddrAt(bytes, GROUP_FILTER_BYTES + STORAGE_BYTES * i, family),
    );
    const group = sockaddrAt(bytes, GROUP_AT, family);
    if (group === null || sources.includes(null)) return -ERRNO.EADDRNOTAVAIL;
    const mode = view.getUint32(GROUP_REQ_BYTES, true);
    return apply(target, GROUP_FILTER, group, sources as Uint8Array[], hasInterface(target, indexOf(bytes), 0), mode);
  },
  get: () => -ERRNO.EINVAL,
});

const indexOf = (bytes: Uint8Array): number => new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);

/** The address of a sockaddr; null: it is of another family. */
function sockaddrAt(bytes: Uint8Array, at: number, family: 4 | 6): Uint8Array | null {
  const told = bytes[at] | (bytes[at + 1] << 8);
  if (told !== (family === 4 ? AF_INET : AF_INET6)) return null;
  return family === 4 ? bytes.slice(at + 4, at + 8) : bytes.slice(at + 8, at + 24);
}
