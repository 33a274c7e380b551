/**
 * Who carries out what a TCP socket is asked: the Tcp of the lcore that the calling thread is, or, over the rings, that of
 * another lcore. A connection lives on one lcore from its first segment to its last.
 */
import type { Shared } from "../shared.ts";
import type { TcpListener } from "./tcp-listener.ts";
import type { TcpSocket } from "./tcp-socket.ts";

/** Calls return a count or -errno and never throw, block or wait; what happens later is told to the socket's handlers. */
export interface TcpEnd {
  /** Where peek() has found bytes: a memory, and the offset in it. */
  readonly bytes: Uint8Array;
  readonly offset: number;

  /**
   * connect(2).
   * @param address of the peer, four words, IPv4 mapped
   * @returns -EINPROGRESS as a rule; else what is wrong
   */
  connect(socket: TcpSocket, address: Int32Array, port: number): number;
  /**
   * Queues bytes, as many as there is room for.
   * @param flags MSG_OOB, MSG_MORE of sockets/tcp/calls.ts
   * @returns bytes taken; -EAGAIN: none, handlers.writable will tell
   */
  write(socket: TcpSocket, bytes: Uint8Array, offset: number, length: number, flags: number): number;
  /**
   * Copies bytes that have come.
   * @param flags MSG_PEEK, MSG_OOB
   * @returns bytes; 0: the peer sends no more; -EAGAIN: none yet
   */
  read(socket: TcpSocket, into: Uint8Array, offset: number, length: number, flags: number): number;
  /** Shows bytes where they lie, in `bytes` from `offset` on, until the next call. How many lie together, 0: none. */
  peek(socket: TcpSocket): number;
  /** Takes the first `count` of the bytes shown. */
  consume(socket: TcpSocket, count: number): void;
  /** Writes the first `count` of the bytes shown by peek() back to their sender, and takes as many as were. Returns how many, or -errno. */
  echo(socket: TcpSocket, count: number): number;
  shutdown(socket: TcpSocket, how: number): number;
  /** close(2): the socket object is at its end, the connection may live on to send what is queued. */
  close(socket: TcpSocket): void;
  /** Ends the connection with a RST. */
  abort(socket: TcpSocket): void;
  /** An option by its number in OPTIONS of sockets/tcp/sockopts.ts: 0 or -errno; the value or -errno. */
  setOption(socket: TcpSocket, option: number, value: number): number;
  getOption(socket: TcpSocket, option: number): number;
  /** Slot + 1 of the program that filters what comes, 0: none does. */
  filterOf(socket: TcpSocket): number;
  /** Has another one do so, of which the caller gives a use away; 0: none. It sees every segment that comes after this call. */
  setFilter(socket: TcpSocket, filter: number): void;
  /** What the engine's threads share. */
  readonly shared: Shared;
  /** EV_ bits of sockets/tcp/tcb.ts, as poll(2) would tell. */
  poll(socket: TcpSocket): number;
  /** No more will come, or is wanted: what read() says, which may be told a moment later than the record has it. */
  hasEnded(socket: TcpSocket): boolean;
  /** SO_ERROR: an errno, which it clears. */
  takeError(socket: TcpSocket): number;
  /** Whether the next byte to be read is the urgent one (SIOCATMARK). */
  atMark(socket: TcpSocket): boolean;
  /** Bytes written and not acknowledged (SIOCOUTQ), our FIN among them; with `unsent` those that were not sent (SIOCOUTQNSD). */
  queued(socket: TcpSocket, unsent: boolean): number;
  /** State of the connection, of sockets/tcp/tcb.ts. */
  state(socket: TcpSocket): number;
  /** A word of the connection's record (sockets/tcp/tcb.ts), whole, perhaps a moment old. */
  word(socket: TcpSocket, field: number): number;
}

/** What gives a listener its connections. */
export interface AcceptSource {
  /** The connection that has waited longest, or null. */
  accept(listener: TcpListener): TcpSocket | null;
  /** Connections that wait. */
  waiting(listener: TcpListener): number;
  readonly shared: Shared;
  /** The listener's record in the socket table has changed: this thread's own lookups must not be older than that. */
  tableChanged(): void;
}
