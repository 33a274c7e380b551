/** An lcore's listeners: one in its Tcp for each socket of the engine that listens, whoever reads its connections. */
import type { Port } from "../../queues/driver.ts";
import type { LcoreEndpoint } from "../lcore-endpoint.ts";
import { type Lookup, NOBODY } from "../lookup.ts";
import { FILTER, GENERATION, LOCAL, LOCAL_PORT, type SocketTable } from "../table.ts";
import type { ListenerChooser, Tcp } from "../tcp/core.ts";
import { filterOf, setFilter } from "../tcp/filter.ts";
import type { Listener } from "../tcp/listen.ts";
import { LOCAL as C_LOCAL, REMOTE as C_REMOTE, F_V6, FLAGS, LISTENER, OWNER, PORTS, TCB_WORDS } from "../tcp/tcb.ts";
import { ETH_HEADER } from "../wire/ethernet.ts";
import type { LcoreTcp } from "./lcore-tcp.ts";
import { loadStream, STREAM_WORDS, SW_BACKLOG } from "./stream-words.ts";
import type { TcpListener } from "./tcp-listener.ts";

export class LcoreListeners implements ListenerChooser {
  /** Listeners that this lcore's own thread reads, by record of the socket table. */
  readonly local = new Map<number, TcpListener>();
  /** Of the segment in hand: port it came by, offsets of its IP and TCP headers, bytes from the latter on. */
  port = 0;
  ip = 0;
  header = 0;
  length = 0;
  /** lcore whose module has the listener that find() has just looked for; -1: this one's, another thread, or nobody. */
  away = -1;
  private readonly owner: LcoreTcp;
  private readonly endpoint: LcoreEndpoint;
  private readonly table: SocketTable;
  private readonly lookup: Lookup;
  private readonly ports: readonly Port[];
  private readonly coreByRecord = new Map<number, number>();
  private readonly recordByCore = new Map<number, number>();
  private readonly generations = new Map<number, number>();
  private readonly address = new Int32Array(4);

  constructor(owner: LcoreTcp, endpoint: LcoreEndpoint, lookup: Lookup, ports: readonly Port[]) {
    this.owner = owner;
    this.endpoint = endpoint;
    this.table = endpoint.table;
    this.lookup = lookup;
    this.ports = ports;
  }

  coreOf(record: number): number {
    return this.coreByRecord.get(record) ?? -1;
  }

  recordOf(core: number): number {
    return this.recordByCore.get(core) ?? -1;
  }

  /** Connections that wait to be accepted. */
  waiting(record: number): number {
    const core = this.coreOf(record);
    return core < 0 ? 0 : (this.listenerOf(this.owner.tcp, core)?.waiting ?? 0);
  }

  /** A record of the table listens, with the options it now has; or no longer. The table's mutex is held. */
  follow(record: number, listens: boolean): void {
    let was = this.coreOf(record);
    if (was >= 0 && (!listens || !this.isCurrent(record))) {
      this.drop(record, was);
      was = -1;
    }
    if (!listens) return;
    const core = this.owner.openListener(record, was, (w, c) => this.load(record, was < 0, w, c));
    if (core < 0) {
      if (was >= 0) this.drop(record, was);
      return;
    }
    this.owner.tcp.w[core * TCB_WORDS + OWNER] = this.table.home[record] + 1;
    this.coreByRecord.set(record, core);
    this.recordByCore.set(core, record);
    this.generations.set(record, this.table.get(record, GENERATION));
  }

  /** Whether a record is still the socket that it was when it was followed last: it may have closed, and be another one. */
  isCurrent(record: number): boolean {
    return this.generations.get(record) === this.table.get(record, GENERATION);
  }

  private drop(record: number, core: number): void {
    this.coreByRecord.delete(record);
    this.recordByCore.delete(core);
    this.generations.delete(record);
    this.owner.closeListener(core);
  }

  /** Gives a listener's record its address, where it is `fresh`, and its options. Returns the backlog. */
  private load(record: number, fresh: boolean, w: Int32Array, c: number): number {
    const { address, table } = this;
    if (fresh) {
      for (let i = 0; i < 4; i++) address[i] = table.get(record, LOCAL + i);
      this.owner.bindCore(c / TCB_WORDS, address, table.get(record, LOCAL_PORT));
    }
    loadStream(table.stream, record, w, c);
    this.loadFilter(table.get(record, FILTER), c);
    return table.stream[record * STREAM_WORDS + SW_BACKLOG];
  }

  private loadFilter(filter: number, c: number): void {
    const { tcp } = this.owner;
    if (filterOf(tcp, c) === filter) return;
    if (filter !== 0) this.table.holdApart(filter);
    setFilter(tcp, c, filter);
  }

  private listenerOf(t: Tcp, core: number): Listener | null {
    return t.listeners[t.w[core * TCB_WORDS + LISTENER] & 0xffff] ?? null;
  }

  // ---- ListenerChooser: the table has seen to conflicts ----

  add(): number {
    return 0;
  }

  remove(): void {}

  find(t: Tcp, c: number): Listener | null {
    let record = this.search(t, c);
    if (record === NOBODY && this.lookup.isStale()) {
      // It began to listen between this turn's control() and the segment's arrival.
      this.endpoint.tableChanged();
      record = this.search(t, c);
    }
    const home = record === NOBODY ? this.endpoint.thread : this.table.home[record];
    const isAway = home !== this.endpoint.thread && home < this.endpoint.shared.tcbs.length;
    this.away = isAway ? home : -1;
    const core = isAway ? -1 : this.coreOf(record);
    return core < 0 ? null : this.listenerOf(t, core);
  }

  /** Offset of the Ethernet header of the segment in hand. */
  get frame(): number {
    return this.ip - ETH_HEADER;
  }

  private interfaceOf(port: number): number {
    return port < this.ports.length ? this.ports[port].ifindex : this.endpoint.shared.ifindex;
  }

  private search(t: Tcp, c: number): number {
    const { w } = t;
    const v6 = (w[c + FLAGS] & F_V6) !== 0;
    const { bytes } = t.sink.views;
    const { frame, header, ip, length, port } = this;
    const device = this.interfaceOf(port);
    const ports = w[c + PORTS];
    return this.lookup.listener(
      w,
      c + C_LOCAL,
      c + C_REMOTE,
      ports,
      v6,
      port,
      device,
      bytes,
      frame,
      ip,
      header,
      length,
    );
  }
}
