/** Arithmetic and comparisons as JavaScript over pairs of int32: l0 and h0 are the halves of r0. */
import { opcodes } from "af-xdp-bindings";
import type { Fact } from "./facts.ts";
import { classOf, type Instruction, operationOf, usesRegister } from "./instruction.ts";

const { ALU_OP, BPF_ALU64, BPF_JMP, JMP_OP } = opcodes;

/** The second operand's halves, as expressions without effects. */
interface Operand {
  readonly low: string;
  readonly high: string;
  /** The number, where it is an immediate. */
  readonly constant: number | null;
}

function operandOf(i: Instruction): Operand {
  if (usesRegister(i.opcode)) return { low: `l${i.src}`, high: `h${i.src}`, constant: null };
  return { low: String(i.immediate), high: String(i.immediate >> 31), constant: i.immediate };
}

export function arithmetic(i: Instruction): string {
  const l = `l${i.dst}`;
  const h = `h${i.dst}`;
  if (operationOf(i.opcode) === ALU_OP.end) return byteOrder(i, l, h);
  return classOf(i.opcode) === BPF_ALU64 ? wide(i, l, h, operandOf(i)) : `${narrow(i, l, operandOf(i))} ${h} = 0;`;
}

function wide(i: Instruction, l: string, h: string, { low, high, constant }: Operand): string {
  const signed = i.offset === 1 ? "signedD" : "d";
  switch (operationOf(i.opcode)) {
    case ALU_OP.mov:
      return i.offset === 0
        ? `${l} = ${low}; ${h} = ${high};`
        : `${l} = ${extended(low, i.offset)}; ${h} = ${l} >> 31;`;
    case ALU_OP.add:
      return `t = (${l} + ${low}) | 0; ${h} = (${h} + ${high} + ((t >>> 0) < (${low} >>> 0) ? 1 : 0)) | 0; ${l} = t;`;
    case ALU_OP.sub:
      return `t = (${l} >>> 0) < (${low} >>> 0) ? 1 : 0; ${h} = (${h} - (${high}) - t) | 0; ${l} = (${l} - (${low})) | 0;`;
    case ALU_OP.mul:
      return (
        `t = (mulHigh(${l}, ${low}) + Math.imul(${l}, ${high}) + Math.imul(${h}, ${low})) | 0; ` +
        `${l} = Math.imul(${l}, ${low}); ${h} = t;`
      );
    case ALU_OP.div:
      return `${l} = ${signed}ivide(${l}, ${h}, ${low}, ${high}); ${h} = HIGH[0];`;
    case ALU_OP.mod: {
      const name = i.offset === 1 ? "signedRemainder" : "remainder";
      return `${l} = ${name}(${l}, ${h}, ${low}, ${high}); ${h} = HIGH[0];`;
    }
    case ALU_OP.and:
      return `${l} &= ${low}; ${h} &= ${high};`;
    case ALU_OP.or:
      return `${l} |= ${low}; ${h} |= ${high};`;
    case ALU_OP.xor:
      return `${l} ^= ${low}; ${h} ^= ${high};`;
    case ALU_OP.neg:
      return `${h} = (~${h} + (${l} === 0 ? 1 : 0)) | 0; ${l} = -${l} | 0;`;
    default:
      return constant === null
        ? variableShift(operationOf(i.opcode), l, h, low)
        : shift(operationOf(i.opcode), l, h, constant);
  }
}

/** Shifts by a number from 0 to 63. */
function shift(operation: number, l: string, h: string, by: number): string {
  const rest = by & 31;
  if (by === 0) return "";
  if (operation === ALU_OP.lsh) {
    if (by >= 32) return `${h} = ${l} << ${rest}; ${l} = 0;`;
    return `${h} = (${h} << ${by}) | (${l} >>> ${32 - by}); ${l} <<= ${by};`;
  }
  const operator = operation === ALU_OP.arsh ? ">>" : ">>>";
  const fill = operation === ALU_OP.arsh ? `${h} >> 31` : "0";
  if (by >= 32) return `${l} = (${h} ${operator} ${rest}) | 0; ${h} = ${fill};`;
  return `${l} = (${l} >>> ${by}) | (${h} << ${32 - by}); ${h} = (${h} ${operator} ${by}) | 0;`;
}

/** JavaScript takes counts modulo 32, so the two cases differ only in which half goes where; 0 changes nothing. */
function variableShift(operation: number, l: string, h: string, low: string): string {
  const count = `t = ${low} & 63; `;
  if (operation === ALU_OP.lsh) {
    return `${count}if (t > 31) { ${h} = ${l} << t; ${l} = 0; } else if (t !== 0) { ${h} = (${h} << t) | (${l} >>> (32 - t)); ${l} <<= t; }`;
  }
  const operator = operation === ALU_OP.arsh ? ">>" : ">>>";
  const fill = operation === ALU_OP.arsh ? `${h} >> 31` : "0";
  return (
    `${count}if (t > 31) { ${l} = (${h} ${operator} t) | 0; ${h} = ${fill}; } ` +
    `else if (t !== 0) { ${l} = (${l} >>> t) | (${h} << (32 - t)); ${h} = (${h} ${operator} t) | 0; }`
  );
}

function extended(low: string, bits: number): string {
  return bits === 32 ? low : `(${low} << ${32 - bits}) >> ${32 - bits}`;
}

function narrow(i: Instruction, l: string, { low }: Operand): string {
  switch (operationOf(i.opcode)) {
    case ALU_OP.mov:
      return i.offset === 0 ? `${l} = ${low};` : `${l} = ${extended(low, i.offset)};`;
    case ALU_OP.add:
      return `${l} = (${l} + ${low}) | 0;`;
    case ALU_OP.sub:
      return `${l} = (${l} - (${low})) | 0;`;
    case ALU_OP.mul:
      return `${l} = Math.imul(${l}, ${low});`;
    case ALU_OP.div:
      if (i.offset === 1) return `${l} = ${low} === 0 ? 0 : (${l} / ${low}) | 0;`;
      return `${l} = ${low} === 0 ? 0 : ((${l} >>> 0) / (${low} >>> 0)) | 0;`;
    case ALU_OP.mod:
      if (i.offset === 1) return `if (${low} !== 0) ${l} = (${l} % ${low}) | 0;`;
      return `if (${low} !== 0) ${l} = ((${l} >>> 0) % (${low} >>> 0)) | 0;`;
    case ALU_OP.and:
      return `${l} &= ${low};`;
    case ALU_OP.or:
      return `${l} |= ${low};`;
    case ALU_OP.xor:
      return `${l} ^= ${low};`;
    case ALU_OP.neg:
      return `${l} = -${l} | 0;`;
    case ALU_OP.lsh:
      return `${l} <<= ${low};`;
    case ALU_OP.rsh:
      return `${l} = (${l} >>> ${low}) | 0;`;
    default:
      // ARSH, the last of them.
      return `${l} >>= ${low};`;
  }
}

/** BE, LE and BSWAP; this machine is little-endian. */
function byteOrder(i: Instruction, l: string, h: string): string {
  const swaps = classOf(i.opcode) === BPF_ALU64 || usesRegister(i.opcode);
  switch (i.immediate) {
    case 16:
      return swaps ? `${l} = ((${l} & 255) << 8) | ((${l} >>> 8) & 255); ${h} = 0;` : `${l} &= 65535; ${h} = 0;`;
    case 32:
      return swaps ? `${l} = swap32(${l}); ${h} = 0;` : `${h} = 0;`;
    default:
      return swaps ? `t = swap32(${l}); ${l} = swap32(${h}); ${h} = t;` : "";
  }
}

/** A branch's condition as an expression. */
export function condition(i: Instruction, fact: Fact): string {
  const l = `l${i.dst}`;
  const h = `h${i.dst}`;
  const { low, high, constant } = operandOf(i);
  const operation = operationOf(i.opcode);
  const srcShort = constant === null ? fact.srcShort : constant >= 0;
  const halves = classOf(i.opcode) === BPF_JMP && !(fact.dstShort && srcShort);
  if (!halves)
    return classOf(i.opcode) === BPF_JMP ? compare(unsignedOf(operation), l, low) : compare(operation, l, low);
  switch (operation) {
    case JMP_OP.jeq:
      return `${l} === ${low} && ${h} === ${high}`;
    case JMP_OP.jne:
      return `${l} !== ${low} || ${h} !== ${high}`;
    case JMP_OP.jset:
      return `((${l} & ${low}) | (${h} & ${high})) !== 0`;
    default:
      // Where the high halves are the same the low ones decide, unsigned.
      return `${h} === ${high} ? ${compare(unsignedOf(operation), l, low)} : ${compare(operation, h, high)}`;
  }
}

const UNSIGNED = new Map<number, number>([
  [JMP_OP.jsgt, JMP_OP.jgt],
  [JMP_OP.jsge, JMP_OP.jge],
  [JMP_OP.jslt, JMP_OP.jlt],
  [JMP_OP.jsle, JMP_OP.jle],
]);
const unsignedOf = (operation: number): number => UNSIGNED.get(operation) ?? operation;

function compare(operation: number, a: string, b: string): string {
  switch (operation) {
    case JMP_OP.jeq:
      return `${a} === ${b}`;
    case JMP_OP.jne:
      return `${a} !== ${b}`;
    case JMP_OP.jset:
      return `(${a} & ${b}) !== 0`;
    case JMP_OP.jgt:
      return `(${a} >>> 0) > (${b} >>> 0)`;
    case JMP_OP.jge:
      return `(${a} >>> 0) >= (${b} >>> 0)`;
    case JMP_OP.jlt:
      return `(${a} >>> 0) < (${b} >>> 0)`;
    case JMP_OP.jle:
      return `(${a} >>> 0) <= (${b} >>> 0)`;
    case JMP_OP.jsgt:
      return `${a} > ${b}`;
    case JMP_OP.jsge:
      return `${a} >= ${b}`;
    case JMP_OP.jslt:
      return `${a} < ${b}`;
    default:
      // JSLE, the last of them.
      return `${a} <= ${b}`;
  }
}
