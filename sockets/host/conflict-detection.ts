/**
 * IPv4 address conflict detection (RFC 5227): an address is asked for three times before it is used, then announced twice, and
 * defended ever after. Of the ways of section 2.4 this is the last: a server keeps its address, and says so once in 10 s.
 */
import { C } from "../counters.ts";
import { type Addresses, DUPLICATE, type OwnAddress, PREFERRED, TENTATIVE } from "./addresses.ts";
import type { Link } from "./link.ts";
import { sameWords } from "./words.ts";

/** RFC 5227, section 1.1. */
const PROBE_WAIT_MS = 1000;
const PROBE_NUM = 3;
const PROBE_MIN_MS = 1000;
const PROBE_MAX_MS = 2000;
const ANNOUNCE_WAIT_MS = 2000;
const ANNOUNCE_NUM = 2;
const ANNOUNCE_INTERVAL_MS = 2000;
const DEFEND_INTERVAL_MS = 10_000;

/** Sends an ARP request; addresses as int32. */
type Request = (sender: number, target: number) => void;

export class ConflictDetection {
  private readonly link: Link;
  private readonly addresses: Addresses;
  private readonly request: Request;

  constructor(link: Link, addresses: Addresses, request: Request) {
    this.link = link;
    this.addresses = addresses;
    this.request = request;
  }

  /** Begins with an address; `probe`: it is not used before it is known to be free. */
  start(own: OwnAddress, probe: boolean, now: number): void {
    this.addresses.enter(own, probe ? TENTATIVE : PREFERRED);
    own.stepsLeft = probe ? PROBE_NUM : ANNOUNCE_NUM;
    own.stepAt = probe ? now + this.link.between(0, PROBE_WAIT_MS) : now;
  }

  /** The link is there again: one in use is announced, one that is being asked for is asked for anew. */
  resume(own: OwnAddress, now: number): void {
    if (own.state === TENTATIVE) this.start(own, true, now);
    if (!own.isUsable) return;
    own.stepsLeft = ANNOUNCE_NUM;
    own.stepAt = now;
  }

  /** Sends what is due. Returns when the next is. */
  tick(now: number): number {
    let next = Number.POSITIVE_INFINITY;
    for (const own of this.addresses.list) {
      if (!own.isIpv4) continue;
      if (own.stepAt <= now) this.step(own, now);
      next = Math.min(next, own.stepAt);
    }
    return next;
  }

  /**
   * Looks at an ARP packet of another station for signs that it uses an address of ours, or wants to use one that we are
   * about to. True: it does, and there is nothing else to the packet.
   */
  observe(sender: Int32Array, target: Int32Array, mac: Uint8Array, now: number): boolean {
    for (const own of this.addresses.list) {
      if (!own.isIpv4 || own.state === DUPLICATE) continue;
      const isSender = sameWords(own.words, sender);
      if (own.state === TENTATIVE) {
        if (!isSender && !(sender[3] === 0 && sameWords(own.words, target))) continue;
        this.lose(own, mac);
        return true;
      }
      if (!isSender) continue;
      this.defend(own, mac, now);
      return true;
    }
    return false;
  }

  private step(own: OwnAddress, now: number): void {
    const address = own.words[3];
    if (own.state === TENTATIVE && own.stepsLeft > 0) {
      own.stepsLeft--;
      this.request(0, address);
      own.stepAt = now + (own.stepsLeft > 0 ? this.link.between(PROBE_MIN_MS, PROBE_MAX_MS) : ANNOUNCE_WAIT_MS);
      return;
    }
    if (own.state === TENTATIVE) {
      this.addresses.enter(own, PREFERRED);
      own.stepsLeft = ANNOUNCE_NUM;
    }
    own.stepsLeft--;
    this.request(address, address);
    own.stepAt = own.stepsLeft > 0 ? now + ANNOUNCE_INTERVAL_MS : Number.POSITIVE_INFINITY;
  }

  private lose(own: OwnAddress, mac: Uint8Array): void {
    this.link.counters[C.AddressConflicts]++;
    this.addresses.enter(own, DUPLICATE);
    own.stepAt = Number.POSITIVE_INFINITY;
    this.link.events.conflict(own.bytes, mac.slice(), true);
  }

  private defend(own: OwnAddress, mac: Uint8Array, now: number): void {
    this.link.counters[C.AddressConflicts]++;
    if (now - own.defendedAt < DEFEND_INTERVAL_MS) return;
    own.defendedAt = now;
    this.request(own.words[3], own.words[3]);
    this.link.events.conflict(own.bytes, mac.slice(), false);
  }
}
