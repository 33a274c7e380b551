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
  /** Arguments of an `lcore capture` that runs all the while, and writes to nowhere; null for none. */
  capture: readonly string[] | null;
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
const capture = options.capture === null ? null : await startCapture(options.capture);
const started: LcoreEchoStarted = { ...engine.info, startedAt, startMs };
console.log(JSON.stringify(started));
process.on("SIGTERM", async () => {
  const counters = engine.counters();
  await engine.close();
  await capture?.exited;
  const nonZero = Object.fromEntries(Object.entries(counters).filter(([, value]) => value !== 0));
  console.log(JSON.stringify(nonZero));
  process.exit(0);
});
await engine.closed;

/** An `lcore capture` of this engine, which ends with it. Resolves when it has begun. */
async function startCapture(more: readonly string[]): Promise<Bun.Subprocess> {
  await engine.serveStats();
  const cli = new URL("../../engine/cli/main.ts", import.meta.url).pathname;
  const command = [process.execPath, cli, "capture", "--pid", String(process.pid), "--write", "/dev/null", ...more];
  const child = Bun.spawn(command, { stdout: "ignore", stderr: "pipe" });
  const said = new TextDecoder();
  for await (const text of child.stderr) {
    const line = said.decode(text);
    if (line.includes("capturing from")) return child;
    throw new Error(line.trim());
  }
  throw new Error("lcore capture: ended before it began");
}
