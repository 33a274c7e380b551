/**
 * The socket table: every socket of the engine, in shared memory, seen by every thread.
 *
 * Binding is a cold, synchronous act under one mutex, from whichever thread calls it, exactly as bind(2) is. The packet
 * path takes no lock: each lcore keeps its own lookup tables and brings them up to date from the *change log* when
 * `version` has moved (one atomic load a turn). An lcore that fell further behind than the log is long rescans the table.
 *
 * Writers: cold fields, the log and the groups are written under the mutex alone. Hot planes name their writer.
 */
import { ERRNO } from "af-xdp-bindings";
import { BpfStore } from "./bpf/store.ts";
import { Mutex } from "./mutex.ts";
import { GROUPS_MAX, REUSEPORT_WORDS, ReuseportGroups } from "./reuseport.ts";
import { STREAM_WORDS } from "./stream/stream-words.ts";
import { admit, BUCKET_WORDS } from "./stream/tcp-conflict.ts";
import {
  AF_INET,
  AF_INET6,
  BOUND,
  CONNECTED,
  DEVICE,
  F_CHILD,
  F_HASHED,
  F_LISTEN,
  F_REUSEADDR,
  F_REUSEPORT,
  F_V6ONLY,
  FAMILY,
  FILTER,
  FLAGS,
  FREE,
  GENERATION,
  GROUP,
  INCOMING_CPU,
  INCOMING_NAPI,
  IPPROTO_TCP,
  LOCAL,
  LOCAL_PORT,
  MULTICAST,
  NEXT,
  OPEN,
  ORDER,
  PLACEHOLDER,
  PROTOCOL,
  RECORD_WORDS,
  REMOTE_PORT,
  SNDBUF,
  SOCKARRAY,
  STATE,
  UID,
} from "./table-fields.ts";
import { repairTable } from "./table-repair.ts";

export * from "./table-fields.ts";

const CONTROL_WORDS = 64;
const C_MUTEX = 0;
const C_VERSION = 16; // a cache line of its own: every lcore polls it
const C_FREE_HEAD = 32;
const C_HIGH_WATER = 33;
const C_OPEN = 34;
const C_ORDER = 36;
const C_REPAIRS = 37;
const C_IDENT = 48; // a cache line of its own: every lcore that sends without DF adds to it

/** net.ipv4.ip_default_ttl, net.ipv6.conf.default.hop_limit. */
const TTL_DEFAULT = 64;
/** One hop, copies for this host, and all groups that anybody joined here. */
const MULTICAST_DEFAULT = 0x0301_0301;
/** Changes remembered; an lcore further behind rescans. */
const LOG_SLOTS = 4096;
/** In the log: of no record. */
export const NO_RECORD = -1;
const TCP_PORTS = 65536;
const PORT_HEADS = 65536 + TCP_PORTS; // ports for UDP, then for TCP

export interface TableDescriptor {
  readonly buffer: SharedArrayBuffer;
  readonly capacity: number;
  readonly lcores: number;
  /** Of the BpfStore. */
  readonly bpf: SharedArrayBuffer;
}

const pad = (bytes: number): number => (bytes + 127) & ~127;

export class SocketTable {
  readonly capacity: number;
  readonly lcores: number;
  /** Cold records: `records[id * stride + FIELD]`. */
  readonly records: Int32Array;
  readonly stride = RECORD_WORDS;
  /** Hot plane: thread that reads the socket. Written at open. */
  readonly home: Uint8Array;
  /** Hot plane: receive buffer limit, bytes as getsockopt reports it. Written by the home thread. */
  readonly rcvbuf: Int32Array;
  /** Hot planes: how the socket sends over IPv4, and over IPv6: see send-word.ts. Written by the home thread. */
  readonly ttlTos: Int32Array;
  readonly ttlTos6: Int32Array;
  /** Hot plane: (CPU << 24 | NAPI ID & 0xffffff) + 1 of the last packet, 0 before it. Written by the delivering lcore. */
  readonly lastRx: Int32Array;
  /** Hot planes, one a lcore: bytes charged to the socket's queue, a running sum. Written by that lcore. */
  readonly charged: Int32Array[];
  /** Hot planes, one a lcore: bytes of those that the reader has taken, a running sum. Written by the home thread. */
  readonly credited: Int32Array[];
  /** Options and backlog of TCP sockets, STREAM_WORDS words each: see stream/stream-words.ts. */
  readonly stream: Int32Array;
  /** What binding remembers of each TCP port: see stream/tcp-conflict.ts. */
  readonly buckets: Int32Array;
  readonly groups: ReuseportGroups;
  readonly mutex: Mutex;
  /** BPF programs and maps. */
  readonly bpf: BpfStore;

  private readonly control: Int32Array;
  private readonly log: Int32Array;
  private readonly heads: Int32Array;

  static bytes(capacity: number, lcores: number): number {
    return (
      CONTROL_WORDS * 4 +
      LOG_SLOTS * 4 +
      PORT_HEADS * 4 +
      REUSEPORT_WORDS * 4 +
      TCP_PORTS * BUCKET_WORDS * 4 +
      capacity * RECORD_WORDS * 4 +
      pad(capacity) +
      pad(capacity * 4) * (4 + 2 * lcores) +
      pad(capacity * STREAM_WORDS * 4)
    );
  }

  /** Set-up: memory for `capacity` sockets, and for BPF programs and maps. Pages are touched only as they come. */
  static create(capacity: number, lcores: number, bpfBytes?: number): SocketTable {
    if (capacity < 1 || capacity > 1 << 22) throw new RangeError(`sockets: ${capacity} is outside 1..${1 << 22}`);
    const table = new SocketTable({
      buffer: new SharedArrayBuffer(SocketTable.bytes(capacity, lcores)),
      capacity,
      lcores,
      bpf: BpfStore.create(bpfBytes).buffer,
    });
    table.control[C_FREE_HEAD] = -1;
    table.heads.fill(-1);
    return table;
  }

  constructor(descriptor: TableDescriptor) {
    const { buffer, capacity, lcores } = descriptor;
    this.capacity = capacity;
    this.lcores = lcores;
    let at = 0;
    const words = (count: number): Int32Array => {
      const view = new Int32Array(buffer, at, count);
      at += pad(count * 4);
      return view;
    };
    this.control = words(CONTROL_WORDS);
    this.log = words(LOG_SLOTS);
    this.heads = words(PORT_HEADS);
    this.groups = new ReuseportGroups(words(REUSEPORT_WORDS));
    this.buckets = words(TCP_PORTS * BUCKET_WORDS);
    this.records = words(capacity * RECORD_WORDS);
    this.home = new Uint8Array(buffer, at, capacity);
    at += pad(capacity);
    this.ttlTos = words(capacity);
    this.ttlTos6 = words(capacity);
    this.rcvbuf = words(capacity);
    this.lastRx = words(capacity);
    this.charged = [];
    this.credited = [];
    for (let i = 0; i < lcores; i++) {
      this.charged.push(words(capacity));
      this.credited.push(words(capacity));
    }
    this.stream = words(capacity * STREAM_WORDS);
    this.mutex = new Mutex(this.control, C_MUTEX, () => this.repair());
    this.bpf = new BpfStore(descriptor.bpf);
  }

  descriptor(): TableDescriptor {
    const { bpf, capacity, control, lcores } = this;
    return { buffer: control.buffer as SharedArrayBuffer, capacity, lcores, bpf: bpf.buffer };
  }

  /** Identification of an IPv4 packet that may be fragmented on its way (RFC 6864): a count that the lcores share. */
  nextIdent(): number {
    return Atomics.add(this.control, C_IDENT, 1) & 0xffff;
  }

  /** Count of changes so far, wrapping. An lcore that sees it move replays the log. */
  version(): number {
    return Atomics.load(this.control, C_VERSION);
  }

  /** Sockets open now. */
  get open(): number {
    return Atomics.load(this.control, C_OPEN);
  }

  /** One past the highest id ever used: the bound of a full scan. */
  get highWater(): number {
    return Atomics.load(this.control, C_HIGH_WATER);
  }

  /** Reads a cold field. */
  get(id: number, field: number): number {
    return this.records[id * RECORD_WORDS + field] as number;
  }

  /** Writes a cold field; the caller holds the mutex or is the field's only writer. */
  set(id: number, field: number, value: number): void {
    this.records[id * RECORD_WORDS + field] = value;
  }

  /** Allocates a socket: its id, or -ENFILE when the table is full. */
  create(family: number, protocol: number, home: number, rcvbuf: number, sndbuf: number): number {
    return this.mutex.hold(() => {
      const { control } = this;
      let id = control[C_FREE_HEAD] as number;
      if (id >= 0) {
        control[C_FREE_HEAD] = this.get(id, NEXT);
      } else {
        id = control[C_HIGH_WATER] as number;
        if (id >= this.capacity) return -ERRNO.ENFILE;
        Atomics.store(control, C_HIGH_WATER, id + 1);
      }
      const at = id * RECORD_WORDS;
      const generation = this.records[at + GENERATION] as number;
      this.records[at + GENERATION] = (generation + 1) | 0;
      this.records.fill(0, at + GENERATION + 1, at + RECORD_WORDS);
      this.home[id] = home;
      this.set(id, PROTOCOL, protocol);
      this.set(id, INCOMING_CPU, -1);
      this.set(id, GROUP, -1);
      this.set(id, PLACEHOLDER, -1);
      // With a family it has a placeholder or none, whatever its state is.
      this.set(id, FAMILY, family);
      this.set(id, NEXT, -1);
      this.set(id, MULTICAST, MULTICAST_DEFAULT);
      this.ttlTos[id] = TTL_DEFAULT;
      this.ttlTos6[id] = TTL_DEFAULT;
      this.set(id, SNDBUF, sndbuf);
      this.rcvbuf[id] = rcvbuf;
      this.lastRx[id] = 0;
      if (protocol === IPPROTO_TCP) this.stream.fill(0, id * STREAM_WORDS, (id + 1) * STREAM_WORDS);
      for (let i = 0; i < this.lcores; i++) {
        (this.charged[i] as Int32Array)[id] = 0;
        (this.credited[i] as Int32Array)[id] = 0;
      }
      Atomics.add(control, C_OPEN, 1);
      // Last: what is open has nothing of its predecessor's.
      this.set(id, STATE, OPEN);
      return id;
    });
  }

  /**
   * Binds: LOCAL, LOCAL_PORT (not 0: the caller has chosen one), DEVICE, FLAGS, UID are set in the record. Checks for
   * conflicts as Linux does (udp_lib_lport_inuse), joins or makes the reuseport group, logs the change. The caller
   * holds the mutex. Returns 0, -EADDRINUSE, or -ENOSPC when the groups are used up. A TCP socket joins none yet: see
   * listenLocked().
   */
  bindLocked(id: number): number {
    const head = this.head(this.get(id, PROTOCOL), this.get(id, LOCAL_PORT));
    if (this.get(id, PROTOCOL) === IPPROTO_TCP) {
      const admitted = admit(this, id);
      return admitted < 0 ? admitted : this.bound(head, id);
    }
    let peer = -1;
    // Linux looks no further once it has found a socket to share the port with, from the latest on.
    let shared = false;
    for (let other = this.heads[head] as number; other >= 0; other = this.get(other, NEXT)) {
      if (!this.overlaps(id, other)) continue;
      const flags = this.get(id, FLAGS);
      const otherFlags = this.get(other, FLAGS);
      const shares = (flags & otherFlags & F_REUSEPORT) !== 0 && this.get(id, UID) === this.get(other, UID);
      const joins = shares && this.sameBinding(id, other);
      if (joins && (peer < 0 || this.get(other, ORDER) > this.get(peer, ORDER))) peer = other;
      if (shared || (flags & otherFlags & F_REUSEADDR) !== 0) continue;
      if (!shares) return -ERRNO.EADDRINUSE;
      shared = true;
    }
    if ((this.get(id, FLAGS) & F_REUSEPORT) !== 0) {
      const result = this.joinLocked(id, peer);
      if (result < 0) return result;
    }
    return this.bound(head, id);
  }

  private bound(head: number, id: number): 0 {
    this.link(head, id);
    this.set(id, STATE, BOUND);
    this.changed(id);
    return 0;
  }

  /**
   * A bound TCP socket listens, and with SO_REUSEPORT is a member of its group from now on (inet_csk_listen_start). Of one that
   * listens already the lcores are told that its words have changed. Mutex held. Returns 0, -EADDRINUSE or -ENOSPC.
   */
  listenLocked(id: number): number {
    const flags = this.get(id, FLAGS);
    if ((flags & F_LISTEN) === 0) {
      const admitted = admit(this, id);
      if (admitted < 0) return admitted;
      const joined = (flags & F_REUSEPORT) === 0 ? 0 : this.joinLocked(id, this.listenerLike(id));
      if (joined < 0) return joined;
      this.set(id, FLAGS, flags | F_LISTEN);
      // Listeners are looked at in the order in which they began to listen.
      this.unlink(id);
      this.link(this.head(IPPROTO_TCP, this.get(id, LOCAL_PORT)), id);
    }
    this.changed(id);
    return 0;
  }

  /** A TCP socket listens no more: it leaves its group, and keeps its port. Mutex held. */
  unlistenLocked(id: number): void {
    const flags = this.get(id, FLAGS);
    if ((flags & F_LISTEN) === 0) return;
    this.set(id, FLAGS, flags & ~F_LISTEN);
    const program = this.leaveGroup(id);
    this.changed(id);
    this.releaseProgram(program);
  }

  /** A listener whose reuseport group socket `id` is to join, -1 for none. */
  private listenerLike(id: number): number {
    const wanted = F_LISTEN | F_REUSEPORT;
    let other = this.firstBound(IPPROTO_TCP, this.get(id, LOCAL_PORT));
    while (other >= 0 && ((this.get(other, FLAGS) & wanted) !== wanted || !this.sameBinding(id, other)))
      other = this.nextBound(other);
    return other;
  }

  /**
   * Joins the reuseport group of `peer`, -1 for none: then it begins one of its own, unless a program was attached to one before
   * it was bound. As udp_reuseport_add_sock. Mutex held. Returns 0 or -ENOSPC.
   */
  private joinLocked(id: number, peer: number): number {
    const own = this.get(id, GROUP);
    if (peer < 0) return own >= 0 ? 0 : this.beginGroupLocked(id);
    // It has been connected, and left its group by that: it begins another one.
    const begun = this.get(peer, GROUP) < 0 ? this.beginGroupLocked(peer) : 0;
    if (begun < 0) return begun;
    const program = own >= 0 ? this.leave(own, id) : 0;
    const result = this.join(this.get(peer, GROUP), id);
    this.releaseProgram(program);
    return result;
  }

  /** A reuseport group of one. Mutex held. Returns 0 or -ENOSPC. */
  beginGroupLocked(id: number): number {
    const group = this.groups.allocate();
    return group < 0 ? group : this.join(group, id);
  }

  /** Gives up the port, as dissolving the connection of a socket that was never asked to have it does. Mutex held. */
  unbindLocked(id: number): void {
    this.unlink(id);
    const program = this.leaveGroup(id);
    this.set(id, LOCAL_PORT, 0);
    this.set(id, STATE, OPEN);
    this.changed(id);
    this.releaseProgram(program);
  }

  /** Records the remote address that is in the record as connected (or, with port 0, dissolves it). Mutex held. */
  connectLocked(id: number): void {
    const connected = this.get(id, REMOTE_PORT) !== 0;
    const bound = this.get(id, LOCAL_PORT) === 0 ? OPEN : BOUND;
    this.set(id, STATE, connected ? CONNECTED : bound);
    // As in Linux (udp_lib_hash4): what is connected is no member any more, and does not become one again. Where it has, by
    // another that was bound after its connection was dissolved, it stays one.
    const flags = this.get(id, FLAGS);
    const program = connected && (flags & F_HASHED) === 0 ? this.leaveGroup(id) : 0;
    if (connected) this.set(id, FLAGS, flags | F_HASHED);
    this.changed(id);
    this.releaseProgram(program);
  }

  /**
   * The local address of a bound socket has changed from the wildcard, or to it: it is the first of its port to be looked at
   * (udp_lib_rehash). The caller logs the change. Mutex held.
   */
  rehashLocked(id: number): void {
    this.unlink(id);
    const head = this.head(this.get(id, PROTOCOL), this.get(id, LOCAL_PORT));
    this.set(id, NEXT, this.heads[head] as number);
    this.heads[head] = id;
    if (this.isAny(id)) this.set(id, FLAGS, this.get(id, FLAGS) & ~F_HASHED);
  }

  /** Tells the lcores that a field they act on has changed. Mutex held. */
  changed(id: number): void {
    this.countPreferences(this.get(id, GROUP));
    this.append(id);
  }

  /** Has lcores look into their rings before they take another frame: what was posted before holds for it. Mutex held. */
  touch(): void {
    this.append(NO_RECORD);
  }

  /** To the change log. */
  private append(id: number): void {
    const { control } = this;
    const version = control[C_VERSION] as number;
    this.log[version & (LOG_SLOTS - 1)] = id;
    Atomics.store(control, C_VERSION, (version + 1) | 0);
  }

  /**
   * Closes. The record stays FREE with its last addresses until it is used again, so that an lcore that replays the log
   * finds it closed; what it had in its own tables it remembers itself.
   */
  closeLocked(id: number): void {
    const state = this.get(id, STATE);
    if (state === FREE) return;
    if (state >= BOUND && (this.get(id, FLAGS) & F_CHILD) === 0) this.unlink(id);
    const group = this.get(id, GROUP);
    const program = group < 0 ? 0 : this.leave(group, id);
    const filter = this.get(id, FILTER);
    this.set(id, FILTER, 0);
    this.set(id, STATE, FREE);
    // The descriptor is about to be somebody else's.
    this.set(id, PLACEHOLDER, -1);
    this.set(id, GENERATION, (this.get(id, GENERATION) + 1) | 0);
    this.changed(id);
    this.releaseProgram(filter);
    this.releaseProgram(program);
    this.set(id, NEXT, this.control[C_FREE_HEAD] as number);
    this.control[C_FREE_HEAD] = id;
    Atomics.sub(this.control, C_OPEN, 1);
  }

  /** Closes every socket; returns their placeholders. For the end of the engine, when no other thread is left. */
  closeAll(): number[] {
    const placeholders: number[] = [];
    this.mutex.hold(() => {
      for (let id = 0; id < this.highWater; id++) {
        if (this.get(id, STATE) === FREE) continue;
        const placeholder = this.get(id, PLACEHOLDER);
        if (placeholder >= 0 && (this.get(id, FLAGS) & F_CHILD) === 0) placeholders.push(placeholder);
        this.closeLocked(id);
      }
    });
    return placeholders;
  }

  /**
   * Calls `visit(id)` for each change after `seen` (repeats possible), with NO_RECORD for touch(). Returns false when the log no longer reaches
   * back that far: the caller must rescan ids 0..highWater instead.
   */
  replay(seen: number, until: number, visit: (id: number) => void): boolean {
    if (((until - seen) | 0) > LOG_SLOTS / 2) return false;
    for (let version = seen; version !== until; version = (version + 1) | 0) {
      visit(this.log[version & (LOG_SLOTS - 1)] as number);
    }
    // Entries overwritten while we read would have been skipped: make sure the log did not lap us.
    return ((this.version() - seen) | 0) <= LOG_SLOTS;
  }

  /** Whether some bound socket other than `id` holds the port for the protocol. Mutex held. */
  portInUse(protocol: number, port: number): boolean {
    return (this.heads[this.head(protocol, port)] as number) >= 0;
  }

  /** First socket bound to a port, -1 for none; follow with `nextBound`. Mutex held. */
  firstBound(protocol: number, port: number): number {
    return this.heads[this.head(protocol, port)] as number;
  }

  nextBound(id: number): number {
    return this.get(id, NEXT);
  }

  /** Whether a socket's receive buffer takes `charge` bytes more, counting what every lcore has queued there. */
  hasRoom(socket: number, charge: number): boolean {
    const limit = this.rcvbuf[socket];
    let queued = 0;
    for (let l = 0; l < this.lcores; l++) queued += (this.charged[l][socket] - this.credited[l][socket]) | 0;
    // A datagram larger than the buffer is taken alone (__udp_enqueue_schedule_skb).
    return queued <= limit - Math.min(charge, limit);
  }

  /** Charges what an lcore queues at a socket. */
  charge(lcore: number, socket: number, bytes: number): void {
    const plane = this.charged[lcore];
    plane[socket] = (plane[socket] + bytes) | 0;
  }

  /** One user less of the program in slot `program` - 1; 0 is none. After the change was logged; mutex held. */
  releaseProgram(program: number): void {
    if (program > 0) this.bpf.release(program - 1, this.version());
  }

  /** A thread has died while it changed the table. The mutex is this thread's now. */
  private repair(): void {
    const { control } = this;
    const { free, open } = repairTable(this, this.heads, (protocol, port) => this.head(protocol, port));
    for (let group = 0; group < GROUPS_MAX; group++) this.countPreferences(group);
    control[C_FREE_HEAD] = free;
    Atomics.store(control, C_OPEN, open);
    // Further than the log reaches: every lcore looks at all of the table.
    Atomics.store(control, C_VERSION, (this.version() + LOG_SLOTS) | 0);
    Atomics.add(control, C_REPAIRS, 1);
  }

  /** How often that was so. */
  get repairs(): number {
    return Atomics.load(this.control, C_REPAIRS);
  }

  /** A use more of a program that a TCP connection has, or is about to have: no record here names it. Mutex held. */
  holdApart(program: number): void {
    this.bpf.setApart(program - 1, 1);
    this.bpf.hold(program - 1);
  }

  releaseApart(program: number): void {
    this.bpf.setApart(program - 1, -1);
    this.releaseProgram(program);
  }

  private head(protocol: number, port: number): number {
    return port + (protocol === IPPROTO_TCP ? 65536 : 0);
  }

  /** Into the chain of its port, in the order in which Linux looks (sk_add_node_rcu): the latest first, IPv6 sockets of reuseport groups last. */
  private link(head: number, id: number): void {
    const order = ++this.control[C_ORDER];
    const isLast = this.get(id, FAMILY) === AF_INET6 && (this.get(id, FLAGS) & F_REUSEPORT) !== 0;
    this.set(id, ORDER, isLast ? -order : order);
    let last = -1;
    if (isLast) {
      for (let at = this.heads[head] as number; at >= 0; at = this.get(at, NEXT)) last = at;
    }
    if (last < 0) {
      this.set(id, NEXT, this.heads[head] as number);
      this.heads[head] = id;
    } else {
      this.set(last, NEXT, id);
      this.set(id, NEXT, -1);
    }
  }

  private unlink(id: number): void {
    const head = this.head(this.get(id, PROTOCOL), this.get(id, LOCAL_PORT));
    let at = this.heads[head] as number;
    if (at === id) {
      this.heads[head] = this.get(id, NEXT);
      return;
    }
    while (at >= 0) {
      const next = this.get(at, NEXT);
      if (next === id) {
        this.set(at, NEXT, this.get(id, NEXT));
        return;
      }
      at = next;
    }
  }

  /** inet_rcv_saddr_equal with wildcards, and the device rule: could one packet match both? */
  overlaps(a: number, b: number): boolean {
    const deviceA = this.get(a, DEVICE);
    const deviceB = this.get(b, DEVICE);
    if (deviceA !== 0 && deviceB !== 0 && deviceA !== deviceB) return false;
    const anyA = this.isAny(a);
    const anyB = this.isAny(b);
    if (anyA && anyB) return this.speaksBoth(a) || this.speaksBoth(b) || this.isV4(a) === this.isV4(b);
    if (anyA) return this.covers(a, b);
    if (anyB) return this.covers(b, a);
    return this.sameAddress(a, b);
  }

  /** Whether the wildcard socket `any` receives for the address of `one`. */
  private covers(any: number, one: number): boolean {
    return this.speaksBoth(any) || this.isV4(any) === this.isV4(one);
  }

  /** A v6 wildcard socket without IPV6_V6ONLY receives IPv4 as well. */
  speaksBoth(id: number): boolean {
    return (
      this.get(id, FAMILY) === AF_INET6 && (this.get(id, FLAGS) & F_V6ONLY) === 0 && this.isAny(id) && !this.isV4(id)
    );
  }

  /** Bound to an IPv4 address (or the IPv4 wildcard), by an AF_INET socket or a mapped address. */
  isV4(id: number): boolean {
    return this.get(id, FAMILY) === AF_INET || this.get(id, LOCAL + 2) === 0xffff;
  }

  isAny(id: number): boolean {
    return (
      this.get(id, LOCAL) === 0 &&
      this.get(id, LOCAL + 1) === 0 &&
      (this.get(id, LOCAL + 2) === 0 || this.get(id, LOCAL + 2) === 0xffff) &&
      this.get(id, LOCAL + 3) === 0
    );
  }

  private sameAddress(a: number, b: number): boolean {
    for (let i = 0; i < 4; i++) if (this.get(a, LOCAL + i) !== this.get(b, LOCAL + i)) return false;
    return true;
  }

  /** What makes two reuseport sockets one group (reuseport_add_sock): address, port, device, family and v6only. */
  private sameBinding(a: number, b: number): boolean {
    return (
      this.sameAddress(a, b) &&
      this.get(a, DEVICE) === this.get(b, DEVICE) &&
      this.get(a, FAMILY) === this.get(b, FAMILY) &&
      (this.get(a, FLAGS) & F_V6ONLY) === (this.get(b, FLAGS) & F_V6ONLY)
    );
  }

  private countPreferences(group: number): void {
    if (group >= 0) this.groups.countPreferences(group, (id) => this.prefers(id));
  }

  private prefers(id: number): boolean {
    return this.get(id, INCOMING_CPU) >= 0 || this.get(id, INCOMING_NAPI) !== 0 || this.get(id, STATE) === CONNECTED;
  }

  private join(group: number, id: number): number {
    const result = this.groups.add(group, id);
    if (result === 0) this.set(id, GROUP, group);
    return result;
  }

  /** Returns the slot + 1 of a program that is to be released once the change is logged, else 0. */
  private leave(group: number, id: number): number {
    this.leaveSockArray(id);
    return this.groups.remove(group, id);
  }

  /** leave() of whatever group it is in. */
  private leaveGroup(id: number): number {
    const group = this.get(id, GROUP);
    if (group < 0) return 0;
    const program = this.leave(group, id);
    this.set(id, GROUP, -1);
    this.countPreferences(group);
    return program;
  }

  /** Takes the socket out of the map of sockets that it is in. */
  private leaveSockArray(id: number): void {
    const map = this.get(id, SOCKARRAY);
    if (map === 0) return;
    this.set(id, SOCKARRAY, 0);
    this.bpf.clearSocket(map, id);
  }
}
