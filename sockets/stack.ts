/**
 * The socket layer's end on an lcore, and its protocol stack: frames in from its ports, datagrams out to sockets, and back.
 *
 *   input.ts   frame -> IP -> UDP -> lookup
 *   here       -> handler on this lcore | queue | ring to the socket's thread; messages from the other threads
 *   output.ts  payload -> UDP -> IP -> Ethernet -> port | placeholder socket, where only the kernel knows the way
 *
 * Nothing here reads a clock, allocates a packet or throws: what cannot be handled is dropped under a counter.
 */
import { ERRNO } from "af-xdp-bindings";
import type { Burst, Port } from "../queues/driver.ts";
import type { FramePool } from "../queues/pool.ts";
import { C } from "./counters.ts";
import type { Datagram } from "./datagram.ts";
import { BY_KERNEL, BY_LCORE, TX_HEADROOM } from "./endpoint.ts";
import type { Fib } from "./fib.ts";
import { Filtering, isForMany } from "./filtering.ts";
import { FrameHolders } from "./frame-holders.ts";
import { Handlers } from "./handlers.ts";
import { HostLink, type HostLinkOwner, type HostReceiver } from "./host-link.ts";
import { Input, type Receiver, type RxLink } from "./input.ts";
import { Lender } from "./lender.ts";
import { Lookup } from "./lookup.ts";
import {
  M_ADDRESS,
  M_DESTINATION_PORT,
  M_DROPS,
  M_FRAME,
  M_GENERATION,
  M_HOME,
  M_KIND,
  M_L3,
  M_L4,
  M_LENGTH,
  M_NANOSECONDS,
  M_PAYLOAD,
  M_PAYLOAD_LENGTH,
  M_PORT,
  M_SECONDS,
  M_SEND_CHARGE,
  M_SOCKET,
  MSG_BYE,
  MSG_DELIVER,
  MSG_ERROR,
  MSG_FREE,
  MSG_GROUP,
  MSG_HELLO,
  MSG_HOST,
  MSG_REPLY,
  MSG_SEND,
  MSG_TCP_SEGMENT,
  MSG_TRANSMIT,
  writeDelivery,
} from "./message.ts";
import { Output } from "./output.ts";
import { CHARGE_OVERHEAD } from "./queue.ts";
import { SendHold } from "./send-hold.ts";
import { SendLedger } from "./send-ledger.ts";
import type { Shared } from "./shared.ts";
import { readStamp } from "./stamp.ts";
import { LcoreStreams } from "./stream/lcore-streams.ts";
import { StreamEndpoint } from "./stream/stream-endpoint.ts";
import type { TcpSetup } from "./stream/tcp-setup.ts";
import { DROPS, F_RXQ_OVFL, F_TIMESTAMP, FLAGS, GENERATION } from "./table.ts";
import type { Handler, UdpSocket } from "./udp-socket.ts";
import { UDP_HEADER, udpLength } from "./wire/udp.ts";
import type { FrameViews } from "./wire/views.ts";

/** Messages handled from one ring a turn: bounds how long a chatty thread keeps the lcore from its queues. */
const DRAIN_MAX = 128;

export class Stack extends StreamEndpoint implements Receiver, HostLinkOwner {
  readonly ports: readonly Port[];
  readonly pool: FramePool;
  override readonly fib: Fib;
  readonly lookup: Lookup;
  /** From CLOCK_MONOTONIC to CLOCK_REALTIME, to be added each to its part; the loop keeps them true. */
  realtimeOffsetSeconds = 0;
  realtimeOffsetNs = 0;
  readonly holders: FrameHolders;
  /**
   * The most frames a thread may hold. It may not hold more than are free either, so that threads which never give any back leave
   * as many to each other and to the lcore (Choudhury and Hahne, Dynamic queue length thresholds, 1998, with alpha 1).
   */
  readonly quota: number;

  private readonly views: FrameViews;
  private readonly bytes: Uint8Array;
  readonly frameSize: number;
  readonly toThread: (ReturnType<Shared["mesh"]["producer"]> | null)[] = [];
  private readonly fromThread: (ReturnType<Shared["mesh"]["consumer"]> | null)[] = [];
  /** Handler number per socket id. */
  readonly handlerOf: Uint16Array;
  private readonly handlers: Handlers;
  private readonly filtering: Filtering;
  private readonly in: Input;
  private readonly out: Output;
  private readonly ledger: SendLedger;
  readonly hold: SendHold;
  private readonly lastRx: Int32Array;
  /** What `lastRx` says of a datagram on port 0 of this lcore. */
  private readonly portTag: number;
  /** Threads whose rings are looked at: see Mesh.activeThreads. */
  private active = 0;
  /** Datagrams handed to handlers since the last burst's end. */
  private delivered = 0;
  /** True while frames or messages are being handled, perhaps by a handler. */
  private handling = false;
  private readonly lender: Lender;
  override readonly streams: LcoreStreams;

  /**
   * @param lcore number of the lcore, which is its thread number
   * @param ports its queues; their memory is `shared.memories[lcore]`
   */
  constructor(
    lcore: number,
    shared: Shared,
    ports: readonly Port[],
    pool: FramePool,
    fib: Fib,
    seed: number,
    tcp: TcpSetup | null = null,
  ) {
    super(lcore, shared);
    this.ports = ports;
    this.pool = pool;
    this.fib = fib;
    this.views = shared.memories[lcore];
    this.bytes = this.views.bytes;
    this.frameSize = shared.frameSizes[lcore];
    this.lookup = new Lookup(shared.table, seed, lcore, shared.portInfo);
    const { mesh } = shared;
    this.holders = new FrameHolders(mesh.threads, pool);
    this.lender = new Lender(mesh.threads, pool, this.holders);
    this.quota = Math.floor((pool.frames * 3) / 8);
    this.handlers = new Handlers(shared.table.capacity);
    this.handlerOf = this.handlers.of;
    this.lastRx = shared.table.lastRx;
    this.portTag = (lcore << 8) + 1;
    for (let t = 0; t < mesh.threads; t++) {
      // One object an end: a second one would have cursors of its own.
      const isLcore = t < mesh.lcores;
      this.toThread.push(t === lcore ? null : isLcore ? this.toLcore[t] : mesh.producer(lcore, t));
      this.fromThread.push(t === lcore ? null : isLcore ? this.fromLcore[t] : mesh.consumer(t, lcore));
    }
    const { counters, lookup, views } = this;
    lookup.onFilter = (id, has) => this.handlers.setFiltered(id, has);
    this.filtering = new Filtering(shared, lcore, ports, lookup.programs);
    this.in = new Input(ports, pool, views, lookup, fib, counters, this, this.lastRx);
    this.out = new Output(shared.table, ports, pool, views, fib, counters);
    this.ledger = new SendLedger(ports, this);
    this.hold = new SendHold(ports);
    this.datagram.comeHome(lcore, this.views);
    const parts = { counters, fib, out: this.out, pool, ports, table: shared.table, views };
    this.streams = new LcoreStreams(this, parts, lookup, this.lender, this.toThread, tcp);
  }

  /** Brings lookup tables and routes up to date: called once a turn, a few loads when nothing has changed. */
  control(): void {
    if (this.lookup.isStale()) {
      this.lookup.sync();
      this.counters[C.TableSyncs]++;
    }
    if (this.fib.isStale()) {
      this.fib.refresh();
      this.in.addressesChanged();
      this.counters[C.FibSyncs]++;
    }
  }

  /** Handles a received burst. Every frame is delivered, answered or dropped, and goes back to the pool when done. */
  input(portNumber: number, burst: Burst): void {
    // What was attached before a frame was sent holds for it, though the turn began before.
    if (this.lookup.isStale()) this.control();
    if (this.lookup.touched) this.poll();
    this.handling = true;
    this.streams.tcp?.warm(burst);
    this.in.burst(portNumber, burst);
    if (this.gathered.length > 0) this.deliverGathered();
    this.counters[C.UdpInDatagrams] += this.delivered;
    this.delivered = 0;
    this.handling = false;
  }

  /**
   * A datagram that the kernel has given to a placeholder, from the control thread. `generation` is the socket's when it came;
   * one that has its id since gets nothing.
   */
  inject(socket: number, generation: number, frame: number, length: number, ip: number, udp: number): void {
    if (this.lookup.isStale()) this.control();
    this.counters[C.UdpInViaKernel]++;
    // The kernel gives every member a copy of what is for a group or a broadcast address; else it has chosen one itself.
    const found = isForMany(this.bytes, ip, this.fib) ? socket : this.lookup.again(socket);
    if (this.lookup.generation(socket) !== generation) this.drop(frame, C.UdpNoPorts);
    else this.in.give(found, 0, frame, length, ip, udp);
  }

  note(port: number, frame: number, ip: number, udp: number): void {
    this.filtering.note(port, frame, ip, udp);
  }

  /** Receiver.deliver: to the handler, the queue or the thread of the socket. */
  deliver(socket: number, portNumber: number, frame: number, length: number, ip: number, udp: number): void {
    const number = this.handlerOf[socket];
    if (number === 0) this.elsewhere(socket, portNumber, frame, length, ip, udp);
    else this.call(number, socket, portNumber, frame, length, ip, udp);
  }

  private call(n: number, socket: number, port: number, frame: number, length: number, ip: number, udp: number): void {
    // Stored unseen: a store that misses the cache costs nothing here, a load that asks whether it is needed would.
    this.lastRx[socket] = this.portTag + port;
    this.delivered++;
    const { datagram } = this;
    datagram.socketId = socket;
    datagram.frame = frame;
    datagram.frameLength = length;
    datagram.l3 = ip;
    datagram.l4 = udp;
    datagram.offset = udp + UDP_HEADER;
    datagram.length = udpLength(this.bytes, udp) - UDP_HEADER;
    datagram.port = port;
    datagram.owned = true;
    if (this.lookup.stamps) this.stamp(datagram);
    (this.handlers.list[n] as Handler)(datagram);
    if (datagram.owned) {
      datagram.owned = false;
      this.pool.give(frame);
    }
  }

  /** Delivers to a socket without a handler on this lcore: to its thread, or into its queue. */
  private elsewhere(socket: number, port: number, frame: number, length: number, ip: number, udp: number): void {
    const filter = this.lookup.filter(socket);
    if (filter !== 0 && !this.filtering.passes(filter - 1, port, frame, ip, udp)) {
      this.dropFor(socket, frame, C.UdpInErrors);
      return;
    }
    const number = filter === 0 ? 0 : this.handlers.all[socket];
    this.lastRx[socket] = this.portTag + port;
    if (number !== 0) {
      this.filtering.takeTrimmed();
      this.call(number, socket, port, frame, length, ip, udp);
    } else if (this.table.home[socket] === this.thread) this.enqueue(socket, port, frame, length, ip, udp);
    else this.handOver(socket, port, frame, length, ip, udp);
  }

  /** Passes a datagram to the thread that reads its socket. */
  private handOver(socket: number, portNumber: number, frame: number, length: number, ip: number, udp: number): void {
    const { counters, table } = this;
    const thread = table.home[socket];
    const charge = udpLength(this.bytes, udp) + this.filtering.takeTrimmed() + CHARGE_OVERHEAD;
    if (table.get(socket, GENERATION) !== this.lookup.generation(socket)) {
      // Closed since this turn's control(); the id may have gone to a socket on another port.
      this.drop(frame, C.UdpNoPorts);
      return;
    }
    if (this.holders.counts[thread] >= Math.min(this.quota, this.pool.available)) {
      this.dropFor(socket, frame, C.QuotaDrops);
      return;
    }
    if (!table.hasRoom(socket, charge)) {
      this.dropFor(socket, frame, C.UdpRcvbufErrors);
      return;
    }
    const ring = this.toThread[thread];
    const at = ring === null || ring === undefined ? -1 : ring.claim();
    if (at < 0 || !ring) {
      this.dropFor(socket, frame, C.MeshFull);
      return;
    }
    table.charge(this.thread, socket, charge);
    this.holders.hand(frame, thread);
    this.fillMessage(ring.words, at, socket, portNumber, frame, length, ip, udp, charge);
    counters[C.HandedOver]++;
    counters[C.UdpInDatagrams]++;
  }

  /** Queues a datagram at a socket of this lcore that has no handler. */
  private enqueue(socket: number, portNumber: number, frame: number, length: number, ip: number, udp: number): void {
    const reader = this.sockets.get(socket);
    const charge = udpLength(this.bytes, udp) + this.filtering.takeTrimmed() + CHARGE_OVERHEAD;
    if (reader === undefined || !this.table.hasRoom(socket, charge)) {
      this.dropFor(socket, frame, C.UdpRcvbufErrors);
      return;
    }
    this.table.charge(this.thread, socket, charge);
    this.fillMessage(this.scratch, 0, socket, portNumber, frame, length, ip, udp, charge);
    reader.queue.push(this.scratch, 0);
    if (reader.onDatagram !== null) this.gather(reader);
    else if (reader.watcher !== null) reader.watcher.arrived();
    this.counters[C.UdpInDatagrams]++;
  }

  private readonly scratch = new Int32Array(16);

  private fillMessage(
    words: Int32Array,
    at: number,
    socket: number,
    portNumber: number,
    frame: number,
    length: number,
    ip: number,
    udp: number,
    charge: number,
  ): void {
    writeDelivery(words, at, socket, this.lookup.generation(socket), this.thread, frame, charge);
    words[at + M_LENGTH] = length;
    words[at + M_L3] = ip;
    words[at + M_L4] = udp;
    words[at + M_PAYLOAD] = udp + UDP_HEADER;
    words[at + M_PAYLOAD_LENGTH] = udpLength(this.bytes, udp) - UDP_HEADER;
    words[at + M_PORT] = portNumber;
    words[at + M_DROPS] = (this.table.get(socket, FLAGS) & F_RXQ_OVFL) === 0 ? 0 : this.dropsOf(socket);
    if (this.lookup.stamps) {
      this.datagram.frame = frame;
      this.datagram.socketId = socket;
      this.stamp(this.datagram);
      words[at + M_SECONDS] = this.datagram.seconds;
      words[at + M_NANOSECONDS] = this.datagram.nanoseconds;
    }
  }

  /** Takes the arrival time that the XDP program left before the frame, where the socket asked for it. */
  private stamp(datagram: Datagram): void {
    datagram.seconds = 0;
    datagram.nanoseconds = 0;
    if ((this.table.get(datagram.socketId, FLAGS) & F_TIMESTAMP) === 0) return;
    readStamp(this.bytes, datagram, this.realtimeOffsetSeconds, this.realtimeOffsetNs);
  }

  private drop(frame: number, counter: number): void {
    this.counters[counter]++;
    this.pool.give(frame);
  }

  private dropFor(socket: number, frame: number, counter: number): void {
    Atomics.add(this.table.records, socket * this.table.stride + DROPS, 1);
    this.drop(frame, counter);
  }

  // ---- host protocols ----

  /** Null where the host's kernel has them. */
  private link: HostLink | null = null;

  /**
   * Has frames that are for no socket, and datagrams whose next hop is not known, go to the host protocols on `thread`.
   * On that thread itself `receiver` takes them.
   */
  useHost(thread: number, receiver: HostReceiver | null = null): HostLink {
    this.link = new HostLink(this, this.out, thread, receiver);
    this.out.useHost(this.link);
    this.streams.useHost(this.link);
    return this.link;
  }

  /** Receiver.divert: a frame that begins at `at` to the host protocols. Given away when true. */
  divert(frame: number, at: number, length: number, portNumber: number, reason: number): boolean {
    if (this.link === null) return false;
    this.link.divert(frame, at, length, portNumber, reason);
    return true;
  }

  giveBack(home: number, frame: number): void {
    this.free(home, frame);
  }

  /**
   * A whole packet that came by another way than a port (put together from fragments, or from this host itself), copied
   * into a frame of this lcore and delivered like any other. `port` stands for the interface.
   */
  injectPacket(bytes: Uint8Array, port: RxLink): void {
    const frame = bytes.length > this.frameSize ? -1 : this.pool.take();
    if (frame < 0) {
      this.counters[C.PoolEmpty]++;
      return;
    }
    this.control();
    this.bytes.set(bytes, frame);
    this.in.packet(port, frame, bytes.length);
  }

  // ---- output ----

  override senderOf(_socket: UdpSocket): number {
    return this.thread;
  }

  override hasFrame(_socket: UdpSocket): boolean {
    return this.pool.available > 0;
  }

  override fastMtu(w0: number, w1: number, w2: number, w3: number): number {
    return this.out.fastMtu(w0, w1, w2, w3);
  }

  override wayOf(socket: UdpSocket, _length: number, w0: number, w1: number, w2: number, w3: number): number {
    return this.out.leavesToKernel(socket.id, w0, w1, w2, w3) ? BY_KERNEL : BY_LCORE;
  }

  override awaitFrames(socket: UdpSocket): boolean {
    let sent = 0;
    for (let p = 0; p < this.ports.length; p++) {
      this.ports[p].txFlush();
      sent += this.ports[p].txComplete();
    }
    this.ledger.settle();
    return sent > 0 && this.hasFrame(socket);
  }

  override takeFrame(_lcore: number): number {
    if (this.pool.available === 0) this.counters[C.PoolEmpty]++;
    return this.pool.take();
  }

  override returnFrame(_lcore: number, frame: number): void {
    this.pool.give(frame);
  }

  override commitFrame(
    socket: UdpSocket,
    _lcore: number,
    frame: number,
    length: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    port: number,
  ): number {
    const result = this.out.send(socket.id, frame, frame + TX_HEADROOM, length, w0, w1, w2, w3, port);
    if (this.sendCharge > 0 && result >= 0) {
      socket.chargeSend(this.sendCharge);
      this.ledger.add(this.out.portTo(w0, w1, w2, w3), socket.id, socket.generation, this.sendCharge);
    }
    return result;
  }

  /** Whether a socket waits for frames to be sent that nobody reports: it is to be looked again soon. */
  get awaitsSent(): boolean {
    return this.ledger.count > 0 || this.streams.isBehind;
  }

  override reply(datagram: Datagram, length: number): number {
    // A frame of another lcore, and one that was queued and charged, take the common way.
    if (!datagram.owned || datagram.home !== this.thread || datagram.charge !== 0) return super.reply(datagram, length);
    const { frame, offset } = datagram;
    if (length < 0 || offset + length > (frame & -this.frameSize) + this.frameSize) return -ERRNO.EMSGSIZE;
    datagram.owned = false;
    return this.out.turnRound(datagram.socketId, datagram.port, frame, datagram.l3, datagram.l4, offset, length);
  }

  protected override sendReply(datagram: Datagram, length: number): number {
    if (datagram.home !== this.thread) return super.sendReply(datagram, length);
    datagram.owned = false;
    const { socketId, port, frame, l3, l4, offset } = datagram;
    return this.out.turnRound(socketId, port, frame, l3, l4, offset, length);
  }

  // ---- rings ----

  override poll(): number {
    // A handler that receives from another socket comes back here: its datagram, and the message at hand, must stay.
    if (this.handling) return 0;
    this.handling = true;
    this.lookup.touched = false;
    let handled = 0;
    const { fromThread } = this;
    this.active = this.shared.mesh.activeThreads();
    this.hold.reset();
    for (let t = 0; t < this.active; t++) {
      const ring = fromThread[t];
      if (ring !== null) handled += this.drain(t, ring);
    }
    if (this.gathered.length > 0) this.deliverGathered();
    this.handling = false;
    if (this.blocked.size > 0) this.resumeBlocked();
    return handled;
  }

  /** Announces to every thread that this one is about to sleep; false when messages have come meanwhile. */
  prepareWait(): boolean {
    for (let t = 0; t < this.fromThread.length; t++) {
      const ring = this.fromThread[t];
      if (ring !== null && !ring.prepareWait()) return false;
    }
    return !this.lookup.isStale() && !this.fib.isStale();
  }

  cancelWait(): void {
    for (let t = 0; t < this.fromThread.length; t++) this.fromThread[t]?.cancelWait();
  }

  /** The loop sends, at the end of the turn. */
  override sendNow(): void {}

  /** Publishes messages to other threads, gives back foreign frames, lends what is owed. */
  override flush(): void {
    if (this.streams.tcp !== null) this.streams.tcp.endTurn();
    super.flush();
    this.out.count();
    if (this.ledger.count > 0) this.ledger.settle();
    const { toThread } = this;
    for (let t = 0; t < this.active; t++) {
      const ring = toThread[t];
      if (ring === null) continue;
      if (this.lender.owed[t] > 0) this.lender.lend(t, ring);
      if (ring.publish()) this.wakeSoon(t);
    }
    this.doneWithLeavers();
  }

  private drain(thread: number, ring: NonNullable<(typeof this.fromThread)[number]>): number {
    const { words } = ring;
    let handled = 0;
    for (; handled < DRAIN_MAX; handled++) {
      const at = ring.peek();
      if (at < 0) break;
      if (this.hold.holds(words[at + M_KIND])) break;
      this.message(thread, words, at);
      ring.next();
    }
    ring.release();
    return handled;
  }

  private message(thread: number, words: Int32Array, at: number): void {
    switch (words[at + M_KIND]) {
      case MSG_FREE:
        this.holders.takeBack(thread, words, at);
        return;
      case MSG_DELIVER:
        this.deliverForeign(words, at);
        return;
      case MSG_REPLY:
        this.holders.home(words[at + M_FRAME]);
        this.out.turnRound(
          words[at + M_SOCKET],
          words[at + M_PORT],
          words[at + M_FRAME],
          words[at + M_L3],
          words[at + M_L4],
          words[at + M_PAYLOAD],
          words[at + M_PAYLOAD_LENGTH],
        );
        return;
      case MSG_SEND:
        this.sendFor(thread, words, at);
        return;
      case MSG_ERROR:
        this.acceptError(thread, words, at);
        return;
      case MSG_TCP_SEGMENT:
        this.streams.message(thread, words, at);
        this.free(words[at + M_HOME], words[at + M_FRAME]);
        return;
      case MSG_HOST:
        this.link?.take(words, at);
        return;
      case MSG_GROUP:
        this.link?.group(words, at);
        return;
      case MSG_TRANSMIT:
        this.link?.transmitFor(words, at);
        return;
      case MSG_HELLO:
        this.lender.join(thread);
        return;
      case MSG_BYE:
        this.parted(thread);
        return;
      default:
        if (!this.streams.message(thread, words, at)) this.counters[C.BadMessages]++;
    }
  }

  /**
   * A thread has gone, and its sockets are closed. Listeners first: what has opened in this turn would else be handed to it at
   * the turn's end, and be nobody's. What it is sent in this turn names frames that are the pool's again, but nobody reads it.
   */
  private parted(thread: number): void {
    if (!this.hearLeaving(thread)) return;
    this.control();
    this.streams.gone(thread);
    this.lender.leave(thread);
    this.holders.takeFrom(thread);
  }

  private sendFor(thread: number, words: Int32Array, at: number): void {
    const socket = words[at + M_SOCKET];
    const frame = words[at + M_FRAME];
    this.lender.used(thread, frame);
    if (this.table.get(socket, GENERATION) !== words[at + M_GENERATION]) {
      this.counters[C.StaleMessages]++;
      this.pool.give(frame);
      return;
    }
    this.out.send(
      socket,
      frame,
      frame + TX_HEADROOM,
      words[at + M_PAYLOAD_LENGTH],
      words[at + M_ADDRESS],
      words[at + M_ADDRESS + 1],
      words[at + M_ADDRESS + 2],
      words[at + M_ADDRESS + 3],
      words[at + M_DESTINATION_PORT],
    );
    if (words[at + M_SEND_CHARGE] > 0) {
      const a = at + M_ADDRESS;
      const port = this.out.portTo(words[a], words[a + 1], words[a + 2], words[a + 3]);
      this.ledger.add(port, socket, words[at + M_GENERATION], words[at + M_SEND_CHARGE]);
    }
  }

  /** A datagram that arrived on another lcore for a socket of this one. */
  private deliverForeign(words: Int32Array, at: number): void {
    const socket = words[at + M_SOCKET];
    const reader = this.sockets.get(socket);
    if (reader === undefined || reader.generation !== words[at + M_GENERATION]) {
      this.counters[C.StaleMessages]++;
      this.free(words[at + M_HOME], words[at + M_FRAME]);
      return;
    }
    const number = this.handlers.all[socket];
    if (number === 0) {
      reader.queue.push(words, at);
      if (reader.onDatagram !== null) this.gather(reader);
      else if (reader.watcher !== null) reader.watcher.arrived();
      return;
    }
    const { datagram } = this;
    datagram.load(words, at, this.shared.memories);
    (this.handlers.list[number] as Handler)(datagram);
    if (datagram.owned) this.release(datagram);
    datagram.comeHome(this.thread, this.views);
  }

  protected override free(home: number, frame: number): void {
    if (home === this.thread) this.pool.give(frame);
    else super.free(home, frame);
  }

  // ---- sockets of this lcore ----

  override setHandler(socket: UdpSocket, handler: Handler | null): void {
    this.handlers.set(socket.id, socket.direct);
    if (handler !== null) this.drainQueue(socket, handler);
  }

  override tableChanged(): void {
    this.control();
  }
}
