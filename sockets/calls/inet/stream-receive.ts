/** recvmsg(2) of a TCP socket: tcp_recvmsg_locked (net/ipv4/tcp.c). */
import { ERRNO } from "af-xdp-bindings";
import {
  SO_TIMESTAMP,
  SO_TIMESTAMP_NEW,
  SO_TIMESTAMPNS,
  SO_TIMESTAMPNS_NEW,
  SOL_SOCKET,
  SOL_TCP,
  TCP_CM_INQ,
  TCP_INQ,
} from "../../options.ts";
import type { TcpSocket } from "../../stream/tcp-socket.ts";
import { OPTIONS } from "../../tcp/sockopts.ts";
import { CLOSED } from "../../tcp/tcb.ts";
import { MSG_CMSG_CLOEXEC, MSG_OOB, MSG_PEEK, MSG_TRUNC } from "../constants.ts";
import { ControlWriter, controlInt } from "../control.ts";
import { lengthOf, type Message, scatter } from "../message.ts";
import type { StreamOptions } from "./stream-options.ts";

/** Bytes that are passed over at a time (MSG_TRUNC). */
const PASSED_BYTES = 1 << 16;

/** Bytes of a stream into the parts of a message. Returns how many, or -errno. */
export function receiveStream(socket: TcpSocket, options: StreamOptions, message: Message, flags: number): number {
  const result =
    (flags & MSG_PEEK) !== 0
      ? peek(socket, options, message, flags)
      : (flags & MSG_TRUNC) !== 0
        ? pass(socket, lengthOf(message.iov))
        : read(socket, message);
  if (result < 0) return result;
  if ((flags & MSG_PEEK) === 0 && options.peekOffset >= 0)
    options.peekOffset = Math.max(options.peekOffset - result, 0);
  message.flags = flags & MSG_CMSG_CLOEXEC;
  const writer = new ControlWriter(message);
  if (result > 0) tellStamp(options, writer);
  if (options.valueOf(SOL_TCP, TCP_INQ) !== 0) writer.put(SOL_TCP, TCP_CM_INQ, controlInt(hint(socket)));
  writer.end();
  return result;
}

/** tcp_inq_hint(): bytes to be read, at least one where only the end is. */
function hint(socket: TcpSocket): number {
  const left = socket.getOption(OPTIONS.TCP_INQ);
  return left === 0 && socket.read(new Uint8Array(1), 0, 1, MSG_PEEK) === 0 ? 1 : left;
}

/** With nothing to put bytes into: 0 where there are some, else why there are none. */
function look(socket: TcpSocket): number {
  return Math.min(socket.read(new Uint8Array(1), 0, 1, MSG_PEEK), 0);
}

function read(socket: TcpSocket, { iov }: Message): number {
  let count = 0;
  let some = false;
  for (const part of iov) {
    if (part.length === 0) continue;
    // The urgent byte ends what is read before it, where parts end too.
    if (count > 0 && socket.end.atMark(socket)) return count;
    some = true;
    const result = socket.read(part, 0, part.length, 0);
    if (result <= 0) return count > 0 ? count : result;
    count += result;
    if (result < part.length) break;
  }
  return some ? count : look(socket);
}

function pass(socket: TcpSocket, length: number): number {
  if (length === 0) return look(socket);
  const nowhere = new Uint8Array(Math.min(length, PASSED_BYTES));
  let count = 0;
  while (count < length) {
    const most = Math.min(length - count, nowhere.length);
    const result = socket.read(nowhere, 0, most, 0);
    if (result <= 0) return count > 0 ? count : result;
    count += result;
    if (result < most) break;
  }
  return count;
}

/** No more will come. */
function hasEnded(socket: TcpSocket): boolean {
  return socket.state === CLOSED || socket.end.hasEnded(socket);
}

function peek(socket: TcpSocket, options: StreamOptions, { iov }: Message, flags: number): number {
  const length = lengthOf(iov);
  const skip = Math.max(options.peekOffset, 0);
  if (length === 0) return look(socket);
  // From an offset on whatever is there is looked at, and no more.
  const there = Math.min(skip + length, Math.max(socket.getOption(OPTIONS.TCP_INQ), 0));
  const bytes = new Uint8Array(Math.max(there, 1));
  const result = socket.read(bytes, 0, bytes.length, MSG_PEEK);
  if (result <= 0) return result;
  if (result <= skip) return hasEnded(socket) ? 0 : -ERRNO.EAGAIN;
  const count = Math.min(result - skip, length);
  if ((flags & MSG_TRUNC) === 0) scatter(iov, bytes.subarray(skip, skip + count));
  if (options.peekOffset >= 0) options.peekOffset += count;
  return count;
}

/** tcp_recv_urg(): the urgent byte. */
export function receiveUrgent(socket: TcpSocket, message: Message, flags: number): number {
  const byte = new Uint8Array(1);
  const result = socket.read(byte, 0, 1, flags & (MSG_OOB | MSG_PEEK));
  if (result <= 0) return result;
  message.flags = (flags & MSG_CMSG_CLOEXEC) | MSG_OOB;
  message.controlLength = 0;
  if (lengthOf(message.iov) === 0) {
    message.flags |= MSG_TRUNC;
    return 0;
  }
  if ((flags & MSG_TRUNC) === 0) scatter(message.iov, byte);
  return 1;
}

const STAMPS = [SO_TIMESTAMP, SO_TIMESTAMPNS, SO_TIMESTAMP_NEW, SO_TIMESTAMPNS_NEW];

/** When what is read was there to be read: now, at the latest. */
function tellStamp(options: StreamOptions, writer: ControlWriter): void {
  for (const name of STAMPS) {
    if (options.valueOf(SOL_SOCKET, name) === 0) continue;
    const now = Date.now();
    const micro = name === SO_TIMESTAMP || name === SO_TIMESTAMP_NEW;
    const rest = (now % 1000) * (micro ? 1000 : 1_000_000);
    writer.put(SOL_SOCKET, name, new Uint8Array(BigInt64Array.of(BigInt(Math.floor(now / 1000)), BigInt(rest)).buffer));
  }
}
