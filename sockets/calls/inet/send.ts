/**
 * Sending from a UDP socket. A plain datagram takes the engine's path. All that asks for more (flags, control messages, an address
 * that only the kernel can say something of) goes by the kernel's socket as it is, so that the kernel says what is wrong with it;
 * where there is none, its checks are made here, in its order (udp_sendmsg, udpv6_sendmsg of 6.18).
 */
import { ERRNO } from "af-xdp-bindings";
import type { Endpoint } from "../../endpoint.ts";
import { SOL_UDP, UDP_SEGMENT } from "../../options.ts";
import { readSockaddr, SOCKADDR_IN_BYTES, SOCKADDR_IN6_BYTES, SOCKADDR_IN6_MIN } from "../../sockaddr.ts";
import { AF_INET, AF_INET6, CONNECTED, F_V6ONLY, FLAGS, PLACEHOLDER, REMOTE, REMOTE_PORT, STATE } from "../../table.ts";
import type { UdpSocket } from "../../udp-socket.ts";
import { AF_UNSPEC, MSG_CONFIRM, MSG_DONTROUTE, MSG_DONTWAIT, MSG_MORE, MSG_NOSIGNAL, MSG_OOB } from "../constants.ts";
import { visitControl } from "../control.ts";
import { KernelCalls } from "../kernel-calls.ts";
import { gather, lengthOf, type Message } from "../message.ts";
import { needsScope } from "./address.ts";

/** Flags that a plain datagram may have. MSG_CONFIRM tells that the neighbour is alive, which the kernel finds out by itself. */
const PLAIN_FLAGS = MSG_DONTWAIT | MSG_NOSIGNAL | MSG_CONFIRM;
const PAYLOAD_MAX = 65507;
const LENGTH_MAX = 0xffff;

const kernel = new KernelCalls();

export class DatagramSender {
  /** shutdown(SHUT_WR): nothing more is sent. */
  shut = false;
  private readonly socket: UdpSocket;
  private readonly endpoint: Endpoint;
  private readonly family: number;
  /** The kernel's socket holds the beginning of a datagram (MSG_MORE). */
  private corked = false;
  private readonly words = new Int32Array(4);
  private readonly name = new DataView(new ArrayBuffer(SOCKADDR_IN6_BYTES));

  constructor(socket: UdpSocket, family: number) {
    this.socket = socket;
    this.endpoint = socket.endpoint;
    this.family = family;
  }

  /** Returns the bytes sent, or -errno. */
  send(message: Message, flags: number): number {
    if (this.placeholder < 0) return this.sendAlone(message, flags);
    const port = this.plainDestination(message, flags);
    if (port < 0) return this.sendByKernel(message, flags);
    const bytes = gather(message.iov);
    const { socket, words } = this;
    return socket.sendTo(bytes, 0, bytes.length, port, words[0], words[1], words[2], words[3]);
  }

  private get placeholder(): number {
    return this.endpoint.table.get(this.socket.id, PLACEHOLDER);
  }

  /** The port that a datagram goes to by the engine's path, its address in `words`; -1: the kernel is to look at it. */
  private plainDestination(message: Message, flags: number): number {
    const { socket, words } = this;
    if ((flags & ~PLAIN_FLAGS) !== 0 || message.controlLength > 0 || this.shut || this.corked) return -1;
    if (socket.isUnbound || lengthOf(message.iov) > PAYLOAD_MAX) return -1;
    const port = message.name === null || message.name.length === 0 ? this.peer() : this.named(message);
    const isAny = words[3] === 0 && words[0] === 0 && words[1] === 0 && (words[2] === 0 || words[2] === 0xffff);
    const isPlain = port > 0 && !isAny && !needsScope(words[0]) && socket.speaksTo(words[0], words[1], words[2]);
    return isPlain ? port : -1;
  }

  /** The port of the connected peer, its address in `words`; -1: there is none. */
  private peer(): number {
    const { endpoint, socket, words } = this;
    const { table } = endpoint;
    if (table.get(socket.id, STATE) !== CONNECTED) return -1;
    for (let i = 0; i < 4; i++) words[i] = table.get(socket.id, REMOTE + i);
    return table.get(socket.id, REMOTE_PORT);
  }

  /** The port of a sockaddr of the socket's family, its address in `words`; -1 for what is none. */
  private named({ name }: Message): number {
    if (name === null) return -1;
    const length = Math.min(name.length, name.bytes.length, SOCKADDR_IN6_BYTES);
    for (let i = 0; i < SOCKADDR_IN6_BYTES; i++) this.name.setUint8(i, i < length ? name.bytes[i] : 0);
    const family = this.name.getUint16(0, true);
    if (family !== this.family || length < (family === AF_INET ? SOCKADDR_IN_BYTES : SOCKADDR_IN6_MIN)) return -1;
    return readSockaddr(this.name, this.words);
  }

  private sendByKernel(message: Message, flags: number): number {
    const { endpoint, placeholder, socket } = this;
    const fresh = socket.isUnbound;
    const pending = fresh ? 0 : socket.takeError();
    if (pending !== 0) return -pending;
    const result = endpoint.sendThrough(socket, () => kernel.sendmsg(placeholder, message, flags | MSG_NOSIGNAL));
    // Whatever becomes of it, the socket has a port from now on.
    if (fresh) socket.followKernel();
    if (result >= 0) this.corked = (flags & MSG_MORE) !== 0;
    else if (result !== -ERRNO.EAGAIN) this.corked = false;
    return result;
  }

  // ---- without a kernel ----

  private sendAlone(message: Message, flags: number): number {
    const { socket, words } = this;
    if (socket.isUnbound) {
      const bound = this.autobind();
      if (bound < 0) return bound;
    }
    const length = lengthOf(message.iov);
    const port = this.checkAlone(message, flags, length);
    if (port < 0) return port;
    let segment = socket.segment;
    const controls = this.readControls(message, (bytes) => {
      segment = bytes;
    });
    if (controls < 0) return controls;
    // Only a kernel has routes to pass over, and keeps the beginning of a datagram.
    if ((flags & (MSG_DONTROUTE | MSG_MORE)) !== 0) return -ERRNO.EOPNOTSUPP;
    if (this.shut) return -ERRNO.EPIPE;
    const bytes = gather(message.iov);
    const pending = socket.takeError();
    if (pending !== 0) return -pending;
    if (segment !== socket.segment) {
      return this.endpoint.specialSend.send(
        socket,
        bytes,
        0,
        length,
        words[0],
        words[1],
        words[2],
        words[3],
        port,
        segment,
      );
    }
    return socket.sendTo(bytes, 0, length, port, words[0], words[1], words[2], words[3]);
  }

  private autobind(): number {
    const address = new Uint8Array(this.family === AF_INET ? SOCKADDR_IN_BYTES : SOCKADDR_IN6_BYTES);
    address[0] = this.family;
    return this.socket.bindTo(address);
  }

  /** What is wrong with a send, or the port that it goes to, the address in `words`. */
  private checkAlone(message: Message, flags: number, length: number): number {
    const { words } = this;
    const named = message.name !== null && message.name.length > 0;
    const port = named ? this.destinationAlone(message) : this.peer();
    if (port === NO_NAME) return this.checkPeer(flags, length);
    if (!named) return port < 0 ? this.checkPeer(flags, length) : this.checkLength(flags, length, words, port);
    if (port < 0) return this.early(flags, length) || port;
    return this.checkLength(flags, length, words, port);
  }

  private checkPeer(flags: number, length: number): number {
    const port = this.peer();
    if (port < 0) return this.early(flags, length) || -ERRNO.EDESTADDRREQ;
    return this.checkLength(flags, length, this.words, port);
  }

  /** What is said before the address is looked at, over IPv4; 0: nothing. */
  private early(flags: number, length: number): number {
    if (this.family !== AF_INET) return 0;
    if (length > LENGTH_MAX) return -ERRNO.EMSGSIZE;
    return (flags & MSG_OOB) !== 0 ? -ERRNO.EOPNOTSUPP : 0;
  }

  private checkLength(flags: number, length: number, words: Int32Array, port: number): number {
    const mapped = words[0] === 0 && words[1] === 0 && words[2] === 0xffff;
    if (mapped && length > LENGTH_MAX) return -ERRNO.EMSGSIZE;
    return mapped && (flags & MSG_OOB) !== 0 ? -ERRNO.EOPNOTSUPP : port;
  }

  private destinationAlone({ name }: Message): number {
    if (name === null) return NO_NAME;
    const { words } = this;
    const length = Math.min(name.length, name.bytes.length);
    for (let i = 0; i < SOCKADDR_IN6_BYTES; i++) this.name.setUint8(i, i < length ? name.bytes[i] : 0);
    const family = this.name.getUint16(0, true);
    if (this.family === AF_INET6 && family !== AF_INET) {
      if (length < 2) return -ERRNO.EINVAL;
      if (family === AF_UNSPEC) return NO_NAME;
      if (family !== AF_INET6 || length < SOCKADDR_IN6_MIN) return -ERRNO.EINVAL;
    } else {
      if (this.isV6only) return -ERRNO.ENETUNREACH;
      if (length < SOCKADDR_IN_BYTES) return -ERRNO.EINVAL;
      if (family !== AF_INET && family !== AF_UNSPEC) return -ERRNO.EAFNOSUPPORT;
      // Compatibility: AF_UNSPEC stands for AF_INET.
      this.name.setUint16(0, AF_INET, true);
    }
    const port = readSockaddr(this.name, words);
    const mapped = words[0] === 0 && words[1] === 0 && words[2] === 0xffff;
    if (this.family === AF_INET6 && mapped && this.isV6only) return -ERRNO.ENETUNREACH;
    return port === 0 ? -ERRNO.EINVAL : port;
  }

  private get isV6only(): boolean {
    return (this.endpoint.table.get(this.socket.id, FLAGS) & F_V6ONLY) !== 0;
  }

  /** Of the control messages UDP_SEGMENT is taken; others are refused, as the kernel refuses what it does not know. */
  private readControls({ control, controlLength }: Message, segmentOf: (bytes: number) => void): number {
    if (control === null || controlLength === 0) return 0;
    return visitControl(control, controlLength, ({ level, type, data }) => {
      if (level !== SOL_UDP || type !== UDP_SEGMENT || data.length !== 2) return -ERRNO.EINVAL;
      segmentOf(data[0] | (data[1] << 8));
      return 0;
    });
  }
}

/** An address that names nobody: AF_UNSPEC over IPv6. */
const NO_NAME = Number.MIN_SAFE_INTEGER;
