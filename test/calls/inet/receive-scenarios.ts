/** recvfrom, recvmsg, read: flags, sizes, parts, control messages. */
import {
  MSG_CMSG_CLOEXEC,
  MSG_DONTWAIT,
  MSG_ERRQUEUE,
  MSG_OOB,
  MSG_PEEK,
  MSG_TRUNC,
  MSG_WAITALL,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
} from "../../../sockets/calls/constants.ts";
import { addressBuffer, messageOf } from "../../../sockets/calls/message.ts";
import type { SocketCalls } from "../../../sockets/calls/socket-calls.ts";
import {
  IP_ADD_MEMBERSHIP,
  IP_DROP_MEMBERSHIP,
  IP_MULTICAST_IF,
  IP_PKTINFO,
  IP_RECVFRAGSIZE,
  IP_RECVORIGDSTADDR,
  IP_RECVTOS,
  IP_RECVTTL,
  IP_TOS,
  IP_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_2292HOPLIMIT,
  IPV6_2292PKTINFO,
  IPV6_ADD_MEMBERSHIP,
  IPV6_AUTOFLOWLABEL,
  IPV6_DROP_MEMBERSHIP,
  IPV6_FLOWINFO,
  IPV6_MULTICAST_IF,
  IPV6_RECVFRAGSIZE,
  IPV6_RECVHOPLIMIT,
  IPV6_RECVORIGDSTADDR,
  IPV6_RECVPKTINFO,
  IPV6_RECVTCLASS,
  IPV6_TCLASS,
  IPV6_UNICAST_HOPS,
  SO_PEEK_OFF,
  SO_RCVTIMEO,
  SO_RXQ_OVFL,
  SO_TIMESTAMP,
  SO_TIMESTAMP_NEW,
  SO_TIMESTAMPNS,
  SO_TIMESTAMPNS_NEW,
  SOL_SOCKET,
  SOL_UDP,
  UDP_GRO,
} from "../../../sockets/options.ts";
import type { Stage } from "../../conformance/run.ts";
import {
  afOf,
  any,
  arrived,
  at,
  bound,
  each,
  getInt,
  type InetScenario,
  type IpFamily,
  mapped,
  own,
  PEER_PORT,
  PORT,
  peerOf,
  remote,
  room,
  setInt,
  take,
  takeMessage,
  text,
  until,
} from "./tools.ts";

/** Two sockets that know of each other; closed when the play is over. `tell` has the peer send. */
const between = (
  name: string,
  play: (stage: Stage, fd: number, tell: (payload: string) => number, family: IpFamily, other: number) => void,
) =>
  each(name, (stage, family) => {
    const fd = bound(stage, family);
    const other = peerOf(stage, family);
    const tell = (payload: string): number => stage.peer.sendto(other, text(payload), 0, own(stage, family, PORT));
    play(stage, fd, tell, family, other);
    stage.calls.close(fd);
    stage.peer.close(other);
  });

const recv = (calls: SocketCalls, fd: number, length: number, flags: number): number =>
  calls.recvfrom(fd, new Uint8Array(length), flags, addressBuffer());

/** SO_RCVTIMEO in milliseconds. */
const limit = (calls: SocketCalls, fd: number, ms: number): number =>
  calls.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, new Uint8Array(BigInt64Array.of(0n, BigInt(ms * 1000)).buffer));

/** Options that tell something beside each datagram. */
const TELLING: Record<IpFamily, readonly (readonly [string, number, number])[]> = {
  4: [
    ["IP_PKTINFO", IPPROTO_IP, IP_PKTINFO],
    ["IP_RECVTTL", IPPROTO_IP, IP_RECVTTL],
    ["IP_RECVTOS", IPPROTO_IP, IP_RECVTOS],
    ["IP_RECVORIGDSTADDR", IPPROTO_IP, IP_RECVORIGDSTADDR],
    ["SO_TIMESTAMP", SOL_SOCKET, SO_TIMESTAMP],
    ["SO_TIMESTAMPNS", SOL_SOCKET, SO_TIMESTAMPNS],
    ["SO_TIMESTAMP_NEW", SOL_SOCKET, SO_TIMESTAMP_NEW],
    ["SO_TIMESTAMPNS_NEW", SOL_SOCKET, SO_TIMESTAMPNS_NEW],
    ["SO_RXQ_OVFL", SOL_SOCKET, SO_RXQ_OVFL],
    ["UDP_GRO", SOL_UDP, UDP_GRO],
  ],
  6: [
    ["IPV6_RECVPKTINFO", IPPROTO_IPV6, IPV6_RECVPKTINFO],
    ["IPV6_RECVHOPLIMIT", IPPROTO_IPV6, IPV6_RECVHOPLIMIT],
    ["IPV6_RECVTCLASS", IPPROTO_IPV6, IPV6_RECVTCLASS],
    ["IPV6_RECVORIGDSTADDR", IPPROTO_IPV6, IPV6_RECVORIGDSTADDR],
    ["IPV6_2292PKTINFO", IPPROTO_IPV6, IPV6_2292PKTINFO],
    ["IPV6_2292HOPLIMIT", IPPROTO_IPV6, IPV6_2292HOPLIMIT],
    ["SO_TIMESTAMPNS", SOL_SOCKET, SO_TIMESTAMPNS],
    ["UDP_GRO", SOL_UDP, UDP_GRO],
    ["IP_PKTINFO", IPPROTO_IP, IP_PKTINFO],
    ["IP_RECVTTL", IPPROTO_IP, IP_RECVTTL],
  ],
};

const telling = ([4, 6] as const).flatMap((family) =>
  TELLING[family].map(
    ([name, level, option]): InetScenario => ({
      name: `IPv${family}: control: ${name}`,
      play(stage) {
        const { calls, peer } = stage;
        const fd = bound(stage, family);
        const other = peerOf(stage, family);
        const to = own(stage, family, PORT);
        setInt(peer, other, family === 4 ? IPPROTO_IP : IPPROTO_IPV6, family === 4 ? IP_TTL : IPV6_UNICAST_HOPS, 33);
        setInt(peer, other, family === 4 ? IPPROTO_IP : IPPROTO_IPV6, family === 4 ? IP_TOS : IPV6_TCLASS, 0x48);
        getInt(calls, fd, level, option);
        setInt(calls, fd, level, option, 1);
        getInt(calls, fd, level, option);
        peer.sendto(other, text("told"), 0, to);
        takeMessage(calls, fd);
        for (const control of [1, 15, 16, 17, 20, 24, 28, 32]) {
          peer.sendto(other, text("with little room"), 0, to);
          takeMessage(calls, fd, 0, room(64, control));
        }
        peer.sendto(other, text("none wanted"), 0, to);
        takeMessage(calls, fd, 0, room(64, 0));
        setInt(calls, fd, level, option, 0);
        peer.sendto(other, text("not told"), 0, to);
        takeMessage(calls, fd);
        calls.close(fd);
        peer.close(other);
      },
    }),
  ),
);

/** Every option that tells something, all at once. */
const allTold = each("control: everything at once, in the kernel's order", (stage, family) => {
  const { calls, peer } = stage;
  const fd = bound(stage, family);
  const other = peerOf(stage, family);
  for (const [, level, option] of TELLING[family]) setInt(calls, fd, level, option, 1);
  peer.sendto(other, text("all"), 0, own(stage, family, PORT));
  takeMessage(calls, fd);
  for (const control of [48, 64, 90, 120]) {
    peer.sendto(other, text("some"), 0, own(stage, family, PORT));
    takeMessage(calls, fd, 0, room(64, control));
  }
  calls.close(fd);
  peer.close(other);
});

/** Options by twos, in both orders of being set. */
const combined = ([4, 6] as const).flatMap((family) =>
  TELLING[family].flatMap((first, i) =>
    [3, 7].map((step): InetScenario => {
      const second = TELLING[family][(i + step) % TELLING[family].length];
      return {
        name: `IPv${family}: control: ${first[0]}, then ${second[0]}`,
        play(stage) {
          const { calls, peer } = stage;
          const fd = bound(stage, family);
          const other = peerOf(stage, family);
          for (const [, level, option] of [first, second]) setInt(calls, fd, level, option, 1);
          peer.sendto(other, text("two"), 0, own(stage, family, PORT));
          takeMessage(calls, fd);
          peer.sendto(other, text("one"), 0, own(stage, family, PORT));
          setInt(calls, fd, first[1], first[2], 0);
          takeMessage(calls, fd, MSG_PEEK);
          takeMessage(calls, fd, 0, room(2, 30));
          calls.close(fd);
          peer.close(other);
        },
      };
    }),
  ),
);

export const RECEIVE_SCENARIOS: readonly InetScenario[] = [
  ...between("sizes: what does not fit is lost", ({ calls }, fd, tell) => {
    for (const length of [0, 1, 4, 5, 6, 100]) {
      tell("bytes");
      take(calls, fd, 0, length);
    }
    recv(calls, fd, 10, MSG_DONTWAIT);
  }),
  ...between("sizes: large ones", (stage, fd, _tell, family) => {
    const { calls, peer } = stage;
    const other = peer.socket(afOf(family), SOCK_DGRAM, 0);
    for (const size of [0, 1, 1472, 1473, 8000, 60_000]) {
      peer.sendto(other, new Uint8Array(size).fill(size & 0xff), 0, own(stage, family, PORT));
      take(calls, fd, 0, 65_536);
    }
    peer.close(other);
  }),
  ...between("read, readv", ({ calls }, fd, tell) => {
    tell("some bytes");
    until(calls, fd);
    calls.read(fd, new Uint8Array(4));
    tell("more bytes");
    until(calls, fd);
    calls.readv(fd, [new Uint8Array(2), new Uint8Array(0), new Uint8Array(3), new Uint8Array(64)]);
    tell("untouched");
    until(calls, fd);
    calls.read(fd, new Uint8Array(0));
    take(calls, fd);
  }),
  ...between("recvmsg: parts", ({ calls }, fd, tell) => {
    for (const parts of [[], [0], [3], [1, 2], [4, 0, 4, 100]]) {
      tell("payload");
      takeMessage(calls, fd, 0, { ...messageOf(...parts.map((n) => new Uint8Array(n))), name: addressBuffer() });
    }
  }),
  ...between("senders into short buffers", ({ calls }, fd, tell) => {
    for (const length of [0, 1, 2, 8, 16, 28, 64]) {
      tell("x");
      until(calls, fd);
      const name = addressBuffer(64);
      name.length = length;
      calls.recvfrom(fd, new Uint8Array(8), 0, name);
    }
    tell("x");
    until(calls, fd);
    calls.recvfrom(fd, new Uint8Array(8), 0, null);
  }),
  ...between("MSG_TRUNC: the length there was", ({ calls }, fd, tell) => {
    for (const length of [0, 3, 7, 8, 20]) {
      tell("payload");
      until(calls, fd);
      const message = { ...messageOf(new Uint8Array(length)), name: addressBuffer() };
      calls.recvmsg(fd, message, MSG_TRUNC);
    }
  }),
  ...between("MSG_PEEK: it stays", ({ calls }, fd, tell) => {
    tell("first");
    tell("second");
    for (const length of [0, 2, 64]) take(calls, fd, MSG_PEEK, length);
    takeMessage(calls, fd, MSG_PEEK, room(3));
    takeMessage(calls, fd, MSG_PEEK | MSG_TRUNC, room(3));
    take(calls, fd);
    take(calls, fd, MSG_PEEK);
    take(calls, fd);
    recv(calls, fd, 8, MSG_PEEK | MSG_DONTWAIT);
  }),
  ...between("MSG_WAITALL, MSG_CMSG_CLOEXEC, MSG_OOB and others", ({ calls }, fd, tell) => {
    for (const flags of [MSG_WAITALL, MSG_CMSG_CLOEXEC, MSG_OOB, 0x10000, 0x80, MSG_PEEK | MSG_WAITALL]) {
      tell("payload");
      until(calls, fd);
      calls.recvmsg(fd, { ...messageOf(new Uint8Array(32)), name: addressBuffer() }, flags);
    }
  }),
  ...between("nothing there: MSG_DONTWAIT, O_NONBLOCK, SO_RCVTIMEO", ({ calls }, fd, _tell, family) => {
    recv(calls, fd, 8, MSG_DONTWAIT);
    calls.recvmsg(fd, room(), MSG_DONTWAIT);
    recv(calls, fd, 8, MSG_ERRQUEUE);
    recv(calls, fd, 8, MSG_ERRQUEUE | MSG_DONTWAIT);
    limit(calls, fd, 20);
    recv(calls, fd, 8, 0);
    calls.read(fd, new Uint8Array(8));
    const other = calls.socket(afOf(family), SOCK_DGRAM | SOCK_NONBLOCK, 0);
    recv(calls, other, 8, 0);
    calls.close(other);
  }),
  ...between("zero bytes are a datagram", ({ calls }, fd, tell) => {
    tell("");
    take(calls, fd, MSG_PEEK);
    take(calls, fd);
    tell("");
    tell("after");
    take(calls, fd);
    take(calls, fd);
  }),
  ...between("a waiting call is woken", ({ calls }, fd, tell) => {
    limit(calls, fd, 900);
    tell("one");
    recv(calls, fd, 16, 0);
    tell("two");
    calls.recvmsg(fd, room(), 0);
  }),
  ...between("many in order", ({ calls }, fd, tell) => {
    for (let i = 0; i < 40; i++) tell(`number ${i}`);
    for (let i = 0; i < 40; i++) take(calls, fd);
  }),
  ...between("SO_PEEK_OFF: peeking goes on where it ended", (stage, fd, tell, family, other) => {
    const { calls } = stage;
    getInt(calls, fd, SOL_SOCKET, SO_PEEK_OFF);
    setInt(calls, fd, SOL_SOCKET, SO_PEEK_OFF, 0);
    tell("abcdefgh");
    tell("ijkl");
    arrived(stage, family, other);
    for (let i = 0; i < 8; i++) {
      recv(calls, fd, 3, MSG_PEEK | MSG_DONTWAIT);
      getInt(calls, fd, SOL_SOCKET, SO_PEEK_OFF);
    }
    recv(calls, fd, 3, MSG_DONTWAIT);
    getInt(calls, fd, SOL_SOCKET, SO_PEEK_OFF);
    recv(calls, fd, 3, MSG_PEEK | MSG_DONTWAIT);
    setInt(calls, fd, SOL_SOCKET, SO_PEEK_OFF, 2);
    takeMessage(calls, fd, MSG_PEEK, room(64));
    takeMessage(calls, fd, MSG_PEEK, room(64));
    setInt(calls, fd, SOL_SOCKET, SO_PEEK_OFF, -1);
    recv(calls, fd, 64, MSG_PEEK | MSG_DONTWAIT);
    recv(calls, fd, 64, MSG_DONTWAIT);
    getInt(calls, fd, SOL_SOCKET, SO_PEEK_OFF);
  }),
  ...between("SO_PEEK_OFF: what is cut off", ({ calls }, fd, tell) => {
    setInt(calls, fd, SOL_SOCKET, SO_PEEK_OFF, 4);
    tell("abcdefgh");
    until(calls, fd);
    for (const length of [2, 2, 4]) {
      calls.recvmsg(fd, { ...messageOf(new Uint8Array(length)), name: addressBuffer() }, MSG_PEEK | MSG_DONTWAIT);
      setInt(calls, fd, SOL_SOCKET, SO_PEEK_OFF, 4);
    }
    setInt(calls, fd, SOL_SOCKET, SO_PEEK_OFF, 6);
    calls.recvmsg(fd, { ...messageOf(new Uint8Array(4)), name: addressBuffer() }, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
  }),
  ...each("control: the largest fragment (with a kernel)", (stage, family) => {
    const { calls, peer } = stage;
    const fd = bound(stage, family);
    const other = peerOf(stage, family);
    const level = family === 4 ? IPPROTO_IP : IPPROTO_IPV6;
    const option = family === 4 ? IP_RECVFRAGSIZE : IPV6_RECVFRAGSIZE;
    getInt(calls, fd, level, option);
    setInt(calls, fd, level, option, 1);
    for (const size of [100, 1472, 2000, 9000]) {
      peer.sendto(other, new Uint8Array(size).fill(5), 0, own(stage, family, PORT));
      takeMessage(calls, fd, 0, room(10_000));
    }
    calls.close(fd);
    peer.close(other);
  }),
  {
    name: "IPv6: control: traffic class and flow label (with a kernel)",
    play(stage) {
      const { calls, peer } = stage;
      const fd = bound(stage, 6);
      const other = peerOf(stage, 6);
      setInt(calls, fd, IPPROTO_IPV6, IPV6_FLOWINFO, 1);
      setInt(peer, other, IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, 0);
      for (const value of [0, 0x48]) {
        setInt(peer, other, IPPROTO_IPV6, IPV6_TCLASS, value);
        for (const size of [8, 3000]) {
          peer.sendto(other, new Uint8Array(size), 0, own(stage, 6, PORT));
          takeMessage(calls, fd);
        }
      }
      calls.close(fd);
      peer.close(other);
    },
  },
  ...telling,
  ...allTold,
  ...combined,
  {
    name: "control: an IPv6 socket that hears IPv4",
    play(stage) {
      const { calls, peer, places } = stage;
      const fd = calls.socket(afOf(6), SOCK_DGRAM, 0);
      calls.bind(fd, any(6, PORT));
      const other = peerOf(stage, 4);
      for (const [, level, option] of TELLING[6]) {
        setInt(calls, fd, level, option, 1);
        peer.sendto(other, text("four"), 0, at(places.own4, PORT));
        takeMessage(calls, fd);
      }
      setInt(calls, fd, IPPROTO_IP, IP_RECVTOS, 1);
      setInt(calls, fd, IPPROTO_IP, IP_RECVORIGDSTADDR, 1);
      peer.sendto(other, text("four"), 0, at(places.own4, PORT));
      takeMessage(calls, fd);
      calls.sendto(fd, text("back"), 0, mapped(at(places.peer4, PEER_PORT)));
      take(peer, other);
      calls.close(fd);
      peer.close(other);
    },
  },
  {
    name: "IPv4: control: a broadcast datagram's addresses",
    play(stage) {
      const { calls, peer } = stage;
      const fd = calls.socket(afOf(4), SOCK_DGRAM, 0);
      calls.bind(fd, any(4, PORT));
      const other = peerOf(stage, 4);
      setInt(calls, fd, IPPROTO_IP, IP_PKTINFO, 1);
      setInt(calls, fd, IPPROTO_IP, IP_RECVTTL, 1);
      setInt(peer, other, SOL_SOCKET, 6, 1);
      const everybody = own(stage, 4, PORT);
      everybody[7] = 255;
      peer.sendto(other, text("all"), 0, everybody);
      takeMessage(calls, fd);
      peer.sendto(other, text("you"), 0, own(stage, 4, PORT));
      takeMessage(calls, fd);
      calls.close(fd);
      peer.close(other);
    },
  },
  ...each("groups (with a kernel): joined, heard, left; joined twice", (stage, family) => {
    const { calls, peer } = stage;
    const fd = calls.socket(afOf(family), SOCK_DGRAM, 0);
    calls.bind(fd, any(family, PORT));
    const other = peerOf(stage, family);
    const group = at(family === 4 ? stage.places.own4 : stage.places.own6, PORT);
    group.set(
      family === 4 ? [239, 1, 2, 3] : [0xff, 0x0e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34],
      family === 4 ? 4 : 8,
    );
    const own4 = own(stage, 4, 0).subarray(4, 8);
    const theirs = remote(stage, 4, 0).subarray(4, 8);
    const level = family === 4 ? IPPROTO_IP : IPPROTO_IPV6;
    // struct ip_mreq, or ipv6_mreq of the only interface that is not lo.
    const request = family === 4 ? [...group.subarray(4, 8), ...own4] : [...group.subarray(8, 24), 2, 0, 0, 0];
    const join = family === 4 ? IP_ADD_MEMBERSHIP : IPV6_ADD_MEMBERSHIP;
    const leave = family === 4 ? IP_DROP_MEMBERSHIP : IPV6_DROP_MEMBERSHIP;
    if (family === 4) peer.setsockopt(other, IPPROTO_IP, IP_MULTICAST_IF, theirs);
    else setInt(peer, other, IPPROTO_IPV6, IPV6_MULTICAST_IF, 2);
    calls.setsockopt(fd, level, leave, Uint8Array.from(request));
    calls.setsockopt(fd, level, join, Uint8Array.from(request));
    calls.setsockopt(fd, level, join, Uint8Array.from(request));
    setInt(calls, fd, level, family === 4 ? IP_PKTINFO : IPV6_RECVPKTINFO, 1);
    peer.sendto(other, text("to the group"), 0, group);
    takeMessage(calls, fd);
    calls.setsockopt(fd, level, leave, Uint8Array.from(request));
    peer.sendto(other, text("to nobody"), 0, group);
    peer.sendto(other, text("to one"), 0, own(stage, family, PORT));
    takeMessage(calls, fd);
    calls.close(fd);
    peer.close(other);
  }),
  ...each("UDP_GRO: told where datagrams came as one", (stage, family) => {
    const { calls, peer } = stage;
    const fd = bound(stage, family);
    const other = peerOf(stage, family);
    setInt(calls, fd, SOL_UDP, UDP_GRO, 1);
    peer.sendto(other, text("single"), 0, own(stage, family, PORT));
    takeMessage(calls, fd, MSG_PEEK);
    takeMessage(calls, fd);
    recv(calls, fd, 8, MSG_DONTWAIT);
    calls.close(fd);
    peer.close(other);
  }),
  ...each("what was there is gone after close", (stage, family) => {
    const { calls, peer } = stage;
    const fd = bound(stage, family);
    const other = peerOf(stage, family);
    peer.sendto(other, text("old"), 0, own(stage, family, PORT));
    until(calls, fd);
    calls.close(fd);
    const again = bound(stage, family);
    recv(calls, again, 8, MSG_DONTWAIT);
    peer.sendto(other, text("new"), 0, own(stage, family, PORT));
    take(calls, again);
    calls.close(again);
    peer.close(other);
  }),
  ...each("an answer to whom it came from", (stage, family) => {
    const { calls, peer } = stage;
    const fd = bound(stage, family);
    const other = peerOf(stage, family);
    peer.sendto(other, text("question"), 0, own(stage, family, PORT));
    until(calls, fd);
    const from = addressBuffer(28);
    calls.recvfrom(fd, new Uint8Array(32), 0, from);
    calls.sendto(fd, text("answer"), 0, from.bytes.slice(0, from.length));
    take(peer, other);
    calls.close(fd);
    peer.close(other);
  }),
  ...each("the receive buffer is a bound", (stage, family) => {
    const { calls, peer } = stage;
    const fd = bound(stage, family);
    const other = peerOf(stage, family);
    setInt(calls, fd, SOL_SOCKET, 8, 1);
    getInt(calls, fd, SOL_SOCKET, 8);
    peer.sendto(other, text("first"), 0, own(stage, family, PORT));
    until(calls, fd);
    take(calls, fd);
    peer.sendto(other, new Uint8Array(1400).fill(3), 0, own(stage, family, PORT));
    take(calls, fd);
    calls.close(fd);
    peer.close(other);
  }),
  ...each("connected: from the peer, with its name", (stage, family) => {
    const { calls, peer } = stage;
    const fd = bound(stage, family);
    const other = peerOf(stage, family);
    calls.connect(fd, remote(stage, family, PEER_PORT));
    peer.sendto(other, text("named"), 0, own(stage, family, PORT));
    takeMessage(calls, fd);
    peer.sendto(other, text("read"), 0, own(stage, family, PORT));
    until(calls, fd);
    calls.read(fd, new Uint8Array(16));
    calls.close(fd);
    peer.close(other);
  }),
];
