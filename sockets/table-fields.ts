/** The words of a socket's record in the socket table, and the bits of its flags. */

export const AF_INET = 2;
export const AF_INET6 = 10;
export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;

/** Socket states. */
export const FREE = 0;
export const OPEN = 1;
export const BOUND = 2;
export const CONNECTED = 3;

/** Bits of the FLAGS field. */
export const F_REUSEADDR = 1;
export const F_REUSEPORT = 2;
export const F_V6ONLY = 4;
export const F_TIMESTAMP = 8;
/** A child shares its parent's binding: it is found by its 4-tuple alone and never conflicts. */
export const F_CHILD = 16;
/** SO_BROADCAST: may send to broadcast addresses. */
export const F_BROADCAST = 32;
/** UDP_NO_CHECK6_RX: takes datagrams over IPv6 without a checksum. */
export const F_NO_CHECK6 = 128;
/** SO_RXQ_OVFL: each datagram tells how many were lost before it. */
export const F_RXQ_OVFL = 256;
/** The port was not asked for by bind(2): dissolving a connection gives it up. */
export const F_CHOSEN_PORT = 1 << 20;
/** Without a kernel: IP_FREEBIND or IP_TRANSPARENT, and IP_BIND_ADDRESS_NO_PORT. */
export const F_ANY_ADDRESS = 1 << 21;
export const F_LATE_PORT = 1 << 22;
/** SO_LOCK_FILTER: its filter may not be changed or taken off. */
export const F_FILTER_LOCKED = 512;
/** It has been connected since it was bound to its address (udp_hashed4). */
export const F_HASHED = 1024;
/** TCP: it listens. */
export const F_LISTEN = 2048;
/** TCP: what comes to its port is for the lcores though it does not listen: it connects, or is held for others that do. */
export const F_STEERED = 4096;
/** Bound to the wildcard: connect() narrows the local address, and dissolving the connection widens it again. */
export const F_WILDCARD = 64;

/** Cold fields, int32 words of a socket's record. Addresses are four words of network-order bits; IPv4 is mapped. */
export const STATE = 0;
export const GENERATION = 1;
export const FAMILY = 2;
export const PROTOCOL = 3;
export const FLAGS = 4;
export const LOCAL = 5; // 4 words
export const LOCAL_PORT = 9;
export const REMOTE = 10; // 4 words
export const REMOTE_PORT = 14;
/** SO_BINDTODEVICE: interface index, 0 for any. */
export const DEVICE = 15;
/** SO_INCOMING_CPU as set: the CPU this socket asks for, -1 for none. */
export const INCOMING_CPU = 16;
/** The NAPI ID this socket asks for in its reuseport group, 0 for none (lcore's own extension). */
export const INCOMING_NAPI = 17;
/** Reuseport group, -1 for none. */
export const GROUP = 18;
/** Kernel placeholder socket that holds the port, -1 for none. */
export const PLACEHOLDER = 19;
export const UID = 20;
/** Datagrams this socket lost to a full buffer; any lcore, Atomics.add. */
export const DROPS = 21;
/** UDP_SEGMENT: bytes of payload a datagram, 0 for none. */
export const SEGMENT = 22;
/** Next socket bound to the same port, -1 ends the chain. */
export const NEXT = 23;
/** IP_MULTICAST_TTL, bits 0-7, LOOP, 8, and ALL, 9; IPV6_MULTICAST_HOPS, 16-23, LOOP, 24, and ALL, 25. */
export const MULTICAST = 24;
export const MULTICAST_LOOP = 1 << 8;
export const MULTICAST_LOOP6 = 1 << 24;
/** IP_MULTICAST_IF: interface index, 0 for the route's. */
export const MULTICAST_IF = 25;
export const SNDBUF = 26;
/** IPV6_MULTICAST_IF. */
export const MULTICAST_IF6 = 27;
/** Without a kernel: IP_LOCAL_PORT_RANGE, 0 for the host's. */
export const PORT_RANGE = 28;
/** SO_ATTACH_FILTER, SO_ATTACH_BPF: slot of the program in the store + 1, 0 for none. */
export const FILTER = 29;
/** Handle of the map of sockets that it is in, 0 for none. */
export const SOCKARRAY = 30;
/** When it was bound, among those of its port; of IPv6 sockets with SO_REUSEPORT below 0, the earlier the greater. */
export const ORDER = 31;
export const RECORD_WORDS = 32;
