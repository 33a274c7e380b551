/** setsockopt(2) and getsockopt(2) of one socket. */
import { ERRNO, sys } from "af-xdp-bindings";
import {
  IP_PKTINFO,
  IP_RECVERR,
  IP_RECVTOS,
  IP_RECVTTL,
  IP_TOS,
  IP_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_RECVERR,
  IPV6_RECVHOPLIMIT,
  IPV6_RECVPKTINFO,
  IPV6_RECVTCLASS,
  IPV6_TCLASS,
  IPV6_UNICAST_HOPS,
  SO_ERROR,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SOL_SOCKET,
} from "./options.ts";
import { withTos, withTtl } from "./send-word.ts";
import { PLACEHOLDER } from "./table.ts";
import type { UdpSocket } from "./udp-socket.ts";

const SIOCGIFINDEX = 0x8933;
/** struct ifreq: the name, then the index. */
const IFNAMSIZ = 16;
const IFREQ_BYTES = 40;

/** One number for a level and a name. */
const keyOf = (level: number, name: number): number => (level << 16) | name;

/** Options that the placeholder always has on, for the engine's sake: what the socket asked for is kept here. */
const FORCED = new Set([
  keyOf(IPPROTO_IP, IP_PKTINFO),
  keyOf(IPPROTO_IP, IP_RECVERR),
  keyOf(IPPROTO_IP, IP_RECVTTL),
  keyOf(IPPROTO_IP, IP_RECVTOS),
  keyOf(IPPROTO_IPV6, IPV6_RECVPKTINFO),
  keyOf(IPPROTO_IPV6, IPV6_RECVERR),
  keyOf(IPPROTO_IPV6, IPV6_RECVHOPLIMIT),
  keyOf(IPPROTO_IPV6, IPV6_RECVTCLASS),
]);

export class SocketOptions {
  private readonly socket: UdpSocket;
  /** Options the placeholder does not keep, by key. */
  private readonly own = new Map<number, number>();

  constructor(socket: UdpSocket) {
    this.socket = socket;
  }

  /** Returns 0 or -errno. */
  set(level: number, name: number, value: Uint8Array): number {
    const { placeholder } = this;
    const key = keyOf(level, name);
    if (placeholder < 0 || FORCED.has(key)) {
      if (value.length < 4) return -ERRNO.EINVAL;
      const number = readInt(value);
      this.own.set(key, number);
      this.mirror(key, number);
      return 0;
    }
    const result = sys.setsockopt(placeholder, level, name, value);
    if (result < 0) return result;
    const now = new Int32Array(1);
    if (sys.getsockoptInt(placeholder, level, name, now) === 0) this.mirror(key, now[0]);
    return 0;
  }

  /** Fills `out`. Returns the bytes written, or -errno. */
  get(level: number, name: number, out: Uint8Array): number {
    const key = keyOf(level, name);
    const { placeholder } = this;
    if (key === keyOf(SOL_SOCKET, SO_ERROR)) return writeInt(out, this.socket.takeError());
    if (placeholder < 0 || FORCED.has(key)) return writeInt(out, this.own.get(key) ?? 0);
    return sys.getsockopt(placeholder, level, name, out);
  }

  /** Whether an option of one of the two families is on. */
  isOn(level: number, name: number): boolean {
    return (this.own.get(keyOf(level, name)) ?? 0) !== 0;
  }

  /** Index of an interface by name in the engine's namespace, or -errno. */
  interfaceIndex(name: string): number {
    const { placeholder } = this;
    const request = new Uint8Array(IFREQ_BYTES);
    const text = new TextEncoder().encode(name);
    if (placeholder < 0 || text.length >= IFNAMSIZ) return -ERRNO.ENODEV;
    request.set(text);
    const result = sys.ioctl(placeholder, SIOCGIFINDEX, sys.addressOf(request));
    return result < 0 ? result : new DataView(request.buffer).getInt32(IFNAMSIZ, true);
  }

  private get placeholder(): number {
    const { endpoint, id } = this.socket;
    return endpoint.table.get(id, PLACEHOLDER);
  }

  /** Tells the packet path what it acts upon. */
  private mirror(key: number, value: number): void {
    const { endpoint, id } = this.socket;
    const { table } = endpoint;
    switch (key) {
      case keyOf(IPPROTO_IP, IP_TTL):
        table.ttlTos[id] = withTtl(table.ttlTos[id], value);
        return;
      case keyOf(IPPROTO_IPV6, IPV6_UNICAST_HOPS):
        table.ttlTos6[id] = withTtl(table.ttlTos6[id], value);
        return;
      case keyOf(IPPROTO_IP, IP_TOS):
        table.ttlTos[id] = withTos(table.ttlTos[id], value);
        return;
      case keyOf(IPPROTO_IPV6, IPV6_TCLASS):
        table.ttlTos6[id] = withTos(table.ttlTos6[id], value);
        return;
      case keyOf(SOL_SOCKET, SO_RCVBUF):
      case keyOf(SOL_SOCKET, SO_RCVBUFFORCE):
        table.rcvbuf[id] = value;
        return;
    }
  }
}

function readInt(value: Uint8Array): number {
  return new DataView(value.buffer, value.byteOffset).getInt32(0, true);
}

function writeInt(out: Uint8Array, value: number): number {
  const bytes = new Uint8Array(Int32Array.of(value).buffer).subarray(0, out.length);
  out.set(bytes);
  return bytes.length;
}
