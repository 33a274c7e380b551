/**
 * Who else must agree when a port is bound: the kernel, whose placeholder socket holds the port, and the XDP program,
 * whose maps steer it. On a memory wire nobody.
 */
import type { SocketTable } from "./table.ts";

export interface Binder {
  /**
   * Reserves the address and port in a socket's record (LOCAL, LOCAL_PORT, FAMILY, FLAGS, DEVICE). A port of 0 asks for
   * a free one, which is written to the record. Sets PLACEHOLDER. Called with the table's mutex held.
   * @returns 0, or -errno as bind(2) gives it
   */
  reserve(table: SocketTable, id: number): number;

  /**
   * Connects: REMOTE and REMOTE_PORT are set; with F_WILDCARD, chooses the local address and writes it to LOCAL. A
   * REMOTE_PORT of 0 dissolves the connection. Called with the mutex held.
   * @returns 0, or -errno as connect(2) gives it
   */
  connect(table: SocketTable, id: number): number;

  /**
   * Brings what steers the protocol's port up to date with the sockets bound to it now. Called with the mutex held,
   * after a bind, connect or close. `gone`: an address (four words) that a socket there has left.
   */
  steer(table: SocketTable, protocol: number, port: number, gone: Int32Array | null): void;

  /** Lets go of the placeholder. Called after the mutex is released and steering is up to date. */
  release(placeholder: number): void;

  /** Lets go of what the binder itself holds: this thread opens and closes no more sockets. */
  close(): void;
}
