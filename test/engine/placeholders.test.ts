/**
 * What comes to a placeholder is for the socket it was read for: also when that is closed in the same moment and another
 * one opened, which has its id.
 */
import { afterAll, afterEach, beforeEach, describe, expect, test } from "bun:test";
import { check, sys } from "af-xdp-bindings";
import { NetNs } from "../../engine/host/netns.ts";
import { Rtnl } from "../../engine/host/rtnetlink.ts";
import { KernelErrors } from "../../engine/kernel-errors.ts";
import { KernelIntake } from "../../engine/kernel-intake.ts";
import { IP_RECVERR, IPPROTO_IP } from "../../sockets/options.ts";
import { PLACEHOLDER, type SocketTable } from "../../sockets/table.ts";
import { UdpSocket } from "../../sockets/udp-socket.ts";
import { IFINDEX, Rig } from "../sockets/rig.ts";
import { requires } from "../support/hosts.ts";
import { KernelUdp } from "../support/kernel-udp.ts";

const HERE = "127.0.0.1";
const CLOSED_PORT = 9;
const POLLIN = 1;
const TIMEOUT_S = 10;

/** Waits until the kernel has something for a socket to read: a datagram or an error. */
function awaitEvent(fd: number): void {
  const pollfd = new Int32Array([fd, POLLIN]);
  const timeout = new BigInt64Array([BigInt(TIMEOUT_S), 0n]);
  expect(check(sys.ppoll(sys.addressOf(pollfd), 1, sys.addressOf(timeout)), "ppoll")).toBe(1);
}

/** Has something happen when the table's mutex is let go of the next time. */
function afterNextHold(table: SocketTable, happens: () => void): void {
  const { mutex } = table;
  const { hold } = mutex;
  mutex.hold = (body) => {
    mutex.hold = hold;
    const result = hold.call(mutex, body) as ReturnType<typeof body>;
    happens();
    return result;
  };
}

describe.skipIf(requires("netns") !== "")("", () => {
  const ns = requires("netns") === "" ? NetNs.create() : (null as unknown as NetNs);
  ns?.run(() => {
    const rtnl = new Rtnl();
    rtnl.setLink(IFINDEX, { up: true });
    rtnl.close();
  });
  afterAll(() => ns?.close());

  let rig: Rig;
  let kernel: KernelUdp;
  let peer: KernelUdp;
  let first: UdpSocket;
  let second: UdpSocket | null;
  const heard: string[] = [];

  beforeEach(() => {
    rig = new Rig();
    kernel = new KernelUdp(ns, { address: HERE });
    peer = new KernelUdp(ns, { address: HERE });
    heard.length = 0;
    first = open("first", 9000);
    second = null;
    rig.table.set(first.id, PLACEHOLDER, kernel.fd);
    rig.settle();
  });
  afterEach(() => {
    kernel.close();
    peer.close();
  });

  function open(name: string, port: number): UdpSocket {
    const socket = UdpSocket.open(rig.threads[0], { port });
    socket.setsockopt(IPPROTO_IP, IP_RECVERR, 1);
    socket.onDatagram = (datagram) => heard.push(`${name}: ${datagram.text()}`);
    socket.onError = () => heard.push(`${name}: ${socket.receiveError()?.port}`);
    return socket;
  }

  function useAgain(): void {
    const { id } = first;
    first.close();
    second = open("second", 9001);
    expect(second.id).toBe(id);
  }

  test.each([false, true])("datagrams; closed meanwhile: %p", (isClosed) => {
    const { stack, pool } = rig.lcores[0];
    const intake = new KernelIntake(rig.table, stack, pool, rig.shared.memories[0]);
    peer.send("for the first", HERE, kernel.port);
    awaitEvent(kernel.fd);
    if (isClosed) afterNextHold(rig.table, useAgain);
    expect(intake.read(first.id)).toBe(1);
    rig.settle();
    expect(heard).toEqual(isClosed ? [] : ["first: for the first"]);
    expect(second === null).toBe(!isClosed);
    expect(rig.counter("UdpNoPorts")).toBe(Number(isClosed));
    expect(rig.missing()).toBe(0);
  });

  test.each([false, true])("errors; closed meanwhile: %p", (isClosed) => {
    const { stack, pool } = rig.lcores[0];
    const errors = new KernelErrors(rig.table, stack, pool, rig.shared.memories[0], () => {});
    check(sys.setsockoptInt(kernel.fd, IPPROTO_IP, IP_RECVERR, 1), "IP_RECVERR");
    kernel.connect(HERE, CLOSED_PORT);
    kernel.send("x", HERE, CLOSED_PORT);
    awaitEvent(kernel.fd);
    if (isClosed) afterNextHold(rig.table, useAgain);
    expect(errors.read(first.id)).toBe(1);
    rig.settle();
    expect(heard).toEqual(isClosed ? [] : [`first: ${CLOSED_PORT}`]);
    expect(second === null).toBe(!isClosed);
    expect(rig.counter("StaleMessages")).toBe(Number(isClosed));
    expect(rig.missing()).toBe(0);
  });
});
