/**
 * What handlers of a thread's connections are still to be told. Each is told once it is nobody's turn: what one throws comes
 * out of deliver(), and what is left is told the next time.
 */
import { EV_CLOSED, EV_CONNECTED, EV_READABLE, EV_URGENT, EV_WRITABLE } from "../tcp/tcb.ts";
import type { RemoteConnection } from "./remote-connection.ts";
import type { RemoteListener } from "./remote-listener.ts";
import { TELL_FIN } from "./tcp-messages.ts";

/** Events that have a handler of their own. */
const HANDLED = EV_CONNECTED | EV_URGENT | EV_READABLE | TELL_FIN | EV_WRITABLE | EV_CLOSED;

/** Connections told before what was written meanwhile is handed to the lcores: fewer wake them more often than is worth it. */
const FLUSH_TOLD = 64;

export class RemoteEvents {
  private readonly queue: RemoteConnection[] = [];
  private readonly acceptable: RemoteListener[] = [];
  private delivering = false;
  private readonly accepted: (connection: RemoteConnection) => void;
  private readonly flush: () => void;

  /**
   * @param accepted told of a connection before its handlers.open is
   * @param flush hands what was written to the lcores
   */
  constructor(accepted: (connection: RemoteConnection) => void, flush: () => void) {
    this.accepted = accepted;
    this.flush = flush;
  }

  get isEmpty(): boolean {
    return this.queue.length === 0 && this.acceptable.length === 0;
  }

  add(connection: RemoteConnection): void {
    if (connection.isQueued || connection.isWaiting || connection.socket.closed) return;
    connection.isQueued = true;
    this.queue.push(connection);
  }

  addAcceptable(state: RemoteListener): void {
    if (state.isQueued) return;
    state.isQueued = true;
    this.acceptable.push(state);
  }

  /** Calls handlers until all have been told. How many connections and listeners there were. */
  deliver(): number {
    if (this.delivering || this.isEmpty) return 0;
    this.delivering = true;
    let done = 0;
    try {
      while (this.queue.length > 0) {
        const batch = this.queue.splice(0);
        done += batch.length;
        this.tellAll(batch);
      }
      for (let state = this.acceptable.shift(); state !== undefined; state = this.acceptable.shift()) {
        done++;
        state.isQueued = false;
        const { listener } = state;
        if (!listener.closed && state.waiting.length > 0) listener.onAcceptable?.(listener);
      }
    } finally {
      this.delivering = false;
    }
    return done;
  }

  private tellAll(batch: RemoteConnection[]): void {
    let told = 0;
    try {
      for (; told < batch.length; told++) {
        // Whoever hears of it has accepted it: the listener may close.
        if (batch[told].listener !== null && !batch[told].isWaiting) this.accepted(batch[told]);
        tell(batch[told]);
        this.again(batch[told]);
        if (told % FLUSH_TOLD === FLUSH_TOLD - 1) this.flush();
      }
    } finally {
      // Whoever threw has its other events still to hear of.
      for (; told < batch.length; told++) this.again(batch[told]);
    }
  }

  /** It has been told; what has happened meanwhile it is told next. */
  private again(connection: RemoteConnection): void {
    connection.isQueued = false;
    if (connection.events !== 0) this.add(connection);
  }
}

function tell(connection: RemoteConnection): void {
  const { socket } = connection;
  const { handlers } = socket;
  if (handlers.changed !== undefined) {
    const events = connection.events & ~TELL_FIN;
    connection.events = 0;
    if (events !== 0) handlers.changed(socket, events);
    return;
  }
  connection.events &= HANDLED;
  if (takes(connection, EV_CONNECTED)) handlers.open?.(socket);
  if (takes(connection, EV_URGENT)) handlers.urgent?.(socket);
  if (takes(connection, EV_READABLE) && connection.pieces.bytes > 0) handlers.readable?.(socket);
  if (takes(connection, TELL_FIN) && !socket.endTold) {
    socket.endTold = true;
    handlers.ended?.(socket);
  }
  if (takes(connection, EV_WRITABLE)) handlers.writable?.(socket);
  if (takes(connection, EV_CLOSED)) {
    connection.error = 0;
    handlers.closed?.(socket, connection.endErrno);
  }
}

/** Takes an event that is to be told; closing forgets all of them. */
function takes(connection: RemoteConnection, event: number): boolean {
  const has = (connection.events & event) !== 0;
  connection.events &= ~event;
  return has;
}
