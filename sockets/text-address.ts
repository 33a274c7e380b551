/** Addresses as text, to and from the words of the socket table. */
import { addressBytes } from "./fib.ts";
import type { SocketTable } from "./table.ts";
import { formatIp, ip } from "./wire/address.ts";

export interface SocketAddress {
  address: string;
  port: number;
  family: 4 | 6;
}

/** Addresses remembered: the last few hundred parsed. */
const PARSED_MAX = 512;
const parsed = new Map<string, Uint8Array>();

/** Bytes of an address, 4 or 16; not to be written to. Throws RangeError for what is none. */
export function parseCached(address: string): Uint8Array {
  let bytes = parsed.get(address);
  if (bytes === undefined) {
    if (parsed.size === PARSED_MAX) parsed.clear();
    bytes = ip(address);
    parsed.set(address, bytes);
  }
  return bytes;
}

export function isPort(port: number): boolean {
  return Number.isInteger(port) && port > 0 && port <= 65535;
}

/** A copy of the four words of an address in a socket's record. */
export function wordsAt(table: SocketTable, id: number, field: number): Int32Array {
  return Int32Array.from([0, 1, 2, 3], (i) => table.get(id, field + i));
}

/** An address and port of a socket's record. */
export function addressAt(table: SocketTable, id: number, field: number, portField: number): SocketAddress {
  const [w0, w1, w2, w3] = wordsAt(table, id, field);
  const bytes = addressBytes(w0, w1, w2, w3);
  return { address: formatIp(bytes), port: table.get(id, portField), family: bytes.length === 4 ? 4 : 6 };
}
