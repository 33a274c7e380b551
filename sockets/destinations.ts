/**
 * Where a packet to an address goes: a direct-mapped cache of resolved destinations over the FIB. One lcore owns it.
 *
 * An entry is valid while its version is the FIB's. A destination the fast path cannot reach by itself (another
 * interface, no neighbour yet, local, multicast, broadcast) resolves to VIA_KERNEL: the caller hands the datagram to the
 * placeholder socket, and the kernel's work (ARP, ND) makes the next lookup succeed.
 */
import type { Fib } from "./fib.ts";
import { swap16 } from "./wire/checksum.ts";

/**
 * Entries a family has, a power of two; those of IPv4 come first. Two busy destinations that share an entry cost a route
 * lookup a packet.
 */
const ENTRIES = 4096;
const ENTRY_BITS = 12;

/** 2^32 divided by the golden ratio (Knuth, The Art of Computer Programming, 6.4). */
const HASH_MULTIPLIER = 0x9e3779b1;
/** Halfwords an entry of `macs` takes. */
export const MAC_STRIDE = 8;

/** In the first word of a MAC address: several hosts listen to it (IEEE 802, I/G). */
const MAC_GROUP = 1 << 24;

export const VIA_KERNEL = -1;

export class Destinations {
  /** Port to send on, per entry; VIA_KERNEL where only the kernel can deliver. */
  readonly port = new Int32Array(2 * ENTRIES);
  /** Destination and source MAC, the first 12 bytes of a frame, as six halfwords in memory order; eight an entry. */
  readonly macs = new Uint16Array(2 * ENTRIES * MAC_STRIDE);
  /** Largest IP packet that the way is known to take, bytes. */
  readonly mtu = new Int32Array(2 * ENTRIES);
  /** Source address the kernel would choose, four words. */
  readonly source = new Int32Array(2 * ENTRIES * 4);

  /** FIB version of each entry, -1 for one never filled. */
  private readonly version = new Int32Array(2 * ENTRIES).fill(-1);
  private readonly key4 = new Int32Array(ENTRIES);
  private readonly key6 = new Int32Array(ENTRIES * 4);
  private readonly fib: Fib;
  /** Port number by interface: pairs of (ifindex, port). */
  private readonly portOf: Int32Array;

  /** @param portOf pairs (interface index, port number) of this lcore */
  constructor(fib: Fib, portOf: Int32Array) {
    this.fib = fib;
    this.portOf = portOf;
  }

  /** Entry of a destination given as four words, IPv4 mapped; or VIA_KERNEL. */
  resolve(w0: number, w1: number, w2: number, w3: number): number {
    if (w0 === 0 && w1 === 0 && w2 === 0xffff) return this.resolve4(w3);
    const slot = Math.imul(w3 ^ (w2 << 7) ^ w1 ^ (w0 << 3), HASH_MULTIPLIER) >>> (32 - ENTRY_BITS);
    const entry = ENTRIES + slot;
    const at = slot << 2;
    const key = this.key6;
    if (
      key[at + 3] !== w3 ||
      key[at + 2] !== w2 ||
      key[at + 1] !== w1 ||
      key[at] !== w0 ||
      this.version[entry] !== this.fib.version
    ) {
      key[at] = w0;
      key[at + 1] = w1;
      key[at + 2] = w2;
      key[at + 3] = w3;
      this.version[entry] = this.fib.version;
      this.port[entry] = this.route(entry, w0, w1, w2, w3);
    }
    return this.port[entry] >= 0 ? entry : VIA_KERNEL;
  }

  /** Entry of an IPv4 destination, or VIA_KERNEL. */
  resolve4(address: number): number {
    const entry = Math.imul(address, HASH_MULTIPLIER) >>> (32 - ENTRY_BITS);
    if (this.key4[entry] !== address || this.version[entry] !== this.fib.version) {
      this.key4[entry] = address;
      this.version[entry] = this.fib.version;
      this.port[entry] = this.route(entry, 0, 0, 0xffff, address);
    }
    return this.port[entry] >= 0 ? entry : VIA_KERNEL;
  }

  /** Fills the entry's headers; returns the port, or -1 where only the kernel can deliver. */
  private route(entry: number, w0: number, w1: number, w2: number, w3: number): number {
    const { fib } = this;
    const mapped = w0 === 0 && w1 === 0 && w2 === 0xffff;
    // Multicast (224.0.0.0/4, ff00::/8), limited broadcast, unspecified, loopback.
    if (mapped ? w3 >>> 28 === 14 || w3 === -1 || w3 >>> 24 === 127 || w3 === 0 : w0 >>> 24 === 0xff) return -1;
    if ((w0 | w1 | w2) === 0 && w3 >>> 0 <= 1) return -1;
    if (fib.isLocal(w0, w1, w2, w3)) return -1;
    const route = fib.findRoute(w0, w1, w2, w3);
    if (route < 0) return -1;
    const r = fib.route;
    const ifindex = r[route + 5];
    const port = this.findPort(ifindex);
    const link = fib.findLink(ifindex);
    if (port < 0 || link < 0 || fib.link[link + 4] === 0) return -1;
    const neighbour =
      r[route + 6] === 1
        ? fib.findNeighbour(ifindex, r[route + 7], r[route + 8], r[route + 9], r[route + 10])
        : fib.findNeighbour(ifindex, w0, w1, w2, w3);
    if (neighbour < 0) return -1;
    fib.markUsed(neighbour);
    const n = fib.neighbour;
    // A group's MAC: a subnet's broadcast address, which has an entry (NOARP) from the kernel's first send to it on.
    if ((n[neighbour + 5] & MAC_GROUP) !== 0) return -1;
    const l = fib.link;
    this.putMac(entry * MAC_STRIDE, n[neighbour + 5], n[neighbour + 6]);
    this.putMac(entry * MAC_STRIDE + 3, l[link + 1], l[link + 2]);
    this.mtu[entry] = fib.mtuOf(route, link, w0, w1, w2, w3);
    for (let i = 0; i < 4; i++) this.source[entry * 4 + i] = r[route + 12 + i];
    return port;
  }

  /**
   * The source address of the way to an address, where the way exists: four words into `source`. To this host itself it
   * is the address itself; to groups and the broadcast address, for which there is no route, an own one of the family.
   */
  sourceTo(w0: number, w1: number, w2: number, w3: number, source: Int32Array): boolean {
    const { fib } = this;
    const mapped = w0 === 0 && w1 === 0 && w2 === 0xffff;
    const route = fib.findRoute(w0, w1, w2, w3);
    const group = mapped ? w3 >>> 28 === 14 || w3 === -1 : w0 >>> 24 === 0xff;
    if (fib.isLocal(w0, w1, w2, w3)) {
      source[0] = w0;
      source[1] = w1;
      source[2] = w2;
      source[3] = w3;
      return true;
    }
    if (route >= 0 && !group) {
      for (let i = 0; i < 4; i++) source[i] = fib.route[route + 12 + i];
      return true;
    }
    return group && fib.ownAddress(mapped, source);
  }

  private putMac(at: number, high: number, low: number): void {
    this.macs[at] = swap16(high >>> 16);
    this.macs[at + 1] = swap16(high & 0xffff);
    this.macs[at + 2] = swap16(low >>> 16);
  }

  private findPort(ifindex: number): number {
    const { portOf } = this;
    for (let i = 0; i < portOf.length; i += 2) if (portOf[i] === ifindex) return portOf[i + 1];
    return -1;
  }
}
