/** lcore/net, http, https and tls: both ends on engines over a wire in memory. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { once } from "node:events";
import type { ClientRequest, IncomingMessage } from "node:http";
import type * as node from "node:net";
import type { Readable } from "node:stream";
import { useEngine } from "../../engine/dropin/default-engine.ts";
import http from "../../engine/dropin/http.ts";
import https from "../../engine/dropin/https.ts";
import net, { type Socket } from "../../engine/dropin/net.ts";
import tls from "../../engine/dropin/tls.ts";
import type { Engine } from "../../engine/engine.ts";
import { enginePair, SERVER, SERVER6 } from "../stream/pair.ts";
import { until } from "../support/kernel-udp.ts";
import { CERT, KEY } from "./certificate.ts";

setDefaultTimeout(10_000);

const CLIENT = "198.18.0.2";
const PAYLOAD = Buffer.from(Uint8Array.from({ length: 1 << 20 }, (_, i) => (i * 7 + (i >> 8) * 13) & 0xff));
const sha = (bytes: Uint8Array): string => new Bun.CryptoHasher("sha256").update(bytes).digest("hex");

let engines: [Engine, Engine];
beforeAll(async () => {
  engines = await enginePair([1, 1], { poll: "interrupt" });
});
afterAll(async () => {
  useEngine(null);
  for (const engine of engines) await engine.close();
});

interface Listening {
  listen(options: object): unknown;
  address(): unknown;
  once(event: string, call: () => void): unknown;
}

/** Has a server listen on the one engine, and what connects from now on be the other's. Returns the port. */
async function listening(server: Listening, host: string | undefined = SERVER): Promise<number> {
  useEngine(engines[0]);
  const ready = new Promise<void>((resolve) => server.once("listening", resolve));
  server.listen({ port: 0, host });
  await ready;
  useEngine(engines[1]);
  return (server.address() as node.AddressInfo).port;
}

/** What comes until the end. Not `for await`, which destroys a stream that could still be written to. */
function all(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  return new Promise((resolve, reject) => {
    stream.on("end", () => resolve(Buffer.concat(chunks)));
    stream.on("error", reject);
    stream.resume();
  });
}

const closed = (server: { close(call: () => void): unknown }): Promise<void> =>
  new Promise((resolve) => server.close(() => resolve()));

describe("net", () => {
  test("echo over both families: addresses, bytes, and both ends close", async () => {
    for (const [host, own] of [
      [SERVER, CLIENT],
      [SERVER6, "2001:db8::2"],
    ]) {
      const events: string[] = [];
      const server = net.createServer((socket) => {
        expect([socket.localAddress, socket.remoteAddress]).toEqual([host, own]);
        socket.on("close", (hadError) => events.push(`server close ${hadError}`));
        socket.pipe(socket);
      });
      const port = await listening(server, host);
      expect(server.address()).toEqual({ address: host, family: host === SERVER ? "IPv4" : "IPv6", port });
      const socket = net.connect(port, host);
      socket.on("close", (hadError) => events.push(`client close ${hadError}`));
      await once(socket, "connect");
      expect([socket.remoteAddress, socket.remotePort, socket.localAddress]).toEqual([host, port, own]);
      socket.end("hello");
      expect((await all(socket)).toString()).toBe("hello");
      await until("both closed", () => events.length === 2);
      expect(events.toSorted()).toEqual(["client close false", "server close false"]);
      expect([socket.bytesRead, socket.bytesWritten]).toEqual([5, 5]);
      await closed(server);
    }
  });

  test("without a host it listens on both families; an IPv4 peer is shown mapped", async () => {
    const seen: (string | undefined)[] = [];
    const server = net.createServer((socket) => {
      seen.push(socket.remoteAddress);
      socket.end("x");
    });
    const port = await listening(server, "");
    for (const host of [SERVER, SERVER6]) expect((await all(net.connect(port, host))).toString()).toBe("x");
    expect(seen).toEqual([`::ffff:${CLIENT}`, "2001:db8::2"]);
    await closed(server);
  });

  test("half close: the server answers after the client has ended", async () => {
    const server = net.createServer({ allowHalfOpen: true }, async (socket) => {
      const asked = await all(socket);
      expect(socket.writable).toBe(true);
      socket.end(`${asked.length} bytes`);
    });
    const socket = net.connect({ port: await listening(server), host: SERVER, allowHalfOpen: true });
    socket.end(PAYLOAD.subarray(0, 70_000));
    expect((await all(socket)).toString()).toBe("70000 bytes");
    await closed(server);
  });

  test("back-pressure: who is not read from has to wait; then all comes, by its hash", async () => {
    let accepted: Socket | undefined;
    const server = net.createServer({ pauseOnConnect: true }, (socket) => {
      accepted = socket;
    });
    const socket = net.connect(await listening(server), SERVER);
    await until("the connection", () => accepted !== undefined);
    let sent = 0;
    const hash = new Bun.CryptoHasher("sha256");
    const push = (): boolean => {
      hash.update(PAYLOAD);
      sent += PAYLOAD.length;
      return socket.write(PAYLOAD);
    };
    // The buffers of both ends fill first.
    while (sent < 64 * PAYLOAD.length && socket.writableLength < 2 * PAYLOAD.length) {
      push();
      await Bun.sleep(5);
    }
    expect(socket.writableLength).toBeGreaterThan(0);
    expect(socket.writableNeedDrain).toBe(true);
    const drained = once(socket, "drain");
    const arrived = all(accepted as Socket);
    await drained;
    socket.end();
    const bytes = await arrived;
    expect(bytes.length).toBe(sent);
    expect(sha(bytes)).toBe(hash.digest("hex"));
    await closed(server);
  });

  test("a server that is closed leaves its connections, more of them than its backlog", async () => {
    let accepted = 0;
    const server = net.createServer((socket) => {
      accepted++;
      socket.pipe(socket);
    });
    useEngine(engines[0]);
    server.listen(0, SERVER, 2);
    await once(server, "listening");
    const { port } = server.address() as node.AddressInfo;
    useEngine(engines[1]);
    const sockets: Socket[] = [];
    for (let i = 0; i < 8; i++) {
      sockets.push(net.connect(port, SERVER));
      await once(sockets[i], "connect");
    }
    await until("all are accepted", () => accepted === 8);
    const over = closed(server);
    for (const socket of sockets) {
      socket.end("still here");
      expect((await all(socket)).toString()).toBe("still here");
    }
    await over;
  });

  test("1 MiB there and back", async () => {
    const server = net.createServer((socket) => void socket.pipe(socket));
    const socket = net.connect(await listening(server), SERVER);
    socket.end(PAYLOAD);
    expect(sha(await all(socket))).toBe(sha(PAYLOAD));
    await closed(server);
  });

  test("errors: ECONNREFUSED, EADDRINUSE, EADDRNOTAVAIL, with what Node puts into them", async () => {
    const server = net.createServer();
    const port = await listening(server);
    const socket = net.connect(port + 1, SERVER);
    const [refused] = await once(socket, "error");
    expect(refused).toMatchObject({ code: "ECONNREFUSED", syscall: "connect", address: SERVER, port: port + 1 });
    expect(refused.message).toBe(`connect ECONNREFUSED ${SERVER}:${port + 1}`);
    await until("closed", () => socket.closed);

    useEngine(engines[0]);
    const second = net.createServer().listen(port, SERVER);
    const [inUse] = await once(second, "error");
    expect(inUse).toMatchObject({ code: "EADDRINUSE", syscall: "listen", address: SERVER, port });
    useEngine(engines[1]);
    const wrong = net.connect({ port, host: SERVER, localAddress: "198.18.0.99" });
    expect((await once(wrong, "error"))[0]).toMatchObject({ code: "EADDRNOTAVAIL", syscall: "bind" });
    await closed(server);
  });

  test("resetAndDestroy: the other end hears ECONNRESET", async () => {
    const failures: NodeJS.ErrnoException[] = [];
    let accepted = false;
    const server = net.createServer((socket) => {
      accepted = true;
      socket.on("error", (error) => failures.push(error)).resume();
    });
    const socket = net.connect(await listening(server), SERVER);
    await once(socket, "connect");
    await until("accepted", () => accepted);
    socket.resetAndDestroy();
    await until("the reset", () => failures.length === 1);
    expect(failures[0]).toMatchObject({ code: "ECONNRESET", syscall: "read" });
    await closed(server);
  });

  test("loopback and paths are the kernel's", async () => {
    const server = net.createServer((socket) => void socket.pipe(socket));
    const port = await listening(server, "127.0.0.1");
    const socket = net.connect(port, "127.0.0.1");
    socket.end("by the kernel");
    expect((await all(socket)).toString()).toBe("by the kernel");
    await closed(server);
  });

  test("unref and ref count for the engine as often as they say, and are even after the close", async () => {
    const counts: number[] = [];
    const engine = engines[0];
    const original = engine.retain;
    engine.retain = (count) => {
      counts.push(count);
      original.call(engine, count);
    };
    const server = net.createServer();
    await listening(server);
    for (const call of ["unref", "unref", "ref", "unref"] as const) server[call]();
    expect(counts).toEqual([-1, 1, -1]);
    await closed(server);
    expect(counts).toEqual([-1, 1, -1, 1]);
    engine.retain = original;
  });
});

/** A request, and what came of it. */
async function ask(request: ClientRequest, body = ""): Promise<{ status: number | undefined; body: Buffer }> {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    request.on("response", resolve).on("error", reject).end(body);
  });
  return { status: response.statusCode, body: await all(response) };
}

describe("http", () => {
  test("GET and POST over one connection that is kept, then 1 MiB", async () => {
    const peers = new Set<number | undefined>();
    const server = http.createServer(async (request, response) => {
      peers.add(request.socket.remotePort);
      const body = await all(request);
      if (request.url === "/large") response.end(PAYLOAD);
      else response.end(`${request.method} ${request.url} ${body}`);
    });
    const port = await listening(server);
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    const to = { host: SERVER, port, agent };
    const got = await ask(http.request({ ...to, path: "/one" }));
    const posted = await ask(http.request({ ...to, path: "/two", method: "POST" }), "body");
    expect([got.status, got.body.toString()]).toEqual([200, "GET /one "]);
    expect([posted.status, posted.body.toString()]).toEqual([200, "POST /two body"]);
    expect(sha((await ask(http.request({ ...to, path: "/large" }))).body)).toBe(sha(PAYLOAD));
    expect(peers.size).toBe(1);
    agent.destroy();
    await closed(server);
  });

  test("several at once, each on its own connection", async () => {
    const server = http.createServer((request, response) => void response.end(request.url));
    const port = await listening(server);
    const agent = new http.Agent({ keepAlive: false });
    const paths = Array.from({ length: 20 }, (_, i) => `/${i}`);
    const answers = await Promise.all(paths.map((path) => ask(http.request({ host: SERVER, port, path, agent }))));
    expect(answers.map(({ body }) => body.toString())).toEqual(paths);
    await closed(server);
  });
});

describe("tls", () => {
  test("echo of 1 MiB; the server closes when it is told to", async () => {
    const server = tls.createServer({ cert: CERT, key: KEY }, (socket) => void socket.pipe(socket));
    const port = await listening(server);
    const socket = tls.connect({ host: SERVER, port, ca: CERT });
    await once(socket, "secureConnect");
    expect([socket.authorized, socket.remoteAddress]).toEqual([true, SERVER]);
    const hash = new Bun.CryptoHasher("sha256");
    let received = 0;
    socket.on("data", (chunk: Buffer) => {
      hash.update(chunk);
      received += chunk.length;
      // Not before: Bun's TLS over a Duplex reads nothing more once it has ended.
      if (received === PAYLOAD.length) socket.end();
    });
    socket.write(PAYLOAD);
    await once(socket, "close");
    expect(hash.digest("hex")).toBe(sha(PAYLOAD));
    await closed(server);
  });

  test("https: GET and POST, kept alive, and the server closes", async () => {
    const server = https.createServer({ cert: CERT, key: KEY }, async (request, response) => {
      response.end(`${request.method} ${await all(request)}`);
    });
    const port = await listening(server);
    const agent = new https.Agent({ keepAlive: true, maxSockets: 1 });
    const to = { host: SERVER, port, ca: CERT, agent, path: "/" };
    expect((await ask(https.request(to))).body.toString()).toBe("GET ");
    expect((await ask(https.request({ ...to, method: "POST" }), "body")).body.toString()).toBe("POST body");
    agent.destroy();
    await closed(server);
  });

  test("https: a peer that does not speak TLS is told of and let go", async () => {
    const failures: string[] = [];
    const server = https.createServer({ cert: CERT, key: KEY });
    server.on("tlsClientError", () => failures.push("tlsClientError"));
    const socket = net.connect(await listening(server), SERVER);
    socket.on("error", () => {});
    socket.end("GET / HTTP/1.1\r\n\r\n");
    socket.resume();
    await until("closed", () => socket.closed);
    await until("told", () => failures.length === 1);
    await closed(server);
  });
});
