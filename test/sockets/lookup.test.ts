/** Which socket gets a datagram: against the kernel's own choice, and the reuseport rules of socket(7). */
import { afterAll, describe, expect, test } from "bun:test";
import { sys } from "af-xdp-bindings";
import { Random } from "../../queues/random.ts";
import { addressWords } from "../../sockets/fib.ts";
import { Lookup, NOBODY } from "../../sockets/lookup.ts";
import { PORTS_MAX } from "../../sockets/shared.ts";
import {
  DEVICE,
  F_REUSEADDR,
  F_REUSEPORT,
  F_V6ONLY,
  FLAGS,
  INCOMING_CPU,
  INCOMING_NAPI,
  IPPROTO_UDP,
  LOCAL,
  LOCAL_PORT,
  REMOTE,
  REMOTE_PORT,
  SocketTable,
} from "../../sockets/table.ts";
import { ip } from "../../sockets/wire/address.ts";
import { requires } from "../support/hosts.ts";
import { describeWish, familyOf, KernelHost, LO, type Wish, wish } from "./kernel-sockets.ts";

const PORT = 7000;
const SOURCE_PORTS = [4001, 4002];
const SEED = 99;
const LCORE = 1;

/** A table and an lcore's look-up over it. Port 0 is on CPU 4 with NAPI ID 500, port 1 on CPU 5 with 501. */
class World {
  readonly table = SocketTable.create(512, 2);
  readonly portInfo = new Int32Array(2 * PORTS_MAX * 2);
  readonly lookup: Lookup;
  private readonly header = new Uint8Array(40);

  constructor() {
    this.portInfo.set([4, 500, 5, 501], LCORE * PORTS_MAX * 2);
    this.lookup = new Lookup(this.table, SEED, LCORE, this.portInfo);
  }

  bind(wanted: Wish, cpu = -1, napi = 0): number {
    const { table } = this;
    const id = table.create(wanted.family, IPPROTO_UDP, 2, 1 << 16, 1 << 16);
    const flags = (wanted.reuseAddress ? F_REUSEADDR : 0) | (wanted.reusePort ? F_REUSEPORT : 0);
    const result = table.mutex.hold(() => {
      this.setWords(id, LOCAL, addressWords(ip(wanted.address)));
      table.set(id, LOCAL_PORT, PORT);
      table.set(id, DEVICE, wanted.device);
      table.set(id, FLAGS, flags | (wanted.only6 ? F_V6ONLY : 0));
      table.set(id, INCOMING_CPU, cpu);
      table.set(id, INCOMING_NAPI, napi);
      return table.bindLocked(id);
    });
    expect(result).toBe(0);
    return id;
  }

  /** Connects; `local` is the address the kernel chose. Port 0 dissolves. */
  connect(id: number, local: Int32Array, address: string, port: number): void {
    this.table.mutex.hold(() => {
      this.setWords(id, LOCAL, local);
      this.setWords(id, REMOTE, addressWords(ip(address)));
      this.table.set(id, REMOTE_PORT, port);
      this.table.connectLocked(id);
    });
  }

  close(id: number): void {
    this.table.mutex.hold(() => this.table.closeLocked(id));
  }

  /** The socket for a datagram that came in on `port` of interface `ifindex`. */
  find(source: string, sourcePort: number, destination: string, port = 0, ifindex = LO): number {
    if (this.lookup.isStale()) this.lookup.sync();
    const from = ip(source);
    const to = ip(destination);
    if (from.length === 4) {
      const local = addressWords(to)[3];
      return this.lookup.udp4(local, PORT, addressWords(from)[3], sourcePort, port, ifindex);
    }
    this.header.set(from, 8);
    this.header.set(to, 24);
    return this.lookup.udp6(this.header, 0, PORT, sourcePort, port, ifindex);
  }

  private setWords(id: number, field: number, words: Int32Array): void {
    for (let i = 0; i < 4; i++) this.table.set(id, field + i, words[i]);
  }
}

const words = (address: string): Int32Array => Int32Array.from(addressWords(ip(address)));

describe.skipIf(requires("netns") !== "")("as the kernel chooses", () => {
  const LOCALS = ["198.18.0.1", "198.18.0.10", "2001:db8::1", "2001:db8::10"];
  const host = requires("netns") === "" ? new KernelHost(LOCALS) : null;
  const kernel = host as KernelHost;
  afterAll(() => host?.close());

  const peers = (address: string): string => (address.includes(":") ? "2001:db8::10" : "198.18.0.10");
  const BINDABLE = [...LOCALS, "0.0.0.0", "::", "::ffff:198.18.0.1", "::ffff:0.0.0.0"];

  /** Random sockets on one port, some connected, some closed again, in both worlds; then every datagram is compared. */
  function scenario(random: Random): string[] {
    const world = new World();
    const senders = LOCALS.flatMap((address) =>
      SOURCE_PORTS.map((port) => ({ address, port, fd: kernel.bind(wish(address), port) })),
    );
    for (const { fd } of senders) expect(fd).toBeGreaterThan(0);
    const sockets: { id: number; fd: number; text: string }[] = [];
    const count = 1 + random.below(6);
    for (let i = 0; i < count; i++) {
      const address = BINDABLE[random.below(BINDABLE.length)];
      const only6 = address.includes(":") && !address.startsWith("::ffff") && random.below(3) === 0;
      const wanted = wish(address, { reuseAddress: true, only6, device: random.below(4) === 0 ? LO : 0 });
      const fd = kernel.bind(wanted, PORT);
      expect(fd).toBeGreaterThan(0);
      const socket = { id: world.bind(wanted), fd, text: describeWish(wanted) };
      sockets.push(socket);
      if (wanted.device !== 0 || random.below(3) > 0) continue;
      const remote = peers(address === "::" || address.startsWith("2001") ? "::" : "0.0.0.0");
      const to = familyOf(address) === familyOf(remote) || address === "0.0.0.0" ? remote : "::ffff:198.18.0.10";
      const port = SOURCE_PORTS[random.below(2)];
      if (kernel.connect(fd, wanted.family, to, port) < 0) continue;
      world.connect(socket.id, kernel.localWords(fd), to.replace("::ffff:", ""), port);
      socket.text += ` connected ${to} ${port}`;
    }
    if (random.below(2) === 0) {
      const [gone] = sockets.splice(random.below(sockets.length), 1);
      world.find("198.18.0.1", 1, "198.18.0.1");
      world.close(gone.id);
      sys.close(gone.fd);
    }
    const wrong: string[] = [];
    for (const sender of senders) {
      for (const destination of LOCALS) {
        if (familyOf(destination) !== familyOf(sender.address)) continue;
        expect(kernel.send(sender.fd, destination, PORT)).toBe(1);
        const got = sockets.findIndex(({ fd }) => kernel.take(fd));
        const mine = sockets.findIndex(({ id }) => id === world.find(sender.address, sender.port, destination));
        if (got !== mine) {
          const history = sockets.map(({ text }, i) => `${i} ${text}`).join("; ");
          wrong.push(`${history}: ${sender.address} ${sender.port} > ${destination}: kernel ${got}, lookup ${mine}`);
        }
      }
    }
    for (const { fd } of [...sockets, ...senders]) sys.close(fd);
    return wrong;
  }

  test("wildcards, addresses, mapped addresses, devices, connections, closed sockets: 400 random scenarios", () => {
    const random = new Random(7);
    const wrong: string[] = [];
    for (let i = 0; i < 400; i++) wrong.push(...scenario(random));
    expect(wrong).toEqual([]);
  });
});

describe("devices", () => {
  test("a socket bound to another interface is not found, one bound to this is preferred", () => {
    const world = new World();
    const any = world.bind(wish("0.0.0.0", { reuseAddress: true }));
    const here = world.bind(wish("0.0.0.0", { reuseAddress: true, device: 3 }));
    const there = world.bind(wish("198.18.0.1", { reuseAddress: true, device: 4 }));
    expect(world.find("198.18.0.2", 1, "198.18.0.1", 0, 3)).toBe(here);
    expect(world.find("198.18.0.2", 1, "198.18.0.1", 0, 4)).toBe(there);
    expect(world.find("198.18.0.2", 1, "198.18.0.10", 0, 4)).toBe(any);
    world.close(any);
    expect(world.find("198.18.0.2", 1, "198.18.0.10", 0, 4)).toBe(NOBODY);
  });
});

describe.each([
  ["IPv4", "0.0.0.0", "198.18.0.2", "198.18.0.1"],
  ["IPv4, one address", "198.18.0.1", "198.18.0.2", "198.18.0.1"],
  ["IPv6", "::", "2001:db8::2", "2001:db8::1"],
  ["IPv6, one address", "2001:db8::1", "2001:db8::2", "2001:db8::1"],
  ["IPv4 at IPv6 sockets", "::", "198.18.0.2", "198.18.0.1"],
])("reuseport groups: %s", (_, address, source, destination) => {
  const shared = wish(address, { reusePort: true });
  const N = 8000;

  const tally = (world: World, port = 0): Map<number, number> => {
    const counts = new Map<number, number>();
    for (let i = 0; i < N; i++) {
      const id = world.find(source, 1 + i, destination, port);
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
    return counts;
  };

  test("the hash spreads flows evenly, and a flow stays with its socket", () => {
    for (const members of [1, 2, 3, 7, 16, 100]) {
      const world = new World();
      const ids = Array.from({ length: members }, () => world.bind(shared));
      const counts = tally(world);
      expect([...counts.keys()].toSorted((a, b) => a - b)).toEqual(ids);
      const expected = N / members;
      // Chi-squared with members - 1 degrees of freedom: mean members - 1, five standard deviations above it.
      const chi = [...counts.values()].reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
      expect(chi).toBeLessThan(members - 1 + 5 * Math.sqrt(2 * members));
      expect(tally(world)).toEqual(counts);
    }
  });

  test("a member that leaves gives its place to the last: only flows of those two move", () => {
    const world = new World();
    const ids = Array.from({ length: 4 }, () => world.bind(shared));
    const before = Array.from({ length: 500 }, (_, i) => world.find(source, 1 + i, destination));
    world.close(ids[1]);
    const after = before.map((_, i) => world.find(source, 1 + i, destination));
    expect(new Set(after)).toEqual(new Set([ids[0], ids[3], ids[2]]));
    // The numbers are 0: first, 1: last, 2: third now, and the hash is scaled to three instead of four.
    const scale = (index: number, hashMembers: number, members: number): [number, number] => [
      Math.floor((index * members) / hashMembers),
      Math.floor(((index + 1) * members - 1e-9) / hashMembers),
    ];
    const order = [ids[0], ids[3], ids[2]];
    for (const [i, id] of before.entries()) {
      expect(scale(ids.indexOf(id), 4, 3)).toContain(order.indexOf(after[i]));
    }
  });

  test("SO_INCOMING_CPU: the member on the CPU of the queue; where there is none, the hash", () => {
    const world = new World();
    const [four, five, none] = [world.bind(shared, 4), world.bind(shared, 5), world.bind(shared)];
    expect([...tally(world, 0)]).toEqual([[four, N]]);
    expect([...tally(world, 1)]).toEqual([[five, N]]);
    world.close(five);
    expect(new Set(tally(world, 1).keys())).toEqual(new Set([four, none]));
    // Set later, as setsockopt would.
    world.table.mutex.hold(() => {
      world.table.set(none, INCOMING_CPU, 5);
      world.table.changed(none);
    });
    expect([...tally(world, 1)]).toEqual([[none, N]]);
  });

  test("NAPI ID before CPU", () => {
    const world = new World();
    const cpu = world.bind(shared, 4);
    const napi = world.bind(shared, -1, 500);
    const other = world.bind(shared, 5, 0);
    expect([...tally(world, 0)]).toEqual([[napi, N]]);
    expect([...tally(world, 1)]).toEqual([[other, N]]);
    world.close(napi);
    expect([...tally(world, 0)]).toEqual([[cpu, N]]);
  });

  test("a connected member gets its peer's datagrams and no others", () => {
    const world = new World();
    const [a, b, c] = [world.bind(shared, 4), world.bind(shared), world.bind(shared)];
    world.connect(b, words(destination), source, 77);
    expect(world.find(source, 77, destination)).toBe(b);
    expect(tally(world, 0).get(a)).toBe(N - 1);
    expect(new Set(tally(world, 1).keys())).toEqual(new Set([a, b, c]));
    expect(tally(world, 1).get(b)).toBe(1);
    world.connect(a, words(destination), source, 78);
    world.connect(c, words(destination), source, 79);
    expect(world.find(source, 80, destination)).toBe(NOBODY);
    expect(world.find(source, 79, destination)).toBe(c);
  });

  test("two on one 4-tuple: the later one; when it closes, the earlier", () => {
    const world = new World();
    const [a, b, c] = [world.bind(shared), world.bind(shared), world.bind(shared)];
    for (const id of [a, b, c]) {
      world.connect(id, words(destination), source, 77);
      expect(world.find(source, 77, destination)).toBe(id);
    }
    world.close(c);
    expect([a, b]).toContain(world.find(source, 77, destination));
    world.close(a);
    expect(world.find(source, 77, destination)).toBe(b);
    world.close(b);
    expect(world.find(source, 77, destination)).toBe(NOBODY);
  });
});

describe("changes", () => {
  test("more than the log holds between two looks: everything is found as it is now", () => {
    const world = new World();
    const kept = world.bind(wish("198.18.0.1", { reuseAddress: true }));
    for (let i = 0; i < 3000; i++) world.close(world.bind(wish("0.0.0.0", { reuseAddress: true })));
    const any = world.bind(wish("0.0.0.0", { reuseAddress: true }));
    expect(world.find("198.18.0.2", 1, "198.18.0.1")).toBe(kept);
    expect(world.find("198.18.0.2", 1, "198.18.0.10")).toBe(any);
    expect(world.lookup.isStale()).toBe(false);
  });
});
