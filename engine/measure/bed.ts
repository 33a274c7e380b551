/** Where a target is measured: the wire between it and its load, both started, each on its own CPU. */
import { createMemoryWire } from "../../queues/memory.ts";
import { ip } from "../../sockets/wire/address.ts";
import { getAffinity } from "../host/affinity.ts";
import { VethPair } from "../host/hosts.ts";
import { LoadBoard } from "./board.ts";
import type { GeneratorOptions } from "./generator.ts";
import { type GeneratorThreadOptions, LoadThread } from "./load-thread.ts";
import { type ServeData, WAYS } from "./serve.ts";
import type { OwnTarget, TrialSpec } from "./spec.ts";
import { childTarget, engineTarget, type Target } from "./target.ts";

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
  return await withLoad(
    target,
    cpus,
    () => {},
    () =>
      LoadThread.generator({
        ...generatorOptions(spec),
        link: { kind: "memory", wire, side: 0 },
        cpu: cpus.load,
        ...memoryEnds(),
      }),
  );
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
      () =>
        LoadThread.generator({
          ...generatorOptions(spec),
          link: {
            kind: "xdp",
            ifindex: a.ifindex,
            netns: a.ns.path,
            queues: Array.from({ length: spec.queues }, (_, queue) => queue),
            mode: "skb",
          },
          cpu: cpus.load,
          sourceMac: a.mac,
          destinationMac: b.mac,
          source: a.ipv4,
          destination: b.ipv4,
        }),
    );
  } catch (error) {
    hosts.close();
    throw error;
  }
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
