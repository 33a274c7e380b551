/**
 * Socket filters (socket(7), SO_ATTACH_FILTER): programs that see a segment before its connection does, and drop it or cut it
 * off (tcp_filter, net/ipv4/tcp_ipv4.c). What they drop was never there: nothing is acknowledged, no RST answers it.
 *
 * A listener's sees its SYNs, and all that comes for connections that are half open; one that opens has it from then on. In
 * TIME_WAIT there is none. A filter is a number that whoever runs it knows, 0 for none.
 */
import type { Tcp } from "./core.ts";
import { N } from "./counters.ts";
import { cameTooFar, type Listener, listenerOf } from "./listen.ts";
import {
  F_PASSIVE,
  FILTER,
  FILTER_DROPS,
  FLAGS,
  L_FILTER,
  L_MIN_HOPS,
  LISTEN,
  LOCKS,
  STATE,
  SYN_RECEIVED,
  TIME_WAIT,
} from "./tcb.ts";

/** Runs filters, and knows how many records have each. */
export interface SegmentFilters {
  /** Payload bytes of the segment in hand to keep, as many as there are or more for all of them; -1: it is to be dropped. */
  run(filter: number): number;
  /** The filter of a listener, record `c`, has dropped the segment in hand. */
  dropped(c: number): void;
  /** A record has a filter, of which a use is given away to it. */
  take(filter: number): void;
  /** A record has the filter of another one as well. */
  share(filter: number): void;
  /** A record has it no more. */
  drop(filter: number): void;
}

export const NO_FILTERS: SegmentFilters = {
  run: () => Number.POSITIVE_INFINITY,
  dropped() {},
  take() {},
  share() {},
  drop() {},
};

/**
 * Whether the segment in hand, whose TTL or hop limit is `hops`, is let in to its connection, which has L_MIN_HOPS or L_FILTER.
 * It may be shorter afterwards.
 */
export function isLetIn(t: Tcp, c: number, hops: number): boolean {
  const { w } = t;
  if ((w[c + LOCKS] & L_MIN_HOPS) !== 0 && cameTooFar(t, c, hops)) return false;
  if ((w[c + LOCKS] & L_FILTER) === 0 || w[c + STATE] === TIME_WAIT) return true;
  if (w[c + STATE] === SYN_RECEIVED && (w[c + FLAGS] & F_PASSIVE) !== 0) {
    const listener = listenerOf(t, c);
    return listener === null || passesListener(t, listener);
  }
  if (passes(t, w[c + FILTER])) return true;
  w[c + FILTER_DROPS]++;
  return false;
}

/** Whether a listener lets in the segment in hand, of no connection here or of a half-open one of its own. */
export function passesListener(t: Tcp, listener: Listener): boolean {
  if (listener.filter === 0 || passes(t, listener.filter)) return true;
  t.filters.dropped(listener.c);
  return false;
}

function passes(t: Tcp, filter: number): boolean {
  const kept = t.filters.run(filter);
  if (kept < 0) {
    t.counters[N.TCPFilterDrop]++;
    return false;
  }
  if (kept < t.segLength) {
    // A FIN comes behind what is left, and what was cut off is sent again.
    t.segEnd = (t.segEnd - (t.segLength - kept)) | 0;
    t.segLength = kept;
  }
  return true;
}

export function filterOf(t: Tcp, c: number): number {
  if (t.w[c + STATE] === LISTEN) return listenerOf(t, c)?.filter ?? 0;
  return t.w[c + FILTER];
}

/** Gives a record another filter, of which the caller gives a use away; 0: none. */
export function setFilter(t: Tcp, c: number, filter: number): void {
  const { w } = t;
  const before = filterOf(t, c);
  if (filter !== 0) t.filters.take(filter);
  const listener = w[c + STATE] === LISTEN ? listenerOf(t, c) : null;
  if (listener !== null) listener.filter = filter;
  else note(w, c, filter);
  if (before !== 0) t.filters.drop(before);
}

/** A connection that has opened has its listener's from now on. */
export function inheritFilter(t: Tcp, c: number, filter: number): void {
  if (filter !== 0) t.filters.share(filter);
  note(t.w, c, filter);
}

/** The record that begins to listen, or ends: its words mean something else. */
export function noteFilter(w: Int32Array, c: number, filter: number): void {
  w[c + FILTER_DROPS] = 0;
  note(w, c, filter);
}

function note(w: Int32Array, c: number, filter: number): void {
  w[c + FILTER] = filter;
  w[c + LOCKS] = filter === 0 ? w[c + LOCKS] & ~L_FILTER : w[c + LOCKS] | L_FILTER;
}
