/**
 * The data of datagrams that are not whole yet, in blocks of 2 KiB. A datagram has a table of the blocks that hold its
 * payload, as a process has one of its pages: a fragment is copied to its place once, and costs memory only where no other
 * fragment had come near. Which units of 8 bytes are there is kept as bits beside each block.
 *
 * The second bit of a unit says that a run begins with it: fragments that came one after the other, each where the last
 * one ended, form a run (struct ipfrag_skb_cb in net/ipv4/inet_fragment.c). What lies within one run came before.
 */

/** Bytes of a block. */
export const BLOCK_BYTES = 2048;
/** The most blocks that a datagram takes. */
export const DATAGRAM_BLOCKS = 65536 / BLOCK_BYTES;

const BLOCK_SHIFT = 11;
/** Fragments begin at multiples of 8 bytes (RFC 791; RFC 8200, section 4.5). */
const UNIT_SHIFT = 3;
const UNITS_SHIFT = BLOCK_SHIFT - UNIT_SHIFT;
/** Words of bits of a block. */
const BLOCK_WORDS = 1 << (UNITS_SHIFT - 5);
const NO_BLOCK = -1;

/** How much of a range is there. */
export const COVERED_NOT = 0;
export const COVERED_PARTLY = 1;
export const COVERED_WHOLLY = 2;

export class FragmentStore {
  /** Blocks that no datagram has. */
  free: number;
  readonly blocks: number;
  /** Blocks of each datagram. */
  readonly held: Int32Array;
  private readonly data: Uint8Array;
  private readonly covered: Int32Array;
  private readonly runs: Int32Array;
  private readonly freeBlocks: Int32Array;
  /** DATAGRAM_BLOCKS words a datagram: the block of each 2 KiB of its payload, or NO_BLOCK. */
  private readonly table: Int32Array;

  /** @param datagrams ids are 0..datagrams - 1 */
  constructor(blocks: number, datagrams: number) {
    this.blocks = blocks;
    this.free = blocks;
    this.held = new Int32Array(datagrams);
    this.data = new Uint8Array(blocks * BLOCK_BYTES);
    this.covered = new Int32Array(blocks * BLOCK_WORDS);
    this.runs = new Int32Array(blocks * BLOCK_WORDS);
    this.freeBlocks = Int32Array.from({ length: blocks }, (_, i) => i);
    this.table = new Int32Array(datagrams * DATAGRAM_BLOCKS).fill(NO_BLOCK);
  }

  /** Blocks that a datagram has still to get before bytes [from, to) of it can be put; from < to <= 65,536. */
  missing(datagram: number, from: number, to: number): number {
    let count = 0;
    const last = this.entry(datagram, to - 1);
    for (let entry = this.entry(datagram, from); entry <= last; entry++) {
      if (this.table[entry] === NO_BLOCK) count++;
    }
    return count;
  }

  /** How much of bytes [from, to) of a datagram is there: COVERED_... */
  coverage(datagram: number, from: number, to: number): number {
    const end = (to + 7) >> UNIT_SHIFT;
    let all = true;
    let any = false;
    for (let unit = from >> UNIT_SHIFT; unit < end; unit = (unit | 31) + 1) {
      const mask = maskOf(unit, end);
      const word = this.bits(this.covered, datagram, unit) & mask;
      if (word !== mask) all = false;
      if (word !== 0) any = true;
    }
    return all ? COVERED_WHOLLY : any ? COVERED_PARTLY : COVERED_NOT;
  }

  /** Whether bytes [from, to), which are there, are of one run. */
  isOneRun(datagram: number, from: number, to: number): boolean {
    const end = (to + 7) >> UNIT_SHIFT;
    for (let unit = (from >> UNIT_SHIFT) + 1; unit < end; unit = (unit | 31) + 1) {
      if ((this.bits(this.runs, datagram, unit) & maskOf(unit, end)) !== 0) return false;
    }
    return true;
  }

  /**
   * Puts `length` bytes, of which none is there, at offset `to` of a datagram. The caller has seen to it that missing()
   * blocks are free.
   * @param beginsRun whether a run begins with them
   */
  put(datagram: number, to: number, bytes: Uint8Array, at: number, length: number, beginsRun: boolean): void {
    const end = to + length;
    for (let from = to; from < end; from = (from | (BLOCK_BYTES - 1)) + 1) {
      const until = Math.min((from | (BLOCK_BYTES - 1)) + 1, end);
      const block = this.take(datagram, from);
      this.data.set(
        bytes.subarray(at + from - to, at + until - to),
        (block << BLOCK_SHIFT) + (from & (BLOCK_BYTES - 1)),
      );
    }
    this.mark(datagram, to, end);
    if (!beginsRun) return;
    const unit = to >> UNIT_SHIFT;
    this.runs[this.wordOf(this.table[this.entry(datagram, to)], unit)] |= 1 << (unit & 31);
  }

  /** Copies the first `length` bytes of a datagram, which are all there. */
  copy(datagram: number, length: number, to: Uint8Array, at: number): void {
    for (let from = 0; from < length; from += BLOCK_BYTES) {
      const start = this.table[this.entry(datagram, from)] << BLOCK_SHIFT;
      to.set(this.data.subarray(start, start + Math.min(BLOCK_BYTES, length - from)), at + from);
    }
  }

  /** Gives back all blocks of a datagram. */
  release(datagram: number): void {
    const first = datagram * DATAGRAM_BLOCKS;
    for (let entry = first; entry < first + DATAGRAM_BLOCKS; entry++) {
      const block = this.table[entry];
      if (block === NO_BLOCK) continue;
      this.freeBlocks[this.free++] = block;
      this.table[entry] = NO_BLOCK;
    }
    this.held[datagram] = 0;
  }

  private entry(datagram: number, offset: number): number {
    return datagram * DATAGRAM_BLOCKS + (offset >> BLOCK_SHIFT);
  }

  private wordOf(block: number, unit: number): number {
    return block * BLOCK_WORDS + ((unit >> 5) & (BLOCK_WORDS - 1));
  }

  /** The word of bits that unit `unit` of a datagram is in. */
  private bits(bits: Int32Array, datagram: number, unit: number): number {
    const block = this.table[datagram * DATAGRAM_BLOCKS + (unit >> UNITS_SHIFT)];
    return block === NO_BLOCK ? 0 : bits[this.wordOf(block, unit)];
  }

  /** The block at an offset of a datagram, a new one where there is none. */
  private take(datagram: number, offset: number): number {
    const entry = this.entry(datagram, offset);
    if (this.table[entry] !== NO_BLOCK) return this.table[entry];
    const block = this.freeBlocks[--this.free];
    this.covered.fill(0, block * BLOCK_WORDS, (block + 1) * BLOCK_WORDS);
    this.runs.fill(0, block * BLOCK_WORDS, (block + 1) * BLOCK_WORDS);
    this.table[entry] = block;
    this.held[datagram]++;
    return block;
  }

  private mark(datagram: number, from: number, to: number): void {
    const end = (to + 7) >> UNIT_SHIFT;
    for (let unit = from >> UNIT_SHIFT; unit < end; unit = (unit | 31) + 1) {
      const block = this.table[datagram * DATAGRAM_BLOCKS + (unit >> UNITS_SHIFT)];
      this.covered[this.wordOf(block, unit)] |= maskOf(unit, end);
    }
  }
}

/** The bits from that of `unit` up to the end of its word, or to that of `end` when it comes before. */
function maskOf(unit: number, end: number): number {
  const upper = -1 << (unit & 31);
  return (unit | 31) < end ? upper : upper & ~(-1 << (end & 31));
}
