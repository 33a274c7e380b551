/**
 * Where a ring lies in memory. The kernel lays each ring out as
 *
 *     producer (u32) .. consumer (u32) .. flags (u32) .. entries[size]
 *
 * each on a cache line of its own; the offsets come from XDP_MMAP_OFFSETS. Cursors count entries, modulo 2^32, and an
 * entry lies at `cursor & (size - 1)`. The producer alone writes `producer` and the entries from there on, the consumer
 * alone writes `consumer`, and the kernel alone writes `flags`.
 */
import { SOL_XDP, XDP_MMAP_OFFSETS, xdp_mmap_offsets, xdp_ring_offset } from "./abi.ts";
import { check } from "./errno.ts";
import { SharedArea } from "./memory.ts";
import * as sys from "./sys.ts";

/** A ring in shared memory: plain values and a SharedArrayBuffer, so it can be posted to a worker. */
export interface RingMemory {
  readonly buffer: SharedArrayBuffer;
  /** Start of the ring's mapping in `buffer`, bytes. */
  readonly byteOffset: number;
  /** Bytes of the mapping. */
  readonly byteLength: number;
  /** Entries, a power of two; 0 for a ring that is absent. */
  readonly size: number;
  /** Offsets from the start of the mapping, bytes. */
  readonly producer: number;
  readonly consumer: number;
  readonly flags: number;
  readonly desc: number;
}

/** struct xdp_mmap_offsets of an XSK. */
export function mmapOffsets(fd: number): DataView {
  const bytes = new Uint8Array(xdp_mmap_offsets.size);
  const length = check(sys.getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, bytes), "getsockopt(XDP_MMAP_OFFSETS)");
  if (length < xdp_mmap_offsets.size) throw new Error("XDP_MMAP_OFFSETS lacks the flags offsets: Linux 5.4 or later");
  return new DataView(bytes.buffer);
}

/** A ring's mapping, to be detached when the ring is done with, and where in it the words lie. */
export interface MappedRing {
  readonly area: SharedArea;
  readonly memory: RingMemory;
}

/**
 * Maps the ring that the kernel offers at `pageOffset` of `fd`.
 * @param offsets See `mmapOffsets`; this ring's begin at byte `at`.
 * @param size Entries of the ring.
 * @param entryBytes Bytes an entry: 16 (struct xdp_desc) or 8 (u64).
 */
export function mapRing(
  fd: number,
  pageOffset: number,
  offsets: DataView,
  at: number,
  size: number,
  entryBytes: number,
): MappedRing {
  // Each offset is a u64 below 2^32: the kernel's are below 1024.
  const desc = offsets.getUint32(at + xdp_ring_offset.desc, true);
  const area = new SharedArea(desc + size * entryBytes);
  area.map(fd, pageOffset, "mmap(AF_XDP ring)", { ENOMEM: "no address space or memory to map the ring" });
  const memory: RingMemory = {
    buffer: area.buffer,
    byteOffset: area.byteOffset,
    byteLength: area.byteLength,
    size,
    producer: offsets.getUint32(at + xdp_ring_offset.producer, true),
    consumer: offsets.getUint32(at + xdp_ring_offset.consumer, true),
    flags: offsets.getUint32(at + xdp_ring_offset.flags, true),
    desc,
  };
  return { area, memory };
}

/** A ring that a socket was opened without: nothing is ever available in it, and it never has room. */
export function absentRing(): RingMemory {
  const buffer = new SharedArrayBuffer(64);
  return { buffer, byteOffset: 0, byteLength: 64, size: 0, producer: 0, consumer: 4, flags: 8, desc: 16 };
}

/** The words of a ring; word indices below count from its start. */
export const wordsOf = (memory: RingMemory): Int32Array =>
  new Int32Array(memory.buffer, memory.byteOffset, memory.byteLength >> 2);
