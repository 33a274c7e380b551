/** The calls of socket(7) as the kernel has them: the oracle, and sockets of the kernel in a network namespace. */
import { sys } from "af-xdp-bindings";
import {
  IOVEC_BYTES,
  IOVEC_LENGTH,
  MSG_CONTROL,
  MSG_CONTROLLEN,
  MSG_FLAGS,
  MSG_IOV,
  MSG_IOVLEN,
  MSG_NAME,
  MSG_NAMELEN,
  MSGHDR_BYTES,
  putAddress,
} from "../msghdr.ts";
import { SO_ERROR, SOL_SOCKET } from "../options.ts";
import type { AddressBuffer, Message } from "./message.ts";
import type { EpollEvent, PollEntry, SocketCalls } from "./socket-calls.ts";

const { SYS } = sys;

/** Runs the body with the thread in a network namespace. */
export type InNamespace = <T>(body: () => T) => T;

export class KernelCalls implements SocketCalls {
  private readonly inNamespace: InNamespace;

  /** @param inNamespace where sockets are made; default the thread's own namespace */
  constructor(inNamespace: InNamespace = (body) => body()) {
    this.inNamespace = inNamespace;
  }

  socket(family: number, type: number, protocol: number): number {
    return this.inNamespace(() => sys.socket(family, type, protocol));
  }

  socketpair(family: number, type: number, protocol: number, out: Int32Array): number {
    return this.inNamespace(() => sys.sys6(SYS.socketpair, family, type, protocol, sys.addressOf(out), 0, 0));
  }

  bind(fd: number, address: Uint8Array): number {
    return sys.bind(fd, address);
  }

  connect(fd: number, address: Uint8Array): number {
    return sys.connect(fd, address);
  }

  listen(fd: number, backlog: number): number {
    return sys.sys3(SYS.listen, fd, backlog, 0);
  }

  accept4(fd: number, address: AddressBuffer | null, flags: number): number {
    return withAddress(address, (at, length) => sys.sys6(SYS.accept4, fd, at, length, flags, 0, 0));
  }

  getsockname(fd: number, address: AddressBuffer): number {
    return withAddress(address, (at, length) => sys.sys3(SYS.getsockname, fd, at, length));
  }

  getpeername(fd: number, address: AddressBuffer): number {
    return withAddress(address, (at, length) => sys.sys3(SYS.getpeername, fd, at, length));
  }

  shutdown(fd: number, how: number): number {
    return sys.sys3(SYS.shutdown, fd, how, 0);
  }

  close(fd: number): number {
    return sys.close(fd);
  }

  dup(fd: number): number {
    return sys.sys3(SYS.fcntl, fd, 0, 0);
  }

  sendto(fd: number, data: Uint8Array, flags: number, address: Uint8Array | null): number {
    const to = address === null ? 0 : sys.addressOf(address);
    return sys.sendto(fd, sys.addressOf(data), data.length, flags, to, address?.length ?? 0);
  }

  recvfrom(fd: number, into: Uint8Array, flags: number, address: AddressBuffer | null): number {
    return withAddress(address, (at, length) => sys.recvfrom(fd, sys.addressOf(into), into.length, flags, at, length));
  }

  sendmsg(fd: number, message: Message, flags: number): number {
    const header = new Header(message, message.controlLength);
    return sys.sys3(SYS.sendmsg, fd, header.address, flags);
  }

  recvmsg(fd: number, message: Message, flags: number): number {
    const header = new Header(message, message.control?.length ?? 0);
    const result = sys.sys3(SYS.recvmsg, fd, header.address, flags);
    if (result >= 0) header.readBack(message);
    return result;
  }

  read(fd: number, into: Uint8Array): number {
    return sys.read(fd, sys.addressOf(into), into.length);
  }

  write(fd: number, data: Uint8Array): number {
    return sys.write(fd, sys.addressOf(data), data.length);
  }

  readv(fd: number, iov: readonly Uint8Array[]): number {
    const vector = vectorOf(iov);
    return sys.sys3(SYS.readv, fd, sys.addressOf(vector), iov.length);
  }

  writev(fd: number, iov: readonly Uint8Array[]): number {
    const vector = vectorOf(iov);
    return sys.sys3(SYS.writev, fd, sys.addressOf(vector), iov.length);
  }

  pread(fd: number, into: Uint8Array, offset: number): number {
    return sys.sys6(SYS.pread64, fd, sys.addressOf(into), into.length, offset, 0, 0);
  }

  pwrite(fd: number, data: Uint8Array, offset: number): number {
    return sys.sys6(SYS.pwrite64, fd, sys.addressOf(data), data.length, offset, 0, 0);
  }

  lseek(fd: number, offset: number, whence: number): number {
    return sys.sys3(SYS.lseek, fd, offset, whence);
  }

  setsockopt(fd: number, level: number, name: number, value: Uint8Array): number {
    return sys.setsockopt(fd, level, name, value);
  }

  getsockopt(fd: number, level: number, name: number, out: Uint8Array): number {
    return sys.getsockopt(fd, level, name, out);
  }

  /** SO_ERROR, which is cleared: a positive errno, or 0. */
  takeError(fd: number): number {
    const value = new Int32Array(1);
    sys.getsockoptInt(fd, SOL_SOCKET, SO_ERROR, value);
    return value[0];
  }

  ioctl(fd: number, request: number, argument: Uint8Array): number {
    return sys.ioctl(fd, request, sys.addressOf(argument));
  }

  fcntl(fd: number, command: number, argument: number | Uint8Array): number {
    return sys.sys3(SYS.fcntl, fd, command, typeof argument === "number" ? argument : sys.addressOf(argument));
  }

  poll(entries: readonly PollEntry[], timeoutMs: number): number {
    const words = new DataView(new ArrayBuffer(entries.length * POLLFD_BYTES));
    entries.forEach(({ fd, events }, i) => {
      words.setInt32(i * POLLFD_BYTES, fd, true);
      words.setInt16(i * POLLFD_BYTES + 4, events, true);
    });
    const timeout = timeoutMs < 0 ? null : timespec(timeoutMs);
    const result = sys.ppoll(sys.addressOf(words), entries.length, timeout === null ? 0 : sys.addressOf(timeout));
    entries.forEach((entry, i) => {
      entry.revents = result < 0 ? 0 : words.getUint16(i * POLLFD_BYTES + 6, true);
    });
    return result;
  }

  select(
    count: number,
    read: Uint8Array | null,
    write: Uint8Array | null,
    except: Uint8Array | null,
    timeoutMs: number,
  ): number {
    const at = (set: Uint8Array | null): number => (set === null ? 0 : sys.addressOf(set));
    const timeout = timeoutMs < 0 ? null : timespec(timeoutMs);
    return sys.sys6(
      SYS.pselect6,
      count,
      at(read),
      at(write),
      at(except),
      timeout === null ? 0 : sys.addressOf(timeout),
      0,
    );
  }

  epollCreate(flags: number): number {
    return sys.sys3(SYS.epoll_create1, flags, 0, 0);
  }

  epollControl(epoll: number, operation: number, fd: number, event: EpollEvent | null): number {
    const words = epollEvents(1);
    words[0] = event?.events ?? 0;
    words[EPOLL_DATA] = event?.data ?? 0;
    words[EPOLL_DATA + 1] = Math.floor((event?.data ?? 0) / 2 ** 32);
    return sys.sys6(SYS.epoll_ctl, epoll, operation, fd, event === null ? 0 : sys.addressOf(words), 0, 0);
  }

  epollWait(epoll: number, events: readonly EpollEvent[], timeoutMs: number): number {
    const words = epollEvents(Math.max(events.length, 1));
    const at = sys.addressOf(words);
    const result = sys.sys6(SYS.epoll_pwait, epoll, at, events.length, timeoutMs < 0 ? -1 : Math.ceil(timeoutMs), 0, 8);
    for (let i = 0; i < result; i++) {
      const word = i * EPOLL_WORDS;
      events[i].events = words[word];
      events[i].data = (words[word + EPOLL_DATA] >>> 0) + (words[word + EPOLL_DATA + 1] >>> 0) * 2 ** 32;
    }
    return result;
  }
}

/** struct epoll_event is packed on x86-64 and aligned on arm64: the data word lies at 4 or 8. */
const EPOLL_WORDS = process.arch === "x64" ? 3 : 4;
const EPOLL_DATA = process.arch === "x64" ? 1 : 2;
const epollEvents = (count: number): Int32Array => new Int32Array(count * EPOLL_WORDS + 1);

/** struct timespec { i64 s; i64 ns }. */
const timespec = (ms: number): BigInt64Array =>
  BigInt64Array.of(BigInt(Math.floor(ms / 1000)), BigInt(Math.floor((ms % 1000) * 1e6)));

/** struct pollfd { i32 fd; i16 events; i16 revents }. */
const POLLFD_BYTES = 8;

function withAddress(buffer: AddressBuffer | null, call: (address: number, length: number) => number): number {
  if (buffer === null) return call(0, 0);
  const length = Int32Array.of(buffer.length);
  const result = call(sys.addressOf(buffer.bytes), sys.addressOf(length));
  if (result >= 0) buffer.length = length[0];
  return result;
}

/** struct iovec of each part. */
function vectorOf(iov: readonly Uint8Array[]): DataView {
  const vector = new DataView(new ArrayBuffer(iov.length * IOVEC_BYTES));
  iov.forEach((part, i) => {
    putAddress(vector, i * IOVEC_BYTES, sys.addressOf(part));
    vector.setUint32(i * IOVEC_BYTES + IOVEC_LENGTH, part.length, true);
  });
  return vector;
}

/** struct msghdr for one call. It keeps what it points to. */
class Header {
  private readonly view = new DataView(new ArrayBuffer(MSGHDR_BYTES));
  private readonly vector: DataView;

  constructor({ name, iov, control }: Message, controlLength: number) {
    const { view } = this;
    this.vector = vectorOf(iov);
    if (name !== null) {
      putAddress(view, MSG_NAME, sys.addressOf(name.bytes));
      view.setInt32(MSG_NAMELEN, name.length, true);
    }
    putAddress(view, MSG_IOV, sys.addressOf(this.vector));
    view.setUint32(MSG_IOVLEN, iov.length, true);
    if (control !== null) putAddress(view, MSG_CONTROL, sys.addressOf(control));
    view.setUint32(MSG_CONTROLLEN, controlLength, true);
  }

  get address(): number {
    return sys.addressOf(this.view);
  }

  readBack(message: Message): void {
    if (message.name !== null) message.name.length = this.view.getInt32(MSG_NAMELEN, true);
    message.controlLength = this.view.getUint32(MSG_CONTROLLEN, true);
    message.flags = this.view.getInt32(MSG_FLAGS, true);
  }
}
