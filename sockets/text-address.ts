/** Destinations given as text. */
import { ip } from "./wire/address.ts";

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
