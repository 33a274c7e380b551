/** AF_UNIX between threads of an engine: names, connections, credentials, descriptors that go along or are handed over. */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Worker } from "node:worker_threads";
import { ERRNO } from "af-xdp-bindings";
import { createMemoryWire } from "../../queues/memory.ts";
import { AsyncCalls } from "../../sockets/calls/async-calls.ts";
import {
  AF_INET,
  AF_UNIX,
  MSG_DONTWAIT,
  SCM_RIGHTS,
  SOCK_DGRAM,
  SOCK_SEQPACKET,
  SOCK_STREAM,
} from "../../sockets/calls/constants.ts";
import { controlInt, decodeControl, encodeControl } from "../../sockets/calls/control.ts";
import { messageOf } from "../../sockets/calls/message.ts";
import { SOL_SOCKET } from "../../sockets/options.ts";
import { CleanUp, startOnWire } from "../own/support.ts";
import { unixAddress } from "./unix/tools.ts";

setDefaultTimeout(30_000);

const cleanUp = new CleanUp();
afterEach(() => cleanUp.run());

const rights = (fd: number): Uint8Array => encodeControl({ level: SOL_SOCKET, type: SCM_RIGHTS, data: controlInt(fd) });

describe("the kernel's sockets", () => {
  test.each([
    ["stream", SOCK_STREAM],
    ["dgram", SOCK_DGRAM],
    ["seqpacket", SOCK_SEQPACKET],
  ] as const)("%s: between two threads", async (label, type) => {
    const engine = await startOnWire(createMemoryWire(), 0, cleanUp);
    const calls = engine.calls({ unix: "kernel" });
    const awaited = new AsyncCalls(calls);
    const name = `\0lcore ${process.pid} threads ${label}`;
    const [pair, handed] = [new Int32Array(2), new Int32Array(2)];
    expect(calls.socketpair(AF_UNIX, SOCK_STREAM, 0, pair)).toBe(0);
    expect(calls.socketpair(AF_UNIX, SOCK_STREAM, 0, handed)).toBe(0);
    const end = calls.exportKernel(handed[1]);
    expect(end).toBeGreaterThanOrEqual(0);
    calls.close(handed[1]);
    const { promise: bound, resolve: onBound } = Promise.withResolvers<void>();
    const { promise: told, resolve: onTold, reject } = Promise.withResolvers<unknown[]>();
    const workerData = { descriptor: engine.descriptor(), type, name, end };
    const worker = new Worker(new URL("./unix-threads-worker.ts", import.meta.url), { workerData });
    worker.on("message", (data) => (data === "bound" ? onBound() : onTold(data)));
    worker.on("error", reject);
    cleanUp.add(() => worker.terminate());
    await bound;

    const fd = calls.socket(AF_UNIX, type, 0);
    // Only who has a name can be answered.
    if (type === SOCK_DGRAM) expect(calls.bind(fd, unixAddress(`${name} client`))).toBe(0);
    expect(calls.connect(fd, unixAddress(name))).toBe(0);
    const control = rights(pair[1]);
    const question = { ...messageOf(Uint8Array.of(1, 2, 3)), control, controlLength: control.length };
    expect(calls.sendmsg(fd, question, 0)).toBe(3);
    const answer = { ...messageOf(new Uint8Array(8)), control: new Uint8Array(64) };
    expect(await awaited.recvmsg(fd, answer)).toBe(1);
    expect(answer.iov[0][0]).toBe(9);
    // The other thread has written to what it was passed, and to the end that it was handed.
    const byte = new Uint8Array(4);
    expect([await awaited.recvfrom(pair[0], byte), byte[0]]).toEqual([1, 7]);
    expect([await awaited.recvfrom(handed[0], byte), byte[0]]).toEqual([1, 8]);
    const peer = type === SOCK_STREAM ? [12, true] : [];
    const listens = type === SOCK_DGRAM ? [] : [0];
    expect(await told).toEqual([0, ...listens, "010203", 0, 1, ...peer, 1, 1, true]);
    // What came back is the end again: it goes on when the other thread has ended.
    const [back] = decodeControl(answer.control, answer.controlLength) ?? [];
    const returned = new DataView(back.data.buffer, back.data.byteOffset).getInt32(0, true);
    expect(calls.write(returned, Uint8Array.of(6))).toBe(1);
    expect([await awaited.recvfrom(handed[0], byte), byte[0]]).toEqual([1, 6]);
  });

  test("files of a thread stay there: an engine's socket, an epoll instance", async () => {
    const calls = (await startOnWire(createMemoryWire(), 0, cleanUp)).calls({ unix: "kernel" });
    const pair = new Int32Array(2);
    calls.socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    for (const fd of [calls.socket(AF_INET, SOCK_DGRAM, 0), calls.epollCreate(0)]) {
      const control = rights(fd);
      const message = { ...messageOf(Uint8Array.of(1)), control, controlLength: control.length };
      expect(calls.sendmsg(pair[0], message, 0)).toBe(-ERRNO.EOPNOTSUPP);
      expect(calls.exportKernel(fd)).toBe(-ERRNO.EOPNOTSUPP);
    }
    expect(calls.recvfrom(pair[1], new Uint8Array(1), MSG_DONTWAIT, null)).toBe(-ERRNO.EAGAIN);
    expect(calls.exportKernel(9999)).toBe(-ERRNO.EBADF);
    expect(calls.adoptKernel(1 << 20)).toBe(-ERRNO.EBADF);
  });

  test("whose sockets they are is said once", async () => {
    const engine = await startOnWire(createMemoryWire(), 0, cleanUp);
    const calls = engine.calls();
    expect(engine.calls({ unix: "thread" })).toBe(calls);
    expect(() => engine.calls({ unix: "kernel" })).toThrow("another option unix");
    const other = await startOnWire(createMemoryWire(), 0, cleanUp);
    expect(() => other.calls({ unix: "threads" as "thread" })).toThrow(RangeError);
    const theirs = other.calls({ unix: "kernel" });
    expect(other.calls()).toBe(theirs);
    // A thread's own are reached from nowhere else.
    const [near, far] = [calls.socket(AF_UNIX, SOCK_DGRAM, 0), theirs.socket(AF_UNIX, SOCK_DGRAM, 0)];
    const name = unixAddress(`\0lcore ${process.pid} of a thread`);
    expect(calls.bind(near, name)).toBe(0);
    expect(theirs.connect(far, name)).toBe(-ERRNO.ECONNREFUSED);
  });
});
