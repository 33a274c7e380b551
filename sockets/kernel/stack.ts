/**
 * The socket layer's end on an lcore of an engine that has no queues: kernel sockets instead. What the loop asks for is
 * as with a Stack, so an lcore's module does not notice.
 */
import type { Burst, Port } from "../../queues/driver.ts";
import { Fib } from "../fib.ts";
import { LcoreEndpoint } from "../lcore-endpoint.ts";
import type { Shared } from "../shared.ts";
import type { UdpSocket } from "../udp-socket.ts";
import { onKernelSockets } from "./end.ts";
import type { KernelFrames } from "./frames.ts";
import { KernelIo } from "./io.ts";

/** Turns between two looks at what the kernel has dropped, a power of two: a few a second under load. */
const DROPS_TURNS = 1 << 15;

export class KernelStack extends onKernelSockets(LcoreEndpoint) {
  readonly ports: readonly Port[] = [];
  override readonly fib: Fib;
  /** The stamps of kernel sockets are of CLOCK_REALTIME already. */
  realtimeOffsetSeconds = 0;
  realtimeOffsetNs = 0;
  readonly awaitsSent = false;
  readonly hold = { isHeld: false };
  protected override readonly frames: KernelFrames;
  protected override readonly io: KernelIo;
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
    const work = this.io.poll() + this.errorCalls.make();
    if (this.blocked.size > 0) this.resumeBlocked();
    return work;
  }

  override pollFor(socket: UdpSocket): number {
    return this.io.pollFor(socket);
  }

  /** Whoever may write to a socket of this lcore wakes it through epoll: nothing is to be announced. */
  prepareWait(): boolean {
    if (this.errorCalls.due) return false;
    this.io.prepareWait();
    this.io.countAllDrops();
    return true;
  }

  cancelWait(): void {}

  /** Lets go of the frames and of epoll. The sockets are closed. */
  close(): void {
    this.io.close();
  }
}
