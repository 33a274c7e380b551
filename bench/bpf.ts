/** Compiled BPF programs: what one costs a packet. */
import { Assembler, type MapReference, r0, r1, r2, r3, r4, r6, r10 } from "af-xdp-bindings";
import { compileClassic, decodeClassic, sockFprog } from "../sockets/bpf/classic.ts";
import { compileExtended } from "../sockets/bpf/extended/compile.ts";
import { META, META_WORDS, REUSEPORT_MD } from "../sockets/bpf/extended/context.ts";
import { createSharedMap } from "../sockets/bpf/maps/index.ts";
import { bpfOf } from "../sockets/bpf/objects.ts";
import {
  SO_ATTACH_FILTER,
  SO_ATTACH_REUSEPORT_CBPF,
  SO_ATTACH_REUSEPORT_EBPF,
  SOL_SOCKET,
} from "../sockets/options.ts";
import type { PathShape } from "./in-memory.ts";

/** `tcpdump -ddd -y EN10MB ip and udp port 53`, the test for fragments left out. */
const UDP_53 =
  "11,40 0 0 12,21 0 8 2048,48 0 0 23,21 0 6 17,177 0 0 14,72 0 0 14,21 2 0 53,72 0 0 16,21 0 1 53,6 0 0 262144,6 0 0 0";
const SOCKETS = 4;

/** Runs the tcpdump filter over frames of `slot` bytes each; returns how many of `count` it kept. */
export function filterPass(frames: Uint8Array, slots: number, slot: number, length: number): (count: number) => number {
  const filter = compileClassic(decodeClassic(UDP_53));
  return (count) => {
    let kept = 0;
    for (let i = 0; i < count; i++) if (filter(frames, (i & (slots - 1)) * slot, length) !== 0) kept++;
    return kept;
  };
}

/** A program of type sk_reuseport: the lowest bits of the payload's first byte are the number of the socket; too short: 0. */
export const selectByFirstByte = (sockets: MapReference): Assembler =>
  new Assembler()
    .mov(r6, r1)
    .load64(r2, r6, REUSEPORT_MD.data)
    .load64(r3, r6, REUSEPORT_MD.data_end)
    .mov(r0, 0)
    .mov(r4, r2)
    .add(r4, 9)
    .jgt(r4, r3, "out")
    .load8(r4, r2, 8)
    .and(r4, SOCKETS - 1)
    .store32(r10, -8, r4)
    .mov(r1, r6)
    .mapFd(r2, sockets)
    .mov(r3, r10)
    .add(r3, -8)
    .mov(r4, 0)
    .call("sk_select_reuseport")
    .mov(r0, 1)
    .label("out")
    .exit();

/** Runs selectByFirstByte() over frames of `slot` bytes each; returns how many of `count` were selected. */
export function selectionPass(
  frames: Uint8Array,
  slots: number,
  slot: number,
  udp: number,
  length: number,
): (count: number) => number {
  const sockets = createSharedMap({ type: "reuseport_sockarray", valueSize: 4, maxEntries: SOCKETS });
  for (let i = 0; i < SOCKETS; i++) sockets.setSocket(i, i + 1);
  const program = compileExtended(selectByFirstByte(sockets).assemble(), { type: "sk_reuseport", maps: [sockets] });
  const context = new Int32Array(META_WORDS);
  return (count) => {
    let selected = 0;
    for (let i = 0; i < count; i++) {
      if (program(frames, (i & (slots - 1)) * slot + udp, length, context) === 1 && context[META.selected] > 0)
        selected++;
    }
    return selected;
  };
}

/** What the packet path is measured with: sockets on one port, and what is attached to them. */
export const SHAPES = {
  one: { members: 1, attach() {} },
  /** A socket filter that looks at one byte and keeps all. */
  filtered: {
    members: 1,
    attach: ([socket]) => socket.setsockopt(SOL_SOCKET, SO_ATTACH_FILTER, sockFprog("2,48 0 0 8,6 0 0 65535")),
  },
  group: { members: SOCKETS, attach() {} },
  /** The payload's first byte is the index. */
  classic: {
    members: SOCKETS,
    attach: ([socket]) => socket.setsockopt(SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, sockFprog("2,48 0 0 0,22 0 0 0")),
  },
  selected: {
    members: SOCKETS,
    attach(members, stack) {
      const bpf = bpfOf(stack);
      const map = bpf.createMap({ type: "reuseport_sockarray", valueSize: 8, maxEntries: SOCKETS });
      members.forEach((member, i) => void map.setSocket(i, member.id));
      const program = bpf.load({ type: "sk_reuseport", instructions: selectByFirstByte(map).assemble() });
      members[0].setsockopt(SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, program.handle);
    },
  },
} as const satisfies Record<string, PathShape>;
