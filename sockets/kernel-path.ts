/**
 * The slow way out: a datagram whose next hop only the kernel knows (another interface, no neighbour entry yet, loopback,
 * multicast, larger than the MTU) is sent through the socket's placeholder, which is bound to the same address and port.
 * The kernel resolves the neighbour on the way, so the next datagram usually takes the fast path.
 */
import { sys } from "af-xdp-bindings";
import {
  IOVEC_BYTES,
  IOVEC_LENGTH,
  MSG_CONTROL,
  MSG_CONTROLLEN,
  MSG_IOV,
  MSG_IOVLEN,
  MSG_NAME,
  MSG_NAMELEN,
  MSGHDR_BYTES,
  putAddress,
} from "./msghdr.ts";
import { SOCKADDR_IN6_BYTES, writeSockaddr } from "./sockaddr.ts";
import { AF_INET } from "./table.ts";

const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;

const IPPROTO_IP = 0;
const IPPROTO_IPV6 = 41;
const IP_PKTINFO = 8;
const IPV6_PKTINFO = 50;

/** struct cmsghdr: u64 length, i32 level, i32 type, then the data. */
const CMSG_LEVEL = 8;
const CMSG_TYPE = 12;
const CMSG_DATA = 16;
/** struct in_pktinfo { i32 interface; be32 source; be32 }, struct in6_pktinfo { u8 source[16]; u32 interface }. */
const PKTINFO_BYTES = 12;
const PKTINFO6_BYTES = 20;
const CONTROL_BYTES = 40;

export class KernelPath {
  private readonly sockaddr = new Uint8Array(SOCKADDR_IN6_BYTES);
  private readonly view = new DataView(this.sockaddr.buffer);
  private readonly sockaddrAddress = sys.addressOf(this.sockaddr);
  private readonly control = new DataView(new ArrayBuffer(CONTROL_BYTES));
  private readonly vector = new DataView(new ArrayBuffer(IOVEC_BYTES));
  private readonly message = new DataView(new ArrayBuffer(MSGHDR_BYTES));
  private readonly messageAddress = sys.addressOf(this.message);

  constructor() {
    putAddress(this.message, MSG_NAME, this.sockaddrAddress);
    putAddress(this.message, MSG_IOV, sys.addressOf(this.vector));
    this.message.setUint32(MSG_IOVLEN, 1, true);
    putAddress(this.message, MSG_CONTROL, sys.addressOf(this.control));
  }

  /**
   * Sends `length` bytes at a memory address through the placeholder `fd` of an IPv4 or IPv6 socket. The destination is
   * four words, IPv4 mapped. The kernel chooses the source. Returns the length, or the kernel's -errno.
   */
  send(
    fd: number,
    family: number,
    address: number,
    length: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    port: number,
  ): number {
    const addressLength = writeSockaddr(this.view, family, w0, w1, w2, w3, port);
    return sys.sendto(fd, address, length, MSG_DONTWAIT | MSG_NOSIGNAL, this.sockaddrAddress, addressLength);
  }

  /** The source of the next sendFrom(): four words, IPv4 mapped. */
  setSource(family: number, s0: number, s1: number, s2: number, s3: number): void {
    const { control, message } = this;
    const v4 = family === AF_INET;
    const bytes = CMSG_DATA + (v4 ? PKTINFO_BYTES : PKTINFO6_BYTES);
    control.setUint32(0, bytes, true);
    control.setInt32(CMSG_LEVEL, v4 ? IPPROTO_IP : IPPROTO_IPV6, true);
    control.setInt32(CMSG_TYPE, v4 ? IP_PKTINFO : IPV6_PKTINFO, true);
    if (v4) {
      control.setInt32(CMSG_DATA, 0);
      control.setInt32(CMSG_DATA + 4, s3);
      control.setInt32(CMSG_DATA + 8, 0);
    } else {
      control.setInt32(CMSG_DATA, s0);
      control.setInt32(CMSG_DATA + 4, s1);
      control.setInt32(CMSG_DATA + 8, s2);
      control.setInt32(CMSG_DATA + 12, s3);
      control.setInt32(CMSG_DATA + 16, 0);
    }
    // CMSG_SPACE: the length rounded up to whole words of 64 bits.
    message.setUint32(MSG_CONTROLLEN, (bytes + 7) & ~7, true);
  }

  /** send() from the address given to setSource(): an answer leaves from where it was asked (ip(7), IP_PKTINFO). */
  sendFrom(
    fd: number,
    family: number,
    address: number,
    length: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    port: number,
  ): number {
    this.message.setUint32(MSG_NAMELEN, writeSockaddr(this.view, family, w0, w1, w2, w3, port), true);
    putAddress(this.vector, 0, address);
    this.vector.setUint32(IOVEC_LENGTH, length, true);
    return sys.sys3(sys.SYS.sendmsg, fd, this.messageAddress, MSG_DONTWAIT | MSG_NOSIGNAL);
  }
}
