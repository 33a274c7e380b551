/**
 * Programs that something was changed in, before both verifiers. What passes here passes in the kernel, and then gives the same
 * there; but for those in which the kernel loses sight of a number, by a division, a remainder or a shift, that is known here.
 * What the kernel takes and ours does not is counted.
 */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import {
  Assembler,
  createMap,
  disassemble,
  opcodes,
  Program,
  type ProgramLoadError,
  r0,
  r1,
  r2,
  r3,
  r4,
  r6,
  r7,
  r10,
  SysError,
  sys,
} from "af-xdp-bindings";
import { selectByFirstByte } from "../../../bench/bpf.ts";
import { ATTR_SIZE, CMD, PROG_LOAD, PROG_TYPE } from "../../../queues/af-xdp-bindings/src/bpf/uapi.ts";
import { Random } from "../../../queues/random.ts";
import { compileExtended, compileVerified, type ExtendedProgram } from "../../../sockets/bpf/extended/compile.ts";
import { META, META_WORDS, REUSEPORT_MD, SKB } from "../../../sockets/bpf/extended/context.ts";
import { decodeExtended } from "../../../sockets/bpf/extended/instruction.ts";
import { CONTEXT } from "../../../sockets/bpf/extended/state.ts";
import { type Verified, verifyExtended } from "../../../sockets/bpf/extended/verifier.ts";
import { createSharedMap } from "../../../sockets/bpf/maps/index.ts";
import { ARRAY_ENTRIES, Generator, VALUE_BYTES } from "./generate.ts";
import { fetchesFromStack, kernelRun } from "./kernel-run.ts";

setDefaultTimeout(600_000);

const PROGRAMS = Number(process.env.LCORE_BPF_MUTATED ?? 1500);
const SEED = Number(process.env.LCORE_BPF_SEED ?? 1);
const INSN = opcodes.INSN_SIZE;
const ETH_HEADER = 14;
const LENGTH = 60;

const theirs = {
  array: createMap({ type: "BPF_MAP_TYPE_ARRAY", keySize: 4, valueSize: VALUE_BYTES, maxEntries: ARRAY_ENTRIES }),
  hash: createMap({ type: "BPF_MAP_TYPE_HASH", keySize: 4, valueSize: VALUE_BYTES, maxEntries: 16 }),
};
const ours = [
  createSharedMap({ type: "array", valueSize: VALUE_BYTES, maxEntries: ARRAY_ENTRIES, fd: theirs.array.fd }),
  createSharedMap({ type: "hash", valueSize: VALUE_BYTES, maxEntries: 16, fd: theirs.hash.fd }),
];
afterAll(() => {
  theirs.array.close();
  theirs.hash.close();
});

const attr = new Uint8Array(new ArrayBuffer(ATTR_SIZE));
const view = new DataView(attr.buffer);
const license = new TextEncoder().encode("GPL\0").slice();

/** Whether the kernel's verifier takes a program: 0 or -errno. */
function kernelVerdict(code: Uint8Array, type: number): number {
  attr.fill(0);
  view.setUint32(PROG_LOAD.prog_type, type, true);
  view.setUint32(PROG_LOAD.insn_cnt, code.length / INSN, true);
  view.setBigUint64(PROG_LOAD.insns, BigInt(sys.addressOf(code)), true);
  view.setBigUint64(PROG_LOAD.license, BigInt(sys.addressOf(license)), true);
  const fd = sys.sys3(sys.SYS.bpf, CMD.BPF_PROG_LOAD, sys.addressOf(attr), ATTR_SIZE);
  if (fd >= 0) sys.close(fd);
  return Math.min(fd, 0);
}

/** The kernel's log of a program that it refuses, and the program. */
function why(code: Uint8Array, kind: "socket_filter" | "sched_cls"): string {
  try {
    Program.load(code, { type: TYPES[kind] }).close();
    return "taken the second time";
  } catch (error) {
    return `${(error as ProgramLoadError).log?.slice(-3000)}\n${disassemble(code)}`;
  }
}

const TYPES = { socket_filter: "BPF_PROG_TYPE_SOCKET_FILTER", sched_cls: "BPF_PROG_TYPE_SCHED_CLS" } as const;

const INTERESTING = [0, 1, -1, 2, 4, 7, 8, 31, 32, 63, 64, 255, 512, -8, -512, -520, 0x7fffffff, -(2 ** 31)];

/** Changes one to three fields, or exchanges two instructions. */
function mutate(random: Random, code: Uint8Array): Uint8Array {
  const changed = new Uint8Array(new ArrayBuffer(code.length));
  changed.set(code);
  const bytes = new DataView(changed.buffer);
  const slots = code.length / INSN;
  const pick = (): number => INTERESTING[random.below(INTERESTING.length)];
  for (let n = 1 + random.below(3); n > 0; n--) {
    const at = random.below(slots) * INSN;
    switch (random.below(7)) {
      case 0:
        changed[at] = random.below(256);
        break;
      case 1:
        // Another operation, mode or width of the same class.
        changed[at] = (changed[at] & 7) | (random.below(32) << 3);
        break;
      case 2:
        changed[at + 1] = (changed[at + 1] & 0xf0) | random.below(11);
        break;
      case 3:
        changed[at + 1] = (changed[at + 1] & 0x0f) | (random.below(11) << 4);
        break;
      case 4:
        bytes.setInt16(at + 2, random.below(3) === 0 ? random.int32() : bytes.getInt16(at + 2, true) + pick(), true);
        break;
      case 5:
        bytes.setInt32(at + 4, random.below(3) === 0 ? random.int32() : pick(), true);
        break;
      default: {
        const other = random.below(slots) * INSN;
        const kept = changed.slice(at, at + INSN);
        changed.copyWithin(at, other, other + INSN);
        changed.set(kept, other);
      }
    }
  }
  return changed;
}

/** Fields that are told alike by a test run and by a context of zeros, and helpers that give the same twice. */
const ALIKE = new Set<number>([SKB.len, SKB.mark, SKB.protocol, SKB.vlan_present, SKB.vlan_tci, SKB.vlan_proto]);
const REPEATABLE = new Set([1, 2, 3, 26, 68]);

function isComparable({ instructions, facts }: Verified): boolean {
  return instructions.every(({ opcode, offset, immediate }, slot) => {
    if (!facts[slot].seen) return true;
    if (opcode === (opcodes.BPF_JMP | opcodes.JMP_OP.call)) return REPEATABLE.has(immediate);
    if (facts[slot].places[0]?.kind !== CONTEXT) return true;
    return ALIKE.has(offset & ~3) || (offset >= SKB.cb && offset < SKB.hash);
  });
}

/** Division, remainder, and shifts by a register: of their results the kernel knows nothing. */
function losesNumbers({ opcode }: { opcode: number }): boolean {
  const kind = opcode & 7;
  if (kind !== opcodes.BPF_ALU && kind !== opcodes.BPF_ALU64) return false;
  const operation = opcode & 0xf0;
  const { ALU_OP } = opcodes;
  if (operation === ALU_OP.div || operation === ALU_OP.mod) return true;
  const shifts = operation === ALU_OP.lsh || operation === ALU_OP.rsh || operation === ALU_OP.arsh;
  return shifts && (opcode & opcodes.BPF_X) !== 0;
}

test.each(["socket_filter", "sched_cls"] as const)("%s", (kind) => {
  const random = new Random(SEED + 17);
  const generator = new Generator(random, theirs, kind);
  const type = PROG_TYPE[TYPES[kind]];
  const header = kind === "sched_cls" ? 0 : ETH_HEADER;
  const memory = new Uint8Array(new ArrayBuffer(LENGTH));
  const address = sys.addressOf(memory);
  const context = new Int32Array(META_WORDS);
  const counts = { both: 0, neither: 0, stricter: 0, knownHere: 0, ran: 0 };
  for (let p = 0; p < PROGRAMS; p++) {
    const code = mutate(random, generator.program(2 + random.below(10)));
    let verified: Verified | null = null;
    let reason = "";
    try {
      verified = verifyExtended(code, { type: kind, maps: ours });
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      reason = error.message;
    }
    const verdict = kernelVerdict(code, type);
    if (verified === null) {
      expect(reason).not.toBe("");
      if (verdict === 0) counts.stricter++;
      else counts.neither++;
      continue;
    }
    if (verdict < 0) {
      const log = why(code, kind);
      const at = [...log.matchAll(/^(\d+): \([0-9a-f]{2}\)/gm)].at(-1);
      // Of numbers that the kernel has lost sight of: what it objects to is never run, or is within bounds.
      const isDead = at !== undefined && !verified.facts[Number(at[1])].seen;
      const isLost = verified.instructions.some((one, slot) => verified.facts[slot].seen && losesNumbers(one));
      if (!isDead && !isLost) throw new Error(`taken here, not by the kernel: ${log}`);
      counts.knownHere++;
      continue;
    }
    counts.both++;
    const run = compileVerified(verified);
    for (let i = 0; i < LENGTH; i++) memory[i] = random.below(256);
    memory[12] = memory[13] = 0x88;
    context.fill(0);
    context[SKB.protocol >> 2] = 0x8888;
    context[META.networkOffset] = ETH_HEADER - header;
    context[META.linkOffset] = -header;
    // What another program has left there.
    for (const key of [...ours[1].keys()]) ours[1].delete(key);
    for (const key of [...theirs.hash.keys()]) theirs.hash.delete(key);
    for (const map of [theirs.array, theirs.hash]) {
      for (let index = 0; index < ARRAY_ENTRIES; index++) {
        const key = new Uint8Array(Uint32Array.of(index).buffer);
        map.update(key, new Uint8Array(VALUE_BYTES).fill(index));
      }
    }
    for (const map of ours)
      for (let index = 0; index < ARRAY_ENTRIES; index++) map.update(index, new Uint8Array(VALUE_BYTES).fill(index));
    const here = run(memory, header, LENGTH - header, context);
    if (!isComparable(verified) || fetchesFromStack(code)) continue;
    const program = Program.load(code, { type: TYPES[kind] });
    const there = kernelRun(program, address, LENGTH);
    program.close();
    if (here !== there) throw new Error(`kernel ${there}, here ${here}:\n${disassemble(code)}`);
    counts.ran++;
  }
  if (process.env.LCORE_BPF_MUTATED) console.log(kind, counts);
  // Each verdict was put to the test, and most of what the kernel takes passes.
  expect(counts.both).toBeGreaterThan(PROGRAMS / 10);
  expect(counts.neither).toBeGreaterThan(PROGRAMS / 10);
  expect(counts.knownHere).toBeLessThan(counts.both / 20);
  expect(counts.stricter).toBeLessThan(counts.both / 2);
  expect(counts.ran).toBeGreaterThan(counts.both / 4);
});

/** Programs of type sk_reuseport: by the payload and a map of sockets; by header, hash and length; that count in an array. */
const SELECTORS = (sockets: { fd: number }): Uint8Array[] =>
  [
    selectByFirstByte(sockets),
    new Assembler()
      .mov(r6, r1)
      .load32(r2, r6, REUSEPORT_MD.len)
      .load32(r3, r6, REUSEPORT_MD.hash)
      .load32(r4, r6, REUSEPORT_MD.eth_protocol)
      .xor(r2, r3)
      .add(r2, r4)
      .and(r2, 3)
      .store32(r10, -4, r2)
      .mapFd(r2, sockets)
      .mov(r3, r10)
      .add(r3, -4)
      .mov(r4, 0)
      .mov(r1, r6)
      .call("sk_select_reuseport")
      .mov(r0, 1)
      .exit(),
    new Assembler()
      .mov(r6, r1)
      .mov(r2, 2)
      .store64(r10, -8, 0)
      .mov(r3, r10)
      .add(r3, -8)
      .mov(r4, 2)
      .call("skb_load_bytes")
      .load16(r7, r10, -8)
      .and(r7, ARRAY_ENTRIES - 1)
      .store32(r10, -12, r7)
      .mapFd(r1, theirs.array)
      .mov(r2, r10)
      .add(r2, -12)
      .call("map_lookup_elem")
      .jeq(r0, 0, "out")
      .mov(r1, 1)
      .atomicAdd64(r0, 8, r1)
      .label("out")
      .load32(r0, r6, REUSEPORT_MD.bind_inany)
      .exit(),
  ].map((code) => code.assemble());

test("sk_reuseport", () => {
  const random = new Random(SEED + 99);
  const size = { valueSize: 8, maxEntries: 4 };
  const their = createMap({ type: "BPF_MAP_TYPE_REUSEPORT_SOCKARRAY", keySize: 4, ...size });
  const our = createSharedMap({ type: "reuseport_sockarray", ...size, fd: their.fd });
  for (let i = 0; i < 4; i++) our.setSocket(i, i);
  const programs = SELECTORS(their);
  const context = new Int32Array(META_WORDS);
  const memory = new Uint8Array(new ArrayBuffer(64));
  const counts = { both: 0, neither: 0, stricter: 0, knownHere: 0 };
  for (let p = 0; p < PROGRAMS; p++) {
    const code = mutate(random, programs[random.below(programs.length)]);
    const verdict = kernelVerdict(code, PROG_TYPE.BPF_PROG_TYPE_SK_REUSEPORT);
    let run: ExtendedProgram;
    try {
      run = compileExtended(code, { type: "sk_reuseport", maps: [...ours, our] });
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      if (verdict === 0) counts.stricter++;
      else counts.neither++;
      continue;
    }
    if (verdict < 0) {
      if (!decodeExtended(code).some(losesNumbers))
        throw new Error(`taken here alone (${verdict}):\n${disassemble(code)}`);
      counts.knownHere++;
      continue;
    }
    counts.both++;
    for (let i = 0; i < memory.length; i++) memory[i] = random.below(256);
    context.fill(0);
    run(memory, 8, 8 + random.below(48), context);
    expect(context[META.selected]).toBeLessThan(4);
  }
  their.close();
  if (process.env.LCORE_BPF_MUTATED) console.log("sk_reuseport", counts);
  expect(counts.both).toBeGreaterThan(PROGRAMS / 30);
  expect(counts.stricter).toBeLessThan(counts.both / 2);
  expect(counts.knownHere).toBeLessThan(1 + counts.both / 20);
});
