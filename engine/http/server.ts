/**
 * A server of static files on an lcore: HTTP/1.1 over its TCP sockets (RFC 9110, RFC 9112), GET and HEAD. What all
 * connections of the lcore share is here; connection.ts has one connection's course.
 */
import type { TcpHandlers, TcpSocket } from "../../sockets/stream/tcp-socket.ts";
import type { AccessLog } from "./access-log.ts";
import { FileCache } from "./cache.ts";
import { Range } from "./conditions.ts";
import { Connection, IDLE, LINGERING, READING_BODY, READING_HEAD, SENDING } from "./connection.ts";
import { DateClock } from "./dates.ts";
import { Output } from "./heads.ts";
import { Path } from "./path.ts";
import { Request } from "./request.ts";
import type { Root } from "./root.ts";
import type { HttpCounts } from "./statuses.ts";

/** Milliseconds that a connection may take. */
export interface HttpLimits {
  /** Without a request; the first one included. */
  readonly idleMs: number;
  /** From the first octet of a head to its last: then 408. */
  readonly headMs: number;
  /** For the whole body of a request. */
  readonly bodyMs: number;
  /** Without taking anything of an answer. */
  readonly sendMs: number;
  /** From the last answer to the peer's end. */
  readonly lingerMs: number;
}

export const HTTP_LIMITS: HttpLimits = {
  idleMs: 60_000,
  headMs: 10_000,
  bodyMs: 30_000,
  sendMs: 30_000,
  lingerMs: 2000,
};

/** Octets of heads in part, of all connections of an lcore together: beyond it they are answered with 503. */
const HEAD_BYTES_MAX = 32 << 20;
/** Octets read of a file at once. */
const PIECE_BYTES = 65_536;
/** In this time every connection's deadline is looked at once. */
const SWEEP_MS = 500;
/** Time between two looks at some of them. */
const SWEEP_STEP_MS = 10;

export class FileServer {
  readonly files: FileCache;
  readonly clock = new DateClock();
  readonly out = new Output(this.clock);
  readonly path = new Path();
  readonly request = new Request();
  readonly range = new Range();
  readonly piece = new Uint8Array(PIECE_BYTES);
  /** The time when it was last looked at. */
  nowMs = 0;

  /** By phase. */
  private readonly limits: number[] = [];
  private readonly time: () => number;
  private readonly counts: HttpCounts;
  private readonly log: AccessLog | null;
  private readonly connections: Connection[] = [];
  private resumed: Connection[] = [];
  private headBytes = 0;
  private hand = 0;
  private sweptMs = 0;

  readonly handlers: TcpHandlers = {
    open: (socket) => this.accept(socket),
    readable: (socket) => this.go(socket),
    writable: (socket) => this.go(socket),
    ended: (socket) => {
      this.readClock();
      (socket.data as Connection).end();
    },
    closed: (socket) => (socket.data as Connection).dispose(false),
  };

  /**
   * @param cacheBytes octets of small files that are kept
   * @param time milliseconds of a clock that does not go back
   */
  constructor(
    root: Root,
    cacheBytes: number,
    limits: HttpLimits,
    counts: HttpCounts,
    log: AccessLog | null,
    time: () => number,
  ) {
    this.files = new FileCache(root, cacheBytes);
    const { limits: byPhase } = this;
    byPhase[IDLE] = limits.idleMs;
    byPhase[READING_HEAD] = limits.headMs;
    byPhase[READING_BODY] = limits.bodyMs;
    byPhase[SENDING] = limits.sendMs;
    byPhase[LINGERING] = limits.lingerMs;
    this.time = time;
    this.counts = counts;
    this.log = log;
  }

  /** Connections that are open. */
  get size(): number {
    return this.connections.length;
  }

  /** Once a turn of the lcore: who goes on without being told, and deadlines. How much was done. */
  turn(): number {
    const nowMs = this.time();
    this.nowMs = nowMs;
    let done = 0;
    if (this.resumed.length > 0) {
      this.readClock();
      const list = this.resumed;
      this.resumed = [];
      for (const connection of list) {
        connection.isResumed = false;
        connection.run();
      }
      done = list.length;
    }
    if (nowMs - this.sweptMs >= SWEEP_STEP_MS) this.sweep(nowMs);
    this.log?.flush(nowMs);
    return done;
  }

  private accept(socket: TcpSocket): void {
    const connection = new Connection(this, socket);
    socket.data = connection;
    this.nowMs = this.time();
    connection.deadline = this.deadline(IDLE);
    connection.slot = this.connections.push(connection) - 1;
    this.counts.connection();
  }

  private go(socket: TcpSocket): void {
    this.readClock();
    (socket.data as Connection).run();
  }

  private readClock(): void {
    this.nowMs = this.time();
    this.clock.update(Date.now());
  }

  deadline(phase: number): number {
    return this.nowMs + this.limits[phase];
  }

  /** Has a connection run in the next turn. */
  resume(connection: Connection): void {
    if (connection.isResumed) return;
    connection.isResumed = true;
    this.resumed.push(connection);
  }

  /** A connection is over. */
  forget(connection: Connection): void {
    const last = this.connections.pop() as Connection;
    if (last !== connection) {
      this.connections[connection.slot] = last;
      last.slot = connection.slot;
    }
    connection.slot = -1;
  }

  takeHeadBytes(count: number): boolean {
    if (this.headBytes + count > HEAD_BYTES_MAX) return false;
    this.headBytes += count;
    return true;
  }

  giveHeadBytes(count: number): void {
    this.headBytes -= count;
  }

  /** Counts an answer, and notes it in the access log. */
  record(connection: Connection, request: Request, status: number, bytes: number): void {
    this.counts.answer(status, bytes);
    this.log?.add(connection, request, status, bytes, this.clock.seconds);
  }

  /** Looks at as many deadlines as the time since the last look asks for. */
  private sweep(nowMs: number): void {
    const { connections } = this;
    const share = Math.min((nowMs - this.sweptMs) / SWEEP_MS, 1);
    this.sweptMs = nowMs;
    for (let left = Math.ceil(connections.length * share); left > 0; left--) {
      if (this.hand >= connections.length) this.hand = 0;
      const connection = connections[this.hand];
      if (nowMs < connection.deadline) this.hand++;
      else {
        this.readClock();
        connection.expire();
        // It may be at its place still, with another deadline.
        if (connections[this.hand] === connection) this.hand++;
      }
      if (connections.length === 0) return;
    }
  }
}
