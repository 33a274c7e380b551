/** The shape of a program: which instructions there are, where each may go next, which registers are still read. */
import { ERRNO, type HelperName, helperName, opcodes, SysError } from "af-xdp-bindings";
import { classOf, type Instruction, isWide, modeOf, operationOf, usesRegister } from "./instruction.ts";

const {
  ALU_OP,
  ATOMIC_OP,
  BPF_ABS,
  BPF_ALU,
  BPF_ALU64,
  BPF_ATOMIC,
  BPF_DW,
  BPF_FETCH,
  BPF_IND,
  BPF_JMP,
  BPF_JMP32,
  BPF_LD,
  BPF_LDX,
  BPF_MEM,
  BPF_MEMSX,
  BPF_PSEUDO_MAP_FD,
  BPF_PSEUDO_MAP_VALUE,
  BPF_ST,
  BPF_STX,
  BPF_W,
  JMP_OP,
} = opcodes;

/** BPF_MAXINSNS of the kernel for the unprivileged: slots of a program. */
const SLOTS_MAX = 4096;

/** A refused program: the verifier's errno, and why, with the slot. */
export function refuse(errno: number, slot: number, reason: string): never {
  throw new SysError(errno, "BPF program", `instruction ${slot}: ${reason}`);
}

const ATOMICS = new Set<number>(Object.values(ATOMIC_OP).flatMap((op) => [op, op | BPF_FETCH]));
const SIGNED_BITS = [0, 8, 16, 32];

/** Where a jump goes when it is taken. */
export function jumpTarget(i: Instruction, slot: number): number {
  const long = i.opcode === (BPF_JMP32 | JMP_OP.ja);
  return slot + 1 + (long ? i.immediate : i.offset);
}

const isJump = (opcode: number): boolean => classOf(opcode) === BPF_JMP || classOf(opcode) === BPF_JMP32;
export const isExit = (opcode: number): boolean => opcode === (BPF_JMP | JMP_OP.exit);
export const isCall = (opcode: number): boolean => opcode === (BPF_JMP | JMP_OP.call);
export const isGoto = (opcode: number): boolean => isJump(opcode) && operationOf(opcode) === JMP_OP.ja;
export const isBranch = (opcode: number): boolean =>
  isJump(opcode) && !isExit(opcode) && !isCall(opcode) && !isGoto(opcode);

/** Slots that may come after this one. */
export function successors(i: Instruction, slot: number): number[] {
  if (isExit(i.opcode)) return [];
  if (isGoto(i.opcode)) return [jumpTarget(i, slot)];
  if (isBranch(i.opcode)) return [slot + 1, jumpTarget(i, slot)];
  return [slot + (isWide(i.opcode) ? 2 : 1)];
}

/** Refuses what is no instruction, jumps that lead nowhere, and what cannot be reached. Throws SysError EINVAL. */
export function checkFlow(program: readonly Instruction[]): void {
  if (program.length === 0 || program.length > SLOTS_MAX) {
    refuse(ERRNO.E2BIG, 0, `a program has 1 to ${SLOTS_MAX} slots, this one ${program.length}`);
  }
  const second = new Uint8Array(program.length);
  for (let slot = 0; slot < program.length; slot++) {
    const fault = formFault(program[slot], program[slot + 1]);
    if (fault !== "") refuse(ERRNO.EINVAL, slot, fault);
    if (isWide(program[slot].opcode)) second[++slot] = 1;
  }
  const reached = new Uint8Array(program.length);
  const pending = [0];
  while (pending.length > 0) {
    const slot = pending.pop() as number;
    if (reached[slot]) continue;
    reached[slot] = 1;
    for (const next of successors(program[slot], slot)) {
      if (next < 0 || next >= program.length) refuse(ERRNO.EINVAL, slot, "goes on outside of the program");
      if (second[next]) refuse(ERRNO.EINVAL, slot, "jumps into the middle of a 64-bit constant");
      pending.push(next);
    }
  }
  const unreached = reached.findIndex((mark, slot) => mark === 0 && second[slot] === 0);
  if (unreached >= 0) refuse(ERRNO.EINVAL, unreached, "cannot be reached");
}

/** Why this is no instruction that is known here, "" if it is. */
function formFault(i: Instruction, next: Instruction | undefined): string {
  if (i.dst > 10 || (i.src > 10 && !isWide(i.opcode))) return "no such register";
  switch (classOf(i.opcode)) {
    case BPF_ALU:
    case BPF_ALU64:
      return arithmeticFault(i);
    case BPF_JMP:
    case BPF_JMP32:
      return jumpFault(i);
    case BPF_LD:
      return isWide(i.opcode) ? wideFault(i, next) : legacyFault(i);
    default:
      return memoryFault(i);
  }
}

const unknown = (i: Instruction): string => `unknown code 0x${i.opcode.toString(16)}`;
const RESERVED = "a field that must be 0 is not";

function arithmeticFault(i: Instruction): string {
  const operation = operationOf(i.opcode);
  const wide = classOf(i.opcode) === BPF_ALU64;
  if (operation > ALU_OP.end) return unknown(i);
  if (operation === ALU_OP.end) {
    if (wide && usesRegister(i.opcode)) return unknown(i);
    return i.src !== 0 || i.offset !== 0 || ![16, 32, 64].includes(i.immediate) ? RESERVED : "";
  }
  if (operation === ALU_OP.neg) {
    return usesRegister(i.opcode) || i.src !== 0 || i.offset !== 0 || i.immediate !== 0 ? RESERVED : "";
  }
  if (usesRegister(i.opcode) ? i.immediate !== 0 : i.src !== 0) return RESERVED;
  if (operation === ALU_OP.mov && usesRegister(i.opcode)) {
    return SIGNED_BITS.includes(i.offset) && (wide || i.offset !== 32) ? "" : RESERVED;
  }
  if (operation === ALU_OP.div || operation === ALU_OP.mod) {
    if (i.offset !== 0 && i.offset !== 1) return RESERVED;
    return !usesRegister(i.opcode) && i.immediate === 0 ? "division by zero" : "";
  }
  if (i.offset !== 0) return RESERVED;
  const shift = operation === ALU_OP.lsh || operation === ALU_OP.rsh || operation === ALU_OP.arsh;
  if (!shift || usesRegister(i.opcode)) return "";
  return i.immediate < 0 || i.immediate >= (wide ? 64 : 32) ? `shift by ${i.immediate}` : "";
}

function jumpFault(i: Instruction): string {
  const operation = operationOf(i.opcode);
  const narrow = classOf(i.opcode) === BPF_JMP32;
  if (operation > JMP_OP.jsle || (narrow && (operation === JMP_OP.call || operation === JMP_OP.exit)))
    return unknown(i);
  if (operation === JMP_OP.exit || operation === JMP_OP.ja) {
    const used = operation === JMP_OP.exit ? i.offset | i.immediate : narrow ? i.offset : i.immediate;
    return usesRegister(i.opcode) || i.dst !== 0 || i.src !== 0 || used !== 0 ? RESERVED : "";
  }
  if (operation === JMP_OP.call) {
    if (usesRegister(i.opcode) || i.dst !== 0 || i.offset !== 0) return RESERVED;
    return i.src === 0 ? "" : "calls within the program and to functions of the kernel are not taken here";
  }
  return (usesRegister(i.opcode) ? i.immediate !== 0 : i.src !== 0) ? RESERVED : "";
}

function wideFault(i: Instruction, next: Instruction | undefined): string {
  if (next === undefined || next.opcode !== 0 || next.dst !== 0 || next.src !== 0 || next.offset !== 0) {
    return "half of a 64-bit constant";
  }
  if (i.offset !== 0) return RESERVED;
  if (i.src === BPF_PSEUDO_MAP_FD) return next.immediate === 0 ? "" : RESERVED;
  return i.src === 0 || i.src === BPF_PSEUDO_MAP_VALUE
    ? ""
    : "only numbers and maps are taken as 64-bit constants here";
}

function legacyFault(i: Instruction): string {
  const mode = modeOf(i.opcode);
  if ((mode !== BPF_ABS && mode !== BPF_IND) || (i.opcode & 0x18) === BPF_DW) return unknown(i);
  return i.dst !== 0 || i.offset !== 0 || (mode === BPF_ABS && i.src !== 0) ? RESERVED : "";
}

function memoryFault(i: Instruction): string {
  const mode = modeOf(i.opcode);
  const size = i.opcode & 0x18;
  switch (classOf(i.opcode)) {
    case BPF_LDX:
      if (mode !== BPF_MEM && (mode !== BPF_MEMSX || size === BPF_DW)) return unknown(i);
      return i.immediate !== 0 ? RESERVED : "";
    case BPF_ST:
      return mode !== BPF_MEM ? unknown(i) : i.src !== 0 ? RESERVED : "";
    default:
      if (mode === BPF_MEM) return i.immediate !== 0 ? RESERVED : "";
      if (mode !== BPF_ATOMIC || (size !== BPF_W && size !== BPF_DW)) return unknown(i);
      return ATOMICS.has(i.immediate) ? "" : `unknown atomic operation 0x${i.immediate.toString(16)}`;
  }
}

/** Registers that an instruction reads, bit by register. */
export function reads(i: Instruction): number {
  const dst = 1 << i.dst;
  const src = usesRegister(i.opcode) ? 1 << i.src : 0;
  switch (classOf(i.opcode)) {
    case BPF_ALU:
    case BPF_ALU64: {
      const operation = operationOf(i.opcode);
      if (operation === ALU_OP.mov) return src;
      return operation === ALU_OP.end || operation === ALU_OP.neg ? dst : dst | src;
    }
    case BPF_JMP:
    case BPF_JMP32:
      if (isExit(i.opcode)) return 1;
      if (isCall(i.opcode)) return ((1 << argumentCount(i.immediate)) - 1) << 1;
      return isGoto(i.opcode) ? 0 : dst | src;
    case BPF_LD:
      if (isWide(i.opcode)) return 0;
      return (1 << 6) | (modeOf(i.opcode) === BPF_IND ? 1 << i.src : 0);
    case BPF_LDX:
      return 1 << i.src;
    case BPF_ST:
      return dst;
    default: {
      const compares = modeOf(i.opcode) === BPF_ATOMIC && i.immediate === ATOMIC_OP.cmpxchg;
      return dst | (1 << i.src) | (compares ? 1 : 0);
    }
  }
}

/** Registers whose contents are gone after an instruction. */
export function writes(i: Instruction): number {
  switch (classOf(i.opcode)) {
    case BPF_ALU:
    case BPF_ALU64:
    case BPF_LDX:
      return 1 << i.dst;
    case BPF_JMP:
      return isCall(i.opcode) ? 0b111111 : 0;
    case BPF_LD:
      return isWide(i.opcode) ? 1 << i.dst : 0b111111;
    case BPF_STX:
      if (modeOf(i.opcode) !== BPF_ATOMIC) return 0;
      if (i.immediate === ATOMIC_OP.cmpxchg) return 1;
      return i.immediate & BPF_FETCH ? 1 << i.src : 0;
    default:
      return 0;
  }
}

/** By slot, the registers that are read there or later before they are written. */
export function liveRegisters(program: readonly Instruction[]): Uint16Array {
  const live = new Uint16Array(program.length);
  for (let changed = true; changed; ) {
    changed = false;
    for (let slot = program.length - 1; slot >= 0; slot--) {
      let after = 0;
      for (const next of successors(program[slot], slot)) after |= live[next] ?? 0;
      const now = reads(program[slot]) | (after & ~writes(program[slot]));
      if (now !== live[slot]) changed = true;
      live[slot] = now;
    }
  }
  return live;
}

/** Arguments of the helpers that are known here. */
const ARGUMENTS: Partial<Record<HelperName, number>> = {
  map_lookup_elem: 2,
  map_update_elem: 4,
  map_delete_elem: 2,
  skb_load_bytes: 4,
  skb_load_bytes_relative: 5,
  get_hash_recalc: 1,
  sk_select_reuseport: 4,
};

const argumentCount = (helper: number): number => ARGUMENTS[helperName(helper) as HelperName] ?? 0;
