/**
 * Packets of many TCP segments, which the kernel cuts before the device, or leaves to a device that can (generic segmentation
 * offload, GSO): a packet socket of the interface, to which a struct virtio_net_hdr before each packet says how. AF_XDP takes
 * one frame a segment, and in copy mode each is a socket buffer, a call of the driver and on veth a softirq of its own.
 *
 *   begin(); add(headers); add(payload) …; send()      one sendmsg(2): the kernel gathers the pieces from the frame memory
 *
 * The socket is bound to no protocol, so it receives nothing. It needs CAP_NET_RAW.
 */
import { ERRNO, sys } from "af-xdp-bindings";

const AF_PACKET = 17;
const SOCK_RAW_NONBLOCK_CLOEXEC = 3 | 0x800 | 0x80000;
const SOL_PACKET = 263;
const PACKET_VNET_HDR = 15;
const SOL_SOCKET = 1;
const SO_SNDBUFFORCE = 32;
const MSG_DONTWAIT = 0x40;

/** struct sockaddr_ll of include/uapi/linux/if_packet.h: family, protocol and interface matter here. */
const SOCKADDR_LL_BYTES = 20;
/** struct msghdr and struct iovec on 64-bit kernels, in words of 32 bits. */
const MSGHDR_WORDS = 14;
const MSG_IOV = 4;
const MSG_IOVLEN = 6;
const IOVEC_WORDS = 4;
/** struct virtio_net_hdr of include/uapi/linux/virtio_net.h: flags, gso_type, then halfwords of the CPU's byte order. */
const VNET_BYTES = 10;
const VIRTIO_NET_HDR_F_NEEDS_CSUM = 1;
export const VIRTIO_NET_HDR_GSO_NONE = 0;
export const VIRTIO_NET_HDR_GSO_TCPV4 = 1;
export const VIRTIO_NET_HDR_GSO_TCPV6 = 4;

/** Pieces of a packet, its headers among them: 64 KiB in chunks of 2 KiB are 33 or 34, in the smallest that can be had 258. */
const PIECES_MAX = 320;
/** Bytes that may wait in the device and its queueing discipline, as the kernel counts them: about a window of 10 Gbit/s over 1 ms. */
const SEND_BUFFER = 2 << 20;

export class Segmenter {
  private readonly fd: number;
  private readonly base: number;
  private readonly message = new Int32Array(MSGHDR_WORDS);
  private readonly messageAddress: number;
  /** The virtio_net_hdr first. */
  private readonly pieces = new Int32Array((PIECES_MAX + 1) * IOVEC_WORDS);
  private readonly header = new Uint16Array(VNET_BYTES / 2);
  /** The kernel does not take such packets at all. */
  isBroken = false;
  private count = 0;
  /** Offset in the memory after the last piece. */
  private end = -1;

  private constructor(fd: number, memory: Uint8Array) {
    this.fd = fd;
    this.base = sys.addressOf(memory);
    this.messageAddress = sys.addressOf(this.message);
    putAddress(this.message, MSG_IOV, sys.addressOf(this.pieces));
    putAddress(this.pieces, 0, sys.addressOf(this.header));
    this.pieces[2] = VNET_BYTES;
  }

  /**
   * A segmenter of an interface of this thread's network namespace.
   * @param memory where pieces lie
   * @returns null: the privilege is missing, or the kernel has no packet sockets
   */
  static open(ifindex: number, memory: Uint8Array): Segmenter | null {
    const fd = sys.socket(AF_PACKET, SOCK_RAW_NONBLOCK_CLOEXEC, 0);
    if (fd < 0) return null;
    const address = new Uint8Array(SOCKADDR_LL_BYTES);
    const view = new DataView(address.buffer);
    view.setUint16(0, AF_PACKET, true);
    view.setInt32(4, ifindex, true);
    if (sys.setsockoptInt(fd, SOL_PACKET, PACKET_VNET_HDR, 1) < 0 || sys.bind(fd, address) < 0) {
      sys.close(fd);
      return null;
    }
    // Without CAP_NET_ADMIN it stays net.core.wmem_default: less may wait in the device.
    sys.setsockoptInt(fd, SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER);
    return new Segmenter(fd, memory);
  }

  /** A packet begins. */
  begin(): void {
    this.count = 0;
    this.end = -1;
  }

  /** Its next `length` bytes lie at `offset` of the memory. False: it has too many pieces. */
  add(offset: number, length: number): boolean {
    const { pieces } = this;
    if (offset === this.end) {
      pieces[this.count * IOVEC_WORDS + 2] += length;
      this.end += length;
      return true;
    }
    if (this.count === PIECES_MAX) return false;
    const at = ++this.count * IOVEC_WORDS;
    putAddress(pieces, at, this.base + offset);
    pieces[at + 2] = length;
    this.end = offset + length;
    return true;
  }

  /**
   * Sends the packet whose pieces have been added, Ethernet header first.
   * @param type VIRTIO_NET_HDR_GSO_TCPV4 or _TCPV6; _NONE: it is one segment
   * @param headers bytes before the payload
   * @param size bytes of payload a segment
   * @param start bytes before what the checksum covers, which ends with the segment
   * @param field bytes from there to the checksum, which is that of the pseudo-header yet, not complemented
   * @returns 0, or -errno: nothing was sent, but with ENOBUFS, where all or some of it may have been: the kernel tells what became
   * of the last segment alone (dev_hard_start_xmit), a full ring of a veth's peer among it
   */
  send(type: number, headers: number, size: number, start: number, field: number): number {
    const { header, message } = this;
    header[0] = VIRTIO_NET_HDR_F_NEEDS_CSUM | (type << 8);
    header[1] = headers;
    header[2] = type === VIRTIO_NET_HDR_GSO_NONE ? 0 : size;
    header[3] = start;
    header[4] = field;
    message[MSG_IOVLEN] = this.count + 1;
    const result = sys.sys3(sys.SYS.sendmsg, this.fd, this.messageAddress, MSG_DONTWAIT);
    if (result >= 0) return 0;
    this.isBroken = !PASSING.has(-result);
    return result;
  }

  close(): void {
    sys.close(this.fd);
  }
}

/** Errors of the moment, or of the packet: the device is full, the interface is down, its MTU has become smaller. */
const PASSING: ReadonlySet<number> = new Set([
  ERRNO.EAGAIN,
  ERRNO.ENOBUFS,
  ERRNO.ENOMEM,
  ERRNO.ENETDOWN,
  ERRNO.EMSGSIZE,
]);

/** Whether a result of send() says that the device has enough for now, and has taken nothing. */
export const isFull = (result: number): boolean => result === -ERRNO.EAGAIN || result === -ERRNO.ENOMEM;

/** Writes an address of 64 bits. */
function putAddress(words: Int32Array, at: number, address: number): void {
  words[at] = address;
  words[at + 1] = address / 2 ** 32;
}
