/** Where packets go: networks on the link, default gateways, path MTUs; and the same as the FIB has it. */
import type { FibAddress, FibContent, FibNeighbour, FibRoute } from "../fib.ts";
import { addressBytes } from "../fib.ts";
import { type Addresses, AUTOCONF } from "./addresses.ts";
import type { Link } from "./link.ts";
import type { Neighbours } from "./neighbours.ts";
import type { PathMtus } from "./path-mtu.ts";
import type { RouterDiscovery } from "./router-discovery.ts";
import { copyWords, isLinkLocal, isMapped, MAPPED_BITS, prefixOf } from "./words.ts";

/** Metrics of routes of equal prefix: of what was configured, and of what a router says (IP6_RT_PRIO_ADDRCONF and _USER). */
const METRIC_CONFIGURED = 256;
const METRIC_ADVERTISED = 1024;

export class Routes {
  private readonly link: Link;
  private readonly addresses: Addresses;
  private readonly gateways: readonly Int32Array[];
  private readonly routers: RouterDiscovery;
  private readonly pathMtus: PathMtus;

  constructor(
    link: Link,
    addresses: Addresses,
    gateways: readonly Int32Array[],
    routers: RouterDiscovery,
    pathMtus: PathMtus,
  ) {
    this.link = link;
    this.addresses = addresses;
    this.gateways = gateways;
    this.routers = routers;
    this.pathMtus = pathMtus;
  }

  /** Loads the address of the next hop to a unicast destination; false: there is no route. */
  nextHop(destination: Int32Array, hop: Int32Array): boolean {
    if (this.addresses.sourceTo(destination) === null) return false;
    const gateway = this.isOnLink(destination) ? destination : this.gatewayOf(isMapped(destination));
    if (gateway === null) return false;
    copyWords(hop, gateway);
    return true;
  }

  /** Bytes of the largest packet that gets to a destination, as far as is known. */
  mtuTo(destination: Int32Array): number {
    return this.pathMtus.find(destination) || this.linkMtu(isMapped(destination));
  }

  /** Bytes of the largest packet of a family on the link. */
  linkMtu(isIpv4: boolean): number {
    return isIpv4 ? this.link.mtu : this.routers.mtu;
  }

  fib(caches: readonly Neighbours[]): FibContent {
    const { ifindex, mac, mtu } = this.link;
    const usable = this.addresses.list.filter((own) => own.isUsable);
    const addresses: FibAddress[] = usable.map(({ bytes, prefixLength }) => ({
      ifindex,
      address: bytes,
      prefixLength,
    }));
    const neighbours: FibNeighbour[] = caches.flatMap((cache) =>
      cache
        .all()
        .filter((entry) => entry.isPublished)
        .map((entry) => ({ ifindex, address: bytesOf(entry.words), mac: entry.mac.slice() })),
    );
    return {
      links: [{ ifindex, mac, mtu, up: true }],
      addresses,
      routes: [...this.networkRoutes(), ...this.defaultRoutes(), ...this.pathRoutes()],
      neighbours,
    };
  }

  private isOnLink(destination: Int32Array): boolean {
    if (isLinkLocal(destination)) return true;
    return this.addresses.isOnNetwork(destination) || (!isMapped(destination) && this.routers.isOnLink(destination));
  }

  /** What was configured goes before what routers say. */
  private gatewayOf(isIpv4: boolean): Int32Array | null {
    for (const gateway of this.gateways) if (isMapped(gateway) === isIpv4) return gateway;
    return isIpv4 ? null : (this.routers.defaultRouter()?.words ?? null);
  }

  private networkRoutes(): FibRoute[] {
    const routes = new Map<string, FibRoute>();
    const add = (words: Int32Array, bits: number, metric: number): void => {
      const route = this.route(prefixOf(words, bits), bits, null, metric);
      const name = `${route?.destination.join()}/${bits}`;
      if (route !== null && !routes.has(name)) routes.set(name, route);
    };
    for (const own of this.addresses.list) {
      if (own.isUsable && own.origin !== AUTOCONF && own.prefixBits < 128) {
        add(own.words, own.prefixBits, METRIC_CONFIGURED);
      }
    }
    for (const { words, bits } of this.routers.prefixes) add(words, bits, METRIC_ADVERTISED);
    return [...routes.values()];
  }

  private defaultRoutes(): FibRoute[] {
    return [true, false].flatMap((isIpv4) => {
      const gateway = this.gatewayOf(isIpv4);
      if (gateway === null) return [];
      const bits = isIpv4 ? MAPPED_BITS : 0;
      const metric = this.gateways.includes(gateway) ? METRIC_CONFIGURED : METRIC_ADVERTISED;
      return this.route(prefixOf(gateway, bits), bits, gateway, metric) ?? [];
    });
  }

  private pathRoutes(): FibRoute[] {
    const routes: FibRoute[] = [];
    const hop = new Int32Array(4);
    this.pathMtus.forEach((destination, mtu) => {
      if (!this.nextHop(destination, hop)) return;
      const gateway = this.isOnLink(destination) ? null : hop;
      const route = this.route(destination, 128, gateway, METRIC_CONFIGURED);
      if (route !== null) routes.push({ ...route, mtu });
    });
    return routes;
  }

  /** A route to a prefix of words, or null: there is no address to send from. */
  private route(prefix: Int32Array, bits: number, gateway: Int32Array | null, metric: number): FibRoute | null {
    const isIpv4 = isMapped(prefix);
    const source = this.addresses.sourceTo(gateway !== null && !isLinkLocal(gateway) ? gateway : prefix);
    if (source === null) return null;
    const linkMtu = this.linkMtu(isIpv4);
    return {
      destination: bytesOf(prefix),
      prefixLength: isIpv4 ? bits - MAPPED_BITS : bits,
      ifindex: this.link.ifindex,
      gateway: gateway === null ? undefined : bytesOf(gateway),
      source: source.bytes,
      metric,
      mtu: linkMtu < this.link.mtu ? linkMtu : undefined,
    };
  }
}

const bytesOf = (words: Int32Array): Uint8Array => addressBytes(words[0], words[1], words[2], words[3]);
