/** The socket of Bun.udpSocket on an engine's socket: what its documentation says, and what Bun 1.4 does beyond it. */
import { drainMicrotasks } from "bun:jsc";
import { ERRNO, sys } from "af-xdp-bindings";
import type { udp } from "bun";
import type { Datagram } from "../../sockets/datagram.ts";
import { SOCKADDR_IN6_BYTES, writeSockaddr } from "../../sockets/sockaddr.ts";
import { AF_INET6, PLACEHOLDER } from "../../sockets/table.ts";
import type { SocketAddress as EngineAddress, UdpSocket } from "../../sockets/udp-socket.ts";
import type { EngineThread } from "../engine.ts";
import { type NumericAddress, parseNumeric } from "./bun-address.ts";
import { callFailed, invalidArgument, networkFailed, socketClosed } from "./bun-errors.ts";
import { type Config, type Handlers, PORT_MAX, parseConfig, portOf } from "./bun-options.ts";
import { bytesOf, isPayload, Payloads } from "./bun-payload.ts";
import { SocketOptions } from "./bun-sockopt.ts";
import { SenderTexts } from "./dgram-address.ts";

/** struct sockaddr_in6: offset of the scope id. */
const SIN6_SCOPE_ID = 24;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;

type Family = 4 | 6;
type Address = Bun.SocketAddress;

export class UDPSocket implements udp.BaseUDPSocket {
  readonly #engine: EngineThread;
  readonly #socket: UdpSocket;
  readonly #family: Family;
  readonly #connected: boolean;
  readonly #options: SocketOptions;
  readonly #payloads: Payloads;
  readonly #senders: SenderTexts;
  #config: Config;
  #handlers: Handlers = { data: null, drain: null, error: null };
  #closed = false;
  /** Properties, from the first look on: the original remembers them, beyond close() too. */
  #hostname: string | null = null;
  #binaryType: Bun.BinaryType | null = null;
  #port: number | undefined;
  #address: Address | undefined;
  #remoteAddress: Address | undefined;

  /** Begins to receive at the next turn of the event loop. @param socket bound, and connected if `config` says so */
  constructor(engine: EngineThread, socket: UdpSocket, family: Family, config: Config) {
    this.#engine = engine;
    this.#socket = socket;
    this.#family = family;
    this.#connected = config.connect !== null;
    this.#config = config;
    this.#payloads = new Payloads(config.kind);
    this.#senders = new SenderTexts(family, engine.link?.name ?? "");
    this.#options = new SocketOptions(socket, family);
    this.#options.reportErrors();
    this.#adopt(config);
    socket.onError = () => this.#takeErrors();
    socket.onWritable = () => this.#drain();
    setImmediate(() => this.#begin());
  }

  get hostname(): string {
    this.#hostname ??= this.#config.hostname;
    return this.#hostname;
  }

  get binaryType(): Bun.BinaryType {
    this.#binaryType ??= this.#payloads.kind as Bun.BinaryType;
    return this.#binaryType;
  }

  get port(): number {
    if (this.#port === undefined && !this.closed) this.#port = this.#socket.port;
    return this.#port as number;
  }

  get address(): Address {
    if (this.#address === undefined && !this.closed) this.#address = this.#textOf(this.#socket.address);
    return this.#address as Address;
  }

  get remoteAddress(): Address | undefined {
    if (this.#remoteAddress === undefined && !this.closed) {
      const remote = this.#socket.remoteAddress;
      if (remote !== null) this.#remoteAddress = this.#textOf(remote);
    }
    return this.#remoteAddress;
  }

  /** Closed by close(), or with the engine. */
  get closed(): boolean {
    return this.#closed || !this.#engine.running;
  }

  send(data: udp.Data, port?: number, address?: string): boolean {
    if (this.closed) throw socketClosed();
    // biome-ignore lint/complexity/noArguments: how many were given counts, and rest parameters are an array a call
    const given = arguments.length;
    if (this.#connected) {
      if (given !== 1) throw notOneArgument(given);
      if (!isPayload(data)) throw notAPayload("first argument");
      const bytes = bytesOf(data);
      return sent(this.#socket.sendConnected(bytes, 0, bytes.length));
    }
    if (given < 3) throw invalidArgument(`Expected 3 arguments, got ${given}`);
    const to = destinationPort(port);
    const destination = destinationAddress(address);
    if (!isPayload(data)) throw notAPayload("first argument");
    return sent(this.#sendTo(bytesOf(data), to, destination));
  }

  sendMany(...args: [packets: readonly (udp.Data | string | number)[]]): number {
    if (this.closed) throw socketClosed();
    if (args.length < 1) throw invalidArgument("Expected 1 argument, got 0");
    const [packets] = args;
    if (!Array.isArray(packets)) throw invalidArgument("Expected first argument to be a array for 'sendMany'.");
    return this.#connected ? this.#sendAll(packets) : this.#sendEach(packets);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.close();
    forget(this.#engine, this);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  ref(): void {
    if (!this.closed) this.#socket.ref();
  }

  unref(): void {
    if (!this.closed) this.#socket.unref();
  }

  /** Handlers that are not given stay; the rest of the options is checked, and counts for nothing but `binaryType`. */
  reload(...args: [options: unknown]): void {
    if (args.length < 1) throw invalidArgument("Expected 1 argument");
    const config = parseConfig(args[0]);
    this.#config = config;
    this.#payloads.kind = config.kind;
    this.#adopt(config);
  }

  setBroadcast(...args: [enabled: boolean]): boolean {
    this.#expect(1, args);
    this.#options.broadcast(Boolean(args[0]));
    return args[0];
  }

  setMulticastLoopback(...args: [enabled: boolean]): boolean {
    this.#expect(1, args);
    this.#options.multicastLoopback(Boolean(args[0]));
    return args[0];
  }

  setTTL(...args: [ttl: number]): number {
    const ttl = this.#number(args);
    this.#options.ttl(ttl);
    return ttl;
  }

  setMulticastTTL(...args: [ttl: number]): number {
    const ttl = this.#number(args);
    this.#options.multicastTtl(ttl);
    return ttl;
  }

  setMulticastInterface(...args: [interfaceAddress: string]): boolean {
    return this.#options.multicastInterface(this.#texts(1, args)[0]);
  }

  addMembership(...args: [multicastAddress: string, interfaceAddress?: string]): boolean {
    this.#options.membership(true, this.#texts(1, args));
    return true;
  }

  dropMembership(...args: [multicastAddress: string, interfaceAddress?: string]): boolean {
    this.#options.membership(false, this.#texts(1, args));
    return true;
  }

  addSourceSpecificMembership(...args: [source: string, group: string, interfaceAddress?: string]): boolean {
    this.#options.sourceMembership(true, this.#texts(2, args));
    return true;
  }

  dropSourceSpecificMembership(...args: [source: string, group: string, interfaceAddress?: string]): boolean {
    this.#options.sourceMembership(false, this.#texts(2, args));
    return true;
  }

  /** The engine has failed, and the socket with it. */
  engineFailed(error: Error): void {
    if (this.#closed) return;
    this.close();
    this.#fail(error);
  }

  #begin(): void {
    if (this.closed) return;
    this.#socket.onDatagram = (datagram) => this.#receive(datagram);
    // The original's poll finds a new socket writable.
    this.#drain();
  }

  #receive(datagram: Datagram): void {
    const { data } = this.#handlers;
    if (data === null) return;
    const payload = this.#payloads.of(datagram);
    const { sourcePort } = datagram;
    const address = this.#senders.of(datagram);
    datagram.release();
    const flags = { truncated: false, ipv6: this.#family === 6 };
    try {
      this.#config.context(data, this, payload, sourcePort, address, flags);
    } catch (error) {
      this.#fail(error);
    }
    // Each call is a task of its own: what it has promised is done before the next one.
    drainMicrotasks();
  }

  #drain(): void {
    const { drain } = this.#handlers;
    if (drain === null || this.closed) return;
    try {
      this.#config.context(drain, this);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** What a handler has thrown. */
  #fail(error: unknown): void {
    const handler = this.#handlers.error;
    if (handler === null) {
      reportError(error);
      return;
    }
    try {
      this.#config.context(handler, error);
    } catch (second) {
      reportError(second);
    }
  }

  /** What the network has reported. */
  #takeErrors(): void {
    for (let entry = this.#socket.receiveError(); entry !== null; entry = this.#socket.receiveError()) {
      const error = networkFailed(entry.errno);
      if (this.#handlers.error !== null || process.listenerCount("uncaughtException") > 0) this.#fail(error);
      else complain(error);
      if (this.closed) return;
    }
    // It was the first entry's.
    this.#socket.takeError();
  }

  #adopt({ handlers }: Config): void {
    for (const name of ["data", "drain", "error"] as const) {
      const handler = handlers[name];
      if (handler !== null) this.#handlers[name] = handler.bind(this);
    }
  }

  #sendTo(bytes: Uint8Array, port: number, { family, words, zone }: NumericAddress): number {
    // What the arguments were converted with may have closed it.
    if (this.#closed) throw socketClosed();
    if (family === 6 && this.#family === 4) return -ERRNO.EAFNOSUPPORT;
    if (zone !== "") return this.#sendScoped(bytes, port, words, zone);
    return this.#socket.sendTo(bytes, 0, bytes.length, port, words[0], words[1], words[2], words[3]);
  }

  /** To a link-local address by way of the interface that its zone names: the kernel's affair. */
  #sendScoped(bytes: Uint8Array, port: number, words: Int32Array, zone: string): number {
    const { endpoint, id } = this.#socket;
    const fd = endpoint.table.get(id, PLACEHOLDER);
    const index = this.#options.zoneIndex(zone);
    const [w0, w1, w2, w3] = words;
    if (index === 0 || fd < 0) return this.#socket.sendTo(bytes, 0, bytes.length, port, w0, w1, w2, w3);
    const sockaddr = new Uint8Array(SOCKADDR_IN6_BYTES);
    const view = new DataView(sockaddr.buffer);
    const length = writeSockaddr(view, AF_INET6, w0, w1, w2, w3, port);
    view.setUint32(SIN6_SCOPE_ID, index, true);
    const to = sys.addressOf(sockaddr);
    return sys.sendto(fd, sys.transientAddressOf(bytes), bytes.length, MSG_DONTWAIT | MSG_NOSIGNAL, to, length);
  }

  /**
   * sendMany of a connected socket: payloads. More than may be under way at once leave in parts; a call of the kernel's
   * has sent when it returns.
   */
  #sendAll(payloads: readonly unknown[]): number {
    for (const payload of payloads) if (!isPayload(payload)) throw notAPayload("payload");
    for (let i = 0; i < payloads.length; i++) {
      const bytes = bytesOf(payloads[i]);
      let result = this.#socket.sendConnected(bytes, 0, bytes.length);
      if (result === -ERRNO.EAGAIN && this.#socket.awaitRoom()) {
        result = this.#socket.sendConnected(bytes, 0, bytes.length);
      }
      if (result < 0) return stopped(i, result);
    }
    return payloads.length;
  }

  /** sendMany of an unconnected one: payload, port and address in turn. */
  #sendEach(packets: readonly unknown[]): number {
    if (packets.length % 3 !== 0) throw invalidArgument("Expected 3 arguments for each packet");
    const count = packets.length / 3;
    const ports = new Uint16Array(count);
    const destinations: NumericAddress[] = [];
    for (let i = 0; i < count; i++) {
      if (!isPayload(packets[3 * i])) throw notAPayload("payload");
      ports[i] = destinationPort(packets[3 * i + 1]);
      destinations.push(destinationAddress(packets[3 * i + 2]));
    }
    if (this.#closed) throw socketClosed();
    for (let i = 0; i < count; i++) {
      const bytes = bytesOf(packets[3 * i]);
      let result = this.#sendTo(bytes, ports[i], destinations[i]);
      if (result === -ERRNO.EAGAIN && this.#socket.awaitRoom()) result = this.#sendTo(bytes, ports[i], destinations[i]);
      if (result < 0) return stopped(i, result);
    }
    return count;
  }

  #textOf({ address, port, family }: EngineAddress): Address {
    if (this.#family === 4) return { address, family: "IPv4", port };
    return { address: family === 4 ? `::ffff:${address}` : address, family: "IPv6", port };
  }

  #expect(count: number, args: readonly unknown[]): void {
    if (this.closed) throw callFailed(ERRNO.EBADF, "setsockopt");
    if (args.length >= count) return;
    throw invalidArgument(`Expected ${count} argument${count === 1 ? "" : "s"}, got ${args.length}`);
  }

  /** The first argument as an int32. */
  #number(args: readonly unknown[]): number {
    this.#expect(1, args);
    const value = Number(args[0]) | 0;
    if (this.#closed) throw socketClosed();
    return value;
  }

  #texts(count: number, args: readonly unknown[]): string[] {
    this.#expect(count, args);
    return args.map((arg) => `${arg as string}`);
  }
}

Object.defineProperty(UDPSocket.prototype, Symbol.toStringTag, { value: "UDPSocket", configurable: true });

/** Open sockets of each engine: when it fails, they hear of it. */
const sockets = new WeakMap<EngineThread, Set<UDPSocket>>();

/** @param failed resolves with what an engine failed with, when it has not been heard of yet */
export function remember(
  engine: EngineThread,
  socket: UDPSocket,
  failure: (engine: EngineThread) => Promise<Error>,
): void {
  const open = sockets.get(engine);
  if (open !== undefined) {
    open.add(socket);
    return;
  }
  const first = new Set([socket]);
  sockets.set(engine, first);
  void failure(engine).then((error) => {
    for (const one of [...first]) one.engineFailed(error);
  });
}

function forget(engine: EngineThread, socket: UDPSocket): void {
  sockets.get(engine)?.delete(socket);
}

/** An error that nobody handles, and that does not end the program: it is printed, and the exit status tells. */
function complain(error: Error): void {
  console.error(error);
  process.exitCode ??= 1;
}

function destinationPort(port: unknown): number {
  if (typeof port === "number" && port >= 1 && port <= PORT_MAX && Math.trunc(port) === port) return port;
  return portOf(port, "port", 1);
}

function destinationAddress(address: unknown): NumericAddress {
  const numeric = parseNumeric(typeof address === "string" ? address : `${address as string}`);
  if (numeric === null) throw invalidArgument("Invalid address");
  return numeric;
}

/** Whether a datagram was taken; false where there is no room for it now. Throws what is wrong with it. */
function sent(result: number): boolean {
  if (result >= 0) return true;
  if (isFull(result)) return false;
  throw callFailed(-result, "send");
}

/** What sendMany() returns that stopped at packet `at`: an error of a later packet than the first is not told. */
function stopped(at: number, result: number): number {
  if (at > 0 || isFull(result)) return at;
  throw callFailed(-result, "send");
}

/** Transient: the original tries again when the socket is writable. */
function isFull(result: number): boolean {
  return result === -ERRNO.EAGAIN || result === -ERRNO.ENOBUFS || result === -ERRNO.ENOMEM;
}

function notOneArgument(given: number): Error {
  return invalidArgument(
    given > 2 ? "Cannot specify destination on connected socket" : `Expected 1 argument, got ${given}`,
  );
}

const notAPayload = (where: string): Error => invalidArgument(`Expected ArrayBufferView or string as ${where}`);
