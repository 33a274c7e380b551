/** Windows over time, against the formulas of RFC 5681 and RFC 9438; and a flood, beside which others are served. */
import { describe, expect, test } from "bun:test";
import { bind, listen, openSocket, receive } from "../../sockets/tcp/calls.ts";
import { CUBIC, NEWRENO } from "../../sockets/tcp/config.ts";
import { grow, initControl, ssthreshAfterLoss } from "../../sockets/tcp/congestion/control.ts";
import { initCwnd } from "../../sockets/tcp/congestion/window.ts";
import { Tcp } from "../../sockets/tcp/core.ts";
import { N } from "../../sockets/tcp/counters.ts";
import { accept } from "../../sockets/tcp/listen.ts";
import { paced, paceSent } from "../../sockets/tcp/pacing.ts";
import { takeSample } from "../../sockets/tcp/rtt.ts";
import * as tcb from "../../sockets/tcp/tcb.ts";
import { runTimers } from "../../sockets/tcp/timers.ts";
import { ip } from "../../sockets/wire/address.ts";
import { FrameViews } from "../../sockets/wire/views.ts";
import { addressWords, buildFrame, deliver, type Segment, TestSink } from "./segments.ts";

const RTT_US = 100_000;

/** A record whose window is always full, in virtual time. */
function fullWindow(congestion: number, cwnd: number): { t: Tcp; c: number; round: () => number } {
  const t = new Tcp(
    { connections: 4, bufferBytes: 1 << 16, pressureBytes: 1 << 16 },
    new TestSink(),
    new Int32Array(4),
    1,
    1e9,
  );
  const c = t.allocate();
  const { w } = t;
  w[c + tcb.CONGESTION] = congestion;
  initCwnd(t, c);
  initControl(t, c);
  w[c + tcb.CWND] = cwnd;
  w[c + tcb.FLAGS] |= tcb.F_CWND_LIMITED;
  let now = 1e9;
  /** A round trip: each segment of the window is acknowledged, spread over it. */
  const round = (): number => {
    const segments = w[c + tcb.CWND];
    for (let i = 0; i < segments; i++) {
      now += RTT_US / segments;
      t.begin(now);
      w[c + tcb.SRTT_US] = RTT_US << 3;
      grow(t, c, 1);
    }
    return w[c + tcb.CWND];
  };
  return { t, c, round };
}

describe("windows", () => {
  test.each([
    ["NewReno", NEWRENO],
    ["CUBIC", CUBIC],
  ])("slow start of %s doubles", (_name, congestion) => {
    const { round } = fullWindow(congestion, 10);
    expect([round(), round(), round()]).toEqual([20, 40, 80]);
  });

  test("NewReno: half, then a segment a round trip (RFC 5681, equations 3 and 4)", () => {
    const { t, c, round } = fullWindow(NEWRENO, 100);
    t.w[c + tcb.SSTHRESH] = ssthreshAfterLoss(t, c);
    t.w[c + tcb.CWND] = t.w[c + tcb.SSTHRESH];
    expect(t.w[c + tcb.CWND]).toBe(50);
    for (let i = 1; i <= 20; i++) expect(Math.abs(round() - (50 + i))).toBeLessThanOrEqual(1);
    t.w[c + tcb.CWND] = 3;
    expect(ssthreshAfterLoss(t, c)).toBe(2);
  });

  test("CUBIC: back at the old window after K, slowly there, faster beyond (RFC 9438, section 4.2)", () => {
    const { t, c, round } = fullWindow(CUBIC, 1000);
    t.w[c + tcb.SSTHRESH] = ssthreshAfterLoss(t, c);
    t.w[c + tcb.CWND] = t.w[c + tcb.SSTHRESH];
    const start = t.w[c + tcb.CWND];
    expect(start).toBe(700);
    const k = Math.cbrt((1000 - start) / 0.4);
    const rounds = Math.round(k / (RTT_US / 1e6));
    const windows = [start];
    for (let i = 0; i < 2 * rounds; i++) windows.push(round());
    // The curve W(t) = C (t - K)^3 + W_max, met within a few segments at every tenth round.
    for (let i = 10; i < windows.length; i += 10) {
      const wanted = 0.4 * (i * 0.1 - k) ** 3 + 1000;
      expect(Math.abs(windows[i] - wanted)).toBeLessThan(0.02 * wanted);
    }
    const step = (at: number): number => windows[at + 1] - windows[at - 1];
    expect(step(rounds)).toBeLessThan(step(5) / 4);
  });

  test("CUBIC where Reno would be faster: its pace (section 4.3)", () => {
    const { t, c, round } = fullWindow(CUBIC, 20);
    t.w[c + tcb.SSTHRESH] = ssthreshAfterLoss(t, c);
    t.w[c + tcb.CWND] = t.w[c + tcb.SSTHRESH];
    const start = t.w[c + tcb.CWND];
    let last = start;
    for (let i = 0; i < 20; i++) last = round();
    // alpha is 0.53 segments a round trip.
    expect(last - start).toBeGreaterThanOrEqual(10);
    expect(last - start).toBeLessThanOrEqual(13);
    // From the window that was cut on, one.
    t.w[c + tcb.PRIOR_CWND] = 20;
    for (let i = 0; i < 20; i++) last = round();
    expect(last - start).toBeGreaterThanOrEqual(29);
    expect(last - start).toBeLessThanOrEqual(33);
  });

  test("CUBIC: a window that is cut below the last leaves room to others (section 4.7)", () => {
    const { t, c } = fullWindow(CUBIC, 1000);
    ssthreshAfterLoss(t, c);
    t.w[c + tcb.CWND] = 800;
    ssthreshAfterLoss(t, c);
    expect(t.f[(c + tcb.CC_STATE) >> 1]).toBeCloseTo((800 * (1 + 717 / 1024)) / 2, 5);
  });

  test("CUBIC: slow start ends when the round trip rises (HyStart)", () => {
    const { t, c } = fullWindow(CUBIC, 64);
    for (let i = 0; i < 20; i++) takeSample(t, c, 40_000);
    expect(t.w[c + tcb.SSTHRESH]).toBeGreaterThan(1 << 30);
    t.w[c + tcb.SND_UNA] = (t.w[c + tcb.SND_UNA] + 1) | 0;
    t.w[c + tcb.SND_NXT] = (t.w[c + tcb.SND_NXT] + 100_000) | 0;
    for (let i = 0; i < 20; i++) takeSample(t, c, 50_000);
    expect(t.w[c + tcb.SSTHRESH]).toBe(64);
  });
});

test("RTO: RFC 6298 with the deviation of Linux, 200 ms at least", () => {
  const { t, c } = fullWindow(NEWRENO, 10);
  takeSample(t, c, 100_000);
  expect([t.w[c + tcb.SRTT_US] >> 3, t.w[c + tcb.RTO_US]]).toEqual([100_000, 300_000]);
  for (let i = 0; i < 100; i++) {
    t.w[c + tcb.SND_UNA] = t.w[c + tcb.SND_NXT];
    t.w[c + tcb.SND_NXT] = (t.w[c + tcb.SND_NXT] + 1) | 0;
    takeSample(t, c, 100_000);
  }
  expect(t.w[c + tcb.RTO_US]).toBe(300_000);
  takeSample(t, c, 1_000_000);
  expect(t.w[c + tcb.RTO_US]).toBeGreaterThan(600_000);
  expect(t.w[c + tcb.MIN_RTT_US]).toBe(100_000);
});

test("pacing: a rate is kept to over a second, at most a millisecond ahead", () => {
  const { t, c } = fullWindow(NEWRENO, 10);
  t.w[c + tcb.PACING_RATE] = 1_000_000;
  let sent = 0;
  for (let now = 2e9; now < 2e9 + 1e6; now += 100) {
    t.begin(now);
    while (!paced(t, c)) {
      paceSent(t, c, 1000);
      sent += 1000;
    }
  }
  expect(sent).toBeGreaterThanOrEqual(999_000);
  expect(sent).toBeLessThanOrEqual(1_003_000);
});

test("a flood of SYNs: an established connection and an honest new one are served, nothing is held", () => {
  const sink = new TestSink();
  const limits = { connections: 2000, bufferBytes: 1 << 20, pressureBytes: 1 << 20, segments: 2048, synBacklog: 256 };
  const t = new Tcp(limits, sink, Int32Array.of(1, 2, 3, 4), 1, 1e9);
  const buffer = new FrameViews(new Uint8Array(4096));
  const listener = openSocket(t, false);
  bind(t, listener, addressWords(ip("198.18.0.1")), 80);
  listen(t, listener, 4096, false);
  const put = (from: string, port: number, fields: Partial<Segment>): Segment | undefined => {
    const segment: Segment = {
      ...{ v6: false, sourcePort: port, destinationPort: 80, seq: 1000, ack: 0, flags: 2, window: 60_000, urgent: 0 },
      ...{ options: { mss: 1460 }, payload: new Uint8Array(0), tos: 0, ...fields },
    };
    const { views, length } = buildFrame(segment, { source: ip(from), destination: ip("198.18.0.1") });
    deliver(t, views, length);
    return sink.sent.splice(0).at(-1);
  };
  const open = (port: number): { id: number; ack: number } => {
    const answer = put("198.18.0.2", port, {}) as Segment;
    const ack = (answer.seq + 1) | 0;
    put("198.18.0.2", port, { flags: 16, seq: 1001, ack, options: {} });
    return { id: accept(t, listener), ack };
  };
  const say = ({ id, ack }: { id: number; ack: number }, port: number, seq: number): number => {
    put("198.18.0.2", port, { flags: 24, seq, ack, options: {}, payload: new Uint8Array(10) });
    return receive(t, id, buffer, 0, 100, 0);
  };
  const before = open(5000);
  expect(before.id).toBeGreaterThan(0);
  for (let i = 0; i < 20_000; i++) {
    put(`198.19.${i & 255}.${(i >> 8) & 255}`, 1024 + (i % 60_000), { seq: i * 77 });
    if (i === 10_000) expect(say(before, 5000, 1001)).toBe(10);
  }
  const during = open(5001);
  expect(during.id).toBeGreaterThan(0);
  expect(say(during, 5001, 1001)).toBe(10);
  expect(say(before, 5000, 1011)).toBe(10);
  expect(t.counters[N.SyncookiesSent]).toBeGreaterThan(19_000);
  // The backlog, the listener and two connections; a segment each for what is half open.
  expect(t.open).toBe(256 + 3);
  expect(t.segments.used).toBe(256);
  // Nobody answers: it is forgotten within a minute or so.
  for (let now = 1e9; now < 1e9 + 70e6; now += 500_000) {
    t.begin(now);
    runTimers(t);
    sink.sent.splice(0);
  }
  expect([t.open, t.segments.used]).toEqual([3, 0]);
});
