/**
 * What the kernel knows of a host's network, kept current: links, addresses, routes, neighbours.
 *
 * Runs on the engine's control thread: put `fd` into its ppoll set and call `process` when it is readable. When events
 * were lost (ENOBUFS) everything is read anew.
 */

import { ASK_KERNEL, DEFAULT_TABLES, type PrefixRoute, RouteTable } from "./route-table.ts";
import { type RouteQuery, Rtnl } from "./rtnetlink.ts";
import type { Address, Link, Neighbour, Route } from "./rtnetlink-decode.ts";
import { RtnlEvents, type RtnlListener } from "./rtnetlink-events.ts";
import {
  AF_INET,
  IFA_F_DADFAILED,
  IFA_F_TENTATIVE,
  IFF_LOWER_UP,
  IFF_RUNNING,
  IFF_UP,
  NTF_PROXY,
  NUD_VALID,
  RTN_BLACKHOLE,
  RTN_LOCAL,
  RTN_PROHIBIT,
  RTN_UNREACHABLE,
} from "./rtnetlink-uapi.ts";

/** Bits of HostWatcher.process. */
export const CHANGED_LINKS = 1;
export const CHANGED_ADDRESSES = 2;
export const CHANGED_ROUTES = 4;
export const CHANGED_NEIGHBOURS = 8;
export const CHANGED_ALL = CHANGED_LINKS | CHANGED_ADDRESSES | CHANGED_ROUTES | CHANGED_NEIGHBOURS;

/**
 * Largest route table that is copied. A router with more (a full BGP feed has a million) is asked route by route, some
 * microseconds each, rather than copied at every link event.
 */
export const ROUTES_MAX = 65536;

/** Where a packet to some destination goes. */
export interface Path {
  /** RTN_UNICAST, RTN_LOCAL, RTN_BROADCAST, RTN_MULTICAST or RTN_ANYCAST. */
  readonly type: number;
  /** Outgoing interface; for RTN_LOCAL the one that has the address. */
  readonly ifindex: number;
  /** Next router (of either family), or null when the destination is on the link. */
  readonly gateway: Uint8Array | null;
  /** Source address, or null when the route leaves it to address selection: `resolve` tells then. */
  readonly prefsrc: Uint8Array | null;
  /** Bytes: the route's MTU (from `resolve` also the path's, when the kernel learned one), else the interface's. */
  readonly mtu: number;
}

/** A neighbour as an IP sender needs it. */
export interface NeighbourState {
  /** Link-layer address to send to, or null when there is none to be used. */
  readonly mac: Uint8Array | null;
  /** NUD_*; use `HostWatcher.useNeighbour` on STALE entries so that the kernel confirms them. */
  readonly state: number;
}

/** A state in which the link-layer address may be sent to: REACHABLE, STALE, DELAY, PROBE, PERMANENT, NOARP. */
export const isUsable = (state: number): boolean => (state & NUD_VALID) !== 0;

/** Watches the namespace the thread is in when this is constructed: `ns.run(() => new HostWatcher())`. */
export class HostWatcher {
  /** Times the tables were read anew because events were lost. */
  resyncs = 0;

  private readonly rtnl: Rtnl;
  private readonly events: RtnlEvents;
  private readonly listener: RtnlListener;
  private readonly linkTable = new Map<number, Link>();
  /** Flags that each link was without at some time, see lostFlags(). */
  private readonly lostTable = new Map<number, number>();
  private readonly addressTable = new Map<string, Address>();
  private readonly neighbourTable = new Map<string, Neighbour>();
  private readonly routeTable = new RouteTable();
  /** Only while true does `routeTable` decide. */
  private routesCopied = false;
  private routesTooMany = false;
  private changed = 0;
  private routesStale = false;
  private readonly routesMax: number;

  constructor(routesMax = ROUTES_MAX) {
    this.routesMax = routesMax;
    this.rtnl = new Rtnl();
    try {
      this.events = new RtnlEvents();
    } catch (error) {
      this.rtnl.close();
      throw error;
    }
    this.listener = {
      link: (link, removed) => this.onLink(link, removed),
      address: (address, removed) => this.onAddress(address, removed),
      route: (route, removed, replaced) => this.onRoute(route, removed, replaced),
      neighbour: (neighbour, removed) => this.onNeighbour(neighbour, removed),
      rules: () => {
        this.routesStale = true;
      },
    };
    try {
      this.load();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Readable (POLLIN) when `process` has something to do. */
  get fd(): number {
    return this.events.fd;
  }

  /** Takes in the waiting events without waiting for more; returns what changed as CHANGED_* bits. */
  process(): number {
    this.changed = 0;
    if (!this.events.read(this.listener)) {
      this.resyncs++;
      this.load();
      return CHANGED_ALL;
    }
    if (this.routesStale) {
      this.loadRoutes();
      this.changed |= CHANGED_ROUTES;
    }
    return this.changed;
  }

  links(): Link[] {
    return [...this.linkTable.values()];
  }

  link(ifindex: number): Link | null {
    return this.linkTable.get(ifindex) ?? null;
  }

  /**
   * Flags (IFF_...) that a link has been without at some time since this was last asked, though they may be there again: events
   * that come together are taken in together.
   */
  lostFlags(ifindex: number): number {
    const lost = this.lostTable.get(ifindex) ?? 0;
    this.lostTable.delete(ifindex);
    return lost;
  }

  linkByName(name: string): Link | null {
    return this.links().find((link) => link.name === name) ?? null;
  }

  /** Addresses of an interface, with prefix length, scope and flags; those of all with 0. */
  addresses(ifindex = 0): Address[] {
    const all = [...this.addressTable.values()];
    return ifindex === 0 ? all : all.filter((address) => address.ifindex === ifindex);
  }

  /** Addresses of an interface that packets may come from and go to now (no tentative or duplicate IPv6 ones). */
  locals(ifindex: number): Uint8Array[] {
    return this.addresses(ifindex)
      .filter((address) => (address.flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)) === 0)
      .map((address) => address.local);
  }

  /** ifindex of the interface that has this address, or 0. */
  ownerOf(address: Uint8Array): number {
    const key = address.join();
    return this.addresses().find((known) => known.local.join() === key)?.ifindex ?? 0;
  }

  /** The main table's prefixes, for a copy of one's own; null when the kernel has to be asked for every destination. */
  prefixes(): PrefixRoute[] | null {
    return this.routesCopied ? this.routeTable.prefixes() : null;
  }

  neighbours(): Neighbour[] {
    return [...this.neighbourTable.values()];
  }

  /**
   * Where a packet to `destination` goes (through `oif` when it is not 0, as for link-local destinations), or null when
   * there is no way. Answers from the copied tables where they decide alone and asks the kernel otherwise.
   */
  route(destination: Uint8Array, oif = 0): Path | null {
    if (oif !== 0) return this.resolve(destination, { oif });
    const found = this.routesCopied ? this.routeTable.lookup(destination) : ASK_KERNEL;
    if (found === ASK_KERNEL) return this.resolve(destination);
    return found === null ? null : this.pathOf(found, destination);
  }

  /** As `route`, but always the kernel's answer: with the source address it would choose and the path MTU it knows. */
  resolve(destination: Uint8Array, query: RouteQuery = {}): Path | null {
    const route = this.rtnl.getRoute(destination, query);
    return route === null ? null : this.pathOf(route, destination);
  }

  /**
   * The entry of an on-link address, or null when there is none. One that the kernel is just resolving for the first
   * time is null too: INCOMPLETE is not announced, the outcome is (REACHABLE or FAILED).
   */
  neighbour(ifindex: number, address: Uint8Array): NeighbourState | null {
    const entry = this.neighbourTable.get(neighbourKey(ifindex, address));
    if (entry === undefined) return null;
    return { mac: isUsable(entry.state) ? entry.mac : null, state: entry.state };
  }

  /** Makes the kernel resolve an unknown neighbour or confirm a stale one; the outcome arrives as an event. */
  useNeighbour(ifindex: number, address: Uint8Array): void {
    this.rtnl.useNeighbour(ifindex, address);
  }

  close(): void {
    this.events.close();
    this.rtnl.close();
  }

  private pathOf(route: Route, destination: Uint8Array): Path | null {
    const { type, prefsrc, nextHops } = route;
    if (type === RTN_UNREACHABLE || type === RTN_BLACKHOLE || type === RTN_PROHIBIT) return null;
    const [hop] = nextHops;
    if (hop === undefined) return null;
    // The kernel answers a look-up of a local address with lo, its tables with the interface that has the address.
    const ifindex = type === RTN_LOCAL ? this.ownerOf(destination) || hop.ifindex : hop.ifindex;
    const mtu = route.mtu !== 0 ? route.mtu : (this.linkTable.get(ifindex)?.mtu ?? 0);
    return { type, ifindex, gateway: hop.gateway, prefsrc, mtu };
  }

  private load(): void {
    this.linkTable.clear();
    for (const link of this.rtnl.links()) this.linkTable.set(link.ifindex, link);
    this.addressTable.clear();
    for (const address of this.rtnl.addresses()) this.addressTable.set(addressKey(address), address);
    this.neighbourTable.clear();
    for (const entry of this.rtnl.neighbours())
      this.neighbourTable.set(neighbourKey(entry.ifindex, entry.address), entry);
    this.loadRoutes();
  }

  private loadRoutes(): void {
    this.routesStale = false;
    // Once too many, always asked: a reload would read them all again only to drop them.
    if (this.routesTooMany) return;
    this.routeTable.load(DEFAULT_TABLES.flatMap((table) => this.rtnl.routes(table)));
    this.routesCopied = !this.rtnl.hasPolicyRules();
    this.limitRoutes();
  }

  private limitRoutes(): void {
    if (this.routeTable.size <= this.routesMax) return;
    this.routesTooMany = true;
    this.routesCopied = false;
    this.routeTable.load([]);
  }

  private onLink(link: Link, removed: boolean): void {
    const before = this.linkTable.get(link.ifindex);
    const state = IFF_UP | IFF_RUNNING | IFF_LOWER_UP;
    // IPv4 routes that vanish with a link (or come to life again) are not announced: fib_sync_down_dev.
    if (removed || before === undefined || ((before.flags ^ link.flags) & state) !== 0) this.routesStale = true;
    if (removed) {
      this.linkTable.delete(link.ifindex);
      this.lostTable.delete(link.ifindex);
    } else {
      this.linkTable.set(link.ifindex, link);
      this.lostTable.set(link.ifindex, (this.lostTable.get(link.ifindex) ?? 0) | ~link.flags);
    }
    this.changed |= CHANGED_LINKS;
  }

  private onAddress(address: Address, removed: boolean): void {
    const key = addressKey(address);
    if (removed) {
      this.addressTable.delete(key);
      // As for links: IPv4 routes with this address as prefsrc go silently (fib_sync_down_addr).
      if (address.family === AF_INET) this.routesStale = true;
    } else {
      this.addressTable.set(key, address);
    }
    this.changed |= CHANGED_ADDRESSES;
  }

  private onRoute(route: Route, removed: boolean, replaced: boolean): void {
    if (this.routesTooMany) {
      this.changed |= CHANGED_ROUTES;
      return;
    }
    const changed = removed ? this.routeTable.remove(route) : this.routeTable.add(route, replaced);
    if (changed) this.changed |= CHANGED_ROUTES;
    this.limitRoutes();
  }

  private onNeighbour(neighbour: Neighbour, removed: boolean): void {
    // A proxy entry says for whom this host answers, not where somebody is.
    if ((neighbour.flags & NTF_PROXY) !== 0) return;
    const key = neighbourKey(neighbour.ifindex, neighbour.address);
    if (removed) this.neighbourTable.delete(key);
    else this.neighbourTable.set(key, neighbour);
    this.changed |= CHANGED_NEIGHBOURS;
  }
}

const addressKey = ({ ifindex, local, peer, prefixLength }: Address): string =>
  `${ifindex} ${local} ${peer}/${prefixLength}`;

const neighbourKey = (ifindex: number, address: Uint8Array): string => `${ifindex} ${address}`;
