/** Bytes of a capture, in order: from a file, a pipe, or memory. What is read stays in one buffer, however long the file. */
import { closeSync, openSync, readSync } from "node:fs";

export interface ByteSource {
  /** Reads up to `length` bytes into `into` from `at` on. Returns how many, 0 at the end. */
  read(into: Uint8Array, at: number, length: number): number;
  /** Begins again. Throws where that cannot be, as with a pipe. */
  rewind(): void;
  close(): void;
}

/** A file by its path. */
export class FileSource implements ByteSource {
  private readonly fd: number;
  private position = 0;

  /** Throws what open(2) says. */
  constructor(path: string) {
    this.fd = openSync(path, "r");
  }

  read(into: Uint8Array, at: number, length: number): number {
    const count = readSync(this.fd, into, at, length, this.position);
    this.position += count;
    return count;
  }

  rewind(): void {
    this.position = 0;
  }

  close(): void {
    closeSync(this.fd);
  }
}

/** Bytes that are in memory. */
export class MemorySource implements ByteSource {
  private readonly bytes: Uint8Array;
  /** The most bytes one read gives. */
  private readonly chunk: number;
  private position = 0;

  constructor(bytes: Uint8Array, chunk = Number.POSITIVE_INFINITY) {
    this.bytes = bytes;
    this.chunk = chunk;
  }

  read(into: Uint8Array, at: number, length: number): number {
    const count = Math.min(length, this.chunk, this.bytes.length - this.position);
    into.set(this.bytes.subarray(this.position, this.position + count), at);
    this.position += count;
    return count;
  }

  rewind(): void {
    this.position = 0;
  }

  close(): void {}
}

/** Bytes of the buffer: a read of as many takes longer than the system call around it. */
const BUFFER_BYTES = 1 << 20;

/** A window over a source. `bytes[at .. end)` is what has been read and not yet passed. */
export class ByteWindow {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  at = 0;
  end = 0;
  private readonly source: ByteSource;
  /** Bytes of the source before the buffer's first. */
  private before = 0;

  constructor(source: ByteSource, bufferBytes = BUFFER_BYTES) {
    this.source = source;
    this.bytes = new Uint8Array(bufferBytes);
    this.view = new DataView(this.bytes.buffer);
  }

  /** Where `at` is in the source. */
  get position(): number {
    return this.before + this.at;
  }

  /** Bytes that are here and not yet passed. */
  get left(): number {
    return this.end - this.at;
  }

  /** Has `count` bytes there from `at` on, at most as many as the buffer holds. False: the source ends before. */
  ensure(count: number): boolean {
    if (this.end - this.at >= count) return true;
    if (this.at + count > this.bytes.length) this.compact();
    while (this.end - this.at < count) {
      const got = this.source.read(this.bytes, this.end, this.bytes.length - this.end);
      if (got === 0) return false;
      this.end += got;
    }
    return true;
  }

  /** Passes over `count` bytes, however many. False: the source ends before. */
  skip(count: number): boolean {
    let left = count;
    while (left > this.end - this.at) {
      left -= this.end - this.at;
      this.at = this.end;
      if (!this.ensure(1)) return false;
    }
    this.at += left;
    return true;
  }

  rewind(): void {
    this.source.rewind();
    this.at = 0;
    this.end = 0;
    this.before = 0;
  }

  close(): void {
    this.source.close();
  }

  private compact(): void {
    this.bytes.copyWithin(0, this.at, this.end);
    this.before += this.at;
    this.end -= this.at;
    this.at = 0;
  }
}
