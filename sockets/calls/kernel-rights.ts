/**
 * Descriptors that control messages carry between a process of ours and a socket of the kernel: numbers of the process's on one side,
 * of the kernel's on the other.
 */
import { ERRNO } from "af-xdp-bindings";
import { SOL_SOCKET } from "../options.ts";
import { MSG_CMSG_CLOEXEC, SCM_PIDFD, SCM_RIGHTS } from "./constants.ts";
import { type ControlMessage, encodeControl, visitControl } from "./control.ts";
import type { File } from "./file.ts";
import type { FileTable } from "./file-table.ts";
import type { Message } from "./message.ts";

const INT_BYTES = 4;
/** A descriptor that nobody has: the kernel says EBADF, in the order of its own checks. */
const NONE = -1;

const isRights = ({ level, type }: ControlMessage): boolean => level === SOL_SOCKET && type === SCM_RIGHTS;

const viewOf = ({ data }: ControlMessage): DataView => new DataView(data.buffer, data.byteOffset, data.byteLength);

/**
 * The message as the kernel is to have it. -EOPNOTSUPP where a file goes along that is not the kernel's; malformed control messages are
 * left for the kernel to refuse.
 * @param kernelFd the kernel's number of a file, -1 where it has none
 */
export function outgoing(message: Message, descriptors: FileTable, kernelFd: (file: File) => number): Message | number {
  const { control } = message;
  if (control === null) return message;
  const translated: ControlMessage[] = [];
  let found = false;
  const verdict = visitControl(control, message.controlLength, (part) => {
    if (!isRights(part)) {
      translated.push(part);
      return 0;
    }
    found = true;
    const data = part.data.slice();
    const view = new DataView(data.buffer);
    for (let at = 0; at + INT_BYTES <= data.length; at += INT_BYTES) {
      const file = descriptors.get(view.getInt32(at, true));
      const fd = file === null ? NONE : kernelFd(file);
      if (file !== null && fd < 0) return -ERRNO.EOPNOTSUPP;
      view.setInt32(at, fd, true);
    }
    translated.push({ ...part, data });
    return 0;
  });
  if (verdict === -ERRNO.EOPNOTSUPP) return verdict;
  if (verdict < 0 || !found) return message;
  const bytes = encodeControl(...translated);
  return { ...message, control: bytes, controlLength: bytes.length };
}

/** Gives what came along descriptors of the process's. @param fileOf makes a file of a descriptor of the kernel */
export function incoming(message: Message, descriptors: FileTable, fileOf: (fd: number) => File): void {
  const { control } = message;
  if (control === null) return;
  visitControl(control, message.controlLength, (part) => {
    const isPidfd = part.level === SOL_SOCKET && part.type === SCM_PIDFD;
    if (!isRights(part) && !isPidfd) return 0;
    const view = viewOf(part);
    for (let at = 0; at + INT_BYTES <= part.data.length; at += INT_BYTES) {
      const kernelFd = view.getInt32(at, true);
      if (kernelFd < 0) continue;
      const file = fileOf(kernelFd);
      const fd = descriptors.add(file, isPidfd || (message.flags & MSG_CMSG_CLOEXEC) !== 0);
      if (fd < 0) file.drop();
      view.setInt32(at, fd, true);
    }
    return 0;
  });
}
