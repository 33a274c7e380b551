/** Many connections of one client and one server over a bad wire: opened, used, ended in every way. Nothing may be left. */
import { expect, test } from "bun:test";
import { ERRNO } from "af-xdp-bindings";
import { Random } from "../../queues/random.ts";
import {
  abortSocket,
  bind,
  close,
  connect,
  listen,
  openSocket,
  receive,
  SHUT_WR,
  send,
  shutdown,
} from "../../sockets/tcp/calls.ts";
import type { TcpConfig } from "../../sockets/tcp/config.ts";
import { Tcp } from "../../sockets/tcp/core.ts";
import { N } from "../../sockets/tcp/counters.ts";
import { accept } from "../../sockets/tcp/listen.ts";
import { OPTIONS, setOption } from "../../sockets/tcp/sockopts.ts";
import { runTimers } from "../../sockets/tcp/timers.ts";
import { ip } from "../../sockets/wire/address.ts";
import { FrameViews } from "../../sockets/wire/views.ts";
import { addressWords, deliver, streamByte, TestSink } from "./segments.ts";

const PORT = 80;
const CLIENT = addressWords(ip("198.18.0.1"));
const SERVER = addressWords(ip("198.18.0.2"));
const TOTAL = 300;
const AT_ONCE = 40;

interface Use {
  id: number;
  /** Bytes of the question, which the answer repeats; how the client ends it. */
  bytes: number;
  sent: number;
  got: number;
  ending: number;
}

/** Plays `TOTAL` connections; how many were answered whole. */
function churn(
  seed: number,
  config: Partial<TcpConfig>,
  lossPercent: number,
): { client: Tcp; server: Tcp; whole: number } {
  const random = new Random(seed);
  let now = 5e9;
  const wire: { at: number; to: number; views: FrameViews; length: number }[] = [];
  const make = (to: number): Tcp => {
    const sink = new TestSink();
    sink.onFrame = (views, length) => {
      if (random.below(100) < lossPercent) return;
      wire.push({ at: now + 500 + random.below(2000), to, views, length });
    };
    const limits = { connections: 600, bufferBytes: 4 << 20, pressureBytes: 3 << 20, segments: 2048, ranges: 512 };
    return new Tcp({ ...limits, ...config }, sink, Int32Array.of(seed, to, 3, 4), seed + to, now);
  };
  const [client, server] = [make(1), make(0)];
  const ends = [client, server];
  const listener = openSocket(server, false);
  // A peer whose RST was lost would be waited for for ever.
  for (const [name, value] of [
    ["SO_KEEPALIVE", 1],
    ["TCP_KEEPIDLE", 5],
    ["TCP_KEEPINTVL", 1],
  ] as const)
    expect(setOption(server, listener, OPTIONS[name], value)).toBe(0);
  bind(server, listener, SERVER, PORT);
  expect(listen(server, listener, 16, false)).toBe(0);
  const buffer = new FrameViews(new Uint8Array(1 << 16));
  const uses: Use[] = [];
  const serving = new Set<number>();
  let begun = 0;
  let whole = 0;

  const turn = (): void => {
    now += 1000;
    for (const t of ends) t.begin(now);
    for (const t of ends) runTimers(t);
    const due = wire.filter(({ at }) => at <= now).toSorted((a, b) => a.at - b.at);
    wire.splice(0, wire.length, ...wire.filter(({ at }) => at > now));
    for (const { to, views, length } of due) deliver(ends[to], views, length);
  };
  /** The server repeats what it gets, and closes when the client has. */
  const serve = (): void => {
    for (let id = accept(server, listener); id >= 0; id = accept(server, listener)) serving.add(id);
    for (const id of serving) {
      const got = receive(server, id, buffer, 0, 1000, 0);
      if (got > 0 && send(server, id, buffer, 0, got, 0) === got) continue;
      if (got === -ERRNO.EAGAIN) continue;
      close(server, id);
      serving.delete(id);
    }
  };
  const use = (one: Use): boolean => {
    if (one.sent < one.bytes) {
      const count = Math.min(one.bytes - one.sent, 1 + random.below(700));
      for (let i = 0; i < count; i++) buffer.bytes[i] = streamByte(one.id + one.sent + i);
      const sent = send(client, one.id, buffer, 0, count, 0);
      if (sent > 0) one.sent += sent;
      else if (sent !== -ERRNO.EAGAIN) return true;
    }
    const got = receive(client, one.id, buffer, 0, 1000, 0);
    for (let i = 0; i < got; i++)
      if (buffer.bytes[i] !== streamByte(one.id + one.got + i)) throw new Error(`byte ${one.got + i} is another`);
    if (got > 0) one.got += got;
    if (one.got === one.bytes) {
      whole++;
      return true;
    }
    // Not all are patient.
    return (got <= 0 && got !== -ERRNO.EAGAIN) || (one.ending === 3 && random.below(50) === 0);
  };

  for (let turns = 0; turns < 200_000 && (begun < TOTAL || uses.length > 0); turns++) {
    while (begun < TOTAL && uses.length < AT_ONCE) {
      const id = openSocket(client, false);
      if (id < 0) break;
      bind(client, id, CLIENT, 0);
      if (connect(client, id, SERVER, PORT) !== -ERRNO.EINPROGRESS) {
        close(client, id);
        break;
      }
      uses.push({ id, bytes: 1 + random.below(3000), sent: 0, got: 0, ending: random.below(4) });
      begun++;
    }
    turn();
    serve();
    for (let i = uses.length - 1; i >= 0; i--) {
      if (!use(uses[i])) continue;
      const [{ id, ending }] = uses.splice(i, 1);
      if (ending === 0) abortSocket(client, id);
      else {
        if (ending === 1) shutdown(client, id, SHUT_WR);
        close(client, id);
      }
    }
  }
  expect(uses.length).toBe(0);
  // The server hears of the last ends; then TIME_WAIT.
  for (let turns = 0; turns < 200_000 && serving.size > 0; turns++) {
    turn();
    serve();
  }
  close(server, listener);
  for (let turns = 0; turns < 400_000 && (client.open > 0 || server.open > 0); turns++) turn();
  for (const t of ends) {
    const left = [t.open, t.chunks.used, t.segments.used, t.ranges.used, t.timers.count, t.orphans, t.timeWaits];
    expect(left).toEqual(new Array(7).fill(0));
    expect(t.flows4.count).toBe(0);
  }
  return { client, server, whole };
}

test.each([
  ["a good wire", {}, 0],
  ["frames lost", {}, 5],
  ["a small backlog: cookies", { synBacklog: 2 }, 3],
  ["cookies alone", { synCookies: 2 }, 3],
  ["no timestamps, no SACK", { timestamps: false, sack: false }, 5],
  ["few ports: TIME_WAIT gives them back", { portFirst: 40_000, portLast: 40_060 }, 1],
  ["few records", { connections: 60, timeWaitMax: 10 }, 1],
] as [string, Partial<TcpConfig>, number][])(
  "%s",
  (_name, config, loss) => {
    const { client, server, whole } = churn(7, config, loss);
    // Those that were patient have been answered.
    expect(whole).toBeGreaterThan(TOTAL / 2);
    expect(client.counters[N.ActiveOpens]).toBe(TOTAL);
    if (config.synCookies === 2 || config.synBacklog !== undefined)
      expect(server.counters[N.SyncookiesRecv]).toBeGreaterThan(20);
  },
  120_000,
);
