/** Who waits for something to change at a file: wait queues as the kernel's (include/linux/wait.h). */

import { codeOf } from "./events/signals.ts";

/**
 * Called when a file's state has changed; `events` are the POLL bits that may be new, 0 where it is not known which. An exclusive
 * waker returns whether it has made use of that: then no other exclusive one is called.
 */
export type Waker = (events: number) => boolean;

export class WaitQueue {
  private readonly wakers = new Set<Waker>();
  private readonly exclusive = new Set<Waker>();
  private readonly signal: ((code: number) => void) | null;
  private readonly watched: (() => void) | null;

  /**
   * @param signal called with the si_code (POLL_IN …) of each wake-up that signals tell of
   * @param watched called when somebody begins to wait in the event loop: for files that have to be asked
   */
  constructor(signal: ((code: number) => void) | null = null, watched: (() => void) | null = null) {
    this.signal = signal;
    this.watched = watched;
  }

  add(waker: Waker, exclusive = false): void {
    if (exclusive) this.exclusive.add(waker);
    else this.wakers.add(waker);
  }

  remove(waker: Waker): void {
    this.wakers.delete(waker);
    this.exclusive.delete(waker);
  }

  get empty(): boolean {
    return this.wakers.size + this.exclusive.size === 0;
  }

  /**
   * Wakes everybody, and of the exclusive ones the first that makes use of it. A waker may add and remove wakers.
   * @param code si_code of the signal, where O_ASYNC asks for one; 0 for what the kernel sends none for
   */
  wake(events: number, code = codeOf(events)): void {
    if (code !== 0) this.signal?.(code);
    if (this.wakers.size > 0) for (const waker of [...this.wakers]) waker(events);
    if (this.exclusive.size > 0) for (const waker of [...this.exclusive]) if (waker(events)) break;
  }

  /** Watches for the next wake-up: true when it comes, false when the time is over first or nobody cares any more. */
  watch(timeoutMs: number): Watch {
    let timer: ReturnType<typeof setTimeout> | null = null;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const end = (woken: boolean): boolean => {
      this.remove(waker);
      if (timer !== null) clearTimeout(timer);
      resolve(woken);
      return true;
    };
    const waker: Waker = () => end(true);
    this.add(waker);
    this.watched?.();
    if (timeoutMs !== Number.POSITIVE_INFINITY) timer = setTimeout(() => end(false), timeoutMs);
    return { happened: promise, cancel: () => void end(false) };
  }
}

export interface Watch {
  readonly happened: Promise<boolean>;
  cancel(): void;
}
