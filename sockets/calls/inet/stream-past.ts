/**
 * What a stream socket goes on telling of the connection that it had: tcp_disconnect (net/ipv4/tcp.c) forgets the peer, and leaves
 * the numbers of the connection where they are.
 */
import type { TcpSocket } from "../../stream/tcp-socket.ts";
import { CLOSE_WAIT, ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, MAX_WINDOW, SYN_RECEIVED, SYN_SENT } from "../../tcp/tcb.ts";

/** tcp_need_reset(), and SYN_SENT: AF_UNSPEC leaves them with ECONNRESET. */
export const RESET_BY_LEAVING: ReadonlySet<number> = new Set([
  ...[ESTABLISHED, CLOSE_WAIT, FIN_WAIT_1, FIN_WAIT_2],
  ...[SYN_RECEIVED, SYN_SENT],
]);

/** TCP_MSS_DEFAULT. */
const SEGMENT_DEFAULT = 536;
/** How far tcp_disconnect sets its next sequence number beyond the peer's largest window. */
const BEYOND_WINDOW = 2;

export class StreamPast {
  /** Its own port (inet_sport), which is another's by now; and its address, where it was a listener's that was bound to it. */
  port = 0;
  address: readonly number[] = [0, 0, 0, 0];
  /** Bytes of a segment (tp->mss_cache). */
  segment = SEGMENT_DEFAULT;
  /** SIOCOUTQ and SIOCOUTQNSD: tp->write_seq went on, the number acknowledged and the one sent did not. */
  queued = 0;
  unsent = 0;
  /** The peer's largest window (tp->max_window). */
  private window = 0;

  /** A listener, or what never was a connection, has been disconnected. */
  dissolvedIdle(): void {
    this.queued += this.window + BEYOND_WINDOW;
    this.unsent += this.window + BEYOND_WINDOW;
  }

  /** Another connection begins where its numbers are. */
  begin(): void {
    this.queued = 0;
    this.unsent = 0;
  }

  /** A connection is about to be dissolved. @param segment bytes that one of its segments carried */
  dissolve(socket: TcpSocket, segment: number): void {
    const { end } = socket;
    this.window = end.word(socket, MAX_WINDOW);
    this.segment = segment;
    this.queued = end.queued(socket, false);
    this.unsent = end.queued(socket, true);
    this.dissolvedIdle();
  }
}
