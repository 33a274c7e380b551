/** Classic programs: their forms, what is refused and why, what they answer. The kernel's verdicts are in kernel.test.ts. */
import { afterAll, describe, expect, test } from "bun:test";
import { Worker } from "node:worker_threads";
import { SysError, sys } from "af-xdp-bindings";
import { Random } from "../../queues/random.ts";
import {
  compileClassic,
  decodeClassic,
  encodeClassic,
  faultOf,
  PacketContext,
  type SockFilter,
  verifyClassic,
} from "../../sockets/bpf/classic.ts";
import { compile } from "../../sockets/bpf/compile.ts";
import { BPF_MAXINSNS } from "../../sockets/bpf/opcodes.ts";
import { udpFrame } from "../support/frames.ts";
import { KernelFilter } from "./kernel-filter.ts";

/** `tcpdump -ddd -y EN10MB udp port 53`. */
const UDP_53 = `20
40 0 0 12
21 0 6 34525
48 0 0 20
21 0 15 17
40 0 0 54
21 12 0 53
40 0 0 56
21 10 11 53
21 0 10 2048
48 0 0 23
21 0 8 17
40 0 0 20
69 6 0 8191
177 0 0 14
72 0 0 14
21 2 0 53
72 0 0 16
21 0 1 53
6 0 0 262144
6 0 0 0
`;
const RET_0 = [6, 0, 0, 0];
const RET_A = [0x16, 0, 0, 0];
const program = (...instructions: number[][]): SockFilter[] => decodeClassic(instructions);
const run = (instructions: number[][], packet: number[] = [], context?: PacketContext): number =>
  compileClassic(decodeClassic(instructions))(Uint8Array.from(packet), 0, packet.length, context);

describe("forms", () => {
  const expected = program([40, 0, 0, 12], [6, 0, 0, 0xffffffff]);

  test("text, with line ends or commas; arrays; bytes", () => {
    expect(decodeClassic("2\n40 0 0 12\n6 0 0 4294967295\n")).toEqual(expected);
    expect(decodeClassic("2,40 0 0 12,6 0 0 4294967295,")).toEqual(expected);
    expect(
      decodeClassic([
        [40, 0, 0, 12],
        [6, 0, 0, -1],
      ]),
    ).toEqual(expected);
    const bytes = encodeClassic(expected);
    expect(bytes.toHex()).toBe("280000000c00000006000000ffffffff");
    expect(decodeClassic(bytes)).toEqual(expected);
    expect(decodeClassic(encodeClassic(decodeClassic(UDP_53)))).toEqual(decodeClassic(UDP_53));
  });

  test.each(["", "x", "2\n6 0 0 0", "1\n6 0 0", "1\n6 0 0 0 0", "1\n6 0 0 0x1", "1\n6 0 0 -1"])(
    "no program: %j",
    (text) => {
      expect(() => decodeClassic(text)).toThrow(SyntaxError);
    },
  );

  test("half an instruction", () => {
    expect(() => decodeClassic(new Uint8Array(12))).toThrow("12 bytes");
    expect(() => decodeClassic([[6, 0, 0]])).toThrow('"6,0,0"');
  });
});

describe("refused, with the reason", () => {
  test.each<[string, number[][], string]>([
    ["nothing", [], "no instructions"],
    ["too many", Array(BPF_MAXINSNS + 1).fill(RET_0), "4097 instructions"],
    ["an unknown code", [[0x26, 0, 0, 0]], "instruction 0: unknown code 0x26"],
    ["a code of 17 bits", [[0x10006, 0, 0, 0]], "out of range"],
    ["no return at the end", [RET_0, [0x07, 0, 0, 0]], "instruction 1: the last one must return"],
    ["a jump out", [[0x05, 0, 0, 1], RET_0], "instruction 0: jumps behind the end"],
    ["a jump that wraps", [[0x05, 0, 0, -1], RET_0], "jumps behind the end"],
    ["a branch out", [[0x15, 0, 1, 0], RET_0], "jumps behind the end"],
    ["division by zero", [[0x34, 0, 0, 0], RET_0], "division by zero"],
    ["modulo zero", [[0x94, 0, 0, 0], RET_0], "division by zero"],
    ["a shift too far", [[0x64, 0, 0, 32], RET_0], "shift by 32"],
    ["a cell that is not there", [[0x02, 0, 0, 16], RET_0], "M[16]"],
    ["a cell that is empty", [[0x60, 0, 0, 3], RET_A], "M[3] is loaded, but not always stored before"],
    ["a cell stored on one way", [[0x15, 0, 1, 0], [0x02, 0, 0, 3], [0x60, 0, 0, 3], RET_A], "instruction 2: M[3]"],
    ["an ancillary load unheard of", [[0x20, 0, 0, -0x1000 + 64], RET_A], "SKF_AD_OFF + 64"],
  ])("%s", (_, instructions, reason) => {
    expect(faultOf(decodeClassic(instructions))).toContain(reason);
    expect(() => compileClassic(decodeClassic(instructions))).toThrow(reason);
  });

  test("as the kernel says it: EINVAL", () => {
    try {
      verifyClassic([]);
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(SysError);
      expect((error as SysError).code).toBe("EINVAL");
    }
  });

  test("the longest program passes", () => {
    expect(faultOf(program(...Array(BPF_MAXINSNS).fill(RET_0)))).toBeNull();
  });
});

describe("answers", () => {
  test("a port, wherever the frame lies", () => {
    const filter = compileClassic(decodeClassic(UDP_53));
    for (const [frame, keep] of [
      [udpFrame({ port: 53 }), 262144],
      [udpFrame({ sourcePort: 53 }), 262144],
      [udpFrame({ port: 54 }), 0],
      [udpFrame({ port: 53, options: [1, 1, 1, 0] }), 262144],
      [udpFrame({ port: 53, source: "2001:db8::2", destination: "2001:db8::1" }), 262144],
      [udpFrame({ port: 53, tags: [[0x8100, 5]] }), 0],
    ] as [Uint8Array, number][]) {
      expect(filter(frame, 0, frame.length)).toBe(keep);
      const memory = new Uint8Array(new SharedArrayBuffer(frame.length + 100)).fill(0xff);
      memory.set(frame, 61);
      expect(filter(memory, 61, frame.length)).toBe(keep);
      // What lies behind the packet is none of it.
      expect(filter(memory, 61, 33)).toBe(0);
    }
  });

  test("unsigned where BPF is", () => {
    expect(run([[0x00, 0, 0, -1], [0x34, 0, 0, 2], RET_A])).toBe(0x7fffffff);
    expect(run([[0x00, 0, 0, -1], [0x94, 0, 0, 10], RET_A])).toBe(5);
    expect(run([[0x00, 0, 0, -1], [0x25, 0, 1, 0x7fffffff], [6, 0, 0, 1], RET_0])).toBe(1);
    expect(run([[0x00, 0, 0, 0x80000000], [0x74, 0, 0, 31], RET_A])).toBe(1);
    expect(run([[0x00, 0, 0, 0x12345678], [0x24, 0, 0, 0x9abcdef1], RET_A])).toBe(
      Number((0x12345678n * 0x9abcdef1n) & 0xffffffffn),
    );
    expect(run([[0x00, 0, 0, 1], [0x84, 0, 0, 0], RET_A])).toBe(0xffffffff);
  });

  test("division by an X of 0 is no match, as a load beyond the end", () => {
    expect(
      run([
        [0x3c, 0, 0, 0],
        [6, 0, 0, 9],
      ]),
    ).toBe(0);
    expect(
      run([
        [0x9c, 0, 0, 0],
        [6, 0, 0, 9],
      ]),
    ).toBe(0);
    expect(
      run(
        [
          [0x20, 0, 0, 1],
          [6, 0, 0, 9],
        ],
        [1, 2, 3, 4],
      ),
    ).toBe(0);
    expect(run([[0x20, 0, 0, 0], RET_A], [1, 2, 3, 4])).toBe(0x01020304);
    expect(run([[0x01, 0, 0, -2], [0x50, 0, 0, 3], RET_A], [7, 8])).toBe(8);
  });

  test("what is known of a packet", () => {
    const context = new PacketContext();
    Object.assign(context, {
      ...{ protocol: 0x800, packetType: 1, ifindex: 3, hardwareType: 1, mark: -1, queue: 5, hash: -2, cpu: 7 },
      ...{ vlanTag: 8, vlanPresent: 1, vlanProtocol: 0x8100, payloadOffset: 42, random: () => -3 },
    });
    const load = (what: number, known?: PacketContext): number =>
      run([[0x20, 0, 0, -0x1000 + what], RET_A], [1, 2, 3, 4], known);
    const all = [0, 4, 8, 28, 20, 24, 32, 36, 44, 48, 60, 52, 56];
    expect(all.map((what) => load(what, context))).toEqual([
      0x800, 1, 3, 1, 0xffffffff, 5, 0xfffffffe, 7, 8, 1, 0x8100, 42, 0xfffffffd,
    ]);
    expect(all.slice(0, -1).map((what) => load(what))).toEqual(Array(12).fill(0));
    expect(new Set(Array.from({ length: 8 }, () => load(56))).size).toBeGreaterThan(1);
    expect(run([[0x00, 0, 0, 6], [0x01, 0, 0, 3], [0x20, 0, 0, -0x1000 + 40], RET_A])).toBe(5);
  });

  test("headers before the packet", () => {
    const frame = udpFrame({ port: 53 });
    const context = new PacketContext();
    context.networkOffset = -28;
    context.linkOffset = -42;
    const at = (k: number): number =>
      compileClassic(decodeClassic([[0x30, 0, 0, k], RET_A]))(frame, 42, frame.length - 42, context);
    expect(at(0)).toBe("h".charCodeAt(0));
    expect([at(-0x100000), at(-0x100000 + 9), at(-0x200000 + 12)]).toEqual([0x45, 17, 8]);
    expect(at(-0x100000 + 27)).toBe(frame[41]);
    expect(at(-0x100000 + 28 + 5)).toBe(0);
    expect(at(-0x200001)).toBe(0);
  });
});

describe("netlink attributes", () => {
  const kernel = new KernelFilter();
  afterAll(() => kernel.close());

  test("found as the kernel finds them", () => {
    const random = new Random(5);
    const memory = new Uint8Array(256);
    const address = sys.addressOf(memory);
    const context = new PacketContext();
    let found = 0;
    for (let i = 0; i < 400; i++) {
      const nested = random.below(2);
      const start = random.below(3) * 4;
      const type = random.below(5);
      const ancillary = -0x1000 + (nested ? 16 : 12);
      const instructions = decodeClassic([[0x00, 0, 0, start], [0x01, 0, 0, type], [0x20, 0, 0, ancillary], RET_A]);
      expect(kernel.attach(instructions)).toBe(0);
      const filter = compileClassic(instructions);
      for (let p = 0; p < 20; p++) {
        const length = fillAttributes(random, memory);
        const kept = Math.max(kernel.kept(address, length), 0);
        expect(Math.min(filter(memory, 0, length, context), length)).toBe(kept);
        if (kept > 0) found++;
      }
    }
    expect(found).toBeGreaterThan(500);
  });

  /** Attributes one after the other and in each other, now and then one with a wrong length. */
  function fillAttributes(random: Random, bytes: Uint8Array): number {
    const length = 8 + random.below(60);
    for (let at = 0; at < length; ) {
      const step = 4 * random.below(6);
      const size = random.below(12) === 0 ? random.below(80) : step + random.below(4) - 3;
      bytes.set([size & 255, size >> 8, random.below(5), random.below(8) === 0 ? 0x80 : 0], at);
      at += Math.max(step, 4);
    }
    return length;
  }
});

describe("large programs", () => {
  /** Compares A with each number, each time with a jump to a return of its own. */
  function ladder(steps: number): SockFilter[] {
    const tests = Array.from({ length: steps }, (_, i) => [
      [0x15, 0, 1, i],
      [0x05, 0, 0, 2 * (steps - i) - 1 + i],
    ]).flat();
    const returns = Array.from({ length: steps }, (_, i) => [6, 0, 0, i + 1]);
    return program([0x30, 0, 0, 0], ...tests, RET_0, ...returns);
  }

  test("of 4,096 instructions with 1,300 places to jump to", () => {
    const filter = compileClassic(ladder(1300));
    for (const value of [0, 1, 128, 255]) expect(filter(Uint8Array.of(value), 0, 1)).toBe(value + 1);
  });

  test("in a worker as well, whose stack is smaller", async () => {
    const worker = new Worker(new URL("./compile-worker.ts", import.meta.url), {
      workerData: [ladder(95), ladder(1300)],
    });
    const answer = await new Promise((resolve, reject) => {
      worker.on("message", resolve);
      worker.on("error", reject);
    });
    expect(answer).toEqual([8, 8]);
    await worker.terminate();
  });

  test("either form gives the same", () => {
    const short = ladder(60);
    for (const form of ["nested", "switch"] as const) {
      const filter = compile(short, form);
      for (const value of [0, 59, 60]) expect(filter(Uint8Array.of(value), 0, 1)).toBe(value < 60 ? value + 1 : 0);
    }
  });
});
