/**
 * Datagrams of which not every fragment has come: by key, by age, by source; and the bounds on what they hold.
 *
 * A source is an IPv4 address or an IPv6 /64. It may hold a quarter of the memory, and no more than is free (the rule of
 * shared switch buffers: Choudhury and Hahne, 1998), but in any case one datagram of the greatest length. Who comes to that
 * bound loses the oldest of its own datagrams, never another's. When nothing is free because many sources share it, one
 * within its bound takes the place of the oldest datagram of all: those whose fragments come close together get through
 * a flood from forged addresses, too, where Linux drops every fragment until something times out. The number of
 * datagrams is shared in the same way, with four in any case.
 */
import { DATAGRAM_BLOCKS, FragmentStore } from "./fragment-store.ts";
import { IdLists } from "./id-lists.ts";
import { KeyTable } from "./key-table.ts";

/** Words of a datagram's key, in this order; addresses are four words, IPv4 in the last with 0 in the others. */
export const KEY_FAMILY = 0;
export const KEY_PROTOCOL = 1;
export const KEY_ID = 2;
export const KEY_SOURCE = 3;
export const KEY_DESTINATION = 7;
const KEY_WORDS = 11;

export const FAMILY_4 = 0;
export const FAMILY_6 = 1;

/** What a source may hold in any case. */
const DATAGRAMS_MIN = 4;
const BLOCKS_MIN = DATAGRAM_BLOCKS;
/** The part of everything that one source may hold, as a shift. */
const SHARE_SHIFT = 2;

export class Incomplete {
  readonly store: FragmentStore;
  /** Key of the datagram that find() and create() are about; the caller loads it. */
  readonly key: Int32Array;
  /** Datagrams given up because others needed their place. */
  evicted = 0;
  /** FAMILY_4 or FAMILY_6 of each datagram. */
  readonly family: Uint8Array;
  /** When each datagram's first fragment came. */
  readonly since: Float64Array;

  private readonly table: KeyTable;
  private readonly sources: KeyTable;
  private readonly sourceOf: Int32Array;
  /** Of each source: its datagrams, its blocks, and its fragments so far. */
  private readonly datagrams: Int32Array;
  private readonly blocks: Int32Array;
  private readonly fragments: Int32Array;
  /** The number that each datagram's last fragment had among those of its source. */
  private readonly lastFragment: Int32Array;
  private readonly byAge: IdLists;
  private readonly bySource: IdLists;
  private readonly onEvict: (datagram: number) => void;

  /**
   * @param blocks of 2 KiB, at least four datagrams' worth; `datagrams`: at least 16
   * @param onEvict called before a datagram is removed to make room
   */
  constructor(blocks: number, datagrams: number, seed: number, onEvict: (datagram: number) => void) {
    this.store = new FragmentStore(blocks, datagrams);
    this.table = new KeyTable(KEY_WORDS, datagrams, seed);
    // One more than there are datagrams: that of a datagram for which room is being made.
    this.sources = new KeyTable(KEY_WORDS, datagrams + 1, seed + 1);
    this.key = this.table.key;
    this.family = new Uint8Array(datagrams);
    this.since = new Float64Array(datagrams);
    this.sourceOf = new Int32Array(datagrams);
    this.datagrams = new Int32Array(datagrams + 1);
    this.blocks = new Int32Array(datagrams + 1);
    this.fragments = new Int32Array(datagrams + 1);
    this.lastFragment = new Int32Array(datagrams);
    this.byAge = new IdLists(datagrams, 2);
    this.bySource = new IdLists(datagrams, datagrams + 1);
    this.onEvict = onEvict;
  }

  get count(): number {
    return this.table.count;
  }

  /** The datagram with `key`, or -1. */
  find(): number {
    return this.table.find();
  }

  /** A new datagram with `key`, others being evicted when there is no room. */
  create(now: number): number {
    const source = this.source();
    this.datagrams[source]++;
    this.makeRoomForOne(source);
    const id = this.table.add();
    this.sourceOf[id] = source;
    this.family[id] = this.key[KEY_FAMILY];
    this.since[id] = now;
    this.lastFragment[id] = this.fragments[source];
    this.byAge.append(this.family[id], id);
    this.bySource.append(source, id);
    return id;
  }

  /**
   * Has `missing` blocks free for a datagram, which is charged with them: the caller puts them to use at once. Its own
   * datagram is never evicted: alone it is within what its source may hold in any case.
   */
  charge(id: number, missing: number): void {
    const { store } = this;
    const source = this.sourceOf[id];
    const share = store.blocks >> SHARE_SHIFT;
    while (this.blocks[source] + missing > Math.max(BLOCKS_MIN, Math.min(share, store.free))) {
      const oldest = this.bySource.first(source);
      this.evict(oldest === id ? this.bySource.after(id) : oldest);
    }
    while (store.free < missing) this.evict(this.oldestBut(id));
    this.blocks[source] += missing;
  }

  /** Counts a fragment of a datagram: how many of its source came since its last, this one included. */
  distance(id: number): number {
    const number = ++this.fragments[this.sourceOf[id]];
    const distance = number - this.lastFragment[id];
    this.lastFragment[id] = number;
    return distance;
  }

  /** Gives a datagram's data back, and lets it begin anew. */
  restart(id: number, now: number): void {
    this.blocks[this.sourceOf[id]] -= this.store.held[id];
    this.store.release(id);
    this.since[id] = now;
    this.byAge.remove(id);
    this.byAge.append(this.family[id], id);
  }

  /** Removes a datagram and gives its data back. */
  remove(id: number): void {
    const source = this.sourceOf[id];
    this.blocks[source] -= this.store.held[id];
    this.store.release(id);
    this.byAge.remove(id);
    this.bySource.remove(id);
    this.table.remove(id);
    if (--this.datagrams[source] === 0) this.sources.remove(source);
  }

  /** The oldest datagram of a family, or -1. */
  oldest(family: number): number {
    return this.byAge.first(family);
  }

  private makeRoomForOne(source: number): void {
    const { table } = this;
    const share = table.capacity >> SHARE_SHIFT;
    while (this.datagrams[source] > Math.max(DATAGRAMS_MIN, Math.min(share, table.capacity - table.count))) {
      this.evict(this.bySource.first(source));
    }
    if (table.count === table.capacity) this.evict(this.oldestBut(-1));
  }

  private evict(id: number): void {
    this.evicted++;
    this.onEvict(id);
    this.remove(id);
  }

  /** The oldest datagram that is not `id`. */
  private oldestBut(id: number): number {
    const a = this.firstBut(FAMILY_4, id);
    const b = this.firstBut(FAMILY_6, id);
    if (a < 0 || b < 0) return Math.max(a, b);
    return this.since[a] <= this.since[b] ? a : b;
  }

  private firstBut(family: number, id: number): number {
    const first = this.byAge.first(family);
    return first === id && first >= 0 ? this.byAge.after(first) : first;
  }

  /** The source of `key`, new when it holds nothing. */
  private source(): number {
    const { key, sources } = this;
    const words = key[KEY_FAMILY] === FAMILY_4 ? 4 : 2;
    sources.key.fill(0);
    sources.key[KEY_FAMILY] = key[KEY_FAMILY];
    for (let i = 0; i < words; i++) sources.key[KEY_SOURCE + i] = key[KEY_SOURCE + i];
    const found = sources.find();
    if (found >= 0) return found;
    const source = sources.add();
    this.datagrams[source] = 0;
    this.blocks[source] = 0;
    this.fragments[source] = 0;
    return source;
  }
}
