/**
 * AF_NETLINK transport (netlink(7)): requests with acks, dumps, multicast events, attributes.
 *
 * Cold path: allocates and throws. Integers are in host byte order, which is little-endian on both supported
 * architectures; attributes whose contents are in network order say so where they are used.
 * Layouts: include/uapi/linux/netlink.h, Linux 6.18.
 */
import { ERRNO, SysError, sys } from "af-xdp-bindings";

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_RCVBUF = 8;
const SO_RCVTIMEO = 20;
const SO_RCVBUFFORCE = 33;
const SOL_NETLINK = 270;
const MSG_DONTWAIT = 0x40;
const MSG_TRUNC = 0x20;

export const NETLINK_ROUTE = 0;
export const NETLINK_GENERIC = 16;

const NETLINK_ADD_MEMBERSHIP = 1;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;

export const NLM_F_REQUEST = 0x1;
const NLM_F_ACK = 0x4;
const NLM_F_DUMP_INTR = 0x10;
const NLM_F_DUMP = 0x300;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLMSG_OVERRUN = 4;

/** struct nlmsghdr { u32 len; u16 type; u16 flags; u32 seq; u32 pid } */
const NLMSG_HDRLEN = 16;
/** struct nlattr { u16 len; u16 type } */
const NLA_HDRLEN = 4;
const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;

const NLMSGERR_ATTR_MSG = 1;

/** A dump the kernel marks as inconsistent is repeated this often before its last answer is refused. */
const DUMP_ATTEMPTS_MAX = 16;
/** Kernel dumps fill at most 32 KiB a datagram (netlink_dump in net/netlink/af_netlink.c); events are far smaller. */
const RECEIVE_BYTES = 65536;
/** Requests are answered before sendto returns, dumps as they are read: only a lost answer can take this long. */
const REPLY_TIMEOUT_S = 10;
/** Socket buffer of an event reader: a burst of some thousand events fits before the kernel reports an overrun. */
const EVENT_RCVBUF_BYTES = 4 << 20;

const HINTS: Record<number, string> = {
  [ERRNO.EPERM]: "needs CAP_NET_ADMIN in the namespace: run as root or `setcap cap_net_admin+ep`",
};

/** One message as the kernel sent it, without its nlmsghdr. `payload` is a copy of its own. */
export interface NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  readonly payload: Uint8Array;
}

/** The attributes of a message or nest by type; of a repeated type the last one counts (as nla_parse does). */
export type Attributes = Map<number, Uint8Array>;

const align4 = (length: number): number => (length + 3) & ~3;

/** View over exactly the bytes of `bytes`. */
export const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Joins byte strings. */
export function concat(...parts: Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** One attribute: header, `value`, zero padding to four bytes. */
export function attribute(type: number, value: Uint8Array): Uint8Array {
  const length = NLA_HDRLEN + value.length;
  const out = new Uint8Array(align4(length));
  const view = viewOf(out);
  view.setUint16(0, length, true);
  view.setUint16(2, type, true);
  out.set(value, NLA_HDRLEN);
  return out;
}

export const attributeU8 = (type: number, value: number): Uint8Array => attribute(type, Uint8Array.of(value));

export const attributeU16 = (type: number, value: number): Uint8Array =>
  attribute(type, Uint8Array.of(value & 0xff, value >>> 8));

/** Also takes an s32 (a descriptor, an ifindex): the bits are the same. */
export const attributeU32 = (type: number, value: number): Uint8Array =>
  attribute(type, new Uint8Array(Uint32Array.of(value).buffer));

/** A NUL-terminated string. */
export const attributeString = (type: number, value: string): Uint8Array =>
  attribute(type, new TextEncoder().encode(`${value}\0`));

/** A nest of attributes (or of any already encoded parts). */
export const attributeNest = (type: number, ...parts: Uint8Array[]): Uint8Array =>
  attribute(type | NLA_F_NESTED, concat(...parts));

/** Calls `visit` for each attribute in `bytes` from `offset` on; a malformed tail ends the walk, as in the kernel. */
function forEachAttribute(bytes: Uint8Array, offset: number, visit: (type: number, value: Uint8Array) => void): void {
  const view = viewOf(bytes);
  let at = offset;
  while (at + NLA_HDRLEN <= bytes.length) {
    const length = view.getUint16(at, true);
    if (length < NLA_HDRLEN || at + length > bytes.length) return;
    visit(view.getUint16(at + 2, true) & NLA_TYPE_MASK, bytes.subarray(at + NLA_HDRLEN, at + length));
    at += align4(length);
  }
}

/** The attributes in `bytes` from `offset` on. */
export function parseAttributes(bytes: Uint8Array, offset = 0): Attributes {
  const out: Attributes = new Map();
  forEachAttribute(bytes, offset, (type, value) => out.set(type, value));
  return out;
}

/** Nested attributes of `type`; none when it is absent. */
export function nest(attributes: Attributes, type: number): Attributes {
  const value = attributes.get(type);
  return value === undefined ? new Map() : parseAttributes(value);
}

/** An unsigned integer of 1, 2, 4 or 8 bytes (exact to 2^53), or `missing` when the attribute is absent. */
export function uint(attributes: Attributes, type: number, missing = 0): number {
  const value = attributes.get(type);
  if (value === undefined) return missing;
  let sum = 0;
  for (let i = value.length - 1; i >= 0; i--) sum = sum * 256 + (value[i] as number);
  return sum;
}

/** A string up to its NUL, or "" when the attribute is absent. */
export function text(attributes: Attributes, type: number): string {
  const value = attributes.get(type);
  return value === undefined ? "" : cString(value);
}

/** The bytes before the first NUL as UTF-8. */
export function cString(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}

/**
 * A netlink socket. It belongs to the network namespace the thread was in when it was created and serves that one
 * from wherever it is used later.
 *
 * A socket either makes requests or, after `join`, receives events: `request` and `dump` on a joined socket throw,
 * since events in between would be lost.
 */
export class NetlinkSocket {
  readonly fd: number;
  private sequence = 1;
  private joined = false;
  private readonly buffer = new Uint8Array(RECEIVE_BYTES);

  /** `protocol`: NETLINK_ROUTE or NETLINK_GENERIC. */
  constructor(protocol: number) {
    const fd = sys.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    if (fd < 0) throw new SysError(-fd, "socket(AF_NETLINK)");
    this.fd = fd;
    try {
      const result = sys.bind(fd, Uint8Array.of(AF_NETLINK, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
      if (result < 0) throw new SysError(-result, "bind(AF_NETLINK)");
      this.option(NETLINK_EXT_ACK, 1, "NETLINK_EXT_ACK");
      this.option(NETLINK_CAP_ACK, 1, "NETLINK_CAP_ACK");
      // Makes the kernel apply dump filters (table, interface) or refuse them, instead of ignoring them. Linux 4.20.
      this.option(NETLINK_GET_STRICT_CHK, 1, "NETLINK_GET_STRICT_CHK");
      const timeout = new BigInt64Array([BigInt(REPLY_TIMEOUT_S), 0n]);
      const set = sys.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, timeout);
      if (set < 0) throw new SysError(-set, "setsockopt(SO_RCVTIMEO)");
    } catch (error) {
      sys.close(fd);
      throw error;
    }
  }

  /**
   * Sends one request and waits for its ack. Returns the messages that came before the ack (those of a GET).
   * `what` names the request in errors ("RTM_NEWLINK veth0"); throws SysError with the kernel's own message.
   */
  request(what: string, type: number, flags: number, body: Uint8Array): NetlinkMessage[] {
    const sequence = this.send(what, type, flags | NLM_F_REQUEST | NLM_F_ACK, body);
    return this.collect(what, sequence).messages;
  }

  /**
   * All objects of a GET request. A dump during which the table changed (NLM_F_DUMP_INTR) is repeated; EINTR when it
   * never was consistent.
   */
  dump(what: string, type: number, body: Uint8Array): NetlinkMessage[] {
    for (let attempt = 0; attempt < DUMP_ATTEMPTS_MAX; attempt++) {
      const sequence = this.send(what, type, NLM_F_REQUEST | NLM_F_DUMP, body);
      const reply = this.collect(what, sequence);
      if (!reply.interrupted) return reply.messages;
    }
    throw new SysError(ERRNO.EINTR, what, "the table kept changing while it was read");
  }

  /** Subscribes to a multicast group (RTNLGRP_*, or a generic-netlink group id). */
  join(group: number): void {
    if (!this.joined) {
      // FORCE exceeds net.core.rmem_max but needs CAP_NET_ADMIN; the plain option takes what it may.
      if (sys.setsockoptInt(this.fd, SOL_SOCKET, SO_RCVBUFFORCE, EVENT_RCVBUF_BYTES) < 0)
        sys.setsockoptInt(this.fd, SOL_SOCKET, SO_RCVBUF, EVENT_RCVBUF_BYTES);
    }
    this.option(NETLINK_ADD_MEMBERSHIP, group, `NETLINK_ADD_MEMBERSHIP ${group}`);
    this.joined = true;
  }

  /**
   * Hands the events that are waiting to `visit`, without blocking, at most `datagramsMax` datagrams. Returns false
   * when events were lost (ENOBUFS): the caller must read its tables anew. Poll `fd` for POLLIN to know when to call.
   */
  receive(visit: (message: NetlinkMessage) => void, datagramsMax = 1024): boolean {
    let complete = true;
    for (let i = 0; i < datagramsMax; i++) {
      const length = this.receiveDatagram(MSG_DONTWAIT);
      if (length === -ERRNO.EAGAIN) return complete;
      if (length === -ERRNO.EINTR) continue;
      // The kernel reports the loss once, then delivers what is still queued.
      if (length === -ERRNO.ENOBUFS) complete = false;
      else if (length < 0) throw new SysError(-length, "recvfrom(AF_NETLINK)");
      else
        this.forEachMessage(length, (message) => {
          if (message.type === NLMSG_OVERRUN) complete = false;
          else visit(message);
        });
    }
    return complete;
  }

  close(): void {
    sys.close(this.fd);
  }

  private option(name: number, value: number, label: string): void {
    const result = sys.setsockoptInt(this.fd, SOL_NETLINK, name, value);
    if (result < 0) throw new SysError(-result, `setsockopt(${label})`);
  }

  private send(what: string, type: number, flags: number, body: Uint8Array): number {
    if (this.joined) throw new Error(`${what}: this netlink socket receives events, use another for requests`);
    const sequence = this.sequence++ >>> 0;
    const message = new Uint8Array(NLMSG_HDRLEN + body.length);
    const view = viewOf(message);
    view.setUint32(0, message.length, true);
    view.setUint16(4, type, true);
    view.setUint16(6, flags, true);
    view.setUint32(8, sequence, true);
    message.set(body, NLMSG_HDRLEN);
    const sent = sys.sendto(this.fd, sys.addressOf(message), message.length, 0, 0, 0);
    if (sent < 0) throw new SysError(-sent, what, HINTS[-sent] ?? "");
    return sequence;
  }

  /** Reads the answer to request `sequence` up to its ack or the end of the dump. */
  private collect(what: string, sequence: number): { messages: NetlinkMessage[]; interrupted: boolean } {
    const messages: NetlinkMessage[] = [];
    let interrupted = false;
    let finished = false;
    while (!finished) {
      const length = this.receiveDatagram(0);
      if (length === -ERRNO.EINTR) continue;
      if (length < 0) throw new SysError(-length, what, length === -ERRNO.EAGAIN ? "the kernel did not answer" : "");
      this.forEachMessage(length, (message, from) => {
        // The rest of an answer nobody waited for (an earlier request that threw half-way).
        if (from !== sequence) return;
        if ((message.flags & NLM_F_DUMP_INTR) !== 0) interrupted = true;
        if (message.type === NLMSG_ERROR || message.type === NLMSG_DONE) {
          finished = true;
          throwIfFailed(what, message);
        } else {
          messages.push(message);
        }
      });
    }
    return { messages, interrupted };
  }

  private receiveDatagram(flags: number): number {
    const length = sys.recvfrom(this.fd, sys.addressOf(this.buffer), RECEIVE_BYTES, flags | MSG_TRUNC, 0, 0);
    return length > RECEIVE_BYTES ? -ERRNO.EMSGSIZE : length;
  }

  private forEachMessage(length: number, visit: (message: NetlinkMessage, sequence: number) => void): void {
    const view = viewOf(this.buffer);
    let at = 0;
    while (at + NLMSG_HDRLEN <= length) {
      const size = view.getUint32(at, true);
      if (size < NLMSG_HDRLEN || at + size > length) return;
      const message = {
        type: view.getUint16(at + 4, true),
        flags: view.getUint16(at + 6, true),
        payload: this.buffer.slice(at + NLMSG_HDRLEN, at + size),
      };
      visit(message, view.getUint32(at + 8, true));
      at += align4(size);
    }
  }
}

/** NLMSG_ERROR: { i32 error; nlmsghdr of the request; [its payload] attributes }. NLMSG_DONE: { i32 error; attributes }. */
function throwIfFailed(what: string, message: NetlinkMessage): void {
  const { payload, flags, type } = message;
  const view = viewOf(payload);
  const error = payload.length >= 4 ? view.getInt32(0, true) : 0;
  if (error >= 0) return;
  let detail = "";
  if ((flags & NLM_F_ACK_TLVS) !== 0) {
    let at = 4;
    if (type === NLMSG_ERROR) at += (flags & NLM_F_CAPPED) !== 0 ? NLMSG_HDRLEN : align4(view.getUint32(4, true));
    detail = text(parseAttributes(payload, at), NLMSGERR_ATTR_MSG);
  }
  throw new SysError(-error, what, HINTS[-error] ?? "", detail);
}
