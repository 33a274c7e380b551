/**
 * Binding beside the kernel: a placeholder socket holds each port, so that the kernel's own rules decide (ports in use,
 * privileged ports, addresses of the host, same UID for reuseport), and the XDP program's maps steer it here.
 *
 * What the program passes on all the same (fragments, multicast, a frame that came before its port was steered) arrives
 * at the placeholder. The control thread reads it there and delivers it. A TCP socket's placeholder drops it instead: the
 * sender sends a segment again.
 */
import { sys } from "af-xdp-bindings";
import { addressBytes } from "../sockets/fib.ts";
import {
  IP_RECVERR,
  IP_RECVTOS,
  IP_RECVTTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_RECVERR,
  IPV6_RECVHOPLIMIT,
  IPV6_RECVTCLASS,
  SO_TIMESTAMPNS,
  SOL_SOCKET,
} from "../sockets/options.ts";
import {
  AF_INET6,
  F_LISTEN,
  F_STEERED,
  F_TIMESTAMP,
  F_V6ONLY,
  FAMILY,
  FLAGS,
  IPPROTO_TCP,
  LOCAL,
  type SocketTable,
} from "../sockets/table.ts";
import type { OpenOptions } from "../sockets/udp-open.ts";
import type { NetNs } from "./host/netns.ts";
import { PortBinder } from "./port-binder.ts";
import { STAMP, V4_ANY, V6_ANY } from "./steering/layout.ts";
import type { Steering } from "./steering/program.ts";

const EPOLL_CTL_ADD = 1;
const EPOLLIN = 1;

/** What the control thread is to be told of each datagram and error; what the socket itself asked for the engine keeps. */
const TOLD: readonly [number, number][] = [
  [IPPROTO_IP, IP_RECVTTL],
  [IPPROTO_IP, IP_RECVTOS],
  [IPPROTO_IP, IP_RECVERR],
];
const TOLD_IPV6: readonly [number, number][] = [
  [IPPROTO_IPV6, IPV6_RECVHOPLIMIT],
  [IPPROTO_IPV6, IPV6_RECVTCLASS],
  [IPPROTO_IPV6, IPV6_RECVERR],
];

export class KernelBinder extends PortBinder {
  private readonly steering: Steering;
  /** epoll instance of the control thread, to which placeholders are added. */
  private readonly epoll: number;

  constructor(netns: NetNs, steering: Steering, epoll: number) {
    super(netns);
    this.steering = steering;
    this.epoll = epoll;
  }

  override steer(table: SocketTable, protocol: number, port: number, gone: Int32Array | null): void {
    const steered = protocol as 6 | 17;
    let any = 0;
    let stamp = 0;
    const bound = new Map<string, { bytes: Uint8Array; flags: number }>();
    for (let id = table.firstBound(protocol, port); id >= 0; id = table.nextBound(id)) {
      const flags = table.get(id, FLAGS);
      // What neither listens nor connects the kernel answers as it does for a socket of its own: with a RST.
      if (protocol === IPPROTO_TCP && (flags & (F_LISTEN | F_STEERED)) === 0) continue;
      const wantsStamp = (flags & F_TIMESTAMP) === 0 ? 0 : STAMP;
      if (table.isAny(id)) {
        stamp |= wantsStamp;
        if (table.isV4(id)) any |= V4_ANY;
        else any |= (flags & F_V6ONLY) === 0 ? V4_ANY | V6_ANY : V6_ANY;
        continue;
      }
      const bytes = this.localBytes(table, id);
      const key = bytes.join();
      const before = bound.get(key)?.flags ?? 0;
      bound.set(key, { bytes, flags: before | wantsStamp });
    }
    for (const { bytes, flags } of bound.values()) {
      if (isUnicast(bytes)) this.steering.bindAddress(steered, familyOf(bytes), bytes, port, flags);
    }
    this.steering.setPort(steered, port, any === 0 ? 0 : any | stamp);
    if (gone === null) return;
    const bytes = addressBytes(gone[0], gone[1], gone[2], gone[3]);
    if (!bound.has(bytes.join()) && isUnicast(bytes))
      this.steering.unbindAddress(steered, familyOf(bytes), bytes, port);
  }

  override close(): void {
    this.steering.close();
    super.close();
  }

  protected override prepare(fd: number, table: SocketTable, id: number, wanted: OpenOptions): number {
    const options = table.get(id, FAMILY) === AF_INET6 ? [...TOLD, ...TOLD_IPV6] : [...TOLD];
    if ((table.get(id, FLAGS) & F_TIMESTAMP) !== 0) options.push([SOL_SOCKET, SO_TIMESTAMPNS]);
    for (const [level, name] of options) {
      const result = sys.setsockoptInt(fd, level, name, 1);
      if (result < 0) return result;
    }
    return super.prepare(fd, table, id, wanted);
  }

  protected override opened(fd: number, _table: SocketTable, id: number): number {
    // struct epoll_event is packed on x86-64 and aligned on arm64: the data word lies at 4 or 8.
    const event = new Uint8Array(16);
    const view = new DataView(event.buffer);
    view.setUint32(0, EPOLLIN, true);
    view.setUint32(process.arch === "x64" ? 4 : 8, id, true);
    return sys.sys6(sys.SYS.epoll_ctl, this.epoll, EPOLL_CTL_ADD, fd, sys.addressOf(event), 0, 0);
  }

  private localBytes(table: SocketTable, id: number): Uint8Array {
    const word = (i: number): number => table.get(id, LOCAL + i);
    return addressBytes(word(0), word(1), word(2), word(3));
  }
}

const familyOf = (bytes: Uint8Array): 4 | 6 => (bytes.length === 4 ? 4 : 6);

/** Group addresses are the kernel's to receive: it knows who joined. */
function isUnicast(bytes: Uint8Array): boolean {
  if (bytes.length === 4)
    return bytes[0] >> 4 !== 14 && !bytes.every((byte) => byte === 255) && bytes.some((b) => b > 0);
  return bytes[0] !== 0xff && bytes.some((byte) => byte > 0);
}
