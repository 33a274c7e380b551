/**
 * Sending from a UDP socket. A plain datagram takes the engine's path. All that asks for more (flags, control messages, an address
 * that only the kernel can say something of) goes by the kernel's socket as it is, so that the kernel says what is wrong with it.
 */
import { ERRNO } from "af-xdp-bindings";
import type { Endpoint } from "../../endpoint.ts";
import { readSockaddr, SOCKADDR_IN_BYTES, SOCKADDR_IN6_BYTES, SOCKADDR_IN6_MIN } from "../../sockaddr.ts";
import { AF_INET, CONNECTED, PLACEHOLDER, REMOTE, REMOTE_PORT, STATE } from "../../table.ts";
import type { UdpSocket } from "../../udp-socket.ts";
import { MSG_CONFIRM, MSG_DONTWAIT, MSG_MORE, MSG_NOSIGNAL } from "../constants.ts";
import { KernelCalls } from "../kernel-calls.ts";
import { gather, lengthOf, type Message } from "../message.ts";
import { needsScope } from "./address.ts";
import { LoneSender } from "./send-alone.ts";

/** Flags that a plain datagram may have. MSG_CONFIRM tells that the neighbour is alive, which the kernel finds out by itself. */
const PLAIN_FLAGS = MSG_DONTWAIT | MSG_NOSIGNAL | MSG_CONFIRM;
const PAYLOAD_MAX = 65507;

const kernel = new KernelCalls();

export class DatagramSender {
  /** shutdown(SHUT_WR): nothing more is sent. */
  shut = false;
  private readonly socket: UdpSocket;
  private readonly endpoint: Endpoint;
  private readonly family: number;
  /** The kernel's socket holds the beginning of a datagram (MSG_MORE). */
  private corked = false;
  /** Where there is no kernel. */
  private readonly alone: LoneSender;
  private readonly words = new Int32Array(4);
  private readonly name = new DataView(new ArrayBuffer(SOCKADDR_IN6_BYTES));

  constructor(socket: UdpSocket, family: number) {
    this.socket = socket;
    this.endpoint = socket.endpoint;
    this.family = family;
    this.alone = new LoneSender(socket, family);
  }

  /** Returns the bytes sent, or -errno. */
  send(message: Message, flags: number): number {
    if (this.placeholder < 0) return this.alone.send(message, flags, this.shut);
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
}
