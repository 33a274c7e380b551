/**
 * The eBPF instruction set's numbers: RFC 9669 and include/uapi/linux/bpf{,_common}.h.
 *
 * An instruction is eight bytes: opcode, registers (destination in the low four bits, source in the high four), a
 * signed 16-bit offset, a signed 32-bit immediate; the multi-byte fields in the host's order, which is little-endian
 * on x86-64 and arm64. `ld_imm64` takes two such slots.
 */

/** Instruction class: the opcode's low three bits. */
export const BPF_LD = 0;
export const BPF_LDX = 1;
export const BPF_ST = 2;
export const BPF_STX = 3;
export const BPF_ALU = 4;
export const BPF_JMP = 5;
export const BPF_JMP32 = 6;
export const BPF_ALU64 = 7;

/** Source of the second operand: the immediate or the source register. */
export const BPF_K = 0x00;
export const BPF_X = 0x08;

/** Arithmetic operation: the opcode's high four bits. SDIV, SMOD and MOVSX are DIV, MOD and MOV with an offset. */
export const ALU_OP = {
  add: 0x00,
  sub: 0x10,
  mul: 0x20,
  div: 0x30,
  or: 0x40,
  and: 0x50,
  lsh: 0x60,
  rsh: 0x70,
  neg: 0x80,
  mod: 0x90,
  xor: 0xa0,
  mov: 0xb0,
  arsh: 0xc0,
  end: 0xd0,
} as const;

/** Jump operation: the opcode's high four bits. */
export const JMP_OP = {
  ja: 0x00,
  jeq: 0x10,
  jgt: 0x20,
  jge: 0x30,
  jset: 0x40,
  jne: 0x50,
  jsgt: 0x60,
  jsge: 0x70,
  call: 0x80,
  exit: 0x90,
  jlt: 0xa0,
  jle: 0xb0,
  jslt: 0xc0,
  jsle: 0xd0,
} as const;

/** Size of a memory access. */
export const BPF_W = 0x00;
export const BPF_H = 0x08;
export const BPF_B = 0x10;
export const BPF_DW = 0x18;

/** Mode of a load or store. */
export const BPF_IMM = 0x00;
/** Loads of the packet that classic programs have, kept for socket filters: r0 = the packet at the immediate, or at src + it. */
export const BPF_ABS = 0x20;
export const BPF_IND = 0x40;
export const BPF_MEM = 0x60;
export const BPF_MEMSX = 0x80;
export const BPF_ATOMIC = 0xc0;

/** Atomic operation, in the immediate. XCHG and CMPXCHG always fetch. */
export const BPF_FETCH = 0x01;
export const ATOMIC_OP = { add: 0x00, or: 0x40, and: 0x50, xor: 0xa0, xchg: 0xe1, cmpxchg: 0xf1 } as const;

/** What ld_imm64's immediate is: in the source register's place. */
export const BPF_PSEUDO_MAP_FD = 1;
export const BPF_PSEUDO_MAP_VALUE = 2;

/** What a call's immediate is: in the source register's place. */
export const BPF_PSEUDO_CALL = 1;

/** Bytes of an instruction slot. */
export const INSN_SIZE = 8;

/** BPF_COMPLEXITY_LIMIT_INSNS: slots a privileged program may have. */
export const INSNS_MAX = 1_000_000;
