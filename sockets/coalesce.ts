/**
 * UDP_GRO: datagrams of one flow that wait together at a socket are received as one, with the bytes of each told beside it.
 * Which belong together is as in udp_gro_receive_segment and inet_gro_receive (net/ipv4/udp_offload.c, af_inet.c): same
 * addresses, ports, TTL and TOS, all of one size but the last, which may be shorter.
 *
 * Frames do not lie together, so what is received as one is copied into memory of its own, up to 64 KiB a Datagram that was
 * ever used for it, and the frames go home at once.
 */
import { sys } from "af-xdp-bindings";
import type { Datagram } from "./datagram.ts";
import type { Endpoint } from "./endpoint.ts";
import { M_DROPS, M_HOME, M_L3, M_L4, M_PAYLOAD, M_PAYLOAD_LENGTH } from "./message.ts";
import type { DatagramQueue } from "./queue.ts";
import { IPV4_DST, IPV4_SRC, IPV4_TOS, IPV4_TTL } from "./wire/ipv4.ts";
import { IPV6_HOP_LIMIT, IPV6_SRC } from "./wire/ipv6.ts";
import { UDP_CHECKSUM } from "./wire/udp.ts";
import { FrameViews, readUint16 } from "./wire/views.ts";

/** UDP_GRO_CNT_MAX. */
const DATAGRAMS_MAX = 64;
/** GRO_LEGACY_MAX_SIZE: a packet that is put together is shorter. */
const BYTES_MAX = 65535;
/** Where the packet begins in the memory of its own: before it there is room for the frame's other headers. */
const PACKET_AT = 128;
/** The flag "don't fragment" in the byte it is in. */
const IPV4_FLAGS = 6;
const DF = 0x40;

export class Coalescer {
  private readonly endpoint: Endpoint;
  /** Address of each lcore's frame memory. */
  private readonly memories: readonly number[];

  constructor(endpoint: Endpoint) {
    this.endpoint = endpoint;
    this.memories = endpoint.shared.memories.map(({ bytes }) => sys.addressOf(bytes));
  }

  /** Adds to a datagram just taken from the queue those behind it that belong to it. */
  extend(datagram: Datagram, queue: DatagramQueue): void {
    const segment = datagram.length;
    const headers = datagram.offset - datagram.l3;
    // As with the kernel's: without a checksum, or empty, it stays alone.
    if (segment === 0 || readUint16(datagram.memory, datagram.l4 + UDP_CHECKSUM) === 0) return;
    for (let count = 1; count < DATAGRAMS_MAX && queue.length > 0; count++) {
      const at = queue.peek();
      const { words } = queue;
      const length = words[at + M_PAYLOAD_LENGTH];
      if (length === 0 || length > segment || headers + datagram.length + length > BYTES_MAX) return;
      if (!this.belongs(datagram, words, at)) return;
      if (count === 1) this.move(datagram);
      this.append(datagram, words, at, length);
      this.endpoint.discard(words, at);
      queue.next();
      datagram.segment = segment;
      if (length < segment) return;
    }
  }

  /** Moves a datagram from its frame to memory of its own. */
  private move(datagram: Datagram): void {
    datagram.gather ??= new FrameViews(new Uint8Array(PACKET_AT + BYTES_MAX + 1));
    const { gather, home } = datagram;
    const from = this.memories[home];
    const headers = datagram.offset - datagram.frame;
    const at = PACKET_AT - (datagram.l3 - datagram.frame);
    sys.copy(sys.transientAddressOf(gather.bytes) + at, from + datagram.frame, headers + datagram.length);
    datagram.release();
    const moved = at - datagram.frame;
    datagram.views = gather;
    datagram.memory = gather.bytes;
    datagram.frame += moved;
    datagram.l3 += moved;
    datagram.l4 += moved;
    datagram.offset += moved;
  }

  private append(datagram: Datagram, words: Int32Array, at: number, length: number): void {
    const to = sys.transientAddressOf(datagram.memory) + datagram.offset + datagram.length;
    sys.copy(to, this.memories[words[at + M_HOME]] + words[at + M_PAYLOAD], length);
    datagram.length += length;
    datagram.dropped = words[at + M_DROPS] >>> 0;
  }

  private belongs(datagram: Datagram, words: Int32Array, at: number): boolean {
    const a = datagram.memory;
    const { bytes: b } = this.endpoint.shared.memories[words[at + M_HOME]];
    const i = datagram.l3;
    const j = words[at + M_L3];
    const udp = words[at + M_L4];
    if (datagram.home !== words[at + M_HOME] || a[i] !== b[j] || readUint16(b, udp + UDP_CHECKSUM) === 0) return false;
    // Both ports.
    if (!same(a, datagram.l4, b, udp, 4)) return false;
    if (a[i] >> 4 === 4) {
      if (a[i + IPV4_TTL] !== b[j + IPV4_TTL] || a[i + IPV4_TOS] !== b[j + IPV4_TOS]) return false;
      return ((a[i + IPV4_FLAGS] ^ b[j + IPV4_FLAGS]) & DF) === 0 && same(a, i + IPV4_SRC, b, j + IPV4_SRC, IPV4_BOTH);
    }
    // Version, traffic class and flow label; hop limit; both addresses.
    return (
      same(a, i, b, j, 4) &&
      a[i + IPV6_HOP_LIMIT] === b[j + IPV6_HOP_LIMIT] &&
      same(a, i + IPV6_SRC, b, j + IPV6_SRC, 32)
    );
  }
}

const IPV4_BOTH = IPV4_DST + 4 - IPV4_SRC;

function same(a: Uint8Array, from: number, b: Uint8Array, at: number, length: number): boolean {
  for (let i = 0; i < length; i++) if (a[from + i] !== b[at + i]) return false;
  return true;
}
