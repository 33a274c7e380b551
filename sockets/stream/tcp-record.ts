/**
 * A TCP socket's place in the socket table: opened, bound, listening, closed. Needed by what listens and by what has a port of its
 * own. All of it is synchronous and under the table's mutex, agreed with the kernel as a UDP socket's binding is.
 */
import { Binding } from "../binder.ts";
import { recordPlace } from "../bpf/attach.ts";
import type { Endpoint } from "../endpoint.ts";
import { withFlag } from "../send-word.ts";
import {
  AF_INET,
  BOUND,
  DEVICE,
  F_CHOSEN_PORT,
  F_LISTEN,
  F_REUSEADDR,
  F_REUSEPORT,
  F_STEERED,
  F_V6ONLY,
  F_WILDCARD,
  FLAGS,
  FREE,
  INCOMING_CPU,
  INCOMING_NAPI,
  IPPROTO_TCP,
  LOCAL,
  LOCAL_PORT,
  OPEN,
  PLACEHOLDER,
  type SocketTable,
  STATE,
  UID,
} from "../table.ts";
import { wordsAt } from "../text-address.ts";
import { STREAM_WORDS, SW_BACKLOG } from "./stream-words.ts";

export interface TcpRecordOptions {
  reuseAddress?: boolean;
  /** SO_REUSEPORT: several listeners, on any lcores and threads, share the address. */
  reusePort?: boolean;
  /** IPV6_V6ONLY; default net.ipv6.bindv6only. */
  ipv6Only?: boolean;
  /** SO_INCOMING_CPU: prefer this listener, in its reuseport group, for what arrives on the CPU. */
  incomingCpu?: number;
  /** Prefer this listener, in its reuseport group, for what arrives on the queue with the NAPI ID. */
  incomingNapiId?: number;
  /** Interface index to which the socket is bound (SO_BINDTODEVICE). */
  device?: number;
}

const BACKLOG_MAX = 0x7fffffff;
const binding = new Binding();

/** socket(2). Returns the record's id, or -errno: ENFILE where the table is full, else as socket(2) and setsockopt(2) give it. */
export function openTcpRecord(endpoint: Endpoint, family: number, options: TcpRecordOptions = {}): number {
  const { table, shared, thread } = endpoint;
  const id = table.create(family, IPPROTO_TCP, thread, 0, 0);
  if (id < 0) return id;
  return table.mutex.hold(() => {
    // The IPv6 wildcard is all zero; the IPv4 one keeps its mapped form, so that families are told apart.
    if (family === AF_INET) table.set(id, LOCAL + 2, 0xffff);
    table.set(
      id,
      FLAGS,
      F_WILDCARD |
        (options.reuseAddress ? F_REUSEADDR : 0) |
        (options.reusePort ? F_REUSEPORT : 0) |
        (options.ipv6Only ? F_V6ONLY : 0),
    );
    table.set(id, UID, process.geteuid?.() ?? 0);
    table.set(id, DEVICE, options.device ?? 0);
    table.set(id, INCOMING_CPU, options.incomingCpu ?? -1);
    table.set(id, INCOMING_NAPI, options.incomingNapiId ?? 0);
    const opened = shared.binder.open(table, id, { ipv6Only: options.ipv6Only });
    if (opened < 0) table.closeLocked(id);
    return opened < 0 ? opened : id;
  });
}

/** bind(2) to a sockaddr. Returns 0 or -errno. */
export function bindTcpRecord(endpoint: Endpoint, id: number, address: Uint8Array): number {
  const { table, shared } = endpoint;
  const result = table.mutex.hold(() => {
    const asked = shared.binder.bind(table, id, address, binding);
    if (asked < 0) return asked;
    const { local } = binding;
    const flags = table.get(id, FLAGS);
    // An IPv6 address speaks IPv6 alone (__inet6_bind).
    const v6only = isAny(local) || isMapped(local) ? 0 : F_V6ONLY;
    const bound = withFlag(flags | v6only, F_WILDCARD, isAny(local));
    table.set(id, FLAGS, withFlag(bound, F_CHOSEN_PORT, address[2] === 0 && address[3] === 0));
    const adopted = adopt(table, id);
    if (adopted < 0) table.set(id, FLAGS, flags);
    return adopted;
  });
  endpoint.tableChanged();
  return result;
}

/**
 * listen(2); one that is not bound is given a port. Called again it sets the backlog, and tells the lcores.
 * @param backlog as listen(2) takes it: below 0 it is as many as can be
 * @returns 0 or -errno
 */
export function listenTcpRecord(endpoint: Endpoint, id: number, backlog: number): number {
  const { table, shared } = endpoint;
  const result = table.mutex.hold(() => {
    const asked = shared.binder.listen(table, id, backlog, binding);
    if (asked < 0) return asked;
    const before = table.stream[id * STREAM_WORDS + SW_BACKLOG];
    table.stream[id * STREAM_WORDS + SW_BACKLOG] = backlog < 0 ? BACKLOG_MAX : backlog;
    const chosen = table.get(id, STATE) === OPEN ? F_CHOSEN_PORT : 0;
    const listens = chosen === 0 ? 0 : adopt(table, id);
    table.set(id, FLAGS, table.get(id, FLAGS) | chosen);
    const listening = listens < 0 ? listens : table.listenLocked(id);
    if (listening === 0) shared.binder.steer(table, IPPROTO_TCP, table.get(id, LOCAL_PORT), null);
    else {
      table.stream[id * STREAM_WORDS + SW_BACKLOG] = before;
      giveUpListening(endpoint, id);
    }
    return listening;
  });
  endpoint.tableChanged();
  return result;
}

/** shutdown(2) of a listener: it keeps its port, unless that was chosen for it (tcp_set_state), and may listen again. */
export function unlistenTcpRecord(endpoint: Endpoint, id: number): void {
  const { table } = endpoint;
  table.mutex.hold(() => {
    if ((table.get(id, FLAGS) & F_LISTEN) === 0) return;
    table.unlistenLocked(id);
    // Its connections live on.
    if (isPortUsed(endpoint, table.get(id, LOCAL_PORT))) table.set(id, FLAGS, table.get(id, FLAGS) | F_STEERED);
    giveUpListening(endpoint, id);
  });
  endpoint.tableChanged();
}

/** Its socket is about to connect, from its own port: what comes to the port goes to the lcores from now on. */
export function steerTcpRecord(endpoint: Endpoint, id: number): void {
  const { table, shared } = endpoint;
  table.mutex.hold(() => {
    table.set(id, FLAGS, table.get(id, FLAGS) | F_STEERED);
    table.changed(id);
    shared.binder.steer(table, IPPROTO_TCP, table.get(id, LOCAL_PORT), null);
  });
  endpoint.tableChanged();
}

/**
 * Holds the port of a bound record for connections that have no record of their own: what comes to it goes to the lcores, and
 * the kernel answers nothing there. Returns 0 or -errno as listen(2).
 */
export function holdTcpRecord(endpoint: Endpoint, id: number): number {
  const { table, shared } = endpoint;
  const result = table.mutex.hold(() => shared.binder.listen(table, id, 0, binding));
  if (result === 0) steerTcpRecord(endpoint, id);
  return result;
}

/** Tells the lcores that the words of a record in the table's plane `stream` have changed. */
export function tellTcpRecord(endpoint: Endpoint, id: number): void {
  endpoint.table.mutex.hold(() => endpoint.table.changed(id));
  endpoint.tableChanged();
}

/**
 * close(2). While connections use the port it stays held and steered: they live on, and the kernel would answer their peers
 * with RSTs. Then an lcore closes it when the last of them has ended.
 */
export function closeTcpRecord(endpoint: Endpoint, id: number): void {
  const { table } = endpoint;
  if (isPortUsed(endpoint, table.get(id, LOCAL_PORT)) && keepForConnections(endpoint, id)) endpoint.drainPort(id);
  else releaseTcpRecord(endpoint, id);
}

/** Whether any lcore has a connection with the local port. */
export function isPortUsed({ shared }: Endpoint, port: number): boolean {
  for (const use of shared.portUse) if (Atomics.load(use, port) > 0) return true;
  return false;
}

/** Leaves the record as the holder of its port alone. False: it holds none. */
function keepForConnections(endpoint: Endpoint, id: number): boolean {
  const { table, shared } = endpoint;
  const kept = table.mutex.hold(() => {
    if (table.get(id, STATE) < BOUND) return false;
    const flags = table.get(id, FLAGS);
    // A port that bind(2) was not asked for would be given up with listening.
    if ((flags & F_LISTEN) !== 0 && (flags & F_CHOSEN_PORT) === 0) shared.binder.unlisten(table, id, binding);
    table.unlistenLocked(id);
    table.set(id, FLAGS, table.get(id, FLAGS) | F_STEERED);
    // It filters nothing any more.
    recordPlace(table, id).put(0);
    return true;
  });
  endpoint.tableChanged();
  return kept;
}

/** closeTcpRecord() when no connection needs the port. */
export function releaseTcpRecord(endpoint: Endpoint, id: number): void {
  const { table, shared } = endpoint;
  let placeholder = -1;
  table.mutex.hold(() => {
    const state = table.get(id, STATE);
    if (state === FREE) return;
    const port = table.get(id, LOCAL_PORT);
    const local = wordsAt(table, id, LOCAL);
    placeholder = table.get(id, PLACEHOLDER);
    table.closeLocked(id);
    if (state >= BOUND) shared.binder.steer(table, IPPROTO_TCP, port, local);
  });
  if (placeholder >= 0) shared.binder.release(placeholder);
  endpoint.tableChanged();
}

/** Has the kernel's socket stop listening, and brings what steers the port, and the port itself, up to date. */
function giveUpListening({ table, shared }: Endpoint, id: number): void {
  const port = table.get(id, LOCAL_PORT);
  const local = wordsAt(table, id, LOCAL);
  shared.binder.unlisten(table, id, binding);
  if (port === 0) return;
  if (binding.localPort === 0) table.unbindLocked(id);
  shared.binder.steer(table, IPPROTO_TCP, port, local);
}

/** Brings the names in `binding` into a record that is not bound. Returns 0, or -EADDRINUSE: it is as it was. */
function adopt(table: SocketTable, id: number): number {
  const before = wordsAt(table, id, LOCAL);
  for (let i = 0; i < 4; i++) table.set(id, LOCAL + i, binding.local[i]);
  // With IP_BIND_ADDRESS_NO_PORT the address alone is decided.
  if (binding.localPort === 0) return 0;
  table.set(id, LOCAL_PORT, binding.localPort);
  // A scope id has bound it to its interface.
  if (binding.device !== 0) table.set(id, DEVICE, binding.device);
  const bound = table.bindLocked(id);
  if (bound === 0) return 0;
  for (let i = 0; i < 4; i++) table.set(id, LOCAL + i, before[i]);
  table.set(id, LOCAL_PORT, 0);
  return bound;
}

const isMapped = (words: Int32Array): boolean => words[0] === 0 && words[1] === 0 && words[2] === 0xffff;

const isAny = (words: Int32Array): boolean =>
  words[0] === 0 && words[1] === 0 && (words[2] === 0 || words[2] === 0xffff) && words[3] === 0;
