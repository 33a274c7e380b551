/**
 * Calls of onError that are due. A send may learn of an error, of its own socket or of another's whose datagrams leave with
 * it; whoever is in the middle of a send must not be called. So they wait here for the end of a poll, or of the turn of
 * the event loop.
 */
import type { UdpSocket } from "../udp-socket.ts";

/** Calls that may wait: a thread that sends and sends without a poll in between. Those beyond are not made. */
const CALLS_MAX = 1024;

export class ErrorCalls {
  private readonly open: ReadonlyMap<number, UdpSocket>;
  private readonly sockets: UdpSocket[] = [];
  private readonly errnos: number[] = [];
  private calling = false;

  /** @param open sockets of the thread, by id */
  constructor(open: ReadonlyMap<number, UdpSocket>) {
    this.open = open;
  }

  /** Whether there are any to be made now. */
  get due(): boolean {
    return this.sockets.length > 0 && !this.calling;
  }

  add(socket: UdpSocket, errno: number): void {
    if (this.sockets.length === CALLS_MAX) return;
    this.sockets.push(socket);
    this.errnos.push(errno);
  }

  /**
   * Makes the calls that are due now, those of sockets that have been closed since apart. What they add has its turn the
   * next time. Returns how many.
   */
  make(): number {
    if (this.calling || this.sockets.length === 0) return 0;
    this.calling = true;
    let called = 0;
    try {
      for (let left = this.sockets.length; left > 0; left--) {
        const socket = this.sockets.shift() as UdpSocket;
        const errno = this.errnos.shift() as number;
        if (this.open.get(socket.id) !== socket) continue;
        called++;
        socket.onError?.(errno);
      }
    } finally {
      this.calling = false;
    }
    return called;
  }
}
