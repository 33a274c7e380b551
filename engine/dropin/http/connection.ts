/**
 * One connection of an HTTP server: its octets become requests, and the responses to them leave in their order. Requests and
 * responses are objects of the runtime's node:http, so that a program finds all of their contract; what they stand on is ours.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { Body } from "../../http/body.ts";
import { COMPLETE, INCOMPLETE } from "../../http/head.ts";
import { LF } from "../../http/octets.ts";
import { type Consumer, Socket } from "../net/socket.ts";
import * as errors from "./errors.ts";
import type { ServedHead } from "./served-head.ts";

/** What a connection needs of its server: the fields are those of node:http's Server. */
export interface ConnectionServer {
  readonly timeout: number;
  readonly keepAliveTimeout: number;
  readonly keepAliveTimeoutBuffer: number;
  readonly maxHeadersCount: number | null;
  readonly maxRequestsPerSocket: number;
  readonly requireHostHeader: boolean;
  readonly joinDuplicateHeaders: boolean | undefined;
  readonly httpAllowHalfOpen: boolean;
  readonly optimizeEmptyRequests: boolean;
  readonly messages: Messages;
  readonly connections: Set<HttpConnection>;
  shouldUpgradeCallback(request: IncomingMessage): boolean;
  emit(event: string, ...values: unknown[]): boolean;
  listenerCount(event: string): number;
}

/** What requests and responses are made by, and how much of a head there may be. */
export interface Messages {
  readonly IncomingMessage: typeof IncomingMessage;
  readonly ServerResponse: new (request: IncomingMessage, options: object) => ServerResponse;
  readonly rejectNonStandardBodyWrites: boolean;
  /** Octets of a head, and of trailers. */
  readonly maxHeaderSize: number;
  readonly head: ServedHead;
}

/** What of the runtime's classes is not in their types. */
interface Incoming extends IncomingMessage {
  _consuming: boolean;
  _dumped: boolean;
  _eventsCount: number;
  readonly _readableState: { readonly ended: boolean };
  joinDuplicateHeaders: boolean;
  upgrade: boolean;
  _read(): void;
  _dump(): void;
  _dumpAndCloseReadable(): void;
  _addHeaderLines(raw: string[], count: number): void;
}
interface Outgoing extends Omit<ServerResponse, "req" | "socket"> {
  readonly req: Incoming;
  socket: object | null;
  destroyed: boolean;
  maxRequestsOnConnectionReached: boolean;
  readonly _last: boolean;
  _closed: boolean;
  readonly _headerSent: boolean;
  readonly outputSize: number;
  _keepAliveTimeout: number;
  _maxRequestsPerSocket: number;
  _onPendingData(count: number): void;
  _flush(): void;
}
type Served = Duplex & {
  [CONNECTION]?: HttpConnection;
  _httpMessage?: Outgoing | null;
  setTimeout?(ms: number): unknown;
  destroySoon?(): void;
};

const CONNECTION = Symbol("lcore.http.connection");
/** Responses that wait for their turn: with more, no further request is looked at. */
const WAITING_MAX = 64;
/** Octets of the buffer that a head in parts begins with. */
const HEAD_START = 1024;
const CONTINUE = /(?:^|\W)100-continue(?:$|\W)/i;

const HEAD = 0;
const BODY = 1;
/** Nothing that comes is looked at any more. */
const OVER = 2;

export class HttpConnection implements Consumer {
  readonly socket: Served;
  /** When the message in hand began, milliseconds of performance.now(); 0: there is none. */
  since = performance.now();
  /** Its head has come. */
  hasHead = false;

  private readonly server: ConnectionServer;
  private readonly head: ServedHead;
  /** What its responses are made with. */
  private readonly responseOptions: object;
  private body: Body | null = null;
  private state = HEAD;
  /** A head that has come in part. */
  private held: Buffer | null = null;
  private heldCount = 0;
  /** What has come while it was paused. */
  private rest: Buffer | null = null;
  /** The request whose body is coming. */
  private reading: Incoming | null = null;
  /** Requests that have not been answered, in their order, and the responses that wait. */
  private readonly incoming: Incoming[] = [];
  private readonly outgoing: Outgoing[] = [];
  private pendingBytes = 0;
  private requests = 0;
  private taking = false;
  private idles = false;
  /** A body's reader is behind. */
  private readerIsFull = false;
  private readonly listeners: readonly (readonly [event: string, heard: (...values: never[]) => void])[];

  constructor(server: ConnectionServer, socket: Duplex) {
    this.server = server;
    this.head = server.messages.head;
    this.socket = socket as Served;
    this.responseOptions = {
      highWaterMark: socket.writableHighWaterMark,
      rejectNonStandardBodyWrites: server.messages.rejectNonStandardBodyWrites,
    };
    this.socket[CONNECTION] = this;
    server.connections.add(this);
    if (server.timeout > 0) this.socket.setTimeout?.(server.timeout);
    this.listeners = [
      ["error", (error: Error) => this.failed(error)],
      ["end", () => this.ended()],
      ["close", () => this.closed()],
      ["drain", () => this.drained()],
      ["timeout", () => this.timedOut()],
    ];
    for (const [event, heard] of this.listeners) socket.on(event, heard as () => void);
    if (socket instanceof Socket) {
      socket.consume(this);
      socket.resume();
    } else socket.on("data", this.onData);
  }

  private readonly onData = (bytes: Buffer): void => this.take(bytes, bytes.length);

  get isPaused(): boolean {
    return this.rest !== null || this.readerIsFull;
  }

  /** Neither a request is coming, nor is one to be answered. */
  get isIdle(): boolean {
    return this.since === 0 && this.incoming.length === 0 && this.state !== OVER;
  }

  // ---- what comes ----

  take(bytes: Buffer, count: number): void {
    if (this.rest !== null) {
      this.rest = Buffer.concat([this.rest, bytes.subarray(0, count)]);
      return;
    }
    this.taking = true;
    this.run(bytes, count);
    // What was held back may have had its turn meanwhile.
    for (let rest = this.takeRest(); rest !== null; rest = this.takeRest()) this.run(rest, rest.length);
    this.taking = false;
  }

  private run(bytes: Buffer, count: number): void {
    for (let at = 0; at < count && this.state !== OVER; ) {
      if (this.state === BODY) at = this.takeBody(bytes, at, count);
      else if (this.isFull) {
        this.rest = Buffer.from(bytes.subarray(at, count));
        this.readMore(false);
        return;
      } else at = this.held === null ? this.takeHead(bytes, at, count) : this.completeHead(bytes, at, count);
    }
  }

  /** What is held back, when it may go on. */
  private takeRest(): Buffer | null {
    const { rest } = this;
    if (rest === null || (this.isFull && this.state !== OVER)) return null;
    this.rest = null;
    if (!this.readerIsFull) this.readMore(true);
    return rest;
  }

  /** As many responses wait, or as many octets of them, as may. */
  private get isFull(): boolean {
    const { outgoing, pendingBytes, socket } = this;
    if (outgoing.length >= WAITING_MAX || socket.writableNeedDrain) return true;
    return pendingBytes > 0 && pendingBytes >= socket.writableHighWaterMark;
  }

  private goOn(): void {
    if (this.rest === null || this.taking || this.isFull) return;
    const rest = this.takeRest();
    if (rest !== null) this.take(rest, rest.length);
  }

  private readMore(on: boolean): void {
    const { socket } = this;
    if (socket instanceof Socket) socket.readMore(on);
    else if (on) socket.resume();
    else socket.pause();
  }

  /** As a rule a head has come as a whole. Where the next octets to look at are. */
  private takeHead(bytes: Buffer, at: number, count: number): number {
    const { head } = this;
    const status = head.parse(bytes, at, count);
    if (status === COMPLETE) {
      const { end } = head;
      this.begin(bytes, end, count);
      return end;
    }
    if (status !== INCOMPLETE) return this.refuse(bytes.subarray(at, count), count);
    this.since = performance.now();
    this.hasHead = false;
    return this.hold(bytes, at, count);
  }

  /** More of a head of which a part is held. */
  private completeHead(bytes: Buffer, at: number, count: number): number {
    const before = this.heldCount;
    const next = this.hold(bytes, at, count);
    const { head } = this;
    const { heldCount } = this;
    const held = this.held as Buffer;
    // Without the end of a line there is nothing new to judge, but that a line has become too long.
    if (!hasLineEnd(held, before, heldCount) && before >> 10 === heldCount >> 10) return next;
    const status = head.parse(held, 0, heldCount);
    if (status === INCOMPLETE) return next;
    this.held = null;
    this.heldCount = 0;
    if (status !== COMPLETE) return this.refuse(held.subarray(0, heldCount), count);
    const end = at + head.end - before;
    this.begin(held, head.end, heldCount, bytes.subarray(end, count));
    return end;
  }

  /** Copies what has come of a head behind what is held: all, or as much as a head may be long. */
  private hold(bytes: Buffer, at: number, count: number): number {
    const { heldCount } = this;
    const most = this.server.messages.maxHeaderSize;
    const taken = Math.min(count - at, most - heldCount);
    let { held } = this;
    if (held === null || held.length < heldCount + taken) {
      let room = held?.length ?? HEAD_START;
      while (room < heldCount + taken) room *= 2;
      const larger = Buffer.allocUnsafeSlow(room);
      held?.copy(larger, 0, 0, heldCount);
      this.held = larger;
      held = larger;
    }
    bytes.copy(held, heldCount, at, at + taken);
    this.heldCount = heldCount + taken;
    return at + taken;
  }

  private takeBody(bytes: Buffer, at: number, count: number): number {
    const body = this.body as Body;
    const next = body.next(bytes, at, count);
    const { dataFrom, dataTo } = body;
    const request = this.reading as Incoming;
    if (dataTo > dataFrom && !request._dumped && !request.destroyed) {
      // The octets are copied: these are another's soon.
      if (!request.push(Buffer.from(bytes.subarray(dataFrom, dataTo)))) this.readerIsBehind();
    }
    if (body.broken) return this.refuse(bytes.subarray(at, count), count, errors.chunk());
    if (!body.pending) this.endBody(request, body);
    return next;
  }

  private readerIsBehind(): void {
    this.readerIsFull = true;
    this.readMore(false);
  }

  /** A body's reader wants more. */
  private readOn(): void {
    if (!this.readerIsFull) return;
    this.readerIsFull = false;
    if (this.rest === null) this.readMore(true);
  }

  private endBody(request: Incoming, body: Body): void {
    const { trailers } = body;
    this.state = HEAD;
    this.reading = null;
    this.since = 0;
    this.readOn();
    if (trailers.length > 2) {
      const bytes = Buffer.from(trailers);
      const fields = bytes.length - 2;
      if (this.head.parseFields(bytes, 0, fields) !== COMPLETE) {
        this.refuse(bytes, 0);
        return;
      }
      request.complete = true;
      this.addFields(request, this.head.raw(bytes.toString("latin1", 0, fields), 0));
    }
    request.complete = true;
    if (!request.destroyed) request.push(null);
  }

  // ---- requests ----

  /** A head has come: bytes[.., end), of which count are there; `behind`: what has come after it, where that lies elsewhere. */
  private begin(bytes: Buffer, end: number, count: number, behind: Buffer | null = null): void {
    const { head, server, socket } = this;
    const { messages } = server;
    const request = this.request(bytes, end);
    if ((head.upgrades && head.hasUpgrade) || head.method === "CONNECT") {
      if (this.upgrades(request)) {
        this.upgrade(request, behind ?? Buffer.from(bytes.subarray(end, count)));
        return;
      }
    }
    const { close, contentLength, expects, hosts, minor } = head;
    const hasBody = contentLength !== 0;
    if (hasBody) this.expectBody(request, contentLength);
    else this.since = 0;
    this.hasHead = true;
    const response = new messages.ServerResponse(request, this.responseOptions) as unknown as Outgoing;
    response._keepAliveTimeout = server.keepAliveTimeout;
    response._maxRequestsPerSocket = server.maxRequestsPerSocket;
    response.shouldKeepAlive = !close;
    response.on("finish", onFinish);
    if (this.idles) this.isBusy();
    this.incoming.push(request);
    if (socket._httpMessage) this.queue(response);
    else this.assign(response);
    try {
      this.handle(request, response, minor === 1, expects, hosts);
    } catch (error) {
      // An uncaught exception, as from any callback; the connection goes on.
      process.nextTick(rethrow, error);
    }
    if (hasBody || this.state === OVER) return;
    request.complete = true;
    if (server.optimizeEmptyRequests) request._dumpAndCloseReadable();
    // Nobody will ever ask it for anything: it is done with its response.
    else if (!(response.finished && request._eventsCount === 0 && !request._consuming)) request.push(null);
  }

  private request(bytes: Buffer, end: number): Incoming {
    const { head, server, socket } = this;
    const { line, minor, target } = head;
    const base = line.from;
    const text = bytes.toString("latin1", base, end);
    const request = new server.messages.IncomingMessage(socket as never) as Incoming;
    request.httpVersionMajor = 1;
    request.httpVersionMinor = minor;
    request.httpVersion = minor === 1 ? "1.1" : "1.0";
    request.method = head.method;
    request.url = text.substring(target.from - base, target.to - base);
    request.upgrade = false;
    if (server.joinDuplicateHeaders) request.joinDuplicateHeaders = true;
    this.addFields(request, head.raw(text, base));
    return request;
  }

  /** The raw ones are all there, of the others as many as the server takes. */
  private addFields(request: Incoming, raw: string[]): void {
    const most = 2 * (this.server.maxHeadersCount ?? 0);
    request._addHeaderLines(raw, most > 0 && most < raw.length ? most : raw.length);
  }

  private handle(request: Incoming, response: Outgoing, is11: boolean, expects: boolean, hosts: number): void {
    const { server } = this;
    const { maxRequestsPerSocket } = server;
    if (is11 && hosts === 0 && server.requireHostHeader) {
      response.writeHead(400, ["Connection", "close"] as never);
      response.end();
      return;
    }
    if (is11 && maxRequestsPerSocket > 0) {
      this.requests++;
      response.maxRequestsOnConnectionReached = maxRequestsPerSocket <= this.requests;
      if (maxRequestsPerSocket < this.requests) {
        server.emit("dropRequest", request, this.socket);
        response.writeHead(503);
        response.end();
        return;
      }
    }
    if (!is11 || !expects) server.emit("request", request, response);
    else this.expect(request, response);
  }

  private expect(request: Incoming, response: Outgoing): void {
    const { server } = this;
    if (CONTINUE.test(request.headers.expect ?? "")) {
      if (server.listenerCount("checkContinue") > 0) server.emit("checkContinue", request, response);
      else {
        response.writeContinue();
        server.emit("request", request, response);
      }
    } else if (server.listenerCount("checkExpectation") > 0) server.emit("checkExpectation", request, response);
    else {
      response.writeHead(417);
      response.end();
    }
  }

  private expectBody(request: Incoming, contentLength: number): void {
    const { maxHeaderSize } = this.server.messages;
    this.body ??= new Body({ body: Number.POSITIVE_INFINITY, trailers: maxHeaderSize, keeps: true });
    this.body.begin(contentLength);
    this.state = BODY;
    this.reading = request;
    if (this.since === 0) this.since = performance.now();
    request._read = readBody;
  }

  private upgrades(request: Incoming): boolean {
    const { head, server } = this;
    // Whoever sends a body besides is to have it read first (RFC 9110, section 7.8): it is answered without the upgrade.
    if (head.method !== "CONNECT" && (head.contentLength !== 0 || !server.shouldUpgradeCallback(request))) return false;
    request.upgrade = true;
    return true;
  }

  /** The connection is another protocol's from here on. */
  private upgrade(request: Incoming, behind: Buffer): void {
    const { server, socket } = this;
    const event = request.method === "CONNECT" ? "connect" : "upgrade";
    this.detach();
    this.incoming.length = 0;
    if (server.listenerCount(event) === 0) {
      socket.destroy();
      return;
    }
    request.complete = true;
    request.push(null);
    (socket as unknown as { readableFlowing: boolean | null }).readableFlowing = null;
    server.emit(event, request, socket, behind);
  }

  private detach(): void {
    const { socket } = this;
    this.state = OVER;
    this.server.connections.delete(this);
    for (const [event, heard] of this.listeners) socket.off(event, heard as () => void);
    socket.off("data", this.onData);
    if (socket instanceof Socket) socket.consume(null);
  }

  // ---- responses ----

  private assign(response: Outgoing): void {
    const { socket } = this;
    socket._httpMessage = response;
    response.socket = socket;
  }

  private queue(response: Outgoing): void {
    response._onPendingData = (count) => {
      this.pendingBytes += count;
    };
    this.outgoing.push(response);
  }

  /** All of a response has been given to the socket. */
  finished(response: Outgoing): void {
    const { outgoing, socket } = this;
    const { req } = response;
    if (this.incoming[0] === req) this.incoming.shift();
    const isClosedAloud = response.listenerCount("close") > 0;
    if (!req._consuming && !req._dumped) {
      // No need to go through a stream's end for nobody.
      if (req.complete && req._eventsCount === 0 && !isClosedAloud) req._dumpAndCloseReadable();
      else {
        if (req.complete && !req._readableState.ended) req.push(null);
        req._dump();
      }
    }
    if (socket._httpMessage === response) socket._httpMessage = null;
    response.socket = null;
    if (isClosedAloud) process.nextTick(emitClose, response);
    else close(response);
    if (response._last) {
      this.state = OVER;
      if (typeof socket.destroySoon === "function") socket.destroySoon();
      else socket.end();
      return;
    }
    const next = outgoing.shift();
    if (next === undefined) this.isIdling();
    else {
      this.assign(next);
      next.emit("socket", socket);
      next._flush();
    }
    this.goOn();
  }

  private isIdling(): void {
    const { keepAliveTimeout, keepAliveTimeoutBuffer } = this.server;
    if (keepAliveTimeout <= 0 || this.socket.setTimeout === undefined) return;
    this.socket.setTimeout(keepAliveTimeout + keepAliveTimeoutBuffer);
    this.idles = true;
  }

  private isBusy(): void {
    this.idles = false;
    this.socket.setTimeout?.(this.server.timeout || 0);
  }

  // ---- events of the socket ----

  /** The server's look at connections that take too long. */
  expire(): void {
    this.failed(errors.timeout());
  }

  /** @param packet what could not be read @returns `next` */
  private refuse(packet: Buffer, next: number, error = errors.parse(this.head.reason)): number {
    this.failed(Object.assign(error, { rawPacket: Buffer.from(packet) }));
    return next;
  }

  private failed(error: Error): void {
    const { server, socket } = this;
    this.state = OVER;
    if (server.emit("clientError", error, socket)) return;
    if (socket.writable && !socket._httpMessage?._headerSent) {
      socket.write(errors.answer(error), "latin1");
    }
    // Whatever was written leaves first.
    if (socket.writable && typeof socket.destroySoon === "function") socket.destroySoon();
    else socket.destroy(error);
  }

  private ended(): void {
    const { outgoing, server, socket } = this;
    if (this.state === OVER) return;
    if (this.state === BODY || this.held !== null) {
      this.failed(errors.ended());
      return;
    }
    if (!server.httpAllowHalfOpen) {
      this.abortIncoming();
      if (socket.writable) socket.end();
      return;
    }
    const last = outgoing.at(-1) ?? socket._httpMessage;
    if (last) (last as { _last: boolean })._last = true;
    else if (socket.writable) socket.end();
  }

  private closed(): void {
    const { outgoing, server, socket } = this;
    server.connections.delete(this);
    this.state = OVER;
    this.rest = null;
    this.held = null;
    this.abortIncoming();
    const { _httpMessage: response } = socket;
    if (response) emitClose(response);
    for (const one of outgoing.splice(0)) emitClose(one);
  }

  /** Requests that will not be answered. */
  private abortIncoming(): void {
    for (const request of this.incoming.splice(0)) request.destroy(errors.aborted());
  }

  private drained(): void {
    const { _httpMessage: response } = this.socket;
    if (response && !response.finished) response._flush();
    this.goOn();
  }

  private timedOut(): void {
    const { server, socket } = this;
    const request = this.incoming[0];
    const heard = [
      request !== undefined && !request.complete && request.emit("timeout", socket),
      socket._httpMessage?.emit("timeout", socket),
      server.emit("timeout", socket),
    ];
    if (!heard.includes(true)) socket.destroy();
  }

  /** Of a request, when its reader wants more. */
  static readOn(socket: Served): void {
    socket[CONNECTION]?.readOn();
  }

  static of(socket: Served): HttpConnection | undefined {
    return socket[CONNECTION];
  }
}

function onFinish(this: Outgoing): void {
  const { socket } = this.req;
  HttpConnection.of(socket as unknown as Served)?.finished(this);
}

function readBody(this: Incoming): void {
  this._consuming = true;
  HttpConnection.readOn(this.socket as unknown as Served);
}

function close(response: Outgoing): boolean {
  if (response._closed) return false;
  response.destroyed = true;
  response._closed = true;
  return true;
}

function emitClose(response: Outgoing): void {
  if (close(response)) response.emit("close");
}

function rethrow(error: unknown): void {
  throw error;
}

function hasLineEnd(bytes: Buffer, from: number, to: number): boolean {
  const at = bytes.indexOf(LF, from);
  return at >= 0 && at < to;
}
