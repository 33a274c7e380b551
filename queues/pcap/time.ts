/**
 * Time stamps of captures: 64-bit counts of a unit that each interface chooses, in two 32-bit halves. Here they are whole
 * seconds and nanoseconds, both exact as numbers.
 */

const BINARY_RESOLUTION = 0x80;
const NANO = 1_000_000_000;
const HALF = 65536;

/** A time since 1970, UTC. */
export interface CaptureTime {
  seconds: number;
  /** 0 to 999,999,999. */
  nanoseconds: number;
}

/** How an interface counts time (options if_tsresol and if_tsoffset). */
export class TimeScale {
  /** Units a second, or 0 where a number would not divide exactly. */
  private readonly perSecond: number;
  /** Nanoseconds a unit, where perSecond is not 0. */
  private readonly unitNs: number;
  private readonly wide: bigint;
  private readonly offset: number;

  /**
   * @param resolution if_tsresol: the low seven bits n make the unit 10^-n s, or 2^-n s with the top bit set; default µs
   * @param offset if_tsoffset: seconds to add
   */
  constructor(resolution = 6, offset = 0) {
    const exponent = resolution & ~BINARY_RESOLUTION;
    const decimal = (resolution & BINARY_RESOLUTION) === 0;
    this.perSecond = decimal && exponent <= 9 ? 10 ** exponent : 0;
    this.unitNs = this.perSecond === 0 ? 0 : NANO / this.perSecond;
    this.wide = (decimal ? 10n : 2n) ** BigInt(exponent);
    this.offset = offset;
  }

  /** The time of a stamp into `out`. What is finer than a nanosecond is cut off. */
  convert(high: number, low: number, out: CaptureTime): void {
    const { perSecond } = this;
    if (perSecond === 0) {
      this.convertWide(high, low, out);
      return;
    }
    // Long division in three digits of 32, 16 and 16 bits: each remainder is below 2^30, so each step is exact.
    const q0 = Math.floor(high / perSecond);
    const middle = (high - q0 * perSecond) * HALF + (low >>> 16);
    const q1 = Math.floor(middle / perSecond);
    const last = (middle - q1 * perSecond) * HALF + (low & (HALF - 1));
    const q2 = Math.floor(last / perSecond);
    out.seconds = (q0 * HALF + q1) * HALF + q2 + this.offset;
    out.nanoseconds = (last - q2 * perSecond) * this.unitNs;
  }

  private convertWide(high: number, low: number, out: CaptureTime): void {
    const count = (BigInt(high) << 32n) | BigInt(low);
    out.seconds = Number(count / this.wide) + this.offset;
    out.nanoseconds = Number(((count % this.wide) * BigInt(NANO)) / this.wide);
  }
}

/** High 32 bits of the nanoseconds since 1970. */
export function nanosHigh(seconds: number, nanoseconds: number): number {
  return Math.floor(upper48(seconds, nanoseconds) / HALF);
}

/** Low 32 bits of the nanoseconds since 1970. */
export function nanosLow(seconds: number, nanoseconds: number): number {
  const low = (seconds % HALF) * NANO + nanoseconds;
  return (upper48(seconds, nanoseconds) % HALF) * HALF + (low % HALF);
}

/** seconds * 10^9 + nanoseconds, without its low 16 bits: below 2^48. */
function upper48(seconds: number, nanoseconds: number): number {
  return Math.floor(seconds / HALF) * NANO + Math.floor(((seconds % HALF) * NANO + nanoseconds) / HALF);
}
