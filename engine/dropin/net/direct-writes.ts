/**
 * Writes past a stream's queue: while nothing waits there, a small chunk goes to the handle at once, which gathers what one turn writes.
 * One that finds no room waits in the handle, and the stream behind it.
 */
import * as errors from "./errors.ts";
import { DONE, LATER, type StreamHandle } from "./stream-handle.ts";

export type WriteCallback = (error?: Error | null) => void;

/** The longest chunk, bytes or characters: larger ones are the stream's. */
const CHUNK_MAX = 16_384;

/** The stream. */
export interface DirectOwner {
  readonly destroyed: boolean;
  destroy(error: Error): unknown;
  /** A write that has waited is done, or has failed (-errno). */
  written(errno: number, callback: WriteCallback): void;
  /** A write waits in the handle. */
  waits(handle: StreamHandle): void;
  /** There is room again, as far as these writes know. */
  drained(): void;
}

export class DirectWrites {
  /** A write was answered with false, and nobody has been told of room. */
  owesDrain = false;
  private readonly owner: DirectOwner;
  /** Of the write that waits. */
  private late: WriteCallback | null = null;
  /** What the stream was to do behind it. */
  private behind: (() => void) | null = null;

  constructor(owner: DirectOwner) {
    this.owner = owner;
  }

  get isWaiting(): boolean {
    return this.late !== null;
  }

  /** Whether the stream has to wait: `act` is called in its time then. */
  wait(act: () => void): boolean {
    if (this.late === null) return false;
    this.behind = act;
    return true;
  }

  /** What write() of the stream is to return; null: the chunk is the stream's. */
  write(handle: StreamHandle, chunk: unknown, encoding: unknown, callback: WriteCallback | null): boolean | null {
    const isText = typeof chunk === "string";
    if (!(isText || chunk instanceof Uint8Array) || chunk.length > CHUNK_MAX) return null;
    let result: number = DONE;
    if (chunk.length > 0) {
      const done = (errno: number): void => this.settle(errno);
      const named = typeof encoding === "string" ? (encoding as BufferEncoding) : "utf8";
      result = isText ? handle.writeText(chunk, named, done) : handle.write(chunk, done);
    }
    if (result === DONE) {
      if (callback !== null) process.nextTick(callback, null);
      return true;
    }
    if (result === LATER) {
      this.late = callback ?? ignore;
      this.owesDrain = true;
      this.owner.waits(handle);
    } else {
      const error = errors.operating(result, "write");
      if (callback !== null) process.nextTick(callback, error);
      this.owner.destroy(error);
    }
    return false;
  }

  private settle(errno: number): void {
    const { behind, late, owner } = this;
    this.late = null;
    this.behind = null;
    owner.written(errno, (error) => {
      late?.(error);
      if (error) owner.destroy(error);
    });
    if (owner.destroyed) return;
    behind?.();
    const owed = this.owesDrain;
    this.owesDrain = false;
    if (owed) owner.drained();
  }
}

function ignore(): void {}
