/**
 * Router discovery (RFC 4861, section 6.3) and the addresses that a host makes itself from what routers say (RFC 4862, section
 * 5.5). Routers are asked until one answers, ever more seldom (RFC 7559).
 *
 * Interface identifiers are made from the MAC address, as the link-local address is; a server wants to be found again.
 */
import { C } from "../counters.ts";
import { ICMP_CODE } from "../wire/icmp.ts";
import { IPV6_MIN_MTU, IPV6_SRC, ipv6HopLimit } from "../wire/ipv6.ts";
import {
  ND_HOP_LIMIT,
  ND_OPT_MTU_VALUE,
  NdOptions,
  PREFIX_ADDRESS,
  PREFIX_AUTONOMOUS,
  PREFIX_BITS,
  PREFIX_FLAGS,
  PREFIX_ON_LINK,
  PREFIX_PREFERRED,
  PREFIX_VALID,
  RA_HOP_LIMIT,
  RA_OPTIONS,
  RA_REACHABLE,
  RA_RETRANS,
  raLifetime,
  raPreference,
} from "../wire/nd.ts";
import { readInt32 } from "../wire/views.ts";
import {
  type Addresses,
  AUTOCONF,
  DEPRECATED,
  INTERFACE_ID_BITS,
  OwnAddress,
  PREFERRED,
  TENTATIVE,
  writeInterfaceId,
} from "./addresses.ts";
import type { DuplicateDetection } from "./duplicate-detection.ts";
import type { Link } from "./link.ts";
import type { NeighbourDiscovery } from "./nd.ts";
import { ISROUTER, NUD_FAILED, OVERRIDE, OVERRIDE_ISROUTER, WEAK_OVERRIDE } from "./neighbours.ts";
import { commonBits, isLinkLocal, isMulticast, loadIpv6, prefixOf, sameWords } from "./words.ts";

/** RFC 7559, section 2: first and longest time between two solicitations; a random tenth more or less. */
const SOLICIT_FIRST_MS = 4000;
const SOLICIT_MAX_MS = 3_600_000;
const SOLICIT_JITTER = 0.1;
/** MAX_RTR_SOLICITATION_DELAY. */
const SOLICIT_DELAY_MAX_MS = 1000;
/** The most default routers, prefixes on the link, and addresses made from prefixes (net.ipv6.conf.*.max_addresses). */
export const ROUTERS_MAX = 8;
export const PREFIXES_MAX = 32;
export const AUTOCONF_MAX = 16;
/** A router may not shorten the life of an address to less, if more is left (RFC 4862, section 5.5.3 e). */
const TWO_HOURS_MS = 7_200_000;
/** Bounds of what a router may set (RFC 4861, section 6.2.1; ndisc_router_discovery() in net/ipv6/ndisc.c). */
const REACHABLE_MIN_MS = 100;
const REACHABLE_MAX_MS = 3_600_000;
const RETRANS_MIN_MS = 10;
const RETRANS_MAX_MS = 60_000;

const NEVER = Number.POSITIVE_INFINITY;

export interface DefaultRouter {
  readonly words: Int32Array;
  /** 1, 0 or -1. */
  preference: number;
  until: number;
}

export interface OnLinkPrefix {
  readonly words: Int32Array;
  readonly bits: number;
  until: number;
}

export class RouterDiscovery {
  /** Default routers, in the order in which they were found. */
  readonly routers: DefaultRouter[] = [];
  /** Prefixes whose addresses are on the link. */
  readonly prefixes: OnLinkPrefix[] = [];
  /** Hop limit of packets, and bytes of the largest IPv6 packet on the link. */
  hopLimit = 64;
  mtu: number;
  private readonly link: Link;
  private readonly addresses: Addresses;
  private readonly detection: DuplicateDetection;
  private readonly discovery: () => NeighbourDiscovery;
  private readonly dad: boolean;
  private readonly options = new NdOptions();
  private readonly source = new Int32Array(4);
  private readonly prefix = new Int32Array(4);
  private solicitAt = NEVER;
  private intervalMs = 0;

  constructor(
    link: Link,
    addresses: Addresses,
    detection: DuplicateDetection,
    discovery: () => NeighbourDiscovery,
    dad: boolean,
  ) {
    this.link = link;
    this.addresses = addresses;
    this.detection = detection;
    this.discovery = discovery;
    this.dad = dad;
    this.mtu = link.mtu;
  }

  /** Begins to ask for routers. */
  start(now: number): void {
    this.intervalMs = 0;
    this.solicitAt = now + this.link.between(0, SOLICIT_DELAY_MAX_MS);
  }

  /** Forgets what routers have said: the link may be another one. */
  clear(): void {
    this.routers.length = 0;
    this.prefixes.length = 0;
    this.hopLimit = 64;
    this.mtu = this.link.mtu;
    this.link.changed();
  }

  /** Solicits, and lets lifetimes end. Returns when it is to be called next. */
  tick(now: number): number {
    if (this.solicitAt <= now) this.solicit(now);
    return Math.min(this.solicitAt, this.expire(this.routers, now), this.expire(this.prefixes, now));
  }

  /** Takes a router advertisement whose checksum is right. `length`: bytes of the message. */
  receive(bytes: Uint8Array, ip: number, icmp: number, length: number, now: number): void {
    const { options, source } = this;
    loadIpv6(source, bytes, ip + IPV6_SRC);
    const isValid =
      ipv6HopLimit(bytes, ip) === ND_HOP_LIMIT &&
      bytes[icmp + ICMP_CODE] === 0 &&
      length >= RA_OPTIONS &&
      isLinkLocal(source) &&
      options.read(bytes, icmp + RA_OPTIONS, length - RA_OPTIONS);
    if (!isValid) {
      this.link.counters[C.Icmp6InErrors]++;
      return;
    }
    const flags = WEAK_OVERRIDE | OVERRIDE | OVERRIDE_ISROUTER | ISROUTER;
    const { neighbours } = this.discovery();
    if (options.sourceMac >= 0) neighbours.learn(source, bytes, options.sourceMac, flags, now);
    this.takeRouter(bytes, icmp, now);
    this.takeParameters(bytes, icmp);
    for (let i = 0; i < options.prefixCount; i++) this.takePrefix(bytes, options.prefixes[i], now);
  }

  /** The router to send to, or null: the best of those that answer, the first of equals (RFC 4861, section 6.3.6; RFC 4191). */
  defaultRouter(): DefaultRouter | null {
    let best: DefaultRouter | null = null;
    for (const router of this.routers) {
      if (best === null || this.rank(router) > this.rank(best)) best = router;
    }
    return best;
  }

  isOnLink(words: Int32Array): boolean {
    for (const { words: prefix, bits } of this.prefixes) if (commonBits(prefix, words) >= bits) return true;
    return false;
  }

  /** A router is none any more. */
  forget(words: Int32Array): void {
    const index = this.routers.findIndex((router) => sameWords(router.words, words));
    if (index < 0) return;
    this.routers.splice(index, 1);
    this.link.changed();
  }

  private rank(router: DefaultRouter): number {
    const isSilent = this.discovery().neighbours.find(router.words)?.state === NUD_FAILED;
    return router.preference - (isSilent ? 4 : 0);
  }

  private solicit(now: number): void {
    const own = this.addresses.linkLocal;
    if (own === null || !own.isUsable) {
      // It asks from its link-local address, and waits for that.
      this.solicitAt = own?.state === TENTATIVE ? now + SOLICIT_DELAY_MAX_MS : NEVER;
      return;
    }
    this.discovery().solicitRouters(own);
    const jitter = this.link.between(1 - SOLICIT_JITTER, 1 + SOLICIT_JITTER);
    const wanted = this.intervalMs === 0 ? SOLICIT_FIRST_MS : 2 * this.intervalMs;
    this.intervalMs = Math.min(wanted, SOLICIT_MAX_MS) * jitter;
    this.solicitAt = now + this.intervalMs;
  }

  private takeRouter(bytes: Uint8Array, icmp: number, now: number): void {
    const lifetimeMs = raLifetime(bytes, icmp) * 1000;
    if (lifetimeMs === 0) {
      this.forget(this.source);
      return;
    }
    this.solicitAt = NEVER;
    const preference = raPreference(bytes, icmp);
    const router = this.routers.find((known) => sameWords(known.words, this.source));
    if (router === undefined) {
      if (this.routers.length === ROUTERS_MAX) return;
      this.routers.push({ words: this.source.slice(), preference, until: now + lifetimeMs });
      this.link.changed();
      return;
    }
    if (router.preference !== preference) this.link.changed();
    router.preference = preference;
    router.until = now + lifetimeMs;
  }

  private takeParameters(bytes: Uint8Array, icmp: number): void {
    const { neighbours } = this.discovery();
    const hopLimit = bytes[icmp + RA_HOP_LIMIT];
    if (hopLimit !== 0) this.hopLimit = hopLimit;
    const reachableMs = readInt32(bytes, icmp + RA_REACHABLE) >>> 0;
    if (reachableMs > 0 && reachableMs <= REACHABLE_MAX_MS) {
      neighbours.setReachable(Math.max(reachableMs, REACHABLE_MIN_MS));
    }
    const retransMs = readInt32(bytes, icmp + RA_RETRANS) >>> 0;
    if (retransMs > 0 && retransMs <= RETRANS_MAX_MS) {
      neighbours.retransMs = Math.max(retransMs, RETRANS_MIN_MS);
      this.detection.retransMs = neighbours.retransMs;
    }
    if (this.options.mtu < 0) return;
    const mtu = readInt32(bytes, this.options.mtu + ND_OPT_MTU_VALUE) >>> 0;
    if (mtu < IPV6_MIN_MTU || mtu > this.link.mtu || mtu === this.mtu) return;
    this.mtu = mtu;
    this.link.changed();
  }

  private takePrefix(bytes: Uint8Array, option: number, now: number): void {
    const bits = bytes[option + PREFIX_BITS];
    const flags = bytes[option + PREFIX_FLAGS];
    loadIpv6(this.prefix, bytes, option + PREFIX_ADDRESS);
    if (bits > 128 || isLinkLocal(this.prefix) || isMulticast(this.prefix)) return;
    const validMs = lifetimeMs(bytes, option + PREFIX_VALID);
    const preferredMs = lifetimeMs(bytes, option + PREFIX_PREFERRED);
    if ((flags & PREFIX_ON_LINK) !== 0) this.takeOnLink(prefixOf(this.prefix, bits), bits, validMs, now);
    if ((flags & PREFIX_AUTONOMOUS) !== 0 && bits === INTERFACE_ID_BITS && preferredMs <= validMs) {
      this.takeAutonomous(bytes, option + PREFIX_ADDRESS, validMs, preferredMs, now);
    }
  }

  private takeOnLink(words: Int32Array, bits: number, validMs: number, now: number): void {
    const known = this.prefixes.find((prefix) => prefix.bits === bits && sameWords(prefix.words, words));
    if (known !== undefined) {
      // One of lifetime 0 goes with the next tick().
      known.until = now + validMs;
      return;
    }
    if (validMs === 0 || this.prefixes.length === PREFIXES_MAX) return;
    this.prefixes.push({ words, bits, until: now + validMs });
    this.link.changed();
  }

  private takeAutonomous(bytes: Uint8Array, at: number, validMs: number, preferredMs: number, now: number): void {
    const address = bytes.slice(at, at + 16);
    writeInterfaceId(address, this.link.mac);
    const made = new OwnAddress(address, INTERFACE_ID_BITS, AUTOCONF);
    const known = this.addresses.find(made.words);
    if (known === null) {
      if (validMs === 0 || this.addresses.list.filter(({ origin }) => origin === AUTOCONF).length >= AUTOCONF_MAX)
        return;
      made.preferredUntil = now + preferredMs;
      made.validUntil = now + validMs;
      this.addresses.add(made);
      this.detection.start(made, this.dad, now);
      return;
    }
    if (known.origin !== AUTOCONF) return;
    known.preferredUntil = now + preferredMs;
    const leftMs = known.validUntil - now;
    if (validMs > TWO_HOURS_MS || validMs > leftMs) known.validUntil = now + validMs;
    else if (leftMs > TWO_HOURS_MS) known.validUntil = now + TWO_HOURS_MS;
    if (known.state === DEPRECATED && preferredMs > 0) this.addresses.enter(known, PREFERRED);
  }

  /** Removes what is over. Returns when the next one will be. */
  private expire(list: (DefaultRouter | OnLinkPrefix)[], now: number): number {
    let next = NEVER;
    for (let i = list.length - 1; i >= 0; i--) {
      if (list[i].until > now) {
        next = Math.min(next, list[i].until);
        continue;
      }
      list.splice(i, 1);
      this.link.changed();
    }
    return next;
  }
}

/** A lifetime field in ms; all ones is for ever. */
function lifetimeMs(bytes: Uint8Array, at: number): number {
  const seconds = readInt32(bytes, at) >>> 0;
  return seconds === 0xffffffff ? NEVER : seconds * 1000;
}
