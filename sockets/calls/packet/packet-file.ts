/**
 * Sockets of AF_PACKET (packet(7)) on the interface of an engine: all that the interface receives and sends. What the kernel has of it
 * comes by a packet socket of the kernel; what the XDP program takes, and the engine sends, by a tap of the engine's.
 *
 * Options, addresses, rights and what is sent are the kernel socket's. Frames of both sides are each in order; between the sides the
 * kernel's come first.
 */
import { ERRNO } from "af-xdp-bindings";
import {
  type ClassicFilter,
  compileClassic,
  decodeClassic,
  PacketContext,
  SOCK_FILTER_BYTES,
} from "../../bpf/classic.ts";
import {
  SO_ATTACH_BPF,
  SO_ATTACH_FILTER,
  SO_DETACH_FILTER,
  SO_RCVBUF,
  SO_TIMESTAMP,
  SO_TIMESTAMPNS,
  SOL_SOCKET,
} from "../../options.ts";
import {
  AF_PACKET,
  FIONREAD,
  MSG_CTRUNC,
  MSG_DONTWAIT,
  MSG_ERRQUEUE,
  MSG_PEEK,
  MSG_TRUNC,
  POLLIN,
  POLLRDNORM,
  SOCK_RAW,
} from "../constants.ts";
import { type ControlMessage, encodeControl } from "../control.ts";
import type { KernelWatch } from "../events/kernel-watch.ts";
import type { File } from "../file.ts";
import type { FileTable } from "../file-table.ts";
import { type InNamespace, KernelCalls } from "../kernel-calls.ts";
import { KernelFile } from "../kernel-file.ts";
import { addressBuffer, addressIn, type Message, putAddress, scatter } from "../message.ts";
import type { Family } from "../process.ts";
import type { Gathered } from "../reception.ts";
import { decodeAddress, encodeAddress } from "../sockaddr.ts";
import type { FrameTap, FrameTaps, TappedFrame } from "./taps.ts";

/** BPF_MAXINSNS. */
const INSTRUCTIONS_MAX = 4096;
/** include/uapi/linux/if_packet.h. */
const SOL_PACKET = 263;
const PACKET_STATISTICS = 6;
const PACKET_AUXDATA = 8;
const PACKET_IGNORE_OUTGOING = 23;
/** Options whose effect is on the kernel's frames alone: rings and groups of sockets. They would hide half of the frames. */
const KERNEL_ONLY = new Set([5, 13, 15, 18, 22, 24]);
const PACKET_HOST = 0;
const PACKET_BROADCAST = 1;
const PACKET_MULTICAST = 2;
const PACKET_OTHERHOST = 3;
const PACKET_OUTGOING = 4;
const TP_STATUS_USER = 1;
const ETH_P_ALL = 3;
const ARPHRD_ETHER = 1;
const ETHERNET = 14;
const ETHER_TYPE = 12;
/** What a frame in the queue costs beside its bytes: SKB_TRUESIZE(0). */
const OVERHEAD = 768;
/** Between two looks at the tap for who waits: a tap is no path of packets, and rings nobody's bell. */
const LOOK_MS = 5;
const TIMEVAL_BYTES = 16;

interface Queued {
  readonly bytes: Uint8Array;
  /** Bytes of the frame that the filter leaves. */
  readonly kept: number;
  readonly name: Uint8Array;
  readonly seconds: number;
  readonly nanoseconds: number;
}

class PacketFile extends KernelFile {
  override readonly isTheKernels = false;
  /** Half of what it waits for does not come by the kernel. */
  override readonly waitsItself = false;
  private readonly taps: FrameTaps;
  private readonly kernelCalls: KernelCalls;
  private readonly raw: boolean;
  private tap: FrameTap | null = null;
  /** EtherType that it listens for, ETH_P_ALL, or 0 for none. */
  private protocol: number;
  private filter: ClassicFilter | null = null;
  private readonly context = new PacketContext();
  private readonly queued: Queued[] = [];
  private queuedBytes = 0;
  /** PACKET_STATISTICS of the tapped frames, since they were last asked for. */
  private packets = 0;
  private drops = 0;
  private lostSeen = 0;
  private wasReadable = false;
  private looking: ReturnType<typeof setInterval> | null = null;

  constructor(fd: number, type: number, protocol: number, taps: FrameTaps, watch: KernelWatch, calls: KernelCalls) {
    super(fd, watch, calls);
    this.taps = taps;
    this.kernelCalls = calls;
    this.raw = type === SOCK_RAW;
    this.protocol = protocol;
    this.context.ifindex = taps.ifindex;
    this.context.hardwareType = ARPHRD_ETHER;
    this.listenIf(true);
  }

  override get sleepLimitMs(): number {
    return LOOK_MS;
  }

  override bind(address: Uint8Array): number {
    const result = super.bind(address);
    if (result < 0) return result;
    const name = addressBuffer();
    super.getsockname(name);
    const bound = decodeAddress(addressIn(name));
    if (bound?.family !== AF_PACKET) return result;
    this.protocol = bound.protocol;
    this.listenIf(bound.interfaceIndex === 0 || bound.interfaceIndex === this.taps.ifindex);
    return result;
  }

  override poll(): number {
    this.look();
    return super.poll() | (this.queued.length > 0 ? POLLIN | POLLRDNORM : 0);
  }

  /** Nobody tells an epoll instance of what the kernel has: it asks, and hears of it when it was not so before. */
  override refresh(): void {
    this.look();
    const readable = (super.poll() & POLLIN) !== 0;
    if (readable && !this.wasReadable) this.queue.wake(POLLIN | POLLRDNORM);
    this.wasReadable = readable;
  }

  override get newsFrom(): this {
    return this;
  }

  override receive(message: Message, flags: number, descriptors: FileTable, gathered: Gathered): number {
    const result = super.receive(message, flags | MSG_DONTWAIT, descriptors, gathered);
    if (result !== -ERRNO.EAGAIN || (flags & MSG_ERRQUEUE) !== 0) return result;
    this.look();
    const [frame] = this.queued;
    if (frame === undefined) return result;
    if ((flags & MSG_PEEK) === 0) {
      this.queued.shift();
      this.queuedBytes -= frame.bytes.length + OVERHEAD;
    }
    const from = this.raw ? 0 : ETHERNET;
    const bytes = frame.bytes.subarray(from, Math.max(from, frame.kept));
    const taken = scatter(message.iov, bytes);
    message.flags = taken < bytes.length ? MSG_TRUNC : 0;
    if (message.name !== null) putAddress(message.name, frame.name);
    this.putControl(message, frame, bytes.length);
    return (flags & MSG_TRUNC) !== 0 ? bytes.length : taken;
  }

  override setsockopt(level: number, name: number, value: Uint8Array): number {
    if (level === SOL_PACKET && KERNEL_ONLY.has(name)) return -ERRNO.EOPNOTSUPP;
    // A program of the kernel's cannot be had out of it again, to run it over the tapped frames.
    if (level === SOL_SOCKET && name === SO_ATTACH_BPF) return -ERRNO.EOPNOTSUPP;
    const result = super.setsockopt(level, name, value);
    if (result < 0 || level !== SOL_SOCKET) return result;
    if (name === SO_ATTACH_FILTER) this.filter = this.attached();
    if (name === SO_DETACH_FILTER) this.filter = null;
    return result;
  }

  override getsockopt(level: number, name: number, out: Uint8Array, descriptors: FileTable): number {
    const result = super.getsockopt(level, name, out, descriptors);
    if (level !== SOL_PACKET || name !== PACKET_STATISTICS || result < 8) return result;
    this.look();
    // struct tpacket_stats { u32 packets, those dropped among them; u32 drops }.
    const view = new DataView(out.buffer, out.byteOffset);
    view.setUint32(0, view.getUint32(0, true) + this.packets, true);
    view.setUint32(4, view.getUint32(4, true) + this.drops, true);
    this.packets = 0;
    this.drops = 0;
    return result;
  }

  override ioctl(request: number, argument: Uint8Array): number {
    const result = super.ioctl(request, argument);
    const view = new DataView(argument.buffer, argument.byteOffset);
    if (request !== FIONREAD || result < 0 || view.getInt32(0, true) > 0) return result;
    this.look();
    const next = this.queued[0];
    view.setInt32(0, next === undefined ? 0 : next.kept - (this.raw ? 0 : ETHERNET), true);
    return result;
  }

  override watched(): void {
    super.watched();
    this.looking ??= setInterval(() => this.lookForWaiters(), LOOK_MS);
  }

  protected override release(): void {
    if (this.looking !== null) clearInterval(this.looking);
    this.tap?.close();
    super.release();
  }

  /** Begins or ends to listen at the tap. */
  private listenIf(here: boolean): void {
    const wanted = here && this.protocol !== 0;
    if (wanted === (this.tap !== null)) return;
    this.tap?.close();
    this.tap = wanted ? this.taps.open() : null;
    this.lostSeen = 0;
  }

  private lookForWaiters(): void {
    if (this.queue.empty && this.looking !== null) {
      clearInterval(this.looking);
      this.looking = null;
      return;
    }
    this.look();
  }

  /** Takes what has come to the tap. */
  private look(): void {
    const { tap } = this;
    if (tap === null) return;
    const before = this.queued.length;
    let room = -1;
    for (let frame = tap.next(); frame !== null; frame = tap.next()) {
      if (!this.isWanted(frame)) continue;
      const kept = this.keeps(frame);
      if (kept === 0) continue;
      this.packets++;
      if (room < 0) room = this.intOption(SO_RCVBUF);
      if (this.queuedBytes >= room) this.drops++;
      else this.push(frame, kept);
    }
    const missed = tap.lost - this.lostSeen;
    this.lostSeen = tap.lost;
    this.packets += missed;
    this.drops += missed;
    if (this.queued.length > before) this.queue.wake(POLLIN | POLLRDNORM);
  }

  private isWanted({ bytes, outgoing }: TappedFrame): boolean {
    if (outgoing && this.intOption(PACKET_IGNORE_OUTGOING, SOL_PACKET) !== 0) return false;
    // Sockets of one protocol do not see what their own host sends, as packet_rcv() is hooked in for them at reception alone.
    if (this.protocol === ETH_P_ALL) return true;
    return !outgoing && this.protocol === etherTypeOf(bytes);
  }

  private keeps({ bytes, outgoing }: TappedFrame): number {
    if (this.filter === null) return bytes.length;
    const from = this.raw ? 0 : ETHERNET;
    const { context } = this;
    context.packetType = outgoing ? PACKET_OUTGOING : packetType(bytes, this.taps.mac);
    context.protocol = etherTypeOf(bytes);
    context.linkOffset = -from;
    context.networkOffset = ETHERNET - from;
    const kept = this.filter(bytes, from, bytes.length - from, this.context);
    return kept === 0 ? 0 : Math.min(kept + from, bytes.length);
  }

  private push(frame: TappedFrame, kept: number): void {
    const { seconds, nanoseconds } = frame;
    const bytes = frame.bytes.slice();
    const name = encodeAddress({
      family: AF_PACKET,
      protocol: etherTypeOf(bytes),
      interfaceIndex: this.taps.ifindex,
      hardwareType: ARPHRD_ETHER,
      packetType: frame.outgoing ? PACKET_OUTGOING : packetType(bytes, this.taps.mac),
      hardwareAddress: bytes.subarray(6, 12),
    });
    this.queued.push({ bytes, kept, name, seconds, nanoseconds });
    this.queuedBytes += bytes.length + OVERHEAD;
  }

  private putControl(message: Message, { seconds, nanoseconds }: Queued, length: number): void {
    const messages: ControlMessage[] = [];
    if (this.intOption(SO_TIMESTAMPNS) !== 0) messages.push(stamp(SO_TIMESTAMPNS, seconds, nanoseconds));
    else if (this.intOption(SO_TIMESTAMP) !== 0) {
      messages.push(stamp(SO_TIMESTAMP, seconds, Math.floor(nanoseconds / 1000)));
    }
    if (this.intOption(PACKET_AUXDATA, SOL_PACKET) !== 0) {
      // struct tpacket_auxdata { u32 status, length, snaplen; u16 mac, net, vlan_tci, vlan_tpid }.
      const data = new DataView(new ArrayBuffer(20));
      data.setUint32(0, TP_STATUS_USER, true);
      data.setUint32(4, length, true);
      data.setUint32(8, length, true);
      data.setUint16(14, this.raw ? ETHERNET : 0, true);
      messages.push({ level: SOL_PACKET, type: PACKET_AUXDATA, data: new Uint8Array(data.buffer) });
    }
    const bytes = encodeControl(...messages);
    const room = message.control?.length ?? 0;
    message.controlLength = Math.min(bytes.length, room);
    message.control?.set(bytes.subarray(0, room));
    if (bytes.length > room) message.flags |= MSG_CTRUNC;
  }

  /** The filter that the kernel has taken: it tells it back, instruction by instruction. */
  private attached(): ClassicFilter | null {
    const bytes = new Uint8Array(SOCK_FILTER_BYTES * INSTRUCTIONS_MAX);
    const count = this.kernelCalls.getsockopt(this.fd, SOL_SOCKET, SO_ATTACH_FILTER, bytes);
    return count <= 0 ? null : compileClassic(decodeClassic(bytes.subarray(0, count * SOCK_FILTER_BYTES)));
  }

  private intOption(name: number, level = SOL_SOCKET): number {
    const value = new Uint8Array(4);
    this.kernelCalls.getsockopt(this.fd, level, name, value);
    return new DataView(value.buffer).getInt32(0, true);
  }
}

const etherTypeOf = (frame: Uint8Array): number => (frame[ETHER_TYPE] << 8) | frame[ETHER_TYPE + 1];

/** eth_type_trans(): for whom a frame is by its destination. */
function packetType(frame: Uint8Array, mac: Uint8Array): number {
  const to = frame.subarray(0, 6);
  if ((to[0] & 1) !== 0) return to.every((byte) => byte === 0xff) ? PACKET_BROADCAST : PACKET_MULTICAST;
  return to.every((byte, i) => byte === mac[i]) ? PACKET_HOST : PACKET_OTHERHOST;
}

/** struct timeval or timespec. */
function stamp(type: number, seconds: number, fraction: number): ControlMessage {
  const data = new DataView(new ArrayBuffer(TIMEVAL_BYTES));
  data.setBigInt64(0, BigInt(seconds), true);
  data.setBigInt64(8, BigInt(fraction), true);
  return { level: SOL_SOCKET, type, data: new Uint8Array(data.buffer) };
}

const swap16 = (value: number): number => ((value & 0xff) << 8) | ((value >> 8) & 0xff);

/** AF_PACKET over an engine's interface. */
export class PacketFamily implements Family {
  private readonly taps: FrameTaps;
  private readonly watch: KernelWatch;
  private readonly kernel: KernelCalls;

  /** @param inNamespace the engine's network namespace */
  constructor(taps: FrameTaps, watch: KernelWatch, inNamespace: InNamespace) {
    this.taps = taps;
    this.watch = watch;
    this.kernel = new KernelCalls(inNamespace);
  }

  /** `protocol` is in network order, as in packet(7). */
  socket(type: number, protocol: number): File | number {
    const fd = this.kernel.socket(AF_PACKET, type, protocol);
    return fd < 0 ? fd : new PacketFile(fd, type, swap16(protocol), this.taps, this.watch, this.kernel);
  }

  pair(type: number, protocol: number): number {
    return this.kernel.socketpair(AF_PACKET, type, protocol, new Int32Array(2));
  }
}
