/** The demo without any privilege: the engine and its generator at the two ends of a wire in memory. */
import { createMemoryWire } from "../../../queues/memory.ts";
import { ip } from "../../../sockets/wire/address.ts";
import { Engine } from "../../engine.ts";
import { getAffinity } from "../../host/affinity.ts";
import type { GeneratorThreadOptions } from "../../measure/load-thread.ts";
import type { EchoData } from "../echo.ts";
import { type DemoResult, LOAD } from "./figures.ts";
import { type CpuTimes, figuresOf, lcoreTimes, load } from "./load.ts";
import type { DemoContext } from "./run.ts";

const PORT = 7777;
const SERVER = { address: "198.18.0.2", mac: Uint8Array.of(2, 0, 0, 0, 0, 2) };
const CLIENT = { address: "198.18.0.1", mac: Uint8Array.of(2, 0, 0, 0, 0, 1) };

export async function memoryDemo(context: DemoContext, reason: string): Promise<DemoResult> {
  const cpus = getAffinity(0);
  const wire = createMemoryWire();
  context.step("starting an lcore on an in-memory wire");
  const data: EchoData = { address: SERVER.address, udp: PORT, lcores: 1 };
  const engine = await Engine.start({
    memory: { wire, side: 1, mac: SERVER.mac, addresses: [`${SERVER.address}/24`], neighbours: [CLIENT] },
    cpus: cpus.slice(-1),
    // A wire in memory has nothing that could wake a sleeping lcore.
    poll: "busy",
    module: new URL("../echo-module.ts", import.meta.url),
    data,
  });
  try {
    const times = (): CpuTimes => lcoreTimes(engine);
    const options: GeneratorThreadOptions = {
      link: { kind: "memory", wire, side: 0 },
      cpu: cpus[0],
      sourceMac: CLIENT.mac,
      destinationMac: SERVER.mac,
      source: ip(CLIENT.address),
      destination: ip(SERVER.address),
      sourcePort: 20000,
      destinationPort: PORT,
      ...LOAD,
    };
    context.step("lcore: one datagram in flight");
    const trips = await load({ ...options, flows: 1, window: 1 }, context, times);
    context.step("lcore: as many echoes as it can");
    const most = await load(options, context, times);
    const figures = figuresOf("lcore", most, trips.latencyCounts);
    const [own, others] = [engine.info.cpus[0], cpus[0]];
    const scarce = own === others ? "; both share the only CPU, so the figures are the scheduler's" : "";
    return {
      wire: "memory",
      how: `In-memory wire (${reason}); lcore on CPU ${own}, its generator on CPU ${others}${scarce}.`,
      servers: [figures],
    };
  } finally {
    await engine.close();
  }
}
