/**
 * A UDP echo on an lcore, through real sockets: `bun bench/peers/lcore-echo.ts '{"interface":"veth0", …}'`.
 * Prints its EngineInfo when it serves, and its counters when it is told to stop (SIGTERM, or the end of its input).
 */

import type { AttachMode, PollPolicy } from "../../engine/config.ts";
import { Engine } from "../../engine/engine.ts";

export interface LcoreEchoOptions {
  interface: string;
  port: number;
  cpu: number;
  mode: AttachMode;
  poll: PollPolicy;
}

const options = JSON.parse(process.argv[2]) as LcoreEchoOptions;
const startedAt = performance.now();
const engine = await Engine.start({
  interface: options.interface,
  cpus: [options.cpu],
  mode: options.mode,
  poll: options.poll,
  module: new URL("./echo-module.ts", import.meta.url),
  data: options.port,
});
console.log(JSON.stringify({ ...engine.info, startMs: performance.now() - startedAt }));
process.on("SIGTERM", async () => {
  const counters = engine.counters();
  await engine.close();
  const nonZero = Object.fromEntries(Object.entries(counters).filter(([, value]) => value !== 0));
  console.log(JSON.stringify(nonZero));
  process.exit(0);
});
await engine.closed;
