/** Calls of helpers: what each takes, and what it gives (struct bpf_func_proto; net/core/filter.c, kernel/bpf/helpers.c). */
import { ERRNO, HELPER, helperName } from "af-xdp-bindings";
import type { SharedMap } from "../maps/shared-map.ts";
import type { Access } from "./access.ts";
import type { ProgramType } from "./context.ts";
import type { Fact } from "./facts.ts";
import { refuse } from "./flow.ts";
import { isConstant, range, UNKNOWN, UNKNOWN32 } from "./scalar.ts";
import {
  addressRegister,
  CONTEXT,
  EMPTY,
  isAddress,
  KIND_NAMES,
  MAP,
  MAP_VALUE,
  MAP_VALUE_OR_NULL,
  NOTHING,
  NUMBER,
  numberRegister,
  PACKET,
  type Register,
  STACK,
  type State,
} from "./state.ts";

const { EACCES, EINVAL } = ERRNO;

/** Larger buffers than this are of no packet. */
const SIZE_MAX = 0xffff;

export class Calls {
  private readonly type: ProgramType;
  private readonly maps: readonly SharedMap[];
  private readonly access: Access;
  private readonly newId: () => number;

  constructor(type: ProgramType, maps: readonly SharedMap[], access: Access, newId: () => number) {
    this.type = type;
    this.maps = maps;
    this.access = access;
    this.newId = newId;
  }

  /** Checks the arguments and leaves the registers as the call does. */
  step(state: State, helper: number, slot: number, fact: Fact): void {
    if (!this.type.helpers.has(helper))
      refuse(EINVAL, slot, `${this.type.name} may not call bpf_${helperName(helper)}`);
    const result = this.call(state, helper, slot, fact);
    for (let i = 1; i <= 5; i++) state.registers[i] = EMPTY;
    state.registers[0] = result;
  }

  private call(state: State, helper: number, slot: number, fact: Fact): Register {
    const { registers } = state;
    switch (helper) {
      case HELPER.map_lookup_elem: {
        const map = this.map(registers[1], 1, slot, fact, false);
        this.memory(state, 2, this.maps[map].keySize, slot, fact);
        return addressRegister(MAP_VALUE_OR_NULL, { map, id: this.newId() });
      }
      case HELPER.map_update_elem: {
        const map = this.map(registers[1], 1, slot, fact, false);
        this.memory(state, 2, this.maps[map].keySize, slot, fact);
        this.memory(state, 3, this.maps[map].valueSize, slot, fact);
        this.number(registers[4], 4, slot);
        return numberRegister(UNKNOWN);
      }
      case HELPER.map_delete_elem:
        this.memory(state, 2, this.maps[this.map(registers[1], 1, slot, fact, false)].keySize, slot, fact);
        return numberRegister(UNKNOWN);
      case HELPER.skb_load_bytes:
      case HELPER.skb_load_bytes_relative:
        this.context(registers[1], slot);
        this.number(registers[2], 2, slot);
        this.destination(state, slot, fact);
        if (helper === HELPER.skb_load_bytes_relative) this.number(registers[5], 5, slot);
        return numberRegister(UNKNOWN);
      case HELPER.sk_select_reuseport: {
        this.context(registers[1], slot);
        this.map(registers[2], 2, slot, fact, true);
        this.memory(state, 3, 4, slot, fact);
        this.number(registers[4], 4, slot);
        return numberRegister(UNKNOWN);
      }
      case HELPER.get_hash_recalc:
        this.context(registers[1], slot);
        return numberRegister(UNKNOWN32);
      case HELPER.ktime_get_ns:
        return numberRegister(UNKNOWN);
      default:
        // get_prandom_u32 and get_smp_processor_id.
        return numberRegister(helper === HELPER.get_prandom_u32 ? UNKNOWN32 : range(0n, 0x7fff_ffffn));
    }
  }

  private map(register: Register, argument: number, slot: number, fact: Fact, sockets: boolean): number {
    if (register.kind !== MAP) wrong(register, argument, "a map", slot);
    const { type } = this.maps[register.map];
    if ((type === "reuseport_sockarray") !== sockets) refuse(EINVAL, slot, `a map of type ${type} in r${argument}`);
    fact.noteMap(slot, register.map);
    return register.map;
  }

  private context(register: Register, slot: number): void {
    if (register.kind !== CONTEXT || register.offset !== 0 || !isConstant(register.number))
      wrong(register, 1, "the context", slot);
  }

  private number(register: Register, argument: number, slot: number): void {
    if (register.kind !== NUMBER) wrong(register, argument, "a number", slot);
  }

  /** `size` bytes to be read at the address in register `argument`. */
  private memory(state: State, argument: number, size: number, slot: number, fact: Fact): void {
    const register = state.registers[argument];
    const { kind } = register;
    if (kind !== STACK && kind !== MAP_VALUE && kind !== PACKET)
      wrong(register, argument, "an address of memory", slot);
    this.access.check(register, 0, size, slot, false);
    if (kind === STACK && !state.isWritten(register.offset, size)) {
      refuse(EACCES, slot, `r${argument}: ${size} bytes at ${register.offset} of the stack are not all written before`);
    }
    fact.notePlace(slot, argument, register, false);
  }

  /** The most that the size in register `argument` may be. */
  private size(register: Register, argument: number, slot: number): number {
    this.number(register, argument, slot);
    const { umin, umax } = register.number;
    if (umin < 1n || umax > BigInt(SIZE_MAX)) refuse(EACCES, slot, `r${argument}: a size between ${umin} and ${umax}`);
    return Number(umax);
  }

  /** r3 and r4 of skb_load_bytes: memory to be written, its size. */
  private destination(state: State, slot: number, fact: Fact): void {
    const register = state.registers[3];
    if (register.kind !== STACK && register.kind !== MAP_VALUE)
      wrong(register, 3, "an address of memory to write", slot);
    const size = this.size(state.registers[4], 4, slot);
    this.access.check(register, 0, size, slot, true);
    fact.notePlace(slot, 3, register, false);
    if (register.kind !== STACK) return;
    if (isConstant(state.registers[4].number)) state.write(register.offset, size);
    else if (!state.isWritten(register.offset, size)) {
      refuse(EACCES, slot, `r3: ${size} bytes of the stack, perhaps fewer, are not all written before`);
    }
  }
}

function wrong(register: Register, argument: number, wanted: string, slot: number): never {
  if (register.kind === NOTHING) refuse(EACCES, slot, `r${argument} is not set`);
  const what = isAddress(register) ? KIND_NAMES[register.kind] : "a number";
  refuse(EACCES, slot, `r${argument} is ${what}, and must be ${wanted}`);
}
