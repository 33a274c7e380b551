/** poll, ioctl, fcntl, errors of the network: what a UDP socket tells of itself. */

import { sys } from "af-xdp-bindings";
import {
  F_GETFL,
  F_OWNER_TID,
  F_SETFL,
  F_SETOWN_EX,
  F_SETSIG,
  FIONBIO,
  FIONREAD,
  MSG_DONTWAIT,
  MSG_ERRQUEUE,
  MSG_PEEK,
  O_ASYNC,
  O_NONBLOCK,
  POLLERR,
  POLLIN,
  POLLOUT,
  POLLPRI,
  SHUT_RD,
  SHUT_RDWR,
  SHUT_WR,
  SIGIO,
  SIOCATMARK,
  SIOCGSTAMP,
  SIOCGSTAMPNS,
  SIOCOUTQ,
  SOCK_DGRAM,
} from "../../../sockets/calls/constants.ts";
import { addressBuffer } from "../../../sockets/calls/message.ts";
import {
  IP_PKTINFO,
  IP_RECVERR,
  IP_RECVTOS,
  IP_RECVTTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_RECVERR,
  IPV6_RECVHOPLIMIT,
  IPV6_RECVPKTINFO,
  IPV6_RECVTCLASS,
  SO_ERROR,
  SO_SELECT_ERR_QUEUE,
  SO_TIMESTAMP,
  SO_TIMESTAMPING,
  SO_TIMESTAMPING_NEW,
  SOF_TIMESTAMPING_OPT_CMSG,
  SOF_TIMESTAMPING_OPT_ID,
  SOF_TIMESTAMPING_OPT_TSONLY,
  SOF_TIMESTAMPING_RX_SOFTWARE,
  SOF_TIMESTAMPING_SOFTWARE,
  SOF_TIMESTAMPING_TX_SOFTWARE,
  SOL_SOCKET,
} from "../../../sockets/options.ts";
import type { Stage } from "../../conformance/run.ts";
import { TracedCalls } from "../../conformance/traced-calls.ts";
import { HeldSignals } from "../signals.ts";
import {
  afOf,
  any,
  arrived,
  at,
  bound,
  delivered,
  each,
  getInt,
  type InetScenario,
  type IpFamily,
  NOBODY,
  own,
  PEER_PORT,
  PORT,
  peerOf,
  remote,
  room,
  setInt,
  take,
  text,
  until,
} from "./tools.ts";

const EVERYTHING = 0x3fff;
/** Datagrams until the kernel stamps them, and how long one is on its way at most, milliseconds. */
const STAMP_TRIES = 1000;
const STAMP_WAIT_MS = 5000;
/** A realtime signal. */
const QUEUED = 40;

const look = ({ calls }: Stage, fd: number, events = EVERYTHING): number => calls.poll([{ fd, events, revents: 0 }], 0);

const int = (): Uint8Array => new Uint8Array(4);

const hearErrors = ({ calls }: Stage, family: IpFamily, fd: number, on = 1): number =>
  setInt(calls, fd, family === 4 ? IPPROTO_IP : IPPROTO_IPV6, family === 4 ? IP_RECVERR : IPV6_RECVERR, on);

/** A socket connected to where nobody listens, which has sent and heard of it. */
function refused(stage: Stage, family: IpFamily): number {
  const fd = bound(stage, family);
  stage.calls.connect(fd, remote(stage, family, NOBODY));
  stage.calls.write(fd, text("anybody?"));
  until(stage.calls, fd, POLLERR);
  return fd;
}

export const EVENT_SCENARIOS: readonly InetScenario[] = [
  ...each("poll: fresh, bound, connected", (stage, family) => {
    const { calls } = stage;
    const fd = calls.socket(afOf(family), SOCK_DGRAM, 0);
    look(stage, fd);
    calls.bind(fd, own(stage, family, PORT));
    look(stage, fd);
    calls.connect(fd, remote(stage, family, PEER_PORT));
    look(stage, fd);
    for (const events of [0, POLLIN, POLLOUT, POLLPRI, POLLIN | POLLOUT]) look(stage, fd, events);
    calls.close(fd);
    look(stage, fd);
  }),
  ...each("poll: a datagram, and none", (stage, family) => {
    const { calls, peer } = stage;
    const fd = bound(stage, family);
    const other = peerOf(stage, family);
    for (const payload of ["", "x"]) {
      peer.sendto(other, text(payload), 0, own(stage, family, PORT));
      until(calls, fd);
      look(stage, fd);
      look(stage, fd, POLLIN);
      take(calls, fd);
      look(stage, fd);
    }
    calls.close(fd);
    peer.close(other);
  }),
  ...([SHUT_RD, SHUT_WR, SHUT_RDWR] as const).flatMap((how) =>
    each(`poll: after shutdown(${how})`, (stage, family) => {
      const { calls } = stage;
      const fd = bound(stage, family);
      calls.connect(fd, remote(stage, family, PEER_PORT));
      calls.shutdown(fd, how);
      look(stage, fd);
      for (const events of [0, POLLIN, POLLOUT, 0x2000]) look(stage, fd, events);
      calls.connect(fd, new Uint8Array(16));
      look(stage, fd);
      calls.close(fd);
    }),
  ),
  ...each("poll: time is over", (stage, family) => {
    const { calls } = stage;
    const fd = bound(stage, family);
    calls.poll([{ fd, events: POLLIN, revents: 0 }], 15);
    calls.close(fd);
  }),
  ...each("poll: several", (stage, family) => {
    const { calls, peer } = stage;
    const a = bound(stage, family);
    const b = bound(stage, family, PORT + 1);
    const other = peerOf(stage, family);
    peer.sendto(other, text("b"), 0, own(stage, family, PORT + 1));
    until(calls, b);
    calls.poll(
      [a, b, -1, 9999].map((fd) => ({ fd, events: POLLIN, revents: 0 })),
      0,
    );
    for (const fd of [a, b]) calls.close(fd);
    peer.close(other);
  }),
  ...each("epoll: level and edge", (stage, family) => {
    const { calls, peer } = stage;
    const fd = bound(stage, family);
    const other = peerOf(stage, family);
    const epoll = calls.epollCreate(0);
    const events = [{ events: 0, data: 0 }];
    calls.epollControl(epoll, 1, fd, { events: POLLIN, data: 7 });
    calls.epollWait(epoll, events, 0);
    peer.sendto(other, text("x"), 0, own(stage, family, PORT));
    calls.epollWait(epoll, events, 5000);
    calls.epollWait(epoll, events, 0);
    take(calls, fd);
    calls.epollWait(epoll, events, 0);
    calls.epollControl(epoll, 3, fd, { events: POLLIN | 0x80000000, data: 8 });
    peer.sendto(other, text("y"), 0, own(stage, family, PORT));
    calls.epollWait(epoll, events, 5000);
    calls.epollWait(epoll, events, 0);
    peer.sendto(other, text("z"), 0, own(stage, family, PORT));
    calls.epollWait(epoll, events, 5000);
    calls.epollWait(epoll, events, 0);
    for (const each of [epoll, fd]) calls.close(each);
    peer.close(other);
  }),
  ...each("FIONREAD: the next datagram's length", (stage, family) => {
    const { calls, peer } = stage;
    const fd = bound(stage, family);
    const other = peerOf(stage, family);
    calls.ioctl(fd, FIONREAD, int());
    for (const payload of ["four", "seven77", ""]) peer.sendto(other, text(payload), 0, own(stage, family, PORT));
    arrived(stage, family, other);
    for (let i = 0; i < 3; i++) {
      calls.ioctl(fd, FIONREAD, int());
      take(calls, fd);
    }
    calls.ioctl(fd, FIONREAD, int());
    calls.close(fd);
    peer.close(other);
  }),
  ...each("SIOCOUTQ: nothing is under way", (stage, family) => {
    const { calls } = stage;
    const fd = bound(stage, family);
    calls.ioctl(fd, SIOCOUTQ, int());
    calls.close(fd);
  }),
  ...each("SIOCGSTAMP: before, after", (stage, family) => {
    const { calls, peer } = stage;
    const fd = bound(stage, family);
    const other = peerOf(stage, family);
    for (const request of [SIOCGSTAMP, SIOCGSTAMPNS]) calls.ioctl(fd, request, new Uint8Array(16));
    peer.sendto(other, text("x"), 0, own(stage, family, PORT));
    take(calls, fd);
    for (const request of [SIOCGSTAMP, SIOCGSTAMPNS]) calls.ioctl(fd, request, new Uint8Array(16));
    calls.close(fd);
    peer.close(other);
  }),
  ...each("SIOCGSTAMP: not beside SO_TIMESTAMP", (stage, family) => {
    const { calls, peer } = stage;
    const fd = bound(stage, family);
    const other = peerOf(stage, family);
    setInt(calls, fd, SOL_SOCKET, SO_TIMESTAMP, 1);
    peer.sendto(other, text("x"), 0, own(stage, family, PORT));
    take(calls, fd);
    calls.ioctl(fd, SIOCGSTAMP, new Uint8Array(16));
    calls.close(fd);
    peer.close(other);
  }),
  ...each("ioctl: what UDP does not have", (stage, family) => {
    const { calls } = stage;
    const fd = bound(stage, family);
    for (const request of [SIOCATMARK, 0x5413, 0x1234, 0x89ff]) calls.ioctl(fd, request, new Uint8Array(64));
    calls.close(fd);
  }),
  ...each("ioctl: interfaces by name and index", (stage, family) => {
    const { calls } = stage;
    const fd = bound(stage, family);
    const request = new Uint8Array(40);
    request.set(text("veth0"));
    // SIOCGIFINDEX, SIOCGIFMTU, SIOCGIFFLAGS
    for (const number of [0x8933, 0x8921, 0x8913]) calls.ioctl(fd, number, request.slice());
    const missing = new Uint8Array(40);
    missing.set(text("none0"));
    calls.ioctl(fd, 0x8933, missing);
    calls.close(fd);
  }),
  ...each("O_NONBLOCK by fcntl and FIONBIO", (stage, family) => {
    const { calls } = stage;
    const fd = bound(stage, family);
    calls.fcntl(fd, F_GETFL, 0);
    calls.fcntl(fd, F_SETFL, O_NONBLOCK);
    calls.fcntl(fd, F_GETFL, 0);
    calls.read(fd, new Uint8Array(4));
    calls.fcntl(fd, F_SETFL, 0);
    calls.ioctl(fd, FIONBIO, Uint8Array.of(1, 0, 0, 0));
    calls.fcntl(fd, F_GETFL, 0);
    calls.read(fd, new Uint8Array(4));
    calls.lseek(fd, 0, 0);
    calls.pread(fd, new Uint8Array(1), 0);
    calls.pwrite(fd, new Uint8Array(1), 5);
    calls.close(fd);
  }),
  ...[0, QUEUED].flatMap((signal) =>
    each(`O_ASYNC: ${signal === 0 ? "SIGIO" : "a queued signal"} for datagrams and errors`, (stage, family) => {
      const { calls, peer, trace } = stage;
      const held = new HeldSignals([SIGIO, QUEUED]);
      const fd = bound(stage, family);
      const other = peerOf(stage, family);
      calls.fcntl(fd, F_SETSIG, signal);
      calls.fcntl(fd, F_SETOWN_EX, new Uint8Array(Int32Array.of(F_OWNER_TID, sys.gettid()).buffer));
      calls.fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK);
      const note = (what: string): void => {
        const taken = held.take().map(({ signal, code, band }) => `${signal} ${code} 0x${band.toString(16)}`);
        trace.add(`${what}: ${taken.join(", ")}`);
      };
      peer.sendto(other, text("one"), 0, own(stage, family, PORT));
      until(calls, fd);
      note("a datagram");
      take(calls, fd);
      note("received");
      calls.connect(fd, remote(stage, family, PEER_PORT));
      calls.shutdown(fd, SHUT_RDWR);
      note("shut");
      calls.close(fd);
      peer.close(other);
      held.release();
    }),
  ),
  ...each("nobody listens there: the next call hears of it, once", (stage, family) => {
    const { calls } = stage;
    for (const next of ["recv", "send", "SO_ERROR", "read", "connect"] as const) {
      const fd = refused(stage, family);
      look(stage, fd);
      if (next === "recv") calls.recvfrom(fd, new Uint8Array(8), MSG_DONTWAIT, addressBuffer());
      if (next === "send") calls.sendto(fd, text("again"), 0, null);
      if (next === "SO_ERROR") getInt(calls, fd, SOL_SOCKET, SO_ERROR);
      if (next === "read") calls.read(fd, new Uint8Array(8));
      if (next === "connect") calls.connect(fd, remote(stage, family, PEER_PORT));
      if (next === "send") calls.close(fd);
      else {
        look(stage, fd);
        getInt(calls, fd, SOL_SOCKET, SO_ERROR);
        calls.recvfrom(fd, new Uint8Array(8), MSG_DONTWAIT, addressBuffer());
        calls.close(fd);
      }
    }
  }),
  ...each("the error queue: who, where, about what", (stage, family) => {
    const { calls } = stage;
    const fd = bound(stage, family);
    hearErrors(stage, family, fd);
    calls.connect(fd, remote(stage, family, NOBODY));
    calls.write(fd, text("anybody there?"));
    until(calls, fd, POLLERR);
    look(stage, fd);
    calls.recvmsg(fd, room(), MSG_ERRQUEUE);
    look(stage, fd);
    calls.recvmsg(fd, room(), MSG_ERRQUEUE);
    getInt(calls, fd, SOL_SOCKET, SO_ERROR);
    calls.close(fd);
  }),
  ...each("the error queue: not connected, with little room", (stage, family) => {
    const { calls } = stage;
    const fd = bound(stage, family);
    hearErrors(stage, family, fd);
    for (const [length, control] of [
      [4, 512],
      [0, 512],
      [64, 0],
      [64, 20],
      [64, 48],
    ]) {
      calls.sendto(fd, text("anybody there?"), 0, remote(stage, family, NOBODY));
      until(calls, fd, POLLERR);
      getInt(calls, fd, SOL_SOCKET, SO_ERROR);
      calls.recvmsg(fd, room(length, control), MSG_ERRQUEUE);
    }
    calls.close(fd);
  }),
  ...each("the error queue: switched off, it is empty", (stage, family) => {
    const { calls } = stage;
    const fd = bound(stage, family);
    hearErrors(stage, family, fd);
    calls.sendto(fd, text("x"), 0, remote(stage, family, NOBODY));
    until(calls, fd, POLLERR);
    hearErrors(stage, family, fd, 0);
    calls.recvmsg(fd, room(), MSG_ERRQUEUE);
    getInt(calls, fd, SOL_SOCKET, SO_ERROR);
    look(stage, fd);
    calls.close(fd);
  }),
  ...each("SO_SELECT_ERR_QUEUE: errors are POLLPRI too", (stage, family) => {
    const { calls } = stage;
    const fd = bound(stage, family);
    getInt(calls, fd, SOL_SOCKET, SO_SELECT_ERR_QUEUE);
    setInt(calls, fd, SOL_SOCKET, SO_SELECT_ERR_QUEUE, 1);
    getInt(calls, fd, SOL_SOCKET, SO_SELECT_ERR_QUEUE);
    hearErrors(stage, family, fd);
    calls.sendto(fd, text("x"), 0, remote(stage, family, NOBODY));
    until(calls, fd, POLLPRI);
    look(stage, fd);
    setInt(calls, fd, SOL_SOCKET, SO_SELECT_ERR_QUEUE, 0);
    look(stage, fd);
    calls.close(fd);
  }),
  ...each("not connected: an error is nobody's without IP_RECVERR", (stage, family) => {
    const { calls, peer } = stage;
    const fd = bound(stage, family);
    const other = peerOf(stage, family);
    calls.sendto(fd, text("x"), 0, remote(stage, family, NOBODY));
    peer.sendto(other, text("later"), 0, own(stage, family, PORT));
    take(calls, fd);
    getInt(calls, fd, SOL_SOCKET, SO_ERROR);
    calls.close(fd);
    peer.close(other);
  }),
  ...each("a local error: larger than the path takes", (stage, family) => {
    const { calls } = stage;
    const fd = bound(stage, family);
    hearErrors(stage, family, fd);
    // IP_MTU_DISCOVER, IPV6_MTU_DISCOVER: DO
    setInt(calls, fd, family === 4 ? IPPROTO_IP : IPPROTO_IPV6, family === 4 ? 10 : 23, 2);
    calls.sendto(fd, new Uint8Array(2000), 0, remote(stage, family, PEER_PORT));
    until(calls, fd, POLLERR);
    calls.recvmsg(fd, room(16), MSG_ERRQUEUE);
    calls.close(fd);
  }),
  ...each("the error queue with what else is told", (stage, family) => {
    const { calls } = stage;
    const fd = calls.socket(afOf(family), SOCK_DGRAM, 0);
    calls.bind(fd, any(family, PORT));
    hearErrors(stage, family, fd);
    const [level, options] =
      family === 4
        ? [IPPROTO_IP, [IP_PKTINFO, IP_RECVTTL, IP_RECVTOS]]
        : [IPPROTO_IPV6, [IPV6_RECVPKTINFO, IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS]];
    for (const chosen of [[], options, options.slice(0, 1), options.slice(1, 2), options.slice(2)]) {
      for (const option of options) setInt(calls, fd, level, option, chosen.includes(option) ? 1 : 0);
      calls.sendto(fd, text("x"), 0, remote(stage, family, NOBODY));
      until(calls, fd, POLLERR);
      getInt(calls, fd, SOL_SOCKET, SO_ERROR);
      calls.recvmsg(fd, room(8, 24), MSG_ERRQUEUE | (chosen.length === 3 ? MSG_PEEK : 0));
      calls.sendto(fd, text(""), 0, remote(stage, family, NOBODY));
      until(calls, fd, POLLERR);
      getInt(calls, fd, SOL_SOCKET, SO_ERROR);
      calls.recvmsg(fd, room(), MSG_ERRQUEUE);
    }
    calls.close(fd);
  }),
  ...([SO_TIMESTAMPING, SO_TIMESTAMPING_NEW] as const).flatMap((option) =>
    (
      [
        0,
        SOF_TIMESTAMPING_OPT_TSONLY,
        SOF_TIMESTAMPING_OPT_ID,
        SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_TSONLY | SOF_TIMESTAMPING_OPT_CMSG,
      ] as const
    ).flatMap((more) =>
      each(`SO_TIMESTAMPING (${option}): stamps of transmission, 0x${more.toString(16)}`, (stage, family) => {
        const { calls, peer } = stage;
        const other = peerOf(stage, family);
        const fd = bound(stage, family);
        const flags = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE | more;
        setInt(calls, fd, SOL_SOCKET, option, flags);
        for (const asked of [SO_TIMESTAMPING, SO_TIMESTAMPING_NEW])
          calls.getsockopt(fd, SOL_SOCKET, asked, new Uint8Array(8));
        for (const round of [0, 1, 2]) {
          setInt(calls, fd, SOL_SOCKET, SO_SELECT_ERR_QUEUE, round === 2 ? 1 : 0);
          if (round === 1)
            setInt(
              calls,
              fd,
              family === 4 ? IPPROTO_IP : IPPROTO_IPV6,
              family === 4 ? IP_PKTINFO : IPV6_RECVPKTINFO,
              1,
            );
          calls.sendto(fd, text(`stamped ${round}`), 0, remote(stage, family, PEER_PORT));
          until(calls, fd, POLLERR);
          look(stage, fd);
          getInt(calls, fd, SOL_SOCKET, SO_ERROR);
          calls.recvfrom(fd, new Uint8Array(4), MSG_DONTWAIT, addressBuffer());
          // What empties the queue of errors leaves stamps there.
          if (round === 2) for (const on of [1, 0]) hearErrors(stage, family, fd, on);
          stamped(stage, fd, more);
          calls.recvmsg(fd, room(), MSG_ERRQUEUE);
          look(stage, fd);
        }
        setInt(calls, fd, SOL_SOCKET, option, 0);
        calls.sendto(fd, text("not stamped"), 0, remote(stage, family, PEER_PORT));
        delivered(stage, family);
        calls.recvmsg(fd, room(), MSG_ERRQUEUE);
        calls.close(fd);
        peer.close(other);
      }),
    ),
  ),
  ...([SO_TIMESTAMPING, SO_TIMESTAMPING_NEW] as const).flatMap((option) =>
    each(`SO_TIMESTAMPING (${option}): times of arrival`, (stage, family) => {
      const { calls, peer } = stage;
      const other = peerOf(stage, family);
      const fd = bound(stage, family);
      const tell = (payload: string): void => {
        peer.sendto(other, text(payload), 0, own(stage, family, PORT));
        until(calls, fd);
        calls.recvmsg(fd, room(), MSG_DONTWAIT);
        calls.ioctl(fd, SIOCGSTAMP, new Uint8Array(16));
      };
      setInt(calls, fd, SOL_SOCKET, option, SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE);
      awaitStamps(stage, family, fd, other);
      tell("told");
      setInt(calls, fd, SOL_SOCKET, SO_TIMESTAMP, 1);
      tell("told twice");
      setInt(calls, fd, SOL_SOCKET, option, 0);
      tell("told once");
      calls.close(fd);
      peer.close(other);
    }),
  ),
];

/** The kernel leaves it to a work queue to begin with stamps (net_enable_timestamp): datagrams until then have none. */
function awaitStamps({ calls, peer, places }: Stage, family: IpFamily, fd: number, other: number): void {
  const [here, there] = [calls, peer].map((each) => (each instanceof TracedCalls ? each.inner : each));
  const to = at(family === 4 ? places.own4 : places.own6, PORT);
  const message = room();
  for (let i = 0; i < STAMP_TRIES; i++) {
    there.sendto(other, text("stamped?"), 0, to);
    here.poll([{ fd, events: POLLIN, revents: 0 }], STAMP_WAIT_MS);
    here.recvmsg(fd, message, MSG_DONTWAIT);
    if (message.controlLength > 0) return;
  }
}

/** The stamp of a whole packet, whose headers differ in each run: how long it is, and what ends it. */
function stamped({ calls, trace }: Stage, fd: number, more: number): void {
  if ((more & SOF_TIMESTAMPING_OPT_TSONLY) !== 0) {
    calls.recvmsg(fd, room(), MSG_ERRQUEUE);
    return;
  }
  const message = room();
  const untraced = calls instanceof TracedCalls ? calls.inner : calls;
  const length = untraced.recvmsg(fd, message, MSG_ERRQUEUE);
  const payload = message.iov[0].subarray(length - text("stamped 0").length, length);
  trace.add(`a stamp: ${length} bytes, ${payload.toHex()}, ${trace.received("a", { ...message, iov: [] }, 0)}`);
}
