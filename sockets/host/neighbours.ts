/**
 * The neighbours of one family: whose MAC address is known, whether it still holds, and what waits for it. States and times
 * are those of Linux (net/core/neighbour.c), whose machine is that of RFC 4861, section 7.3, for ARP as well.
 *
 * ```
 *   from      when                                                                    to
 *   nothing   a packet is sent to it                                                  INCOMPLETE
 *   nothing   it asks for us                                                          STALE
 *   INCOMPLETE  it answers                                                            REACHABLE
 *   INCOMPLETE  everybody was asked three times, a second apart                       FAILED
 *   REACHABLE 15 to 45 s have passed, and it is in use                                DELAY
 *   REACHABLE … and it is not                                                         STALE
 *   STALE     a packet is sent to it                                                  DELAY
 *   DELAY     5 s have passed                                                         PROBE
 *   PROBE     it answers                                                              REACHABLE
 *   PROBE     it alone was asked three times, a second apart                          FAILED
 *   FAILED    a packet is sent to it                                                  INCOMPLETE
 * ```
 *
 * The lcores send by the published MAC addresses and do not come here; used() says now and then to whom. A neighbour to
 * which a packet went through send(), or of which used() spoke, in the last IN_USE_MS is in use, and confirmed whenever
 * its time is over. After that it becomes STALE, which is not published: the next packet to it comes to send() and begins
 * anew. Hence what others make us learn, however much, changes nothing that is published, until we send to them.
 */
import { ERRNO } from "af-xdp-bindings";
import { C } from "../counters.ts";
import { Timers } from "../timers.ts";
import { ETH_ADDRESS } from "../wire/ethernet.ts";
import { IdLists } from "./id-lists.ts";
import { KeyTable } from "./key-table.ts";
import type { Link } from "./link.ts";
import { copyWords } from "./words.ts";

/** States (include/uapi/linux/neighbour.h). */
export const NUD_INCOMPLETE = 0x01;
export const NUD_REACHABLE = 0x02;
export const NUD_STALE = 0x04;
export const NUD_DELAY = 0x08;
export const NUD_PROBE = 0x10;
export const NUD_FAILED = 0x20;
export const NUD_NONE = 0;
/** States in which the MAC address is known. */
export const NUD_VALID = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE;
/** Those in which it may be used without asking anybody. */
const NUD_PUBLISHED = NUD_REACHABLE | NUD_DELAY | NUD_PROBE;

/** What update() may change (NEIGH_UPDATE_F_..., include/net/neighbour.h). Another MAC address takes the known one's place. */
export const OVERRIDE = 1;
/** Another MAC address, if it may not, makes a REACHABLE neighbour STALE. */
export const WEAK_OVERRIDE = 2;
/** The neighbour says whether it is a router, and that it is one. */
export const OVERRIDE_ISROUTER = 4;
export const ISROUTER = 8;

/** Settings of /proc/sys/net/ipv4/neigh by their defaults. */
const RETRANS_MS = 1000;
const MCAST_SOLICIT = 3;
const UCAST_SOLICIT = 3;
const BASE_REACHABLE_MS = 30_000;
const DELAY_FIRST_PROBE_MS = 5000;
const GC_STALE_MS = 60_000;
const GC_INTERVAL_MS = 15_000;
/** Below so many nothing is thrown away (gc_thresh1). */
const GC_MIN = 128;
/** The most neighbours (gc_thresh3). */
export const NEIGHBOURS_PER_FAMILY = 1024;
/** What may wait for one neighbour (unres_qlen_bytes), a frame counted with what an sk_buff costs beside it. */
export const UNRES_QLEN_BYTES = 212_992;
const FRAME_OVERHEAD = 768;
/** What may wait for all of them. Linux has no such bound; a scan of a network with large datagrams would meet none. */
export const UNRES_TOTAL_BYTES = 4 << 20;
/** The longest time between two calls of used() for a neighbour in use. */
export const USED_INTERVAL_MS = 15_000;
/** Of Linux's 5 s (delay_first_probe_time) as much as can be seen from here: one call may just have missed its packet. */
const IN_USE_MS = 2 * USED_INTERVAL_MS;

const LIST_LIVE = 0;
const LIST_STALE = 1;
const LIST_FAILED = 2;

const NEVER = Number.NEGATIVE_INFINITY;

/** Who asks for MAC addresses, and is told what came of it. */
export interface Solicitor {
  /** Asks for a neighbour's MAC address: everybody, or (`alone`) the neighbour itself at the one that is known. */
  solicit(neighbour: Neighbour, alone: boolean, now: number): void;
}

export class Neighbour {
  /** Its number in the table. */
  readonly id: number;
  readonly words = new Int32Array(4);
  readonly mac = new Uint8Array(ETH_ADDRESS);
  state = NUD_NONE;
  isRouter = false;
  /** Times that it was asked in this state. */
  probes = 0;
  /** When it last answered, when its state or MAC address last changed, when a packet was last sent to it; ms. */
  confirmedAt = NEVER;
  updatedAt = NEVER;
  usedAt = NEVER;
  /** Frames that wait for its MAC address, oldest first. */
  readonly queue: Uint8Array[] = [];
  queuedBytes = 0;

  constructor(id: number) {
    this.id = id;
  }

  /** Whether lcores may send to its MAC address without coming here. */
  get isPublished(): boolean {
    return (this.state & NUD_PUBLISHED) !== 0 && this.usedAt !== NEVER;
  }
}

export class Neighbours {
  /** Between two questions, ms. A router may set it for IPv6. */
  retransMs = RETRANS_MS;
  private baseReachableMs = BASE_REACHABLE_MS;
  private readonly link: Link;
  private readonly solicitor: Solicitor;
  private readonly table: KeyTable;
  private readonly entries: (Neighbour | null)[];
  private readonly timers: Timers;
  private readonly expired = new Int32Array(64);
  /** By state, in the order in which it was entered: what is thrown away first stands first. */
  private readonly lists: IdLists;
  private queuedBytes = 0;
  private collectAt: number;

  constructor(link: Link, solicitor: Solicitor, now: number, capacity = NEIGHBOURS_PER_FAMILY) {
    this.link = link;
    this.solicitor = solicitor;
    this.table = new KeyTable(4, capacity, link.random.int32());
    this.entries = new Array<Neighbour | null>(capacity).fill(null);
    this.timers = new Timers(capacity, now);
    this.lists = new IdLists(capacity, 3);
    this.collectAt = now + GC_INTERVAL_MS;
  }

  get count(): number {
    return this.table.count;
  }

  find(words: Int32Array): Neighbour | null {
    copyWords(this.table.key, words);
    const id = this.table.find();
    return id < 0 ? null : this.entries[id];
  }

  /** Every neighbour, in no order. */
  all(): Neighbour[] {
    return this.entries.filter((entry) => entry !== null);
  }

  /** Time that an answer holds good, at the middle, ms (RFC 4861, section 6.3.2). */
  setReachable(baseMs: number): void {
    this.baseReachableMs = baseMs;
  }

  /**
   * Sends a frame to a neighbour: at once where its MAC address is known, else a copy when it answers.
   * @param frame a whole one, whose two addresses are filled in
   * @param publish whether others will follow it by the published way
   * @returns 0, or -ENOBUFS: there is no room for another neighbour
   */
  send(words: Int32Array, frame: Uint8Array, now: number, publish: boolean): number {
    const entry = this.find(words) ?? this.create(words);
    if (entry === null) return -ERRNO.ENOBUFS;
    const wasPublished = entry.isPublished;
    if (publish) entry.usedAt = now;
    if ((entry.state & NUD_VALID) === 0) {
      this.enqueue(entry, frame);
      if (entry.state !== NUD_INCOMPLETE) this.enter(entry, NUD_INCOMPLETE, now);
      return 0;
    }
    if (entry.state === NUD_STALE) this.enter(entry, NUD_DELAY, now);
    else if (entry.isPublished !== wasPublished) this.link.changed();
    this.link.transmit(frame, entry.mac);
    return 0;
  }

  /** The neighbour is still being sent to, by the published way. */
  used(words: Int32Array, now: number): void {
    const entry = this.find(words);
    if (entry !== null && entry.usedAt !== NEVER) entry.usedAt = now;
  }

  /** A neighbour is heard of that is not known yet, or known by another MAC address (neigh_event_ns()). */
  learn(words: Int32Array, mac: Uint8Array, macAt: number, flags: number, now: number): Neighbour | null {
    const entry = this.find(words) ?? this.create(words);
    if (entry !== null) this.update(entry, mac, macAt, NUD_STALE, flags, now);
    return entry;
  }

  /**
   * A neighbour says something of itself (neigh_update()).
   * @param macAt of its MAC address in `mac`, or -1: it gives none
   * @param state NUD_REACHABLE where it answers us, else NUD_STALE
   * @param flags OVERRIDE | WEAK_OVERRIDE | …
   */
  update(entry: Neighbour, mac: Uint8Array, macAt: number, state: number, flags: number, now: number): void {
    const isKnown = (entry.state & NUD_VALID) !== 0;
    if (macAt < 0 && !isKnown) return;
    const isSame = macAt < 0 || (isKnown && sameMac(entry.mac, mac, macAt));
    if (!isKnown || isSame || (flags & OVERRIDE) !== 0) {
      if (state === NUD_REACHABLE) entry.confirmedAt = now;
      if ((flags & OVERRIDE_ISROUTER) !== 0) entry.isRouter = (flags & ISROUTER) !== 0;
      if (!isSame) this.setMac(entry, mac, macAt, now);
      // Whoever merely speaks of the address that is known neither confirms it nor casts doubt on it.
      if (!isSame || state !== NUD_STALE) this.enter(entry, state, now);
    } else if ((flags & WEAK_OVERRIDE) !== 0 && entry.state === NUD_REACHABLE) {
      this.enter(entry, NUD_STALE, now);
    }
  }

  /** Timers. Returns when it is to be called next. */
  tick(now: number): number {
    for (let count = this.timers.advance(now, this.expired); count > 0; ) {
      for (let i = 0; i < count; i++) this.expire(this.entries[this.expired[i]], now);
      count = this.timers.advance(now, this.expired);
    }
    if (now >= this.collectAt) {
      this.collectAt = now + GC_INTERVAL_MS;
      this.collect(now);
    }
    return this.count < GC_MIN ? this.timers.nextMs() : Math.min(this.timers.nextMs(), this.collectAt);
  }

  /** Forgets all of them: the link may be another one. What waits is dropped. */
  clear(): void {
    for (const entry of this.entries) if (entry !== null) this.remove(entry);
  }

  private create(words: Int32Array): Neighbour | null {
    if (this.table.count === this.table.capacity && !this.evict()) {
      this.link.counters[C.NeighTableFulls]++;
      return null;
    }
    copyWords(this.table.key, words);
    const entry = new Neighbour(this.table.add());
    copyWords(entry.words, words);
    this.entries[entry.id] = entry;
    this.lists.append(LIST_LIVE, entry.id);
    return entry;
  }

  /** Makes room. Who is in use, or is being asked for, is not thrown out for whoever comes. */
  private evict(): boolean {
    const failed = this.lists.first(LIST_FAILED);
    const victim = this.entries[failed >= 0 ? failed : this.lists.first(LIST_STALE)] ?? null;
    if (victim === null) return false;
    this.remove(victim);
    return true;
  }

  private remove(entry: Neighbour): void {
    if (entry.isPublished) this.link.changed();
    this.link.counters[C.NeighUnresDiscards] += entry.queue.length;
    this.emptyQueue(entry);
    this.timers.cancel(entry.id);
    this.lists.remove(entry.id);
    this.table.remove(entry.id);
    this.entries[entry.id] = null;
  }

  /**
   * Takes a neighbour into a state, also the one that it is in, and does what begins with it. One in use that becomes
   * STALE would be sent to at once.
   */
  private enter(entry: Neighbour, wanted: number, now: number): void {
    const state = wanted === NUD_STALE && now - entry.usedAt <= IN_USE_MS ? NUD_DELAY : wanted;
    const before = entry.state;
    const wasPublished = entry.isPublished;
    entry.state = state;
    if (state !== before) {
      entry.updatedAt = now;
      entry.probes = 0;
      this.lists.remove(entry.id);
      this.lists.append(listOf(state), entry.id);
    }
    if (entry.isPublished !== wasPublished) this.link.changed();
    // Another default router may be better now.
    if (entry.isRouter && (state === NUD_FAILED) !== (before === NUD_FAILED)) this.link.changed();
    this.begin(entry, now);
    if ((state & NUD_VALID) !== 0 && (before & NUD_VALID) === 0) this.flush(entry);
  }

  private begin(entry: Neighbour, now: number): void {
    switch (entry.state) {
      case NUD_INCOMPLETE:
      case NUD_PROBE:
        this.ask(entry, now);
        return;
      case NUD_REACHABLE:
        // Between half and one and a half of it, so that hosts do not fall into step (RFC 4861, section 6.3.2).
        this.timers.schedule(entry.id, now + this.link.between(0.5, 1.5) * this.baseReachableMs);
        return;
      case NUD_DELAY:
        this.timers.schedule(entry.id, now + DELAY_FIRST_PROBE_MS);
        return;
      default:
        this.timers.cancel(entry.id);
    }
  }

  private ask(entry: Neighbour, now: number): void {
    entry.probes++;
    this.timers.schedule(entry.id, now + this.retransMs);
    this.solicitor.solicit(entry, entry.state === NUD_PROBE, now);
  }

  private expire(entry: Neighbour | null, now: number): void {
    if (entry === null) return;
    switch (entry.state) {
      case NUD_REACHABLE:
        this.enter(entry, NUD_STALE, now);
        return;
      case NUD_DELAY:
        this.enter(entry, NUD_PROBE, now);
        return;
      case NUD_INCOMPLETE:
      case NUD_PROBE:
        if (entry.probes < (entry.state === NUD_PROBE ? UCAST_SOLICIT : MCAST_SOLICIT)) this.ask(entry, now);
        else this.fail(entry, now);
    }
  }

  private fail(entry: Neighbour, now: number): void {
    this.link.counters[C.NeighResolveFails]++;
    this.enter(entry, NUD_FAILED, now);
    const frames = entry.queue.slice();
    this.emptyQueue(entry);
    for (const frame of frames) this.link.unreachable(frame);
  }

  private setMac(entry: Neighbour, mac: Uint8Array, macAt: number, now: number): void {
    for (let i = 0; i < ETH_ADDRESS; i++) entry.mac[i] = mac[macAt + i];
    entry.updatedAt = now;
    if (entry.isPublished) this.link.changed();
  }

  private enqueue(entry: Neighbour, frame: Uint8Array): void {
    const cost = frame.length + FRAME_OVERHEAD;
    while (
      entry.queue.length > 0 &&
      (entry.queuedBytes + cost > UNRES_QLEN_BYTES || this.queuedBytes + cost > UNRES_TOTAL_BYTES)
    ) {
      this.dequeue(entry);
      this.link.counters[C.NeighUnresDiscards]++;
    }
    if (this.queuedBytes + cost > UNRES_TOTAL_BYTES) {
      this.link.counters[C.NeighUnresDiscards]++;
      return;
    }
    entry.queue.push(frame.slice());
    entry.queuedBytes += cost;
    this.queuedBytes += cost;
  }

  private dequeue(entry: Neighbour): Uint8Array | null {
    const frame = entry.queue.shift() ?? null;
    const cost = frame === null ? 0 : frame.length + FRAME_OVERHEAD;
    entry.queuedBytes -= cost;
    this.queuedBytes -= cost;
    return frame;
  }

  private emptyQueue(entry: Neighbour): void {
    while (this.dequeue(entry) !== null);
  }

  private flush(entry: Neighbour): void {
    for (let frame = this.dequeue(entry); frame !== null; frame = this.dequeue(entry)) {
      this.link.transmit(frame, entry.mac);
    }
  }

  /** Throws out who failed, and who has been STALE for long, once there are many. */
  private collect(now: number): void {
    if (this.count < GC_MIN) return;
    for (let id = this.lists.first(LIST_FAILED); id >= 0; id = this.lists.first(LIST_FAILED)) this.removeId(id);
    for (let id = this.lists.first(LIST_STALE); id >= 0; id = this.lists.first(LIST_STALE)) {
      const { updatedAt, usedAt, confirmedAt } = this.entries[id] as Neighbour;
      if (Math.max(updatedAt, usedAt, confirmedAt) + GC_STALE_MS > now) return;
      this.removeId(id);
    }
  }

  private removeId(id: number): void {
    this.remove(this.entries[id] as Neighbour);
  }
}

function listOf(state: number): number {
  if (state === NUD_STALE) return LIST_STALE;
  return state === NUD_FAILED ? LIST_FAILED : LIST_LIVE;
}

function sameMac(a: Uint8Array, b: Uint8Array, at: number): boolean {
  for (let i = 0; i < ETH_ADDRESS; i++) if (a[i] !== b[at + i]) return false;
  return true;
}
