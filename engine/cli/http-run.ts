/** Running `lcore http`. */
import { closeSync, openSync, statSync } from "node:fs";
import { resolve } from "node:path";
import type { HttpData } from "../http/module.ts";
import { HTTP_LIMITS } from "../http/server.ts";
import { HttpCounts, type HttpTotals, phrase } from "../http/statuses.ts";
import { CliError, EXIT_USAGE } from "./failure.ts";
import type { HttpOptions } from "./http.ts";
import { table, whole } from "./output.ts";
import { wildcard } from "./serve.ts";
import { serve } from "./serve-run.ts";

const STDOUT = 1;
const MIB = 1 << 20;

export async function runHttp(options: HttpOptions): Promise<void> {
  const { json, log, port } = options;
  if (json && log === true) throw new CliError("http: --log beside --json needs a file", EXIT_USAGE);
  const root = directory(options.root);
  const address = options.address ?? wildcard();
  const lcores = options.cpus?.length ?? 1;
  const counts = HttpCounts.create(lcores);
  const logFd = log === undefined ? -1 : log === true ? STDOUT : openLog(log);
  const limits = { ...HTTP_LIMITS, headMs: options.headerTimeout * 1000, idleMs: options.idleTimeout * 1000 };
  const cacheBytes = options.cache * MIB;
  const data: HttpData = { address, port, lcores, root, cacheBytes, limits, logFd, counts: counts.buffer };
  try {
    await serve(options, {
      provider: "engine",
      protocols: [{ name: "HTTP", port }],
      address,
      module: new URL("../http/module.ts", import.meta.url),
      data,
      ready: { http: port, root },
      stopped: () => ({ http: counts.totals() }),
      table: () => totalsTable(counts.totals()),
    });
  } finally {
    if (logFd > STDOUT) closeSync(logFd);
  }
}

function directory(path: string): string {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat?.isDirectory()) throw new CliError(`http: --root ${path}: no such directory`, EXIT_USAGE);
  return resolve(path);
}

function openLog(path: string): number {
  try {
    return openSync(path, "a");
  } catch (error) {
    throw new CliError(`http: --log ${path}: ${(error as NodeJS.ErrnoException).code}`);
  }
}

function totalsTable({ bytes, connections, requests, statuses }: HttpTotals): string {
  const rows = [
    ["connections", whole(connections), ""],
    ["requests", whole(requests), ""],
    ["bytes", whole(bytes), "of contents, heads not counted"],
    ...Object.entries(statuses).map(([status, count]) => [status, whole(count), phrase(Number(status))]),
  ];
  return `${table(
    [
      { head: "HTTP", align: "left" },
      { head: "total", align: "right" },
      { head: "meaning", align: "left", fill: true },
    ],
    rows,
  )}\n`;
}
