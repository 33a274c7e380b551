/** The server of files over sockets without a network: requests good and bad, in any pieces, with any room for answers. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { CHECK_MS } from "../../engine/http/cache.ts";
import { HTTP_LIMITS } from "../../engine/http/server.ts";
import { Served } from "./fake-end.ts";

const served = new Served();
const { directory } = served;
const BIG = Buffer.alloc(300_000, "0123456789");
const file = (name: string, contents: string | Buffer): void => writeFileSync(join(directory, name), contents);
mkdirSync(join(directory, "dir"));
file("index.html", "<p>root\n");
file("dir/index.html", "dir\n");
file("a b.txt", "0123456789");
file("big.bin", BIG);
symlinkSync("a b.txt", join(directory, "inside"));
symlinkSync("/etc/passwd", join(directory, "outside"));
symlinkSync("../../etc", join(directory, "above"));
afterAll(() => {
  served.close();
  rmSync(directory, { recursive: true });
});

const get = (target: string, ...fields: string[]): string =>
  `GET ${target} HTTP/1.1\r\nHost: x\r\n${fields.map((line) => `${line}\r\n`).join("")}\r\n`;
const status = (answer: string): number => Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1]);
const field = (answer: string, name: string): string | undefined =>
  new RegExp(`^${name}: (.*)\\r$`, "m").exec(answer)?.[1];
const body = (answer: string): string => answer.slice(answer.indexOf("\r\n\r\n") + 4);
const statuses = (answers: string): number[] =>
  [...answers.matchAll(/HTTP\/1\.1 (\d+) [A-Z]/g)].map(([, code]) => Number(code));

describe("requests", () => {
  const cases: [string, string, number][] = [
    ["a file", get("/"), 200],
    ["percent signs", get("/a%20b.txt?query"), 200],
    ["an absolute target", get("http://x/a%20b.txt"), 200],
    ["an absolute target without a path", get("http://x"), 200],
    ["a link that stays", get("/inside"), 200],
    ["a link that leaves", get("/outside"), 404],
    ["a link to a directory that leaves", get("/above/passwd"), 404],
    ["above the root", get("/../etc/passwd"), 400],
    ["above the root, in percent", get("/%2e%2e/%2e%2e/etc/passwd"), 400],
    ["dots within", get("/dir/../a%20b.txt"), 200],
    ["NUL", get("/a%00b"), 400],
    ["half of a percent sign", get("/%4"), 400],
    ["no such file", get("/nowhere"), 404],
    ["a directory", get("/dir"), 301],
    ["a file as a directory", get("/a%20b.txt/"), 404],
    ["no host", "GET / HTTP/1.1\r\n\r\n", 400],
    ["two hosts", get("/", "Host: y"), 400],
    ["a host that cannot be", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400],
    ["HTTP/1.0 without host", "GET / HTTP/1.0\r\n\r\n", 200],
    ["HTTP/2", "PRI * HTTP/2.0\r\n\r\n", 505],
    ["no version", "GET /\r\n\r\n", 400],
    ["an empty line first", `\r\n${get("/")}`, 200],
    ["bare LF", "GET / HTTP/1.1\nHost: x\n\n", 400],
    ["bare CR", "GET / HTTP/1.1\r\nHost: x\rY: z\r\n\r\n", 400],
    ["a space before the colon", "GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400],
    ["a folded field", get("/", "A: b", " c"), 400],
    ["a control octet", get("/", "A: \x01"), 400],
    ["POST", "POST / HTTP/1.1\r\nHost: x\r\n\r\n", 405],
    ["an unknown method", "BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 501],
    ["a long line", get(`/${"a".repeat(9000)}`), 414],
    ["a long head", get("/", ...Array.from({ length: 20 }, () => `A: ${"a".repeat(1000)}`)), 431],
    ["many fields", get("/", ...Array.from({ length: 101 }, () => "A: b")), 431],
    ["another coding", get("/", "Transfer-Encoding: gzip, chunked"), 501],
    ["a length beside chunks", get("/", "Transfer-Encoding: chunked", "Content-Length: 3"), 400],
    ["two lengths", get("/", "Content-Length: 3", "Content-Length: 4"), 400],
    ["a negative length", get("/", "Content-Length: -1"), 400],
    ["a long body", get("/", "Content-Length: 99999999999999999999"), 413],
    ["an expectation", get("/", "Expect: tea"), 417],
  ];
  test.each(cases)("%s: in one piece, and octet by octet", (_name, request, expected) => {
    const answer = served.ask(request);
    expect(status(answer)).toBe(expected);
    expect(served.ask(...request)).toBe(answer);
    if (expected === 405) expect(field(answer, "Allow")).toBe("GET, HEAD");
  });

  test("any sequence of requests is answered alike, however its octets come", () => {
    const requests = [
      ...cases.map(([, request]) => request).filter((request) => request.length < 1000),
      `${get("/", "Content-Length: 5")}12345`,
      `${get("/", "Transfer-Encoding: chunked")}3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: u\r\n\r\n`,
      `${get("/", "Transfer-Encoding: chunked")}zz\r\n`,
      "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
      get("/", "Connection: foo, Close"),
    ];
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(...requests), { minLength: 1, maxLength: 5 }),
        fc.array(fc.nat(2000), { maxLength: 12 }),
        (sequence, cuts) => {
          const all = sequence.join("");
          const places = [0, ...cuts.map((cut) => cut % (all.length + 1)).sort((a, b) => a - b), all.length];
          const pieces = places.slice(1).map((place, i) => all.slice(places[i], place));
          expect(served.ask(...pieces)).toBe(served.ask(all));
        },
      ),
      { numRuns: 300 },
    );
  });

  test("octets of any kind never throw", () => {
    const octet = fc.oneof(fc.nat(255), fc.constantFrom(...Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n%.,:;")));
    fc.assert(
      fc.property(fc.array(octet, { maxLength: 300 }), (octets) => {
        served.ask(Uint8Array.from(octets));
        served.ask("GET / HTTP/1.1\r\nHost: x\r\n", Uint8Array.from(octets), "\r\n\r\n");
      }),
      { numRuns: 500 },
    );
  });
});

describe("answers", () => {
  const tail = "/a%20b.txt";
  test("HEAD: the head of GET alone", () => {
    const whole = served.ask(get(tail));
    expect(served.ask(get(tail).replace("GET", "HEAD"))).toBe(whole.slice(0, -10));
    expect(whole).toContain("Content-Type: text/plain; charset=utf-8\r\n");
  });

  test("conditions", () => {
    const whole = served.ask(get(tail));
    const etag = field(whole, "ETag") as string;
    const modified = field(whole, "Last-Modified") as string;
    const ask = (...fields: string[]): number => status(served.ask(get(tail, ...fields)));
    expect(ask(`If-None-Match: "x", W/${etag}`)).toBe(304);
    expect(ask("If-None-Match: *")).toBe(304);
    expect(ask(`If-None-Match: "x"`, `If-Modified-Since: ${modified}`)).toBe(200);
    expect(ask(`If-Modified-Since: ${modified}`)).toBe(304);
    expect(ask("If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT")).toBe(200);
    expect(ask("If-Modified-Since: yesterday")).toBe(200);
    expect(ask(`If-Match: "x"`)).toBe(412);
    expect(ask(`If-Match: ${etag}`)).toBe(200);
    expect(ask("If-Unmodified-Since: Sun Nov  6 08:49:37 1994")).toBe(412);
    expect(ask("Range: bytes=0-1", `If-Range: ${etag}`)).toBe(206);
    expect(ask("Range: bytes=0-1", `If-Range: W/${etag}`)).toBe(200);
  });

  test.each([
    ["0-3", 206, "0123", "bytes 0-3/10"],
    ["8-", 206, "89", "bytes 8-9/10"],
    ["5-99999999999999999999", 206, "56789", "bytes 5-9/10"],
    ["-3", 206, "789", "bytes 7-9/10"],
    ["-30", 206, "0123456789", "bytes 0-9/10"],
    ["10-", 416, "416 Range Not Satisfiable\n", "bytes */10"],
    ["-0", 416, "416 Range Not Satisfiable\n", "bytes */10"],
    ["3-2", 200, "0123456789", undefined],
    ["0-1,3-4", 200, "0123456789", undefined],
    ["x", 200, "0123456789", undefined],
  ])("range %s", (range, code, contents, told) => {
    const answer = served.ask(get(tail, `Range: bytes=${range}`));
    expect([status(answer), body(answer), field(answer, "Content-Range")]).toEqual([code, contents, told]);
  });

  test("301 keeps the query, and names no other host", () => {
    expect(field(served.ask(get("//dir?a=b")), "Location")).toBe("/dir/?a=b");
  });

  test("connections stay or end as asked", () => {
    const two = (first: string): number[] => statuses(served.ask(first + get("/")));
    expect(two(get("/"))).toEqual([200, 200]);
    expect(two(get("/", "Connection: close"))).toEqual([200]);
    expect(two("GET / HTTP/1.0\r\n\r\n")).toEqual([200]);
    expect(two("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")).toEqual([200, 200]);
    expect(two("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")).toEqual([405, 200]);
    expect(two("BAD\r\n\r\n")).toEqual([400]);
  });

  test("a large file through little room: every octet, and no more than there is room for", () => {
    const peer = served.connect();
    peer.end.room = 1000;
    peer.send(get("/big.bin") + get("/"));
    served.settle();
    expect(peer.raw.length).toBe(1000);
    for (let i = 0; i < 1000 && peer.raw.length < 300_400; i++) peer.take(7777);
    served.settle();
    const answer = peer.raw.toString("latin1");
    expect(body(answer).slice(0, BIG.length)).toBe(BIG.toString("latin1"));
    expect(statuses(peer.text)).toEqual([200, 200]);
  });

  test("small answers through one octet of room at a time", () => {
    const peer = served.connect();
    peer.end.room = 1;
    peer.send(get("/") + get(tail) + get("/nowhere", "Connection: close"));
    while (!peer.end.shut) peer.take(1);
    expect(peer.text).toBe(served.ask(get("/") + get(tail) + get("/nowhere", "Connection: close")));
    peer.finish();
    expect([peer.end.closed, peer.end.aborted]).toEqual([true, false]);
  });

  test("who has ended is answered first", () => {
    const peer = served.connect();
    peer.end.room = 10;
    peer.send(get("/"));
    peer.finish();
    expect(peer.end.closed).toBe(false);
    peer.take(1000);
    expect([status(peer.text), peer.end.closed]).toEqual([200, true]);
  });

  test("a changed file is seen within CHECK_MS", () => {
    file("changes.txt", "old");
    expect(body(served.ask(get("/changes.txt")))).toBe("old");
    file("changes.txt", "new!");
    utimesSync(join(directory, "changes.txt"), 1, 1);
    served.now += CHECK_MS;
    const answer = served.ask(get("/changes.txt"));
    expect([body(answer), field(answer, "Last-Modified")]).toEqual(["new!", "Thu, 01 Jan 1970 00:00:01 GMT"]);
    rmSync(join(directory, "changes.txt"));
    served.now += CHECK_MS;
    expect(status(served.ask(get("/changes.txt")))).toBe(404);
  });

  test("what is kept is bounded", () => {
    const small = new Served(20_000);
    for (let i = 0; i < 50; i++) writeFileSync(join(small.directory, String(i)), Buffer.alloc(1000));
    for (let round = 0; round < 3; round++)
      for (let i = 0; i < 50; i++) expect(body(small.ask(get(`/${i}`))).length).toBe(1000);
    expect(small.server.files.size).toBeGreaterThan(4);
    expect(small.server.files.size).toBeLessThan(10);
    small.close();
    rmSync(small.directory, { recursive: true });
  });
});

describe("time", () => {
  const pass = (ms: number): void => {
    for (let step = 0; step < 4; step++) {
      served.now += ms / 4;
      served.server.turn();
    }
    served.now += 1000;
    served.server.turn();
  };

  test("a slow head: 408; none at all: the end; a peer that takes nothing: a reset", () => {
    const slow = served.connect();
    const silent = served.connect();
    const full = served.connect();
    full.end.room = 1;
    full.send(get("/big.bin"));
    slow.send("GET / HT");
    for (let waited = 0; waited < HTTP_LIMITS.headMs; waited += 1000) {
      slow.send("T");
      pass(0);
    }
    expect(status(slow.text)).toBe(408);
    pass(HTTP_LIMITS.idleMs);
    expect([silent.raw.length, silent.end.closed, silent.end.aborted]).toEqual([0, true, false]);
    expect([full.end.aborted, slow.end.closed]).toEqual([true, true]);
  });
});

test("counts", () => {
  const { bytes, requests, statuses: given } = served.counts.totals();
  expect(given["404"]).toBeGreaterThan(3);
  expect(requests).toBe(Object.values(given).reduce((sum, count) => sum + count, 0));
  expect(bytes).toBeGreaterThan(BIG.length);
  expect(statSync(directory).isDirectory()).toBe(true);
});
