/**
 * Duplicate address detection (RFC 4862, section 5.4): an IPv6 address is asked for once before it is used. A nonce tells our
 * own question, come back round a loop, from another station's (RFC 7527).
 */
import { C } from "../counters.ts";
import { ETH_ADDRESS, ETH_SRC } from "../wire/ethernet.ts";
import { type Addresses, DUPLICATE, type OwnAddress, PREFERRED, TENTATIVE } from "./addresses.ts";
import { FRAME_AT, type Link } from "./link.ts";

/** MAX_RTR_SOLICITATION_DELAY: hosts that start together do not ask together. */
const DELAY_MAX_MS = 1000;
/** DupAddrDetectTransmits. */
const TRANSMITS = 1;
/** Between two reports that somebody else uses an address of ours. */
const REPORT_INTERVAL_MS = 10_000;
const NONCE_BYTES = 6;

/** Who sends for the detection. */
export interface Prober {
  probe(own: OwnAddress, nonce: Uint8Array): void;
  announce(own: OwnAddress): void;
}

export class DuplicateDetection {
  /** Between the last question and the use of the address, ms: RetransTimer, which a router may set. */
  retransMs = 1000;
  private readonly link: Link;
  private readonly addresses: Addresses;
  private readonly prober: () => Prober;
  /** One for all addresses: whoever repeats it has heard it from us. */
  private readonly nonce: Uint8Array;

  constructor(link: Link, addresses: Addresses, prober: () => Prober) {
    this.link = link;
    this.addresses = addresses;
    this.prober = prober;
    this.nonce = Uint8Array.from({ length: NONCE_BYTES }, () => link.random.below(256));
  }

  /** Begins with an address; `probe`: it is not used before it is known to be free. */
  start(own: OwnAddress, probe: boolean, now: number): void {
    this.addresses.enter(own, probe ? TENTATIVE : PREFERRED);
    own.stepsLeft = probe ? TRANSMITS : 0;
    own.stepAt = probe ? now + this.link.between(0, DELAY_MAX_MS) : now;
  }

  /** The link is there again: one in use is announced, one that is being asked for is asked for anew. */
  resume(own: OwnAddress, now: number): void {
    if (own.state === TENTATIVE) this.start(own, true, now);
    else if (own.isUsable) own.stepAt = now;
  }

  /** Sends what is due. Returns when the next is. */
  tick(now: number): number {
    let next = Number.POSITIVE_INFINITY;
    for (const own of this.addresses.list) {
      if (own.isIpv4) continue;
      if (own.stepAt <= now) this.step(own, now);
      next = Math.min(next, own.stepAt);
    }
    return next;
  }

  /**
   * Somebody asks for an address that is not ours yet.
   * @param bytes hold the frame at FRAME_AT
   * @param nonceAt where its nonce is, -1 for none
   */
  probed(own: OwnAddress, bytes: Uint8Array, nonceAt: number): void {
    const isEcho = nonceAt >= 0 && this.nonce.every((byte, i) => byte === bytes[nonceAt + i]);
    if (own.state === TENTATIVE && !isEcho) this.lose(own, senderOf(bytes));
  }

  /** Somebody says that an address of ours is its own, in the frame that `bytes` holds. */
  advertised(own: OwnAddress, bytes: Uint8Array, now: number): void {
    const mac = senderOf(bytes);
    if (own.state === TENTATIVE) {
      this.lose(own, mac);
      return;
    }
    if (!own.isUsable || mac.every((byte, i) => byte === this.link.mac[i])) return;
    this.link.counters[C.AddressConflicts]++;
    if (now - own.defendedAt < REPORT_INTERVAL_MS) return;
    own.defendedAt = now;
    this.link.events.conflict(own.bytes, mac, false);
  }

  private step(own: OwnAddress, now: number): void {
    if (own.stepsLeft > 0) {
      own.stepsLeft--;
      this.prober().probe(own, this.nonce);
      own.stepAt = now + this.retransMs;
      return;
    }
    own.stepAt = Number.POSITIVE_INFINITY;
    if (own.state === TENTATIVE) this.addresses.enter(own, PREFERRED);
    if (own.isUsable) this.prober().announce(own);
  }

  private lose(own: OwnAddress, mac: Uint8Array): void {
    this.link.counters[C.AddressConflicts]++;
    this.addresses.enter(own, DUPLICATE);
    own.stepAt = Number.POSITIVE_INFINITY;
    this.link.events.conflict(own.bytes, mac, true);
  }
}

function senderOf(bytes: Uint8Array): Uint8Array {
  return bytes.slice(FRAME_AT + ETH_SRC, FRAME_AT + ETH_SRC + ETH_ADDRESS);
}
