/**
 * The head of a request (RFC 9112, sections 2 to 6): request line and header fields, parsed where their octets lie. A
 * Request is one object that each parse() fills anew, with offsets into the octets it was given; it makes no strings.
 *
 * It is strict: lines end in CRLF, no field is folded, no space stands before a colon, and what may be read in two ways
 * (two lengths, a length beside a transfer coding, two hosts) is refused, so that no proxy before us sees other requests
 * in the same octets (RFC 9112, section 11.2).
 */
import {
  AUTHORITY,
  COLON,
  COMMA,
  CR,
  decimal,
  isAt,
  isWord,
  LF,
  octets,
  QUESTION,
  SLASH,
  SP,
  STAR,
  TAB,
  TARGET,
  TOKEN,
  VALUE,
} from "./octets.ts";

/** Octets of a request line: beyond, 414. RFC 9112, section 3, asks for 8,000 at least. */
export const LINE_MAX = 8192;
/** Octets of a whole head: beyond, 431. */
export const HEAD_MAX = 16_384;
/** Header fields of a request: one more, 431. */
export const FIELDS_MAX = 100;
/** Empty lines before a request that are passed over (RFC 9112, section 2.2: one at least). */
const EMPTY_LINES_MAX = 4;
/** Octets of a method: beyond, it is none that anybody knows. */
const METHOD_MAX = 32;

/** What parse() says besides the status of a refusal. */
export const COMPLETE = 0;
export const INCOMPLETE = -1;

/** Values of `method`. */
export const GET = 1;
export const HEAD = 2;
/** Known, and not for files: 405. */
export const OTHER = 3;
/** Not known: 501. */
export const UNKNOWN = 4;

const METHODS = ["OPTIONS", "POST", "PUT", "DELETE", "TRACE", "PATCH", "CONNECT"].map(octets);
const M_GET = octets("GET");
const M_HEAD = octets("HEAD");
const M_OPTIONS = METHODS[0];
const VERSION = octets("HTTP/");
const HTTP = octets("http://");
const HTTPS = octets("https://");
const ROOT = octets("/");

const F_HOST = octets("host");
const F_RANGE = octets("range");
const F_EXPECT = octets("expect");
const F_IF_RANGE = octets("if-range");
const F_IF_MATCH = octets("if-match");
const F_CONNECTION = octets("connection");
const F_IF_NONE_MATCH = octets("if-none-match");
const F_CONTENT_LENGTH = octets("content-length");
const F_TRANSFER_ENCODING = octets("transfer-encoding");
const F_IF_MODIFIED_SINCE = octets("if-modified-since");
const F_IF_UNMODIFIED_SINCE = octets("if-unmodified-since");

const CLOSE = octets("close");
const KEEP_ALIVE = octets("keep-alive");
const CHUNKED = octets("chunked");
const CONTINUE = octets("100-continue");

/** Where a field's value lies; from -1: there is none. */
export class Span {
  from = -1;
  to = -1;

  clear(): void {
    this.from = -1;
    this.to = -1;
  }

  set(from: number, to: number): void {
    this.from = from;
    this.to = to;
  }

  get isSet(): boolean {
    return this.from >= 0;
  }
}

export class Request {
  /** The octets that the offsets are of. */
  bytes: Uint8Array = ROOT;
  /** GET, HEAD, OTHER, UNKNOWN; 0 where the request line was refused before it. */
  method = 0;
  /** 0 or 1: HTTP/1.0 or HTTP/1.1. */
  minor = 1;
  /** The request line, without its end. */
  readonly line = new Span();
  /** Path of the target, without its query, and that; the path of an absolute target may lie in `pathBytes` of its own. */
  readonly path = new Span();
  pathBytes: Uint8Array = ROOT;
  readonly query = new Span();
  /** The client wants the connection to end with the answer, or by HTTP/1.0 has not asked for it to stay. */
  close = false;
  /** Octets of the body; -1: chunked. */
  contentLength = 0;
  /** The client waits for a 100 before it sends the body. */
  expects = false;
  readonly range = new Span();
  readonly ifRange = new Span();
  readonly ifMatch = new Span();
  readonly ifNoneMatch = new Span();
  readonly ifModifiedSince = new Span();
  readonly ifUnmodifiedSince = new Span();
  /** Where the head ends. */
  end = 0;

  private hosts = 0;
  private lengths = 0;
  private codings = 0;
  private keepAlive = false;
  private closes = false;
  private refusal = 0;
  private at = 0;

  /**
   * Parses the head in bytes[from, to). A line is judged once its end is there, or when it is too long, so that the
   * outcome does not depend on how the octets have come.
   * @returns COMPLETE, and `end` is where it ends; INCOMPLETE; or the status to refuse it with
   */
  parse(bytes: Uint8Array, from: number, to: number): number {
    this.clear(bytes);
    let at = from;
    for (let i = 0; i < EMPTY_LINES_MAX && at + 1 < to && bytes[at] === CR && bytes[at + 1] === LF; i++) at += 2;
    if (at + 1 >= to && (at === to || bytes[at] === CR)) return INCOMPLETE;
    let result = this.requestLine(bytes, at, to);
    if (result !== COMPLETE) return this.judge(result, at, to, LINE_MAX, 414);
    const limit = Math.min(to, from + HEAD_MAX);
    for (let fields = 0; ; fields++) {
      const start = this.at;
      if (start + 1 < limit && bytes[start] === CR && bytes[start + 1] === LF) break;
      result = this.field(bytes, start, limit);
      if (result === COMPLETE && fields >= FIELDS_MAX) result = 431;
      if (result !== COMPLETE) return this.judge(result, start, limit, from + HEAD_MAX - start, 431);
    }
    this.end = this.at + 2;
    return this.conclude();
  }

  private clear(bytes: Uint8Array): void {
    this.bytes = bytes;
    this.pathBytes = bytes;
    this.method = 0;
    this.minor = 1;
    this.contentLength = 0;
    this.expects = false;
    this.hosts = 0;
    this.lengths = 0;
    this.codings = 0;
    this.keepAlive = false;
    this.closes = false;
    this.close = true;
    this.refusal = 0;
    this.line.clear();
    this.path.clear();
    this.query.clear();
    this.range.clear();
    this.ifRange.clear();
    this.ifMatch.clear();
    this.ifNoneMatch.clear();
    this.ifModifiedSince.clear();
    this.ifUnmodifiedSince.clear();
  }

  /** A refusal counts once the line that it is for has ended; a line longer than `most` is refused for that. */
  private judge(result: number, start: number, to: number, most: number, tooLong: number): number {
    const limit = Math.min(to, start + most);
    if (result > 0) for (let i = start; i < limit; i++) if (this.bytes[i] === LF) return result;
    return to - start >= most ? tooLong : INCOMPLETE;
  }

  /** method SP request-target SP HTTP-version CRLF */
  private requestLine(bytes: Uint8Array, start: number, end: number): number {
    const to = Math.min(end, start + LINE_MAX);
    let at = start;
    while (at < to && TOKEN[bytes[at]] === 1) at++;
    if (at === to) return INCOMPLETE;
    if (bytes[at] !== SP || at === start) return 400;
    this.method = methodAt(bytes, start, at);
    const target = at + 1;
    let query = -1;
    for (at = target; at < to && TARGET[bytes[at]] === 1; at++) {
      if (bytes[at] === QUESTION && query < 0) query = at;
    }
    if (at === to) return INCOMPLETE;
    if (bytes[at] !== SP || at === target) return 400;
    const targetEnd = at;
    const version = at + 1;
    // "HTTP/1.1" CR LF
    if (to - version < 10) return this.partOfVersion(bytes, version, to);
    if (!isAt(bytes, version, to, VERSION) || bytes[version + 6] !== 46) return 400;
    const major = bytes[version + 5] - 48;
    const minor = bytes[version + 7] - 48;
    if (major < 0 || major > 9 || minor < 0 || minor > 9) return 400;
    if (bytes[version + 8] !== CR || bytes[version + 9] !== LF) return 400;
    if (major !== 1) return 505;
    this.minor = Math.min(minor, 1);
    this.line.set(start, version + 8);
    this.at = version + 10;
    this.path.set(target, query < 0 ? targetEnd : query);
    if (query >= 0) this.query.set(query, targetEnd);
    return bytes[target] === SLASH ? COMPLETE : this.otherTarget(bytes, start, target, targetEnd);
  }

  /** A line that ends too early for a version is wrong, one that does not end is to be waited for. */
  private partOfVersion(bytes: Uint8Array, from: number, to: number): number {
    for (let i = from; i < to; i++) if (bytes[i] === LF) return 400;
    return INCOMPLETE;
  }

  /** Forms of a target that do not begin with a slash (RFC 9112, section 3.2). */
  private otherTarget(bytes: Uint8Array, start: number, target: number, end: number): number {
    if (this.method > HEAD) {
      const asterisk = end - target === 1 && bytes[target] === STAR;
      return asterisk && !isAt(bytes, start, end, M_OPTIONS) ? 400 : COMPLETE;
    }
    const scheme = isWord(bytes, target, target + HTTP.length, HTTP)
      ? HTTP.length
      : isWord(bytes, target, target + HTTPS.length, HTTPS)
        ? HTTPS.length
        : 0;
    if (scheme === 0) return 400;
    const { path } = this;
    let at = target + scheme;
    while (at < path.to && bytes[at] !== SLASH) if (AUTHORITY[bytes[at++]] !== 1) return 400;
    if (at === target + scheme) return 400;
    if (at < path.to) path.from = at;
    else {
      this.pathBytes = ROOT;
      path.set(0, 1);
    }
    return COMPLETE;
  }

  /** field-name ":" OWS field-value OWS CRLF */
  private field(bytes: Uint8Array, start: number, to: number): number {
    let at = start;
    while (at < to && TOKEN[bytes[at]] === 1) at++;
    if (at === to) return INCOMPLETE;
    if (bytes[at] !== COLON || at === start) return 400;
    const name = at++;
    while (at < to && (bytes[at] === SP || bytes[at] === TAB)) at++;
    const value = at;
    while (at < to && VALUE[bytes[at]] === 1) at++;
    if (at + 1 >= to) return at === to || bytes[at] === CR ? INCOMPLETE : 400;
    if (bytes[at] !== CR || bytes[at + 1] !== LF) return 400;
    this.at = at + 2;
    while (at > value && (bytes[at - 1] === SP || bytes[at - 1] === TAB)) at--;
    this.take(bytes, start, name, value, at);
    return COMPLETE;
  }

  /** Keeps a field that matters. */
  private take(bytes: Uint8Array, name: number, end: number, from: number, to: number): void {
    switch (end - name) {
      case 4:
        if (isWord(bytes, name, end, F_HOST)) this.takeHost(bytes, from, to);
        break;
      case 5:
        if (isWord(bytes, name, end, F_RANGE)) once(this.range, from, to);
        break;
      case 6:
        if (isWord(bytes, name, end, F_EXPECT)) this.takeExpect(bytes, from, to);
        break;
      case 8:
        if (isWord(bytes, name, end, F_IF_RANGE)) once(this.ifRange, from, to);
        else if (isWord(bytes, name, end, F_IF_MATCH)) once(this.ifMatch, from, to);
        break;
      case 10:
        if (isWord(bytes, name, end, F_CONNECTION)) this.takeConnection(bytes, from, to);
        break;
      case 13:
        if (isWord(bytes, name, end, F_IF_NONE_MATCH)) once(this.ifNoneMatch, from, to);
        break;
      case 14:
        if (isWord(bytes, name, end, F_CONTENT_LENGTH)) this.takeLength(bytes, from, to);
        break;
      case 17:
        if (isWord(bytes, name, end, F_TRANSFER_ENCODING)) this.takeCoding(bytes, from, to);
        else if (isWord(bytes, name, end, F_IF_MODIFIED_SINCE)) once(this.ifModifiedSince, from, to);
        break;
      case 19:
        if (isWord(bytes, name, end, F_IF_UNMODIFIED_SINCE)) once(this.ifUnmodifiedSince, from, to);
        break;
    }
  }

  private refuse(status: number): void {
    if (this.refusal === 0) this.refusal = status;
  }

  private takeHost(bytes: Uint8Array, from: number, to: number): void {
    if (++this.hosts > 1) this.refuse(400);
    for (let i = from; i < to; i++) if (AUTHORITY[bytes[i]] !== 1) this.refuse(400);
  }

  private takeExpect(bytes: Uint8Array, from: number, to: number): void {
    if (isWord(bytes, from, to, CONTINUE)) this.expects = true;
    else this.refuse(417);
  }

  private takeLength(bytes: Uint8Array, from: number, to: number): void {
    const length = decimal(bytes, from, to);
    if (++this.lengths > 1 || length < 0) this.refuse(400);
    this.contentLength = length;
  }

  private takeCoding(bytes: Uint8Array, from: number, to: number): void {
    if (++this.codings > 1) this.refuse(400);
    else if (!isWord(bytes, from, to, CHUNKED)) this.refuse(501);
  }

  /** A list of options with commas between them. */
  private takeConnection(bytes: Uint8Array, from: number, to: number): void {
    for (let at = from; at < to; ) {
      let end = at;
      while (end < to && bytes[end] !== COMMA) end++;
      let last = end;
      while (at < last && (bytes[at] === SP || bytes[at] === TAB)) at++;
      while (last > at && (bytes[last - 1] === SP || bytes[last - 1] === TAB)) last--;
      if (isWord(bytes, at, last, CLOSE)) this.closes = true;
      else if (isWord(bytes, at, last, KEEP_ALIVE)) this.keepAlive = true;
      at = end + 1;
    }
  }

  /** What can only be said of the whole. */
  private conclude(): number {
    if (this.refusal !== 0) return this.refusal;
    if (this.hosts === 0 && this.minor === 1) return 400;
    if (this.codings > 0) {
      if (this.lengths > 0 || this.minor === 0) return 400;
      this.contentLength = -1;
    }
    this.close = this.closes || (this.minor === 0 && !this.keepAlive);
    return COMPLETE;
  }
}

/** Of a field that may be there once: a second one leaves it as if there were none, which costs a full answer at most. */
function once(span: Span, from: number, to: number): void {
  if (span.from === -1) span.set(from, to);
  else span.set(-2, -2);
}

function methodAt(bytes: Uint8Array, from: number, to: number): number {
  const length = to - from;
  if (length === 3 && isAt(bytes, from, to, M_GET)) return GET;
  if (length === 4 && isAt(bytes, from, to, M_HEAD)) return HEAD;
  if (length > METHOD_MAX) return UNKNOWN;
  for (const method of METHODS) if (method.length === length && isAt(bytes, from, to, method)) return OTHER;
  return UNKNOWN;
}
