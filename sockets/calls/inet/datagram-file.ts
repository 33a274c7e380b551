/**
 * A UDP socket as a file. It has a socket of the engine from socket(2) on, and with it the kernel's beside it, which says what only
 * it can know; what is received comes from the engine.
 */
import { ERRNO } from "af-xdp-bindings";
import type { Endpoint } from "../../endpoint.ts";
import { SO_PEEK_OFF, SO_SELECT_ERR_QUEUE, SOL_SOCKET } from "../../options.ts";
import type { SocketWatcher } from "../../socket-control.ts";
import { AF_INET, CONNECTED, LOCAL, LOCAL_PORT, PLACEHOLDER, REMOTE, REMOTE_PORT, STATE } from "../../table.ts";
import { wordsAt } from "../../text-address.ts";
import type { UdpSocket } from "../../udp-socket.ts";
import {
  FIONREAD,
  MSG_DONTWAIT,
  MSG_ERRQUEUE,
  POLLERR,
  POLLHUP,
  POLLIN,
  POLLOUT,
  POLLPRI,
  POLLRDHUP,
  POLLRDNORM,
  POLLWRBAND,
  POLLWRNORM,
  SHUT_RD,
  SHUT_RDWR,
  SHUT_WR,
  SIOCGSTAMP,
  SIOCGSTAMPNS,
  SIOCOUTQ,
} from "../constants.ts";
import { File } from "../file.ts";
import { KernelCalls } from "../kernel-calls.ts";
import { type AddressBuffer, type Message, putAddress } from "../message.ts";
import { addressOfWords } from "./address.ts";
import { putError } from "./errors.ts";
import { DatagramReceiver } from "./receive.ts";
import { DatagramSender } from "./send.ts";

const READABLE = POLLIN | POLLRDNORM;
const WRITABLE = POLLOUT | POLLWRNORM | POLLWRBAND;
/** struct cmsghdr and 20 bytes, as the kernel has them. */
const CONTROL_ON_STACK = 36;
/** RCV_SHUTDOWN and SEND_SHUTDOWN. */
const SHUT_READ = 1;
const SHUT_WRITE = 2;
const SHUT_BOTH = 3;

const kernel = new KernelCalls();

export class InetDatagramFile extends File implements SocketWatcher {
  override readonly isSocket = true;
  readonly socket: UdpSocket;
  private readonly family: number;
  private readonly receiver: DatagramReceiver;
  private readonly sender: DatagramSender;
  private shut = 0;

  /** Takes the socket over: it is closed with the file. */
  constructor(socket: UdpSocket, family: number) {
    super();
    this.socket = socket;
    this.family = family;
    this.receiver = new DatagramReceiver(socket, family);
    this.sender = new DatagramSender(socket, family);
    socket.watcher = this;
  }

  arrived(): void {
    this.queue.wake(READABLE);
  }

  failed(): void {
    this.queue.wake(POLLERR);
  }

  override refresh(): void {
    this.socket.endpoint.poll();
  }

  override get newsFrom(): Endpoint {
    return this.socket.endpoint;
  }

  override poll(): number {
    const { receiver, shut, socket } = this;
    let events = 0;
    if (socket.hasErrors) events |= POLLERR | (this.option(SO_SELECT_ERR_QUEUE) !== 0 ? POLLPRI : 0);
    if ((shut & SHUT_READ) !== 0) events |= POLLRDHUP | READABLE;
    if (shut === SHUT_BOTH) events |= POLLHUP;
    if (receiver.isReady) events |= READABLE;
    if (!socket.sendsTooMuch) events |= WRITABLE;
    return events;
  }

  override get receiveTimeoutMs(): number {
    return this.socket.receiveTimeoutMs;
  }

  override get sendTimeoutMs(): number {
    return this.socket.sendTimeoutMs;
  }

  override bind(address: Uint8Array): number {
    return this.socket.bindTo(address);
  }

  override connect(address: Uint8Array): number {
    return this.socket.connectTo(address);
  }

  override takeError(): number {
    return this.socket.takeError();
  }

  override listen(): number {
    return -ERRNO.EOPNOTSUPP;
  }

  override accept(): number {
    return -ERRNO.EOPNOTSUPP;
  }

  override getsockname(address: AddressBuffer): number {
    if (this.placeholder >= 0) return kernel.getsockname(this.placeholder, address);
    return this.tell(address, LOCAL, LOCAL_PORT);
  }

  override getpeername(address: AddressBuffer): number {
    if (this.placeholder >= 0) return kernel.getpeername(this.placeholder, address);
    return this.isConnected ? this.tell(address, REMOTE, REMOTE_PORT) : -ERRNO.ENOTCONN;
  }

  /** As inet_shutdown(): it holds for sockets that are not connected too, although they are told ENOTCONN. */
  override shutdown(how: number): number {
    if (how !== SHUT_RD && how !== SHUT_WR && how !== SHUT_RDWR) return -ERRNO.EINVAL;
    this.shut |= how + 1;
    if ((this.shut & SHUT_WRITE) !== 0) {
      this.sender.shut = true;
      // Only this half: who waits for the kernel's socket would be told of an end again and again.
      if (this.placeholder >= 0) kernel.shutdown(this.placeholder, SHUT_WR);
    }
    this.queue.wake(0, 0);
    return this.isConnected ? 0 : -ERRNO.ENOTCONN;
  }

  override send(message: Message, flags: number): number {
    if (!this.hasControlRoom(message.controlLength)) return -ERRNO.ENOBUFS;
    const result = this.sender.send(message, flags);
    this.socket.endpoint.sendNow();
    if (result === -ERRNO.EAGAIN) this.socket.onWritable = () => this.roomAgain();
    return result;
  }

  /** ____sys_sendmsg(): more control messages than fit on its stack are charged to the socket. */
  private hasControlRoom(length: number): boolean {
    return length <= CONTROL_ON_STACK || length < this.socket.endpoint.shared.sysctl.get("optmem_max");
  }

  private roomAgain(): void {
    this.socket.onWritable = null;
    this.queue.wake(WRITABLE);
  }

  override receive(message: Message, flags: number): number {
    const { receiver, socket } = this;
    message.flags = 0;
    message.controlLength = 0;
    if (message.name !== null) message.name.length = Math.max(message.name.length, 0);
    if ((flags & MSG_ERRQUEUE) !== 0) return this.receiveError(message);
    const error = socket.takeError();
    if (error !== 0) return -error;
    const result = receiver.receive(message, flags);
    const ended = result === -ERRNO.EAGAIN && (this.shut & SHUT_READ) !== 0 && (flags & MSG_DONTWAIT) === 0;
    if (ended && message.name !== null) message.name.length = 0;
    return ended ? 0 : result;
  }

  private receiveError(message: Message): number {
    const entry = this.socket.takeQueuedError();
    if (entry === null) return -ERRNO.EAGAIN;
    const told = this.receiver.told();
    const { ifindex } = this.socket.endpoint.shared;
    return putError(entry, this.family, ifindex, message, (level, type) => told.asks(level, type));
  }

  override setsockopt(level: number, name: number, value: Uint8Array): number {
    const result = this.socket.setOption(level, name, value);
    this.receiver.optionsChanged();
    if (level === SOL_SOCKET && name === SO_PEEK_OFF && result === 0)
      this.receiver.peekOffset = this.option(SO_PEEK_OFF);
    return result;
  }

  override getsockopt(level: number, name: number, out: Uint8Array): number {
    // The offset moves with what is peeked at.
    if (level === SOL_SOCKET && name === SO_PEEK_OFF)
      this.socket.setOption(level, name, intBytes(this.receiver.peekOffset));
    return this.socket.getOption(level, name, out);
  }

  override ioctl(request: number, argument: Uint8Array): number {
    switch (request) {
      case FIONREAD:
        return putInt(argument, this.receiver.nextLength);
      case SIOCOUTQ:
        return putInt(argument, this.socket.sendQueue);
      case SIOCGSTAMP:
      case SIOCGSTAMPNS:
        return this.lastArrival(argument, request === SIOCGSTAMP ? 1000 : 1);
      default:
        return this.placeholder < 0 ? -ERRNO.ENOTTY : kernel.ioctl(this.placeholder, request, argument);
    }
  }

  /** Whoever waits in the event loop has the thread look for datagrams there. */
  override watched(): void {
    this.socket.endpoint.arrival().catch(() => {});
  }

  protected override release(): void {
    this.receiver.close();
    this.socket.close();
  }

  private get placeholder(): number {
    return this.socket.endpoint.table.get(this.socket.id, PLACEHOLDER);
  }

  private get isConnected(): boolean {
    return this.socket.endpoint.table.get(this.socket.id, STATE) === CONNECTED;
  }

  private option(name: number): number {
    const value = new Int32Array(1);
    return this.socket.getOption(SOL_SOCKET, name, new Uint8Array(value.buffer)) < 0 ? 0 : value[0];
  }

  private tell(address: AddressBuffer, field: number, portField: number): number {
    if (address.length < 0) return -ERRNO.EINVAL;
    const { table, shared } = this.socket.endpoint;
    const [w0, w1, w2, w3] = wordsAt(table, this.socket.id, field);
    const port = table.get(this.socket.id, portField);
    putAddress(address, addressOfWords(this.family === AF_INET ? 4 : 6, w0, w1, w2, w3, port, shared.ifindex));
    return 0;
  }

  /** struct timeval or timespec. */
  private lastArrival(argument: Uint8Array, divisor: number): number {
    const last = this.receiver.lastArrival();
    if (last === null) return -ERRNO.ENOENT;
    const view = new DataView(argument.buffer, argument.byteOffset);
    view.setBigInt64(0, BigInt(last.seconds), true);
    view.setBigInt64(8, BigInt(Math.floor(last.nanoseconds / divisor)), true);
    return 0;
  }
}

function putInt(argument: Uint8Array, value: number): number {
  new DataView(argument.buffer, argument.byteOffset).setInt32(0, value, true);
  return 0;
}

const intBytes = (value: number): Uint8Array => new Uint8Array(Int32Array.of(value).buffer);
