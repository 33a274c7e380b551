/** What leaves as a packet of many segments, and what one by one. */
import { expect, test } from "bun:test";
import { bind, close, connect, listen, MSG_OOB, openSocket, receive, send } from "../../sockets/tcp/calls.ts";
import { GSO_FULL, GSO_REFUSED, GSO_SENT, Tcp } from "../../sockets/tcp/core.ts";
import { N } from "../../sockets/tcp/counters.ts";
import { accept } from "../../sockets/tcp/listen.ts";
import { OPTIONS, setOption } from "../../sockets/tcp/sockopts.ts";
import { runTimers } from "../../sockets/tcp/timers.ts";
import { endTurn } from "../../sockets/tcp/turn.ts";
import { ip } from "../../sockets/wire/address.ts";
import { TCP_FIN, TCP_FLAGS } from "../../sockets/wire/tcp.ts";
import { FrameViews } from "../../sockets/wire/views.ts";
import { addressWords, deliver, IP_AT, streamByte, TestSink } from "./segments.ts";
import { TestGso } from "./test-gso.ts";

const PORT = 80;
const CLIENT = addressWords(ip("198.18.0.1"));
const SERVER = addressWords(ip("198.18.0.2"));
const FULL = 1448;
const TCP_AT = IP_AT + 20;

type Frame = [views: FrameViews, length: number];

/** A client that reads everything at once, and a server with a way for packets of many segments, driven by turns. */
class Ends {
  readonly client: Tcp;
  readonly server: Tcp;
  readonly sink = new TestSink();
  readonly gso = new TestGso(this.sink);
  readonly toClient: Frame[] = [];
  readonly toServer: Frame[] = [];
  readonly id: number;
  now = 1e9;
  private readonly peer: number;
  private readonly buffer = new FrameViews(new Uint8Array(1 << 20));
  private written = 0;
  private read = 0;

  constructor() {
    const client = new TestSink();
    client.onFrame = (views, length) => void this.toServer.push([views, length]);
    this.sink.onFrame = (views, length) => void this.toClient.push([views, length]);
    this.sink.gso = this.gso;
    const config = { connections: 16, bufferBytes: 4 << 20, pressureBytes: 3 << 20 };
    const secret = Int32Array.of(1, 2, 3, 4);
    this.client = new Tcp(config, client, secret, 5, this.now);
    this.server = new Tcp(config, this.sink, secret, 6, this.now, { turns: true });
    this.gso.memory = this.server.chunks.views;
    const listener = openSocket(this.server, false);
    setOption(this.server, listener, OPTIONS.TCP_NODELAY, 1);
    bind(this.server, listener, SERVER, PORT);
    listen(this.server, listener, 4, false);
    this.peer = openSocket(this.client, false);
    bind(this.client, this.peer, CLIENT, 0);
    connect(this.client, this.peer, SERVER, PORT);
    this.serverTurn();
    this.clientTakes();
    this.serverTurn();
    this.id = accept(this.server, listener);
  }

  serverTurn(): void {
    for (const [views, length] of this.toServer.splice(0)) deliver(this.server, views, length);
    endTurn(this.server);
  }

  clientTakes(): void {
    for (const [views, length] of this.toClient.splice(0)) deliver(this.client, views, length);
    for (;;) {
      const got = receive(this.client, this.peer, this.buffer, 0, 1 << 19, 0);
      if (got <= 0) break;
      for (let i = 0; i < got; i++)
        if (this.buffer.bytes[i] !== streamByte(this.read + i)) throw new Error(`byte ${this.read + i} is another`);
      this.read += got;
    }
  }

  write(length: number, flags = 0): number {
    for (let i = 0; i < length; i++) this.buffer.bytes[i] = streamByte(this.written + i);
    const taken = send(this.server, this.id, this.buffer, 0, length, flags);
    this.written += Math.max(taken, 0);
    return taken;
  }

  /** Runs until the client has everything and nothing is under way, a millisecond a step. */
  settle(): void {
    for (let step = 0; step < 5000; step++) {
      if (this.read === this.written && this.toServer.length + this.toClient.length === 0) return;
      this.now += 1000;
      for (const t of [this.client, this.server]) {
        t.begin(this.now);
        runTimers(t);
      }
      this.clientTakes();
      this.serverTurn();
    }
    throw new Error(`${this.read} of ${this.written} bytes have come`);
  }

  /** Frames sent to the client and not taken yet: bytes of payload each. */
  get underWay(): number[] {
    return this.toClient.map(([views, length]) => length - 20 - ((views.bytes[TCP_AT + 12] >> 4) << 2));
  }

  get finAt(): number[] {
    return this.toClient.flatMap(([views], i) => ((views.bytes[TCP_AT + TCP_FLAGS] & TCP_FIN) !== 0 ? [i] : []));
  }
}

test("a write is one packet, its rest included; few segments are frames", () => {
  const ends = new Ends();
  expect(ends.write(5000)).toBe(5000);
  expect(ends.gso.sent).toEqual([[5000, FULL]]);
  expect(ends.underWay).toEqual([FULL, FULL, FULL, 5000 - 3 * FULL]);
  expect(ends.server.counters[N.GsoPackets]).toBe(1);
  ends.settle();
  ends.write(3 * FULL);
  expect(ends.gso.sent).toHaveLength(1);
  expect(ends.underWay).toEqual([FULL, FULL, FULL]);
  ends.settle();
});

test("a cork holds the rest back; the FIN goes with the last segment of a packet", () => {
  const ends = new Ends();
  setOption(ends.server, ends.id, OPTIONS.TCP_CORK, 1);
  ends.write(7000);
  expect(ends.gso.sent).toEqual([[4 * FULL, FULL]]);
  ends.clientTakes();
  ends.write(4000);
  expect(ends.gso.sent.slice(1).map(([payload]) => payload % FULL)).toEqual([0]);
  close(ends.server, ends.id);
  expect(ends.finAt).toEqual([ends.toClient.length - 1]);
  ends.settle();
});

test("what a burst of acknowledgments lets out leaves as one packet", () => {
  const ends = new Ends();
  ends.write(100_000);
  ends.clientTakes();
  expect(ends.toServer.length).toBeGreaterThan(3);
  const before = ends.gso.sent.length;
  ends.serverTurn();
  expect(ends.gso.sent).toHaveLength(before + 1);
  const [payload] = ends.gso.sent[before];
  // Slow start: as much again as was acknowledged, and the same once more.
  expect(payload).toBe(20 * FULL);
  ends.settle();
});

test("what follows in the same flight goes the same way; after it a frame", () => {
  const ends = new Ends();
  ends.write(4 * FULL);
  ends.write(100);
  ends.write(FULL + 1);
  expect(ends.gso.sent.map(([payload]) => payload)).toEqual([4 * FULL, 100, FULL + 1]);
  ends.settle();
  ends.write(100);
  expect(ends.gso.sent).toHaveLength(3);
  ends.settle();
});

test("a FIN alone, behind a packet in flight, is one segment that goes the same way", () => {
  const ends = new Ends();
  ends.write(4 * FULL);
  const before = ends.server.counters[N.OutSegs];
  close(ends.server, ends.id);
  expect(ends.gso.sent.map(([payload]) => payload)).toEqual([4 * FULL, 0]);
  expect(ends.finAt).toEqual([4]);
  expect(ends.server.counters[N.OutSegs]).toBe(before + 1);
  ends.settle();
});

test("an urgent pointer is of one segment", () => {
  const ends = new Ends();
  ends.write(5000, MSG_OOB);
  expect(ends.gso.sent).toEqual([]);
  expect(ends.underWay).toEqual([FULL, FULL, FULL, 5000 - 3 * FULL]);
});

test("a device that is full: nothing overtakes what is in flight, and nothing is lost; one that refuses: frames", () => {
  const ends = new Ends();
  ends.write(4 * FULL);
  ends.gso.answers = () => GSO_FULL;
  ends.write(3 * FULL);
  expect(ends.underWay).toEqual([FULL, FULL, FULL, FULL]);
  expect(ends.server.counters[N.NoFrame]).toBe(1);
  ends.gso.answers = () => GSO_SENT;
  ends.settle();
  // With nothing in flight nobody would bring a next try.
  ends.gso.answers = () => GSO_FULL;
  ends.write(4 * FULL);
  expect(ends.underWay).toEqual([FULL, FULL, FULL, FULL]);
  ends.gso.answers = () => GSO_REFUSED;
  ends.settle();
  ends.write(5 * FULL);
  expect(ends.underWay).toEqual([FULL, FULL, FULL, FULL, FULL]);
  ends.settle();
  expect(ends.server.counters[N.RetransSegs]).toBe(0);
});
