/**
 * Which listener a SYN is for: one lcore's view of the TCP sockets in the socket table, kept up to date from its change log.
 *
 * Order, as Linux looks (net/ipv4/inet_hashtables.c, __inet_lookup_listener; net/ipv6/inet6_hashtables.c): listeners bound to
 * the destination address, and where none of them takes it the wildcards; among those the best by compute_score, of equals the
 * one that listens latest. A reuseport group ends the search: its program chooses, then the NAPI ID and the CPU that members
 * ask for, then the hash.
 */
import { flowHash, type GroupChoice, memberOf, NOBODY } from "../group-choice.ts";
import { PORTS_MAX } from "../shared.ts";
import {
  AF_INET,
  DEVICE,
  F_LISTEN,
  F_V6ONLY,
  FAMILY,
  FLAGS,
  FREE,
  GENERATION,
  GROUP,
  INCOMING_CPU,
  IPPROTO_TCP,
  LOCAL,
  LOCAL_PORT,
  PROTOCOL,
  type SocketTable,
  STATE,
} from "../table.ts";

interface Known {
  readonly generation: number;
  readonly port: number;
}

export class Listeners {
  /** True once any TCP socket has been seen in the table. */
  hasTcp = false;
  private onListener: (id: number, listens: boolean) => void = () => {};

  private readonly table: SocketTable;
  private readonly choice: GroupChoice;
  private readonly seed: number;
  /** Index in `portInfo` of the lcore's port 0. */
  private readonly info: number;
  private readonly portInfo: Int32Array;
  private readonly known = new Map<number, Known>();
  /** Listeners of each port in the order of the look-up, the latest first. */
  private readonly ports = new Map<number, Int32Array>();

  constructor(table: SocketTable, choice: GroupChoice, seed: number, lcore: number, portInfo: Int32Array) {
    this.table = table;
    this.choice = choice;
    this.seed = seed;
    this.info = lcore * PORTS_MAX * 2;
    this.portInfo = portInfo;
  }

  /**
   * @param onListener hears which sockets listen, those that do so already at once, and each again whenever its words in the
   * plane `stream` may have changed; and which no longer do. Called with the table's mutex held
   */
  hear(onListener: (id: number, listens: boolean) => void): void {
    this.onListener = onListener;
    this.table.mutex.hold(() => {
      for (const id of this.known.keys()) onListener(id, true);
    });
  }

  /** Generation of the listener that these tables know by the id, 0 for none. */
  generation(id: number): number {
    return this.known.get(id)?.generation ?? 0;
  }

  /** See Lookup.listener(). */
  find(
    w: Int32Array,
    local: number,
    remote: number,
    ports: number,
    v6: boolean,
    portNumber: number,
    ifindex: number,
    bytes: Uint8Array,
    frame: number,
    ip: number,
    tcp: number,
    length: number,
  ): number {
    const candidates = this.ports.get(ports >>> 16);
    if (candidates === undefined) return NOBODY;
    const found = this.best(candidates, w, local, v6, portNumber, ifindex);
    if (found < 0) return NOBODY;
    const { table, choice } = this;
    const group = table.get(found, GROUP);
    if (group < 0) return found;
    const a = v6 ? w[local] ^ w[local + 1] ^ w[local + 2] : 0;
    const peer = v6 ? w[remote] ^ w[remote + 1] ^ w[remote + 2] ^ w[remote + 3] : w[remote + 3];
    const hash = flowHash(this.seed, a, w[local + 3], ports >>> 16, peer, ports & 0xffff);
    if (choice.programOf[group] !== 0) return choice.chooseTcp(group, bytes, portNumber, frame, ip, tcp, length);
    const count = table.groups.count(group);
    if (count === 0) return NOBODY;
    const first = memberOf(hash, count);
    if (table.groups.isPlain(group)) return table.groups.member(group, first);
    return choice.preferred(group, count, first, portNumber);
  }

  /** The listener that is preferred to all others, or the first of its reuseport group. */
  private best(
    candidates: Int32Array,
    w: Int32Array,
    local: number,
    v6: boolean,
    portNumber: number,
    ifindex: number,
  ): number {
    const { table } = this;
    for (let pass = 0; pass < 2; pass++) {
      let best = NOBODY;
      let bestScore = -1;
      for (let i = 0; i < candidates.length; i++) {
        const id = candidates[i];
        if (table.isAny(id) !== (pass === 1)) continue;
        const score = this.score(id, w, local, v6, portNumber, ifindex);
        if (score <= bestScore) continue;
        best = id;
        bestScore = score;
        if (table.get(id, GROUP) >= 0) return id;
      }
      if (best !== NOBODY) return best;
    }
    return NOBODY;
  }

  /** compute_score; -1: it does not take what comes to the address by the interface. */
  private score(id: number, w: Int32Array, local: number, v6: boolean, portNumber: number, ifindex: number): number {
    const { table } = this;
    if (table.isAny(id)) {
      const isV4 = table.isV4(id);
      if (v6 ? isV4 : !isV4 && (table.get(id, FLAGS) & F_V6ONLY) !== 0) return -1;
    } else {
      for (let i = 0; i < 4; i++) if (table.get(id, LOCAL + i) !== w[local + i]) return -1;
    }
    const device = table.get(id, DEVICE);
    if (device !== 0 && device !== ifindex) return -1;
    let score = device !== 0 ? 2 : 1;
    if (table.get(id, FAMILY) === AF_INET) score++;
    if (table.get(id, INCOMING_CPU) === this.portInfo[this.info + portNumber * 2]) score++;
    return score;
  }

  // ---- cold: following the socket table, with its mutex held ----

  apply(id: number): void {
    const { table, known } = this;
    const isTcp = table.get(id, STATE) !== FREE && table.get(id, PROTOCOL) === IPPROTO_TCP;
    const listens = isTcp && (table.get(id, FLAGS) & F_LISTEN) !== 0;
    if (isTcp) this.hasTcp = true;
    const before = known.get(id);
    const generation = table.get(id, GENERATION);
    const port = table.get(id, LOCAL_PORT);
    if (before !== undefined && (!listens || before.generation !== generation || before.port !== port)) {
      known.delete(id);
      this.follow(before.port);
      this.onListener(id, false);
    }
    if (!listens) return;
    known.set(id, { generation, port });
    this.follow(port);
    this.onListener(id, true);
  }

  private follow(port: number): void {
    const { table } = this;
    const ids: number[] = [];
    for (let id = table.firstBound(IPPROTO_TCP, port); id >= 0; id = table.nextBound(id))
      if ((table.get(id, FLAGS) & F_LISTEN) !== 0) ids.push(id);
    if (ids.length > 0) this.ports.set(port, Int32Array.from(ids));
    else this.ports.delete(port);
  }
}
