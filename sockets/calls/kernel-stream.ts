/**
 * What ends a receive of a stream socket of the kernel. One call of recvmsg(2) knows; who awaits makes several, and has to see before
 * each whether one call would have gone on: up to the urgent byte, up to the bytes of somebody else, and with those that files came along.
 */
import { SO_PASSCRED, SO_PASSPIDFD, SOL_SOCKET } from "../options.ts";
import {
  MSG_CMSG_CLOEXEC,
  MSG_CTRUNC,
  MSG_DONTWAIT,
  MSG_PEEK,
  SCM_CREDENTIALS,
  SCM_PIDFD,
  SCM_RIGHTS,
  SIOCATMARK,
} from "./constants.ts";
import { visitControl } from "./control.ts";
import type { KernelCalls } from "./kernel-calls.ts";
import { type Message, messageOf } from "./message.ts";
import type { Gathered } from "./reception.ts";
import { type Credentials, decodeCredentials, sameCredentials } from "./unix/credentials.ts";

const INT_BYTES = 4;
/** Credentials, a descriptor of a process, and more descriptors than a message has (SCM_MAX_FD, 253). */
const CONTROL_BYTES = 2048;

/** Whether what comes next must not go with what has been gathered; notes whose it is. */
export function endsBefore(kernel: KernelCalls, fd: number, gathered: Gathered): boolean {
  if (gathered.files) return true;
  const hasSome = gathered.bytes > 0;
  if (hasSome && isAtMark(kernel, fd)) return true;
  // Whose bytes they are is looked at where somebody is told of it alone, as unix_stream_read_generic() does.
  if (option(kernel, fd, SO_PASSCRED) === 0) return hasSome && option(kernel, fd, SO_PASSPIDFD) !== 0;
  const from = nextFrom(kernel, fd);
  if (from === null) return false;
  if (hasSome && gathered.from !== null && !sameCredentials(gathered.from, from)) return true;
  gathered.from = from;
  return false;
}

/** Whether files came along with a message; those that had no room in it count. */
export function broughtFiles({ control, controlLength, flags }: Message): boolean {
  let found = (flags & MSG_CTRUNC) !== 0;
  if (control === null) return found;
  visitControl(control, controlLength, ({ level, type }) => {
    if (level === SOL_SOCKET && type === SCM_RIGHTS) found = true;
    return 0;
  });
  return found;
}

/** Who has sent the next byte; null for none. */
function nextFrom(kernel: KernelCalls, fd: number): Credentials | null {
  const message = { ...messageOf(new Uint8Array(1)), control: new Uint8Array(CONTROL_BYTES) };
  if (kernel.recvmsg(fd, message, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0) return null;
  let from: Credentials | null = null;
  visitControl(message.control, message.controlLength, ({ level, type, data }) => {
    if (level !== SOL_SOCKET) return 0;
    if (type === SCM_CREDENTIALS) from = decodeCredentials(data);
    // Peeked at, too, they are new descriptors.
    if (type === SCM_RIGHTS || type === SCM_PIDFD) closeAll(kernel, data);
    return 0;
  });
  return from;
}

function closeAll(kernel: KernelCalls, data: Uint8Array): void {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  for (let at = 0; at + INT_BYTES <= data.length; at += INT_BYTES) {
    const fd = view.getInt32(at, true);
    if (fd >= 0) kernel.close(fd);
  }
}

function isAtMark(kernel: KernelCalls, fd: number): boolean {
  const mark = new Int32Array(1);
  return kernel.ioctl(fd, SIOCATMARK, new Uint8Array(mark.buffer)) === 0 && mark[0] !== 0;
}

function option(kernel: KernelCalls, fd: number, name: number): number {
  const value = new Int32Array(1);
  return kernel.getsockopt(fd, SOL_SOCKET, name, new Uint8Array(value.buffer)) < 0 ? 0 : value[0];
}
