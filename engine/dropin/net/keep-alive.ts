/**
 * Whether a handle that is open keeps the process alive. The engine holds the event loop for each of its TCP sockets: one
 * that is unref'd is taken off its count, and put back before it is closed.
 */
import type { TcpEngine } from "../tcp-engine.ts";

export class Hold {
  private readonly engine: Pick<TcpEngine, "retain">;
  private open = true;
  private referenced = true;

  constructor(engine: Pick<TcpEngine, "retain">) {
    this.engine = engine;
  }

  ref(on: boolean): void {
    if (on === this.referenced) return;
    this.referenced = on;
    if (this.open) this.engine.retain(on ? 1 : -1);
  }

  end(): void {
    if (this.open && !this.referenced) this.engine.retain(1);
    this.open = false;
  }
}
