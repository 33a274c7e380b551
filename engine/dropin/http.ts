/**
 * A drop-in for node:http: HTTP over TCP of an engine.
 *
 *   import http from "lcore/http"; // was: "node:http"
 *
 * Requests, responses and agents are objects of node:http. Ours are the server with what its connections make of octets (http/), and
 * where agents connect.
 */
import type * as node from "node:http";
import type { RequestListener } from "node:http";
import type { Duplex } from "node:stream";
import { urlToHttpOptions } from "node:url";
import { HttpServer } from "./http/server.ts";
import type { ConnectOptions } from "./net/options.ts";
import { connect } from "./net.ts";
import { callable, original } from "./originals.ts";

export { closeDefaultEngine, configure, defaultEngine, useEngine } from "./default-engine.ts";

const http = original("node:http");
export const {
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
} = http;
export type ClientRequest = node.ClientRequest;
export type IncomingMessage = node.IncomingMessage;
export type OutgoingMessage = node.OutgoingMessage;
export type ServerResponse = node.ServerResponse;

export const Server = callable(HttpServer);
export type Server = HttpServer;

/** Throws as node:http does. */
export function createServer(options?: node.ServerOptions | RequestListener, listener?: RequestListener): node.Server {
  return new Server(options, listener) as unknown as node.Server;
}

export class Agent extends http.Agent {
  /** One connection of those it keeps. */
  override createConnection(options: node.ClientRequestArgs, callback?: (error: Error | null, stream: Duplex) => void) {
    const socket = connect(options as ConnectOptions);
    if (options.timeout) socket.setTimeout(options.timeout);
    callback?.(null, socket);
    return socket;
  }
}

export const globalAgent = new Agent({ keepAlive: true, timeout: 5000 });

type Options = node.RequestOptions;
type Answered = (response: IncomingMessage) => void;
export type RequestArgs = [url: string | URL | Options, ...rest: unknown[]];

/** A request by an agent of ours where none is named, from (url, options?, callback?) or (options, callback?). */
export function requestBy(agent: node.Agent, [first, ...rest]: RequestArgs): ClientRequest {
  let options: node.RequestOptions = {};
  if (typeof first === "string") options = urlToHttpOptions(new URL(first)) as node.RequestOptions;
  else if (first instanceof URL) options = urlToHttpOptions(first) as node.RequestOptions;
  else rest.unshift(first);
  if (typeof rest[0] === "object" && rest[0] !== null) Object.assign(options, rest.shift());
  const [callback] = rest as [((response: IncomingMessage) => void)?];
  return new http.ClientRequest({ ...options, _defaultAgent: agent } as node.ClientRequestArgs, callback);
}

export function request(options: Options, callback?: Answered): ClientRequest;
export function request(url: string | URL, options: Options, callback?: Answered): ClientRequest;
export function request(url: string | URL, callback?: Answered): ClientRequest;
export function request(...args: unknown[]): ClientRequest {
  return requestBy(globalAgent, args as RequestArgs);
}

export function get(options: Options, callback?: Answered): ClientRequest;
export function get(url: string | URL, options: Options, callback?: Answered): ClientRequest;
export function get(url: string | URL, callback?: Answered): ClientRequest;
export function get(...args: unknown[]): ClientRequest {
  const sent = requestBy(globalAgent, args as RequestArgs);
  sent.end();
  return sent;
}

export default { ...http, Agent, createServer, get, globalAgent, request, Server };
