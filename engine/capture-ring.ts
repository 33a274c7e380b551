/**
 * A ring of bytes between an lcore, which writes blocks of pcapng into it, and the thread that hands them to whoever
 * captures. Blocks lie whole and as they are in a file, so the reader copies ranges and looks at nothing.
 *
 *   byte   0  head       bytes written since the start; written by the lcore
 *        128  tail       bytes read since the start; written by the reader
 *        256  lapEnd     where the blocks of the lap end that is being read; written by the lcore, when it begins the next
 *        260  state      who uses the ring, see RING_...; written by the lcore
 *        264  counts     received, accepted, dropped: float64, a row an interface; written by the lcore
 *        …    data
 *
 * Cursors wrap at 2^32; their difference is right in int32 arithmetic, as the data is at most 2^30 bytes. What is left at
 * the end of a lap and too short for a block is skipped by both: lapEnd says from where on. The lcore can begin a second
 * lap only when the reader has left the one before, so one word is enough.
 */

const HEAD_WORD = 0;
const TAIL_WORD = 32;
const LAP_END_WORD = 64;
const STATE_WORD = 65;
const COUNTS_BYTE = 264;
const COUNTS_ROW = 3;

/** The lcore has not seen the ring yet; writes into it; is done with it. */
export const RING_NEW = 0;
export const RING_ATTACHED = 1;
export const RING_DETACHED = 2;

export const RING_BYTES_MIN = 1 << 14;
export const RING_BYTES_MAX = 1 << 28;

/** What became of an interface's frames. */
export interface CaptureCounts {
  /** Frames that the lcore received and sent, in the directions asked for. */
  received: number;
  /** Those that the filter took. */
  accepted: number;
  /** Those of them that found no room in the ring. */
  dropped: number;
}

export const RECEIVED = 0;
export const ACCEPTED = 1;
export const DROPPED = 2;

/** Plain data: post it to the lcore. */
export interface CaptureRingDescriptor {
  readonly buffer: SharedArrayBuffer;
  /** Bytes of data, a power of two. */
  readonly bytes: number;
  /** Rows of counts. */
  readonly interfaces: number;
}

const dataByte = (interfaces: number): number => (COUNTS_BYTE + interfaces * COUNTS_ROW * 8 + 127) & -128;

/** An empty ring. Its pages take memory when they are written to. */
export function createCaptureRing(bytes: number, interfaces: number): CaptureRingDescriptor {
  if ((bytes & (bytes - 1)) !== 0 || bytes < RING_BYTES_MIN || bytes > RING_BYTES_MAX) {
    throw new RangeError(`${bytes} bytes: a power of two from ${RING_BYTES_MIN} to ${RING_BYTES_MAX}`);
  }
  return { buffer: new SharedArrayBuffer(dataByte(interfaces) + bytes), bytes, interfaces };
}

/** The lcore's end. */
export class CaptureRingWriter {
  /** The data, to be written at the positions that claim() gives: as bytes, and as words. */
  readonly bytes: Buffer;
  readonly words: Int32Array;
  /** Counts of interface i at 3 i, by RECEIVED, ACCEPTED and DROPPED. */
  readonly counts: Float64Array;
  private readonly control: Int32Array;
  private readonly size: number;
  private head: number;
  private published: number;
  private tailSeen: number;

  constructor({ buffer, bytes, interfaces }: CaptureRingDescriptor) {
    const data = dataByte(interfaces);
    this.bytes = Buffer.from(buffer as unknown as ArrayBuffer, data, bytes);
    this.words = new Int32Array(buffer, data, bytes / 4);
    this.counts = new Float64Array(buffer, COUNTS_BYTE, interfaces * COUNTS_ROW);
    this.control = new Int32Array(buffer, 0, COUNTS_BYTE / 4);
    this.size = bytes;
    this.head = Atomics.load(this.control, HEAD_WORD);
    this.published = this.head;
    this.tailSeen = Atomics.load(this.control, TAIL_WORD);
  }

  /** Takes room for a block of `count` bytes, a multiple of 4: its position in the data, or -1 when there is none. */
  claim(count: number): number {
    const { size } = this;
    const position = this.head & (size - 1);
    const skip = position + count > size ? size - position : 0;
    const next = (this.head + skip + count) | 0;
    if (((next - this.tailSeen) | 0) > size) {
      this.tailSeen = Atomics.load(this.control, TAIL_WORD);
      if (((next - this.tailSeen) | 0) > size) return -1;
    }
    // A block at the start of a lap ends the one before: here, or where the last block of it ended exactly.
    if (skip > 0) this.control[LAP_END_WORD] = position;
    else if (position === 0) this.control[LAP_END_WORD] = size;
    this.head = next;
    return skip > 0 ? 0 : position;
  }

  /** Hands every claimed block to the reader. */
  publish(): void {
    if (this.head === this.published) return;
    this.published = this.head;
    Atomics.store(this.control, HEAD_WORD, this.head);
  }

  setState(state: number): void {
    Atomics.store(this.control, STATE_WORD, state);
  }
}

/** The end of the thread that captures for others. */
export class CaptureRingReader {
  private readonly data: Uint8Array;
  private readonly counts: Float64Array;
  private readonly control: Int32Array;
  private readonly size: number;
  private tail = 0;

  constructor({ buffer, bytes, interfaces }: CaptureRingDescriptor) {
    this.data = new Uint8Array(buffer, dataByte(interfaces), bytes);
    this.counts = new Float64Array(buffer, COUNTS_BYTE, interfaces * COUNTS_ROW);
    this.control = new Int32Array(buffer, 0, COUNTS_BYTE / 4);
    this.size = bytes;
  }

  get state(): number {
    return Atomics.load(this.control, STATE_WORD);
  }

  countsOf(index: number): CaptureCounts {
    const [received, accepted, dropped] = this.counts.subarray(index * COUNTS_ROW, (index + 1) * COUNTS_ROW);
    return { received, accepted, dropped };
  }

  /** A copy of the blocks that are there, up to the end of the lap; empty when there are none. */
  take(): Uint8Array {
    const head = Atomics.load(this.control, HEAD_WORD);
    const there = (head - this.tail) | 0;
    if (there === 0) return new Uint8Array(0);
    const from = this.tail & (this.size - 1);
    const wraps = from + there > this.size;
    const end = wraps ? this.control[LAP_END_WORD] : from + there;
    const copy = this.data.slice(from, end);
    this.tail = (this.tail + (wraps ? this.size - from : there)) | 0;
    Atomics.store(this.control, TAIL_WORD, this.tail);
    // Nothing but the skipped end of a lap: what follows it is there as well.
    return copy.length === 0 ? this.take() : copy;
  }
}
