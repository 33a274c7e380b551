/**
 * How a socket's packets are sent, one word a family (SocketTable.ttlTos, ttlTos6): TTL or hop limit in bits 0-7, TOS or
 * traffic class in bits 8-15, and above them what departs from the plain case. A word up to TX_PLAIN asks for nothing
 * else, so one comparison serves the packet path.
 */

export const TX_PLAIN = 0xffff;

/** IP_MTU_DISCOVER, IPV6_MTU_DISCOVER (include/uapi/linux/in.h). */
export const PMTUDISC_DONT = 0;
export const PMTUDISC_WANT = 1;
export const PMTUDISC_DO = 2;
const PMTUDISC_PROBE = 3;
export const PMTUDISC_INTERFACE = 4;
export const PMTUDISC_OMIT = 5;

/** Three bits for the above, changed so that the default, WANT, is 0. */
const DISCOVER_SHIFT = 16;
const DISCOVER_MASK = 7 << DISCOVER_SHIFT;
/** Only the kernel does what the socket asks for (SO_MARK, say): everything goes by the placeholder. */
export const TX_VIA_KERNEL = 1 << 19;
/** Bound to an interface (DEVICE): another one's route is not for it. */
export const TX_DEVICE = 1 << 20;
/** UDP_SEGMENT (SEGMENT has the size): longer payloads are split. */
export const TX_SEGMENT = 1 << 21;
/** UDP_MAX_SEGMENTS (include/linux/udp.h): datagrams one send makes. */
export const SEGMENTS_MAX = 128;
/** SO_NO_CHECK, UDP_NO_CHECK6_TX: no UDP checksum. */
export const TX_NO_CHECK = 1 << 22;

/** IPV6_DONTFRAG: a datagram above the MTU is refused, whatever IPV6_MTU_DISCOVER says. */
export const TX_DONT_FRAGMENT = 1 << 23;

export const ttlOf = (word: number): number => word & 0xff;

export const tosOf = (word: number): number => (word >> 8) & 0xff;

/** PMTUDISC_... of the socket. */
export const mtuDiscoverOf = (word: number): number => ((word & DISCOVER_MASK) >> DISCOVER_SHIFT) ^ PMTUDISC_WANT;

export const withTtl = (word: number, ttl: number): number => (word & ~0xff) | ttl;

export const withTos = (word: number, tos: number): number => (word & ~0xff00) | (tos << 8);

export const withMtuDiscover = (word: number, mode: number): number =>
  (word & ~DISCOVER_MASK) | ((mode ^ PMTUDISC_WANT) << DISCOVER_SHIFT);

export const withFlag = (word: number, flag: number, on: boolean): number => (on ? word | flag : word & ~flag);

/** Whether IPv4 packets within the MTU carry "don't fragment" (__ip_make_skb, net/ipv4/ip_output.c). */
export function setsDontFragment(word: number): boolean {
  const mode = mtuDiscoverOf(word);
  return mode === PMTUDISC_WANT || mode === PMTUDISC_DO || mode === PMTUDISC_PROBE;
}

/** Whether a datagram above the MTU is refused rather than sent in fragments (ip_sk_ignore_df, include/net/ip.h). */
export function refusesFragments(word: number): boolean {
  const mode = mtuDiscoverOf(word);
  if ((word & TX_DONT_FRAGMENT) !== 0) return true;
  return mode === PMTUDISC_DO || mode === PMTUDISC_PROBE || mode === PMTUDISC_INTERFACE;
}
