/**
 * A drop-in for node:dgram: the same sockets over an engine.
 *
 *   import dgram from "lcore/dgram"; // was: "node:dgram"
 *
 * The engine is that of default-engine.ts: started when the first socket binds, or given with useEngine(). Behaviour is
 * that of Node 22 (doc/api/dgram.md, lib/dgram.js); what differs is in docs/dropins.md.
 */
import { drainMicrotasks } from "bun:jsc";
import { AsyncLocalStorage } from "node:async_hooks";
import { channel } from "node:diagnostics_channel";
import dns from "node:dns";
import { EventEmitter, errorMonitor } from "node:events";
import type { AddressInfo } from "node:net";
import { ERRNO } from "af-xdp-bindings";
import { Engine, type EngineThread } from "../engine.ts";
import { defaultEngine, runningEngine } from "./default-engine.ts";
import * as errors from "./dgram-errors.ts";
import { fdType } from "./dgram-fd.ts";
import { Handle, type RemoteInfo } from "./dgram-handle.ts";
import { checkOptions, type Lookup, type SocketOptions, type SocketType } from "./dgram-options.ts";
import { Outbox } from "./dgram-outbox.ts";
import { type Payload, SendCall, type SendCallback } from "./dgram-send.ts";
import { original } from "./originals.ts";

export { closeDefaultEngine, configure, defaultEngine, useEngine } from "./default-engine.ts";
export type { Lookup, Payload, RemoteInfo, SendCallback, SocketOptions, SocketType };

export interface BindOptions {
  port?: number;
  address?: string;
  /** Of meaning in workers of node:cluster alone; sockets of an engine are never shared with another process. */
  exclusive?: boolean;
  /** Not to be had: the socket would be the kernel's. */
  fd?: number;
}

export interface BindSyncOptions {
  port?: number;
  address?: string;
}

export type MessageListener = (message: Buffer, sender: RemoteInfo) => void;
type ConnectCallback = (error?: Error) => void;

const { isIP } = original("node:net");

const UNBOUND = 0;
const BINDING = 1;
const BOUND = 2;
const DISCONNECTED = 0;
const CONNECTING = 1;
const CONNECTED = 2;

const created = channel("udp.socket");
const call = new SendCall();

export class Socket extends EventEmitter {
  /** Bound sockets by their engine. */
  static readonly #bound = new WeakMap<EngineThread, Set<Socket>>();

  readonly type: SocketType;
  /** Null when closed. */
  #handle: Handle | null;
  #bindState = UNBOUND;
  #connectState = DISCONNECTED;
  readonly #options: SocketOptions;
  /** Calls that wait until the socket is bound; null while none does. */
  #waiting: (() => void)[] | null = null;
  readonly #outbox: Outbox;
  /** What it is bound on. */
  #engine: EngineThread | null = null;
  /** Whether an address literal needs nobody's leave: sent at once, then. */
  readonly #direct: boolean;

  /** A `listener` hears of messages. Throws ERR_SOCKET_BAD_TYPE, ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE. */
  constructor(type: SocketType | SocketOptions, listener?: MessageListener) {
    super();
    this.#options = checkOptions(type);
    this.type = this.#options.type;
    // What comes from the network comes in the async context in which the socket was made.
    const inContext = AsyncLocalStorage.snapshot();
    const receive = (message: Buffer, sender: RemoteInfo): void => this.#receive(message, sender);
    const fail = (errno: number): boolean => this.emit("error", errors.operating(errno, "recvmsg"));
    const handle = new Handle(this.type === "udp4" ? 4 : 6, {
      message: (message, sender) => inContext(receive, message, sender),
      error: (errno) => inContext(fail, errno),
      writable: () => this.#outbox.flush(),
    });
    this.#handle = handle;
    this.#outbox = new Outbox(handle);
    this.#direct = this.#options.lookup === undefined && this.#options.sendBlockList === undefined;
    if (typeof listener === "function") this.on("message", listener);
    this.#closeOn(this.#options.signal);
    if (created.hasSubscribers) created.publish({ socket: this });
  }

  /**
   * Binds; `listening` and the callback come later. Without a port, one that is free; without an address, all of them.
   * What fails is an `error` event; a second bind, and a descriptor, are exceptions.
   */
  bind(port?: number, address?: string, callback?: () => void): this;
  bind(port: number, callback: () => void): this;
  bind(callback: () => void): this;
  bind(options: BindOptions, callback?: (() => void) | null): this;
  bind(...given: unknown[]): this {
    this.#running();
    if (this.#bindState !== UNBOUND) throw errors.alreadyBound();
    this.#bindState = BINDING;
    const callback = given.at(-1);
    if (typeof callback === "function") this.#onceListening(callback as () => void);
    const [first, second] = given;
    const options: BindOptions =
      typeof first === "object" && first !== null ? first : { port: first as number, address: second as string };
    const { address, fd = 0, port } = options;
    if (Number.isInteger(fd) && fd > 0) refuseFd(fd);
    const name = address && typeof address !== "function" ? address : this.#any;
    this.#resolve(name, (error, ip) => this.#bindTo(error, ip, port));
    return this;
  }

  /**
   * Binds now: what fails is thrown. `listening` comes on the next tick. The address is a literal. Needs an engine that
   * runs: of useEngine(), or one that a socket was bound on before.
   */
  bindSync(options: BindSyncOptions = {}): AddressInfo {
    const handle = this.#running();
    if (this.#bindState !== UNBOUND) throw errors.alreadyBound();
    const error = this.#open(handle, engineNow("bindSync"), options.address || this.#any, options.port);
    if (error !== null) throw error;
    process.nextTick(() => this.emit("listening"));
    return this.address();
  }

  /** Connects; `connect` and the callback come later. What fails goes to the callback, or is an `error` event. */
  connect(port: number, address?: string, callback?: ConnectCallback): void;
  connect(port: number, callback: ConnectCallback): void;
  connect(portGiven: number, second?: unknown, third?: unknown): void {
    const port = errors.checkPort(portGiven);
    const address = typeof second === "function" || second === undefined ? "" : second;
    const callback = (typeof second === "function" ? second : third) as ConnectCallback | undefined;
    errors.checkString(address, "address");
    if (this.#connectState !== DISCONNECTED) throw errors.isConnected();
    this.#running();
    this.#connectState = CONNECTING;
    if (this.#bindState === UNBOUND) this.bind({ port: 0, exclusive: true }, null);
    if (this.#bindState === BOUND) this.#connectTo(port, address, callback);
    else this.#whenBound(() => this.#connectTo(port, address, callback));
  }

  /** Connects now, to an address literal, after bindSync() if need be: what fails is thrown. `connect` comes on a tick. */
  connectSync(portGiven: number, address: string = this.#loopback): void {
    const port = errors.checkPort(portGiven);
    errors.checkString(address, "address");
    if (this.#connectState !== DISCONNECTED) throw errors.isConnected();
    const handle = this.#running();
    if (this.#bindState !== BOUND) this.bindSync();
    const error = this.#join(handle, address, address, port);
    if (error !== null) throw error;
    process.nextTick(() => this.emit("connect"));
  }

  /** Dissolves the connection. Throws ERR_SOCKET_DGRAM_NOT_CONNECTED. */
  disconnect(): void {
    if (this.#connectState !== CONNECTED) throw errors.notConnected();
    succeeded(this.#running().disconnect(), "connect");
    this.#connectState = DISCONNECTED;
  }

  /**
   * Sends a datagram to `port` and `address` (default the loopback address), or to the connected peer; a list of buffers
   * is one datagram. Offset and length are in bytes. The socket is bound if need be. Arguments that mean nothing are
   * exceptions; what fails later goes to the callback, and without one is lost, except an address that cannot be looked
   * up, which is an `error` event.
   */
  send(message: Payload | readonly Payload[], port?: number, address?: string, callback?: SendCallback): void;
  send(message: Payload | readonly Payload[], port?: number, callback?: SendCallback): void;
  send(message: Payload | readonly Payload[], callback?: SendCallback): void;
  send(message: Payload, offset: number, length: number, port: number, address?: string, callback?: SendCallback): void;
  send(message: Payload, offset: number, length: number, port: number, callback?: SendCallback): void;
  send(message: Payload, offset: number, length: number, callback?: SendCallback): void;
  send(message: unknown, a?: unknown, b?: unknown, c?: unknown, d?: unknown, e?: unknown): void {
    if (this.#connectState === CONNECTED) call.readConnected(message, a, b, c, d, e);
    else call.read(message, a, b, c, d, e);
    const { address, bytes, callback, length, offset, port } = call;
    this.#running();
    if (this.#bindState === UNBOUND) this.bind({ port: 0, exclusive: true }, null);
    if (this.#bindState === BOUND) this.#sendTo(bytes, offset, length, port, address, callback);
    else this.#whenBound(() => this.#sendTo(bytes, offset, length, port, address, callback));
  }

  /** send() of part of a buffer with every argument checked. */
  sendto(
    message: Payload,
    offset: number,
    length: number,
    port: number,
    address: string,
    callback?: SendCallback,
  ): void {
    errors.checkNumber(offset, "offset");
    errors.checkNumber(length, "length");
    errors.checkNumber(port, "port");
    errors.checkString(address, "address");
    this.send(message, offset, length, port, address, callback);
  }

  /** Closes, after what waits for the socket to be bound; `close` comes later. Throws ERR_SOCKET_DGRAM_NOT_RUNNING. */
  close(callback?: () => void): this {
    if (typeof callback === "function") this.on("close", callback);
    if (this.#waiting !== null) {
      this.#waiting.push(() => this.close());
      return this;
    }
    this.#running().close();
    this.#handle = null;
    if (this.#engine !== null) Socket.#bound.get(this.#engine)?.delete(this);
    this.#outbox.cancel();
    process.nextTick(() => this.emit("close"));
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#handle !== null) await new Promise<void>((resolve) => this.close(resolve));
  }

  /** Throws EBADF before the socket is bound. */
  address(): AddressInfo {
    const address = this.#running().localAddress();
    if (typeof address === "number") throw errors.operating(address, "getsockname");
    return address;
  }

  /** Throws ERR_SOCKET_DGRAM_NOT_CONNECTED. */
  remoteAddress(): AddressInfo {
    const handle = this.#running();
    if (this.#connectState !== CONNECTED) throw errors.notConnected();
    const address = handle.remoteAddress();
    if (typeof address === "number") throw errors.operating(address, "getpeername");
    return address;
  }

  setBroadcast(flag: boolean): void {
    succeeded(this.#running().setBroadcast(flag ? 1 : 0), "setBroadcast");
  }

  /** Throws EINVAL below 1 and above 255. */
  setTTL(ttl: number): number {
    errors.checkNumber(ttl, "ttl");
    succeeded(this.#running().setTtl(ttl | 0), "setTTL");
    return ttl;
  }

  /** Throws EINVAL below 0 and above 255. */
  setMulticastTTL(ttl: number): number {
    errors.checkNumber(ttl, "ttl");
    succeeded(this.#running().setMulticastTtl(ttl | 0), "setMulticastTTL");
    return ttl;
  }

  setMulticastLoopback(flag: boolean): boolean {
    succeeded(this.#running().setMulticastLoopback(flag ? 1 : 0), "setMulticastLoopback");
    return flag;
  }

  /** @param address the IPv4 address of an interface; "::%eth0" by name or index; "0.0.0.0" or "::": the kernel's choice */
  setMulticastInterface(address: string): void {
    const handle = this.#running();
    errors.checkString(address, "interfaceAddress");
    succeeded(handle.setMulticastInterface(address), "setMulticastInterface");
  }

  /** Throws ENODEV, EADDRINUSE, EINVAL. */
  addMembership(group: string, multicastInterface?: string): void {
    this.#member(true, group, multicastInterface, "addMembership");
  }

  dropMembership(group: string, multicastInterface?: string): void {
    this.#member(false, group, multicastInterface, "dropMembership");
  }

  addSourceSpecificMembership(source: string, group: string, multicastInterface?: string): void {
    this.#sourceMember(true, source, group, multicastInterface, "addSourceSpecificMembership");
  }

  dropSourceSpecificMembership(source: string, group: string, multicastInterface?: string): void {
    this.#sourceMember(false, source, group, multicastInterface, "dropSourceSpecificMembership");
  }

  /** SO_RCVBUF, bytes: the kernel keeps twice what it is given. Throws ERR_SOCKET_BUFFER_SIZE. */
  getRecvBufferSize(): number {
    return this.#bufferSize(0, true);
  }

  getSendBufferSize(): number {
    return this.#bufferSize(0, false);
  }

  setRecvBufferSize(size: number): void {
    this.#bufferSize(size, true);
  }

  setSendBufferSize(size: number): void {
    this.#bufferSize(size, false);
  }

  /** Bytes of the datagrams for which there was no room yet. */
  getSendQueueSize(): number {
    this.#running();
    return this.#outbox.size;
  }

  getSendQueueCount(): number {
    this.#running();
    return this.#outbox.count;
  }

  ref(): this {
    this.#handle?.ref();
    return this;
  }

  unref(): this {
    this.#handle?.unref();
    return this;
  }

  #closeOn(signal: AbortSignal | undefined): void {
    if (signal === undefined) return;
    const close = (): void => {
      if (this.#handle !== null) this.close();
    };
    if (signal.aborted) {
      close();
      return;
    }
    signal.addEventListener("abort", close, { once: true });
    this.once("close", () => signal.removeEventListener("abort", close));
  }

  #member(join: boolean, group: string, iface: string | undefined, call: string): void {
    const handle = this.#running();
    if (!group) throw errors.missingArgument("multicastAddress");
    succeeded(handle.setMembership(join, String(group), iface, runningEngine()), call);
  }

  #sourceMember(join: boolean, source: string, group: string, iface: string | undefined, call: string): void {
    const handle = this.#running();
    errors.checkString(source, "sourceAddress");
    errors.checkString(group, "groupAddress");
    succeeded(handle.setSourceMembership(join, source, group, iface, runningEngine()), call);
  }

  #bufferSize(size: number, receive: boolean): number {
    if (size !== size >>> 0) throw errors.badBufferSize();
    const result = this.#running().bufferSize(size, receive);
    if (result < 0) throw errors.bufferSizeFailed(result, receive ? "uv_recv_buffer_size" : "uv_send_buffer_size");
    return result;
  }

  #running(): Handle {
    if (this.#handle === null) throw errors.notRunning();
    return this.#handle;
  }

  #receive(message: Buffer, sender: RemoteInfo): void {
    const blocked = this.#options.receiveBlockList;
    if (blocked?.check(sender.address, sender.family === "IPv4" ? "ipv4" : "ipv6")) return;
    this.emit("message", message, sender);
    // What the listener has queued runs before the next message, as after any callback of the event loop.
    drainMicrotasks();
  }

  /** Calls back with the address that `name` stands for; a literal comes back by itself, on the next tick. */
  #resolve(name: string, callback: (error: Error | null, ip: string) => void): void {
    const { lookup } = this.#options;
    const family = this.type === "udp4" ? 4 : 6;
    if (lookup !== undefined) lookup(name, family, callback);
    else if (isIP(name) !== 0) process.nextTick(callback, null, name);
    else dns.lookup(name, family, callback);
  }

  #bindTo(error: Error | null, ip: string, port: unknown): void {
    if (this.#handle === null) return;
    const engine = runningEngine();
    if (error !== null) this.#bindFailed(error);
    else if (engine !== null) this.#bindOn(engine, ip, port);
    else {
      // On a tick: what a listener throws is an uncaught exception, not a rejection.
      defaultEngine().then(
        (started) => process.nextTick(() => this.#bindOn(started, ip, port)),
        (failure) => process.nextTick(() => this.#bindFailed(failure)),
      );
    }
  }

  #bindFailed(error: Error): void {
    if (this.#handle === null) return;
    this.#bindState = UNBOUND;
    this.emit("error", error);
  }

  #bindOn(engine: EngineThread, ip: string, port: unknown): void {
    if (this.#handle === null) return;
    const error = this.#open(this.#handle, engine, ip, port);
    if (error === null) this.emit("listening");
    else this.#bindFailed(error);
  }

  /** Binds and begins to receive. Returns why it cannot be bound, or null. */
  #open(handle: Handle, engine: EngineThread, ip: string, port: unknown): Error | null {
    const { ipv6Only, recvBufferSize, reuseAddr, reusePort, sendBufferSize } = this.#options;
    const flags = { reuseAddr: !!reuseAddr, reusePort: !!reusePort, ipv6Only: !!ipv6Only };
    const result = handle.bind(engine, ip, Number(port) & 0xffff, flags);
    if (result < 0) return errors.operatingAt(result, "bind", ip, port);
    handle.receive();
    this.#bindState = BOUND;
    this.#follow(engine);
    if (recvBufferSize) this.#bufferSize(recvBufferSize, true);
    if (sendBufferSize) this.#bufferSize(sendBufferSize, false);
    return null;
  }

  /** Hears of the end of the engine, as every other socket on it does. */
  #follow(engine: EngineThread): void {
    this.#engine = engine;
    const sockets = Socket.#bound.get(engine);
    if (sockets !== undefined) {
      sockets.add(this);
      return;
    }
    const first = new Set<Socket>([this]);
    Socket.#bound.set(engine, first);
    const end = (error?: Error): void => {
      for (const socket of [...first]) socket.#engineEnded(error);
    };
    if (engine instanceof Engine) engine.closed.then(() => end(), end);
  }

  /** The engine was closed, or has failed with an error: so is the socket. */
  #engineEnded(error?: Error): void {
    if (this.#handle === null) return;
    this.close();
    if (error !== undefined) process.nextTick(() => this.emit("error", error));
  }

  #onceListening(callback: () => void): void {
    const remove = (): void => {
      this.removeListener("error", remove);
      this.removeListener("listening", listening);
    };
    const listening = (): void => {
      remove();
      callback.call(this);
    };
    this.on("error", remove);
    this.on("listening", listening);
  }

  #whenBound(action: () => void): void {
    if (this.#waiting === null) {
      const forget = (): void => {
        this.removeListener("listening", go);
        this.#waiting = null;
      };
      const go = (): void => {
        this.removeListener(errorMonitor, forget);
        const waiting = this.#waiting ?? [];
        this.#waiting = null;
        for (const next of waiting) next();
      };
      this.#waiting = [];
      this.once(errorMonitor, forget);
      this.once("listening", go);
    }
    this.#waiting.push(action);
  }

  #connectTo(port: number, address: string, callback: ConnectCallback | undefined): void {
    if (callback) this.once("connect", callback);
    this.#resolve(address || this.#loopback, (failure, ip) => {
      const handle = this.#handle;
      if (handle === null) return;
      const error = failure ?? this.#join(handle, ip, address, port);
      if (error !== null) this.#connectState = DISCONNECTED;
      process.nextTick(() => {
        if (error === null) {
          this.emit("connect");
        } else if (callback) {
          this.removeListener("connect", callback);
          callback(error);
        } else {
          this.emit("error", error);
        }
      });
    });
  }

  get #any(): string {
    return this.type === "udp4" ? "0.0.0.0" : "::";
  }

  get #loopback(): string {
    return this.type === "udp4" ? "127.0.0.1" : "::1";
  }

  /** Connects to `ip`, which the caller named `address`. Returns why it cannot, or null. */
  #join(handle: Handle, ip: string, address: string, port: number): Error | null {
    const blocked = this.#blocked(ip);
    if (blocked !== null) return blocked;
    const result = handle.connect(ip, port);
    if (result < 0) return errors.operatingAt(result, "connect", address, port);
    this.#connectState = CONNECTED;
    return null;
  }

  #blocked(ip: string): Error | null {
    return this.#options.sendBlockList?.check(ip, isIP(ip) === 4 ? "ipv4" : "ipv6") ? errors.blocked(ip) : null;
  }

  #sendTo(
    bytes: Uint8Array,
    offset: number,
    length: number,
    port: number,
    address: string | undefined,
    callback: SendCallback | undefined,
  ): void {
    const handle = this.#handle;
    if (handle === null) return;
    if (port === 0) {
      this.#outbox.send(bytes, offset, length, 0, null, undefined, callback, false);
      return;
    }
    const name = address || this.#loopback;
    const to = this.#direct && this.#connectState === DISCONNECTED ? handle.destination(name) : null;
    if (to !== null) {
      this.#outbox.send(bytes, offset, length, port, to, address, callback, true);
      return;
    }
    this.#resolve(name, (error, ip) => {
      if (this.#handle === null) return;
      const failure = error ?? this.#blocked(ip);
      const found = failure === null ? handle.destination(ip) : null;
      if (found !== null) this.#outbox.send(bytes, offset, length, port, found, address, callback, false);
      else if (callback)
        process.nextTick(callback, failure ?? errors.operatingAt(-ERRNO.EINVAL, "send", address, port));
      else if (error !== null) process.nextTick(() => this.emit("error", error));
    });
  }
}

/** The engine, for a call that cannot wait until it is started. Throws Error. */
function engineNow(call: string): EngineThread {
  const engine = runningEngine();
  if (engine === null)
    throw new Error(`${call}: no engine runs yet: await defaultEngine() first, or give one to useEngine()`);
  return engine;
}

function succeeded(result: number, syscall: string): void {
  if (result < 0) throw errors.operating(result, syscall);
}

/** Throws what is wrong with a descriptor: that it is no UDP socket, or else ENOTSUP, for an engine cannot adopt one. */
function refuseFd(fd: number): never {
  const type = fdType(fd);
  throw type === "UDP" ? errors.operating(-ERRNO.EOPNOTSUPP, "open") : errors.badFdType(type);
}

/** A socket of `type` or `options`; a listener hears of messages. */
export function createSocket(type: SocketType | SocketOptions, listener?: MessageListener): Socket {
  return new Socket(type, listener);
}

export default { createSocket, Socket };
