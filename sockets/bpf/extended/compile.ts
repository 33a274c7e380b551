/**
 * Extended BPF to JavaScript, one function a program. Each register is two int32 variables, l0 and h0 for r0: exact 64-bit
 * arithmetic without BigInt, and where the verifier knows a high half to be 0 comparisons leave it out; what is never read the
 * JIT drops. Programs whose jumps all go forward become labelled blocks, the others a switch in a loop. All numbers in the text
 * are made by String() from int32 fields, whatever the program holds.
 */
import { HELPER, opcodes } from "af-xdp-bindings";
import { MAP_HEADER, type SharedMap } from "../maps/shared-map.ts";
import { META, SKB } from "./context.ts";
import { arithmetic, condition } from "./emit-arithmetic.ts";
import { atomic, legacyLoad, load, memoryOf, store } from "./emit-memory.ts";
import type { Fact, Place } from "./facts.ts";
import { isBranch, isCall, isExit, isGoto, jumpTarget } from "./flow.ts";
import { classOf, type Instruction, isWide, modeOf } from "./instruction.ts";
import * as runtime from "./runtime.ts";
import { STACK_BYTES } from "./state.ts";
import { type ExtendedOptions, type Verified, verifyExtended } from "./verifier.ts";
import * as words from "./words.ts";

const { BPF_ALU, BPF_ALU64, BPF_ATOMIC, BPF_LD, BPF_LDX, BPF_PSEUDO_MAP_VALUE, BPF_STX } = opcodes;

/**
 * A compiled program. `bytes[offset .. offset + length)` is the packet; it may lie anywhere. `context` has META_WORDS words,
 * see context.ts: the caller fills in what the program may ask, once or for each packet. Not to be called from within itself.
 *
 * @returns u32, what the program returned. To a socket filter: bytes to keep. To a reuseport program: SK_PASS 1 or SK_DROP 0,
 *   and context[META.selected] is the socket selected, if any.
 */
export type ExtendedProgram = (bytes: Uint8Array, offset: number, length: number, context: Int32Array) => number;

/** Targets up to which blocks are nested; beyond it a switch, which is slower, but the parser's stack does not grow with it. */
const NESTED_MAX = 200;

/** Verifies a program of struct bpf_insn and compiles it. Throws SysError EINVAL, EACCES or E2BIG with the reason. */
export function compileExtended(program: Uint8Array, options: ExtendedOptions): ExtendedProgram {
  return compileVerified(verifyExtended(program, options));
}

export function compileVerified(verified: Verified): ExtendedProgram {
  return makeExtended(source(verified), verified.maps);
}

/** The function that a text from source() is the body of. @param maps in the order that the verifier was given */
export function makeExtended(text: string, maps: readonly SharedMap[]): ExtendedProgram {
  const { names, values } = environment(maps);
  return new Function(...names, text)(...values) as ExtendedProgram;
}

/** The text of the function's body, which returns the program. */
export function source(verified: Verified): string {
  const { instructions, facts } = verified;
  const targets = jumpTargets(instructions, facts);
  const forward = instructions.every(
    (i, slot) => !(isBranch(i.opcode) || isGoto(i.opcode)) || jumpTarget(i, slot) > slot,
  );
  const body = forward && targets.length <= NESTED_MAX ? nestedBody(verified, targets) : switchBody(verified, targets);
  const registers = Array.from({ length: 10 }, (_, r) => `l${r} = 0, h${r} = 0`).join(", ");
  const selects = instructions.some((i) => isCall(i.opcode) && i.immediate === HELPER.sk_select_reuseport);
  return (
    `"use strict"; return function extendedBpf(b, o, n, c) {\n` +
    `let ${registers}, t = 0, u = 0, v = 0; const l10 = ${STACK_BYTES}, h10 = 0;\n` +
    `${selects ? `c[${META.selected}] = -1;\n` : ""}${body}\n};`
  );
}

/** What the text of a program refers to: functions, the stack, the memories of maps. */
function environment(maps: readonly SharedMap[]): { names: string[]; values: unknown[] } {
  const stack = new ArrayBuffer(STACK_BYTES);
  const known: Record<string, unknown> = {
    ...words,
    ...runtime,
    s8: new Uint8Array(stack),
    s16: new Uint16Array(stack),
    s32: new Int32Array(stack),
  };
  maps.forEach((map, i) => {
    Object.assign(known, { [`map${i}`]: map, [`m${i}`]: map.bytes, [`n${i}`]: map.half, [`w${i}`]: map.words });
  });
  return { names: Object.keys(known), values: Object.values(known) };
}

function jumpTargets(program: readonly Instruction[], facts: readonly Fact[]): number[] {
  const targets = new Set<number>();
  program.forEach((i, slot) => {
    if (facts[slot].seen && (isBranch(i.opcode) || isGoto(i.opcode))) targets.add(jumpTarget(i, slot));
  });
  return [...targets].sort((a, b) => a - b);
}

function nestedBody(verified: Verified, targets: readonly number[]): string {
  const open = targets.toReversed().map((target) => `L${target}: {`);
  const ends = new Set(targets);
  const goTo = (target: number): string => `break L${target};`;
  const lines = verified.instructions.map(
    (_, slot) => `${ends.has(slot) ? "}\n" : ""}${statement(verified, slot, goTo)}`,
  );
  return [...open, ...lines].join("\n");
}

function switchBody(verified: Verified, targets: readonly number[]): string {
  const labels = new Set([0, ...targets]);
  const goTo = (target: number): string => `{ pc = ${target}; continue; }`;
  const lines = verified.instructions.map(
    (_, slot) => `${labels.has(slot) ? `case ${slot}: ` : ""}${statement(verified, slot, goTo)}`,
  );
  return `let pc = 0; for (;;) switch (pc) {\n${lines.join("\n")}\n}`;
}

function statement(verified: Verified, slot: number, goTo: (target: number) => string): string {
  const i = verified.instructions[slot];
  const fact = verified.facts[slot];
  // Never run: the verifier has found the way there barred, or it is the second half of a constant.
  if (!fact.seen) return "";
  if (isExit(i.opcode)) return "return l0 >>> 0;";
  if (isGoto(i.opcode)) return goTo(jumpTarget(i, slot));
  if (isBranch(i.opcode)) {
    // What the verifier has decided is not asked again.
    if (!fact.takes) return "";
    const go = goTo(jumpTarget(i, slot));
    return fact.falls ? `if (${condition(i, fact)}) ${go}` : go;
  }
  if (isCall(i.opcode)) return call(i.immediate, fact);
  switch (classOf(i.opcode)) {
    case BPF_ALU:
    case BPF_ALU64:
      return arithmetic(i);
    case BPF_LD:
      return isWide(i.opcode) ? constant(i, verified.instructions[slot + 1].immediate) : legacyLoad(i);
    case BPF_LDX:
      return load(i, fact, verified.type);
    case BPF_STX:
      return modeOf(i.opcode) === BPF_ATOMIC ? atomic(i, fact) : store(i, fact);
    default:
      return store(i, fact);
  }
}

/** A 64-bit number, the address of a value, or a map: which one the instruction that takes it knows. */
function constant(i: Instruction, high: number): string {
  const l = `l${i.dst}`;
  const h = `h${i.dst}`;
  if (i.src === 0) return `${l} = ${i.immediate}; ${h} = ${high};`;
  return i.src === BPF_PSEUDO_MAP_VALUE ? `${l} = ${MAP_HEADER + high}; ${h} = 0;` : `${l} = 1; ${h} = 0;`;
}

const ERROR_HIGH = "h0 = l0 >> 31;";

function call(helper: number, fact: Fact): string {
  const bytesOf = (argument: number): string => memoryOf(fact.places[argument] as Place).bytes;
  const cpu = `c[${META.cpu}]`;
  switch (helper) {
    case HELPER.map_lookup_elem:
      return `l0 = map${fact.map}.find(${bytesOf(2)}, l2, ${cpu}); h0 = 0;`;
    case HELPER.map_update_elem:
      return `l0 = map${fact.map}.store(${bytesOf(2)}, l2, ${bytesOf(3)}, l3, h4 === 0 ? l4 : -1, ${cpu}); ${ERROR_HIGH}`;
    case HELPER.map_delete_elem:
      return `l0 = map${fact.map}.remove(${bytesOf(2)}, l2); ${ERROR_HIGH}`;
    case HELPER.skb_load_bytes:
      return `l0 = loadBytes(b, o, n, l2, ${bytesOf(3)}, l3, l4); ${ERROR_HIGH}`;
    case HELPER.skb_load_bytes_relative:
      return `l0 = loadRelative(b, o, n, l2, ${bytesOf(3)}, l3, l4, l5, c); ${ERROR_HIGH}`;
    case HELPER.sk_select_reuseport:
      return `l0 = selectSocket(map${fact.map}, ${bytesOf(3)}, l3, c); ${ERROR_HIGH}`;
    case HELPER.get_hash_recalc:
      return `l0 = c[${SKB.hash >> 2}]; h0 = 0;`;
    case HELPER.ktime_get_ns:
      return `l0 = c[${META.timeLow}]; h0 = c[${META.timeHigh}];`;
    case HELPER.get_prandom_u32:
      return "l0 = randomWord(); h0 = 0;";
    default:
      // get_smp_processor_id, the last that the verifier lets pass.
      return `l0 = ${cpu}; h0 = 0;`;
  }
}
