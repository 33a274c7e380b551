/** What a classic program may ask about a packet besides its bytes: SKF_AD_... loads, and loads relative to its headers. */
import { SKF_LL_OFF, SKF_NET_OFF } from "./opcodes.ts";

/** Farther than any packet's end: a header that is not known, so loads relative to it fail. */
const NOWHERE = 2 ** 29;

export class PacketContext {
  /** EtherType, host order (skb->protocol). */
  protocol = 0;
  /** PACKET_HOST 0, PACKET_BROADCAST 1, PACKET_MULTICAST 2, PACKET_OTHERHOST 3, PACKET_OUTGOING 4. */
  packetType = 0;
  /** Interface, 0 for none: then loads of it and of the hardware type end the program with 0. */
  ifindex = 0;
  /** ARPHRD_... of the interface, 1 for Ethernet. */
  hardwareType = 0;
  mark = 0;
  queue = 0;
  /** Receive hash, int32 or u32. */
  hash = 0;
  cpu = 0;
  /** VLAN tag that was taken off the frame: TCI, TPID, and whether there was one (1 or 0). */
  vlanTag = 0;
  vlanProtocol = 0;
  vlanPresent = 0;
  /** Bytes before the payload, after every header that a dissector knows. */
  payloadOffset = 0;
  /**
   * Where the network and the link header begin, bytes from the packet's first: negative when they are before it. From
   * there on everything must be readable.
   */
  networkOffset = NOWHERE;
  linkOffset = NOWHERE;
  /** For SKF_AD_RANDOM: any u32 or int32. */
  random: () => number = randomWord;
}

function randomWord(): number {
  return Math.floor(Math.random() * 2 ** 32);
}

/**
 * Where a load at a negative offset reads, from the packet's first byte (bpf_skb_load_helper_convert_offset in
 * net/core/filter.c); beyond any packet's end where it is relative to nothing known.
 */
export function resolveOffset(offset: number, context: PacketContext): number {
  if (offset >= SKF_NET_OFF) return context.networkOffset + offset - SKF_NET_OFF;
  return offset >= SKF_LL_OFF ? context.linkOffset + offset - SKF_LL_OFF : NOWHERE;
}

/** Stands in where a program is run without a context. */
export const NO_CONTEXT = new PacketContext();

/** Bytes of struct nlattr: u16 length, u16 type. */
const NLA_HEADER = 4;
const NLA_TYPE_MASK = 0x3fff;

/**
 * SKF_AD_NLATTR: offset of the netlink attribute of `type` in the list that begins at byte `start` of the packet, 0 when
 * there is none (nla_find in lib/nlattr.c). With `nested`, the list is inside the attribute that begins at `start`.
 */
export function findAttribute(
  bytes: Uint8Array,
  offset: number,
  length: number,
  start: number,
  type: number,
  nested: boolean,
): number {
  const at = start >>> 0;
  if (length < NLA_HEADER || at > length - NLA_HEADER) return 0;
  if (!nested) return search(bytes, offset, at, length, type);
  const size = u16(bytes, offset + at);
  if (size > length - at) return 0;
  return search(bytes, offset, at + NLA_HEADER, at + size, type);
}

function search(bytes: Uint8Array, offset: number, start: number, end: number, type: number): number {
  for (let at = start; end - at >= NLA_HEADER; ) {
    const size = u16(bytes, offset + at);
    if (size < NLA_HEADER || size > end - at) return 0;
    if ((u16(bytes, offset + at + 2) & NLA_TYPE_MASK) === type) return at;
    at += (size + 3) & ~3;
  }
  return 0;
}

/** In host order, as netlink is. */
function u16(bytes: Uint8Array, at: number): number {
  return bytes[at] | (bytes[at + 1] << 8);
}
