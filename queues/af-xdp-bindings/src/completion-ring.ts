import { type RingMemory, wordsOf } from "./ring-memory.ts";

/**
 * Completion ring: the kernel produces the addresses of frames it has transmitted, this side consumes.
 *
 *     const n = completion.available(64);
 *     for (let i = 0; i < n; i++) pool.give(completion.address(i));
 *     completion.release(n);
 *
 * Entry `i` counts from the oldest one not yet released. One thread at a time may use the object.
 */
export class CompletionRing {
  /** Entries, a power of two. */
  size: number;
  /** Where the ring lies: post it to a worker, and a ring made of it there is a view of the same ring. */
  readonly memory: RingMemory;
  private readonly words: Int32Array;
  private readonly producerWord: number;
  private readonly consumerWord: number;
  private readonly descWord: number;
  private mask: number;
  /** This side's cursor; equal to the shared consumer word, which only this side writes. */
  private consumer: number;
  /** The kernel's cursor when last looked at. */
  private producerSeen: number;

  /** A view of the ring, at the cursor that the shared consumer word holds. */
  constructor(memory: RingMemory) {
    this.size = memory.size;
    this.memory = memory;
    this.words = wordsOf(memory);
    this.producerWord = memory.producer >> 2;
    this.consumerWord = memory.consumer >> 2;
    this.descWord = memory.desc >> 2;
    this.mask = memory.size - 1;
    this.consumer = Atomics.load(this.words, this.consumerWord);
    this.producerSeen = this.consumer;
  }

  /** How many entries can be read, at most `max`. Looks at the kernel's cursor only when all it knew of are used up. */
  available(max: number): number {
    let entries = (this.producerSeen - this.consumer) | 0;
    if (entries === 0) {
      this.producerSeen = Atomics.load(this.words, this.producerWord);
      entries = (this.producerSeen - this.consumer) | 0;
    }
    return Math.min(entries, max);
  }

  /**
   * UMEM offset of a transmitted descriptor, as it was given to the TX ring; one entry a descriptor, also within a
   * frame of several. Linux 6.18 clears bit 0 of it in copy mode (xsk_skb_destructor_get_addr), so recover the chunk by
   * rounding down, not by comparing addresses.
   */
  address(i: number): number {
    return this.words[this.descWord + (((this.consumer + i) & this.mask) << 1)];
  }

  /** Hands the oldest `n` entries back to the kernel. */
  release(n: number): void {
    this.consumer = (this.consumer + n) | 0;
    Atomics.store(this.words, this.consumerWord, this.consumer);
  }

  /** Makes the ring absent: its memory no longer is the kernel's. */
  detach(): void {
    this.size = 0;
    this.mask = -1;
    this.consumer = Atomics.load(this.words, this.consumerWord);
    this.producerSeen = this.consumer;
  }
}
