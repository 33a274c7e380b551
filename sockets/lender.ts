/** Frames that an lcore lends to other threads to send from, replaced as they are used and as long as it has some to spare. */
import type { FramePool } from "../queues/pool.ts";
import type { RingProducer } from "../queues/ring.ts";
import type { FrameHolders } from "./frame-holders.ts";
import { FRAMES_PER_MESSAGE, M_COUNT, M_FRAMES, M_KIND, MSG_LEND } from "./message.ts";

/** Frames an lcore lends a thread. */
export const LOAN_FRAMES = 256;
/** Free frames below which nothing is lent: the queues must not run dry for the sake of senders. */
const LEND_RESERVE = 256;

export class Lender {
  /** Frames still to be lent to each thread. */
  readonly owed: Int32Array;
  private readonly pool: FramePool;
  private readonly holders: FrameHolders;
  private readonly reserve: number;

  constructor(threads: number, pool: FramePool, holders: FrameHolders) {
    this.owed = new Int32Array(threads);
    this.pool = pool;
    this.holders = holders;
    this.reserve = Math.min(LEND_RESERVE, pool.frames >> 1);
  }

  join(thread: number): void {
    this.owed[thread] = Math.min(LOAN_FRAMES, this.pool.frames >> 3);
  }

  leave(thread: number): void {
    this.owed[thread] = 0;
  }

  /** The thread has sent from the frame, which is home. */
  used(thread: number, frame: number): void {
    this.holders.home(frame);
    this.owed[thread]++;
  }

  /** Lends what is owed, as far as there are frames and there is room in the ring. */
  lend(thread: number, ring: RingProducer): void {
    const { holders, owed, pool } = this;
    while (owed[thread] > 0 && pool.available > this.reserve) {
      const at = ring.claim();
      if (at < 0) return;
      const count = Math.min(FRAMES_PER_MESSAGE, owed[thread]);
      ring.words[at + M_KIND] = MSG_LEND;
      ring.words[at + M_COUNT] = count;
      for (let i = 0; i < count; i++) {
        const frame = pool.take();
        holders.lend(frame, thread);
        ring.words[at + M_FRAMES + i] = frame;
      }
      owed[thread] -= count;
    }
  }
}
