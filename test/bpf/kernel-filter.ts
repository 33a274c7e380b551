/** What the kernel makes of classic programs: a pair of sockets, the receiving one with the filter attached. */
import { check, ERRNO, sys } from "af-xdp-bindings";
import { type SockFilter, sockFprog } from "../../sockets/bpf/classic.ts";

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOL_SOCKET = 1;
const SO_ATTACH_FILTER = 26;
const SO_DETACH_FILTER = 27;
const MSG_DONTWAIT = 0x40;
const BUFFER_BYTES = 65536;

/** Attaches a program to a socket. Returns 0 or -errno. */
export function attachFilter(fd: number, program: readonly SockFilter[]): number {
  return sys.setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, sockFprog(program));
}

export class KernelFilter {
  private readonly sender: number;
  private readonly receiver: number;
  private readonly buffer = new Uint8Array(BUFFER_BYTES);
  private readonly bufferAddress = sys.addressOf(this.buffer);

  constructor() {
    const fds = new Int32Array(2);
    check(sys.sys6(sys.SYS.socketpair, AF_UNIX, SOCK_DGRAM, 0, sys.addressOf(fds), 0, 0), "socketpair");
    this.sender = fds[0];
    this.receiver = fds[1];
  }

  /** Attaches a program. Returns 0 or -errno. */
  attach(program: readonly SockFilter[]): number {
    return attachFilter(this.receiver, program);
  }

  detach(): void {
    sys.setsockoptInt(this.receiver, SOL_SOCKET, SO_DETACH_FILTER, 0);
  }

  /** Bytes of the packet that come through; -1 when it is dropped. `address` is that of its first byte. */
  kept(address: number, length: number): number {
    check(sys.sendto(this.sender, address, length, MSG_DONTWAIT, 0, 0), "send");
    const got = sys.recvfrom(this.receiver, this.bufferAddress, BUFFER_BYTES, MSG_DONTWAIT, 0, 0);
    return got === -ERRNO.EAGAIN ? -1 : check(got, "recv");
  }

  close(): void {
    sys.close(this.sender);
    sys.close(this.receiver);
  }
}
