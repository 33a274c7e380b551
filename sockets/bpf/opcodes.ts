/**
 * Numbers of classic BPF: include/uapi/linux/bpf_common.h and filter.h. A code is class | size | mode for loads, class |
 * operation | source for arithmetic and jumps.
 */

export const BPF_LD = 0x00;
export const BPF_LDX = 0x01;
export const BPF_ST = 0x02;
export const BPF_STX = 0x03;
export const BPF_ALU = 0x04;
export const BPF_JMP = 0x05;
export const BPF_RET = 0x06;
export const BPF_MISC = 0x07;

export const BPF_W = 0x00;
export const BPF_H = 0x08;
export const BPF_B = 0x10;

export const BPF_IMM = 0x00;
export const BPF_ABS = 0x20;
export const BPF_IND = 0x40;
export const BPF_MEM = 0x60;
export const BPF_LEN = 0x80;
export const BPF_MSH = 0xa0;

export const BPF_ADD = 0x00;
export const BPF_SUB = 0x10;
export const BPF_MUL = 0x20;
export const BPF_DIV = 0x30;
export const BPF_OR = 0x40;
export const BPF_AND = 0x50;
export const BPF_LSH = 0x60;
export const BPF_RSH = 0x70;
export const BPF_NEG = 0x80;
export const BPF_MOD = 0x90;
export const BPF_XOR = 0xa0;

export const BPF_JA = 0x00;
export const BPF_JEQ = 0x10;
export const BPF_JGT = 0x20;
export const BPF_JGE = 0x30;
export const BPF_JSET = 0x40;

export const BPF_K = 0x00;
export const BPF_X = 0x08;
/** Of BPF_RET: the accumulator. */
export const BPF_A = 0x10;

export const BPF_TAX = 0x00;
export const BPF_TXA = 0x80;

/** Words of scratch memory. */
export const BPF_MEMWORDS = 16;
/** Instructions of a program at most. */
export const BPF_MAXINSNS = 4096;

/** Absolute loads from here up are of what the kernel knows of the packet, not of its bytes. As int32: -0x1000. */
export const SKF_AD_OFF = -0x1000;
/** Loads from here up are relative to the network header, and from SKF_LL_OFF up to the link layer's. */
export const SKF_NET_OFF = -0x100000;
export const SKF_LL_OFF = -0x200000;

export const SKF_AD_PROTOCOL = 0;
export const SKF_AD_PKTTYPE = 4;
export const SKF_AD_IFINDEX = 8;
export const SKF_AD_NLATTR = 12;
export const SKF_AD_NLATTR_NEST = 16;
export const SKF_AD_MARK = 20;
export const SKF_AD_QUEUE = 24;
export const SKF_AD_HATYPE = 28;
export const SKF_AD_RXHASH = 32;
export const SKF_AD_CPU = 36;
export const SKF_AD_ALU_XOR_X = 40;
export const SKF_AD_VLAN_TAG = 44;
export const SKF_AD_VLAN_TAG_PRESENT = 48;
export const SKF_AD_PAY_OFFSET = 52;
export const SKF_AD_RANDOM = 56;
export const SKF_AD_VLAN_TPID = 60;
export const SKF_AD_MAX = 64;

/** One instruction, struct sock_filter. */
export interface SockFilter {
  /** u16. */
  readonly code: number;
  /** Instructions to skip when the condition of a jump holds, and when not: u8. */
  readonly jt: number;
  readonly jf: number;
  /** u32. */
  readonly k: number;
}

/** Operations of jumps that compare, and of arithmetic, that take K or X. */
const COMPARISONS = [BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET];
const OPERATIONS = [BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_MOD, BPF_AND, BPF_OR, BPF_XOR, BPF_LSH, BPF_RSH];

/** Every code that the kernel takes (chk_code_allowed in net/core/filter.c). */
export const ALLOWED_CODES: ReadonlySet<number> = new Set([
  ...[BPF_W, BPF_H, BPF_B].flatMap((size) => [BPF_LD | size | BPF_ABS, BPF_LD | size | BPF_IND]),
  ...[BPF_LD, BPF_LDX].flatMap((load) => [load | BPF_IMM, load | BPF_MEM, load | BPF_W | BPF_LEN]),
  BPF_LDX | BPF_B | BPF_MSH,
  BPF_ST,
  BPF_STX,
  ...OPERATIONS.flatMap((operation) => [BPF_ALU | operation | BPF_K, BPF_ALU | operation | BPF_X]),
  BPF_ALU | BPF_NEG,
  BPF_JMP | BPF_JA,
  ...COMPARISONS.flatMap((comparison) => [BPF_JMP | comparison | BPF_K, BPF_JMP | comparison | BPF_X]),
  BPF_RET | BPF_K,
  BPF_RET | BPF_A,
  BPF_MISC | BPF_TAX,
  BPF_MISC | BPF_TXA,
]);

export const classOf = (code: number): number => code & 0x07;
export const sizeOf = (code: number): number => code & 0x18;
export const modeOf = (code: number): number => code & 0xe0;
export const operationOf = (code: number): number => code & 0xf0;
export const isConditional = (code: number): boolean => classOf(code) === BPF_JMP && operationOf(code) !== BPF_JA;
/** Whether arithmetic or a comparison takes X rather than K. */
export const usesX = (code: number): boolean => (code & BPF_X) !== 0;
