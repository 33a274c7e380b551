/**
 * The socket layer's end on an lcore of an engine that has no queues: kernel sockets instead. What the loop asks for is
 * as with a Stack, so an lcore's module does not notice.
 */
import type { Burst, Port } from "../../queues/driver.ts";
import type { Datagram } from "../datagram.ts";
import { Endpoint, type Shared, TX_HEADROOM } from "../endpoint.ts";
import { Fib } from "../fib.ts";
import type { Handler, UdpSocket } from "../udp-socket.ts";
import { UDP_HEADER } from "../wire/udp.ts";
import { type KernelFrames, PAYLOAD_MAX } from "./frames.ts";
import { KernelIo } from "./io.ts";

/** Turns between two looks at what the kernel has dropped, a power of two: a few a second under load. */
const DROPS_TURNS = 1 << 15;

export class KernelStack extends Endpoint {
  readonly ports: readonly Port[] = [];
  override readonly fib: Fib;
  /** The stamps of kernel sockets are of CLOCK_REALTIME already. */
  realtimeOffsetSeconds = 0;
  realtimeOffsetNs = 0;
  readonly awaitsSent = false;
  private readonly frames: KernelFrames;
  private readonly io: KernelIo;
  private turns = 0;

  /** @param shared with `frames` as its only memory */
  constructor(lcore: number, shared: Shared, frames: KernelFrames, busy: boolean) {
    super(lcore, shared);
    this.fib = new Fib(shared.fib);
    this.frames = frames;
    this.io = new KernelIo(this, frames, busy);
  }

  override get fd(): number {
    return this.io.epoll.fd;
  }

  control(): void {
    if ((++this.turns & (DROPS_TURNS - 1)) === 0) this.io.countAllDrops();
  }

  /** No port, no burst. */
  input(_port: number, _burst: Burst): void {}

  override poll(): number {
    const work = this.io.poll();
    if (this.blocked.size > 0) this.resumeBlocked();
    return work;
  }

  override pollFor(socket: UdpSocket): number {
    return this.io.pollFor(socket);
  }

  override flush(): void {
    this.io.flush();
  }

  /** Whoever may write to a socket of this lcore wakes it through epoll: nothing is to be announced. */
  prepareWait(): boolean {
    this.io.prepareWait();
    this.io.countAllDrops();
    return true;
  }

  cancelWait(): void {}

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
    if (handler !== null) this.drainQueue(socket, handler);
  }

  override watchErrors(socket: UdpSocket): void {
    this.io.watchErrors(socket);
  }

  override lookForErrors(socket: UdpSocket): void {
    this.io.lookForErrors(socket);
  }

  override interfaceOf(datagram: Datagram): number {
    return this.frames.interfaceOf(datagram.l4 + UDP_HEADER);
  }

  override incomingCpu(socket: UdpSocket): number {
    return this.io.incomingCpu(socket);
  }

  override incomingNapiId(socket: UdpSocket): number {
    return this.io.incomingNapiId(socket);
  }

  override countDrops(socket: UdpSocket | null): void {
    if (socket === null) this.io.countAllDrops();
    else this.io.countDropsAt(socket);
  }

  /** An lcore never blocks in a socket: its loop would stop. */
  override block(_timeoutMs: number): void {
    throw new Error("receiveBlocking on an lcore would stop its loop: set onDatagram, or receive from another thread");
  }

  override arrival(): Promise<void> {
    return Promise.reject(
      new Error("awaiting datagrams on an lcore would stop its loop: set onDatagram, or receive from another thread"),
    );
  }

  override wakeWaiters(): void {}

  /** Lets go of the frames and of epoll. The sockets are closed. */
  close(): void {
    this.io.close();
  }
}
