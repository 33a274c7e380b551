/**
 * What is to be sent costs its socket's send buffer: skb->truesize in Linux 6.18 on x86-64, which is the sk_buff itself and
 * the slab that its data take (__alloc_skb, net/core/skbuff.c).
 */
import { IPV4_HEADER } from "./wire/ipv4.ts";
import { IPV6_HEADER } from "./wire/ipv6.ts";
import { UDP_HEADER } from "./wire/udp.ts";

/** SKB_DATA_ALIGN(sizeof(struct sk_buff)). */
const SK_BUFF = 256;
/** SKB_DATA_ALIGN(sizeof(struct skb_shared_info)), behind the data. */
const SHARED_INFO = 320;
/** LL_RESERVED_SPACE of an Ethernet device, and the 15 bytes that ip_append_data adds. */
const LINK_ROOM = 31;
/** SKB_SMALL_HEAD_CACHE_SIZE: the least slab. The others are powers of two. */
const SMALL_HEAD = 576;

const slab = (bytes: number): number => 1 << (32 - Math.clz32(bytes - 1));

/** Bytes for a UDP datagram with `length` bytes of payload in one packet, over IPv4 (`mapped`) or IPv6. */
export function truesize(length: number, mapped: boolean): number {
  const head = length + (mapped ? IPV4_HEADER : IPV6_HEADER) + UDP_HEADER + LINK_ROOM + SHARED_INFO;
  return SK_BUFF + (head <= SMALL_HEAD ? SMALL_HEAD : slab(head));
}

/** Bytes for `length` bytes in one piece over AF_UNIX: what counts for a control group (GFP_KERNEL_ACCOUNT) never takes SMALL_HEAD. */
export const unixTruesize = (length: number): number => SK_BUFF + slab(length + SHARED_INFO);
