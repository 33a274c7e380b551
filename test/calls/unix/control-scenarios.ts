/** Control messages: descriptors, credentials, pidfds; what is malformed, what has no room, what a boundary is. */
import {
  F_GETFD,
  FIONREAD,
  MSG_CMSG_CLOEXEC,
  MSG_OOB,
  MSG_PEEK,
  MSG_WAITALL,
  SCM_CREDENTIALS,
  SCM_SECURITY,
  SIOCOUTQ,
  SOCK_DGRAM,
  SOCK_SEQPACKET,
  SOCK_STREAM,
} from "../../../sockets/calls/constants.ts";
import { type ControlMessage, controlInt, encodeControl } from "../../../sockets/calls/control.ts";
import { messageOf } from "../../../sockets/calls/message.ts";
import type { SocketCalls } from "../../../sockets/calls/socket-calls.ts";
import {
  SO_INQ,
  SO_PASSCRED,
  SO_PASSPIDFD,
  SO_PASSRIGHTS,
  SO_PASSSEC,
  SO_PEEK_OFF,
  SO_PEERPIDFD,
  SO_TIMESTAMP,
  SO_TIMESTAMPNS,
  SO_TYPE,
  SOL_SOCKET,
} from "../../../sockets/options.ts";
import {
  abstractName,
  bytes,
  closeAll,
  ioctlOf,
  type LocalScenario,
  pairOf,
  pattern,
  pollOf,
  rights,
  send,
  setOption,
  shownTake,
  socketOf,
  TYPES,
  take,
} from "./tools.ts";

const credentials = (pid: number, uid: number, gid: number): ControlMessage => ({
  level: SOL_SOCKET,
  type: SCM_CREDENTIALS,
  data: new Uint8Array(Int32Array.of(pid, uid, gid).buffer),
});
const own = (): ControlMessage => credentials(process.pid, process.getuid!(), process.getgid!());

/** sendmsg(2) with control messages as raw bytes. */
function sendRaw(calls: SocketCalls, fd: number, control: Uint8Array, length = control.length): number {
  const message = messageOf(bytes(1));
  message.control = control;
  message.controlLength = length;
  return calls.sendmsg(fd, message, 0);
}

const withLength = (control: Uint8Array, length: number): Uint8Array => {
  const copy = control.slice();
  new DataView(copy.buffer).setUint32(0, length, true);
  return copy;
};

const malformed: LocalScenario[] = TYPES.flatMap(([label, type]) => [
  {
    name: `${label}: control messages that are malformed, of other levels and types`,
    play(calls, record) {
      const [a, b] = pairOf(calls, type);
      const one = encodeControl(rights(a));
      for (const length of [0, 1, 15, 16, 17, 19, 20, 21, 23, 24, 25, 40, 2 ** 31]) {
        record(`header says ${length}`, sendRaw(calls, a, withLength(one, length)));
      }
      for (const length of [0, 1, 8, 15, 16, 17, 19, 20, 21, 23])
        record(`cut to ${length}`, sendRaw(calls, a, one, length));
      const high = one.slice();
      high[4] = 1;
      record("a very long one", sendRaw(calls, a, high));
      for (const level of [0, 41, 255, -1]) {
        record(`level ${level}`, sendRaw(calls, a, encodeControl({ level, type: 1, data: controlInt(5) })));
      }
      for (const kind of [0, SCM_SECURITY, 4, 5, 29, 35, 36, -1]) {
        record(
          `type ${kind}`,
          sendRaw(calls, a, encodeControl({ level: SOL_SOCKET, type: kind, data: controlInt(5) })),
        );
      }
      record("a good one before a bad one", sendRaw(calls, a, new Uint8Array([...one, ...withLength(one, 3)])));
      record(
        "a bad descriptor before a bad one",
        sendRaw(calls, a, new Uint8Array([...encodeControl(rights(-1)), ...withLength(one, 3)])),
      );
      record(
        "a bad one before a bad descriptor",
        sendRaw(calls, a, new Uint8Array([...withLength(one, 3), ...encodeControl(rights(-1))])),
      );
      record("left", [pollOf(calls, b), ioctlOf(calls, a, SIOCOUTQ)]);
      for (let i = 0; i < 30; i++) shownTake(calls, b);
      closeAll(calls, a, b);
    },
  },
  {
    name: `${label}: descriptors that there are none of, too many, none at all`,
    play(calls, record) {
      const [a, b] = pairOf(calls, type);
      for (const fds of [[-1], [999_999], [a, -1], [a, 999_999, b]]) {
        record(`${fds.length}`, send(calls, a, bytes(1), { control: [rights(...fds)] }));
      }
      for (const count of [0, 1, 252, 253, 254, 300]) {
        record(`${count} of one`, send(calls, a, bytes(1), { control: [rights(...Array(count).fill(a))] }));
      }
      record("in two messages", send(calls, a, bytes(1), { control: [rights(a, b), rights(b)] }));
      record(
        "253 in two",
        send(calls, a, bytes(1), { control: [rights(...Array(200).fill(a)), rights(...Array(53).fill(b))] }),
      );
      record(
        "254 in two",
        send(calls, a, bytes(1), { control: [rights(...Array(200).fill(a)), rights(...Array(54).fill(b))] }),
      );
      for (let i = 0; i < 7; i++) record("received", shownTake(calls, b, { control: 2000 }));
      closeAll(calls, a, b);
    },
  },
  {
    name: `${label}: credentials that may be sent, and that may not`,
    play(calls, record) {
      const [a, b] = pairOf(calls, type);
      record("asked for", setOption(calls, b, SO_PASSCRED, 1));
      const tries: [string, ControlMessage][] = [
        ["own", own()],
        ["another process", credentials(1, 0, 0)],
        ["another user", credentials(process.pid, 1234, 0)],
        ["another group", credentials(process.pid, 0, 4321)],
        ["nobody", credentials(4_000_000, 0, 0)],
        ["no process", credentials(0, 0, 0)],
        ["a negative process", credentials(-1, 0, 0)],
        ["no user", credentials(process.pid, -1, 0)],
        ["no group", credentials(process.pid, 0, -1)],
        ["a large user", credentials(process.pid, 2 ** 31, 0)],
        ["too short", { ...own(), data: own().data.subarray(0, 8) }],
        ["too long", { ...own(), data: new Uint8Array(16) }],
      ];
      for (const [what, control] of tries) {
        record(what, send(calls, a, bytes(1), { control: [control] }));
        record("received", shownTake(calls, b));
      }
      record("twice", send(calls, a, bytes(1), { control: [credentials(1, 0, 0), credentials(process.pid, 7, 8)] }));
      record("the last one counts", shownTake(calls, b));
      record("with descriptors", send(calls, a, bytes(1), { control: [own(), rights(a, b)] }));
      record("received", shownTake(calls, b));
      closeAll(calls, a, b);
    },
  },
]);

const asked: LocalScenario[] = TYPES.flatMap(([label, type]) =>
  [0, 1, 2, 3, 4, 5, 6, 7].map((bits) => ({
    name: `${label}: who has asked for credentials: ${["receiver", "sender", "receiver later"].filter((_, i) => (bits >> i) & 1).join(", ") || "nobody"}`,
    play(calls, record) {
      const [a, b] = pairOf(calls, type);
      if ((bits & 1) !== 0) setOption(calls, b, SO_PASSCRED, 1);
      if ((bits & 2) !== 0) setOption(calls, a, SO_PASSCRED, 1);
      send(calls, a, bytes(1, 2));
      send(calls, a, bytes(3), { control: [rights(b)] });
      send(calls, a, bytes(4), { control: [credentials(1, 5, 6)] });
      send(calls, a, bytes());
      setOption(calls, b, SO_PASSCRED, Number((bits & 5) !== 0));
      for (let i = 0; i < 4; i++) record(`${i}`, shownTake(calls, b));
      closeAll(calls, a);
      record("end", shownTake(calls, b));
      closeAll(calls, b);
    },
  })),
);

const ROOMS = [
  0, 1, 8, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 27, 28, 31, 32, 33, 36, 40, 44, 48, 50, 52, 55, 56, 60, 64, 68, 72,
  80, 96, 100,
];

const room: LocalScenario[] = TYPES.flatMap(([label, type]) =>
  (
    [
      ["rights", [], 2],
      ["credentials", [SO_PASSCRED], 0],
      ["credentials and rights", [SO_PASSCRED], 3],
      ["pidfd", [SO_PASSPIDFD], 0],
      ["everything", [SO_PASSCRED, SO_PASSPIDFD, SO_PASSSEC, SO_TIMESTAMP, SO_INQ], 2],
      ["security", [SO_PASSSEC], 0],
      ["time and rights", [SO_TIMESTAMPNS], 1],
    ] as const
  ).map(([what, options, count]) => ({
    name: `${label}: control buffers of every size for ${what}`,
    play(calls, record) {
      const [a, b] = pairOf(calls, type);
      for (const option of options) setOption(calls, b, option, 1);
      for (const size of ROOMS) {
        const control = count === 0 ? undefined : [rights(...Array(count).fill(b))];
        record("sent", send(calls, a, bytes(1), { control }));
        record(`room ${size}`, shownTake(calls, b, { control: size }));
      }
      send(calls, a, bytes(1), { control: [rights(a)] });
      record("none", shownTake(calls, b, { control: null }));
      send(calls, a, bytes(1), { control: [rights(a)] });
      record("by read", [calls.read(b, new Uint8Array(4)), ioctlOf(calls, b, FIONREAD)]);
      closeAll(calls, a, b);
    },
  })),
);

const passing: LocalScenario[] = TYPES.flatMap(([label, type]) => [
  {
    name: `${label}: a descriptor that is passed works, and keeps its file when the sender closes it`,
    play(calls, record) {
      const [a, b] = pairOf(calls, type);
      const [c, d] = pairOf(calls, SOCK_STREAM);
      send(calls, a, bytes(1), { control: [rights(c)] });
      calls.close(c);
      record("still open", pollOf(calls, d));
      const { shown, fds } = take(calls, b);
      record("received", shown);
      record("written", [calls.write(fds[0], bytes(5, 6)), calls.read(d, new Uint8Array(4))]);
      closeAll(calls, ...fds);
      record("closed", pollOf(calls, d));
      closeAll(calls, a, b, d);
    },
  },
  {
    name: `${label}: what is in flight is closed with the socket that it waits at`,
    play(calls, record) {
      const [a, b] = pairOf(calls, type);
      const [c, d] = pairOf(calls, SOCK_STREAM);
      send(calls, a, bytes(1), { control: [rights(c)] });
      calls.close(c);
      calls.close(b);
      record("closed", pollOf(calls, d));
      closeAll(calls, a, d);
    },
  },
  {
    name: `${label}: how many may be in flight`,
    play(calls, record) {
      const [a, b] = pairOf(calls, type);
      const most = [rights(...Array(253).fill(a))];
      record(
        "sent",
        Array.from({ length: 9 }, () => send(calls, a, bytes(1), { control: most })),
      );
      record("none", send(calls, a, bytes(1)));
      record("some received", shownTake(calls, b, { control: 1200 }));
      record(
        "then",
        Array.from({ length: 3 }, () => send(calls, a, bytes(1), { control: most })),
      );
      closeAll(calls, a, b);
    },
  },
  {
    name: `${label}: MSG_CMSG_CLOEXEC`,
    play(calls, record) {
      const [a, b] = pairOf(calls, type);
      for (const flags of [0, MSG_CMSG_CLOEXEC]) {
        send(calls, a, bytes(1), { control: [rights(a, b)] });
        const { shown, fds } = take(calls, b, { flags });
        record("received", shown);
        record(
          "flags",
          fds.map((fd) => calls.fcntl(fd, F_GETFD, 0)),
        );
        closeAll(calls, ...fds);
      }
      closeAll(calls, a, b);
    },
  },
  {
    name: `${label}: peeking gives descriptors of its own each time`,
    play(calls, record) {
      const [a, b] = pairOf(calls, type);
      const [c, d] = pairOf(calls, SOCK_DGRAM);
      send(calls, a, pattern(4), { control: [rights(c)] });
      calls.close(c);
      record("peek", shownTake(calls, b, { flags: MSG_PEEK }));
      record("peek in little room", shownTake(calls, b, { flags: MSG_PEEK, control: 8 }));
      const peeked = take(calls, b, { flags: MSG_PEEK, room: 2 });
      record("peek some", peeked.shown);
      record("read some", shownTake(calls, b, { room: 2 }));
      record("read on", shownTake(calls, b, { room: 2 }));
      record("still open", [calls.write(d, bytes(1)), pollOf(calls, peeked.fds[0])]);
      closeAll(calls, ...peeked.fds);
      record("closed", calls.write(d, bytes(1)));
      closeAll(calls, a, b, d);
    },
  },
  {
    name: `${label}: SO_PASSRIGHTS refuses them`,
    play(calls, record) {
      const [a, b] = pairOf(calls, type);
      record("before", send(calls, a, bytes(1), { control: [rights(a)] }));
      record("set", setOption(calls, b, SO_PASSRIGHTS, 0));
      record("refused", send(calls, a, bytes(2), { control: [rights(a)] }));
      record("refused in several parts", send(calls, a, new Uint8Array(50_000), { control: [rights(a)] }));
      record("no rights", send(calls, a, bytes(3), { control: [rights()] }));
      record("out of band", send(calls, a, bytes(4), { control: [rights(a)], flags: MSG_OOB }));
      record("what came before", shownTake(calls, b));
      record("then", shownTake(calls, b));
      record("under way", ioctlOf(calls, a, SIOCOUTQ));
      closeAll(calls, a, b);
    },
  },
  {
    name: `${label}: rights with a message that is refused are the sender's still`,
    play(calls, record) {
      const fd = socketOf(calls, type);
      const [c, d] = pairOf(calls, SOCK_STREAM);
      record("not connected", send(calls, fd, bytes(1), { control: [rights(c)] }));
      record("to nobody", send(calls, fd, bytes(1), { control: [rights(c)], to: abstractName("nobody") }));
      record(
        "too long",
        send(calls, fd, new Uint8Array(1 << 22), { control: [rights(c)], to: abstractName("nobody") }),
      );
      calls.close(c);
      record("closed", pollOf(calls, d));
      closeAll(calls, fd, d);
    },
  },
  {
    name: `${label}: a socket in a message to itself, and two in each other's, are closed all the same`,
    play(calls, record) {
      const [a, b] = pairOf(calls, type);
      const [c, d] = pairOf(calls, SOCK_STREAM);
      record("itself", send(calls, a, bytes(1), { control: [rights(b)] }));
      record("each other", [send(calls, b, bytes(1), { control: [rights(a, b, c)] })]);
      record("open", pollOf(calls, d));
      closeAll(calls, a, b, c);
      // The kernel's collector works when a socket is closed, in a thread of its own.
      const [e, f] = pairOf(calls, SOCK_STREAM);
      closeAll(calls, e, f);
      const entry = { fd: d, events: 0, revents: 0 };
      record("closed", [calls.poll([entry], 10_000), entry.revents]);
      closeAll(calls, d);
    },
  },
  {
    name: `${label}: descriptors of descriptors that are passed on`,
    play(calls, record) {
      const [a, b] = pairOf(calls, type);
      const [c, d] = pairOf(calls, SOCK_SEQPACKET);
      send(calls, c, bytes(1), { control: [rights(a)] });
      send(calls, a, bytes(2), { control: [rights(d)] });
      closeAll(calls, c, d);
      const outer = take(calls, b);
      record("outer", outer.shown);
      const inner = take(calls, outer.fds[0]);
      record("inner", inner.shown);
      record("sent by it", [send(calls, inner.fds[0], bytes(7)), shownTake(calls, b)]);
      closeAll(calls, a, b, ...outer.fds, ...inner.fds);
    },
  },
]);

const boundaries: LocalScenario[] = [
  {
    name: "stream: bytes with descriptors are read up to them, and not beyond",
    play(calls, record) {
      const [a, b] = pairOf(calls, SOCK_STREAM);
      send(calls, a, pattern(3));
      send(calls, a, pattern(4), { control: [rights(a)] });
      send(calls, a, pattern(5), { control: [rights(a, b)] });
      send(calls, a, pattern(6));
      record("peek all", shownTake(calls, b, { flags: MSG_PEEK }));
      record("peek three", shownTake(calls, b, { flags: MSG_PEEK, room: 3 }));
      record("peek two", shownTake(calls, b, { flags: MSG_PEEK, room: 2 }));
      for (let i = 0; i < 5; i++) record(`read ${i}`, shownTake(calls, b));
      closeAll(calls, a, b);
    },
  },
  {
    name: "stream: descriptors with many bytes come with the first of them",
    play(calls, record) {
      const [a, b] = pairOf(calls, SOCK_STREAM);
      record("sent", send(calls, a, pattern(100_000), { control: [rights(a)] }));
      for (const size of [10, 40_000, 40_000, 40_000]) record(`${size}`, shownTake(calls, b, { room: size }));
      closeAll(calls, a, b);
    },
  },
  {
    name: "stream: descriptors without bytes go nowhere",
    play(calls, record) {
      const [a, b] = pairOf(calls, SOCK_STREAM);
      record("sent", send(calls, a, bytes(), { control: [rights(a)] }));
      record("nothing", [pollOf(calls, b), shownTake(calls, b)]);
      record("out of band", send(calls, a, bytes(5), { control: [rights(a)], flags: MSG_OOB }));
      record("out of band, received so", shownTake(calls, b, { flags: MSG_OOB }));
      record("then", shownTake(calls, b));
      record("behind others", send(calls, a, bytes(5, 6), { control: [rights(a)], flags: MSG_OOB }));
      record("read", [shownTake(calls, b), shownTake(calls, b)]);
      closeAll(calls, a, b);
    },
  },
  {
    name: "stream: bytes of different writers are read apart where credentials are asked for",
    play(calls, record) {
      for (const asks of [0, 1]) {
        const [a, b] = pairOf(calls, SOCK_STREAM);
        setOption(calls, b, SO_PASSCRED, asks);
        const writers = [
          own(),
          own(),
          credentials(1, 0, 0),
          credentials(process.pid, 7, 0),
          credentials(process.pid, 7, 0),
          own(),
        ];
        writers.forEach((control, i) => void send(calls, a, pattern(2, i), { control: [control] }));
        send(calls, a, pattern(2, 9));
        record("peek", shownTake(calls, b, { flags: MSG_PEEK }));
        for (let i = 0; i < 6; i++) record(`read ${i}`, shownTake(calls, b, { flags: MSG_WAITALL }));
        closeAll(calls, a, b);
      }
    },
  },
  {
    name: "stream: SO_PEEK_OFF and descriptors",
    play(calls, record) {
      const [a, b] = pairOf(calls, SOCK_STREAM);
      setOption(calls, b, SO_PEEK_OFF, 0);
      send(calls, a, pattern(3));
      send(calls, a, pattern(4), { control: [rights(a)] });
      send(calls, a, pattern(2));
      for (let i = 0; i < 5; i++) record(`peek ${i}`, shownTake(calls, b, { flags: MSG_PEEK, room: 4 }));
      closeAll(calls, a, b);
    },
  },
  {
    name: "a connection not accepted yet takes credentials along, whoever asks",
    play(calls, record) {
      for (const type of [SOCK_STREAM, SOCK_SEQPACKET]) {
        const listener = socketOf(calls, type);
        calls.bind(listener, abstractName("embryo"));
        calls.listen(listener, 3);
        const client = socketOf(calls, type);
        calls.connect(client, abstractName("embryo"));
        record("early", send(calls, client, bytes(1)));
        const accepted = calls.accept4(listener, null, 0);
        setOption(calls, accepted, SO_PASSCRED, 1);
        record("received", shownTake(calls, accepted));
        setOption(calls, accepted, SO_PASSCRED, 0);
        send(calls, client, bytes(2));
        setOption(calls, accepted, SO_PASSCRED, 1);
        record("accepted", shownTake(calls, accepted));
        closeAll(calls, listener, client, accepted);
      }
    },
  },
  {
    name: "a listener in flight, with connections that wait in it",
    play(calls, record) {
      const listener = socketOf(calls, SOCK_STREAM);
      calls.bind(listener, abstractName("flying"));
      calls.listen(listener, 3);
      const client = socketOf(calls, SOCK_STREAM);
      calls.connect(client, abstractName("flying"));
      const [a, b] = pairOf(calls, SOCK_STREAM);
      send(calls, a, bytes(1), { control: [rights(listener)] });
      send(calls, client, bytes(2), { control: [rights(b)] });
      calls.close(listener);
      record("open", pollOf(calls, client));
      const { shown, fds } = take(calls, b);
      record("received", shown);
      const accepted = calls.accept4(fds[0], null, 0);
      record("accepted", shownTake(calls, accepted));
      closeAll(calls, a, b, client, accepted, ...fds);
    },
  },
  ...TYPES.map(
    ([label, type]): LocalScenario => ({
      name: `SO_PEERPIDFD: ${label}, of a pair, of one that is not connected, in less room, set`,
      play(calls, record) {
        const pair = pairOf(calls, type);
        const alone = socketOf(calls, type);
        for (const fd of [...pair, alone]) {
          const out = new Uint8Array(4);
          const result = calls.getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, out);
          record("told", result);
          if (result < 0) continue;
          const made = new DataView(out.buffer).getInt32(0, true);
          record("closed on exec", calls.fcntl(made, F_GETFD, 0));
          record("nothing has happened to it", pollOf(calls, made));
          record("a socket", calls.getsockopt(made, SOL_SOCKET, SO_TYPE, new Uint8Array(4)));
          calls.close(made);
        }
        for (const length of [0, 4])
          record("set", calls.setsockopt(alone, SOL_SOCKET, SO_PEERPIDFD, new Uint8Array(length)));
        closeAll(calls, ...pair, alone);
      },
    }),
  ),
  {
    name: "SO_PASSPIDFD: of the sender, of another process, where nobody has asked",
    play(calls, record) {
      for (const type of [SOCK_STREAM, SOCK_DGRAM]) {
        const [a, b] = pairOf(calls, type);
        send(calls, a, bytes(1));
        record("set", setOption(calls, b, SO_PASSPIDFD, 1));
        record("before", shownTake(calls, b));
        send(calls, a, bytes(2));
        record("own", shownTake(calls, b));
        send(calls, a, bytes(3), { control: [credentials(1, 0, 0)] });
        record("another's", shownTake(calls, b));
        send(calls, a, bytes(4));
        const { shown, fds } = take(calls, b);
        record("kept", shown);
        record("poll", [pollOf(calls, fds[0]), calls.fcntl(fds[0], F_GETFD, 0), calls.read(fds[0], new Uint8Array(4))]);
        closeAll(calls, ...fds, a);
        record("end", shownTake(calls, b));
        closeAll(calls, b);
      }
    },
  },
];

export const CONTROL_SCENARIOS: readonly LocalScenario[] = [...malformed, ...asked, ...room, ...passing, ...boundaries];
