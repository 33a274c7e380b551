/** The head of a request as a server of files reads it: GET and HEAD, the path of the target, conditions and ranges. */
import { COMPLETE, INCOMPLETE, R_EXPECT, RequestHead, Span } from "./head.ts";
import { AUTHORITY, isAt, isWord, octets, QUESTION, SLASH, STAR } from "./octets.ts";

export { COMPLETE, INCOMPLETE, type Span };

/** Octets of a request line: beyond, 414. RFC 9112, section 3, asks for 8,000 at least. */
export const LINE_MAX = 8192;
/** Octets of a whole head: beyond, 431. */
export const HEAD_MAX = 16_384;
/** Header fields of a request: one more, 431. */
export const FIELDS_MAX = 100;
/** Octets of a method: beyond, it is none that anybody knows. */
const METHOD_MAX = 32;

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
const HTTP = octets("http://");
const HTTPS = octets("https://");
const ROOT = octets("/");

const F_RANGE = octets("range");
const F_EXPECT = octets("expect");
const F_IF_RANGE = octets("if-range");
const F_IF_MATCH = octets("if-match");
const F_IF_NONE_MATCH = octets("if-none-match");
const F_IF_MODIFIED_SINCE = octets("if-modified-since");
const F_IF_UNMODIFIED_SINCE = octets("if-unmodified-since");
const CONTINUE = octets("100-continue");

export class Request extends RequestHead {
  /** GET, HEAD, OTHER, UNKNOWN; 0 where the request line was refused before it. */
  method = 0;
  /** Path of the target, without its query, and that; the path of an absolute target may lie in `pathBytes` of its own. */
  readonly path = new Span();
  pathBytes: Uint8Array = ROOT;
  readonly query = new Span();
  /** The client waits for a 100 before it sends the body. */
  expects = false;
  readonly range = new Span();
  readonly ifRange = new Span();
  readonly ifMatch = new Span();
  readonly ifNoneMatch = new Span();
  readonly ifModifiedSince = new Span();
  readonly ifUnmodifiedSince = new Span();

  constructor() {
    super({ line: LINE_MAX, head: HEAD_MAX, fields: FIELDS_MAX });
  }

  protected get needsHost(): boolean {
    return true;
  }

  protected begin(): void {
    this.pathBytes = this.bytes;
    this.method = 0;
    this.expects = false;
    this.path.clear();
    this.query.clear();
    this.range.clear();
    this.ifRange.clear();
    this.ifMatch.clear();
    this.ifNoneMatch.clear();
    this.ifModifiedSince.clear();
    this.ifUnmodifiedSince.clear();
  }

  protected takeMethod(bytes: Uint8Array, from: number, to: number): number {
    this.method = methodAt(bytes, from, to);
    return COMPLETE;
  }

  protected takeTarget(bytes: Uint8Array, from: number, to: number): number {
    let query = from;
    while (query < to && bytes[query] !== QUESTION) query++;
    this.path.set(from, query);
    if (query < to) this.query.set(query, to);
    return bytes[from] === SLASH ? COMPLETE : this.otherTarget(bytes, from, to);
  }

  /** Forms of a target that do not begin with a slash (RFC 9112, section 3.2). */
  private otherTarget(bytes: Uint8Array, target: number, end: number): number {
    if (this.method > HEAD) {
      const asterisk = end - target === 1 && bytes[target] === STAR;
      return asterisk && !isAt(bytes, this.line.from, end, M_OPTIONS) ? 400 : COMPLETE;
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

  /** Keeps a field that matters. */
  protected takeOther(bytes: Uint8Array, name: number, end: number, from: number, to: number): void {
    switch (end - name) {
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
      case 13:
        if (isWord(bytes, name, end, F_IF_NONE_MATCH)) once(this.ifNoneMatch, from, to);
        break;
      case 17:
        if (isWord(bytes, name, end, F_IF_MODIFIED_SINCE)) once(this.ifModifiedSince, from, to);
        break;
      case 19:
        if (isWord(bytes, name, end, F_IF_UNMODIFIED_SINCE)) once(this.ifUnmodifiedSince, from, to);
        break;
    }
  }

  private takeExpect(bytes: Uint8Array, from: number, to: number): void {
    if (isWord(bytes, from, to, CONTINUE)) this.expects = true;
    else this.refuse(417, R_EXPECT);
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
