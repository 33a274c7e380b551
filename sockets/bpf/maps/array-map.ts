/** Arrays: values one behind the other, all there from the start, zero. */
import { ERRNO, SysError } from "af-xdp-bindings";
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

/** What a map of sockets asks of those who have the sockets. */
export interface SocketRegistry {
  /** Puts a socket at an index of the map with this handle, -1 takes away the one there. Throws SysError. */
  place(map: number, index: number, id: number): void;
  /** Why a program may not select the socket for a datagram to the group: 0 or -errno. */
  mismatch(id: number, group: number): number;
}

/** BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: by index a socket's id, or none. Programs only select from it. */
export class SocketArrayMap extends ArrayMap {
  private readonly registry: SocketRegistry | null;

  constructor(descriptor: SharedMapDescriptor, registry: SocketRegistry | null = null) {
    super(descriptor);
    this.registry = registry;
  }

  /** Id of the socket at `index`, -1 for none or an index out of range. */
  socketAt(index: number): number {
    return index >>> 0 >= this.maxEntries ? -1 : Atomics.load(this.words, this.slot(index)) - 1;
  }

  /**
   * Puts a socket there by its id (`socket.id`), -1 for none. As the kernel's array: a socket that closes, or leaves its
   * group, leaves the array. Throws SysError: E2BIG for an index out of range, EINVAL for a socket of no reuseport group, EBUSY
   * for one that is in a place already, ENOENT when there was none to take away.
   */
  setSocket(index: number, id: number): void {
    if (!Number.isInteger(index) || index < 0 || index >= this.maxEntries) {
      throw new SysError(ERRNO.E2BIG, "map update", `index ${index}: the map has ${this.maxEntries}`);
    }
    if (this.registry === null) this.write(index, id);
    else this.registry.place(this.fd, index, id);
  }

  /** For the registry: puts an id there without asking. */
  write(index: number, id: number): void {
    Atomics.store(this.words, this.slot(index), id + 1);
  }

  /** See SocketRegistry. */
  mismatch(id: number, group: number): number {
    return this.registry === null ? 0 : this.registry.mismatch(id, group);
  }

  private slot(index: number): number {
    return (MAP_HEADER + (index >>> 0) * this.stride) >> 2;
  }
}
