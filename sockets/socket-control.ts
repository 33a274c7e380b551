/**
 * What a socket is told besides its datagrams, and what it can be asked: options by number, multicast groups, errors that the
 * network reports, when it may send again, and whether the thread's event loop waits for it.
 */
import { check, ERRNO, SysError, sys } from "af-xdp-bindings";
import { SOCK_FILTER_BYTES } from "./bpf/classic.ts";
import type { Endpoint } from "./endpoint.ts";
import { ErrorQueue, isIcmp, type QueuedError, SO_EE_ORIGIN_LOCAL, SO_EE_ORIGIN_TIMESTAMPING } from "./error-queue.ts";
import { membershipCall } from "./memberships.ts";
import {
  IP_RECVERR,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_RECVERR,
  SO_BUSY_POLL,
  SO_GET_FILTER,
  SO_RCVTIMEO,
  SO_SNDTIMEO,
  SOL_SOCKET,
  SOL_UDP,
  UDP_GRO,
} from "./options.ts";
import { mtuDiscoverOf, PMTUDISC_DONT } from "./send-word.ts";
import { writeInt } from "./sockopt/rules.ts";
import { SocketOptions } from "./sockopt/socket-options.ts";
import { timeoutMs } from "./sockopt/socket-rules.ts";
import { optionLabel } from "./sockopt/table.ts";
import { CONNECTED, PLACEHOLDER, REMOTE, SEGMENT, SNDBUF, STATE } from "./table.ts";
import { wordsAt } from "./text-address.ts";
import type { UdpSocket } from "./udp-socket.ts";
import { ip, parseIpv4 } from "./wire/address.ts";

const isFilter = (level: number, name: number): boolean => level === SOL_SOCKET && name === SO_GET_FILTER;

/** Told of what comes for a socket that has no handlers for it: the files of calls/inet. */
export interface SocketWatcher {
  /** A datagram was queued. */
  arrived(): void;
  /** An error is pending, or in the error queue. */
  failed(): void;
}

export abstract class SocketControl {
  readonly id: number;
  readonly endpoint: Endpoint;
  protected closed = false;
  /** SO_ERROR: the errno that the next call is to fail with, 0 for none. */
  protected pending = 0;
  /** Both made when they are first asked for: a flow seldom needs them. */
  private options_: SocketOptions | null = null;
  private errors_: ErrorQueue | null = null;
  private writable_: (() => void) | null = null;
  private onError_: ((errno: number) => void) | null = null;
  private refd = true;
  watcher: SocketWatcher | null = null;
  /** ECONNREFUSED was pending before the report of it came: that is not to fail a second call. */
  private refusalTold = false;
  /** UDP_GRO: datagrams of one flow and size that wait together are received as one. */
  coalesces = false;
  /** UDP_SEGMENT, SO_SNDBUF: bytes a datagram, and bytes that may be under way; 0 for none. */
  segment = 0;
  sendLimit = 0;
  /** Bytes that are under way, counted where there is a limit. */
  underWay = 0;
  /** Whether one of the two asks for more than a plain send. */
  protected sendsSpecially = false;

  protected constructor(endpoint: Endpoint, id: number) {
    this.endpoint = endpoint;
    this.id = id;
  }

  /** This object, as those know it who know sockets of one class only. */
  protected abstract get self(): UdpSocket;

  private get options(): SocketOptions {
    this.options_ ??= new SocketOptions(this.self);
    return this.options_;
  }

  private get errors(): ErrorQueue {
    this.errors_ ??= new ErrorQueue();
    return this.errors_;
  }

  /** Called once when a send that gave -EAGAIN may be tried again. */
  get onWritable(): (() => void) | null {
    return this.writable_;
  }

  set onWritable(callback: (() => void) | null) {
    this.writable_ = callback;
    this.endpoint.watchWritable(this.self);
  }

  /**
   * Called when an ICMP error came for the socket: it is pending (takeError) or in the error queue (receiveError); and on
   * kernel sockets, when what had been gathered could not be sent. Never in the middle of a send.
   */
  get onError(): ((errno: number) => void) | null {
    return this.onError_;
  }

  set onError(callback: ((errno: number) => void) | null) {
    this.onError_ = callback;
    this.endpoint.watchErrors(this.self);
  }

  /** Whether the socket keeps its thread's event loop alive. */
  get hasRef(): boolean {
    return this.refd;
  }

  /** Has the socket keep its thread's event loop alive, as it does from the start. */
  ref(): this {
    return this.setRef(true);
  }

  /** Lets the thread's event loop end while this socket is open. */
  unref(): this {
    return this.setRef(false);
  }

  /**
   * setsockopt(2): level SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6 or SOL_UDP, the number of the option (options.ts), and its
   * value: a number where it is an int, else the bytes of its structure. Throws SysError with the kernel's errno.
   */
  setsockopt(level: number, name: number, value: number | Uint8Array): void {
    const bytes = typeof value === "number" ? new Uint8Array(Int32Array.of(value).buffer) : value;
    const result = this.closed ? -ERRNO.EBADF : this.options.set(level, name, bytes);
    if (result >= 0) return;
    throw new SysError(-result, `setsockopt(${optionLabel(level, name)})`, this.options_?.hint ?? "");
  }

  /** setsockopt() that returns 0 or -errno. */
  setOption(level: number, name: number, value: Uint8Array): number {
    return this.closed ? -ERRNO.EBADF : this.options.set(level, name, value);
  }

  /** getsockopt(2): fills `out` as far as it goes. Returns the bytes written, or -errno. */
  getOption(level: number, name: number, out: Uint8Array): number {
    return this.closed ? -ERRNO.EBADF : this.options.get(level, name, out);
  }

  /** getsockopt(2) of an int; of SO_GET_FILTER, the number of instructions. Throws SysError. */
  getsockopt(level: number, name: number): number {
    if (isFilter(level, name)) return this.readFilter(new Uint8Array(0));
    const bytes = this.getsockoptBytes(level, name, 4);
    return bytes.length === 4 ? new DataView(bytes.buffer).getInt32(0, true) : bytes[0];
  }

  /**
   * getsockopt(2) of up to `length` bytes: as many as the option has. SO_GET_FILTER counts in instructions of 8 bytes, as the
   * kernel does: it gives the program of up to `length`. Throws SysError.
   */
  getsockoptBytes(level: number, name: number, length: number): Uint8Array {
    if (isFilter(level, name)) {
      const code = new Uint8Array(length * SOCK_FILTER_BYTES);
      return code.slice(0, this.readFilter(code) * SOCK_FILTER_BYTES);
    }
    const bytes = new Uint8Array(length);
    const result = this.closed ? -ERRNO.EBADF : this.options.get(level, name, bytes);
    return bytes.slice(0, check(result, `getsockopt(${optionLabel(level, name)})`));
  }

  private readFilter(out: Uint8Array): number {
    const result = this.closed ? -ERRNO.EBADF : this.options.get(SOL_SOCKET, SO_GET_FILTER, out);
    return check(result, "getsockopt(SO_GET_FILTER)", { EACCES: "an extended program is attached: it is not told" });
  }

  /**
   * Joins a multicast group on the interface with an index, a name or an IPv4 address; without it the kernel chooses.
   * Throws SysError: ENODEV, EADDRINUSE when it has joined already, EINVAL for what is no group.
   */
  joinGroup(group: string, iface: string | number = 0): void {
    this.member(true, group, null, iface);
  }

  /** Leaves the group. Throws SysError: EADDRNOTAVAIL when it had not joined. */
  leaveGroup(group: string, iface: string | number = 0): void {
    this.member(false, group, null, iface);
  }

  /** Joins the group for datagrams from one source; may be called for several. Throws SysError as joinGroup does. */
  joinSourceGroup(source: string, group: string, iface: string | number = 0): void {
    this.member(true, group, source, iface);
  }

  /** Takes the source back. With the last one the group is left. */
  leaveSourceGroup(source: string, group: string, iface: string | number = 0): void {
    this.member(false, group, source, iface);
  }

  /** Index of the interface of this name in the engine's network namespace. Throws SysError ENODEV. */
  interfaceIndex(name: string): number {
    const index = this.closed ? -ERRNO.EBADF : this.options.interfaceIndex(name);
    return check(index, `interface ${name}`, { ENODEV: "there is none of this name" });
  }

  /** SO_ERROR: the pending error, which is then no longer pending; 0 for none. */
  takeError(): number {
    // Nothing is known: where a socket of the kernel is read, it may know.
    if (this.pending === 0 && !this.closed) this.endpoint.lookForErrors(this.self);
    const { pending } = this;
    this.pending = 0;
    return pending;
  }

  /** recvmsg(MSG_ERRQUEUE): takes the oldest entry of the error queue, which IP_RECVERR or IPV6_RECVERR fills; or null. */
  receiveError(): QueuedError | null {
    const entry = this.takeQueuedError();
    if (entry !== null && entry.origin !== SO_EE_ORIGIN_TIMESTAMPING) delete entry.told;
    return entry;
  }

  /** receiveError() with all that the kernel has told beside the entry. */
  takeQueuedError(): QueuedError | null {
    if (!this.closed) this.endpoint.lookForErrors(this.self);
    const entry = this.errors_?.shift() ?? null;
    if (entry === null) return null;
    // As sock_dequeue_err_skb(): the pending error is that of the entry which is now the oldest.
    const next = this.errors_?.peek() ?? null;
    if (next !== null && isIcmp(next.origin)) this.pending = next.errno;
    else if (isIcmp(entry.origin)) this.pending = 0;
    return entry;
  }

  // ---- what options do, and what errors ----

  /** SO_SNDBUF: bytes (truesize.ts) that may be under way to the wire. */
  boundSends(bytes: number): void {
    this.endpoint.table.set(this.id, SNDBUF, bytes);
    if (this.endpoint.sendsItself) this.sendLimit = bytes;
    this.sendsSpecially = this.segment > 0 || this.sendLimit > 0;
  }

  /** UDP_SEGMENT. */
  segmentSends(bytes: number): void {
    this.endpoint.table.set(this.id, SEGMENT, bytes);
    if (this.endpoint.sendsItself) this.segment = bytes;
    this.sendsSpecially = this.segment > 0 || this.sendLimit > 0;
  }

  /** Whether its send buffer is full. As with the kernel's, the last datagram may have gone beyond it. */
  get sendsTooMuch(): boolean {
    return this.sendLimit > 0 && this.underWay >= this.sendLimit;
  }

  /** Bytes more, or less, are under way. */
  chargeSend(bytes: number): void {
    this.underWay += bytes;
  }

  /**
   * SIOCOUTQ: bytes under way to the wire, as the send buffer counts them. They are counted from the first SO_SNDBUF, or the
   * first time that this is asked.
   */
  get sendQueue(): number {
    if (this.sendLimit === 0 && !this.closed) this.boundSends(this.endpoint.table.get(this.id, SNDBUF));
    return this.underWay;
  }

  /** IP_RECVERR, IPV6_RECVERR: switched off, what was queued is gone. */
  queueErrors(on: boolean): void {
    if (!on) this.errors_?.clear();
  }

  /** UDP_GRO. A kernel socket that receives for this one does it itself. */
  coalesce(on: boolean): void {
    const { endpoint, id } = this;
    if (endpoint.sendsItself) this.coalesces = on;
    else sys.setsockoptInt(endpoint.table.get(id, PLACEHOLDER), SOL_UDP, UDP_GRO, on ? 1 : 0);
    this.handlerChanged();
  }

  protected abstract handlerChanged(): void;

  /** IP_MTU, IPV6_MTU of a connected socket where no kernel knows it: bytes written into `out`, or -errno. */
  pathMtu(level: number, out: Uint8Array): number {
    const { endpoint, id } = this;
    const { table } = endpoint;
    if (table.get(id, STATE) !== CONNECTED) return -ERRNO.ENOTCONN;
    const [w0, w1, w2, w3] = wordsAt(table, id, REMOTE);
    return writeInt(level, out, endpoint.mtuTo(w0, w1, w2, w3));
  }

  /**
   * The network reports an error about what the socket has sent. `hard`: of the kind that a connected socket hears of
   * without having asked. An error of its own host's is queued alone, and so is one that a call has failed with (`heard`).
   */
  fail(entry: QueuedError, hard: boolean, heard = false): void {
    if (entry.origin === SO_EE_ORIGIN_TIMESTAMPING) {
      // No error, and asked for by SO_TIMESTAMPING alone.
      if (this.errors.push(entry, this.endpoint.table.rcvbuf[this.id])) this.tell(entry.errno, false);
      return;
    }
    const isIpv6 = entry.address.includes(":");
    const queues = isIpv6 ? this.option(IPPROTO_IPV6, IPV6_RECVERR) : this.option(IPPROTO_IP, IP_RECVERR);
    const connected = this.endpoint.table.get(this.id, STATE) === CONNECTED;
    const { ttlTos6 } = this.endpoint.table;
    // Over IPv4 the kernel reports none to such a socket.
    const ignored = isIpv6 && entry.errno === ERRNO.EMSGSIZE && mtuDiscoverOf(ttlTos6[this.id]) === PMTUDISC_DONT;
    if (!queues && (!hard || ignored || !connected)) return;
    if (queues) this.errors.push(entry, this.endpoint.table.rcvbuf[this.id]);
    const told = this.refusalTold && entry.errno === ERRNO.ECONNREFUSED;
    if (told) this.refusalTold = false;
    this.tell(entry.errno, !told && !heard && entry.origin !== SO_EE_ORIGIN_LOCAL);
  }

  /** An error has come. `pending`: the next call is to fail with it. */
  tell(errno: number, pending: boolean): void {
    if (pending) this.pending = errno;
    this.endpoint.wakeWaiters();
    if (this.onError_ !== null) this.endpoint.tellError(this.self, errno);
    this.watcher?.failed();
  }

  /** Whether an error is pending or in the error queue, as POLLERR tells. */
  get hasErrors(): boolean {
    if (!this.closed) this.endpoint.lookForErrors(this.self);
    return this.pending !== 0 || (this.errors_?.peek() ?? null) !== null;
  }

  /** SO_BUSY_POLL: how long a receive that waits looks for datagrams before it sleeps, microseconds. */
  get busyPollUs(): number {
    return this.options_?.valueOf(SOL_SOCKET, SO_BUSY_POLL) ?? 0;
  }

  /** Whether an ICMP message for what the placeholder has sent is certain to be for this socket, and reported to it. */
  get hearsErrors(): boolean {
    if (this.sharesPlaceholder) return false;
    return this.endpoint.table.get(this.id, STATE) === CONNECTED || this.queuesErrors;
  }

  /** Nobody listens where a datagram went: the next call fails with it, and the report that is on its way fails no other. */
  refused(): void {
    this.pending = ERRNO.ECONNREFUSED;
    this.refusalTold = true;
  }

  /** Whether other sockets send by the same socket of the kernel: flows, or the one that this is a flow of. */
  protected abstract get sharesPlaceholder(): boolean;

  /** Whether errors are queued: IP_RECVERR or IPV6_RECVERR. */
  get queuesErrors(): boolean {
    return this.option(IPPROTO_IP, IP_RECVERR) || this.option(IPPROTO_IPV6, IPV6_RECVERR);
  }

  /** SO_RCVTIMEO; without one, for ever. */
  get receiveTimeoutMs(): number {
    return timeoutMs(this.options_?.valueOf(SOL_SOCKET, SO_RCVTIMEO) ?? 0);
  }

  /** SO_SNDTIMEO. */
  get sendTimeoutMs(): number {
    return timeoutMs(this.options_?.valueOf(SOL_SOCKET, SO_SNDTIMEO) ?? 0);
  }

  private option(level: number, name: number): boolean {
    return this.options_ !== null && this.options_.valueOf(level, name) !== 0;
  }

  private member(join: boolean, group: string, source: string | null, iface: string | number): void {
    const index = this.interfaceOf(iface);
    const call = membershipCall(join, ip(group), source === null ? null : ip(source), index);
    const result = this.closed ? -ERRNO.EBADF : this.options.set(call.level, call.name, call.value);
    check(result, `${join ? "join" : "leave"} ${group}${source === null ? "" : ` from ${source}`}`, {
      ENODEV: "no interface with this index, name or address, or no route to the group",
      EADDRINUSE: "it is a member already",
      EADDRNOTAVAIL: "it is not a member",
    });
  }

  /** Index of an interface, or its IPv4 address. */
  private interfaceOf(iface: string | number): number | Uint8Array {
    if (typeof iface === "number") return iface;
    const zone = iface.slice(iface.lastIndexOf("%") + 1);
    const address = parseIpv4(iface);
    if (address !== null) return address;
    if (/^\d+$/.test(zone)) return Number(zone);
    return this.interfaceIndex(zone);
  }

  private setRef(refd: boolean): this {
    if (!this.closed && refd !== this.refd) this.endpoint.retain(refd ? 1 : -1);
    this.refd = refd;
    return this;
  }
}
