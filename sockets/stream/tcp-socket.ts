/**
 * A TCP socket: one class for an lcore's own module and for any other thread. Calls that move data return a count or -errno
 * and never throw; what happens is told by handlers, which sockets of a kind share.
 */

import { addressBytes } from "../fib.ts";
import { LOCAL, PORTS, REMOTE } from "../tcp/tcb.ts";
import type { SocketAddress } from "../text-address.ts";
import { formatIp } from "../wire/address.ts";
import type { TcpEnd } from "./tcp-end.ts";
import { attachToSocket, detachFromSocket, type Filter } from "./tcp-filter.ts";

/** All on the thread of the socket, never from within a call on it. */
export interface TcpHandlers {
  /** A listener has a connection; or the one that connect() began is open. */
  open?(socket: TcpSocket): void;
  /** There are bytes to read: told again when more have come after what was there has been read. */
  readable?(socket: TcpSocket): void;
  /** A write that found no room would find some now. */
  writable?(socket: TcpSocket): void;
  /** The peer sends no more; what came before may still be there to read. */
  ended?(socket: TcpSocket): void;
  /** An urgent byte can be read by MSG_OOB, or is in the stream with SO_OOBINLINE. */
  urgent?(socket: TcpSocket): void;
  /** Instead of all others: EV_ bits of sockets/tcp/tcb.ts, of what has happened since the last call. */
  changed?(socket: TcpSocket, events: number): void;
  /** Both directions are over: in good order (0), or by an error (errno). close() is still the owner's to call. */
  closed?(socket: TcpSocket, errno: number): void;
}

export class TcpSocket {
  end: TcpEnd;
  handlers: TcpHandlers;
  /** Whatever its owner wants to find again. */
  data: unknown = undefined;
  /** lcore on which the connection lives, its id there and that id's generation; -1: none yet. */
  lcore = -1;
  id = -1;
  generation = 0;
  /** The end's own: what names it in messages. */
  token = -1;
  /** The record in the socket table that holds its port; -1: it has none of its own. */
  record = -1;
  /** handlers.ended was called. */
  endTold = false;
  /** errno of a connect() that has failed where the lcore was asked for it: nothing was sent. */
  refusal = 0;
  /** True once close() or abort() was called. */
  closed = false;

  constructor(end: TcpEnd, handlers: TcpHandlers) {
    this.end = end;
    this.handlers = handlers;
  }

  /** Queues bytes: how many were taken, or -errno (EAGAIN, EPIPE, ENOTCONN, the connection's error). */
  write(bytes: Uint8Array, offset = 0, length = bytes.length - offset, flags = 0): number {
    return this.end.write(this, bytes, offset, length, flags);
  }

  /** Copies bytes that have come: how many; 0: the peer sends no more; -EAGAIN, or the connection's error. */
  read(into: Uint8Array, offset = 0, length = into.length - offset, flags = 0): number {
    return this.end.read(this, into, offset, length, flags);
  }

  /** Bytes that lie together where they came, at peekedBytes[peekedOffset] until the next call; 0: none. */
  peek(): number {
    return this.end.peek(this);
  }

  get peekedBytes(): Uint8Array {
    return this.end.bytes;
  }

  get peekedOffset(): number {
    return this.end.offset;
  }

  consume(count: number): void {
    this.end.consume(this, count);
  }

  /** Sends back the first `count` of the bytes peeked, which are taken as far as there was room. */
  echo(count: number): number {
    return this.end.echo(this, count);
  }

  /** SHUT_RD, SHUT_WR or SHUT_RDWR. 0 or -errno. */
  shutdown(how: number): number {
    return this.end.shutdown(this, how);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.end.close(this);
  }

  abort(): void {
    if (this.closed) return;
    this.closed = true;
    this.end.abort(this);
  }

  /** An option by its number in OPTIONS of sockets/tcp/sockopts.ts. 0 or -errno. */
  setOption(option: number, value: number): number {
    return this.end.setOption(this, option, value);
  }

  getOption(option: number): number {
    return this.end.getOption(this, option);
  }

  /**
   * Filters what comes from now on: see tcp-filter.ts. What it drops is not acknowledged, so its sender sends it again. 0 or
   * -errno: EINVAL for what is no program, EBADF for no handle, ENOMEM above optmem_max.
   */
  attachFilter(filter: Filter): number {
    return attachToSocket(this, filter);
  }

  /** 0, or -ENOENT: there is none. */
  detachFilter(): number {
    return detachFromSocket(this);
  }

  /** EV_ bits, as poll(2). */
  poll(): number {
    return this.end.poll(this);
  }

  takeError(): number {
    return this.end.takeError(this);
  }

  get state(): number {
    return this.end.state(this);
  }

  /** Text is made anew each time; ask before close(). */
  get localAddress(): SocketAddress {
    return this.name(LOCAL, this.end.word(this, PORTS) >>> 16);
  }

  get remoteAddress(): SocketAddress {
    return this.name(REMOTE, this.end.word(this, PORTS) & 0xffff);
  }

  private name(at: number, port: number): SocketAddress {
    const word = (i: number): number => this.end.word(this, at + i);
    const bytes = addressBytes(word(0), word(1), word(2), word(3));
    return { address: formatIp(bytes), port, family: bytes.length === 4 ? 4 : 6 };
  }
}
