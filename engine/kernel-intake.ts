/**
 * Reads what the kernel passed to the placeholder sockets, and gives it the form of a received frame: IP and UDP headers
 * before the payload, so that a datagram is read in one way, whichever way it came.
 */
import { sys } from "af-xdp-bindings";
import type { FramePool } from "../queues/pool.ts";
import { writeNotes } from "../sockets/datagram.ts";
import { MessageHeader } from "../sockets/msghdr.ts";
import {
  IP_PKTINFO,
  IP_RECVFRAGSIZE,
  IP_TOS,
  IP_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_FLOWINFO,
  IPV6_HOPLIMIT,
  IPV6_PKTINFO,
  IPV6_RECVFRAGSIZE,
  IPV6_TCLASS,
  SO_TIMESTAMP,
  SO_TIMESTAMP_NEW,
  SO_TIMESTAMPING,
  SO_TIMESTAMPING_NEW,
  SO_TIMESTAMPNS,
  SO_TIMESTAMPNS_NEW,
  SOL_SOCKET,
} from "../sockets/options.ts";
import { readSockaddr } from "../sockets/sockaddr.ts";
import type { Stack } from "../sockets/stack.ts";
import { STAMP_BYTES, writeStamp } from "../sockets/stamp.ts";
import { GENERATION, LOCAL, LOCAL_PORT, PLACEHOLDER, type SocketTable } from "../sockets/table.ts";
import { ETH_HEADER, ETH_P_IP, ETH_P_IPV6 } from "../sockets/wire/ethernet.ts";
import { IPPROTO_UDP, IPV4_HEADER, writeIpv4 } from "../sockets/wire/ipv4.ts";
import { IPV6_DST, IPV6_HEADER, IPV6_SRC } from "../sockets/wire/ipv6.ts";
import { UDP_HEADER, writeUdp } from "../sockets/wire/udp.ts";
import { type FrameViews, writeInt32, writeUint16 } from "../sockets/wire/views.ts";

const MSG_DONTWAIT = 0x40;
const NS_PER_US = 1000;
const NS_PER_S = 1e9;
/** Seconds before this thread's start from which its stamps count: the clock may be set back as far. */
const EPOCH_S = 86_400;
/** Bits of the flow label in an IPv6 header's first word. */
const FLOW_LABEL = 0xfffff;
/** Room before the payload for the stamp and the headers that are put there. */
const HEADROOM = 256;
/** Datagrams read from one socket before the next has its turn. */
const READ_MAX = 64;

export class KernelIntake {
  private readonly table: SocketTable;
  private readonly stack: Stack;
  private readonly pool: FramePool;
  private readonly views: FrameViews;
  private readonly base: number;
  private readonly header = new MessageHeader();
  private readonly epoch: number;
  private readonly remote = new Int32Array(4);
  private readonly local = new Int32Array(4);
  /** Of the socket whose datagram is at hand: another one may have its id soon after. */
  private generation = 0;
  /** Of the datagram at hand: interface, TTL or hop limit, TOS or traffic class, and time of arrival (0: none). */
  private ifindex = 0;
  private ttl = 0;
  private tos = 0;
  private fragmentSize = 0;
  private flow = 0;
  private seconds = 0;
  private nanoseconds = 0;

  constructor(table: SocketTable, stack: Stack, pool: FramePool, views: FrameViews) {
    this.table = table;
    this.stack = stack;
    this.pool = pool;
    this.views = views;
    this.base = sys.addressOf(views.bytes);
    // Times since 1970 in nanoseconds would not be exact; the stack adds the seconds back.
    this.epoch = Math.floor(Date.now() / 1000) - EPOCH_S;
    stack.realtimeOffsetSeconds = this.epoch;
  }

  /** Reads what waits at the socket's placeholder. Returns how many datagrams were delivered. */
  read(id: number): number {
    let count = 0;
    for (; count < READ_MAX; count++) {
      const frame = this.pool.take();
      // No frame: readers hold all of them. The datagrams wait in the kernel, under its own receive buffer.
      if (frame < 0) break;
      const length = this.receive(id, frame + HEADROOM);
      if (length < 0) {
        this.pool.give(frame);
        break;
      }
      this.deliver(id, frame + HEADROOM, length);
    }
    return count;
  }

  /** Receives from the placeholder of a socket. Under the mutex, so that the descriptor is not closed meanwhile. */
  private receive(id: number, payload: number): number {
    return this.table.mutex.hold(() => {
      const fd = this.table.get(id, PLACEHOLDER);
      if (fd < 0) return fd;
      this.generation = this.table.get(id, GENERATION);
      return this.header.receive(fd, this.base + payload, this.pool.frameSize - HEADROOM, MSG_DONTWAIT);
    });
  }

  private deliver(id: number, payload: number, length: number): void {
    const { bytes } = this.views;
    const remotePort = readSockaddr(this.header.nameView, this.remote);
    this.readControls(id);
    const { local, remote } = this;
    const udp = payload - UDP_HEADER;
    writeUdp(bytes, udp, remotePort, this.table.get(id, LOCAL_PORT), length + UDP_HEADER);
    const mapped = remote[0] === 0 && remote[1] === 0 && remote[2] === 0xffff;
    const ip = udp - (mapped ? IPV4_HEADER : IPV6_HEADER);
    if (mapped) {
      const total = Math.min(length + UDP_HEADER + IPV4_HEADER, 65535);
      writeIpv4(this.views, ip, this.tos, total, 0, 0, this.ttl, IPPROTO_UDP, remote[3], local[3]);
    } else {
      writeInt32(bytes, ip, (6 << 28) | (this.tos << 20) | (this.flow & FLOW_LABEL));
      writeUint16(bytes, ip + 4, Math.min(length + UDP_HEADER, 65535));
      bytes[ip + 6] = IPPROTO_UDP;
      bytes[ip + 7] = this.ttl;
      for (let i = 0; i < 4; i++) {
        writeInt32(bytes, ip + IPV6_SRC + 4 * i, remote[i]);
        writeInt32(bytes, ip + IPV6_DST + 4 * i, local[i]);
      }
    }
    const frame = ip - ETH_HEADER;
    bytes.fill(0, frame - STAMP_BYTES, frame + 12);
    writeNotes(bytes, frame, this.ifindex, this.fragmentSize);
    writeUint16(bytes, frame + 12, mapped ? ETH_P_IP : ETH_P_IPV6);
    if (this.seconds > this.epoch) {
      writeStamp(bytes, frame - STAMP_BYTES, (this.seconds - this.epoch) * NS_PER_S + this.nanoseconds);
    }
    this.stack.inject(id, this.generation, frame, payload + length - frame, ip, udp);
  }

  /** What the control messages say; the address it was sent to may also be the socket's own. */
  private readControls(id: number): void {
    const { header, local } = this;
    for (let i = 0; i < 4; i++) local[i] = this.table.get(id, LOCAL + i);
    this.ifindex = 0;
    this.ttl = 0;
    this.tos = 0;
    this.fragmentSize = 0;
    this.flow = 0;
    this.seconds = 0;
    for (let at = header.firstControl(); at >= 0; at = header.nextControl(at)) {
      const type = header.controlType(at);
      switch (header.controlLevel(at)) {
        case IPPROTO_IP:
          if (type === IP_PKTINFO) this.ifindex = header.readPktinfo(at, local);
          else if (type === IP_TTL) this.ttl = header.controlInt(at);
          else if (type === IP_RECVFRAGSIZE) this.fragmentSize = header.controlInt(at);
          else if (type === IP_TOS) this.tos = header.controlView.getUint8(header.controlData(at));
          break;
        case IPPROTO_IPV6:
          if (type === IPV6_PKTINFO) this.ifindex = header.readPktinfo6(at, local);
          else if (type === IPV6_HOPLIMIT) this.ttl = header.controlInt(at);
          else if (type === IPV6_RECVFRAGSIZE) this.fragmentSize = header.controlInt(at);
          else if (type === IPV6_FLOWINFO) this.flow = header.controlView.getInt32(header.controlData(at));
          else if (type === IPV6_TCLASS) this.tos = header.controlInt(at);
          break;
        case SOL_SOCKET:
          this.readTime(type, header.controlData(at));
      }
    }
  }

  /** struct timeval or timespec, in 64-bit fields. */
  private readTime(type: number, at: number): void {
    const micro = type === SO_TIMESTAMP || type === SO_TIMESTAMP_NEW;
    const isStamp = type === SO_TIMESTAMPNS || type === SO_TIMESTAMPNS_NEW;
    // The first stamp of three is the kernel's.
    if (!micro && !isStamp && type !== SO_TIMESTAMPING && type !== SO_TIMESTAMPING_NEW) return;
    const view = this.header.controlView;
    this.seconds = view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
    this.nanoseconds = view.getUint32(at + 8, true) * (micro ? NS_PER_US : 1);
  }
}
