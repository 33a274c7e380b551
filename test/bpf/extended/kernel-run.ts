/** Runs one loaded program again and again in the kernel (BPF_PROG_TEST_RUN), with as little around the call as there can be. */
import { opcodes, type Program, SysError, sys } from "af-xdp-bindings";
import { ATTR_SIZE, CMD, TEST_RUN } from "../../../queues/af-xdp-bindings/src/bpf/uapi.ts";
import {
  classOf,
  decodeExtended,
  encodeExtended,
  type Instruction,
  operationOf,
} from "../../../sockets/bpf/extended/instruction.ts";

const {
  ALU_OP,
  ATOMIC_OP,
  BPF_ALU64,
  BPF_ATOMIC,
  BPF_DW,
  BPF_JMP,
  BPF_JMP32,
  BPF_LDX,
  BPF_MEM,
  BPF_STX,
  BPF_X,
  JMP_OP,
} = opcodes;

const attr = new Uint8Array(ATTR_SIZE);
const view = new DataView(attr.buffer);
const attrAddress = sys.addressOf(attr);

/** What the program returns of the frame at `address`, `length` bytes and at least 14. */
export function kernelRun(program: Program, address: number, length: number): number {
  attr.fill(0);
  view.setUint32(TEST_RUN.prog_fd, program.fd, true);
  view.setUint32(TEST_RUN.data_size_in, length, true);
  view.setBigUint64(TEST_RUN.data_in, BigInt(address), true);
  view.setUint32(TEST_RUN.repeat, 1, true);
  const result = sys.sys3(sys.SYS.bpf, CMD.BPF_PROG_TEST_RUN, attrAddress, ATTR_SIZE);
  if (result < 0) throw new SysError(-result, "BPF_PROG_TEST_RUN");
  return view.getUint32(TEST_RUN.retval, true);
}

/** Whether an instruction is an atomic operation on the stack that fetches what was there. */
const fetches = ({ opcode, dst, immediate }: Instruction): boolean =>
  (opcode & ~BPF_DW) === (BPF_STX | BPF_ATOMIC) && dst === 10 && (immediate & 1) !== 0;

/**
 * Whether an atomic operation on the stack fetches what was there. Where a branch relies on the fetched value, the verifier of
 * Linux 6.18 does not carry that back to the stack slot: it takes states for alike that are not, and may drop a live branch.
 */
export const fetchesFromStack = (code: Uint8Array): boolean => decodeExtended(code).some(fetches);

/** The same program with what it fetches from the stack taken by a plain load into r5 (which nothing else needs there): of that the kernel does keep track. */
export function withLoadedFetches(code: Uint8Array): Uint8Array {
  const slots = decodeExtended(code);
  const out: Instruction[] = [];
  /** Where what was at a slot begins now. */
  const begins = slots.map((slot) => {
    const begin = out.length;
    if (!fetches(slot)) return out.push(slot) - 1;
    const { opcode, src, offset, immediate } = slot;
    const into = immediate === ATOMIC_OP.cmpxchg ? 0 : src;
    out.push({ opcode: BPF_LDX | BPF_MEM | (opcode & BPF_DW), dst: 5, src: 10, offset, immediate: 0 });
    out.push(slot, { opcode: BPF_ALU64 | ALU_OP.mov | BPF_X, dst: into, src: 5, offset: 0, immediate: 0 });
    return begin;
  });
  slots.forEach(({ opcode, offset }, slot) => {
    const jumps = classOf(opcode) === BPF_JMP || classOf(opcode) === BPF_JMP32;
    if (!jumps || operationOf(opcode) === JMP_OP.call || operationOf(opcode) === JMP_OP.exit) return;
    const at = begins[slot] as number;
    out[at] = { ...(out[at] as Instruction), offset: (begins[slot + 1 + offset] as number) - at - 1 };
  });
  return encodeExtended(out);
}
