/**
 * The AF_XDP user-space ABI: constants and structure layouts, each once.
 *
 * Source: include/uapi/linux/if_xdp.h of Linux 6.18 unless a line says otherwise; the version after a name is the first
 * kernel that has it. Names are the kernel's. All fields are in host byte order, little-endian on both architectures.
 */

/** Address and protocol family: include/linux/socket.h (4.18). */
export const AF_XDP = 44;
/** Level of the XDP_* socket options: include/linux/socket.h (4.18). */
export const SOL_XDP = 283;

// --- Socket options at SOL_XDP ---
/** get: struct xdp_mmap_offsets (4.18, with the flags fields 5.4). */
export const XDP_MMAP_OFFSETS = 1;
/** set: entries of the RX ring, int, a power of two (4.18). */
export const XDP_RX_RING = 2;
/** set: entries of the TX ring, int, a power of two (4.18). */
export const XDP_TX_RING = 3;
/** set: struct xdp_umem_reg (4.18). */
export const XDP_UMEM_REG = 4;
/** set: entries of the fill ring, int, a power of two (4.18). */
export const XDP_UMEM_FILL_RING = 5;
/** set: entries of the completion ring, int, a power of two (4.18). */
export const XDP_UMEM_COMPLETION_RING = 6;
/** get: struct xdp_statistics (4.18; the last three counters 5.9). */
export const XDP_STATISTICS = 7;
/** get: struct xdp_options (5.3). */
export const XDP_OPTIONS = 8;
/** set: frames one send call may transmit in copy mode, u32 in [32, TX ring entries] (6.17). */
export const XDP_MAX_TX_SKB_BUDGET = 9;

// --- sockaddr_xdp.sxdp_flags ---
/** Use the UMEM of the socket sxdp_shared_umem_fd; excludes every other flag (4.18). */
export const XDP_SHARED_UMEM = 1 << 0;
/** Copy mode or failure (4.18). */
export const XDP_COPY = 1 << 1;
/** Zero copy or failure (4.18). */
export const XDP_ZEROCOPY = 1 << 2;
/** The kernel says in the fill and TX ring's flags when it has to be woken (5.4). */
export const XDP_USE_NEED_WAKEUP = 1 << 3;
/** A frame may span several descriptors, XDP_PKT_CONTD on all but the last (6.6). */
export const XDP_USE_SG = 1 << 4;

// --- xdp_umem_reg.flags ---
/** Chunks may lie anywhere and have any size in [2048, page size] (5.4). */
export const XDP_UMEM_UNALIGNED_CHUNK_FLAG = 1 << 0;
/** Compute requested TX checksums in software; copy mode only (6.8). */
export const XDP_UMEM_TX_SW_CSUM = 1 << 1;
/** tx_metadata_len is valid (6.11; 6.8 to 6.10 took the length without the flag). */
export const XDP_UMEM_TX_METADATA_LEN = 1 << 2;

/** Ring flag, in the fill and TX ring: the kernel sleeps until woken by a system call (5.4). */
export const XDP_RING_NEED_WAKEUP = 1 << 0;

/** xdp_options.flags: the socket runs in zero-copy mode (5.3). */
export const XDP_OPTIONS_ZEROCOPY = 1 << 0;

// --- mmap offsets of the rings (4.18) ---
export const XDP_PGOFF_RX_RING = 0;
export const XDP_PGOFF_TX_RING = 0x80000000;
export const XDP_UMEM_PGOFF_FILL_RING = 0x100000000;
export const XDP_UMEM_PGOFF_COMPLETION_RING = 0x180000000;

/** Unaligned mode: bits 48 to 63 of a descriptor's address hold the data's offset from the chunk's start (5.4). */
export const XSK_UNALIGNED_BUF_OFFSET_SHIFT = 48;
/** Unaligned mode: bits 0 to 47, the chunk's start (5.4). */
export const XSK_UNALIGNED_BUF_ADDR_MASK = 2 ** 48 - 1;

// --- xdp_desc.options ---
/** The frame continues in the next descriptor (6.6). */
export const XDP_PKT_CONTD = 1 << 0;
/** TX: a struct xsk_tx_metadata lies tx_metadata_len bytes before the data (6.8). */
export const XDP_TX_METADATA = 1 << 1;

// --- xsk_tx_metadata.flags ---
/** Request: write the transmit time into completion.tx_timestamp (6.8). */
export const XDP_TXMD_FLAGS_TIMESTAMP = 1 << 0;
/** Request: finish the checksum described by csum_start and csum_offset (6.8). */
export const XDP_TXMD_FLAGS_CHECKSUM = 1 << 1;
/** Request: hold the frame until launch_time (6.15). */
export const XDP_TXMD_FLAGS_LAUNCH_TIME = 1 << 2;

// --- Limits that the header does not name ---
/** Smallest chunk, bytes: XDP_UMEM_MIN_CHUNK_SIZE in include/net/xdp_sock.h. */
export const XDP_UMEM_MIN_CHUNK_SIZE = 2048;
/** Bytes the kernel keeps free before the data of a received frame: XDP_PACKET_HEADROOM in include/uapi/linux/bpf.h. */
export const XDP_PACKET_HEADROOM = 256;
/** Frames one send call transmits in copy mode by default, and the least budget: TX_BATCH_SIZE in net/xdp/xsk.c. */
export const TX_BATCH_SIZE = 32;
/** tx_metadata_len is a multiple of 8 below this: net/xdp/xdp_umem.c. */
export const TX_METADATA_LEN_END = 256;
/** Fragments of one skb, hence descriptors of one copy-mode TX frame minus one: MAX_SKB_FRAGS, CONFIG_MAX_SKB_FRAGS. */
export const MAX_SKB_FRAGS = 17;

/** struct sockaddr_xdp. */
export const sockaddr_xdp = {
  size: 16,
  sxdp_family: 0, // u16
  sxdp_flags: 2, // u16
  sxdp_ifindex: 4, // u32
  sxdp_queue_id: 8, // u32
  sxdp_shared_umem_fd: 12, // u32
} as const;

/** struct xdp_umem_reg (tx_metadata_len 6.8; before, 4 bytes of padding). */
export const xdp_umem_reg = {
  size: 32,
  addr: 0, // u64, page aligned
  len: 8, // u64
  chunk_size: 16, // u32
  headroom: 20, // u32
  flags: 24, // u32
  tx_metadata_len: 28, // u32
} as const;

/** struct xdp_ring_offset: byte offsets from the start of a ring's mapping. */
export const xdp_ring_offset = {
  size: 32,
  producer: 0, // u64
  consumer: 8, // u64
  desc: 16, // u64
  flags: 24, // u64
} as const;

/** struct xdp_mmap_offsets: four xdp_ring_offset. */
export const xdp_mmap_offsets = {
  size: 128,
  rx: 0,
  tx: 32,
  fr: 64, // fill
  cr: 96, // completion
} as const;

/** struct xdp_statistics, all u64. */
export const xdp_statistics = {
  size: 48,
  rx_dropped: 0,
  rx_invalid_descs: 8,
  tx_invalid_descs: 16,
  rx_ring_full: 24,
  rx_fill_ring_empty_descs: 32,
  tx_ring_empty_descs: 40,
} as const;

/** struct xdp_options. */
export const xdp_options = {
  size: 4,
  flags: 0, // u32
} as const;

/** struct xdp_desc, an entry of the RX and TX ring. An entry of the fill and completion ring is a u64 address. */
export const xdp_desc = {
  size: 16,
  addr: 0, // u64, offset in the UMEM
  len: 8, // u32
  options: 12, // u32
} as const;

/** struct xsk_tx_metadata; tx_timestamp overlays the request. */
export const xsk_tx_metadata = {
  size: 24,
  flags: 0, // u64
  csum_start: 8, // u16, from the data's first byte
  csum_offset: 10, // u16, from csum_start
  launch_time: 16, // u64, nanoseconds of the NIC's PTP clock
  tx_timestamp: 8, // u64, nanoseconds
} as const;

// --- Socket options at SOL_SOCKET that matter to an XSK: include/uapi/asm-generic/socket.h ---
export const SOL_SOCKET = 1;
/** set, get: microseconds to poll the queue in a receive call, 0 for not (3.11). */
export const SO_BUSY_POLL = 46;
/** get: NAPI ID of the queue, 0 while unknown (4.12). */
export const SO_INCOMING_NAPI_ID = 56;
/** set, get: leave the queue's interrupts off while the socket polls it, 0 or 1 (5.11). */
export const SO_PREFER_BUSY_POLL = 69;
/** set: most frames one poll of the queue handles (5.11). */
export const SO_BUSY_POLL_BUDGET = 70;
/** get: u64 that identifies the socket's network namespace (5.14). */
export const SO_NETNS_COOKIE = 71;

// --- include/linux/socket.h, include/linux/net.h ---
export const SOCK_RAW = 3;
export const SOCK_CLOEXEC = 0o2000000;
export const MSG_DONTWAIT = 0x40;

// --- include/uapi/asm-generic/mman{-common,}.h ---
export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const MAP_SHARED = 0x01;
export const MAP_PRIVATE = 0x02;
export const MAP_FIXED = 0x10;
export const MAP_ANONYMOUS = 0x20;
export const MAP_POPULATE = 0x8000;
