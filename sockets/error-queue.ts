/**
 * Errors that the network reports about what a socket has sent: the error queue of recvmsg(MSG_ERRQUEUE), as ip(7) and
 * ipv6(7) describe it under IP_RECVERR and IPV6_RECVERR.
 */

/** Who found the error (include/uapi/linux/errqueue.h): this host, an ICMP message, an ICMPv6 one. */
export const SO_EE_ORIGIN_LOCAL = 1;
export const SO_EE_ORIGIN_ICMP = 2;
export const SO_EE_ORIGIN_ICMP6 = 3;

/** struct sock_extended_err, with what recvmsg(2) tells beside it. */
export interface QueuedError {
  errno: number;
  /** SO_EE_ORIGIN_.... */
  origin: number;
  /** Type and code of the ICMP message; 0 for a local error. */
  type: number;
  code: number;
  /** With EMSGSIZE, the path MTU in bytes. */
  info: number;
  /** Where the datagram was sent to. */
  address: string;
  port: number;
  /** Who reported it: "" for a local error. */
  offender: string;
  /** The first bytes of the datagram's payload. */
  payload: Uint8Array;
}

/** Entries that wait at most. */
const ENTRIES_MAX = 256;

export class ErrorQueue {
  private entries: QueuedError[] = [];

  push(entry: QueuedError): void {
    if (this.entries.length < ENTRIES_MAX) this.entries.push(entry);
  }

  shift(): QueuedError | null {
    return this.entries.shift() ?? null;
  }

  clear(): void {
    this.entries = [];
  }
}
