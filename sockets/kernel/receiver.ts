/**
 * Datagrams from a kernel socket, by recvmmsg(2): up to 64 a call, straight into frames. Each then gets IP and UDP headers
 * before its payload, so that a Datagram is read in one way, whichever way it came. They carry no checksums; a TTL and a
 * TOS only where the socket asked for them (IP_RECVTTL, IP_RECVTOS), else 0.
 */
import { ERRNO, sys } from "af-xdp-bindings";
import { controlSpace, MSG_DONTWAIT, PKTINFO_BYTES, PKTINFO6_BYTES } from "../msghdr.ts";
import {
  IP_PKTINFO,
  IP_TOS,
  IP_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_HOPLIMIT,
  IPV6_PKTINFO,
  IPV6_TCLASS,
  SO_RXQ_OVFL,
  SO_TIMESTAMP,
  SO_TIMESTAMP_NEW,
  SO_TIMESTAMPNS,
  SO_TIMESTAMPNS_NEW,
  SOL_SOCKET,
  SOL_UDP,
  UDP_GRO,
} from "../options.ts";
import { SOCKADDR_IN6_BYTES } from "../sockaddr.ts";
import { AF_INET, IPPROTO_UDP } from "../table.ts";
import { swap16 } from "../wire/checksum.ts";
import { IPV4_HEADER } from "../wire/ipv4.ts";
import { IPV6_HEADER } from "../wire/ipv6.ts";
import { UDP_HEADER } from "../wire/udp.ts";
import {
  CONTROL_AT,
  CONTROL_BYTES,
  INTERFACE_AT,
  type KernelFrames,
  NAME_AT,
  PAYLOAD_MAX,
  SOURCE_AT,
  swap32,
} from "./frames.ts";
import { CONTROL, CONTROLLEN, LENGTH, MESSAGE_WORDS, MessageBlock, NAME, NAMELEN } from "./messages.ts";
import type { KernelSocket } from "./socket.ts";

/** Datagrams a call: as many as a burst of a queue. */
export const BATCH = 64;

/** Words of struct cmsghdr { u64 length; i32 level; i32 type }, then the data. */
const CMSG_LEVEL = 2;
const CMSG_TYPE = 3;
const CMSG_DATA = 4;
const CMSG_HEADER_BYTES = 16;
/** CMSG_SPACE of struct in_pktinfo { i32 interface; be32 source; be32 destination }, and of struct in6_pktinfo. */
export const PKTINFO_SPACE = controlSpace(PKTINFO_BYTES);
export const PKTINFO6_SPACE = controlSpace(PKTINFO6_BYTES);
/** Words of a sockaddr_in6 that are the address, and its third as it is in a mapped one: ::ffff:0:0/96. */
const SIN6_ADDRESS = 2;
const MAPPED = 0xffff0000 | 0;
const WORD = 4;
/** Options whose control messages of the same number carry the time of arrival. */
const STAMPS = [SO_TIMESTAMPNS, SO_TIMESTAMP, SO_TIMESTAMPNS_NEW, SO_TIMESTAMP_NEW];

export class Receiver {
  /** Datagrams of the batch, and how many of them have been looked at. */
  count = 0;
  next = 0;

  /** Of the datagram that decode() looked at: offsets of the IP header, UDP header and payload, and payload bytes. */
  ip = 0;
  udp = 0;
  payload = 0;
  length = 0;
  /** CLOCK_REALTIME of its arrival, 0 unless the socket asked for it. */
  seconds = 0;
  nanoseconds = 0;
  /** Bytes of each datagram that the kernel has put together into it (UDP_GRO), and what it had dropped before (SO_RXQ_OVFL). */
  segment = 0;
  drops = 0;

  private readonly frames: KernelFrames;
  private readonly words: Int32Array;
  private readonly block = new MessageBlock(BATCH);
  private readonly messages: Int32Array;
  /** Payload offset of each message's frame, -1 where it has none. */
  private readonly frameOf = new Int32Array(BATCH).fill(-1);
  /** Messages from the first on that may lack a frame, or whose lengths the kernel has overwritten. */
  private dirty = BATCH;
  private ttl = 0;
  private tos = 0;

  constructor(frames: KernelFrames) {
    this.frames = frames;
    this.words = frames.words;
    this.messages = this.block.words;
  }

  /**
   * Reads a batch. The one before must have been looked at to the end. Returns how many datagrams, or -errno: -EAGAIN when
   * there is none, -ENOBUFS when no frame is free, or an error that was pending on the socket.
   */
  receive(fd: number): number {
    const room = this.prepare();
    if (room === 0) return -ERRNO.ENOBUFS;
    const count = sys.sys6(sys.SYS.recvmmsg, fd, this.block.address, room, MSG_DONTWAIT, 0, 0);
    this.next = 0;
    this.count = Math.max(count, 0);
    this.dirty = Math.max(this.dirty, this.count);
    return count;
  }

  /** Gives each message its frame and its lengths. Returns how many have one. */
  private prepare(): number {
    const { dirty, frameOf, messages } = this;
    for (let i = 0; i < dirty; i++) {
      if (frameOf[i] < 0 && !this.attach(i)) return i;
      const at = i * MESSAGE_WORDS;
      messages[at + NAMELEN] = SOCKADDR_IN6_BYTES;
      messages[at + CONTROLLEN] = CONTROL_BYTES;
    }
    this.dirty = 0;
    return BATCH;
  }

  private attach(i: number): boolean {
    const { block, frames } = this;
    const payload = frames.take();
    if (payload < 0) return false;
    const address = frames.address + payload;
    this.frameOf[i] = payload;
    block.putAddress(i * MESSAGE_WORDS + NAME, address + NAME_AT);
    block.putAddress(i * MESSAGE_WORDS + CONTROL, address + CONTROL_AT);
    block.putVector(i, address, PAYLOAD_MAX);
    return true;
  }

  /** Looks at the next datagram of the batch, writes its headers and tells where it is. */
  decode(socket: KernelSocket): void {
    const { messages, words } = this;
    const i = this.next++;
    const at = i * MESSAGE_WORDS;
    const payload = this.frameOf[i];
    const name = (payload + NAME_AT) / WORD;
    const control = (payload + CONTROL_AT) / WORD;
    const space = messages[at + CONTROLLEN];
    this.payload = payload;
    this.length = messages[at + LENGTH];
    this.udp = payload - UDP_HEADER;
    words[(payload + SOURCE_AT) / WORD] = 0;
    words[(payload + INTERFACE_AT) / WORD] = 0;
    // A wildcard socket that asked for nothing more has exactly one control message.
    if (space > 0 && (space > PKTINFO6_SPACE || !this.isPktinfo(control, socket.family))) {
      this.walk(control, space, socket.family);
    } else {
      this.clear();
    }
    const told = space > 0 && this.isPktinfo(control, socket.family);
    if ((words[name] & 0xffff) === AF_INET) {
      const local = told ? this.source4(payload, control) : socket.local[3];
      this.header4(words[name + 1], local);
    } else if (this.isMapped(name)) {
      const local = told ? this.source6(payload, control, true) : socket.local[3];
      this.header4(words[name + SIN6_ADDRESS + 3], local);
    } else {
      if (told) this.source6(payload, control, false);
      this.header6(name + SIN6_ADDRESS, told ? control + CMSG_DATA : -1, socket.local);
    }
    // Source and destination port, the length with the header, no checksum.
    const udp = this.udp / WORD;
    words[udp] = (words[name] >>> 16) | (socket.port << 16);
    words[udp + 1] = swap16(this.length + UDP_HEADER);
  }

  /** The frame of the datagram just looked at is somebody else's now: the message gets another. */
  giveAway(): void {
    this.frameOf[this.next - 1] = -1;
  }

  /** Gives every frame back. */
  close(): void {
    for (let i = 0; i < BATCH; i++) if (this.frameOf[i] >= 0) this.frames.give(this.frameOf[i]);
    this.frameOf.fill(-1);
    this.dirty = BATCH;
    this.count = 0;
    this.next = 0;
  }

  private clear(): void {
    this.ttl = 0;
    this.tos = 0;
    this.seconds = 0;
    this.nanoseconds = 0;
    this.segment = 0;
    this.drops = 0;
  }

  private isMapped(name: number): boolean {
    const { words } = this;
    const at = name + SIN6_ADDRESS;
    return words[at] === 0 && words[at + 1] === 0 && words[at + 2] === MAPPED;
  }

  /** Whether a control message tells the destination, in the form that a socket of the family may also send from. */
  private isPktinfo(at: number, family: number): boolean {
    const level = this.words[at + CMSG_LEVEL];
    const type = this.words[at + CMSG_TYPE];
    return family === AF_INET
      ? level === IPPROTO_IP && type === IP_PKTINFO
      : level === IPPROTO_IPV6 && type === IPV6_PKTINFO;
  }

  /**
   * The destination that a struct in_pktinfo tells. It stays for an answer, which leaves from the address of this host
   * that the kernel names there (another where the destination is a group) over any interface.
   */
  private source4(payload: number, control: number): number {
    const { words } = this;
    words[(payload + INTERFACE_AT) / WORD] = words[control + CMSG_DATA];
    words[control + CMSG_DATA] = 0;
    words[(payload + SOURCE_AT) / WORD] = PKTINFO_SPACE;
    return words[control + CMSG_DATA + 2];
  }

  /** As source4() from a struct in6_pktinfo, which names the group itself: an answer may not leave from there. */
  private source6(payload: number, control: number, mapped: boolean): number {
    const { words } = this;
    const destination = control + CMSG_DATA;
    const group = mapped ? (words[destination + 3] & 0xf0) === 0xe0 : (words[destination] & 0xff) === 0xff;
    words[(payload + INTERFACE_AT) / WORD] = words[destination + 4];
    words[destination + 4] = 0;
    if (!group) words[(payload + SOURCE_AT) / WORD] = PKTINFO6_SPACE;
    return words[destination + 3];
  }

  private header4(remote: number, local: number): void {
    const { words } = this;
    const bytes = this.length + UDP_HEADER + IPV4_HEADER;
    this.ip = this.udp - IPV4_HEADER;
    const at = this.ip / WORD;
    words[at] = 0x45 | (this.tos << 8) | (swap16(bytes) << 16);
    words[at + 1] = 0;
    words[at + 2] = this.ttl | (IPPROTO_UDP << 8);
    words[at + 3] = remote;
    words[at + 4] = local;
  }

  /** @param told first word of the destination, -1 where it is the socket's own address */
  private header6(remote: number, told: number, own: Int32Array): void {
    const { words } = this;
    this.ip = this.udp - IPV6_HEADER;
    const at = this.ip / WORD;
    words[at] = swap32((6 << 28) | (this.tos << 20));
    words[at + 1] = swap16(this.length + UDP_HEADER) | (IPPROTO_UDP << 16) | (this.ttl << 24);
    for (let i = 0; i < 4; i++) {
      words[at + 2 + i] = words[remote + i];
      words[at + 6 + i] = told < 0 ? own[i] : words[told + i];
    }
  }

  /** Reads several control messages and moves the one that tells the destination to the front. */
  private walk(control: number, space: number, family: number): void {
    const { words } = this;
    this.clear();
    let pktinfo = -1;
    const end = control + space / WORD;
    for (let at = control; at + CMSG_DATA < end; ) {
      const size = words[at];
      if (size < CMSG_HEADER_BYTES) break;
      if (this.isPktinfo(at, family)) pktinfo = at;
      else this.note(words[at + CMSG_LEVEL], words[at + CMSG_TYPE], at + CMSG_DATA);
      at += ((size + 7) & ~7) / WORD;
    }
    if (pktinfo > control) words.copyWithin(control, pktinfo, pktinfo + PKTINFO6_SPACE / WORD);
    // Else no answer may take what lies there for a destination.
    else if (pktinfo < 0) words[control + CMSG_LEVEL] = -1;
  }

  private note(level: number, type: number, data: number): void {
    const { words } = this;
    if (level === SOL_SOCKET && STAMPS.includes(type)) {
      // struct timespec, or timeval: both parts of 64 bits, seconds below 2^53.
      this.seconds = (words[data] >>> 0) + words[data + 1] * 2 ** 32;
      this.nanoseconds = words[data + 2] * (type === SO_TIMESTAMP || type === SO_TIMESTAMP_NEW ? 1000 : 1);
    } else if (level === SOL_SOCKET && type === SO_RXQ_OVFL) {
      this.drops = words[data] >>> 0;
    } else if (level === SOL_UDP && type === UDP_GRO) {
      this.segment = words[data];
    } else if ((level === IPPROTO_IP && type === IP_TTL) || (level === IPPROTO_IPV6 && type === IPV6_HOPLIMIT)) {
      this.ttl = words[data] & 0xff;
    } else if ((level === IPPROTO_IP && type === IP_TOS) || (level === IPPROTO_IPV6 && type === IPV6_TCLASS)) {
      // IP_TOS is one byte, IPV6_TCLASS an int.
      this.tos = words[data] & 0xff;
    }
  }
}
