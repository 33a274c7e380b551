/**
 * Textual IP addresses. Bytes are in network order: 4 for IPv4, 16 for IPv6.
 *
 * IPv4 is dotted decimal as inet_pton(3) takes it: four decimal numbers 0-255, no leading zeros, nothing else. IPv6 is
 * RFC 4291 section 2.2 on input and the canonical form of RFC 5952 on output.
 */

/** An IPv6 address with its zone ("eth0", "3"; "" when there is none), RFC 4007 section 11. */
export interface ScopedAddress {
  readonly address: Uint8Array;
  readonly zone: string;
}

/** The 4 bytes of a dotted-decimal address, or null when the text is not one. */
export function parseIpv4(text: string): Uint8Array | null {
  const parts = text.split(".", 5);
  if (parts.length !== 4) return null;
  const out = new Uint8Array(4);
  for (let i = 0; i < 4; i++) {
    const part = parts[i] as string;
    if (!/^(0|[1-9][0-9]{0,2})$/.test(part)) return null;
    const value = Number(part);
    if (value > 255) return null;
    out[i] = value;
  }
  return out;
}

/** Writes up to 8 groups of `text` ("1:2:3") into `out` from byte `at`; the number of bytes written, or -1. */
function parseGroups(text: string, out: Uint8Array, at: number, ipv4Allowed: boolean): number {
  if (text === "") return 0;
  const groups = text.split(":", 9);
  let end = at;
  for (let i = 0; i < groups.length; i++) {
    const group = groups[i] as string;
    if (ipv4Allowed && i === groups.length - 1 && group.includes(".")) {
      const ipv4 = parseIpv4(group);
      if (ipv4 === null || end + 4 > 16) return -1;
      out.set(ipv4, end);
      return end + 4 - at;
    }
    if (end + 2 > 16 || !/^[0-9a-fA-F]{1,4}$/.test(group)) return -1;
    const value = Number.parseInt(group, 16);
    out[end++] = value >>> 8;
    out[end++] = value & 0xff;
  }
  return end - at;
}

/** The 16 bytes of an IPv6 address without a zone, or null when the text is not one. */
export function parseIpv6(text: string): Uint8Array | null {
  const out = new Uint8Array(16);
  const gap = text.indexOf("::");
  if (gap < 0) return parseGroups(text, out, 0, true) === 16 ? out : null;
  // A second "::" would leave an empty group in one of the halves, which parseGroups refuses.
  const head = parseGroups(text.slice(0, gap), out, 0, false);
  const tail = new Uint8Array(16);
  const tailLength = parseGroups(text.slice(gap + 2), tail, 0, true);
  // "::" stands for at least one group of zeros.
  if (head < 0 || tailLength < 0 || head + tailLength > 14) return null;
  out.set(tail.subarray(0, tailLength), 16 - tailLength);
  return out;
}

/** An IPv6 address that may carry a zone ("fe80::1%eth0"), or null. */
export function parseIpv6Scoped(text: string): ScopedAddress | null {
  const percent = text.indexOf("%");
  const zone = percent < 0 ? "" : text.slice(percent + 1);
  if (percent >= 0 && zone === "") return null;
  const address = parseIpv6(percent < 0 ? text : text.slice(0, percent));
  return address === null ? null : { address, zone };
}

/** The 4 or 16 bytes of an IPv4 or IPv6 address (without zone), or null. */
export function parseIp(text: string): Uint8Array | null {
  return text.includes(":") ? parseIpv6(text) : parseIpv4(text);
}

/** As parseIp; throws a TypeError for what is no address. For constants and validated configuration. */
export function ip(text: string): Uint8Array {
  const bytes = parseIp(text);
  if (bytes === null) throw new TypeError(`not an IP address: ${JSON.stringify(text)}`);
  return bytes;
}

/** Dotted decimal of the 4 bytes from `at`. */
export function formatIpv4(bytes: Uint8Array, at = 0): string {
  return `${bytes[at]}.${bytes[at + 1]}.${bytes[at + 2]}.${bytes[at + 3]}`;
}

/**
 * RFC 5952 text of the 16 bytes from `at`: lower case, no leading zeros, the first longest run of two or more zero
 * groups as "::", IPv4-mapped addresses in mixed notation (section 5).
 */
export function formatIpv6(bytes: Uint8Array, at = 0): string {
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push(((bytes[at + i] as number) << 8) | (bytes[at + i + 1] as number));
  if (groups[5] === 0xffff && groups.slice(0, 5).every((group) => group === 0))
    return `::ffff:${formatIpv4(bytes, at + 12)}`;
  let best = 0;
  let bestLength = 1;
  for (let i = 0; i < 8; i++) {
    let length = 0;
    while (i + length < 8 && groups[i + length] === 0) length++;
    if (length > bestLength) {
      best = i;
      bestLength = length;
    }
  }
  const hex = groups.map((group) => group.toString(16));
  if (bestLength < 2) return hex.join(":");
  return `${hex.slice(0, best).join(":")}::${hex.slice(best + bestLength).join(":")}`;
}

/** Text of an address by its length: 4 bytes IPv4, 16 bytes IPv6. */
export function formatIp(bytes: Uint8Array): string {
  if (bytes.length === 4) return formatIpv4(bytes);
  if (bytes.length === 16) return formatIpv6(bytes);
  throw new RangeError(`an IP address has 4 or 16 bytes, not ${bytes.length}`);
}

/** The 6 bytes of "02:00:5e:10:00:01", or null. */
export function parseMac(text: string): Uint8Array | null {
  if (!/^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$/.test(text)) return null;
  return Uint8Array.from(text.split(":"), (octet) => Number.parseInt(octet, 16));
}

/** "02:00:5e:10:00:01" of the 6 bytes from `at`. */
export function formatMac(bytes: Uint8Array, at = 0): string {
  return Array.from(bytes.subarray(at, at + 6), (octet) => octet.toString(16).padStart(2, "0")).join(":");
}
