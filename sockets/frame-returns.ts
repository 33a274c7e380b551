/** Frames that a thread gives back to their lcores, several to a message. */
import type { RingProducer } from "../queues/ring.ts";
import { FRAMES_PER_MESSAGE, M_COUNT, M_FRAMES, M_KIND, MSG_FREE } from "./message.ts";

export class FrameReturns {
  private readonly rings: readonly RingProducer[];
  /** Per lcore: FRAMES_PER_MESSAGE words each. */
  private readonly frames: Int32Array;
  private readonly counts: Int32Array;

  /** @param rings to each lcore */
  constructor(rings: readonly RingProducer[]) {
    this.rings = rings;
    this.frames = new Int32Array(rings.length * FRAMES_PER_MESSAGE);
    this.counts = new Int32Array(rings.length);
  }

  /** Whether the next frame of the lcore finds no room: send() first. */
  isFull(home: number): boolean {
    return this.counts[home] === FRAMES_PER_MESSAGE;
  }

  has(home: number): boolean {
    return this.counts[home] > 0;
  }

  add(home: number, frame: number): void {
    this.frames[home * FRAMES_PER_MESSAGE + this.counts[home]++] = frame;
  }

  /** Writes the message into a slot of the lcore's ring; into none (-1) the frames are lost. */
  send(home: number, at: number): void {
    const { counts, frames } = this;
    const count = counts[home];
    const from = home * FRAMES_PER_MESSAGE;
    counts[home] = 0;
    if (at < 0) return;
    const { words } = this.rings[home];
    words[at + M_KIND] = MSG_FREE;
    words[at + M_COUNT] = count;
    for (let i = 0; i < count; i++) words[at + M_FRAMES + i] = frames[from + i];
  }
}
