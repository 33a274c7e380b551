/**
 * A UDP socket. The same class serves an lcore's own module and any other thread; the thread that opened it reads it.
 *
 * Calls that set up (open, bind, connect) throw SysError as the kernel's call would fail. Calls that move data (send,
 * receive) return a count or -errno and never throw.
 */
import { check, ERRNO, SysError } from "af-xdp-bindings";
import type { Datagram } from "./datagram.ts";
import { type Endpoint, TX_HEADROOM } from "./endpoint.ts";
import { addressBytes, addressWords } from "./fib.ts";
import { DatagramQueue } from "./queue.ts";
import { SendFrame } from "./send-frame.ts";
import { SOCKADDR_IN_BYTES, sockaddrOf } from "./sockaddr.ts";
import { SocketControl } from "./socket-control.ts";
import {
  AF_INET,
  AF_INET6,
  BOUND,
  CONNECTED,
  DROPS,
  F_CHILD,
  F_V6ONLY,
  F_WILDCARD,
  FAMILY,
  FLAGS,
  GENERATION,
  IPPROTO_UDP,
  LOCAL,
  LOCAL_PORT,
  OPEN,
  PLACEHOLDER,
  REMOTE,
  REMOTE_PORT,
  STATE,
} from "./table.ts";
import { addressAt, isPort, parseCached, type SocketAddress, wordsAt } from "./text-address.ts";
import { bindRecord, connectRecord, followRecord } from "./udp-connect.ts";
import { createFlow, openRecord, type UdpOptions, validate } from "./udp-open.ts";
import { formatIp, ip } from "./wire/address.ts";

export { SendFrame } from "./send-frame.ts";
export type { SocketAddress } from "./text-address.ts";
export type { UdpOptions } from "./udp-open.ts";

export type Handler = (datagram: Datagram) => void;

export class UdpSocket extends SocketControl {
  readonly generation: number;
  /** Datagrams waiting to be received, for a socket without a handler. */
  readonly queue = new DatagramQueue();
  private handler: Handler | null = null;
  /** Flows of this socket, and the socket this one is a flow of. */
  private flows: Set<UdpSocket> | null = null;
  private parent: UdpSocket | null = null;

  /** Opens a socket and binds it as `options` say; use `Engine.udp` or `Lcore.udp`. Throws SysError. */
  static open(endpoint: Endpoint, options: UdpOptions): UdpSocket {
    const bytes = ip(options.address ?? "0.0.0.0");
    const port = options.port ?? 0;
    const socket = UdpSocket.create(endpoint, bytes.length === 4 ? AF_INET : AF_INET6, options);
    const bound = socket.bindTo(sockaddrOf(bytes, port));
    if (bound < 0) socket.close();
    check(bound, `bind(${formatIp(bytes)}, ${port})`, {
      EADDRINUSE: "another socket, of the engine or of the kernel, holds this port (ss -lunp shows whose)",
      EACCES: "ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE",
      EADDRNOTAVAIL: "no interface has this address",
      ENOSPC: "too many reuseport groups, or members of one",
      EINVAL: "an IPv4-mapped address on an IPv6-only socket",
    });
    return socket;
  }

  /** socket(2): a socket that is not bound yet, AF_INET or AF_INET6. Of the options all but address and port. Throws SysError. */
  static create(endpoint: Endpoint, family: number, options: UdpOptions = {}): UdpSocket {
    validate(options);
    check(endpoint.closed ? -ERRNO.EBADF : 0, "socket", {
      EBADF: "the engine has stopped, or this thread has left it",
    });
    return new UdpSocket(endpoint, openRecord(endpoint, family, options));
  }

  private readonly family: number;
  /** Which addresses it may send to, SPEAKS_... */
  private speaks: number;

  private constructor(endpoint: Endpoint, id: number) {
    super(endpoint, id);
    this.family = endpoint.table.get(id, FAMILY);
    this.speaks = SPEAKS_BOTH;
    this.familyChanged();
    this.generation = endpoint.table.get(id, GENERATION);
    endpoint.sockets.set(id, this);
    endpoint.retain(1);
  }

  protected override get self(): UdpSocket {
    return this;
  }

  protected override get sharesPlaceholder(): boolean {
    return this.parent !== null || (this.flows?.size ?? 0) > 0;
  }

  /** Called for each datagram, on this socket's thread. Null: datagrams wait in the queue, up to the receive buffer. */
  get onDatagram(): Handler | null {
    return this.handler;
  }

  set onDatagram(handler: Handler | null) {
    this.handler = handler;
    this.handlerChanged();
  }

  /** The handler, where each datagram goes to it as it comes; null where they are queued first. */
  direct: Handler | null = null;
  /** True while its handler is called for what is in the queue. */
  delivering = false;
  private gro: Datagram | null = null;

  /** What its handler is given where it coalesces. */
  get groDatagram(): Datagram {
    this.gro ??= this.newDatagram();
    return this.gro;
  }

  protected override handlerChanged(): void {
    this.direct = this.coalesces ? null : this.handler;
    this.endpoint.setHandler(this, this.handler);
  }

  /** Takes the next datagram from the queue, with those that belong to it where it coalesces. */
  take(datagram: Datagram): boolean {
    const { endpoint, queue } = this;
    if (!queue.shift(datagram, endpoint.shared.memories)) return false;
    if (this.coalesces) endpoint.coalescer.extend(datagram, queue);
    return true;
  }

  /** Local address. */
  get address(): SocketAddress {
    return addressAt(this.endpoint.table, this.id, LOCAL, LOCAL_PORT);
  }

  /** Remote address of a connected socket, or null. */
  get remoteAddress(): SocketAddress | null {
    return this.endpoint.table.get(this.id, STATE) === CONNECTED
      ? addressAt(this.endpoint.table, this.id, REMOTE, REMOTE_PORT)
      : null;
  }

  get port(): number {
    return this.endpoint.table.get(this.id, LOCAL_PORT);
  }

  /** SO_INCOMING_CPU: the CPU on which the last datagram was processed; before the first, what was set, or -1. */
  get incomingCpu(): number {
    return this.endpoint.incomingCpu(this);
  }

  set incomingCpu(cpu: number) {
    this.endpoint.preferCpu(this, cpu);
  }

  /** SO_INCOMING_NAPI_ID: NAPI ID of the queue of the last datagram, 0 before the first or where the queue has none. */
  get incomingNapiId(): number {
    return this.endpoint.incomingNapiId(this);
  }

  /** Datagrams lost because this socket's receive buffer, or its thread's share of frames, was full. */
  get drops(): number {
    this.endpoint.countDrops(this);
    return Atomics.load(this.endpoint.table.records, this.id * this.endpoint.table.stride + DROPS) >>> 0;
  }

  /**
   * Connects: only datagrams from this address are received, and send() needs no destination. Throws SysError.
   */
  connect(port: number, address: string): void {
    const bytes = this.remoteBytes(address, "connect");
    if (!isPort(port)) throw new RangeError(`connect: port ${port}: a whole number from 1 to 65535`);
    check(this.connectTo(sockaddrOf(bytes, port)), `connect(${address}, ${port})`, {
      ENETUNREACH: "no route leads there",
      EHOSTUNREACH: "no route leads there",
      EISCONN: "it is a flow of another socket",
    });
  }

  /** Dissolves the connection (connect with AF_UNSPEC); the port stays. Throws SysError: EADDRINUSE when somebody else has it now. */
  disconnect(): void {
    const { port } = this;
    check(this.connectTo(new Uint8Array(SOCKADDR_IN_BYTES)), "connect(AF_UNSPEC)");
    // The kernel gives up a port that it chose itself (__udp_disconnect in net/ipv4/udp.c): it is asked for.
    if (this.port === port) return;
    const words = wordsAt(this.endpoint.table, this.id, LOCAL);
    const address = this.family === AF_INET ? addressBytes(words[0], words[1], words[2], words[3]) : bytesOf(words);
    check(this.bindTo(sockaddrOf(address, port)), `bind(${formatIp(address)}, ${port})`, {
      EADDRINUSE:
        "dissolving a connection frees a port that was not asked for, and another socket was quicker to take it",
    });
  }

  /**
   * A connected socket for the flow of a datagram that this socket received: on the same address, port and thread, and
   * from now on what comes from that sender goes to it. It is found by its 4-tuple, so a server may hold a million. It
   * is closed with this socket. Throws SysError: EINVAL for a datagram from port 0, which cannot be answered.
   */
  flow(datagram: Datagram): UdpSocket {
    const local = Int32Array.from([0, 1, 2, 3], (i) => datagram.destinationWord(i));
    const remote = Int32Array.from([0, 1, 2, 3], (i) => datagram.sourceWord(i));
    return this.flowOf(local, remote, datagram.sourcePort);
  }

  /** flow() for addresses of four words each, IPv4 mapped. */
  flowOf(local: Int32Array, remote: Int32Array, remotePort: number): UdpSocket {
    check(this.closed ? -ERRNO.EBADF : 0, "connect", { EBADF: "the socket is closed" });
    const { endpoint } = this;
    const flow = new UdpSocket(endpoint, createFlow(endpoint, this.id, local, remote, remotePort));
    flow.parent = this;
    if (this.segment > 0) flow.segmentSends(this.segment);
    if (this.sendLimit > 0) flow.boundSends(this.sendLimit);
    if (this.coalesces) flow.coalesce(true);
    endpoint.flowOpened(flow);
    this.flows ??= new Set();
    this.flows.add(flow);
    return flow;
  }

  /**
   * Sends a datagram: to `port` and `address`, or to the connected peer.
   * @returns bytes sent, or -errno: -EAGAIN when there is no room now, -EMSGSIZE when it fits no packet,
   * -EDESTADDRREQ without destination or connection, -EBADF when the socket is closed, -EINVAL for what is no port,
   * -EAFNOSUPPORT or -ENETUNREACH for an address of the family that the socket does not speak, the pending error (see
   * takeError), and what the kernel says where the datagram goes by it.
   */
  send(data: Uint8Array | string, port = 0, address = ""): number {
    if (this.closed) return -ERRNO.EBADF;
    const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
    if (port === 0) return this.sendConnected(bytes, 0, bytes.length);
    const words = addressWords(parseCached(address));
    return this.sendTo(bytes, 0, bytes.length, port, words[0], words[1], words[2], words[3]);
  }

  /** send() of a part of a buffer to the connected peer. Nothing is allocated. */
  sendConnected(bytes: Uint8Array, offset: number, length: number): number {
    if (this.closed) return -ERRNO.EBADF;
    const { table } = this.endpoint;
    const { records } = table;
    const at = this.id * table.stride;
    if (records[at + STATE] !== CONNECTED) return -ERRNO.EDESTADDRREQ;
    const w0 = records[at + REMOTE];
    const w1 = records[at + REMOTE + 1];
    const w2 = records[at + REMOTE + 2];
    const w3 = records[at + REMOTE + 3];
    const port = records[at + REMOTE_PORT];
    if (this.pending !== 0) return -this.takeError();
    if (this.sendsSpecially) return this.sendSpecially(bytes, offset, length, port, w0, w1, w2, w3, this.segment);
    return this.endpoint.send(this, bytes, offset, length, w0, w1, w2, w3, port);
  }

  /** send() of a part of a buffer to an address given as four words, IPv4 mapped. Nothing is allocated. */
  sendTo(
    bytes: Uint8Array,
    offset: number,
    length: number,
    port: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
  ): number {
    if (this.closed) return -ERRNO.EBADF;
    const result = this.checkDestination(port, w0, w1, w2);
    if (result < 0) return result;
    if (this.pending !== 0) return -this.takeError();
    if (this.sendsSpecially) return this.sendSpecially(bytes, offset, length, port, w0, w1, w2, w3, this.segment);
    return this.endpoint.send(this, bytes, offset, length, w0, w1, w2, w3, port);
  }

  /**
   * Sends one payload as datagrams of `segment` bytes (1 to 65,535), the last one of what is left: sendmsg(2) with UDP_SEGMENT among its
   * control messages. At most 128 datagrams and 65,507 bytes (over IPv6 65,527).
   * @returns bytes sent, or -errno as send(), and as UDP_SEGMENT: -EMSGSIZE when a segment exceeds the path MTU or the
   * payload the most there is, -EINVAL for too many segments, or without checksums
   */
  sendSegments(data: Uint8Array, segment: number, port = 0, address = ""): number {
    if (this.closed) return -ERRNO.EBADF;
    if (!Number.isInteger(segment) || segment < 1 || segment > 65535) return -ERRNO.EINVAL;
    const { records, stride } = this.endpoint.table;
    const at = this.id * stride;
    const toPeer = port === 0;
    if (toPeer && records[at + STATE] !== CONNECTED) return -ERRNO.EDESTADDRREQ;
    const words = toPeer ? wordsAt(this.endpoint.table, this.id, REMOTE) : addressWords(parseCached(address));
    const to = toPeer ? records[at + REMOTE_PORT] : port;
    const w0 = words[0];
    const w1 = words[1];
    const w2 = words[2];
    const w3 = words[3];
    const result = this.checkDestination(to, w0, w1, w2);
    if (result < 0) return result;
    if (this.pending !== 0) return -this.takeError();
    return this.sendSpecially(data, 0, data.length, to, w0, w1, w2, w3, segment);
  }

  private sendSpecially(
    bytes: Uint8Array,
    offset: number,
    length: number,
    port: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    segment: number,
  ): number {
    return this.endpoint.specialSend.send(this, bytes, offset, length, w0, w1, w2, w3, port, segment);
  }

  /** Resolves when a send that gave -EAGAIN may be tried again. Rejects with SysError EBADF when the socket is closed. */
  async writable(): Promise<void> {
    while (!this.closed) {
      if (this.endpoint.canSend(this)) return;
      await this.endpoint.arrival();
    }
    throw new SysError(ERRNO.EBADF, "send", "the socket is closed");
  }

  /**
   * Sends several datagrams to one destination (or the connected peer). More than may be under way at once leave in parts,
   * see awaitRoom().
   * @returns how many were taken: fewer than given when awaitRoom() finds no room, or a datagram is refused; -errno when not
   *   even the first was
   */
  sendBatch(payloads: readonly Uint8Array[], port = 0, address = ""): number {
    let sent = 0;
    while (sent < payloads.length) {
      const result = this.send(payloads[sent], port, address);
      if (result >= 0) sent++;
      else if (result !== -ERRNO.EAGAIN || !this.awaitRoom()) return sent === 0 ? result : sent;
    }
    return sent;
  }

  /**
   * Has what was sent leave until a send finds room, for batches of more than may be under way at once. No handler is called
   * meanwhile. A thread waits, blocking, for its lcore: as long as the lcore moves what was sent, however late; while it gives
   * nothing, about 10 ms of its turns, and a second where it takes none. On kernel sockets it waits for the kernel, a second at
   * most. SO_SNDTIMEO is the longest in all; one that is negative waits for nothing. An lcore pushes its queues and does not
   * wait. False: there is no room still.
   */
  awaitRoom(): boolean {
    return !this.closed && this.endpoint.awaitRoom(this);
  }

  /**
   * A frame to send from without copying: write the payload at `frame.memory[frame.offset ..]`, then `frame.send`. Null
   * when there is none now (EAGAIN). It must be sent or cancelled.
   */
  reserve(): SendFrame | null {
    if (this.closed) return null;
    const { endpoint } = this;
    const lcore = endpoint.senderOf(this);
    const frame = endpoint.takeFrame(lcore);
    return frame < 0 ? null : new SendFrame(this, lcore, frame);
  }

  /**
   * Takes the next datagram from the queue into `datagram` (from `newDatagram`), releasing what that held before. Zero
   * copy. Returns its length, -EAGAIN when there is none, -EBADF when the socket is closed, the pending error first of all
   * (see takeError).
   */
  receiveInto(datagram: Datagram): number {
    if (this.closed) return -ERRNO.EBADF;
    if (this.pending !== 0) return -this.takeError();
    // What has come since may belong to what waits.
    if (this.queue.length === 0 || this.coalesces) this.endpoint.pollFor(this);
    datagram.release();
    return this.take(datagram) ? datagram.length : this.nothing();
  }

  /** -EAGAIN, unless looking for datagrams has brought an error to light, or somebody who was called has closed it. */
  private nothing(): number {
    if (this.closed) return -ERRNO.EBADF;
    return this.pending !== 0 ? -this.takeError() : -ERRNO.EAGAIN;
  }

  /** Takes up to `datagrams.length` datagrams at once. Returns how many, or -errno as receiveInto. */
  receiveBatch(datagrams: readonly Datagram[]): number {
    if (this.closed) return -ERRNO.EBADF;
    if (this.pending !== 0) return -this.takeError();
    if (this.queue.length < datagrams.length || this.coalesces) this.endpoint.pollFor(this);
    let count = 0;
    for (; count < datagrams.length; count++) {
      const datagram = datagrams[count];
      datagram.release();
      if (!this.take(datagram)) break;
    }
    return count === 0 && datagrams.length > 0 ? this.nothing() : count;
  }

  /** An empty datagram to receive into. */
  newDatagram(): Datagram {
    return this.endpoint.newDatagram();
  }

  /**
   * The next datagram, waited for without blocking the thread. It must be released (or replied). Rejects with SysError:
   * EBADF when the socket is closed meanwhile, and the pending error (see takeError).
   */
  async receive(): Promise<Datagram> {
    const datagram = this.newDatagram();
    for (;;) {
      const result = this.receiveInto(datagram);
      if (result >= 0) return datagram;
      if (result !== -ERRNO.EAGAIN) throw failedReceive(result);
      await this.endpoint.arrival();
    }
  }

  /**
   * The next datagram, waited for by blocking the thread: for workers. Null when `timeoutMs` is over, SO_RCVTIMEO unless
   * given. Throws SysError as receive() rejects.
   */
  receiveBlocking(timeoutMs = this.receiveTimeoutMs): Datagram | null {
    const datagram = this.newDatagram();
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const result = this.receiveInto(datagram);
      if (result >= 0) return datagram;
      if (result !== -ERRNO.EAGAIN) throw failedReceive(result);
      const left = deadline - performance.now();
      if (left <= 0) return null;
      if (this.busyPollUs === 0 || !this.spin(left)) this.endpoint.block(left);
    }
  }

  /**
   * SO_BUSY_POLL: looks for datagrams again and again, as long as the option says and `leftMs` at most. Returns whether there is
   * something to receive, an error too.
   */
  spin(leftMs: number): boolean {
    const until = performance.now() + Math.min(this.busyPollUs / US_PER_MS, leftMs);
    do {
      this.endpoint.pollFor(this);
      if (this.queue.length > 0 || this.pending !== 0) return true;
    } while (performance.now() < until && !this.closed);
    return false;
  }

  /** Every datagram until the socket is closed; throws SysError for the pending error (see takeError). Each is released when the loop asks for the next one. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Datagram, void> {
    const datagram = this.newDatagram();
    try {
      for (;;) {
        const result = this.receiveInto(datagram);
        if (result >= 0) yield datagram;
        else if (result === -ERRNO.EBADF) return;
        else if (result === -ERRNO.EAGAIN) await this.endpoint.arrival();
        else throw failedReceive(result);
      }
    } finally {
      datagram.release();
      this.endpoint.flush();
    }
  }

  /** Closes. What was sent still leaves, waiting datagrams are dropped, the port is free. Twice does no harm. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    const { endpoint, id } = this;
    const { table, shared } = endpoint;
    for (const flow of this.flows ?? []) flow.close();
    this.parent?.flows?.delete(this);
    endpoint.settle();
    this.direct = null;
    endpoint.setHandler(this, null);
    endpoint.closing(this);
    this.queue.drain(endpoint);
    endpoint.sockets.delete(id);
    if (this.hasRef) endpoint.retain(-1);
    this.onWritable = null;
    let placeholder = -1;
    table.mutex.hold(() => {
      // The engine's end closes every socket; the id may be another's by now.
      if (table.get(id, GENERATION) !== this.generation) return;
      const state = table.get(id, STATE);
      const child = (table.get(id, FLAGS) & F_CHILD) !== 0;
      const port = table.get(id, LOCAL_PORT);
      if (!child) placeholder = table.get(id, PLACEHOLDER);
      const local = wordsAt(table, id, LOCAL);
      table.closeLocked(id);
      if (state >= BOUND && !child) shared.binder.steer(table, IPPROTO_UDP, port, local);
    });
    if (placeholder >= 0) shared.binder.release(placeholder);
    endpoint.tableChanged();
    endpoint.flush();
    endpoint.wakeWaiters();
  }

  /** bind(2). Returns 0 or -errno. */
  bindTo(address: Uint8Array): number {
    if (this.closed) return -ERRNO.EBADF;
    const fresh = this.isUnbound;
    const result = bindRecord(this.endpoint, this.id, address);
    this.familyChanged();
    if (fresh && !this.isUnbound) this.endpoint.opened(this);
    return result;
  }

  /** connect(2), AF_UNSPEC dissolving the connection. Returns 0 or -errno. */
  connectTo(address: Uint8Array): number {
    if (this.closed) return -ERRNO.EBADF;
    const result = connectRecord(this.endpoint, this.id, address);
    this.familyChanged();
    return result;
  }

  /** The kernel has given the socket a port while it sent through it. Returns 0 or -errno. */
  followKernel(): number {
    const result = followRecord(this.endpoint, this.id);
    this.familyChanged();
    if (!this.isUnbound) this.endpoint.opened(this);
    return result;
  }

  /** Whether it sends to addresses of the family: four words, IPv4 mapped. */
  speaksTo(w0: number, w1: number, w2: number): boolean {
    return this.speaks === SPEAKS_BOTH || (w0 === 0 && w1 === 0 && w2 === 0xffff) === (this.speaks === SPEAKS_V4);
  }

  /** Whether it has no port yet. */
  get isUnbound(): boolean {
    return this.endpoint.table.get(this.id, STATE) === OPEN;
  }

  /** Looks again which addresses it may send to: it was bound, or IPV6_V6ONLY was set. */
  familyChanged(): void {
    const { endpoint, id } = this;
    const { table } = endpoint;
    const flags = table.get(id, FLAGS);
    const both = this.family === AF_INET6 && (flags & F_WILDCARD) !== 0 && (flags & F_V6ONLY) === 0;
    this.speaks = both && (flags & F_CHILD) === 0 ? SPEAKS_BOTH : table.isV4(id) ? SPEAKS_V4 : SPEAKS_V6;
  }

  /** SendFrame.send: the destination is checked as for sendTo. */
  commit(lcore: number, frame: number, length: number, port: number, address: string): number {
    const { endpoint, id } = this;
    const { records, stride } = endpoint.table;
    let to = port;
    let words: Int32Array;
    let result = 0;
    if (this.closed) result = -ERRNO.EBADF;
    if (port === 0) {
      words = records.subarray(id * stride + REMOTE, id * stride + REMOTE + 4);
      to = records[id * stride + REMOTE_PORT];
      if (records[id * stride + STATE] !== CONNECTED) result = -ERRNO.EDESTADDRREQ;
    } else {
      words = addressWords(parseCached(address));
    }
    if (result === 0) result = this.checkDestination(to, words[0], words[1], words[2]);
    if (result === 0 && this.pending !== 0) result = -this.takeError();
    if (result === 0 && this.sendsSpecially) {
      const { bytes } = endpoint.shared.memories[lcore];
      const at = frame + TX_HEADROOM;
      const { segment } = this;
      result = this.sendSpecially(bytes, at, length, to, words[0], words[1], words[2], words[3], segment);
    } else if (result === 0) {
      return endpoint.sendFrame(this, lcore, frame, length, words[0], words[1], words[2], words[3], to);
    }
    endpoint.returnFrame(lcore, frame);
    return result;
  }

  private checkDestination(port: number, w0: number, w1: number, w2: number): number {
    if (!isPort(port)) return -ERRNO.EINVAL;
    if (!this.speaksTo(w0, w1, w2)) {
      return this.family === AF_INET ? -ERRNO.EAFNOSUPPORT : -ERRNO.ENETUNREACH;
    }
    return 0;
  }

  /** The address to connect to, in the socket's family. */
  private remoteBytes(address: string, call: string): Uint8Array {
    const bytes = ip(address);
    if (this.closed) throw new SysError(ERRNO.EBADF, call, "the socket is closed");
    if (this.family === AF_INET && bytes.length === 16) {
      throw new SysError(ERRNO.EAFNOSUPPORT, call, "the socket is an IPv4 one, the address is not");
    }
    const words = addressWords(bytes);
    const mapped = words[0] === 0 && words[1] === 0 && words[2] === 0xffff;
    if (this.speaks !== SPEAKS_BOTH && mapped !== (this.speaks === SPEAKS_V4)) {
      throw new SysError(ERRNO.ENETUNREACH, call, "the socket is bound to the other IP version");
    }
    return this.family === AF_INET ? bytes : bytesOf(words);
  }
}

/** The 16 bytes of an address, IPv4 mapped. */
function bytesOf(words: Int32Array): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  words.forEach((word, i) => void view.setInt32(4 * i, word));
  return bytes;
}

const failedReceive = (result: number): SysError =>
  new SysError(
    -result,
    "recv",
    result === -ERRNO.EBADF ? "the socket is closed" : "reported about what was sent before",
  );

const US_PER_MS = 1000;
const SPEAKS_V4 = 4;
const SPEAKS_V6 = 6;
const SPEAKS_BOTH = 0;
