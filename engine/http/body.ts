/** Bodies of requests, which a server of files passes over: by their length, or chunk by chunk (RFC 9112, sections 6 and 7). */
import { CR, hexDigit, LF } from "./octets.ts";

/** Octets of a body that are passed over, data and framing: one that is longer ends the connection. */
export const BODY_MAX = 1 << 20;
/** Octets of a chunk's size line, its extensions included. */
const SIZE_LINE_MAX = 256;
/** Octets of all trailer fields. */
const TRAILERS_MAX = 4096;
/** Hexadecimal digits of a chunk's size. */
const DIGITS_MAX = 8;

const NONE = 0;
/** `left` octets, then nothing more. */
const LENGTH = 1;
const SIZE = 2;
const EXTENSION = 3;
const SIZE_LF = 4;
/** `left` octets, then CRLF. */
const DATA = 5;
const DATA_CR = 6;
const DATA_LF = 7;
const TRAILER = 8;
const TRAILER_LF = 9;
const BROKEN = 10;

export class Body {
  private state = NONE;
  private left = 0;
  /** Octets of the size line or the trailers so far; of data and framing in all. */
  private line = 0;
  private total = 0;
  private digits = 0;
  private emptyLine = true;

  /** @param contentLength of the request, -1: chunked */
  begin(contentLength: number): void {
    this.state = contentLength < 0 ? SIZE : contentLength === 0 ? NONE : LENGTH;
    this.left = Math.max(contentLength, 0);
    this.line = 0;
    this.total = 0;
    this.digits = 0;
    this.emptyLine = true;
  }

  /** More of it is to come. */
  get pending(): boolean {
    return this.state !== NONE;
  }

  /** It is longer than BODY_MAX, or its chunks make no sense: where the next request begins is not known. */
  get broken(): boolean {
    return this.state === BROKEN;
  }

  /** Passes over octets of it in bytes[from, to). How many were. */
  skip(bytes: Uint8Array, from: number, to: number): number {
    let at = from;
    while (at < to && this.state !== NONE && this.state !== BROKEN) {
      if (this.state === LENGTH || this.state === DATA) at += this.skipData(to - at);
      else this.step(bytes[at++]);
    }
    this.total += at - from;
    if (this.total > BODY_MAX) this.state = BROKEN;
    return at - from;
  }

  private skipData(most: number): number {
    const count = Math.min(this.left, most);
    this.left -= count;
    if (this.left === 0) this.state = this.state === LENGTH ? NONE : DATA_CR;
    return count;
  }

  private step(octet: number): void {
    this.line++;
    switch (this.state) {
      case SIZE:
        this.size(octet);
        return;
      case EXTENSION:
        // Only where it ends matters.
        if (octet === CR) this.state = SIZE_LF;
        else if (octet === LF || this.line > SIZE_LINE_MAX) this.state = BROKEN;
        return;
      case SIZE_LF:
        this.line = 0;
        this.digits = 0;
        this.emptyLine = true;
        this.expect(octet, LF, this.left === 0 ? TRAILER : DATA);
        return;
      case DATA_CR:
        this.expect(octet, CR, DATA_LF);
        return;
      case DATA_LF:
        this.line = 0;
        this.expect(octet, LF, SIZE);
        return;
      case TRAILER:
        if (octet === CR) this.state = TRAILER_LF;
        else if (octet === LF || this.line > TRAILERS_MAX) this.state = BROKEN;
        else this.emptyLine = false;
        return;
      default:
        this.expect(octet, LF, this.emptyLine ? NONE : TRAILER);
        this.emptyLine = true;
    }
  }

  private size(octet: number): void {
    const digit = hexDigit(octet);
    if (digit >= 0) {
      this.left = this.digits === 0 ? digit : this.left * 16 + digit;
      if (++this.digits > DIGITS_MAX) this.state = BROKEN;
    } else if (this.digits === 0) this.state = BROKEN;
    else if (octet === CR) this.state = SIZE_LF;
    // ";", or the space that some send before it (RFC 9112, section 7.1.1: BWS).
    else this.state = octet === 59 || octet === 32 || octet === 9 ? EXTENSION : BROKEN;
  }

  private expect(octet: number, wanted: number, next: number): void {
    this.state = octet === wanted ? next : BROKEN;
  }
}
