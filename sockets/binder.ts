/**
 * Who else must agree when a socket is opened, bound and connected: the kernel, whose placeholder socket holds the port, and
 * the XDP program, whose maps steer it. On a memory wire nobody.
 *
 * Addresses come as bind(2) and connect(2) take them, a sockaddr of any length and family, so that the kernel finds what is
 * wrong with one; without a kernel its checks are made here, in its order.
 */
import type { SocketTable } from "./table.ts";
import type { OpenOptions } from "./udp-open.ts";

/** What getsockname(2) and getpeername(2) tell of a socket after a call. Addresses are four words, IPv4 mapped. */
export class Binding {
  readonly local = new Int32Array(4);
  /** 0: not bound. */
  localPort = 0;
  readonly remote = new Int32Array(4);
  /** 0: not connected. */
  remotePort = 0;
  /** Interface the socket is bound to, 0 for none: a scope id binds it, dissolving a connection unbinds it. */
  device = 0;
}

export interface Binder {
  /**
   * socket(2): makes the placeholder, with the options in the record (FAMILY, FLAGS, DEVICE) and those given besides. Sets
   * PLACEHOLDER, and takes over what the kernel has for the others. Called with the table's mutex held.
   * @returns 0, or -errno as socket(2) and setsockopt(2) give it
   */
  open(table: SocketTable, id: number, options: OpenOptions): number;

  /**
   * bind(2). Port 0 asks for a free one. `binding` tells the local address and the interface then. The record is not touched;
   * the mutex is held.
   * @returns 0, or -errno as bind(2) gives it
   */
  bind(table: SocketTable, id: number, address: Uint8Array, binding: Binding): number;

  /**
   * connect(2), AF_UNSPEC dissolving the connection. `binding` tells all of both addresses then; after an error the local
   * one: a socket may have been given a port on the way. The record is not touched; the mutex is held.
   * @returns 0, or -errno as connect(2) gives it
   */
  connect(table: SocketTable, id: number, address: Uint8Array, binding: Binding): number;

  /**
   * listen(2) of a TCP socket. `binding` tells its names then: one that was not bound has been given a port. Listening again
   * is no error. The record is not touched; the mutex is held.
   * @returns 0, or -errno as listen(2) gives it
   */
  listen(table: SocketTable, id: number, backlog: number, binding: Binding): number;

  /** shutdown(2) of a TCP socket that listens. `binding` tells its names then: a port that it was given may be gone. */
  unlisten(table: SocketTable, id: number, binding: Binding): void;

  /** What the socket's names are now. The mutex is held. */
  readNames(table: SocketTable, id: number, binding: Binding): void;

  /**
   * Brings what steers the protocol's port up to date with the sockets bound to it now (of TCP: those with F_LISTEN or
   * F_STEERED). Called with the mutex held, after a bind, listen, connect or close. `gone`: an address (four words) that a socket there has left.
   */
  steer(table: SocketTable, protocol: number, port: number, gone: Int32Array | null): void;

  /** Lets go of the placeholder. Called after the mutex is released and steering is up to date. */
  release(placeholder: number): void;

  /** Lets go of what the binder itself holds: this thread opens and closes no more sockets. */
  close(): void;
}
