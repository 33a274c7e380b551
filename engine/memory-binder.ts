/**
 * Binding on a memory wire, or with addresses of the engine's own: no kernel to ask, so what Linux would say is said here,
 * with its checks in its order (__inet_bind and __inet6_bind, __ip4_datagram_connect and __ip6_datagram_connect of 6.18).
 */
import { ERRNO } from "af-xdp-bindings";
import type { Binder, Binding } from "../sockets/binder.ts";
import { Destinations } from "../sockets/destinations.ts";
import { addressWords, type Fib } from "../sockets/fib.ts";
import { readSockaddr, SOCKADDR_IN_BYTES, SOCKADDR_IN6_BYTES, SOCKADDR_IN6_MIN } from "../sockets/sockaddr.ts";
import {
  AF_INET,
  AF_INET6,
  F_ANY_ADDRESS,
  F_BROADCAST,
  F_CHOSEN_PORT,
  F_LATE_PORT,
  F_V6ONLY,
  F_WILDCARD,
  FAMILY,
  FLAGS,
  IPPROTO_TCP,
  LOCAL,
  LOCAL_PORT,
  OPEN,
  PORT_RANGE,
  PROTOCOL,
  REMOTE,
  REMOTE_PORT,
  type SocketTable,
  STATE,
} from "../sockets/table.ts";

/** net.ipv4.ip_local_port_range. */
const EPHEMERAL_FIRST = 32768;
const EPHEMERAL_LAST = 60999;
const AF_UNSPEC = 0;
/** sizeof(struct sockaddr_storage): no address is longer. */
const SOCKADDR_STORAGE_BYTES = 128;

export class MemoryBinder implements Binder {
  private readonly addresses: Int32Array[];
  private readonly fib: Fib | null;
  private readonly destinations: Destinations | null;
  private readonly words = new Int32Array(4);

  /**
   * @param addresses the engine's own, 4 or 16 bytes each
   * @param fib where addresses and routes come and go: those of an engine with host protocols
   */
  constructor(addresses: readonly Uint8Array[], fib: Fib | null = null) {
    this.addresses = addresses.map((address) => Int32Array.from(addressWords(address)));
    this.fib = fib;
    this.destinations = fib === null ? null : new Destinations(fib, new Int32Array(0));
  }

  open(): number {
    return 0;
  }

  bind(table: SocketTable, id: number, address: Uint8Array, binding: Binding): number {
    const { words } = this;
    if (address.length > SOCKADDR_STORAGE_BYTES) return -ERRNO.EINVAL;
    const port = table.get(id, FAMILY) === AF_INET ? this.check4(address, words) : this.check6(address, words);
    if (port < 0) return port;
    const flags = table.get(id, FLAGS);
    const isIpv6 = table.get(id, FAMILY) === AF_INET6;
    // Of IPv6 (__inet6_bind): nobody speaks TCP to a group.
    if (isIpv6 && isGroup(words) && !isMapped(words) && table.get(id, PROTOCOL) === IPPROTO_TCP) return -ERRNO.EINVAL;
    const isFree = isAny(words) || this.isOwn(words) || isGroup(words) || (flags & F_ANY_ADDRESS) !== 0;
    if (!isIpv6 && !isFree) return -ERRNO.EADDRNOTAVAIL;
    if (table.get(id, STATE) !== OPEN) return -ERRNO.EINVAL;
    if (isIpv6 && isMapped(words) && (flags & F_V6ONLY) !== 0) return -ERRNO.EINVAL;
    if (!isFree) return -ERRNO.EADDRNOTAVAIL;
    this.readNames(table, id, binding);
    binding.local.set(words);
    binding.localPort = port;
    return port === 0 && (flags & F_LATE_PORT) === 0 ? this.choosePort(table, id, binding) : 0;
  }

  connect(table: SocketTable, id: number, address: Uint8Array, binding: Binding): number {
    const { words } = this;
    this.readNames(table, id, binding);
    const family = table.get(id, FAMILY);
    if (address.length < 2 || address.length > SOCKADDR_STORAGE_BYTES) return -ERRNO.EINVAL;
    const told = address[0] | (address[1] << 8);
    if (told === AF_UNSPEC) return this.disconnect(table, id, binding);
    if (binding.localPort === 0) {
      const result = this.choosePort(table, id, binding);
      if (result < 0) return result;
    }
    const isIpv6 = family === AF_INET6 && told !== AF_INET;
    const v6only = (table.get(id, FLAGS) & F_V6ONLY) !== 0;
    if (family === AF_INET6 && told === AF_INET && v6only) return -ERRNO.EAFNOSUPPORT;
    if (address.length < (isIpv6 ? SOCKADDR_IN6_MIN : SOCKADDR_IN_BYTES)) return -ERRNO.EINVAL;
    if (told !== (isIpv6 ? AF_INET6 : AF_INET)) return -ERRNO.EAFNOSUPPORT;
    const port = readSockaddr(viewOf(address), words);
    if (isIpv6 && isMapped(words) && v6only) return -ERRNO.ENETUNREACH;
    // To the wildcard means to this host itself.
    const own = isAny(words) ? this.sourceTo(words) : null;
    if (own !== null) words.set(own);
    const mayBroadcast = (table.get(id, FLAGS) & F_BROADCAST) !== 0;
    if (isMapped(words) && !mayBroadcast && (this.fib?.isBroadcast(words[3]) ?? words[3] === -1)) return -ERRNO.EACCES;
    const source = this.sourceTo(words);
    if (source === null) return -ERRNO.ENETUNREACH;
    if (isAny(binding.local)) binding.local.set(source);
    else if (isMapped(binding.local) !== isMapped(words)) return -ERRNO.ENETUNREACH;
    binding.remote.set(words);
    binding.remotePort = port;
    return 0;
  }

  /** Who else is at the port the table itself sees. */
  listen(table: SocketTable, id: number, _backlog: number, binding: Binding): number {
    this.readNames(table, id, binding);
    return binding.localPort === 0 ? this.choosePort(table, id, binding) : 0;
  }

  /** tcp_set_state: a port that bind(2) was not asked for is given up. */
  unlisten(table: SocketTable, id: number, binding: Binding): void {
    this.readNames(table, id, binding);
    if ((table.get(id, FLAGS) & F_CHOSEN_PORT) !== 0) binding.localPort = 0;
  }

  readNames(table: SocketTable, id: number, binding: Binding): void {
    for (let i = 0; i < 4; i++) {
      binding.local[i] = table.get(id, LOCAL + i);
      binding.remote[i] = table.get(id, REMOTE + i);
    }
    binding.localPort = table.get(id, LOCAL_PORT);
    binding.remotePort = table.get(id, REMOTE_PORT);
    binding.device = 0;
  }

  /** __udp_disconnect: what bind(2) did not ask for is given up. */
  private disconnect(table: SocketTable, id: number, binding: Binding): number {
    const flags = table.get(id, FLAGS);
    binding.remote.fill(0);
    binding.remotePort = 0;
    if ((flags & F_WILDCARD) !== 0) {
      const mapped = isMapped(binding.local) && table.get(id, FAMILY) === AF_INET;
      for (let i = 0; i < 4; i++) binding.local[i] = mapped && i === 2 ? 0xffff : 0;
    }
    if ((flags & F_CHOSEN_PORT) !== 0) binding.localPort = 0;
    return 0;
  }

  /** A free port in the range of the socket, or of the host. */
  private choosePort(table: SocketTable, id: number, binding: Binding): number {
    const range = table.get(id, PORT_RANGE);
    const first = Math.max(range & 0xffff || EPHEMERAL_FIRST, EPHEMERAL_FIRST);
    const last = Math.min(range >>> 16 || EPHEMERAL_LAST, EPHEMERAL_LAST);
    const count = last - first + 1;
    const start = Math.floor(Math.random() * count);
    for (let i = 0; i < count; i++) {
      const port = first + ((start + i) % count);
      if (table.portInUse(table.get(id, PROTOCOL), port)) continue;
      binding.localPort = port;
      return 0;
    }
    return -ERRNO.EADDRINUSE;
  }

  /** The port of a sockaddr for an AF_INET socket, its address in `words`, or what bind(2) says of it. */
  private check4(address: Uint8Array, words: Int32Array): number {
    if (address.length < SOCKADDR_IN_BYTES) return -ERRNO.EINVAL;
    const told = address[0] | (address[1] << 8);
    const view = viewOf(address);
    words.set([0, 0, 0xffff, view.getInt32(4)]);
    // Compatibility: AF_UNSPEC will do for the wildcard.
    if (told !== AF_INET && (told !== AF_UNSPEC || words[3] !== 0)) return -ERRNO.EAFNOSUPPORT;
    return view.getUint16(2);
  }

  private check6(address: Uint8Array, words: Int32Array): number {
    if (address.length < SOCKADDR_IN6_MIN) return -ERRNO.EINVAL;
    if ((address[0] | (address[1] << 8)) !== AF_INET6) return -ERRNO.EAFNOSUPPORT;
    return readSockaddr(viewOf(address), words);
  }

  private isOwn(words: Int32Array): boolean {
    if (this.addresses.some((own) => own.every((word, i) => word === words[i]))) return true;
    if (this.fib === null) return false;
    this.fib.refresh();
    return this.fib.isLocal(words[0], words[1], words[2], words[3]);
  }

  /** Address of ours that what goes to an address is sent from; null: there is no way. */
  private sourceTo(remote: Int32Array): Int32Array | null {
    const mapped = remote[2] === 0xffff;
    if (this.fib === null || this.destinations === null) {
      return this.addresses.find((words) => (words[2] === 0xffff) === mapped) ?? null;
    }
    this.fib.refresh();
    const source = new Int32Array(4);
    return this.destinations.sourceTo(remote[0], remote[1], remote[2], remote[3], source) ? source : null;
  }

  steer(): void {}

  release(): void {}

  close(): void {}
}

const isMapped = (words: Int32Array): boolean => words[0] === 0 && words[1] === 0 && words[2] === 0xffff;

const isAny = (words: Int32Array): boolean =>
  words[0] === 0 && words[1] === 0 && (words[2] === 0 || words[2] === 0xffff) && words[3] === 0;

/** A multicast address, or the broadcast address of every network: a socket bound to one hears nothing else. */
const isGroup = (words: Int32Array): boolean =>
  isMapped(words) ? words[3] >>> 28 === 14 || words[3] === -1 : words[0] >>> 24 === 0xff;

/** A view of as much of a sockaddr as there may be. */
function viewOf(address: Uint8Array): DataView {
  const whole = new Uint8Array(SOCKADDR_IN6_BYTES);
  whole.set(address.subarray(0, SOCKADDR_IN6_BYTES));
  return new DataView(whole.buffer);
}
