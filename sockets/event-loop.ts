/**
 * What an application thread's end has of the thread's event loop: it is polled there as long as somebody waits or a socket
 * is open, and sleeps on the thread's bell in between.
 */
import type { Mesh } from "./mesh.ts";

/** Any long time. */
const KEEP_ALIVE_MS = 1 << 30;

/** The end that is looked after. */
export interface Pumped {
  readonly thread: number;
  readonly sockets: ReadonlyMap<number, unknown>;
  /** TCP sockets, listeners among them. */
  readonly streams: number;
  /** True from when it is to be left alone. */
  readonly stopped: boolean;
  poll(): number;
  /** Announces that the thread is about to sleep. False: there is something to do, it must not. */
  prepareWait(): boolean;
  cancelWait(): void;
}

export class EventLoop {
  private readonly end: Pumped;
  private readonly mesh: Mesh;
  /** Time that it looks on, turn by turn, after the last turn with something to do, milliseconds. */
  private readonly spinMs: number;
  private readonly waiters: (() => void)[] = [];
  private pumping = false;
  /** True while the pump sleeps on the bell, its announcement standing. */
  private asleep = false;
  /** Open sockets that keep the event loop alive. */
  private refs = 0;
  private alive: ReturnType<typeof setInterval> | null = null;

  constructor(end: Pumped, mesh: Mesh, spinMs: number) {
    this.end = end;
    this.mesh = mesh;
    this.spinMs = spinMs;
  }

  /** Resolves when something may have come. */
  arrival(): Promise<void> {
    return new Promise((resolve) => {
      this.waiters.push(resolve);
      this.pump();
    });
  }

  /** Ends every wait. */
  wakeWaiters(): void {
    for (const resolve of this.waiters.splice(0)) resolve();
    // Nobody will ring for a thread without sockets; the pump that sleeps on holds the event loop.
    if (this.end.sockets.size === 0 && this.end.streams === 0) this.lookAgain();
  }

  /** The end has waited by itself, which has undone what the pump had announced: it has to look and announce itself anew. */
  lookAgain(): void {
    if (this.asleep) this.mesh.ring(this.end.thread);
  }

  /** One socket more, or less, that keeps the event loop alive. */
  retain(count: 1 | -1): void {
    this.refs += count;
    this.keepAlive();
  }

  /** Polls from the event loop from now on, until the end is closed. */
  pump(): void {
    if (this.pumping || this.end.stopped) return;
    this.pumping = true;
    this.keepAlive();
    // Whoever sets a handler or asks to be told of room is not in the middle of its datagrams yet.
    const pumped = Promise.resolve().then(() => this.run());
    void pumped.finally(() => {
      this.pumping = false;
      this.keepAlive();
    });
  }

  /**
   * Holds the event loop while the pump runs for some socket that asks for it: a pending Atomics.waitAsync does not (Bun
   * 1.4.5), so a worker that only awaits would end.
   */
  private keepAlive(): void {
    const wanted = this.pumping && this.refs > 0;
    if (wanted === (this.alive !== null)) return;
    if (this.alive !== null) clearInterval(this.alive);
    this.alive = wanted ? setInterval(() => {}, KEEP_ALIVE_MS) : null;
  }

  private async run(): Promise<void> {
    const { end, mesh, spinMs } = this;
    let idleSince = 0;
    while (!end.stopped && (this.waiters.length > 0 || end.sockets.size > 0 || end.streams > 0)) {
      const count = mesh.bellCount(end.thread);
      if (this.poll() > 0) {
        idleSince = 0;
        await nextTurn();
        continue;
      }
      if (end.stopped) break;
      if (spinMs > 0) {
        const now = performance.now();
        if (idleSince === 0) idleSince = now;
        if (now - idleSince < spinMs) {
          await nextTurn();
          continue;
        }
        idleSince = 0;
      }
      if (end.prepareWait()) {
        this.asleep = true;
        await mesh.waitAsync(end.thread, count);
        this.asleep = false;
      }
      end.cancelWait();
    }
  }

  /** What a handler throws becomes an uncaught exception, as from any callback, and the others go on. */
  private poll(): number {
    try {
      return this.end.poll();
    } catch (error) {
      setImmediate(() => {
        throw error;
      });
      return 1;
    }
  }
}

/** Lets promises, timers and I/O have their turn. */
const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
