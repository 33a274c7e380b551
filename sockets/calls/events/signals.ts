/**
 * Signals of sockets: SIGIO and SIGURG for the owner of a file (fcntl(2), F_SETOWN and its kin), SIGPIPE for who writes. They are
 * real signals of the kernel's, sent by this process as fs/fcntl.c sends them.
 *
 * To threads of this process they carry what the kernel's carry (si_code, si_band, si_fd). No process can do so for another one: an
 * owner elsewhere gets the signal alone.
 */
import { ERRNO, sys } from "af-xdp-bindings";
import {
  F_GETOWN,
  F_GETOWN_EX,
  F_GETSIG,
  F_OWNER_PGRP,
  F_OWNER_PID,
  F_OWNER_TID,
  F_SETOWN,
  F_SETOWN_EX,
  F_SETSIG,
  POLL_ERR,
  POLL_HUP,
  POLL_IN,
  POLL_MSG,
  POLL_OUT,
  POLL_PRI,
  POLLERR,
  POLLHUP,
  POLLIN,
  POLLMSG,
  POLLOUT,
  POLLPRI,
  POLLRDBAND,
  POLLRDNORM,
  POLLWRBAND,
  POLLWRNORM,
  SIGIO,
  SIGPIPE,
  SIGURG,
} from "../constants.ts";

const { SYS } = sys;

/** Signals there are: 1 to 64. */
const NSIG = 64;
const SI_KERNEL = 0x80;
/** siginfo_t: i32 signo, errno, code, padding; i64 band; i32 fd. 128 bytes in all. */
const SIGINFO_BYTES = 128;
const SI_CODE = 8;
const SI_BAND = 16;
const SI_FD = 24;

/** si_band by si_code (band_table in fs/fcntl.c). */
const BANDS: Record<number, number> = {
  [POLL_IN]: POLLIN | POLLRDNORM,
  [POLL_OUT]: POLLOUT | POLLWRNORM | POLLWRBAND,
  [POLL_MSG]: POLLIN | POLLRDNORM | POLLMSG,
  [POLL_ERR]: POLLERR,
  [POLL_PRI]: POLLPRI | POLLRDBAND,
  [POLL_HUP]: POLLHUP | POLLERR,
};

/** Whom a file's signals are for, and which they are: struct fown_struct. */
export class Owner {
  private type = F_OWNER_TID;
  private pid = 0;
  /** F_SETSIG: 0 for SIGIO without more. */
  private signal = 0;

  /** F_SETOWN: a process, or with a negative number a process group. Returns 0 or -errno. */
  setOwner(who: number): number {
    // The kernel takes it for the group of the number's other sign, which there is none of.
    if (who === -(2 ** 31)) return -ERRNO.EINVAL;
    return this.setOwnerEx(who < 0 ? F_OWNER_PGRP : F_OWNER_PID, Math.abs(who));
  }

  setOwnerEx(type: number, pid: number): number {
    if (type !== F_OWNER_TID && type !== F_OWNER_PID && type !== F_OWNER_PGRP) return -ERRNO.EINVAL;
    if (pid !== 0 && !isUsed(pid)) return -ERRNO.ESRCH;
    this.type = type;
    this.pid = pid;
    return 0;
  }

  /** F_GETOWN. */
  getOwner(): number {
    const { pid } = this.getOwnerEx();
    return this.type === F_OWNER_PGRP ? 0 - pid : pid;
  }

  /** F_GETOWN_EX: 0 for an owner that is gone. */
  getOwnerEx(): { type: number; pid: number } {
    return { type: this.type, pid: this.pid !== 0 && exists(this.type, this.pid) ? this.pid : 0 };
  }

  /** F_SETSIG. Returns 0 or -errno. */
  setSignal(signal: number): number {
    if (signal < 0 || signal > NSIG) return -ERRNO.EINVAL;
    this.signal = signal;
    return 0;
  }

  getSignal(): number {
    return this.signal;
  }

  /** As kill_fasync(): what `code` (POLL_IN …) stands for has happened at a file with O_ASYNC set by way of descriptor `fd`. */
  notify(fd: number, code: number): void {
    if (this.pid === 0) return;
    if (this.signal === 0) {
      this.send(SIGIO, SI_KERNEL, 0, 0);
      return;
    }
    // A full queue of signals leaves SIGIO alone.
    if (this.send(this.signal, code, BANDS[code], fd) === -ERRNO.EAGAIN) this.send(SIGIO, SI_KERNEL, 0, 0);
  }

  /** As send_sigurg(): urgent data have come, with or without O_ASYNC. */
  urgent(): void {
    if (this.pid !== 0) this.send(SIGURG, SI_KERNEL, 0, 0);
  }

  private send(signal: number, code: number, band: number, fd: number): number {
    const { type, pid } = this;
    if (type === F_OWNER_PGRP) return pid === 1 ? 0 : sys.sys3(SYS.kill, -pid, signal, 0);
    const info = signalInfo(signal, code, band, fd);
    if (type === F_OWNER_TID) {
      return sys.sys6(SYS.rt_tgsigqueueinfo, process.pid, pid, signal, sys.addressOf(info), 0, 0);
    }
    const result = sys.sys3(SYS.rt_sigqueueinfo, pid, signal, sys.addressOf(info));
    return result === -ERRNO.EPERM ? sys.sys3(SYS.kill, pid, signal, 0) : result;
  }
}

/** The commands of fcntl(2) that are about the owner. */
export function fcntlOwner(owner: Owner, command: number, argument: number | Uint8Array): number {
  const value = typeof argument === "number" ? argument | 0 : 0;
  switch (command) {
    case F_SETOWN:
      return owner.setOwner(value);
    case F_GETOWN:
      return owner.getOwner();
    case F_SETSIG:
      return owner.setSignal(value);
    case F_GETSIG:
      return owner.getSignal();
    case F_SETOWN_EX:
    case F_GETOWN_EX:
      return typeof argument === "number" ? -ERRNO.EFAULT : ownerEx(owner, command, argument);
    default:
      return -ERRNO.EINVAL;
  }
}

/** struct f_owner_ex { int type; pid_t pid }. */
function ownerEx(owner: Owner, command: number, argument: Uint8Array): number {
  const view = new DataView(argument.buffer, argument.byteOffset, argument.byteLength);
  if (command === F_SETOWN_EX) return owner.setOwnerEx(view.getInt32(0, true), view.getInt32(4, true));
  const { type, pid } = owner.getOwnerEx();
  view.setInt32(0, type, true);
  view.setInt32(4, pid, true);
  return 0;
}

/** Raises SIGPIPE in the calling thread. */
export function raisePipe(): void {
  sys.sys3(SYS.tgkill, process.pid, sys.gettid(), SIGPIPE);
}

/** si_code of what is new, the most urgent of it; 0 where nothing is that signals tell of. */
export function codeOf(events: number): number {
  if ((events & POLLERR) !== 0) return POLL_ERR;
  if ((events & POLLHUP) !== 0) return POLL_HUP;
  if ((events & (POLLIN | POLLRDNORM)) !== 0) return POLL_IN;
  if ((events & (POLLOUT | POLLWRNORM)) !== 0) return POLL_OUT;
  return (events & POLLPRI) !== 0 ? POLL_PRI : 0;
}

function signalInfo(signal: number, code: number, band: number, fd: number): DataView {
  const info = new DataView(new ArrayBuffer(SIGINFO_BYTES));
  info.setInt32(0, signal, true);
  info.setInt32(SI_CODE, code, true);
  info.setInt32(SI_BAND, band, true);
  info.setInt32(SI_FD, fd, true);
  return info;
}

const alive = (result: number): boolean => result !== -ERRNO.ESRCH;
const isProcess = (pid: number): boolean => alive(sys.sys3(SYS.kill, pid, 0, 0));
const isThread = (pid: number): boolean => alive(sys.sys3(SYS.tkill, pid, 0, 0));
/** kill(-1) is not for a group but for everybody: group 1 counts as one that is not there, and is never sent anything. */
const isGroup = (pid: number): boolean => pid !== 1 && alive(sys.sys3(SYS.kill, -pid, 0, 0));

/** Whether the number is in use, for whatever, as find_vpid() sees it. Signal 0 asks whether there is somebody. */
const isUsed = (pid: number): boolean => isThread(pid) || isProcess(pid) || isGroup(pid);

/** Whether there is an owner of the type. */
function exists(type: number, pid: number): boolean {
  if (type === F_OWNER_PGRP) return isGroup(pid);
  return type === F_OWNER_TID ? isThread(pid) : isProcess(pid);
}
