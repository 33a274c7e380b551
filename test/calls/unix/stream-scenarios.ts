/** Streams: what reads give of what was written, SO_PEEK_OFF, bytes out of band, what waits. */
import {
  FIONREAD,
  MSG_DONTWAIT,
  MSG_EOR,
  MSG_OOB,
  MSG_PEEK,
  MSG_TRUNC,
  MSG_WAITALL,
  SHUT_WR,
  SIOCATMARK,
  SIOCOUTQ,
  SOCK_NONBLOCK,
  SOCK_STREAM,
} from "../../../sockets/calls/constants.ts";
import { messageOf } from "../../../sockets/calls/message.ts";
import type { SocketCalls } from "../../../sockets/calls/socket-calls.ts";
import {
  SO_ERROR,
  SO_INQ,
  SO_OOBINLINE,
  SO_PASSCRED,
  SO_PEEK_OFF,
  SO_RCVLOWAT,
  SO_RCVTIMEO,
  SO_SNDTIMEO,
  SOL_SOCKET,
} from "../../../sockets/options.ts";
import { randomFrom } from "./random.ts";
import {
  bytes,
  closeAll,
  ioctlOf,
  type LocalScenario,
  optionOf,
  pairOf,
  pattern,
  pollOf,
  type Record,
  send,
  setOption,
  shownTake,
} from "./tools.ts";

/** A step: what is done to `a`, which writes, and `b`, which reads. */
type Step = (calls: SocketCalls, a: number, b: number) => unknown;

const write =
  (length: number): Step =>
  (calls, a) =>
    send(calls, a, pattern(length, length));
const urgent =
  (length: number): Step =>
  (calls, a) =>
    send(calls, a, pattern(length, 100 + length), { flags: MSG_OOB });
const read =
  (room: number, flags = 0): Step =>
  (calls, _, b) =>
    shownTake(calls, b, { room, flags, control: null });
const peek = (room: number): Step => read(room, MSG_PEEK);
const readUrgent: Step = read(3, MSG_OOB);
const peekUrgent: Step = read(3, MSG_OOB | MSG_PEEK);
const inline =
  (on: number): Step =>
  (calls, _, b) =>
    setOption(calls, b, SO_OOBINLINE, on);
const peekOffset =
  (offset: number): Step =>
  (calls, _, b) =>
    setOption(calls, b, SO_PEEK_OFF, offset);

/** What can be asked without changing anything. */
const state: Step = (calls, a, b) => [
  pollOf(calls, b),
  ioctlOf(calls, b, FIONREAD),
  ioctlOf(calls, b, SIOCATMARK),
  ioctlOf(calls, a, SIOCOUTQ),
  optionOf(calls, b, SO_PEEK_OFF),
];

function playSteps(calls: SocketCalls, record: Record, steps: Iterable<readonly [string, Step]>): void {
  const [a, b] = pairOf(calls, SOCK_STREAM);
  let count = 0;
  for (const [what, step] of steps) {
    record(`${++count}: ${what}`, step(calls, a, b));
    record("state", state(calls, a, b));
  }
  closeAll(calls, a);
  record("peer closed", [shownTake(calls, b), shownTake(calls, b), optionOf(calls, b, SO_ERROR)]);
  closeAll(calls, b);
}

const scripts: readonly (readonly [string, Readonly<{ [what: string]: Step }>])[] = [
  [
    "reads longer than writes",
    { "write 3": write(3), "write 4": write(4), "read 10": read(10), "read again": read(10) },
  ],
  ["reads shorter than writes", { "write 9": write(9), "read 4": read(4), "4 more": read(4), "the last": read(4) }],
  ["a read up to a bound", { "write 3": write(3), "write 5": write(5), "read 3": read(3), "read 5": read(5) }],
  [
    "peeks",
    {
      "write 3": write(3),
      "write 5": write(5),
      "peek 2": peek(2),
      "peek 6": peek(6),
      "peek 20": peek(20),
      "read 1": read(1),
      "peek 4": peek(4),
    },
  ],
  [
    "SO_PEEK_OFF",
    {
      "offset 0": peekOffset(0),
      "write 3": write(3),
      "write 5": write(5),
      "peek 2": peek(2),
      "peek 2 more": peek(2),
      "read 3": read(3),
      "peek 2 after that": peek(2),
      "peek all": peek(20),
      "peek at the end": peek(20),
      "write 4": write(4),
      "peek those": peek(20),
      "offset 1": peekOffset(1),
      "peek 1": peek(1),
      "read all": read(20),
      "offset -1": peekOffset(-1),
    },
  ],
  [
    "SO_PEEK_OFF beyond the end",
    { "write 3": write(3), "offset 5": peekOffset(5), peek: peek(4), "write 4": write(4), "peek again": peek(9) },
  ],
  [
    "SO_PEEK_OFF below zero",
    { "write 3": write(3), "offset -7": peekOffset(-7), peek: peek(2), "peek again": peek(2) },
  ],
  [
    "MSG_TRUNC",
    { "write 9": write(9), truncated: read(4, MSG_TRUNC), "no room": read(0, MSG_TRUNC), rest: read(20, MSG_TRUNC) },
  ],
  [
    "MSG_WAITALL without waiting",
    { "write 4": write(4), "read 9": read(9, MSG_WAITALL), nothing: read(3, MSG_WAITALL) },
  ],
  ["MSG_EOR", { "write with it": (calls, a) => send(calls, a, bytes(1, 2), { flags: MSG_EOR }), read: read(9) }],
  ["a byte out of band", { "urgent 1": urgent(1), "out of band": readUrgent, again: readUrgent, "in band": read(5) }],
  [
    "out of band behind others",
    { "write 2": write(2), "urgent 3": urgent(3), "read 9": read(9), "out of band": readUrgent, "read on": read(9) },
  ],
  [
    "out of band not read as such is lost",
    {
      "write 2": write(2),
      "urgent 1": urgent(1),
      "write 3": write(3),
      "read 9": read(9),
      "read past it": read(9),
      "out of band": readUrgent,
    },
  ],
  [
    "out of band read first",
    {
      "write 2": write(2),
      "urgent 1": urgent(1),
      "write 3": write(3),
      "out of band": readUrgent,
      "read 9": read(9),
      "read on": read(9),
    },
  ],
  [
    "a second one out of band makes the first one ordinary",
    {
      "urgent 2": urgent(2),
      "urgent 3": urgent(3),
      "out of band": readUrgent,
      "read 1": read(1),
      "read 9": read(9),
      "read on": read(9),
    },
  ],
  [
    "out of band inline",
    {
      inline: inline(1),
      "write 2": write(2),
      "urgent 2": urgent(2),
      "write 1": write(1),
      "out of band": readUrgent,
      "read 9": read(9),
      "read on": read(9),
      "and on": read(9),
    },
  ],
  [
    "out of band, inline afterwards",
    { "write 2": write(2), "urgent 2": urgent(2), inline: inline(1), "read 9": read(9), "read on": read(9) },
  ],
  [
    "out of band, peeked at",
    {
      "write 2": write(2),
      "urgent 2": urgent(2),
      "write 3": write(3),
      "peek out of band": peekUrgent,
      "peek 9": peek(9),
      "out of band": readUrgent,
      "peek again": peek(9),
      "read 9": read(9),
    },
  ],
  ["out of band in no room", { "urgent 1": urgent(1), "no room": read(0, MSG_OOB), again: readUrgent, read: read(4) }],
  [
    "out of band with SO_PEEK_OFF",
    {
      "offset 0": peekOffset(0),
      "write 2": write(2),
      "urgent 2": urgent(2),
      "write 3": write(3),
      "peek 2": peek(2),
      "peek 3": peek(3),
      "peek 4": peek(4),
      "read 3": read(3),
      "peek 9": peek(9),
    },
  ],
  [
    "out of band, twice read, twice sent",
    {
      "urgent 1": urgent(1),
      one: readUrgent,
      "urgent 1 again": urgent(1),
      two: readUrgent,
      "write 1": write(1),
      "read 9": read(9),
    },
  ],
  [
    "out of band read, more behind it",
    { "urgent 1": urgent(1), one: readUrgent, "write 2": write(2), "read 1": read(1), "read on": read(5) },
  ],
  [
    "SO_INQ",
    {
      set: (calls, _, b) => setOption(calls, b, SO_INQ, 1),
      "write 5": write(5),
      "write 3": write(3),
      told: (calls, _, b) => shownTake(calls, b, { room: 2 }),
      "told on": (calls, _, b) => shownTake(calls, b, { room: 9 }),
      nothing: (calls, _, b) => shownTake(calls, b, { room: 2 }),
      shut: (calls, a) => calls.shutdown(a, SHUT_WR),
      end: (calls, _, b) => shownTake(calls, b),
    },
  ],
  [
    "SO_INQ in little room",
    {
      set: (calls, _, b) => setOption(calls, b, SO_INQ, 1),
      "write 5": write(5),
      "no room": (calls, _, b) => shownTake(calls, b, { room: 2, control: 15 }),
      some: (calls, _, b) => shownTake(calls, b, { room: 2, control: 18 }),
      none: (calls, _, b) => shownTake(calls, b, { room: 2, control: null }),
    },
  ],
  [
    "SO_PASSCRED at the end",
    {
      set: (calls, _, b) => setOption(calls, b, SO_PASSCRED, 1),
      shut: (calls, a) => calls.shutdown(a, SHUT_WR),
      end: (calls, _, b) => shownTake(calls, b),
    },
  ],
  [
    "nothing to read into",
    { "write 3": write(3), "no room": read(0), "no room at the end": read(0), all: read(9), "nothing there": read(0) },
  ],
];

const scripted: LocalScenario[] = scripts.map(([name, steps]) => ({
  name: `stream: ${name}`,
  play(calls, record) {
    playSteps(calls, record, Object.entries(steps));
  },
}));

/** Steps that say much about bytes out of band together, in every order of so many. */
const ALPHABET: readonly (readonly [string, Step])[] = [
  ["write 1", write(1)],
  ["write 2", write(2)],
  ["urgent 1", urgent(1)],
  ["urgent 2", urgent(2)],
  ["read 1", read(1)],
  ["read 9", read(9)],
  ["peek 9", peek(9)],
  ["read urgent", readUrgent],
];
const SEQUENCE = 8;
const SEQUENCES = 120;

const mixed: LocalScenario[] = Array.from({ length: SEQUENCES }, (_, seed) => {
  const random = randomFrom(0x9e37 + seed * 7919);
  const steps = Array.from({ length: SEQUENCE }, () => ALPHABET[random(ALPHABET.length)]);
  const first = [["plain", () => 0] as const, ["inline", inline(1)] as const, ["offset 0", peekOffset(0)] as const][
    seed % 3
  ];
  return {
    name: `stream, out of band ${seed}: ${[first, ...steps].map(([what]) => what).join(", ")}`,
    play(calls, record) {
      playSteps(calls, record, [first, ...steps]);
    },
  };
});

const TIMEVAL = (microseconds: number): Uint8Array => new Uint8Array(BigInt64Array.of(0n, BigInt(microseconds)).buffer);
const BRIEF_US = 12_000;

/** Longer than anything takes that does not wait for it. */
const LONG_US = 900_000;

/** A pair whose calls wait for a while. */
function waitingPair(calls: SocketCalls, microseconds = BRIEF_US): [number, number] {
  const out = new Int32Array(2);
  calls.socketpair(1, SOCK_STREAM, 0, out);
  for (const fd of out) {
    calls.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, TIMEVAL(microseconds));
    calls.setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, TIMEVAL(microseconds));
  }
  return [out[0], out[1]];
}

const receiveWaiting = (calls: SocketCalls, fd: number, room: number, flags: number): unknown => {
  const message = messageOf(new Uint8Array(room));
  message.control = new Uint8Array(64);
  const result = calls.recvmsg(fd, message, flags);
  return result < 0 ? result : [result, message.iov[0].toHex(), message.flags, message.controlLength];
};

const waiting: LocalScenario[] = [
  {
    name: "stream: waiting reads end with their time, and give what there is",
    play(calls, record) {
      const [a, b] = waitingPair(calls);
      record("nothing", receiveWaiting(calls, b, 4, 0));
      calls.write(a, pattern(3));
      record("less than wanted", receiveWaiting(calls, b, 8, MSG_WAITALL));
      calls.write(a, pattern(3));
      record("less than wanted, peeked at", receiveWaiting(calls, b, 8, MSG_WAITALL | MSG_PEEK));
      record("as much as wanted", receiveWaiting(calls, b, 3, MSG_WAITALL));
      setOption(calls, b, SO_RCVLOWAT, 6);
      calls.write(a, pattern(3));
      record("below the low water mark", receiveWaiting(calls, b, 9, 0));
      calls.write(a, pattern(3));
      calls.write(a, pattern(4));
      record("above it", receiveWaiting(calls, b, 9, 0));
      closeAll(calls, a, b);
    },
  },
  {
    name: "stream: what ends a waiting read: a byte out of band, files, another writer, the end",
    play(calls, record) {
      const [a, b] = waitingPair(calls, LONG_US);
      const timed = (what: string, act: () => unknown): void => {
        const started = performance.now();
        record(what, act());
        record("at once", performance.now() - started < LONG_US / 1000);
      };
      calls.write(a, pattern(2));
      send(calls, a, bytes(9), { flags: MSG_OOB });
      timed("up to the mark", () => receiveWaiting(calls, b, 8, MSG_WAITALL));
      timed("out of band", () => receiveWaiting(calls, b, 8, MSG_OOB));
      calls.write(a, pattern(2));
      const message = messageOf(pattern(3));
      record("credentials", setOption(calls, b, SO_PASSCRED, 1));
      record("sent", calls.sendmsg(a, message, 0));
      timed("up to other credentials", () => receiveWaiting(calls, b, 8, MSG_WAITALL));
      calls.shutdown(a, SHUT_WR);
      timed("up to the end", () => receiveWaiting(calls, b, 8, MSG_WAITALL));
      timed("the end", () => receiveWaiting(calls, b, 8, MSG_WAITALL));
      closeAll(calls, a, b);
    },
  },
  {
    name: "stream: a waiting write gives what was taken when its time is over",
    play(calls, record) {
      const [a, b] = waitingPair(calls);
      record("much", calls.write(a, new Uint8Array(1 << 20)));
      record("more", calls.write(a, bytes(1)));
      record("out of band", calls.sendto(a, bytes(1), MSG_OOB, null));
      record("not waiting", calls.sendto(a, bytes(1), MSG_DONTWAIT, null));
      calls.read(b, new Uint8Array(1 << 19));
      record("with room again", calls.write(a, new Uint8Array(1 << 20)));
      closeAll(calls, a, b);
    },
  },
  {
    name: "stream: a connect waits for room, and accept for somebody, as long as they may",
    play(calls, record) {
      const name = new TextEncoder().encode(`\u0001\0\0lcore ${process.pid} narrow`);
      const listener = calls.socket(1, SOCK_STREAM, 0);
      calls.bind(listener, name);
      calls.listen(listener, 0);
      calls.setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, TIMEVAL(BRIEF_US));
      record("nobody", calls.accept4(listener, null, 0));
      const clients = [0, 1, 2].map(() => calls.socket(1, SOCK_STREAM, 0));
      for (const client of clients) calls.setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, TIMEVAL(BRIEF_US));
      record(
        "connects",
        clients.map((client) => calls.connect(client, name)),
      );
      const accepted = calls.accept4(listener, null, SOCK_NONBLOCK);
      record("accepted", accepted >= 0);
      record(
        "then",
        clients.map((client) => calls.connect(client, name)),
      );
      closeAll(calls, listener, accepted, ...clients);
    },
  },
];

export const STREAM_SCENARIOS: readonly LocalScenario[] = [...scripted, ...mixed, ...waiting];
