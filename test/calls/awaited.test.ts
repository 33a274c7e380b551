/** What AsyncCalls resolves with, against what a thread gets that blocks in the kernel: MSG_WAITALL, SO_RCVLOWAT, and what ends them. */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { createMemoryWire } from "../../queues/memory.ts";
import { AsyncCalls } from "../../sockets/calls/async-calls.ts";
import { AF_INET, AF_UNIX, SOCK_STREAM } from "../../sockets/calls/constants.ts";
import { KernelWatch } from "../../sockets/calls/events/kernel-watch.ts";
import { raisePipe } from "../../sockets/calls/events/signals.ts";
import { KernelCalls } from "../../sockets/calls/kernel-calls.ts";
import { KernelFamily } from "../../sockets/calls/kernel-file.ts";
import { addressBuffer, addressIn, messageOf } from "../../sockets/calls/message.ts";
import { SocketProcess } from "../../sockets/calls/process.ts";
import { plainSleeper } from "../../sockets/calls/sleep.ts";
import { encodeAddress } from "../../sockets/calls/sockaddr.ts";
import type { SocketCalls } from "../../sockets/calls/socket-calls.ts";
import { UnixFamily } from "../../sockets/calls/unix/family.ts";
import { SOL_SOCKET } from "../../sockets/options.ts";
import { CleanUp, startOnWire } from "../own/support.ts";
import { makeHosts, requires } from "../support/hosts.ts";
import { type Received, received, STORIES, type Story } from "./awaited.ts";

setDefaultTimeout(30_000);

const cleanUp = new CleanUp();
afterAll(() => cleanUp.run());

/** Between two sends, milliseconds. */
const PAUSE_MS = 10;

/** A connection: the end that receives, and the one that sends. */
interface Connection {
  readonly here: number;
  readonly to: SocketCalls;
  readonly there: number;
}

async function play(
  { options = [], sends }: Story,
  calls: SocketCalls,
  { here, to, there }: Connection,
  receive: () => Promise<Received[]>,
): Promise<Received[]> {
  for (const [name, value] of options) expect(calls.setsockopt(here, SOL_SOCKET, name, value)).toBe(0);
  const done = receive();
  for (const send of sends) {
    await Bun.sleep(PAUSE_MS);
    send(to, there);
  }
  const results = await done;
  calls.close(here);
  to.close(there);
  return results;
}

const awaited = (story: Story, calls: SocketProcess, connection: Connection): Promise<Received[]> =>
  play(story, calls, connection, async () => {
    const results: Received[] = [];
    for (const { room, flags } of story.receives) {
      const message = { ...messageOf(new Uint8Array(room)), control: new Uint8Array(256) };
      const result = await new AsyncCalls(calls).recvmsg(connection.here, message, flags);
      results.push(received(result, message, (fd) => calls.close(fd)));
    }
    return results;
  });

const blocked = (story: Story, calls: SocketCalls, connection: Connection): Promise<Received[]> =>
  play(story, calls, connection, async () => {
    const worker = new Worker(new URL("./awaited-worker.ts", import.meta.url).href);
    const { promise, resolve, reject } = Promise.withResolvers<Received[]>();
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = ({ message }) => reject(new Error(message));
    worker.postMessage({ fd: connection.here, receives: story.receives });
    const results = await promise;
    worker.terminate();
    return results;
  });

function pairOf(calls: SocketCalls): Connection {
  const ends = new Int32Array(2);
  expect(calls.socketpair(AF_UNIX, SOCK_STREAM, 0, ends)).toBe(0);
  return { here: ends[0], to: calls, there: ends[1] };
}

/** A connection over TCP. The listener is closed. */
async function connectionOf(here: SocketCalls, address: string, there: SocketCalls): Promise<Connection> {
  const listener = here.socket(AF_INET, SOCK_STREAM, 0);
  expect(here.bind(listener, encodeAddress({ family: AF_INET, address, port: 0 }))).toBe(0);
  const name = addressBuffer();
  here.getsockname(listener, name);
  expect(here.listen(listener, 1)).toBe(0);
  const fd = there.socket(AF_INET, SOCK_STREAM, 0);
  expect(there.connect(fd, addressIn(name))).toBe(0);
  const accepted = here.accept4(listener, null, 0);
  expect(accepted).toBeGreaterThanOrEqual(0);
  here.close(listener);
  return { here: accepted, to: there, there: fd };
}

const named = (stories: readonly Story[]): (readonly [string, Story])[] => stories.map((story) => [story.name, story]);

describe("AF_UNIX", () => {
  const kernel = new KernelCalls();
  const watch = new KernelWatch();
  cleanUp.add(() => watch.close());
  const own = new SocketProcess(new Map([[AF_UNIX, new UnixFamily()]]), plainSleeper, raisePipe);
  const files = new SocketProcess(
    new Map([[AF_UNIX, new KernelFamily(AF_UNIX, watch)]]),
    plainSleeper,
    raisePipe,
    watch,
  );

  test.each(named(STORIES))("%s", async (_, story) => {
    const expected = await blocked(story, kernel, pairOf(kernel));
    expect(await awaited(story, own, pairOf(own))).toEqual(expected);
    expect(await awaited(story, files, pairOf(files))).toEqual(expected);
  });
});

describe.skipIf(requires("veth") !== "")("TCP", () => {
  test.each(named(STORIES.filter(({ unix }) => unix === undefined)))("%s", async (_, story) => {
    const hosts = makeHosts();
    const watch = new KernelWatch();
    const [a, b] = [hosts.a, hosts.b].map(({ ns }) => new KernelCalls((body) => ns.run(body)));
    const family = new KernelFamily(AF_INET, watch, (body) => hosts.a.ns.run(body));
    const files = new SocketProcess(new Map([[AF_INET, family]]), plainSleeper, raisePipe, watch);
    const wire = createMemoryWire();
    const engines = [await startOnWire(wire, 0, cleanUp), await startOnWire(wire, 1, cleanUp)];
    const own = engines[0].calls();
    const address = hosts.a.ipv4.join(".");
    const expected = await blocked(story, a, await connectionOf(a, address, b));
    expect(await awaited(story, files, await connectionOf(files, address, b))).toEqual(expected);
    expect(await awaited(story, own, await connectionOf(own, "198.18.0.1", engines[1].calls()))).toEqual(expected);
    files.exit();
    await cleanUp.run();
    hosts.close();
  });
});
