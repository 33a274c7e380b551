/** A frame to send from without copying: see UdpSocket.reserve. */
import { ERRNO } from "af-xdp-bindings";
import { TX_HEADROOM } from "./endpoint.ts";
import type { UdpSocket } from "./udp-socket.ts";

export class SendFrame {
  /** Frame memory: the payload goes to `memory[offset .. offset + room)`. */
  readonly memory: Uint8Array;
  readonly offset: number;
  /** Bytes of payload it takes at most. A datagram over the MTU is left to the kernel to take apart. */
  readonly room: number;
  private readonly socket: UdpSocket;
  private readonly lcore: number;
  private readonly frame: number;
  private open = true;

  constructor(socket: UdpSocket, lcore: number, frame: number) {
    const { shared } = socket.endpoint;
    this.socket = socket;
    this.lcore = lcore;
    this.frame = frame;
    this.memory = shared.memories[lcore].bytes;
    this.offset = frame + TX_HEADROOM;
    this.room = socket.endpoint.payloadMax(lcore);
  }

  /** Sends the first `length` bytes as UdpSocket.send would. The frame is given away whatever happens. */
  send(length: number, port = 0, address = ""): number {
    if (!this.open) return -ERRNO.EINVAL;
    if (!(length >= 0 && length <= this.room)) return -ERRNO.EMSGSIZE;
    this.open = false;
    return this.socket.commit(this.lcore, this.frame, length, port, address);
  }

  /** Gives the frame back unsent. */
  cancel(): void {
    if (!this.open) return;
    this.open = false;
    this.socket.endpoint.returnFrame(this.lcore, this.frame);
  }
}
