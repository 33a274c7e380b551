/**
 * The socket layer on one thread: lcore Stacks over ports that are arrays, and application threads' endpoints, all driven
 * by hand. Turns happen when a test says so, and nothing else moves.
 */

import { MemoryBinder } from "../../engine/memory-binder.ts";
import { publishPorts } from "../../engine/wiring.ts";
import { BURST_MAX, Burst, type Port } from "../../queues/driver.ts";
import { LARGE_AREA } from "../../queues/large.ts";
import { FramePool } from "../../queues/pool.ts";
import type { Binder } from "../../sockets/binder.ts";
import { C, COUNTERS, CounterBoard, type CounterName } from "../../sockets/counters.ts";
import { FIB_BYTES, Fib, type FibContent, FibWriter } from "../../sockets/fib.ts";
import { Mesh } from "../../sockets/mesh.ts";
import { PORTS_MAX, type Shared } from "../../sockets/shared.ts";
import { Stack } from "../../sockets/stack.ts";
import { TCP_SCRATCH_BYTES, type TcpSetup } from "../../sockets/stream/tcp-setup.ts";
import { Sysctl } from "../../sockets/sysctl.ts";
import { SocketTable } from "../../sockets/table.ts";
import { TCP_DEFAULTS } from "../../sockets/tcp/config.ts";
import { recordsBytes } from "../../sockets/tcp/core.ts";
import { ThreadEndpoint } from "../../sockets/thread.ts";
import { ip } from "../../sockets/wire/address.ts";
import { FrameViews } from "../../sockets/wire/views.ts";
import { MAC_A, MAC_B } from "../support/frames.ts";

/** As the kernel leaves before a received frame (XDP_PACKET_HEADROOM). */
const HEADROOM = 256;
export const IFINDEX = 1;

export const ADDRESSES = ["198.18.0.1", "198.18.0.10", "2001:db8::1", "2001:db8::10"];
const NEIGHBOURS = ["198.18.0.2", "198.18.0.3", "2001:db8::2", "2001:db8::3"];

const SMALL_TCP = { connections: 64, bufferBytes: 1 << 18, pressureBytes: 3 << 16 };
const TCP_SETUP: TcpSetup = { secret: Int32Array.of(1, 2, 3, 4), seed: 5, raw4: -1, raw6: -1, rss: null };

/** A port whose wire is an array. */
class FakePort implements Port {
  readonly ifindex = IFINDEX;
  readonly queue: number;
  readonly memory: Uint8Array;
  readonly pool: FramePool;
  readonly fd = -1;
  partialChecksums = false;
  readonly unsent = false;
  readonly txDropped = 0;
  readonly txRefused = 0;
  readonly segmenter = null;
  napiId = 0;
  txDone = 0;
  /** Frames the TX ring still takes. */
  txRoom = Number.POSITIVE_INFINITY;
  readonly sent: Uint8Array[] = [];
  /** Whether frames are kept in `sent`, or only taken. */
  keep = true;
  private readonly inFlight: number[] = [];

  constructor(queue: number, memory: Uint8Array, pool: FramePool) {
    this.queue = queue;
    this.memory = memory;
    this.pool = pool;
  }

  rxBurst(burst: Burst): number {
    burst.count = 0;
    return 0;
  }

  txPush(offset: number, length: number): boolean {
    if (this.txRoom === 0) return false;
    this.txRoom--;
    if (this.keep) this.sent.push(this.memory.slice(offset, offset + length));
    this.inFlight.push(offset);
    return true;
  }

  get txPushed(): number {
    return this.txDone + this.inFlight.length;
  }

  txFlush(): void {}

  txComplete(): number {
    const count = this.inFlight.length;
    for (const offset of this.inFlight.splice(0)) this.pool.give(offset);
    this.txDone += count;
    return count;
  }

  refill(): number {
    return 0;
  }

  busyPoll(): void {}

  close(): void {}
}

export interface LcoreRig {
  readonly stack: Stack;
  readonly pool: FramePool;
  readonly ports: FakePort[];
}

export interface RigOptions {
  lcores?: number;
  /** Ports of each lcore. */
  ports?: number;
  threads?: number;
  frames?: number;
  frameSize?: number;
  sockets?: number;
  ringSlots?: number;
  binder?: Binder;
  /** lcore that stands for the thread of the host protocols; it takes what goes there, and does nothing. */
  hostThread?: number;
  /** Lcores with TCP. */
  tcp?: boolean;
}

export class Rig {
  readonly lcores: LcoreRig[] = [];
  readonly threads: ThreadEndpoint[] = [];
  readonly shared: Shared;
  readonly table: SocketTable;
  readonly fib: FibWriter;
  /** Frames fed to each lcore. */
  readonly fed: number[];
  private readonly baseline: number[];
  private readonly burst = new Burst();

  constructor(options: RigOptions = {}) {
    const { lcores = 1, ports = 1, threads = 1, frames = 1024, frameSize = 2048, sockets = 1024 } = options;
    this.table = SocketTable.create(sockets, lcores);
    const setup = options.tcp ? TCP_SETUP : null;
    const behind = setup === null ? 0 : SMALL_TCP.bufferBytes + TCP_SCRATCH_BYTES + LARGE_AREA;
    const memories = Array.from(
      { length: lcores },
      () => new FrameViews(new Uint8Array(new SharedArrayBuffer(frames * frameSize + behind))),
    );
    const tcp = { ...TCP_DEFAULTS, ...SMALL_TCP };
    const fibBuffer = new SharedArrayBuffer(FIB_BYTES);
    this.shared = {
      table: this.table,
      mesh: Mesh.create(lcores, threads, options.ringSlots ?? 1024),
      memories,
      frameSizes: memories.map(() => frameSize),
      binder: options.binder ?? new MemoryBinder(ADDRESSES.map(ip)),
      portInfo: new Int32Array(lcores * PORTS_MAX * 2),
      fib: fibBuffer,
      sysctl: new Sysctl(Sysctl.create()),
      tcbs: memories.map(() => new Int32Array(new SharedArrayBuffer(recordsBytes(tcp.connections)))),
      tcp,
      portOwners: new Uint8Array(65_536),
      portUse: memories.map(() => new Int32Array(65_536)),
      ifindex: IFINDEX,
      controlThread: -1,
      hostThread: options.hostThread ?? -1,
      board: CounterBoard.create(lcores + threads),
    };
    this.fib = new FibWriter(fibBuffer);
    this.fib.publish(hostFib());
    this.fed = memories.map(() => 0);
    for (let id = 0; id < lcores; id++) {
      const pool = new FramePool(frames, frameSize);
      const { bytes } = memories[id];
      const queues = Array.from({ length: ports }, (_, queue) => new FakePort(queue, bytes, pool));
      const stack = new Stack(id, this.shared, queues, pool, new Fib(fibBuffer), 0x1234567, setup);
      stack.control();
      publishPorts(this.shared.portInfo, id, id, queues);
      this.lcores.push({ stack, pool, ports: queues });
    }
    for (let t = 0; t < threads; t++) this.joinThread(lcores);
    this.settle();
    this.baseline = this.lcores.map(({ pool }) => pool.available);
  }

  /** Frames of an lcore that are not in its pool now and were there, or lent, in the beginning. */
  missing(lcore = 0): number {
    return this.baseline[lcore] - this.lcores[lcore].pool.available;
  }

  /** Another application thread; they are numbered from the number of lcores on. */
  joinThread(queueLcores = this.lcores.length): ThreadEndpoint {
    const number = this.shared.mesh.takeThread();
    if (number < 0) throw new Error("the rig has no thread number left");
    const endpoint = new ThreadEndpoint(number, this.shared, queueLcores);
    this.threads.push(endpoint);
    return endpoint;
  }

  /** One received burst (split where it is longer than a driver's) at a port, without a turn around it. */
  input(frames: readonly Uint8Array[], lcore = 0, port = 0): void {
    const { stack, pool } = this.lcores[lcore];
    for (let from = 0; from < frames.length; from += BURST_MAX) {
      const part = frames.slice(from, from + BURST_MAX);
      let count = 0;
      for (const frame of part) {
        const at = pool.take();
        if (at < 0) throw new Error("the rig's pool is empty");
        stack.shared.memories[lcore].bytes.set(frame, at + HEADROOM);
        this.burst.offset[count] = at + HEADROOM;
        this.burst.length[count++] = frame.length;
      }
      this.burst.count = count;
      this.fed[lcore] += count;
      stack.input(port, this.burst);
    }
  }

  /** A turn of an lcore's loop around a burst of frames; returns the frames it sent. */
  turn(frames: readonly Uint8Array[] = [], lcore = 0, port = 0): Uint8Array[] {
    const { stack, ports } = this.lcores[lcore];
    stack.control();
    this.input(frames, lcore, port);
    stack.poll();
    stack.flush();
    for (const each of ports) each.txComplete();
    return ports.flatMap((each) => each.sent.splice(0));
  }

  /** Turns of every lcore and looks of every thread, until nothing moves any more. Returns what was sent. */
  settle(): Uint8Array[] {
    const sent: Uint8Array[] = [];
    for (let quiet = 0; quiet < 3; ) {
      let moved = 0;
      for (const thread of this.threads) moved += thread.poll();
      for (const { stack, ports } of this.lcores) {
        stack.control();
        moved += stack.poll();
        stack.flush();
        for (const port of ports) {
          moved += port.txComplete();
          sent.push(...port.sent.splice(0));
        }
      }
      quiet = moved === 0 ? quiet + 1 : 0;
    }
    return sent;
  }

  counter(name: CounterName, lcore = 0): number {
    return this.lcores[lcore].stack.counters[C[name]];
  }

  /** Counters of an lcore that are not 0, without those of the loop itself. */
  counters(lcore = 0): Partial<Record<CounterName, number>> {
    const skipped = ["TableSyncs", "FibSyncs", "RxBursts", "RxBytes", "TxBytes", "Wakeups"];
    return Object.fromEntries(
      COUNTERS.map(([name]) => [name, this.counter(name, lcore)]).filter(
        ([name, value]) => value !== 0 && !skipped.includes(name as string),
      ),
    );
  }

  /** Every received frame must have been delivered or dropped under exactly one counter. */
  unaccounted(lcore = 0): number {
    const outcomes = DROPS.reduce((sum, name) => sum + this.counter(name, lcore), 0);
    return this.fed[lcore] - this.counter("UdpInDatagrams", lcore) - outcomes;
  }
}

/** Counters that stand for the end of one received frame each. */
export const DROPS: readonly CounterName[] = [
  "EthUnknownType",
  "EthTruncated",
  "IpInHdrErrors",
  "IpInCsumErrors",
  "IpInAddrErrors",
  "IpInUnknownProtos",
  "IpInTruncatedPkts",
  "IpInFragments",
  "UdpNoPorts",
  "UdpInErrors",
  "UdpInCsumErrors",
  "UdpRcvbufErrors",
  "MeshFull",
  "QuotaDrops",
];

/** Two networks of each family on one link, every neighbour known. */
export function hostFib(mtu = 1500): FibContent {
  return {
    links: [{ ifindex: IFINDEX, mac: MAC_A, mtu, up: true }],
    addresses: ADDRESSES.map((address) => ({
      ifindex: IFINDEX,
      address: ip(address),
      prefixLength: address.includes(":") ? 64 : 24,
    })),
    routes: [
      { destination: ip("198.18.0.0"), prefixLength: 24, ifindex: IFINDEX, source: ip("198.18.0.1"), metric: 0 },
      { destination: ip("2001:db8::"), prefixLength: 64, ifindex: IFINDEX, source: ip("2001:db8::1"), metric: 0 },
    ],
    neighbours: NEIGHBOURS.map((address) => ({ ifindex: IFINDEX, address: ip(address), mac: MAC_B })),
  };
}
