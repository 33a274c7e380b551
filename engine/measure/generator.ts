/**
 * A UDP load generator on bare queues: it writes whole frames from templates, a flow a source port, and recognizes what
 * comes back. It shares no code with the sockets it measures, and costs less than an echo does, so that it is not what
 * a benchmark finds.
 *
 *   closed loop  `window` datagrams in flight, a new one for each that returns: what a server can do
 *   open loop    `rate` datagrams a second whatever returns; latency counts from the time a datagram was due, so a
 *                server that stalls is charged for all that it kept waiting. What the generator itself is too late for
 *                (SLACK_NS) is not sent but counted as behind: it is no fault of the server's
 *   flood        as either, but nothing is expected to come back
 *   sink         nothing is sent but one datagram now and then to whoever is to send; what comes is counted by its number
 *
 * A datagram's payload begins with the number of its slot and how often that was used, each followed by its complement:
 * these four halfwords add nothing to the checksum, so a flow's checksum is computed once.
 */
import { BURST_MAX, Burst, type Port } from "../../queues/driver.ts";
import { ETH_HEADER, ETH_P_IP, ETH_P_IPV6, ETH_TYPE, writeEthernet } from "../../sockets/wire/ethernet.ts";
import {
  IPPROTO_UDP,
  IPV4_DF,
  IPV4_HEADER,
  IPV4_PROTOCOL,
  IPV4_VERSION_IHL,
  writeIpv4,
} from "../../sockets/wire/ipv4.ts";
import { IPV6_HEADER, IPV6_NEXT_HEADER, writeIpv6 } from "../../sockets/wire/ipv6.ts";
import { finishUdp4, finishUdp6, UDP_HEADER, udpDestination, udpSource, writeUdp } from "../../sockets/wire/udp.ts";
import { FrameViews, readInt32, readUint16 } from "../../sockets/wire/views.ts";
import { G, LoadBoard, SLACK_NS } from "./board.ts";
import { Slots, WINDOW_MAX } from "./slots.ts";

/** Bytes of payload at least: the four halfwords. */
const PAYLOAD_MIN = 8;

export interface GeneratorOptions {
  /** 6 bytes each. */
  sourceMac: Uint8Array;
  destinationMac: Uint8Array;
  /** 4 or 16 bytes each, of one family. */
  source: Uint8Array;
  destination: Uint8Array;
  /** Source port of the first flow; the others follow it. */
  sourcePort: number;
  destinationPort: number;
  /** Flows, one source port each. */
  flows: number;
  /** Bytes of UDP payload. */
  payload: number;
  /** Datagrams in flight at most, up to WINDOW_MAX. */
  window: number;
  /** Time after which a datagram is lost, milliseconds, up to 2000. */
  timeoutMs: number;
  /** Closed loop: datagrams sent at once at least, so that both sides work in bursts; default 1. */
  burst?: number;
  /** Frames may also come back as they were sent, with the MAC addresses alone swapped. */
  mirror?: boolean;
  /** Default echo. */
  way?: "echo" | "flood" | "sink";
}

/** Of so many answers one is compared byte by byte; of the others the first bytes and the last. */
const LOOK_EVERY = 16;
/** Time between two calls of a sink to whoever is to send. */
const CALL_NS = 50e6;

export class Generator {
  readonly board: LoadBoard;
  /** Whether turn() sends; it always receives. Turning it on restarts an open loop's schedule. */
  private sending = false;

  private readonly ports: readonly Port[];
  private readonly counters: Float64Array;
  private readonly views: FrameViews;
  private readonly burst = new Burst();
  /**
   * Signed, as JSC bets that loads of a Uint32Array stay below 2^31, loses, and forgets: push() then ran uncompiled in some
   * launches and not in others.
   */
  private readonly templates: Int32Array;
  private readonly templateWords: number;
  private readonly frameBytes: number;
  /** Bytes before the payload. */
  private readonly headers: number;
  private readonly v6: boolean;
  private readonly mirror: boolean;
  private readonly way: "echo" | "flood" | "sink";
  private readonly portFirst: number;
  private readonly destinationPort: number;
  private readonly flows: number;
  private readonly slots: Slots;
  private readonly burstMin: number;
  /** Nanoseconds between two datagrams of the open loop; 0 for the closed one. */
  private intervalNs = 0;
  private flow = 0;
  private looked = 0;
  /** When the clock was last read. */
  private now = nowNs();
  /** When the next datagram of the open loop is due. */
  private dueNs = 0;
  /** Sink: the number of the datagram that should come next; -1 before the first. */
  private next = -1;

  /** @param ports queues of one interface, sharing one memory and pool; flows are dealt out to them in turn */
  constructor(ports: readonly Port[], options: GeneratorOptions, board = new LoadBoard()) {
    check(options, ports[0].pool.frameSize);
    this.ports = ports;
    this.board = board;
    this.counters = board.counters;
    this.views = new FrameViews(ports[0].memory);
    this.v6 = options.source.length === 16;
    this.headers = ETH_HEADER + (this.v6 ? IPV6_HEADER : IPV4_HEADER) + UDP_HEADER;
    this.frameBytes = this.headers + options.payload;
    this.templateWords = (this.frameBytes + 3) >> 2;
    this.templates = new Int32Array(this.templateWords * options.flows);
    this.mirror = options.mirror ?? false;
    this.way = options.way ?? "echo";
    this.portFirst = options.sourcePort;
    this.destinationPort = options.destinationPort;
    this.flows = options.flows;
    this.slots = new Slots(board, options.window, options.timeoutMs);
    this.burstMin = options.burst ?? 1;
    for (let flow = 0; flow < options.flows; flow++) this.writeTemplate(flow, options);
  }

  /** Datagrams in flight. */
  get inFlight(): number {
    return this.slots.window - this.slots.free;
  }

  /** Starts or stops sending; a start begins a schedule of `rate` datagrams a second, or a closed loop (0). */
  send(on: boolean, rate: number): void {
    if (on && !this.sending) {
      this.now = nowNs();
      this.dueNs = this.now;
      this.intervalNs = rate === 0 ? 0 : 1e9 / rate;
    }
    this.sending = on;
  }

  /** One turn: takes what has come, sends what is to be sent, tells the kernel once. Returns the frames it moved. */
  turn(): number {
    const { counters, ports } = this;
    const from = this.now;
    let work = 0;
    for (let p = 0; p < ports.length; p++) {
      if (ports[p].rxBurst(this.burst, 0) > 0) work += this.receive(ports[p]);
    }
    if (this.sending || this.slots.free < this.slots.window) work += this.transmit();
    for (let p = 0; p < ports.length; p++) {
      ports[p].txFlush();
      ports[p].txComplete();
      ports[p].refill();
      if (work === 0) ports[p].busyPoll();
    }
    counters[G.turns]++;
    if (work === 0) {
      counters[G.idleTurns]++;
    } else {
      // From when the clock was last read, in the turn before: an idle turn reads it once.
      this.now = nowNs();
      counters[G.busyNs] += this.now - from;
    }
    return work;
  }

  private receive(port: Port): number {
    const { burst, counters } = this;
    const now = nowNs();
    for (let i = 0; i < burst.count; i++) {
      const frame = burst.offset[i];
      const length = burst.length[i];
      if (!this.isOurs(frame, length)) counters[G.foreign]++;
      else if (this.way === "sink") this.count(frame, length);
      else this.settle(frame, length, now);
      port.pool.give(frame);
    }
    return burst.count;
  }

  /** An answer: whose it is, and whether it is right. */
  private settle(frame: number, length: number, now: number): void {
    const { half } = this.views;
    const at = (frame + this.headers) >> 1;
    const slot = half[at];
    const use = half[at + 1];
    const named = half[at + 2] === (slot ^ 0xffff) && half[at + 3] === (use ^ 0xffff);
    if (!named) this.counters[G.wrong]++;
    else this.slots.answer(slot, use, now, this.isRight(frame, length));
  }

  /** Whether an answer has the length and the content of what was sent. */
  private isRight(frame: number, length: number): boolean {
    const { bytes } = this.views;
    if (length !== this.frameBytes) return false;
    let i = length - 1;
    if ((++this.looked & (LOOK_EVERY - 1)) === 0) i = this.headers + PAYLOAD_MIN;
    for (; i < length; i++) if (i >= this.headers + PAYLOAD_MIN && bytes[frame + i] !== (i & 0xff)) return false;
    return true;
  }

  /** Sink: a datagram of a stream that is numbered from 0 in its first four bytes, little endian. */
  private count(frame: number, length: number): void {
    const { counters } = this;
    const number = readWord(this.views.bytes, frame + this.headers);
    counters[G.received]++;
    counters[G.bytes] += length - this.headers;
    const ahead = this.next < 0 ? 0 : (number - this.next) | 0;
    if (ahead < 0) {
      counters[G.duplicated]++;
      return;
    }
    counters[G.lost] += ahead;
    this.next = (number + 1) >>> 0;
  }

  private transmit(): number {
    const now = nowNs();
    this.now = now;
    this.slots.expire(now);
    if (!this.sending) return 0;
    let count = 0;
    if (this.way === "sink") {
      if (now < this.dueNs) return 0;
      this.dueNs = now + CALL_NS;
      return this.push(now) ? 1 : 0;
    }
    if (this.intervalNs === 0) {
      if (this.slots.free < this.burstMin) return 0;
      while (count < BURST_MAX && this.slots.free > 0 && this.push(now)) count++;
      return count;
    }
    while (count < BURST_MAX && this.dueNs <= now) {
      // Made up for in a burst, they would make the target look slow for those that follow.
      if (now - this.dueNs > SLACK_NS) this.counters[G.behind]++;
      else if (this.slots.free === 0) this.counters[G.skipped]++;
      else if (!this.push(this.dueNs)) break;
      this.board.lag.record(now - this.dueNs);
      this.dueNs += this.intervalNs;
      count++;
    }
    return count;
  }

  /** Queues a datagram of the next flow that was due at `due`. False when there is no room for it. */
  private push(due: number): boolean {
    const { counters, ports, slots, templates, templateWords, views } = this;
    const flow = this.flow;
    const port = ports[flow % ports.length];
    const frame = port.pool.take();
    if (frame < 0) {
      counters[G.txFull]++;
      return false;
    }
    const { half, word } = views;
    const to = frame >> 2;
    const from = flow * templateWords;
    for (let i = 0; i < templateWords; i++) word[to + i] = templates[from + i];
    const slot = slots.next;
    const use = slots.use(slot);
    const at = (frame + this.headers) >> 1;
    half[at] = slot;
    half[at + 1] = use;
    half[at + 2] = ~slot;
    half[at + 3] = ~use;
    if (!port.txPush(frame, this.frameBytes)) {
      port.pool.give(frame);
      counters[G.txFull]++;
      return false;
    }
    this.flow = flow + 1 === this.flows ? 0 : flow + 1;
    counters[G.sent]++;
    if (this.way === "echo") slots.take(due);
    return true;
  }

  /** Whether a frame is UDP, without options, for the port of one of the flows, and long enough to hold its slot. */
  private isOurs(frame: number, length: number): boolean {
    const { bytes } = this.views;
    if (length < this.headers + PAYLOAD_MIN) return false;
    const ip = frame + ETH_HEADER;
    const type = readUint16(bytes, frame + ETH_TYPE);
    if (this.v6) {
      if (type !== ETH_P_IPV6 || bytes[ip + IPV6_NEXT_HEADER] !== IPPROTO_UDP) return false;
    } else {
      if (type !== ETH_P_IP || bytes[ip + IPV4_VERSION_IHL] !== 0x45) return false;
      if (bytes[ip + IPV4_PROTOCOL] !== IPPROTO_UDP) return false;
    }
    const udp = frame + this.headers - UDP_HEADER;
    const to = udpDestination(bytes, udp);
    if (this.mirror && to === this.destinationPort) return this.isFlow(udpSource(bytes, udp));
    return this.isFlow(to);
  }

  private isFlow(port: number): boolean {
    return port >= this.portFirst && port < this.portFirst + this.flows;
  }

  private writeTemplate(flow: number, options: GeneratorOptions): void {
    const { frameBytes, templateWords, templates } = this;
    const own = new Uint8Array(templates.buffer, flow * templateWords * 4, templateWords * 4);
    const frame = new FrameViews(own);
    const { bytes } = frame;
    const ip = ETH_HEADER;
    const udp = this.headers - UDP_HEADER;
    const length = UDP_HEADER + options.payload;
    const { source, destination } = options;
    for (let i = this.headers; i < frameBytes; i++) bytes[i] = i - this.headers < PAYLOAD_MIN ? 0 : i;
    // Stands for slot 0: halfwords 0 and their complements.
    bytes.fill(0xff, this.headers + 4, this.headers + PAYLOAD_MIN);
    writeEthernet(bytes, 0, options.destinationMac, options.sourceMac, this.v6 ? ETH_P_IPV6 : ETH_P_IP);
    writeUdp(bytes, udp, options.sourcePort + flow, options.destinationPort, length);
    if (this.v6) {
      writeIpv6(bytes, ip, 0, 0, length, IPPROTO_UDP, 64, source, 0, destination, 0);
      finishUdp6(frame, udp, length, ip);
    } else {
      const total = IPV4_HEADER + length;
      const [from, to] = [readInt32(source, 0), readInt32(destination, 0)];
      writeIpv4(frame, ip, 0, total, 0, IPV4_DF, 64, IPPROTO_UDP, from, to);
      finishUdp4(frame, udp, length, ip);
    }
  }
}

/** The monotonic clock, nanoseconds. Reading it costs some 60 ns, so it is read once a burst. */
const nowNs = (): number => Bun.nanoseconds();

const readWord = (bytes: Uint8Array, at: number): number =>
  (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0;

function check(options: GeneratorOptions, frameSize: number): void {
  const { source, destination, sourcePort, destinationPort, flows, payload, window, timeoutMs } = options;
  whole("burst", options.burst ?? 1, 1, window);
  if (source.length !== destination.length) throw new RangeError("source and destination: of one address family");
  whole("destinationPort", destinationPort, 1, 65535);
  whole("sourcePort", sourcePort, 1, 65535);
  whole("flows", flows, 1, 65536 - sourcePort);
  whole("payload", payload, PAYLOAD_MIN, frameSize - ETH_HEADER - IPV6_HEADER - UDP_HEADER);
  whole("window", window, 1, WINDOW_MAX);
  if (!(timeoutMs > 0 && timeoutMs <= 2000)) throw new RangeError(`timeoutMs ${timeoutMs}: above 0, up to 2000`);
}

function whole(name: string, value: number, low: number, high: number): void {
  if (!Number.isInteger(value) || value < low || value > high) {
    throw new RangeError(`${name} ${value}: a whole number from ${low} to ${high}`);
  }
}
