/**
 * Classic programs as text. Read is what people and tools write:
 *   bpf_asm      `ldh [12]`, `jeq #0x800, l1, drop`, `l1: ld len`, `ret #-1` (Documentation/networking/filter.rst of Linux)
 *   tcpdump -d   `(001) jeq #0x800 jt 2 jf 5`
 *   tcpdump -dd  `{ 0x28, 0, 0, 0x0000000c },`
 *   tcpdump -ddd a count, then `40 0 0 12` a line; commas may stand for line ends
 */
import {
  BPF_A,
  BPF_ABS,
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
  BPF_JSET,
  BPF_K,
  BPF_LD,
  BPF_LDX,
  BPF_LEN,
  BPF_LSH,
  BPF_MEM,
  BPF_MISC,
  BPF_MOD,
  BPF_MSH,
  BPF_MUL,
  BPF_NEG,
  BPF_OR,
  BPF_RET,
  BPF_RSH,
  BPF_ST,
  BPF_STX,
  BPF_SUB,
  BPF_TAX,
  BPF_TXA,
  BPF_W,
  BPF_X,
  BPF_XOR,
  classOf,
  modeOf,
  operationOf,
  SKF_AD_OFF,
  type SockFilter,
  sizeOf,
  usesX,
} from "../opcodes.ts";
import { linesOf, numberOf, type Scanner } from "./scanner.ts";

const U32 = 2 ** 32;
const SKIP_MAX = 255;

/** Ancillary loads by name, at SKF_AD_OFF + 4 each. */
const EXTENSIONS = [
  "proto",
  "type",
  "ifidx",
  "nla",
  "nlan",
  "mark",
  "queue",
  "hatype",
  "rxhash",
  "cpu",
  "alu_xor_x",
  "vlan_tci",
  "vlan_avail",
  "poff",
  "rand",
  "vlan_tpid",
] as const;
const EXTENSION_OF = new Map<string, number>(EXTENSIONS.map((name, i) => [name, SKF_AD_OFF + 4 * i + U32]));

const LOADS = new Map<string, number>([
  ["ld", BPF_LD | BPF_W],
  ["ldi", BPF_LD | BPF_W],
  ["ldh", BPF_LD | BPF_H],
  ["ldb", BPF_LD | BPF_B],
  ["ldx", BPF_LDX | BPF_W],
  ["ldxi", BPF_LDX | BPF_W],
  ["ldxb", BPF_LDX | BPF_B],
]);
const ARITHMETIC = new Map<string, number>([
  ["add", BPF_ADD],
  ["sub", BPF_SUB],
  ["mul", BPF_MUL],
  ["div", BPF_DIV],
  ["mod", BPF_MOD],
  ["and", BPF_AND],
  ["or", BPF_OR],
  ["xor", BPF_XOR],
  ["lsh", BPF_LSH],
  ["rsh", BPF_RSH],
]);
/** Jumps, and those that are others with their ways exchanged. */
const JUMPS = new Map<string, [operation: number, exchanged: boolean]>([
  ["jeq", [BPF_JEQ, false]],
  ["jgt", [BPF_JGT, false]],
  ["jge", [BPF_JGE, false]],
  ["jset", [BPF_JSET, false]],
  ["jne", [BPF_JEQ, true]],
  ["jneq", [BPF_JEQ, true]],
  ["jlt", [BPF_JGE, true]],
  ["jle", [BPF_JGT, true]],
]);

/** Where a jump goes: an instruction by number, or a label still to be found. */
type Target = number | { readonly label: string; readonly scanner: Scanner; readonly column: number };

interface Draft {
  readonly code: number;
  readonly k: number;
  /** Of jumps: when the condition holds, and when not; null: the next one. `ja` has one. */
  readonly yes?: Target | null;
  readonly no?: Target | null;
  /** Jumps are distances already. */
  readonly raw?: boolean;
}

/** A program in any of the forms. Throws SyntaxError with line and column. */
export function parseClassic(text: string): SockFilter[] {
  const [first = ""] = text
    .split(/[\n,]/)
    .map((line) => line.trim())
    .filter((line) => line !== "");
  if (/^\d+$/.test(first)) return parseDecimal(text);
  const drafts: Draft[] = [];
  const labels = new Map<string, number>();
  for (const scanner of linesOf(text)) {
    while (readLabel(scanner, labels, drafts.length));
    if (scanner.atEnd) continue;
    if (scanner.accept("{")) drafts.push(readBraces(scanner));
    else drafts.push(readInstruction(scanner));
    scanner.end();
  }
  if (drafts.length === 0) throw new SyntaxError("BPF program: there are no instructions");
  return drafts.map((draft, at) => resolve(draft, at, labels));
}

/** `tcpdump -ddd`. */
function parseDecimal(text: string): SockFilter[] {
  const rows = text.split("\n").flatMap((line, i) => line.split(",").map((row) => ({ row: row.trim(), line: i + 1 })));
  const [head, ...rest] = rows.filter(({ row }) => row !== "");
  if (Number(head.row) !== rest.length) {
    throw new SyntaxError(`BPF program: ${head.row} instructions announced, there are ${rest.length}`);
  }
  return rest.map(({ row, line }) => {
    const fields = row.split(/\s+/).map((word) => (/^\d+$/.test(word) ? Number(word) : Number.NaN));
    const [code, jt, jf, k] = fields;
    if (fields.length !== 4 || !fields.every(Number.isInteger)) {
      throw new SyntaxError(`BPF program: line ${line}: "${row}" is not "code jt jf k"`);
    }
    return { code, jt, jf, k };
  });
}

/** A label at the line's beginning, or the number that tcpdump puts there, which must be right. */
function readLabel(scanner: Scanner, labels: Map<string, number>, at: number): boolean {
  const number = scanner.take(/\((\d+)\)/);
  if (number !== null && Number(number[1]) !== at) scanner.failLast(`this is instruction ${at}`);
  const label = scanner.take(/([A-Za-z_]\w*)\s*:/);
  if (label === null) return number !== null;
  if (labels.has(label[1])) scanner.failLast(`label "${label[1]}" is there already`);
  labels.set(label[1], at);
  return true;
}

function readBraces(scanner: Scanner): Draft {
  const fields = [0xffff, SKIP_MAX, SKIP_MAX, U32 - 1].map((high, i) => {
    if (i > 0) scanner.expect(",");
    return numberOf(scanner, 0, high);
  });
  scanner.expect("}");
  scanner.accept(",");
  const [code, jt, jf, k] = fields;
  return { code, k, yes: jt, no: jf, raw: true };
}

function readInstruction(scanner: Scanner): Draft {
  const found = scanner.take(/[a-z]+/);
  if (found === null) return scanner.fail("an instruction expected");
  const [name] = found;
  const load = LOADS.get(name);
  if (load !== undefined) return readLoad(scanner, name, load);
  const operation = ARITHMETIC.get(name);
  if (operation !== undefined) {
    const isX = readX(scanner);
    return { code: BPF_ALU | operation | (isX ? BPF_X : BPF_K), k: isX ? 0 : readConstant(scanner) };
  }
  const jump = JUMPS.get(name);
  if (jump !== undefined) return readJump(scanner, ...jump);
  switch (name) {
    case "st":
    case "stx":
      return { code: name === "st" ? BPF_ST : BPF_STX, k: readCell(scanner) };
    case "ja":
    case "jmp":
      return { code: BPF_JMP | BPF_JA, k: 0, yes: readTarget(scanner) };
    case "neg":
      return { code: BPF_ALU | BPF_NEG, k: 0 };
    case "tax":
      return { code: BPF_MISC | BPF_TAX, k: 0 };
    case "txa":
      return { code: BPF_MISC | BPF_TXA, k: 0 };
    case "ret": {
      // tcpdump writes nothing for the accumulator.
      const isA = scanner.atEnd || scanner.take(/%?a\b/) !== null;
      return { code: BPF_RET | (isA ? BPF_A : BPF_K), k: isA ? 0 : readConstant(scanner) };
    }
    default:
      return scanner.failLast(`"${name}" is no instruction`);
  }
}

function readLoad(scanner: Scanner, name: string, code: number): Draft {
  if (name === "ldi" || name === "ldxi") {
    scanner.accept("#");
    return { code: code | BPF_IMM, k: numberOf(scanner, -(U32 / 2), U32 - 1) >>> 0 };
  }
  if (scanner.take(/4\s*\*\s*\(\s*\[/) !== null) {
    const k = numberOf(scanner, -(U32 / 2), U32 - 1) >>> 0;
    if (scanner.take(/\]\s*&\s*0xf\s*\)/) === null) scanner.fail('"]&0xf)" expected');
    return { code: BPF_LDX | BPF_B | BPF_MSH, k };
  }
  if (name === "ldxb") return scanner.fail('"4*([k]&0xf)" expected');
  const isWord = sizeOf(code) === BPF_W;
  if (isWord && scanner.take(/#?(?:pkt)?len\b/) !== null) return { code: code | BPF_LEN, k: 0 };
  if (isWord && /^M\b/.test(scanner.next)) return { code: code | BPF_MEM, k: readCell(scanner) };
  if (classOf(code) === BPF_LD && scanner.accept("[")) return readPacket(scanner, code);
  const extension = classOf(code) === BPF_LD ? scanner.take(/#?([a-z]\w*)/) : null;
  if (extension !== null) {
    const k = EXTENSION_OF.get(extension[1]);
    if (k === undefined) return scanner.failLast(`"${extension[0]}" is nothing that can be loaded`);
    return { code: code | BPF_ABS, k };
  }
  if (!isWord) return scanner.fail('"[" expected');
  return { code: code | BPF_IMM, k: readConstant(scanner) };
}

/** After "[": k], x + k], or a name as tcpdump writes it. */
function readPacket(scanner: Scanner, code: number): Draft {
  let mode = BPF_ABS;
  let k: number;
  const name = scanner.take(/[a-z_]{2,}/);
  if (name !== null) {
    k = EXTENSION_OF.get(name[0]) ?? scanner.failLast(`"${name[0]}" is nothing that can be loaded`);
  } else if (scanner.take(/%?x\b/) !== null) {
    mode = BPF_IND;
    k = scanner.take(/(?=[-+])/) === null ? 0 : readDisplacement(scanner);
  } else {
    k = numberOf(scanner, -(U32 / 2), U32 - 1) >>> 0;
  }
  scanner.expect("]");
  return { code: code | mode, k };
}

function readDisplacement(scanner: Scanner): number {
  const minus = scanner.accept("-");
  if (!minus) scanner.expect("+");
  const value = numberOf(scanner, -(U32 / 2), U32 - 1);
  return (minus ? -value : value) >>> 0;
}

function readCell(scanner: Scanner): number {
  if (scanner.take(/M\s*\[/) === null) scanner.fail('"M[" expected');
  const k = numberOf(scanner, 0, U32 - 1);
  scanner.expect("]");
  return k;
}

const readX = (scanner: Scanner): boolean => scanner.take(/%?x\b/) !== null;

function readConstant(scanner: Scanner): number {
  scanner.expect("#");
  return numberOf(scanner, -(U32 / 2), U32 - 1) >>> 0;
}

function readJump(scanner: Scanner, operation: number, exchanged: boolean): Draft {
  const isX = readX(scanner);
  const code = BPF_JMP | operation | (isX ? BPF_X : BPF_K);
  const k = isX ? 0 : readConstant(scanner);
  if (scanner.take(/jt\b/) !== null) {
    const yes = numberOf(scanner, 0, U32);
    if (scanner.take(/jf\b/) === null) scanner.fail('"jf" expected');
    return { code, k, yes, no: numberOf(scanner, 0, U32) };
  }
  scanner.expect(",");
  const first = readTarget(scanner);
  const second = scanner.accept(",") ? readTarget(scanner) : null;
  return exchanged ? { code, k, yes: second, no: first } : { code, k, yes: first, no: second };
}

/** A label; an instruction's number, as tcpdump writes it. */
function readTarget(scanner: Scanner): Target {
  const column = scanner.column;
  const label = scanner.take(/[A-Za-z_]\w*/);
  return label === null ? numberOf(scanner, 0, U32) : { label: label[0], scanner, column };
}

function resolve(draft: Draft, at: number, labels: ReadonlyMap<string, number>): SockFilter {
  const { code, k, yes, no } = draft;
  if (draft.raw) return { code, jt: yes as number, jf: no as number, k };
  if (yes === undefined) return { code, jt: 0, jf: 0, k };
  if (operationOf(code) === BPF_JA) return { code, jt: 0, jf: 0, k: skipTo(yes, at, labels, U32) };
  return { code, jt: skipTo(yes, at, labels, SKIP_MAX), jf: skipTo(no ?? null, at, labels, SKIP_MAX), k };
}

function skipTo(target: Target | null, at: number, labels: ReadonlyMap<string, number>, max: number): number {
  if (target === null) return 0;
  const to = typeof target === "number" ? target : labels.get(target.label);
  const where =
    typeof target === "number" ? `instruction ${at}` : `line ${target.scanner.line}, column ${target.column}`;
  const name = typeof target === "number" ? String(target) : `"${target.label}"`;
  if (to === undefined) throw new SyntaxError(`BPF program: ${where}: label ${name} is nowhere`);
  const skip = to - at - 1;
  if (skip < 0) throw new SyntaxError(`BPF program: ${where}: ${name} is not ahead: jumps go forward`);
  if (skip > max)
    throw new SyntaxError(`BPF program: ${where}: ${name} is ${skip} instructions ahead, at most ${max} can be`);
  return skip;
}

const hex = (k: number): string => `#0x${k.toString(16)}`;
const nameOf = (table: ReadonlyMap<string, number>, value: number): string | undefined =>
  [...table].find(([, one]) => one === value)?.[0];

/** A valid program in the syntax of bpf_asm, a line an instruction, labels by the number of the instruction. */
export function formatClassic(program: readonly SockFilter[]): string {
  const targets = new Set<number>();
  program.forEach(({ code, jt, jf, k }, at) => {
    if (classOf(code) !== BPF_JMP) return;
    for (const skip of operationOf(code) === BPF_JA ? [k] : [jt, jf]) targets.add(at + 1 + skip);
  });
  const lines = program.map((one, at) => `${targets.has(at) ? `l${at}:` : ""}\t${formatOne(one, at)}`);
  return `${lines.join("\n")}\n`;
}

function formatOne({ code, jt, jf, k }: SockFilter, at: number): string {
  const operand = usesX(code) ? "x" : hex(k);
  const label = (skip: number): string => `l${at + 1 + skip}`;
  switch (classOf(code)) {
    case BPF_LD:
    case BPF_LDX:
      return formatLoad(code, k);
    case BPF_ST:
      return `st M[${k}]`;
    case BPF_STX:
      return `stx M[${k}]`;
    case BPF_ALU:
      return operationOf(code) === BPF_NEG ? "neg" : `${nameOf(ARITHMETIC, operationOf(code))} ${operand}`;
    case BPF_JMP: {
      if (operationOf(code) === BPF_JA) return `jmp ${label(k)}`;
      const name = [...JUMPS].find(([, [operation]]) => operation === operationOf(code))?.[0];
      return `${name} ${operand}, ${label(jt)}, ${label(jf)}`;
    }
    case BPF_RET:
      return (code & 0x18) === BPF_A ? "ret a" : `ret ${hex(k)}`;
    default:
      return (code & 0xf8) === BPF_TAX ? "tax" : "txa";
  }
}

function formatLoad(code: number, k: number): string {
  const isX = classOf(code) === BPF_LDX;
  const name = isX ? "ldx" : { [BPF_W]: "ld", [BPF_H]: "ldh", [BPF_B]: "ldb" }[sizeOf(code)];
  switch (modeOf(code)) {
    case BPF_IMM:
      return `${name} ${hex(k)}`;
    case BPF_LEN:
      return `${name} len`;
    case BPF_MEM:
      return `${name} M[${k}]`;
    case BPF_IND:
      return `${name} [x + ${k}]`;
    case BPF_MSH:
      return `ldxb 4*([${k}]&0xf)`;
    default: {
      const extension = nameOf(EXTENSION_OF, k);
      return extension === undefined ? `${name} [${k}]` : `${name} ${extension}`;
    }
  }
}
