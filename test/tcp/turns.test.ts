/** A Tcp that is driven by turns, as an lcore's: when it acknowledges, and that requests and responses take the short way. */
import { expect, test } from "bun:test";
import { abortSocket, bind, connect, listen, openSocket, receive, send } from "../../sockets/tcp/calls.ts";
import { Tcp } from "../../sockets/tcp/core.ts";
import { N } from "../../sockets/tcp/counters.ts";
import { accept } from "../../sockets/tcp/listen.ts";
import { OPTIONS, setOption } from "../../sockets/tcp/sockopts.ts";
import { runTimers } from "../../sockets/tcp/timers.ts";
import { endTurn } from "../../sockets/tcp/turn.ts";
import { ip } from "../../sockets/wire/address.ts";
import { FrameViews } from "../../sockets/wire/views.ts";
import { addressWords, deliver, TestSink } from "./segments.ts";

const PORT = 80;
const CLIENT = addressWords(ip("198.18.0.1"));
const SERVER = addressWords(ip("198.18.0.2"));
const FULL = 1448;

type Frame = [views: FrameViews, length: number];

/** A client that acknowledges as Linux does, a server by turns, and what each has sent and the other has not had yet. */
class Ends {
  readonly client: Tcp;
  readonly server: Tcp;
  readonly toClient: Frame[] = [];
  readonly toServer: Frame[] = [];
  readonly id: number;
  readonly peer: number;
  now = 1e9;
  private readonly buffer = new FrameViews(new Uint8Array(1 << 16));

  constructor() {
    this.client = this.make(this.toServer, false);
    this.server = this.make(this.toClient, true);
    const listener = openSocket(this.server, false);
    setOption(this.server, listener, OPTIONS.TCP_NODELAY, 1);
    bind(this.server, listener, SERVER, PORT);
    listen(this.server, listener, 4, false);
    this.peer = openSocket(this.client, false);
    setOption(this.client, this.peer, OPTIONS.TCP_NODELAY, 1);
    bind(this.client, this.peer, CLIENT, 0);
    connect(this.client, this.peer, SERVER, PORT);
    this.serverTakes();
    this.clientTakes();
    this.serverTakes();
    this.id = accept(this.server, listener);
  }

  private make(out: Frame[], turns: boolean): Tcp {
    const sink = new TestSink();
    sink.onFrame = (views, length) => void out.push([views, length]);
    return new Tcp({ connections: 16 }, sink, Int32Array.of(1, 2, 3, 4), 5, this.now, { turns });
  }

  serverTakes(): void {
    for (const [views, length] of this.toServer.splice(0)) deliver(this.server, views, length);
  }

  clientTakes(): void {
    for (const [views, length] of this.toClient.splice(0)) deliver(this.client, views, length);
  }

  asks(bytes: number): void {
    send(this.client, this.peer, this.buffer, 0, bytes, 0);
  }

  answers(bytes: number): void {
    receive(this.server, this.id, this.buffer, 0, 1 << 16, 0);
    send(this.server, this.id, this.buffer, 0, bytes, 0);
  }

  /** Lets time pass. */
  after(ms: number): void {
    this.now += ms * 1000;
    for (const t of [this.client, this.server]) {
      t.begin(this.now);
      runTimers(t);
    }
  }
}

test("a burst is acknowledged once, at the end of the turn", () => {
  const ends = new Ends();
  ends.asks(6 * FULL);
  expect(ends.toServer.length).toBe(6);
  ends.serverTakes();
  expect(ends.toClient.length).toBe(0);
  endTurn(ends.server);
  expect(ends.toClient.length).toBe(1);
  ends.clientTakes();
  endTurn(ends.server);
  expect([ends.toClient.length, ends.client.segments.used]).toEqual([0, 0]);
});

test("an answer takes the acknowledgment along, with no timer: each exchange is two segments, both the short way", () => {
  const ends = new Ends();
  const exchange = (): void => {
    ends.asks(64);
    ends.serverTakes();
    ends.answers(64);
    endTurn(ends.server);
    ends.clientTakes();
    receive(ends.client, ends.peer, new FrameViews(new Uint8Array(64)), 0, 64, 0);
  };
  for (let i = 0; i < 20; i++) exchange();
  const [sent, short] = [ends.server.counters[N.OutSegs], ends.server.counters[N.TCPHPHits]];
  const [received, ofClient] = [ends.client.counters[N.InSegs], ends.client.counters[N.TCPHPHits]];
  for (let i = 0; i < 100; i++) exchange();
  expect([ends.server.counters[N.OutSegs] - sent, ends.server.counters[N.TCPHPHits] - short]).toEqual([100, 100]);
  expect([ends.client.counters[N.InSegs] - received, ends.client.counters[N.TCPHPHits] - ofClient]).toEqual([100, 100]);
  ends.after(1);
  expect(ends.server.counters[N.DelayedACKs]).toBe(0);
});

test("the acknowledgment of a response alone takes the short way, and leaves no timer", () => {
  const ends = new Ends();
  ends.asks(64);
  ends.serverTakes();
  ends.answers(64);
  endTurn(ends.server);
  ends.clientTakes();
  ends.after(50);
  const before = ends.server.counters[N.TCPHPAcks];
  ends.serverTakes();
  expect([ends.server.counters[N.TCPHPAcks] - before, ends.server.segments.used, ends.server.chunks.used]).toEqual([
    1, 0, 0,
  ]);
  expect(ends.server.timers.count).toBe(0);
});

test("a hole is told segment by segment, within the turn", () => {
  const ends = new Ends();
  ends.asks(4 * FULL);
  ends.toServer.shift();
  ends.serverTakes();
  expect(ends.toClient.length).toBe(3);
});

test("who waits for the end of the turn and is gone by then sends nothing", () => {
  const ends = new Ends();
  ends.asks(4 * FULL);
  ends.serverTakes();
  abortSocket(ends.server, ends.id);
  // The RST.
  expect(ends.toClient.length).toBe(1);
  endTurn(ends.server);
  expect(ends.toClient.length).toBe(1);
});
