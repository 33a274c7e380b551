/**
 * A ring between two threads: one producer, one consumer, fixed-size slots, over a region of a SharedArrayBuffer.
 *
 *   byte   0  producer cursor   written by the producer only, read by the consumer
 *        128  consumer cursor   written by the consumer only, read by the producer
 *        256  waiting           1: the consumer is about to sleep or sleeps; set by the consumer, cleared by either
 *        384  slots             written by the producer while it owns them, read by the consumer while it owns them
 *
 * A cursor counts slots since the start and wraps at 2^32: the difference of two cursors in int32 arithmetic is right as
 * long as the ring has at most 2^30 slots. Each shared word has its line to itself; they lie 128 bytes apart because
 * Intel's prefetcher fetches lines in pairs of 64 bytes.
 *
 * Each side keeps its own cursor private and publishes it once a burst, and keeps a copy of the other side's cursor that
 * it reloads only when the copy says full or empty. So a burst costs one shared store, and the lines of the cursors move
 * between the CPUs once a burst instead of once a slot.
 *
 * Order: slots are written with plain stores, then the cursor with Atomics.store; the other side reads the cursor with
 * Atomics.load, then the slots with plain loads. ECMA-262 (memory model, synchronizes-with) makes the slots visible.
 *
 * Sleeping (the store-load order of Dekker's algorithm): the consumer stores `waiting`, then loads the producer cursor;
 * the producer stores its cursor, then loads `waiting`. Atomics are sequentially consistent, so the four have one order
 * in which at least one of the loads comes after the other side's store: either the consumer sees the new slots and
 * stays awake, or the producer sees `waiting` and wakes it. With plain accesses both stores could still sit in the CPUs'
 * store buffers while both loads return old values, and the consumer would sleep on a filled ring.
 */

const PRODUCER_BYTE = 0;
const CONSUMER_BYTE = 128;
const WAITING_BYTE = 256;
const SLOTS_BYTE = 384;

/** Word indices of the shared words in a region. */
export const RING_PRODUCER_WORD = PRODUCER_BYTE / 4;
export const RING_CONSUMER_WORD = CONSUMER_BYTE / 4;
const RING_WAITING_WORD = WAITING_BYTE / 4;

/** A region begins on a cache line: 64 bytes on every CPU that Bun runs on, and SharedArrayBuffers are page aligned. */
export const RING_ALIGN = 64;
/** The most slots a ring has. */
const RING_SLOTS_MAX = 2 ** 30;

/**
 * Bytes of a ring's region. A region of zeroes is an empty ring.
 * @param slots a power of two
 * @param slotWords int32 words a slot, a power of two: 1, or 16 for a cache line
 */
export function ringBytes(slots: number, slotWords: number): number {
  if (!isPowerOfTwo(slots) || slots > RING_SLOTS_MAX) throw new RangeError(`${slots} slots: not a power of two`);
  if (!isPowerOfTwo(slotWords)) throw new RangeError(`${slotWords} words a slot: not a power of two`);
  return SLOTS_BYTE + slots * slotWords * 4;
}

function isPowerOfTwo(n: number): boolean {
  return Number.isInteger(n) && n > 0 && n <= RING_SLOTS_MAX && (n & (n - 1)) === 0;
}

function controlWords(buffer: SharedArrayBuffer, byteOffset: number, bytes: number): Int32Array {
  if (byteOffset % RING_ALIGN !== 0) throw new RangeError(`ring at byte ${byteOffset}: not on a cache line`);
  if (byteOffset + bytes > buffer.byteLength) throw new RangeError(`ring of ${bytes} bytes exceeds its buffer`);
  return new Int32Array(buffer, byteOffset, SLOTS_BYTE / 4);
}

/** The filling side. One thread holds it. */
export class RingProducer {
  static readonly bytes = ringBytes;
  /** The slot area. claim() returns indices into it. */
  readonly words: Int32Array;
  readonly slots: number;
  private readonly control: Int32Array;
  private readonly mask: number;
  private readonly shift: number;
  /** Slots claimed since the start. */
  private head: number;
  /** Slots published since the start: our shared word. */
  private published: number;
  /** The consumer's cursor when it was last loaded. */
  private tailSeen: number;

  /** Takes up the region where its cursors stand. */
  constructor(buffer: SharedArrayBuffer, byteOffset: number, slots: number, slotWords: number) {
    this.control = controlWords(buffer, byteOffset, ringBytes(slots, slotWords));
    this.words = new Int32Array(buffer, byteOffset + SLOTS_BYTE, slots * slotWords);
    this.slots = slots;
    this.mask = slots - 1;
    this.shift = 31 - Math.clz32(slotWords);
    this.head = Atomics.load(this.control, RING_PRODUCER_WORD);
    this.published = this.head;
    this.tailSeen = Atomics.load(this.control, RING_CONSUMER_WORD);
  }

  /** Takes the next free slot: the index in `words` of its first word, or -1 when the ring is full. */
  claim(): number {
    const head = this.head;
    if (((head - this.tailSeen) | 0) === this.slots) {
      this.tailSeen = Atomics.load(this.control, RING_CONSUMER_WORD);
      if (((head - this.tailSeen) | 0) === this.slots) return -1;
    }
    this.head = (head + 1) | 0;
    return (head & this.mask) << this.shift;
  }

  /**
   * Hands every claimed slot to the consumer. True: the consumer sleeps and this caller is to wake it, by wake() or in
   * whatever way the two have agreed on (an eventfd). It is true once for each sleep. Does nothing without claims.
   */
  publish(): boolean {
    const head = this.head;
    if (head === this.published) return false;
    this.published = head;
    Atomics.store(this.control, RING_PRODUCER_WORD, head);
    // A load that nearly always hits: the line changes only when the consumer goes to sleep.
    if (Atomics.load(this.control, RING_WAITING_WORD) === 0) return false;
    return Atomics.exchange(this.control, RING_WAITING_WORD, 0) === 1;
  }

  /** Slots claimed since the start, wrapping: before claim() the number of the slot that it will give. */
  get claims(): number {
    return this.head;
  }

  /** Whether a slot, by its number, is still this side's to write. */
  isOwn(number: number): boolean {
    return ((number - this.published) | 0) >= 0;
  }

  /** Whether the consumer is done with a slot, by its number. */
  isTaken(number: number): boolean {
    return ((Atomics.load(this.control, RING_CONSUMER_WORD) - number) | 0) > 0;
  }

  /** Wakes a consumer in RingConsumer.sleep(). */
  wake(): void {
    Atomics.notify(this.control, RING_WAITING_WORD);
  }

  /** Free slots now: at least this many claims succeed. */
  free(): number {
    this.tailSeen = Atomics.load(this.control, RING_CONSUMER_WORD);
    return (this.slots - (this.head - this.tailSeen)) | 0;
  }
}

/** The draining side. One thread holds it. */
export class RingConsumer {
  static readonly bytes = ringBytes;
  /** The slot area. peek() returns indices into it. */
  readonly words: Int32Array;
  readonly slots: number;
  private readonly control: Int32Array;
  private readonly mask: number;
  private readonly shift: number;
  /** Slots consumed since the start. */
  private tail: number;
  /** Slots released since the start: our shared word. */
  private released: number;
  /** The producer's cursor when it was last loaded. */
  private headSeen: number;

  /** Takes up the region where its cursors stand. */
  constructor(buffer: SharedArrayBuffer, byteOffset: number, slots: number, slotWords: number) {
    this.control = controlWords(buffer, byteOffset, ringBytes(slots, slotWords));
    this.words = new Int32Array(buffer, byteOffset + SLOTS_BYTE, slots * slotWords);
    this.slots = slots;
    this.mask = slots - 1;
    this.shift = 31 - Math.clz32(slotWords);
    this.tail = Atomics.load(this.control, RING_CONSUMER_WORD);
    this.released = this.tail;
    this.headSeen = Atomics.load(this.control, RING_PRODUCER_WORD);
  }

  /** The index in `words` of the next filled slot's first word, or -1 when the ring is empty. */
  peek(): number {
    const tail = this.tail;
    if (tail === this.headSeen) {
      this.headSeen = Atomics.load(this.control, RING_PRODUCER_WORD);
      if (tail === this.headSeen) return -1;
    }
    return (tail & this.mask) << this.shift;
  }

  /** Steps past the slot that peek() returned. The slot stays the consumer's until release(). */
  next(): void {
    this.tail = (this.tail + 1) | 0;
  }

  /** Gives every slot stepped past back to the producer. */
  release(): void {
    const tail = this.tail;
    if (tail === this.released) return;
    this.released = tail;
    Atomics.store(this.control, RING_CONSUMER_WORD, tail);
  }

  /** Steps past every filled slot, and takes back what was announced: for who takes up a ring that was another's. */
  skipAll(): void {
    this.tail = Atomics.load(this.control, RING_PRODUCER_WORD);
    this.headSeen = this.tail;
    this.release();
    this.cancelWait();
  }

  /** Filled slots now: at least this many peeks succeed. */
  available(): number {
    this.headSeen = Atomics.load(this.control, RING_PRODUCER_WORD);
    return (this.headSeen - this.tail) | 0;
  }

  /**
   * Announces that this side is about to sleep. True: the ring is empty, and the next publish() will ask for a wakeup.
   * False: slots have come, do not sleep. A consumer of several rings calls it on all before it sleeps, and
   * cancelWait() on all when it is awake again. A wakeup may be left over from an earlier sleep: look again, then sleep.
   */
  prepareWait(): boolean {
    Atomics.store(this.control, RING_WAITING_WORD, 1);
    if (this.available() === 0) return true;
    this.cancelWait();
    return false;
  }

  /** Takes the announcement back. */
  cancelWait(): void {
    Atomics.store(this.control, RING_WAITING_WORD, 0);
  }

  /**
   * Sleeps, after prepareWait() returned true, until the producer's wake() or `timeoutMs` (Infinity: no limit), and takes
   * the announcement back. Returns at once when a publish() came in between, for `waiting` is then no longer 1.
   */
  sleep(timeoutMs: number): void {
    Atomics.wait(this.control, RING_WAITING_WORD, 1, timeoutMs);
    this.cancelWait();
  }
}
