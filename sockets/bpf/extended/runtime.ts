/** What compiled programs call: helpers that are more than an expression, loads before the packet. */
import { ERRNO } from "af-xdp-bindings";
import type { SocketArrayMap } from "../maps/array-map.ts";
import { SKF_LL_OFF, SKF_NET_OFF } from "../opcodes.ts";
import { META } from "./context.ts";

/** Farther than any packet's end. */
const NOWHERE = 2 ** 29;
/** Offsets of skb_load_bytes_relative are below it. */
const RELATIVE_MAX = 0xffff;
const HDR_START_MAC = 0;
const HDR_START_NET = 1;

/** Where a legacy load at a negative offset reads, from the packet's first byte. */
export function before(offset: number, context: Int32Array): number {
  if (offset >= SKF_NET_OFF) return context[META.networkOffset] + offset - SKF_NET_OFF;
  return offset >= SKF_LL_OFF ? context[META.linkOffset] + offset - SKF_LL_OFF : NOWHERE;
}

/** bpf_skb_load_bytes: returns 0, or -EFAULT with the memory zeroed. `at` is from the packet's first byte, u32. */
export function loadBytes(
  packet: Uint8Array,
  offset: number,
  length: number,
  at: number,
  to: Uint8Array,
  toAt: number,
  size: number,
): number {
  if (at < 0 || at > length - size) return clear(to, toAt, size);
  for (let i = 0; i < size; i++) to[toAt + i] = packet[offset + at + i];
  return 0;
}

/** bpf_skb_load_bytes_relative: from the link header (`start` 0) or the network header (1). */
export function loadRelative(
  packet: Uint8Array,
  offset: number,
  length: number,
  at: number,
  to: Uint8Array,
  toAt: number,
  size: number,
  start: number,
  context: Int32Array,
): number {
  const base = start === HDR_START_MAC ? META.linkOffset : META.networkOffset;
  const known = start === HDR_START_MAC || start === HDR_START_NET;
  const first = context[base] + at;
  if (!known || at >>> 0 > RELATIVE_MAX || first > length - size) return clear(to, toAt, size);
  for (let i = 0; i < size; i++) to[toAt + i] = packet[offset + first + i];
  return 0;
}

function clear(to: Uint8Array, at: number, size: number): number {
  for (let i = 0; i < size; i++) to[at + i] = 0;
  return -ERRNO.EFAULT;
}

/** bpf_get_prandom_u32, as int32. */
export function randomWord(): number {
  return (Math.random() * 2 ** 32) | 0;
}

/**
 * bpf_sk_select_reuseport: leaves the socket in the context. Returns 0, -ENOENT without a socket there, and what
 * SocketArrayMap.mismatch says. Linux 6.18 looks at no flags.
 */
export function selectSocket(map: SocketArrayMap, keys: Uint8Array, at: number, context: Int32Array): number {
  const socket = map.socketAt(keys[at] | (keys[at + 1] << 8) | (keys[at + 2] << 16) | (keys[at + 3] << 24));
  if (socket < 0) return -ERRNO.ENOENT;
  const fault = map.mismatch(socket, context[META.group]);
  if (fault === 0) context[META.selected] = socket;
  return fault;
}
