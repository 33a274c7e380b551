/**
 * Sockets of the kernel and of the table side by side, changed at random: what scenarios of reuseport groups have in common,
 * of UDP and of TCP. Whatever is done to a pair is done to both, and both must say the same.
 */
import { type BpfMap, createMap, errnoName, SysError } from "af-xdp-bindings";
import type { Random } from "../../queues/random.ts";
import type { SocketArrayMap } from "../../sockets/bpf/maps/index.ts";
import type { BpfObjects } from "../../sockets/bpf/objects.ts";
import { GROUP, type SocketTable } from "../../sockets/table.ts";

/** A socket: its record in the table, and its descriptor in the kernel. */
export interface Pair {
  readonly id: number;
  readonly fd: number;
}

const nameOf = (result: number | string): string =>
  typeof result === "string" ? result : result < 0 ? errnoName(-result) : "0";

/** "0", or the errno of what is thrown. */
export function tell(call: () => unknown): string {
  try {
    call();
    return "0";
  } catch (error) {
    if (error instanceof SysError) return error.code;
    throw error;
  }
}

export abstract class GroupScenario<P extends Pair> {
  readonly pairs: P[] = [];
  readonly history: string[] = [];
  readonly wrong: string[] = [];
  /** Arrivals of which a program, an address or a CPU said whose they are, not the hash. */
  decided = 0;
  protected readonly random: Random;
  protected readonly map: SocketArrayMap;
  protected readonly kernelMap: BpfMap;
  private readonly table: SocketTable;

  /** @param entries of the map that programs choose sockets from */
  constructor(random: Random, world: { readonly bpf: BpfObjects; readonly table: SocketTable }, entries: number) {
    this.random = random;
    this.table = world.table;
    const shape = { valueSize: 8, maxEntries: entries };
    this.map = world.bpf.createMap({ type: "reuseport_sockarray", ...shape });
    this.kernelMap = createMap({ type: "BPF_MAP_TYPE_REUSEPORT_SOCKARRAY", keySize: 4, ...shape });
  }

  protected pick<T>(from: readonly T[]): T {
    return from[this.random.below(from.length)];
  }

  /** Puts a socket into the maps. */
  protected putIntoMap(index: number, at: number): void {
    const { fd, id } = this.pairs[at];
    const key = new Uint8Array(Uint32Array.of(index).buffer);
    const value = new Uint8Array(BigUint64Array.of(BigInt(fd)).buffer);
    const told = tell(() => this.kernelMap.update(key, value));
    this.agree(
      `map ${index} = ${at}`,
      told,
      tell(() => this.map.setSocket(index, id)),
    );
  }

  /** Results of a call, errors below 0 or by name. */
  protected agree(what: string, kernelSaid: number | string, tableSaid: number | string): void {
    const [kernel, here] = [nameOf(kernelSaid), nameOf(tableSaid)];
    this.history.push(`${what}: ${kernel}`);
    if (kernel !== here) this.fault(`${what}: kernel ${kernel}, here ${here}`);
  }

  protected fault(text: string): void {
    this.wrong.push(`${this.history.join("; ")}: ${text}`);
  }

  protected sameGroup(got: number, mine: number): boolean {
    const { pairs, table } = this;
    if (got < 0 || mine < 0) return got === mine;
    return table.get(pairs[got].id, GROUP) === table.get(pairs[mine].id, GROUP);
  }
}
