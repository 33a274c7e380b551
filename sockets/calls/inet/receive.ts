/** Receiving at a UDP socket as udp_recvmsg does (net/ipv4/udp.c): peeking, parts, what is cut off, control messages. */
import { ERRNO } from "af-xdp-bindings";
import type { Datagram } from "../../datagram.ts";
import { AF_INET } from "../../table.ts";
import type { UdpSocket } from "../../udp-socket.ts";
import { MSG_CMSG_CLOEXEC, MSG_PEEK, MSG_TRUNC } from "../constants.ts";
import { ControlWriter } from "../control.ts";
import { lengthOf, type Message, putAddress, scatter } from "../message.ts";
import { addressOfWords } from "./address.ts";
import { arrivalOf, Told } from "./told.ts";

/** Nothing has been received yet, or without a note of when: as sk_stamp. */
const NEVER = -1;

export class DatagramReceiver {
  /** SO_PEEK_OFF: where the next peek begins, -1 for at the first datagram, always. */
  peekOffset = -1;
  private readonly socket: UdpSocket;
  private readonly family: number;
  private readonly datagram: Datagram;
  /** Datagrams received as one (UDP_GRO), peeked at and not yet received: they are no longer in the queue. */
  private held: Datagram | null = null;
  /** The datagram at hand has been peeked at: an empty one is passed over with an offset. */
  private peekedEmpty = false;
  private told_: Told | null = null;
  /** Arrival of the last datagram: seconds and nanoseconds. */
  private stampSeconds = NEVER;
  private stampNs = 0;

  constructor(socket: UdpSocket, family: number) {
    this.socket = socket;
    this.family = family;
    this.datagram = socket.newDatagram();
  }

  /** An option was set: what is told may be something else. */
  optionsChanged(): void {
    this.told_ = null;
  }

  /** Whether a datagram waits. */
  get isReady(): boolean {
    return this.held !== null || this.socket.queue.length > 0;
  }

  /** Bytes of the next datagram (FIONREAD), 0 for none. */
  get nextLength(): number {
    if (this.held !== null) return this.held.length;
    return this.lookAt(0) ? this.datagram.length : 0;
  }

  /** Returns bytes, or -EAGAIN. */
  receive(message: Message, flags: number): number {
    const peeks = (flags & MSG_PEEK) !== 0;
    let offset = peeks ? Math.max(this.peekOffset, 0) : 0;
    const datagram = peeks ? this.peek(offset) : this.take();
    if (datagram === null) return -ERRNO.EAGAIN;
    if (peeks) offset -= this.passed;
    const result = this.give(datagram, offset, message, flags);
    if (this.peekOffset >= 0) {
      // What is peeked at moves the offset on, what is received moves it back (sk_peek_offset_fwd, _bwd).
      this.peekOffset = Math.max(this.peekOffset + (peeks ? result : -result), 0);
    }
    if (!peeks) datagram.release();
    return result;
  }

  /** SIOCGSTAMP: when the last datagram came; null before there was one. */
  lastArrival(): { seconds: number; nanoseconds: number } | null {
    if (this.stampSeconds === NEVER) return null;
    return { seconds: this.stampSeconds, nanoseconds: this.stampNs };
  }

  close(): void {
    this.held?.release();
    this.held = null;
  }

  /** Bytes of the datagrams that the last peek() went past. */
  private passed = 0;

  private take(): Datagram | null {
    const { datagram, held, socket } = this;
    if (held !== null) {
      this.held = null;
      return held;
    }
    this.peekedEmpty = false;
    return socket.take(datagram) ? datagram : null;
  }

  /** The datagram in which `offset` lies, left where it is. */
  private peek(offset: number): Datagram | null {
    const { socket } = this;
    this.passed = 0;
    if (socket.coalesces && this.held === null && socket.queue.length > 0) {
      const held = socket.newDatagram();
      if (socket.take(held)) this.held = held;
    }
    if (this.held !== null) return offset < this.held.length ? this.held : this.peekBehind(this.held.length, offset);
    return this.peekBehind(0, offset);
  }

  private peekBehind(before: number, offset: number): Datagram | null {
    this.passed = before;
    for (let i = 0; i < this.socket.queue.length && this.lookAt(i); i++) {
      const { length } = this.datagram;
      const at = offset - this.passed;
      const skips = at >= length && (length > 0 || at > 0 || (i === 0 && this.peekedEmpty && this.peekOffset >= 0));
      if (!skips) {
        if (i === 0 && length === 0) this.peekedEmpty = true;
        return this.datagram;
      }
      this.passed += length;
    }
    return null;
  }

  /** Loads the datagram at a place of the queue, which keeps it. */
  private lookAt(index: number): boolean {
    const { datagram, socket } = this;
    if (index >= socket.queue.length) return false;
    socket.queue.look(index, datagram, socket.endpoint.shared.memories);
    return true;
  }

  private give(datagram: Datagram, offset: number, message: Message, flags: number): number {
    const { family, socket } = this;
    const { length, memory } = datagram;
    const from = datagram.offset;
    const copied = scatter(message.iov, memory.subarray(from + offset, from + length));
    // Control messages and these flags are all that the kernel tells of a datagram.
    message.flags = flags & MSG_CMSG_CLOEXEC;
    const room = lengthOf(message.iov);
    if (room < length && room <= length - offset) message.flags |= MSG_TRUNC;
    const told = this.told();
    this.note(datagram, told);
    if (message.name !== null) putAddress(message.name, senderOf(datagram, family));
    const out = new ControlWriter(message);
    told.put(datagram, family, out);
    out.end();
    socket.endpoint.flush();
    return (flags & MSG_TRUNC) !== 0 ? length : copied;
  }

  /** As sock_recv_timestamp(): a socket that is told the time in control messages keeps none. */
  private note(datagram: Datagram, told: Told): void {
    if (told.stamp !== 0 || told.stamping !== 0) return;
    const { seconds, nanoseconds } = arrivalOf(datagram);
    this.stampSeconds = seconds;
    this.stampNs = nanoseconds;
  }

  told(): Told {
    this.told_ ??= new Told(this.socket, this.family);
    return this.told_;
  }
}

function senderOf(datagram: Datagram, family: number): Uint8Array {
  return addressOfWords(
    family === AF_INET ? 4 : 6,
    datagram.sourceWord(0),
    datagram.sourceWord(1),
    datagram.sourceWord(2),
    datagram.sourceWord(3),
    datagram.sourcePort,
    datagram.interfaceIndex,
  );
}
