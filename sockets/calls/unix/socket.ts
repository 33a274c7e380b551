/**
 * What sockets of AF_UNIX have in common, whatever their type: names, the peer, the queue, shutdown, poll, ioctl, and the end
 * (net/unix/af_unix.c). Such sockets live within one thread: names and peers are those of its UnixFamily.
 */
import { ERRNO } from "af-xdp-bindings";
import { SO_PEERPIDFD, SOL_SOCKET } from "../../options.ts";
import { writeBytes } from "../../sockopt/rules.ts";
import {
  POLLERR,
  POLLHUP,
  POLLIN,
  POLLOUT,
  POLLPRI,
  POLLRDBAND,
  POLLRDHUP,
  POLLRDNORM,
  POLLWRBAND,
  POLLWRNORM,
  SHUT_RD,
  SHUT_RDWR,
  SIOCATMARK,
  SIOCINQ,
  SIOCOUTQ,
  SIOCUNIXFILE,
  SOCK_DGRAM,
} from "../constants.ts";
import { controlInt } from "../control.ts";
import { File } from "../file.ts";
import type { FileTable } from "../file-table.ts";
import { type AddressBuffer, putAddress } from "../message.ts";
import { familyOf, PATH_AT, UNNAMED, validate } from "./address.ts";
import type { Credentials } from "./credentials.ts";
import type { UnixFamily } from "./family.ts";
import { UnixOptions } from "./options.ts";
import type { Packet } from "./packet.ts";
import { openPid } from "./scm.ts";
import { CLOSED, LISTENING, SHUT_BOTH, SHUT_RECEIVE, SHUT_SEND } from "./state.ts";

const READABLE = POLLIN | POLLRDNORM;
const WRITABLE = POLLOUT | POLLWRNORM | POLLWRBAND;
/** What sock_def_readable() tells. */
const NEWS = POLLIN | POLLPRI | POLLRDNORM | POLLRDBAND;
/** What the wait queue holds in wmem_alloc from the beginning on: sk_alloc(). */
const WMEM_START = 1;

export abstract class UnixSocket extends File {
  override readonly isSocket = true;
  readonly family: UnixFamily;
  readonly type: number;
  readonly options: UnixOptions;
  state = CLOSED;
  /** Directions that are shut down: SHUT_ bits of state.ts. */
  shut = 0;
  /** sk_err: a positive errno, or 0. */
  error = 0;
  /** The address that it is bound to; of a connection, its listener's. */
  name: Uint8Array | null = null;
  /** Whom it sends to, closed or not. */
  peer: UnixSocket | null = null;
  peerCredentials: Credentials | null = null;
  /** Supplementary groups of the peer. */
  peerGroups: readonly number[] = [];
  received: Packet[] = [];
  /** Of a stream: the byte out of band that has not been read as such. */
  urgent: Packet | null = null;
  /** Connections that have not been accepted yet. */
  pending: UnixSocket[] = [];
  /** More than so many in its queue are too many: sk_max_ack_backlog. */
  backlog: number;
  /** Whether it has a descriptor, or had one: connections get theirs when they are accepted. */
  attached = false;
  dead = false;
  /** Who is to be told when its queue has room: unix_sock.peer_wait. */
  readonly waiters = new Set<UnixSocket>();
  /** Bytes that what it has sent counts for, and nobody has read: sk_wmem_alloc. */
  underWay = 0;
  /** How often it is in a message that is under way, and those messages. */
  inFlight = 0;
  readonly holders = new Set<Packet>();
  /** Of a connection that has not been accepted yet. */
  listener: UnixSocket | null = null;

  constructor(family: UnixFamily, type: number) {
    super();
    this.family = family;
    this.type = type;
    this.backlog = family.queueMax;
    this.options = new UnixOptions(this);
  }

  get sendBuffer(): number {
    return this.options.sendBuffer;
  }

  override get receiveTimeoutMs(): number {
    return this.options.receiveTimeoutMs;
  }

  override get sendTimeoutMs(): number {
    return this.options.sendTimeoutMs;
  }

  override get receiveLowWater(): number {
    return this.options.receiveLowWater;
  }

  override takeError(): number {
    const { error } = this;
    this.error = 0;
    return error;
  }

  // ---- names ----

  override bind(address: Uint8Array): number {
    const { names } = this.family;
    if (address.length === PATH_AT && familyOf(address) === familyOf(UNNAMED)) return names.autobind(this);
    const verdict = validate(address);
    return verdict < 0 ? verdict : names.bind(this, address);
  }

  /** Who wants to be told of credentials has to have a name that can be answered. Returns 0 or -errno. */
  autobindIfTold(): number {
    return this.options.asksForCredentials && this.name === null ? this.family.names.autobind(this) : 0;
  }

  override getsockname(address: AddressBuffer): number {
    return tell(address, this.name ?? UNNAMED);
  }

  override getpeername(address: AddressBuffer): number {
    return this.peer === null ? -ERRNO.ENOTCONN : tell(address, this.peer.name ?? UNNAMED);
  }

  // ---- the queue ----

  /** unix_recvq_full(). */
  get full(): boolean {
    return this.received.length + this.pending.length > this.backlog;
  }

  /** Puts a message into its queue. */
  enqueue(packet: Packet): void {
    packet.receiver = this;
    this.received.push(packet);
  }

  /** Something new is there to be read or accepted. */
  tellNews(): void {
    this.queue.wake(NEWS);
  }

  /** Room in its queue, or there is none to be waited for any more. */
  wakeWaiters(): void {
    if (this.waiters.size === 0) return;
    const waiting = [...this.waiters];
    this.waiters.clear();
    for (const socket of waiting) socket.queue.wake(WRITABLE, 0);
  }

  /** unix_write_space(). */
  writeSpace(): void {
    if (this.writable && !this.dead) this.queue.wake(WRITABLE);
  }

  /** unix_writable(): less than a quarter of the send buffer is under way. */
  get writable(): boolean {
    return this.state !== LISTENING && (this.underWay + WMEM_START) * 4 <= this.sendBuffer;
  }

  /** Takes everything out of its queue, and out of those of connections not accepted yet. */
  takeQueue(): Packet[] {
    const packets = this.pending.flatMap((connection) => connection.takeQueue()).concat(this.received);
    this.received = [];
    this.urgent = null;
    return packets;
  }

  // ---- shutdown and the end ----

  override shutdown(how: number): number {
    if (how < SHUT_RD || how > SHUT_RDWR) return -ERRNO.EINVAL;
    const bits = how + 1;
    this.shut |= bits;
    this.queue.wake(0);
    if (this.peer === null || this.type === SOCK_DGRAM) return 0;
    const mirrored = ((bits & SHUT_RECEIVE) !== 0 ? SHUT_SEND : 0) | ((bits & SHUT_SEND) !== 0 ? SHUT_RECEIVE : 0);
    this.peer.shutByPeer(mirrored);
    return 0;
  }

  /** The peer has shut down `bits` of this side. */
  private shutByPeer(bits: number): void {
    this.shut |= bits;
    this.queue.wake(0);
    if (bits === SHUT_BOTH) this.queue.wake(POLLHUP);
    else if ((bits & SHUT_RECEIVE) !== 0) this.queue.wake(READABLE);
  }

  protected override release(): void {
    this.end(false);
  }

  override drop(): void {
    super.drop();
    if (this.inFlight > 0 && this.referenceCount === this.inFlight) this.family.inFlight.collect(this);
  }

  /** unix_release_sock(). @param unaccepted a connection whose listener is closed */
  end(unaccepted: boolean): void {
    const { peer, type } = this;
    this.family.names.remove(this);
    this.dead = true;
    this.attached = false;
    this.shut = SHUT_BOTH;
    this.state = CLOSED;
    this.peer = null;
    this.listener = null;
    this.urgent = null;
    this.wakeWaiters();
    if (peer !== null) {
      if (type !== SOCK_DGRAM) {
        if (this.hasUnread() || unaccepted) peer.error = ERRNO.ECONNRESET;
        peer.shutByPeer(SHUT_BOTH);
      }
      peer.waiters.delete(this);
    }
    const { received, pending } = this;
    this.received = [];
    this.pending = [];
    for (const connection of pending) connection.end(true);
    for (const packet of received) packet.free();
  }

  /** Whether there is something that nobody will read, besides what has been read out of band. */
  private hasUnread(): boolean {
    const [first, second] = this.received;
    return (first !== undefined && first.length === 0 ? second : first) !== undefined;
  }

  // ---- what is asked ----

  override setsockopt(level: number, name: number, value: Uint8Array): number {
    return this.options.set(level, name, value);
  }

  override getsockopt(level: number, name: number, out: Uint8Array, descriptors: FileTable): number {
    if (level === SOL_SOCKET && name === SO_PEERPIDFD) return this.tellPeer(out, descriptors);
    return this.options.get(level, name, out);
  }

  /** SO_PEERPIDFD: a new descriptor of the peer's process. */
  private tellPeer(out: Uint8Array, descriptors: FileTable): number {
    const pid = this.peerCredentials?.pid ?? 0;
    if (pid === 0) return -ERRNO.ENODATA;
    const fd = openPid(pid, descriptors, this.family.pidFile);
    return fd < 0 ? fd : writeBytes(out, controlInt(fd));
  }

  /** POLL bits of what sockets of every type tell alike. */
  protected pollShared(): number {
    let mask = this.error !== 0 ? POLLERR : 0;
    if (this.shut === SHUT_BOTH) mask |= POLLHUP;
    if ((this.shut & SHUT_RECEIVE) !== 0) mask |= POLLRDHUP | READABLE;
    if (this.received.length + this.pending.length > 0) mask |= READABLE;
    if (this.type !== SOCK_DGRAM && this.state === CLOSED) mask |= POLLHUP;
    return mask;
  }

  /** POLL bits of a socket that can be written to, or not. */
  protected writableBits(writable: boolean): number {
    return writable ? WRITABLE : 0;
  }

  override ioctl(request: number, argument: Uint8Array): number {
    switch (request) {
      case SIOCOUTQ:
        return putInt(argument, this.underWay);
      case SIOCINQ:
        return this.state === LISTENING ? -ERRNO.EINVAL : putInt(argument, this.readable());
      case SIOCATMARK:
        return this.isStream ? putInt(argument, Number(this.atMark())) : -ERRNO.EOPNOTSUPP;
      case SIOCUNIXFILE:
        // There is an inode behind no name.
        return this.options.limits.netAdmin ? -ERRNO.ENOENT : -ERRNO.EPERM;
      default:
        return -ERRNO.ENOTTY;
    }
  }

  /** SIOCINQ: bytes to be read, of a datagram socket in the next one. */
  protected abstract readable(): number;

  private atMark(): boolean {
    const [first, second] = this.received;
    const { urgent } = this;
    if (first === undefined) return this.pending.length > 0;
    return first === urgent || (first.length === 0 && (urgent === null || second === urgent));
  }
}

function tell(buffer: AddressBuffer, address: Uint8Array): number {
  if (buffer.length < 0) return -ERRNO.EINVAL;
  putAddress(buffer, address);
  return 0;
}

function putInt(bytes: Uint8Array, value: number): number {
  new DataView(bytes.buffer, bytes.byteOffset).setInt32(0, value, true);
  return 0;
}
