/**
 * What the threads of an engine are handed to find each other: descriptors of the shared memory and of the kernel's
 * objects, all structured-cloneable. Each thread makes its own views and objects of them.
 */
import { PAGE_SIZE, SharedArea } from "af-xdp-bindings";
import type { Port } from "../queues/driver.ts";
import { LARGE_AREA } from "../queues/large.ts";
import type { MemoryWire } from "../queues/memory.ts";
import type { Binder } from "../sockets/binder.ts";
import { CounterBoard } from "../sockets/counters.ts";
import { FIB_BYTES, Fib } from "../sockets/fib.ts";
import { KERNEL_FRAME_SIZE, KernelFrames } from "../sockets/kernel/frames.ts";
import { KernelThread } from "../sockets/kernel/thread.ts";
import { Mesh, type MeshDescriptor } from "../sockets/mesh.ts";
import { PORTS_MAX, type Shared } from "../sockets/shared.ts";
import { TCP_SCRATCH_BYTES } from "../sockets/stream/tcp-setup.ts";
import { Sysctl } from "../sockets/sysctl.ts";
import { SocketTable, type TableDescriptor } from "../sockets/table.ts";
import { recordsBytes } from "../sockets/tcp/core.ts";
import { ThreadEndpoint } from "../sockets/thread.ts";
import { ip } from "../sockets/wire/address.ts";
import { FrameViews } from "../sockets/wire/views.ts";
import type { AttachMode, EngineConfig } from "./config.ts";
import { hasOnly } from "./host/affinity.ts";
import { NetNs } from "./host/netns.ts";
import { KernelBinder } from "./kernel-binder.ts";
import { MemoryBinder } from "./memory-binder.ts";
import { type PcapWiring, pcapWiring } from "./replay.ts";
import { SocketBinder } from "./socket-binder.ts";
import { Steering, type SteeringDescriptors } from "./steering/program.ts";

/** Frames of the control thread: whole datagrams of 64 KiB that the kernel has put together. */
export const CONTROL_FRAME_SIZE = 131072;
export const CONTROL_FRAMES = 64;

/** Interface index that a memory port reports: it has no interface. */
export const MEMORY_IFINDEX = 1;
export const MEMORY_MTU = 1500;

/** The interface as it was found at start. */
export interface LinkDescriptor {
  readonly name: string;
  readonly ifindex: number;
  /** 6 bytes. */
  readonly mac: Uint8Array;
  readonly mtu: number;
  /** Frames may come with checksums that the sender's kernel left unfinished. */
  readonly partialChecksums: boolean;
}

/** The link of an engine that has addresses of its own, for the thread of the host protocols. */
export interface HostWiring {
  readonly ifindex: number;
  /** 6 bytes. */
  readonly mac: Uint8Array;
  readonly mtu: number;
  /** Frames may come with checksums that the sender's kernel left unfinished. */
  readonly partialChecksums: boolean;
  readonly addresses: readonly string[];
  readonly gateways: readonly string[];
  /** Whether addresses are checked for other users before they are used. */
  readonly dad: boolean;
}

export interface KernelWiring {
  readonly kind: "kernel";
  readonly link: LinkDescriptor;
  readonly netnsPath: string | null;
  readonly steering: SteeringDescriptors;
  /** epoll instance of the control thread. */
  readonly epoll: number;
  readonly attach: "native" | "skb";
  /** Packets longer than a frame come in several. */
  readonly frags: boolean;
  readonly copy: Extract<AttachMode, "auto" | "zerocopy"> | "copy";
}

export interface MemoryWiring {
  readonly kind: "memory";
  readonly wire: MemoryWire;
  readonly side: 0 | 1;
  readonly addresses: string[];
}

/** Kernel sockets instead of queues: the provider "kernel". */
export interface SocketsWiring {
  readonly kind: "sockets";
  readonly netnsPath: string | null;
  /** epoll instance of the control thread, to which each application thread adds its own. */
  readonly epoll: number;
}

/** What the lcores' frames come from and go to. */
export type FrameWay = KernelWiring | MemoryWiring | PcapWiring;
export type Way = FrameWay | SocketsWiring;

/** Words of Wiring.state, and the one that says that frames come and go. */
const STATE_WORDS = 256;
export const SERVING_WORD = STATE_WORDS - 1;
/** See link-word.ts. */
export const LINK_WORD = STATE_WORDS - 2;
/** How long who joins waits for the place of a thread that is leaving, milliseconds: a sleeping lcore is awake within one. */
const LEAVE_MS = 1000;

export interface Wiring {
  readonly config: Omit<EngineConfig, "memory">;
  readonly table: TableDescriptor;
  readonly mesh: MeshDescriptor;
  /** Frame memory of each lcore, the control thread's last. */
  readonly memories: SharedArrayBuffer[];
  readonly frameSizes: number[];
  readonly counters: SharedArrayBuffer;
  readonly fib: SharedArrayBuffer;
  readonly portInfo: SharedArrayBuffer;
  /** Records of each lcore's TCP connections. */
  readonly tcbs: SharedArrayBuffer[];
  readonly portOwners: SharedArrayBuffer;
  readonly portUse: SharedArrayBuffer[];
  readonly sysctl: SharedArrayBuffer;
  /** Word 0: 1 tells every thread to stop. Words 1..: thread id of each lcore and of the control thread; SERVING_WORD. */
  readonly state: SharedArrayBuffer;
  /** Queues of each lcore. */
  readonly queues: number[][];
  readonly seed: number;
  /** Four random words, kept to the engine: TCP's sequence numbers, cookies and ports are made with it. */
  readonly secret: Int32Array;
  readonly way: Way;
  /** Null where the kernel's stack has ARP, ND and ICMP, or nobody needs them. */
  readonly host: HostWiring | null;
}

/** Lays out the shared memory of an engine. */
export function createWiring(config: EngineConfig, queues: number[][], way: Way): Wiring {
  const lcores = config.cpus.length + 1;
  const { memory: _memory, ...rest } = config;
  // Threads that read kernel sockets have frames of their own, which no other thread sees.
  const own = way.kind === "sockets";
  const frameSizes = own ? [] : [...config.cpus.map(() => config.frameSize), CONTROL_FRAME_SIZE];
  const frames = own ? [] : [...config.cpus.map(() => config.frames), CONTROL_FRAMES];
  return {
    config: rest,
    table: SocketTable.create(config.sockets, lcores, config.bpfBytes).descriptor(),
    mesh: Mesh.create(lcores, config.threads, config.ringSlots).descriptor(),
    memories: frames.map((count, l) => new SharedArrayBuffer(count * frameSizes[l] + tcpBytes(config, l) + PAGE_SIZE)),
    frameSizes,
    counters: CounterBoard.create(lcores + config.threads).buffer,
    fib: new SharedArrayBuffer(FIB_BYTES),
    portInfo: new SharedArrayBuffer(lcores * PORTS_MAX * 8),
    tcbs: own ? [] : config.cpus.map(() => new SharedArrayBuffer(recordsBytes(config.tcp.connections))),
    portOwners: new SharedArrayBuffer(65_536),
    portUse: own ? [] : config.cpus.map(() => new SharedArrayBuffer(4 * 65_536)),
    sysctl: Sysctl.create(),
    state: new SharedArrayBuffer(STATE_WORDS * 4),
    queues,
    seed: crypto.getRandomValues(new Int32Array(1))[0],
    secret: crypto.getRandomValues(new Int32Array(4)),
    way,
    host: hostWiring(config, way),
  };
}

/** Bytes behind an lcore's frames: buffers of its TCP. The control thread has none. */
function tcpBytes(config: EngineConfig, lcore: number): number {
  return lcore < config.cpus.length ? config.tcp.bufferBytes + TCP_SCRATCH_BYTES + LARGE_AREA : 0;
}

function hostWiring(config: EngineConfig, way: Way): HostWiring | null {
  const { addresses, dad, gateways, memory } = config;
  if (addresses.length === 0) return null;
  if (way.kind === "kernel") return { ...way.link, addresses, gateways, dad };
  if (memory === null) throw new TypeError("not a memory wire");
  return {
    ifindex: MEMORY_IFINDEX,
    mac: memory.mac,
    mtu: memory.mtu ?? MEMORY_MTU,
    partialChecksums: false,
    addresses,
    gateways,
    dad,
  };
}

/** The way of an engine without an interface: a wire in memory, or the replay of a capture. */
export function wireWiring(config: EngineConfig): MemoryWiring | PcapWiring {
  if (config.pcap !== null) return pcapWiring(config.pcap);
  if (config.memory === null) throw new TypeError("not a memory wire");
  const { wire, side, addresses } = config.memory;
  return { kind: "memory", wire, side, addresses };
}

/** Queues of a memory wire's end, or of a replay, that are to be driven. Throws RangeError. */
export function wireQueues(config: EngineConfig): number[] {
  const count = config.pcap?.queues ?? config.memory?.wire.queues[config.memory.side] ?? 0;
  const all = Array.from({ length: count }, (_, queue) => queue);
  for (const queue of config.queues ?? []) {
    if (!all.includes(queue)) throw new RangeError(`queue ${queue}: the wire has queues 0 to ${all.length - 1}`);
  }
  return [...(config.queues ?? all)];
}

/** Number of the control thread in the mesh. */
export const controlThread = (wiring: Wiring): number => wiring.config.cpus.length;

/** This thread's views of what is shared. */
export function openShared(wiring: Wiring): Shared {
  return {
    table: new SocketTable(wiring.table),
    mesh: new Mesh(wiring.mesh),
    memories: openMemories(wiring),
    frameSizes: wiring.frameSizes,
    binder: openBinder(wiring),
    board: new CounterBoard(wiring.counters),
    portInfo: new Int32Array(wiring.portInfo),
    tcbs: wiring.tcbs.map((buffer) => new Int32Array(buffer)),
    tcp: wiring.config.tcp,
    portOwners: new Uint8Array(wiring.portOwners),
    portUse: wiring.portUse.map((buffer) => new Int32Array(buffer)),
    sysctl: new Sysctl(wiring.sysctl),
    fib: wiring.fib,
    ifindex: wiring.way.kind === "kernel" ? wiring.way.link.ifindex : MEMORY_IFINDEX,
    controlThread: wiring.host === null && wiring.way.kind === "kernel" ? controlThread(wiring) : -1,
    hostThread: wiring.host === null ? -1 : controlThread(wiring),
  };
}

/** openShared() of a thread that reads kernel sockets, with its own frames as the only memory. */
export function openSockets(wiring: Wiring): { shared: Shared; frames: KernelFrames } {
  const frames = new KernelFrames(new SharedArea(wiring.config.frames * KERNEL_FRAME_SIZE));
  return { shared: { ...openShared(wiring), memories: [frames.views], frameSizes: [KERNEL_FRAME_SIZE] }, frames };
}

/** This thread's end of the socket layer. Throws RangeError when all places are taken. */
export function openEndpoint(wiring: Wiring): ThreadEndpoint {
  const { config, way } = wiring;
  const opened = way.kind === "sockets" ? openSockets(wiring) : null;
  const shared = opened?.shared ?? openShared(wiring);
  const thread = shared.mesh.takeThreadSoon(controlThread(wiring) + 1, LEAVE_MS);
  if (thread < 0) {
    throw new RangeError(`the engine serves at most ${config.threads} threads: raise its option 'threads'`);
  }
  shared.mesh.noteThreadId(thread);
  shared.mesh.setSharesCpu(thread, hasOnly(config.cpus));
  if (opened === null || way.kind !== "sockets") return new ThreadEndpoint(thread, shared, config.cpus.length);
  const spinUs = config.poll === "interrupt" ? 0 : config.spinUs;
  return new KernelThread(thread, shared, opened.frames, way.epoll, spinUs / 1000);
}

/** Frame memory of every lcore, as this thread sees it. */
function openMemories(wiring: Wiring): FrameViews[] {
  return wiring.memories.map((buffer) => {
    const area = new SharedArea(buffer.byteLength - PAGE_SIZE, buffer);
    return new FrameViews(new Uint8Array(buffer, area.byteOffset, area.byteLength));
  });
}

/** Notes the CPU and NAPI ID of an lcore's ports for SO_INCOMING_CPU and SO_INCOMING_NAPI_ID. */
export function publishPorts(portInfo: Int32Array, lcore: number, cpu: number, ports: readonly Port[]): void {
  ports.forEach(({ napiId }, port) => {
    portInfo.set([cpu, napiId], (lcore * PORTS_MAX + port) * 2);
  });
}

/** Notes the queues' NAPI IDs, by queue number, for SO_INCOMING_NAPI_ID. Those that are known are kept, unless `anew`. */
export function publishNapiIds(wiring: Wiring, ids: readonly number[], anew: boolean): void {
  const portInfo = new Int32Array(wiring.portInfo);
  wiring.queues.forEach((queues, lcore) => {
    queues.forEach((queue, port) => {
      const at = (lcore * PORTS_MAX + port) * 2 + 1;
      if (portInfo[at] === 0 || (anew && ids[queue] !== 0)) portInfo[at] = ids[queue];
    });
  });
}

export function openNetns(path: string | null): NetNs {
  return path === null ? NetNs.current() : NetNs.open(path);
}

function openBinder(wiring: Wiring): Binder {
  const { config, way } = wiring;
  if (way.kind === "sockets") {
    return new SocketBinder(openNetns(way.netnsPath), config.poll === "busy" ? config.cpus.length : 0);
  }
  if (wiring.host !== null) {
    return new MemoryBinder(
      wiring.host.addresses.map((address) => ip(address.split("/")[0])),
      new Fib(wiring.fib),
    );
  }
  if (way.kind !== "kernel") {
    const { addresses } = way.kind === "pcap" ? way.config : way;
    return new MemoryBinder(addresses.map((address) => ip(address.split("/")[0])));
  }
  return new KernelBinder(openNetns(way.netnsPath), Steering.fromDescriptors(way.steering), way.epoll);
}
