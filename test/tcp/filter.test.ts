/** Socket filters of the core: which segments they see, what is left of those, and who has which filter for how long. */
import { expect, test } from "bun:test";
import { ERRNO } from "af-xdp-bindings";
import {
  abortSocket,
  bind,
  close,
  connect,
  listen,
  openSocket,
  receive,
  send,
  shutdown,
} from "../../sockets/tcp/calls.ts";
import type { TcpConfig } from "../../sockets/tcp/config.ts";
import { Tcp } from "../../sockets/tcp/core.ts";
import { N } from "../../sockets/tcp/counters.ts";
import { filterOf, type SegmentFilters, setFilter } from "../../sockets/tcp/filter.ts";
import { accept } from "../../sockets/tcp/listen.ts";
import {
  CLOSE_WAIT,
  CLOSED,
  ESTABLISHED,
  FILTER_DROPS,
  STATE,
  SYN_SENT,
  TCB_WORDS,
  TIME_WAIT,
} from "../../sockets/tcp/tcb.ts";
import { runTimers } from "../../sockets/tcp/timers.ts";
import { ip } from "../../sockets/wire/address.ts";
import { TCP_SYN } from "../../sockets/wire/tcp.ts";
import { FrameViews } from "../../sockets/wire/views.ts";
import { addressWords, deliver, TestSink } from "./segments.ts";

const PORT = 80;
const OURS = addressWords(ip("198.18.0.1"));
const THEIRS = addressWords(ip("198.18.0.2"));
const SHUT_WR = 1;
const SECOND_US = 1_000_000;
const ALL = Number.POSITIVE_INFINITY;
const DROP = -1;

/** Filters as functions, by number; how many records have each, and whose drops a listener was told of. */
class Filters implements SegmentFilters {
  readonly programs: ((t: Tcp) => number)[] = [() => DROP];
  readonly records: number[] = [0];
  listenerDrops = 0;
  seen = 0;
  tcp: Tcp | null = null;

  add(program: (t: Tcp) => number): number {
    this.programs.push(program);
    this.records.push(0);
    return this.programs.length - 1;
  }

  run(filter: number): number {
    this.seen++;
    return this.programs[filter](this.tcp as Tcp);
  }

  dropped(): void {
    this.listenerDrops++;
  }

  take(filter: number): void {
    this.records[filter]++;
  }

  share(filter: number): void {
    if (this.records[filter] === 0) throw new Error("shared by nobody");
    this.records[filter]++;
  }

  drop(filter: number): void {
    if (--this.records[filter] < 0) throw new Error("dropped once too often");
  }
}

/** A host whose sockets have filters, and a peer; segments cross when a test says so. */
class Two {
  readonly filters = new Filters();
  readonly host: Tcp;
  readonly peer: Tcp;
  now = 1e9;
  private readonly toHost: [FrameViews, number][] = [];
  private readonly toPeer: [FrameViews, number][] = [];
  private readonly buffer = new FrameViews(new Uint8Array(1 << 16));

  constructor(config: Partial<TcpConfig> = {}) {
    this.host = this.make(this.toPeer, config, this.filters);
    this.filters.tcp = this.host;
    this.peer = this.make(this.toHost, {});
  }

  private make(out: [FrameViews, number][], config: Partial<TcpConfig>, filters?: SegmentFilters): Tcp {
    const sink = new TestSink();
    sink.onFrame = (views, length) => void out.push([views, length]);
    const limits = { connections: 16, ...config };
    return new Tcp(limits, sink, Int32Array.of(1, 2, 3, 4), 5, this.now, { filters });
  }

  /** What has been sent arrives, and whatever that causes, until nothing is on its way. */
  settle(): void {
    while (this.toHost.length + this.toPeer.length > 0) {
      for (const [views, length] of this.toHost.splice(0)) deliver(this.host, views, length);
      for (const [views, length] of this.toPeer.splice(0)) deliver(this.peer, views, length);
    }
  }

  pass(us: number): void {
    for (let left = us; left > 0; left -= 10_000) {
      this.now += Math.min(left, 10_000);
      for (const t of [this.host, this.peer]) {
        t.begin(this.now);
        runTimers(t);
      }
      this.settle();
    }
  }

  listener(filter = 0): number {
    const id = openSocket(this.host, false);
    bind(this.host, id, OURS, PORT);
    if (filter !== 0) setFilter(this.host, id * TCB_WORDS, filter);
    expect(listen(this.host, id, 4, false)).toBe(0);
    return id;
  }

  dial(port = 0): number {
    const id = openSocket(this.peer, false);
    bind(this.peer, id, THEIRS, port);
    connect(this.peer, id, OURS, PORT);
    this.settle();
    return id;
  }

  write(t: Tcp, id: number, bytes: number): void {
    expect(send(t, id, this.buffer, 0, bytes, 0)).toBe(bytes);
    this.settle();
  }

  read(id: number): number {
    return receive(this.host, id, this.buffer, 0, 1000, 0);
  }

  stateOf(t: Tcp, id: number): number {
    return t.w[id * TCB_WORDS + STATE];
  }

  /** Nobody has any filter, once all is over. */
  expectNone(): void {
    expect(this.filters.records.every((count) => count === 0)).toBeTrue();
  }
}

/** A segment of a connection that the peer has with another host of the same name. */
function strangeSegment(): [FrameViews, number] {
  const two = new Two();
  two.listener();
  const other = two.dial();
  let frame: [FrameViews, number] | null = null;
  (two.peer.sink as TestSink).onFrame = (views, length) => {
    frame = [views, length];
  };
  send(two.peer, other, new FrameViews(new Uint8Array(8)), 0, 3, 0);
  return frame as unknown as [FrameViews, number];
}

test("what is dropped is sent again, what is cut off too; the filter goes with the record", () => {
  const two = new Two();
  const { filters, host, peer } = two;
  const listener = two.listener();
  const other = two.dial();
  const id = accept(host, listener);
  const c = id * TCB_WORDS;
  const three = filters.add(() => 3);
  setFilter(
    host,
    c,
    filters.add(() => DROP),
  );
  two.write(peer, other, 10);
  expect([two.read(id), host.w[c + FILTER_DROPS], host.counters[N.TCPFilterDrop]]).toEqual([-ERRNO.EAGAIN, 1, 1]);
  setFilter(host, c, three);
  expect(filters.records).toEqual([0, 1, 0]);
  two.pass(SECOND_US);
  // Three bytes of each segment, and what is missing in the next one.
  const first = two.read(id);
  expect(first).toBeGreaterThanOrEqual(3);
  expect(first).toBeLessThan(10);
  setFilter(host, c, 0);
  expect(filters.records).toEqual([0, 0, 0]);
  two.pass(4 * SECOND_US);
  expect(two.read(id)).toBe(10 - first);
  const { seen } = filters;
  two.write(peer, other, 10);
  expect([two.read(id), filters.seen]).toEqual([10, seen]);
  setFilter(host, c, three);
  abortSocket(host, id);
  close(host, listener);
  two.expectNone();
});

test("a listener's filter sees its SYNs and half-open connections; those that open have the one it has then", () => {
  const two = new Two();
  const { filters, host, peer } = two;
  const onlySyn = filters.add((t) => ((t.segFlags & TCP_SYN) !== 0 ? ALL : DROP));
  const all = filters.add(() => ALL);
  const listener = two.listener(onlySyn);
  expect(filterOf(host, listener * TCB_WORDS)).toBe(onlySyn);
  const other = two.dial();
  expect(two.stateOf(peer, other)).toBe(ESTABLISHED);
  expect([accept(host, listener), filters.listenerDrops, host.counters[N.TCPFilterDrop]]).toEqual([
    -ERRNO.EAGAIN,
    1,
    1,
  ]);
  setFilter(host, listener * TCB_WORDS, all);
  expect(filters.records).toEqual([0, 0, 1]);
  // The SYN-ACK once more, and what it is answered by.
  two.pass(2 * SECOND_US);
  const id = accept(host, listener);
  expect(id).toBeGreaterThanOrEqual(0);
  expect([filterOf(host, id * TCB_WORDS), filters.records[all]]).toEqual([all, 2]);
  setFilter(
    host,
    listener * TCB_WORDS,
    filters.add(() => DROP),
  );
  two.write(peer, other, 5);
  expect(two.read(id)).toBe(5);
  // It has closed: what it had has its record alone.
  close(host, listener);
  expect(filters.records).toEqual([0, 0, 1, 0]);
  close(host, id);
  two.settle();
  shutdown(peer, other, SHUT_WR);
  two.settle();
  expect(two.stateOf(host, id)).toBe(TIME_WAIT);
  two.expectNone();
});

test("a SYN that is dropped begins nothing, and is answered by nothing", () => {
  const two = new Two();
  const { filters, host, peer } = two;
  const listener = two.listener(filters.add(() => DROP));
  const other = two.dial();
  expect([two.stateOf(peer, other), host.open, filters.listenerDrops]).toEqual([SYN_SENT, 1, 1]);
  // Whatever else comes to its port: no RST, as long as it is dropped.
  const [views, length] = strangeSegment();
  deliver(host, views, length);
  expect([host.counters[N.OutRsts], filters.listenerDrops]).toEqual([0, 2]);
  setFilter(host, listener * TCB_WORDS, 0);
  deliver(host, views, length);
  expect([host.counters[N.OutRsts], filters.listenerDrops]).toEqual([1, 2]);
  close(host, listener);
  two.expectNone();
});

test("cookies: the acknowledgment that brings one is seen once, and its connection has the filter", () => {
  const two = new Two({ synCookies: 2 });
  const { filters, host, peer } = two;
  const drops = filters.add((t) => ((t.segFlags & TCP_SYN) !== 0 ? ALL : DROP));
  const listener = two.listener(drops);
  const other = two.dial();
  expect([two.stateOf(peer, other), filters.listenerDrops, host.open]).toEqual([ESTABLISHED, 1, 1]);
  const two_ = filters.add(() => 2);
  setFilter(host, listener * TCB_WORDS, two_);
  const { seen } = filters;
  two.write(peer, other, 5);
  const id = accept(host, listener);
  expect([two.read(id), filters.seen - seen, filterOf(host, id * TCB_WORDS)]).toEqual([2, 1, two_]);
  abortSocket(host, id);
  close(host, listener);
  two.expectNone();
});

test("a FIN comes behind what is left of its segment", () => {
  const two = new Two();
  const { filters, host, peer } = two;
  const listener = two.listener();
  const other = two.dial();
  const id = accept(host, listener);
  setFilter(
    host,
    id * TCB_WORDS,
    filters.add(() => 2),
  );
  const MSG_MORE = 0x8000;
  send(peer, other, new FrameViews(new Uint8Array(8)), 0, 5, MSG_MORE);
  shutdown(peer, other, SHUT_WR);
  two.settle();
  expect([two.stateOf(host, id), two.read(id), two.read(id)]).toEqual([CLOSE_WAIT, 2, 0]);
  abortSocket(host, id);
  close(host, listener);
  two.expectNone();
});

test("in TIME_WAIT nothing is filtered; a SYN there is the listener's, filter and all", () => {
  const two = new Two();
  const { filters, host, peer } = two;
  const listener = two.listener();
  const other = two.dial(4000);
  const id = accept(host, listener);
  setFilter(
    host,
    id * TCB_WORDS,
    filters.add(() => ALL),
  );
  shutdown(host, id, SHUT_WR);
  two.settle();
  close(peer, other);
  two.settle();
  expect(two.stateOf(host, id)).toBe(TIME_WAIT);
  // Its owner still has it; nobody sees what comes.
  expect(filterOf(host, id * TCB_WORDS)).not.toBe(0);
  setFilter(
    host,
    listener * TCB_WORDS,
    filters.add(() => DROP),
  );
  two.pass(SECOND_US);
  const { seen } = filters;
  const again = two.dial(4000);
  expect([filters.seen - seen, filters.listenerDrops, two.stateOf(peer, again)]).toEqual([1, 1, SYN_SENT]);
  expect(two.stateOf(host, id)).toBe(CLOSED);
  close(host, id);
  close(host, listener);
  two.expectNone();
});

test("what is of a connection on another lcore is not the listener's to filter", () => {
  const filters = new Filters();
  let elsewhere = 0;
  const places = { filters, elsewhere: () => ++elsewhere > 0 };
  const host = new Tcp({ connections: 4 }, new TestSink(), Int32Array.of(1, 2, 3, 4), 5, 1e9, places);
  filters.tcp = host;
  const listener = openSocket(host, false);
  bind(host, listener, OURS, PORT);
  listen(host, listener, 4, false);
  setFilter(
    host,
    listener * TCB_WORDS,
    filters.add(() => DROP),
  );
  const [views, length] = strangeSegment();
  deliver(host, views, length);
  expect([elsewhere, filters.seen, host.counters[N.OutRsts]]).toEqual([1, 0, 0]);
});
