/** TCP sockets of threads that come and go, and of an engine that ends; over veth against the kernel's TCP, both roles. */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { ERRNO } from "af-xdp-bindings";
import { Engine } from "../../engine/engine.ts";
import { getAffinity } from "../../engine/host/affinity.ts";
import { openShared } from "../../engine/wiring.ts";
import type { TcpSocket } from "../../sockets/stream/tcp-socket.ts";
import { makeHosts, requires, type VethPair } from "../support/hosts.ts";
import { until } from "../support/kernel-udp.ts";
import { connectionsOf, echoClient, echoHandlers, enginePair, SERVER } from "./pair.ts";

setDefaultTimeout(60_000);

const PORT = 7200;
const CPUS = getAffinity(0);
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

interface Heard {
  listening?: number;
  closed?: number;
  left?: boolean;
  open?: boolean;
}

/** A worker with a listener on the engine, and what it has said. */
async function serverThread(engine: Engine): Promise<{ worker: Worker; heard: Heard[] }> {
  const workerData = { descriptor: engine.descriptor(), port: PORT };
  const worker = new Worker(new URL("./modules/tcp-thread.ts", import.meta.url), { workerData });
  closers.push(() => worker.terminate());
  const heard: Heard[] = [];
  worker.on("message", (message: Heard) => void heard.push(message));
  await until("the worker listens", () => heard.length > 0);
  expect(heard[0].listening).toBe(PORT);
  return { worker, heard };
}

/** Sends all the time; gives how the connection ended. */
function flood(engine: Engine, opened: () => void): Promise<number> {
  const chunk = new Uint8Array(20_000);
  return new Promise((resolve) => {
    const push = (socket: TcpSocket): void => {
      while (socket.write(chunk) > 0);
    };
    engine.connect(
      { address: SERVER, port: PORT },
      {
        open: (socket) => {
          opened();
          push(socket);
        },
        writable: push,
        readable: (socket) => {
          for (let count = socket.peek(); count > 0; count = socket.peek()) socket.consume(count);
        },
        closed: (socket, errno) => {
          socket.close();
          resolve(errno);
        },
      },
    );
  });
}

describe("threads", () => {
  test("one that leaves in the middle: its connections are reset, the next has its place, and no frame is lost", async () => {
    const [server, client] = await enginePair([1, 1], { frames: 1024 });
    closers.push(
      () => server.close(),
      () => client.close(),
    );
    // 128 frames are lent to each: more rounds than there would be frames for.
    for (let round = 0; round < 10; round++) {
      const { worker, heard } = await serverThread(server);
      expect(await echoClient(client, { address: SERVER, port: PORT }, 50_000)).toEqual({ errno: 0, received: 50_000 });
      let open = 0;
      const ends = [1, 2, 3].map(() => flood(client, () => void open++));
      await until("connections", () => open === 3);
      worker.postMessage("leave");
      expect(await Promise.all(ends)).toEqual([ERRNO.ECONNRESET, ERRNO.ECONNRESET, ERRNO.ECONNRESET]);
      await until("it has left", () => heard.some(({ left }) => left !== undefined));
      expect(heard.find(({ left }) => left !== undefined)?.left).toBe(true);
      await until("no record is left", () => connectionsOf(server) === 0);
    }
  });

  test("one that is terminated: within seconds its connections are reset, its port and its place are free", async () => {
    const notices: string[] = [];
    const [server, client] = await enginePair([1, 1], { threads: 2, onNotice: (text) => notices.push(text) });
    closers.push(
      () => server.close(),
      () => client.close(),
    );
    // More often than there are places.
    for (let round = 1; round <= 2; round++) {
      const { worker } = await serverThread(server);
      let open = 0;
      const ends = [1, 2].map(() => flood(client, () => void open++));
      await until("connections", () => open === 2);
      await worker.terminate();
      expect(await Promise.all(ends)).toEqual([ERRNO.ECONNRESET, ERRNO.ECONNRESET]);
      await until("no record is left", () => connectionsOf(server) === 0);
      expect(notices.filter((text) => text.includes("without detach()"))).toHaveLength(round);
      const { mesh } = openShared(server.descriptor().wiring);
      await until("its place is free", () => !mesh.isTaken(mesh.lcores + 1));
    }
    // Nobody listens there any more.
    const { promise, resolve } = Promise.withResolvers<number>();
    client.connect({ address: SERVER, port: PORT }, { closed: (_, errno) => resolve(errno) });
    expect(await promise).toBe(ERRNO.ECONNREFUSED);
  });

  test("an engine that ends: its other threads hear ECONNABORTED, peers are reset or hear nothing", async () => {
    const [server, client] = await enginePair();
    closers.push(() => client.close());
    const { heard } = await serverThread(server);
    let open = false;
    let ended = -1;
    client.connect(
      { address: SERVER, port: PORT },
      {
        open: () => {
          open = true;
        },
        closed: (_socket, errno) => {
          ended = errno;
        },
      },
    );
    await until("the connection", () => open && heard.some((message) => message.open === true));
    await server.close();
    await until("the thread hears of it", () => heard.some(({ closed }) => closed !== undefined));
    expect(heard.find(({ closed }) => closed !== undefined)?.closed).toBe(ERRNO.ECONNABORTED);
    if (ended >= 0) expect(ended).toBe(ERRNO.ECONNRESET);
  });

  test("an engine whose own thread has the connections resets them as it ends", async () => {
    const [server, client] = await enginePair();
    closers.push(() => client.close());
    server.listen({ port: PORT }, echoHandlers());
    let open = 0;
    const end = flood(client, () => void open++);
    await until("the connection", () => open === 1);
    await server.close();
    expect(await end).toBe(ERRNO.ECONNRESET);
  });

  test("what a handler throws is an uncaught exception; the connection and the others go on", async () => {
    const script = fileURLToPath(new URL("./throwing-tcp.ts", import.meta.url));
    const child = Bun.spawn([process.execPath, script], { stdout: "pipe", stderr: "inherit" });
    expect(JSON.parse(await child.stdout.text())).toEqual({
      received: [3000, 20_000, 7],
      errors: ["the application's"],
    });
  });
});

/** What python prints of a script in a namespace. */
async function python(hosts: VethPair, script: string): Promise<string> {
  const child = hosts.a.ns.run(() => Bun.spawn(["python3", "-c", script], { stdout: "pipe", stderr: "inherit" }));
  const text = await child.stdout.text();
  await child.exited;
  return text.trim();
}

async function overVeth(): Promise<{ hosts: VethPair; engine: Engine }> {
  const hosts = makeHosts({ queues: 2 });
  closers.push(() => hosts.close());
  const { name, ns } = hosts.b;
  const engine = await Engine.start({ interface: name, netns: ns.path, cpus: CPUS.slice(0, 2), isolate: false });
  closers.push(() => engine.close());
  // A GSO segment of the kernel's is no frame: see docs/operations.md.
  hosts.a.ns.run(() => Bun.spawnSync(["ethtool", "-K", hosts.a.name, "tso", "off", "gso", "off"]));
  return { hosts, engine };
}

describe.skipIf(requires("veth", "af_xdp", "bpf") !== "" || Bun.which("python3") === null)("over veth", () => {
  test("the kernel's TCP is the client: sizes, half close, a reset", async () => {
    const { hosts, engine } = await overVeth();
    for (const address of ["0.0.0.0", "::"])
      engine.listen({ address, port: PORT, ipv6Only: address === "::" }, echoHandlers());
    const script = (address: string): string => `
import os, socket, struct, threading
def session(size):
    s = socket.create_connection(("${address}", ${PORT}), 10)
    data = os.urandom(size)
    got = bytearray()
    def read():
        while True:
            part = s.recv(1 << 16)
            if not part: break
            got.extend(part)
    reader = threading.Thread(target=read)
    reader.start()
    s.sendall(data)
    s.shutdown(1)
    reader.join()
    s.close()
    return bytes(got) == data
print(all([session(n) for n in [0, 1, 64, 1448, 5000, 2000000] + [300] * 20]))
many = [socket.create_connection(("${address}", ${PORT}), 10) for i in range(200)]
for i, s in enumerate(many): s.sendall(str(i).encode())
print(all(s.recv(10) == str(i).encode() for i, s in enumerate(many)))
for s in many:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()
`;
    for (const address of [hosts.b.ipv4Text, hosts.b.ipv6Text])
      expect(await python(hosts, script(address))).toBe("True\nTrue");
    await until("no record is left", () => connectionsOf(engine) === 0);
  });

  test("the kernel's TCP is the server, of both families; nobody listens: ECONNREFUSED", async () => {
    const { hosts, engine } = await overVeth();
    const script = `
import socket, threading
def serve(s):
    while True:
        part = s.recv(1 << 16)
        if not part: break
        s.sendall(part)
    s.close()
l = socket.socket(socket.AF_INET6)
l.bind(("::", ${PORT}))
l.listen(100)
print("ready", flush=True)
while True:
    s, _ = l.accept()
    threading.Thread(target=serve, args=(s,), daemon=True).start()
`;
    const child = hosts.a.ns.run(() => Bun.spawn(["python3", "-c", script], { stdout: "pipe", stderr: "inherit" }));
    closers.push(() => child.kill());
    const reader = child.stdout.getReader();
    await reader.read();
    reader.releaseLock();
    for (const address of [hosts.a.ipv4Text, hosts.a.ipv6Text]) {
      const sizes = [0, 1, 1448, 70_000, 1_000_000];
      const outcomes = await Promise.all(sizes.map((bytes) => echoClient(engine, { address, port: PORT }, bytes)));
      expect(outcomes).toEqual(sizes.map((received) => ({ errno: 0, received })));
      const refused = await echoClient(engine, { address, port: PORT + 1 }, 5);
      expect(refused).toEqual({ errno: ERRNO.ECONNREFUSED, received: 0 });
    }
  });
});
