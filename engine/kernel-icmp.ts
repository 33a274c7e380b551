/**
 * ICMP errors about segments of the engine's TCP, which reach the kernel and mean nothing to it: read from raw sockets on
 * the control thread, for the lcores. Datagrams have theirs from their placeholders.
 */
import { sys } from "af-xdp-bindings";
import type { Endpoint } from "../sockets/endpoint.ts";
import { Quoted, readQuoted4, readQuoted6, reportOf } from "../sockets/host/icmp-report.ts";
import { tellLcores } from "../sockets/stream/tcp-report.ts";
import { AF_INET, AF_INET6, IPPROTO_TCP } from "../sockets/table.ts";
import {
  ICMP_CODE,
  ICMP_DEST_UNREACH,
  ICMP_FRAG_NEEDED,
  ICMP_HEADER,
  ICMP_PARAMETERPROB,
  ICMP_REST,
  ICMP_TIME_EXCEEDED,
  ICMP_TYPE,
  ICMPV6_DEST_UNREACH,
  ICMPV6_PARAMPROB,
  ICMPV6_PKT_TOOBIG,
  ICMPV6_TIME_EXCEED,
} from "../sockets/wire/icmp.ts";
import { ipv4HeaderLength } from "../sockets/wire/ipv4.ts";
import { readInt32, readUint16 } from "../sockets/wire/views.ts";

/** SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC. */
const RAW = 3 | 0x800 | 0x80000;
const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;
/** include/uapi/linux/icmp.h, icmpv6.h: the filters name the types that are not wanted, a bit each. */
const SOL_RAW = 255;
const ICMP_FILTER = 1;
const ICMPV6_FILTER = 1;
const WANTED_4 = [ICMP_DEST_UNREACH, ICMP_TIME_EXCEEDED, ICMP_PARAMETERPROB];
const WANTED_6 = [ICMPV6_DEST_UNREACH, ICMPV6_PKT_TOOBIG, ICMPV6_TIME_EXCEED, ICMPV6_PARAMPROB];
const EPOLL_CTL_ADD = 1;
const EPOLLIN = 1;
const MSG_DONTWAIT = 0x40;
/** Messages read at a time. */
const READ_MAX = 64;
/** An ICMPv6 error is cut at the least MTU, one of ICMP mostly is shorter (RFC 1812, section 4.3.2.3). */
const BYTES_MAX = 2048;

/** What the epoll instance says of these sockets: no id of the socket table. */
export const ICMP_EVENT_4 = 0xffff_fff0;
export const ICMP_EVENT_6 = 0xffff_fff1;

export class KernelIcmp {
  private readonly endpoint: Endpoint;
  private readonly raw4: number;
  private readonly raw6: number;
  private readonly bytes = new Uint8Array(BYTES_MAX);
  private readonly address = sys.addressOf(this.bytes);
  private readonly quoted = new Quoted();

  /** In the namespace of the calling thread. */
  constructor(epoll: number, endpoint: Endpoint) {
    this.endpoint = endpoint;
    this.raw4 = this.open(AF_INET, IPPROTO_ICMP, SOL_RAW, ICMP_FILTER, blockAllBut(WANTED_4, 1));
    this.raw6 = this.open(AF_INET6, IPPROTO_ICMPV6, IPPROTO_ICMPV6, ICMPV6_FILTER, blockAllBut(WANTED_6, 8));
    watch(epoll, this.raw4, ICMP_EVENT_4);
    watch(epoll, this.raw6, ICMP_EVENT_6);
  }

  private open(family: number, protocol: number, level: number, name: number, filter: Uint32Array): number {
    const fd = sys.socket(family, RAW, protocol);
    // Without IPv6, or the privilege: connections then learn of unreachable peers by their timeouts.
    if (fd < 0) return -1;
    sys.sys6(sys.SYS.setsockopt, fd, level, name, sys.addressOf(filter), filter.byteLength, 0);
    return fd;
  }

  /** Reads what waits at the socket of an event, ICMP_EVENT_. */
  read(event: number): void {
    const v6 = event === ICMP_EVENT_6;
    const fd = v6 ? this.raw6 : this.raw4;
    for (let i = 0; i < READ_MAX; i++) {
      const length = sys.recvfrom(fd, this.address, BYTES_MAX, MSG_DONTWAIT, 0, 0);
      if (length < 0) return;
      if (v6) this.take6(length);
      else this.take4(length);
    }
  }

  /** The kernel gives the IP header as well. */
  private take4(length: number): void {
    const { bytes, quoted } = this;
    const icmp = ipv4HeaderLength(bytes, 0);
    const inner = icmp + ICMP_HEADER;
    if (length < inner || !readQuoted4(quoted, bytes, inner, length - inner)) return;
    const isTooBig = bytes[icmp + ICMP_TYPE] === ICMP_DEST_UNREACH && bytes[icmp + ICMP_CODE] === ICMP_FRAG_NEEDED;
    this.tell(4, icmp, isTooBig ? readUint16(bytes, icmp + ICMP_REST + 2) : 0);
  }

  private take6(length: number): void {
    const { bytes, quoted } = this;
    if (length < ICMP_HEADER || !readQuoted6(quoted, bytes, ICMP_HEADER, length - ICMP_HEADER)) return;
    this.tell(6, 0, bytes[ICMP_TYPE] === ICMPV6_PKT_TOOBIG ? readInt32(bytes, ICMP_REST) : 0);
  }

  private tell(version: number, icmp: number, info: number): void {
    const { bytes, quoted } = this;
    if (quoted.protocol !== IPPROTO_TCP) return;
    const report = reportOf(
      quoted,
      bytes,
      version,
      bytes[icmp + ICMP_TYPE],
      bytes[icmp + ICMP_CODE],
      info,
      quoted.remote,
    );
    tellLcores(this.endpoint, report);
  }

  close(): void {
    for (const fd of [this.raw4, this.raw6]) if (fd >= 0) sys.close(fd);
  }
}

function blockAllBut(types: readonly number[], words: number): Uint32Array {
  const filter = new Uint32Array(words).fill(0xffff_ffff);
  for (const type of types) filter[type >> 5] &= ~(1 << (type & 31));
  return filter;
}

function watch(epoll: number, fd: number, event: number): void {
  if (fd < 0) return;
  // struct epoll_event is packed on x86-64 and aligned on arm64: the data word lies at 4 or 8.
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, EPOLLIN, true);
  view.setUint32(process.arch === "x64" ? 4 : 8, event, true);
  sys.sys6(sys.SYS.epoll_ctl, epoll, EPOLL_CTL_ADD, fd, sys.addressOf(bytes), 0, 0);
}
