/** SOL_SOCKET: sk_setsockopt and sk_getsockopt, net/core/sock.c. socket(7). */
import { ERRNO } from "af-xdp-bindings";
import {
  SO_ACCEPTCONN,
  SO_BINDTODEVICE,
  SO_BINDTOIFINDEX,
  SO_BROADCAST,
  SO_BSDCOMPAT,
  SO_BUF_LOCK,
  SO_COOKIE,
  SO_DEBUG,
  SO_DETACH_FILTER,
  SO_DOMAIN,
  SO_DONTROUTE,
  SO_ERROR,
  SO_INCOMING_CPU,
  SO_INCOMING_NAPI_ID,
  SO_KEEPALIVE,
  SO_LINGER,
  SO_MARK,
  SO_MAX_PACING_RATE,
  SO_MEMINFO,
  SO_NETNS_COOKIE,
  SO_NO_CHECK,
  SO_NOFCS,
  SO_OOBINLINE,
  SO_PASSCRED,
  SO_PASSPIDFD,
  SO_PASSRIGHTS,
  SO_PASSSEC,
  SO_PRIORITY,
  SO_PROTOCOL,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_RCVLOWAT,
  SO_RCVTIMEO,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SO_RXQ_OVFL,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SO_SNDLOWAT,
  SO_SNDTIMEO,
  SO_TIMESTAMP,
  SO_TIMESTAMP_NEW,
  SO_TIMESTAMPNS,
  SO_TIMESTAMPNS_NEW,
  SO_TXREHASH,
  SO_TYPE,
  SOL_SOCKET,
} from "../options.ts";
import { TX_NO_CHECK } from "../send-word.ts";
import {
  DEVICE,
  F_BROADCAST,
  F_REUSEADDR,
  F_REUSEPORT,
  F_RXQ_OVFL,
  F_TIMESTAMP,
  FAMILY,
  IPPROTO_UDP,
  SNDBUF,
} from "../table.ts";
import { bindToDevice, changeSteeredFlag, flagOf, KERNEL_SENDS, sendFlag, tableFlag } from "./effects.ts";
import {
  ENGINE,
  flag,
  number,
  OF_FLOW,
  type Option,
  type OptionPart,
  type OptionTarget,
  option,
  readOnly,
  refused,
  writeBytes,
} from "./rules.ts";

const SOCK_DGRAM = 2;
const INT_MAX = 0x7fffffff;
/** SOCK_MIN_SNDBUF and SOCK_MIN_RCVBUF of 64-bit kernels (include/net/sock.h), doubled as getsockopt tells them. */
const SNDBUF_MIN = 4608;
const RCVBUF_MIN = 2304;
/** SO_PRIORITY that needs no privilege. */
const PRIORITY_MAX = 6;
const LINGER_BYTES = 8;
const TIMEVAL_BYTES = 16;
const MICROSECONDS = 1_000_000;
/** SOCK_SNDBUF_LOCK | SOCK_RCVBUF_LOCK. */
const BUF_LOCK_MASK = 3;
/** SK_MEMINFO_VARS: words of SO_MEMINFO (include/uapi/linux/sock_diag.h). */
const MEMINFO_WORDS = 9;
const MEMINFO_RMEM_ALLOC = 0;
const MEMINFO_RCVBUF = 1;
const MEMINFO_WMEM_ALLOC = 2;
const MEMINFO_SNDBUF = 3;
const MEMINFO_DROPS = 8;

const so = (name: number, label: string, ...parts: OptionPart[]): Option => option(SOL_SOCKET, name, label, ...parts);

const admin = (target: OptionTarget, errno: number): number => (target.limits.netAdmin ? 0 : -errno);
const adminOrRaw = ({ limits }: OptionTarget): number => (limits.netAdmin || limits.netRaw ? 0 : -ERRNO.EPERM);

/** Bytes as getsockopt tells them: doubled, for the kernel's own needs, and at least the minimum. */
const doubled = (value: number, min: number): number => Math.max(Math.min(value, INT_MAX >> 1) * 2, min);
/** A negative size counts as an enormous one: min_t(u32, ...). */
const upTo = (value: number, max: number): number => Math.min(value >>> 0, max);

const sendBuffer: OptionPart = {
  readAs: SO_SNDBUF,
  ofFlow: true,
  initial: ({ socket }) => socket.endpoint.table.get(socket.id, SNDBUF),
  effect(target, value) {
    target.socket.boundSends(value);
  },
};
const receiveBuffer: OptionPart = {
  readAs: SO_RCVBUF,
  ofFlow: true,
  initial: ({ socket }) => socket.endpoint.table.rcvbuf[socket.id],
  effect({ socket }, value) {
    socket.endpoint.table.rcvbuf[socket.id] = value;
  },
};
/** Privileged: beyond the sysctl. It is told under the other name. */
const force = (normal: (value: number) => number): OptionPart => ({
  ...number({ check: (_, target) => admin(target, ERRNO.EPERM), normal }),
  get: () => -ERRNO.ENOPROTOOPT,
});

/** Arrival times, from the XDP hook: on a wire without a kernel there are none. */
const timestamps: OptionPart = {
  effect(target, value) {
    changeSteeredFlag(target, F_TIMESTAMP, value !== 0);
  },
};

/** struct timeval in 64-bit fields, kept in microseconds. */
const timeout: OptionPart = {
  ...ENGINE,
  set(this: Option, target, bytes) {
    if (bytes.length < TIMEVAL_BYTES) return -ERRNO.EINVAL;
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const seconds = Number(view.getBigInt64(0, true));
    const microseconds = Number(view.getBigInt64(8, true));
    if (microseconds < 0 || microseconds >= MICROSECONDS) return -ERRNO.EDOM;
    target.store(this, seconds < 0 ? 0 : seconds * MICROSECONDS + microseconds);
    return 0;
  },
  get(this: Option, target, out) {
    const value = target.value(this);
    const words = BigInt64Array.of(BigInt(Math.floor(value / MICROSECONDS)), BigInt(value % MICROSECONDS));
    return writeBytes(out, new Uint8Array(words.buffer));
  },
};

/** struct linger { int onoff; int seconds }, kept as seconds * 2 + onoff: UDP closes at once all the same. */
const linger: OptionPart = {
  set(this: Option, target, bytes) {
    if (bytes.length < LINGER_BYTES) return -ERRNO.EINVAL;
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const on = view.getInt32(0, true) !== 0;
    const before = Math.floor(target.value(this) / 2);
    target.store(this, on ? (view.getInt32(4, true) >>> 0) * 2 + 1 : before * 2);
    return 0;
  },
  get(this: Option, target, out) {
    const value = target.value(this);
    return writeBytes(out, new Uint8Array(Int32Array.of(value % 2, Math.floor(value / 2)).buffer));
  },
};

const memoryInfo: OptionPart = {
  ...refused(ERRNO.ENOPROTOOPT, ERRNO.ENOPROTOOPT),
  get({ socket }, out) {
    const { table } = socket.endpoint;
    const words = new Uint32Array(MEMINFO_WORDS);
    for (let l = 0; l < table.lcores; l++) {
      words[MEMINFO_RMEM_ALLOC] += table.charged[l][socket.id] - table.credited[l][socket.id];
    }
    words[MEMINFO_RCVBUF] = table.rcvbuf[socket.id];
    words[MEMINFO_WMEM_ALLOC] = socket.sendQueue;
    words[MEMINFO_SNDBUF] = table.get(socket.id, SNDBUF);
    words[MEMINFO_DROPS] = socket.drops;
    return writeBytes(out, new Uint8Array(words.buffer));
  },
};

/** By name: "" unbinds. A wire without a kernel has no names. */
const bindToName: OptionPart = {
  readAs: SO_BINDTOIFINDEX,
  set(target, bytes) {
    if (bytes.length > 0 && bytes[0] !== 0) return -ERRNO.ENODEV;
    bindToDevice(target, 0);
    return 0;
  },
  get: ({ socket }) => (socket.endpoint.table.get(socket.id, DEVICE) === 0 ? 0 : -ERRNO.ENODEV),
  effect: bindToDevice,
};

const bindToIndex: OptionPart = {
  ...number({
    check(value, target) {
      if (value < 0) return -ERRNO.EINVAL;
      const bound = target.socket.endpoint.table.get(target.socket.id, DEVICE) !== 0;
      return bound && !target.limits.netRaw ? -ERRNO.EPERM : 0;
    },
  }),
  initial: ({ socket }) => socket.endpoint.table.get(socket.id, DEVICE),
  effect: bindToDevice,
};

export const SOCKET_LEVEL: readonly Option[] = [
  so(SO_DEBUG, "SO_DEBUG", flag({ check: (value, target) => (value === 0 ? 0 : admin(target, ERRNO.EACCES)) })),
  so(SO_REUSEADDR, "SO_REUSEADDR", flag(), tableFlag(F_REUSEADDR), {
    initial: (target) => flagOf(target, F_REUSEADDR),
  }),
  so(
    SO_TYPE,
    "SO_TYPE",
    ENGINE,
    readOnly(() => SOCK_DGRAM),
  ),
  so(
    SO_ERROR,
    "SO_ERROR",
    ENGINE,
    readOnly(({ socket }) => socket.takeError()),
  ),
  so(SO_DONTROUTE, "SO_DONTROUTE", KERNEL_SENDS),
  so(SO_BROADCAST, "SO_BROADCAST", flag(), tableFlag(F_BROADCAST)),
  so(
    SO_SNDBUF,
    "SO_SNDBUF",
    number({ normal: (value, { limits }) => doubled(upTo(value, limits.sndbufMax), SNDBUF_MIN) }),
    sendBuffer,
  ),
  so(
    SO_RCVBUF,
    "SO_RCVBUF",
    number({ normal: (value, { limits }) => doubled(upTo(value, limits.rcvbufMax), RCVBUF_MIN) }),
    receiveBuffer,
  ),
  so(SO_KEEPALIVE, "SO_KEEPALIVE", flag()),
  so(SO_OOBINLINE, "SO_OOBINLINE", flag()),
  so(SO_NO_CHECK, "SO_NO_CHECK", flag(), sendFlag(4, TX_NO_CHECK)),
  so(
    SO_PRIORITY,
    "SO_PRIORITY",
    number({ check: (value, target) => (value >= 0 && value <= PRIORITY_MAX ? 0 : adminOrRaw(target)) }),
    KERNEL_SENDS,
  ),
  so(SO_LINGER, "SO_LINGER", linger),
  so(SO_BSDCOMPAT, "SO_BSDCOMPAT", number({ normal: () => 0 })),
  so(SO_REUSEPORT, "SO_REUSEPORT", flag(), tableFlag(F_REUSEPORT), {
    initial: (target) => flagOf(target, F_REUSEPORT),
  }),
  so(SO_PASSCRED, "SO_PASSCRED", refused(ERRNO.EOPNOTSUPP, ERRNO.EOPNOTSUPP)),
  so(SO_RCVLOWAT, "SO_RCVLOWAT", number({ normal: (value) => (value < 0 ? INT_MAX : value || 1) }), { initial: 1 }),
  so(
    SO_SNDLOWAT,
    "SO_SNDLOWAT",
    readOnly(() => 1),
  ),
  so(SO_RCVTIMEO, "SO_RCVTIMEO", timeout),
  so(SO_SNDTIMEO, "SO_SNDTIMEO", timeout),
  so(SO_BINDTODEVICE, "SO_BINDTODEVICE", bindToName),
  so(SO_DETACH_FILTER, "SO_DETACH_FILTER", refused(ERRNO.ENOENT, ERRNO.ENOPROTOOPT)),
  so(SO_TIMESTAMP, "SO_TIMESTAMP", timestamps),
  so(
    SO_ACCEPTCONN,
    "SO_ACCEPTCONN",
    ENGINE,
    readOnly(() => 0),
  ),
  so(
    SO_SNDBUFFORCE,
    "SO_SNDBUFFORCE",
    sendBuffer,
    force((value) => doubled(Math.max(value, 0), SNDBUF_MIN)),
  ),
  so(
    SO_RCVBUFFORCE,
    "SO_RCVBUFFORCE",
    receiveBuffer,
    force((value) => doubled(Math.max(value, 0), RCVBUF_MIN)),
  ),
  so(SO_PASSSEC, "SO_PASSSEC", refused(ERRNO.EOPNOTSUPP, ERRNO.EOPNOTSUPP)),
  so(SO_TIMESTAMPNS, "SO_TIMESTAMPNS", timestamps),
  so(SO_MARK, "SO_MARK", number({ check: (_, target) => adminOrRaw(target) }), KERNEL_SENDS),
  so(
    SO_PROTOCOL,
    "SO_PROTOCOL",
    ENGINE,
    readOnly(() => IPPROTO_UDP),
  ),
  so(
    SO_DOMAIN,
    "SO_DOMAIN",
    ENGINE,
    readOnly(({ socket }) => socket.endpoint.table.get(socket.id, FAMILY)),
  ),
  so(SO_RXQ_OVFL, "SO_RXQ_OVFL", OF_FLOW, flag(), tableFlag(F_RXQ_OVFL), {
    initial: (target) => flagOf(target, F_RXQ_OVFL),
  }),
  so(SO_NOFCS, "SO_NOFCS", flag()),
  so(SO_MAX_PACING_RATE, "SO_MAX_PACING_RATE", KERNEL_SENDS, { initial: -1 }),
  so(SO_INCOMING_CPU, "SO_INCOMING_CPU", ENGINE, number(), {
    initial: ({ socket }) => socket.incomingCpu,
    set(this: Option, { socket }, bytes) {
      if (bytes.length < 4) return -ERRNO.EINVAL;
      socket.incomingCpu = new DataView(bytes.buffer, bytes.byteOffset).getInt32(0, true);
      return 0;
    },
  }),
  so(SO_MEMINFO, "SO_MEMINFO", ENGINE, memoryInfo),
  so(
    SO_INCOMING_NAPI_ID,
    "SO_INCOMING_NAPI_ID",
    ENGINE,
    readOnly(({ socket }) => socket.incomingNapiId),
  ),
  so(SO_COOKIE, "SO_COOKIE", {
    ...refused(ERRNO.ENOPROTOOPT, ERRNO.ENOPROTOOPT),
    get({ socket }, out) {
      if (out.length < 8) return -ERRNO.EINVAL;
      return writeBytes(out, new Uint8Array(Int32Array.of(socket.id + 1, socket.generation).buffer));
    },
  }),
  so(SO_BINDTOIFINDEX, "SO_BINDTOIFINDEX", bindToIndex),
  so(SO_TIMESTAMP_NEW, "SO_TIMESTAMP_NEW", timestamps),
  so(SO_TIMESTAMPNS_NEW, "SO_TIMESTAMPNS_NEW", timestamps),
  so(SO_NETNS_COOKIE, "SO_NETNS_COOKIE"),
  so(SO_BUF_LOCK, "SO_BUF_LOCK", number({ check: (value) => ((value & ~BUF_LOCK_MASK) === 0 ? 0 : -ERRNO.EINVAL) })),
  so(SO_TXREHASH, "SO_TXREHASH", refused(ERRNO.EOPNOTSUPP, ERRNO.EOPNOTSUPP)),
  so(SO_PASSPIDFD, "SO_PASSPIDFD", refused(ERRNO.EOPNOTSUPP, ERRNO.EOPNOTSUPP)),
  so(SO_PASSRIGHTS, "SO_PASSRIGHTS", refused(ERRNO.EOPNOTSUPP, ERRNO.EOPNOTSUPP)),
];
