/**
 * TCP on an lcore: the protocol of sockets/tcp, driven by the loop and by frames; its listeners are the engine's, its
 * connections sockets of the lcore's own module, or of other threads by way of a TcpService.
 */
import { ERRNO } from "af-xdp-bindings";
import { BURST_MAX, type Burst } from "../../queues/driver.ts";
import { TCP_COUNTERS_AT } from "../counters.ts";
import type { LcoreEndpoint } from "../lcore-endpoint.ts";
import type { Lookup } from "../lookup.ts";
import { M_L3, M_L4, M_LENGTH, M_PORT, M_REASON } from "../message.ts";
import type { Shared } from "../shared.ts";
import { AF_INET6, FAMILY, LOCAL_PORT, LOCAL as RECORD_LOCAL } from "../table.ts";
import {
  abortSocket,
  close,
  consumed,
  bind as coreBind,
  connect as coreConnect,
  listen as coreListen,
  receive as coreReceive,
  shutdown as coreShutdown,
  openSocket,
  peekChunk,
  poll,
  send,
  sendBytes,
  takeError,
} from "../tcp/calls.ts";
import { Tcp } from "../tcp/core.ts";
import { TCP_COUNTERS } from "../tcp/counters.ts";
import { filterOf, setFilter } from "../tcp/filter.ts";
import { input4, input6 } from "../tcp/input.ts";
import { accept } from "../tcp/listen.ts";
import { tellOrigin } from "../tcp/records.ts";
import { outstanding } from "../tcp/send-queue.ts";
import { getOption, setOption } from "../tcp/sockopts.ts";
import {
  CLOSED,
  ERROR,
  EV_ACCEPT,
  EV_CLOSED,
  EV_CONNECTED,
  EV_ERROR,
  EV_HANGUP,
  EV_READABLE,
  EV_URGENT,
  EV_WRITABLE,
  F_FIN_RCVD,
  F_RCV_SHUT,
  F_V6,
  FLAGS,
  GENERATION,
  OWNER,
  STATE,
  TCB_WORDS,
  TIME_WAIT,
  URGENT,
} from "../tcp/tcb.ts";
import { runTimers } from "../tcp/timers.ts";
import { endTurn } from "../tcp/turn.ts";
import { atMark } from "../tcp/urgent.ts";
import { WARM_FROM, warm4 } from "../tcp/warm.ts";
import { ETH_HEADER } from "../wire/ethernet.ts";
import { IPV4_HEADER } from "../wire/ipv4.ts";
import { TCP_ACK, TCP_SYN } from "../wire/tcp.ts";
import { copyMemory } from "../wire/views.ts";
import { Draining } from "./draining.ts";
import { LcoreFilters } from "./lcore-filters.ts";
import { LcoreListeners } from "./lcore-listeners.ts";
import { LcorePorts } from "./lcore-ports.ts";
import { STRAY_AT, Strays } from "./strays.ts";
import type { TcpListener } from "./tcp-listener.ts";
import type { TcpOpener } from "./tcp-open.ts";
import { closeTcpRecord } from "./tcp-record.ts";
import { takeReport } from "./tcp-report.ts";
import { TCP_PASSING_BYTES, type TcpSetup, tcpLayout } from "./tcp-setup.ts";
import { FrameSink, type SinkParts } from "./tcp-sink.ts";
import { type TcpHandlers, TcpSocket } from "./tcp-socket.ts";

/** Rounds of segments to own addresses within a turn: what they cause comes after the frames of the next. */
const LOOP_ROUNDS = 4;

/** What connections are whose sockets are other threads': see tcp-service.ts. */
export interface ForeignConnections {
  /** EV_ bits of a connection that is not this lcore's own. */
  told(id: number, events: number): void;
  /** A listener of another thread has connections. `core`: its id in the Tcp. */
  acceptable(record: number, core: number): void;
  /** What has been gathered in this turn is to go into the rings. */
  flush(): void;
  /** Some of it has found no room there. */
  readonly isBehind: boolean;
}

export class LcoreTcp implements TcpOpener {
  readonly tcp: Tcp;
  readonly sink: FrameSink;
  readonly listeners: LcoreListeners;
  foreign: ForeignConnections | null = null;
  readonly draining: Draining;
  readonly filters: LcoreFilters;
  bytes: Uint8Array;
  offset = 0;

  private readonly endpoint: LcoreEndpoint;
  private readonly strays: Strays;
  private readonly ports: LcorePorts;
  private readonly memory: Uint8Array;
  /** Where bytes that applications read pass through the frame memory, TCP_PASSING_BYTES. */
  private readonly passing: number;
  /** Sockets of this lcore by connection. */
  private readonly sockets: (TcpSocket | null)[] = [];
  private readonly address = new Int32Array(4);
  private readonly ips = new Int32Array(BURST_MAX);
  /** True from the first call of a turn on: the clock has been read. */
  private awake = false;
  /** When timers are due, microseconds. */
  private due = Number.POSITIVE_INFINITY;

  constructor(endpoint: LcoreEndpoint, parts: SinkParts, lookup: Lookup, setup: TcpSetup) {
    const { shared, thread } = endpoint;
    const { views } = parts;
    this.endpoint = endpoint;
    this.memory = views.bytes;
    this.bytes = views.bytes;
    const { buffers, headers, passing } = tcpLayout(views.bytes.length, shared.tcp.bufferBytes);
    this.passing = passing;
    this.sink = new FrameSink(parts, setup, headers);
    this.listeners = new LcoreListeners(this, endpoint, lookup, parts.ports);
    this.ports = new LcorePorts(endpoint, setup.rss);
    this.strays = new Strays(endpoint, parts);
    this.draining = new Draining(endpoint);
    this.filters = new LcoreFilters(endpoint.table, lookup.programs, this.listeners, views.bytes);
    const use = shared.portUse[thread];
    this.tcp = new Tcp(shared.tcp, this.sink, setup.secret, setup.seed, performance.now() * 1000, {
      memory: views,
      memoryOffset: buffers,
      records: shared.tcbs[thread].buffer as SharedArrayBuffer,
      chooser: this.listeners,
      ports: this.ports,
      filters: this.filters,
      elsewhere: () => this.passOn(),
      turns: true,
      portUsed: (port, change) => {
        use[port] += change;
      },
      counters: endpoint.counters.subarray(TCP_COUNTERS_AT, TCP_COUNTERS_AT + TCP_COUNTERS.length),
    });
    tellOrigin(this.tcp.w, performance.timeOrigin);
  }

  // ---- driven by the loop ----

  /** Brings the time, once a turn. */
  wake(): void {
    if (this.awake) return;
    this.awake = true;
    this.tcp.begin(performance.now() * 1000);
  }

  /**
   * A segment whose headers and checksum have been verified; the frame stays the caller's.
   * @param port it came by
   * @param seen lcores that it has been to before
   */
  input(v6: boolean, ip: number, tcp: number, length: number, port: number, seen: number): void {
    this.wake();
    this.strays.at(ip, tcp, length, port, seen);
    this.listeners.port = port;
    this.listeners.ip = ip;
    this.listeners.header = tcp;
    this.listeners.length = length;
    if (v6) input6(this.tcp, this.sink.views, ip, tcp, length);
    else input4(this.tcp, this.sink.views, ip, tcp, length);
  }

  /** What a burst of frames is going to need, where many connections are open. */
  warm(burst: Burst): void {
    const { tcp, ips } = this;
    if (tcp.open < WARM_FROM) return;
    // What is no plain IPv4 packet loads something else for nothing.
    for (let i = 0; i < burst.count; i++) ips[i] = burst.offset[i] + ETH_HEADER;
    warm4(tcp, this.sink.views, ips, burst.count, IPV4_HEADER);
    let touched = 0;
    for (let i = 0; i < burst.count; i++) touched += this.sockets[tcp.warmIds[i]]?.id ?? 0;
    tcp.warmed += touched;
  }

  /** Nobody here has the segment in hand: to another lcore with it. False: it is nobody's. */
  private passOn(): boolean {
    const { listeners, strays, tcp } = this;
    // Connections of a listener that an lcore's module has are on that lcore: nobody else can have them.
    if ((tcp.segFlags & (TCP_SYN | TCP_ACK)) === TCP_SYN)
      return listeners.away >= 0 && strays.pass(tcp, listeners.away);
    return strays.pass(tcp, -1);
  }

  /** MSG_TCP_SEGMENT from another lcore, whose frame stays the caller's to give back. */
  stray(words: Int32Array, at: number): void {
    const frame = this.strays.take(words, at);
    if (frame < 0) return;
    const ip = frame + STRAY_AT;
    const tcp = ip + words[at + M_L4] - words[at + M_L3];
    const { bytes } = this.sink.views;
    this.input(
      bytes[ip] >> 4 === 6,
      ip,
      tcp,
      ip + words[at + M_LENGTH] - tcp,
      words[at + M_PORT],
      words[at + M_REASON],
    );
    this.strays.release(frame);
  }

  /** MSG_TCP_ICMP. */
  report(words: Int32Array, at: number): void {
    this.wake();
    takeReport(this.tcp, words, at);
  }

  /** Tells the time, milliseconds of performance.now(): timers that are due are run, what they cause is told. */
  clock(nowMs: number): void {
    if (this.draining.count > 0) this.draining.look(nowMs);
    if (nowMs * 1000 < this.due) return;
    this.wake();
    this.endTurn();
  }

  /** The end of a turn: timers, events, segments to own addresses. A few loads where nothing has happened. */
  endTurn(): void {
    if (!this.awake) {
      if (this.foreign?.isBehind) this.settle();
      return;
    }
    const { sink, tcp } = this;
    if (tcp.nextTimer() <= tcp.now) runTimers(tcp);
    this.deliver();
    for (let round = 0; round < LOOP_ROUNDS && sink.waiting > 0; round++) {
      sink.drain(this.takeLooped);
      this.deliver();
    }
    this.settle();
    // What is left comes in the next turn.
    this.awake = sink.waiting > 0;
    if (this.awake) tcp.begin(performance.now() * 1000);
  }

  /** What other threads have read is acknowledged with the rest of the turn. */
  private settle(): void {
    const { foreign, tcp } = this;
    foreign?.flush();
    endTurn(tcp);
    if (this.filters.isUnsettled) this.filters.settle();
    this.due = tcp.nextTimer();
  }

  private readonly takeLooped = (ip: number, tcp: number, length: number, v6: boolean): void => {
    this.input(v6, ip, tcp, length, 0, this.endpoint.shared.mesh.lcores);
  };

  /** Milliseconds of performance.now() until when the loop may sleep; now or earlier: not at all. */
  get sleepUntil(): number {
    return this.awake ? 0 : Math.min(this.due / 1000, this.draining.dueMs);
  }

  private deliver(): void {
    const { tcp, sockets } = this;
    for (let id = tcp.nextReady(); id >= 0; id = tcp.nextReady()) {
      const events = tcp.takeEvents(id);
      if (events === 0) continue;
      const socket = sockets[id] ?? null;
      if (socket !== null) this.tell(socket, events);
      else if ((events & EV_ACCEPT) !== 0) this.acceptable(id);
      else this.foreign?.told(id, events);
    }
  }

  private tell(socket: TcpSocket, events: number): void {
    const { handlers } = socket;
    if (handlers.changed !== undefined) {
      handlers.changed(socket, events);
      return;
    }
    const { w } = this.tcp;
    const c = socket.id * TCB_WORDS;
    if ((events & EV_CONNECTED) !== 0) handlers.open?.(socket);
    if ((events & EV_URGENT) !== 0 && !socket.closed) handlers.urgent?.(socket);
    if ((events & EV_READABLE) !== 0 && !socket.closed && peekChunk(this.tcp, socket.id) > 0)
      handlers.readable?.(socket);
    if (socket.closed) return;
    if ((w[c + FLAGS] & F_FIN_RCVD) !== 0 && !socket.endTold) {
      socket.endTold = true;
      handlers.ended?.(socket);
    }
    if ((events & EV_WRITABLE) !== 0 && !socket.closed) handlers.writable?.(socket);
    if ((events & (EV_CLOSED | EV_ERROR | EV_HANGUP)) === 0 || socket.closed) return;
    const state = w[c + STATE];
    if (state !== CLOSED && state !== TIME_WAIT) return;
    // Whoever has taken it: a write that failed, mostly.
    takeError(w, c);
    handlers.closed?.(socket, state === CLOSED ? w[c + ERROR] >>> 16 : 0);
  }

  // ---- listeners ----

  /** A listener of this lcore has connections: they are accepted now where it has a handler for them. */
  private acceptable(core: number): void {
    const record = this.listeners.recordOf(core);
    if (record < 0) return;
    const listener = this.listeners.local.get(record);
    if (listener === undefined) this.foreign?.acceptable(record, core);
    else if (listener.handlers.open === undefined) listener.onAcceptable?.(listener);
    else this.openAll(listener, core);
  }

  private openAll(listener: TcpListener, core: number): void {
    for (let socket = this.acceptFrom(listener, core); socket !== null; socket = this.acceptFrom(listener, core)) {
      listener.handlers.open?.(socket);
      if (listener.closed) return;
    }
  }

  private acceptFrom(listener: TcpListener, core: number): TcpSocket | null {
    const id = accept(this.tcp, core);
    if (id < 0) return null;
    return this.adopt(new TcpSocket(this, listener.handlers), id);
  }

  private adopt(socket: TcpSocket, id: number): TcpSocket {
    socket.lcore = this.endpoint.thread;
    socket.id = id;
    socket.generation = this.tcp.w[id * TCB_WORDS + GENERATION];
    this.tcp.w[id * TCB_WORDS + OWNER] = this.endpoint.thread + 1;
    this.sockets[id] = socket;
    return socket;
  }

  register(listener: TcpListener): void {
    this.listeners.local.set(listener.record, listener);
  }

  unregister(listener: TcpListener): void {
    this.listeners.local.delete(listener.record);
  }

  accept(listener: TcpListener): TcpSocket | null {
    this.wake();
    const core = this.listeners.coreOf(listener.record);
    return core < 0 ? null : this.acceptFrom(listener, core);
  }

  waiting(listener: TcpListener): number {
    return this.listeners.waiting(listener.record);
  }

  /** A core listener for a record of the table, or the same with its options as they are now. Its id, or -errno. */
  openListener(record: number, was: number, load: (w: Int32Array, c: number) => number): number {
    const { table } = this.endpoint;
    const { tcp } = this;
    this.wake();
    const v6 = table.get(record, FAMILY) === AF_INET6;
    const id = was >= 0 ? was : openSocket(tcp, v6);
    if (id < 0) return id;
    const backlog = load(tcp.w, id * TCB_WORDS);
    const result = coreListen(tcp, id, backlog, false);
    if (result === 0) return id;
    close(tcp, id);
    return result;
  }

  bindCore(id: number, address: Int32Array, port: number): void {
    coreBind(this.tcp, id, address, port);
  }

  closeListener(core: number): void {
    this.wake();
    close(this.tcp, core);
  }

  // ---- sockets of this lcore ----

  /** A socket that is not connected. Null: there is no room for another. */
  open(v6: boolean, handlers: TcpHandlers): TcpSocket | null {
    this.wake();
    const id = openSocket(this.tcp, v6);
    return id < 0 ? null : this.adopt(new TcpSocket(this, handlers), id);
  }

  connect(socket: TcpSocket, address: Int32Array, port: number): number {
    this.wake();
    return this.connectCore(socket.id, socket.record, address, port);
  }

  /** connect() of a connection by its id; `record`: where its address and port are bound, -1: nowhere. */
  connectCore(id: number, record: number, address: Int32Array, port: number): number {
    const { tcp } = this;
    const { table } = this.endpoint;
    const source = this.address;
    let localPort = 0;
    source.fill(0);
    if (record >= 0) {
      for (let i = 0; i < 4; i++) source[i] = table.get(record, RECORD_LOCAL + i);
      localPort = table.get(record, LOCAL_PORT);
    }
    if ((source[0] | source[1] | source[3]) === 0 && !this.sink.sourceTo(address, source)) return -ERRNO.ENETUNREACH;
    const c = id * TCB_WORDS;
    // A socket of IPv6 may speak IPv4, by mapped addresses.
    if (address[0] === 0 && address[1] === 0 && address[2] === 0xffff) tcp.w[c + FLAGS] &= ~F_V6;
    const refused = this.sink.refusal(address, tcp.w, c);
    if (refused < 0) return refused;
    if (tcp.w[c + STATE] === CLOSED) coreBind(tcp, id, source, localPort);
    return coreConnect(tcp, id, address, port);
  }

  write(socket: TcpSocket, bytes: Uint8Array, offset: number, length: number, flags: number): number {
    this.wake();
    const { memory, sink, tcp } = this;
    if (memory === bytes) return send(tcp, socket.id, sink.views, offset, length, flags);
    return sendBytes(tcp, socket.id, bytes, offset, length, flags);
  }

  read(socket: TcpSocket, into: Uint8Array, offset: number, length: number, flags: number): number {
    this.wake();
    const { tcp } = this;
    const { id } = socket;
    // Around an urgent byte, while peeking, and with nothing there, in the core's own way.
    if (flags !== 0 || tcp.w[id * TCB_WORDS + URGENT] !== 0) return this.readThrough(id, into, offset, length, flags);
    let count = 0;
    while (count < length) {
      const here = Math.min(peekChunk(tcp, id), length - count);
      if (here === 0) break;
      copyMemory(into, offset + count, this.memory, tcp.readOffset, here);
      consumed(tcp, id, here);
      count += here;
    }
    return count > 0 ? count : coreReceive(tcp, id, this.sink.views, this.passing, Math.min(length, 1), 0);
  }

  private readThrough(id: number, into: Uint8Array, offset: number, length: number, flags: number): number {
    const { passing, sink, tcp } = this;
    let count = 0;
    do {
      const most = Math.min(length - count, TCP_PASSING_BYTES);
      const result = coreReceive(tcp, id, sink.views, passing, most, flags);
      if (result < 0) return count > 0 ? count : result;
      copyMemory(into, offset + count, this.memory, passing, result);
      count += result;
      if (result < most || flags !== 0 || (tcp.w[id * TCB_WORDS + URGENT] & 0xff00) !== 0) break;
    } while (count < length);
    return count;
  }

  peek(socket: TcpSocket): number {
    const count = peekChunk(this.tcp, socket.id);
    this.offset = this.tcp.readOffset;
    return count;
  }

  consume(socket: TcpSocket, count: number): void {
    this.wake();
    consumed(this.tcp, socket.id, count);
  }

  echo(socket: TcpSocket, count: number): number {
    this.wake();
    const { tcp } = this;
    const there = Math.min(peekChunk(tcp, socket.id), count);
    const taken = send(tcp, socket.id, this.sink.views, tcp.readOffset, there, 0);
    if (taken > 0) consumed(tcp, socket.id, taken);
    return taken;
  }

  shutdown(socket: TcpSocket, how: number): number {
    this.wake();
    return coreShutdown(this.tcp, socket.id, how);
  }

  close(socket: TcpSocket): void {
    this.wake();
    this.sockets[socket.id] = null;
    close(this.tcp, socket.id);
    if (socket.record >= 0) closeTcpRecord(this.endpoint, socket.record);
  }

  abort(socket: TcpSocket): void {
    this.wake();
    this.sockets[socket.id] = null;
    abortSocket(this.tcp, socket.id);
    if (socket.record >= 0) closeTcpRecord(this.endpoint, socket.record);
  }

  setOption(socket: TcpSocket, option: number, value: number): number {
    this.wake();
    return setOption(this.tcp, socket.id, option, value);
  }

  getOption(socket: TcpSocket, option: number): number {
    return getOption(this.tcp, socket.id, option);
  }

  filterOf(socket: TcpSocket): number {
    return filterOf(this.tcp, socket.id * TCB_WORDS);
  }

  setFilter(socket: TcpSocket, filter: number): void {
    this.wake();
    setFilter(this.tcp, socket.id * TCB_WORDS, filter);
  }

  get shared(): Shared {
    return this.endpoint.shared;
  }

  tableChanged(): void {
    this.endpoint.tableChanged();
  }

  poll(socket: TcpSocket): number {
    return poll(this.tcp, socket.id);
  }

  hasEnded(socket: TcpSocket): boolean {
    return (this.tcp.w[socket.id * TCB_WORDS + FLAGS] & (F_FIN_RCVD | F_RCV_SHUT)) !== 0;
  }

  takeError(socket: TcpSocket): number {
    return -takeError(this.tcp.w, socket.id * TCB_WORDS);
  }

  atMark(socket: TcpSocket): boolean {
    return atMark(this.tcp.w, socket.id * TCB_WORDS);
  }

  queued(socket: TcpSocket, unsent: boolean): number {
    return outstanding(this.tcp.w, socket.id * TCB_WORDS, unsent);
  }

  state(socket: TcpSocket): number {
    return this.tcp.w[socket.id * TCB_WORDS + STATE];
  }

  word(socket: TcpSocket, field: number): number {
    return this.tcp.w[socket.id * TCB_WORDS + field];
  }
}
