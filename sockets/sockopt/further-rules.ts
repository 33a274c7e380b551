/**
 * Options of SOL_SOCKET that socket(7) does not tell of and sockets of every family have: net/core/sock.c. Those that ask for what
 * nothing here can do (stamps of transmission or of hardware, sending at a time or without a copy) are refused with EOPNOTSUPP:
 * whoever had set them would wait for reports that never come. UDP sockets beside a kernel have its stamps (socket-level.ts).
 */
import { ERRNO } from "af-xdp-bindings";
import { SKF_AD_MAX } from "../bpf/opcodes.ts";
import {
  SO_BPF_EXTENSIONS,
  SO_BUSY_POLL_BUDGET,
  SO_CNX_ADVICE,
  SO_DEVMEM_DONTNEED,
  SO_PREFER_BUSY_POLL,
  SO_RCVMARK,
  SO_RCVPRIORITY,
  SO_RESERVE_MEM,
  SO_TIMESTAMPING,
  SO_TIMESTAMPING_NEW,
  SO_TXTIME,
  SO_WIFI_STATUS,
  SO_ZEROCOPY,
  SOL_SOCKET,
} from "../options.ts";
import {
  ENGINE,
  flag,
  number,
  type Option,
  type OptionPart,
  type OptionTarget,
  option,
  readInt,
  readOnly,
  refused,
  writeBytes,
} from "./rules.ts";

const AF_UNIX = 1;
const INT_BYTES = 4;
/** NAPI_POLL_WEIGHT of a socket, and the most that fits. */
const BUDGET_DEFAULT = 8;
const BUDGET_MAX = 0xffff;
/** struct so_timestamping { int flags; int bind_phc }, struct sock_txtime { clockid_t clockid; u32 flags }. */
const PAIR_BYTES = 8;
/** SOF_TXTIME_FLAGS_MASK. */
const TXTIME_FLAGS = 3;
const CLOCK_MONOTONIC = 1;

const further = (name: number, label: string, ...parts: OptionPart[]): Option =>
  option(SOL_SOCKET, name, label, ENGINE, ...parts);

const admin = (target: OptionTarget): number => (target.limits.netAdmin ? 0 : -ERRNO.EPERM);
const adminOrRaw = ({ limits }: OptionTarget): number => (limits.netAdmin || limits.netRaw ? 0 : -ERRNO.EPERM);

/** SOF_TIMESTAMPING_ flags: those there are, and two that need others. */
const STAMP_FLAGS = (1 << 19) - 1;
const OPT_ID = 1 << 7;
const OPT_TSONLY = 1 << 11;
const OPT_STATS = 1 << 12;
const OPT_ID_TCP = 1 << 16;

const noStamps: OptionPart = {
  set(_target, bytes) {
    if (bytes.length < INT_BYTES) return -ERRNO.EINVAL;
    const flags = readInt(bytes, SOL_SOCKET);
    if ((flags & ~STAMP_FLAGS) !== 0) return -ERRNO.EINVAL;
    if ((flags & OPT_ID_TCP) !== 0 && (flags & OPT_ID) === 0) return -ERRNO.EINVAL;
    if ((flags & OPT_STATS) !== 0 && (flags & OPT_TSONLY) === 0) return -ERRNO.EINVAL;
    return flags === 0 ? 0 : -ERRNO.EOPNOTSUPP;
  },
  get: (_target, out) => writeBytes(out, new Uint8Array(PAIR_BYTES)),
};

/** Of UDP and TCP alone. */
const noZeroCopy: OptionPart = {
  set({ domain }, bytes) {
    if (bytes.length < INT_BYTES) return -ERRNO.EINVAL;
    if (domain === AF_UNIX) return -ERRNO.EOPNOTSUPP;
    const value = readInt(bytes, SOL_SOCKET);
    if (value < 0 || value > 1) return -ERRNO.EINVAL;
    return value === 0 ? 0 : -ERRNO.EOPNOTSUPP;
  },
  get: (_target, out) => writeBytes(out, new Uint8Array(INT_BYTES)),
};

const noTime: OptionPart = {
  set({ limits }, bytes) {
    if (bytes.length !== PAIR_BYTES) return -ERRNO.EINVAL;
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    if ((view.getUint32(4, true) & ~TXTIME_FLAGS) !== 0) return -ERRNO.EINVAL;
    return view.getInt32(0, true) !== CLOCK_MONOTONIC && !limits.netAdmin ? -ERRNO.EPERM : -ERRNO.EOPNOTSUPP;
  },
  get: (_target, out) => writeBytes(out, new Uint8Array(PAIR_BYTES)),
};

/** Set it may be, and is never told. */
const untold = (part: OptionPart): OptionPart => ({ ...part, get: () => -ERRNO.ENOPROTOOPT });

export const FURTHER: readonly Option[] = [
  // Ethernet has no such status to report.
  further(SO_WIFI_STATUS, "SO_WIFI_STATUS", flag()),
  further(
    SO_BPF_EXTENSIONS,
    "SO_BPF_EXTENSIONS",
    readOnly(() => SKF_AD_MAX),
  ),
  // Advice to look for another route, which is looked for anyhow.
  further(SO_CNX_ADVICE, "SO_CNX_ADVICE", untold(number())),
  further(SO_TIMESTAMPING, "SO_TIMESTAMPING", noStamps),
  further(SO_TIMESTAMPING_NEW, "SO_TIMESTAMPING_NEW", noStamps),
  further(SO_ZEROCOPY, "SO_ZEROCOPY", noZeroCopy),
  further(SO_TXTIME, "SO_TXTIME", noTime),
  // Hints to the kernel's own polling; the engine's queues have theirs by its option `poll`.
  further(
    SO_PREFER_BUSY_POLL,
    "SO_PREFER_BUSY_POLL",
    flag({ check: (value, target) => (value === 0 ? 0 : admin(target)) }),
  ),
  further(
    SO_BUSY_POLL_BUDGET,
    "SO_BUSY_POLL_BUDGET",
    { initial: BUDGET_DEFAULT },
    untold({
      set(this: Option, target, bytes) {
        if (bytes.length < INT_BYTES) return -ERRNO.EINVAL;
        const value = readInt(bytes, SOL_SOCKET);
        if (value > target.value(this) && !target.limits.netAdmin) return -ERRNO.EPERM;
        if (value < 0 || value > BUDGET_MAX) return -ERRNO.EINVAL;
        target.store(this, value);
        return 0;
      },
    }),
  ),
  // Memory of a cgroup, reserved: the kernel has it for sockets that are accounted to one alone.
  further(
    SO_RESERVE_MEM,
    "SO_RESERVE_MEM",
    number({ check: (value) => (value < 0 ? -ERRNO.EINVAL : -ERRNO.EOPNOTSUPP) }),
  ),
  further(SO_RCVMARK, "SO_RCVMARK", flag({ check: (_, target) => adminOrRaw(target) })),
  further(SO_RCVPRIORITY, "SO_RCVPRIORITY", flag({ check: (_, target) => adminOrRaw(target) })),
  further(SO_DEVMEM_DONTNEED, "SO_DEVMEM_DONTNEED", refused(ERRNO.EBADF, ERRNO.ENOPROTOOPT)),
];
