/** 64-bit values as pairs of 32-bit words or as numbers, never as BigInt. Words may be signed or unsigned. */

const WORD = 0x1_0000_0000;

/** The value of two words; exact below 2^53. */
export const u64 = (low: number, high: number): number => (high >>> 0) * WORD + (low >>> 0);

/** Low word of a number below 2^53, unsigned. */
export const lowWord = (value: number): number => value % WORD;

/** High word of a number below 2^53, unsigned. */
export const highWord = (value: number): number => Math.floor(value / WORD);

/** Start of the chunk in an unaligned-mode descriptor address (XSK_UNALIGNED_BUF_ADDR_MASK). */
export const unalignedChunk = (low: number, high: number): number => (high & 0xffff) * WORD + (low >>> 0);

/** Offset of the data from its chunk in an unaligned-mode descriptor address (XSK_UNALIGNED_BUF_OFFSET_SHIFT). */
export const unalignedOffset = (high: number): number => high >>> 16;

/** UMEM offset of the data in an unaligned-mode descriptor address. */
export const unalignedAddress = (low: number, high: number): number =>
  unalignedChunk(low, high) + unalignedOffset(high);
