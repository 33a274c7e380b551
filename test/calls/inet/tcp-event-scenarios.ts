/** poll, select, epoll, SIGIO and SIGURG of stream sockets: through a connection's life, and by what it is told. */
import { sys } from "af-xdp-bindings";
import {
  EPOLL_CTL_ADD,
  EPOLL_CTL_MOD,
  EPOLLET,
  EPOLLONESHOT,
  F_OWNER_TID,
  F_SETFL,
  F_SETOWN_EX,
  F_SETSIG,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  MSG_OOB,
  O_ASYNC,
  O_NONBLOCK,
  POLLERR,
  POLLHUP,
  POLLIN,
  POLLOUT,
  POLLPRI,
  POLLRDHUP,
  POLLRDNORM,
  SHUT_RD,
  SHUT_RDWR,
  SHUT_WR,
  SIGIO,
  SIGURG,
  SOCK_NONBLOCK,
} from "../../../sockets/calls/constants.ts";
import { addressBuffer } from "../../../sockets/calls/message.ts";
import type { SocketCalls } from "../../../sockets/calls/socket-calls.ts";
import { HeldSignals } from "../signals.ts";
import {
  acknowledged,
  closePeer,
  come,
  connected,
  drop,
  type Ends,
  eachTcp,
  here,
  linger,
  listening,
  look,
  pause,
  recv,
  type Scene,
  STATES,
  send,
  streamOf,
  there,
} from "./tcp-tools.ts";
import { type InetScenario, text, until } from "./tools.ts";

const QUEUED = 40;
/** Room for the descriptors of select(2), as fd_set has it. */
const SET_BYTES = 128;

function selected(calls: SocketCalls, fd: number): void {
  const set = (): Uint8Array => {
    const bytes = new Uint8Array(SET_BYTES);
    bytes[fd >> 3] = 1 << (fd & 7);
    return bytes;
  };
  calls.select(fd + 1, set(), set(), set(), 0);
}

const epollNow = (calls: SocketCalls, epoll: number): number => calls.epollWait(epoll, [{ events: 0, data: 0 }], 0);

const ofStates: readonly InetScenario[] = Object.entries(STATES).flatMap(([state, make]) => [
  ...eachTcp(`${state}: poll, each event alone`, (scene) => {
    const ends = make(scene);
    for (const events of [0, POLLIN, POLLPRI, POLLOUT, POLLRDHUP, POLLRDNORM, POLLERR | POLLHUP]) {
      look(scene.calls, ends.fd, events);
    }
    ends.close();
  }),
  ...eachTcp(`${state}: select`, (scene) => {
    const ends = make(scene);
    selected(scene.calls, ends.fd);
    ends.close();
  }),
  ...eachTcp(`${state}: epoll`, (scene) => {
    const { calls } = scene;
    const ends = make(scene);
    const epoll = calls.epollCreate(0);
    const everything = POLLIN | POLLPRI | POLLOUT | POLLRDHUP;
    calls.epollControl(epoll, EPOLL_CTL_ADD, ends.fd, { events: everything, data: 1 });
    epollNow(calls, epoll);
    epollNow(calls, epoll);
    for (const mode of [EPOLLET, EPOLLONESHOT]) {
      calls.epollControl(epoll, EPOLL_CTL_MOD, ends.fd, { events: everything | mode, data: 2 });
      epollNow(calls, epoll);
      epollNow(calls, epoll);
    }
    calls.close(epoll);
    ends.close();
  }),
]);

/** What can happen to a connection. */
const DEEDS: readonly (readonly [string, (scene: Scene, ends: Ends) => void])[] = [
  ["a byte", ({ peer }, { other }) => void send(peer, other, "x")],
  [
    "a byte, read",
    ({ calls, peer }, { fd, other }) => {
      send(peer, other, "x");
      until(calls, fd);
      recv(calls, fd);
    },
  ],
  ["an urgent byte", ({ peer }, { other }) => void send(peer, other, "x", MSG_OOB)],
  ["the peer's end", ({ peer }, { other }) => void peer.shutdown(other, SHUT_WR)],
  ["the peer shut for reading", ({ peer }, { other }) => void peer.shutdown(other, SHUT_RD)],
  [
    "a byte and an end",
    ({ peer }, { other }) => {
      send(peer, other, "x");
      peer.shutdown(other, SHUT_WR);
    },
  ],
  [
    "a reset",
    ({ peer }, ends) => {
      linger(peer, ends.other, 1, 0);
      closePeer(peer, ends);
    },
  ],
  ["this side shut", ({ calls }, { fd }) => void calls.shutdown(fd, SHUT_RDWR)],
  ["this side shut for reading", ({ calls }, { fd }) => void calls.shutdown(fd, SHUT_RD)],
  ["this side shut for writing", ({ calls }, { fd }) => void calls.shutdown(fd, SHUT_WR)],
  [
    "an end after an end",
    ({ calls, peer }, { fd, other }) => {
      calls.shutdown(fd, SHUT_WR);
      until(peer, other, POLLRDHUP);
      peer.shutdown(other, SHUT_WR);
    },
  ],
];

const happenings: readonly InetScenario[] = DEEDS.flatMap(([deed, act]) => [
  ...eachTcp(`edges of epoll: ${deed}`, (scene) => {
    const { calls } = scene;
    const ends = connected(scene);
    const epoll = calls.epollCreate(0);
    calls.epollControl(epoll, EPOLL_CTL_ADD, ends.fd, {
      events: POLLIN | POLLPRI | POLLOUT | POLLRDHUP | EPOLLET,
      data: 7,
    });
    epollNow(calls, epoll);
    act(scene, ends);
    acknowledged(scene, ends.fd);
    epollNow(calls, epoll);
    epollNow(calls, epoll);
    calls.close(epoll);
    ends.close();
  }),
  ...[0, QUEUED].flatMap((signal) =>
    eachTcp(`${signal === 0 ? "SIGIO" : "a queued signal"}: ${deed}`, (scene) => {
      const { calls, trace } = scene;
      const ends = connected(scene);
      const { fd } = ends;
      const held = new HeldSignals([SIGIO, SIGURG, QUEUED]);
      trace.items.add(deed === "an urgent byte" ? "SIGURG" : "SIGIO");
      const took = (): void => {
        // How often something is said of one thing depends on how segments come; what is said does not.
        const told = held
          .take()
          .map(({ signal: got, code, band, fd: named }) =>
            got === QUEUED ? `${got} code ${code} band 0x${band.toString(16)} ${named === fd}` : `${got} code ${code}`,
          );
        trace.add(`signals: ${[...new Set(told)].join(", ")}`);
      };
      try {
        calls.fcntl(fd, F_SETOWN_EX, new Uint8Array(Int32Array.of(F_OWNER_TID, sys.gettid()).buffer));
        calls.fcntl(fd, F_SETSIG, signal);
        calls.fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK);
        took();
        const before = pollOf(scene, fd);
        act(scene, ends);
        acknowledged(scene, fd);
        for (let i = 0; i < CHANGES_MS && pollOf(scene, fd) === before; i++) Bun.sleepSync(1);
        // Whoever sleeps in a call, or looks, hears of it.
        look(calls, fd);
        took();
      } finally {
        held.release();
      }
      ends.close();
    }),
  ),
]);

/** The longest that something is waited for which may change nothing. */
const CHANGES_MS = 60;

/** POLL bits, untraced. */
function pollOf({ untraced }: Scene, fd: number): number {
  const entry = { fd, events: POLLIN | POLLPRI | POLLRDHUP, revents: 0 };
  untraced.calls.poll([entry], 0);
  return entry.revents;
}

const lives: readonly InetScenario[] = [
  ...eachTcp("SIGIO: a connection opens", (scene) => {
    const { calls, peer, family, trace } = scene;
    const listener = listening(peer, family, there(scene));
    const fd = streamOf(calls, family);
    const held = new HeldSignals([QUEUED]);
    try {
      calls.fcntl(fd, F_SETOWN_EX, new Uint8Array(Int32Array.of(F_OWNER_TID, sys.gettid()).buffer));
      calls.fcntl(fd, F_SETSIG, QUEUED);
      calls.fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK);
      calls.connect(fd, there(scene));
      until(calls, fd, POLLOUT);
      trace.add(`signals: ${JSON.stringify(held.take().map(({ code, band }) => [code, band]))}`);
    } finally {
      held.release();
    }
    drop(calls, fd);
    peer.close(listener);
  }),
  ...eachTcp("SIGIO: a listener", (scene) => {
    const { calls, peer, family, trace } = scene;
    const listener = listening(calls, family, here(scene));
    const held = new HeldSignals([QUEUED]);
    const other = streamOf(peer, family);
    try {
      calls.fcntl(listener, F_SETOWN_EX, new Uint8Array(Int32Array.of(F_OWNER_TID, sys.gettid()).buffer));
      calls.fcntl(listener, F_SETSIG, QUEUED);
      calls.fcntl(listener, F_SETFL, O_ASYNC | O_NONBLOCK);
      peer.connect(other, here(scene));
      until(calls, listener);
      trace.add(`signals: ${JSON.stringify(held.take().map(({ code, band }) => [code, band]))}`);
    } finally {
      held.release();
    }
    drop(calls, calls.accept4(listener, addressBuffer(), SOCK_NONBLOCK), listener);
    drop(peer, other);
  }),
  ...eachTcp("epoll: a listener, level and edge", (scene) => {
    const { calls, peer, family } = scene;
    const listener = listening(calls, family, here(scene));
    const [level, edge] = [calls.epollCreate(0), calls.epollCreate(0)];
    calls.epollControl(level, EPOLL_CTL_ADD, listener, { events: POLLIN | POLLOUT, data: 1 });
    calls.epollControl(edge, EPOLL_CTL_ADD, listener, { events: POLLIN | EPOLLET, data: 2 });
    epollNow(calls, level);
    epollNow(calls, edge);
    const others = [streamOf(peer, family), streamOf(peer, family)];
    for (const other of others) {
      peer.connect(other, here(scene));
      until(peer, other, POLLOUT);
      pause();
      until(calls, listener);
      for (const epoll of [level, edge, level, edge]) epollNow(calls, epoll);
    }
    for (const _ of others) {
      drop(calls, calls.accept4(listener, addressBuffer(), SOCK_NONBLOCK));
      for (const epoll of [level, edge]) epollNow(calls, epoll);
    }
    calls.accept4(listener, addressBuffer(), SOCK_NONBLOCK);
    drop(peer, ...others);
    for (const fd of [level, edge, listener]) calls.close(fd);
  }),
  ...eachTcp("epoll: through a connection's life", (scene) => {
    const { calls, peer, family } = scene;
    const listener = listening(peer, family, there(scene));
    const fd = streamOf(calls, family);
    const epoll = calls.epollCreate(0);
    calls.epollControl(epoll, EPOLL_CTL_ADD, fd, { events: POLLIN | POLLOUT | POLLRDHUP | EPOLLET, data: 3 });
    epollNow(calls, epoll);
    calls.connect(fd, there(scene));
    until(calls, fd, POLLOUT);
    epollNow(calls, epoll);
    until(peer, listener);
    const other = peer.accept4(listener, addressBuffer(), SOCK_NONBLOCK);
    for (const [i, word] of ["a", "b"].entries()) {
      send(peer, other, word);
      come(scene, fd, i + 1);
      epollNow(calls, epoll);
      epollNow(calls, epoll);
    }
    recv(calls, fd);
    epollNow(calls, epoll);
    peer.shutdown(other, SHUT_WR);
    until(calls, fd, POLLRDHUP);
    epollNow(calls, epoll);
    calls.sendto(fd, text("x"), MSG_DONTWAIT | MSG_NOSIGNAL, null);
    until(peer, other);
    recv(peer, other);
    drop(peer, other);
    until(calls, fd, POLLHUP);
    epollNow(calls, epoll);
    for (const each of [fd, epoll]) calls.close(each);
    peer.close(listener);
  }),
];

export const TCP_EVENT_SCENARIOS: readonly InetScenario[] = [...ofStates, ...happenings, ...lives];
