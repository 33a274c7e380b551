/**
 * TX metadata: requests to the kernel or NIC that travel in the `umem.txMetadata` bytes before a frame's data, in a
 * struct xsk_tx_metadata that starts at `address - umem.txMetadata`.
 *
 *     metadata.request(address, XDP_TXMD_FLAGS_CHECKSUM);
 *     metadata.setChecksum(address, 34, 6);                   // UDP over IPv4: from the UDP header, field at 6
 *     tx.set(i, address, length, XDP_TX_METADATA);
 *
 * In copy mode the kernel finishes checksums (or leaves it to the device), and stamps completion times in software,
 * nanoseconds of TAI. A launch time needs a zero-copy NIC that offers it.
 */
import { xsk_tx_metadata as layout } from "./abi.ts";
import type { Umem } from "./umem.ts";

const NS_PER_SECOND = 1_000_000_000;

export class TxMetadata {
  private readonly view: DataView;
  private readonly length: number;

  /** Of a UMEM that reserves metadata. */
  constructor(umem: Umem) {
    if (umem.txMetadata === 0) throw new RangeError("UMEM has no room for TX metadata: set txMetadata, at least 24");
    this.view = new DataView(umem.memory.buffer, umem.memory.byteOffset, umem.memory.byteLength);
    this.length = umem.txMetadata;
  }

  /** Sets what is requested for the frame at `address`: XDP_TXMD_FLAGS_*, or 0. Each frame needs it set anew. */
  request(address: number, flags: number): void {
    const at = address - this.length;
    this.view.setUint32(at + layout.flags, flags, true);
    this.view.setUint32(at + layout.flags + 4, 0, true);
  }

  /**
   * For XDP_TXMD_FLAGS_CHECKSUM: sum from byte `start` of the data to its end, put the result `offset` bytes after
   * `start`. The field must hold the checksum of the pseudo-header, not complemented.
   */
  setChecksum(address: number, start: number, offset: number): void {
    const at = address - this.length;
    this.view.setUint16(at + layout.csum_start, start, true);
    this.view.setUint16(at + layout.csum_offset, offset, true);
  }

  /** For XDP_TXMD_FLAGS_LAUNCH_TIME: when to send, on the NIC's clock. `nanoseconds` is below 10^9. */
  setLaunchTime(address: number, seconds: number, nanoseconds: number): void {
    const at = address - this.length + layout.launch_time;
    // seconds * 10^9 + nanoseconds exceeds 2^53: multiply the 16-bit halves of seconds apart.
    const lower = (seconds % 0x10000) * NS_PER_SECOND + nanoseconds;
    const upper = Math.floor(seconds / 0x10000) * NS_PER_SECOND + Math.floor(lower / 0x10000);
    this.view.setUint16(at, lower % 0x10000, true);
    this.view.setUint16(at + 2, upper % 0x10000, true);
    this.view.setUint32(at + 4, Math.floor(upper / 0x10000), true);
  }

  /** Seconds of the transmit time of a completed frame that asked for XDP_TXMD_FLAGS_TIMESTAMP. */
  timestampSeconds(address: number): number {
    const at = address - this.length + layout.tx_timestamp;
    const high = this.view.getUint32(at + 4, true);
    const middle = (high % NS_PER_SECOND) * 0x10000 + this.view.getUint16(at + 2, true);
    const low = (middle % NS_PER_SECOND) * 0x10000 + this.view.getUint16(at, true);
    // Long division in base 2^16: every intermediate value is below 2^46.
    const quotient = Math.floor(middle / NS_PER_SECOND) * 0x10000 + Math.floor(low / NS_PER_SECOND);
    return Math.floor(high / NS_PER_SECOND) * 0x1_0000_0000 + quotient;
  }

  /** Nanoseconds within that second. */
  timestampNanoseconds(address: number): number {
    const at = address - this.length + layout.tx_timestamp;
    const high = this.view.getUint32(at + 4, true);
    const middle = (high % NS_PER_SECOND) * 0x10000 + this.view.getUint16(at + 2, true);
    return ((middle % NS_PER_SECOND) * 0x10000 + this.view.getUint16(at, true)) % NS_PER_SECOND;
  }
}
