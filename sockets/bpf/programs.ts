/**
 * Programs as one lcore runs them: functions made of what lies in the store, and the context each datagram is shown with. Made
 * when the change log says so; a datagram is only a call.
 *
 * What a program sees is what the kernel would show it. To a socket filter the packet begins with the UDP header; to a classic
 * program (or one of type socket_filter) that selects in a reuseport group, with the payload; to one of type sk_reuseport with
 * the UDP header. Of TCP a segment is shown, with its header and its payload, in the same way. The headers before it are there
 * for loads at SKF_NET_OFF and SKF_LL_OFF.
 */
import { sys } from "af-xdp-bindings";
import { IPPROTO_TCP, IPPROTO_UDP } from "../wire/ipv4.ts";
import { TCP_DATA_OFFSET, tcpHeaderLength } from "../wire/tcp.ts";
import { UDP_HEADER, udpLength } from "../wire/udp.ts";
import { readInt32, readUint16 } from "../wire/views.ts";
import type { ClassicFilter } from "./classic.ts";
import { makeClassic } from "./compile.ts";
import { type ExtendedProgram, makeExtended } from "./extended/compile.ts";
import { META, META_WORDS, REUSEPORT_MD, SKB } from "./extended/context.ts";
import type { SocketRegistry } from "./maps/array-map.ts";
import { openSharedMap } from "./maps/index.ts";
import { PacketContext } from "./packet-context.ts";
import { type BpfStore, CLASSIC, SK_REUSEPORT, SLOTS_MAX } from "./store.ts";

const SK_PASS = 1;
/** What a program gives that has chosen no member, and one that has dropped the datagram. */
export const NO_CHOICE = -1;
export const DROPPED = -2;

const PACKET_HOST = 0;
const PACKET_BROADCAST = 1;
const PACKET_MULTICAST = 2;
const ARPHRD_ETHER = 1;
const ETH_P_IP = 0x0800;
const ETH_P_IPV6 = 0x86dd;
const ETH_P_8021Q = 0x8100;
const ETH_P_8021AD = 0x88a8;
const ETH_TYPE = 12;
const NS_PER_MS = 1e6;

const swapped = (value: number): number => ((value & 0xff) << 8) | (value >> 8);

/** Fills in what an Arrival is told of its port: asked for those programs that ask themselves. */
export interface Describer {
  describe(arrival: Arrival): void;
}

/** A datagram in frame memory, and what is known of how it came. */
export class Arrival {
  /** Offsets of the frame, its IP and its UDP header; the lcore's port by which it came. */
  frame = 0;
  ip = 0;
  udp = 0;
  port = 0;
  /** TCP: then `udp` is where its header begins, and these are bytes of the header and of the whole segment. */
  protocol = IPPROTO_UDP;
  header = UDP_HEADER;
  length = 0;
  /** Interface, ARPHRD_... of it, and the queue counted from 1 (skb->queue_mapping). */
  ifindex = 0;
  hardwareType = ARPHRD_ETHER;
  queue = 0;
  napiId = 0;
  cpu = 0;

  /**
   * Names a TCP segment, until endSegment(): offsets in `bytes` of its Ethernet, IP and TCP header, and bytes from the last one on.
   * @param port of the lcore, by which it came
   */
  beginSegment(bytes: Uint8Array, port: number, frame: number, ip: number, tcp: number, length: number): void {
    this.port = port;
    this.frame = frame;
    this.ip = ip;
    this.udp = tcp;
    this.protocol = IPPROTO_TCP;
    this.header = tcpHeaderLength(bytes, tcp);
    this.length = length;
  }

  /** What is named next is a datagram again. */
  endSegment(): void {
    this.protocol = IPPROTO_UDP;
    this.header = UDP_HEADER;
  }
}

export class Programs {
  private readonly store: BpfStore;
  private readonly registry: SocketRegistry;
  /** Generation of the program that each slot's function was made of, 0 for none. */
  private readonly generations = new Int32Array(SLOTS_MAX);
  private readonly types = new Uint8Array(SLOTS_MAX);
  private readonly classics: (ClassicFilter | null)[] = Array(SLOTS_MAX).fill(null);
  private readonly extended: (ExtendedProgram | null)[] = Array(SLOTS_MAX).fill(null);
  private readonly context = new PacketContext();
  private readonly words = new Int32Array(META_WORDS);
  /** The datagram that filter() and select() are asked about: the caller fills it in. */
  readonly arrival = new Arrival();
  /** Whether a program asks for anything but the packet's own bytes, and whether it asks for the time: few do either. */
  private readonly asks = new Uint8Array(SLOTS_MAX);
  private readonly asksTime = new Uint8Array(SLOTS_MAX);
  /** The same for the CPU, which per-CPU maps ask for, and for a sk_reuseport program's hash. */
  private readonly asksCpu = new Uint8Array(SLOTS_MAX);
  private readonly asksHash = new Uint8Array(SLOTS_MAX);
  /** Whoever fills in the rest of `arrival`. */
  describer: Describer = { describe() {} };
  /** CLOCK_MONOTONIC when performance.now() was 0, nanoseconds: what bpf_ktime_get_ns counts from. */
  private clockStart = 0;

  constructor(store: BpfStore, registry: SocketRegistry) {
    this.store = store;
    this.registry = registry;
  }

  /** Makes the function of the program in a slot, unless it is there. Cold; under the socket table's mutex. */
  prepare(slot: number): void {
    const { store } = this;
    const generation = store.generation(slot);
    if (this.generations[slot] === generation) return;
    const type = store.typeOf(slot);
    const text = store.textOf(slot);
    this.classics[slot] = type === CLASSIC ? makeClassic(text) : null;
    this.extended[slot] =
      type === CLASSIC
        ? null
        : makeExtended(
            text,
            store.mapsOf(slot).map((map) => openSharedMap(store.describe(map), this.registry)),
          );
    this.asks[slot] = type !== CLASSIC || /\bc\.|, c\)/.test(text) ? 1 : 0;
    this.asksTime[slot] = type !== CLASSIC && text.includes(`c[${META.timeLow}]`) ? 1 : 0;
    this.asksCpu[slot] = type !== CLASSIC && text.includes(`c[${META.cpu}]`) ? 1 : 0;
    this.asksHash[slot] = type === SK_REUSEPORT && text.includes(`c[${REUSEPORT_MD.hash >> 2}]`) ? 1 : 0;
    if (this.asksTime[slot] === 1) this.clockStart = monotonicNs() - performance.now() * NS_PER_MS;
    this.types[slot] = type;
    this.generations[slot] = generation;
  }

  /** Whether the function of the program that a slot now has is made. */
  isReady(slot: number): boolean {
    return this.generations[slot] === this.store.generation(slot);
  }

  /** Runs a socket filter over the arrival. Returns bytes of the packet to keep, its UDP or TCP header counted; 0: drop. u32. */
  filter(slot: number, bytes: Uint8Array): number {
    const { arrival } = this;
    return this.run(slot, bytes, arrival.udp, this.lengthOf(bytes));
  }

  /** Whether a program chooses as sk_reuseport ones do: select(); others by index(). */
  isReuseport(slot: number): boolean {
    return this.types[slot] === SK_REUSEPORT;
  }

  /** Whether a sk_reuseport program reads the hash that select() is given. */
  wantsHash(slot: number): boolean {
    return this.asksHash[slot] === 1;
  }

  /** Runs the program of a reuseport group over the arrival. Returns a member's index, below `members`; or NO_CHOICE. */
  index(slot: number, bytes: Uint8Array, members: number): number {
    const { udp, header } = this.arrival;
    this.chosen = -1;
    const index = this.run(slot, bytes, udp + header, this.lengthOf(bytes) - header);
    return index < members ? index : NO_CHOICE;
  }

  /** Runs a program of type sk_reuseport over the arrival. Returns DROPPED or NO_CHOICE; `chosen` is the socket, if any. */
  select(slot: number, bytes: Uint8Array, group: number, isAny: boolean, hash: number): number {
    const { udp } = this.arrival;
    this.chosen = -1;
    const { words } = this;
    words[REUSEPORT_MD.eth_protocol >> 2] = swapped(protocolOf(bytes, this.arrival.ip));
    words[REUSEPORT_MD.ip_protocol >> 2] = this.arrival.protocol;
    words[REUSEPORT_MD.bind_inany >> 2] = isAny ? 1 : 0;
    words[REUSEPORT_MD.hash >> 2] = hash;
    words[META.group] = group;
    words[META.selected] = -1;
    this.setPlace(slot, udp);
    const verdict = (this.extended[slot] as ExtendedProgram)(bytes, udp, this.lengthOf(bytes), words);
    if (verdict !== SK_PASS) return DROPPED;
    this.chosen = words[META.selected];
    return NO_CHOICE;
  }

  /** Id of the socket that a program of type sk_reuseport has selected from a map, -1 for none. */
  chosen = -1;

  /** Bytes of the arrival from its UDP or TCP header on. */
  private lengthOf(bytes: Uint8Array): number {
    const { arrival } = this;
    return arrival.protocol === IPPROTO_UDP ? udpLength(bytes, arrival.udp) : arrival.length;
  }

  private run(slot: number, bytes: Uint8Array, at: number, length: number): number {
    const classic = this.classics[slot];
    if (classic !== null) {
      if (this.asks[slot] === 1) this.fillContext(bytes, at, length);
      return classic(bytes, at, length, this.context);
    }
    this.fillWords(bytes);
    this.setPlace(slot, at);
    return (this.extended[slot] as ExtendedProgram)(bytes, at, length, this.words);
  }

  private fillContext(bytes: Uint8Array, at: number, length: number): void {
    const { arrival, context } = this;
    const { frame } = arrival;
    this.describer.describe(arrival);
    context.protocol = protocolOf(bytes, arrival.ip);
    context.packetType = packetType(bytes, frame, arrival.ip);
    context.ifindex = arrival.ifindex;
    context.hardwareType = arrival.hardwareType;
    context.queue = arrival.queue;
    context.cpu = arrival.cpu;
    const tag = readUint16(bytes, frame + ETH_TYPE);
    context.vlanPresent = tag === ETH_P_8021Q || tag === ETH_P_8021AD ? 1 : 0;
    context.vlanProtocol = context.vlanPresent === 1 ? tag : 0;
    context.vlanTag = context.vlanPresent === 1 ? readUint16(bytes, frame + ETH_TYPE + 2) : 0;
    // Of the payload as the dissector finds it, from where the packet begins; before that it counts in 16 bits (thoff).
    const transport = Math.min((arrival.udp - at) & 0xffff, length);
    // Of TCP's header the length is looked up there (__skb_get_poff), where the packet has it.
    const isThere = arrival.protocol === IPPROTO_UDP || transport + TCP_DATA_OFFSET < length;
    context.payloadOffset = isThere ? transport + arrival.header : transport;
    context.networkOffset = arrival.ip - at;
    context.linkOffset = frame - at;
  }

  private fillWords(bytes: Uint8Array): void {
    const { arrival, words } = this;
    const { frame } = arrival;
    this.describer.describe(arrival);
    const tag = readUint16(bytes, frame + ETH_TYPE);
    const isTagged = tag === ETH_P_8021Q || tag === ETH_P_8021AD;
    words[SKB.pkt_type >> 2] = packetType(bytes, frame, arrival.ip);
    words[SKB.mark >> 2] = 0;
    words[SKB.queue_mapping >> 2] = arrival.queue;
    words[SKB.protocol >> 2] = swapped(protocolOf(bytes, arrival.ip));
    words[SKB.vlan_present >> 2] = isTagged ? 1 : 0;
    words[SKB.vlan_tci >> 2] = isTagged ? readUint16(bytes, frame + ETH_TYPE + 2) : 0;
    words[SKB.vlan_proto >> 2] = isTagged ? swapped(tag) : 0;
    words[SKB.priority >> 2] = 0;
    words[SKB.ingress_ifindex >> 2] = arrival.ifindex;
    words[SKB.ifindex >> 2] = arrival.ifindex;
    words[SKB.tc_index >> 2] = 0;
    for (let i = 0; i < 5; i++) words[(SKB.cb >> 2) + i] = 0;
    words[SKB.hash >> 2] = 0;
    words[SKB.napi_id >> 2] = arrival.napiId;
    words[SKB.gso_segs >> 2] = 0;
    words[SKB.gso_size >> 2] = 0;
  }

  /** What helpers ask for. */
  private setPlace(slot: number, at: number): void {
    const { arrival, words } = this;
    words[META.networkOffset] = arrival.ip - at;
    words[META.linkOffset] = arrival.frame - at;
    if (this.asksCpu[slot] === 1) {
      this.describer.describe(arrival);
      words[META.cpu] = arrival.cpu;
    }
    if (this.asksTime[slot] === 0) return;
    const now = this.clockStart + performance.now() * NS_PER_MS;
    words[META.timeLow] = now | 0;
    words[META.timeHigh] = now / 2 ** 32;
  }
}

const CLOCK_MONOTONIC = 1;

function monotonicNs(): number {
  // struct timespec.
  const time = new BigInt64Array(2);
  sys.sys3(sys.SYS.clock_gettime, CLOCK_MONOTONIC, sys.addressOf(time), 0);
  return Number(time[0] * 1_000_000_000n + time[1]);
}

const protocolOf = (bytes: Uint8Array, ip: number): number => (bytes[ip] >> 4 === 4 ? ETH_P_IP : ETH_P_IPV6);

/** skb->pkt_type. What came by the kernel has no MAC addresses: then the IP destination tells. */
function packetType(bytes: Uint8Array, frame: number, ip: number): number {
  if ((bytes[frame] & 1) !== 0) {
    return readInt32(bytes, frame) === -1 && readUint16(bytes, frame + 4) === 0xffff
      ? PACKET_BROADCAST
      : PACKET_MULTICAST;
  }
  if (bytes[ip] >> 4 !== 4) return bytes[ip + 24] === 0xff ? PACKET_MULTICAST : PACKET_HOST;
  const destination = readInt32(bytes, ip + 16);
  if (destination === -1) return PACKET_BROADCAST;
  return destination >>> 28 === 14 ? PACKET_MULTICAST : PACKET_HOST;
}
