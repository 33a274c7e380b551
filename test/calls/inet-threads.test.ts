/** engine.calls() in its thread: waiting in the event loop, blocking, spinning, on an lcore; and what is left behind. */

import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { ERRNO } from "af-xdp-bindings";
import { Engine } from "../../engine/engine.ts";
import { MEMORY_IFINDEX } from "../../engine/wiring.ts";
import { createMemoryWire } from "../../queues/memory.ts";
import { AsyncCalls } from "../../sockets/calls/async-calls.ts";
import { AF_INET, AF_UNIX, POLLIN, POLLOUT, SOCK_DGRAM, SOCK_STREAM } from "../../sockets/calls/constants.ts";
import { controlInt } from "../../sockets/calls/control.ts";
import { KernelWatch } from "../../sockets/calls/events/kernel-watch.ts";
import { KernelCalls } from "../../sockets/calls/kernel-calls.ts";
import { KernelFile } from "../../sockets/calls/kernel-file.ts";
import { addressBuffer, addressIn } from "../../sockets/calls/message.ts";
import type { SocketProcess } from "../../sockets/calls/process.ts";
import { encodeAddress } from "../../sockets/calls/sockaddr.ts";
import { IP_TTL, IPPROTO_IP, SO_BINDTOIFINDEX, SO_BUSY_POLL, SO_RCVTIMEO, SOL_SOCKET } from "../../sockets/options.ts";
import { CleanUp, startOnWire } from "../own/support.ts";
import { makeHosts, requires } from "../support/hosts.ts";

setDefaultTimeout(30_000);

const cleanUp = new CleanUp();
afterEach(() => cleanUp.run());

const WAIT_MS = 5000;
const at = (address: string, port: number): Uint8Array => encodeAddress({ family: AF_INET, address, port });
const text = (value: string): Uint8Array => new TextEncoder().encode(value);

function open(calls: SocketProcess, port = 0): number {
  const fd = calls.socket(AF_INET, SOCK_DGRAM, 0);
  expect(calls.bind(fd, at("0.0.0.0", port))).toBe(0);
  return fd;
}

/** Two engines on a wire, and a socket of each. */
async function pair(): Promise<{ a: Engine; b: Engine; here: number; there: number }> {
  const wire = createMemoryWire();
  const a = await startOnWire(wire, 0, cleanUp);
  const b = await startOnWire(wire, 1, cleanUp);
  return { a, b, here: open(a.calls(), 5000), there: open(b.calls(), 6000) };
}

describe("in the event loop", () => {
  test("a receive is awaited, and ended by a datagram, by its time, by close", async () => {
    const { a, b, here, there } = await pair();
    const calls = a.calls();
    const awaited = new AsyncCalls(calls);
    const bytes = new Uint8Array(16);
    const first = awaited.recvfrom(here, bytes, 0, null);
    setTimeout(() => {
      b.calls().sendto(there, text("awaited"), 0, at("198.18.0.1", 5000));
    }, 5);
    expect(await first).toBe(7);
    expect(await awaited.poll(here, POLLIN | POLLOUT)).toBe(POLLOUT);
    calls.setsockopt(here, SOL_SOCKET, SO_RCVTIMEO, new Uint8Array(BigInt64Array.of(0n, 10_000n).buffer));
    expect(await awaited.recvfrom(here, bytes)).toBe(-ERRNO.EAGAIN);
    const readable = awaited.poll(here, POLLIN, WAIT_MS);
    b.calls().sendto(there, text("polled"), 0, at("198.18.0.1", 5000));
    expect(await readable).toBe(POLLIN);
    calls.recvfrom(here, bytes, 0, null);
    calls.setsockopt(here, SOL_SOCKET, SO_RCVTIMEO, new Uint8Array(16));
    const last = awaited.recvfrom(here, bytes);
    setTimeout(() => calls.close(here), 5);
    expect(await last).toBe(-ERRNO.EBADF);
  });
});

describe("blocking", () => {
  test("a thread waits for datagrams and for descriptors of the kernel at once", async () => {
    const { a, b, here, there } = await pair();
    const calls = a.calls();
    const kernel = new KernelCalls();
    const ends = new Int32Array(2);
    kernel.socketpair(AF_UNIX, SOCK_DGRAM, 0, ends);
    const watch = new KernelWatch();
    cleanUp.add(() => watch.close());
    const file = calls.adopt(new KernelFile(ends[0], watch));
    const look = (timeoutMs: number): number[] => {
      const entries = [here, file].map((fd) => ({ fd, events: POLLIN, revents: 0 }));
      calls.poll(entries, timeoutMs);
      return entries.map(({ revents }) => revents);
    };
    expect(look(5)).toEqual([0, 0]);
    b.calls().sendto(there, text("x"), 0, at("198.18.0.1", 5000));
    expect(look(WAIT_MS)).toEqual([POLLIN, 0]);
    calls.recvfrom(here, new Uint8Array(4), 0, null);
    kernel.write(ends[1], text("y"));
    expect(look(WAIT_MS)).toEqual([0, POLLIN]);
    kernel.close(ends[1]);
    calls.close(file);
  });

  test("of a stream: SO_BUSY_POLL spins as well; an interface that the engine does not serve is no way", async () => {
    const wire = createMemoryWire();
    const a = (await startOnWire(wire, 0, cleanUp)).calls();
    const engine = await startOnWire(wire, 1, cleanUp);
    const b = engine.calls();
    const listener = a.socket(AF_INET, SOCK_STREAM, 0);
    expect(a.bind(listener, at("0.0.0.0", 5000))).toBe(0);
    expect(a.listen(listener, 1)).toBe(0);
    const away = b.socket(AF_INET, SOCK_STREAM, 0);
    expect(b.setsockopt(away, SOL_SOCKET, SO_BINDTOIFINDEX, controlInt(MEMORY_IFINDEX + 1))).toBe(0);
    expect(b.connect(away, at("198.18.0.1", 5000))).toBe(-ERRNO.ENETUNREACH);
    const there = b.socket(AF_INET, SOCK_STREAM, 0);
    expect(b.setsockopt(there, SOL_SOCKET, SO_BINDTOIFINDEX, controlInt(MEMORY_IFINDEX))).toBe(0);
    expect(b.connect(there, at("198.18.0.1", 5000))).toBe(0);
    expect(b.setsockopt(there, SOL_SOCKET, SO_BINDTOIFINDEX, controlInt(MEMORY_IFINDEX + 1))).toBe(-ERRNO.EOPNOTSUPP);
    const here = a.accept4(listener, null, 0);
    expect(b.setsockopt(there, SOL_SOCKET, SO_BUSY_POLL, controlInt(WAIT_MS * 1000))).toBe(0);
    const bytes = new Uint8Array(16);
    const ask = (): number => {
      a.sendto(here, text("x"), 0, null);
      return b.recvfrom(there, bytes, 0, null);
    };
    ask();
    const before = engine.counters(0).Wakeups;
    for (let i = 0; i < 50; i++) expect(ask()).toBe(1);
    expect(engine.counters(0).Wakeups - before).toBeLessThan(8);
  });

  test("SO_BUSY_POLL: a receive spins, and nobody has to wake it", async () => {
    const { a, b, here, there } = await pair();
    const calls = a.calls();
    const bytes = new Uint8Array(16);
    // The answer is under way before the question's thread waits for it; an lcore wakes who sleeps.
    const ask = (): number => {
      b.calls().sendto(there, text("x"), 0, at("198.18.0.1", 5000));
      return calls.recvfrom(here, bytes, 0, null);
    };
    expect(calls.setsockopt(here, SOL_SOCKET, SO_BUSY_POLL, controlInt(-1))).toBe(-ERRNO.EINVAL);
    expect(calls.setsockopt(here, SOL_SOCKET, SO_BUSY_POLL, controlInt(WAIT_MS * 1000))).toBe(0);
    ask();
    const before = a.counters(0).Wakeups;
    for (let i = 0; i < 50; i++) expect(ask()).toBe(1);
    // Who sleeps is woken for every second one; the thread of the host protocols is, now and then, whatever happens here.
    expect(a.counters(0).Wakeups - before).toBeLessThan(8);
  });
});

test("an lcore answers by descriptor", async () => {
  const wire = createMemoryWire();
  const module = fileURLToPath(new URL("./inet/lcore-echo.ts", import.meta.url));
  await startOnWire(wire, 0, cleanUp, { module });
  const client = await startOnWire(wire, 1, cleanUp);
  const calls = client.calls();
  const fd = open(calls);
  const from = addressBuffer();
  expect(calls.sendto(fd, text("to an lcore"), 0, at("198.18.0.1", 7))).toBe(11);
  expect(calls.recvfrom(fd, new Uint8Array(32), 0, from)).toBe(11);
  expect(addressIn(from)).toEqual(at("198.18.0.1", 7));
});

describe.skipIf(requires("veth", "af_xdp", "bpf") !== "")("beside the kernel", () => {
  test("options, binds and connects that fail leave nothing behind", async () => {
    const hosts = makeHosts();
    cleanUp.add(() => hosts.close());
    const engine = await Engine.start({ interface: hosts.a.name, netns: hosts.a.ns.path });
    cleanUp.add(() => engine.close());
    const calls = engine.calls();
    const held = open(calls, 5000);
    const descriptors = (): number => readdirSync("/proc/self/fd").length;
    const before = descriptors();
    for (let i = 0; i < 100; i++) {
      const fd = calls.socket(AF_INET, SOCK_DGRAM, 0);
      expect(calls.setsockopt(fd, IPPROTO_IP, IP_TTL, controlInt(999))).toBe(-ERRNO.EINVAL);
      expect(calls.bind(fd, at("0.0.0.0", 5000))).toBe(-ERRNO.EADDRINUSE);
      expect(calls.bind(fd, at("203.0.113.1", 0))).toBe(-ERRNO.EADDRNOTAVAIL);
      expect(calls.connect(fd, at("203.0.113.1", 9))).toBe(-ERRNO.ENETUNREACH);
      calls.close(fd);
    }
    expect(descriptors()).toBe(before);
    calls.close(held);
    // The port is free for the kernel's own sockets too.
    const kernel = new KernelCalls((body) => hosts.a.ns.run(body));
    const theirs = kernel.socket(AF_INET, SOCK_DGRAM, 0);
    expect(kernel.bind(theirs, at("0.0.0.0", 5000))).toBe(0);
    kernel.close(theirs);
  });
});
