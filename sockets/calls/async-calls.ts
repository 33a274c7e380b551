/** The calls that may wait, awaited: the event loop goes on meanwhile, whether the descriptor has O_NONBLOCK or not. */
import { ERRNO } from "af-xdp-bindings";
import type { File } from "./file.ts";
import { type AddressBuffer, type Message, messageOf, nameOf } from "./message.ts";
import { isConnecting, type SocketProcess } from "./process.ts";
import type { EpollEvent } from "./socket-calls.ts";

export class AsyncCalls {
  private readonly process: SocketProcess;

  constructor(process: SocketProcess) {
    this.process = process;
  }

  /** Resolves with what sendmsg(2) returns: of a stream, once a part is taken. */
  sendmsg(fd: number, message: Message, flags = 0): Promise<number> {
    return this.retry(
      fd,
      (file) => file.sendTimeoutMs,
      () => this.process.trySendmsg(fd, message, flags),
    );
  }

  sendto(fd: number, data: Uint8Array, flags = 0, address: Uint8Array | null = null): Promise<number> {
    return this.sendmsg(fd, { ...messageOf(data), name: nameOf(address) }, flags);
  }

  /** Resolves with what recvmsg(2) returns: of a stream, with as many bytes as SO_RCVLOWAT or MSG_WAITALL want. */
  async recvmsg(fd: number, message: Message, flags = 0): Promise<number> {
    const reception = this.process.beginReceive(fd, message, flags);
    if (typeof reception === "number") return reception;
    const result = await this.retry(
      fd,
      (file) => file.receiveTimeoutMs,
      () => reception.attempt(),
    );
    // Bytes that were taken are told of, whatever has ended the wait.
    return reception.end(result);
  }

  recvfrom(fd: number, into: Uint8Array, flags = 0, address: AddressBuffer | null = null): Promise<number> {
    return this.recvmsg(fd, { ...messageOf(into), name: address }, flags);
  }

  accept4(fd: number, address: AddressBuffer | null = null, flags = 0): Promise<number> {
    return this.retry(
      fd,
      (file) => file.receiveTimeoutMs,
      () => this.process.tryAccept(fd, address, flags),
    );
  }

  async connect(fd: number, address: Uint8Array): Promise<number> {
    const attempt = (): number => this.process.tryConnect(fd, address);
    const result = await this.retry(fd, (file) => file.sendTimeoutMs, attempt);
    const file = this.process.descriptors.get(fd);
    if (result !== -ERRNO.EINPROGRESS || file === null) return result;
    const done = (): number => (isConnecting(file) ? -ERRNO.EAGAIN : 0);
    return (await this.retry(fd, () => file.sendTimeoutMs, done)) < 0 ? -ERRNO.EINPROGRESS : file.connected();
  }

  /** Resolves with the events of poll(2) as soon as there are any of those asked for, with 0 when the time is over. */
  async poll(fd: number, events: number, timeoutMs = Number.POSITIVE_INFINITY): Promise<number> {
    const entry = { fd, events, revents: 0 };
    const attempt = (): number => (this.process.poll([entry], 0) === 0 ? -ERRNO.EAGAIN : 0);
    await this.retry(fd, () => timeoutMs, attempt);
    return entry.revents;
  }

  /** epoll_wait(2): resolves with how many events there are, with 0 when the time is over. */
  async epollWait(epoll: number, events: readonly EpollEvent[], timeoutMs = Number.POSITIVE_INFINITY): Promise<number> {
    let count = 0;
    const attempt = (): number => {
      count = this.process.epollWait(epoll, events, 0);
      return count === 0 ? -ERRNO.EAGAIN : 0;
    };
    await this.retry(epoll, () => timeoutMs, attempt);
    return count;
  }

  private async retry(fd: number, timeoutMs: (file: File) => number, attempt: () => number): Promise<number> {
    let result = attempt();
    const file = this.process.descriptors.get(fd);
    if (result !== -ERRNO.EAGAIN || file === null) return result;
    const deadline = performance.now() + timeoutMs(file);
    for (;;) {
      // Watched before it is tried once more, so that what happens in between is not missed.
      const change = file.queue.watch(deadline - performance.now());
      result = attempt();
      if (result !== -ERRNO.EAGAIN) {
        change.cancel();
        return result;
      }
      if (!(await change.happened)) return result;
      if (this.process.descriptors.get(fd) !== file) return -ERRNO.EBADF;
    }
  }
}
