/** http.Server: a net.Server of the engine whose connections speak HTTP. What it says, does and refuses is node:http's. */
import type * as node from "node:http";
import type { IncomingMessage, RequestListener } from "node:http";
import type { Duplex } from "node:stream";
import type { ServerOptions } from "../net/options.ts";
import { Server as NetServer } from "../net/server.ts";
import { original } from "../originals.ts";
import { type ConnectionServer, HttpConnection, type Messages } from "./connection.ts";
import * as errors from "./errors.ts";
import { ServedHead } from "./served-head.ts";

const http = original("node:http");

/** Options of node:http, and of Bun's, that there is nothing for here. */
const NOT_THERE: Record<string, string> = {
  insecureHTTPParser: "requests that can be read in two ways are refused",
  uniqueHeaders: "set such headers to one string",
  cert: "use lcore/https",
  key: "use lcore/https",
  pfx: "use lcore/https",
  ca: "use lcore/https",
  tls: "use lcore/https",
};

/** What node:http gives its net.Server. */
interface Given extends node.ServerOptions {
  highWaterMark?: number;
  insecureHTTPParser?: boolean;
}

/** Fields of a server of the runtime's, in which it keeps what it was given, checked, and the defaults. */
interface Settings {
  timeout: number;
  keepAliveTimeout: number;
  keepAliveTimeoutBuffer: number;
  headersTimeout: number;
  requestTimeout: number;
  connectionsCheckingInterval: number;
  requireHostHeader: boolean;
  joinDuplicateHeaders: boolean | undefined;
  rejectNonStandardBodyWrites: boolean;
  maxHeaderSize: number | undefined;
}

export class HttpServer extends NetServer implements ConnectionServer {
  timeout: number;
  keepAliveTimeout: number;
  keepAliveTimeoutBuffer: number;
  headersTimeout: number;
  requestTimeout: number;
  maxHeadersCount: number | null = null;
  maxRequestsPerSocket = 0;
  httpAllowHalfOpen = false;
  readonly connectionsCheckingInterval: number;
  readonly requireHostHeader: boolean;
  readonly joinDuplicateHeaders: boolean | undefined;
  readonly rejectNonStandardBodyWrites: boolean;
  readonly maxHeaderSize: number | undefined;
  readonly optimizeEmptyRequests: boolean;
  shouldUpgradeCallback: (request: IncomingMessage) => boolean;
  declare readonly messages: Messages;
  declare readonly connections: Set<HttpConnection>;
  #looking: ReturnType<typeof setInterval> | undefined = undefined;

  /** Throws what node:http's throws for options that are wrong, and TypeError for those that are not there. */
  constructor(options?: Given | RequestListener | null, listener?: RequestListener) {
    const given: Given = typeof options === "object" && options !== null ? options : {};
    // What it refuses, and the defaults, are the runtime's own.
    const checked = new http.Server((typeof options === "function" ? {} : options) as Given) as unknown as Settings;
    for (const [name, why] of Object.entries(NOT_THERE)) {
      const value = (given as Record<string, unknown>)[name];
      if (value !== undefined && value !== null && value !== false) throw errors.notThere(name, why);
    }
    super(frontOptions(given));
    this.timeout = checked.timeout;
    this.keepAliveTimeout = checked.keepAliveTimeout;
    this.keepAliveTimeoutBuffer = checked.keepAliveTimeoutBuffer;
    this.headersTimeout = checked.headersTimeout;
    this.requestTimeout = checked.requestTimeout;
    this.connectionsCheckingInterval = checked.connectionsCheckingInterval;
    this.requireHostHeader = checked.requireHostHeader;
    this.joinDuplicateHeaders = checked.joinDuplicateHeaders;
    this.rejectNonStandardBodyWrites = checked.rejectNonStandardBodyWrites;
    this.maxHeaderSize = checked.maxHeaderSize;
    const { IncomingMessage, ServerResponse, optimizeEmptyRequests, shouldUpgradeCallback } = given as Given & {
      optimizeEmptyRequests?: boolean;
      shouldUpgradeCallback?: (request: IncomingMessage) => boolean;
    };
    this.optimizeEmptyRequests = optimizeEmptyRequests ?? false;
    this.shouldUpgradeCallback = shouldUpgradeCallback ?? (() => this.listenerCount("upgrade") > 0);
    const maxHeaderSize = this.maxHeaderSize || http.maxHeaderSize;
    const messages: Messages = {
      IncomingMessage: (IncomingMessage ?? http.IncomingMessage) as typeof http.IncomingMessage,
      ServerResponse: (ServerResponse ?? http.ServerResponse) as unknown as Messages["ServerResponse"],
      rejectNonStandardBodyWrites: this.rejectNonStandardBodyWrites,
      maxHeaderSize,
      head: new ServedHead(maxHeaderSize),
    };
    hide(this, "messages", messages);
    hide(this, "connections", new Set<HttpConnection>());
    this.on("connection", (socket: Duplex) => void new HttpConnection(this, socket));
    this.on("listening", () => this.#look());
    const handler = typeof options === "function" ? options : listener;
    if (handler !== undefined && handler !== null) this.on("request", handler);
  }

  override close(callback?: (error?: Error) => void): this {
    clearInterval(this.#looking);
    this.closeIdleConnections();
    return super.close(callback);
  }

  closeAllConnections(): void {
    for (const { socket } of [...this.connections]) socket.destroy();
  }

  /** Those that neither send a request nor wait for an answer. */
  closeIdleConnections(): void {
    for (const connection of [...this.connections]) if (connection.isIdle) connection.socket.destroy();
  }

  setTimeout(msecs?: number | (() => void), callback?: () => void): this {
    this.timeout = msecs as number;
    if (typeof callback === "function") this.on("timeout", callback);
    return this;
  }

  /** Requests that take too long are looked for now and then. */
  #look(): void {
    clearInterval(this.#looking);
    this.#looking = setInterval(() => this.#expire(), this.connectionsCheckingInterval);
    this.#looking.unref();
  }

  #expire(): void {
    const { headersTimeout, requestTimeout } = this;
    if (headersTimeout === 0 && requestTimeout === 0) return;
    const now = performance.now();
    for (const connection of [...this.connections]) {
      const { hasHead, since } = connection;
      if (since === 0) continue;
      const late = !hasHead && headersTimeout > 0 && now - since >= headersTimeout;
      if (late || (requestTimeout > 0 && now - since >= requestTimeout)) connection.expire();
    }
  }
}

/** Not among what a program sees when it prints a server. */
function hide(server: object, name: string, value: unknown): void {
  Object.defineProperty(server, name, { value });
}

function frontOptions({ highWaterMark, keepAlive, keepAliveInitialDelay, noDelay = true }: Given): ServerOptions {
  return { allowHalfOpen: true, noDelay, keepAlive, keepAliveInitialDelay, highWaterMark };
}
