/**
 * Scenarios made by the dozen: every option number of each level, at every state of every kind of socket, set to values at the edges
 * and read back at every length.
 */
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  SHUT_RDWR,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_SEQPACKET,
  SOCK_STREAM,
} from "../../sockets/calls/constants.ts";
import type { SocketCalls } from "../../sockets/calls/socket-calls.ts";
import {
  IPPROTO_IP,
  IPPROTO_IPV6,
  SO_BINDTODEVICE,
  SO_BINDTOIFINDEX,
  SOL_SOCKET,
  SOL_UDP,
} from "../../sockets/options.ts";
import { optionName } from "./names.ts";

/** Where a generated scenario's sockets are, in sockaddr bytes. */
export interface Places {
  /** An address of the host under test with a port that is free, and one of the peer's with a port that nobody has. */
  readonly own4: Uint8Array;
  readonly own6: Uint8Array;
  readonly peer4: Uint8Array;
  readonly peer6: Uint8Array;
}

export interface Generated {
  readonly name: string;
  /** Whether it needs a network: sockets of AF_INET and AF_INET6. */
  readonly inet: boolean;
  play(calls: SocketCalls, places: Places): void;
}

export const VALUES = [
  -(2 ** 31),
  -1000,
  -1,
  0,
  1,
  2,
  3,
  5,
  7,
  8,
  64,
  127,
  128,
  255,
  256,
  511,
  1023,
  2303,
  2304,
  4607,
  4608,
  10_000,
  65_535,
  65_536,
  212_992,
  2 ** 20,
  2 ** 30,
  2 ** 31 - 1,
];
const LENGTHS = [0, 1, 2, 3, 4, 5, 8, 12, 16, 20, 28, 40, 136];

/**
 * SO_ numbers there are, and some more. Attached programs have scenarios of their own, for their values are descriptors and pointers;
 * so has SO_PEERPIDFD, which opens a descriptor.
 */
const SOCKET_LEVEL_MAX = 90;
const SET_APART = new Set([26, 27, 50, 51, 52, 68, 77]);
const IP_LEVEL_MAX = 55;
const IPV6_LEVEL_MAX = 82;
const UDP_LEVEL = [0, 1, 2, 100, 101, 102, 103, 104, 105];
/** Their values are structures, which the numbers happen to be the beginnings of: groups that sockets would join. */
const STRUCTURES = new Set(
  [35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48].map((name) => `${IPPROTO_IP}/${name}`),
);

interface Kind {
  readonly name: string;
  readonly family: number;
  readonly type: number;
}

const KINDS: readonly Kind[] = [
  { name: "udp4", family: AF_INET, type: SOCK_DGRAM },
  { name: "udp6", family: AF_INET6, type: SOCK_DGRAM },
  { name: "unix stream", family: AF_UNIX, type: SOCK_STREAM },
  { name: "unix dgram", family: AF_UNIX, type: SOCK_DGRAM },
  { name: "unix seqpacket", family: AF_UNIX, type: SOCK_SEQPACKET },
];

type State = "fresh" | "bound" | "connected" | "listening" | "shut";

const INET_STATES: readonly State[] = ["fresh", "bound", "connected"];
const UNIX_STATES: readonly State[] = ["fresh", "bound", "connected", "shut"];

const statesOf = ({ family, type }: Kind): readonly State[] => {
  if (family !== AF_UNIX) return INET_STATES;
  return type === SOCK_DGRAM ? UNIX_STATES : [...UNIX_STATES, "listening"];
};

/** Sockets in the state: the first is the one to look at. */
function socketsIn(calls: SocketCalls, places: Places, kind: Kind, state: State): number[] {
  const { family } = kind;
  const type = kind.type | SOCK_NONBLOCK;
  if (family === AF_UNIX && (state === "connected" || state === "shut")) {
    const out = new Int32Array(2);
    calls.socketpair(family, type, 0, out);
    if (state === "shut") calls.shutdown(out[0], SHUT_RDWR);
    return [...out];
  }
  const fd = calls.socket(family, type, 0);
  // Autobind: a name that nobody else has.
  const own = family === AF_UNIX ? Uint8Array.of(AF_UNIX, 0) : family === AF_INET ? places.own4 : places.own6;
  if (state !== "fresh") calls.bind(fd, own);
  if (state === "connected") calls.connect(fd, family === AF_INET ? places.peer4 : places.peer6);
  if (state === "listening") calls.listen(fd, 3);
  return [fd];
}

const bytesOf = (value: number, length: number): Uint8Array => {
  const bytes = new Uint8Array(Math.max(length, 4));
  new DataView(bytes.buffer).setInt32(0, value, true);
  return bytes.subarray(0, length);
};

/** An option asked for at every length, set to every value and length, and asked for again. */
export function playOption(calls: SocketCalls, fd: number, level: number, name: number): void {
  const get = (length: number): number => calls.getsockopt(fd, level, name, new Uint8Array(length));
  for (const length of LENGTHS) get(length);
  const whole = Math.max(get(136), 4);
  for (const value of VALUES) {
    calls.setsockopt(fd, level, name, bytesOf(value, 4));
    get(whole);
  }
  for (const length of LENGTHS) {
    for (const value of [0, 1, 0x01010101]) {
      const bytes = new Uint8Array(length).fill(value & 0xff);
      calls.setsockopt(fd, level, name, bytes);
      get(whole);
    }
  }
}

function ofLevel(kind: Kind, state: State, level: number, names: readonly number[]): Generated[] {
  return names.map((name) => ({
    name: `${kind.name}, ${state}: ${optionName(level, name)}`,
    inet: kind.family !== AF_UNIX,
    play(calls, places) {
      const fds = socketsIn(calls, places, kind, state);
      playOption(calls, fds[0], level, name);
      for (const fd of fds) calls.close(fd);
    },
  }));
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/** Devices by name and index differ between hosts; they have scenarios of their own. */
const DEVICES = new Set([SO_BINDTODEVICE, SO_BINDTOIFINDEX]);

export const GENERATED: readonly Generated[] = KINDS.flatMap((kind) =>
  statesOf(kind).flatMap((state) => {
    const socketLevel = upTo(SOCKET_LEVEL_MAX).filter((name) => !SET_APART.has(name) && !DEVICES.has(name));
    const made = ofLevel(kind, state, SOL_SOCKET, socketLevel);
    if (kind.family === AF_UNIX) return made;
    const ip = upTo(IP_LEVEL_MAX).filter((name) => !STRUCTURES.has(`${IPPROTO_IP}/${name}`));
    const ipv6 = upTo(IPV6_LEVEL_MAX).filter((name) => !STRUCTURES.has(`${IPPROTO_IP}/${name}`));
    return [
      ...made,
      ...ofLevel(kind, state, IPPROTO_IP, ip),
      ...ofLevel(kind, state, IPPROTO_IPV6, ipv6),
      ...ofLevel(kind, state, SOL_UDP, UDP_LEVEL),
    ];
  }),
);
