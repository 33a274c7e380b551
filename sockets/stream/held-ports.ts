/**
 * Ports that an lcore holds for outgoing connections: each takes a socket in the table, as one that is bound to the wildcard
 * of both families does, so that nobody else is given the port, the kernel sends no RST for it, and what comes to it is
 * steered to the lcores. Connections to different peers share a port: there need be no more than there are to one peer.
 */
import type { Endpoint } from "../endpoint.ts";
import { SOCKADDR_IN_BYTES, SOCKADDR_IN6_BYTES } from "../sockaddr.ts";
import { AF_INET, AF_INET6, LOCAL_PORT } from "../table.ts";
import { bindTcpRecord, closeTcpRecord, holdTcpRecord, openTcpRecord } from "./tcp-record.ts";

export class HeldPorts {
  private readonly endpoint: Endpoint;
  private readonly owner: number;
  private readonly ids: number[] = [];
  private readonly ports: number[] = [];

  /** @param lcore that has the ports, its number from 0 on */
  constructor(endpoint: Endpoint, lcore: number) {
    this.endpoint = endpoint;
    this.owner = lcore + 1;
  }

  get count(): number {
    return this.ports.length;
  }

  /** A port by its index below `count`, in the order in which they were held. */
  at(index: number): number {
    return this.ports[index];
  }

  /**
   * Holds one more, of those that nobody has in net.ipv4.ip_local_port_range.
   * @returns the port, or -errno: EADDRINUSE none is left, ENFILE the socket table is full, EMFILE too many descriptors
   */
  hold(): number {
    const { endpoint } = this;
    let id = openTcpRecord(endpoint, AF_INET6, { ipv6Only: false });
    const isIpv6 = id >= 0;
    if (!isIpv6) id = openTcpRecord(endpoint, AF_INET);
    if (id < 0) return id;
    const bound = bindTcpRecord(endpoint, id, isIpv6 ? ANY6 : ANY4);
    const result = bound < 0 ? bound : holdTcpRecord(endpoint, id);
    if (result < 0) {
      closeTcpRecord(endpoint, id);
      return result;
    }
    const port = endpoint.table.get(id, LOCAL_PORT);
    this.ids.push(id);
    this.ports.push(port);
    this.setOwner(port, this.owner);
    return port;
  }

  /** Gives all of them back. */
  close(): void {
    for (const port of this.ports) this.setOwner(port, 0);
    for (const id of this.ids) closeTcpRecord(this.endpoint, id);
    this.ids.length = 0;
    this.ports.length = 0;
  }

  private setOwner(port: number, owner: number): void {
    const { table, shared } = this.endpoint;
    table.mutex.hold(() => {
      shared.portOwners[port] = owner;
    });
  }
}

/** The wildcards with port 0, as bind(2) takes them. */
const ANY4 = wildcard(AF_INET, SOCKADDR_IN_BYTES);
const ANY6 = wildcard(AF_INET6, SOCKADDR_IN6_BYTES);

function wildcard(family: number, length: number): Uint8Array {
  const sockaddr = new Uint8Array(length);
  new DataView(sockaddr.buffer).setUint16(0, family, true);
  return sockaddr;
}
