/** Every call in every state of a stream socket: what it answers, and what has become of the socket. */
import { ERRNO } from "af-xdp-bindings";
import {
  AF_UNIX,
  FIONBIO,
  MSG_DONTROUTE,
  MSG_DONTWAIT,
  MSG_ERRQUEUE,
  MSG_MORE,
  MSG_NOSIGNAL,
  MSG_OOB,
  MSG_PEEK,
  MSG_TRUNC,
  MSG_WAITALL,
  POLLERR,
  SHUT_RD,
  SHUT_RDWR,
  SHUT_WR,
  SIOCATMARK,
  SIOCGSTAMP,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_RAW,
  SOCK_SEQPACKET,
  SOCK_STREAM,
} from "../../../sockets/calls/constants.ts";
import { addressBuffer, messageOf } from "../../../sockets/calls/message.ts";
import { SO_TYPE, SOL_SOCKET } from "../../../sockets/options.ts";
import {
  acknowledged,
  CLOSE,
  describe,
  type Ends,
  EVERYTHING,
  eachTcp,
  here,
  look,
  reaches,
  recv,
  type Scene,
  STATES,
  send,
  streamOf,
  there,
} from "./tcp-tools.ts";
import { afOf, any, getInt, type InetScenario, mapped, names, own, room, text, until } from "./tools.ts";

type Deed = (scene: Scene, fd: number, ends: Ends) => void;

/** Connects to where nobody listens, and waits for the answer. */
function dial(scene: Scene, fd: number): void {
  if (scene.calls.connect(fd, there(scene)) === -ERRNO.EINPROGRESS) reaches(scene, fd, CLOSE);
}

const AFTER_A_WHILE: ReadonlySet<string> = new Set([
  "send",
  "send: flags",
  "send to an address",
  "shutdown for writing",
  "shutdown",
]);

/** Each call, with what it is usually given and with what it is not. */
const DEEDS: Readonly<Record<string, Deed>> = {
  nothing: () => {},
  bind: (scene, fd) => void scene.calls.bind(fd, here(scene)),
  "bind to any": (scene, fd) => void scene.calls.bind(fd, any(scene.family)),
  listen: ({ calls }, fd) => void calls.listen(fd, 3),
  "listen: less than none": ({ calls }, fd) => void calls.listen(fd, -1),
  accept: ({ calls }, fd) => void calls.accept4(fd, addressBuffer(), 0),
  "accept: flags": ({ calls }, fd) => void calls.accept4(fd, addressBuffer(), 1),
  connect: (scene, fd) => dial(scene, fd),
  "connect twice": (scene, fd) => {
    dial(scene, fd);
    dial(scene, fd);
  },
  "connect to AF_UNSPEC": ({ calls }, fd) => {
    calls.connect(fd, new Uint8Array(16));
    look(calls, fd);
    names(calls, fd);
  },
  "connect to AF_UNIX": ({ calls }, fd) => void calls.connect(fd, Uint8Array.of(AF_UNIX, 0, ...new Uint8Array(30))),
  "connect to less than an address": ({ calls }, fd) => {
    calls.connect(fd, new Uint8Array(1));
    calls.connect(fd, new Uint8Array(2));
  },
  send: ({ calls }, fd) => void send(calls, fd, "x", MSG_NOSIGNAL),
  "send nothing": ({ calls }, fd) => {
    send(calls, fd, "", MSG_NOSIGNAL);
    calls.writev(fd, []);
  },
  "send to an address": (scene, fd) =>
    void scene.calls.sendto(fd, text("x"), MSG_NOSIGNAL | MSG_DONTWAIT, there(scene)),
  "send: flags": ({ calls }, fd) => {
    for (const flags of [MSG_MORE, MSG_OOB, MSG_DONTROUTE, MSG_PEEK]) send(calls, fd, "x", flags | MSG_NOSIGNAL);
    look(calls, fd);
  },
  recv: ({ calls }, fd) => {
    recv(calls, fd);
    recv(calls, fd);
  },
  "recv: from whom": ({ calls }, fd) => void calls.recvfrom(fd, new Uint8Array(4), MSG_DONTWAIT, addressBuffer()),
  "recv nothing": ({ calls }, fd) => {
    recv(calls, fd, 0);
    calls.read(fd, new Uint8Array(0));
    calls.readv(fd, []);
  },
  "recv: peek": ({ calls }, fd) => {
    recv(calls, fd, 3, MSG_PEEK);
    recv(calls, fd, 64, MSG_PEEK);
  },
  "recv: truncate": ({ calls }, fd) => {
    recv(calls, fd, 3, MSG_TRUNC);
    recv(calls, fd, 64, MSG_TRUNC | MSG_PEEK);
  },
  "recv: all": ({ calls }, fd) => void recv(calls, fd, 64, MSG_WAITALL),
  "recv: out of band": ({ calls }, fd) => {
    recv(calls, fd, 1, MSG_OOB);
    recv(calls, fd, 0, MSG_OOB);
    recv(calls, fd, 1, MSG_OOB | MSG_PEEK);
  },
  "recv: error queue": ({ calls }, fd) => void calls.recvmsg(fd, room(), MSG_ERRQUEUE | MSG_DONTWAIT),
  recvmsg: ({ calls }, fd) => void calls.recvmsg(fd, room(4), MSG_DONTWAIT),
  "shutdown for reading": ({ calls }, fd) => void calls.shutdown(fd, SHUT_RD),
  "shutdown for writing": ({ calls }, fd) => void calls.shutdown(fd, SHUT_WR),
  shutdown: ({ calls }, fd) => void calls.shutdown(fd, SHUT_RDWR),
  "shutdown: no such direction": ({ calls }, fd) => {
    calls.shutdown(fd, 3);
    calls.shutdown(fd, -1);
  },
  "names in less room": ({ calls }, fd) => {
    for (const length of [0, 2, 7]) {
      const [own, peer] = [addressBuffer(8), addressBuffer(8)];
      own.length = length;
      peer.length = length;
      calls.getsockname(fd, own);
      calls.getpeername(fd, peer);
    }
  },
  "requests that others have": ({ calls }, fd) => {
    for (const request of [SIOCGSTAMP, 0x1234]) calls.ioctl(fd, request, new Uint8Array(16));
    calls.ioctl(fd, FIONBIO, new Uint8Array(4).fill(1));
  },
  "a place in it": ({ calls }, fd) => {
    calls.lseek(fd, 0, 0);
    calls.pread(fd, new Uint8Array(1), 0);
    calls.pwrite(fd, new Uint8Array(1), 0);
  },
  "a copy of the descriptor": ({ calls }, fd) => {
    const copy = calls.dup(fd);
    getInt(calls, copy, SOL_SOCKET, SO_TYPE);
    look(calls, copy);
    calls.close(copy);
  },
};

const inEveryState: readonly InetScenario[] = Object.entries(STATES).flatMap(([state, make]) =>
  Object.entries(DEEDS).flatMap(([deed, act]) =>
    eachTcp(`${state}: ${deed}`, (scene) => {
      const ends = make(scene);
      act(scene, ends.fd, ends);
      if (AFTER_A_WHILE.has(deed)) acknowledged(scene, ends.fd);
      describe(scene.calls, ends.fd);
      ends.close();
    }),
  ),
);

const opening: readonly InetScenario[] = [
  ...eachTcp("socket: types and protocols", ({ calls, family }) => {
    for (const type of [SOCK_STREAM, SOCK_SEQPACKET, 4, 6, 10, 11, 0, SOCK_RAW]) {
      for (const protocol of [0, 6, 17, 1, 132, 255, 256, 262, 263, -1]) {
        if (type === SOCK_RAW && protocol !== 0 && protocol !== -1 && protocol !== 263) continue;
        if (protocol === 262) continue;
        const fd = calls.socket(afOf(family), type, protocol);
        if (fd >= 0) calls.close(fd);
      }
    }
    for (const flags of [SOCK_NONBLOCK, SOCK_CLOEXEC, SOCK_NONBLOCK | SOCK_CLOEXEC, 0x10, 0x1000]) {
      const fd = calls.socket(afOf(family), SOCK_STREAM | flags, 0);
      if (fd < 0) continue;
      calls.fcntl(fd, 1, 0);
      calls.fcntl(fd, 3, 0);
      calls.close(fd);
    }
  }),
  ...eachTcp("socketpair", ({ calls, family }) => {
    const out = new Int32Array(2);
    for (const type of [SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM]) calls.socketpair(afOf(family), type, 0, out);
  }),
  ...eachTcp("bind: addresses that are none of ours", (scene) => {
    const { calls, family } = scene;
    const tried = [there(scene), own(scene, family === 4 ? 6 : 4, scene.port), mapped(own(scene, 4, scene.port))];
    for (const address of tried) {
      const fd = streamOf(calls, family);
      calls.bind(fd, address);
      names(calls, fd);
      calls.close(fd);
    }
    for (const length of [0, 1, 2, 15, 16, 23, 24, 27, 28, 128]) {
      const fd = streamOf(calls, family);
      const bytes = new Uint8Array(length);
      bytes.set(here(scene).subarray(0, length));
      calls.bind(fd, bytes);
      names(calls, fd);
      calls.close(fd);
    }
  }),
  ...eachTcp("bind: in use", (scene) => {
    const { calls, family } = scene;
    const [first, second] = [streamOf(calls, family), streamOf(calls, family)];
    calls.bind(first, here(scene));
    calls.bind(second, here(scene));
    calls.bind(second, any(family, scene.port));
    calls.bind(first, here(scene, 0));
    calls.close(first);
    calls.bind(second, here(scene));
    calls.close(second);
  }),
  ...eachTcp("connect: from a bound address", (scene) => {
    const { calls, peer, family } = scene;
    const listener = streamOf(peer, family);
    peer.bind(listener, there(scene));
    peer.listen(listener, 1);
    const fd = streamOf(calls, family);
    calls.bind(fd, here(scene));
    calls.connect(fd, there(scene));
    until(calls, fd, 4);
    names(calls, fd);
    until(peer, listener);
    const other = peer.accept4(listener, addressBuffer(), 0);
    names(peer, other);
    calls.connect(fd, new Uint8Array(16));
    names(calls, fd);
    look(calls, fd, EVERYTHING);
    peer.close(other);
    calls.close(fd);
    peer.close(listener);
  }),
  ...eachTcp("connect: addresses that are nobody's", (scene) => {
    const { calls, family } = scene;
    const port0 = streamOf(calls, family);
    calls.connect(port0, there(scene, 0));
    until(calls, port0, POLLERR);
    describe(calls, port0);
    calls.close(port0);
    const group = there(scene);
    if (family === 4) group.set([224, 0, 0, 9], 4);
    else group.set([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9], 8);
    const nowhere = there(scene);
    if (family === 4) nowhere.set([198, 51, 100, 1], 4);
    else nowhere.set([0x20, 1, 0xd, 0xb9], 8);
    for (const address of [group, nowhere]) {
      const fd = streamOf(calls, family);
      calls.connect(fd, address);
      describe(calls, fd);
      calls.close(fd);
    }
  }),
  ...eachTcp("connect: to any address", (scene) => {
    const { calls, family } = scene;
    const fd = streamOf(calls, family);
    calls.connect(fd, any(family, scene.port));
    calls.close(fd);
  }),
  ...eachTcp("connect again after a refusal", (scene) => {
    const { calls, peer, family } = scene;
    const fd = streamOf(calls, family);
    calls.connect(fd, there(scene));
    until(calls, fd, 4);
    calls.connect(fd, there(scene));
    const listener = streamOf(peer, family);
    peer.bind(listener, there(scene));
    peer.listen(listener, 1);
    calls.connect(fd, there(scene));
    until(calls, fd, 4);
    describe(calls, fd);
    calls.connect(fd, there(scene));
    calls.close(fd);
    peer.close(listener);
  }),
  ...eachTcp("recvmsg: parts, names, flags", (scene) => {
    const { calls, peer } = scene;
    const ends = STATES.connected(scene);
    peer.write(ends.other, text("abcdefgh"));
    until(calls, ends.fd);
    const message = messageOf(new Uint8Array(2), new Uint8Array(0), new Uint8Array(3));
    message.name = addressBuffer();
    message.control = new Uint8Array(64);
    message.flags = 0x7777;
    calls.recvmsg(ends.fd, message, MSG_DONTWAIT);
    calls.readv(ends.fd, [new Uint8Array(1), new Uint8Array(1)]);
    calls.ioctl(ends.fd, SIOCATMARK, new Uint8Array(4));
    calls.writev(ends.fd, [text("ab"), text("c")]);
    until(peer, ends.other);
    recv(peer, ends.other);
    ends.close();
  }),
];

export const TCP_CALL_SCENARIOS: readonly InetScenario[] = [...opening, ...inEveryState];
