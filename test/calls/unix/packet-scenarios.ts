/** Messages that keep their bounds: datagrams and sequenced packets; whom datagrams go to; SO_PEEK_OFF; times of arrival. */
import {
  AF_UNSPEC,
  FIONREAD,
  MSG_DONTWAIT,
  MSG_EOR,
  MSG_PEEK,
  MSG_TRUNC,
  SHUT_RD,
  SHUT_WR,
  SIOCOUTQ,
  SOCK_DGRAM,
  SOCK_SEQPACKET,
} from "../../../sockets/calls/constants.ts";
import { addressBuffer, messageOf } from "../../../sockets/calls/message.ts";
import type { SocketCalls } from "../../../sockets/calls/socket-calls.ts";
import {
  SO_ERROR,
  SO_PEEK_OFF,
  SO_RCVTIMEO,
  SO_SELECT_ERR_QUEUE,
  SO_SNDTIMEO,
  SO_TIMESTAMP,
  SO_TIMESTAMP_NEW,
  SO_TIMESTAMPNS,
  SO_TIMESTAMPNS_NEW,
  SOL_SOCKET,
} from "../../../sockets/options.ts";
import { randomFrom } from "./random.ts";
import {
  abstractName,
  bytes,
  closeAll,
  ioctlOf,
  type LocalScenario,
  nameOfPeer,
  optionOf,
  pairOf,
  pattern,
  pollOf,
  send,
  setOption,
  shownTake,
  socketOf,
} from "./tools.ts";

const PACKETS = [
  ["dgram", SOCK_DGRAM],
  ["seqpacket", SOCK_SEQPACKET],
] as const;

const unspec = bytes(AF_UNSPEC, 0);

const bound = (calls: SocketCalls, name: string): number => {
  const fd = socketOf(calls, SOCK_DGRAM);
  calls.bind(fd, abstractName(name));
  return fd;
};

const bounds: LocalScenario[] = PACKETS.flatMap(([label, type]) => [
  {
    name: `${label}: messages in room of every size, with and without MSG_TRUNC and MSG_PEEK`,
    play(calls, record) {
      const [a, b] = pairOf(calls, type);
      for (const length of [0, 1, 5]) {
        for (const room of [0, 1, 4, 5, 9]) {
          for (const flags of [0, MSG_TRUNC, MSG_PEEK, MSG_PEEK | MSG_TRUNC]) {
            record("sent", send(calls, a, pattern(length)));
            record(`${length} into ${room} with ${flags}`, shownTake(calls, b, { room, flags }));
            record("left", [ioctlOf(calls, b, FIONREAD), ioctlOf(calls, a, SIOCOUTQ), pollOf(calls, b)]);
            if ((flags & MSG_PEEK) !== 0) record("taken", shownTake(calls, b));
          }
        }
      }
      closeAll(calls, a, b);
    },
  },
  {
    name: `${label}: messages of several parts, read into several parts`,
    play(calls, record) {
      const [a, b] = pairOf(calls, type);
      record("sent", calls.writev(a, [bytes(1, 2), bytes(), bytes(3), bytes(4, 5, 6)]));
      const parts = [new Uint8Array(1), new Uint8Array(0), new Uint8Array(3), new Uint8Array(9)];
      record("read", [calls.readv(b, parts), parts.map((part) => part.toHex())]);
      calls.writev(a, [bytes(1, 2), bytes(3, 4)]);
      const message = messageOf(new Uint8Array(1), new Uint8Array(2));
      record("cut off", [calls.recvmsg(b, message, 0), message.iov.map((part) => part.toHex()), message.flags]);
      calls.write(a, bytes(7));
      record("nothing to read into, by read", calls.readv(b, [new Uint8Array(0)]));
      record("still there", shownTake(calls, b));
      closeAll(calls, a, b);
    },
  },
  {
    name: `${label}: SO_PEEK_OFF`,
    play(calls, record) {
      const [a, b] = pairOf(calls, type);
      const offset = (): unknown => optionOf(calls, b, SO_PEEK_OFF);
      for (const length of [3, 0, 5, 2]) send(calls, a, pattern(length, length));
      record("set", [setOption(calls, b, SO_PEEK_OFF, 0), offset()]);
      for (let i = 0; i < 8; i++) record(`peek ${i}`, [shownTake(calls, b, { room: 2, flags: MSG_PEEK }), offset()]);
      record("read", [shownTake(calls, b), offset()]);
      record("peek after that", [shownTake(calls, b, { room: 2, flags: MSG_PEEK }), offset()]);
      for (const value of [1, 4, 5, 6, 100, -1, -9]) {
        record(`offset ${value}`, [setOption(calls, b, SO_PEEK_OFF, value), offset()]);
        record("peek", [shownTake(calls, b, { flags: MSG_PEEK }), offset()]);
        record("peek, truncated", [shownTake(calls, b, { room: 1, flags: MSG_PEEK | MSG_TRUNC }), offset()]);
      }
      setOption(calls, b, SO_PEEK_OFF, 4);
      for (let i = 0; i < 4; i++) record("read on", [shownTake(calls, b), offset()]);
      closeAll(calls, a, b);
    },
  },
  {
    name: `${label}: MSG_EOR makes no difference`,
    play(calls, record) {
      const [a, b] = pairOf(calls, type);
      record("sent", send(calls, a, bytes(1), { flags: MSG_EOR }));
      record("received", shownTake(calls, b));
      closeAll(calls, a, b);
    },
  },
  {
    name: `${label}: times of arrival, for messages that came before and after they were asked for`,
    play(calls, record) {
      const [a, b] = pairOf(calls, type);
      for (const name of [SO_TIMESTAMP, SO_TIMESTAMPNS, SO_TIMESTAMP_NEW, SO_TIMESTAMPNS_NEW]) {
        send(calls, a, bytes(1));
        record("asked", setOption(calls, b, name, 1));
        record("came before", shownTake(calls, b));
        send(calls, a, bytes(2));
        record("peek", shownTake(calls, b, { flags: MSG_PEEK }));
        record("came after", shownTake(calls, b));
        send(calls, a, bytes(3));
        record("in little room", shownTake(calls, b, { control: 20 }));
        send(calls, a, bytes(3));
        record("in none", shownTake(calls, b, { control: null }));
        record("no more", setOption(calls, b, name, 0));
        send(calls, a, bytes(4));
        record("not told", shownTake(calls, b));
      }
      closeAll(calls, a, b);
    },
  },
  {
    name: `${label}: SO_SELECT_ERR_QUEUE and an error`,
    play(calls, record) {
      const [a, b] = pairOf(calls, type);
      setOption(calls, a, SO_SELECT_ERR_QUEUE, 1);
      send(calls, a, bytes(1));
      if (type === SOCK_DGRAM) calls.connect(b, unspec);
      else calls.close(b);
      record("poll", pollOf(calls, a));
      record("error", [optionOf(calls, a, SO_ERROR), pollOf(calls, a)]);
      closeAll(calls, a, b);
    },
  },
  {
    name: `${label}: waiting, with a time`,
    play(calls, record) {
      const out = new Int32Array(2);
      calls.socketpair(1, type, 0, out);
      const [a, b] = out;
      const brief = new Uint8Array(BigInt64Array.of(0n, 8000n).buffer);
      for (const fd of [a, b]) {
        calls.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, brief);
        calls.setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, brief);
      }
      record("nothing", calls.read(b, new Uint8Array(4)));
      let sent = 0;
      while (calls.sendto(a, new Uint8Array(9000), MSG_DONTWAIT, null) > 0) sent++;
      record("full", sent);
      record("waited", calls.write(a, new Uint8Array(9000)));
      calls.read(b, new Uint8Array(1));
      record("room for one", calls.write(a, new Uint8Array(9000)));
      for (let i = 0; i < sent; i++) calls.read(b, new Uint8Array(1));
      calls.shutdown(b, SHUT_RD);
      record("shut, waiting", calls.recvfrom(b, new Uint8Array(4), 0, null));
      record("shut, not waiting", calls.recvfrom(b, new Uint8Array(4), MSG_DONTWAIT, null));
      closeAll(calls, a, b);
    },
  },
]);

const whom: LocalScenario[] = [
  {
    name: "dgram: connecting and connecting elsewhere, with what had come",
    play(calls, record) {
      const [x, y, z] = ["x", "y", "z"].map((name) => bound(calls, name));
      record("x to y", [calls.connect(x, abstractName("y")), nameOfPeer(calls, x)]);
      record("y to x", calls.connect(y, abstractName("x")));
      record("z to x, which is connected to y", calls.connect(z, abstractName("x")));
      record("z sends to x", send(calls, z, bytes(1), { to: abstractName("x") }));
      record("y sends to x", send(calls, y, bytes(2)));
      record("x to z: what y sent is lost", [
        calls.connect(x, abstractName("z")),
        pollOf(calls, x),
        shownTake(calls, x),
      ]);
      record("y hears of it", [pollOf(calls, y), optionOf(calls, y, SO_ERROR), send(calls, y, bytes(3))]);
      record("z sends to x now", send(calls, z, bytes(4), { to: abstractName("x") }));
      record("x reads", shownTake(calls, x));
      record("x to z again", [
        send(calls, z, bytes(5), { to: abstractName("x") }),
        calls.connect(x, abstractName("z")),
      ]);
      record("it is still there", shownTake(calls, x));
      record("x to nobody", [calls.connect(x, unspec), nameOfPeer(calls, x), send(calls, x, bytes(6))]);
      record("again", calls.connect(x, unspec));
      record(
        "everybody may send",
        [y, z].map((fd) => send(calls, fd, bytes(7), { to: abstractName("x") })),
      );
      record("x reads both", [shownTake(calls, x), shownTake(calls, x)]);
      closeAll(calls, x, y, z);
    },
  },
  {
    name: "dgram: a connected socket sends elsewhere all the same",
    play(calls, record) {
      const [x, y, z] = ["x", "y", "z"].map((name) => bound(calls, name));
      calls.connect(x, abstractName("y"));
      record("to z", [send(calls, x, bytes(1), { to: abstractName("z") }), shownTake(calls, z)]);
      record("to itself", [send(calls, x, bytes(2), { to: abstractName("x") }), shownTake(calls, x)]);
      record("to y by name", [send(calls, x, bytes(3), { to: abstractName("y") }), shownTake(calls, y)]);
      record("to y", [send(calls, x, bytes(4)), shownTake(calls, y)]);
      closeAll(calls, x, y, z);
    },
  },
  {
    name: "dgram: the peer is closed",
    play(calls, record) {
      const [x, y] = ["x", "y"].map((name) => bound(calls, name));
      calls.connect(x, abstractName("y"));
      send(calls, y, bytes(1), { to: abstractName("x") });
      calls.close(y);
      record("before sending", [pollOf(calls, x), nameOfPeer(calls, x)]);
      record("send", send(calls, x, bytes(2)));
      record("what had come", [pollOf(calls, x), shownTake(calls, x), nameOfPeer(calls, x)]);
      record("send again", send(calls, x, bytes(3)));
      const other = bound(calls, "y");
      record("send to another of that name", send(calls, x, bytes(4), { to: abstractName("y") }));
      record("it has it", shownTake(calls, other));
      closeAll(calls, x, other);
    },
  },
  {
    name: "dgram: the peer of a pair is closed, one that sent is closed",
    play(calls, record) {
      const [a, b] = pairOf(calls, SOCK_DGRAM);
      send(calls, b, bytes(1));
      calls.close(b);
      record("poll", pollOf(calls, a));
      record("received", shownTake(calls, a));
      record("send", send(calls, a, bytes(2)));
      record("send again", send(calls, a, bytes(2)));
      record("receive", shownTake(calls, a));
      closeAll(calls, a);
    },
  },
  {
    name: "dgram: eleven wait at one that is not connected back",
    play(calls, record) {
      const receiver = bound(calls, "narrow");
      const [x, y] = [socketOf(calls, SOCK_DGRAM), socketOf(calls, SOCK_DGRAM)];
      calls.connect(x, abstractName("narrow"));
      for (let i = 0; i < 13; i++) record(`x ${i}`, [send(calls, x, bytes(i)), pollOf(calls, x)]);
      record("y", [send(calls, y, bytes(1), { to: abstractName("narrow") }), pollOf(calls, y)]);
      record("read one", shownTake(calls, receiver));
      record("room for one", [
        pollOf(calls, x),
        send(calls, y, bytes(9), { to: abstractName("narrow") }),
        pollOf(calls, x),
      ]);
      record("peek makes none", [shownTake(calls, receiver, { flags: MSG_PEEK }), pollOf(calls, x)]);
      record("to itself", send(calls, receiver, bytes(5), { to: abstractName("narrow") }));
      record("connected back", [calls.bind(x, abstractName("wide")), calls.connect(receiver, abstractName("wide"))]);
      record("no bound any more", [pollOf(calls, x), ...Array.from({ length: 15 }, () => send(calls, x, bytes(1)))]);
      closeAll(calls, receiver);
      record("closed", [pollOf(calls, x), send(calls, x, bytes(1))]);
      closeAll(calls, x, y);
    },
  },
  {
    name: "dgram: to oneself, any number",
    play(calls, record) {
      const fd = bound(calls, "self");
      record(
        "by name",
        Array.from({ length: 14 }, () => send(calls, fd, bytes(1), { to: abstractName("self") })),
      );
      record("connected", [calls.connect(fd, abstractName("self")), nameOfPeer(calls, fd), pollOf(calls, fd)]);
      record(
        "then",
        Array.from({ length: 4 }, () => send(calls, fd, bytes(2))),
      );
      record("received", [shownTake(calls, fd), shownTake(calls, fd)]);
      record("disconnected", [calls.connect(fd, unspec), pollOf(calls, fd)]);
      closeAll(calls, fd);
    },
  },
  {
    name: "dgram: shutdown of one end, and who sends there",
    play(calls, record) {
      const [x, y] = ["x", "y"].map((name) => bound(calls, name));
      calls.shutdown(x, SHUT_RD);
      record("to one shut for reading", send(calls, y, bytes(1), { to: abstractName("x") }));
      record("connected", [calls.connect(y, abstractName("x")), send(calls, y, bytes(1)), pollOf(calls, y)]);
      calls.shutdown(y, SHUT_WR);
      record("shut for writing", [send(calls, y, bytes(1)), send(calls, y, bytes(1), { to: abstractName("y") })]);
      record("from one shut for reading", send(calls, x, bytes(1), { to: abstractName("y") }));
      record("poll", [pollOf(calls, x), pollOf(calls, y)]);
      closeAll(calls, x, y);
    },
  },
  {
    name: "dgram: recvfrom and sendto",
    play(calls, record) {
      const [x, y] = ["x", "y"].map((name) => bound(calls, name));
      record("sent", calls.sendto(x, bytes(1, 2, 3), 0, abstractName("y")));
      const into = new Uint8Array(8);
      const from = addressBuffer();
      record("received", [calls.recvfrom(y, into, 0, from), into.toHex(), from.bytes.subarray(0, from.length).toHex()]);
      record("answered", calls.sendto(y, bytes(4), 0, from.bytes.slice(0, from.length)));
      record("received back", [calls.recvfrom(x, into, 0, null), into.toHex()]);
      record("to an address of no length", calls.sendto(x, bytes(1), 0, bytes()));
      record("to a long one", calls.sendto(x, bytes(1), 0, new Uint8Array(140).fill(1)));
      closeAll(calls, x, y);
    },
  },
  {
    name: "seqpacket: an address is passed over, a name is none to be sent to",
    play(calls, record) {
      const [a, b] = pairOf(calls, SOCK_SEQPACKET);
      record("sent", send(calls, a, bytes(1), { to: abstractName("nobody") }));
      record("to a wrong one", send(calls, a, bytes(2), { to: bytes(7) }));
      record("received", [shownTake(calls, b), shownTake(calls, b)]);
      closeAll(calls, a, b);
    },
  },
];

const mixedPeeks: LocalScenario[] = PACKETS.flatMap(([label, type]) =>
  Array.from({ length: 20 }, (_, seed) => ({
    name: `${label}: peeks, offsets and reads mixed, ${seed}`,
    play(calls, record) {
      const random = randomFrom(777 + seed * 31);
      const [a, b] = pairOf(calls, type);
      for (let i = 0; i < 30; i++) {
        const [choice, number] = [random(5), random(7)];
        if (choice === 0) record(`${i}: offset`, setOption(calls, b, SO_PEEK_OFF, number - 2));
        else if (choice === 1) record(`${i}: read`, shownTake(calls, b, { room: number }));
        else if (choice === 2) record(`${i}: peek`, shownTake(calls, b, { room: number, flags: MSG_PEEK }));
        else record(`${i}: send`, send(calls, a, pattern(number, i)));
        record("state", [optionOf(calls, b, SO_PEEK_OFF), ioctlOf(calls, b, FIONREAD)]);
      }
      closeAll(calls, a, b);
    },
  })),
);

export const PACKET_SCENARIOS: readonly LocalScenario[] = [...bounds, ...whom, ...mixedPeeks];
