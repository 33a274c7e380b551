/** Ends of connections: close in every order, SO_LINGER, resets, SIGPIPE, and ports that are in TIME_WAIT. */
import { ERRNO } from "af-xdp-bindings";
import {
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  POLLERR,
  POLLHUP,
  POLLIN,
  POLLOUT,
  POLLRDHUP,
  SHUT_RDWR,
  SHUT_WR,
  SIGPIPE,
  SOCK_NONBLOCK,
} from "../../../sockets/calls/constants.ts";
import { addressBuffer } from "../../../sockets/calls/message.ts";
import { SO_ERROR, SO_REUSEADDR, SO_REUSEPORT, SO_SNDBUF, SOL_SOCKET } from "../../../sockets/options.ts";
import { HeldSignals } from "../signals.ts";
import {
  accepted,
  CLOSE,
  connected,
  describe,
  drop,
  type Ends,
  eachTcp,
  here,
  linger,
  listening,
  look,
  pause,
  reaches,
  recv,
  type Scene,
  STATES,
  send,
  streamOf,
  there,
} from "./tcp-tools.ts";
import { any, getInt, type InetScenario, names, setInt, text, until } from "./tools.ts";

const both = (name: string, play: (scene: Scene, ends: Ends) => void): InetScenario[] =>
  [connected, accepted].flatMap((make) => eachTcp(`${name}: ${make.name}`, (scene) => play(scene, make(scene))));

const blocking = (scene: Scene, fd: number): number => scene.calls.fcntl(fd, 4, 2);

const orders: readonly InetScenario[] = [
  ...both("close: this end first", ({ calls, peer }, { fd, other }) => {
    calls.close(fd);
    until(peer, other, POLLRDHUP);
    look(peer, other);
    recv(peer, other);
    peer.close(other);
  }),
  ...both("close: the peer first", ({ calls, peer }, { fd, other }) => {
    peer.close(other);
    until(calls, fd, POLLRDHUP);
    describe(calls, fd);
    recv(calls, fd);
    calls.close(fd);
  }),
  ...both("close: with bytes that nobody has read", ({ calls, peer }, { fd, other }) => {
    peer.write(other, text("unread"));
    until(calls, fd);
    calls.close(fd);
    until(peer, other, POLLHUP);
    look(peer, other);
    getInt(peer, other, SOL_SOCKET, SO_ERROR);
    recv(peer, other);
    peer.close(other);
  }),
  ...both("close: with bytes still to go", ({ calls, peer }, { fd, other }) => {
    calls.write(fd, text("the last words"));
    calls.close(fd);
    until(peer, other, POLLRDHUP);
    recv(peer, other);
    recv(peer, other);
    peer.close(other);
  }),
  ...both("SO_LINGER of 0: a reset", ({ calls, peer }, { fd, other }) => {
    calls.write(fd, text("lost, or not"));
    until(peer, other);
    linger(calls, fd, 1, 0);
    calls.close(fd);
    until(peer, other, POLLHUP);
    look(peer, other);
    getInt(peer, other, SOL_SOCKET, SO_ERROR);
    peer.close(other);
  }),
  ...both("SO_LINGER of a second: closed in time", (scene, { fd, other }) => {
    const { calls, peer, trace } = scene;
    blocking(scene, fd);
    linger(calls, fd, 1, 1);
    calls.write(fd, text("heard"));
    const started = performance.now();
    calls.close(fd);
    // The FIN is acknowledged, sooner or later: a delayed acknowledgment is no second.
    trace.add(`in time: ${performance.now() - started < 900}`);
    until(peer, other, POLLRDHUP);
    recv(peer, other);
    drop(peer, other);
  }),
  ...eachTcp("SO_LINGER of a second: nobody reads", (scene) => {
    const { calls, peer, trace, untraced } = scene;
    const { fd, other } = connected(scene);
    setInt(calls, fd, SOL_SOCKET, SO_SNDBUF, 200_000);
    setInt(peer, other, SOL_SOCKET, 8, 2304);
    for (let full = 0; full < 2; ) {
      if (untraced.calls.sendto(fd, new Uint8Array(30_000), MSG_DONTWAIT, null) > 0) full = 0;
      else full++;
      pause(full > 0 ? 10 : 0);
    }
    blocking(scene, fd);
    linger(calls, fd, 1, 1);
    const started = performance.now();
    calls.close(fd);
    const took = performance.now() - started;
    trace.add(`as long as it was to: ${took > 900}`);
    drop(peer, other);
  }),
  ...both("shutdown, then close", (scene, { fd, other }) => {
    const { calls, peer, untraced } = scene;
    calls.shutdown(fd, SHUT_WR);
    until(peer, other, POLLRDHUP);
    peer.shutdown(other, SHUT_WR);
    until(calls, fd, POLLHUP);
    reaches(scene, other, CLOSE, untraced.peer);
    describe(calls, fd);
    describe(peer, other);
    calls.close(fd);
    peer.close(other);
  }),
  ...both("both at once", ({ calls, peer }, { fd, other }) => {
    calls.shutdown(fd, SHUT_RDWR);
    peer.shutdown(other, SHUT_RDWR);
    until(calls, fd, POLLHUP);
    until(peer, other, POLLHUP);
    pause();
    recv(calls, fd);
    send(calls, fd, "x", MSG_NOSIGNAL);
    look(calls, fd);
    calls.close(fd);
    peer.close(other);
  }),
  ...both("a copy of the descriptor keeps it open", ({ calls, peer }, { fd, other }) => {
    const copy = calls.dup(fd);
    calls.close(fd);
    pause();
    look(peer, other);
    calls.write(copy, text("x"));
    until(peer, other);
    recv(peer, other);
    calls.close(copy);
    until(peer, other, POLLRDHUP);
    peer.close(other);
  }),
  ...both("connect to AF_UNSPEC: a reset", ({ calls, peer }, { fd, other }) => {
    calls.connect(fd, new Uint8Array(16));
    until(peer, other, POLLHUP);
    look(peer, other);
    recv(peer, other);
    describe(calls, fd);
    calls.close(fd);
    peer.close(other);
  }),
];

const signals: readonly InetScenario[] = [
  ...Object.keys(STATES)
    .filter((state) => state !== "connecting")
    .flatMap((state) =>
      eachTcp(`SIGPIPE: ${state}`, (scene) => {
        const { calls, trace } = scene;
        const ends = STATES[state](scene);
        trace.items.add("SIGPIPE");
        const held = new HeldSignals([SIGPIPE]);
        try {
          for (const flags of [MSG_NOSIGNAL, 0, 0]) {
            calls.sendto(ends.fd, text("x"), flags | MSG_DONTWAIT, null);
            trace.add(`SIGPIPE: ${held.take().length}`);
          }
          calls.write(ends.fd, text("x"));
          trace.add(`SIGPIPE: ${held.take().length}`);
        } finally {
          held.release();
        }
        ends.close();
      }),
    ),
];

/** A connection of the listener at the own port, that is left in TIME_WAIT there. */
function leaveTimeWait(scene: Scene, listener: number): void {
  const { calls, peer, family } = scene;
  const other = streamOf(peer, family);
  peer.connect(other, here(scene));
  until(peer, other, POLLOUT);
  until(calls, listener);
  const fd = calls.accept4(listener, addressBuffer(), SOCK_NONBLOCK);
  calls.close(fd);
  until(peer, other, POLLRDHUP);
  peer.close(other);
  pause();
}

const timeWait: readonly InetScenario[] = [
  ...([0, 1] as const).flatMap((before) =>
    ([0, 1] as const).flatMap((now) =>
      eachTcp(`TIME_WAIT: bound again, SO_REUSEADDR ${before} then ${now}`, (scene) => {
        const { calls, family } = scene;
        const listener = streamOf(calls, family);
        setInt(calls, listener, SOL_SOCKET, SO_REUSEADDR, before);
        calls.bind(listener, here(scene));
        calls.listen(listener, 3);
        leaveTimeWait(scene, listener);
        calls.close(listener);
        const again = streamOf(calls, family);
        setInt(calls, again, SOL_SOCKET, SO_REUSEADDR, now);
        calls.bind(again, here(scene));
        calls.listen(again, 3);
        names(calls, again);
        calls.close(again);
      }),
    ),
  ),
  ...eachTcp("TIME_WAIT: while the listener is there", (scene) => {
    const listener = listening(scene.calls, scene.family, here(scene));
    leaveTimeWait(scene, listener);
    leaveTimeWait(scene, listener);
    scene.calls.close(listener);
  }),
];

/** Two sockets, with or without SO_REUSEADDR and SO_REUSEPORT, of one port: who may bind, and who may listen. */
const sharing: readonly InetScenario[] = ([0, 1] as const).flatMap((address) =>
  ([0, 1] as const).flatMap((port) =>
    (["both fresh", "first listens", "first is connected"] as const).flatMap((state) =>
      (["own", "any", "own, then any", "any, then own"] as const).flatMap((where) =>
        eachTcp(`SO_REUSEADDR ${address}, SO_REUSEPORT ${port}: ${state}, ${where}`, (scene) => {
          const { calls, peer, family } = scene;
          const wide = any(family, scene.port);
          const [first, second] =
            where === "own"
              ? [here(scene), here(scene)]
              : where === "any"
                ? [wide, wide]
                : where === "own, then any"
                  ? [here(scene), wide]
                  : [wide, here(scene)];
          const fds = [first, second].map((name, i) => {
            const fd = streamOf(calls, family);
            setInt(calls, fd, SOL_SOCKET, SO_REUSEADDR, address);
            setInt(calls, fd, SOL_SOCKET, SO_REUSEPORT, port);
            calls.bind(fd, name);
            if (i === 0 && state === "first listens") calls.listen(fd, 2);
            if (i === 0 && state === "first is connected") {
              const listener = listening(peer, family, there(scene));
              calls.connect(fd, there(scene));
              until(calls, fd, POLLOUT);
              peer.close(listener);
            }
            return fd;
          });
          calls.listen(fds[1], 2);
          calls.listen(fds[0], 2);
          setInt(calls, fds[1], SOL_SOCKET, SO_REUSEADDR, 0);
          setInt(calls, fds[1], SOL_SOCKET, SO_REUSEPORT, 0);
          const third = streamOf(calls, family);
          setInt(calls, third, SOL_SOCKET, SO_REUSEADDR, 1);
          setInt(calls, third, SOL_SOCKET, SO_REUSEPORT, 1);
          calls.bind(third, first);
          calls.listen(third, 2);
          drop(calls, ...fds, third);
        }),
      ),
    ),
  ),
);

const errors: readonly InetScenario[] = [
  ...eachTcp("refused, and asked of in each way", (scene) => {
    const { calls } = scene;
    const ways: readonly ((fd: number) => unknown)[] = [
      (fd) => getInt(calls, fd, SOL_SOCKET, SO_ERROR),
      (fd) => recv(calls, fd),
      (fd) => send(calls, fd, "x", MSG_NOSIGNAL),
      (fd) => {
        if (calls.connect(fd, there(scene, 9)) === -ERRNO.EINPROGRESS) until(calls, fd, POLLERR);
      },
      (fd) => calls.shutdown(fd, SHUT_WR),
    ];
    for (const way of ways) {
      const ends = STATES.refused(scene);
      way(ends.fd);
      way(ends.fd);
      look(calls, ends.fd, POLLIN | POLLERR);
      getInt(calls, ends.fd, SOL_SOCKET, SO_ERROR);
      ends.close();
    }
  }),
  ...eachTcp("refused, blocking", (scene) => {
    const { calls, family } = scene;
    const fd = streamOf(calls, family);
    blocking(scene, fd);
    calls.connect(fd, there(scene, 9));
    look(calls, fd);
    getInt(calls, fd, SOL_SOCKET, SO_ERROR);
    calls.connect(fd, there(scene, 9));
    calls.close(fd);
  }),
];

export const TCP_CLOSE_SCENARIOS: readonly InetScenario[] = [...orders, ...signals, ...timeWait, ...sharing, ...errors];
