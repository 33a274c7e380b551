/** What the verifier knows at one instruction: of each register, and of each eight bytes of the stack. */
import { constant, covers as coversNumber, isShort, type Scalar, UNKNOWN } from "./scalar.ts";

/** What a register holds. */
export const NOTHING = 0;
export const NUMBER = 1;
export const CONTEXT = 2;
export const STACK = 3;
export const MAP_VALUE = 4;
export const MAP_VALUE_OR_NULL = 5;
export const MAP = 6;
export const PACKET = 7;
export const PACKET_END = 8;

export const KIND_NAMES = [
  "nothing",
  "a number",
  "the context",
  "a stack address",
  "a map value",
  "a map value or null",
  "a map",
  "a packet address",
  "the packet's end",
];

export const REGISTERS = 11;
export const FRAME_POINTER = 10;
export const STACK_BYTES = 512;
const SLOTS = STACK_BYTES / 8;

/** A register's contents; never changed, so that states share them. */
export interface Register {
  readonly kind: number;
  /** The number; of an address, what is added to it beside `offset`. */
  readonly number: Scalar;
  /** Bytes from what is pointed to. */
  readonly offset: number;
  /** Registers with the same one, other than 0, hold the same number, or the same address up to `offset`. */
  readonly id: number;
  /** Of a packet address: bytes from the packet's address with this id that are known to be there. */
  readonly range: number;
  /** Of a map, and of an address in its values: its index among the program's. */
  readonly map: number;
}

const ZERO = constant(0n);
export const EMPTY: Register = { kind: NOTHING, number: UNKNOWN, offset: 0, id: 0, range: 0, map: -1 };

export const numberRegister = (number: Scalar, id = 0): Register => ({ ...EMPTY, kind: NUMBER, number, id });
export const addressRegister = (kind: number, more: Partial<Register> = {}): Register => ({
  ...EMPTY,
  kind,
  number: ZERO,
  ...more,
});

export const isAddress = ({ kind }: Register): boolean => kind > NUMBER;
/** Whether the upper half of what the compiled program keeps is 0: addresses are offsets below 2^31. */
export const isShortRegister = (register: Register): boolean => isAddress(register) || isShort(register.number);

/** Eight bytes of the stack: a register as it was stored, or which bytes have been written. */
export interface StackSlot {
  readonly register: Register | null;
  /** Bit i: byte i has been written. */
  readonly written: number;
}

const UNWRITTEN: StackSlot = { register: null, written: 0 };
const ALL_BYTES = 0xff;

export class State {
  readonly registers: Register[];
  /** By distance from the stack's lowest byte, in eights. */
  readonly stack: StackSlot[];

  private constructor(registers: Register[], stack: StackSlot[]) {
    this.registers = registers;
    this.stack = stack;
  }

  static entry(): State {
    const registers = Array<Register>(REGISTERS).fill(EMPTY);
    registers[1] = addressRegister(CONTEXT);
    registers[FRAME_POINTER] = addressRegister(STACK);
    return new State(registers, Array(SLOTS).fill(UNWRITTEN));
  }

  copy(): State {
    return new State(this.registers.slice(), this.stack.slice());
  }

  /** Stores a register of 8 bytes at `offset`, negative from the frame pointer and a multiple of 8. */
  spill(offset: number, register: Register): void {
    this.stack[(offset + STACK_BYTES) >> 3] = { register, written: ALL_BYTES };
  }

  /** Bytes have been written that are a number of any kind. */
  write(offset: number, size: number): void {
    for (let at = offset + STACK_BYTES; at < offset + STACK_BYTES + size; at++) {
      const { register, written } = this.stack[at >> 3];
      // What is left of an address may not be read.
      const before = register !== null && isAddress(register) ? 0 : written;
      this.stack[at >> 3] = { register: null, written: before | (1 << (at & 7)) };
    }
  }

  /** Whether all bytes there have been written, with numbers. */
  isWritten(offset: number, size: number): boolean {
    for (let at = offset + STACK_BYTES; at < offset + STACK_BYTES + size; at++) {
      const { register, written } = this.stack[at >> 3];
      if ((written & (1 << (at & 7))) === 0 || (register !== null && isAddress(register))) return false;
    }
    return true;
  }

  /** The register stored in the eight bytes at `offset`, if they hold one as it was. */
  spilled(offset: number): Register | null {
    return this.stack[(offset + STACK_BYTES) >> 3].register;
  }

  /** Puts `change` to each register, stored ones as well. */
  replace(change: (register: Register) => Register): void {
    for (let i = 0; i < REGISTERS; i++) this.registers[i] = change(this.registers[i]);
    for (let i = 0; i < SLOTS; i++) {
      const { register, written } = this.stack[i];
      if (register === null) continue;
      const changed = change(register);
      if (changed !== register) this.stack[i] = { register: changed, written };
    }
  }

  /** Whether whatever holds in `other` holds here, so that what was found safe from here is so from there. */
  covers(other: State): boolean {
    const ids = new Map<number, number>();
    for (let i = 0; i < REGISTERS; i++) {
      if (!coversRegister(this.registers[i], other.registers[i], ids)) return false;
    }
    for (let i = 0; i < SLOTS; i++) {
      if (!coversSlot(this.stack[i], other.stack[i], ids)) return false;
    }
    return true;
  }
}

function coversRegister(a: Register, b: Register, ids: Map<number, number>): boolean {
  if (a === b && a.id === 0) return true;
  if (a.kind === NOTHING) return true;
  if (a.kind !== b.kind || a.map !== b.map || a.offset !== b.offset || a.range > b.range) return false;
  if (!coversNumber(a.number, b.number)) return false;
  if (a.id === 0) return true;
  const known = ids.get(a.id);
  if (known === undefined) ids.set(a.id, b.id);
  return (known ?? b.id) === b.id && b.id !== 0;
}

function coversSlot(a: StackSlot, b: StackSlot, ids: Map<number, number>): boolean {
  if (a.register !== null) return b.register !== null && coversRegister(a.register, b.register, ids);
  if (a.written === 0) return true;
  if (b.register !== null && isAddress(b.register)) return false;
  return (a.written & ~b.written) === 0;
}
