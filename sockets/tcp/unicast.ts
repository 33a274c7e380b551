/** Addresses that one host can have. */
import { isMulticast4 } from "../wire/ipv4.ts";

/**
 * True unless the address of four words at w[at] is unspecified, a multicast or the broadcast address of all networks.
 * The broadcast address of a network is known to its routes alone.
 */
export function isUnicast(w: Int32Array, at: number, v6: boolean): boolean {
  const last = w[at + 3];
  if (!v6) return last !== 0 && last !== -1 && !isMulticast4(last);
  if (w[at] >>> 24 === 0xff) return false;
  return (w[at] | w[at + 1] | w[at + 2] | last) !== 0;
}
