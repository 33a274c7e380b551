/** Multicast membership as setsockopt(2) takes it: the structures of linux/in.h and linux/in6.h, encoded. */
import {
  IP_ADD_MEMBERSHIP,
  IP_ADD_SOURCE_MEMBERSHIP,
  IP_DROP_MEMBERSHIP,
  IP_DROP_SOURCE_MEMBERSHIP,
  IPPROTO_IP,
  IPPROTO_IPV6,
  MCAST_JOIN_GROUP,
  MCAST_JOIN_SOURCE_GROUP,
  MCAST_LEAVE_GROUP,
  MCAST_LEAVE_SOURCE_GROUP,
} from "./options.ts";

/** struct sockaddr_storage, which group_req and group_source_req hold after an interface index padded to 8 bytes. */
const STORAGE_BYTES = 128;
const GROUP_AT = 8;
const SOURCE_AT = GROUP_AT + STORAGE_BYTES;
const AF_INET = 2;
const AF_INET6 = 10;

export interface OptionCall {
  readonly level: number;
  readonly name: number;
  readonly value: Uint8Array;
}

/**
 * The option that joins or leaves a group. Addresses are of 4 or 16 bytes; `source` null for every source; `iface` is an
 * index, 0 for the kernel's choice, or the IPv4 address of an interface.
 */
export function membershipCall(
  join: boolean,
  group: Uint8Array,
  source: Uint8Array | null,
  iface: number | Uint8Array,
): OptionCall {
  if (typeof iface !== "number") {
    if (source !== null) {
      const name = join ? IP_ADD_SOURCE_MEMBERSHIP : IP_DROP_SOURCE_MEMBERSHIP;
      // struct ip_mreq_source: group, interface, source.
      return { level: IPPROTO_IP, name, value: Uint8Array.of(...group, ...iface, ...source) };
    }
    const name = join ? IP_ADD_MEMBERSHIP : IP_DROP_MEMBERSHIP;
    // struct ip_mreqn: group, address of the interface, no index.
    return { level: IPPROTO_IP, name, value: Uint8Array.of(...group, ...iface, 0, 0, 0, 0) };
  }
  const level = group.length === 4 ? IPPROTO_IP : IPPROTO_IPV6;
  const value = groupRequest(iface, group, source);
  if (source === null) return { level, name: join ? MCAST_JOIN_GROUP : MCAST_LEAVE_GROUP, value };
  return { level, name: join ? MCAST_JOIN_SOURCE_GROUP : MCAST_LEAVE_SOURCE_GROUP, value };
}

/** struct group_req, or group_source_req with a `source`. */
function groupRequest(ifindex: number, group: Uint8Array, source: Uint8Array | null): Uint8Array {
  const bytes = new Uint8Array(source === null ? SOURCE_AT : SOURCE_AT + STORAGE_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, ifindex, true);
  putSockaddr(view, GROUP_AT, group);
  if (source !== null) putSockaddr(view, SOURCE_AT, source);
  return bytes;
}

function putSockaddr(view: DataView, at: number, address: Uint8Array): void {
  const v4 = address.length === 4;
  view.setUint16(at, v4 ? AF_INET : AF_INET6, true);
  new Uint8Array(view.buffer).set(address, at + (v4 ? 4 : 8));
}
