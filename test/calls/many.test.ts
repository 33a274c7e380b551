/** An epoll instance, and poll, over thousands of sockets, every other one the engine's, against one of the kernel's over sockets of its own. */
import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { createMemoryWire } from "../../queues/memory.ts";
import {
  AF_INET,
  AF_UNIX,
  EPOLL_CTL_ADD,
  EPOLL_CTL_MOD,
  EPOLLET,
  EPOLLEXCLUSIVE,
  EPOLLONESHOT,
  POLLIN,
  SOCK_DGRAM,
} from "../../sockets/calls/constants.ts";
import { KernelWatch } from "../../sockets/calls/events/kernel-watch.ts";
import { NewsSources } from "../../sockets/calls/events/news-sources.ts";
import { KernelCalls } from "../../sockets/calls/kernel-calls.ts";
import { KernelFile } from "../../sockets/calls/kernel-file.ts";
import type { SocketProcess } from "../../sockets/calls/process.ts";
import { encodeAddress } from "../../sockets/calls/sockaddr.ts";
import type { SocketCalls } from "../../sockets/calls/socket-calls.ts";
import { CleanUp, startOnWire } from "../own/support.ts";
import { randomFrom } from "./unix/random.ts";

setDefaultTimeout(60_000);

const cleanUp = new CleanUp();
afterEach(() => cleanUp.run());

const SOCKETS = 3000;
const FIRST_PORT = 10_000;
const ROUNDS = 20;
/** How each fifth socket is watched. */
const MODES = [0, EPOLLET, EPOLLONESHOT, EPOLLET | EPOLLONESHOT, EPOLLEXCLUSIVE];
const ARRIVAL_MS = 5000;

/** Sockets that are watched, and how something comes to one. */
interface Field {
  readonly calls: SocketCalls;
  readonly fds: readonly number[];
  /** Returns once the datagram is there to be read. */
  send(index: number): void;
}

function kernelPair(): [number, number] {
  const ends = new Int32Array(2);
  expect(kernel.socketpair(AF_UNIX, SOCK_DGRAM, 0, ends)).toBe(0);
  cleanUp.add(() => {
    for (const fd of ends) kernel.close(fd);
  });
  return [ends[0], ends[1]];
}

const kernel = new KernelCalls();

function kernelField(): Field {
  const pairs = Array.from({ length: SOCKETS }, kernelPair);
  return { calls: kernel, fds: pairs.map(([fd]) => fd), send: (i) => kernel.write(pairs[i][1], Uint8Array.of(1)) };
}

/** Every other one is a UDP socket of an engine, the rest are the kernel's. */
async function mixedField(): Promise<Field> {
  const wire = createMemoryWire();
  const calls = (await startOnWire(wire, 0, cleanUp, { sockets: 2 * SOCKETS })).calls();
  const peer = (await startOnWire(wire, 1, cleanUp)).calls();
  const from = peer.socket(AF_INET, SOCK_DGRAM, 0);
  const watch = new KernelWatch();
  cleanUp.add(() => watch.close());
  const at = (address: string, index: number): Uint8Array =>
    encodeAddress({ family: AF_INET, address, port: FIRST_PORT + index });
  const fds: number[] = [];
  const ends: number[] = [];
  for (let i = 0; i < SOCKETS; i++) {
    const [fd, end] = i % 2 === 0 ? [udp(calls, at("0.0.0.0", i)), -1] : adopted(calls, watch);
    fds.push(fd);
    ends.push(end);
  }
  return {
    calls,
    fds,
    send(i) {
      if (ends[i] >= 0) kernel.write(ends[i], Uint8Array.of(1));
      else peer.sendto(from, Uint8Array.of(1), 0, at("198.18.0.1", i));
      expect(calls.poll([{ fd: fds[i], events: POLLIN, revents: 0 }], ARRIVAL_MS)).toBe(1);
    },
  };
}

function udp(calls: SocketProcess, address: Uint8Array): number {
  const fd = calls.socket(AF_INET, SOCK_DGRAM, 0);
  expect(calls.bind(fd, address)).toBe(0);
  return fd;
}

function adopted(calls: SocketProcess, watch: KernelWatch): [number, number] {
  const ends = new Int32Array(2);
  expect(kernel.socketpair(AF_UNIX, SOCK_DGRAM, 0, ends)).toBe(0);
  cleanUp.add(() => kernel.close(ends[1]));
  return [calls.adopt(new KernelFile(ends[0], watch)), ends[1]];
}

/** What epoll_wait and poll tell in each round, without its order. */
function told({ calls, fds, send }: Field): number[][] {
  const next = randomFrom(7);
  const epoll = calls.epollCreate(0);
  fds.forEach((fd, i) => {
    const events = POLLIN | MODES[i % MODES.length];
    expect(calls.epollControl(epoll, EPOLL_CTL_ADD, fd, { events, data: i })).toBe(0);
  });
  const events = Array.from({ length: SOCKETS }, () => ({ events: 0, data: 0 }));
  const wait = (): number[] => {
    const count = calls.epollWait(epoll, events, 0);
    return events
      .slice(0, count)
      .map(({ data }) => data)
      .sort((a, b) => a - b);
  };
  const rounds: number[][] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const chosen = Array.from({ length: 20 }, () => next(SOCKETS));
    for (const index of chosen) send(index);
    // The second wait shows which of them are told once.
    rounds.push(wait(), wait());
    const entries = fds.map((fd) => ({ fd, events: POLLIN, revents: 0 }));
    rounds.push([calls.poll(entries, 0), ...entries.flatMap(({ revents }, i) => (revents === 0 ? [] : [i]))]);
    for (const index of chosen) {
      // Some stay unread.
      if (index % 3 !== 0) calls.recvfrom(fds[index], new Uint8Array(4), 0, null);
      const mode = MODES[index % MODES.length];
      if ((mode & EPOLLONESHOT) !== 0 && index % 2 === 0)
        calls.epollControl(epoll, EPOLL_CTL_MOD, fds[index], { events: POLLIN | mode, data: index });
    }
  }
  calls.close(epoll);
  return rounds;
}

test("thousands of sockets, the engine's and the kernel's, are told as the kernel tells its own", async () => {
  const expected = told(kernelField());
  expect(expected.flat().length).toBeGreaterThan(ROUNDS * 20);
  expect(told(await mixedField())).toEqual(expected);
});

test("news are fetched once for all sockets of a thread", async () => {
  const calls = (await startOnWire(createMemoryWire(), 0, cleanUp)).calls();
  const sources = new NewsSources();
  const files = Array.from({ length: 10 }, () => calls.descriptors.get(calls.socket(AF_INET, SOCK_DGRAM, 0))!);
  for (const file of files) sources.add(file);
  expect([...sources.files()]).toEqual([files[0]]);
  sources.remove(files[0]);
  expect([...sources.files()]).toEqual([files[1]]);
  for (const file of files) sources.remove(file);
  expect([...sources.files()]).toEqual([]);
});
