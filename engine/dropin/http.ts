/**
 * A drop-in for node:http: the runtime's own HTTP over TCP of an engine.
 *
 *   import http from "lcore/http"; // was: "node:http"
 *
 * Requests, responses and agents are those of node:http; what is ours is where servers listen and agents connect.
 */
import http, { type RequestListener } from "node:http";
import type { Duplex } from "node:stream";
import { urlToHttpOptions } from "node:url";
import { inFront } from "./net/front.ts";
import type { ConnectOptions, ServerOptions } from "./net/options.ts";
import { connect } from "./net.ts";

export {
  ClientRequest,
  IncomingMessage,
  METHODS,
  maxHeaderSize,
  OutgoingMessage,
  ServerResponse,
  STATUS_CODES,
  setMaxIdleHTTPParsers,
  validateHeaderName,
  validateHeaderValue,
} from "node:http";
export { closeDefaultEngine, configure, defaultEngine, useEngine } from "./default-engine.ts";

/** What node:http gives its net.Server: keepAlive options besides. */
interface Given {
  noDelay?: boolean;
  keepAlive?: boolean;
  keepAliveInitialDelay?: number;
  highWaterMark?: number;
}

const Front = inFront(http.Server, (server, socket) => {
  socket.gatherWrites();
  server.emit("connection", socket);
});

export class Server extends Front {
  readonly #given: Given;

  constructor(options?: http.ServerOptions | RequestListener, listener?: RequestListener) {
    super(options, listener);
    this.#given = typeof options === "object" && options !== null ? options : {};
  }

  protected override frontOptions(): ServerOptions {
    const { highWaterMark, keepAlive, keepAliveInitialDelay, noDelay = true } = this.#given;
    return { allowHalfOpen: true, noDelay, keepAlive, keepAliveInitialDelay, highWaterMark };
  }
}

/** Throws as node:http does. */
export function createServer(options?: http.ServerOptions | RequestListener, listener?: RequestListener): http.Server {
  return new Server(options, listener) as unknown as http.Server;
}

export class Agent extends http.Agent {
  /** One connection of those it keeps. */
  override createConnection(options: http.ClientRequestArgs, callback?: (error: Error | null, stream: Duplex) => void) {
    const socket = connect(options as ConnectOptions);
    if (options.timeout) socket.setTimeout(options.timeout);
    callback?.(null, socket);
    return socket;
  }
}

export const globalAgent = new Agent({ keepAlive: true, timeout: 5000 });

type Options = http.RequestOptions;
type Answered = (response: http.IncomingMessage) => void;
export type RequestArgs = [url: string | URL | Options, ...rest: unknown[]];

/** A request by an agent of ours where none is named, from (url, options?, callback?) or (options, callback?). */
export function requestBy(agent: http.Agent, [first, ...rest]: RequestArgs): http.ClientRequest {
  let options: http.RequestOptions = {};
  if (typeof first === "string") options = urlToHttpOptions(new URL(first)) as http.RequestOptions;
  else if (first instanceof URL) options = urlToHttpOptions(first) as http.RequestOptions;
  else rest.unshift(first);
  if (typeof rest[0] === "object" && rest[0] !== null) Object.assign(options, rest.shift());
  const [callback] = rest as [((response: http.IncomingMessage) => void)?];
  return new http.ClientRequest({ ...options, _defaultAgent: agent } as http.ClientRequestArgs, callback);
}

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

export default { ...http, Agent, createServer, get, globalAgent, request, Server };
