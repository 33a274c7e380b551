/** net.Server: listens on the engine, or on the kernel where the engine has nothing to listen on. */
import dns from "node:dns";
import { addAbortListener, EventEmitter } from "node:events";
import type net from "node:net";
import { getDefaultHighWaterMark } from "node:stream";
import { ERRNO, SysError } from "af-xdp-bindings";
import type { TcpListener } from "../../../sockets/stream/tcp-listener.ts";
import { defaultEngine, runningEngine } from "../default-engine.ts";
import { original } from "../originals.ts";
import type { TcpEngine } from "../tcp-engine.ts";
import { EngineHandle, STREAM_HANDLERS } from "./engine-handle.ts";
import * as errors from "./errors.ts";
import { Hold } from "./keep-alive.ts";
import { kernelServer } from "./kernel-handle.ts";
import {
  type Callback,
  checkKeepAliveDelay,
  checkPort,
  isPath,
  type ListenOptions,
  normalizeArgs,
  noTarget,
  type ServerOptions,
} from "./options.ts";
import { Socket } from "./socket.ts";
import type { EndAddress, StreamHandle } from "./stream-handle.ts";

const { isIP } = original("node:net");

/** As Node has it. */
const BACKLOG = 511;

/** What a server listens on. */
interface ListenHandle {
  address(): EndAddress | string | null;
  close(closed: () => void): void;
  ref(on: boolean): void;
}

/** Where it is to listen. A host of null: everywhere. */
interface Place {
  readonly host: string | null;
  readonly port: number;
  readonly backlog: number;
  readonly ipv6Only: boolean;
  readonly reusePort: boolean;
}

export type ConnectionListener = (socket: Socket) => void;

export class Server extends EventEmitter {
  /** Further connections are closed at once. */
  maxConnections?: number;
  allowHalfOpen: boolean;
  pauseOnConnect: boolean;
  noDelay: boolean;
  keepAlive: boolean;
  /** Seconds, as in Node. */
  keepAliveInitialDelay: number;
  highWaterMark: number;
  blockList: ServerOptions["blockList"];
  #handle: ListenHandle | null = null;
  /** True while the engine is started, or a name looked up, for listen(). */
  #opening = false;
  #listening = 0;
  #connections = 0;
  #referenced = true;

  constructor(options?: ServerOptions | ConnectionListener | null, listener?: ConnectionListener) {
    super();
    if (options !== undefined && options !== null && typeof options !== "object" && typeof options !== "function") {
      throw errors.invalidType("options", "of type object", options);
    }
    const given: ServerOptions = typeof options === "function" ? {} : { ...options };
    const connected = typeof options === "function" ? options : listener;
    if (typeof connected === "function") this.on("connection", connected);
    this.keepAliveInitialDelay = checkKeepAliveDelay(given);
    if (given.highWaterMark !== undefined) errors.checkNumber(given.highWaterMark, "options.highWaterMark");
    this.allowHalfOpen = given.allowHalfOpen ?? false;
    this.pauseOnConnect = Boolean(given.pauseOnConnect);
    this.noDelay = Boolean(given.noDelay);
    this.keepAlive = Boolean(given.keepAlive);
    const mark = given.highWaterMark ?? -1;
    this.highWaterMark = mark < 0 ? getDefaultHighWaterMark(false) : mark;
    this.blockList = given.blockList;
  }

  get listening(): boolean {
    return this.#handle !== null || this.#opening;
  }

  /** `listening` comes later; what fails is an `error` event. Throws for options that are wrong, and when it listens. */
  listen(options: ListenOptions, callback?: Callback): this;
  listen(port?: number, host?: string, backlog?: number, callback?: Callback): this;
  listen(port: number, ...rest: (string | number | Callback)[]): this;
  listen(path: string, ...rest: (number | Callback)[]): this;
  listen(callback?: Callback): this;
  listen(...args: unknown[]): this {
    const [options, callback] = normalizeArgs<ListenOptions>(args);
    if (this.listening) throw errors.alreadyListening();
    if (callback !== null) this.once("listening", callback);
    this.#listening++;
    this.#follow(options.signal);
    if (typeof options.fd === "number" && options.fd >= 0) {
      const error = errors.noDescriptor("listen");
      process.nextTick(() => this.emit("error", error));
      return this;
    }
    const anyPort = args.length === 0 || typeof args[0] === "function" || options.port === null;
    const port = anyPort || (options.port === undefined && "port" in options) ? 0 : options.port;
    const backlog = options.backlog || countOf(args[1]) || countOf(args[2]) || BACKLOG;
    if (typeof port === "number" || typeof port === "string") {
      const { host, ipv6Only, reusePort } = options;
      const number = checkPort(port, "options.port");
      const place = { port: number, backlog, ipv6Only: Boolean(ipv6Only), reusePort: Boolean(reusePort) };
      this.#listenAt({ ...place, host: host || null });
      return this;
    }
    if (!options.path || !isPath(options.path)) throw noTarget(options);
    this.#listenOnKernel(options as object, options.path);
    return this;
  }

  /** Stops to listen; `close` comes when the last connection has gone. */
  close(callback?: (error?: Error) => void): this {
    this.#listening++;
    this.#opening = false;
    if (typeof callback === "function") {
      if (this.#handle === null) this.once("close", () => callback(errors.notRunning()));
      else this.once("close", callback);
    }
    this.#handle?.close(() => {});
    this.#handle = null;
    this.#closeIfDrained();
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#handle === null) return;
    await new Promise<void>((resolve, reject) => this.close((error) => (error ? reject(error) : resolve())));
  }

  /** The address, or the path, that it listens on; null before it does. */
  address(): EndAddress | string | null {
    return this.#handle?.address() ?? null;
  }

  getConnections(callback: (error: Error | null, count: number) => void): this {
    process.nextTick(callback, null, this.#connections);
    return this;
  }

  ref(): this {
    this.#referenced = true;
    this.#handle?.ref(true);
    return this;
  }

  unref(): this {
    this.#referenced = false;
    this.#handle?.ref(false);
    return this;
  }

  #listenAt(place: Place): void {
    const { host } = place;
    if (host === null || isIP(host) !== 0) {
      this.#whenEngine(place);
      return;
    }
    const number = this.#listening;
    this.#opening = true;
    dns.lookup(host, (error, address) => {
      if (number !== this.#listening) return;
      this.#opening = false;
      if (error) this.emit("error", error);
      else this.#whenEngine({ ...place, host: address });
    });
  }

  #whenEngine(place: Place): void {
    const engine = runningEngine();
    if (engine !== null) {
      this.#listenOn(engine, place);
      return;
    }
    const number = this.#listening;
    this.#opening = true;
    const go = (failure?: Error): void => {
      if (number !== this.#listening) return;
      this.#opening = false;
      if (failure === undefined) this.#whenEngine(place);
      else this.emit("error", failure);
    };
    // On a tick: what a listener throws is an uncaught exception, not a rejection.
    defaultEngine().then(
      () => process.nextTick(go),
      (failure) => process.nextTick(go, failure),
    );
  }

  #listenOn(engine: TcpEngine, place: Place): void {
    const { host, port } = place;
    if (!engine.canListen(host ?? "0.0.0.0")) {
      this.#listenOnKernel({ ...place, host: host ?? undefined }, null);
      return;
    }
    const result = host === null ? this.#openAny(engine, place) : this.#open(engine, { ...place, host });
    if (typeof result === "number") {
      const error = errors.listenFailed(result, host ?? "::", port);
      process.nextTick(() => this.emit("error", error));
      return;
    }
    this.#started(result);
  }

  /** On both families, or on IPv4 where there is no other. */
  #openAny(engine: TcpEngine, place: Place): ListenHandle | number {
    const both = this.#open(engine, { ...place, host: "::" });
    if (both !== -ERRNO.EAFNOSUPPORT && both !== -ERRNO.EINVAL && both !== -ERRNO.EADDRNOTAVAIL) return both;
    return this.#open(engine, { ...place, host: "0.0.0.0" });
  }

  #open(engine: TcpEngine, place: Place & { host: string }): ListenHandle | number {
    const { backlog, host, ipv6Only, port, reusePort } = place;
    const family = isIP(host) === 6 ? 6 : 4;
    try {
      const options = {
        address: host,
        port,
        backlog,
        ipv6Only: ipv6Only && family === 6,
        reusePort,
        reuseAddress: true,
      };
      const open = (handle: StreamHandle): void => this.#connected(handle);
      return new EngineListenHandle(engine, family, (handlers) => engine.listen(options, handlers), open);
    } catch (error) {
      if (error instanceof SysError) return -error.errno;
      throw error;
    }
  }

  /** A path, or an address that the engine does not serve. */
  #listenOnKernel(options: object, path: string | null): void {
    const server = kernelServer((handle) => this.#connected(handle), path === null);
    this.#opening = true;
    const number = this.#listening;
    const fail = (error: NodeJS.ErrnoException): void => {
      if (number === this.#listening) this.#opening = false;
      // Bun has it positive.
      if (error.errno !== undefined) error.errno = -Math.abs(error.errno);
      this.emit("error", error);
    };
    server.once("error", fail);
    server.listen(options as net.ListenOptions, () => {
      if (number !== this.#listening) {
        server.close();
        return;
      }
      server.off("error", fail);
      server.on("error", (error) => this.emit("error", error));
      this.#opening = false;
      this.#handle = new KernelListenHandle(server);
      if (!this.#referenced) this.#handle.ref(false);
      this.emit("listening");
    });
  }

  #started(handle: ListenHandle): void {
    this.#handle = handle;
    if (!this.#referenced) handle.ref(false);
    process.nextTick(() => {
      if (this.#handle === handle) this.emit("listening");
    });
  }

  #connected(handle: StreamHandle): void {
    const remote = handle.remoteAddress();
    if (this.#isTooMany() || this.#isBlocked(remote)) {
      const local = handle.localAddress();
      this.emit("drop", {
        localAddress: local?.address,
        localPort: local?.port,
        localFamily: local?.family,
        remoteAddress: remote?.address,
        remotePort: remote?.port,
        remoteFamily: remote?.family,
      });
      handle.close(() => {});
      return;
    }
    this.#connections++;
    const { allowHalfOpen, highWaterMark, keepAlive, keepAliveInitialDelay, noDelay, pauseOnConnect } = this;
    const accepted = { handle, server: this.#accepting, paused: pauseOnConnect };
    const socket = Socket.accepted(accepted, {
      allowHalfOpen,
      noDelay,
      keepAlive,
      keepAliveInitialDelay: keepAliveInitialDelay * 1000,
      readableHighWaterMark: highWaterMark,
      writableHighWaterMark: highWaterMark,
    });
    socket.server = this;
    this.emit("connection", socket);
  }

  readonly #accepting = {
    disconnected: (): void => {
      this.#connections--;
      this.#closeIfDrained();
    },
  };

  #isTooMany(): boolean {
    return Boolean(this.maxConnections) && this.#connections >= (this.maxConnections as number);
  }

  #isBlocked(remote: EndAddress | null): boolean {
    if (this.blockList === undefined || remote === null) return false;
    return this.blockList.check(remote.address, remote.family === "IPv4" ? "ipv4" : "ipv6");
  }

  #closeIfDrained(): void {
    if (this.#handle !== null || this.#opening || this.#connections > 0) return;
    process.nextTick(() => this.emit("close"));
  }

  #follow(signal: AbortSignal | undefined): void {
    if (signal === undefined) return;
    errors.checkSignal(signal);
    const close = (): void => void this.close();
    if (signal.aborted) {
      process.nextTick(close);
      return;
    }
    const listening = addAbortListener(signal, close);
    this.once("close", () => listening[Symbol.dispose]());
  }
}

class EngineListenHandle implements ListenHandle {
  private readonly listener: TcpListener;
  private readonly family: 4 | 6;
  private readonly hold: Hold;

  constructor(
    engine: TcpEngine,
    family: 4 | 6,
    listen: (handlers: typeof STREAM_HANDLERS) => TcpListener,
    accepted: (handle: StreamHandle) => void,
  ) {
    this.family = family;
    this.listener = listen({
      ...STREAM_HANDLERS,
      open: (socket) => accepted(new EngineHandle(socket, engine, family, true)),
    });
    this.hold = new Hold(engine);
  }

  address(): EndAddress {
    const { address, port } = this.listener.address;
    return { address, family: this.family === 4 ? "IPv4" : "IPv6", port };
  }

  close(closed: () => void): void {
    this.hold.end();
    this.listener.close();
    setImmediate(closed);
  }

  ref(on: boolean): void {
    this.hold.ref(on);
  }
}

class KernelListenHandle implements ListenHandle {
  private readonly server: net.Server;

  constructor(server: net.Server) {
    this.server = server;
  }

  address(): EndAddress | string | null {
    return this.server.address();
  }

  close(closed: () => void): void {
    this.server.close(() => closed());
  }

  ref(on: boolean): void {
    if (on) this.server.ref();
    else this.server.unref();
  }
}

/** A backlog among the arguments, 0 where there is none. */
function countOf(value: unknown): number {
  const count = typeof value === "function" || value === null ? Number.NaN : Number(value);
  return Number.isNaN(count) ? 0 : Math.max(count, 0);
}
