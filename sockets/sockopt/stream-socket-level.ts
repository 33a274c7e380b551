/** SOL_SOCKET of TCP sockets. socket(7). */
import { ERRNO, sys } from "af-xdp-bindings";
import {
  attachClassicTo,
  attachGroupClassic,
  attachGroupHandle,
  attachHandleTo,
  detachFrom,
  detachGroupProgram,
  filterCharge,
  filterOf,
} from "../bpf/attach.ts";
import * as numbers from "../options.ts";
import { DEVICE, INCOMING_CPU } from "../table.ts";
import { OPTIONS } from "../tcp/sockopts.ts";
import { interfaceIndex, interfaceName } from "./devices.ts";
import { readProgram, tellFilter } from "./filters.ts";
import { flag, number, readInt, readOnly, refused, writeBytes, writeInt } from "./rules.ts";
import {
  MEMINFO_DROPS,
  MEMINFO_OPTMEM,
  MEMINFO_RCVBUF,
  MEMINFO_SNDBUF,
  MEMINFO_WORDS,
  socketLevel,
} from "./socket-rules.ts";
import { streamOption, toCore } from "./stream-rules.ts";
import type { StreamOption, StreamPart, StreamTarget } from "./stream-target.ts";

const { SOL_SOCKET } = numbers;
const INT_BYTES = 4;
const LONG_BYTES = 8;
const SOCK_RCVBUF_LOCK = 2;
/** struct dmabuf_token, and MAX_DONTNEED_TOKENS of them. */
const TOKEN_BYTES = 8;
const TOKENS_MAX = 128;
/** struct ucred: nobody. */
const NO_CREDENTIALS = new Uint8Array(Int32Array.of(0, -1, -1).buffer);

const so = streamOption(SOL_SOCKET);
const portRules: StreamPart = { effect: (target) => target.portRulesChanged() };
const opNotSupported = refused(ERRNO.EOPNOTSUPP, ERRNO.EOPNOTSUPP);

/** The seconds of SO_LINGER go to the connection, -1 for none. */
const linger = (value: number): number => (value % 2 === 1 ? Math.min(Math.floor(value / 2), 2_000_000) : -1);

const lingering: StreamPart = {
  effect(target, value) {
    target.setCore(OPTIONS.SO_LINGER, linger(value));
  },
};

/** Bytes a second, an unsigned int or long; all bits set for no bound. A bound of more than an int is none here. */
const pacingRate: StreamPart = {
  initial: -1,
  set(this: StreamOption, target, bytes) {
    if (bytes.length < INT_BYTES) return -ERRNO.EINVAL;
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const isLong = bytes.length >= LONG_BYTES;
    const given = isLong ? Number(view.getBigUint64(0, true)) : view.getUint32(0, true);
    const value = given >= (isLong ? 2 ** 64 : 2 ** 32 - 1) ? -1 : given;
    target.store(this, value);
    target.setCore(OPTIONS.SO_MAX_PACING_RATE, value < 0 || value > 0x7fffffff ? 0 : value);
    return 0;
  },
  get(this: StreamOption, target, out) {
    const value = target.value(this);
    if (out.length < LONG_BYTES) {
      const word = value < 0 ? 2 ** 32 - 1 : Math.min(value, 2 ** 32 - 1);
      return writeBytes(out, new Uint8Array(Uint32Array.of(word).buffer));
    }
    return writeBytes(out, new Uint8Array(BigInt64Array.of(BigInt(value)).buffer));
  },
};

/** One clock of arrival for each, as set last. */
const stamp: StreamPart = flag();

/** A program of a reuseport group: the socket has a record in the table from now on. */
const groupProgram = (attach: typeof attachGroupClassic, classic: boolean): StreamPart => ({
  set(target, bytes) {
    const { endpoint } = target;
    const { isLocked } = target.place;
    const code = classic ? readProgram(bytes, isLocked) : handleIn(bytes, isLocked);
    if (typeof code === "number" && code < 0) return code;
    const id = target.needRecord();
    if (id < 0) return id;
    const result = classic
      ? attach(endpoint.table, id, code as Uint8Array, target.limits.optmemMax)
      : attachGroupHandle(endpoint.table, id, code as number, target.limits.optmemMax);
    endpoint.tableChanged();
    return result;
  },
});

/** The handle that a value is, or -errno; what is below 0 is none. */
function handleIn(bytes: Uint8Array, isLocked: boolean): number {
  if (bytes.length !== INT_BYTES) return -ERRNO.EINVAL;
  if (isLocked) return -ERRNO.EPERM;
  const handle = readInt(bytes, SOL_SOCKET);
  return handle < 0 ? -ERRNO.EBADF : handle;
}

/** Once locked, always locked. */
const lockFilter: StreamPart = flag({
  check: (value, { place }) => (value === 0 && place.isLocked ? -ERRNO.EPERM : 0),
});

const attachFilter: StreamPart = {
  set({ limits, place }, bytes) {
    const code = readProgram(bytes, place.isLocked);
    return typeof code === "number" ? code : attachClassicTo(place, code, limits.optmemMax);
  },
  get({ place }, out) {
    const code = filterOf(place);
    return typeof code === "number" ? code : tellFilter(code, out);
  },
};

const attachHandle: StreamPart = {
  set({ limits, place }, bytes) {
    const handle = handleIn(bytes, place.isLocked);
    return handle < 0 ? handle : attachHandleTo(place, handle, limits.optmemMax);
  },
};

const detachFilter: StreamPart = {
  set: ({ place }, bytes) => (bytes.length < INT_BYTES ? -ERRNO.EINVAL : detachFrom(place)),
};

const detachGroup: StreamPart = {
  set(target, bytes) {
    if (bytes.length < INT_BYTES) return -ERRNO.EINVAL;
    const id = target.needRecord();
    if (id < 0) return id;
    const result = detachGroupProgram(target.endpoint.table, id);
    target.endpoint.tableChanged();
    return result;
  },
};

const memoryInfo: StreamPart = {
  ...refused(ERRNO.ENOPROTOOPT, ERRNO.ENOPROTOOPT),
  get(target, out) {
    const words = new Uint32Array(MEMINFO_WORDS);
    words[MEMINFO_RCVBUF] = target.receiveBuffer;
    words[MEMINFO_SNDBUF] = target.sendBuffer;
    words[MEMINFO_OPTMEM] = filterCharge(target.place);
    words[MEMINFO_DROPS] = target.place.drops;
    return writeBytes(out, new Uint8Array(words.buffer));
  },
};

const peerName: StreamPart = {
  ...refused(ERRNO.ENOPROTOOPT, ERRNO.ENOPROTOOPT),
  get(target, out) {
    const name = target.peerName();
    if (name === null) return -ERRNO.ENOTCONN;
    return out.length > name.length ? -ERRNO.EINVAL : writeBytes(out, name);
  },
};

/** Nobody's: it is of AF_UNIX that credentials are known. */
const told = (bytes: Uint8Array): StreamPart => ({
  ...refused(ERRNO.ENOPROTOOPT, ERRNO.ENOPROTOOPT),
  get: (_target, out) => writeBytes(out, bytes),
});

const cookie: StreamPart = {
  ...refused(ERRNO.ENOPROTOOPT, ERRNO.ENOPROTOOPT),
  get: (target, out) => (out.length < 8 ? -ERRNO.EINVAL : writeBytes(out, target.cookie)),
};

/** Where the interface is looked up by name: the engine's own namespace. */
const deviceByName: StreamPart = {
  set(target, bytes) {
    const text = new TextDecoder().decode(bytes).replace(/\0.*$/s, "");
    const fd = target.needPlaceholder();
    const index = text === "" ? 0 : fd < 0 ? -ERRNO.ENODEV : interfaceIndex(fd, text);
    return index < 0 ? index : target.bindDevice(index);
  },
  get(target, out) {
    const index = target.recordWord(DEVICE);
    if (index === 0) return 0;
    const name = interfaceName(target.needPlaceholder(), index);
    return typeof name === "number" ? name : writeBytes(out, new TextEncoder().encode(`${name}\0`));
  },
};

const deviceByIndex: StreamPart = {
  set(target, bytes) {
    if (bytes.length < INT_BYTES) return -ERRNO.EINVAL;
    const index = readInt(bytes, SOL_SOCKET);
    return index < 0 ? -ERRNO.EINVAL : target.bindDevice(index);
  },
  get: (target, out) => writeInt(SOL_SOCKET, out, target.recordWord(DEVICE)),
};

export const STREAM_SOCKET_LEVEL: readonly StreamOption[] = socketLevel<StreamTarget>(
  {
    [numbers.SO_REUSEADDR]: portRules,
    [numbers.SO_KEEPALIVE]: toCore(OPTIONS.SO_KEEPALIVE),
    [numbers.SO_OOBINLINE]: toCore(OPTIONS.SO_OOBINLINE),
    // At most half of the buffer, which grows with it unless it was set (tcp_set_rcvlowat).
    [numbers.SO_RCVLOWAT]: {
      ...number({
        normal(value, target) {
          const isSet = (target.valueOf(SOL_SOCKET, numbers.SO_BUF_LOCK) & SOCK_RCVBUF_LOCK) !== 0;
          const most = (isSet ? target.receiveBuffer : target.endpoint.shared.tcp.receiveBufferMax) >> 1;
          return Math.min(value < 0 ? 0x7fffffff : value, most) || 1;
        },
      }),
      ...toCore(OPTIONS.SO_RCVLOWAT),
    },
    [numbers.SO_LINGER]: lingering,
    // With any of these the kernel sends the segments: policy routes, queueing disciplines and filters see them.
    [numbers.SO_PRIORITY]: toCore(OPTIONS.SO_PRIORITY),
    [numbers.SO_MARK]: toCore(OPTIONS.SO_MARK),
    // No timeout of ours changes what a flow is hashed by: off or on, it is as it is.
    [numbers.SO_TXREHASH]: {
      ...number({
        normal: (value) => (value === -1 ? 1 : value),
        check: (value) => (value < -1 || value > 1 ? -ERRNO.EINVAL : 0),
      }),
      initial: 1,
    },
    // Tokens of memory of a device, of which no socket here has any: as many as are told are given back, none.
    [numbers.SO_DEVMEM_DONTNEED]: {
      set: (_target, bytes) =>
        bytes.length % TOKEN_BYTES !== 0 || bytes.length > TOKENS_MAX * TOKEN_BYTES || bytes.length === 0
          ? -ERRNO.EINVAL
          : 0,
    },
  },
  so(numbers.SO_DONTROUTE, "SO_DONTROUTE", flag(), toCore(OPTIONS.SO_DONTROUTE)),
  so(numbers.SO_REUSEPORT, "SO_REUSEPORT", flag(), portRules),
  so(numbers.SO_PASSCRED, "SO_PASSCRED", opNotSupported),
  so(numbers.SO_BINDTODEVICE, "SO_BINDTODEVICE", deviceByName),
  so(numbers.SO_BINDTOIFINDEX, "SO_BINDTOIFINDEX", deviceByIndex),
  so(numbers.SO_TIMESTAMP, "SO_TIMESTAMP", stamp),
  so(numbers.SO_TIMESTAMPNS, "SO_TIMESTAMPNS", stamp),
  so(numbers.SO_TIMESTAMP_NEW, "SO_TIMESTAMP_NEW", stamp),
  so(numbers.SO_TIMESTAMPNS_NEW, "SO_TIMESTAMPNS_NEW", stamp),
  so(numbers.SO_PASSSEC, "SO_PASSSEC", opNotSupported),
  so(numbers.SO_PASSPIDFD, "SO_PASSPIDFD", opNotSupported),
  so(numbers.SO_PASSRIGHTS, "SO_PASSRIGHTS", opNotSupported),
  so(numbers.SO_PEEK_OFF, "SO_PEEK_OFF", {
    set(target, bytes) {
      if (bytes.length < INT_BYTES) return -ERRNO.EINVAL;
      target.peekOffset = readInt(bytes, SOL_SOCKET);
      return 0;
    },
    get: (target, out) => writeInt(SOL_SOCKET, out, target.peekOffset),
  }),
  so(numbers.SO_SELECT_ERR_QUEUE, "SO_SELECT_ERR_QUEUE", flag()),
  so(numbers.SO_BUSY_POLL, "SO_BUSY_POLL", number({ check: (value) => (value < 0 ? -ERRNO.EINVAL : 0) }), {
    initial: ({ limits }) => limits.busyRead,
  }),
  so(numbers.SO_MAX_PACING_RATE, "SO_MAX_PACING_RATE", pacingRate),
  so(numbers.SO_INCOMING_CPU, "SO_INCOMING_CPU", number(), {
    initial: (target) => target.recordWord(INCOMING_CPU),
    effect: (target) => target.portRulesChanged(),
  }),
  so(
    numbers.SO_INCOMING_NAPI_ID,
    "SO_INCOMING_NAPI_ID",
    readOnly(() => 0),
  ),
  so(numbers.SO_MEMINFO, "SO_MEMINFO", memoryInfo),
  so(numbers.SO_COOKIE, "SO_COOKIE", cookie),
  so(numbers.SO_NETNS_COOKIE, "SO_NETNS_COOKIE", {
    ...refused(ERRNO.ENOPROTOOPT, ERRNO.ENOPROTOOPT),
    get(target, out) {
      if (out.length !== LONG_BYTES) return -ERRNO.EINVAL;
      const fd = target.needPlaceholder();
      return fd < 0 ? -ERRNO.ENOPROTOOPT : sys.getsockopt(fd, SOL_SOCKET, numbers.SO_NETNS_COOKIE, out);
    },
  }),
  so(numbers.SO_PEERNAME, "SO_PEERNAME", peerName),
  so(numbers.SO_PEERCRED, "SO_PEERCRED", told(NO_CREDENTIALS)),
  so(numbers.SO_PEERPIDFD, "SO_PEERPIDFD", refused(ERRNO.ENOPROTOOPT, ERRNO.ENODATA)),
  so(numbers.SO_PEERGROUPS, "SO_PEERGROUPS", refused(ERRNO.ENOPROTOOPT, ERRNO.ENODATA)),
  so(numbers.SO_PEERSEC, "SO_PEERSEC", refused(ERRNO.ENOPROTOOPT, ERRNO.ENOPROTOOPT)),
  so(numbers.SO_ATTACH_FILTER, "SO_ATTACH_FILTER", attachFilter),
  so(numbers.SO_DETACH_FILTER, "SO_DETACH_FILTER", detachFilter),
  so(numbers.SO_LOCK_FILTER, "SO_LOCK_FILTER", lockFilter),
  so(numbers.SO_ATTACH_BPF, "SO_ATTACH_BPF", attachHandle),
  so(numbers.SO_ATTACH_REUSEPORT_CBPF, "SO_ATTACH_REUSEPORT_CBPF", groupProgram(attachGroupClassic, true)),
  so(numbers.SO_ATTACH_REUSEPORT_EBPF, "SO_ATTACH_REUSEPORT_EBPF", groupProgram(attachGroupClassic, false)),
  so(numbers.SO_DETACH_REUSEPORT_BPF, "SO_DETACH_REUSEPORT_BPF", detachGroup),
);
