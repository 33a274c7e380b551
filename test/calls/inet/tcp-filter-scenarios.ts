/** Socket filters of streams: what is taken as one in each state, who has it, and what it does to segments. */
import { Assembler, r0, r1 } from "af-xdp-bindings";
import { sockFprog } from "../../../sockets/bpf/classic.ts";
import { SKB } from "../../../sockets/bpf/extended/context.ts";
import {
  MSG_MORE,
  POLLHUP,
  POLLIN,
  POLLOUT,
  POLLRDHUP,
  SHUT_WR,
  SOCK_NONBLOCK,
} from "../../../sockets/calls/constants.ts";
import { addressBuffer } from "../../../sockets/calls/message.ts";
import type { SocketCalls } from "../../../sockets/calls/socket-calls.ts";
import {
  SO_ATTACH_BPF,
  SO_ATTACH_FILTER,
  SO_ATTACH_REUSEPORT_CBPF,
  SO_ATTACH_REUSEPORT_EBPF,
  SO_DETACH_FILTER,
  SO_DETACH_REUSEPORT_BPF,
  SO_LOCK_FILTER,
  SO_REUSEPORT,
  SOL_SOCKET,
} from "../../../sockets/options.ts";
import {
  attach,
  CHECKED,
  JEQ,
  JSET,
  LD_BYTE,
  LD_LENGTH,
  POINTLESS,
  type Program,
  RET,
  ret,
} from "../filter-programs.ts";
import {
  ALL,
  arrives,
  detach,
  dropped,
  drops,
  FIN,
  FLAGS,
  HEADER,
  NOTHING,
  only,
  PROGRAMS,
  RST,
  SYN,
  startsWith,
  told,
  WAITS_MS,
  without,
} from "./tcp-filter-tools.ts";
import {
  accepted,
  connected,
  dialled,
  drop,
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
  stateOf,
  streamOf,
  there,
} from "./tcp-tools.ts";
import { getInt, type InetScenario, type IpFamily, setInt, text, until } from "./tools.ts";

const effects: readonly InetScenario[] = PROGRAMS.flatMap(([what, program]) =>
  eachTcp(`a filter that keeps ${what}`, (scene) => {
    const ends = connected(scene);
    attach(scene.calls, ends.fd, program);
    arrives(scene, ends, Uint8Array.of(2, 4, 3, 1, 0, 5));
    ends.close();
  }),
);

/** Values that are no programs, and some that are. */
const VALUES: readonly Uint8Array[] = [
  ...CHECKED.map(([, program]) => sockFprog(program)),
  ...POINTLESS,
  ...[0, 1, 4, 8, 15, 17, 24].map((length) => new Uint8Array(length).fill(1)),
];

/** What is asked of a socket in each state, when it has a filter and when it has none. */
const states: readonly InetScenario[] = Object.entries(STATES).flatMap(([state, make]) => [
  ...eachTcp(`${state}: filters taken, told, locked`, (scene) => {
    const { calls } = scene;
    const ends = make(scene);
    const { fd } = ends;
    told(calls, fd);
    detach(calls, fd);
    for (const name of [SO_ATTACH_FILTER, SO_ATTACH_REUSEPORT_CBPF]) {
      for (const value of VALUES) calls.setsockopt(fd, SOL_SOCKET, name, value);
      told(calls, fd);
    }
    for (const name of [SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_EBPF]) {
      setInt(calls, fd, SOL_SOCKET, name, 999_999);
      setInt(calls, fd, SOL_SOCKET, name, -1);
      for (const length of [0, 2, 5, 8]) calls.setsockopt(fd, SOL_SOCKET, name, new Uint8Array(length));
      getInt(calls, fd, SOL_SOCKET, name);
    }
    for (const length of [0, 3, 8]) calls.setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, new Uint8Array(length));
    told(calls, fd);
    attach(calls, fd, startsWith(9));
    for (const room of [1, 7, 8, 31, 32, 40]) calls.getsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, new Uint8Array(room));
    setInt(calls, fd, SOL_SOCKET, SO_LOCK_FILTER, 7);
    getInt(calls, fd, SOL_SOCKET, SO_LOCK_FILTER);
    for (const name of [SO_ATTACH_FILTER, SO_ATTACH_REUSEPORT_CBPF]) {
      attach(calls, fd, ret(1), name);
      calls.setsockopt(fd, SOL_SOCKET, name, POINTLESS[0]);
      calls.setsockopt(fd, SOL_SOCKET, name, new Uint8Array(4));
    }
    for (const name of [SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_EBPF]) setInt(calls, fd, SOL_SOCKET, name, -1);
    detach(calls, fd);
    setInt(calls, fd, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0);
    setInt(calls, fd, SOL_SOCKET, SO_LOCK_FILTER, 0);
    told(calls, fd);
    ends.close();
  }),
  ...eachTcp(`${state}: a filter attached, another, detached`, (scene) => {
    const { calls } = scene;
    const ends = make(scene);
    attach(calls, ends.fd, ALL);
    told(calls, ends.fd);
    attach(calls, ends.fd, startsWith(1));
    told(calls, ends.fd);
    look(calls, ends.fd);
    recv(calls, ends.fd);
    detach(calls, ends.fd);
    detach(calls, ends.fd);
    told(calls, ends.fd);
    ends.close();
  }),
]);

const accept = (calls: SocketCalls, listener: number): number =>
  calls.accept4(listener, addressBuffer(), SOCK_NONBLOCK);

const handed: readonly InetScenario[] = [
  ...eachTcp("a listener's filter: its connections have it, and keep it", (scene) => {
    const { calls, peer } = scene;
    const { listener, other } = dialled(scene, (fd) => void attach(calls, fd, startsWithOrEmpty(5)));
    until(peer, other, POLLOUT);
    until(calls, listener);
    // What the listener has by the time of accept() is another's.
    attach(calls, listener, ALL);
    const fd = accept(calls, listener);
    told(calls, fd);
    detach(calls, listener);
    told(calls, listener);
    told(calls, fd);
    arrives(scene, { fd, other, close() {} }, Uint8Array.of(5, 1));
    arrives(scene, { fd, other, close() {} }, Uint8Array.of(4, 1));
    detach(calls, fd);
    until(calls, fd);
    recv(calls, fd);
    drop(calls, fd, listener);
    drop(peer, other);
  }),
  ...eachTcp("a listener's filter, attached when the connection is open: it has none", (scene) => {
    const { calls, peer } = scene;
    const { listener, other } = dialled(scene, () => {});
    until(peer, other, POLLOUT);
    until(calls, listener);
    attach(calls, listener, NOTHING);
    const fd = accept(calls, listener);
    told(calls, fd);
    arrives(scene, { fd, other, close() {} }, text("abc"));
    drop(calls, fd, listener);
    drop(peer, other);
  }),
  ...eachTcp("a locked filter is handed on locked", (scene) => {
    const { calls } = scene;
    const ends = accepted(scene, (listener) => {
      attach(calls, listener, ALL);
      setInt(calls, listener, SOL_SOCKET, SO_LOCK_FILTER, 1);
    });
    told(calls, ends.fd);
    getInt(calls, ends.fd, SOL_SOCKET, SO_LOCK_FILTER);
    attach(calls, ends.fd, ret(1));
    detach(calls, ends.fd);
    setInt(calls, ends.fd, SOL_SOCKET, SO_LOCK_FILTER, 0);
    arrives(scene, ends, text("abc"));
    ends.close();
  }),
  ...eachTcp("a filter is kept through connect, and when the connection is left", (scene) => {
    const { calls } = scene;
    const ends = connected(scene, (fd) => void attach(calls, fd, ret(HEADER + 2)));
    told(calls, ends.fd);
    arrives(scene, ends, text("abcdef"));
    calls.connect(ends.fd, new Uint8Array(16));
    told(calls, ends.fd);
    getInt(calls, ends.fd, SOL_SOCKET, SO_LOCK_FILTER);
    detach(calls, ends.fd);
    detach(calls, ends.fd);
    ends.close();
  }),
  ...eachTcp("a filter is kept when a listener becomes none, and listens again", (scene) => {
    const { calls, peer } = scene;
    const listener = listening(calls, scene.family, here(scene));
    attach(calls, listener, startsWithOrEmpty(5));
    calls.connect(listener, new Uint8Array(16));
    told(calls, listener);
    calls.listen(listener, 8);
    const other = streamOf(peer, scene.family);
    peer.connect(other, here(scene));
    until(peer, other, POLLOUT);
    until(calls, listener);
    const fd = accept(calls, listener);
    arrives(scene, { fd, other, close() {} }, Uint8Array.of(4, 1));
    drop(calls, fd, listener);
    drop(peer, other);
  }),
];

/** Keeps what has no data, and what begins with a byte. */
function startsWithOrEmpty(byte: number): Program {
  return [
    [LD_LENGTH, 0, 0, 0],
    [0x25, 1, 0, 40],
    [0x25, 0, 2, HEADER],
    [LD_BYTE, 0, 0, HEADER],
    [JEQ, 0, 1, byte],
    [RET, 0, 0, 0xffffffff],
    [LD_LENGTH, 0, 0, 0],
    [JEQ, 0, 1, HEADER],
    [RET, 0, 0, 0xffffffff],
    [LD_BYTE, 0, 0, FLAGS],
    [JSET, 0, 1, SYN],
    [RET, 0, 0, 0xffffffff],
    [RET, 0, 0, 0],
  ];
}

const oneOf = (family: IpFamily, name: string, play: (scene: Scene) => void): InetScenario[] =>
  eachTcp(name, play).filter((each) => each.name.startsWith(`IPv${family}`));

const handshakes: readonly InetScenario[] = [
  // A SYN is sent again after a second: of one family each.
  ...oneOf(4, "a listener's filter drops the SYN, and then no more", (scene) => {
    const { calls, peer } = scene;
    const { listener, other } = dialled(scene, (fd) => void attach(calls, fd, NOTHING));
    dropped(scene, listener, 0);
    look(calls, listener);
    detach(calls, listener);
    until(peer, other, POLLOUT);
    until(calls, listener);
    const fd = accept(calls, listener);
    told(calls, fd);
    drop(calls, fd, listener);
    drop(peer, other);
  }),
  ...eachTcp("a listener's filter drops what comes for half-open connections", (scene) => {
    const { calls, peer } = scene;
    const { listener, other } = dialled(scene, (fd) => void attach(calls, fd, only(SYN)));
    until(peer, other, POLLOUT);
    dropped(scene, listener, 0);
    look(calls, listener);
    accept(calls, listener);
    attach(calls, listener, ALL);
    send(peer, other, "abc");
    until(calls, listener);
    const fd = accept(calls, listener);
    told(calls, fd);
    until(calls, fd);
    recv(calls, fd);
    drop(calls, fd, listener);
    drop(peer, other);
  }),
  ...eachTcp("a listener's filter cuts off what comes with the handshake's last segment", (scene) => {
    const { calls, peer } = scene;
    const { listener, other } = dialled(scene, (fd) => void attach(calls, fd, only(SYN)));
    until(peer, other, POLLOUT);
    dropped(scene, listener, 0);
    attach(calls, listener, ret(HEADER + 2));
    // The acknowledgment is no more; these bytes bring it.
    send(peer, other, "abc");
    until(calls, listener);
    const fd = accept(calls, listener);
    until(calls, fd);
    recv(calls, fd, 2);
    detach(calls, fd);
    drop(calls, fd, listener);
    drop(peer, other);
  }),
  ...oneOf(6, "a filter drops the answer to a SYN, and then no more", (scene) => {
    const { calls, peer, family } = scene;
    const listener = listening(peer, family, there(scene));
    const fd = streamOf(calls, family);
    attach(calls, fd, NOTHING);
    calls.connect(fd, there(scene));
    dropped(scene, fd, 0);
    look(calls, fd);
    stateOf(calls, fd);
    detach(calls, fd);
    until(calls, fd, POLLOUT);
    stateOf(calls, fd);
    drop(calls, fd);
    drop(peer, listener);
  }),
  ...eachTcp("a filter drops the refusal of a SYN", (scene) => {
    const { calls, family } = scene;
    const fd = streamOf(calls, family);
    attach(calls, fd, without(RST));
    calls.connect(fd, there(scene, 9));
    dropped(scene, fd, 0);
    look(calls, fd);
    stateOf(calls, fd);
    drop(calls, fd);
  }),
  ...eachTcp("a listener's filter drops what would be answered by a RST", (scene) => {
    const { calls, peer, family } = scene;
    const ends = accepted(scene);
    // Nobody knows the connection any more, and its peer has not heard of that.
    attach(peer, ends.other, without(RST));
    drop(calls, ends.fd);
    pause();
    const listener = listening(calls, family, here(scene));
    attach(calls, listener, NOTHING);
    detach(peer, ends.other);
    send(peer, ends.other, "abc");
    dropped(scene, listener, 0);
    look(peer, ends.other);
    detach(calls, listener);
    until(peer, ends.other, POLLHUP);
    getInt(peer, ends.other, SOL_SOCKET, SO_LOCK_FILTER);
    drop(calls, listener);
    drop(peer, ends.other);
  }),
];

const dropping: readonly InetScenario[] = [
  ...eachTcp("what was dropped comes when there is no filter any more", (scene) => {
    const { calls, peer } = scene;
    const ends = connected(scene);
    attach(calls, ends.fd, NOTHING);
    arrives(scene, ends, text("abc"));
    detach(calls, ends.fd);
    until(calls, ends.fd);
    recv(calls, ends.fd);
    peer.write(ends.other, text("def"));
    until(calls, ends.fd);
    recv(calls, ends.fd);
    ends.close();
  }),
  ...eachTcp("what was cut off comes when there is no filter any more", (scene) => {
    const { calls } = scene;
    const ends = accepted(scene);
    attach(calls, ends.fd, ret(HEADER + 2));
    arrives(scene, ends, text("abcdef"));
    detach(calls, ends.fd);
    until(calls, ends.fd);
    recv(calls, ends.fd);
    ends.close();
  }),
  ...eachTcp("one filter takes the place of another", (scene) => {
    const { calls } = scene;
    const ends = connected(scene);
    attach(calls, ends.fd, NOTHING);
    attach(calls, ends.fd, ALL);
    arrives(scene, ends, text("abc"));
    attach(calls, ends.fd, ret(HEADER + 1));
    arrives(scene, ends, text("def"));
    ends.close();
  }),
  ...eachTcp("acknowledgments are dropped: what was sent stays in the queue", (scene) => {
    const { calls, peer } = scene;
    const ends = connected(scene);
    attach(calls, ends.fd, NOTHING);
    calls.write(ends.fd, text("abc"));
    until(peer, ends.other);
    recv(peer, ends.other);
    pause();
    const before = drops(scene, ends.fd);
    // Whatever the peer sends has the acknowledgment.
    peer.write(ends.other, text("x"));
    dropped(scene, ends.fd, before);
    look(calls, ends.fd);
    detach(calls, ends.fd);
    until(calls, ends.fd);
    recv(calls, ends.fd);
    ends.close();
  }),
  ...eachTcp("a FIN that is dropped ends nothing yet", (scene) => {
    const { calls, peer } = scene;
    const ends = connected(scene);
    attach(calls, ends.fd, without(FIN));
    peer.shutdown(ends.other, SHUT_WR);
    dropped(scene, ends.fd, 0);
    look(calls, ends.fd);
    detach(calls, ends.fd);
    until(calls, ends.fd, POLLRDHUP);
    recv(calls, ends.fd);
    ends.close();
  }),
  ...eachTcp("a FIN comes behind what is left of its segment", (scene) => {
    const { calls, peer } = scene;
    const ends = connected(scene);
    attach(calls, ends.fd, ret(HEADER + 2));
    send(peer, ends.other, "abcdef", MSG_MORE);
    peer.shutdown(ends.other, SHUT_WR);
    until(calls, ends.fd, POLLRDHUP);
    recv(calls, ends.fd);
    recv(calls, ends.fd);
    ends.close();
  }),
  ...eachTcp("a RST that is dropped resets nothing", (scene) => {
    const { calls, peer } = scene;
    const ends = connected(scene);
    attach(calls, ends.fd, without(RST));
    linger(peer, ends.other, 1, 0);
    peer.close(ends.other);
    ends.other = -1;
    dropped(scene, ends.fd, 0);
    look(calls, ends.fd);
    stateOf(calls, ends.fd);
    detach(calls, ends.fd);
    // What is sent now is answered by another.
    calls.write(ends.fd, text("abc"));
    until(calls, ends.fd, POLLHUP);
    ends.close();
  }),
  ...eachTcp("a filter on what has sent its FIN", (scene) => {
    const { calls, peer } = scene;
    const ends = connected(scene);
    calls.shutdown(ends.fd, SHUT_WR);
    until(peer, ends.other, POLLRDHUP);
    attach(calls, ends.fd, NOTHING);
    arrives(scene, ends, text("abc"));
    detach(calls, ends.fd);
    until(calls, ends.fd);
    recv(calls, ends.fd);
    ends.close();
  }),
];

/** An extended program that returns what a word of its context says, above the header. */
const ofContext = (offset: number): Uint8Array =>
  new Assembler().load32(r0, r1, offset).and(r0, 0xff).add(r0, HEADER).exit().assemble();

const CONTEXT: readonly (keyof typeof SKB)[] = [
  ...(["len", "pkt_type", "mark", "protocol", "vlan_present", "vlan_tci", "vlan_proto", "priority"] as const),
  ...(["tc_index", "cb", "gso_segs", "gso_size"] as const),
];

const extended: readonly InetScenario[] = [
  ...CONTEXT.flatMap((field) =>
    eachTcp(`an extended program reads ${field} of its context`, (scene) => {
      const { calls } = scene;
      const ends = connected(scene);
      const program = scene.load("socket_filter", ofContext(SKB[field]));
      setInt(calls, ends.fd, SOL_SOCKET, SO_ATTACH_BPF, program.handle);
      // The socket keeps it.
      program.close();
      told(calls, ends.fd);
      arrives(scene, ends, Uint8Array.of(2, 4, 3, 1, 0, 5));
      detach(calls, ends.fd);
      detach(calls, ends.fd);
      ends.close();
    }),
  ),
  ...eachTcp("extended programs of other types, and of the listener", (scene) => {
    const { calls } = scene;
    const other = scene.load("sk_reuseport", new Assembler().mov(r0, 1).exit().assemble());
    const filter = scene.load(
      "socket_filter",
      new Assembler()
        .mov(r0, HEADER + 1)
        .exit()
        .assemble(),
    );
    const ends = accepted(scene, (listener) => {
      setInt(calls, listener, SOL_SOCKET, SO_ATTACH_BPF, other.handle);
      setInt(calls, listener, SOL_SOCKET, SO_ATTACH_BPF, filter.handle);
      told(calls, listener);
    });
    other.close();
    filter.close();
    told(calls, ends.fd);
    arrives(scene, ends, text("abc"));
    attach(calls, ends.fd, ALL);
    told(calls, ends.fd);
    ends.close();
  }),
];

/** Two listeners of a group, the program of which says who is asked; the peer's connections, and who has got each. */
function grouped(scene: Scene, attachTo: (listener: number) => void, connections: number): void {
  const { calls, peer, family } = scene;
  const listeners = [0, 1].map((i) => {
    const fd = streamOf(calls, family);
    setInt(calls, fd, SOL_SOCKET, SO_REUSEPORT, 1);
    calls.bind(fd, here(scene));
    if (i === 0) attachTo(fd);
    calls.listen(fd, 8);
    return fd;
  });
  for (let i = 0; i < connections; i++) {
    const other = streamOf(peer, family);
    peer.connect(other, here(scene));
    until(peer, other, POLLOUT);
    const entries = listeners.map((fd) => ({ fd, events: POLLIN, revents: 0 }));
    scene.untraced.calls.poll(entries, WAITS_MS);
    const who = entries.findIndex(({ revents }) => revents !== 0);
    scene.trace.add(`listener ${who}`);
    // Which ports a peer is given is its own affair.
    drop(calls, calls.accept4(listeners[who], null, SOCK_NONBLOCK));
    drop(peer, other);
  }
  for (const fd of listeners) calls.close(fd);
}

const groups: readonly InetScenario[] = [
  ...[0, 1].flatMap((index) => [
    ...eachTcp(`SO_ATTACH_REUSEPORT_CBPF of listeners: member ${index}`, (scene) =>
      grouped(scene, (fd) => void attach(scene.calls, fd, ret(index), SO_ATTACH_REUSEPORT_CBPF), 4),
    ),
    ...eachTcp(`SO_ATTACH_REUSEPORT_EBPF of listeners: member ${index}`, (scene) => {
      const program = scene.load("socket_filter", new Assembler().mov(r0, index).exit().assemble());
      grouped(scene, (fd) => void setInt(scene.calls, fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, program.handle), 4);
      program.close();
    }),
  ]),
  ...eachTcp("an index out of range: a member of the group all the same", (scene) => {
    const { calls, peer, family } = scene;
    const fd = streamOf(calls, family);
    setInt(calls, fd, SOL_SOCKET, SO_REUSEPORT, 1);
    calls.bind(fd, here(scene));
    attach(calls, fd, ret(7), SO_ATTACH_REUSEPORT_CBPF);
    calls.listen(fd, 8);
    const other = streamOf(peer, family);
    peer.connect(other, here(scene));
    until(peer, other, POLLOUT);
    until(calls, fd);
    drop(calls, accept(calls, fd), fd);
    drop(peer, other);
  }),
  ...eachTcp("a group's program is asked before the filter of the listener that it names", (scene) => {
    const { calls, peer, family } = scene;
    const listeners = [ret(0), ALL].map((filter) => {
      const fd = streamOf(calls, family);
      setInt(calls, fd, SOL_SOCKET, SO_REUSEPORT, 1);
      calls.bind(fd, here(scene));
      attach(calls, fd, filter);
      calls.listen(fd, 8);
      return fd;
    });
    attach(calls, listeners[1], ret(0), SO_ATTACH_REUSEPORT_CBPF);
    const other = streamOf(peer, family);
    peer.connect(other, here(scene));
    dropped(scene, listeners[0], 0);
    setInt(calls, listeners[0], SOL_SOCKET, SO_LOCK_FILTER, 1);
    attach(calls, listeners[0], ret(1), SO_ATTACH_REUSEPORT_CBPF);
    setInt(calls, listeners[0], SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0);
    setInt(calls, listeners[0], SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0);
    drop(calls, ...listeners);
    drop(peer, other);
  }),
];

export const TCP_FILTER_SCENARIOS: readonly InetScenario[] = [
  ...effects,
  ...states,
  ...handed,
  ...handshakes,
  ...dropping,
  ...extended,
  ...groups,
];
