/** The socket of Bun.listen and Bun.connect on a connection of an engine's: what its documentation says, and what Bun 1.4 does. */
import { drainMicrotasks } from "bun:jsc";
import { ERRNO } from "af-xdp-bindings";
import type { TcpHandlers, TcpSocket } from "../../sockets/stream/tcp-socket.ts";
import { OPTIONS } from "../../sockets/tcp/sockopts.ts";
import type { SocketAddress } from "../../sockets/text-address.ts";
import { callFailed, notCarried, outOfRange } from "./bun-errors.ts";
import type { AnyFunction } from "./bun-options.ts";
import { dataOf, reload } from "./bun-tcp-arguments.ts";
import type { TcpCalls } from "./bun-tcp-options.ts";
import { Hold } from "./net/keep-alive.ts";
import type { TcpEngine } from "./tcp-engine.ts";

const SHUT_WR = 1;
/** The most bytes of one call of `data`, as in the original (LIBUS_RECV_BUFFER_LENGTH). */
const DATA_BYTES_MAX = 512 * 1024;
const CLOSED = -1;
const CONNECTING = 0;
const OPEN = 1;
const TIMER_MAX_MS = 2 ** 31 - 1;
/** The longest text that is encoded where it need not be allocated for. */
const SCRATCH_BYTES = 65_536;
const TEXT_CHARS_MAX = SCRATCH_BYTES / 3;
/** Of one thread, used within one call. */
const scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES);

const socketOf = (socket: TcpSocket): TCPSocket => socket.data as TCPSocket;

/** Of connections to a listener; of those that connect() begins, with an `open` of its own. */
export const TCP_HANDLERS: TcpHandlers = {
  readable: (socket) => socketOf(socket).pull(),
  ended: (socket) => socketOf(socket).pull(),
  writable: (socket) => socketOf(socket).writable(),
  closed: (socket, errno) => socketOf(socket).over(errno),
};

/** What a socket needs of the listener that it came from. */
export interface Accepting {
  connections: Set<TCPSocket>;
}

export class TCPSocket {
  data: unknown;
  readonly listener: (Accepting & object) | undefined;
  bytesWritten = 0;
  readonly #socket: TcpSocket;
  readonly #calls: TcpCalls;
  readonly #allowHalfOpen: boolean;
  readonly #hold: Hold;
  /** IPv4 addresses of a socket of both families are shown mapped. */
  readonly #family: 4 | 6;
  #readyState = CONNECTING;
  #paused = false;
  /** The peer sends no more, and that has been told. */
  #ended = false;
  /** shutdown() was called: its end is not told then, as in the original. */
  #shut = false;
  /** end() has more than there was room for: what was taken is sent, then it closes. */
  #ending = false;
  /** A write found too little room: `drain` is to be told. */
  #wantsRoom = false;
  /** errno with which the connection has ended, 0: in good order; -1: it has not. */
  #endErrno = -1;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    socket: TcpSocket,
    engine: TcpEngine,
    { allowHalfOpen, calls, data }: { allowHalfOpen: boolean; calls: TcpCalls; data: unknown },
    family: 4 | 6,
    listener?: Accepting & object,
  ) {
    this.#socket = socket;
    this.#calls = calls;
    this.#allowHalfOpen = allowHalfOpen;
    this.#family = family;
    this.#hold = new Hold(engine);
    this.data = data;
    this.listener = listener;
    socket.data = this;
    listener?.connections.add(this);
  }

  get [Symbol.toStringTag](): string {
    return "TCPSocket";
  }

  get readyState(): number {
    return this.#readyState;
  }

  /** There is none. */
  get fd(): number {
    return -1;
  }

  get localAddress(): string | undefined {
    return this.#local?.address;
  }

  get localPort(): number | undefined {
    return this.#local?.port;
  }

  get localFamily(): string | undefined {
    return this.#local && familyName(this.#family);
  }

  get remoteAddress(): string | undefined {
    return this.#remote?.address;
  }

  get remotePort(): number | undefined {
    return this.#remote?.port;
  }

  get remoteFamily(): string | undefined {
    return this.#remote && familyName(this.#family);
  }

  get authorized(): boolean {
    return false;
  }

  get alpnProtocol(): false {
    return false;
  }

  /** Bytes taken; -1 when it is closed, or was shut down. */
  write(data?: unknown, byteOffset?: unknown, byteLength?: unknown): number {
    if (typeof data === "string" && byteOffset === undefined) return this.#writeText(data);
    return this.#write(dataOf(data, byteOffset, byteLength, "write"));
  }

  /** Sends, then closes. What finds no room is lost, as in the original. */
  end(data?: unknown, byteOffset?: unknown, byteLength?: unknown): number {
    const bytes = dataOf(data, byteOffset, byteLength, "end");
    const taken = this.#write(bytes);
    if (taken >= 0 && taken < bytes.length) this.#ending = true;
    else this.close();
    return taken;
  }

  close(): void {
    this.#finish(undefined, false);
  }

  terminate(): void {
    this.#finish(undefined, true);
  }

  /** @param halfClose whether the peer's end is told, should it come */
  shutdown(halfClose?: boolean): void {
    if (this.#readyState === CLOSED) return;
    this.#socket.shutdown(SHUT_WR);
    this.#shut = !halfClose;
  }

  /** `data`, and the end, wait until resume(). */
  pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.#drainSoon();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#drainSoon();
    setImmediate(() => this.pull());
  }

  /** Whatever is taken is sent at once. */
  flush(): void {}

  /** `timeout` is called after so many seconds; 0: no more. Throws for less. */
  timeout(seconds?: unknown): void {
    const after = Number(seconds) | 0;
    if (after < 0) throw new Error("Timeout must be a positive integer");
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (after > 0 && this.#readyState === OPEN) {
      this.#timer = setTimeout(() => this.#tell(this.#calls.timeout), Math.min(after * 1000, TIMER_MAX_MS)).unref();
    }
  }

  setNoDelay(noDelay: unknown = true): boolean {
    return this.#option(OPTIONS.TCP_NODELAY, noDelay ? 1 : 0);
  }

  /** @param initialDelay milliseconds before the first probe */
  setKeepAlive(enable: unknown = false, initialDelay: unknown = 0): boolean {
    const delay = Number(initialDelay);
    if (delay < 0) throw outOfRange("initialDelay", Number.MAX_SAFE_INTEGER, delay);
    const seconds = Math.trunc(delay / 1000);
    if (enable && seconds > 0) this.#option(OPTIONS.TCP_KEEPIDLE, seconds);
    return this.#option(OPTIONS.SO_KEEPALIVE, enable ? 1 : 0);
  }

  getTypeOfService(): number {
    return this.#readyState === OPEN ? this.#socket.getOption(OPTIONS.IP_TOS) : 0;
  }

  ref(): void {
    this.#hold.ref(true);
  }

  unref(): void {
    this.#hold.ref(false);
  }

  /** New handlers, for all connections of its listener. */
  reload(...args: [options?: { socket?: unknown }]): void {
    reload(this.#calls, args, "option");
  }

  [Symbol.dispose](): void {
    this.close();
  }

  upgradeTLS(): never {
    throw notCarried("upgradeTLS");
  }

  get isOpen(): boolean {
    return this.#readyState === OPEN;
  }

  /** It never was open: the handler `close` is not told. */
  discard(): void {
    this.#readyState = CLOSED;
    this.#hold.end();
    this.#socket.close();
  }

  /** It is open from now on. */
  begin(): void {
    this.#readyState = OPEN;
    const { open } = this.#calls;
    if (open === null) return;
    try {
      open(this);
    } catch (error) {
      this.#fail(error);
      this.close();
    }
    drainMicrotasks();
  }

  /** Hands over what has come, and then its end. */
  pull(): void {
    while (this.#readyState === OPEN && !this.#paused && !this.#ended) {
      const data = this.#read();
      if (data === null) break;
      this.#tellOf(this.#calls.data, data);
    }
    if (this.#endErrno > 0 || (this.#endErrno === 0 && !this.#paused)) this.#over();
  }

  /** There is room again. */
  writable(): void {
    if (this.#ending) this.close();
    else if (this.#wantsRoom) this.#drain();
  }

  /** Both directions are over; what has come before is read first. */
  over(errno: number): void {
    if (this.#readyState === CLOSED) return;
    this.#endErrno = errno;
    this.pull();
  }

  // ---- inside ----

  get #local(): SocketAddress | undefined {
    return this.#readyState === OPEN ? this.#shown(this.#socket.localAddress) : undefined;
  }

  get #remote(): SocketAddress | undefined {
    return this.#readyState === OPEN ? this.#shown(this.#socket.remoteAddress) : undefined;
  }

  #shown(end: SocketAddress): SocketAddress {
    return this.#family === 6 && end.family === 4 ? { ...end, address: `::ffff:${end.address}` } : end;
  }

  /** What has come, in memory of its own; null: nothing, or the end, which is told then. */
  #read(): unknown {
    const socket = this.#socket;
    const ready = Math.min(socket.getOption(OPTIONS.TCP_INQ), DATA_BYTES_MAX);
    if (ready <= 0) {
      if (socket.endTold) this.#peerEnded();
      return null;
    }
    const { kind } = this.#calls;
    const bytes = kind === "buffer" ? Buffer.allocUnsafeSlow(ready) : new Uint8Array(ready);
    const count = socket.read(bytes, 0, ready);
    if (count !== ready) return count > 0 ? bytes.slice(0, count) : null;
    return kind === "arraybuffer" ? bytes.buffer : bytes;
  }

  #peerEnded(): void {
    this.#ended = true;
    if (!this.#shut) this.#tell(this.#calls.end);
    if (!this.#allowHalfOpen || this.#shut) this.close();
    else this.#drainSoon();
  }

  #over(): void {
    const errno = this.#endErrno;
    this.#finish(errno === 0 ? undefined : callFailed(errno, "read"), false);
  }

  #writeText(text: string): number {
    if (text.length > TEXT_CHARS_MAX) return this.#write(Buffer.from(text));
    return this.#put(scratch, scratch.write(text));
  }

  #write(bytes: Uint8Array): number {
    return this.#put(bytes, bytes.length);
  }

  #put(bytes: Uint8Array, length: number): number {
    if (this.#readyState !== OPEN || this.#ending) return -1;
    if (length === 0) return 0;
    const taken = this.#socket.write(bytes, 0, length, 0);
    if (taken === -ERRNO.EAGAIN) {
      this.#wantsRoom = true;
      return 0;
    }
    if (taken < 0) return -1;
    this.#wantsRoom = taken < length;
    this.bytesWritten += taken;
    return taken;
  }

  #option(option: number, value: number): boolean {
    return this.#readyState === OPEN && this.#socket.setOption(option, value) >= 0;
  }

  #finish(error: Error | undefined, reset: boolean): void {
    if (this.#readyState === CLOSED) return;
    this.#readyState = CLOSED;
    clearTimeout(this.#timer);
    this.#hold.end();
    if (reset) this.#socket.abort();
    else this.#socket.close();
    this.listener?.connections.delete(this);
    this.#tellOf(this.#calls.close, error);
  }

  /** The original's poll finds a socket writable whenever it is asked anew. */
  #drainSoon(): void {
    if (this.#calls.drain !== null) setImmediate(() => this.#drain());
  }

  #drain(): void {
    this.#wantsRoom = false;
    if (this.#readyState === OPEN) this.#tell(this.#calls.drain);
  }

  /** Calls a handler; what it throws the handler `error` is told, or else nobody catches it. */
  #tell(call: AnyFunction | null): void {
    if (call === null) return;
    try {
      call(this);
    } catch (error) {
      this.#fail(error);
    }
    // Each call is a task of its own: what it has promised is done before the next one.
    drainMicrotasks();
  }

  #tellOf(call: AnyFunction | null, argument: unknown): void {
    if (call === null) return;
    try {
      call(this, argument);
    } catch (error) {
      this.#fail(error);
    }
    drainMicrotasks();
  }

  #fail(error: unknown): void {
    const { error: handler } = this.#calls;
    if (handler === null) {
      reportError(error);
      return;
    }
    try {
      handler(this, error);
    } catch (second) {
      reportError(second);
    }
  }
}

const familyName = (family: 4 | 6): string => (family === 4 ? "IPv4" : "IPv6");

/** What a socket that has no TLS says when it is asked about it. */
const WITHOUT_TLS: Record<string, unknown> = {
  disableRenegotiation: undefined,
  exportKeyingMaterial: undefined,
  getAuthorizationError: null,
  getCertificate: undefined,
  getCipher: undefined,
  getEphemeralKeyInfo: null,
  getPeerCertificate: null,
  getServername: undefined,
  getSession: undefined,
  getSharedSigalgs: undefined,
  getTLSFinishedMessage: undefined,
  getTLSPeerFinishedMessage: undefined,
  getTLSTicket: undefined,
  getTLSVersion: null,
  isSessionReused: false,
  renegotiate: undefined,
  setMaxSendFragment: false,
  setServername: undefined,
  setSession: undefined,
  setVerifyMode: undefined,
};
for (const [name, value] of Object.entries(WITHOUT_TLS)) {
  Object.defineProperty(TCPSocket.prototype, name, { value: () => value, configurable: true, writable: true });
}
