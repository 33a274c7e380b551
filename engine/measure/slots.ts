/**
 * Datagrams under way: each has a slot while it is, and carries its number and how often the slot was used, so that an
 * answer can be told from one that comes late or twice.
 */
import { G, type LoadBoard } from "./board.ts";

/** Slots at most: a slot's number is a halfword. */
export const WINDOW_MAX = 65_536;
/** Parts of the timeout after which slots are looked through for lost datagrams. */
const EXPIRY_PARTS = 4;
/** Slots looked at in a turn: less than a microsecond. */
const EXPIRY_SLOTS = 512;
const FREE = 0;
const IN_FLIGHT = 1;

export class Slots {
  readonly window: number;
  /** Slots that are free. */
  free: number;
  private readonly board: LoadBoard;
  private readonly counters: Float64Array;
  private readonly timeoutNs: number;
  /** A ring of the free ones, taken where they have been free the longest: a second answer then meets the slot it is for. */
  private readonly ring: Uint16Array;
  private at = 0;
  /** When each slot's datagram was sent, or was due, nanoseconds. */
  private readonly sentAt: Float64Array;
  private readonly state: Uint8Array;
  private readonly uses: Uint16Array;
  /** How each slot's last use ended: 1 where it was answered, 0 where it was lost. */
  private readonly answered: Uint8Array;
  private expiryNs = 0;
  /** Where the next piece of an unfinished look begins, else 0. */
  private expiryAt = 0;

  constructor(board: LoadBoard, window: number, timeoutMs: number) {
    this.window = window;
    this.free = window;
    this.board = board;
    this.counters = board.counters;
    this.timeoutNs = timeoutMs * 1e6;
    this.ring = Uint16Array.from({ length: window }, (_, i) => i);
    this.sentAt = new Float64Array(window);
    this.state = new Uint8Array(window);
    this.uses = new Uint16Array(window);
    this.answered = new Uint8Array(window);
  }

  /** The slot that take() takes, where one is free. */
  get next(): number {
    return this.ring[this.at];
  }

  use(slot: number): number {
    return this.uses[slot];
  }

  /** A datagram that was due at `due` has left, with the number and the use of `next`. */
  take(due: number): void {
    const slot = this.ring[this.at];
    this.at = this.at + 1 === this.window ? 0 : this.at + 1;
    this.free--;
    this.sentAt[slot] = due;
    this.state[slot] = IN_FLIGHT;
  }

  /** An answer names a slot and a use of it; `right`: its content is what was sent. Counts it as what it is. */
  answer(slot: number, use: number, now: number, right: boolean): void {
    const { answered, counters, sentAt, state, uses } = this;
    if (slot >= this.window) {
      counters[G.wrong]++;
    } else if (uses[slot] === use && state[slot] !== FREE) {
      if (right) {
        counters[G.received]++;
        this.board.latency.record(now - sentAt[slot]);
      } else {
        counters[G.wrong]++;
      }
      answered[slot] = 1;
      this.release(slot);
    } else if (answered[slot] === 1 && use === ((uses[slot] - 1) & 0xffff)) {
      counters[G.duplicated]++;
    } else {
      counters[G.late]++;
    }
  }

  /** Gives up what has been under way for too long, a piece of the slots a turn. */
  expire(now: number): void {
    if (this.expiryAt === 0 && now < this.expiryNs) return;
    const { sentAt, state, timeoutNs } = this;
    if (this.expiryAt === 0) this.expiryNs = now + timeoutNs / EXPIRY_PARTS;
    const end = Math.min(this.expiryAt + EXPIRY_SLOTS, this.window);
    for (let slot = this.expiryAt; slot < end; slot++) {
      if (state[slot] === FREE || now - sentAt[slot] < timeoutNs) continue;
      this.answered[slot] = 0;
      this.release(slot);
      this.counters[G.lost]++;
    }
    this.expiryAt = end === this.window ? 0 : end;
  }

  private release(slot: number): void {
    const at = this.at + this.free;
    this.state[slot] = FREE;
    this.uses[slot]++;
    this.ring[at < this.window ? at : at - this.window] = slot;
    this.free++;
  }
}
