/** Datagrams to groups and broadcast addresses: a copy for every socket that wants one (__udp4_lib_mcast_deliver()). */
import { C } from "../sockets/counters.ts";
import { isMapped, isMulticast, loadIpv4, loadIpv6, sameWords } from "../sockets/host/words.ts";
import type { Stack } from "../sockets/stack.ts";
import { CONNECTED, DEVICE, IPPROTO_UDP, LOCAL, REMOTE, REMOTE_PORT, STATE } from "../sockets/table.ts";
import { wordsAt } from "../sockets/text-address.ts";
import { ETH_HEADER } from "../sockets/wire/ethernet.ts";
import { IPV4_DST, IPV4_SRC, ipv4HeaderLength, ipv4TotalLength } from "../sockets/wire/ipv4.ts";
import { IPV6_DST, IPV6_SRC, transport, transport6 } from "../sockets/wire/ipv6.ts";
import { checkUdp4, checkUdp6, UDP_DST, UDP_OK, UDP_PARTIAL, UDP_SRC } from "../sockets/wire/udp.ts";
import { type FrameViews, readInt32, readUint16 } from "../sockets/wire/views.ts";
import type { HostGroups } from "./host-groups.ts";
import type { HostWiring } from "./wiring.ts";

export class GroupDelivery {
  private readonly stack: Stack;
  private readonly groups: HostGroups;
  private readonly ifindex: number;
  private readonly partialChecksums: boolean;
  private readonly views: FrameViews;
  private readonly destination = new Int32Array(4);
  private readonly source = new Int32Array(4);

  constructor(own: HostWiring, stack: Stack, groups: HostGroups) {
    this.stack = stack;
    this.groups = groups;
    this.ifindex = own.ifindex;
    this.partialChecksums = own.partialChecksums;
    this.views = stack.shared.memories[stack.thread];
  }

  /** Takes a frame whose packet is whole, checked, and for a group or a broadcast address. */
  deliver(packet: Uint8Array): void {
    const { pool, counters } = this.stack;
    const frame = packet.length > this.stack.frameSize ? -1 : pool.take();
    if (frame < 0) {
      counters[C.PoolEmpty]++;
      return;
    }
    this.views.bytes.set(packet, frame);
    const udp = this.check(frame + ETH_HEADER);
    if (udp >= 0) this.copies(packet, frame, udp - frame);
    pool.give(frame);
  }

  /** Offset of the UDP header of the packet at `ip`, or -1: it is no datagram for us, and counted. */
  private check(ip: number): number {
    const { bytes } = this.views;
    const { counters } = this.stack;
    const isIpv4 = bytes[ip] >> 4 === 4;
    const left = isIpv4 ? ipv4TotalLength(bytes, ip) - ipv4HeaderLength(bytes, ip) : transport6(bytes, ip);
    const udp = isIpv4 ? ip + ipv4HeaderLength(bytes, ip) : transport.offset;
    if (isIpv4) {
      loadIpv4(this.destination, readInt32(bytes, ip + IPV4_DST));
      loadIpv4(this.source, readInt32(bytes, ip + IPV4_SRC));
    } else {
      loadIpv6(this.destination, bytes, ip + IPV6_DST);
      loadIpv6(this.source, bytes, ip + IPV6_SRC);
    }
    const verdict = isIpv4 ? checkUdp4(this.views, udp, left, ip) : checkUdp6(this.views, udp, left, ip);
    if (verdict !== UDP_OK && !(verdict === UDP_PARTIAL && this.partialChecksums)) {
      counters[verdict === UDP_PARTIAL ? C.UdpInCsumErrors : C.UdpInErrors]++;
      return -1;
    }
    if (!isMulticast(this.destination) || this.groups.accepts(this.destination, this.source)) return udp;
    counters[C.IpInAddrErrors]++;
    return -1;
  }

  private copies(packet: Uint8Array, checked: number, udpAt: number): void {
    const { stack } = this;
    const { bytes } = this.views;
    const remotePort = readUint16(bytes, checked + udpAt + UDP_SRC);
    const sockets = this.wantedBy(readUint16(bytes, checked + udpAt + UDP_DST), remotePort);
    if (sockets.length === 0) stack.counters[C.UdpNoPorts]++;
    stack.control();
    for (const socket of sockets) {
      const frame = stack.pool.take();
      if (frame < 0) {
        stack.counters[C.PoolEmpty]++;
        continue;
      }
      bytes.set(packet, frame);
      stack.deliver(socket, 0, frame, packet.length, frame + ETH_HEADER, frame + udpAt);
    }
  }

  private wantedBy(port: number, remotePort: number): number[] {
    const { table } = this.stack;
    const wanted: number[] = [];
    table.mutex.hold(() => {
      for (let id = table.firstBound(IPPROTO_UDP, port); id >= 0; id = table.nextBound(id)) {
        if (this.isFor(id, remotePort)) wanted.push(id);
      }
    });
    return wanted;
  }

  /** As __udp_is_mcast_sock(). */
  private isFor(id: number, remotePort: number): boolean {
    const { table } = this.stack;
    const { destination, source } = this;
    const isIpv4 = isMapped(destination);
    const speaks = table.isAny(id)
      ? isIpv4 === table.isV4(id) || (isIpv4 && table.speaksBoth(id))
      : sameWords(wordsAt(table, id, LOCAL), destination);
    if (!speaks) return false;
    const device = table.get(id, DEVICE);
    if (device !== 0 && device !== this.ifindex) return false;
    if (table.get(id, STATE) === CONNECTED) {
      if (table.get(id, REMOTE_PORT) !== remotePort || !sameWords(wordsAt(table, id, REMOTE), source)) return false;
    }
    return !isMulticast(destination) || this.groups.wants(id, destination, source);
  }
}
