/**
 * TCP's receive path in memory: segments in order, written beforehand into frames as a NIC would have by DMA, taken by a
 * Tcp, read by the application, acknowledged as the protocol wants it into frames that nobody sends.
 */
import { bind, consumed, listen, openSocket, peekChunk, receive } from "../sockets/tcp/calls.ts";
import { Tcp, type TcpSink } from "../sockets/tcp/core.ts";
import { N } from "../sockets/tcp/counters.ts";
import { input4 } from "../sockets/tcp/input.ts";
import { accept } from "../sockets/tcp/listen.ts";
import { runTimers } from "../sockets/tcp/timers.ts";
import { WARM_FROM, warm4 } from "../sockets/tcp/warm.ts";
import { IPPROTO_TCP, IPV4_DF, IPV4_HEADER, writeIpv4 } from "../sockets/wire/ipv4.ts";
import { checkTcp4, finishTcp4, TCP_ACK, TCP_HEADER, TCP_OK, TCP_PSH, writeTcp } from "../sockets/wire/tcp.ts";
import { FrameViews, readInt32, writeInt32 } from "../sockets/wire/views.ts";
import { BURST, shuffled } from "./in-memory.ts";

const LOCAL = 0xc6120001 | 0; // 198.18.0.1
const REMOTE_BASE = 0xc6130000 | 0; // 198.19.0.0
const PORT = 9000;
const FRAME_SIZE = 2048;
/** Where a frame's IP header lies: XDP_PACKET_HEADROOM and an Ethernet header before it. */
const IP_AT = 256 + 14;
const TCP_AT = IP_AT + IPV4_HEADER;
const TS_OPTION = 0x0101080a;
const HEADER = TCP_HEADER + 12;
/** Microseconds between segments: a gigabit's worth of small ones. */
const STEP_US = 1;
const SENT_FRAMES = 64;
const BUFFER_BYTES = 64 << 20;

/** Frames that are written over and over. */
class Nowhere implements TcpSink {
  readonly views: FrameViews;
  sent = 0;
  private readonly base: number;

  constructor(views: FrameViews, base: number) {
    this.views = views;
    this.base = base;
  }

  frame(): number {
    return this.base + (this.sent & (SENT_FRAMES - 1)) * FRAME_SIZE + TCP_AT;
  }

  send(): void {
    this.sent++;
  }

  mtu(): number {
    return 1500;
  }
}

export class TcpMemory {
  readonly tcp: Tcp;
  /** Bytes that the application has read. */
  read = 0;
  private readonly views: FrameViews;
  private readonly frames: number;
  private readonly payload: number;
  private readonly order: Int32Array;
  private readonly nextSeq: Int32Array;
  private readonly acks: Int32Array;
  private readonly ips = new Int32Array(BURST);
  private readonly copy: boolean;
  private readonly target = new FrameViews(new Uint8Array(65_536));
  private readonly sink: Nowhere;
  private now = 1e6;
  private at = 0;

  /**
   * @param frames segments a run
   * @param copy whether the application copies bytes out, or looks at them where they are
   */
  constructor(connections: number, frames: number, payload: number, copy: boolean) {
    this.frames = frames;
    this.payload = payload;
    this.copy = copy;
    // Frames received, frames sent, and buffers behind them: one memory, as an lcore has it.
    const framesEnd = (frames + SENT_FRAMES) * FRAME_SIZE;
    this.views = new FrameViews(new Uint8Array(framesEnd + BUFFER_BYTES));
    this.sink = new Nowhere(this.views, frames * FRAME_SIZE);
    const limits = { connections: connections + 16, bufferBytes: BUFFER_BYTES, pressureBytes: BUFFER_BYTES };
    const config = { ...limits, acceptBacklogMax: 4096, segments: 8192 };
    this.tcp = new Tcp(config, this.sink, Int32Array.of(1, 2, 3, 4), 1, this.now, {
      memory: this.views,
      memoryOffset: framesEnd,
    });
    this.order = shuffled(connections);
    this.nextSeq = new Int32Array(connections).fill(1000);
    this.acks = new Int32Array(connections);
    this.open(connections);
    for (let f = 0; f < frames; f++) {
      const at = f * FRAME_SIZE + TCP_AT + HEADER;
      for (let i = 0; i < payload; i++) this.views.bytes[at + i] = i;
    }
  }

  /** A handshake for each connection, with timestamps. */
  private open(connections: number): void {
    const { tcp, views, frames } = this;
    const listener = openSocket(tcp, false);
    bind(tcp, listener, Int32Array.of(0, 0, 0xffff, LOCAL), PORT);
    if (listen(tcp, listener, 4096, false) !== 0) throw new Error("cannot listen");
    for (let i = 0; i < connections; i++) {
      this.write(0, i, 999, 0, 0x02, 0);
      input4(tcp, views, IP_AT, TCP_AT, HEADER);
      const answer = (frames + ((this.sink.sent - 1) & (SENT_FRAMES - 1))) * FRAME_SIZE + TCP_AT;
      const iss = readInt32(views.bytes, answer + 4);
      this.write(0, i, 1000, (iss + 1) | 0, TCP_ACK, 0);
      input4(tcp, views, IP_AT, TCP_AT, HEADER);
      if (accept(tcp, listener) < 0) throw new Error(`connection ${i} was not accepted`);
      this.acks[i] = (iss + 1) | 0;
    }
    while (tcp.nextReady() >= 0);
  }

  private write(frame: number, flow: number, seq: number, ack: number, flags: number, payload: number): void {
    const { views } = this;
    const ip = frame * FRAME_SIZE + IP_AT;
    const tcp = ip + IPV4_HEADER;
    const length = HEADER + payload;
    writeIpv4(
      ...([views, ip, 0, IPV4_HEADER + length, 0, IPV4_DF, 64, IPPROTO_TCP] as const),
      ...([REMOTE_BASE + (flow & 0xffff), LOCAL] as const),
    );
    writeTcp(views.bytes, tcp, 10_000 + (flow >>> 16), PORT, seq, ack, HEADER, flags, 65_535);
    writeInt32(views.bytes, tcp + TCP_HEADER, TS_OPTION);
    writeInt32(views.bytes, tcp + TCP_HEADER + 4, (this.now / 1000) | 0);
    writeInt32(views.bytes, tcp + TCP_HEADER + 8, 0);
    finishTcp4(views, tcp, length, ip);
  }

  /** Writes the segments of a run, of connections in an order that comes round to each. Not to be timed. */
  prepare(): void {
    const { order, nextSeq, payload } = this;
    for (let f = 0; f < this.frames; f++) {
      const flow = order[this.at];
      this.at = this.at + 1 === order.length ? 0 : this.at + 1;
      this.write(f, flow, nextSeq[flow], this.acks[flow], TCP_ACK | TCP_PSH, payload);
      nextSeq[flow] = (nextSeq[flow] + payload) | 0;
    }
    this.read = 0;
    this.tcp.counters[N.TCPHPHits] = 0;
  }

  /** Takes and reads them, in bursts between two looks at the clock. This is timed. */
  run(): void {
    const { tcp, views, payload, frames } = this;
    for (let f = 0; f < frames; f++) {
      if (f % BURST === 0) {
        this.now += BURST * STEP_US;
        tcp.begin(this.now);
        runTimers(tcp);
        if (tcp.open > WARM_FROM) this.warm(f);
      }
      const ip = f * FRAME_SIZE + IP_AT;
      if (checkTcp4(views, ip + IPV4_HEADER, HEADER + payload, ip) !== TCP_OK) throw new Error("a bad segment");
      input4(tcp, views, ip, ip + IPV4_HEADER, HEADER + payload);
      if (f % BURST === BURST - 1) this.readAll();
    }
  }

  private warm(first: number): void {
    for (let i = 0; i < BURST; i++) this.ips[i] = (first + i) * FRAME_SIZE + IP_AT;
    warm4(this.tcp, this.views, this.ips, BURST, IPV4_HEADER);
  }

  private readAll(): void {
    const { tcp } = this;
    for (let id = tcp.nextReady(); id >= 0; id = tcp.nextReady()) {
      if (tcp.takeEvents(id) === 0) continue;
      if (this.copy) this.read += receive(tcp, id, this.target, 0, 65_536, 0);
      else
        for (let count = peekChunk(tcp, id); count > 0; count = peekChunk(tcp, id)) {
          this.read += this.look(count);
          consumed(tcp, id, count);
        }
    }
  }

  /** An application that looks at a few of the bytes. */
  private look(count: number): number {
    const { bytes } = this.tcp.chunks.views;
    const at = this.tcp.readOffset;
    return bytes[at] + bytes[at + count - 1] >= 0 ? count : 0;
  }

  /** Throws unless every segment took the short way and every byte was read. */
  verify(): void {
    const { tcp, frames, payload } = this;
    const short = tcp.counters[N.TCPHPHits];
    if (this.read !== frames * payload || short !== frames)
      throw new Error(`${this.read} bytes of ${frames * payload} read, ${short} of ${frames} segments the short way`);
  }
}
