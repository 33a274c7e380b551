/** Every call in every state of a socket, for each type: state by call by type. */
import { ERRNO } from "af-xdp-bindings";
import {
  AF_INET,
  AF_UNSPEC,
  FIONREAD,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  MSG_OOB,
  MSG_PEEK,
  SHUT_RD,
  SHUT_RDWR,
  SHUT_WR,
  SIOCATMARK,
  SIOCGSTAMP,
  SIOCGSTAMPNS,
  SIOCOUTQ,
  SIOCUNIXFILE,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_STREAM,
} from "../../../sockets/calls/constants.ts";
import { addressBuffer } from "../../../sockets/calls/message.ts";
import type { SocketCalls } from "../../../sockets/calls/socket-calls.ts";
import { SO_ACCEPTCONN, SO_ERROR, SO_PEERCRED } from "../../../sockets/options.ts";
import {
  abstractName,
  bytes,
  closeAll,
  connection,
  ioctlOf,
  nameOfPeer,
  nameOfSocket,
  optionOf,
  pairOf,
  pattern,
  pollOf,
  send,
  shownAddress,
  shownTake,
  socketOf,
  TYPES,
  type UnixScenario,
} from "./tools.ts";

/** The socket, and others that are to be closed afterwards. */
type State = (calls: SocketCalls, type: number) => [number, ...number[]];

const own = abstractName("state own");
const others = abstractName("state other");

const named = (calls: SocketCalls, type: number, name: Uint8Array): number => {
  const fd = socketOf(calls, type);
  calls.bind(fd, name);
  return fd;
};

/** A pair after something has been done to it: `a` is looked at. */
const pairAfter =
  (act: (calls: SocketCalls, a: number, b: number) => void): State =>
  (calls, type) => {
    const [a, b] = pairOf(calls, type);
    act(calls, a, b);
    return [a, b];
  };

const closing =
  (act: (calls: SocketCalls, a: number, b: number) => void = () => {}): State =>
  (calls, type) => {
    const [a, b] = pairOf(calls, type);
    act(calls, a, b);
    calls.close(b);
    return [a];
  };

const fill = (calls: SocketCalls, fd: number): void => {
  while (calls.sendto(fd, pattern(500), MSG_DONTWAIT | MSG_NOSIGNAL, null) > 0);
};

const STATES: readonly (readonly [string, State])[] = [
  ["fresh", (calls, type) => [socketOf(calls, type)]],
  ["bound", (calls, type) => [named(calls, type, own)]],
  [
    "bound and shut for reading",
    (calls, type) => {
      const fd = named(calls, type, own);
      calls.shutdown(fd, SHUT_RD);
      return [fd];
    },
  ],
  [
    "listening",
    (calls, type) => {
      const fd = named(calls, type, own);
      calls.listen(fd, 1);
      return [fd];
    },
  ],
  [
    "listening, with a connection that waits",
    (calls, type) => {
      const fd = named(calls, type, own);
      calls.listen(fd, 1);
      const client = socketOf(calls, type);
      calls.connect(client, own);
      return [fd, client];
    },
  ],
  [
    "listening and shut for reading",
    (calls, type) => {
      const fd = named(calls, type, own);
      calls.listen(fd, 1);
      calls.shutdown(fd, SHUT_RD);
      return [fd];
    },
  ],
  [
    "client of a listener, not accepted",
    (calls, type) => {
      const listener = named(calls, type, own);
      calls.listen(listener, 1);
      const client = socketOf(calls, type);
      calls.connect(client, own);
      return [client, listener];
    },
  ],
  [
    "client whose listener was closed",
    (calls, type) => {
      const [client, listener] = [socketOf(calls, type), named(calls, type, own)];
      calls.listen(listener, 1);
      calls.connect(client, own);
      calls.close(listener);
      return [client];
    },
  ],
  [
    "client, accepted",
    (calls, type) => {
      const [listener, client, accepted] = connection(calls, type, "state own");
      return [client, listener, accepted];
    },
  ],
  [
    "accepted",
    (calls, type) => {
      const [listener, client, accepted] = connection(calls, type, "state own");
      return accepted < 0 ? [client, listener] : [accepted, listener, client];
    },
  ],
  [
    "connected to one that is not connected",
    (calls, type) => {
      const [fd, other] = [socketOf(calls, type), named(calls, type, others)];
      calls.connect(fd, others);
      return [fd, other];
    },
  ],
  [
    "connected to one that is connected elsewhere afterwards",
    (calls, type) => {
      const [fd, other, third] = [socketOf(calls, type), named(calls, type, others), named(calls, type, own)];
      calls.connect(fd, others);
      calls.connect(other, own);
      return [fd, other, third];
    },
  ],
  [
    "connected to one that is closed",
    (calls, type) => {
      const [fd, other] = [socketOf(calls, type), named(calls, type, others)];
      calls.connect(fd, others);
      calls.close(other);
      return [fd];
    },
  ],
  [
    "connected to itself",
    (calls, type) => {
      const fd = named(calls, type, own);
      calls.connect(fd, own);
      return [fd];
    },
  ],
  [
    "disconnected again",
    (calls, type) => {
      const [fd, other] = pairOf(calls, type);
      calls.connect(fd, bytes(AF_UNSPEC, 0));
      return [fd, other];
    },
  ],
  [
    "left by its peer with messages of its own unread there",
    (calls, type) => {
      const [fd, other] = pairOf(calls, type);
      send(calls, fd, bytes(1));
      calls.connect(other, bytes(AF_UNSPEC, 0));
      return [fd, other];
    },
  ],
  ["connected", pairAfter(() => {})],
  ["connected, something to read", pairAfter((calls, _, b) => void send(calls, b, bytes(1, 2, 3)))],
  [
    "connected, two messages to read, the first one empty",
    pairAfter((calls, _, b) => {
      send(calls, b, bytes());
      send(calls, b, bytes(4, 5));
    }),
  ],
  ["connected, sent and unread", pairAfter((calls, a) => void send(calls, a, bytes(1, 2, 3)))],
  ["connected, full", pairAfter((calls, a) => fill(calls, a))],
  ["shut for reading", pairAfter((calls, a) => void calls.shutdown(a, SHUT_RD))],
  ["shut for writing", pairAfter((calls, a) => void calls.shutdown(a, SHUT_WR))],
  ["shut", pairAfter((calls, a) => void calls.shutdown(a, SHUT_RDWR))],
  [
    "shut for reading, something to read",
    pairAfter((calls, a, b) => {
      send(calls, b, bytes(1, 2, 3));
      calls.shutdown(a, SHUT_RD);
    }),
  ],
  ["peer shut for reading", pairAfter((calls, _, b) => void calls.shutdown(b, SHUT_RD))],
  ["peer shut for writing", pairAfter((calls, _, b) => void calls.shutdown(b, SHUT_WR))],
  ["peer shut", pairAfter((calls, _, b) => void calls.shutdown(b, SHUT_RDWR))],
  ["peer closed", closing()],
  ["peer closed, something to read", closing((calls, _, b) => void send(calls, b, bytes(1, 2, 3)))],
  ["peer closed with something unread", closing((calls, a) => void send(calls, a, bytes(1, 2, 3)))],
  ["peer closed with an empty message unread", closing((calls, a) => void send(calls, a, bytes()))],
  [
    "peer closed with something unread, something to read",
    closing((calls, a, b) => {
      send(calls, a, bytes(1, 2, 3));
      send(calls, b, bytes(4, 5));
    }),
  ],
  ["out of band to read", pairAfter((calls, _, b) => void send(calls, b, bytes(1, 2, 3), { flags: MSG_OOB }))],
  [
    "peer closed with something out of band unread",
    closing((calls, a) => void send(calls, a, bytes(1), { flags: MSG_OOB })),
  ],
];

const CALLS: readonly (readonly [string, (calls: SocketCalls, fd: number) => unknown])[] = [
  ["bind", (calls, fd) => [calls.bind(fd, abstractName("state new")), nameOfSocket(calls, fd)]],
  ["autobind", (calls, fd) => [calls.bind(fd, bytes(1, 0)), nameOfSocket(calls, fd)]],
  ["connect", (calls, fd) => calls.connect(fd, abstractName("state nobody"))],
  ["connect to itself", (calls, fd) => [calls.connect(fd, own), pollOf(calls, fd), nameOfPeer(calls, fd)]],
  ["disconnect", (calls, fd) => [calls.connect(fd, bytes(AF_UNSPEC, 0)), pollOf(calls, fd), nameOfPeer(calls, fd)]],
  ["disconnect, a byte only", (calls, fd) => calls.connect(fd, bytes(AF_UNSPEC))],
  ["connect elsewhere", (calls, fd) => calls.connect(fd, bytes(AF_INET, 0, 0, 0, 0, 0, 0, 0))],
  ["listen", (calls, fd) => [calls.listen(fd, 3), optionOf(calls, fd, SO_ACCEPTCONN), pollOf(calls, fd)]],
  [
    "accept",
    (calls, fd) => {
      const address = addressBuffer();
      const accepted = calls.accept4(fd, address, SOCK_NONBLOCK);
      const shown = accepted < 0 ? accepted : [shownAddress(address), nameOfSocket(calls, accepted)];
      closeAll(calls, accepted);
      return [shown, pollOf(calls, fd)];
    },
  ],
  ["accept with wrong flags", (calls, fd) => calls.accept4(fd, null, 1)],
  ["names", (calls, fd) => [nameOfSocket(calls, fd), nameOfPeer(calls, fd)]],
  ["names in little room", (calls, fd) => [nameOfSocket(calls, fd, 3), nameOfPeer(calls, fd, 0)]],
  ["send", (calls, fd) => [send(calls, fd, bytes(7, 8)), pollOf(calls, fd), optionOf(calls, fd, SO_ERROR)]],
  ["send nothing", (calls, fd) => send(calls, fd, bytes())],
  ["send out of band", (calls, fd) => send(calls, fd, bytes(7, 8), { flags: MSG_OOB })],
  ["send nothing out of band", (calls, fd) => send(calls, fd, bytes(), { flags: MSG_OOB })],
  ["send to a name", (calls, fd) => send(calls, fd, bytes(7), { to: others })],
  ["send to its own name", (calls, fd) => [send(calls, fd, bytes(7), { to: own }), shownTake(calls, fd)]],
  ["send to nobody", (calls, fd) => send(calls, fd, bytes(7), { to: abstractName("state nobody") })],
  ["send twice", (calls, fd) => [send(calls, fd, bytes(7)), send(calls, fd, bytes(8))]],
  ["write", (calls, fd) => [calls.write(fd, bytes(7)), calls.writev(fd, [bytes(1), bytes(), bytes(2, 3)])]],
  ["receive", (calls, fd) => [shownTake(calls, fd), shownTake(calls, fd), pollOf(calls, fd)]],
  ["receive little", (calls, fd) => [shownTake(calls, fd, { room: 1 }), shownTake(calls, fd, { room: 1 })]],
  ["receive nothing", (calls, fd) => [shownTake(calls, fd, { room: 0 }), pollOf(calls, fd)]],
  ["peek", (calls, fd) => [shownTake(calls, fd, { flags: MSG_PEEK }), shownTake(calls, fd, { flags: MSG_PEEK })]],
  ["receive out of band", (calls, fd) => [shownTake(calls, fd, { flags: MSG_OOB }), pollOf(calls, fd)]],
  ["read", (calls, fd) => [calls.read(fd, new Uint8Array(2)), calls.readv(fd, [new Uint8Array(1), new Uint8Array(9)])]],
  ["read nothing", (calls, fd) => [calls.read(fd, new Uint8Array(0)), calls.readv(fd, [])]],
  ["shutdown", (calls, fd) => [calls.shutdown(fd, SHUT_RDWR), pollOf(calls, fd), send(calls, fd, bytes(1))]],
  ["shut for reading", (calls, fd) => [calls.shutdown(fd, SHUT_RD), pollOf(calls, fd), shownTake(calls, fd)]],
  ["shut for writing", (calls, fd) => [calls.shutdown(fd, SHUT_WR), pollOf(calls, fd), send(calls, fd, bytes(1))]],
  ["shutdown of nothing", (calls, fd) => [calls.shutdown(fd, 3), calls.shutdown(fd, -1)]],
  ["poll", (calls, fd) => [pollOf(calls, fd), pollOf(calls, fd, 0)]],
  ["error", (calls, fd) => [optionOf(calls, fd, SO_ERROR), optionOf(calls, fd, SO_ERROR), pollOf(calls, fd)]],
  ["peer's credentials", (calls, fd) => [optionOf(calls, fd, SO_PEERCRED, 12), optionOf(calls, fd, SO_PEERCRED, 40)]],
  [
    "how much",
    (calls, fd) => [ioctlOf(calls, fd, FIONREAD), ioctlOf(calls, fd, SIOCOUTQ), ioctlOf(calls, fd, SIOCATMARK)],
  ],
  [
    "other ioctls",
    (calls, fd) => [
      calls.ioctl(fd, SIOCGSTAMP, new Uint8Array(16)),
      calls.ioctl(fd, SIOCGSTAMPNS, new Uint8Array(16)),
      calls.ioctl(fd, SIOCUNIXFILE, new Uint8Array(4)),
      calls.ioctl(fd, 0x89e1, new Uint8Array(4)),
    ],
  ],
  [
    "seek",
    (calls, fd) => [calls.lseek(fd, 0, 0), calls.pread(fd, new Uint8Array(1), 0), calls.pwrite(fd, bytes(1), 5)],
  ],
];

/** What is done with the other descriptors afterwards, so that what the call has done there shows. */
function aftermath(calls: SocketCalls, rest: readonly number[]): unknown {
  return rest.map((fd) => [pollOf(calls, fd), shownTake(calls, fd), ioctlOf(calls, fd, SIOCOUTQ)]);
}

const byState: UnixScenario[] = TYPES.flatMap(([label, type]) =>
  STATES.flatMap(([state, make]) =>
    CALLS.map(([call, act]) => ({
      name: `${label}, ${state}: ${call}`,
      play(calls, record) {
        const [fd, ...rest] = make(calls, type);
        record(call, act(calls, fd));
        record("then", [pollOf(calls, fd), nameOfSocket(calls, fd), nameOfPeer(calls, fd)]);
        record("the others", aftermath(calls, rest));
        closeAll(calls, fd, ...rest);
      },
    })),
  ),
);

const socketCalls: UnixScenario[] = [
  {
    name: "socket: types and protocols",
    play(calls, record) {
      for (let type = -1; type < 20; type++) {
        for (const protocol of [0, 1, 2, -1]) {
          const fd = calls.socket(1, type, protocol);
          record(`type ${type}, protocol ${protocol}`, fd < 0 ? fd : "made");
          closeAll(calls, fd);
        }
      }
      record("flags", calls.socket(1, SOCK_STREAM | 0x100, 0));
    },
  },
  {
    name: "socketpair: types and protocols",
    play(calls, record) {
      for (let type = 0; type < 16; type++) {
        for (const protocol of [0, 1, 2]) {
          const out = new Int32Array(2);
          const result = calls.socketpair(1, type, protocol, out);
          record(`type ${type}, protocol ${protocol}`, result);
          if (result === 0) closeAll(calls, ...out);
        }
      }
      record("flags", calls.socketpair(1, SOCK_DGRAM | 0x100, 0, new Int32Array(2)));
    },
  },
  {
    name: "no descriptor",
    play(calls, record) {
      const fd = 999_999;
      record("calls", [
        calls.bind(fd, own),
        calls.connect(fd, own),
        calls.listen(fd, 1),
        calls.accept4(fd, null, 0),
        calls.shutdown(fd, 0),
        send(calls, fd, bytes(1)),
        shownTake(calls, fd),
        calls.getsockname(fd, addressBuffer()),
        optionOf(calls, fd, SO_ERROR),
      ]);
      record("that is", -ERRNO.EBADF);
    },
  },
];

export const STATE_SCENARIOS: readonly UnixScenario[] = [...byState, ...socketCalls];
