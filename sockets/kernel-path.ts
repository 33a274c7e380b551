/**
 * The slow way out: a datagram whose next hop only the kernel knows (another interface, no neighbour entry yet, loopback,
 * multicast, larger than the MTU) is sent through the socket's placeholder, which is bound to the same address and port.
 * The kernel resolves the neighbour on the way, so the next datagram usually takes the fast path.
 */
import { ERRNO, sys } from "af-xdp-bindings";
import { MessageHeader, MSG_DONTWAIT, MSG_NOSIGNAL } from "./msghdr.ts";
import { SO_ERROR, SOL_SOCKET, SOL_UDP, UDP_SEGMENT } from "./options.ts";
import { refusesFragments, tosOf, ttlOf } from "./send-word.ts";
import { writeSockaddr } from "./sockaddr.ts";
import { AF_INET, F_CHILD, FAMILY, FLAGS, LOCAL, PLACEHOLDER, SEGMENT, type SocketTable } from "./table.ts";

const FLAGS_OF_SEND = MSG_DONTWAIT | MSG_NOSIGNAL;
/** The longest payload over IPv4: 65,535 bytes less the headers. */
const PAYLOAD_MAX = 65507;

/** What ICMP messages are turned into (icmp_err_convert, icmpv6_err_convert), EMSGSIZE apart. */
const REPORTED = [
  ERRNO.ENETUNREACH,
  ERRNO.EHOSTUNREACH,
  ERRNO.ENOPROTOOPT,
  ERRNO.ECONNREFUSED,
  ERRNO.EOPNOTSUPP,
  ERRNO.EHOSTDOWN,
  ERRNO.EPROTO,
  ERRNO.EACCES,
];

/** Whether an errno may be that of an ICMP message. */
export const isReported = (errno: number): boolean => REPORTED.includes(errno as (typeof REPORTED)[number]);

export class KernelPath {
  private readonly table: SocketTable;
  private readonly repeats: boolean;
  private readonly header = new MessageHeader();
  private readonly error = new Int32Array(1);

  /** @param repeats a send that fails with what may be of an earlier one is repeated: somebody else tells the socket of that */
  constructor(table: SocketTable, repeats = true) {
    this.table = table;
    this.repeats = repeats;
  }

  /**
   * Sends `length` bytes at a memory address for a socket that has a placeholder. The destination is four words, IPv4
   * mapped. `segment`: bytes a datagram (UDP_SEGMENT), 0 for what the placeholder has. Returns the length, or the kernel's
   * -errno.
   */
  send(
    socket: number,
    address: number,
    length: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    port: number,
    segment = 0,
  ): number {
    const { header, table } = this;
    header.clearControls();
    if (segment > 0) header.addUint16(SOL_UDP, UDP_SEGMENT, segment);
    if ((table.get(socket, FLAGS) & F_CHILD) !== 0)
      this.addFlow(socket, w0 === 0 && w1 === 0 && w2 === 0xffff, segment);
    return this.sendWith(socket, address, length, w0, w1, w2, w3, port);
  }

  /** send() from an address of this host, four words: an answer leaves from where it was asked (ip(7), IP_PKTINFO). */
  sendFrom(
    socket: number,
    s0: number,
    s1: number,
    s2: number,
    s3: number,
    address: number,
    length: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    port: number,
  ): number {
    this.header.clearControls();
    this.addSource(socket, s0, s1, s2, s3, 0);
    const result = this.sendWith(socket, address, length, w0, w1, w2, w3, port);
    // The address that was asked, a subnet's broadcast address or a group, is none to send from.
    const refused = result === -ERRNO.EINVAL || result === -ERRNO.ENETUNREACH;
    return refused ? this.send(socket, address, length, w0, w1, w2, w3, port) : result;
  }

  /** Control messages of the next sendWith(), none at first. */
  begin(): MessageHeader {
    this.header.clearControls();
    return this.header;
  }

  /** IP_PKTINFO or IPV6_PKTINFO, as the socket's family takes it: source address and interface, 0 for any. */
  addSource(socket: number, s0: number, s1: number, s2: number, s3: number, ifindex: number): void {
    if (this.table.get(socket, FAMILY) === AF_INET) this.header.addPktinfo(s3, ifindex);
    else this.header.addPktinfo6(s0, s1, s2, s3, ifindex);
  }

  /** send() with the control messages added since begin(). */
  sendWith(
    socket: number,
    address: number,
    length: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    port: number,
  ): number {
    const { header, table } = this;
    const fd = table.get(socket, PLACEHOLDER);
    const nameLength = writeSockaddr(header.nameView, table.get(socket, FAMILY), w0, w1, w2, w3, port);
    const result = header.send(fd, address, length, nameLength, FLAGS_OF_SEND);
    if (result >= 0 || !this.repeats || !this.mayBeOld(socket, result, length, w0 === 0 && w1 === 0 && w2 === 0xffff))
      return result;
    return header.send(fd, address, length, nameLength, FLAGS_OF_SEND);
  }

  /**
   * Whether ECONNREFUSED is pending at a socket's placeholder: on this host itself the answer is there when the call
   * returns. Takes what is pending; the error queue keeps it for the control thread.
   */
  takeRefusal(socket: number): boolean {
    const result = sys.getsockoptInt(this.table.get(socket, PLACEHOLDER), SOL_SOCKET, SO_ERROR, this.error);
    return result >= 0 && this.error[0] === ERRNO.ECONNREFUSED;
  }

  /**
   * Whether an errno may be that of an ICMP message for an earlier datagram: the kernel fails the next call with it, once,
   * and the control thread has not read it yet. The socket is told of it another way.
   */
  private mayBeOld(socket: number, result: number, length: number, mapped: boolean): boolean {
    if (result !== -ERRNO.EMSGSIZE) return isReported(-result);
    // Asked twice, the kernel would queue an error twice where it is the datagram's own.
    const { ttlTos, ttlTos6 } = this.table;
    return length <= PAYLOAD_MAX && !refusesFragments(mapped ? ttlTos[socket] : ttlTos6[socket]);
  }

  /** A flow sends by its parent's placeholder, which has neither its address nor its options. */
  private addFlow(socket: number, mapped: boolean, segment: number): void {
    const { table } = this;
    const word = mapped ? table.ttlTos[socket] : table.ttlTos6[socket];
    const local = (i: number): number => table.get(socket, LOCAL + i);
    this.addSource(socket, local(0), local(1), local(2), local(3), 0);
    this.header.addTtlTos(mapped, ttlOf(word), tosOf(word));
    if (segment === 0) this.header.addUint16(SOL_UDP, UDP_SEGMENT, table.get(socket, SEGMENT));
  }
}
