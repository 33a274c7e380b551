/**
 * Packets longer than a frame, which come in several of them (XDP_PKT_CONTD): put together in buffers behind the frames. On
 * veth in skb mode the sender's kernel leaves segmentation to the device, so what comes of its TCP is up to 64 KiB long.
 *
 * A buffer is good until the next burst: whoever is handed one copies what it wants to keep.
 */

/** Bytes of a buffer: a packet of 65,535 bytes, Ethernet and two tags before it, and whole words. */
const LARGE_BYTES = 65_664;
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
  /** Bytes of the packet at hand; once it is finished 0 if there is none that fits a buffer. */
  length = 0;
  private used = 0;

  /** @param base in `memory`, a multiple of 4, with LARGE_AREA bytes from there on */
  constructor(memory: Uint8Array, base: number) {
    this.memory = memory;
    this.base = base;
  }

  /** A burst begins: what was handed out in the last one is done with. */
  begin(): void {
    this.used = 0;
  }

  get hasRoom(): boolean {
    return this.used < LARGE_COUNT;
  }

  /** Offset of the packet at hand. */
  private get at(): number {
    return this.base + this.used * LARGE_BYTES + LEAD;
  }

  /** A packet begins. */
  start(): void {
    this.length = 0;
  }

  /** Adds a piece that lies at `offset`. */
  add(offset: number, length: number): void {
    const end = this.length + length;
    if (end <= LARGE_BYTES - LEAD) this.memory.copyWithin(this.at + this.length, offset, offset + length);
    this.length = end;
  }

  /** The packet is whole. */
  finish(): void {
    if (this.length > LARGE_BYTES - LEAD) this.length = 0;
  }

  /** The packet has no end. */
  drop(): void {
    this.length = 0;
  }

  /** Hands out the packet at hand: where it is. */
  take(): number {
    const { at } = this;
    this.used++;
    return at;
  }
}
