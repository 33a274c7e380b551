/** Socket filters of streams in scenarios: programs over segments, and what is waited for. */
import { SIOCINQ } from "../../../sockets/calls/constants.ts";
import type { SocketCalls } from "../../../sockets/calls/socket-calls.ts";
import {
  SO_ATTACH_FILTER,
  SO_DETACH_FILTER,
  SO_MEMINFO,
  SOL_SOCKET,
  SOL_TCP,
  TCP_INFO,
} from "../../../sockets/options.ts";
import {
  AD,
  ADD,
  AND,
  hasByte,
  ifLoaded,
  JSET,
  LD_BYTE,
  LD_HALF,
  LD_IND_BYTE,
  LD_LENGTH,
  LD_WORD,
  LDX_MSH,
  LL,
  NET,
  type Program,
  RET,
  RET_A,
  ret,
} from "../filter-programs.ts";
import { type Ends, recv, type Scene } from "./tcp-tools.ts";
import { setInt } from "./tools.ts";

/** Bytes of a header with timestamps; its flags, and those of a segment that opens, ends or resets. */
export const HEADER = 32;
export const FLAGS = 13;
export const [FIN, SYN, RST] = [1, 2, 4];

export const NOTHING = ret(0);
export const ALL = ret(0xffffffff);
/** Keeps so many bytes behind the header as a load says. */
const load = (code: number, k: number): Program => [
  [code, 0, 0, k],
  [AND, 0, 0, 0xff],
  [ADD, 0, 0, HEADER],
  [RET_A, 0, 0, 0],
];
/** Drops what has one of these flags. */
export const without = (flags: number): Program => [
  [LD_BYTE, 0, 0, FLAGS],
  [JSET, 1, 0, flags],
  [RET, 0, 0, 0xffffffff],
  [RET, 0, 0, 0],
];
/** Drops what has none of these. */
export const only = (flags: number): Program => [
  [LD_BYTE, 0, 0, FLAGS],
  [JSET, 0, 1, flags],
  [RET, 0, 0, 0xffffffff],
  [RET, 0, 0, 0],
];
/** Keeps what has data that begin with a byte. */
export const startsWith = (byte: number): Program => hasByte(byte, HEADER);

export const PROGRAMS: readonly (readonly [string, Program])[] = [
  ["all", ALL],
  ["nothing", NOTHING],
  ["one byte", ret(1)],
  ["a byte less than the header", ret(HEADER - 1)],
  ["the header", ret(HEADER)],
  ["one byte of the data", ret(HEADER + 1)],
  ["all but a byte", ret(HEADER + 5)],
  ["a great many", ret(0x80000000)],
  ["as many as its first byte says", load(LD_BYTE, HEADER)],
  ["as many as its third byte says", load(LD_BYTE, HEADER + 2)],
  ["by its sender's port", load(LD_HALF, 0)],
  ["by the length of the header", load(LD_BYTE, 12)],
  ["by a word", load(LD_WORD, HEADER + 1)],
  ["its length", load(LD_LENGTH, 0)],
  ["what begins with a 5", startsWith(5)],
  ["what begins with a 2", startsWith(2)],
  [
    "by an index",
    [
      [LDX_MSH, 0, 0, HEADER],
      [LD_IND_BYTE, 0, 0, HEADER - 6],
      [ADD, 0, 0, HEADER],
      [RET_A, 0, 0, 0],
    ],
  ],
  ["if its last byte is there", ifLoaded(LD_BYTE, HEADER + 5)],
  ["if a byte behind its last one is there", ifLoaded(LD_BYTE, HEADER + 6)],
  ["by its protocol", load(LD_HALF, AD)],
  ["by its kind", load(LD_HALF, AD + 4)],
  ["if it has an interface", ifLoaded(LD_WORD, AD + 8)],
  ["by its mark", load(LD_WORD, AD + 20)],
  ["by its type of hardware", load(LD_WORD, AD + 28)],
  ["if it has a hash", ifLoaded(LD_WORD, AD + 32)],
  ["if it has a CPU", ifLoaded(LD_WORD, AD + 36)],
  ["by its tag", load(LD_WORD, AD + 44)],
  ["if it has a tag", load(LD_WORD, AD + 48)],
  ["by its payload's offset", load(LD_WORD, AD + 52)],
  ["by the first byte of the network header", load(LD_BYTE, NET)],
  ["by the tenth byte of the network header", load(LD_BYTE, NET + 9)],
  ["by a byte of the network header's addresses", load(LD_BYTE, NET + 19)],
  ["by the type of the link header", load(LD_HALF, LL + 12)],
  ["if a byte of the link header is there", ifLoaded(LD_BYTE, LL)],
];

export const detach = (calls: SocketCalls, fd: number): number => setInt(calls, fd, SOL_SOCKET, SO_DETACH_FILTER, 0);
/** Whether there is one, and it itself. */
export const told = (calls: SocketCalls, fd: number): void => {
  calls.getsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, new Uint8Array(0));
  calls.getsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, new Uint8Array(64));
};

const MEMINFO_WORDS = 9;
const MEMINFO_DROPS = 8;
/** Of struct tcp_info: tcpi_segs_in. */
const SEGS_IN = 140;
/** How long after a segment was counted its bytes are there at the latest, milliseconds. */
const TOLD_MS = 50;
/** Longer than the wait for a retransmission of a kernel or of ours, the first one of a SYN too. */
export const WAITS_MS = 3000;

/** Segments that a socket has dropped; nobody is told. */
export function drops({ untraced }: Scene, fd: number): number {
  const words = new Uint32Array(MEMINFO_WORDS);
  untraced.calls.getsockopt(fd, SOL_SOCKET, SO_MEMINFO, new Uint8Array(words.buffer));
  return words[MEMINFO_DROPS];
}

/** Waits until a segment was dropped since there were so many; nobody is told how long that took. Tells whether it was. */
export function dropped(scene: Scene, fd: number, before: number): void {
  const deadline = performance.now() + WAITS_MS;
  while (drops(scene, fd) === before && performance.now() < deadline) Bun.sleepSync(1);
  scene.trace.add(`dropped: ${drops(scene, fd) > before}`);
}

/** Bytes that are there to be read; nobody is told. */
function readable({ untraced }: Scene, fd: number): number {
  const have = new Int32Array(1);
  untraced.calls.ioctl(fd, SIOCINQ, new Uint8Array(have.buffer));
  return have[0];
}

/** Segments that have come, those that were dropped not counted; nobody is told. */
function segments({ untraced }: Scene, fd: number): number {
  const info = new Uint8Array(SEGS_IN + 4);
  untraced.calls.getsockopt(fd, SOL_TCP, TCP_INFO, info);
  return new DataView(info.buffer).getUint32(SEGS_IN, true);
}

/** The peer sends, and what it has sent is there or dropped. */
export function arrives(scene: Scene, { fd, other }: Ends, data: Uint8Array): void {
  const { calls, peer, trace } = scene;
  const before = drops(scene, fd);
  const had = segments(scene, fd);
  peer.write(other, data);
  const deadline = performance.now() + WAITS_MS;
  while (drops(scene, fd) === before && segments(scene, fd) === had && performance.now() < deadline) Bun.sleepSync(1);
  // It is counted a moment before its bytes are there, if any are left.
  const told = performance.now() + TOLD_MS;
  while (drops(scene, fd) === before && readable(scene, fd) === 0 && performance.now() < told) Bun.sleepSync(1);
  trace.add(`dropped: ${drops(scene, fd) > before}`);
  calls.ioctl(fd, SIOCINQ, new Uint8Array(4));
  recv(calls, fd);
}
