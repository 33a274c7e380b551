/**
 * The host protocols at work: what the lcores give goes to reassembly, ICMP, neighbours or sockets; what sockets send
 * without a known way is taken apart, resolved and sent; the FIB is published when something was learned. The protocols
 * themselves, in sockets/host/, know neither threads nor clocks.
 */
import { C } from "../sockets/counters.ts";
import type { FibWriter } from "../sockets/fib.ts";
import { Fragmenter, FragmentIds } from "../sockets/host/fragment.ts";
import { Host, type HostEvents } from "../sockets/host/host.ts";
import { FRAGMENT_COMPLETES, FRAGMENT_NONE, PACKET_AT, Reassembly } from "../sockets/host/reassembly.ts";
import type { HostLink, HostReceiver } from "../sockets/host-link.ts";
import type { RxLink } from "../sockets/input.ts";
import { HOST_NO_PORT, HOST_SEND } from "../sockets/message.ts";
import type { Stack } from "../sockets/stack.ts";
import { ETH_HEADER, ETH_P_IP, ETH_P_IPV6, etherType, networkOffset } from "../sockets/wire/ethernet.ts";
import { IPPROTO_UDP, IPV4_DST, IPV4_SRC, ipv4IsFragment, ipv4Protocol } from "../sockets/wire/ipv4.ts";
import { IPV6_DST, IPV6_NEXT_HEADER } from "../sockets/wire/ipv6.ts";
import { FrameViews, readInt32 } from "../sockets/wire/views.ts";
import type { HostWiring } from "./wiring.ts";

/** Where a fragment is built: 16-byte alignment for its IP header. */
const BUILD_AT = 16;
const FRAME_MAX = 65536 + BUILD_AT;

export class HostStack implements HostReceiver, HostEvents {
  /** Milliseconds of the loop's clock. */
  now: number;
  private readonly stack: Stack;
  private readonly link: HostLink;
  private readonly writer: FibWriter;
  private readonly host: Host;
  private readonly rx: RxLink;
  private readonly mtu: number;
  private readonly reassembly: Reassembly;
  private readonly fragmenter = new Fragmenter();
  private readonly ids = new FragmentIds();
  private readonly built = new FrameViews(new Uint8Array(FRAME_MAX));
  /** The lcore and port that a frame came by last: what answers it leaves there. */
  private lcore = 0;
  private port = 0;

  constructor(own: HostWiring, stack: Stack, writer: FibWriter, seed: number, now: number) {
    this.now = now;
    this.stack = stack;
    this.writer = writer;
    this.mtu = own.mtu;
    this.rx = { ifindex: own.ifindex, partialChecksums: own.partialChecksums };
    this.link = stack.useHost(stack.thread, this);
    this.reassembly = new Reassembly(seed, (packet, at, length) => {
      this.host.reassemblyTimeout(packet.bytes.subarray(at, at + length), this.now);
    });
    this.host = new Host(own, this, now);
    this.changed();
  }

  /** Timers. Returns when it is to be called next. */
  tick(now: number): number {
    this.now = now;
    return Math.min(this.host.tick(now), this.reassembly.tick(now));
  }

  /** HostReceiver.take: what an lcore gives. */
  take(bytes: Uint8Array, at: number, length: number, reason: number, lcore: number, port: number): void {
    const frame = bytes.subarray(at, at + length);
    if (reason === HOST_SEND) {
      this.output(frame);
      return;
    }
    if (lcore !== this.stack.thread) {
      this.lcore = lcore;
      this.port = port;
    }
    if (reason === HOST_NO_PORT) this.host.portUnreachable(frame, this.now);
    else this.input(frame);
  }

  /** HostEvents.transmit: a whole frame. */
  transmit(frame: Uint8Array): void {
    this.link.transmit(this.lcore, this.port, frame);
  }

  /** HostEvents.changed. */
  changed(): void {
    this.writer.publish(this.host.fib(this.now));
  }

  private input(frame: Uint8Array): void {
    const ip = networkOffset(frame, 0, frame.length);
    if (ip < 0) return;
    const type = etherType(frame, ip);
    if (type === ETH_P_IP && ipv4IsFragment(frame, ip)) {
      this.reassembled(frame, this.reassembly.receive4(frame, ip, this.now), ETH_P_IP);
      return;
    }
    if (type === ETH_P_IPV6) {
      const verdict = this.reassembly.receive6(frame, ip, this.now);
      if (verdict !== FRAGMENT_NONE) {
        this.reassembled(frame, verdict, ETH_P_IPV6);
        return;
      }
    }
    this.host.receive(frame, this.now);
  }

  /** What has become whole goes the way of what came whole. */
  private reassembled(frame: Uint8Array, verdict: number, type: number): void {
    const { reassembly } = this;
    if (verdict !== FRAGMENT_COMPLETES) {
      if (verdict > FRAGMENT_NONE) this.stack.counters[C.IpInFragments]++;
      return;
    }
    const { bytes } = reassembly.packet;
    const start = PACKET_AT - ETH_HEADER;
    for (let i = 0; i < 12; i++) bytes[start + i] = frame[i];
    bytes[PACKET_AT - 2] = type >> 8;
    bytes[PACKET_AT - 1] = type & 0xff;
    const whole = bytes.subarray(start, PACKET_AT + reassembly.length);
    const protocol = type === ETH_P_IP ? ipv4Protocol(whole, ETH_HEADER) : whole[ETH_HEADER + IPV6_NEXT_HEADER];
    if (protocol === IPPROTO_UDP) this.stack.injectPacket(whole, this.rx);
    else this.host.receive(whole, this.now);
  }

  /** A packet of a socket, or of ICMP, with an Ethernet header that has no addresses yet. */
  output(frame: Uint8Array): number {
    const v4 = frame[ETH_HEADER] >> 4 === 4;
    if (this.isOwn(frame, v4)) {
      this.stack.injectPacket(frame, this.rx);
      return 0;
    }
    const mtu = this.host.pathMtu(frame, this.now);
    if (frame.length - ETH_HEADER <= mtu) return this.host.send(frame, this.now);
    return this.sendFragments(frame, v4, mtu);
  }

  private sendFragments(frame: Uint8Array, v4: boolean, mtu: number): number {
    const { built, fragmenter, ids } = this;
    const count = v4
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

  private isOwn(frame: Uint8Array, v4: boolean): boolean {
    const { fib } = this.stack;
    if (v4) return fib.isLocal(0, 0, 0xffff, readInt32(frame, ETH_HEADER + IPV4_DST));
    const at = ETH_HEADER + IPV6_DST;
    return fib.isLocal(
      readInt32(frame, at),
      readInt32(frame, at + 4),
      readInt32(frame, at + 8),
      readInt32(frame, at + 12),
    );
  }
}
