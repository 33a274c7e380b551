/**
 * Which member of a reuseport group gets a datagram, where more than the hash decides (net/core/sock_reuseport.c): the group's
 * program, then the NAPI ID and the CPU that members ask for, then the hash.
 */
import { DROPPED, type Programs } from "./bpf/programs.ts";
import { GROUPS_MAX } from "./reuseport.ts";
import { PORTS_MAX } from "./shared.ts";
import { CONNECTED, INCOMING_CPU, INCOMING_NAPI, type SocketTable, STATE } from "./table.ts";
import { IPV4_DST, IPV4_SRC } from "./wire/ipv4.ts";
import { IPV6_DST, IPV6_SRC } from "./wire/ipv6.ts";
import { UDP_DST, UDP_SRC } from "./wire/udp.ts";
import { readInt32, readUint16 } from "./wire/views.ts";

/** No socket. */
export const NOBODY = -1;

/** Of a datagram's addresses and ports, int32. `a` is what IPv6 addresses have more. */
export function flowHash(
  seed: number,
  a: number,
  local: number,
  localPort: number,
  remote: number,
  remotePort: number,
): number {
  let h = seed ^ a;
  h = Math.imul(h ^ remote, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13) ^ local, 0xc2b2ae35);
  h = Math.imul(h ^ (h >>> 16) ^ ((remotePort << 16) | localPort), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/** Which of `count` members a hash names: reciprocal_scale, the high half of hash * count, without a 64-bit product. */
export const memberOf = (hash: number, count: number): number => Math.floor(((hash >>> 0) * count) / 2 ** 32);

export class GroupChoice {
  private readonly table: SocketTable;
  private readonly programs: Programs;
  private readonly seed: number;
  /** Index in `portInfo` of the lcore's port 0. */
  private readonly info: number;
  private readonly portInfo: Int32Array;
  /** Slot of each group's program + 1, 0 for none, as this lcore knows it. */
  readonly programOf = new Uint16Array(GROUPS_MAX);

  constructor(table: SocketTable, programs: Programs, seed: number, lcore: number, portInfo: Int32Array) {
    this.table = table;
    this.programs = programs;
    this.seed = seed;
    this.info = lcore * PORTS_MAX * 2;
    this.portInfo = portInfo;
  }

  /** Asks the group's program about the datagram that `programs.arrival` names; where it chooses none, the rest decides. */
  choose(group: number, bytes: Uint8Array, portNumber: number): number {
    const { programs, table } = this;
    const count = table.groups.count(group);
    if (count === 0) return NOBODY;
    const slot = this.programOf[group] - 1;
    let index: number;
    if (programs.isReuseport(slot)) {
      const hash = programs.wantsHash(slot) ? this.hashOf(bytes) : 0;
      index = programs.select(slot, bytes, group, table.isAny(table.groups.member(group, 0)), hash);
    } else {
      index = programs.index(slot, bytes, count);
    }
    if (index === DROPPED) return NOBODY;
    const socket = index >= 0 ? table.groups.member(group, index) : programs.chosen;
    if (socket >= 0) return socket;
    return this.preferred(group, count, memberOf(this.hashOf(bytes), count), portNumber);
  }

  /**
   * choose() for the TCP segment that came by a port of the lcore.
   * @param frame offset in `bytes` of its Ethernet header; `ip` and `tcp` those of the further ones
   * @param length bytes from the TCP header on
   */
  chooseTcp(
    group: number,
    bytes: Uint8Array,
    portNumber: number,
    frame: number,
    ip: number,
    tcp: number,
    length: number,
  ): number {
    const { arrival } = this.programs;
    arrival.beginSegment(bytes, portNumber, frame, ip, tcp, length);
    const socket = this.choose(group, bytes, portNumber);
    arrival.endSegment();
    return socket;
  }

  /** Of the members from `first` on that are not connected, the one that asks for this NAPI ID, or this CPU, or the first. */
  preferred(group: number, count: number, first: number, portNumber: number): number {
    const { table } = this;
    const info = this.info + portNumber * 2;
    const napi = this.portInfo[info + 1];
    const cpu = this.portInfo[info];
    let byHash = NOBODY;
    let byCpu = NOBODY;
    for (let i = 0; i < count; i++) {
      const at = first + i;
      const member = table.groups.member(group, at < count ? at : at - count);
      if (table.get(member, STATE) === CONNECTED) continue;
      if (byHash === NOBODY) byHash = member;
      if (napi !== 0 && table.get(member, INCOMING_NAPI) === napi) return member;
      if (byCpu === NOBODY && table.get(member, INCOMING_CPU) === cpu) byCpu = member;
    }
    return byCpu === NOBODY ? byHash : byCpu;
  }

  private hashOf(bytes: Uint8Array): number {
    const { ip, udp } = this.programs.arrival;
    const localPort = readUint16(bytes, udp + UDP_DST);
    const remotePort = readUint16(bytes, udp + UDP_SRC);
    if (bytes[ip] >> 4 === 4) {
      return flowHash(
        this.seed,
        0,
        readInt32(bytes, ip + IPV4_DST),
        localPort,
        readInt32(bytes, ip + IPV4_SRC),
        remotePort,
      );
    }
    let remote = 0;
    for (let i = 0; i < 16; i += 4) remote ^= readInt32(bytes, ip + IPV6_SRC + i);
    let local = 0;
    for (let i = 0; i < 12; i += 4) local ^= readInt32(bytes, ip + IPV6_DST + i);
    return flowHash(this.seed, local, readInt32(bytes, ip + IPV6_DST + 12), localPort, remote, remotePort);
  }
}
