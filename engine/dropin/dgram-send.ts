/** The forms of Socket.send, told apart as Node does. */
import * as errors from "./dgram-errors.ts";

export type Payload = string | NodeJS.ArrayBufferView;
export type SendCallback = (error: Error | null, bytes: number) => void;

/** The arguments of one send, used again for the next: read before anything else is called. */
export class SendCall {
  /** The message is `bytes[offset .. offset + length)`. */
  bytes: Uint8Array = new Uint8Array(0);
  offset = 0;
  length = 0;
  /** 0: to the connected peer. */
  port = 0;
  address: string | undefined = undefined;
  callback: SendCallback | undefined = undefined;

  /**
   * To an address: (message, port, address?, callback?) or (message, offset, length, port, address?, callback?). Throws
   * for what is no message or no port.
   */
  read(message: unknown, a: unknown, b: unknown, c: unknown, d: unknown, e: unknown): void {
    if (d || (c && typeof c !== "function")) {
      this.readPart(message, a, b);
      this.readDestination(c, d, e);
    } else {
      this.readWhole(message);
      this.readDestination(a, b, c);
    }
  }

  /** To the connected peer: (message, callback?) or (message, offset, length, callback?). */
  readConnected(message: unknown, a: unknown, b: unknown, c: unknown, d: unknown, e: unknown): void {
    let port = c;
    let callback = a;
    if (typeof b === "number") {
      this.readPart(message, a, b);
      callback = typeof c === "function" ? c : e;
      if (typeof c === "function") port = null;
    }
    if (port || d) throw errors.isConnected();
    if (typeof b !== "number") this.readWhole(message);
    this.port = 0;
    this.address = undefined;
    this.setCallback(callback);
  }

  private readDestination(port: unknown, address: unknown, callback: unknown): void {
    this.port = errors.checkPort(port);
    if (typeof address === "function") {
      this.address = undefined;
      this.setCallback(address);
      return;
    }
    if (address !== undefined && address !== null) errors.checkString(address, "address");
    this.address = address ?? undefined;
    this.setCallback(callback);
  }

  private setCallback(callback: unknown): void {
    this.callback = typeof callback === "function" ? (callback as SendCallback) : undefined;
  }

  private readWhole(message: unknown): void {
    const bytes = Array.isArray(message) ? join(message) : viewOf(message);
    this.bytes = bytes;
    this.offset = 0;
    this.length = bytes.length;
  }

  private readPart(message: unknown, offset: unknown, length: unknown): void {
    const bytes = viewOf(message);
    const from = (offset as number) >>> 0;
    const count = (length as number) >>> 0;
    if (from > bytes.length) throw errors.outOfBounds("offset");
    if (from + count > bytes.length) throw errors.outOfBounds("length");
    this.bytes = bytes;
    this.offset = from;
    this.length = count;
  }
}

/** The bytes of a message: those of a buffer itself, not a copy. */
function viewOf(message: unknown): Uint8Array {
  if (message instanceof Uint8Array) return message;
  if (typeof message === "string") return Buffer.from(message);
  if (ArrayBuffer.isView(message)) return new Uint8Array(message.buffer, message.byteOffset, message.byteLength);
  throw notBytes("buffer", message);
}

/** The parts of a message in one buffer. */
function join(parts: readonly unknown[]): Uint8Array {
  const views = parts.map((part) => {
    if (typeof part !== "string" && !ArrayBuffer.isView(part)) throw notBytes("buffer list arguments", parts);
    return viewOf(part);
  });
  return views.length === 1 ? views[0] : Buffer.concat(views);
}

const notBytes = (name: string, value: unknown) =>
  errors.invalidType(name, "of type string or an instance of Buffer, TypedArray, or DataView", value);
