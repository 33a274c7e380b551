/**
 * Control messages of a datagram to be sent where no kernel reads them: __sock_cmsg_send (net/core/sock.c), udp_cmsg_send,
 * ip_cmsg_send (net/ipv4/ip_sockglue.c) and ip6_datagram_send_ctl (net/ipv6/datagram.c). Levels that are not the socket's are passed over.
 */
import { ERRNO } from "af-xdp-bindings";
import {
  IP_PKTINFO,
  IP_TOS,
  IP_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_HOPLIMIT,
  IPV6_PKTINFO,
  IPV6_TCLASS,
  SO_MARK,
  SO_PRIORITY,
  SOL_SOCKET,
  SOL_UDP,
  UDP_SEGMENT,
} from "../../options.ts";
import { SCM_CREDENTIALS, SCM_RIGHTS } from "../constants.ts";
import { type ControlMessage, visitControl } from "../control.ts";
import type { Message } from "../message.ts";

const INT_BYTES = 4;

export class SendControls {
  /** UDP_SEGMENT, TTL or hop limit, TOS or traffic class: -1 for as the socket has it. */
  segment = -1;
  ttl = -1;
  tos = -1;
  /** Source address, 4 or 16 bytes, and interface: null and 0 for any. */
  source: Uint8Array | null = null;
  ifindex = 0;

  /** @param family 4 or 6, of the datagram. Returns 0 or -errno. */
  read({ control, controlLength }: Message, family: 4 | 6): number {
    this.segment = -1;
    this.ttl = -1;
    this.tos = -1;
    this.source = null;
    this.ifindex = 0;
    if (control === null || controlLength === 0) return 0;
    return visitControl(control, controlLength, (message) => this.one(message, family));
  }

  private one(message: ControlMessage, family: 4 | 6): number {
    switch (message.level) {
      case SOL_SOCKET:
        return ofSocket(message);
      case SOL_UDP:
        return this.ofUdp(message);
      case IPPROTO_IP:
        return family === 4 ? this.of4(message) : 0;
      case IPPROTO_IPV6:
        return family === 6 ? this.of6(message) : 0;
      default:
        return 0;
    }
  }

  private ofUdp({ type, data }: ControlMessage): number {
    if (type !== UDP_SEGMENT || data.length !== 2) return -ERRNO.EINVAL;
    this.segment = data[0] | (data[1] << 8);
    return 0;
  }

  private of4({ type, data }: ControlMessage): number {
    if (type === IP_PKTINFO) return this.info(data, 12, data.subarray(4, 8), 0);
    if (type === IP_TOS && data.length === 1) this.tos = data[0];
    else if (data.length !== INT_BYTES) return -ERRNO.EINVAL;
    else if (type === IP_TTL) return this.setTtl(data, 1);
    else if (type === IP_TOS) return this.setTos(data, 0);
    else return -ERRNO.EINVAL;
    return 0;
  }

  private of6({ type, data }: ControlMessage): number {
    if (type === IPV6_PKTINFO) return this.info(data, 20, data.subarray(0, 16), 16);
    if (data.length !== INT_BYTES) return -ERRNO.EINVAL;
    if (type === IPV6_HOPLIMIT) return this.setTtl(data, -1);
    return type === IPV6_TCLASS ? this.setTos(data, -1) : -ERRNO.EINVAL;
  }

  private setTtl(data: Uint8Array, least: number): number {
    this.ttl = intOf(data);
    return this.ttl < least || this.ttl > 255 ? -ERRNO.EINVAL : 0;
  }

  private setTos(data: Uint8Array, least: number): number {
    const value = intOf(data);
    // The kernel has all bits set for the default of IPv6.
    this.tos = value & 0xff;
    return value < least || value > 255 ? -ERRNO.EINVAL : 0;
  }

  private info(data: Uint8Array, length: number, source: Uint8Array, interfaceAt: number): number {
    // An IPv6 one may be longer, an IPv4 one may not.
    if (length === 12 ? data.length !== length : data.length < length) return -ERRNO.EINVAL;
    this.ifindex = intOf(data.subarray(interfaceAt));
    this.source = source.every((byte) => byte === 0) ? null : source.slice();
    return 0;
  }
}

/** Control messages of bytes that a stream sends: 0 or -EINVAL, as tcp_sendmsg_locked. */
export function checkControls({ control, controlLength }: Message): number {
  if (control === null || controlLength === 0) return 0;
  return visitControl(control, controlLength, (message) => (message.level === SOL_SOCKET ? ofSocket(message) : 0));
}

/** A mark and a priority have no effect where the options have none; descriptors and credentials are for AF_UNIX. */
function ofSocket({ type, data }: ControlMessage): number {
  if (type === SCM_RIGHTS || type === SCM_CREDENTIALS) return 0;
  return (type === SO_MARK || type === SO_PRIORITY) && data.length === INT_BYTES ? 0 : -ERRNO.EINVAL;
}

const intOf = (data: Uint8Array): number => new DataView(data.buffer, data.byteOffset).getInt32(0, true);
