/** The socket filter of a stream's file: its socket has it, while it listens its record too, and the next socket that stands for it. */
import { SO_LOCK_FILTER, SOL_SOCKET } from "../../options.ts";
import type { StreamFilterPlace } from "../../sockopt/stream-target.ts";
import type { TcpSocket } from "../../stream/tcp-socket.ts";
import { DROPS, type SocketTable } from "../../table.ts";
import { FILTER_DROPS } from "../../tcp/tcb.ts";
import type { StreamOptions } from "./stream-options.ts";
import type { StreamRecord } from "./stream-record.ts";

/** What it is the filter of. */
export interface FilterOwner {
  readonly socket: TcpSocket;
  readonly options: StreamOptions;
}

export class StreamFilter implements StreamFilterPlace {
  readonly table: SocketTable;
  private readonly owner: FilterOwner;
  private readonly record: StreamRecord;
  private listens = false;

  constructor(owner: FilterOwner, record: StreamRecord, table: SocketTable) {
    this.owner = owner;
    this.record = record;
    this.table = table;
  }

  get isLocked(): boolean {
    return this.owner.options.valueOf(SOL_SOCKET, SO_LOCK_FILTER) !== 0;
  }

  get filter(): number {
    const { socket } = this.owner;
    return socket.end.filterOf(socket);
  }

  put(filter: number): void {
    const { socket } = this.owner;
    if (this.listens) this.record.setFilter(filter);
    socket.end.setFilter(socket, filter);
  }

  get drops(): number {
    const { socket } = this.owner;
    return this.listens ? this.record.word(DROPS) : socket.end.word(socket, FILTER_DROPS);
  }

  /** Before the first SYN. */
  beginListening(): void {
    this.listens = true;
    this.record.setFilter(this.filter);
  }

  endListening(): void {
    this.listens = false;
    this.record.setFilter(0);
  }

  /** Another socket takes the place of the owner's: returns what moveTo() gives it. */
  keep(): number {
    const { filter, table } = this;
    if (filter !== 0) table.mutex.hold(() => table.holdApart(filter));
    return filter;
  }

  /** @param socket null: there is none */
  moveTo(socket: TcpSocket | null, filter: number): void {
    if (filter === 0) return;
    if (socket !== null) socket.end.setFilter(socket, filter);
    else this.table.mutex.hold(() => this.table.releaseApart(filter));
  }
}
