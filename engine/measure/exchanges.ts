/**
 * A load of TCP exchanges, whoever carries the bytes: requests by schedule over lasting connections (rr) or on one each
 * (crr), or bytes as fast as they are taken (stream). A connection has one request under way at a time; a request that is
 * due while none is free waits, and its latency counts from when it was due.
 */
import { G, type LoadBoard, SLACK_NS } from "./board.ts";

export type ExchangeWay = "rr" | "crr" | "stream";

export interface ExchangeOptions {
  readonly way: ExchangeWay;
  readonly connections: number;
  /** Bytes of a request and of its response, at least 8; of a write of "stream". */
  readonly size: number;
  readonly timeoutMs: number;
}

/** Who carries the bytes of connections, which are named by their slots. */
export interface Carrier {
  /** Begins to connect: opened() or closed() tells how it went, not from within. */
  connect(slot: number): void;
  /** Bytes taken; the rest when writable() tells that there is room. */
  write(slot: number, bytes: Uint8Array, offset: number, length: number): number;
  /** Nothing is told of the slot's connection any more. */
  drop(slot: number): void;
}

const CLOSED = 0;
const CONNECTING = 1;
const IDLE = 2;
const BUSY = 3;

/** Parts of the timeout after which connections are looked through for lost requests. */
const EXPIRY_PARTS = 8;
/** Requests sent in a turn at most. */
const BURST = 64;
/** Bytes of a request that tell it from others: the number of the exchange. */
const NUMBER_BYTES = 4;

export class Exchanges {
  private readonly board: LoadBoard;
  private readonly counters: Float64Array;
  private readonly carrier: Carrier;
  private readonly options: ExchangeOptions;
  private readonly timeoutNs: number;
  private readonly state: Uint8Array;
  private readonly due: Float64Array;
  private readonly number: Uint32Array;
  /** Bytes of the request that are written, and of its response that have come. */
  private readonly written: Uint32Array;
  private readonly got: Uint32Array;
  private readonly spoilt: Uint8Array;
  /** Slots that can take a request: open ones (rr), closed ones (crr). */
  private readonly ready: Uint32Array;
  private readyCount = 0;
  private readonly out: Uint8Array;
  private readonly outWords: DataView;
  private exchanges = 0;
  private sending = false;
  private intervalNs = 0;
  private dueNs = 0;
  /** Whether requests have waited for a free connection since the schedule was last up to date: that is no fault of the load's. */
  private blocked = false;
  private expiryNs = 0;
  /** When the last turn began. */
  private turnNs = Bun.nanoseconds();

  constructor(board: LoadBoard, carrier: Carrier, options: ExchangeOptions) {
    const { connections, size } = options;
    this.board = board;
    this.counters = board.counters;
    this.carrier = carrier;
    this.options = options;
    this.timeoutNs = options.timeoutMs * 1e6;
    this.state = new Uint8Array(connections);
    this.due = new Float64Array(connections);
    this.number = new Uint32Array(connections);
    this.written = new Uint32Array(connections);
    this.got = new Uint32Array(connections);
    this.spoilt = new Uint8Array(connections);
    this.ready = new Uint32Array(connections);
    this.out = Uint8Array.from({ length: size }, (_, i) => i);
    this.outWords = new DataView(this.out.buffer);
    if (options.way === "crr") for (let slot = 0; slot < connections; slot++) this.ready[this.readyCount++] = slot;
  }

  /** Starts or stops sending; a start begins a schedule of `rate` requests a second, or a closed loop (0). */
  send(on: boolean, rate: number): void {
    if (on && !this.sending) {
      this.turnNs = Bun.nanoseconds();
      this.dueNs = this.turnNs;
      this.intervalNs = rate === 0 ? 0 : 1e9 / rate;
      this.blocked = false;
    }
    this.sending = on;
  }

  /** One turn: connections that lack, requests that are due, those that are lost. Returns how much it did. */
  turn(): number {
    const now = Bun.nanoseconds();
    this.counters[G.turns]++;
    this.standStill(now);
    if (now >= this.expiryNs) this.expire(now);
    if (!this.sending || this.options.way === "stream") return 0;
    let count = 0;
    if (this.intervalNs === 0) {
      while (count < BURST && this.readyCount > 0) {
        this.begin(now);
        count++;
      }
      return count;
    }
    while (count < BURST && this.dueNs <= now) {
      if (this.readyCount === 0) {
        this.blocked = true;
        // What has waited for as long as an answer may take is not sent any more.
        if (now - this.dueNs < this.timeoutNs) return count;
        this.counters[G.skipped]++;
      } else if (!this.blocked && now - this.dueNs > SLACK_NS) {
        this.counters[G.behind]++;
      } else {
        this.begin(this.dueNs);
      }
      if (!this.blocked) this.board.lag.record(now - this.dueNs);
      this.dueNs += this.intervalNs;
      count++;
    }
    if (this.dueNs > now) this.blocked = false;
    return count;
  }

  /** The time in which the load itself had no CPU does not count: neither for requests that wait nor for those due in it. */
  private standStill(now: number): void {
    const gap = now - this.turnNs;
    this.turnNs = now;
    if (gap <= SLACK_NS || !this.sending || this.intervalNs === 0) return;
    const missed = Math.floor(gap / this.intervalNs);
    this.counters[G.behind] += missed;
    this.dueNs += missed * this.intervalNs;
    this.board.lag.record(gap);
  }

  private begin(due: number): void {
    const slot = this.ready[--this.readyCount];
    this.due[slot] = due;
    this.number[slot] = this.exchanges = (this.exchanges + 1) >>> 0;
    this.written[slot] = 0;
    this.got[slot] = 0;
    this.spoilt[slot] = 0;
    this.counters[G.sent]++;
    if (this.options.way === "crr") {
      this.state[slot] = CONNECTING;
      this.carrier.connect(slot);
    } else {
      this.state[slot] = BUSY;
      this.pump(slot);
    }
  }

  /** The carrier has a connection for a slot. */
  opened(slot: number): void {
    if (this.state[slot] !== CONNECTING) return;
    if (this.options.way === "rr") this.rest(slot);
    else {
      this.state[slot] = BUSY;
      this.pump(slot);
    }
  }

  /** There is room for more of what a slot has to write. */
  writable(slot: number): void {
    if (this.state[slot] === BUSY) this.pump(slot);
  }

  private pump(slot: number): void {
    const { carrier, counters, out, written } = this;
    const size = out.length;
    if (this.options.way === "stream") {
      let taken = 1;
      while (this.sending && taken > 0) {
        taken = carrier.write(slot, out, 0, size);
        if (taken > 0) counters[G.bytes] += taken;
      }
      return;
    }
    if (written[slot] === size) return;
    this.outWords.setUint32(0, this.number[slot], true);
    const taken = carrier.write(slot, out, written[slot], size - written[slot]);
    if (taken > 0) written[slot] += taken;
  }

  /** Bytes have come. */
  data(slot: number, bytes: Uint8Array, offset: number, count: number): void {
    if (this.state[slot] !== BUSY || this.options.way === "stream") {
      // Nobody has asked for these.
      if (this.state[slot] === IDLE) this.counters[G.duplicated]++;
      return;
    }
    const at = this.got[slot];
    const { out } = this;
    if (at + count > out.length || !this.agrees(slot, bytes, offset, count)) this.spoilt[slot] = 1;
    this.got[slot] = at + count;
    if (at + count < out.length) return;
    if (this.spoilt[slot] === 1) {
      this.counters[G.wrong]++;
    } else {
      this.counters[G.received]++;
      this.board.latency.record(Bun.nanoseconds() - this.due[slot]);
    }
    if (this.options.way === "rr") this.rest(slot);
    else this.free(slot);
  }

  /** Whether bytes of a response are those of the request: its number, and the first and the last of each piece. */
  private agrees(slot: number, bytes: Uint8Array, offset: number, count: number): boolean {
    const { out } = this;
    const at = this.got[slot];
    const number = this.number[slot];
    for (let i = at; i < NUMBER_BYTES && i < at + count; i++)
      if (bytes[offset + i - at] !== ((number >>> (8 * i)) & 0xff)) return false;
    const last = at + count - 1;
    if (last >= NUMBER_BYTES && bytes[offset + count - 1] !== out[last]) return false;
    return at < NUMBER_BYTES || bytes[offset] === out[at];
  }

  /** A connection is over, or was refused. */
  closed(slot: number): void {
    const { counters, state } = this;
    if (state[slot] === CLOSED) return;
    if (state[slot] === BUSY || (state[slot] === CONNECTING && this.options.way === "crr")) {
      if (this.options.way !== "stream") counters[G.lost]++;
    }
    this.free(slot);
  }

  /** A slot waits for its next request. */
  private rest(slot: number): void {
    this.state[slot] = IDLE;
    this.ready[this.readyCount++] = slot;
  }

  /** A slot's connection is given up. */
  private free(slot: number): void {
    if (this.state[slot] === IDLE) this.unready(slot);
    this.state[slot] = CLOSED;
    this.carrier.drop(slot);
    if (this.options.way === "crr") this.ready[this.readyCount++] = slot;
  }

  private unready(slot: number): void {
    for (let i = 0; i < this.readyCount; i++) {
      if (this.ready[i] !== slot) continue;
      this.ready[i] = this.ready[--this.readyCount];
      return;
    }
  }

  /** Gives up requests that are under way for too long, and opens what lasting connections lack. */
  private expire(now: number): void {
    const { counters, due, state, options } = this;
    this.expiryNs = now + this.timeoutNs / EXPIRY_PARTS;
    for (let slot = 0; slot < state.length; slot++) {
      if (options.way === "stream") {
        if (state[slot] === BUSY) this.pump(slot);
      } else if (state[slot] === BUSY || (state[slot] === CONNECTING && options.way === "crr")) {
        if (now - due[slot] < this.timeoutNs) continue;
        counters[G.lost]++;
        this.free(slot);
      }
      if (state[slot] === CLOSED && options.way !== "crr") {
        state[slot] = CONNECTING;
        due[slot] = now;
        this.carrier.connect(slot);
      }
    }
  }
}
