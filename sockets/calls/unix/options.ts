/** SOL_SOCKET of AF_UNIX sockets: net/core/sock.c and unix_setsockopt(). The only level they have. */
import { ERRNO, sys } from "af-xdp-bindings";
import {
  SO_BINDTODEVICE,
  SO_BINDTOIFINDEX,
  SO_BUSY_POLL,
  SO_COOKIE,
  SO_DONTROUTE,
  SO_INCOMING_CPU,
  SO_INCOMING_NAPI_ID,
  SO_INQ,
  SO_MAX_PACING_RATE,
  SO_MEMINFO,
  SO_NETNS_COOKIE,
  SO_OOBINLINE,
  SO_PASSCRED,
  SO_PASSPIDFD,
  SO_PASSRIGHTS,
  SO_PASSSEC,
  SO_PEEK_OFF,
  SO_PEERCRED,
  SO_PEERGROUPS,
  SO_PEERNAME,
  SO_PEERSEC,
  SO_RCVLOWAT,
  SO_RCVMARK,
  SO_RCVPRIORITY,
  SO_RCVTIMEO,
  SO_REUSEPORT,
  SO_SELECT_ERR_QUEUE,
  SO_SNDTIMEO,
  SO_TIMESTAMP,
  SO_TIMESTAMP_NEW,
  SO_TIMESTAMPNS,
  SO_TIMESTAMPNS_NEW,
  SOL_SOCKET,
} from "../../options.ts";
import { interfaceIndex, interfaceName } from "../../sockopt/devices.ts";
import { hostLimits, type Limits } from "../../sockopt/limits.ts";
import {
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
  writeInt,
} from "../../sockopt/rules.ts";
import {
  MEMINFO_OPTMEM,
  MEMINFO_RCVBUF,
  MEMINFO_SNDBUF,
  MEMINFO_WMEM_ALLOC,
  MEMINFO_WORDS,
  socketLevel,
  timeoutMs,
} from "../../sockopt/socket-rules.ts";
import { AF_UNIX, SOCK_STREAM } from "../constants.ts";
import { addressBuffer, addressIn } from "../message.ts";
import { encodeCredentials, NO_PEER } from "./credentials.ts";
import { FILTER_OPTIONS, type SocketFilter } from "./filters.ts";
import type { UnixSocket } from "./socket.ts";
import { LISTENING } from "./state.ts";

const INT_BYTES = 4;
const LONG_BYTES = 8;
const IFNAMSIZ = 16;

type UnixOption = Option<UnixOptions>;
type UnixPart = OptionPart<UnixOptions>;

const so = (name: number, label: string, ...parts: UnixPart[]): UnixOption => option(SOL_SOCKET, name, label, ...parts);

const passCredentials = so(SO_PASSCRED, "SO_PASSCRED", flag());
const passSecurity = so(SO_PASSSEC, "SO_PASSSEC", flag());
const passPidfd = so(SO_PASSPIDFD, "SO_PASSPIDFD", flag());
const passRights = so(SO_PASSRIGHTS, "SO_PASSRIGHTS", flag(), { initial: 1 });
const tellQueue = so(SO_INQ, "SO_INQ", {
  // Streams have it, and an int to the byte.
  set(this: UnixOption, target, bytes) {
    if (target.type !== SOCK_STREAM) return bytes.length < INT_BYTES ? -ERRNO.EINVAL : -ERRNO.ENOPROTOOPT;
    const value = bytes.length === INT_BYTES ? readInt(bytes, SOL_SOCKET) : -1;
    if (value < 0 || value > 1) return -ERRNO.EINVAL;
    target.store(this, value);
    return 0;
  },
});

/** One of the four that ask for times of arrival: the last one set is kept, or 0. SO_TIMESTAMP_NEW is told of both that are new. */
const timestamp = (name: number, label: string): UnixOption =>
  so(name, label, {
    set(target, bytes) {
      if (bytes.length < INT_BYTES) return -ERRNO.EINVAL;
      target.timestamps = readInt(bytes, SOL_SOCKET) === 0 ? 0 : name;
      return 0;
    },
    get({ timestamps }, out) {
      const implied = name === SO_TIMESTAMP_NEW && timestamps === SO_TIMESTAMPNS_NEW;
      return writeInt(SOL_SOCKET, out, Number(timestamps === name || implied));
    },
  });

const peekOffset: UnixPart = {
  ...number<UnixOptions>({}),
  set(target, bytes) {
    if (bytes.length < INT_BYTES) return -ERRNO.EINVAL;
    target.peekOffset = readInt(bytes, SOL_SOCKET);
    return 0;
  },
  get: (target, out) => writeInt(SOL_SOCKET, out, target.peekOffset),
};

/** Written as bytes, which cannot be set. */
const told = (bytes: (target: UnixOptions, room: number) => Uint8Array | number): UnixPart => ({
  ...refused(ERRNO.ENOPROTOOPT, ERRNO.ENOPROTOOPT),
  get(target, out) {
    const value = bytes(target, out.length);
    return typeof value === "number" ? value : writeBytes(out, value);
  },
});

const words = (...values: number[]): Uint8Array => new Uint8Array(Int32Array.from(values).buffer);

/** As many bytes as there is room for, which may not be more than there are. */
function peerName({ socket }: UnixOptions, room: number): Uint8Array | number {
  const name = addressBuffer();
  const result = socket.getpeername(name);
  if (result < 0) return result;
  return room > name.length ? -ERRNO.EINVAL : addressIn(name);
}

function groupsOf({ socket }: UnixOptions, room: number): Uint8Array | number {
  if (socket.peerCredentials === null) return -ERRNO.ENODATA;
  const { peerGroups } = socket;
  return room < peerGroups.length * INT_BYTES ? -ERRNO.ERANGE : words(...peerGroups);
}

function memoryOf({ socket, sendBuffer, receiveBuffer, filterCharge }: UnixOptions): Uint8Array {
  const info = new Int32Array(MEMINFO_WORDS);
  info[MEMINFO_RCVBUF] = receiveBuffer;
  info[MEMINFO_WMEM_ALLOC] = socket.underWay;
  info[MEMINFO_SNDBUF] = sendBuffer;
  info[MEMINFO_OPTMEM] = filterCharge;
  return new Uint8Array(info.buffer);
}

/** SO_MAX_PACING_RATE: bytes a second that nothing here paces by, in 32 bits or in 64. All ones: no limit. */
const pacingRate: UnixPart = {
  set(target, bytes) {
    if (bytes.length < INT_BYTES) return -ERRNO.EINVAL;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const short = view.getUint32(0, true);
    const unlimited = short === 0xffffffff ? ~0n & 0xffffffffffffffffn : BigInt(short);
    target.pacingRate = bytes.length >= LONG_BYTES ? view.getBigUint64(0, true) : unlimited;
    return 0;
  },
  get(target, out) {
    const { pacingRate } = target;
    if (out.length >= LONG_BYTES) return writeBytes(out, new Uint8Array(BigUint64Array.of(pacingRate).buffer));
    return writeInt(SOL_SOCKET, out, Number(pacingRate > 0xffffffffn ? 0xffffffffn : pacingRate) | 0);
  },
};

/** The name or number of an interface, which nothing here looks at. */
const bindToIndex = so(
  SO_BINDTOIFINDEX,
  "SO_BINDTOIFINDEX",
  number<UnixOptions>({
    check(value, target) {
      if (target.value(bindToIndex) !== 0 && !target.limits.netRaw) return -ERRNO.EPERM;
      return value < 0 ? -ERRNO.EINVAL : 0;
    },
  }),
);

const bindToName: UnixPart = {
  set(target, bytes) {
    const end = bytes.subarray(0, IFNAMSIZ - 1).indexOf(0);
    const name = new TextDecoder().decode(bytes.subarray(0, end < 0 ? Math.min(bytes.length, IFNAMSIZ - 1) : end));
    const index = name === "" ? 0 : withKernelSocket((fd) => interfaceIndex(fd, name));
    if (index < 0) return index;
    return bindToIndex.set(target, words(index));
  },
  get(target, out) {
    const index = target.value(bindToIndex);
    if (index === 0) return 0;
    if (out.length < IFNAMSIZ) return -ERRNO.EINVAL;
    const name = withKernelSocket((fd) => interfaceName(fd, index));
    return typeof name === "number" ? name : writeBytes(out, new TextEncoder().encode(`${name}\0`));
  },
};

/** SO_NETNS_COOKIE of the thread's network namespace, as a kernel socket made there tells it. */
function namespaceCookie(): Uint8Array | number {
  const out = new Uint8Array(LONG_BYTES);
  const result = withKernelSocket((fd) => sys.getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, out));
  return result < 0 ? result : out;
}

/** Asks a socket of the kernel, which is closed again. */
function withKernelSocket<T>(ask: (fd: number) => T): T | number {
  const fd = sys.socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd < 0) return fd;
  try {
    return ask(fd);
  } finally {
    sys.close(fd);
  }
}

const UNIX_LEVEL: readonly UnixOption[] = socketLevel<UnixOptions>(
  {},
  so(SO_DONTROUTE, "SO_DONTROUTE", flag()),
  so(SO_REUSEPORT, "SO_REUSEPORT", flag({ check: (value) => (value === 0 ? 0 : -ERRNO.EOPNOTSUPP) })),
  passCredentials,
  so(
    SO_PEERCRED,
    "SO_PEERCRED",
    told(({ socket }) => encodeCredentials(socket.peerCredentials ?? NO_PEER)),
  ),
  so(SO_BINDTODEVICE, "SO_BINDTODEVICE", bindToName),
  timestamp(SO_TIMESTAMP, "SO_TIMESTAMP"),
  so(SO_PEERNAME, "SO_PEERNAME", told(peerName)),
  so(SO_PEERSEC, "SO_PEERSEC", refused(ERRNO.ENOPROTOOPT, ERRNO.ENOPROTOOPT)),
  passSecurity,
  timestamp(SO_TIMESTAMPNS, "SO_TIMESTAMPNS"),
  so(SO_PEEK_OFF, "SO_PEEK_OFF", peekOffset),
  so(SO_SELECT_ERR_QUEUE, "SO_SELECT_ERR_QUEUE", flag()),
  so(SO_BUSY_POLL, "SO_BUSY_POLL", number({ check: (value) => (value < 0 ? -ERRNO.EINVAL : 0) }), {
    initial: ({ limits }) => limits.busyRead,
  }),
  so(SO_MAX_PACING_RATE, "SO_MAX_PACING_RATE", pacingRate),
  so(SO_INCOMING_CPU, "SO_INCOMING_CPU", number(), { initial: -1 }),
  so(SO_MEMINFO, "SO_MEMINFO", told(memoryOf)),
  so(
    SO_INCOMING_NAPI_ID,
    "SO_INCOMING_NAPI_ID",
    readOnly(() => 0),
  ),
  so(
    SO_COOKIE,
    "SO_COOKIE",
    told(({ cookie }, room) => (room < LONG_BYTES ? -ERRNO.EINVAL : words(cookie, 0))),
  ),
  so(SO_PEERGROUPS, "SO_PEERGROUPS", told(groupsOf)),
  bindToIndex,
  timestamp(SO_TIMESTAMP_NEW, "SO_TIMESTAMP_NEW"),
  timestamp(SO_TIMESTAMPNS_NEW, "SO_TIMESTAMPNS_NEW"),
  so(
    SO_NETNS_COOKIE,
    "SO_NETNS_COOKIE",
    told((_, room) => (room === LONG_BYTES ? namespaceCookie() : -ERRNO.EINVAL)),
  ),
  ...FILTER_OPTIONS,
  passPidfd,
  passRights,
  tellQueue,
);

const byName = new Map(UNIX_LEVEL.map((entry) => [entry.name, entry]));
const common = (name: number): UnixOption => byName.get(name)!;
const receiveTimeout = common(SO_RCVTIMEO);
const sendTimeout = common(SO_SNDTIMEO);
const receiveLowWater = common(SO_RCVLOWAT);
const selectErrors = common(SO_SELECT_ERR_QUEUE);
const outOfBandInline = common(SO_OOBINLINE);
const receiveMark = common(SO_RCVMARK);
const receivePriority = common(SO_RCVPRIORITY);

let cookies = 0;

/** The options of one socket. */
export class UnixOptions implements OptionTarget {
  readonly socket: UnixSocket;
  readonly domain = AF_UNIX;
  /** Whatever socket(2) was given. */
  readonly protocol = 0;
  readonly cookie = ++cookies;
  /** SO_TIMESTAMP or its kin: the name of the one that is set, or 0. */
  timestamps = 0;
  /** SO_PEEK_OFF. */
  peekOffset = -1;
  filter: SocketFilter | null = null;
  /** SO_LOCK_FILTER. */
  filterLocked = false;
  pacingRate = 0xffffffffffffffffn;
  receiveBuffer: number;
  private sendBuffer_: number;
  private readonly values = new Map<Option<never>, number>();

  constructor(socket: UnixSocket) {
    this.socket = socket;
    this.receiveBuffer = this.limits.rcvbufDefault;
    this.sendBuffer_ = this.limits.sndbufDefault;
  }

  /** Returns 0 or -errno. */
  set(level: number, name: number, value: Uint8Array): number {
    if (level !== SOL_SOCKET) return -ERRNO.EOPNOTSUPP;
    const found = byName.get(name);
    if (found === undefined) return value.length < INT_BYTES ? -ERRNO.EINVAL : -ERRNO.ENOPROTOOPT;
    return found.set(this, value);
  }

  /** Fills `out`. Returns the bytes written, or -errno. */
  get(level: number, name: number, out: Uint8Array): number {
    if (level !== SOL_SOCKET) return -ERRNO.EOPNOTSUPP;
    return byName.get(name)?.get(this, out) ?? -ERRNO.ENOPROTOOPT;
  }

  /** A connection has what its listener passes on. */
  inherit(listener: UnixOptions): void {
    for (const inherited of [passCredentials, passSecurity, passPidfd, passRights]) {
      this.store(inherited, listener.value(inherited));
    }
  }

  value(asked: UnixOption): number {
    return this.values.get(asked) ?? (typeof asked.initial === "number" ? asked.initial : asked.initial(this));
  }

  store(given: Option<never>, value: number): void {
    this.values.set(given, value);
  }

  takeError(): number {
    return this.socket.takeError();
  }

  get type(): number {
    return this.socket.type;
  }

  get listening(): boolean {
    return this.socket.state === LISTENING;
  }

  get limits(): Limits {
    return hostLimits();
  }

  get sendBuffer(): number {
    return this.sendBuffer_;
  }

  set sendBuffer(bytes: number) {
    this.sendBuffer_ = bytes;
    this.socket.writeSpace();
  }

  /** Bytes of optmem_max that the filter takes. */
  get filterCharge(): number {
    return this.filter?.charge ?? 0;
  }

  get receiveTimeoutMs(): number {
    return timeoutMs(this.value(receiveTimeout));
  }

  get sendTimeoutMs(): number {
    return timeoutMs(this.value(sendTimeout));
  }

  get receiveLowWater(): number {
    return this.value(receiveLowWater);
  }

  get passesCredentials(): boolean {
    return this.value(passCredentials) !== 0;
  }

  get passesSecurity(): boolean {
    return this.value(passSecurity) !== 0;
  }

  get passesPidfd(): boolean {
    return this.value(passPidfd) !== 0;
  }

  /** unix_may_passcred(). */
  get asksForCredentials(): boolean {
    return this.passesCredentials || this.passesPidfd;
  }

  get passesRights(): boolean {
    return this.value(passRights) !== 0;
  }

  get selectsErrors(): boolean {
    return this.value(selectErrors) !== 0;
  }

  /** What is peeked at moves SO_PEEK_OFF on, what is read moves it back. */
  movePeekOffset(bytes: number): void {
    if (this.peekOffset >= 0) this.peekOffset = Math.max(this.peekOffset + bytes, 0);
  }

  get outOfBandInline(): boolean {
    return this.value(outOfBandInline) !== 0;
  }

  /** SO_RCVMARK, SO_RCVPRIORITY: what is told of a message with every other one's mark and priority, 0. */
  get tellsMark(): boolean {
    return this.value(receiveMark) !== 0;
  }

  get tellsPriority(): boolean {
    return this.value(receivePriority) !== 0;
  }

  /** SO_INQ: how much is left to read is told with what is read. */
  get tellsQueue(): boolean {
    return this.value(tellQueue) !== 0;
  }
}
