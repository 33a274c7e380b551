/** Messages that wait on a thread, in rings of their own that grow by doubling. */
import type { Datagram } from "./datagram.ts";
import type { Endpoint } from "./endpoint.ts";
import { MESSAGE_WORDS } from "./message.ts";
import type { FrameViews } from "./wire/views.ts";

const SLOTS_FIRST = 16;

/** Bytes charged for a datagram beyond its payload: what an sk_buff and its head cost in Linux (SKB_TRUESIZE(0)). */
export const CHARGE_OVERHEAD = 768;

/** Messages of any kind, in order. Who pushes bounds their number. */
export class MessageQueue {
  /** Messages waiting. */
  length = 0;
  /** Valid until the next push(). */
  words = new Int32Array(0);
  private head = 0;

  /** Appends the message at `at` of `from`. */
  push(from: Int32Array, at: number): void {
    if (this.length * MESSAGE_WORDS === this.words.length) this.grow();
    const slots = this.words.length / MESSAGE_WORDS;
    const to = ((this.head + this.length) & (slots - 1)) * MESSAGE_WORDS;
    for (let i = 0; i < MESSAGE_WORDS; i++) this.words[to + i] = from[at + i];
    this.length++;
  }

  /** Where the oldest lies in `words`. There must be one. */
  peek(): number {
    return this.head * MESSAGE_WORDS;
  }

  /** Where the one lies before which there are `index` older ones. There must be one. */
  at(index: number): number {
    return ((this.head + index) & (this.words.length / MESSAGE_WORDS - 1)) * MESSAGE_WORDS;
  }

  /** Takes the oldest out. */
  next(): void {
    this.head = (this.head + 1) & (this.words.length / MESSAGE_WORDS - 1);
    this.length--;
  }

  private grow(): void {
    const slots = this.words.length / MESSAGE_WORDS;
    const larger = new Int32Array(Math.max(slots * 2, SLOTS_FIRST) * MESSAGE_WORDS);
    for (let i = 0; i < slots; i++) {
      const from = ((this.head + i) & (slots - 1)) * MESSAGE_WORDS;
      larger.set(this.words.subarray(from, from + MESSAGE_WORDS), i * MESSAGE_WORDS);
    }
    this.words = larger;
    this.head = 0;
  }
}

/**
 * Datagrams waiting to be received by a socket: MSG_DELIVER messages. The receive buffer bounds what is in it (each
 * datagram is charged at least CHARGE_OVERHEAD).
 */
export class DatagramQueue extends MessageQueue {
  /** Moves the oldest into `datagram`; false when there is none. */
  shift(datagram: Datagram, memories: readonly FrameViews[]): boolean {
    if (this.length === 0) return false;
    datagram.load(this.words, this.peek(), memories);
    this.next();
    return true;
  }

  /** Shows in `datagram` the one before which there are `index` older ones; it stays the queue's. There must be one. */
  look(index: number, datagram: Datagram, memories: readonly FrameViews[]): void {
    datagram.load(this.words, this.at(index), memories);
    datagram.owned = false;
  }

  /** Gives every frame back. */
  drain(endpoint: Endpoint): void {
    const datagram = endpoint.newDatagram();
    while (this.shift(datagram, endpoint.shared.memories)) datagram.release();
  }
}
