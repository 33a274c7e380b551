/**
 * Sends that take more than one frame or have to be counted: UDP_SEGMENT, one payload that leaves as several datagrams, and
 * SO_SNDBUF, a bound on what is under way. Rules and order of errors are those of udp_send_skb and ip_append_data
 * (net/ipv4/udp.c, ip_output.c of Linux 6.18). Sockets that ask for neither do not come here.
 */
import { ERRNO, sys } from "af-xdp-bindings";
import { C } from "./counters.ts";
import { BY_KERNEL, type Endpoint, TX_HEADROOM } from "./endpoint.ts";
import { SEGMENTS_MAX, TX_NO_CHECK } from "./send-word.ts";
import { PLACEHOLDER } from "./table.ts";
import { truesize } from "./truesize.ts";
import type { UdpSocket } from "./udp-socket.ts";
import { IPV4_HEADER } from "./wire/ipv4.ts";
import { IPV6_HEADER } from "./wire/ipv6.ts";
import { UDP_HEADER } from "./wire/udp.ts";

/** IP without options, and UDP. */
export const HEADERS4 = IPV4_HEADER + UDP_HEADER;
export const HEADERS6 = IPV6_HEADER + UDP_HEADER;
/** The longest payloads: an IPv4 packet has 65,535 bytes with its header, a UDP datagram over IPv6 with its own. */
const PAYLOAD_MAX4 = 65535 - HEADERS4;
const PAYLOAD_MAX6 = 65535 - UDP_HEADER;

export class SpecialSend {
  private readonly endpoint: Endpoint;

  constructor(endpoint: Endpoint) {
    this.endpoint = endpoint;
  }

  /**
   * Sends `bytes[offset .. offset + length)`, in datagrams of `segment` bytes and a last one of what is left; 0: in one.
   * Returns `length`, or -errno: then nothing was sent.
   */
  send(
    socket: UdpSocket,
    bytes: Uint8Array,
    offset: number,
    length: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    port: number,
    segment: number,
  ): number {
    const { endpoint } = this;
    if (socket.sendsTooMuch) return endpoint.refuse(socket);
    const mapped = w0 === 0 && w1 === 0 && w2 === 0xffff;
    if (segment > 0) {
      const way = this.wayOf(socket, length, w0, w1, w2, w3, mapped, segment);
      if (way < 0) return way;
      if (way === BY_KERNEL) {
        const address = sys.transientAddressOf(bytes) + offset;
        return endpoint.sendByKernel(socket, address, length, w0, w1, w2, w3, port, segment);
      }
    }
    if (segment === 0 || segment >= length) {
      endpoint.sendCharge = socket.sendLimit === 0 ? 0 : truesize(length, mapped);
      const result = endpoint.send(socket, bytes, offset, length, w0, w1, w2, w3, port);
      endpoint.sendCharge = 0;
      return result;
    }
    return this.sendPieces(socket, sys.transientAddressOf(bytes) + offset, length, w0, w1, w2, w3, port, segment);
  }

  /** Who sends the segments: BY_LCORE, BY_KERNEL, or nobody: -errno. */
  private wayOf(
    socket: UdpSocket,
    length: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    mapped: boolean,
    segment: number,
  ): number {
    const { endpoint } = this;
    if (!endpoint.sendsItself) return BY_KERNEL;
    const { table } = endpoint;
    const word = mapped ? table.ttlTos[socket.id] : table.ttlTos6[socket.id];
    const piece = Math.min(length, segment);
    const packet = piece + (mapped ? HEADERS4 : HEADERS6);
    const tooLong = length > (mapped ? PAYLOAD_MAX4 : PAYLOAD_MAX6);
    const tooMany = length > segment * SEGMENTS_MAX || (word & TX_NO_CHECK) !== 0;
    const mtu = endpoint.fastMtu(w0, w1, w2, w3);
    if (!tooLong && !tooMany && packet <= mtu && piece <= endpoint.payloadMax(endpoint.senderOf(socket))) {
      return endpoint.wayOf(socket, piece, w0, w1, w2, w3);
    }
    // The kernel finds the next hop, or says what is wrong.
    if (table.get(socket.id, PLACEHOLDER) >= 0) return BY_KERNEL;
    if (tooLong || packet > (mtu || endpoint.mtuTo(w0, w1, w2, w3) || Infinity)) return -ERRNO.EMSGSIZE;
    return tooMany ? -ERRNO.EINVAL : endpoint.wayOf(socket, piece, w0, w1, w2, w3);
  }

  /**
   * Sends the payload at a memory address in pieces. As with the kernel's, once the first is on its way the send has been
   * taken: what finds no frame even after a while is lost as in a full queue.
   */
  private sendPieces(
    socket: UdpSocket,
    address: number,
    length: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    port: number,
    segment: number,
  ): number {
    const { endpoint } = this;
    const mapped = w0 === 0 && w1 === 0 && w2 === 0xffff;
    const lcore = endpoint.senderOf(socket);
    const memory = sys.transientAddressOf(endpoint.shared.memories[lcore].bytes) + TX_HEADROOM;
    for (let at = 0; at < length; at += segment) {
      const size = Math.min(segment, length - at);
      let frame = endpoint.takeFrame(lcore);
      if (frame < 0 && at > 0 && endpoint.awaitFrames(socket)) frame = endpoint.takeFrame(lcore);
      if (frame < 0) {
        if (at === 0) return endpoint.refuse(socket);
        endpoint.counters[C.UdpSndbufErrors] += Math.ceil((length - at) / segment);
        return length;
      }
      sys.copy(memory + frame, address + at, size);
      endpoint.sendCharge = socket.sendLimit === 0 ? 0 : truesize(size, mapped);
      const result = endpoint.commitFrame(socket, lcore, frame, size, w0, w1, w2, w3, port);
      endpoint.sendCharge = 0;
      if (result < 0 && at === 0) return result;
    }
    return length;
  }
}
