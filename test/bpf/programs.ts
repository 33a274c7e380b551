/** Random classic programs: valid ones that do much with a short packet, and ones with a fault in them. */

import type { Random } from "../../queues/random.ts";
import {
  ALLOWED_CODES,
  BPF_ABS,
  BPF_ALU,
  BPF_DIV,
  BPF_JA,
  BPF_JMP,
  BPF_LD,
  BPF_LDX,
  BPF_LSH,
  BPF_MEM,
  BPF_MEMWORDS,
  BPF_MOD,
  BPF_MSH,
  BPF_RET,
  BPF_RSH,
  BPF_ST,
  BPF_STX,
  classOf,
  isConditional,
  modeOf,
  operationOf,
  type SockFilter,
  usesX,
} from "../../sockets/bpf/opcodes.ts";

const CODES = [...ALLOWED_CODES];
const BODY_CODES = CODES.filter((code) => classOf(code) !== BPF_RET);
const RETURNS = CODES.filter((code) => classOf(code) === BPF_RET);
/** Loads of SKF_AD_... that give the same on every kernel socket, and its arithmetic. */
const ANCILLARY = [0, 4, 12, 16, 24, 40, 44, 48].map((what) => 0xfffff000 + what);

const INTERESTING = [0, 1, 2, 4, 7, 8, 31, 32, 255, 256, 65535, 65536, 0x7fffffff, 0x80000000, 0xffffffff];

const pick = <T>(random: Random, from: readonly T[]): T => from[random.below(from.length)];

/** A program that the verifier takes, of `length` instructions. `ancillary` are absolute loads beside those of bytes. */
export function validProgram(random: Random, length: number, ancillary: readonly number[] = ANCILLARY): SockFilter[] {
  // Scratch memory may be loaded once it has been stored on the straight way there: all of it is, at the start.
  const stored = random.below(3) === 0 ? BPF_MEMWORDS : 0;
  const program: SockFilter[] = Array.from({ length: stored }, (_, k) => one(pick(random, [BPF_ST, BPF_STX]), k));
  const total = stored + length;
  while (program.length < total - 1)
    program.push(bodyInstruction(random, total - program.length - 1, stored, ancillary));
  const last = pick(random, RETURNS);
  program.push(one(last, random.below(80)));
  return program;
}

const one = (code: number, k: number, jt = 0, jf = 0): SockFilter => ({ code, jt, jf, k: k >>> 0 });

/** @param after instructions after this one */
function bodyInstruction(random: Random, after: number, stored: number, ancillary: readonly number[]): SockFilter {
  // Now and then a return in the middle.
  if (random.below(24) === 0) return one(pick(random, RETURNS), random.below(80));
  const code = pick(random, BODY_CODES);
  const skip = (): number => random.below(Math.min(after, random.below(4) === 0 ? 255 : 6));
  const kind = classOf(code);
  if (kind === BPF_JMP) {
    return isConditional(code)
      ? one(code, constant(random), skip(), skip())
      : one(code, operationOf(code) === BPF_JA ? skip() : 0);
  }
  if (kind === BPF_ST || kind === BPF_STX) return one(code, random.below(BPF_MEMWORDS));
  if (kind === BPF_ALU) return one(code, arithmeticConstant(random, code));
  if (kind === BPF_LD || kind === BPF_LDX) return loadInstruction(random, code, stored, ancillary);
  return one(code, 0);
}

function arithmeticConstant(random: Random, code: number): number {
  if (usesX(code)) return constant(random);
  const operation = operationOf(code);
  if (operation === BPF_LSH || operation === BPF_RSH) return random.below(32);
  const value = constant(random);
  return (operation === BPF_DIV || operation === BPF_MOD) && value === 0 ? 3 : value;
}

function loadInstruction(random: Random, code: number, stored: number, ancillary: readonly number[]): SockFilter {
  if (modeOf(code) === BPF_MEM) return stored > 0 ? one(code, random.below(stored)) : one(BPF_LD, constant(random));
  if (classOf(code) === BPF_LD && modeOf(code) === BPF_ABS) {
    if (ancillary.length > 0 && random.below(5) === 0) return one(code, pick(random, ancillary));
    return one(code, byteOffset(random, SKF_BASES));
  }
  if (modeOf(code) === BPF_MSH) return one(code, byteOffset(random, SKF_BASES));
  return one(code, random.below(3) === 0 ? constant(random) : random.below(24));
}

/** SKF_NET_OFF, SKF_LL_OFF, and what is below both. */
const SKF_BASES = [-0x100000, -0x200000, -0x200001, -0x80000000];

/** Mostly within a packet of a few dozen bytes. */
function byteOffset(random: Random, bases: readonly number[]): number {
  const near = random.below(random.below(4) === 0 ? 80 : 12);
  return random.below(12) === 0 ? pick(random, bases) + near : near;
}

function constant(random: Random): number {
  const kind = random.below(3);
  return kind === 0 ? pick(random, INTERESTING) : kind === 1 ? random.below(256) : random.int32();
}

/** A valid program with one field of one instruction changed: valid still, or not. */
export function changed(random: Random, program: readonly SockFilter[]): SockFilter[] {
  const at = random.below(4) === 0 ? program.length - 1 : random.below(program.length);
  const before = program[at];
  const after: SockFilter = pick(random, [
    { ...before, code: random.below(256) },
    { ...before, code: pick(random, CODES) },
    { ...before, code: before.code | (random.below(4) === 0 ? 0x8000 : 0x100) },
    { ...before, jt: random.below(256) },
    { ...before, jf: random.below(256) },
    { ...before, k: random.below(40) },
    { ...before, k: (0xfffff000 + random.below(80)) >>> 0 },
    { ...before, k: random.int32() >>> 0 },
  ]);
  return program.with(at, after);
}
