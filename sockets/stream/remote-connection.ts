/**
 * A TCP connection of this thread on an lcore, as far as the thread knows of it: what it was told, what it has written and
 * read, and the record itself (sockets/tcp/tcb.ts), whose words the lcore writes and everybody may look at.
 *
 * The record is this connection's from the answer to connect(), or from accept(), until the thread gives it up; so its words
 * need no check of generations. What has been told in messages is in fields here: it is told in order, behind the bytes that
 * came before it. Only what the order does not matter for is read from the record: room to write, options, addresses.
 */
import {
  CLOSE_WAIT,
  COPIED,
  ESTABLISHED,
  EV_CLOSED,
  EV_CONNECTED,
  EV_ERROR,
  EV_URGENT,
  EV_WRITABLE,
  F_OOBINLINE,
  FIN_WAIT_2,
  FLAGS,
  LAST_ACK,
  NOTSENT_LOWAT,
  SND_BUF,
  SND_NXT,
  SND_UNA,
  SYN_SENT,
  TCB_WORDS,
  URG_READ,
  WRITE_SEQ,
} from "../tcp/tcb.ts";
import { BytePieces } from "./byte-pieces.ts";
import type { RemoteListener } from "./remote-listener.ts";
import { PIECES_MAX, TELL_FIN, X_ERRNO, X_EVENTS, X_MARK, X_PIECES, X_URGENT } from "./tcp-messages.ts";
import type { TcpSocket } from "./tcp-socket.ts";

/** Phases: a draft; connect() was called; bytes can come and go; over, in good order or not. */
export const DRAFT = 0;
export const CONNECTING = 1;
export const OPEN = 2;
export const OVER = 3;

const NO_WORDS = new Int32Array(TCB_WORDS);

export class RemoteConnection {
  readonly socket: TcpSocket;
  readonly v6: boolean;
  phase = DRAFT;
  /** Of Drafts, as long as options are kept there; -1: they are in the record. */
  draft = -1;
  lcore = -1;
  id = -1;
  generation = 0;
  /** The lcore's records, and where its own begins. */
  w: Int32Array = NO_WORDS;
  c = 0;
  /** Calls that wait for the answer to connect(). */
  deferred: [call: number, argument: number, value: number][] = [];
  /** Bytes that have come and were not read. */
  readonly pieces = new BytePieces();
  /** Sequence numbers of the next byte to be read, of the next to be written. */
  readSeq = 0;
  writeSeq = 0;
  /** Bytes read of which the lcore does not know yet. */
  unreturned = 0;
  /** In the list of those that have such. */
  isDirty = false;
  /** EV_ bits and TELL_FIN that handlers are to be told, and whether it is in line for that. */
  events = 0;
  isQueued = false;
  /** Not to be told of anything yet: it waits for accept(). */
  isWaiting = false;
  /** errno of SO_ERROR, and the one that ended it, whoever has taken it. */
  error = 0;
  endErrno = 0;
  /** The peer sends no more; shutdown(2) of either direction. */
  isEnded = false;
  receiveShut = false;
  sendShut = false;
  /** The lcore was asked to tell of room. */
  wantsRoom = false;
  /** URGENT and RCV_UP of the record as told, and whether the urgent byte stays among the others. */
  urgent = 0;
  mark = 0;
  oobInline = false;
  /** TCP_NOTSENT_LOWAT, as it was set last. */
  notSentLow = 0;
  /** The slot of the last write, and its number in the ring: while it is not published more may be put into its frame. */
  slot = -1;
  slotNumber = 0;
  /** Options set that the record may not show yet, and the number of the slot that has the last of them. */
  options: Map<number, number> | null = null;
  optionsNumber = 0;
  /** Its socket filter, slot + 1, as it was set last, or inherited; 0: none. */
  filter = 0;
  /** Of what it was accepted from, until it was. */
  listener: RemoteListener | null = null;

  constructor(socket: TcpSocket, v6: boolean) {
    this.socket = socket;
    this.v6 = v6;
  }

  /** It has a record on an lcore. */
  attach(lcore: number, id: number, generation: number, records: Int32Array): void {
    this.lcore = lcore;
    this.id = id;
    this.generation = generation;
    this.w = records;
    this.c = id * TCB_WORDS;
    this.socket.lcore = lcore;
    this.socket.id = id;
    this.socket.generation = generation;
  }

  /** The handshake is over. */
  begin(): void {
    const { w, c } = this;
    this.phase = OPEN;
    this.readSeq = w[c + COPIED];
    this.writeSeq = w[c + WRITE_SEQ];
    this.oobInline = (w[c + FLAGS] & F_OOBINLINE) !== 0;
    this.notSentLow = w[c + NOTSENT_LOWAT];
  }

  /** A MSG_TCP_TELL. */
  told(words: Int32Array, at: number): void {
    const events = words[at + X_EVENTS];
    if ((events & EV_CONNECTED) !== 0) this.begin();
    for (let i = 0; i < PIECES_MAX; i++) {
      const length = words[at + X_PIECES + 2 * i + 1];
      if (length === 0) break;
      this.pieces.push(words[at + X_PIECES + 2 * i], length);
    }
    if ((events & EV_URGENT) !== 0) this.takeMark(words[at + X_URGENT], words[at + X_MARK]);
    if ((events & EV_ERROR) !== 0) this.fail(words[at + X_ERRNO]);
    if ((events & TELL_FIN) !== 0) this.isEnded = true;
    if ((events & EV_CLOSED) !== 0) this.phase = OVER;
    if ((events & EV_WRITABLE) !== 0) this.wantsRoom = false;
    this.events |= events;
  }

  private takeMark(urgent: number, mark: number): void {
    // One that was passed, or whose byte was taken, says nothing new.
    if (((mark - this.readSeq) | 0) < 0 || (mark === this.mark && (this.urgent & URG_READ) !== 0)) return;
    this.urgent = urgent;
    this.mark = mark;
  }

  // ---- receiving ----

  /** The next byte is the urgent one, and is not to be read among the others. */
  get isMarkAhead(): boolean {
    return this.urgent !== 0 && !this.oobInline && this.mark === this.readSeq && this.pieces.bytes > 0;
  }

  /** Takes the urgent byte out of the way, where it is next and is not to be read among the others. */
  stepOverMark(): void {
    if (!this.isMarkAhead) return;
    this.urgent = 0;
    this.take(1);
  }

  /** How many of `most` bytes may be read in one go: not beyond the urgent one. */
  upToMark(most: number): number {
    if (this.urgent === 0) return most;
    const ahead = (this.mark - this.readSeq) | 0;
    if (ahead < 0) this.urgent = 0;
    return ahead > 0 ? Math.min(ahead, most) : most;
  }

  /** Bytes have been read. */
  take(count: number): void {
    this.pieces.drop(count);
    this.readSeq = (this.readSeq + count) | 0;
    this.unreturned += count;
  }

  /** No more will come, or is wanted. */
  get isDone(): boolean {
    return this.isEnded || this.receiveShut || this.phase === OVER;
  }

  /** The state it was in before it ended, as far as the thread has been told. */
  get stateBefore(): number {
    if (this.phase === CONNECTING) return SYN_SENT;
    if (this.isEnded) return this.sendShut ? LAST_ACK : CLOSE_WAIT;
    return this.sendShut ? FIN_WAIT_2 : ESTABLISHED;
  }

  // ---- sending ----

  private get queued(): number {
    // Another thread moves it: a plain load may be kept in a register by whoever writes in a loop.
    return Math.max((this.writeSeq - Atomics.load(this.w, this.c + SND_UNA)) | 0, 0);
  }

  /** Bytes that the lcore will take. */
  get space(): number {
    return Math.max(this.w[this.c + SND_BUF] - this.queued, 0);
  }

  /** As isWritable() of the core. */
  get isWritable(): boolean {
    const { c, notSentLow: low, w } = this;
    if (low > 0 && 2 * ((this.writeSeq - w[c + SND_NXT]) | 0) >= low) return false;
    return this.space >= this.queued >> 1;
  }

  fail(errno: number): void {
    this.error = errno;
    this.endErrno = errno;
  }

  takeError(): number {
    const { error } = this;
    this.error = 0;
    return error;
  }
}
