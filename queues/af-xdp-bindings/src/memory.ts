/**
 * Page-aligned memory that every worker of the process can see and whose address the kernel may hold.
 *
 * A SharedArrayBuffer never moves. Kernel memory is mapped over a part of one with MAP_FIXED, so that JavaScript reads
 * and writes it as it would any other typed array. The garbage collector knows nothing of that: whoever maps must
 * `detach` before dropping the last reference, else the allocator hands out pages that the kernel still writes.
 */
import { readFileSync } from "node:fs";
import { MAP_ANONYMOUS, MAP_FIXED, MAP_POPULATE, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE } from "./abi.ts";
import { check, type ErrnoName } from "./errno.ts";
import * as sys from "./sys.ts";

/** Bytes a page: 4096 on x86-64; 4096, 16384 or 65536 on arm64. */
export const PAGE_SIZE = pageSize();

/** AT_PAGESZ of the auxiliary vector, which is pairs of u64: type, value. */
function pageSize(): number {
  const AT_PAGESZ = 6;
  const bytes = readFileSync("/proc/self/auxv");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + 16 <= view.byteLength; at += 16) {
    if (view.getUint32(at, true) === AT_PAGESZ) return view.getUint32(at + 8, true);
  }
  throw new Error("/proc/self/auxv has no AT_PAGESZ: is /proc mounted?");
}

/** A page-aligned part of a SharedArrayBuffer, whole pages long. */
export class SharedArea {
  readonly buffer: SharedArrayBuffer;
  /** Offset of the first byte in `buffer`: the first page boundary of its memory. */
  readonly byteOffset: number;
  /** Bytes, a multiple of PAGE_SIZE. */
  readonly byteLength: number;
  /** Address of the first byte, page aligned, valid while `buffer` is reachable. */
  readonly address: number;

  /** At least `byteLength` bytes of zeros; or the first whole pages of `buffer` that hold as much. */
  constructor(byteLength: number, buffer?: SharedArrayBuffer) {
    this.byteLength = Math.ceil(byteLength / PAGE_SIZE) * PAGE_SIZE;
    this.buffer = buffer ?? allocate(this.byteLength);
    const start = startOf(this.buffer);
    this.byteOffset = (PAGE_SIZE - (start % PAGE_SIZE)) % PAGE_SIZE;
    if (this.byteOffset + this.byteLength > this.buffer.byteLength) {
      throw new RangeError(
        `buffer of ${this.buffer.byteLength} bytes: ${this.byteLength} from the page boundary at ${this.byteOffset} do not fit`,
      );
    }
    this.address = start + this.byteOffset;
  }

  /** Maps `fd` at `offset` over the area. The area's former contents are gone. */
  map(fd: number, offset: number, call: string, hints: Partial<Record<ErrnoName, string>> = {}): void {
    const flags = MAP_SHARED | MAP_FIXED | MAP_POPULATE;
    check(sys.mmap(this.address, this.byteLength, PROT_READ | PROT_WRITE, flags, fd, offset), call, hints);
  }

  /**
   * Puts fresh zero pages in place of what is there: the kernel's mapping, or pages that the kernel has pinned. From
   * then on the memory is JavaScript's alone. Must precede the collection of `buffer` if the area was given to the kernel.
   */
  detach(): void {
    const flags = MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS;
    check(sys.mmap(this.address, this.byteLength, PROT_READ | PROT_WRITE, flags, -1, 0), "mmap(MAP_ANONYMOUS)");
  }
}

/** Large buffers come page aligned from the allocator; where one does not, a page of slack makes room to align. */
function allocate(byteLength: number): SharedArrayBuffer {
  const buffer = new SharedArrayBuffer(byteLength);
  return startOf(buffer) % PAGE_SIZE === 0 ? buffer : new SharedArrayBuffer(byteLength + PAGE_SIZE);
}

const startOf = (buffer: SharedArrayBuffer): number => sys.addressOf(new Uint8Array(buffer));
