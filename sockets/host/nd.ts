/**
 * Neighbour discovery (RFC 4861, section 7): whose IPv6 address it is, asked and answered. Messages are checked as section 7.1
 * says; what is believed of them is Linux's choice (net/ipv6/ndisc.c).
 */
import { C } from "../counters.ts";
import { ETH_ADDRESS } from "../wire/ethernet.ts";
import { ICMP_CODE, icmpRest, writeIcmp } from "../wire/icmp.ts";
import { IPV6_DST, IPV6_SRC, ipv6HopLimit, writeMulticastMac6 } from "../wire/ipv6.ts";
import {
  ND_HOP_LIMIT,
  ND_NA_OVERRIDE,
  ND_NA_ROUTER,
  ND_NA_SOLICITED,
  ND_OPT_LL_LENGTH,
  ND_OPT_NONCE,
  ND_OPT_NONCE_LENGTH,
  ND_OPT_SOURCE_LL_ADDR,
  ND_OPT_TARGET_LL_ADDR,
  ND_OPTIONS,
  ND_TARGET,
  NDISC_NEIGHBOUR_ADVERTISEMENT,
  NDISC_NEIGHBOUR_SOLICITATION,
  NDISC_ROUTER_SOLICITATION,
  NdOptions,
  RS_OPTIONS,
  writeMacOption,
} from "../wire/nd.ts";
import type { Addresses, OwnAddress } from "./addresses.ts";
import type { DuplicateDetection } from "./duplicate-detection.ts";
import { Message6 } from "./icmp-message.ts";
import { type Link, PACKET_AT } from "./link.ts";
import {
  ISROUTER,
  type Neighbour,
  Neighbours,
  NUD_FAILED,
  NUD_REACHABLE,
  NUD_STALE,
  OVERRIDE,
  OVERRIDE_ISROUTER,
  type Solicitor,
  WEAK_OVERRIDE,
} from "./neighbours.ts";
import { isMulticast, isUnspecified, loadIpv6, solicitedNode, storeIpv6 } from "./words.ts";

/** Groups that every host, and every router, of a link is in. */
export const ALL_NODES = Int32Array.of(0xff020000 | 0, 0, 0, 1);
const ALL_ROUTERS = Int32Array.of(0xff020000 | 0, 0, 0, 2);
const UNSPECIFIED = new Int32Array(4);

/** Bytes of a solicitation, which has an address or a nonce, and of an advertisement. */
const MESSAGE = ND_OPTIONS + ND_OPT_LL_LENGTH;

export class NeighbourDiscovery implements Solicitor {
  readonly neighbours: Neighbours;
  private readonly link: Link;
  private readonly addresses: Addresses;
  private readonly detection: DuplicateDetection;
  /** Called when a neighbour that was a router says that it is none. */
  private readonly onHost: (words: Int32Array) => void;
  private readonly options = new NdOptions();
  private readonly message = new Message6(MESSAGE);
  private readonly source = new Int32Array(4);
  private readonly destination = new Int32Array(4);
  private readonly target = new Int32Array(4);
  private readonly groupMac = new Uint8Array(ETH_ADDRESS);

  constructor(
    link: Link,
    addresses: Addresses,
    detection: DuplicateDetection,
    onHost: (words: Int32Array) => void,
    now: number,
  ) {
    this.link = link;
    this.addresses = addresses;
    this.detection = detection;
    this.onHost = onHost;
    this.neighbours = new Neighbours(link, this, now);
  }

  /**
   * Takes a neighbour solicitation or advertisement whose checksum is right.
   * @param length bytes of the message
   */
  receive(bytes: Uint8Array, ip: number, icmp: number, length: number, now: number): void {
    if (!this.load(bytes, ip, icmp, length)) this.link.counters[C.Icmp6InErrors]++;
    else if (bytes[icmp] === NDISC_NEIGHBOUR_SOLICITATION) this.solicited(bytes, now);
    else this.advertised(bytes, icmp, now);
  }

  /** Solicitor.solicit. */
  solicit(neighbour: Neighbour, alone: boolean): void {
    const { mac, words } = neighbour;
    const source = this.addresses.sourceTo(words);
    if (source === null) return;
    const { bytes } = this.message.views;
    writeMacOption(bytes, this.message.at + ND_OPTIONS, ND_OPT_SOURCE_LL_ADDR, this.link.mac);
    this.sendSolicitation(words, source.words, alone ? words : solicitedNode(words), alone ? mac : null);
  }

  /**
   * Asks whether anybody has an address, from none of our own (RFC 4862, section 5.4.2).
   * @param nonce six bytes (RFC 7527)
   */
  probe(own: OwnAddress, nonce: Uint8Array): void {
    const { bytes } = this.message.views;
    const option = this.message.at + ND_OPTIONS;
    bytes[option] = ND_OPT_NONCE;
    bytes[option + 1] = ND_OPT_NONCE_LENGTH >> 3;
    bytes.set(nonce, option + 2);
    this.sendSolicitation(own.words, UNSPECIFIED, solicitedNode(own.words), null);
  }

  /** Tells all nodes that an address is ours (RFC 4861, section 7.2.6; RFC 9131). */
  announce(own: OwnAddress): void {
    this.sendAdvertisement(own, ALL_NODES, 0, null, 0);
  }

  /** Asks the routers for advertisements. */
  solicitRouters(source: OwnAddress): void {
    const { at, views } = this.message;
    this.link.counters[C.Icmp6OutRouterSolicits]++;
    writeIcmp(views.bytes, at, NDISC_ROUTER_SOLICITATION, 0, 0);
    writeMacOption(views.bytes, at + RS_OPTIONS, ND_OPT_SOURCE_LL_ADDR, this.link.mac);
    this.transmit(RS_OPTIONS + ND_OPT_LL_LENGTH, source.words, ALL_ROUTERS, null, 0);
  }

  /** Reads addresses and options, and checks what RFC 4861 has messages checked for. */
  private load(bytes: Uint8Array, ip: number, icmp: number, length: number): boolean {
    if (ipv6HopLimit(bytes, ip) !== ND_HOP_LIMIT || bytes[icmp + ICMP_CODE] !== 0 || length < ND_OPTIONS) return false;
    loadIpv6(this.source, bytes, ip + IPV6_SRC);
    loadIpv6(this.destination, bytes, ip + IPV6_DST);
    loadIpv6(this.target, bytes, icmp + ND_TARGET);
    if (isMulticast(this.target) || !this.options.read(bytes, icmp + ND_OPTIONS, length - ND_OPTIONS)) return false;
    if (bytes[icmp] === NDISC_NEIGHBOUR_ADVERTISEMENT) {
      return !isMulticast(this.destination) || (icmpRest(bytes, icmp) & ND_NA_SOLICITED) === 0;
    }
    if (!isUnspecified(this.source)) return true;
    return this.options.sourceMac < 0 && this.addresses.isInGroup(this.destination);
  }

  private solicited(bytes: Uint8Array, now: number): void {
    const { options, source } = this;
    const own = this.addresses.find(this.target);
    if (own === null) return;
    if (isUnspecified(source)) {
      if (own.isUsable) this.announce(own);
      else this.detection.probed(own, bytes, options.nonce);
      return;
    }
    if (!own.isUsable) return;
    if (options.sourceMac >= 0) {
      this.neighbours.learn(source, bytes, options.sourceMac, WEAK_OVERRIDE | OVERRIDE, now);
      this.sendAdvertisement(own, source, ND_NA_SOLICITED, bytes, options.sourceMac);
      return;
    }
    // On the link it is, whatever the routes say: it came with a hop limit of 255.
    this.neighbours.send(source, this.writeAdvertisement(own, source, ND_NA_SOLICITED), now, false);
  }

  private advertised(bytes: Uint8Array, icmp: number, now: number): void {
    const { neighbours, options, target } = this;
    const own = this.addresses.find(target);
    if (own !== null) {
      this.detection.advertised(own, bytes, now);
      return;
    }
    const entry = neighbours.find(target);
    if (entry === null || entry.state === NUD_FAILED) return;
    const said = icmpRest(bytes, icmp);
    const wasRouter = entry.isRouter;
    const flags =
      WEAK_OVERRIDE |
      OVERRIDE_ISROUTER |
      ((said & ND_NA_OVERRIDE) !== 0 ? OVERRIDE : 0) |
      ((said & ND_NA_ROUTER) !== 0 ? ISROUTER : 0);
    const state = (said & ND_NA_SOLICITED) !== 0 ? NUD_REACHABLE : NUD_STALE;
    neighbours.update(entry, bytes, options.targetMac, state, flags, now);
    // A router that has become a host is nobody's gateway any more (RFC 4861, section 7.2.5).
    if (wasRouter && !entry.isRouter) this.onHost(target);
  }

  private sendSolicitation(
    target: Int32Array,
    source: Int32Array,
    destination: Int32Array,
    mac: Uint8Array | null,
  ): void {
    const { at, views } = this.message;
    this.link.counters[C.Icmp6OutNeighborSolicits]++;
    writeIcmp(views.bytes, at, NDISC_NEIGHBOUR_SOLICITATION, 0, 0);
    storeIpv6(views.bytes, at + ND_TARGET, target);
    this.transmit(MESSAGE, source, destination, mac, 0);
  }

  private sendAdvertisement(
    own: OwnAddress,
    destination: Int32Array,
    flags: number,
    mac: Uint8Array | null,
    macAt: number,
  ): void {
    const frame = this.writeAdvertisement(own, destination, flags);
    this.link.transmit(frame, mac ?? this.macOfGroup(), macAt);
  }

  /** Whole but for the Ethernet addresses. Our address is no anycast address, so it may override others. */
  private writeAdvertisement(own: OwnAddress, destination: Int32Array, flags: number): Uint8Array {
    const { at, views } = this.message;
    this.link.counters[C.Icmp6OutNeighborAdvertisements]++;
    this.link.counters[C.Icmp6OutMsgs]++;
    writeIcmp(views.bytes, at, NDISC_NEIGHBOUR_ADVERTISEMENT, 0, flags | ND_NA_OVERRIDE);
    storeIpv6(views.bytes, at + ND_TARGET, own.words);
    writeMacOption(views.bytes, at + ND_OPTIONS, ND_OPT_TARGET_LL_ADDR, this.link.mac);
    return this.message.finish(MESSAGE, 0, ND_HOP_LIMIT, own.words, destination);
  }

  /** Sends the message to a MAC address, or without one to the group that is its destination. */
  private transmit(
    length: number,
    source: Int32Array,
    destination: Int32Array,
    mac: Uint8Array | null,
    macAt: number,
  ): void {
    this.link.counters[C.Icmp6OutMsgs]++;
    const frame = this.message.finish(length, 0, ND_HOP_LIMIT, source, destination);
    this.link.transmit(frame, mac ?? this.macOfGroup(), macAt);
  }

  /** MAC address of the group to which the message is addressed. */
  private macOfGroup(): Uint8Array {
    writeMulticastMac6(this.groupMac, 0, this.message.views.bytes, PACKET_AT + IPV6_DST);
    return this.groupMac;
  }
}
