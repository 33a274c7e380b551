/** net.Socket: the Duplex that programs know, on a connection of the engine's or of the kernel's. */
import { addAbortListener } from "node:events";
import { Duplex } from "node:stream";
import { ERRNO } from "af-xdp-bindings";
import { lookupAndConnect } from "./attempts.ts";
import { type DirectOwner, DirectWrites, type WriteCallback } from "./direct-writes.ts";
import * as errors from "./errors.ts";
import { IdleTimer } from "./idle-timer.ts";
import { KernelHandle } from "./kernel-handle.ts";
import {
  type Callback,
  type ConnectOptions,
  checkDuration,
  checkKeepAliveDelay,
  checkSocketOptions,
  normalizeArgs,
  type OnRead,
  type SocketOptions,
} from "./options.ts";
import { DONE, type EndAddress, type Queued, type StreamHandle, type StreamOwner } from "./stream-handle.ts";

/** The server that a socket was accepted by. */
export interface Accepting {
  /** One of its connections is gone. */
  disconnected(): void;
}

/** A connection that a server has accepted. */
export interface Accepted {
  readonly handle: StreamHandle;
  readonly server: Accepting;
  readonly paused: boolean;
}

/** Who takes what comes on a socket, in the place of those who read the stream. */
export interface Consumer {
  /** It wants no more for now. */
  readonly isPaused: boolean;
  /** The first `count` bytes have come; the memory is another's after the call. */
  take(bytes: Buffer, count: number): void;
}

/** The option `onread`. */
interface ReadInto {
  buffer: Uint8Array;
  readonly next: (() => Uint8Array) | null;
  readonly callback: OnRead["callback"];
}

/** A getter of Duplex, whose types have it as a field. */
const inherited = <T>(name: string): ((this: Duplex) => T) =>
  Object.getOwnPropertyDescriptor(Duplex.prototype, name)?.get as (this: Duplex) => T;
const queuedBytes = inherited<number>("writableLength");
const queueNeedsDrain = inherited<boolean>("writableNeedDrain");

/** What accepted() hands to the constructor it calls. */
let accepting: Accepted | null = null;

export class Socket extends Duplex {
  connecting = false;
  server: unknown = null;
  /** Milliseconds, as given to setTimeout(). */
  timeout: number | undefined = undefined;
  autoSelectFamilyAttemptedAddresses?: string[];
  #handle: StreamHandle | null = null;
  #accepting: Accepting | null = null;
  #onread: ReadInto | null = null;
  #noDelay: boolean;
  #keepAlive: boolean;
  /** Seconds. */
  #keepAliveDelay: number;
  #blockList: SocketOptions["blockList"];
  #referenced = true;
  #resetting = false;
  #consumer: Consumer | null = null;
  /** Of a socket that a consumer reads; null: all goes through the stream's queue. */
  #direct: DirectWrites | null = null;
  #idle = new IdleTimer(() => this.#timedOut());
  /** Bytes that waited for room when the timer was last looked at. */
  #lastQueue = 0;
  #bytesRead = 0;
  #bytesWritten = 0;
  /** What waits for the connection. */
  #unsent: Queued = [];
  #local: EndAddress | null = null;
  #remote: EndAddress | null = null;
  readonly #owner: StreamOwner = {
    connected: () => {},
    received: (bytes) => this.#received(bytes),
    readHere: null,
    filled: (count) => this.#filled(count),
    ended: () => this.#ended(),
    failed: (errno) => this.destroy(errors.operating(errno, "read")),
  };

  /** Throws ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE, and EOPNOTSUPP for a descriptor. */
  constructor(options: SocketOptions | number = {}) {
    if (typeof options === "number" || options?.fd !== undefined) throw errors.noDescriptor("open");
    const given = { ...options };
    checkSocketOptions(given as SocketOptions & Record<string, unknown>);
    super({
      ...given,
      signal: undefined,
      allowHalfOpen: Boolean(given.allowHalfOpen),
      emitClose: false,
      autoDestroy: true,
      decodeStrings: false,
    });
    this.#noDelay = Boolean(given.noDelay);
    this.#keepAlive = Boolean(given.keepAlive);
    this.#keepAliveDelay = checkKeepAliveDelay(given);
    this.#blockList = given.blockList;
    this.#useOnRead(given.onread);
    this.on("end", refuseWrites);
    this.#follow(given.signal);
    if (accepting !== null) this.#adopt(accepting);
  }

  // What a direct write has left waits in the handle, of which the stream knows nothing.
  static {
    Object.defineProperties(Socket.prototype, {
      writableLength: {
        get(this: Socket) {
          return queuedBytes.call(this) + (this.#direct?.isWaiting ? (this.#handle?.writeQueueSize ?? 0) : 0);
        },
      },
      writableNeedDrain: {
        get(this: Socket) {
          return this.#direct?.owesDrain || queueNeedsDrain.call(this);
        },
      },
    });
  }

  /** The socket of a connection that a server has accepted. */
  static accepted(connection: Accepted, options: SocketOptions): Socket {
    accepting = connection;
    try {
      return new Socket(options);
    } finally {
      accepting = null;
    }
  }

  connect(options: ConnectOptions, callback?: Callback): this;
  connect(port: number, host: string, callback?: Callback): this;
  connect(port: number, callback?: Callback): this;
  connect(path: string, callback?: Callback): this;
  connect(...args: unknown[]): this {
    const [options, callback] = normalizeArgs<ConnectOptions>(args);
    if (callback !== null) this.once("connect", callback);
    if (options.port === undefined && (options.path === undefined || options.path === null)) {
      throw errors.missingTarget();
    }
    if (this.destroyed) this.#begin();
    // Allowed again, of a socket that was ended by its peer before.
    if (Object.hasOwn(this, "write")) Reflect.deleteProperty(this, "write");
    this.#idle.touch();
    const { path } = options;
    if (path) {
      errors.checkString(path, "options.path");
      this.connecting = true;
      this.#connectPath(path);
      return this;
    }
    this.connecting = true;
    const blockList = options.blockList ?? this.#blockList;
    lookupAndConnect(
      {
        isConnecting: () => this.connecting,
        emit: (event, ...values) => this.emit(event, ...values),
        tried: (addresses) => {
          this.autoSelectFamilyAttemptedAddresses = addresses;
        },
        giveUp: (error) => this.destroy(error),
        attempting: (handle) => this.#attempting(handle),
        opened: () => this.#opened(),
        touch: () => this.#idle.touch(),
      },
      blockList === undefined ? options : { ...options, blockList },
    );
    return this;
  }

  get pending(): boolean {
    return this.#handle === null || this.connecting;
  }

  get readyState(): "opening" | "open" | "readOnly" | "writeOnly" | "closed" {
    if (this.connecting) return "opening";
    if (this.readable) return this.writable ? "open" : "readOnly";
    return this.writable ? "writeOnly" : "closed";
  }

  get bufferSize(): number | undefined {
    return this.#handle === null ? undefined : this.writableLength;
  }

  get bytesRead(): number {
    return this.#handle?.bytesRead ?? this.#bytesRead;
  }

  /** Those that wait for room or for the connection are counted too. */
  get bytesWritten(): number {
    let count = this.#handle?.bytesWritten ?? this.#bytesWritten;
    const buffered = (this as { writableBuffer?: Queued }).writableBuffer ?? [];
    for (const { chunk, encoding } of [...buffered, ...this.#unsent]) {
      count += typeof chunk === "string" ? Buffer.byteLength(chunk, encoding) : chunk.length;
    }
    return count;
  }

  get localAddress(): string | undefined {
    return this.#localEnd()?.address;
  }

  get localPort(): number | undefined {
    return this.#localEnd()?.port;
  }

  get localFamily(): string | undefined {
    return this.#localEnd()?.family;
  }

  get remoteAddress(): string | undefined {
    return this.#remoteEnd()?.address;
  }

  get remotePort(): number | undefined {
    return this.#remoteEnd()?.port;
  }

  get remoteFamily(): string | undefined {
    return this.#remoteEnd()?.family;
  }

  /** Of this end; {} without a connection. */
  address(): EndAddress | Record<string, never> {
    return this.#localEnd() ?? {};
  }

  /**
   * Has a consumer take what comes; what is written while nothing waits skips the stream's queue then, where the handle takes it at
   * once. Null: the stream is read again.
   */
  consume(consumer: Consumer | null): void {
    this.#consumer = consumer;
    this.#owner.readHere = consumer === null ? null : (bytes, count) => this.#consumed(bytes, count);
    if (consumer !== null && this.#handle?.isDirect) this.#direct ??= new DirectWrites(this.#directOwner());
  }

  /** The consumer wants more, or no more. */
  readMore(on: boolean): void {
    if (on) this.#handle?.readStart();
    else this.#handle?.readStop();
  }

  setNoDelay(enable = true): this {
    const on = Boolean(enable);
    if (on !== this.#noDelay && !this.connecting) this.#handle?.setNoDelay(on);
    this.#noDelay = on;
    return this;
  }

  /** @param initialDelay milliseconds before the first probe; 0: what was set before, or the system's */
  setKeepAlive(enable = false, initialDelay = 0): this {
    const on = Boolean(enable);
    const delay = ~~(initialDelay / 1000);
    const changes = on !== this.#keepAlive || (on && delay !== this.#keepAliveDelay);
    this.#keepAlive = on;
    this.#keepAliveDelay = delay;
    if (changes && !this.connecting) this.#handle?.setKeepAlive(on, delay);
    return this;
  }

  /** `timeout` is emitted after so many milliseconds without traffic; 0: never. */
  setTimeout(msecs: number, callback?: () => void): this {
    if (this.destroyed) return this;
    this.timeout = msecs;
    const duration = checkDuration(msecs);
    if (callback !== undefined) errors.checkFunction(callback, "callback");
    this.#idle.set(duration === 0 ? 0 : Math.max(1, duration));
    if (callback === undefined) return this;
    if (duration === 0) this.removeListener("timeout", callback);
    else this.once("timeout", callback);
    return this;
  }

  ref(): this {
    this.#referenced = true;
    this.#handle?.ref();
    return this;
  }

  unref(): this {
    this.#referenced = false;
    this.#handle?.unref();
    return this;
  }

  /** Ends the connection with a RST, once it is open. Throws ERR_INVALID_HANDLE_TYPE for a path. */
  resetAndDestroy(): this {
    if (this.#handle === null && !this.connecting) return this.destroy(errors.socketClosed());
    if (this.#handle !== null && !this.#handle.isTcp) throw errors.invalidHandle();
    const reset = (): void => {
      this.#resetting = true;
      this.destroy();
    };
    if (this.connecting) this.once("connect", reset);
    else reset();
    return this;
  }

  destroySoon(): void {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once("finish", () => this.destroy());
  }

  override pause(): this {
    if (this.#onread !== null && !this.connecting) this.#handle?.readStop();
    return super.pause();
  }

  override resume(): this {
    if (this.#onread !== null && !this.connecting) this.#handle?.readStart();
    return super.resume();
  }

  override read(size?: number): unknown {
    if (this.#onread !== null && !this.connecting) this.#handle?.readStart();
    return super.read(size);
  }

  override write(chunk: unknown, encoding?: unknown, callback?: unknown): boolean {
    const direct = this.#direct;
    const handle = this.#handle;
    const told = typeof encoding === "function" ? encoding : callback;
    let result: boolean | null = null;
    if (direct !== null && handle !== null && this.writableLength === 0 && !this.writableEnded && !this.destroyed) {
      this.#idle.touch();
      result = direct.write(handle, chunk, encoding, typeof told === "function" ? (told as WriteCallback) : null);
    }
    return result ?? super.write(chunk, encoding as BufferEncoding, callback as WriteCallback);
  }

  override _read(size: number): void {
    if (this.#consumer?.isPaused) return;
    if (this.connecting || this.#handle === null) this.once("connect", () => this._read(size));
    else this.#handle.readStart();
  }

  override _write(chunk: Buffer | string, encoding: BufferEncoding, callback: WriteCallback): void {
    if (this.connecting) {
      this.#afterConnect([{ chunk, encoding }], callback, () => this._write(chunk, encoding, callback));
      return;
    }
    if (this.#direct?.wait(() => this._write(chunk, encoding, callback))) return;
    const handle = this.#handle;
    if (handle === null) {
      callback(errors.socketClosed());
      return;
    }
    this.#idle.touch();
    const done = (errno: number): void => this.#written(errno, callback);
    const result = typeof chunk === "string" ? handle.writeText(chunk, encoding, done) : handle.write(chunk, done);
    this.#dispatched(handle, result, callback);
  }

  override _writev(chunks: Queued, callback: WriteCallback): void {
    if (this.connecting) {
      this.#afterConnect(chunks, callback, () => this._writev(chunks, callback));
      return;
    }
    if (this.#direct?.wait(() => this._writev(chunks, callback))) return;
    const handle = this.#handle;
    if (handle === null) {
      callback(errors.socketClosed());
      return;
    }
    this.#idle.touch();
    const done = (errno: number): void => this.#written(errno, callback);
    this.#dispatched(handle, handle.writev(chunks, done), callback);
  }

  override _final(callback: WriteCallback): void {
    if (this.connecting) {
      this.once("connect", () => this._final(callback));
      return;
    }
    if (this.#direct?.wait(() => this._final(callback))) return;
    const handle = this.#handle;
    if (handle === null) {
      callback();
      return;
    }
    const result = handle.shutdown(() => callback());
    if (result === -ERRNO.ENOTCONN) callback();
    else if (result < 0) callback(errors.operating(result, "shutdown"));
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    const handle = this.#handle;
    const hadError = error !== null && error !== undefined;
    this.connecting = false;
    this.#idle.stop();
    if (handle === null) {
      callback(error);
      process.nextTick(() => this.emit("close", hadError));
    } else {
      this.#bytesRead = handle.bytesRead;
      this.#bytesWritten = handle.bytesWritten;
      // Node remembers the peer's alone.
      this.#remote ??= handle.remoteAddress();
      this.#handle = null;
      this.#local = null;
      const closed = (): boolean => this.emit("close", hadError);
      if (this.#resetting) handle.reset(closed);
      else handle.close(closed);
      this.#resetting = false;
      callback(error);
    }
    this.#accepting?.disconnected();
    this.#accepting = null;
  }

  #adopt({ handle, paused, server }: Accepted): void {
    this.#handle = handle;
    this.#accepting = server;
    this.server = server;
    handle.owner = this.#owner;
    if (this.#onread !== null) handle.readInto(this.#onread.buffer);
    if (this.#noDelay) handle.setNoDelay(true);
    if (this.#keepAlive) handle.setKeepAlive(true, this.#keepAliveDelay);
    if (paused) this.pause();
    else this.read(0);
  }

  /** A socket that was used before is as new. */
  #begin(): void {
    (this as unknown as { _undestroy(): void })._undestroy();
    this.#handle = null;
    this.#local = null;
    this.#remote = null;
  }

  #connectPath(path: string): void {
    this.emit("connectionAttempt", path, undefined, undefined);
    const handle = KernelHandle.connectPath(path);
    handle.owner = {
      ...handle.owner,
      connected: (errno) => {
        if (errno === 0) this.#opened();
        else this.destroy(errors.withAddress(errno, "connect", path, undefined));
      },
    };
    this.#attempting(handle);
  }

  #attempting(handle: StreamHandle | null): void {
    this.#handle = handle;
    if (!this.#referenced) handle?.unref();
  }

  #opened(): void {
    const handle = this.#handle;
    if (handle === null || this.destroyed) return;
    this.connecting = false;
    this.#local = null;
    handle.owner = this.#owner;
    this.#idle.touch();
    if (this.#onread !== null) handle.readInto(this.#onread.buffer);
    if (this.#noDelay) handle.setNoDelay(true);
    if (this.#keepAlive) handle.setKeepAlive(true, this.#keepAliveDelay);
    this.emit("connect");
    this.emit("ready");
    // The first read, or the end at once.
    if (!this.isPaused()) this.read(0);
  }

  #received(bytes: Buffer): void {
    this.#idle.touch();
    if (this.destroyed) return;
    if (!this.push(bytes)) this.#handle?.readStop();
  }

  #consumed(bytes: Buffer, count: number): void {
    this.#idle.touch();
    const consumer = this.#consumer;
    if (this.destroyed || consumer === null) return;
    // Listeners see it too, as with Node, where they are called beside the parser.
    const seen = this.listenerCount("data") > 0 ? Buffer.from(bytes.subarray(0, count)) : null;
    consumer.take(bytes, count);
    if (seen !== null && this.#consumer === consumer && !this.destroyed) this.push(seen);
  }

  #directOwner(): DirectOwner {
    const isDestroyed = (): boolean => this.destroyed;
    return {
      get destroyed() {
        return isDestroyed();
      },
      destroy: (error) => this.destroy(error),
      written: (errno, callback) => this.#written(errno, callback),
      waits: (handle) => {
        this.#lastQueue = handle.writeQueueSize;
      },
      // Else the stream's own queue says so, later.
      drained: () => void (!queueNeedsDrain.call(this) && this.emit("drain")),
    };
  }

  #filled(count: number): Uint8Array {
    this.#idle.touch();
    const onread = this.#onread as ReadInto;
    const goOn = onread.callback(count, onread.buffer) !== false;
    const next = onread.next?.();
    if (next instanceof Uint8Array) onread.buffer = next;
    if (!goOn) this.#handle?.readStop();
    return onread.buffer;
  }

  #ended(): void {
    this.#idle.touch();
    this.push(null);
    this.read(0);
  }

  #dispatched(handle: StreamHandle, result: number, callback: WriteCallback): void {
    if (result === DONE) callback();
    else if (result < 0) callback(errors.operating(result, "write"));
    else this.#lastQueue = handle.writeQueueSize;
  }

  #written(errno: number, callback: WriteCallback): void {
    if (this.destroyed) {
      callback(null);
      return;
    }
    if (errno < 0) {
      callback(errors.operating(errno, "write"));
      return;
    }
    this.#idle.touch();
    this.#lastQueue = 0;
    callback(null);
  }

  #afterConnect(unsent: Queued, callback: WriteCallback, write: () => void): void {
    const closed = (): void => {
      this.#unsent = [];
      callback(errors.closedBeforeConnection());
    };
    this.#unsent = unsent;
    this.once("connect", () => {
      this.off("close", closed);
      this.#unsent = [];
      write();
    });
    this.once("close", closed);
  }

  #timedOut(): void {
    const waiting = this.#handle?.writeQueueSize ?? 0;
    if (this.#lastQueue > 0 && waiting !== this.#lastQueue) {
      // A write makes progress.
      this.#lastQueue = waiting;
      this.#idle.touch();
      return;
    }
    this.emit("timeout");
  }

  #localEnd(): EndAddress | null {
    this.#local ??= this.#handle?.localAddress() ?? null;
    return this.#local;
  }

  #remoteEnd(): EndAddress | null {
    if (this.#remote === null && !this.connecting) this.#remote = this.#handle?.remoteAddress() ?? null;
    return this.#remote;
  }

  #useOnRead(onread: SocketOptions["onread"]): void {
    if (typeof onread !== "object" || onread === null || typeof onread.callback !== "function") return;
    const { buffer, callback } = onread;
    if (typeof buffer === "function") this.#onread = { buffer: buffer(), next: buffer, callback };
    else if (buffer instanceof Uint8Array) this.#onread = { buffer, next: null, callback };
  }

  #follow(signal: AbortSignal | undefined): void {
    if (signal === undefined || signal === null) return;
    errors.checkSignal(signal, "signal");
    const abort = (): void => {
      const error = Object.assign(new Error("The operation was aborted", { cause: signal.reason }), {
        name: "AbortError",
        code: "ABORT_ERR",
      });
      this.destroy(error);
    };
    if (signal.aborted) {
      process.nextTick(abort);
      return;
    }
    const listening = addAbortListener(signal, abort);
    this.once("close", () => listening[Symbol.dispose]());
  }
}

/** The peer has ended a socket that may not be half open: writes say so from here on. */
function refuseWrites(this: Socket): void {
  if (!this.allowHalfOpen) this.write = writeAfterEnd as typeof this.write;
}

function writeAfterEnd(this: Socket, chunk: unknown, encoding?: unknown, callback?: unknown): boolean {
  if (!this.writableEnded) {
    return Duplex.prototype.write.call(this, chunk, encoding as BufferEncoding, callback as WriteCallback);
  }
  const told = typeof encoding === "function" ? encoding : callback;
  const error = errors.endedByPeer();
  if (typeof told === "function") process.nextTick(told as WriteCallback, error);
  this.destroy(error);
  return false;
}
