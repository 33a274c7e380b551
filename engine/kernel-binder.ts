/**
 * Binding beside the kernel: a placeholder socket holds each port, so that the kernel's own rules decide (ports in use,
 * privileged ports, addresses of the host, same UID for reuseport), and the XDP program's maps steer it here.
 *
 * What the program passes on all the same (fragments, multicast, a frame that came before its port was steered) arrives
 * at the placeholder. The control thread reads it there and delivers it.
 */
import { sys } from "af-xdp-bindings";
import type { Binder } from "../sockets/binder.ts";
import { addressBytes } from "../sockets/fib.ts";
import { tosOf, ttlOf } from "../sockets/send-word.ts";
import { readSockaddr, SOCKADDR_IN6_BYTES, writeSockaddr } from "../sockets/sockaddr.ts";
import {
  AF_INET6,
  DEVICE,
  F_REUSEADDR,
  F_REUSEPORT,
  F_TIMESTAMP,
  F_V6ONLY,
  F_WILDCARD,
  FAMILY,
  FLAGS,
  LOCAL,
  LOCAL_PORT,
  PLACEHOLDER,
  REMOTE,
  REMOTE_PORT,
  type SocketTable,
} from "../sockets/table.ts";
import type { NetNs } from "./host/netns.ts";
import { STAMP, V4_ANY, V6_ANY } from "./steering/layout.ts";
import type { Steering } from "./steering/program.ts";

const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_REUSEPORT = 15;
const SO_BINDTOIFINDEX = 62;
const IPPROTO_IP = 0;
const IPPROTO_IPV6 = 41;
const IP_TOS = 1;
const IP_TTL = 2;
const IP_PKTINFO = 8;
const IPV6_UNICAST_HOPS = 16;
const IPV6_V6ONLY = 26;
const IPV6_RECVPKTINFO = 49;
const IPV6_TCLASS = 67;
const EPOLL_CTL_ADD = 1;
const EPOLLIN = 1;
const AF_UNSPEC = 0;

export class KernelBinder implements Binder {
  private readonly netns: NetNs;
  private readonly steering: Steering;
  /** epoll instance of the control thread, to which placeholders are added. */
  private readonly epoll: number;
  private readonly sockaddr = new Uint8Array(SOCKADDR_IN6_BYTES);
  private readonly view = new DataView(this.sockaddr.buffer);

  constructor(netns: NetNs, steering: Steering, epoll: number) {
    this.netns = netns;
    this.steering = steering;
    this.epoll = epoll;
  }

  reserve(table: SocketTable, id: number): number {
    const family = table.get(id, FAMILY);
    const fd = this.netns.run(() => sys.socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (fd < 0) return fd;
    let result = this.prepare(fd, table, id);
    if (result === 0) result = sys.bind(fd, this.address(table, id, LOCAL, table.get(id, LOCAL_PORT)));
    if (result === 0) result = this.readName(fd, table, id);
    if (result === 0) result = this.watch(fd, id);
    if (result < 0) {
      sys.close(fd);
      return result;
    }
    table.set(id, PLACEHOLDER, fd);
    return 0;
  }

  connect(table: SocketTable, id: number): number {
    const fd = table.get(id, PLACEHOLDER);
    const port = table.get(id, REMOTE_PORT);
    if (port === 0) {
      this.sockaddr.fill(0);
      this.view.setUint16(0, AF_UNSPEC, true);
      const result = sys.connect(fd, this.sockaddr.subarray(0, 16));
      return result < 0 ? result : this.keepPort(fd, table, id);
    }
    const result = sys.connect(fd, this.address(table, id, REMOTE, port));
    if (result < 0) return result;
    return (table.get(id, FLAGS) & F_WILDCARD) === 0 ? 0 : this.readName(fd, table, id);
  }

  steer(table: SocketTable, protocol: number, port: number, gone: Int32Array | null): void {
    const steered = protocol as 6 | 17;
    let any = 0;
    let stamp = 0;
    const bound = new Map<string, { bytes: Uint8Array; flags: number }>();
    for (let id = table.firstBound(protocol, port); id >= 0; id = table.nextBound(id)) {
      const flags = table.get(id, FLAGS);
      const wantsStamp = (flags & F_TIMESTAMP) === 0 ? 0 : STAMP;
      if (table.isAny(id)) {
        stamp |= wantsStamp;
        if (table.isV4(id)) any |= V4_ANY;
        else any |= (flags & F_V6ONLY) === 0 ? V4_ANY | V6_ANY : V6_ANY;
        continue;
      }
      const bytes = this.localBytes(table, id);
      const key = bytes.join();
      const before = bound.get(key)?.flags ?? 0;
      bound.set(key, { bytes, flags: before | wantsStamp });
    }
    for (const { bytes, flags } of bound.values()) {
      if (isUnicast(bytes)) this.steering.bindAddress(steered, familyOf(bytes), bytes, port, flags);
    }
    this.steering.setPort(steered, port, any === 0 ? 0 : any | stamp);
    if (gone === null) return;
    const bytes = addressBytes(gone[0], gone[1], gone[2], gone[3]);
    if (!bound.has(bytes.join()) && isUnicast(bytes))
      this.steering.unbindAddress(steered, familyOf(bytes), bytes, port);
  }

  release(placeholder: number): void {
    sys.close(placeholder);
  }

  close(): void {
    this.steering.close();
    this.netns.close();
  }

  private prepare(fd: number, table: SocketTable, id: number): number {
    const flags = table.get(id, FLAGS);
    const v6 = table.get(id, FAMILY) === AF_INET6;
    const options: [number, number, number][] = [
      [SOL_SOCKET, SO_REUSEADDR, flags & F_REUSEADDR ? 1 : 0],
      [SOL_SOCKET, SO_REUSEPORT, flags & F_REUSEPORT ? 1 : 0],
      v6 ? [IPPROTO_IPV6, IPV6_RECVPKTINFO, 1] : [IPPROTO_IP, IP_PKTINFO, 1],
      [IPPROTO_IP, IP_TTL, ttlOf(table.ttlTos[id])],
      [IPPROTO_IP, IP_TOS, tosOf(table.ttlTos[id])],
    ];
    if (v6) {
      options.push(
        [IPPROTO_IPV6, IPV6_V6ONLY, flags & F_V6ONLY ? 1 : 0],
        [IPPROTO_IP, IP_PKTINFO, 1],
        [IPPROTO_IPV6, IPV6_UNICAST_HOPS, ttlOf(table.ttlTos6[id])],
        [IPPROTO_IPV6, IPV6_TCLASS, tosOf(table.ttlTos6[id])],
      );
    }
    if (table.get(id, DEVICE) !== 0) options.push([SOL_SOCKET, SO_BINDTOIFINDEX, table.get(id, DEVICE)]);
    for (const [level, name, value] of options) {
      const result = sys.setsockoptInt(fd, level, name, value);
      if (result < 0) return result;
    }
    return 0;
  }

  /**
   * Dissolving a connection gives up a port that the kernel chose itself (__udp_disconnect in net/ipv4/udp.c): takes it
   * again. Returns -EADDRINUSE when another socket was quicker.
   */
  private keepPort(fd: number, table: SocketTable, id: number): number {
    const port = table.get(id, LOCAL_PORT);
    const before = [0, 1, 2, 3].map((i) => table.get(id, LOCAL + i));
    let result = this.readName(fd, table, id);
    if (result < 0 || table.get(id, LOCAL_PORT) === port) return result;
    result = sys.bind(fd, this.address(table, id, LOCAL, port));
    table.set(id, LOCAL_PORT, port);
    if (result < 0) before.forEach((word, i) => void table.set(id, LOCAL + i, word));
    return result;
  }

  /** What the kernel bound: the port it chose, or the address that connect() narrowed the wildcard to. */
  private readName(fd: number, table: SocketTable, id: number): number {
    const length = new Uint32Array([SOCKADDR_IN6_BYTES]);
    const result = sys.sys3(sys.SYS.getsockname, fd, sys.addressOf(this.sockaddr), sys.addressOf(length));
    if (result < 0) return result;
    const words = new Int32Array(4);
    table.set(id, LOCAL_PORT, readSockaddr(this.view, words));
    for (let i = 0; i < 4; i++) table.set(id, LOCAL + i, words[i]);
    return 0;
  }

  private watch(fd: number, id: number): number {
    // struct epoll_event is packed on x86-64 and aligned on arm64: the data word lies at 4 or 8.
    const event = new Uint8Array(16);
    const view = new DataView(event.buffer);
    view.setUint32(0, EPOLLIN, true);
    view.setUint32(process.arch === "x64" ? 4 : 8, id, true);
    return sys.sys6(sys.SYS.epoll_ctl, this.epoll, EPOLL_CTL_ADD, fd, sys.addressOf(event), 0, 0);
  }

  private address(table: SocketTable, id: number, field: number, port: number): Uint8Array {
    const family = table.get(id, FAMILY);
    const word = (i: number): number => table.get(id, field + i);
    const length = writeSockaddr(this.view, family, word(0), word(1), word(2), word(3), port);
    return this.sockaddr.subarray(0, length);
  }

  private localBytes(table: SocketTable, id: number): Uint8Array {
    const word = (i: number): number => table.get(id, LOCAL + i);
    return addressBytes(word(0), word(1), word(2), word(3));
  }
}

const familyOf = (bytes: Uint8Array): 4 | 6 => (bytes.length === 4 ? 4 : 6);

/** Group addresses are the kernel's to receive: it knows who joined. */
function isUnicast(bytes: Uint8Array): boolean {
  if (bytes.length === 4)
    return bytes[0] >> 4 !== 14 && !bytes.every((byte) => byte === 255) && bytes.some((b) => b > 0);
  return bytes[0] !== 0xff && bytes.some((byte) => byte > 0);
}
