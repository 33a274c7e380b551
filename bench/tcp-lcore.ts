/**
 * TCP on an lcore in memory: requests that lie in frames already, as a NIC would have written them, through a real Stack to a
 * server that answers each; what it sends goes nowhere. What is timed is what an lcore runs between its queue's two rings.
 */
import { MemoryBinder } from "../engine/memory-binder.ts";
import { Burst } from "../queues/driver.ts";
import { LARGE_AREA } from "../queues/large.ts";
import { FramePool } from "../queues/pool.ts";
import { CounterBoard } from "../sockets/counters.ts";
import { FIB_BYTES, Fib } from "../sockets/fib.ts";
import { Mesh } from "../sockets/mesh.ts";
import { PORTS_MAX, type Shared } from "../sockets/shared.ts";
import { Stack } from "../sockets/stack.ts";
import { TCP_SCRATCH_BYTES } from "../sockets/stream/tcp-setup.ts";
import type { TcpSocket } from "../sockets/stream/tcp-socket.ts";
import { Sysctl } from "../sockets/sysctl.ts";
import { SocketTable } from "../sockets/table.ts";
import { TCP_DEFAULTS } from "../sockets/tcp/config.ts";
import { recordsBytes } from "../sockets/tcp/core.ts";
import { synOptionsLength, writeSynOptions } from "../sockets/tcp/options.ts";
import { F_SACK, F_TS, F_WSCALE } from "../sockets/tcp/tcb.ts";
import { ip } from "../sockets/wire/address.ts";
import { ETH_HEADER } from "../sockets/wire/ethernet.ts";
import { IPPROTO_TCP, IPV4_DF, IPV4_HEADER, writeIpv4 } from "../sockets/wire/ipv4.ts";
import { finishTcp4, TCP_ACK, TCP_HEADER, TCP_PSH, TCP_SYN, writeTcp } from "../sockets/wire/tcp.ts";
import { FrameViews, readInt32, writeInt32 } from "../sockets/wire/views.ts";
import {
  BURST,
  FRAME_SIZE,
  FRAMES,
  HEADROOM,
  IFINDEX,
  PreparedPort,
  publishRoute,
  remoteOf,
  remotePortOf,
  shuffled,
  writeLink,
} from "./in-memory.ts";

const LOCAL = 0xc6120001 | 0; // 198.18.0.1
const PORT = 9000;
const TS_OPTION = 0x0101080a;
const HEADER = TCP_HEADER + 12;
/** What a peer's SYN offers. */
const OFFERED = F_TS | F_SACK | F_WSCALE;
const SYN_HEADER = TCP_HEADER + synOptionsLength(OFFERED);
const MSS = 1460;
const FIRST_SEQ = 1000;
/** Frames for what is sent, beside those that are received. */
const SPARE_FRAMES = 1024;
const BUFFER_BYTES = 64 << 20;

export class TcpLcorePath {
  private readonly stack: Stack;
  private readonly port: PreparedPort;
  private readonly views: FrameViews;
  private readonly burst = new Burst();
  private readonly payload: number;
  private readonly requests: number;
  private readonly acknowledged: boolean;
  private readonly order: Int32Array;
  private readonly nextSeq: Int32Array;
  private readonly acks: Int32Array;
  private at = 0;
  private opened = 0;
  /** Bytes that the server has answered. */
  private answered = 0;

  /**
   * @param payload bytes of a request, and of its response
   * @param acknowledged whether responses are acknowledged by segments of their own, a burst later, as by clients that ask
   * seldom; else by the next request
   */
  constructor(connections: number, payload: number, acknowledged: boolean) {
    this.payload = payload;
    this.acknowledged = acknowledged;
    this.requests = acknowledged ? FRAMES / 2 : FRAMES;
    const frames = FRAMES + SPARE_FRAMES;
    const behind = BUFFER_BYTES + TCP_SCRATCH_BYTES + LARGE_AREA;
    const buffer = new SharedArrayBuffer(frames * FRAME_SIZE + behind);
    this.views = new FrameViews(new Uint8Array(buffer));
    const fib = new SharedArrayBuffer(FIB_BYTES);
    const records = connections + 16;
    const shared: Shared = {
      table: SocketTable.create(64, 1),
      mesh: Mesh.create(1, 1, 64),
      memories: [this.views],
      frameSizes: [FRAME_SIZE],
      binder: new MemoryBinder([ip("198.18.0.1")]),
      portInfo: new Int32Array(PORTS_MAX * 2),
      sysctl: new Sysctl(Sysctl.create()),
      fib,
      tcbs: [new Int32Array(new SharedArrayBuffer(recordsBytes(records)))],
      tcp: { ...TCP_DEFAULTS, connections: records, bufferBytes: BUFFER_BYTES, pressureBytes: BUFFER_BYTES },
      portOwners: new Uint8Array(65_536),
      portUse: [new Int32Array(65_536)],
      ifindex: IFINDEX,
      controlThread: -1,
      hostThread: -1,
      board: CounterBoard.create(2),
    };
    publishRoute(fib);
    const pool = new FramePool(frames, FRAME_SIZE);
    this.port = new PreparedPort(this.views.bytes, pool, ETH_HEADER + IPV4_HEADER + HEADER + payload, SPARE_FRAMES);
    this.port.refill();
    const secret = crypto.getRandomValues(new Int32Array(4));
    const setup = { secret, seed: secret[0], raw4: -1, raw6: -1, rss: null };
    this.stack = new Stack(0, shared, [this.port], pool, new Fib(fib), secret[1], setup);
    this.stack.control();
    this.order = shuffled(connections);
    this.nextSeq = new Int32Array(connections).fill(FIRST_SEQ + 1);
    this.acks = new Int32Array(connections);
    for (let f = 0; f < FRAMES; f++) writeLink(this.views.bytes, f * FRAME_SIZE + HEADROOM);
    const open = (): void => {
      this.opened++;
    };
    this.stack.listen({ port: PORT, noDelay: true }, { open, readable: (socket) => this.answer(socket) });
    this.open(connections);
  }

  private answer(socket: TcpSocket): void {
    for (let count = socket.peek(); count > 0; count = socket.peek()) {
      const sent = socket.echo(count);
      if (sent < count) throw new Error(`${sent} of ${count} bytes were taken`);
      this.answered += sent;
    }
  }

  /** A handshake for each connection. */
  private open(connections: number): void {
    for (let first = 0; first < connections; first += BURST) {
      const count = Math.min(BURST, connections - first);
      this.port.rewind();
      for (let i = 0; i < count; i++) this.writeSyn(i, first + i);
      this.pass(count);
      for (let i = 0; i < count; i++) {
        const tcp = this.port.sentAt(i) + ETH_HEADER + IPV4_HEADER;
        this.acks[first + i] = (readInt32(this.views.bytes, tcp + 4) + 1) | 0;
      }
      this.finish();
      this.port.rewind();
      for (let i = 0; i < count; i++) this.write(i, first + i, FIRST_SEQ + 1, this.acks[first + i], TCP_ACK, 0);
      this.pass(count);
      this.finish();
    }
    if (this.opened !== connections) throw new Error(`${this.opened} of ${connections} connections are open`);
  }

  private writeSyn(frame: number, flow: number): void {
    const at = frame * FRAME_SIZE + HEADROOM + ETH_HEADER;
    this.writeIp(at, flow, SYN_HEADER);
    const tcp = at + IPV4_HEADER;
    writeTcp(this.views.bytes, tcp, remotePortOf(flow), PORT, FIRST_SEQ, 0, SYN_HEADER, TCP_SYN, 65_535);
    writeSynOptions(this.views.bytes, tcp + TCP_HEADER, OFFERED, MSS, 0, performance.now(), 0);
    finishTcp4(this.views, tcp, SYN_HEADER, at);
  }

  private writeIp(at: number, flow: number, length: number): void {
    writeIpv4(
      ...([this.views, at, 0, IPV4_HEADER + length, 0, IPV4_DF, 64, IPPROTO_TCP] as const),
      ...([remoteOf(flow), LOCAL] as const),
    );
  }

  private write(frame: number, flow: number, seq: number, ack: number, flags: number, payload: number): void {
    const { views } = this;
    const at = frame * FRAME_SIZE + HEADROOM + ETH_HEADER;
    const tcp = at + IPV4_HEADER;
    const length = HEADER + payload;
    this.writeIp(at, flow, length);
    writeTcp(views.bytes, tcp, remotePortOf(flow), PORT, seq, ack, HEADER, flags, 65_535);
    writeInt32(views.bytes, tcp + TCP_HEADER, TS_OPTION);
    writeInt32(views.bytes, tcp + TCP_HEADER + 4, performance.now());
    writeInt32(views.bytes, tcp + TCP_HEADER + 8, 0);
    finishTcp4(views, tcp, length, at);
  }

  /** Writes the segments of a run, of connections in an order that comes round to each. Not to be timed. */
  prepare(): void {
    const { acks, nextSeq, order, payload } = this;
    for (let f = 0; f < FRAMES; ) {
      const flows: number[] = [];
      for (let i = 0; i < BURST; i++, f++) {
        const flow = order[this.at];
        this.at = this.at + 1 === order.length ? 0 : this.at + 1;
        flows.push(flow);
        this.write(f, flow, nextSeq[flow], acks[flow], TCP_ACK | TCP_PSH, payload);
        nextSeq[flow] = (nextSeq[flow] + payload) | 0;
        acks[flow] = (acks[flow] + payload) | 0;
      }
      if (!this.acknowledged) continue;
      for (const flow of flows) this.write(f++, flow, nextSeq[flow], acks[flow], TCP_ACK, 0);
    }
    this.port.rewind();
    this.port.sent = 0;
    this.answered = 0;
  }

  /** Requests of a run. */
  get count(): number {
    return this.requests;
  }

  /** What an lcore does with them, burst by burst. This is timed. */
  run(): void {
    for (let f = 0; f < FRAMES; f += BURST) {
      this.pass(BURST);
      this.finish();
    }
  }

  /** A turn with the next `count` frames. */
  private pass(count: number): void {
    const { burst, port, stack } = this;
    stack.control();
    port.rxBurst(burst, 0, count);
    stack.input(0, burst);
    stack.flush();
  }

  private finish(): void {
    const { port } = this;
    port.txFlush();
    port.txComplete();
    port.refill();
  }

  /** Throws unless every request was answered. The first of a connection is acknowledged besides. */
  verify(): void {
    const answers = this.answered / this.payload;
    if (answers !== this.requests || this.port.sent < this.requests)
      throw new Error(`of ${this.requests} requests ${answers} were answered, in ${this.port.sent} segments`);
  }
}
