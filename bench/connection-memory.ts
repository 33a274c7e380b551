/**
 * What an idle TCP connection takes of memory, in bytes: by the sizes of the tables that a Tcp makes for it, and by the pages that a
 * process has with so many connections open. Both are differences between a few connections and many, each in a process of its own.
 */
import { readFileSync } from "node:fs";
import { TcpLcorePath } from "./tcp-lcore.ts";
import { TcpMemory } from "./tcp-memory.ts";

/** A Tcp alone; a Stack, and an application's TcpSocket of each. */
type Kind = "core" | "lcore";

const FEW = 1000;
/** Bytes of the benches themselves: order, next sequence number and acknowledgment of each connection. */
const OWN_BYTES = 12;
/** Frames that handshakes are written into: none are kept. */
const FRAMES = 64;
const COLLECTIONS = 5;
const BETWEEN_MS = 100;

export interface ConnectionMemory {
  /** Bytes of each table, and of records, that a connection more takes. */
  readonly tables: number;
  /** Bytes of pages in memory. */
  readonly pages: Readonly<Record<Kind, number>>;
}

interface Sizes {
  readonly tables: number;
  readonly pages: number;
}

/** @param many connections; 1,000,000 in a real run */
export async function measureConnectionMemory(many: number): Promise<ConnectionMemory> {
  const perConnection = (few: number, all: number): number => (all - few) / (many - FEW);
  const measured = async (kind: Kind): Promise<Sizes> => {
    const [few, all] = [await sizesOf(kind, FEW), await sizesOf(kind, many)];
    const pages = perConnection(few.pages, all.pages) - OWN_BYTES;
    return { tables: perConnection(few.tables, all.tables), pages };
  };
  const [core, lcore] = [await measured("core"), await measured("lcore")];
  return { tables: core.tables, pages: { core: core.pages, lcore: lcore.pages } };
}

async function sizesOf(kind: Kind, connections: number): Promise<Sizes> {
  const child = Bun.spawn([process.execPath, import.meta.path, kind, String(connections)], { stdin: "ignore" });
  const [output, status] = await Promise.all([child.stdout.text(), child.exited]);
  if (status !== 0) throw new Error(`${kind} with ${connections} connections: exit status ${status}`);
  return JSON.parse(output) as Sizes;
}

/** Bytes of all arrays that an object holds, itself or through others, but for those over `besides`. */
function arrayBytes(root: object, besides: ArrayBufferLike): number {
  const met = new Set<unknown>([besides]);
  let bytes = 0;
  const visit = (value: unknown): void => {
    if (typeof value !== "object" || value === null || met.has(value)) return;
    met.add(value);
    if (!ArrayBuffer.isView(value)) Object.values(value).forEach(visit);
    else if (!met.has(value.buffer)) {
      met.add(value.buffer);
      bytes += value.buffer.byteLength;
    }
  };
  visit(root);
  return bytes;
}

/** Pages that the process has in memory, bytes, once the runtime has given back what it does not need: not with the first collection. */
async function pages(): Promise<number> {
  for (let i = 0; i < COLLECTIONS; i++) {
    Bun.gc(true);
    await Bun.sleep(BETWEEN_MS);
  }
  const rss = /^Rss:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/smaps_rollup", "utf8"));
  if (rss === null) throw new Error("/proc/self/smaps_rollup has no Rss");
  return Number(rss[1]) * 1024;
}

/** What it opens stays open until its memory has been looked at. */
async function sizes(kind: string, connections: number): Promise<Sizes> {
  if (kind === "lcore") {
    const path = new TcpLcorePath(connections, 64, false);
    const found = { tables: 0, pages: await pages() };
    path.prepare();
    return found;
  }
  const { tcp } = new TcpMemory(connections, FRAMES, 64, false);
  const found = { tables: arrayBytes(tcp, tcp.sink.views.bytes.buffer), pages: await pages() };
  if (tcp.open !== connections + 1) throw new Error(`${tcp.open - 1} of ${connections} connections are open`);
  return found;
}

if (import.meta.main) {
  const [kind, connections] = process.argv.slice(2);
  console.log(JSON.stringify(await sizes(kind, Number(connections))));
}
