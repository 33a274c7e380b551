/** IPPROTO_TCP: do_tcp_setsockopt and do_tcp_getsockopt, net/ipv4/tcp.c of 6.18. tcp(7). */
import { ERRNO } from "af-xdp-bindings";
import * as numbers from "../options.ts";
import { CONGESTION_NAMES } from "../tcp/config.ts";
import { OPTIONS } from "../tcp/sockopts.ts";
import { CLOSED, LISTEN } from "../tcp/tcb.ts";
import { flag, number, ranged, readInt, readOnly, strictFlag, writeBytes } from "./rules.ts";
import { asInitial, streamOption, toCore } from "./stream-rules.ts";
import type { StreamOption, StreamPart, StreamTarget } from "./stream-target.ts";

const { SOL_TCP } = numbers;
const INT_BYTES = 4;
/** TCP_CA_NAME_MAX. */
const NAME_BYTES = 16;
/** Bounds of include/net/tcp.h. */
const KEEP_SECONDS_MAX = 32_767;
const COUNT_MAX = 127;
const LINGER2_MAX_S = 120;
const FIN_TIMEOUT_S = 60;
const MSS_LEAST = 88;
const MSS_MOST = 32_767;
/** SOCK_MIN_RCVBUF / 2. */
const CLAMP_LEAST = 1152;
const RTO_MAX_LEAST_MS = 1000;
const RTO_MAX_MOST_MS = 120_000;
const JIFFY_RTO_US = 200_000;
const TX_DELAY_END = 1 << 28;
/** TCP_FASTOPEN_KEY_LENGTH: one key, or two. */
const KEY_BYTES = 16;

const tcp = streamOption(SOL_TCP);
const isIdle = ({ state }: StreamTarget): boolean => state === CLOSED || state === LISTEN;

const maxSegment: StreamPart = {
  ...number<StreamTarget>({
    check: (value) => (value !== 0 && (value < MSS_LEAST || value > MSS_MOST) ? -ERRNO.EINVAL : 0),
  }),
  ...toCore(OPTIONS.TCP_MAXSEG),
  get(this: StreamOption, target, out) {
    const value = (isIdle(target) && target.value(this)) || target.segment;
    return writeBytes(out, intBytes(value));
  },
};

const windowClamp: StreamPart = {
  initial: (target) => (target.hasLived ? target.getCore(OPTIONS.TCP_WINDOW_CLAMP) : 0),
  set(this: StreamOption, target, bytes) {
    if (bytes.length < INT_BYTES) return -ERRNO.EINVAL;
    const value = readInt(bytes, SOL_TCP);
    if (value === 0 && target.state !== CLOSED) return -ERRNO.EINVAL;
    const clamp = value === 0 ? 0 : Math.max(value, CLAMP_LEAST);
    target.store(this, clamp);
    target.setCore(OPTIONS.TCP_WINDOW_CLAMP, clamp);
    return 0;
  },
  get(this: StreamOption, target, out) {
    const isOpen = target.hasLived && target.state !== CLOSED;
    return writeBytes(out, intBytes(isOpen ? target.getCore(OPTIONS.TCP_WINDOW_CLAMP) : target.value(this)));
  },
};

/** Quick ACKs come and go by themselves while there is a connection. */
const quickAck: StreamPart = {
  ...number<StreamTarget>(),
  ...toCore(OPTIONS.TCP_QUICKACK),
  get: (target, out) => writeBytes(out, intBytes(target.getCore(OPTIONS.TCP_QUICKACK))),
};

const congestion: StreamPart = {
  set(target, bytes) {
    if (bytes.length < 1) return -ERRNO.EINVAL;
    const name = textOf(bytes.subarray(0, NAME_BYTES - 1));
    const index = (CONGESTION_NAMES as readonly string[]).indexOf(name);
    return index < 0 ? -ERRNO.ENOENT : target.setCore(OPTIONS.TCP_CONGESTION, index);
  },
  get(target, out) {
    const bytes = new Uint8Array(NAME_BYTES);
    bytes.set(new TextEncoder().encode(CONGESTION_NAMES[target.getCore(OPTIONS.TCP_CONGESTION)]));
    return writeBytes(out, bytes);
  },
};

/** Seconds as so many retransmissions of a SYN-ACK take. */
const deferAccept: StreamPart = {
  ...number<StreamTarget>(),
  ...toCore(OPTIONS.TCP_DEFER_ACCEPT),
  get: (target, out) => writeBytes(out, intBytes(target.getCore(OPTIONS.TCP_DEFER_ACCEPT))),
};

const linger2: StreamPart = {
  ...number<StreamTarget>({
    normal: (value) => (value < 0 ? -1 : value > LINGER2_MAX_S ? LINGER2_MAX_S : value || FIN_TIMEOUT_S),
  }),
  ...toCore(OPTIONS.TCP_LINGER2),
  initial: FIN_TIMEOUT_S,
};

const info: StreamPart = {
  ...readOnly<StreamTarget>(() => 0),
  get: (target, out) => writeBytes(out, target.tcpInfo()),
};

/** tcp_can_repair_sock() first, and then there are no such keys. */
const aoRepair = ({ limits, listening }: StreamTarget): number =>
  limits.netAdmin && !listening ? -ERRNO.ENOPROTOOPT : -ERRNO.EPERM;

/** Empty, and not to be set. */
const nothing: StreamPart = { ...readOnly<StreamTarget>(() => 0), get: () => 0 };

/** An int that is wanted whole first. */
const whole = (set: number, get: (out: Uint8Array) => number): StreamPart => ({
  set: (_target, bytes) => (bytes.length < INT_BYTES ? -ERRNO.EINVAL : -set),
  get: (_target, out) => get(out),
});

const range =
  (low: number, high: number) =>
  (value: number): number =>
    value < low || value > high ? -ERRNO.EINVAL : 0;

/** From two of the kernel's ticks on. */
const shortTime = (value: number, { limits }: StreamTarget): number =>
  value <= limits.tickUs || value > JIFFY_RTO_US ? -ERRNO.EINVAL : 0;

export const TCP_LEVEL: readonly StreamOption[] = [
  tcp(numbers.TCP_NODELAY, "TCP_NODELAY", flag(), toCore(OPTIONS.TCP_NODELAY)),
  tcp(numbers.TCP_MAXSEG, "TCP_MAXSEG", maxSegment),
  tcp(numbers.TCP_CORK, "TCP_CORK", flag(), toCore(OPTIONS.TCP_CORK)),
  tcp(numbers.TCP_KEEPIDLE, "TCP_KEEPIDLE", ranged(1, KEEP_SECONDS_MAX), toCore(OPTIONS.TCP_KEEPIDLE), {
    initial: (target) => target.getCore(OPTIONS.TCP_KEEPIDLE),
  }),
  tcp(numbers.TCP_KEEPINTVL, "TCP_KEEPINTVL", ranged(1, KEEP_SECONDS_MAX), toCore(OPTIONS.TCP_KEEPINTVL), {
    initial: (target) => target.getCore(OPTIONS.TCP_KEEPINTVL),
  }),
  tcp(numbers.TCP_KEEPCNT, "TCP_KEEPCNT", ranged(1, COUNT_MAX), toCore(OPTIONS.TCP_KEEPCNT), {
    initial: (target) => target.getCore(OPTIONS.TCP_KEEPCNT),
  }),
  tcp(numbers.TCP_SYNCNT, "TCP_SYNCNT", ranged(1, COUNT_MAX), toCore(OPTIONS.TCP_SYNCNT), {
    initial: (target) => target.getCore(OPTIONS.TCP_SYNCNT),
  }),
  tcp(numbers.TCP_LINGER2, "TCP_LINGER2", linger2),
  tcp(numbers.TCP_DEFER_ACCEPT, "TCP_DEFER_ACCEPT", deferAccept),
  tcp(numbers.TCP_WINDOW_CLAMP, "TCP_WINDOW_CLAMP", windowClamp),
  tcp(numbers.TCP_INFO, "TCP_INFO", info),
  tcp(numbers.TCP_QUICKACK, "TCP_QUICKACK", quickAck),
  tcp(numbers.TCP_CONGESTION, "TCP_CONGESTION", congestion),
  tcp(
    numbers.TCP_MD5SIG,
    "TCP_MD5SIG",
    whole(ERRNO.EINVAL, () => -ERRNO.ENOPROTOOPT),
  ),
  tcp(
    numbers.TCP_MD5SIG_EXT,
    "TCP_MD5SIG_EXT",
    whole(ERRNO.EINVAL, () => -ERRNO.ENOPROTOOPT),
  ),
  tcp(
    numbers.TCP_THIN_LINEAR_TIMEOUTS,
    "TCP_THIN_LINEAR_TIMEOUTS",
    number({ check: range(0, 1) }),
    toCore(OPTIONS.TCP_THIN_LINEAR_TIMEOUTS),
  ),
  // Without effect in the kernel, too.
  tcp(numbers.TCP_THIN_DUPACK, "TCP_THIN_DUPACK", number({ check: range(0, 1), normal: () => 0 })),
  tcp(
    numbers.TCP_USER_TIMEOUT,
    "TCP_USER_TIMEOUT",
    number({ check: range(0, 0x7fffffff) }),
    toCore(OPTIONS.TCP_USER_TIMEOUT),
  ),
  tcp(numbers.TCP_REPAIR, "TCP_REPAIR", asInitial({ check: range(-1, 1) })),
  tcp(
    numbers.TCP_FASTOPEN,
    "TCP_FASTOPEN",
    asInitial({ check: (value, target) => (value < 0 || !isIdle(target) ? -ERRNO.EINVAL : 0) }),
  ),
  tcp(
    numbers.TCP_TIMESTAMP,
    "TCP_TIMESTAMP",
    whole(ERRNO.EPERM, (out) => writeBytes(out, intBytes(0))),
  ),
  tcp(numbers.TCP_NOTSENT_LOWAT, "TCP_NOTSENT_LOWAT", number(), toCore(OPTIONS.TCP_NOTSENT_LOWAT)),
  // Reno and CUBIC tell nothing of themselves.
  tcp(numbers.TCP_CC_INFO, "TCP_CC_INFO", nothing),
  tcp(numbers.TCP_SAVE_SYN, "TCP_SAVE_SYN", asInitial({ check: range(0, 2) })),
  tcp(numbers.TCP_SAVED_SYN, "TCP_SAVED_SYN", nothing),
  tcp(
    numbers.TCP_FASTOPEN_CONNECT,
    "TCP_FASTOPEN_CONNECT",
    asInitial({ check: (value, { state }) => range(0, 1)(value) || (state === CLOSED ? 0 : -ERRNO.EINVAL) }),
  ),
  tcp(numbers.TCP_ULP, "TCP_ULP", {
    set: (_target, bytes) => (bytes.length < 1 ? -ERRNO.EINVAL : -ERRNO.ENOENT),
    get: () => 0,
  }),
  tcp(numbers.TCP_FASTOPEN_KEY, "TCP_FASTOPEN_KEY", {
    set: (_target, bytes) =>
      bytes.length === KEY_BYTES || bytes.length === 2 * KEY_BYTES ? -ERRNO.EOPNOTSUPP : -ERRNO.EINVAL,
    get: () => 0,
  }),
  tcp(
    numbers.TCP_FASTOPEN_NO_COOKIE,
    "TCP_FASTOPEN_NO_COOKIE",
    asInitial({ check: (value, target) => range(0, 1)(value) || (isIdle(target) ? 0 : -ERRNO.EINVAL) }),
  ),
  tcp(
    numbers.TCP_ZEROCOPY_RECEIVE,
    "TCP_ZEROCOPY_RECEIVE",
    whole(ERRNO.ENOPROTOOPT, () => -ERRNO.EINVAL),
  ),
  tcp(numbers.TCP_INQ, "TCP_INQ", strictFlag()),
  tcp(numbers.TCP_TX_DELAY, "TCP_TX_DELAY", asInitial({ check: range(0, TX_DELAY_END - 1) })),
  tcp(
    numbers.TCP_IS_MPTCP,
    "TCP_IS_MPTCP",
    readOnly(() => 0),
  ),
  tcp(numbers.TCP_RTO_MAX_MS, "TCP_RTO_MAX_MS", asInitial({ check: range(RTO_MAX_LEAST_MS, RTO_MAX_MOST_MS) }), {
    initial: RTO_MAX_MOST_MS,
  }),
  tcp(numbers.TCP_RTO_MIN_US, "TCP_RTO_MIN_US", asInitial({ check: shortTime }), {
    initial: JIFFY_RTO_US,
  }),
  tcp(numbers.TCP_DELACK_MAX_US, "TCP_DELACK_MAX_US", asInitial({ check: shortTime }), {
    initial: JIFFY_RTO_US,
  }),
  ...[
    [numbers.TCP_AO_ADD_KEY, "TCP_AO_ADD_KEY"],
    [numbers.TCP_AO_DEL_KEY, "TCP_AO_DEL_KEY"],
    [numbers.TCP_AO_INFO, "TCP_AO_INFO"],
    [numbers.TCP_AO_GET_KEYS, "TCP_AO_GET_KEYS"],
  ].map(([name, label]) =>
    tcp(
      name as number,
      label as string,
      whole(ERRNO.ENOPROTOOPT, () => -ERRNO.ENOPROTOOPT),
    ),
  ),
  tcp(numbers.TCP_AO_REPAIR, "TCP_AO_REPAIR", {
    set: (target, bytes) => (bytes.length < INT_BYTES ? -ERRNO.EINVAL : aoRepair(target)),
    get: aoRepair,
  }),
];

function intBytes(value: number): Uint8Array {
  return new Uint8Array(Int32Array.of(value).buffer);
}

/** Up to the first zero byte. */
function textOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}
