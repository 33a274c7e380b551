/**
 * Scenarios of AF_UNIX: what they are given, and ways to write down what calls give. They are played on the kernel's sockets and on a
 * process's own; everything that is recorded is to be equal.
 */
import {
  AF_UNIX,
  MSG_DONTWAIT,
  POLLERR,
  POLLHUP,
  POLLIN,
  POLLMSG,
  POLLOUT,
  POLLPRI,
  POLLRDBAND,
  POLLRDHUP,
  POLLRDNORM,
  POLLWRBAND,
  POLLWRNORM,
  SCM_PIDFD,
  SCM_RIGHTS,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_SEQPACKET,
  SOCK_STREAM,
} from "../../../sockets/calls/constants.ts";
import { type ControlMessage, controlInt, decodeControl, encodeControl } from "../../../sockets/calls/control.ts";
import { type AddressBuffer, addressBuffer, addressIn, messageOf, nameOf } from "../../../sockets/calls/message.ts";
import type { SocketCalls } from "../../../sockets/calls/socket-calls.ts";
import {
  SO_TIMESTAMP,
  SO_TIMESTAMP_NEW,
  SO_TIMESTAMPNS,
  SO_TIMESTAMPNS_NEW,
  SO_TYPE,
  SOL_SOCKET,
} from "../../../sockets/options.ts";
import type { LocalScenario, Record } from "../event-scenarios.ts";

/** Where the names of a play are. */
export interface Place {
  /** A directory that paths may be bound in. */
  readonly directory: string;
  /** unlink(2): 0 or -errno. */
  unlink(path: string): number;
}

export interface UnixScenario {
  readonly name: string;
  play(calls: SocketCalls, record: Record, place: Place): void;
}

/** Those that need no place are as they are elsewhere. */
export type { LocalScenario, Record };

export const TYPES = [
  ["stream", SOCK_STREAM],
  ["dgram", SOCK_DGRAM],
  ["seqpacket", SOCK_SEQPACKET],
] as const;

const EVERY =
  POLLIN | POLLPRI | POLLOUT | POLLERR | POLLHUP | POLLRDNORM | POLLRDBAND | POLLWRNORM | POLLWRBAND | POLLMSG;

/** The address of a path without a null byte at its end, or of an abstract name, which begins with one. */
export function unixAddress(name: string): Uint8Array {
  const path = new TextEncoder().encode(name);
  return new Uint8Array([AF_UNIX, 0, ...path]);
}

/** An abstract name of this process alone. */
export const abstractName = (name: string): Uint8Array => unixAddress(`\0lcore ${process.pid} ${name}`);

export const pathName = (place: Place, name: string): Uint8Array => unixAddress(`${place.directory}/${name}`);

export const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);
/** As many bytes, each different from its neighbours. */
export const pattern = (length: number, from = 0): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (from + i) % 251);

export function socketOf(calls: SocketCalls, type: number): number {
  const fd = calls.socket(AF_UNIX, type | SOCK_NONBLOCK, 0);
  if (fd < 0) throw new Error(`socket: ${fd}`);
  return fd;
}

export function pairOf(calls: SocketCalls, type: number): [number, number] {
  const out = new Int32Array(2);
  const result = calls.socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, out);
  if (result < 0) throw new Error(`socketpair: ${result}`);
  return [out[0], out[1]];
}

export function closeAll(calls: SocketCalls, ...fds: number[]): void {
  for (const fd of fds) if (fd >= 0) calls.close(fd);
}

/** A listener, a client of it, and the client's other end. */
export function connection(calls: SocketCalls, type: number, name: string): [number, number, number] {
  const listener = socketOf(calls, type);
  calls.bind(listener, abstractName(name));
  calls.listen(listener, 4);
  const client = socketOf(calls, type);
  calls.connect(client, abstractName(name));
  return [listener, client, calls.accept4(listener, null, SOCK_NONBLOCK)];
}

export function pollOf(calls: SocketCalls, fd: number, events = EVERY | POLLRDHUP): number {
  const entry = { fd, events, revents: 0 };
  calls.poll([entry], 0);
  return entry.revents;
}

/** An address as it can be compared: names that the kernel has made up are told by their form. */
export function shownAddress(buffer: AddressBuffer): string {
  const found = addressIn(buffer);
  const text = String.fromCharCode(...found.subarray(2));
  const shown = /^\0[0-9a-f]{5}$/.test(text) ? "autobound" : found.toHex();
  return `${buffer.length}: ${shown}`;
}

/** Room for an address: the kernel is never given null for no room. */
export function roomFor(length: number): AddressBuffer {
  const buffer = addressBuffer(Math.max(length, 1));
  buffer.length = length;
  return buffer;
}

export function nameOfSocket(calls: SocketCalls, fd: number, room = 128): unknown {
  const buffer = roomFor(room);
  const result = calls.getsockname(fd, buffer);
  return result < 0 ? result : shownAddress(buffer);
}

export function nameOfPeer(calls: SocketCalls, fd: number, room = 128): unknown {
  const buffer = roomFor(room);
  const result = calls.getpeername(fd, buffer);
  return result < 0 ? result : shownAddress(buffer);
}

export function optionOf(calls: SocketCalls, fd: number, name: number, room = 4): unknown {
  const out = new Uint8Array(room);
  const result = calls.getsockopt(fd, SOL_SOCKET, name, out);
  return result < 0 ? result : out.subarray(0, result).toHex();
}

export const setOption = (calls: SocketCalls, fd: number, name: number, value: number): number =>
  calls.setsockopt(fd, SOL_SOCKET, name, controlInt(value));

export function ioctlOf(calls: SocketCalls, fd: number, request: number): unknown {
  const argument = controlInt(-77);
  const result = calls.ioctl(fd, request, argument);
  return [result, new DataView(argument.buffer).getInt32(0, true)];
}

export interface Sending {
  readonly flags?: number;
  readonly to?: Uint8Array | null;
  readonly control?: readonly ControlMessage[];
}

export function send(calls: SocketCalls, fd: number, data: Uint8Array, { flags, to, control }: Sending = {}): number {
  const message = messageOf(data);
  message.name = nameOf(to ?? null);
  if (control !== undefined) {
    message.control = encodeControl(...control);
    message.controlLength = message.control.length;
  }
  return calls.sendmsg(fd, message, (flags ?? 0) | MSG_DONTWAIT);
}

export const rights = (...fds: number[]): ControlMessage => ({
  level: SOL_SOCKET,
  type: SCM_RIGHTS,
  data: new Uint8Array(Int32Array.from(fds).buffer),
});

/** Where bytes that nobody writes can be told. */
const UNTOUCHED = 0xee;

export interface Receiving {
  readonly flags?: number;
  /** Bytes of room for data, and for control messages; null for none at all. */
  readonly room?: number;
  readonly control?: number | null;
  readonly name?: number | null;
}

/** What a receive gave, and the descriptors that came along, which are the caller's to close. */
export interface Received {
  readonly shown: unknown;
  readonly fds: number[];
}

/** recvmsg(2), without waiting. */
export function take(calls: SocketCalls, fd: number, options: Receiving = {}): Received {
  const { flags = 0, room = 64, control = 256, name = 128 } = options;
  const message = messageOf(new Uint8Array(room).fill(UNTOUCHED));
  message.control = control === null ? null : new Uint8Array(control).fill(UNTOUCHED);
  message.name = name === null ? null : roomFor(name);
  const result = calls.recvmsg(fd, message, flags | MSG_DONTWAIT);
  if (result < 0) return { shown: result, fds: [] };
  const fds: number[] = [];
  const messages =
    message.control === null ? [] : (decodeControl(message.control, message.controlLength) ?? ["malformed"]);
  return {
    shown: {
      result,
      data: message.iov[0].length > 256 ? Bun.hash(message.iov[0]).toString(16) : message.iov[0].toHex(),
      flags: message.flags,
      name: message.name === null ? null : shownAddress(message.name),
      controlLength: message.control === null ? 0 : message.controlLength,
      control: messages.map((found) => (typeof found === "string" ? found : shownControl(calls, found, fds))),
    },
    fds,
  };
}

/** recvmsg(2), and what came along is closed. */
export function shownTake(calls: SocketCalls, fd: number, options: Receiving = {}): unknown {
  const { shown, fds } = take(calls, fd, options);
  closeAll(calls, ...fds);
  return shown;
}

const TIMES = [SO_TIMESTAMP, SO_TIMESTAMP_NEW, SO_TIMESTAMPNS, SO_TIMESTAMPNS_NEW];

function shownControl(calls: SocketCalls, { level, type, data }: ControlMessage, fds: number[]): unknown {
  if (level !== SOL_SOCKET) return { level, type, data: data.toHex() };
  if (TIMES.includes(type)) return { type, recent: isRecent(data, type) };
  if (type !== SCM_RIGHTS && type !== SCM_PIDFD) return { type, data: data.toHex() };
  // Descriptors differ from one side to the other: they are told by what they are.
  const numbers = [...new Int32Array(data.slice(0, data.length & ~3).buffer)];
  fds.push(...numbers.filter((fd) => fd >= 0));
  return { type, bytes: data.length, kinds: numbers.map((fd) => (fd < 0 ? fd : optionOf(calls, fd, SO_TYPE))) };
}

/** Within a minute of now, in the unit of the option. */
function isRecent(data: Uint8Array, type: number): unknown {
  if (data.length !== 16) return data.length;
  const [seconds, part] = new BigInt64Array(data.slice().buffer);
  const limit = type === SO_TIMESTAMP || type === SO_TIMESTAMP_NEW ? 1_000_000n : 1_000_000_000n;
  return Math.abs(Number(seconds) - Date.now() / 1000) < 60 && part >= 0n && part < limit;
}
