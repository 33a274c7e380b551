/** Two TCPs over a bad wire in virtual time, everything from one seed: what each writes must come out of the other. */
import { ERRNO } from "af-xdp-bindings";
import { Random } from "../../queues/random.ts";
import {
  bind,
  close,
  connect,
  listen,
  MSG_OOB,
  openSocket,
  receive,
  SHUT_WR,
  send,
  shutdown,
} from "../../sockets/tcp/calls.ts";
import { CUBIC, NEWRENO, type TcpConfig } from "../../sockets/tcp/config.ts";
import { GSO_FULL, GSO_REFUSED, GSO_SENT, Tcp } from "../../sockets/tcp/core.ts";
import { accept } from "../../sockets/tcp/listen.ts";
import { sendSpace } from "../../sockets/tcp/send-queue.ts";
import { OPTIONS, setOption } from "../../sockets/tcp/sockopts.ts";
import { STATE, STATE_NAMES, TCB_WORDS } from "../../sockets/tcp/tcb.ts";
import { runTimers } from "../../sockets/tcp/timers.ts";
import { endTurn } from "../../sockets/tcp/turn.ts";
import { ip } from "../../sockets/wire/address.ts";
import { FrameViews } from "../../sockets/wire/views.ts";
import { addressWords, deliver, streamByte, TestSink } from "./segments.ts";
import { TestGso } from "./test-gso.ts";

/** What a wire does to frames, and what the ends are. All from the seed. */
export interface Conditions {
  lossPercent: number;
  duplicatePercent: number;
  corruptPercent: number;
  reorderPercent: number;
  delayUs: number;
  jitterUs: number;
  /** Bytes a second and frames that wait, 0: as many as come. */
  rate: number;
  queue: number;
  markPercent: number;
  v6: boolean;
  mtu: number;
  bytes: [number, number];
  /** The most that is written or read at a time, and how long is waited between. */
  writeMax: number;
  readMax: number;
  pauseUs: number;
  receiveBuffer: number;
  /** Of writes, those whose last byte is urgent; it stays in the stream. */
  urgentPercent: number;
  config: Partial<TcpConfig>;
  /** Segments for which the sink has no frame, and packets of many segments that it does not take. */
  noFramePercent: number;
  /** Whether there is a way for packets of many segments. */
  gso: boolean;
}

interface Frame {
  at: number;
  order: number;
  views: FrameViews;
  length: number;
  to: number;
}

const pick = <T>(random: Random, choices: readonly T[]): T => choices[random.below(choices.length)];

export function conditions(seed: number): Conditions {
  const random = new Random(seed);
  const bad = random.below(4) !== 0;
  const size = (): number => pick(random, [0, 1, 700, 10_000, 60_000, 200_000]);
  const percent = (most: number): number => (bad && random.below(2) === 0 ? random.below(most + 1) : 0);
  const rate = pick(random, [0, 0, 50_000, 1_000_000]);
  const [writeMax, readMax] = [pick(random, [1, 100, 5000, 100_000]), pick(random, [1, 100, 5000, 100_000])];
  const most = Math.min(writeMax, readMax) === 1 ? 5000 : 200_000;
  const bytes: [number, number] = [Math.min(size(), most), Math.min(size(), most)];
  const pauses = (bytes[0] + bytes[1]) / Math.min(writeMax, readMax);
  return {
    ...{
      lossPercent: percent(15),
      duplicatePercent: percent(10),
      corruptPercent: percent(5),
      reorderPercent: percent(20),
    },
    ...{ delayUs: pick(random, [10, 500, 5000, 50_000]), jitterUs: pick(random, [0, 0, 100, 20_000]) },
    ...{ rate, queue: rate === 0 ? 0 : pick(random, [3, 20, 200]), markPercent: percent(5) },
    ...{ v6: random.below(2) === 0, mtu: pick(random, [1280, 1500, 1500, 9000]) },
    ...{ bytes, writeMax, readMax },
    // Ten minutes of pauses are enough.
    ...{
      pauseUs: Math.min(pick(random, [0, 0, 1000, 300_000]), 600e6 / (pauses + 1)) | 0,
      receiveBuffer: pick(random, [2304, 5000, 30_000, 131_072]),
    },
    urgentPercent: pick(random, [0, 0, 0, 10]),
    config: {
      ...{ sack: random.below(4) !== 0, timestamps: random.below(4) !== 0, windowScaling: random.below(4) !== 0 },
      ...{ congestion: pick(random, [CUBIC, NEWRENO]), ecn: pick(random, [0, 1, 2]), dsack: random.below(4) !== 0 },
      ...{ chunkBytes: pick(random, [256, 2048, 4096]), pacing: random.below(5) === 0 },
      // Nobody is given up: what arrives is looked at, not how long it takes.
      ...{ retries2: 100, orphanRetries: 100 },
      // Both ends have one connection: so little memory is enough for it, and is full all the time.
      ...pick(random, [{}, {}, { bufferBytes: 32_768, pressureBytes: 16_384 }, { segments: 16, ranges: 2 }]),
      rangesPerConnection: pick(random, [1, 4, 64]),
    },
    noFramePercent: pick(random, [0, 0, 0, 8]),
    gso: random.below(2) === 0,
  };
}

class End {
  readonly t: Tcp;
  readonly sink = new TestSink();
  readonly gso: TestGso | null;
  id = -1;
  written = 0;
  read = 0;
  shut = false;
  ended = false;
  closed = false;
  /** Times in a row that the application found nothing to do: it looks less often then. */
  idle = 0;
  /** When the application acts next. */
  nextUs = 0;

  constructor(config: Partial<TcpConfig>, seed: number, now: number, turns: boolean, gso: boolean) {
    const limits = {
      connections: 16,
      bufferBytes: 2 << 20,
      pressureBytes: 1 << 20,
      segments: 4096,
      ranges: 128,
      ...config,
    };
    const random = new Random(seed);
    const secret = Int32Array.of(random.int32(), random.int32(), random.int32(), random.int32());
    const cut = gso ? new TestGso(this.sink) : null;
    this.gso = cut;
    this.sink.gso = cut;
    this.t = new Tcp(limits, this.sink, secret, seed, now, { turns });
    if (cut !== null) cut.memory = this.t.chunks.views;
  }
}

const PORT = 80;
/** The longest that two ends may take, microseconds of their time. */
const LIMIT_US = 4 * 3600e6;

export class Simulation {
  readonly ends: [End, End];
  frames = 0;
  private readonly random: Random;
  private readonly conditions: Conditions;
  private readonly wire: Frame[] = [];
  private readonly busyUntil = [0, 0];
  private order = 0;
  private now: number;
  private readonly buffer = new FrameViews(new Uint8Array(1 << 17));
  private readonly seed: number;

  constructor(seed: number, given: Conditions = conditions(seed)) {
    this.seed = seed;
    this.conditions = given;
    this.random = new Random(~seed);
    this.now = this.random.unit() * 2 ** 34;
    // Every other run acknowledges by turns, as an lcore does.
    const end = (key: number): End => new End(given.config, seed ^ key, this.now, seed % 2 === 0, given.gso);
    this.ends = [end(0x1111), end(0x2222)];
    this.ends.forEach((end, i) => {
      end.sink.linkMtu = given.mtu;
      end.sink.refuses = () => given.noFramePercent > 0 && this.random.below(100) < given.noFramePercent;
      if (end.gso !== null) end.gso.answers = () => this.refusal(given.noFramePercent);
      end.sink.onFrame = (views, length) => this.send(1 - i, views, length);
    });
  }

  private refusal(percent: number): number {
    if (percent === 0 || this.random.below(100) >= percent) return GSO_SENT;
    return this.random.below(2) === 0 ? GSO_FULL : GSO_REFUSED;
  }

  /** Packets of many segments that have been sent. */
  get packets(): number {
    return this.ends.reduce(
      (sum, { gso }) => sum + (gso?.sent.filter(([payload, size]) => payload > size).length ?? 0),
      0,
    );
  }

  /** Puts a frame on the wire, or not, or twice, or late, or damaged. */
  private send(to: number, views: FrameViews, length: number): void {
    const { random, conditions: given } = this;
    const chance = (percent: number): boolean => percent > 0 && random.below(100) < percent;
    this.frames++;
    if (chance(given.lossPercent)) return;
    let at = this.now;
    if (given.rate > 0) {
      const takes = (length * 1e6) / given.rate;
      const start = Math.max(this.busyUntil[to], at);
      if ((start - at) / takes > given.queue) return;
      at = start + takes;
      this.busyUntil[to] = at;
    }
    at += given.delayUs + random.below(given.jitterUs + 1);
    if (chance(given.reorderPercent)) at += random.below(given.delayUs * 2 + 1000);
    if (chance(given.corruptPercent)) views.bytes[14 + random.below(length)] ^= 1 << random.below(8);
    this.put({ at, order: this.order++, views, length, to });
    if (chance(given.duplicatePercent))
      this.put({ at: at + random.below(given.delayUs + 1000), order: this.order++, views, length, to });
  }

  /** A heap by time. */
  private put(frame: Frame): void {
    const { wire } = this;
    let i = wire.push(frame) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!before(wire[i], wire[parent])) break;
      [wire[i], wire[parent]] = [wire[parent], wire[i]];
      i = parent;
    }
  }

  private take(): Frame {
    const { wire } = this;
    const first = wire[0];
    const last = wire.pop() as Frame;
    if (wire.length === 0) return first;
    wire[0] = last;
    for (let i = 0; ; ) {
      let least = i;
      for (const child of [2 * i + 1, 2 * i + 2])
        if (child < wire.length && before(wire[child], wire[least])) least = child;
      if (least === i) return first;
      [wire[i], wire[least]] = [wire[least], wire[i]];
      i = least;
    }
  }

  private fail(what: string): never {
    const ends = this.ends.map((end) => {
      const state = end.id < 0 ? "-" : STATE_NAMES[end.t.w[end.id * TCB_WORDS + STATE]];
      return `${state} wrote ${end.written} read ${end.read}`;
    });
    throw new Error(`seed ${this.seed}: ${what}; ${ends.join("; ")}; ${JSON.stringify(this.conditions)}`);
  }

  run(): void {
    const [client, server] = this.ends;
    const { v6, receiveBuffer } = this.conditions;
    const addresses = (v6 ? ["2001:db8::1", "2001:db8::2"] : ["198.18.0.1", "198.18.0.2"]).map((text) =>
      addressWords(ip(text)),
    );
    const listener = openSocket(server.t, v6);
    setOption(server.t, listener, OPTIONS.SO_RCVBUF, receiveBuffer >> 1);
    setOption(server.t, listener, OPTIONS.SO_OOBINLINE, 1);
    bind(server.t, listener, addresses[1], PORT);
    if (listen(server.t, listener, 4, false) !== 0) this.fail("cannot listen");
    client.id = openSocket(client.t, v6);
    setOption(client.t, client.id, OPTIONS.SO_RCVBUF, receiveBuffer >> 1);
    setOption(client.t, client.id, OPTIONS.SO_OOBINLINE, 1);
    bind(client.t, client.id, addresses[0], 0);
    connect(client.t, client.id, addresses[1], PORT);
    const end = this.now + LIMIT_US;
    while (!this.step(end, listener));
    close(server.t, listener);
    // Last acknowledgments, then TIME_WAIT.
    const over = this.now + LIMIT_US;
    while (client.t.open > 0 || server.t.open > 0) this.step(over, -1);
    for (const { t } of this.ends)
      if (t.chunks.used + t.segments.used + t.ranges.used + t.timers.count !== 0)
        this.fail(
          `left: ${t.chunks.used} chunks, ${t.segments.used} segments, ${t.ranges.used} ranges, ${t.timers.count} timers`,
        );
  }

  /** Goes to what happens next. True: both have read all and closed. */
  private step(end: number, listener: number): boolean {
    const { ends, wire } = this;
    let next = Math.min(ends[0].t.nextTimer(), ends[1].t.nextTimer());
    if (wire.length > 0) next = Math.min(next, wire[0].at);
    for (const one of ends) if (!one.closed && one.nextUs > this.now) next = Math.min(next, one.nextUs);
    if (!(next < end)) this.fail(next === Number.POSITIVE_INFINITY ? "nothing will ever happen" : "too long");
    this.now = Math.max(next, this.now);
    for (const { t } of ends) t.begin(this.now);
    for (const { t } of ends) runTimers(t);
    while (wire.length > 0 && wire[0].at <= this.now) {
      const { views, length, to } = this.take();
      deliver(ends[to].t, views, length);
    }
    const [, server] = ends;
    if (server.id < 0 && listener >= 0) server.id = Math.max(accept(server.t, listener), -1);
    ends.forEach((one, i) => {
      if (one.id >= 0 && !one.closed && one.nextUs <= this.now) this.act(one, ends[1 - i], this.conditions.bytes[i]);
    });
    for (const { t } of ends) endTurn(t);
    return ends[0].closed && ends[1].closed;
  }

  /** The application at one end: writes, reads, closes. */
  private act(one: End, other: End, total: number): void {
    const { random, conditions: given, buffer } = this;
    const wait = given.pauseUs === 0 ? 0 : random.below(given.pauseUs);
    one.nextUs = this.now + wait * 2 ** Math.min(one.idle++, 10);
    const opening = STATE_NAMES[one.t.w[one.id * TCB_WORDS + STATE]] === "SYN_SENT";
    if (one.written < total) {
      const space = Math.max(sendSpace(one.t.w, one.id * TCB_WORDS), 1);
      const count = Math.min(1 + random.below(given.writeMax), total - one.written, space);
      for (let i = 0; i < count; i++) buffer.bytes[5 + i] = streamByte(one.written + i);
      const urgent = random.below(100) < given.urgentPercent ? MSG_OOB : 0;
      const sent = send(one.t, one.id, buffer, 5, count, urgent);
      if (sent < 0 && sent !== -ERRNO.EAGAIN) this.fail(`send says ${sent}`);
      if (sent > 0) {
        one.written += sent;
        one.idle = 0;
      }
    }
    if (one.written === total && !one.shut && !opening) {
      shutdown(one.t, one.id, SHUT_WR);
      one.shut = true;
    }
    if (!one.ended) {
      const got = receive(one.t, one.id, buffer, 6, Math.min(1 + random.below(given.readMax), 100_000), 0);
      if (got < 0 && got !== -ERRNO.EAGAIN) this.fail(`receive says ${got}`);
      for (let i = 0; i < got; i++)
        if (buffer.bytes[6 + i] !== streamByte(one.read + i)) this.fail(`byte ${one.read + i} is not what was written`);
      if (got > 0) {
        one.read += got;
        one.idle = 0;
      }
      if (got === 0) {
        one.ended = true;
        if (one.read !== other.written) this.fail("an end too early");
      } else if (got > 0 && one.nextUs === this.now) one.nextUs = this.now + 1;
    }
    if (one.ended && one.shut) {
      close(one.t, one.id);
      one.closed = true;
    }
  }
}

function before(a: Frame, b: Frame): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
