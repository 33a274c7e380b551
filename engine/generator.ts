/**
 * A UDP load generator on bare queues: it writes whole frames from templates, a flow a source port, and recognizes what
 * comes back. It shares no code with the sockets it measures, and costs less than an echo does, so that it is not what
 * a benchmark finds.
 *
 *   closed loop  `window` datagrams in flight, a new one for each that returns: what a server can do
 *   open loop    `rate` datagrams a second whatever returns; latency counts from the time a datagram was due, so a
 *                server that stalls is charged for all that it kept waiting
 *
 * A datagram's payload begins with the number of its slot and how often that was used, each followed by its complement:
 * these four halfwords add nothing to the checksum, so a flow's checksum is computed once.
 */
import { BURST_MAX, Burst, type Port } from "../queues/driver.ts";
import { ETH_HEADER, ETH_P_IP, ETH_P_IPV6, ETH_TYPE, writeEthernet } from "../sockets/wire/ethernet.ts";
import { IPPROTO_UDP, IPV4_DF, IPV4_HEADER, IPV4_PROTOCOL, IPV4_VERSION_IHL, writeIpv4 } from "../sockets/wire/ipv4.ts";
import { IPV6_HEADER, IPV6_NEXT_HEADER, writeIpv6 } from "../sockets/wire/ipv6.ts";
import { finishUdp4, finishUdp6, UDP_HEADER, udpDestination, writeUdp } from "../sockets/wire/udp.ts";
import { FrameViews, readInt32, readUint16 } from "../sockets/wire/views.ts";
import { LatencyCounts } from "./latency.ts";

/** Bytes of payload at least: the four halfwords. */
const PAYLOAD_MIN = 8;
/** Slots at most: a slot's number is a halfword. */
const WINDOW_MAX = 65536;

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
  /** Datagrams a second; 0 for the closed loop. */
  rate: number;
  /** Time after which a datagram is lost, milliseconds, up to 2000. */
  timeoutMs: number;
}

/** Counters, in shared memory as float64: index of each. The generator alone writes them. */
export const G = {
  /** Datagrams handed to the TX rings. */
  sent: 0,
  /** Datagrams that came back in time. */
  received: 1,
  /** Datagrams that did not. */
  lost: 2,
  /** Datagrams that came back after they counted as lost, or twice. */
  late: 3,
  /** Frames that are not this generator's, or damaged. */
  foreign: 4,
  /** Open loop: datagrams that were due while `window` were in flight; not sent. */
  skipped: 5,
  /** Times the TX ring or the frame pool had no room. */
  txFull: 6,
  /** Turns of the loop. */
  turns: 7,
} as const;
export const G_COUNT = 8;

/** Parts of the timeout after which slots are looked through for lost datagrams. */
const EXPIRY_PARTS = 4;

export class Generator {
  readonly counters: Float64Array;
  readonly latency: LatencyCounts;
  /** Whether turn() sends; it always receives. Turning it on restarts an open loop's schedule. */
  private sending = false;

  private readonly ports: readonly Port[];
  private readonly views: FrameViews;
  private readonly burst = new Burst();
  private readonly templates: Uint32Array;
  private readonly templateWords: number;
  private readonly frameBytes: number;
  /** Bytes before the payload. */
  private readonly headers: number;
  private readonly v6: boolean;
  private readonly portFirst: number;
  private readonly flows: number;
  private readonly window: number;
  /** Nanoseconds between two datagrams of the open loop; 0 for the closed one. */
  private readonly intervalNs: number;
  private readonly timeoutNs: number;
  private readonly freeSlots: Uint16Array;
  private free: number;
  /** When each slot's datagram was sent, or was due, nanoseconds; 0 while the slot is free. */
  private readonly sentAt: Float64Array;
  private readonly uses: Uint16Array;
  private flow = 0;
  /** When the next datagram of the open loop is due. */
  private dueNs = 0;
  private expiryNs = 0;

  /** @param ports queues of one interface, sharing one memory and pool; flows are dealt out to them in turn */
  constructor(
    ports: readonly Port[],
    options: GeneratorOptions,
    counters: Float64Array = new Float64Array(G_COUNT),
    latency = new LatencyCounts(),
  ) {
    check(options, ports[0].pool.frameSize);
    this.ports = ports;
    this.counters = counters;
    this.latency = latency;
    this.views = new FrameViews(ports[0].memory);
    this.v6 = options.source.length === 16;
    this.headers = ETH_HEADER + (this.v6 ? IPV6_HEADER : IPV4_HEADER) + UDP_HEADER;
    this.frameBytes = this.headers + options.payload;
    this.templateWords = (this.frameBytes + 3) >> 2;
    this.templates = new Uint32Array(this.templateWords * options.flows);
    this.portFirst = options.sourcePort;
    this.flows = options.flows;
    this.window = options.window;
    this.intervalNs = options.rate === 0 ? 0 : 1e9 / options.rate;
    this.timeoutNs = options.timeoutMs * 1e6;
    this.freeSlots = Uint16Array.from({ length: options.window }, (_, i) => i);
    this.free = options.window;
    this.sentAt = new Float64Array(options.window);
    this.uses = new Uint16Array(options.window);
    for (let flow = 0; flow < options.flows; flow++) this.writeTemplate(flow, options);
  }

  /** Datagrams in flight. */
  get inFlight(): number {
    return this.window - this.free;
  }

  /** Starts or stops sending. */
  send(on: boolean): void {
    if (on && !this.sending) this.dueNs = nowNs();
    this.sending = on;
  }

  /** One turn: takes what has come, sends what is to be sent, tells the kernel once. Returns the frames it moved. */
  turn(): number {
    const { counters, ports } = this;
    let work = 0;
    for (let p = 0; p < ports.length; p++) {
      if (ports[p].rxBurst(this.burst, 0) > 0) work += this.receive(ports[p]);
    }
    if (this.sending || this.free < this.window) work += this.transmit();
    for (let p = 0; p < ports.length; p++) {
      ports[p].txFlush();
      ports[p].txComplete();
      ports[p].refill();
      if (work === 0) ports[p].busyPoll();
    }
    counters[G.turns]++;
    return work;
  }

  private receive(port: Port): number {
    const { burst, counters, sentAt, uses, views } = this;
    const now = nowNs();
    const { half } = views;
    for (let i = 0; i < burst.count; i++) {
      const frame = burst.offset[i];
      const at = (frame + this.headers) >> 1;
      const slot = half[at];
      const use = half[at + 1];
      const intact = half[at + 2] === (slot ^ 0xffff) && half[at + 3] === (use ^ 0xffff);
      if (!this.isOurs(frame, burst.length[i]) || !intact) {
        counters[G.foreign]++;
      } else if (slot < this.window && uses[slot] === use && sentAt[slot] !== 0) {
        this.latency.record(now - sentAt[slot]);
        this.release(slot);
        counters[G.received]++;
      } else {
        counters[G.late]++;
      }
      port.pool.give(frame);
    }
    return burst.count;
  }

  private transmit(): number {
    const now = nowNs();
    if (now >= this.expiryNs) this.expire(now);
    if (!this.sending) return 0;
    let count = 0;
    if (this.intervalNs === 0) {
      while (count < BURST_MAX && this.free > 0 && this.push(now)) count++;
      return count;
    }
    while (count < BURST_MAX && this.dueNs <= now) {
      if (this.free === 0) this.counters[G.skipped]++;
      else if (!this.push(this.dueNs)) break;
      this.dueNs += this.intervalNs;
      count++;
    }
    return count;
  }

  /** Queues a datagram of the next flow as sent at `time`. False when there is no room for it. */
  private push(time: number): boolean {
    const { ports, templates, templateWords, uses, views } = this;
    const flow = this.flow;
    const port = ports[flow % ports.length];
    const frame = port.pool.take();
    if (frame < 0) {
      this.counters[G.txFull]++;
      return false;
    }
    const { half, word } = views;
    const to = frame >> 2;
    const from = flow * templateWords;
    for (let i = 0; i < templateWords; i++) word[to + i] = templates[from + i];
    const slot = this.freeSlots[this.free - 1];
    const at = (frame + this.headers) >> 1;
    half[at] = slot;
    half[at + 1] = uses[slot];
    half[at + 2] = ~slot;
    half[at + 3] = ~uses[slot];
    if (!port.txPush(frame, this.frameBytes)) {
      port.pool.give(frame);
      this.counters[G.txFull]++;
      return false;
    }
    this.free--;
    this.sentAt[slot] = time;
    this.flow = flow + 1 === this.flows ? 0 : flow + 1;
    this.counters[G.sent]++;
    return true;
  }

  private release(slot: number): void {
    this.sentAt[slot] = 0;
    this.uses[slot]++;
    this.freeSlots[this.free++] = slot;
  }

  /** Gives up what has been in flight for too long. */
  private expire(now: number): void {
    const { sentAt } = this;
    this.expiryNs = now + this.timeoutNs / EXPIRY_PARTS;
    for (let slot = 0; slot < this.window; slot++) {
      if (sentAt[slot] === 0 || now - sentAt[slot] < this.timeoutNs) continue;
      this.release(slot);
      this.counters[G.lost]++;
    }
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
    const flow = udpDestination(bytes, frame + this.headers - UDP_HEADER) - this.portFirst;
    return flow >= 0 && flow < this.flows;
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

/** Milliseconds of the monotonic clock, to 40 ns, as nanoseconds. Reading it costs 46 ns, so it is read once a burst. */
function nowNs(): number {
  return performance.now() * 1e6;
}

function check(options: GeneratorOptions, frameSize: number): void {
  const { source, destination, sourcePort, destinationPort, flows, payload, window, rate, timeoutMs } = options;
  if (source.length !== destination.length) throw new RangeError("source and destination: of one address family");
  whole("destinationPort", destinationPort, 1, 65535);
  whole("sourcePort", sourcePort, 1, 65535);
  whole("flows", flows, 1, 65536 - sourcePort);
  whole("payload", payload, PAYLOAD_MIN, frameSize - ETH_HEADER - IPV6_HEADER - UDP_HEADER);
  whole("window", window, 1, WINDOW_MAX);
  if (!(rate >= 0 && rate <= 1e9)) throw new RangeError(`rate ${rate}: datagrams a second, up to 1e9`);
  if (!(timeoutMs > 0 && timeoutMs <= 2000)) throw new RangeError(`timeoutMs ${timeoutMs}: above 0, up to 2000`);
}

function whole(name: string, value: number, low: number, high: number): void {
  if (!Number.isInteger(value) || value < low || value > high) {
    throw new RangeError(`${name} ${value}: a whole number from ${low} to ${high}`);
  }
}
