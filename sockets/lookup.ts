/**
 * Which socket a datagram is for: one lcore's tables, derived from the shared socket table.
 *
 * Order, as Linux looks (net/ipv4/udp.c, __udp4_lib_lookup): a socket connected to the 4-tuple, then one bound to the
 * destination address, then the wildcard. Where several sockets could take it, the reuseport group chooses by hash,
 * after preferences for the CPU or the NAPI ID; without a group the score decides and the latest binding wins.
 */

import { registryOf } from "./bpf/attach.ts";
import { Programs } from "./bpf/programs.ts";
import { FlowTable } from "./flow-table.ts";
import { FlowTable6 } from "./flow-table6.ts";
import { flowHash, GroupChoice, memberOf, NOBODY } from "./group-choice.ts";
import { PORTS_MAX } from "./shared.ts";
import { Listeners } from "./stream/listeners.ts";
import {
  AF_INET,
  CONNECTED,
  DEVICE,
  F_CHILD,
  F_TIMESTAMP,
  F_V6ONLY,
  FAMILY,
  FILTER,
  FLAGS,
  FREE,
  GENERATION,
  GROUP,
  INCOMING_CPU,
  IPPROTO_UDP,
  LOCAL,
  LOCAL_PORT,
  NO_RECORD,
  PROTOCOL,
  REMOTE,
  REMOTE_PORT,
  type SocketTable,
  STATE,
} from "./table.ts";
import { IPV6_DST, IPV6_SRC } from "./wire/ipv6.ts";
import { readInt32 } from "./wire/views.ts";

/** A wildcard entry that must be scored socket by socket: several candidates without a group, or bound to devices. */
const SCORED = -2;
/** At or below: reuseport group number GROUPS - entry. As an answer: choose() is to ask the group's program. */
const GROUPS = -3;

/** What this lcore has put into its flow table for a socket id, so that it can take it out again. */
const KEY_WORDS = 16;
const K_PRESENT = 0;
const K_PORT = 1;
const K_LOCAL = 2;
const K_REMOTE = 6;
const K_REMOTE_PORT = 10;
const K_CONNECTED = 11;
const K_CHILD = 12;
const K_GENERATION = 13;
/** Slot of its socket filter + 1, 0 for none. */
const K_FILTER = 14;

export { NOBODY } from "./group-choice.ts";

export class Lookup {
  /** True while some socket wants arrival times: only then does the packet path look for them. */
  stamps = false;

  private readonly table: SocketTable;
  private readonly lcore: number;
  private readonly portInfo: Int32Array;
  /** Connected sockets by 4-tuple, and bound addresses with remote address and port 0. */
  readonly flows4: FlowTable;
  private readonly flows6: FlowTable6;
  /** Wildcard bindings by local port, per family. */
  private readonly any4 = new Int32Array(65536).fill(NOBODY);
  private readonly any6 = new Int32Array(65536).fill(NOBODY);
  /**
   * The socket that takes every IPv4 datagram to a local port: bound to the wildcard, alone, nothing connected there nor
   * bound to an address. NOBODY where more has to be looked at. Spares the common server two calls a datagram, 6 ns of 50.
   */
  readonly only4 = new Int32Array(65536).fill(NOBODY);
  /** Sockets connected on a local port (to a port that is not 0), and distinct addresses bound at it: 0 spares a look into the flow table. */
  readonly connected = new Int32Array(65536);
  private readonly specific = new Int32Array(65536);
  private readonly keys: Int32Array;
  /** Addresses for which the flow table has an entry, per local port: cold. */
  private readonly specificOf = new Map<number, Int32Array[]>();
  private readonly stamping = new Set<number>();
  /** BPF programs of sockets and groups, as this lcore runs them. */
  readonly programs: Programs;
  private readonly choice: GroupChoice;
  /** SocketTable.touch() was called since somebody has seen to it. */
  touched = false;
  /** TCP sockets that listen. */
  readonly listeners: Listeners;
  /** Hears which sockets have a filter, and which no longer. */
  onFilter: (id: number, has: boolean) => void = () => {};
  /** Connected sockets that a later one on the same 4-tuple hides. */
  private shadowed = 0;
  private readonly seed: number;
  private seen = 0;

  constructor(table: SocketTable, seed: number, lcore: number, portInfo: Int32Array) {
    this.table = table;
    this.seed = seed | 0;
    this.lcore = lcore;
    this.portInfo = portInfo;
    // Connected sockets and bound addresses: at most two entries a socket.
    const flows = Math.min(1024, 2 * table.capacity);
    this.flows4 = new FlowTable(flows, 2 * table.capacity, seed);
    this.flows6 = new FlowTable6(flows, 2 * table.capacity, seed);
    this.keys = new Int32Array(table.capacity * KEY_WORDS);
    this.programs = new Programs(table.bpf, registryOf(table));
    this.choice = new GroupChoice(table, this.programs, this.seed, lcore, portInfo);
    this.listeners = new Listeners(table, this.choice, this.seed, lcore, portInfo);
    table.mutex.hold(() => this.rescan(table.version()));
  }

  /** True once any TCP socket has been seen in the table. */
  get hasTcp(): boolean {
    return this.listeners.hasTcp;
  }

  /** Takes who is to hear of listeners, see Listeners: at once of those that listen already. */
  set onListener(hear: (id: number, listens: boolean) => void) {
    this.listeners.hear(hear);
  }

  /**
   * The socket that listens for a TCP segment (a SYN, or what answers one's cookie), or NOBODY: also where a program drops it.
   * @param w memory of the addresses, four words each, IPv4 mapped: the local one at `local`, the peer's at `remote`
   * @param ports local << 16 | remote
   * @param v6 whether it came over IPv6
   * @param portNumber the lcore's port by which it came, of the interface `ifindex`
   * @param bytes frame memory, in which the Ethernet, IP and TCP headers begin at `frame`, `ip` and `tcp`: for programs
   * @param length bytes from the TCP header on
   */
  listener(
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
    return this.listeners.find(w, local, remote, ports, v6, portNumber, ifindex, bytes, frame, ip, tcp, length);
  }

  /** Generation of the socket that these tables know by the id: another one may have it since. */
  generation(id: number): number {
    return this.keys[id * KEY_WORDS + K_GENERATION];
  }

  /** Slot of a socket's filter + 1, 0 for none. */
  filter(id: number): number {
    return this.keys[id * KEY_WORDS + K_FILTER];
  }

  isStale(): boolean {
    return this.table.version() !== this.seen;
  }

  /** Replays the changes since the last call. Cold: takes the table's mutex. */
  sync(): void {
    const { table } = this;
    table.mutex.hold(() => {
      const until = table.version();
      const isWhole = table.replay(this.seen, until, (id) => {
        if (id === NO_RECORD) this.touched = true;
        else this.apply(id);
      });
      if (!isWhole) this.rescan(until);
      this.seen = until;
      table.bpf.markSeen(this.lcore, until);
    });
  }

  /** Socket for an IPv4 datagram, or NOBODY; or below NOBODY: choose() says. Addresses are int32, ports host order. */
  udp4(
    local: number,
    localPort: number,
    remote: number,
    remotePort: number,
    portNumber: number,
    ifindex: number,
  ): number {
    if (this.connected[localPort] > 0) {
      const found = this.flows4.lookup(IPPROTO_UDP, local, localPort, remote, remotePort);
      if (found >= 0 && remotePort !== 0) return found;
    }
    return this.bound4(local, localPort, remote, remotePort, portNumber, ifindex);
  }

  /** udp4() for a datagram to which no connected socket belongs. */
  bound4(
    local: number,
    localPort: number,
    remote: number,
    remotePort: number,
    portNumber: number,
    ifindex: number,
  ): number {
    let entry = NOBODY;
    if (this.specific[localPort] > 0) {
      const found = this.flows4.lookup(IPPROTO_UDP, local, localPort, 0, 0);
      if (found >= 0) entry = decode(found);
    }
    if (entry === NOBODY) entry = this.any4[localPort];
    if (entry >= NOBODY) return entry;
    if (entry === SCORED) {
      entry = this.score(true, localPort, 0, 0, 0xffff, local, portNumber, ifindex);
      if (entry >= NOBODY) return entry;
    }
    return this.select(GROUPS - entry, flowHash(this.seed, 0, local, localPort, remote, remotePort), portNumber);
  }

  /** udp4() for the IPv6 datagram whose header is at `ip`. */
  udp6(
    bytes: Uint8Array,
    ip: number,
    localPort: number,
    remotePort: number,
    portNumber: number,
    ifindex: number,
  ): number {
    const l0 = readInt32(bytes, ip + IPV6_DST);
    const l1 = readInt32(bytes, ip + IPV6_DST + 4);
    const l2 = readInt32(bytes, ip + IPV6_DST + 8);
    const l3 = readInt32(bytes, ip + IPV6_DST + 12);
    const r0 = readInt32(bytes, ip + IPV6_SRC);
    const r1 = readInt32(bytes, ip + IPV6_SRC + 4);
    const r2 = readInt32(bytes, ip + IPV6_SRC + 8);
    const r3 = readInt32(bytes, ip + IPV6_SRC + 12);
    if (this.connected[localPort] > 0) {
      const { key } = this.flows6;
      key[0] = l0;
      key[1] = l1;
      key[2] = l2;
      key[3] = l3;
      key[4] = r0;
      key[5] = r1;
      key[6] = r2;
      key[7] = r3;
      const found = this.flows6.lookup(IPPROTO_UDP, localPort, remotePort);
      if (found >= 0 && remotePort !== 0) return found;
    }
    let entry = NOBODY;
    if (this.specific[localPort] > 0) {
      const { key } = this.flows6;
      key[0] = l0;
      key[1] = l1;
      key[2] = l2;
      key[3] = l3;
      key.fill(0, 4);
      const found = this.flows6.lookup(IPPROTO_UDP, localPort, 0);
      if (found >= 0) entry = decode(found);
    }
    if (entry === NOBODY) entry = this.any6[localPort];
    if (entry >= NOBODY) return entry;
    if (entry === SCORED) {
      entry = this.score(false, localPort, l0, l1, l2, l3, portNumber, ifindex);
      if (entry >= NOBODY) return entry;
    }
    return this.select(
      GROUPS - entry,
      flowHash(this.seed, l0 ^ l1 ^ l2, l3, localPort, r0 ^ r1 ^ r2 ^ r3, remotePort),
      portNumber,
    );
  }

  /**
   * A member of a reuseport group, as reuseport_select_sock_by_hash (net/core/sock_reuseport.c): the hash names where to
   * begin, and the first member from there that asked for this NAPI ID, then this CPU, is preferred. A connected member
   * takes its own flow only.
   */
  private select(group: number, hash: number, portNumber: number): number {
    const { table } = this;
    const count = table.groups.count(group);
    if (count === 0) return NOBODY;
    const first = memberOf(hash, count);
    if (table.groups.isPlain(group)) return table.groups.member(group, first);
    if (this.choice.programOf[group] !== 0) return GROUPS - group;
    return this.choice.preferred(group, count, first, portNumber);
  }

  /** The socket of a group whose program is to be asked first: `answer` is what a look-up gave for `programs.arrival`. */
  choose(answer: number, bytes: Uint8Array, portNumber: number): number {
    return this.choice.choose(GROUPS - answer, bytes, portNumber);
  }

  /** What a look-up would have given for a datagram that the kernel has given to a socket: the socket, or for choose(). */
  again(socket: number): number {
    const { table } = this;
    const group = table.get(socket, GROUP);
    if (group < 0 || this.choice.programOf[group] === 0 || table.get(socket, STATE) === CONNECTED) return socket;
    return GROUPS - group;
  }

  /**
   * Sockets one by one as in udp4_lib_lookup2: those bound to the address, and when none of them takes it, the wildcards. The
   * best by compute_score, the first among equals; a reuseport group ends the search.
   */
  private score(
    is4: boolean,
    localPort: number,
    l0: number,
    l1: number,
    l2: number,
    l3: number,
    portNumber: number,
    ifindex: number,
  ): number {
    const { table } = this;
    for (let pass = 0; pass < 2; pass++) {
      let best = NOBODY;
      let bestScore = -1;
      for (let id = table.firstBound(IPPROTO_UDP, localPort); id >= 0; id = table.nextBound(id)) {
        if (table.isAny(id) !== (pass === 1)) continue;
        const score = this.scoreOf(id, is4, l0, l1, l2, l3, portNumber, ifindex);
        if (score <= bestScore) continue;
        best = id;
        bestScore = score;
        const group = table.get(id, GROUP);
        if (group >= 0) return GROUPS - group;
      }
      if (best !== NOBODY) return best;
    }
    return NOBODY;
  }

  private scoreOf(
    id: number,
    is4: boolean,
    l0: number,
    l1: number,
    l2: number,
    l3: number,
    portNumber: number,
    ifindex: number,
  ): number {
    const { table } = this;
    // A connected socket is found by its 4-tuple or not at all.
    if (table.get(id, STATE) === CONNECTED) return -1;
    const any = table.isAny(id);
    if (any) {
      const v4 = table.isV4(id);
      if (is4 ? !v4 && (table.get(id, FLAGS) & F_V6ONLY) !== 0 : v4) return -1;
    } else if (
      table.get(id, LOCAL) !== l0 ||
      table.get(id, LOCAL + 1) !== l1 ||
      table.get(id, LOCAL + 2) !== l2 ||
      table.get(id, LOCAL + 3) !== l3
    ) {
      return -1;
    }
    let score = table.get(id, FAMILY) === AF_INET ? 2 : 1;
    const device = table.get(id, DEVICE);
    if (device !== 0) {
      if (device !== ifindex) return -1;
      score += 4;
    }
    if (table.get(id, INCOMING_CPU) === this.portInfo[(this.lcore * PORTS_MAX + portNumber) * 2]) score++;
    return score;
  }

  // ---- cold: following the socket table ----

  private rescan(until: number): void {
    this.touched = true;
    const { table } = this;
    for (let id = 0; id < table.highWater; id++) this.apply(id);
    this.seen = until;
    table.bpf.markSeen(this.lcore, until);
  }

  private apply(id: number): void {
    const { table, keys } = this;
    const free = table.get(id, STATE) === FREE;
    const known = keys[id * KEY_WORDS + K_PRESENT] === 1;
    // Taken out and put in again, it would hide those that were connected to the same peer after it.
    if (known && !free && this.isAsKnown(id)) this.settle(id);
    else if (known) this.forget(id);
    if (
      !free &&
      keys[id * KEY_WORDS + K_PRESENT] === 0 &&
      table.get(id, PROTOCOL) === IPPROTO_UDP &&
      table.get(id, LOCAL_PORT) !== 0
    )
      this.learn(id);
    if (!free && (table.get(id, FLAGS) & F_TIMESTAMP) !== 0) this.stamping.add(id);
    else this.stamping.delete(id);
    this.stamps = this.stamping.size > 0;
    this.followPrograms(id, free);
    this.listeners.apply(id);
  }

  /** Makes ready what the socket's filter and its group's program run as. */
  private followPrograms(id: number, free: boolean): void {
    const { keys, programs, table } = this;
    const at = id * KEY_WORDS + K_FILTER;
    const filter = free ? 0 : table.get(id, FILTER);
    if (filter !== 0) programs.prepare(filter - 1);
    if (filter !== 0 || keys[at] !== 0) this.onFilter(id, filter !== 0);
    keys[at] = filter;
    const group = table.get(id, GROUP);
    if (free || group < 0) return;
    const program = table.groups.program(group);
    if (program !== 0) programs.prepare(program - 1);
    this.choice.programOf[group] = program;
  }

  /** Whether a socket has the addresses, ports and connection that these tables know it with. */
  private isAsKnown(id: number): boolean {
    const { table, keys } = this;
    const at = id * KEY_WORDS;
    for (let i = 0; i < 4; i++) {
      if (keys[at + K_LOCAL + i] !== table.get(id, LOCAL + i)) return false;
      if (keys[at + K_REMOTE + i] !== table.get(id, REMOTE + i)) return false;
    }
    return (
      keys[at + K_PORT] === table.get(id, LOCAL_PORT) &&
      keys[at + K_REMOTE_PORT] === table.get(id, REMOTE_PORT) &&
      (keys[at + K_CONNECTED] === 1) === (table.get(id, STATE) === CONNECTED) &&
      keys[at + K_GENERATION] === table.get(id, GENERATION)
    );
  }

  /** Brings the entries of a socket's port up to date. */
  private settle(id: number): void {
    const at = id * KEY_WORDS;
    if (this.keys[at + K_CHILD] === 0) this.rebuild(this.keys[at + K_PORT]);
    else this.setOnly(this.keys[at + K_PORT]);
  }

  private learn(id: number): void {
    const { table, keys } = this;
    const at = id * KEY_WORDS;
    const port = table.get(id, LOCAL_PORT);
    keys[at + K_PRESENT] = 1;
    keys[at + K_PORT] = port;
    for (let i = 0; i < 4; i++) {
      keys[at + K_LOCAL + i] = table.get(id, LOCAL + i);
      keys[at + K_REMOTE + i] = table.get(id, REMOTE + i);
    }
    keys[at + K_REMOTE_PORT] = table.get(id, REMOTE_PORT);
    keys[at + K_CONNECTED] = table.get(id, STATE) === CONNECTED ? 1 : 0;
    keys[at + K_GENERATION] = table.get(id, GENERATION);
    keys[at + K_CHILD] = (table.get(id, FLAGS) & F_CHILD) === 0 ? 0 : 1;
    if (keys[at + K_CONNECTED] === 1) {
      const flow = this.flowOf(at);
      if (this.valueOf(flow) >= 0) this.shadowed++;
      this.insert(flow, id);
      this.connected[port]++;
    }
    this.settle(id);
  }

  private setOnly(port: number): void {
    const shared = this.connected[port] > 0 || this.specific[port] > 0;
    this.only4[port] = shared || this.any4[port] < 0 ? NOBODY : this.any4[port];
  }

  private forget(id: number): void {
    const { keys } = this;
    const at = id * KEY_WORDS;
    const port = keys[at + K_PORT];
    keys[at + K_PRESENT] = 0;
    if (keys[at + K_CONNECTED] === 1) {
      this.removeConnected(id, this.flowOf(at));
      this.connected[port]--;
    }
    keys[at + K_GENERATION] = 0;
    this.settle(id);
  }

  private flowOf(at: number): Flow {
    const { keys } = this;
    const ports = { port: keys[at + K_PORT], remotePort: keys[at + K_REMOTE_PORT] };
    return { local: keys, l: at + K_LOCAL, remote: keys, r: at + K_REMOTE, ...ports };
  }

  /** Makes the entries of a port anew from the sockets bound to it. */
  private rebuild(port: number): void {
    const { table } = this;
    for (const address of this.specificOf.get(port) ?? []) this.remove(boundFlow(address, port));
    this.specificOf.delete(port);
    let v4 = NOBODY;
    let v6 = NOBODY;
    let both = NOBODY;
    const specific = new Map<string, { address: Int32Array; entry: number }>();
    for (let id = table.firstBound(IPPROTO_UDP, port); id >= 0; id = table.nextBound(id)) {
      if (table.get(id, STATE) === CONNECTED) continue;
      const group = table.get(id, GROUP);
      const entry = table.get(id, DEVICE) !== 0 ? SCORED : group >= 0 ? GROUPS - group : id;
      if (!table.isAny(id)) {
        const address = Int32Array.from([0, 1, 2, 3], (i) => table.get(id, LOCAL + i));
        const key = address.join();
        specific.set(key, { address, entry: merge(specific.get(key)?.entry ?? NOBODY, entry) });
      } else if (table.get(id, FAMILY) === AF_INET) {
        v4 = merge(v4, entry);
      } else if (table.isV4(id)) {
        both = merge(both, entry);
      } else {
        v6 = merge(v6, entry);
        if ((table.get(id, FLAGS) & F_V6ONLY) === 0) both = merge(both, entry);
      }
    }
    this.any6[port] = v6;
    // An IPv4 socket is preferred to an IPv6 one that also takes IPv4 (compute_score), unless devices play a part.
    this.any4[port] = v4 === NOBODY ? both : both === SCORED ? SCORED : v4;
    this.specific[port] = specific.size;
    this.setOnly(port);
    if (specific.size === 0) return;
    for (const { address, entry } of specific.values()) this.insert(boundFlow(address, port), encode(entry));
    this.specificOf.set(
      port,
      [...specific.values()].map(({ address }) => address),
    );
  }

  /** Puts a flow into its family's table: the four words at `l` of `local` and at `r` of `remote`. */
  private insert(flow: Flow, value: number): void {
    const { local, l, port, remote, r, remotePort } = flow;
    if (isMapped(local, l)) {
      this.flows4.insert(IPPROTO_UDP, local[l + 3], port, remote[r + 3], remotePort, value);
    } else {
      this.loadKey6(flow);
      this.flows6.insert(IPPROTO_UDP, port, remotePort, value);
    }
  }

  private remove(flow: Flow): void {
    const { local, l, port, remote, r, remotePort } = flow;
    if (isMapped(local, l)) {
      this.flows4.remove(IPPROTO_UDP, local[l + 3], port, remote[r + 3], remotePort);
    } else {
      this.loadKey6(flow);
      this.flows6.remove(IPPROTO_UDP, port, remotePort);
    }
  }

  /** Takes a connected socket's flow out; where another socket is connected to the same peer, that one has it now. */
  private removeConnected(id: number, flow: Flow): void {
    if (this.valueOf(flow) !== id) {
      this.shadowed--;
      return;
    }
    this.remove(flow);
    if (this.shadowed === 0) return;
    const { table } = this;
    // The latest bound first; flows of other sockets are bound to nothing themselves.
    let heir = table.firstBound(IPPROTO_UDP, flow.port);
    while (heir >= 0 && (heir === id || !this.hasFlow(heir, flow))) heir = table.nextBound(heir);
    for (let other = 0; heir < 0 && other < table.highWater; other++) {
      if (other !== id && this.hasFlow(other, flow)) heir = other;
    }
    if (heir < 0) return;
    this.insert(flow, heir);
    this.shadowed--;
  }

  /** Whether these tables know a socket as connected on the 4-tuple. */
  private hasFlow(id: number, { local, l, port, remote, r, remotePort }: Flow): boolean {
    const { keys } = this;
    const at = id * KEY_WORDS;
    if (keys[at + K_PRESENT] === 0 || keys[at + K_CONNECTED] === 0) return false;
    if (keys[at + K_PORT] !== port || keys[at + K_REMOTE_PORT] !== remotePort) return false;
    for (let i = 0; i < 4; i++)
      if (keys[at + K_LOCAL + i] !== local[l + i] || keys[at + K_REMOTE + i] !== remote[r + i]) return false;
    return true;
  }

  /** The socket connected on a 4-tuple, -1 for none. Addresses are four words, IPv4 mapped. */
  connectedTo(local: Int32Array, port: number, remote: Int32Array, remotePort: number): number {
    return this.connected[port] === 0 ? -1 : this.valueOf({ local, l: 0, port, remote, r: 0, remotePort });
  }

  private valueOf(flow: Flow): number {
    const { local, l, port, remote, r, remotePort } = flow;
    if (isMapped(local, l)) return this.flows4.lookup(IPPROTO_UDP, local[l + 3], port, remote[r + 3], remotePort);
    this.loadKey6(flow);
    return this.flows6.lookup(IPPROTO_UDP, port, remotePort);
  }

  private loadKey6({ local, l, remote, r }: Flow): void {
    for (let i = 0; i < 4; i++) {
      this.flows6.key[i] = local[l + i];
      this.flows6.key[4 + i] = remote[r + i];
    }
  }
}

interface Flow {
  readonly local: Int32Array;
  readonly l: number;
  readonly port: number;
  readonly remote: Int32Array;
  readonly r: number;
  readonly remotePort: number;
}

/** The entry of an address bound at a port. */
function boundFlow(local: Int32Array, port: number): Flow {
  return { local, l: 0, port, remote: NO_ADDRESS, r: 0, remotePort: 0 };
}

const NO_ADDRESS = new Int32Array(4);

function isMapped(words: Int32Array, at: number): boolean {
  return words[at] === 0 && words[at + 1] === 0 && words[at + 2] === 0xffff;
}

/** Two candidates for one address: the same group is one candidate, anything else must be scored. */
function merge(a: number, b: number): number {
  return a === NOBODY || a === b ? b : SCORED;
}

/** The flow table holds values from 0 on: socket ids as they are, then SCORED, then groups. */
const GROUP_BASE = 1 << 23;
const SCORED_VALUE = GROUP_BASE - 1;

function encode(entry: number): number {
  if (entry === SCORED) return SCORED_VALUE;
  return entry <= GROUPS ? GROUP_BASE + (GROUPS - entry) : entry;
}

function decode(value: number): number {
  if (value < SCORED_VALUE) return value;
  return value === SCORED_VALUE ? SCORED : GROUPS - (value - GROUP_BASE);
}
