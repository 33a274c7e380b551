/** Extended programs as instructions, by slot: what struct bpf_insn holds (RFC 9669, section 3). */
import { opcodes } from "af-xdp-bindings";

const { BPF_DW, BPF_IMM, BPF_LD, INSN_SIZE } = opcodes;

/** One slot. The second slot of a 64-bit constant has opcode 0, and is part of the one before it. */
export interface Instruction {
  /** u8: class, operation or mode and size, source. */
  readonly opcode: number;
  /** Destination and source register, 0 to 15. */
  readonly dst: number;
  readonly src: number;
  /** s16. */
  readonly offset: number;
  /** s32. */
  readonly immediate: number;
}

export const isWide = (opcode: number): boolean => opcode === (BPF_LD | BPF_IMM | BPF_DW);
export const classOf = (opcode: number): number => opcode & 0x07;
export const operationOf = (opcode: number): number => opcode & 0xf0;
export const modeOf = (opcode: number): number => opcode & 0xe0;
/** Whether the second operand is a register. */
export const usesRegister = (opcode: number): boolean => (opcode & 0x08) !== 0;

/** Bytes of a load or store. */
export function sizeOf(opcode: number): number {
  switch (opcode & 0x18) {
    case opcodes.BPF_B:
      return 1;
    case opcodes.BPF_H:
      return 2;
    case opcodes.BPF_W:
      return 4;
    default:
      return 8;
  }
}

/** The slots of a program of struct bpf_insn. Throws SyntaxError where bytes are left over. */
export function decodeExtended(program: Uint8Array): Instruction[] {
  if (program.length % INSN_SIZE !== 0) {
    throw new SyntaxError(`BPF program of ${program.length} bytes: not a multiple of ${INSN_SIZE}`);
  }
  const view = new DataView(program.buffer, program.byteOffset, program.byteLength);
  return Array.from({ length: program.length / INSN_SIZE }, (_, slot) => {
    const at = slot * INSN_SIZE;
    const registers = view.getUint8(at + 1);
    return {
      opcode: view.getUint8(at),
      dst: registers & 15,
      src: registers >> 4,
      offset: view.getInt16(at + 2, true),
      immediate: view.getInt32(at + 4, true),
    };
  });
}

/** The bytes of a program of these slots. */
export function encodeExtended(slots: readonly Instruction[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(slots.length * INSN_SIZE);
  const view = new DataView(bytes.buffer);
  slots.forEach(({ opcode, dst, src, offset, immediate }, slot) => {
    const at = slot * INSN_SIZE;
    view.setUint8(at, opcode);
    view.setUint8(at + 1, dst | (src << 4));
    view.setInt16(at + 2, offset, true);
    view.setInt32(at + 4, immediate, true);
  });
  return bytes;
}
