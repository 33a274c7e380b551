/** SOCK_STREAM: unix_stream_sendmsg() and unix_stream_read_generic(), net/unix/af_unix.c. */
import { ERRNO } from "af-xdp-bindings";
import { SO_INQ, SOL_SOCKET } from "../../options.ts";
import { MSG_CMSG_CLOEXEC, MSG_OOB, MSG_PEEK, MSG_WAITALL, POLLPRI, SOCK_STREAM } from "../constants.ts";
import { ControlWriter, controlInt } from "../control.ts";
import type { File } from "../file.ts";
import type { FileTable } from "../file-table.ts";
import { type AddressBuffer, gather, lengthOf, type Message, scatter } from "../message.ts";
import type { Gathered } from "../reception.ts";
import { acceptFrom, connectTo, listenOn } from "./connection.ts";
import { type Credentials, NO_MESSAGE, sameCredentials, senderCredentials, UNKNOWN } from "./credentials.ts";
import type { UnixFamily } from "./family.ts";
import { allocate, type Packet } from "./packet.ts";
import { tellSender, wantsCredentials } from "./packets.ts";
import { deliver, dropAll, type Enclosed, enclosedBy } from "./scm.ts";
import { UnixSocket } from "./socket.ts";
import { ESTABLISHED, SHUT_RECEIVE, SHUT_SEND } from "./state.ts";

/** SKB_MAX_HEAD(0): what a part has in one piece. The rest, UNIX_SKB_FRAGS_SZ at most, is in pages. */
const ONE_PIECE_MAX = 3776;
const PAGED_MAX = 32768;
const PAGE = 4096;
/** What of half the send buffer no part takes. */
const RESERVE = 64;

/** What one attempt to receive has found. */
interface Found {
  /** Bytes copied. */
  copied: number;
  /** What it ended with: 0, or -errno. */
  ended: number;
  /** Whose bytes they are, where the socket wants to know. */
  from: Credentials | null;
  files: File[];
  packet: Packet | null;
}

export class StreamSocket extends UnixSocket {
  override readonly isStream = true;
  override readonly isByteStream = true;
  /** Bytes to be read, as SIOCINQ tells them: a byte out of band that is passed over stays counted, as in Linux 6.18. */
  private queued = 0;

  constructor(family: UnixFamily) {
    super(family, SOCK_STREAM);
  }

  override listen(backlog: number): number {
    return listenOn(this, backlog);
  }

  override connect(address: Uint8Array): number {
    return connectTo(this, address, () => new StreamSocket(this.family));
  }

  override accept(address: AddressBuffer | null, waits: boolean): UnixSocket | number {
    return acceptFrom(this, address, waits);
  }

  // ---- sending ----

  override send(message: Message, flags: number, descriptors: FileTable): number {
    const enclosed = enclosedBy(message, descriptors, this.options.limits);
    if (typeof enclosed === "number") return enclosed;
    const result = this.sendEnclosed(message, flags, enclosed);
    dropAll(enclosed.files);
    return result;
  }

  private sendEnclosed(message: Message, flags: number, enclosed: Enclosed): number {
    const outOfBand = (flags & MSG_OOB) !== 0;
    const total = lengthOf(message.iov);
    if (outOfBand && total === 0) return -ERRNO.EOPNOTSUPP;
    if (message.name !== null && message.name.length > 0) {
      return this.state === ESTABLISHED ? -ERRNO.EISCONN : -ERRNO.EOPNOTSUPP;
    }
    const other = this.peer as StreamSocket | null;
    if (other === null) return -ERRNO.ENOTCONN;
    if ((this.shut & SHUT_SEND) !== 0) return -ERRNO.EPIPE;
    const data = gather(message.iov);
    const plain = outOfBand ? total - 1 : total;
    let sent = 0;
    while (sent < plain) {
      const size = Math.min(plain - sent, (this.sendBuffer >> 1) - RESERVE, ONE_PIECE_MAX + PAGED_MAX);
      const result = this.sendPart(other, data, sent, size, enclosed, false);
      if (result < 0) return sent > 0 ? sent : result;
      sent += size;
    }
    if (!outOfBand) return sent;
    const result = this.sendPart(other, data, sent, 1, enclosed, true);
    return result < 0 ? sent || result : sent + 1;
  }

  /** Sends `size` bytes as one part. Returns 0 or -errno. */
  private sendPart(
    other: StreamSocket,
    data: Uint8Array,
    at: number,
    size: number,
    enclosed: Enclosed,
    urgent: boolean,
  ): number {
    const over = Math.max(size - ONE_PIECE_MAX, 0);
    const paged = Math.min(size, Math.ceil(over / PAGE) * PAGE);
    const packet = allocate(this, data, at, size - paged, paged);
    if (typeof packet === "number") return packet;
    // The first part takes the files along.
    const enclosing = packet.enclose(enclosed);
    if (wantsCredentials(this, other)) packet.credentials ??= senderCredentials();
    const refusal = enclosing || other.refusal(packet);
    if (refusal < 0) packet.free();
    else other.take(packet, urgent);
    return refusal;
  }

  private refusal({ files }: Packet): number {
    if (this.dead || (this.shut & SHUT_RECEIVE) !== 0) return -ERRNO.EPIPE;
    return files.length > 0 && !this.options.passesRights ? -ERRNO.EPERM : 0;
  }

  private take(packet: Packet, urgent: boolean): void {
    this.enqueue(packet);
    this.queued += packet.data.length;
    if (urgent) {
      this.urgent = packet;
      if (this.attached) this.signalUrgent();
    }
    this.tellNews();
  }

  // ---- receiving ----

  override receive(message: Message, flags: number, descriptors: FileTable, gathered: Gathered): number {
    if (this.state !== ESTABLISHED) return -ERRNO.EINVAL;
    if ((flags & MSG_OOB) !== 0) return this.receiveUrgent(message, flags);
    if (gathered.files) return 0;
    const peeks = (flags & MSG_PEEK) !== 0;
    const found = this.readQueue(message.iov, flags, gathered);
    gathered.from = found.from;
    gathered.files = !peeks && found.files.length > 0;
    const result = found.copied || found.ended;
    if (result >= 0) this.tell(message, flags, found, descriptors);
    if (!peeks) dropAll(found.files);
    return result;
  }

  private readQueue(iov: readonly Uint8Array[], flags: number, { bytes, from: before }: Gathered): Found {
    const found: Found = { copied: 0, ended: 0, from: before, files: [], packet: null };
    const peeks = (flags & MSG_PEEK) !== 0;
    const size = lengthOf(iov);
    const whole = bytes + size;
    const target = ((flags & MSG_WAITALL) !== 0 ? whole : Math.min(this.receiveLowWater, whole)) || 1;
    let skip = peeks ? Math.max(this.options.peekOffset, 0) : 0;
    let at = 0;
    do {
      const total = bytes + found.copied;
      if (at < this.received.length) {
        at = this.passUrgent(at, peeks, total > 0);
        if (at < 0 && total > 0) break;
      } else {
        at = -1;
      }
      for (; at >= 0 && skip >= this.received[at].length; at = at + 1 < this.received.length ? at + 1 : -1) {
        skip -= this.received[at].length;
      }
      if (at < 0) {
        found.ended = this.nothingLeft(total, target);
        break;
      }
      const packet = this.received[at];
      const from = packet.credentials ?? UNKNOWN;
      // What different writers wrote is never glued together.
      if (found.from !== null && !sameCredentials(found.from, from)) break;
      if (this.options.asksForCredentials) found.from = from;
      found.packet = packet;
      const begin = packet.consumed + skip;
      const chunk = Math.min(packet.length - skip, size - found.copied);
      scatter(iov, packet.data.subarray(begin, begin + chunk), found.copied);
      found.copied += chunk;
      this.options.movePeekOffset(peeks ? chunk : -chunk);
      if (peeks) {
        found.files = packet.files;
        if (found.files.length > 0) break;
        skip = 0;
        at++;
        // Even where there is no more room: files that come next are told.
        if (at === this.received.length) break;
        continue;
      }
      packet.consumed += chunk;
      this.queued -= chunk;
      if (packet.files.length > 0) found.files = packet.detach();
      if (packet.length > 0) break;
      this.unlink(at);
      if (found.files.length > 0) break;
      at = 0;
    } while (peeks || found.copied < size);
    return found;
  }

  /** The end of what there is, with `total` bytes in hand: 0, or -errno. */
  private nothingLeft(total: number, target: number): number {
    if (total >= target) return 0;
    const error = this.takeError();
    if (error !== 0) return -error;
    return (this.shut & SHUT_RECEIVE) !== 0 ? 0 : -ERRNO.EAGAIN;
  }

  /**
   * manage_oob(): the byte out of band ends what is read before it, and is passed over where it is not wanted inline.
   * @param at a part in the queue @returns that to read instead, -1: none
   */
  private passUrgent(at: number, peeks: boolean, copied: boolean): number {
    const { received } = this;
    let next = at;
    if (received[next].length === 0) {
      // It has been read out of band: a read ends there, too, unless another one is to come.
      if (copied && (this.urgent === null || received[next] === this.urgent)) return -1;
      if (peeks) next++;
      else this.unlink(next);
      if (next === received.length) return -1;
    }
    if (received[next] !== this.urgent) return next;
    if (copied) return -1;
    const { outOfBandInline } = this.options;
    if (!peeks) this.urgent = null;
    if (outOfBandInline) return next;
    if (peeks) return next + 1 < received.length ? next + 1 : -1;
    this.unlink(next);
    return received.length > 0 ? 0 : -1;
  }

  private unlink(at: number): void {
    for (const packet of this.received.splice(at, 1)) packet.free();
  }

  private tell(message: Message, flags: number, found: Found, descriptors: FileTable): void {
    message.flags = flags & MSG_CMSG_CLOEXEC;
    if (message.name !== null) tellSender(message.name, found.packet);
    const writer = new ControlWriter(message);
    const delivered = { credentials: found.from ?? NO_MESSAGE, files: found.files };
    deliver(writer, message, delivered, this.options, descriptors, this.family.pidFile);
    if (this.options.tellsQueue) writer.put(SOL_SOCKET, SO_INQ, controlInt(this.queued));
    writer.end();
  }

  /** unix_stream_recv_urg(). */
  private receiveUrgent(message: Message, flags: number): number {
    const { urgent, received } = this;
    if (urgent === null || this.options.outOfBandInline) return -ERRNO.EINVAL;
    const peeks = (flags & MSG_PEEK) !== 0;
    if (!peeks) {
      this.urgent = null;
      this.queued--;
      const before = received.indexOf(urgent) - 1;
      if (before >= 0 && received[before].length === 0) this.unlink(before);
      urgent.consumed++;
    }
    // It is read where there is no room for it, too.
    scatter(message.iov, urgent.data);
    message.flags = (flags & MSG_CMSG_CLOEXEC) | MSG_OOB;
    if (message.name !== null) message.name.length = 0;
    message.controlLength = 0;
    return 1;
  }

  override poll(): number {
    return this.pollShared() | (this.urgent === null ? 0 : POLLPRI) | this.writableBits(this.writable);
  }

  protected override readable(): number {
    return this.queued;
  }
}
