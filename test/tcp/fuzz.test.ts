/** Mutated segments at every state: nothing throws, nothing is left in any pool, a connection's counts stay true. */
import { describe, expect, test } from "bun:test";
import { Random } from "../../queues/random.ts";
import {
  abortSocket,
  bind,
  close,
  connect,
  listen,
  openSocket,
  peekChunk,
  receive,
  SHUT_WR,
  send,
  shutdown,
} from "../../sockets/tcp/calls.ts";
import { Tcp } from "../../sockets/tcp/core.ts";
import { accept } from "../../sockets/tcp/listen.ts";
import { icmpReport } from "../../sockets/tcp/pmtu.ts";
import { SEG_FLAGS, SEG_LOST, SEG_NEXT, SEG_RETRANS, SEG_SACKED } from "../../sockets/tcp/segments.ts";
import * as tcb from "../../sockets/tcp/tcb.ts";
import { runTimers } from "../../sockets/tcp/timers.ts";
import { ip } from "../../sockets/wire/address.ts";
import { FrameViews } from "../../sockets/wire/views.ts";
import { addressWords, buildFrame, deliver, type Segment, type TcpOptions, TestSink } from "./segments.ts";

const SECRET = Int32Array.of(5, 6, 7, 8);
const ENDS = { source: ip("198.18.0.2"), destination: ip("198.18.0.1") };
const PEER_IRS = 0x7ffffff0;
const buffer = new FrameViews(new Uint8Array(1 << 16));

/** States to begin from, each reached by a real exchange. */
const STATES = [
  ...["LISTEN", "SYN_SENT", "SYN_RECEIVED", "ESTABLISHED", "FIN_WAIT_1", "FIN_WAIT_2", "CLOSE_WAIT", "LAST_ACK"],
  ...["CLOSING", "TIME_WAIT", "CLOSED"],
] as const;

class Fuzz {
  readonly t: Tcp;
  readonly sink = new TestSink();
  readonly random: Random;
  private now = 1e9;
  private listener = -1;
  private id = -1;
  private last: Segment | null = null;

  constructor(seed: number) {
    this.random = new Random(seed);
    const features = { sack: this.below(4) > 0, timestamps: this.below(4) > 0, ecn: 1, synCookies: this.below(2) };
    const limits = { connections: 8, bufferBytes: 64 << 10, pressureBytes: 48 << 10, segments: 64, ranges: 16 };
    this.t = new Tcp(
      { ...limits, ...features, chunkBytes: 1024, receiveBuffer: 20_000 },
      this.sink,
      SECRET,
      seed,
      this.now,
    );
  }

  private below(bound: number): number {
    return this.random.below(bound);
  }

  private options(syn: boolean): TcpOptions {
    const stamped = this.last?.options.ts;
    const ts: [number, number] = [(this.now / 1000) | 0, stamped ? stamped[0] : 0];
    return syn ? { mss: 1460, sackOk: true, wscale: 7, ts } : stamped ? { ts } : {};
  }

  /** A segment of the peer, with numbers that fit. */
  private segment(flags: number, seq: number, payload: number, options = this.options((flags & 2) !== 0)): Segment {
    const next =
      this.last === null ? 0 : (this.last.seq + this.last.payload.length + (this.last.flags & 3 ? 1 : 0)) | 0;
    return {
      ...{ v6: false, sourcePort: 4000, destinationPort: 80, flags, options, window: 1000, urgent: 0, tos: 0 },
      ...{ seq: (PEER_IRS + seq) | 0, ack: (flags & 16) !== 0 ? next : 0, payload: new Uint8Array(payload) },
    };
  }

  private put(segment: Segment): void {
    const { views, length } = buildFrame(segment, ENDS);
    deliver(this.t, views, length);
    this.collect();
  }

  private collect(): void {
    for (const segment of this.sink.sent.splice(0)) if ((segment.flags & 4) === 0) this.last = segment;
  }

  private pass(us: number): void {
    this.now += us;
    this.t.begin(this.now);
    runTimers(this.t);
    this.collect();
  }

  reach(state: (typeof STATES)[number]): void {
    const { t } = this;
    this.listener = openSocket(t, false);
    bind(t, this.listener, addressWords(ENDS.destination), 80);
    listen(t, this.listener, 3, false);
    if (state === "LISTEN") return;
    if (state === "SYN_SENT") {
      this.id = openSocket(t, false);
      bind(t, this.id, addressWords(ENDS.destination), 80);
      connect(t, this.id, addressWords(ENDS.source), 4000);
      this.collect();
      return;
    }
    this.put(this.segment(2, 0, 0));
    if (state === "SYN_RECEIVED") return;
    this.put(this.segment(16, 1, 0));
    this.id = accept(t, this.listener);
    if (this.id < 0) throw new Error("not accepted");
    send(t, this.id, buffer, 0, 5000, 0);
    this.collect();
    if (state === "ESTABLISHED") return;
    if (state === "CLOSED") {
      this.put(this.segment(4, 1, 0));
      return;
    }
    this.put({ ...this.segment(16, 1, 0) });
    if (state === "CLOSE_WAIT" || state === "LAST_ACK") {
      this.put(this.segment(17, 1, 0));
      if (state === "LAST_ACK") shutdown(t, this.id, SHUT_WR);
      this.collect();
      return;
    }
    shutdown(t, this.id, SHUT_WR);
    this.collect();
    if (state === "FIN_WAIT_1") return;
    if (state === "CLOSING") {
      const fin = this.segment(17, 1, 0);
      this.put({ ...fin, ack: (fin.ack - 1) | 0 });
      return;
    }
    this.put(this.segment(16, 1, 0));
    if (state === "TIME_WAIT") this.put(this.segment(17, 1, 0));
  }

  /** The state of the connection, or the listener. */
  state(): string {
    const { t } = this;
    let c = Math.max(this.id, 0) * tcb.TCB_WORDS;
    for (let at = 0; this.id < 0 && at < t.scratch; at += tcb.TCB_WORDS)
      if (t.w[at + tcb.STATE] !== tcb.FREE && (c === 0 || t.w[at + tcb.STATE] !== tcb.LISTEN)) c = at;
    return tcb.STATE_NAMES[t.w[c + tcb.STATE]];
  }

  /** One forged segment, call, report or wait. */
  step(): void {
    const { random, t } = this;
    const near = (): number => [0, 1, -1, 2, 100, -100, 1460, 70_000, 1 << 30, random.int32()][this.below(10)];
    const kind = this.below(20);
    if (kind === 0) {
      this.pass([10, 1000, 50_000, 300_000, 2_000_000, 70_000_000][this.below(6)]);
      return;
    }
    if (kind <= 3) {
      this.call();
      return;
    }
    if (kind === 4) {
      const seq = (this.last?.seq ?? 0) + this.below(100);
      const c = Math.max(this.id, 0) * tcb.TCB_WORDS;
      for (let i = 0; i < 8; i++) t.w[t.scratch + tcb.LOCAL + i] = t.w[c + tcb.LOCAL + i];
      t.w[t.scratch + tcb.PORTS] = t.w[c + tcb.PORTS];
      t.w[t.scratch + tcb.FLAGS] = 0;
      icmpReport(t, this.below(2), seq | 0, this.below(2000), 113);
      this.collect();
      return;
    }
    const flags = this.below(3) === 0 ? this.below(256) : [16, 24, 16, 17, 4, 2, 18, 48, 80][this.below(9)];
    const c = Math.max(this.id, 0) * tcb.TCB_WORDS;
    const options = this.options(this.below(3) === 0);
    if (this.below(3) === 0)
      options.sack = Array.from({ length: 1 + this.below(3) }, (): [number, number] => {
        const from = (t.w[c + tcb.SND_UNA] + near()) | 0;
        return [from, (from + near()) | 0];
      });
    if (this.below(6) === 0) options.raw = Array.from({ length: this.below(8) }, () => this.below(256));
    if (options.ts && this.below(4) === 0) options.ts = [(options.ts[0] + near()) | 0, (options.ts[1] + near()) | 0];
    const segment = this.segment(flags, 1, [0, 0, 1, 10, 1000, 1460][this.below(6)], options);
    segment.seq = ((this.below(2) === 0 ? t.w[c + tcb.RCV_NXT] : segment.seq) + (this.below(2) === 0 ? 0 : near())) | 0;
    if (this.below(3) === 0) segment.ack = (segment.ack + near()) | 0;
    segment.window = [0, 1, 1000, 65_535][this.below(4)];
    segment.urgent = this.below(3) === 0 ? this.below(3000) : 0;
    segment.tos = this.below(4);
    const { views, length } = buildFrame(segment, ENDS);
    // Damage that the door finds, or that leaves something else whole.
    if (this.below(20) === 0) views.bytes[14 + this.below(length)] ^= 1 << this.below(8);
    deliver(t, views, length);
    this.collect();
    if (this.below(30) === 0) this.sink.frames = this.below(3);
    else this.sink.frames = Number.POSITIVE_INFINITY;
  }

  private call(): void {
    const { t } = this;
    if (this.id < 0) {
      this.id = accept(t, this.listener);
      if (this.id < 0) return;
    }
    switch (this.below(6)) {
      case 0:
        send(t, this.id, buffer, this.below(7), this.below(10_000), this.below(8) === 0 ? 1 : 0);
        break;
      case 1:
      case 2:
        receive(t, this.id, buffer, this.below(7), this.below(20_000), this.below(4) === 0 ? this.below(4) : 0);
        break;
      case 3:
        peekChunk(t, this.id);
        break;
      case 4:
        if (this.below(10) === 0) shutdown(t, this.id, this.below(3));
        break;
      case 5:
        if (this.below(20) > 0) break;
        if (this.below(2) === 0) close(t, this.id);
        else abortSocket(t, this.id);
        this.id = -1;
    }
    this.collect();
  }

  /** The counts of every connection are those of its segments. */
  check(): void {
    const { t } = this;
    const s = t.segments.words;
    for (let c = 0; c < t.scratch; c += tcb.TCB_WORDS) {
      if (t.w[c + tcb.STATE] === tcb.FREE) continue;
      const counts = [0, 0, 0, 0];
      for (let node = t.w[c + tcb.SEG_HEAD]; node >= 0; node = s[node + SEG_NEXT]) {
        const flags = s[node + SEG_FLAGS];
        counts[0]++;
        if ((flags & SEG_SACKED) !== 0) counts[1]++;
        if ((flags & SEG_LOST) !== 0) counts[2]++;
        if ((flags & SEG_RETRANS) !== 0) counts[3]++;
      }
      if ((t.w[c + tcb.FLAGS] & tcb.F_SACK) === 0) counts[1] = t.w[c + tcb.SACKED_OUT];
      const said = [tcb.PACKETS_OUT, tcb.SACKED_OUT, tcb.LOST_OUT, tcb.RETRANS_OUT].map((field) => t.w[c + field]);
      expect(said).toEqual(counts);
      expect(Math.min(...said)).toBeGreaterThanOrEqual(0);
      if (t.w[c + tcb.STATE] !== tcb.CLOSED && t.w[c + tcb.STATE] !== tcb.LISTEN)
        expect(t.w[c + tcb.CWND]).toBeGreaterThanOrEqual(1);
    }
  }

  /** Everything ends: nothing is left. */
  end(): void {
    const { t } = this;
    this.sink.frames = Number.POSITIVE_INFINITY;
    if (this.id >= 0) abortSocket(t, this.id);
    close(t, this.listener);
    for (let i = 0; i < 60 && t.open > 0; i++) this.pass(20_000_000);
    expect([t.open, t.chunks.used, t.segments.used, t.ranges.used, t.timers.count, t.orphans, t.timeWaits]).toEqual(
      new Array(7).fill(0),
    );
  }
}

const RUNS = Number(process.env.LCORE_TCP_FUZZ ?? 30);

describe("mutated segments", () => {
  test.each(STATES.map((state) => [state]))(
    "from %s",
    (state) => {
      for (let seed = 1; seed <= RUNS; seed++) {
        const fuzz = new Fuzz(seed);
        fuzz.reach(state);
        expect(fuzz.state()).toBe(state);
        for (let i = 0; i < 200; i++) {
          fuzz.step();
          if (i % 20 === 0) fuzz.check();
        }
        fuzz.check();
        fuzz.end();
      }
    },
    120_000,
  );
});
