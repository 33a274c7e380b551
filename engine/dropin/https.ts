/**
 * A drop-in for node:https: the runtime's own HTTP over its own TLS over TCP of an engine.
 *
 *   import https from "lcore/https"; // was: "node:https"
 */
import type http from "node:http";
import type { RequestListener } from "node:http";
import type * as node from "node:https";
import type { Duplex } from "node:stream";
import type { ConnectionOptions, SecureContextOptions, Server as TlsServer } from "node:tls";
import { type RequestArgs, requestBy } from "./http.ts";
import { inFront } from "./net/front.ts";
import type { ServerOptions } from "./net/options.ts";
import { plainOf, showEnds } from "./net/tls-ends.ts";
import { callable, original } from "./originals.ts";
import { connect } from "./tls.ts";

export { closeDefaultEngine, configure, defaultEngine, useEngine } from "./default-engine.ts";

const https = original("node:https");
const tls = original("node:tls");

const SESSION_EVENTS = ["keylog", "newSession", "resumeSession", "OCSPRequest"];

/** The TLS of each server: it is given connections as they come, and gives them on when they are secure. */
const secured = new WeakMap<object, TlsServer>();

const Front = inFront(https.Server, (server, socket) => {
  secured.get(server)?.emit("connection", socket);
});

class HttpsServer extends Front {
  readonly #given: node.ServerOptions;
  readonly #tls: TlsServer;

  constructor(options?: node.ServerOptions | RequestListener, listener?: RequestListener) {
    super(options, listener);
    this.#given = typeof options === "object" && options !== null ? options : {};
    const { ALPNCallback, ALPNProtocols } = this.#given;
    const protocols = ALPNProtocols === undefined && ALPNCallback === undefined ? { ALPNProtocols: ["http/1.1"] } : {};
    this.#tls = tls.createServer({ ...this.#given, ...protocols });
    secured.set(this, this.#tls);
    this.#tls.on("secureConnection", (socket) => {
      showEnds(socket, plainOf(socket));
      this.emit("secureConnection", socket);
      this.emit("connection", socket);
    });
    this.#tls.on("tlsClientError", (error, socket) => {
      plainOf(socket)?.destroy();
      this.emit("tlsClientError", error, socket);
    });
    // Whoever listens for these has to answer: nobody does for us.
    this.on("newListener", (event: string, heard: (...values: unknown[]) => void) => {
      if (SESSION_EVENTS.includes(event)) this.#tls.on(event, heard);
    });
  }

  setSecureContext(options: SecureContextOptions): void {
    this.#tls.setSecureContext(options);
  }

  addContext(hostname: string, context: SecureContextOptions): void {
    this.#tls.addContext(hostname, context);
  }

  protected override frontOptions(): ServerOptions {
    const { keepAlive, keepAliveInitialDelay, noDelay = true } = this.#given;
    return { allowHalfOpen: true, noDelay, keepAlive, keepAliveInitialDelay };
  }
}

export const Server = callable(HttpsServer);
export type Server = HttpsServer;

/** Throws as node:https does. */
export function createServer(options?: node.ServerOptions | RequestListener, listener?: RequestListener): node.Server {
  return new Server(options, listener) as unknown as node.Server;
}

export class Agent extends https.Agent {
  /** One connection of those it keeps. */
  override createConnection(options: ConnectionOptions, callback?: (error: Error | null, stream: Duplex) => void) {
    const socket = connect(options);
    callback?.(null, socket);
    return socket;
  }
}

export const globalAgent = new Agent({ keepAlive: true, timeout: 5000 });

type Options = node.RequestOptions;
type Answered = (response: http.IncomingMessage) => void;

export function request(options: Options, callback?: Answered): http.ClientRequest;
export function request(url: string | URL, options: Options, callback?: Answered): http.ClientRequest;
export function request(url: string | URL, callback?: Answered): http.ClientRequest;
export function request(...args: unknown[]): http.ClientRequest {
  return requestBy(globalAgent, args as RequestArgs);
}

export function get(options: Options, callback?: Answered): http.ClientRequest;
export function get(url: string | URL, options: Options, callback?: Answered): http.ClientRequest;
export function get(url: string | URL, callback?: Answered): http.ClientRequest;
export function get(...args: unknown[]): http.ClientRequest {
  const sent = requestBy(globalAgent, args as RequestArgs);
  sent.end();
  return sent;
}

export default { ...https, Agent, createServer, get, globalAgent, request, Server };
