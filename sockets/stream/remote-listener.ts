/** A listener of this thread: what has come for it from all lcores and was not accepted. */
import type { RemoteConnection } from "./remote-connection.ts";
import type { TcpListener } from "./tcp-listener.ts";

export class RemoteListener {
  readonly listener: TcpListener;
  /** Connections that wait for accept(), the oldest first. */
  readonly waiting: RemoteConnection[] = [];
  /** By lcore: connections accepted of which the lcore does not know yet. */
  readonly accepted: Int32Array;
  isDirty = false;
  /** onAcceptable is to be called. */
  isQueued = false;

  constructor(listener: TcpListener, lcores: number) {
    this.listener = listener;
    this.accepted = new Int32Array(lcores);
  }
}
