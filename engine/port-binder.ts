/**
 * Sockets of the kernel for sockets of the engine: opened, bound and connected as they are, with the same options, so that
 * the kernel's own rules decide (ports in use, privileged ports, addresses of the host, same UID for reuseport).
 */
import { sys } from "af-xdp-bindings";
import type { Binder, Binding } from "../sockets/binder.ts";
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
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SOL_SOCKET,
} from "../sockets/options.ts";
import { withFlag, withTtl } from "../sockets/send-word.ts";
import { readSockaddr, SOCKADDR_IN6_BYTES } from "../sockets/sockaddr.ts";
import {
  AF_INET6,
  DEVICE,
  F_CHOSEN_PORT,
  F_REUSEADDR,
  F_REUSEPORT,
  F_V6ONLY,
  FAMILY,
  FLAGS,
  IPPROTO_TCP,
  PLACEHOLDER,
  PROTOCOL,
  SNDBUF,
  type SocketTable,
} from "../sockets/table.ts";
import type { OpenOptions } from "../sockets/udp-open.ts";
import type { NetNs } from "./host/netns.ts";
import { listenDeaf, prepareStream, stopListening } from "./stream-placeholder.ts";

const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;

export abstract class PortBinder implements Binder {
  private readonly netns: NetNs;
  private readonly sockaddr = new Uint8Array(SOCKADDR_IN6_BYTES);
  private readonly view = new DataView(this.sockaddr.buffer);
  private readonly length = new Uint32Array(1);
  private readonly option = new Int32Array(1);

  constructor(netns: NetNs) {
    this.netns = netns;
  }

  open(table: SocketTable, id: number, options: OpenOptions): number {
    const family = table.get(id, FAMILY);
    const isStream = table.get(id, PROTOCOL) === IPPROTO_TCP;
    const type = (isStream ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC;
    const fd = this.netns.run(() => sys.socket(family, type, 0));
    if (fd < 0) return fd;
    const result = isStream ? this.openStream(fd, table, id, options) : this.openDatagram(fd, table, id, options);
    if (result < 0) {
      sys.close(fd);
      return result;
    }
    table.set(id, PLACEHOLDER, fd);
    return 0;
  }

  bind(table: SocketTable, id: number, address: Uint8Array, binding: Binding): number {
    const fd = table.get(id, PLACEHOLDER);
    const result = sys.bind(fd, address);
    if (result < 0) return result;
    this.readLocal(fd, table, id, binding);
    // What is connected cannot be bound.
    binding.remote.fill(0);
    binding.remotePort = 0;
    return 0;
  }

  connect(table: SocketTable, id: number, address: Uint8Array, binding: Binding): number {
    const result = sys.connect(table.get(id, PLACEHOLDER), address);
    this.readNames(table, id, binding);
    return result;
  }

  listen(table: SocketTable, id: number, backlog: number, binding: Binding): number {
    const result = listenDeaf(table.get(id, PLACEHOLDER), backlog);
    this.readNames(table, id, binding);
    return result;
  }

  unlisten(table: SocketTable, id: number, binding: Binding): void {
    stopListening(table.get(id, PLACEHOLDER));
    this.readNames(table, id, binding);
    // getsockname(2) still tells the port that it had (inet_sport).
    if ((table.get(id, FLAGS) & F_CHOSEN_PORT) !== 0) binding.localPort = 0;
  }

  readNames(table: SocketTable, id: number, binding: Binding): void {
    const fd = table.get(id, PLACEHOLDER);
    this.readLocal(fd, table, id, binding);
    binding.remotePort = this.readName(sys.SYS.getpeername, fd, binding.remote);
  }

  abstract steer(table: SocketTable, protocol: number, port: number, gone: Int32Array | null): void;

  release(placeholder: number): void {
    sys.close(placeholder);
  }

  close(): void {
    this.netns.close();
  }

  private openDatagram(fd: number, table: SocketTable, id: number, options: OpenOptions): number {
    const result = this.prepare(fd, table, id, options);
    return result === 0 ? this.opened(fd, table, id) : result;
  }

  /** Makes a TCP socket's placeholder ready: of its options only those count that decide over ports. Returns 0 or -errno. */
  protected openStream(fd: number, table: SocketTable, id: number, { ipv6Only }: OpenOptions): number {
    const result = prepareStream(fd, table, id, ipv6Only);
    if (result === 0 && table.get(id, FAMILY) === AF_INET6) this.readV6only(fd, table, id);
    return result;
  }

  private readV6only(fd: number, table: SocketTable, id: number): void {
    const only = this.read(fd, IPPROTO_IPV6, IPV6_V6ONLY) !== 0;
    table.set(id, FLAGS, withFlag(table.get(id, FLAGS), F_V6ONLY, only));
  }

  /** Sets the options that it is to be opened with, and reads what the host gives where none are. Returns 0 or -errno. */
  protected prepare(fd: number, table: SocketTable, id: number, options: OpenOptions): number {
    const flags = table.get(id, FLAGS);
    const v6 = table.get(id, FAMILY) === AF_INET6;
    const { ipv6Only, tos, ttl } = options;
    const wanted: [number, number, number][] = [v6 ? [IPPROTO_IPV6, IPV6_RECVPKTINFO, 1] : [IPPROTO_IP, IP_PKTINFO, 1]];
    if (v6) wanted.push([IPPROTO_IP, IP_PKTINFO, 1]);
    if (flags & F_REUSEADDR) wanted.push([SOL_SOCKET, SO_REUSEADDR, 1]);
    if (flags & F_REUSEPORT) wanted.push([SOL_SOCKET, SO_REUSEPORT, 1]);
    if (ttl !== undefined) wanted.push([IPPROTO_IP, IP_TTL, ttl]);
    if (ttl !== undefined && v6) wanted.push([IPPROTO_IPV6, IPV6_UNICAST_HOPS, ttl]);
    if (tos !== undefined) wanted.push([IPPROTO_IP, IP_TOS, tos]);
    if (tos !== undefined && v6) wanted.push([IPPROTO_IPV6, IPV6_TCLASS, tos]);
    if (v6 && ipv6Only !== undefined) wanted.push([IPPROTO_IPV6, IPV6_V6ONLY, ipv6Only ? 1 : 0]);
    if (table.get(id, DEVICE) !== 0) wanted.push([SOL_SOCKET, SO_BINDTOIFINDEX, table.get(id, DEVICE)]);
    for (const [level, name, value] of wanted) {
      const result = sys.setsockoptInt(fd, level, name, value);
      if (result < 0) return result;
    }
    if (ttl === undefined) {
      table.ttlTos[id] = withTtl(table.ttlTos[id], this.read(fd, IPPROTO_IP, IP_TTL));
      if (v6) table.ttlTos6[id] = withTtl(table.ttlTos6[id], this.read(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS));
    }
    if (v6 && ipv6Only === undefined) this.readV6only(fd, table, id);
    this.setBuffer(fd, options.receiveBuffer, SO_RCVBUFFORCE, SO_RCVBUF);
    this.setBuffer(fd, options.sendBuffer, SO_SNDBUFFORCE, SO_SNDBUF);
    table.rcvbuf[id] = this.read(fd, SOL_SOCKET, SO_RCVBUF);
    table.set(id, SNDBUF, this.read(fd, SOL_SOCKET, SO_SNDBUF));
    return 0;
  }

  /** The host's default stays unless another size was asked for; what the kernel makes of that is the socket's from then on. */
  private setBuffer(fd: number, wanted: number | undefined, force: number, within: number): void {
    if (wanted === undefined) return;
    // Given without what the kernel adds for itself. Beyond the host's bound it takes CAP_NET_ADMIN.
    const bytes = Math.ceil(wanted / 2);
    if (sys.setsockoptInt(fd, SOL_SOCKET, force, bytes) < 0) sys.setsockoptInt(fd, SOL_SOCKET, within, bytes);
  }

  /** Called when it is made, before anybody may use it. Returns 0 or -errno, which undoes it. */
  protected opened(_fd: number, _table: SocketTable, _id: number): number {
    return 0;
  }

  private read(fd: number, level: number, name: number): number {
    return sys.getsockoptInt(fd, level, name, this.option) < 0 ? 0 : this.option[0];
  }

  private readLocal(fd: number, table: SocketTable, id: number, binding: Binding): void {
    binding.localPort = this.readName(sys.SYS.getsockname, fd, binding.local);
    // A scope id binds the socket to its interface; dissolving a connection gives up the interface.
    const isLinkLocal = binding.local[0] >>> 22 === 0x3fa;
    binding.device = isLinkLocal || table.get(id, DEVICE) !== 0 ? this.read(fd, SOL_SOCKET, SO_BINDTOIFINDEX) : 0;
  }

  /** Puts what getsockname(2) or getpeername(2) says into four words. Returns the port; 0 and zeros where there is no name. */
  private readName(call: number, fd: number, words: Int32Array): number {
    this.length[0] = SOCKADDR_IN6_BYTES;
    const result = sys.sys3(call, fd, sys.addressOf(this.sockaddr), sys.addressOf(this.length));
    if (result === 0) return readSockaddr(this.view, words);
    words.fill(0);
    return 0;
  }
}
