/**
 * Maps of BPF programs, in shared memory: programs on any lcore and the user's code see the same values. A map is created in
 * one thread and opened in others from its descriptor, which can be posted.
 *
 * A value is named by the offset of its first byte in the map's memory, never 0, a multiple of 8. Values are read and written
 * in place, as in the kernel: 4 aligned bytes at once, more than that not, unless with `add`.
 */
import { ERRNO, SysError } from "af-xdp-bindings";

export const BPF_ANY = 0;
export const BPF_NOEXIST = 1;
export const BPF_EXIST = 2;

export type SharedMapType = "array" | "percpu_array" | "hash" | "reuseport_sockarray";

export interface SharedMapOptions {
  readonly type: SharedMapType;
  /** Bytes; 4 for arrays, which is the default. */
  readonly keySize?: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  /** Copies of each value of a per-CPU array; default 1, and 1 for other types. */
  readonly cpus?: number;
  /** What a program's instructions name the map by, as a descriptor of the kernel's does; default: a number of its own. */
  readonly fd?: number;
  readonly name?: string;
}

/** A map as it is posted to another thread. */
export interface SharedMapDescriptor extends Required<SharedMapOptions> {
  readonly buffer: SharedArrayBuffer;
  /** Where in the buffer the map lies: its first byte, and how many. */
  readonly at: number;
  readonly bytes: number;
}

/** Bytes before the first value: the lock, the count of entries. */
export const MAP_HEADER = 64;
/** Offsets are int32. */
const BYTES_MAX = 2 ** 31 - 8;
/** Larger than the kernel's by far for these types of value. */
const KEY_MAX = 512;

export const roundUp8 = (bytes: number): number => (bytes + 7) & ~7;

/** A map's key: of 4 bytes as a number, or bytes. */
export type Key = number | Uint8Array;

export abstract class SharedMap {
  readonly descriptor: SharedMapDescriptor;
  readonly type: SharedMapType;
  readonly fd: number;
  readonly name: string;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly buffer: SharedArrayBuffer;
  readonly bytes: Uint8Array;
  readonly half: Uint16Array;
  readonly words: Int32Array;
  private readonly numberKey: Uint8Array;

  constructor(descriptor: SharedMapDescriptor) {
    this.descriptor = descriptor;
    this.type = descriptor.type;
    this.fd = descriptor.fd;
    this.name = descriptor.name;
    this.keySize = descriptor.keySize;
    this.valueSize = descriptor.valueSize;
    this.maxEntries = descriptor.maxEntries;
    this.buffer = descriptor.buffer;
    const { at, bytes } = descriptor;
    this.bytes = new Uint8Array(this.buffer, at, bytes);
    this.half = new Uint16Array(this.buffer, at, bytes >> 1);
    this.words = new Int32Array(this.buffer, at, bytes >> 2);
    this.numberKey = new Uint8Array(4);
  }

  /** For programs: offset of the value of the key at `keys[at ..]`, 0 for none. */
  abstract find(keys: Uint8Array, at: number, cpu: number): number;

  /** For programs: puts the value at `values[valueAt ..]` there. Returns 0 or -errno, as bpf_map_update_elem does. */
  abstract store(keys: Uint8Array, at: number, values: Uint8Array, valueAt: number, flags: number, cpu: number): number;

  /** For programs: returns 0 or -errno, as bpf_map_delete_elem does. */
  abstract remove(keys: Uint8Array, at: number): number;

  /** Keys that have a value, each a fresh copy. */
  abstract keys(): Generator<Uint8Array>;

  /** A copy of the value; undefined where the key has none. `cpu` chooses the copy of a per-CPU value. */
  lookup(key: Key, cpu = 0): Uint8Array | undefined {
    const at = this.offsetOf(key, cpu);
    return at === 0 ? undefined : this.bytes.slice(at, at + this.valueSize);
  }

  /** Throws SysError: E2BIG when it is full or the index too large, EEXIST and ENOENT as `flags` ask for. */
  update(key: Key, value: Uint8Array, flags = BPF_ANY, cpu = 0): void {
    if (value.length !== this.valueSize)
      throw new RangeError(`value of ${value.length} bytes, the map's are ${this.valueSize}`);
    const result = this.store(this.keyBytes(key), 0, value, 0, flags, cpu);
    if (result < 0) throw new SysError(-result, "map update", this.name);
  }

  /** Whether there was such a key. Throws SysError EINVAL for arrays. */
  delete(key: Key): boolean {
    const result = this.remove(this.keyBytes(key), 0);
    if (result === -ERRNO.ENOENT) return false;
    if (result < 0) throw new SysError(-result, "map delete", this.name);
    return true;
  }

  /** 32 bits of a value, `offset` bytes from its start; undefined where the key has none. */
  getUint32(key: Key, offset = 0, cpu = 0): number | undefined {
    const at = this.offsetOf(key, cpu);
    return at === 0 ? undefined : Atomics.load(this.words, this.wordAt(at, offset, 4)) >>> 0;
  }

  /** 64 bits of a value. The halves are read one after the other. */
  getUint64(key: Key, offset = 0, cpu = 0): bigint | undefined {
    const at = this.offsetOf(key, cpu);
    if (at === 0) return undefined;
    const word = this.wordAt(at, offset, 8);
    return (BigInt(this.words[word + 1] >>> 0) << 32n) | BigInt(this.words[word] >>> 0);
  }

  /** Writes 32 bits of a value that is there. Returns whether it is. */
  setUint32(key: Key, value: number, offset = 0, cpu = 0): boolean {
    const at = this.offsetOf(key, cpu);
    if (at !== 0) Atomics.store(this.words, this.wordAt(at, offset, 4), value | 0);
    return at !== 0;
  }

  setUint64(key: Key, value: bigint, offset = 0, cpu = 0): boolean {
    const at = this.offsetOf(key, cpu);
    if (at === 0) return false;
    const word = this.wordAt(at, offset, 8);
    this.words[word] = Number(BigInt.asIntN(32, value));
    this.words[word + 1] = Number(BigInt.asIntN(32, value >> 32n));
    return true;
  }

  /** Adds to 32 bits of a value, atomically. Returns what was there, undefined where the key has none. */
  addUint32(key: Key, add: number, offset = 0, cpu = 0): number | undefined {
    const at = this.offsetOf(key, cpu);
    return at === 0 ? undefined : Atomics.add(this.words, this.wordAt(at, offset, 4), add | 0) >>> 0;
  }

  private offsetOf(key: Key, cpu: number): number {
    return this.find(this.keyBytes(key), 0, cpu);
  }

  private keyBytes(key: Key): Uint8Array {
    if (typeof key !== "number") {
      if (key.length !== this.keySize)
        throw new RangeError(`key of ${key.length} bytes, the map's are ${this.keySize}`);
      return key;
    }
    if (this.keySize !== 4) throw new TypeError(`keys of "${this.name}" have ${this.keySize} bytes: a number has 4`);
    for (let i = 0; i < 4; i++) this.numberKey[i] = key >>> (8 * i);
    return this.numberKey;
  }

  private wordAt(at: number, offset: number, size: number): number {
    if (offset % size !== 0 || offset < 0 || offset + size > this.valueSize) {
      throw new RangeError(`${size} bytes at ${offset} of a value of ${this.valueSize}`);
    }
    return (at + offset) >> 2;
  }
}

let lastFd = 0x4000_0000;

/** Options with what they leave out, and memory of the map's own. Throws RangeError. */
export function describeMap(
  options: SharedMapOptions,
  bytes: (options: Required<SharedMapOptions>) => number,
): SharedMapDescriptor {
  const full = completeOptions(options);
  const size = mapBytes(full, bytes);
  return { ...full, buffer: new SharedArrayBuffer(size), at: 0, bytes: size };
}

/** Options with what they leave out. Throws RangeError where sizes do not suit the type. */
export function completeOptions(options: SharedMapOptions): Required<SharedMapOptions> {
  const fd = options.fd ?? ++lastFd;
  const full = { keySize: 4, cpus: 1, name: `map${fd}`, ...options, fd };
  const positive = (name: "keySize" | "valueSize" | "maxEntries" | "cpus"): void => {
    const value = full[name];
    if (!Number.isInteger(value) || value < 1) throw new RangeError(`${name} ${value}: a positive integer`);
  };
  for (const name of ["keySize", "valueSize", "maxEntries", "cpus"] as const) positive(name);
  if (full.keySize > KEY_MAX) throw new RangeError(`keySize ${full.keySize}: at most ${KEY_MAX}`);
  if (full.type !== "hash" && full.keySize !== 4) throw new RangeError(`keySize ${full.keySize}: an array's is 4`);
  if (full.type !== "percpu_array" && full.cpus !== 1)
    throw new RangeError(`cpus ${full.cpus}: only a percpu_array has copies`);
  return full;
}

/** Bytes a map takes, a multiple of 8. Throws RangeError. */
export function mapBytes(
  options: Required<SharedMapOptions>,
  bytes: (options: Required<SharedMapOptions>) => number,
): number {
  const size = bytes(options);
  if (size > BYTES_MAX) throw new RangeError(`a map of ${size} bytes: at most ${BYTES_MAX}`);
  return size;
}
