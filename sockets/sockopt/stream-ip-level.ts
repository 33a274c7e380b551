/** IPPROTO_IP of TCP sockets: do_ip_setsockopt and do_ip_getsockopt, net/ipv4/ip_sockglue.c, as they are for streams. ip(7). */
import { ERRNO } from "af-xdp-bindings";
import * as numbers from "../options.ts";
import { PMTUDISC_OMIT, PMTUDISC_WANT } from "../send-word.ts";
import { AF_INET, DEVICE } from "../table.ts";
import { OPTIONS } from "../tcp/sockopts.ts";
import { interfaceName } from "./devices.ts";
import { flag, number, ranged, readInt, readOnly, strictFlag, writeBytes, writeInt } from "./rules.ts";
import { asInitial, streamOption, toCore } from "./stream-rules.ts";
import type { StreamOption, StreamPart, StreamTarget } from "./stream-target.ts";

const { IPPROTO_IP, SO_PRIORITY, SOL_SOCKET } = numbers;
/** What was told of the last packet: nothing of a stream. */
const IP_PKTOPTIONS = 9;
const IP_PASSSEC = 18;
const IP_RECVERR_RFC4884 = 26;
const TTL_DEFAULT = 64;
const INT_BYTES = 4;
const ECN_MASK = 3;
/** ip_tos2prio by bits 1 to 4 of TOS. */
const TOS_TO_PRIORITY: readonly number[] = [0, 0, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6, 4, 4, 4, 4];
const IPTOS_TOS_MASK = 0x1e;

const ip = streamOption(IPPROTO_IP);

/**
 * Another TOS is another SO_PRIORITY (__ip_sock_set_tos), a traffic class is not. For a priority that comes of it alone segments do not
 * leave the fast path.
 */
function changeTos(target: StreamTarget, value: number): void {
  if (target.getCore(OPTIONS.IP_TOS) === value) return;
  target.setCore(OPTIONS.IP_TOS, value);
  target.storeOther(SOL_SOCKET, SO_PRIORITY, TOS_TO_PRIORITY[(value & IPTOS_TOS_MASK) >> 1]);
  if (target.getCore(OPTIONS.SO_PRIORITY) !== 0) target.setCore(OPTIONS.SO_PRIORITY, 0);
}

/** Of streams the two bits of ECN are the connection's. */
const tos: StreamPart = {
  ...number<StreamTarget>({ normal: (value) => value & 0xff & ~ECN_MASK }),
  effect: changeTos,
};

const ttl: StreamPart = {
  ...number<StreamTarget>({
    least: 1,
    check: (value) => (value !== -1 && (value < 1 || value > 255) ? -ERRNO.EINVAL : 0),
    normal: (value) => (value === -1 ? TTL_DEFAULT : value),
  }),
  initial: TTL_DEFAULT,
  effect: (target, value) => {
    if (target.domain === AF_INET) target.setCore(OPTIONS.IP_TTL, value);
  },
};

const mtuDiscover: StreamPart = {
  ...ranged<StreamTarget>(0, PMTUDISC_OMIT),
  ...toCore(OPTIONS.IP_MTU_DISCOVER),
  initial: PMTUDISC_WANT,
};

const portRange: StreamPart = {
  set(this: StreamOption, target, bytes) {
    if (bytes.length !== INT_BYTES) return -ERRNO.EINVAL;
    const value = readInt(bytes, IPPROTO_IP);
    const [low, high] = [value & 0xffff, value >>> 16];
    if (low !== 0 && high !== 0 && low > high) return -ERRNO.EINVAL;
    target.store(this, value);
    target.portRulesChanged();
    return 0;
  },
  get(this: StreamOption, target, out) {
    return writeInt(IPPROTO_IP, out, target.value(this));
  },
};

const mtu: StreamPart = {
  ...readOnly<StreamTarget>(() => 0),
  get: (target, out) => (target.pathMtu === 0 ? -ERRNO.ENOTCONN : writeInt(IPPROTO_IP, out, target.pathMtu)),
};

/** Of datagrams without a route; kept for streams, too. An interface index in network byte order. */
export const unicastInterface: StreamPart = {
  ...number<StreamTarget>(),
  set(this: StreamOption, target, bytes) {
    if (bytes.length !== INT_BYTES) return -ERRNO.EINVAL;
    const index = new DataView(bytes.buffer, bytes.byteOffset).getInt32(0);
    if (index !== 0) {
      const fd = target.needPlaceholder();
      if (fd < 0 || typeof interfaceName(fd, index) === "number") return -ERRNO.EADDRNOTAVAIL;
      const device = target.recordWord(DEVICE);
      if (device !== 0 && device !== index) return -ERRNO.EINVAL;
    }
    target.store(this, readInt(bytes, this.level));
    return 0;
  },
};

/** A flag that says what recvmsg(2) tells beside a datagram: beside bytes of a stream there is nothing to tell. */
const told = (name: number, label: string): StreamOption => ip(name, label, flag());
const never = (name: number, label: string, least = 0): StreamOption =>
  ip(name, label, asInitial({ least, normal: (value) => (value === 0 ? 0 : 1) }));
/** Groups are for datagrams: a structure of so many bytes, and then EPROTO or EINVAL. */
const group = (name: number, label: string, least: number, errno: number): StreamOption =>
  ip(name, label, {
    set: (_target, bytes) => -(bytes.length < least ? ERRNO.EINVAL : errno),
    get: () => -ERRNO.ENOPROTOOPT,
  });

export const STREAM_IP_LEVEL: readonly StreamOption[] = [
  ip(numbers.IP_TOS, "IP_TOS", tos),
  ip(numbers.IP_TTL, "IP_TTL", ttl),
  ip(
    numbers.IP_HDRINCL,
    "IP_HDRINCL",
    readOnly(() => 0),
  ),
  // Options of every packet: none is put into a segment.
  ip(numbers.IP_OPTIONS, "IP_OPTIONS", {
    set: (_target, bytes) => (bytes.length === 0 ? 0 : bytes.length > 40 ? -ERRNO.EINVAL : -ERRNO.EOPNOTSUPP),
    get: () => 0,
  }),
  ip(numbers.IP_ROUTER_ALERT, "IP_ROUTER_ALERT", {
    set: () => -ERRNO.EINVAL,
    get: readOnly(() => 0).get as StreamPart["get"],
  }),
  told(numbers.IP_RECVOPTS, "IP_RECVOPTS"),
  told(numbers.IP_RETOPTS, "IP_RETOPTS"),
  ip(IP_PKTOPTIONS, "IP_PKTOPTIONS", { get: () => 0 }),
  told(numbers.IP_PKTINFO, "IP_PKTINFO"),
  ip(numbers.IP_MTU_DISCOVER, "IP_MTU_DISCOVER", mtuDiscover),
  never(numbers.IP_RECVERR, "IP_RECVERR"),
  told(IP_PASSSEC, "IP_PASSSEC"),
  told(numbers.IP_RECVTTL, "IP_RECVTTL"),
  told(numbers.IP_RECVTOS, "IP_RECVTOS"),
  ip(numbers.IP_MTU, "IP_MTU", mtu),
  ip(numbers.IP_FREEBIND, "IP_FREEBIND", flag({ least: 1 }), { effect: (target) => target.portRulesChanged() }),
  never(numbers.IP_TRANSPARENT, "IP_TRANSPARENT", 1),
  told(numbers.IP_RECVORIGDSTADDR, "IP_RECVORIGDSTADDR"),
  ip(numbers.IP_MINTTL, "IP_MINTTL", ranged(0, 255, { least: 1 }), toCore(OPTIONS.IP_MINTTL)),
  ip(
    numbers.IP_NODEFRAG,
    "IP_NODEFRAG",
    readOnly(() => 0),
  ),
  ip(numbers.IP_BIND_ADDRESS_NO_PORT, "IP_BIND_ADDRESS_NO_PORT", flag(), {
    effect: (target) => target.portRulesChanged(),
  }),
  // Where groups would be sent to: they are for datagrams.
  ip(numbers.IP_MULTICAST_IF, "IP_MULTICAST_IF", {
    set: () => -ERRNO.EINVAL,
    get: (_target, out) => writeBytes(out, new Uint8Array(INT_BYTES)),
  }),
  ip(numbers.IP_MULTICAST_TTL, "IP_MULTICAST_TTL", {
    set: () => -ERRNO.EINVAL,
    get: (_target, out) => writeInt(IPPROTO_IP, out, 1),
  }),
  ip(numbers.IP_MULTICAST_LOOP, "IP_MULTICAST_LOOP", flag({ least: 1 }), { initial: 1 }),
  ip(numbers.IP_MULTICAST_ALL, "IP_MULTICAST_ALL", strictFlag({ least: 1 }), {
    initial: ({ domain }) => (domain === AF_INET ? 1 : 0),
  }),
  ip(numbers.IP_UNICAST_IF, "IP_UNICAST_IF", unicastInterface),
  ip(numbers.IP_LOCAL_PORT_RANGE, "IP_LOCAL_PORT_RANGE", portRange),
  ip(IP_RECVERR_RFC4884, "IP_RECVERR_RFC4884", strictFlag()),
  told(numbers.IP_CHECKSUM, "IP_CHECKSUM"),
  ip(numbers.IP_RECVFRAGSIZE, "IP_RECVFRAGSIZE", {
    set: () => -ERRNO.EINVAL,
    get: readOnly(() => 0).get as StreamPart["get"],
  }),
  ip(
    numbers.IP_PROTOCOL,
    "IP_PROTOCOL",
    readOnly(({ localPort }) => localPort),
  ),
  group(numbers.IP_ADD_MEMBERSHIP, "IP_ADD_MEMBERSHIP", 0, ERRNO.EPROTO),
  group(numbers.IP_DROP_MEMBERSHIP, "IP_DROP_MEMBERSHIP", 0, ERRNO.EPROTO),
];
