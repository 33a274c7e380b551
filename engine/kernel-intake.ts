/**
 * Reads what the kernel passed to the placeholder sockets, and gives it the form of a received frame: IP and UDP headers
 * before the payload, so that a datagram is read in one way, whichever way it came.
 */
import { sys } from "af-xdp-bindings";
import type { FramePool } from "../queues/pool.ts";
import {
  IOVEC_BYTES,
  IOVEC_LENGTH,
  MSG_CONTROL,
  MSG_CONTROLLEN,
  MSG_FLAGS,
  MSG_IOV,
  MSG_IOVLEN,
  MSG_NAME,
  MSG_NAMELEN,
  MSGHDR_BYTES,
  putAddress,
} from "../sockets/msghdr.ts";
import { readSockaddr, SOCKADDR_IN6_BYTES } from "../sockets/sockaddr.ts";
import type { Stack } from "../sockets/stack.ts";
import { LOCAL, LOCAL_PORT, PLACEHOLDER, type SocketTable } from "../sockets/table.ts";
import { ETH_HEADER, ETH_P_IP, ETH_P_IPV6 } from "../sockets/wire/ethernet.ts";
import { IPPROTO_UDP, IPV4_HEADER, writeIpv4 } from "../sockets/wire/ipv4.ts";
import { IPV6_DST, IPV6_HEADER, IPV6_SRC } from "../sockets/wire/ipv6.ts";
import { UDP_HEADER, writeUdp } from "../sockets/wire/udp.ts";
import { type FrameViews, writeInt32, writeUint16 } from "../sockets/wire/views.ts";

const MSG_DONTWAIT = 0x40;
const IPPROTO_IP = 0;
const IPPROTO_IPV6 = 41;
const IP_PKTINFO = 8;
const IPV6_PKTINFO = 50;
/** Room before the payload for the headers that are put there. */
const HEADROOM = 256;
const CONTROL_BYTES = 256;
/** Datagrams read from one socket before the next has its turn. */
const READ_MAX = 64;

export class KernelIntake {
  private readonly table: SocketTable;
  private readonly stack: Stack;
  private readonly pool: FramePool;
  private readonly views: FrameViews;
  private readonly base: number;
  private readonly name = new Uint8Array(SOCKADDR_IN6_BYTES);
  private readonly nameView = new DataView(this.name.buffer);
  private readonly control = new Uint8Array(CONTROL_BYTES);
  private readonly controlView = new DataView(this.control.buffer);
  private readonly message = new DataView(new ArrayBuffer(MSGHDR_BYTES));
  private readonly messageAddress = sys.addressOf(this.message);
  private readonly vector = new DataView(new ArrayBuffer(IOVEC_BYTES));
  private readonly remote = new Int32Array(4);
  private readonly local = new Int32Array(4);

  constructor(table: SocketTable, stack: Stack, pool: FramePool, views: FrameViews) {
    this.table = table;
    this.stack = stack;
    this.pool = pool;
    this.views = views;
    this.base = sys.addressOf(views.bytes);
    this.vector.setUint32(IOVEC_LENGTH, pool.frameSize - HEADROOM, true);
    putAddress(this.message, MSG_NAME, sys.addressOf(this.name));
    putAddress(this.message, MSG_IOV, sys.addressOf(this.vector));
    this.message.setUint32(MSG_IOVLEN, 1, true);
    putAddress(this.message, MSG_CONTROL, sys.addressOf(this.control));
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
      return fd < 0 ? fd : this.receiveFrom(fd, payload);
    });
  }

  private receiveFrom(fd: number, payload: number): number {
    const { message } = this;
    putAddress(this.vector, 0, this.base + payload);
    // The kernel overwrites the lengths with what it filled.
    message.setUint32(MSG_NAMELEN, SOCKADDR_IN6_BYTES, true);
    message.setUint32(MSG_CONTROLLEN, CONTROL_BYTES, true);
    message.setUint32(MSG_FLAGS, 0, true);
    return sys.sys3(sys.SYS.recvmsg, fd, this.messageAddress, MSG_DONTWAIT);
  }

  private deliver(id: number, payload: number, length: number): void {
    const { bytes } = this.views;
    const remotePort = readSockaddr(this.nameView, this.remote);
    this.readDestination(id);
    const { local, remote } = this;
    const udp = payload - UDP_HEADER;
    writeUdp(bytes, udp, remotePort, this.table.get(id, LOCAL_PORT), length + UDP_HEADER);
    const mapped = remote[0] === 0 && remote[1] === 0 && remote[2] === 0xffff;
    const ip = udp - (mapped ? IPV4_HEADER : IPV6_HEADER);
    if (mapped) {
      const total = Math.min(length + UDP_HEADER + IPV4_HEADER, 65535);
      writeIpv4(this.views, ip, 0, total, 0, 0, 64, IPPROTO_UDP, remote[3], local[3]);
    } else {
      writeInt32(bytes, ip, 6 << 28);
      writeUint16(bytes, ip + 4, Math.min(length + UDP_HEADER, 65535));
      bytes[ip + 6] = IPPROTO_UDP;
      bytes[ip + 7] = 64;
      for (let i = 0; i < 4; i++) {
        writeInt32(bytes, ip + IPV6_SRC + 4 * i, remote[i]);
        writeInt32(bytes, ip + IPV6_DST + 4 * i, local[i]);
      }
    }
    const frame = ip - ETH_HEADER;
    bytes.fill(0, frame, frame + 12);
    writeUint16(bytes, frame + 12, mapped ? ETH_P_IP : ETH_P_IPV6);
    this.stack.inject(id, frame, payload + length - frame, ip, udp);
  }

  /** The address the datagram was sent to: from the control message, or the socket's own. */
  private readDestination(id: number): void {
    const { controlView, local } = this;
    for (let i = 0; i < 4; i++) local[i] = this.table.get(id, LOCAL + i);
    const end = this.message.getUint32(MSG_CONTROLLEN, true);
    for (let at = 0; at + 16 <= end; ) {
      const size = controlView.getUint32(at, true);
      if (size < 16) return;
      const level = controlView.getInt32(at + 8, true);
      const type = controlView.getInt32(at + 12, true);
      if (level === IPPROTO_IP && type === IP_PKTINFO) {
        // struct in_pktinfo: interface, local address of the route, destination in the header.
        local[0] = 0;
        local[1] = 0;
        local[2] = 0xffff;
        local[3] = controlView.getInt32(at + 24);
        return;
      }
      if (level === IPPROTO_IPV6 && type === IPV6_PKTINFO) {
        for (let i = 0; i < 4; i++) local[i] = controlView.getInt32(at + 16 + 4 * i);
        return;
      }
      at += (size + 7) & ~7;
    }
  }
}
