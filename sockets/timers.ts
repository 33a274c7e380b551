/**
 * Timers of one lcore: a hierarchical timing wheel (Varghese and Lauck, 1987) over ids that the caller numbers from 0,
 * one timer an id. Setting, moving and cancelling a timer are a few stores each; so is its expiry, after at most seven
 * moves to a finer wheel.
 *
 * Time is counted in ticks of a millisecond, an int32 that wraps. The eight hexadecimal digits of a tick are eight wheels
 * of 16 slots. A timer lies in the wheel of the highest digit in which its deadline differs from now, in the slot of the
 * deadline's digit there: so everything in a finer wheel is due before anything in a coarser one. When time comes to a
 * slot, its timers have that digit right and move to finer wheels, or are due. A bit mask of each wheel's occupied slots
 * lets time jump from one occupied slot to the next, however far.
 *
 * Measured (Bun 1.4.5, AMD EPYC 7003): 10 ns to cancel and set, 13 ns to move one of 1,000 at random, 21 ns one of 100,000;
 * 30 ns to expire one of 100,000, its moves between wheels included.
 */

/** The furthest that a deadline lies ahead, milliseconds (12.4 days); one that is further fires then. */
export const TIMEOUT_MS_MAX = 2 ** 30;

const LEVELS = 8;
const LEVEL_BITS = 4;
const SLOTS = 16;
const SLOT_MASK = SLOTS - 1;
/** Lists: one a slot, then that of the timers that are due. */
const DUE = LEVELS * SLOTS;

const IDLE = -1;

export class Timers {
  /** Timers set, those due and not yet handed out included. */
  count = 0;
  readonly capacity: number;
  /** Circular lists through ids and, from `capacity` on, the lists' heads. A timer that is not set has next IDLE. */
  private readonly next: Int32Array;
  private readonly previous: Int32Array;
  /** Tick of each timer. */
  private readonly deadline: Int32Array;
  /** Bit s of word l: slot s of wheel l is not empty. */
  private readonly occupied: Int32Array;
  /** Whole milliseconds that time has come to, and the same as a tick. */
  private nowMs: number;
  private tick: number;

  /** @param capacity ids are 0..capacity - 1; `nowMs`: the clock's time */
  constructor(capacity: number, nowMs: number) {
    if (!Number.isInteger(capacity) || capacity < 1 || capacity > 2 ** 30) throw new RangeError(`${capacity} timers`);
    this.capacity = capacity;
    this.next = new Int32Array(capacity + DUE + 1).fill(IDLE);
    this.previous = new Int32Array(capacity + DUE + 1);
    this.deadline = new Int32Array(capacity);
    this.occupied = new Int32Array(LEVELS);
    for (let head = capacity; head <= capacity + DUE; head++) {
      this.next[head] = head;
      this.previous[head] = head;
    }
    this.nowMs = Math.floor(nowMs);
    this.tick = this.nowMs | 0;
  }

  isSet(id: number): boolean {
    return this.next[id] !== IDLE;
  }

  /** Loads what isSet() and schedule() look at first, so that the misses of many ids overlap. A number without meaning. */
  touch(id: number): number {
    return this.next[id] + this.deadline[id];
  }

  /**
   * Sets a timer, or moves one that is set. It fires at the first advance() to `deadlineMs`, rounded up to a whole
   * millisecond, or later; one in the past at the next advance().
   */
  schedule(id: number, deadlineMs: number): void {
    if (this.next[id] === IDLE) this.count++;
    else this.unlink(id);
    const ahead = Math.min(Math.ceil(deadlineMs) - this.nowMs, TIMEOUT_MS_MAX);
    this.deadline[id] = (this.tick + Math.max(ahead, 0)) | 0;
    this.place(id);
  }

  /** Clears a timer, also one that is due and not yet handed out. False: it was not set. */
  cancel(id: number): boolean {
    if (this.next[id] === IDLE) return false;
    this.unlink(id);
    this.next[id] = IDLE;
    this.count--;
    return true;
  }

  /**
   * Brings time to `nowMs` (a time in the past changes nothing) and fills `expired` with ids that are due, in the order
   * of their deadlines; their timers are cleared.
   * @returns how many. When that is expired.length, more may be due: call again with the same time
   */
  advance(nowMs: number, expired: Int32Array): number {
    const toMs = Math.floor(nowMs);
    let count = this.takeDue(expired, 0);
    while (count < expired.length && this.nowMs < toMs) {
      this.step(toMs);
      count = this.takeDue(expired, count);
    }
    return count;
  }

  /**
   * When advance() is to be called next, milliseconds: Infinity without timers, else at or before the first deadline. It
   * is the first deadline itself when that is in the finest wheel, so that a caller who sleeps until then wakes a
   * bounded number of times for nothing.
   */
  nextMs(): number {
    if (this.next[this.capacity + DUE] !== this.capacity + DUE) return this.nowMs;
    const level = this.finestLevel();
    if (level === LEVELS) return Number.POSITIVE_INFINITY;
    return this.nowMs + ((this.slotTick(level, this.firstSlot(level)) - this.tick) | 0);
  }

  /** Goes to the next occupied slot that begins by `toMs`, and takes it apart; or to `toMs` when there is none. */
  private step(toMs: number): void {
    const level = this.finestLevel();
    if (level === LEVELS) {
      this.setNow(toMs);
      return;
    }
    const slot = this.firstSlot(level);
    const atMs = this.nowMs + ((this.slotTick(level, slot) - this.tick) | 0);
    if (atMs > toMs) {
      this.setNow(toMs);
      return;
    }
    this.setNow(atMs);
    this.spill(level, slot);
  }

  private setNow(nowMs: number): void {
    this.nowMs = nowMs;
    this.tick = nowMs | 0;
  }

  /** The finest wheel with a timer, or LEVELS. */
  private finestLevel(): number {
    let level = 0;
    while (level < LEVELS && this.occupied[level] === 0) level++;
    return level;
  }

  /** The first occupied slot after now's; in the coarsest wheel that may be round the end. */
  private firstSlot(level: number): number {
    const occupied = this.occupied[level];
    const after = (((this.tick >>> (level * LEVEL_BITS)) & SLOT_MASK) + 1) & SLOT_MASK;
    const turned = ((occupied >>> after) | (occupied << (SLOTS - after))) & 0xffff;
    return (after + 31 - Math.clz32(turned & -turned)) & SLOT_MASK;
  }

  /** The tick at which a slot begins: now's digits above the wheel, the slot's, then zeroes. */
  private slotTick(level: number, slot: number): number {
    const shift = level * LEVEL_BITS;
    return (this.tick & (-SLOTS << shift)) | (slot << shift);
  }

  /** Places every timer of a slot anew, in order. */
  private spill(level: number, slot: number): void {
    const head = this.capacity + level * SLOTS + slot;
    let id = this.next[head];
    this.next[head] = head;
    this.previous[head] = head;
    this.occupied[level] &= ~(1 << slot);
    while (id !== head) {
      const following = this.next[id];
      this.place(id);
      id = following;
    }
  }

  /** Appends a timer that is in no list to that of its deadline. */
  private place(id: number): void {
    const deadline = this.deadline[id];
    const differing = deadline ^ this.tick;
    let list = DUE;
    if (differing !== 0) {
      const level = (31 - Math.clz32(differing)) >> 2;
      const slot = (deadline >>> (level * LEVEL_BITS)) & SLOT_MASK;
      this.occupied[level] |= 1 << slot;
      list = level * SLOTS + slot;
    }
    const head = this.capacity + list;
    const last = this.previous[head];
    this.next[last] = id;
    this.previous[id] = last;
    this.next[id] = head;
    this.previous[head] = id;
  }

  private unlink(id: number): void {
    const following = this.next[id];
    const before = this.previous[id];
    this.next[before] = following;
    this.previous[following] = before;
    if (following !== before) return;
    // Only a head is its own neighbour on both sides: its list is now empty.
    const list = following - this.capacity;
    if (list < DUE) this.occupied[list >> LEVEL_BITS] &= ~(1 << (list & SLOT_MASK));
  }

  private takeDue(expired: Int32Array, from: number): number {
    const head = this.capacity + DUE;
    let count = from;
    while (count < expired.length && this.next[head] !== head) {
      const id = this.next[head];
      this.unlink(id);
      this.next[id] = IDLE;
      this.count--;
      expired[count++] = id;
    }
    return count;
  }
}
