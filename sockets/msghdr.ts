/**
 * struct msghdr with what it points to (recvmsg(2), sendmsg(2), cmsg(3)), set up once and used for every message.
 *
 * Layouts are those of LP64 (include/linux/socket.h): pointers and lengths are 64 bits, the length of the name 32.
 */
import { sys } from "af-xdp-bindings";
import {
  IP_PKTINFO,
  IP_TOS,
  IP_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_HOPLIMIT,
  IPV6_PKTINFO,
  IPV6_TCLASS,
} from "./options.ts";
import { SOCKADDR_IN6_BYTES } from "./sockaddr.ts";

/** Flags of send(2) and recv(2). */
export const MSG_DONTWAIT = 0x40;
export const MSG_NOSIGNAL = 0x4000;

export const MSG_NAME = 0;
export const MSG_NAMELEN = 8;
export const MSG_IOV = 16;
export const MSG_IOVLEN = 24;
export const MSG_CONTROL = 32;
export const MSG_CONTROLLEN = 40;
export const MSG_FLAGS = 48;
export const MSGHDR_BYTES = 56;
/** struct iovec: address and length, 64 bits each. */
export const IOVEC_LENGTH = 8;
export const IOVEC_BYTES = 16;

/** struct cmsghdr: u64 length, i32 level, i32 type, then the data; the next one begins at a multiple of 8. */
const CMSG_LEVEL = 8;
const CMSG_TYPE = 12;
export const CMSG_DATA = 16;
/** struct in_pktinfo { i32 interface; be32 source; be32 destination }, struct in6_pktinfo { u8 address[16]; u32 interface }. */
export const PKTINFO_BYTES = 12;
export const PKTINFO6_BYTES = 20;

const CONTROL_BYTES = 512;

/** CMSG_SPACE(3) of `bytes` of data. */
export const controlSpace = (bytes: number): number => (CMSG_DATA + bytes + 7) & ~7;

/** Writes a 64-bit address without a BigInt: addresses are below 2^53. */
export function putAddress(view: DataView, at: number, address: number): void {
  view.setUint32(at, address >>> 0, true);
  view.setUint32(at + 4, Math.floor(address / 2 ** 32), true);
}

export class MessageHeader {
  /** struct sockaddr_in or sockaddr_in6. */
  readonly nameView = new DataView(new ArrayBuffer(SOCKADDR_IN6_BYTES));
  readonly controlView = new DataView(new ArrayBuffer(CONTROL_BYTES));
  private readonly header = new DataView(new ArrayBuffer(MSGHDR_BYTES));
  private readonly headerAddress = sys.addressOf(this.header);
  private readonly vector = new DataView(new ArrayBuffer(IOVEC_BYTES));
  /** Bytes of control messages: written so far, or received. */
  private controlLength = 0;

  constructor() {
    const { header } = this;
    putAddress(header, MSG_NAME, sys.addressOf(this.nameView));
    putAddress(header, MSG_IOV, sys.addressOf(this.vector));
    header.setUint32(MSG_IOVLEN, 1, true);
    putAddress(header, MSG_CONTROL, sys.addressOf(this.controlView));
  }

  /** recvmsg(2) into `length` bytes at a memory address. Returns the bytes received, or -errno. */
  receive(fd: number, address: number, length: number, flags: number): number {
    const { header } = this;
    putAddress(this.vector, 0, address);
    this.vector.setUint32(IOVEC_LENGTH, length, true);
    // The kernel overwrites the lengths with what it filled.
    header.setUint32(MSG_NAMELEN, SOCKADDR_IN6_BYTES, true);
    header.setUint32(MSG_CONTROLLEN, CONTROL_BYTES, true);
    header.setUint32(MSG_FLAGS, 0, true);
    const result = sys.sys3(sys.SYS.recvmsg, fd, this.headerAddress, flags);
    this.controlLength = result < 0 ? 0 : header.getUint32(MSG_CONTROLLEN, true);
    return result;
  }

  /** sendmsg(2) of `length` bytes at a memory address, to the name (of `nameLength` bytes; 0: none), with the controls. */
  send(fd: number, address: number, length: number, nameLength: number, flags: number): number {
    const { header } = this;
    putAddress(this.vector, 0, address);
    this.vector.setUint32(IOVEC_LENGTH, length, true);
    header.setUint32(MSG_NAMELEN, nameLength, true);
    header.setUint32(MSG_CONTROLLEN, this.controlLength, true);
    return sys.sys3(sys.SYS.sendmsg, fd, this.headerAddress, flags);
  }

  // ---- control messages received: offsets into controlView ----

  /** All of them, as received. */
  get controls(): Uint8Array {
    return new Uint8Array(this.controlView.buffer, 0, this.controlLength);
  }

  /** The first control message, -1 for none. */
  firstControl(): number {
    return this.validControl(0);
  }

  nextControl(at: number): number {
    return this.validControl(at + ((this.controlView.getUint32(at, true) + 7) & ~7));
  }

  controlLevel(at: number): number {
    return this.controlView.getInt32(at + CMSG_LEVEL, true);
  }

  controlType(at: number): number {
    return this.controlView.getInt32(at + CMSG_TYPE, true);
  }

  /** Where its data begin. */
  controlData(at: number): number {
    return at + CMSG_DATA;
  }

  controlInt(at: number): number {
    return this.controlView.getInt32(at + CMSG_DATA, true);
  }

  /** A view of the control messages from an offset on: for a sockaddr among the data. */
  viewFrom(at: number): DataView {
    return new DataView(this.controlView.buffer, Math.min(at, CONTROL_BYTES - SOCKADDR_IN6_BYTES));
  }

  /** IP_PKTINFO: the address in the header into four words, IPv4 mapped. Returns the interface. */
  readPktinfo(at: number, words: Int32Array): number {
    words[0] = 0;
    words[1] = 0;
    words[2] = 0xffff;
    words[3] = this.controlView.getInt32(at + CMSG_DATA + 8);
    return this.controlInt(at);
  }

  /** IPV6_PKTINFO. */
  readPktinfo6(at: number, words: Int32Array): number {
    for (let i = 0; i < 4; i++) words[i] = this.controlView.getInt32(at + CMSG_DATA + 4 * i);
    return this.controlView.getInt32(at + CMSG_DATA + 16, true);
  }

  private validControl(at: number): number {
    return at + CMSG_DATA <= this.controlLength && this.controlView.getUint32(at, true) >= CMSG_DATA ? at : -1;
  }

  // ---- control messages to send ----

  clearControls(): void {
    this.controlLength = 0;
  }

  /** IP_PKTINFO: source address of an IPv4 packet (0: any) and interface (0: any) to send by. */
  addPktinfo(address: number, ifindex: number): void {
    const data = this.addControl(IPPROTO_IP, IP_PKTINFO, PKTINFO_BYTES);
    this.controlView.setInt32(data, ifindex, true);
    this.controlView.setInt32(data + 4, address);
    this.controlView.setInt32(data + 8, 0);
  }

  /** IPV6_PKTINFO. */
  addPktinfo6(w0: number, w1: number, w2: number, w3: number, ifindex: number): void {
    const data = this.addControl(IPPROTO_IPV6, IPV6_PKTINFO, PKTINFO6_BYTES);
    this.controlView.setInt32(data, w0);
    this.controlView.setInt32(data + 4, w1);
    this.controlView.setInt32(data + 8, w2);
    this.controlView.setInt32(data + 12, w3);
    this.controlView.setInt32(data + 16, ifindex, true);
  }

  /** IP_TTL and IP_TOS, or IPV6_HOPLIMIT and IPV6_TCLASS. */
  addTtlTos(mapped: boolean, ttl: number, tos: number): void {
    const level = mapped ? IPPROTO_IP : IPPROTO_IPV6;
    this.controlView.setInt32(this.addControl(level, mapped ? IP_TTL : IPV6_HOPLIMIT, 4), ttl, true);
    this.controlView.setInt32(this.addControl(level, mapped ? IP_TOS : IPV6_TCLASS, 4), tos, true);
  }

  /** A control message of 16 bits. */
  addUint16(level: number, type: number, value: number): void {
    this.controlView.setUint16(this.addControl(level, type, 2), value, true);
  }

  /** Room for a control message. Returns where its data begin. */
  private addControl(level: number, type: number, bytes: number): number {
    const at = this.controlLength;
    this.controlView.setUint32(at, CMSG_DATA + bytes, true);
    this.controlView.setUint32(at + 4, 0, true);
    this.controlView.setInt32(at + CMSG_LEVEL, level, true);
    this.controlView.setInt32(at + CMSG_TYPE, type, true);
    this.controlLength = at + controlSpace(bytes);
    return at + CMSG_DATA;
  }
}
