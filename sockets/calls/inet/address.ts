/** Socket addresses of datagrams. */
import { SOCKADDR_IN_BYTES, SOCKADDR_IN6_BYTES, writeSockaddr } from "../../sockaddr.ts";
import { AF_INET, AF_INET6 } from "../../table.ts";

/** Whether the first word is that of a link-local address: fe80::/10, ff02::/16 and ff01::/16. */
export const needsScope = (w0: number): boolean => {
  const top = w0 >>> 16;
  return top >>> 6 === 0x3fa || (top & 0xff0f) === 0xff02 || (top & 0xff0f) === 0xff01;
};

/** A sockaddr_in, or sockaddr_in6 with the interface as scope id where the address needs one. The words are IPv4 mapped. */
export function addressOfWords(
  family: 4 | 6,
  w0: number,
  w1: number,
  w2: number,
  w3: number,
  port: number,
  ifindex: number,
): Uint8Array {
  const bytes = new Uint8Array(family === 4 ? SOCKADDR_IN_BYTES : SOCKADDR_IN6_BYTES);
  const view = new DataView(bytes.buffer);
  if (family === 6) {
    writeSockaddr(view, AF_INET6, w0, w1, w2, w3, port);
  } else {
    view.setUint16(0, AF_INET, true);
    view.setUint16(2, port);
    view.setInt32(4, w3);
  }
  if (family === 6 && needsScope(w0)) view.setUint32(24, ifindex, true);
  return bytes;
}
