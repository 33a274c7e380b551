/**
 * Wakeups that an lcore puts off. A thread without a CPU but the lcores' runs in the lcore's place as soon as it is woken,
 * and twice at that, for the runtime wakes it under a lock that it needs to sleep again. Told of each burst it took the CPU
 * every 34 datagrams of a load of echoes; told when nothing more comes at once, every 75, and an echo cost 7 % less CPU on
 * a calm machine (docs/performance.md). Of a few datagrams it is told at once.
 */

/** Frames in a turn from which more are taken to come at once. */
const MORE_TO_COME = 4;
/** Frames, the first turn's included, with which it is put off no longer, whomever they are for. */
const HELD_MAX = 256;

export class HeldWakeups {
  /** Threads that are to be woken. */
  private count = 0;
  private readonly held: Uint8Array;
  /** Frames that came since the first of them was noted. */
  private frames = 0;

  constructor(threads: number) {
    this.held = new Uint8Array(threads);
  }

  /** Notes a thread that is to be woken. */
  hold(thread: number): void {
    this.count += 1 - this.held[thread];
    this.held[thread] = 1;
  }

  /** At the end of a turn: whether to wake them now. @param received frames that came in it */
  isTime(received: number): boolean {
    if (this.count === 0) return false;
    this.frames += received;
    return received < MORE_TO_COME || this.frames >= HELD_MAX;
  }

  /** One of them, which is forgotten; -1 when there are no more. */
  take(): number {
    if (this.count === 0) {
      this.frames = 0;
      return -1;
    }
    const thread = this.held.indexOf(1);
    this.held[thread] = 0;
    this.count--;
    return thread;
  }
}
