/** The head of a request as node:http shows it: where every field lies, and what decides how the request is handled. */
import { COMPLETE, R_CODING, R_METHOD, RequestHead } from "../../http/head.ts";
import { COMMA, isAt, isWord, octets, SLASH, SP, STAR, TAB } from "../../http/octets.ts";
import { original } from "../originals.ts";

const { METHODS } = original("node:http");

const F_EXPECT = octets("expect");
const F_UPGRADE = octets("upgrade");
const CHUNKED = octets("chunked");
const SCHEME_END = octets("://");

interface Method {
  readonly name: string;
  readonly octets: Uint8Array;
}

/** Methods by their length; those that are asked for most come first. */
const BY_LENGTH: Method[][] = [];
for (const name of new Set(["GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", ...METHODS])) {
  BY_LENGTH[name.length] ??= [];
  BY_LENGTH[name.length].push({ name, octets: octets(name) });
}
const NONE: readonly Method[] = [];

/** Places of a field: its name, its value. */
const PLACES = 4;

export class ServedHead extends RequestHead {
  method = "";
  /** Fields, and where they lie: name, its end, value, its end. */
  count = 0;
  places = new Int32Array(64 * PLACES);
  /** There is a field Expect, or Upgrade. */
  expects = false;
  hasUpgrade = false;
  private lastCodingIsChunked = false;
  private chunkings = 0;

  /** @param most octets of a head */
  constructor(most: number) {
    super({ line: most, head: most, fields: Number.POSITIVE_INFINITY });
  }

  /** What is answered then, the server decides. */
  protected get needsHost(): boolean {
    return false;
  }

  protected begin(): void {
    this.method = "";
    this.count = 0;
    this.expects = false;
    this.hasUpgrade = false;
    this.lastCodingIsChunked = false;
    this.chunkings = 0;
  }

  protected takeMethod(bytes: Uint8Array, from: number, to: number): number {
    const methods = BY_LENGTH[to - from] ?? NONE;
    for (let i = 0; i < methods.length; i++) {
      const one = methods[i];
      if (!isAt(bytes, from, to, one.octets)) continue;
      this.method = one.name;
      return COMPLETE;
    }
    this.reason = R_METHOD;
    return 400;
  }

  /** A path, "*", an absolute URI, or with CONNECT host and port. */
  protected takeTarget(bytes: Uint8Array, from: number, to: number): number {
    if (this.method === "CONNECT") return bytes[from] === SLASH || bytes[from] === STAR ? 400 : COMPLETE;
    if (bytes[from] === SLASH || (bytes[from] === STAR && to - from === 1)) return COMPLETE;
    let at = from;
    while (at < to && isLetter(bytes[at])) at++;
    return at > from && isAt(bytes, at, to, SCHEME_END) && at + SCHEME_END.length < to ? COMPLETE : 400;
  }

  protected override take(bytes: Uint8Array, name: number, end: number, from: number, to: number): void {
    if ((this.count + 1) * PLACES > this.places.length) {
      const larger = new Int32Array(this.places.length * 2);
      larger.set(this.places);
      this.places = larger;
    }
    const { places } = this;
    const at = this.count++ * PLACES;
    places[at] = name;
    places[at + 1] = end;
    places[at + 2] = from;
    places[at + 3] = to;
    super.take(bytes, name, end, from, to);
  }

  protected takeOther(bytes: Uint8Array, name: number, end: number): void {
    const length = end - name;
    if (length === 6) {
      if (isWord(bytes, name, end, F_EXPECT)) this.expects = true;
    } else if (length === 7 && isWord(bytes, name, end, F_UPGRADE)) this.hasUpgrade = true;
  }

  /** A list of codings, over all such fields: chunked once, and last (RFC 9112, section 6.1). */
  protected override takeCoding(bytes: Uint8Array, from: number, to: number): void {
    this.codings++;
    for (let at = from; at < to; ) {
      let end = at;
      while (end < to && bytes[end] !== COMMA) end++;
      let last = end;
      while (at < last && isSpace(bytes[at])) at++;
      while (last > at && isSpace(bytes[last - 1])) last--;
      this.lastCodingIsChunked = isWord(bytes, at, last, CHUNKED);
      if (this.lastCodingIsChunked) this.chunkings++;
      at = end + 1;
    }
    if (from < to && bytes[to - 1] === COMMA) this.lastCodingIsChunked = false;
  }

  protected override conclude(): number {
    if (this.codings > 0 && (!this.lastCodingIsChunked || this.chunkings !== 1)) this.refuse(400, R_CODING);
    return super.conclude();
  }

  /** Names and values in turn, as they were sent. @param text the octets from `base` on */
  raw(text: string, base: number): string[] {
    const { count, places } = this;
    const raw: string[] = [];
    for (let i = 0; i < count; i++) {
      const at = i * PLACES;
      raw.push(text.substring(places[at] - base, places[at + 1] - base));
      raw.push(text.substring(places[at + 2] - base, places[at + 3] - base));
    }
    return raw;
  }
}

const isSpace = (octet: number): boolean => octet === SP || octet === TAB;
const isLetter = (octet: number): boolean => (octet | 32) >= 97 && (octet | 32) <= 122;
