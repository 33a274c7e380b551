/**
 * The load of the echo benchmarks, a program of its own: sends prebuilt UDP frames over AF_XDP and counts those that come
 * back, keeping a window of them in flight. The same one serves every peer, whether it answers (addresses and ports
 * swapped) or only turns frames round (MAC addresses swapped).
 *
 *     bun bench/generator.ts '{"interface":"veth0", …}'      a GeneratorOptions
 *
 * It never touches a returned frame except a sampled one, so that it costs its CPU less than any echo costs the other.
 * Until the first frame comes back it sends one every few milliseconds: who is measured needs no handshake. Its standard
 * output is a line "ready" when the link serves it, a line "measuring" when the warm-up is over, and a line of JSON at the
 * end, a GeneratorResult.
 */
import { attachXdp, interfaceIndex, loadXdp, redirectQueues, sys, Umem, Xsk, XskMap } from "af-xdp-bindings";
import { threadTimes } from "../engine/host/affinity.ts";
import { ETH_HEADER, ETH_P_IP } from "../sockets/wire/ethernet.ts";
import { IPPROTO_UDP, IPV4_DF, IPV4_HEADER, writeIpv4 } from "../sockets/wire/ipv4.ts";
import { finishUdp4, UDP_HEADER, writeUdp } from "../sockets/wire/udp.ts";
import { FrameViews, readInt32, readUint16, writeInt32, writeUint16 } from "../sockets/wire/views.ts";

export interface GeneratorOptions {
  interface: string;
  mode: "skb" | "native";
  /** MAC addresses as 12 hexadecimal digits. */
  sourceMac: string;
  destinationMac: string;
  /** IPv4 addresses, int32. */
  source: number;
  destination: number;
  /** UDP port of the echo. */
  port: number;
  /** Bytes a frame, without FCS; at least 60. */
  size: number;
  /** Source ports used in turn. */
  flows: number;
  /** Frames in flight at most. */
  window: number;
  /** Frames sent at once at least, so that both sides work in bursts. */
  burst: number;
  warmupMs: number;
  measureMs: number;
  /** How long to wait for the first echo. */
  patienceMs: number;
}

export interface GeneratorResult {
  /** Frames that came back while measuring, and those sent. */
  received: number;
  sent: number;
  elapsedMs: number;
  /** Frames given up: nothing came back for a while though they were in flight. */
  lost: number;
  /** Sampled frames looked at, and those whose contents were not what was sent. */
  sampled: number;
  bad: number;
  /** Part of the time that the generator had nothing to do, 0 to 1: near 0, it is the generator that is measured. */
  idle: number;
  /** Milliseconds this thread waited for its CPU while measuring. */
  waitedMs: number;
  /** Milliseconds from "ready" to the first echo. */
  firstEchoMs: number;
}

const CHUNKS = 4096;
/** The upper half of the chunks is sent from, the lower received into. */
const TX_CHUNKS = CHUNKS / 2;
const FIRST_PORT = 10_000;
/** Every so many returned frames, one is compared with what was sent. */
const SAMPLE_EVERY = 512;
/** Frames in flight are given up when nothing has come back for so long: far more than a queue of them takes. */
const STALL_MS = 20;
const PROBE_INTERVAL_MS = 2;
const MAGIC = 0x6c636f72;
/** Steps between two readings of the clock. */
const STEPS = 64;

class Generator {
  private readonly options: GeneratorOptions;
  private readonly xsk: Xsk;
  private readonly views: FrameViews;
  private readonly free = new Int32Array(TX_CHUNKS);
  private freeCount = TX_CHUNKS;
  private inFlight = 0;
  received = 0;
  sent = 0;
  lost = 0;
  sampled = 0;
  bad = 0;
  empty = 0;

  constructor(xsk: Xsk, options: GeneratorOptions) {
    this.options = options;
    this.xsk = xsk;
    const { umem, fill } = xsk;
    this.views = new FrameViews(umem.memory);
    fill.reserve(CHUNKS - TX_CHUNKS);
    for (let i = 0; i < CHUNKS - TX_CHUNKS; i++) fill.set(i, i * umem.chunkSize);
    fill.submit(CHUNKS - TX_CHUNKS);
    for (let i = 0; i < TX_CHUNKS; i++) {
      this.free[i] = (CHUNKS - TX_CHUNKS + i) * umem.chunkSize;
      this.build(this.free[i], i);
    }
  }

  private build(at: number, number: number): void {
    const { views, options } = this;
    const { bytes } = views;
    const { size, flows, source, destination, port } = options;
    bytes.set(Uint8Array.fromHex(options.destinationMac + options.sourceMac), at);
    writeUint16(bytes, at + 12, ETH_P_IP);
    const ip = at + ETH_HEADER;
    const udp = ip + IPV4_HEADER;
    const total = size - ETH_HEADER;
    writeIpv4(views, ip, 0, total, 0, IPV4_DF, 64, IPPROTO_UDP, source, destination);
    writeUdp(bytes, udp, FIRST_PORT + (number % flows), port, total - IPV4_HEADER);
    for (let i = udp + UDP_HEADER; i < at + size; i++) bytes[i] = (i - at) & 0xff;
    writeInt32(bytes, udp + UDP_HEADER, MAGIC);
    finishUdp4(views, udp, total - IPV4_HEADER, ip);
  }

  /** Receives, reclaims, sends up to `most` frames. Returns how many came back. */
  step(most: number): number {
    const { rx, tx, fill, completion, umem } = this.xsk;
    const done = completion.available(256);
    if (done > 0) {
      for (let i = 0; i < done; i++) this.free[this.freeCount++] = completion.address(i) & umem.chunkMask;
      completion.release(done);
    }
    const n = rx.available(256);
    let returned = 0;
    if (n > 0) {
      fill.reserve(n);
      for (let i = 0; i < n; i++) {
        // An ICMP error or a neighbour's question may come too; neither has the length of an echo.
        if (rx.length(i) === this.options.size) {
          returned++;
          if (((this.received + returned) & (SAMPLE_EVERY - 1)) === 0) this.sample(rx.address(i));
        }
        fill.set(i, rx.chunk(i));
      }
      rx.release(n);
      fill.submit(n);
      this.received += returned;
      this.inFlight -= returned;
      // Given up too early: they came after all.
      if (this.inFlight < 0) {
        this.lost += this.inFlight;
        this.inFlight = 0;
      }
    } else {
      this.empty++;
    }
    let room = Math.min(this.options.window - this.inFlight, this.freeCount, most);
    if (room < Math.min(this.options.burst, most)) room = 0;
    if (room > 0) {
      room = Math.min(room, tx.reserve(room));
      for (let i = 0; i < room; i++) tx.set(i, this.free[--this.freeCount], this.options.size, 0);
      tx.submit(room);
      this.inFlight += room;
      this.sent += room;
    }
    if (room > 0 || tx.pending() > 0) this.xsk.kickTx();
    return returned;
  }

  /** Gives up what is in flight. */
  giveUp(): void {
    this.lost += this.inFlight;
    this.inFlight = 0;
  }

  clear(): void {
    this.received = this.sent = this.lost = this.sampled = this.bad = this.empty = 0;
  }

  /** Compares a returned frame with the one that was sent: swapped from end to end, or the MAC addresses alone. */
  private sample(at: number): void {
    const { bytes } = this.views;
    const { source, destination, port } = this.options;
    const ip = at + ETH_HEADER;
    const udp = ip + IPV4_HEADER;
    const swapped = readInt32(bytes, ip + 12) === destination;
    const ours = readInt32(bytes, ip + (swapped ? 16 : 12));
    const theirs = readInt32(bytes, ip + (swapped ? 12 : 16));
    const theirPort = readUint16(bytes, udp + (swapped ? 0 : 2));
    this.sampled++;
    const right =
      ours === source &&
      theirs === destination &&
      theirPort === port &&
      readInt32(bytes, udp + UDP_HEADER) === MAGIC &&
      bytes[at + this.options.size - 1] === ((this.options.size - 1) & 0xff);
    if (!right) this.bad++;
  }
}

/** Milliseconds an empty step takes here, from those of a measurement without any traffic. */
function emptyStepMs(generator: Generator): number {
  const steps = 200_000;
  const start = performance.now();
  for (let i = 0; i < steps; i++) generator.step(0);
  return (performance.now() - start) / steps;
}

async function firstEcho(generator: Generator, patienceMs: number): Promise<number> {
  const start = performance.now();
  while (performance.now() - start < patienceMs) {
    generator.giveUp();
    let returned = generator.step(1);
    const next = performance.now() + PROBE_INTERVAL_MS;
    while (returned === 0 && performance.now() < next) returned = generator.step(0);
    if (returned > 0) return performance.now() - start;
    await new Promise((resolve) => setImmediate(resolve));
  }
  throw new Error(`no echo came back within ${patienceMs} ms`);
}

/** Full rate for so long. Returns the milliseconds it took. */
function load(generator: Generator, milliseconds: number): number {
  const start = performance.now();
  let now = start;
  let lastReturn = start;
  while (now - start < milliseconds) {
    let returned = 0;
    for (let i = 0; i < STEPS; i++) returned += generator.step(256);
    now = performance.now();
    if (returned > 0) lastReturn = now;
    else if (now - lastReturn > STALL_MS) {
      generator.giveUp();
      lastReturn = now;
    }
  }
  return now - start;
}

const waitedNs = (): number => threadTimes(sys.gettid())?.waitNs ?? 0;

async function main(options: GeneratorOptions): Promise<void> {
  const ifindex = interfaceIndex(options.interface);
  const umem = new Umem({ chunks: CHUNKS, mode: "copy" });
  const xsk = new Xsk(umem, { ifindex, maxTxBudget: 256, rxSize: 4096, fillSize: 4096 });
  xsk.bind();
  const sockets = XskMap.create(1);
  sockets.set(0, xsk.fd);
  const link = attachXdp(loadXdp(redirectQueues(sockets), { name: "generator" }), ifindex, options.mode);
  const generator = new Generator(xsk, options);
  const emptyMs = emptyStepMs(generator);
  console.log("ready");
  const firstEchoMs = await firstEcho(generator, options.patienceMs);
  load(generator, options.warmupMs);
  console.log("measuring");
  // The line leaves with the event loop's next turn.
  await new Promise((resolve) => setImmediate(resolve));
  generator.clear();
  const waitedBefore = waitedNs();
  const elapsedMs = load(generator, options.measureMs);
  const waitedMs = (waitedNs() - waitedBefore) / 1e6;
  const { received, sent, lost, sampled, bad, empty } = generator;
  const idle = Math.min(1, (empty * emptyMs) / elapsedMs);
  const result: GeneratorResult = { received, sent, elapsedMs, lost, sampled, bad, idle, waitedMs, firstEchoMs };
  console.log(JSON.stringify(result));
  link.close();
  xsk.close();
  umem.close();
}

if (import.meta.main) await main(JSON.parse(process.argv[2]) as GeneratorOptions);
