/**
 * The socket layer's end on an application thread of an engine on kernel sockets: the thread reads its sockets itself.
 *
 * While its event loop has nothing to do, the control thread waits in epoll for it and rings its bell; a thread that
 * blocks waits for its sockets itself.
 */
import { check, sys } from "af-xdp-bindings";
import { LATE_MS } from "../patience.ts";
import type { Shared } from "../shared.ts";
import { ThreadEndpoint } from "../thread.ts";
import type { UdpSocket } from "../udp-socket.ts";
import { onKernelSockets } from "./end.ts";
import { EPOLLIN, EPOLLONESHOT, Epoll } from "./epoll.ts";
import type { KernelFrames } from "./frames.ts";
import { KernelIo } from "./io.ts";

const EFD_NONBLOCK_CLOEXEC = 0x80800;
const POLLIN = 1;
/** Milliseconds between two looks at what the kernel has dropped. */
const DROPS_INTERVAL_MS = 1000;
/** The longest a blocked thread sleeps at a time: it may be asked to wait for ever. */
const BLOCK_MAX_MS = 3_600_000;

export class KernelThread extends onKernelSockets(ThreadEndpoint) {
  protected override readonly frames: KernelFrames;
  protected override readonly io: KernelIo;
  /** Of the control thread, which watches this thread's. */
  private readonly watcher: Epoll;
  /** Wakes the thread where it blocks. */
  private readonly eventfd: number;
  private readonly pollfds = new Int32Array(4);
  /** struct timespec. */
  private readonly timespec = new Int32Array(4);
  private readonly drained = new BigUint64Array(1);
  private immediatePending = false;
  private callsPending = false;
  private dropsAt = 0;
  private gone = false;

  /**
   * @param shared with `frames` as its only memory
   * @param watcher the control thread's epoll instance
   * @param spinMs time that the event loop looks on before it sleeps, milliseconds
   */
  constructor(thread: number, shared: Shared, frames: KernelFrames, watcher: number, spinMs: number) {
    super(thread, shared, 0, spinMs);
    this.frames = frames;
    this.io = new KernelIo(this, frames, false);
    this.watcher = new Epoll(watcher);
    this.watcher.watch(this.io.epoll.fd, 0, EPOLLONESHOT, thread);
    this.eventfd = check(sys.eventfd(0, EFD_NONBLOCK_CLOEXEC), "eventfd2");
    // struct pollfd { i32 fd; i16 events; i16 revents }
    this.pollfds.set([this.io.epoll.fd, POLLIN, this.eventfd, POLLIN]);
  }

  override poll(): number {
    const { mesh, board } = this.shared;
    if (mesh.isStopped()) this.abandon();
    if (this.stopped) return 0;
    let handled = 0;
    try {
      handled = this.io.poll();
    } finally {
      this.io.flush();
      const now = performance.now();
      if (now >= this.dropsAt) {
        this.dropsAt = now + DROPS_INTERVAL_MS;
        this.io.countAllDrops();
      }
      board.commit(this.thread, this.counters);
      if (handled > 0) this.wakeWaiters();
    }
    handled += this.errorCalls.make();
    if (this.blocked.size > 0) this.resumeBlocked();
    return handled;
  }

  override pollFor(socket: UdpSocket): number {
    const count = this.io.pollFor(socket);
    return count > 0 ? count : this.poll();
  }

  protected override awaits(_socket: UdpSocket, done: () => boolean, limitMs: number): boolean {
    const { sender } = this.io.out;
    this.io.flush();
    const end = performance.now() + limitMs;
    while (!done()) {
      const left = Math.min(end - performance.now(), LATE_MS);
      if (this.closed || left <= 0 || !sender.awaitRoom(left)) return false;
    }
    return true;
  }

  override block(timeoutMs: number): void {
    const { mesh } = this.shared;
    if (this.flushFails() || this.errorCalls.due) return;
    this.io.prepareWait();
    mesh.setEventfd(this.thread, this.eventfd);
    if (!mesh.isStopped()) {
      const ms = Math.min(timeoutMs, BLOCK_MAX_MS);
      this.timespec[0] = Math.floor(ms / 1000);
      this.timespec[2] = Math.floor((ms % 1000) * 1e6);
      sys.ppoll(sys.addressOf(this.pollfds), 2, sys.addressOf(this.timespec));
      if (this.pollfds[3] >>> 16 !== 0) sys.read(this.eventfd, sys.addressOf(this.drained), 8);
    }
    mesh.setEventfd(this.thread, -1);
  }

  override arrival(): Promise<void> {
    return this.flushFails() ? Promise.resolve() : super.arrival();
  }

  /** Sends what is gathered. Whether that has failed for some socket: whoever was about to wait is to look again. */
  private flushFails(): boolean {
    const { failures } = this.io;
    this.io.flush();
    return this.io.failures !== failures;
  }

  override tellError(socket: UdpSocket, errno: number): void {
    super.tellError(socket, errno);
    if (this.callsPending) return;
    this.callsPending = true;
    // Where it is not for a poll() to make them, which may be soon or never.
    queueMicrotask(() => {
      this.callsPending = false;
      if (!this.stopped) this.errorCalls.make();
    });
  }

  /** The control thread waits for this thread's sockets from now on, once; what is there already it sees at once. */
  override prepareWait(): boolean {
    if (this.errorCalls.due) return false;
    this.io.prepareWait();
    this.watcher.watch(this.io.epoll.fd, EPOLLONESHOT, EPOLLIN | EPOLLONESHOT, this.thread);
    return true;
  }

  override cancelWait(): void {}

  /**
   * Sends at the end of this turn of the event loop. Where datagrams are taken from a queue one by one, each in a turn of
   * its own, what is answered leaves together when the queue is empty, or with the event loop's next round.
   */
  override flushSoon(): void {
    // Handlers are called in a poll(), which flushes at its end.
    if (this.io.isDelivering) return;
    if (!this.io.isDraining) {
      super.flushSoon();
    } else if (!this.immediatePending) {
      this.immediatePending = true;
      setImmediate(() => {
        this.immediatePending = false;
        if (!this.stopped) this.io.flush();
      });
    }
  }

  override commitFrame(
    socket: UdpSocket,
    lcore: number,
    frame: number,
    length: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    port: number,
  ): number {
    const result = super.commitFrame(socket, lcore, frame, length, w0, w1, w2, w3, port);
    if (this.io.out.sender.count > 0) this.flushSoon();
    return result;
  }

  override close(): void {
    super.close();
    this.letGo();
  }

  protected override abandon(): void {
    super.abandon();
    this.letGo();
  }

  private letGo(): void {
    if (this.gone) return;
    this.gone = true;
    this.io.close();
    sys.close(this.eventfd);
  }
}
