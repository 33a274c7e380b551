/** Calls that scripts have no words for: several listeners, events, reads in place, what is known of a connection. */
import { describe, expect, test } from "bun:test";
import { ERRNO } from "af-xdp-bindings";
import {
  bind,
  close,
  connect,
  consumed,
  listen,
  openSocket,
  peekChunk,
  poll,
  SHUT_WR,
  send,
  shutdown,
} from "../../sockets/tcp/calls.ts";
import { TCP_DEFAULTS, type TcpConfig } from "../../sockets/tcp/config.ts";
import { Tcp } from "../../sockets/tcp/core.ts";
import { N } from "../../sockets/tcp/counters.ts";
import { tcpInfo } from "../../sockets/tcp/info.ts";
import { accept } from "../../sockets/tcp/listen.ts";
import { getOption, OPTIONS, setOption } from "../../sockets/tcp/sockopts.ts";
import {
  ESTABLISHED,
  EV_ACCEPT,
  EV_CONNECTED,
  EV_HANGUP,
  EV_READABLE,
  EV_WRITABLE,
  F_V6,
  FLAGS,
  STATE,
  TCB_WORDS,
} from "../../sockets/tcp/tcb.ts";
import { ip } from "../../sockets/wire/address.ts";
import { FrameViews } from "../../sockets/wire/views.ts";
import { addressWords, buildFrame, deliver, type Segment, TestSink } from "./segments.ts";

const SECRET = Int32Array.of(1, 2, 3, 4);
const SMALL = { connections: 64, bufferBytes: 1 << 20, pressureBytes: 1 << 20, segments: 256, ranges: 64 };
const buffer = new FrameViews(new Uint8Array(1 << 16));

const words = (text: string): Int32Array => addressWords(ip(text));
const ANY4 = Int32Array.of(0, 0, 0xffff, 0);
const ANY6 = new Int32Array(4);

function make(config: Partial<TcpConfig> = {}, secret: Int32Array = SECRET): { t: Tcp; sink: TestSink } {
  const sink = new TestSink();
  return { t: new Tcp({ ...SMALL, ...config }, sink, secret, 1, 1e9), sink };
}

function listener(t: Tcp, address: Int32Array, port: number, v6 = false, v6only = false): number {
  const id = openSocket(t, v6);
  bind(t, id, address, port);
  const result = listen(t, id, 8, v6only);
  if (result === 0) return id;
  close(t, id);
  return result;
}

/** A segment from a peer; what it is answered with. */
function peer(
  t: Tcp,
  sink: TestSink,
  from: string,
  to: string,
  port: number,
  fields: Partial<Segment>,
): Segment | undefined {
  const segment: Segment = {
    ...{ v6: from.includes(":"), sourcePort: 4000, destinationPort: port, seq: 100, ack: 0, flags: 2, window: 60_000 },
    ...{ urgent: 0, options: {}, payload: new Uint8Array(0), tos: 0, ...fields },
  };
  const { views, length } = buildFrame(segment, { source: ip(from), destination: ip(to) });
  expect(deliver(t, views, length)).toBe(true);
  const answer = sink.sent.at(-1);
  sink.sent.splice(0);
  return answer;
}

/** A handshake from 198.18.0.2; the connection's id. */
function accepted(t: Tcp, sink: TestSink, id: number, to = "198.18.0.1", port = 80): number {
  const answer = peer(t, sink, "198.18.0.2", to, port, {}) as Segment;
  peer(t, sink, "198.18.0.2", to, port, { flags: 16, seq: 101, ack: (answer.seq + 1) | 0 });
  return accept(t, id);
}

describe("listeners", () => {
  test("of one port and several addresses: the address decides, the wildcard takes the rest", () => {
    const { t, sink } = make();
    const one = listener(t, words("198.18.0.1"), 80);
    const two = listener(t, words("198.18.0.5"), 80);
    const any = listener(t, ANY4, 80);
    expect(accepted(t, sink, two, "198.18.0.5")).toBeGreaterThan(0);
    expect(accepted(t, sink, one, "198.18.0.1")).toBeGreaterThan(0);
    expect(accepted(t, sink, any, "198.18.0.9")).toBeGreaterThan(0);
    expect([one, two, any].map((id) => accept(t, id))).toEqual(new Array(3).fill(-ERRNO.EAGAIN));
  });

  test("of the same address, or both wildcards: EADDRINUSE; after close() the port is free", () => {
    const { t } = make();
    const one = listener(t, words("198.18.0.1"), 80);
    expect(listener(t, words("198.18.0.1"), 80)).toBe(-ERRNO.EADDRINUSE);
    const any = listener(t, ANY4, 80);
    expect(listener(t, ANY4, 80)).toBe(-ERRNO.EADDRINUSE);
    close(t, one);
    expect(listener(t, words("198.18.0.1"), 80)).toBeGreaterThanOrEqual(0);
    close(t, any);
    expect(listener(t, ANY4, 80)).toBeGreaterThanOrEqual(0);
  });

  test("of IPv6 take IPv4 as well, unless IPV6_V6ONLY", () => {
    const { t, sink } = make();
    const both = listener(t, ANY6, 80, true);
    expect(listener(t, ANY4, 80)).toBe(-ERRNO.EADDRINUSE);
    const child = accepted(t, sink, both);
    expect(t.w[child * TCB_WORDS + FLAGS] & F_V6).toBe(0);
    const only = listener(t, ANY6, 81, true, true);
    expect(listener(t, ANY4, 81)).toBeGreaterThan(0);
    expect(peer(t, sink, "2001:db8::2", "2001:db8::1", 81, {})?.flags).toBe(18);
    expect(accept(t, only)).toBe(-ERRNO.EAGAIN);
  });

  test("a listener is no connection: its calls say so", () => {
    const { t } = make();
    const id = listener(t, ANY4, 80);
    expect(connect(t, id, words("198.18.0.2"), 1)).toBe(-ERRNO.EISCONN);
    expect(send(t, id, buffer, 0, 1, 0)).toBe(-ERRNO.ENOTCONN);
    expect(accept(t, openSocket(t, false))).toBe(-ERRNO.EINVAL);
    expect(shutdown(t, id, SHUT_WR)).toBe(0);
    expect(accept(t, id)).toBe(-ERRNO.EINVAL);
  });

  test.each([
    ["IP_MINTTL", "198.18.0.2", "198.18.0.1", OPTIONS.IP_MINTTL, OPTIONS.IPV6_MINHOPCOUNT],
    ["IPV6_MINHOPCOUNT", "2001:db8::2", "2001:db8::1", OPTIONS.IPV6_MINHOPCOUNT, OPTIONS.IP_MINTTL],
  ] as const)(
    "%s: what has come too far is dropped and counted, what is accepted has it, too",
    (_, from, to, own, other) => {
      const { t, sink } = make();
      const id = listener(t, ANY6, 80, true);
      const knock = (fields: Partial<Segment> = {}): Segment | undefined => peer(t, sink, from, to, 80, fields);
      // Frames here have 64. The other family's bound is not theirs.
      for (const [option, least] of [
        [own, 65],
        [other, 255],
      ] as const)
        expect(setOption(t, id, option, least)).toBe(0);
      expect(knock()).toBeUndefined();
      expect(setOption(t, id, own, 256)).toBe(-ERRNO.EINVAL);
      setOption(t, id, own, 64);
      const answer = knock() as Segment;
      const next = { flags: 16, seq: 101, ack: (answer.seq + 1) | 0 };
      knock(next);
      const child = accept(t, id);
      expect([getOption(t, child, own), getOption(t, child, other)]).toEqual([64, 255]);
      const data = { ...next, payload: Uint8Array.of(1, 2, 3) };
      setOption(t, child, own, 255);
      knock(data);
      expect([getOption(t, child, OPTIONS.TCP_INQ), t.counters[N.TCPMinTTLDrop]]).toEqual([0, 2]);
      setOption(t, child, own, 0);
      knock(data);
      expect(getOption(t, child, OPTIONS.TCP_INQ)).toBe(3);
    },
  );

  test("as many as are allowed", () => {
    const { t } = make({ listeners: 2 });
    expect(listener(t, ANY4, 80)).toBeGreaterThanOrEqual(0);
    expect(listener(t, ANY4, 81)).toBeGreaterThanOrEqual(0);
    expect(listener(t, ANY4, 82)).toBe(-ERRNO.ENOBUFS);
  });
});

describe("addresses of nobody and everybody", () => {
  test.each(["255.255.255.255", "224.0.0.1", "0.0.0.0"])("a SYN to %s is not answered", (to) => {
    const { t, sink } = make();
    listener(t, ANY4, 80);
    expect(peer(t, sink, "198.18.0.2", to, 80, {})).toBeUndefined();
    expect(peer(t, sink, "198.18.0.2", to, 81, {})).toBeUndefined();
  });

  test.each(["255.255.255.255", "239.1.2.3", "0.0.0.0"])("a SYN from %s is not answered", (from) => {
    const { t, sink } = make();
    listener(t, ANY4, 80);
    expect(peer(t, sink, from, "198.18.0.1", 80, {})).toBeUndefined();
  });

  test.each(["255.255.255.255", "224.0.0.1", "0.0.0.0"])("connect() to %s: ENETUNREACH", (to) => {
    const { t } = make();
    expect(connect(t, openSocket(t, false), words(to), 80)).toBe(-ERRNO.ENETUNREACH);
  });

  test("over IPv6", () => {
    const { t, sink } = make();
    listener(t, ANY6, 80, true);
    expect(peer(t, sink, "2001:db8::2", "ff02::1", 80, {})).toBeUndefined();
    expect(connect(t, openSocket(t, true), words("ff02::1"), 80)).toBe(-ERRNO.ENETUNREACH);
  });
});

describe("events", () => {
  /** What has happened, by id. */
  function events(t: Tcp): Map<number, number> {
    const found = new Map<number, number>();
    for (let id = t.nextReady(); id >= 0; id = t.nextReady()) found.set(id, t.takeEvents(id));
    return found;
  }

  test("a listener's, then its connection's once it is accepted; each is told once", () => {
    const { t, sink } = make();
    const id = listener(t, ANY4, 80);
    const answer = peer(t, sink, "198.18.0.2", "198.18.0.1", 80, {}) as Segment;
    expect(events(t).size).toBe(0);
    const ack = (answer.seq + 1) | 0;
    peer(t, sink, "198.18.0.2", "198.18.0.1", 80, { flags: 24, seq: 101, ack, payload: new Uint8Array(5) });
    expect(events(t)).toEqual(new Map([[id, EV_ACCEPT]]));
    const child = accept(t, id);
    expect(events(t)).toEqual(new Map([[child, EV_READABLE | EV_WRITABLE]]));
    peer(t, sink, "198.18.0.2", "198.18.0.1", 80, { flags: 17, seq: 106, ack });
    expect(events(t)).toEqual(new Map([[child, EV_READABLE | EV_HANGUP]]));
    expect(events(t).size).toBe(0);
  });

  test("connected, and nothing of a record that has been closed", () => {
    const { t, sink } = make();
    const id = openSocket(t, false);
    bind(t, id, words("198.18.0.1"), 80);
    expect(connect(t, id, words("198.18.0.2"), 4000)).toBe(-ERRNO.EINPROGRESS);
    const syn = sink.sent[0];
    peer(t, sink, "198.18.0.2", "198.18.0.1", 80, { flags: 18, ack: (syn.seq + 1) | 0 });
    expect(events(t)).toEqual(new Map([[id, EV_CONNECTED | EV_WRITABLE]]));
    peer(t, sink, "198.18.0.2", "198.18.0.1", 80, { flags: 4, seq: 101 });
    close(t, id);
    expect([...events(t).values()].every((bits) => bits === 0)).toBe(true);
    // The record is somebody else's now.
    expect(openSocket(t, false)).toBe(id);
    expect(poll(t, id) & EV_WRITABLE).toBe(EV_WRITABLE);
  });
});

test("a read where the bytes lie: chunk by chunk", () => {
  const { t, sink } = make({ chunkBytes: 1024 });
  const id = listener(t, ANY4, 80);
  const child = accepted(t, sink, id);
  const ack = tcpInfo(t.w, child * TCB_WORDS, t.now).unacked;
  expect(ack).toBe(0);
  const payload = Uint8Array.from({ length: 1400 }, (_, i) => i * 3);
  const next = t.w[child * TCB_WORDS + 8];
  peer(t, sink, "198.18.0.2", "198.18.0.1", 80, { flags: 24, seq: 101, ack: next, payload });
  expect(getOption(t, child, OPTIONS.TCP_INQ)).toBe(1400);
  const got: number[] = [];
  for (let count = peekChunk(t, child); count > 0; count = peekChunk(t, child)) {
    expect(count).toBeLessThanOrEqual(1024);
    got.push(...t.chunks.views.bytes.subarray(t.readOffset, t.readOffset + count));
    consumed(t, child, count);
  }
  expect(got).toEqual([...payload]);
  expect(t.chunks.used).toBe(0);
});

test("what is known of a connection", () => {
  const { t, sink } = make();
  const child = accepted(t, sink, listener(t, ANY4, 80));
  send(t, child, buffer, 0, 100, 0);
  const info = tcpInfo(t.w, child * TCB_WORDS, t.now);
  expect(info).toMatchObject({
    state: ESTABLISHED,
    unacked: 1,
    bytesSent: 100,
    dataSegsOut: 1,
    segsOut: 2,
    segsIn: 2,
    notsentBytes: 0,
    sndCwnd: 10,
  });
  expect(info).toMatchObject({ congestion: "cubic", pmtu: 1500, sndMss: 536, rto: 200_000 + info.rtt });
});

test("initial sequence numbers: others for each peer and secret, later ones larger", () => {
  const syn = (secret: Int32Array<ArrayBuffer>, port: number, later: number): number => {
    const { t, sink } = make({}, secret);
    t.begin(1e9 + later);
    const id = openSocket(t, false);
    bind(t, id, words("198.18.0.1"), 80);
    connect(t, id, words("198.18.0.2"), port);
    return sink.sent[0].seq;
  };
  const changed = (word: number): Int32Array<ArrayBuffer> => SECRET.map((value, i) => (i === word ? 77 : value));
  const first = syn(SECRET, 4000, 0);
  expect(syn(SECRET, 4000, 0)).toBe(first);
  expect(syn(SECRET, 4001, 0)).not.toBe(first);
  for (let i = 0; i < 4; i++) expect(syn(changed(i), 4000, 0)).not.toBe(first);
  // A step every four microseconds.
  expect((syn(SECRET, 4000, 4000) - first) | 0).toBe(1000);
});

describe("limits", () => {
  test("an idle connection takes less than a kibibyte, and nothing of any pool", () => {
    const { t, sink } = make();
    const child = accepted(t, sink, listener(t, ANY4, 80));
    expect([t.w[child * TCB_WORDS + STATE], t.chunks.used, t.segments.used, t.ranges.used]).toEqual([
      ESTABLISHED,
      0,
      0,
      0,
    ]);
    // Record, four timers, ring of events, free list; and slots of the table, of which at least 3/16 are used.
    expect(TCB_WORDS * 4 + 4 * 12 + 4 + 4 + (16 * 16) / 3).toBeLessThan(1024);
  });

  test("no record left: ENFILE", () => {
    const { t } = make({ connections: 2 });
    expect([openSocket(t, false), openSocket(t, false)]).toEqual([0, 1]);
    expect(openSocket(t, false)).toBe(-ERRNO.ENFILE);
  });

  test("a configuration that cannot be is refused", () => {
    for (const bad of [
      { connections: 0 },
      { chunkBytes: 1000 },
      { bufferBytes: 100 },
      { initialWindow: 0 },
      { portFirst: 0 },
    ])
      expect(() => make(bad)).toThrow(RangeError);
    expect(() => make({ portFirst: 9, portLast: 8 })).toThrow("portLast: 8 is not a whole number from 9 to 65535");
  });

  test("options that nobody knows: ENOPROTOOPT", () => {
    const { t } = make();
    const id = openSocket(t, false);
    expect(setOption(t, id, 99, 1)).toBe(-ERRNO.ENOPROTOOPT);
    expect(getOption(t, id, 0x199)).toBe(-ERRNO.ENOPROTOOPT);
  });

  test("options are as they were set", () => {
    const { t } = make();
    const id = openSocket(t, false);
    const defaults = {
      TCP_NODELAY: 0,
      TCP_KEEPIDLE: 7200,
      TCP_KEEPINTVL: 75,
      TCP_KEEPCNT: 9,
      TCP_SYNCNT: 6,
      TCP_LINGER2: 60,
    };
    for (const [name, value] of Object.entries(defaults))
      expect(getOption(t, id, OPTIONS[name as "TCP_CORK"])).toBe(value);
    expect(getOption(t, id, OPTIONS.SO_RCVBUF)).toBe(TCP_DEFAULTS.receiveBuffer);
    const set = {
      TCP_NODELAY: 1,
      TCP_CORK: 1,
      TCP_KEEPIDLE: 5,
      TCP_KEEPINTVL: 6,
      TCP_KEEPCNT: 7,
      TCP_SYNCNT: 3,
      TCP_LINGER2: 9,
    };
    const more = {
      TCP_USER_TIMEOUT: 5000,
      TCP_NOTSENT_LOWAT: 100,
      SO_KEEPALIVE: 1,
      SO_OOBINLINE: 1,
      SO_LINGER: 4,
      SO_RCVLOWAT: 9,
    };
    for (const [name, value] of Object.entries({ ...set, ...more, SO_MAX_PACING_RATE: 5000, IP_TOS: 0x48 })) {
      expect(setOption(t, id, OPTIONS[name as "TCP_CORK"], value)).toBe(0);
      expect(getOption(t, id, OPTIONS[name as "TCP_CORK"])).toBe(value);
    }
    // Seconds become repeated SYN-ACKs, which last at least as long.
    expect(setOption(t, id, OPTIONS.TCP_DEFER_ACCEPT, 5)).toBe(0);
    expect(getOption(t, id, OPTIONS.TCP_DEFER_ACCEPT)).toBe(7);
  });

  test("poll(): SO_RCVLOWAT and TCP_NOTSENT_LOWAT", () => {
    const { t, sink } = make();
    const child = accepted(t, sink, listener(t, ANY4, 80));
    setOption(t, child, OPTIONS.SO_RCVLOWAT, 10);
    const ack = t.w[child * TCB_WORDS + 8];
    peer(t, sink, "198.18.0.2", "198.18.0.1", 80, { flags: 24, seq: 101, ack, payload: new Uint8Array(9) });
    expect(poll(t, child)).toBe(EV_WRITABLE);
    peer(t, sink, "198.18.0.2", "198.18.0.1", 80, { flags: 24, seq: 110, ack, payload: new Uint8Array(1) });
    expect(poll(t, child)).toBe(EV_WRITABLE | EV_READABLE);
    setOption(t, child, OPTIONS.TCP_NOTSENT_LOWAT, 50);
    // Ten segments leave, the rest waits; half of the low-water mark is where poll() draws the line.
    send(t, child, buffer, 0, 5360 + 24, 0);
    expect(poll(t, child) & EV_WRITABLE).toBe(EV_WRITABLE);
    send(t, child, buffer, 0, 1, 0);
    expect(poll(t, child) & EV_WRITABLE).toBe(0);
  });
});
