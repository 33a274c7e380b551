/**
 * The path of a target as names of files: percent signs decoded, dot segments removed (RFC 3986, section 5.2.4), slashes
 * in a row taken as one. What leads above the root is refused here by its text; that no symbolic link leads out of it is
 * for the kernel to see to, see files.ts.
 */
import { DOT, hexDigit, PERCENT, SLASH } from "./octets.ts";

/** Octets of a decoded path at most (PATH_MAX, include/uapi/linux/limits.h, with what may be appended). */
export const PATH_MAX = 4000;

/** Decodes paths into its own octets. */
export class Path {
  readonly bytes = new Uint8Array(PATH_MAX);
  length = 0;
  /** A hash of the octets (FNV-1a). */
  hash = 0;

  /**
   * Takes bytes[from, to), which begins with a slash.
   * @returns 0, or the status to refuse it with
   */
  take(source: Uint8Array, from: number, to: number): number {
    const { bytes } = this;
    if (to - from > PATH_MAX) return this.takeSlowly(source, from, to);
    let hash = 0x811c9dc5;
    let before = 0;
    for (let at = from; at < to; at++) {
      const octet = source[at];
      // A dot at the head of a segment, and two slashes, may need more than a copy.
      if (octet === PERCENT || (before === SLASH && (octet === SLASH || octet === DOT)))
        return this.takeSlowly(source, from, to);
      bytes[at - from] = octet;
      hash = Math.imul(hash ^ octet, 0x01000193);
      before = octet;
    }
    this.length = to - from;
    this.hash = hash;
    return 0;
  }

  private takeSlowly(source: Uint8Array, from: number, to: number): number {
    this.length = 0;
    for (let at = from; at < to; ) {
      let octet = source[at++];
      if (octet === PERCENT) {
        const high = at + 1 < to ? hexDigit(source[at]) : -1;
        const low = at + 1 < to ? hexDigit(source[at + 1]) : -1;
        if (high < 0 || low < 0) return 400;
        octet = high * 16 + low;
        at += 2;
      }
      if (octet === 0) return 400;
      const status = octet === SLASH ? this.endSegment(true) : this.append(octet);
      if (status !== 0) return status;
    }
    const status = this.endSegment(false);
    if (status !== 0) return status;
    let hash = 0x811c9dc5;
    for (let i = 0; i < this.length; i++) hash = Math.imul(hash ^ this.bytes[i], 0x01000193);
    this.hash = hash;
    return 0;
  }

  private append(octet: number): number {
    if (this.length === PATH_MAX) return 414;
    this.bytes[this.length++] = octet;
    return 0;
  }

  /** A segment has ended, by a slash or with the path: ".", ".." and an empty one leave nothing of themselves. */
  private endSegment(slash: boolean): number {
    const { bytes, length } = this;
    if (length === 0) return this.append(SLASH);
    let start = length;
    while (bytes[start - 1] !== SLASH) start--;
    const size = length - start;
    if (size === 0) return 0;
    const dots = bytes[start] === DOT && (size === 1 || (size === 2 && bytes[start + 1] === DOT));
    if (!dots) return slash ? this.append(SLASH) : 0;
    this.length = start;
    if (size === 1) return 0;
    if (start === 1) return 400;
    start--;
    while (bytes[start - 1] !== SLASH) start--;
    this.length = start;
    return 0;
  }
}
