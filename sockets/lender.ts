/** Frames that an lcore lends to other threads to send from, replaced as they are used and as long as it has some to spare. */
import type { FramePool } from "../queues/pool.ts";
import type { RingProducer } from "../queues/ring.ts";
import { FRAMES_PER_MESSAGE, M_COUNT, M_FRAMES, M_KIND, MSG_LEND } from "./message.ts";

/** Frames an lcore lends a thread. */
export const LOAN_FRAMES = 256;
/** Free frames below which nothing is lent: the queues must not run dry for the sake of senders. */
const LEND_RESERVE = 256;

export class Lender {
  /** Frames still to be lent to each thread. */
  readonly owed: Int32Array;
  /** Frames each thread has. */
  private readonly lent: Int32Array;
  private readonly pool: FramePool;
  private readonly reserve: number;

  constructor(threads: number, pool: FramePool) {
    this.owed = new Int32Array(threads);
    this.lent = new Int32Array(threads);
    this.pool = pool;
    this.reserve = Math.min(LEND_RESERVE, pool.frames >> 1);
  }

  join(thread: number): void {
    this.owed[thread] = Math.min(LOAN_FRAMES, this.pool.frames >> 3);
  }

  /** The thread has given back what it had. Returns how many frames that were. */
  leave(thread: number): number {
    const had = this.lent[thread];
    this.lent[thread] = 0;
    this.owed[thread] = 0;
    return had;
  }

  /** The thread has sent from a frame. */
  used(thread: number): void {
    this.lent[thread]--;
    this.owed[thread]++;
  }

  /** Lends what is owed, as far as there are frames and there is room in the ring. */
  lend(thread: number, ring: RingProducer): void {
    const { owed, pool } = this;
    while (owed[thread] > 0 && pool.available > this.reserve) {
      const at = ring.claim();
      if (at < 0) return;
      const count = Math.min(FRAMES_PER_MESSAGE, owed[thread]);
      ring.words[at + M_KIND] = MSG_LEND;
      ring.words[at + M_COUNT] = count;
      for (let i = 0; i < count; i++) ring.words[at + M_FRAMES + i] = pool.take();
      this.lent[thread] += count;
      owed[thread] -= count;
    }
  }
}
