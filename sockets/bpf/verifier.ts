/**
 * What the kernel demands of a classic program before it runs it (bpf_check_classic and check_load_and_stores in
 * net/core/filter.c): the same programs pass here and there, so one that passes ends, reads nothing it has not written,
 * and divides by no constant zero.
 */
import { ERRNO, SysError } from "af-xdp-bindings";
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
  BPF_MAXINSNS,
  BPF_MEM,
  BPF_MEMWORDS,
  BPF_MOD,
  BPF_RET,
  BPF_RSH,
  BPF_ST,
  BPF_STX,
  classOf,
  isConditional,
  modeOf,
  operationOf,
  SKF_AD_OFF,
  SKF_AD_VLAN_TPID,
  type SockFilter,
  usesX,
} from "./opcodes.ts";

/** Why the kernel would refuse the program with EINVAL, in words; null when it would take it. */
export function faultOf(program: readonly SockFilter[]): string | null {
  const count = program.length;
  if (count === 0) return "no instructions";
  if (count > BPF_MAXINSNS) return `${count} instructions: at most ${BPF_MAXINSNS}`;
  for (let pc = 0; pc < count; pc++) {
    const fault = instructionFault(program[pc], count - pc - 1);
    if (fault !== null) return `instruction ${pc}: ${fault}`;
  }
  if (classOf(program[count - 1].code) !== BPF_RET) return `instruction ${count - 1}: the last one must return`;
  return memoryFault(program);
}

/** Throws SysError EINVAL with the reason unless the program is valid. */
export function verifyClassic(program: readonly SockFilter[]): void {
  const fault = faultOf(program);
  if (fault !== null) throw new SysError(ERRNO.EINVAL, "BPF program", fault);
}

/** @param after instructions after this one */
function instructionFault({ code, jt, jf, k }: SockFilter, after: number): string | null {
  if (!isUint(code, 0xffff) || !isUint(jt, 0xff) || !isUint(jf, 0xff) || !isUint(k, 0xffffffff)) {
    return "a field out of range";
  }
  if (!ALLOWED_CODES.has(code)) return `unknown code 0x${code.toString(16)}`;
  switch (classOf(code)) {
    case BPF_ALU:
      return usesX(code) ? null : constantFault(operationOf(code), k);
    case BPF_JMP:
      return jumpFault(code, jt, jf, k, after);
    case BPF_ST:
    case BPF_STX:
      return cellFault(k);
    case BPF_LD:
    case BPF_LDX:
      if (modeOf(code) === BPF_MEM) return cellFault(k);
      return classOf(code) === BPF_LD && modeOf(code) === BPF_ABS ? ancillaryFault(k) : null;
    default:
      return null;
  }
}

function isUint(value: number, max: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= max;
}

function constantFault(operation: number, k: number): string | null {
  if ((operation === BPF_DIV || operation === BPF_MOD) && k === 0) return "division by zero";
  if ((operation === BPF_LSH || operation === BPF_RSH) && k >= 32) return `shift by ${k}`;
  return null;
}

function jumpFault(code: number, jt: number, jf: number, k: number, after: number): string | null {
  const farthest = operationOf(code) === BPF_JA ? k : Math.max(jt, jf);
  return farthest < after ? null : "jumps behind the end";
}

function cellFault(k: number): string | null {
  return k < BPF_MEMWORDS ? null : `M[${k}]: there are ${BPF_MEMWORDS}`;
}

/** Absolute loads above SKF_AD_OFF name something, by the offsets of SKF_AD_PROTOCOL to SKF_AD_VLAN_TPID. */
function ancillaryFault(k: number): string | null {
  const what = (k | 0) - SKF_AD_OFF;
  if ((k | 0) >= 0 || what < 0) return null;
  return what <= SKF_AD_VLAN_TPID && what % 4 === 0 ? null : `unknown ancillary load SKF_AD_OFF + ${what}`;
}

/** Whether each M[] that is loaded has been stored on every way there. Bit i of a mask stands for M[i]. */
function memoryFault(program: readonly SockFilter[]): string | null {
  const masks = new Uint16Array(program.length).fill(0xffff);
  let valid = 0;
  for (let pc = 0; pc < program.length; pc++) {
    const { code, jt, jf, k } = program[pc];
    valid &= masks[pc];
    const kind = classOf(code);
    if (kind === BPF_ST || kind === BPF_STX) {
      valid |= 1 << k;
    } else if ((kind === BPF_LD || kind === BPF_LDX) && modeOf(code) === BPF_MEM) {
      if ((valid & (1 << k)) === 0) return `instruction ${pc}: M[${k}] is loaded, but not always stored before`;
    } else if (kind === BPF_JMP) {
      if (isConditional(code)) {
        masks[pc + 1 + jt] &= valid;
        masks[pc + 1 + jf] &= valid;
      } else {
        masks[pc + 1 + k] &= valid;
      }
      // What follows is reached by jumps alone.
      valid = 0xffff;
    }
  }
  return null;
}
