/**
 * TCP on an lcore, through real sockets: `bun bench/peers/lcore-tcp.ts '{"interface":"veth0", …}'` (LcoreTcpOptions). A server
 * prints a line of JSON when it serves; a load prints "measuring" and a LoadResult as tcp-load.c does. Both print their
 * counters that are not 0 when they are told to stop (SIGTERM).
 */
import type { AttachMode, PollPolicy } from "../../engine/config.ts";
import { Engine } from "../../engine/engine.ts";
import type { LoadResult } from "../tcp-run.ts";
import { BAD, COUNTS, DONE, FAILED, type LoadData } from "./lcore-load-module.ts";
import type { ServeData } from "./lcore-tcp-module.ts";

export interface LcoreTcpOptions {
  interface: string;
  cpu: number;
  mode: AttachMode;
  poll: PollPolicy;
  /** Null: a load instead. */
  serve: ServeData | null;
  load: (Omit<LoadData, "counts"> & { warmupMs: number; measureMs: number }) | null;
}

const options = JSON.parse(process.argv[2]) as LcoreTcpOptions;
const counts = new SharedArrayBuffer(COUNTS * Float64Array.BYTES_PER_ELEMENT);
const engine = await Engine.start({
  provider: "engine",
  interface: options.interface,
  cpus: [options.cpu],
  mode: options.mode,
  poll: options.poll,
  module: new URL(options.load === null ? "./lcore-tcp-module.ts" : "./lcore-load-module.ts", import.meta.url),
  data: options.load === null ? options.serve : { ...options.load, counts },
});
process.on("SIGTERM", stop);
if (options.load === null) {
  console.log(JSON.stringify(engine.info));
  await engine.closed;
} else {
  console.log(JSON.stringify(await measured(options.load)));
}

async function measured({ warmupMs, measureMs }: { warmupMs: number; measureMs: number }): Promise<LoadResult> {
  const now = new Float64Array(counts);
  await Bun.sleep(warmupMs);
  console.log("measuring");
  const before = now.slice();
  const start = performance.now();
  await Bun.sleep(measureMs);
  const [done, failed, bad] = [DONE, FAILED, BAD].map((i) => now[i] - before[i]);
  const elapsedMs = performance.now() - start;
  return { done, failed, bad, bytes: 0, elapsedMs, p50: 0, p99: 0, p999: 0, max: 0 };
}

async function stop(): Promise<void> {
  const counters = engine.counters();
  await engine.close();
  const nonZero = Object.fromEntries(Object.entries(counters).filter(([, value]) => value !== 0));
  console.log(JSON.stringify(nonZero));
  process.exit(0);
}
