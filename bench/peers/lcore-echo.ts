/**
 * A UDP echo on an lcore, through real sockets: `bun bench/peers/lcore-echo.ts '{"interface":"veth0", …}'`.
 * Prints a line of JSON when it serves (LcoreEchoStarted), and its counters when it is told to stop (SIGTERM).
 */

import type { AttachMode, PollPolicy } from "../../engine/config.ts";
import { Engine, type EngineInfo } from "../../engine/engine.ts";

export interface LcoreEchoOptions {
  interface: string;
  port: number;
  cpu: number;
  mode: AttachMode;
  poll: PollPolicy;
  /** See EchoModuleData. */
  markHeap: boolean;
}

export interface LcoreEchoStarted extends EngineInfo {
  /** When Engine.start was called, milliseconds since the epoch, with fractions. */
  startedAt: number;
  /** Milliseconds that Engine.start took. */
  startMs: number;
}

const options = JSON.parse(process.argv[2]) as LcoreEchoOptions;
const startedAt = performance.timeOrigin + performance.now();
const engine = await Engine.start({
  interface: options.interface,
  cpus: [options.cpu],
  mode: options.mode,
  poll: options.poll,
  module: new URL("./echo-module.ts", import.meta.url),
  data: { port: options.port, markHeap: options.markHeap },
});
const startMs = performance.timeOrigin + performance.now() - startedAt;
const started: LcoreEchoStarted = { ...engine.info, startedAt, startMs };
console.log(JSON.stringify(started));
process.on("SIGTERM", async () => {
  const counters = engine.counters();
  await engine.close();
  const nonZero = Object.fromEntries(Object.entries(counters).filter(([, value]) => value !== 0));
  console.log(JSON.stringify(nonZero));
  process.exit(0);
});
await engine.closed;
