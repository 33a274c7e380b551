/**
 * What the ends of the socket layer on kernel sockets have in common, an lcore's and an application thread's: the thread
 * reads and sends by its own KernelIo, from frames of its own. The two differ in how they wait, which they have from
 * their bases.
 */
import { ERRNO } from "af-xdp-bindings";
import type { Datagram } from "../datagram.ts";
import { type Endpoint, TX_HEADROOM } from "../endpoint.ts";
import { PLACEHOLDER } from "../table.ts";
import type { Handler, UdpSocket } from "../udp-socket.ts";
import { UDP_HEADER } from "../wire/udp.ts";
import { ErrorCalls } from "./error-calls.ts";
import { type KernelFrames, PAYLOAD_MAX } from "./frames.ts";
import type { KernelIo } from "./io.ts";

// biome-ignore lint/suspicious/noExplicitAny: the parameters that TypeScript demands of what a class expression extends
type EndpointClass = abstract new (...parameters: any[]) => Endpoint;

/** A subclass of an Endpoint's class whose sockets are the kernel's. */
export function onKernelSockets<Base extends EndpointClass>(base: Base) {
  abstract class KernelEnd extends base {
    /** The only memory of `shared`. */
    protected abstract readonly frames: KernelFrames;
    protected abstract readonly io: KernelIo;
    protected readonly errorCalls = new ErrorCalls(this.sockets);

    override flush(): void {
      this.io.flush();
    }

    // ---- what is sent ----

    override senderOf(_socket: UdpSocket): number {
      return 0;
    }

    override payloadMax(_lcore: number): number {
      return PAYLOAD_MAX;
    }

    override get sendsItself(): boolean {
      return false;
    }

    override hasFrame(socket: UdpSocket): boolean {
      return this.io.out.canSend(socket.id);
    }

    /** What was sent before leaves before. */
    override sendByKernel(
      socket: UdpSocket,
      address: number,
      length: number,
      w0: number,
      w1: number,
      w2: number,
      w3: number,
      port: number,
      segment = 0,
    ): number {
      this.io.flush();
      const result = super.sendByKernel(socket, address, length, w0, w1, w2, w3, port, segment);
      if (result < 0 && result !== -ERRNO.EAGAIN) this.io.sendRefused(this.table.get(socket.id, PLACEHOLDER));
      return result;
    }

    override takeFrame(_lcore: number): number {
      const payload = this.frames.take();
      return payload < 0 ? -1 : payload - TX_HEADROOM;
    }

    override returnFrame(_lcore: number, frame: number): void {
      this.io.free(frame);
    }

    override commitFrame(
      socket: UdpSocket,
      _lcore: number,
      frame: number,
      length: number,
      w0: number,
      w1: number,
      w2: number,
      w3: number,
      port: number,
    ): number {
      return this.io.out.send(socket.id, frame + TX_HEADROOM, length, w0, w1, w2, w3, port);
    }

    protected override sendReply(datagram: Datagram, length: number): number {
      return this.io.out.reply(datagram, length);
    }

    protected override free(_home: number, frame: number): void {
      this.io.free(frame);
    }

    // ---- sockets ----

    override opened(socket: UdpSocket): void {
      this.io.opened(socket);
    }

    override flowOpened(flow: UdpSocket): void {
      this.io.flowOpened(flow);
    }

    override closing(socket: UdpSocket): void {
      this.io.closing(socket);
    }

    override setHandler(socket: UdpSocket, handler: Handler | null): void {
      this.io.setHandler(socket, handler);
      super.setHandler(socket, handler);
    }

    override watchErrors(socket: UdpSocket): void {
      this.io.watchErrors(socket);
      super.watchErrors(socket);
    }

    override tellError(socket: UdpSocket, errno: number): void {
      this.errorCalls.add(socket, errno);
    }

    override lookForErrors(socket: UdpSocket): void {
      this.io.lookForErrors(socket);
    }

    // ---- what the kernel knows ----

    override interfaceOf(datagram: Datagram): number {
      return this.frames.interfaceOf(datagram.l4 + UDP_HEADER);
    }

    override incomingCpu(socket: UdpSocket): number {
      return this.io.info.incomingCpu(socket);
    }

    override incomingNapiId(socket: UdpSocket): number {
      return this.io.info.incomingNapiId(socket);
    }

    override countDrops(socket: UdpSocket | null): void {
      if (socket === null) this.io.countAllDrops();
      else this.io.countDropsAt(socket);
    }
  }
  return KernelEnd;
}
