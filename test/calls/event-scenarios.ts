/**
 * What poll, select, epoll and signals tell of sockets, as scenarios: played on the kernel's sockets and on ours, everything that is
 * recorded is to be equal.
 */
import {
  AF_UNIX,
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLL_CTL_MOD,
  EPOLLET,
  EPOLLEXCLUSIVE,
  EPOLLONESHOT,
  F_DUPFD,
  F_GETFD,
  F_GETFL,
  F_GETOWN,
  F_GETOWN_EX,
  F_GETSIG,
  F_OWNER_PGRP,
  F_OWNER_PID,
  F_OWNER_TID,
  F_SETFD,
  F_SETFL,
  F_SETOWN,
  F_SETOWN_EX,
  F_SETSIG,
  FIOASYNC,
  FIOCLEX,
  FIOGETOWN,
  FIONBIO,
  FIONCLEX,
  FIOSETOWN,
  MSG_DONTWAIT,
  O_NONBLOCK,
  POLLIN,
  POLLOUT,
  POLLPRI,
  POLLRDHUP,
  POLLRDNORM,
  POLLWRNORM,
  SHUT_RD,
  SHUT_RDWR,
  SHUT_WR,
  SIOCGPGRP,
  SIOCSPGRP,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_SEQPACKET,
  SOCK_STREAM,
} from "../../sockets/calls/constants.ts";
import { controlInt } from "../../sockets/calls/control.ts";
import type { EpollEvent, SocketCalls } from "../../sockets/calls/socket-calls.ts";

/** Notes what a call gave. */
export type Record = (what: string, value: unknown) => void;

export interface LocalScenario {
  readonly name: string;
  play(calls: SocketCalls, record: Record): void;
}

const EVERY = POLLIN | POLLOUT | POLLPRI | POLLRDNORM | POLLWRNORM | POLLRDHUP;
const TYPES = [
  ["stream", SOCK_STREAM],
  ["dgram", SOCK_DGRAM],
  ["seqpacket", SOCK_SEQPACKET],
] as const;
const byte = Uint8Array.of(1);

function pairOf(calls: SocketCalls, type: number): [number, number] {
  const out = new Int32Array(2);
  const result = calls.socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, out);
  if (result < 0) throw new Error(`socketpair: ${result}`);
  return [out[0], out[1]];
}

function pollOf(calls: SocketCalls, fd: number, events = EVERY): number {
  const entry = { fd, events, revents: 0 };
  calls.poll([entry], 0);
  return entry.revents;
}

/** Events that are there, as [events, data]. */
function takeEvents(calls: SocketCalls, epoll: number, most = 8): unknown {
  const events: EpollEvent[] = Array.from({ length: most }, () => ({ events: 0, data: 0 }));
  const count = calls.epollWait(epoll, events, 0);
  return count < 0 ? count : events.slice(0, count).map(({ events, data }) => [events, data]);
}

const set = (...fds: number[]): Uint8Array => {
  const bits = new Uint8Array(128);
  for (const fd of fds) bits[fd >> 3] |= 1 << (fd & 7);
  return bits;
};
/** Which of the descriptors are in the set: their numbers differ from one side to the other. */
const inSet = (bits: Uint8Array, ...fds: number[]): boolean[] =>
  fds.map((fd) => ((bits[fd >> 3] >> (fd & 7)) & 1) === 1);

/** What is done to the pair before it is looked at. */
const STATES: readonly (readonly [string, (calls: SocketCalls, a: number, b: number) => void])[] = [
  ["nothing done", () => {}],
  ["something to read", (calls, a) => void calls.write(a, byte)],
  [
    "read again",
    (calls, a, b) => {
      calls.write(a, byte);
      calls.read(b, new Uint8Array(8));
    },
  ],
  ["own side shut for reading", (calls, _, b) => void calls.shutdown(b, SHUT_RD)],
  ["own side shut for writing", (calls, _, b) => void calls.shutdown(b, SHUT_WR)],
  ["own side shut", (calls, _, b) => void calls.shutdown(b, SHUT_RDWR)],
  ["peer shut for reading", (calls, a) => void calls.shutdown(a, SHUT_RD)],
  ["peer shut for writing", (calls, a) => void calls.shutdown(a, SHUT_WR)],
  ["peer shut", (calls, a) => void calls.shutdown(a, SHUT_RDWR)],
  [
    "peer shut, something to read",
    (calls, a) => {
      calls.write(a, byte);
      calls.shutdown(a, SHUT_WR);
    },
  ],
  ["peer closed", (calls, a) => void calls.close(a)],
  [
    "peer closed, something to read",
    (calls, a) => {
      calls.write(a, byte);
      calls.close(a);
    },
  ],
  [
    "peer closed with unread data",
    (calls, a, b) => {
      calls.write(b, byte);
      calls.close(a);
    },
  ],
  [
    "full",
    (calls, _, b) => {
      while (calls.write(b, new Uint8Array(1000)) > 0);
    },
  ],
];

const states: LocalScenario[] = TYPES.flatMap(([label, type]) =>
  STATES.map(([state, prepare]) => ({
    name: `${label}: ${state}: poll, select and epoll agree`,
    play(calls, record) {
      const [a, b] = pairOf(calls, type);
      const epoll = calls.epollCreate(0);
      calls.epollControl(epoll, EPOLL_CTL_ADD, b, { events: EVERY, data: 1 });
      prepare(calls, a, b);
      record("poll", pollOf(calls, b));
      record("poll for nothing", pollOf(calls, b, 0));
      const [read, write, except] = [set(b), set(b), set(b)];
      record("select", calls.select(b + 1, read, write, except, 0));
      record(
        "sets",
        [read, write, except].map((bits) => inSet(bits, b)),
      );
      record("epoll", takeEvents(calls, epoll));
      record("epoll again", takeEvents(calls, epoll));
      for (const fd of [a, b, epoll]) calls.close(fd);
    },
  })),
);

const triggers: LocalScenario[] = TYPES.flatMap(([label, type]) =>
  (
    [
      ["level", 0],
      ["edge", EPOLLET],
      ["one-shot", EPOLLONESHOT],
      ["edge and one-shot", EPOLLET | EPOLLONESHOT],
      ["exclusive", EPOLLEXCLUSIVE],
      ["exclusive and edge", EPOLLEXCLUSIVE | EPOLLET],
    ] as const
  ).map(([how, flags]) => ({
    name: `${label}: epoll, ${how}`,
    play(calls, record) {
      const [a, b] = pairOf(calls, type);
      const epoll = calls.epollCreate(0);
      record("add", calls.epollControl(epoll, EPOLL_CTL_ADD, b, { events: POLLIN | flags, data: 2 ** 40 + 5 }));
      record("nothing", takeEvents(calls, epoll));
      calls.write(a, byte);
      record("one", takeEvents(calls, epoll));
      record("still", takeEvents(calls, epoll));
      calls.write(a, byte);
      record("another", takeEvents(calls, epoll));
      calls.read(b, new Uint8Array(1));
      record("after a read", takeEvents(calls, epoll));
      record("set anew", calls.epollControl(epoll, EPOLL_CTL_MOD, b, { events: POLLIN | POLLOUT | flags, data: 6 }));
      record("then", takeEvents(calls, epoll));
      record("and then", takeEvents(calls, epoll));
      calls.close(a);
      record("peer gone", takeEvents(calls, epoll));
      record("peer gone, again", takeEvents(calls, epoll));
      record("removed", calls.epollControl(epoll, EPOLL_CTL_DEL, b, null));
      record("silence", takeEvents(calls, epoll));
      for (const fd of [b, epoll]) calls.close(fd);
    },
  })),
);

const control: LocalScenario[] = [
  {
    name: "epoll_ctl: what it refuses",
    play(calls, record) {
      const [a, b] = pairOf(calls, SOCK_STREAM);
      const epoll = calls.epollCreate(0);
      const event = { events: POLLIN, data: 1 };
      record("created with a wrong flag", calls.epollCreate(1));
      record("added", calls.epollControl(epoll, EPOLL_CTL_ADD, a, event));
      record("twice", calls.epollControl(epoll, EPOLL_CTL_ADD, a, event));
      record("changed, not there", calls.epollControl(epoll, EPOLL_CTL_MOD, b, event));
      record("removed, not there", calls.epollControl(epoll, EPOLL_CTL_DEL, b, event));
      record("no such operation", calls.epollControl(epoll, 9, a, event));
      record("itself", calls.epollControl(epoll, EPOLL_CTL_ADD, epoll, event));
      record("no descriptor", calls.epollControl(epoll, EPOLL_CTL_ADD, 999_999, event));
      record("no epoll", calls.epollControl(999_999, EPOLL_CTL_ADD, a, event));
      record("no epoll but a socket", calls.epollControl(a, EPOLL_CTL_ADD, b, event));
      record("no event", calls.epollControl(epoll, EPOLL_CTL_ADD, b, null));
      record("exclusive, then changed", [
        calls.epollControl(epoll, EPOLL_CTL_ADD, b, { events: POLLIN | EPOLLEXCLUSIVE, data: 1 }),
        calls.epollControl(epoll, EPOLL_CTL_MOD, b, event),
        calls.epollControl(epoll, EPOLL_CTL_DEL, b, null),
      ]);
      record("exclusive and one-shot", [
        calls.epollControl(epoll, EPOLL_CTL_ADD, b, { events: POLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT, data: 1 }),
        calls.epollControl(epoll, EPOLL_CTL_ADD, b, { events: POLLIN | EPOLLEXCLUSIVE | POLLRDHUP, data: 1 }),
      ]);
      record("changed to exclusive", calls.epollControl(epoll, EPOLL_CTL_MOD, a, { events: EPOLLEXCLUSIVE, data: 1 }));
      record("waited for nothing", calls.epollWait(epoll, [], 0));
      record("waited on a socket", calls.epollWait(a, [{ events: 0, data: 0 }], 0));
      record("waited on nothing", calls.epollWait(999_999, [{ events: 0, data: 0 }], 0));
      record("read", calls.read(epoll, new Uint8Array(8)));
      record("written", calls.write(epoll, new Uint8Array(8)));
      record("sent", calls.sendto(epoll, byte, 0, null));
      record("sought", calls.lseek(epoll, 0, 0));
      for (const fd of [a, b, epoll]) calls.close(fd);
    },
  },
  {
    name: "epoll in epoll: readable when it has events; no circles, no more than five in a row",
    play(calls, record) {
      const [a, b] = pairOf(calls, SOCK_STREAM);
      const chain = Array.from({ length: 7 }, () => calls.epollCreate(0));
      const link = (outer: number, inner: number): number =>
        calls.epollControl(outer, EPOLL_CTL_ADD, inner, { events: POLLIN, data: 7 });
      record("socket in the first", link(chain[0], b));
      for (let i = 1; i < chain.length; i++) record(`${i} in a row`, link(chain[i], chain[i - 1]));
      record("a circle", link(chain[0], chain[1]));
      record("a circle of three", link(chain[0], chain[2]));
      record("nothing", takeEvents(calls, chain[1]));
      calls.write(a, byte);
      record("the outer one", takeEvents(calls, chain[1]));
      record("the inner one by poll", pollOf(calls, chain[0]));
      record("the inner one", takeEvents(calls, chain[0]));
      calls.read(b, byte.slice());
      record("the outer one, nothing left", takeEvents(calls, chain[1]));
      record("the inner one by poll, nothing left", pollOf(calls, chain[0]));
      for (const fd of [a, b, ...chain]) calls.close(fd);
    },
  },
  {
    name: "epoll: a descriptor that is closed leaves; its duplicate keeps it",
    play(calls, record) {
      const [a, b] = pairOf(calls, SOCK_DGRAM);
      const epoll = calls.epollCreate(0);
      const copy = calls.dup(b);
      record("the one", calls.epollControl(epoll, EPOLL_CTL_ADD, b, { events: POLLIN, data: 1 }));
      record("the copy", calls.epollControl(epoll, EPOLL_CTL_ADD, copy, { events: POLLIN | POLLOUT, data: 2 }));
      calls.write(a, byte);
      record("both", takeEvents(calls, epoll));
      calls.close(b);
      record("still both", takeEvents(calls, epoll));
      calls.close(copy);
      record("none", takeEvents(calls, epoll));
      for (const fd of [a, epoll]) calls.close(fd);
    },
  },
  {
    name: "epoll: many ready, few taken: each has its turn",
    play(calls, record) {
      const epoll = calls.epollCreate(0);
      const pairs = Array.from({ length: 7 }, () => pairOf(calls, SOCK_DGRAM));
      pairs.forEach(([, b], i) => void calls.epollControl(epoll, EPOLL_CTL_ADD, b, { events: POLLIN, data: i }));
      for (const [a] of pairs) calls.write(a, byte);
      for (let turn = 0; turn < 6; turn++) record(`turn ${turn}`, takeEvents(calls, epoll, 3));
      calls.read(pairs[2][1], new Uint8Array(1));
      for (let turn = 0; turn < 4; turn++) record(`then ${turn}`, takeEvents(calls, epoll, 3));
      for (const fd of [...pairs.flat(), epoll]) calls.close(fd);
    },
  },
  {
    name: "poll: negative and closed descriptors, several at once",
    play(calls, record) {
      const [a, b] = pairOf(calls, SOCK_STREAM);
      calls.write(a, byte);
      const entries = [
        { fd: -1, events: EVERY, revents: 7 },
        { fd: b, events: POLLIN, revents: 7 },
        { fd: 999_999, events: 0, revents: 7 },
        { fd: a, events: POLLIN, revents: 7 },
        { fd: b, events: POLLOUT, revents: 7 },
      ];
      record("ready", calls.poll(entries, 0));
      record(
        "which",
        entries.map(({ revents }) => revents),
      );
      record("none", calls.poll([], 0));
      for (const fd of [a, b]) calls.close(fd);
    },
  },
  {
    name: "select: closed descriptors, no sets, a negative count",
    play(calls, record) {
      const [a, b] = pairOf(calls, SOCK_STREAM);
      calls.write(a, byte);
      record("nothing asked", calls.select(0, null, null, null, 0));
      record("a negative count", calls.select(-1, null, null, null, 0));
      record("a count that leaves it out", calls.select(b, set(b), null, null, 0));
      const read = set(a, b);
      const write = set(a, b);
      record("both", calls.select(Math.max(a, b) + 1, read, write, null, 0));
      record("which", [inSet(read, a, b), inSet(write, a, b)]);
      calls.close(a);
      record("a closed one", calls.select(Math.max(a, b) + 1, set(a, b), null, null, 0));
      calls.close(b);
    },
  },
];

const descriptors: LocalScenario[] = [
  {
    name: "fcntl and ioctl: status, close on exec, duplicates",
    play(calls, record) {
      const out = new Int32Array(2);
      calls.socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, out);
      const [a, b] = out;
      record("flags", [calls.fcntl(a, F_GETFL, 0), calls.fcntl(a, F_GETFD, 0)]);
      record("set", calls.fcntl(a, F_SETFL, O_NONBLOCK | 0x1_0000_0 | 1));
      record("what stays", calls.fcntl(a, F_GETFL, 0));
      record("FIONBIO off", [calls.ioctl(a, FIONBIO, controlInt(0)), calls.fcntl(a, F_GETFL, 0)]);
      record("FIONBIO on", [calls.ioctl(a, FIONBIO, controlInt(9)), calls.fcntl(a, F_GETFL, 0)]);
      record("FIOASYNC", [calls.ioctl(a, FIOASYNC, controlInt(1)), calls.fcntl(a, F_GETFL, 0)]);
      record("FIOASYNC off", [calls.ioctl(a, FIOASYNC, controlInt(0)), calls.fcntl(a, F_GETFL, 0)]);
      record("FIONCLEX", [calls.ioctl(a, FIONCLEX, controlInt(0)), calls.fcntl(a, F_GETFD, 0)]);
      record("FIOCLEX", [calls.ioctl(a, FIOCLEX, controlInt(0)), calls.fcntl(a, F_GETFD, 0)]);
      record("F_SETFD", [calls.fcntl(a, F_SETFD, 0), calls.fcntl(a, F_GETFD, 0)]);
      const copy = calls.fcntl(a, F_DUPFD, 500);
      record("duplicate", [copy >= 500, calls.fcntl(copy, F_GETFL, 0)]);
      record("shares its status", [calls.fcntl(copy, F_SETFL, 0), calls.fcntl(a, F_GETFL, 0)]);
      record("a negative one", calls.fcntl(a, F_DUPFD, -1));
      record("no command", calls.fcntl(a, 77, 0));
      record("no descriptor", [calls.fcntl(999_999, F_GETFL, 0), calls.close(999_999), calls.dup(999_999)]);
      record("no request", calls.ioctl(a, 0x1234, new Uint8Array(64)));
      record("seek", [
        calls.lseek(a, 0, 0),
        calls.lseek(a, 5, 1),
        calls.pread(a, byte.slice(), 1),
        calls.pwrite(a, byte, 1),
      ]);
      record("seek before the start", [calls.pread(a, byte.slice(), -1), calls.pwrite(a, byte, -1)]);
      for (const fd of [copy, a, b]) calls.close(fd);
    },
  },
  {
    name: "fcntl and ioctl: the owner",
    play(calls, record) {
      const [a, b] = pairOf(calls, SOCK_STREAM);
      const ex = (type: number, pid: number): Uint8Array => new Uint8Array(Int32Array.of(type, pid).buffer);
      const get = (): unknown => {
        const argument = new Uint8Array(8);
        const group = controlInt(0);
        return [
          calls.fcntl(a, F_GETOWN_EX, argument),
          [...new Int32Array(argument.buffer)],
          calls.fcntl(a, F_GETOWN, 0),
          calls.ioctl(a, FIOGETOWN, group),
          calls.ioctl(a, SIOCGPGRP, group),
          new Int32Array(group.buffer)[0],
        ];
      };
      record("none", get());
      record("this process", [calls.fcntl(a, F_SETOWN, process.pid), get()]);
      record("process 1's group by FIOSETOWN", [calls.ioctl(a, FIOSETOWN, controlInt(-1)), get()]);
      record("none again", [calls.fcntl(a, F_SETOWN, 0), get()]);
      record("SIOCSPGRP", [calls.ioctl(a, SIOCSPGRP, controlInt(process.pid)), get()]);
      record("nobody", [calls.fcntl(a, F_SETOWN, 4_000_000), get()]);
      record("the least number", calls.fcntl(a, F_SETOWN, -(2 ** 31)));
      for (const type of [F_OWNER_TID, F_OWNER_PID, F_OWNER_PGRP, 3, -1]) {
        record(`type ${type}`, [calls.fcntl(a, F_SETOWN_EX, ex(type, process.pid)), get()]);
      }
      record("nobody of a type", calls.fcntl(a, F_SETOWN_EX, ex(F_OWNER_TID, 4_000_000)));
      record("signal", [calls.fcntl(a, F_GETSIG, 0), calls.fcntl(a, F_SETSIG, 40), calls.fcntl(a, F_GETSIG, 0)]);
      record("no signals", [calls.fcntl(a, F_SETSIG, 65), calls.fcntl(a, F_SETSIG, -1), calls.fcntl(a, F_SETSIG, 64)]);
      for (const fd of [a, b]) calls.close(fd);
    },
  },
  {
    name: "blocking calls end with their time",
    play(calls, record) {
      const out = new Int32Array(2);
      calls.socketpair(AF_UNIX, SOCK_STREAM, 0, out);
      const [a, b] = out;
      const timeval = new Uint8Array(BigInt64Array.of(0n, 20_000n).buffer);
      record("timeouts", [calls.setsockopt(a, 1, 20, timeval), calls.setsockopt(a, 1, 21, timeval)]);
      record("read", calls.read(a, byte.slice()));
      record("does not wait", calls.recvfrom(b, byte.slice(), MSG_DONTWAIT, null));
      let written = 0;
      for (let result = 1; result > 0; written += Math.max(result, 0)) result = calls.write(a, new Uint8Array(1000));
      record("written", written);
      record("then", calls.write(a, byte));
      const started = performance.now();
      record("polled", calls.poll([{ fd: a, events: POLLIN, revents: 0 }], 30));
      record("waited", performance.now() - started > 25);
      for (const fd of [a, b]) calls.close(fd);
    },
  },
];

export const EVENT_SCENARIOS: readonly LocalScenario[] = [...states, ...triggers, ...control, ...descriptors];
