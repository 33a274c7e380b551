/** A TCP socket without a network: what a peer sends is put in, what it gets is taken out; a server of files behind it. */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ERRNO } from "af-xdp-bindings";
import { Root } from "../../engine/http/root.ts";
import { FileServer, HTTP_LIMITS } from "../../engine/http/server.ts";
import { HttpCounts } from "../../engine/http/statuses.ts";
import type { Shared } from "../../sockets/shared.ts";
import type { TcpEnd } from "../../sockets/stream/tcp-end.ts";
import { TcpSocket } from "../../sockets/stream/tcp-socket.ts";

export class FakeEnd implements TcpEnd {
  bytes = new Uint8Array(0);
  offset = 0;
  /** Runs of bytes as they have come: a peek shows one. */
  readonly runs: Uint8Array[] = [];
  readonly sent: Buffer[] = [];
  /** Room for what is written. */
  room = Number.POSITIVE_INFINITY;
  shut = false;
  closed = false;
  aborted = false;

  connect = (): number => -ERRNO.EISCONN;
  echo = (): number => -ERRNO.EAGAIN;
  setOption = (): number => 0;
  getOption = (): number => 0;
  poll = (): number => 0;
  takeError = (): number => 0;
  hasEnded = (): boolean => false;
  atMark = (): boolean => false;
  queued = (): number => 0;
  state = (): number => 1;
  word = (): number => 0;
  filterOf = (): number => 0;
  setFilter = (): void => {};

  get shared(): Shared {
    throw new Error("there is no engine");
  }

  write(_socket: TcpSocket, bytes: Uint8Array, offset: number, length: number): number {
    if (this.closed || this.shut) throw new Error("written after the end");
    const count = Math.min(length, this.room);
    if (count === 0) return -ERRNO.EAGAIN;
    this.room -= count;
    this.sent.push(Buffer.from(bytes.slice(offset, offset + count)));
    return count;
  }

  /** Takes the next run, as far as there is room. */
  read(_socket: TcpSocket, into: Uint8Array, offset: number, length: number): number {
    const run = this.runs.shift();
    if (run === undefined) return -ERRNO.EAGAIN;
    into.set(run.subarray(0, length), offset);
    if (run.length > length) this.runs.unshift(run.subarray(length));
    return Math.min(run.length, length);
  }

  peek(): number {
    if (this.closed) throw new Error("peeked after the end");
    const run = this.runs[0];
    if (run === undefined) return 0;
    // Somewhere in a larger memory, as on an lcore.
    this.bytes = new Uint8Array(run.length + 64).fill(0x0a);
    this.offset = 32;
    this.bytes.set(run, this.offset);
    return run.length;
  }

  consume(_socket: TcpSocket, count: number): void {
    if (count < 0 || count > (this.runs[0]?.length ?? 0)) throw new Error(`consumed ${count}`);
    if (count === this.runs[0]?.length) this.runs.shift();
    else if (count > 0) this.runs[0] = this.runs[0].subarray(count);
  }

  shutdown(): number {
    this.shut = true;
    return 0;
  }

  close(): void {
    this.closed = true;
  }

  abort(): void {
    this.aborted = true;
    this.closed = true;
  }
}

/** A directory of its own, and a server of it whose clock stands until it is moved. */
export class Served {
  readonly directory = mkdtempSync(join(tmpdir(), "lcore-http-"));
  readonly counts = HttpCounts.create(1);
  now = 1000;
  readonly server: FileServer;
  private readonly root = new Root(this.directory);

  constructor(cacheBytes = 1 << 20) {
    this.server = new FileServer(this.root, cacheBytes, HTTP_LIMITS, this.counts, null, () => this.now);
  }

  close(): void {
    this.root.close();
  }

  connect(): Peer {
    return new Peer(this.server);
  }

  /** What comes back for these runs, dates left out, until there is nothing more to do. */
  ask(...runs: (string | Uint8Array)[]): string {
    const peer = this.connect();
    for (const run of runs) peer.send(run);
    this.settle();
    return peer.text;
  }

  /** Turns until nobody goes on by itself. */
  settle(): void {
    while (this.server.turn() > 0);
  }
}

export class Peer {
  readonly end = new FakeEnd();
  private readonly socket: TcpSocket;
  private readonly server: FileServer;

  constructor(server: FileServer) {
    this.server = server;
    this.socket = new TcpSocket(this.end, server.handlers);
    server.handlers.open?.(this.socket);
  }

  send(run: string | Uint8Array): void {
    const bytes = typeof run === "string" ? Buffer.from(run, "latin1") : run;
    if (this.end.closed || bytes.length === 0) return;
    this.end.runs.push(bytes);
    this.server.handlers.readable?.(this.socket);
  }

  /** The peer has taken this much. */
  take(bytes: number): void {
    this.end.room += bytes;
    if (!this.end.closed) this.server.handlers.writable?.(this.socket);
  }

  finish(): void {
    if (!this.end.closed) this.server.handlers.ended?.(this.socket);
  }

  get raw(): Buffer {
    return Buffer.concat(this.end.sent);
  }

  get text(): string {
    return this.raw.toString("latin1").replaceAll(/Date: [^\r]*\r\n/g, "");
  }
}
