/** Running `lcore echo`: from the start to the counters at the end. */

import { Engine } from "../engine.ts";
import { formatCpuList } from "../host/cpu-list.ts";
import { AF_XDP_NEEDS, howToGet, lacking } from "../privileges.ts";
import type { StatsServer } from "../stats.ts";
import { counterTables } from "./counter-tables.ts";
import { type EchoData, type EchoOptions, wildcard } from "./echo.ts";
import { CliError, oneLine } from "./failure.ts";
import { StopRequest } from "./signals.ts";

export async function runEcho(options: EchoOptions): Promise<void> {
  const missing = options.provider === "engine" ? lacking(AF_XDP_NEEDS) : [];
  if (missing.length > 0) throw new CliError(howToGet(missing));
  const stop = new StopRequest();
  const address = options.address ?? wildcard();
  const engine = await startEngine(options, address);
  try {
    const stats = serveStats(engine);
    process.stdout.write(`${options.json ? readyJson(engine, options, stats) : readyLine(engine, options, address)}\n`);
    await Promise.race([stop.requested, engine.closed]);
    const last = engine.stats();
    process.stdout.write(options.json ? `${JSON.stringify({ event: "stopped", ...last })}\n` : counterTables(last));
  } finally {
    await engine.close();
  }
  // Rejects with what stopped the engine, should it not have been us.
  await engine.closed;
}

async function startEngine(options: EchoOptions, address: string): Promise<Engine> {
  const data: EchoData = { address, port: options.udp, lcores: options.cpus?.length ?? 1 };
  return await Engine.start({
    provider: options.provider,
    onNotice: (text) => process.stderr.write(`lcore: ${oneLine(text)}\n`),
    interface: options.interface,
    addresses: options.addresses,
    dad: options.dad ? undefined : false,
    gateways: options.gateways,
    queues: options.queues,
    cpus: options.cpus,
    mode: options.mode,
    poll: options.poll,
    module: new URL("./echo-module.ts", import.meta.url),
    data,
  });
}

/** The server echoes as well without it, so a directory that cannot be written is no more than a line. */
function serveStats(engine: Engine): StatsServer | null {
  try {
    return engine.serveStats();
  } catch (error) {
    process.stderr.write(`lcore: no statistics from outside: ${oneLine(error)}\n`);
    return null;
  }
}

function readyLine({ info }: Engine, options: EchoOptions, address: string): string {
  const host = address === "::" || address === "0.0.0.0" ? "*" : address.includes(":") ? `[${address}]` : address;
  const kernel = info.provider === "kernel";
  const lcores = info.cpus.map((cpu, l) => `CPU ${cpu}${kernel ? "" : ` queues ${formatCpuList(info.queues[l])}`}`);
  const where = kernel
    ? "kernel sockets"
    : `${info.interface} (ifindex ${info.ifindex}), ${info.attach} mode (${info.reason}), ${info.zeroCopy ? "zero-copy" : "copy"}`;
  return `ready UDP ${host}:${options.udp} on ${where}, ${lcores.join(", ")}, poll ${options.poll}, pid ${process.pid}`;
}

function readyJson({ info }: Engine, options: EchoOptions, stats: StatsServer | null): string {
  const { udp, poll } = options;
  return JSON.stringify({ event: "ready", pid: process.pid, udp, poll, ...info, stats: stats?.path ?? null });
}
