/**
 * A thread's RemoteTcp and an lcore's TcpService over rings of a few slots, driven by hand in virtual time, and a peer of the
 * lcore's Tcp on a wire that loses nothing or a little. Who has a turn is chosen by a seed.
 */

import { Random } from "../../queues/random.ts";
import { RingConsumer, RingProducer, ringBytes } from "../../queues/ring.ts";
import { MESSAGE_WORDS } from "../../sockets/message.ts";
import type { Shared } from "../../sockets/shared.ts";
import { RemoteTcp, type RemoteTcpHost } from "../../sockets/stream/remote-tcp.ts";
import { TcpListener } from "../../sockets/stream/tcp-listener.ts";
import { TcpService } from "../../sockets/stream/tcp-service.ts";
import type { TcpHandlers } from "../../sockets/stream/tcp-socket.ts";
import { AF_INET, GENERATION, IPPROTO_TCP, SocketTable } from "../../sockets/table.ts";
import { bind, connect, listen, openSocket } from "../../sockets/tcp/calls.ts";
import { TCP_DEFAULTS, type TcpConfig } from "../../sockets/tcp/config.ts";
import { recordsBytes, Tcp } from "../../sockets/tcp/core.ts";
import { EV_ACCEPT } from "../../sockets/tcp/tcb.ts";
import { runTimers } from "../../sockets/tcp/timers.ts";
import { ip } from "../../sockets/wire/address.ts";
import { FrameViews } from "../../sockets/wire/views.ts";
import { addressWords, deliver, TestSink } from "../tcp/segments.ts";

const LCORE = 0;
const THREAD = 1;
export const PORT = 80;
export const OURS = addressWords(ip("198.18.0.1"));
export const THEIRS = addressWords(ip("198.18.0.2"));

export interface DrivenOptions {
  ringSlots: number;
  frames: number;
  frameSize: number;
  lossPercent: number;
  tcp: Partial<TcpConfig>;
}

interface OnWire {
  at: number;
  to: Tcp;
  views: FrameViews;
  length: number;
}

export class HandDriven {
  readonly random: Random;
  readonly lcore: Tcp;
  readonly peer: Tcp;
  readonly remote: RemoteTcp;
  readonly service: TcpService;
  readonly table = SocketTable.create(16, 1);
  /** Frames that the thread may write into; as many as there are when it holds none. */
  readonly loans: number[];
  now = 1e9;
  private readonly wire: OnWire[] = [];
  private readonly toLcore: [RingProducer, RingConsumer];
  private readonly toThread: [RingProducer, RingConsumer];
  private readonly cores = new Map<number, number>();
  private readonly records = new Map<number, number>();

  constructor(seed: number, options: DrivenOptions) {
    this.random = new Random(seed);
    const config = { ...TCP_DEFAULTS, connections: 64, bufferBytes: 1 << 18, pressureBytes: 3 << 16, ...options.tcp };
    const { frames, frameSize } = options;
    const memory = new FrameViews(new Uint8Array(frames * frameSize + config.bufferBytes));
    const records = new SharedArrayBuffer(recordsBytes(config.connections));
    const places = { memory, memoryOffset: frames * frameSize, records };
    this.lcore = this.makeTcp(config, seed, options.lossPercent, places);
    this.peer = this.makeTcp(config, seed + 1, options.lossPercent, {});
    this.loans = Array.from({ length: frames }, (_, i) => i * frameSize);
    const ring = (): [RingProducer, RingConsumer] => {
      const buffer = new SharedArrayBuffer(ringBytes(options.ringSlots, MESSAGE_WORDS));
      return [
        new RingProducer(buffer, 0, options.ringSlots, MESSAGE_WORDS),
        new RingConsumer(buffer, 0, options.ringSlots, MESSAGE_WORDS),
      ];
    };
    this.toLcore = ring();
    this.toThread = ring();
    this.service = new TcpService(
      {
        tcp: this.lcore,
        ringTo: () => this.toThread[0],
        frameSpent: (_thread, frame) => void this.loans.push(frame),
        discardFilter: () => {},
        coreOf: (record) => this.cores.get(record) ?? -1,
        connectCore: (id, _record, address, port) => {
          bind(this.lcore, id, OURS, 0);
          return connect(this.lcore, id, address, port);
        },
      },
      this.table,
    );
    const shared = {
      memories: [memory],
      frameSizes: [frameSize],
      tcbs: [new Int32Array(records)],
      tcp: config,
      table: this.table,
    } as unknown as Shared;
    const host: RemoteTcpHost = {
      shared,
      takeFrame: () => this.loans.pop() ?? -1,
      hasLoans: () => this.loans.length > 0,
      returnFrame: (_lcore, frame) => void this.loans.push(frame),
      flushSoon: () => {},
      sendNow: () => {},
      retain: () => {},
      watch: () => {},
      closeRecord: () => {},
    };
    this.remote = new RemoteTcp(host, [this.toLcore[0]], 1);
  }

  private makeTcp(config: TcpConfig, seed: number, lossPercent: number, places: object): Tcp {
    const sink = new TestSink();
    const t: Tcp = new Tcp(config, sink, Int32Array.of(seed, 2, 3, 4), seed, this.now, places);
    sink.onFrame = (views, length) => {
      if (this.random.below(100) < lossPercent) return;
      this.wire.push({ at: this.now + 100, to: t === this.lcore ? this.peer : this.lcore, views, length });
    };
    return t;
  }

  /** The thread listens on PORT. */
  listen(handlers: TcpHandlers, backlog: number): TcpListener {
    const record = this.table.create(AF_INET, IPPROTO_TCP, THREAD, 0, 0);
    const core = openSocket(this.lcore, false);
    bind(this.lcore, core, OURS, PORT);
    listen(this.lcore, core, backlog, false);
    this.cores.set(record, core);
    this.records.set(core, record);
    const where = () => ({ address: "198.18.0.1", port: PORT, family: 4 as const });
    const listener = new TcpListener(record, this.table.get(record, GENERATION), handlers, this.remote, where, (l) =>
      this.remote.unregister(l),
    );
    this.remote.register(listener);
    return listener;
  }

  /** A connection of the peer's own: its id. */
  peerConnect(): number {
    const id = openSocket(this.peer, false);
    bind(this.peer, id, THEIRS, 0);
    connect(this.peer, id, OURS, PORT);
    return id;
  }

  /** The lcore's turn: what the wire has for both Tcps, messages, timers, events. */
  lcoreTurn(): void {
    const { lcore, peer, service } = this;
    this.now += 50 + this.random.below(200);
    for (const t of [lcore, peer]) {
      t.begin(this.now);
      runTimers(t);
    }
    const due = this.wire.filter(({ at }) => at <= this.now);
    this.wire.splice(0, this.wire.length, ...this.wire.filter(({ at }) => at > this.now));
    for (const { to, views, length } of due) deliver(to, views, length);
    const ring = this.toLcore[1];
    for (let left = this.random.below(8); left > 0; left--) {
      const at = ring.peek();
      if (at < 0) break;
      if (!service.message(THREAD, ring.words, at)) throw new Error(`message ${ring.words[at]}`);
      ring.next();
    }
    ring.release();
    for (let id = lcore.nextReady(); id >= 0; id = lcore.nextReady()) {
      const events = lcore.takeEvents(id);
      const record = this.records.get(id);
      if (record === undefined) service.told(id, events);
      else if ((events & EV_ACCEPT) !== 0) service.acceptable(record);
    }
    service.flush();
    this.toThread[0].publish();
  }

  /** The thread's turn: messages, handlers; what it has said leaves. */
  threadTurn(): void {
    const ring = this.toThread[1];
    for (let left = this.random.below(8); left > 0; left--) {
      const at = ring.peek();
      if (at < 0) break;
      if (!this.remote.message(LCORE, ring.words, at)) throw new Error(`message ${ring.words[at]}`);
      ring.next();
    }
    ring.release();
    this.remote.deliver();
    if (this.random.below(2) === 0) this.publish();
  }

  publish(): void {
    this.remote.flush();
    this.toLcore[0].publish();
  }
}
