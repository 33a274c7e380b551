/**
 * A mutex in shared memory for the cold path (opening, binding and closing sockets). States: 0 free, 1 held,
 * 2 held with waiters; after Drepper, "Futexes are tricky", mutex 2.
 */
export class Mutex {
  private readonly words: Int32Array;
  private readonly index: number;

  constructor(words: Int32Array, index: number) {
    this.words = words;
    this.index = index;
  }

  lock(): void {
    const { words, index } = this;
    if (Atomics.compareExchange(words, index, 0, 1) === 0) return;
    while (Atomics.exchange(words, index, 2) !== 0) Atomics.wait(words, index, 2);
  }

  unlock(): void {
    const { words, index } = this;
    if (Atomics.exchange(words, index, 0) === 2) Atomics.notify(words, index, 1);
  }

  /** Runs `body` with the lock held; released whatever happens. */
  hold<T>(body: () => T): T {
    this.lock();
    try {
      return body();
    } finally {
      this.unlock();
    }
  }
}
