/**
 * A drop-in for node:tls: the runtime's own TLS over TCP of an engine.
 *
 *   import tls from "lcore/tls"; // was: "node:tls"
 */
import tls from "node:tls";
import { inFront } from "./net/front.ts";
import { type Callback, type ConnectOptions, normalizeArgs, type ServerOptions } from "./net/options.ts";
import { plainOf, showEnds } from "./net/tls-ends.ts";
import { connect as connectTcp } from "./net.ts";

export {
  checkServerIdentity,
  createSecureContext,
  DEFAULT_CIPHERS,
  DEFAULT_ECDH_CURVE,
  DEFAULT_MAX_VERSION,
  DEFAULT_MIN_VERSION,
  getCiphers,
  rootCertificates,
  TLSSocket,
} from "node:tls";
export { closeDefaultEngine, configure, defaultEngine, useEngine } from "./default-engine.ts";

export type SecureListener = (socket: tls.TLSSocket) => void;

const Front = inFront(tls.Server, (server, socket) => {
  server.emit("connection", socket);
});

export class Server extends Front {
  readonly #given: ServerOptions;

  constructor(options?: tls.TlsOptions | SecureListener, listener?: SecureListener) {
    super(options, listener);
    this.#given = typeof options === "object" && options !== null ? (options as ServerOptions) : {};
    this.prependListener("secureConnection", (socket: tls.TLSSocket) => showEnds(socket, plainOf(socket)));
    this.prependListener("tlsClientError", (_error, socket) => plainOf(socket)?.destroy());
  }

  protected override frontOptions(): ServerOptions {
    const { allowHalfOpen, highWaterMark, keepAlive, keepAliveInitialDelay, noDelay, pauseOnConnect } = this.#given;
    return { allowHalfOpen, highWaterMark, keepAlive, keepAliveInitialDelay, noDelay, pauseOnConnect };
  }
}

/** A server; the listener hears of connections that are secure. Throws as node:tls does. */
export function createServer(options?: tls.TlsOptions | SecureListener, listener?: SecureListener): tls.Server {
  return new Server(options, listener) as unknown as tls.Server;
}

/** (options, callback?), (port, host?, options?, callback?), (path, options?, callback?), as tls.connect. */
export function connect(options: tls.ConnectionOptions, callback?: Callback): tls.TLSSocket;
export function connect(
  port: number,
  host?: string,
  options?: tls.ConnectionOptions,
  callback?: Callback,
): tls.TLSSocket;
export function connect(port: number, options?: tls.ConnectionOptions, callback?: Callback): tls.TLSSocket;
export function connect(...args: unknown[]): tls.TLSSocket {
  const [target, callback] = normalizeArgs<ConnectOptions & tls.ConnectionOptions>(args);
  const more = args.slice(1).find((arg) => typeof arg === "object" && arg !== null);
  const options = { ...target, ...(more as tls.ConnectionOptions) };
  const listener = callback ?? undefined;
  if (options.socket !== undefined) return tls.connect(options, listener);
  const socket = connectTcp(options as ConnectOptions);
  const secure = tls.connect({ ...options, socket }, listener);
  showEnds(secure, socket);
  return secure;
}

export default { ...tls, connect, createServer, Server };
