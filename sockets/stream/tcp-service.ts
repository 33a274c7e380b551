/**
 * The lcore's side of TCP sockets that other threads have: their connections live in the lcore's Tcp, what they are asked
 * comes as messages, and what happens to them goes out as messages.
 *
 * Received bytes are told where they lie, and stay in the core's receive queue until the thread says that it has read them,
 * so the receive window follows the application. A thread may read such bytes for as long as it holds the connection:
 *  - the core frees chunks of a receive queue in consume(), for bytes that TCP_CONSUMED has named, and with the record. A
 *    connection that a peer or a timer ends keeps record and queue until its owner closes it: finish() and enterTimeWait()
 *    free them for orphans alone, and those have no owner;
 *  - the owner gives the record up by CALL_CLOSE or CALL_ABORT, after which it reads nothing of it, and the ring keeps that
 *    in order behind all it has said before;
 *  - what the lcore has told before it heard of that still names the old connection by id and generation. The thread has
 *    dropped its own end by then, and looks no further; a new connection with the id is told of later in the same ring.
 *
 * A ring to a thread that is full loses nothing: events wait in `late`, connections to be accepted in their listener's queue.
 * Bytes for which there is no memory wait in the thread's frames, or, of an echo, in a copy; and what else it asks of the
 * connection waits behind them, in `held`. What it has read does not wait: its memory may be what is missing.
 */
import { ERRNO } from "af-xdp-bindings";
import type { RingProducer } from "../../queues/ring.ts";
import { M_KIND, MESSAGE_WORDS } from "../message.ts";
import { MessageQueue } from "../queue.ts";
import { GENERATION as RECORD_GENERATION, type SocketTable } from "../table.ts";
import { abortSocket, close, consumed, MSG_MORE, MSG_OOB, openSocket, send, shutdown } from "../tcp/calls.ts";
import type { Tcp } from "../tcp/core.ts";
import { setFilter } from "../tcp/filter.ts";
import { accept, type Listener } from "../tcp/listen.ts";
import { readable } from "../tcp/receive.ts";
import { isWritable } from "../tcp/send-queue.ts";
import { setOption } from "../tcp/sockopts.ts";
import {
  CLOSE_WAIT,
  ERROR,
  ESTABLISHED,
  EV_CONNECTED,
  EV_READABLE,
  EV_URGENT,
  EV_WRITABLE,
  F_FIN_RCVD,
  F_NOSPACE,
  FILTER,
  FLAGS,
  GENERATION,
  LISTENER,
  OWNER,
  RCV_HEAD,
  RCV_UP,
  STATE,
  TCB_WORDS,
  URGENT,
} from "../tcp/tcb.ts";
import { upToMark } from "../tcp/urgent.ts";
import { HeldCopies } from "./held-copies.ts";
import { applyOptionWord } from "./option-words.ts";
import {
  CALL_ABORT,
  CALL_CLOSE,
  CALL_FILTER,
  CALL_OPTION,
  CALL_SHUTDOWN,
  CALL_WANT,
  MSG_TCP_ACCEPT,
  MSG_TCP_ACCEPTED,
  MSG_TCP_CALL,
  MSG_TCP_CONNECT,
  MSG_TCP_CONNECTING,
  MSG_TCP_CONSUMED,
  MSG_TCP_ECHO,
  MSG_TCP_PREPARE,
  MSG_TCP_SEND,
  MSG_TCP_TELL,
  PIECES_MAX,
  TELL_FIN,
  X_ACCEPTED,
  X_ARGUMENT,
  X_BOUND,
  X_CALL,
  X_CONSUMED,
  X_COUNT,
  X_ERRNO,
  X_EVENTS,
  X_FLAGS,
  X_FRAME,
  X_GENERATION,
  X_ID,
  X_LENGTH,
  X_MARK,
  X_OFFSET,
  X_PAIRS,
  X_PIECES,
  X_PORT,
  X_RECORD,
  X_RECORD_GENERATION,
  X_REMOTE,
  X_RESULT,
  X_TOKEN,
  X_TOKEN_ANSWERED,
  X_URGENT,
  X_V6,
  X_VALUE,
  X_WANTS,
} from "./tcp-messages.ts";
import { UntoldBytes } from "./untold-bytes.ts";

/** Bits of send(2) that the core knows. */
const SEND_FLAGS = MSG_OOB | MSG_MORE;

/** What the service needs of its lcore. */
export interface TcpServiceHost {
  readonly tcp: Tcp;
  /** The ring to a thread. */
  ringTo(thread: number): RingProducer;
  /** A frame that the thread was lent is free again. */
  frameSpent(thread: number, frame: number): void;
  /** The core's listener of a record in the socket table, its id; -1: none, or the record is another socket's by now. */
  coreOf(record: number): number;
  /** A use of a socket filter that a message has given away, to a connection that is no more. */
  discardFilter(filter: number): void;
  /**
   * connect(2) of a connection whose options are set.
   * @param record in the socket table, of a socket that is bound, or -1
   * @param address of the peer, four words
   * @returns -EINPROGRESS as a rule; else what is wrong
   */
  connectCore(id: number, record: number, address: Int32Array, port: number): number;
}

export class TcpService {
  /** By id: the thread that has the connection, plus 1; 0: none but the lcore itself. */
  readonly owners: Uint16Array;
  private readonly host: TcpServiceHost;
  private readonly t: Tcp;
  private readonly table: SocketTable;
  private readonly untold: UntoldBytes;
  private readonly copies = new HeldCopies();
  private readonly address = new Int32Array(4);
  /** Events by id that are still to be told. */
  private readonly late = new Map<number, number>();
  /** Records whose connections to be accepted have found no room in the ring to their thread. */
  private readonly offers = new Set<number>();
  /** Answers that are still to be given. */
  private readonly answers: { thread: number; message: Int32Array }[] = [];
  /** By id: messages of its owner that wait until the send queue takes what is first of them. */
  private readonly held = new Map<number, MessageQueue>();
  /** Those of them that are to be closed then. */
  private readonly closing = new Set<number>();
  /** By thread: words for the record of its next connection. */
  private readonly prepared = new Map<number, number[]>();
  /** One past the highest id that ever had another owner. */
  private bound = 0;

  constructor(host: TcpServiceHost, table: SocketTable) {
    this.host = host;
    this.table = table;
    this.t = host.tcp;
    this.owners = new Uint16Array(host.tcp.config.connections);
    this.untold = new UntoldBytes(host.tcp);
  }

  /** Whether messages wait for room in rings: flush() is to be called again soon. */
  get isBehind(): boolean {
    return this.late.size > 0 || this.offers.size > 0 || this.answers.length > 0;
  }

  /** Takes a message of a thread. False: it is of another kind. */
  message(thread: number, words: Int32Array, at: number): boolean {
    switch (words[at + M_KIND]) {
      case MSG_TCP_SEND:
      case MSG_TCP_ECHO:
      case MSG_TCP_CALL:
        this.take(thread, words, at);
        return true;
      case MSG_TCP_CONSUMED:
        this.takeConsumed(thread, words, at);
        return true;
      case MSG_TCP_CONNECT:
        this.connect(thread, words, at);
        return true;
      case MSG_TCP_PREPARE:
        this.prepare(thread, words, at);
        return true;
      case MSG_TCP_ACCEPTED:
        this.accepted(words[at + X_RECORD], words[at + X_RECORD_GENERATION], words[at + X_ACCEPTED]);
        return true;
    }
    return false;
  }

  /** Something has happened to a connection: EV_ bits as takeEvents() gives them. */
  told(id: number, events: number): void {
    if (this.owners[id] === 0) return;
    const late = this.late.get(id);
    if (late !== undefined || this.answers.length > 0) this.late.set(id, (late ?? 0) | events);
    else this.tell(id, events);
  }

  /** EV_ACCEPT of a listener of another thread, a record in the socket table: hands over what waits to be accepted. */
  acceptable(record: number): void {
    const { host, t, table } = this;
    const core = host.coreOf(record);
    const listener = core < 0 ? null : this.listenerAt(core);
    const thread = table.home[record];
    const ring = host.ringTo(thread);
    while (listener !== null && listener.waiting > 0) {
      if (ring.free() === 0) {
        this.offers.add(record);
        return;
      }
      const id = accept(t, core);
      listener.handed++;
      this.own(id, thread);
      const at = ring.claim();
      ring.words[at + M_KIND] = MSG_TCP_ACCEPT;
      ring.words[at + X_ID] = id;
      ring.words[at + X_GENERATION] = t.w[id * TCB_WORDS + GENERATION];
      ring.words[at + X_RECORD] = record;
      ring.words[at + X_RECORD_GENERATION] = table.get(record, RECORD_GENERATION);
    }
  }

  private accepted(record: number, generation: number, count: number): void {
    const core = this.table.get(record, RECORD_GENERATION) === generation ? this.host.coreOf(record) : -1;
    const listener = core < 0 ? null : this.listenerAt(core);
    if (listener !== null) listener.handed = Math.max(listener.handed - count, 0);
  }

  private listenerAt(core: number): Listener | null {
    return this.t.listeners[this.t.w[core * TCB_WORDS + LISTENER] & 0xffff] ?? null;
  }

  /** Once a turn: what has waited for room has its turn again. */
  flush(): void {
    if (this.answers.length > 0) this.retryAnswers();
    if (this.held.size > 0) this.retryHeld();
    if (this.late.size > 0) this.retryLate();
    if (this.offers.size > 0) {
      const offers = [...this.offers];
      this.offers.clear();
      for (const record of offers) this.acceptable(record);
    }
  }

  /** A thread has left, with nothing in its ring behind that and no listener any more: what it still has here ends. */
  gone(thread: number): void {
    this.discardPrepared(this.prepared.get(thread) ?? []);
    this.prepared.delete(thread);
    for (let i = this.answers.length - 1; i >= 0; i--) if (this.answers[i].thread === thread) this.answers.splice(i, 1);
    for (let id = 0; id < this.bound; id++) {
      if (this.owners[id] !== thread + 1) continue;
      this.disown(id);
      abortSocket(this.t, id);
    }
  }

  private own(id: number, thread: number): void {
    this.owners[id] = thread + 1;
    this.t.w[id * TCB_WORDS + OWNER] = thread + 1;
    this.untold.begin(id);
    if (id >= this.bound) this.bound = id + 1;
  }

  /** The record is its thread's no more. */
  private disown(id: number): void {
    const held = this.held.get(id);
    if (held !== undefined) {
      for (; held.length > 0; held.next()) this.spend(this.owners[id] - 1, held.words, held.peek());
      this.held.delete(id);
    }
    this.closing.delete(id);
    this.owners[id] = 0;
    this.t.w[id * TCB_WORDS + OWNER] = 0;
    this.late.delete(id);
  }

  // ---- what a thread asks for ----

  private take(thread: number, words: Int32Array, at: number): void {
    const id = words[at + X_ID];
    if (this.owners[id] !== thread + 1 || this.t.w[id * TCB_WORDS + GENERATION] !== words[at + X_GENERATION]) {
      this.spend(thread, words, at);
      return;
    }
    if (words[at + M_KIND] !== MSG_TCP_CALL) {
      this.consume(id, words[at + X_CONSUMED]);
      if (words[at + M_KIND] === MSG_TCP_ECHO && !this.echo(id, words, at)) return;
    }
    const held = this.held.get(id);
    if (held === undefined || isUrgentCall(words, at)) {
      if (!this.perform(thread, id, words, at)) this.hold(id, words, at);
      return;
    }
    held.push(words, at);
    if (isCall(words, at, CALL_CLOSE)) this.closing.add(id);
  }

  private hold(id: number, words: Int32Array, at: number): void {
    const queue = new MessageQueue();
    queue.push(words, at);
    this.held.set(id, queue);
  }

  /** Does what a message asks for. False: a part of it is still to be done, of which the words tell now. */
  private perform(thread: number, id: number, words: Int32Array, at: number): boolean {
    if (words[at + M_KIND] === MSG_TCP_SEND) return this.send(thread, id, words, at);
    this.call(id, words[at + X_CALL], words[at + X_ARGUMENT], words[at + X_VALUE]);
    return true;
  }

  private call(id: number, call: number, argument: number, value: number): void {
    const { t } = this;
    switch (call) {
      case CALL_SHUTDOWN:
        shutdown(t, id, argument);
        return;
      case CALL_CLOSE:
        this.disown(id);
        close(t, id);
        return;
      case CALL_ABORT:
        this.disown(id);
        abortSocket(t, id);
        return;
      case CALL_OPTION:
        setOption(t, id, argument, value);
        return;
      case CALL_FILTER:
        setFilter(t, id * TCB_WORDS, argument);
        return;
      case CALL_WANT:
        this.want(id);
    }
  }

  private send(thread: number, id: number, words: Int32Array, at: number): boolean {
    const { t } = this;
    const length = words[at + X_LENGTH];
    const flags = words[at + X_FLAGS];
    const offset = words[at + X_OFFSET];
    const frame = words[at + X_FRAME];
    const views = frame < 0 ? this.copies.views(frame) : t.chunks.views;
    // An error would be taken by send(): it is the thread's to hear.
    const taken = this.maySend(id) ? send(t, id, views, offset, length, flags & SEND_FLAGS) : length;
    const missing = taken === -ERRNO.EAGAIN ? length : taken < 0 ? 0 : length - taken;
    if (missing > 0) {
      words[at + X_OFFSET] = offset + length - missing;
      words[at + X_LENGTH] = missing;
      return false;
    }
    this.spend(thread, words, at);
    if ((flags & X_WANTS) !== 0) this.want(id);
    return true;
  }

  /**
   * Moves bytes from the front of the receive queue to the send queue. What does not fit is taken out of the receive queue all
   * the same, for its memory may be what is missing, and what the thread has read beyond must not wait.
   * @returns whether the message is now one of bytes to be sent
   */
  private echo(id: number, words: Int32Array, at: number): boolean {
    const { t } = this;
    const { w, chunks } = t;
    const c = id * TCB_WORDS;
    let left = Math.min(words[at + X_LENGTH], Math.max(readable(w, c), 0));
    while (left > 0 && !this.held.has(id)) {
      const offset = chunks.begin[w[c + RCV_HEAD]];
      const length = Math.min(left, chunks.end[w[c + RCV_HEAD]] - offset);
      const taken = this.maySend(id) ? send(t, id, chunks.views, offset, length, 0) : length;
      if (taken === -ERRNO.EAGAIN) break;
      // What can no longer be sent is read all the same.
      const done = taken < 0 ? length : taken;
      this.consume(id, done);
      left -= done;
      if (done < length) break;
    }
    if (left === 0) {
      if ((words[at + X_FLAGS] & X_WANTS) !== 0) this.want(id);
      return false;
    }
    words[at + M_KIND] = MSG_TCP_SEND;
    words[at + X_FRAME] = this.copies.make(t, id, left);
    words[at + X_OFFSET] = 0;
    words[at + X_LENGTH] = left;
    this.consume(id, left);
    return true;
  }

  private maySend(id: number): boolean {
    const { w } = this.t;
    const c = id * TCB_WORDS;
    return (w[c + STATE] === ESTABLISHED || w[c + STATE] === CLOSE_WAIT) && (w[c + ERROR] & 0xffff) === 0;
  }

  private want(id: number): void {
    const { w } = this.t;
    const c = id * TCB_WORDS;
    if (isWritable(w, c)) this.told(id, EV_WRITABLE);
    else w[c + FLAGS] |= F_NOSPACE;
  }

  private takeConsumed(thread: number, words: Int32Array, at: number): void {
    const count = words[at + X_COUNT];
    for (let i = 0; i < count; i++) {
      const id = words[at + X_PAIRS + 2 * i];
      const bytes = words[at + X_PAIRS + 2 * i + 1];
      // Pairs have no generation: a thread says nothing of a connection once it has given it up.
      if (this.owners[id] !== thread + 1) continue;
      this.consume(id, bytes);
    }
  }

  private consume(id: number, bytes: number): void {
    const { t } = this;
    const c = id * TCB_WORDS;
    const count = Math.min(bytes, Math.max(readable(t.w, c), 0));
    if (count === 0) return;
    consumed(t, id, count);
    // A mark that was read past says nothing more.
    if (t.w[c + URGENT] !== 0) upToMark(t.w, c, 0);
  }

  // ---- opening ----

  private prepare(thread: number, words: Int32Array, at: number): void {
    const prepared = this.prepared.get(thread) ?? [];
    for (let i = 0; i < 2 * words[at + X_COUNT]; i++) prepared.push(words[at + X_PAIRS + i]);
    this.prepared.set(thread, prepared);
  }

  private connect(thread: number, words: Int32Array, at: number): void {
    const { t } = this;
    const prepared = this.prepared.get(thread) ?? [];
    this.prepared.delete(thread);
    const again = words[at + X_ID];
    const id = again >= 0 ? again : openSocket(t, words[at + X_V6] !== 0);
    if (id < 0) {
      this.discardPrepared(prepared);
      this.answer(thread, words[at + X_TOKEN], -1, 0, -id);
      return;
    }
    const c = id * TCB_WORDS;
    for (let i = 0; i < prepared.length; i += 2) {
      if (prepared[i] === FILTER) setFilter(t, c, prepared[i + 1]);
      else applyOptionWord(t.w, c, prepared[i], prepared[i + 1]);
    }
    if (again < 0) this.own(id, thread);
    for (let i = 0; i < 4; i++) this.address[i] = words[at + X_REMOTE + i];
    const result = this.host.connectCore(id, words[at + X_BOUND], this.address, words[at + X_PORT]);
    this.answer(thread, words[at + X_TOKEN], id, t.w[c + GENERATION], result === -ERRNO.EINPROGRESS ? 0 : -result);
  }

  private discardPrepared(prepared: readonly number[]): void {
    for (let i = 0; i < prepared.length; i += 2) if (prepared[i] === FILTER) this.host.discardFilter(prepared[i + 1]);
  }

  private answer(thread: number, token: number, id: number, generation: number, errno: number): void {
    const message = new Int32Array(MESSAGE_WORDS);
    message[M_KIND] = MSG_TCP_CONNECTING;
    message[X_ID] = id;
    message[X_GENERATION] = generation;
    message[X_TOKEN_ANSWERED] = token;
    message[X_RESULT] = errno;
    this.answers.push({ thread, message });
    this.retryAnswers();
  }

  /** What is told of a connection comes behind the answer that names it. */
  private retryAnswers(): void {
    const { answers, host } = this;
    while (answers.length > 0) {
      const { thread, message } = answers[0];
      const ring = host.ringTo(thread);
      const at = ring.claim();
      if (at < 0) return;
      ring.words.set(message, at);
      answers.shift();
    }
  }

  // ---- what a thread is told ----

  private tell(id: number, events: number): void {
    const { t, untold } = this;
    const { w } = t;
    const c = id * TCB_WORDS;
    const ring = this.host.ringTo(this.owners[id] - 1);
    let bits = events;
    // Sequence numbers were not known before.
    if ((events & EV_CONNECTED) !== 0) untold.begin(id);
    if ((w[c + FLAGS] & F_FIN_RCVD) !== 0) bits |= TELL_FIN;
    let more = untold.count(id) > 0;
    if (more) bits |= EV_READABLE;
    do {
      const at = ring.claim();
      if (at < 0) {
        this.late.set(id, bits);
        return;
      }
      const { words } = ring;
      untold.take(id, words, at + X_PIECES, PIECES_MAX);
      more = untold.count(id) > 0;
      words[at + M_KIND] = MSG_TCP_TELL;
      words[at + X_ID] = id;
      words[at + X_GENERATION] = w[c + GENERATION];
      // The end of the stream comes behind its last byte.
      words[at + X_EVENTS] = more ? bits & (EV_CONNECTED | EV_READABLE | EV_URGENT) : bits;
      words[at + X_ERRNO] = w[c + ERROR] & 0xffff;
      words[at + X_URGENT] = w[c + URGENT];
      words[at + X_MARK] = w[c + RCV_UP];
      bits &= ~(EV_CONNECTED | EV_URGENT);
    } while (more);
  }

  private retryLate(): void {
    for (const [id, events] of [...this.late]) {
      this.late.delete(id);
      this.tell(id, events);
    }
  }

  private retryHeld(): void {
    for (const [id, queue] of [...this.held]) {
      const thread = this.owners[id] - 1;
      // Nobody will read what has come, and its memory may be what is missing: as close(), it resets the connection.
      if (this.closing.has(id) && readable(this.t.w, id * TCB_WORDS) > 0) {
        this.call(id, CALL_CLOSE, 0, 0);
        continue;
      }
      while (queue.length > 0) {
        const at = queue.peek();
        if (!this.perform(thread, id, queue.words, at)) break;
        if (this.owners[id] === 0) break;
        queue.next();
      }
      if (queue.length === 0) this.held.delete(id);
    }
  }

  /** A message that nobody asks for any more: its frame is free, and the filter that it brings. */
  private spend(thread: number, words: Int32Array, at: number): void {
    if (isCall(words, at, CALL_FILTER) && words[at + X_ARGUMENT] !== 0) this.host.discardFilter(words[at + X_ARGUMENT]);
    if (words[at + M_KIND] !== MSG_TCP_SEND) return;
    if (words[at + X_FRAME] < 0) this.copies.free(words[at + X_FRAME]);
    else this.host.frameSpent(thread, words[at + X_FRAME]);
  }
}

/** What need not wait for bytes that were sent before. */
function isUrgentCall(words: Int32Array, at: number): boolean {
  return isCall(words, at, CALL_ABORT) || isCall(words, at, CALL_OPTION) || isCall(words, at, CALL_FILTER);
}

function isCall(words: Int32Array, at: number, call: number): boolean {
  return words[at + M_KIND] === MSG_TCP_CALL && words[at + X_CALL] === call;
}
