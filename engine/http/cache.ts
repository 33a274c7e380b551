/**
 * Files as they are answered with. Small ones are kept, response and all, up to a number of octets, and looked up by the
 * octets of their path; larger ones are opened anew for each request. A kept file is compared with what is in the file
 * system once in CHECK_MS, so a change is seen within that time.
 */

import { sys } from "af-xdp-bindings";
import mime from "mime";
import { formatDate } from "./dates.ts";
import { octets, SLASH } from "./octets.ts";
import type { Path } from "./path.ts";
import { type Identity, INDEX, identify, isSame, type Root, readAt, statusOf } from "./root.ts";

/**
 * Octets of a file that is kept, at most: with its head it is one write of 64 KiB to a socket. Higher, the files that are kept
 * take more memory; lower, more files are opened for each request.
 */
export const SMALL_MAX = 63 * 1024;
/** How long a kept file is taken to be as it was. A check costs three system calls, some 4 µs. */
export const CHECK_MS = 1000;
/** Files that are kept, whatever their size. */
const FILES_MAX = 16_384;
/** What an entry takes beside its octets: objects, its place in the map. */
const ENTRY_BYTES = 1024;

/** Outcomes of find(), besides the status of a refusal. */
export const FOUND = 0;
/** A directory, asked for without the slash at the end. */
export const DIRECTORY = 1;

/** What a 200 for HTTP/1.1 begins with: a date goes to DATE_AT. */
const STATUS_LINE = "HTTP/1.1 200 OK\r\nDate: ";
export const DATE_AT = STATUS_LINE.length;

export class FileEntry {
  readonly identity: Identity;
  readonly size: number;
  readonly etag: Uint8Array;
  readonly lastModified: Uint8Array;
  /** Seconds since 1970. */
  readonly modified: number;
  /** Fields of every answer with these octets, and those of a 304. Both end in CRLF. */
  readonly type: Uint8Array;
  readonly validators: Uint8Array;
  /** A whole 200, head first, the body as well where it is small. */
  readonly response: Uint8Array;
  readonly headLength: number;
  /** Seconds since 1970 that the Date field of `response` tells. */
  date = -1;
  /** Descriptor of a file that is not kept, -1: its octets are in `response`. Whoever has the entry closes it. */
  fd = -1;

  // In the cache.
  readonly path: Uint8Array;
  readonly hash: number;
  next: FileEntry | null = null;
  checkedMs = 0;
  slot = -1;
  /** Asked for since the cache was last looked through for room. */
  used = false;

  constructor(identity: Identity, size: number, type: string, path: Uint8Array, hash: number, small: boolean) {
    this.identity = identity;
    this.size = size;
    this.path = path;
    this.hash = hash;
    this.modified = modifiedAt(identity);
    const date = formatDate(this.modified);
    const etag = `"${identity.mtimeNs.toString(36)}-${size.toString(36)}"`;
    this.lastModified = octets(date);
    this.etag = octets(etag);
    const validators = `Last-Modified: ${date}\r\nETag: ${etag}\r\n`;
    this.validators = octets(validators);
    this.type = octets(`Content-Type: ${type}\r\nAccept-Ranges: bytes\r\n`);
    const length = `Content-Length: ${size}\r\n`;
    const zero = "Thu, 01 Jan 1970 00:00:00 GMT";
    const head = octets(
      `${STATUS_LINE}${zero}\r\nContent-Type: ${type}\r\nAccept-Ranges: bytes\r\n${validators}${length}\r\n`,
    );
    this.headLength = head.length;
    this.response = new Uint8Array(head.length + (small ? size : 0));
    this.response.set(head);
  }
}

export class FileCache {
  private readonly root: Root;
  private readonly bytesMax: number;
  private readonly map = new Map<number, FileEntry>();
  /** Kept entries, in no order; `hand` looks for the next to go. */
  private readonly entries: FileEntry[] = [];
  private hand = 0;
  private bytes = 0;
  /** What find() has found. */
  entry: FileEntry | null = null;

  /** @param bytesMax octets of all kept files together */
  constructor(root: Root, bytesMax: number) {
    this.root = root;
    this.bytesMax = bytesMax;
  }

  get size(): number {
    return this.entries.length;
  }

  /**
   * Looks for the file at a path.
   * @param nowMs of any clock that does not go back
   * @returns FOUND, and it is `entry`; DIRECTORY; or a status
   */
  find(path: Path, nowMs: number): number {
    let entry = this.map.get(path.hash) ?? null;
    while (entry !== null && !isPath(entry.path, path)) entry = entry.next;
    if (entry === null) return this.load(path, nowMs);
    entry.used = true;
    this.entry = entry;
    return nowMs - entry.checkedMs < CHECK_MS ? FOUND : this.check(entry, path, nowMs);
  }

  /** Compares a kept file with the file system's. */
  private check(entry: FileEntry, path: Path, nowMs: number): number {
    const fd = this.root.open(path.bytes, path.length);
    if (fd >= 0) {
      const same = isSame(identify(fd), entry.identity);
      sys.close(fd);
      if (same) {
        entry.checkedMs = nowMs;
        return FOUND;
      }
    }
    this.drop(entry);
    return this.load(path, nowMs);
  }

  private load(path: Path, nowMs: number): number {
    this.entry = null;
    const fd = this.root.open(path.bytes, path.length);
    if (fd < 0) return statusOf(-fd);
    const identity = identify(fd);
    if (identity?.regular && (identity.size > SMALL_MAX || this.bytesMax === 0)) {
      this.entry = makeEntry(identity, identity.size, path, false);
      this.entry.fd = fd;
      return FOUND;
    }
    const entry = identity?.regular ? read(fd, identity, path) : null;
    sys.close(fd);
    if (entry === null) return this.noFile(identity, path);
    if (entry.size === identity?.size) this.insert(entry, nowMs);
    this.entry = entry;
    return FOUND;
  }

  private noFile(identity: Identity | null, path: Path): number {
    if (identity === null || identity.regular) return 500;
    return identity.directory && path.bytes[path.length - 1] !== SLASH ? DIRECTORY : 404;
  }

  private insert(entry: FileEntry, nowMs: number): void {
    const bytes = entry.response.length + ENTRY_BYTES;
    if (bytes > this.bytesMax) return;
    while (this.bytes + bytes > this.bytesMax || this.entries.length >= FILES_MAX) this.evict();
    entry.checkedMs = nowMs;
    entry.next = this.map.get(entry.hash) ?? null;
    this.map.set(entry.hash, entry);
    entry.slot = this.entries.push(entry) - 1;
    this.bytes += bytes;
  }

  /** Second chance: the first that has not been asked for since the hand last passed. */
  private evict(): void {
    for (;;) {
      if (this.hand >= this.entries.length) this.hand = 0;
      const entry = this.entries[this.hand];
      if (!entry.used) {
        this.drop(entry);
        return;
      }
      entry.used = false;
      this.hand++;
    }
  }

  private drop(entry: FileEntry): void {
    const last = this.entries.pop() as FileEntry;
    if (last !== entry) {
      this.entries[entry.slot] = last;
      last.slot = entry.slot;
    }
    this.bytes -= entry.response.length + ENTRY_BYTES;
    const first = this.map.get(entry.hash) as FileEntry;
    if (first === entry) {
      if (entry.next === null) this.map.delete(entry.hash);
      else this.map.set(entry.hash, entry.next);
      return;
    }
    let before = first;
    while (before.next !== entry) before = before.next as FileEntry;
    before.next = entry.next;
  }
}

function isPath(bytes: Uint8Array, path: Path): boolean {
  if (bytes.length !== path.length) return false;
  for (let i = 0; i < bytes.length; i++) if (bytes[i] !== path.bytes[i]) return false;
  return true;
}

/** A small file, octets and all. What has become shorter meanwhile is taken as it is. */
function read(fd: number, identity: Identity, path: Path): FileEntry | null {
  const whole = makeEntry(identity, identity.size, path, true);
  const count = readAt(fd, whole.response, whole.headLength, identity.size, 0);
  if (count < 0) return null;
  if (count === identity.size) return whole;
  const shorter = makeEntry(identity, count, path, true);
  shorter.response.set(whole.response.subarray(whole.headLength, whole.headLength + count), shorter.headLength);
  return shorter;
}

function makeEntry(identity: Identity, size: number, path: Path, small: boolean): FileEntry {
  const key = path.bytes.slice(0, path.length);
  return new FileEntry(identity, size, contentType(key), key, path.hash, small);
}

/** Seconds since 1970 that dates can tell, and none that is still to come (RFC 9110, section 8.8.2.1). */
function modifiedAt({ mtimeNs }: Identity): number {
  const now = Math.floor(Date.now() / 1000);
  return Math.min(Math.max(Number(mtimeNs / 1_000_000_000n), 0), now);
}

/** Types whose octets are text in an encoding, which is told as UTF-8. JSON has no other. */
const TEXT = /^text\/|^application\/xml$|\+xml$/;

function contentType(path: Uint8Array): string {
  const name = new TextDecoder().decode(path[path.length - 1] === SLASH ? INDEX : path);
  const type = mime.getType(name) ?? "application/octet-stream";
  return TEXT.test(type) ? `${type}; charset=utf-8` : type;
}
