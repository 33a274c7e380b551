/** Arrays: values one behind the other, all there from the start, zero. */
import { ERRNO } from "af-xdp-bindings";
import { copyBytes } from "../../wire/views.ts";
import { BPF_EXIST, BPF_NOEXIST, MAP_HEADER, roundUp8, SharedMap, type SharedMapDescriptor } from "./shared-map.ts";

/** The index that a key of 4 bytes is, in this machine's order; as an int32. */
export function indexAt(keys: Uint8Array, at: number): number {
  return keys[at] | (keys[at + 1] << 8) | (keys[at + 2] << 16) | (keys[at + 3] << 24);
}

export class ArrayMap extends SharedMap {
  /** Bytes from one value to the next, and from one CPU's values to the next one's. */
  readonly stride: number;
  readonly cpuStride: number;
  readonly cpus: number;

  static bytes({ valueSize, maxEntries, cpus }: { valueSize: number; maxEntries: number; cpus: number }): number {
    return MAP_HEADER + roundUp8(valueSize) * maxEntries * cpus;
  }

  constructor(descriptor: SharedMapDescriptor) {
    super(descriptor);
    this.stride = roundUp8(this.valueSize);
    this.cpuStride = this.stride * this.maxEntries;
    this.cpus = descriptor.cpus;
  }

  find(keys: Uint8Array, at: number, cpu: number): number {
    const index = indexAt(keys, at) >>> 0;
    if (index >= this.maxEntries) return 0;
    const copy = this.cpus === 1 ? 0 : (cpu >>> 0) % this.cpus;
    return MAP_HEADER + copy * this.cpuStride + index * this.stride;
  }

  store(keys: Uint8Array, at: number, values: Uint8Array, valueAt: number, flags: number, cpu: number): number {
    if (flags >>> 0 > BPF_EXIST) return -ERRNO.EINVAL;
    const to = this.find(keys, at, cpu);
    if (to === 0) return -ERRNO.E2BIG;
    if (flags === BPF_NOEXIST) return -ERRNO.EEXIST;
    copyBytes(this.bytes, to, values, valueAt, this.valueSize);
    return 0;
  }

  remove(): number {
    return -ERRNO.EINVAL;
  }

  *keys(): Generator<Uint8Array> {
    for (let i = 0; i < this.maxEntries; i++) yield new Uint8Array(Uint32Array.of(i).buffer);
  }
}

/** BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: by index a socket's id, or none. Programs only select from it. */
export class SocketArrayMap extends ArrayMap {
  /** Id of the socket at `index`, -1 for none or an index out of range. */
  socketAt(index: number): number {
    return index >>> 0 >= this.maxEntries ? -1 : Atomics.load(this.words, this.slot(index)) - 1;
  }

  /** Puts a socket's id there, -1 for none. Throws RangeError for an index out of range. */
  setSocket(index: number, id: number): void {
    if (!Number.isInteger(index) || index < 0 || index >= this.maxEntries) {
      throw new RangeError(`index ${index}: the map has ${this.maxEntries}`);
    }
    Atomics.store(this.words, this.slot(index), id + 1);
  }

  private slot(index: number): number {
    return (MAP_HEADER + (index >>> 0) * this.stride) >> 2;
  }
}
