/**
 * What a program costs of net.core.optmem_max: the bytes of the kernel's struct bpf_prog (bpf_prog_size). A classic one counts as
 * long as what the kernel makes of it (bpf_convert_filter in net/core/filter.c), which also may be too long for a jump.
 */
import {
  BPF_ABS,
  BPF_ALU,
  BPF_B,
  BPF_DIV,
  BPF_IND,
  BPF_JA,
  BPF_JMP,
  BPF_JSET,
  BPF_K,
  BPF_LD,
  BPF_LDX,
  BPF_MOD,
  BPF_MSH,
  BPF_RET,
  classOf,
  modeOf,
  operationOf,
  SKF_AD_CPU,
  SKF_AD_HATYPE,
  SKF_AD_IFINDEX,
  SKF_AD_NLATTR,
  SKF_AD_NLATTR_NEST,
  SKF_AD_OFF,
  SKF_AD_PAY_OFFSET,
  SKF_AD_PKTTYPE,
  SKF_AD_PROTOCOL,
  SKF_AD_RANDOM,
  SKF_AD_VLAN_TAG_PRESENT,
  SKF_AD_VLAN_TPID,
  type SockFilter,
  sizeOf,
  usesX,
} from "./opcodes.ts";

/** Bytes of struct bpf_prog before its instructions, and of each (Linux 6.18 on 64 bits). */
const HEADER_BYTES = 96;
const INSN_BYTES = 8;
/** Where the address of an instruction no longer fits one: offsets are s16. */
const OFFSET_MAX = 32767;
/** What begins every program, and what begins one that reads packets. */
const PROLOGUE = 3;
const PACKET_PROLOGUE = 4;

const ANCILLARY = new Map<number, number>([
  [SKF_AD_PROTOCOL, 2],
  [SKF_AD_PKTTYPE, 2],
  [SKF_AD_IFINDEX, 4],
  [SKF_AD_HATYPE, 4],
  [SKF_AD_VLAN_TAG_PRESENT, 3],
  [SKF_AD_VLAN_TPID, 2],
  [SKF_AD_PAY_OFFSET, 4],
  [SKF_AD_NLATTR, 4],
  [SKF_AD_NLATTR_NEST, 4],
  [SKF_AD_CPU, 4],
  [SKF_AD_RANDOM, 4],
]);

/** Bytes that a program of so many extended instructions is charged. */
export function extendedCharge(count: number): number {
  return HEADER_BYTES + count * INSN_BYTES;
}

/** Bytes that a valid classic program is charged; -1 where the kernel cannot convert it, which it says with EINVAL. */
export function classicCharge(program: readonly SockFilter[]): number {
  const starts: number[] = [];
  const reads = program.some(readsPacket);
  let at = PROLOGUE + (reads ? PACKET_PROLOGUE : 0);
  for (const one of program) {
    starts.push(at);
    at += convertedLength(one);
  }
  const isTooFar = ({ code, jt, jf, k }: SockFilter, pc: number): boolean => {
    if (classOf(code) !== BPF_JMP) return false;
    const skips = operationOf(code) === BPF_JA ? [k] : [jt, jf];
    return skips.some((skip) => starts[pc + 1 + skip] - starts[pc] - 1 > OFFSET_MAX);
  };
  return program.some(isTooFar) ? -1 : extendedCharge(at);
}

function readsPacket({ code, k }: SockFilter): boolean {
  if (classOf(code) === BPF_LDX) return modeOf(code) === BPF_MSH;
  if (classOf(code) !== BPF_LD) return false;
  return modeOf(code) === BPF_IND || (modeOf(code) === BPF_ABS && !isAncillary(k));
}

const isAncillary = (k: number): boolean => (k | 0) < 0 && (k | 0) >= SKF_AD_OFF;

function convertedLength(one: SockFilter): number {
  const { code, k } = one;
  switch (classOf(code)) {
    case BPF_LD:
      if (modeOf(code) === BPF_ABS && isAncillary(k)) return ANCILLARY.get((k | 0) - SKF_AD_OFF) ?? 1;
      return readsPacket(one) ? loadLength(sizeOf(code), modeOf(code) === BPF_IND, k | 0) : 1;
    case BPF_LDX:
      return modeOf(code) === BPF_MSH ? loadLength(BPF_B, false, k | 0) + 6 : 1;
    case BPF_ALU:
      return usesX(code) && (operationOf(code) === BPF_DIV || operationOf(code) === BPF_MOD) ? 5 : 1;
    case BPF_JMP:
      return jumpLength(one);
    case BPF_RET:
      return (code & 0x18) === BPF_K ? 2 : 1;
    default:
      return 1;
  }
}

/** convert_bpf_ld_abs(). */
function loadLength(size: number, indirect: boolean, offset: number): number {
  const slow = indirect ? (offset === 0 ? 4 : 5) : 4;
  const call = slow + 1 + 3;
  if (indirect || offset < 0) return call;
  return call + 1 + (offset === 0 ? 0 : 1) + 1 + (offset <= OFFSET_MAX ? 1 : 3) + (size === BPF_B ? 0 : 1) + 1;
}

function jumpLength({ code, jt, jf, k }: SockFilter): number {
  if (operationOf(code) === BPF_JA) return 1;
  const constant = !usesX(code) && (k | 0) < 0 ? 1 : 0;
  const isOne = jf === 0 || (jt === 0 && operationOf(code) !== BPF_JSET);
  return constant + (isOne ? 1 : 2);
}
