/** The addresses that are the host's own, and which of them a packet leaves from. */
import type { HostSettings } from "./config.ts";
import type { Link } from "./link.ts";
import {
  commonBits,
  isLinkLocal,
  isMapped,
  isMulticast,
  MAPPED_BITS,
  sameWords,
  solicitedNode,
  wordsOf,
} from "./words.ts";

// States of an address (RFC 4862, section 2), those of IPv4 by the same names.
/** Not ours yet: others are being asked. */
export const TENTATIVE = 0;
/** To be used freely. */
export const PREFERRED = 1;
/** Still ours, but not for something new. */
export const DEPRECATED = 2;
/** Another station has it: it is not used. */
export const DUPLICATE = 3;

// Where an address is from.
/** HostConfig. */
const CONFIGURED = 0;
/** The link-local address made from the MAC address. */
const LINK_LOCAL = 1;
/** Made from a prefix that a router advertises. */
export const AUTOCONF = 2;

/** Bits of an interface identifier made from a MAC address (RFC 2464, section 4). */
export const INTERFACE_ID_BITS = 64;

export class OwnAddress {
  /** 4 or 16 bytes. */
  readonly bytes: Uint8Array;
  readonly words: Int32Array;
  /** 0 to 32, or to 128. */
  readonly prefixLength: number;
  /** The prefix length in words' bits: 96 more for IPv4. */
  readonly prefixBits: number;
  readonly origin: number;
  state = TENTATIVE;
  /** When it is deprecated and when it is gone, ms. */
  preferredUntil = Number.POSITIVE_INFINITY;
  validUntil = Number.POSITIVE_INFINITY;
  /** When the search for other users takes its next step, and how many steps are left. */
  stepAt = Number.POSITIVE_INFINITY;
  stepsLeft = 0;
  /** When it was last defended. */
  defendedAt = Number.NEGATIVE_INFINITY;

  constructor(bytes: Uint8Array, prefixLength: number, origin: number) {
    this.bytes = bytes;
    this.words = wordsOf(bytes);
    this.prefixLength = prefixLength;
    this.prefixBits = bytes.length === 4 ? prefixLength + MAPPED_BITS : prefixLength;
    this.origin = origin;
  }

  get isIpv4(): boolean {
    return this.bytes.length === 4;
  }

  /** Whether it is ours to use. */
  get isUsable(): boolean {
    return this.state === PREFERRED || this.state === DEPRECATED;
  }
}

export class Addresses {
  readonly list: OwnAddress[];
  /** The link-local address made from the MAC address, where there is IPv6. */
  readonly linkLocal: OwnAddress | null;
  private readonly link: Link;

  constructor(link: Link, settings: HostSettings) {
    this.link = link;
    this.list = settings.addresses.map(({ bytes, prefixLength }) => new OwnAddress(bytes, prefixLength, CONFIGURED));
    this.linkLocal = settings.ipv6 ? this.makeLinkLocal(settings.mac) : null;
  }

  /** The address among ours, in whatever state, or null. */
  find(words: Int32Array): OwnAddress | null {
    for (const own of this.list) if (sameWords(own.words, words)) return own;
    return null;
  }

  /** Whether an address is ours to use. */
  isOwn(words: Int32Array): boolean {
    return this.find(words)?.isUsable ?? false;
  }

  /** Whether an address is the broadcast address of one of our IPv4 networks, or that of all (RFC 919). */
  isBroadcast(words: Int32Array): boolean {
    if (!isMapped(words)) return false;
    const address = words[3];
    if (address === -1) return true;
    for (const own of this.list) {
      if (!own.isIpv4 || !own.isUsable || own.prefixLength > 30) continue;
      const host = own.prefixLength === 0 ? -1 : (1 << (32 - own.prefixLength)) - 1;
      if ((address & host) === host && commonBits(own.words, words) >= own.prefixBits) return true;
    }
    return false;
  }

  /**
   * Whether an address is in the network of one that we use. An address made from an advertised prefix says nothing of the
   * sort (RFC 5942).
   */
  isOnNetwork(words: Int32Array): boolean {
    for (const own of this.list) {
      if (!own.isUsable || own.origin === AUTOCONF || own.isIpv4 !== isMapped(words)) continue;
      if (commonBits(own.words, words) >= own.prefixBits) return true;
    }
    return false;
  }

  /** The address that a packet to `destination` leaves from, or null when there is none of its family. */
  sourceTo(destination: Int32Array): OwnAddress | null {
    let best: OwnAddress | null = null;
    for (const own of this.list) {
      if (!own.isUsable || own.isIpv4 !== isMapped(destination)) continue;
      if (best === null || isBetter(own, best, destination)) best = own;
    }
    return best;
  }

  /** The solicited-node groups that the host is in, each once: four words. Of tentative addresses, too (RFC 4862, 5.4.2). */
  groups(): Int32Array[] {
    const groups: Int32Array[] = [];
    for (const own of this.list) {
      if (own.isIpv4 || own.state === DUPLICATE) continue;
      const group = solicitedNode(own.words);
      if (!groups.some((known) => sameWords(known, group))) groups.push(group);
    }
    return groups;
  }

  /** Whether `words` is the solicited-node group of an address of ours. */
  isInGroup(words: Int32Array): boolean {
    if (words[0] !== (0xff020000 | 0) || words[1] !== 0 || words[2] !== 1 || words[3] >>> 24 !== 0xff) return false;
    for (const own of this.list) {
      if (!own.isIpv4 && own.state !== DUPLICATE && (own.words[3] & 0xffffff) === (words[3] & 0xffffff)) return true;
    }
    return false;
  }

  add(own: OwnAddress): void {
    this.list.push(own);
    this.link.changed();
  }

  /** Removes the addresses that were made from routers' prefixes. */
  forgetMade(): void {
    for (let i = this.list.length - 1; i >= 0; i--) {
      if (this.list[i].origin !== AUTOCONF) continue;
      this.list.splice(i, 1);
      this.link.changed();
    }
  }

  /** Takes an address into another state. */
  enter(own: OwnAddress, state: number): void {
    if (own.state === state) return;
    own.state = state;
    this.link.changed();
  }

  /** Deprecates and removes what has outlived its lifetimes. Returns when the next one will have. */
  tick(now: number): number {
    let next = Number.POSITIVE_INFINITY;
    for (let i = this.list.length - 1; i >= 0; i--) {
      const own = this.list[i];
      if (own.validUntil <= now) {
        this.list.splice(i, 1);
        this.link.changed();
        continue;
      }
      if (own.preferredUntil > now) next = Math.min(next, own.preferredUntil);
      else if (own.state === PREFERRED) this.enter(own, DEPRECATED);
      next = Math.min(next, own.validUntil);
    }
    return next;
  }

  private makeLinkLocal(mac: Uint8Array): OwnAddress {
    const bytes = new Uint8Array(16);
    bytes[0] = 0xfe;
    bytes[1] = 0x80;
    writeInterfaceId(bytes, mac);
    const words = wordsOf(bytes);
    const known = this.list.find((own) => sameWords(own.words, words));
    if (known !== undefined) return known;
    const own = new OwnAddress(bytes, 64, LINK_LOCAL);
    this.list.push(own);
    return own;
  }
}

/** Writes the last eight bytes of an address: the modified EUI-64 of a MAC address (RFC 4291, appendix A). */
export function writeInterfaceId(address: Uint8Array, mac: Uint8Array): void {
  address.set([mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]], 8);
}

/**
 * Whether a packet to `destination` rather leaves from `a` than from `b`: rules 1, 2, 3 and 8 of RFC 6724, section 5. Those
 * between need what a host on one link has not: home addresses, other interfaces, a policy table. IPv4 takes the last.
 */
function isBetter(a: OwnAddress, b: OwnAddress, destination: Int32Array): boolean {
  if (sameWords(a.words, destination)) return true;
  if (sameWords(b.words, destination)) return false;
  if (!a.isIpv4) {
    const local = isLinkLocal(a.words);
    if (local !== isLinkLocal(b.words)) return local === isOfLink(destination);
    if (a.state !== b.state) return a.state === PREFERRED;
  }
  // Beyond the network's prefix the bits mean nothing: the first address of a network stays its first.
  return (
    Math.min(commonBits(a.words, destination), a.prefixBits) > Math.min(commonBits(b.words, destination), b.prefixBits)
  );
}

/** Whether an IPv6 destination has the scope of the link: fe80::/10, ff01::/16 and ff02::/16. */
function isOfLink(words: Int32Array): boolean {
  return isLinkLocal(words) || (isMulticast(words) && ((words[0] >>> 16) & 15) <= 2);
}
