/** Where a target is measured: the wire between it and its load, both started, each on its own CPU. */
import { lookup } from "node:dns/promises";
import { createMemoryWire } from "../../queues/memory.ts";
import { ip } from "../../sockets/wire/address.ts";
import type { EngineOptions } from "../config.ts";
import { Engine } from "../engine.ts";
import { getAffinity } from "../host/affinity.ts";
import { VethPair } from "../host/hosts.ts";
import { LoadBoard } from "./board.ts";
import type { ExchangeOptions } from "./exchanges.ts";
import type { GeneratorOptions } from "./generator.ts";
import type { KernelLoadStart } from "./kernel-load-worker.ts";
import { type GeneratorThreadOptions, LoadThread } from "./load-thread.ts";
import { type ServeData, WAYS } from "./serve.ts";
import { hostAndPort, type OwnTarget, type TrialSpec } from "./spec.ts";
import { childTarget, engineTarget, foreignTarget, type Target } from "./target.ts";
import type { TcpLoadData } from "./tcp-load-module.ts";
import type { InterfaceLoad } from "./trial.ts";
import { wayTo } from "./way.ts";

/** A load that is ready, and does not send yet. */
export interface Load {
  readonly board: LoadBoard;
  /** Resolves with the error that ended it, or null. */
  readonly ended: Promise<Error | null>;
  stop(): Promise<void>;
}

export interface Bed {
  readonly target: Target;
  readonly load: Load;
  /** CPUs of load and target. */
  readonly cpus: { readonly load: number; readonly target: number };
  close(): Promise<void>;
}

const never = new Promise<never>(() => {});
const PORT = 7777;
const SOURCE_PORT = 20_000;
const CLIENT = { address: "198.18.0.1", mac: Uint8Array.of(2, 0, 0, 0, 0, 1) };
const SERVER = { address: "198.18.0.2", mac: Uint8Array.of(2, 0, 0, 0, 0, 2) };

/** The load on the first CPU that this process may use, the target on the last. */
export function places(): { load: number; target: number; handoff: number } {
  const cpus = getAffinity(0);
  const target = cpus[cpus.length - 1];
  return { load: cpus[0], target, handoff: cpus.length > 2 ? cpus[1] : target };
}

export function openBed(spec: TrialSpec): Promise<Bed> {
  if (spec.generator === "inline") return inlineBed(spec);
  if (spec.wire === "host") return hostBed(spec);
  return spec.wire === "memory" ? memoryBed(spec) : vethBed(spec);
}

const serveData = ({ workload, size, spin }: TrialSpec): Omit<ServeData, "counts"> => ({
  ...WAYS[workload],
  port: PORT,
  size,
  spin,
});

async function memoryBed(spec: TrialSpec): Promise<Bed> {
  const cpus = places();
  const { queues } = spec;
  const wire = createMemoryWire({ queues: [queues, queues], slotBytes: 2048, slots: 1024 });
  const handoff = spec.workload === "handoff";
  const target = await engineTarget(
    {
      memory: { wire, side: 1, mac: SERVER.mac, addresses: [`${SERVER.address}/24`], neighbours: [CLIENT] },
      cpus: [cpus.target],
      // A wire in memory has nothing that could wake a sleeping lcore. A thread on its CPU has it while the lcore sleeps.
      poll: handoff ? "adaptive" : "busy",
    },
    serveData(spec),
    handoff ? cpus.handoff : null,
  );
  const load = isTcp(spec)
    ? () =>
        engineLoad(
          {
            memory: { wire, side: 0, mac: CLIENT.mac, addresses: [`${CLIENT.address}/24`], neighbours: [SERVER] },
            cpus: [cpus.load],
            isolate: false,
          },
          spec,
          SERVER.address,
        )
    : () =>
        LoadThread.generator({
          ...generatorOptions(spec),
          link: { kind: "memory", wire, side: 0 },
          cpu: cpus.load,
          ...memoryEnds(),
        });
  return await withLoad(target, cpus, () => {}, load);
}

/** A wire in memory both of whose ends are on one lcore: its engine's, and the generator's, which its module turns. */
async function inlineBed(spec: TrialSpec): Promise<Bed> {
  const cpus = places();
  const wire = createMemoryWire({ slotBytes: 2048, slots: 1024 });
  const board = new LoadBoard();
  const target = await engineTarget(
    {
      memory: { wire, side: 1, mac: SERVER.mac, addresses: [`${SERVER.address}/24`], neighbours: [CLIENT] },
      cpus: [cpus.target],
      poll: "busy",
    },
    {
      ...serveData(spec),
      load: { wire, board: board.shared, options: { ...generatorOptions(spec), ...memoryEnds() } },
    },
    null,
  );
  const close = (): Promise<void> => target.close();
  return {
    target,
    load: { board, ended: never, stop: close },
    cpus: { load: cpus.target, target: cpus.target },
    close,
  };
}

async function vethBed(spec: TrialSpec): Promise<Bed> {
  const cpus = places();
  const hosts = new VethPair({ ipv6: false, queues: spec.queues });
  try {
    const { a, b } = hosts;
    // The generator answers no ARP, and a question in between would be counted by nobody but cost somebody.
    a.rtnl.setNeighbour(a.ifindex, b.ipv4, b.mac);
    b.rtnl.setNeighbour(b.ifindex, a.ipv4, a.mac);
    const target = await childTarget(b, {
      target: spec.target as OwnTarget,
      interface: b.name,
      cpu: cpus.target,
      handoff: spec.workload === "handoff",
      data: serveData(spec),
    });
    return await withLoad(
      target,
      cpus,
      () => hosts.close(),
      () => vethLoad(spec, hosts, cpus.load),
    );
  } catch (error) {
    hosts.close();
    throw error;
  }
}

function vethLoad(spec: TrialSpec, { a, b }: VethPair, cpu: number): Promise<Load> {
  if (spec.generator === "kernel") return kernelLoad(spec, cpu, a.ns.path, b.ipv4, PORT);
  if (isTcp(spec)) {
    const options = { interface: a.name, netns: a.ns.path, cpus: [cpu], mode: "skb", isolate: false } as const;
    return engineLoad({ provider: "engine", ...options }, spec, b.ipv4Text);
  }
  return LoadThread.generator({
    ...generatorOptions(spec),
    link: {
      kind: "xdp",
      ifindex: a.ifindex,
      netns: a.ns.path,
      queues: Array.from({ length: spec.queues }, (_, queue) => queue),
      mode: "skb",
    },
    cpu,
    sourceMac: a.mac,
    destinationMac: b.mac,
    source: a.ipv4,
    destination: b.ipv4,
  });
}

/** A service of others, and a load upon it. */
async function hostBed(spec: TrialSpec): Promise<Bed> {
  const { host, port } = hostAndPort(spec.target);
  const { address } = await lookup(host).catch(() => {
    throw new RangeError(`target ${spec.target}: the name ${host} has no address`);
  });
  const cpus = places();
  const to = ip(address);
  const from = spec.interface;
  const start = (): Promise<Load> => {
    if (from === null) return kernelLoad(spec, cpus.load, null, to, port);
    if (!isTcp(spec)) return interfaceLoad(spec, from, cpus.load, to, port);
    const options = { interface: from.name, mode: from.mode, cpus: [cpus.load], isolate: false } as const;
    return engineLoad({ provider: "engine", ...options }, spec, address, port);
  };
  return await withLoad(foreignTarget, cpus, () => {}, start);
}

/** A generator on the queues of an interface of this host. */
async function interfaceLoad(
  spec: TrialSpec,
  from: InterfaceLoad,
  cpu: number,
  destination: Uint8Array,
  destinationPort: number,
): Promise<Load> {
  const { flows, size } = spec;
  const { close, ...way } = await wayTo(from, destination, flows, size);
  try {
    const load = await LoadThread.generator({ ...generatorOptions(spec), ...way, cpu, destination, destinationPort });
    return {
      board: load.board,
      ended: load.ended,
      stop: async () => {
        try {
          await load.stop();
        } finally {
          close();
        }
      },
    };
  } catch (error) {
    close();
    throw error;
  }
}

function kernelLoad(
  spec: TrialSpec,
  cpu: number,
  netns: string | null,
  address: Uint8Array,
  port: number,
): Promise<Load> {
  const { flows, size, window, timeoutMs } = spec;
  const start: KernelLoadStart = {
    cpu,
    netns,
    address,
    port,
    datagrams: isTcp(spec) ? null : { flows, size, window, timeoutMs },
    exchanges: isTcp(spec) ? exchangeOptions(spec) : null,
  };
  return LoadThread.start(new URL("./kernel-load-worker.ts", import.meta.url), start);
}

/** A load on the TCP of an engine of its own. */
async function engineLoad(options: EngineOptions, spec: TrialSpec, address: string, port = PORT): Promise<Load> {
  const board = new LoadBoard();
  const data: TcpLoadData = { address, port, options: exchangeOptions(spec), board: board.shared };
  const module = new URL("./tcp-load-module.ts", import.meta.url);
  const engine = await Engine.start({ ...options, poll: "busy", module, data });
  const ended = engine.closed.then(
    () => null,
    (error: Error) => error,
  );
  return { board, ended, stop: () => engine.close() };
}

const isTcp = ({ workload }: TrialSpec): boolean => WAYS[workload].protocol === "tcp";

function exchangeOptions({ workload, connections, size, timeoutMs }: TrialSpec): ExchangeOptions {
  const way = workload === "tcp-stream" ? "stream" : workload === "tcp-crr" ? "crr" : "rr";
  return { way, connections, size, timeoutMs };
}

async function withLoad(
  target: Target,
  cpus: Bed["cpus"],
  closeWire: () => void,
  start: () => Promise<Load>,
): Promise<Bed> {
  let load: Load;
  try {
    load = await start();
  } catch (error) {
    await target.close();
    throw error;
  }
  return {
    target,
    load,
    cpus,
    close: async () => {
      try {
        await load.stop();
      } finally {
        await target.close();
        closeWire();
      }
    },
  };
}

/** Who the generator of a wire in memory is, and whom it asks. */
const memoryEnds = (): Pick<GeneratorOptions, "sourceMac" | "destinationMac" | "source" | "destination"> => ({
  sourceMac: CLIENT.mac,
  destinationMac: SERVER.mac,
  source: ip(CLIENT.address),
  destination: ip(SERVER.address),
});

function generatorOptions(
  spec: TrialSpec,
): Pick<
  GeneratorThreadOptions,
  "sourcePort" | "destinationPort" | "flows" | "payload" | "window" | "timeoutMs" | "way"
> {
  const { flows, size, window, timeoutMs, workload } = spec;
  const way = workload === "udp-rx" ? "flood" : workload === "udp-tx" ? "sink" : "echo";
  return { sourcePort: SOURCE_PORT, destinationPort: PORT, flows, payload: size, window, timeoutMs, way };
}
