/**
 * Packets longer than a frame, which come in several of them (XDP_PKT_CONTD): put together in buffers behind the frames. On
 * veth in skb mode the sender's kernel leaves segmentation to the device, so what comes of its TCP is up to 64 KiB long.
 *
 * A buffer is good until the next burst: whoever is handed one copies what it wants to keep.
 */

/** Bytes of a buffer: a packet of 65,535 bytes, Ethernet and two tags before it, and whole words. */
export const LARGE_BYTES = 65_664;
/** Packets a burst may have. */
const LARGE_COUNT = 4;
/** Bytes of all buffers. */
export const LARGE_AREA = LARGE_BYTES * LARGE_COUNT;
/** Where a packet begins in its buffer: its IP header lies on a word, as in frames. */
const LEAD = 2;

export class LargePackets {
  /** Offset of the first buffer: what begins there or later is no frame. */
  readonly base: number;
  /** The frames, and what is behind them. */
  readonly memory: Uint8Array;
  private used = 0;
  /** Bytes of the packet that is being put together, -1: none is. */
  private length = -1;
  /** Packets longer than a buffer. */
  tooLong = 0;

  /** @param base in `memory`, a multiple of 4, with LARGE_AREA bytes from there on */
  constructor(memory: Uint8Array, base: number) {
    this.memory = memory;
    this.base = base;
  }

  /** A burst begins: what was handed out in the last one is done with. */
  begin(): void {
    // A packet that goes on in this burst has moved to the first buffer.
    if (this.length > 0 && this.used > 0) {
      const from = this.at;
      this.used = 0;
      this.memory.copyWithin(this.at, from, from + this.length);
    } else {
      this.used = 0;
    }
  }

  /** Whether the next piece belongs to a packet that is not whole yet. */
  get isOpen(): boolean {
    return this.length >= 0;
  }

  get hasRoom(): boolean {
    return this.used < LARGE_COUNT;
  }

  /** Offset of the packet that is put together. */
  private get at(): number {
    return this.base + this.used * LARGE_BYTES + LEAD;
  }

  /** Adds a piece that lies at `offset`. */
  add(offset: number, length: number): void {
    if (this.length < 0) this.length = 0;
    const end = this.length + length;
    if (end <= LARGE_BYTES - LEAD) this.memory.copyWithin(this.at + this.length, offset, offset + length);
    this.length = end;
  }

  /** The packet is whole: its bytes, and where it is by `take`; 0: it was too long. */
  finish(): number {
    const { length } = this;
    this.length = -1;
    if (length <= LARGE_BYTES - LEAD) return length;
    this.tooLong++;
    return 0;
  }

  /** Hands out the packet that finish() has told of. */
  take(): number {
    const { at } = this;
    this.used++;
    return at;
  }
}
