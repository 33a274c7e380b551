/** Random extended programs that both verifiers should take: arithmetic, jumps, memory, context, packet, maps. */
import {
  Assembler,
  type Operand,
  opcodes,
  type Register,
  r0,
  r1,
  r2,
  r3,
  r4,
  r5,
  r6,
  r7,
  r8,
  r9,
  r10,
} from "af-xdp-bindings";
import type { Random } from "../../../queues/random.ts";

const NUMBERS = [r0, r7, r8, r9];
const INTERESTING = [0, 1, -1, 2, 7, 31, 32, 33, 63, 255, 256, 65535, 65536, 0x7fffffff, -0x80000000];
export const ARRAY_ENTRIES = 4;
export const VALUE_BYTES = 16;
/** Bytes of the stack that are written at the start, and that programs then use. */
const CELLS = 8;

const BINARY = [
  "add",
  "sub",
  "mul",
  "div",
  "sdiv",
  "mod",
  "smod",
  "or",
  "and",
  "xor",
  "lsh",
  "rsh",
  "arsh",
  "mov",
] as const;
const JUMPS = ["jeq", "jne", "jgt", "jge", "jlt", "jle", "jsgt", "jsge", "jslt", "jsle", "jset"] as const;
const ATOMICS = [
  "atomicAdd",
  "atomicOr",
  "atomicAnd",
  "atomicXor",
  "atomicFetchAdd",
  "atomicFetchOr",
  "atomicFetchAnd",
  "atomicFetchXor",
] as const;

/** Maps as the program names them: an array, and a hash with keys of 4 bytes; values of VALUE_BYTES. */
export interface Fds {
  readonly array: { readonly fd: number };
  readonly hash: { readonly fd: number };
}

const pick = <T>(random: Random, from: readonly T[]): T => from[random.below(from.length)];

function immediate(random: Random): number {
  const kind = random.below(3);
  return kind === 0 ? pick(random, INTERESTING) : kind === 1 ? random.below(256) : random.int32();
}

/** @param kind "sched_cls" programs reach into the packet by its addresses as well */
export class Generator {
  private readonly random: Random;
  private readonly maps: Fds;
  private readonly kind: "socket_filter" | "sched_cls";
  private code = new Assembler();
  private labels = 0;

  constructor(random: Random, maps: Fds, kind: "socket_filter" | "sched_cls") {
    this.random = random;
    this.maps = maps;
    this.kind = kind;
  }

  /** A program of `length` steps; r6 is the context, numbers are in r0 and r7 to r9. */
  program(length: number): Uint8Array {
    const { random } = this;
    this.code = new Assembler();
    this.labels = 0;
    this.code.mov(r6, r1);
    for (const register of NUMBERS) this.code.loadImm64(register, this.wide());
    for (let i = 0; i < CELLS; i++)
      this.code.store64(r10, -8 - 8 * i, random.below(2) ? pick(random, NUMBERS) : immediate(random));
    this.steps(length, 3);
    this.fold();
    return this.code.exit().assemble();
  }

  private wide(): bigint {
    const word = (): bigint => BigInt(immediate(this.random) >>> 0);
    return this.random.below(3) === 0 ? word() : (word() << 32n) | word();
  }

  private steps(count: number, depth: number): void {
    for (let i = 0; i < count; i++) this.step(depth);
  }

  private step(depth: number): void {
    const kind = this.random.below(depth > 0 ? 16 : 11);
    if (kind < 5) this.arithmetic();
    else if (kind < 8) this.stack();
    else if (kind === 8) this.context();
    else if (kind === 9) this.other();
    else if (kind === 10) this.legacy();
    else if (kind < 14) this.branch(depth);
    else if (kind === 14) this.map(depth);
    else this.packet(depth);
  }

  private operand(): Operand {
    return this.random.below(2) ? pick(this.random, NUMBERS) : immediate(this.random);
  }

  private arithmetic(): void {
    const { random, code } = this;
    const name = pick(random, BINARY);
    const narrow = random.below(2) === 0;
    const shift = name === "lsh" || name === "rsh" || name === "arsh";
    let operand = this.operand();
    if (typeof operand === "number" && shift) operand = random.below(narrow ? 32 : 64);
    if (operand === 0 && ["div", "sdiv", "mod", "smod"].includes(name)) operand = 3;
    const dst = pick(random, NUMBERS);
    if (narrow) code[`${name}32`](dst, operand);
    else code[name](dst, operand);
  }

  /** Negation, byte order, sign extension. */
  private other(): void {
    const { random, code } = this;
    const dst = pick(random, NUMBERS);
    const src = pick(random, NUMBERS);
    const bits = pick(random, [16, 32, 64] as const);
    switch (random.below(7)) {
      case 0:
        return void code.neg(dst);
      case 1:
        return void code.neg32(dst);
      case 2:
        return void code.be(dst, bits);
      case 3:
        return void code.le(dst, bits);
      case 4:
        return void code.bswap(dst, bits);
      case 5:
        return void code.movsx(dst, src, pick(random, [8, 16, 32] as const));
      default:
        return void code.movsx32(dst, src, pick(random, [8, 16] as const));
    }
  }

  private memory(base: Register, low: number, high: number): void {
    const { random, code } = this;
    const bits = pick(random, [8, 16, 32, 64] as const);
    const size = bits / 8;
    const at = low + size * random.below(Math.floor((high - low) / size));
    const register = pick(random, NUMBERS);
    switch (random.below(5)) {
      case 0:
        return void code[`store${bits}`](base, at, this.operand());
      case 1:
        if (bits === 64) return void code.load64(register, base, at);
        return void code[`loadSigned${bits}`](register, base, at);
      case 2:
        if (bits < 32) return void code[`load${bits}`](register, base, at);
        return void code[`${pick(random, ATOMICS)}${bits as 32 | 64}`](base, at, register);
      case 3:
        if (bits !== 32 && (bits !== 64 || base !== r10)) return void code[`load${bits}`](register, base, at);
        if (random.below(2)) return void code[`xchg${bits}`](base, at, register);
        return void code[`cmpxchg${bits}`](base, at, register);
      default:
        return void code[`load${bits}`](register, base, at);
    }
  }

  private stack(): void {
    this.memory(r10, -8 * CELLS, 0);
  }

  /** Fields that are the same in a test run and here. */
  private context(): void {
    const { random, code } = this;
    const register = pick(random, NUMBERS);
    const kind = random.below(3);
    if (kind === 0) return void code.load32(register, r6, pick(random, [0, 8, 12, 16, 20, 24, 32, 44]));
    const bits = pick(random, [8, 16, 32, 64] as const);
    const size = bits / 8;
    const at = 48 + size * random.below(Math.floor(20 / size));
    if (kind === 1 && bits === 32) code[`store${bits}`](r6, at, register);
    else if (bits !== 64) code[`load${bits}`](register, r6, at);
  }

  private legacy(): void {
    const { random, code } = this;
    const size = pick(random, [opcodes.BPF_B, opcodes.BPF_H, opcodes.BPF_W]);
    const at = random.below(8) === 0 ? pick(random, [-0x100000, -0x200000]) + random.below(20) : random.below(40);
    if (random.below(3) === 0) {
      code.and(r7, 31);
      raw(code, opcodes.BPF_LD | opcodes.BPF_IND | size, 7, at);
    } else raw(code, opcodes.BPF_LD | opcodes.BPF_ABS | size, 0, at);
  }

  private branch(depth: number): void {
    const { random, code } = this;
    const end = `l${this.labels++}`;
    const name = pick(random, JUMPS);
    const dst = pick(random, NUMBERS);
    if (random.below(2)) code[`${name}32`](dst, this.operand(), end);
    else code[name](dst, this.operand(), end);
    this.steps(random.below(4), depth - 1);
    if (random.below(2)) {
      const other = `l${this.labels++}`;
      code.jump(other);
      code.label(end);
      this.steps(1 + random.below(3), depth - 1);
      code.label(other);
    } else code.label(end);
  }

  /** A lookup, and something done with the value; an update; a deletion. */
  private map(depth: number): void {
    const { random, code } = this;
    const hash = random.below(2) === 1;
    const map = hash ? this.maps.hash : this.maps.array;
    code
      .store32(r10, -96, random.below(ARRAY_ENTRIES + 2))
      .mapFd(r1, map)
      .mov(r2, r10)
      .add(r2, -96);
    const kind = random.below(hash ? 4 : 3);
    if (kind === 0) {
      code
        .mov(r3, r10)
        .add(r3, -8 - VALUE_BYTES)
        .mov(r4, random.below(4))
        .call("map_update_elem");
    } else if (kind === 3) code.call("map_delete_elem");
    else {
      const end = `l${this.labels++}`;
      code.call("map_lookup_elem").mov(r1, r0).mov(r0, 5).jeq(r1, 0, end);
      for (let i = random.below(3) + 1; i > 0; i--) {
        if (random.below(3) === 0) this.variable();
        else this.memory(r1, 0, VALUE_BYTES);
      }
      code.label(end);
    }
    if (depth < 0) throw new RangeError("too deep");
  }

  /** A byte of the value at r1, by a number with a bound. */
  private variable(): void {
    this.code
      .mov(r2, pick(this.random, NUMBERS))
      .and(r2, VALUE_BYTES - 1)
      .add(r2, r1)
      .load8(pick(this.random, NUMBERS), r2);
  }

  private packet(depth: number): void {
    const { random, code } = this;
    if (this.kind === "socket_filter" || random.below(3) === 0) {
      const size = 1 + random.below(8);
      code.mov(r1, r6).mov(r2, random.below(40)).mov(r3, r10).add(r3, -64).mov(r4, size);
      if (random.below(2)) code.call("skb_load_bytes");
      else code.mov(r5, random.below(2)).call("skb_load_bytes_relative");
      return;
    }
    const end = `l${this.labels++}`;
    const known = 1 + random.below(24);
    const register = pick(random, NUMBERS);
    code.load32(r2, r6, 76).load32(r3, r6, 80);
    if (random.below(2)) code.mov(r4, register).and(r4, 15).add(r2, r4);
    code.mov(r5, r2).add(r5, known);
    if (random.below(2)) code.jgt(r5, r3, end);
    else code.jlt(r3, r5, end);
    const bits = pick(random, [8, 16, 32, 64] as const);
    if (known >= bits / 8) code[`load${bits}`](pick(random, NUMBERS), r2, random.below(known - bits / 8 + 1));
    if (depth > 1) this.arithmetic();
    code.label(end);
  }

  /** All of what was computed into the 32 bits that are returned. */
  private fold(): void {
    const { code } = this;
    for (const register of [r7, r8, r9]) code.mul(r0, 31).add(r0, register);
    for (let i = 0; i < CELLS; i++)
      code
        .load64(r1, r10, -8 - 8 * i)
        .mul(r0, 31)
        .add(r0, r1);
    code.mov(r1, r0).rsh(r1, 32).xor(r0, r1);
  }
}

/** An instruction that the assembler has no method for. */
function raw(code: Assembler, opcode: number, src: number, value: number): void {
  code.raw(opcode, 0, src, 0, value);
}
