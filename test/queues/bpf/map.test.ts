/** Maps of every type through the calls a program's user makes. */
import { describe, expect, test } from "bun:test";
import {
  Assembler,
  BPF_EXIST,
  BPF_F_MMAPABLE,
  BPF_NOEXIST,
  BpfMap,
  createMap,
  loadXdp,
  MappedArray,
  type MapTypeName,
  r0,
  r1,
  r2,
  r10,
  SysError,
  sys,
  testRunXdp,
  XDP_PASS,
  XskMap,
} from "af-xdp-bindings";
import { parseCpuList } from "../../../queues/af-xdp-bindings/src/bpf/map.ts";
import { requires } from "../../support/hosts.ts";
import { BpfFs } from "./bpffs.ts";

const key = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
const value = (...bytes: number[]): Uint8Array => Uint8Array.of(...bytes);
const hex = (list: Iterable<Uint8Array>): string[] => [...list].map((bytes) => bytes.toHex()).sort();

/** The SysError a call throws. */
function failure(call: () => unknown): SysError {
  try {
    call();
  } catch (error) {
    if (error instanceof SysError) return error;
    throw error;
  }
  throw new Error("did not throw");
}

test("CPU lists count from 0 to their highest", () => {
  expect(parseCpuList("0\n")).toBe(1);
  expect(parseCpuList("0-3")).toBe(4);
  expect(parseCpuList("0-1,8-15\n")).toBe(16);
  for (const bad of ["", "x", "1-", "0--1"]) expect(() => parseCpuList(bad)).toThrow("not a CPU list");
});

describe.skipIf(requires("bpf") !== "")("maps", () => {
  const hash = (type: MapTypeName = "BPF_MAP_TYPE_HASH", maxEntries = 8) =>
    createMap({ type, keySize: 4, valueSize: 3, maxEntries, name: "table.1" });

  test("a hash: create, replace, read, delete", () => {
    using map = hash();
    expect(map.info).toMatchObject({ type: 1, keySize: 4, valueSize: 3, maxEntries: 8, name: "table.1" });
    expect(map.lookup(key(1))).toBeUndefined();
    map.update(key(1), value(1, 2, 3));
    map.update(key(2), value(4, 5, 6), BPF_NOEXIST);
    map.update(key(1), value(7, 8, 9), BPF_EXIST);
    expect(map.lookup(key(1))).toEqual(value(7, 8, 9));
    expect(hex(map.keys())).toEqual(["01000000", "02000000"]);
    expect(hex([...map.entries()].map(([, entry]) => entry))).toEqual(["040506", "070809"]);
    expect(map.lookupAndDelete(key(1))).toEqual(value(7, 8, 9));
    expect(map.lookupAndDelete(key(1))).toBeUndefined();
    expect(map.delete(key(2))).toBe(true);
    expect(map.delete(key(2))).toBe(false);
    expect([...map.keys()]).toEqual([]);
  });

  test("update flags and a full table throw by name", () => {
    using map = hash();
    map.update(key(1), value(0, 0, 0));
    expect(failure(() => map.update(key(1), value(0, 0, 0), BPF_NOEXIST)).code).toBe("EEXIST");
    expect(failure(() => map.update(key(9), value(0, 0, 0), BPF_EXIST)).code).toBe("ENOENT");
    for (let i = 2; i <= 8; i++) map.update(key(i), value(0, 0, 0));
    const full = failure(() => map.update(key(9), value(0, 0, 0)));
    expect(full).toMatchObject({ code: "E2BIG", syscall: "bpf(BPF_MAP_UPDATE_ELEM)" });
    expect(full.hint).toContain("full");
  });

  test("sizes are checked before the kernel reads past a buffer", () => {
    using map = hash();
    expect(() => map.update(new Uint8Array(3), value(0, 0, 0))).toThrow("key of 3 bytes, the map's are 4");
    expect(() => map.update(key(1), value(0, 0))).toThrow("value of 2 bytes, the map's are 3");
    expect(() => map.lookup(new Uint8Array(5))).toThrow(RangeError);
    expect(() =>
      createMap({ type: "BPF_MAP_TYPE_ARRAY", keySize: 4, valueSize: 4, maxEntries: 1, name: "a b" }),
    ).toThrow("BPF object name");
    const bad = failure(() => createMap({ type: "BPF_MAP_TYPE_ARRAY", keySize: 8, valueSize: 4, maxEntries: 1 }));
    expect(bad).toMatchObject({ code: "EINVAL", syscall: "bpf(BPF_MAP_CREATE)" });
  });

  test("batches", () => {
    using map = hash();
    const keys = new Uint8Array(Uint32Array.of(1, 2, 3).buffer);
    map.updateBatch(keys, value(1, 1, 1, 2, 2, 2, 3, 3, 3));
    expect(map.lookup(key(2))).toEqual(value(2, 2, 2));
    expect(() => map.updateBatch(keys, value(1, 1, 1))).toThrow("values: 9 bytes");
    map.deleteBatch(keys.subarray(4));
    expect(hex(map.keys())).toEqual(["01000000"]);
    const error = failure(() => map.deleteBatch(keys));
    expect(error.code).toBe("ENOENT");
    expect(error.message).toContain("after 1 of 3");
  });

  test("an array has all its entries and keeps them", () => {
    using map = createMap({ type: "BPF_MAP_TYPE_ARRAY", keySize: 4, valueSize: 3, maxEntries: 4 });
    expect(map.lookup(key(3))).toEqual(value(0, 0, 0));
    expect(map.lookup(key(4))).toBeUndefined();
    expect([...map.keys()].length).toBe(4);
    expect(failure(() => map.delete(key(0)))).toMatchObject({ code: "EINVAL" });
    expect(failure(() => map.update(key(4), value(0, 0, 0)))).toMatchObject({ code: "E2BIG" });
  });

  test("an LRU hash forgets instead of filling up", () => {
    using map = hash("BPF_MAP_TYPE_LRU_HASH", 16);
    for (let i = 0; i < 1000; i++) map.update(key(i), value(0, 0, 0));
    const kept = [...map.keys()].length;
    expect(kept).toBeGreaterThan(0);
    expect(kept).toBeLessThanOrEqual(16);
    expect(map.lookup(key(999))).toBeDefined();
  });

  for (const type of [
    "BPF_MAP_TYPE_PERCPU_ARRAY",
    "BPF_MAP_TYPE_PERCPU_HASH",
    "BPF_MAP_TYPE_LRU_PERCPU_HASH",
  ] as const) {
    test(`${type}: a value for each CPU, each rounded up to 8 bytes`, () => {
      using map = createMap({ type, keySize: 4, valueSize: 12, maxEntries: 2 });
      expect(map.copies).toBeGreaterThanOrEqual(navigator.hardwareConcurrency);
      expect(map.stride).toBe(16);
      const all = new Uint8Array(map.valueBytes);
      for (let cpu = 0; cpu < map.copies; cpu++) all.fill(cpu + 1, cpu * map.stride, cpu * map.stride + 12);
      map.update(key(1), all);
      expect(map.lookup(key(1))).toEqual(all);
      expect(() => map.update(key(1), new Uint8Array(12))).toThrow(`the map's are ${map.valueBytes}`);
    });
  }

  test("a program counts in its CPU's copy", () => {
    using map = createMap({ type: "BPF_MAP_TYPE_PERCPU_ARRAY", keySize: 4, valueSize: 8, maxEntries: 1 });
    const code = new Assembler()
      .store32(r10, -4, 0)
      .mov(r2, r10)
      .add(r2, -4)
      .mapFd(r1, map)
      .call("map_lookup_elem")
      .jeq(r0, 0, "out")
      .load64(r1, r0)
      .add(r1, 1)
      .store64(r0, 0, r1)
      .label("out")
      .mov(r0, XDP_PASS)
      .exit();
    using program = loadXdp(code);
    for (let i = 0; i < 100; i++) testRunXdp(program, new Uint8Array(64));
    const counts = new BigUint64Array((map.lookup(key(0)) as Uint8Array).buffer);
    expect(counts.length).toBe(map.copies);
    expect(counts.reduce((sum, count) => sum + count)).toBe(100n);
  });

  test("an array mapped into a SharedArrayBuffer: programs, system calls and JavaScript see the same bytes", () => {
    const shape = { type: "BPF_MAP_TYPE_ARRAY", keySize: 4, valueSize: 12, maxEntries: 3 } as const;
    using map = createMap({ ...shape, flags: BPF_F_MMAPABLE });
    const mapped = new MappedArray(map);
    expect(mapped.stride).toBe(16);
    const words = new Uint32Array(mapped.buffer, mapped.byteOffset, (3 * mapped.stride) / 4);
    const code = new Assembler()
      .store32(r10, -4, 2)
      .mov(r2, r10)
      .add(r2, -4)
      .mapFd(r1, map)
      .call("map_lookup_elem")
      .jeq(r0, 0, "out")
      .mov(r1, 1)
      .atomicAdd32(r0, 8, r1)
      .label("out")
      .mov(r0, XDP_PASS)
      .exit();
    using program = loadXdp(code);
    Atomics.store(words, 2 * 4 + 2, 41);
    testRunXdp(program, new Uint8Array(64));
    expect(Atomics.load(words, 2 * 4 + 2)).toBe(42);
    expect(map.lookup(key(2))?.toHex()).toBe("00000000000000002a000000");
    map.update(key(1), new Uint8Array(12).fill(1));
    expect(words[4]).toBe(0x01010101);
    mapped.close();
    expect(words[4]).toBe(0);
    expect(map.lookup(key(1))?.[0]).toBe(1);

    using plain = createMap({ ...shape, name: "plain" });
    expect(() => new MappedArray(plain)).toThrow('map "plain" is not BPF_F_MMAPABLE');
  });

  test("a pinned map opens again, and its entries are still there", () => {
    using fs = new BpfFs();
    {
      using map = hash();
      map.update(key(1), value(1, 2, 3));
      map.pin(fs.path("table"));
      expect(failure(() => map.pin(fs.path("table")))).toMatchObject({ code: "EEXIST" });
    }
    using again = BpfMap.open(fs.path("table"));
    expect(again.info.name).toBe("table.1");
    expect(again.lookup(key(1))).toEqual(value(1, 2, 3));
    expect(failure(() => BpfMap.open(fs.path("nothing")))).toMatchObject({
      code: "ENOENT",
      syscall: "bpf(BPF_OBJ_GET)",
    });
    expect(failure(() => again.pin("/tmp/not-bpffs")).hint).toContain("mount -t bpf");
  });

  test("a descriptor that is no map's is refused", () => {
    const socket = sys.socket(2, 2, 0);
    try {
      expect(failure(() => new BpfMap(socket))).toMatchObject({ code: "EINVAL" });
    } finally {
      sys.close(socket);
    }
    expect(failure(() => new BpfMap(socket))).toMatchObject({ code: "EBADFD" });
  });
});

describe.skipIf(requires("bpf", "af_xdp") !== "")("XSKMAP", () => {
  const AF_XDP = 44;
  const SOCK_RAW = 3;

  test("takes a socket at its queue, gives it up when told or when the socket closes", () => {
    using map = XskMap.create(2);
    const [first, second] = [sys.socket(AF_XDP, SOCK_RAW, 0), sys.socket(AF_XDP, SOCK_RAW, 0)];
    map.set(1, first);
    expect(failure(() => map.set(1, second, BPF_NOEXIST)).code).toBe("EEXIST");
    map.remove(1);
    map.remove(1);
    map.set(1, second, BPF_NOEXIST);
    expect(failure(() => map.set(2, first)).code).toBe("E2BIG");
    sys.close(second);
    map.set(1, first, BPF_NOEXIST);
    sys.close(first);
    expect(failure(() => map.lookup(new Uint8Array(4))).hint).toContain("cannot be read from user space");
  });

  test("refuses what is no AF_XDP socket", () => {
    using map = XskMap.create(1);
    const udp = sys.socket(2, 2, 0);
    try {
      const error = failure(() => map.set(0, udp));
      expect(error.code).toBe("EOPNOTSUPP");
      expect(error.hint).toContain("AF_XDP socket");
    } finally {
      sys.close(udp);
    }
  });

  test("from outside: a pin or a descriptor, if it is an XSKMAP's", () => {
    using fs = new BpfFs();
    using map = XskMap.create(3);
    map.pin(fs.path("xsks"));
    using opened = XskMap.open(fs.path("xsks"));
    expect(opened.info).toEqual(map.info);
    using array = createMap({ type: "BPF_MAP_TYPE_ARRAY", keySize: 4, valueSize: 4, maxEntries: 1 });
    expect(() => new XskMap(array.fd)).toThrow("is a map of type 2, not an XSKMAP");
  });
});
