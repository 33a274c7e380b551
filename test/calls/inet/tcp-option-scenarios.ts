/** Options of stream sockets: every number of each level in every state, what is inherited, and what they do. */
import { POLLERR, POLLOUT, SOCK_NONBLOCK } from "../../../sockets/calls/constants.ts";
import { addressBuffer } from "../../../sockets/calls/message.ts";
import type { SocketCalls } from "../../../sockets/calls/socket-calls.ts";
import {
  IP_FREEBIND,
  IP_MINTTL,
  IP_MTU,
  IP_MTU_DISCOVER,
  IP_TOS,
  IP_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_MTU,
  IPV6_TCLASS,
  IPV6_UNICAST_HOPS,
  IPV6_V6ONLY,
  SO_BINDTODEVICE,
  SO_BINDTOIFINDEX,
  SO_BROADCAST,
  SO_BUSY_POLL,
  SO_DEBUG,
  SO_DONTROUTE,
  SO_INCOMING_CPU,
  SO_KEEPALIVE,
  SO_LINGER,
  SO_LOCK_FILTER,
  SO_MARK,
  SO_MAX_PACING_RATE,
  SO_NO_CHECK,
  SO_OOBINLINE,
  SO_PEEK_OFF,
  SO_PRIORITY,
  SO_RCVBUF,
  SO_RCVLOWAT,
  SO_RCVTIMEO,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SO_SNDBUF,
  SO_SNDTIMEO,
  SO_TIMESTAMP,
  SO_TIMESTAMPNS,
  SO_ZEROCOPY,
  SOL_SOCKET,
  SOL_TCP,
  SOL_UDP,
  TCP_CONGESTION,
  TCP_CORK,
  TCP_DEFER_ACCEPT,
  TCP_INQ,
  TCP_KEEPCNT,
  TCP_KEEPIDLE,
  TCP_KEEPINTVL,
  TCP_LINGER2,
  TCP_MAXSEG,
  TCP_NODELAY,
  TCP_NOTSENT_LOWAT,
  TCP_QUICKACK,
  TCP_SYNCNT,
  TCP_THIN_DUPACK,
  TCP_THIN_LINEAR_TIMEOUTS,
  TCP_USER_TIMEOUT,
  TCP_WINDOW_CLAMP,
} from "../../../sockets/options.ts";
import { optionName } from "../../conformance/names.ts";
import { accepted, connected, drop, eachTcp, here, linger, STATES, streamOf, there } from "./tcp-tools.ts";
import { getInt, type InetScenario, setInt, text, until } from "./tools.ts";

/** Those whose values are descriptors, pointers, or interfaces by name. */
const SET_APART: Readonly<Record<number, ReadonlySet<number>>> = {
  [SOL_SOCKET]: new Set([68, 77, SO_BINDTODEVICE, SO_BINDTOIFINDEX]),
  // TCP_REPAIR and its kin: they take a connection apart.
  [SOL_TCP]: new Set([19, 20, 21, 22, 29]),
  [IPPROTO_IP]: new Set([35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48]),
  // IPV6_MTU tells as long as a route is held.
  [IPPROTO_IPV6]: new Set([24, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48]),
};
const LEVELS: readonly (readonly [level: number, name: string, count: number])[] = [
  [SOL_SOCKET, "SOL_SOCKET", 90],
  [SOL_TCP, "IPPROTO_TCP", 51],
  [IPPROTO_IP, "IPPROTO_IP", 55],
  [IPPROTO_IPV6, "IPPROTO_IPV6", 82],
];

/** Numbers of each level, but for those that are set apart. */
export const OPTION_LEVELS = LEVELS.map(([level, , count]) => ({
  level,
  names: Array.from({ length: count }, (_, name) => name).filter((name) => !SET_APART[level].has(name)),
}));

/**
 * States in which the peer's FIN has come. Its acknowledgment waits for data or a FIN to go along with (pingpong mode), which
 * TCP_QUICKACK tells; where neither has come in 40 ms it is sent, and the mode left (tcp_delack_timer_handler). So what is told
 * depends on how soon after the FIN the next call is made, by the kernel as by ours.
 */
const ENDED = /^peer shut|an end|^both shut/;

/** Every option of a level, asked for, set, and asked for again. */
const everyOption: readonly InetScenario[] = LEVELS.flatMap(([level, label, count]) =>
  Object.entries(STATES).flatMap(([state, make]) =>
    eachTcp(`${state}: options of ${label}`, (scene) => {
      const { calls } = scene;
      const ends = make(scene);
      const varies = (name: number): boolean => level === SOL_TCP && name === TCP_QUICKACK && ENDED.test(state);
      const names = Array.from({ length: count }, (_, name) => name).filter(
        (name) => !SET_APART[level].has(name) && !varies(name),
      );
      for (const name of names) getInt(calls, ends.fd, level, name);
      for (const name of names) {
        for (const value of [0, 1]) {
          setInt(calls, ends.fd, level, name, value);
          getInt(calls, ends.fd, level, name);
        }
      }
      ends.close();
    }),
  ),
);

const bytesOf = (words: readonly number[]): Uint8Array => new Uint8Array(Int32Array.from(words).buffer);
const time = (seconds: number): Uint8Array => new Uint8Array(BigInt64Array.of(BigInt(seconds), 0n).buffer);

/** An option with a value that is none a socket begins with. */
const UNUSUAL: readonly (readonly [level: number, name: number, value: Uint8Array])[] = [
  [SOL_SOCKET, SO_DEBUG, bytesOf([1])],
  [SOL_SOCKET, SO_REUSEADDR, bytesOf([1])],
  [SOL_SOCKET, SO_REUSEPORT, bytesOf([1])],
  [SOL_SOCKET, SO_DONTROUTE, bytesOf([1])],
  [SOL_SOCKET, SO_BROADCAST, bytesOf([1])],
  [SOL_SOCKET, SO_SNDBUF, bytesOf([50_000])],
  [SOL_SOCKET, SO_RCVBUF, bytesOf([60_000])],
  [SOL_SOCKET, SO_KEEPALIVE, bytesOf([1])],
  [SOL_SOCKET, SO_OOBINLINE, bytesOf([1])],
  [SOL_SOCKET, SO_NO_CHECK, bytesOf([1])],
  [SOL_SOCKET, SO_PRIORITY, bytesOf([3])],
  [SOL_SOCKET, SO_LINGER, bytesOf([1, 7])],
  [SOL_SOCKET, SO_RCVLOWAT, bytesOf([9])],
  [SOL_SOCKET, SO_RCVTIMEO, time(3)],
  [SOL_SOCKET, SO_SNDTIMEO, time(4)],
  [SOL_SOCKET, SO_TIMESTAMP, bytesOf([1])],
  [SOL_SOCKET, SO_TIMESTAMPNS, bytesOf([1])],
  [SOL_SOCKET, SO_MARK, bytesOf([5])],
  [SOL_SOCKET, SO_PEEK_OFF, bytesOf([2])],
  [SOL_SOCKET, SO_LOCK_FILTER, bytesOf([1])],
  [SOL_SOCKET, SO_BUSY_POLL, bytesOf([7])],
  [SOL_SOCKET, SO_MAX_PACING_RATE, bytesOf([1_000_000])],
  [SOL_SOCKET, SO_INCOMING_CPU, bytesOf([1])],
  [SOL_SOCKET, SO_ZEROCOPY, bytesOf([1])],
  [SOL_TCP, TCP_NODELAY, bytesOf([1])],
  [SOL_TCP, TCP_MAXSEG, bytesOf([1000])],
  [SOL_TCP, TCP_CORK, bytesOf([1])],
  [SOL_TCP, TCP_KEEPIDLE, bytesOf([11])],
  [SOL_TCP, TCP_KEEPINTVL, bytesOf([12])],
  [SOL_TCP, TCP_KEEPCNT, bytesOf([13])],
  [SOL_TCP, TCP_SYNCNT, bytesOf([3])],
  [SOL_TCP, TCP_LINGER2, bytesOf([5])],
  [SOL_TCP, TCP_DEFER_ACCEPT, bytesOf([3])],
  [SOL_TCP, TCP_WINDOW_CLAMP, bytesOf([20_000])],
  [SOL_TCP, TCP_QUICKACK, bytesOf([0])],
  [SOL_TCP, TCP_CONGESTION, text("reno")],
  [SOL_TCP, TCP_THIN_LINEAR_TIMEOUTS, bytesOf([1])],
  [SOL_TCP, TCP_THIN_DUPACK, bytesOf([1])],
  [SOL_TCP, TCP_USER_TIMEOUT, bytesOf([9000])],
  [SOL_TCP, TCP_NOTSENT_LOWAT, bytesOf([7000])],
  [SOL_TCP, TCP_INQ, bytesOf([1])],
  [IPPROTO_IP, IP_TOS, bytesOf([0x20])],
  [IPPROTO_IP, IP_TTL, bytesOf([33])],
  [IPPROTO_IP, IP_MTU_DISCOVER, bytesOf([0])],
  [IPPROTO_IP, IP_MINTTL, bytesOf([2])],
  [IPPROTO_IP, IP_FREEBIND, bytesOf([1])],
  [IPPROTO_IPV6, IPV6_TCLASS, bytesOf([0x40])],
  [IPPROTO_IPV6, IPV6_UNICAST_HOPS, bytesOf([44])],
  [IPPROTO_IPV6, IPV6_V6ONLY, bytesOf([1])],
];

const get = (calls: SocketCalls, fd: number, level: number, name: number): number =>
  calls.getsockopt(fd, level, name, new Uint8Array(16));

const inherited: readonly InetScenario[] = UNUSUAL.flatMap(([level, name, value]) => {
  const label = optionName(level, name);
  // Nothing is accepted before bytes come.
  const defers = level === SOL_TCP && name === TCP_DEFER_ACCEPT;
  const ofListener = defers
    ? []
    : eachTcp(`option ${label}: inherited by what is accepted`, (scene) => {
        const { calls } = scene;
        const ends = accepted(scene, (listener) => void calls.setsockopt(listener, level, name, value));
        get(calls, ends.fd, level, name);
        ends.close();
      });
  return [
    ...ofListener,
    ...eachTcp(`option ${label}: set while it listens`, (scene) => {
      const { calls, peer, family } = scene;
      const listener = streamOf(calls, family);
      setInt(calls, listener, SOL_SOCKET, SO_REUSEADDR, 1);
      calls.bind(listener, here(scene));
      calls.listen(listener, 8);
      calls.setsockopt(listener, level, name, value);
      get(calls, listener, level, name);
      const other = streamOf(peer, family);
      peer.connect(other, here(scene));
      until(peer, other, POLLOUT);
      // With TCP_DEFER_ACCEPT it is accepted only with bytes to read.
      peer.write(other, text("x"));
      until(calls, listener);
      const fd = calls.accept4(listener, addressBuffer(), SOCK_NONBLOCK);
      get(calls, fd, level, name);
      drop(calls, fd);
      drop(peer, other);
      calls.close(listener);
    }),
    ...eachTcp(`option ${label}: kept through connect`, (scene) => {
      const { calls } = scene;
      const ends = connected(scene, (fd) => void calls.setsockopt(fd, level, name, value));
      get(calls, ends.fd, level, name);
      calls.connect(ends.fd, new Uint8Array(16));
      get(calls, ends.fd, level, name);
      ends.close();
    }),
    ...eachTcp(`option ${label}: set on a connection`, (scene) => {
      const { calls, peer } = scene;
      const ends = connected(scene);
      get(calls, ends.fd, level, name);
      calls.setsockopt(ends.fd, level, name, value);
      get(calls, ends.fd, level, name);
      calls.write(ends.fd, text("x"));
      peer.write(ends.other, text("y"));
      ends.close();
    }),
  ];
});

const congestion: readonly InetScenario[] = eachTcp("TCP_CONGESTION: names", (scene) => {
  const { calls } = scene;
  const ends = connected(scene);
  for (const name of ["reno", "cubic", "nonesuch", "", "reno\0rest", "a name that is longer than any"]) {
    calls.setsockopt(ends.fd, SOL_TCP, TCP_CONGESTION, text(name));
  }
  for (const room of [0, 1, 4, 5, 15, 16, 20]) calls.getsockopt(ends.fd, SOL_TCP, TCP_CONGESTION, new Uint8Array(room));
  ends.close();
});

const further: readonly InetScenario[] = [
  ...congestion,
  ...eachTcp("levels that are another protocol's", (scene) => {
    const { calls } = scene;
    const fd = streamOf(calls, scene.family);
    for (const level of [SOL_UDP, 2, 255, 263, 270, 284, -1, 1000]) {
      for (const length of [0, 3, 4]) {
        calls.setsockopt(fd, level, 1, new Uint8Array(length));
        calls.getsockopt(fd, level, 1, new Uint8Array(length));
      }
    }
    calls.close(fd);
  }),
  ...eachTcp("SO_PRIORITY: another TOS is another priority", (scene) => {
    const { calls, family } = scene;
    const fd = streamOf(calls, family);
    const level = family === 4 ? IPPROTO_IP : IPPROTO_IPV6;
    const name = family === 4 ? IP_TOS : IPV6_TCLASS;
    for (const tos of [0, 0x10, 0x10, 0x08, 0x03]) {
      setInt(calls, fd, SOL_SOCKET, SO_PRIORITY, 3);
      setInt(calls, fd, level, name, tos);
      getInt(calls, fd, SOL_SOCKET, SO_PRIORITY);
    }
    for (const priority of [6, 7, -1, 0x10_003]) {
      setInt(calls, fd, SOL_SOCKET, SO_PRIORITY, priority);
      getInt(calls, fd, SOL_SOCKET, SO_PRIORITY);
    }
    calls.close(fd);
  }),
  ...eachTcp("SO_LINGER: values", (scene) => {
    const { calls } = scene;
    const fd = streamOf(calls, scene.family);
    for (const [on, seconds] of [
      [1, 0],
      [1, 5],
      [0, 3],
      [-1, 2],
      [1, -1],
      [1, 2 ** 31 - 1],
      [0, 0],
    ]) {
      linger(calls, fd, on, seconds);
      calls.getsockopt(fd, SOL_SOCKET, SO_LINGER, new Uint8Array(8));
    }
    calls.close(fd);
  }),
  ...eachTcp("the MTU of the path", (scene) => {
    const { calls } = scene;
    const ends = connected(scene);
    getInt(calls, ends.fd, IPPROTO_IP, IP_MTU);
    getInt(calls, ends.fd, IPPROTO_IPV6, IPV6_MTU);
    getInt(calls, ends.fd, SOL_TCP, TCP_MAXSEG);
    ends.close();
  }),
  ...eachTcp("TCP_MAXSEG on the wire", (scene) => {
    const { calls, peer } = scene;
    const ends = connected(scene, (fd) => void setInt(calls, fd, SOL_TCP, TCP_MAXSEG, 700));
    getInt(calls, ends.fd, SOL_TCP, TCP_MAXSEG);
    getInt(peer, ends.other, SOL_TCP, TCP_MAXSEG);
    for (const value of [87, 88, 32_767, 32_768, 0]) {
      setInt(calls, ends.fd, SOL_TCP, TCP_MAXSEG, value);
      getInt(calls, ends.fd, SOL_TCP, TCP_MAXSEG);
    }
    ends.close();
  }),
  ...eachTcp("IPV6_V6ONLY, and when", (scene) => {
    const { calls } = scene;
    const fd = streamOf(calls, scene.family);
    for (const value of [1, 0]) {
      setInt(calls, fd, IPPROTO_IPV6, IPV6_V6ONLY, value);
      getInt(calls, fd, IPPROTO_IPV6, IPV6_V6ONLY);
    }
    calls.bind(fd, here(scene));
    setInt(calls, fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    calls.close(fd);
    const other = streamOf(calls, scene.family);
    calls.connect(other, there(scene, 9));
    until(calls, other, POLLERR);
    setInt(calls, other, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    calls.close(other);
  }),
];

export const TCP_OPTION_SCENARIOS: readonly InetScenario[] = [...everyOption, ...inherited, ...further];
