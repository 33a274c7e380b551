/**
 * The way in on an lcore: from a frame to the socket it is for. What cannot be a datagram for one is dropped under the
 * counter that says why.
 */
import { BURST_MAX, type Burst, type Port } from "../queues/driver.ts";
import type { FramePool } from "../queues/pool.ts";
import { C } from "./counters.ts";
import type { Fib } from "./fib.ts";
import { type Lookup, NOBODY } from "./lookup.ts";
import { HOST_INPUT, HOST_NO_PORT } from "./message.ts";
import { PLAIN_IP, PLAIN_PAYLOAD, PLAIN_UDP } from "./plain.ts";
import { LONG_BYTES, sum, swap16 } from "./wire/checksum.ts";
import { ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, ETH_RUNT, etherType, networkOffset } from "./wire/ethernet.ts";
import {
  checkIpv4,
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPV4_BAD_CHECKSUM,
  IPV4_DST,
  IPV4_HEADER,
  IPV4_OK,
  IPV4_SRC,
  IPV4_TRUNCATED,
  ipv4HeaderLength,
  ipv4IsFragment,
  ipv4Protocol,
  ipv4TotalLength,
} from "./wire/ipv4.ts";
import { checkOptions4, OPTIONS_OK } from "./wire/ipv4-options.ts";
import {
  checkIpv6,
  IPV6_DST,
  IPV6_HEADER,
  IPV6_NEXT_HEADER,
  IPV6_OK,
  IPV6_SRC,
  IPV6_TRUNCATED,
  ipv6PayloadLength,
  NEXTHDR_FRAGMENT,
} from "./wire/ipv6.ts";
import { checkTcp4, checkTcp6, TCP_BAD_HEADER, TCP_OK, TCP_PARTIAL } from "./wire/tcp.ts";
import {
  checkUdp4,
  checkUdp6,
  UDP_BAD_CHECKSUM,
  UDP_DST,
  UDP_HEADER,
  UDP_OK,
  UDP_PARTIAL,
  UDP_SRC,
} from "./wire/udp.ts";
import { type FrameViews, readInt32, readUint16 } from "./wire/views.ts";

/** Flows above which a burst's lookups are warmed: 16 bytes each at 3/8 full, so that the table exceeds half of 512 KiB. */
const WARM_FLOWS = 8192;
/** Equal to no IPv4 address, which is an int32. */
const NO_ADDRESS = 2 ** 32;

/** What is asked of the link that a frame came by. */
export type RxLink = Pick<Port, "ifindex" | "partialChecksums">;

/** Whom datagrams are handed to. */
export interface Receiver {
  /** Per socket id, what deliver() will look at first: warmed together with the lookups. */
  readonly handlerOf: Uint16Array;
  /** A datagram for a socket, in a frame that is given away: offsets of frame, IP header and UDP header. */
  deliver(socket: number, portNumber: number, frame: number, length: number, ip: number, udp: number): void;
  /** Notes for BPF programs how the datagram came that is about to be looked up or delivered. */
  note(portNumber: number, frame: number, ip: number, udp: number): void;
  /** Brings lookup tables and routes up to date. */
  control(): void;
  /**
   * Passes a frame that is for no socket to the host protocols, where the engine has its own (`HOST_...` says why). False:
   * it has none, the frame is still the caller's.
   */
  divert(frame: number, at: number, length: number, portNumber: number, reason: number): boolean;
  /** Whether this lcore has TCP. */
  readonly takesTcp: boolean;
  /** A segment for an own address, headers and checksum verified; the frame is given back by the caller. */
  segment(v6: boolean, ip: number, tcp: number, length: number, portNumber: number): void;
}

export class Input {
  private readonly ports: readonly Port[];
  private readonly pool: FramePool;
  private readonly counters: Float64Array;
  private readonly views: FrameViews;
  private readonly bytes: Uint8Array;
  private readonly half: Uint16Array;
  private readonly lookup: Lookup;
  private readonly fib: Fib;
  private readonly receiver: Receiver;
  private readonly handlerOf: Uint16Array;
  private readonly lastRx: Int32Array;
  /** The own IPv4 address found last. */
  private local4 = NO_ADDRESS;
  /** What begins here or later is no frame, but a buffer of LargePackets. */
  private readonly largeAt: number;
  private readonly warmKeys = new Int32Array(3 * BURST_MAX);
  private readonly warmed = new Int32Array(BURST_MAX);

  /**
   * @param views the lcore's frame memory, of which `pool` has the free frames
   * @param lastRx the socket table's plane, which the receiver writes
   */
  constructor(
    ports: readonly Port[],
    pool: FramePool,
    views: FrameViews,
    lookup: Lookup,
    fib: Fib,
    counters: Float64Array,
    receiver: Receiver,
    lastRx: Int32Array,
  ) {
    this.ports = ports;
    this.pool = pool;
    this.largeAt = pool.frames * pool.frameSize;
    this.counters = counters;
    this.views = views;
    this.bytes = views.bytes;
    this.half = views.half;
    this.lookup = lookup;
    this.fib = fib;
    this.receiver = receiver;
    this.handlerOf = receiver.handlerOf;
    this.lastRx = lastRx;
  }

  /** To be called when the FIB's copy has changed. */
  addressesChanged(): void {
    this.local4 = NO_ADDRESS;
  }

  /** Handles a received burst. Every frame is delivered or dropped, and goes back to the pool when done. */
  burst(portNumber: number, burst: Burst): void {
    const port = this.ports[portNumber];
    const { counters, receiver } = this;
    const count = burst.count;
    let received = 0;
    if (this.lookup.flows4.count > WARM_FLOWS) this.warm(burst);
    for (let i = 0; i < count; i++) {
      const frame = burst.offset[i];
      const length = burst.length[i];
      received += length;
      if (frame >= this.largeAt) {
        this.largeInput(port, portNumber, frame, length);
        continue;
      }
      const socket = this.plainUdp4(port, portNumber, frame, length);
      if (socket >= 0) receiver.deliver(socket, portNumber, frame, length, frame + PLAIN_IP, frame + PLAIN_UDP);
      else if (socket === NOBODY) this.frameInput(port, portNumber, frame, length);
      else this.give(socket, portNumber, frame, length, frame + PLAIN_IP, frame + PLAIN_UDP);
    }
    counters[C.RxFrames] += count;
    counters[C.RxBytes] += received;
    counters[C.RxBursts]++;
  }

  /**
   * Touches what the lookups of a burst will need, where the flow table has outgrown the caches: three short loops, in
   * each of which the misses of all frames overlap. With 1,000,000 flows it brings a datagram from 340 ns to 131.
   * Frames are taken for plain ones, unchecked; what is no plain frame touches some slot for nothing.
   */
  private warm(burst: Burst): void {
    const { half, handlerOf, lastRx, warmKeys, warmed } = this;
    const count = burst.count;
    for (let i = 0, at = 0; i < count; i++, at += 3) {
      const ip = (burst.offset[i] + PLAIN_IP) >> 1;
      warmKeys[at] = (swap16(half[ip + 8]) << 16) | swap16(half[ip + 9]);
      warmKeys[at + 1] = (swap16(half[ip + 6]) << 16) | swap16(half[ip + 7]);
      warmKeys[at + 2] = (swap16(half[ip + 11]) << 16) | swap16(half[ip + 10]);
    }
    this.lookup.flows4.touch(warmKeys, warmed, count);
    let touched = 0;
    // The values touched may be those of other keys in the slot: the table tells sockets from groups only by a lookup.
    for (let i = 0; i < count; i++) touched += handlerOf[warmed[i] & 0x3fffff] | lastRx[warmed[i] & 0x3fffff];
    warmed[0] = touched;
  }

  /**
   * What the look-up says of a frame that is an untagged IPv4 packet without options that holds a whole UDP datagram for us,
   * with both checksums right; NOBODY for every other frame, which then takes the full path (frameInput), where the reason
   * is found and counted.
   *
   * All in one function, each halfword of the headers loaded once: as calls of checkIpv4, checkUdp4 and readInt32 the
   * same work took 30 ns more a frame (of 93, Bun 1.4.5, AMD EPYC 7003), since the JIT does not inline them all here.
   * Halfwords are as the CPU reads them, so constants are in swapped byte order.
   */
  private plainUdp4(port: Port, portNumber: number, frame: number, length: number): number {
    const { half } = this;
    const ip = (frame + PLAIN_IP) >> 1;
    if (length < PLAIN_PAYLOAD || (frame & 1) !== 0 || half[ip - 1] !== 0x0008) return NOBODY;
    const h0 = half[ip];
    const h1 = half[ip + 1];
    const h3 = half[ip + 3];
    const h4 = half[ip + 4];
    // Version 4 with 20 bytes of header; no fragment; protocol 17.
    if ((h0 & 0xff) !== 0x45 || (h3 & 0xff3f) !== 0 || h4 >> 8 !== IPPROTO_UDP) return NOBODY;
    const h6 = half[ip + 6];
    const h7 = half[ip + 7];
    const h8 = half[ip + 8];
    const h9 = half[ip + 9];
    const addresses = h6 + h7 + h8 + h9;
    let total = h0 + h1 + half[ip + 2] + h3 + h4 + half[ip + 5] + addresses;
    total = (total & 0xffff) + (total >>> 16);
    if (total !== 0xffff) return NOBODY;
    const packet = ((h1 & 0xff) << 8) | (h1 >> 8);
    const udp = ip + 10;
    const u0 = half[udp];
    const u1 = half[udp + 1];
    const u2 = half[udp + 2];
    const u3 = half[udp + 3];
    const datagram = ((u2 & 0xff) << 8) | (u2 >> 8);
    if (packet > length - PLAIN_IP || datagram < UDP_HEADER || datagram > packet - IPV4_HEADER) return NOBODY;
    if (u3 !== 0) {
      // The pseudo-header has the length and the protocol once more.
      const headers = addresses + u0 + u1 + u2 + u2 + u3 + (IPPROTO_UDP << 8);
      const bytes = datagram - UDP_HEADER;
      let check = headers;
      if (bytes < LONG_BYTES) {
        const end = udp + 4 + (bytes >> 1);
        for (let i = udp + 4; i < end; i++) check = (check + half[i]) | 0;
        if ((bytes & 1) !== 0) check = (check + (half[end] & 0xff)) | 0;
      } else {
        check = sum(this.views, frame + PLAIN_PAYLOAD, bytes, headers);
      }
      if ((check & 0xffff) + (check >>> 16) !== 0xffff) return NOBODY;
    }
    const local = (swap16(h8) << 16) | swap16(h9);
    if (local !== this.local4 && !this.isOwn4(local)) return NOBODY;
    const remote = (swap16(h6) << 16) | swap16(h7);
    if (remote >>> 24 >= 224 || remote >>> 24 === 127 || remote >>> 24 === 0) return NOBODY;
    const localPort = swap16(u1);
    const { lookup } = this;
    const only = lookup.only4[localPort];
    if (only >= 0) return only;
    if (lookup.connected[localPort] > 0) {
      const socket = lookup.flows4.lookup(IPPROTO_UDP, local, localPort, remote, swap16(u0));
      if (socket >= 0 && u0 !== 0) return socket;
    }
    return lookup.bound4(local, localPort, remote, swap16(u0), portNumber, port.ifindex);
  }

  /** Whether an IPv4 address is the host's own; the one found last is remembered, for hosts have few. */
  private isOwn4(address: number): boolean {
    if (!this.fib.isLocal(0, 0, 0xffff, address)) return this.hasNews() && this.isOwn4(address);
    this.local4 = address;
    return true;
  }

  private isOwn6(at: number): boolean {
    const { bytes } = this;
    return (
      this.fib.isLocal(
        readInt32(bytes, at),
        readInt32(bytes, at + 4),
        readInt32(bytes, at + 8),
        readInt32(bytes, at + 12),
      ) ||
      (this.hasNews() && this.isOwn6(at))
    );
  }

  /** Takes over what has changed since this turn's control(), addresses above all. False when nothing has. */
  private hasNews(): boolean {
    if (!this.fib.isStale()) return false;
    this.receiver.control();
    return true;
  }

  private frameInput(port: RxLink, portNumber: number, frame: number, length: number): void {
    const network = networkOffset(this.bytes, frame, length);
    if (network < 0) {
      this.drop(frame, network === ETH_RUNT ? C.EthTruncated : C.EthUnknownType);
      return;
    }
    const type = etherType(this.bytes, network);
    if (type === ETH_P_IP) this.ipv4Input(port, portNumber, frame, length, network);
    else if (type === ETH_P_IPV6) this.ipv6Input(port, portNumber, frame, length, network);
    else if (type === ETH_P_ARP) this.divert(portNumber, frame, length, HOST_INPUT, C.EthUnknownType);
    else this.drop(frame, C.EthUnknownType);
  }

  /**
   * A whole packet that came by another way than a port, the Ethernet header before it: put together from fragments, or
   * sent by this host to itself. `port` stands for the interface.
   */
  packet(port: RxLink, frame: number, length: number): void {
    this.frameInput(port, 0, frame, length);
  }

  private divert(portNumber: number, frame: number, length: number, reason: number, counter: number): void {
    if (!this.receiver.divert(frame, frame, length, portNumber, reason)) this.drop(frame, counter);
  }

  private ipv4Input(port: RxLink, portNumber: number, frame: number, length: number, ip: number): void {
    const { bytes, views } = this;
    const verdict = checkIpv4(views, ip, frame + length - ip);
    if (verdict !== IPV4_OK) {
      this.drop(
        frame,
        verdict === IPV4_BAD_CHECKSUM
          ? C.IpInCsumErrors
          : verdict === IPV4_TRUNCATED
            ? C.IpInTruncatedPkts
            : C.IpInHdrErrors,
      );
      return;
    }
    if (ipv4HeaderLength(bytes, ip) > IPV4_HEADER && checkOptions4(bytes, ip) !== OPTIONS_OK) {
      if (this.isOwn4(readInt32(bytes, ip + IPV4_DST))) {
        this.divert(portNumber, frame, length, HOST_INPUT, C.IpInHdrErrors);
      } else {
        this.drop(frame, C.IpInHdrErrors);
      }
      return;
    }
    if (ipv4IsFragment(bytes, ip)) {
      // Others' would take the memory for ours.
      const isOurs = (bytes[frame] & 1) !== 0 || this.isOwn4(readInt32(bytes, ip + IPV4_DST));
      if (isOurs) this.divert(portNumber, frame, length, HOST_INPUT, C.IpInFragments);
      else this.drop(frame, C.IpInAddrErrors);
      return;
    }
    const protocol = ipv4Protocol(bytes, ip);
    if (protocol === IPPROTO_TCP && this.receiver.takesTcp) {
      this.done(frame, this.tcp4(port, portNumber, frame, ip));
      return;
    }
    if (protocol !== IPPROTO_UDP) {
      this.divert(portNumber, frame, length, HOST_INPUT, C.IpInUnknownProtos);
      return;
    }
    const udp = ip + ipv4HeaderLength(bytes, ip);
    const check = checkUdp4(views, udp, ipv4TotalLength(bytes, ip) - (udp - ip), ip);
    if (check !== UDP_OK && !this.acceptUdp(port, frame, check)) return;
    const local = readInt32(bytes, ip + IPV4_DST);
    const remote = readInt32(bytes, ip + IPV4_SRC);
    if (isMartian4(remote)) {
      this.drop(frame, C.IpInAddrErrors);
      return;
    }
    if (local !== this.local4 && !this.isOwn4(local)) {
      // Groups and broadcasts: whose they are the host protocols know.
      if ((bytes[frame] & 1) !== 0) this.divert(portNumber, frame, length, HOST_INPUT, C.IpInAddrErrors);
      else this.drop(frame, C.IpInAddrErrors);
      return;
    }
    const localPort = readUint16(bytes, udp + UDP_DST);
    const remotePort = readUint16(bytes, udp + UDP_SRC);
    let socket = this.lookup.udp4(local, localPort, remote, remotePort, portNumber, port.ifindex);
    if (socket === NOBODY && this.lookup.isStale()) {
      // Bound between this turn's control() and the frame's arrival.
      this.receiver.control();
      socket = this.lookup.udp4(local, localPort, remote, remotePort, portNumber, port.ifindex);
    }
    this.give(socket, portNumber, frame, length, ip, udp);
  }

  private ipv6Input(port: RxLink, portNumber: number, frame: number, length: number, ip: number): void {
    const { bytes, views } = this;
    const verdict = checkIpv6(bytes, ip, frame + length - ip);
    if (verdict !== IPV6_OK) {
      this.drop(frame, verdict === IPV6_TRUNCATED ? C.IpInTruncatedPkts : C.IpInHdrErrors);
      return;
    }
    if (bytes[ip + IPV6_NEXT_HEADER] === IPPROTO_TCP && this.receiver.takesTcp) {
      this.done(frame, this.tcp6(port, portNumber, frame, ip));
      return;
    }
    if (bytes[ip + IPV6_NEXT_HEADER] !== IPPROTO_UDP) {
      if (
        bytes[ip + IPV6_NEXT_HEADER] === NEXTHDR_FRAGMENT &&
        bytes[ip + IPV6_DST] !== 0xff &&
        !this.isOwn6(ip + IPV6_DST)
      ) {
        this.drop(frame, C.IpInAddrErrors);
        return;
      }
      this.divert(portNumber, frame, length, HOST_INPUT, C.IpInUnknownProtos);
      return;
    }
    const udp = ip + IPV6_HEADER;
    const check = checkUdp6(views, udp, ipv6PayloadLength(bytes, ip), ip);
    if (check !== UDP_OK && !this.acceptUdp(port, frame, check)) return;
    if (isMartian6(bytes, ip + IPV6_SRC)) {
      this.drop(frame, C.IpInAddrErrors);
      return;
    }
    if (!this.isOwn6(ip + IPV6_DST)) {
      if (bytes[ip + IPV6_DST] === 0xff) this.divert(portNumber, frame, length, HOST_INPUT, C.IpInAddrErrors);
      else this.drop(frame, C.IpInAddrErrors);
      return;
    }
    const localPort = readUint16(bytes, udp + UDP_DST);
    const remotePort = readUint16(bytes, udp + UDP_SRC);
    let socket = this.lookup.udp6(bytes, ip, localPort, remotePort, portNumber, port.ifindex);
    if (socket === NOBODY && this.lookup.isStale()) {
      this.receiver.control();
      socket = this.lookup.udp6(bytes, ip, localPort, remotePort, portNumber, port.ifindex);
    }
    this.give(socket, portNumber, frame, length, ip, udp);
  }

  /** Delivers to whom a look-up has found; where a reuseport group has a program, that is asked first. */
  give(found: number, portNumber: number, frame: number, length: number, ip: number, udp: number): void {
    const { lookup, receiver } = this;
    let socket = found;
    if (socket < NOBODY) {
      receiver.note(portNumber, frame, ip, udp);
      socket = lookup.choose(socket, this.bytes, portNumber);
    }
    if (socket === NOBODY) this.divert(portNumber, frame, length, HOST_NO_PORT, C.UdpNoPorts);
    else receiver.deliver(socket, portNumber, frame, length, ip, udp);
  }

  /**
   * A packet longer than a frame, in a buffer of LargePackets: what the kernel of a host on the same machine leaves to be cut
   * into segments. It goes to TCP alone, which copies what it wants.
   */
  private largeInput(port: RxLink, portNumber: number, at: number, length: number): void {
    const { bytes, counters, views } = this;
    const ip = networkOffset(bytes, at, length);
    const end = at + length - ip;
    const type = ip < 0 ? 0 : etherType(bytes, ip);
    let counter: number = C.IpInLong;
    if (type === ETH_P_IP && checkIpv4(views, ip, end) === IPV4_OK && this.isTcp4(ip))
      counter = this.tcp4(port, portNumber, at, ip);
    else if (type === ETH_P_IPV6 && checkIpv6(bytes, ip, end) === IPV6_OK && this.isTcp6(ip))
      counter = this.tcp6(port, portNumber, at, ip);
    if (counter >= 0) counters[counter]++;
  }

  private isTcp4(ip: number): boolean {
    const { bytes } = this;
    return ipv4Protocol(bytes, ip) === IPPROTO_TCP && !ipv4IsFragment(bytes, ip) && this.receiver.takesTcp;
  }

  private isTcp6(ip: number): boolean {
    return this.bytes[ip + IPV6_NEXT_HEADER] === IPPROTO_TCP && this.receiver.takesTcp;
  }

  /** Frees a frame; `counter` of a drop, or -1. */
  private done(frame: number, counter: number): void {
    if (counter >= 0) this.counters[counter]++;
    this.pool.give(frame);
  }

  /** Returns the counter of a drop, or -1: it was taken. The frame stays the caller's. */
  private tcp4(port: RxLink, portNumber: number, frame: number, ip: number): number {
    const { bytes } = this;
    const header = ipv4HeaderLength(bytes, ip);
    const tcp = ip + header;
    const length = ipv4TotalLength(bytes, ip) - header;
    const check = checkTcp4(this.views, tcp, length, ip);
    if (check !== TCP_OK && !this.acceptTcp(port, check)) return tcpError(check);
    const local = readInt32(bytes, ip + IPV4_DST);
    const own = local === this.local4 || this.isOwn4(local);
    // A frame for many is no segment for us, whatever its address says (RFC 1122, section 3.3.6).
    if (!own || (bytes[frame] & 1) !== 0 || isMartian4(readInt32(bytes, ip + IPV4_SRC))) return C.IpInAddrErrors;
    this.receiver.segment(false, ip, tcp, length, portNumber);
    return -1;
  }

  private tcp6(port: RxLink, portNumber: number, frame: number, ip: number): number {
    const { bytes } = this;
    const tcp = ip + IPV6_HEADER;
    const length = ipv6PayloadLength(bytes, ip);
    const check = checkTcp6(this.views, tcp, length, ip);
    if (check !== TCP_OK && !this.acceptTcp(port, check)) return tcpError(check);
    if (!this.isOwn6(ip + IPV6_DST) || (bytes[frame] & 1) !== 0 || isMartian6(bytes, ip + IPV6_SRC))
      return C.IpInAddrErrors;
    this.receiver.segment(true, ip, tcp, length, portNumber);
    return -1;
  }

  /** As acceptUdp(), of a segment. */
  private acceptTcp(port: RxLink, check: number): boolean {
    if (check === TCP_PARTIAL) {
      this.counters[C.TcpPartialChecksums]++;
      if (port.partialChecksums) return true;
    }
    if (check !== TCP_BAD_HEADER) this.counters[C.TcpInErrs]++;
    return false;
  }

  /** Counts a datagram whose check did not say OK; true when it may pass all the same. Else it is dropped. */
  private acceptUdp(port: RxLink, frame: number, check: number): boolean {
    if (check === UDP_PARTIAL) {
      this.counters[C.UdpPartialChecksums]++;
      if (port.partialChecksums) return true;
    }
    this.drop(frame, check === UDP_BAD_CHECKSUM || check === UDP_PARTIAL ? C.UdpInCsumErrors : C.UdpInErrors);
    return false;
  }

  private drop(frame: number, counter: number): void {
    this.counters[counter]++;
    this.pool.give(frame);
  }
}

/** Counter of a segment that the door has refused. */
const tcpError = (check: number): number => (check === TCP_BAD_HEADER ? C.TcpInErrs : C.TcpInCsumErrors);

/**
 * Whether no packet on a wire may come from the address: this network, loopback, groups, broadcast (RFC 1122, 3.2.1.3).
 * Linux drops them as martians (net/ipv4/route.c, ip_route_input_slow); answered, they would reach whole networks.
 */
function isMartian4(source: number): boolean {
  const first = source >>> 24;
  return first === 0 || first === 127 || first >> 4 === 14 || source === -1;
}

/** As isMartian4() over IPv6: groups and the loopback address (net/ipv6/ip6_input.c, ip6_rcv_core). */
function isMartian6(bytes: Uint8Array, source: number): boolean {
  if (bytes[source] === 0xff) return true;
  return (
    readInt32(bytes, source) === 0 &&
    readInt32(bytes, source + 4) === 0 &&
    readInt32(bytes, source + 8) === 0 &&
    readInt32(bytes, source + 12) === 1
  );
}
