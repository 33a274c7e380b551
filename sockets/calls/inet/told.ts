/**
 * Control messages that recvmsg(2) puts beside a datagram, in the kernel's order: sock_recv_cmsgs (net/core/sock.c),
 * udp_cmsg_recv, ip_cmsg_recv_offset (net/ipv4/ip_sockglue.c) and ip6_datagram_recv_ctl (net/ipv6/datagram.c).
 */
import type { Datagram } from "../../datagram.ts";
import {
  IP_PKTINFO,
  IP_RECVFRAGSIZE,
  IP_RECVORIGDSTADDR,
  IP_RECVTOS,
  IP_RECVTTL,
  IP_TOS,
  IP_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_2292HOPLIMIT,
  IPV6_2292PKTINFO,
  IPV6_FLOWINFO,
  IPV6_HOPLIMIT,
  IPV6_PKTINFO,
  IPV6_RECVFRAGSIZE,
  IPV6_RECVHOPLIMIT,
  IPV6_RECVORIGDSTADDR,
  IPV6_RECVPKTINFO,
  IPV6_RECVTCLASS,
  IPV6_TCLASS,
  SO_MARK,
  SO_PRIORITY,
  SO_RCVMARK,
  SO_RCVPRIORITY,
  SO_RXQ_OVFL,
  SO_TIMESTAMP,
  SO_TIMESTAMP_NEW,
  SO_TIMESTAMPING,
  SO_TIMESTAMPING_NEW,
  SO_TIMESTAMPNS,
  SO_TIMESTAMPNS_NEW,
  SOF_TIMESTAMPING_RX_SOFTWARE,
  SOF_TIMESTAMPING_SOFTWARE,
  SOL_SOCKET,
  SOL_UDP,
  UDP_GRO,
} from "../../options.ts";
import { AF_INET6 } from "../../table.ts";
import type { UdpSocket } from "../../udp-socket.ts";
import { type ControlWriter, controlInt } from "../control.ts";
import { addressOfWords } from "./address.ts";

const NS_PER_US = 1000;
/** A stamp of arrival is made, and told. */
const ARRIVAL = SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;

/** What a socket has asked to be told. Read anew after each setsockopt(2). */
export class Told {
  /** SO_TIMESTAMP or its kin, 0 for none. */
  stamp = 0;
  /** SO_TIMESTAMPING or its new form, where it asks for times of arrival; 0 for none. */
  stamping = 0;
  drops = false;
  mark = false;
  priority = false;
  gro = false;
  info4 = false;
  ttl4 = false;
  tos4 = false;
  destination4 = false;
  info6 = false;
  hops6 = false;
  class6 = false;
  oldInfo6 = false;
  oldHops6 = false;
  destination6 = false;
  fragments4 = false;
  fragments6 = false;
  flow6 = false;

  constructor(socket: UdpSocket, family: number) {
    const value = new Int32Array(1);
    const bytes = new Uint8Array(value.buffer);
    const asked = (level: number, name: number): boolean => socket.getOption(level, name, bytes) >= 0 && value[0] !== 0;
    for (const name of [SO_TIMESTAMP, SO_TIMESTAMPNS, SO_TIMESTAMP_NEW, SO_TIMESTAMPNS_NEW]) {
      if (asked(SOL_SOCKET, name)) this.stamp = name;
    }
    // The new form alone is told under its number; beside a kernel alone there is either.
    for (const name of [SO_TIMESTAMPING, SO_TIMESTAMPING_NEW]) {
      if (asked(SOL_SOCKET, name) && (value[0] & ARRIVAL) === ARRIVAL) this.stamping = name;
    }
    this.drops = asked(SOL_SOCKET, SO_RXQ_OVFL);
    this.mark = asked(SOL_SOCKET, SO_RCVMARK);
    this.priority = asked(SOL_SOCKET, SO_RCVPRIORITY);
    this.gro = asked(SOL_UDP, UDP_GRO);
    this.info4 = asked(IPPROTO_IP, IP_PKTINFO);
    this.ttl4 = asked(IPPROTO_IP, IP_RECVTTL);
    this.tos4 = asked(IPPROTO_IP, IP_RECVTOS);
    this.destination4 = asked(IPPROTO_IP, IP_RECVORIGDSTADDR);
    this.fragments4 = asked(IPPROTO_IP, IP_RECVFRAGSIZE);
    if (family !== AF_INET6) return;
    this.fragments6 = asked(IPPROTO_IPV6, IPV6_RECVFRAGSIZE);
    this.flow6 = asked(IPPROTO_IPV6, IPV6_FLOWINFO);
    this.info6 = asked(IPPROTO_IPV6, IPV6_RECVPKTINFO);
    this.hops6 = asked(IPPROTO_IPV6, IPV6_RECVHOPLIMIT);
    this.class6 = asked(IPPROTO_IPV6, IPV6_RECVTCLASS);
    this.oldInfo6 = asked(IPPROTO_IPV6, IPV6_2292PKTINFO);
    this.oldHops6 = asked(IPPROTO_IPV6, IPV6_2292HOPLIMIT);
    this.destination6 = asked(IPPROTO_IPV6, IPV6_RECVORIGDSTADDR);
  }

  /** Whether what the kernel tells beside an entry of the error queue has been asked for. */
  asks(level: number, type: number): boolean {
    if (level === SOL_SOCKET) return type === SO_TIMESTAMPING || type === SO_TIMESTAMPING_NEW;
    if (level === IPPROTO_IP) {
      return (type === IP_PKTINFO && this.info4) || (type === IP_TTL && this.ttl4) || (type === IP_TOS && this.tos4);
    }
    if (level !== IPPROTO_IPV6) return false;
    if (type === IPV6_PKTINFO) return this.info6;
    return (type === IPV6_HOPLIMIT && this.hops6) || (type === IPV6_TCLASS && this.class6);
  }

  /** Puts what is to be told of a datagram. */
  put(datagram: Datagram, family: number, out: ControlWriter): void {
    if (this.stamp !== 0) putStamp(this.stamp, datagram, out);
    if (this.stamping !== 0) out.put(SOL_SOCKET, this.stamping, stampsOf(datagram));
    if (this.drops && datagram.drops > 0) out.put(SOL_SOCKET, SO_RXQ_OVFL, controlInt(datagram.drops));
    // What has a mark or a priority has it from this host's kernel, which has not seen the frame.
    if (this.mark) out.put(SOL_SOCKET, SO_MARK, controlInt(0));
    if (this.priority) out.put(SOL_SOCKET, SO_PRIORITY, controlInt(0));
    if (this.gro && datagram.segment > 0) out.put(SOL_UDP, UDP_GRO, controlInt(datagram.segment));
    const v4 = datagram.family === 4;
    if (family === AF_INET6 && this.info6) out.put(IPPROTO_IPV6, IPV6_PKTINFO, info6(datagram));
    if (v4) this.put4(datagram, out);
    else this.put6(datagram, out);
  }

  private put4(datagram: Datagram, out: ControlWriter): void {
    if (this.info4) out.put(IPPROTO_IP, IP_PKTINFO, info4(datagram));
    if (this.ttl4) out.put(IPPROTO_IP, IP_TTL, controlInt(datagram.ttl));
    if (this.tos4) out.put(IPPROTO_IP, IP_TOS, Uint8Array.of(datagram.tos));
    if (this.destination4) out.put(IPPROTO_IP, IP_RECVORIGDSTADDR, destination(datagram, 4));
    const { fragmentSize } = datagram;
    if (this.fragments4 && fragmentSize > 0) out.put(IPPROTO_IP, IP_RECVFRAGSIZE, controlInt(fragmentSize));
  }

  private put6(datagram: Datagram, out: ControlWriter): void {
    if (this.hops6) out.put(IPPROTO_IPV6, IPV6_HOPLIMIT, controlInt(datagram.ttl));
    if (this.class6) out.put(IPPROTO_IPV6, IPV6_TCLASS, controlInt(datagram.tos));
    if (this.flow6 && datagram.flowInfo !== 0) out.put(IPPROTO_IPV6, IPV6_FLOWINFO, networkInt(datagram.flowInfo));
    if (this.oldInfo6) out.put(IPPROTO_IPV6, IPV6_2292PKTINFO, info6(datagram));
    if (this.oldHops6) out.put(IPPROTO_IPV6, IPV6_2292HOPLIMIT, controlInt(datagram.ttl));
    if (this.destination6) out.put(IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, destination(datagram, 6));
    const { fragmentSize } = datagram;
    if (this.fragments6 && fragmentSize > 0) out.put(IPPROTO_IPV6, IPV6_RECVFRAGSIZE, controlInt(fragmentSize));
  }
}

/** Seconds and nanoseconds of a datagram's arrival; of now where nobody has noted it, as the kernel does. */
export function arrivalOf(datagram: Datagram): { seconds: number; nanoseconds: number } {
  if (datagram.seconds > 0) return datagram;
  const now = Date.now();
  return { seconds: Math.floor(now / 1000), nanoseconds: (now % 1000) * 1e6 };
}

/** struct timeval or timespec, in 64-bit fields. */
function putStamp(name: number, datagram: Datagram, out: ControlWriter): void {
  const { seconds, nanoseconds } = arrivalOf(datagram);
  const micro = name === SO_TIMESTAMP || name === SO_TIMESTAMP_NEW;
  const rest = micro ? Math.floor(nanoseconds / NS_PER_US) : nanoseconds;
  out.put(SOL_SOCKET, name, new Uint8Array(BigInt64Array.of(BigInt(seconds), BigInt(rest)).buffer));
}

/** struct scm_timestamping: three of struct timespec, of which the first is the kernel's, the last one the hardware's. */
function stampsOf(datagram: Datagram): Uint8Array {
  const { seconds, nanoseconds } = arrivalOf(datagram);
  return new Uint8Array(BigInt64Array.of(BigInt(seconds), BigInt(nanoseconds), 0n, 0n, 0n, 0n).buffer);
}

/** struct in_pktinfo: interface, the own address, the destination. */
function info4(datagram: Datagram): Uint8Array {
  const view = new DataView(new ArrayBuffer(12));
  view.setInt32(0, datagram.interfaceIndex, true);
  view.setInt32(4, datagram.endpoint.specificAddress(datagram.destinationWord(3), datagram.sourceWord(3)));
  view.setInt32(8, datagram.destinationWord(3));
  return new Uint8Array(view.buffer);
}

/** struct in6_pktinfo: the destination, IPv4 mapped, and the interface. */
function info6(datagram: Datagram): Uint8Array {
  const view = new DataView(new ArrayBuffer(20));
  for (let i = 0; i < 4; i++) view.setInt32(4 * i, datagram.destinationWord(i));
  view.setInt32(16, datagram.interfaceIndex, true);
  return new Uint8Array(view.buffer);
}

function networkInt(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value);
  return bytes;
}

const destination = (datagram: Datagram, family: 4 | 6): Uint8Array =>
  addressOfWords(
    family,
    datagram.destinationWord(0),
    datagram.destinationWord(1),
    datagram.destinationWord(2),
    datagram.destinationWord(3),
    datagram.destinationPort,
    datagram.interfaceIndex,
  );
