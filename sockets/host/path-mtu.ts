/**
 * Path MTUs that routers have told of (RFC 1191, RFC 8201), bounded in number and forgotten after ten minutes, as Linux does
 * (net/ipv4/route.c, net/ipv6/route.c). They only ever shrink before they are forgotten.
 */
import { C } from "../counters.ts";
import { IPV6_MIN_MTU } from "../wire/ipv6.ts";
import { IdLists } from "./id-lists.ts";
import { KeyTable } from "./key-table.ts";
import type { Link } from "./link.ts";
import { copyWords, isMapped } from "./words.ts";

/** net.ipv4.route.mtu_expires, net.ipv6.route.mtu_expires. */
export const MTU_EXPIRES_MS = 600_000;
/** net.ipv4.route.min_pmtu: who claims less claims this. A forger could have us send in crumbs otherwise. */
const IPV4_MIN_PMTU = 552;
/** Destinations kept; the one whose time ends first makes room. */
export const PATH_MTUS_MAX = 512;

/** MTUs of common links, for routers that do not say theirs (RFC 1191, section 7.1, but for those above 65,535 and below 552). */
const PLATEAUS = [32_000, 17_914, 8166, 4352, 2002, 1492, 1006, IPV4_MIN_PMTU];

export class PathMtus {
  private readonly link: Link;
  private readonly table: KeyTable;
  private readonly mtus = new Int32Array(PATH_MTUS_MAX);
  private readonly until = new Float64Array(PATH_MTUS_MAX);
  private readonly destinations: Int32Array[];
  /** One list: all live equally long, so the first ends first. */
  private readonly byEnd = new IdLists(PATH_MTUS_MAX, 1);

  constructor(link: Link) {
    this.link = link;
    this.table = new KeyTable(4, PATH_MTUS_MAX, link.random.int32());
    this.destinations = Array.from({ length: PATH_MTUS_MAX }, () => new Int32Array(4));
  }

  /** Bytes of the largest packet on the path to a destination, or 0: nothing is known of it. */
  find(destination: Int32Array): number {
    const id = this.findId(destination);
    return id < 0 ? 0 : this.mtus[id];
  }

  /**
   * Learns from a router's message about a packet of ours.
   * @param told MTU of the message, 0 where it has none
   * @param packetLength bytes of the packet that was too big
   * @param linkMtu what the path's MTU is as long as nothing is known
   * @returns whether it is smaller now
   */
  learn(destination: Int32Array, told: number, packetLength: number, linkMtu: number, now: number): boolean {
    const known = this.find(destination) || linkMtu;
    const mtu = isMapped(destination) ? mtu4(told, packetLength, known) : told;
    // RFC 8201, section 4: there is no such IPv6 link. More than is known tells nothing.
    if (mtu > known || (!isMapped(destination) && mtu < IPV6_MIN_MTU)) return false;
    if (mtu === known && this.findId(destination) < 0) return false;
    this.set(destination, mtu, now + MTU_EXPIRES_MS);
    if (mtu === known) return false;
    this.link.counters[C.PathMtuUpdates]++;
    this.link.changed();
    return true;
  }

  /** Forgets what is over. Returns when the next one will be. */
  tick(now: number): number {
    for (let id = this.byEnd.first(0); id >= 0; id = this.byEnd.first(0)) {
      if (this.until[id] > now) return this.until[id];
      this.remove(id);
      this.link.changed();
    }
    return Number.POSITIVE_INFINITY;
  }

  forEach(visit: (destination: Int32Array, mtu: number) => void): void {
    for (let id = this.byEnd.first(0); id >= 0; id = this.byEnd.after(id)) visit(this.destinations[id], this.mtus[id]);
  }

  private set(destination: Int32Array, mtu: number, until: number): void {
    let id = this.findId(destination);
    if (id >= 0) {
      this.byEnd.remove(id);
    } else {
      if (this.table.count === this.table.capacity) this.remove(this.byEnd.first(0));
      copyWords(this.table.key, destination);
      id = this.table.add();
      copyWords(this.destinations[id], destination);
    }
    this.mtus[id] = mtu;
    this.until[id] = until;
    this.byEnd.append(0, id);
  }

  private findId(destination: Int32Array): number {
    copyWords(this.table.key, destination);
    return this.table.find();
  }

  private remove(id: number): void {
    this.byEnd.remove(id);
    this.table.remove(id);
  }
}

function mtu4(told: number, packetLength: number, known: number): number {
  const mtu = told !== 0 ? told : (PLATEAUS.find((plateau) => plateau < packetLength) ?? IPV4_MIN_PMTU);
  return mtu < IPV4_MIN_PMTU ? Math.min(known, IPV4_MIN_PMTU) : mtu;
}
