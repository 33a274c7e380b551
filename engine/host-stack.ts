/**
 * The host protocols at work: what the lcores give goes to reassembly, ICMP, neighbours or sockets; what sockets send
 * without a known way is taken apart, resolved and sent; the FIB is published when something was learned. The protocols
 * themselves, in sockets/host/, know neither threads nor clocks.
 */
import { Random } from "../queues/random.ts";
import { C } from "../sockets/counters.ts";
import type { FibWriter } from "../sockets/fib.ts";
import { Fragmenter, FragmentIds } from "../sockets/host/fragment.ts";
import {
  HOST_FRAGMENT,
  HOST_GROUPS,
  HOST_TRANSPORT,
  Host,
  type HostEvents,
  type IcmpReport,
} from "../sockets/host/host.ts";
import { USED_INTERVAL_MS } from "../sockets/host/neighbours.ts";
import {
  FRAGMENT_COMPLETES,
  FRAGMENT_NONE,
  FRAGMENT_PROBLEM,
  PACKET_AT,
  Reassembly,
} from "../sockets/host/reassembly.ts";
import type { HostLink, HostReceiver } from "../sockets/host-link.ts";
import type { RxLink } from "../sockets/input.ts";
import { HOST_NO_PORT, HOST_SEND, HOST_SEND_LOOP } from "../sockets/message.ts";
import type { Stack } from "../sockets/stack.ts";
import { ETH_HEADER, ETH_P_IP, ETH_P_IPV6, etherType, networkOffset } from "../sockets/wire/ethernet.ts";
import { IPPROTO_UDP, IPV4_DST, IPV4_FRAGMENT, IPV4_SRC, ipv4Protocol } from "../sockets/wire/ipv4.ts";
import {
  IPV6_DST,
  IPV6_HEADER,
  IPV6_NEXT_HEADER,
  IPV6_PAYLOAD_LENGTH,
  transport,
  transport6,
} from "../sockets/wire/ipv6.ts";
import { FrameViews, readInt32, writeUint16 } from "../sockets/wire/views.ts";
import { GroupDelivery } from "./group-delivery.ts";
import { HostErrors } from "./host-errors.ts";
import { HostGroups } from "./host-groups.ts";
import type { HostWiring } from "./wiring.ts";

/** Where a fragment is built: 16-byte alignment for its IP header. */
const BUILD_AT = 16;
const FRAME_MAX = 65536 + BUILD_AT;
/** Sets chance apart from the keys that are made of the same seed. */
const RANDOM_SEED = 0x686f7374;

/** Another station has an address of ours; `lost`: it had it first, and ours is not used. */
export type OnConflict = (address: Uint8Array, mac: Uint8Array, lost: boolean) => void;

export class HostStack implements HostReceiver, HostEvents {
  /** Milliseconds of the loop's clock. */
  now: number;
  private readonly stack: Stack;
  private readonly link: HostLink;
  private readonly writer: FibWriter;
  private readonly host: Host;
  private readonly errors: HostErrors;
  private readonly groups: HostGroups;
  private readonly delivery: GroupDelivery;
  /** A packet of IGMP or MLD, where words can be read. */
  private readonly control = new FrameViews(new Uint8Array(FRAME_MAX));
  private readonly rx: RxLink;
  private readonly reassembly: Reassembly;
  private readonly fragmenter = new Fragmenter();
  private readonly ids = new FragmentIds((words) => void crypto.getRandomValues(words));
  private readonly built = new FrameViews(new Uint8Array(FRAME_MAX));
  private readonly onConflict: OnConflict;
  /** The lcore and port that a frame came by last: what answers it leaves there. */
  private lcore = 0;
  private port = 0;
  /** When the lcores' marks are to be looked at next. */
  private usedAt: number;

  constructor(own: HostWiring, stack: Stack, writer: FibWriter, seed: number, now: number, onConflict: OnConflict) {
    this.now = now;
    this.usedAt = now + USED_INTERVAL_MS;
    this.stack = stack;
    this.writer = writer;
    this.onConflict = onConflict;
    this.rx = { ifindex: own.ifindex, partialChecksums: own.partialChecksums };
    this.link = stack.useHost(stack.thread, this);
    this.reassembly = new Reassembly(seed, (packet, at, length) => {
      this.host.reassemblyTimeout(packet.bytes.subarray(at, at + length), this.now);
    });
    const random = new Random(seed ^ RANDOM_SEED);
    this.host = new Host(own, this, random, now, stack.counters);
    this.groups = new HostGroups(own, stack.table, random, (frame) => this.transmit(frame));
    this.delivery = new GroupDelivery(own, stack, this.groups);
    this.errors = new HostErrors(stack, own.ifindex);
    this.changed();
  }

  /** Whether no address is still being checked for other users. */
  get isSettled(): boolean {
    return this.host.isSettled;
  }

  /** Addresses of ours that packets may be sent from, 4 or 16 bytes each. */
  get addressesInUse(): Uint8Array[] {
    return this.host.fib().addresses.map(({ address }) => address);
  }

  /** The link was switched off, and is on again: begins anew, as at the start. */
  restart(now: number): void {
    this.host.restart(now);
    this.groups.announce(now);
  }

  /** The link was without carrier for a while. */
  reconnect(now: number): void {
    this.host.reconnect(now);
    this.groups.announce(now);
  }

  /** Timers. Returns when it is to be called next. */
  tick(now: number): number {
    this.now = now;
    if (now >= this.usedAt) {
      this.usedAt = now + USED_INTERVAL_MS;
      // The lcores look for their ways anew, and mark them again.
      if (this.noteUsed() > 0) this.writer.publish(this.host.fib());
    }
    return Math.min(this.host.tick(now), this.reassembly.tick(now), this.groups.tick(now), this.usedAt);
  }

  /** HostReceiver.take: what an lcore gives. */
  take(bytes: Uint8Array, at: number, length: number, reason: number, lcore: number, port: number): void {
    const frame = bytes.subarray(at, at + length);
    if (reason === HOST_SEND || reason === HOST_SEND_LOOP) {
      this.output(frame);
      if (reason === HOST_SEND_LOOP) this.delivery.deliver(frame);
      return;
    }
    if (lcore !== this.stack.thread) {
      this.lcore = lcore;
      this.port = port;
    }
    if (reason !== HOST_NO_PORT) {
      this.input(frame);
      return;
    }
    this.stack.counters[C.UdpNoPorts]++;
    this.host.portUnreachable(frame, this.now);
  }

  /** HostReceiver.group. */
  group(words: Int32Array, at: number): void {
    this.groups.request(words, at, this.now);
  }

  // ---- HostEvents ----

  transmit(frame: Uint8Array): void {
    this.link.transmit(this.lcore, this.port, frame);
  }

  transmitPacket(frame: Uint8Array): void {
    this.output(frame);
  }

  changed(): void {
    this.noteUsed();
    this.writer.publish(this.host.fib());
    this.groups.follow(this.host.addresses, this.host.groups(), this.now);
  }

  error(report: IcmpReport): void {
    if (this.errors.tell(report)) this.host.acceptPathMtu(report, this.now);
  }

  conflict(address: Uint8Array, mac: Uint8Array, lost: boolean): void {
    this.onConflict(address, mac, lost);
  }

  /** Tells of the neighbours that the lcores send to by the FIB; returns how many. */
  private noteUsed(): number {
    return this.writer.used((words) => this.host.used(words, this.now));
  }

  // ---- in ----

  private input(frame: Uint8Array): void {
    switch (this.host.receive(frame, this.now)) {
      case HOST_FRAGMENT:
        this.fragment(frame);
        return;
      case HOST_GROUPS:
        this.control.bytes.set(frame.subarray(ETH_HEADER), 0);
        this.groups.receive(this.control, 0, this.now);
        return;
      case HOST_TRANSPORT:
        this.transport(frame);
        return;
    }
  }

  private transport(frame: Uint8Array): void {
    const isIpv4 = frame[ETH_HEADER] >> 4 === 4;
    if (!this.isOwn(frame, isIpv4)) this.delivery.deliver(frame);
    else if (!isIpv4 && frame[ETH_HEADER + IPV6_NEXT_HEADER] !== IPPROTO_UDP) this.withoutExtensions(frame);
    else this.stack.counters[C.IpInUnknownProtos]++;
  }

  /** A datagram behind extension headers, which have been stepped over, goes on without them. */
  private withoutExtensions(frame: Uint8Array): void {
    const { bytes } = this.built;
    const left = transport6(frame, ETH_HEADER);
    const { offset } = transport;
    bytes.set(frame.subarray(0, ETH_HEADER + IPV6_HEADER));
    bytes.set(frame.subarray(offset, offset + left), ETH_HEADER + IPV6_HEADER);
    bytes[ETH_HEADER + IPV6_NEXT_HEADER] = IPPROTO_UDP;
    writeUint16(bytes, ETH_HEADER + IPV6_PAYLOAD_LENGTH, left);
    this.stack.injectPacket(bytes.subarray(0, ETH_HEADER + IPV6_HEADER + left), this.rx);
  }

  private fragment(frame: Uint8Array): void {
    const { reassembly, now } = this;
    const ip = networkOffset(frame, 0, frame.length);
    const isIpv4 = etherType(frame, ip) === ETH_P_IP;
    const verdict = isIpv4 ? reassembly.receive4(frame, ip, now) : reassembly.receive6(frame, ip, now);
    if (verdict === FRAGMENT_COMPLETES) this.reassembled(frame, isIpv4 ? ETH_P_IP : ETH_P_IPV6);
    else if (verdict > FRAGMENT_NONE) this.stack.counters[C.IpInFragments]++;
    if (verdict !== FRAGMENT_PROBLEM) return;
    this.host.parameterProblem(frame.subarray(ip), reassembly.problemCode, reassembly.problemPointer, now);
  }

  /** What has become whole goes the way of what came whole; `frame` is the last of its fragments. */
  private reassembled(frame: Uint8Array, type: number): void {
    const { reassembly } = this;
    const { bytes } = reassembly.packet;
    const start = PACKET_AT - ETH_HEADER;
    for (let i = 0; i < 12; i++) bytes[start + i] = frame[i];
    bytes[PACKET_AT - 2] = type >> 8;
    bytes[PACKET_AT - 1] = type & 0xff;
    const whole = bytes.subarray(start, PACKET_AT + reassembly.length);
    const protocol = type === ETH_P_IP ? ipv4Protocol(whole, ETH_HEADER) : whole[ETH_HEADER + IPV6_NEXT_HEADER];
    if (protocol === IPPROTO_UDP) this.stack.injectPacket(whole, this.rx);
    else this.input(whole);
  }

  // ---- out ----

  /** A packet of a socket, or of ICMP, with an Ethernet header that has no addresses yet. */
  private output(frame: Uint8Array): number {
    const isIpv4 = frame[ETH_HEADER] >> 4 === 4;
    if (this.isOwn(frame, isIpv4)) {
      this.stack.injectPacket(frame, this.rx);
      return 0;
    }
    const mtu = this.host.pathMtu(frame);
    if (frame.length - ETH_HEADER <= mtu) return this.host.send(frame, this.now);
    return this.sendFragments(frame, isIpv4, mtu);
  }

  private sendFragments(frame: Uint8Array, isIpv4: boolean, mtu: number): number {
    const { built, fragmenter, ids } = this;
    // Its socket allows fragments; the flag is for packets that fit (ip_dont_fragment(), __ip_make_skb()).
    if (isIpv4) writeUint16(frame, ETH_HEADER + IPV4_FRAGMENT, 0);
    const count = isIpv4
      ? fragmenter.begin4(frame, ETH_HEADER, mtu, this.nextId4(frame))
      : fragmenter.begin6(frame, ETH_HEADER, mtu, ids.next6());
    if (count < 0) {
      this.stack.counters[C.UdpOutErrors]++;
      return count;
    }
    const start = BUILD_AT - ETH_HEADER;
    for (let i = 0; i < count; i++) {
      const length = fragmenter.write(i, built, BUILD_AT);
      built.bytes.fill(0, start, BUILD_AT - 2);
      built.bytes[BUILD_AT - 2] = frame[12];
      built.bytes[BUILD_AT - 1] = frame[13];
      this.host.send(built.bytes.subarray(start, BUILD_AT + length), this.now);
    }
    return 0;
  }

  private nextId4(frame: Uint8Array): number {
    const source = readInt32(frame, ETH_HEADER + IPV4_SRC);
    return this.ids.next4(source, readInt32(frame, ETH_HEADER + IPV4_DST), ipv4Protocol(frame, ETH_HEADER));
  }

  private isOwn(frame: Uint8Array, isIpv4: boolean): boolean {
    const { fib } = this.stack;
    if (isIpv4) return fib.isLocal(0, 0, 0xffff, readInt32(frame, ETH_HEADER + IPV4_DST));
    const at = ETH_HEADER + IPV6_DST;
    return fib.isLocal(
      readInt32(frame, at),
      readInt32(frame, at + 4),
      readInt32(frame, at + 8),
      readInt32(frame, at + 12),
    );
  }
}
