/**
 * Binding of an engine on kernel sockets: the socket that holds the port is the one that is read and sent from. There is
 * nothing to steer.
 */
import { abi, ERRNO, sys } from "af-xdp-bindings";
import {
  IP_PKTINFO,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_RECVPKTINFO,
  SO_INCOMING_CPU,
  SO_TIMESTAMPNS,
  SOL_SOCKET,
} from "../sockets/options.ts";
import {
  AF_INET6,
  F_TIMESTAMP,
  F_WILDCARD,
  FAMILY,
  FLAGS,
  INCOMING_CPU,
  INCOMING_NAPI,
  type SocketTable,
} from "../sockets/table.ts";
import type { OpenOptions } from "../sockets/udp-open.ts";
import type { NetNs } from "./host/netns.ts";
import { PortBinder } from "./port-binder.ts";

/** Microseconds: every read here is non-blocking and polls once, so any value but 0 does. */
const BUSY_POLL_USECS = 20;
/** Packets a poll: as many as one read takes. */
const BUSY_POLL_BUDGET = 64;

export class SocketBinder extends PortBinder {
  private readonly busyHomes: number;

  /** @param busyHomes threads below this number have their sockets drive the device's NAPI where they are read */
  constructor(netns: NetNs, busyHomes: number) {
    super(netns);
    this.busyHomes = busyHomes;
  }

  override steer(): void {}

  /** An engine on kernel sockets has no TCP of its own. */
  protected override openStream(): number {
    return -ERRNO.ESOCKTNOSUPPORT;
  }

  protected override prepare(fd: number, table: SocketTable, id: number, options: OpenOptions): number {
    // The kernel chooses in a group by CPU, never by NAPI ID.
    if (table.get(id, INCOMING_NAPI) !== 0) return -ERRNO.EOPNOTSUPP;
    const flags = table.get(id, FLAGS);
    const result = super.prepare(fd, table, id, options);
    if (result < 0) return result;
    if ((flags & F_TIMESTAMP) !== 0) sys.setsockoptInt(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1);
    if (table.get(id, INCOMING_CPU) >= 0) {
      sys.setsockoptInt(fd, SOL_SOCKET, SO_INCOMING_CPU, table.get(id, INCOMING_CPU));
    }
    // Only a wildcard socket cannot know otherwise where a datagram was sent to; the telling costs 2 % of an echo.
    const told = (flags & F_WILDCARD) === 0 ? 0 : 1;
    if (table.get(id, FAMILY) === AF_INET6) {
      sys.setsockoptInt(fd, IPPROTO_IP, IP_PKTINFO, 0);
      sys.setsockoptInt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, told);
    } else {
      sys.setsockoptInt(fd, IPPROTO_IP, IP_PKTINFO, told);
    }
    if (table.home[id] < this.busyHomes) setBusyPoll(fd);
    return 0;
  }
}

/**
 * Has reads of the socket drive its device's NAPI, preferred to its interrupts and as many packets at a time as a read
 * takes. Returns 0, or -EPERM and what without CAP_NET_ADMIN stays as it was: all (older kernels), or the preference and the number (6.18).
 */
export function setBusyPoll(fd: number): { result: number; option: "SO_BUSY_POLL" | "SO_PREFER_BUSY_POLL" } {
  const polls = sys.setsockoptInt(fd, SOL_SOCKET, abi.SO_BUSY_POLL, BUSY_POLL_USECS);
  if (polls < 0) return { result: polls, option: "SO_BUSY_POLL" };
  const prefers = sys.setsockoptInt(fd, SOL_SOCKET, abi.SO_PREFER_BUSY_POLL, 1);
  const budget = sys.setsockoptInt(fd, SOL_SOCKET, abi.SO_BUSY_POLL_BUDGET, BUSY_POLL_BUDGET);
  return { result: Math.min(prefers, budget), option: "SO_PREFER_BUSY_POLL" };
}
