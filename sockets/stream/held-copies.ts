/**
 * Bytes that an echo has taken out of a receive queue and that no send queue has had room for yet. A connection has at most as
 * many as its send buffer was to hold.
 */
import { copy } from "../tcp/buffers.ts";
import type { Tcp } from "../tcp/core.ts";
import { RCV_HEAD, TCB_WORDS } from "../tcp/tcb.ts";
import { FrameViews } from "../wire/views.ts";

export class HeldCopies {
  private readonly copies: (FrameViews | null)[] = [];

  /** Copies the first bytes of a receive queue, which has as many. Returns the copy's name, below 0. */
  make(t: Tcp, id: number, length: number): number {
    const { chunks, w } = t;
    const views = new FrameViews(new Uint8Array((length + 3) & ~3));
    let done = 0;
    for (let chunk = w[id * TCB_WORDS + RCV_HEAD]; done < length; chunk = chunks.next[chunk]) {
      const here = Math.min(length - done, chunks.end[chunk] - chunks.begin[chunk]);
      copy(views, done, chunks.views, chunks.begin[chunk], here);
      done += here;
    }
    const free = this.copies.indexOf(null);
    const index = free < 0 ? this.copies.length : free;
    this.copies[index] = views;
    return -1 - index;
  }

  views(name: number): FrameViews {
    return this.copies[-1 - name] as FrameViews;
  }

  free(name: number): void {
    this.copies[-1 - name] = null;
  }
}
