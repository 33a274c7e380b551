/** Damaged capture files: each is read to an end or an error in words, quickly, and in the memory of one buffer. */
import { expect, test } from "bun:test";
import { CaptureFileError } from "../../queues/pcap/format.ts";
import { readCapture } from "../../queues/pcap/reader.ts";
import { MemorySource } from "../../queues/pcap/source.ts";
import { Random } from "../../queues/random.ts";
import { udpFrame } from "../support/frames.ts";
import { Blocks, concat, pcapFile } from "./build.ts";

const RUNS = 1200;
/** Bytes of the smallest thing that is a packet: a simple packet block without data. */
const PACKET_LEAST = 16;
const FRAMES = [
  udpFrame(),
  udpFrame({ payload: new Uint8Array(500) }),
  udpFrame({ source: "2001:db8::2", destination: "2001:db8::1" }),
];

const seeds = [true, false].flatMap((little) => {
  const b = new Blocks(little);
  const note = new TextEncoder().encode("note");
  return [
    pcapFile(
      little,
      little ? 0xa1b2c3d4 : 0xa1b23c4d,
      FRAMES.map((frame, i) => [i, i, frame]),
    ),
    concat(
      b.section([[1, note]]),
      b.interface([[2, note], ...b.scale(9, 5n)], { snapLength: 300 }),
      ...FRAMES.map((frame, i) => b.enhanced(0, BigInt(i), frame, [[1, note]])),
      b.raw(4, new Uint8Array(20)),
      b.simple(FRAMES[0]),
      b.old(0, 9n, FRAMES[1]),
      b.section(),
      b.interface(b.scale(0x8a)),
      b.enhanced(0, 77n, FRAMES[2]),
    ),
  ];
});

/** Lengths and counts as damage makes them. */
const WORDS = [
  0, 1, 4, 8, 11, 12, 13, 0x7fffffff, 0x80000000, 0xfffffffc, 0xffffffff, 262_144, 262_145, 524_288, 524_292,
];

function damage(random: Random, file: Uint8Array): Uint8Array {
  const bytes = file.slice();
  const view = new DataView(bytes.buffer);
  const changes = 1 + random.below(4);
  for (let i = 0; i < changes; i++) {
    const at = random.below(bytes.length);
    const kind = random.below(4);
    if (kind === 0) bytes[at] = random.below(256);
    else if (kind === 1) bytes[at] ^= 1 << random.below(8);
    else if (kind === 2) view.setUint32(at & ~3, WORDS[random.below(WORDS.length)], random.below(2) === 0);
    else bytes.copyWithin(at, random.below(bytes.length), random.below(bytes.length));
  }
  if (random.below(4) === 0) return bytes.subarray(0, random.below(bytes.length));
  // Something more behind it, so that a wrong length may be believed.
  return random.below(8) === 0 ? concat(bytes, new Uint8Array(600_000)) : bytes;
}

test("a damaged file gives packets, then an end or an error in words", () => {
  const random = new Random(20);
  const ends = new Map<string, number>();
  const count = (end: string): void => void ends.set(end, (ends.get(end) ?? 0) + 1);
  for (let i = 0; i < RUNS; i++) {
    const file = damage(random, seeds[i % seeds.length]);
    let packets = 0;
    let sane = true;
    try {
      const reader = readCapture(new MemorySource(file, 1 + random.below(5000)));
      const { record } = reader;
      expect(record.bytes.length).toBe(1 << 20);
      while (reader.next()) {
        packets++;
        const { offset, length } = record;
        sane &&= offset >= 0 && length >= 0 && offset + length <= record.bytes.length;
        sane &&= record.nanoseconds >= 0 && record.nanoseconds < 1e9 && Number.isFinite(record.seconds);
      }
      expect(reader.next()).toBe(false);
      count(reader.rest === "" ? "whole" : "rest");
    } catch (error) {
      if (!(error instanceof CaptureFileError)) throw error;
      expect(error.message.length).toBeGreaterThan(10);
      count("error");
    }
    expect(sane).toBe(true);
    expect(packets).toBeLessThanOrEqual(file.length / PACKET_LEAST);
  }
  // Each way to end has been met often.
  for (const end of ["whole", "rest", "error"]) expect(ends.get(end) ?? 0).toBeGreaterThan(RUNS / 20);
});
