/**
 * Addresses as node:dgram has them: text with its family's name, an IPv4 one on a udp6 socket in its mapped form, a
 * link-local one with its zone.
 */
import type { Datagram } from "../../sockets/datagram.ts";
import { addressBytes, addressWords } from "../../sockets/fib.ts";
import { formatIp, ip } from "../../sockets/wire/address.ts";
import { original } from "./originals.ts";

const { isIPv4, isIPv6 } = original("node:net");

/** What the `type` of a socket says: udp4 or udp6. */
export type Family = 4 | 6;

/** An address to send or bind to. */
export interface Destination {
  /** Four words, IPv4 mapped. */
  readonly words: Int32Array;
  readonly text: string;
  /** Zone of a link-local address (RFC 4007), "" for none. */
  readonly zone: string;
}

/** Destinations remembered. */
const DESTINATIONS_MAX = 1024;
/** Senders whose text is remembered: a power of two. */
const SENDERS = 1024;

/** Parses an address literal of the socket's family; null for anything else, as a host name. */
export function parseDestination(text: string, family: Family): Destination | null {
  if (family === 4) return isIPv4(text) ? { words: words(text), text, zone: "" } : null;
  if (!isIPv6(text)) return null;
  const [address, zone = ""] = text.split("%");
  return { words: words(address), text: address, zone };
}

const words = (text: string): Int32Array => Int32Array.from(addressWords(ip(text)));

/** Address literals parsed before, for one family. */
export class Destinations {
  private readonly family: Family;
  private readonly known = new Map<string, Destination>();

  constructor(family: Family) {
    this.family = family;
  }

  /** The address that `text` is, or null when it is a name that has to be looked up. */
  find(text: string): Destination | null {
    const found = this.known.get(text);
    if (found !== undefined) return found;
    const parsed = parseDestination(text, this.family);
    if (parsed === null) return null;
    if (this.known.size === DESTINATIONS_MAX) this.known.clear();
    this.known.set(text, parsed);
    return parsed;
  }
}

/** Text of an address of four words on a socket of the family. `zone` is the interface, for link-local addresses. */
function addressText(family: Family, w0: number, w1: number, w2: number, w3: number, zone: string): string {
  const bytes = addressBytes(w0, w1, w2, w3);
  const text = formatIp(bytes);
  if (family === 4) return text;
  if (bytes.length === 4) return `::ffff:${text}`;
  const linkLocal = w0 >>> 22 === 0x3fa;
  return linkLocal && zone !== "" ? `${text}%${zone}` : text;
}

/** Texts of the senders of datagrams: a string is made when a sender is new, or has been forgotten for another. */
export class SenderTexts {
  private readonly family: Family;
  private readonly zone: string;
  private readonly words = new Int32Array(SENDERS * 4);
  private readonly texts: string[] = new Array(SENDERS).fill("");

  constructor(family: Family, zone: string) {
    this.family = family;
    this.zone = zone;
  }

  of(datagram: Datagram): string {
    const w0 = datagram.sourceWord(0);
    const w1 = datagram.sourceWord(1);
    const w2 = datagram.sourceWord(2);
    const w3 = datagram.sourceWord(3);
    // Fibonacci hashing: neighbours in a subnet differ in their last bits.
    const slot = Math.imul(w0 ^ w1 ^ w3, 0x9e3779b1) >>> 22;
    const { texts, words } = this;
    const at = slot * 4;
    if (
      words[at + 3] === w3 &&
      words[at + 2] === w2 &&
      words[at + 1] === w1 &&
      words[at] === w0 &&
      texts[slot] !== ""
    ) {
      return texts[slot];
    }
    words[at] = w0;
    words[at + 1] = w1;
    words[at + 2] = w2;
    words[at + 3] = w3;
    texts[slot] = addressText(this.family, w0, w1, w2, w3, this.zone);
    return texts[slot];
  }
}
