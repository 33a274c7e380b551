/** Bytes: how they are sent and received, out of band too, and what waits for them. */
import {
  MSG_DONTWAIT,
  MSG_MORE,
  MSG_NOSIGNAL,
  MSG_OOB,
  MSG_PEEK,
  MSG_TRUNC,
  MSG_WAITALL,
  POLLHUP,
  POLLIN,
  POLLOUT,
  POLLPRI,
  POLLRDHUP,
  SHUT_RD,
  SHUT_RDWR,
  SHUT_WR,
  SIOCATMARK,
  SIOCINQ,
  SIOCOUTQ,
  SIOCOUTQNSD,
} from "../../../sockets/calls/constants.ts";
import { controlInt } from "../../../sockets/calls/control.ts";
import { messageOf } from "../../../sockets/calls/message.ts";
import type { SocketCalls } from "../../../sockets/calls/socket-calls.ts";
import {
  SO_INQ,
  SO_MARK,
  SO_OOBINLINE,
  SO_PEEK_OFF,
  SO_PRIORITY,
  SO_RCVBUF,
  SO_RCVLOWAT,
  SO_RCVTIMEO,
  SO_SNDBUF,
  SO_SNDTIMEO,
  SO_TIMESTAMP,
  SO_TIMESTAMPNS,
  SOL_SOCKET,
  SOL_TCP,
  TCP_CORK,
  TCP_INQ,
  TCP_NODELAY,
  TCP_NOTSENT_LOWAT,
} from "../../../sockets/options.ts";
import {
  accepted,
  acknowledged,
  CLOSE,
  closePeer,
  come,
  connected,
  type Ends,
  eachTcp,
  look,
  pause,
  reaches,
  recv,
  type Scene,
  send,
} from "./tcp-tools.ts";
import { getInt, type InetScenario, room, setInt, text, until, withControl } from "./tools.ts";

const int = (): Uint8Array => new Uint8Array(4);
const ioctls = (calls: SocketCalls, fd: number): void => {
  for (const request of [SIOCINQ, SIOCATMARK]) calls.ioctl(fd, request, int());
};
const blocking = (calls: SocketCalls, fd: number): number => calls.fcntl(fd, 4, 2);
const bytesOf = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i % 251);

/** Either end of a connection may be the one that opened it. */
const both = (
  name: string,
  play: (scene: Scene, ends: Ends) => void,
  prepare?: (calls: SocketCalls, fd: number) => void,
): InetScenario[] =>
  [connected, accepted].flatMap((make) =>
    eachTcp(`${name}: ${make.name}`, (scene) => {
      const ends = make(scene, prepare === undefined ? undefined : (fd) => prepare(scene.calls, fd));
      play(scene, ends);
      ends.close();
    }),
  );

/** Reads all that comes until the end, and says whether it is what was sent. @param meanwhile called before each look */
function drain(scene: Scene, calls: SocketCalls, fd: number, total: number, meanwhile = (): void => {}): void {
  const { untraced, trace } = scene;
  const buffer = new Uint8Array(1 << 16);
  const whole = new Uint8Array(total);
  let at = 0;
  for (let idle = 0; at < total && idle < 2000; ) {
    meanwhile();
    untraced.calls.poll([], 0);
    untraced.peer.poll([], 0);
    const count = calls.recvfrom(fd, buffer, MSG_DONTWAIT, null);
    if (count === 0) break;
    if (count < 0) {
      idle++;
      Bun.sleepSync(1);
      continue;
    }
    idle = 0;
    whole.set(buffer.subarray(0, Math.min(count, total - at)), at);
    at += count;
  }
  trace.add(`all of it: ${at === total} ${at < total ? at : Bun.hash.crc32(whole) === Bun.hash.crc32(bytesOf(total))}`);
}

const time = (ms: number): Uint8Array =>
  new Uint8Array(BigInt64Array.of(BigInt(Math.floor(ms / 1000)), BigInt((ms % 1000) * 1000)).buffer);

const plain: readonly InetScenario[] = [
  ...both("to and fro", ({ calls, peer }, { fd, other }) => {
    for (const word of ["a", "bc", "def"]) {
      send(calls, fd, word);
      until(peer, other);
      recv(peer, other);
      send(peer, other, word.toUpperCase());
      until(calls, fd);
      ioctls(calls, fd);
      recv(calls, fd);
    }
    recv(calls, fd);
  }),
  ...both("a part of what has come", (scene, { fd, other }) => {
    const { calls, peer } = scene;
    peer.write(other, text("abcdefghij"));
    come(scene, fd, 10);
    for (const length of [1, 2, 0, 3, 10, 1]) {
      recv(calls, fd, length);
      ioctls(calls, fd);
      look(calls, fd);
    }
  }),
  ...both("peek, truncate, wait for all", (scene, { fd, other }) => {
    const { calls, peer } = scene;
    peer.write(other, text("abcdefghijklmnopqrst"));
    come(scene, fd, 20);
    recv(calls, fd, 4, MSG_PEEK);
    recv(calls, fd, 4, MSG_PEEK | MSG_TRUNC);
    recv(calls, fd, 4, MSG_TRUNC);
    recv(calls, fd, 2, MSG_WAITALL);
    recv(calls, fd, 2, MSG_WAITALL | MSG_PEEK);
    recv(calls, fd, 200, MSG_TRUNC | MSG_PEEK);
    recv(calls, fd, 200, MSG_TRUNC);
    recv(calls, fd, 200, MSG_TRUNC);
    look(calls, fd);
  }),
  ...both("wait for all: blocking", (scene, { fd, other }) => {
    const { calls, peer } = scene;
    blocking(calls, fd);
    peer.write(other, text("abcdef"));
    come(scene, fd, 6);
    calls.recvfrom(fd, new Uint8Array(6), MSG_WAITALL, null);
    peer.write(other, text("ghi"));
    peer.shutdown(other, SHUT_WR);
    calls.recvfrom(fd, new Uint8Array(6), MSG_WAITALL, null);
    calls.recvfrom(fd, new Uint8Array(6), MSG_WAITALL, null);
  }),
  ...both("recvmsg: the flags it gives", (scene, { fd, other }) => {
    const { calls, peer } = scene;
    peer.write(other, text("abcdef"));
    come(scene, fd, 6);
    for (const flags of [MSG_PEEK, MSG_TRUNC | MSG_PEEK, 0, MSG_TRUNC, 0x40000000]) {
      calls.recvmsg(fd, room(2, 64), flags | MSG_DONTWAIT);
    }
    peer.shutdown(other, SHUT_WR);
    until(calls, fd, POLLRDHUP);
    calls.recvmsg(fd, room(2, 64), MSG_DONTWAIT);
  }),
  ...both("an end, with bytes before it", (scene, { fd, other }) => {
    const { calls, peer } = scene;
    peer.write(other, text("abc"));
    peer.shutdown(other, SHUT_WR);
    until(calls, fd, POLLRDHUP);
    ioctls(calls, fd);
    look(calls, fd);
    recv(calls, fd, 2);
    ioctls(calls, fd);
    recv(calls, fd, 2);
    ioctls(calls, fd);
    recv(calls, fd, 2);
    look(calls, fd);
    send(calls, fd, "still");
    until(peer, other);
    recv(peer, other);
  }),
  ...both("more to come", (scene, { fd, other }) => {
    const { calls, peer } = scene;
    send(calls, fd, "a", MSG_MORE);
    pause();
    for (const request of [SIOCOUTQ, SIOCOUTQNSD]) calls.ioctl(fd, request, int());
    look(peer, other, POLLIN);
    send(calls, fd, "b");
    until(peer, other);
    recv(peer, other);
    send(calls, fd, "c", MSG_MORE);
    setInt(calls, fd, SOL_TCP, TCP_NODELAY, 1);
    until(peer, other);
    recv(peer, other);
  }),
  ...both("corked", (scene, { fd, other }) => {
    const { calls, peer } = scene;
    setInt(calls, fd, SOL_TCP, TCP_CORK, 1);
    send(calls, fd, "ab");
    send(calls, fd, "cd");
    pause();
    for (const request of [SIOCOUTQ, SIOCOUTQNSD]) calls.ioctl(fd, request, int());
    look(peer, other, POLLIN);
    setInt(calls, fd, SOL_TCP, TCP_CORK, 0);
    until(peer, other);
    recv(peer, other);
    setInt(calls, fd, SOL_TCP, TCP_CORK, 1);
    send(calls, fd, "ef");
    calls.shutdown(fd, SHUT_WR);
    until(peer, other, POLLRDHUP);
    recv(peer, other);
  }),
  ...both("much at once", (scene, { fd, other }) => {
    const { untraced } = scene;
    const bytes = bytesOf(300_000);
    let sent = 0;
    drain(scene, untraced.peer, other, bytes.length, () => {
      const count = untraced.calls.sendto(fd, bytes.subarray(sent), MSG_DONTWAIT, null);
      if (count > 0) sent += count;
    });
  }),
  ...both("much from the peer", (scene, { fd, other }) => {
    const { untraced } = scene;
    const bytes = bytesOf(60_000);
    let sent = 0;
    drain(scene, untraced.calls, fd, bytes.length, () => {
      const count = untraced.peer.sendto(other, bytes.subarray(sent), MSG_DONTWAIT, null);
      if (count > 0) sent += count;
    });
    look(scene.calls, fd);
  }),
  ...both(
    "no more room to send",
    (scene, { fd, other }) => {
      const { calls, untraced } = scene;
      setInt(calls, fd, SOL_SOCKET, SO_SNDBUF, 4608);
      setInt(scene.peer, other, SOL_SOCKET, SO_RCVBUF, 2304);
      let sent = 0;
      for (let i = 0; i < 4000; i++) {
        const whole = bytesOf(sent + 1000);
        const count = untraced.calls.sendto(fd, whole.subarray(sent), MSG_DONTWAIT | MSG_NOSIGNAL, null);
        if (count > 0) {
          sent += count;
          continue;
        }
        pause();
        if (untraced.calls.sendto(fd, whole.subarray(sent, sent + 1), MSG_DONTWAIT | MSG_NOSIGNAL, null) < 0) break;
        sent++;
      }
      send(calls, fd, "x");
      look(calls, fd);
      look(calls, fd, POLLOUT);
      drain(scene, untraced.peer, other, sent);
      until(calls, fd, POLLOUT);
      look(calls, fd);
    },
    (calls, fd) => void setInt(calls, fd, SOL_SOCKET, SO_SNDBUF, 4608),
  ),
  ...both("parts", (scene, { fd, other }) => {
    const { calls, peer } = scene;
    calls.writev(fd, [text("ab"), text(""), text("cde")]);
    calls.sendmsg(fd, messageOf(text("f"), text("g")), MSG_DONTWAIT);
    come(scene, other, 7, scene.untraced.peer);
    peer.readv(other, [new Uint8Array(1), new Uint8Array(3), new Uint8Array(9)]);
  }),
];

const after: readonly InetScenario[] = [
  ...([SHUT_RD, SHUT_WR, SHUT_RDWR] as const).flatMap((how) =>
    both(`after shutdown(${how})`, (scene, { fd, other }) => {
      const { calls, peer } = scene;
      peer.write(other, text("early"));
      come(scene, fd, 5);
      calls.shutdown(fd, how);
      acknowledged(scene, fd);
      look(calls, fd);
      recv(calls, fd, 2);
      if (send(calls, fd, "x", MSG_NOSIGNAL) > 0) until(peer, other);
      look(peer, other);
      peer.sendto(other, text("late"), MSG_NOSIGNAL | MSG_DONTWAIT, null);
      // What comes for a socket that is shut altogether resets it.
      if (how === SHUT_RDWR) reaches(scene, fd, CLOSE);
      else come(scene, fd, 7);
      ioctls(calls, fd);
      recv(calls, fd);
      recv(calls, fd);
      calls.shutdown(fd, SHUT_RD);
      calls.shutdown(fd, SHUT_WR);
      acknowledged(scene, fd);
      calls.shutdown(fd, how);
      look(calls, fd);
      recv(peer, other);
      look(peer, other);
    }),
  ),
  ...both("after the peer has closed", (scene, ends) => {
    const { calls, peer } = scene;
    const { fd } = ends;
    closePeer(peer, ends);
    until(calls, fd, POLLRDHUP);
    recv(calls, fd);
    send(calls, fd, "first", MSG_NOSIGNAL);
    until(calls, fd, POLLHUP);
    look(calls, fd);
    send(calls, fd, "second", MSG_NOSIGNAL);
    look(calls, fd);
    recv(calls, fd);
    send(calls, fd, "third", MSG_NOSIGNAL);
  }),
  ...both("after a reset", (scene, ends) => {
    const { calls, peer } = scene;
    const { fd } = ends;
    calls.write(fd, text("unread"));
    until(peer, ends.other);
    // What was not read is answered by a reset.
    closePeer(peer, ends);
    until(calls, fd, 0x10);
    look(calls, fd);
    recv(calls, fd);
    recv(calls, fd);
    send(calls, fd, "x", MSG_NOSIGNAL);
    look(calls, fd);
  }),
  ...both("an error is told once: by what is asked first", (scene, ends) => {
    const { calls, peer } = scene;
    const { fd } = ends;
    calls.write(fd, text("unread"));
    until(peer, ends.other);
    closePeer(peer, ends);
    until(calls, fd, 0x10);
    send(calls, fd, "x", MSG_NOSIGNAL);
    getInt(calls, fd, SOL_SOCKET, 4);
    recv(calls, fd);
    look(calls, fd);
  }),
];

const urgent: readonly InetScenario[] = [
  ...both("urgent: a byte", ({ calls, peer }, { fd, other }) => {
    send(peer, other, "abc", MSG_OOB);
    until(calls, fd, POLLPRI);
    look(calls, fd);
    ioctls(calls, fd);
    recv(calls, fd, 1, MSG_OOB | MSG_PEEK);
    look(calls, fd);
    recv(calls, fd, 4, MSG_OOB);
    recv(calls, fd, 1, MSG_OOB);
    look(calls, fd);
    recv(calls, fd);
    ioctls(calls, fd);
    recv(calls, fd);
    look(calls, fd);
  }),
  ...both("urgent: passed over", (scene, { fd, other }) => {
    const { calls, peer } = scene;
    send(peer, other, "abc", MSG_OOB);
    send(peer, other, "def");
    until(calls, fd, POLLPRI);
    come(scene, fd, 2);
    pause();
    recv(calls, fd, 1);
    ioctls(calls, fd);
    recv(calls, fd);
    ioctls(calls, fd);
    recv(calls, fd);
    ioctls(calls, fd);
    recv(calls, fd, 1, MSG_OOB);
    look(calls, fd);
  }),
  ...both("urgent: inline", (scene, { fd, other }) => {
    const { calls, peer } = scene;
    setInt(calls, fd, SOL_SOCKET, SO_OOBINLINE, 1);
    send(peer, other, "abc", MSG_OOB);
    send(peer, other, "def");
    until(calls, fd, POLLPRI);
    come(scene, fd, 6);
    look(calls, fd);
    recv(calls, fd, 1, MSG_OOB);
    recv(calls, fd);
    ioctls(calls, fd);
    recv(calls, fd);
    look(calls, fd);
    ioctls(calls, fd);
  }),
  ...both("urgent: twice", (scene, { fd, other }) => {
    const { calls, peer } = scene;
    send(peer, other, "ab", MSG_OOB);
    until(calls, fd, POLLPRI);
    send(peer, other, "cd", MSG_OOB);
    pause();
    look(calls, fd);
    ioctls(calls, fd);
    recv(calls, fd, 1, MSG_OOB);
    recv(calls, fd);
    ioctls(calls, fd);
    recv(calls, fd);
    recv(calls, fd);
    look(calls, fd);
  }),
  ...both("urgent: peeked at and waited for", (scene, { fd, other }) => {
    const { calls, peer } = scene;
    send(peer, other, "a", MSG_OOB);
    until(calls, fd, POLLPRI);
    recv(calls, fd, 8, MSG_PEEK);
    calls.recvmsg(fd, room(4, 64), MSG_OOB | MSG_DONTWAIT);
    calls.recvmsg(fd, room(4, 64), MSG_DONTWAIT);
    send(peer, other, "b");
    until(calls, fd);
    recv(calls, fd);
  }),
  ...([0, 1] as const).flatMap((inline) =>
    both(
      `urgent: ends what waits for all, and parts that end there, SO_OOBINLINE ${inline}`,
      (scene, { fd, other }) => {
        const { calls, peer } = scene;
        setInt(calls, fd, SOL_SOCKET, SO_OOBINLINE, inline);
        blocking(calls, fd);
        send(peer, other, "abcd");
        send(peer, other, "U", MSG_OOB);
        send(peer, other, "efghij");
        until(calls, fd, POLLPRI);
        come(scene, fd, 4);
        pause();
        calls.readv(fd, [new Uint8Array(1), new Uint8Array(1)]);
        calls.readv(fd, [new Uint8Array(2), new Uint8Array(2)]);
        calls.recvfrom(fd, new Uint8Array(4), MSG_WAITALL, null);
        send(peer, other, "xyz");
        send(peer, other, "V", MSG_OOB);
        send(peer, other, "w");
        pause();
        calls.recvfrom(fd, new Uint8Array(64), MSG_WAITALL, null);
        ioctls(calls, fd);
        look(calls, fd);
      },
    ),
  ),
  ...both("urgent: before an end", (scene, { fd, other }) => {
    const { calls, peer } = scene;
    send(peer, other, "a", MSG_OOB);
    peer.shutdown(other, SHUT_WR);
    until(calls, fd, POLLRDHUP);
    look(calls, fd);
    recv(calls, fd);
    recv(calls, fd, 1, MSG_OOB);
    recv(calls, fd, 1, MSG_OOB);
    look(calls, fd);
  }),
  ...both("urgent: sent, and what is asked of the sender", ({ calls, peer }, { fd, other }) => {
    send(calls, fd, "", MSG_OOB);
    send(calls, fd, "xy", MSG_OOB);
    until(peer, other, POLLPRI);
    look(peer, other);
    recv(peer, other, 1, MSG_OOB);
    recv(peer, other);
    look(calls, fd);
  }),
];

const waiting: readonly InetScenario[] = [
  ...both("SO_RCVLOWAT", (scene, { fd, other }) => {
    const { calls, peer } = scene;
    setInt(calls, fd, SOL_SOCKET, SO_RCVLOWAT, 4);
    peer.write(other, text("ab"));
    come(scene, fd, 2);
    look(calls, fd);
    recv(calls, fd, 1);
    peer.write(other, text("cdef"));
    come(scene, fd, 5);
    look(calls, fd);
    setInt(calls, fd, SOL_SOCKET, SO_RCVLOWAT, 100);
    look(calls, fd);
    recv(calls, fd);
    peer.write(other, text("g"));
    peer.shutdown(other, SHUT_WR);
    until(calls, fd, POLLRDHUP);
    look(calls, fd);
  }),
  ...both("SO_RCVLOWAT: a blocking receive", (scene, { fd, other }) => {
    const { calls, peer } = scene;
    blocking(calls, fd);
    setInt(calls, fd, SOL_SOCKET, SO_RCVLOWAT, 4);
    calls.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, time(40));
    peer.write(other, text("ab"));
    come(scene, fd, 2);
    calls.read(fd, new Uint8Array(16));
    calls.read(fd, new Uint8Array(16));
    peer.write(other, text("cdefgh"));
    come(scene, fd, 6);
    calls.read(fd, new Uint8Array(2));
    calls.read(fd, new Uint8Array(16));
  }),
  ...both("SO_RCVTIMEO", (scene, { fd, other }) => {
    const { calls, peer, trace } = scene;
    blocking(calls, fd);
    calls.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, time(40));
    const started = performance.now();
    calls.read(fd, new Uint8Array(4));
    const took = performance.now() - started;
    trace.add(`in time: ${took >= 39 && took < 400}`);
    peer.write(other, text("abcdef"));
    come(scene, fd, 6);
    calls.recvfrom(fd, new Uint8Array(10), MSG_WAITALL, null);
  }),
  ...both("SO_SNDTIMEO", (scene, { fd, other }) => {
    const { calls, untraced, trace } = scene;
    setInt(calls, fd, SOL_SOCKET, SO_SNDBUF, 4608);
    setInt(scene.peer, other, SOL_SOCKET, SO_RCVBUF, 2304);
    // Full, and full still when what goes has gone.
    for (let full = 0; full < 3; ) {
      if (untraced.calls.sendto(fd, new Uint8Array(4000), MSG_DONTWAIT, null) > 0) full = 0;
      else full++;
      pause(full > 0 ? 20 : 0);
    }
    blocking(calls, fd);
    calls.setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, time(40));
    const started = performance.now();
    calls.write(fd, new Uint8Array(10_000));
    const took = performance.now() - started;
    trace.add(`in time: ${took >= 39 && took < 400}`);
  }),
  ...both("SO_PEEK_OFF", (scene, { fd, other }) => {
    const { calls, peer } = scene;
    peer.write(other, text("abcdefghij"));
    come(scene, fd, 10);
    const offset = (): number => getInt(calls, fd, SOL_SOCKET, SO_PEEK_OFF);
    for (const value of [-1, 0, 2, 20, -7]) {
      setInt(calls, fd, SOL_SOCKET, SO_PEEK_OFF, value);
      offset();
      recv(calls, fd, 3, MSG_PEEK);
      offset();
      recv(calls, fd, 3, MSG_PEEK);
      offset();
    }
    setInt(calls, fd, SOL_SOCKET, SO_PEEK_OFF, 4);
    recv(calls, fd, 3);
    offset();
    recv(calls, fd, 3, MSG_PEEK);
    offset();
    recv(calls, fd, 6);
    offset();
    recv(calls, fd, 6, MSG_PEEK);
    recv(calls, fd);
    offset();
  }),
  ...both("TCP_INQ", (scene, { fd, other }) => {
    const { calls, peer } = scene;
    for (const value of [2, -1, 1]) setInt(calls, fd, SOL_TCP, TCP_INQ, value);
    getInt(calls, fd, SOL_TCP, TCP_INQ);
    peer.write(other, text("abcdef"));
    come(scene, fd, 6);
    for (const length of [1, 2]) calls.recvmsg(fd, room(length, 64), MSG_DONTWAIT);
    calls.recvmsg(fd, room(1, 64), MSG_DONTWAIT | MSG_PEEK);
    for (const control of [8, 16, 18, 20]) calls.recvmsg(fd, room(0, control), MSG_DONTWAIT);
    calls.recvmsg(fd, room(1, 18), MSG_DONTWAIT);
    calls.recvmsg(fd, room(16, 24), MSG_DONTWAIT);
    calls.recvmsg(fd, room(16, 64), MSG_DONTWAIT);
    peer.shutdown(other, SHUT_WR);
    until(calls, fd, POLLRDHUP);
    calls.recvmsg(fd, room(16, 64), MSG_DONTWAIT);
    setInt(calls, fd, SOL_TCP, TCP_INQ, 0);
    calls.recvmsg(fd, room(16, 64), MSG_DONTWAIT);
  }),
  ...both("SO_INQ is another family's", ({ calls }, { fd }) => {
    setInt(calls, fd, SOL_SOCKET, SO_INQ, 1);
    getInt(calls, fd, SOL_SOCKET, SO_INQ);
  }),
  ...both("stamps", (scene, { fd, other }) => {
    const { calls, peer } = scene;
    for (const name of [SO_TIMESTAMP, SO_TIMESTAMPNS]) {
      setInt(calls, fd, SOL_SOCKET, name, 1);
      getInt(calls, fd, SOL_SOCKET, name);
      setInt(calls, fd, SOL_SOCKET, name, 0);
    }
    peer.write(other, text("a"));
    come(scene, fd, 1);
    calls.recvmsg(fd, room(16, 64), MSG_DONTWAIT);
  }),
  ...both("TCP_NOTSENT_LOWAT", (scene, { fd }) => {
    const { calls } = scene;
    setInt(calls, fd, SOL_TCP, TCP_CORK, 1);
    setInt(calls, fd, SOL_TCP, TCP_NOTSENT_LOWAT, 1000);
    look(calls, fd);
    send(calls, fd, new Uint8Array(500));
    look(calls, fd);
    send(calls, fd, new Uint8Array(800));
    look(calls, fd);
    setInt(calls, fd, SOL_TCP, TCP_NOTSENT_LOWAT, 100_000);
    look(calls, fd);
  }),
  ...both("control messages to send", (scene, { fd, other }) => {
    const { calls, peer } = scene;
    const go = (level: number, type: number, data: Uint8Array): number =>
      calls.sendmsg(fd, withControl(text("x"), null, { level, type, data }), MSG_DONTWAIT | MSG_NOSIGNAL);
    go(SOL_SOCKET, SO_MARK, controlInt(0));
    go(SOL_SOCKET, SO_PRIORITY, controlInt(1));
    go(SOL_SOCKET, 99, controlInt(1));
    go(0, 2, controlInt(7));
    go(41, 52, controlInt(7));
    go(SOL_TCP, 36, controlInt(7));
    const broken = messageOf(text("x"));
    broken.control = new Uint8Array(16).fill(1);
    broken.controlLength = 16;
    calls.sendmsg(fd, broken, MSG_DONTWAIT | MSG_NOSIGNAL);
    come(scene, other, 5, scene.untraced.peer);
    recv(peer, other);
  }),
];

export const TCP_DATA_SCENARIOS: readonly InetScenario[] = [...plain, ...after, ...urgent, ...waiting];
