/**
 * What comes to a thread from one lcore: the ring's messages in order, and the frames that the lcore lends.
 *
 * Loans lie behind datagrams. A send that looks for them sets the datagrams aside, for it may call no handler; they come
 * first the next time that the thread looks.
 */
import type { RingConsumer } from "../queues/ring.ts";
import { LOAN_FRAMES } from "./lender.ts";
import { M_COUNT, M_FRAMES, M_KIND, MSG_ERROR, MSG_LEND, MSG_SENT } from "./message.ts";
import { MessageQueue } from "./queue.ts";

/**
 * Messages that may be set aside; with as many, sends find no loans until the thread has looked for its datagrams.
 */
const BACKLOG_MAX = 4096;

/** Takes at once, in the middle of a send too, what calls no handler. */
export interface InboxOwner {
  /** A MSG_SENT. */
  acceptCredit(words: Int32Array, at: number): void;
  /** A MSG_ERROR of this lcore. False: it is to wait, for its socket has a handler for errors. */
  acceptErrorNow(lcore: number, words: Int32Array, at: number): boolean;
  /** A message about a TCP connection. False: it is something else. */
  acceptStream(lcore: number, words: Int32Array, at: number): boolean;
}

export class Inbox {
  /** Frames borrowed and not yet used. */
  loanCount = 0;
  /** What peek() points into. */
  words: Int32Array;
  private readonly ring: RingConsumer;
  private readonly owner: InboxOwner;
  private readonly lcore: number;
  private readonly loans = new Int32Array(2 * LOAN_FRAMES);
  private readonly backlog = new MessageQueue();
  private fromBacklog = false;

  constructor(ring: RingConsumer, owner: InboxOwner, lcore: number) {
    this.ring = ring;
    this.words = ring.words;
    this.owner = owner;
    this.lcore = lcore;
  }

  /** Whether messages wait that are not in the ring any more. */
  get isBehind(): boolean {
    return this.backlog.length > 0;
  }

  /** Where the next message lies in `words`, -1 for none. It is to be read before a send may look for loans. */
  peek(): number {
    const { backlog, ring } = this;
    this.fromBacklog = backlog.length > 0;
    this.words = this.fromBacklog ? backlog.words : ring.words;
    return this.fromBacklog ? backlog.peek() : ring.peek();
  }

  /** Steps past the message that peek() has just found. */
  next(): void {
    if (this.fromBacklog) this.backlog.next();
    else this.ring.next();
  }

  /** A MSG_LEND. */
  acceptLoan(words: Int32Array, at: number): void {
    for (let i = 0; i < words[at + M_COUNT]; i++) this.loans[this.loanCount++] = words[at + M_FRAMES + i];
  }

  /** Takes loans out of the ring until there are so many. Returns how many there are. */
  collect(wanted: number): number {
    const { backlog, lcore, owner, ring } = this;
    const { words } = ring;
    while (this.loanCount < wanted && backlog.length < BACKLOG_MAX) {
      const at = ring.peek();
      if (at < 0) break;
      ring.next();
      const kind = words[at + M_KIND];
      if (kind === MSG_LEND) this.acceptLoan(words, at);
      else if (kind === MSG_SENT) owner.acceptCredit(words, at);
      else if (kind === MSG_ERROR && owner.acceptErrorNow(lcore, words, at)) continue;
      else if (!owner.acceptStream(lcore, words, at)) backlog.push(words, at);
    }
    ring.release();
    return this.loanCount;
  }

  /** A frame to send from, or -1. */
  borrow(): number {
    if (this.loanCount === 0 && this.collect(1) === 0) return -1;
    return this.loans[--this.loanCount];
  }

  /** A frame that was borrowed and not used. */
  giveBack(frame: number): void {
    this.loans[this.loanCount++] = frame;
  }
}
