/** Bytes that wait to be read, in pieces of a memory: pairs of offset and length in a ring that grows by doubling. */
import { copyMemory } from "../wire/views.ts";

const PAIRS_FIRST = 8;

export class BytePieces {
  /** In all pieces together. */
  bytes = 0;
  private words = new Int32Array(2 * PAIRS_FIRST);
  private head = 0;
  private pairs = 0;

  /** Appends a piece, joined to the last one where it continues that. */
  push(offset: number, length: number): void {
    this.bytes += length;
    if (this.pairs > 0) {
      const last = this.place(this.pairs - 1);
      if (this.words[last] + this.words[last + 1] === offset) {
        this.words[last + 1] += length;
        return;
      }
    }
    if (2 * this.pairs === this.words.length) this.grow();
    const at = this.place(this.pairs++);
    this.words[at] = offset;
    this.words[at + 1] = length;
  }

  /** Offset of the first piece, and its length; there must be one. */
  get offset(): number {
    return this.words[this.head];
  }

  get length(): number {
    return this.words[this.head + 1];
  }

  /** Drops the first bytes, at most all. */
  drop(count: number): void {
    this.bytes -= count;
    let left = count;
    while (left > 0) {
      const length = this.words[this.head + 1];
      if (length > left) {
        this.words[this.head] += left;
        this.words[this.head + 1] -= left;
        return;
      }
      left -= length;
      this.head = (this.head + 2) & (this.words.length - 1);
      this.pairs--;
    }
  }

  /** Copies the first bytes out of `memory`, at most all. @param passed bytes before them */
  copy(memory: Uint8Array, into: Uint8Array, at: number, count: number, passed = 0): void {
    let done = 0;
    let skip = passed;
    for (let i = 0; done < count; i++) {
      const piece = this.place(i);
      const skipped = Math.min(skip, this.words[piece + 1]);
      const length = Math.min(this.words[piece + 1] - skipped, count - done);
      copyMemory(into, at + done, memory, this.words[piece] + skipped, length);
      done += length;
      skip -= skipped;
    }
  }

  private place(index: number): number {
    return (this.head + 2 * index) & (this.words.length - 1);
  }

  private grow(): void {
    const larger = new Int32Array(2 * this.words.length);
    for (let i = 0; i < this.pairs; i++) {
      const at = this.place(i);
      larger[2 * i] = this.words[at];
      larger[2 * i + 1] = this.words[at + 1];
    }
    this.words = larger;
    this.head = 0;
  }
}
