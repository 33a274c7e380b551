/** What a trial is asked for, checked once, in words that say what to do. */
import type { Parameters, WireKind, Workload } from "./trial.ts";

/** Targets that lcore serves itself; any other is a HOST:PORT. */
export const OWN_TARGETS = ["lcore", "lcore-kernel", "bun-udp", "node-dgram", "bun-listen"] as const;
export type OwnTarget = (typeof OWN_TARGETS)[number];

export interface TrialSpec extends Parameters {
  readonly workload: Workload;
  readonly target: OwnTarget | `${string}:${number}`;
  /** Requests a second; 0 for a closed loop. */
  readonly rate: number;
  /** Time measured. */
  readonly seconds: number;
  /** The longest warm-up; it ends before when the figures are steady. */
  readonly warmupSeconds: number;
  /** The same of a second and later trial, which finds everything warm but for the pause before it. */
  readonly rewarmSeconds: number;
  /** How long a target may take to its first answer, milliseconds. */
  readonly patienceMs: number;
  /** Time of a stretch of the series, milliseconds. */
  readonly intervalMs: number;
}

/** What a caller may follow, or stop. */
export interface TrialHooks {
  /** Aborted, the trial ends at once with what it has, and is not valid. */
  readonly abort?: AbortSignal;
  /** Hears now and then what goes on: a phase, and the rate and p50 (ns) of the last stretch. */
  progress?(phase: "starting" | "warming up" | "measuring", rate: number, p50: number): void;
}

export const DEFAULTS: Omit<TrialSpec, "workload" | "target"> = {
  wire: "memory",
  generator: "lcore",
  size: 18,
  flows: 64,
  connections: 64,
  queues: 1,
  window: 4096,
  timeoutMs: 250,
  spin: null,
  interface: null,
  rate: 100_000,
  seconds: 2,
  warmupSeconds: 3,
  rewarmSeconds: 0.25,
  patienceMs: 5000,
  intervalMs: 100,
};

/** Workloads whose load may be on the lcore that serves them. */
const INLINE: readonly Workload[] = ["udp-echo", "udp-rx", "forward"];

/** A rate that every target of its kind bears, so that what shows is latency and not overload. */
export function defaultRate(workload: Workload, wire: WireKind): number {
  if (workload === "udp-tx" || workload === "tcp-stream") return 0;
  if (wire === "host") return 1000;
  if (workload === "tcp-crr") return 2000;
  if (workload === "tcp-rr") return 10_000;
  return wire === "memory" ? 100_000 : 20_000;
}

/** Bytes where none are asked for: small requests, and bulk in pieces that keep a window full. */
export const defaultSize = (workload: Workload): number =>
  workload === "tcp-stream" ? 65_536 : workload.startsWith("tcp-") ? 64 : DEFAULTS.size;

/** Time after which a request is lost, where none is asked for: over TCP a segment may be sent once or twice more. */
export const defaultTimeout = (workload: Workload): number => (workload.startsWith("tcp-") ? 1000 : DEFAULTS.timeoutMs);

/** Connections at once, where none are asked for. */
export const defaultConnections = (workload: Workload): number =>
  workload === "tcp-stream" ? 1 : DEFAULTS.connections;

const UDP = ["udp-echo", "udp-rx", "udp-tx", "forward"] as const;
const TCP = ["tcp-rr", "tcp-crr", "tcp-stream"] as const;
/** What each target of our own can be measured in. */
const SERVES: Record<OwnTarget, readonly Workload[]> = {
  lcore: [...UDP, ...TCP, "handoff"],
  "lcore-kernel": UDP,
  "bun-udp": UDP,
  "node-dgram": UDP,
  "bun-listen": TCP,
};
/** What can be asked of a service of others: it answers, or it takes. */
const ASKABLE: readonly Workload[] = ["udp-echo", ...TCP];

/** What a load of kernel sockets can do: what comes back to the socket that asked. */
const ANSWERED: readonly Workload[] = ["udp-echo", "handoff", ...TCP];

/** Frames of a wire in memory, less Ethernet, IPv4 and UDP headers. */
const MEMORY_SIZE_MAX = 2044 - 42;
/** The MTU of veth, less IPv4 and UDP headers. */
const VETH_SIZE_MAX = 1500 - 28;

/** Checks a spec. Throws RangeError. */
export function resolveSpec(spec: TrialSpec): TrialSpec {
  checkSpec(spec);
  const { target, workload, wire } = spec;
  const own = OWN_TARGETS.find((name) => name === target);
  if (own === undefined) {
    hostAndPort(target);
    if (spec.generator === "inline" || wire !== "host")
      throw new RangeError(`target ${target}: its load comes from kernel sockets or, with --interface, from an lcore`);
    if ((spec.generator === "lcore") !== (spec.interface !== null))
      throw new RangeError("--generator lcore and --interface IF go together: its frames leave by that interface");
    if (!ASKABLE.includes(workload))
      throw new RangeError(`${workload}: not of ${target}, only of targets that lcore starts: ${whoServes(workload)}`);
    return spec;
  }
  if (spec.interface !== null)
    throw new RangeError(`--interface: of a target HOST:PORT; ${own} is started on a wire of its own`);
  if (!SERVES[own].includes(workload))
    throw new RangeError(`${own} does not serve ${workload}; these do: ${whoServes(workload)}`);
  if (spec.generator === "kernel" && (wire !== "veth" || !ANSWERED.includes(workload)))
    throw new RangeError(`--generator kernel: on --wire veth, of ${ANSWERED.join(", ")}`);
  if (wire === "memory" && own !== "lcore")
    throw new RangeError(`${own}: kernel sockets need --wire veth, and that needs root`);
  if (UDP.some((name) => name === workload) || workload === "handoff") {
    const most = wire === "memory" ? MEMORY_SIZE_MAX : VETH_SIZE_MAX;
    if (spec.size > most) throw new RangeError(`size ${spec.size}: up to ${most} bytes fit a datagram here`);
  }
  if (defaultRate(workload, wire) === 0 && spec.rate !== 0)
    throw new RangeError(`${workload} goes as fast as it can: leave --rate out`);
  return spec;
}

const whoServes = (workload: Workload): string =>
  OWN_TARGETS.filter((name) => SERVES[name].includes(workload)).join(", ");

/** "127.0.0.1:80", "[::1]:80" or "name:80". Throws RangeError. */
export function hostAndPort(target: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(target);
  const port = Number(match?.[3]);
  if (match === null || port < 1 || port > 65535)
    throw new RangeError(`target ${target}: one of ${OWN_TARGETS.join(", ")}, or HOST:PORT as 127.0.0.1:7`);
  return { host: match[1] ?? match[2], port };
}

/** Throws RangeError. */
function checkSpec(spec: TrialSpec): void {
  whole("size", spec.size, 8, 65_536);
  whole("flows", spec.flows, 1, 16_384);
  whole("connections", spec.connections, 1, 16_384);
  whole("queues", spec.queues, 1, 64);
  whole("window", spec.window, 1, 65_536);
  between("timeout", spec.timeoutMs, 1, 2000);
  between("rate", spec.rate, 0, 1e8);
  between("seconds", spec.seconds, 0.01, 86_400);
  between("warmup", spec.warmupSeconds, 0, 600);
  between("rewarm", spec.rewarmSeconds, 0, 600);
  between("interval", spec.intervalMs, 10, 60_000);
  if (spec.generator === "inline" && (spec.wire !== "memory" || spec.queues !== 1 || !INLINE.includes(spec.workload)))
    throw new RangeError(`--generator inline: on --wire memory with one queue, of ${INLINE.join(", ")}`);
  if (spec.spin !== null) {
    whole("spin", spec.spin.ns, 1, 1e9);
    if (!(spec.spin.fraction > 0 && spec.spin.fraction <= 1)) throw new RangeError("spin: a fraction above 0, up to 1");
  }
}

function whole(name: string, value: number, low: number, high: number): void {
  if (!Number.isInteger(value) || value < low || value > high)
    throw new RangeError(`${name} ${value}: a whole number from ${low} to ${high}`);
}

function between(name: string, value: number, low: number, high: number): void {
  if (!(value >= low && value <= high)) throw new RangeError(`${name} ${value}: from ${low} to ${high}`);
}
