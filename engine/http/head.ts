/**
 * The head of a request (RFC 9112, sections 2 to 6): request line and header fields, parsed where their octets lie. One
 * object that each parse() fills anew, with offsets into the octets it was given; it makes no strings. What a server wants to
 * know besides the framing of the message, its subclass notes.
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
  SP,
  TAB,
  TARGET,
  TOKEN,
  VALUE,
} from "./octets.ts";

/** Empty lines before a request that are passed over (RFC 9112, section 2.2: one at least). */
const EMPTY_LINES_MAX = 4;

/** What parse() says besides the status of a refusal. */
export const COMPLETE = 0;
export const INCOMPLETE = -1;

/** Values of `reason`: what a refusal is for. */
export const R_METHOD = 1;
export const R_TARGET = 2;
export const R_VERSION = 3;
export const R_FIELD = 4;
export const R_HOST = 5;
export const R_LENGTH = 6;
export const R_CODING = 7;
export const R_BOTH = 8;
export const R_SIZE = 9;
export const R_EXPECT = 10;

const VERSION = octets("HTTP/");
const F_HOST = octets("host");
const F_CONNECTION = octets("connection");
const F_CONTENT_LENGTH = octets("content-length");
const F_TRANSFER_ENCODING = octets("transfer-encoding");
const CLOSE = octets("close");
const KEEP_ALIVE = octets("keep-alive");
const UPGRADE = octets("upgrade");
const CHUNKED = octets("chunked");
const NOTHING = octets("");

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

/** The most that parse() takes. */
interface HeadLimits {
  /** Octets of a request line: beyond, 414. */
  readonly line: number;
  /** Octets of a whole head: beyond, 431. */
  readonly head: number;
  /** Header fields: one more, 431. */
  readonly fields: number;
}

export abstract class RequestHead {
  /** The octets that the offsets are of. */
  bytes: Uint8Array = NOTHING;
  /** 0 or 1: HTTP/1.0 or HTTP/1.1. */
  minor = 1;
  /** The request line, without its end. */
  readonly line = new Span();
  readonly target = new Span();
  /** The client wants the connection to end with the answer, or by HTTP/1.0 has not asked for it to stay. */
  close = false;
  /** The field Connection names an upgrade. */
  upgrades = false;
  /** Octets of the body; -1: chunked. */
  contentLength = 0;
  /** Fields Host. */
  hosts = 0;
  /** Where the head ends. */
  end = 0;
  /** What it was refused for; 0: it was not. */
  reason = 0;

  protected readonly limits: HeadLimits;
  private lengths = 0;
  protected codings = 0;
  private keepAlive = false;
  private closes = false;
  private refusal = 0;
  private at = 0;

  constructor(limits: HeadLimits) {
    this.limits = limits;
  }

  /** Forgets what a subclass has noted of the last head. */
  protected abstract begin(): void;
  /** Judges the method, bytes[from, to), and the target behind it. COMPLETE, or the status to refuse them with. */
  protected abstract takeMethod(bytes: Uint8Array, from: number, to: number): number;
  protected abstract takeTarget(bytes: Uint8Array, from: number, to: number): number;
  /** A field that is none of the framing's: its name is bytes[name, end), its value bytes[from, to). */
  protected abstract takeOther(bytes: Uint8Array, name: number, end: number, from: number, to: number): void;
  /** Whether HTTP/1.1 without Host is refused. */
  protected abstract get needsHost(): boolean;

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
    const { line, head, fields: most } = this.limits;
    let result = this.requestLine(bytes, at, to);
    if (result !== COMPLETE) return this.judge(result, at, to, line, 414);
    const limit = Math.min(to, from + head);
    for (let fields = 0; ; fields++) {
      const start = this.at;
      if (start + 1 < limit && bytes[start] === CR && bytes[start + 1] === LF) break;
      result = this.field(bytes, start, limit);
      if (result === COMPLETE && fields >= most) result = this.refused(431, R_SIZE);
      if (result !== COMPLETE) return this.judge(result, start, limit, from + head - start, 431);
    }
    this.end = this.at + 2;
    return this.conclude();
  }

  /** Parses fields alone, as trailers are, each of which it takes: COMPLETE, or the status to refuse them with. */
  parseFields(bytes: Uint8Array, from: number, to: number): number {
    this.clear(bytes);
    for (this.at = from; this.at < to; ) {
      const result = this.field(bytes, this.at, to);
      if (result !== COMPLETE) return this.refused(400, R_FIELD);
    }
    return COMPLETE;
  }

  private clear(bytes: Uint8Array): void {
    this.bytes = bytes;
    this.minor = 1;
    this.contentLength = 0;
    this.hosts = 0;
    this.lengths = 0;
    this.codings = 0;
    this.keepAlive = false;
    this.closes = false;
    this.upgrades = false;
    this.close = true;
    this.refusal = 0;
    this.reason = 0;
    this.line.clear();
    this.target.clear();
    this.begin();
  }

  /** A refusal counts once the line that it is for has ended; a line longer than `most` is refused for that. */
  private judge(result: number, start: number, to: number, most: number, tooLong: number): number {
    const limit = Math.min(to, start + most);
    if (result > 0) for (let i = start; i < limit; i++) if (this.bytes[i] === LF) return result;
    return to - start >= most ? this.refused(tooLong, R_SIZE) : INCOMPLETE;
  }

  protected refused(status: number, reason: number): number {
    this.reason = reason;
    return status;
  }

  /** method SP request-target SP HTTP-version CRLF */
  private requestLine(bytes: Uint8Array, start: number, end: number): number {
    const to = Math.min(end, start + this.limits.line);
    let at = start;
    while (at < to && TOKEN[bytes[at]] === 1) at++;
    if (at === to) return INCOMPLETE;
    if (bytes[at] !== SP || at === start) return this.refused(400, R_METHOD);
    const method = this.takeMethod(bytes, start, at);
    if (method !== COMPLETE) return this.refused(method, R_METHOD);
    const target = at + 1;
    for (at = target; at < to && TARGET[bytes[at]] === 1; at++);
    if (at === to) return INCOMPLETE;
    if (bytes[at] !== SP || at === target) return this.refused(400, R_TARGET);
    const version = at + 1;
    // "HTTP/1.1" CR LF
    if (to - version < 10) return this.partOfVersion(bytes, version, to);
    if (!isAt(bytes, version, to, VERSION) || bytes[version + 6] !== 46) return this.refused(400, R_VERSION);
    const major = bytes[version + 5] - 48;
    const minor = bytes[version + 7] - 48;
    if (major < 0 || major > 9 || minor < 0 || minor > 9) return this.refused(400, R_VERSION);
    if (bytes[version + 8] !== CR || bytes[version + 9] !== LF) return this.refused(400, R_VERSION);
    if (major !== 1) return this.refused(505, R_VERSION);
    this.minor = Math.min(minor, 1);
    this.line.set(start, version + 8);
    this.at = version + 10;
    this.target.set(target, at);
    const result = this.takeTarget(bytes, target, at);
    return result === COMPLETE ? COMPLETE : this.refused(result, R_TARGET);
  }

  /** A line that ends too early for a version is wrong, one that does not end is to be waited for. */
  private partOfVersion(bytes: Uint8Array, from: number, to: number): number {
    for (let i = from; i < to; i++) if (bytes[i] === LF) return this.refused(400, R_VERSION);
    return INCOMPLETE;
  }

  /** field-name ":" OWS field-value OWS CRLF */
  private field(bytes: Uint8Array, start: number, to: number): number {
    let at = start;
    while (at < to && TOKEN[bytes[at]] === 1) at++;
    if (at === to) return INCOMPLETE;
    if (bytes[at] !== COLON || at === start) return this.refused(400, R_FIELD);
    const name = at++;
    while (at < to && (bytes[at] === SP || bytes[at] === TAB)) at++;
    const value = at;
    while (at < to && VALUE[bytes[at]] === 1) at++;
    if (at + 1 >= to) return at === to || bytes[at] === CR ? INCOMPLETE : this.refused(400, R_FIELD);
    if (bytes[at] !== CR || bytes[at + 1] !== LF) return this.refused(400, R_FIELD);
    this.at = at + 2;
    while (at > value && (bytes[at - 1] === SP || bytes[at - 1] === TAB)) at--;
    this.take(bytes, start, name, value, at);
    return COMPLETE;
  }

  /** Notes a field. */
  protected take(bytes: Uint8Array, name: number, end: number, from: number, to: number): void {
    switch (end - name) {
      case 4:
        if (isWord(bytes, name, end, F_HOST)) this.takeHost(bytes, from, to);
        break;
      case 10:
        if (isWord(bytes, name, end, F_CONNECTION)) this.takeConnection(bytes, from, to);
        break;
      case 14:
        if (isWord(bytes, name, end, F_CONTENT_LENGTH)) this.takeLength(bytes, from, to);
        break;
      case 17:
        if (isWord(bytes, name, end, F_TRANSFER_ENCODING)) this.takeCoding(bytes, from, to);
        else this.takeOther(bytes, name, end, from, to);
        break;
      default:
        this.takeOther(bytes, name, end, from, to);
    }
  }

  protected refuse(status: number, reason: number): void {
    if (this.refusal !== 0) return;
    this.refusal = status;
    this.reason = reason;
  }

  private takeHost(bytes: Uint8Array, from: number, to: number): void {
    if (++this.hosts > 1) this.refuse(400, R_HOST);
    for (let i = from; i < to; i++) if (AUTHORITY[bytes[i]] !== 1) this.refuse(400, R_HOST);
  }

  private takeLength(bytes: Uint8Array, from: number, to: number): void {
    const length = decimal(bytes, from, to);
    if (++this.lengths > 1 || length < 0) this.refuse(400, R_LENGTH);
    this.contentLength = length;
  }

  /** A field Transfer-Encoding: chunked alone. */
  protected takeCoding(bytes: Uint8Array, from: number, to: number): void {
    if (++this.codings > 1) this.refuse(400, R_CODING);
    else if (!isWord(bytes, from, to, CHUNKED)) this.refuse(501, R_CODING);
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
      else if (isWord(bytes, at, last, UPGRADE)) this.upgrades = true;
      at = end + 1;
    }
  }

  /** What can only be said of the whole. */
  protected conclude(): number {
    if (this.refusal !== 0) return this.refusal;
    if (this.hosts === 0 && this.minor === 1 && this.needsHost) return this.refused(400, R_HOST);
    if (this.codings > 0) {
      if (this.lengths > 0 || this.minor === 0) return this.refused(400, R_BOTH);
      this.contentLength = -1;
    }
    this.close = this.closes || (this.minor === 0 && !this.keepAlive);
    return COMPLETE;
  }
}
