/**
 * Flows of a kernel socket: connected children that share it. The kernel knows of none of them, so a server may have a
 * million on one descriptor; what comes from the remote address of a flow is the flow's.
 *
 * Addresses and ports are keys as they lie in memory, in network byte order.
 */
import { FlowTable } from "../flow-table.ts";
import { FlowTable6 } from "../flow-table6.ts";
import { IPPROTO_UDP, LOCAL, LOCAL_PORT, REMOTE, REMOTE_PORT, type SocketTable } from "../table.ts";
import { swap16 } from "../wire/checksum.ts";
import { IPV4_DST, IPV4_SRC } from "../wire/ipv4.ts";
import { IPV6_DST, IPV6_SRC } from "../wire/ipv6.ts";
import { swap32 } from "./frames.ts";

/** Room made at the first flow. */
const FLOWS_FIRST = 64;
/** ::ffff:0:0/96, the third word of a mapped address. */
const MAPPED = 0xffff;

export class KernelFlows {
  private readonly table: SocketTable;
  private readonly flows4: FlowTable;
  private readonly flows6: FlowTable6;

  constructor(table: SocketTable) {
    const [seed] = crypto.getRandomValues(new Int32Array(1));
    this.table = table;
    const first = Math.min(FLOWS_FIRST, table.capacity);
    this.flows4 = new FlowTable(first, table.capacity, seed);
    this.flows6 = new FlowTable6(first, table.capacity, seed);
  }

  get count(): number {
    return this.flows4.count + this.flows6.count;
  }

  /** The flow for the datagram whose IP and UDP headers begin at words `ip` and `udp`, or -1. */
  find(words: Int32Array, ip: number, udp: number): number {
    // Source port first in memory: the lower half of the word.
    const ports = words[udp];
    const remotePort = ports & 0xffff;
    const localPort = ports >>> 16;
    if ((words[ip] & 0xf0) === 0x40) {
      const local = words[ip + IPV4_DST / 4];
      return this.flows4.lookup(IPPROTO_UDP, local, localPort, words[ip + IPV4_SRC / 4], remotePort);
    }
    const { key } = this.flows6;
    for (let i = 0; i < 4; i++) {
      key[i] = words[ip + IPV6_DST / 4 + i];
      key[4 + i] = words[ip + IPV6_SRC / 4 + i];
    }
    return this.flows6.lookup(IPPROTO_UDP, localPort, remotePort);
  }

  /** The flow between two addresses, four words each, IPv4 mapped; or -1. `localPort` is a key. */
  findTo(local: Int32Array, localPort: number, remote: Int32Array, remotePort: number): number {
    const port = swap16(remotePort);
    if (remote[0] === 0 && remote[1] === 0 && remote[2] === MAPPED) {
      return this.flows4.lookup(IPPROTO_UDP, swap32(local[3]), localPort, swap32(remote[3]), port);
    }
    const { key } = this.flows6;
    for (let i = 0; i < 4; i++) {
      key[i] = swap32(local[i]);
      key[4 + i] = swap32(remote[i]);
    }
    return this.flows6.lookup(IPPROTO_UDP, localPort, port);
  }

  /** Adds the flow that has this id, in place of one with the same addresses. */
  add(id: number): void {
    const { table } = this;
    const localPort = swap16(table.get(id, LOCAL_PORT));
    const remotePort = swap16(table.get(id, REMOTE_PORT));
    if (this.isV4(id)) {
      const [local, remote] = this.addresses4(id);
      this.flows4.insert(IPPROTO_UDP, local, localPort, remote, remotePort, id);
    } else {
      this.loadKey(id);
      this.flows6.insert(IPPROTO_UDP, localPort, remotePort, id);
    }
  }

  /** Takes the flow out, unless another has taken its place. */
  remove(id: number): void {
    const { table } = this;
    const localPort = swap16(table.get(id, LOCAL_PORT));
    const remotePort = swap16(table.get(id, REMOTE_PORT));
    if (this.isV4(id)) {
      const [local, remote] = this.addresses4(id);
      if (this.flows4.lookup(IPPROTO_UDP, local, localPort, remote, remotePort) !== id) return;
      this.flows4.remove(IPPROTO_UDP, local, localPort, remote, remotePort);
    } else {
      this.loadKey(id);
      if (this.flows6.lookup(IPPROTO_UDP, localPort, remotePort) !== id) return;
      this.flows6.remove(IPPROTO_UDP, localPort, remotePort);
    }
  }

  private isV4(id: number): boolean {
    const { table } = this;
    return table.get(id, REMOTE) === 0 && table.get(id, REMOTE + 1) === 0 && table.get(id, REMOTE + 2) === MAPPED;
  }

  private addresses4(id: number): [local: number, remote: number] {
    return [swap32(this.table.get(id, LOCAL + 3)), swap32(this.table.get(id, REMOTE + 3))];
  }

  private loadKey(id: number): void {
    const { key } = this.flows6;
    for (let i = 0; i < 4; i++) {
      key[i] = swap32(this.table.get(id, LOCAL + i));
      key[4 + i] = swap32(this.table.get(id, REMOTE + i));
    }
  }
}
