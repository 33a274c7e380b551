/** An AF_PACKET socket (packet(7)) on one interface: whole Ethernet frames, with no stack in between. */
import { check, sys } from "af-xdp-bindings";
import type { NetNs } from "../../engine/host/netns.ts";

const AF_PACKET = 17;
const SOCK_RAW_CLOEXEC = 0x80003;
const MSG_DONTWAIT = 0x40;
const ETH_P_ALL = 0x0003;
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
const SOL_PACKET = 263;
const PACKET_IGNORE_OUTGOING = 23;
const RECEIVE_BUFFER = 8 << 20;
const FRAME_MAX = 65600;

export class PacketSocket {
  private readonly fd: number;
  private readonly buffer = new Uint8Array(FRAME_MAX);

  /** Throws SysError. */
  constructor(ns: NetNs, ifindex: number) {
    this.fd = check(
      ns.run(() => sys.socket(AF_PACKET, SOCK_RAW_CLOEXEC, 0)),
      "socket(AF_PACKET)",
    );
    check(sys.setsockoptInt(this.fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1), "PACKET_IGNORE_OUTGOING");
    sys.setsockoptInt(this.fd, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER);
    // struct sockaddr_ll
    const address = new DataView(new ArrayBuffer(20));
    address.setUint16(0, AF_PACKET, true);
    address.setUint16(2, ETH_P_ALL);
    address.setInt32(4, ifindex, true);
    check(sys.bind(this.fd, new Uint8Array(address.buffer)), "bind(AF_PACKET)");
  }

  /** Throws SysError. */
  send(frame: Uint8Array): void {
    check(sys.sendto(this.fd, sys.addressOf(frame), frame.length, 0, 0, 0), "sendto(AF_PACKET)");
  }

  /** The next frame that is there, or null. */
  receive(): Uint8Array | null {
    const { buffer } = this;
    const length = sys.recvfrom(this.fd, sys.addressOf(buffer), buffer.length, MSG_DONTWAIT, 0, 0);
    return length < 0 ? null : buffer.slice(0, length);
  }

  close(): void {
    sys.close(this.fd);
  }
}
