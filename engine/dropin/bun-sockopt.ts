/** Socket options of Bun.udpSocket on an engine's socket. Arguments and errors are those of Bun 1.4. */
import { ERRNO, SysError } from "af-xdp-bindings";
import {
  IP_MULTICAST_IF,
  IP_MULTICAST_LOOP,
  IP_MULTICAST_TTL,
  IP_RECVERR,
  IP_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_MULTICAST_HOPS,
  IPV6_MULTICAST_IF,
  IPV6_MULTICAST_LOOP,
  IPV6_RECVERR,
  IPV6_UNICAST_HOPS,
  SO_BROADCAST,
  SOL_SOCKET,
} from "../../sockets/options.ts";
import type { UdpSocket } from "../../sockets/udp-socket.ts";
import { formatIp } from "../../sockets/wire/address.ts";
import { type NumericAddress, parseNumeric } from "./bun-address.ts";
import { callFailed, invalidArgument } from "./bun-errors.ts";

const TTL_MAX = 255;
/** First byte of 224.0.0.0/4 without its last four bits. */
const MULTICAST = 0xe0;

export class SocketOptions {
  private readonly socket: UdpSocket;
  /** 4 or 6. */
  private readonly family: number;

  constructor(socket: UdpSocket, family: number) {
    this.socket = socket;
    this.family = family;
  }

  /** Errors from the network come one by one, for unconnected sockets too. */
  reportErrors(): void {
    this.set(IPPROTO_IP, IP_RECVERR, 1);
    if (this.family === 6) this.set(IPPROTO_IPV6, IPV6_RECVERR, 1);
  }

  broadcast(on: boolean): void {
    this.set(SOL_SOCKET, SO_BROADCAST, on ? 1 : 0);
  }

  ttl(ttl: number): void {
    checkTtl(ttl);
    this.setEither(IP_TTL, IPV6_UNICAST_HOPS, ttl);
  }

  multicastTtl(ttl: number): void {
    checkTtl(ttl);
    this.setEither(IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS, ttl);
  }

  multicastLoopback(on: boolean): void {
    this.setEither(IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP, on ? 1 : 0);
  }

  /** Returns false for what is no address. */
  multicastInterface(text: string): boolean {
    const address = parseNumeric(text);
    if (address === null) return false;
    if (address.family === 6) {
      this.set(IPPROTO_IPV6, IPV6_MULTICAST_IF, this.zoneIndex(address.zone));
      return true;
    }
    if ((address.bytes[0] & 0xf0) === MULTICAST) throw callFailed(ERRNO.EINVAL, "setsockopt");
    this.set(IPPROTO_IP, IP_MULTICAST_IF, address.bytes);
    return true;
  }

  /** @param texts group, and interface if given: one that is no address counts as not given */
  membership(join: boolean, texts: readonly string[]): void {
    const group = groupOf(texts[0]);
    const via = texts.length > 1 ? parseNumeric(texts[1]) : null;
    if (via !== null && via.family !== group.family) {
      throw invalidArgument("Family mismatch between address and interface");
    }
    const at = this.interfaceOf(via);
    this.attempt(() => {
      const text = formatIp(group.bytes);
      if (join) this.socket.joinGroup(text, at);
      else this.socket.leaveGroup(text, at);
    });
  }

  /** @param texts source, group, and interface if given */
  sourceMembership(join: boolean, texts: readonly string[]): void {
    const source = groupOf(texts[0]);
    const group = groupOf(texts[1]);
    if (source.family !== group.family) {
      throw invalidArgument("Family mismatch between source and group addresses");
    }
    const via = texts.length > 2 ? parseNumeric(texts[2]) : null;
    if (via !== null && via.family !== group.family) {
      throw invalidArgument("Family mismatch among source, group and interface addresses");
    }
    const at = this.interfaceOf(via);
    this.attempt(() => {
      const [from, to] = [formatIp(source.bytes), formatIp(group.bytes)];
      if (join) this.socket.joinSourceGroup(from, to, at);
      else this.socket.leaveSourceGroup(from, to, at);
    });
  }

  /** Index of an interface by the zone of an address, 0 for none or one that does not exist. */
  zoneIndex(zone: string): number {
    if (zone === "") return 0;
    try {
      return this.socket.interfaceIndex(zone);
    } catch {
      return 0;
    }
  }

  private interfaceOf(via: NumericAddress | null): string | number {
    if (via === null) return 0;
    return via.family === 4 ? formatIp(via.bytes) : this.zoneIndex(via.zone);
  }

  private setEither(name4: number, name6: number, value: number): void {
    if (this.family === 6) this.set(IPPROTO_IPV6, name6, value);
    else this.set(IPPROTO_IP, name4, value);
  }

  private set(level: number, name: number, value: number | Uint8Array): void {
    this.attempt(() => this.socket.setsockopt(level, name, value));
  }

  private attempt(call: () => void): void {
    try {
      call();
    } catch (error) {
      throw error instanceof SysError ? callFailed(error.errno, "setsockopt") : error;
    }
  }
}

function checkTtl(ttl: number): void {
  if (ttl < 1 || ttl > TTL_MAX) throw callFailed(ERRNO.EINVAL, "setsockopt");
}

function groupOf(text: string): NumericAddress {
  const address = parseNumeric(text);
  if (address === null) throw callFailed(ERRNO.EINVAL, "setsockopt");
  return address;
}
