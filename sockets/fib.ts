/**
 * Links, local addresses, routes and neighbours as the packet path needs them: a flat snapshot in shared memory. The
 * engine's control thread writes it (from rtnetlink, or from the configuration of a memory wire); each lcore copies it
 * when `version` has moved.
 *
 * Addresses are four words of network-order bits, IPv4 mapped into IPv6 (::ffff:a.b.c.d), so one code serves both; an
 * IPv4 prefix length counts 96 more. MACs are two words: the first four bytes, and the last two in the upper half.
 *
 * The other way goes one byte a neighbour and snapshot: an lcore that finds its way by the neighbour marks it. It looks
 * for its ways once a snapshot, so a mark costs no packet anything, and says: sent to since this snapshot was published.
 */

/** Limits of a snapshot. What exceeds them is left to the kernel, which routes it just the same, slower. */
export const LINKS_MAX = 64;
export const ADDRESSES_MAX = 1024;
export const ROUTES_MAX = 4096;
export const NEIGHBOURS_MAX = 16384;
export const PATH_MTUS_MAX = 1024;

export interface FibLink {
  ifindex: number;
  mac: Uint8Array;
  mtu: number;
  up: boolean;
}

export interface FibAddress {
  ifindex: number;
  /** 4 or 16 bytes. */
  address: Uint8Array;
  prefixLength: number;
}

export interface FibRoute {
  /** 4 or 16 bytes. */
  destination: Uint8Array;
  prefixLength: number;
  ifindex: number;
  /** 4 or 16 bytes, or none for a directly connected network. */
  gateway?: Uint8Array | undefined;
  source?: Uint8Array | undefined;
  metric: number;
  mtu?: number | undefined;
}

export interface FibNeighbour {
  ifindex: number;
  address: Uint8Array;
  mac: Uint8Array;
}

/** Largest packet that a router on the way to a destination lets pass. */
export interface FibPathMtu {
  /** 4 or 16 bytes. */
  destination: Uint8Array;
  mtu: number;
}

export interface FibContent {
  links: FibLink[];
  addresses: FibAddress[];
  routes: FibRoute[];
  neighbours: FibNeighbour[];
  pathMtus?: FibPathMtu[];
}

export const LINK_WORDS = 5; // ifindex, mac, mac, mtu, up
export const ADDRESS_WORDS = 6; // ifindex, address, prefix length
export const ROUTE_WORDS = 16; // destination, prefix length, ifindex, has gateway, gateway, mtu, source
/** Word of a route's source address. */
export const ROUTE_SOURCE = 12;
export const NEIGHBOUR_WORDS = 7; // ifindex, address, mac, mac
export const PATH_MTU_WORDS = 5; // destination, mtu

const HEADER_WORDS = 8;
const H_LINKS = 0;
const H_ADDRESSES = 1;
const H_ROUTES = 2;
const H_NEIGHBOURS = 3;
const H_PATH_MTUS = 4;

const LINKS_AT = HEADER_WORDS;
const ADDRESSES_AT = LINKS_AT + LINKS_MAX * LINK_WORDS;
const ROUTES_AT = ADDRESSES_AT + ADDRESSES_MAX * ADDRESS_WORDS;
const NEIGHBOURS_AT = ROUTES_AT + ROUTES_MAX * ROUTE_WORDS;
const PATH_MTUS_AT = NEIGHBOURS_AT + NEIGHBOURS_MAX * NEIGHBOUR_WORDS;
const SNAPSHOT_WORDS = PATH_MTUS_AT + PATH_MTUS_MAX * PATH_MTU_WORDS;

const CONTROL_WORDS = 32;

const MARKS_AT_BYTES = (CONTROL_WORDS + 2 * SNAPSHOT_WORDS) * 4;

/** Bytes of shared memory for the double-buffered snapshot, and the marks of each half. */
export const FIB_BYTES = MARKS_AT_BYTES + 2 * NEIGHBOURS_MAX;

const areasOf = (buffer: SharedArrayBuffer): Int32Array[] =>
  [0, 1].map((i) => new Int32Array(buffer, (CONTROL_WORDS + i * SNAPSHOT_WORDS) * 4, SNAPSHOT_WORDS));

const marksOf = (buffer: SharedArrayBuffer): Uint8Array[] =>
  [0, 1].map((i) => new Uint8Array(buffer, MARKS_AT_BYTES + i * NEIGHBOURS_MAX, NEIGHBOURS_MAX));

const words4 = new Int32Array(4);

/** Four words of an address of 4 or 16 bytes, in a reused array. */
export function addressWords(address: Uint8Array): Int32Array {
  const view = new DataView(address.buffer, address.byteOffset, address.byteLength);
  if (address.length === 4) {
    words4[0] = 0;
    words4[1] = 0;
    words4[2] = 0xffff;
    words4[3] = view.getInt32(0);
  } else if (address.length === 16) {
    for (let i = 0; i < 4; i++) words4[i] = view.getInt32(i * 4);
  } else {
    throw new RangeError(`an address has 4 or 16 bytes, not ${address.length}`);
  }
  return words4;
}

/** Bytes of an address given as four words: 4 when it is IPv4 mapped, else 16. */
export function addressBytes(w0: number, w1: number, w2: number, w3: number): Uint8Array {
  const mapped = w0 === 0 && w1 === 0 && w2 === 0xffff;
  const bytes = new Uint8Array(mapped ? 4 : 16);
  const view = new DataView(bytes.buffer);
  if (mapped) {
    view.setInt32(0, w3);
  } else {
    view.setInt32(0, w0);
    view.setInt32(4, w1);
    view.setInt32(8, w2);
    view.setInt32(12, w3);
  }
  return bytes;
}

/** Writer's side. One thread holds it. */
export class FibWriter {
  private readonly control: Int32Array;
  private readonly areas: Int32Array[];
  private readonly marks: Uint8Array[];

  constructor(buffer: SharedArrayBuffer) {
    this.control = new Int32Array(buffer, 0, CONTROL_WORDS);
    this.areas = areasOf(buffer);
    this.marks = marksOf(buffer);
  }

  /** Publishes a new snapshot. Routes go in order of preference: longest prefix first, then lowest metric. */
  publish(content: FibContent): void {
    const version = Atomics.load(this.control, 0);
    const area = this.areas[(version + 1) & 1] as Int32Array;
    const links = content.links.slice(0, LINKS_MAX);
    const addresses = content.addresses.slice(0, ADDRESSES_MAX);
    const neighbours = content.neighbours.slice(0, NEIGHBOURS_MAX);
    const length = (r: FibRoute): number => r.prefixLength + (r.destination.length === 4 ? 96 : 0);
    const routes = content.routes.toSorted((a, b) => length(b) - length(a) || a.metric - b.metric).slice(0, ROUTES_MAX);
    area[H_LINKS] = links.length;
    area[H_ADDRESSES] = addresses.length;
    area[H_ROUTES] = routes.length;
    area[H_NEIGHBOURS] = neighbours.length;
    const pathMtus = (content.pathMtus ?? []).slice(-PATH_MTUS_MAX);
    area[H_PATH_MTUS] = pathMtus.length;
    let at = LINKS_AT;
    for (const link of links) {
      area[at] = link.ifindex;
      putMac(area, at + 1, link.mac);
      area[at + 3] = link.mtu;
      area[at + 4] = link.up ? 1 : 0;
      at += LINK_WORDS;
    }
    at = ADDRESSES_AT;
    for (const entry of addresses) {
      area[at] = entry.ifindex;
      area.set(addressWords(entry.address), at + 1);
      area[at + 5] = entry.prefixLength + (entry.address.length === 4 ? 96 : 0);
      at += ADDRESS_WORDS;
    }
    at = ROUTES_AT;
    for (const route of routes) {
      area.fill(0, at, at + ROUTE_WORDS);
      area.set(addressWords(route.destination), at);
      area[at + 4] = length(route);
      area[at + 5] = route.ifindex;
      if (route.gateway) {
        area[at + 6] = 1;
        area.set(addressWords(route.gateway), at + 7);
      }
      area[at + 11] = route.mtu ?? 0;
      if (route.source) area.set(addressWords(route.source), at + 12);
      at += ROUTE_WORDS;
    }
    at = NEIGHBOURS_AT;
    for (const neighbour of neighbours) {
      area[at] = neighbour.ifindex;
      area.set(addressWords(neighbour.address), at + 1);
      putMac(area, at + 5, neighbour.mac);
      at += NEIGHBOUR_WORDS;
    }
    this.marks[(version + 1) & 1].fill(0, 0, neighbours.length);
    at = PATH_MTUS_AT;
    for (const { destination, mtu } of pathMtus) {
      area.set(addressWords(destination), at);
      area[at + 4] = mtu;
      at += PATH_MTU_WORDS;
    }
    Atomics.store(this.control, 0, (version + 1) | 0);
  }

  /**
   * The neighbours by which lcores have sent since the snapshot was published: `tell` is called with the four words of
   * each one's address, in a reused array. Returns how many. They are marked again only once another is published.
   */
  used(tell: (words: Int32Array) => void): number {
    const version = Atomics.load(this.control, 0);
    const area = this.areas[version & 1];
    const marks = this.marks[version & 1];
    let count = 0;
    for (let i = 0; i < area[H_NEIGHBOURS]; i++) {
      if (marks[i] === 0) continue;
      count++;
      const at = NEIGHBOURS_AT + i * NEIGHBOUR_WORDS + 1;
      for (let k = 0; k < 4; k++) words4[k] = area[at + k];
      tell(words4);
    }
    return count;
  }
}

function putMac(words: Int32Array, at: number, mac: Uint8Array): void {
  words[at] = (mac[0] << 24) | (mac[1] << 16) | (mac[2] << 8) | mac[3];
  words[at + 1] = (mac[4] << 24) | (mac[5] << 16);
}

/** Reader's side: a private copy, brought up to date by `refresh`. All arrays keep their place and are only refilled. */
export class Fib {
  /** Version of the copy; 0 is the empty table before the first snapshot. */
  version = 0;
  links = 0;
  addresses = 0;
  routes = 0;
  neighbours = 0;
  pathMtus = 0;
  readonly link = new Int32Array(LINKS_MAX * LINK_WORDS);
  readonly address = new Int32Array(ADDRESSES_MAX * ADDRESS_WORDS);
  readonly route = new Int32Array(ROUTES_MAX * ROUTE_WORDS);
  readonly neighbour = new Int32Array(NEIGHBOURS_MAX * NEIGHBOUR_WORDS);
  readonly pathMtu = new Int32Array(PATH_MTUS_MAX * PATH_MTU_WORDS);
  private readonly control: Int32Array;
  private readonly areas: Int32Array[];
  private readonly marks: Uint8Array[];
  /** Neighbour numbers by hash of (interface, address): open addressing, -1 is empty. */
  private readonly buckets = new Int32Array(NEIGHBOURS_MAX * 2);

  constructor(buffer: SharedArrayBuffer) {
    this.control = new Int32Array(buffer, 0, CONTROL_WORDS);
    this.areas = areasOf(buffer);
    this.marks = marksOf(buffer);
    this.buckets.fill(-1);
  }

  /** True when a newer snapshot is there. */
  isStale(): boolean {
    return Atomics.load(this.control, 0) !== this.version;
  }

  /** Copies the newest snapshot. A writer that laps the copy makes it start again. */
  refresh(): void {
    for (;;) {
      const version = Atomics.load(this.control, 0);
      const area = this.areas[version & 1] as Int32Array;
      this.links = Math.min(area[H_LINKS], LINKS_MAX);
      this.addresses = Math.min(area[H_ADDRESSES], ADDRESSES_MAX);
      this.routes = Math.min(area[H_ROUTES], ROUTES_MAX);
      this.neighbours = Math.min(area[H_NEIGHBOURS], NEIGHBOURS_MAX);
      this.pathMtus = Math.min(area[H_PATH_MTUS], PATH_MTUS_MAX);
      copy(this.link, area, LINKS_AT, this.links * LINK_WORDS);
      copy(this.address, area, ADDRESSES_AT, this.addresses * ADDRESS_WORDS);
      copy(this.route, area, ROUTES_AT, this.routes * ROUTE_WORDS);
      copy(this.neighbour, area, NEIGHBOURS_AT, this.neighbours * NEIGHBOUR_WORDS);
      copy(this.pathMtu, area, PATH_MTUS_AT, this.pathMtus * PATH_MTU_WORDS);
      // The writer fills the other half and then moves the version: one step is harmless, two would have hit this half.
      if (((Atomics.load(this.control, 0) - version) | 0) > 1) continue;
      this.version = version;
      break;
    }
    this.index();
  }

  /** Index of the link record with an interface index, as a word offset into `link`; -1 when there is none. */
  findLink(ifindex: number): number {
    for (let i = 0; i < this.links; i++) if (this.link[i * LINK_WORDS] === ifindex) return i * LINK_WORDS;
    return -1;
  }

  /** Whether an address is one of the host's own. */
  isLocal(w0: number, w1: number, w2: number, w3: number): boolean {
    const { address } = this;
    for (let i = 0, at = 1; i < this.addresses; i++, at += ADDRESS_WORDS) {
      if (address[at + 3] === w3 && address[at + 2] === w2 && address[at + 1] === w1 && address[at] === w0) return true;
    }
    return false;
  }

  /** Index of the interface that has an own address, -1 for none. */
  interfaceOf(w0: number, w1: number, w2: number, w3: number): number {
    const { address } = this;
    for (let i = 0, at = 0; i < this.addresses; i++, at += ADDRESS_WORDS) {
      if (address[at + 1] !== w0 || address[at + 2] !== w1 || address[at + 3] !== w2 || address[at + 4] !== w3)
        continue;
      return address[at];
    }
    return -1;
  }

  /** Largest IP packet on the way to an address, bytes; 0 where there is no way. */
  mtuTo(w0: number, w1: number, w2: number, w3: number): number {
    const route = this.findRoute(w0, w1, w2, w3);
    const link = route < 0 ? -1 : this.findLink(this.route[route + 5]);
    return link < 0 ? 0 : this.mtuOf(route, link, w0, w1, w2, w3);
  }

  /** The same by a route and a link (word offsets) that were found for the address. */
  mtuOf(route: number, link: number, w0: number, w1: number, w2: number, w3: number): number {
    const { pathMtu } = this;
    let mtu = this.link[link + 3];
    if (this.route[route + 11] > 0) mtu = Math.min(mtu, this.route[route + 11]);
    for (let i = 0, at = 0; i < this.pathMtus; i++, at += PATH_MTU_WORDS) {
      const same = pathMtu[at + 3] === w3 && pathMtu[at + 2] === w2 && pathMtu[at + 1] === w1 && pathMtu[at] === w0;
      if (same) return Math.min(mtu, pathMtu[at + 4]);
    }
    return mtu;
  }

  /** Whether an IPv4 address is the limited broadcast address, or that of a network of this host's. */
  isBroadcast(address: number): boolean {
    if (address === -1) return true;
    for (let i = 0, at = 0; i < this.addresses; i++, at += ADDRESS_WORDS) {
      const bits = this.address[at + 5] - 96;
      if (this.address[at + 3] !== 0xffff || (this.address[at + 1] | this.address[at + 2]) !== 0 || bits > 30) continue;
      const hosts = bits <= 0 ? -1 : 0xffffffff >>> bits;
      if (address === (this.address[at + 4] | hosts)) return true;
    }
    return false;
  }

  /** The first own address of a family, four words into `words`; false when there is none. */
  ownAddress(mapped: boolean, words: Int32Array): boolean {
    for (let i = 0, at = 1; i < this.addresses; i++, at += ADDRESS_WORDS) {
      if ((this.address[at + 2] === 0xffff && (this.address[at] | this.address[at + 1]) === 0) !== mapped) continue;
      for (let k = 0; k < 4; k++) words[k] = this.address[at + k];
      return true;
    }
    return false;
  }

  /** Word offset of the best route to an address, -1 for none. */
  findRoute(w0: number, w1: number, w2: number, w3: number): number {
    const { route } = this;
    for (let i = 0, at = 0; i < this.routes; i++, at += ROUTE_WORDS) {
      if (underPrefix(route, at, route[at + 4], w0, w1, w2, w3)) return at;
    }
    return -1;
  }

  /** Word offset of a neighbour, -1 when its MAC is not known. */
  findNeighbour(ifindex: number, w0: number, w1: number, w2: number, w3: number): number {
    const { neighbour, buckets } = this;
    const mask = buckets.length - 1;
    for (let b = hash(ifindex, w0, w1, w2, w3) & mask; buckets[b] >= 0; b = (b + 1) & mask) {
      const at = buckets[b] * NEIGHBOUR_WORDS;
      if (
        neighbour[at + 4] === w3 &&
        neighbour[at + 3] === w2 &&
        neighbour[at + 2] === w1 &&
        neighbour[at + 1] === w0 &&
        neighbour[at] === ifindex
      ) {
        return at;
      }
    }
    return -1;
  }

  /** Marks a neighbour, by its word offset, as sent to since the snapshot was published. */
  markUsed(neighbour: number): void {
    this.marks[this.version & 1][neighbour / NEIGHBOUR_WORDS] = 1;
  }

  private index(): void {
    const { neighbour, buckets } = this;
    const mask = buckets.length - 1;
    buckets.fill(-1);
    for (let i = 0, at = 0; i < this.neighbours; i++, at += NEIGHBOUR_WORDS) {
      let b = hash(neighbour[at], neighbour[at + 1], neighbour[at + 2], neighbour[at + 3], neighbour[at + 4]) & mask;
      while (buckets[b] >= 0) b = (b + 1) & mask;
      buckets[b] = i;
    }
  }
}

/** Word by word: `subarray` would allocate, and a snapshot may come while packets flow. */
function copy(to: Int32Array, from: Int32Array, at: number, count: number): void {
  for (let i = 0; i < count; i++) to[i] = from[at + i];
}

function underPrefix(
  route: Int32Array,
  at: number,
  length: number,
  w0: number,
  w1: number,
  w2: number,
  w3: number,
): boolean {
  // IPv4 is mapped into IPv6: a shorter prefix of IPv6, the default route above all, must not take it.
  if (length < 96 && w0 === 0 && w1 === 0 && w2 === 0xffff) return false;
  return (
    covers(route[at], w0, length) &&
    covers(route[at + 1], w1, length - 32) &&
    covers(route[at + 2], w2, length - 64) &&
    covers(route[at + 3], w3, length - 96)
  );
}

/** Whether the first `bits` bits of two words agree. */
function covers(a: number, b: number, bits: number): boolean {
  if (bits <= 0) return true;
  return bits >= 32 ? a === b : (a ^ b) >>> (32 - bits) === 0;
}

function hash(a: number, b: number, c: number, d: number, e: number): number {
  let h = Math.imul(a ^ Math.imul(b, 0x85ebca6b) ^ Math.imul(c, 0xc2b2ae35), 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 15) ^ d, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13) ^ e, 0xc2b2ae35);
  return h ^ (h >>> 16);
}
