/**
 * Reproducible random numbers for tests and hash keys: sfc32 ("small fast counting", C. Doty-Humphrey, PractRand), 128
 * bits of state of which 32 count, so that every seed's period is at least 2^32. Not for secrets.
 */
export class Random {
  private a: number;
  private b: number;
  private c: number;
  private counter: number;

  /** @param seed any int32; equal seeds give equal sequences */
  constructor(seed: number) {
    this.a = seed | 0;
    this.b = 0x9e3779b9 | 0;
    this.c = 0x243f6a88;
    this.counter = 1;
    // PractRand mixes the seed in with 12 rounds or more.
    for (let i = 0; i < 16; i++) this.int32();
  }

  /** Any int32. */
  int32(): number {
    const out = (((this.a + this.b) | 0) + this.counter) | 0;
    this.counter = (this.counter + 1) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = (((this.c << 21) | (this.c >>> 11)) + out) | 0;
    return out;
  }

  /** A number in [0, 1), a multiple of 2^-32. */
  unit(): number {
    return (this.int32() >>> 0) / 2 ** 32;
  }

  /** An integer in [0, bound), `bound` at most 2^31. Its bias is below bound / 2^32. */
  below(bound: number): number {
    return Math.floor(this.unit() * bound);
  }
}
