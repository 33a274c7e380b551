/** What an engine is started with. Checked here once, in words that say what to do. */
import type { MemoryWire, Side } from "../queues/memory.ts";
import { STORE_BYTES, STORE_BYTES_MIN } from "../sockets/bpf/store.ts";
import { checkConfig, TCP_DEFAULTS, type TcpConfig } from "../sockets/tcp/config.ts";
import { ip } from "../sockets/wire/address.ts";
import type { ProviderOption } from "./provider.ts";
import { type ReplayConfig, type ReplayLink, resolveReplay } from "./replay.ts";

export type PollPolicy = "busy" | "adaptive" | "interrupt";
export type AttachMode = "auto" | "native" | "skb" | "zerocopy";

/** A memory wire instead of an interface: no privilege, any machine. */
export interface MemoryLink {
  wire: MemoryWire;
  /** Which end this engine drives. */
  side: Side;
  /** 6 bytes. */
  mac: Uint8Array;
  /** Addresses with prefix length, "198.18.0.1/24". */
  addresses: string[];
  /**
   * Neighbours known beforehand. Without the list the engine asks for them, and answers: it has the host protocols (ARP,
   * ND, ICMP, fragments, groups) on a thread of its own.
   */
  neighbours?: { address: string; mac: Uint8Array }[];
  mtu?: number;
}

export interface EngineOptions {
  /**
   * What serves the sockets. "engine": AF_XDP, or the start fails. "kernel": the kernel's own sockets, read and sent from in
   * batches; no interface is taken, every one of the host is served, and options that mean nothing there are refused.
   * Default auto: the engine, and kernel sockets where AF_XDP cannot be had for lack of privilege or of support by kernel
   * or interface; `info.reason` then says which options are without effect.
   */
  provider?: ProviderOption;
  /**
   * Hears of what is otherwise than asked for, a line each: kernel sockets instead of AF_XDP, and why; the program taken
   * off the interface, or queues added to it, while the engine serves.
   */
  onNotice?: (text: string) => void;
  /** Interface to serve, by name; default that of the default route. */
  interface?: string;
  /**
   * Addresses with prefix length ("198.18.0.1/24") that the engine owns on the interface, which it then has for itself: it
   * takes every frame, answers ARP, ND and ICMP, and the kernel's stack sees nothing. The kernel must not have them.
   */
  addresses?: readonly string[];
  /** Default gateways, one a family, of an engine with addresses of its own. */
  gateways?: readonly string[];
  /**
   * Whether own addresses are used only when nobody else is found to have them: after 1 to 2 s in IPv6 (RFC 4862), 4 to 7 s
   * in IPv4 (RFC 5227), for which start() waits. Default true on an interface, false on a memory wire. Refused without own
   * addresses.
   */
  dad?: boolean;
  /** Memory wire to serve instead. */
  memory?: MemoryLink;
  /** Captured load to serve instead. */
  pcap?: ReplayLink;
  /** Queues to take; default all of the interface. They are dealt out to the lcores in turn. */
  queues?: "all" | readonly number[];
  /** CPU of each lcore; default one lcore, on the last CPU this process may use. */
  cpus?: readonly number[];
  /** How the XDP program is attached and frames cross; default auto. */
  mode?: AttachMode;
  /** What an lcore does when there is nothing to do; default adaptive. */
  poll?: PollPolicy;
  /**
   * Time an adaptive lcore spins before it sleeps, microseconds; default 50. On kernel sockets application threads with
   * open sockets turn their event loops as long, unless `poll` is interrupt.
   */
  spinUs?: number;
  /** Network namespace of the interface, a path like /run/netns/NAME; default that of the caller. */
  netns?: string;
  /** Module run on each lcore: its default export is called with the Lcore before the loop starts. */
  module?: string | URL;
  /** Structured-cloneable value handed to the module as `lcore.data`. */
  data?: unknown;
  /**
   * Frames of each lcore, a power of two; default 8192. On kernel sockets those of each thread, 128 KiB of address space
   * apiece that is used as far as datagrams reach; default 1024.
   */
  frames?: number;
  /** Bytes a frame, 2048 or 4096; default the smaller one that holds the interface's MTU. */
  frameSize?: number;
  /** The most sockets open at once; default 65,536. */
  sockets?: number;
  /** Memory for BPF programs and maps, bytes; default 1 MiB. Pages are used only as programs and maps come. */
  bpfBytes?: number;
  /** The most application threads; default 8. */
  threads?: number;
  /** Messages each ring between threads holds, a power of two; default 1024. */
  ringSlots?: number;
  /** Whether to keep other threads of this process off the lcores' CPUs; default true. */
  isolate?: boolean;
  /** What TCP may hold on each lcore, and how it behaves; memory is touched only as connections come. */
  tcp?: Partial<TcpConfig>;
}

/** Options with every default filled in, except those that name the link. */
export interface EngineConfig {
  provider: ProviderOption;
  interface: string | null;
  /** Own addresses, empty where the kernel's stack shares the interface. */
  addresses: readonly string[];
  gateways: readonly string[];
  dad: boolean;
  memory: MemoryLink | null;
  pcap: ReplayConfig | null;
  queues: readonly number[] | null;
  cpus: readonly number[];
  mode: AttachMode;
  poll: PollPolicy;
  spinUs: number;
  netns: string | null;
  module: string | null;
  data: unknown;
  /** 0 until the provider is known. */
  frames: number;
  /** 0 until the interface's MTU is known: see frameSizeFor. */
  frameSize: number;
  sockets: number;
  bpfBytes: number;
  threads: number;
  ringSlots: number;
  isolate: boolean;
  tcp: TcpConfig;
}

export const LCORES_MAX = 64;
export const FRAMES_DEFAULT = 8192;

/** An interface that the engine cannot serve as it is, whoever asks. */
export class CannotServe extends RangeError {}

/** Checks options and fills in defaults. `cpus` are those this process may run on. Throws RangeError. */
export function resolveConfig(options: EngineOptions, cpus: readonly number[]): EngineConfig {
  if ([options.interface, options.memory, options.pcap].filter((way) => way !== undefined).length > 1) {
    throw new RangeError("engine: give one of 'interface', 'memory' and 'pcap'");
  }
  checkProvider(options);
  const config: EngineConfig = {
    provider: options.provider ?? "auto",
    interface: options.interface ?? null,
    memory: options.memory ?? null,
    pcap: options.pcap === undefined ? null : resolveReplay(options.pcap, (options.cpus ?? cpus.slice(-1)).length),
    addresses: ownAddresses(options),
    gateways: options.gateways ?? [],
    dad: options.dad ?? options.memory === undefined,
    queues: options.queues === undefined || options.queues === "all" ? null : options.queues,
    cpus: options.cpus ?? cpus.slice(-1),
    mode: options.mode ?? "auto",
    poll: options.poll ?? "adaptive",
    spinUs: options.spinUs ?? 50,
    netns: options.netns ?? null,
    module: options.module === undefined ? null : String(options.module),
    data: options.data,
    frames: options.frames ?? 0,
    frameSize: options.frameSize ?? 0,
    sockets: options.sockets ?? 65536,
    bpfBytes: options.bpfBytes ?? STORE_BYTES,
    threads: options.threads ?? 8,
    ringSlots: options.ringSlots ?? 1024,
    isolate: options.isolate ?? true,
    tcp: { ...TCP_DEFAULTS, ...options.tcp },
  };
  checkConfig(config.tcp);
  oneOf("mode", config.mode, ["auto", "native", "skb", "zerocopy"]);
  oneOf("poll", config.poll, ["busy", "adaptive", "interrupt"]);
  if (config.frames !== 0) powerOfTwo("frames", config.frames, 1024, 1 << 19);
  if (config.frameSize !== 0) powerOfTwo("frameSize", config.frameSize, 2048, 4096);
  powerOfTwo("ringSlots", config.ringSlots, 64, 65536);
  whole("sockets", config.sockets, 1, 1 << 22);
  whole("bpfBytes", config.bpfBytes, STORE_BYTES_MIN, 2 ** 30);
  whole("threads", config.threads, 1, 64);
  whole("spinUs", config.spinUs, 0, 1_000_000);
  if ((config.frames || FRAMES_DEFAULT) * (config.frameSize || FRAME_SIZES[0]) > 2 ** 30)
    throw new RangeError("frames: more than 1 GiB a lcore");
  if (config.cpus.length < 1 || config.cpus.length > LCORES_MAX) {
    throw new RangeError(`cpus: from 1 to ${LCORES_MAX} lcores, not ${config.cpus.length}`);
  }
  if (new Set(config.cpus).size !== config.cpus.length) throw new RangeError("cpus: each CPU carries one lcore");
  for (const cpu of config.cpus) {
    if (!cpus.includes(cpu)) throw new RangeError(`cpus: this process may not use CPU ${cpu}, only ${cpus.join()}`);
  }
  if (config.queues !== null && new Set(config.queues).size !== config.queues.length) {
    throw new RangeError("queues: each queue once");
  }
  return config;
}

/** Options that say how an interface is taken: kernel sockets take none. */
const OF_INTERFACE = [
  "addresses",
  "dad",
  "frameSize",
  "gateways",
  "interface",
  "memory",
  "mode",
  "pcap",
  "queues",
] as const;
/** Options of lcores, which on kernel sockets only run the module. */
const OF_LCORES = ["cpus", "data", "isolate", "poll"] as const;
/** Values that leave the choice to the engine. */
const LEFT_OPEN: Partial<Record<keyof EngineOptions, unknown>> = { mode: "auto", queues: "all" };

/** The options given that kernel sockets have no use for, each with why not. */
export function uselessOnSockets(options: EngineOptions): { name: keyof EngineOptions; why: string }[] {
  const given = (name: keyof EngineOptions): boolean =>
    options[name] !== undefined && options[name] !== LEFT_OPEN[name];
  const useless = (names: readonly (keyof EngineOptions)[], why: string) =>
    names.filter(given).map((name) => ({ name, why }));
  return [
    ...useless(OF_INTERFACE, "says how an interface is taken, and kernel sockets take none: every one is served"),
    ...(options.module === undefined
      ? useless(OF_LCORES, "is of lcores, and on kernel sockets there are none without a 'module'")
      : []),
    ...useless(["tcp"], "is of the engine's own TCP, and kernel sockets have the kernel's"),
    ...useless(["ringSlots"], "is of rings, and who opens a kernel socket reads it itself"),
    ...useless(["bpfBytes"], "is of the engine's own BPF programs, and those of kernel sockets are the kernel's"),
  ];
}

function checkProvider(options: EngineOptions): void {
  const { provider = "auto" } = options;
  oneOf("provider", provider, ["auto", "engine", "kernel"]);
  if (provider !== "kernel") return;
  for (const { name, why } of uselessOnSockets(options)) {
    throw new RangeError(`${name}: ${why}. Leave it out, or choose provider "engine"`);
  }
}

/** Addresses for which the engine has the host protocols itself. Throws RangeError. */
function ownAddresses({ addresses, dad, gateways, memory, pcap }: EngineOptions): readonly string[] {
  if (pcap !== undefined && addresses !== undefined) throw new RangeError("addresses: those of a replay are in 'pcap'");
  if (memory !== undefined && addresses !== undefined)
    throw new RangeError("addresses: those of a memory wire are in 'memory'");
  const own = memory === undefined ? (addresses ?? []) : memory.neighbours === undefined ? memory.addresses : [];
  if (addresses?.length === 0) throw new RangeError("addresses: name at least one, as 198.18.0.1/24");
  if (gateways !== undefined && own.length === 0)
    throw new RangeError("gateways: only with addresses of the engine's own");
  if (dad !== undefined && own.length === 0) throw new RangeError("dad: only with addresses of the engine's own");
  for (const text of own) {
    const [address, length, more] = text.split("/");
    const bits = ip(address).length * 8;
    if (more !== undefined || !/^\d+$/.test(length ?? "") || Number(length) > bits) {
      throw new RangeError(`address ${text}: needs a prefix length from 0 to ${bits}, as 198.18.0.1/24`);
    }
  }
  for (const gateway of gateways ?? []) ip(gateway);
  return own;
}

function oneOf(name: string, value: string, allowed: readonly string[]): void {
  if (!allowed.includes(value)) throw new RangeError(`${name} ${value}: one of ${allowed.join(", ")}`);
}

function whole(name: string, value: number, low: number, high: number): void {
  if (!Number.isInteger(value) || value < low || value > high) {
    throw new RangeError(`${name} ${value}: a whole number from ${low} to ${high}`);
  }
}

function powerOfTwo(name: string, value: number, low: number, high: number): void {
  whole(name, value, low, high);
  if ((value & (value - 1)) !== 0) throw new RangeError(`${name} ${value}: a power of two from ${low} to ${high}`);
}

export const FRAME_SIZE_MAX = 4096;
const FRAME_SIZES = [2048, FRAME_SIZE_MAX];
/** What the kernel leaves free before a received frame (XDP_PACKET_HEADROOM). */
const HEADROOM = 256;
/** Ethernet header and two VLAN tags. */
const LINK_HEADER = 22;

/** The largest MTU whose packets fit frames of so many bytes. */
export const mtuMax = (frameSize: number): number => frameSize - LINK_HEADER - HEADROOM;

/**
 * Frame size for an interface: the one asked for, or the smallest that holds a packet of its MTU. Throws RangeError when
 * none does, for the kernel would drop the longer packets unseen.
 */
export function frameSizeFor(config: EngineConfig, name: string, mtu: number): number {
  const candidates = config.frameSize === 0 ? FRAME_SIZES : [config.frameSize];
  const size = candidates.find((bytes) => mtu <= mtuMax(bytes));
  if (size !== undefined) return size;
  const largest = Math.max(...candidates);
  throw new CannotServe(
    `interface ${name}: packets of its MTU ${mtu} do not fit frames of ${largest} bytes: set the MTU to ${mtuMax(largest)} or less`,
  );
}

/** Which queues each lcore drives: dealt out in turn. Throws RangeError when an lcore would have none. */
export function dealQueues(queues: readonly number[], lcores: number): number[][] {
  if (queues.length < lcores) {
    throw new RangeError(`${lcores} lcores need as many queues, there are ${queues.length}: name fewer CPUs`);
  }
  return Array.from({ length: lcores }, (_, l) => queues.filter((_, i) => i % lcores === l));
}
