/** The kernel's side of the calls: that messages, parts, control messages and addresses cross as they are. */
import { describe, expect, test } from "bun:test";
import { ERRNO } from "af-xdp-bindings";
import {
  AF_UNIX,
  MSG_CTRUNC,
  MSG_DONTWAIT,
  MSG_TRUNC,
  POLLIN,
  POLLOUT,
  SCM_CREDENTIALS,
  SCM_RIGHTS,
  SOCK_DGRAM,
  SOCK_SEQPACKET,
  SOCK_STREAM,
} from "../../sockets/calls/constants.ts";
import { controlInt, controlSpace, decodeControl, encodeControl } from "../../sockets/calls/control.ts";
import { KernelCalls } from "../../sockets/calls/kernel-calls.ts";
import { addressBuffer, messageOf, partsFrom, scatter } from "../../sockets/calls/message.ts";
import { SO_PASSCRED, SOL_SOCKET } from "../../sockets/options.ts";

const calls = new KernelCalls();

function pair(type: number): [number, number] {
  const out = new Int32Array(2);
  expect(calls.socketpair(AF_UNIX, type, 0, out)).toBe(0);
  return [out[0], out[1]];
}

describe("kernel calls", () => {
  test("parts are gathered and scattered", () => {
    const [a, b] = pair(SOCK_STREAM);
    expect(calls.writev(a, [Uint8Array.of(1, 2), new Uint8Array(0), Uint8Array.of(3)])).toBe(3);
    const parts = [new Uint8Array(1), new Uint8Array(4)];
    expect(calls.readv(b, parts)).toBe(3);
    expect(parts).toEqual([Uint8Array.of(1), Uint8Array.of(2, 3, 0, 0)]);
    for (const fd of [a, b]) calls.close(fd);
  });

  test("descriptors and credentials go along, and a control buffer that is too small says so", () => {
    const [a, b] = pair(SOCK_DGRAM);
    expect(calls.setsockopt(b, SOL_SOCKET, SO_PASSCRED, controlInt(1))).toBe(0);
    const sent = messageOf(Uint8Array.of(7));
    sent.control = encodeControl({ level: SOL_SOCKET, type: SCM_RIGHTS, data: controlInt(a) });
    sent.controlLength = sent.control.length;
    for (const room of [128, controlSpace(12)]) {
      expect(calls.sendmsg(a, sent, 0)).toBe(1);
      const got = messageOf(new Uint8Array(8));
      got.control = new Uint8Array(room);
      expect(calls.recvmsg(b, got, 0)).toBe(1);
      const messages = decodeControl(got.control, got.controlLength) ?? [];
      const types = messages.map(({ type }) => type);
      expect(types).toEqual(room === 128 ? [SCM_CREDENTIALS, SCM_RIGHTS] : [SCM_CREDENTIALS]);
      expect(got.flags & MSG_CTRUNC).toBe(room === 128 ? 0 : MSG_CTRUNC);
      if (room === 128) calls.close(new DataView(messages[1].data.slice().buffer).getInt32(0, true));
    }
    for (const fd of [a, b]) calls.close(fd);
  });

  test("what is cut off is told; nothing there is EAGAIN, and poll says the same", () => {
    const [a, b] = pair(SOCK_SEQPACKET);
    const watched = { fd: b, events: POLLIN | POLLOUT, revents: 0 };
    expect(calls.poll([watched], 0)).toBe(1);
    expect(watched.revents).toBe(POLLOUT);
    expect(calls.recvfrom(b, new Uint8Array(1), MSG_DONTWAIT, null)).toBe(-ERRNO.EAGAIN);
    expect(calls.write(a, new Uint8Array(10))).toBe(10);
    calls.poll([watched], -1);
    expect(watched.revents).toBe(POLLIN | POLLOUT);
    const got = messageOf(new Uint8Array(4));
    got.name = addressBuffer();
    expect(calls.recvmsg(b, got, 0)).toBe(4);
    expect([got.flags, got.name.length]).toEqual([MSG_TRUNC, 0]);
    expect(calls.lseek(b, 1, 0)).toBe(-ERRNO.ESPIPE);
    expect(calls.pread(b, new Uint8Array(1), 0)).toBe(-ERRNO.ESPIPE);
    for (const fd of [a, b]) calls.close(fd);
  });
});

describe("parts", () => {
  test("the rest after some bytes; bytes behind others", () => {
    const parts = [Uint8Array.of(1, 2), Uint8Array.of(3, 4, 5)];
    expect(partsFrom(parts, 3)).toEqual([Uint8Array.of(4, 5)]);
    expect(partsFrom(parts, 5)).toEqual([]);
    expect(scatter(parts, Uint8Array.of(8, 9), 1)).toBe(2);
    expect(parts).toEqual([Uint8Array.of(1, 8), Uint8Array.of(9, 4, 5)]);
    expect(scatter(parts, new Uint8Array(9))).toBe(5);
  });

  test("a control message whose length is impossible is malformed", () => {
    const bytes = encodeControl({ level: 1, type: 2, data: controlInt(3) });
    expect(decodeControl(bytes)).toHaveLength(1);
    expect(decodeControl(bytes, 19)).toBeNull();
    bytes[0] = 3;
    expect(decodeControl(bytes)).toBeNull();
  });
});
