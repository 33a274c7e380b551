/** struct sockaddr_in and sockaddr_in6 (include/uapi/linux/in.h, in6.h). */
import { AF_INET, AF_INET6 } from "./table.ts";

export const SOCKADDR_IN_BYTES = 16;
export const SOCKADDR_IN6_BYTES = 28;
/** SIN6_LEN_RFC2133: without the scope id, which the kernel takes as well (include/net/ipv6.h). */
export const SOCKADDR_IN6_MIN = 24;

/**
 * Writes an address given as four words (IPv4 mapped) for a socket of `family`, into `view` (28 bytes). An IPv6 socket
 * gets the mapped form. Returns the length of the structure.
 */
export function writeSockaddr(
  view: DataView,
  family: number,
  w0: number,
  w1: number,
  w2: number,
  w3: number,
  port: number,
): number {
  view.setUint16(0, family, true);
  view.setUint16(2, port);
  if (family === AF_INET) {
    view.setInt32(4, w3);
    view.setInt32(8, 0);
    view.setInt32(12, 0);
    return SOCKADDR_IN_BYTES;
  }
  view.setInt32(4, 0);
  view.setInt32(8, w0);
  view.setInt32(12, w1);
  view.setInt32(16, w2);
  view.setInt32(20, w3);
  view.setInt32(24, 0);
  return SOCKADDR_IN6_BYTES;
}

/** The sockaddr of an address of 4 or 16 bytes. */
export function sockaddrOf(address: Uint8Array, port: number, scope = 0): Uint8Array {
  const bytes = new Uint8Array(address.length === 4 ? SOCKADDR_IN_BYTES : SOCKADDR_IN6_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, address.length === 4 ? AF_INET : AF_INET6, true);
  view.setUint16(2, port);
  bytes.set(address, address.length === 4 ? 4 : 8);
  if (address.length === 16) view.setUint32(24, scope, true);
  return bytes;
}

/** Reads an address into four words (IPv4 mapped) at `words[0..3]` and returns the port; -1 for another family. */
export function readSockaddr(view: DataView, words: Int32Array): number {
  const family = view.getUint16(0, true);
  if (family === AF_INET) {
    words[0] = 0;
    words[1] = 0;
    words[2] = 0xffff;
    words[3] = view.getInt32(4);
    return view.getUint16(2);
  }
  if (family !== AF_INET6) return -1;
  for (let i = 0; i < 4; i++) words[i] = view.getInt32(8 + 4 * i);
  return view.getUint16(2);
}
