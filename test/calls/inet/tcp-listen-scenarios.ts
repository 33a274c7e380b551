/** Listeners: accept and its flags, backlogs, reuseport groups, both families at one port, devices. */
import {
  F_GETFD,
  F_GETFL,
  MSG_DONTWAIT,
  POLLHUP,
  POLLIN,
  POLLOUT,
  POLLRDHUP,
  SHUT_RD,
  SHUT_RDWR,
  SHUT_WR,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
} from "../../../sockets/calls/constants.ts";
import { addressBuffer } from "../../../sockets/calls/message.ts";
import type { SocketCalls } from "../../../sockets/calls/socket-calls.ts";
import {
  IPPROTO_IPV6,
  IPV6_V6ONLY,
  SO_ATTACH_REUSEPORT_CBPF,
  SO_DETACH_REUSEPORT_BPF,
  SO_INCOMING_CPU,
  SO_RCVTIMEO,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SOL_SOCKET,
  SOL_TCP,
  TCP_DEFER_ACCEPT,
} from "../../../sockets/options.ts";
import { attach, ret } from "../filter-programs.ts";
import {
  describe,
  drop,
  eachTcp,
  here,
  listening,
  look,
  pause,
  recv,
  type Scene,
  send,
  streamOf,
  there,
} from "./tcp-tools.ts";
import { any, getInt, type InetScenario, type IpFamily, mapped, names, own, setInt, text, until } from "./tools.ts";

const accept = (calls: SocketCalls, listener: number, flags = SOCK_NONBLOCK): number =>
  calls.accept4(listener, addressBuffer(), flags);

/** The peer connects to an address of the host under test. */
function dial({ peer }: Scene, family: IpFamily, to: Uint8Array): number {
  const fd = streamOf(peer, family);
  peer.connect(fd, to);
  until(peer, fd, POLLOUT);
  return fd;
}

const accepting: readonly InetScenario[] = [
  ...([0, SOCK_NONBLOCK, SOCK_CLOEXEC, SOCK_NONBLOCK | SOCK_CLOEXEC] as const).flatMap((flags) =>
    eachTcp(`accept: flags 0x${flags.toString(16)}`, (scene) => {
      const { calls, peer, family } = scene;
      const listener = listening(calls, family, here(scene));
      calls.fcntl(listener, 4, 0x2000 | 0x800);
      const other = dial(scene, family, here(scene));
      until(calls, listener);
      const fd = accept(calls, listener, flags);
      calls.fcntl(fd, F_GETFL, 0);
      calls.fcntl(fd, F_GETFD, 0);
      names(calls, fd);
      drop(calls, fd, listener);
      drop(peer, other);
    }),
  ),
  ...eachTcp("accept: in the order of arrival", (scene) => {
    const { calls, peer, family } = scene;
    const listener = listening(calls, family, here(scene));
    const others = [0, 1, 2].map(() => dial(scene, family, here(scene)));
    pause();
    look(calls, listener);
    const fds = others.map(() => accept(calls, listener));
    accept(calls, listener);
    look(calls, listener);
    drop(calls, ...fds, listener);
    drop(peer, ...others);
  }),
  ...eachTcp("accept: less room for the name", (scene) => {
    const { calls, peer, family } = scene;
    const listener = listening(calls, family, here(scene));
    for (const length of [0, 4, 200]) {
      const other = dial(scene, family, here(scene));
      until(calls, listener);
      const address = addressBuffer(200);
      address.length = length;
      drop(calls, calls.accept4(listener, address, 0));
      drop(peer, other);
    }
    calls.close(listener);
  }),
  ...eachTcp("accept: what has come already", (scene) => {
    const { calls, peer, family } = scene;
    const listener = listening(calls, family, here(scene));
    const other = dial(scene, family, here(scene));
    send(peer, other, "early");
    peer.shutdown(other, SHUT_WR);
    until(calls, listener);
    pause();
    const fd = accept(calls, listener);
    describe(calls, fd);
    recv(calls, fd);
    recv(calls, fd);
    drop(calls, fd, listener);
    drop(peer, other);
  }),
  ...eachTcp("accept: what has been reset already", (scene) => {
    const { calls, peer, family } = scene;
    const listener = listening(calls, family, here(scene));
    const other = dial(scene, family, here(scene));
    until(calls, listener);
    drop(peer, other);
    pause();
    look(calls, listener);
    const fd = accept(calls, listener);
    describe(calls, fd);
    recv(calls, fd);
    drop(calls, fd, listener);
  }),
  ...eachTcp("accept: blocking, with SO_RCVTIMEO", (scene) => {
    const { calls, family, trace } = scene;
    const listener = listening(calls, family, here(scene));
    calls.fcntl(listener, 4, 0);
    calls.setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, new Uint8Array(BigInt64Array.of(0n, 40_000n).buffer));
    const started = performance.now();
    accept(calls, listener);
    const took = performance.now() - started;
    trace.add(`in time: ${took >= 39 && took < 400}`);
    calls.close(listener);
  }),
  ...eachTcp("a listener closes: those that wait are reset", (scene) => {
    const { calls, peer, family } = scene;
    const listener = listening(calls, family, here(scene));
    const other = dial(scene, family, here(scene));
    until(calls, listener);
    calls.close(listener);
    until(peer, other, POLLRDHUP);
    describe(peer, other);
    peer.close(other);
  }),
  ...([SHUT_RD, SHUT_WR, SHUT_RDWR] as const).flatMap((how) =>
    eachTcp(`a listener: shutdown(${how}), and listens again`, (scene) => {
      const { calls, peer, family } = scene;
      const listener = listening(calls, family, here(scene));
      const other = dial(scene, family, here(scene));
      until(calls, listener);
      calls.shutdown(listener, how);
      pause();
      describe(calls, listener);
      if (how !== SHUT_WR) until(peer, other, POLLHUP);
      look(peer, other);
      accept(calls, listener);
      calls.listen(listener, 3);
      const another = dial(scene, family, here(scene));
      pause();
      describe(calls, listener);
      drop(calls, accept(calls, listener));
      drop(peer, other, another);
      drop(calls, listener);
    }),
  ),
  ...eachTcp("a listener: connect to AF_UNSPEC", (scene) => {
    const { calls, family } = scene;
    const listener = listening(calls, family, here(scene));
    calls.connect(listener, new Uint8Array(16));
    describe(calls, listener);
    calls.close(listener);
  }),
  ...eachTcp("listen without bind: a port of its own", (scene) => {
    const { calls, peer, family } = scene;
    const fd = streamOf(calls, family);
    calls.listen(fd, 2);
    describe(calls, fd);
    calls.listen(fd, 5);
    const name = addressBuffer();
    calls.getsockname(fd, name);
    const port = new DataView(name.bytes.buffer).getUint16(2);
    const other = dial(scene, family, here(scene, port));
    until(calls, fd);
    drop(calls, accept(calls, fd), fd);
    drop(peer, other);
  }),
  ...eachTcp("TCP_DEFER_ACCEPT: accepted with its first bytes", (scene) => {
    const { calls, peer, family } = scene;
    const listener = listening(calls, family, here(scene));
    setInt(calls, listener, SOL_TCP, TCP_DEFER_ACCEPT, 5);
    const other = dial(scene, family, here(scene));
    pause(20);
    look(calls, listener);
    accept(calls, listener);
    send(peer, other, "go");
    until(calls, listener);
    const fd = accept(calls, listener);
    recv(calls, fd);
    drop(calls, fd, listener);
    drop(peer, other);
  }),
];

const backlogs: readonly InetScenario[] = [0, 1, 2, -1].flatMap((backlog) =>
  eachTcp(`a backlog of ${backlog}, and more than that`, (scene) => {
    const { calls, peer, family } = scene;
    const listener = listening(calls, family, here(scene), backlog);
    const others = [0, 1, 2, 3].map(() => {
      const fd = streamOf(peer, family);
      peer.connect(fd, here(scene));
      pause(10);
      look(peer, fd, POLLOUT);
      return fd;
    });
    let fds: number[] = [];
    for (const _ of others) fds = [...fds, accept(calls, listener)];
    drop(calls, ...fds, listener);
    drop(peer, ...others);
  }),
);

/** Listeners of one group, and who of them is given a connection. */
function group(scene: Scene, size: number, listen = true): number[] {
  const { calls, family } = scene;
  return Array.from({ length: size }, () => {
    const fd = streamOf(calls, family);
    setInt(calls, fd, SOL_SOCKET, SO_REUSEPORT, 1);
    calls.bind(fd, here(scene));
    if (listen) calls.listen(fd, 8);
    return fd;
  });
}

/** Waits until one of listeners has a connection: one that comes late would be the next scenario's. */
function someReady(scene: Scene, fds: readonly number[]): void {
  const entries = fds.map((fd) => ({ fd, events: POLLIN, revents: 0 }));
  for (let left = 5000; left > 0 && !entries.some(({ revents }) => (revents & POLLIN) !== 0); left--) {
    scene.untraced.calls.poll(entries, 0);
    Bun.sleepSync(1);
  }
}

function chosen(scene: Scene, fds: readonly number[]): void {
  const { calls, peer, family, trace } = scene;
  const other = dial(scene, family, here(scene));
  someReady(scene, fds);
  const ready = fds.map((fd) => scene.untraced.calls.poll([{ fd, events: POLLIN, revents: 0 }], 0));
  trace.add(`ready: ${ready.join(" ")}`);
  fds.forEach((fd, i) => {
    // Whom it is from is not asked: an lcore's ports may be used again at once.
    if (ready[i] === 1) drop(calls, calls.accept4(fd, null, SOCK_NONBLOCK));
  });
  drop(peer, other);
}

const groups: readonly InetScenario[] = [
  ...[0, 1, 2, 5].flatMap((index) =>
    eachTcp(`a reuseport group with a program that says ${index}`, (scene) => {
      const { calls } = scene;
      const fds = group(scene, 3);
      attach(calls, fds[0], ret(index), SO_ATTACH_REUSEPORT_CBPF);
      if (index < 3) chosen(scene, fds);
      if (index < 3) chosen(scene, fds);
      // The last takes the place of the one that leaves.
      calls.close(fds[0]);
      const left = fds.slice(1);
      if (index < 2) chosen(scene, left);
      drop(calls, ...left);
    }),
  ),
  ...eachTcp("a reuseport group: numbers by the order of listen", (scene) => {
    const { calls } = scene;
    const fds = group(scene, 3, false);
    for (const i of [2, 0, 1]) calls.listen(fds[i], 4);
    attach(calls, fds[0], ret(0), SO_ATTACH_REUSEPORT_CBPF);
    chosen(scene, fds);
    calls.shutdown(fds[2], SHUT_RD);
    chosen(scene, fds.slice(0, 2));
    drop(calls, ...fds);
  }),
  ...eachTcp("a reuseport group: a program before anybody listens", (scene) => {
    const { calls } = scene;
    const fds = group(scene, 2, false);
    attach(calls, fds[1], ret(1), SO_ATTACH_REUSEPORT_CBPF);
    for (const fd of fds) calls.listen(fd, 4);
    chosen(scene, fds);
    setInt(calls, fds[0], SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0);
    setInt(calls, fds[0], SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0);
    drop(calls, ...fds);
  }),
  ...eachTcp("a reuseport group: who joins later, who does not", (scene) => {
    const { calls, family } = scene;
    const [first] = group(scene, 1);
    const without = streamOf(calls, family);
    calls.bind(without, here(scene));
    const [second] = group(scene, 1);
    setInt(calls, second, SOL_SOCKET, SO_REUSEPORT, 0);
    const [third] = group(scene, 1);
    drop(calls, first, second, third, without);
  }),
  ...eachTcp("SO_INCOMING_CPU of listeners", (scene) => {
    const { calls } = scene;
    const fds = group(scene, 2);
    for (const value of [-1, 0, 1, 1 << 20]) {
      setInt(calls, fds[0], SOL_SOCKET, SO_INCOMING_CPU, value);
      getInt(calls, fds[0], SOL_SOCKET, SO_INCOMING_CPU);
    }
    drop(calls, ...fds);
  }),
];

/** A connection of each family to a port, and who has it. */
const families: readonly InetScenario[] = [
  ...([0, 1] as const).flatMap((v6only) =>
    eachTcp(`both families: IPV6_V6ONLY ${v6only}`, (scene) => {
      const { calls, peer, port } = scene;
      const listener = streamOf(calls, 6);
      setInt(calls, listener, IPPROTO_IPV6, IPV6_V6ONLY, v6only);
      setInt(calls, listener, SOL_SOCKET, SO_REUSEADDR, 1);
      calls.bind(listener, any(6, port));
      calls.listen(listener, 4);
      const other = streamOf(calls, 4);
      calls.bind(other, any(4, port));
      calls.listen(other, 4);
      for (const family of [4, 6] as const) {
        const fd = streamOf(peer, family);
        peer.connect(fd, own(scene, family, port));
        until(peer, fd, POLLOUT);
        someReady(scene, [listener, other]);
        for (const each of [listener, other]) {
          look(calls, each, POLLIN);
          const got = accept(calls, each);
          if (got < 0) continue;
          names(calls, got);
          getInt(calls, got, IPPROTO_IPV6, IPV6_V6ONLY);
          drop(calls, got);
        }
        drop(peer, fd);
      }
      drop(calls, listener, other);
    }),
  ),
  ...eachTcp("a mapped address: connected to", (scene) => {
    const { calls, peer } = scene;
    const listener = listening(peer, 4, scene.family === 4 ? there(scene) : any(4, scene.peerPort));
    const fd = streamOf(calls, 6);
    const to = mapped(there({ ...scene, family: 4 }));
    calls.connect(fd, to);
    until(calls, fd, POLLOUT);
    names(calls, fd);
    until(peer, listener);
    const other = peer.accept4(listener, addressBuffer(), SOCK_NONBLOCK);
    calls.write(fd, text("x"));
    until(peer, other);
    peer.recvfrom(other, new Uint8Array(4), MSG_DONTWAIT, null);
    drop(calls, fd);
    drop(peer, other, listener);
  }),
  ...eachTcp("a mapped address: bound to, and v6only", (scene) => {
    const { calls } = scene;
    for (const v6only of [1, 0]) {
      const fd = streamOf(calls, 6);
      setInt(calls, fd, IPPROTO_IPV6, IPV6_V6ONLY, v6only);
      calls.bind(fd, mapped(own(scene, 4, scene.port)));
      names(calls, fd);
      calls.listen(fd, 1);
      calls.close(fd);
      const other = streamOf(calls, 6);
      setInt(calls, other, IPPROTO_IPV6, IPV6_V6ONLY, v6only);
      calls.connect(other, mapped(there({ ...scene, family: 4 }, 9)));
      pause();
      describe(calls, other);
      calls.close(other);
    }
  }),
];

export const TCP_LISTEN_SCENARIOS: readonly InetScenario[] = [...accepting, ...backlogs, ...groups, ...families];
