/**
 * What lcore/http makes of octets, whatever the pieces they come in: over a connection of an engine's, whose octets are read where they
 * lie, and over a stream of somebody else's.
 */
import { describe, expect, test } from "bun:test";
import type { IncomingMessage } from "node:http";
import { Duplex } from "node:stream";
import fc from "fast-check";
import http from "../../engine/dropin/http.ts";
import { EngineHandle, STREAM_HANDLERS } from "../../engine/dropin/net/engine-handle.ts";
import { Socket } from "../../engine/dropin/net/socket.ts";
import type { TcpEngine } from "../../engine/dropin/tcp-engine.ts";
import { TcpSocket } from "../../sockets/stream/tcp-socket.ts";
import { FakeEnd } from "../http/fake-end.ts";

type Way = "engine" | "stream";

const get = (target: string, ...fields: string[]): string =>
  `GET ${target} HTTP/1.1\r\nHost: x\r\n${fields.map((line) => `${line}\r\n`).join("")}\r\n`;
const post = (...fields: string[]): string => get("/", ...fields).replace("GET", "POST");
const LAST = get("/last", "Connection: close");

const GOOD = [
  get("/"),
  get("/a?b", "A: b", "a:  c ", "X:"),
  "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
  `\r\n${get("/empty-line-before")}`,
  get("/head").replace("GET", "HEAD"),
  `${post("Content-Length: 5")}12345`,
  `${post("Content-Length: 0")}`,
  `${post("Transfer-Encoding: chunked")}3;x=y\r\nabc\r\n00A \t;z\r\n0123456789\r\n0\r\nT: u\r\nV: w\r\n\r\n`,
  `${post("Transfer-Encoding: gzip,", "Transfer-Encoding: Chunked")}1\r\na\r\n0\r\n\r\n`,
  get("/", "Expect: 100-continue"),
  get("/", ...Array.from({ length: 150 }, (_, i) => `F${i}: ${i}`)),
];
const BAD = [
  "BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
  "GET /\r\n\r\n",
  "GET / HTTP/1.1\nHost: x\n\n",
  "GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
  "GET x HTTP/1.1\r\nHost: x\r\n\r\n",
  get("/", "A : b"),
  get("/", "A: b", " c"),
  get("/", "Host: y"),
  get("/", `A: ${"a".repeat(17_000)}`),
  post("Content-Length: 3", "Transfer-Encoding: chunked"),
  post("Content-Length: 3", "Content-Length: 3"),
  post("Transfer-Encoding: chunked, chunked"),
  post("Transfer-Encoding: chunked", "Transfer-Encoding: gzip"),
  post("Transfer-Encoding: chunked,"),
  `${post("Transfer-Encoding: chunked")}1 \r\na\r\n0\r\n\r\n`,
  `${post("Transfer-Encoding: chunked")}1\na\r\n0\r\n\r\n`,
  `${post("Transfer-Encoding: chunked")}1\r\nab\r\n0\r\n\r\n`,
  `${post("Transfer-Encoding: chunked")}1;a\nb\r\na\r\n0\r\n\r\n`,
  `${post("Transfer-Encoding: chunked")}0\r\nA : b\r\n\r\n`,
  `${post("Transfer-Encoding: chunked")}ffffffffffffffffff\r\n`,
  "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
];

async function bodyOf(request: IncomingMessage): Promise<string> {
  let body = "";
  for await (const piece of request) body += piece.toString("latin1");
  return body;
}

/** A server whose answers, in their order whenever they are given, say what was understood. */
function serverOf(heard: string[]) {
  const server = http.createServer(async (request, response) => {
    const { httpVersion, method, rawHeaders, url } = request;
    const body = await bodyOf(request).catch(() => null);
    // It was broken off.
    if (body === null) return;
    const said = JSON.stringify({ method, url, httpVersion, rawHeaders, body, rawTrailers: request.rawTrailers });
    heard.push(said);
    response.sendDate = false;
    // Without it HTTP/1.0 does not stay.
    response.setHeader("Content-Length", said.length);
    response.end(said);
  });
  server.on("clientError", (error: NodeJS.ErrnoException, socket) => {
    heard.push(String(error.code));
    socket.end(`HTTP/1.1 400 ${error.code}\r\n\r\n`);
  });
  return server;
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
/** More than any number of requests here needs to be answered. */
async function turns(): Promise<void> {
  for (let i = 0; i < 20; i++) await turn();
}

const ENGINE = { retain: () => {}, link: null } as unknown as TcpEngine;

/** What comes back, and what the handler has heard, once the server has ended its side. What is `behind` comes when that before is answered. */
async function ask(
  way: Way,
  pieces: readonly Uint8Array[],
  behind: readonly Uint8Array[] = [],
): Promise<{ answers: string; heard: string[] }> {
  const heard: string[] = [];
  const server = serverOf(heard);
  const sent: Uint8Array[] = [];
  let over: Promise<unknown>;
  if (way === "engine") {
    const end = new FakeEnd();
    const socket = new TcpSocket(end, STREAM_HANDLERS);
    const handle = new EngineHandle(socket, ENGINE, 4, true);
    const accepted = { handle, server: { disconnected: () => {} }, paused: false };
    const stream = Socket.accepted(accepted, { allowHalfOpen: true });
    server.emit("connection", stream);
    over = new Promise((resolve) => stream.on("finish", resolve));
    for (const part of [pieces, behind]) {
      for (const piece of part) {
        end.runs.push(piece);
        STREAM_HANDLERS.readable?.(socket);
        if (piece.length % 3 === 0) await turn();
      }
      if (part === pieces && behind.length > 0) await turns();
    }
    await over;
    sent.push(...end.sent);
  } else {
    const stream = new Duplex({
      allowHalfOpen: true,
      read: () => {},
      write: (bytes, _encoding, done) => {
        sent.push(bytes);
        done();
      },
    });
    server.emit("connection", stream);
    over = new Promise((resolve) => stream.on("finish", resolve));
    for (const piece of pieces) stream.push(piece);
    if (behind.length > 0) await turns();
    for (const piece of behind) stream.push(piece);
    await over;
    stream.destroy();
  }
  // Bodies end when they end: the order of handlers is not that of requests.
  return { answers: Buffer.concat(sent).toString("latin1"), heard: heard.toSorted() };
}

/** Pieces of their own memory, cut at these places. */
function cut(bytes: Buffer, places: readonly number[]): Uint8Array[] {
  const sorted = [0, ...places.map((place) => place % (bytes.length + 1)).toSorted((a, b) => a - b), bytes.length];
  return sorted
    .slice(1)
    .map((place, i) => Uint8Array.prototype.slice.call(bytes, sorted[i], place))
    .filter((piece) => piece.length > 0);
}

describe.each<Way>(["engine", "stream"])("over %s", (way) => {
  test("any sequence of requests is understood alike, however its octets come", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom(...GOOD), { maxLength: 4 }),
        fc.option(fc.constantFrom(...BAD), { nil: "" }),
        fc.array(fc.nat(), { maxLength: 12 }),
        async (good, bad, places) => {
          // An answer in hand is given up when what is behind cannot be read: so that comes later.
          const first = Buffer.from(good.join(""), "latin1");
          const then = Buffer.from(bad + LAST, "latin1");
          const whole = await ask(way, cut(first, []), cut(then, []));
          expect(await ask(way, cut(first, places), cut(then, places))).toEqual(whole);
          // Nothing behind what is refused is answered.
          expect(whole.answers.includes('"/last"')).toBe(bad === "");
          expect(whole.heard.filter((one) => one.startsWith("{")).length).toBe(good.length + (bad === "" ? 1 : 0));
        },
      ),
      { numRuns: 150 },
    );
  });

  test.each([...GOOD, ...BAD].map((text, i) => [i, text] as const))("octet by octet: %i", async (_i, text) => {
    const bytes = Buffer.from(text + LAST, "latin1");
    const whole = await ask(way, [bytes]);
    expect(
      await ask(
        way,
        [...bytes].map((octet) => Uint8Array.of(octet)),
      ),
    ).toEqual(whole);
    expect(whole.answers.includes('"/last"')).toBe(GOOD.includes(text));
  });

  test("octets of any kind never throw", async () => {
    const octet = fc.oneof(fc.nat(255), fc.constantFrom(...Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n%.,:;")));
    await fc.assert(
      fc.asyncProperty(fc.array(octet, { minLength: 1, maxLength: 200 }), async (octets) => {
        const bytes = Uint8Array.from(octets);
        const { answers } = await ask(way, [bytes, Buffer.from(`\r\n\r\n${LAST}${LAST}`)]);
        expect(answers.startsWith("HTTP/1.1 ")).toBe(true);
      }),
      { numRuns: 150 },
    );
  });
});

describe("answers", () => {
  const PIECES = [
    "one",
    Buffer.from("two"),
    "x".repeat(20_000),
    Buffer.alloc(70_000, "y"),
    "three",
    Buffer.from("four"),
  ];

  /** Through a connection that takes so many octets at a time; in pieces, and one after the other without being waited for. */
  async function answers(room: number, waits: boolean): Promise<string> {
    const server = http.createServer(async (request, response) => {
      response.sendDate = false;
      if (request.url === "/last") {
        for (const piece of PIECES) {
          if (!response.write(piece) && waits) await new Promise((resolve) => response.once("drain", resolve));
        }
      }
      response.end(request.url);
    });
    const end = new FakeEnd();
    const socket = new TcpSocket(end, STREAM_HANDLERS);
    const handle = new EngineHandle(socket, ENGINE, 4, true);
    const accepted = { handle, server: { disconnected: () => {} }, paused: false };
    const stream = Socket.accepted(accepted, { allowHalfOpen: true });
    let isOver = false;
    stream.on("close", () => {
      isOver = true;
    });
    server.emit("connection", stream);
    end.room = room;
    end.runs.push(Buffer.from(Array.from({ length: 200 }, (_, i) => get(`/${i}`)).join("") + LAST));
    STREAM_HANDLERS.readable?.(socket);
    while (!isOver) {
      await new Promise((resolve) => setImmediate(resolve));
      if (end.closed || end.room > 0) continue;
      end.room = room;
      STREAM_HANDLERS.writable?.(socket);
    }
    return Buffer.concat(end.sent).toString("latin1");
  }

  test.each([[7], [100], [5000], [64_000]])("with room for %i octets at a time", async (room) => {
    const whole = await answers(Number.POSITIVE_INFINITY, false);
    expect(whole.match(/HTTP\/1\.1 200/g)?.length).toBe(201);
    for (const waits of [true, false]) expect((await answers(room, waits)) === whole).toBe(true);
  });
});

describe("options", () => {
  const tried = (options: object): string => {
    try {
      http.createServer(options);
      return "taken";
    } catch (error) {
      return String((error as NodeJS.ErrnoException).code);
    }
  };
  test("what is not there is refused, what is wrong is as with node:http", () => {
    for (const options of [{ insecureHTTPParser: true }, { uniqueHeaders: ["a"] }, { key: "x" }, { tls: {} }]) {
      expect(tried(options)).toBe("ERR_FEATURE_UNAVAILABLE_ON_PLATFORM");
    }
    expect(tried({ insecureHTTPParser: false })).toBe("taken");
    expect(tried({ requestTimeout: -1 })).toBe("ERR_OUT_OF_RANGE");
    expect(tried({ headersTimeout: 5, requestTimeout: 3 })).toBe("ERR_OUT_OF_RANGE");
    expect(tried({ requireHostHeader: 1 })).toBe("ERR_INVALID_ARG_TYPE");
    expect(tried({ maxHeaderSize: "1" })).toBe("ERR_INVALID_ARG_TYPE");
  });
});
