/** A TCP socket of the kernel in a test host's namespace: the peer against which the drop-ins are tried. Non-blocking. */
import { check, ERRNO, sys } from "af-xdp-bindings";
import type { NetNs } from "../../engine/host/netns.ts";
import { readSockaddr, SOCKADDR_IN6_BYTES, sockaddrOf } from "../../sockets/sockaddr.ts";
import { AF_INET, AF_INET6 } from "../../sockets/table.ts";
import { ip } from "../../sockets/wire/address.ts";

/** SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC. */
const STREAM = 1 | 0x800 | 0x80000;
const NONBLOCK_CLOEXEC = 0x800 | 0x80000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_RCVBUF = 8;
const SO_LINGER = 13;
const MSG_NOSIGNAL = 0x4000;
const SHUT_WR = 1;
const CHUNK_BYTES = 1 << 18;

export class KernelTcp {
  /** What has come, in order; see take(). */
  readonly received: Buffer[] = [];
  bytes = 0;
  /** The peer sends no more. */
  ended = false;
  /** errno that a read gave; 0: none. */
  error = 0;
  private readonly fd: number;
  private readonly buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  private closed = false;

  private constructor(fd: number) {
    this.fd = fd;
  }

  /** @param receiveBuffer SO_RCVBUF of its connections, bytes; 0: the host's */
  static listen(ns: NetNs, address: string, port = 0, receiveBuffer = 0, backlog = 128): KernelTcp {
    const listener = KernelTcp.open(ns, address);
    if (receiveBuffer > 0) sys.setsockoptInt(listener.fd, SOL_SOCKET, SO_RCVBUF, receiveBuffer);
    sys.setsockoptInt(listener.fd, SOL_SOCKET, SO_REUSEADDR, 1);
    check(sys.bind(listener.fd, sockaddrOf(ip(address), port)), "bind");
    check(sys.sys3(sys.SYS.listen, listener.fd, backlog, 0), "listen");
    return listener;
  }

  /** Begins to connect: what is sent waits with -EAGAIN until it is open. */
  static connect(ns: NetNs, address: string, port: number, receiveBuffer = 0): KernelTcp {
    const socket = KernelTcp.open(ns, address);
    if (receiveBuffer > 0) sys.setsockoptInt(socket.fd, SOL_SOCKET, SO_RCVBUF, receiveBuffer);
    const result = sys.connect(socket.fd, sockaddrOf(ip(address), port));
    if (result !== -ERRNO.EINPROGRESS) check(result, "connect");
    return socket;
  }

  private static open(ns: NetNs, address: string): KernelTcp {
    const family = address.includes(":") ? AF_INET6 : AF_INET;
    return new KernelTcp(
      check(
        ns.run(() => sys.socket(family, STREAM, 0)),
        "socket",
      ),
    );
  }

  get port(): number {
    const sockaddr = new Uint8Array(SOCKADDR_IN6_BYTES);
    const length = Uint32Array.of(sockaddr.length);
    check(sys.sys3(sys.SYS.getsockname, this.fd, sys.addressOf(sockaddr), sys.addressOf(length)), "getsockname");
    return readSockaddr(new DataView(sockaddr.buffer), new Int32Array(4));
  }

  /** A connection that waits, or null. */
  accept(): KernelTcp | null {
    const fd = sys.sys6(sys.SYS.accept4, this.fd, 0, 0, NONBLOCK_CLOEXEC, 0, 0);
    return fd < 0 ? null : new KernelTcp(fd);
  }

  /** Bytes taken, or -errno. */
  send(data: string | Uint8Array): number {
    const bytes = typeof data === "string" ? Buffer.from(data) : data;
    return sys.sendto(this.fd, sys.addressOf(bytes), bytes.length, MSG_NOSIGNAL, 0, 0);
  }

  /** Reads what is there. Returns whether anything was. */
  pull(most = Number.POSITIVE_INFINITY): boolean {
    let any = false;
    for (let left = most; left > 0 && !this.ended && this.error === 0; ) {
      const size = sys.recvfrom(this.fd, sys.addressOf(this.buffer), Math.min(left, CHUNK_BYTES), 0, 0, 0);
      if (size === -ERRNO.EAGAIN) break;
      any = true;
      if (size < 0) this.error = -size;
      else if (size === 0) this.ended = true;
      else this.keep(size);
      left -= Math.max(size, 0);
    }
    return any;
  }

  /** All that has come so far, as text. */
  get text(): string {
    this.pull();
    return Buffer.concat(this.received).toString();
  }

  end(): void {
    sys.sys3(sys.SYS.shutdown, this.fd, SHUT_WR, 0);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    sys.close(this.fd);
  }

  /** Closes with a RST. */
  reset(): void {
    sys.setsockopt(this.fd, SOL_SOCKET, SO_LINGER, Int32Array.of(1, 0));
    this.close();
  }

  private keep(size: number): void {
    this.bytes += size;
    this.received.push(Buffer.from(this.buffer.subarray(0, size)));
  }
}
