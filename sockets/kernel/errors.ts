/**
 * What kernel sockets report: their error queues, which IP_RECVERR fills, each entry to its socket or to the flow that it is
 * about; and their pending errors.
 */
import { sys } from "af-xdp-bindings";
import { EXCERPT_MAX, MSG_ERRQUEUE, readErrorControl } from "../error-message.ts";
import { ErrorReport, loadError, SO_EE_ORIGIN_TIMESTAMPING } from "../error-queue.ts";
import { MESSAGE_WORDS } from "../message.ts";
import { MessageHeader, MSG_DONTWAIT } from "../msghdr.ts";
import { SO_ERROR, SOL_SOCKET } from "../options.ts";
import { readSockaddr } from "../sockaddr.ts";
import type { UdpSocket } from "../udp-socket.ts";
import type { KernelSocket } from "./socket.ts";

/** Errors read from one socket at a time. */
const READ_MAX = 64;

export class KernelErrors {
  private readonly sockets: ReadonlyMap<number, UdpSocket>;
  private readonly header = new MessageHeader();
  private readonly excerpt = new Uint8Array(EXCERPT_MAX);
  private readonly excerptAddress = sys.addressOf(this.excerpt);
  private readonly report = new ErrorReport();
  private readonly local = new Int32Array(4);
  private readonly words = new Int32Array(MESSAGE_WORDS);
  private readonly pending = new Int32Array(1);

  /** @param sockets those of the thread, by id */
  constructor(sockets: ReadonlyMap<number, UdpSocket>) {
    this.sockets = sockets;
  }

  /** Takes what is reported for the socket: its error queue has it, or it is pending (SO_ERROR). */
  take(state: KernelSocket): void {
    if (this.read(state) > 0) return;
    this.pending[0] = 0;
    sys.getsockoptInt(state.fd, SOL_SOCKET, SO_ERROR, this.pending);
    if (this.pending[0] !== 0) state.socket.tell(this.pending[0], true);
  }

  /** A call has failed, perhaps with an error that waited: the socket's error queue may say more about that. */
  fail(state: KernelSocket, errno: number, pending: boolean): void {
    if (this.read(state) === 0) state.socket.tell(errno, pending);
  }

  /** A call has failed and its caller knows: what the error queue holds by now is to fail no other. */
  heard(state: KernelSocket): void {
    this.read(state, true);
  }

  /** Reads the error queue. Returns how many errors that was. */
  private read(state: KernelSocket, heard = false): number {
    const { excerptAddress, header, report } = this;
    for (let count = 0; count < READ_MAX; count++) {
      const length = header.receive(state.fd, excerptAddress, EXCERPT_MAX, MSG_ERRQUEUE | MSG_DONTWAIT);
      if (length < 0) return count;
      report.remotePort = Math.max(readSockaddr(header.nameView, report.remote), 0);
      if (readErrorControl(header, report, this.local)) this.pass(state, length, heard);
    }
    return READ_MAX;
  }

  private pass(state: KernelSocket, length: number, heard: boolean): void {
    const { excerpt, report, words } = this;
    const isStamp = report.origin === SO_EE_ORIGIN_TIMESTAMPING;
    // A stamp has no address to look for a flow by.
    const found = isStamp ? -1 : state.flows?.findTo(this.local, state.port, report.remote, report.remotePort);
    const flow = found ?? -1;
    const socket = flow < 0 ? state.socket : this.sockets.get(flow);
    report.store(words, 0, 0, length);
    socket?.fail(loadError(words, 0, excerpt.slice(0, length), this.header.controls.slice()), report.hard, heard);
  }
}
