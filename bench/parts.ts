/**
 * The packet path by parts, in memory: what the lcore runs, and the pieces of it, in nanoseconds. Each figure comes from
 * the engine's own functions, and each run checks that the work was done.
 */
import { Bench } from "tinybench";
import { FlowTable } from "../sockets/flow-table.ts";
import { ETH_HEADER, ETH_P_IP, etherType, networkOffset } from "../sockets/wire/ethernet.ts";
import { checkIpv4, IPPROTO_UDP, IPV4_DF, IPV4_HEADER, IPV4_OK, writeIpv4 } from "../sockets/wire/ipv4.ts";
import { checkUdp4, finishUdp4, UDP_HEADER, UDP_OK, writeUdp } from "../sockets/wire/udp.ts";
import { FrameViews, writeUint16 } from "../sockets/wire/views.ts";
import { filterPass, SHAPES, selectionPass } from "./bpf.ts";
import { FRAMES, InMemory, remoteOf, remotePortOf, shuffled } from "./in-memory.ts";
import type { Summary } from "./ratio.ts";
import { RingPass } from "./ring.ts";
import { TcpLcorePath } from "./tcp-lcore.ts";
import { TcpMemory } from "./tcp-memory.ts";

export interface Part {
  readonly name: string;
  /** Nanoseconds a packet: median of the runs, the least, and the 99th percentile. */
  readonly ns: Summary;
  readonly runs: number;
}

export const RECEIVE_1K = "receive path, 1,000 flows";
export const GROUP_BY_HASH = "receive path, a reuseport group of 4, by hash";
export const GROUP_BY_CLASSIC = "… by a classic program";
export const GROUP_BY_EXTENDED = "… by an sk_reuseport program and a map of sockets";
export const RECEIVE_1M = "receive path, 1,000,000 flows";
export const TCP_ONE = "TCP: 64 bytes in order, read in place";
export const TCP_1K = "TCP: 64 bytes in order, 1,000 connections";
export const TCP_1M = "TCP: 64 bytes in order, 1,000,000 connections";
export const TCP_RR = "TCP on an lcore: request and response, 1,000 connections";
export const TCP_RRA_1K = "… and an acknowledgment of its own";
export const TCP_RRA_1M = "… and an acknowledgment of its own, 1,000,000 connections";

export interface PartsOptions {
  /** Time spent on each part, milliseconds. */
  timeMs: number;
  /** Flows of the large tables; a million in a real run. */
  flowsLarge: number;
}

/** One timed piece: `run` does `count` operations, after an untimed `prepare`. */
interface Piece {
  name: string;
  count: number;
  prepare?(): void;
  run(): void;
  verify?(): void;
}

export async function measureParts({ timeMs, flowsLarge }: PartsOptions): Promise<Part[]> {
  const results: Part[] = [];
  // One after another, each from a clean start, so that no piece compiles another's code for types it never sees.
  for (const make of [
    () => pathPiece(RECEIVE_1K, 1000, false),
    () => pathPiece(RECEIVE_1M, flowsLarge, false),
    () => pathPiece("receive and reply, 1,000 flows", 1000, true),
    () => parsePiece(),
    () => checksumPiece(18),
    () => checksumPiece(1472),
    () => lookupPiece("flow lookup, 1,000 flows", 1000),
    () => lookupPiece("flow lookup, 1,000,000 flows", flowsLarge),
    () => ringPiece(),
    () => tcpPiece(TCP_ONE, 1, 64, false),
    () => tcpPiece("TCP: 64 bytes in order, copied out", 1, 64, true),
    () => tcpPiece(TCP_1K, 1000, 64, false),
    () => tcpPiece(TCP_1M, flowsLarge, 64, false),
    () => tcpPiece("TCP: 1,448 bytes in order, read in place", 1, 1448, false),
    () => exchangePiece(TCP_RR, 1000, false),
    () => exchangePiece(TCP_RRA_1K, 1000, true),
    () => exchangePiece(TCP_RRA_1M, flowsLarge, true),
    () => shapePiece("receive path, one socket for all", "one"),
    () => shapePiece("… with a socket filter", "filtered"),
    () => shapePiece(GROUP_BY_HASH, "group"),
    () => shapePiece(GROUP_BY_CLASSIC, "classic"),
    () => shapePiece(GROUP_BY_EXTENDED, "selected"),
    () => bpfPiece("BPF: a tcpdump filter", 0),
    () => bpfPiece("BPF: a reuseport selection", OPERATIONS),
  ]) {
    results.push(await measure(make(), timeMs));
    Bun.gc(true);
  }
  return results;
}

async function measure(piece: Piece, timeMs: number): Promise<Part> {
  const bench = new Bench({ time: timeMs, warmupTime: timeMs / 4, throws: true });
  bench.add(piece.name, () => piece.run(), {
    ...(piece.prepare ? { beforeEach: () => piece.prepare?.() } : {}),
    ...(piece.verify ? { afterEach: () => piece.verify?.() } : {}),
  });
  await bench.run();
  const result = bench.tasks[0].result;
  if (result.state !== "completed") throw new Error(`${piece.name}: ${result.state}`);
  const { p50, p99, min, samplesCount } = result.latency;
  const ns = (ms: number): number => (ms * 1e6) / piece.count;
  return { name: piece.name, ns: { median: ns(p50), min: ns(min), max: ns(p99) }, runs: samplesCount };
}

function pathPiece(name: string, flows: number, reply: boolean): Piece {
  const path = new InMemory(flows, reply);
  return {
    name,
    count: FRAMES,
    prepare: () => path.prepare(),
    run: () => path.run(),
    verify: () => path.verify(reply),
  };
}

/** The receive path to sockets that share a port, 1,000 peers. */
function shapePiece(name: string, shape: keyof typeof SHAPES): Piece {
  const path = new InMemory(1000, false, SHAPES[shape]);
  return {
    name,
    count: FRAMES,
    prepare: () => path.prepare(),
    run: () => path.run(),
    verify: () => path.verify(false),
  };
}

const SLOT = 2048;
const OPERATIONS = 8192;
/** Frames in the cache: the cost of the code, not of memory. */
const CACHED = 16;

/** Frames with `payload` bytes, one in each slot of a memory of their own. */
function someFrames(payload: number): FrameViews {
  const views = new FrameViews(new Uint8Array(CACHED * SLOT));
  for (let i = 0; i < CACHED; i++) {
    const at = i * SLOT;
    const udp = at + ETH_HEADER + IPV4_HEADER;
    writeUint16(views.bytes, at + 12, ETH_P_IP);
    const total = IPV4_HEADER + UDP_HEADER + payload;
    writeIpv4(views, at + ETH_HEADER, 0, total, i, IPV4_DF, 64, IPPROTO_UDP, remoteOf(i), 0xc6120001 | 0);
    writeUdp(views.bytes, udp, remotePortOf(i), 9000, UDP_HEADER + payload);
    for (let b = 0; b < payload; b++) views.bytes[udp + UDP_HEADER + b] = b * 7 + i;
    finishUdp4(views, udp, UDP_HEADER + payload, at + ETH_HEADER);
  }
  return views;
}

function parsePiece(): Piece {
  const views = someFrames(18);
  const { bytes } = views;
  const run = (): void => {
    let good = 0;
    for (let i = 0; i < OPERATIONS; i++) {
      const frame = (i & (CACHED - 1)) * SLOT;
      const ip = networkOffset(bytes, frame, 60);
      if (etherType(bytes, ip) === ETH_P_IP && checkIpv4(views, ip, 46) === IPV4_OK) good++;
    }
    if (good !== OPERATIONS) throw new Error(`${good} of ${OPERATIONS} headers are right`);
  };
  return { name: "parse Ethernet and IPv4, header checksum", count: OPERATIONS, run };
}

function checksumPiece(payload: number): Piece {
  const views = someFrames(payload);
  const run = (): void => {
    let good = 0;
    for (let i = 0; i < OPERATIONS; i++) {
      const ip = (i & (CACHED - 1)) * SLOT + ETH_HEADER;
      if (checkUdp4(views, ip + IPV4_HEADER, UDP_HEADER + payload, ip) === UDP_OK) good++;
    }
    if (good !== OPERATIONS) throw new Error(`${good} of ${OPERATIONS} checksums are right`);
  };
  return { name: `UDP checksum over ${payload} bytes of payload`, count: OPERATIONS, run };
}

function lookupPiece(name: string, flows: number): Piece {
  const local = 0xc6120001 | 0;
  const table = new FlowTable(flows, flows, crypto.getRandomValues(new Int32Array(1))[0]);
  for (let f = 0; f < flows; f++) table.insert(IPPROTO_UDP, local, 9000, remoteOf(f), remotePortOf(f), f);
  const order = shuffled(flows);
  let at = 0;
  const run = (): void => {
    let good = 0;
    for (let i = 0; i < OPERATIONS; i++) {
      const flow = order[at];
      at = at + 1 === flows ? 0 : at + 1;
      if (table.lookup(IPPROTO_UDP, local, 9000, remoteOf(flow), remotePortOf(flow)) === flow) good++;
    }
    if (good !== OPERATIONS) throw new Error(`${good} of ${OPERATIONS} flows were found`);
  };
  return { name, count: OPERATIONS, run };
}

function ringPiece(): Piece {
  const ring = new RingPass();
  return { name: "ring: push and pop of a message, one thread", count: RingPass.PUSHES, run: () => ring.run() };
}

/** Segments from the door to the application, acknowledgments included. */
function tcpPiece(name: string, connections: number, payload: number, copy: boolean): Piece {
  const path = new TcpMemory(connections, FRAMES, payload, copy);
  return {
    name,
    count: FRAMES,
    prepare: () => path.prepare(),
    run: () => path.run(),
    verify: () => path.verify(),
  };
}

/** Requests of 64 bytes from the queue to an lcore's server, and its responses. */
function exchangePiece(name: string, connections: number, acknowledged: boolean): Piece {
  const path = new TcpLcorePath(connections, 64, acknowledged);
  return {
    name,
    count: path.count,
    prepare: () => path.prepare(),
    run: () => path.run(),
    verify: () => path.verify(),
  };
}

/** A filter for port 53, which frames to port 9000 do not pass, or a selection, which chooses for each. */
function bpfPiece(name: string, expected: number): Piece {
  const { bytes } = someFrames(18);
  const udp = ETH_HEADER + IPV4_HEADER;
  const pass =
    expected === 0
      ? filterPass(bytes, CACHED, SLOT, udp + UDP_HEADER + 18)
      : selectionPass(bytes, CACHED, SLOT, udp, UDP_HEADER + 18);
  const run = (): void => {
    const count = pass(OPERATIONS);
    if (count !== expected) throw new Error(`${count} of ${OPERATIONS}, expected ${expected}`);
  };
  return { name, count: OPERATIONS, run };
}
