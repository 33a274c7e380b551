/**
 * The protocol stack of one lcore: frames in from its ports, datagrams out to sockets, and back.
 *
 *   input: frame -> IP -> UDP -> lookup -> handler on this lcore | ring to the socket's thread
 *   output: payload -> UDP -> IP -> Ethernet -> port | placeholder socket, where only the kernel knows the way
 *
 * Nothing here reads a clock, allocates a packet or throws: what cannot be handled is dropped under a counter.
 */
import { ERRNO, sys } from "af-xdp-bindings";
import { BURST_MAX, type Burst, type Port } from "../queues/driver.ts";
import type { FramePool } from "../queues/pool.ts";
import { C } from "./counters.ts";
import type { Datagram } from "./datagram.ts";
import { Destinations, MAC_STRIDE, VIA_KERNEL } from "./destinations.ts";
import { Endpoint, PORTS_MAX, type Shared, TX_HEADROOM } from "./endpoint.ts";
import type { Fib } from "./fib.ts";
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
import { DROPS, F_TIMESTAMP, FLAGS, GENERATION, LOCAL, LOCAL_PORT, PLACEHOLDER } from "./table.ts";
import { LOAN_FRAMES } from "./thread.ts";
import type { Handler, UdpSocket } from "./udp-socket.ts";
import { LONG_BYTES, sum, swap16 } from "./wire/checksum.ts";
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
  IPV6_HOP_LIMIT,
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

/** Offsets in an untagged frame of an IPv4 header without options, and of what follows it. */
const PLAIN_IP = ETH_HEADER;
const PLAIN_UDP = PLAIN_IP + IPV4_HEADER;
const PLAIN_PAYLOAD = PLAIN_UDP + UDP_HEADER;
/** The field of an IPv4 header that says "don't fragment", as the CPU reads it. */
const IPV4_DF_SWAPPED = swap16(IPV4_DF);
/** Flows above which a burst's lookups are warmed: 16 bytes each at 3/8 full, so that the table exceeds half of 512 KiB. */
const WARM_FLOWS = 8192;
/** Handlers one lcore may have: what a number in `handlerOf` can name. */
const HANDLERS_MAX = 65535;
/** Equal to no IPv4 address, which is an int32. */
const NO_ADDRESS = 2 ** 32;
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
  /** From CLOCK_MONOTONIC to CLOCK_REALTIME, to be added each to its part; the loop keeps them true. */
  realtimeOffsetSeconds = 0;
  realtimeOffsetNs = 0;
  /** Frames of datagrams that each thread holds or has in its ring. */
  readonly outstanding: Int32Array;
  /** Frames lent to each thread to send from. */
  readonly lent: Int32Array;
  /**
   * The most frames a thread may hold. It may not hold more than are free either, so that threads which never give any
   * back leave as many to each other and to the lcore: the rule of shared switch buffers (Choudhury and Hahne, Dynamic
   * queue length thresholds for shared-memory packet switches, 1998, with alpha 1).
   */
  readonly quota: number;

  private readonly views: FrameViews;
  private readonly bytes: Uint8Array;
  private readonly half: Uint16Array;
  private readonly frameSize: number;
  /** The own IPv4 address found last. */
  private local4 = NO_ADDRESS;
  /** Address of the frame memory in this process. */
  private readonly base: number;
  private readonly toThread: (ReturnType<Shared["mesh"]["producer"]> | null)[] = [];
  private readonly fromThread: (ReturnType<Shared["mesh"]["consumer"]> | null)[] = [];
  /**
   * Handler number per socket id: 0 for none, and for sockets of other threads. Numbers, so that a million sockets are
   * two megabytes to the packet path and not a million objects.
   */
  private readonly handlerOf: Uint16Array;
  private readonly lastRx: Int32Array;
  /** What `lastRx` says of a datagram on port 0 of this lcore. */
  private readonly portTag: number;
  /** Datagrams and bytes sent since the last flush. */
  private sent = 0;
  private sentBytes = 0;
  private readonly warmKeys = new Int32Array(3 * BURST_MAX);
  private readonly warmed = new Int32Array(BURST_MAX);
  /** Threads whose rings are looked at: see Mesh.activeThreads. */
  private active = 0;
  /** Datagrams handed to handlers since the last burst's end. */
  private delivered = 0;
  /** True while frames or messages are being handled, perhaps by a handler. */
  private handling = false;
  private readonly handlers: (Handler | null)[] = [null];
  private readonly handlerNumbers = new Map<Handler, number>();
  private readonly handlerUsers: number[] = [0];
  private readonly freeHandlers: number[] = [];
  /** Frames still to be lent to each thread. */
  private readonly owed: Int32Array;

  /**
   * @param lcore number of the lcore, which is its thread number
   * @param ports its queues; their memory is `shared.memories[lcore]`
   */
  constructor(lcore: number, shared: Shared, ports: readonly Port[], pool: FramePool, fib: Fib, seed: number) {
    super(lcore, shared);
    this.ports = ports;
    this.pool = pool;
    this.fib = fib;
    this.views = shared.memories[lcore];
    this.bytes = this.views.bytes;
    this.half = this.views.half;
    this.base = sys.addressOf(this.bytes);
    this.frameSize = shared.frameSizes[lcore];
    const portOf = new Int32Array(ports.length * 2);
    for (let i = 0; i < ports.length; i++) {
      portOf[2 * i] = ports[i].ifindex;
      portOf[2 * i + 1] = i;
    }
    this.destinations = new Destinations(fib, portOf);
    this.lookup = new Lookup(shared.table, seed, lcore, shared.portInfo);
    const { mesh } = shared;
    this.outstanding = new Int32Array(mesh.threads);
    this.lent = new Int32Array(mesh.threads);
    this.owed = new Int32Array(mesh.threads);
    this.quota = Math.floor((pool.frames * 3) / 8);
    this.handlerOf = new Uint16Array(shared.table.capacity);
    this.lastRx = shared.table.lastRx;
    this.portTag = (lcore << 8) + 1;
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
      this.local4 = NO_ADDRESS;
      this.counters[C.FibSyncs]++;
    }
  }

  /** Handles a received burst. Every frame is delivered, answered or dropped, and goes back to the pool when done. */
  input(portNumber: number, burst: Burst): void {
    const port = this.ports[portNumber];
    const { counters } = this;
    const count = burst.count;
    let received = 0;
    this.handling = true;
    if (this.lookup.flows4.count > WARM_FLOWS) this.warm(burst);
    for (let i = 0; i < count; i++) {
      const frame = burst.offset[i];
      const length = burst.length[i];
      received += length;
      const socket = this.plainUdp4(port, portNumber, frame, length);
      if (socket >= 0) this.deliver(socket, portNumber, frame, length, frame + PLAIN_IP, frame + PLAIN_UDP);
      else this.frameInput(port, portNumber, frame, length);
    }
    counters[C.RxFrames] += count;
    counters[C.RxBytes] += received;
    counters[C.RxBursts]++;
    counters[C.UdpInDatagrams] += this.delivered;
    this.delivered = 0;
    this.handling = false;
  }

  /**
   * Touches what the lookups of a burst will need, where the flow table has outgrown the caches: three short loops, in
   * each of which the misses of all frames overlap. With 1,000,000 flows it brings a datagram from 340 ns to 160.
   * Frames are taken for plain ones, unchecked; what is no plain frame touches some slot for nothing.
   */
  private warm(burst: Burst): void {
    const { half, handlerOf, lastRx, warmKeys, warmed } = this;
    const count = burst.count;
    for (let i = 0, at = 0; i < count; i++, at += 3) {
      const ip = (burst.offset[i] + PLAIN_IP) >> 1;
      warmKeys[at] = (swap16(half[ip + 8]) << 16) | swap16(half[ip + 9]);
      warmKeys[at + 1] = (swap16(half[ip + 6]) << 16) | swap16(half[ip + 7]);
      warmKeys[at + 2] = (swap16(half[ip + 11]) << 16) | swap16(half[ip + 10]);
    }
    this.lookup.flows4.touch(warmKeys, warmed, count);
    let touched = 0;
    // The values touched may be those of other keys in the slot: the table tells sockets from groups only by a lookup.
    for (let i = 0; i < count; i++) touched += handlerOf[warmed[i] & 0x3fffff] | lastRx[warmed[i] & 0x3fffff];
    warmed[0] = touched;
  }

  /**
   * The socket for a frame that is an untagged IPv4 packet without options that holds a whole UDP datagram for us, with
   * both checksums right; NOBODY for every other frame, which then takes the full path (frameInput), where the reason is
   * found and counted.
   *
   * All in one function, each halfword of the headers loaded once: as calls of checkIpv4, checkUdp4 and readInt32 the
   * same work took 36 ns more a frame (of 93, Bun 1.4.5, AMD EPYC 7003), since the JIT does not inline them all here.
   * Halfwords are as the CPU reads them, so constants are in swapped byte order.
   */
  private plainUdp4(port: Port, portNumber: number, frame: number, length: number): number {
    const { half } = this;
    const ip = (frame + PLAIN_IP) >> 1;
    if (length < PLAIN_PAYLOAD || (frame & 1) !== 0 || half[ip - 1] !== 0x0008) return NOBODY;
    const h0 = half[ip];
    const h1 = half[ip + 1];
    const h3 = half[ip + 3];
    const h4 = half[ip + 4];
    // Version 4 with 20 bytes of header; no fragment; protocol 17.
    if ((h0 & 0xff) !== 0x45 || (h3 & 0xff3f) !== 0 || h4 >> 8 !== IPPROTO_UDP) return NOBODY;
    const h6 = half[ip + 6];
    const h7 = half[ip + 7];
    const h8 = half[ip + 8];
    const h9 = half[ip + 9];
    const addresses = h6 + h7 + h8 + h9;
    let total = h0 + h1 + half[ip + 2] + h3 + h4 + half[ip + 5] + addresses;
    total = (total & 0xffff) + (total >>> 16);
    if (total !== 0xffff) return NOBODY;
    const packet = ((h1 & 0xff) << 8) | (h1 >> 8);
    const udp = ip + 10;
    const u0 = half[udp];
    const u1 = half[udp + 1];
    const u2 = half[udp + 2];
    const u3 = half[udp + 3];
    const datagram = ((u2 & 0xff) << 8) | (u2 >> 8);
    if (packet > length - PLAIN_IP || datagram < UDP_HEADER || datagram > packet - IPV4_HEADER) return NOBODY;
    if (u3 !== 0) {
      // The pseudo-header has the length and the protocol once more.
      const headers = addresses + u0 + u1 + u2 + u2 + u3 + (IPPROTO_UDP << 8);
      const bytes = datagram - UDP_HEADER;
      let check = headers;
      if (bytes < LONG_BYTES) {
        const end = udp + 4 + (bytes >> 1);
        for (let i = udp + 4; i < end; i++) check = (check + half[i]) | 0;
        if ((bytes & 1) !== 0) check = (check + (half[end] & 0xff)) | 0;
      } else {
        check = sum(this.views, frame + PLAIN_PAYLOAD, bytes, headers);
      }
      if ((check & 0xffff) + (check >>> 16) !== 0xffff) return NOBODY;
    }
    const local = (swap16(h8) << 16) | swap16(h9);
    if (local !== this.local4 && !this.isOwn4(local)) return NOBODY;
    const remote = (swap16(h6) << 16) | swap16(h7);
    if (remote >>> 24 >= 224 || remote >>> 24 === 127 || remote >>> 24 === 0) return NOBODY;
    const localPort = swap16(u1);
    const { lookup } = this;
    const only = lookup.only4[localPort];
    if (only >= 0) return only;
    if (lookup.connected[localPort] > 0) {
      const socket = lookup.flows4.lookup(IPPROTO_UDP, local, localPort, remote, swap16(u0));
      if (socket >= 0 && u0 !== 0) return socket;
    }
    return lookup.bound4(local, localPort, remote, swap16(u0), portNumber, port.ifindex);
  }

  /** Whether an IPv4 address is the host's own; the one found last is remembered, for hosts have few. */
  private isOwn4(address: number): boolean {
    if (!this.fib.isLocal(0, 0, 0xffff, address)) return this.hasNews() && this.isOwn4(address);
    this.local4 = address;
    return true;
  }

  private isOwn6(at: number): boolean {
    const { bytes } = this;
    return (
      this.fib.isLocal(
        readInt32(bytes, at),
        readInt32(bytes, at + 4),
        readInt32(bytes, at + 8),
        readInt32(bytes, at + 12),
      ) ||
      (this.hasNews() && this.isOwn6(at))
    );
  }

  /** Takes over what has changed since this turn's control(), addresses above all. False when nothing has. */
  private hasNews(): boolean {
    if (!this.fib.isStale()) return false;
    this.control();
    return true;
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
    const remote = readInt32(bytes, ip + IPV4_SRC);
    if (isMartian4(remote) || (local !== this.local4 && !this.isOwn4(local))) {
      this.drop(frame, C.IpInAddrErrors);
      return;
    }
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
    if (isMartian6(bytes, ip + IPV6_SRC) || !this.isOwn6(ip + IPV6_DST)) {
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
    if (this.lookup.isStale()) this.control();
    this.counters[C.UdpInViaKernel]++;
    this.deliver(socket, 0, frame, length, ip, udp);
  }

  private deliver(socket: number, portNumber: number, frame: number, length: number, ip: number, udp: number): void {
    // Stored unseen: a store that misses the cache costs nothing here, a load that asks whether it is needed would.
    this.lastRx[socket] = this.portTag + portNumber;
    const number = this.handlerOf[socket];
    if (number === 0) {
      this.deliverElsewhere(socket, portNumber, frame, length, ip, udp);
      return;
    }
    this.delivered++;
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

  /** Delivers to a socket without a handler on this lcore: to its thread, or into its queue. */
  private deliverElsewhere(
    socket: number,
    portNumber: number,
    frame: number,
    length: number,
    ip: number,
    udp: number,
  ): void {
    if (this.table.home[socket] === this.thread) this.enqueue(socket, portNumber, frame, length, ip, udp);
    else this.handOver(socket, portNumber, frame, length, ip, udp);
  }

  /** Passes a datagram to the thread that reads its socket. */
  private handOver(socket: number, portNumber: number, frame: number, length: number, ip: number, udp: number): void {
    const { counters, table } = this;
    const thread = table.home[socket];
    const charge = udpLength(this.bytes, udp) + CHARGE_OVERHEAD;
    if (table.get(socket, GENERATION) !== this.lookup.generation(socket)) {
      // Closed since this turn's control(); the id may have gone to a socket on another port.
      this.drop(frame, C.UdpNoPorts);
      return;
    }
    if (this.outstanding[thread] >= Math.min(this.quota, this.pool.available)) {
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
    words[at + M_GENERATION] = this.lookup.generation(socket);
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
    if (littleEndian32(bytes, at + 8) !== STAMP_MAGIC) return;
    // Seconds and nanoseconds are added apart: nanoseconds since 1970 exceed what a number holds exactly.
    const monotonicNs = littleEndian32(bytes, at) + littleEndian32(bytes, at + 4) * 2 ** 32;
    const seconds = Math.floor(monotonicNs / 1e9);
    const nanoseconds = monotonicNs - seconds * 1e9 + this.realtimeOffsetNs;
    const carry = Math.floor(nanoseconds / 1e9);
    datagram.seconds = seconds + this.realtimeOffsetSeconds + carry;
    datagram.nanoseconds = nanoseconds - carry * 1e9;
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

  override senderOf(_socket: UdpSocket): number {
    return this.thread;
  }

  override canSend(_socket: UdpSocket): boolean {
    return this.pool.available > 0;
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
    return this.output(socket.id, frame, frame + TX_HEADROOM, length, w0, w1, w2, w3, port);
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
        table.ttlTos[socket] >> 8,
        length + headers,
        0,
        IPV4_DF,
        table.ttlTos[socket] & 0xff,
        IPPROTO_UDP,
        source,
        w3,
      );
      finishUdp4(views, udp, length + UDP_HEADER, ip);
    } else {
      this.writeIpv6Start(ip, socket, length);
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
    const { macs } = this.destinations;
    const { bytes } = this;
    const at = entry * MAC_STRIDE;
    for (let i = 0; i < 6; i++) {
      bytes[ethernet + 2 * i] = macs[at + i];
      bytes[ethernet + 2 * i + 1] = macs[at + i] >> 8;
    }
    writeUint16(bytes, ethernet + 12, type);
  }

  private transmit(portNumber: number, frame: number, at: number, size: number, length: number): number {
    const { counters } = this;
    if (!this.ports[portNumber].txPush(at, size)) {
      counters[C.UdpSndbufErrors]++;
      this.pool.give(frame);
      return -ERRNO.EAGAIN;
    }
    this.sent++;
    this.sentBytes += size;
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
        : this.kernelPath.send(placeholder, family, this.base + payload, length, w0, w1, w2, w3, port);
    this.counters[result < 0 ? C.UdpOutErrors : C.UdpOutViaKernel]++;
    this.pool.give(frame);
    return result;
  }

  override reply(datagram: Datagram, length: number): number {
    // A frame of another lcore, and one that was queued and charged, take the common way.
    if (!datagram.owned || datagram.home !== this.thread || datagram.charge !== 0) return super.reply(datagram, length);
    const { frame, offset } = datagram;
    if (length < 0 || offset + length > (frame & -this.frameSize) + this.frameSize) return -ERRNO.EMSGSIZE;
    datagram.owned = false;
    return this.turnRound(datagram.socketId, datagram.port, frame, datagram.l3, datagram.l4, offset, length);
  }

  protected override sendReply(datagram: Datagram, length: number): number {
    if (datagram.home !== this.thread) return super.sendReply(datagram, length);
    datagram.owned = false;
    const { socketId, port, frame, l3, l4, offset } = datagram;
    return this.turnRound(socketId, port, frame, l3, l4, offset, length);
  }

  /**
   * Sends a received frame back to its sender, from the address it was sent to, headers rewritten in place.
   *
   * The plain frame (see plainUdp4) is done here in one function on halfwords, as through writeIpv4, writeUdp, finishUdp4
   * and writeLink it took 50 ns more (Bun 1.4.5, AMD EPYC 7003). All its fields are written, none trusted.
   */
  private turnRound(
    socket: number,
    portNumber: number,
    frame: number,
    ip: number,
    udp: number,
    payload: number,
    length: number,
  ): number {
    if (udp - frame !== PLAIN_UDP || (frame & 1) !== 0 || this.bytes[ip] !== 0x45) {
      return this.turnRoundSlow(socket, portNumber, frame, ip, udp, payload, length);
    }
    const { destinations, half, table } = this;
    const i = ip >> 1;
    const u = udp >> 1;
    const remote0 = half[i + 6];
    const remote1 = half[i + 7];
    const remotePort = half[u];
    const entry = destinations.resolve4((swap16(remote0) << 16) | swap16(remote1));
    const datagram = length + UDP_HEADER;
    const packet = datagram + IPV4_HEADER;
    if (entry === VIA_KERNEL || packet > destinations.mtu[entry]) {
      return this.turnRoundSlow(socket, portNumber, frame, ip, udp, payload, length);
    }
    const local0 = half[i + 8];
    const local1 = half[i + 9];
    const ttlTos = table.ttlTos[socket];
    const h0 = 0x45 | (ttlTos & 0xff00);
    const h1 = swap16(packet);
    const h4 = (ttlTos & 0xff) | (IPPROTO_UDP << 8);
    const addresses = remote0 + remote1 + local0 + local1;
    let header = h0 + h1 + IPV4_DF_SWAPPED + h4 + addresses;
    header = (header & 0xffff) + (header >>> 16);
    half[i] = h0;
    half[i + 1] = h1;
    half[i + 2] = 0;
    half[i + 3] = IPV4_DF_SWAPPED;
    half[i + 4] = h4;
    half[i + 5] = ~((header & 0xffff) + (header >>> 16));
    half[i + 6] = local0;
    half[i + 7] = local1;
    half[i + 8] = remote0;
    half[i + 9] = remote1;
    const localPort = half[u + 1];
    const size = swap16(datagram);
    half[u] = localPort;
    half[u + 1] = remotePort;
    half[u + 2] = size;
    const pseudo = addresses + localPort + remotePort + size + size + (IPPROTO_UDP << 8);
    let check = pseudo;
    if (length < LONG_BYTES) {
      const end = u + 4 + (length >> 1);
      for (let k = u + 4; k < end; k++) check = (check + half[k]) | 0;
      if ((length & 1) !== 0) check = (check + (half[end] & 0xff)) | 0;
    } else {
      check = sum(this.views, payload, length, pseudo);
    }
    check = (check & 0xffff) + (check >>> 16);
    check = ~((check & 0xffff) + (check >>> 16)) & 0xffff;
    half[u + 3] = check === 0 ? 0xffff : check;
    const { macs } = destinations;
    const e = frame >> 1;
    const m = entry * MAC_STRIDE;
    half[e] = macs[m];
    half[e + 1] = macs[m + 1];
    half[e + 2] = macs[m + 2];
    half[e + 3] = macs[m + 3];
    half[e + 4] = macs[m + 4];
    half[e + 5] = macs[m + 5];
    return this.transmit(this.outPort(entry, portNumber), frame, frame, PLAIN_PAYLOAD + length, length);
  }

  /** turnRound() of every other frame: with tags, with options, of IPv6, or for the kernel to send. */
  private turnRoundSlow(
    socket: number,
    portNumber: number,
    frame: number,
    ip: number,
    udp: number,
    payload: number,
    length: number,
  ): number {
    const { bytes } = this;
    if (bytes[ip] >> 4 === 6) return this.turnRound6(socket, portNumber, frame, ip, payload, length);
    const remote = readInt32(bytes, ip + IPV4_SRC);
    const { destinations, table } = this;
    const entry = destinations.resolve4(remote);
    const remotePort = readUint16(bytes, udp + UDP_SRC);
    const total = length + IPV4_HEADER + UDP_HEADER;
    if (entry === VIA_KERNEL || total > destinations.mtu[entry]) {
      if (entry !== VIA_KERNEL) this.counters[C.UdpOutTooBig]++;
      return this.outputViaKernel(socket, frame, payload, length, 0, 0, 0xffff, remote, remotePort);
    }
    const localPort = readUint16(bytes, udp + UDP_DST);
    const local = readInt32(bytes, ip + IPV4_DST);
    // The answer carries no options: its header may begin later than the question's.
    const header = udp - IPV4_HEADER;
    writeIpv4(
      this.views,
      header,
      table.ttlTos[socket] >> 8,
      total,
      0,
      IPV4_DF,
      table.ttlTos[socket] & 0xff,
      IPPROTO_UDP,
      local,
      remote,
    );
    writeUdp(bytes, udp, localPort, remotePort, length + UDP_HEADER);
    finishUdp4(this.views, udp, length + UDP_HEADER, header);
    // An answer to a tagged frame goes out as the route says, without the tag of the question.
    const ethernet = header - ETH_HEADER;
    this.writeLink(ethernet, entry, ETH_P_IP);
    return this.transmit(this.outPort(entry, portNumber), frame, ethernet, ETH_HEADER + total, length);
  }

  private turnRound6(
    socket: number,
    portNumber: number,
    frame: number,
    ip: number,
    payload: number,
    length: number,
  ): number {
    const { bytes, destinations } = this;
    const udp = payload - UDP_HEADER;
    const w0 = readInt32(bytes, ip + IPV6_SRC);
    const w1 = readInt32(bytes, ip + IPV6_SRC + 4);
    const w2 = readInt32(bytes, ip + IPV6_SRC + 8);
    const w3 = readInt32(bytes, ip + IPV6_SRC + 12);
    const remotePort = readUint16(bytes, udp + UDP_SRC);
    const entry = destinations.resolve(w0, w1, w2, w3);
    const total = length + IPV6_HEADER + UDP_HEADER;
    if (entry === VIA_KERNEL || total > destinations.mtu[entry]) {
      if (entry !== VIA_KERNEL) this.counters[C.UdpOutTooBig]++;
      return this.outputViaKernel(socket, frame, payload, length, w0, w1, w2, w3, remotePort);
    }
    for (let i = 0; i < 16; i += 4) writeInt32(bytes, ip + IPV6_SRC + i, readInt32(bytes, ip + IPV6_DST + i));
    writeInt32(bytes, ip + IPV6_DST, w0);
    writeInt32(bytes, ip + IPV6_DST + 4, w1);
    writeInt32(bytes, ip + IPV6_DST + 8, w2);
    writeInt32(bytes, ip + IPV6_DST + 12, w3);
    this.writeIpv6Start(ip, socket, length);
    writeUdp(bytes, udp, readUint16(bytes, udp + UDP_DST), remotePort, length + UDP_HEADER);
    finishUdp6(this.views, udp, length + UDP_HEADER, ip);
    const ethernet = ip - ETH_HEADER;
    this.writeLink(ethernet, entry, ETH_P_IPV6);
    return this.transmit(this.outPort(entry, portNumber), frame, ethernet, ETH_HEADER + total, length);
  }

  /** The eight bytes before the addresses, for `length` bytes of payload after a UDP header. */
  private writeIpv6Start(ip: number, socket: number, length: number): void {
    const { bytes } = this;
    const ttlTos = this.table.ttlTos[socket];
    writeInt32(bytes, ip, (6 << 28) | ((ttlTos >> 8) << 20));
    writeUint16(bytes, ip + IPV6_PAYLOAD_LENGTH, length + UDP_HEADER);
    bytes[ip + IPV6_NEXT_HEADER] = IPPROTO_UDP;
    bytes[ip + IPV6_HOP_LIMIT] = ttlTos & 0xff;
  }

  /** The port a frame came on is as good as the route's, when it is a queue of the same interface: keeps queues apart. */
  private outPort(entry: number, portNumber: number): number {
    const port = this.destinations.port[entry];
    const { ports } = this;
    return portNumber < ports.length && ports[portNumber].ifindex === ports[port].ifindex ? portNumber : port;
  }

  // ---- rings ----

  override poll(): number {
    // A handler that receives from another socket comes back here: its datagram, and the message at hand, must stay.
    if (this.handling) return 0;
    this.handling = true;
    let handled = 0;
    const { fromThread } = this;
    this.active = this.shared.mesh.activeThreads();
    for (let t = 0; t < this.active; t++) {
      const ring = fromThread[t];
      if (ring !== null) handled += this.drain(t, ring);
    }
    this.handling = false;
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
    this.countSent();
    const { toThread } = this;
    for (let t = 0; t < this.active; t++) {
      const ring = toThread[t];
      if (ring === null) continue;
      if (this.owed[t] > 0) this.lend(t, ring);
      if (ring.publish()) this.wake(t);
    }
  }

  private countSent(): void {
    const { counters } = this;
    counters[C.TxFrames] += this.sent;
    counters[C.TxBytes] += this.sentBytes;
    counters[C.UdpOutDatagrams] += this.sent;
    this.sent = 0;
    this.sentBytes = 0;
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
        // The frames it gave back last were those lent to it: takeBack() counted them as datagrams.
        this.outstanding[thread] += this.lent[thread];
        this.lent[thread] = 0;
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
    this.lent[thread]--;
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
      this.lent[thread] += count;
      this.owed[thread] -= count;
    }
  }

  protected override free(home: number, frame: number): void {
    if (home === this.thread) this.pool.give(frame);
    else super.free(home, frame);
  }

  // ---- sockets of this lcore ----

  override setHandler(socket: UdpSocket, handler: Handler | null): void {
    this.releaseHandler(this.handlerOf[socket.id]);
    this.handlerOf[socket.id] = 0;
    if (handler === null) return;
    this.handlerOf[socket.id] = this.handlerNumber(handler);
    this.drainQueue(socket, handler);
  }

  override tableChanged(): void {
    this.control();
  }

  /** The number of a handler, a new one if no socket has it yet. */
  private handlerNumber(handler: Handler): number {
    const known = this.handlerNumbers.get(handler);
    if (known !== undefined) {
      this.handlerUsers[known]++;
      return known;
    }
    const number = this.freeHandlers.pop() ?? this.handlers.length;
    if (number > HANDLERS_MAX) {
      throw new RangeError(
        `more than ${HANDLERS_MAX} handlers on one lcore: let sockets share a function (d.socketId tells)`,
      );
    }
    this.handlers[number] = handler;
    this.handlerUsers[number] = 1;
    this.handlerNumbers.set(handler, number);
    return number;
  }

  private releaseHandler(number: number): void {
    if (number === 0 || --this.handlerUsers[number] > 0) return;
    this.handlerNumbers.delete(this.handlers[number] as Handler);
    this.handlers[number] = null;
    this.freeHandlers.push(number);
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

/** The unsigned number at `at`, least significant byte first, as the XDP program writes it. */
function littleEndian32(bytes: Uint8Array, at: number): number {
  return (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0;
}

/**
 * Whether no packet on a wire may come from the address: this network, loopback, groups, broadcast (RFC 1122, 3.2.1.3).
 * Linux drops them as martians (net/ipv4/route.c, ip_route_input_slow); answered, they would reach whole networks.
 */
function isMartian4(source: number): boolean {
  const first = source >>> 24;
  return first === 0 || first === 127 || first >> 4 === 14 || source === -1;
}

/** As isMartian4() over IPv6: groups and the loopback address (net/ipv6/ip6_input.c, ip6_rcv_core). */
function isMartian6(bytes: Uint8Array, source: number): boolean {
  if (bytes[source] === 0xff) return true;
  return (
    readInt32(bytes, source) === 0 &&
    readInt32(bytes, source + 4) === 0 &&
    readInt32(bytes, source + 8) === 0 &&
    readInt32(bytes, source + 12) === 1
  );
}
