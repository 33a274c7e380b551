/**
 * The calls of socket(7) on files of this thread: descriptors, what every file has (fcntl, FIONBIO), and waiting. What a socket
 * does is its file's.
 *
 * A call that would wait tries its operation again whenever something has happened in the thread. A thread that waits runs nothing
 * else meanwhile; who has an event loop to run sets O_NONBLOCK and awaits (async-calls.ts).
 */
import { ERRNO, sys } from "af-xdp-bindings";
import {
  F_DUPFD,
  F_DUPFD_CLOEXEC,
  F_GETFD,
  F_GETFL,
  F_GETOWN,
  F_SETFD,
  F_SETFL,
  F_SETOWN,
  FD_CLOEXEC,
  FIOASYNC,
  FIOCLEX,
  FIOGETOWN,
  FIONBIO,
  FIONCLEX,
  FIOSETOWN,
  MSG_DONTWAIT,
  MSG_ERRQUEUE,
  MSG_NOSIGNAL,
  O_APPEND,
  O_ASYNC,
  O_NONBLOCK,
  POLLERR,
  POLLHUP,
  POLLIN,
  POLLOUT,
  POLLPRI,
  SIOCGPGRP,
  SIOCSPGRP,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_TYPE_MASK,
} from "./constants.ts";
import { KernelWatch } from "./events/kernel-watch.ts";
import { Readiness } from "./events/readiness.ts";
import type { File } from "./file.ts";
import { FileTable } from "./file-table.ts";
import { KernelFile } from "./kernel-file.ts";
import { type AddressBuffer, lengthOf, type Message, messageOf, nameOf, partsFrom } from "./message.ts";
import { Reception } from "./reception.ts";
import type { EpollEvent, PollEntry, SocketCalls } from "./socket-calls.ts";

/** A protocol family: makes its sockets. */
export interface Family {
  /** A file with one reference, or -errno as socket(2). `type` is without flags. */
  socket(type: number, protocol: number): File | number;
  /** socketpair(2); -EOPNOTSUPP where the family has none. */
  pair(type: number, protocol: number): readonly [File, File] | number;
}

/** What is waited for. */
export interface Wait {
  readonly file: File;
  readonly events: number;
}

/** How the thread waits. */
export interface Sleeper {
  /** Lets what has happened meanwhile reach the files, without waiting. */
  progress(): void;
  /**
   * Waits until something may have happened at one of the files, up to `timeoutMs`. May return early. `events`: the POLL bits that are
   * waited for, which descriptors of the kernel (File.kernelFds) have to be asked for.
   */
  sleep(waits: readonly Wait[], timeoutMs: number): void;
}

/** Raises SIGPIPE in the calling thread. */
export type PipeSignal = () => void;

const FLAGS_SETTABLE = O_APPEND | O_NONBLOCK | O_ASYNC;

export class SocketProcess implements SocketCalls {
  readonly descriptors: FileTable;
  private readonly families: ReadonlyMap<number, Family>;
  private readonly readiness: Readiness;
  private readonly sleeper: Sleeper;
  private readonly raisePipe: PipeSignal;

  private readonly watch: KernelWatch;
  /** Called when it ends: what its families hold. */
  readonly atExit: (() => void)[] = [];

  /**
   * @param families by AF_ number; another gives EAFNOSUPPORT
   * @param watch for files of the kernel, which KernelFamily makes
   */
  constructor(
    families: ReadonlyMap<number, Family>,
    sleeper: Sleeper,
    raisePipe: PipeSignal,
    watch = new KernelWatch(),
  ) {
    this.families = families;
    this.sleeper = sleeper;
    this.raisePipe = raisePipe;
    this.watch = watch;
    this.descriptors = new FileTable();
    this.readiness = new Readiness(this.descriptors, sleeper, watch);
  }

  /** Closes every descriptor, as the end of a process does. */
  exit(): void {
    this.descriptors.closeAll();
    this.watch.close();
    for (const release of this.atExit.splice(0)) release();
  }

  socket(family: number, type: number, protocol: number): number {
    const flags = type & ~SOCK_TYPE_MASK;
    if ((flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) !== 0) return -ERRNO.EINVAL;
    const made = this.families.get(family)?.socket(type & SOCK_TYPE_MASK, protocol) ?? -ERRNO.EAFNOSUPPORT;
    return typeof made === "number" ? made : this.install(made, flags);
  }

  socketpair(family: number, type: number, protocol: number, out: Int32Array): number {
    const flags = type & ~SOCK_TYPE_MASK;
    if ((flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) !== 0) return -ERRNO.EINVAL;
    const made = this.families.get(family)?.pair(type & SOCK_TYPE_MASK, protocol) ?? -ERRNO.EAFNOSUPPORT;
    if (typeof made === "number") return made;
    const first = this.install(made[0], flags);
    const second = this.install(made[1], flags);
    if (first < 0 || second < 0) {
      if (first >= 0) this.close(first);
      if (second >= 0) this.close(second);
      return -ERRNO.EMFILE;
    }
    out[0] = first;
    out[1] = second;
    return 0;
  }

  bind(fd: number, address: Uint8Array): number {
    return this.with(fd, (file) => file.bind(address));
  }

  connect(fd: number, address: Uint8Array): number {
    return this.with(fd, (file) => {
      const waits = !isNonBlocking(file, 0);
      const result = this.waitFor(file, waits ? POLLOUT : 0, file.sendTimeoutMs, () => file.connect(address, waits));
      if (result !== -ERRNO.EINPROGRESS || !waits) return result;
      const done = (): number => (isConnecting(file) ? -ERRNO.EAGAIN : 0);
      return this.waitFor(file, POLLOUT, file.sendTimeoutMs, done) < 0 ? -ERRNO.EINPROGRESS : file.connected();
    });
  }

  /** connect() as if the descriptor had O_NONBLOCK. */
  tryConnect(fd: number, address: Uint8Array): number {
    return this.with(fd, (file) => file.connect(address, false));
  }

  listen(fd: number, backlog: number): number {
    return this.with(fd, (file) => file.listen(backlog));
  }

  accept4(fd: number, address: AddressBuffer | null, flags: number): number {
    return this.acceptWith(fd, address, flags, true);
  }

  /** accept4() tried once for a caller who waits otherwise. */
  tryAccept(fd: number, address: AddressBuffer | null, flags: number): number {
    return this.acceptWith(fd, address, flags, false);
  }

  private acceptWith(fd: number, address: AddressBuffer | null, flags: number, sleeps: boolean): number {
    if ((flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) !== 0) return -ERRNO.EINVAL;
    return this.with(fd, (file) => {
      const waits = !sleeps || !isNonBlocking(file, 0);
      let accepted: File | null = null;
      const attempt = (): number => {
        const result = file.accept(address, waits && (sleeps || !file.waitsItself));
        if (typeof result === "number") return result;
        accepted = result;
        return 0;
      };
      const result = this.waitFor(file, waits && sleeps ? POLLIN : 0, file.receiveTimeoutMs, attempt);
      return accepted === null ? result : this.install(accepted, flags);
    });
  }

  getsockname(fd: number, address: AddressBuffer): number {
    return this.with(fd, (file) => file.getsockname(address));
  }

  getpeername(fd: number, address: AddressBuffer): number {
    return this.with(fd, (file) => file.getpeername(address));
  }

  shutdown(fd: number, how: number): number {
    return this.with(fd, (file) => file.shutdown(how));
  }

  close(fd: number): number {
    return this.descriptors.close(fd);
  }

  dup(fd: number): number {
    return this.fcntl(fd, F_DUPFD, 0);
  }

  sendto(fd: number, data: Uint8Array, flags: number, address: Uint8Array | null): number {
    return this.sendmsg(fd, { ...messageOf(data), name: nameOf(address) }, flags);
  }

  recvfrom(fd: number, into: Uint8Array, flags: number, address: AddressBuffer | null): number {
    const message = messageOf(into);
    message.name = address;
    return this.recvmsg(fd, message, flags);
  }

  sendmsg(fd: number, message: Message, flags: number): number {
    return this.with(fd, (file) => (file.isSocket ? this.send(file, message, flags) : -ERRNO.ENOTSOCK));
  }

  recvmsg(fd: number, message: Message, flags: number): number {
    return this.with(fd, (file) => (file.isSocket ? this.receive(file, message, flags) : -ERRNO.ENOTSOCK));
  }

  /** sendmsg() tried once for a caller who waits otherwise: a stream takes what it has room for. */
  trySendmsg(fd: number, message: Message, flags: number): number {
    return this.with(fd, (file) => {
      if (!file.isSocket) return -ERRNO.ENOTSOCK;
      file.refresh();
      return this.sendPart(file, message, triedOnce(file, flags), 0);
    });
  }

  /** A recvmsg() for a caller who waits otherwise, and tries again whenever something has happened; or -errno. */
  beginReceive(fd: number, message: Message, flags: number): Reception | number {
    const file = this.descriptors.get(fd);
    if (file === null) return -ERRNO.EBADF;
    if (!file.isSocket) return -ERRNO.ENOTSOCK;
    file.refresh();
    const gathers = file.isByteStream && (flags & MSG_ERRQUEUE) === 0;
    return new Reception(file, message, triedOnce(file, flags), this.descriptors, gathers);
  }

  read(fd: number, into: Uint8Array): number {
    return this.readv(fd, [into]);
  }

  write(fd: number, data: Uint8Array): number {
    return this.writeParts(fd, [data]);
  }

  readv(fd: number, iov: readonly Uint8Array[]): number {
    return this.with(fd, (file) => {
      if (file.isSocket) return lengthOf(iov) === 0 ? 0 : this.receive(file, messageOf(...iov), 0);
      const waits = !isNonBlocking(file, 0);
      return this.waitFor(file, waits ? POLLIN : 0, file.receiveTimeoutMs, () => file.read(iov[0], waits));
    });
  }

  /** No bytes at all: no file is asked (vfs_writev). */
  writev(fd: number, iov: readonly Uint8Array[]): number {
    return lengthOf(iov) === 0 ? this.with(fd, () => 0) : this.writeParts(fd, iov);
  }

  private writeParts(fd: number, iov: readonly Uint8Array[]): number {
    return this.with(fd, (file) => {
      if (file.isSocket) return this.send(file, messageOf(...iov), 0);
      const waits = !isNonBlocking(file, 0);
      return this.waitFor(file, waits ? POLLOUT : 0, file.sendTimeoutMs, () => file.write(iov[0], waits));
    });
  }

  pread(fd: number, _into: Uint8Array, offset: number): number {
    return this.with(fd, () => (offset < 0 ? -ERRNO.EINVAL : -ERRNO.ESPIPE));
  }

  pwrite(fd: number, _data: Uint8Array, offset: number): number {
    return this.with(fd, () => (offset < 0 ? -ERRNO.EINVAL : -ERRNO.ESPIPE));
  }

  lseek(fd: number, _offset: number, _whence: number): number {
    return this.with(fd, (file) => file.seek());
  }

  setsockopt(fd: number, level: number, name: number, value: Uint8Array): number {
    return this.with(fd, (file) => file.setsockopt(level, name, value));
  }

  getsockopt(fd: number, level: number, name: number, out: Uint8Array): number {
    return this.with(fd, (file) => file.getsockopt(level, name, out, this.descriptors));
  }

  ioctl(fd: number, request: number, argument: Uint8Array): number {
    return this.with(fd, (file) => {
      switch (request) {
        case FIOCLEX:
        case FIONCLEX:
          this.descriptors.setCloseOnExec(fd, request === FIOCLEX);
          return 0;
        case FIONBIO:
          return changeStatus(file, fd, O_NONBLOCK, intOf(argument) !== 0);
        case FIOASYNC:
          return changeStatus(file, fd, O_ASYNC, intOf(argument) !== 0);
        case FIOSETOWN:
        case SIOCSPGRP:
          return file.isSocket ? file.fcntl(F_SETOWN, intOf(argument)) : -ERRNO.ENOTTY;
        case FIOGETOWN:
        case SIOCGPGRP:
          return file.isSocket ? putInt(argument, file.fcntl(F_GETOWN, 0)) : -ERRNO.ENOTTY;
        default:
          return file.ioctl(request, argument);
      }
    });
  }

  fcntl(fd: number, command: number, argument: number | Uint8Array): number {
    return this.with(fd, (file) => {
      const value = typeof argument === "number" ? argument : 0;
      switch (command) {
        case F_DUPFD:
        case F_DUPFD_CLOEXEC:
          return this.duplicate(file, value, command === F_DUPFD_CLOEXEC);
        case F_GETFD:
          return this.descriptors.closesOnExec(fd) ? FD_CLOEXEC : 0;
        case F_SETFD:
          this.descriptors.setCloseOnExec(fd, (value & FD_CLOEXEC) !== 0);
          return 0;
        case F_GETFL:
          return file.status;
        case F_SETFL:
          return changeStatus(file, fd, FLAGS_SETTABLE, false, value & FLAGS_SETTABLE);
        default:
          return file.fcntl(command, argument);
      }
    });
  }

  poll(entries: readonly PollEntry[], timeoutMs: number): number {
    return this.readiness.poll(entries, timeoutMs);
  }

  select(
    count: number,
    read: Uint8Array | null,
    write: Uint8Array | null,
    except: Uint8Array | null,
    timeoutMs: number,
  ): number {
    return this.readiness.select(count, read, write, except, timeoutMs);
  }

  epollCreate(flags: number): number {
    const made = this.readiness.createEpoll(flags);
    return typeof made === "number" ? made : this.install(made, flags & SOCK_CLOEXEC);
  }

  epollControl(epoll: number, operation: number, fd: number, event: EpollEvent | null): number {
    return this.readiness.control(epoll, operation, fd, event);
  }

  epollWait(epoll: number, events: readonly EpollEvent[], timeoutMs: number): number {
    return this.readiness.wait(epoll, events, timeoutMs);
  }

  /** A descriptor for a file that was made elsewhere; the reference is the table's. Returns it or -errno. */
  adopt(file: File): number {
    return this.install(file, 0);
  }

  /**
   * A new descriptor of the kernel's for the same file, which another thread takes by adoptKernel(); whoever has it closes it otherwise.
   * Or -errno: EOPNOTSUPP for files of this thread, which the kernel does not know.
   */
  exportKernel(fd: number): number {
    return this.with(fd, (file) => {
      if (!(file instanceof KernelFile && file.isTheKernels)) return -ERRNO.EOPNOTSUPP;
      return sys.sys3(sys.SYS.fcntl, file.fd, F_DUPFD_CLOEXEC, 0);
    });
  }

  /** A descriptor for one of the kernel's, which is closed with it. Returns it or -errno. */
  adoptKernel(kernelFd: number): number {
    const flags = sys.sys3(sys.SYS.fcntl, kernelFd, F_GETFD, 0);
    return flags < 0 ? flags : this.adopt(new KernelFile(kernelFd, this.watch));
  }

  /** Sends all of it where it may wait: a stream takes what it has room for. */
  private send(file: File, message: Message, flags: number): number {
    const waits = !isNonBlocking(file, flags);
    const told = waits ? flags : flags | MSG_DONTWAIT;
    const total = file.isStream ? lengthOf(message.iov) : 0;
    let part = message;
    let sent = 0;
    for (;;) {
      const attempt = (): number => this.sendPart(file, part, told, sent);
      const result = this.waitFor(file, waits ? POLLOUT : 0, file.sendTimeoutMs, attempt);
      if (result < 0) return sent > 0 ? sent : result;
      sent += result;
      if (!waits || sent >= total || result === 0) return sent;
      // What goes along went with the first part.
      part = { ...message, iov: partsFrom(message.iov, sent), control: null, controlLength: 0 };
    }
  }

  private sendPart(file: File, message: Message, flags: number, sent: number): number {
    const result = file.send(message, flags, this.descriptors);
    const isPart = file.isStream && result >= 0 && result < lengthOf(message.iov);
    if (result === -ERRNO.EAGAIN || isPart) file.foundNoSpace();
    if (result === -ERRNO.EPIPE && sent === 0 && file.isStream && (flags & MSG_NOSIGNAL) === 0) this.raisePipe();
    return result;
  }

  /** Receives: a stream as much as SO_RCVLOWAT or MSG_WAITALL want, where it may wait. */
  private receive(file: File, message: Message, flags: number): number {
    const waits = !isNonBlocking(file, flags) && (flags & MSG_ERRQUEUE) === 0;
    const told = waits ? flags : flags | MSG_DONTWAIT;
    const reception = new Reception(file, message, told, this.descriptors, waits && file.isStream);
    const events = waits ? POLLIN | POLLPRI : 0;
    return reception.end(this.waitFor(file, events, file.receiveTimeoutMs, () => reception.attempt()));
  }

  /**
   * Tries until the attempt gives something else than EAGAIN, or the time is over.
   * @param events what is waited for; 0: it is tried once
   */
  private waitFor(file: File, events: number, timeoutMs: number, attempt: () => number): number {
    file.refresh();
    // What was sent before must not wait with the thread.
    if (file.waitsItself && events !== 0) this.sleeper.progress();
    let result = attempt();
    if (result !== -ERRNO.EAGAIN || events === 0 || file.waitsItself) return result;
    const deadline = performance.now() + timeoutMs;
    const waits = [{ file, events }];
    for (;;) {
      const left = deadline - performance.now();
      if (left <= 0) return result;
      this.sleeper.sleep(waits, Math.min(left, file.sleepLimitMs));
      file.refresh();
      result = attempt();
      if (result !== -ERRNO.EAGAIN) return result;
    }
  }

  private with(fd: number, operation: (file: File) => number): number {
    const file = this.descriptors.get(fd);
    return file === null ? -ERRNO.EBADF : operation(file);
  }

  private install(file: File, flags: number): number {
    const fd = this.descriptors.add(file, (flags & SOCK_CLOEXEC) !== 0);
    if (fd < 0) file.drop();
    else if ((flags & SOCK_NONBLOCK) !== 0) changeStatus(file, fd, O_NONBLOCK, true);
    return fd;
  }

  private duplicate(file: File, from: number, closeOnExec: boolean): number {
    if (from < 0) return -ERRNO.EINVAL;
    const fd = this.descriptors.add(file.retain(), closeOnExec, from);
    if (fd < 0) file.drop();
    return fd === -ERRNO.EMFILE && from > 0 ? -ERRNO.EINVAL : fd;
  }
}

const isNonBlocking = (file: File, flags: number): boolean =>
  (file.status & O_NONBLOCK) !== 0 || (flags & MSG_DONTWAIT) !== 0;

/** The flags of a call whose caller waits otherwise: the file is told that it waits, but where that would be in the kernel. */
const triedOnce = (file: File, flags: number): number =>
  file.waitsItself ? flags | MSG_DONTWAIT : flags & ~MSG_DONTWAIT;

/** Whether a connect() that gave EINPROGRESS still goes on. */
export const isConnecting = (file: File): boolean => (file.poll() & (POLLOUT | POLLERR | POLLHUP)) === 0;

/** Sets the bits, or with `value` replaces them. */
function changeStatus(file: File, fd: number, bits: number, on: boolean, value = on ? bits : 0): number {
  const status = (file.status & ~bits) | value;
  if (status !== file.status) {
    file.status = status;
    file.statusChanged(fd);
  }
  return 0;
}

function putInt(bytes: Uint8Array, value: number): number {
  new DataView(bytes.buffer, bytes.byteOffset).setInt32(0, value, true);
  return 0;
}

const intOf = (bytes: Uint8Array): number => new DataView(bytes.buffer, bytes.byteOffset).getInt32(0, true);
