/**
 * A received datagram, read in place in frame memory.
 *
 * The object handed to a handler is used again for the next datagram: it is valid until the handler returns, unless
 * `hold()` is called, which makes one that lives until `release()`. Its frame goes back to its lcore exactly once: when
 * the handler returns, by `reply()`, or by `release()`.
 */
import type { Endpoint } from "./endpoint.ts";
import { addressBytes } from "./fib.ts";
import {
  M_CHARGE,
  M_DROPS,
  M_FRAME,
  M_GENERATION,
  M_HOME,
  M_KIND,
  M_L3,
  M_L4,
  M_LENGTH,
  M_NANOSECONDS,
  M_PAYLOAD,
  M_PAYLOAD_LENGTH,
  M_PORT,
  M_SECONDS,
  M_SEGMENT,
  M_SOCKET,
  MSG_REPLY,
} from "./message.ts";
import { formatIp } from "./wire/address.ts";
import { IPV4_DST, IPV4_SRC, IPV4_TOS, IPV4_TTL } from "./wire/ipv4.ts";
import { IPV6_DST, IPV6_HOP_LIMIT, IPV6_SRC, ipv6TrafficClass } from "./wire/ipv6.ts";
import { udpDestination, udpSource } from "./wire/udp.ts";
import { type FrameViews, readInt32, writeInt32 } from "./wire/views.ts";

export class Datagram {
  readonly endpoint: Endpoint;
  /** Memory that holds the frame. The payload is `memory[offset .. offset + length)`. */
  memory: Uint8Array;
  /** Offset of the payload's first byte in `memory`. */
  offset = 0;
  /** Bytes of payload. */
  length = 0;
  /** Id of the socket it is for. */
  socketId = 0;
  /** Receive time, CLOCK_REALTIME: 0 unless the socket asked for stamps. */
  seconds = 0;
  nanoseconds = 0;

  /** Offsets of the frame, the IP header and the UDP header; frame length in bytes. */
  frame = 0;
  frameLength = 0;
  l3 = 0;
  l4 = 0;
  /** lcore whose memory it is in, and the port of that lcore on which it came. */
  home = 0;
  port = 0;
  /** Receive-buffer charge still to be credited, bytes, and the socket's generation to which it was charged. */
  charge = 0;
  generation = 0;
  /** True while the frame is this object's to give back. */
  owned = false;
  views: FrameViews;
  /**
   * UDP_GRO: bytes of each datagram of those that were received as one here (the last may be shorter), 0 where it is one. It
   * is a copy then, without a frame: reply() says -EOPNOTSUPP.
   */
  segment = 0;
  /** Datagrams lost at the socket when this one was queued; -1 where it was never queued. */
  dropped = 0;
  /** Memory of its own for datagrams received as one, made when it is first needed. */
  gather: FrameViews | null = null;

  constructor(endpoint: Endpoint, views: FrameViews) {
    this.endpoint = endpoint;
    this.views = views;
    this.memory = views.bytes;
  }

  /** 4 or 6. */
  get family(): number {
    return this.memory[this.l3] >> 4;
  }

  /** Sender's port. */
  get sourcePort(): number {
    return udpSource(this.memory, this.l4);
  }

  /** Port it was sent to. */
  get destinationPort(): number {
    return udpDestination(this.memory, this.l4);
  }

  /** One of the four words of the sender's address, IPv4 mapped: no allocation. */
  sourceWord(i: number): number {
    return this.addressWord(i, IPV4_SRC, IPV6_SRC);
  }

  /** One of the four words of the address it was sent to. */
  destinationWord(i: number): number {
    return this.addressWord(i, IPV4_DST, IPV6_DST);
  }

  /** Sender's address as text. Allocates. */
  get sourceAddress(): string {
    return formatWords(this.sourceWord(0), this.sourceWord(1), this.sourceWord(2), this.sourceWord(3));
  }

  /** Address it was sent to, as text. Allocates. */
  get destinationAddress(): string {
    return formatWords(
      this.destinationWord(0),
      this.destinationWord(1),
      this.destinationWord(2),
      this.destinationWord(3),
    );
  }

  /** IPv4 TTL or IPv6 hop limit. On kernel sockets 0 unless the socket has asked (IP_RECVTTL, IPV6_RECVHOPLIMIT). */
  get ttl(): number {
    return this.memory[this.l3 + (this.family === 4 ? IPV4_TTL : IPV6_HOP_LIMIT)];
  }

  /** IPv4 TOS or IPv6 traffic class. On kernel sockets 0 unless the socket has asked (IP_RECVTOS, IPV6_RECVTCLASS). */
  get tos(): number {
    return this.family === 4 ? this.memory[this.l3 + IPV4_TOS] : ipv6TrafficClass(this.memory, this.l3);
  }

  /**
   * SO_RXQ_OVFL: how many datagrams the socket had lost to a full receive buffer when this one was queued, modulo 2^32; 0
   * unless the socket asked for it.
   */
  get drops(): number {
    return this.dropped >= 0 ? this.dropped : this.endpoint.dropsOf(this.socketId);
  }

  /**
   * Index of the interface by which it came. On kernel sockets 0, unless the socket is bound to the wildcard or has asked
   * (IP_PKTINFO, IPV6_RECVPKTINFO).
   */
  get interfaceIndex(): number {
    return this.endpoint.interfaceOf(this);
  }

  /** IPv6 traffic class and flow label, 28 bits; 0 over IPv4. */
  get flowInfo(): number {
    return this.family === 6 ? readInt32(this.memory, this.l3) & 0x0fffffff : 0;
  }

  /** Bytes of the largest fragment it came in, where the socket has asked (IP_RECVFRAGSIZE, IPV6_RECVFRAGSIZE); 0 for whole ones. */
  get fragmentSize(): number {
    return this.endpoint.kernelNote(this, FRAGMENT_NOTE);
  }

  /** A view of the payload, valid as long as the datagram. Allocates the view, copies nothing. */
  bytes(): Uint8Array {
    return this.memory.subarray(this.offset, this.offset + this.length);
  }

  /** A copy of the payload in memory of its own. */
  copy(): Uint8Array {
    return this.memory.slice(this.offset, this.offset + this.length);
  }

  /** The payload as text. */
  text(): string {
    return new TextDecoder().decode(this.copy());
  }

  /**
   * Sends the frame back to where it came from, with `length` bytes of payload from `offset` as they are in memory now:
   * write the answer over the question first. Zero copy; checksums are made anew. The frame is given away.
   * @returns `length`, or -errno: -EMSGSIZE when the payload would leave the frame, -EINVAL when the frame is gone.
   */
  reply(length = this.length): number {
    return this.endpoint.reply(this, length);
  }

  /** Bytes the payload may grow to in a reply. */
  get room(): number {
    return this.endpoint.frameEnd(this.home, this.frame) - this.offset;
  }

  /** Keeps the frame beyond the handler: the returned datagram must be released, or replied. */
  hold(): Datagram {
    const held = new Datagram(this.endpoint, this.views);
    held.assign(this);
    // The memory of its own is used for the next ones.
    if (this.segment > 0 && this.views === this.gather) held.memory = this.memory.slice(0, this.offset + this.length);
    this.owned = false;
    return held;
  }

  /** Gives the frame back. More than once does no harm. */
  release(): void {
    if (this.owned) this.endpoint.release(this);
  }

  /** Takes over another datagram's fields. */
  assign(other: Datagram): void {
    this.views = other.views;
    this.memory = other.memory;
    this.offset = other.offset;
    this.length = other.length;
    this.socketId = other.socketId;
    this.seconds = other.seconds;
    this.nanoseconds = other.nanoseconds;
    this.frame = other.frame;
    this.frameLength = other.frameLength;
    this.l3 = other.l3;
    this.l4 = other.l4;
    this.home = other.home;
    this.port = other.port;
    this.charge = other.charge;
    this.generation = other.generation;
    this.owned = other.owned;
    this.segment = other.segment;
    this.dropped = other.dropped;
  }

  /** Makes it one of the memory of the lcore `home` again, as that lcore's fast path expects it. */
  comeHome(home: number, views: FrameViews): void {
    this.home = home;
    this.views = views;
    this.memory = views.bytes;
    this.charge = 0;
    this.segment = 0;
    this.dropped = -1;
  }

  /** Takes the fields from a MSG_DELIVER at `at`; `memories` are those of the lcores. */
  load(words: Int32Array, at: number, memories: readonly FrameViews[]): void {
    this.home = words[at + M_HOME];
    this.views = memories[this.home];
    this.memory = this.views.bytes;
    this.socketId = words[at + M_SOCKET];
    this.frame = words[at + M_FRAME];
    this.frameLength = words[at + M_LENGTH];
    this.l3 = words[at + M_L3];
    this.l4 = words[at + M_L4];
    this.offset = words[at + M_PAYLOAD];
    this.length = words[at + M_PAYLOAD_LENGTH];
    this.port = words[at + M_PORT];
    this.charge = words[at + M_CHARGE];
    this.generation = words[at + M_GENERATION];
    this.seconds = words[at + M_SECONDS];
    this.nanoseconds = words[at + M_NANOSECONDS];
    this.segment = words[at + M_SEGMENT];
    this.dropped = words[at + M_DROPS] >>> 0;
    this.owned = true;
  }

  /** Writes a MSG_REPLY of `length` bytes, which takes the frame back, at `at`. */
  storeReply(words: Int32Array, at: number, length: number): void {
    words[at + M_KIND] = MSG_REPLY;
    words[at + M_SOCKET] = this.socketId;
    words[at + M_FRAME] = this.frame;
    words[at + M_LENGTH] = this.frameLength;
    words[at + M_L3] = this.l3;
    words[at + M_L4] = this.l4;
    words[at + M_PAYLOAD] = this.offset;
    words[at + M_PAYLOAD_LENGTH] = length;
    words[at + M_PORT] = this.port;
  }

  private addressWord(i: number, v4: number, v6: number): number {
    if (this.family === 6) return readInt32(this.memory, this.l3 + v6 + i * 4);
    if (i === 3) return readInt32(this.memory, this.l3 + v4);
    return i === 2 ? 0xffff : 0;
  }
}

/**
 * Where in the Ethernet header of a frame that has come up the kernel's stack, in place of MAC addresses, words say what the kernel
 * has told of it: the interface, bytes of its largest fragment.
 */
const FRAGMENT_NOTE = 4;

/** Notes what the kernel tells of a frame: see above. */
export function writeNotes(bytes: Uint8Array, frame: number, ifindex: number, fragmentSize: number): void {
  writeInt32(bytes, frame, ifindex);
  writeInt32(bytes, frame + FRAGMENT_NOTE, fragmentSize);
}

function formatWords(w0: number, w1: number, w2: number, w3: number): string {
  return formatIp(addressBytes(w0, w1, w2, w3));
}
