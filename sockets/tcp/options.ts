/** TCP options (RFC 9293, section 3.2; 7323; 2018; 2883): of the segment in hand, and for the one being sent. */
import {
  TCP_HEADER,
  TCP_OPTIONS,
  TCP_SYN,
  TCPOLEN_MSS,
  TCPOLEN_SACK_BASE,
  TCPOLEN_SACK_PERBLOCK,
  TCPOLEN_SACK_PERM,
  TCPOLEN_TIMESTAMP,
  TCPOLEN_WINDOW,
  TCPOPT_EOL,
  TCPOPT_MSS,
  TCPOPT_NOP,
  TCPOPT_SACK,
  TCPOPT_SACK_PERM,
  TCPOPT_TIMESTAMP,
  TCPOPT_WINDOW,
} from "../wire/tcp.ts";
import { readInt32, readUint16, writeInt32, writeUint16 } from "../wire/views.ts";
import type { Tcp } from "./core.ts";
import { RANGE_END, RANGE_NEXT, RANGE_SEQ, RANGE_STAMP } from "./reassembly.ts";
import {
  DSACK_END,
  DSACK_START,
  F_DSACK,
  F_SACK,
  F_TS,
  F_WSCALE,
  FLAGS,
  OOO_COUNT,
  OOO_HEAD,
  TS_OFFSET,
  TS_RECENT,
} from "./tcb.ts";
import { SCALE_MAX } from "./window.ts";

/** Bits of Tcp.options. */
export const OPT_TS = 1;
export const OPT_SACK_PERM = 2;
export const OPT_SCALE = 4;
export const OPT_MSS = 8;

/** NOP, NOP, timestamps of length 10: how everybody writes them (RFC 7323, appendix A). */
const TS_ALIGNED = 0x0101080a;
export const TS_LENGTH = 12;
const SACK_BLOCKS_MAX = 4;

/** Reads the options of the header of `header` bytes at `tcp` into the Tcp. What cannot be ends them, as in Linux. */
export function readOptions(t: Tcp, bytes: Uint8Array, tcp: number, header: number): void {
  t.options = 0;
  t.sackCount = 0;
  if (header === TCP_HEADER) return;
  if (header === TCP_HEADER + TS_LENGTH && readInt32(bytes, tcp + TCP_OPTIONS) === TS_ALIGNED) {
    t.options = OPT_TS;
    t.tsVal = readInt32(bytes, tcp + TCP_OPTIONS + 4);
    t.tsEcr = readInt32(bytes, tcp + TCP_OPTIONS + 8);
    return;
  }
  const end = tcp + header;
  const syn = (t.segFlags & TCP_SYN) !== 0;
  for (let at = tcp + TCP_OPTIONS; at < end; ) {
    const kind = bytes[at];
    if (kind === TCPOPT_EOL) return;
    if (kind === TCPOPT_NOP) {
      at++;
      continue;
    }
    if (at + 1 >= end) return;
    const length = bytes[at + 1];
    if (length < 2 || at + length > end) return;
    readOption(t, bytes, at, kind, length, syn);
    at += length;
  }
}

function readOption(t: Tcp, bytes: Uint8Array, at: number, kind: number, length: number, syn: boolean): void {
  if (kind === TCPOPT_TIMESTAMP && length === TCPOLEN_TIMESTAMP) {
    t.options |= OPT_TS;
    t.tsVal = readInt32(bytes, at + 2);
    t.tsEcr = readInt32(bytes, at + 6);
  } else if (kind === TCPOPT_SACK) {
    const blocks = (length - TCPOLEN_SACK_BASE) >> 3;
    if (syn || blocks < 1 || length !== TCPOLEN_SACK_BASE + blocks * TCPOLEN_SACK_PERBLOCK) return;
    for (let i = 0; i < 2 * blocks; i++) t.sackBlocks[i] = readInt32(bytes, at + TCPOLEN_SACK_BASE + 4 * i);
    t.sackCount = blocks;
  } else if (!syn) return;
  else if (kind === TCPOPT_MSS && length === TCPOLEN_MSS) {
    t.optMss = readUint16(bytes, at + 2);
    if (t.optMss !== 0) t.options |= OPT_MSS;
  } else if (kind === TCPOPT_WINDOW && length === TCPOLEN_WINDOW) {
    t.options |= OPT_SCALE;
    t.optScale = Math.min(bytes[at + 2], SCALE_MAX);
  } else if (kind === TCPOPT_SACK_PERM && length === TCPOLEN_SACK_PERM) t.options |= OPT_SACK_PERM;
}

/** Our clock in the peer's sight: milliseconds from an offset of the connection's own. */
export function timestamp(t: Tcp, c: number): number {
  return (t.ms + t.w[c + TS_OFFSET]) | 0;
}

/** Bytes of the options of a SYN or SYN-ACK of a connection whose FLAGS say what it offers. */
export function synOptionsLength(flags: number): number {
  let length = TCPOLEN_MSS;
  if ((flags & F_TS) !== 0) length += TS_LENGTH;
  else if ((flags & F_SACK) !== 0) length += 4;
  if ((flags & F_WSCALE) !== 0) length += 4;
  return length;
}

/** Writes them, in the order of tcp_options_write. `scale` is what we shift our windows by. */
export function writeSynOptions(
  bytes: Uint8Array,
  at: number,
  flags: number,
  mss: number,
  scale: number,
  tsVal: number,
  tsEcr: number,
): void {
  let out = at;
  bytes[out] = TCPOPT_MSS;
  bytes[out + 1] = TCPOLEN_MSS;
  writeUint16(bytes, out + 2, mss);
  out += TCPOLEN_MSS;
  const sack = (flags & F_SACK) !== 0;
  const ts = (flags & F_TS) !== 0;
  if (sack || ts) {
    // Two bytes of padding, or SACK-permitted in their place.
    const alone = sack && !ts;
    bytes[out] = sack && !alone ? TCPOPT_SACK_PERM : TCPOPT_NOP;
    bytes[out + 1] = sack && !alone ? TCPOLEN_SACK_PERM : TCPOPT_NOP;
    out += 2;
    if (alone) {
      bytes[out] = TCPOPT_SACK_PERM;
      bytes[out + 1] = TCPOLEN_SACK_PERM;
      out += 2;
    }
  }
  if (ts) {
    bytes[out] = TCPOPT_TIMESTAMP;
    bytes[out + 1] = TCPOLEN_TIMESTAMP;
    writeInt32(bytes, out + 2, tsVal);
    writeInt32(bytes, out + 6, tsEcr);
    out += TCPOLEN_TIMESTAMP;
  }
  if ((flags & F_WSCALE) !== 0) {
    bytes[out] = TCPOPT_NOP;
    bytes[out + 1] = TCPOPT_WINDOW;
    bytes[out + 2] = TCPOLEN_WINDOW;
    bytes[out + 3] = scale;
  }
}

/** SACK blocks that the next segment carries: three beside timestamps, else four. */
function sackBlocksDue(w: Int32Array, c: number): number {
  const flags = w[c + FLAGS];
  if ((flags & F_SACK) === 0 || (w[c + OOO_HEAD] < 0 && (flags & F_DSACK) === 0)) return 0;
  const due = w[c + OOO_COUNT] + ((flags & F_DSACK) !== 0 ? 1 : 0);
  return Math.min(due, (flags & F_TS) !== 0 ? SACK_BLOCKS_MAX - 1 : SACK_BLOCKS_MAX);
}

/** Bytes of the options of a connection's next segment. */
export function optionsLength(w: Int32Array, c: number): number {
  const ts = (w[c + FLAGS] & F_TS) !== 0 ? TS_LENGTH : 0;
  const blocks = sackBlocksDue(w, c);
  return blocks === 0 ? ts : ts + 4 + blocks * TCPOLEN_SACK_PERBLOCK;
}

/** Writes them. A DSACK is told once. */
export function writeOptions(t: Tcp, c: number, bytes: Uint8Array, at: number): void {
  const { w } = t;
  let out = at;
  if ((w[c + FLAGS] & F_TS) !== 0) {
    writeInt32(bytes, out, TS_ALIGNED);
    writeInt32(bytes, out + 4, timestamp(t, c));
    writeInt32(bytes, out + 8, w[c + TS_RECENT]);
    out += TS_LENGTH;
  }
  const blocks = sackBlocksDue(w, c);
  if (blocks > 0) writeSack(t, c, bytes, out, blocks);
}

/** The DSACK if there is one, then ranges, the one that changed last first (RFC 2018, section 4). */
function writeSack(t: Tcp, c: number, bytes: Uint8Array, at: number, blocks: number): void {
  const { w } = t;
  writeUint16(bytes, at, (TCPOPT_NOP << 8) | TCPOPT_NOP);
  bytes[at + 2] = TCPOPT_SACK;
  bytes[at + 3] = TCPOLEN_SACK_BASE + blocks * TCPOLEN_SACK_PERBLOCK;
  let out = at + 4;
  let left = blocks;
  if ((w[c + FLAGS] & F_DSACK) !== 0) {
    writeInt32(bytes, out, w[c + DSACK_START]);
    writeInt32(bytes, out + 4, w[c + DSACK_END]);
    w[c + FLAGS] &= ~F_DSACK;
    out += TCPOLEN_SACK_PERBLOCK;
    left--;
  }
  const r = t.ranges.words;
  let newest = 0;
  let bounded = false;
  for (; left > 0; left--) {
    // The latest change before the one just written; there are few ranges, and stamps differ.
    let best = -1;
    for (let range = w[c + OOO_HEAD]; range >= 0; range = r[range + RANGE_NEXT]) {
      const stamp = r[range + RANGE_STAMP];
      if (bounded && ((stamp - newest) | 0) >= 0) continue;
      if (best < 0 || ((stamp - r[best + RANGE_STAMP]) | 0) > 0) best = range;
    }
    writeInt32(bytes, out, r[best + RANGE_SEQ]);
    writeInt32(bytes, out + 4, r[best + RANGE_END]);
    newest = r[best + RANGE_STAMP];
    bounded = true;
    out += TCPOLEN_SACK_PERBLOCK;
  }
}
