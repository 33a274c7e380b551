/**
 * Bodies of requests, by their length or chunk by chunk (RFC 9112, sections 6 and 7): where the data lies, and where the body ends.
 * It is as strict as the head: lines end in CRLF, sizes are digits and nothing else.
 */
import { CR, hexDigit, LF, SEMICOLON, SP, TAB, VALUE } from "./octets.ts";

/** Octets of a body that are passed over, data and framing: one that is longer ends the connection. */
export const BODY_MAX = 1 << 20;
/** Octets of a chunk's size line, its extensions included. */
const SIZE_LINE_MAX = 256;
/** Octets of all trailer fields. */
const TRAILERS_MAX = 4096;
/** Hexadecimal digits of a chunk's size: more than a number has room for. */
const DIGITS_MAX = 13;

export interface BodyLimits {
  /** Octets of a body, data and framing. */
  readonly body: number;
  /** Octets of all trailer fields. */
  readonly trailers: number;
  /** Whether trailer fields are kept. */
  readonly keeps: boolean;
}

const PASSED_OVER: BodyLimits = { body: BODY_MAX, trailers: TRAILERS_MAX, keeps: false };

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
const SPACE = 11;

export class Body {
  /** The data that next() has come upon: bytes[dataFrom, dataTo). */
  dataFrom = 0;
  dataTo = 0;
  /** Octets of the trailer fields, where they are kept, with the end of each line. */
  readonly trailers: number[] = [];
  private readonly limits: BodyLimits;
  private state = NONE;
  private left = 0;
  /** Octets of the size line or the trailers so far; of data and framing in all. */
  private line = 0;
  private total = 0;
  private digits = 0;
  private emptyLine = true;

  constructor(limits = PASSED_OVER) {
    this.limits = limits;
  }

  /** @param contentLength of the request, -1: chunked */
  begin(contentLength: number): void {
    this.trailers.length = 0;
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

  /** It is longer than may be, or its chunks make no sense: where the next request begins is not known. */
  get broken(): boolean {
    return this.state === BROKEN;
  }

  /** Passes over octets of it in bytes[from, to). How many were. */
  skip(bytes: Uint8Array, from: number, to: number): number {
    let at = from;
    while (at < to && this.state !== NONE && this.state !== BROKEN) at = this.next(bytes, at, to);
    return at - from;
  }

  /**
   * Goes on in bytes[from, to) up to the end of some data, of the body, or of the octets. Data it has come upon is
   * bytes[dataFrom, dataTo).
   * @returns where it has come to
   */
  next(bytes: Uint8Array, from: number, to: number): number {
    let at = from;
    this.dataFrom = from;
    this.dataTo = from;
    while (at < to && this.state !== NONE && this.state !== BROKEN) {
      if (this.state === LENGTH || this.state === DATA) {
        this.dataFrom = at;
        at += this.pass(to - at);
        this.dataTo = at;
        break;
      }
      this.step(bytes[at++]);
    }
    this.total += at - from;
    if (this.total > this.limits.body) this.state = BROKEN;
    return at;
  }

  private pass(most: number): number {
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
        else if (VALUE[octet] === 0 || this.line > SIZE_LINE_MAX) this.state = BROKEN;
        return;
      case SPACE:
        this.beforeExtension(octet);
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
        this.keep(octet);
        if (octet === CR) this.state = TRAILER_LF;
        else if (VALUE[octet] === 0 || this.line > this.limits.trailers) this.state = BROKEN;
        else this.emptyLine = false;
        return;
      default:
        this.keep(octet);
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
    else this.beforeExtension(octet);
  }

  /** ";", or the space that some send before it (RFC 9112, section 7.1.1: BWS). */
  private beforeExtension(octet: number): void {
    if (octet === SEMICOLON) this.state = EXTENSION;
    else this.state = (octet === SP || octet === TAB) && this.line <= SIZE_LINE_MAX ? SPACE : BROKEN;
  }

  private keep(octet: number): void {
    if (this.limits.keeps) this.trailers.push(octet);
  }

  private expect(octet: number, wanted: number, next: number): void {
    this.state = octet === wanted ? next : BROKEN;
  }
}
