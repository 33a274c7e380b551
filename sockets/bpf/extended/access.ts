/** Loads and stores: what may be reached through an address, and what is then known. */
import { ERRNO } from "af-xdp-bindings";
import type { SharedMap } from "../maps/shared-map.ts";
import { FIELD_LENGTH, FIELD_PACKET, FIELD_PACKET_END, fieldAt, type ProgramType } from "./context.ts";
import type { Fact } from "./facts.ts";
import { refuse } from "./flow.ts";
import { isConstant, range, UNKNOWN } from "./scalar.ts";
import {
  addressRegister,
  CONTEXT,
  isAddress,
  KIND_NAMES,
  MAP_VALUE,
  numberRegister,
  PACKET,
  PACKET_END,
  type Register,
  STACK,
  STACK_BYTES,
  type State,
} from "./state.ts";

const { EACCES } = ERRNO;

/** A register with a number of so many bytes. */
export const loaded = (size: number): Register =>
  numberRegister(size === 8 ? UNKNOWN : range(0n, (1n << BigInt(size * 8)) - 1n));

/** Checks one program's accesses. */
export class Access {
  private readonly type: ProgramType;
  private readonly maps: readonly SharedMap[];

  constructor(type: ProgramType, maps: readonly SharedMap[]) {
    this.type = type;
    this.maps = maps;
  }

  /** What a load gives. @param more offset in the instruction, bytes */
  load(state: State, base: Register, more: number, size: number, slot: number, fact: Fact): Register {
    fact.notePlace(slot, 0, base, isAligned(base, more, size));
    if (base.kind === CONTEXT) return this.loadContext(base, more, size, slot);
    this.check(base, more, size, slot, false);
    return base.kind === STACK ? loadStack(state, base.offset + more, size, slot) : loaded(size);
  }

  store(state: State, base: Register, more: number, size: number, value: Register, slot: number, fact: Fact): void {
    fact.notePlace(slot, 0, base, isAligned(base, more, size));
    if (base.kind === CONTEXT) {
      if (isAddress(value)) refuse(EACCES, slot, "stores an address in the context");
      if (fieldAt(this.type, contextOffset(base, more, slot), size, true) === undefined) {
        refuse(EACCES, slot, `stores ${size} bytes at ${base.offset + more} of the context: not allowed`);
      }
      return;
    }
    this.check(base, more, size, slot, true);
    if (base.kind === STACK) storeStack(state, base.offset + more, size, value, slot);
    else if (isAddress(value)) refuse(EACCES, slot, `stores an address in ${KIND_NAMES[base.kind]}`);
  }

  /** Refuses unless `size` bytes there may be read, or written. Of the stack, not whether they have been written. */
  check(base: Register, more: number, size: number, slot: number, write: boolean): void {
    const at = base.offset + more;
    switch (base.kind) {
      case STACK:
        if (!isConstant(base.number)) refuse(EACCES, slot, "an offset into the stack that is not constant");
        if (at < -STACK_BYTES || at + size > 0) refuse(EACCES, slot, `${size} bytes at ${at} of the stack`);
        return;
      case MAP_VALUE: {
        const { valueSize, type } = this.maps[base.map];
        if (type === "reuseport_sockarray") refuse(EACCES, slot, "a map of sockets has no values to be read");
        const low = BigInt(at) + base.number.smin;
        const high = BigInt(at) + base.number.smax + BigInt(size);
        if (low < 0n || high > BigInt(valueSize)) {
          refuse(EACCES, slot, `${size} bytes at ${low} to ${high - BigInt(size)} of a map value of ${valueSize}`);
        }
        return;
      }
      case PACKET: {
        if (write) refuse(EACCES, slot, "the packet may not be written");
        if (at < 0 || base.number.smin < 0n || at + size > base.range) {
          refuse(EACCES, slot, `${size} bytes at ${at} of the packet, of which ${base.range} are known to be there`);
        }
        return;
      }
      default:
        refuse(EACCES, slot, `${KIND_NAMES[base.kind]} is no address that can be ${write ? "written" : "read"}`);
    }
  }

  private loadContext(base: Register, more: number, size: number, slot: number): Register {
    const at = contextOffset(base, more, slot);
    const field = fieldAt(this.type, at, size, false);
    if (field === undefined) refuse(EACCES, slot, `loads ${size} bytes at ${at} of the context: not allowed`);
    if (field.what === FIELD_PACKET) return addressRegister(PACKET);
    if (field.what === FIELD_PACKET_END) return addressRegister(PACKET_END);
    return field.what === FIELD_LENGTH && size === 4 ? numberRegister(range(0n, 0x7fff_ffffn)) : loaded(size);
  }
}

function contextOffset(base: Register, more: number, slot: number): number {
  if (!isConstant(base.number)) refuse(EACCES, slot, "an offset into the context that is not constant");
  return base.offset + more;
}

function loadStack(state: State, at: number, size: number, slot: number): Register {
  if (at % size !== 0) refuse(EACCES, slot, `${size} bytes at ${at} of the stack: not aligned`);
  const spilled = size === 8 ? state.spilled(at) : null;
  if (spilled !== null) return spilled;
  if (!state.isWritten(at, size)) refuse(EACCES, slot, `${size} bytes at ${at} of the stack: not written before`);
  return loaded(size);
}

function storeStack(state: State, at: number, size: number, value: Register, slot: number): void {
  if (at % size !== 0) refuse(EACCES, slot, `${size} bytes at ${at} of the stack: not aligned`);
  if (size === 8) state.spill(at, value);
  else if (isAddress(value)) refuse(EACCES, slot, "stores part of an address");
  else state.write(at, size);
}

/** Whether an address is known to be a multiple of `size` in its memory: values of maps begin at multiples of 8. */
function isAligned({ kind, number, offset }: Register, more: number, size: number): boolean {
  if (kind === PACKET) return false;
  return ((number.value | number.mask | BigInt(offset + more)) & BigInt(size - 1)) === 0n;
}
