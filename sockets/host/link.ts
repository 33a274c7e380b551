/** The link that the host is on, and what its protocols share: where frames go, what is counted, chance. */
import type { Random } from "../../queues/random.ts";
import { ETH_ADDRESS, ETH_DST, ETH_SRC } from "../wire/ethernet.ts";
import type { HostSettings } from "./config.ts";
import { hostUnreachable, type IcmpReport } from "./icmp-report.ts";

/** Where frames lie in memory that the host protocols own: the network header, 14 bytes further, begins on a word. */
export const FRAME_AT = 2;
export const PACKET_AT = 16;
/** Bytes for a frame with the longest packet, in whole words. */
export const FRAME_MEMORY = PACKET_AT + 65536;

/** What the host protocols ask of whoever runs them. */
export interface HostEvents {
  /** A whole frame to send; valid during the call. */
  transmit(frame: Uint8Array): void;
  /**
   * A frame with an EtherType but no addresses, whose packet is larger than the path's MTU: it is to be cut into fragments
   * that go to Host.send(). Valid during the call.
   */
  transmitPacket(frame: Uint8Array): void;
  /** Addresses, routes, neighbours or path MTUs have changed: Host.fib() is to be published, Host.groups() looked at. */
  changed(): void;
  /** The network, or a neighbour's silence, says that something we have sent did not arrive. */
  error(report: IcmpReport): void;
  /**
   * Another station was seen to use an address of ours (4 or 16 bytes). `lost`: it was there first, and the address is not
   * used; otherwise we keep it, and have said so.
   */
  conflict(address: Uint8Array, mac: Uint8Array, lost: boolean): void;
}

export class Link {
  readonly ifindex: number;
  /** 6 bytes. */
  readonly mac: Uint8Array;
  /** Bytes of the largest packet. */
  readonly mtu: number;
  readonly events: HostEvents;
  readonly random: Random;
  /** By C of ../counters.ts. */
  readonly counters: Float64Array;
  /** Something that fib() shows has changed since the events last said so. */
  hasChanged = false;
  private lastId: number;

  constructor(settings: HostSettings, events: HostEvents, random: Random, counters: Float64Array) {
    this.ifindex = settings.ifindex;
    this.mac = settings.mac;
    this.mtu = settings.mtu;
    this.events = events;
    this.random = random;
    this.counters = counters;
    this.lastId = random.below(65536);
  }

  changed(): void {
    this.hasChanged = true;
  }

  /** Sends a frame to the MAC address at `macAt` of `mac`; fills in both addresses. */
  transmit(frame: Uint8Array, mac: Uint8Array, macAt = 0): void {
    for (let i = 0; i < ETH_ADDRESS; i++) {
      frame[ETH_DST + i] = mac[macAt + i];
      frame[ETH_SRC + i] = this.mac[i];
    }
    this.events.transmit(frame);
  }

  /** A frame that waited for a neighbour which does not answer. */
  unreachable(frame: Uint8Array): void {
    const report = hostUnreachable(frame);
    if (report !== null) this.events.error(report);
  }

  /** IPv4 identification of a packet of our own. */
  nextId(): number {
    this.lastId = (this.lastId + 1) & 0xffff;
    return this.lastId;
  }

  /** A time from [from, to), ms. */
  between(from: number, to: number): number {
    return from + this.random.unit() * (to - from);
  }
}
