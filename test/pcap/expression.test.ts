/** lcore's own capture filters: the verdict of tcpdump on the same frames, and errors in words. */
import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compileExpression } from "../../engine/cli/capture-expression.ts";
import { captureFilter } from "../../engine/cli/capture-filter.ts";
import { CliError } from "../../engine/cli/failure.ts";
import { openCapture } from "../../queues/pcap/reader.ts";
import { FileSink, PcapWriter } from "../../queues/pcap/writer.ts";
import { Random } from "../../queues/random.ts";
import { type ClassicFilter, compileClassic } from "../../sockets/bpf/classic.ts";
import { parseIp } from "../../sockets/wire/address.ts";

const FRAMES = 1500;
const ADDRESSES4 = ["198.18.0.1", "198.18.0.2", "198.18.128.1", "198.19.0.1", "0.0.0.0"];
const ADDRESSES6 = ["2001:db8::1", "2001:db8::2", "2001:db8:1::1", "2001:db8:8000::", "::"];
const PORTS = [53, 80, 8000, 8080, 9000];

const pick = <T>(random: Random, from: readonly T[]): T => from[random.below(from.length)];
const bytesOf = (text: string): number[] => [...(parseIp(text) as Uint8Array)];
const u16 = (value: number): number[] => [value >> 8, value & 255];

/** A frame of any kind that the filters tell apart, whole or nearly. */
function randomFrame(random: Random): Uint8Array {
  const link = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
  const from = pick(random, [0, 1, 2, 3, 4]);
  const to = pick(random, [0, 1, 2, 3, 4]);
  const protocol = pick(random, [1, 6, 17, 17, 17, 58, 132, 44, 47]);
  const ports = [...u16(pick(random, PORTS)), ...u16(pick(random, PORTS))];
  const payload = [...ports, ...Array.from({ length: 40 }, () => random.below(256))];
  const kind = random.below(10);
  if (kind < 4) {
    const options = random.below(4) === 0 ? [1, 1, 1, 1] : [];
    const fragment = random.below(4) === 0 ? u16(random.below(0x4000)) : [0x40, 0];
    const header = [0x45 + options.length / 4, 0, 0, 80, 0, 0, ...fragment, 64, protocol, 0, 0];
    const ends = [...bytesOf(ADDRESSES4[from]), ...bytesOf(ADDRESSES4[to])];
    return Uint8Array.from([...link, 8, 0, ...header, ...ends, ...options, ...payload]);
  }
  if (kind < 8) {
    const header = [0x60, 0, 0, 0, 0, 44, protocol, 64, ...bytesOf(ADDRESSES6[from]), ...bytesOf(ADDRESSES6[to])];
    const next = protocol === 44 ? [pick(random, [6, 17, 58, 1]), 0, 0, 1, 0, 0, 0, 1] : [];
    return Uint8Array.from([...link, 0x86, 0xdd, ...header, ...next, ...payload]);
  }
  if (kind === 8) {
    const arp = [0, 1, 8, 0, 6, 4, 0, 1, ...link.slice(6), ...bytesOf(ADDRESSES4[from]), ...link.slice(0, 6)];
    const type = random.below(2) === 0 ? [8, 6] : [0x80, 0x35];
    return Uint8Array.from([...link, ...type, ...arp, ...bytesOf(ADDRESSES4[to]), ...new Uint8Array(60)]);
  }
  return Uint8Array.from([...link, ...u16(random.below(65536)), ...payload, ...payload]);
}

const random = new Random(9);
const frames = Array.from({ length: FRAMES }, () => randomFrame(random));

const PRIMITIVES = [
  ...["ip", "ip6", "arp", "tcp", "udp", "icmp", "icmp6"],
  ...["host 198.18.0.1", "src host 198.18.0.1", "dst host 198.18.128.1", "src 198.18.0.2", "dst 2001:db8::1"],
  ...[
    "host 2001:db8::1",
    "src host 2001:db8::2",
    "net 198.18.0.0/15",
    "src net 198.18.0.0/17",
    "dst net 198.18.0.1/32",
  ],
  ...["net 2001:db8::/32", "dst net 2001:db8:8000::/33", "src net 2001:db8::/64", "host 0.0.0.0", "net 2001:db8::/31"],
  ...[
    "port 53",
    "src port 80",
    "dst port 9000",
    "udp port 53",
    "tcp port 80",
    "udp src port 8000",
    "tcp dst port 9000",
  ],
  ...["portrange 80-8000", "udp portrange 8000-8080", "src portrange 53-53", "port 0"],
];

/** Primitives joined at random. */
function randomExpression(random: Random, depth: number): string {
  const kind = depth === 0 ? 3 : random.below(6);
  if (kind < 3) {
    const joint = pick(random, ["and", "or", "&&", "||"]);
    return `${randomExpression(random, depth - 1)} ${joint} ${randomExpression(random, depth - 1)}`;
  }
  if (kind === 3) return pick(random, PRIMITIVES);
  const inner = randomExpression(random, depth - 1);
  return kind === 4 ? `${pick(random, ["not ", "! ", "!"])}(${inner})` : `(${inner})`;
}

describe.skipIf(Bun.which("tcpdump") === null)("beside tcpdump", () => {
  test("the verdict on every frame, of every primitive and of expressions made of them", async () => {
    const random = new Random(10);
    const expressions = [...PRIMITIVES, ...Array.from({ length: 60 }, (_, i) => randomExpression(random, 1 + (i % 4)))];
    let taken = 0;
    for (const text of expressions) {
      const here = compileClassic(compileExpression(text));
      const there = await byTcpdump(text);
      for (const frame of frames) {
        const [a, b] = [here(frame, 0, frame.length), there(frame, 0, frame.length)];
        if (a > 0 !== b > 0) throw new Error(`${text}: here ${a}, tcpdump ${b}, of ${frame.toHex()}`);
        if (a > 0) taken++;
      }
    }
    const all = expressions.length * FRAMES;
    expect(taken).toBeGreaterThan(all / 10);
    expect(taken).toBeLessThan((all * 9) / 10);
  });

  /** tcpdump refuses to compile what it finds out to take no packet. */
  async function byTcpdump(text: string): Promise<ClassicFilter> {
    try {
      return compileClassic(await captureFilter(text));
    } catch (error) {
      if (!(error as Error).message.includes("expression rejects all packets")) throw error;
      return () => 0;
    }
  }

  test("tcpdump itself takes the same frames out of a file", () => {
    const directory = mkdtempSync(join(tmpdir(), "lcore-filter-"));
    try {
      const path = join(directory, "frames.pcap");
      const sink = new FileSink(path);
      const writer = new PcapWriter(sink);
      for (const frame of frames) writer.packet(frame, 0, frame.length, 1, 0);
      writer.flush();
      sink.close();
      for (const text of ["udp port 53 or arp", "net 198.18.0.0/15 and not tcp", "icmp6 or dst port 9000"]) {
        const filter = compileClassic(compileExpression(text));
        const out = join(directory, "taken.pcap");
        expect(Bun.spawnSync(["tcpdump", "-Z", "root", "-r", path, "-w", out, text]).exitCode).toBe(0);
        const reader = openCapture(out);
        const expected = frames.filter((frame) => filter(frame, 0, frame.length) > 0);
        for (const frame of expected) {
          expect(reader.next()).toBe(true);
          const { bytes, offset, length } = reader.record;
          expect(bytes.subarray(offset, offset + length)).toEqual(frame);
        }
        expect(reader.next()).toBe(false);
        reader.close();
      }
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test("what tcpdump does not understand is said in its words", async () => {
    await expect(captureFilter("udp port port")).rejects.toThrow(/^filter: .*syntax error/);
    await expect(captureFilter("-w /tmp/x")).rejects.toThrow(/^filter: /);
  });
});

test("long expressions, whose jumps go far", () => {
  const hosts = Array.from({ length: 150 }, (_, i) => `host 198.18.7.${i}`);
  const filter = compileClassic(compileExpression(`udp and not (${hosts.join(" or ")}) or tcp`));
  for (const frame of frames) {
    const isUdp = compileClassic(compileExpression("udp or tcp"))(frame, 0, frame.length) > 0;
    expect(filter(frame, 0, frame.length) > 0).toBe(isUdp);
  }
  const last = frames.find((frame) => frame[12] === 8 && frame[13] === 0 && frame[23] === 17) as Uint8Array;
  expect(filter(Uint8Array.from([...last.subarray(0, 26), 198, 18, 7, 149, ...last.subarray(30)]), 0, 60)).toBe(0);
});

describe("without tcpdump", () => {
  test.each(
    [
      ["", "ends too early"],
      ["udp and", "ends too early"],
      ["udp udp", '"udp" is not understood there'],
      ["(udp", "ends too early"],
      ["udp)", '")" is not understood there'],
      ["198.18.0.1", '"198.18.0.1" is not understood there'],
      ["host example.com", '"example.com": no IPv4 or IPv6 address'],
      ["net 198.18.0.0", "with its prefix length"],
      ["net 198.18.0.0/33", "with its prefix length"],
      ["net 198.18.0.1/24", "bits are set behind the prefix"],
      ["port http", '"http": a port from 0 to 65535'],
      ["port 65536", "a port from 0 to 65535"],
      ["portrange 9-8", "two ports, as 8000-8080"],
      ["vlan 5", '"vlan" is not understood'],
      ["a & b", '"a" is not understood'],
      ["not ".repeat(200), 'more than 100 levels of "not"'],
      ["udp or ".repeat(600), "1200 words: at most 1000"],
      [`${"portrange 1-2 or ".repeat(200)}udp`, "instructions: make it shorter"],
    ].map(([text, words]) => [words, text]),
  )("%s", async (words, text) => {
    const failure = await captureFilter(text, null).then(
      () => null,
      (error: unknown) => error,
    );
    expect(failure).toBeInstanceOf(CliError);
    expect((failure as CliError).message).toContain(words);
    expect((failure as CliError).message).toContain("[src|dst] host A");
  });

  test("what is understood is compiled", async () => {
    expect((await captureFilter("udp port 53", null)).length).toBeGreaterThan(5);
  });
});
