/** What a host is given: its link, its addresses, its gateways. Checked here once, in words that say what to do. */
import { formatMac, parseIp } from "../wire/address.ts";
import { IPPROTO_UDP, isLoopback4, isMulticast4 } from "../wire/ipv4.ts";
import { IPV6_MIN_MTU, isLinkLocal6 } from "../wire/ipv6.ts";
import { readInt32 } from "../wire/views.ts";
import { commonBits, MAPPED_BITS, wordsOf } from "./words.ts";

export interface HostConfig {
  ifindex: number;
  /** 6 bytes. */
  mac: Uint8Array;
  /** Bytes of the largest IP packet. IPv6 needs 1280. */
  mtu: number;
  /** "198.18.0.1/24", "2001:db8::1/64". With one of IPv6 the host makes itself a link-local address, too. */
  addresses: readonly string[];
  /** Default gateways, at most one a family, each on the network of an address, or link-local, or beside a /32 or /128. */
  gateways?: readonly string[];
  /** Whether router advertisements are obeyed: default router, prefixes, addresses made from them. Default: with IPv6. */
  acceptRa?: boolean;
  /**
   * Whether an address is used only when nobody else is found to have it: after 1 to 2 s in IPv6 (RFC 4862), 4 to 7 s in
   * IPv4 (RFC 5227). Default true.
   */
  dad?: boolean;
  /** Protocols above IP that are served; ICMP says of the others that they are not. Default UDP. */
  protocols?: readonly number[];
}

export interface ConfiguredAddress {
  /** 4 or 16 bytes. */
  readonly bytes: Uint8Array;
  readonly words: Int32Array;
  /** 0 to 32, or to 128. */
  readonly prefixLength: number;
}

/** HostConfig with its texts read and its defaults filled in. */
export interface HostSettings {
  readonly ifindex: number;
  readonly mac: Uint8Array;
  readonly mtu: number;
  readonly addresses: readonly ConfiguredAddress[];
  /** Words of each. */
  readonly gateways: readonly Int32Array[];
  readonly ipv6: boolean;
  readonly acceptRa: boolean;
  readonly dad: boolean;
  readonly protocols: readonly number[];
}

/** The most addresses of its own that a host is given; router advertisements may add others. */
export const ADDRESSES_MAX = 64;

/** RFC 791, section 3.2: every link carries so much. */
const IPV4_MIN_MTU = 68;

/** Throws RangeError. */
export function resolveHostConfig(config: HostConfig): HostSettings {
  const { ifindex, mac, mtu, dad = true, protocols = [IPPROTO_UDP] } = config;
  if (mac.length !== 6 || (mac[0] & 1) !== 0 || mac.every((byte) => byte === 0)) {
    throw new RangeError(`MAC address ${formatMac(mac)}: six bytes of one station's address are needed`);
  }
  const addresses = config.addresses.map(parseAddress);
  if (addresses.length === 0 || addresses.length > ADDRESSES_MAX) {
    throw new RangeError(`${addresses.length} addresses: from 1 to ${ADDRESSES_MAX}`);
  }
  const twice = addresses.find((a, i) => addresses.findIndex((b) => b.bytes.join() === a.bytes.join()) !== i);
  if (twice !== undefined) throw new RangeError(`addresses: ${config.addresses[addresses.indexOf(twice)]} twice`);
  const hasIpv6 = addresses.some(({ bytes }) => bytes.length === 16);
  const acceptRa = config.acceptRa ?? hasIpv6;
  const ipv6 = hasIpv6 || acceptRa;
  const leastMtu = ipv6 ? IPV6_MIN_MTU : IPV4_MIN_MTU;
  if (!Number.isInteger(mtu) || mtu < leastMtu || mtu > 65535) {
    throw new RangeError(`MTU ${mtu}: from ${leastMtu} to 65535${ipv6 ? " with IPv6" : ""}`);
  }
  const gateways = (config.gateways ?? []).map((text) => parseGateway(text, addresses, ipv6));
  if (new Set(gateways.map((gateway) => gateway[2] === 0xffff && gateway[0] === 0)).size < gateways.length) {
    throw new RangeError(`gateways ${config.gateways?.join(", ")}: one a family`);
  }
  return { ifindex, mac: mac.slice(), mtu, addresses, gateways, ipv6, acceptRa, dad, protocols };
}

function parseAddress(text: string): ConfiguredAddress {
  const [name, length, more] = text.split("/");
  const bytes = parseIp(name);
  const bits = (bytes?.length ?? 0) * 8;
  const prefixLength = Number(length);
  if (bytes === null || more !== undefined || !/^\d+$/.test(length ?? "") || prefixLength > bits) {
    throw new RangeError(`address ${text}: an address and its prefix length are needed, as 198.18.0.1/24`);
  }
  if (!isUnicast(bytes)) throw new RangeError(`address ${text}: no host can have it`);
  if (bytes.length === 4 && prefixLength <= 30 && isEdge(readInt32(bytes, 0), prefixLength)) {
    throw new RangeError(`address ${text}: the first and the last of a network are no host's`);
  }
  return { bytes, words: wordsOf(bytes), prefixLength };
}

function isUnicast(bytes: Uint8Array): boolean {
  if (bytes.length === 16)
    return bytes[0] !== 0xff && !(bytes.subarray(0, 15).every((byte) => byte === 0) && bytes[15] <= 1);
  const address = readInt32(bytes, 0);
  return !isMulticast4(address) && !isLoopback4(address) && bytes[0] !== 0 && bytes[0] < 240;
}

/** Whether the bits after the prefix are all 0 or all 1. */
function isEdge(address: number, prefixLength: number): boolean {
  const host = prefixLength === 0 ? -1 : (1 << (32 - prefixLength)) - 1;
  return (address & host) === 0 || (address & host) === host;
}

function parseGateway(text: string, addresses: readonly ConfiguredAddress[], ipv6: boolean): Int32Array {
  const bytes = parseIp(text);
  if (bytes === null || !isUnicast(bytes)) throw new RangeError(`gateway ${text}: not the address of a router`);
  const words = wordsOf(bytes);
  if (bytes.length === 16 && isLinkLocal6(bytes, 0) && ipv6) return words;
  // An address that is a network by itself says nothing of who is near: then the gateway is, because it is said to be.
  const onLink = addresses.some((own) => {
    const bits = own.bytes.length === 4 ? own.prefixLength + MAPPED_BITS : own.prefixLength;
    return own.bytes.length === bytes.length && (bits === 128 || commonBits(own.words, words) >= bits);
  });
  if (!onLink) throw new RangeError(`gateway ${text}: on the network of none of the addresses`);
  if (addresses.some((own) => own.bytes.join() === bytes.join()))
    throw new RangeError(`gateway ${text}: an address of ours`);
  return words;
}
