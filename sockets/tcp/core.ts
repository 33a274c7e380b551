/**
 * A TCP without clock, threads or NIC: records, pools, tables and counters of all connections that one lcore owns. What
 * happens with them is in plain functions over a Tcp and a record, by the roles of RFC 9293: see docs/tcp.md.
 *
 * Driving it:
 * - begin(now) brings the time, microseconds, never backwards; every call after it happens then.
 * - input4(), input6() of input.ts take a segment that a door of wire/tcp.ts has let in.
 * - runTimers() of timers.ts fires what is due; nextTimer() says when that is.
 * - Calls of applications are in calls.ts; nextReady() gives connections to which something has happened.
 * - Segments leave through the sink, within whichever call causes them.
 */
import { Random } from "../../queues/random.ts";
import { FlowTable } from "../flow-table.ts";
import { FlowTable6 } from "../flow-table6.ts";
import { Timers } from "../timers.ts";
import { IPPROTO_TCP } from "../wire/ipv4.ts";
import type { FrameViews } from "../wire/views.ts";
import { Chunks } from "./buffers.ts";
import { checkConfig, TCP_DEFAULTS, type TcpConfig } from "./config.ts";
import { TCP_COUNTERS } from "./counters.ts";
import { NO_FILTERS, type SegmentFilters } from "./filter.ts";
import type { Listener } from "./listen.ts";
import { ListenersByPort } from "./listeners.ts";
import { PortRange } from "./ports.ts";
import { Ranges } from "./reassembly.ts";
import { Segments } from "./segments.ts";
import {
  EVENTS,
  F_ORPHAN,
  F_READY,
  F_V6,
  FILTER,
  FLAGS,
  FREE,
  GENERATION,
  L_FILTER,
  L_UNACCEPTED,
  LOCAL,
  LOCKS,
  OOO_HEAD,
  PORTS,
  RACK_HEAD,
  RACK_TAIL,
  RCV_HEAD,
  RCV_TAIL,
  REMOTE,
  SCRATCH_USED,
  SEG_HEAD,
  SEG_TAIL,
  SND_CHUNK,
  SND_HEAD,
  SND_TAIL,
  STATE,
  TCB_WORDS,
  TIMERS,
} from "./tcb.ts";

/** Microseconds of a tick of the timers: a timer is at most so much late. 2^30 of them, the furthest deadline, are 19 hours. */
const TICK_US = 64;

/** Connections that acknowledge, and that send, at the end of a turn; one more does so at once. */
const ACK_TURN_MAX = 256;
const PUSH_TURN_MAX = 256;

/** Segments that warm4() takes at a time. */
const WARM_MAX = 64;

/** Where segments go. */
export interface TcpSink {
  /** Memory that frames lie in, with two bytes to spare before each word-aligned IP header as in received frames. */
  readonly views: FrameViews;
  /**
   * Room for a segment, the lower headers in front of it.
   * @param length bytes of TCP header and payload
   * @returns offset of the TCP header, even; -1: none now
   */
  frame(length: number, v6: boolean): number;
  /**
   * Sends the segment written at the offset that frame() gave, checksum 0. The sink makes the IP header and both checksums.
   * @param words the source address at words[at], the destination at words[at + 4]: four words each, IPv4 mapped
   * @param tos the TOS byte or traffic class, ECN bits included
   * @param df whether routers may not fragment it
   * @param hops TTL or hop limit, 0: the host's; above that byte HOPS_ bits of tcb.ts, and `at` is LOCAL of the record that has them
   */
  send(
    tcp: number,
    length: number,
    words: Int32Array,
    at: number,
    v6: boolean,
    tos: number,
    df: boolean,
    hops: number,
  ): void;
  /** Bytes of the largest packet to the destination at words[at + 4]. */
  mtu(words: Int32Array, at: number, v6: boolean): number;
  /** Null or none: every segment goes by send(). */
  readonly gso?: GsoSink | null;
}

/**
 * Where packets of many segments go, which the kernel or a NIC cuts into them (generic segmentation offload, GSO). room(), then
 * begin(), add() for each piece of the payload, send().
 */
export interface GsoSink {
  /** Bytes of TCP header and payload that a packet to the destination at words[at + 4] may have; 0: this is no way to it now. */
  room(words: Int32Array, at: number, v6: boolean, hops: number): number;
  /** Where the TCP header of `header` bytes is to be written: an offset in TcpSink.views. */
  begin(v6: boolean, header: number): number;
  /** The payload goes on with `length` bytes at `offset` of the chunks' memory. False: in too many pieces. */
  add(offset: number, length: number): boolean;
  /**
   * Sends it, as TcpSink.send().
   * @param header bytes of the TCP header
   * @param size bytes of payload a segment, at least 1
   * @returns GSO_SENT, or nothing was sent: GSO_FULL: for now, GSO_REFUSED
   */
  send(
    header: number,
    payload: number,
    size: number,
    words: Int32Array,
    at: number,
    v6: boolean,
    tos: number,
    hops: number,
  ): number;
}

export const GSO_SENT = 0;
export const GSO_FULL = 1;
export const GSO_REFUSED = 2;

/** Which listener a SYN is for. */
export interface ListenerChooser {
  /** A record begins to listen. 0, or -EADDRINUSE. */
  add(t: Tcp, listener: Listener): number;
  remove(t: Tcp, listener: Listener): void;
  /** The listener for the addresses and ports of record `c`, or null. */
  find(t: Tcp, c: number): Listener | null;
}

/** Local ports for connections that ask for none. */
export interface PortSource {
  readonly count: number;
  /** The port with a number below `count`. */
  at(number: number): number;
  /** Whether record `c`, which has the port, may have it; `must`: also where another would be better. */
  suits(t: Tcp, c: number, must: boolean): boolean;
  /** Gets one port more, the last by number. False: there is none. */
  more(): boolean;
}

/** Where a Tcp's memory lies, and who else has a say. All may be left out. */
export interface TcpPlaces {
  /**
   * Where buffers lie, `bufferBytes` of it from `memoryOffset` on; that of the frames makes copies between frames and buffers
   * several times as fast (see buffers.ts).
   */
  readonly memory?: FrameViews;
  readonly memoryOffset?: number;
  /** Zeroed memory of recordsBytes(), for threads that read what connections are like. */
  readonly records?: SharedArrayBuffer;
  readonly chooser?: ListenerChooser;
  readonly ports?: PortSource;
  /**
   * Whether somebody else takes the segment in hand, which is of no connection here and begins none; the scratch record has
   * its addresses. Default nobody: it is answered with a RST.
   */
  readonly elsewhere?: () => boolean;
  /** Who runs socket filters; default nobody: none can be set. */
  readonly filters?: SegmentFilters;
  /** Follows the flow table: a connection has entered it (1) or left it (-1) with the local port. */
  readonly portUsed?: (port: number, change: 1 | -1) => void;
  /** TCP_COUNTERS.length of them. */
  readonly counters?: Float64Array;
  /** Whether acknowledgments, and what acknowledgments let out, wait until the owner calls endTurn() of turn.ts, after each burst. */
  readonly turns?: boolean;
}

const nobody = (): boolean => false;
const nothing = (): void => {};

/** Bytes of the records of so many connections. */
export function recordsBytes(connections: number): number {
  return (connections + 1) * TCB_WORDS * 4;
}

export class Tcp {
  readonly config: TcpConfig;
  readonly sink: TcpSink;
  readonly gso: GsoSink | null;
  /** The records; the last one, `scratch`, is nobody's: it stands for the peer of an answer without a connection. */
  readonly w: Int32Array;
  /** The same memory by pairs of words. */
  readonly f: Float64Array;
  readonly scratch: number;
  readonly chunks: Chunks;
  /**
   * Chunks in use beyond which nothing is taken from writers: the rest is for what comes. Else two ends whose memory is
   * full of what they want to send could never take anything from each other.
   */
  readonly sendChunks: number;
  readonly segments: Segments;
  readonly ranges: Ranges;
  readonly timers: Timers;
  readonly flows4: FlowTable;
  readonly flows6: FlowTable6;
  readonly random: Random;
  readonly counters: Float64Array;
  /** Listeners by number, null where there is none. */
  readonly listeners: (Listener | null)[] = [];
  readonly chooser: ListenerChooser;
  readonly ports: PortSource;
  readonly elsewhere: () => boolean;
  readonly filters: SegmentFilters;
  private readonly portUsed: (port: number, change: 1 | -1) => void;
  /** Key of initial sequence numbers, cookies and port choice. */
  readonly secret: Int32Array;
  readonly hashed = new Int32Array(16);

  /** Time: microseconds; as int32 that wrap; in ticks of the timers. */
  now = 0;
  us = 0;
  ms = 0;
  tick = 0;

  /** Records in use, those in TIME_WAIT, orphans. */
  open = 0;
  timeWaits = 0;
  orphans = 0;
  readonly expired = new Int32Array(64);
  /** Challenge ACKs left in this second. */
  challenges = 0;
  challengeSecond = -1;
  /** SYN cookies are looked at for two minutes after the last was sent. */
  cookieMs = 0;
  cookiesOut = false;
  /** Moves on with each port chosen, RFC 6056, section 3.3.4. */
  portSteps = 0;
  listenersMade = 0;
  /** A connection that the segment in hand has made of a cookie: it is to take the segment's data. -1: none. */
  arrived = -1;
  /** The segment in hand has brought the last FIN: TIME_WAIT begins when it has been acknowledged. */
  finishing = false;
  /** Where peekChunk() has found bytes. */
  readOffset = 0;

  // The segment in hand: written by input.ts, read by those it calls.
  segSeq = 0;
  segAck = 0;
  segFlags = 0;
  /** Offset of the payload and its bytes. */
  segData = 0;
  segLength = 0;
  /** The one after its last sequence number, SYN and FIN counted. */
  segEnd = 0;
  /** As on the wire. */
  segWindow = 0;
  segUrgent = 0;
  segTos = 0;
  /** Its TTL or hop limit; only of a segment that is of no connection. */
  segHops = 0;
  segV6 = false;
  /** What its options said: OPT_ bits of options.ts. */
  options = 0;
  tsVal = 0;
  tsEcr = 0;
  optMss = 0;
  optScale = 0;
  /** Blocks of its SACK option, pairs of sequence numbers. */
  readonly sackBlocks = new Int32Array(8);
  sackCount = 0;

  /** Connections that acknowledge at the end of the turn: see acknowledgeTurn(). */
  readonly ackTurn: Int32Array;
  ackTurnCount = 0;
  /** Connections that may send at the end of the turn: see pushTurn(). */
  readonly pushTurn: Int32Array;
  pushTurnCount = 0;

  /** For warm4() of warm.ts. */
  readonly warmKeys = new Int32Array(3 * WARM_MAX);
  readonly warmIds = new Int32Array(WARM_MAX);
  warmed = 0;

  // What an acknowledgment has told, for congestion control: see acks.ts.
  ackFlags = 0;
  /** Segments that it has newly marked lost. */
  newlyLost = 0;
  /** RACK has heard of a delivery since it last looked for losses. */
  rackAdvanced = false;
  /** Least time since a segment that it has newly SACKed was sent, microseconds, -1 for none. */
  sackRttUs = -1;
  /** Lowest sequence number that it has delivered behind higher ones. */
  reordered = 0;

  private readonly free: Int32Array;
  private freeCount = 0;
  /** Records from this one on have never been used. */
  private fresh = 0;
  private readonly ready: Int32Array;
  private readyHead = 0;
  private readyCount = 0;

  /**
   * @param secret four words, random and kept to oneself
   * @param seed of everything else that is random: equal seeds and inputs give equal runs
   * @param now microseconds
   */
  constructor(
    config: Partial<TcpConfig>,
    sink: TcpSink,
    secret: Int32Array,
    seed: number,
    now: number,
    places: TcpPlaces = {},
  ) {
    this.config = { ...TCP_DEFAULTS, ...config };
    checkConfig(this.config);
    const { connections, bufferBytes, chunkBytes } = this.config;
    this.sink = sink;
    this.gso = sink.gso ?? null;
    this.secret = secret.slice(0, 4);
    this.random = new Random(seed);
    const records = places.records ?? new ArrayBuffer(recordsBytes(connections));
    this.w = new Int32Array(records);
    this.f = new Float64Array(records);
    this.scratch = connections * TCB_WORDS;
    this.chunks = new Chunks(
      Math.floor(bufferBytes / chunkBytes),
      chunkBytes,
      places.memory ?? null,
      places.memoryOffset ?? 0,
    );
    this.sendChunks = this.chunks.count - (this.chunks.count >> 2);
    this.segments = new Segments(this.config.segments);
    this.ranges = new Ranges(this.config.ranges);
    this.timers = new Timers(connections * TIMERS, now / TICK_US);
    // Room from the start: growing would stop the lcore for as long as a copy takes.
    this.flows4 = new FlowTable(connections, connections, this.random.int32());
    this.flows6 = new FlowTable6(Math.min(connections, 1024), connections, this.random.int32());
    this.counters = places.counters ?? new Float64Array(TCP_COUNTERS.length);
    this.chooser = places.chooser ?? new ListenersByPort();
    this.ports = places.ports ?? new PortRange(this.config.portFirst, this.config.portLast);
    this.elsewhere = places.elsewhere ?? nobody;
    this.filters = places.filters ?? NO_FILTERS;
    this.ackTurn = new Int32Array(places.turns ? ACK_TURN_MAX : 0);
    this.pushTurn = new Int32Array(places.turns ? PUSH_TURN_MAX : 0);
    this.portUsed = places.portUsed ?? nothing;
    this.free = new Int32Array(connections);
    this.ready = new Int32Array(connections);
    this.clear(this.scratch);
    this.begin(now);
  }

  /** Brings the time to `now` microseconds. */
  begin(now: number): void {
    this.now = now;
    this.us = now | 0;
    this.ms = (now / 1000) | 0;
    this.tick = now / TICK_US;
  }

  /** A clean record in state FREE still, or -1. The caller gives it a state. */
  allocate(): number {
    let c: number;
    if (this.freeCount > 0) c = this.free[--this.freeCount];
    else {
      // Memory is touched only as it is needed.
      if (this.fresh === this.scratch) return -1;
      c = this.fresh;
      this.fresh += TCB_WORDS;
      this.w[this.scratch + SCRATCH_USED] = this.fresh / TCB_WORDS;
      this.clear(c);
    }
    this.open++;
    return c;
  }

  /** Gives a record back. Its pools, timers and flow are the caller's to have returned: see release() in states.ts. */
  giveBack(c: number): void {
    const queued = (this.w[c + FLAGS] & F_READY) !== 0;
    const generation = this.w[c + GENERATION];
    // One without a filter of its own is half-open.
    if ((this.w[c + LOCKS] & L_FILTER) !== 0 && this.w[c + FILTER] !== 0) this.filters.drop(this.w[c + FILTER]);
    this.clear(c);
    this.w[c + GENERATION] = (generation + 1) | 0;
    // It stays where it is in the ring, with nothing to tell.
    if (queued) this.w[c + FLAGS] = F_READY;
    this.free[this.freeCount++] = c;
    this.open--;
  }

  clear(c: number): void {
    const { w } = this;
    w.fill(0, c, c + TCB_WORDS);
    w[c + STATE] = FREE;
    w[c + RCV_HEAD] = -1;
    w[c + RCV_TAIL] = -1;
    w[c + OOO_HEAD] = -1;
    w[c + SEG_HEAD] = -1;
    w[c + SEG_TAIL] = -1;
    w[c + RACK_HEAD] = -1;
    w[c + RACK_TAIL] = -1;
    w[c + SND_HEAD] = -1;
    w[c + SND_TAIL] = -1;
    w[c + SND_CHUNK] = -1;
  }

  /** Buffers are to grow no more. */
  pressure(): boolean {
    return this.chunks.used * this.chunks.size > this.config.pressureBytes;
  }

  /** Puts a connection into its table. False: the table is full. */
  insertFlow(c: number): boolean {
    if (!this.insert(c)) return false;
    this.portUsed(this.w[c + PORTS] >>> 16, 1);
    return true;
  }

  private insert(c: number): boolean {
    const { w } = this;
    const ports = w[c + PORTS];
    const id = c / TCB_WORDS;
    if ((w[c + FLAGS] & F_V6) === 0)
      return this.flows4.insert(IPPROTO_TCP, w[c + LOCAL + 3], ports >>> 16, w[c + REMOTE + 3], ports & 0xffff, id);
    this.loadKey(c);
    return this.flows6.insert(IPPROTO_TCP, ports >>> 16, ports & 0xffff, id);
  }

  removeFlow(c: number): void {
    if (this.remove(c)) this.portUsed(this.w[c + PORTS] >>> 16, -1);
  }

  private remove(c: number): boolean {
    const { w } = this;
    const ports = w[c + PORTS];
    if ((w[c + FLAGS] & F_V6) === 0)
      return this.flows4.remove(IPPROTO_TCP, w[c + LOCAL + 3], ports >>> 16, w[c + REMOTE + 3], ports & 0xffff);
    this.loadKey(c);
    return this.flows6.remove(IPPROTO_TCP, ports >>> 16, ports & 0xffff);
  }

  /** The connection with the addresses and ports of a record, its first word, or -1. */
  findLike(c: number): number {
    const { w } = this;
    const ports = w[c + PORTS];
    let id: number;
    if ((w[c + FLAGS] & F_V6) === 0)
      id = this.flows4.lookup(IPPROTO_TCP, w[c + LOCAL + 3], ports >>> 16, w[c + REMOTE + 3], ports & 0xffff);
    else {
      this.loadKey(c);
      id = this.flows6.lookup(IPPROTO_TCP, ports >>> 16, ports & 0xffff);
    }
    return id < 0 ? -1 : id * TCB_WORDS;
  }

  private loadKey(c: number): void {
    for (let i = 0; i < 8; i++) this.flows6.key[i] = this.w[c + LOCAL + i];
  }

  /** Sets or moves a timer of a connection, `us` from now. */
  setTimer(c: number, timer: number, us: number): void {
    this.timers.schedule((c / TCB_WORDS) * TIMERS + timer, this.tick + us / TICK_US);
  }

  stopTimer(c: number, timer: number): void {
    this.timers.cancel((c / TCB_WORDS) * TIMERS + timer);
  }

  hasTimer(c: number, timer: number): boolean {
    return this.timers.isSet((c / TCB_WORDS) * TIMERS + timer);
  }

  /** When runTimers() is to be called next, microseconds; Infinity: not before something else happens. */
  nextTimer(): number {
    return this.timers.nextMs() * TICK_US;
  }

  /** Tells the application of EV_ bits. */
  event(c: number, bits: number): void {
    const { w } = this;
    w[c + EVENTS] |= bits;
    if ((w[c + FLAGS] & (F_READY | F_ORPHAN)) !== 0 || (w[c + LOCKS] & L_UNACCEPTED) !== 0) return;
    w[c + FLAGS] |= F_READY;
    const size = this.ready.length;
    let at = this.readyHead + this.readyCount++;
    if (at >= size) at -= size;
    this.ready[at] = c;
  }

  /**
   * The next connection to which something has happened, its id, or -1: none has. takeEvents() says what; it is to be
   * called before anything else is, and may say 0.
   */
  nextReady(): number {
    if (this.readyCount === 0) return -1;
    const c = this.ready[this.readyHead];
    if (++this.readyHead === this.ready.length) this.readyHead = 0;
    this.readyCount--;
    this.w[c + FLAGS] &= ~F_READY;
    return c / TCB_WORDS;
  }

  /** The EV_ bits of a connection since the last call. */
  takeEvents(id: number): number {
    const c = id * TCB_WORDS;
    const bits = this.w[c + EVENTS];
    this.w[c + EVENTS] = 0;
    return bits;
  }
}
