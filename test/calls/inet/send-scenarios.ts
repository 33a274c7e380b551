/** sendto, sendmsg, write: addresses, sizes, flags, control messages, and what the peer gets. */
import {
  MSG_CONFIRM,
  MSG_DONTROUTE,
  MSG_DONTWAIT,
  MSG_EOR,
  MSG_MORE,
  MSG_NOSIGNAL,
  MSG_OOB,
  POLLOUT,
  SOCK_DGRAM,
} from "../../../sockets/calls/constants.ts";
import { type ControlMessage, controlInt } from "../../../sockets/calls/control.ts";
import { messageOf, nameOf } from "../../../sockets/calls/message.ts";
import {
  IP_PKTINFO,
  IP_RECVTOS,
  IP_RECVTTL,
  IP_TOS,
  IP_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_HOPLIMIT,
  IPV6_PKTINFO,
  IPV6_RECVHOPLIMIT,
  IPV6_RECVTCLASS,
  IPV6_TCLASS,
  IPV6_UNICAST_HOPS,
  SO_BROADCAST,
  SO_DONTROUTE,
  SO_MARK,
  SO_PRIORITY,
  SO_SNDBUF,
  SOL_SOCKET,
  SOL_UDP,
  UDP_CORK,
  UDP_SEGMENT,
} from "../../../sockets/options.ts";
import type { Stage } from "../../conformance/run.ts";
import {
  afOf,
  any,
  at,
  bound,
  delivered,
  each,
  getInt,
  type InetScenario,
  type IpFamily,
  names,
  own,
  PEER_PORT,
  PORT,
  peerOf,
  remote,
  setInt,
  take,
  takeMessage,
  text,
  until,
  withControl,
} from "./tools.ts";

/** Two sockets that know of each other; closed when the play is over. */
const between = (name: string, play: (stage: Stage, family: IpFamily, fd: number, other: number) => void) =>
  each(name, (stage, family) => {
    const fd = bound(stage, family);
    const other = peerOf(stage, family);
    play(stage, family, fd, other);
    delivered(stage, family);
    stage.calls.close(fd);
    stage.peer.close(other);
  });

/** The peer is told TTL and TOS of what it gets. */
function tellHeaders({ peer }: Stage, family: IpFamily, other: number): void {
  if (family === 4) {
    setInt(peer, other, IPPROTO_IP, IP_RECVTTL, 1);
    setInt(peer, other, IPPROTO_IP, IP_RECVTOS, 1);
  } else {
    setInt(peer, other, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
    setInt(peer, other, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
  }
}

const level = (family: IpFamily): number => (family === 4 ? IPPROTO_IP : IPPROTO_IPV6);
const ttl = (family: IpFamily, value: number): ControlMessage => ({
  level: level(family),
  type: family === 4 ? IP_TTL : IPV6_HOPLIMIT,
  data: controlInt(value),
});
const tos = (family: IpFamily, value: number): ControlMessage => ({
  level: level(family),
  type: family === 4 ? IP_TOS : IPV6_TCLASS,
  data: controlInt(value),
});

function info(family: IpFamily, ifindex: number, source: Uint8Array | null): ControlMessage {
  const data = new Uint8Array(family === 4 ? 12 : 20);
  const view = new DataView(data.buffer);
  view.setInt32(family === 4 ? 0 : 16, ifindex, true);
  if (source !== null) data.set(family === 4 ? source.subarray(4, 8) : source.subarray(8, 24), family === 4 ? 4 : 0);
  return { level: level(family), type: family === 4 ? IP_PKTINFO : IPV6_PKTINFO, data };
}

const segment = (bytes: number): ControlMessage => ({
  level: SOL_UDP,
  type: UDP_SEGMENT,
  data: new Uint8Array(Uint16Array.of(bytes).buffer),
});

export const SEND_SCENARIOS: readonly InetScenario[] = [
  ...between("sendto: bytes and the sender's address", ({ calls, peer, ...stage }, family, fd, other) => {
    for (const payload of ["", "x", "some text", "y".repeat(1400)]) {
      calls.sendto(fd, text(payload), 0, remote({ calls, peer, ...stage }, family, PEER_PORT));
      take(peer, other);
    }
  }),
  ...between("write, writev, send: connected", (stage, family, fd, other) => {
    const { calls, peer } = stage;
    calls.write(fd, text("nobody yet"));
    calls.sendto(fd, text("nobody yet"), 0, null);
    calls.connect(fd, remote(stage, family, PEER_PORT));
    calls.write(fd, text("written"));
    take(peer, other);
    calls.writev(fd, [text("in "), text(""), text("parts")]);
    take(peer, other);
    calls.sendto(fd, text("sent"), 0, null);
    take(peer, other);
    calls.write(fd, new Uint8Array(0));
    take(peer, other);
    calls.sendto(fd, text("elsewhere"), 0, remote(stage, family, PEER_PORT + 1));
    calls.sendto(fd, text("here"), 0, remote(stage, family, PEER_PORT));
    take(peer, other);
  }),
  ...between("sendmsg: parts", (stage, family, fd, other) => {
    const { calls, peer } = stage;
    const to = nameOf(remote(stage, family, PEER_PORT));
    for (const parts of [[], ["one"], ["a", "", "bc", "def"], ["x".repeat(700), "y".repeat(700)]]) {
      calls.sendmsg(fd, { ...messageOf(...parts.map(text)), name: to }, 0);
      take(peer, other);
    }
  }),
  ...each("the first send binds", (stage, family) => {
    const { calls, peer } = stage;
    const other = peerOf(stage, family);
    const fd = calls.socket(afOf(family), SOCK_DGRAM, 0);
    calls.sendto(fd, text("first"), 0, remote(stage, family, PEER_PORT));
    names(calls, fd);
    take(peer, other);
    calls.sendto(fd, text("second"), 0, remote(stage, family, PEER_PORT));
    take(peer, other);
    calls.bind(fd, own(stage, family, PORT));
    calls.close(fd);
    peer.close(other);
  }),
  ...each("a send that fails binds too", (stage, family) => {
    const { calls } = stage;
    const fd = calls.socket(afOf(family), SOCK_DGRAM, 0);
    calls.sendto(fd, text("x"), 0, null);
    names(calls, fd);
    calls.bind(fd, own(stage, family, PORT));
    calls.close(fd);
  }),
  ...each("the first send binds, and the answer comes", (stage, family) => {
    const { calls, peer } = stage;
    const other = peerOf(stage, family);
    const fd = calls.socket(afOf(family), SOCK_DGRAM, 0);
    calls.connect(fd, remote(stage, family, PEER_PORT));
    calls.write(fd, text("question"));
    const from = { bytes: new Uint8Array(28), length: 28 };
    peer.poll([{ fd: other, events: 1, revents: 0 }], 5000);
    peer.recvfrom(other, new Uint8Array(64), 0, from);
    peer.sendto(other, text("answer"), 0, from.bytes.slice(0, from.length));
    take(calls, fd);
    calls.close(fd);
    peer.close(other);
  }),
  ...between("addresses: every length", (stage, family, fd, other) => {
    const { calls, peer } = stage;
    const whole = new Uint8Array(40);
    whole.set(remote(stage, family, PEER_PORT));
    for (let length = 0; length <= 32; length++) {
      if (calls.sendto(fd, Uint8Array.of(length), 0, whole.slice(0, length)) >= 0) take(peer, other);
    }
  }),
  ...between("addresses: other families", (stage, family, fd) => {
    const { calls } = stage;
    for (const af of [0, 1, 2, 10, 16, 17, 255, 65535]) {
      for (const length of [16, 24, 28]) {
        const bytes = new Uint8Array(28);
        bytes.set(remote(stage, family, PEER_PORT));
        new DataView(bytes.buffer).setUint16(0, af, true);
        calls.sendto(fd, text("x"), 0, bytes.slice(0, length));
      }
    }
  }),
  ...between("addresses: other families while connected", (stage, family, fd) => {
    const { calls } = stage;
    calls.connect(fd, remote(stage, family, PEER_PORT));
    for (const af of [0, 1, 2, 10, 255]) {
      for (const length of [2, 16, 28]) {
        const bytes = new Uint8Array(28);
        bytes.set(remote(stage, family, PEER_PORT));
        new DataView(bytes.buffer).setUint16(0, af, true);
        calls.sendto(fd, text("x"), 0, bytes.slice(0, length));
      }
    }
  }),
  ...between("to port 0, to the wildcard, nowhere", (stage, family, fd) => {
    const { calls } = stage;
    calls.sendto(fd, text("x"), 0, remote(stage, family, 0));
    calls.sendto(fd, text("x"), 0, any(family, 0));
    const nowhere = remote(stage, family, PEER_PORT);
    nowhere.set(family === 4 ? [203, 0, 113, 9] : [0x20, 1, 0x0d, 0xb9], family === 4 ? 4 : 8);
    calls.sendto(fd, text("x"), 0, nowhere);
    calls.sendto(fd, text("x"), MSG_DONTROUTE, nowhere);
  }),
  ...between("sizes: up to the largest, and beyond", (stage, family, fd, other) => {
    const { calls, peer } = stage;
    for (const size of [1471, 1472, 1473, 4000, 65_507, 65_508, 65_527, 65_528, 65_535, 65_536, 70_000]) {
      const result = calls.sendto(fd, new Uint8Array(size).fill(size & 0xff), 0, remote(stage, family, PEER_PORT));
      if (result >= 0) take(peer, other, 0, 70_000);
    }
  }),
  ...between("flags that change nothing", (stage, family, fd, other) => {
    const { calls, peer } = stage;
    for (const flags of [MSG_DONTWAIT, MSG_NOSIGNAL, MSG_CONFIRM, MSG_EOR, MSG_DONTROUTE, 0x10000, 0x20000000]) {
      calls.sendto(fd, text(`flags ${flags}`), flags, remote(stage, family, PEER_PORT));
      take(peer, other);
    }
  }),
  ...between("MSG_OOB", (stage, family, fd) => {
    const { calls } = stage;
    calls.sendto(fd, text("x"), MSG_OOB, remote(stage, family, PEER_PORT));
    calls.sendto(fd, text("x"), MSG_OOB, null);
    calls.sendto(fd, new Uint8Array(70_000), MSG_OOB, remote(stage, family, PEER_PORT));
  }),
  ...between("MSG_MORE: one datagram of many calls", (stage, family, fd, other) => {
    const { calls, peer } = stage;
    const to = remote(stage, family, PEER_PORT);
    calls.sendto(fd, text("one "), MSG_MORE, to);
    calls.sendto(fd, text("two "), MSG_MORE, to);
    calls.sendto(fd, text("three"), 0, to);
    take(peer, other);
    calls.sendto(fd, text("next"), 0, to);
    take(peer, other);
  }),
  ...between("MSG_MORE: the last may be empty, and the address is the first's", (stage, family, fd, other) => {
    const { calls, peer } = stage;
    calls.sendto(fd, text("begun"), MSG_MORE, remote(stage, family, PEER_PORT));
    calls.sendto(fd, text(""), 0, null);
    take(peer, other);
  }),
  ...between("UDP_CORK", (stage, family, fd, other) => {
    const { calls, peer } = stage;
    const to = remote(stage, family, PEER_PORT);
    setInt(calls, fd, SOL_UDP, UDP_CORK, 1);
    calls.sendto(fd, text("one "), 0, to);
    calls.sendto(fd, text("two"), 0, to);
    setInt(calls, fd, SOL_UDP, UDP_CORK, 0);
    take(peer, other);
    calls.sendto(fd, text("alone"), 0, to);
    take(peer, other);
  }),
  ...between("control: TTL and TOS of one datagram", (stage, family, fd, other) => {
    const { calls, peer } = stage;
    tellHeaders(stage, family, other);
    const to = remote(stage, family, PEER_PORT);
    for (const controls of [
      [],
      [ttl(family, 7)],
      [tos(family, 0xb8)],
      [ttl(family, 200), tos(family, 4)],
      [ttl(family, -1)],
      [tos(family, -1)],
      [ttl(family, 0)],
      [ttl(family, 256)],
      [tos(family, 256)],
      [tos(family, -2)],
    ]) {
      if (calls.sendmsg(fd, withControl(text("x"), to, ...controls), 0) >= 0) takeMessage(peer, other);
    }
    calls.sendto(fd, text("as ever"), 0, to);
    takeMessage(peer, other);
  }),
  ...between("control: TTL and TOS of every length", (stage, family, fd) => {
    const { calls } = stage;
    const to = remote(stage, family, PEER_PORT);
    for (const make of [ttl, tos]) {
      for (const length of [0, 1, 2, 3, 4, 5, 8]) {
        const data = new Uint8Array(length);
        data.set(Uint8Array.of(9).subarray(0, length));
        calls.sendmsg(fd, withControl(text("x"), to, { ...make(family, 0), data }), 0);
      }
    }
  }),
  ...between("control: source address and interface", (stage, family, fd, other) => {
    const { calls, peer } = stage;
    const to = remote(stage, family, PEER_PORT);
    for (const control of [
      info(family, 0, null),
      info(family, 0, own(stage, family, 0)),
      info(family, 2, null),
      info(family, 2, own(stage, family, 0)),
      info(family, 999, null),
      info(family, 0, remote(stage, family, 0)),
      { ...info(family, 0, null), data: new Uint8Array(11) },
      { ...info(family, 0, null), data: new Uint8Array(24) },
    ]) {
      if (calls.sendmsg(fd, withControl(text("x"), to, control), 0) >= 0) take(peer, other);
    }
  }),
  ...between("control: from the wildcard, by the address named", (stage, family, _fd, other) => {
    const { calls, peer } = stage;
    const fd = calls.socket(afOf(family), SOCK_DGRAM, 0);
    calls.bind(fd, any(family, PORT + 20));
    const to = remote(stage, family, PEER_PORT);
    calls.sendmsg(fd, withControl(text("x"), to, info(family, 0, own(stage, family, 0))), 0);
    take(peer, other);
    calls.close(fd);
  }),
  ...between("control: UDP_SEGMENT", (stage, family, fd, other) => {
    const { calls, peer } = stage;
    const to = remote(stage, family, PEER_PORT);
    for (const [length, size] of [
      [1000, 400],
      [400, 400],
      [10, 400],
      [1000, 1],
      [128, 1],
      [3000, 1472],
      [3000, 1600],
      [1000, 0],
    ]) {
      const result = calls.sendmsg(fd, withControl(new Uint8Array(length).fill(7), to, segment(size)), 0);
      if (result < 0) continue;
      const count = size === 0 ? 1 : Math.ceil(length / size);
      for (let i = 0; i < Math.min(count, 3); i++) take(peer, other);
      for (let i = 3; i < count; i++) peer.recvfrom(other, new Uint8Array(2048), 0, null);
    }
    calls.sendmsg(fd, withControl(text("x"), to, { ...segment(4), data: new Uint8Array(4) }), 0);
  }),
  ...between("control: SO_MARK, SO_PRIORITY", (stage, family, fd, other) => {
    const { calls, peer } = stage;
    const to = remote(stage, family, PEER_PORT);
    for (const type of [SO_MARK, SO_PRIORITY]) {
      for (const data of [controlInt(3), controlInt(-1), new Uint8Array(2)]) {
        if (calls.sendmsg(fd, withControl(text("x"), to, { level: SOL_SOCKET, type, data }), 0) >= 0) take(peer, other);
      }
    }
  }),
  ...between("control: as many as optmem_max allows", (stage, family, fd) => {
    const { calls } = stage;
    for (const length of [131_064, 131_072, 200_000]) {
      const data = new Uint8Array(length - 16);
      calls.sendmsg(fd, withControl(text("x"), remote(stage, family, PEER_PORT), { level: 99, type: 1, data }), 0);
    }
  }),
  ...between("control: what nobody knows, and what is malformed", (stage, family, fd) => {
    const { calls } = stage;
    const to = remote(stage, family, PEER_PORT);
    for (const [at, type] of [
      [SOL_SOCKET, 99],
      [SOL_SOCKET, 1],
      [SOL_SOCKET, 2],
      [IPPROTO_IP, 99],
      [IPPROTO_IPV6, 99],
      [SOL_UDP, 99],
      [6, 1],
      [255, 1],
    ]) {
      calls.sendmsg(fd, withControl(text("x"), to, { level: at, type, data: controlInt(1) }), 0);
    }
    const broken = withControl(text("x"), to, ttl(family, 3));
    if (broken.control !== null) broken.control[0] = 3;
    calls.sendmsg(fd, broken, 0);
    calls.sendmsg(fd, { ...withControl(text("x"), to, ttl(family, 3)), controlLength: 17 }, 0);
    calls.sendmsg(fd, { ...withControl(text("x"), to, ttl(family, 3)), controlLength: 8 }, 0);
    calls.sendmsg(fd, withControl(text("x"), null, ttl(family, 3)), 0);
    calls.sendmsg(fd, withControl(text("x"), remote(stage, family, 0), ttl(family, 0)), 0);
  }),
  ...between("options: TTL, TOS, hops of the socket", (stage, family, fd, other) => {
    const { calls, peer } = stage;
    tellHeaders(stage, family, other);
    const to = remote(stage, family, PEER_PORT);
    setInt(calls, fd, level(family), family === 4 ? IP_TTL : IPV6_UNICAST_HOPS, 9);
    setInt(calls, fd, level(family), family === 4 ? IP_TOS : IPV6_TCLASS, 0x28);
    calls.sendto(fd, text("x"), 0, to);
    takeMessage(peer, other);
    getInt(calls, fd, SOL_SOCKET, SO_PRIORITY);
  }),
  ...between("options: SO_DONTROUTE, SO_PRIORITY, SO_MARK", (stage, family, fd, other) => {
    const { calls, peer } = stage;
    const to = remote(stage, family, PEER_PORT);
    for (const option of [SO_DONTROUTE, SO_PRIORITY, SO_MARK]) {
      setInt(calls, fd, SOL_SOCKET, option, 1);
      calls.sendto(fd, text("x"), 0, to);
      take(peer, other);
      setInt(calls, fd, SOL_SOCKET, option, 0);
    }
  }),
  ...between("options: UDP_SEGMENT", (stage, family, fd, other) => {
    const { calls, peer } = stage;
    const to = remote(stage, family, PEER_PORT);
    setInt(calls, fd, SOL_UDP, UDP_SEGMENT, 500);
    calls.sendto(fd, new Uint8Array(1200).fill(1), 0, to);
    for (let i = 0; i < 3; i++) take(peer, other);
    calls.sendmsg(fd, withControl(new Uint8Array(1200).fill(2), to, segment(600)), 0);
    for (let i = 0; i < 2; i++) take(peer, other);
  }),
  ...between("a send buffer of the least size: sends that wait find room", (stage, family, fd, other) => {
    const { calls, peer } = stage;
    setInt(calls, fd, SOL_SOCKET, SO_SNDBUF, 1);
    getInt(calls, fd, SOL_SOCKET, SO_SNDBUF);
    const to = remote(stage, family, PEER_PORT);
    for (let i = 0; i < 40; i++) calls.sendto(fd, new Uint8Array(1000).fill(i), 0, to);
    for (let i = 0; i < 40; i++) take(peer, other);
    until(calls, fd, POLLOUT);
  }),
  ...each("to this host itself", (stage, family) => {
    const { calls } = stage;
    const fd = bound(stage, family);
    const other = bound(stage, family, PORT + 1);
    calls.sendto(fd, text("home"), 0, own(stage, family, PORT + 1));
    take(calls, other);
    calls.sendto(fd, text("to myself"), 0, own(stage, family, PORT));
    take(calls, fd);
    for (const each of [fd, other]) calls.close(each);
  }),
  {
    name: "IPv4: broadcast needs SO_BROADCAST",
    play(stage) {
      const { calls, peer } = stage;
      const other = stage.peer.socket(afOf(4), SOCK_DGRAM, 0);
      peer.bind(other, any(4, PEER_PORT));
      const fd = bound(stage, 4);
      const everybody = remote(stage, 4, PEER_PORT);
      everybody[7] = 255;
      calls.sendto(fd, text("x"), 0, everybody);
      calls.connect(fd, everybody);
      setInt(calls, fd, SOL_SOCKET, SO_BROADCAST, 1);
      calls.sendto(fd, text("x"), 0, everybody);
      take(peer, other);
      calls.connect(fd, everybody);
      calls.write(fd, text("connected"));
      take(peer, other);
      calls.close(fd);
      peer.close(other);
    },
  },
  {
    name: "IPv6: a link-local address needs its interface",
    play(stage) {
      const { calls } = stage;
      const fd = calls.socket(afOf(6), SOCK_DGRAM, 0);
      calls.bind(fd, any(6, PORT));
      const near = new Uint8Array(28);
      near[0] = 10;
      near.set([0xfe, 0x80], 8);
      near[23] = 1;
      calls.sendto(fd, text("x"), 0, at(near, PEER_PORT));
      calls.connect(fd, at(near, PEER_PORT));
      calls.bind(fd, at(near, PORT));
      near[24] = 77;
      calls.sendto(fd, text("x"), 0, at(near, PEER_PORT));
      calls.connect(fd, at(near, PEER_PORT));
      calls.close(fd);
    },
  },
];
