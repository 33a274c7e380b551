/**
 * The thread of one lcore: opens its queues, runs the module, says that it is ready, loops until it is told to stop.
 * Whatever goes wrong is posted to the thread that started the engine.
 */
import { parentPort, workerData } from "node:worker_threads";
import { sys, Umem } from "af-xdp-bindings";
import type { Port } from "../queues/driver.ts";
import { LargePackets } from "../queues/large.ts";
import { MemoryPort } from "../queues/memory.ts";
import { PcapPort } from "../queues/pcap-port.ts";
import { FramePool } from "../queues/pool.ts";
import { RSS_KEY_SYMMETRIC, rssHash, Toeplitz } from "../queues/rss.ts";
import { XdpPort } from "../queues/xdp.ts";
import { CounterBoard } from "../sockets/counters.ts";
import { Fib } from "../sockets/fib.ts";
import { KernelStack } from "../sockets/kernel/stack.ts";
import type { Shared } from "../sockets/shared.ts";
import { Stack } from "../sockets/stack.ts";
import { deviceRss, memoryRss, type RssWiring } from "../sockets/stream/reply-queue.ts";
import { tcpLayout } from "../sockets/stream/tcp-setup.ts";
import { AF_INET, AF_INET6 } from "../sockets/table.ts";
import { CaptureTap, type TapLine } from "./capture-tap.ts";
import { getAffinity, setAffinity } from "./host/affinity.ts";
import { Ethtool } from "./host/ethtool.ts";
import { Lcore } from "./lcore.ts";
import { describeError, type FromThread } from "./protocol.ts";
import type { PcapWiring } from "./replay.ts";
import { Steering } from "./steering/program.ts";
import {
  type FrameWay,
  type KernelWiring,
  MEMORY_IFINDEX,
  type MemoryWiring,
  openNetns,
  openShared,
  openSockets,
  publishPorts,
  type Wiring,
} from "./wiring.ts";

/** SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC; IPPROTO_RAW: what is sent begins with its IP header. */
const SOCK_RAW_NONBLOCK_CLOEXEC = 3 | 0x800 | 0x80000;
const IPPROTO_RAW = 255;

/** What the thread is started with. */
export interface LcoreStart {
  readonly wiring: Wiring;
  readonly id: number;
  /** Requests to capture. */
  readonly line: TapLine;
}

/** A module's default export. */
export type LcoreModule = { default?: (lcore: Lcore) => void | Promise<void> };

const post = (message: FromThread): void => parentPort?.postMessage(message);

async function main({ wiring, id, line }: LcoreStart): Promise<void> {
  const cpu = wiring.config.cpus[id];
  setAffinity(0, [cpu]);
  const state = new Int32Array(wiring.state);
  Atomics.store(state, 1 + id, sys.gettid());
  const opened = wiring.way.kind === "sockets" ? openKernelStack(wiring, id) : openStack(wiring, wiring.way, id, cpu);
  const { ports, shared, stack } = opened;
  const tap = new CaptureTap(ports, line);
  let lcore: Lcore | null = null;
  try {
    const settings = { ...wiring.config, id, cpu, way: wiring.way };
    lcore = new Lcore(settings, stack, new CounterBoard(wiring.counters), state, tap);
    if (wiring.config.module !== null) {
      const module = (await import(wiring.config.module)) as LcoreModule;
      if (typeof module.default !== "function") {
        throw new TypeError(`${wiring.config.module}: its default export must be a function that takes the Lcore`);
      }
      await module.default(lcore);
    }
    const xsks = ports.map((port) => port.fd).filter((fd) => fd >= 0);
    post({ type: "ready", thread: id, zeroCopy: opened.zeroCopy, affinity: getAffinity(0), xsks });
    lcore.run();
  } finally {
    // From here on nobody answers: who waits for this lcore, or fills its ring, must hear of it.
    shared.mesh.stop();
    lcore?.close();
    tap.close();
    opened.close();
    shared.binder.close();
  }
}

/** The fill rings of an lcore hold at most half of its frames: the rest is for sending, and for datagrams not yet read. */
function fillSize(frames: number, queues: number): number {
  return Math.min(2048, 2 ** Math.floor(Math.log2(frames / 2 / queues)));
}

interface OpenedPorts {
  readonly ports: Port[];
  readonly zeroCopy: boolean;
  close(): void;
}

interface OpenedStack extends OpenedPorts {
  readonly shared: Shared;
  readonly stack: Stack | KernelStack;
}

/** The stack over the lcore's queues. */
function openStack(wiring: Wiring, way: FrameWay, id: number, cpu: number): OpenedStack {
  const shared = openShared(wiring);
  const pool = new FramePool(wiring.config.frames, wiring.config.frameSize);
  const opened =
    way.kind === "kernel" ? openXdpPorts(wiring, way, id, pool, shared) : openWirePorts(wiring, way, id, pool, shared);
  const raw = way.kind === "kernel" && wiring.host === null ? rawSockets(way) : { raw4: -1, raw6: -1 };
  const close = (): void => {
    opened.close();
    for (const fd of [raw.raw4, raw.raw6]) if (fd >= 0) sys.close(fd);
  };
  try {
    const tcp = { secret: wiring.secret, seed: wiring.seed + id, ...raw, rss: rssOf(wiring, way) };
    const stack = new Stack(id, shared, opened.ports, pool, new Fib(wiring.fib), wiring.seed, tcp);
    if (shared.hostThread >= 0) stack.useHost(shared.hostThread);
    stack.holdWakeups();
    stack.control();
    publishPorts(shared.portInfo, id, cpu, opened.ports);
    return { ...opened, shared, stack, close };
  } catch (error) {
    close();
    throw error;
  }
}

/** How the interface spreads what it receives; null where nobody tells. */
function rssOf(wiring: Wiring, way: FrameWay): RssWiring | null {
  if (way.kind === "memory") return memoryRss(wiring.queues);
  if (way.kind !== "kernel") return null;
  const netns = openNetns(way.netnsPath);
  const ethtool = netns.run(() => new Ethtool());
  try {
    const { table, key } = ethtool.rss(way.link.name);
    return deviceRss(table, key, wiring.queues);
  } catch {
    // veth and others have no such table.
    return null;
  } finally {
    ethtool.close();
    netns.close();
  }
}

/** Sockets that send whole packets of TCP where only the kernel knows the way; -1 without the privilege for them. */
function rawSockets(way: KernelWiring): { raw4: number; raw6: number } {
  const netns = openNetns(way.netnsPath);
  const open = (family: number): number => Math.max(sys.socket(family, SOCK_RAW_NONBLOCK_CLOEXEC, IPPROTO_RAW), -1);
  try {
    return netns.run(() => ({ raw4: open(AF_INET), raw6: open(AF_INET6) }));
  } finally {
    netns.close();
  }
}

/** The stack over kernel sockets. */
function openKernelStack(wiring: Wiring, id: number): OpenedStack {
  const { shared, frames } = openSockets(wiring);
  const stack = new KernelStack(id, shared, frames, wiring.config.poll === "busy");
  return { ports: [], zeroCopy: false, shared, stack, close: () => stack.close() };
}

function openXdpPorts(wiring: Wiring, way: KernelWiring, id: number, pool: FramePool, shared: Shared): OpenedPorts {
  const { config } = wiring;
  const umem = new Umem({
    chunks: config.frames,
    chunkSize: config.frameSize,
    buffer: wiring.memories[id],
    mode: way.copy,
    multiBuffer: way.frags,
  });
  const memory = shared.memories[id].bytes;
  const { large: base } = tcpLayout(memory.length, config.tcp.bufferBytes);
  const steering = Steering.fromDescriptors(way.steering);
  const netns = openNetns(way.netnsPath);
  const ports: XdpPort[] = [];
  const close = (): void => {
    for (const port of ports) port.close();
    umem.close();
    steering.close();
    netns.close();
  };
  try {
    for (const queue of wiring.queues[id]) {
      const port = netns.run(
        () =>
          new XdpPort(umem, pool, {
            ifindex: way.link.ifindex,
            queue,
            busyPoll: config.poll === "busy",
            partialChecksums: way.link.partialChecksums,
            fillSize: fillSize(config.frames, wiring.queues[id].length),
            large: way.frags ? new LargePackets(memory, base) : null,
            gather: memory,
          }),
      );
      ports.push(port);
      steering.xskmap.set(queue, port.fd);
    }
    return { ports, zeroCopy: ports.every((port) => port.xsk.zeroCopy), close };
  } catch (error) {
    close();
    throw error;
  }
}

function openWirePorts(
  wiring: Wiring,
  way: MemoryWiring | PcapWiring,
  id: number,
  pool: FramePool,
  shared: Shared,
): OpenedPorts {
  const memory = shared.memories[id].bytes;
  const toeplitz = new Toeplitz(RSS_KEY_SYMMETRIC);
  const hash = (bytes: Uint8Array, frame: number, length: number): number => rssHash(toeplitz, bytes, frame, length);
  const ports: Port[] = [];
  const close = (): void => {
    for (const port of ports) port.close();
  };
  try {
    for (const queue of wiring.queues[id]) {
      const options = { queue, ifindex: MEMORY_IFINDEX, hash };
      ports.push(
        way.kind === "memory"
          ? MemoryPort.attach(way.wire, way.side, pool, memory, options)
          : new PcapPort(pool, memory, { ...way.config, mac: way.mac, state: way.state, ...options }),
      );
    }
    return { ports, zeroCopy: false, close };
  } catch (error) {
    close();
    throw error;
  }
}

main(workerData as LcoreStart).then(
  () => post({ type: "stopped", thread: (workerData as LcoreStart).id }),
  (error: unknown) => post({ type: "failed", thread: (workerData as LcoreStart).id, error: describeError(error) }),
);
