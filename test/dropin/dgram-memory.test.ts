/** lcore/dgram on a memory wire, without a kernel: what the comparison with the originals cannot bring about. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type * as node from "node:dgram";
import { once } from "node:events";
import { closeDefaultEngine, configure, createSocket, type Socket, useEngine } from "../../engine/dropin/dgram.ts";
import { Engine } from "../../engine/engine.ts";
import { createMemoryWire, type Side } from "../../queues/memory.ts";
import { until } from "../support/kernel-udp.ts";

setDefaultTimeout(30_000);

const ENDS = [
  { address: "198.18.0.1", mac: Uint8Array.of(2, 0, 0, 0, 0, 1) },
  { address: "198.18.0.2", mac: Uint8Array.of(2, 0, 0, 0, 0, 2) },
];
const PORT = 9000;

function startPair(modules: { module?: URL; data?: unknown } = {}): Promise<Engine[]> {
  const wire = createMemoryWire();
  const start = (side: Side): Promise<Engine> => {
    const { address, mac } = ENDS[side];
    const memory = { wire, side, mac, addresses: [`${address}/24`], neighbours: [ENDS[1 - side]] };
    return Engine.start({ memory, isolate: false, poll: "interrupt", ...(side === 1 ? modules : {}) });
  };
  return Promise.all([start(0), start(1)]);
}

async function bound(engine: Engine, port = 0, options: Partial<node.SocketOptions> = {}): Promise<Socket> {
  useEngine(engine);
  const socket = createSocket({ ...options, type: "udp4" } as never);
  socket.bind(port);
  await once(socket, "listening");
  useEngine(null);
  return socket;
}

describe("two engines on a wire", () => {
  let engines: Engine[] = [];
  beforeAll(async () => {
    engines = await startPair();
  });
  afterAll(async () => {
    for (const engine of engines) await engine.close();
  });

  test("is a socket of node:dgram to the compiler", () => {
    const socket: node.Socket = createSocket("udp4");
    socket.close();
  });

  test("datagrams for which there is no room wait their turn", async () => {
    const COUNT = 600;
    const receiver = await bound(engines[1], PORT, { recvBufferSize: 4 << 20 });
    const sender = await bound(engines[0]);
    const heard: number[] = [];
    receiver.on("message", (message) => heard.push(Number(message)));
    const called: number[] = [];
    const sizes: unknown[] = [];
    for (let i = 0; i < COUNT; i++) {
      sender.send(String(i), PORT, ENDS[1].address, (error, bytes) => {
        expect(error).toBeNull();
        sizes.push(bytes);
        called.push(i);
      });
    }
    // More at once than there are frames to send from.
    expect(sender.getSendQueueCount()).toBeGreaterThan(0);
    expect(sender.getSendQueueSize()).toBeGreaterThan(sender.getSendQueueCount());
    await until("callbacks", () => called.length === COUNT);
    expect(called).toEqual(Array.from({ length: COUNT }, (_, i) => i));
    expect(sizes).toEqual(called.map((i) => String(i).length));
    // The wire may lose some, but changes no order.
    await until("datagrams", () => heard.length > COUNT / 2);
    expect(heard).toEqual([...new Set(heard)].toSorted((a, b) => a - b));
    expect([sender.getSendQueueCount(), sender.getSendQueueSize()]).toEqual([0, 0]);
    sender.close();
    receiver.close();
  });

  test("what waits when the socket is closed is given up", async () => {
    const sender = await bound(engines[0]);
    let sent = 0;
    const errors = new Set<string>();
    for (let i = 0; i < 2000; i++) {
      sender.send("lost", PORT, ENDS[1].address, (error) => {
        if (error === null) sent++;
        else errors.add(`${(error as NodeJS.ErrnoException).code} ${error.message}`);
      });
    }
    const waiting = sender.getSendQueueCount();
    sender.close();
    await until("callbacks", () => sent === 2000 - waiting && errors.size === 1);
    expect([...errors]).toEqual([`ECANCELED send ECANCELED ${ENDS[1].address}:${PORT}`]);
  });

  test("bindSync and connectSync", async () => {
    useEngine(engines[0]);
    const [socket, other] = [createSocket("udp4"), createSocket("udp4")];
    const log: string[] = [];
    for (const name of ["listening", "connect"]) socket.on(name, () => log.push(name));
    expect(socket.bindSync({ port: 9001 })).toEqual({ address: "0.0.0.0", family: "IPv4", port: 9001 });
    expect(() => socket.bindSync()).toThrow("Socket is already bound");
    expect(() => other.bindSync({ port: 9001 })).toThrow("bind EADDRINUSE 0.0.0.0:9001");
    expect(() => other.bindSync({ address: "name.example" })).toThrow("bind EINVAL name.example");
    expect(() => socket.connectSync(0)).toThrow(/Port should be > 0/);
    socket.connectSync(PORT, ENDS[1].address);
    expect(socket.remoteAddress()).toEqual({ address: ENDS[1].address, family: "IPv4", port: PORT });
    expect(() => socket.connectSync(PORT, ENDS[1].address)).toThrow("Already connected");
    expect(log).toEqual([]);
    await until("events", () => log.length === 2);
    expect(log).toEqual(["listening", "connect"]);
    other.connectSync(PORT, ENDS[1].address);
    expect(other.address().address).toBe(ENDS[0].address);
    useEngine(null);
    socket.close();
    other.close();
  });
});

test("a message does not come in the middle of a send, but in a later turn, before the next ones", async () => {
  // The lcore of the other engine echoes, while this thread is busy.
  const engines = await startPair({ module: new URL("../engine/modules/echo.ts", import.meta.url), data: { port: 7 } });
  const socket = await bound(engines[0]);
  const heard: number[] = [];
  socket.on("message", (message) => heard.push(Number(message)));
  const COUNT = 400;
  const send = (from: number, to: number): void => {
    for (let i = from; i < to; i++) socket.send(String(i), 7, ENDS[1].address);
  };
  send(0, COUNT / 2);
  // They leave at the end of this turn's microtasks; while the thread is busy their answers come, before more frames do.
  await Promise.resolve();
  await Promise.resolve();
  Bun.sleepSync(20);
  send(COUNT / 2, COUNT);
  expect(heard).toEqual([]);
  await until("answers", () => heard.length > COUNT / 2);
  expect(heard).toEqual([...new Set(heard)].toSorted((a, b) => a - b));
  socket.close();
  for (const engine of engines) await engine.close();
});

describe("engines that end", () => {
  test("closed: its sockets close", async () => {
    const engines = await startPair();
    const socket = await bound(engines[0]);
    const closed = once(socket, "close");
    for (const engine of engines) await engine.close();
    await closed;
    expect(() => socket.send("x", PORT, ENDS[1].address)).toThrow("Not running");
  });

  test("failed: its sockets say with what", async () => {
    const module = new URL("../engine/modules/throws.ts", import.meta.url);
    const engines = await startPair({ module, data: { where: "handler", port: 7 } });
    const [sender, socket] = [await bound(engines[0]), await bound(engines[1])];
    const ended = Promise.all([once(socket, "error"), once(socket, "close")]);
    sender.send("x", 7, ENDS[1].address);
    const [[error]] = await ended;
    expect(error.message).toContain("in the handler");
    sender.close();
    for (const engine of engines) await engine.close();
  });

  test("that do not start: an error of bind, and the next bind tries again", async () => {
    configure({ interface: "nosuch0" });
    const socket = createSocket("udp4");
    expect(() => socket.bindSync()).toThrow("no engine runs yet");
    for (let i = 0; i < 2; i++) {
      socket.bind();
      const [error] = await once(socket, "error");
      expect(error.message).toContain("nosuch0");
    }
    socket.close();
    await closeDefaultEngine();
  });
});
