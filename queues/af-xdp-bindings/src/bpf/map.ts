/** BPF maps: created, taken over from a descriptor, or opened from a pin; keys and values as bytes. */
import { readFileSync } from "node:fs";
import { ERRNO, type ErrnoName } from "../errno.ts";
import * as sys from "../sys.ts";
import { Attr, bpf, type Command, checkBpf, decodeName } from "./call.ts";
import { getObject, pinObject } from "./pin.ts";
import { BPF_ANY, INFO, INFO_SIZE, MAP_BATCH, MAP_CREATE, MAP_ELEM, MAP_INFO, MAP_TYPE } from "./uapi.ts";

export type MapTypeName = keyof typeof MAP_TYPE;

export interface MapOptions {
  readonly type: MapTypeName;
  /** Bytes; 4 for arrays and XSKMAP. */
  readonly keySize: number;
  /** Bytes; of one CPU's value for a per-CPU map; 4 for XSKMAP. */
  readonly valueSize: number;
  readonly maxEntries: number;
  /** BPF_F_*; default 0. */
  readonly flags?: number;
  /** At most 15 of A-Z a-z 0-9 _ . */
  readonly name?: string;
}

/** What the kernel says of a map: struct bpf_map_info. */
export interface MapInfo {
  /** enum bpf_map_type; not necessarily one this package can create. */
  readonly type: number;
  readonly id: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly name: string;
}

const PER_CPU_TYPES: readonly number[] = [
  MAP_TYPE.BPF_MAP_TYPE_PERCPU_HASH,
  MAP_TYPE.BPF_MAP_TYPE_PERCPU_ARRAY,
  MAP_TYPE.BPF_MAP_TYPE_LRU_PERCPU_HASH,
];

const UPDATE_HINTS: Partial<Record<ErrnoName, string>> = {
  E2BIG: "the map is full, or the index is not below maxEntries",
  EEXIST: "the key exists, and BPF_NOEXIST was given",
  ENOENT: "no such key, and BPF_EXIST was given",
  EOPNOTSUPP: "the map's type does not take this: an XSKMAP holds AF_XDP sockets only",
  ENOTSOCK: "an XSKMAP holds AF_XDP sockets only",
};

/** A BPF map of any type. Not safe to share between threads; give each its own over the same descriptor. */
export class BpfMap {
  readonly fd: number;
  readonly info: MapInfo;
  /** Possible CPUs for a per-CPU map, else 1. */
  readonly copies: number;
  /** Bytes of one CPU's value within a value: rounded up to 8 in a per-CPU map. */
  readonly stride: number;
  #closed = false;

  /** Takes over a descriptor: `close` closes it. Throws SysError if it is not a map's. */
  constructor(fd: number) {
    this.fd = fd;
    this.info = mapInfo(fd);
    const perCpu = PER_CPU_TYPES.includes(this.info.type);
    this.copies = perCpu ? possibleCpus() : 1;
    this.stride = perCpu ? Math.ceil(this.info.valueSize / 8) * 8 : this.info.valueSize;
  }

  /** Opens a map pinned in a BPF file system. */
  static open(path: string): BpfMap {
    return new BpfMap(getObject(path));
  }

  /** Bytes of a value as `lookup` gives and `update` takes it: all CPUs' for a per-CPU map. */
  get valueBytes(): number {
    return this.stride * this.copies;
  }

  /** A fresh copy of the value, or undefined if there is none. */
  lookup(key: Uint8Array): Uint8Array | undefined {
    const value = new Uint8Array(this.valueBytes);
    return this.#read("BPF_MAP_LOOKUP_ELEM", key, value) ? value : undefined;
  }

  /** Removes a hash's entry and returns its value, in one step; Linux 5.14. */
  lookupAndDelete(key: Uint8Array): Uint8Array | undefined {
    const value = new Uint8Array(this.valueBytes);
    return this.#read("BPF_MAP_LOOKUP_AND_DELETE_ELEM", key, value) ? value : undefined;
  }

  /** Flags: BPF_ANY, BPF_NOEXIST (throws EEXIST), BPF_EXIST (throws ENOENT). */
  update(key: Uint8Array, value: Uint8Array, flags = BPF_ANY): void {
    const attr = this.#element(key).pointer(MAP_ELEM.value, this.#checkValue(value)).u64(MAP_ELEM.flags, flags);
    checkBpf(bpf("BPF_MAP_UPDATE_ELEM", attr), "BPF_MAP_UPDATE_ELEM", UPDATE_HINTS);
  }

  /** Whether there was such a key. An array's entries cannot be deleted (throws EINVAL). */
  delete(key: Uint8Array): boolean {
    const result = bpf("BPF_MAP_DELETE_ELEM", this.#element(key));
    if (result === -ERRNO.ENOENT) return false;
    checkBpf(result, "BPF_MAP_DELETE_ELEM", { EINVAL: "entries of an array cannot be deleted" });
    return true;
  }

  /**
   * The keys, each a fresh copy. Ends after maxEntries keys at the latest: when entries go meanwhile, the kernel starts
   * over, and a key may be seen twice or not at all.
   */
  *keys(): Generator<Uint8Array> {
    let key: Uint8Array | undefined;
    for (let i = 0; i < this.info.maxEntries; i++) {
      key = this.#next(key);
      if (key === undefined) return;
      yield key;
    }
  }

  /** Entries with their values, under the same terms as `keys`; a key that goes meanwhile is left out. */
  *entries(): Generator<[key: Uint8Array, value: Uint8Array]> {
    for (const key of this.keys()) {
      const value = this.lookup(key);
      if (value !== undefined) yield [key, value];
    }
  }

  /** Updates `count` entries in one call: keys and values one behind the other. Linux 5.6. */
  updateBatch(keys: Uint8Array, values: Uint8Array, flags = BPF_ANY): void {
    const count = this.#batchCount(keys);
    if (values.length !== count * this.valueBytes) throw new RangeError(`values: ${count * this.valueBytes} bytes`);
    const attr = this.#batch(keys, count).pointer(MAP_BATCH.values, values).u64(MAP_BATCH.elem_flags, flags);
    const result = bpf("BPF_MAP_UPDATE_BATCH", attr);
    checkBpf(result, "BPF_MAP_UPDATE_BATCH", UPDATE_HINTS, `after ${attr.getU32(MAP_BATCH.count)} of ${count}`);
  }

  /** Deletes entries of a hash in one call; throws ENOENT at the first that is not there. Linux 5.6. */
  deleteBatch(keys: Uint8Array): void {
    const count = this.#batchCount(keys);
    const attr = this.#batch(keys, count);
    const result = bpf("BPF_MAP_DELETE_BATCH", attr);
    checkBpf(result, "BPF_MAP_DELETE_BATCH", {}, `after ${attr.getU32(MAP_BATCH.count)} of ${count}`);
  }

  /** Pins the map: it lives while the file does. `path` must be in a BPF file system. */
  pin(path: string): void {
    pinObject(this.fd, path);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    sys.close(this.fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #element(key: Uint8Array): Attr {
    const size = this.info.keySize;
    if (key.length !== size) throw new RangeError(`key of ${key.length} bytes, the map's are ${size}`);
    return new Attr().u32(MAP_ELEM.map_fd, this.fd).pointer(MAP_ELEM.key, key);
  }

  #checkValue(value: Uint8Array): Uint8Array {
    if (value.length === this.valueBytes) return value;
    throw new RangeError(`value of ${value.length} bytes, the map's are ${this.valueBytes}`);
  }

  #read(command: Command, key: Uint8Array, value: Uint8Array): boolean {
    const result = bpf(command, this.#element(key).pointer(MAP_ELEM.value, value));
    if (result === -ERRNO.ENOENT) return false;
    checkBpf(result, command, { EOPNOTSUPP: "maps of this type cannot be read from user space" });
    return true;
  }

  #next(key: Uint8Array | undefined): Uint8Array | undefined {
    const next = new Uint8Array(this.info.keySize);
    const attr = key ? this.#element(key) : new Attr().u32(MAP_ELEM.map_fd, this.fd);
    const result = bpf("BPF_MAP_GET_NEXT_KEY", attr.pointer(MAP_ELEM.value, next));
    if (result === -ERRNO.ENOENT) return undefined;
    checkBpf(result, "BPF_MAP_GET_NEXT_KEY");
    return next;
  }

  #batchCount(keys: Uint8Array): number {
    const count = keys.length / this.info.keySize;
    if (!Number.isInteger(count)) throw new RangeError(`keys: a multiple of ${this.info.keySize} bytes`);
    return count;
  }

  #batch(keys: Uint8Array, count: number): Attr {
    return new Attr().pointer(MAP_BATCH.keys, keys).u32(MAP_BATCH.count, count).u32(MAP_BATCH.map_fd, this.fd);
  }
}

/** Creates a map. */
export function createMap(options: MapOptions): BpfMap {
  return new BpfMap(createMapFd(options));
}

/** Creates a map and returns its descriptor. */
export function createMapFd(options: MapOptions): number {
  const attr = new Attr()
    .u32(MAP_CREATE.map_type, MAP_TYPE[options.type])
    .u32(MAP_CREATE.key_size, options.keySize)
    .u32(MAP_CREATE.value_size, options.valueSize)
    .u32(MAP_CREATE.max_entries, options.maxEntries)
    .u32(MAP_CREATE.map_flags, options.flags ?? 0)
    .name(MAP_CREATE.map_name, options.name ?? "");
  return checkBpf(
    bpf("BPF_MAP_CREATE", attr),
    "BPF_MAP_CREATE",
    {
      EINVAL: "the map's sizes, entries or flags do not suit its type, or this kernel does not know the type",
      E2BIG: "the map would be larger than the kernel allows",
      ENOMEM: "not enough memory for the map; before Linux 5.11 RLIMIT_MEMLOCK also limits it",
    },
    `${options.type}, ${options.maxEntries} entries`,
  );
}

/** What the kernel says of the map behind a descriptor. */
export function mapInfo(fd: number): MapInfo {
  const info = new DataView(new ArrayBuffer(INFO_SIZE));
  const attr = new Attr().u32(INFO.bpf_fd, fd).u32(INFO.info_len, INFO_SIZE).pointer(INFO.info, info);
  checkBpf(bpf("BPF_OBJ_GET_INFO_BY_FD", attr), "BPF_OBJ_GET_INFO_BY_FD", {
    EINVAL: "the descriptor is not a BPF map's",
    EBADFD: "the descriptor is closed",
  });
  return {
    type: info.getUint32(MAP_INFO.type, true),
    id: info.getUint32(MAP_INFO.id, true),
    keySize: info.getUint32(MAP_INFO.key_size, true),
    valueSize: info.getUint32(MAP_INFO.value_size, true),
    maxEntries: info.getUint32(MAP_INFO.max_entries, true),
    flags: info.getUint32(MAP_INFO.map_flags, true),
    name: decodeName(new Uint8Array(info.buffer, MAP_INFO.name, 16)),
  };
}

/** CPUs this machine could ever have: the copies in a per-CPU value. From /sys/devices/system/cpu/possible. */
export function possibleCpus(): number {
  return parseCpuList(readFileSync("/sys/devices/system/cpu/possible", "utf8"));
}

/** How many CPUs a list such as "0-3,8" needs when counted from 0: its highest number plus one. */
export function parseCpuList(list: string): number {
  if (!/^\d+([-,]\d+)*$/.test(list.trim())) throw new Error(`not a CPU list: "${list}"`);
  return Math.max(...list.trim().split(/[,-]/).map(Number)) + 1;
}
