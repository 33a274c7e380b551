/** A thread dies in the middle of a change of the socket table, at whichever word: what the others had is as it was. */
import { describe, expect, test } from "bun:test";
import { Random } from "../../queues/random.ts";
import { CLASSIC } from "../../sockets/bpf/store.ts";
import { addressWords } from "../../sockets/fib.ts";
import { Lookup } from "../../sockets/lookup.ts";
import { GROUPS_MAX } from "../../sockets/reuseport.ts";
import { PORTS_MAX } from "../../sockets/shared.ts";
import {
  AF_INET,
  AF_INET6,
  BOUND,
  F_LISTEN,
  F_REUSEADDR,
  F_REUSEPORT,
  FLAGS,
  FREE,
  GROUP,
  IPPROTO_TCP,
  IPPROTO_UDP,
  LOCAL,
  LOCAL_PORT,
  OPEN,
  PLACEHOLDER,
  PROTOCOL,
  REMOTE,
  REMOTE_PORT,
  SocketTable,
  STATE,
} from "../../sockets/table.ts";
import { ip } from "../../sockets/wire/address.ts";

const SURVIVOR = 1;
const DOOMED = 2;
const PORTS = [7000, 7001];
const ADDRESSES = ["0.0.0.0", "198.18.0.1", "::", "2001:db8::1"];
const CAPACITY = 48;

class Death extends Error {}

/** Sockets opened and closed by two threads, of which one can be made to die after so many writes more. */
class World {
  readonly table = SocketTable.create(CAPACITY, 1);
  readonly lookup = new Lookup(this.table, 7, 0, new Int32Array(PORTS_MAX * 2));
  private readonly random: Random;
  private left = Number.POSITIVE_INFINITY;

  constructor(seed: number) {
    this.random = new Random(seed);
    const { table } = this;
    const { changed, set } = table;
    table.set = (id, field, value) => {
      this.write();
      set.call(table, id, field, value);
    };
    table.changed = (id) => {
      this.write();
      changed.call(table, id);
      this.write();
    };
    this.watch(table as unknown as Record<"heads", Int32Array>, "heads");
    this.watch(table.groups as unknown as Record<"words", Int32Array>, "words");
  }

  private write(): void {
    if (this.left-- <= 0) throw new Death();
  }

  /** Has writes into an array counted. */
  private watch<Name extends string>(owner: Record<Name, Int32Array>, name: Name): void {
    owner[name] = new Proxy(owner[name], {
      get: (target, key) => {
        const value = Reflect.get(target, key, target) as unknown;
        return typeof value === "function" ? value.bind(target) : value;
      },
      set: (target, key, value) => {
        this.write();
        return Reflect.set(target, key, value, target);
      },
    });
  }

  ids(home: number): number[] {
    const { table } = this;
    return Array.from({ length: table.highWater }, (_, id) => id).filter(
      (id) => table.home[id] === home && table.get(id, STATE) !== FREE,
    );
  }

  /** One call of a thread, chosen by chance. */
  step(home: number): void {
    const { random, table } = this;
    const own = this.ids(home);
    const id = own[random.below(Math.max(own.length, 1))];
    const what = own.length === 0 ? 0 : random.below(8);
    if (what < 4) this.open(home);
    else if (what < 6) table.mutex.hold(() => table.closeLocked(id));
    else if (table.get(id, PROTOCOL) === IPPROTO_TCP) this.listen(id);
    else this.connect(id);
  }

  private open(home: number): void {
    const { random, table } = this;
    const address = ADDRESSES[random.below(ADDRESSES.length)];
    const protocol = random.below(2) === 0 ? IPPROTO_UDP : IPPROTO_TCP;
    const id = table.create(address.includes(":") ? AF_INET6 : AF_INET, protocol, home, 4096, 4096);
    if (id < 0) return;
    table.mutex.hold(() => {
      const words = addressWords(ip(address));
      for (let i = 0; i < 4; i++) table.set(id, LOCAL + i, words[i]);
      table.set(id, LOCAL_PORT, PORTS[random.below(PORTS.length)]);
      table.set(id, FLAGS, random.below(4) === 0 ? F_REUSEADDR : F_REUSEPORT);
      if (table.bindLocked(id) < 0) table.closeLocked(id);
    });
    if (protocol === IPPROTO_TCP && table.get(id, STATE) === BOUND && random.below(2) === 0) this.listen(id);
  }

  private listen(id: number): void {
    const { table } = this;
    table.mutex.hold(() => {
      if (table.get(id, STATE) !== BOUND) return;
      if ((table.get(id, FLAGS) & F_LISTEN) === 0) table.listenLocked(id);
      else table.unlistenLocked(id);
    });
  }

  private connect(id: number): void {
    const { random, table } = this;
    table.mutex.hold(() => {
      const words = addressWords(ip("198.18.0.2"));
      for (let i = 0; i < 4; i++) table.set(id, REMOTE + i, words[i]);
      table.set(id, REMOTE_PORT, table.get(id, REMOTE_PORT) === 0 ? 1 + random.below(9) : 0);
      table.connectLocked(id);
    });
  }

  /** A call of the doomed one that ends after `writes` writes. Whether it came so far. */
  die(writes: number): boolean {
    this.left = writes;
    try {
      this.step(DOOMED);
      return false;
    } catch (error) {
      if (!(error instanceof Death)) throw error;
      return true;
    } finally {
      this.left = Number.POSITIVE_INFINITY;
    }
  }

  repair(): void {
    (this.table as unknown as { repair(): void }).repair();
  }

  /** Sockets of a port in the order in which they are looked at, those of one thread only where one is named. */
  chain(protocol: number, port: number, home = 0): number[] {
    const { table } = this;
    const ids: number[] = [];
    for (let id = table.firstBound(protocol, port); id >= 0; id = table.nextBound(id)) {
      if (ids.includes(id)) throw new Error(`socket ${id} comes twice`);
      ids.push(id);
    }
    return home === 0 ? ids : ids.filter((id) => table.home[id] === home);
  }

  /** What the survivor has of it: states, flags, addresses, and the order of each port. */
  survivors(): unknown {
    const { table } = this;
    const records = this.ids(SURVIVOR).map((id) =>
      [STATE, FLAGS, LOCAL_PORT, REMOTE_PORT, LOCAL + 3].map((field) => table.get(id, field)),
    );
    return [records, this.chains().map(([protocol, port]) => this.chain(protocol, port, SURVIVOR))];
  }

  chains(): [protocol: number, port: number][] {
    return [IPPROTO_UDP, IPPROTO_TCP].flatMap((protocol) => PORTS.map((port): [number, number] => [protocol, port]));
  }

  /** Everything that must hold between words of the table. */
  check(): void {
    const { table } = this;
    const isOpen = (id: number): boolean => table.get(id, STATE) !== FREE;
    const all = Array.from({ length: table.highWater }, (_, id) => id);
    const chained = this.chains().flatMap(([protocol, port]) => {
      const ids = this.chain(protocol, port);
      for (const id of ids) expect([table.get(id, PROTOCOL), table.get(id, LOCAL_PORT)]).toEqual([protocol, port]);
      return ids;
    });
    expect(chained.sort((a, b) => a - b)).toEqual(all.filter((id) => table.get(id, STATE) >= BOUND));
    const members = new Map<number, number>();
    for (let group = 0; group < GROUPS_MAX; group++)
      for (let i = 0; i < table.groups.count(group); i++) {
        expect(members.has(table.groups.member(group, i))).toBe(false);
        members.set(table.groups.member(group, i), group);
      }
    for (const id of all) if (isOpen(id)) expect(table.get(id, GROUP)).toBe(members.get(id) ?? -1);
    for (const id of members.keys()) expect(isOpen(id)).toBe(true);
    expect(table.open).toBe(all.filter(isOpen).length);
    for (const id of all) if (isOpen(id)) expect(table.get(id, PLACEHOLDER)).toBe(-1);
  }

  /** Every id can be had, once: for the end. */
  checkFree(): void {
    const { table } = this;
    const had = new Set<number>();
    for (let id = 0; id >= 0; ) {
      id = table.create(AF_INET, IPPROTO_UDP, SURVIVOR, 0, 0);
      if (id < 0) break;
      expect(had.has(id)).toBe(false);
      expect(table.get(id, STATE)).toBe(OPEN);
      had.add(id);
    }
    expect(table.open).toBe(CAPACITY);
  }

  /** Lookups brought up to date by the log answer as ones that have just begun. */
  checkLookup(): void {
    const fresh = new Lookup(this.table, 7, 0, new Int32Array(PORTS_MAX * 2));
    this.lookup.sync();
    const to = addressWords(ip("198.18.0.1"))[3];
    const from = addressWords(ip("198.18.0.2"))[3];
    for (const port of PORTS)
      for (let remote = 1; remote < 12; remote++)
        expect(this.lookup.udp4(to, port, from, remote, 0, 1)).toBe(fresh.udp4(to, port, from, remote, 0, 1));
  }
}

describe("at whichever word", () => {
  test.each(Array.from({ length: 10 }, (_, seed) => seed))("history %i", (seed) => {
    for (let writes = 0; ; writes++) {
      const world = new World(seed);
      for (let i = 0; i < 24; i++) world.step(i % 2 === 0 ? SURVIVOR : DOOMED);
      world.check();
      world.lookup.sync();
      const before = world.survivors();
      if (!world.die(writes)) break;
      world.repair();
      world.check();
      expect(world.survivors()).toEqual(before);
      world.checkLookup();
      const { table } = world;
      for (const id of world.ids(DOOMED)) table.mutex.hold(() => table.closeLocked(id));
      world.check();
      world.checkLookup();
      expect(world.survivors()).toEqual(before);
      for (let i = 0; i < 10; i++) world.step(SURVIVOR);
      world.check();
      world.checkFree();
    }
  });
});

test("a program that only TCP connections have is kept, as often as they have it", () => {
  const table = SocketTable.create(CAPACITY, 1);
  const { bpf, mutex } = table;
  const add = (): number =>
    bpf.addProgram({ type: CLASSIC, code: new Uint8Array(8), text: "", charge: 0, maps: [] }, table.version());
  mutex.hold(() => {
    const slot = add();
    table.holdApart(slot + 1);
    table.holdApart(slot + 1);
    // Whoever died was about to note another one.
    bpf.hold(slot);
    (table as unknown as { repair(): void }).repair();
    table.releaseApart(slot + 1);
    const other = add();
    expect(other).not.toBe(slot);
    bpf.hold(other);
    table.releaseApart(slot + 1);
    expect(add()).toBe(slot);
  });
});
