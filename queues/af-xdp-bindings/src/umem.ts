/**
 * UMEM: the memory that frames live in, cut into chunks.
 *
 * The kernel pins it and writes received frames into it; every worker reads it in place. A UMEM is registered by the
 * first socket bound to it. Further sockets, on any queue or interface, share it with XDP_SHARED_UMEM, and the kernel
 * gives all of them what the first one asked for: that is why mode, needWakeup and multiBuffer are options of the UMEM.
 */
import {
  TX_METADATA_LEN_END,
  XDP_PACKET_HEADROOM,
  XDP_UMEM_MIN_CHUNK_SIZE,
  XDP_UMEM_TX_METADATA_LEN,
  XDP_UMEM_TX_SW_CSUM,
  XDP_UMEM_UNALIGNED_CHUNK_FLAG,
  xdp_umem_reg,
  xsk_tx_metadata,
} from "./abi.ts";
import { PAGE_SIZE, SharedArea } from "./memory.ts";
import type { QueueRings } from "./queue-rings.ts";
import { highWord, lowWord } from "./u64.ts";

/** How frames cross between NIC and UMEM. "auto": zero copy where the driver offers it, else copy. */
export type XskMode = "auto" | "copy" | "zerocopy";

export interface UmemOptions {
  /** Number of chunks. */
  chunks: number;
  /** Bytes a chunk: 2048 or a larger power of two up to the page size; unaligned: any number in that range. */
  chunkSize?: number;
  /** Bytes the kernel leaves free in each chunk before a received frame, on top of its own 256. */
  headroom?: number;
  /** Chunks may start at any byte (XDP_UMEM_UNALIGNED_CHUNK_FLAG). */
  unaligned?: boolean;
  /** Bytes reserved for metadata before each transmitted frame: 0 for none, else a multiple of 8 in [24, 248]. */
  txMetadata?: number;
  /** Finish requested checksums in software (XDP_UMEM_TX_SW_CSUM): copy mode only. */
  softwareChecksum?: boolean;
  mode?: XskMode;
  /** Let the kernel say when it needs a wakeup (XDP_USE_NEED_WAKEUP); without, it always expects one. */
  needWakeup?: boolean;
  /** Frames may span several descriptors (XDP_USE_SG); without, larger frames are dropped. */
  multiBuffer?: boolean;
  /** Memory to use rather than new memory; chunks start at its first page boundary. */
  buffer?: SharedArrayBuffer;
  /**
   * Descriptor of a bound XSK whose UMEM is this very memory, opened by another thread of the process: share its
   * registration. Size and flags must be those of the registration.
   */
  registeredAt?: number;
}

/** A bound socket of a UMEM, as the next socket needs to know it. */
export interface UmemUser {
  readonly fd: number;
  /** Identifies the device queue: network namespace, interface, queue. */
  readonly key: string;
  readonly rings: QueueRings;
}

/** UMEMs the kernel holds: keeps their memory from the garbage collector. */
const registered = new Set<Umem>();

export class Umem {
  /** All chunks. UMEM offsets index it. */
  readonly memory: Uint8Array<SharedArrayBuffer>;
  readonly chunks: number;
  readonly chunkSize: number;
  readonly headroom: number;
  readonly unaligned: boolean;
  readonly txMetadata: number;
  readonly mode: XskMode;
  readonly needWakeup: boolean;
  readonly multiBuffer: boolean;
  /** xdp_umem_reg.flags. */
  readonly flags: number;
  /** Bytes of a received frame that fit one chunk. A longer frame is dropped, or spans chunks with `multiBuffer`. */
  readonly frameRoom: number;
  /** Turns a UMEM offset within a chunk into the chunk's start: minus the chunk size, or -1 in unaligned mode. */
  readonly chunkMask: number;
  /** Sockets bound in this thread, oldest first. Managed by Xsk. */
  readonly users: UmemUser[] = [];
  /** Descriptor that registered the memory and is not bound yet, or -1. Managed by Xsk. */
  unbound = -1;
  /** Descriptor that another thread registered the memory with, or -1. */
  readonly registeredAt: number;
  private readonly area: SharedArea;

  constructor(options: UmemOptions) {
    this.chunks = options.chunks;
    this.chunkSize = options.chunkSize ?? 2048;
    this.headroom = options.headroom ?? 0;
    this.unaligned = options.unaligned ?? false;
    this.txMetadata = options.txMetadata ?? 0;
    this.mode = options.mode ?? "auto";
    this.needWakeup = options.needWakeup ?? true;
    this.multiBuffer = options.multiBuffer ?? false;
    this.registeredAt = options.registeredAt ?? -1;
    this.flags =
      (this.unaligned ? XDP_UMEM_UNALIGNED_CHUNK_FLAG : 0) |
      (options.softwareChecksum ? XDP_UMEM_TX_SW_CSUM : 0) |
      (this.txMetadata > 0 ? XDP_UMEM_TX_METADATA_LEN : 0);
    this.frameRoom = this.chunkSize - this.headroom - XDP_PACKET_HEADROOM;
    this.chunkMask = this.unaligned ? -1 : -this.chunkSize;
    validate(this, options.softwareChecksum ?? false);
    const byteLength = this.chunks * this.chunkSize;
    this.area = new SharedArea(byteLength, options.buffer);
    this.memory = new Uint8Array(this.area.buffer, this.area.byteOffset, byteLength);
  }

  /** struct xdp_umem_reg of this UMEM. From here on its memory is kept until `close`. */
  registration(): Uint8Array {
    registered.add(this);
    const bytes = new Uint8Array(xdp_umem_reg.size);
    const view = new DataView(bytes.buffer);
    view.setUint32(xdp_umem_reg.addr, lowWord(this.area.address), true);
    view.setUint32(xdp_umem_reg.addr + 4, highWord(this.area.address), true);
    view.setUint32(xdp_umem_reg.len, this.memory.byteLength, true);
    view.setUint32(xdp_umem_reg.chunk_size, this.chunkSize, true);
    view.setUint32(xdp_umem_reg.headroom, this.headroom, true);
    view.setUint32(xdp_umem_reg.flags, this.flags, true);
    view.setUint32(xdp_umem_reg.tx_metadata_len, this.txMetadata, true);
    return bytes;
  }

  /**
   * Takes the memory back from the kernel, once every socket on it is closed, also those of other threads. Its contents
   * become zeros: a zero-copy NIC may finish writing after the last close, and does so to the old pages.
   */
  close(): void {
    if (this.users.length > 0) throw new Error(`UMEM: ${this.users.length} sockets are still open on it`);
    if (registered.delete(this)) this.area.detach();
  }
}

function validate(umem: Umem, softwareChecksum: boolean): void {
  const { chunks, chunkSize, headroom, txMetadata } = umem;
  if (!Number.isInteger(chunks) || chunks < 1) throw new RangeError(`chunks ${chunks}: a positive integer`);
  if (!Number.isInteger(chunkSize) || chunkSize < XDP_UMEM_MIN_CHUNK_SIZE || chunkSize > PAGE_SIZE)
    throw new RangeError(`chunkSize ${chunkSize}: in [${XDP_UMEM_MIN_CHUNK_SIZE}, ${PAGE_SIZE}], the page size`);
  if (!umem.unaligned && (chunkSize & (chunkSize - 1)) !== 0)
    throw new RangeError(`chunkSize ${chunkSize}: a power of two, unless the UMEM is unaligned`);
  if (chunks * chunkSize > 2 ** 31)
    throw new RangeError(`${chunks} chunks of ${chunkSize} bytes: more than 2 GiB, offsets are 31 bits`);
  if (!Number.isInteger(headroom) || headroom < 0 || umem.frameRoom <= 0)
    throw new RangeError(`headroom ${headroom}: in [0, ${chunkSize - XDP_PACKET_HEADROOM}), chunkSize less 256`);
  if (
    txMetadata !== 0 &&
    (txMetadata % 8 !== 0 || txMetadata < xsk_tx_metadata.size || txMetadata >= TX_METADATA_LEN_END)
  )
    throw new RangeError(`txMetadata ${txMetadata}: 0, or a multiple of 8 in [24, 248]`);
  if (softwareChecksum && txMetadata === 0)
    throw new RangeError("softwareChecksum: needs txMetadata, which requests it");
  if (softwareChecksum && umem.mode === "zerocopy") throw new RangeError("softwareChecksum: not with mode zerocopy");
}
