/** What arithmetic makes of registers: numbers by their ranges, addresses moved within what they point to. */
import { ERRNO, opcodes } from "af-xdp-bindings";
import { refuse } from "./flow.ts";
import { classOf, type Instruction, operationOf, usesRegister } from "./instruction.ts";
import * as scalar from "./scalar.ts";
import {
  EMPTY,
  isAddress,
  KIND_NAMES,
  MAP_VALUE,
  NOTHING,
  NUMBER,
  numberRegister,
  PACKET,
  PACKET_END,
  type Register,
  STACK,
  type State,
} from "./state.ts";

const { ALU_OP, BPF_ALU64 } = opcodes;
const { EACCES } = ERRNO;

/** Addresses are moved less than this at once, so that offsets stay small (BPF_MAX_VAR_OFF). */
const OFFSET_MAX = 1 << 29;

/** The second operand: a register, or the immediate as a number. */
export function operandOf(state: State, i: Instruction, wide: boolean): Register {
  if (usesRegister(i.opcode)) return state.registers[i.src];
  return numberRegister(scalar.constant(wide ? BigInt(i.immediate) : BigInt(i.immediate >>> 0)));
}

/** Does an instruction of class ALU or ALU64. @param newId a number that no register has as its id */
export function stepArithmetic(state: State, i: Instruction, slot: number, newId: () => number): void {
  const wide = classOf(i.opcode) === BPF_ALU64;
  const operation = operationOf(i.opcode);
  const dst = state.registers[i.dst];
  const src = operation === ALU_OP.end || operation === ALU_OP.neg ? EMPTY : operandOf(state, i, wide);
  if (operation !== ALU_OP.mov && dst.kind === NOTHING) refuse(EACCES, slot, `r${i.dst} is not set`);
  if (usesRegister(i.opcode) && operation !== ALU_OP.end && src.kind === NOTHING) {
    refuse(EACCES, slot, `r${i.src} is not set`);
  }
  state.registers[i.dst] = result(state, i, dst, src, wide, slot, newId);
}

function result(
  state: State,
  i: Instruction,
  dst: Register,
  src: Register,
  wide: boolean,
  slot: number,
  newId: () => number,
): Register {
  const operation = operationOf(i.opcode);
  if (operation === ALU_OP.mov) return move(state, i, src, wide, slot, newId);
  if (!isAddress(dst) && !isAddress(src)) {
    const number = wide ? arithmetic64(i, dst.number, src.number) : arithmetic32(i, dst.number, src.number);
    return numberRegister(number);
  }
  if (!wide) refuse(EACCES, slot, "arithmetic of 32 bits on an address");
  if (operation === ALU_OP.add)
    return isAddress(dst) ? moved(dst, src, false, slot, newId) : moved(src, dst, false, slot, newId);
  if (operation !== ALU_OP.sub || !isAddress(dst))
    refuse(EACCES, slot, "only sums and differences are made of addresses");
  return isAddress(src) ? distance(dst, src, slot) : moved(dst, src, true, slot, newId);
}

function move(state: State, i: Instruction, src: Register, wide: boolean, slot: number, newId: () => number): Register {
  if (isAddress(src)) {
    if (!wide || i.offset !== 0) refuse(EACCES, slot, "part of an address");
    return src;
  }
  if (i.offset !== 0) {
    const extended = scalar.extendSign(src.number, i.offset);
    return numberRegister(wide ? extended : scalar.truncate(extended));
  }
  if (!wide && !scalar.isShort(src.number)) return numberRegister(scalar.truncate(src.number));
  // From now on both hold the same: what a comparison says of one, it says of the other.
  if (usesRegister(i.opcode) && src.id === 0 && !scalar.isConstant(src.number)) {
    state.registers[i.src] = { ...src, id: newId() };
    return state.registers[i.src];
  }
  return src;
}

/** An address and a number added to it or taken from it. */
function moved(address: Register, by: Register, back: boolean, slot: number, newId: () => number): Register {
  const { kind } = address;
  if (isAddress(by)) refuse(EACCES, slot, "the sum of two addresses");
  if (kind !== STACK && kind !== MAP_VALUE && kind !== PACKET) {
    refuse(EACCES, slot, `arithmetic on ${KIND_NAMES[kind]}${kind === PACKET_END ? "" : ": compare it with 0 first"}`);
  }
  const number = back ? scalar.sub(scalar.constant(0n), by.number) : by.number;
  if (scalar.isConstant(number)) {
    const offset = address.offset + Number(number.smin);
    if (Math.abs(offset) >= OFFSET_MAX) refuse(EACCES, slot, `an offset of ${offset} bytes`);
    return { ...address, offset };
  }
  const far = BigInt(OFFSET_MAX);
  const sum = scalar.add(address.number, number);
  if (number.smin <= -far || number.smax >= far || sum.smin <= -far || sum.smax >= far) {
    refuse(EACCES, slot, `${KIND_NAMES[kind]} and a number between ${number.smin} and ${number.smax}: too far`);
  }
  // What is known of the packet's length was known of the old address.
  return kind === PACKET ? { ...address, number: sum, id: newId(), range: 0 } : { ...address, number: sum };
}

/** Of two addresses in the packet, or of one and its end. */
function distance(a: Register, b: Register, slot: number): Register {
  const inPacket = ({ kind }: Register): boolean => kind === PACKET || kind === PACKET_END;
  if (!inPacket(a) || !inPacket(b)) refuse(EACCES, slot, "the difference of addresses that are not both of the packet");
  return numberRegister(scalar.UNKNOWN);
}

function arithmetic64(i: Instruction, a: scalar.Scalar, b: scalar.Scalar): scalar.Scalar {
  switch (operationOf(i.opcode)) {
    case ALU_OP.add:
      return scalar.add(a, b);
    case ALU_OP.sub:
      return scalar.sub(a, b);
    case ALU_OP.mul:
      return scalar.mul(a, b);
    case ALU_OP.div:
      return i.offset === 0 ? scalar.div(a, b) : scalar.UNKNOWN;
    case ALU_OP.mod:
      return i.offset === 0 ? scalar.mod(a, b) : scalar.UNKNOWN;
    case ALU_OP.or:
      return scalar.or(a, b);
    case ALU_OP.and:
      return scalar.and(a, b);
    case ALU_OP.xor:
      return scalar.xor(a, b);
    case ALU_OP.lsh:
      return scalar.lsh(a, b, 64);
    case ALU_OP.rsh:
      return scalar.rsh(a, b, 64);
    case ALU_OP.arsh:
      return scalar.arsh(a, b);
    case ALU_OP.neg:
      return scalar.sub(scalar.constant(0n), a);
    default:
      return swapped(i, a);
  }
}

function arithmetic32(i: Instruction, wideA: scalar.Scalar, wideB: scalar.Scalar): scalar.Scalar {
  const a = scalar.truncate(wideA);
  const b = scalar.truncate(wideB);
  switch (operationOf(i.opcode)) {
    case ALU_OP.lsh:
      return scalar.truncate(scalar.lsh(a, b, 32));
    case ALU_OP.rsh:
      return scalar.rsh(a, b, 32);
    case ALU_OP.arsh:
      return a.umax < 1n << 31n ? scalar.rsh(a, b, 32) : scalar.UNKNOWN32;
    case ALU_OP.end:
      return swapped(i, wideA);
    default:
      return scalar.truncate(arithmetic64(i, a, b));
  }
}

/** BE, LE and BSWAP: so many bits, in some order. */
function swapped(i: Instruction, a: scalar.Scalar): scalar.Scalar {
  const kept = i.immediate === 64 ? a : scalar.and(a, scalar.constant((1n << BigInt(i.immediate)) - 1n));
  const isLittle = classOf(i.opcode) !== BPF_ALU64 && !usesRegister(i.opcode);
  if (isLittle) return kept;
  return i.immediate === 64 ? scalar.UNKNOWN : scalar.range(0n, (1n << BigInt(i.immediate)) - 1n);
}

export const isNumber = ({ kind }: Register): boolean => kind === NUMBER;
