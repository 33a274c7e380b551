/** Instructions as text, in the notation of the kernel's verifier log, so that a listing and a log read alike. */
import { helperName } from "./helpers.ts";
import {
  ALU_OP,
  ATOMIC_OP,
  BPF_ABS,
  BPF_ALU,
  BPF_ALU64,
  BPF_ATOMIC,
  BPF_B,
  BPF_DW,
  BPF_FETCH,
  BPF_H,
  BPF_IMM,
  BPF_IND,
  BPF_JMP,
  BPF_JMP32,
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
  JMP_OP,
} from "./opcodes.ts";

/** One instruction, its fields apart. */
interface Instruction {
  readonly opcode: number;
  readonly dst: number;
  readonly src: number;
  readonly offset: number;
  readonly immediate: number;
  /** The immediate of the second slot of ld_imm64, else 0. */
  readonly high: number;
}

const ALU_SYMBOL = new Map<number, string>([
  [ALU_OP.add, "+="],
  [ALU_OP.sub, "-="],
  [ALU_OP.mul, "*="],
  [ALU_OP.div, "/="],
  [ALU_OP.or, "|="],
  [ALU_OP.and, "&="],
  [ALU_OP.lsh, "<<="],
  [ALU_OP.rsh, ">>="],
  [ALU_OP.mod, "%="],
  [ALU_OP.xor, "^="],
  [ALU_OP.mov, "="],
  [ALU_OP.arsh, "s>>="],
]);

const JUMP_SYMBOL = new Map<number, string>([
  [JMP_OP.jeq, "=="],
  [JMP_OP.jgt, ">"],
  [JMP_OP.jge, ">="],
  [JMP_OP.jset, "&"],
  [JMP_OP.jne, "!="],
  [JMP_OP.jsgt, "s>"],
  [JMP_OP.jsge, "s>="],
  [JMP_OP.jlt, "<"],
  [JMP_OP.jle, "<="],
  [JMP_OP.jslt, "s<"],
  [JMP_OP.jsle, "s<="],
]);

const ATOMIC_NAME = new Map<number, string>(
  Object.entries(ATOMIC_OP).flatMap(([name, op]): [number, string][] =>
    op & BPF_FETCH
      ? [[op, name]]
      : [
          [op, name],
          [op | BPF_FETCH, `fetch_${name}`],
        ],
  ),
);

const SIZE_NAME = new Map<number, string>([
  [BPF_B, "u8"],
  [BPF_H, "u16"],
  [BPF_W, "u32"],
  [BPF_DW, "u64"],
]);

/** The whole program, one line an instruction, numbered by slot. `labels` maps names to slots. */
export function disassemble(program: Uint8Array, labels: ReadonlyMap<string, number> = new Map()): string {
  const view = new DataView(program.buffer, program.byteOffset, program.byteLength);
  const names = new Map<number, string>();
  for (const [name, slot] of labels) names.set(slot, names.has(slot) ? `${names.get(slot)}, ${name}` : name);
  const lines: string[] = [];
  for (let slot = 0; slot * INSN_SIZE < program.length; slot++) {
    if (names.has(slot)) lines.push(`${names.get(slot)}:`);
    const instruction = decode(view, slot);
    lines.push(`${String(slot).padStart(5)}: ${text(instruction, slot, names)}`);
    if (isWide(instruction.opcode)) slot++;
  }
  return lines.join("\n");
}

const isWide = (opcode: number): boolean => opcode === (BPF_LD | BPF_IMM | BPF_DW);

function decode(view: DataView, slot: number): Instruction {
  const at = slot * INSN_SIZE;
  const opcode = view.getUint8(at);
  const registers = view.getUint8(at + 1);
  return {
    opcode,
    dst: registers & 15,
    src: registers >> 4,
    offset: view.getInt16(at + 2, true),
    immediate: view.getInt32(at + 4, true),
    high: isWide(opcode) && at + INSN_SIZE < view.byteLength ? view.getInt32(at + INSN_SIZE + 4, true) : 0,
  };
}

function text(i: Instruction, slot: number, names: ReadonlyMap<number, string>): string {
  switch (i.opcode & 7) {
    case BPF_ALU:
    case BPF_ALU64:
      return aluText(i);
    case BPF_JMP:
    case BPF_JMP32:
      return jumpText(i, slot, names);
    case BPF_LD:
      return isWide(i.opcode) ? wideText(i) : legacyText(i);
    default:
      return memoryText(i);
  }
}

const unknown = (i: Instruction): string => `.insn 0x${i.opcode.toString(16)}`;

/** Loads of the packet that classic programs have. */
function legacyText(i: Instruction): string {
  const mode = i.opcode & 0xe0;
  const size = SIZE_NAME.get(i.opcode & 0x18);
  if ((mode !== BPF_ABS && mode !== BPF_IND) || size === "u64") return unknown(i);
  const sign = i.immediate < 0 ? "-" : "+";
  const at = mode === BPF_ABS ? i.immediate : `r${i.src} ${sign} ${Math.abs(i.immediate)}`;
  return `r0 = *(${size} *)skb[${at}]`;
}

function aluText(i: Instruction): string {
  const wide = (i.opcode & 7) === BPF_ALU64;
  const prefix = wide ? "r" : "w";
  const dst = `${prefix}${i.dst}`;
  const op = i.opcode & 0xf0;
  if (op === ALU_OP.neg) return `${dst} = -${dst}`;
  if (op === ALU_OP.end) {
    const swap = wide ? "bswap" : i.opcode & BPF_X ? "be" : "le";
    return `r${i.dst} = ${swap}${i.immediate} r${i.dst}`;
  }
  const symbol = ALU_SYMBOL.get(op);
  if (symbol === undefined) return unknown(i);
  if (op === ALU_OP.mov && i.offset !== 0) return `${dst} = (s${i.offset})${prefix}${i.src}`;
  const signed = (op === ALU_OP.div || op === ALU_OP.mod) && i.offset === 1 ? "s" : "";
  return `${dst} ${signed}${symbol} ${i.opcode & BPF_X ? `${prefix}${i.src}` : i.immediate}`;
}

function jumpText(i: Instruction, slot: number, names: ReadonlyMap<number, string>): string {
  const op = i.opcode & 0xf0;
  const wide = (i.opcode & 7) === BPF_JMP;
  const target = (distance: number): string => {
    const name = names.get(slot + 1 + distance);
    return `${distance < 0 ? "" : "+"}${distance}${name === undefined ? "" : ` <${name}>`}`;
  };
  if (op === JMP_OP.exit) return "exit";
  if (op === JMP_OP.call) {
    return i.src === BPF_PSEUDO_CALL ? `call pc${target(i.immediate)}` : `call ${helperName(i.immediate)}`;
  }
  if (op === JMP_OP.ja) return wide ? `goto ${target(i.offset)}` : `gotol ${target(i.immediate)}`;
  const symbol = JUMP_SYMBOL.get(op);
  if (symbol === undefined) return unknown(i);
  const prefix = wide ? "r" : "w";
  const operand = i.opcode & BPF_X ? `${prefix}${i.src}` : i.immediate;
  return `if ${prefix}${i.dst} ${symbol} ${operand} goto ${target(i.offset)}`;
}

function memoryText(i: Instruction): string {
  const size = SIZE_NAME.get(i.opcode & 0x18) as string;
  const mode = i.opcode & 0xe0;
  const place = (base: number, type: string): string =>
    `*(${type} *)(r${base} ${i.offset < 0 ? "-" : "+"} ${Math.abs(i.offset)})`;
  switch (i.opcode & 7) {
    case BPF_LDX:
      if (mode === BPF_MEM) return `r${i.dst} = ${place(i.src, size)}`;
      return mode === BPF_MEMSX ? `r${i.dst} = ${place(i.src, size.replace("u", "s"))}` : unknown(i);
    case BPF_ST:
      return mode === BPF_MEM ? `${place(i.dst, size)} = ${i.immediate}` : unknown(i);
    case BPF_STX:
      if (mode === BPF_MEM) return `${place(i.dst, size)} = r${i.src}`;
      return mode === BPF_ATOMIC
        ? `atomic_${ATOMIC_NAME.get(i.immediate)} ${place(i.dst, size)}, r${i.src}`
        : unknown(i);
    default:
      return unknown(i);
  }
}

function wideText(i: Instruction): string {
  if (i.src === BPF_PSEUDO_MAP_FD) return `r${i.dst} = map fd ${i.immediate}`;
  if (i.src === BPF_PSEUDO_MAP_VALUE) return `r${i.dst} = map fd ${i.immediate} value + ${i.high}`;
  const bits = (BigInt(i.high >>> 0) << 32n) | BigInt(i.immediate >>> 0);
  return `r${i.dst} = 0x${bits.toString(16)} ll`;
}
