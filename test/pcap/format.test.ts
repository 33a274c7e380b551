/** Capture files read and written: both formats, both byte orders, and tshark's opinion. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import type { Direction } from "../../queues/pcap/format.ts";
import { openCapture, readCapture } from "../../queues/pcap/reader.ts";
import type { ByteSource } from "../../queues/pcap/source.ts";
import { nanosHigh, nanosLow, TimeScale } from "../../queues/pcap/time.ts";
import { FileSink, PcapngWriter, PcapWriter } from "../../queues/pcap/writer.ts";
import { udpFrame } from "../support/frames.ts";
import { Blocks, concat, fields, pcapFile } from "./build.ts";
import { all, read, timeOf, tshark, withoutTshark } from "./read.ts";

const directory = mkdtempSync(join(tmpdir(), "lcore-pcap-"));
afterAll(() => rmSync(directory, { recursive: true }));
const file = (name: string): string => join(directory, name);
const put = (name: string, bytes: Uint8Array): string => {
  writeFileSync(file(name), bytes);
  return file(name);
};

const FRAME = udpFrame({ payload: "one" });
const OTHER = udpFrame({ payload: "another", source: "2001:db8::2", destination: "2001:db8::1" });
const MICRO = 0xa1b2c3d4;
const NANO = 0xa1b23c4d;
const NAMES = [
  ["little-endian", true],
  ["big-endian", false],
] as [string, boolean][];

describe.each(NAMES)("pcap, %s", (_, little) => {
  test("microseconds", () => {
    const { packets, rest, format } = read(
      pcapFile(little, MICRO, [
        [7, 999_999, FRAME],
        [0xffffffff, 0, OTHER, 9000],
      ]),
    );
    expect(packets).toEqual([
      { time: "7.999999000", hex: FRAME.toHex(), original: FRAME.length, interface: 0, direction: 0 },
      { time: "4294967295.000000000", hex: OTHER.toHex(), original: 9000, interface: 0, direction: 0 },
    ]);
    expect([rest, format]).toEqual(["", "pcap"]);
  });

  test("nanoseconds; a fraction that is more than a second", () => {
    const { packets } = read(
      pcapFile(little, NANO, [
        [7, 1, FRAME],
        [7, 1_000_000_002, FRAME],
      ]),
    );
    expect(packets.map(({ time }) => time)).toEqual(["7.000000001", "8.000000002"]);
  });

  test("no packets; a packet of no bytes; a frame check sequence announced", () => {
    expect(read(pcapFile(little, MICRO, [])).packets).toEqual([]);
    expect(read(pcapFile(little, MICRO, [[0, 0, new Uint8Array(0)]])).packets[0].hex).toBe("");
    expect(read(pcapFile(little, MICRO, [[0, 0, FRAME]], { linkType: 0x24000001 })).packets).toHaveLength(1);
  });
});

describe.each(NAMES)("pcapng, %s", (_, little) => {
  const b = new Blocks(little);

  test("packets of every kind, blocks of others between them", () => {
    const flags = (value: number): Uint8Array => fields(little, [[4, value]]);
    const comment = new TextEncoder().encode("note");
    const file = concat(
      b.section([[4, comment]]),
      b.interface([[2, comment], ...b.scale(9)], { snapLength: 60 }),
      b.interface(b.scale(6)),
      b.raw(4, new Uint8Array(8)),
      b.enhanced(0, 1_700_000_000_000_000_001n, FRAME, [
        [1, comment],
        [2, flags(0xffff0001)],
      ]),
      b.raw(0x40000bad, new Uint8Array(400_000)),
      b.enhanced(1, 1_700_000_000_000_001n, OTHER, [[2, flags(2)]], 9000),
      b.simple(FRAME.subarray(0, 40), 40),
      b.simple(OTHER.subarray(0, 60), 77),
      b.raw(5, new Uint8Array(12)),
      b.old(0, 5n, FRAME),
      b.raw(0x7fff_0000, new Uint8Array(4)),
      b.enhanced(0, 6n, new Uint8Array(0), [[2, flags(3)]]),
    );
    const { packets, rest, format } = read(file);
    expect(packets.map((p) => [p.time, p.hex, p.original, p.interface, p.direction])).toEqual([
      ["1700000000.000000001", FRAME.toHex(), FRAME.length, 0, 1],
      ["1700000000.000001000", OTHER.toHex(), 9000, 1, 2],
      ["1700000000.000001000", FRAME.subarray(0, 40).toHex(), 40, 0, 0],
      ["1700000000.000001000", OTHER.subarray(0, 60).toHex(), 77, 0, 0],
      ["0.000000005", FRAME.toHex(), FRAME.length, 0, 0],
      ["0.000000006", "", 0, 0, 0],
    ]);
    expect([rest, format]).toEqual(["", "pcapng"]);
  });

  test("units and offsets of time", () => {
    const stamps: [number, bigint | undefined, bigint, string][] = [
      [0, undefined, 5n, "5.000000000"],
      [3, undefined, 1_234_567n, "1234.567000000"],
      [9, 1_700_000_000n, 7n, "1700000000.000000007"],
      [9, undefined, 0xffffffffffffffffn, "18446744073.709551615"],
      [12, undefined, 1_999_999_999_999n, "1.999999999"],
      [0x80, undefined, 9n, "9.000000000"],
      [0x81, undefined, 3n, "1.500000000"],
      [0x80 + 20, undefined, (3n << 20n) + 1n, "3.000000953"],
      [0x80 + 32, undefined, (9n << 32n) + 0xffffffffn, "9.999999999"],
      [0x80 + 63, undefined, 3n << 62n, "1.500000000"],
      [6, -10n, 20_000_001n, "10.000001000"],
    ];
    for (const [resolution, offset, stamp, time] of stamps) {
      const bytes = concat(b.section(), b.interface(b.scale(resolution, offset)), b.enhanced(0, stamp, FRAME));
      expect([resolution, read(bytes).packets[0].time]).toEqual([resolution, time]);
    }
    // Microseconds unless said otherwise.
    expect(read(concat(b.section(), b.interface(), b.enhanced(0, 1_500_000n, FRAME))).packets[0].time).toBe(
      "1.500000000",
    );
  });

  test("sections in the other byte order, with interfaces of their own", () => {
    const other = new Blocks(!little);
    const { packets } = read(
      concat(
        ...[b.section(), b.interface(b.scale(9)), b.interface(b.scale(9)), b.enhanced(1, 1n, FRAME)],
        ...[other.section(), other.interface(b.scale(3)), other.enhanced(0, 1n, OTHER)],
        ...[b.section(), b.interface(b.scale(6)), b.enhanced(0, 1n, FRAME)],
      ),
    );
    expect(packets.map(({ time, interface: id }) => [time, id])).toEqual([
      ["0.000000001", 1],
      ["0.001000000", 2],
      ["0.000001000", 3],
    ]);
  });
});

describe("refused in words", () => {
  const b = new Blocks(true);
  const start = concat(b.section(), b.interface());
  test.each<[string, Uint8Array, string]>([
    ["nothing", new Uint8Array(3), "3 bytes: no capture"],
    ["text", new TextEncoder().encode("hello"), "begins with 68656c6c: neither pcap nor pcapng"],
    ["gzip", Uint8Array.of(0x1f, 0x8b, 8, 0), "gunzip it first"],
    ["zstd", Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd), "unzstd it first"],
    ["a modified pcap", Uint8Array.of(0x34, 0xcd, 0xb2, 0xa1), "editcap"],
    ["pcap of Linux cooked", pcapFile(true, MICRO, [], { linkType: 113 }), "LINUX_SLL (link type 113): only Ethernet"],
    ["pcap of a kind without a name", pcapFile(false, MICRO, [], { linkType: 4000 }), "packets of link type 4000"],
    ["pcap of another version", pcapFile(true, MICRO, [], { version: 3 }), "pcap version 3"],
    ["half a pcap header", pcapFile(true, MICRO, []).subarray(0, 20), "ends within the file header"],
    ["half a section header", b.section().subarray(0, 20), "ends within the section header"],
    [
      "a packet too long",
      pcapFile(true, MICRO, [[0, 0, new Uint8Array(262_145)]]),
      "byte 24: a packet of 262145 bytes",
    ],
    ["another version", b.section([], 2), "byte 0: pcapng version 2"],
    ["no byte order", b.raw(0x0a0d0d0a, new Uint8Array(16)), "no byte-order magic"],
    [
      "wireless",
      concat(b.section(), b.interface([], { linkType: 105 }), b.enhanced(0, 0n, FRAME)),
      "IEEE802_11 (link type 105)",
    ],
    ["an interface not described", concat(start, b.enhanced(1, 0n, FRAME)), "interface 1, which is not described"],
    ["a simple packet of none", concat(b.section(), b.simple(FRAME)), "interface 0, which is not described"],
    ["lengths that differ", concat(start, b.enhanced(0, 0n, FRAME).with(4, 0x40)), "byte 48: a block of"],
    ["a length of 13", concat(start, b.raw(77, new Uint8Array(0)).with(4, 13)), "byte 48: a block length of 13"],
    ["a length of 8", concat(start, b.raw(77, new Uint8Array(0)).with(4, 8)), "a block length of 8"],
    [
      "a short section",
      b.raw(
        0x0a0d0d0a,
        fields(true, [
          [4, 0x1a2b3c4d],
          [4, 1],
        ]),
      ),
      "a section header of 20 bytes",
    ],
    ["a short interface", concat(b.section(), b.raw(1, new Uint8Array(4))), "an interface description of 16 bytes"],
    ["a short packet", concat(start, b.raw(6, new Uint8Array(16))), "a packet block of 28 bytes"],
    ["a short simple packet", concat(start, b.raw(3, new Uint8Array(0))), "a packet block of 12 bytes"],
    ["more data than block", concat(start, b.enhanced(0, 0n, FRAME).with(20, 200)), "a packet of 200 bytes in a block"],
    ["more simple data than block", concat(start, b.simple(FRAME, 200)), "a packet of 200 bytes in a block"],
    ["an option too long", concat(b.section(), b.interface([[2, FRAME]]).with(18, 200)), "an option of 200 bytes"],
    ["a packet block too long", concat(start, b.enhanced(0, 0n, new Uint8Array(600_000))), "524288 is the most"],
    ["a packet too long for a block", concat(start, b.enhanced(0, 0n, new Uint8Array(262_148))), "262144 is the most"],
  ])("%s", (_, bytes, words) => {
    expect(() => read(bytes)).toThrow(words);
    // The same wherever reads happen to end.
    expect(() => read(bytes, 7)).toThrow(words);
  });

  test("with the file's name", () => {
    expect(() => openCapture(put("text", new TextEncoder().encode("hello")))).toThrow(`${file("text")}: begins with`);
    expect(() => openCapture(file("missing"))).toThrow("ENOENT");
    expect(() => openCapture(directory)).toThrow("EISDIR");
  });

  test("interfaces without end", () => {
    const many = concat(b.section(), ...Array.from({ length: 65_537 }, () => b.interface()));
    expect(() => read(many)).toThrow("more than 65536 interfaces");
  });
});

describe("files that end early", () => {
  const b = new Blocks(true);
  const files: [string, Uint8Array, number[]][] = [
    [
      "pcap",
      pcapFile(true, NANO, [
        [1, 0, FRAME],
        [2, 0, OTHER],
      ]),
      [24, 40 + FRAME.length],
    ],
    [
      "pcapng",
      concat(
        b.section(),
        b.interface(),
        b.enhanced(0, 1n, FRAME),
        b.raw(77, new Uint8Array(40)),
        b.enhanced(0, 2n, OTHER),
      ),
      [],
    ],
  ];
  test.each(files)("%s: whole packets are there, the rest is told", (_, bytes) => {
    const whole = read(bytes).packets;
    expect(whole).toHaveLength(2);
    const counts: number[] = [];
    for (let end = 48; end < bytes.length; end++) {
      const { packets, rest } = read(bytes.subarray(0, end), 11);
      expect(packets).toEqual(whole.slice(0, packets.length));
      counts.push(packets.length);
      const left = /byte (\d+): (\d+) bytes are left over$/.exec(rest);
      // Either the end fell between two blocks, or the words account for every byte.
      if (rest !== "") expect(Number(left?.[1]) + Number(left?.[2])).toBe(end);
      else expect(read(concat(bytes.subarray(0, end), bytes.subarray(end))).packets).toEqual(whole);
    }
    expect(new Set(counts)).toEqual(new Set([0, 1]));
    expect(counts).toEqual(counts.toSorted());
  });
});

describe("written", () => {
  const packet = fc.record({
    data: fc.uint8Array({ maxLength: 200 }),
    seconds: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    nanoseconds: fc.integer({ min: 0, max: 999_999_999 }),
    more: fc.nat(5000),
    direction: fc.constantFrom(0, 1, 2),
    interface: fc.nat(2),
  });

  test("pcapng comes back as it was", () => {
    fc.assert(
      fc.property(fc.array(packet, { maxLength: 20 }), (packets) => {
        const parts: Uint8Array[] = [];
        const writer = new PcapngWriter({ write: (bytes) => parts.push(bytes.slice()) }, { application: "test" });
        for (const name of ["a", "b", "c"]) writer.interface({ name, filter: "udp", comment: "none" });
        for (const p of packets) {
          const at = [p.interface, concat(new Uint8Array(3), p.data), 3, p.data.length] as const;
          writer.packet(...at, p.seconds, p.nanoseconds, p.data.length + p.more, p.direction as Direction);
        }
        const now = { seconds: 1_700_000_000, nanoseconds: 5 };
        writer.statistics(2, { at: now, start: now, received: 2 ** 40 + 1, accepted: 9, dropped: 3 });
        writer.flush();
        expect(read(concat(...parts), 100).packets).toEqual(
          packets.map((p) => ({
            time: timeOf(p.seconds, p.nanoseconds),
            hex: p.data.toHex(),
            original: p.data.length + p.more,
            interface: p.interface,
            direction: p.direction,
          })),
        );
      }),
      { numRuns: 200 },
    );
  });

  test("pcap comes back as it was", () => {
    fc.assert(
      fc.property(fc.array(packet, { maxLength: 20 }), (packets) => {
        const parts: Uint8Array[] = [];
        const writer = new PcapWriter({ write: (bytes) => parts.push(bytes.slice()) });
        for (const p of packets) {
          writer.packet(p.data, 0, p.data.length, p.seconds, p.nanoseconds, p.data.length + p.more);
        }
        writer.flush();
        expect(read(concat(...parts)).packets.map(({ time, hex, original }) => [time, hex, original])).toEqual(
          packets.map((p) => [timeOf(p.seconds, p.nanoseconds), p.data.toHex(), p.data.length + p.more]),
        );
      }),
      { numRuns: 100 },
    );
  });

  test("packets too long to be believed are not written", () => {
    const writer = new PcapngWriter({ write: () => {} });
    expect(() => writer.packet(0, new Uint8Array(300_000), 0, 300_000, 0, 0)).toThrow(RangeError);
  });

  test("halves of a stamp are exact", () => {
    const scale = new TimeScale(9);
    const out = { seconds: 0, nanoseconds: 0 };
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 34 - 1 }), fc.integer({ min: 0, max: 999_999_999 }), (s, ns) => {
        const both = BigInt(s) * 1_000_000_000n + BigInt(ns);
        expect([nanosHigh(s, ns), nanosLow(s, ns)]).toEqual([Number(both >> 32n), Number(both & 0xffffffffn)]);
        scale.convert(nanosHigh(s, ns), nanosLow(s, ns), out);
        expect(out).toEqual({ seconds: s, nanoseconds: ns });
      }),
    );
  });
});

test("a file of any length is read through one buffer, and again after rewind", () => {
  const b = new Blocks(true);
  const start = concat(b.section(), b.interface());
  const unit = b.enhanced(0, 1n, new Uint8Array(1432));
  const units = 200_000;
  const chunk = concat(...Array.from({ length: 100 }, () => unit));
  let position = 0;
  /** 300 MB that are nowhere. */
  const source: ByteSource = {
    read(into, at, length) {
      const left = start.length + units * unit.length - position;
      const from = position < start.length ? start : chunk;
      const skip = position < start.length ? position : (position - start.length) % chunk.length;
      const count = Math.min(length, left, from.length - skip);
      into.set(from.subarray(skip, skip + count), at);
      position += count;
      return count;
    },
    rewind: () => {
      position = 0;
    },
    close: () => {},
  };
  const reader = readCapture(source);
  const { bytes } = reader.record;
  expect(bytes.length).toBeLessThanOrEqual(1 << 20);
  let count = 0;
  while (reader.next()) count++;
  expect([count, reader.rest, reader.record.bytes === bytes]).toEqual([units, "", true]);
  reader.rewind();
  expect(reader.next()).toBe(true);
});

describe.skipIf(withoutTshark !== "")("beside tshark", () => {
  const FIELDS = [
    "frame.time_epoch",
    "frame.cap_len",
    "frame.len",
    "frame.interface_id",
    "frame.packet_flags_direction",
  ];

  test("it reads what is written here", () => {
    const path = file("written.pcapng");
    const sink = new FileSink(path);
    const writer = new PcapngWriter(sink, { application: "lcore", os: "Linux", comment: "a comment" });
    for (const name of ["veth0", "veth1"]) {
      writer.interface({
        name,
        description: "lcore 0, queue 1",
        snapLength: 65535,
        filter: "udp port 9000",
        comment: "c",
      });
    }
    writer.packet(0, FRAME, 0, FRAME.length, 1_700_000_000, 123_456_789, FRAME.length, 1);
    writer.packet(1, OTHER, 0, 60, 1_700_000_001, 1, OTHER.length, 2);
    const time = { seconds: 1_700_000_002, nanoseconds: 0 };
    writer.statistics(0, { at: time, start: time, received: 10, accepted: 8, dropped: 7, comment: "the end" });
    writer.flush();
    sink.close();
    expect(tshark(path, [...FIELDS, "frame.interface_name", "udp.dstport"])).toEqual([
      ["1700000000.123456789", "45", "45", "0", "0x00000001", "veth0", "9000"],
      ["1700000001.000000001", "60", String(OTHER.length), "1", "0x00000002", "veth1", "9000"],
    ]);
    const info = Bun.spawnSync(["capinfos", path]).stdout.toString();
    for (const words of [
      "Capture application: lcore",
      "Capture oper-sys:    Linux",
      "Capture comment:     a comment",
      "Filter string = udp port 9000",
      "Time precision = nanoseconds (9)",
      "Description = lcore 0, queue 1",
    ]) {
      expect(info).toContain(words);
    }
    expect(all(openCapture(path))).toHaveLength(2);
  });

  test("it sees in files of both orders what is seen here", () => {
    const data = [FRAME, OTHER, FRAME.subarray(0, 20)];
    const scales: [number, bigint?][] = [[9], [6], [3, 1_700_000_000n], [0x80 + 20], [0x80 + 32], [12], [0]];
    for (const little of [true, false]) {
      const b = new Blocks(little);
      const interfaces = scales.map((scale) => b.interface(b.scale(...scale)));
      const packets = scales.flatMap(([resolution], id) => {
        const decimal = resolution < 0x80;
        const unit = decimal ? 10n ** BigInt(resolution) : 2n ** BigInt(resolution - 0x80);
        return data.map((bytes, i) =>
          b.enhanced(id, 1_234n * unit + (BigInt(i * 77_777_777) % unit), bytes, [[2, fields(little, [[4, i]])]]),
        );
      });
      const path = put(`units-${little}.pcapng`, concat(b.section(), ...interfaces, ...packets, b.simple(FRAME)));
      const here = all(openCapture(path)).map((p) => [
        p.time,
        String(p.hex.length / 2),
        String(p.original),
        String(p.interface),
        p.direction === 0 ? "" : `0x0000000${p.direction}`,
      ]);
      // A simple packet has no time, and tshark gives none; flags of 0 it shows as a direction.
      const there = tshark(path, FIELDS).map((row) =>
        row.map((value, i) => (i === 4 && Number(value) === 0 ? "" : value)),
      );
      expect(here.slice(0, -1)).toEqual(there.slice(0, -1));
      expect(here.at(-1)?.slice(1)).toEqual(there.at(-1)?.slice(1) as string[]);
    }
  });

  test("files that its tools write are read here", () => {
    const source = put(
      "source.pcap",
      pcapFile(true, NANO, [
        [1_700_000_000, 123_456_789, FRAME],
        [1_700_000_001, 5, OTHER],
      ]),
    );
    const expected = all(openCapture(source));
    for (const format of ["pcapng", "nsecpcap", "pcap"]) {
      const path = file(`edited-${format}`);
      expect(Bun.spawnSync(["editcap", "-F", format, source, path]).exitCode).toBe(0);
      const packets = all(openCapture(path));
      expect(packets.map(({ hex }) => hex)).toEqual(expected.map(({ hex }) => hex));
      const times = expected.map(({ time }) => (format === "pcap" ? `${time.slice(0, -3)}000` : time));
      expect(packets.map(({ time }) => time)).toEqual(times);
    }
    const merged = file("merged.pcapng");
    expect(Bun.spawnSync(["mergecap", "-I", "none", "-w", merged, source, file("edited-pcapng")]).exitCode).toBe(0);
    expect(
      all(openCapture(merged))
        .map(({ interface: id }) => id)
        .toSorted(),
    ).toEqual([0, 0, 1, 1]);
  });
});
