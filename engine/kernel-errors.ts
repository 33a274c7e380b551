/**
 * Reads the error queues of the placeholder sockets. The kernel finds the placeholder of an ICMP error by the addresses and
 * ports that it quotes, so it hears of the frames that the engine has sent past it as well; what it queues goes to the
 * thread of the socket, and the path MTUs that routers report to the FIB.
 */
import { ERRNO, sys } from "af-xdp-bindings";
import type { FramePool } from "../queues/pool.ts";
import { C } from "../sockets/counters.ts";
import { EXCERPT_MAX, MSG_ERRQUEUE, readErrorControl, STAMPED_MAX } from "../sockets/error-message.ts";
import { ErrorReport, isIcmp, SO_EE_ORIGIN_TIMESTAMPING } from "../sockets/error-queue.ts";
import { ErrorReporter } from "../sockets/error-reporter.ts";
import { MessageHeader } from "../sockets/msghdr.ts";
import { SO_ERROR, SOL_SOCKET } from "../sockets/options.ts";
import { readSockaddr } from "../sockets/sockaddr.ts";
import type { Stack } from "../sockets/stack.ts";
import { GENERATION, LOCAL_PORT, PLACEHOLDER, type SocketTable } from "../sockets/table.ts";
import type { FrameViews } from "../sockets/wire/views.ts";

const MSG_DONTWAIT = 0x40;
/** Errors read from one socket before the next has its turn. */
const READ_MAX = 64;

/** Told that a router reports an MTU for the way to an address: four words, IPv4 mapped. */
export type PathMtuListener = (address: Int32Array) => void;

export class KernelErrors {
  private readonly table: SocketTable;
  private readonly stack: Stack;
  private readonly pool: FramePool;
  private readonly reporter: ErrorReporter;
  private readonly header: MessageHeader;
  private readonly base: number;
  private readonly bytes: Uint8Array;
  private readonly report = new ErrorReport();
  private readonly local = new Int32Array(4);
  /** Of the socket whose error is at hand: another one may have its id, and another port, soon after. */
  private generation = 0;
  private port = 0;
  private readonly onPathMtu: PathMtuListener;

  constructor(table: SocketTable, stack: Stack, pool: FramePool, views: FrameViews, onPathMtu: PathMtuListener) {
    this.table = table;
    this.stack = stack;
    this.pool = pool;
    this.reporter = new ErrorReporter(stack);
    this.header = new MessageHeader();
    this.base = sys.addressOf(views.bytes);
    this.bytes = views.bytes;
    this.onPathMtu = onPathMtu;
  }

  /** Reads what waits in the error queue of the socket's placeholder. Returns how many errors that was. */
  read(id: number): number {
    for (let count = 0; count < READ_MAX; count++) {
      const frame = this.pool.take();
      if (frame < 0) return count;
      const length = this.receive(id, frame);
      if (length < 0) {
        this.pool.give(frame);
        return count;
      }
      this.handle(id, frame, length);
    }
    return READ_MAX;
  }

  /** Under the mutex, so that the descriptor is not closed meanwhile. */
  private receive(id: number, frame: number): number {
    return this.table.mutex.hold(() => {
      const fd = this.table.get(id, PLACEHOLDER);
      if (fd < 0) return fd;
      this.generation = this.table.get(id, GENERATION);
      this.port = this.table.get(id, LOCAL_PORT);
      const length = this.header.receive(fd, this.base + frame, STAMPED_MAX, MSG_ERRQUEUE | MSG_DONTWAIT);
      // An error for which the queue had no room: the flag alone would be reported for ever.
      if (length < 0) sys.getsockoptInt(fd, SOL_SOCKET, SO_ERROR, new Int32Array(1));
      return length;
    });
  }

  private handle(id: number, frame: number, length: number): void {
    const { header, report } = this;
    report.remotePort = Math.max(readSockaddr(header.nameView, report.remote), 0);
    if (!readErrorControl(header, report, this.local)) {
      this.pool.give(frame);
      return;
    }
    if (isIcmp(report.origin) && report.errno === ERRNO.EMSGSIZE) this.onPathMtu(report.remote);
    const { lookup } = this.stack;
    if (lookup.isStale()) this.stack.control();
    if (lookup.generation(id) !== this.generation) {
      // Closed since it was read.
      this.stack.counters[C.StaleMessages]++;
      this.pool.give(frame);
      return;
    }
    const isStamp = report.origin === SO_EE_ORIGIN_TIMESTAMPING;
    const excerpt = isStamp ? length : Math.min(length, EXCERPT_MAX);
    const told = header.controls;
    // As put_cmsg() has them, padded to words of eight bytes, but for the last one.
    const words = Math.ceil(told.length / 8) * 8;
    this.bytes.fill(0, frame + excerpt, frame + excerpt + words);
    this.bytes.set(told, frame + excerpt);
    // A stamp has no address to look for a flow by.
    this.reporter.report(isStamp ? id : this.ownerOf(id), report, frame, excerpt, words);
  }

  /** The flow that the error is about, where the placeholder's socket has flows. */
  private ownerOf(id: number): number {
    const { report } = this;
    const found = this.stack.lookup.connectedTo(this.local, this.port, report.remote, report.remotePort);
    return found >= 0 ? found : id;
  }
}
