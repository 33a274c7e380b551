/**
 * An ARRAY map's values mapped into this process: read and written as any typed array, with no system call, by every
 * worker that is given the buffer. The map needs BPF_F_MMAPABLE (Linux 5.5).
 */
import type { ErrnoName } from "../errno.ts";
import { SharedArea } from "../memory.ts";
import type { BpfMap } from "./map.ts";
import { BPF_F_MMAPABLE } from "./uapi.ts";

const HINTS: Partial<Record<ErrnoName, string>> = {
  ENOTSUPP: "the map's type cannot be mapped",
  EPERM: "the map is frozen or read-only",
};

export class MappedArray {
  /** Bytes from one value to the next: the value's size rounded up to 8. */
  readonly stride: number;
  readonly #area: SharedArea;
  #closed = false;

  constructor(map: BpfMap) {
    const { flags, valueSize, maxEntries } = map.info;
    if ((flags & BPF_F_MMAPABLE) === 0) throw new TypeError(`map "${map.info.name}" is not BPF_F_MMAPABLE`);
    this.stride = Math.ceil(valueSize / 8) * 8;
    this.#area = new SharedArea(this.stride * maxEntries);
    this.#area.map(map.fd, 0, "mmap(BPF map)", HINTS);
  }

  /** The values: entry i begins at byteOffset + i × stride. */
  get buffer(): SharedArrayBuffer {
    return this.#area.buffer;
  }

  get byteOffset(): number {
    return this.#area.byteOffset;
  }

  /** Takes the mapping away; the buffer's pages are then zero. No worker may count on it any more. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#area.detach();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
