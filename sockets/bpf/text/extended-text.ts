/**
 * Extended programs as text: what `disassemble()` of af-xdp-bindings writes, the kernel's verifier log, bpftool and llvm-objdump.
 *
 *   r0 = *(u32 *)(r1 + 16)      if r0 == 0 goto +2      call 1      lock *(u64 *)(r1 + 0) += r2      exit
 *
 * A line may begin with its slot, with bytes in hex (llvm-objdump) or an opcode in brackets (bpftool), and with labels (`out:`),
 * which jumps may name. Helpers are called by number or name.
 */
import { HELPER, opcodes } from "af-xdp-bindings";
import { encodeExtended } from "../extended/instruction.ts";
import { linesOf, numberOf, type Scanner } from "./scanner.ts";

const {
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
  JMP_OP,
} = opcodes;

const S32_MIN = -(2 ** 31);
const U32_MAX = 2 ** 32 - 1;
const S16_MIN = -32768;
const S16_MAX = 32767;

const ALU = new Map<string, number>([
  ["+=", ALU_OP.add],
  ["-=", ALU_OP.sub],
  ["*=", ALU_OP.mul],
  ["/=", ALU_OP.div],
  ["|=", ALU_OP.or],
  ["&=", ALU_OP.and],
  ["<<=", ALU_OP.lsh],
  [">>=", ALU_OP.rsh],
  ["%=", ALU_OP.mod],
  ["^=", ALU_OP.xor],
  ["s>>=", ALU_OP.arsh],
]);
const ALU_SIGN = /s\/=|s%=|s>>=|<<=|>>=|[-+*/|&%^]=/;
const JUMPS = new Map<string, number>([
  ["==", JMP_OP.jeq],
  ["!=", JMP_OP.jne],
  [">", JMP_OP.jgt],
  [">=", JMP_OP.jge],
  ["<", JMP_OP.jlt],
  ["<=", JMP_OP.jle],
  ["&", JMP_OP.jset],
  ["s>", JMP_OP.jsgt],
  ["s>=", JMP_OP.jsge],
  ["s<", JMP_OP.jslt],
  ["s<=", JMP_OP.jsle],
]);
const JUMP_SIGN = /s?[<>]=?|[=!]=|&/;
const SIZES: Readonly<Record<string, number>> = { 8: BPF_B, 16: BPF_H, 32: BPF_W, 64: BPF_DW };

/** A label that a distance is to be put to, once all are known. */
interface Fixup {
  readonly slot: number;
  readonly label: string;
  readonly scanner: Scanner;
  readonly column: number;
  /** Where the distance goes: the immediate of gotol and of calls within the program, else the offset. */
  readonly immediate: boolean;
}

/** A place in memory: (r1 + 16). */
interface Place {
  readonly base: number;
  readonly offset: number;
  readonly size: number;
  readonly signed: boolean;
}

/** A program as struct bpf_insn. Throws SyntaxError with line and column. */
export function parseExtended(text: string): Uint8Array<ArrayBuffer> {
  const parser = new Parser();
  for (const scanner of linesOf(text)) parser.line(scanner);
  return parser.finish();
}

class Parser {
  /** Opcode, registers, offset, immediate: a row a slot. */
  private readonly slots: [opcode: number, dst: number, src: number, offset: number, immediate: number][] = [];
  private readonly labels = new Map<string, number>();
  private readonly fixups: Fixup[] = [];

  line(scanner: Scanner): void {
    this.prefix(scanner);
    if (scanner.atEnd) return;
    this.instruction(scanner);
    // Where a jump goes, as a name that tools add.
    scanner.take(/<[^>]*>/);
    scanner.end();
  }

  finish(): Uint8Array<ArrayBuffer> {
    for (const { slot, label, scanner, column, immediate } of this.fixups) {
      const to = this.labels.get(label);
      const where = `BPF program: line ${scanner.line}, column ${column}`;
      if (to === undefined) throw new SyntaxError(`${where}: label "${label}" is nowhere`);
      const distance = to - slot - 1;
      if (!immediate && (distance < S16_MIN || distance > S16_MAX)) {
        throw new SyntaxError(`${where}: "${label}" is ${distance} slots away: gotol reaches so far`);
      }
      this.slots[slot][immediate ? 4 : 3] = distance;
    }
    return encodeExtended(
      this.slots.map(([opcode, dst, src, offset, immediate]) => ({ opcode, dst, src, offset, immediate })),
    );
  }

  private prefix(scanner: Scanner): void {
    const slot = scanner.take(/(\d+):/);
    if (slot !== null && Number(slot[1]) !== this.slots.length) {
      scanner.failLast(`this is slot ${this.slots.length}`);
    }
    if (slot !== null) scanner.take(/(?:[0-9a-f]{2} ){7}[0-9a-f]{2}(?: (?:[0-9a-f]{2} ){7}[0-9a-f]{2})?(?=\s)/);
    scanner.take(/\([0-9a-f]{2}\)/);
    for (let names = takeLabels(scanner); names.length > 0; names = takeLabels(scanner)) {
      for (const name of names) {
        if (this.labels.has(name)) scanner.failLast(`label "${name}" is there already`);
        this.labels.set(name, this.slots.length);
      }
    }
  }

  private emit(opcode: number, dst = 0, src = 0, offset = 0, immediate = 0): void {
    this.slots.push([opcode, dst, src, offset, immediate]);
  }

  private instruction(scanner: Scanner): void {
    if (scanner.take(/exit\b/) !== null) this.emit(BPF_JMP | JMP_OP.exit);
    else if (scanner.take(/call\b/) !== null) this.call(scanner);
    else if (scanner.take(/gotol\b/) !== null) this.jump(scanner, BPF_JMP32 | JMP_OP.ja, 0, 0, 0, true);
    else if (scanner.take(/goto\b/) !== null) this.jump(scanner, BPF_JMP | JMP_OP.ja, 0, 0, 0, false);
    else if (scanner.take(/if\b/) !== null) this.branch(scanner);
    else if (scanner.take(/lock\b/) !== null) this.locked(scanner);
    else if (scanner.take(/atomic_(?=[a-z])/) !== null) this.atomic(scanner);
    else if (scanner.take(/ld_pseudo\b/) !== null) this.pseudo(scanner);
    else if (scanner.take(/(?=\*)/) !== null) this.store(scanner);
    else this.assignment(scanner);
  }

  /** `ld_pseudo r1, 1, 5`: llvm-objdump's form of a map's descriptor. */
  private pseudo(scanner: Scanner): void {
    const { number: dst } = register(scanner);
    scanner.expect(",");
    const kind = numberOf(scanner, BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_FD);
    scanner.expect(",");
    this.wide(dst, kind, numberOf(scanner, S32_MIN, -S32_MIN - 1), 0);
  }

  private call(scanner: Scanner): void {
    if (scanner.take(/pc(?=[-+])/) !== null) {
      this.emit(BPF_JMP | JMP_OP.call, 0, BPF_PSEUDO_CALL, 0, distance(scanner, S32_MIN, -S32_MIN - 1));
      return;
    }
    const name = scanner.take(/(?:bpf_)?([a-z]\w*)(?:#(\d+))?/);
    scanner.accept("#");
    let helper: number;
    if (name === null) helper = numberOf(scanner, S32_MIN, -S32_MIN - 1);
    else if (name[2] !== undefined) helper = Number(name[2]);
    else helper = (HELPER as Record<string, number>)[name[1]] ?? scanner.failLast(`no helper is called "${name[0]}"`);
    this.emit(BPF_JMP | JMP_OP.call, 0, 0, 0, helper);
  }

  private jump(
    scanner: Scanner,
    opcode: number,
    dst: number,
    src: number,
    immediate: number,
    isImmediate: boolean,
  ): void {
    const { column } = scanner;
    scanner.take(/pc(?=[-+])/);
    const label = scanner.take(/[A-Za-z_]\w*/);
    if (label !== null) {
      this.fixups.push({ slot: this.slots.length, label: label[0], scanner, column, immediate: isImmediate });
      this.emit(opcode, dst, src, 0, immediate);
    } else if (isImmediate) {
      this.emit(opcode, 0, 0, 0, distance(scanner, S32_MIN, -S32_MIN - 1));
    } else {
      this.emit(opcode, dst, src, distance(scanner, S16_MIN, S16_MAX), immediate);
    }
  }

  private branch(scanner: Scanner): void {
    const { wide, number: dst } = register(scanner);
    const sign = scanner.take(JUMP_SIGN) ?? scanner.fail("a comparison expected");
    const operation = JUMPS.get(sign[0]) as number;
    const operand = this.operand(scanner, wide);
    if (scanner.take(/goto\b/) === null) scanner.fail('"goto" expected');
    const opcode = (wide ? BPF_JMP : BPF_JMP32) | operation | operand.bits;
    this.jump(scanner, opcode, dst, operand.src, operand.immediate, false);
  }

  /** A register of the same width, or a number. */
  private operand(scanner: Scanner, wide: boolean): { bits: number; src: number; immediate: number } {
    if (scanner.take(/(?=[rw]\d)/) === null) {
      return { bits: 0, src: 0, immediate: numberOf(scanner, S32_MIN, U32_MAX) | 0 };
    }
    const { number, wide: isWide } = register(scanner);
    if (isWide !== wide) scanner.failLast(`${wide ? "an r" : "a w"} register expected`);
    return { bits: BPF_X, src: number, immediate: 0 };
  }

  /** `rX …`, `wX …`: arithmetic, loads, constants, and atomic operations that fetch. */
  private assignment(scanner: Scanner): void {
    const { wide, number: dst } = register(scanner);
    const kind = wide ? BPF_ALU64 : BPF_ALU;
    const sign = scanner.take(ALU_SIGN);
    if (sign !== null) {
      const signed = sign[0] === "s/=" || sign[0] === "s%=";
      const operation = ALU.get(signed ? sign[0].slice(1) : sign[0]) as number;
      const { bits, src, immediate } = this.operand(scanner, wide);
      this.emit(kind | operation | bits, dst, src, signed ? 1 : 0, immediate);
      return;
    }
    scanner.expect("=");
    const negated = scanner.take(/-\s*(?=[rw]\d)/);
    if (negated !== null) {
      if (register(scanner).number !== dst) scanner.failLast("a register is negated in place");
      this.emit(kind | ALU_OP.neg, dst);
      return;
    }
    const extended = scanner.take(/\(s(8|16|32)\)/);
    if (extended !== null) {
      this.emit(kind | ALU_OP.mov | BPF_X, dst, register(scanner).number, Number(extended[1]));
    } else if (!this.special(scanner, dst)) {
      const { bits, src, immediate } = this.operand(scanner, wide);
      this.emit(kind | ALU_OP.mov | bits, dst, src, 0, immediate);
    }
  }

  /** What is neither a register nor a 32-bit number. */
  private special(scanner: Scanner, dst: number): boolean {
    if (scanner.take(/(?=\*)/) !== null) {
      this.load(scanner, dst);
      return true;
    }
    const swap = scanner.take(/(be|le|bswap)(16|32|64)\b/);
    if (swap !== null) {
      if (register(scanner).number !== dst) scanner.failLast("a register is swapped in place");
      const bits = swap[1] === "be" ? BPF_X : 0;
      this.emit((swap[1] === "bswap" ? BPF_ALU64 : BPF_ALU) | ALU_OP.end | bits, dst, 0, 0, Number(swap[2]));
      return true;
    }
    if (scanner.take(/map\s+fd\b/) !== null) {
      const fd = numberOf(scanner, S32_MIN, -S32_MIN - 1);
      const isValue = scanner.take(/value\s*(?=\+)/) !== null;
      if (isValue) scanner.expect("+");
      const at = isValue ? numberOf(scanner, S32_MIN, U32_MAX) | 0 : 0;
      this.wide(dst, isValue ? BPF_PSEUDO_MAP_VALUE : BPF_PSEUDO_MAP_FD, fd, at);
      return true;
    }
    const number = scanner.take(/(-?)(0x[0-9a-fA-F]+|\d+)\s*ll\b/);
    if (number !== null) {
      const value = BigInt(number[2]) * (number[1] === "" ? 1n : -1n);
      this.wide(dst, 0, Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n)));
      return true;
    }
    return this.fetch(scanner, dst);
  }

  private wide(dst: number, src: number, low: number, high: number): void {
    this.emit(BPF_LD | BPF_IMM | BPF_DW, dst, src, 0, low);
    this.emit(0, 0, 0, 0, high);
  }

  private load(scanner: Scanner, dst: number): void {
    const type = takeType(scanner);
    if (scanner.take(/skb\s*\[/) === null) {
      const { base, offset, size, signed } = readPlace(scanner, type);
      this.emit(BPF_LDX | (signed ? BPF_MEMSX : BPF_MEM) | size, dst, base, offset);
      return;
    }
    if (dst !== 0 || type.signed) scanner.failLast("loads of the packet go to r0, without a sign");
    const isIndirect = scanner.take(/(?=r\d)/) !== null;
    const src = isIndirect ? register(scanner).number : 0;
    const more = !isIndirect || scanner.take(/(?=[-+])/) !== null;
    const immediate = more ? (isIndirect ? distance : plain)(scanner, S32_MIN, U32_MAX) | 0 : 0;
    scanner.expect("]");
    this.emit(BPF_LD | (isIndirect ? BPF_IND : BPF_ABS) | type.size, 0, src, 0, immediate);
  }

  private store(scanner: Scanner): void {
    const { base, offset, size } = readPlace(scanner, takeType(scanner));
    scanner.expect("=");
    if (scanner.take(/(?=[rw]\d)/) === null) {
      this.emit(BPF_ST | BPF_MEM | size, base, 0, offset, numberOf(scanner, S32_MIN, U32_MAX) | 0);
    } else {
      this.emit(BPF_STX | BPF_MEM | size, base, register(scanner).number, offset);
    }
  }

  /** `lock *(u64 *)(r1 + 0) += r2`. */
  private locked(scanner: Scanner): void {
    const place = readPlace(scanner, takeType(scanner));
    const sign = scanner.take(/[+|&^]=/) ?? scanner.fail('"+=", "|=", "&=" or "^=" expected');
    this.emitAtomic(place, register(scanner).number, ALU.get(sign[0]) as number);
  }

  /** `atomic_fetch_add *(u64 *)(r1 + 0), r2`, after "atomic_". */
  private atomic(scanner: Scanner): void {
    const name =
      scanner.take(/(fetch_)?(add|or|and|xor|xchg|cmpxchg)\b/) ?? scanner.fail("an atomic operation expected");
    const place = readPlace(scanner, takeType(scanner));
    scanner.expect(",");
    this.emitAtomic(place, register(scanner).number, operationOf(name[2], name[1] !== undefined));
  }

  /** `r2 = atomic_fetch_add((u64 *)(r1 + 0), r2)`, `r2 = xchg_64(r1 + 0, r2)`, `r0 = cmpxchg_64(r1 + 0, r0, r2)`. */
  private fetch(scanner: Scanner, dst: number): boolean {
    const name = scanner.take(/atomic(?:64)?_(fetch_)?(add|or|and|xor|xchg|cmpxchg)\s*\(/);
    const short = name === null ? scanner.take(/(cmpxchg|xchg)(?:32)?_(32|64)\s*\(/) : null;
    if (name === null && short === null) return false;
    const operation = (name?.[2] ?? short?.[1]) as string;
    const type = short === null ? takeType(scanner, "") : { size: SIZES[short[2]], signed: false };
    const place = short === null ? readPlace(scanner, type) : { ...readInside(scanner), ...type };
    if (operation === "cmpxchg" && scanner.take(/,\s*[rw]0\b/) === null) scanner.fail('", r0" expected');
    scanner.expect(",");
    const src = register(scanner).number;
    scanner.expect(")");
    if ((operation === "cmpxchg" ? 0 : src) !== dst) scanner.failLast("it is fetched to another register");
    this.emitAtomic(place, src, operationOf(operation, true));
    return true;
  }

  private emitAtomic({ base, offset, size }: Place, src: number, operation: number): void {
    this.emit(BPF_STX | BPF_ATOMIC | size, base, src, offset, operation);
  }
}

function operationOf(name: string, fetches: boolean): number {
  return (ATOMIC_OP as Record<string, number>)[name] | (fetches ? BPF_FETCH : 0);
}

/** `out:`, or `out, end:`. */
function takeLabels(scanner: Scanner): string[] {
  const found = scanner.take(/([A-Za-z_]\w*(?:,\s*[A-Za-z_]\w*)*)\s*:/);
  return found === null ? [] : found[1].split(/,\s*/);
}

function register(scanner: Scanner): { wide: boolean; number: number } {
  const found = scanner.take(/([rw])(\d+)\b/) ?? scanner.fail("an instruction or a register expected");
  const number = Number(found[2]);
  if (number > 15) scanner.failLast(`there is no register ${found[0]}`);
  return { wide: found[1] === "r", number };
}

/** `*(u32 *)`; with `star` "" without the first asterisk. */
function takeType(scanner: Scanner, star = "*"): { size: number; signed: boolean } {
  if (star !== "") scanner.expect(star);
  const type = scanner.take(/\(\s*([us])(8|16|32|64)\s*\*\s*\)/) ?? scanner.fail('"(u32 *)" or the like expected');
  return { size: SIZES[type[2]], signed: type[1] === "s" };
}

/** `(r1 + 16)` after its type. */
function readPlace(scanner: Scanner, type: { size: number; signed: boolean }): Place {
  scanner.expect("(");
  const inside = readInside(scanner);
  scanner.expect(")");
  return { ...inside, ...type };
}

function readInside(scanner: Scanner): { base: number; offset: number } {
  const base = register(scanner).number;
  return { base, offset: scanner.take(/(?=[-+])/) === null ? 0 : distance(scanner, S16_MIN, S16_MAX) };
}

const plain = (scanner: Scanner, low: number, high: number): number => numberOf(scanner, low, high);

/** A number with its sign, between which there may be blanks: + 16, -4. Without a sign it is positive. */
function distance(scanner: Scanner, low: number, high: number): number {
  const minus = scanner.accept("-");
  if (!minus) scanner.accept("+");
  const value = numberOf(scanner, minus ? 0 : low, minus ? -low : high);
  return minus ? -value : value;
}
