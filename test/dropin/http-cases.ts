/**
 * node:http: what a server makes of what comes, told by raw octets both ways and by the events of requests and responses. A case is
 * a server with a handler, and what its peer sends; it ends when the server closes the connection, or `until` has come.
 */

import type { EventEmitter } from "node:events";
import type * as httpModule from "node:http";
import { Duplex, Readable } from "node:stream";

/** A request as servers have it: it has a target. */
export interface Request extends httpModule.IncomingMessage {
  url: string;
  upgrade?: boolean;
  /** Of a class of the program's own. */
  extra?(): string;
}
interface Response extends httpModule.ServerResponse {
  extra?(): string;
}
/** With what its types do not have. */
type Server = httpModule.Server & { httpAllowHalfOpen?: boolean };
type Note = (...what: unknown[]) => void;

/** Sent in turn: text as latin1; a number is a pause of so many milliseconds; "FIN" and "RST" alone end the peer's side. */
export type Play = readonly (string | number)[];

interface HttpCase {
  options?: object;
  /** @param note notes what happened */
  handler?: (request: Request, response: Response, note: Note, server: Server) => unknown;
  prepare?: (server: Server, note: Note) => void;
  play: Play;
  /** The peer closes when this has come. */
  until?: string;
}

const get = (target = "/", ...fields: string[]): string =>
  `GET ${target} HTTP/1.1\r\nHost: x\r\n${fields.map((line) => `${line}\r\n`).join("")}\r\n`;
const last = (target = "/"): string => get(target, "Connection: close");
const post = (...fields: string[]): string => get("/", ...fields).replace("GET", "POST");
const chunked = (...fields: string[]): string => post("Transfer-Encoding: chunked", ...fields);

async function bodyOf(request: Request): Promise<string> {
  let body = "";
  for await (const piece of request.setEncoding("latin1")) body += piece;
  return body;
}

/** All that a request says. */
async function tell(request: Request, response: Response): Promise<void> {
  const body = await bodyOf(request);
  const { complete, headers, headersDistinct, httpVersion, method, rawHeaders, rawTrailers, trailers, url } = request;
  const said = {
    method,
    url,
    httpVersion,
    headers,
    headersDistinct,
    rawHeaders,
    body,
    trailers,
    rawTrailers,
    complete,
  };
  response.end(JSON.stringify(said));
}

const short = (_request: Request, response: Response): unknown => response.end("ok");

const EVENTS = ["aborted", "close", "end", "error", "finish", "pipe", "prefinish", "timeout", "drain"];
function follow(what: string, one: EventEmitter, note: Note): void {
  for (const event of EVENTS)
    one.on(event, (value?: NodeJS.ErrnoException) => note(what, event, value?.code ?? value?.message ?? null));
}

const requests: Record<string, HttpCase> = {
  "requests: what they say": {
    handler: tell,
    play: [get("/a?b=c", "X-A: 1", "x-a:  2 ", "Cookie: a", "Cookie: b"), last()],
  },
  "requests: fields that come twice": {
    handler: tell,
    play: [
      get("/", "Set-Cookie: a", "Set-Cookie: b", "Accept: a", "Accept: b", "Age: 1", "Age: 2", "Connection: close"),
    ],
  },
  "requests: joinDuplicateHeaders": {
    options: { joinDuplicateHeaders: true },
    handler: tell,
    play: [get("/", "Age: 1", "Age: 2", "Connection: close")],
  },
  "requests: HTTP/1.0": { handler: tell, play: ["GET / HTTP/1.0\r\n\r\n"] },
  "requests: HTTP/1.0 that stays": {
    handler: (_request, response) => response.end("ok"),
    play: ["GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"],
  },
  "requests: an absolute target, an asterisk": {
    handler: tell,
    play: [get("http://x/y?z"), "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"],
  },
  "requests: empty lines before": { handler: tell, play: ["\r\n\r\n", last()] },
  "requests: empty values, odd octets": {
    handler: tell,
    play: [get("/%7e", "A:", "B: \xe9\xff", "Connection: close")],
  },
  "bodies: by length": { handler: tell, play: [`${post("Content-Length: 5")}12`, 20, `345${last()}`] },
  "bodies: chunked, extensions, trailers": {
    handler: tell,
    play: [`${chunked("Trailer: A")}3;x=y;z="1"\r\nabc\r\nA\r\n0123456789\r\n0\r\nA: 1\r\nB: 2\r\n\r\n`, last()],
  },
  "bodies: several codings": {
    handler: tell,
    play: [`${post("Transfer-Encoding: gzip, chunked", "Connection: close")}1\r\na\r\n0\r\n\r\n`],
  },
  "bodies: nobody reads": { handler: short, play: [`${post("Content-Length: 5")}12345`, 20, last()] },
  "bodies: answered before they have come": { handler: short, play: [post("Content-Length: 5"), 50, "12345", last()] },
  "bodies: large, to a slow reader": {
    handler: async (request, response) => {
      let length = 0;
      for await (const piece of request) {
        length += piece.length;
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      response.end(String(length));
    },
    play: [
      post("Content-Length: 1000000", "Connection: close"),
      ..."x"
        .repeat(10)
        .split("")
        .map((x) => x.repeat(100_000)),
    ],
  },
  "many at once: answers in their order": {
    handler: (request, response) => setTimeout(() => response.end(request.url), request.url === "/1" ? 60 : 10),
    play: [get("/1") + get("/2") + get("/3") + last("/4")],
  },
  "many at once: with bodies": {
    handler: tell,
    play: [`${post("Content-Length: 3")}abc${chunked()}1\r\nz\r\n0\r\n\r\n${last("/end")}`],
  },
  "many at once: some hundred": {
    handler: (request, response) => setTimeout(() => response.end(request.url), 5),
    play: [Array.from({ length: 300 }, (_, i) => get(`/${i}`)).join("") + last("/end")],
  },
};

const responses: Record<string, HttpCase> = {
  "responses: written in pieces": {
    handler: (_request, response) => {
      response.write("one");
      response.write(Buffer.from("two"));
      setTimeout(() => response.end("three", "latin1"), 10);
    },
    play: [last()],
  },
  "responses: piped": {
    handler: (_request, response) => Readable.from(["a", "b", "c"]).pipe(response),
    play: [last()],
  },
  "responses: a request piped back": {
    handler: (request, response) => request.pipe(response),
    play: [`${chunked("Connection: close")}3\r\nabc\r\n0\r\n\r\n`],
  },
  "responses: large, with drain": {
    handler: async (_request, response, note) => {
      const piece = Buffer.alloc(50_000, "x");
      let drains = 0;
      response.setHeader("Content-Length", 2_000_000);
      for (let i = 0; i < 40; i++) {
        if (response.write(piece)) continue;
        drains++;
        await new Promise((resolve) => response.once("drain", resolve));
      }
      note("drained", drains > 0);
      response.end();
    },
    play: [last()],
  },
  "responses: HEAD, 204, 304": {
    handler: (request, response) => {
      response.statusCode = Number(request.url.slice(1));
      response.end("body");
    },
    play: [get("/200").replace("GET", "HEAD"), 10, get("/204"), 10, last("/304")],
  },
  "responses: writeHead": {
    handler: (request, response) => {
      response.setHeader("X-A", "1");
      if (request.url === "/1") response.writeHead(201, "Words", { "x-b": ["2", "3"] });
      else response.writeHead(202, ["X-C", "4", "Content-Length", "2"]);
      response.end("ok");
    },
    play: [get("/1"), 10, last("/2")],
  },
  "responses: fields": {
    handler: (_request, response, note) => {
      response.setHeader("A", "1").setHeader("b", ["2", "3"]);
      response.appendHeader("A", "4");
      response.removeHeader("Date");
      note(response.getHeaderNames(), response.getHeader("a"), response.hasHeader("B"), response.headersSent);
      response.flushHeaders();
      note(response.headersSent);
      try {
        response.setHeader("C", "1");
      } catch (error) {
        note((error as NodeJS.ErrnoException).code);
      }
      for (const [name, value] of [
        ["a b", "1"],
        ["a", "\n"],
        ["a", undefined],
      ] as const) {
        try {
          response.setHeader(name, value as string);
        } catch (error) {
          note((error as NodeJS.ErrnoException).code);
        }
      }
      response.end();
    },
    play: [last()],
  },
  "responses: trailers": {
    handler: (_request, response) => {
      response.writeHead(200, { Trailer: "A" });
      response.write("x");
      response.addTrailers({ A: "1" });
      response.end();
    },
    play: [last()],
  },
  "responses: 100, 102, 103": {
    handler: (_request, response) => {
      response.writeContinue();
      response.writeProcessing();
      response.writeEarlyHints({ link: "</a.css>; rel=preload" });
      response.end("ok");
    },
    play: [last()],
  },
  "responses: after the end": {
    handler: (_request, response, note) => {
      response.on("error", (error: NodeJS.ErrnoException) => note(error.code));
      response.end("ok", () => note("ended"));
      response.write("more");
    },
    play: [last()],
  },
  "responses: order of events": {
    handler: (request, response, note) => {
      follow("request", request, note);
      follow("response", response, note);
      request.resume();
      response.end("ok");
    },
    play: [`${post("Content-Length: 2", "Connection: close")}ab`],
  },
  "responses: order of events, no body": {
    handler: (request, response, note) => {
      follow("request", request, note);
      follow("response", response, note);
      response.end("ok");
    },
    play: [last()],
  },
  "responses: state when they are done": {
    handler: (request, response, note) => {
      response.on("close", () => {
        const { destroyed, finished, headersSent, writableEnded, writableFinished } = response;
        note({ destroyed, finished, headersSent, writableEnded, writableFinished });
        note({ complete: request.complete, destroyed: request.destroyed, aborted: request.aborted });
      });
      response.end("ok");
    },
    play: [last()],
  },
  "responses: classes of one's own": {
    prepare: () => {},
    handler: (request, response) => response.end(`${request.extra?.()} ${response.extra?.()}`),
    play: [last()],
  },
  "connections: how long they stay": { options: { keepAliveTimeout: 100 }, handler: short, play: [get()] },
  "connections: maxRequestsPerSocket": {
    prepare: (server, note) => {
      server.maxRequestsPerSocket = 2;
      server.on("dropRequest", (request: Request) => note("dropped", request.url));
    },
    handler: short,
    play: [get("/1"), 20, get("/2") + get("/3"), 100, "FIN"],
  },
  "connections: maxHeadersCount": {
    prepare: (server) => {
      server.maxHeadersCount = 2;
    },
    handler: tell,
    play: [get("/", "A: 1", "B: 2", "Connection: close")],
  },
  "connections: destroyed by handlers": {
    handler: (request, response, note) => {
      follow("response", response, note);
      request.socket.destroy();
    },
    play: [get()],
  },
  "connections: a response destroyed": {
    handler: (_request, response, note) => {
      follow("response", response, note);
      response.write("part");
      response.destroy();
    },
    play: [get()],
  },
  "connections: the peer goes before the answer": {
    handler: (request, response, note) => {
      follow("request", request, note);
      follow("response", response, note);
      response.write("part");
    },
    play: [get(), 50, "RST", 100],
  },
  "connections: the peer goes within a body": {
    handler: (request, response, note) => {
      follow("request", request, note);
      follow("response", response, note);
      request.resume();
    },
    play: [`${post("Content-Length: 10")}12345`, 50, "RST", 100],
  },
  "connections: the peer ends first": { handler: short, play: [get(), 30, "FIN"] },
  "connections: the peer ends first, httpAllowHalfOpen": {
    prepare: (server) => {
      server.httpAllowHalfOpen = true;
    },
    handler: (_request, response) => setTimeout(() => response.end("late"), 50),
    play: [get(), "FIN"],
  },
  "connections: a server that closes": {
    handler: (_request, response, note, server) => {
      server.close(() => note("closed"));
      response.end("ok");
    },
    play: [last()],
  },
  "connections: closeAllConnections": {
    handler: (_request, response, note, server) => {
      follow("response", response, note);
      response.write("part");
      setTimeout(() => server.closeAllConnections(), 20);
    },
    play: [get()],
  },
  "timeouts: of the server": {
    prepare: (server, note) => {
      server.setTimeout(50, (socket: Duplex) => {
        note("timeout");
        socket.destroy();
      });
    },
    handler: () => {},
    play: [get()],
  },
  "timeouts: of a response": {
    handler: (_request, response, note) =>
      response.setTimeout(50, () => {
        note("timeout");
        response.end("late");
      }),
    play: [last()],
  },
  "timeouts: a slow head": {
    options: { headersTimeout: 100, connectionsCheckingInterval: 50 },
    prepare: (server, note) =>
      server.on("clientError", (error: NodeJS.ErrnoException, socket: Duplex) => {
        note(error.code);
        socket.end("HTTP/1.1 408 Slow\r\n\r\n");
      }),
    handler: short,
    play: ["GET / HTTP/1.1\r\nHost: "],
  },
  "timeouts: a slow body": {
    options: { headersTimeout: 100, requestTimeout: 150, connectionsCheckingInterval: 50 },
    handler: () => {},
    play: [`${post("Content-Length: 10")}123`],
  },
};

const expectations: Record<string, HttpCase> = {
  "expect: 100-continue": {
    handler: tell,
    play: [post("Expect: 100-continue", "Content-Length: 2", "Connection: close"), 30, "ab"],
  },
  "expect: checkContinue": {
    prepare: (server, note) =>
      server.on("checkContinue", (request: Request, response: Response) => {
        note("checked", request.headers.expect);
        response.writeHead(200, { Connection: "close" });
        response.end("no need");
      }),
    play: [post("Expect: 100-continue", "Content-Length: 2")],
  },
  "expect: something else": { handler: short, play: [post("Expect: tea", "Content-Length: 0", "Connection: close")] },
  "expect: checkExpectation": {
    prepare: (server, note) =>
      server.on("checkExpectation", (request: Request, response: Response) => {
        note("checked", request.headers.expect);
        response.end("tea");
      }),
    play: [post("Expect: tea", "Content-Length: 0", "Connection: close")],
  },
  "upgrade: with a listener": {
    prepare: (server, note) =>
      server.on("upgrade", (request: Request, socket: Duplex, head: Buffer) => {
        note(request.method, request.headers.upgrade, String(head), request.upgrade);
        socket.write("HTTP/1.1 101 Switching Protocols\r\n\r\n");
        socket.on("data", (bytes: Buffer) => socket.end(`<${bytes}>`));
      }),
    play: [`${get("/", "Connection: Upgrade", "Upgrade: tea")}head`, 50, "behind"],
  },
  "upgrade: nobody listens": { handler: tell, play: [get("/", "Connection: upgrade, close", "Upgrade: tea")] },
  "CONNECT: with a listener": {
    prepare: (server, note) =>
      server.on("connect", (request: Request, socket: Duplex, head: Buffer) => {
        note(request.url, String(head));
        socket.end("HTTP/1.1 200 OK\r\n\r\n");
      }),
    play: ["CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nhead"],
  },
  "CONNECT: nobody listens": { handler: short, play: ["CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"] },
  "connection: a stream of one's own": {
    handler: (request, response, note, server) => {
      if (request.url === "/inner") {
        response.end("inner");
        return;
      }
      const back: Buffer[] = [];
      const stream = new Duplex({
        read: () => {},
        write: (bytes, _encoding, done) => {
          back.push(bytes);
          done();
        },
      });
      server.emit("connection", stream);
      stream.push(last("/inner"));
      setTimeout(() => {
        note(/^HTTP\/1.1 200 OK\r\n[\s\S]*inner$/.test(String(Buffer.concat(back))));
        response.end("outer");
      }, 100);
    },
    play: [last()],
  },
};

/** What cannot be read, or can be read in two ways. The answer, and what a listener of clientError hears. */
const REFUSED: Record<string, string> = {
  "no version": "GET /\r\n\r\n",
  "no host": "GET / HTTP/1.1\r\n\r\n",
  "HTTP/3.7": "GET / HTTP/3.7\r\n\r\n",
  "an unknown method": "BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
  "bare LF": "GET / HTTP/1.1\nHost: x\n\n",
  "bare CR": "GET / HTTP/1.1\r\nHost: x\rY: z\r\n\r\n",
  "a space before the colon": "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
  "a folded field": get("/", "A: b", " c"),
  "a field without a colon": get("/", "A"),
  "a control octet": get("/", "A: \x01"),
  NUL: get("/", "A: b\0c"),
  "a long head": get("/", ...Array.from({ length: 20 }, () => `A: ${"a".repeat(1000)}`)),
  "a long line": get(`/${"a".repeat(20_000)}`),
  "a length beside chunks": `${post("Content-Length: 3", "Transfer-Encoding: chunked")}0\r\n\r\n`,
  "chunks beside a length": `${post("Transfer-Encoding: chunked", "Content-Length: 3")}0\r\n\r\n`,
  "two lengths": post("Content-Length: 3", "Content-Length: 3"),
  "a list of lengths": post("Content-Length: 3, 3"),
  "a negative length": post("Content-Length: -1"),
  "a length with a sign": post("Content-Length: +1"),
  "a hexadecimal length": post("Content-Length: 0x1"),
  "another coding": post("Transfer-Encoding: gzip"),
  "chunked, then another coding": post("Transfer-Encoding: chunked, gzip"),
  "a coding that is nearly chunked": post("Transfer-Encoding: xchunked"),
  "a size that is no number": `${chunked()}zz\r\n`,
  "a size with a sign": `${chunked()}+1\r\na\r\n0\r\n\r\n`,
  "a size with 0x": `${chunked()}0x1\r\na\r\n0\r\n\r\n`,
  "an enormous size": `${chunked()}fffffffffffffffff\r\n`,
  "a size line that ends in LF": `${chunked()}1\na\r\n0\r\n\r\n`,
  "a chunk that is longer than its size": `${chunked()}1\r\nab\r\n0\r\n\r\n`,
  TLS: "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1",
};
const refused: Record<string, HttpCase> = Object.fromEntries(
  Object.entries(REFUSED).map(([name, text]) => [`refused: ${name}`, { handler: () => {}, play: [text, 100, "FIN"] }]),
);

export const httpCases: Record<string, HttpCase> = { ...requests, ...responses, ...expectations, ...refused };
