/**
 * The timeout of a socket without traffic. Traffic only notes the time: a timer that is moved at each segment, and set
 * anew for each request, would cost more than the rest (60 ns a refresh, Bun 1.4.5).
 */
export class IdleTimer {
  private readonly expired: () => void;
  private timer: ReturnType<typeof setTimeout> | null = null;
  /** When `timer` looks, of performance.now(). */
  private dueMs = 0;
  private idleMs = 0;
  private lastMs = 0;

  constructor(expired: () => void) {
    this.expired = expired;
  }

  /** From now on. @param idleMs 0: none */
  set(idleMs: number): void {
    this.idleMs = idleMs;
    if (idleMs === 0) return;
    this.lastMs = performance.now();
    // One that looks earlier will find out for itself how long is left.
    if (this.timer === null || this.dueMs > this.lastMs + idleMs) this.start(idleMs);
  }

  /** There was traffic. */
  touch(): void {
    if (this.idleMs === 0) return;
    this.lastMs = performance.now();
    if (this.timer === null) this.start(this.idleMs);
  }

  stop(): void {
    this.idleMs = 0;
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
  }

  private start(ms: number): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.dueMs = performance.now() + ms;
    this.timer = setTimeout(() => this.look(), Math.ceil(ms));
    this.timer.unref();
  }

  private look(): void {
    this.timer = null;
    if (this.idleMs === 0) return;
    const left = this.lastMs + this.idleMs - performance.now();
    if (left > 1) {
      this.start(left);
      return;
    }
    // As in Node: once, until there is traffic or another set().
    this.expired();
  }
}
