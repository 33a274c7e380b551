/**
 * Whether an lcore that spins has its CPU for itself. One that spins while others want the CPU uses up its share of it for
 * nothing: when a frame comes the scheduler lets the others run first, by slices of some milliseconds. Two lcores that
 * answer each other, each beside two programs that compute, make 3,500 exchanges a second so, and 50,000 when they sleep
 * with nothing to do (64 connections over veth, Linux 6.18, PREEMPT_NONE, HZ=250; docs/performance.md).
 *
 * It is told by the clock: turns without work take microseconds, unless somebody else runs between them.
 */

/**
 * A gap that is no turn's, milliseconds: shorter than a time slice (base_slice_ns is 0.7 to 3 ms, a tick 1 to 10), longer
 * than interrupts and softirqs take.
 */
const GAP_MS = 1;
/** How long an lcore then sleeps when it is idle, before it spins again to see: doubled while others are still there. */
const SHARED_MS_MIN = 250;
const SHARED_MS_MAX = 4000;

export class Preemption {
  private sharedUntil = Number.NEGATIVE_INFINITY;
  private sharedMs = SHARED_MS_MIN;

  /**
   * Some turns, all without work, have taken from `fromMs` to `toMs`, by any one clock.
   * @returns whether others had the CPU between them
   */
  spun(fromMs: number, toMs: number): boolean {
    if (toMs - fromMs < GAP_MS) return false;
    if (toMs < this.sharedUntil) return true;
    // Soon after it spun again: they have not gone.
    const again = toMs - this.sharedUntil < this.sharedMs;
    this.sharedMs = again ? Math.min(2 * this.sharedMs, SHARED_MS_MAX) : SHARED_MS_MIN;
    this.sharedUntil = toMs + this.sharedMs;
    return true;
  }

  /** Whether the CPU is to be left to others when there is nothing to do. */
  isShared(nowMs: number): boolean {
    return nowMs < this.sharedUntil;
  }
}
