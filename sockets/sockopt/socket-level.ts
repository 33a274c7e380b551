/** SOL_SOCKET of UDP sockets. socket(7). */
import { ERRNO, sys } from "af-xdp-bindings";
import { filterCharge, recordPlace } from "../bpf/attach.ts";
import {
  SO_BINDTODEVICE,
  SO_BINDTOIFINDEX,
  SO_BROADCAST,
  SO_BUSY_POLL,
  SO_COOKIE,
  SO_DONTROUTE,
  SO_INCOMING_CPU,
  SO_INCOMING_NAPI_ID,
  SO_INQ,
  SO_MARK,
  SO_MAX_PACING_RATE,
  SO_MEMINFO,
  SO_NETNS_COOKIE,
  SO_NO_CHECK,
  SO_PASSCRED,
  SO_PASSPIDFD,
  SO_PASSRIGHTS,
  SO_PASSSEC,
  SO_PEEK_OFF,
  SO_PEERCRED,
  SO_PEERGROUPS,
  SO_PEERNAME,
  SO_PEERPIDFD,
  SO_PEERSEC,
  SO_PRIORITY,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SO_RXQ_OVFL,
  SO_SELECT_ERR_QUEUE,
  SO_TIMESTAMP,
  SO_TIMESTAMP_NEW,
  SO_TIMESTAMPING,
  SO_TIMESTAMPING_NEW,
  SO_TIMESTAMPNS,
  SO_TIMESTAMPNS_NEW,
  SOF_TIMESTAMPING_RX_SOFTWARE,
  SOF_TIMESTAMPING_TX_ACK,
  SOF_TIMESTAMPING_TX_COMPLETION,
  SOF_TIMESTAMPING_TX_HARDWARE,
  SOF_TIMESTAMPING_TX_SCHED,
  SOF_TIMESTAMPING_TX_SOFTWARE,
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
  PLACEHOLDER,
  SNDBUF,
} from "../table.ts";
import type { UdpSocket } from "../udp-socket.ts";
import { bindToDevice, changeSteeredFlag, flagOf, KERNEL_SENDS, sendFlag, tableFlag } from "./effects.ts";
import { ENGINE, flag, number, option, readOnly, refused, writeBytes } from "./rules.ts";
import {
  MEMINFO_DROPS,
  MEMINFO_OPTMEM,
  MEMINFO_RCVBUF,
  MEMINFO_RMEM_ALLOC,
  MEMINFO_SNDBUF,
  MEMINFO_WMEM_ALLOC,
  MEMINFO_WORDS,
  socketLevel,
} from "./socket-rules.ts";
import type { UdpOption, UdpPart, UdpTarget } from "./udp-target.ts";

const so = (name: number, label: string, ...parts: UdpPart[]): UdpOption => option(SOL_SOCKET, name, label, ...parts);

/** Stamps of transmission of whatever kind. */
const STAMPS_SENT =
  SOF_TIMESTAMPING_TX_HARDWARE |
  SOF_TIMESTAMPING_TX_SOFTWARE |
  SOF_TIMESTAMPING_TX_SCHED |
  SOF_TIMESTAMPING_TX_ACK |
  SOF_TIMESTAMPING_TX_COMPLETION;
const ARRIVAL_OPTIONS = [SO_TIMESTAMP, SO_TIMESTAMPNS, SO_TIMESTAMP_NEW, SO_TIMESTAMPNS_NEW];

/** Whether one option or another asks for times of arrival, which come from the XDP hook. */
function tellsArrival({ socket }: UdpTarget): boolean {
  const value = new Int32Array(2);
  const asks = (name: number, bits: number): boolean => {
    value.fill(0);
    return socket.getOption(SOL_SOCKET, name, new Uint8Array(value.buffer)) >= 0 && (value[0] & bits) !== 0;
  };
  return ARRIVAL_OPTIONS.some((name) => asks(name, -1)) || asks(SO_TIMESTAMPING, SOF_TIMESTAMPING_RX_SOFTWARE);
}

/** On a wire without a kernel there are none. */
const timestamps: UdpPart = {
  effect(target) {
    changeSteeredFlag(target, F_TIMESTAMP, tellsArrival(target));
  },
};

/** Under two numbers one option: what asks for stamps of transmission has the kernel send, which makes them. */
const STAMPING = so(SO_TIMESTAMPING, "SO_TIMESTAMPING");
const stamping: UdpPart = {
  word: "kernel",
  ofFlow: false,
  effect(target, flags) {
    changeSteeredFlag(target, F_TIMESTAMP, tellsArrival(target));
    target.needKernel(STAMPING, (flags & STAMPS_SENT) !== 0);
  },
};

/** What the kernel's socket has of optmem_max, where that is the one with the filter. */
function kernelOptmem({ endpoint, id }: UdpSocket): number {
  const words = new Uint32Array(MEMINFO_WORDS);
  sys.getsockopt(endpoint.table.get(id, PLACEHOLDER), SOL_SOCKET, SO_MEMINFO, words);
  return words[MEMINFO_OPTMEM];
}

const memoryInfo: UdpPart = {
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
    words[MEMINFO_OPTMEM] = socket.endpoint.sendsItself
      ? filterCharge(recordPlace(table, socket.id))
      : kernelOptmem(socket);
    words[MEMINFO_DROPS] = socket.drops;
    return writeBytes(out, new Uint8Array(words.buffer));
  },
};

/** By name: "" unbinds. A wire without a kernel has no names. */
const bindToName: UdpPart = {
  readAs: SO_BINDTOIFINDEX,
  set(target, bytes) {
    if (bytes.length > 0 && bytes[0] !== 0) return -ERRNO.ENODEV;
    bindToDevice(target, 0);
    return 0;
  },
  get: ({ socket }) => (socket.endpoint.table.get(socket.id, DEVICE) === 0 ? 0 : -ERRNO.ENODEV),
  effect: bindToDevice,
};

const bindToIndex: UdpPart = {
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

export const SOCKET_LEVEL: readonly UdpOption[] = socketLevel(
  {
    [SO_REUSEADDR]: { ...tableFlag(F_REUSEADDR), initial: (target) => flagOf(target, F_REUSEADDR) },
    [SO_BROADCAST]: tableFlag(F_BROADCAST),
    [SO_NO_CHECK]: sendFlag(4, TX_NO_CHECK),
    [SO_PRIORITY]: KERNEL_SENDS,
    [SO_MARK]: KERNEL_SENDS,
    [SO_TIMESTAMPING]: stamping,
    [SO_TIMESTAMPING_NEW]: { ...stamping, readAs: SO_TIMESTAMPING },
    [SO_RXQ_OVFL]: { ...tableFlag(F_RXQ_OVFL), initial: (target) => flagOf(target, F_RXQ_OVFL) },
  },
  so(SO_DONTROUTE, "SO_DONTROUTE", KERNEL_SENDS),
  so(SO_REUSEPORT, "SO_REUSEPORT", flag(), tableFlag(F_REUSEPORT), {
    initial: (target) => flagOf(target, F_REUSEPORT),
  }),
  so(SO_PASSCRED, "SO_PASSCRED", refused(ERRNO.EOPNOTSUPP, ERRNO.EOPNOTSUPP)),
  so(SO_BINDTODEVICE, "SO_BINDTODEVICE", bindToName),
  so(SO_TIMESTAMP, "SO_TIMESTAMP", timestamps),
  so(SO_PASSSEC, "SO_PASSSEC", refused(ERRNO.EOPNOTSUPP, ERRNO.EOPNOTSUPP)),
  so(SO_TIMESTAMPNS, "SO_TIMESTAMPNS", timestamps),
  so(SO_PEEK_OFF, "SO_PEEK_OFF", ENGINE, number(), { initial: -1 }),
  so(SO_SELECT_ERR_QUEUE, "SO_SELECT_ERR_QUEUE", ENGINE, flag()),
  so(SO_BUSY_POLL, "SO_BUSY_POLL", ENGINE, number({ check: (value) => (value < 0 ? -ERRNO.EINVAL : 0) }), {
    initial: ({ limits }) => limits.busyRead,
  }),
  so(SO_MAX_PACING_RATE, "SO_MAX_PACING_RATE", KERNEL_SENDS, { initial: -1 }),
  so(SO_INCOMING_CPU, "SO_INCOMING_CPU", ENGINE, number(), {
    initial: ({ socket }) => socket.incomingCpu,
    set(this: UdpOption, { socket }, bytes) {
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
  so(SO_PEERNAME, "SO_PEERNAME"),
  // Connections of AF_UNIX have them, and a datagram socket says how it has none.
  so(SO_PEERCRED, "SO_PEERCRED"),
  so(SO_PEERGROUPS, "SO_PEERGROUPS"),
  so(SO_PEERPIDFD, "SO_PEERPIDFD", { word: "engine" }, refused(ERRNO.ENOPROTOOPT, ERRNO.ENODATA)),
  so(SO_PEERSEC, "SO_PEERSEC"),
  so(SO_INQ, "SO_INQ"),
  so(SO_PASSPIDFD, "SO_PASSPIDFD", refused(ERRNO.EOPNOTSUPP, ERRNO.EOPNOTSUPP)),
  so(SO_PASSRIGHTS, "SO_PASSRIGHTS", refused(ERRNO.EOPNOTSUPP, ERRNO.EOPNOTSUPP)),
);
