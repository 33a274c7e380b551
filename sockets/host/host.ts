/**
 * A host on one link with addresses of its own: ARP, neighbour and router discovery, ICMP, path MTUs. Pure logic: frames come
 * and go by calls, time is an argument (milliseconds that do not go back), chance a generator.
 *
 * ```
 *                    ┌── arp.ts ────── neighbours.ts (IPv4)
 *   receive(frame) ──┼── icmp.ts ───── rate-limit.ts          ──▶ events.error: to sockets
 *                    └── icmp6.ts ──┬─ nd.ts ── neighbours.ts (IPv6)
 *                                   └─ router-discovery.ts    ──▶ events.changed: fib() is published
 *   send(frame) ─────── routes.ts ──── neighbours.ts          ──▶ events.transmit: to the wire
 * ```
 *
 * What a frame says is checked before it is believed: lengths, checksums, hop limits, whom it is addressed to. What does not
 * hold is counted. Everything that a frame can make the host remember has a bound.
 */
import { ERRNO } from "af-xdp-bindings";
import type { Random } from "../../queues/random.ts";
import { C, newCounters } from "../counters.ts";
import type { FibContent } from "../fib.ts";
import {
  ETH_ADDRESS,
  ETH_BROADCAST,
  ETH_DST,
  ETH_HEADER,
  ETH_P_ARP,
  ETH_P_IP,
  ETH_P_IPV6,
  ETH_RUNT,
  etherType,
  isGroupAddress,
  networkOffset,
} from "../wire/ethernet.ts";
import {
  ICMP_DEST_UNREACH,
  ICMP_PARAMETERPROB,
  ICMP_PORT_UNREACH,
  ICMP_PROT_UNREACH,
  ICMPV6_DEST_UNREACH,
  ICMPV6_MGM_QUERY,
  ICMPV6_MGM_REDUCTION,
  ICMPV6_MLD2_REPORT,
  ICMPV6_PARAMPROB,
  ICMPV6_PORT_UNREACH,
  ICMPV6_UNK_NEXTHDR,
} from "../wire/icmp.ts";
import {
  checkIpv4,
  IPPROTO_ICMP,
  IPPROTO_IGMP,
  IPV4_BAD_CHECKSUM,
  IPV4_DST,
  IPV4_HEADER,
  IPV4_OK,
  IPV4_TRUNCATED,
  ipv4Destination,
  ipv4IsFragment,
  ipv4Protocol,
  writeMulticastMac4,
} from "../wire/ipv4.ts";
import { checkOptions4, OPTIONS_OK, OPTIONS_PROBLEM, optionsProblem } from "../wire/ipv4-options.ts";
import {
  checkIpv6,
  IPV6_DST,
  IPV6_OK,
  IPV6_TRUNCATED,
  NEXTHDR_FRAGMENT,
  NEXTHDR_ICMP,
  NEXTHDR_NONE,
  transport,
  transport6,
  writeMulticastMac6,
} from "../wire/ipv6.ts";
import { FrameViews, readInt32 } from "../wire/views.ts";
import { Addresses, type OwnAddress, TENTATIVE } from "./addresses.ts";
import { Arp } from "./arp.ts";
import { type HostConfig, type HostSettings, resolveHostConfig } from "./config.ts";
import { ConflictDetection } from "./conflict-detection.ts";
import { DuplicateDetection } from "./duplicate-detection.ts";
import { checkExtensions, EXTENSIONS_OK, EXTENSIONS_PROBLEM, problem } from "./extensions.ts";
import { Icmp4 } from "./icmp.ts";
import type { IcmpReport } from "./icmp-report.ts";
import { Icmp6 } from "./icmp6.ts";
import { FRAME_AT, FRAME_MEMORY, type HostEvents, Link, PACKET_AT } from "./link.ts";
import { NeighbourDiscovery } from "./nd.ts";
import type { Neighbour } from "./neighbours.ts";
import { PathMtus } from "./path-mtu.ts";
import { IcmpRateLimit } from "./rate-limit.ts";
import { RouterDiscovery } from "./router-discovery.ts";
import { Routes } from "./routes.ts";
import { isMapped, isMulticast, loadIpv4, loadIpv6 } from "./words.ts";

export type { HostConfig } from "./config.ts";
export type { IcmpReport } from "./icmp-report.ts";
export type { HostEvents } from "./link.ts";

/** What receive() says. The frame was the host's; what there was to do is done, or it was dropped under a counter. */
export const HOST_TAKEN = 0;
/** A fragment for an address, group or broadcast address: the whole packet, when it is put together, is for receive() again. */
export const HOST_FRAGMENT = 1;
/** IGMP or MLD. */
export const HOST_GROUPS = 2;
/** A packet of HostConfig.protocols for an address, group or broadcast address. */
export const HOST_TRANSPORT = 3;

/** The least time between two calls of events.changed: a publication costs every lcore a copy. */
const CHANGE_INTERVAL_MS = 10;

export class Host {
  /** By C of ../counters.ts. */
  readonly counters: Float64Array;
  private readonly settings: HostSettings;
  private readonly link: Link;
  private readonly own: Addresses;
  private readonly conflicts: ConflictDetection;
  private readonly duplicates: DuplicateDetection;
  private readonly arp: Arp;
  private readonly discovery: NeighbourDiscovery;
  private readonly routers: RouterDiscovery;
  private readonly pathMtus: PathMtus;
  private readonly routes: Routes;
  private readonly icmp4: Icmp4;
  private readonly icmp6: Icmp6;
  private readonly rx = new FrameViews(new Uint8Array(FRAME_MEMORY));
  private readonly destination = new Int32Array(4);
  private readonly hop = new Int32Array(4);
  private readonly groupMac = new Uint8Array(ETH_ADDRESS);
  private isStarted = false;
  private changeAt = Number.NEGATIVE_INFINITY;

  /**
   * Nothing is sent and no event called before the first tick().
   * @param counters what is counted is added to, by C of ../counters.ts
   */
  constructor(config: HostConfig, events: HostEvents, random: Random, now: number, counters = newCounters()) {
    const settings = resolveHostConfig(config);
    const link = new Link(settings, events, random, counters);
    const own = new Addresses(link, settings);
    const limit = new IcmpRateLimit(random, now);
    const send = (frame: Uint8Array, at: number): void => this.sendOwn(frame, at);
    this.counters = counters;
    this.settings = settings;
    this.link = link;
    this.own = own;
    this.conflicts = new ConflictDetection(link, own, (sender, target) => this.arp.request(sender, target));
    this.duplicates = new DuplicateDetection(link, own, () => this.discovery);
    this.arp = new Arp(link, own, this.conflicts, now);
    this.routers = new RouterDiscovery(link, own, this.duplicates, () => this.discovery, settings.dad);
    this.discovery = new NeighbourDiscovery(link, own, this.duplicates, (words) => this.routers.forget(words), now);
    this.pathMtus = new PathMtus(link);
    this.routes = new Routes(link, own, settings.gateways, this.routers, this.pathMtus);
    this.icmp4 = new Icmp4(link, own, limit, send);
    const obeyed = settings.acceptRa ? this.routers : null;
    this.icmp6 = new Icmp6(link, own, this.discovery, obeyed, limit, () => this.routers.hopLimit, send);
  }

  /** Whether no address is still being checked for other users. */
  get isSettled(): boolean {
    return this.isStarted && this.own.list.every(({ state }) => state !== TENTATIVE);
  }

  /** Our addresses, whatever their state. */
  get addresses(): readonly OwnAddress[] {
    return this.own.list;
  }

  /** All neighbours that are known, or were asked for, of both families. */
  get neighbours(): Neighbour[] {
    return [...this.arp.neighbours.all(), ...this.discovery.neighbours.all()];
  }

  /** Hop limit that the routers want packets to have; 64 where they say nothing. */
  get hopLimit(): number {
    return this.routers.hopLimit;
  }

  /** Links, addresses, routes and neighbours by which packets may be sent without send(). */
  fib(): FibContent {
    return this.routes.fib([this.arp.neighbours, this.discovery.neighbours]);
  }

  /** The solicited-node groups that the host has to be a member of, four words each. */
  groups(): Int32Array[] {
    return this.own.groups();
  }

  /**
   * Begins with the addresses anew, and forgets neighbours, routers and what routers gave: the link was switched off, and is on
   * again (addrconf_ifdown(), net/ipv6/addrconf.c). The first tick() does it by itself.
   */
  restart(now: number): void {
    const { settings } = this;
    this.isStarted = true;
    this.forgetNeighbours();
    this.routers.clear();
    this.own.forgetMade();
    for (const own of this.own.list) {
      if (own.isIpv4) this.conflicts.start(own, settings.dad, now);
      else this.duplicates.start(own, settings.dad, now);
    }
    if (settings.acceptRa) this.routers.start(now);
  }

  /**
   * The link has a carrier again. As in Linux neighbours are forgotten (arp_evict_nocarrier, ndisc_evict_nocarrier), and all
   * addresses and routers are kept; other than there, addresses are announced (RFC 5227, section 2.3) and routers asked (RFC 4861,
   * section 6.3.7), since it may be another link.
   */
  reconnect(now: number): void {
    if (!this.isStarted) return;
    this.forgetNeighbours();
    for (const own of this.own.list) {
      if (own.isIpv4) this.conflicts.resume(own, now);
      else this.duplicates.resume(own, now);
    }
    if (this.settings.acceptRa) this.routers.start(now);
  }

  /** Timers. Returns when it is to be called next; a call before that is harmless. */
  tick(now: number): number {
    if (!this.isStarted) this.restart(now);
    let next = Math.min(
      this.own.tick(now),
      this.conflicts.tick(now),
      this.duplicates.tick(now),
      this.routers.tick(now),
    );
    next = Math.min(next, this.arp.neighbours.tick(now), this.discovery.neighbours.tick(now), this.pathMtus.tick(now));
    this.announceChange(now);
    return this.link.hasChanged ? Math.min(next, this.changeAt) : next;
  }

  /**
   * Takes a frame without VLAN tag, also one with a packet put together from fragments.
   * @returns HOST_TAKEN, or HOST_...: what somebody else has to do
   */
  receive(frame: Uint8Array, now: number): number {
    const verdict = this.load(frame) ? this.dispatch(frame.length, now) : HOST_TAKEN;
    this.announceChange(now);
    return verdict;
  }

  /** A datagram, in its frame, found no socket: its sender is told, if he may be. */
  portUnreachable(frame: Uint8Array, now: number): void {
    if (!this.load(frame)) return;
    const { bytes } = this.rx;
    const length = frame.length - ETH_HEADER;
    const type = etherType(bytes, PACKET_AT);
    if (type === ETH_P_IP && checkIpv4(this.rx, PACKET_AT, length) === IPV4_OK) {
      this.icmp4.sendError(bytes, PACKET_AT, ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, 0, now);
    }
    if (type === ETH_P_IPV6 && checkIpv6(bytes, PACKET_AT, length) === IPV6_OK) {
      this.icmp6.sendError(bytes, PACKET_AT, ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH, 0, now);
    }
    this.announceChange(now);
  }

  /** A datagram was given up; `packet` is its first fragment, without Ethernet header. */
  reassemblyTimeout(packet: Uint8Array, now: number): void {
    if (!this.loadPacket(packet)) return;
    if (packet[0] >> 4 === 4) this.icmp4.sendReassemblyTimeout(this.rx.bytes, PACKET_AT, now);
    else this.icmp6.sendReassemblyTimeout(this.rx.bytes, PACKET_AT, now);
    this.announceChange(now);
  }

  /**
   * An IPv6 packet, without Ethernet header, has a field that is wrong.
   * @param code of ICMPV6_PARAMPROB
   * @param pointer offset of the field in the packet
   */
  parameterProblem(packet: Uint8Array, code: number, pointer: number, now: number): void {
    if (!this.loadPacket(packet) || packet[0] >> 4 !== 6) return;
    this.icmp6.sendError(this.rx.bytes, PACKET_AT, ICMPV6_PARAMPROB, code, pointer, now);
    this.announceChange(now);
  }

  /**
   * Sends a socket's packet to where the FIB has no way: asks for the neighbour first, or finds that there is none.
   * @param frame with an EtherType; its Ethernet addresses are filled in. A packet no longer than the link's MTU, from an
   *   address of ours to one that is not
   * @returns 0: sent, or waiting for the neighbour. Else a negative errno: ENETUNREACH no route, EMSGSIZE longer than the
   *   link's MTU, ENOBUFS too many neighbours, EINVAL no packet, or to ourselves
   */
  send(frame: Uint8Array, now: number): number {
    const result = this.sendPacket(frame, now, true);
    this.announceChange(now);
    return result;
  }

  /** Bytes of the largest packet that gets to a frame's destination, as far as is known. */
  pathMtu(frame: Uint8Array): number {
    return this.loadDestination(frame) ? this.routes.mtuTo(this.destination) : this.link.mtu;
  }

  /**
   * Believes what an EMSGSIZE report says of the path: to be called when the packet that it quotes is known to have been
   * sent, by a socket on its addresses and ports. Anybody could forge the rest.
   * @returns whether packets to report.remote have to be smaller now
   */
  acceptPathMtu(report: IcmpReport, now: number): boolean {
    if (report.errno !== ERRNO.EMSGSIZE) return false;
    const { info, packetLength, remote } = report;
    const linkMtu = this.routes.linkMtu(report.version === 4);
    const changed = this.pathMtus.learn(remote, info, packetLength, linkMtu, now);
    this.announceChange(now);
    return changed;
  }

  /**
   * The lcores still send to a neighbour by the FIB: to be said at least every USED_INTERVAL_MS while they do. Else it is
   * taken to be out of use, and is no longer confirmed.
   */
  used(words: Int32Array, now: number): void {
    (isMapped(words) ? this.arp : this.discovery).neighbours.used(words, now);
  }

  private forgetNeighbours(): void {
    this.arp.neighbours.clear();
    this.discovery.neighbours.clear();
  }

  private announceChange(now: number): void {
    if (!this.link.hasChanged || now < this.changeAt) return;
    this.link.hasChanged = false;
    this.changeAt = now + CHANGE_INTERVAL_MS;
    this.link.events.changed();
  }

  /** Copies a frame to where its packet lies on a word. False, and counted: it is none, or not for this station. */
  private load(frame: Uint8Array): boolean {
    const { counters, rx } = this;
    if (frame.length > FRAME_MEMORY - FRAME_AT) {
      counters[C.EthTruncated]++;
      return false;
    }
    rx.bytes.set(frame, FRAME_AT);
    const network = networkOffset(rx.bytes, FRAME_AT, frame.length);
    if (network !== PACKET_AT) {
      counters[network === ETH_RUNT ? C.EthTruncated : C.EthUnknownType]++;
      return false;
    }
    if (isGroupAddress(frame, ETH_DST)) return true;
    for (let i = 0; i < ETH_ADDRESS; i++) {
      if (frame[ETH_DST + i] === this.link.mac[i]) continue;
      counters[C.EthOtherHost]++;
      return false;
    }
    return true;
  }

  /** load() of a packet alone, as if it had come to this station. False: it cannot be one. */
  private loadPacket(packet: Uint8Array): boolean {
    const { bytes } = this.rx;
    if (packet.length > FRAME_MEMORY - PACKET_AT) return false;
    bytes.set(this.link.mac, FRAME_AT);
    bytes.set(packet, PACKET_AT);
    if (packet[0] >> 4 === 4) return checkIpv4(this.rx, PACKET_AT, packet.length) === IPV4_OK;
    return checkIpv6(bytes, PACKET_AT, packet.length) === IPV6_OK;
  }

  private dispatch(frameLength: number, now: number): number {
    const { bytes } = this.rx;
    const length = frameLength - ETH_HEADER;
    switch (etherType(bytes, PACKET_AT)) {
      case ETH_P_ARP:
        this.arp.receive(bytes, FRAME_AT, PACKET_AT, length, now);
        return HOST_TAKEN;
      case ETH_P_IP:
        return this.receive4(length, now);
      case ETH_P_IPV6:
        return this.receive6(length, now);
      default:
        this.counters[C.EthUnknownType]++;
        return HOST_TAKEN;
    }
  }

  private receive4(length: number, now: number): number {
    const { bytes } = this.rx;
    const verdict = checkIpv4(this.rx, PACKET_AT, length);
    if (verdict === IPV4_BAD_CHECKSUM) return this.drop(C.IpInCsumErrors);
    if (verdict !== IPV4_OK) return this.drop(verdict === IPV4_TRUNCATED ? C.IpInTruncatedPkts : C.IpInHdrErrors);
    const options = checkOptions4(bytes, PACKET_AT);
    if (options === OPTIONS_PROBLEM) {
      this.icmp4.sendError(bytes, PACKET_AT, ICMP_PARAMETERPROB, 0, optionsProblem.pointer << 24, now);
    }
    if (options !== OPTIONS_OK) return this.drop(C.IpInHdrErrors);
    const protocol = ipv4Protocol(bytes, PACKET_AT);
    const isFragment = ipv4IsFragment(bytes, PACKET_AT);
    if (protocol === IPPROTO_IGMP && !isFragment) return HOST_GROUPS;
    loadIpv4(this.destination, ipv4Destination(bytes, PACKET_AT));
    const { destination, own, settings } = this;
    const isGroup = isMulticast(destination) || own.isBroadcast(destination);
    if (!isGroup && !own.isOwn(destination)) return this.drop(C.IpInAddrErrors);
    if (isFragment) return HOST_FRAGMENT;
    if (protocol === IPPROTO_ICMP) {
      this.icmp4.receive(this.rx, PACKET_AT, now);
      return HOST_TAKEN;
    }
    if (settings.protocols.includes(protocol)) return HOST_TRANSPORT;
    this.icmp4.sendError(bytes, PACKET_AT, ICMP_DEST_UNREACH, ICMP_PROT_UNREACH, 0, now);
    return this.drop(C.IpInUnknownProtos);
  }

  private receive6(length: number, now: number): number {
    const { bytes } = this.rx;
    if (!this.settings.ipv6) return this.drop(C.IpInAddrErrors);
    const verdict = checkIpv6(bytes, PACKET_AT, length);
    if (verdict !== IPV6_OK) return this.drop(verdict === IPV6_TRUNCATED ? C.IpInTruncatedPkts : C.IpInHdrErrors);
    const left = transport6(bytes, PACKET_AT);
    if (left < 0) return this.drop(C.IpInHdrErrors);
    const { field, offset, protocol } = transport;
    const type = bytes[offset];
    if (protocol === NEXTHDR_ICMP && left > 0 && isListenerDiscovery(type)) return HOST_GROUPS;
    loadIpv6(this.destination, bytes, PACKET_AT + IPV6_DST);
    // One that is not ours yet, too: the answer to our question whose it is may be sent there.
    if (!isMulticast(this.destination) && this.own.find(this.destination) === null) return this.drop(C.IpInAddrErrors);
    const extensions = checkExtensions(bytes, PACKET_AT);
    if (extensions === EXTENSIONS_PROBLEM) {
      this.icmp6.sendError(bytes, PACKET_AT, ICMPV6_PARAMPROB, problem.code, problem.pointer, now);
    }
    if (extensions !== EXTENSIONS_OK) return this.drop(C.IpInHdrErrors);
    if (protocol === NEXTHDR_FRAGMENT) return HOST_FRAGMENT;
    if (protocol === NEXTHDR_ICMP) {
      this.icmp6.receive(this.rx, PACKET_AT, offset, left, now);
      return HOST_TAKEN;
    }
    if (!isMulticast(this.destination) && !this.own.isOwn(this.destination)) return this.drop(C.IpInAddrErrors);
    if (this.settings.protocols.includes(protocol)) return HOST_TRANSPORT;
    if (protocol !== NEXTHDR_NONE) {
      this.icmp6.sendError(bytes, PACKET_AT, ICMPV6_PARAMPROB, ICMPV6_UNK_NEXTHDR, field - PACKET_AT, now);
    }
    return this.drop(C.IpInUnknownProtos);
  }

  private drop(counter: number): number {
    this.counters[counter]++;
    return HOST_TAKEN;
  }

  /** A packet of ICMP, which may be an echo reply of any length. */
  private sendOwn(frame: Uint8Array, now: number): void {
    const tooBig = frame.length - ETH_HEADER > this.pathMtu(frame);
    if (tooBig) this.link.events.transmitPacket(frame);
    else this.sendPacket(frame, now, false);
  }

  /** @param publish whether packets of sockets will follow */
  private sendPacket(frame: Uint8Array, now: number, publish: boolean): number {
    const { destination, hop } = this;
    if (!this.loadDestination(frame) || this.own.isOwn(destination)) return -ERRNO.EINVAL;
    const isIpv4 = isMapped(destination);
    if (frame.length - ETH_HEADER > this.routes.linkMtu(isIpv4)) return -ERRNO.EMSGSIZE;
    if (isMulticast(destination) || this.own.isBroadcast(destination)) {
      this.link.transmit(frame, this.macOfGroup(frame, isIpv4));
      return 0;
    }
    if (!this.routes.nextHop(destination, hop)) {
      this.counters[C.IpOutNoRoutes]++;
      return -ERRNO.ENETUNREACH;
    }
    return (isIpv4 ? this.arp : this.discovery).neighbours.send(hop, frame, now, publish);
  }

  /** Reads where a frame's packet is for; false: the frame ends before that, or is of neither family. */
  private loadDestination(frame: Uint8Array): boolean {
    const version = frame.length > ETH_HEADER ? frame[ETH_HEADER] >> 4 : 0;
    if (version === 4 && frame.length >= ETH_HEADER + IPV4_HEADER) {
      loadIpv4(this.destination, readInt32(frame, ETH_HEADER + IPV4_DST));
      return true;
    }
    if (version !== 6 || frame.length < ETH_HEADER + IPV6_DST + 16) return false;
    loadIpv6(this.destination, frame, ETH_HEADER + IPV6_DST);
    return true;
  }

  private macOfGroup(frame: Uint8Array, isIpv4: boolean): Uint8Array {
    if (!isMulticast(this.destination)) return ETH_BROADCAST;
    if (isIpv4) writeMulticastMac4(this.groupMac, 0, this.destination[3]);
    else writeMulticastMac6(this.groupMac, 0, frame, ETH_HEADER + IPV6_DST);
    return this.groupMac;
  }
}

function isListenerDiscovery(type: number): boolean {
  return (type >= ICMPV6_MGM_QUERY && type <= ICMPV6_MGM_REDUCTION) || type === ICMPV6_MLD2_REPORT;
}
