/** Neighbour discovery (RFC 4861): messages of ICMPv6, and the options after them. Offsets are from the ICMPv6 header. */
import { ETH_ADDRESS } from "./ethernet.ts";
import { readUint16 } from "./views.ts";

/** Types (include/net/ndisc.h). */
export const NDISC_ROUTER_SOLICITATION = 133;
export const NDISC_ROUTER_ADVERTISEMENT = 134;
export const NDISC_NEIGHBOUR_SOLICITATION = 135;
export const NDISC_NEIGHBOUR_ADVERTISEMENT = 136;
export const NDISC_REDIRECT = 137;
/** A neighbour discovery packet with another hop limit came through a router and is forged (RFC 4861, section 7.1). */
export const ND_HOP_LIMIT = 255;

/** Target of a solicitation or advertisement, 16 bytes, and where their options begin. */
export const ND_TARGET = 8;
export const ND_OPTIONS = 24;
/** Flags of an advertisement, in ICMP_REST as an int32. */
export const ND_NA_ROUTER = 0x80000000 | 0;
export const ND_NA_SOLICITED = 0x40000000;
export const ND_NA_OVERRIDE = 0x20000000;

/** Where the options of a router solicitation begin. */
export const RS_OPTIONS = 8;

/** Router advertisement: hop limit for packets (0: unspecified), flags, then lifetime in seconds, 16 bits. */
export const RA_HOP_LIMIT = 4;
export const RA_FLAGS = 5;
export const RA_LIFETIME = 6;
/** Milliseconds, 32 bits each; 0: unspecified. */
export const RA_REACHABLE = 8;
export const RA_RETRANS = 12;
export const RA_OPTIONS = 16;
/** Preference of the router, two bits of RA_FLAGS as a signed number: 1 high, 0 medium, -1 low (RFC 4191). */
export const RA_PREFERENCE_SHIFT = 3;

/** Options: type, then length in units of 8 bytes, both included. */
export const ND_OPT_SOURCE_LL_ADDR = 1;
export const ND_OPT_TARGET_LL_ADDR = 2;
export const ND_OPT_PREFIX_INFO = 3;
export const ND_OPT_MTU = 5;
/** Random bytes by which a host knows its own solicitations again (RFC 3971; RFC 7527). */
export const ND_OPT_NONCE = 14;
/** Bytes of a link-layer address option for Ethernet, of one with a nonce of six bytes, and of the others read here. */
export const ND_OPT_LL_LENGTH = 8;
export const ND_OPT_NONCE_LENGTH = 8;
export const ND_OPT_PREFIX_LENGTH = 32;
export const ND_OPT_MTU_LENGTH = 8;
/** Where the MTU is in its option, 32 bits. */
export const ND_OPT_MTU_VALUE = 4;

/** Prefix information, from the option's start: bits of the prefix, flags, lifetimes in seconds (-1: for ever), prefix. */
export const PREFIX_BITS = 2;
export const PREFIX_FLAGS = 3;
export const PREFIX_VALID = 4;
export const PREFIX_PREFERRED = 8;
export const PREFIX_ADDRESS = 16;
/** Flags: addresses under the prefix are on the link; hosts may make themselves one. */
export const PREFIX_ON_LINK = 0x80;
export const PREFIX_AUTONOMOUS = 0x40;

/** The most prefixes of one advertisement that are looked at. */
const PREFIXES_MAX = 16;

/** Offsets of a message's options, -1 for those that it has not. */
export class NdOptions {
  /** Of the six bytes of a MAC address. */
  sourceMac = -1;
  targetMac = -1;
  /** Of the six bytes. A nonce of another length is not looked at. */
  nonce = -1;
  /** Of the option itself. */
  mtu = -1;
  prefixCount = 0;
  readonly prefixes = new Int32Array(PREFIXES_MAX);

  /**
   * Reads the `length` bytes of options at `at`. Unknown ones are stepped over; of those given twice the first counts.
   * @returns false: an option has length 0 or leaves the message, or a link-layer address is not one of Ethernet
   */
  read(bytes: Uint8Array, at: number, length: number): boolean {
    this.sourceMac = -1;
    this.targetMac = -1;
    this.nonce = -1;
    this.mtu = -1;
    this.prefixCount = 0;
    const end = at + length;
    for (let option = at; option < end; ) {
      const size = option + 2 > end ? 0 : bytes[option + 1] << 3;
      if (size === 0 || option + size > end || !this.take(bytes[option], option, size)) return false;
      option += size;
    }
    return true;
  }

  private take(type: number, at: number, size: number): boolean {
    if (type === ND_OPT_SOURCE_LL_ADDR) {
      if (this.sourceMac < 0) this.sourceMac = at + 2;
      return size === ND_OPT_LL_LENGTH;
    }
    if (type === ND_OPT_TARGET_LL_ADDR) {
      if (this.targetMac < 0) this.targetMac = at + 2;
      return size === ND_OPT_LL_LENGTH;
    }
    if (type === ND_OPT_NONCE && size === ND_OPT_NONCE_LENGTH && this.nonce < 0) this.nonce = at + 2;
    if (type === ND_OPT_MTU && size === ND_OPT_MTU_LENGTH && this.mtu < 0) this.mtu = at;
    if (type === ND_OPT_PREFIX_INFO && size === ND_OPT_PREFIX_LENGTH && this.prefixCount < PREFIXES_MAX) {
      this.prefixes[this.prefixCount++] = at;
    }
    return true;
  }
}

/** Preference of a router advertisement: 1, 0 or -1. The reserved value counts as 0 (RFC 4191, section 2.2). */
export function raPreference(bytes: Uint8Array, icmp: number): number {
  const bits = (bytes[icmp + RA_FLAGS] >> RA_PREFERENCE_SHIFT) & 3;
  return bits === 3 ? -1 : bits & 1;
}

/** Lifetime of a router, seconds. */
export function raLifetime(bytes: Uint8Array, icmp: number): number {
  return readUint16(bytes, icmp + RA_LIFETIME);
}

/** Writes a link-layer address option. */
export function writeMacOption(bytes: Uint8Array, at: number, type: number, mac: Uint8Array): void {
  bytes[at] = type;
  bytes[at + 1] = ND_OPT_LL_LENGTH >> 3;
  for (let i = 0; i < ETH_ADDRESS; i++) bytes[at + 2 + i] = mac[i];
}
