/** TCP's place in an lcore's stack: made with the first TCP socket of the engine, asked from then on. */

import type { RingProducer } from "../../queues/ring.ts";
import type { LcoreEndpoint } from "../lcore-endpoint.ts";
import type { Lender } from "../lender.ts";
import type { Lookup } from "../lookup.ts";
import { M_GENERATION, M_KIND, M_SOCKET, MSG_TCP_DRAIN, MSG_TCP_ICMP, MSG_TCP_SEGMENT } from "../message.ts";
import type { Diverter } from "../output.ts";
import { GENERATION } from "../table.ts";
import { LcoreTcp } from "./lcore-tcp.ts";
import { TcpService } from "./tcp-service.ts";
import type { TcpSetup } from "./tcp-setup.ts";
import type { SinkParts } from "./tcp-sink.ts";

export class LcoreStreams {
  tcp: LcoreTcp | null = null;
  private service: TcpService | null = null;
  private host: Diverter | null = null;
  private readonly endpoint: LcoreEndpoint;
  private readonly parts: SinkParts;
  private readonly lookup: Lookup;
  private readonly lender: Lender;
  private readonly toThread: readonly (RingProducer | null)[];
  private readonly setup: TcpSetup | null;

  /** @param setup null: this lcore has no TCP */
  constructor(
    endpoint: LcoreEndpoint,
    parts: SinkParts,
    lookup: Lookup,
    lender: Lender,
    toThread: readonly (RingProducer | null)[],
    setup: TcpSetup | null,
  ) {
    this.endpoint = endpoint;
    this.parts = parts;
    this.lookup = lookup;
    this.lender = lender;
    this.toThread = toThread;
    this.setup = setup;
    lookup.onListener = (record, listens) => this.start()?.listeners.follow(record, listens);
  }

  /** This lcore's TCP; null: it has none. */
  start(): LcoreTcp | null {
    if (this.tcp !== null || this.setup === null) return this.tcp;
    this.tcp = new LcoreTcp(this.endpoint, this.parts, this.lookup, this.setup);
    this.tcp.sink.host = this.host;
    this.service = this.serviceOf(this.tcp);
    this.tcp.foreign = this.service;
    return this.tcp;
  }

  private serviceOf(tcp: LcoreTcp): TcpService {
    const { endpoint, lender, parts } = this;
    const host = {
      tcp: tcp.tcp,
      ringTo: (thread: number) => this.toThread[thread] as RingProducer,
      frameSpent: (thread: number, frame: number) => {
        lender.used(thread, frame);
        parts.pool.give(frame);
      },
      coreOf: (record: number) => (tcp.listeners.isCurrent(record) ? tcp.listeners.coreOf(record) : -1),
      discardFilter: (filter: number) => tcp.filters.discard(filter),
      connectCore: (id: number, record: number, address: Int32Array, port: number) =>
        tcp.connectCore(id, record, address, port),
    };
    return new TcpService(host, endpoint.table);
  }

  /** Where the engine has the host protocols itself: they know the way where the FIB does not. */
  useHost(host: Diverter): void {
    this.host = host;
    if (this.tcp !== null) this.tcp.sink.host = host;
  }

  /** Takes a message about TCP, of whatever kind. False: it is none. Frames of MSG_TCP_SEGMENT stay the caller's. */
  message(thread: number, words: Int32Array, at: number): boolean {
    const tcp = this.start();
    if (tcp === null || this.service === null) return false;
    switch (words[at + M_KIND]) {
      case MSG_TCP_SEGMENT:
        tcp.stray(words, at);
        return true;
      case MSG_TCP_DRAIN:
        tcp.draining.add(words[at + M_SOCKET], words[at + M_GENERATION]);
        return true;
      case MSG_TCP_ICMP:
        tcp.report(words, at);
        return true;
    }
    tcp.wake();
    return this.service.message(thread, words, at);
  }

  /** The first lcore sees to ports that are still in use. False: this is another. */
  drain(record: number): boolean {
    const tcp = this.endpoint.thread === 0 ? this.start() : null;
    if (tcp === null) return false;
    tcp.draining.add(record, this.endpoint.table.get(record, GENERATION));
    return true;
  }

  /** A thread has left the mesh, and the lookup knows that its listeners are closed: its connections end. */
  gone(thread: number): void {
    if (this.tcp === null || this.service === null) return;
    this.tcp.wake();
    this.service.gone(thread);
  }

  /** Messages wait for room in rings. */
  get isBehind(): boolean {
    return this.service?.isBehind ?? false;
  }
}
