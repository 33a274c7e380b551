/**
 * What a thread says to the lcores about its connections. A ring that is full loses nothing: messages wait here until it has
 * room, and whatever comes later behind them.
 */
import type { RingProducer } from "../../queues/ring.ts";
import { M_KIND, MESSAGE_WORDS } from "../message.ts";
import { MessageQueue } from "../queue.ts";
import { MSG_TCP_CALL, X_ARGUMENT, X_CALL, X_GENERATION, X_ID, X_VALUE } from "./tcp-messages.ts";

export class Outbox {
  /** The message that post() takes. */
  readonly words = new Int32Array(MESSAGE_WORDS);
  private readonly rings: readonly RingProducer[];
  private readonly waiting: MessageQueue[];

  /** @param rings to each lcore */
  constructor(rings: readonly RingProducer[]) {
    this.rings = rings;
    this.waiting = rings.map(() => new MessageQueue());
  }

  /** Whether messages wait for room in the ring to an lcore. */
  isBehind(lcore: number): boolean {
    return this.waiting[lcore].length > 0;
  }

  get isBehindAnywhere(): boolean {
    for (const queue of this.waiting) if (queue.length > 0) return true;
    return false;
  }

  /** A slot of the ring for a message that may be refused: -1: it would have to wait. */
  claim(lcore: number): number {
    return this.waiting[lcore].length > 0 ? -1 : this.rings[lcore].claim();
  }

  /** Number of the slot that the last message to an lcore has, or will have. */
  lastNumber(lcore: number): number {
    return (this.rings[lcore].claims + this.waiting[lcore].length - 1) | 0;
  }

  /** Sends `words`. */
  post(lcore: number): void {
    this.send(lcore, this.words);
  }

  send(lcore: number, message: Int32Array): void {
    const at = this.claim(lcore);
    if (at < 0) this.waiting[lcore].push(message, 0);
    else for (let i = 0; i < MESSAGE_WORDS; i++) this.rings[lcore].words[at + i] = message[i];
  }

  /** A MSG_TCP_CALL. */
  call(lcore: number, id: number, generation: number, call: number, argument = 0, value = 0): void {
    const { words } = this;
    words[M_KIND] = MSG_TCP_CALL;
    words[X_ID] = id;
    words[X_GENERATION] = generation;
    words[X_CALL] = call;
    words[X_ARGUMENT] = argument;
    words[X_VALUE] = value;
    this.post(lcore);
  }

  /** Puts what has waited into the rings, as far as there is room. */
  flush(): void {
    for (let l = 0; l < this.rings.length; l++) {
      const queue = this.waiting[l];
      while (queue.length > 0) {
        const at = this.rings[l].claim();
        if (at < 0) break;
        const from = queue.peek();
        for (let i = 0; i < MESSAGE_WORDS; i++) this.rings[l].words[at + i] = queue.words[from + i];
        queue.next();
      }
    }
  }
}
