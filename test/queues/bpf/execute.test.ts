/** Every arithmetic, jump, load, store and atomic instruction run by the kernel and compared with a model. */
import { afterAll, describe, expect, test } from "bun:test";
import {
  Assembler,
  type BpfMap,
  createMap,
  loadXdp,
  type Operand,
  type Program,
  type Register,
  r0,
  r1,
  r2,
  r3,
  r4,
  r6,
  testRunXdp,
} from "af-xdp-bindings";
import fc from "fast-check";
import { requires } from "../../support/hosts.ts";

const u64 = (value: bigint): bigint => BigInt.asUintN(64, value);
const s64 = (value: bigint): bigint => BigInt.asIntN(64, value);
const u32 = (value: bigint): bigint => BigInt.asUintN(32, value);
const s32 = (value: bigint): bigint => BigInt.asIntN(32, value);

type Model = (a: bigint, b: bigint) => bigint;
const bool = (condition: boolean): bigint => (condition ? 1n : 0n);

/** RFC 9669, 4.1: 64-bit results of unsigned operands; division by zero gives 0, remainder leaves the dividend. */
const ALU64: Record<string, Model> = {
  add: (a, b) => u64(a + b),
  sub: (a, b) => u64(a - b),
  mul: (a, b) => u64(a * b),
  div: (a, b) => (b === 0n ? 0n : a / b),
  sdiv: (a, b) => (b === 0n ? 0n : u64(s64(a) / s64(b))),
  mod: (a, b) => (b === 0n ? a : a % b),
  smod: (a, b) => (b === 0n ? a : u64(s64(a) % s64(b))),
  or: (a, b) => a | b,
  and: (a, b) => a & b,
  xor: (a, b) => a ^ b,
  lsh: (a, b) => u64(a << (b & 63n)),
  rsh: (a, b) => a >> (b & 63n),
  arsh: (a, b) => u64(s64(a) >> (b & 63n)),
  mov: (_a, b) => b,
};
const ALU32: Record<string, Model> = {
  add32: (a, b) => u32(a + b),
  sub32: (a, b) => u32(a - b),
  mul32: (a, b) => u32(a * b),
  div32: (a, b) => (u32(b) === 0n ? 0n : u32(a) / u32(b)),
  sdiv32: (a, b) => (u32(b) === 0n ? 0n : u32(s32(a) / s32(b))),
  mod32: (a, b) => (u32(b) === 0n ? u32(a) : u32(a) % u32(b)),
  smod32: (a, b) => (u32(b) === 0n ? u32(a) : u32(s32(a) % s32(b))),
  or32: (a, b) => u32(a | b),
  and32: (a, b) => u32(a & b),
  xor32: (a, b) => u32(a ^ b),
  lsh32: (a, b) => u32(a << (b & 31n)),
  rsh32: (a, b) => u32(a) >> (b & 31n),
  arsh32: (a, b) => u32(s32(a) >> (b & 31n)),
  mov32: (_a, b) => u32(b),
};
const JUMPS: Record<string, Model> = {
  jeq: (a, b) => bool(a === b),
  jne: (a, b) => bool(a !== b),
  jgt: (a, b) => bool(a > b),
  jge: (a, b) => bool(a >= b),
  jlt: (a, b) => bool(a < b),
  jle: (a, b) => bool(a <= b),
  jsgt: (a, b) => bool(s64(a) > s64(b)),
  jsge: (a, b) => bool(s64(a) >= s64(b)),
  jslt: (a, b) => bool(s64(a) < s64(b)),
  jsle: (a, b) => bool(s64(a) <= s64(b)),
  jset: (a, b) => bool((a & b) !== 0n),
};
/** A 32-bit jump compares the low halves as its 64-bit namesake compares the whole. */
const JUMPS32: Record<string, Model> = Object.fromEntries(
  Object.entries(JUMPS).map(([name, model]): [string, Model] => {
    const extend = name.startsWith("js") && name !== "jset" ? (value: bigint) => u64(s32(value)) : u32;
    return [`${name}32`, (a, b) => model(extend(a), extend(b))];
  }),
);

const reverse = (value: bigint, bytes: number): bigint => {
  let result = 0n;
  for (let i = 0; i < bytes; i++) result = (result << 8n) | ((value >> BigInt(8 * i)) & 0xffn);
  return result;
};
type UnaryCase = [name: string, emit: (code: Assembler, dst: Register) => void, model: (a: bigint) => bigint];
const UNARY: UnaryCase[] = [
  ["neg", (c, r) => c.neg(r), (a) => u64(-a)],
  ["neg32", (c, r) => c.neg32(r), (a) => u32(-a)],
  ["movsx 8", (c, r) => c.movsx(r, r, 8), (a) => u64(BigInt.asIntN(8, a))],
  ["movsx 16", (c, r) => c.movsx(r, r, 16), (a) => u64(BigInt.asIntN(16, a))],
  ["movsx 32", (c, r) => c.movsx(r, r, 32), (a) => u64(s32(a))],
  ["movsx32 8", (c, r) => c.movsx32(r, r, 8), (a) => u32(BigInt.asIntN(8, a))],
  ["movsx32 16", (c, r) => c.movsx32(r, r, 16), (a) => u32(BigInt.asIntN(16, a))],
  ["be 16", (c, r) => c.be(r, 16), (a) => reverse(a, 2)],
  ["be 32", (c, r) => c.be(r, 32), (a) => reverse(a, 4)],
  ["be 64", (c, r) => c.be(r, 64), (a) => reverse(a, 8)],
  ["le 16", (c, r) => c.le(r, 16), (a) => BigInt.asUintN(16, a)],
  ["le 32", (c, r) => c.le(r, 32), (a) => u32(a)],
  ["le 64", (c, r) => c.le(r, 64), (a) => a],
  ["bswap 16", (c, r) => c.bswap(r, 16), (a) => reverse(a, 2)],
  ["bswap 32", (c, r) => c.bswap(r, 32), (a) => reverse(a, 4)],
  ["bswap 64", (c, r) => c.bswap(r, 64), (a) => reverse(a, 8)],
];

/** Each as a method of the assembler, by name. */
type BinaryMethod = (dst: Register, src: Operand) => Assembler;
type JumpMethod = (dst: Register, src: Operand, label: string) => Assembler;
const method = <T>(code: Assembler, name: string): T => {
  const found = code[name as keyof Assembler] as unknown as (...args: unknown[]) => unknown;
  return found.bind(code) as T;
};

/** Interesting 64-bit values as often as any. */
const EDGES = [0n, 1n, 2n, 31n, 32n, 63n, 64n, 0x7fn, 0x80n, 0x7fffn, 0x8000n, 0x7fffffffn, 0x80000000n, 0xffffffffn];
const wide = fc.oneof(
  fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
  fc.constantFrom(...EDGES, ...EDGES.map((value) => u64(-value)), 1n << 63n, (1n << 63n) - 1n, 1n << 32n),
);
const immediate = fc.oneof(
  fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
  fc.constantFrom(0, 1, -1, 31, 63, -(2 ** 31)),
);

const FRAME = new Uint8Array(64);
const SLOTS = 128;

/** A map of u64 slots the programs read and write: 0 and 1 are the operands, results follow. */
class Bench {
  readonly map: BpfMap = createMap({
    type: "BPF_MAP_TYPE_ARRAY",
    keySize: 4,
    valueSize: 8 * SLOTS,
    maxEntries: 1,
    name: "slots",
  });
  readonly #key = new Uint8Array(4);

  /** r6 the slots, r2 and r3 the operands. */
  prologue(): Assembler {
    return new Assembler().mapValue(r6, this.map).include((c) => this.operands(c));
  }

  operands(code: Assembler): void {
    code.load64(r2, r6, 0).load64(r3, r6, 8);
  }

  run(program: Program, a: bigint, b: bigint): BigUint64Array {
    const slots = new BigUint64Array(SLOTS);
    slots[0] = a;
    slots[1] = b;
    this.map.update(this.#key, new Uint8Array(slots.buffer));
    expect(testRunXdp(program, FRAME).action).toBe(2);
    return new BigUint64Array((this.map.lookup(this.#key) as Uint8Array).buffer);
  }
}

describe.skipIf(requires("bpf") !== "")("executed by the kernel", () => {
  const bench = new Bench();
  const programs: Program[] = [];
  afterAll(() => {
    for (const program of programs) program.close();
    bench.map.close();
  });

  const finish = (code: Assembler): Program => {
    const program = loadXdp(code.mov(r0, 2).exit());
    programs.push(program);
    return program;
  };

  /** One program that runs each operation on the operands and stores its result from slot 2 on. */
  const binaryProgram = (names: string[], operand: Operand): Program => {
    const code = bench.prologue();
    names.forEach((name, i) => {
      code.include((c) => bench.operands(c));
      method<BinaryMethod>(code, name)(r2, operand).store64(r6, 8 * (i + 2), r2);
    });
    return finish(code);
  };

  const jumpProgram = (names: string[], operand: Operand): Program => {
    const code = bench.prologue();
    names.forEach((name, i) => {
      method<JumpMethod>(code.mov(r4, 1), name)(r2, operand, name);
      code
        .mov(r4, 0)
        .label(name)
        .store64(r6, 8 * (i + 2), r4);
    });
    return finish(code);
  };

  const compare = (program: Program, models: Record<string, Model>, a: bigint, b: bigint, operand = b): void => {
    const slots = bench.run(program, a, b);
    Object.entries(models).forEach(([name, model], i) => {
      if (slots[i + 2] !== model(a, operand)) {
        throw new Error(`${name}(${a}, ${operand}) gave ${slots[i + 2]}, not ${model(a, operand)}`);
      }
    });
  };

  for (const [kind, models, build] of [
    ["64-bit arithmetic", ALU64, binaryProgram],
    ["32-bit arithmetic", ALU32, binaryProgram],
    ["64-bit jumps", JUMPS, jumpProgram],
    ["32-bit jumps", JUMPS32, jumpProgram],
  ] as const) {
    test(`${kind}, registers`, () => {
      const program = build(Object.keys(models), r3);
      fc.assert(
        fc.property(wide, wide, (a, b) => {
          compare(program, models, a, b);
          compare(program, models, a, a);
        }),
        { numRuns: 2000 },
      );
    });

    test(`${kind}, immediates`, () => {
      fc.assert(
        fc.property(immediate, fc.array(wide, { minLength: 4, maxLength: 8 }), (operand, values) => {
          // The verifier refuses what these would leave undefined: division by 0 and shifts out of range.
          const usable = Object.entries(models).filter(([name]) => {
            const bits = name.endsWith("32") ? 32 : 64;
            if (/^s?(div|mod)/.test(name)) return operand !== 0;
            return !/sh(32)?$/.test(name) || (operand >= 0 && operand < bits);
          });
          const program = build(
            usable.map(([name]) => name),
            operand,
          );
          const extended = u64(BigInt(operand));
          for (const a of [...values, extended]) compare(program, Object.fromEntries(usable), a, 0n, extended);
          program.close();
        }),
        { numRuns: 100 },
      );
    });
  }

  test("negation, sign extension, byte swaps", () => {
    const code = bench.prologue();
    UNARY.forEach(([, emit], i) => {
      code
        .include((c) => bench.operands(c))
        .include((c) => emit(c, r2))
        .store64(r6, 8 * (i + 2), r2);
    });
    const program = finish(code);
    fc.assert(
      fc.property(wide, (a) => {
        const slots = bench.run(program, a, 0n);
        UNARY.forEach(([name, , model], i) => {
          if (slots[i + 2] !== model(a)) throw new Error(`${name}(${a}) gave ${slots[i + 2]}, not ${model(a)}`);
        });
      }),
      { numRuns: 1000 },
    );
  });

  test("loads and stores of every size and sign", () => {
    const code = bench.prologue();
    const loads = ["load8", "load16", "load32", "load64", "loadSigned8", "loadSigned16", "loadSigned32"] as const;
    loads.forEach((name, i) => {
      code[name](r4, r6, 0).store64(r6, 16 + 8 * i, r4);
    });
    code.store8(r6, 72, r2).store16(r6, 80, r2).store32(r6, 88, r2).store64(r6, 96, r2);
    code.store8(r6, 104, -2).store16(r6, 112, -2).store32(r6, 120, -2).store64(r6, 128, -2);
    const program = finish(code);
    fc.assert(
      fc.property(wide, (a) => {
        const low = [BigInt.asUintN(8, a), BigInt.asUintN(16, a), u32(a)];
        const signed = [BigInt.asIntN(8, a), BigInt.asIntN(16, a), s32(a)].map(u64);
        const constants = [0xfen, 0xfffen, 0xfffffffen, u64(-2n)];
        const expected = [...low, a, ...signed, ...low, a, ...constants];
        expect([...bench.run(program, a, 0n).subarray(2, 17)]).toEqual(expected);
      }),
      { numRuns: 300 },
    );
  });

  test("atomics, with and without fetch, of both widths", () => {
    type Case = [name: string, emit: (code: Assembler) => Assembler, memory: Model, source: Model, width: 32 | 64];
    const keep: Model = (_a, b) => b;
    const old: Model = (a) => a;
    const cases: Case[] = [];
    for (const width of [32, 64] as const) {
      for (const [op, model] of [
        ["Add", (a, b) => a + b],
        ["Or", (a, b) => a | b],
        ["And", (a, b) => a & b],
        ["Xor", (a, b) => a ^ b],
      ] as [string, Model][]) {
        for (const fetch of ["", "Fetch"]) {
          const name = `atomic${fetch}${op}${width}`;
          type AtomicMethod = (base: Register, offset: number, src: Register) => Assembler;
          cases.push([name, (c) => method<AtomicMethod>(c, name)(r6, 16, r3), model, fetch ? old : keep, width]);
        }
      }
    }
    cases.push(["xchg64", (c) => c.xchg64(r6, 16, r3), (_a, b) => b, old, 64]);
    cases.push(["xchg32", (c) => c.xchg32(r6, 16, r3), (_a, b) => b, old, 32]);
    for (const [name, emit, memory, source, width] of cases) {
      // Slot 2 is the memory, beginning as the first operand; slot 3 receives the source register.
      const program = finish(emit(bench.prologue().store64(r6, 16, r2)).store64(r6, 24, r3));
      const mask = width === 32 ? u32 : u64;
      fc.assert(
        fc.property(wide, wide, (a, b) => {
          const slots = bench.run(program, a, b);
          const high = width === 32 ? (a >> 32n) << 32n : 0n;
          const fetched = source === old ? mask(a) : b;
          expect([name, slots[2], slots[3]]).toEqual([name, high | mask(memory(mask(a), mask(b))), fetched]);
        }),
        { numRuns: 50 },
      );
    }
  });

  test("compare and exchange", () => {
    // Memory is the first operand, r0 the second; 7 is written if they are equal.
    const program = finish(
      bench.prologue().store64(r6, 16, r2).mov(r0, r3).mov(r4, 7).cmpxchg64(r6, 16, r4).store64(r6, 24, r0),
    );
    fc.assert(
      fc.property(wide, wide, (a, b) => {
        expect([...bench.run(program, a, b).subarray(2, 4)]).toEqual([a === b ? 7n : a, a]);
        expect([...bench.run(program, a, a).subarray(2, 4)]).toEqual([7n, a]);
      }),
      { numRuns: 100 },
    );
  });

  test("local calls, long jumps and 64-bit constants", () => {
    const program = loadXdp(
      bench
        .prologue()
        .mov(r1, r2)
        .mov(r2, r3)
        .callLocal("sum")
        .store64(r6, 16, r0)
        .loadImm64(r1, 0xfedcba9876543210n)
        .store64(r6, 24, r1)
        .jeq(r0, 0, "clear")
        .jumpLong("done")
        .label("clear")
        .store64(r6, 24, 0)
        .label("done")
        .mov(r0, 2)
        .exit()
        .label("sum")
        .mov(r0, r1)
        .add(r0, r2)
        .exit(),
    );
    expect([...bench.run(program, 40n, 2n).subarray(2, 4)]).toEqual([42n, 0xfedcba9876543210n]);
    program.close();
  });
});
