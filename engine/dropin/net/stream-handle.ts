/** What a net.Socket does its work on: a connection of the engine's, or of the kernel's where the engine has none to give. */

/** As net.AddressInfo. */
export interface EndAddress {
  address: string;
  family: string;
  port: number;
}

/** Who is told. Not from within a call on the handle, except `connected` of a connection that is there at once. */
export interface StreamOwner {
  /** The connection is open (0), or could not be had (-errno). */
  connected(errno: number): void;
  /** Bytes in memory of their own. */
  received(bytes: Buffer): void;
  /** Instead of received(), where it is there: the first `count` bytes, in memory that is the handle's again after the call. */
  readHere: ((bytes: Buffer, count: number) => void) | null;
  /** The buffer given to readInto() has the first `count` bytes filled: the next one to fill. */
  filled(count: number): Uint8Array;
  /** The peer sends no more. */
  ended(): void;
  /** Nothing more can be read: -errno. */
  failed(errno: number): void;
}

/** Told when a write or a shutdown is done (0), or has failed (-errno). */
export type Done = (errno: number) => void;

/** What a Writable has gathered. */
export type Queued = readonly { readonly chunk: Uint8Array | string; readonly encoding: BufferEncoding }[];

export const DONE = 1;
export const LATER = 0;

export interface StreamHandle {
  owner: StreamOwner;
  readonly reading: boolean;
  readonly bytesRead: number;
  /** Bytes given to write(). */
  readonly bytesWritten: number;
  /** Of those, bytes that wait here for room. */
  readonly writeQueueSize: number;
  /** Whether resetAndDestroy() makes sense. */
  readonly isTcp: boolean;
  /** Whether a write is taken at once as long as there is room, and several of one turn leave together. */
  readonly isDirect: boolean;
  readStart(): void;
  readStop(): void;
  /** Has what comes put into a buffer instead. */
  readInto(buffer: Uint8Array): void;
  /** One at a time. DONE; LATER, `done` will be called; or -errno. The bytes are read until then. */
  write(bytes: Uint8Array, done: Done): number;
  writev(chunks: Queued, done: Done): number;
  /** Text: copied. @param encoding as Buffer's */
  writeText(text: string, encoding: BufferEncoding, done: Done): number;
  /** LATER, or -errno. */
  shutdown(done: Done): number;
  close(closed: () => void): void;
  /** Closes with a RST. */
  reset(closed: () => void): void;
  setNoDelay(on: boolean): void;
  /** @param delay seconds before the first probe; 0: the system's */
  setKeepAlive(on: boolean, delay: number): void;
  ref(): void;
  unref(): void;
  localAddress(): EndAddress | null;
  remoteAddress(): EndAddress | null;
}
