/**
 * A thread's end of the socket layer: the sockets it reads, and its rings to and from the lcores. An lcore's Stack is one
 * end, an application thread's is another; both hold sockets of the same class.
 */
import { ERRNO, sys } from "af-xdp-bindings";
import type { RingConsumer, RingProducer } from "../queues/ring.ts";
import { Coalescer } from "./coalesce.ts";
import { C, newCounters } from "./counters.ts";
import { Datagram } from "./datagram.ts";
import { excerptLength, isHardMessage, loadError, toldLength } from "./error-queue.ts";
import { type Fib, ROUTE_SOURCE } from "./fib.ts";
import { FrameReturns } from "./frame-returns.ts";
import { isReported, KernelPath } from "./kernel-path.ts";
import { M_CHARGE, M_FRAME, M_GENERATION, M_HOME, M_KIND, M_SOCKET, MSG_TCP_DRAIN } from "./message.ts";
import { PORTS_MAX, type Shared } from "./shared.ts";
import { SpecialSend } from "./special-send.ts";
import type { TcpListener } from "./stream/tcp-listener.ts";
import type { TcpConnectOptions, TcpListenOptions, TcpOpener } from "./stream/tcp-open.ts";
import { connectTcp, listenTcp } from "./stream/tcp-open.ts";
import type { TcpHandlers, TcpSocket } from "./stream/tcp-socket.ts";
import { DROPS, F_RXQ_OVFL, FLAGS, GENERATION, INCOMING_CPU, PLACEHOLDER, type SocketTable } from "./table.ts";
import type { UdpSocket } from "./udp-socket.ts";
import { readInt32 } from "./wire/views.ts";

/** Bytes before the payload in a frame to send: room for Ethernet, two tags, IPv6, UDP or TCP with options. */
export const TX_HEADROOM = 128;

/** Longest payload that is copied byte by byte. */
const LOOP_BYTES_MAX = 32;

/** Who sends a datagram: an lcore, later; or the kernel, now, so that the caller hears what it says. */
export const BY_LCORE = 0;
export const BY_KERNEL = 1;

export abstract class Endpoint {
  /** Thread number in the mesh. */
  readonly thread: number;
  readonly shared: Shared;
  readonly table: SocketTable;
  readonly counters: Float64Array;
  /** This thread's sockets by id. */
  readonly sockets = new Map<number, UdpSocket>();
  /** Sockets with an onWritable to be called: their last send gave -EAGAIN. */
  protected readonly blocked = new Set<UdpSocket>();
  /** Bytes that the next commitFrame() is to charge to its socket's send buffer, 0 where that has no bound. */
  sendCharge = 0;
  readonly specialSend = new SpecialSend(this);
  readonly coalescer: Coalescer;
  /** Sockets that coalesce, with datagrams that wait for their handlers. */
  protected readonly gathered: UdpSocket[] = [];
  protected readonly kernelPath: KernelPath;
  /** The datagram handed to handlers, one at a time. */
  protected readonly datagram: Datagram;
  /** Rings to each lcore. The own entry of an lcore is not used. */
  protected readonly toLcore: RingProducer[] = [];
  /** Rings from each lcore. */
  protected readonly fromLcore: RingConsumer[] = [];
  private readonly returns: FrameReturns;

  constructor(thread: number, shared: Shared) {
    this.thread = thread;
    this.shared = shared;
    this.table = shared.table;
    this.kernelPath = new KernelPath(shared.table, this.sendsItself);
    this.counters = newCounters();
    const { mesh } = shared;
    for (let l = 0; l < mesh.lcores; l++) {
      this.toLcore.push(mesh.producer(thread, l));
      this.fromLcore.push(mesh.consumer(l, thread));
    }
    this.returns = new FrameReturns(this.toLcore);
    this.datagram = new Datagram(this, shared.memories[0]);
    this.coalescer = new Coalescer(this);
  }

  /** This thread's copy of the routes. */
  abstract readonly fib: Fib;

  /** Descriptor that an lcore is to poll(2) for POLLIN while it sleeps, beside those of its ports; -1 for none. */
  get fd(): number {
    return -1;
  }

  /** lcore from whose frames a socket of this thread sends. */
  abstract senderOf(socket: UdpSocket): number;

  /** Whether a send of the socket would find a frame now. */
  abstract hasFrame(socket: UdpSocket): boolean;

  /** Whether a send of the socket would find room now. */
  canSend(socket: UdpSocket): boolean {
    return !socket.sendsTooMuch && this.hasFrame(socket);
  }

  /** Whether sockets send by themselves; else a kernel socket of each does, and has its options. */
  get sendsItself(): boolean {
    return true;
  }

  /** Largest IP packet to an address that is sent without the kernel or the host protocols; 0 where none is. */
  fastMtu(_w0: number, _w1: number, _w2: number, _w3: number): number {
    return 0;
  }

  /** Who sends a datagram of the socket: BY_LCORE, BY_KERNEL, or nobody: -errno. */
  wayOf(_socket: UdpSocket, _length: number, _w0: number, _w1: number, _w2: number, _w3: number): number {
    return BY_LCORE;
  }

  /**
   * Has what was sent leave until a send of the socket finds room. A thread waits for it as long as that is of use and
   * SO_SNDTIMEO allows; no handler is called. Returns whether there is room.
   */
  awaitRoom(socket: UdpSocket): boolean {
    return this.awaitFrames(socket) && this.canSend(socket);
  }

  /** awaitRoom() whatever the socket's send buffer says. */
  awaitFrames(socket: UdpSocket): boolean {
    this.flush();
    return this.hasFrame(socket);
  }

  /** Takes a frame of that lcore to send from: its offset, or -1 when there is none. */
  abstract takeFrame(lcore: number): number;

  /** Gives back a frame from takeFrame(). */
  abstract returnFrame(lcore: number, frame: number): void;

  /**
   * Sends the `length` bytes that lie at TX_HEADROOM of a frame from takeFrame(). The frame is given away whatever
   * happens. Returns `length`, or -errno.
   */
  abstract commitFrame(
    socket: UdpSocket,
    lcore: number,
    frame: number,
    length: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    port: number,
  ): number;

  /** Bytes of payload that a frame from takeFrame() holds. */
  payloadMax(lcore: number): number {
    return this.shared.frameSizes[lcore] - TX_HEADROOM;
  }

  /** commitFrame() for a frame that the application has filled itself. */
  sendFrame(
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
    return this.commitFrame(socket, lcore, frame, length, w0, w1, w2, w3, port);
  }

  /** Sends a datagram. The payload is `bytes[offset .. offset + length)`. Returns `length`, or -errno. */
  send(
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
    const lcore = this.senderOf(socket);
    if (length > this.payloadMax(lcore)) {
      return this.sendLarge(socket, bytes, offset, length, w0, w1, w2, w3, port);
    }
    const frame = this.takeFrame(lcore);
    if (frame < 0) return this.refuse(socket);
    const memory = this.shared.memories[lcore].bytes;
    const at = frame + TX_HEADROOM;
    // Up to 32 bytes the loop is as fast as the call (40 ns), at 64 it takes twice as long (Bun 1.4.5, AMD EPYC 7003). A
    // part of a buffer would need a view to be made.
    if (length > LOOP_BYTES_MAX && offset === 0 && bytes.length === length) memory.set(bytes, at);
    else for (let i = 0; i < length; i++) memory[at + i] = bytes[offset + i];
    const result = this.commitFrame(socket, lcore, frame, length, w0, w1, w2, w3, port);
    if (result === -ERRNO.EAGAIN && socket.onWritable !== null) this.blocked.add(socket);
    return result;
  }

  /** A datagram that fits no frame: the kernel takes it apart, or says what is wrong with it. */
  private sendLarge(
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
    if (this.table.get(socket.id, PLACEHOLDER) < 0) {
      return this.sendLargeViaHost(socket, bytes, offset, length, w0, w1, w2, w3, port);
    }
    return this.sendByKernel(socket, sys.transientAddressOf(bytes) + offset, length, w0, w1, w2, w3, port);
  }

  /**
   * Sends `length` bytes at a memory address by the placeholder: the errno is the kernel's. It sends them in datagrams of
   * `segment` bytes, 0: as the placeholder's UDP_SEGMENT says.
   */
  sendByKernel(
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
    const { kernelPath, table } = this;
    if (!socket.hearsErrors || this.interfaceWith(w0, w1, w2, w3) < 0) {
      const result = kernelPath.send(socket.id, address, length, w0, w1, w2, w3, port, segment);
      return this.sentByKernel(socket, result, length);
    }
    // To this host: what the kernel has to say of it is there when the call returns, and with the mutex held the control
    // thread does not take it first.
    table.mutex.lock();
    const result = kernelPath.send(socket.id, address, length, w0, w1, w2, w3, port, segment);
    if (result >= 0 && kernelPath.takeRefusal(socket.id)) socket.refused();
    table.mutex.unlock();
    return this.sentByKernel(socket, result, length);
  }

  /**
   * Has the placeholder of a socket send as the caller says, who gives its result again. An error that may be that of an
   * earlier datagram is told another way: it is asked once more.
   */
  sendThrough(socket: UdpSocket, attempt: () => number): number {
    this.flush();
    let result = attempt();
    if (result < 0 && isReported(-result)) result = attempt();
    return this.sentByKernel(socket, result, result);
  }

  /** Counts what the placeholder was given. Returns what the socket is to be told. */
  protected sentByKernel(socket: UdpSocket, result: number, length: number): number {
    this.counters[result < 0 ? C.UdpOutErrors : C.UdpOutViaKernel]++;
    // Its queue was full: the kernel tells only those who asked for errors (udp_send_skb), and the placeholder always has.
    return result === -ERRNO.ENOBUFS && !socket.queuesErrors ? length : result;
  }

  /** The host protocols take it apart: it goes to their thread in one of the large frames that it lends. */
  protected sendLargeViaHost(
    _socket: UdpSocket,
    _bytes: Uint8Array,
    _offset: number,
    _length: number,
    _w0: number,
    _w1: number,
    _w2: number,
    _w3: number,
    _port: number,
  ): number {
    return -ERRNO.EMSGSIZE;
  }

  /** Nothing to send from now: counted, and what is gathered goes out so that frames come back. */
  refuse(socket: UdpSocket): number {
    this.counters[C.UdpSndbufErrors]++;
    if (socket.onWritable !== null) this.blocked.add(socket);
    this.flush();
    return -ERRNO.EAGAIN;
  }

  /** Index of the interface with an own address (four words, IPv4 mapped), -1 for none. */
  interfaceWith(w0: number, w1: number, w2: number, w3: number): number {
    return this.freshFib().interfaceOf(w0, w1, w2, w3);
  }

  hasInterface(ifindex: number): boolean {
    return this.freshFib().findLink(ifindex) >= 0;
  }

  /** fib_compute_spec_dst(): the own IPv4 address that a datagram came to, or by which its sender is answered. */
  specificAddress(destination: number, source: number): number {
    const fib = this.freshFib();
    if (fib.isLocal(0, 0, 0xffff, destination)) return destination;
    const route = fib.findRoute(0, 0, 0xffff, source);
    return route < 0 ? 0 : fib.route[route + ROUTE_SOURCE + 3];
  }

  /** Largest IP packet on the way to an address, bytes; 0 where there is no way. */
  mtuTo(w0: number, w1: number, w2: number, w3: number): number {
    return this.freshFib().mtuTo(w0, w1, w2, w3);
  }

  protected freshFib(): Fib {
    if (this.fib.isStale()) this.fib.refresh();
    return this.fib;
  }

  /** Looks once for datagrams, without blocking. Returns how many messages it handled. */
  abstract poll(): number;

  /** poll() for the sake of a socket without a handler, whose reader wants more than is in its queue. */
  pollFor(_socket: UdpSocket): number {
    return this.poll();
  }

  /** Blocks until something may have come, or the time is over (milliseconds). */
  abstract block(timeoutMs: number): void;

  /** block() by the caller's own wait, which ends when the descriptor it is given is readable. */
  blockOn(_wait: (bell: number) => void): void {
    throw new Error("this thread must not block");
  }

  /** Resolves when something may have come. */
  abstract arrival(): Promise<void>;

  /** A socket now wants datagrams by handler, those in its queue first; with null they are queued. */
  setHandler(socket: UdpSocket, handler: ((datagram: Datagram) => void) | null): void {
    if (handler !== null) this.drainQueue(socket, handler);
  }

  /** Ends every wait for arrivals on this thread, so that waiters look again. */
  abstract wakeWaiters(): void;

  /** A socket's onWritable was set or taken away. */
  watchWritable(socket: UdpSocket): void {
    if (socket.onWritable === null) this.blocked.delete(socket);
  }

  /** A socket's onError was set or taken away. */
  watchErrors(_socket: UdpSocket): void {}

  /** Calls a socket's onError: now, or where that would be in the middle of a send, when it is over. */
  tellError(socket: UdpSocket, errno: number): void {
    socket.onError?.(errno);
  }

  /** Brings what the network has reported for a socket up to date, where it waits in a socket of the kernel. */
  lookForErrors(_socket: UdpSocket): void {}

  /** Index of the interface by which a datagram came, 0 where nobody has told. */
  interfaceOf(datagram: Datagram): number {
    const { shared } = this;
    // Frames of the control thread are of the kernel's making: where the MAC addresses would be stands the interface.
    return datagram.home === shared.controlThread ? readInt32(datagram.memory, datagram.frame) : shared.ifindex;
  }

  /** A word that the kernel's stack has left of a datagram, 0 where it came another way: see writeNotes. */
  kernelNote(datagram: Datagram, at: number): number {
    return datagram.home === this.shared.controlThread ? readInt32(datagram.memory, datagram.frame + at) : 0;
  }

  /** One socket more, or less, that keeps the event loop alive. */
  retain(_count: 1 | -1): void {}

  /** Tells the sockets whose sends gave -EAGAIN, and which now would find room. */
  protected resumeBlocked(): void {
    for (const socket of this.blocked) {
      if (!this.canSend(socket)) continue;
      this.blocked.delete(socket);
      socket.onWritable?.();
    }
  }

  /** A socket of this thread is bound; a flow of one is connected; one of them is about to be closed. */
  opened(_socket: UdpSocket): void {}

  flowOpened(_flow: UdpSocket): void {}

  closing(_socket: UdpSocket): void {}

  /** SO_INCOMING_CPU: see UdpSocket. */
  incomingCpu(socket: UdpSocket): number {
    const at = this.lastPort(socket);
    return at < 0 ? this.table.get(socket.id, INCOMING_CPU) : this.shared.portInfo[at];
  }

  preferCpu(socket: UdpSocket, cpu: number): void {
    this.table.mutex.hold(() => {
      this.table.set(socket.id, INCOMING_CPU, cpu);
      this.table.changed(socket.id);
    });
  }

  incomingNapiId(socket: UdpSocket): number {
    const at = this.lastPort(socket);
    return at < 0 ? 0 : this.shared.portInfo[at + 1];
  }

  /** Index in `portInfo` of the port of the socket's last datagram, -1 before the first. */
  private lastPort(socket: UdpSocket): number {
    const last = this.table.lastRx[socket.id] - 1;
    return last < 0 ? -1 : ((last >> 8) * PORTS_MAX + (last & 0xff)) * 2;
  }

  /** Brings the drop count of a socket, or of all this thread has, up to date where somebody else counts too. */
  countDrops(_socket: UdpSocket | null): void {}

  /** Whether sockets can no longer be opened: the thread has left, or the engine has stopped. */
  get closed(): boolean {
    return false;
  }

  /** Called when this thread has bound, connected or closed a socket: its own lookups must not be older than that. */
  tableChanged(): void {}

  /** Called before a socket is closed: what it has sent must have left before its address is given up. */
  settle(): void {}

  /** An empty datagram to receive into. */
  newDatagram(): Datagram {
    return new Datagram(this, this.shared.memories[0]);
  }

  /** One past the last byte a payload in this frame of an lcore may use. */
  frameEnd(home: number, frame: number): number {
    const size = this.shared.frameSizes[home];
    return (frame & -size) + size;
  }

  /** MSG_ERROR from the lcore `home`: the network reports an error about what a socket has sent. */
  protected acceptError(home: number, words: Int32Array, at: number): void {
    const frame = words[at + M_FRAME];
    let payload = new Uint8Array(0);
    let told = payload;
    if (frame >= 0) {
      const { bytes } = this.shared.memories[home];
      const end = frame + excerptLength(words, at);
      payload = bytes.slice(frame, end);
      told = bytes.slice(end, end + toldLength(words, at));
      this.free(home, frame);
    }
    const socket = this.sockets.get(words[at + M_SOCKET]);
    if (socket === undefined || socket.generation !== words[at + M_GENERATION]) this.counters[C.StaleMessages]++;
    else socket.fail(loadError(words, at, payload, told), isHardMessage(words, at));
  }

  /** A datagram was queued at a socket that has a handler and coalesces: it is called at the end of the burst. */
  protected gather(socket: UdpSocket): void {
    if (socket.queue.length === 1 || !this.gathered.includes(socket)) this.gathered.push(socket);
  }

  /** Calls the handlers of such sockets. Those that are left when one throws have their turn the next time. */
  protected deliverGathered(): void {
    const { gathered } = this;
    while (gathered.length > 0) {
      const socket = gathered[0];
      this.deliverQueue(socket);
      gathered.shift();
    }
  }

  /** Hands what waits at a socket to its handler, in the socket's own Datagram. */
  private deliverQueue(socket: UdpSocket): void {
    const { groDatagram } = socket;
    // A handler that sets another one while it has the datagram: the other has those behind it.
    if (groDatagram.owned || socket.delivering) return;
    socket.delivering = true;
    try {
      for (let handler = socket.onDatagram; handler !== null; handler = socket.onDatagram) {
        if (!socket.take(groDatagram)) break;
        handler(groDatagram);
        groDatagram.release();
      }
    } finally {
      groDatagram.release();
      socket.delivering = false;
    }
  }

  /** A handler set while datagrams wait takes those first, in order, each as an object of its own. */
  protected drainQueue(socket: UdpSocket, handler: (datagram: Datagram) => void): void {
    if (socket.queue.length === 0) return;
    if (socket.coalesces) {
      this.deliverQueue(socket);
      return;
    }
    const datagram = this.newDatagram();
    while (socket.onDatagram === handler && socket.queue.shift(datagram, this.shared.memories)) {
      try {
        handler(datagram);
      } finally {
        datagram.release();
      }
    }
  }

  /** See Datagram.reply. */
  reply(datagram: Datagram, length: number): number {
    if (!datagram.owned) return datagram.segment > 0 ? -ERRNO.EOPNOTSUPP : -ERRNO.EINVAL;
    if (length < 0 || datagram.offset + length > this.frameEnd(datagram.home, datagram.frame)) return -ERRNO.EMSGSIZE;
    this.credit(datagram);
    return this.sendReply(datagram, length);
  }

  /** Gives a datagram's frame back. */
  release(datagram: Datagram): void {
    datagram.owned = false;
    this.credit(datagram);
    this.free(datagram.home, datagram.frame);
  }

  /**
   * A slot for a message to the thread of the host protocols, which is waited for: what goes there must not be lost. -1:
   * the engine has stopped.
   */
  claimForHost(): { ring: RingProducer; at: number } {
    const { hostThread } = this.shared;
    return { ring: this.toLcore[hostThread], at: this.claimSurely(hostThread) };
  }

  /** Has what was sent leave although the caller will not come back to an event loop: it may block next. */
  sendNow(): void {
    this.flush();
  }

  /** This thread's way to TCP; null: there is none. */
  tcpOpener(): TcpOpener | null {
    return null;
  }

  /** A TCP socket that listens, whose connections this thread has. Throws SysError. */
  listen(options: TcpListenOptions, handlers: TcpHandlers): TcpListener {
    return listenTcp(this, options, handlers);
  }

  /** A TCP connection of this thread. Throws SysError. */
  connect(options: TcpConnectOptions, handlers: TcpHandlers): TcpSocket {
    return connectTcp(this, options, handlers);
  }

  /** A record of the socket table is to be closed when no connection has its port any more: the first lcore sees to it. */
  drainPort(record: number): void {
    const ring = this.toLcore[0];
    const at = this.claimSurely(0);
    if (at < 0) return;
    ring.words[at + M_KIND] = MSG_TCP_DRAIN;
    ring.words[at + M_SOCKET] = record;
    ring.words[at + M_GENERATION] = this.table.get(record, GENERATION);
  }

  /** Ring to an lcore. */
  ringTo(lcore: number): RingProducer {
    return this.toLcore[lcore];
  }

  /** Sends the messages gathered so far and wakes their readers where they sleep. */
  flush(): void {
    const { returns, toLcore } = this;
    for (let l = 0; l < toLcore.length; l++) {
      if (returns.has(l)) this.sendReturns(l);
      if (toLcore[l].publish()) this.wake(l);
    }
  }

  /** Hands the frame to its lcore to be sent back. */
  protected sendReply(datagram: Datagram, length: number): number {
    const ring = this.toLcore[datagram.home];
    const at = ring.claim();
    if (at < 0) {
      this.release(datagram);
      this.counters[C.UdpSndbufErrors]++;
      return -ERRNO.EAGAIN;
    }
    datagram.storeReply(ring.words, at, length);
    datagram.owned = false;
    return length;
  }

  /** Gives a frame back to its lcore with the next flush. */
  protected free(home: number, frame: number): void {
    const { returns } = this;
    if (returns.isFull(home)) this.sendReturns(home);
    returns.add(home, frame);
  }

  protected wake(thread: number): void {
    this.counters[C.Wakeups]++;
    this.shared.mesh.ring(thread);
  }

  /** Credits what the datagram was charged to its socket's receive buffer: it has been taken. */
  private credit(datagram: Datagram): void {
    const { charge, generation, home, socketId } = datagram;
    if (charge === 0) return;
    this.creditBytes(socketId, generation, home, charge);
    datagram.charge = 0;
  }

  private creditBytes(socket: number, generation: number, home: number, bytes: number): void {
    // A datagram that outlived its socket was charged to it: whoever has the id now starts from nothing.
    if (this.table.get(socket, GENERATION) !== generation) return;
    const plane = this.table.credited[home];
    plane[socket] = (plane[socket] + bytes) | 0;
  }

  /** Gives back the frame of a MSG_DELIVER that has been copied. */
  discard(words: Int32Array, at: number): void {
    const home = words[at + M_HOME];
    this.creditBytes(words[at + M_SOCKET], words[at + M_GENERATION], home, words[at + M_CHARGE]);
    this.free(home, words[at + M_FRAME]);
  }

  /** Datagrams that a socket has lost so far, where it asked to be told (SO_RXQ_OVFL). */
  dropsOf(socket: number): number {
    const { table } = this;
    if ((table.get(socket, FLAGS) & F_RXQ_OVFL) === 0) return 0;
    return Atomics.load(table.records, socket * table.stride + DROPS) >>> 0;
  }

  /** A frame that is not given back is lost; without lcores it is of no more use to anybody. */
  private sendReturns(home: number): void {
    this.returns.send(home, this.claimSurely(home));
  }

  /**
   * A slot of the ring to an lcore for a message that must not be lost: it is full only while the lcore is far behind, and
   * is waited for. -1: the engine has stopped.
   */
  protected claimSurely(lcore: number): number {
    const ring = this.toLcore[lcore];
    let at = ring.claim();
    while (at < 0 && !this.shared.mesh.isStopped()) {
      if (ring.publish()) this.wake(lcore);
      at = ring.claim();
    }
    return at;
  }
}
