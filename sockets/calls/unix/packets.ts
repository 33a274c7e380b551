/**
 * Sockets whose messages keep their bounds: sending and receiving of SOCK_DGRAM and SOCK_SEQPACKET (unix_dgram_sendmsg and
 * __unix_dgram_recvmsg, net/unix/af_unix.c).
 */
import { ERRNO } from "af-xdp-bindings";
import { SO_MARK, SO_PRIORITY, SOL_SOCKET } from "../../options.ts";
import {
  MSG_CMSG_CLOEXEC,
  MSG_DONTWAIT,
  MSG_OOB,
  MSG_PEEK,
  MSG_TRUNC,
  POLLERR,
  POLLPRI,
  SOCK_SEQPACKET,
} from "../constants.ts";
import { ControlWriter, controlInt } from "../control.ts";
import type { File } from "../file.ts";
import type { FileTable } from "../file-table.ts";
import { type AddressBuffer, gather, lengthOf, type Message, putAddress, scatter } from "../message.ts";
import { validate } from "./address.ts";
import { senderCredentials, UNKNOWN } from "./credentials.ts";
import { passes } from "./filters.ts";
import { allocate, type Packet } from "./packet.ts";
import { deliver, dropAll, type Enclosed, enclosedBy } from "./scm.ts";
import { UnixSocket } from "./socket.ts";
import { SHUT_RECEIVE } from "./state.ts";
import { putTimestamp, stampNow } from "./timestamps.ts";

/** What of the send buffer no message may take. */
const RESERVE = 32;
/** SKB_MAX_ALLOC: longer messages are in pages in part, MAX_SKB_FRAGS of them at most. */
const ONE_PIECE_MAX = 16064;
const PAGE = 4096;
const PAGED_MAX = 17 * PAGE;

export abstract class PacketSocket extends UnixSocket {
  /** Sends to the address, or the peer where that is null. */
  protected sendPacket(message: Message, address: Uint8Array | null, flags: number, descriptors: FileTable): number {
    const enclosed = enclosedBy(message, descriptors, this.options.limits);
    if (typeof enclosed === "number") return enclosed;
    const result = this.sendEnclosed(message, enclosed, address, flags);
    dropAll(enclosed.files);
    return result;
  }

  private sendEnclosed(message: Message, enclosed: Enclosed, address: Uint8Array | null, flags: number): number {
    if ((flags & MSG_OOB) !== 0) return -ERRNO.EOPNOTSUPP;
    const verdict = (address === null ? 0 : validate(address)) || this.autobindIfTold();
    if (verdict < 0) return verdict;
    const length = lengthOf(message.iov);
    if (length > this.sendBuffer - RESERVE) return -ERRNO.EMSGSIZE;
    const over = length - ONE_PIECE_MAX;
    const paged = over <= 0 ? 0 : Math.min(Math.ceil(Math.min(over, PAGED_MAX) / PAGE) * PAGE, length);
    const packet = allocate(this, gather(message.iov), 0, length - paged, paged);
    if (typeof packet === "number") return packet;
    const sent = packet.enclose(enclosed) || this.sendTo(packet, address, flags);
    if (sent >= 0) return length;
    // Who waits is going to send it after all: that it takes no room meanwhile is no news to him.
    packet.free(sent !== -ERRNO.EAGAIN || (flags & MSG_DONTWAIT) !== 0);
    return sent;
  }

  private sendTo(packet: Packet, address: Uint8Array | null, flags: number): number {
    const other = address === null ? this.peer : this.family.names.find(address, this.type);
    if (other === null) return -ERRNO.ENOTCONN;
    if (typeof other === "number") return other;
    const { filter } = other.options;
    if (filter !== null && !passes(filter, packet)) {
      // The sender is told nothing.
      packet.free();
      return 0;
    }
    if (wantsCredentials(this, other)) packet.credentials ??= senderCredentials();
    if (other.peer !== null && other.peer !== this) return -ERRNO.EPERM;
    if (other.dead) return this.peerIsGone(other);
    if ((other.shut & SHUT_RECEIVE) !== 0) return -ERRNO.EPIPE;
    if (packet.files.length > 0 && !other.options.passesRights) return -ERRNO.EPERM;
    if (other !== this && other.peer !== this && other.full) {
      // Who is not connected to it has no business with its room, unless waiting right now.
      if (other === this.peer || (flags & MSG_DONTWAIT) === 0) other.waiters.add(this);
      return -ERRNO.EAGAIN;
    }
    if (other.options.timestamps !== 0) stampNow(packet);
    other.enqueue(packet);
    other.tellNews();
    return 0;
  }

  private peerIsGone(other: UnixSocket): number {
    if (this.type === SOCK_SEQPACKET) return -ERRNO.EPIPE;
    this.peer = null;
    other.waiters.delete(this);
    this.queue.wake(this.writableBits(true), 0);
    this.forgetMessagesOf(other);
    return -ERRNO.ECONNREFUSED;
  }

  /** unix_dgram_disconnected(): what the former peer had sent is lost, which it is told if it was connected, too. */
  protected forgetMessagesOf(other: UnixSocket): void {
    if (this.received.length === 0) return;
    for (const packet of this.takeQueue()) packet.free();
    this.wakeWaiters();
    if (other.dead || other.peer !== this) return;
    other.error = ERRNO.ECONNRESET;
    other.queue.wake(POLLERR);
  }

  protected receivePacket(message: Message, flags: number, descriptors: FileTable): number {
    if ((flags & MSG_OOB) !== 0) return -ERRNO.EOPNOTSUPP;
    const peeks = (flags & MSG_PEEK) !== 0;
    const error = this.takeError();
    if (error !== 0) return -error;
    const skipping = { bytes: peeks ? this.options.peekOffset : 0 };
    const packet = peeks ? this.peekAt(skipping) : this.received.shift();
    if (packet === undefined) return this.nothing(message, flags);
    this.wakeWaiters();
    message.flags = flags & MSG_CMSG_CLOEXEC;
    if (message.name !== null) tellSender(message.name, packet);
    const left = packet.data.length - skipping.bytes;
    const room = lengthOf(message.iov);
    if (room < left) message.flags |= MSG_TRUNC;
    const copied = scatter(message.iov, packet.data.subarray(skipping.bytes));
    const writer = new ControlWriter(message);
    if (this.options.timestamps !== 0) putTimestamp(writer, this.options.timestamps, packet);
    if (this.options.tellsMark) writer.put(SOL_SOCKET, SO_MARK, controlInt(0));
    if (this.options.tellsPriority) writer.put(SOL_SOCKET, SO_PRIORITY, controlInt(0));
    const files: File[] = peeks ? packet.files : packet.detach();
    const credentials = packet.credentials ?? UNKNOWN;
    deliver(writer, message, { credentials, files }, this.options, descriptors, this.family.pidFile);
    writer.end();
    if (peeks) {
      this.options.movePeekOffset(copied);
    } else {
      dropAll(files);
      this.options.movePeekOffset(-packet.data.length);
      packet.free();
    }
    return (flags & MSG_TRUNC) !== 0 ? left : copied;
  }

  /** The end, or -EAGAIN: a socket that is shut down tells the end where somebody waits, or it has connections. */
  private nothing(message: Message, flags: number): number {
    const waits = (flags & MSG_DONTWAIT) === 0;
    if ((this.shut & SHUT_RECEIVE) === 0 || (!waits && this.type !== SOCK_SEQPACKET)) return -ERRNO.EAGAIN;
    message.flags = flags & MSG_CMSG_CLOEXEC;
    if (message.name !== null) message.name.length = 0;
    message.controlLength = 0;
    return 0;
  }

  /** The message that the peek offset lies in, whose bytes before it are passed over. */
  private peekAt(skipping: { bytes: number }): Packet | undefined {
    const from = skipping.bytes;
    let offset = Math.max(from, 0);
    for (const packet of this.received) {
      const { length } = packet.data;
      if (from >= 0 && offset >= length && (offset > 0 || packet.peeked)) {
        offset -= length;
        continue;
      }
      if (length === 0) packet.peeked = true;
      skipping.bytes = offset;
      return packet;
    }
    return undefined;
  }

  override poll(): number {
    let mask = this.pollShared();
    let { writable } = this;
    const { peer } = this;
    if (writable && peer !== null && peer.peer !== this && peer.full && !peer.dead) {
      peer.waiters.add(this);
      writable = false;
    }
    if (this.error !== 0 && this.options.selectsErrors) mask |= POLLPRI;
    return mask | this.writableBits(writable);
  }
}

/** unix_maybe_add_creds(): what is not accepted yet may ask for them later. */
export const wantsCredentials = (sender: UnixSocket, other: UnixSocket): boolean =>
  sender.options.asksForCredentials || other.options.asksForCredentials || !other.attached;

/** unix_copy_addr(): nothing of a sender without a name, and where there is no message. */
export function tellSender(name: AddressBuffer, packet: Packet | null): void {
  const sent = packet?.sender.name ?? null;
  if (sent === null) name.length = 0;
  else putAddress(name, sent);
}
