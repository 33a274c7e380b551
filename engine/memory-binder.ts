/** Binding on a memory wire: no kernel to ask, so the rules Linux would apply are applied here. */
import { ERRNO } from "af-xdp-bindings";
import type { Binder } from "../sockets/binder.ts";
import { addressWords } from "../sockets/fib.ts";
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

  /** @param addresses the engine's own, 4 or 16 bytes each */
  constructor(addresses: readonly Uint8Array[]) {
    this.addresses = addresses.map((address) => Int32Array.from(addressWords(address)));
  }

  reserve(table: SocketTable, id: number): number {
    const mapped = table.get(id, LOCAL + 2) === 0xffff;
    if (mapped && table.get(id, FAMILY) === AF_INET6 && (table.get(id, FLAGS) & F_V6ONLY) !== 0) return -ERRNO.EINVAL;
    const words = wordsAt(table, id, LOCAL);
    const isOwn = this.addresses.some((own) => own.every((word, i) => word === words[i]));
    if (!table.isAny(id) && !isOwn && !isGroup(words)) {
      return -ERRNO.EADDRNOTAVAIL;
    }
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
    const mapped = table.get(id, REMOTE + 2) === 0xffff;
    const own = this.addresses.find((words) => (words[2] === 0xffff) === mapped);
    if (own === undefined) return -ERRNO.ENETUNREACH;
    for (let i = 0; i < 4; i++) table.set(id, LOCAL + i, own[i]);
    return 0;
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
