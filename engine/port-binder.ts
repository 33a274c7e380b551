/**
 * Sockets of the kernel for sockets of the engine: bound to the same address and port with the same options, so that the
 * kernel's own rules decide (ports in use, privileged ports, addresses of the host, same UID for reuseport).
 */
import { sys } from "af-xdp-bindings";
import type { Binder } from "../sockets/binder.ts";
import {
  IP_PKTINFO,
  IP_TOS,
  IP_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_RECVPKTINFO,
  IPV6_TCLASS,
  IPV6_UNICAST_HOPS,
  IPV6_V6ONLY,
  SO_BINDTOIFINDEX,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SOL_SOCKET,
} from "../sockets/options.ts";
import { tosOf, ttlOf } from "../sockets/send-word.ts";
import { readSockaddr, SOCKADDR_IN6_BYTES, writeSockaddr } from "../sockets/sockaddr.ts";
import {
  AF_INET6,
  DEVICE,
  F_REUSEADDR,
  F_REUSEPORT,
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
import { wordsAt } from "../sockets/text-address.ts";
import { RCVBUF_DEFAULT } from "../sockets/udp-open.ts";
import type { NetNs } from "./host/netns.ts";

const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const AF_UNSPEC = 0;

export abstract class PortBinder implements Binder {
  private readonly netns: NetNs;
  private readonly sockaddr = new Uint8Array(SOCKADDR_IN6_BYTES);
  private readonly view = new DataView(this.sockaddr.buffer);
  private readonly option = new Int32Array(1);

  constructor(netns: NetNs) {
    this.netns = netns;
  }

  reserve(table: SocketTable, id: number): number {
    const family = table.get(id, FAMILY);
    const fd = this.netns.run(() => sys.socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (fd < 0) return fd;
    let result = this.prepare(fd, table, id);
    if (result === 0) result = sys.bind(fd, this.address(table, id, LOCAL, table.get(id, LOCAL_PORT)));
    if (result === 0) result = this.readName(fd, table, id);
    if (result === 0) result = this.bound(fd, table, id);
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
    // To the wildcard means to this host itself, by an address that the kernel chooses.
    const [w0, w1, w2, w3] = wordsAt(table, id, REMOTE);
    if (w0 === 0 && w1 === 0 && w3 === 0 && (w2 === 0 || w2 === 0xffff)) {
      this.readAddress(sys.SYS.getpeername, fd, table, id, REMOTE, REMOTE_PORT);
    }
    return (table.get(id, FLAGS) & F_WILDCARD) === 0 ? 0 : this.readName(fd, table, id);
  }

  abstract steer(table: SocketTable, protocol: number, port: number, gone: Int32Array | null): void;

  release(placeholder: number): void {
    sys.close(placeholder);
  }

  close(): void {
    this.netns.close();
  }

  /** Sets the options that it is to be bound with. Returns 0 or -errno. */
  protected prepare(fd: number, table: SocketTable, id: number): number {
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
    this.setReceiveBuffer(fd, table, id);
    return 0;
  }

  /** The kernel's default stays unless another size was asked for; what it made of that is the socket's from then on. */
  private setReceiveBuffer(fd: number, table: SocketTable, id: number): void {
    const wanted = table.rcvbuf[id];
    if (wanted !== RCVBUF_DEFAULT) {
      // Given without what the kernel adds for itself. Beyond net.core.rmem_max it takes CAP_NET_ADMIN.
      const bytes = Math.ceil(wanted / 2);
      if (sys.setsockoptInt(fd, SOL_SOCKET, SO_RCVBUFFORCE, bytes) < 0) {
        sys.setsockoptInt(fd, SOL_SOCKET, SO_RCVBUF, bytes);
      }
    }
    sys.getsockoptInt(fd, SOL_SOCKET, SO_RCVBUF, this.option);
    table.rcvbuf[id] = this.option[0];
  }

  /** Called when it is bound, before anybody may use it. Returns 0 or -errno, which undoes it. */
  protected bound(_fd: number, _table: SocketTable, _id: number): number {
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
    return this.readAddress(sys.SYS.getsockname, fd, table, id, LOCAL, LOCAL_PORT);
  }

  /** Puts what getsockname(2) or getpeername(2) says into fields of the table. Returns 0 or -errno. */
  private readAddress(
    call: number,
    fd: number,
    table: SocketTable,
    id: number,
    addressField: number,
    portField: number,
  ): number {
    const length = new Uint32Array([SOCKADDR_IN6_BYTES]);
    const result = sys.sys3(call, fd, sys.addressOf(this.sockaddr), sys.addressOf(length));
    if (result < 0) return result;
    const words = new Int32Array(4);
    table.set(id, portField, readSockaddr(this.view, words));
    for (let i = 0; i < 4; i++) table.set(id, addressField + i, words[i]);
    return 0;
  }

  private address(table: SocketTable, id: number, field: number, port: number): Uint8Array {
    const family = table.get(id, FAMILY);
    const word = (i: number): number => table.get(id, field + i);
    const length = writeSockaddr(this.view, family, word(0), word(1), word(2), word(3), port);
    return this.sockaddr.subarray(0, length);
  }
}
