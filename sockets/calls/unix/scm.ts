/** Control messages of AF_UNIX: __scm_send() and scm_recv_unix(), net/core/scm.c. */
import { ERRNO, sys } from "af-xdp-bindings";
import { SOL_SOCKET } from "../../options.ts";
import type { Limits } from "../../sockopt/limits.ts";
import { MSG_CMSG_CLOEXEC, MSG_CTRUNC, SCM_CREDENTIALS, SCM_PIDFD, SCM_RIGHTS } from "../constants.ts";
import { type ControlWriter, controlInt, visitControl } from "../control.ts";
import type { File } from "../file.ts";
import type { FileTable } from "../file-table.ts";
import type { Message } from "../message.ts";
import { type Credentials, checkCredentials, encodeCredentials } from "./credentials.ts";

/** SCM_MAX_FD: descriptors in one message. */
const DESCRIPTORS_MAX = 253;
const INT_BYTES = 4;

/** What goes along with a message that is sent. */
export interface Enclosed {
  credentials: Credentials | null;
  /** With a reference each. */
  files: File[];
}

/** What the message's control messages enclose, or -errno. Whoever calls has to drop the files that are left. */
export function enclosedBy(
  { control, controlLength }: Message,
  descriptors: FileTable,
  limits: Limits,
): Enclosed | number {
  const enclosed: Enclosed = { credentials: null, files: [] };
  if (control === null) return enclosed;
  const verdict = visitControl(control, controlLength, ({ level, type, data }) => {
    if (level !== SOL_SOCKET) return 0;
    if (type === SCM_RIGHTS) return enclose(enclosed.files, data, descriptors);
    if (type !== SCM_CREDENTIALS) return -ERRNO.EINVAL;
    const checked = checkCredentials(data, limits);
    if (typeof checked === "number") return checked;
    enclosed.credentials = checked;
    return 0;
  });
  if (verdict < 0) dropAll(enclosed.files);
  return verdict < 0 ? verdict : enclosed;
}

/** scm_fp_copy(). */
function enclose(files: File[], data: Uint8Array, descriptors: FileTable): number {
  const count = Math.floor(data.length / INT_BYTES);
  if (files.length + count > DESCRIPTORS_MAX) return -ERRNO.EINVAL;
  const view = new DataView(data.buffer, data.byteOffset);
  for (let i = 0; i < count; i++) {
    const file = descriptors.get(view.getInt32(i * INT_BYTES, true));
    if (file === null) return -ERRNO.EBADF;
    files.push(file.retain());
  }
  return 0;
}

/** What came along with a message that is received. */
export interface Delivered {
  readonly credentials: Credentials;
  /** The caller's, whatever becomes of them here. */
  readonly files: readonly File[];
}

/** What the receiving socket has asked for. */
export interface Wishes {
  readonly passesCredentials: boolean;
  readonly passesSecurity: boolean;
  readonly passesPidfd: boolean;
}

/**
 * Fills the message's control buffer, and gives the files descriptors. Labels of a security module (SCM_SECURITY) there are none.
 * @param pidFile makes a file of the descriptor that pidfd_open(2) gave
 */
export function deliver(
  writer: ControlWriter,
  message: Message,
  { credentials, files }: Delivered,
  wishes: Wishes,
  descriptors: FileTable,
  pidFile: (fd: number) => File,
): void {
  const { passesCredentials, passesPidfd, passesSecurity } = wishes;
  if (message.control === null || message.control.length === 0) {
    if (passesCredentials || passesPidfd || passesSecurity || files.length > 0) message.flags |= MSG_CTRUNC;
    return;
  }
  if (passesCredentials) writer.put(SOL_SOCKET, SCM_CREDENTIALS, encodeCredentials(credentials));
  if (files.length > 0) putFiles(writer, message, files, descriptors);
  if (!passesPidfd) return;
  if (writer.left < INT_BYTES) message.flags |= MSG_CTRUNC;
  else if (credentials.pid !== 0)
    writer.put(SOL_SOCKET, SCM_PIDFD, controlInt(openPid(credentials.pid, descriptors, pidFile)));
}

/** scm_detach_fds(): as many as have room, and descriptors to be had. */
function putFiles(writer: ControlWriter, message: Message, files: readonly File[], descriptors: FileTable): void {
  const room = Math.min(Math.max(Math.floor(writer.left / INT_BYTES), 0), files.length);
  const fds: number[] = [];
  for (const file of files.slice(0, room)) {
    const fd = descriptors.add(file.retain(), (message.flags & MSG_CMSG_CLOEXEC) !== 0);
    if (fd < 0) {
      file.drop();
      break;
    }
    fds.push(fd);
  }
  if (fds.length > 0) writer.put(SOL_SOCKET, SCM_RIGHTS, new Uint8Array(Int32Array.from(fds).buffer));
  if (fds.length < files.length) message.flags |= MSG_CTRUNC;
}

/** A descriptor for a process, or -errno. */
export function openPid(pid: number, descriptors: FileTable, pidFile: (fd: number) => File): number {
  const kernelFd = sys.sys3(sys.SYS.pidfd_open, pid, 0, 0);
  if (kernelFd < 0) return kernelFd;
  const file = pidFile(kernelFd);
  const fd = descriptors.add(file, true);
  if (fd < 0) file.drop();
  return fd;
}

export function dropAll(files: File[]): void {
  for (const file of files.splice(0)) file.drop();
}
