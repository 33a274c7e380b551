/**
 * The slow way out: a datagram whose next hop only the kernel knows (another interface, no neighbour entry yet, loopback,
 * multicast, larger than the MTU) is sent through the socket's placeholder, which is bound to the same address and port.
 * The kernel resolves the neighbour on the way, so the next datagram usually takes the fast path.
 */
import { sys } from "af-xdp-bindings";
import { SOCKADDR_IN6_BYTES, writeSockaddr } from "./sockaddr.ts";

const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;

export class KernelPath {
  private readonly sockaddr = new Uint8Array(SOCKADDR_IN6_BYTES);
  private readonly view = new DataView(this.sockaddr.buffer);
  private readonly sockaddrAddress = sys.addressOf(this.sockaddr);

  /**
   * Sends `length` bytes at a memory address through the placeholder `fd` of an IPv4 or IPv6 socket. The destination is
   * four words, IPv4 mapped. Returns the length, or the kernel's -errno.
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
}
