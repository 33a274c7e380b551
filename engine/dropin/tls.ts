/**
 * A drop-in for node:tls: the runtime's own TLS over TCP of an engine.
 *
 *   import tls from "lcore/tls"; // was: "node:tls"
 */
import type * as node from "node:tls";
import { inFront } from "./net/front.ts";
import { type Callback, type ConnectOptions, normalizeArgs, type ServerOptions } from "./net/options.ts";
import { plainOf, showEnds } from "./net/tls-ends.ts";
import { connect as connectTcp } from "./net.ts";
import { callable, original } from "./originals.ts";

export { closeDefaultEngine, configure, defaultEngine, useEngine } from "./default-engine.ts";

const tls = original("node:tls");
export const {
  checkServerIdentity,
  createSecureContext,
  DEFAULT_CIPHERS,
  DEFAULT_ECDH_CURVE,
  DEFAULT_MAX_VERSION,
  DEFAULT_MIN_VERSION,
  getCiphers,
  rootCertificates,
  TLSSocket,
} = tls;
export type TLSSocket = node.TLSSocket;

export type SecureListener = (socket: node.TLSSocket) => void;

const Front = inFront(tls.Server, (server, socket) => {
  server.emit("connection", socket);
});

class TlsServer extends Front {
  readonly #given: ServerOptions;

  constructor(options?: node.TlsOptions | SecureListener, listener?: SecureListener) {
    super(options, listener);
    this.#given = typeof options === "object" && options !== null ? (options as ServerOptions) : {};
    this.prependListener("secureConnection", (socket: node.TLSSocket) => showEnds(socket, plainOf(socket)));
    this.prependListener("tlsClientError", (_error, socket) => plainOf(socket)?.destroy());
  }

  protected override frontOptions(): ServerOptions {
    const { allowHalfOpen, highWaterMark, keepAlive, keepAliveInitialDelay, noDelay, pauseOnConnect } = this.#given;
    return { allowHalfOpen, highWaterMark, keepAlive, keepAliveInitialDelay, noDelay, pauseOnConnect };
  }
}

export const Server = callable(TlsServer);
export type Server = TlsServer;

/** A server; the listener hears of connections that are secure. Throws as node:tls does. */
export function createServer(options?: node.TlsOptions | SecureListener, listener?: SecureListener): node.Server {
  return new Server(options, listener) as unknown as node.Server;
}

/** (options, callback?), (port, host?, options?, callback?), (path, options?, callback?), as tls.connect. */
export function connect(options: node.ConnectionOptions, callback?: Callback): node.TLSSocket;
export function connect(
  port: number,
  host?: string,
  options?: node.ConnectionOptions,
  callback?: Callback,
): node.TLSSocket;
export function connect(port: number, options?: node.ConnectionOptions, callback?: Callback): node.TLSSocket;
export function connect(...args: unknown[]): node.TLSSocket {
  const [target, callback] = normalizeArgs<ConnectOptions & node.ConnectionOptions>(args);
  const more = args.slice(1).find((arg) => typeof arg === "object" && arg !== null);
  const options = { ...target, ...(more as node.ConnectionOptions) };
  const listener = callback ?? undefined;
  if (options.socket !== undefined) return tls.connect(options, listener);
  const socket = connectTcp(options as ConnectOptions);
  const secure = tls.connect({ ...options, socket }, listener);
  showEnds(secure, socket);
  return secure;
}

export default { ...tls, connect, createServer, Server };
