/**
 * An eBPF assembler: one method an instruction, named labels, jumps checked for range.
 *
 * ```ts
 * const code = new Assembler()
 *   .load32(r2, r1, XDP_MD.rx_queue_index)
 *   .mapFd(r1, xskmap)
 *   .mov(r3, XDP_PASS)
 *   .call("redirect_map")
 *   .exit();
 * ```
 *
 * The first operand is the destination. A second operand is a register or an immediate. A plain name works on 64 bits
 * and sign-extends the 32-bit immediate; a name ending in 32 works on the low half and clears the high one. Offsets
 * are bytes, jumps go to labels. Programmer errors throw RangeError or TypeError as soon as they can be seen.
 */

import { disassemble } from "./disassembler.ts";
import { HELPER, type HelperName } from "./helpers.ts";
import {
  ALU_OP,
  ATOMIC_OP,
  BPF_ALU,
  BPF_ALU64,
  BPF_ATOMIC,
  BPF_B,
  BPF_DW,
  BPF_FETCH,
  BPF_H,
  BPF_IMM,
  BPF_JMP,
  BPF_JMP32,
  BPF_K,
  BPF_LD,
  BPF_LDX,
  BPF_MEM,
  BPF_MEMSX,
  BPF_PSEUDO_CALL,
  BPF_PSEUDO_MAP_FD,
  BPF_PSEUDO_MAP_VALUE,
  BPF_ST,
  BPF_STX,
  BPF_W,
  BPF_X,
  INSN_SIZE,
  INSNS_MAX,
  JMP_OP,
} from "./opcodes.ts";

/** One of the machine's registers; an object, so that a register is never mistaken for an immediate. */
export interface Register {
  readonly index: number;
}

/** Return value, and scratch. */
export const r0: Register = { index: 0 };
/** Arguments of a call, lost by it; on entry r1 is the context. */
export const r1: Register = { index: 1 };
export const r2: Register = { index: 2 };
export const r3: Register = { index: 3 };
export const r4: Register = { index: 4 };
export const r5: Register = { index: 5 };
/** Kept across calls. */
export const r6: Register = { index: 6 };
export const r7: Register = { index: 7 };
export const r8: Register = { index: 8 };
export const r9: Register = { index: 9 };
/** Frame pointer, read-only: the stack is the 512 bytes below it. */
export const r10: Register = { index: 10 };

export type Operand = Register | number;

/** Anything with a map's descriptor. */
export interface MapReference {
  readonly fd: number;
}

/** Where a label's distance goes: the offset of a jump, or the immediate of a long jump or local call. */
interface Fixup {
  readonly at: number;
  readonly label: string;
  readonly field: "offset" | "immediate";
}

export class Assembler {
  readonly #opcodes: number[] = [];
  readonly #registers: number[] = [];
  readonly #offsets: number[] = [];
  readonly #immediates: number[] = [];
  readonly #labels = new Map<string, number>();
  readonly #fixups: Fixup[] = [];

  /** Slots so far; ld_imm64 takes two. */
  get length(): number {
    return this.#opcodes.length;
  }

  /** Names the next instruction. */
  label(name: string): this {
    if (this.#labels.has(name)) throw new RangeError(`label "${name}" is defined twice`);
    this.#labels.set(name, this.length);
    return this;
  }

  add(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU64, ALU_OP.add, dst, src);
  }

  sub(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU64, ALU_OP.sub, dst, src);
  }

  mul(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU64, ALU_OP.mul, dst, src);
  }

  /** Unsigned division; by zero it gives 0. */
  div(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU64, ALU_OP.div, dst, src);
  }

  /** Signed division, towards zero; Linux 6.6. */
  sdiv(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU64, ALU_OP.div, dst, src, 1);
  }

  /** Unsigned remainder; by zero it leaves the destination. */
  mod(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU64, ALU_OP.mod, dst, src);
  }

  /** Signed remainder, with the dividend's sign; Linux 6.6. */
  smod(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU64, ALU_OP.mod, dst, src, 1);
  }

  or(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU64, ALU_OP.or, dst, src);
  }

  and(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU64, ALU_OP.and, dst, src);
  }

  xor(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU64, ALU_OP.xor, dst, src);
  }

  /** Shift left; counts are taken modulo the width. */
  lsh(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU64, ALU_OP.lsh, dst, src);
  }

  /** Logical shift right; counts are taken modulo the width. */
  rsh(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU64, ALU_OP.rsh, dst, src);
  }

  /** Arithmetic shift right. */
  arsh(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU64, ALU_OP.arsh, dst, src);
  }

  mov(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU64, ALU_OP.mov, dst, src);
  }

  /** Two's complement negation. */
  neg(dst: Register): this {
    return this.#emit(BPF_ALU64 | ALU_OP.neg, dst.index, 0, 0, 0);
  }

  /** Copies the low bits with their sign; Linux 6.6. */
  movsx(dst: Register, src: Register, bits: 8 | 16 | 32): this {
    return this.#emit(BPF_ALU64 | ALU_OP.mov | BPF_X, dst.index, src.index, bits, 0);
  }

  add32(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU, ALU_OP.add, dst, src);
  }

  sub32(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU, ALU_OP.sub, dst, src);
  }

  mul32(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU, ALU_OP.mul, dst, src);
  }

  div32(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU, ALU_OP.div, dst, src);
  }

  sdiv32(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU, ALU_OP.div, dst, src, 1);
  }

  mod32(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU, ALU_OP.mod, dst, src);
  }

  smod32(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU, ALU_OP.mod, dst, src, 1);
  }

  or32(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU, ALU_OP.or, dst, src);
  }

  and32(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU, ALU_OP.and, dst, src);
  }

  xor32(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU, ALU_OP.xor, dst, src);
  }

  lsh32(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU, ALU_OP.lsh, dst, src);
  }

  rsh32(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU, ALU_OP.rsh, dst, src);
  }

  arsh32(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU, ALU_OP.arsh, dst, src);
  }

  mov32(dst: Register, src: Operand): this {
    return this.#alu(BPF_ALU, ALU_OP.mov, dst, src);
  }

  neg32(dst: Register): this {
    return this.#emit(BPF_ALU | ALU_OP.neg, dst.index, 0, 0, 0);
  }

  movsx32(dst: Register, src: Register, bits: 8 | 16): this {
    return this.#emit(BPF_ALU | ALU_OP.mov | BPF_X, dst.index, src.index, bits, 0);
  }

  /** Host order to big-endian or back, of the low bits; higher bits are cleared. */
  be(dst: Register, bits: 16 | 32 | 64): this {
    return this.#emit(BPF_ALU | ALU_OP.end | BPF_X, dst.index, 0, 0, bits);
  }

  /** Host order to little-endian: on these machines only clears the higher bits. */
  le(dst: Register, bits: 16 | 32 | 64): this {
    return this.#emit(BPF_ALU | ALU_OP.end | BPF_K, dst.index, 0, 0, bits);
  }

  /** Reverses the low bytes; higher bits are cleared; Linux 6.6. */
  bswap(dst: Register, bits: 16 | 32 | 64): this {
    return this.#emit(BPF_ALU64 | ALU_OP.end | BPF_K, dst.index, 0, 0, bits);
  }

  /** dst = *(base + offset), zero-extended. */
  load8(dst: Register, base: Register, offset = 0): this {
    return this.#emit(BPF_LDX | BPF_MEM | BPF_B, dst.index, base.index, checkOffset(offset), 0);
  }

  load16(dst: Register, base: Register, offset = 0): this {
    return this.#emit(BPF_LDX | BPF_MEM | BPF_H, dst.index, base.index, checkOffset(offset), 0);
  }

  load32(dst: Register, base: Register, offset = 0): this {
    return this.#emit(BPF_LDX | BPF_MEM | BPF_W, dst.index, base.index, checkOffset(offset), 0);
  }

  load64(dst: Register, base: Register, offset = 0): this {
    return this.#emit(BPF_LDX | BPF_MEM | BPF_DW, dst.index, base.index, checkOffset(offset), 0);
  }

  /** dst = *(base + offset), sign-extended; Linux 6.6. */
  loadSigned8(dst: Register, base: Register, offset = 0): this {
    return this.#emit(BPF_LDX | BPF_MEMSX | BPF_B, dst.index, base.index, checkOffset(offset), 0);
  }

  loadSigned16(dst: Register, base: Register, offset = 0): this {
    return this.#emit(BPF_LDX | BPF_MEMSX | BPF_H, dst.index, base.index, checkOffset(offset), 0);
  }

  loadSigned32(dst: Register, base: Register, offset = 0): this {
    return this.#emit(BPF_LDX | BPF_MEMSX | BPF_W, dst.index, base.index, checkOffset(offset), 0);
  }

  /** *(base + offset) = src. */
  store8(base: Register, offset: number, src: Operand): this {
    return this.#store(BPF_B, base, offset, src);
  }

  store16(base: Register, offset: number, src: Operand): this {
    return this.#store(BPF_H, base, offset, src);
  }

  store32(base: Register, offset: number, src: Operand): this {
    return this.#store(BPF_W, base, offset, src);
  }

  store64(base: Register, offset: number, src: Operand): this {
    return this.#store(BPF_DW, base, offset, src);
  }

  /** *(base + offset) += src, atomically. */
  atomicAdd32(base: Register, offset: number, src: Register): this {
    return this.#atomic(BPF_W, ATOMIC_OP.add, base, offset, src);
  }

  /** *(base + offset) |= src, atomically. */
  atomicOr32(base: Register, offset: number, src: Register): this {
    return this.#atomic(BPF_W, ATOMIC_OP.or, base, offset, src);
  }

  /** *(base + offset) &= src, atomically. */
  atomicAnd32(base: Register, offset: number, src: Register): this {
    return this.#atomic(BPF_W, ATOMIC_OP.and, base, offset, src);
  }

  /** *(base + offset) ^= src, atomically. */
  atomicXor32(base: Register, offset: number, src: Register): this {
    return this.#atomic(BPF_W, ATOMIC_OP.xor, base, offset, src);
  }

  /** The same, and src becomes the old value. */
  atomicFetchAdd32(base: Register, offset: number, src: Register): this {
    return this.#atomic(BPF_W, ATOMIC_OP.add | BPF_FETCH, base, offset, src);
  }

  atomicFetchOr32(base: Register, offset: number, src: Register): this {
    return this.#atomic(BPF_W, ATOMIC_OP.or | BPF_FETCH, base, offset, src);
  }

  atomicFetchAnd32(base: Register, offset: number, src: Register): this {
    return this.#atomic(BPF_W, ATOMIC_OP.and | BPF_FETCH, base, offset, src);
  }

  atomicFetchXor32(base: Register, offset: number, src: Register): this {
    return this.#atomic(BPF_W, ATOMIC_OP.xor | BPF_FETCH, base, offset, src);
  }

  /** Swaps src and *(base + offset). */
  xchg32(base: Register, offset: number, src: Register): this {
    return this.#atomic(BPF_W, ATOMIC_OP.xchg, base, offset, src);
  }

  /** If *(base + offset) is r0, makes it src; r0 becomes the old value. */
  cmpxchg32(base: Register, offset: number, src: Register): this {
    return this.#atomic(BPF_W, ATOMIC_OP.cmpxchg, base, offset, src);
  }

  atomicAdd64(base: Register, offset: number, src: Register): this {
    return this.#atomic(BPF_DW, ATOMIC_OP.add, base, offset, src);
  }

  atomicOr64(base: Register, offset: number, src: Register): this {
    return this.#atomic(BPF_DW, ATOMIC_OP.or, base, offset, src);
  }

  atomicAnd64(base: Register, offset: number, src: Register): this {
    return this.#atomic(BPF_DW, ATOMIC_OP.and, base, offset, src);
  }

  atomicXor64(base: Register, offset: number, src: Register): this {
    return this.#atomic(BPF_DW, ATOMIC_OP.xor, base, offset, src);
  }

  atomicFetchAdd64(base: Register, offset: number, src: Register): this {
    return this.#atomic(BPF_DW, ATOMIC_OP.add | BPF_FETCH, base, offset, src);
  }

  atomicFetchOr64(base: Register, offset: number, src: Register): this {
    return this.#atomic(BPF_DW, ATOMIC_OP.or | BPF_FETCH, base, offset, src);
  }

  atomicFetchAnd64(base: Register, offset: number, src: Register): this {
    return this.#atomic(BPF_DW, ATOMIC_OP.and | BPF_FETCH, base, offset, src);
  }

  atomicFetchXor64(base: Register, offset: number, src: Register): this {
    return this.#atomic(BPF_DW, ATOMIC_OP.xor | BPF_FETCH, base, offset, src);
  }

  xchg64(base: Register, offset: number, src: Register): this {
    return this.#atomic(BPF_DW, ATOMIC_OP.xchg, base, offset, src);
  }

  cmpxchg64(base: Register, offset: number, src: Register): this {
    return this.#atomic(BPF_DW, ATOMIC_OP.cmpxchg, base, offset, src);
  }

  /** A 64-bit constant. A negative number is sign-extended. Takes two slots. */
  loadImm64(dst: Register, value: number | bigint): this {
    const bits = BigInt.asUintN(64, BigInt(value));
    if (bits !== BigInt(value) && BigInt.asIntN(64, bits) !== BigInt(value)) {
      throw new RangeError(`${value} does not fit in 64 bits`);
    }
    return this.#wide(dst, 0, Number(bits & 0xffff_ffffn), Number(bits >> 32n));
  }

  /** The map, as helpers take it. */
  mapFd(dst: Register, map: MapReference): this {
    return this.#wide(dst, BPF_PSEUDO_MAP_FD, map.fd, 0);
  }

  /** The address of byte `offset` of an ARRAY map's values; the map must have one entry. */
  mapValue(dst: Register, map: MapReference, offset = 0): this {
    return this.#wide(dst, BPF_PSEUDO_MAP_VALUE, map.fd, offset);
  }

  /** Jumps always. */
  jump(label: string): this {
    this.#fixups.push({ at: this.length, label, field: "offset" });
    return this.#emit(BPF_JMP | JMP_OP.ja, 0, 0, 0, 0);
  }

  /** Jumps always, over up to 2^31 slots; Linux 6.6. */
  jumpLong(label: string): this {
    this.#fixups.push({ at: this.length, label, field: "immediate" });
    return this.#emit(BPF_JMP32 | JMP_OP.ja, 0, 0, 0, 0);
  }

  /** == */
  jeq(dst: Register, src: Operand, label: string): this {
    return this.#branch(BPF_JMP, JMP_OP.jeq, dst, src, label);
  }

  /** != */
  jne(dst: Register, src: Operand, label: string): this {
    return this.#branch(BPF_JMP, JMP_OP.jne, dst, src, label);
  }

  /** > unsigned */
  jgt(dst: Register, src: Operand, label: string): this {
    return this.#branch(BPF_JMP, JMP_OP.jgt, dst, src, label);
  }

  /** >= unsigned */
  jge(dst: Register, src: Operand, label: string): this {
    return this.#branch(BPF_JMP, JMP_OP.jge, dst, src, label);
  }

  /** < unsigned */
  jlt(dst: Register, src: Operand, label: string): this {
    return this.#branch(BPF_JMP, JMP_OP.jlt, dst, src, label);
  }

  /** <= unsigned */
  jle(dst: Register, src: Operand, label: string): this {
    return this.#branch(BPF_JMP, JMP_OP.jle, dst, src, label);
  }

  /** > signed */
  jsgt(dst: Register, src: Operand, label: string): this {
    return this.#branch(BPF_JMP, JMP_OP.jsgt, dst, src, label);
  }

  /** >= signed */
  jsge(dst: Register, src: Operand, label: string): this {
    return this.#branch(BPF_JMP, JMP_OP.jsge, dst, src, label);
  }

  /** < signed */
  jslt(dst: Register, src: Operand, label: string): this {
    return this.#branch(BPF_JMP, JMP_OP.jslt, dst, src, label);
  }

  /** <= signed */
  jsle(dst: Register, src: Operand, label: string): this {
    return this.#branch(BPF_JMP, JMP_OP.jsle, dst, src, label);
  }

  /** & is not 0 */
  jset(dst: Register, src: Operand, label: string): this {
    return this.#branch(BPF_JMP, JMP_OP.jset, dst, src, label);
  }

  jeq32(dst: Register, src: Operand, label: string): this {
    return this.#branch(BPF_JMP32, JMP_OP.jeq, dst, src, label);
  }

  jne32(dst: Register, src: Operand, label: string): this {
    return this.#branch(BPF_JMP32, JMP_OP.jne, dst, src, label);
  }

  jgt32(dst: Register, src: Operand, label: string): this {
    return this.#branch(BPF_JMP32, JMP_OP.jgt, dst, src, label);
  }

  jge32(dst: Register, src: Operand, label: string): this {
    return this.#branch(BPF_JMP32, JMP_OP.jge, dst, src, label);
  }

  jlt32(dst: Register, src: Operand, label: string): this {
    return this.#branch(BPF_JMP32, JMP_OP.jlt, dst, src, label);
  }

  jle32(dst: Register, src: Operand, label: string): this {
    return this.#branch(BPF_JMP32, JMP_OP.jle, dst, src, label);
  }

  jsgt32(dst: Register, src: Operand, label: string): this {
    return this.#branch(BPF_JMP32, JMP_OP.jsgt, dst, src, label);
  }

  jsge32(dst: Register, src: Operand, label: string): this {
    return this.#branch(BPF_JMP32, JMP_OP.jsge, dst, src, label);
  }

  jslt32(dst: Register, src: Operand, label: string): this {
    return this.#branch(BPF_JMP32, JMP_OP.jslt, dst, src, label);
  }

  jsle32(dst: Register, src: Operand, label: string): this {
    return this.#branch(BPF_JMP32, JMP_OP.jsle, dst, src, label);
  }

  jset32(dst: Register, src: Operand, label: string): this {
    return this.#branch(BPF_JMP32, JMP_OP.jset, dst, src, label);
  }

  /** Calls a helper, by name without "bpf_" or by number: arguments in r1 to r5, which are lost; result in r0. */
  call(helper: HelperName | number): this {
    return this.#emit(BPF_JMP | JMP_OP.call, 0, 0, 0, typeof helper === "number" ? helper : HELPER[helper]);
  }

  /** Calls a function of this program, with a stack frame of its own. */
  callLocal(label: string): this {
    this.#fixups.push({ at: this.length, label, field: "immediate" });
    return this.#emit(BPF_JMP | JMP_OP.call, 0, BPF_PSEUDO_CALL, 0, 0);
  }

  /** Returns r0. */
  exit(): this {
    return this.#emit(BPF_JMP | JMP_OP.exit, 0, 0, 0, 0);
  }

  /** Any instruction by its fields, as numbers of opcodes.ts: for those without a method. */
  raw(opcode: number, dst: number, src: number, offset: number, immediate: number): this {
    return this.#emit(opcode, dst, src, checkOffset(offset), immediate | 0);
  }

  /** Runs `body` on this assembler: for fragments shared by several places. */
  include(body: (code: this) => void): this {
    body(this);
    return this;
  }

  /** The program, eight bytes a slot. Throws RangeError on a missing label or a jump out of range. */
  assemble(): Uint8Array {
    if (this.length > INSNS_MAX) throw new RangeError(`${this.length} instructions, at most ${INSNS_MAX}`);
    for (const fixup of this.#fixups) this.#resolve(fixup);
    const bytes = new Uint8Array(this.length * INSN_SIZE);
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < this.length; i++) {
      view.setUint8(i * INSN_SIZE, this.#opcodes[i]);
      view.setUint8(i * INSN_SIZE + 1, this.#registers[i]);
      view.setInt16(i * INSN_SIZE + 2, this.#offsets[i], true);
      view.setInt32(i * INSN_SIZE + 4, this.#immediates[i], true);
    }
    return bytes;
  }

  /** The program as text, one instruction a line in the verifier's notation, with this program's labels. */
  listing(): string {
    return disassemble(this.assemble(), this.#labels);
  }

  #resolve(fixup: Fixup): void {
    const target = this.#labels.get(fixup.label);
    if (target === undefined) throw new RangeError(`no label "${fixup.label}" (jump at ${fixup.at})`);
    if (target >= this.length) throw new RangeError(`label "${fixup.label}" is behind the last instruction`);
    const distance = target - fixup.at - 1;
    if (fixup.field === "immediate") {
      this.#immediates[fixup.at] = distance;
      return;
    }
    if (distance !== (distance << 16) >> 16) {
      throw new RangeError(`jump at ${fixup.at} to "${fixup.label}": ${distance} slots, at most 32767; use jumpLong`);
    }
    this.#offsets[fixup.at] = distance;
  }

  #alu(kind: number, op: number, dst: Register, src: Operand, offset = 0): this {
    return this.#operand(kind | op, kind === BPF_ALU64, dst, src, offset);
  }

  #branch(kind: number, op: number, dst: Register, src: Operand, label: string): this {
    this.#fixups.push({ at: this.length, label, field: "offset" });
    return this.#operand(kind | op, kind === BPF_JMP, dst, src, 0);
  }

  #operand(opcode: number, wide: boolean, dst: Register, src: Operand, offset: number): this {
    if (typeof src !== "number") return this.#emit(opcode | BPF_X, dst.index, src.index, offset, 0);
    return this.#emit(opcode | BPF_K, dst.index, 0, offset, checkImmediate(src, wide));
  }

  #store(size: number, base: Register, offset: number, src: Operand): this {
    checkOffset(offset);
    if (typeof src !== "number") return this.#emit(BPF_STX | BPF_MEM | size, base.index, src.index, offset, 0);
    return this.#emit(BPF_ST | BPF_MEM | size, base.index, 0, offset, checkImmediate(src, size === BPF_DW));
  }

  #atomic(size: number, op: number, base: Register, offset: number, src: Register): this {
    return this.#emit(BPF_STX | BPF_ATOMIC | size, base.index, src.index, checkOffset(offset), op);
  }

  #wide(dst: Register, pseudo: number, low: number, high: number): this {
    this.#emit(BPF_LD | BPF_IMM | BPF_DW, dst.index, pseudo, 0, low | 0);
    return this.#emit(0, 0, 0, 0, high | 0);
  }

  #emit(opcode: number, dst: number, src: number, offset: number, immediate: number): this {
    this.#opcodes.push(opcode);
    this.#registers.push(dst | (src << 4));
    this.#offsets.push(offset);
    this.#immediates.push(immediate);
    return this;
  }
}

function checkOffset(offset: number): number {
  if (offset !== (offset << 16) >> 16) throw new RangeError(`offset ${offset} is not a signed 16-bit integer`);
  return offset;
}

/** A 64-bit operation sign-extends its immediate, so it cannot mean 0x80000000 and up; a narrower one can. */
function checkImmediate(value: number, wide: boolean): number {
  const fits = Number.isInteger(value) && value >= -0x8000_0000 && value <= (wide ? 0x7fff_ffff : 0xffff_ffff);
  if (fits) return value | 0;
  throw new RangeError(`immediate ${value} does not fit in ${wide ? "a sign-extended 32" : "32"} bits; use loadImm64`);
}
