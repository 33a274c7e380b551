/** A TCP socket that listens: one class for lcores and other threads. Its connections arrive on every lcore. */
import type { SocketAddress } from "../text-address.ts";
import type { AcceptSource } from "./tcp-end.ts";
import { attachToListener, detachFromListener, type Filter } from "./tcp-filter.ts";
import type { TcpHandlers, TcpSocket } from "./tcp-socket.ts";

export class TcpListener {
  /** Its record in the socket table, and that record's generation. */
  readonly record: number;
  readonly generation: number;
  /** Of its connections. With `open` they are accepted as they come; without they wait for accept(). */
  handlers: TcpHandlers;
  /** Connections have come that wait for accept(). */
  onAcceptable: ((listener: TcpListener) => void) | null = null;
  closed = false;
  /** What gives it its connections. */
  readonly source: AcceptSource;
  private readonly onClose: (listener: TcpListener) => void;
  private readonly where: () => SocketAddress;

  constructor(
    record: number,
    generation: number,
    handlers: TcpHandlers,
    source: AcceptSource,
    where: () => SocketAddress,
    onClose: (listener: TcpListener) => void,
  ) {
    this.record = record;
    this.generation = generation;
    this.handlers = handlers;
    this.source = source;
    this.where = where;
    this.onClose = onClose;
  }

  /** Local address and port. */
  get address(): SocketAddress {
    return this.where();
  }

  /** The connection that has waited longest, or null. */
  accept(): TcpSocket | null {
    return this.source.accept(this);
  }

  get waiting(): number {
    return this.source.waiting(this);
  }

  /**
   * Filters SYNs and all that comes until a connection is open; those that open from now on have the same filter. What is
   * taken as one: tcp-filter.ts. 0 or -errno: EINVAL for what is no program, EBADF for no handle, ENOMEM above optmem_max.
   */
  attachFilter(filter: Filter): number {
    return attachToListener(this, filter);
  }

  /** 0, or -ENOENT: there is none. */
  detachFilter(): number {
    return detachFromListener(this);
  }

  /** Connections that have not been accepted are reset. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.onClose(this);
  }
}
