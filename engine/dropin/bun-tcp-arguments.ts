/** Arguments of the calls of a socket of Bun.listen and Bun.connect, and what is wrong with them in the words of Bun 1.4. */
import { invalidArgument, outOfRange } from "./bun-errors.ts";
import { parseCalls, type TcpCalls } from "./bun-tcp-options.ts";

const NOTHING = new Uint8Array(0);

/** The bytes of (data, byteOffset, byteLength), or of (text, encoding). Throws TypeError, RangeError. */
export function dataOf(data: unknown, byteOffset: unknown, byteLength: unknown, call: string): Uint8Array {
  if (data === undefined) return NOTHING;
  const encoding = typeof byteOffset === "string" && Buffer.isEncoding(byteOffset) ? byteOffset : "utf8";
  const bytes = bytesOf(data, encoding);
  if (typeof byteOffset === "string" || (byteOffset === undefined && byteLength === undefined)) return bytes;
  const offset = byteOffset === undefined ? 0 : whole(byteOffset, "byteOffset", call);
  if (offset > bytes.length) throw outOfRange("byteOffset", bytes.length, offset);
  // Without one it is the whole length, which reaches beyond the end: so it is in the original.
  const length = byteLength === undefined ? bytes.length : whole(byteLength, "byteLength", call);
  if (length > bytes.length - offset) throw outOfRange("byteLength", bytes.length - offset, length);
  return bytes.subarray(offset, offset + length);
}

function bytesOf(data: unknown, encoding: BufferEncoding): Uint8Array {
  if (typeof data === "string") return Buffer.from(data, encoding);
  if (data instanceof Uint8Array) return data;
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (data instanceof ArrayBuffer || data instanceof SharedArrayBuffer) return new Uint8Array(data);
  throw invalidArgument(`The "data" argument must be of type string, buffer, or blob. Received ${received(data)}`);
}

function whole(value: unknown, name: string, call: string): number {
  if (typeof value !== "number" || !Number.isInteger(value)) {
    throw invalidArgument(`Expected ${name} to be a integer for 'Socket.${call}'.`);
  }
  if (value < 0) throw outOfRange(name, Number.MAX_SAFE_INTEGER, value);
  return value;
}

function received(value: unknown): string {
  if (value === null) return "null";
  if (typeof value === "function") return `function ${value.name}`;
  if (typeof value === "object") return `an instance of ${value.constructor?.name ?? "Object"}`;
  return `type ${typeof value} (${typeof value === "bigint" ? `${value}n` : String(value)})`;
}

/** reload() of a listener or a socket. @param what the original calls what is missing */
export function reload(calls: TcpCalls, args: readonly unknown[], what: "object" | "option"): void {
  if (args.length < 1) throw new Error("Expected 1 argument");
  const [options] = args;
  if ((typeof options !== "object" || options === null) && typeof options !== "function") {
    throw invalidArgument("Expected options object");
  }
  const { socket } = options as { socket?: unknown };
  if (socket === undefined) throw new Error(`Expected "socket" ${what}`);
  const given = parseCalls(socket);
  if (given === null)
    throw invalidArgument('SocketHandler: not an object with "data" or "drain", or a handler is no function');
  calls.adopt(given);
}
