/** Stories of bytes that come little by little, and what of each receive is compared. */
import { MSG_OOB, MSG_WAITALL, SCM_CREDENTIALS, SCM_RIGHTS, SHUT_WR } from "../../sockets/calls/constants.ts";
import { controlInt, encodeControl, visitControl } from "../../sockets/calls/control.ts";
import { type Message, messageOf } from "../../sockets/calls/message.ts";
import type { SocketCalls } from "../../sockets/calls/socket-calls.ts";
import { SO_OOBINLINE, SO_PASSCRED, SO_RCVLOWAT, SO_RCVTIMEO, SOL_SOCKET } from "../../sockets/options.ts";

export interface Receive {
  readonly room: number;
  readonly flags: number;
}

export interface Received {
  readonly result: number;
  readonly bytes: string;
  readonly flags: number;
  /** Types of its control messages, with how many descriptors came. */
  readonly control: readonly string[];
}

/** What a receive has given. Descriptors that came along are closed. */
export function received(result: number, message: Message, close: (fd: number) => void): Received {
  const control: string[] = [];
  if (result >= 0 && message.control !== null) {
    visitControl(message.control, message.controlLength, ({ level, type, data }) => {
      const fds = level === SOL_SOCKET && type === SCM_RIGHTS ? new Int32Array(data.slice().buffer) : new Int32Array(0);
      fds.forEach(close);
      control.push(`${level} ${type} ${fds.length}`);
      return 0;
    });
  }
  const bytes = message.iov[0].subarray(0, Math.max(result, 0)).toHex();
  return { result, bytes, flags: result < 0 ? 0 : message.flags, control };
}

export type Send = (calls: SocketCalls, fd: number) => void;

export interface Story {
  readonly name: string;
  /** Of AF_UNIX alone. */
  readonly unix?: true;
  readonly options?: readonly (readonly [name: number, value: Uint8Array])[];
  /** One after the other, each a while after the one before. */
  readonly sends: readonly Send[];
  readonly receives: readonly Receive[];
}

const bytes =
  (...values: number[]): Send =>
  (calls, fd) => {
    calls.write(fd, Uint8Array.from(values));
  };

const urgent =
  (...values: number[]): Send =>
  (calls, fd) => {
    calls.sendto(fd, Uint8Array.from(values), MSG_OOB, null);
  };

const withControl =
  (control: (fd: number) => Uint8Array, type: number, ...values: number[]): Send =>
  (calls, fd) => {
    const encoded = encodeControl({ level: SOL_SOCKET, type, data: control(fd) });
    const message = { ...messageOf(Uint8Array.from(values)), control: encoded, controlLength: encoded.length };
    calls.sendmsg(fd, message, 0);
  };

/** With the descriptor of the sender's own end. */
const withFile = (...values: number[]): Send => withControl((fd) => controlInt(fd), SCM_RIGHTS, ...values);

/** As another user, which root may be. */
const asUser = (uid: number, ...values: number[]): Send =>
  withControl(() => new Uint8Array(Int32Array.of(process.pid, uid, uid).buffer), SCM_CREDENTIALS, ...values);

const end: Send = (calls, fd) => {
  calls.shutdown(fd, SHUT_WR);
};

const all = (room: number): Receive => ({ room, flags: MSG_WAITALL });
const plain = (room: number): Receive => ({ room, flags: 0 });

/** struct timeval. */
const milliseconds = (ms: number): Uint8Array => new Uint8Array(BigInt64Array.of(0n, BigInt(ms * 1000)).buffer);

export const STORIES: readonly Story[] = [
  { name: "MSG_WAITALL: in parts", sends: [bytes(1, 2, 3), bytes(4), bytes(5, 6, 7, 8)], receives: [all(8)] },
  { name: "MSG_WAITALL: more than is asked for", sends: [bytes(1, 2), bytes(3, 4, 5)], receives: [all(4), plain(8)] },
  {
    name: "MSG_WAITALL: the time is over",
    options: [[SO_RCVTIMEO, milliseconds(150)]],
    sends: [bytes(1, 2), bytes(3)],
    receives: [all(8), all(8)],
  },
  { name: "MSG_WAITALL: the end", sends: [bytes(1, 2), bytes(3), end], receives: [all(8), all(8)] },
  {
    name: "SO_RCVLOWAT",
    options: [[SO_RCVLOWAT, controlInt(5)]],
    sends: [bytes(1, 2, 3), bytes(4, 5, 6), end],
    receives: [plain(8), plain(8)],
  },
  {
    name: "SO_RCVLOWAT: more than there is room for",
    options: [[SO_RCVLOWAT, controlInt(100)]],
    sends: [bytes(1, 2), bytes(3, 4), end],
    receives: [plain(4), plain(4)],
  },
  {
    name: "MSG_WAITALL up to the urgent byte",
    sends: [bytes(1, 2), urgent(3), bytes(4, 5), end],
    receives: [all(8), all(8)],
  },
  {
    name: "MSG_WAITALL up to an urgent byte inline",
    options: [[SO_OOBINLINE, controlInt(1)]],
    sends: [bytes(1, 2), urgent(3), bytes(4, 5), end],
    receives: [all(8), all(8), all(8)],
  },
  {
    name: "MSG_WAITALL, and files come along",
    unix: true,
    sends: [bytes(1), withFile(2), bytes(3), end],
    receives: [all(8), all(8)],
  },
  {
    name: "MSG_WAITALL, and files come with the first",
    unix: true,
    sends: [withFile(1, 2), bytes(3, 4), end],
    receives: [all(8), all(8)],
  },
  {
    name: "MSG_WAITALL up to the bytes of another user",
    unix: true,
    options: [[SO_PASSCRED, controlInt(1)]],
    sends: [bytes(1, 2), bytes(3), asUser(12, 4, 5), asUser(12, 6), bytes(7), end],
    receives: [all(8), all(8), all(8)],
  },
];
