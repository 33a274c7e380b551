/**
 * The calls of socket(7) by descriptor, with the kernel's numbers and errors: what it says where it says nothing else here is in
 * section 2 of the manual. Each returns the kernel's result or -errno, and none throws for what a caller may do wrong.
 *
 * There are two of them, KernelCalls and SocketProcess; whatever runs on one runs on the other, and is to give the same.
 */
import type { AddressBuffer, Message } from "./message.ts";

/** struct pollfd. A negative descriptor is passed over. */
export interface PollEntry {
  fd: number;
  events: number;
  revents: number;
}

/** struct epoll_event; `data` as a number of up to 53 bits. */
export interface EpollEvent {
  events: number;
  data: number;
}

export interface SocketCalls {
  socket(family: number, type: number, protocol: number): number;
  /** The two descriptors are put into `out`. */
  socketpair(family: number, type: number, protocol: number, out: Int32Array): number;
  bind(fd: number, address: Uint8Array): number;
  connect(fd: number, address: Uint8Array): number;
  listen(fd: number, backlog: number): number;
  /** accept(2) with no flags. `flags`: SOCK_NONBLOCK, SOCK_CLOEXEC. */
  accept4(fd: number, address: AddressBuffer | null, flags: number): number;
  getsockname(fd: number, address: AddressBuffer): number;
  getpeername(fd: number, address: AddressBuffer): number;
  shutdown(fd: number, how: number): number;
  close(fd: number): number;
  dup(fd: number): number;

  sendto(fd: number, data: Uint8Array, flags: number, address: Uint8Array | null): number;
  recvfrom(fd: number, into: Uint8Array, flags: number, address: AddressBuffer | null): number;
  sendmsg(fd: number, message: Message, flags: number): number;
  recvmsg(fd: number, message: Message, flags: number): number;
  read(fd: number, into: Uint8Array): number;
  write(fd: number, data: Uint8Array): number;
  readv(fd: number, iov: readonly Uint8Array[]): number;
  writev(fd: number, iov: readonly Uint8Array[]): number;
  pread(fd: number, into: Uint8Array, offset: number): number;
  pwrite(fd: number, data: Uint8Array, offset: number): number;
  lseek(fd: number, offset: number, whence: number): number;

  setsockopt(fd: number, level: number, name: number, value: Uint8Array): number;
  /** Fills `out`. Returns the length that the kernel would tell, or -errno. */
  getsockopt(fd: number, level: number, name: number, out: Uint8Array): number;
  /** `argument`: what the request's pointer points to, read and written; requests that take an int itself have it there. */
  ioctl(fd: number, request: number, argument: Uint8Array): number;
  /** `argument`: an int, or what the command's pointer points to (F_SETOWN_EX). */
  fcntl(fd: number, command: number, argument: number | Uint8Array): number;

  /** Fills `revents`. Waits up to `timeoutMs`, for ever when it is negative. Returns how many have some. */
  poll(entries: readonly PollEntry[], timeoutMs: number): number;
  /** The sets are fd_set: bit fd % 8 of byte fd / 8; null for none. They are left with what is ready. Returns how many bits those are. */
  select(
    count: number,
    read: Uint8Array | null,
    write: Uint8Array | null,
    except: Uint8Array | null,
    timeoutMs: number,
  ): number;
  epollCreate(flags: number): number;
  epollControl(epoll: number, operation: number, fd: number, event: EpollEvent | null): number;
  /** Up to `events.length` events are put there. Returns how many. */
  epollWait(epoll: number, events: readonly EpollEvent[], timeoutMs: number): number;
}
