/**
 * A descriptor of the kernel as a file of a SocketProcess, so that sockets of the kernel stand beside ours in poll, select and epoll.
 * What is done with it is done by the kernel, waiting too.
 *
 * Signals for it come from the kernel and name the kernel's descriptor.
 */
import { sys } from "af-xdp-bindings";
import { SO_PEERPIDFD, SO_RCVLOWAT, SO_RCVTIMEO, SO_SNDTIMEO, SO_TYPE, SOL_SOCKET } from "../options.ts";
import {
  F_GETFL,
  F_SETFL,
  O_NONBLOCK,
  POLLIN,
  POLLMSG,
  POLLOUT,
  POLLPRI,
  POLLRDBAND,
  POLLRDHUP,
  POLLRDNORM,
  POLLWRBAND,
  POLLWRNORM,
  SOCK_CLOEXEC,
  SOCK_STREAM,
} from "./constants.ts";
import type { KernelWatch } from "./events/kernel-watch.ts";
import { File } from "./file.ts";
import type { FileTable } from "./file-table.ts";
import { type InNamespace, KernelCalls } from "./kernel-calls.ts";
import { incoming, outgoing } from "./kernel-rights.ts";
import { broughtFiles, endsBefore } from "./kernel-stream.ts";
import type { AddressBuffer, Message } from "./message.ts";
import type { Family } from "./process.ts";
import type { Gathered } from "./reception.ts";
import type { PollEntry } from "./socket-calls.ts";

const EVERY_EVENT =
  POLLIN | POLLPRI | POLLOUT | POLLRDNORM | POLLRDBAND | POLLWRNORM | POLLWRBAND | POLLMSG | POLLRDHUP;
/** struct timeval { i64 s; i64 us }. */
const TIMEVAL_BYTES = 16;
const INT_BYTES = 4;

export class KernelFile extends File {
  readonly fd: number;
  private readonly fds: readonly number[];
  /** Whether all that happens there happens in the kernel. */
  readonly isTheKernels: boolean = true;
  override readonly isSocket: boolean;
  /** Streams too: one call of the kernel's sends and receives all that it may, and raises SIGPIPE. */
  override readonly isStream = false;
  override readonly isByteStream: boolean;
  override readonly waitsItself: boolean = true;
  private readonly kernel: KernelCalls;
  private readonly watch: KernelWatch;
  private readonly entry: PollEntry;

  /** Takes a descriptor over: it is closed with the file. @param watch who tells of it while the event loop runs */
  constructor(fd: number, watch: KernelWatch, kernel = new KernelCalls()) {
    super();
    this.kernel = kernel;
    this.watch = watch;
    this.fd = fd;
    this.fds = [fd];
    this.entry = { fd, events: EVERY_EVENT, revents: 0 };
    const type = new Uint8Array(4);
    this.isSocket = kernel.getsockopt(fd, SOL_SOCKET, SO_TYPE, type) >= 0;
    this.isByteStream = this.isSocket && type[0] === SOCK_STREAM;
    this.status = Math.max(kernel.fcntl(fd, F_GETFL, 0), 0);
  }

  override get kernelFds(): readonly number[] {
    return this.fds;
  }

  override get receiveTimeoutMs(): number {
    return this.timeoutMs(SO_RCVTIMEO);
  }

  override get sendTimeoutMs(): number {
    return this.timeoutMs(SO_SNDTIMEO);
  }

  override get receiveLowWater(): number {
    const value = new Int32Array(1);
    this.kernel.getsockopt(this.fd, SOL_SOCKET, SO_RCVLOWAT, new Uint8Array(value.buffer));
    return value[0];
  }

  override poll(): number {
    this.kernel.poll([this.entry], 0);
    return this.entry.revents;
  }

  override bind(address: Uint8Array): number {
    return this.kernel.bind(this.fd, address);
  }

  override connect(address: Uint8Array, waits: boolean): number {
    return this.mayWait(waits, () => this.kernel.connect(this.fd, address));
  }

  override takeError(): number {
    return this.kernel.takeError(this.fd);
  }

  override listen(backlog: number): number {
    return this.kernel.listen(this.fd, backlog);
  }

  override accept(address: AddressBuffer | null, waits: boolean): File | number {
    const fd = this.mayWait(waits, () => this.kernel.accept4(this.fd, address, SOCK_CLOEXEC));
    return fd < 0 ? fd : new KernelFile(fd, this.watch, this.kernel);
  }

  override getsockname(address: AddressBuffer): number {
    return this.kernel.getsockname(this.fd, address);
  }

  override getpeername(address: AddressBuffer): number {
    return this.kernel.getpeername(this.fd, address);
  }

  override shutdown(how: number): number {
    return this.kernel.shutdown(this.fd, how);
  }

  override send(message: Message, flags: number, descriptors: FileTable): number {
    const kernelFd = (file: File): number => (file instanceof KernelFile && file.isTheKernels ? file.fd : -1);
    const translated = outgoing(message, descriptors, kernelFd);
    return typeof translated === "number" ? translated : this.kernel.sendmsg(this.fd, translated, flags);
  }

  override receive(message: Message, flags: number, descriptors: FileTable, gathered: Gathered): number {
    const { goesOn } = gathered;
    if (goesOn && endsBefore(this.kernel, this.fd, gathered)) return 0;
    const result = this.kernel.recvmsg(this.fd, message, flags);
    if (goesOn && result > 0) gathered.files = broughtFiles(message);
    if (result >= 0) incoming(message, descriptors, (fd) => new KernelFile(fd, this.watch, this.kernel));
    return result;
  }

  override read(into: Uint8Array, waits: boolean): number {
    return this.mayWait(waits, () => this.kernel.read(this.fd, into));
  }

  override write(data: Uint8Array, waits: boolean): number {
    return this.mayWait(waits, () => this.kernel.write(this.fd, data));
  }

  /** Calls without MSG_DONTWAIT wait by the status of the file. */
  private mayWait(waits: boolean, call: () => number): number {
    if (waits || (this.status & O_NONBLOCK) !== 0) return call();
    this.kernel.fcntl(this.fd, F_SETFL, this.status | O_NONBLOCK);
    const result = call();
    this.kernel.fcntl(this.fd, F_SETFL, this.status);
    return result;
  }

  override setsockopt(level: number, name: number, value: Uint8Array): number {
    return this.kernel.setsockopt(this.fd, level, name, value);
  }

  override getsockopt(level: number, name: number, out: Uint8Array, descriptors: FileTable): number {
    const result = this.kernel.getsockopt(this.fd, level, name, out);
    if (level !== SOL_SOCKET || name !== SO_PEERPIDFD || result !== INT_BYTES) return result;
    // A descriptor of the kernel's: here it is a file of its own.
    const view = new DataView(out.buffer, out.byteOffset);
    const file = new KernelFile(view.getInt32(0, true), this.watch);
    const fd = descriptors.add(file, true);
    if (fd < 0) file.drop();
    else view.setInt32(0, fd, true);
    return fd < 0 ? fd : result;
  }

  override ioctl(request: number, argument: Uint8Array): number {
    return this.kernel.ioctl(this.fd, request, argument);
  }

  override fcntl(command: number, argument: number | Uint8Array): number {
    return this.kernel.fcntl(this.fd, command, argument);
  }

  override seek(): number {
    return this.kernel.lseek(this.fd, 0, 0);
  }

  override statusChanged(): void {
    this.kernel.fcntl(this.fd, F_SETFL, this.status);
  }

  override watched(): void {
    this.watch.add(this.fd, this);
  }

  protected override release(): void {
    this.watch.remove(this.fd);
    sys.close(this.fd);
  }

  private timeoutMs(name: number): number {
    const view = new DataView(new ArrayBuffer(TIMEVAL_BYTES));
    const length = this.kernel.getsockopt(this.fd, SOL_SOCKET, name, new Uint8Array(view.buffer));
    const ms = Number(view.getBigInt64(0, true)) * 1000 + Number(view.getBigInt64(8, true)) / 1000;
    return length < 0 || ms === 0 ? Number.POSITIVE_INFINITY : ms;
  }
}

/** Sockets of the kernel, of one family, in a network namespace. */
export class KernelFamily implements Family {
  private readonly family: number;
  private readonly watch: KernelWatch;
  private readonly kernel: KernelCalls;

  constructor(family: number, watch: KernelWatch, inNamespace?: InNamespace) {
    this.family = family;
    this.watch = watch;
    this.kernel = new KernelCalls(inNamespace);
  }

  socket(type: number, protocol: number): File | number {
    const fd = this.kernel.socket(this.family, type | SOCK_CLOEXEC, protocol);
    return fd < 0 ? fd : this.blocking(fd);
  }

  pair(type: number, protocol: number): readonly [File, File] | number {
    const fds = new Int32Array(2);
    const result = this.kernel.socketpair(this.family, type | SOCK_CLOEXEC, protocol, fds);
    return result < 0 ? result : [this.blocking(fds[0]), this.blocking(fds[1])];
  }

  private blocking(fd: number): KernelFile {
    return new KernelFile(fd, this.watch, this.kernel);
  }
}
