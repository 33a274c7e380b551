/**
 * The protocol stack of one lcore: frames in from its ports, datagrams out to sockets, and back.
 *
 *   input: frame -> IP -> UDP -> lookup -> handler on this lcore | ring to the socket's thread
 *   output: payload -> UDP -> IP -> Ethernet -> port | placeholder socket, where only the kernel knows the way
 *
 * Nothing here reads a clock, allocates a packet or throws: what cannot be handled is dropped under a counter.
 */
import { ERRNO } from "af-xdp-bindings";
import type { Burst, Port } from "../queues/driver.ts";
import type { FramePool } from "../queues/pool.ts";
import { C } from "./counters.ts";
import type { Datagram } from "./datagram.ts";
import { Destinations, VIA_KERNEL } from "./destinations.ts";
import { Endpoint, PORTS_MAX, type Shared, TX_HEADROOM } from "./endpoint.ts";
import type { Fib } from "./fib.ts";
import type { KernelPath } from "./kernel-path.ts";
import { Lookup, NOBODY } from "./lookup.ts";
import {
  FRAMES_PER_MESSAGE,
  M_ADDRESS,
  M_CHARGE,
  M_COUNT,
  M_DESTINATION_PORT,
  M_FRAME,
  M_FRAMES,
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
  M_SOCKET,
  MSG_BYE,
  MSG_DELIVER,
  MSG_FREE,
  MSG_HELLO,
  MSG_LEND,
  MSG_REPLY,
  MSG_SEND,
} from "./message.ts";
import { CHARGE_OVERHEAD } from "./queue.ts";
import { DROPS, F_TIMESTAMP, FLAGS, GENERATION, LOCAL, LOCAL_PORT, PLACEHOLDER, TOS, TTL } from "./table.ts";
import { LOAN_FRAMES } from "./thread.ts";
import type { Handler, UdpSocket } from "./udp-socket.ts";
import { ETH_HEADER, ETH_P_IP, ETH_P_IPV6, ETH_RUNT, etherType, networkOffset } from "./wire/ethernet.ts";
import {
  checkIpv4,
  IPPROTO_UDP,
  IPV4_BAD_CHECKSUM,
  IPV4_DF,
  IPV4_DST,
  IPV4_HEADER,
  IPV4_OK,
  IPV4_SRC,
  IPV4_TRUNCATED,
  ipv4HeaderLength,
  ipv4IsFragment,
  ipv4Protocol,
  ipv4TotalLength,
  writeIpv4,
} from "./wire/ipv4.ts";
import {
  checkIpv6,
  IPV6_DST,
  IPV6_HEADER,
  IPV6_NEXT_HEADER,
  IPV6_OK,
  IPV6_PAYLOAD_LENGTH,
  IPV6_SRC,
  IPV6_TRUNCATED,
  ipv6PayloadLength,
} from "./wire/ipv6.ts";
import {
  checkUdp4,
  checkUdp6,
  finishUdp4,
  finishUdp6,
  UDP_BAD_CHECKSUM,
  UDP_DST,
  UDP_HEADER,
  UDP_OK,
  UDP_PARTIAL,
  UDP_SRC,
  udpLength,
  writeUdp,
} from "./wire/udp.ts";
import { type FrameViews, readInt32, readUint16, writeInt32, writeUint16 } from "./wire/views.ts";

/** Messages handled from one ring a turn: bounds how long a chatty thread keeps the lcore from its queues. */
const DRAIN_MAX = 128;
/** Free frames below which nothing is lent: the queues must not run dry for the sake of senders. */
const LEND_RESERVE = 256;
/** Bytes before the frame where the XDP program leaves its stamp: u64 nanoseconds of CLOCK_MONOTONIC, u32 magic, u32. */
const STAMP_BYTES = 16;
/** "lcor": see engine/steering. */
const STAMP_MAGIC = 0x6c636f72;

export class Stack extends Endpoint {
  readonly ports: readonly Port[];
  readonly pool: FramePool;
  readonly fib: Fib;
  readonly destinations: Destinations;
  readonly lookup: Lookup;
  /** Nanoseconds from CLOCK_MONOTONIC to CLOCK_REALTIME; the loop keeps it true. */
  realtimeOffsetNs = 0;
  /** Frames each thread holds or has in its ring. */
  readonly outstanding: Int32Array;
  /** The most frames a thread may hold. */
  quota: number;

  private readonly views: FrameViews;
  private readonly bytes: Uint8Array;
  private readonly kernelPath: KernelPath;
  private readonly toThread: (ReturnType<Shared["mesh"]["producer"]> | null)[] = [];
  private readonly fromThread: (ReturnType<Shared["mesh"]["consumer"]> | null)[] = [];
  /** Handler number per socket id: 0 for none. Numbers, so that a million sockets are a flat array to the lookup. */
  private readonly handlerOf: Int32Array;
  private readonly handlers: (Handler | null)[] = [null];
  private readonly handlerNumbers = new Map<Handler, number>();
  /** Frames still to be lent to each thread. */
  private readonly owed: Int32Array;

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
    kernelPath: KernelPath,
    seed: number,
  ) {
    super(lcore, shared);
    this.ports = ports;
    this.pool = pool;
    this.fib = fib;
    this.kernelPath = kernelPath;
    this.views = shared.memories[lcore];
    this.bytes = this.views.bytes;
    const portOf = new Int32Array(ports.length * 2);
    for (let i = 0; i < ports.length; i++) {
      portOf[2 * i] = ports[i].ifindex;
      portOf[2 * i + 1] = i;
    }
    this.destinations = new Destinations(fib, portOf);
    this.lookup = new Lookup(shared.table, seed, lcore, shared.portInfo);
    const { mesh } = shared;
    this.outstanding = new Int32Array(mesh.threads);
    this.owed = new Int32Array(mesh.threads);
    this.quota = Math.max(64, Math.floor((pool.frames * 3) / 8));
    this.handlerOf = new Int32Array(shared.table.capacity);
    for (let t = 0; t < mesh.threads; t++) {
      // One object an end: a second one would have cursors of its own.
      const isLcore = t < mesh.lcores;
      this.toThread.push(t === lcore ? null : isLcore ? this.toLcore[t] : mesh.producer(lcore, t));
      this.fromThread.push(t === lcore ? null : isLcore ? this.fromLcore[t] : mesh.consumer(t, lcore));
    }
    this.adopt(this.datagram);
  }

  /** Brings lookup tables and routes up to date: called once a turn, a few loads when nothing has changed. */
  control(): void {
    if (this.lookup.isStale()) {
      this.lookup.sync();
      this.counters[C.TableSyncs]++;
    }
    if (this.fib.isStale()) {
      this.fib.refresh();
      this.counters[C.FibSyncs]++;
    }
  }

  /** Handles a received burst. Every frame is delivered, answered or dropped, and goes back to the pool when done. */
  input(portNumber: number, burst: Burst): void {
    const port = this.ports[portNumber];
    const { counters } = this;
    const count = burst.count;
    let received = 0;
    for (let i = 0; i < count; i++) {
      received += burst.length[i];
      this.frameInput(port, portNumber, burst.offset[i], burst.length[i]);
    }
    counters[C.RxFrames] += count;
    counters[C.RxBytes] += received;
    counters[C.RxBursts]++;
  }

  private frameInput(port: Port, portNumber: number, frame: number, length: number): void {
    const network = networkOffset(this.bytes, frame, length);
    if (network < 0) {
      this.drop(frame, network === ETH_RUNT ? C.EthTruncated : C.EthUnknownType);
      return;
    }
    const type = etherType(this.bytes, network);
    if (type === ETH_P_IP) this.ipv4Input(port, portNumber, frame, length, network);
    else if (type === ETH_P_IPV6) this.ipv6Input(port, portNumber, frame, length, network);
    else this.drop(frame, C.EthUnknownType);
  }

  private ipv4Input(port: Port, portNumber: number, frame: number, length: number, ip: number): void {
    const { bytes, views } = this;
    const verdict = checkIpv4(views, ip, frame + length - ip);
    if (verdict !== IPV4_OK) {
      this.drop(
        frame,
        verdict === IPV4_BAD_CHECKSUM
          ? C.IpInCsumErrors
          : verdict === IPV4_TRUNCATED
            ? C.IpInTruncatedPkts
            : C.IpInHdrErrors,
      );
      return;
    }
    if (ipv4Protocol(bytes, ip) !== IPPROTO_UDP) {
      this.drop(frame, C.IpInUnknownProtos);
      return;
    }
    if (ipv4IsFragment(bytes, ip)) {
      this.drop(frame, C.IpInFragments);
      return;
    }
    const udp = ip + ipv4HeaderLength(bytes, ip);
    const check = checkUdp4(views, udp, ipv4TotalLength(bytes, ip) - (udp - ip), ip);
    if (check !== UDP_OK && !this.acceptUdp(port, frame, check)) return;
    const local = readInt32(bytes, ip + IPV4_DST);
    if (!this.lookup.isLocal4(local, this.fib)) {
      this.drop(frame, C.IpInAddrErrors);
      return;
    }
    const remote = readInt32(bytes, ip + IPV4_SRC);
    const localPort = readUint16(bytes, udp + UDP_DST);
    const remotePort = readUint16(bytes, udp + UDP_SRC);
    let socket = this.lookup.udp4(local, localPort, remote, remotePort, portNumber, port.ifindex);
    if (socket === NOBODY && this.lookup.isStale()) {
      // Bound between this turn's control() and the frame's arrival.
      this.control();
      socket = this.lookup.udp4(local, localPort, remote, remotePort, portNumber, port.ifindex);
    }
    if (socket === NOBODY) this.drop(frame, C.UdpNoPorts);
    else this.deliver(socket, portNumber, frame, length, ip, udp);
  }

  private ipv6Input(port: Port, portNumber: number, frame: number, length: number, ip: number): void {
    const { bytes, views } = this;
    const verdict = checkIpv6(bytes, ip, frame + length - ip);
    if (verdict !== IPV6_OK) {
      this.drop(frame, verdict === IPV6_TRUNCATED ? C.IpInTruncatedPkts : C.IpInHdrErrors);
      return;
    }
    if (bytes[ip + IPV6_NEXT_HEADER] !== IPPROTO_UDP) {
      this.drop(frame, C.IpInUnknownProtos);
      return;
    }
    const udp = ip + IPV6_HEADER;
    const check = checkUdp6(views, udp, ipv6PayloadLength(bytes, ip), ip);
    if (check !== UDP_OK && !this.acceptUdp(port, frame, check)) return;
    if (!this.lookup.isLocal6(bytes, ip + IPV6_DST, this.fib)) {
      this.drop(frame, C.IpInAddrErrors);
      return;
    }
    const localPort = readUint16(bytes, udp + UDP_DST);
    const remotePort = readUint16(bytes, udp + UDP_SRC);
    let socket = this.lookup.udp6(bytes, ip, localPort, remotePort, portNumber, port.ifindex);
    if (socket === NOBODY && this.lookup.isStale()) {
      this.control();
      socket = this.lookup.udp6(bytes, ip, localPort, remotePort, portNumber, port.ifindex);
    }
    if (socket === NOBODY) this.drop(frame, C.UdpNoPorts);
    else this.deliver(socket, portNumber, frame, length, ip, udp);
  }

  /** Counts a datagram whose check did not say OK; true when it may pass all the same. Else it is dropped. */
  private acceptUdp(port: Port, frame: number, check: number): boolean {
    if (check === UDP_PARTIAL) {
      this.counters[C.UdpPartialChecksums]++;
      if (port.partialChecksums) return true;
    }
    this.drop(frame, check === UDP_BAD_CHECKSUM || check === UDP_PARTIAL ? C.UdpInCsumErrors : C.UdpInErrors);
    return false;
  }

  /**
   * Delivers a datagram that came by another way than a port to a socket already known: the control thread's, for what
   * the kernel passed on.
   */
  inject(socket: number, frame: number, length: number, ip: number, udp: number): void {
    this.counters[C.UdpInViaKernel]++;
    this.deliver(socket, 0, frame, length, ip, udp);
  }

  private deliver(socket: number, portNumber: number, frame: number, length: number, ip: number, udp: number): void {
    const { table } = this;
    const tag = ((this.thread << 8) | portNumber) + 1;
    // A store only when it changes keeps the line of a hot socket clean in the caches of those who read it.
    if (table.lastRx[socket] !== tag) table.lastRx[socket] = tag;
    if (table.home[socket] !== this.thread) {
      this.handOver(socket, portNumber, frame, length, ip, udp);
      return;
    }
    const number = this.handlerOf[socket];
    if (number === 0) {
      this.enqueue(socket, portNumber, frame, length, ip, udp);
      return;
    }
    this.counters[C.UdpInDatagrams]++;
    const { datagram } = this;
    datagram.socketId = socket;
    datagram.frame = frame;
    datagram.frameLength = length;
    datagram.l3 = ip;
    datagram.l4 = udp;
    datagram.offset = udp + UDP_HEADER;
    datagram.length = udpLength(this.bytes, udp) - UDP_HEADER;
    datagram.port = portNumber;
    datagram.owned = true;
    if (this.lookup.stamps) this.stamp(datagram);
    (this.handlers[number] as Handler)(datagram);
    if (datagram.owned) {
      datagram.owned = false;
      this.pool.give(frame);
    }
  }

  /** Passes a datagram to the thread that reads its socket. */
  private handOver(socket: number, portNumber: number, frame: number, length: number, ip: number, udp: number): void {
    const { counters, table } = this;
    const thread = table.home[socket];
    const charge = udpLength(this.bytes, udp) + CHARGE_OVERHEAD;
    if (this.outstanding[thread] >= this.quota) {
      this.dropFor(socket, frame, C.QuotaDrops);
      return;
    }
    if (!this.hasRoom(socket, charge)) {
      this.dropFor(socket, frame, C.UdpRcvbufErrors);
      return;
    }
    const ring = this.toThread[thread];
    const at = ring === null || ring === undefined ? -1 : ring.claim();
    if (at < 0 || !ring) {
      this.dropFor(socket, frame, C.MeshFull);
      return;
    }
    this.charge(socket, charge);
    this.outstanding[thread]++;
    this.fillMessage(ring.words, at, socket, portNumber, frame, length, ip, udp, charge);
    counters[C.HandedOver]++;
    counters[C.UdpInDatagrams]++;
  }

  /** Queues a datagram at a socket of this lcore that has no handler. */
  private enqueue(socket: number, portNumber: number, frame: number, length: number, ip: number, udp: number): void {
    const reader = this.sockets.get(socket);
    const charge = udpLength(this.bytes, udp) + CHARGE_OVERHEAD;
    if (reader === undefined || !this.hasRoom(socket, charge)) {
      this.dropFor(socket, frame, C.UdpRcvbufErrors);
      return;
    }
    this.charge(socket, charge);
    this.fillMessage(this.scratch, 0, socket, portNumber, frame, length, ip, udp, charge);
    reader.queue.push(this.scratch, 0);
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
    words[at + M_KIND] = MSG_DELIVER;
    words[at + M_SOCKET] = socket;
    words[at + M_GENERATION] = this.table.get(socket, GENERATION);
    words[at + M_FRAME] = frame;
    words[at + M_LENGTH] = length;
    words[at + M_L3] = ip;
    words[at + M_L4] = udp;
    words[at + M_PAYLOAD] = udp + UDP_HEADER;
    words[at + M_PAYLOAD_LENGTH] = udpLength(this.bytes, udp) - UDP_HEADER;
    words[at + M_PORT] = portNumber;
    words[at + M_HOME] = this.thread;
    words[at + M_CHARGE] = charge;
    words[at + M_SECONDS] = 0;
    words[at + M_NANOSECONDS] = 0;
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
    const { bytes } = this;
    const at = datagram.frame - STAMP_BYTES;
    datagram.seconds = 0;
    datagram.nanoseconds = 0;
    if ((this.table.get(datagram.socketId, FLAGS) & F_TIMESTAMP) === 0 || at < 0) return;
    const word = (i: number): number =>
      (bytes[i] | (bytes[i + 1] << 8) | (bytes[i + 2] << 16) | (bytes[i + 3] << 24)) >>> 0;
    if (word(at + 8) !== STAMP_MAGIC) return;
    const ns = word(at) + word(at + 4) * 2 ** 32 + this.realtimeOffsetNs;
    datagram.seconds = Math.floor(ns / 1e9);
    datagram.nanoseconds = Math.floor(ns - datagram.seconds * 1e9);
  }

  /** Whether the socket's receive buffer takes `charge` bytes more, counting what every lcore has queued there. */
  private hasRoom(socket: number, charge: number): boolean {
    const { table } = this;
    let queued = 0;
    for (let l = 0; l < table.lcores; l++) queued += (table.charged[l][socket] - table.credited[l][socket]) | 0;
    // As the kernel does (__sk_rmem_alloc check in __udp_enqueue_schedule_skb): the last datagram may overshoot.
    return queued <= table.rcvbuf[socket] - Math.min(charge, table.rcvbuf[socket]);
  }

  private charge(socket: number, charge: number): void {
    const plane = this.table.charged[this.thread];
    plane[socket] = (plane[socket] + charge) | 0;
  }

  private drop(frame: number, counter: number): void {
    this.counters[counter]++;
    this.pool.give(frame);
  }

  private dropFor(socket: number, frame: number, counter: number): void {
    Atomics.add(this.table.records, socket * this.table.stride + DROPS, 1);
    this.drop(frame, counter);
  }

  // ---- output ----

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
    const frame = this.pool.take();
    if (frame < 0) {
      this.counters[C.UdpSndbufErrors]++;
      return -ERRNO.EAGAIN;
    }
    const payload = frame + TX_HEADROOM;
    if (payload + length > this.frameEnd(this.thread, frame)) {
      this.pool.give(frame);
      return -ERRNO.EMSGSIZE;
    }
    const memory = this.bytes;
    if (length >= 128 && offset === 0 && length === bytes.length) memory.set(bytes, payload);
    else for (let i = 0; i < length; i++) memory[payload + i] = bytes[offset + i];
    return this.output(socket.id, frame, payload, length, w0, w1, w2, w3, port);
  }

  /**
   * Sends the payload at `payload` of an own frame, headers written before it. The frame is consumed whatever happens.
   * @returns length, or -errno
   */
  private output(
    socket: number,
    frame: number,
    payload: number,
    length: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    port: number,
  ): number {
    const entry = this.destinations.resolve(w0, w1, w2, w3);
    const mapped = w0 === 0 && w1 === 0 && w2 === 0xffff;
    const headers = (mapped ? IPV4_HEADER : IPV6_HEADER) + UDP_HEADER;
    if (entry === VIA_KERNEL) return this.outputViaKernel(socket, frame, payload, length, w0, w1, w2, w3, port);
    if (length + headers > this.destinations.mtu[entry]) {
      this.counters[C.UdpOutTooBig]++;
      return this.outputViaKernel(socket, frame, payload, length, w0, w1, w2, w3, port);
    }
    const { bytes, table, views, destinations } = this;
    const { records } = table;
    const record = socket * table.stride;
    const udp = payload - UDP_HEADER;
    writeUdp(bytes, udp, records[record + LOCAL_PORT], port, length + UDP_HEADER);
    const ip = payload - headers;
    if (mapped) {
      const bound = records[record + LOCAL + 3];
      const source = bound !== 0 ? bound : destinations.source[entry * 4 + 3];
      writeIpv4(
        views,
        ip,
        records[record + TOS],
        length + headers,
        0,
        IPV4_DF,
        records[record + TTL],
        IPPROTO_UDP,
        source,
        w3,
      );
      finishUdp4(views, udp, length + UDP_HEADER, ip);
    } else {
      writeInt32(bytes, ip, (6 << 28) | (records[record + TOS] << 20));
      writeUint16(bytes, ip + IPV6_PAYLOAD_LENGTH, length + UDP_HEADER);
      bytes[ip + 6] = IPPROTO_UDP;
      bytes[ip + 7] = records[record + TTL];
      this.writeSource6(ip, record, entry);
      writeInt32(bytes, ip + IPV6_DST, w0);
      writeInt32(bytes, ip + IPV6_DST + 4, w1);
      writeInt32(bytes, ip + IPV6_DST + 8, w2);
      writeInt32(bytes, ip + IPV6_DST + 12, w3);
      finishUdp6(views, udp, length + UDP_HEADER, ip);
    }
    const ethernet = ip - ETH_HEADER;
    this.writeLink(ethernet, entry, mapped ? ETH_P_IP : ETH_P_IPV6);
    return this.transmit(destinations.port[entry], frame, ethernet, ETH_HEADER + headers + length, length);
  }

  private writeSource6(ip: number, record: number, entry: number): void {
    const { records } = this.table;
    const { source } = this.destinations;
    const any =
      (records[record + LOCAL] |
        records[record + LOCAL + 1] |
        records[record + LOCAL + 2] |
        records[record + LOCAL + 3]) ===
      0;
    for (let i = 0; i < 4; i++) {
      writeInt32(this.bytes, ip + IPV6_SRC + i * 4, any ? source[entry * 4 + i] : records[record + LOCAL + i]);
    }
  }

  private writeLink(ethernet: number, entry: number, type: number): void {
    const { bytes, destinations } = this;
    writeInt32(bytes, ethernet, destinations.mac0[entry]);
    writeInt32(bytes, ethernet + 4, destinations.mac1[entry]);
    writeInt32(bytes, ethernet + 8, destinations.mac2[entry]);
    writeUint16(bytes, ethernet + 12, type);
  }

  private transmit(portNumber: number, frame: number, at: number, size: number, length: number): number {
    const { counters } = this;
    if (!this.ports[portNumber].txPush(at, size)) {
      counters[C.UdpSndbufErrors]++;
      this.pool.give(frame);
      return -ERRNO.EAGAIN;
    }
    counters[C.TxFrames]++;
    counters[C.TxBytes] += size;
    counters[C.UdpOutDatagrams]++;
    return length;
  }

  private outputViaKernel(
    socket: number,
    frame: number,
    payload: number,
    length: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    port: number,
  ): number {
    const placeholder = this.table.get(socket, PLACEHOLDER);
    const family = this.table.get(socket, 2);
    const result =
      placeholder < 0
        ? -ERRNO.EHOSTUNREACH
        : this.kernelPath.send(placeholder, family, payload, length, w0, w1, w2, w3, port);
    this.counters[result < 0 ? C.UdpOutErrors : C.UdpOutViaKernel]++;
    this.pool.give(frame);
    return result;
  }

  protected override sendReply(datagram: Datagram, length: number): number {
    if (datagram.home !== this.thread) return super.sendReply(datagram, length);
    datagram.owned = false;
    return this.turnRound(
      datagram.socketId,
      datagram.port,
      datagram.frame,
      datagram.l3,
      datagram.l4,
      datagram.offset,
      length,
    );
  }

  /** Sends a received frame back to its sender, headers rewritten in place. */
  private turnRound(
    socket: number,
    portNumber: number,
    frame: number,
    ip: number,
    udp: number,
    payload: number,
    length: number,
  ): number {
    const { bytes } = this;
    if (bytes[ip] >> 4 === 6 || udp - ip !== IPV4_HEADER) {
      return this.turnRoundSlow(socket, frame, ip, udp, payload, length);
    }
    const remote = readInt32(bytes, ip + IPV4_SRC);
    const { destinations, table } = this;
    const entry = destinations.resolve(0, 0, 0xffff, remote);
    const remotePort = readUint16(bytes, udp + UDP_SRC);
    const total = length + IPV4_HEADER + UDP_HEADER;
    if (entry === VIA_KERNEL || total > destinations.mtu[entry]) {
      return this.outputViaKernel(socket, frame, payload, length, 0, 0, 0xffff, remote, remotePort);
    }
    const record = socket * table.stride;
    const localPort = readUint16(bytes, udp + UDP_DST);
    const local = readInt32(bytes, ip + IPV4_DST);
    writeIpv4(
      this.views,
      ip,
      table.records[record + TOS],
      total,
      0,
      IPV4_DF,
      table.records[record + TTL],
      IPPROTO_UDP,
      local,
      remote,
    );
    writeUdp(bytes, udp, localPort, remotePort, length + UDP_HEADER);
    finishUdp4(this.views, udp, length + UDP_HEADER, ip);
    // An answer to a tagged frame goes out as the route says, without the tag of the question.
    const ethernet = ip - ETH_HEADER;
    this.writeLink(ethernet, entry, ETH_P_IP);
    return this.transmit(this.outPort(entry, portNumber), frame, ethernet, ETH_HEADER + total, length);
  }

  /** The port a frame came on is as good as the route's, when it is a queue of the same interface: keeps queues apart. */
  private outPort(entry: number, portNumber: number): number {
    const port = this.destinations.port[entry];
    const { ports } = this;
    return portNumber < ports.length && ports[portNumber].ifindex === ports[port].ifindex ? portNumber : port;
  }

  private turnRoundSlow(
    socket: number,
    frame: number,
    ip: number,
    udp: number,
    payload: number,
    length: number,
  ): number {
    const { bytes } = this;
    const port = readUint16(bytes, udp + UDP_SRC);
    if (bytes[ip] >> 4 === 4) {
      const remote = readInt32(bytes, ip + IPV4_SRC);
      return this.output(socket, frame, payload, length, 0, 0, 0xffff, remote, port);
    }
    const at = ip + IPV6_SRC;
    const w0 = readInt32(bytes, at);
    const w1 = readInt32(bytes, at + 4);
    const w2 = readInt32(bytes, at + 8);
    const w3 = readInt32(bytes, at + 12);
    return this.output(socket, frame, payload, length, w0, w1, w2, w3, port);
  }

  // ---- rings ----

  override poll(): number {
    let handled = 0;
    const { fromThread } = this;
    for (let t = 0; t < fromThread.length; t++) {
      const ring = fromThread[t];
      if (ring !== null) handled += this.drain(t, ring);
    }
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

  /** Publishes messages to other threads, gives back foreign frames, lends what is owed. */
  override flush(): void {
    super.flush();
    const { toThread } = this;
    for (let t = 0; t < toThread.length; t++) {
      const ring = toThread[t];
      if (ring === null) continue;
      if (this.owed[t] > 0) this.lend(t, ring);
      if (ring.publish()) this.wake(t);
    }
  }

  private drain(thread: number, ring: NonNullable<(typeof this.fromThread)[number]>): number {
    const { words } = ring;
    let handled = 0;
    for (; handled < DRAIN_MAX; handled++) {
      const at = ring.peek();
      if (at < 0) break;
      this.message(thread, words, at);
      ring.next();
    }
    ring.release();
    return handled;
  }

  private message(thread: number, words: Int32Array, at: number): void {
    switch (words[at + M_KIND]) {
      case MSG_FREE:
        this.takeBack(thread, words, at);
        return;
      case MSG_DELIVER:
        this.deliverForeign(words, at);
        return;
      case MSG_REPLY:
        this.outstanding[thread]--;
        this.turnRound(
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
      case MSG_HELLO:
        this.owed[thread] = LOAN_FRAMES;
        return;
      case MSG_BYE:
        this.owed[thread] = 0;
        return;
      default:
        this.counters[C.BadMessages]++;
    }
  }

  private takeBack(thread: number, words: Int32Array, at: number): void {
    const count = words[at + M_COUNT];
    for (let i = 0; i < count; i++) this.pool.give(words[at + M_FRAMES + i]);
    this.outstanding[thread] -= count;
  }

  private sendFor(thread: number, words: Int32Array, at: number): void {
    const socket = words[at + M_SOCKET];
    const frame = words[at + M_FRAME];
    this.outstanding[thread]--;
    this.owed[thread]++;
    if (this.table.get(socket, GENERATION) !== words[at + M_GENERATION]) {
      this.counters[C.StaleMessages]++;
      this.pool.give(frame);
      return;
    }
    this.output(
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
    const number = this.handlerOf[socket];
    if (number === 0) {
      reader.queue.push(words, at);
      return;
    }
    const { datagram } = this;
    datagram.load(words, at, this.shared.memories);
    (this.handlers[number] as Handler)(datagram);
    if (datagram.owned) this.release(datagram);
    this.adopt(datagram);
  }

  /** Makes a datagram one of this lcore's own memory, as the fast path expects it. */
  private adopt(datagram: Datagram): void {
    datagram.home = this.thread;
    datagram.views = this.views;
    datagram.memory = this.bytes;
    datagram.charge = 0;
  }

  private lend(thread: number, ring: NonNullable<(typeof this.toThread)[number]>): void {
    while (this.owed[thread] > 0 && this.pool.available > LEND_RESERVE) {
      const at = ring.claim();
      if (at < 0) return;
      const count = Math.min(FRAMES_PER_MESSAGE, this.owed[thread]);
      ring.words[at + M_KIND] = MSG_LEND;
      ring.words[at + M_COUNT] = count;
      for (let i = 0; i < count; i++) ring.words[at + M_FRAMES + i] = this.pool.take();
      this.outstanding[thread] += count;
      this.owed[thread] -= count;
    }
  }

  protected override free(home: number, frame: number): void {
    if (home === this.thread) this.pool.give(frame);
    else super.free(home, frame);
  }

  // ---- sockets of this lcore ----

  override setHandler(socket: UdpSocket, handler: Handler | null): void {
    if (handler === null) {
      this.handlerOf[socket.id] = 0;
      return;
    }
    let number = this.handlerNumbers.get(handler);
    if (number === undefined) {
      number = this.handlers.push(handler) - 1;
      this.handlerNumbers.set(handler, number);
    }
    this.handlerOf[socket.id] = number;
  }

  /** An lcore never blocks in a socket: its loop would stop. */
  override block(_timeoutMs: number): void {
    throw new Error("receiveBlocking on an lcore would stop its loop: set onDatagram, or receive from another thread");
  }

  override arrival(): Promise<void> {
    return Promise.reject(
      new Error("awaiting datagrams on an lcore would stop its loop: set onDatagram, or receive from another thread"),
    );
  }

  override wakeWaiters(): void {}

  /** Notes the CPU and NAPI ID of a port for SO_INCOMING_CPU and SO_INCOMING_NAPI_ID. */
  publishPort(portNumber: number, cpu: number): void {
    const at = (this.thread * PORTS_MAX + portNumber) * 2;
    this.shared.portInfo[at] = cpu;
    this.shared.portInfo[at + 1] = this.ports[portNumber].napiId;
  }
}
