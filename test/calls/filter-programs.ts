/** Classic programs that scenarios of socket filters attach, and values of SO_ATTACH_FILTER that name none. */
import { sockFprog } from "../../sockets/bpf/classic.ts";
import type { SocketCalls } from "../../sockets/calls/socket-calls.ts";
import { SO_ATTACH_FILTER, SOL_SOCKET } from "../../sockets/options.ts";

export type Program = readonly (readonly [code: number, jt: number, jf: number, k: number])[];

export const RET = 0x06;
export const RET_A = 0x16;
export const LD_BYTE = 0x30;
export const LD_HALF = 0x28;
export const LD_WORD = 0x20;
export const LD_LENGTH = 0x80;
export const LD_IND_BYTE = 0x50;
export const LDX_IMM = 0x01;
export const LDX_MSH = 0xb1;
export const JEQ = 0x15;
export const JSET = 0x45;
export const ADD = 0x04;
export const AND = 0x54;
/** SKF_AD_OFF, SKF_NET_OFF, SKF_LL_OFF. */
export const [AD, NET, LL] = [0xfffff000, 0xfff00000, 0xffe00000];

export const ret = (value: number): Program => [[RET, 0, 0, value]];
/** Keeps all if the load does not end the program. */
export const ifLoaded = (code: number, k: number): Program => [
  [code, 0, 0, k],
  [RET, 0, 0, 0xffffffff],
];
/** Keeps what has a byte at an offset. */
export const hasByte = (byte: number, at: number): Program => [
  [LD_BYTE, 0, 0, at],
  [JEQ, 0, 1, byte],
  [RET, 0, 0, 0xffffffff],
  [RET, 0, 0, 0],
];

const loads = (count: number): Program => [
  ...Array.from({ length: count - 1 }, () => [LD_BYTE, 0, 0, 0] as const),
  [RET, 0, 0, 0],
];

/** What the kernel's checks let pass or not, by what there is to it. */
export const CHECKED: readonly (readonly [string, Program])[] = [
  ["one", ret(7)],
  ["another", hasByte(9, 0)],
  ["no end", [[LD_BYTE, 0, 0, 0]]],
  ["a jump too far", [[JEQ, 3, 0, 0], ...ret(0)]],
  ["an instruction there is none of", [[0xff, 0, 0, 0], ...ret(0)]],
  ["a scratch word too far", [[0x60, 0, 0, 16], ...ret(0)]],
  ["a division by nothing", [[0x34, 0, 0, 0], ...ret(0)]],
  ["the longest", loads(4096)],
  ["too long a one", loads(4097)],
];

/** A struct sock_fprog of any length and pointer. */
export function fprog(count: number, pointer: bigint): Uint8Array {
  const view = new DataView(new ArrayBuffer(16));
  view.setUint16(0, count, true);
  view.setBigUint64(8, pointer, true);
  return new Uint8Array(view.buffer);
}

/** Without instructions, or with a pointer to none. */
export const POINTLESS: readonly Uint8Array[] = [
  fprog(1, 0n),
  fprog(0, 4096n),
  fprog(1, 8n),
  fprog(5000, 8n),
  fprog(1, 2n ** 60n),
];

export const attach = (calls: SocketCalls, fd: number, program: Program, name = SO_ATTACH_FILTER): number =>
  calls.setsockopt(fd, SOL_SOCKET, name, sockFprog(program));
