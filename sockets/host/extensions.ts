/**
 * What IPv6 extension headers ask of the host that a packet is for (RFC 8200, section 4): options that it does not know say
 * themselves what becomes of the packet, and a route that goes on is not followed. As Linux does by default
 * (net/ipv6/exthdrs.c: ip6_parse_tlv(), ipv6_rthdr_rcv()). No option is obeyed.
 */
import { ICMPV6_UNK_NEXTHDR } from "../wire/icmp.ts";
import { IPV6_HEADER, IPV6_NEXT_HEADER, NEXTHDR_DEST, NEXTHDR_HOP, NEXTHDR_ROUTING } from "../wire/ipv6.ts";

export const EXTENSIONS_OK = 0;
/** The packet is dropped, and nobody is told. */
const EXTENSIONS_DROP = 1;
/** It is dropped, and its sender told of `problem`. */
export const EXTENSIONS_PROBLEM = 2;

/** Code of ICMPV6_PARAMPROB, and offset in the packet, of what checkExtensions() found last. */
export const problem = { code: 0, pointer: 0 };

const ICMPV6_HDR_FIELD = 0;
const ICMPV6_UNK_OPTION = 2;
const IPV6_TLV_PAD1 = 0;
const IPV6_TLV_PADN = 1;
const IPV6_TLV_ROUTERALERT = 5;
/** The two highest bits of an option's type: what is done by those who do not know it. */
const UNKNOWN_MASK = 0xc0;
const UNKNOWN_SKIP = 0;
const UNKNOWN_DISCARD = 0x40;
/** The most bytes of padding between two options, and options in a header (net.ipv6.max_dst_opts_number and max_hbh_…). */
const PADDING_MAX = 7;
const OPTIONS_MAX = 8;
/** Routing headers that Linux takes only where segment routing is switched on. */
const RPL_ROUTING = 3;
const SEGMENT_ROUTING = 4;

/** Looks at the headers between the IPv6 header at `ip` and the transport, which transport6() was able to step over. */
export function checkExtensions(bytes: Uint8Array, ip: number): number {
  let named = ip + IPV6_NEXT_HEADER;
  let at = ip + IPV6_HEADER;
  for (;;) {
    const type = bytes[named];
    let verdict = EXTENSIONS_OK;
    if (type === NEXTHDR_HOP && named !== ip + IPV6_NEXT_HEADER) {
      return problemAt(ICMPV6_UNK_NEXTHDR, named - ip);
    }
    if (type === NEXTHDR_HOP || type === NEXTHDR_DEST) verdict = checkOptions(bytes, ip, at, type === NEXTHDR_HOP);
    else if (type === NEXTHDR_ROUTING) verdict = checkRoute(bytes, ip, at);
    else return EXTENSIONS_OK;
    if (verdict !== EXTENSIONS_OK) return verdict;
    named = at;
    at += (bytes[at + 1] + 1) << 3;
  }
}

function problemAt(code: number, pointer: number): number {
  problem.code = code;
  problem.pointer = pointer;
  return EXTENSIONS_PROBLEM;
}

function checkOptions(bytes: Uint8Array, ip: number, header: number, isHop: boolean): number {
  const end = header + ((bytes[header + 1] + 1) << 3);
  let padding = 0;
  let options = 0;
  for (let at = header + 2; at < end; ) {
    const type = bytes[at];
    const size = type === IPV6_TLV_PAD1 ? 1 : at + 1 < end ? bytes[at + 1] + 2 : end;
    if (at + size > end) return EXTENSIONS_DROP;
    if (type === IPV6_TLV_PAD1 || type === IPV6_TLV_PADN) {
      padding += size;
      if (padding > PADDING_MAX || !isZero(bytes, at + 2, at + size)) return EXTENSIONS_DROP;
    } else {
      padding = 0;
      if (++options > OPTIONS_MAX) return EXTENSIONS_DROP;
      const unknown = isHop && type === IPV6_TLV_ROUTERALERT ? UNKNOWN_SKIP : type & UNKNOWN_MASK;
      if (unknown === UNKNOWN_DISCARD) return EXTENSIONS_DROP;
      if (unknown !== UNKNOWN_SKIP) return problemAt(ICMPV6_UNK_OPTION, at - ip);
    }
    at += size;
  }
  return EXTENSIONS_OK;
}

function isZero(bytes: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (bytes[i] !== 0) return false;
  return true;
}

function checkRoute(bytes: Uint8Array, ip: number, header: number): number {
  const type = bytes[header + 2];
  if (type === SEGMENT_ROUTING || type === RPL_ROUTING) return EXTENSIONS_DROP;
  return bytes[header + 3] === 0 ? EXTENSIONS_OK : problemAt(ICMPV6_HDR_FIELD, header + 2 - ip);
}
