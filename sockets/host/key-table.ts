/**
 * A hash table of keys of a fixed number of words. A key that is added gets an id from 0 up, by which its owner finds what
 * belongs to it in arrays of its own. Nothing is allocated after the constructor; the hash is keyed, see flow-hash.ts.
 */
import { hashKeys, mix } from "../flow-hash.ts";

const NONE = -1;

export class KeyTable {
  /** Keys in the table. */
  count = 0;
  readonly capacity: number;
  /** The key that find() and add() are about; the caller loads it. */
  readonly key: Int32Array;
  private readonly keys: Int32Array;
  private readonly hashKeys: Int32Array;
  private readonly mask: number;
  /** First id of each bucket's chain. */
  private readonly heads: Int32Array;
  /** Next id of a chain, or of the list of free ids. */
  private readonly next: Int32Array;
  private free = 0;

  /** @param words of a key; `capacity`: the most keys; `seed`: of the hash, secret from who chooses keys */
  constructor(words: number, capacity: number, seed: number) {
    this.capacity = capacity;
    this.key = new Int32Array(words);
    this.keys = new Int32Array(words * capacity);
    this.hashKeys = hashKeys(seed, words);
    const buckets = 2 ** Math.ceil(Math.log2(Math.max(capacity, 2)));
    this.mask = buckets - 1;
    this.heads = new Int32Array(buckets).fill(NONE);
    this.next = Int32Array.from({ length: capacity }, (_, id) => (id + 1 < capacity ? id + 1 : NONE));
  }

  /** The id of `key`, or -1. */
  find(): number {
    let id = this.heads[this.bucket(this.key, 0)];
    while (id !== NONE && !this.hasKey(id)) id = this.next[id];
    return id;
  }

  /** Adds `key`, which is not there yet, and returns its id, or -1 when the table is full. */
  add(): number {
    const id = this.free;
    if (id === NONE) return NONE;
    this.free = this.next[id];
    this.keys.set(this.key, id * this.key.length);
    const bucket = this.bucket(this.key, 0);
    this.next[id] = this.heads[bucket];
    this.heads[bucket] = id;
    this.count++;
    return id;
  }

  /** Removes the key with an id that is in use; the id is used again. */
  remove(id: number): void {
    const bucket = this.bucket(this.keys, id * this.key.length);
    if (this.heads[bucket] === id) {
      this.heads[bucket] = this.next[id];
    } else {
      let before = this.heads[bucket];
      while (this.next[before] !== id) before = this.next[before];
      this.next[before] = this.next[id];
    }
    this.next[id] = this.free;
    this.free = id;
    this.count--;
  }

  private hasKey(id: number): boolean {
    const at = id * this.key.length;
    for (let i = 0; i < this.key.length; i++) if (this.keys[at + i] !== this.key[i]) return false;
    return true;
  }

  private bucket(words: Int32Array, at: number): number {
    const { hashKeys } = this;
    let hash = 0;
    for (let i = 0; i < this.key.length; i++) hash = mix(hash, words[at + i], hashKeys[2 * i], hashKeys[2 * i + 1]);
    return (hash ^ (hash >>> 13)) & this.mask;
  }
}
