/**
 * Source filters of multicast groups (RFC 3376, sections 2 and 3; RFC 3810, sections 3 and 4, the same): from which
 * sources packets to a group are wanted. Addresses are text as formatIp() gives it, so that equal ones are equal.
 */

/** Filter modes (include/uapi/linux/in.h). */
export const MCAST_EXCLUDE = 0;
export const MCAST_INCLUDE = 1;

export interface SourceFilter {
  /** MCAST_INCLUDE: from `sources` only; MCAST_EXCLUDE: from all but `sources`. */
  readonly mode: number;
  readonly sources: ReadonlySet<string>;
}

/** Nothing is wanted: the filter of a group that was not joined. */
export const NOTHING: SourceFilter = { mode: MCAST_INCLUDE, sources: new Set() };

export function isNothing(filter: SourceFilter): boolean {
  return filter.mode === MCAST_INCLUDE && filter.sources.size === 0;
}

export function isSameFilter(a: SourceFilter, b: SourceFilter): boolean {
  return a.mode === b.mode && a.sources.size === b.sources.size && a.sources.isSubsetOf(b.sources);
}

/** Whether packets from `source` pass. */
export function passes(filter: SourceFilter, source: string): boolean {
  return (filter.mode === MCAST_INCLUDE) === filter.sources.has(source);
}

/**
 * The filter of an interface whose sockets have these filters on a group (RFC 3376, section 3.2): with any EXCLUDE among
 * them, all but what every one of those excludes and no INCLUDE asks for; else all that any of them includes.
 */
export function mergeFilters(filters: Iterable<SourceFilter>): SourceFilter {
  let included: ReadonlySet<string> = NOTHING.sources;
  let excluded: ReadonlySet<string> | null = null;
  for (const { mode, sources } of filters) {
    if (mode === MCAST_INCLUDE) included = included.union(sources);
    else excluded = excluded === null ? sources : excluded.intersection(sources);
  }
  if (excluded === null) return { mode: MCAST_INCLUDE, sources: included };
  return { mode: MCAST_EXCLUDE, sources: excluded.difference(included) };
}
