/**
 * A mutex in shared memory for the cold path (opening, binding and closing sockets). Its word is 0 while it is free; else the
 * id in the kernel of the thread that has it, with WAITERS once somebody waits: as in the kernel's robust futexes
 * (Documentation/locking/robust-futex-ABI.rst), and waited for as in Drepper, "Futexes are tricky", mutex 2.
 *
 * A worker that is terminated dies wherever it is, and runs no `finally`. So whoever waits looks now and then whether the
 * thread that has the mutex is still there. From one that is not it takes the mutex over, and has what it guards repaired first.
 */
import { isThreadGone, ownThreadId } from "./kernel-thread.ts";

const WAITERS = 1 << 31;
const THREAD_ID = 0x3fffffff;
/** How often who waits looks for the other thread, milliseconds. It has the mutex for microseconds, unless it is not given a CPU. */
const LOOK_MS = 10;

export class Mutex {
  private readonly words: Int32Array;
  private readonly index: number;
  private readonly repair: () => void;

  /** @param repair brings into order what a thread has left that died in the middle; called with the mutex held */
  constructor(words: Int32Array, index: number, repair: () => void) {
    this.words = words;
    this.index = index;
    this.repair = repair;
  }

  lock(): void {
    if (Atomics.compareExchange(this.words, this.index, 0, ownThreadId()) !== 0) this.wait(ownThreadId() | WAITERS);
  }

  /** @param taken what the word is to be: others may wait behind this thread */
  private wait(taken: number): void {
    const { words, index } = this;
    while (true) {
      const before = Atomics.compareExchange(words, index, 0, taken);
      if (before === 0) return;
      const marked = before | WAITERS;
      if (before !== marked && Atomics.compareExchange(words, index, before, marked) !== before) continue;
      if (Atomics.wait(words, index, marked, LOOK_MS) !== "timed-out") continue;
      if (!isThreadGone(marked & THREAD_ID) || Atomics.compareExchange(words, index, marked, taken) !== marked)
        continue;
      this.repair();
      return;
    }
  }

  unlock(): void {
    const { words, index } = this;
    if ((Atomics.exchange(words, index, 0) & WAITERS) !== 0) Atomics.notify(words, index, 1);
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
