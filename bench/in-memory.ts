/**
 * The packet path without a kernel: a real Stack with its Lookup, fed from a port whose frames were written beforehand, as
 * a NIC would have by DMA. What is timed is what an lcore runs between its queue and the application.
 */

import { MemoryBinder } from "../engine/memory-binder.ts";
import { Burst, type Port } from "../queues/driver.ts";
import { FramePool } from "../queues/pool.ts";
import { CounterBoard } from "../sockets/counters.ts";
import { FIB_BYTES, Fib, FibWriter } from "../sockets/fib.ts";
import { Mesh } from "../sockets/mesh.ts";
import { PORTS_MAX, type Shared } from "../sockets/shared.ts";
import { Stack } from "../sockets/stack.ts";
import { Sysctl } from "../sockets/sysctl.ts";
import { SocketTable } from "../sockets/table.ts";
import { TCP_DEFAULTS } from "../sockets/tcp/config.ts";
import { type Handler, UdpSocket } from "../sockets/udp-socket.ts";
import { ip } from "../sockets/wire/address.ts";
import { ETH_HEADER, ETH_P_IP } from "../sockets/wire/ethernet.ts";
import { IPPROTO_UDP, IPV4_DF, IPV4_HEADER, writeIpv4 } from "../sockets/wire/ipv4.ts";
import { finishUdp4, UDP_HEADER, writeUdp } from "../sockets/wire/udp.ts";
import { FrameViews, writeUint16 } from "../sockets/wire/views.ts";

export const BURST = 32;
/** Frames written at a time, in 256 bursts: 2 lines each, about what a NIC's writes would have left in the cache. */
export const FRAMES = 8192;
export const FRAME_SIZE = 2048;
/** XDP_PACKET_HEADROOM. */
export const HEADROOM = 256;
/** Bytes of payload: a frame of 60 bytes, the shortest on a wire. */
export const PAYLOAD = 18;
const FRAME_BYTES = ETH_HEADER + IPV4_HEADER + UDP_HEADER + PAYLOAD;
export const IFINDEX = 1;
const LOCAL = 0xc6120001 | 0; // 198.18.0.1
const LOCAL_PORT = 9000;
const REMOTE_BASE = 0xc6130000 | 0; // 198.19.0.0
const REMOTE_PORT_BASE = 10_000;
const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
const GATEWAY_MAC = Uint8Array.of(2, 0, 0, 0, 0, 2);

/** Remote address and port of a flow, by its number up to 2^20. */
export const remoteOf = (flow: number): number => REMOTE_BASE + (flow & 0xffff);
export const remotePortOf = (flow: number): number => REMOTE_PORT_BASE + (flow >>> 16);

/** A queue whose received frames lie in memory already, and whose sent ones are free again at once. */
export class PreparedPort implements Port {
  readonly ifindex = IFINDEX;
  readonly queue = 0;
  readonly memory: Uint8Array;
  readonly pool: FramePool;
  readonly fd = -1;
  readonly partialChecksums = false;
  readonly unsent = false;
  readonly txDropped = 0;
  readonly txRefused = 0;
  readonly segmenter = null;
  napiId = 0;
  txDone = 0;
  /** Frames sent. */
  sent = 0;
  private next = 0;
  private readonly pushed = new Int32Array(FRAMES);
  private pushes = 0;
  private readonly length: number;
  private readonly spare: number;

  /**
   * @param length bytes of a prepared frame
   * @param spare frames that are left for what is sent
   */
  constructor(memory: Uint8Array, pool: FramePool, length = FRAME_BYTES, spare = 0) {
    this.memory = memory;
    this.pool = pool;
    this.length = length;
    this.spare = spare;
  }

  /** Begins again with the first prepared frame. */
  rewind(): void {
    this.next = 0;
  }

  rxBurst(burst: Burst, _now: number, most = BURST): number {
    const count = Math.min(most, FRAMES - this.next);
    for (let i = 0; i < count; i++) {
      burst.offset[i] = (this.next + i) * FRAME_SIZE + HEADROOM;
      burst.length[i] = this.length;
    }
    this.next += count;
    burst.count = count;
    return count;
  }

  txPush(offset: number): boolean {
    this.pushed[this.pushes++] = offset;
    return true;
  }

  /** Offset of a frame sent since the last txComplete(). */
  sentAt(i: number): number {
    return this.pushed[i];
  }

  get txRoom(): number {
    return FRAMES - this.pushes;
  }

  get txPushed(): number {
    return this.txDone + this.pushes;
  }

  txFlush(): void {}

  txComplete(): number {
    const count = this.pushes;
    for (let i = 0; i < count; i++) this.pool.give(this.pushed[i]);
    this.sent += count;
    this.txDone += count;
    this.pushes = 0;
    return count;
  }

  /** As the fill ring would: takes every free frame that is not to be spared. */
  refill(): number {
    const count = this.pool.available - this.spare;
    for (let i = 0; i < count; i++) this.pool.take();
    return count;
  }

  busyPoll(): void {}

  close(): void {}
}

/** Sockets on one port instead of a socket a flow: one, or a reuseport group, and what is attached to them. */
export interface PathShape {
  readonly members: number;
  attach(members: readonly UdpSocket[], stack: Stack): void;
}

export class InMemory {
  readonly stack: Stack;
  readonly port: PreparedPort;
  readonly views: FrameViews;
  readonly socket: UdpSocket;
  readonly flows: number;
  /** Datagrams that the handler has seen, and the bytes in them. */
  delivered = 0;
  bytes = 0;
  private readonly burst = new Burst();
  private readonly order: Int32Array;
  private at = 0;

  /**
   * @param reply whether the handler answers each datagram
   * @param shape who gets the flows' datagrams: without it, a socket each
   */
  constructor(flows: number, reply: boolean, shape: PathShape | null = null) {
    this.flows = flows;
    const buffer = new SharedArrayBuffer(FRAMES * FRAME_SIZE);
    this.views = new FrameViews(new Uint8Array(buffer));
    const fib = new SharedArrayBuffer(FIB_BYTES);
    const shared: Shared = {
      table: SocketTable.create(flows + 16, 1),
      mesh: Mesh.create(1, 1, 64),
      memories: [this.views],
      frameSizes: [FRAME_SIZE],
      binder: new MemoryBinder([ip("198.18.0.1")]),
      portInfo: new Int32Array(PORTS_MAX * 2),
      sysctl: new Sysctl(Sysctl.create()),
      fib,
      tcbs: [],
      tcp: TCP_DEFAULTS,
      portOwners: new Uint8Array(65_536),
      portUse: [],
      ifindex: IFINDEX,
      controlThread: -1,
      hostThread: -1,
      board: CounterBoard.create(2),
    };
    publishRoute(fib);
    const pool = new FramePool(FRAMES, FRAME_SIZE);
    this.port = new PreparedPort(this.views.bytes, pool);
    // Every frame is with the port, as if in its fill ring.
    this.port.refill();
    const seed = crypto.getRandomValues(new Int32Array(1))[0];
    this.stack = new Stack(0, shared, [this.port], pool, new Fib(fib), seed);
    this.stack.control();
    const reusePort = shape !== null && shape.members > 1;
    this.socket = UdpSocket.open(this.stack, { port: LOCAL_PORT, reusePort });
    this.order = shuffled(flows);
    for (let f = 0; f < FRAMES; f++) {
      const at = f * FRAME_SIZE + HEADROOM;
      writeLink(this.views.bytes, at);
      // The payload stays as it is: an answer is written over the same bytes.
      for (let i = 0; i < PAYLOAD; i++) this.views.bytes[at + FRAME_BYTES - PAYLOAD + i] = i;
    }
    // One handler for all, as a server has: the lookup decides which socket, not which code.
    const handler: Handler = reply
      ? (datagram) => {
          this.count(datagram.length);
          datagram.reply();
        }
      : (datagram) => this.count(datagram.length);
    if (shape !== null) {
      const members = [this.socket];
      while (members.length < shape.members) members.push(UdpSocket.open(this.stack, { port: LOCAL_PORT, reusePort }));
      for (const member of members) member.onDatagram = handler;
      shape.attach(members, this.stack);
      this.stack.control();
      return;
    }
    const local = Int32Array.of(0, 0, 0xffff, LOCAL);
    const remote = Int32Array.of(0, 0, 0xffff, 0);
    for (let flow = 0; flow < flows; flow++) {
      remote[3] = remoteOf(flow);
      this.socket.flowOf(local, remote, remotePortOf(flow)).onDatagram = handler;
    }
    this.stack.control();
  }

  private count(length: number): void {
    this.delivered++;
    this.bytes += length;
  }

  /** Writes FRAMES frames, of flows in a random order that comes round to each. Not to be timed. */
  prepare(): void {
    const { order, views, flows } = this;
    for (let f = 0; f < FRAMES; f++) {
      const flow = order[this.at];
      this.at = this.at + 1 === flows ? 0 : this.at + 1;
      const ip = f * FRAME_SIZE + HEADROOM + ETH_HEADER;
      const udp = ip + IPV4_HEADER;
      const total = IPV4_HEADER + UDP_HEADER + PAYLOAD;
      writeIpv4(views, ip, 0, total, 0, IPV4_DF, 64, IPPROTO_UDP, remoteOf(flow), LOCAL);
      writeUdp(views.bytes, udp, remotePortOf(flow), LOCAL_PORT, UDP_HEADER + PAYLOAD);
      finishUdp4(views, udp, UDP_HEADER + PAYLOAD, ip);
    }
    this.port.rewind();
    this.delivered = 0;
    this.bytes = 0;
    this.port.sent = 0;
  }

  /** What an lcore does with the prepared frames, burst by burst. This is timed. */
  run(): void {
    const { burst, port, stack } = this;
    while (port.rxBurst(burst, 0) > 0) {
      stack.control();
      stack.input(0, burst);
      stack.flush();
      port.txFlush();
      port.txComplete();
      port.refill();
    }
  }

  /** Throws unless every prepared frame was delivered, and answered if `answered`. */
  verify(answered: boolean): void {
    const expected = answered ? FRAMES : 0;
    if (this.delivered !== FRAMES || this.bytes !== FRAMES * PAYLOAD || this.port.sent !== expected)
      throw new Error(`of ${FRAMES} frames ${this.delivered} were delivered and ${this.port.sent} answered`);
  }
}

/** The host 198.18.0.1 with a neighbour on the way to everybody. */
export function publishRoute(fib: SharedArrayBuffer): void {
  new FibWriter(fib).publish({
    links: [{ ifindex: IFINDEX, mac: MAC, mtu: 1500, up: true }],
    addresses: [{ ifindex: IFINDEX, address: ip("198.18.0.1"), prefixLength: 24 }],
    routes: [
      { destination: ip("0.0.0.0"), prefixLength: 0, ifindex: IFINDEX, gateway: ip("198.18.0.2"), metric: 0 },
      { destination: ip("198.18.0.0"), prefixLength: 24, ifindex: IFINDEX, source: ip("198.18.0.1"), metric: 0 },
    ],
    neighbours: [{ ifindex: IFINDEX, address: ip("198.18.0.2"), mac: GATEWAY_MAC }],
  });
}

/** The Ethernet header of a frame from that neighbour. */
export function writeLink(bytes: Uint8Array, at: number): void {
  bytes.set(MAC, at);
  bytes.set(GATEWAY_MAC, at + 6);
  writeUint16(bytes, at + 12, ETH_P_IP);
}

/** The numbers below `count` in a random order, the same at every run (xorshift32, Marsaglia 2003). */
export function shuffled(count: number): Int32Array {
  const order = Int32Array.from({ length: count }, (_, i) => i);
  let state = 0x9e3779b9 | 0;
  for (let i = count - 1; i > 0; i--) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    const j = (state >>> 0) % (i + 1);
    const swap = order[i];
    order[i] = order[j];
    order[j] = swap;
  }
  return order;
}
