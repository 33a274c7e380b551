/** IP headers before the segments of an lcore's TCP. */
import { HOPS_TTL } from "../tcp/tcb.ts";
import { IPPROTO_TCP, IPV4_DF, IPV4_HEADER, writeIpv4 } from "../wire/ipv4.ts";
import {
  IPV6_DST,
  IPV6_HEADER,
  IPV6_HOP_LIMIT,
  IPV6_NEXT_HEADER,
  IPV6_PAYLOAD_LENGTH,
  IPV6_SRC,
} from "../wire/ipv6.ts";
import { type FrameViews, writeInt32, writeUint16 } from "../wire/views.ts";

/** net.ipv4.ip_default_ttl. */
const HOPS_DEFAULT = 64;

/**
 * Writes the IPv4 header before `length` bytes of TCP at `tcp`, from the addresses at words[at]. Returns its offset.
 * @param fragment IPV4_DF, or 0: then `id` tells the datagrams of the host apart
 */
export function writeIp4(
  views: FrameViews,
  tcp: number,
  length: number,
  words: Int32Array,
  at: number,
  tos: number,
  hops: number,
  fragment = IPV4_DF,
  id = 0,
): number {
  const ip = tcp - IPV4_HEADER;
  const ttl = hops & HOPS_TTL || HOPS_DEFAULT;
  writeIpv4(views, ip, tos, length + IPV4_HEADER, id, fragment, ttl, IPPROTO_TCP, words[at + 3], words[at + 7]);
  return ip;
}

/** The same over IPv6. */
export function writeIp6(
  { bytes }: FrameViews,
  tcp: number,
  length: number,
  words: Int32Array,
  at: number,
  tos: number,
  hops: number,
): number {
  const ip = tcp - IPV6_HEADER;
  writeInt32(bytes, ip, (6 << 28) | (tos << 20));
  writeUint16(bytes, ip + IPV6_PAYLOAD_LENGTH, length);
  bytes[ip + IPV6_NEXT_HEADER] = IPPROTO_TCP;
  bytes[ip + IPV6_HOP_LIMIT] = hops & HOPS_TTL || HOPS_DEFAULT;
  for (let i = 0; i < 4; i++) {
    writeInt32(bytes, ip + IPV6_SRC + 4 * i, words[at + i]);
    writeInt32(bytes, ip + IPV6_DST + 4 * i, words[at + 4 + i]);
  }
  return ip;
}
