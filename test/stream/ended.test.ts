/**
 * The peer's end is in the record before the thread has been told of it. Whatever the thread asks in between must agree: driven by
 * hand, a turn at a time.
 */
import { expect, test } from "bun:test";
import { ERRNO } from "af-xdp-bindings";
import { AF_INET, POLLIN, POLLOUT, POLLRDHUP, SHUT_RD, SOCK_STREAM } from "../../sockets/calls/constants.ts";
import { raisePipe } from "../../sockets/calls/events/signals.ts";
import { InetFamily } from "../../sockets/calls/inet/family.ts";
import { messageOf } from "../../sockets/calls/message.ts";
import { SocketProcess } from "../../sockets/calls/process.ts";
import { plainSleeper } from "../../sockets/calls/sleep.ts";
import { encodeAddress } from "../../sockets/calls/sockaddr.ts";
import type { TcpSocket } from "../../sockets/stream/tcp-socket.ts";
import { F_FIN_RCVD, FLAGS } from "../../sockets/tcp/tcb.ts";
import { TCP_ACK, TCP_FIN, TCP_SYN } from "../../sockets/wire/tcp.ts";
import type { Rig } from "../sockets/rig.ts";
import { BYTES, frame, handshake, PORT, read, tcpRig } from "./by-turns.ts";

test("a thread's end says that the stream has ended when it reads so, not when the record has it", () => {
  const open: TcpSocket[] = [];
  const { rig, last, ends } = handshake({ open: (socket) => void open.push(socket) });
  rig.turn(last);
  const [thread] = rig.threads;
  thread.poll();
  const [socket] = open;
  const { end } = socket;
  expect(socket.read(new Uint8Array(BYTES))).toBe(BYTES);
  rig.turn([frame({ ...ends, seq: ends.seq + BYTES, flags: TCP_ACK | TCP_FIN })]);
  expect(end.word(socket, FLAGS) & F_FIN_RCVD).not.toBe(0);
  expect([end.hasEnded(socket), socket.read(new Uint8Array(1))]).toEqual([false, -ERRNO.EAGAIN]);
  thread.poll();
  expect([end.hasEnded(socket), socket.read(new Uint8Array(1))]).toEqual([true, 0]);
  socket.close();
  expect(end.hasEnded(socket)).toBe(true);
});

/** A connection by descriptor: its file, and how the peer ends it. */
function accepted(): { rig: Rig; calls: SocketProcess; fd: number; end(): void } {
  const rig = tcpRig();
  const [thread] = rig.threads;
  const calls = new SocketProcess(new Map([[AF_INET, new InetFamily(thread, AF_INET)]]), plainSleeper, raisePipe);
  const listener = calls.socket(AF_INET, SOCK_STREAM, 0);
  expect(calls.bind(listener, encodeAddress({ family: AF_INET, address: "0.0.0.0", port: PORT }))).toBe(0);
  expect(calls.listen(listener, 4)).toBe(0);
  const [answer] = rig.turn([frame({ flags: TCP_SYN })]).map(read);
  const ends = { seq: 1001, ack: (answer.seq + 1) | 0 };
  rig.turn([frame({ ...ends, flags: TCP_ACK })]);
  const fd = calls.accept4(listener, null, 0);
  expect(fd).toBeGreaterThanOrEqual(0);
  return { rig, calls, fd, end: () => void rig.turn([frame({ ...ends, flags: TCP_ACK | TCP_FIN })]) };
}

test("by descriptor: poll tells of the end when a receive does", () => {
  const { rig, calls, fd, end } = accepted();
  const file = calls.descriptors.get(fd)!;
  const byte = (): number =>
    file.receive(messageOf(new Uint8Array(1)), 0, calls.descriptors, {
      goesOn: false,
      bytes: 0,
      from: null,
      files: false,
    });
  const told = (): number => file.poll() & (POLLIN | POLLOUT | POLLRDHUP);
  // The turn comes between what a call fetches beforehand and what it looks at.
  file.refresh();
  end();
  expect([told(), byte()]).toEqual([POLLOUT, -ERRNO.EAGAIN]);
  expect(told()).toBe(POLLOUT);
  file.refresh();
  expect([told(), byte()]).toEqual([POLLIN | POLLOUT | POLLRDHUP, 0]);
  rig.settle();
});

test("by descriptor: shut for reading, it has ended at once", () => {
  const { calls, fd } = accepted();
  const poll = (): number => {
    const entry = { fd, events: POLLIN | POLLRDHUP, revents: 0 };
    calls.poll([entry], 0);
    return entry.revents;
  };
  expect(poll()).toBe(0);
  expect(calls.shutdown(fd, SHUT_RD)).toBe(0);
  expect([poll(), calls.recvfrom(fd, new Uint8Array(1), 0, null)]).toEqual([POLLIN | POLLRDHUP, 0]);
});
