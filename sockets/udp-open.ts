/** Opening a UDP socket: what it is asked for, checked, and its place in the table. */
import { check, ERRNO } from "af-xdp-bindings";
import { inheritFilter } from "./bpf/attach.ts";
import type { Endpoint } from "./endpoint.ts";
import { TX_DEVICE, withFlag, withTos } from "./send-word.ts";
import {
  AF_INET,
  DEVICE,
  F_CHILD,
  F_REUSEADDR,
  F_REUSEPORT,
  F_TIMESTAMP,
  F_V6ONLY,
  F_WILDCARD,
  FAMILY,
  FLAGS,
  INCOMING_CPU,
  INCOMING_NAPI,
  IPPROTO_UDP,
  LOCAL,
  LOCAL_PORT,
  PLACEHOLDER,
  REMOTE,
  REMOTE_PORT,
  SEGMENT,
  UID,
} from "./table.ts";

export interface UdpOptions {
  /** Local address; default the IPv4 wildcard, "::" for the IPv6 one. */
  address?: string;
  /** Local port; 0 or none for one that is free. */
  port?: number;
  reuseAddress?: boolean;
  /** SO_REUSEPORT: several sockets, on any lcores and threads, share the address. */
  reusePort?: boolean;
  /** IPV6_V6ONLY. */
  ipv6Only?: boolean;
  /** SO_INCOMING_CPU: prefer this socket, in its reuseport group, for what arrives on the CPU. */
  incomingCpu?: number;
  /** Prefer this socket, in its reuseport group, for what arrives on the queue with the NAPI ID. */
  incomingNapiId?: number;
  /** Interface index to which the socket is bound (SO_BINDTODEVICE). */
  device?: number;
  /** SO_RCVBUF as the kernel would report it, bytes; default net.core.rmem_default (Engine.sysctl). */
  receiveBuffer?: number;
  /** Stamp each datagram with its time of arrival at the XDP hook. */
  timestamps?: boolean;
  /** Initial TTL or hop limit, 1..255; default 64. */
  ttl?: number;
  /** TOS or traffic class, 0..255. */
  tos?: number;
}

/** net.ipv4.ip_default_ttl where nobody has set it: of a wire without a kernel. */
const TTL_DEFAULT = 64;
/** SOCK_MIN_RCVBUF (include/net/sock.h), rounded as getsockopt shows it. */
const RCVBUF_MIN = 2304;

/** What a socket is opened with: SO_SNDBUF too, as the kernel would report it, where it is not the host's. */
export interface OpenOptions extends UdpOptions {
  sendBuffer?: number;
}

/** Throws RangeError for what no socket can be opened with. */
export function validate(options: UdpOptions): void {
  const whole = (name: keyof UdpOptions, low: number, high: number): void => {
    const value = options[name];
    if (value === undefined) return;
    if (!Number.isInteger(value) || (value as number) < low || (value as number) > high) {
      throw new RangeError(`${name} ${value}: a whole number from ${low} to ${high}`);
    }
  };
  whole("port", 0, 65535);
  whole("incomingCpu", -1, 4095);
  whole("incomingNapiId", 0, 2 ** 31 - 1);
  whole("device", 0, 2 ** 31 - 1);
  whole("receiveBuffer", 0, 2 ** 30);
  whole("ttl", 1, 255);
  whole("tos", 0, 255);
}

/** socket(2): a place in the table for a socket of the thread, opened as the options say. Throws SysError. */
export function openRecord(endpoint: Endpoint, family: number, options: UdpOptions): number {
  const { table, shared } = endpoint;
  const id = createRecord(endpoint, family, options.receiveBuffer);
  const buffers = buffersOf(endpoint, options);
  const result = table.mutex.hold(() => {
    // The IPv6 wildcard is all zero; the IPv4 one keeps its mapped form, so that families are told apart.
    if (family === AF_INET) table.set(id, LOCAL + 2, 0xffff);
    table.set(
      id,
      FLAGS,
      F_WILDCARD |
        (options.reuseAddress ? F_REUSEADDR : 0) |
        (options.reusePort ? F_REUSEPORT : 0) |
        (options.ipv6Only ? F_V6ONLY : 0) |
        (options.timestamps ? F_TIMESTAMP : 0),
    );
    table.set(id, UID, process.geteuid?.() ?? 0);
    table.set(id, DEVICE, options.device ?? 0);
    table.set(id, INCOMING_CPU, options.incomingCpu ?? -1);
    table.set(id, INCOMING_NAPI, options.incomingNapiId ?? 0);
    const word = withFlag(
      withTos(options.ttl ?? TTL_DEFAULT, options.tos ?? 0),
      TX_DEVICE,
      table.get(id, DEVICE) !== 0,
    );
    table.ttlTos[id] = word;
    table.ttlTos6[id] = word;
    const opened = shared.binder.open(table, id, { ...options, ...buffers });
    if (opened < 0) table.closeLocked(id);
    return opened;
  });
  check(result, "socket", {
    EMFILE: "each socket has one of the kernel's beside it: raise the limit of descriptors (ulimit -n)",
    ENODEV: "there is no interface with this index",
    EOPNOTSUPP: "the kernel chooses in a reuseport group by CPU, not by NAPI ID",
  });
  return id;
}

/** Sizes that the host would not give by itself: asked for, or set for the engine. */
function buffersOf({ shared: { sysctl } }: Endpoint, { receiveBuffer }: UdpOptions): Partial<OpenOptions> {
  const own = (name: "rmem_default" | "wmem_default"): number | undefined =>
    sysctl.get(name) === sysctl.host(name) ? undefined : sysctl.get(name);
  return { receiveBuffer: receiveBuffer ?? own("rmem_default"), sendBuffer: own("wmem_default") };
}

/** A place in the table for a socket of the thread. Throws SysError ENFILE when there is none. */
function createRecord(endpoint: Endpoint, family: number, wanted?: number): number {
  const { shared, table, thread } = endpoint;
  const rcvbuf = Math.max(wanted ?? shared.sysctl.get("rmem_default"), RCVBUF_MIN);
  const id = table.create(family, IPPROTO_UDP, thread, rcvbuf, shared.sysctl.get("wmem_default"));
  return check(id, "socket", {
    ENFILE: `the engine holds at most ${table.capacity} sockets: raise its option 'sockets'`,
  });
}

/** The record of a connected child that shares its parent's binding: see UdpSocket.flow. Throws SysError. */
export function createFlow(
  endpoint: Endpoint,
  parent: number,
  local: Int32Array,
  remote: Int32Array,
  remotePort: number,
): number {
  const { table } = endpoint;
  check(remotePort === 0 ? -ERRNO.EINVAL : 0, "connect", { EINVAL: "port 0 names nobody" });
  const child = createRecord(endpoint, table.get(parent, FAMILY), table.rcvbuf[parent]);
  table.mutex.hold(() => {
    for (const field of [LOCAL_PORT, DEVICE, UID, PLACEHOLDER, SEGMENT])
      table.set(child, field, table.get(parent, field));
    table.ttlTos[child] = table.ttlTos[parent];
    table.ttlTos6[child] = table.ttlTos6[parent];
    table.set(child, FLAGS, table.get(parent, FLAGS) | F_CHILD);
    for (let i = 0; i < 4; i++) {
      table.set(child, LOCAL + i, local[i]);
      table.set(child, REMOTE + i, remote[i]);
    }
    table.set(child, REMOTE_PORT, remotePort);
    inheritFilter(table, parent, child);
    table.connectLocked(child);
  });
  endpoint.tableChanged();
  return child;
}
