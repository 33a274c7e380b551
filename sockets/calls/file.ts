/**
 * What a descriptor of a SocketProcess stands for: sockets of each family, epoll instances, descriptors of the kernel. Operations
 * return the kernel's result or -errno and never wait, but where the kernel does it (`waitsItself`); waiting is the
 * process's (process.ts).
 *
 * The operations here are those of a file that is no socket.
 */
import { ERRNO } from "af-xdp-bindings";
import { O_ASYNC, O_RDWR, POLL_OUT, POLL_PRI, POLLNVAL, POLLOUT } from "./constants.ts";
import { fcntlOwner, Owner } from "./events/signals.ts";
import type { FileTable } from "./file-table.ts";
import type { AddressBuffer, Message } from "./message.ts";
import type { Gathered } from "./reception.ts";
import { WaitQueue } from "./wait-queue.ts";

export abstract class File {
  /**
   * Woken, with the POLL bits that are new, whenever an operation that gave EAGAIN may give something else, and whenever poll() may
   * give more.
   */
  readonly queue = new WaitQueue(
    (code) => this.signal(code),
    () => this.watched(),
  );
  /** O_RDWR, O_NONBLOCK, O_ASYNC and the like, as fcntl(F_GETFL) tells them. */
  status = O_RDWR;
  /** Called when the last reference is gone: epoll instances forget it then. */
  readonly watchers = new Set<(file: File) => void>();
  private owner_: Owner | null = null;
  /** The descriptor by which O_ASYNC was set. */
  private asyncFd = -1;
  private noSpace = false;
  /** Descriptors of it, in flight over AF_UNIX too. */
  private references = 1;
  /** Whether the process may have bytes left to send or receive after one operation: streams. It also gets SIGPIPE then. */
  readonly isStream: boolean = false;
  readonly isSocket: boolean = false;
  /** Whether bytes are received without bounds between them: whoever awaits gathers them. */
  readonly isByteStream: boolean = false;
  /** Whether calls that may wait do so in the operation itself: descriptors of the kernel. */
  readonly waitsItself: boolean = false;

  /** Descriptors of the kernel that tell when something happens here. */
  get kernelFds(): readonly number[] {
    return [];
  }

  /** Whom SIGIO and SIGURG are for. */
  get owner(): Owner {
    this.owner_ ??= new Owner();
    return this.owner_;
  }

  /** POLL bits that hold now, POLLRDNORM and its kin among them, whether asked for or not. */
  abstract poll(): number;

  /** The last reference is gone. */
  protected abstract release(): void;

  retain(): this {
    this.references++;
    return this;
  }

  /** Descriptors of it, and of those in flight. */
  get referenceCount(): number {
    return this.references;
  }

  drop(): void {
    if (--this.references > 0) return;
    for (const watcher of [...this.watchers]) watcher(this);
    this.release();
    // Whoever waits in the event loop tries once more, and finds the descriptor closed.
    this.queue.wake(POLLNVAL);
  }

  /** Somebody has found no room to send: whoever has O_ASYNC is told of it once (SOCKWQ_ASYNC_NOSPACE). */
  foundNoSpace(): void {
    this.noSpace = true;
  }

  /** poll() for a caller that may be told by a signal later. */
  pollNow(): number {
    const events = this.poll();
    if ((events & POLLOUT) === 0) this.noSpace = true;
    return events;
  }

  /** As kill_fasync(). `code`: POLL_IN and its kin. */
  private signal(code: number): void {
    if (code === POLL_OUT) {
      if (!this.noSpace) return;
      this.noSpace = false;
    }
    if ((this.status & O_ASYNC) !== 0) this.owner_?.notify(this.asyncFd, code);
  }

  /** As sk_send_sigurg(): urgent data have come. SIGURG, and with O_ASYNC what tells of POLLPRI. */
  protected signalUrgent(): void {
    this.owner_?.urgent();
    this.signal(POLL_PRI);
  }

  /** Somebody begins to wait in the event loop. */
  watched(): void {}

  /** SO_RCVTIMEO and SO_SNDTIMEO, milliseconds. */
  get receiveTimeoutMs(): number {
    return Number.POSITIVE_INFINITY;
  }

  get sendTimeoutMs(): number {
    return Number.POSITIVE_INFINITY;
  }

  /** SO_RCVLOWAT: fewest bytes that a waiting receive of a stream returns with. */
  get receiveLowWater(): number {
    return 1;
  }

  /** The longest that a wait may sleep without looking, milliseconds: for files that nobody tells of what happens. */
  get sleepLimitMs(): number {
    return Number.POSITIVE_INFINITY;
  }

  /** Called before an operation is tried and while one is waited for: where news have to be fetched. */
  refresh(): void {}

  /** From where refresh() fetches them: of files that share that, one is enough. Null: there is nothing to fetch. */
  get newsFrom(): object | null {
    return null;
  }

  bind(_address: Uint8Array): number {
    return -ERRNO.ENOTSOCK;
  }

  /** -EINPROGRESS where it goes on: poll() then tells POLLOUT when it is done, and connected() how. */
  connect(_address: Uint8Array, _waits: boolean): number {
    return -ERRNO.ENOTSOCK;
  }

  /** How a connect() that went on has ended: 0 or -errno. */
  connected(): number {
    return 0 - this.takeError();
  }

  /** SO_ERROR, and clears it: a positive errno, or 0. */
  takeError(): number {
    return 0;
  }

  listen(_backlog: number): number {
    return -ERRNO.ENOTSOCK;
  }

  /**
   * The next connection as a file with a reference of the caller's, or -errno. `address` is filled with the peer's.
   * @param _waits whether the caller waits when this gives -EAGAIN
   */
  accept(_address: AddressBuffer | null, _waits: boolean): File | number {
    return -ERRNO.ENOTSOCK;
  }

  getsockname(_address: AddressBuffer): number {
    return -ERRNO.ENOTSOCK;
  }

  getpeername(_address: AddressBuffer): number {
    return -ERRNO.ENOTSOCK;
  }

  shutdown(_how: number): number {
    return -ERRNO.ENOTSOCK;
  }

  /**
   * `descriptors`: those of the caller, which control messages name (SCM_RIGHTS). `flags` have MSG_DONTWAIT where the caller does not
   * wait when this gives -EAGAIN, and nowhere else.
   */
  send(_message: Message, _flags: number, _descriptors: FileTable): number {
    return -ERRNO.ENOTSOCK;
  }

  /**
   * Files that came along get descriptors there. `flags` as for send().
   * @param _gathered what the same call has got of a stream before: what must not be told together with it is left, 0
   */
  receive(_message: Message, _flags: number, _descriptors: FileTable, _gathered: Gathered): number {
    return -ERRNO.ENOTSOCK;
  }

  /** read(2) of what is no socket. */
  read(_into: Uint8Array, _waits: boolean): number {
    return -ERRNO.EINVAL;
  }

  write(_data: Uint8Array, _waits: boolean): number {
    return -ERRNO.EINVAL;
  }

  setsockopt(_level: number, _name: number, _value: Uint8Array): number {
    return -ERRNO.ENOTSOCK;
  }

  /** @param _descriptors those of the caller, where SO_PEERPIDFD makes one */
  getsockopt(_level: number, _name: number, _out: Uint8Array, _descriptors: FileTable): number {
    return -ERRNO.ENOTSOCK;
  }

  /** What the requests of every file (FIONBIO, FIOASYNC, FIOCLEX …) are not. */
  ioctl(_request: number, _argument: Uint8Array): number {
    return -ERRNO.ENOTTY;
  }

  /** Commands of fcntl(2) that are not about descriptors and status. */
  fcntl(command: number, argument: number | Uint8Array): number {
    return fcntlOwner(this.owner, command, argument);
  }

  /** lseek(2). */
  seek(): number {
    return -ERRNO.ESPIPE;
  }

  /** O_NONBLOCK, O_ASYNC or the like have changed in `status`, by way of the descriptor. */
  statusChanged(fd: number): void {
    this.asyncFd = fd;
  }
}
