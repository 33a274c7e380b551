/**
 * The socket layer's end on an application thread: it drains the rings from the lcores into handlers and queues, and
 * asks the lcores to send.
 *
 * A thread that polls in its event loop is woken by its bell; a worker may block instead. Frames to send from are lent
 * by the lcores beforehand, so that sending needs no answer.
 */
import { check, ERRNO, sys } from "af-xdp-bindings";
import type { RingConsumer } from "../queues/ring.ts";
import { C } from "./counters.ts";
import type { Datagram } from "./datagram.ts";
import { Destinations, VIA_KERNEL } from "./destinations.ts";
import { BY_KERNEL, BY_LCORE, Endpoint, TX_HEADROOM } from "./endpoint.ts";
import { EventLoop } from "./event-loop.ts";
import { Fib } from "./fib.ts";
import { Inbox } from "./inbox.ts";
import {
  M_ADDRESS,
  M_CHARGE,
  M_DESTINATION_PORT,
  M_FRAME,
  M_GENERATION,
  M_HOME,
  M_KIND,
  M_PAYLOAD_LENGTH,
  M_SEND_CHARGE,
  M_SOCKET,
  MSG_BYE,
  MSG_DELIVER,
  MSG_ERROR,
  MSG_HELLO,
  MSG_LEND,
  MSG_SEND,
  MSG_SENT,
} from "./message.ts";
import { Patience } from "./patience.ts";
import { refusesFragments, TX_DEVICE, TX_PLAIN, TX_VIA_KERNEL } from "./send-word.ts";
import type { Shared } from "./shared.ts";
import { HEADERS4, HEADERS6 } from "./special-send.ts";
import { RemoteTcp, type RemoteTcpHost } from "./stream/remote-tcp.ts";
import { closeTcpRecord } from "./stream/tcp-record.ts";
import { DEVICE, F_BROADCAST, FLAGS, PLACEHOLDER } from "./table.ts";
import type { Handler, UdpSocket } from "./udp-socket.ts";

/** Messages handled from one ring before the next ring has its turn. */
const DRAIN_MAX = 256;
/** Messages handled before what was sent meanwhile is handed to the lcores: fewer wake them more often than is worth it. */
const FLUSH_MESSAGES = 64;
/**
 * The longest a close waits for what was sent before it, milliseconds: a sleeping lcore is awake within one, a handler of
 * the lcore's module may keep it longer.
 */
const SETTLE_MS = 1000;
const PAUSE_MS = 0.02;
/** The longest a thread waits for its first loans when it joins: a sleeping lcore is awake within one on its own CPU. */
const JOIN_MS = 1000;
const EFD_NONBLOCK_CLOEXEC = 0x80800;
/** How soon a full placeholder is tried again. */
const KERNEL_RETRY_MS = 1;

/** How many threads there are with rings to all others: lcores, and behind them the control thread or that of the host protocols. */
export function lcoresOf({ controlThread, hostThread }: Shared, queueLcores: number): number {
  return Math.max(queueLcores, controlThread + 1, hostThread + 1);
}

export class ThreadEndpoint extends Endpoint implements RemoteTcpHost {
  override readonly fib: Fib;
  /** One for each lcore. */
  private readonly inboxes: Inbox[] = [];
  /** Who tells of errors: the control thread, or that of the host protocols; and its ring. */
  private readonly reporter: number;
  private readonly reports: RingConsumer;
  private readonly queueLcores: number;
  private readonly eventLoop: EventLoop;
  private draining = false;
  private flushPending = false;
  /** True while handlers of streams are called. */
  private telling = false;
  /** True once the thread has left, or the engine has stopped. */
  stopped = false;
  /** True once the thread has left: its ends of the rings may be another's, and frames that it had are the lcores' again. */
  private left = false;
  /** True when something was sent since the last settle(). */
  private unsettled = false;
  /** Where this thread's sends go, by a FIB of its own. Made for the first of them. */
  private destinations: Destinations | null = null;
  private kernelFull = false;
  private tcp_: RemoteTcp | null = null;
  /** Nobody ever notifies it: a place to wait for time to pass. */
  /** Wakes the thread where it waits for descriptors of the kernel too; made when it first does. */
  private bell = -1;
  private readonly rung = new BigUint64Array(1);
  private readonly pause = new Int32Array(new SharedArrayBuffer(4));

  /**
   * @param queueLcores lcores that have queues: the others cannot send
   * @param spinMs time that the event loop looks on before it sleeps, milliseconds. 0 where lcores ring the bell: they need the CPU
   */
  constructor(thread: number, shared: Shared, queueLcores: number, spinMs = 0) {
    super(thread, shared);
    this.fib = new Fib(shared.fib);
    this.eventLoop = new EventLoop(this, shared.mesh, spinMs);
    this.reporter = Math.max(shared.controlThread, shared.hostThread, 0);
    this.reports = this.fromLcore[this.reporter];
    this.queueLcores = queueLcores;
    // What was for the one that had the place before. The lcores had done with it before the place was free.
    for (const ring of this.fromLcore) ring.skipAll();
    for (let l = 0; l < this.fromLcore.length; l++) this.inboxes.push(new Inbox(this.fromLcore[l], this, l));
    for (let l = 0; l < queueLcores; l++) this.tell(l, MSG_HELLO);
    if (shared.hostThread >= 0) this.tell(shared.hostThread, MSG_HELLO);
    // Where nobody has been told anything, the rest of this object may not be there yet.
    if (queueLcores > 0) this.flush();
  }

  /** TCP sockets of this thread. Null where the lcores have no queues: there is no TCP but the kernel's. */
  override tcpOpener(): RemoteTcp | null {
    if (this.tcp_ === null && this.queueLcores > 0) this.tcp_ = new RemoteTcp(this, this.toLcore, this.queueLcores);
    return this.tcp_;
  }

  get streams(): number {
    return this.tcp_?.count ?? 0;
  }

  watch(): void {
    this.eventLoop.pump();
  }

  closeRecord(record: number): void {
    closeTcpRecord(this, record);
  }

  /** Waits for the first frames to send from, so that the first send of a thread that has just joined finds one. */
  awaitLoans(): void {
    const deadline = performance.now() + JOIN_MS;
    for (let l = 0; l < this.queueLcores; l++) {
      while (!this.hasLoans(l) && !this.shared.mesh.isStopped() && performance.now() < deadline) {
        // The lcore may share this thread's CPU.
        Atomics.wait(this.pause, 0, 0, PAUSE_MS);
      }
    }
  }

  override hasFrame(socket: UdpSocket): boolean {
    if (this.kernelFull) return false;
    const lcore = this.senderOf(socket);
    return this.hasLoans(lcore) && this.toLcore[lcore].free() > 0;
  }

  override awaitRoom(socket: UdpSocket): boolean {
    return this.awaits(socket, () => this.canSend(socket), socket.sendTimeoutMs);
  }

  override awaitFrames(socket: UdpSocket): boolean {
    return this.awaits(socket, () => this.hasFrame(socket), Number.POSITIVE_INFINITY);
  }

  /** Has what was sent leave until `done`. False: it is not to be, see patience.ts, or `limitMs` are over. */
  protected awaits(socket: UdpSocket, done: () => boolean, limitMs: number): boolean {
    this.flush();
    const lcore = this.senderOf(socket);
    const inbox = this.inboxes[lcore];
    // Loans come, its messages are read, what is under way becomes less: each raises it.
    const given = (): number => inbox.loanCount + this.toLcore[lcore].free() - socket.underWay;
    const patience = new Patience(this.shared.mesh, lcore, given(), limitMs);
    while (!done()) {
      if (this.kernelFull || !patience.pauses(given())) return false;
      inbox.collect(Number.POSITIVE_INFINITY);
    }
    return true;
  }

  override fastMtu(w0: number, w1: number, w2: number, w3: number): number {
    const destinations = this.freshDestinations();
    const entry = destinations.resolve(w0, w1, w2, w3);
    return entry === VIA_KERNEL ? 0 : destinations.mtu[entry];
  }

  override senderOf(socket: UdpSocket): number {
    return socket.id % this.queueLcores;
  }

  override send(
    socket: UdpSocket,
    bytes: Uint8Array,
    offset: number,
    length: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    port: number,
  ): number {
    const way = this.wayOf(socket, length, w0, w1, w2, w3);
    if (way === BY_LCORE) return super.send(socket, bytes, offset, length, w0, w1, w2, w3, port);
    if (way < 0) return way;
    return this.sendByKernel(socket, sys.transientAddressOf(bytes) + offset, length, w0, w1, w2, w3, port);
  }

  override sendFrame(
    socket: UdpSocket,
    lcore: number,
    frame: number,
    length: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    port: number,
  ): number {
    const way = this.wayOf(socket, length, w0, w1, w2, w3);
    if (way === BY_LCORE) return this.commitFrame(socket, lcore, frame, length, w0, w1, w2, w3, port);
    const address = sys.transientAddressOf(this.shared.memories[lcore].bytes) + frame + TX_HEADROOM;
    const result = way < 0 ? way : this.sendByKernel(socket, address, length, w0, w1, w2, w3, port);
    this.returnFrame(lcore, frame);
    return result;
  }

  /**
   * Who sends a datagram: an lcore, later; or the kernel, now, so that the caller hears what it says. Without a kernel,
   * what no lcore can send is refused: -errno; so is what follows an error of the network's that is pending.
   */
  override wayOf(socket: UdpSocket, length: number, w0: number, w1: number, w2: number, w3: number): number {
    const { shared, table } = this;
    if (this.queueLcores === 0) return BY_LCORE;
    if (this.reports.peek() >= 0) {
      const error = socket.takeError();
      if (error !== 0) return -error;
    }
    const destinations = this.freshDestinations();
    const mapped = w0 === 0 && w1 === 0 && w2 === 0xffff;
    const entry = destinations.resolve(w0, w1, w2, w3);
    const word = mapped ? table.ttlTos[socket.id] : table.ttlTos6[socket.id];
    const fits = entry !== VIA_KERNEL && length + (mapped ? HEADERS4 : HEADERS6) <= destinations.mtu[entry];
    if (fits && (word <= TX_PLAIN || !this.isForKernel(socket, word))) return BY_LCORE;
    if (table.get(socket.id, PLACEHOLDER) >= 0) return BY_KERNEL;
    if (entry === VIA_KERNEL && mapped && this.fib.isBroadcast(w3) && (table.get(socket.id, FLAGS) & F_BROADCAST) === 0)
      return -ERRNO.EACCES;
    if (shared.hostThread >= 0) return this.wayByHost(word, length + (mapped ? HEADERS4 : HEADERS6), w0, w1, w2, w3);
    return entry === VIA_KERNEL ? -ERRNO.EHOSTUNREACH : -ERRNO.EMSGSIZE;
  }

  /** What the host protocols would refuse is refused here, where the caller hears of it. */
  private wayByHost(word: number, bytes: number, w0: number, w1: number, w2: number, w3: number): number {
    const { fib } = this;
    const isLocal = fib.isLocal(w0, w1, w2, w3);
    if (!isLocal && !this.freshDestinations().sourceTo(w0, w1, w2, w3, this.scratchWords)) return -ERRNO.ENETUNREACH;
    if (isLocal || !refusesFragments(word)) return BY_LCORE;
    const mtu = fib.mtuTo(w0, w1, w2, w3);
    return mtu > 0 && bytes > mtu ? -ERRNO.EMSGSIZE : BY_LCORE;
  }

  private readonly scratchWords = new Int32Array(4);

  private isForKernel(socket: UdpSocket, word: number): boolean {
    if ((word & TX_VIA_KERNEL) !== 0) return true;
    return (word & TX_DEVICE) !== 0 && this.table.get(socket.id, DEVICE) !== this.shared.ifindex;
  }

  private freshDestinations(): Destinations {
    this.freshFib();
    this.destinations ??= new Destinations(this.fib, Int32Array.of(this.shared.ifindex, 0));
    return this.destinations;
  }

  override sendByKernel(
    socket: UdpSocket,
    address: number,
    length: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    port: number,
    segment = 0,
  ): number {
    // What was sent before is with the lcores at least.
    if (this.unsettled) this.flush();
    const result = super.sendByKernel(socket, address, length, w0, w1, w2, w3, port, segment);
    if (result === -ERRNO.EAGAIN) this.awaitKernel(socket);
    return result;
  }

  /** The placeholder's send buffer is full, and nobody rings when it has room: looks again soon. */
  private awaitKernel(socket: UdpSocket): void {
    if (socket.onWritable !== null) this.blocked.add(socket);
    if (this.kernelFull) return;
    this.kernelFull = true;
    setTimeout(() => {
      this.kernelFull = false;
      this.wakeWaiters();
      this.resumeBlocked();
    }, KERNEL_RETRY_MS);
  }

  hasLoans(lcore: number): boolean {
    return this.inboxes[lcore].collect(1) > 0;
  }

  override takeFrame(lcore: number): number {
    return this.inboxes[lcore].borrow();
  }

  override returnFrame(lcore: number, frame: number): void {
    this.inboxes[lcore].giveBack(frame);
  }

  override commitFrame(
    socket: UdpSocket,
    lcore: number,
    frame: number,
    length: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    port: number,
  ): number {
    const ring = this.toLcore[lcore];
    const slot = ring.claim();
    if (slot < 0) {
      this.returnFrame(lcore, frame);
      return this.refuse(socket);
    }
    const { words } = ring;
    words[slot + M_KIND] = MSG_SEND;
    words[slot + M_SOCKET] = socket.id;
    words[slot + M_GENERATION] = socket.generation;
    words[slot + M_FRAME] = frame;
    words[slot + M_PAYLOAD_LENGTH] = length;
    words[slot + M_ADDRESS] = w0;
    words[slot + M_ADDRESS + 1] = w1;
    words[slot + M_ADDRESS + 2] = w2;
    words[slot + M_ADDRESS + 3] = w3;
    words[slot + M_DESTINATION_PORT] = port;
    words[slot + M_SEND_CHARGE] = this.sendCharge;
    if (this.sendCharge > 0) socket.chargeSend(this.sendCharge);
    this.flushSoon();
    return length;
  }

  protected override sendLargeViaHost(
    socket: UdpSocket,
    bytes: Uint8Array,
    offset: number,
    length: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    port: number,
  ): number {
    const { frameSizes, hostThread, memories } = this.shared;
    if (hostThread < 0 || length > frameSizes[hostThread] - TX_HEADROOM) return -ERRNO.EMSGSIZE;
    const frame = this.inboxes[hostThread].borrow();
    if (frame < 0) return this.refuse(socket);
    memories[hostThread].bytes.set(bytes.subarray(offset, offset + length), frame + TX_HEADROOM);
    return this.commitFrame(socket, hostThread, frame, length, w0, w1, w2, w3, port);
  }

  override reply(datagram: Datagram, length: number): number {
    if (this.left) return -ERRNO.EBADF;
    const result = super.reply(datagram, length);
    this.flushSoon();
    return result;
  }

  override get closed(): boolean {
    return this.stopped || this.shared.mesh.isStopped();
  }

  override poll(): number {
    if (this.left) return 0;
    if (this.shared.mesh.isStopped()) this.abandon();
    let handled = 0;
    try {
      for (let l = 0; l < this.fromLcore.length; l++) handled += this.drain(l);
      if (this.gathered.length > 0 && !this.draining) this.deliverRest();
      if (this.tcp_ !== null) handled += this.deliverStreams(this.tcp_);
    } finally {
      this.flush();
      this.shared.board.commit(this.thread, this.counters);
      if (handled > 0) this.wakeWaiters();
    }
    if (this.blocked.size > 0) this.resumeBlocked();
    return handled;
  }

  override block(timeoutMs: number): void {
    const { mesh } = this.shared;
    const count = mesh.bellCount(this.thread);
    if (this.prepareWait() && !mesh.isStopped()) mesh.wait(this.thread, count, timeoutMs);
    this.cancelWait();
    this.eventLoop.lookAgain();
  }

  override blockOn(wait: (bell: number) => void): void {
    const { mesh } = this.shared;
    if (this.bell < 0) this.bell = check(sys.eventfd(0, EFD_NONBLOCK_CLOEXEC), "eventfd2");
    mesh.setEventfd(this.thread, this.bell);
    if (this.prepareWait() && !mesh.isStopped()) wait(this.bell);
    this.cancelWait();
    mesh.setEventfd(this.thread, -1);
    sys.read(this.bell, sys.addressOf(this.rung), 8);
    this.eventLoop.lookAgain();
  }

  /** After the last wait. */
  private closeBell(): void {
    if (this.bell >= 0) sys.close(this.bell);
    this.bell = -1;
  }

  /**
   * Waits until the lcores have sent what is in the rings, or SETTLE_MS are over: a datagram names its socket, and after
   * close() there is none.
   */
  override settle(): void {
    this.flush();
    if (!this.unsettled) return;
    this.unsettled = false;
    const deadline = performance.now() + SETTLE_MS;
    for (const ring of this.toLcore) {
      while (ring.free() < ring.slots && !this.shared.mesh.isStopped() && performance.now() < deadline) {
        // The lcore may share this thread's CPU.
        Atomics.wait(this.pause, 0, 0, PAUSE_MS);
      }
    }
  }

  override arrival(): Promise<void> {
    if (this.shared.mesh.isStopped()) {
      this.abandon();
      return Promise.resolve();
    }
    return this.eventLoop.arrival();
  }

  override setHandler(socket: UdpSocket, handler: Handler | null): void {
    if (handler !== null) this.eventLoop.pump();
    super.setHandler(socket, handler);
  }

  override watchWritable(socket: UdpSocket): void {
    super.watchWritable(socket);
    if (socket.onWritable !== null) this.eventLoop.pump();
  }

  override watchErrors(socket: UdpSocket): void {
    if (socket.onError !== null) this.eventLoop.pump();
  }

  override lookForErrors(_socket: UdpSocket): void {
    if (this.reports.peek() >= 0) this.inboxes[this.reporter].collect(Number.POSITIVE_INFINITY);
  }

  acceptErrorNow(lcore: number, words: Int32Array, at: number): boolean {
    if ((this.sockets.get(words[at + M_SOCKET])?.onError ?? null) !== null) return false;
    this.acceptError(lcore, words, at);
    return true;
  }

  override retain(count: 1 | -1): void {
    this.eventLoop.retain(count);
  }

  override wakeWaiters(): void {
    this.eventLoop.wakeWaiters();
  }

  /** Closes the thread's sockets and leaves the mesh. Datagrams that it still has are void. */
  close(): void {
    if (this.stopped) return;
    for (const socket of [...this.sockets.values()]) socket.close();
    const streams = this.streams > 0;
    this.tcp_?.leave();
    do this.poll();
    while (this.isBehind || this.tcp_?.isBehind);
    this.stopped = true;
    this.leave();
    // Peers are to hear that their connections have ended, and the engine may stop next.
    if (streams) this.shared.mesh.awaitLeft(this.thread, SETTLE_MS);
    this.wakeWaiters();
    this.shared.mesh.ring(this.thread);
    this.closeBell();
  }

  /** The last that is put into the rings. */
  private leave(): void {
    const { mesh } = this.shared;
    if (this.queueLcores === 0) {
      mesh.leaveThread(this.thread);
      return;
    }
    const lcores = lcoresOf(this.shared, this.queueLcores);
    mesh.beginLeaving(this.thread, lcores);
    for (let l = 0; l < lcores; l++) this.tell(l, MSG_BYE);
    this.flush();
    this.left = true;
  }

  /** The engine has stopped: closes the sockets, so that every wait on them ends. */
  protected abandon(): void {
    if (this.stopped) return;
    this.stopped = true;
    for (const socket of [...this.sockets.values()]) socket.close();
    this.tcp_?.abandon();
    this.wakeWaiters();
    this.closeBell();
  }

  override flush(): void {
    if (this.left) return;
    this.tcp_?.flush();
    super.flush();
  }

  prepareWait(): boolean {
    if (this.left || this.isBehind || this.gathered.length > 0 || this.tcp_?.isBusy) return false;
    for (const ring of this.fromLcore) if (!ring.prepareWait()) return false;
    return true;
  }

  /** Whether messages wait that are in no ring any more. */
  private get isBehind(): boolean {
    for (const inbox of this.inboxes) if (inbox.isBehind) return true;
    return false;
  }

  cancelWait(): void {
    if (this.left) return;
    for (const ring of this.fromLcore) ring.cancelWait();
  }

  protected override free(home: number, frame: number): void {
    if (!this.left) super.free(home, frame);
  }

  private drain(lcore: number): number {
    // A handler that receives from another socket comes back here: its datagram must not be overwritten by the next one.
    if (this.draining) return 0;
    this.draining = true;
    const inbox = this.inboxes[lcore];
    let handled = 0;
    try {
      for (; handled < DRAIN_MAX; handled++) {
        const at = inbox.peek();
        if (at < 0) break;
        const { words } = inbox;
        inbox.next();
        if (handled > 0 && handled % FLUSH_MESSAGES === 0) this.flush();
        this.message(lcore, words, at);
      }
    } finally {
      // Whatever a handler throws, the messages so far are done with.
      this.fromLcore[lcore].release();
      this.draining = false;
    }
    return handled;
  }

  /** What waits for the handlers of sockets that coalesce. */
  private deliverRest(): void {
    this.draining = true;
    try {
      this.deliverGathered();
    } finally {
      this.draining = false;
    }
  }

  private message(lcore: number, words: Int32Array, at: number): void {
    const kind = words[at + M_KIND];
    if (kind === MSG_DELIVER) this.deliver(words, at);
    else if (kind === MSG_LEND) this.inboxes[lcore].acceptLoan(words, at);
    else if (kind === MSG_ERROR) this.acceptError(lcore, words, at);
    else if (kind === MSG_SENT) this.acceptCredit(words, at);
    else if (!this.acceptStream(lcore, words, at)) this.counters[C.BadMessages]++;
  }

  /** What handlers write leaves together, and not with each of their promises. */
  private deliverStreams(tcp: RemoteTcp): number {
    this.telling = true;
    try {
      return tcp.deliver();
    } finally {
      this.telling = false;
    }
  }

  private deliver(words: Int32Array, at: number): void {
    const socket = this.sockets.get(words[at + M_SOCKET]);
    if (socket === undefined || socket.generation !== words[at + M_GENERATION]) {
      this.counters[C.StaleMessages]++;
      this.free(words[at + M_HOME], words[at + M_FRAME]);
      return;
    }
    const handler = socket.direct;
    if (handler === null) {
      socket.queue.push(words, at);
      if (socket.onDatagram !== null) this.gather(socket);
      else if (socket.watcher !== null) socket.watcher.arrived();
      return;
    }
    this.datagram.load(words, at, this.shared.memories);
    this.call(handler);
  }

  private call(handler: Handler): void {
    const { datagram } = this;
    try {
      handler(datagram);
    } finally {
      if (datagram.owned) this.release(datagram);
    }
  }

  acceptStream(lcore: number, words: Int32Array, at: number): boolean {
    return this.tcp_?.message(lcore, words, at) ?? false;
  }

  acceptCredit(words: Int32Array, at: number): void {
    const socket = this.sockets.get(words[at + M_SOCKET]);
    if (socket?.generation === words[at + M_GENERATION]) socket.chargeSend(-words[at + M_SEND_CHARGE]);
  }

  /** Publishes what this turn of the event loop sends, once, at its end. Messages, and handlers of streams, flush every 64 and at the end. */
  flushSoon(): void {
    this.unsettled = true;
    if (this.flushPending || this.draining || this.telling) return;
    this.flushPending = true;
    queueMicrotask(() => {
      this.flushPending = false;
      this.flush();
    });
  }

  private tell(lcore: number, kind: number): void {
    const ring = this.toLcore[lcore];
    const at = this.claimSurely(lcore);
    if (at < 0) return;
    ring.words[at + M_KIND] = kind;
    ring.words[at + M_SOCKET] = this.thread;
    ring.words[at + M_CHARGE] = 0;
  }
}
