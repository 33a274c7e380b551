/**
 * Sending from a UDP socket beside which there is no kernel: a wire in memory, or an interface with addresses of the engine's own.
 * What udp_sendmsg and udpv6_sendmsg (net/ipv4/udp.c, net/ipv6/udp.c of 6.18) check is checked here, in their order.
 */
import { ERRNO } from "af-xdp-bindings";
import type { Endpoint } from "../../endpoint.ts";
import { SO_EE_ORIGIN_LOCAL } from "../../error-queue.ts";
import { addressBytes, addressWords } from "../../fib.ts";
import { withTos, withTtl } from "../../send-word.ts";
import { readSockaddr, SOCKADDR_IN_BYTES, SOCKADDR_IN6_BYTES, SOCKADDR_IN6_MIN } from "../../sockaddr.ts";
import { AF_INET, AF_INET6, CONNECTED, F_V6ONLY, FLAGS, LOCAL, REMOTE, REMOTE_PORT, STATE } from "../../table.ts";
import type { UdpSocket } from "../../udp-socket.ts";
import { formatIp } from "../../wire/address.ts";
import { AF_UNSPEC, MSG_DONTROUTE, MSG_MORE, MSG_OOB } from "../constants.ts";
import { gather, lengthOf, type Message } from "../message.ts";
import { SendControls } from "./controls.ts";

/** Longest payloads: an IPv4 packet has 65,535 bytes with its headers, a UDP datagram over IPv6 with its own. */
const PAYLOAD_MAX4 = 65507;
const PAYLOAD_MAX6 = 65527;
const LENGTH_MAX = 0xffff;

export class LoneSender {
  private readonly socket: UdpSocket;
  private readonly endpoint: Endpoint;
  private readonly family: number;
  private readonly controls = new SendControls();
  /** Where the datagram at hand goes: four words, IPv4 mapped, and the port. */
  private readonly words = new Int32Array(4);
  private port = 0;
  private readonly name = new DataView(new ArrayBuffer(SOCKADDR_IN6_BYTES));

  constructor(socket: UdpSocket, family: number) {
    this.socket = socket;
    this.endpoint = socket.endpoint;
    this.family = family;
  }

  /** Returns the bytes sent, or -errno. @param shut nothing more is to be sent */
  send(message: Message, flags: number, shut: boolean): number {
    const { controls, socket } = this;
    let result = socket.isUnbound ? this.autobind() : 0;
    const length = lengthOf(message.iov);
    if (result === 0) result = this.destination(message, length, flags);
    if (result === 0) result = this.checkLength(length, flags);
    if (result === 0) result = controls.read(message, this.mapped ? 4 : 6);
    if (result === 0) result = this.checkSource();
    // Only a kernel has routes to pass over, and keeps the beginning of a datagram.
    if (result === 0 && (flags & (MSG_DONTROUTE | MSG_MORE)) !== 0) result = -ERRNO.EOPNOTSUPP;
    if (result === 0 && length > (this.mapped ? PAYLOAD_MAX4 : PAYLOAD_MAX6)) result = -ERRNO.EMSGSIZE;
    if (result === 0 && shut) result = -ERRNO.EPIPE;
    if (result === 0) result = -socket.takeError();
    return result < 0 ? result : this.commit(gather(message.iov));
  }

  private get mapped(): boolean {
    return this.words[0] === 0 && this.words[1] === 0 && this.words[2] === 0xffff;
  }

  private get isV6only(): boolean {
    return (this.endpoint.table.get(this.socket.id, FLAGS) & F_V6ONLY) !== 0;
  }

  private autobind(): number {
    const address = new Uint8Array(this.family === AF_INET ? SOCKADDR_IN_BYTES : SOCKADDR_IN6_BYTES);
    address[0] = this.family;
    return this.socket.bindTo(address);
  }

  /** Finds out where to. Returns 0 or -errno. */
  private destination(message: Message, length: number, flags: number): number {
    // Over IPv4 these are the first things that are looked at.
    if (this.family === AF_INET) {
      const early = this.early(length, flags);
      if (early < 0) return early;
    }
    const { name } = message;
    if (name === null || name.length === 0) return this.toPeer();
    const room = Math.min(name.length, name.bytes.length);
    for (let i = 0; i < SOCKADDR_IN6_BYTES; i++) this.name.setUint8(i, i < room ? name.bytes[i] : 0);
    const told = this.name.getUint16(0, true);
    return this.family === AF_INET6 && told !== AF_INET ? this.to6(told, room) : this.to4(told, room);
  }

  private early(length: number, flags: number): number {
    if (length > LENGTH_MAX) return -ERRNO.EMSGSIZE;
    return (flags & MSG_OOB) !== 0 ? -ERRNO.EOPNOTSUPP : 0;
  }

  /** An IPv6 socket that speaks IPv4 comes here with its address found. */
  private checkLength(length: number, flags: number): number {
    return this.mapped ? this.early(length, flags) : 0;
  }

  private toPeer(): number {
    const { endpoint, socket, words } = this;
    const { table } = endpoint;
    if (table.get(socket.id, STATE) !== CONNECTED) return -ERRNO.EDESTADDRREQ;
    for (let i = 0; i < 4; i++) words[i] = table.get(socket.id, REMOTE + i);
    this.port = table.get(socket.id, REMOTE_PORT);
    return 0;
  }

  private to4(told: number, room: number): number {
    if (this.isV6only) return -ERRNO.ENETUNREACH;
    if (room < SOCKADDR_IN_BYTES) return -ERRNO.EINVAL;
    if (told !== AF_INET && told !== AF_UNSPEC) return -ERRNO.EAFNOSUPPORT;
    // Compatibility: AF_UNSPEC stands for AF_INET.
    this.name.setUint16(0, AF_INET, true);
    this.port = readSockaddr(this.name, this.words);
    return this.port === 0 ? -ERRNO.EINVAL : 0;
  }

  private to6(told: number, room: number): number {
    if (told === AF_UNSPEC && room >= 2) return this.toPeer();
    if (told !== AF_INET6 || room < SOCKADDR_IN6_MIN) return -ERRNO.EINVAL;
    this.port = readSockaddr(this.name, this.words);
    if (this.mapped && this.isV6only) return -ERRNO.ENETUNREACH;
    if (this.port === 0) return -ERRNO.EINVAL;
    const bound = this.endpoint.table.get(this.socket.id, LOCAL + 2) === 0xffff;
    return bound && !this.mapped ? -ERRNO.EAFNOSUPPORT : 0;
  }

  /** The address to send from has to be the own one; there is one interface. */
  private checkSource(): number {
    const { controls, endpoint } = this;
    if (controls.ifindex !== 0 && !endpoint.hasInterface(controls.ifindex)) return -ERRNO.ENODEV;
    if (controls.source === null) return 0;
    const [w0, w1, w2, w3] = addressWords(controls.source);
    return endpoint.interfaceWith(w0, w1, w2, w3) < 0 ? -ERRNO.EINVAL : 0;
  }

  private commit(bytes: Uint8Array): number {
    const { controls, endpoint, port, socket, words } = this;
    const { table } = endpoint;
    const plane = this.mapped ? table.ttlTos : table.ttlTos6;
    const before = plane[socket.id];
    const own = controls.ttl >= 0 || controls.tos >= 0;
    if (own) {
      // What was sent before leaves as the socket has it, and so does what comes after.
      endpoint.settle();
      if (controls.ttl >= 0) plane[socket.id] = withTtl(plane[socket.id], controls.ttl);
      if (controls.tos >= 0) plane[socket.id] = withTos(plane[socket.id], controls.tos);
    }
    const [w0, w1, w2, w3] = words;
    const { segment } = controls;
    const result =
      segment < 0
        ? socket.sendTo(bytes, 0, bytes.length, port, w0, w1, w2, w3)
        : endpoint.specialSend.send(socket, bytes, 0, bytes.length, w0, w1, w2, w3, port, segment);
    if (own) {
      endpoint.settle();
      plane[socket.id] = before;
    }
    if (result === -ERRNO.EMSGSIZE) this.tooLarge();
    return result;
  }

  /** ip_local_error(): whoever hears of errors is told of the path's size. */
  private tooLarge(): void {
    const { endpoint, words } = this;
    const [w0, w1, w2, w3] = words;
    const address = formatIp(addressBytes(w0, w1, w2, w3));
    const info = endpoint.mtuTo(w0, w1, w2, w3);
    // Over IPv4 the port is not told.
    const port = this.mapped ? 0 : this.port;
    const entry = { errno: ERRNO.EMSGSIZE, origin: SO_EE_ORIGIN_LOCAL, type: 0, code: 0, info, address, port };
    this.socket.fail({ ...entry, offender: "", payload: new Uint8Array(0) }, false);
  }
}
