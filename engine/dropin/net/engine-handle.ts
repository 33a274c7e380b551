/** A connection of the engine's under a net.Socket: what libuv's TCP handle does, on a TcpSocket. */
import { drainMicrotasks } from "bun:jsc";
import { AsyncLocalStorage } from "node:async_hooks";
import { ERRNO, SysError } from "af-xdp-bindings";
import type { TcpConnectOptions } from "../../../sockets/stream/tcp-open.ts";
import type { TcpHandlers, TcpSocket } from "../../../sockets/stream/tcp-socket.ts";
import { MSG_MORE } from "../../../sockets/tcp/calls.ts";
import { OPTIONS } from "../../../sockets/tcp/sockopts.ts";
import type { SocketAddress } from "../../../sockets/text-address.ts";
import type { TcpEngine } from "../tcp-engine.ts";
import { Hold } from "./keep-alive.ts";
import {
  DONE,
  type Done,
  type EndAddress,
  LATER,
  type Queued,
  type StreamHandle,
  type StreamOwner,
} from "./stream-handle.ts";

const SHUT_WR = 1;
/** Seconds between probes, and how many: what libuv sets, uv__tcp_keepalive. */
const KEEPINTVL_S = 1;
const KEEPCNT = 10;

/** The most bytes of one read, as libuv suggests, and of what is gathered for one write. */
const SCRATCH_BYTES = 65536;
/** Bytes that a text of so many characters may take at most. */
const TEXT_CHARS_MAX = SCRATCH_BYTES / 3;
/** Of one thread, used within one call; what is read into the second may be looked at while answers are written. */
const scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES);
const readScratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES);
const NOTHING = new Uint8Array(0);

/** Calls a function in the asynchronous context in which the handle was made. */
type Context = (call: (handle: EngineHandle, value: number) => void, handle: EngineHandle, value: number) => void;

const handleOf = (socket: TcpSocket): EngineHandle => socket.data as EngineHandle;

const tellConnected = (handle: EngineHandle, errno: number): void => handle.owner.connected(errno);
const tellReadable = (handle: EngineHandle): void => handle.pull();
const tellWritable = (handle: EngineHandle): void => handle.flush();
const tellClosed = (handle: EngineHandle, errno: number): void => handle.over(errno);

/** Runs what a listener has promised before the next event, as after any callback of the event loop. */
function run(socket: TcpSocket, call: (handle: EngineHandle, value: number) => void, value = 0): void {
  const handle = handleOf(socket);
  if (handle.closed) return;
  handle.context(call, handle, value);
  drainMicrotasks();
}

/** Of every connection that is ours from its beginning; of a listener's, beside `open`. */
export const STREAM_HANDLERS: TcpHandlers = {
  open: (socket) => {
    handleOf(socket).isOpen = true;
    run(socket, tellConnected);
  },
  readable: (socket) => run(socket, tellReadable),
  ended: (socket) => run(socket, tellReadable),
  writable: (socket) => run(socket, tellWritable),
  closed: (socket, errno) => run(socket, tellClosed, errno),
};

const IDLE: StreamOwner = {
  connected: () => {},
  received: () => {},
  readHere: null,
  filled: () => NOTHING,
  ended: () => {},
  failed: () => {},
};

export class EngineHandle implements StreamHandle {
  owner: StreamOwner = IDLE;
  readonly isTcp = true;
  readonly isDirect = true;
  isOpen: boolean;
  closed = false;
  reading = false;
  bytesRead = 0;
  bytesWritten = 0;
  writeQueueSize = 0;
  readonly context: Context;
  private readonly socket: TcpSocket;
  private readonly zone: string;
  /** Family of the socket it came from: IPv4 addresses on an IPv6 one are shown mapped. */
  private readonly family: 4 | 6;
  private readonly hold: Hold;
  /** Where what comes is put, when the owner wants it so. */
  private into: Uint8Array | null = null;
  /** True while a look for what has come is due in a later turn. */
  private due = false;
  /** What the connection broke with, which the next read is to tell: errno. */
  private broken = 0;
  private ended = false;
  /** What waits for room, from `at` on; with the last of them done, `done` is told. */
  private pending: readonly Uint8Array[] = [];
  private index = 0;
  private at = 0;
  private done: Done | null = null;

  /** @param family of the listener or the destination */
  constructor(socket: TcpSocket, engine: TcpEngine, family: 4 | 6, isOpen: boolean) {
    this.socket = socket;
    this.zone = engine.link?.name ?? "";
    this.family = family;
    this.isOpen = isOpen;
    this.context = AsyncLocalStorage.snapshot() as Context;
    socket.data = this;
    this.hold = new Hold(engine);
  }

  /** Begins to connect. Returns the handle, or what is wrong at once: -errno, and the call that said so. */
  static connect(
    engine: TcpEngine,
    options: TcpConnectOptions,
    family: 4 | 6,
  ): EngineHandle | { errno: number; syscall: string } {
    // Nobody can listen on it.
    if (options.port === 0) return { errno: -ERRNO.ECONNREFUSED, syscall: "connect" };
    try {
      return new EngineHandle(engine.connect(options, STREAM_HANDLERS), engine, family, false);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      return { errno: -error.errno, syscall: error.syscall.startsWith("bind") ? "bind" : "connect" };
    }
  }

  readStart(): void {
    if (this.reading) return;
    this.reading = true;
    this.lookLater();
  }

  readStop(): void {
    this.reading = false;
  }

  readInto(buffer: Uint8Array): void {
    this.into = buffer;
  }

  /** Hands over what has come. */
  pull(): void {
    this.due = false;
    while (this.reading && !this.closed && !this.ended) {
      const { into } = this;
      const count = into === null ? this.socket.read(readScratch, 0, SCRATCH_BYTES) : this.socket.read(into);
      if (count > 0) {
        this.bytesRead += count;
        if (into === null && this.owner.readHere !== null) this.owner.readHere(readScratch, count);
        else if (into === null) this.owner.received(copyOf(count));
        else this.into = this.owner.filled(count);
      } else {
        // After an error has been told, reads say that there is an end.
        if (this.broken !== 0) this.fail(this.broken);
        else if (count === 0) this.end();
        else if (count !== -ERRNO.EAGAIN) this.fail(-count);
        return;
      }
    }
  }

  write(bytes: Uint8Array, done: Done): number {
    this.bytesWritten += bytes.length;
    const taken = this.put(bytes, 0, bytes.length, 0);
    if (taken === bytes.length) return DONE;
    return taken < 0 ? taken : this.keep([bytes], 0, taken, bytes.length - taken, done);
  }

  writev(given: Queued, done: Done): number {
    let most = 0;
    for (let i = 0; i < given.length; i++) {
      const { chunk } = given[i];
      most += typeof chunk === "string" ? 3 * chunk.length : chunk.length;
    }
    if (most <= SCRATCH_BYTES) return this.writeGathered(given, done);
    const chunks = given.map(({ chunk, encoding }) =>
      typeof chunk === "string" ? Buffer.from(chunk, encoding) : chunk,
    );
    let length = 0;
    for (const chunk of chunks) length += chunk.length;
    this.bytesWritten += length;
    for (let i = 0; i < chunks.length; i++) {
      const chunk = chunks[i];
      const taken = this.put(chunk, 0, chunk.length, i + 1 < chunks.length ? MSG_MORE : 0);
      if (taken < 0) return taken;
      length -= taken;
      if (taken < chunk.length) return this.keep(chunks, i, taken, length, done);
    }
    return DONE;
  }

  writeText(text: string, encoding: BufferEncoding, done: Done): number {
    if (text.length > TEXT_CHARS_MAX) return this.write(Buffer.from(text, encoding), done);
    return this.writeScratch(scratch.write(text, 0, encoding), done);
  }

  shutdown(done: Done): number {
    const result = this.socket.shutdown(SHUT_WR);
    if (result < 0) return result;
    setImmediate(done, 0);
    return LATER;
  }

  close(closed: () => void): void {
    this.finish();
    this.socket.close();
    setImmediate(closed);
  }

  reset(closed: () => void): void {
    this.finish();
    this.socket.abort();
    setImmediate(closed);
  }

  setNoDelay(on: boolean): void {
    this.socket.setOption(OPTIONS.TCP_NODELAY, on ? 1 : 0);
  }

  setKeepAlive(on: boolean, delay: number): void {
    const { socket } = this;
    if (on && delay > 0) {
      socket.setOption(OPTIONS.TCP_KEEPIDLE, delay);
      socket.setOption(OPTIONS.TCP_KEEPINTVL, KEEPINTVL_S);
      socket.setOption(OPTIONS.TCP_KEEPCNT, KEEPCNT);
    }
    socket.setOption(OPTIONS.SO_KEEPALIVE, on ? 1 : 0);
  }

  ref(): void {
    this.hold.ref(true);
  }

  unref(): void {
    this.hold.ref(false);
  }

  localAddress(): EndAddress | null {
    return this.closed ? null : this.named(this.socket.localAddress);
  }

  remoteAddress(): EndAddress | null {
    return this.closed || !this.isOpen ? null : this.named(this.socket.remoteAddress);
  }

  /** Sends what waits, as far as there is room. */
  flush(): void {
    while (this.done !== null) {
      const chunk = this.pending[this.index];
      const more = this.index + 1 < this.pending.length ? MSG_MORE : 0;
      const taken = this.put(chunk, this.at, chunk.length - this.at, more);
      if (taken < 0) {
        this.settle(taken);
        return;
      }
      this.at += taken;
      this.writeQueueSize -= taken;
      if (this.at < chunk.length) return;
      this.at = 0;
      if (++this.index === this.pending.length) this.settle(0);
    }
  }

  /** The connection is over. What has come before is read first. */
  over(errno: number): void {
    if (!this.isOpen) {
      // It never was.
      this.owner.connected(-(errno || ERRNO.ECONNABORTED));
      return;
    }
    this.broken = errno;
    if (this.reading) this.pull();
    if (this.done !== null && !this.closed) this.settle(-(errno || ERRNO.EPIPE));
  }

  private end(): void {
    this.ended = true;
    this.owner.ended();
  }

  private fail(errno: number): void {
    this.ended = true;
    this.owner.failed(-errno);
  }

  /** Never within the call that began to read. */
  private lookLater(): void {
    if (this.due) return;
    this.due = true;
    setImmediate(lookNow, this);
  }

  private writeGathered(given: Queued, done: Done): number {
    let at = 0;
    for (let i = 0; i < given.length; i++) {
      const { chunk, encoding } = given[i];
      if (typeof chunk === "string") at += scratch.write(chunk, at, encoding);
      else {
        scratch.set(chunk, at);
        at += chunk.length;
      }
    }
    return this.writeScratch(at, done);
  }

  private writeScratch(length: number, done: Done): number {
    this.bytesWritten += length;
    const taken = this.put(scratch, 0, length, 0);
    if (taken === length) return DONE;
    return taken < 0 ? taken : this.keep([Buffer.from(scratch.subarray(taken, length))], 0, 0, length - taken, done);
  }

  /** Gives the socket what it has room for: how many bytes, or -errno. */
  private put(bytes: Uint8Array, offset: number, length: number, flags: number): number {
    if (length === 0) return 0;
    const taken = this.socket.write(bytes, offset, length, flags);
    return taken === -ERRNO.EAGAIN ? 0 : taken;
  }

  private keep(chunks: readonly Uint8Array[], index: number, at: number, left: number, done: Done): number {
    this.pending = chunks;
    this.index = index;
    this.at = at;
    this.writeQueueSize = left;
    this.done = done;
    return LATER;
  }

  private settle(errno: number): void {
    const { done } = this;
    this.pending = [];
    this.index = 0;
    this.at = 0;
    this.writeQueueSize = 0;
    this.done = null;
    done?.(errno);
  }

  private finish(): void {
    this.closed = true;
    this.reading = false;
    this.hold.end();
    if (this.done !== null) this.settle(-ERRNO.ECANCELED);
  }

  private named({ address, family, port }: SocketAddress): EndAddress {
    if (this.family === 4) return { address, family: "IPv4", port };
    const linkLocal = this.zone !== "" && /^fe[89ab]/.test(address);
    const text = family === 4 ? `::ffff:${address}` : linkLocal ? `${address}%${this.zone}` : address;
    return { address: text, family: "IPv6", port };
  }
}

function lookNow(handle: EngineHandle): void {
  if (!handle.closed) handle.context(tellReadable, handle, 0);
}

/** The longest read that shares memory with others; bytes of what they share. As Buffer.poolSize has it in Node, but larger. */
const SHARED_READ_MAX = 4096;
const SLAB_BYTES = 65536;
let slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
let slabUsed = 0;

/** The first `count` bytes that were read, in memory that nobody writes to again. Small ones have no memory each to be collected. */
function copyOf(count: number): Buffer {
  if (count > SHARED_READ_MAX) {
    const bytes = Buffer.allocUnsafeSlow(count);
    readScratch.copy(bytes, 0, 0, count);
    return bytes;
  }
  if (slabUsed + count > SLAB_BYTES) {
    slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
    slabUsed = 0;
  }
  const at = slabUsed;
  slabUsed += count;
  readScratch.copy(slab, at, 0, count);
  return slab.subarray(at, slabUsed);
}
