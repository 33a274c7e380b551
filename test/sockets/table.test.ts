/** The socket table: its bind conflicts against the kernel's own, reuseport groups, ids, and the change log. */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { ERRNO, sys } from "af-xdp-bindings";
import { Random } from "../../queues/random.ts";
import { addressWords } from "../../sockets/fib.ts";
import { GROUP_MEMBERS_MAX, GROUPS_MAX } from "../../sockets/reuseport.ts";
import {
  BOUND,
  DEVICE,
  F_REUSEADDR,
  F_REUSEPORT,
  F_V6ONLY,
  FLAGS,
  FREE,
  GENERATION,
  GROUP,
  IPPROTO_TCP,
  IPPROTO_UDP,
  LOCAL,
  LOCAL_PORT,
  SocketTable,
  STATE,
  UID,
} from "../../sockets/table.ts";
import { ip } from "../../sockets/wire/address.ts";
import { requires } from "../support/hosts.ts";
import { describeWish, familyOf, KernelHost, LO, type Wish, wish } from "./kernel-sockets.ts";

setDefaultTimeout(120_000);

const PORT = 7000;

const ADDRESSES = ["0.0.0.0", "198.18.0.1", "198.18.0.10", "::", "2001:db8::1", "::ffff:198.18.0.1", "::ffff:0.0.0.0"];

/** What the table answers to a bind: 0, or -errno. The socket stays in the table when it is bound. */
function bindInTable(table: SocketTable, wish: Wish, port = PORT, uid = 0, protocol = IPPROTO_UDP): [number, number] {
  const id = table.create(wish.family, protocol, 1, 1 << 16, 1 << 16);
  if (id < 0) return [id, -1];
  const result = table.mutex.hold(() => {
    const words = addressWords(ip(wish.address));
    for (let i = 0; i < 4; i++) table.set(id, LOCAL + i, words[i]);
    table.set(id, LOCAL_PORT, port);
    table.set(id, UID, uid);
    table.set(id, DEVICE, wish.device);
    const flags = (wish.reuseAddress ? F_REUSEADDR : 0) | (wish.reusePort ? F_REUSEPORT : 0);
    table.set(id, FLAGS, flags | (wish.only6 ? F_V6ONLY : 0));
    return table.bindLocked(id);
  });
  if (result < 0) close(table, id);
  return [result, id];
}

const close = (table: SocketTable, id: number): void => table.mutex.hold(() => table.closeLocked(id));

describe.skipIf(requires("netns") !== "")("bind conflicts, as the kernel decides them", () => {
  const host = requires("netns") === "" ? new KernelHost(["198.18.0.1", "198.18.0.10", "2001:db8::1"]) : null;
  afterAll(() => host?.close());

  /** Binds one after another in both worlds; where they differ, the history in words. */
  function differences(wishes: readonly Wish[]): string {
    const table = SocketTable.create(16, 1);
    const open: number[] = [];
    try {
      for (const [i, each] of wishes.entries()) {
        const fd = (host as KernelHost).bind(each, PORT);
        if (fd >= 0) open.push(fd);
        const [mine] = bindInTable(table, each);
        if (mine !== Math.min(fd, 0)) {
          return `${wishes
            .slice(0, i + 1)
            .map(describeWish)
            .join(", then ")}: kernel ${Math.min(fd, 0)}, table ${mine}`;
        }
      }
      return "";
    } finally {
      for (const fd of open) sys.close(fd);
    }
  }

  const all: Wish[] = ADDRESSES.flatMap((address) =>
    [0, LO].flatMap((device) =>
      [false, true].flatMap((reuseAddress) =>
        [false, true].flatMap((reusePort) =>
          // A mapped address on an IPv6-only socket is refused before any conflict is looked for.
          (address.includes(":") && !address.startsWith("::ffff") ? [false, true] : [false]).map((only6) => ({
            address,
            family: familyOf(address),
            reuseAddress,
            reusePort,
            only6,
            device,
          })),
        ),
      ),
    ),
  );

  test("every pair", () => {
    const wrong = all.flatMap((first) => all.map((second) => differences([first, second])));
    expect(wrong.filter((text) => text !== "")).toEqual([]);
    expect(wrong.length).toBe(all.length ** 2);
  });

  test("a thousand random sequences of up to six", () => {
    const random = new Random(42);
    const wrong: string[] = [];
    for (let i = 0; i < 1000; i++) {
      const wishes = Array.from({ length: 3 + random.below(4) }, () => all[random.below(all.length)]);
      const text = differences(wishes);
      if (text !== "") wrong.push(text);
    }
    expect(wrong).toEqual([]);
  });
});

describe("binding", () => {
  test("of different ports and protocols never conflicts", () => {
    const table = SocketTable.create(16, 1);
    expect(bindInTable(table, wish("0.0.0.0"), 1)[0]).toBe(0);
    expect(bindInTable(table, wish("0.0.0.0"), 2)[0]).toBe(0);
    expect(bindInTable(table, wish("0.0.0.0"), 1, 0, IPPROTO_TCP)[0]).toBe(0);
    expect(bindInTable(table, wish("0.0.0.0"), 1)[0]).toBe(-ERRNO.EADDRINUSE);
    expect(table.portInUse(IPPROTO_UDP, 1)).toBe(true);
    expect(table.portInUse(IPPROTO_UDP, 3)).toBe(false);
    expect(table.portInUse(IPPROTO_TCP, 2)).toBe(false);
  });

  test("of one user's reuseport port is refused to another user", () => {
    const table = SocketTable.create(16, 1);
    const shared = wish("0.0.0.0", { reusePort: true });
    expect(bindInTable(table, shared, PORT, 1000)[0]).toBe(0);
    expect(bindInTable(table, shared, PORT, 1001)[0]).toBe(-ERRNO.EADDRINUSE);
    expect(bindInTable(table, shared, PORT, 1000)[0]).toBe(0);
  });

  test("a refused socket leaves nothing behind, a closed one frees the port", () => {
    const table = SocketTable.create(3, 1);
    const ids = [1, 2, 3].map((port) => bindInTable(table, wish("0.0.0.0"), port)[1]);
    expect(bindInTable(table, wish("0.0.0.0"), 4)).toEqual([-ERRNO.ENFILE, -1]);
    // Out of the middle of nothing, the head and the tail of a port's chain.
    for (const id of ids.toReversed()) close(table, id);
    close(table, ids[0]);
    expect(table.open).toBe(0);
    for (let i = 0; i < 20; i++)
      expect(bindInTable(table, wish("0.0.0.0"), 1)[0]).toBe(i === 0 ? 0 : -ERRNO.EADDRINUSE);
    expect(table.open).toBe(1);
  });
});

test("a socket that has given up its port is bound to it again, behind those that stayed", () => {
  const table = SocketTable.create(4, 1);
  const shared = wish("::", { reusePort: true });
  const ids = [0, 1].map(() => bindInTable(table, shared)[1]);
  table.mutex.hold(() => {
    table.unbindLocked(ids[0]);
    table.set(ids[0], LOCAL_PORT, PORT);
    expect(table.bindLocked(ids[0])).toBe(0);
  });
  const chain: number[] = [];
  for (let id = table.firstBound(IPPROTO_UDP, PORT); id >= 0 && chain.length < 9; id = table.nextBound(id))
    chain.push(id);
  expect(chain).toEqual(ids.toReversed());
});

describe("ids", () => {
  test("are used again under a new generation", () => {
    const table = SocketTable.create(4, 2);
    const [, id] = bindInTable(table, wish("0.0.0.0"));
    const generation = table.get(id, GENERATION);
    expect(table.get(id, STATE)).toBe(BOUND);
    table.charged[1][id] = 77;
    close(table, id);
    expect(table.get(id, STATE)).toBe(FREE);
    expect(table.get(id, GENERATION)).not.toBe(generation);
    const [, again] = bindInTable(table, wish("0.0.0.0"));
    expect(again).toBe(id);
    expect(new Set([generation, generation + 1]).has(table.get(id, GENERATION))).toBe(false);
    expect(table.charged[1][id]).toBe(0);
  });

  test("every opened view of the memory sees the same table", () => {
    const table = SocketTable.create(4, 1);
    const other = new SocketTable(table.descriptor());
    const [, id] = bindInTable(table, wish("198.18.0.1"));
    expect(other.get(id, LOCAL_PORT)).toBe(PORT);
    expect(bindInTable(other, wish("198.18.0.1"))[0]).toBe(-ERRNO.EADDRINUSE);
    expect(other.closeAll()).toEqual([]);
    expect(table.open).toBe(0);
    expect(() => SocketTable.create(0, 1)).toThrow(RangeError);
  });
});

describe("reuseport groups", () => {
  const shared = (address = "0.0.0.0", more: Partial<Wish> = {}): Wish => wish(address, { reusePort: true, ...more });
  const members = (table: SocketTable, group: number): number[] =>
    Array.from({ length: table.groups.count(group) }, (_, i) => table.groups.member(group, i));

  test("number their members in order of binding; the last moves into the hole of one that leaves", () => {
    const table = SocketTable.create(16, 1);
    const ids = Array.from({ length: 6 }, () => bindInTable(table, shared())[1]);
    const group = table.get(ids[0], GROUP);
    expect(members(table, group)).toEqual(ids);
    close(table, ids[1]);
    expect(members(table, group)).toEqual([ids[0], ids[5], ids[2], ids[3], ids[4]]);
    close(table, ids[4]);
    expect(members(table, group)).toEqual([ids[0], ids[5], ids[2], ids[3]]);
    close(table, ids[0]);
    expect(members(table, group)).toEqual([ids[3], ids[5], ids[2]]);
    const [, late] = bindInTable(table, shared());
    expect(members(table, group)).toEqual([ids[3], ids[5], ids[2], late]);
  });

  test("are for one address, device, family and IPV6_V6ONLY", () => {
    const table = SocketTable.create(16, 1);
    const groupOf = (each: Wish): number => table.get(bindInTable(table, each)[1], GROUP);
    const groups = [
      shared(),
      shared("198.18.0.1"),
      shared("198.18.0.10"),
      shared("::"),
      shared("::", { only6: true }),
      shared("::ffff:198.18.0.1"),
      shared("0.0.0.0", { device: LO }),
    ].map(groupOf);
    expect(new Set(groups).size).toBe(groups.length);
    expect(groupOf(shared("198.18.0.1"))).toBe(groups[1]);
    expect(groupOf(shared("::", { only6: true }))).toBe(groups[4]);
    expect(bindInTable(table, wish("198.18.0.99"), 1)[0]).toBe(0);
  });

  test("are bounded, and say so", () => {
    const table = SocketTable.create(2048, 1);
    for (let i = 0; i < GROUP_MEMBERS_MAX; i++) expect(bindInTable(table, shared())[0]).toBe(0);
    expect(bindInTable(table, shared())[0]).toBe(-ERRNO.ENOSPC);
    const groups: number[] = [];
    for (let i = 1; i < GROUPS_MAX; i++) groups.push(bindInTable(table, shared(), i)[1]);
    expect(bindInTable(table, shared(), GROUPS_MAX)[0]).toBe(-ERRNO.ENOSPC);
    close(table, groups[500]);
    expect(bindInTable(table, shared(), GROUPS_MAX)[0]).toBe(0);
  });
});

describe("the change log", () => {
  test("names each change since; from too far back it says so", () => {
    const table = SocketTable.create(16, 1);
    const start = table.version();
    const [, a] = bindInTable(table, wish("0.0.0.0"), 1);
    const [, b] = bindInTable(table, wish("0.0.0.0"), 2);
    close(table, a);
    const seen: number[] = [];
    expect(table.replay(start, table.version(), (id) => seen.push(id))).toBe(true);
    expect(seen).toEqual([a, b, a]);
    for (let i = 0; i < 3000; i++) close(table, bindInTable(table, wish("0.0.0.0"), 3)[1]);
    expect(table.replay(start, table.version(), () => {})).toBe(false);
  });
});
