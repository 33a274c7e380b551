import { type RingMemory, wordsOf } from "./ring-memory.ts";

/**
 * RX ring: the kernel produces received frames, this side consumes.
 *
 *     const n = rx.available(64);
 *     for (let i = 0; i < n; i++) use(rx.address(i), rx.length(i));
 *     rx.release(n);
 *
 * Entry `i` counts from the oldest one not yet released. One thread at a time may use the object.
 */
export class RxRing {
  /** Entries, a power of two. */
  size: number;
  /** Where the ring lies: post it to a worker, and a ring made of it there is a view of the same ring. */
  readonly memory: RingMemory;
  private readonly words: Int32Array;
  private readonly producerWord: number;
  private readonly consumerWord: number;
  private readonly descWord: number;
  private readonly chunkMask: number;
  private mask: number;
  /** This side's cursor; equal to the shared consumer word, which only this side writes. */
  private consumer: number;
  /** The kernel's cursor when last looked at. */
  private producerSeen: number;

  /**
   * A view of the ring, at the cursor that the shared consumer word holds. `chunkMask`: what turns the low word of an
   * address into its chunk, minus the chunk size in aligned mode and -1 in unaligned mode.
   */
  constructor(memory: RingMemory, chunkMask: number) {
    this.size = memory.size;
    this.memory = memory;
    this.words = wordsOf(memory);
    this.producerWord = memory.producer >> 2;
    this.consumerWord = memory.consumer >> 2;
    this.descWord = memory.desc >> 2;
    this.chunkMask = chunkMask;
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

  /** UMEM offset of the data's first byte, in aligned and unaligned mode alike. */
  address(i: number): number {
    const word = this.descWord + (((this.consumer + i) & this.mask) << 2);
    // Aligned mode: the high word is 0. Unaligned mode: its upper half is the offset from the chunk's start.
    return this.words[word] + (this.words[word + 1] >>> 16);
  }

  /** UMEM offset of the chunk's start: what goes back into the fill ring. */
  chunk(i: number): number {
    return this.words[this.descWord + (((this.consumer + i) & this.mask) << 2)] & this.chunkMask;
  }

  /** Bytes of data in this descriptor. */
  length(i: number): number {
    return this.words[this.descWord + (((this.consumer + i) & this.mask) << 2) + 2];
  }

  /** XDP_PKT_CONTD when the frame continues in the next descriptor, else 0. */
  options(i: number): number {
    return this.words[this.descWord + (((this.consumer + i) & this.mask) << 2) + 3];
  }

  /** Hands the oldest `n` entries back to the kernel. Their contents must not be read after. */
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
