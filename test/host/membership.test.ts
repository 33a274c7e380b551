/** Groups joined by sockets: their filters merged, errors of each call, who gets what. */
import { describe, expect, test } from "bun:test";
import { ERRNO } from "af-xdp-bindings";
import fc from "fast-check";
import { addressWords } from "../../sockets/fib.ts";
import { GROUPS_MAX, Membership, SOURCES_MAX } from "../../sockets/host/membership.ts";
import {
  MCAST_EXCLUDE,
  MCAST_INCLUDE,
  mergeFilters,
  passes,
  type SourceFilter,
} from "../../sockets/host/source-filter.ts";
import { ip } from "../../sockets/wire/address.ts";

const FAMILIES = [
  ["IPv4", 4, "239.1.2.3", "239.1.2.4", ["198.18.5.1", "198.18.5.2", "198.18.5.3", "198.18.5.4"]],
  ["IPv6", 6, "ff05::123", "ff05::124", ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4"]],
] as const;

/** A membership that keeps a log of what it says. */
function logged(family: 4 | 6): { groups: Membership; log: string[] } {
  const log: string[] = [];
  const groups = new Membership(family, (group, mode, sources) => {
    log.push([group, mode === MCAST_INCLUDE ? "IN" : "EX", ...[...sources].toSorted()].join(" "));
  });
  return { groups, log };
}

const accepts = (groups: Membership, socket: number, group: string, source: string, all = false): boolean => {
  const [g0, g1, g2, g3] = addressWords(ip(group));
  const [s0, s1, s2, s3] = addressWords(ip(source));
  return groups.accepts(socket, g0, g1, g2, g3, s0, s1, s2, s3, all);
};

describe.each(FAMILIES)("%s", (_, family, G, H, [A, B, C, D]) => {
  test("the first join and the last leave are said, those between are not", () => {
    const { groups, log } = logged(family);
    expect([groups.join(1, G, 0), groups.join(2, G, 0), groups.join(1, H, 0)]).toEqual([0, 0, 0]);
    expect([...groups.groups()]).toEqual([G, H]);
    expect([groups.leave(1, G, 0), groups.leave(2, G, 0)]).toEqual([0, 0]);
    groups.close(1, 0);
    expect(log).toEqual([`${G} EX`, `${H} EX`, `${G} IN`, `${H} IN`]);
    expect([...groups.groups()]).toEqual([]);
  });

  test("filters merged as in the examples of RFC 3376, section 3.2", () => {
    const { groups, log } = logged(family);
    // Sockets include A, B, C; B, C, D: all four.
    for (const source of [A, B, C]) groups.joinSource(1, G, source, 0);
    for (const source of [B, C, D]) groups.joinSource(2, G, source, 0);
    expect(log.pop()).toBe(`${G} IN ${A} ${B} ${C} ${D}`);
    // One excludes A, B, C, D: nothing that another includes, and nothing else is excluded.
    groups.join(3, G, 0);
    for (const source of [A, B, C, D]) groups.block(3, G, source, 0);
    expect(log.pop()).toBe(`${G} EX`);
    groups.close(2, 0);
    expect(log.pop()).toBe(`${G} EX ${D}`);
    // Another excludes B, D: only what both do.
    groups.join(4, G, 0);
    groups.block(4, G, D, 0);
    groups.block(4, G, B, 0);
    groups.close(1, 0);
    expect(log.pop()).toBe(`${G} EX ${B} ${D}`);
    groups.close(4, 0);
    expect(log.pop()).toBe(`${G} EX ${A} ${B} ${C} ${D}`);
  });

  test("errors", () => {
    const { groups, log } = logged(family);
    const { EADDRINUSE, EADDRNOTAVAIL, EINVAL, ENOBUFS } = ERRNO;
    expect(groups.join(1, A, 0)).toBe(-EINVAL);
    expect(groups.join(1, family === 4 ? "ff05::1" : "239.1.1.1", 0)).toBe(-EINVAL);
    expect(groups.leave(1, G, 0)).toBe(-EADDRNOTAVAIL);
    expect(groups.block(1, G, A, 0)).toBe(-EINVAL);
    expect(groups.leaveSource(1, G, A, 0)).toBe(-EINVAL);
    expect(groups.setFilter(1, G, MCAST_EXCLUDE, [A], 0)).toBe(-EINVAL);
    expect(groups.setFilter(1, G, MCAST_INCLUDE, [], 0)).toBe(-EADDRNOTAVAIL);
    groups.join(1, G, 0);
    expect(groups.join(1, G, 0)).toBe(-EADDRINUSE);
    expect(groups.unblock(1, G, A, 0)).toBe(-EADDRNOTAVAIL);
    groups.block(1, G, A, 0);
    expect(groups.block(1, G, A, 0)).toBe(-EADDRNOTAVAIL);
    expect(groups.joinSource(1, G, B, 0)).toBe(-EINVAL);
    expect(groups.leaveSource(1, G, A, 0)).toBe(-EINVAL);
    expect(groups.setFilter(1, G, 2, [A], 0)).toBe(-EINVAL);
    expect(groups.joinSource(1, H, family === 4 ? "2001:db8::1" : "198.18.0.1", 0)).toBe(-EINVAL);
    expect(() => groups.join(1, "no address", 0)).toThrow(TypeError);
    const sources = Array.from({ length: SOURCES_MAX[family] + 1 }, (_, i) =>
      family === 4 ? `198.19.0.${i}` : `2001:db8::${i + 1}`,
    );
    expect(groups.setFilter(1, G, MCAST_EXCLUDE, sources, 0)).toBe(-ENOBUFS);
    expect(groups.setFilter(1, G, MCAST_EXCLUDE, sources.slice(1), 0)).toBe(0);
    expect(groups.block(1, G, sources[0], 0)).toBe(-ENOBUFS);
    const before = log.length;
    for (let i = 1; i < GROUPS_MAX[family]; i++) {
      expect(groups.join(1, family === 4 ? `239.2.0.${i}` : `ff05::2:${i.toString(16)}`, 0)).toBe(0);
    }
    expect(groups.join(1, H, 0)).toBe(-ENOBUFS);
    expect(groups.joinSource(1, H, A, 0)).toBe(-ENOBUFS);
    expect(groups.join(2, H, 0)).toBe(0);
    expect(log.length).toBe(before + GROUPS_MAX[family]);
  });

  test("each socket gets what its own filter lets pass", () => {
    const { groups } = logged(family);
    groups.join(1, G, 0);
    groups.block(1, G, A, 0);
    groups.joinSource(2, G, A, 0);
    groups.joinSource(2, G, B, 0);
    expect([A, B, C].map((source) => accepts(groups, 1, G, source))).toEqual([false, true, true]);
    expect([A, B, C].map((source) => accepts(groups, 2, G, source))).toEqual([true, true, false]);
    // Of a group that it has not joined only with IP_MULTICAST_ALL, which does not open a filter of its own.
    expect([accepts(groups, 1, H, A), accepts(groups, 1, H, A, true)]).toEqual([false, true]);
    expect([accepts(groups, 3, G, A), accepts(groups, 3, G, A, true)]).toEqual([false, true]);
    expect(accepts(groups, 1, G, A, true)).toBe(false);
    groups.leaveSource(2, G, A, 0);
    expect([A, B].map((source) => accepts(groups, 2, G, source))).toEqual([false, true]);
    groups.leaveSource(2, G, B, 0);
    expect(accepts(groups, 2, G, B)).toBe(false);
    expect(groups.leave(2, G, 0)).toBe(-ERRNO.EADDRNOTAVAIL);
  });

  test("the first source joins, the last one leaves, and no step between is said", () => {
    const { groups, log } = logged(family);
    groups.joinSource(1, G, A, 0);
    groups.joinSource(1, G, B, 0);
    groups.leaveSource(1, G, A, 0);
    groups.leaveSource(1, G, B, 0);
    groups.join(1, G, 0);
    groups.joinSource(1, G, C, 0);
    groups.setFilter(1, G, MCAST_EXCLUDE, [D, C, D], 0);
    groups.setFilter(1, G, MCAST_INCLUDE, [], 0);
    expect(log).toEqual([
      `${G} IN ${A}`,
      `${G} IN ${A} ${B}`,
      `${G} IN ${B}`,
      `${G} IN`,
      `${G} EX`,
      `${G} IN ${C}`,
      `${G} EX ${C} ${D}`,
      `${G} IN`,
    ]);
  });
});

test("other spellings of an address are the same", () => {
  const { groups } = logged(6);
  groups.join(1, "FF05:0::1", 0);
  expect(groups.leave(1, "ff05::1", 0)).toBe(0);
  groups.joinSource(1, "ff05::1", "2001:DB8::0001", 0);
  expect(groups.leaveSource(1, "ff05:0:0::1", "2001:db8::1", 0)).toBe(0);
});

test("a merged filter passes exactly what any of the sockets' does", () => {
  const SOURCES = ["a", "b", "c", "d", "e"];
  const filter = fc.record({
    mode: fc.constantFrom(MCAST_EXCLUDE, MCAST_INCLUDE),
    sources: fc.subarray(SOURCES).map((sources): ReadonlySet<string> => new Set(sources)),
  });
  const property = fc.property(fc.array(filter, { maxLength: 5 }), (filters: SourceFilter[]) => {
    const merged = mergeFilters(filters);
    for (const source of [...SOURCES, "other"]) {
      expect(passes(merged, source)).toBe(filters.some((one) => passes(one, source)));
    }
  });
  fc.assert(property, { numRuns: 500, seed: 2 });
});
