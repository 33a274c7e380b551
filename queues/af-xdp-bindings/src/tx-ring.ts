import { XDP_RING_NEED_WAKEUP } from "./abi.ts";
import { type RingMemory, wordsOf } from "./ring-memory.ts";

/**
 * TX ring: this side produces frames, the kernel transmits them.
 *
 *     const n = tx.reserve(64);
 *     for (let i = 0; i < n; i++) tx.set(i, address, length, 0);
 *     tx.submit(n);
 *     if (tx.needsWakeup()) xsk.kickTx();
 *
 * Slot `i` counts from the first one not yet submitted. One thread at a time may use the object.
 */
export class TxRing {
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

  /**
   * Writes slot `i`, below the last `reserve`.
   * @param address UMEM offset of the data's first byte.
   * @param length Bytes; the data may not leave its chunk (aligned mode) or the UMEM (unaligned mode).
   * @param options XDP_PKT_CONTD when the frame continues in the next slot, XDP_TX_METADATA when metadata precedes the
   * data, 0 for neither.
   */
  set(i: number, address: number, length: number, options: number): void {
    const word = this.descWord + (((this.producer + i) & this.mask) << 2);
    // The high word stays 0, as the kernel zeroed it: a UMEM here is at most 2 GiB.
    this.words[word] = address;
    this.words[word + 2] = length;
    this.words[word + 3] = options;
  }

  /** Publishes the next `n` slots; the kernel owns their chunks until they come back in the completion ring. */
  submit(n: number): void {
    this.producer = (this.producer + n) | 0;
    Atomics.store(this.words, this.producerWord, this.producer);
  }

  /** Submitted slots the kernel has not taken yet. While there are some, copy mode needs another `kickTx`. */
  pending(): number {
    this.consumerSeen = Atomics.load(this.words, this.consumerWord);
    return (this.producer - this.consumerSeen) | 0;
  }

  /** True when submitted frames wait for `kickTx`. Always true in copy mode. */
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
