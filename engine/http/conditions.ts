/** Conditional requests and ranges (RFC 9110, sections 13 and 14) for a file with an ETag and a Last-Modified date. */
import { parseDate } from "./dates.ts";
import { COMMA, decimal, isAt, isWord, octets, QUOTE, SP, STAR, TAB, text } from "./octets.ts";
import type { Request, Span } from "./request.ts";

/** What conditions are about. */
export interface Validators {
  /** A strong entity tag, its quotes included. */
  readonly etag: Uint8Array;
  /** Last-Modified as it is sent, and in seconds since 1970. */
  readonly lastModified: Uint8Array;
  readonly modified: number;
}

const WEAK = octets("W/");
const BYTES = octets("bytes");
const EQUALS = 61;
const DASH = 45;

/** 200 where the file is to be sent, 304, or 412 (RFC 9110, section 13.2.2, steps 1 to 4). */
export function evaluate(request: Request, file: Validators): number {
  const { bytes, ifMatch, ifNoneMatch, ifModifiedSince, ifUnmodifiedSince } = request;
  if (ifMatch.isSet) {
    if (!matches(bytes, ifMatch.from, ifMatch.to, file.etag, false)) return 412;
  } else if (ifUnmodifiedSince.isSet && file.modified > date(bytes, ifUnmodifiedSince)) return 412;
  if (ifNoneMatch.isSet) return matches(bytes, ifNoneMatch.from, ifNoneMatch.to, file.etag, true) ? 304 : 200;
  if (ifModifiedSince.isSet) return isModified(bytes, ifModifiedSince, file) ? 200 : 304;
  return 200;
}

function isModified(bytes: Uint8Array, since: Span, file: Validators): boolean {
  // What a client has been told it gives back, octet by octet.
  if (isSame(bytes, since, file.lastModified)) return false;
  const seconds = date(bytes, since);
  return Number.isNaN(seconds) || file.modified > seconds;
}

/** Whether the range of a request with If-Range is to be looked at (RFC 9110, section 13.1.5). */
export function rangeApplies(request: Request, file: Validators): boolean {
  const { bytes, ifRange } = request;
  if (ifRange.from === -1) return true;
  // Given twice it says nothing that can be relied on.
  if (!ifRange.isSet) return false;
  return isSame(bytes, ifRange, file.etag) || isSame(bytes, ifRange, file.lastModified);
}

function isSame(bytes: Uint8Array, span: Span, word: Uint8Array): boolean {
  return span.to - span.from === word.length && isAt(bytes, span.from, span.to, word);
}

const date = (bytes: Uint8Array, span: Span): number => parseDate(text(bytes, span.from, span.to));

/** Whether "*" or a list of entity tags has this one, weak ones counted if `weakly`. What is no list matches nothing. */
function matches(bytes: Uint8Array, from: number, to: number, etag: Uint8Array, weakly: boolean): boolean {
  if (to - from === 1 && bytes[from] === STAR) return true;
  for (let at = from; at < to; ) {
    const octet = bytes[at];
    if (octet === COMMA || octet === SP || octet === TAB) {
      at++;
      continue;
    }
    const weak = isAt(bytes, at, to, WEAK);
    if (weak) at += WEAK.length;
    if (bytes[at] !== QUOTE) return false;
    let end = at + 1;
    while (end < to && bytes[end] !== QUOTE) end++;
    if (end >= to) return false;
    if ((weakly || !weak) && end + 1 - at === etag.length && isAt(bytes, at, to, etag)) return true;
    at = end + 1;
  }
  return false;
}

/** Outcomes of Range. */
export const WHOLE = 0;
export const PART = 1;
export const UNSATISFIABLE = 2;

/** One range of octets, [from, to). */
export class Range {
  from = 0;
  to = 0;

  /**
   * Reads a Range field. Only one range is served as such: a list of them, another unit and what makes no sense are
   * passed over, as a server may (RFC 9110, section 14.2).
   * @param size octets of the file
   * @returns WHOLE, PART or UNSATISFIABLE
   */
  parse(bytes: Uint8Array, start: number, end: number, size: number): number {
    const unit = start + BYTES.length;
    if (!isWord(bytes, start, Math.min(unit, end), BYTES) || bytes[unit] !== EQUALS) return WHOLE;
    let dash = unit + 1;
    while (dash < end && bytes[dash] !== DASH) dash++;
    if (dash >= end) return WHOLE;
    const last = dash + 1 === end ? Number.POSITIVE_INFINITY : decimal(bytes, dash + 1, end);
    if (last < 0) return WHOLE;
    if (dash === unit + 1) return this.suffix(dash + 1 === end ? -1 : last, size);
    const first = decimal(bytes, unit + 1, dash);
    if (first < 0 || last < first) return WHOLE;
    if (first >= size) return UNSATISFIABLE;
    this.from = first;
    this.to = Math.min(last + 1, size);
    return PART;
  }

  private suffix(length: number, size: number): number {
    if (length < 0) return WHOLE;
    if (length === 0 || size === 0) return UNSATISFIABLE;
    this.from = Math.max(size - length, 0);
    this.to = size;
    return PART;
  }
}
