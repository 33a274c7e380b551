import { XDP_RING_NEED_WAKEUP } from "./abi.ts";
import { type RingMemory, wordsOf } from "./ring-memory.ts";

/**
 * Fill ring: this side produces the addresses of free chunks, the kernel puts received frames into them.
 *
 *     const n = fill.reserve(64);
 *     for (let i = 0; i < n; i++) fill.set(i, pool.take());
 *     fill.submit(n);
 *
 * Slot `i` counts from the first one not yet submitted. One thread at a time may use the object.
 */
export class FillRing {
  /** Entries, a power of two. */
  size: number;
  /** Where the ring lies: post it to a worker, and a ring made of it there is a view of the same ring. */
  readonly memory: RingMemory;
  private readonly words: Int32Array;
  private readonly producerWord: number;
  private readonly consumerWord: number;
  private readonly flagsWord: number;
  private readonly descWord: number;
  private mask: number;
  /** This side's cursor; equal to the shared producer word, which only this side writes. */
  private producer: number;
  /** The kernel's cursor when last looked at. */
  private consumerSeen: number;

  /** A view of the ring, at the cursor that the shared producer word holds. */
  constructor(memory: RingMemory) {
    this.size = memory.size;
    this.memory = memory;
    this.words = wordsOf(memory);
    this.producerWord = memory.producer >> 2;
    this.consumerWord = memory.consumer >> 2;
    this.flagsWord = memory.flags >> 2;
    this.descWord = memory.desc >> 2;
    this.mask = memory.size - 1;
    this.producer = Atomics.load(this.words, this.producerWord);
    this.consumerSeen = Atomics.load(this.words, this.consumerWord);
  }

  /** How many slots are free, at most `max`. Looks at the kernel's cursor only when fewer than `max` were free before. */
  reserve(max: number): number {
    let free = this.size - ((this.producer - this.consumerSeen) | 0);
    if (free < max) {
      this.consumerSeen = Atomics.load(this.words, this.consumerWord);
      free = this.size - ((this.producer - this.consumerSeen) | 0);
    }
    return Math.min(free, max);
  }

  /** Writes slot `i`, below the last `reserve`: the UMEM offset of a chunk (any byte of it, in aligned mode). */
  set(i: number, address: number): void {
    // The high word stays 0, as the kernel zeroed it: a UMEM here is at most 2 GiB.
    this.words[this.descWord + (((this.producer + i) & this.mask) << 1)] = address;
  }

  /** Publishes the next `n` slots; the kernel owns their chunks from then on. */
  submit(n: number): void {
    this.producer = (this.producer + n) | 0;
    Atomics.store(this.words, this.producerWord, this.producer);
  }

  /** True when the kernel waits for `kickRx` (or poll) before it looks into the ring again. */
  needsWakeup(): boolean {
    return (Atomics.load(this.words, this.flagsWord) & XDP_RING_NEED_WAKEUP) !== 0;
  }

  /** Makes the ring absent: its memory no longer is the kernel's. */
  detach(): void {
    this.size = 0;
    this.mask = -1;
    this.producer = Atomics.load(this.words, this.producerWord);
    this.consumerSeen = this.producer;
  }
}
