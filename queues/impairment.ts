/**
 * What a bad network does to frames, for tests in virtual time: loss, duplication, corruption, a rate limit, delay,
 * jitter and reordering. Everything follows from the seed and the times passed in.
 *
 * A frame takes, in this order: the lottery of loss, of duplication, of corruption; its turn on a link of `rateBps`; the
 * delay with jitter, which alone never reorders (it is a queue of changing length); and, when drawn for reordering,
 * `reorderMs` more, in which later frames overtake it. Every frame draws the same count of random numbers, and copies
 * draw from a sequence of their own, so that switching one impairment on leaves the others' lots as they were.
 */
import { Random } from "./random.ts";

/** All default to none. Probabilities are in [0, 1], each for a frame. */
export interface ImpairmentOptions {
  /** The same seed and times give the same fate to every frame. */
  seed: number;
  loss?: number;
  /** A second copy, which goes through everything after loss on its own. */
  duplicate?: number;
  /** One bit of the frame flipped. */
  corrupt?: number;
  /** Bits a second that the link carries. */
  rateBps?: number;
  /** Milliseconds. */
  delayMs?: number;
  /** Added to the delay: uniform in [0, jitterMs). */
  jitterMs?: number;
  reorder?: number;
  /** How much later a frame drawn for reordering comes. Default: 1. */
  reorderMs?: number;
  /** The most frames under way; the tail is dropped. Default: 1024. */
  limit?: number;
}

const LIMIT_DEFAULT = 1024;

function probability(name: string, value = 0): number {
  if (!(value >= 0 && value <= 1)) throw new RangeError(`${name} ${value}: not a probability`);
  return value;
}

function duration(name: string, value: number): number {
  if (!(value >= 0 && value < Number.POSITIVE_INFINITY)) throw new RangeError(`${name} ${value}: not a duration`);
  return value;
}

/** Frames under way on one direction of a wire. */
export class Impairment {
  /** Frames that met each fate. */
  lost = 0;
  duplicated = 0;
  corrupted = 0;
  reordered = 0;
  /** Dropped because `limit` frames were under way. */
  overflowed = 0;

  /** Frames under way, one in every `frameBytes`, named by slot. */
  readonly bytes: Uint8Array;
  /** Length of the frame in each slot, bytes. */
  readonly length: Int32Array;
  readonly frameBytes: number;

  private readonly random: Random;
  private readonly randomOfCopies: Random;
  private readonly loss: number;
  private readonly duplicate: number;
  private readonly corrupt: number;
  private readonly msPerByte: number;
  private readonly delayMs: number;
  private readonly jitterMs: number;
  private readonly reorder: number;
  private readonly reorderMs: number;
  private readonly limit: number;

  /** A binary heap of slots, the one due first on top; slots past `count` are free. */
  private readonly heap: Int32Array;
  private readonly due: Float64Array;
  /** Order of arrival, which decides between equal times. */
  private readonly order: Float64Array;
  private count = 0;
  private arrivals = 0;
  /** When the link is free again. */
  private linkFree = Number.NEGATIVE_INFINITY;
  /** The latest due time of a frame in order. */
  private lastDue = Number.NEGATIVE_INFINITY;

  /** @param frameBytes the longest frame, bytes */
  constructor(options: ImpairmentOptions, frameBytes: number) {
    this.random = new Random(options.seed);
    this.randomOfCopies = new Random(~options.seed);
    this.loss = probability("loss", options.loss);
    this.duplicate = probability("duplicate", options.duplicate);
    this.corrupt = probability("corrupt", options.corrupt);
    this.reorder = probability("reorder", options.reorder);
    this.reorderMs = duration("reorderMs", options.reorderMs ?? 1);
    this.delayMs = duration("delayMs", options.delayMs ?? 0);
    this.jitterMs = duration("jitterMs", options.jitterMs ?? 0);
    const rateBps = options.rateBps ?? Number.POSITIVE_INFINITY;
    if (!(rateBps > 0)) throw new RangeError(`rateBps ${rateBps}: not positive`);
    this.msPerByte = 8000 / rateBps;
    this.limit = options.limit ?? LIMIT_DEFAULT;
    if (!Number.isInteger(this.limit) || this.limit <= 0) throw new RangeError(`limit ${this.limit}: not positive`);
    this.frameBytes = frameBytes;
    this.bytes = new Uint8Array(this.limit * frameBytes);
    this.length = new Int32Array(this.limit);
    this.heap = Int32Array.from({ length: this.limit }, (_, slot) => slot);
    this.due = new Float64Array(this.limit);
    this.order = new Float64Array(this.limit);
  }

  /** A frame enters the wire at `now`, milliseconds. */
  offer(bytes: Uint8Array, offset: number, length: number, now: number): void {
    const isLost = this.random.unit() < this.loss;
    const isDuplicate = this.random.unit() < this.duplicate;
    this.send(bytes, offset, length, now, isLost, this.random);
    if (isLost) this.lost++;
    else if (isDuplicate) {
      this.duplicated++;
      this.send(bytes, offset, length, now, false, this.randomOfCopies);
    }
  }

  private send(bytes: Uint8Array, offset: number, length: number, now: number, isLost: boolean, random: Random): void {
    const isCorrupt = random.unit() < this.corrupt;
    const bit = random.below(length * 8);
    const jitterMs = random.unit() * this.jitterMs;
    const isReordered = random.unit() < this.reorder;
    if (isLost) return;
    if (this.count === this.limit) {
      this.overflowed++;
      return;
    }
    const slot = this.heap[this.count];
    const at = slot * this.frameBytes;
    for (let i = 0; i < length; i++) this.bytes[at + i] = bytes[offset + i];
    this.length[slot] = length;
    if (isCorrupt) {
      this.corrupted++;
      this.bytes[at + (bit >> 3)] ^= 1 << (bit & 7);
    }
    this.linkFree = Math.max(this.linkFree, now) + length * this.msPerByte;
    let due = Math.max(this.linkFree + this.delayMs + jitterMs, this.lastDue);
    if (isReordered) {
      this.reordered++;
      due += this.reorderMs;
    } else this.lastDue = due;
    this.due[slot] = due;
    this.order[slot] = this.arrivals++;
    this.siftUp(this.count++, slot);
  }

  /** When the next frame is due, milliseconds; Infinity when none is under way. A virtual clock can jump there. */
  nextDue(): number {
    return this.count === 0 ? Number.POSITIVE_INFINITY : this.due[this.heap[0]];
  }

  /** The slot of the next frame that is due at `now`, or -1. It stays readable until the next offer(). */
  take(now: number): number {
    if (this.count === 0) return -1;
    const slot = this.heap[0];
    if (this.due[slot] > now) return -1;
    const last = this.heap[--this.count];
    this.heap[this.count] = slot;
    if (this.count > 0) this.siftDown(last);
    return slot;
  }

  private isBefore(a: number, b: number): boolean {
    return this.due[a] < this.due[b] || (this.due[a] === this.due[b] && this.order[a] < this.order[b]);
  }

  private siftUp(from: number, slot: number): void {
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (this.isBefore(this.heap[parent], slot)) break;
      this.heap[at] = this.heap[parent];
      at = parent;
    }
    this.heap[at] = slot;
  }

  private siftDown(slot: number): void {
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= this.count) break;
      if (child + 1 < this.count && this.isBefore(this.heap[child + 1], this.heap[child])) child++;
      if (this.isBefore(slot, this.heap[child])) break;
      this.heap[at] = this.heap[child];
      at = child;
    }
    this.heap[at] = slot;
  }
}
