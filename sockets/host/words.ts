/** Addresses as the FIB has them: four words of network-order bits, IPv4 mapped into IPv6 (::ffff:a.b.c.d). */
import { addressWords } from "../fib.ts";
import { readInt32, writeInt32 } from "../wire/views.ts";

/** What an IPv4 address has in its third word, after two of zeros. */
export const MAPPED = 0xffff;
/** Bits before the 32 of a mapped address: an IPv4 prefix length counts so many more. */
export const MAPPED_BITS = 96;

/** An array of its own for an address of 4 or 16 bytes. */
export function wordsOf(address: Uint8Array): Int32Array {
  return Int32Array.from(addressWords(address));
}

export function isMapped(words: Int32Array): boolean {
  return words[2] === MAPPED && words[0] === 0 && words[1] === 0;
}

/** @param address int32 */
export function loadIpv4(words: Int32Array, address: number): void {
  words[0] = 0;
  words[1] = 0;
  words[2] = MAPPED;
  words[3] = address;
}

export function loadIpv6(words: Int32Array, bytes: Uint8Array, at: number): void {
  for (let i = 0; i < 4; i++) words[i] = readInt32(bytes, at + 4 * i);
}

/** Writes the 16 bytes of an IPv6 address. */
export function storeIpv6(bytes: Uint8Array, at: number, words: Int32Array): void {
  for (let i = 0; i < 4; i++) writeInt32(bytes, at + 4 * i, words[i]);
}

export function copyWords(to: Int32Array, from: Int32Array): void {
  for (let i = 0; i < 4; i++) to[i] = from[i];
}

export function sameWords(a: Int32Array, b: Int32Array): boolean {
  return a[3] === b[3] && a[2] === b[2] && a[1] === b[1] && a[0] === b[0];
}

/** Leading bits in which two addresses agree, 0 to 128. */
export function commonBits(a: Int32Array, b: Int32Array): number {
  let word = 0;
  while (word < 4 && a[word] === b[word]) word++;
  return word === 4 ? 128 : 32 * word + Math.clz32(a[word] ^ b[word]);
}

/** The address with all but its first `bits` bits 0. */
export function prefixOf(words: Int32Array, bits: number): Int32Array {
  return words.map((word, i) => {
    const left = bits - 32 * i;
    if (left >= 32) return word;
    return left <= 0 ? 0 : word & (-1 << (32 - left));
  });
}

/** True for an IPv6 address of fe80::/10. */
export function isLinkLocal(words: Int32Array): boolean {
  return words[0] >>> 22 === 0x3fa;
}

/** True for a group's address, of either family. */
export function isMulticast(words: Int32Array): boolean {
  return isMapped(words) ? words[3] >>> 28 === 14 : words[0] >>> 24 === 0xff;
}

export function isUnspecified(words: Int32Array): boolean {
  return (words[0] | words[1] | words[3]) === 0 && (words[2] === 0 || words[2] === MAPPED);
}

/** The solicited-node group of an IPv6 address, ff02::1:ffxx:xxxx (RFC 4291, section 2.7.1). */
export function solicitedNode(words: Int32Array): Int32Array {
  return Int32Array.of(0xff020000 | 0, 0, 1, 0xff000000 | (words[3] & 0xffffff));
}
