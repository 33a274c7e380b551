/** How much a socket takes before it says EAGAIN, and when it may write again: SO_SNDBUF by truesize, the queue's length, backlogs. */
import {
  FIONREAD,
  MSG_DONTWAIT,
  MSG_OOB,
  SIOCOUTQ,
  SOCK_DGRAM,
  SOCK_STREAM,
} from "../../../sockets/calls/constants.ts";
import type { SocketCalls } from "../../../sockets/calls/socket-calls.ts";
import { SO_SNDBUF, SO_SNDBUFFORCE } from "../../../sockets/options.ts";
import {
  abstractName,
  bytes,
  closeAll,
  ioctlOf,
  type LocalScenario,
  optionOf,
  pairOf,
  pollOf,
  type Record,
  send,
  setOption,
  socketOf,
  TYPES,
} from "./tools.ts";

const SIZES = [
  0, 1, 100, 191, 192, 193, 704, 705, 1728, 1729, 3776, 3777, 4000, 7872, 7873, 16064, 16065, 20000, 36544, 36545,
  65536, 100_000,
];
const BUFFERS = [0, 4608, 10_000, 40_000, 212_992, 1_000_000];
/** The most that is sent of a size: an empty message is free of nothing, but small. */
const SENDS_MAX = 2000;

function fill(calls: SocketCalls, record: Record, fd: number, size: number): number {
  const data = new Uint8Array(size);
  const results: number[] = [];
  while (results.length < SENDS_MAX) {
    const result = calls.sendto(fd, data, MSG_DONTWAIT, null);
    results.push(result);
    if (result < size || result === 0) break;
  }
  record("sends", [results.length, results[0], results.at(-1)]);
  return results.length;
}

const amounts: LocalScenario[] = TYPES.flatMap(([label, type]) =>
  BUFFERS.map((buffer) => ({
    name: `${label}: how many of each size with SO_SNDBUF ${buffer}`,
    play(calls, record) {
      for (const size of SIZES) {
        const [a, b] = pairOf(calls, type);
        if (buffer > 0) record("set", setOption(calls, a, SO_SNDBUF, buffer / 2));
        record(`size ${size}, buffer`, optionOf(calls, a, SO_SNDBUF));
        record("one", [calls.sendto(a, new Uint8Array(size), MSG_DONTWAIT, null), ioctlOf(calls, a, SIOCOUTQ)]);
        // Messages without data have no end on a stream.
        if (size > 0 || type !== SOCK_STREAM) fill(calls, record, a, size);
        record("then", [pollOf(calls, a), ioctlOf(calls, a, SIOCOUTQ), ioctlOf(calls, b, FIONREAD)]);
        closeAll(calls, a, b);
      }
    },
  })),
);

const drained: LocalScenario[] = TYPES.flatMap(([label, type]) =>
  [1, 700, 5000, 30_000].map((size) => ({
    name: `${label}: when it may write again, messages of ${size}`,
    play(calls, record) {
      const [a, b] = pairOf(calls, type);
      const count = fill(calls, record, a, size);
      const into = new Uint8Array(size);
      let writable = -1;
      for (let i = 0; i < count; i++) {
        calls.recvfrom(b, into, MSG_DONTWAIT, null);
        if (writable < 0 && (pollOf(calls, a) & 4) !== 0) {
          writable = i;
          record("writable after", [i, ioctlOf(calls, a, SIOCOUTQ)]);
        }
      }
      record("drained", [ioctlOf(calls, a, SIOCOUTQ), pollOf(calls, a)]);
      closeAll(calls, a, b);
    },
  })),
);

const longest: LocalScenario[] = (["dgram", "seqpacket"] as const).flatMap((label) =>
  [4608, 30_000, 200_000, 9_000_000].map((buffer) => ({
    name: `${label}: the longest message with SO_SNDBUF ${buffer}`,
    play(calls, record) {
      const type = TYPES.find(([name]) => name === label)![1];
      const [a, b] = pairOf(calls, type);
      record("set", setOption(calls, a, SO_SNDBUFFORCE, buffer / 2));
      for (const over of [-40, -33, -32, -31, 0, 1]) {
        const length = buffer + over;
        record(`${over}`, calls.sendto(a, new Uint8Array(length), MSG_DONTWAIT, null));
        record("under way", ioctlOf(calls, a, SIOCOUTQ));
        calls.recvfrom(b, new Uint8Array(1), MSG_DONTWAIT, null);
      }
      closeAll(calls, a, b);
    },
  })),
);

const bounds: LocalScenario[] = [
  {
    name: "stream: a write larger than all there is room for, and the rest of it",
    play(calls, record) {
      for (const [buffer, size] of [
        [212_992, 500_000],
        [4608, 30_000],
        [20_000, 20_000],
      ]) {
        const [a, b] = pairOf(calls, SOCK_STREAM);
        setOption(calls, a, SO_SNDBUF, buffer / 2);
        const taken = calls.sendto(a, new Uint8Array(size), MSG_DONTWAIT, null);
        record(`${size} into ${buffer}`, [taken, ioctlOf(calls, a, SIOCOUTQ), ioctlOf(calls, b, FIONREAD)]);
        record("again", calls.sendto(a, new Uint8Array(size), MSG_DONTWAIT, null));
        for (const room of [1, 1000, 2000, 40_000]) {
          record(`read ${room}`, [calls.read(b, new Uint8Array(room)), ioctlOf(calls, a, SIOCOUTQ), pollOf(calls, a)]);
          record("write", [calls.sendto(a, new Uint8Array(size), MSG_DONTWAIT, null), ioctlOf(calls, a, SIOCOUTQ)]);
        }
        closeAll(calls, a, b);
      }
    },
  },
  {
    name: "stream: out of band where there is room for the rest only",
    play(calls, record) {
      const [a, b] = pairOf(calls, SOCK_STREAM);
      setOption(calls, a, SO_SNDBUF, 2304);
      record("first", send(calls, a, new Uint8Array(2000), { flags: MSG_OOB }));
      record("more", send(calls, a, new Uint8Array(4000), { flags: MSG_OOB }));
      record("one byte", send(calls, a, bytes(1), { flags: MSG_OOB }));
      record("state", [pollOf(calls, b), ioctlOf(calls, b, FIONREAD), ioctlOf(calls, a, SIOCOUTQ)]);
      closeAll(calls, a, b);
    },
  },
  {
    name: "SO_SNDBUF made larger and smaller while something is under way",
    play(calls, record) {
      const [a, b] = pairOf(calls, SOCK_DGRAM);
      fill(calls, record, a, 3000);
      for (const buffer of [400_000, 10_000, 1_000_000]) {
        record(`${buffer}`, [setOption(calls, a, SO_SNDBUF, buffer), pollOf(calls, a)]);
        fill(calls, record, a, 3000);
      }
      closeAll(calls, a, b);
    },
  },
  {
    name: "writable up to a quarter of SO_SNDBUF, and not at a quarter to the byte",
    play(calls, record) {
      for (const [label, type] of TYPES) {
        for (const quarter of [1536, 1537, 1540, 2304]) {
          const [a, b] = pairOf(calls, type);
          setOption(calls, a, SO_SNDBUF, quarter * 2);
          for (let i = 0; i < 4; i++) {
            record(`${label}, ${quarter}: ${i}`, [
              send(calls, a, bytes(1)),
              ioctlOf(calls, a, SIOCOUTQ),
              pollOf(calls, a),
            ]);
          }
          closeAll(calls, a, b);
        }
      }
    },
  },
  {
    name: "what a closed socket had under way, and what is thrown away",
    play(calls, record) {
      const [a, b] = pairOf(calls, SOCK_DGRAM);
      for (let i = 0; i < 5; i++) send(calls, a, new Uint8Array(1000));
      record("sent", ioctlOf(calls, a, SIOCOUTQ));
      calls.connect(b, bytes(0, 0));
      record("thrown away", ioctlOf(calls, a, SIOCOUTQ));
      closeAll(calls, a, b);
      const [c, d] = pairOf(calls, SOCK_STREAM);
      send(calls, c, new Uint8Array(1000));
      calls.close(d);
      record("closed", ioctlOf(calls, c, SIOCOUTQ));
      closeAll(calls, c);
    },
  },
];

const backlogs: LocalScenario[] = (["stream", "seqpacket"] as const).flatMap((label) =>
  [-1, 0, 1, 3, 9000].map((backlog) => ({
    name: `${label}: how many connections wait with a backlog of ${backlog}`,
    play(calls, record) {
      const type = TYPES.find(([name]) => name === label)![1];
      const name = abstractName("backlog");
      const listener = socketOf(calls, type);
      calls.bind(listener, name);
      record("listen", calls.listen(listener, backlog));
      const clients: number[] = [];
      const connect = (): number => {
        clients.push(socketOf(calls, type));
        return calls.connect(clients.at(-1)!, name);
      };
      record("connects", Array.from({ length: 7 }, connect));
      record("poll", pollOf(calls, listener));
      const accepted = [0, 1].map(() => calls.accept4(listener, null, 0));
      record(
        "two accepted",
        accepted.map((fd) => fd >= 0),
      );
      record(
        "again",
        clients.map((fd) => calls.connect(fd, name)),
      );
      record("a longer one", [calls.listen(listener, 5), ...Array.from({ length: 8 }, connect)]);
      record("a shorter one", [calls.listen(listener, 0), connect()]);
      calls.close(listener);
      record(
        "closed",
        clients.map((fd) => pollOf(calls, fd)),
      );
      closeAll(calls, ...clients, ...accepted);
    },
  })),
);

export const ROOM_SCENARIOS: readonly LocalScenario[] = [...amounts, ...drained, ...longest, ...bounds, ...backlogs];
