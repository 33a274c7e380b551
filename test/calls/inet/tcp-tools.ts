/**
 * What scenarios of SOCK_STREAM are made of: a socket in each state it can be in, the peer's at its other end. Each scenario has ports of
 * its own, for those of the one before may be in TIME_WAIT.
 */
import {
  MSG_DONTWAIT,
  POLLERR,
  POLLHUP,
  POLLOUT,
  POLLRDHUP,
  SHUT_RD,
  SHUT_RDWR,
  SHUT_WR,
  SIOCATMARK,
  SIOCINQ,
  SIOCOUTQ,
  SIOCOUTQNSD,
  SOCK_NONBLOCK,
  SOCK_STREAM,
} from "../../../sockets/calls/constants.ts";
import { addressBuffer } from "../../../sockets/calls/message.ts";
import type { SocketCalls } from "../../../sockets/calls/socket-calls.ts";
import {
  SO_ACCEPTCONN,
  SO_ERROR,
  SO_LINGER,
  SO_REUSEADDR,
  SOL_SOCKET,
  SOL_TCP,
  TCP_INFO,
} from "../../../sockets/options.ts";
import type { Stage } from "../../conformance/run.ts";
import {
  afOf,
  FAMILIES,
  getInt,
  type InetScenario,
  type IpFamily,
  NOBODY,
  names,
  own,
  remote,
  setInt,
  text,
  until,
} from "./tools.ts";

/** Ports of scenarios, two each, below those that the kernel chooses. */
const FIRST_PORT = 10_000;
const PORTS = 11_000;
let scenarios = 0;

/** What a scenario of streams is given: the family, its own port and its peer's. */
export interface Scene extends Stage {
  readonly family: IpFamily;
  readonly port: number;
  readonly peerPort: number;
}

/** A scenario of each family. */
export const eachTcp = (name: string, play: (scene: Scene) => void): InetScenario[] =>
  FAMILIES.map((family) => {
    const port = FIRST_PORT + 2 * (scenarios++ % PORTS);
    return {
      name: `IPv${family} tcp: ${name}`,
      play: (stage: Stage) => play({ ...stage, family, port, peerPort: port + 1 }),
    };
  });

/** A socket in some state, and whatever it needed to get there. */
export interface Ends {
  readonly fd: number;
  /** The peer's end of the connection, -1: there is none, or no longer. */
  other: number;
  /** Closes all of it, and leaves nothing in TIME_WAIT. */
  close(): void;
}

export const EVERYTHING = 0x3fff;
export const look = (calls: SocketCalls, fd: number, events = EVERYTHING): number =>
  calls.poll([{ fd, events, revents: 0 }], 0);

export const streamOf = (calls: SocketCalls, family: IpFamily): number =>
  calls.socket(afOf(family), SOCK_STREAM | SOCK_NONBLOCK, 0);

export const here = (scene: Scene, port = scene.port): Uint8Array => own(scene, scene.family, port);
export const there = (scene: Scene, port = scene.peerPort): Uint8Array => remote(scene, scene.family, port);

/** struct linger. */
export const linger = (calls: SocketCalls, fd: number, on: number, seconds: number): number =>
  calls.setsockopt(fd, SOL_SOCKET, SO_LINGER, new Uint8Array(Int32Array.of(on, seconds).buffer));

/** Closes with a RST. */
export function drop(calls: SocketCalls, ...fds: number[]): void {
  for (const fd of fds) {
    if (fd < 0) continue;
    linger(calls, fd, 1, 0);
    calls.close(fd);
  }
}

export function listening(
  calls: SocketCalls,
  family: IpFamily,
  address: Uint8Array,
  backlog = 8,
  prepare: (listener: number) => void = () => {},
): number {
  const fd = streamOf(calls, family);
  setInt(calls, fd, SOL_SOCKET, SO_REUSEADDR, 1);
  calls.bind(fd, address);
  prepare(fd);
  calls.listen(fd, backlog);
  return fd;
}

/** Time for segments that nobody is told of: acknowledgments, delayed ones too. */
export const SETTLED_MS = 5;
/** Milliseconds that reaches() waits at most. */
const WAITS_MAX = 500;
/** States of include/net/tcp_states.h. */
const FIN_WAIT_2 = 5;
/** States in which something may await its acknowledgment: ESTABLISHED, FIN_WAIT_1, CLOSE_WAIT, LAST_ACK, CLOSING. */
const UNDER_WAY: ReadonlySet<number> = new Set([1, 4, 8, 9, 11]);
/** Those that an acknowledgment of our FIN ends. */
const FIN_SENT: ReadonlySet<number> = new Set([4, 9, 11]);
export const CLOSE = 7;
export const DELAYED_MS = 60;
/** What each pause waits for besides the time. */
let turns: () => void = () => {};
/** Has each pause wait for the lcores of an engine under test too: while others have their CPUs, time alone passes. */
export function pauseFor(wait: () => void): void {
  turns = wait;
}
export function pause(ms = SETTLED_MS): void {
  Bun.sleepSync(ms);
  turns();
}

/** The host under test has connected to the peer. */
export function connected(scene: Scene, prepare: (fd: number) => void = () => {}): Ends {
  const { calls, peer, family } = scene;
  const listener = listening(peer, family, there(scene));
  const fd = streamOf(calls, family);
  prepare(fd);
  calls.connect(fd, there(scene));
  until(calls, fd, POLLOUT);
  until(peer, listener);
  const other = peer.accept4(listener, addressBuffer(), SOCK_NONBLOCK);
  peer.close(listener);
  return {
    fd,
    other,
    close() {
      drop(calls, fd);
      drop(peer, this.other);
    },
  };
}

/** A listener of the host under test, and the peer, which begins to connect to it. */
export function dialled(scene: Scene, prepare?: (listener: number) => void): { listener: number; other: number } {
  const { calls, peer, family } = scene;
  const listener = listening(calls, family, here(scene), 8, prepare);
  const other = streamOf(peer, family);
  peer.connect(other, here(scene));
  return { listener, other };
}

/** The peer has connected to the host under test. */
export function accepted(scene: Scene, prepare?: (listener: number) => void): Ends {
  const { calls, peer } = scene;
  const { listener, other } = dialled(scene, prepare);
  until(peer, other, POLLOUT);
  until(calls, listener);
  const fd = calls.accept4(listener, addressBuffer(), SOCK_NONBLOCK);
  calls.close(listener);
  return {
    fd,
    other,
    close() {
      drop(calls, fd);
      drop(peer, this.other);
    },
  };
}

/** The peer closes its end: the descriptor is not to be closed again, it may be another's by then. */
export function closePeer(peer: SocketCalls, ends: Ends): void {
  peer.close(ends.other);
  ends.other = -1;
}

/** Waits until an end, the own one by default, is in a state of TCP, and nobody is told how long that took. */
export function reaches({ untraced }: Stage, fd: number, state: number, calls = untraced.calls): void {
  const info = new Uint8Array(1);
  for (let i = 0; i < WAITS_MAX && info[0] !== state; i++) {
    calls.getsockopt(fd, SOL_TCP, TCP_INFO, info);
    if (info[0] !== state) Bun.sleepSync(1);
  }
}

/** Waits until so many bytes are there, untraced. */
export function come({ untraced }: Stage, fd: number, count: number, calls = untraced.calls): void {
  const have = new Int32Array(1);
  for (let i = 0; i < WAITS_MAX && have[0] < count; i++) {
    calls.ioctl(fd, SIOCINQ, new Uint8Array(have.buffer));
    if (have[0] < count) Bun.sleepSync(1);
  }
}

/** Waits until all that was sent, a FIN too, has been acknowledged, and its answer has come. */
export function acknowledged({ untraced }: Stage, fd: number): void {
  const { calls } = untraced;
  const queued = new Int32Array(1);
  const info = new Uint8Array(1);
  pause();
  for (let i = 0; i < WAITS_MAX; i++) {
    if (calls.getsockopt(fd, SOL_TCP, TCP_INFO, info) < 0 || !UNDER_WAY.has(info[0])) return;
    if (calls.ioctl(fd, SIOCOUTQ, new Uint8Array(queued.buffer)) < 0) return;
    // A FIN that was acknowledged has changed the state, or is about to.
    if (queued[0] === 0 && !FIN_SENT.has(info[0])) return;
    Bun.sleepSync(1);
  }
}

/** Connected, and then something has happened. */
const after = (happens: (scene: Scene, ends: Ends) => void) => (scene: Scene) => {
  const ends = connected(scene);
  happens(scene, ends);
  return ends;
};

const alone = (scene: Scene, fd: number): Ends => ({ fd, other: -1, close: () => drop(scene.calls, fd) });

/** A SYN that nobody answers: the listener is full. */
function connecting(scene: Scene): Ends {
  const { calls, peer, family } = scene;
  const listener = listening(peer, family, there(scene), 0);
  const filler = streamOf(peer, family);
  peer.connect(filler, there(scene));
  until(peer, listener);
  const fd = streamOf(calls, family);
  calls.connect(fd, there(scene));
  pause();
  return {
    fd,
    other: -1,
    close() {
      drop(calls, fd);
      drop(peer, filler, listener);
    },
  };
}

/** Every state of a socket, by name. */
export const STATES: Readonly<Record<string, (scene: Scene) => Ends>> = {
  fresh: (scene) => alone(scene, streamOf(scene.calls, scene.family)),
  bound(scene) {
    const fd = streamOf(scene.calls, scene.family);
    scene.calls.bind(fd, here(scene));
    return alone(scene, fd);
  },
  listening: (scene) => alone(scene, listening(scene.calls, scene.family, here(scene))),
  connecting,
  refused(scene) {
    const fd = streamOf(scene.calls, scene.family);
    scene.calls.connect(fd, there(scene, NOBODY));
    until(scene.calls, fd, POLLERR);
    return alone(scene, fd);
  },
  connected: (scene) => connected(scene),
  accepted: (scene) => accepted(scene),
  "shut for reading": after(({ calls }, { fd }) => calls.shutdown(fd, SHUT_RD)),
  "shut for writing": after((scene, { fd }) => {
    scene.calls.shutdown(fd, SHUT_WR);
    reaches(scene, fd, FIN_WAIT_2);
  }),
  shut: after((scene, { fd }) => {
    scene.calls.shutdown(fd, SHUT_RDWR);
    reaches(scene, fd, FIN_WAIT_2);
  }),
  "peer shut for writing": after(({ calls, peer }, { fd, other }) => {
    peer.shutdown(other, SHUT_WR);
    until(calls, fd, POLLRDHUP);
  }),
  "with bytes to read": after(({ calls, peer }, { fd, other }) => {
    peer.write(other, text("abcdef"));
    until(calls, fd);
  }),
  "with bytes and an end to read": after(({ calls, peer }, { fd, other }) => {
    peer.write(other, text("abcdef"));
    peer.shutdown(other, SHUT_WR);
    until(calls, fd, POLLRDHUP);
  }),
  "reset by the peer": after(({ calls, peer }, ends) => {
    linger(peer, ends.other, 1, 0);
    peer.shutdown(ends.other, -1);
    closePeer(peer, ends);
    until(calls, ends.fd, POLLHUP);
  }),
  "reset with bytes to read": after(({ calls, peer }, ends) => {
    peer.write(ends.other, text("abcdef"));
    until(calls, ends.fd);
    linger(peer, ends.other, 1, 0);
    closePeer(peer, ends);
    until(calls, ends.fd, POLLHUP);
  }),
  "both shut": after((scene, { fd, other }) => {
    const { calls, peer } = scene;
    peer.shutdown(other, SHUT_WR);
    until(calls, fd, POLLRDHUP);
    calls.shutdown(fd, SHUT_WR);
    until(peer, other, POLLRDHUP);
    reaches(scene, fd, CLOSE);
  }),
  TIME_WAIT: after((scene, ends) => {
    const { calls, peer } = scene;
    const { fd } = ends;
    calls.shutdown(fd, SHUT_WR);
    until(peer, ends.other, POLLRDHUP);
    closePeer(peer, ends);
    until(calls, fd, POLLRDHUP);
    reaches(scene, fd, CLOSE);
  }),
  "left by connect to AF_UNSPEC": after(({ calls }, { fd }) => {
    calls.connect(fd, new Uint8Array(16));
    pause();
  }),
};

/** The state of a connection as TCP_INFO begins with it. */
export const stateOf = (calls: SocketCalls, fd: number): number =>
  calls.getsockopt(fd, SOL_TCP, TCP_INFO, new Uint8Array(1));

const REQUESTS = [SIOCINQ, SIOCOUTQ, SIOCOUTQNSD, SIOCATMARK];

/** All that can be asked without changing anything but SO_ERROR. */
export function describe(calls: SocketCalls, fd: number): void {
  look(calls, fd);
  stateOf(calls, fd);
  names(calls, fd);
  for (const request of REQUESTS) calls.ioctl(fd, request, new Uint8Array(4));
  getInt(calls, fd, SOL_SOCKET, SO_ACCEPTCONN);
  getInt(calls, fd, SOL_SOCKET, SO_ERROR);
  getInt(calls, fd, SOL_SOCKET, SO_ERROR);
  look(calls, fd);
}

/** A receive that does not wait. */
export const recv = (calls: SocketCalls, fd: number, length = 64, flags = 0): number =>
  calls.recvfrom(fd, new Uint8Array(length), flags | MSG_DONTWAIT, null);

export const send = (calls: SocketCalls, fd: number, data: string | Uint8Array, flags = 0): number =>
  calls.sendto(fd, typeof data === "string" ? text(data) : data, flags | MSG_DONTWAIT, null);
