/**
 * What the steering program and user space share: the maps' keys and values. Integers are in host order unless a line
 * says network order; addresses and ports of packets are compared as they lie in the frame.
 */
import { STAMP_BYTES, STAMP_MAGIC, STAMP_MAGIC_AT, STAMP_QUEUE, STAMP_TIME } from "../../sockets/stamp.ts";

export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;
export type Protocol = typeof IPPROTO_TCP | typeof IPPROTO_UDP;
export type Family = 4 | 6;

/** Port flag: take datagrams or segments to any local IPv4 address. */
export const V4_ANY = 1;
/** Port flag: take those to any local IPv6 address. */
export const V6_ANY = 2;
/** Port flag, kept by bindAddress: some IPv4 address is bound at this port, look in `bound`. */
export const V4_ADDRESS = 4;
/** Port flag, kept by bindAddress: some IPv6 address is bound at this port, look in `bound`. */
export const V6_ADDRESS = 8;
/** Flag of a port or bound address: put the arrival time in front of the frame. */
export const STAMP = 16;

/** Entries of `ports`: UDP's, then TCP's. */
export const PORTS = 2 * 65536;
export const portIndex = (protocol: Protocol, port: number): number => (protocol === IPPROTO_TCP ? 65536 : 0) + port;

/**
 * Value of `ports`: flags; for user space alone, how many addresses are bound at the port; and of each family one
 * bound address whose binding has no flags, unused NO_V4 and NO_V6. Frames for that one are spared the lookup in
 * `bound`: 33 ns where a whole wildcard match costs 6 (bun bench/steering.ts; Bun 1.4.5, Linux 6.18, 2-CPU x86-64 VM).
 */
export const PORT = { flags: 0, bound_v4: 4, bound_v6: 6, v4: 8, v6: 16, size: 32 } as const;

/**
 * Key of `bound`; the address is IPv6 or v4-mapped, the port in network order, the last four bytes zero. Its value is
 * u32 flags. Three whole u64, because the program writes it so.
 */
export const BOUND = { address: 0, port: 16, protocol: 18, family: 19, size: 24 } as const;

/** Local addresses of a family that the program compares inline; further ones cost a lookup in `locals`. */
export const INLINE_LOCALS = 4;
/** A u64 v4 slot without an address: above all 32-bit values, so equal to none. */
export const NO_V4 = 2 ** 32;
/** A v6 slot without an address, all ones: multicast, which the program lets pass before it looks. */
export const NO_V6 = new Uint8Array(16).fill(0xff);

/** The one value of `host`. */
export const HOST = { mac: 0, overflow: 6, v4: 8, v6: 8 + 8 * INLINE_LOCALS, size: 8 + 24 * INLINE_LOCALS } as const;
/** Bits of `overflow` (u16): the family has local addresses in `locals`. */
export const OVERFLOW_V4 = 1;
export const OVERFLOW_V6 = 2;

/** Entries of `bound`: bound addresses of all ports together. */
export const BOUND_MAX = 65536;
/** Local addresses beyond the inline ones. `locals` has room for twice as many: old and new ones during a change. */
export const LOCALS_MAX = 4096;

/** What became of a frame: index in `counters`. Each frame counts once. */
export const COUNTERS = [
  /** Given to the queue's XSK. The kernel may yet drop it there: see XDP_STATISTICS. */
  "redirected",
  /** Neither IPv4 nor IPv6 behind at most two VLAN tags. */
  "passNotIp",
  /** IP for another MAC address, for multicast, or at a port with wildcard bindings for an address not ours. */
  "passNotHost",
  /** A fragment: the kernel reassembles. */
  "passFragment",
  /** Neither UDP nor TCP, or IPv6 with extension headers. */
  "passProtocol",
  /** Nothing is bound at the port for this address family and address. */
  "passNoMatch",
  /** Headers cut short or not what they claim: up to the first eight bytes of UDP or TCP. */
  "passMalformed",
  /** Matched, but the queue has no XSK. */
  "passNoSocket",
] as const;
export type CounterName = (typeof COUNTERS)[number];

/** In front of a stamped frame, ending at its first byte: bpf_ktime_get_ns (CLOCK_MONOTONIC), magic, RX queue. */
export const METADATA = {
  ktime_ns: STAMP_TIME,
  magic: STAMP_MAGIC_AT,
  queue: STAMP_QUEUE,
  size: STAMP_BYTES,
} as const;
export const METADATA_MAGIC = STAMP_MAGIC;
