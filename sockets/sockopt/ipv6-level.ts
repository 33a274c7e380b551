/** IPPROTO_IPV6: do_ipv6_setsockopt and do_ipv6_getsockopt, net/ipv6/ipv6_sockglue.c. ipv6(7). */
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
  IPPROTO_IPV6,
  IPV6_2292HOPLIMIT,
  IPV6_2292PKTINFO,
  IPV6_ADD_MEMBERSHIP,
  IPV6_ADDR_PREFERENCES,
  IPV6_AUTOFLOWLABEL,
  IPV6_DONTFRAG,
  IPV6_DROP_MEMBERSHIP,
  IPV6_DSTOPTS,
  IPV6_FLOWINFO,
  IPV6_FLOWINFO_SEND,
  IPV6_FLOWLABEL_MGR,
  IPV6_FREEBIND,
  IPV6_HOPOPTS,
  IPV6_JOIN_ANYCAST,
  IPV6_LEAVE_ANYCAST,
  IPV6_MINHOPCOUNT,
  IPV6_MTU,
  IPV6_MTU_DISCOVER,
  IPV6_MULTICAST_ALL,
  IPV6_MULTICAST_HOPS,
  IPV6_MULTICAST_IF,
  IPV6_MULTICAST_LOOP,
  IPV6_PATHMTU,
  IPV6_PKTINFO,
  IPV6_RECVERR,
  IPV6_RECVFRAGSIZE,
  IPV6_RECVHOPLIMIT,
  IPV6_RECVORIGDSTADDR,
  IPV6_RECVPKTINFO,
  IPV6_RECVTCLASS,
  IPV6_ROUTER_ALERT,
  IPV6_ROUTER_ALERT_ISOLATE,
  IPV6_RTHDR,
  IPV6_RTHDRDSTOPTS,
  IPV6_TCLASS,
  IPV6_TRANSPARENT,
  IPV6_UNICAST_HOPS,
  IPV6_UNICAST_IF,
  IPV6_V6ONLY,
  MCAST_BLOCK_SOURCE,
  MCAST_JOIN_GROUP,
  MCAST_JOIN_SOURCE_GROUP,
  MCAST_LEAVE_GROUP,
  MCAST_LEAVE_SOURCE_GROUP,
  MCAST_MSFILTER,
  MCAST_UNBLOCK_SOURCE,
} from "../options.ts";
import { PMTUDISC_OMIT, PMTUDISC_WANT, TX_DONT_FRAGMENT, withMtuDiscover, withTos, withTtl } from "../send-word.ts";
import { F_ANY_ADDRESS, F_V6ONLY, MULTICAST_IF6 } from "../table.ts";
import {
  changeFlag,
  changeMulticast,
  changeSendWord,
  flagOf,
  KERNEL_SENDS,
  KERNEL_SENDS_WITH,
  sendFlag,
  tableFlag,
} from "./effects.ts";
import { filter, membership, membership6, sourceMembership } from "./groups.ts";
import { AS_GIVEN, ENGINE, flag, number, OF_FLOW, option, ranged, strictFlag } from "./rules.ts";
import type { UdpOption, UdpPart, UdpTarget } from "./udp-target.ts";

/** IPV6_DEFAULT_HOPLIMIT, IPV6_DEFAULT_MCASTHOPS. */
const HOPS_DEFAULT = 64;
const MULTICAST_HOPS_DEFAULT = 1;
/** IPV6_PREFER_SRC_PUBTMP_DEFAULT | IPV6_PREFER_SRC_HOME: what getsockopt tells of a fresh socket. */
const ADDR_PREFERENCES_DEFAULT = 0x500;

const ipv6 = (name: number, label: string, ...parts: UdpPart[]): UdpOption =>
  option(IPPROTO_IPV6, name, label, ...parts);

/** Of a socket that has a port it cannot be changed. */
const unbound = (_value: number, { socket }: UdpTarget): number => (socket.isUnbound ? 0 : -ERRNO.EINVAL);

/** A byte, or -1 for the default. */
const byteOr = (initial: number): UdpPart =>
  number({
    check: (value) => (value < -1 || value > 255 ? -ERRNO.EINVAL : 0),
    normal: (value) => (value === -1 ? initial : value),
  });

export const IPV6_LEVEL: readonly UdpOption[] = [
  ipv6(IPV6_2292PKTINFO, "IPV6_2292PKTINFO", ENGINE, flag()),
  ipv6(IPV6_2292HOPLIMIT, "IPV6_2292HOPLIMIT", ENGINE, flag()),
  ipv6(IPV6_UNICAST_HOPS, "IPV6_UNICAST_HOPS", OF_FLOW, byteOr(HOPS_DEFAULT), {
    initial: ({ socket }) => socket.endpoint.table.ttlTos6[socket.id] & 0xff,
    effect: (target, value) => changeSendWord(target, 6, (word) => withTtl(word, value)),
  }),
  ipv6(
    IPV6_MULTICAST_IF,
    "IPV6_MULTICAST_IF",
    number({
      check: (value, { socket }) =>
        value === 0 || (value > 0 && socket.endpoint.hasInterface(value)) ? 0 : -ERRNO.ENODEV,
    }),
    { effect: ({ socket }, value) => socket.endpoint.table.set(socket.id, MULTICAST_IF6, value) },
  ),
  ipv6(IPV6_MULTICAST_HOPS, "IPV6_MULTICAST_HOPS", byteOr(MULTICAST_HOPS_DEFAULT), {
    initial: MULTICAST_HOPS_DEFAULT,
    effect: (target, value) => changeMulticast(target, 16, 0xff, value),
  }),
  ipv6(IPV6_MULTICAST_LOOP, "IPV6_MULTICAST_LOOP", strictFlag(), {
    initial: 1,
    effect: (target, value) => changeMulticast(target, 24, 1, value),
  }),
  ipv6(IPV6_ADD_MEMBERSHIP, "IPV6_ADD_MEMBERSHIP", membership6(GROUP_JOIN)),
  ipv6(IPV6_DROP_MEMBERSHIP, "IPV6_DROP_MEMBERSHIP", membership6(GROUP_LEAVE)),
  ipv6(IPV6_MTU_DISCOVER, "IPV6_MTU_DISCOVER", ranged(0, PMTUDISC_OMIT), {
    initial: PMTUDISC_WANT,
    effect: (target, value) => changeSendWord(target, 6, (word) => withMtuDiscover(word, value)),
  }),
  // The largest fragment to be sent; what is told is the path MTU.
  ipv6(IPV6_MTU, "IPV6_MTU", OF_FLOW, {
    readAs: AS_GIVEN,
    get: ({ socket }, out) => socket.pathMtu(IPPROTO_IPV6, out),
    effect(this: UdpOption, target, value) {
      target.needKernel(this, value !== 0);
    },
  }),
  ipv6(IPV6_RECVERR, "IPV6_RECVERR", ENGINE, flag(), {
    effect: (target, value) => target.socket.queueErrors(value !== 0),
  }),
  ipv6(IPV6_V6ONLY, "IPV6_V6ONLY", flag({ check: unbound }), {
    initial: (target) => flagOf(target, F_V6ONLY),
    effect(target, value) {
      changeFlag(target, F_V6ONLY, value !== 0);
      target.socket.familyChanged();
    },
  }),
  ipv6(IPV6_JOIN_ANYCAST, "IPV6_JOIN_ANYCAST"),
  ipv6(IPV6_LEAVE_ANYCAST, "IPV6_LEAVE_ANYCAST"),
  ipv6(IPV6_MULTICAST_ALL, "IPV6_MULTICAST_ALL", flag(), {
    initial: 1,
    effect: (target, value) => changeMulticast(target, 25, 1, value),
  }),
  ipv6(IPV6_FLOWINFO_SEND, "IPV6_FLOWINFO_SEND", KERNEL_SENDS),
  ipv6(IPV6_RECVPKTINFO, "IPV6_RECVPKTINFO", ENGINE, flag()),
  ipv6(IPV6_RECVHOPLIMIT, "IPV6_RECVHOPLIMIT", ENGINE, flag()),
  ipv6(IPV6_HOPOPTS, "IPV6_HOPOPTS", KERNEL_SENDS_WITH),
  ipv6(IPV6_RTHDRDSTOPTS, "IPV6_RTHDRDSTOPTS", KERNEL_SENDS_WITH),
  ipv6(IPV6_RTHDR, "IPV6_RTHDR", KERNEL_SENDS_WITH),
  ipv6(IPV6_DSTOPTS, "IPV6_DSTOPTS", KERNEL_SENDS_WITH),
  ipv6(IPV6_DONTFRAG, "IPV6_DONTFRAG", flag({ least: 0 }), sendFlag(6, TX_DONT_FRAGMENT)),
  ipv6(IPV6_RECVTCLASS, "IPV6_RECVTCLASS", ENGINE, flag()),
  ipv6(IPV6_TCLASS, "IPV6_TCLASS", OF_FLOW, byteOr(0), {
    initial: ({ socket }) => (socket.endpoint.table.ttlTos6[socket.id] >> 8) & 0xff,
    effect: (target, value) => changeSendWord(target, 6, (word) => withTos(word, value)),
  }),
  ipv6(IPV6_AUTOFLOWLABEL, "IPV6_AUTOFLOWLABEL", KERNEL_SENDS),
  ipv6(IPV6_ADDR_PREFERENCES, "IPV6_ADDR_PREFERENCES", KERNEL_SENDS, { initial: ADDR_PREFERENCES_DEFAULT }),
  ipv6(IPV6_MINHOPCOUNT, "IPV6_MINHOPCOUNT", ranged(0, 255)),
  ipv6(IPV6_RECVORIGDSTADDR, "IPV6_RECVORIGDSTADDR", ENGINE, flag()),
  ipv6(IPV6_TRANSPARENT, "IPV6_TRANSPARENT"),
  ipv6(IPV6_UNICAST_IF, "IPV6_UNICAST_IF", KERNEL_SENDS),
  ipv6(IPV6_FLOWINFO, "IPV6_FLOWINFO", flag()),
  ipv6(IPV6_ROUTER_ALERT, "IPV6_ROUTER_ALERT"),
  ipv6(IPV6_ROUTER_ALERT_ISOLATE, "IPV6_ROUTER_ALERT_ISOLATE"),
  ipv6(IPV6_FLOWLABEL_MGR, "IPV6_FLOWLABEL_MGR"),
  // Where all that is sent comes from, and goes out.
  ipv6(IPV6_PKTINFO, "IPV6_PKTINFO", {
    readAs: AS_GIVEN,
    effect(this: UdpOption, target) {
      target.needKernel(this, true);
    },
  }),
  ipv6(IPV6_PATHMTU, "IPV6_PATHMTU"),
  ipv6(IPV6_RECVFRAGSIZE, "IPV6_RECVFRAGSIZE"),
  ipv6(IPV6_FREEBIND, "IPV6_FREEBIND", flag(), tableFlag(F_ANY_ADDRESS)),
  ipv6(MCAST_JOIN_GROUP, "MCAST_JOIN_GROUP", membership(6, GROUP_JOIN)),
  ipv6(MCAST_BLOCK_SOURCE, "MCAST_BLOCK_SOURCE", sourceMembership(6, GROUP_BLOCK)),
  ipv6(MCAST_UNBLOCK_SOURCE, "MCAST_UNBLOCK_SOURCE", sourceMembership(6, GROUP_UNBLOCK)),
  ipv6(MCAST_LEAVE_GROUP, "MCAST_LEAVE_GROUP", membership(6, GROUP_LEAVE)),
  ipv6(MCAST_JOIN_SOURCE_GROUP, "MCAST_JOIN_SOURCE_GROUP", sourceMembership(6, GROUP_JOIN_SOURCE)),
  ipv6(MCAST_LEAVE_SOURCE_GROUP, "MCAST_LEAVE_SOURCE_GROUP", sourceMembership(6, GROUP_LEAVE_SOURCE)),
  ipv6(MCAST_MSFILTER, "MCAST_MSFILTER", filter(6)),
];
