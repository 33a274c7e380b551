/**
 * Loads, stores and atomic operations as JavaScript. An address is the offset of a byte in one of three memories, in the low
 * half of its register: the stack (s8, s16, s32; 0 to 512), a map's buffer (m0, n0, w0 for map 0: bytes, halfwords, words), the
 * packet (b, from o to o + n). The verifier has said which.
 */
import { opcodes } from "af-xdp-bindings";
import { FIELD_LENGTH, FIELD_PACKET, FIELD_PACKET_END, fieldAt, type ProgramType } from "./context.ts";
import type { Fact, Place } from "./facts.ts";
import { classOf, type Instruction, modeOf, sizeOf } from "./instruction.ts";
import { CONTEXT, PACKET, STACK } from "./state.ts";

const { ATOMIC_OP, BPF_FETCH, BPF_IND, BPF_MEMSX, BPF_ST } = opcodes;

/** Names of a memory's bytes, halfwords and words; the packet has bytes alone. */
interface Memory {
  readonly bytes: string;
  readonly half: string;
  readonly words: string;
}

export function memoryOf({ kind, map }: Place): Memory {
  if (kind === STACK) return { bytes: "s8", half: "s16", words: "s32" };
  if (kind === PACKET) return { bytes: "b", half: "", words: "" };
  return { bytes: `m${map}`, half: `n${map}`, words: `w${map}` };
}

/** The address of a load or store, an expression. */
const addressOf = (register: number, offset: number): string => {
  if (register === 10) return String(512 + offset);
  return offset === 0 ? `l${register}` : `(l${register} + ${offset})`;
};

const index = (address: string, shift: number): string =>
  /^\d+$/.test(address) ? String(Number(address) >> shift) : `${address} >> ${shift}`;

export function load(i: Instruction, fact: Fact, type: ProgramType): string {
  const place = fact.places[0] as Place;
  const size = sizeOf(i.opcode);
  const l = `l${i.dst}`;
  const h = `h${i.dst}`;
  const signed = modeOf(i.opcode) === BPF_MEMSX;
  if (place.kind === CONTEXT) return `${loadContext(i, type, size, l)} ${highAfter(signed, size, l, h)}`;
  if (size === 8) return loadWide(place, addressOf(i.src, i.offset), l, h);
  return `${l} = ${value(place, addressOf(i.src, i.offset), size)}; ${highAfter(signed, size, l, h)}`;
}

function highAfter(signed: boolean, size: number, l: string, h: string): string {
  if (!signed) return `${h} = 0;`;
  const shift = 32 - size * 8;
  return shift === 0 ? `${h} = ${l} >> 31;` : `${l} = (${l} << ${shift}) >> ${shift}; ${h} = ${l} >> 31;`;
}

/** 1, 2 or 4 bytes as an expression. */
function value(place: Place, address: string, size: number): string {
  const { bytes, half, words } = memoryOf(place);
  if (size === 1) return `${bytes}[${address}]`;
  if (place.aligned) return size === 2 ? `${half}[${index(address, 1)}]` : `${words}[${index(address, 2)}]`;
  return Array.from({ length: size }, (_, i) => `(${bytes}[${address} + ${i}] << ${8 * i})`).join(" | ");
}

function loadWide(place: Place, address: string, l: string, h: string): string {
  // The address may be in the register that is loaded.
  return `t = ${address}; ${l} = ${value(place, "t", 4)}; ${h} = ${value(place, "(t + 4)", 4)};`;
}

function loadContext(i: Instruction, type: ProgramType, size: number, l: string): string {
  // The context's address is the bytes into it that it points to.
  const at = i.offset;
  const field = fieldAt(type, at, size, false);
  const what = field?.what;
  if (what === FIELD_PACKET) return `${l} = o;`;
  if (what === FIELD_PACKET_END) return `${l} = (o + n) | 0;`;
  const word = what === FIELD_LENGTH ? "n" : `c[${at >> 2}]`;
  if (size === 8) return `${l} = c[${at >> 2}];`;
  if (size === 4) return `${l} = ${word} | 0;`;
  return `${l} = (${word} >>> ${8 * (at & 3)}) & ${size === 1 ? 0xff : 0xffff};`;
}

export function store(i: Instruction, fact: Fact): string {
  const place = fact.places[0] as Place;
  const size = sizeOf(i.opcode);
  const constant = classOf(i.opcode) === BPF_ST;
  const low = constant ? String(i.immediate) : `l${i.src}`;
  const high = constant ? String(i.immediate >> 31) : `h${i.src}`;
  if (place.kind === CONTEXT) return storeContext(i.offset, size, low, high);
  const address = addressOf(i.dst, i.offset);
  const put = (at: string, what: string, bytes: number): string => storeWord(place, at, what, bytes);
  if (size !== 8) return put(address, low, size);
  return `t = ${address}; ${put("t", low, 4)} ${put("(t + 4)", high, 4)}`;
}

function storeWord(place: Place, address: string, what: string, size: number): string {
  const { bytes, half, words } = memoryOf(place);
  if (size === 1) return `${bytes}[${address}] = ${what};`;
  if (place.aligned)
    return size === 2 ? `${half}[${index(address, 1)}] = ${what};` : `${words}[${index(address, 2)}] = ${what};`;
  const one = (_: unknown, i: number): string => `${bytes}[${address} + ${i}] = (${what}) >>> ${8 * i};`;
  return Array.from({ length: size }, one).join(" ");
}

function storeContext(at: number, size: number, low: string, high: string): string {
  const word = at >> 2;
  if (size === 8) return `c[${word}] = ${low}; c[${word + 1}] = ${high};`;
  if (size === 4) return `c[${word}] = ${low};`;
  const mask = size === 1 ? 0xff : 0xffff;
  const shift = 8 * (at & 3);
  return `c[${word}] = (c[${word}] & ${~(mask << shift)}) | ((${low} & ${mask}) << ${shift});`;
}

const ATOMICS = new Map<number, string>([
  [ATOMIC_OP.add, "add"],
  [ATOMIC_OP.or, "or"],
  [ATOMIC_OP.and, "and"],
  [ATOMIC_OP.xor, "xor"],
  [ATOMIC_OP.xchg, "exchange"],
]);

/**
 * Of map values by Atomics, a word at a time. A 64-bit sum carries into the upper word in a second step: sums are right, but
 * who reads between the two sees one half new and one old.
 */
export function atomic(i: Instruction, fact: Fact): string {
  const { words } = memoryOf(fact.places[0] as Place);
  const at = `t = ${addressOf(i.dst, i.offset)} >> 2;`;
  const wide = sizeOf(i.opcode) === 8;
  const fetches = (i.immediate & BPF_FETCH) !== 0;
  const l = `l${i.src}`;
  const h = `h${i.src}`;
  if (i.immediate === ATOMIC_OP.cmpxchg) return compareExchange(words, at, wide, l, h);
  const operation = i.immediate === ATOMIC_OP.xchg ? i.immediate : i.immediate & ~BPF_FETCH;
  const name = ATOMICS.get(operation);
  const result = fetches ? `${l} = u; ${h} = ${wide ? "v" : "0"};` : "";
  const low = `u = Atomics.${name}(${words}, t, ${l});`;
  if (!wide) return `${at} ${low} ${result}`;
  const carry = operation === ATOMIC_OP.add ? `${h} + (((u + ${l}) >>> 0) < (u >>> 0) ? 1 : 0)` : h;
  return `${at} ${low} v = Atomics.${name}(${words}, t + 1, ${carry}); ${result}`;
}

/** 64 bits are compared on the stack alone, which nobody shares. */
function compareExchange(words: string, at: string, wide: boolean, l: string, h: string): string {
  if (!wide) return `${at} l0 = Atomics.compareExchange(${words}, t, l0, ${l}); h0 = 0;`;
  const same = `u === l0 && v === h0`;
  const swap = `${words}[t] = ${l}; ${words}[t + 1] = ${h};`;
  return `${at} u = ${words}[t]; v = ${words}[t + 1]; if (${same}) { ${swap} } l0 = u; h0 = v;`;
}

/** LD_ABS and LD_IND: big-endian, and beyond the packet the end of the program. */
export function legacyLoad(i: Instruction): string {
  const indirect = modeOf(i.opcode) === BPF_IND;
  const size = sizeOf(i.opcode);
  const at = indirect ? `t = (l${i.src} + ${i.immediate}) | 0;` : `t = ${i.immediate};`;
  const resolve = indirect || i.immediate < 0 ? " if (t < 0) t = before(t, c);" : "";
  const parts = Array.from({ length: size }, (_, k) => `(b[o + t + ${k}] << ${8 * (size - 1 - k)})`).join(" | ");
  return `${at}${resolve} if (t > n - ${size}) return 0; l0 = ${parts}; h0 = 0;`;
}
