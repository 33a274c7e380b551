/**
 * ARP (RFC 826): whose IPv4 address it is, asked and answered. What is believed, and when, is Linux's choice (arp_process(),
 * net/ipv4/arp.c): who asks for us is learned; an answer changes only what is known or asked for; within a second the first
 * answer counts. Other than there, nobody is believed to have a group's MAC address (RFC 1812, section 3.3.2), and none is
 * learned that is not on our network.
 */
import { C } from "../counters.ts";
import {
  ARP_LENGTH,
  ARP_SENDER_MAC,
  ARPOP_REPLY,
  ARPOP_REQUEST,
  arpOperation,
  arpSenderIp,
  arpTargetIp,
  checkArp,
  writeArp,
} from "../wire/arp.ts";
import {
  ETH_ADDRESS,
  ETH_BROADCAST,
  ETH_DST,
  ETH_FRAME_MIN,
  ETH_HEADER,
  ETH_P_ARP,
  isGroupAddress,
  writeEthernet,
} from "../wire/ethernet.ts";
import { isLoopback4, isMulticast4 } from "../wire/ipv4.ts";
import type { Addresses } from "./addresses.ts";
import type { ConflictDetection } from "./conflict-detection.ts";
import type { Link } from "./link.ts";
import { type Neighbour, Neighbours, NUD_REACHABLE, NUD_STALE, OVERRIDE, type Solicitor } from "./neighbours.ts";
import { loadIpv4 } from "./words.ts";

/** The first answer of those that come so close together counts (net.ipv4.neigh.default.locktime). */
const LOCKTIME_MS = 1000;
const ANY = new Uint8Array(ETH_ADDRESS);

export class Arp implements Solicitor {
  readonly neighbours: Neighbours;
  private readonly link: Link;
  private readonly addresses: Addresses;
  private readonly detection: ConflictDetection;
  private readonly frame = new Uint8Array(ETH_FRAME_MIN);
  private readonly sender = new Int32Array(4);
  private readonly target = new Int32Array(4);
  private readonly senderMac = new Uint8Array(ETH_ADDRESS);

  constructor(link: Link, addresses: Addresses, detection: ConflictDetection, now: number) {
    this.link = link;
    this.addresses = addresses;
    this.detection = detection;
    this.neighbours = new Neighbours(link, this, now);
  }

  /**
   * Takes the ARP packet at `arp`.
   * @param frame offset of its frame
   * @param length bytes from `arp` to the frame's end
   */
  receive(bytes: Uint8Array, frame: number, arp: number, length: number, now: number): void {
    const { counters } = this.link;
    if (!checkArp(bytes, arp, length) || !this.load(bytes, arp)) {
      counters[C.ArpInErrors]++;
      return;
    }
    const operation = arpOperation(bytes, arp);
    if (operation === ARPOP_REQUEST) counters[C.ArpInRequests]++;
    else counters[C.ArpInReplies]++;
    if (this.isFromUs()) return;
    if (this.detection.observe(this.sender, this.target, this.senderMac, now)) return;
    if (operation === ARPOP_REQUEST && this.addresses.isOwn(this.target)) this.answer(now);
    else if (this.sender[3] !== 0) this.update(operation, isGroupAddress(bytes, frame + ETH_DST), now);
  }

  /** Solicitor.solicit. */
  solicit(neighbour: Neighbour, alone: boolean): void {
    const source = this.addresses.sourceTo(neighbour.words);
    if (source === null) return;
    this.request(source.words[3], neighbour.words[3], alone ? neighbour.mac : ETH_BROADCAST);
  }

  /** Sends a request: a probe has no sender, an announcement the same address as sender and target (RFC 5227). */
  request(sender: number, target: number, mac: Uint8Array = ETH_BROADCAST): void {
    this.link.counters[C.ArpOutRequests]++;
    this.transmit(mac, ARPOP_REQUEST, sender, ANY, target);
  }

  /** Reads both stations; false when they cannot be, or the operation is neither request nor reply. */
  private load(bytes: Uint8Array, arp: number): boolean {
    const operation = arpOperation(bytes, arp);
    const sender = arpSenderIp(bytes, arp);
    const target = arpTargetIp(bytes, arp);
    loadIpv4(this.sender, sender);
    loadIpv4(this.target, target);
    for (let i = 0; i < ETH_ADDRESS; i++) this.senderMac[i] = bytes[arp + ARP_SENDER_MAC + i];
    if (operation !== ARPOP_REQUEST && operation !== ARPOP_REPLY) return false;
    if (isGroupAddress(this.senderMac, 0) || this.senderMac.every((byte) => byte === 0)) return false;
    if (isMulticast4(target) || isLoopback4(target)) return false;
    return !isMulticast4(sender) && !isLoopback4(sender) && !this.addresses.isBroadcast(this.sender);
  }

  private isFromUs(): boolean {
    return this.senderMac.every((byte, i) => byte === this.link.mac[i]);
  }

  /** A request for an address of ours, or a probe by who would like to have it. */
  private answer(now: number): void {
    const { link, sender, senderMac, target } = this;
    if (sender[3] !== 0 && this.addresses.isOnNetwork(sender)) {
      this.neighbours.learn(sender, senderMac, 0, OVERRIDE, now);
    }
    link.counters[C.ArpOutReplies]++;
    this.transmit(senderMac, ARPOP_REPLY, target[3], senderMac, sender[3]);
  }

  private update(operation: number, toGroup: boolean, now: number): void {
    const entry = this.neighbours.find(this.sender);
    if (entry === null) return;
    const state = operation === ARPOP_REPLY && !toGroup ? NUD_REACHABLE : NUD_STALE;
    const flags = now > entry.updatedAt + LOCKTIME_MS ? OVERRIDE : 0;
    this.neighbours.update(entry, this.senderMac, 0, state, flags, now);
  }

  private transmit(to: Uint8Array, operation: number, sender: number, targetMac: Uint8Array, target: number): void {
    const { frame, link } = this;
    writeEthernet(frame, 0, to, link.mac, ETH_P_ARP);
    writeArp(frame, ETH_HEADER, operation, link.mac, sender, targetMac, target);
    frame.fill(0, ETH_HEADER + ARP_LENGTH);
    link.events.transmit(frame);
  }
}
