/** Running a command that serves on an interface, from the start to the counters at the end. */
import { Engine } from "../engine.ts";
import { formatCpuList } from "../host/cpu-list.ts";
import { AF_XDP_NEEDS, howToGet, lacking } from "../privileges.ts";
import type { ProviderOption } from "../provider.ts";
import type { StatsServer } from "../stats.ts";
import { counterTables } from "./counter-tables.ts";
import { CliError, oneLine } from "./failure.ts";
import type { ServeOptions } from "./serve.ts";
import { StopRequest } from "./signals.ts";

export interface Service {
  readonly provider: ProviderOption;
  /** What is bound, as "UDP", and its port. */
  readonly protocols: readonly { readonly name: string; readonly port: number }[];
  readonly address: string;
  readonly module: URL;
  readonly data: unknown;
  /** Told beside what every command tells: fields of the JSON events at the start and the end, and a table at the end. */
  readonly ready: Record<string, unknown>;
  readonly stopped?: () => Record<string, unknown>;
  readonly table?: () => string;
}

export async function serve(options: ServeOptions, service: Service): Promise<void> {
  const missing = service.provider === "engine" ? lacking(AF_XDP_NEEDS) : [];
  if (missing.length > 0) throw new CliError(howToGet(missing));
  const stop = new StopRequest();
  const engine = await startEngine(options, service);
  try {
    const stats = serveStats(engine);
    const ready = options.json ? readyJson(engine, options, service, stats) : readyLine(engine, options, service);
    process.stdout.write(`${ready}\n`);
    await Promise.race([stop.requested, engine.closed]);
    const last = engine.stats();
    const { stopped, table } = service;
    process.stdout.write(
      options.json
        ? `${JSON.stringify({ event: "stopped", ...last, ...stopped?.() })}\n`
        : `${counterTables(last)}${table?.() ?? ""}`,
    );
  } finally {
    await engine.close();
  }
  // Rejects with what stopped the engine, should it not have been us.
  await engine.closed;
}

async function startEngine(options: ServeOptions, { data, module, provider }: Service): Promise<Engine> {
  return await Engine.start({
    provider,
    onNotice: (text) => process.stderr.write(`lcore: ${oneLine(text)}\n`),
    interface: options.interface,
    addresses: options.addresses,
    dad: options.dad ? undefined : false,
    gateways: options.gateways,
    queues: options.queues,
    cpus: options.cpus,
    mode: options.mode,
    poll: options.poll,
    module,
    data,
  });
}

/** The server serves as well without it, so a directory that cannot be written is no more than a line. */
function serveStats(engine: Engine): StatsServer | null {
  try {
    return engine.serveStats();
  } catch (error) {
    process.stderr.write(`lcore: no statistics from outside: ${oneLine(error)}\n`);
    return null;
  }
}

function readyLine({ info }: Engine, options: ServeOptions, { address, protocols }: Service): string {
  const host = address === "::" || address === "0.0.0.0" ? "*" : address.includes(":") ? `[${address}]` : address;
  const what = protocols.map(({ name, port }) => `${name} ${host}:${port}`).join(" and ");
  const kernel = info.provider === "kernel";
  const lcores = info.cpus.map((cpu, l) => `CPU ${cpu}${kernel ? "" : ` queues ${formatCpuList(info.queues[l])}`}`);
  const where = kernel
    ? "kernel sockets"
    : `${info.interface} (ifindex ${info.ifindex}), ${info.attach} mode (${info.reason}), ${info.zeroCopy ? "zero-copy" : "copy"}`;
  return `ready ${what} on ${where}, ${lcores.join(", ")}, poll ${options.poll}, pid ${process.pid}`;
}

function readyJson({ info }: Engine, { poll }: ServeOptions, { ready }: Service, stats: StatsServer | null): string {
  return JSON.stringify({ event: "ready", pid: process.pid, ...ready, poll, ...info, stats: stats?.path ?? null });
}
