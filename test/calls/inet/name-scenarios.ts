/** socket, bind, connect, getsockname, getpeername, shutdown, close: the life of a UDP socket. */
import { SHUT_RD, SHUT_RDWR, SHUT_WR, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET } from "../../../sockets/calls/constants.ts";
import { addressBuffer } from "../../../sockets/calls/message.ts";
import {
  IP_BIND_ADDRESS_NO_PORT,
  IP_FREEBIND,
  IP_LOCAL_PORT_RANGE,
  IP_TRANSPARENT,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_FREEBIND,
  IPV6_TRANSPARENT,
  IPV6_V6ONLY,
  SO_BINDTODEVICE,
  SO_BINDTOIFINDEX,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SOL_SOCKET,
} from "../../../sockets/options.ts";
import {
  afOf,
  any,
  at,
  bound,
  each,
  getInt,
  type InetScenario,
  mapped,
  NOBODY,
  names,
  OTHER,
  own,
  PEER_PORT,
  PORT,
  peerOf,
  remote,
  setInt,
  take,
  text,
} from "./tools.ts";

const UNSPEC = new Uint8Array(16);

export const NAME_SCENARIOS: readonly InetScenario[] = [
  ...each("socket: protocols and types", ({ calls }, family) => {
    for (const protocol of [0, 17, 6, 2, -1, 262, 263, 1000]) {
      const fd = calls.socket(afOf(family), SOCK_DGRAM, protocol);
      if (fd >= 0) calls.close(fd);
    }
    for (const type of [0, 4, 7, 11, 15]) calls.socket(afOf(family), type, 0);
    calls.socket(afOf(family), SOCK_SEQPACKET, 0);
    calls.socket(afOf(family), SOCK_RAW, 0);
    calls.socket(afOf(family), SOCK_DGRAM | 0x100, 0);
  }),
  ...each("socketpair", ({ calls }, family) => {
    const out = new Int32Array(2);
    calls.socketpair(afOf(family), SOCK_DGRAM, 0, out);
    calls.socketpair(afOf(family), SOCK_DGRAM, 17, out);
    calls.socketpair(afOf(family), SOCK_DGRAM, 6, out);
    calls.socketpair(afOf(family), 0, 0, out);
  }),
  ...each("a fresh socket has no names", ({ calls }, family) => {
    const fd = calls.socket(afOf(family), SOCK_DGRAM, 0);
    names(calls, fd);
    calls.close(fd);
    names(calls, fd);
  }),
  ...each("bind: an own address, the wildcard, a foreign one", (stage, family) => {
    const { calls } = stage;
    for (const address of [own(stage, family, PORT), any(family, PORT), remote(stage, family, PORT)]) {
      const fd = calls.socket(afOf(family), SOCK_DGRAM, 0);
      calls.bind(fd, address);
      names(calls, fd);
      calls.close(fd);
    }
  }),
  ...each("bind: port 0 asks for one", (stage, family) => {
    const { calls } = stage;
    const fd = bound(stage, family, 0);
    names(calls, fd);
    calls.close(fd);
  }),
  ...each("bind: twice", (stage, family) => {
    const { calls } = stage;
    const fd = bound(stage, family);
    for (const address of [
      own(stage, family, OTHER),
      any(family, 0),
      remote(stage, family, OTHER),
      UNSPEC,
      new Uint8Array(2),
    ]) {
      calls.bind(fd, address);
    }
    names(calls, fd);
    calls.close(fd);
  }),
  ...each("bind: every length of a sockaddr", (stage, family) => {
    const { calls } = stage;
    const whole = new Uint8Array(128);
    whole.set(own(stage, family, PORT));
    for (let length = 0; length <= 40; length++) {
      const fd = calls.socket(afOf(family), SOCK_DGRAM, 0);
      calls.bind(fd, whole.slice(0, length));
      calls.close(fd);
    }
    const fd = calls.socket(afOf(family), SOCK_DGRAM, 0);
    calls.bind(fd, whole);
    calls.bind(fd, new Uint8Array(129));
    calls.close(fd);
  }),
  ...each("bind: other families", (stage, family) => {
    const { calls } = stage;
    for (const af of [0, 1, 2, 10, 17, 44, 255, 65535]) {
      for (const length of [16, 28]) {
        for (const address of [own(stage, family, PORT), any(family, PORT)]) {
          const bytes = new Uint8Array(length);
          bytes.set(address.subarray(0, length));
          new DataView(bytes.buffer).setUint16(0, af, true);
          const fd = calls.socket(afOf(family), SOCK_DGRAM, 0);
          calls.bind(fd, bytes);
          calls.close(fd);
        }
      }
    }
  }),
  ...each("bind: the port is taken", (stage, family) => {
    const { calls } = stage;
    const first = bound(stage, family);
    const second = calls.socket(afOf(family), SOCK_DGRAM, 0);
    calls.bind(second, own(stage, family, PORT));
    names(calls, second);
    calls.bind(second, own(stage, family, OTHER));
    calls.close(first);
    const third = bound(stage, family);
    for (const fd of [second, third]) calls.close(fd);
  }),
  ...each("bind: SO_REUSEADDR on one, on both", (stage, family) => {
    const { calls } = stage;
    const first = calls.socket(afOf(family), SOCK_DGRAM, 0);
    setInt(calls, first, SOL_SOCKET, SO_REUSEADDR, 1);
    calls.bind(first, own(stage, family, PORT));
    const second = calls.socket(afOf(family), SOCK_DGRAM, 0);
    calls.bind(second, own(stage, family, PORT));
    setInt(calls, second, SOL_SOCKET, SO_REUSEADDR, 1);
    calls.bind(second, own(stage, family, PORT));
    getInt(calls, second, SOL_SOCKET, SO_REUSEADDR);
    for (const fd of [first, second]) calls.close(fd);
  }),
  ...each("bind: SO_REUSEPORT on one, on both, after bind", (stage, family) => {
    const { calls } = stage;
    const first = calls.socket(afOf(family), SOCK_DGRAM, 0);
    setInt(calls, first, SOL_SOCKET, SO_REUSEPORT, 1);
    calls.bind(first, own(stage, family, PORT));
    const second = calls.socket(afOf(family), SOCK_DGRAM, 0);
    calls.bind(second, own(stage, family, PORT));
    setInt(calls, second, SOL_SOCKET, SO_REUSEPORT, 1);
    calls.bind(second, own(stage, family, PORT));
    setInt(calls, second, SOL_SOCKET, SO_REUSEPORT, 0);
    getInt(calls, second, SOL_SOCKET, SO_REUSEPORT);
    for (const fd of [first, second]) calls.close(fd);
  }),
  ...each("bind: the wildcard beside an address", (stage, family) => {
    const { calls } = stage;
    const first = bound(stage, family);
    const second = calls.socket(afOf(family), SOCK_DGRAM, 0);
    calls.bind(second, any(family, PORT));
    calls.bind(second, any(family, OTHER));
    for (const fd of [first, second]) calls.close(fd);
  }),
  ...each("bind: IP_FREEBIND makes any address do", (stage, family) => {
    const { calls } = stage;
    const fd = calls.socket(afOf(family), SOCK_DGRAM, 0);
    calls.bind(fd, remote(stage, family, PORT));
    if (family === 4) setInt(calls, fd, IPPROTO_IP, IP_FREEBIND, 1);
    else setInt(calls, fd, IPPROTO_IPV6, IPV6_FREEBIND, 1);
    calls.bind(fd, remote(stage, family, PORT));
    names(calls, fd);
    calls.close(fd);
  }),
  ...each("bind: IP_TRANSPARENT makes any address do (with a kernel)", (stage, family) => {
    const { calls } = stage;
    const [level, option] = family === 4 ? [IPPROTO_IP, IP_TRANSPARENT] : [IPPROTO_IPV6, IPV6_TRANSPARENT];
    const fd = calls.socket(afOf(family), SOCK_DGRAM, 0);
    getInt(calls, fd, level, option);
    setInt(calls, fd, level, option, 1);
    getInt(calls, fd, level, option);
    calls.bind(fd, remote(stage, family, PORT));
    names(calls, fd);
    calls.close(fd);
  }),
  ...each("bind: SO_BINDTODEVICE, and what dissolving a connection does to it (with a kernel)", (stage, family) => {
    const { calls } = stage;
    const fd = calls.socket(afOf(family), SOCK_DGRAM, 0);
    calls.setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, text("none"));
    calls.setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, text("veth0"));
    calls.getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, new Uint8Array(16));
    calls.bind(fd, own(stage, family, PORT));
    const other = calls.socket(afOf(family), SOCK_DGRAM, 0);
    calls.setsockopt(other, SOL_SOCKET, SO_BINDTODEVICE, text("lo"));
    calls.bind(other, any(family, PORT));
    calls.connect(fd, remote(stage, family, PEER_PORT));
    getInt(calls, fd, SOL_SOCKET, SO_BINDTOIFINDEX);
    calls.connect(fd, UNSPEC);
    getInt(calls, fd, SOL_SOCKET, SO_BINDTOIFINDEX);
    const peer = peerOf(stage, family);
    stage.peer.sendto(peer, text("heard"), 0, own(stage, family, PORT));
    take(calls, fd);
    for (const each of [fd, other]) calls.close(each);
    stage.peer.close(peer);
  }),
  ...each("bind: IP_BIND_ADDRESS_NO_PORT leaves the port for later", (stage, family) => {
    const { calls } = stage;
    const fd = calls.socket(afOf(family), SOCK_DGRAM, 0);
    setInt(calls, fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    calls.bind(fd, own(stage, family, 0));
    names(calls, fd);
    calls.connect(fd, remote(stage, family, NOBODY));
    names(calls, fd);
    calls.close(fd);
  }),
  ...each("bind: IP_LOCAL_PORT_RANGE", (stage, family) => {
    const { calls } = stage;
    const fd = calls.socket(afOf(family), SOCK_DGRAM, 0);
    setInt(calls, fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, 40001 | (40000 << 16));
    setInt(calls, fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, 40000 | (40000 << 16));
    calls.bind(fd, own(stage, family, 0));
    const name = addressBuffer();
    calls.getsockname(fd, name);
    stage.trace.add(`port ${new DataView(name.bytes.buffer).getUint16(2)}`);
    calls.close(fd);
  }),
  ...each("connect and dissolve, with a port that was asked for", (stage, family) => {
    const { calls } = stage;
    const fd = bound(stage, family);
    calls.connect(fd, remote(stage, family, PEER_PORT));
    names(calls, fd);
    calls.connect(fd, remote(stage, family, NOBODY));
    names(calls, fd);
    calls.connect(fd, UNSPEC);
    names(calls, fd);
    calls.connect(fd, UNSPEC);
    names(calls, fd);
    calls.close(fd);
  }),
  ...each("connect and dissolve, with a port that the kernel chose", (stage, family) => {
    const { calls } = stage;
    const fd = calls.socket(afOf(family), SOCK_DGRAM, 0);
    calls.connect(fd, remote(stage, family, PEER_PORT));
    names(calls, fd);
    calls.connect(fd, UNSPEC);
    names(calls, fd);
    calls.bind(fd, own(stage, family, PORT));
    names(calls, fd);
    calls.close(fd);
  }),
  ...each("connect: the wildcard is narrowed, and wide again", (stage, family) => {
    const { calls } = stage;
    const fd = calls.socket(afOf(family), SOCK_DGRAM, 0);
    calls.bind(fd, any(family, PORT));
    calls.connect(fd, remote(stage, family, PEER_PORT));
    names(calls, fd);
    calls.connect(fd, UNSPEC);
    names(calls, fd);
    calls.close(fd);
  }),
  ...each("connect: every length, other families", (stage, family) => {
    const { calls } = stage;
    const whole = new Uint8Array(128);
    whole.set(remote(stage, family, PEER_PORT));
    const fd = bound(stage, family);
    for (let length = 0; length <= 40; length++) calls.connect(fd, whole.slice(0, length));
    for (const af of [1, 2, 10, 17, 255]) {
      const bytes = whole.slice(0, 28);
      new DataView(bytes.buffer).setUint16(0, af, true);
      calls.connect(fd, bytes);
    }
    names(calls, fd);
    calls.close(fd);
  }),
  ...each("connect: to port 0", (stage, family) => {
    const { calls } = stage;
    const fd = bound(stage, family);
    calls.connect(fd, remote(stage, family, 0));
    names(calls, fd);
    calls.close(fd);
  }),
  ...each("connect: nowhere", (stage, family) => {
    const { calls } = stage;
    const nowhere = remote(stage, family, PEER_PORT);
    nowhere.set(family === 4 ? [203, 0, 113, 9] : [0x20, 1, 0x0d, 0xb9], family === 4 ? 4 : 8);
    const fd = calls.socket(afOf(family), SOCK_DGRAM, 0);
    calls.connect(fd, nowhere);
    names(calls, fd);
    calls.connect(fd, remote(stage, family, PEER_PORT));
    names(calls, fd);
    calls.connect(fd, nowhere);
    names(calls, fd);
    calls.close(fd);
  }),
  ...each("connect: only the peer is heard", (stage, family) => {
    const { calls, peer } = stage;
    const fd = bound(stage, family);
    const a = peerOf(stage, family);
    const b = peerOf(stage, family, PEER_PORT + 1);
    calls.connect(fd, remote(stage, family, PEER_PORT));
    peer.sendto(b, text("stranger"), 0, own(stage, family, PORT));
    peer.sendto(a, text("peer"), 0, own(stage, family, PORT));
    take(calls, fd);
    calls.connect(fd, UNSPEC);
    peer.sendto(b, text("stranger"), 0, own(stage, family, PORT));
    take(calls, fd);
    calls.close(fd);
    for (const each of [a, b]) peer.close(each);
  }),
  ...each("shutdown: of a socket that is not connected", (stage, family) => {
    const { calls } = stage;
    const fd = bound(stage, family);
    for (const how of [-1, 3, SHUT_RD, SHUT_WR, SHUT_RDWR]) {
      calls.shutdown(fd, how);
      calls.poll([{ fd, events: 0x3fff, revents: 0 }], 0);
    }
    calls.close(fd);
  }),
  ...each("shutdown: reading ends, what comes is still there", (stage, family) => {
    const { calls, peer } = stage;
    const fd = bound(stage, family);
    const other = peerOf(stage, family);
    calls.connect(fd, remote(stage, family, PEER_PORT));
    calls.shutdown(fd, SHUT_RD);
    calls.recvfrom(fd, new Uint8Array(8), 0, addressBuffer());
    calls.recvfrom(fd, new Uint8Array(8), 0x40, null);
    calls.read(fd, new Uint8Array(8));
    calls.sendto(fd, text("out"), 0, null);
    take(peer, other);
    calls.close(fd);
    peer.close(other);
  }),
  ...each("shutdown: writing ends with EPIPE", (stage, family) => {
    const { calls } = stage;
    const fd = bound(stage, family);
    const other = peerOf(stage, family);
    calls.connect(fd, remote(stage, family, PEER_PORT));
    calls.shutdown(fd, SHUT_WR);
    calls.sendto(fd, text("no"), 0, null);
    calls.sendto(fd, text("no"), 0, remote(stage, family, PEER_PORT));
    calls.write(fd, text("no"));
    calls.sendto(fd, new Uint8Array(70_000), 0, null);
    stage.peer.sendto(other, text("in"), 0, own(stage, family, PORT));
    take(calls, fd);
    calls.poll([{ fd, events: 0x3fff, revents: 0 }], 0);
    calls.close(fd);
    stage.peer.close(other);
  }),
  ...each("listen, accept", (stage, family) => {
    const { calls } = stage;
    const fd = bound(stage, family);
    calls.listen(fd, 1);
    calls.accept4(fd, null, 0);
    calls.accept4(fd, addressBuffer(), 0x100);
    calls.close(fd);
  }),
  ...each("a closed descriptor", (stage, family) => {
    const { calls } = stage;
    const fd = bound(stage, family);
    calls.close(fd);
    calls.close(fd);
    calls.bind(fd, own(stage, family, PORT));
    calls.connect(fd, own(stage, family, PORT));
    calls.sendto(fd, text("x"), 0, own(stage, family, PORT));
    calls.recvfrom(fd, new Uint8Array(1), 0, null);
    calls.shutdown(fd, 0);
    getInt(calls, fd, SOL_SOCKET, SO_REUSEADDR);
  }),
  ...each("names into short buffers", (stage, family) => {
    const { calls } = stage;
    const fd = bound(stage, family);
    calls.connect(fd, remote(stage, family, PEER_PORT));
    for (const length of [0, 1, 2, 4, 8, 15, 16, 27, 28, 64, -1]) {
      for (const call of [calls.getsockname, calls.getpeername]) {
        const buffer = addressBuffer(64);
        buffer.length = length;
        call.call(calls, fd, buffer);
      }
    }
    calls.close(fd);
  }),
  ...each("dup: both are the socket; it ends with the last", (stage, family) => {
    const { calls, peer } = stage;
    const fd = bound(stage, family);
    const other = peerOf(stage, family);
    const twin = calls.dup(fd);
    calls.close(fd);
    peer.sendto(other, text("still"), 0, own(stage, family, PORT));
    take(calls, twin);
    calls.close(twin);
    const again = bound(stage, family);
    calls.close(again);
    peer.close(other);
  }),
  {
    name: "IPV6_V6ONLY: before bind, after it, and what it does to names",
    play(stage) {
      const { calls, places } = stage;
      const fd = calls.socket(afOf(6), SOCK_DGRAM, 0);
      getInt(calls, fd, IPPROTO_IPV6, IPV6_V6ONLY);
      setInt(calls, fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
      calls.bind(fd, mapped(at(places.own4, PORT)));
      calls.connect(fd, mapped(at(places.peer4, PEER_PORT)));
      calls.connect(fd, at(places.peer4, PEER_PORT));
      calls.sendto(fd, text("x"), 0, mapped(at(places.peer4, PEER_PORT)));
      calls.sendto(fd, text("x"), 0, at(places.peer4, PEER_PORT));
      setInt(calls, fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
      calls.bind(fd, any(6, PORT));
      setInt(calls, fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
      names(calls, fd);
      calls.close(fd);
    },
  },
  {
    name: "IPV6_V6ONLY: both families on one port",
    play(stage) {
      const { calls } = stage;
      const four = calls.socket(afOf(4), SOCK_DGRAM, 0);
      calls.bind(four, any(4, PORT));
      const six = calls.socket(afOf(6), SOCK_DGRAM, 0);
      calls.bind(six, any(6, PORT));
      setInt(calls, six, IPPROTO_IPV6, IPV6_V6ONLY, 1);
      calls.bind(six, any(6, PORT));
      for (const fd of [four, six]) calls.close(fd);
    },
  },
  {
    name: "mapped addresses: bound, connected, heard and sent to",
    play(stage) {
      const { calls, peer, places } = stage;
      const fd = calls.socket(afOf(6), SOCK_DGRAM, 0);
      calls.bind(fd, mapped(at(places.own4, PORT)));
      names(calls, fd);
      const other = peerOf(stage, 4);
      peer.sendto(other, text("in"), 0, at(places.own4, PORT));
      take(calls, fd);
      calls.sendto(fd, text("out"), 0, mapped(at(places.peer4, PEER_PORT)));
      take(peer, other);
      calls.sendto(fd, text("out"), 0, at(places.peer4, PEER_PORT));
      take(peer, other);
      calls.sendto(fd, text("no"), 0, at(places.peer6, PEER_PORT));
      calls.connect(fd, mapped(at(places.peer4, PEER_PORT)));
      names(calls, fd);
      calls.sendto(fd, text("connected"), 0, null);
      take(peer, other);
      calls.close(fd);
      peer.close(other);
    },
  },
  {
    name: "an IPv6 wildcard socket hears both, and connects to either",
    play(stage) {
      const { calls, peer, places } = stage;
      const fd = calls.socket(afOf(6), SOCK_DGRAM, 0);
      calls.bind(fd, any(6, PORT));
      const four = peerOf(stage, 4);
      const six = peerOf(stage, 6);
      peer.sendto(four, text("four"), 0, at(places.own4, PORT));
      take(calls, fd);
      peer.sendto(six, text("six"), 0, at(places.own6, PORT));
      take(calls, fd);
      calls.connect(fd, at(places.peer4, PEER_PORT));
      names(calls, fd);
      calls.connect(fd, UNSPEC);
      names(calls, fd);
      calls.connect(fd, at(places.peer6, PEER_PORT));
      names(calls, fd);
      calls.close(fd);
      for (const each of [four, six]) peer.close(each);
    },
  },
];
