/** IPPROTO_IPV6 of TCP sockets: do_ipv6_setsockopt and do_ipv6_getsockopt, net/ipv6/ipv6_sockglue.c, as they are for streams. ipv6(7). */
import { ERRNO } from "af-xdp-bindings";
import * as numbers from "../options.ts";
import { PMTUDISC_OMIT, PMTUDISC_WANT } from "../send-word.ts";
import { F_V6ONLY, FLAGS } from "../table.ts";
import { OPTIONS } from "../tcp/sockopts.ts";
import { interfaceName } from "./devices.ts";
import { flag, number, ranged, readInt, strictFlag, writeBytes, writeInt } from "./rules.ts";
import { unicastInterface } from "./stream-ip-level.ts";
import { asInitial, neverOn, streamOption, toCore, untaken } from "./stream-rules.ts";
import type { StreamOption, StreamPart, StreamTarget } from "./stream-target.ts";

const { IPPROTO_IPV6 } = numbers;
const INT_BYTES = 4;
const HOPS_DEFAULT = 64;
const ECN_MASK = 3;
const ADDR_PREFERENCES_DEFAULT = 0x500;

const ipv6 = streamOption(IPPROTO_IPV6);
const told = (name: number, label: string): StreamOption => ipv6(name, label, flag());

/** Older names of what is told beside a datagram, and what is not told of one either: of streams all are kept, and none is told. */
const UNTOLD: readonly (readonly [name: number, label: string])[] = [
  [3, "IPV6_2292HOPOPTS"],
  [4, "IPV6_2292DSTOPTS"],
  [5, "IPV6_2292RTHDR"],
  [53, "IPV6_RECVHOPOPTS"],
  [56, "IPV6_RECVRTHDR"],
  [58, "IPV6_RECVDSTOPTS"],
  [60, "IPV6_RECVPATHMTU"],
];
const IPV6_2292PKTOPTIONS = 6;
const IPV6_RECVERR_RFC4884 = 31;
/** struct cmsghdr: less than one is no option. */
const CMSG_BYTES = 16;

/** A byte, or -1 for the default. */
const byteOr = (initial: number, mask = 0xff): StreamPart =>
  number({
    check: (value) => (value < -1 || value > 255 ? -ERRNO.EINVAL : 0),
    normal: (value) => (value === -1 ? initial : value & mask),
  });

const readable =
  (value: number): StreamPart["get"] =>
  (_target, out) =>
    writeInt(IPPROTO_IPV6, out, value);

/** Extension headers of every packet: none goes with a segment. */
const header = (name: number, label: string): StreamOption =>
  ipv6(name, label, { set: (_target, bytes) => (bytes.length === 0 ? 0 : -ERRNO.EINVAL), get: () => 0 });

const mtu: StreamPart = {
  ...asInitial({ check: (value) => (value !== 0 && value < 1280 ? -ERRNO.EINVAL : 0) }),
  get: (target, out) => (target.pathMtu === 0 ? -ERRNO.ENOTCONN : writeInt(IPPROTO_IPV6, out, target.pathMtu)),
};

const v6only: StreamPart = {
  ...flag<StreamTarget>({ check: (_value, target) => (target.isBound || target.localPort !== 0 ? -ERRNO.EINVAL : 0) }),
  effect: (target) => target.portRulesChanged(),
  // A socket that is bound to an address of IPv6 speaks that alone (__inet6_bind).
  get(this: StreamOption, target, out) {
    const isBoundSo = (target.recordWord(FLAGS) & F_V6ONLY) !== 0;
    return writeInt(IPPROTO_IPV6, out, isBoundSo ? 1 : target.value(this));
  },
};

const trafficClass: StreamPart = { ...byteOr(0, 0xff & ~ECN_MASK), ...toCore(OPTIONS.IP_TOS) };

const hops: StreamPart = { ...byteOr(HOPS_DEFAULT), ...toCore(OPTIONS.IP_TTL), initial: HOPS_DEFAULT };

/** Groups and anycast addresses: of a structure so long nothing is for streams. */
const group = (name: number, label: string, least: number, errno: number): StreamOption =>
  ipv6(name, label, {
    set: (_target, bytes) => -(bytes.length < least ? ERRNO.EINVAL : errno),
    get: () => -ERRNO.ENOPROTOOPT,
  });

/** struct ipv6_mreq: the interface is looked at first. */
const joinAnycast: StreamPart = {
  set(target, bytes) {
    if (bytes.length < 20) return -ERRNO.EINVAL;
    const index = readInt(bytes.subarray(16), IPPROTO_IPV6);
    if (index === 0) return -ERRNO.EADDRNOTAVAIL;
    const fd = target.needPlaceholder();
    return fd < 0 || typeof interfaceName(fd, index) === "number" ? -ERRNO.ENODEV : -ERRNO.EPROTO;
  },
};

export const STREAM_IPV6_LEVEL: readonly StreamOption[] = [
  told(numbers.IPV6_2292PKTINFO, "IPV6_2292PKTINFO"),
  told(numbers.IPV6_2292HOPLIMIT, "IPV6_2292HOPLIMIT"),
  told(numbers.IPV6_FLOWINFO, "IPV6_FLOWINFO"),
  ...UNTOLD.map(([name, label]) => told(name, label)),
  ipv6(IPV6_RECVERR_RFC4884, "IPV6_RECVERR_RFC4884", strictFlag()),
  // Options of every packet, as control messages.
  ipv6(IPV6_2292PKTOPTIONS, "IPV6_2292PKTOPTIONS", {
    set: (_target, bytes) => (bytes.length < CMSG_BYTES ? 0 : -ERRNO.EOPNOTSUPP),
    get: () => 0,
  }),
  ipv6(numbers.IPV6_UNICAST_HOPS, "IPV6_UNICAST_HOPS", hops),
  ipv6(numbers.IPV6_MULTICAST_IF, "IPV6_MULTICAST_IF", { ...untaken(ERRNO.ENOPROTOOPT, 0), get: readable(0) }),
  ipv6(numbers.IPV6_MULTICAST_HOPS, "IPV6_MULTICAST_HOPS", { ...untaken(ERRNO.ENOPROTOOPT, 0), get: readable(1) }),
  ipv6(numbers.IPV6_MULTICAST_LOOP, "IPV6_MULTICAST_LOOP", strictFlag(), { initial: 1 }),
  group(numbers.IPV6_ADD_MEMBERSHIP, "IPV6_ADD_MEMBERSHIP", 20, ERRNO.EPROTO),
  group(numbers.IPV6_DROP_MEMBERSHIP, "IPV6_DROP_MEMBERSHIP", 20, ERRNO.EPROTO),
  ipv6(numbers.IPV6_JOIN_ANYCAST, "IPV6_JOIN_ANYCAST", joinAnycast),
  group(numbers.IPV6_LEAVE_ANYCAST, "IPV6_LEAVE_ANYCAST", 20, ERRNO.ENOENT),
  ipv6(numbers.IPV6_ROUTER_ALERT, "IPV6_ROUTER_ALERT", {
    set: (_target, bytes) => (bytes.length < INT_BYTES ? -ERRNO.EINVAL : -ERRNO.ENOPROTOOPT),
    get: readable(0),
  }),
  ipv6(numbers.IPV6_MTU_DISCOVER, "IPV6_MTU_DISCOVER", ranged(0, PMTUDISC_OMIT), toCore(OPTIONS.IP_MTU_DISCOVER), {
    initial: PMTUDISC_WANT,
  }),
  ipv6(numbers.IPV6_MTU, "IPV6_MTU", mtu),
  ipv6(numbers.IPV6_RECVERR, "IPV6_RECVERR", neverOn),
  ipv6(numbers.IPV6_V6ONLY, "IPV6_V6ONLY", v6only),
  ipv6(numbers.IPV6_MULTICAST_ALL, "IPV6_MULTICAST_ALL", flag(), { initial: 1 }),
  ipv6(numbers.IPV6_ROUTER_ALERT_ISOLATE, "IPV6_ROUTER_ALERT_ISOLATE", flag()),
  ipv6(numbers.IPV6_FLOWLABEL_MGR, "IPV6_FLOWLABEL_MGR", untaken(ERRNO.EINVAL, ERRNO.EINVAL)),
  ipv6(numbers.IPV6_FLOWINFO_SEND, "IPV6_FLOWINFO_SEND", neverOn),
  told(numbers.IPV6_RECVPKTINFO, "IPV6_RECVPKTINFO"),
  ipv6(numbers.IPV6_PKTINFO, "IPV6_PKTINFO", {
    set: (_target, bytes) => (bytes.length < 20 ? -ERRNO.EINVAL : -ERRNO.EOPNOTSUPP),
    get: () => -ERRNO.ENOPROTOOPT,
  }),
  told(numbers.IPV6_RECVHOPLIMIT, "IPV6_RECVHOPLIMIT"),
  header(numbers.IPV6_HOPOPTS, "IPV6_HOPOPTS"),
  header(numbers.IPV6_RTHDRDSTOPTS, "IPV6_RTHDRDSTOPTS"),
  header(numbers.IPV6_RTHDR, "IPV6_RTHDR"),
  header(numbers.IPV6_DSTOPTS, "IPV6_DSTOPTS"),
  ipv6(numbers.IPV6_PATHMTU, "IPV6_PATHMTU", {
    set: () => -ERRNO.ENOPROTOOPT,
    get(target, out) {
      if (out.length < 32) return -ERRNO.EINVAL;
      if (target.pathMtu === 0) return -ERRNO.ENOTCONN;
      const bytes = new Uint8Array(32);
      new DataView(bytes.buffer).setUint32(28, target.pathMtu, true);
      return writeBytes(out, bytes);
    },
  }),
  // A segment is never cut into fragments here.
  ipv6(numbers.IPV6_DONTFRAG, "IPV6_DONTFRAG", flag({ least: 0 })),
  told(numbers.IPV6_RECVTCLASS, "IPV6_RECVTCLASS"),
  ipv6(numbers.IPV6_TCLASS, "IPV6_TCLASS", trafficClass),
  // A label that the stack may choose: none is 0, which is one of them.
  ipv6(numbers.IPV6_AUTOFLOWLABEL, "IPV6_AUTOFLOWLABEL", flag({ least: 0 }), { initial: 1 }),
  ipv6(numbers.IPV6_ADDR_PREFERENCES, "IPV6_ADDR_PREFERENCES", {
    set: (_target, bytes) =>
      bytes.length < INT_BYTES
        ? -ERRNO.EINVAL
        : readInt(bytes, IPPROTO_IPV6) === ADDR_PREFERENCES_DEFAULT
          ? 0
          : -ERRNO.EOPNOTSUPP,
    get: readable(ADDR_PREFERENCES_DEFAULT),
  }),
  ipv6(numbers.IPV6_MINHOPCOUNT, "IPV6_MINHOPCOUNT", ranged(0, 255), toCore(OPTIONS.IPV6_MINHOPCOUNT)),
  told(numbers.IPV6_RECVORIGDSTADDR, "IPV6_RECVORIGDSTADDR"),
  ipv6(numbers.IPV6_TRANSPARENT, "IPV6_TRANSPARENT", neverOn),
  ipv6(numbers.IPV6_UNICAST_IF, "IPV6_UNICAST_IF", unicastInterface),
  ipv6(numbers.IPV6_RECVFRAGSIZE, "IPV6_RECVFRAGSIZE", flag({ least: 0 })),
  ipv6(numbers.IPV6_FREEBIND, "IPV6_FREEBIND", flag(), { effect: (target) => target.portRulesChanged() }),
];
