/** Heads of answers as octets, written field by field into one buffer that all connections of an lcore share. */
import { copyMemory } from "../../sockets/wire/views.ts";
import type { FileEntry } from "./cache.ts";
import type { Range } from "./conditions.ts";
import { DATE_BYTES, type DateClock } from "./dates.ts";
import { octets, SLASH } from "./octets.ts";
import type { Request } from "./request.ts";
import { phrase, STATUSES } from "./statuses.ts";

/** Octets gathered before they are written to a socket: no head is longer, and a write takes no more at once. */
export const OUTPUT_BYTES = 65_536;
/** Octets of a head at most: a Location holds a target, and the rest is short. */
export const HEAD_BYTES = 9216;

const STATUS_LINES = new Map(
  STATUSES.map((status) => [status, octets(`HTTP/1.1 ${status} ${phrase(status)}\r\nDate: `)]),
);
/** What people see of an answer that is no file. */
const BODIES = new Map(STATUSES.map((status) => [status, octets(`${status} ${phrase(status)}\n`)]));
const NO_BODY = octets("");

const CRLF = octets("\r\n");
const ALLOW = octets("Allow: GET, HEAD\r\n");
const CLOSE = octets("Connection: close\r\n");
const KEEP_ALIVE = octets("Connection: keep-alive\r\n");
const PLAIN = octets("Content-Type: text/plain; charset=utf-8\r\n");
const LENGTH = octets("Content-Length: ");
const RANGE = octets("Content-Range: bytes ");
const UNSATISFIED = octets("Content-Range: bytes */");
const LOCATION = octets("Location: ");
const DASH = octets("-");
const OF = octets("/");

export class Output {
  readonly bytes = new Uint8Array(OUTPUT_BYTES);
  length = 0;
  private readonly clock: DateClock;

  constructor(clock: DateClock) {
    this.clock = clock;
  }

  get room(): number {
    return OUTPUT_BYTES - this.length;
  }

  add(bytes: Uint8Array, from = 0, to = bytes.length): void {
    copyMemory(this.bytes, this.length, bytes, from, to - from);
    this.length += to - from;
  }

  private number(value: number): void {
    let divisor = 1;
    while (value / divisor >= 10) divisor *= 10;
    for (; divisor >= 1; divisor /= 10) this.bytes[this.length++] = 48 + (Math.floor(value / divisor) % 10);
  }

  private begin(status: number): void {
    this.add(STATUS_LINES.get(status) as Uint8Array);
    this.clock.write(this.bytes, this.length);
    this.length += DATE_BYTES;
    this.add(CRLF);
  }

  private size(name: Uint8Array, size: number): void {
    this.add(name);
    this.number(size);
    this.add(CRLF);
  }

  /** HTTP/1.1 stays unless it says so, and HTTP/1.0 the other way round. */
  private end(request: Request, last: boolean): void {
    if (last) this.add(CLOSE);
    else if (request.minor === 0) this.add(KEEP_ALIVE);
    this.add(CRLF);
  }

  /** The head of a file, or with `range` of a part of it. */
  file(request: Request, entry: FileEntry, range: Range | null, last: boolean): void {
    this.begin(range === null ? 200 : 206);
    this.add(entry.type);
    this.add(entry.validators);
    if (range !== null) {
      this.add(RANGE);
      this.number(range.from);
      this.add(DASH);
      this.number(range.to - 1);
      this.size(OF, entry.size);
    }
    this.size(LENGTH, range === null ? entry.size : range.to - range.from);
    this.end(request, last);
  }

  /** 304: it has no contents, and no length of them. */
  notModified(request: Request, entry: FileEntry, last: boolean): void {
    this.begin(304);
    this.add(entry.validators);
    this.end(request, last);
  }

  /** 301 to the same target with a slash behind its path. */
  redirect(request: Request, withBody: boolean, last: boolean): number {
    const { bytes, path, pathBytes, query } = request;
    this.begin(301);
    this.add(LOCATION);
    // Two slashes at the head would name another host.
    let from = path.from;
    while (from + 1 < path.to && pathBytes[from + 1] === SLASH) from++;
    this.add(pathBytes, from, path.to);
    this.add(OF);
    if (query.isSet) this.add(bytes, query.from, query.to);
    this.add(CRLF);
    return this.contents(301, request, withBody, last);
  }

  /** An answer that is no file. `size`: of the file that a range is not satisfiable of, else -1. Octets of its contents. */
  other(status: number, request: Request, withBody: boolean, last: boolean, size = -1): number {
    this.begin(status);
    if (status === 405) this.add(ALLOW);
    if (size >= 0) this.size(UNSATISFIED, size);
    return this.contents(status, request, withBody, last);
  }

  private contents(status: number, request: Request, withBody: boolean, last: boolean): number {
    const body = BODIES.get(status) as Uint8Array;
    this.add(PLAIN);
    this.size(LENGTH, body.length);
    this.end(request, last);
    this.add(withBody ? body : NO_BODY);
    return withBody ? body.length : 0;
  }
}
