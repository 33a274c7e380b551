/** What lcores hear at the end of a turn: bytes that were read, connections that were accepted. */
import { M_KIND } from "../message.ts";
import type { Outbox } from "./outbox.ts";
import type { RemoteConnection } from "./remote-connection.ts";
import type { RemoteListener } from "./remote-listener.ts";
import {
  MSG_TCP_ACCEPTED,
  MSG_TCP_CONSUMED,
  PAIRS_MAX,
  X_ACCEPTED,
  X_COUNT,
  X_PAIRS,
  X_RECORD,
  X_RECORD_GENERATION,
} from "./tcp-messages.ts";

export class RemoteReturns {
  private readonly outbox: Outbox;
  private readonly lcores: number;
  private readonly connections: RemoteConnection[] = [];
  private readonly listeners: RemoteListener[] = [];

  constructor(outbox: Outbox, lcores: number) {
    this.outbox = outbox;
    this.lcores = lcores;
  }

  get isEmpty(): boolean {
    return this.connections.length === 0 && this.listeners.length === 0;
  }

  /** Bytes of the connection have been read. True: it was not in the list yet. */
  read(connection: RemoteConnection): boolean {
    if (connection.unreturned === 0 || connection.isDirty) return false;
    connection.isDirty = true;
    this.connections.push(connection);
    return true;
  }

  /** A connection has been accepted: on its lcore it counts against the backlog no more. */
  accepted(state: RemoteListener, lcore: number): void {
    state.accepted[lcore]++;
    if (!state.isDirty) this.listeners.push(state);
    state.isDirty = true;
  }

  flush(): void {
    if (this.connections.length > 0) this.tellRead();
    for (const state of this.listeners) this.tellAccepted(state);
    this.listeners.length = 0;
  }

  private tellRead(): void {
    const { connections, outbox } = this;
    const { words } = outbox;
    for (let lcore = 0; lcore < this.lcores; lcore++) {
      let count = 0;
      for (const connection of connections) {
        if (connection.lcore !== lcore || connection.unreturned === 0) continue;
        words[X_PAIRS + 2 * count] = connection.id;
        words[X_PAIRS + 2 * count + 1] = connection.unreturned;
        connection.unreturned = 0;
        if (++count < PAIRS_MAX) continue;
        this.post(lcore, count);
        count = 0;
      }
      if (count > 0) this.post(lcore, count);
    }
    for (const connection of connections) connection.isDirty = false;
    connections.length = 0;
  }

  /** Bytes of one connection, now. */
  tellReadOf(connection: RemoteConnection): void {
    if (connection.unreturned === 0) return;
    const { words } = this.outbox;
    words[X_PAIRS] = connection.id;
    words[X_PAIRS + 1] = connection.unreturned;
    connection.unreturned = 0;
    this.post(connection.lcore, 1);
  }

  private post(lcore: number, count: number): void {
    this.outbox.words[M_KIND] = MSG_TCP_CONSUMED;
    this.outbox.words[X_COUNT] = count;
    this.outbox.post(lcore);
  }

  private tellAccepted(state: RemoteListener): void {
    const { words } = this.outbox;
    state.isDirty = false;
    for (let lcore = 0; lcore < this.lcores; lcore++) {
      if (state.accepted[lcore] === 0) continue;
      words[M_KIND] = MSG_TCP_ACCEPTED;
      words[X_RECORD] = state.listener.record;
      words[X_RECORD_GENERATION] = state.listener.generation;
      words[X_ACCEPTED] = state.accepted[lcore];
      state.accepted[lcore] = 0;
      this.outbox.post(lcore);
    }
  }
}
