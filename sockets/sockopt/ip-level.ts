/** IPPROTO_IP: do_ip_setsockopt and do_ip_getsockopt, net/ipv4/ip_sockglue.c. ip(7). */
import { ERRNO } from "af-xdp-bindings";
import {
  GROUP_BLOCK,
  GROUP_JOIN,
  GROUP_JOIN_SOURCE,
  GROUP_LEAVE,
  GROUP_LEAVE_SOURCE,
  GROUP_UNBLOCK,
} from "../group-request.ts";
import {
  IP_ADD_MEMBERSHIP,
  IP_ADD_SOURCE_MEMBERSHIP,
  IP_BIND_ADDRESS_NO_PORT,
  IP_BLOCK_SOURCE,
  IP_CHECKSUM,
  IP_DROP_MEMBERSHIP,
  IP_DROP_SOURCE_MEMBERSHIP,
  IP_FREEBIND,
  IP_HDRINCL,
  IP_LOCAL_PORT_RANGE,
  IP_MINTTL,
  IP_MSFILTER,
  IP_MTU,
  IP_MTU_DISCOVER,
  IP_MULTICAST_ALL,
  IP_MULTICAST_IF,
  IP_MULTICAST_LOOP,
  IP_MULTICAST_TTL,
  IP_NODEFRAG,
  IP_OPTIONS,
  IP_PKTINFO,
  IP_PROTOCOL,
  IP_RECVERR,
  IP_RECVFRAGSIZE,
  IP_RECVORIGDSTADDR,
  IP_RECVTOS,
  IP_RECVTTL,
  IP_ROUTER_ALERT,
  IP_TOS,
  IP_TRANSPARENT,
  IP_TTL,
  IP_UNBLOCK_SOURCE,
  IP_UNICAST_IF,
  IPPROTO_IP,
  MCAST_BLOCK_SOURCE,
  MCAST_JOIN_GROUP,
  MCAST_JOIN_SOURCE_GROUP,
  MCAST_LEAVE_GROUP,
  MCAST_LEAVE_SOURCE_GROUP,
  MCAST_MSFILTER,
  MCAST_UNBLOCK_SOURCE,
  SO_PRIORITY,
  SOL_SOCKET,
} from "../options.ts";
import { PMTUDISC_OMIT, PMTUDISC_WANT, tosOf, withMtuDiscover, withTos, withTtl } from "../send-word.ts";
import { AF_INET, F_ANY_ADDRESS, F_LATE_PORT, FAMILY, MULTICAST_IF, PLACEHOLDER, PORT_RANGE } from "../table.ts";
import { changeMulticast, changeSendWord, KERNEL_SENDS, KERNEL_SENDS_WITH, tableFlag } from "./effects.ts";
import { filter, filter4, membership, membership4, sourceMembership, sourceMembership4 } from "./groups.ts";
import {
  ENGINE,
  flag,
  number,
  OF_FLOW,
  option,
  ranged,
  readInt,
  readOnly,
  refused,
  strictFlag,
  writeBytes,
  writeInt,
} from "./rules.ts";
import type { UdpOption, UdpPart, UdpTarget } from "./udp-target.ts";

const TTL_DEFAULT = 64;
/** IPTOS_TOS_MASK, and ip_tos2prio (net/ipv4/route.c): best effort 0, bulk 2, interactive bulk 4, interactive 6. */
const IPTOS_TOS_MASK = 0x1e;
const TOS_TO_PRIORITY: readonly number[] = [0, 0, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6, 4, 4, 4, 4];
const INT_BYTES = 4;
const IN_ADDR_BYTES = 4;
const IP_MREQ_BYTES = 8;
const IP_MREQN_BYTES = 12;

const ip = (name: number, label: string, ...parts: UdpPart[]): UdpOption => option(IPPROTO_IP, name, label, ...parts);
const isV4 = ({ socket }: UdpTarget): boolean => socket.endpoint.table.get(socket.id, FAMILY) === AF_INET;

/** IP_MULTICAST_IF: struct in_addr, ip_mreq or ip_mreqn; the address is told. */
const multicastInterface: UdpPart = {
  set(this: UdpOption, target, bytes) {
    if (bytes.length < IN_ADDR_BYTES) return -ERRNO.EINVAL;
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const address = view.getInt32(bytes.length >= IP_MREQ_BYTES ? 4 : 0);
    let index = bytes.length >= IP_MREQN_BYTES ? view.getInt32(8, true) : 0;
    const { endpoint } = target.socket;
    if (index === 0 && address !== 0) index = endpoint.interfaceWith(0, 0, 0xffff, address);
    else if (index !== 0 && !endpoint.hasInterface(index)) index = -1;
    if (index < 0) return -ERRNO.EADDRNOTAVAIL;
    target.store(this, address);
    endpoint.table.set(target.socket.id, MULTICAST_IF, index);
    return 0;
  },
  get(this: UdpOption, target, out) {
    const bytes = new Uint8Array(IN_ADDR_BYTES);
    new DataView(bytes.buffer).setInt32(0, target.value(this));
    return writeBytes(out, bytes);
  },
};

/** Two ports, the lower one first; 0 leaves it to the host. */
const portRange: UdpPart = {
  set(this: UdpOption, target, bytes) {
    if (bytes.length !== INT_BYTES) return -ERRNO.EINVAL;
    const value = readInt(bytes, IPPROTO_IP);
    const low = value & 0xffff;
    const high = value >>> 16;
    if (low !== 0 && high !== 0 && low > high) return -ERRNO.EINVAL;
    target.socket.endpoint.table.set(target.socket.id, PORT_RANGE, value);
    return 0;
  },
  get: ({ socket }, out) => writeInt(IPPROTO_IP, out, socket.endpoint.table.get(socket.id, PORT_RANGE)),
};

/** Without a kernel: another TOS is another SO_PRIORITY (__ip_sock_set_tos). */
function followTos({ socket }: UdpTarget, tos: number): void {
  const { table } = socket.endpoint;
  if (table.get(socket.id, PLACEHOLDER) >= 0 || tosOf(table.ttlTos[socket.id]) === tos) return;
  socket.setsockopt(SOL_SOCKET, SO_PRIORITY, TOS_TO_PRIORITY[(tos & IPTOS_TOS_MASK) >> 1]);
}

export const IP_LEVEL: readonly UdpOption[] = [
  ip(IP_TOS, "IP_TOS", OF_FLOW, number({ normal: (value) => value & 0xff }), {
    initial: ({ socket }) => (socket.endpoint.table.ttlTos[socket.id] >> 8) & 0xff,
    effect(target, value) {
      followTos(target, value);
      changeSendWord(target, 4, (word) => withTos(word, value));
    },
  }),
  ip(
    IP_TTL,
    "IP_TTL",
    OF_FLOW,
    number({
      least: 1,
      check: (value) => (value !== -1 && (value < 1 || value > 255) ? -ERRNO.EINVAL : 0),
      normal: (value) => (value === -1 ? TTL_DEFAULT : value),
    }),
    {
      initial: ({ socket }) => socket.endpoint.table.ttlTos[socket.id] & 0xff,
      effect: (target, value) => changeSendWord(target, 4, (word) => withTtl(word, value)),
    },
  ),
  ip(
    IP_HDRINCL,
    "IP_HDRINCL",
    readOnly(() => 0),
  ),
  ip(IP_OPTIONS, "IP_OPTIONS", KERNEL_SENDS_WITH),
  ip(IP_ROUTER_ALERT, "IP_ROUTER_ALERT", refused(ERRNO.EINVAL, ERRNO.ENOPROTOOPT), { get: readOnly(() => 0).get }),
  ip(IP_PKTINFO, "IP_PKTINFO", ENGINE, flag()),
  ip(IP_MTU_DISCOVER, "IP_MTU_DISCOVER", ranged(0, PMTUDISC_OMIT), {
    initial: PMTUDISC_WANT,
    effect: (target, value) => changeSendWord(target, 4, (word) => withMtuDiscover(word, value)),
  }),
  ip(IP_RECVERR, "IP_RECVERR", ENGINE, flag(), {
    effect: (target, value) => target.socket.queueErrors(value !== 0),
  }),
  ip(IP_RECVTTL, "IP_RECVTTL", ENGINE, flag()),
  ip(IP_RECVTOS, "IP_RECVTOS", ENGINE, flag()),
  ip(IP_MTU, "IP_MTU", OF_FLOW, {
    ...readOnly(() => 0),
    get: ({ socket }, out) => socket.pathMtu(IPPROTO_IP, out),
  }),
  ip(IP_FREEBIND, "IP_FREEBIND", flag({ least: 1 }), tableFlag(F_ANY_ADDRESS)),
  ip(IP_TRANSPARENT, "IP_TRANSPARENT"),
  ip(IP_RECVORIGDSTADDR, "IP_RECVORIGDSTADDR", ENGINE, flag()),
  ip(IP_MINTTL, "IP_MINTTL", ranged(0, 255, { least: 1 })),
  ip(
    IP_NODEFRAG,
    "IP_NODEFRAG",
    readOnly(() => 0),
  ),
  ip(IP_BIND_ADDRESS_NO_PORT, "IP_BIND_ADDRESS_NO_PORT", flag(), tableFlag(F_LATE_PORT)),
  ip(IP_MULTICAST_IF, "IP_MULTICAST_IF", multicastInterface),
  ip(
    IP_MULTICAST_TTL,
    "IP_MULTICAST_TTL",
    number({
      least: 1,
      check: (value) => (value < -1 || value > 255 ? -ERRNO.EINVAL : 0),
      normal: (value) => (value === -1 ? 1 : value),
    }),
    { initial: 1, effect: (target, value) => changeMulticast(target, 0, 0xff, value) },
  ),
  ip(IP_MULTICAST_LOOP, "IP_MULTICAST_LOOP", flag({ least: 1 }), {
    initial: 1,
    effect: (target, value) => changeMulticast(target, 8, 1, value),
  }),
  ip(IP_MULTICAST_ALL, "IP_MULTICAST_ALL", strictFlag({ least: 1 }), {
    initial: (target) => (isV4(target) ? 1 : 0),
    effect: (target, value) => changeMulticast(target, 9, 1, value),
  }),
  ip(IP_UNICAST_IF, "IP_UNICAST_IF", KERNEL_SENDS),
  ip(IP_LOCAL_PORT_RANGE, "IP_LOCAL_PORT_RANGE", portRange),
  // Told of datagrams whose device gives the sum of a whole packet: AF_XDP hands none over.
  ip(IP_CHECKSUM, "IP_CHECKSUM", flag()),
  ip(IP_RECVFRAGSIZE, "IP_RECVFRAGSIZE"),
  ip(
    IP_PROTOCOL,
    "IP_PROTOCOL",
    // As the kernel tells it: the number under which the socket is found, which is a protocol for raw sockets alone.
    readOnly(({ socket }) => socket.port),
  ),
  ip(IP_ADD_MEMBERSHIP, "IP_ADD_MEMBERSHIP", membership4(GROUP_JOIN)),
  ip(IP_DROP_MEMBERSHIP, "IP_DROP_MEMBERSHIP", membership4(GROUP_LEAVE)),
  ip(IP_UNBLOCK_SOURCE, "IP_UNBLOCK_SOURCE", sourceMembership4(GROUP_UNBLOCK)),
  ip(IP_BLOCK_SOURCE, "IP_BLOCK_SOURCE", sourceMembership4(GROUP_BLOCK)),
  ip(IP_ADD_SOURCE_MEMBERSHIP, "IP_ADD_SOURCE_MEMBERSHIP", sourceMembership4(GROUP_JOIN_SOURCE)),
  ip(IP_DROP_SOURCE_MEMBERSHIP, "IP_DROP_SOURCE_MEMBERSHIP", sourceMembership4(GROUP_LEAVE_SOURCE)),
  ip(IP_MSFILTER, "IP_MSFILTER", filter4),
  ip(MCAST_JOIN_GROUP, "MCAST_JOIN_GROUP", membership(4, GROUP_JOIN)),
  ip(MCAST_BLOCK_SOURCE, "MCAST_BLOCK_SOURCE", sourceMembership(4, GROUP_BLOCK)),
  ip(MCAST_UNBLOCK_SOURCE, "MCAST_UNBLOCK_SOURCE", sourceMembership(4, GROUP_UNBLOCK)),
  ip(MCAST_LEAVE_GROUP, "MCAST_LEAVE_GROUP", membership(4, GROUP_LEAVE)),
  ip(MCAST_JOIN_SOURCE_GROUP, "MCAST_JOIN_SOURCE_GROUP", sourceMembership(4, GROUP_JOIN_SOURCE)),
  ip(MCAST_LEAVE_SOURCE_GROUP, "MCAST_LEAVE_SOURCE_GROUP", sourceMembership(4, GROUP_LEAVE_SOURCE)),
  ip(MCAST_MSFILTER, "MCAST_MSFILTER", filter(4)),
];
