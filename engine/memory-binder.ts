/** Binding on a memory wire: no kernel to ask, so the rules Linux would apply are applied here. */
import { ERRNO } from "af-xdp-bindings";
import type { Binder } from "../sockets/binder.ts";
import { Destinations } from "../sockets/destinations.ts";
import { addressWords, type Fib } from "../sockets/fib.ts";
import {
  AF_INET6,
  F_V6ONLY,
  F_WILDCARD,
  FAMILY,
  FLAGS,
  IPPROTO_UDP,
  LOCAL,
  LOCAL_PORT,
  REMOTE,
  REMOTE_PORT,
  type SocketTable,
} from "../sockets/table.ts";
import { wordsAt } from "../sockets/text-address.ts";

/** net.ipv4.ip_local_port_range. */
const EPHEMERAL_FIRST = 32768;
const EPHEMERAL_LAST = 60999;

export class MemoryBinder implements Binder {
  private readonly addresses: Int32Array[];
  private readonly fib: Fib | null;
  private readonly destinations: Destinations | null;

  /**
   * @param addresses the engine's own, 4 or 16 bytes each
   * @param fib where addresses and routes come and go: those of an engine with host protocols
   */
  constructor(addresses: readonly Uint8Array[], fib: Fib | null = null) {
    this.addresses = addresses.map((address) => Int32Array.from(addressWords(address)));
    this.fib = fib;
    this.destinations = fib === null ? null : new Destinations(fib, new Int32Array(0));
  }

  reserve(table: SocketTable, id: number): number {
    const mapped = table.get(id, LOCAL + 2) === 0xffff;
    if (mapped && table.get(id, FAMILY) === AF_INET6 && (table.get(id, FLAGS) & F_V6ONLY) !== 0) return -ERRNO.EINVAL;
    const words = wordsAt(table, id, LOCAL);
    if (!table.isAny(id) && !this.isOwn(words) && !isGroup(words)) return -ERRNO.EADDRNOTAVAIL;
    if (table.get(id, LOCAL_PORT) !== 0) return 0;
    const count = EPHEMERAL_LAST - EPHEMERAL_FIRST + 1;
    const start = Math.floor(Math.random() * count);
    for (let i = 0; i < count; i++) {
      const port = EPHEMERAL_FIRST + ((start + i) % count);
      if (table.portInUse(IPPROTO_UDP, port)) continue;
      table.set(id, LOCAL_PORT, port);
      return 0;
    }
    return -ERRNO.EADDRINUSE;
  }

  connect(table: SocketTable, id: number): number {
    if ((table.get(id, FLAGS) & F_WILDCARD) === 0) return 0;
    if (table.get(id, REMOTE_PORT) === 0) {
      const mapped = table.isV4(id);
      for (let i = 0; i < 4; i++) table.set(id, LOCAL + i, mapped && i === 2 ? 0xffff : 0);
      return 0;
    }
    const own = this.sourceTo(wordsAt(table, id, REMOTE));
    if (own === null) return -ERRNO.ENETUNREACH;
    for (let i = 0; i < 4; i++) table.set(id, LOCAL + i, own[i]);
    return 0;
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

/** A multicast address, or the broadcast address of every network: a socket bound to one hears nothing else. */
function isGroup(words: Int32Array): boolean {
  const mapped = words[0] === 0 && words[1] === 0 && words[2] === 0xffff;
  return mapped ? words[3] >>> 28 === 14 || words[3] === -1 : words[0] >>> 24 === 0xff;
}
