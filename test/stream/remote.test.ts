/** TCP sockets of application threads: their connections live on lcores. Two engines over a wire in memory. */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { ERRNO } from "af-xdp-bindings";
import type { EngineOptions } from "../../engine/config.ts";
import type { Engine } from "../../engine/engine.ts";
import { getAffinity } from "../../engine/host/affinity.ts";
import type { TcpListenOptions } from "../../sockets/stream/tcp-open.ts";
import type { TcpHandlers, TcpSocket } from "../../sockets/stream/tcp-socket.ts";
import { MSG_OOB, SHUT_WR } from "../../sockets/tcp/calls.ts";
import { OPTIONS } from "../../sockets/tcp/sockopts.ts";
import { CLOSED, ESTABLISHED, EV_HANGUP, EV_READABLE, EV_WRITABLE } from "../../sockets/tcp/tcb.ts";
import { until } from "../support/kernel-udp.ts";
import { connectionsOf, echoClient, echoHandlers, enginePair, SERVER, SERVER6, streamByte } from "./pair.ts";

setDefaultTimeout(60_000);

const PORT = 7100;
const TWO_CPUS = getAffinity(0).length > 1;
const closers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function engines(queues?: [number, number], options?: Partial<EngineOptions>): Promise<[Engine, Engine]> {
  const pair = await enginePair(queues, options);
  for (const engine of pair) closers.push(() => engine.close());
  return pair;
}

interface Ends {
  server: TcpSocket;
  client: TcpSocket;
}

/** A connection, with handlers that may be set later on. */
async function connected(
  [server, client]: [Engine, Engine],
  listen: TcpListenOptions = {},
  handlers: { server?: TcpHandlers; client?: TcpHandlers } = {},
): Promise<Ends> {
  const ends: Partial<Ends> = {};
  const listener = server.listen(
    { port: PORT, ...listen },
    {
      ...handlers.server,
      open: (s) => {
        ends.server = s;
      },
    },
  );
  client.connect(
    { address: SERVER, port: PORT },
    {
      ...handlers.client,
      open: (s) => {
        ends.client = s;
      },
    },
  );
  await until("the connection", () => ends.server !== undefined && ends.client !== undefined);
  closers.push(() => listener.close());
  return ends as Ends;
}

/** Reads what there is: a hash of nothing but order and value, and how many bytes. */
function drain(socket: TcpSocket, seed: number, from: number): number {
  let at = from;
  for (let count = socket.peek(); count > 0; count = socket.peek()) {
    const { peekedBytes: bytes, peekedOffset: offset } = socket;
    for (let i = 0; i < count; i++)
      if (bytes[offset + i] !== streamByte(seed, at + i)) throw new Error(`byte ${at + i} is another`);
    at += count;
    socket.consume(count);
  }
  return at;
}

describe("echo", () => {
  test.each(["echo", "write", "read"] as const)("by %s: every byte comes back, whatever the size", async (how) => {
    const [server, client] = await engines();
    for (const address of ["0.0.0.0", "::"])
      server.listen({ address, port: PORT, ipv6Only: address === "::" }, echoHandlers(how));
    for (const address of [SERVER, SERVER6])
      for (const bytes of [0, 1, 63, 1448, 2048, 2049, 30_000, 1_000_000])
        expect(await echoClient(client, { address, port: PORT }, bytes)).toEqual({ errno: 0, received: bytes });
    await until("no record is left", () => connectionsOf(server) === 0);
  });

  test("several at once, in small writes, through rings that are full all the time", async () => {
    const [server, client] = await engines([2, 2], { ringSlots: 64, frames: 1024 });
    server.listen({ port: PORT }, echoHandlers("write"));
    const sizes = [5000, 100_000, 17, 60_000, 33_333, 70_001, 4096, 1];
    const outcomes = await Promise.all(
      sizes.map((bytes) => echoClient(client, { address: SERVER, port: PORT }, bytes, 1 + (bytes % 200))),
    );
    expect(outcomes).toEqual(sizes.map((received) => ({ errno: 0, received })));
    await until("no record is left", () => connectionsOf(server) === 0);
  });

  test("a thousand connections, all open at the same time", async () => {
    const [server, client] = await engines([2, 2]);
    let open = 0;
    server.listen({ port: PORT }, { ...echoHandlers(), open: () => void open++ });
    const sockets: TcpSocket[] = [];
    const answers: number[] = [];
    const into = new Uint8Array(100);
    const handlers: TcpHandlers = {
      open: (socket) => void sockets.push(socket),
      readable: (socket) => {
        const count = socket.read(into);
        if (count === 3 && into[0] + into[1] * 256 === socket.data) answers.push(socket.data as number);
      },
      closed: (socket, errno) => {
        if (errno !== 0) throw new Error(`errno ${errno}`);
        socket.close();
        answers.pop();
      },
    };
    for (let i = 0; i < 1000; i++) client.connect({ address: SERVER, port: PORT }, handlers).data = i;
    await until("all are open", () => open === 1000 && sockets.length === 1000);
    if (TWO_CPUS) expect(new Set(sockets.map((socket) => socket.lcore)).size).toBe(2);
    // More at once than frames are lent: the others are told when there are some.
    let refused = 0;
    const ask = (socket: TcpSocket): void => {
      const number = socket.data as number;
      const taken = socket.write(Uint8Array.of(number & 255, number >> 8, 7));
      if (taken === -ERRNO.EAGAIN) refused++;
      else expect(taken).toBe(3);
    };
    for (const socket of sockets) {
      // Told of once the connection was there, too.
      socket.handlers = { ...handlers, writable: ask };
      ask(socket);
    }
    expect(refused).toBeGreaterThan(0);
    await until("all are answered", () => answers.length === 1000);
    for (const socket of sockets) expect(socket.shutdown(SHUT_WR)).toBe(0);
    await until("all are over", () => answers.length === 0);
    await until("no record of the server is left", () => connectionsOf(server) === 0);
  });

  test.skipIf(!TWO_CPUS)("a listener of the first lcore's module has what arrives on the second, too", async () => {
    const module = new URL("./modules/tcp-first.ts", import.meta.url);
    const [server, client] = await enginePair([2, 1], {}, { module, data: PORT });
    closers.push(
      () => server.close(),
      () => client.close(),
    );
    for (let i = 0; i < 30; i++)
      expect(await echoClient(client, { address: SERVER, port: PORT }, 3000)).toEqual({ errno: 0, received: 3000 });
    expect(server.counters(1).TcpHandedOver).toBeGreaterThan(0);
  });
});

describe("back-pressure", () => {
  test("who does not read is not written to; then every byte comes", async () => {
    const { server, client } = await connected(await engines());
    const chunk = new Uint8Array(1 << 16);
    let sent = 0;
    const write = (): void => {
      for (;;) {
        for (let i = 0; i < chunk.length; i++) chunk[i] = streamByte(5, sent + i);
        const taken = client.write(chunk);
        if (taken < 0) {
          expect(taken).toBe(-ERRNO.EAGAIN);
          return;
        }
        sent += taken;
      }
    };
    let told = 0;
    client.handlers = { writable: () => void told++ };
    write();
    await Bun.sleep(300);
    // Both buffers fill, the sender's as it grows with the window; then nothing more is taken, and nobody is told that it were.
    for (let quiet = 0; quiet < 5; quiet++) {
      const before = sent;
      await Bun.sleep(200);
      write();
      if (sent !== before) quiet = 0;
    }
    expect(sent).toBeLessThan(16e6);
    told = 0;
    await Bun.sleep(200);
    expect(told).toBe(0);
    expect(client.poll() & EV_WRITABLE).toBe(0);
    let read = drain(server, 5, 0);
    server.handlers = {
      readable: () => {
        read = drain(server, 5, read);
      },
    };
    await until("all is read", () => read === sent);
    await until("there is room", () => told > 0);
    expect(client.poll() & EV_WRITABLE).toBe(EV_WRITABLE);
    write();
    await until("all is read again", () => read === sent);
  });

  test("a reader that takes its time, byte by byte, keeps the window to what it has read", async () => {
    const { server, client } = await connected(await engines(), { receiveBuffer: 4096 });
    const payload = Uint8Array.from({ length: 30_000 }, (_, i) => streamByte(9, i));
    let sent = client.write(payload);
    client.handlers = {
      writable: () => {
        sent += Math.max(client.write(payload, sent), 0);
      },
    };
    await Bun.sleep(100);
    // Half of what SO_RCVBUF has doubled is window.
    expect(server.getOption(OPTIONS.TCP_INQ)).toBeLessThanOrEqual(4096);
    const one = new Uint8Array(1);
    for (let i = 0; i < payload.length; i++) {
      await until("a byte", () => server.read(one) === 1);
      if (one[0] !== payload[i]) throw new Error(`byte ${i} is another`);
    }
    expect(server.read(one)).toBe(-ERRNO.EAGAIN);
  });
});

describe("ends", () => {
  test("half close: the other direction goes on", async () => {
    const { server, client } = await connected(await engines());
    const events: string[] = [];
    server.handlers = {
      ended: () => void events.push("server ended"),
      closed: () => void events.push("server closed"),
    };
    client.handlers = {
      ended: () => void events.push("client ended"),
      closed: () => void events.push("client closed"),
    };
    expect(client.write(Uint8Array.of(1, 2, 3))).toBe(3);
    expect(client.shutdown(SHUT_WR)).toBe(0);
    expect(client.write(Uint8Array.of(4))).toBe(-ERRNO.EPIPE);
    await until("the FIN", () => events.length === 1);
    const into = new Uint8Array(10);
    expect([server.read(into), server.read(into)]).toEqual([3, 0]);
    expect(server.poll()).toBe(EV_READABLE | EV_WRITABLE);
    expect(server.write(new Uint8Array(50_000).fill(8))).toBe(50_000);
    let read = 0;
    const large = new Uint8Array(5000);
    await until("bytes the other way", () => {
      const count = client.read(large);
      if (count > 0) read += count;
      return read === 50_000;
    });
    expect(server.shutdown(SHUT_WR)).toBe(0);
    await until("both are over", () => events.length === 4);
    expect(events.toSorted()).toEqual(["client closed", "client ended", "server closed", "server ended"]);
    expect(client.read(into)).toBe(0);
    expect(server.poll() & EV_HANGUP).toBe(EV_HANGUP);
    expect(server.shutdown(SHUT_WR)).toBe(-ERRNO.ENOTCONN);
  });

  test.each(["client", "server"] as const)("the %s aborts: the other hears ECONNRESET, once", async (who) => {
    const pair = await engines();
    const ends = await connected(pair);
    const other = ends[who === "client" ? "server" : "client"];
    const heard: number[] = [];
    other.handlers = { closed: (_socket, errno) => void heard.push(errno) };
    ends[who].abort();
    expect([ends[who].closed, ends[who].state, ends[who].write(Uint8Array.of(1))]).toEqual([
      true,
      CLOSED,
      -ERRNO.EBADF,
    ]);
    await until("the reset", () => heard.length === 1);
    expect(heard).toEqual([ERRNO.ECONNRESET]);
    expect([other.write(Uint8Array.of(1)), other.takeError()]).toEqual([-ERRNO.EPIPE, 0]);
    other.close();
    await until("no record is left", () => connectionsOf(pair[0]) + connectionsOf(pair[1]) === 0);
  });

  test("bytes that came before a reset can still be read, after the error", async () => {
    const { server, client } = await connected(await engines());
    let closed = -1;
    server.handlers = {
      closed: (_socket, errno) => {
        closed = errno;
      },
    };
    client.write(new Uint8Array(5000).fill(6));
    await until("the bytes", () => server.getOption(OPTIONS.TCP_INQ) === 5000);
    client.abort();
    await until("the reset", () => closed === ERRNO.ECONNRESET);
    const into = new Uint8Array(6000);
    expect(server.read(into)).toBe(5000);
    expect(into.subarray(0, 5000).every((byte) => byte === 6)).toBe(true);
    expect(server.read(into)).toBe(0);
  });

  test("closed with bytes unread: the peer is reset", async () => {
    const { server, client } = await connected(await engines());
    let closed = -1;
    client.handlers = {
      closed: (_socket, errno) => {
        closed = errno;
      },
    };
    client.write(Uint8Array.of(1, 2));
    await until("the bytes", () => server.getOption(OPTIONS.TCP_INQ) === 2);
    server.close();
    await until("the reset", () => closed === ERRNO.ECONNRESET);
  });

  test("closed when all is read, in the same turn as the last read and a write: in good order", async () => {
    const { server, client } = await connected(await engines());
    let closed = -1;
    let answer = 0;
    client.handlers = {
      readable: (socket) => {
        answer += socket.read(new Uint8Array(10));
      },
      ended: (socket) => socket.shutdown(SHUT_WR),
      closed: (_socket, errno) => {
        closed = errno;
      },
    };
    client.write(Uint8Array.of(1, 2));
    await until("the bytes", () => server.getOption(OPTIONS.TCP_INQ) === 2);
    expect(server.read(new Uint8Array(10))).toBe(2);
    expect(server.write(Uint8Array.of(3))).toBe(1);
    server.close();
    await until("the end", () => closed >= 0);
    expect([closed, answer]).toEqual([0, 1]);
  });

  test("nobody listens: ECONNREFUSED; nobody answers: ETIMEDOUT, after as many SYNs as were asked for", async () => {
    const [server, client] = await engines();
    server.listen({ port: PORT }, {});
    const heard: [string, number][] = [];
    const handlers = (name: string): TcpHandlers => ({
      open: () => void heard.push([name, 0]),
      closed: (socket, errno) => {
        heard.push([name, errno]);
        socket.close();
      },
    });
    client.connect({ address: SERVER, port: PORT + 1 }, handlers("refused"));
    await until("the refusal", () => heard.length === 1);
    const silent = client.connect({ address: "198.18.0.77", port: PORT }, handlers("silent"));
    // Before the lcore has answered.
    expect([silent.setOption(OPTIONS.TCP_SYNCNT, 1), silent.getOption(OPTIONS.TCP_SYNCNT)]).toEqual([0, 1]);
    expect([silent.write(Uint8Array.of(1)), silent.read(new Uint8Array(1))]).toEqual([-ERRNO.EAGAIN, -ERRNO.EAGAIN]);
    await until("the timeout", () => heard.length === 2);
    expect(heard).toEqual([
      ["refused", ERRNO.ECONNREFUSED],
      ["silent", ERRNO.ETIMEDOUT],
    ]);
    await until("no record is left", () => connectionsOf(client) === 0);
  });

  test("closed and aborted before the lcore has answered connect()", async () => {
    const [server, client] = await engines();
    let accepted = 0;
    server.listen({ port: PORT }, { ...echoHandlers(), open: () => void accepted++ });
    for (let i = 0; i < 10; i++) {
      const socket = client.connect({ address: SERVER, port: PORT }, {});
      if (i % 2 === 0) socket.close();
      else socket.abort();
      expect(socket.state).toBe(CLOSED);
    }
    expect(await echoClient(client, { address: SERVER, port: PORT }, 10)).toEqual({ errno: 0, received: 10 });
    await until("no record is left", () => connectionsOf(client) <= 1);
  });

  test("a failed connect() can be tried again on the same socket", async () => {
    const [server, client] = await engines();
    server.listen({ port: PORT + 1 }, {});
    let last = -1;
    let open = false;
    const socket = client.connect(
      { address: SERVER, port: PORT },
      {
        open: () => {
          open = true;
        },
        closed: (_socket, errno) => {
          last = errno;
        },
      },
    );
    await until("the refusal", () => last === ERRNO.ECONNREFUSED);
    server.listen({ port: PORT }, echoHandlers());
    const words = Int32Array.of(0, 0, 0xffff, (198 << 24) | (18 << 16) | 1);
    expect(socket.end.connect(socket, words, PORT)).toBe(-ERRNO.EINPROGRESS);
    expect(socket.end.connect(socket, words, PORT)).toBe(-ERRNO.EALREADY);
    await until("the connection", () => open);
    expect(socket.end.connect(socket, words, PORT)).toBe(-ERRNO.EISCONN);
    expect(socket.state).toBe(ESTABLISHED);
  });
});

describe("listeners", () => {
  test("without a handler connections wait for accept(), as many as the backlog says", async () => {
    const [server, client] = await engines();
    let acceptable = 0;
    let open = 0;
    const listener = server.listen({ port: PORT, backlog: 2 }, { readable: () => void heard++ });
    let heard = 0;
    listener.onAcceptable = () => void acceptable++;
    const sockets = Array.from({ length: 6 }, () =>
      client.connect(
        { address: SERVER, port: PORT },
        {
          open: (socket) => {
            open++;
            socket.write(Uint8Array.of(1));
          },
        },
      ),
    );
    await until("the backlog is full", () => listener.waiting === 3);
    await Bun.sleep(500);
    expect(listener.waiting).toBe(3);
    expect(acceptable).toBeGreaterThan(0);
    expect(heard).toBe(0);
    const accepted: TcpSocket[] = [];
    await until("all are accepted", () => {
      for (let socket = listener.accept(); socket !== null; socket = listener.accept()) accepted.push(socket);
      return accepted.length === 6;
    });
    await until("all are heard of", () => heard >= 6);
    const into = new Uint8Array(5);
    for (const socket of accepted) expect(socket.read(into)).toBe(1);
    expect(open).toBe(6);
    expect(listener.accept()).toBeNull();
    for (const socket of [...sockets, ...accepted]) socket.close();
  });

  test("with a handler they are accepted as they come: never as many at a time as the backlog; close() leaves them", async () => {
    const [server, client] = await engines();
    let open = 0;
    let accepted = 0;
    let answered = 0;
    const listener = server.listen({ port: PORT, backlog: 2 }, { ...echoHandlers(), open: () => void accepted++ });
    const sockets: TcpSocket[] = [];
    for (let i = 0; i < 20; i++) {
      sockets.push(
        client.connect(
          { address: SERVER, port: PORT },
          {
            open: () => void open++,
            readable: (socket) => {
              answered += socket.read(new Uint8Array(10));
            },
          },
        ),
      );
      await until("one more", () => open === i + 1 && accepted === i + 1);
    }
    listener.close();
    for (const socket of sockets) expect(socket.write(Uint8Array.of(1))).toBe(1);
    await until("all are answered", () => answered === 20);
  });

  test("close() resets who waits to be accepted, and leaves who was", async () => {
    const [server, client] = await engines();
    const listener = server.listen({ port: PORT, reuseAddress: true }, {});
    const heard: number[] = [];
    for (let i = 0; i < 3; i++)
      client.connect({ address: SERVER, port: PORT }, { closed: (_socket, errno) => void heard.push(errno) });
    await until("they wait", () => listener.waiting === 3);
    const kept = listener.accept();
    listener.close();
    await until("the resets", () => heard.length === 2);
    expect(heard).toEqual([ERRNO.ECONNRESET, ERRNO.ECONNRESET]);
    expect(kept?.write(Uint8Array.of(1))).toBe(1);
    expect(kept?.state).toBe(ESTABLISHED);
    // As Linux has it: a port with connections may be listened on again only by who asks for that.
    expect(() => server.listen({ port: PORT }, {})).toThrow("EADDRINUSE");
    server.listen({ port: PORT, reuseAddress: true }, {}).close();
  });

  test("errors of opening are thrown, with what to do", async () => {
    const [server, client] = await engines();
    server.listen({ port: PORT }, {});
    expect(() => server.listen({ port: PORT }, {})).toThrow("EADDRINUSE");
    expect(() => server.listen({ port: PORT, address: "198.18.7.7" }, {})).toThrow("EADDRNOTAVAIL");
    expect(() => server.listen({ port: 70_000 }, {})).toThrow(RangeError);
    expect(() => client.connect({ address: "224.0.0.1", port: 1 }, {})).toThrow("ENETUNREACH");
    expect(() => client.connect({ address: SERVER, port: 1, keepCount: 1000 }, {})).toThrow("EINVAL");
    server.detach();
    expect(() => server.listen({ port: 1 }, {})).toThrow("EBADF");
  });
});

describe("options, names, urgent bytes", () => {
  test("options of both ends: as asked for, at once and on the lcore", async () => {
    const pair = await engines();
    const { server, client } = await connected(pair, {
      noDelay: true,
      keepAlive: true,
      keepIdle: 77,
      sendBuffer: 20_000,
    });
    expect(server.getOption(OPTIONS.TCP_NODELAY)).toBe(1);
    expect(server.getOption(OPTIONS.SO_KEEPALIVE)).toBe(1);
    expect(server.getOption(OPTIONS.TCP_KEEPIDLE)).toBe(77);
    expect(server.getOption(OPTIONS.SO_SNDBUF)).toBe(40_000);
    expect(client.getOption(OPTIONS.TCP_NODELAY)).toBe(0);
    const set: [number, number, number][] = [
      [OPTIONS.TCP_NODELAY, 1, 1],
      [OPTIONS.TCP_KEEPINTVL, 9, 9],
      [OPTIONS.SO_SNDBUF, 9000, 18_000],
      [OPTIONS.SO_RCVLOWAT, 0, 1],
      [OPTIONS.TCP_CONGESTION, 0, 0],
      [OPTIONS.SO_LINGER, 3, 3],
      [OPTIONS.IP_TOS, 0x1f, 0x1c],
    ];
    for (const [option, value, expected] of set) {
      expect(client.setOption(option, value)).toBe(0);
      expect(client.getOption(option)).toBe(expected);
    }
    expect(client.setOption(OPTIONS.TCP_KEEPCNT, 500)).toBe(-ERRNO.EINVAL);
    expect(client.setOption(OPTIONS.TCP_WINDOW_CLAMP, 0)).toBe(-ERRNO.EINVAL);
    expect(client.setOption(12_345, 1)).toBe(-ERRNO.ENOPROTOOPT);
    await Bun.sleep(50);
    for (const [option, , expected] of set) expect(client.getOption(option)).toBe(expected);
  });

  test("options given to connect() are those of the connection", async () => {
    const [server, client] = await engines();
    server.listen({ port: PORT }, echoHandlers());
    const options = {
      noDelay: true,
      keepIdle: 55,
      receiveBuffer: 5000,
      congestion: "reno",
      maxSegment: 600,
    } as const;
    let open = false;
    const where = { address: SERVER, port: PORT, localAddress: "198.18.0.2", localPort: 4321 };
    const socket = client.connect(
      { ...where, ...options },
      {
        open: () => {
          open = true;
        },
      },
    );
    expect([socket.remoteAddress.port, socket.localAddress.port]).toEqual([PORT, 4321]);
    expect(socket.getOption(OPTIONS.TCP_KEEPIDLE)).toBe(55);
    await until("the connection", () => open);
    expect(socket.localAddress).toEqual({ address: "198.18.0.2", port: 4321, family: 4 });
    expect(socket.remoteAddress).toEqual({ address: SERVER, port: PORT, family: 4 });
    expect(socket.getOption(OPTIONS.TCP_NODELAY)).toBe(1);
    expect(socket.getOption(OPTIONS.TCP_KEEPIDLE)).toBe(55);
    expect(socket.getOption(OPTIONS.SO_RCVBUF)).toBe(10_000);
    expect(socket.getOption(OPTIONS.TCP_CONGESTION)).toBe(0);
    expect(socket.getOption(OPTIONS.TCP_MAXSEG)).toBeLessThanOrEqual(600);
    socket.close();
  });

  test("an urgent byte is read beside the others, or among them", async () => {
    const { server, client } = await connected(await engines());
    let urgent = 0;
    server.handlers = { urgent: () => void urgent++ };
    const text = (bytes: Uint8Array, count: number): string =>
      String.fromCharCode(...bytes.subarray(0, Math.max(count, 0)));
    const bytes = (s: string): Uint8Array => Uint8Array.from(s, (letter) => letter.charCodeAt(0));
    const into = new Uint8Array(20);
    client.write(bytes("ab"));
    client.write(bytes("cX"), 0, 2, MSG_OOB);
    client.write(bytes("de"));
    await until("all", () => urgent > 0 && server.getOption(OPTIONS.TCP_INQ) === 6);
    expect(text(into, server.read(into))).toBe("abc");
    expect(server.read(into, 0, 5, MSG_OOB)).toBe(1);
    expect(into[0]).toBe("X".charCodeAt(0));
    expect(server.read(into, 0, 5, MSG_OOB)).toBe(-ERRNO.EINVAL);
    expect(text(into, server.read(into))).toBe("de");
    expect(server.read(into)).toBe(-ERRNO.EAGAIN);
    expect(server.setOption(OPTIONS.SO_OOBINLINE, 1)).toBe(0);
    client.write(bytes("fY"), 0, 2, MSG_OOB);
    await until("all", () => server.getOption(OPTIONS.TCP_INQ) === 2);
    expect(text(into, server.read(into))).toBe("f");
    expect(server.read(into, 0, 5, MSG_OOB)).toBe(-ERRNO.EINVAL);
    expect(text(into, server.read(into))).toBe("Y");
  });
});
