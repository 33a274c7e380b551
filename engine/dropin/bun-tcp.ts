/**
 * `Bun.listen` and `Bun.connect` on an engine. What is not the engine's is the runtime's own, with what it was given as it was
 * given: paths, descriptors, names to listen at, addresses of other interfaces, and options that are not well formed.
 */
import { ERRNO, SysError } from "af-xdp-bindings";
import type { TcpListener } from "../../sockets/stream/tcp-listener.ts";
import type { TcpSocket } from "../../sockets/stream/tcp-socket.ts";
import { formatIp } from "../../sockets/wire/address.ts";
import { type NumericAddress, parseNumeric, resolveRemote } from "./bun-address.ts";
import { connectFailed, listenFailed, notCarried } from "./bun-errors.ts";
import { reload } from "./bun-tcp-arguments.ts";
import { parseTcp, type TcpConfig } from "./bun-tcp-options.ts";
import { TCP_HANDLERS, TCPSocket } from "./bun-tcp-socket.ts";
import { defaultEngine, runningEngine } from "./default-engine.ts";
import { Hold } from "./net/keep-alive.ts";
import type { TcpEngine } from "./tcp-engine.ts";

/** Before lcore/register puts ours in their place. */
const original = { listen: Bun.listen, connect: Bun.connect };

/**
 * Listens, as Bun.listen does: it returns a listener, so that the engine has to run already. Throws what Bun.listen throws, and
 * Error where no engine runs, or for `tls` on the engine.
 */
export function listen<Data = undefined>(options: Bun.TCPSocketListenOptions<Data>): Bun.TCPSocketListener<Data>;
export function listen<Data = undefined>(options: Bun.UnixSocketOptions<Data>): Bun.UnixSocketListener<Data>;
export function listen(options: unknown): unknown {
  const config = parseTcp(options);
  const address = config === null ? null : parseNumeric(config.hostname);
  if (config === null || address === null || isLoopback(address)) return original.listen(options as never);
  const engine = runningEngine();
  if (engine === null) {
    throw new Error(
      "lcore/bun: listen() returns at once and so needs an engine that runs: `await defaultEngine()` before it",
    );
  }
  if (!engine.canListen(formatIp(address.bytes))) return original.listen(options as never);
  if (config.tls) throw notCarried("tls of Bun.listen");
  return new Listener(engine, config, address);
}

/** Connects, as Bun.connect does. Rejects with what that rejects with, and with Error for `tls` on the engine. */
export function connect<Data = undefined>(options: Bun.TCPSocketConnectOptions<Data>): Promise<Bun.Socket<Data>>;
export function connect<Data = undefined>(options: Bun.UnixSocketOptions<Data>): Promise<Bun.Socket<Data>>;
export function connect(options: unknown): Promise<unknown> {
  const config = parseTcp(options);
  const address = config === null ? null : parseNumeric(config.hostname);
  if (config === null || (address !== null && isLoopback(address))) return original.connect(options as never);
  return connectLater(config, address, options);
}

async function connectLater(config: TcpConfig, address: NumericAddress | null, options: unknown): Promise<unknown> {
  const engine = runningEngine() ?? (await defaultEngine());
  const addresses = address !== null ? [address] : await resolveRemote(config.hostname).catch(() => []);
  const texts = addresses.map(({ bytes }) => formatIp(bytes)).filter((text) => engine.canConnect(text));
  if (texts.length === 0) return original.connect(options as never);
  if (config.tls) throw notCarried("tls of Bun.connect");
  for (const text of texts.slice(0, -1)) {
    const opened = await attempt(engine, config, text, false).catch(() => null);
    if (opened !== null) return opened;
  }
  return attempt(engine, config, texts[texts.length - 1], true);
}

/** Connects to an address. @param last whether the handler connectError is told that it could not be */
function attempt(engine: TcpEngine, config: TcpConfig, address: string, last: boolean): Promise<TCPSocket> {
  const { calls, port } = config;
  return new Promise((resolve, reject) => {
    let socket: TCPSocket | null = null;
    const fail = (errno: number): void => {
      const error = connectFailed(errno);
      try {
        if (last) calls.connectError?.(socket, error);
        reject(error);
      } catch (thrown) {
        reject(thrown);
      }
    };
    const handlers = {
      ...TCP_HANDLERS,
      open: (): void => {
        socket?.begin();
        resolve(socket as TCPSocket);
      },
      closed: (underneath: TcpSocket, errno: number): void => {
        if (socket?.isOpen) TCP_HANDLERS.closed?.(underneath, errno);
        else {
          socket?.discard();
          fail(errno);
        }
      },
    };
    if (port === 0) {
      // Nobody can listen on it.
      fail(ERRNO.ECONNREFUSED);
      return;
    }
    try {
      const underneath = engine.connect({ address, port, noDelay: true }, handlers);
      socket = new TCPSocket(underneath, engine, config, address.includes(":") ? 6 : 4);
    } catch (error) {
      if (error instanceof SysError) fail(error.errno);
      else reject(error);
    }
  });
}

class Listener {
  readonly connections = new Set<TCPSocket>();
  readonly #listener: TcpListener;
  readonly #calls: TcpConfig["calls"];
  readonly #hold: Hold;
  readonly #hostname: string;
  readonly #port: number;
  #data: unknown;

  constructor(engine: TcpEngine, config: TcpConfig, { bytes, family }: NumericAddress) {
    const { calls, exclusive, hostname, ipv6Only, port, reusePort } = config;
    this.#data = config.data;
    this.#hostname = hostname;
    this.#calls = calls;
    const version = family === 4 ? 4 : 6;
    const open = (socket: TcpSocket): void => {
      new TCPSocket(socket, engine, { ...config, data: this.#data }, version, this).begin();
    };
    try {
      const where = { address: formatIp(bytes), port, reusePort, reuseAddress: !exclusive };
      const options = { ...where, ipv6Only: ipv6Only && version === 6, noDelay: true };
      this.#listener = engine.listen(options, { ...TCP_HANDLERS, open });
    } catch (error) {
      throw error instanceof SysError ? listenFailed(error.errno, hostname, port) : error;
    }
    this.#hold = new Hold(engine);
    this.#port = this.#listener.address.port;
  }

  get [Symbol.toStringTag](): string {
    return "Listener";
  }

  /** What connections from now on begin with. */
  get data(): unknown {
    return this.#data;
  }

  set data(data: unknown) {
    this.#data = data;
  }

  get hostname(): string {
    return this.#hostname;
  }

  get port(): number {
    return this.#port;
  }

  get unix(): undefined {
    return undefined;
  }

  /** There is none. */
  get fd(): number {
    return -1;
  }

  /** Fills an object with the local address. */
  getsockname(out: Record<string, unknown>): void {
    const { address, family, port } = this.#listener.address;
    Object.assign(out, { family: family === 4 ? "IPv4" : "IPv6", address, port });
  }

  stop(closeActiveConnections = false): void {
    this.#data = undefined;
    this.#hold.end();
    this.#listener.close();
    if (closeActiveConnections) for (const socket of [...this.connections]) socket.close();
  }

  ref(): void {
    this.#hold.ref(true);
  }

  unref(): void {
    this.#hold.ref(false);
  }

  /** New handlers, for the connections there are as well. */
  reload(...args: [options?: { socket?: unknown }]): void {
    reload(this.#calls, args, "object");
  }

  [Symbol.dispose](): void {
    this.stop();
  }
}

/** The engine hears what arrives on an interface: what this host says to itself never does. */
function isLoopback({ bytes, words }: NumericAddress): boolean {
  if (bytes.length === 4) return bytes[0] === 127;
  return (
    words[0] === 0 &&
    words[1] === 0 &&
    ((words[2] === 0 && words[3] === 1) || (words[2] === 0xffff && words[3] >>> 24 === 127))
  );
}
