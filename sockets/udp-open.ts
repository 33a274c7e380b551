/** Opening a UDP socket: what it is asked for, checked, and its binding in the table. */
import { check, ERRNO } from "af-xdp-bindings";
import type { Endpoint } from "./endpoint.ts";
import { addressWords } from "./fib.ts";
import { TX_DEVICE, withFlag, withTos } from "./send-word.ts";
import {
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
import { formatIp } from "./wire/address.ts";

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
  /** SO_RCVBUF as the kernel would report it, bytes; default 212,992. */
  receiveBuffer?: number;
  /** Stamp each datagram with its time of arrival at the XDP hook. */
  timestamps?: boolean;
  /** Initial TTL or hop limit, 1..255; default 64. */
  ttl?: number;
  /** TOS or traffic class, 0..255. */
  tos?: number;
}

/** net.core.rmem_default and wmem_default on a 4 KiB-page host. */
export const RCVBUF_DEFAULT = 212992;
const SNDBUF_DEFAULT = 212992;
/** SOCK_MIN_RCVBUF (include/net/sock.h), rounded as getsockopt shows it. */
const RCVBUF_MIN = 2304;

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

/** A place in the table for a socket of the thread. Throws SysError ENFILE when there is none. */
export function createRecord(endpoint: Endpoint, family: number, rcvbuf = RCVBUF_DEFAULT): number {
  const { table, thread } = endpoint;
  const id = table.create(family, IPPROTO_UDP, thread, Math.max(rcvbuf, RCVBUF_MIN), SNDBUF_DEFAULT);
  return check(id, "socket", {
    ENFILE: `the engine holds at most ${table.capacity} sockets: raise its option 'sockets'`,
  });
}

/** Binds to an address of 4 or 16 bytes, as bind(2) and the options say. Throws SysError. */
export function bindRecord(endpoint: Endpoint, id: number, bytes: Uint8Array, options: UdpOptions): void {
  const { table, shared } = endpoint;
  const result = table.mutex.hold(() => {
    const words = addressWords(bytes);
    // The IPv6 wildcard is all zero; the IPv4 one keeps its mapped form, so that families are told apart.
    for (let i = 0; i < 4; i++) table.set(id, LOCAL + i, words[i]);
    table.set(id, LOCAL_PORT, options.port ?? 0);
    table.set(
      id,
      FLAGS,
      (options.reuseAddress ? F_REUSEADDR : 0) |
        (options.reusePort ? F_REUSEPORT : 0) |
        (options.ipv6Only ? F_V6ONLY : 0) |
        (table.isAny(id) ? F_WILDCARD : 0) |
        (options.timestamps ? F_TIMESTAMP : 0),
    );
    table.set(id, UID, process.geteuid?.() ?? 0);
    table.set(id, DEVICE, options.device ?? 0);
    table.set(id, INCOMING_CPU, options.incomingCpu ?? -1);
    table.set(id, INCOMING_NAPI, options.incomingNapiId ?? 0);
    const word = withFlag(withTos(options.ttl ?? 64, options.tos ?? 0), TX_DEVICE, table.get(id, DEVICE) !== 0);
    table.ttlTos[id] = word;
    table.ttlTos6[id] = word;
    let reserved = shared.binder.reserve(table, id);
    if (reserved === 0) reserved = table.bindLocked(id);
    if (reserved === 0) shared.binder.steer(table, IPPROTO_UDP, table.get(id, LOCAL_PORT), null);
    return reserved;
  });
  const where = `bind(${formatIp(bytes)}, ${options.port ?? 0})`;
  check(result, where, {
    EADDRINUSE: "another socket, of the engine or of the kernel, holds this port (ss -lunp shows whose)",
    EACCES: "ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE",
    EADDRNOTAVAIL: "no interface has this address",
    ENOSPC: "too many reuseport groups, or members of one",
    EINVAL: "an IPv4-mapped address on an IPv6-only socket",
  });
  endpoint.tableChanged();
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
    table.connectLocked(child);
  });
  endpoint.tableChanged();
  return child;
}
