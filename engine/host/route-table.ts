/**
 * Longest-prefix match over a copy of the kernel's local, main and default tables.
 *
 * The order is that of the default policy rules: local, main, default; in each the longest prefix, among equal
 * prefixes the lowest priority value. Where a copy cannot know the kernel's choice (several routes or next hops are
 * equally good, a next hop is dead, the choice depends on tos or source), `lookup` says so instead of guessing.
 *
 * Sources: fib_table_lookup (net/ipv4/fib_trie.c), fib6_table_lookup (net/ipv6/route.c), Linux 6.18.
 */
import type { NextHop, Route } from "./rtnetlink-decode.ts";
import {
  AF_INET,
  AF_INET6,
  RT_TABLE_DEFAULT,
  RT_TABLE_LOCAL,
  RT_TABLE_MAIN,
  RTM_F_CLONED,
  RTN_BLACKHOLE,
  RTN_PROHIBIT,
  RTN_THROW,
  RTN_UNREACHABLE,
  RTNH_F_DEAD,
  RTNH_F_LINKDOWN,
} from "./rtnetlink-uapi.ts";

/** The tables the default policy rules consult, in their order. */
export const DEFAULT_TABLES: readonly number[] = [RT_TABLE_LOCAL, RT_TABLE_MAIN, RT_TABLE_DEFAULT];

/** Lookup result when only the kernel can tell: ask it (RTM_GETROUTE). */
export const ASK_KERNEL = "ask-kernel";

/** Types of routes that need no next hop. */
const NO_WAY: readonly number[] = [RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT, RTN_THROW];

/** The routes of one prefix in one table. */
interface PrefixRoutes {
  routes: Route[];
  /** An event did not fit what was known here: the kernel has to be asked until the next reload. */
  uncertain: boolean;
}

/** One table of one family: by prefix length, by prefix. */
type Table = Map<number, Map<string, PrefixRoutes>>;

/** A prefix and the route that decides it, or null where only the kernel can tell. */
export interface PrefixRoute {
  readonly destination: Uint8Array;
  readonly prefixLength: number;
  readonly route: Route | null;
}

export class RouteTable {
  private tables = new Map<string, Table>();

  /** Number of routes held. */
  size = 0;

  /** Replaces everything; routes of other tables and cached ones are ignored. */
  load(routes: Iterable<Route>): void {
    this.tables = new Map();
    this.size = 0;
    for (const route of routes) this.add(route, false);
  }

  /** An RTM_NEWROUTE event; `replaced` when it carried NLM_F_REPLACE. Returns true when something changed. */
  add(route: Route, replaced: boolean): boolean {
    if (!isTableRoute(route)) return false;
    const entry = this.entry(route);
    const key = identity(route);
    if (replaced) this.dropReplaced(entry, route);
    const known = entry.routes.findIndex((other) => identity(other) === key);
    if (known >= 0) {
      // Seen already (an event from before the load): only flags such as RTNH_F_LINKDOWN can differ.
      entry.routes[known] = route;
      return replaced;
    }
    entry.routes.push(route);
    this.size++;
    return true;
  }

  /** An RTM_DELROUTE event. Returns true when something changed. */
  remove(route: Route): boolean {
    if (!isTableRoute(route)) return false;
    const prefixes = this.tables.get(`${route.family}/${route.table}`)?.get(route.prefixLength);
    const prefix = prefixKey(route.destination, route.prefixLength);
    const entry = prefixes?.get(prefix);
    // Gone before the load, which did not see it.
    if (entry === undefined) return false;
    const key = identity(route);
    const known = entry.routes.findIndex((other) => identity(other) === key);
    if (known < 0) {
      // One next hop of a multipath route went, or the event is from before the load.
      entry.uncertain = true;
      return true;
    }
    entry.routes.splice(known, 1);
    this.size--;
    if (entry.routes.length === 0 && !entry.uncertain) prefixes?.delete(prefix);
    return true;
  }

  /** The route for `destination`, null for none, or ASK_KERNEL. */
  lookup(destination: Uint8Array): Route | null | typeof ASK_KERNEL {
    if (isSpecial(destination)) return ASK_KERNEL;
    const family = destination.length === 4 ? AF_INET : AF_INET6;
    for (const id of DEFAULT_TABLES) {
      const table = this.tables.get(`${family}/${id}`);
      const found = table === undefined ? null : lookupIn(table, destination);
      if (found === ASK_KERNEL) return found;
      if (found !== null && found.type !== RTN_THROW) return found;
    }
    return null;
  }

  /**
   * Every prefix of the main table with the route that decides it, or null where only the kernel can tell; null for the
   * whole when another table has a say as well.
   */
  prefixes(): PrefixRoute[] | null {
    const out: PrefixRoute[] = [];
    for (const family of [AF_INET, AF_INET6]) {
      if ((this.tables.get(`${family}/${RT_TABLE_DEFAULT}`)?.size ?? 0) > 0) return null;
      const table = this.tables.get(`${family}/${RT_TABLE_MAIN}`) ?? new Map();
      for (const prefixes of table.values()) {
        for (const entry of prefixes.values()) {
          const [first] = entry.routes;
          if (first === undefined) continue;
          const route = decide(entry);
          out.push({ destination: first.destination, prefixLength: first.prefixLength, route });
        }
      }
    }
    return out;
  }

  private dropReplaced(entry: PrefixRoutes, route: Route): void {
    const same = entry.routes.filter((other) => other.priority === route.priority && other.tos === route.tos);
    if (same.length > 1) entry.uncertain = true;
    if (same.length !== 1) return;
    entry.routes.splice(entry.routes.indexOf(same[0] as Route), 1);
    this.size--;
  }

  private entry(route: Route): PrefixRoutes {
    const { family, table, prefixLength, destination } = route;
    const lengths = getOrAdd(this.tables, `${family}/${table}`, () => new Map<number, Map<string, PrefixRoutes>>());
    const prefixes = getOrAdd(lengths, prefixLength, () => new Map<string, PrefixRoutes>());
    return getOrAdd(prefixes, prefixKey(destination, prefixLength), () => ({ routes: [], uncertain: false }));
  }
}

function lookupIn(table: Table, destination: Uint8Array): Route | null | typeof ASK_KERNEL {
  // At most 129 lengths; a host has a handful.
  const lengths = [...table.keys()].sort((a, b) => b - a);
  for (const length of lengths) {
    const entry = table.get(length)?.get(prefixKey(destination, length));
    if (entry === undefined) continue;
    return decide(entry) ?? ASK_KERNEL;
  }
  return null;
}

/** The route that decides a prefix, or null when only the kernel can tell. */
function decide(entry: PrefixRoutes): Route | null {
  if (entry.uncertain || entry.routes.some((route) => route.tos !== 0 || route.sourceLength !== 0)) return null;
  const best = Math.min(...entry.routes.map((route) => route.priority));
  const candidates = entry.routes.filter((route) => route.priority === best);
  const [route] = candidates as [Route];
  return candidates.length === 1 && isDecisive(route) ? route : null;
}

/** True when the route leaves the kernel no choice: it leads nowhere, or to one next hop that is alive. */
function isDecisive(route: Route): boolean {
  if (NO_WAY.includes(route.type)) return true;
  const [hop] = route.nextHops;
  if (hop === undefined || route.nextHops.length > 1) return false;
  return (hop.flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN)) === 0;
}

/** Destinations the kernel treats by rules beside the tables: unspecified, IPv4 multicast and limited broadcast. */
function isSpecial(destination: Uint8Array): boolean {
  if (destination.length === 4 && (destination[0] as number) >= 224) return true;
  return destination.every((octet) => octet === 0);
}

function isTableRoute(route: Route): boolean {
  const knownFamily = route.family === AF_INET || route.family === AF_INET6;
  return knownFamily && (route.flags & RTM_F_CLONED) === 0 && DEFAULT_TABLES.includes(route.table);
}

/** What tells two routes of one prefix and table apart. */
function identity(route: Route): string {
  const { tos, priority, type, source, sourceLength, prefsrc, mtu, nextHops } = route;
  const hop = ({ ifindex, gateway, weight }: NextHop): string => `${ifindex}:${gateway ?? ""}:${weight}`;
  return [tos, priority, type, source, sourceLength, prefsrc, mtu, ...nextHops.map(hop)].join("/");
}

/** The first `length` bits of an address as a string. */
function prefixKey(address: Uint8Array, length: number): string {
  const whole = length >>> 3;
  let key = String.fromCharCode(...address.subarray(0, whole));
  if ((length & 7) !== 0) key += String.fromCharCode((address[whole] as number) & (0xff << (8 - (length & 7))));
  return key;
}

function getOrAdd<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}
