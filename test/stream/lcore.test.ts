/** TCP on lcores: engines with modules, over a wire in memory and over veth against the kernel's TCP. */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { ERRNO, sys } from "af-xdp-bindings";
import type { MemoryLink } from "../../engine/config.ts";
import { Engine } from "../../engine/engine.ts";
import { getAffinity } from "../../engine/host/affinity.ts";
import { createMemoryWire } from "../../queues/memory.ts";
import { sockaddrOf } from "../../sockets/sockaddr.ts";
import { AF_INET } from "../../sockets/table.ts";
import { ip } from "../../sockets/wire/address.ts";
import { makeHosts, requires, type VethPair } from "../support/hosts.ts";
import { until } from "../support/kernel-udp.ts";
import type { ClientData } from "./modules/tcp-client.ts";
import type { LateWriteData } from "./modules/tcp-late-write.ts";

setDefaultTimeout(60_000);

const module = (name: string): URL => new URL(`./modules/${name}.ts`, import.meta.url);
const CPUS = getAffinity(0);
const PORT = 7000;
const SOCK_STREAM = 1;

const closers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const mac = (n: number): Uint8Array => Uint8Array.of(2, 0, 0, 0, 0, n);

async function started(options: Parameters<typeof Engine.start>[0]): Promise<Engine> {
  // On a wire in memory, or a veth in a namespace of its own: every caller says which.
  const engine = await Engine.start(options satisfies { memory?: unknown; netns?: string });
  closers.push(() => engine.close());
  return engine;
}

/** Both ends of a wire in memory, of which the first has `queues`. */
function wire(queues: number): (side: 0 | 1) => MemoryLink {
  const wire = createMemoryWire({ queues: [queues, 1], slots: 1024 });
  return (side) => ({
    wire,
    side,
    mac: mac(side + 1),
    addresses: [`198.18.0.${side + 1}/24`, `2001:db8::${side + 1}/64`],
    neighbours: [
      { address: `198.18.0.${2 - side}`, mac: mac(2 - side) },
      { address: `2001:db8::${2 - side}`, mac: mac(2 - side) },
    ],
  });
}

/** Two engines on a wire, the server with `queues` lcores as far as there are CPUs. */
async function pair(queues: number, client: Omit<ClientData, "results">): Promise<Int32Array> {
  const link = wire(queues);
  const results = new SharedArrayBuffer(16);
  const cpus = CPUS.slice(0, queues);
  await started({ memory: link(0), cpus, module: module("tcp-echo"), data: { port: PORT, reusePort: true } });
  const data: ClientData = { ...client, results };
  await started({ memory: link(1), cpus: CPUS.slice(-1), module: module("tcp-client"), data });
  return new Int32Array(results);
}

const BOTH = ["198.18.0.1", "2001:db8::1"];

describe("over a wire in memory", () => {
  test("connections of both families, one after another: every byte comes back", async () => {
    const counts = await pair(1, { addresses: BOTH, port: PORT, connections: 100, bytes: 5000 });
    await until("all connections", () => counts[0] + counts[1] === 100);
    expect(counts[1]).toBe(0);
  });

  test("more than the buffers hold", async () => {
    const counts = await pair(1, { addresses: BOTH, port: PORT, connections: 2, bytes: 5_000_000 });
    await until("both connections", () => counts[0] + counts[1] === 2);
    expect(counts[0]).toBe(2);
  });

  test.skipIf(CPUS.length < 2)("two lcores, a listener each: connections live where their SYN came", async () => {
    const counts = await pair(2, { addresses: BOTH, port: PORT, connections: 60, bytes: 2000 });
    await until("all connections", () => counts[0] + counts[1] === 60);
    expect(counts[0]).toBe(60);
  });

  test("nobody listens: ECONNREFUSED", async () => {
    const counts = await pair(1, { addresses: BOTH, port: PORT + 1, connections: 4, bytes: 1 });
    await until("all refusals", () => counts[1] === 4);
    expect(counts[2]).toBe(ERRNO.ECONNREFUSED);
  });
});

/** What python prints of a script in a namespace. */
async function python(hosts: VethPair, script: string): Promise<string> {
  const child = hosts.a.ns.run(() => Bun.spawn(["python3", "-c", script], { stdout: "pipe", stderr: "inherit" }));
  const text = await child.stdout.text();
  await child.exited;
  return text.trim();
}

test("nobody has a TCP socket at all: ECONNREFUSED all the same", async () => {
  const link = wire(1);
  const results = new SharedArrayBuffer(16);
  await started({ memory: link(0) });
  const data: ClientData = { addresses: BOTH, port: PORT, connections: 2, bytes: 1, results };
  await started({ memory: link(1), module: module("tcp-client"), data });
  const counts = new Int32Array(results);
  await until("both refusals", () => counts[1] === 2);
  expect(counts[2]).toBe(ERRNO.ECONNREFUSED);
});

test("a write has taken the error: closed() tells all the same what has ended the connection", async () => {
  const link = wire(1);
  const results = new SharedArrayBuffer(8);
  await started({ memory: link(0), module: module("tcp-abort"), data: { port: PORT } });
  const data: LateWriteData = { address: BOTH[0], port: PORT, results };
  await started({ memory: link(1), module: module("tcp-late-write"), data });
  const told = new Int32Array(results);
  await until("the end", () => told[1] !== 0);
  expect([...told]).toEqual([-ERRNO.ECONNRESET, ERRNO.ECONNRESET]);
});

/** Whether the kernel lets a TCP socket have the port. */
function canBind(port: number): boolean {
  const fd = sys.socket(AF_INET, SOCK_STREAM, 0);
  const result = sys.bind(fd, sockaddrOf(ip("0.0.0.0"), port));
  sys.close(fd);
  return result === 0;
}

describe.skipIf(requires("veth", "af_xdp", "bpf") !== "" || Bun.which("python3") === null)("over veth", () => {
  test.each(["skb", "native"] as const)("mode %s: the kernel's TCP is the client", async (mode) => {
    const hosts = makeHosts({ queues: 2 });
    closers.push(() => hosts.close());
    const cpus = CPUS.slice(0, 2);
    const { name, ns } = hosts.b;
    await started({
      interface: name,
      netns: ns.path,
      mode,
      cpus,
      module: module("tcp-echo"),
      data: { port: PORT, reusePort: true },
    });
    const script = (address: string): string => `
import hashlib, os, socket, threading
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
print(all([session(n) for n in [0, 1, 64, 1448, 5000, 1000000] + [300] * 40]))
try:
    socket.create_connection(("${address}", ${PORT + 1}), 10)
except ConnectionRefusedError:
    print("refused")
`;
    // A GSO segment of the kernel's is no frame: see docs/operations.md.
    hosts.a.ns.run(() => Bun.spawnSync(["ethtool", "-K", hosts.a.name, "tso", "off", "gso", "off"]));
    for (const address of [hosts.b.ipv4Text, hosts.b.ipv6Text])
      expect(await python(hosts, script(address))).toBe("True\nrefused");
  });

  test("a peer that leaves segmentation to the device, by two queues of one lcore: every byte of every connection", async () => {
    const hosts = makeHosts({ queues: 2 });
    closers.push(() => hosts.close());
    const { name, ns } = hosts.b;
    hosts.a.ethtool.setOffloads(hosts.a.name, { txChecksum: true, scatterGather: true, tso: true, gso: true });
    expect(hosts.a.ethtool.features(hosts.a.name).get("tx-tcp-segmentation")?.active).toBe(true);
    const data = { port: PORT, reusePort: true };
    await started({ interface: name, netns: ns.path, mode: "skb", module: module("tcp-echo"), data });
    const script = `
import os, socket, threading
good = []
def session():
    s = socket.create_connection(("${hosts.b.ipv4Text}", ${PORT}), 30)
    data = os.urandom(3000000)
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
    good.append(bytes(got) == data)
threads = [threading.Thread(target=session) for _ in range(8)]
for t in threads: t.start()
for t in threads: t.join()
print(good.count(True))
`;
    expect(await python(hosts, script)).toBe("8");
  });

  test("a listener that has closed: its connections live on, its port is given up after the last", async () => {
    const hosts = makeHosts();
    closers.push(() => hosts.close());
    const { name, ns } = hosts.b;
    await started({ interface: name, netns: ns.path, module: module("tcp-once"), data: { port: PORT } });
    const script = `
import socket, time
s = socket.create_connection(("${hosts.b.ipv4Text}", ${PORT}), 10)
for i in range(5):
    s.sendall(b"still here")
    print(s.recv(100).decode())
    time.sleep(0.1)
try:
    socket.create_connection(("${hosts.b.ipv4Text}", ${PORT}), 10)
except ConnectionRefusedError:
    print("refused")
s.close()
`;
    expect(await python(hosts, script)).toBe(`${"still here\n".repeat(5)}refused`);
    await until("the kernel gives the port again", () => ns.run(() => canBind(PORT)));
  });
});
