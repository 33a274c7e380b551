/** Opening TCP sockets: what they are asked for, checked; the same on lcores and on other threads. */
import { check, ERRNO, SysError } from "af-xdp-bindings";
import type { Endpoint } from "../endpoint.ts";
import { addressWords } from "../fib.ts";
import { sockaddrOf } from "../sockaddr.ts";
import { AF_INET, AF_INET6, GENERATION, LOCAL, LOCAL_PORT } from "../table.ts";
import { CONGESTION_NAMES } from "../tcp/config.ts";
import { OPTIONS } from "../tcp/sockopts.ts";
import { FLAGS, LOCKS } from "../tcp/tcb.ts";
import { addressAt } from "../text-address.ts";
import { formatIp, ip } from "../wire/address.ts";
import { STREAM_OPTIONS, storeStream } from "./stream-words.ts";
import type { AcceptSource, TcpEnd } from "./tcp-end.ts";
import type { Filter } from "./tcp-filter.ts";
import { TcpListener } from "./tcp-listener.ts";
import {
  bindTcpRecord,
  closeTcpRecord,
  listenTcpRecord,
  openTcpRecord,
  steerTcpRecord,
  type TcpRecordOptions,
} from "./tcp-record.ts";
import type { TcpHandlers, TcpSocket } from "./tcp-socket.ts";

/** Options of tcp(7) and socket(7) that a socket begins with; those of a listener are its connections'. */
export interface TcpSocketOptions {
  noDelay?: boolean;
  /** SO_KEEPALIVE; seconds before the first probe (TCP_KEEPIDLE), between two (TCP_KEEPINTVL), and how many. */
  keepAlive?: boolean;
  keepIdle?: number;
  keepInterval?: number;
  keepCount?: number;
  /** SO_RCVBUF, SO_SNDBUF as setsockopt(2) takes them, bytes: the kernel's rule doubles them. Without, buffers are tuned. */
  receiveBuffer?: number;
  sendBuffer?: number;
  congestion?: (typeof CONGESTION_NAMES)[number];
  /** TCP_USER_TIMEOUT, milliseconds. */
  userTimeout?: number;
  /** TCP_DEFER_ACCEPT, seconds. */
  deferAccept?: number;
  /** TCP_MAXSEG, bytes. */
  maxSegment?: number;
  /** IP_TTL or IPV6_UNICAST_HOPS. */
  ttl?: number;
  tos?: number;
  /** A socket filter that it has from the first segment on; of a listener, its connections too. */
  filter?: Filter;
}

export interface TcpListenOptions extends TcpRecordOptions, TcpSocketOptions {
  /** Local address; default the IPv4 wildcard, "::" for both families (or IPv6 alone with `ipv6Only`). */
  address?: string;
  /** Local port; 0 or none for one that is free. */
  port?: number;
  /** Connections that may wait to be accepted on each lcore; default 4096, bounded by the engine's `tcp.acceptBacklogMax`. */
  backlog?: number;
}

export interface TcpConnectOptions extends TcpRecordOptions, TcpSocketOptions {
  /** The peer's address and port. */
  address: string;
  port: number;
  /** Local address and port to bind to; default the route's address, and a port of the lcore's own. */
  localAddress?: string;
  localPort?: number;
}

/** A thread's way to TCP. */
export interface TcpOpener extends TcpEnd, AcceptSource {
  /** A socket that is not connected. Null: there is no room for another. */
  open(v6: boolean, handlers: TcpHandlers): TcpSocket | null;
  /** Connections of a listener come to it from now on, or no longer. */
  register(listener: TcpListener): void;
  unregister(listener: TcpListener): void;
}

const BACKLOG_DEFAULT = 4096;
const HINTS = {
  EADDRINUSE: "another socket, of the engine or of the kernel, holds this port (ss -ltnp shows whose)",
  EACCES: "ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE",
  EADDRNOTAVAIL: "no interface has this address",
  EINVAL: "an IPv4-mapped address on an IPv6-only socket",
  EMFILE: "too many open files: each listener, and each local port, holds one of the kernel (ulimit -n)",
  ENFILE: "the socket table is full: raise the engine's option 'sockets'",
  ENOSPC: "too many reuseport groups, or members of one",
};

const FILTER_HINTS = {
  EINVAL: "'filter' is no program: encodeClassic() makes one, bpf.load() a handle",
  EBADF: "no program is loaded under this handle: bpf.load() gives them",
  ENOMEM: "above net.core.optmem_max, or the engine's option 'bpfBytes'",
};

/** socket(2), bind(2), listen(2). Throws SysError, and RangeError for options that cannot be. */
export function listenTcp(endpoint: Endpoint, options: TcpListenOptions, handlers: TcpHandlers): TcpListener {
  const opener = openerOf(endpoint);
  const address = ip(options.address ?? "0.0.0.0");
  checkPort(options.port ?? 0, 0);
  const draft = openDraft(endpoint, opener, address.length === 16, options);
  const record = openTcpRecord(endpoint, address.length === 16 ? AF_INET6 : AF_INET, options);
  try {
    check(record, "socket", HINTS);
    storeStream(endpoint.table.stream, record, wordsOf(draft), 0);
  } finally {
    draft.close();
  }
  const { table } = endpoint;
  const where = () => addressAt(table, record, LOCAL, LOCAL_PORT);
  const listener = new TcpListener(record, table.get(record, GENERATION), handlers, opener, where, (closing) => {
    closeTcpRecord(endpoint, closing.record);
    opener.unregister(closing);
    endpoint.retain(-1);
  });
  // What comes before listen() returns must find whom it is for.
  opener.register(listener);
  endpoint.retain(1);
  const asked = `${formatIp(address)}, ${options.port ?? 0}`;
  const { filter } = options;
  const filtered = filter === undefined ? 0 : listener.attachFilter(filter);
  if (filtered < 0) listener.close();
  check(filtered, "setsockopt(SO_ATTACH_FILTER)", FILTER_HINTS);
  let result = bindTcpRecord(endpoint, record, sockaddrOf(address, options.port ?? 0));
  const call = result < 0 ? `bind(${asked})` : `listen(${asked})`;
  if (result >= 0) result = listenTcpRecord(endpoint, record, options.backlog ?? BACKLOG_DEFAULT);
  if (result < 0) listener.close();
  check(result, call, HINTS);
  return listener;
}

/** The words of a socket's record that its connections inherit, as a record of its own. */
function wordsOf(socket: TcpSocket): Int32Array {
  const words = new Int32Array(Math.max(FLAGS, LOCKS, ...STREAM_OPTIONS) + 1);
  for (const field of [FLAGS, LOCKS, ...STREAM_OPTIONS]) words[field] = socket.end.word(socket, field);
  return words;
}

/**
 * socket(2), bind(2) where a local address or port is asked for, and connect(2). The connection is told to handlers.open, its
 * failure to handlers.closed. Throws SysError for what is known to be wrong at once, and RangeError.
 */
export function connectTcp(endpoint: Endpoint, options: TcpConnectOptions, handlers: TcpHandlers): TcpSocket {
  const opener = openerOf(endpoint);
  const address = ip(options.address);
  checkPort(options.port, 1);
  const { device = 0 } = options;
  check(device === 0 || device === endpoint.shared.ifindex ? 0 : -ERRNO.ENETUNREACH, "connect", {
    ENETUNREACH: `interface ${device} is not the one that the engine serves`,
  });
  const socket = openDraft(endpoint, opener, address.length === 16, options, handlers);
  try {
    const filtered = options.filter === undefined ? 0 : socket.attachFilter(options.filter);
    check(filtered, "setsockopt(SO_ATTACH_FILTER)", FILTER_HINTS);
    if (options.localAddress !== undefined || (options.localPort ?? 0) !== 0 || (options.device ?? 0) !== 0)
      bindSocket(endpoint, socket, address.length, options);
    const result = socket.end.connect(socket, addressWords(address), options.port);
    if (result !== -ERRNO.EINPROGRESS)
      check(result, `connect(${formatIp(address)}, ${options.port})`, {
        ENETUNREACH: "no route, or an address of no host",
        EADDRNOTAVAIL: "every port that could be used towards this peer is in use",
        ENOBUFS: "the lcore's TCP is full: raise the engine's options 'tcp'",
      });
    return socket;
  } catch (error) {
    socket.close();
    throw error;
  }
}

function bindSocket(endpoint: Endpoint, socket: TcpSocket, bytes: number, options: TcpConnectOptions): void {
  const local = ip(options.localAddress ?? (bytes === 16 ? "::" : "0.0.0.0"));
  checkPort(options.localPort ?? 0, 0);
  const record = openTcpRecord(endpoint, bytes === 16 ? AF_INET6 : AF_INET, options);
  check(record, "socket", HINTS);
  socket.record = record;
  const where = `bind(${formatIp(local)}, ${options.localPort ?? 0})`;
  check(bindTcpRecord(endpoint, record, sockaddrOf(local, options.localPort ?? 0)), where, HINTS);
  steerTcpRecord(endpoint, record);
}

function openDraft(
  endpoint: Endpoint,
  opener: TcpOpener,
  v6: boolean,
  options: TcpSocketOptions,
  handlers: TcpHandlers = {},
): TcpSocket {
  check(endpoint.closed ? -ERRNO.EBADF : 0, "socket", {
    EBADF: "the engine has stopped, or this thread has left it",
  });
  const socket = opener.open(v6, handlers);
  if (socket === null)
    throw new SysError(
      ERRNO.ENFILE,
      "socket",
      "every record is in use: connect fewer at once, or raise the engine's option 'tcp.connections'",
    );
  const result = setOptions(socket, options);
  if (result < 0) {
    socket.close();
    check(result, "setsockopt", { EINVAL: `a value out of range in ${JSON.stringify(options)}` });
  }
  return socket;
}

/** Numbers of the options that a socket begins with, by their names in TcpSocketOptions. */
const OPTION_NUMBERS: readonly (readonly [name: keyof TcpSocketOptions, option: number])[] = [
  ["noDelay", OPTIONS.TCP_NODELAY],
  ["keepIdle", OPTIONS.TCP_KEEPIDLE],
  ["keepInterval", OPTIONS.TCP_KEEPINTVL],
  ["keepCount", OPTIONS.TCP_KEEPCNT],
  ["keepAlive", OPTIONS.SO_KEEPALIVE],
  ["receiveBuffer", OPTIONS.SO_RCVBUF],
  ["sendBuffer", OPTIONS.SO_SNDBUF],
  ["congestion", OPTIONS.TCP_CONGESTION],
  ["userTimeout", OPTIONS.TCP_USER_TIMEOUT],
  ["deferAccept", OPTIONS.TCP_DEFER_ACCEPT],
  ["maxSegment", OPTIONS.TCP_MAXSEG],
  ["ttl", OPTIONS.IP_TTL],
  ["tos", OPTIONS.IP_TOS],
];

/** The first option that the socket refuses, as -errno; 0: it has taken all that are given. */
function setOptions(socket: TcpSocket, options: TcpSocketOptions): number {
  for (let i = 0; i < OPTION_NUMBERS.length; i++) {
    const [name, option] = OPTION_NUMBERS[i];
    const value = options[name];
    if (value === undefined) continue;
    const number = typeof value === "string" ? CONGESTION_NAMES.indexOf(value) : Number(value);
    const result = socket.setOption(option, number);
    if (result < 0) return result;
  }
  return 0;
}

function openerOf(endpoint: Endpoint): TcpOpener {
  const opener = endpoint.tcpOpener();
  if (opener !== null) return opener;
  throw new SysError(ERRNO.EPROTONOSUPPORT, "socket", "the engine has no TCP on kernel sockets: use node:net");
}

function checkPort(port: number, least: number): void {
  if (!Number.isInteger(port) || port < least || port > 65_535)
    throw new RangeError(`port ${port}: a whole number from ${least} to 65535`);
}
