/**
 * Free frames of one lcore: a stack, because the frame freed last is the one still in the cache. Only the owning lcore
 * touches it, so it needs no atomics.
 */
export class FramePool {
  /** Bytes a frame, a power of two. */
  readonly frameSize: number;
  /** Frames in all. */
  readonly frames: number;
  /** Free frames now. */
  available: number;
  private readonly stack: Int32Array;
  private readonly mask: number;

  /** Frames [0, frames) of a memory at offset `base` (bytes), all free. */
  constructor(frames: number, frameSize: number, base = 0) {
    if (frameSize <= 0 || (frameSize & (frameSize - 1)) !== 0)
      throw new RangeError(`frameSize ${frameSize}: not a power of two`);
    if (frames <= 0 || base + frames * frameSize > 2 ** 31)
      throw new RangeError(`${frames} frames of ${frameSize} bytes exceed 2 GiB`);
    this.frameSize = frameSize;
    this.frames = frames;
    this.available = frames;
    this.stack = new Int32Array(frames);
    this.mask = -frameSize;
    // Lowest frame on top: a fresh pool hands out frames in address order.
    for (let i = 0; i < frames; i++) this.stack[i] = base + (frames - 1 - i) * frameSize;
  }

  /** Takes a frame: the offset of its first byte, or -1 when none is free. */
  take(): number {
    if (this.available === 0) return -1;
    return this.stack[--this.available] as number;
  }

  /** Gives back the frame that contains `offset` (any byte of it). Freeing a frame twice corrupts the pool. */
  give(offset: number): void {
    this.stack[this.available++] = offset & this.mask;
  }
}
