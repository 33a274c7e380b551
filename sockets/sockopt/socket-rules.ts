/**
 * The rules of SOL_SOCKET that sockets of every family share: sk_setsockopt and sk_getsockopt, net/core/sock.c. socket(7).
 * What an option does beyond being kept, and the options that a family has alone, are the family's.
 */
import { ERRNO } from "af-xdp-bindings";
import {
  SO_ACCEPTCONN,
  SO_BROADCAST,
  SO_BSDCOMPAT,
  SO_BUF_LOCK,
  SO_DEBUG,
  SO_DOMAIN,
  SO_ERROR,
  SO_KEEPALIVE,
  SO_LINGER,
  SO_MARK,
  SO_NO_CHECK,
  SO_NOFCS,
  SO_OOBINLINE,
  SO_PRIORITY,
  SO_PROTOCOL,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_RCVLOWAT,
  SO_RCVTIMEO,
  SO_RCVTIMEO_NEW,
  SO_REUSEADDR,
  SO_RXQ_OVFL,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SO_SNDLOWAT,
  SO_SNDTIMEO,
  SO_SNDTIMEO_NEW,
  SO_TXREHASH,
  SO_TYPE,
  SOL_SOCKET,
} from "../options.ts";
import { FURTHER } from "./further-rules.ts";
import {
  ENGINE,
  flag,
  number,
  OF_FLOW,
  type Option,
  type OptionPart,
  type OptionTarget,
  option,
  readInt,
  readOnly,
  refused,
  writeBytes,
  writeInt,
} from "./rules.ts";

const INT_MAX = 0x7fffffff;
const LONG_MAX = 0x7fffffffffffffffn;
const INT_BYTES = 4;
/** SOCK_MIN_SNDBUF and SOCK_MIN_RCVBUF of 64-bit kernels (include/net/sock.h), doubled as getsockopt tells them. */
const SNDBUF_MIN = 4608;
const RCVBUF_MIN = 2304;
/** SO_PRIORITY that needs no privilege. */
const PRIORITY_MAX = 6;
const LINGER_BYTES = 8;
const TIMEVAL_BYTES = 16;
const MICROSECONDS = 1_000_000;
const MICROSECONDS_PER_MS = 1000;
/** SO_RCVTIMEO, SO_SNDTIMEO: the value of a socket whose calls give EAGAIN at once. */
const DOES_NOT_WAIT = -1;
const SOCK_SNDBUF_LOCK = 1;
const SOCK_RCVBUF_LOCK = 2;
const BUF_LOCK_MASK = SOCK_SNDBUF_LOCK | SOCK_RCVBUF_LOCK;

/** SK_MEMINFO_VARS: words of SO_MEMINFO (include/uapi/linux/sock_diag.h). */
export const MEMINFO_WORDS = 9;
export const MEMINFO_RMEM_ALLOC = 0;
export const MEMINFO_RCVBUF = 1;
export const MEMINFO_WMEM_ALLOC = 2;
export const MEMINFO_SNDBUF = 3;
export const MEMINFO_OPTMEM = 6;
export const MEMINFO_DROPS = 8;

const common = (name: number, label: string, ...parts: OptionPart[]): Option =>
  option(SOL_SOCKET, name, label, ...parts);

const admin = (target: OptionTarget, errno: number): number => (target.limits.netAdmin ? 0 : -errno);
const adminOrRaw = ({ limits }: OptionTarget): number => (limits.netAdmin || limits.netRaw ? 0 : -ERRNO.EPERM);

/** Bytes as getsockopt tells them: doubled, for the kernel's own needs, and at least the minimum. */
const doubled = (value: number, min: number): number => Math.max(Math.min(value, INT_MAX >> 1) * 2, min);
/** A negative size counts as an enormous one: min_t(u32, ...). */
const upTo = (value: number, max: number): number => Math.min(value >>> 0, max);

const bufferLock = common(
  SO_BUF_LOCK,
  "SO_BUF_LOCK",
  number({ check: (value) => ((value & ~BUF_LOCK_MASK) === 0 ? 0 : -ERRNO.EINVAL) }),
);

/** A buffer's size. Setting it locks it against what would adjust it by itself. */
function buffer(
  which: "sendBuffer" | "receiveBuffer",
  normal: (value: number, target: OptionTarget) => number,
  check: (target: OptionTarget) => number = () => 0,
): OptionPart {
  const lock = which === "sendBuffer" ? SOCK_SNDBUF_LOCK : SOCK_RCVBUF_LOCK;
  return {
    readAs: which === "sendBuffer" ? SO_SNDBUF : SO_RCVBUF,
    ofFlow: true,
    set(target, bytes) {
      if (bytes.length < INT_BYTES) return -ERRNO.EINVAL;
      const verdict = check(target);
      if (verdict < 0) return verdict;
      target[which] = normal(readInt(bytes, SOL_SOCKET), target);
      target.store(bufferLock, target.value(bufferLock) | lock);
      return 0;
    },
    get(this: Option, target, out) {
      // The privileged names may be set alone.
      return this.name === this.readAs ? writeInt(SOL_SOCKET, out, target[which]) : -ERRNO.ENOPROTOOPT;
    },
    effect(target, value) {
      target[which] = value;
    },
  };
}

const mayForce = (target: OptionTarget): number => admin(target, ERRNO.EPERM);

/**
 * struct timeval in 64-bit fields, kept in microseconds: whole ticks of the kernel's clock, as it keeps them. 0 is for ever, and
 * DOES_NOT_WAIT, which a negative time gives, is told as 0, too.
 */
const timeout: OptionPart = {
  ...ENGINE,
  set(this: Option, target, bytes) {
    if (bytes.length < TIMEVAL_BYTES) return -ERRNO.EINVAL;
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const seconds = Number(view.getBigInt64(0, true));
    const microseconds = Number(view.getBigInt64(8, true));
    if (microseconds < 0 || microseconds >= MICROSECONDS) return -ERRNO.EDOM;
    const { tickUs } = target.limits;
    const whole = seconds * MICROSECONDS + Math.ceil(microseconds / tickUs) * tickUs;
    target.store(this, seconds < 0 ? DOES_NOT_WAIT : whole);
    return 0;
  },
  get(this: Option, target, out) {
    const value = Math.max(target.value(this), 0);
    const words = BigInt64Array.of(BigInt(Math.floor(value / MICROSECONDS)), BigInt(value % MICROSECONDS));
    return writeBytes(out, new Uint8Array(words.buffer));
  },
};

const receiveTimeout = common(SO_RCVTIMEO, "SO_RCVTIMEO", timeout);
const sendTimeout = common(SO_SNDTIMEO, "SO_SNDTIMEO", timeout);

/** An option under the name that 32-bit programs have for its 64-bit times. */
const newName = (name: number, label: string, same: Option): Option =>
  common(name, label, ENGINE, {
    set: (target, bytes) => same.set(target, bytes),
    get: (target, out) => same.get(target, out),
  });

/** Milliseconds that a value of SO_RCVTIMEO or SO_SNDTIMEO stands for. */
export function timeoutMs(value: number): number {
  if (value === DOES_NOT_WAIT) return 0;
  return value === 0 ? Number.POSITIVE_INFINITY : value / MICROSECONDS_PER_MS;
}

/**
 * struct linger { int onoff; int seconds }, kept as seconds * 2 + onoff. The kernel takes a negative time for the longest there is,
 * MAX_SCHEDULE_TIMEOUT in its ticks, and tells the lower half of that in seconds.
 */
const linger: OptionPart = {
  set(this: Option, target, bytes) {
    if (bytes.length < LINGER_BYTES) return -ERRNO.EINVAL;
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const on = view.getInt32(0, true) !== 0;
    const before = Math.floor(target.value(this) / 2);
    const given = view.getInt32(4, true);
    const longest = Number(BigInt.asUintN(32, LONG_MAX / BigInt(MICROSECONDS / target.limits.tickUs)));
    const value = on ? (given < 0 ? longest : given) * 2 + 1 : before * 2;
    target.store(this, value);
    this.effect(target, value, LINGER_BYTES);
    return 0;
  },
  get(this: Option, target, out) {
    const value = target.value(this);
    return writeBytes(out, new Uint8Array(Int32Array.of(value % 2, Math.floor(value / 2)).buffer));
  },
};

const COMMON: readonly Option[] = [
  common(SO_DEBUG, "SO_DEBUG", flag({ check: (value, target) => (value === 0 ? 0 : admin(target, ERRNO.EACCES)) })),
  common(SO_REUSEADDR, "SO_REUSEADDR", flag()),
  common(
    SO_TYPE,
    "SO_TYPE",
    ENGINE,
    readOnly(({ type }) => type),
  ),
  common(
    SO_ERROR,
    "SO_ERROR",
    ENGINE,
    readOnly((target) => target.takeError()),
  ),
  common(SO_BROADCAST, "SO_BROADCAST", flag()),
  common(
    SO_SNDBUF,
    "SO_SNDBUF",
    buffer("sendBuffer", (value, { limits }) => doubled(upTo(value, limits.sndbufMax), SNDBUF_MIN)),
  ),
  common(
    SO_RCVBUF,
    "SO_RCVBUF",
    buffer("receiveBuffer", (value, { limits }) => doubled(upTo(value, limits.rcvbufMax), RCVBUF_MIN)),
  ),
  common(SO_KEEPALIVE, "SO_KEEPALIVE", flag()),
  common(SO_OOBINLINE, "SO_OOBINLINE", flag()),
  common(SO_NO_CHECK, "SO_NO_CHECK", flag()),
  common(
    SO_PRIORITY,
    "SO_PRIORITY",
    number({ check: (value, target) => (value >= 0 && value <= PRIORITY_MAX ? 0 : adminOrRaw(target)) }),
  ),
  common(SO_LINGER, "SO_LINGER", linger),
  common(SO_BSDCOMPAT, "SO_BSDCOMPAT", number({ normal: () => 0 })),
  common(SO_RCVLOWAT, "SO_RCVLOWAT", number({ normal: (value) => (value < 0 ? INT_MAX : value || 1) }), { initial: 1 }),
  common(
    SO_SNDLOWAT,
    "SO_SNDLOWAT",
    readOnly(() => 1),
  ),
  receiveTimeout,
  sendTimeout,
  newName(SO_RCVTIMEO_NEW, "SO_RCVTIMEO_NEW", receiveTimeout),
  newName(SO_SNDTIMEO_NEW, "SO_SNDTIMEO_NEW", sendTimeout),
  common(
    SO_ACCEPTCONN,
    "SO_ACCEPTCONN",
    ENGINE,
    readOnly(({ listening }) => Number(listening)),
  ),
  common(
    SO_SNDBUFFORCE,
    "SO_SNDBUFFORCE",
    buffer("sendBuffer", (value) => doubled(Math.max(value, 0), SNDBUF_MIN), mayForce),
  ),
  common(
    SO_RCVBUFFORCE,
    "SO_RCVBUFFORCE",
    buffer("receiveBuffer", (value) => doubled(Math.max(value, 0), RCVBUF_MIN), mayForce),
  ),
  common(SO_MARK, "SO_MARK", number({ check: (_, target) => adminOrRaw(target) })),
  common(
    SO_PROTOCOL,
    "SO_PROTOCOL",
    ENGINE,
    readOnly(({ protocol }) => protocol),
  ),
  common(
    SO_DOMAIN,
    "SO_DOMAIN",
    ENGINE,
    readOnly(({ domain }) => domain),
  ),
  common(SO_RXQ_OVFL, "SO_RXQ_OVFL", OF_FLOW, flag()),
  common(SO_NOFCS, "SO_NOFCS", flag()),
  bufferLock,
  common(SO_TXREHASH, "SO_TXREHASH", refused(ERRNO.EOPNOTSUPP, ERRNO.EOPNOTSUPP)),
];

/** A family's SOL_SOCKET: the common options, with what they do there, and the family's own. */
export function socketLevel<T extends OptionTarget>(
  effects: Readonly<Record<number, OptionPart<T>>>,
  ...own: readonly Option<T>[]
): readonly Option<T>[] {
  const adapted = (entry: Option): Option<T> =>
    effects[entry.name] === undefined ? entry : Object.assign({}, entry, effects[entry.name]);
  return [...COMMON.map(adapted), ...FURTHER.map(adapted), ...own];
}
