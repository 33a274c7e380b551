/**
 * TCP sockets of a thread that is no lcore: their connections live on lcores, which are asked by messages (tcp-messages.ts)
 * and answer by messages; the lcore's side is in tcp-service.ts, which also says why received bytes may be read where they lie.
 *
 * Writing: bytes are copied into a frame that the lcore has lent, and a message names it. What the lcore will take is known
 * from the record (SND_BUF, SND_UNA), so that write() says at once how much was taken. Small writes of one turn to one
 * connection share a frame.
 *
 * Reading: the lcore tells where bytes lie. What has been read is told back with the next write or at the end of the turn.
 *
 * Messages change what is known of connections and call nobody; deliver() calls handlers, at the end of each poll().
 */
import { ERRNO } from "af-xdp-bindings";
import type { RingProducer } from "../../queues/ring.ts";
import { M_KIND } from "../message.ts";
import type { Shared } from "../shared.ts";
import { LOCAL_PORT, LOCAL as RECORD_LOCAL } from "../table.ts";
import {
  poll as corePoll,
  receive as coreReceive,
  send as coreSend,
  shutdown as coreShutdown,
  takeError as coreTakeError,
  MSG_OOB,
  MSG_PEEK,
  SHUT_RD,
  SHUT_WR,
} from "../tcp/calls.ts";
import type { Tcp } from "../tcp/core.ts";
import { outstanding } from "../tcp/send-queue.ts";
import { getOption, OPTIONS, setOption } from "../tcp/sockopts.ts";
import {
  CLOSED,
  EV_CLOSED,
  EV_CONNECTED,
  EV_ERROR,
  EV_HANGUP,
  EV_READABLE,
  EV_URGENT,
  EV_WRITABLE,
  F_SND_SHUT,
  FILTER,
  FLAGS,
  LOCAL,
  PORTS,
  REMOTE,
  STATE,
  SYN_SENT,
  TCB_WORDS,
  URG_VALID,
  WRITE_SEQ,
} from "../tcp/tcb.ts";
import { isUnicast } from "../tcp/unicast.ts";
import { Drafts } from "./drafts.ts";
import { Outbox } from "./outbox.ts";
import { CONNECTING, DRAFT, OPEN, OVER, RemoteConnection } from "./remote-connection.ts";
import { RemoteEvents } from "./remote-events.ts";
import { RemoteFilters } from "./remote-filters.ts";
import { RemoteListener } from "./remote-listener.ts";
import { RemoteOptions } from "./remote-options.ts";
import { nothingToRead, readUrgent } from "./remote-reads.ts";
import { RemoteReturns } from "./remote-returns.ts";
import { RemoteWriter } from "./remote-writer.ts";
import type { TcpListener } from "./tcp-listener.ts";
import {
  CALL_ABORT,
  CALL_CLOSE,
  CALL_FILTER,
  CALL_OPTION,
  CALL_SHUTDOWN,
  MSG_TCP_ACCEPT,
  MSG_TCP_CONNECT,
  MSG_TCP_CONNECTING,
  MSG_TCP_PREPARE,
  MSG_TCP_TELL,
  PAIRS_MAX,
  X_BOUND,
  X_COUNT,
  X_GENERATION,
  X_ID,
  X_PAIRS,
  X_PORT,
  X_RECORD,
  X_RECORD_GENERATION,
  X_REMOTE,
  X_RESULT,
  X_TOKEN,
  X_TOKEN_ANSWERED,
  X_V6,
} from "./tcp-messages.ts";
import type { TcpOpener } from "./tcp-open.ts";
import { type TcpHandlers, TcpSocket } from "./tcp-socket.ts";

/** What it needs of its thread. */
export interface RemoteTcpHost {
  readonly shared: Shared;
  /** A frame that an lcore has lent: its offset, or -1. */
  takeFrame(lcore: number): number;
  hasLoans(lcore: number): boolean;
  returnFrame(lcore: number, frame: number): void;
  /** Has messages leave at the end of this turn of the event loop, or of the handlers that are being called. */
  flushSoon(): void;
  /** Has them leave now. */
  sendNow(): void;
  /** One socket more, or less, that keeps the event loop alive; the thread is polled as long as there are any. */
  retain(count: 1 | -1): void;
  watch(): void;
  /** A socket that has a record in the socket table has closed. */
  closeRecord(record: number): void;
}

export class RemoteTcp implements TcpOpener {
  bytes: Uint8Array;
  offset = 0;
  private readonly host: RemoteTcpHost;
  private readonly rings: readonly RingProducer[];
  private readonly outbox: Outbox;
  /** lcores with queues. */
  private readonly lcores: number;
  private readonly drafts: Drafts;
  private readonly core: Tcp;
  /** Connections by token, which is the socket's; free tokens. */
  private readonly connections: (RemoteConnection | null)[] = [];
  private readonly tokens: number[] = [];
  /** By lcore and id. */
  private readonly byId: (RemoteConnection | null)[][];
  private readonly listeners = new Map<number, RemoteListener>();
  private readonly events = new RemoteEvents(
    (connection) => this.tookIn(connection),
    () => this.host.sendNow(),
  );
  private readonly options: RemoteOptions;
  private readonly filters: RemoteFilters;
  private readonly returns: RemoteReturns;
  private readonly writer: RemoteWriter;
  private nextLcore = 0;
  /** Sockets and listeners. */
  count = 0;

  /** @param rings to each lcore; of those that have no queues none is used */
  constructor(host: RemoteTcpHost, rings: readonly RingProducer[], lcores: number) {
    this.host = host;
    this.lcores = lcores;
    this.rings = rings.slice(0, lcores);
    this.outbox = new Outbox(this.rings);
    this.drafts = new Drafts(host.shared.tcp, host.shared.table);
    this.core = this.drafts.tcp;
    this.byId = this.rings.map(() => []);
    this.bytes = host.shared.memories[0].bytes;
    this.options = new RemoteOptions(this.drafts, this.rings);
    this.filters = new RemoteFilters(host, this.core);
    this.returns = new RemoteReturns(this.outbox, lcores);
    this.writer = new RemoteWriter(host, this.rings, this.outbox);
  }

  /** A socket that is not connected. Null: there is no room for another. */
  open(v6: boolean, handlers: TcpHandlers): TcpSocket | null {
    const draft = this.drafts.open(v6);
    if (draft < 0) return null;
    const connection = this.add(handlers, v6);
    connection.draft = draft;
    return connection.socket;
  }

  private add(handlers: TcpHandlers, v6: boolean): RemoteConnection {
    const socket = new TcpSocket(this, handlers);
    const connection = new RemoteConnection(socket, v6);
    socket.token = this.tokens.pop() ?? this.connections.length;
    this.connections[socket.token] = connection;
    this.count++;
    this.host.retain(1);
    this.host.watch();
    return connection;
  }

  /** Null: it is closed. */
  private of(socket: TcpSocket): RemoteConnection | null {
    return socket.token < 0 ? null : (this.connections[socket.token] ?? null);
  }

  // ---- listeners ----

  register(listener: TcpListener): void {
    this.listeners.set(listener.record, new RemoteListener(listener, this.lcores));
    this.count++;
    this.host.watch();
  }

  unregister(listener: TcpListener): void {
    const state = this.listeners.get(listener.record);
    if (state === undefined || state.listener !== listener) return;
    this.listeners.delete(listener.record);
    this.count--;
    for (const connection of this.connections) if (connection?.listener === state) this.drop(connection, CALL_ABORT);
  }

  accept(listener: TcpListener): TcpSocket | null {
    const state = this.listeners.get(listener.record);
    const connection = state?.waiting.shift();
    if (state === undefined || connection === undefined) return null;
    connection.isWaiting = false;
    this.tookIn(connection);
    if (connection.events !== 0) {
      this.events.add(connection);
      queueMicrotask(() => void this.deliver());
    }
    return connection.socket;
  }

  waiting(listener: TcpListener): number {
    return this.listeners.get(listener.record)?.waiting.length ?? 0;
  }

  /** A connection has been accepted: on its lcore it counts against the backlog no more. */
  private tookIn(connection: RemoteConnection): void {
    const state = connection.listener;
    if (state === null) return;
    connection.listener = null;
    this.returns.accepted(state, connection.lcore);
    this.host.flushSoon();
  }

  // ---- opening and closing ----

  connect(socket: TcpSocket, address: Int32Array, port: number): number {
    const connection = this.of(socket);
    if (connection === null) return -ERRNO.EBADF;
    const { phase, v6 } = connection;
    if (phase === CONNECTING) return -ERRNO.EALREADY;
    if (phase === OPEN) return -ERRNO.EISCONN;
    if (!isUnicast(address, 0, v6)) return -ERRNO.ENETUNREACH;
    const again = connection.id;
    if (again < 0) {
      connection.lcore = this.nextLcore;
      this.nextLcore = (this.nextLcore + 1) % this.lcores;
      const pairs = this.drafts.differences(connection.draft, v6);
      if (connection.filter !== 0) pairs.push(FILTER, this.filters.oneMore(connection.filter));
      this.prepare(connection.lcore, pairs);
      this.noteNames(connection, address, port);
    }
    connection.phase = CONNECTING;
    const { words } = this.outbox;
    words[M_KIND] = MSG_TCP_CONNECT;
    words[X_ID] = again;
    words[X_TOKEN] = socket.token;
    words[X_V6] = v6 ? 1 : 0;
    words[X_PORT] = port;
    words[X_BOUND] = socket.record;
    for (let i = 0; i < 4; i++) words[X_REMOTE + i] = address[i];
    this.outbox.post(connection.lcore);
    this.host.flushSoon();
    return -ERRNO.EINPROGRESS;
  }

  private prepare(lcore: number, pairs: readonly number[]): void {
    const { words } = this.outbox;
    for (let i = 0; i < pairs.length; i += 2 * PAIRS_MAX) {
      const part = pairs.slice(i, i + 2 * PAIRS_MAX);
      words[M_KIND] = MSG_TCP_PREPARE;
      words[X_COUNT] = part.length / 2;
      words.set(part, X_PAIRS);
      this.outbox.post(lcore);
    }
  }

  /** Until the lcore has answered, the draft says who the peer is. */
  private noteNames({ draft }: RemoteConnection, address: Int32Array, port: number): void {
    const { w } = this.core;
    const c = draft * TCB_WORDS;
    for (let i = 0; i < 4; i++) w[c + REMOTE + i] = address[i];
    w[c + PORTS] = (w[c + PORTS] & ~0xffff) | port;
  }

  shutdown(socket: TcpSocket, how: number): number {
    const connection = this.of(socket);
    if (connection === null) return -ERRNO.EBADF;
    if (connection.phase === DRAFT) return coreShutdown(this.core, connection.draft, how);
    if (connection.phase === OVER) return -ERRNO.ENOTCONN;
    if (connection.phase === OPEN) {
      if (how !== SHUT_WR) connection.receiveShut = true;
      if (how !== SHUT_RD) connection.sendShut = true;
    }
    this.call(connection, CALL_SHUTDOWN, how);
    return 0;
  }

  close(socket: TcpSocket): void {
    const connection = this.of(socket);
    if (connection !== null) this.drop(connection, CALL_CLOSE);
  }

  abort(socket: TcpSocket): void {
    const connection = this.of(socket);
    if (connection !== null) this.drop(connection, CALL_ABORT);
  }

  /** Gives a connection up. One whose record is not known yet is given up when it is. */
  private drop(connection: RemoteConnection, call: number): void {
    const { lcore, id, socket } = connection;
    socket.closed = true;
    if (connection.phase !== DRAFT) {
      this.tookIn(connection);
      this.returns.tellReadOf(connection);
      this.call(connection, call);
    }
    if (id < 0 && connection.phase === CONNECTING) return;
    if (id >= 0) this.byId[lcore][id] = null;
    this.forget(connection);
  }

  private forget(connection: RemoteConnection): void {
    const { socket } = connection;
    if (connection.draft >= 0) this.drafts.close(connection.draft);
    connection.draft = -1;
    connection.events = 0;
    this.writer.forget(connection);
    this.connections[socket.token] = null;
    this.tokens.push(socket.token);
    socket.token = -1;
    if (socket.record >= 0) this.host.closeRecord(socket.record);
    this.filters.discardCalls(connection.deferred.splice(0));
    this.count--;
    this.host.retain(-1);
  }

  /** A MSG_TCP_CALL, behind what has been written. */
  private call(connection: RemoteConnection, call: number, argument = 0, value = 0): void {
    const { outbox } = this;
    connection.slot = -1;
    if (connection.id < 0) {
      connection.deferred.push([call, argument, value]);
      return;
    }
    outbox.call(connection.lcore, connection.id, connection.generation, call, argument, value);
    this.host.flushSoon();
  }

  // ---- bytes ----

  write(socket: TcpSocket, bytes: Uint8Array, offset: number, length: number, flags: number): number {
    const connection = this.of(socket);
    if (connection === null) return -ERRNO.EBADF;
    const refused = this.refusal(connection);
    if (refused !== 0 || length === 0) return refused;
    return this.writer.write(connection, bytes, offset, length, flags);
  }

  /** Why nothing can be written: 0 or -errno. */
  private refusal(connection: RemoteConnection): number {
    if (connection.phase === DRAFT) return coreSend(this.core, connection.draft, this.core.chunks.views, 0, 0, 0);
    if (connection.phase === CONNECTING) return -ERRNO.EAGAIN;
    const error = connection.takeError();
    if (error !== 0) return -error;
    return connection.phase === OVER || connection.sendShut ? -ERRNO.EPIPE : 0;
  }

  read(socket: TcpSocket, into: Uint8Array, offset: number, length: number, flags: number): number {
    const connection = this.of(socket);
    if (connection === null) return -ERRNO.EBADF;
    if (connection.phase === DRAFT)
      return coreReceive(this.core, connection.draft, this.core.chunks.views, 0, length, 0);
    const peeks = (flags & MSG_PEEK) !== 0;
    if ((flags & MSG_OOB) !== 0) return readUrgent(connection, into, offset, length, peeks);
    // Who only looks passes over the urgent byte, and leaves it.
    const passed = peeks && connection.isMarkAhead ? 1 : 0;
    if (!peeks) connection.stepOverMark();
    const there = Math.min(connection.pieces.bytes - passed, length);
    const count = passed === 1 ? there : connection.upToMark(there);
    if (count === 0) {
      this.returnSoon(connection);
      return length === 0 ? 0 : nothingToRead(connection);
    }
    connection.pieces.copy(this.memoryOf(connection), into, offset, count, passed);
    if (!peeks) connection.take(count);
    this.returnSoon(connection);
    return count;
  }

  peek(socket: TcpSocket): number {
    const connection = this.of(socket);
    if (connection === null) return 0;
    connection.stepOverMark();
    this.returnSoon(connection);
    if (connection.pieces.bytes === 0) return 0;
    this.bytes = this.memoryOf(connection);
    this.offset = connection.pieces.offset;
    return connection.upToMark(connection.pieces.length);
  }

  consume(socket: TcpSocket, count: number): void {
    const connection = this.of(socket);
    if (connection === null) return;
    connection.take(count);
    this.returnSoon(connection);
  }

  echo(socket: TcpSocket, count: number): number {
    const connection = this.of(socket);
    if (connection === null) return -ERRNO.EBADF;
    const refused = this.refusal(connection);
    if (refused !== 0 || count === 0) return refused;
    return this.writer.echo(connection, count);
  }

  private memoryOf(connection: RemoteConnection): Uint8Array {
    return this.host.shared.memories[connection.lcore].bytes;
  }

  /** The lcore is to hear of bytes read, with the next write or at the end of the turn. */
  private returnSoon(connection: RemoteConnection): void {
    if (this.returns.read(connection)) this.host.flushSoon();
  }

  // ---- options and state ----

  setOption(socket: TcpSocket, option: number, value: number): number {
    const connection = this.of(socket);
    if (connection === null) return -ERRNO.EBADF;
    if (connection.draft < 0) {
      const result = this.options.set(connection, option, value);
      if (result !== 0) return result;
      this.call(connection, CALL_OPTION, option, value);
      connection.optionsNumber = this.outbox.lastNumber(connection.lcore);
      return 0;
    }
    const result = setOption(this.core, connection.draft, option, value);
    if (result === 0 && connection.phase === CONNECTING) this.call(connection, CALL_OPTION, option, value);
    return result;
  }

  getOption(socket: TcpSocket, option: number): number {
    const connection = this.of(socket);
    if (connection === null) return -ERRNO.EBADF;
    if (connection.draft >= 0) return getOption(this.core, connection.draft, option);
    return this.options.get(connection, option);
  }

  filterOf(socket: TcpSocket): number {
    return this.of(socket)?.filter ?? 0;
  }

  setFilter(socket: TcpSocket, filter: number): void {
    const connection = this.of(socket);
    if (connection === null) this.filters.discard(filter);
    else if (!this.filters.note(connection, filter)) {
      this.call(connection, CALL_FILTER, filter);
      this.filters.sendNow();
    }
  }

  get shared(): Shared {
    return this.host.shared;
  }

  /** Lcores follow the table by themselves. */
  tableChanged(): void {}

  poll(socket: TcpSocket): number {
    const connection = this.of(socket);
    if (connection === null) return EV_ERROR;
    const { phase } = connection;
    if (phase === DRAFT) return corePoll(this.core, connection.draft);
    let bits = connection.error !== 0 ? EV_ERROR : 0;
    if (phase === CONNECTING) return bits;
    const { isDone, sendShut } = connection;
    // An urgent byte that is next is not to be read among the others.
    const readable = connection.pieces.bytes - (connection.isMarkAhead ? 1 : 0);
    if (isDone || readable >= this.getOption(socket, OPTIONS.SO_RCVLOWAT)) bits |= EV_READABLE;
    if (phase === OVER || (isDone && sendShut)) bits |= EV_HANGUP;
    if (sendShut || phase === OVER) bits |= EV_WRITABLE;
    else if (!connection.isWritable) this.writer.wantRoom(connection);
    else if (this.writer.hasFrame(connection)) bits |= EV_WRITABLE;
    if ((connection.urgent & URG_VALID) !== 0) bits |= EV_URGENT;
    return bits;
  }

  takeError(socket: TcpSocket): number {
    const connection = this.of(socket);
    if (connection === null) return ERRNO.EBADF;
    if (connection.phase === DRAFT) return -coreTakeError(this.core.w, connection.draft * TCB_WORDS);
    return connection.takeError();
  }

  hasEnded(socket: TcpSocket): boolean {
    return this.of(socket)?.isDone ?? true;
  }

  atMark(socket: TcpSocket): boolean {
    const connection = this.of(socket);
    return connection !== null && connection.urgent !== 0 && connection.mark === connection.readSeq;
  }

  queued(socket: TcpSocket, unsent: boolean): number {
    const connection = this.of(socket);
    if (connection === null || connection.id < 0) return 0;
    const { c, w } = connection;
    const known = outstanding(w, c, unsent);
    if (connection.phase !== OPEN) return known;
    // What the lcore has not taken yet is written all the same, and so is the FIN.
    const fin = connection.sendShut && (Atomics.load(w, c + FLAGS) & F_SND_SHUT) === 0 ? 1 : 0;
    return known + fin + Math.max((connection.writeSeq - Atomics.load(w, c + WRITE_SEQ)) | 0, 0);
  }

  state(socket: TcpSocket): number {
    const connection = this.of(socket);
    if (connection === null || socket.closed || connection.phase === DRAFT) return CLOSED;
    if (connection.id < 0) return connection.phase === CONNECTING ? SYN_SENT : CLOSED;
    const state = Atomics.load(connection.w, connection.c + STATE);
    // That it is over counts once it has been told how.
    return state === CLOSED && connection.phase !== OVER ? connection.stateBefore : state;
  }

  word(socket: TcpSocket, field: number): number {
    const connection = this.of(socket);
    if (connection === null) return 0;
    if (connection.id >= 0) return Atomics.load(connection.w, connection.c + field);
    const { table } = this.host.shared;
    const word = this.core.w[connection.draft * TCB_WORDS + field];
    if (socket.record < 0) return word;
    if (field >= LOCAL && field < LOCAL + 4) return table.get(socket.record, RECORD_LOCAL + field - LOCAL);
    return field === PORTS ? (table.get(socket.record, LOCAL_PORT) << 16) | (word & 0xffff) : word;
  }

  // ---- messages ----

  /** Takes a message of an lcore. False: it is of another kind. Calls no handler. */
  message(lcore: number, words: Int32Array, at: number): boolean {
    switch (words[at + M_KIND]) {
      case MSG_TCP_TELL:
        this.told(lcore, words, at);
        return true;
      case MSG_TCP_ACCEPT:
        this.take(lcore, words, at);
        return true;
      case MSG_TCP_CONNECTING:
        this.connecting(words, at);
        return true;
    }
    return false;
  }

  private told(lcore: number, words: Int32Array, at: number): void {
    const connection = this.byId[lcore][words[at + X_ID]] ?? null;
    if (connection === null || connection.generation !== words[at + X_GENERATION]) return;
    connection.told(words, at);
    this.events.add(connection);
  }

  private take(lcore: number, words: Int32Array, at: number): void {
    const id = words[at + X_ID];
    const generation = words[at + X_GENERATION];
    const state = this.listeners.get(words[at + X_RECORD]);
    if (state === undefined || state.listener.generation !== words[at + X_RECORD_GENERATION]) {
      // It has closed meanwhile: who waits to be accepted is reset.
      this.outbox.call(lcore, id, generation, CALL_ABORT);
      this.host.flushSoon();
      return;
    }
    const { handlers } = state.listener;
    const connection = this.add(handlers, false);
    this.attach(connection, lcore, id, generation);
    connection.begin();
    connection.filter = connection.w[connection.c + FILTER];
    connection.listener = state;
    if (handlers.open !== undefined) {
      connection.events |= EV_CONNECTED;
      this.events.add(connection);
      return;
    }
    connection.isWaiting = true;
    state.waiting.push(connection);
    this.events.addAcceptable(state);
  }

  private attach(connection: RemoteConnection, lcore: number, id: number, generation: number): void {
    const list = this.byId[lcore];
    // Holes would make it a table of another kind.
    while (list.length <= id) list.push(null);
    list[id] = connection;
    connection.attach(lcore, id, generation, this.host.shared.tcbs[lcore]);
  }

  private connecting(words: Int32Array, at: number): void {
    const connection = this.connections[words[at + X_TOKEN_ANSWERED]] ?? null;
    if (connection === null) return;
    const id = words[at + X_ID];
    const { lcore, socket } = connection;
    if (id >= 0) this.attach(connection, lcore, id, words[at + X_GENERATION]);
    for (const [call, argument, value] of connection.deferred.splice(0)) {
      if (id >= 0) this.outbox.call(lcore, id, connection.generation, call, argument, value);
      // It has no record, and what it had is the draft's again.
      else if (call === CALL_FILTER) this.filters.setDraft(connection, argument);
    }
    if (socket.closed) {
      if (id >= 0) this.byId[lcore][id] = null;
      this.forget(connection);
      return;
    }
    const errno = words[at + X_RESULT];
    if (errno !== 0) {
      socket.refusal = errno;
      connection.fail(errno);
      connection.phase = OVER;
      connection.events |= EV_ERROR | EV_HANGUP | EV_CLOSED;
      this.events.add(connection);
    }
    if (id < 0) return;
    this.drafts.close(connection.draft);
    connection.draft = -1;
  }

  /** Calls handlers. Returns how many connections there were that had something to hear. */
  deliver(): number {
    if (this.writer.hasStarved) this.writer.resume(this.addEvents);
    return this.events.deliver();
  }

  private readonly addEvents = (connection: RemoteConnection): void => this.events.add(connection);

  /** Whether messages wait for room in rings. */
  get isBehind(): boolean {
    return this.outbox.isBehindAnywhere;
  }

  /** Whether the thread has to look again before it sleeps. */
  get isBusy(): boolean {
    return !this.events.isEmpty || this.outbox.isBehindAnywhere || !this.returns.isEmpty;
  }

  /** Before what has been gathered is published: bytes read, connections accepted, what has waited for room. */
  flush(): void {
    this.returns.flush();
    this.outbox.flush();
  }

  // ---- the end ----

  /** The thread leaves: listeners are closed, connections reset. */
  leave(): void {
    for (const { listener } of [...this.listeners.values()]) listener.close();
    for (const connection of this.connections) connection?.socket.abort();
  }

  /** The engine has stopped, and with it every connection; lcores hear nothing any more. */
  abandon(): void {
    for (const { listener } of [...this.listeners.values()]) listener.close();
    for (const connection of this.connections) {
      if (connection === null || connection.socket.closed) continue;
      connection.phase = OVER;
      connection.fail(ERRNO.ECONNABORTED);
      connection.events |= EV_ERROR | EV_HANGUP | EV_CLOSED;
      this.events.add(connection);
    }
    // Nobody may look any more.
    queueMicrotask(() => void this.deliver());
  }
}
