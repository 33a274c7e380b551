/** The BPF half of the package: assembler, programs, maps, links. */
export * from "./assembler.ts";
export { type AttachedXdp, attachedXdp } from "./attached.ts";
export { disassemble } from "./disassembler.ts";
export { HELPER, type HelperName, helperName } from "./helpers.ts";
export * from "./link.ts";
export { BpfMap, createMap, type MapInfo, type MapOptions, type MapTypeName } from "./map.ts";
export { MappedArray } from "./mapped-array.ts";
export * as opcodes from "./opcodes.ts";
export * from "./program.ts";
export * from "./test-run.ts";
export {
  BPF_ANY,
  BPF_EXIST,
  BPF_F_MMAPABLE,
  BPF_F_NO_PREALLOC,
  BPF_F_RDONLY_PROG,
  BPF_F_WRONLY_PROG,
  BPF_F_XDP_HAS_FRAGS,
  BPF_NOEXIST,
  MAP_TYPE,
  XDP_ABORTED,
  XDP_DROP,
  XDP_MD,
  XDP_PASS,
  XDP_REDIRECT,
  XDP_TX,
} from "./uapi.ts";
export { XskMap } from "./xsk-map.ts";
