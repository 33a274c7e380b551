/** Plays a script of notation.ts against a TCP in virtual time. */
import { ERRNO } from "af-xdp-bindings";
import {
  abortSocket,
  bind,
  close,
  connect,
  listen,
  MSG_MORE,
  MSG_OOB,
  MSG_PEEK,
  openSocket,
  poll,
  receive,
  SHUT_RD,
  SHUT_RDWR,
  SHUT_WR,
  send,
  shutdown,
  takeError,
} from "../../sockets/tcp/calls.ts";
import { CONGESTION_NAMES, type TcpConfig } from "../../sockets/tcp/config.ts";
import { Tcp } from "../../sockets/tcp/core.ts";
import { N } from "../../sockets/tcp/counters.ts";
import { initialSequence } from "../../sockets/tcp/isn.ts";
import { accept } from "../../sockets/tcp/listen.ts";
import { ICMP_TOO_BIG, ICMP_UNREACHABLE, icmpReport, setPathMtu } from "../../sockets/tcp/pmtu.ts";
import { getOption, OPTIONS, setOption } from "../../sockets/tcp/sockopts.ts";
import * as tcb from "../../sockets/tcp/tcb.ts";
import { runTimers } from "../../sockets/tcp/timers.ts";
import { ip } from "../../sockets/wire/address.ts";
import { FrameViews } from "../../sockets/wire/views.ts";
import { flagText, type Line, type Option, type Packet, type Script } from "./notation.ts";
import { addressWords, buildFrame, deliver, type Segment, streamByte, type TcpOptions, TestSink } from "./segments.ts";

const { TCB_WORDS } = tcb;
const FIELDS = new Map<string, unknown>(Object.entries(tcb));

const OWN_PORT = 80;
const PEER_PORT = 4000;
const SECRET = Int32Array.of(0x1234, -0x5678, 0x9abc, -0xdef0);
/** A segment leaves when its line says, or so much later: timers have ticks. */
const LATE_US = 1100;
const EVENTS: Record<string, number> = {
  ...{ readable: tcb.EV_READABLE, writable: tcb.EV_WRITABLE, connected: tcb.EV_CONNECTED, hangup: tcb.EV_HANGUP },
  ...{ error: tcb.EV_ERROR, urgent: tcb.EV_URGENT, closed: tcb.EV_CLOSED },
};
const ERRNO_NAMES = new Map(Object.entries(ERRNO).map(([name, value]) => [value as number, name]));

/** The peer's side of a connection. */
interface Peer {
  /** Our first sequence number, null before our first segment; the peer's. */
  iss: number | null;
  irs: number;
  /** Our timestamps are counted from the first. */
  tsBase: number | null;
  lastTs: number;
}

export class ScriptError extends Error {}

export class ScriptRun {
  readonly t: Tcp;
  readonly sink = new TestSink();
  private now: number;
  private readonly start: number;
  private readonly script: Script;
  private readonly peers = new Map<number, Peer>();
  private readonly buffer = new FrameViews(new Uint8Array(1 << 20));
  private readonly ends: { source: Uint8Array; destination: Uint8Array };
  private readonly pending: { segment: Segment; at: number }[] = [];
  private ids: number[] = [];
  private current = -1;
  private listener = -1;
  /** Bytes that the application has written and read, by connection. */
  private readonly written = new Map<number, number>();
  private readonly read = new Map<number, number>();
  /** What the peer's segments have unless a line says otherwise. */
  private window = 65_535;
  private stamped = false;

  /** @param iss where our sequence numbers begin, for an opening by the usual addresses */
  constructor(script: Script, iss: number) {
    this.script = script;
    this.sink.linkMtu = script.link.mtu;
    const v6 = script.link.v6;
    this.ends = { source: ip(v6 ? "2001:db8::2" : "198.18.0.2"), destination: ip(v6 ? "2001:db8::1" : "198.18.0.1") };
    const small: Partial<TcpConfig> = {
      connections: 64,
      bufferBytes: 1 << 20,
      pressureBytes: 1 << 20,
      segments: 1024,
      ranges: 256,
    };
    const make = (now: number): Tcp => new Tcp({ ...small, ...script.config }, this.sink, SECRET, 1, now);
    // The clock is set so that the usual connection begins with the number that is wanted.
    const probe = make(0);
    this.addresses(probe, probe.scratch);
    this.now = 4 * ((iss - initialSequence(probe, probe.scratch)) >>> 0) + 2 ** 34;
    this.start = this.now;
    this.t = make(this.now);
  }

  private addresses(t: Tcp, c: number): void {
    const local = addressWords(this.ends.destination);
    const remote = addressWords(this.ends.source);
    for (let i = 0; i < 4; i++) {
      t.w[c + tcb.LOCAL + i] = local[i];
      t.w[c + tcb.REMOTE + i] = remote[i];
    }
    t.w[c + tcb.PORTS] = (OWN_PORT << 16) | PEER_PORT;
    t.w[c + tcb.FLAGS] = this.script.link.v6 ? tcb.F_V6 : 0;
  }

  private get c(): number {
    if (this.current < 0) throw new ScriptError("there is no connection yet");
    return this.current * TCB_WORDS;
  }

  private peer(port: number): Peer {
    let peer = this.peers.get(port);
    if (peer === undefined) {
      // The peer's numbers wrap soon as well.
      peer = { iss: null, irs: 0xfffffc00 | 0, tsBase: null, lastTs: 0 };
      this.peers.set(port, peer);
    }
    return peer;
  }

  /** Runs all lines, then ends everything: nothing may be left in any pool. */
  run(): void {
    for (const line of this.script.lines) {
      try {
        this.play(line);
      } catch (error) {
        const note = error instanceof ScriptError ? error.message : String((error as Error).stack);
        throw new Error(`${this.script.file}:${line.number}: ${line.text}\n  ${note}`);
      }
    }
    const [first] = this.collect();
    if (first !== undefined)
      throw new Error(
        `${this.script.file}: "${this.script.title}" ends, and this was not expected: ${this.describe(first)}`,
      );
    this.finish();
  }

  private finish(): void {
    const { t } = this;
    for (const id of new Set(this.ids)) if (t.w[id * TCB_WORDS + tcb.STATE] !== tcb.FREE) abortSocket(t, id);
    if (this.listener >= 0) close(t, this.listener);
    // What waits, waits for two minutes at most.
    for (let i = 0; i < 40 && t.open > 0; i++) this.pass(15_000_000);
    const left = {
      open: t.open,
      chunks: t.chunks.used,
      segments: t.segments.used,
      ranges: t.ranges.used,
      timers: t.timers.count,
    };
    const bad = Object.entries(left).filter(([, count]) => count !== 0);
    if (bad.length > 0) throw new Error(`${this.script.file}: "${this.script.title}" leaves ${JSON.stringify(left)}`);
  }

  private play(line: Line): void {
    if (line.kind === "out") {
      this.expectSegment(line.packet as Packet, line.afterUs);
      return;
    }
    if (this.pending.length > 0 || line.afterUs > 0) {
      this.pass(line.afterUs);
      // What an event causes at once may stand after the next events of the same moment.
      if (line.afterUs > 0 && this.collect().length > 0)
        throw new ScriptError(`before it this has left: ${this.describe(this.pending[0])}`);
    }
    if (line.kind === "open") this.open(line.words[0] === "passive", line.words.slice(1));
    else if (line.kind === "in") this.inject(line.packet as Packet);
    else this.call(line.words);
    this.collect();
  }

  private collect(): { segment: Segment; at: number }[] {
    for (const segment of this.sink.sent.splice(0)) {
      const peer = this.peer(segment.destinationPort);
      if (peer.iss === null && (segment.flags & 2) !== 0) peer.iss = segment.seq;
      if (segment.options.ts) {
        peer.tsBase ??= segment.options.ts[0];
        peer.lastTs = segment.options.ts[0];
      }
      this.pending.push({ segment, at: this.now });
    }
    return this.pending;
  }

  /** Lets time pass, each timer at its time. `until`: stops when a segment has left. */
  private pass(us: number, until = false): void {
    const end = this.now + us;
    const { t } = this;
    for (;;) {
      const next = t.nextTimer();
      if (next > end) break;
      this.now = Math.max(next, this.now);
      t.begin(this.now);
      runTimers(t);
      if (this.collect().length > 0 && until) return;
    }
    this.now = end;
    t.begin(end);
    runTimers(t);
    this.collect();
  }

  private expectSegment(packet: Packet, afterUs: number): void {
    const from = this.now;
    if (this.collect().length === 0 && afterUs > 0) {
      this.pass(afterUs + LATE_US, true);
      if (this.pending.length === 0) throw new ScriptError("nothing has left");
    } else if (afterUs > 0) throw new ScriptError(`before it this has left: ${this.describe(this.pending[0])}`);
    const sent = this.pending.shift();
    if (sent === undefined) throw new ScriptError("nothing has left");
    if (Math.abs(sent.at - from - afterUs) > LATE_US)
      throw new ScriptError(`left after ${(sent.at - from) / 1000} ms: ${this.describe(sent)}`);
    this.compare(packet, sent.segment);
    // Times are counted from when it was due.
    if (afterUs > 0 && this.now < from + afterUs) this.pass(from + afterUs - this.now);
  }

  private compare(packet: Packet, segment: Segment): void {
    const port = packet.port || PEER_PORT;
    const peer = this.peer(port);
    const differ = (what: string, is: unknown, wanted: unknown): void => {
      if (is !== wanted)
        throw new ScriptError(`${what} is ${is}, not ${wanted}: ${this.describe({ segment, at: this.now })}`);
    };
    differ("port", segment.destinationPort, port);
    differ("flags", flagText(segment.flags), flagText(packet.flags));
    differ("sequence number", this.ownNumber(peer, segment.seq), packet.seq);
    differ("length", segment.payload.length, packet.length);
    if (packet.ack !== null) differ("ack", (segment.ack - peer.irs) | 0, packet.ack);
    if (packet.win !== null) differ("win", segment.window, packet.win);
    if (packet.urg !== null) differ("urg", segment.urgent, packet.urg);
    if (packet.tos !== null) differ("tos", segment.tos, packet.tos);
    if (packet.options !== null)
      differ("options", this.optionText(peer, segment.options, packet.options), optionsOf(packet.options));
    segment.payload.forEach((byte, i) => {
      const place = ((segment.seq - (peer.iss ?? 0)) | 0) + i;
      if (byte !== streamByte(place)) throw new ScriptError(`byte ${place} is ${byte}, not ${streamByte(place)}`);
    });
  }

  private ownNumber(peer: Peer, seq: number): number {
    return peer.iss === null ? seq : (seq - peer.iss) | 0;
  }

  /** Options as text, with `*` where the script has it. */
  private optionText(peer: Peer, options: TcpOptions, wanted: Option[]): string {
    const parts: string[] = [];
    if (options.mss !== undefined) parts.push(`mss ${options.mss}`);
    if (options.sackOk) parts.push("sackok");
    if (options.ts) {
      const stars = wanted.find(({ name }) => name === "ts")?.numbers ?? [];
      const value = stars[0] === null ? "*" : (options.ts[0] - (peer.tsBase ?? 0)) | 0;
      parts.push(`ts ${value}:${stars[1] === null ? "*" : options.ts[1]}`);
    }
    if (options.wscale !== undefined) parts.push(`wscale ${options.wscale}`);
    if (options.sack)
      parts.push(`sack ${options.sack.map(([a, b]) => `${(a - peer.irs) | 0}:${(b - peer.irs) | 0}`).join(" ")}`);
    return parts.join(", ");
  }

  private describe({ segment, at }: { segment: Segment; at: number }): string {
    const peer = this.peer(segment.destinationPort);
    const { flags, payload, options } = segment;
    const seq = `${this.ownNumber(peer, segment.seq)}${payload.length > 0 ? `+${payload.length}` : ""}`;
    const ack = (flags & 16) !== 0 ? ` ack ${(segment.ack - peer.irs) | 0}` : "";
    const port = segment.destinationPort === PEER_PORT ? "" : `port=${segment.destinationPort} `;
    return `(${(at - this.start) / 1000} ms) > ${port}${flagText(flags)} ${seq}${ack} win ${segment.window} <${this.optionText(peer, options, [])}>`;
  }

  private inject(packet: Packet): void {
    const port = packet.port || PEER_PORT;
    const peer = this.peer(port);
    const options: TcpOptions = {};
    for (const { name, numbers } of packet.options ?? []) {
      const [a, b] = numbers as [number, number];
      if (name === "mss") options.mss = a;
      else if (name === "wscale") options.wscale = a;
      else if (name === "sackok") options.sackOk = true;
      else if (name === "ts")
        options.ts = [a, (numbers[1] === null ? peer.lastTs : b + (b === 0 ? 0 : (peer.tsBase ?? 0))) | 0];
      else if (name === "raw") options.raw = numbers as number[];
      else {
        const pairs = numbers as number[];
        const own = (number: number): number => ((peer.iss ?? 0) + number) | 0;
        options.sack = [];
        for (let i = 0; i < pairs.length; i += 2) options.sack.push([own(pairs[i]), own(pairs[i + 1])]);
      }
    }
    if (this.stamped && options.ts === undefined && !options.raw && !(packet.flags & 2))
      options.ts = [this.peerClock(), peer.lastTs];
    const segment: Segment = {
      ...{ v6: this.script.link.v6, sourcePort: port, destinationPort: OWN_PORT, flags: packet.flags, options },
      seq: (peer.irs + packet.seq) | 0,
      ack: packet.ack === null ? 0 : ((peer.iss ?? 0) + packet.ack) | 0,
      window: packet.win ?? this.window,
      ...{ urgent: packet.urg ?? 0, tos: packet.tos ?? 0 },
      payload: Uint8Array.from({ length: packet.length }, (_, i) =>
        streamByte(packet.seq + i + ((packet.flags & 2) >> 1)),
      ),
    };
    const { views, length } = buildFrame(segment, this.ends);
    this.t.begin(this.now);
    if (!deliver(this.t, views, length)) throw new ScriptError("the door has refused it");
  }

  /** Milliseconds since the script's start, from 1000. */
  private peerClock(): number {
    return Math.floor((this.now - this.start) / 1000) + 1000;
  }

  /** A handshake that the script does not show. */
  private open(passive: boolean, words: string[]): void {
    const given = new Map(words.map((word): [string, string | undefined] => [word.split("=")[0], word.split("=")[1]]));
    const value = (name: string, fallback: number): number => Number(given.get(name) ?? fallback);
    const win = value("win", 65_535);
    const wscale = given.has("wscale") ? [{ name: "wscale", numbers: [value("wscale", 0)] } as Option] : [];
    const ts = given.has("ts") ? [{ name: "ts", numbers: [this.peerClock(), passive ? 0 : null] } as Option] : [];
    const sack = given.has("sack") ? [{ name: "sackok", numbers: [] } as Option] : [];
    const mss = { name: "mss", numbers: [value("mss", 1460)] } as Option;
    const ecn = given.has("ecn");
    this.window = win;
    const packet: Packet = {
      ...{ port: 0, flags: 2, seq: 0, length: 0, ack: null, win, urg: null, tos: null },
      options: [mss, ...sack, ...ts, ...wscale],
    };
    const rtt = given.has("rtt") ? value("rtt", 0) * 1000 : 0;
    if (passive) {
      if (this.listener < 0) this.call(["listen"]);
      this.inject({ ...packet, flags: ecn ? 2 | 64 | 128 : 2 });
      this.collect();
      this.pending.splice(0);
      this.pass(rtt);
      this.stamped = given.has("ts");
      this.inject({ ...packet, flags: 16, seq: 1, ack: 1, options: null });
      this.call(["accept"]);
    } else {
      if (this.current < 0) this.call(["socket"]);
      this.call(["connect"]);
      this.collect();
      this.pending.splice(0);
      this.pass(rtt);
      // The echo is known only now.
      this.inject({ ...packet, flags: ecn ? 2 | 16 | 64 : 18, ack: 1 });
      this.stamped = given.has("ts");
    }
    this.collect();
    this.pending.splice(0);
  }

  private call(words: string[]): void {
    const { t } = this;
    t.begin(this.now);
    const equals = words.indexOf("=");
    const wanted = equals < 0 ? null : words.slice(equals + 1).join(" ");
    const args = equals < 0 ? words.slice(1) : words.slice(1, equals);
    const check = (result: number, usual: number | null): void => {
      const text = result < 0 ? (ERRNO_NAMES.get(-result) ?? String(result)) : String(result);
      if (wanted !== null ? text !== wanted : usual !== null && result !== usual)
        throw new ScriptError(`returns ${text}, not ${wanted ?? usual}`);
    };
    const is = (what: unknown, value: unknown): void => {
      if (String(what) !== String(value)) throw new ScriptError(`is ${what}, not ${value}`);
    };
    switch (words[0]) {
      case "socket":
        this.current = openSocket(t, this.script.link.v6);
        this.ids.push(this.current);
        bind(t, this.current, addressWords(this.ends.destination), args[0] === "any" ? 0 : OWN_PORT);
        return;
      case "listen":
        if (this.listener < 0) {
          this.listener = openSocket(t, this.script.link.v6);
          bind(t, this.listener, addressWords(this.ends.destination), OWN_PORT);
        }
        check(listen(t, this.listener, Number(args[0] ?? 8), false), 0);
        return;
      case "accept": {
        const id = accept(t, this.listener);
        check(Math.min(id, 0), 0);
        if (id < 0) return;
        this.current = id;
        this.ids.push(id);
        return;
      }
      case "use":
        this.current = this.ids[Number(args[0])];
        return;
      case "connect": {
        const port = Number(args[0] ?? PEER_PORT);
        check(connect(t, this.current, addressWords(this.ends.source), port), -ERRNO.EINPROGRESS);
        return;
      }
      case "send":
        check(this.send(Number(args[0]), args.slice(1)), Number(args[0]));
        return;
      case "recv":
        this.receive(args, check);
        return;
      case "shutdown":
        check(shutdown(t, this.current, { rd: SHUT_RD, wr: SHUT_WR, rdwr: SHUT_RDWR }[args[0] as "rd"]), 0);
        return;
      case "close":
        if (args[0] === "listener") {
          close(t, this.listener);
          this.listener = -1;
          return;
        }
        close(t, this.current);
        this.ids = this.ids.filter((id) => id !== this.current);
        return;
      case "abort":
        abortSocket(t, this.current);
        this.ids = this.ids.filter((id) => id !== this.current);
        return;
      case "set":
      case "set-listener":
        check(setOption(t, words[0] === "set" ? this.current : this.listener, option(args[0]), Number(args[1])), 0);
        return;
      case "get":
        check(getOption(t, this.current, option(args[0])), null);
        return;
      case "error":
        is(ERRNO_NAMES.get(-takeError(t.w, this.c)) ?? "0", args[0]);
        return;
      case "state":
        is(tcb.STATE_NAMES[t.w[this.c + tcb.STATE]], args[0]);
        return;
      case "field":
        is(t.w[this.c + Number(FIELDS.get(args[0]))], args[1]);
        return;
      case "cwnd":
        is(t.w[this.c + tcb.CWND], args[0]);
        return;
      case "ssthresh":
        is(t.w[this.c + tcb.SSTHRESH], args[0]);
        return;
      case "congestion":
        is(CONGESTION_NAMES[t.w[this.c + tcb.CONGESTION]], args[0]);
        return;
      case "counter":
        if (!(args[0] in N)) throw new ScriptError(`no counter is called ${args[0]}`);
        is(t.counters[N[args[0] as "InSegs"]], args[1]);
        return;
      case "open":
        is(t.open, args[0]);
        return;
      case "poll":
        is(eventText(poll(t, this.current)), args.join(" "));
        return;
      case "quiet":
        this.pass(args[0] === undefined ? 0 : Number.parseFloat(args[0]) * (args[0].endsWith("ms") ? 1000 : 1e6));
        if (this.collect().length > 0) throw new ScriptError(`this has left: ${this.describe(this.pending[0])}`);
        return;
      case "drop":
        this.dropSegments(args[0] === "all" ? Math.max(this.collect().length, 1) : Number(args[0] ?? 1));
        return;
      case "frames":
        this.sink.frames = args[0] === "all" ? Number.POSITIVE_INFINITY : Number(args[0]);
        return;
      case "icmp":
        this.icmp(args, is);
        return;
      case "mtu":
        setPathMtu(t, this.current, Number(args[0]));
        return;
      case "window":
        this.window = Number(args[0]);
        return;
      case "port":
        is(t.w[this.c + tcb.PORTS] >>> 16 >= Number(args[0]), true);
        return;
      default:
        throw new ScriptError(`no call is called "${words[0]}"`);
    }
  }

  /** Takes segments that leave without a look at them. */
  private dropSegments(count: number): void {
    if (this.collect().length < count) throw new ScriptError(`only ${this.pending.length} have left`);
    this.pending.splice(0, count);
  }

  private send(count: number, flags: string[]): number {
    const from = this.written.get(this.current) ?? 0;
    for (let i = 0; i < count; i++) this.buffer.bytes[1 + i] = streamByte(1 + from + i);
    const bits = (flags.includes("more") ? MSG_MORE : 0) | (flags.includes("oob") ? MSG_OOB : 0);
    const sent = send(this.t, this.current, this.buffer, 1, count, bits);
    if (sent > 0) this.written.set(this.current, from + sent);
    return sent;
  }

  private receive(args: string[], check: (result: number, usual: number | null) => void): void {
    const count = args.length > 0 && /^\d+$/.test(args[0]) ? Number(args[0]) : 1 << 16;
    const bits = (args.includes("peek") ? MSG_PEEK : 0) | (args.includes("oob") ? MSG_OOB : 0);
    const got = receive(this.t, this.current, this.buffer, 3, count, bits);
    check(got, count);
    const skip = args.find((word) => word.startsWith("skip="));
    if (skip !== undefined) this.read.set(this.current, (this.read.get(this.current) ?? 0) + Number(skip.slice(5)));
    if (got <= 0) return;
    const from = this.read.get(this.current) ?? 0;
    if (bits & MSG_OOB) return;
    for (let i = 0; i < got; i++)
      if (this.buffer.bytes[3 + i] !== streamByte(1 + from + i))
        throw new ScriptError(`byte ${1 + from + i} is ${this.buffer.bytes[3 + i]}, not ${streamByte(1 + from + i)}`);
    if (!(bits & MSG_PEEK)) this.read.set(this.current, from + got);
  }

  private icmp(args: string[], is: (what: unknown, value: unknown) => void): void {
    const { t } = this;
    this.addresses(t, t.scratch);
    const seq = ((this.peer(PEER_PORT).iss ?? 0) + Number(args[2])) | 0;
    const kind = args[0] === "toobig" ? ICMP_TOO_BIG : ICMP_UNREACHABLE;
    const mtu = kind === ICMP_TOO_BIG ? Number(args[1]) : 0;
    const errno = kind === ICMP_TOO_BIG ? 0 : (ERRNO as Record<string, number>)[args[1]];
    is(icmpReport(t, kind, seq, mtu, errno), args[3] !== "ignored");
  }
}

function option(name: string): number {
  const found = (OPTIONS as Record<string, number>)[name];
  if (found === undefined) throw new ScriptError(`no option is called "${name}"`);
  return found;
}

function optionsOf(options: Option[]): string {
  const order = ["mss", "sackok", "ts", "wscale", "sack"];
  return options
    .toSorted((a, b) => order.indexOf(a.name) - order.indexOf(b.name))
    .map(({ name, numbers }) => {
      const text = numbers.map((value) => value ?? "*");
      if (name === "ts") return `ts ${text.join(":")}`;
      if (name === "sack")
        return `sack ${text.flatMap((a, i) => (i % 2 === 0 ? [`${a}:${text[i + 1]}`] : [])).join(" ")}`;
      return [name, ...text].join(" ");
    })
    .join(", ");
}

function eventText(bits: number): string {
  return Object.entries(EVENTS)
    .filter(([, bit]) => (bits & bit) !== 0)
    .map(([name]) => name)
    .join(" ");
}
