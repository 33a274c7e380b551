/**
 * Classic BPF to JavaScript. All jumps go forward, so the instructions stay in order and a jump leaves a labelled block
 * that ends where it goes:
 *
 *   L7: { L3: { if (A !== 2048) break L7; … } … } return 0;
 *
 * Registers and scratch memory are int32 variables, as the JIT keeps them in registers; what is unsigned in BPF is made so
 * where it matters. Operands in the text are numbers alone, made by String(), whatever the program holds.
 */
import type { ClassicFilter } from "./classic.ts";
import {
  BPF_ADD,
  BPF_ALU,
  BPF_AND,
  BPF_B,
  BPF_DIV,
  BPF_H,
  BPF_IMM,
  BPF_IND,
  BPF_JA,
  BPF_JEQ,
  BPF_JGE,
  BPF_JGT,
  BPF_JMP,
  BPF_K,
  BPF_LD,
  BPF_LDX,
  BPF_LEN,
  BPF_LSH,
  BPF_MEM,
  BPF_MEMWORDS,
  BPF_MISC,
  BPF_MOD,
  BPF_MUL,
  BPF_NEG,
  BPF_OR,
  BPF_RET,
  BPF_RSH,
  BPF_ST,
  BPF_SUB,
  BPF_TAX,
  BPF_XOR,
  classOf,
  isConditional,
  modeOf,
  operationOf,
  SKF_AD_ALU_XOR_X,
  SKF_AD_CPU,
  SKF_AD_HATYPE,
  SKF_AD_IFINDEX,
  SKF_AD_MARK,
  SKF_AD_NLATTR,
  SKF_AD_NLATTR_NEST,
  SKF_AD_OFF,
  SKF_AD_PAY_OFFSET,
  SKF_AD_PKTTYPE,
  SKF_AD_PROTOCOL,
  SKF_AD_QUEUE,
  SKF_AD_RANDOM,
  SKF_AD_RXHASH,
  SKF_AD_VLAN_TAG,
  SKF_AD_VLAN_TAG_PRESENT,
  SKF_AD_VLAN_TPID,
  type SockFilter,
  sizeOf,
  usesX,
} from "./opcodes.ts";
import { findAttribute, NO_CONTEXT, resolveOffset } from "./packet-context.ts";

/**
 * Jump targets up to which blocks are nested. Beyond it the program becomes a switch in a loop, which is slower, but the
 * parser's stack does not grow with it.
 */
const NESTED_MAX = 200;

/** How jumps are written. */
export type JumpForm = "nested" | "switch";

/** Compiles a valid program; see verifyClassic. `form` is for tests: by default the one that suits the program. */
export function compile(program: readonly SockFilter[], form?: JumpForm): ClassicFilter {
  return makeClassic(classicSource(program, form));
}

/** The function that a text from classicSource() is the body of. */
export function makeClassic(source: string): ClassicFilter {
  const make = new Function("NO_CONTEXT", "resolveOffset", "findAttribute", source);
  return make(NO_CONTEXT, resolveOffset, findAttribute) as ClassicFilter;
}

/** A valid program as the text of a function's body that returns it. */
export function classicSource(program: readonly SockFilter[], form?: JumpForm): string {
  const targets = jumpTargets(program);
  const chosen = form ?? (targets.length <= NESTED_MAX ? "nested" : "switch");
  const body = chosen === "nested" ? nestedBody(program, targets) : switchBody(program, targets);
  const cells = Array.from({ length: BPF_MEMWORDS }, (_, i) => `m${i} = 0`).join();
  return (
    `"use strict"; return function classicBpf(b, o, n, c = NO_CONTEXT) {` +
    `let A = 0, X = 0, t = 0, ${cells};\n${body}\n};`
  );
}

/** Instructions that jumps go to, other than the one that follows; in order. */
function jumpTargets(program: readonly SockFilter[]): number[] {
  const targets = new Set<number>();
  program.forEach(({ code, jt, jf, k }, pc) => {
    if (classOf(code) !== BPF_JMP) return;
    for (const skip of isConditional(code) ? [jt, jf] : [k]) if (skip > 0) targets.add(pc + 1 + skip);
  });
  return [...targets].sort((a, b) => a - b);
}

function nestedBody(program: readonly SockFilter[], targets: readonly number[]): string {
  const open = targets.toReversed().map((target) => `L${target}: {`);
  const ends = new Set(targets);
  const goTo = (target: number): string => `break L${target};`;
  const lines = program.map((one, pc) => `${ends.has(pc) ? "}\n" : ""}${statement(one, pc, goTo)}`);
  return [...open, ...lines].join("\n");
}

function switchBody(program: readonly SockFilter[], targets: readonly number[]): string {
  const labels = new Set([0, ...targets]);
  const goTo = (target: number): string => `{ pc = ${target}; continue; }`;
  const lines = program.map((one, pc) => `${labels.has(pc) ? `case ${pc}: ` : ""}${statement(one, pc, goTo)}`);
  return `let pc = 0; for (;;) switch (pc) {\n${lines.join("\n")}\n}`;
}

function statement(one: SockFilter, pc: number, goTo: (target: number) => string): string {
  const { code, k } = one;
  const signed = String(k | 0);
  switch (classOf(code)) {
    case BPF_LD:
      return load(code, k);
    case BPF_LDX:
      return loadX(code, k);
    case BPF_ST:
      return `m${k} = A;`;
    case BPF_ALU:
      return arithmetic(operationOf(code), usesX(code) ? "X" : signed, usesX(code));
    case BPF_JMP:
      return jump(one, pc, goTo);
    case BPF_RET:
      return (code & 0x18) === BPF_K ? `return ${k};` : "return A >>> 0;";
    case BPF_MISC:
      return (code & 0xf8) === BPF_TAX ? "X = A;" : "A = X;";
    default:
      // BPF_STX, the last of eight classes.
      return `m${k} = X;`;
  }
}

function load(code: number, k: number): string {
  const signed = k | 0;
  switch (modeOf(code)) {
    case BPF_IMM:
      return `A = ${signed};`;
    case BPF_LEN:
      return "A = n | 0;";
    case BPF_MEM:
      return `A = m${k};`;
    case BPF_IND:
      return `t = (X + ${signed}) | 0; if (t < 0) t = resolveOffset(t, c); ${packetLoad(sizeOf(code), "t")}`;
    default:
      if (signed >= 0) return packetLoad(sizeOf(code), String(signed));
      if (signed >= SKF_AD_OFF) return ancillary(signed - SKF_AD_OFF);
      return `t = resolveOffset(${signed}, c); ${packetLoad(sizeOf(code), "t")}`;
  }
}

function loadX(code: number, k: number): string {
  const signed = k | 0;
  switch (modeOf(code)) {
    case BPF_IMM:
      return `X = ${signed};`;
    case BPF_LEN:
      return "X = n | 0;";
    case BPF_MEM:
      return `X = m${k};`;
    default: {
      const at = signed >= 0 ? String(signed) : "t";
      const resolve = signed >= 0 ? "" : `t = resolveOffset(${signed}, c); `;
      return `${resolve}if (${at} + 1 > n) return 0; X = (b[o + ${at}] & 15) << 2;`;
    }
  }
}

/** A = size bytes at `at` of the packet, in network order; beyond its end the program returns 0. */
function packetLoad(size: number, at: string): string {
  const byte = (i: number): string => `b[o + ${at} + ${i}]`;
  if (size === BPF_B) return `if (${at} + 1 > n) return 0; A = b[o + ${at}];`;
  if (size === BPF_H) return `if (${at} + 2 > n) return 0; A = (${byte(0)} << 8) | ${byte(1)};`;
  return `if (${at} + 4 > n) return 0; A = (${byte(0)} << 24) | (${byte(1)} << 16) | (${byte(2)} << 8) | ${byte(3)};`;
}

/** Loads of what the packet's bytes do not tell, whatever their size. */
function ancillary(what: number): string {
  switch (what) {
    case SKF_AD_PROTOCOL:
      return "A = c.protocol;";
    case SKF_AD_PKTTYPE:
      return "A = c.packetType;";
    case SKF_AD_IFINDEX:
      return "if (c.ifindex === 0) return 0; A = c.ifindex;";
    case SKF_AD_HATYPE:
      return "if (c.ifindex === 0) return 0; A = c.hardwareType;";
    case SKF_AD_MARK:
      return "A = c.mark | 0;";
    case SKF_AD_QUEUE:
      return "A = c.queue;";
    case SKF_AD_RXHASH:
      return "A = c.hash | 0;";
    case SKF_AD_CPU:
      return "A = c.cpu;";
    case SKF_AD_VLAN_TAG:
      return "A = c.vlanTag;";
    case SKF_AD_VLAN_TAG_PRESENT:
      return "A = c.vlanPresent;";
    case SKF_AD_VLAN_TPID:
      return "A = c.vlanProtocol;";
    case SKF_AD_PAY_OFFSET:
      return "A = c.payloadOffset;";
    case SKF_AD_RANDOM:
      return "A = c.random() | 0;";
    case SKF_AD_ALU_XOR_X:
      return "A ^= X;";
    case SKF_AD_NLATTR:
    case SKF_AD_NLATTR_NEST:
      return `A = findAttribute(b, o, n, A, X, ${what === SKF_AD_NLATTR_NEST});`;
    default:
      throw new RangeError(`ancillary load ${what}: not verified`);
  }
}

/** A = A operation `operand`. Division by an X of 0 returns 0; shifts take the low five bits of X, as in JavaScript. */
function arithmetic(operation: number, operand: string, variable: boolean): string {
  const guard = variable ? "if (X === 0) return 0; " : "";
  switch (operation) {
    case BPF_ADD:
      return `A = (A + ${operand}) | 0;`;
    case BPF_SUB:
      return `A = (A - (${operand})) | 0;`;
    case BPF_MUL:
      return `A = Math.imul(A, ${operand});`;
    case BPF_DIV:
      return `${guard}A = ((A >>> 0) / (${operand} >>> 0)) | 0;`;
    case BPF_MOD:
      return `${guard}A = ((A >>> 0) % (${operand} >>> 0)) | 0;`;
    case BPF_AND:
      return `A &= ${operand};`;
    case BPF_OR:
      return `A |= ${operand};`;
    case BPF_XOR:
      return `A ^= ${operand};`;
    case BPF_LSH:
      return `A <<= ${operand};`;
    case BPF_RSH:
      return `A = (A >>> ${operand}) | 0;`;
    case BPF_NEG:
      return "A = -A | 0;";
    default:
      throw new RangeError(`operation ${operation}: not verified`);
  }
}

function jump({ code, jt, jf, k }: SockFilter, pc: number, goTo: (target: number) => string): string {
  const to = (skip: number): string => (skip === 0 ? "" : goTo(pc + 1 + skip));
  if (operationOf(code) === BPF_JA) return to(k);
  if (jt === jf) return to(jt);
  const condition = comparison(operationOf(code), usesX(code) ? "X" : String(k | 0));
  if (jt === 0) return `if (!(${condition})) ${to(jf)}`;
  return `if (${condition}) ${to(jt)} ${to(jf)}`;
}

function comparison(operation: number, operand: string): string {
  switch (operation) {
    case BPF_JEQ:
      return `A === ${operand}`;
    case BPF_JGT:
      return `(A >>> 0) > (${operand} >>> 0)`;
    case BPF_JGE:
      return `(A >>> 0) >= (${operand} >>> 0)`;
    default:
      // BPF_JSET, the last of four.
      return `(A & ${operand}) !== 0`;
  }
}
