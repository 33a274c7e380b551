/**
 * A load of DNS queries on kernel sockets that checks every answer, byte by byte, against the answer that is right:
 * `bun bench/dns-load.ts '{"address":"198.18.0.2", …}'`, a DnsLoadOptions. A program of its own, in the client's network
 * namespace. Prints a line of JSON at the end, a DnsLoadResult.
 */
import { encode } from "dns-packet";

export interface DnsLoadOptions {
  address: string;
  port: number;
  /** Queries under way at once. */
  window: number;
  warmupMs: number;
  measureMs: number;
  /** How long to wait for the first answer. */
  patienceMs: number;
}

export interface DnsLoadResult {
  /** Answers while measuring, and those of them that are not what they should be. */
  answered: number;
  wrong: number;
  /** Queries without an answer for LOST_MS. */
  lost: number;
  elapsedMs: number;
}

/** Hosts asked for in turn: those of examples/dns-server.ts. */
const HOSTS = 1000;
const LOST_MS = 500;
const AUTHORITATIVE = 0x400;
const RECURSION_DESIRED = 0x100;
const ID_BYTES = 2;

/** Query for the address of host number `i`, and its answer, both with an ID of 0. */
function exchange(i: number): { query: Uint8Array; answer: Uint8Array } {
  const name = `host${i}.example.test`;
  const questions = [{ type: "A", class: "IN", name }] as const;
  const data = `198.19.${i >> 8}.${i & 255}`;
  return {
    query: encode({ type: "query", id: 0, flags: RECURSION_DESIRED, questions: [...questions] }),
    answer: encode({
      type: "response",
      id: 0,
      flags: AUTHORITATIVE | RECURSION_DESIRED,
      questions: [...questions],
      answers: [{ type: "A", name, ttl: 300, data }],
    }),
  };
}

/** Queries for all hosts, one after another; the ID of each is where its turn is remembered. */
class Load {
  private readonly exchanges = Array.from({ length: HOSTS }, (_, i) => exchange(i));
  /** Host asked for by ID, -1 when no answer is awaited, and when that was. */
  private readonly asked: Int32Array;
  private readonly askedAt: Float64Array;
  private readonly free: number[];
  private next = 0;
  answered = 0;
  wrong = 0;
  lost = 0;

  constructor(window: number) {
    this.asked = new Int32Array(window).fill(-1);
    this.askedAt = new Float64Array(window);
    this.free = Array.from({ length: window }, (_, i) => i);
  }

  clear(): void {
    this.answered = 0;
    this.wrong = 0;
    this.lost = 0;
  }

  /** Takes an answer. A late one to a query that was given up counts neither way. */
  take(answer: Uint8Array): void {
    const id = (answer[0] << 8) | answer[1];
    const host = id < this.asked.length ? this.asked[id] : -1;
    if (host < 0) return;
    this.answered++;
    if (!isEqual(answer, this.exchanges[host].answer)) this.wrong++;
    this.release(id);
  }

  /** The next query, or null when as many are under way as may be. In memory of its own until it is sent. */
  query(now: number): Uint8Array | null {
    const id = this.free.pop();
    if (id === undefined) return null;
    const host = this.next;
    this.next = host + 1 === HOSTS ? 0 : host + 1;
    this.asked[id] = host;
    this.askedAt[id] = now;
    const query = this.exchanges[host].query.slice();
    query[0] = id >> 8;
    query[1] = id & 0xff;
    return query;
  }

  /** Gives up queries that were asked too long ago. */
  giveUp(now: number): void {
    for (let id = 0; id < this.asked.length; id++) {
      if (this.asked[id] < 0 || now - this.askedAt[id] < LOST_MS) continue;
      this.lost++;
      this.release(id);
    }
  }

  private release(id: number): void {
    this.asked[id] = -1;
    this.free.push(id);
  }
}

/** But for the ID. */
function isEqual(answer: Uint8Array, right: Uint8Array): boolean {
  if (answer.length !== right.length) return false;
  for (let i = ID_BYTES; i < right.length; i++) if (answer[i] !== right[i]) return false;
  return true;
}

async function main(options: DnsLoadOptions): Promise<void> {
  const load = new Load(options.window);
  const ask = (): void => {
    const now = performance.now();
    const queries: Uint8Array[] = [];
    for (let query = load.query(now); query !== null; query = load.query(now)) queries.push(query);
    if (queries.length > 0) socket.sendMany(queries);
  };
  const socket = await Bun.udpSocket({
    connect: { hostname: options.address, port: options.port },
    socket: {
      data: (_, answer) => load.take(answer),
      // The server does not listen yet.
      error() {},
    },
  });
  const deadline = performance.now() + options.patienceMs;
  while (load.answered === 0) {
    if (performance.now() > deadline) throw new Error(`no answer within ${options.patienceMs} ms`);
    load.giveUp(Number.POSITIVE_INFINITY);
    try {
      socket.send(load.query(performance.now()) as Uint8Array);
    } catch {}
    await Bun.sleep(20);
  }
  const run = async (milliseconds: number): Promise<number> => {
    const start = performance.now();
    for (let now = start; now - start < milliseconds; now = performance.now()) {
      ask();
      load.giveUp(now);
      await new Promise((resolve) => setImmediate(resolve));
    }
    return performance.now() - start;
  };
  await run(options.warmupMs);
  load.clear();
  const elapsedMs = await run(options.measureMs);
  const { answered, lost, wrong } = load;
  console.log(JSON.stringify({ answered, wrong, lost, elapsedMs } satisfies DnsLoadResult));
  process.exit(0);
}

if (import.meta.main) await main(JSON.parse(process.argv[2]) as DnsLoadOptions);
