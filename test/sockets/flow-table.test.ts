import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { hashKeys, mix } from "../../sockets/flow-hash.ts";
import { FLOW_VALUE_MAX, FLOWS_MAX, FlowTable, slotsFor } from "../../sockets/flow-table.ts";
import { FlowTable6 } from "../../sockets/flow-table6.ts";

const TCP = 6;
const UDP = 17;
const SEED = 0x5eed;

/** FlowTable's hash, worked out again: where a search begins in a table of `slots`. */
function homeOf(seed: number, slots: number, remote: number, localPort: number, remotePort: number): number {
  const keys = hashKeys(seed, 3);
  const ports = (localPort << 16) | remotePort;
  const hash = mix(mix(mix(0, 1, keys[0], keys[1]), remote, keys[2], keys[3]), ports, keys[4], keys[5]);
  return (hash ^ (hash >>> 13)) & (slots - 1);
}

/** What both tables do, for IPv4 addresses; FlowTable6 sees them as the last words of IPv6 ones. */
interface Table {
  readonly count: number;
  readonly full: number;
  lookup(protocol: number, local: number, localPort: number, remote: number, remotePort: number): number;
  insert(
    protocol: number,
    local: number,
    localPort: number,
    remote: number,
    remotePort: number,
    value: number,
  ): boolean;
  remove(protocol: number, local: number, localPort: number, remote: number, remotePort: number): boolean;
}

class Mapped6 implements Table {
  private readonly table: FlowTable6;
  constructor(flows: number, flowsMax: number, seed: number) {
    this.table = new FlowTable6(flows, flowsMax, seed);
  }
  get count() {
    return this.table.count;
  }
  get full() {
    return this.table.full;
  }
  private load(local: number, remote: number): FlowTable6 {
    const bytes = new DataView(new ArrayBuffer(32));
    bytes.setInt32(0, 0x20010db8);
    bytes.setInt32(12, local);
    bytes.setInt32(16, 0x20010db8);
    bytes.setInt32(28, remote);
    this.table.loadKey(new Uint8Array(bytes.buffer), 0, new Uint8Array(bytes.buffer), 16);
    return this.table;
  }
  lookup(protocol: number, local: number, localPort: number, remote: number, remotePort: number) {
    return this.load(local, remote).lookup(protocol, localPort, remotePort);
  }
  insert(protocol: number, local: number, localPort: number, remote: number, remotePort: number, value: number) {
    return this.load(local, remote).insert(protocol, localPort, remotePort, value);
  }
  remove(protocol: number, local: number, localPort: number, remote: number, remotePort: number) {
    return this.load(local, remote).remove(protocol, localPort, remotePort);
  }
}

const kinds = [
  { name: "IPv4", make: (flows: number, max: number, seed = SEED): Table => new FlowTable(flows, max, seed) },
  { name: "IPv6", make: (flows: number, max: number, seed = SEED): Table => new Mapped6(flows, max, seed) },
];

describe.each(kinds)("$name", ({ make }) => {
  test("each part of the key counts", () => {
    const table = make(16, 16);
    const keys: [number, number, number, number, number][] = [
      [TCP, 1, 80, 2, 4000],
      [UDP, 1, 80, 2, 4000],
      [TCP, -1, 80, 2, 4000],
      [TCP, 1, 65535, 2, 4000],
      [TCP, 1, 80, 0x80000000 | 0, 4000],
      [TCP, 1, 80, 2, 65535],
      [TCP, 2, 80, 1, 4000],
      [TCP, 1, 4000, 2, 80],
      [254, 0, 65535, 0, 65535],
      [0, 0, 0, 0, 0],
    ];
    keys.forEach((key, i) => {
      expect(table.lookup(...key)).toBe(-1);
      expect(table.insert(...key, i)).toBe(true);
    });
    keys.forEach((key, i) => {
      expect(table.lookup(...key)).toBe(i);
    });
    expect(table.count).toBe(keys.length);
  });

  test("the largest value, under the largest protocol", () => {
    const table = make(1, 1);
    expect(table.insert(254, -1, 65535, -1, 65535, FLOW_VALUE_MAX)).toBe(true);
    expect(table.lookup(254, -1, 65535, -1, 65535)).toBe(FLOW_VALUE_MAX);
  });

  test("a second insert replaces the value", () => {
    const table = make(1, 1);
    expect(table.insert(TCP, 1, 2, 3, 4, 5)).toBe(true);
    expect(table.insert(TCP, 1, 2, 3, 4, 6)).toBe(true);
    expect([table.lookup(TCP, 1, 2, 3, 4), table.count, table.full]).toEqual([6, 1, 0]);
  });

  test("grows to its maximum, refuses more, and takes one again when one is gone", () => {
    const table = make(1, 1000);
    for (let i = 0; i < 1000; i++) expect(table.insert(UDP, 1, 53, i * 7, i, i)).toBe(true);
    expect(table.insert(UDP, 1, 53, -1, 0, 1)).toBe(false);
    expect([table.count, table.full]).toEqual([1000, 1]);
    expect(table.insert(UDP, 1, 53, 0, 0, 9)).toBe(true);
    for (let i = 1; i < 1000; i++) expect(table.lookup(UDP, 1, 53, i * 7, i)).toBe(i);
    expect(table.remove(UDP, 1, 53, 7, 1)).toBe(true);
    expect(table.remove(UDP, 1, 53, 7, 1)).toBe(false);
    expect(table.insert(UDP, 1, 53, -1, 0, 1)).toBe(true);
    expect([table.count, table.full]).toEqual([1000, 1]);
  });

  test("against a Map, over few keys and many", () => {
    for (const keys of [20, 200, 3000]) {
      const command = fc.record({
        op: fc.constantFrom("insert", "insert", "remove", "lookup"),
        key: fc.nat(keys - 1),
        value: fc.nat(FLOW_VALUE_MAX),
      });
      fc.assert(
        fc.property(fc.integer(), fc.array(command, { maxLength: 400, size: "max" }), (seed, commands) => {
          const table = make(1, 150, seed);
          const model = new Map<number, number>();
          for (const { op, key, value } of commands) {
            // The bits of the key spread over the fields.
            const local = key & 1;
            const port = key >> 4;
            const remote = (key >> 1) & 7;
            if (op === "lookup") expect(table.lookup(TCP, local, 80, remote, port)).toBe(model.get(key) ?? -1);
            else if (op === "remove") expect(table.remove(TCP, local, 80, remote, port)).toBe(model.delete(key));
            else {
              const fits = model.has(key) || model.size < 150;
              expect(table.insert(TCP, local, 80, remote, port, value)).toBe(fits);
              if (fits) model.set(key, value);
            }
            expect(table.count).toBe(model.size);
          }
          for (const [key, value] of model)
            expect(table.lookup(TCP, key & 1, 80, (key >> 1) & 7, key >> 4)).toBe(value);
        }),
        { numRuns: 60 },
      );
    }
  });
});

describe("keys that share a home slot", () => {
  /** Remote ports whose search begins at the same slot of a table of `slots`, by FlowTable's own hash. */
  function colliding(slots: number, home: number, count: number): number[] {
    const ports: number[] = [];
    for (let port = 0; port < 65536 && ports.length < count; port++)
      if (homeOf(SEED, slots, 2, 80, port) === home) ports.push(port);
    return ports;
  }

  test("are all found, through every removal, also around the table's end", () => {
    const slots = slotsFor(20);
    for (const home of [3, slots - 2]) {
      const here = colliding(slots, home, 12);
      const next = colliding(slots, (home + 1) & (slots - 1), 8);
      expect(here.length + next.length).toBe(20);
      fc.assert(
        fc.property(fc.shuffledSubarray([...here, ...next], { minLength: 20 }), fc.nat(), (ports, shift) => {
          const table = new FlowTable(20, 20, SEED);
          for (const port of ports) table.insert(TCP, 1, 80, 2, port, port);
          const left = new Set(ports);
          for (let i = 0; i < ports.length; i++) {
            const gone = ports[(i * 7 + shift) % ports.length];
            expect(table.remove(TCP, 1, 80, 2, gone)).toBe(true);
            left.delete(gone);
            for (const port of ports) expect(table.lookup(TCP, 1, 80, 2, port)).toBe(left.has(port) ? port : -1);
          }
          expect(table.count).toBe(0);
        }),
        { numRuns: 50 },
      );
    }
  });

  test("under another seed do not collide", () => {
    const slots = 4096;
    const ports = colliding(slots, 0, 16);
    expect(ports.length).toBe(16);
    const homes = ports.map((port) => homeOf(SEED + 1, slots, 2, 80, port));
    expect(new Set(homes).size).toBeGreaterThan(12);
  });
});

test("regular addresses and ports spread as random ones would", () => {
  const slots = 1 << 16;
  for (const seed of [1, 2, 3]) {
    const used = new Set<number>();
    // A /24 of clients with 256 consecutive ports each: one key a slot.
    for (let host = 0; host < 256; host++)
      for (let port = 0; port < 256; port++) used.add(homeOf(seed, slots, (0xc6130000 | 0) + host, 53, 40000 + port));
    // 1 - 1/e of the slots, and a hundredth either way.
    expect(used.size / slots).toBeWithin(0.62, 0.645);
  }
});

test("sizes", () => {
  expect(slotsFor(1)).toBe(16);
  expect(slotsFor(6)).toBe(16);
  expect(slotsFor(7)).toBe(32);
  for (const [flows, max] of [
    [0, 1],
    [2, 1],
    [1, FLOWS_MAX + 1],
    [1.5, 2],
  ])
    expect(() => new FlowTable(flows, max, 1)).toThrow(RangeError);
});
