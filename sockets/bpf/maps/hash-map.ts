/**
 * A hash with a bound: open addressing over twice as many slots as it may have entries. One writer at a time, under the map's
 * lock; readers take none. A slot is four parts:
 *
 *   state   u32: generation × 4 + what the slot is. Written last when an entry is made, first when one goes
 *   hash    u32
 *   key     to a multiple of 8 bytes
 *   value   to a multiple of 8 bytes; stays where it is until its entry goes
 *
 * A reader looks at the state before and after it compares a key, so it never takes an entry for another that came in its
 * place meanwhile. As with the kernel's preallocated hashes, who keeps a value's address while others delete its entry may see
 * the next one's value there.
 */
import { ERRNO } from "af-xdp-bindings";
import { Mutex } from "../../mutex.ts";
import { copyBytes } from "../../wire/views.ts";
import { BPF_EXIST, BPF_NOEXIST, MAP_HEADER, roundUp8, SharedMap, type SharedMapDescriptor } from "./shared-map.ts";

/** Words of the header. */
const LOCK = 0;
const COUNT = 1;

/** What a slot is: never used since it was last behind all entries, in use, given up. */
const FREE = 0;
const FULL = 1;
const DELETED = 2;
const KIND_MASK = 3;
const GENERATION = 4;

/** Bytes of state and hash. */
const SLOT_HEADER = 8;

function slotsFor(maxEntries: number): number {
  return 2 ** Math.ceil(Math.log2(maxEntries * 2));
}

function slotBytes(keySize: number, valueSize: number): number {
  return SLOT_HEADER + roundUp8(keySize) + roundUp8(valueSize);
}

export class HashMap extends SharedMap {
  private readonly slotMask: number;
  private readonly slotSize: number;
  /** Bytes from a slot's start to its value. */
  private readonly valueAt: number;
  private readonly mutex: Mutex;

  static bytes({ keySize, valueSize, maxEntries }: { keySize: number; valueSize: number; maxEntries: number }): number {
    return MAP_HEADER + slotsFor(maxEntries) * slotBytes(keySize, valueSize);
  }

  constructor(descriptor: SharedMapDescriptor) {
    super(descriptor);
    this.slotMask = slotsFor(this.maxEntries) - 1;
    this.slotSize = slotBytes(this.keySize, this.valueSize);
    this.valueAt = SLOT_HEADER + roundUp8(this.keySize);
    this.mutex = new Mutex(this.words, LOCK, () => this.recount());
  }

  /** Entries now. */
  get size(): number {
    return Atomics.load(this.words, COUNT);
  }

  find(keys: Uint8Array, at: number, _cpu: number): number {
    const slot = this.slotOf(keys, at, this.hash(keys, at));
    return slot < 0 ? 0 : slot + this.valueAt;
  }

  store(keys: Uint8Array, at: number, values: Uint8Array, valueAt: number, flags: number, _cpu: number): number {
    if (flags >>> 0 > BPF_EXIST) return -ERRNO.EINVAL;
    const hash = this.hash(keys, at);
    this.mutex.lock();
    const result = this.storeLocked(keys, at, hash, values, valueAt, flags);
    this.mutex.unlock();
    return result;
  }

  remove(keys: Uint8Array, at: number): number {
    const hash = this.hash(keys, at);
    this.mutex.lock();
    const slot = this.slotOf(keys, at, hash);
    if (slot >= 0) this.giveUp(slot);
    this.mutex.unlock();
    return slot < 0 ? -ERRNO.ENOENT : 0;
  }

  *keys(): Generator<Uint8Array> {
    for (let i = 0; i <= this.slotMask; i++) {
      const slot = MAP_HEADER + i * this.slotSize;
      const state = Atomics.load(this.words, slot >> 2);
      const key = this.bytes.slice(slot + SLOT_HEADER, slot + SLOT_HEADER + this.keySize);
      if ((state & KIND_MASK) === FULL && Atomics.load(this.words, slot >> 2) === state) yield key;
    }
  }

  private storeLocked(
    keys: Uint8Array,
    at: number,
    hash: number,
    values: Uint8Array,
    valueAt: number,
    flags: number,
  ): number {
    const old = this.slotOf(keys, at, hash);
    if (old >= 0) {
      if (flags === BPF_NOEXIST) return -ERRNO.EEXIST;
      copyBytes(this.bytes, old + this.valueAt, values, valueAt, this.valueSize);
      return 0;
    }
    if (flags === BPF_EXIST) return -ERRNO.ENOENT;
    if (this.words[COUNT] >= this.maxEntries) return -ERRNO.E2BIG;
    const slot = this.firstUnused(hash);
    const state = this.words[slot >> 2];
    this.words[(slot + 4) >> 2] = hash;
    copyBytes(this.bytes, slot + SLOT_HEADER, keys, at, this.keySize);
    copyBytes(this.bytes, slot + this.valueAt, values, valueAt, this.valueSize);
    Atomics.store(this.words, slot >> 2, ((state & ~KIND_MASK) + GENERATION) | FULL);
    Atomics.add(this.words, COUNT, 1);
    return 0;
  }

  /** Offset of the key's slot, -1 for none. Ends at a free slot: at least half of all are not in use, but all may be given up. */
  private slotOf(keys: Uint8Array, at: number, hash: number): number {
    const { words, slotMask, slotSize } = this;
    let index = hash & slotMask;
    for (let tries = 0; tries <= slotMask; tries++) {
      const slot = MAP_HEADER + index * slotSize;
      const state = Atomics.load(words, slot >> 2);
      if ((state & KIND_MASK) === FREE) return -1;
      if ((state & KIND_MASK) === FULL && words[(slot + 4) >> 2] === hash && this.sameKey(slot, keys, at)) {
        if (Atomics.load(words, slot >> 2) === state) return slot;
      }
      index = (index + 1) & slotMask;
    }
    return -1;
  }

  private sameKey(slot: number, keys: Uint8Array, at: number): boolean {
    const { bytes, keySize } = this;
    for (let i = 0; i < keySize; i++) if (bytes[slot + SLOT_HEADER + i] !== keys[at + i]) return false;
    return true;
  }

  /** There is one: the caller has looked at the count. */
  private firstUnused(hash: number): number {
    let index = hash & this.slotMask;
    for (;;) {
      const slot = MAP_HEADER + index * this.slotSize;
      if ((this.words[slot >> 2] & KIND_MASK) !== FULL) return slot;
      index = (index + 1) & this.slotMask;
    }
  }

  /** Ends an entry. Where the next slot is free nobody has to look beyond this one, nor beyond those given up before it. */
  private giveUp(slot: number): void {
    const { words, slotMask, slotSize } = this;
    Atomics.sub(words, COUNT, 1);
    let index = (slot - MAP_HEADER) / slotSize;
    const next = MAP_HEADER + ((index + 1) & slotMask) * slotSize;
    const becomes = (words[next >> 2] & KIND_MASK) === FREE ? FREE : DELETED;
    this.mark(slot, becomes);
    if (becomes === DELETED) return;
    for (let tries = 0; tries < slotMask; tries++) {
      index = (index - 1) & slotMask;
      const before = MAP_HEADER + index * slotSize;
      if ((words[before >> 2] & KIND_MASK) !== DELETED) return;
      this.mark(before, FREE);
    }
  }

  /** What a thread that died in the middle may have left wrong: an entry is there or not, by one word, but the count comes after it. */
  private recount(): void {
    let count = 0;
    for (let i = 0; i <= this.slotMask; i++)
      if ((this.words[(MAP_HEADER + i * this.slotSize) >> 2] & KIND_MASK) === FULL) count++;
    Atomics.store(this.words, COUNT, count);
  }

  private mark(slot: number, kind: number): void {
    Atomics.store(this.words, slot >> 2, (this.words[slot >> 2] & ~KIND_MASK) | kind);
  }

  /** FNV-1a over bytes, then the finish of MurmurHash3, which spreads it over the low bits. */
  private hash(keys: Uint8Array, at: number): number {
    let hash = 0x811c9dc5 | 0;
    for (let i = 0; i < this.keySize; i++) hash = Math.imul(hash ^ keys[at + i], 0x01000193);
    hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
    return hash ^ (hash >>> 16);
  }
}
