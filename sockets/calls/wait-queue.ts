/** Who waits for something to change at a file: wait queues as the kernel's (include/linux/wait.h). */

/** Called when a file's state has changed; `events` are the POLL bits that may be new, 0 where it is not known which. */
export type Waker = (events: number) => void;

export class WaitQueue {
  private readonly wakers = new Set<Waker>();

  add(waker: Waker): void {
    this.wakers.add(waker);
  }

  remove(waker: Waker): void {
    this.wakers.delete(waker);
  }

  get empty(): boolean {
    return this.wakers.size === 0;
  }

  /** Wakes everybody. A waker may add and remove wakers, itself too. */
  wake(events: number): void {
    if (this.wakers.size === 0) return;
    for (const waker of [...this.wakers]) waker(events);
  }

  /** Watches for the next wake-up: true when it comes, false when the time is over first or nobody cares any more. */
  watch(timeoutMs: number): Watch {
    let waker: Waker | null = null;
    let timer: ReturnType<typeof setTimeout> | null = null;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const end = (woken: boolean): void => {
      if (waker !== null) this.remove(waker);
      if (timer !== null) clearTimeout(timer);
      resolve(woken);
    };
    waker = () => end(true);
    this.add(waker);
    if (timeoutMs !== Number.POSITIVE_INFINITY) timer = setTimeout(() => end(false), timeoutMs);
    return { happened: promise, cancel: () => end(false) };
  }
}

export interface Watch {
  readonly happened: Promise<boolean>;
  cancel(): void;
}
