/** Echo round trips, one in flight: the same kernel client against each peer in turn, round after round. */
import type { ClientOptions, ClientResult } from "./client.ts";
import type { Peer, XdpMode } from "./peers.ts";
import { Rounds } from "./ratio.ts";
import { type Child, drain, GENERATOR_CPU, int32Of, linesOf, PORT, Testbed } from "./testbed.ts";

export interface RttOptions {
  modes: readonly XdpMode[];
  rounds: number;
  measureMs: number;
  warmupMs: number;
}

/** A row of the table. Microseconds. */
export interface RttRow {
  readonly peer: string;
  readonly title: string;
  readonly mode: XdpMode | "";
  readonly p50: Rounds;
  readonly p99: Rounds;
  readonly p999: Rounds;
  readonly max: Rounds;
  lost: number;
}

export async function measureRtt(
  peers: readonly Peer[],
  options: RttOptions,
  progress: (text: string) => void,
): Promise<RttRow[]> {
  const rows = peers.flatMap((peer) =>
    (peer.usesXdp ? options.modes : ([""] as const)).map((mode) => ({ peer, row: newRow(peer, mode) })),
  );
  for (let round = 0; round < options.rounds; round++) {
    for (const { peer, row } of rows) {
      const result = await rttOnce(peer, row.mode === "" ? "skb" : row.mode, options);
      row.p50.add(result.p50);
      row.p99.add(result.p99);
      row.p999.add(result.p999);
      row.max.add(result.max);
      row.lost += result.lost;
      progress(`${round + 1}/${options.rounds} ${peer.title} ${row.mode}: p50 ${result.p50} p99 ${result.p99} us`);
    }
  }
  return rows.map(({ row }) => row);
}

function newRow(peer: Peer, mode: XdpMode | ""): RttRow {
  return {
    peer: peer.name,
    title: peer.title,
    mode,
    p50: new Rounds(),
    p99: new Rounds(),
    p999: new Rounds(),
    max: new Rounds(),
    lost: 0,
  };
}

async function rttOnce(peer: Peer, mode: XdpMode, options: RttOptions): Promise<ClientResult> {
  const testbed = new Testbed();
  try {
    const server = peer.start(testbed, mode);
    void drain(server.stdout);
    const result = await clientResult(startClient(testbed, options.warmupMs, options.measureMs));
    await testbed.stop(server);
    return result;
  } finally {
    testbed.close();
  }
}

/** Starts the client against whatever serves in `b`; with `measureMs` 0 it ends at the first echo. */
export function startClient(testbed: Testbed, warmupMs: number, measureMs: number): Child {
  const options: ClientOptions = {
    address: int32Of(testbed.hosts.b.ipv4),
    port: PORT,
    warmupMs,
    measureMs,
    patienceMs: 10_000,
  };
  const command = [process.execPath, new URL("./client.ts", import.meta.url).pathname, JSON.stringify(options)];
  return testbed.spawn(testbed.hosts.a, command, GENERATOR_CPU);
}

/** What the client found out. Throws with its complaint when it failed. */
export async function clientResult(client: Child): Promise<ClientResult> {
  for await (const line of linesOf(client.stdout)) if (line.startsWith("{")) return JSON.parse(line) as ClientResult;
  throw new Error((await new Response(client.stderr).text()).trim());
}
