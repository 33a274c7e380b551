/** What is refused before the kernel is asked, and small helpers: no privilege needed. */
import { describe, expect, test } from "bun:test";
import {
  highWord,
  interfaceIndex,
  lowWord,
  PAGE_SIZE,
  SharedArea,
  type SysError,
  sys,
  Umem,
  type UmemOptions,
  u64,
  unalignedAddress,
  unalignedChunk,
  unalignedOffset,
  Xsk,
  type XskOptions,
} from "af-xdp-bindings";

describe("UMEM options", () => {
  const refused: [Partial<UmemOptions>, string][] = [
    [{ chunks: 0 }, "chunks 0"],
    [{ chunks: 1.5 }, "chunks 1.5"],
    [{ chunkSize: 1024 }, "chunkSize 1024: in [2048"],
    [{ chunkSize: PAGE_SIZE * 2 }, "the page size"],
    [{ chunkSize: 3000 }, "a power of two, unless"],
    [{ chunkSize: 2047, unaligned: true }, "chunkSize 2047"],
    [{ chunks: 2 ** 20 + 1 }, "more than 2 GiB"],
    [{ headroom: -1 }, "headroom -1"],
    [{ headroom: 2048 - 256 }, "headroom 1792: in [0, 1792)"],
    [{ txMetadata: 20 }, "txMetadata 20"],
    [{ txMetadata: 16 }, "txMetadata 16"],
    [{ txMetadata: 256 }, "txMetadata 256"],
    [{ softwareChecksum: true }, "needs txMetadata"],
    [{ softwareChecksum: true, txMetadata: 24, mode: "zerocopy" }, "not with mode zerocopy"],
    [{ buffer: new SharedArrayBuffer(4096) }, "do not fit"],
  ];
  test.each(refused)("%o", (options, message) => {
    expect(() => new Umem({ chunks: 16, ...options })).toThrow(message);
  });

  test("accepted at the limits", () => {
    expect(new Umem({ chunks: 1, headroom: 1791 }).frameRoom).toBe(1);
    expect(new Umem({ chunks: 3, chunkSize: 2049, unaligned: true }).memory.byteLength).toBe(6147);
    expect(new Umem({ chunks: 1, txMetadata: 248, chunkSize: PAGE_SIZE }).txMetadata).toBe(248);
  });
});

describe("XSK options", () => {
  const refused: [Partial<XskOptions>, string][] = [
    [{ ifindex: 0 }, "ifindex 0"],
    [{ queue: -1 }, "queue -1"],
    [{ queue: 65536 }, "queue 65536"],
    [{ rxSize: 100 }, "rxSize 100: 0 or a power of two"],
    [{ txSize: 2 ** 25 }, "txSize 33554432"],
    [{ fillSize: -2 }, "fillSize -2"],
    [{ completionSize: 0.5 }, "completionSize 0.5"],
    [{ rxSize: 0, txSize: 0 }, "needs one of the rings"],
    [{ maxTxBudget: 31 }, "maxTxBudget 31"],
    [{ maxTxBudget: 128, txSize: 64 }, "maxTxBudget 128: in [32, txSize 64]"],
    [{ busyPoll: { usecs: -1, budget: 8 } }, "busyPoll"],
    [{ busyPoll: { usecs: 1, budget: 70_000 } }, "busyPoll"],
  ];
  test.each(refused)("%o", (options, message) => {
    const umem = new Umem({ chunks: 16 });
    expect(() => new Xsk(umem, { ifindex: 1, ...options })).toThrow(message);
  });
});

test("a shared area is page aligned, whole pages long, and zeros after detach", () => {
  const area = new SharedArea(5000);
  expect([area.address % PAGE_SIZE, area.byteLength % PAGE_SIZE, area.byteLength >= 5000]).toEqual([0, 0, true]);
  const bytes = new Uint8Array(area.buffer, area.byteOffset, area.byteLength);
  expect(sys.addressOf(bytes)).toBe(area.address);
  bytes.fill(9);
  area.detach();
  expect(bytes.every((byte) => byte === 0)).toBe(true);
});

/** As rings, clocks and event lists are held: an array that never changes, and code that uses it all the time. */
class Box {
  readonly words = new Int32Array(4);
  readonly address = sys.addressOf(this.words);

  next(): void {
    this.words[0]++;
  }
}
const box = new Box();

test("an address stays that of the array, whatever the compiler makes of it", () => {
  for (let i = 0; i < 3_000_000; i++) box.next();
  expect(sys.transientAddressOf(box.words)).toBe(box.address);
});

test("64-bit values in two words", () => {
  for (const value of [0, 1, 2 ** 32 - 1, 2 ** 32, 0x180000000, 2 ** 47 + 12345, 2 ** 53 - 1]) {
    expect(u64(lowWord(value), highWord(value))).toBe(value);
    expect(u64(lowWord(value) | 0, highWord(value) | 0)).toBe(value);
  }
  // Offset 0x8001 from chunk 0x123_8000_0000.
  const [low, high] = [0x80000000 | 0, (0x8001 << 16) | 0x123];
  expect([unalignedChunk(low, high), unalignedOffset(high)]).toEqual([0x12380000000, 0x8001]);
  expect(unalignedAddress(low, high)).toBe(0x12380000000 + 0x8001);
});

test("interface index by name", () => {
  expect(interfaceIndex("lo")).toBe(1);
  expect(() => interfaceIndex("x".repeat(16))).toThrow(RangeError);
  try {
    interfaceIndex("no-such-if");
    expect.unreachable();
  } catch (error) {
    expect((error as SysError).code).toBe("ENODEV");
  }
});
