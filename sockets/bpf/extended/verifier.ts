/**
 * The verifier: goes every way through a program with what is known of registers and stack, and refuses it where something might
 * be wrong. A program that passes ends after a bounded number of instructions, reads what it or the caller has written, and
 * reaches only its context, its stack, values of its maps and the packet. Made after kernel/bpf/verifier.c; docs/bpf.md says
 * where it is stricter.
 *
 * Ways that meet: at each target of a jump the state is kept. A later one that the kept one covers need not go on, once
 * everything from the kept one on was found good. Loops are gone through turn by turn until they end.
 */
import { ERRNO, opcodes } from "af-xdp-bindings";
import type { SharedMap } from "../maps/shared-map.ts";
import { Access, loaded } from "./access.ts";
import { isNumber, operandOf, stepArithmetic } from "./arithmetic.ts";
import { narrow, narrow32 } from "./branch.ts";
import { Calls } from "./calls.ts";
import { PROGRAM_TYPES, type ProgramType, type ProgramTypeName } from "./context.ts";
import { Fact } from "./facts.ts";
import {
  checkFlow,
  isBranch,
  isCall,
  isExit,
  isGoto,
  jumpTarget,
  liveRegisters,
  reads,
  refuse,
  successors,
} from "./flow.ts";
import {
  classOf,
  decodeExtended,
  type Instruction,
  isWide,
  modeOf,
  operationOf,
  sizeOf,
  usesRegister,
} from "./instruction.ts";
import { constant, extendSign, isConstant, type Scalar } from "./scalar.ts";
import {
  addressRegister,
  CONTEXT,
  EMPTY,
  FRAME_POINTER,
  isAddress,
  KIND_NAMES,
  MAP,
  MAP_VALUE,
  MAP_VALUE_OR_NULL,
  NOTHING,
  NUMBER,
  numberRegister,
  PACKET,
  PACKET_END,
  REGISTERS,
  type Register,
  STACK,
  State,
} from "./state.ts";

const {
  ATOMIC_OP,
  BPF_ALU,
  BPF_ALU64,
  BPF_ATOMIC,
  BPF_FETCH,
  BPF_IND,
  BPF_JMP,
  BPF_LD,
  BPF_LDX,
  BPF_MEMSX,
  BPF_PSEUDO_MAP_FD,
  BPF_PSEUDO_MAP_VALUE,
  BPF_ST,
  BPF_STX,
  JMP_OP,
} = opcodes;
const { EACCES, EINVAL, E2BIG } = ERRNO;

/** Instructions looked at, over all ways: more is refused as too complex. The kernel's bound is a million. */
const STEPS_MAX = 200_000;
/** States kept at one instruction. */
const KEPT_MAX = 64;
/** The packet's length is known up to here (MAX_PACKET_OFF). */
const PACKET_MAX = 0xffff;

export interface Verified {
  readonly type: ProgramType;
  readonly instructions: readonly Instruction[];
  readonly maps: readonly SharedMap[];
  /** By slot. */
  readonly facts: readonly Fact[];
}

export interface ExtendedOptions {
  readonly type: ProgramTypeName;
  /** Maps that the program names, by their `fd`. */
  readonly maps?: readonly SharedMap[];
}

/** Verifies a program of struct bpf_insn. Throws SysError EINVAL, EACCES or E2BIG with the instruction and the reason. */
export function verifyExtended(program: Uint8Array, { type, maps = [] }: ExtendedOptions): Verified {
  const instructions = decodeExtended(program);
  checkFlow(instructions);
  const verifier = new Verifier(PROGRAM_TYPES[type], instructions, maps);
  verifier.run();
  return { type: PROGRAM_TYPES[type], instructions, maps, facts: verifier.facts };
}

/** A state kept at an instruction, and how many ways from it are still to be gone. */
class Kept {
  readonly state: State;
  readonly parent: Kept | null;
  open = 1;

  constructor(state: State, parent: Kept | null) {
    this.state = state;
    this.parent = parent;
  }
}

/** A way to be gone: where it begins, with what. */
interface Way {
  readonly slot: number;
  readonly state: State;
  readonly from: Kept | null;
}

class Verifier {
  readonly facts: Fact[];
  private readonly program: readonly Instruction[];
  private readonly maps: readonly SharedMap[];
  private readonly access: Access;
  private readonly calls: Calls;
  private readonly type: ProgramType;
  private readonly live: Uint16Array;
  private readonly joins: Uint8Array;
  private readonly kept: Kept[][];
  private readonly pending: Way[] = [];
  private ids = 0;
  private steps = 0;

  constructor(type: ProgramType, program: readonly Instruction[], maps: readonly SharedMap[]) {
    this.type = type;
    this.program = program;
    this.maps = maps;
    this.access = new Access(type, maps);
    this.calls = new Calls(type, maps, this.access, this.newId);
    this.facts = program.map(() => new Fact());
    this.kept = program.map(() => []);
    this.live = liveRegisters(program);
    this.joins = new Uint8Array(program.length);
    program.forEach((i, slot) => {
      if (isBranch(i.opcode) || isGoto(i.opcode)) this.joins[jumpTarget(i, slot)] = 1;
    });
  }

  run(): void {
    // Of what is never run as well, as the kernel resolves them before it looks at anything.
    this.program.forEach((i, slot) => {
      if (isWide(i.opcode) && i.src !== 0) this.mapAt(i, slot);
    });
    this.pending.push({ slot: 0, state: State.entry(), from: null });
    for (let way = this.pending.pop(); way !== undefined; way = this.pending.pop()) this.go(way);
  }

  private readonly newId = (): number => ++this.ids;

  /** Goes one way to its end. */
  private go({ slot: start, state, from }: Way): void {
    let slot = start;
    let kept = from;
    for (;;) {
      if (this.joins[slot]) {
        const entered = this.enter(slot, state, kept);
        if (entered === null) break;
        kept = entered;
      }
      if (++this.steps > STEPS_MAX)
        refuse(E2BIG, slot, `too complex: ${STEPS_MAX} instructions looked at, or a loop without end`);
      const i = this.program[slot];
      this.noteRead(i, state, slot);
      if (isExit(i.opcode)) {
        const { kind } = state.registers[0];
        if (kind !== NUMBER) refuse(EACCES, slot, `returns ${KIND_NAMES[kind]}`);
        break;
      }
      if (isBranch(i.opcode)) {
        const next = this.branch(i, slot, state, kept);
        if (next < 0) break;
        slot = next;
        continue;
      }
      this.step(i, state, slot);
      slot = successors(i, slot)[0];
    }
    for (let one = kept; one !== null && --one.open === 0; one = one.parent);
  }

  /** Keeps the state at a place where ways meet. Null when one kept before makes it needless to go on. */
  private enter(slot: number, state: State, parent: Kept | null): Kept | null {
    this.forget(state, slot);
    const here = this.kept[slot];
    for (const one of here) {
      if (!one.state.covers(state)) continue;
      if (one.open === 0) return null;
      if (state.covers(one.state) && isAncestor(one, parent)) refuse(EINVAL, slot, "a loop in which nothing changes");
    }
    const kept = new Kept(state.copy(), parent);
    // `parent` has one way open, the one that goes on as this one.
    if (here.length >= KEPT_MAX) here.shift();
    here.push(kept);
    return kept;
  }

  /** Registers that nobody will read are as good as empty, and ids that are there once say nothing. */
  private forget(state: State, slot: number): void {
    const live = this.live[slot] | (1 << FRAME_POINTER);
    for (let r = 0; r < REGISTERS; r++) if ((live & (1 << r)) === 0) state.registers[r] = EMPTY;
    const seen = new Map<number, number>();
    state.replace((register) => {
      if (register.id !== 0) seen.set(register.id, (seen.get(register.id) ?? 0) + 1);
      return register;
    });
    state.replace((register) =>
      register.kind === NUMBER && register.id !== 0 && seen.get(register.id) === 1 ? { ...register, id: 0 } : register,
    );
  }

  private noteRead(i: Instruction, state: State, slot: number): void {
    this.facts[slot].note(state.registers[i.dst], usesRegister(i.opcode) ? state.registers[Math.min(i.src, 10)] : ONE);
    if (isCall(i.opcode)) return;
    const unset = reads(i);
    for (let r = 0; r < REGISTERS; r++) {
      if (unset & (1 << r) && state.registers[r].kind === NOTHING) refuse(EACCES, slot, `r${r} is not set`);
    }
  }

  /** Every instruction but branches and exits. */
  private step(i: Instruction, state: State, slot: number): void {
    const fact = this.facts[slot];
    const kind = classOf(i.opcode);
    const writesRegister = kind === BPF_ALU || kind === BPF_ALU64 || kind === BPF_LDX || isWide(i.opcode);
    if (writesRegister && i.dst === FRAME_POINTER) refuse(EACCES, slot, "r10 may not be changed");
    if (kind === BPF_ALU || kind === BPF_ALU64) stepArithmetic(state, i, slot, this.newId);
    else if (isWide(i.opcode)) this.constant(i, state, slot);
    else if (kind === BPF_LD) this.legacyLoad(i, state, slot);
    else if (kind === BPF_LDX) this.load(i, state, slot);
    else if (isCall(i.opcode)) this.calls.step(state, i.immediate, slot, fact);
    else if (kind === BPF_STX && modeOf(i.opcode) === BPF_ATOMIC) this.atomic(i, state, slot);
    else if (kind === BPF_ST || kind === BPF_STX) {
      const value = kind === BPF_ST ? numberRegister(constant(BigInt(i.immediate))) : state.registers[i.src];
      this.access.store(state, state.registers[i.dst], i.offset, sizeOf(i.opcode), value, slot, fact);
    }
  }

  private constant(i: Instruction, state: State, slot: number): void {
    const high = this.program[slot + 1].immediate;
    if (i.src === 0) {
      const number = (BigInt(high >>> 0) << 32n) | BigInt(i.immediate >>> 0);
      state.registers[i.dst] = numberRegister(constant(number));
      return;
    }
    const map = this.mapAt(i, slot);
    this.facts[slot].noteMap(slot, map);
    state.registers[i.dst] =
      i.src === BPF_PSEUDO_MAP_FD ? addressRegister(MAP, { map }) : addressRegister(MAP_VALUE, { map, offset: high });
  }

  /** Index of the map that a 64-bit constant names. */
  private mapAt(i: Instruction, slot: number): number {
    const map = this.maps.findIndex(({ fd }) => fd === i.immediate);
    if (map < 0) refuse(ERRNO.EBADF, slot, `no map has the descriptor ${i.immediate}`);
    if (i.src === BPF_PSEUDO_MAP_FD) return map;
    const { type, maxEntries, valueSize } = this.maps[map];
    const high = this.program[slot + 1].immediate;
    if (i.src !== BPF_PSEUDO_MAP_VALUE || type !== "array" || maxEntries !== 1 || high < 0 || high >= valueSize) {
      refuse(EINVAL, slot, "the address of a value is taken of arrays with one entry, within it");
    }
    return map;
  }

  /** LD_ABS and LD_IND: r6 is the context; the result in r0, and r1 to r5 are lost. */
  private legacyLoad(i: Instruction, state: State, slot: number): void {
    if (!this.type.legacyLoads) refuse(EINVAL, slot, `${this.type.name} has no legacy loads`);
    const base = state.registers[6];
    if (base.kind !== CONTEXT || base.offset !== 0) refuse(EINVAL, slot, "legacy loads take the context in r6");
    if (modeOf(i.opcode) === BPF_IND && !isNumber(state.registers[i.src]))
      refuse(EACCES, slot, `r${i.src} is no number`);
    for (let r = 1; r <= 5; r++) state.registers[r] = EMPTY;
    state.registers[0] = loaded(sizeOf(i.opcode));
  }

  private load(i: Instruction, state: State, slot: number): void {
    const size = sizeOf(i.opcode);
    const signed = modeOf(i.opcode) === BPF_MEMSX;
    const value = this.access.load(state, state.registers[i.src], i.offset, size, slot, this.facts[slot]);
    if (signed && isAddress(value)) refuse(EACCES, slot, "part of an address");
    state.registers[i.dst] = signed ? numberRegister(extendSign(value.number, size * 8)) : value;
  }

  private atomic(i: Instruction, state: State, slot: number): void {
    const fact = this.facts[slot];
    const base = state.registers[i.dst];
    const size = sizeOf(i.opcode);
    if (base.kind !== STACK && base.kind !== MAP_VALUE)
      refuse(EACCES, slot, `atomic operations on ${KIND_NAMES[base.kind]}`);
    if (!isNumber(state.registers[i.src])) refuse(EACCES, slot, `r${i.src} is no number`);
    const swaps = i.immediate === ATOMIC_OP.xchg || i.immediate === ATOMIC_OP.cmpxchg;
    if (swaps && size === 8 && base.kind === MAP_VALUE)
      refuse(EINVAL, slot, "64 bits of a map value are not exchanged here");
    if (i.immediate === ATOMIC_OP.cmpxchg && !isNumber(state.registers[0])) refuse(EACCES, slot, "r0 is no number");
    const old = this.access.load(state, base, i.offset, size, slot, fact);
    if (isAddress(old)) refuse(EACCES, slot, "an atomic operation on an address");
    this.access.store(state, base, i.offset, size, loaded(size), slot, fact);
    if (!fact.places[0]?.aligned) refuse(EACCES, slot, "an atomic operation that may not be aligned");
    if (i.immediate === ATOMIC_OP.cmpxchg) state.registers[0] = loaded(size);
    else if (i.immediate & BPF_FETCH) {
      if (i.src === FRAME_POINTER) refuse(EACCES, slot, "r10 may not be changed");
      state.registers[i.src] = loaded(size);
    }
  }

  /** Which slot to go on with; the other way is put aside. -1 when neither can be. */
  private branch(i: Instruction, slot: number, state: State, kept: Kept | null): number {
    const before = state.registers[i.dst];
    const other = state.copy();
    const takes = this.assume(i, other, true, slot);
    const falls = this.assume(i, state, false, slot);
    const target = jumpTarget(i, slot);
    const fact = this.facts[slot];
    const operation = operationOf(i.opcode);
    if (operation === JMP_OP.jeq || operation === JMP_OP.jne) fact.noteNull(slot, before);
    fact.takes ||= takes;
    fact.falls ||= falls;
    if (takes && falls) {
      if (kept !== null) kept.open++;
      this.pending.push({ slot: target, state: other, from: kept });
      return slot + 1;
    }
    if (falls) return slot + 1;
    if (!takes) return -1;
    other.registers.forEach((register, r) => {
      state.registers[r] = register;
    });
    other.stack.forEach((one, at) => {
      state.stack[at] = one;
    });
    return target;
  }

  /** Narrows `state` to the branch; false when the branch is never gone. */
  private assume(i: Instruction, state: State, taken: boolean, slot: number): boolean {
    const wide = classOf(i.opcode) === BPF_JMP;
    const operation = operationOf(i.opcode);
    const a = state.registers[i.dst];
    const b = operandOf(state, i, wide);
    if (isNumber(a) && isNumber(b)) {
      const narrowed = (wide ? narrow : narrow32)(operation, a.number, b.number, taken);
      if (narrowed === null) return false;
      learn(state, i.dst, a, narrowed[0]);
      if (usesRegister(i.opcode) && i.src !== i.dst) learn(state, i.src, state.registers[i.src], narrowed[1]);
      return true;
    }
    if (!wide) refuse(EACCES, slot, "compares 32 bits of an address");
    if (isAddress(a) && isNumber(b)) return assumeNull(state, a, b, operation, taken, slot);
    if (isPacket(a) && isPacket(b)) {
      assumeLength(state, a, b, operation, taken);
      return true;
    }
    return refuse(EACCES, slot, `compares ${KIND_NAMES[a.kind]} with ${KIND_NAMES[b.kind]}`);
  }
}

/** Stands for a second operand that is no register. */
const ONE = numberRegister(constant(1n));

function isAncestor(one: Kept, of: Kept | null): boolean {
  for (let at = of; at !== null; at = at.parent) if (at === one) return true;
  return false;
}

const isPacket = ({ kind }: Register): boolean => kind === PACKET || kind === PACKET_END;

/** A comparison has narrowed register `r`, and all that hold the same number. */
function learn(state: State, r: number, before: Register, number: Scalar): void {
  if (number === before.number) return;
  const { id } = before;
  if (id === 0) state.registers[r] = numberRegister(number);
  else state.replace((one) => (one.kind === NUMBER && one.id === id ? { ...one, number } : one));
}

/** An address compared with 0: the one thing that may be asked of it. */
function assumeNull(state: State, a: Register, b: Register, operation: number, taken: boolean, slot: number): boolean {
  const equality = operation === JMP_OP.jeq || operation === JMP_OP.jne;
  if (!equality || !isConstant(b.number) || b.number.value !== 0n) {
    refuse(EACCES, slot, `compares ${KIND_NAMES[a.kind]} with a number other than 0`);
  }
  const isNull = (operation === JMP_OP.jeq) === taken;
  if (a.kind !== MAP_VALUE_OR_NULL) return !isNull;
  const becomes: Register = isNull ? numberRegister(constant(0n)) : { ...a, kind: MAP_VALUE, id: 0 };
  state.replace((one) => (one.kind === MAP_VALUE_OR_NULL && one.id === a.id ? { ...becomes } : one));
  return true;
}

/**
 * A packet address compared with the packet's end: where it is not beyond, what is before it can be read
 * (find_good_pkt_pointers).
 */
function assumeLength(state: State, a: Register, b: Register, operation: number, taken: boolean): void {
  if (a.kind === b.kind) return;
  const address = a.kind === PACKET ? a : b;
  const known = within(operation, a.kind === PACKET, taken);
  if (known === "nothing" || address.offset < 0 || address.number.smin < 0n) return;
  if (address.number.umax + BigInt(address.offset) > BigInt(PACKET_MAX)) return;
  const range = address.offset + (known === "before" ? 1 : 0);
  state.replace((one) => (one.kind === PACKET && one.id === address.id && one.range < range ? { ...one, range } : one));
}

/** Whether the address is at or before the end, or before it, after `address operation end` or the other way round. */
function within(operation: number, addressFirst: boolean, taken: boolean): "nothing" | "atOrBefore" | "before" {
  const greater = operation === JMP_OP.jgt;
  const less = operation === JMP_OP.jlt;
  if (greater || operation === JMP_OP.jle) {
    // address > end, not taken: at or before. end > address, taken: before.
    if (addressFirst) return greater !== taken ? "atOrBefore" : "nothing";
    return greater === taken ? "before" : "nothing";
  }
  if (less || operation === JMP_OP.jge) {
    if (addressFirst) return less === taken ? "before" : "nothing";
    return less !== taken ? "atOrBefore" : "nothing";
  }
  return "nothing";
}
