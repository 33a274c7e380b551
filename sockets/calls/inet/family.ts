/** AF_INET and AF_INET6 of a thread of an engine: inet_create and inet6_create (net/ipv4/af_inet.c, net/ipv6/af_inet6.c). */
import { ERRNO, SysError } from "af-xdp-bindings";
import type { Endpoint } from "../../endpoint.ts";
import type { TcpOpener } from "../../stream/tcp-open.ts";
import { AF_INET6, IPPROTO_TCP, IPPROTO_UDP } from "../../table.ts";
import { UdpSocket } from "../../udp-socket.ts";
import { SOCK_DGRAM, SOCK_RAW, SOCK_STREAM } from "../constants.ts";
import type { File } from "../file.ts";
import type { Family } from "../process.ts";
import { InetDatagramFile } from "./datagram-file.ts";
import { InetStreamFile } from "./stream-file.ts";

/** SOCK_MAX and IPPROTO_MAX: what is no type, and no protocol, at all. */
const TYPES = 11;
const PROTOCOLS = 263;

export class InetFamily implements Family {
  private readonly endpoint: Endpoint;
  private readonly family: number;
  private readonly status: number;

  /**
   * @param endpoint the thread's end of the engine
   * @param family AF_INET or AF_INET6
   * @param status O_NONBLOCK where the thread must never wait
   */
  constructor(endpoint: Endpoint, family: number, status = 0) {
    this.endpoint = endpoint;
    this.family = family;
    this.status = status;
  }

  socket(type: number, protocol: number): File | number {
    const opener = type === SOCK_STREAM ? this.endpoint.tcpOpener() : null;
    if (opener !== null && (protocol === 0 || protocol === IPPROTO_TCP)) return this.stream(opener);
    const refused = verdict(type, protocol);
    if (refused < 0) return refused;
    try {
      const file = new InetDatagramFile(UdpSocket.create(this.endpoint, this.family), this.family);
      file.status |= this.status;
      return file;
    } catch (error) {
      if (error instanceof SysError) return -error.errno;
      throw error;
    }
  }

  private stream(opener: TcpOpener): File | number {
    if (this.endpoint.closed) return -ERRNO.EBADF;
    const socket = opener.open(this.family === AF_INET6, {});
    if (socket === null) return -ERRNO.ENFILE;
    const file = new InetStreamFile(this.endpoint, opener, this.family, socket, null);
    file.status |= this.status;
    return file;
  }

  /** No protocol of these families has pairs; what is wrong with the socket is said first. */
  pair(type: number, protocol: number): number {
    const refused = verdict(type, protocol);
    return refused < 0 && type !== SOCK_STREAM ? refused : -ERRNO.EOPNOTSUPP;
  }
}

/** What socket(2) says: 0 for UDP, and for all others what it says where no such protocol is there. */
function verdict(type: number, protocol: number): number {
  if (type >= TYPES || protocol < 0 || protocol >= PROTOCOLS) return -ERRNO.EINVAL;
  if (type === SOCK_STREAM) return protocol === 0 || protocol === IPPROTO_TCP ? 0 : -ERRNO.EPROTONOSUPPORT;
  if (type === SOCK_DGRAM) return protocol === 0 || protocol === IPPROTO_UDP ? 0 : -ERRNO.EPROTONOSUPPORT;
  // A raw socket has to name its protocol.
  return type === SOCK_RAW && protocol === 0 ? -ERRNO.EPROTONOSUPPORT : -ERRNO.ESOCKTNOSUPPORT;
}
