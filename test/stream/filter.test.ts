/** Socket filters of TCP sockets and listeners, of a thread and of an lcore's module: over a wire in memory. */
import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { Assembler, ERRNO, r0, r1, r6, SysError } from "af-xdp-bindings";
import type { Engine } from "../../engine/engine.ts";
import { encodeClassic } from "../../sockets/bpf/classic.ts";
import type { LoadedProgram } from "../../sockets/bpf/objects.ts";
import type { TcpListener } from "../../sockets/stream/tcp-listener.ts";
import type { TcpSocket } from "../../sockets/stream/tcp-socket.ts";
import { FILTER_DROPS } from "../../sockets/tcp/tcb.ts";
import { until } from "../support/kernel-udp.ts";
import { ATTACH_ONE_BYTE, DETACH, DETACH_FROM_LISTENER } from "./modules/tcp-filtered.ts";
import { connectionsOf, enginePair, SERVER } from "./pair.ts";

setDefaultTimeout(60_000);

const PORT = 7600;
/** Of a segment with timestamps. */
const HEADER = 32;
/** Programs and maps at once. */
const SLOTS = 512;
const closers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const keeps = (length: number): Uint8Array => encodeClassic([{ code: 6, jt: 0, jf: 0, k: length }]);
const NOTHING = keeps(0);
const ALL = keeps(0x7fffffff);

async function engines(queues: [number, number] = [1, 1]): Promise<[server: Engine, client: Engine]> {
  const pair = await enginePair(queues);
  for (const engine of pair) closers.push(() => engine.close());
  return pair;
}

/** A listener without handlers: connections wait for accept(). */
function listenOn(server: Engine, filter?: Uint8Array | number): TcpListener {
  const listener = server.listen({ port: PORT, filter }, {});
  closers.push(() => listener.close());
  return listener;
}

async function accepted(listener: TcpListener): Promise<TcpSocket> {
  await until("a connection", () => listener.waiting > 0);
  return listener.accept() as TcpSocket;
}

const drops = (socket: TcpSocket): number => socket.end.word(socket, FILTER_DROPS);

async function read(socket: TcpSocket): Promise<number[]> {
  const bytes = new Uint8Array(64);
  let count = -ERRNO.EAGAIN;
  await until("bytes", () => {
    count = socket.read(bytes);
    return count !== -ERRNO.EAGAIN;
  });
  return [...bytes.subarray(0, count)];
}

test("a thread's: dropped, cut off, taken off, in turn; what comes after the call is what it is about", async () => {
  const [server, client] = await engines();
  const listener = listenOn(server);
  const out = client.connect({ address: SERVER, port: PORT }, {});
  const socket = await accepted(listener);
  expect([socket.detachFilter(), socket.attachFilter(Uint8Array.of(1)), socket.attachFilter(0x3fffffff)]).toEqual([
    -ERRNO.ENOENT,
    -ERRNO.EINVAL,
    -ERRNO.EBADF,
  ]);
  for (let round = 0; round < 10; round++) {
    const before = drops(socket);
    expect(socket.attachFilter(NOTHING)).toBe(0);
    out.write(Uint8Array.of(1, 2, 3));
    await until("a drop", () => drops(socket) > before);
    expect(socket.read(new Uint8Array(8))).toBe(-ERRNO.EAGAIN);
    expect(socket.attachFilter(ALL)).toBe(0);
    expect(await read(socket)).toEqual([1, 2, 3]);
    expect(socket.attachFilter(keeps(HEADER + 2))).toBe(0);
    out.write(Uint8Array.of(4, 5, 6));
    expect(await read(socket)).toEqual([4, 5]);
    expect(socket.detachFilter()).toBe(0);
    expect(await read(socket)).toEqual([6]);
  }
  expect(server.counters().TCPFilterDrop).toBeGreaterThanOrEqual(10);
  for (const each of [socket, out]) each.close();
  expect([socket.attachFilter(ALL), socket.detachFilter()]).toEqual([-ERRNO.EBADF, -ERRNO.EBADF]);
});

test("before connect() it sees the answer to the SYN; what does not answer is told as ever", async () => {
  const [server, client] = await engines();
  const listener = listenOn(server);
  let ended = 0;
  const options = { address: SERVER, port: PORT, filter: NOTHING, userTimeout: 1500 };
  const refused = client.connect(options, {
    closed: (_, errno) => {
      ended = errno;
    },
  });
  await until("a drop", () => client.counters().TCPFilterDrop > 0);
  await until("the end", () => ended !== 0);
  expect(ended).toBe(ERRNO.ETIMEDOUT);
  refused.close();
  let open = false;
  const out = client.connect(
    { address: SERVER, port: PORT, filter: ALL },
    {
      open: () => {
        open = true;
      },
    },
  );
  await until("the connection", () => open);
  expect(out.detachFilter()).toBe(0);
  out.close();
  listener.close();
});

test("two lcores: a listener's filter is that of its connections on each, and of what is half open", async () => {
  const [server, client] = await engines([2, 1]);
  const listener = listenOn(server, keeps(HEADER + 3));
  const outs = Array.from({ length: 20 }, () => client.connect({ address: SERVER, port: PORT }, {}));
  const sockets: TcpSocket[] = [];
  for (const _ of outs) sockets.push(await accepted(listener));
  // Those that open from now on have none, whatever the others have.
  expect(listener.detachFilter()).toBe(0);
  expect(listener.detachFilter()).toBe(-ERRNO.ENOENT);
  for (const out of outs) out.write(Uint8Array.of(1, 2, 3, 4, 5));
  for (const socket of sockets) expect(await read(socket)).toEqual([1, 2, 3]);
  const late = client.connect({ address: SERVER, port: PORT }, {});
  const plain = await accepted(listener);
  late.write(Uint8Array.of(1, 2, 3, 4, 5));
  expect(await read(plain)).toEqual([1, 2, 3, 4, 5]);
  expect(plain.detachFilter()).toBe(-ERRNO.ENOENT);
  for (const socket of sockets) expect(socket.detachFilter()).toBe(0);
  for (const socket of sockets) expect(await read(socket)).toEqual([4, 5]);
  for (const each of [...outs, ...sockets, late, plain]) each.abort();
});

test("an lcore's module", async () => {
  const module = new URL("./modules/tcp-filtered.ts", import.meta.url);
  const [server, client] = await enginePair([1, 1], {}, { module, data: { port: PORT } });
  for (const engine of [server, client]) closers.push(() => engine.close());
  const dial = async (): Promise<TcpSocket> => {
    const open: TcpSocket[] = [];
    client.connect({ address: SERVER, port: PORT }, { open: (socket) => void open.push(socket) });
    await until("the connection", () => open.length > 0);
    return open[0];
  };
  const ask = async (out: TcpSocket, ...request: number[]): Promise<number[]> => {
    expect(out.write(Uint8Array.from(request))).toBe(request.length);
    return read(out);
  };
  const first = await dial();
  // Three bytes of the request; the fourth comes again, alone.
  expect(await ask(first, DETACH, 9, 9, 9)).toEqual([3, 0]);
  expect(await read(first)).toEqual([1, 0]);
  expect(await ask(first, DETACH, 9, 9, 9)).toEqual([4, ERRNO.ENOENT]);
  expect(await ask(first, ATTACH_ONE_BYTE, 9)).toEqual([2, 0]);
  expect(await ask(first, DETACH_FROM_LISTENER, 9)).toEqual([1, 0]);
  expect(await read(first)).toEqual([1, 0]);
  first.abort();
  const second = await dial();
  expect(await ask(second, DETACH, 9, 9, 9)).toEqual([4, ERRNO.ENOENT]);
  second.abort();
});

test("programs are given back: with their sockets, however these end, and one by another", async () => {
  const [server, client] = await engines([2, 1]);
  const map = server.bpf.createMap({ type: "array", valueSize: 4, maxEntries: 1 });
  const loaded = server.bpf.load({
    type: "socket_filter",
    instructions: new Assembler().mov(r6, r1).load32(r0, r6, 0).exit().assemble(),
  });
  const listener = listenOn(server, loaded.handle);
  loaded.close();
  // More than there is room for, were any of them kept.
  for (let i = 0; i < SLOTS / 8; i++) {
    const outs = [0, 1].map(() => client.connect({ address: SERVER, port: PORT }, {}));
    const sockets = [await accepted(listener), await accepted(listener)];
    for (const socket of sockets) for (let n = 1; n <= 4; n++) expect(socket.attachFilter(keeps(1000 + n))).toBe(0);
    const draft = server.connect({ address: "198.18.0.77", port: 1, filter: keeps(7) }, {});
    expect(draft.attachFilter(keeps(8))).toBe(0);
    draft.abort();
    // By a reset, and by closing with what it has still to say.
    outs[0].abort();
    sockets[0].abort();
    sockets[1].attachFilter(keeps(9));
    sockets[1].close();
    outs[1].close();
    expect(listener.attachFilter(ALL)).toBe(0);
  }
  await until("their ends", () => connectionsOf(server) === 0);
  listener.close();
  // Every place but the map's.
  await until("all places", () => places(server) === SLOTS - 1);
  server.bpf.closeMap(map);
});

/** How many programs there is a place for. */
function places(engine: Engine): number {
  const instructions = new Assembler().mov(r0, 1).exit().assemble();
  const programs: LoadedProgram[] = [];
  try {
    for (;;) programs.push(engine.bpf.load({ type: "socket_filter", instructions }));
  } catch (error) {
    if (!(error instanceof SysError && error.errno === ERRNO.ENOMEM)) throw error;
  }
  for (const program of programs) program.close();
  return programs.length;
}
